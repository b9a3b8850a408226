//! `aedile sandbox exec` under a policy of the person's own, which narrows the options and the file of --policy.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use aedile_testkit::environment::{Finished, User};
use aedile_testkit::{TestEnvironment, require};

const LIMIT: Duration = Duration::from_secs(60);

fn environment(user: User, own: &str) -> (TestEnvironment, PathBuf) {
    let env = TestEnvironment::for_user(super::program(), user);
    let dir = env.work().join("dir");
    std::fs::create_dir(&dir).unwrap();
    for path in ["src/gen", "src/a", "docs"] {
        std::fs::create_dir_all(dir.join(path)).unwrap();
    }
    own_policy(&env, own);
    env.give_to_user();
    (env, dir.canonicalize().unwrap())
}

fn own_policy(env: &TestEnvironment, text: &str) {
    let dir = env.home().join(".config/aedile");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("policy.toml"), text).unwrap();
}

fn script(env: &TestEnvironment, dir: &Path, options: &[&str], script: &str) -> Finished {
    let mut command: Command = env.command();
    command.args(["sandbox", "exec", "--dir"]).arg(dir).args(options).args(["--", "sh", "-c", script]);
    env.run_command(command, LIMIT)
}

fn file(env: &TestEnvironment, text: &str) -> String {
    let path = env.work().join("run.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Tries to write into each directory and says where it could.
const TRY: &str = "for at in src src/a src/gen docs .; do (: > $at/new) 2>/dev/null && echo $at; done; true";

#[test]
fn what_may_be_written_is_what_every_layer_allows_and_none_denies() {
    for user in [User::Same, User::Ordinary] {
        let (env, dir) = environment(user, "[write]\nallow = [\"src/**\"]\n");
        let run = file(&env, "[write]\nallow = [\"src/a/**\", \"docs/**\"]\n");
        let wrote = |options: &[&str]| script(&env, &dir, options, TRY).success().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(wrote(&[]), "src src/a src/gen");
        assert_eq!(wrote(&["--write", "src/gen/**"]), "src/gen");
        assert_eq!(wrote(&["--write", "docs/**"]), "");
        assert_eq!(wrote(&["--policy", &run]), "src/a");
        own_policy(&env, "[write]\ndeny = [\"src/gen/**\"]\n");
        assert_eq!(wrote(&[]), "src src/a docs .");
        assert_eq!(wrote(&["--write", "src/**"]), "src src/a");
        let moved =
            script(&env, &dir, &[], "mv src/gen gone 2>/dev/null; mv src gone 2>/dev/null; rm -rf src/gen 2>/dev/null; ls -d src/gen");
        assert_eq!(moved.success().trim(), "src/gen");
        own_policy(&env, "[write]\nallow = []\n");
        assert_eq!(wrote(&[]), "");
        env.assert_nothing_left();
    }
}

#[test]
fn what_is_denied_by_a_pattern_needs_a_copy_whose_changes_are_held_against_it() {
    let (env, dir) = environment(User::Same, "[write]\ndeny = [\"**/*.lock\"]\n");
    let make = "echo x > src/a.lock; echo x > src/a.txt";
    let refused = script(&env, &dir, &[], make);
    refused.expect_code(4);
    for part in ["**/*.lock", "policy.toml (write.deny)", "--cow"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    let copied = script(&env, &dir, &["--cow"], make);
    copied.success();
    assert!(copied.stderr.contains("src/a.lock") && copied.stderr.contains("[write.deny]"), "{}", copied.stderr);
    assert!(dir.join("src/a.txt").exists() && !dir.join("src/a.lock").exists());
    own_policy(&env, "[write]\nallow = []\n");
    let nothing = script(&env, &dir, &["--cow"], "echo y > src/a.txt");
    nothing.success();
    assert!(nothing.stderr.contains("[scope]") && std::fs::read_to_string(dir.join("src/a.txt")).unwrap() == "x\n");
}

#[test]
fn limits_and_hidden_files_are_those_of_every_layer() {
    let (env, dir) = environment(User::Same, "[limits]\ndescriptors = 100\ntime_s = 1\n[read]\nhide = [\"docs/secret\"]\n");
    std::fs::write(dir.join("docs/secret"), "canary\n").unwrap();
    std::fs::write(dir.join("docs/other"), "canary\n").unwrap();
    let run = file(&env, "[limits]\ndescriptors = 200\n[read]\nhide = [\"docs/other\"]\n");
    let seen = script(&env, &dir, &["--policy", &run], "ulimit -n; cat docs/secret docs/other");
    assert_eq!(seen.success().trim(), "100");
    script(&env, &dir, &["--time", "1000"], "while :; do :; done").expect_code(124);
    own_policy(&env, "[limits]\nmemory_bytes = 1\n");
    let low = script(&env, &dir, &[], "true");
    assert!(low.expect_code(4).contains("policy.toml: [limits] memory_bytes = 1"), "{}", low.stderr);
    own_policy(&env, "[limits]\nprocess = 1\n");
    let bad = script(&env, &dir, &[], "echo ran");
    assert!(bad.expect_code(4).contains(".config/aedile/policy.toml") && bad.stdout.is_empty(), "{}", bad.stderr);
}

#[test]
fn the_door_reaches_what_every_layer_allows() {
    let missing = (!Path::new("/usr/bin/curl").exists()).then_some("there is no /usr/bin/curl");
    if !require("the proxy of exec under layers", missing) {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().unwrap();
        let read = stream.read(&mut [0; 4096]).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nhello\n").unwrap();
        (read, listener)
    });
    let rule = |id: &str, path: &str| {
        format!("[[network]]\nid = \"{id}\"\nhosts = [\"127.0.0.1\"]\nports = [{port}]\nschemes = [\"http\"]\npaths = [\"{path}\"]\n")
    };
    let (mut env, dir) = environment(User::Same, &rule("own", "/a/**"));
    std::fs::write(dir.join("aedile.toml"), "[agents]\nmodel = \"openai/gpt-4.1\"\n").unwrap();
    env.var("OPENAI_API_KEY", "sk-real-key-of-the-person");
    let run = file(&env, &(rule("run", "/a/b/**") + &rule("more", "/c/**")));
    let near = |path: &str| format!("curl -sS --noproxy '' -x http://127.0.0.1:7070 http://127.0.0.1:{port}{path}; echo");
    // The person's own layer alone opens nothing.
    let alone = script(&env, &dir, &["--net", "door"], &format!("{} 2>&1; env | grep -ci proxy; true", near("/a/b/x")));
    assert!(!alone.success().contains("hello") && alone.stdout.trim().ends_with('0'), "{}", alone.stdout);
    let both = [near("/a/x"), near("/c/x"), near("/a/b/x")].join("; ");
    let finished = script(&env, &dir, &["--net", "door", "--policy", &run], &both);
    let lines: Vec<&str> = finished.success().lines().filter(|line| !line.is_empty()).collect();
    let by = |line: &str, layer: &str| line.contains("permission_error") && line.contains(&format!("\"layer\":\"{layer}\""));
    assert!(lines.len() == 3 && by(lines[0], "run") && by(lines[1], "user") && lines[2] == "hello", "{lines:?}");
    let (read, listener) = server.join().unwrap();
    assert!(read > 0);
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "what a layer does not allow is not dialled");
    own_policy(&env, "[spawn]\nmodels = [\"anthropic/*\"]\n");
    let model = script(&env, &dir, &["--net", "door"], "echo ran");
    assert!(model.expect_code(4).contains("openai/gpt-4.1") && model.stdout.is_empty(), "{}", model.stderr);
}
