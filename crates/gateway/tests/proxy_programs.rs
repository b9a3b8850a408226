//! Programs as they are, through the proxy of a door.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use aedile_core::policy::LayerName;
use aedile_testkit::require;

use crate::support::{CLAUDE, KEY, Rig};

const SERVER: &str = "import http.server, os, sys\nos.chdir(sys.argv[1])\n\
    s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)\n\
    print(s.server_port, flush=True)\ns.serve_forever()\n";
const URLLIB: &str = "import sys, urllib.request, urllib.error\ntry:\n    print(urllib.request.urlopen(sys.argv[1]).read().decode())\n\
    except urllib.error.HTTPError as error:\n    print(error.code, error.read().decode())\n";

/// A directory and a server of it, both gone at the end.
struct Served {
    place: PathBuf,
    server: Child,
    url: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = std::fs::remove_dir_all(&self.place);
    }
}

#[expect(clippy::disallowed_methods, reason = "a test starts the programs that it is about")]
fn command(program: &str, arguments: &[&str], proxy: Option<&str>, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", home);
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
    if let Some(proxy) = proxy {
        command.env("http_proxy", proxy).env("HTTP_PROXY", proxy);
    }
    command
}

fn run(program: &str, arguments: &[&str], proxy: Option<&str>, home: &Path) -> (bool, String) {
    let Output { status, stdout, stderr } = command(program, arguments, proxy, home).output().unwrap();
    (status.success(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

fn served() -> Served {
    let place = std::env::temp_dir().join(format!("aedile-proxy-{}", std::process::id()));
    let (work, bare) = (place.join("work"), place.join("repo.git"));
    std::fs::create_dir_all(&work).unwrap();
    std::fs::write(place.join("note.txt"), format!("a note with {KEY} in it")).unwrap();
    std::fs::write(work.join("a.txt"), "of the repository\n").unwrap();
    let (work, bare) = (work.to_str().unwrap(), bare.to_str().unwrap());
    let who = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
    for arguments in [
        vec!["init", "-q", work],
        vec!["-C", work, "add", "."],
        [&["-C", work][..], &who, &["commit", "-q", "-m", "one"]].concat(),
        vec!["clone", "-q", "--bare", work, bare],
        vec!["-C", bare, "update-server-info"],
    ] {
        let (done, said) = run("git", &arguments, None, &place);
        assert!(done, "{arguments:?}: {said}");
    }
    let mut server = command("python3", &["-c", SERVER, place.to_str().unwrap()], None, &place);
    let mut server = server.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut port = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut port).unwrap();
    Served { place, server, url: format!("http://127.0.0.1:{}", port.trim()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_python_and_git_read_through_a_door_and_are_told_what_is_denied() {
    let home = std::env::temp_dir();
    let absent = ["curl", "python3", "git"].into_iter().find(|program| command(program, &["--version"], None, &home).output().is_err());
    if !require("curl_python_and_git_read_through_a_door_and_are_told_what_is_denied", absent) {
        return;
    }
    let served = served();
    let port = served.url.rsplit(':').next().unwrap();
    let policy = format!("[[network]]\nid = \"near\"\nhosts = [\"127.0.0.1\"]\nports = [{port}]\nschemes = [\"http\"]\n");
    let mut rig = Rig::new("http://127.0.0.1:9");
    rig.layer(LayerName::Run, &policy);
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let through = |program: &str, arguments: &[&str]| run(program, arguments, Some(&door), &served.place);
    let note = format!("{}/note.txt", served.url);
    let (done, said) = through("curl", &["-sS", "--noproxy", "", &note]);
    assert!(done && said == "a note with [secret KEY] in it", "{said}");
    let (_, said) = through("curl", &["-sS", "-d", "x", "--noproxy", "", &note]);
    assert!(said.contains("address.loopback"), "a POST: {said}");
    let (_, said) = through("curl", &["-sS", "--noproxy", "", "http://example.org/"]);
    assert!(said.contains("policy.default"), "{said}");
    let (done, said) = through("python3", &["-c", URLLIB, &note]);
    assert!(done && said.trim() == "a note with [secret KEY] in it", "{said}");
    let (_, said) = through("python3", &["-c", URLLIB, "http://example.org/"]);
    assert!(said.starts_with("403 ") && said.contains("policy.default"), "{said}");
    let copy = served.place.join("copy");
    let (done, said) = through("git", &["clone", "-q", &format!("{}/repo.git", served.url), copy.to_str().unwrap()]);
    assert!(done && std::fs::read_to_string(copy.join("a.txt")).unwrap() == "of the repository\n", "{said}");
    let (done, said) = through("git", &["clone", "-q", "http://example.org/repo.git", served.place.join("other").to_str().unwrap()]);
    assert!(!done && said.contains("403"), "{said}");
}
