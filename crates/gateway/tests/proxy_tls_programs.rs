//! Programs as they are, through the proxy of a door, in TLS that they believe for the certificate of the door.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use aedile_core::egress::{Egress, Trust, proxy_env};
use aedile_core::policy::LayerName;
use aedile_core::sandbox::TRUST_INSIDE;
use aedile_testkit::require;
use rcgen::{CertificateParams, KeyPair};

use crate::support::{CLAUDE, KEY, Rig};
use crate::support_tls::pem_of;

const SERVER: &str = "import http.server, os, ssl, sys\nos.chdir(sys.argv[1])\n\
    s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)\n\
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\nc.load_cert_chain(sys.argv[2])\n\
    s.socket = c.wrap_socket(s.socket, server_side=True, do_handshake_on_connect=False)\n\
    print(s.server_port, flush=True)\ns.serve_forever()\n";
const URLLIB: &str = "import sys, urllib.request\nprint(urllib.request.urlopen(sys.argv[1]).read().decode())\n";
const REQUESTS: &str = "import sys, requests\nr = requests.get(sys.argv[1])\nprint(r.status_code, r.text)\n";
/// Node 20's `fetch` knows no proxy; its TLS is what is looked at.
const NODE: &str = "const http = require('http'), https = require('https'), tls = require('tls');\n\
    const [host, port, path] = process.argv.slice(1), proxy = new URL(process.env.https_proxy);\n\
    http.request({host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: `${host}:${port}`, headers: {host: `${host}:${port}`}})\n\
    .on('connect', (answer, socket) => {\n\
      const secure = tls.connect({socket, servername: '', host, checkServerIdentity: (_, c) => tls.checkServerIdentity(host, c)}, () =>\n\
        https.get({host, port, path, createConnection: () => secure}, (r) => { r.on('data', (d) => process.stdout.write(d)); r.on('end', () => process.exit(0)); }));\n\
      secure.on('error', (e) => { console.error(e); process.exit(1); });\n\
    }).on('error', (e) => { console.error(e); process.exit(1); }).end();\n";
const WHEEL: &str = "import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1], 'w')\nz.writestr('tiny.py', '')\n\
    z.writestr('tiny-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n')\n\
    z.writestr('tiny-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n\
    z.writestr('tiny-1.0.dist-info/RECORD', '')\nz.close()\n";

/// Says back what it is told; ends when it was told enough.
const WEBSOCKET: &str = "import asyncio, ssl, sys, websockets\n\
    async def echo(far):\n    async for said in far:\n        await far.send('heard ' + said)\n\
    async def main():\n    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n    c.load_cert_chain(sys.argv[1])\n\
    \x20   async with websockets.serve(echo, '127.0.0.1', 0, ssl=c) as s:\n\
    \x20       print(s.sockets[0].getsockname()[1], flush=True)\n        await asyncio.Future()\nasyncio.run(main())\n";
const WEBSOCKET_CLIENT: &str = "import asyncio, sys, websockets\n\
    async def main():\n    async with websockets.connect(sys.argv[1]) as far:\n        await far.send('hello')\n        print(await far.recv())\n\
    \x20       try:\n            await far.send(sys.argv[2])\n            print(await far.recv())\n\
    \x20       except websockets.ConnectionClosed as closed:\n            print(closed.rcvd.code, closed.rcvd.reason)\nasyncio.run(main())\n";

/// A directory, a server of it that speaks TLS, and a door to it.
struct Served {
    place: PathBuf,
    server: Child,
    /// One that speaks WebSocket, with its port.
    talker: Option<(Child, String)>,
    url: String,
    env: Vec<(String, String)>,
}

impl Drop for Served {
    fn drop(&mut self) {
        for server in std::iter::once(&mut self.server).chain(self.talker.as_mut().map(|(server, _)| server)) {
            let _ = server.kill();
            let _ = server.wait();
        }
        let _ = std::fs::remove_dir_all(&self.place);
    }
}

#[expect(clippy::disallowed_methods, reason = "a test starts the programs that it is about")]
fn command(program: &str, arguments: &[&str], env: &[(String, String)], home: &Path) -> Command {
    let mut command = Command::new(program);
    let kept = ["PATH", "RUSTUP_HOME", "CARGO_HOME", "RUSTUP_TOOLCHAIN", "PYENV_ROOT", "PYTHONPATH"];
    command.args(arguments).env_clear().envs(kept.iter().filter_map(|name| Some((name, std::env::var_os(name)?)))).env("HOME", home);
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0").envs(env.iter().cloned()).current_dir(home);
    command
}

fn run(program: &str, arguments: &[&str], env: &[(String, String)], home: &Path) -> (bool, String) {
    let output = command(program, arguments, env, home).output().unwrap();
    (output.status.success(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// Starts a server in Python that says its port.
fn started(arguments: &[&str], home: &Path) -> (Child, String) {
    let mut server = command("python3", arguments, &[], home).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut port = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut port).unwrap();
    (server, port.trim().to_owned())
}

impl Served {
    /// Writes what is served, and the server's certificate. Returns the roots that believe it.
    fn new() -> (Self, String) {
        let place = std::env::temp_dir().join(format!("aedile-proxy-tls-{}", std::process::id()));
        std::fs::create_dir_all(place.join("simple/tiny")).unwrap();
        std::fs::create_dir_all(place.join("api/v1")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(place.join(name), text).unwrap();
        write("note.txt", &format!("a note with {KEY} in it"));
        write("simple/tiny/index.html", "<a href=\"/tiny-1.0-py3-none-any.whl\">tiny-1.0-py3-none-any.whl</a>");
        let tarball = "{\"tarball\": \"http://127.0.0.1:1/tiny-1.0.0.tgz\"}";
        let version = format!("{{\"name\": \"tiny\", \"version\": \"1.0.0\", \"dist\": {tarball}}}");
        write("tiny", &format!("{{\"name\": \"tiny\", \"dist-tags\": {{\"latest\": \"1.0.0\"}}, \"versions\": {{\"1.0.0\": {version}}}}}"));
        write("config.json", "{\"dl\": \"https://127.0.0.1:1/\", \"api\": \"https://127.0.0.1:PORT\"}");
        write(
            "api/v1/crates",
            "{\"crates\": [{\"name\": \"tiny\", \"max_version\": \"1.0.0\", \"description\": \"a\"}], \"meta\": {\"total\": 1}}",
        );
        let (work, bare) = (place.join("work"), place.join("repo.git"));
        std::fs::create_dir_all(&work).unwrap();
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
            let (done, said) = run("git", &arguments, &[], &place);
            assert!(done, "{arguments:?}: {said}");
        }
        let (done, said) = run("python3", &["-c", WHEEL, place.join("tiny-1.0-py3-none-any.whl").to_str().unwrap()], &[], &place);
        assert!(done, "{said}");
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let pem = pem_of(certificate.der());
        let private = pem_of(&key.serialize_der().into()).replace("CERTIFICATE", "PRIVATE KEY");
        let file = place.with_extension("server.pem");
        std::fs::write(&file, format!("{pem}{private}")).unwrap();
        let (server, port) = started(&["-c", SERVER, place.to_str().unwrap(), file.to_str().unwrap()], &place);
        let talks = run("python3", &["-c", "import websockets"], &[], &place).0;
        let talker = talks.then(|| started(&["-c", WEBSOCKET, file.to_str().unwrap()], &place));
        std::fs::remove_file(file).unwrap();
        let config = std::fs::read_to_string(place.join("config.json")).unwrap().replace("PORT", &port);
        std::fs::write(place.join("config.json"), config).unwrap();
        (Self { place, server, talker, url: format!("https://127.0.0.1:{port}"), env: Vec::new() }, pem)
    }

    fn port(&self) -> &str {
        self.url.rsplit(':').next().unwrap()
    }

    /// The environment of a box, as far as it leads elsewhere from here.
    fn environment(&mut self, door: &str, trust: Trust) {
        let file = self.place.join("door.pem");
        std::fs::write(&file, trust.pem).unwrap();
        let here = |(name, value): (String, String)| match value.as_str() {
            TRUST_INSIDE => (name, file.to_str().unwrap().to_owned()),
            value if value.starts_with("http://") => (name, door.to_owned()),
            _ => (name, value),
        };
        let near = |(name, _): &(String, String)| !name.eq_ignore_ascii_case("no_proxy");
        self.env = proxy_env().into_iter().filter(near).chain(trust.env).map(here).collect();
    }

    fn ask(&self, program: &str, arguments: &[&str]) -> (bool, String) {
        run(program, arguments, &self.env, &self.place)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_read_over_tls_through_a_door_that_looks_into_it() {
    const NAME: &str = "programs_read_over_tls_through_a_door_that_looks_into_it";
    let home = std::env::temp_dir();
    let absent = |program: &&str| command(program, &["--version"], &[], &home).output().is_err();
    if !require(NAME, ["curl", "python3", "git", "node", "npm", "cargo"].into_iter().find(absent)) {
        return;
    }
    let (mut served, roots) = Served::new();
    let mut rig = Rig::today(&roots);
    let policy = format!("[[network]]\nid = \"near\"\nhosts = [\"127.0.0.1\", \"localhost\"]\nports = [{}]\n", served.port());
    let talker = served.talker.as_ref().map_or_else(String::new, |(_, port)| {
        format!("[[network]]\nid = \"talk\"\nhosts = [\"127.0.0.1\"]\nports = [{port}]\nwebsocket = true\n")
    });
    rig.layer(LayerName::Run, &(policy + &talker));
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    served.environment(&door, rig.gateway.trust(rig.who.run, &rig.policy).unwrap().unwrap());
    let note = format!("{}/note.txt", served.url);
    let clean = "a note with [secret KEY] in it";
    let (done, said) = served.ask("curl", &["-sS", &note]);
    assert!(done && said == clean, "{said}");
    let (done, said) = served.ask("curl", &["-sS", "-w", " %{http_version}", "--http2", &note]);
    assert!(done && said == format!("{clean} 2"), "{said}");
    let (_, said) = served.ask("curl", &["-sS", "-d", "x", &note]);
    assert!(said.contains("address.loopback"), "a POST: {said}");
    let (done, said) = served.ask("curl", &["-sS", "https://example.org/"]);
    assert!(!done && said.contains("403"), "{said}");
    let (done, said) = served.ask("python3", &["-c", URLLIB, &note]);
    assert!(done && said.trim() == clean, "{said}");
    if served.ask("python3", &["-c", "import requests"]).0 {
        let (done, said) = served.ask("python3", &["-c", REQUESTS, &note]);
        assert!(done && said.trim() == format!("200 {clean}"), "{said}");
    }
    let (done, said) = served.ask("node", &["-e", NODE, "127.0.0.1", served.port(), "/note.txt"]);
    assert!(done && said == clean, "{said}");
    let copy = served.place.join("copy");
    let (done, said) = served.ask("git", &["clone", "-q", &format!("{}/repo.git", served.url), copy.to_str().unwrap()]);
    assert!(done && std::fs::read_to_string(copy.join("a.txt")).unwrap() == "of the repository\n", "{said}");
    // npm does not look for addresses in a certificate when it goes through a proxy.
    let (done, said) =
        served.ask("npm", &["view", "tiny", "version", "--fetch-retries=0", "--registry", &served.url.replace("127.0.0.1", "localhost")]);
    assert!(done && said.trim().ends_with("1.0.0"), "{said}");
    let index = format!("sparse+{}/", served.url);
    let (done, said) = served.ask("cargo", &["search", "tiny", "--index", &index]);
    assert!(done && said.contains("tiny = \"1.0.0\""), "{said}");
    if served.ask("python3", &["-m", "pip", "--version"]).0 {
        let index = format!("{}/simple/", served.url);
        let (done, said) = served.ask("python3", &["-m", "pip", "download", "-q", "--no-deps", "--index-url", &index, "-d", "got", "tiny"]);
        assert!(done && served.place.join("got/tiny-1.0-py3-none-any.whl").exists(), "{said}");
    }
    if let Some((_, port)) = &served.talker {
        let url = format!("wss://127.0.0.1:{port}/");
        let (done, said) = served.ask("python3", &["-c", WEBSOCKET_CLIENT, &url, KEY]);
        let lines: Vec<&str> = said.lines().collect();
        assert!(done && lines[0] == "heard hello" && lines[1].starts_with("1008 secret.value"), "{said}");
    }
    // Without the certificate of the door none of them believes it.
    let bare: Vec<_> = served.env.iter().filter(|(name, _)| name.to_ascii_lowercase().ends_with("proxy")).cloned().collect();
    for (program, arguments) in [("curl", vec!["-sS", &note]), ("python3", vec!["-c", URLLIB, &note])] {
        assert!(!run(program, &arguments, &bare, &served.place).0, "{program}");
    }
}
