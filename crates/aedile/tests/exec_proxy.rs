//! `aedile sandbox exec --net door` with a policy: the door as a proxy.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use aedile_testkit::environment::{Finished, User};
use aedile_testkit::{TestEnvironment, require};

const LIMIT: Duration = Duration::from_secs(60);

fn script(env: &TestEnvironment, dir: &Path, options: &[&str], script: &str) -> Finished {
    let mut command: Command = env.command();
    command.args(["sandbox", "exec", "--dir"]).arg(dir).args(options).args(["--", "sh", "-c", script]);
    env.run_command(command, LIMIT)
}

#[test]
fn the_door_is_a_proxy_for_what_the_policy_allows() {
    let missing = (!Path::new("/usr/bin/curl").exists()).then_some("there is no /usr/bin/curl");
    if !require("the proxy of exec", missing) {
        return;
    }
    for user in [User::Same, User::Ordinary] {
        let mut env = TestEnvironment::for_user(super::program(), user);
        let dir = env.work().join("dir");
        std::fs::create_dir(&dir).unwrap();
        env.give_to_user();
        std::fs::write(dir.join("aedile.toml"), "[agents]\nmodel = \"openai/gpt-4.1\"\n").unwrap();
        env.var("OPENAI_API_KEY", "sk-real-key-of-the-person");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 4096];
            let read = stream.read(&mut head).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello").unwrap();
            (String::from_utf8_lossy(&head[..read]).into_owned(), listener)
        });
        let policy = dir.parent().unwrap().join("policy.toml");
        let rule = format!(
            "[[network]]\nid = \"near\"\nhosts = [\"127.0.0.1\"]\nports = [{port}]\nschemes = [\"http\"]\npaths = [\"/open/**\"]\n"
        );
        std::fs::write(&policy, rule).unwrap();
        let options = ["--policy", policy.to_str().unwrap(), "--net", "door"];
        let near = format!("curl -sS --noproxy '' http://127.0.0.1:{port}");
        let text = format!(
            "{near}/open/a; echo; {near}/closed; echo; curl -sS http://example.org/; echo; curl -sS https://example.org/ 2>&1; true"
        );
        let finished = script(&env, &dir, &options, &text);
        let lines: Vec<&str> = finished.success().lines().collect();
        assert_eq!(lines[0], "hello", "{lines:?}");
        assert!(lines[1].contains("policy.default") || lines[1].contains("address.loopback"), "{lines:?}");
        assert!(lines[2].contains("policy.default") && lines[3].contains("403"), "{lines:?}");
        let (head, listener) = server.join().unwrap();
        assert!(head.starts_with("GET /open/a HTTP/1.1\r\n"), "{head}");
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "what is denied is not dialled");
        let finished = script(&env, &dir, &["--policy", policy.to_str().unwrap()], "env | grep -ci proxy; true");
        assert!(finished.success().trim() == "0" && finished.stderr.contains("--net door"), "{}", finished.stderr);
        env.assert_nothing_left();
    }
}
