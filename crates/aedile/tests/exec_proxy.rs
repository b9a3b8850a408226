//! `aedile sandbox exec --net door` with a policy: the door as a proxy.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
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
            "{near}/open/a; echo; {near}/closed; echo; curl -sS http://example.org/; echo; curl -sS https://example.org/ 2>&1; ls /aedile/door.pem 2>&1; true"
        );
        let finished = script(&env, &dir, &options, &text);
        let lines: Vec<&str> = finished.success().lines().collect();
        assert_eq!(lines[0], "hello", "{lines:?}");
        assert!(lines[1].contains("policy.default") || lines[1].contains("address.loopback"), "{lines:?}");
        assert!(lines[2].contains("policy.default") && lines[3].contains("403"), "{lines:?}");
        assert!(lines[4].contains("No such file"), "nothing is opened with TLS: {lines:?}");
        let (head, listener) = server.join().unwrap();
        assert!(head.starts_with("GET /open/a HTTP/1.1\r\n"), "{head}");
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "what is denied is not dialled");
        let finished = script(&env, &dir, &["--policy", policy.to_str().unwrap()], "env | grep -ci proxy; true");
        assert!(finished.success().trim() == "0" && finished.stderr.contains("--net door"), "{}", finished.stderr);
        env.assert_nothing_left();
    }
}

/// What the token endpoint of [`serve_tls`] gives.
const TOKEN_ANSWER: &str =
    r#"{"access_token":"access-Jd5Cf8Gw2Nq7-value","token_type":"Bearer","expires_in":3600,"refresh_token":"refresh-Zq8Kx2Lm9Rt4-next"}"#;

/// Serves so many requests over TLS, each with its own `Authorization` in the answer; returns what came.
pub(crate) fn serve_tls(host: &str, count: usize, before_answer: impl Fn(&str) + Send + 'static) -> TlsSite {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap().self_signed(&key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let der = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![certificate.der().clone()], der.into()).unwrap());
    let server = std::thread::spawn(move || {
        let mut heads = Vec::new();
        while heads.len() < count {
            let (stream, _) = listener.accept().unwrap();
            let mut stream = rustls::StreamOwned::new(rustls::ServerConnection::new(config.clone()).unwrap(), stream);
            let mut head = [0; 4096];
            let read = stream.read(&mut head).unwrap();
            let mut text = String::from_utf8_lossy(&head[..read]).into_owned();
            // A token endpoint, as a client without a secret asks it: its id stands last.
            let is_token = text.starts_with("POST /token ");
            while is_token && !text.contains("&client_id=") {
                let read = stream.read(&mut head).unwrap();
                text.push_str(&String::from_utf8_lossy(&head[..read]));
            }
            let said =
                text.lines().find_map(|line| line.to_ascii_lowercase().starts_with("authorization").then(|| format!("you said {line}\n")));
            let token = is_token.then(|| TOKEN_ANSWER.to_owned());
            let body = token.or(said).unwrap_or_else(|| "hello\n".to_owned());
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
            before_answer(&text);
            stream.write_all(answer.as_bytes()).unwrap();
            stream.conn.send_close_notify();
            let _ = stream.flush();
            heads.push(text);
        }
        heads
    });
    TlsSite { port, pem: pem(&certificate), server }
}

/// A server behind TLS.
pub(crate) struct TlsSite {
    pub(crate) port: u16,
    /// Its certificate as a file of trusted roots.
    pub(crate) pem: String,
    /// The heads that it was asked with, when it has answered them all.
    pub(crate) server: std::thread::JoinHandle<Vec<String>>,
}

/// The certificate as a file of trusted roots has it.
pub(crate) fn pem(certificate: &rcgen::Certificate) -> String {
    block("CERTIFICATE", certificate.der())
}

/// DER as PEM.
pub(crate) fn block(label: &str, der: &[u8]) -> String {
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n")
}

#[test]
fn programs_in_a_box_read_over_tls_that_ends_at_the_door() {
    let missing = ["/usr/bin/curl", "/usr/bin/python3"].into_iter().find(|program| !Path::new(program).exists());
    if !require("TLS through the proxy of exec", missing) {
        return;
    }
    const URLLIB: &str = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode(), end=str())";
    for user in [User::Same, User::Ordinary] {
        let mut env = TestEnvironment::for_user(super::program(), user);
        let dir = env.work().join("dir");
        std::fs::create_dir(&dir).unwrap();
        env.give_to_user();
        std::fs::write(dir.join("aedile.toml"), "[agents]\nmodel = \"openai/gpt-4.1\"\n").unwrap();
        env.var("OPENAI_API_KEY", "sk-real-key-of-the-person");
        let TlsSite { port, pem, server } = serve_tls("127.0.0.1", 2, |_| {});
        let (policy, roots) = (dir.parent().unwrap().join("policy.toml"), dir.parent().unwrap().join("roots.pem"));
        std::fs::write(&policy, format!("[[network]]\nid = \"near\"\nhosts = [\"127.0.0.1\"]\nports = [{port}]\npaths = [\"/open/**\"]\n"))
            .unwrap();
        std::fs::write(&roots, pem).unwrap();
        env.var("SSL_CERT_FILE", roots.to_str().unwrap());
        let url = format!("https://127.0.0.1:{port}");
        let text = format!(
            "unset no_proxy NO_PROXY; curl -sS {url}/open/a; /usr/bin/python3 -c '{URLLIB}' {url}/open/b; curl -sS {url}/closed; echo; \
             grep -c CERTIFICATE /aedile/door.pem; grep -c PRIVATE /aedile/door.pem; (echo x >> /aedile/door.pem) 2>/dev/null || echo kept; \
             env -u SSL_CERT_FILE -u CURL_CA_BUNDLE curl -sS {url}/open/c 2>&1 | head -1; env | grep -c =/aedile/door.pem"
        );
        let options = ["--policy", policy.to_str().unwrap(), "--net", "door", "--env", "AWS_CA_BUNDLE=mine"];
        let finished = script(&env, &dir, &options, &text);
        let lines: Vec<&str> = finished.success().lines().collect();
        assert_eq!(&lines[..2], ["hello", "hello"], "{lines:?} {}", finished.stderr);
        assert!(lines[2].contains("policy.default") || lines[2].contains("address.loopback"), "{lines:?}");
        assert_eq!(&lines[3..6], ["2", "0", "kept"], "{lines:?}");
        assert!(lines[6].contains("certificate"), "what does not look for the door's certificate does not believe it: {lines:?}");
        assert!(lines[7].parse::<usize>().unwrap() >= 15, "{lines:?}");
        let heads = server.join().unwrap();
        assert!(heads[0].starts_with("GET /open/a HTTP/1.1\r\n") && heads[1].starts_with("GET /open/b HTTP/1.1\r\n"), "{heads:?}");
        env.assert_nothing_left();
    }
}

#[test]
fn a_worker_that_is_killed_takes_its_box_and_its_doors_with_it() {
    let missing = (!Path::new("/usr/bin/curl").exists()).then_some("there is no /usr/bin/curl");
    if !require("a killed worker with an open door", missing) {
        return;
    }
    let mut env = TestEnvironment::for_user(super::program(), User::Same);
    let dir = env.work().join("dir");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("aedile.toml"), "[agents]\nmodel = \"openai/gpt-4.1\"\n").unwrap();
    env.var("OPENAI_API_KEY", "sk-real-key-of-the-person");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let policy = dir.parent().unwrap().join("policy.toml");
    std::fs::write(&policy, format!("[[network]]\nid = \"near\"\nhosts = [\"127.0.0.1\"]\nports = [{port}]\nschemes = [\"http\"]\n"))
        .unwrap();
    let mut command: Command = env.command();
    command.args(["sandbox", "exec", "--net", "door", "--dir"]).arg(&dir).arg("--policy").arg(&policy);
    command.args(["--", "curl", "-sS", "--noproxy", ""]).arg(format!("http://127.0.0.1:{port}/"));
    let mut worker = command.spawn().unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let mut head = [0; 4096];
    assert!(stream.read(&mut head).unwrap() > 0);
    // It is asked and does not answer; the worker is gone with everything that it had open.
    worker.kill().unwrap();
    worker.wait().unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    assert!(!matches!(stream.read(&mut head), Ok(1..)), "the connection is still there");
    env.assert_nothing_left();
}
