//! Package managers and git as they are, in real boxes, through doors whose policy is a preset: they read, and publish nothing.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aedile_testkit::environment::User;
use aedile_testkit::{TestEnvironment, require};

use super::exec_proxy::{block, pem};

const LIMIT: Duration = Duration::from_secs(120);

/// Serves a directory over TLS, and the repositories below `/git/` as git does; pushes would be taken. Writes down what was asked.
const SERVER: &str = r#"
import http.server, os, ssl, subprocess, sys
root, pem, log = sys.argv[1:4]
os.chdir(root)
class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.0"
    def log_message(self, *_): pass
    def note(self):
        with open(log, "a") as out: out.write(f"{self.command} {self.path}\n")
    def backend(self):
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        env = dict(os.environ, GIT_PROJECT_ROOT=root, GIT_HTTP_EXPORT_ALL="1", PATH_INFO=path, QUERY_STRING=query, REQUEST_METHOD=self.command,
                   CONTENT_TYPE=self.headers.get("content-type", ""), CONTENT_LENGTH=str(len(body)), REMOTE_USER="any",
                   HTTP_CONTENT_ENCODING=self.headers.get("content-encoding", ""), GIT_PROTOCOL=self.headers.get("git-protocol", ""))
        out = subprocess.run(["git", "http-backend"], input=body, env=env, stdout=subprocess.PIPE).stdout
        head, _, rest = out.partition(b"\r\n\r\n")
        lines = [line.split(": ", 1) for line in head.decode().split("\r\n") if line]
        status = next((value for name, value in lines if name == "Status"), "200 OK")
        self.send_response(int(status.split()[0]))
        for name, value in lines:
            if name not in ("Status", "Content-Length"): self.send_header(name, value)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest)
    def do_GET(self):
        self.note()
        self.backend() if self.path.startswith("/git/") else super().do_GET()
    def do_POST(self):
        self.note()
        self.backend()
    def do_PUT(self):
        self.note()
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(pem)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_port, flush=True)
server.serve_forever()
"#;

/// Writes one package for each of the registries.
const PACKAGES: &str = r#"
import hashlib, io, json, os, sys, tarfile, zipfile
root, port = sys.argv[1:3]
base = f"https://localhost:{port}"
def write(name, data):
    path = os.path.join(root, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "wb").write(data if isinstance(data, bytes) else data.encode())
def tar(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()
write("npm/tiny/-/tiny-1.0.0.tgz", tar({"package/package.json": '{"name": "tiny", "version": "1.0.0"}', "package/index.js": "module.exports = 7"}))
version = {"name": "tiny", "version": "1.0.0", "dist": {"tarball": f"{base}/npm/tiny/-/tiny-1.0.0.tgz"}}
write("npm/tiny/index.html", json.dumps({"name": "tiny", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}))
crate = tar({"tiny-1.0.0/Cargo.toml": '[package]\nname = "tiny"\nversion = "1.0.0"\nedition = "2021"\n', "tiny-1.0.0/src/lib.rs": "pub fn seven() -> u8 { 7 }\n"})
write("cargo/dl/tiny-1.0.0.crate", crate)
write("cargo/config.json", json.dumps({"dl": base + "/cargo/dl/{crate}-{version}.crate", "api": base}))
write("cargo/ti/ny/tiny", json.dumps({"name": "tiny", "vers": "1.0.0", "deps": [], "cksum": hashlib.sha256(crate).hexdigest(), "features": {}, "yanked": False}))
wheel = io.BytesIO()
with zipfile.ZipFile(wheel, "w") as archive:
    archive.writestr("tiny.py", "seven = 7\n")
    archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
    archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    archive.writestr("tiny-1.0.dist-info/RECORD", "")
write("simple/tiny/tiny-1.0-py3-none-any.whl", wheel.getvalue())
write("simple/tiny/index.html", '<a href="tiny-1.0-py3-none-any.whl">tiny-1.0-py3-none-any.whl</a>')
"#;

#[expect(clippy::disallowed_methods, reason = "a test starts the programs that it is about")]
fn host(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    command
}

/// A server of packages and a repository, and a person with a box.
struct Bench {
    env: TestEnvironment,
    dir: PathBuf,
    log: PathBuf,
    server: Child,
    port: String,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Bench {
    fn new() -> Self {
        let mut env = TestEnvironment::for_user(super::program(), User::Same);
        super::share_toolchain(&mut env);
        let (dir, root, log) = (env.work().join("dir"), env.work().join("served"), env.work().join("asked"));
        for made in [&dir, &root] {
            std::fs::create_dir(made).unwrap();
        }
        std::fs::write(dir.join("aedile.toml"), "[agents]\nmodel = \"openai/gpt-4.1\"\n").unwrap();
        std::fs::write(&log, "").unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let (roots, own) = (env.work().join("roots.pem"), env.work().join("server.pem"));
        std::fs::write(&roots, pem(&certificate)).unwrap();
        std::fs::write(&own, format!("{}{}", pem(&certificate), block("PRIVATE KEY", &key.serialize_der()))).unwrap();
        env.var("SSL_CERT_FILE", &roots).var("OPENAI_API_KEY", "sk-real-key-of-the-person");
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let mut server = host("python3", &["-c", SERVER, &text(&root), &text(&own), &text(&log)]).stdout(Stdio::piped()).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let port = port.trim().to_owned();
        assert!(host("python3", &["-c", PACKAGES, &text(&root), &port]).status().unwrap().success());
        let (work, bare) = (env.work().join("work"), root.join("git/team/a.git"));
        std::fs::create_dir_all(bare.parent().unwrap()).unwrap();
        let script = format!(
            "git init -q -b main {0} && cd {0} && echo one > a.txt && git add . && git -c user.name=a -c user.email=a@b commit -qm one && \
             git clone -q --bare . {1} && git -C {1} config http.receivepack true",
            work.display(),
            bare.display()
        );
        assert!(host("sh", &["-c", &script]).status().unwrap().success());
        Self { env, dir, log, server, port }
    }

    /// Runs a script in a box whose door follows this preset; returns what it printed and what the server was asked.
    fn run(&self, preset: &str, script: &str) -> (String, String) {
        let policy = self.env.work().join("policy.toml");
        let more = if preset == "git" { "paths = [\"/git/team/**\"]\n" } else { "" };
        let rule = format!("[[network]]\nid = \"p\"\npreset = \"{preset}\"\nhosts = [\"localhost\"]\nports = [{}]\n{more}", self.port);
        std::fs::write(&policy, rule).unwrap();
        std::fs::write(&self.log, "").unwrap();
        let script = format!("unset no_proxy NO_PROXY; exec 2>&1; at=https://localhost:{}; {script}", self.port);
        let mut command = self.env.command();
        command
            .args(["sandbox", "exec", "--dir"])
            .arg(&self.dir)
            .arg("--policy")
            .arg(&policy)
            .args(["--net", "door", "--", "sh", "-c", &script]);
        let finished = self.env.run_command(command, LIMIT);
        (format!("{}{}", finished.stdout, finished.stderr), std::fs::read_to_string(&self.log).unwrap())
    }
}

#[test]
fn package_managers_and_git_read_and_publish_nothing() {
    let absent = |program: &&str| host(program, &["--version"]).output().map_or(true, |output| !output.status.success());
    let no_pip = || host("/usr/bin/python3", &["-m", "pip", "--version"]).output().map_or(true, |output| !output.status.success());
    let missing = ["git", "npm", "python3", "cargo"].into_iter().find(absent).or_else(|| no_pip().then_some("pip of /usr/bin/python3"));
    if !require("package managers and git through the door", missing) {
        return;
    }
    let bench = Bench::new();
    let (said, asked) = bench.run(
        "git",
        "git clone -q $at/git/team/a.git got && cat got/a.txt && cd got && git fetch -q && echo two >> a.txt && \
         git -c user.name=a -c user.email=a@b commit -qam two && git push -q origin main; echo pushed: $?; git clone -q $at/git/other/b.git",
    );
    assert!(said.contains("one\n") && said.contains("pushed: 128") && said.contains("403"), "{said}");
    assert!(
        asked.contains("POST /git/team/a.git/git-upload-pack") && !asked.contains("receive-pack") && !asked.contains("other"),
        "{asked}"
    );

    let (said, asked) = bench.run(
        "npm",
        "mkdir n && cd n && echo '{\"name\": \"n\", \"version\": \"1.0.0\"}' > package.json && npm install --no-fund --fetch-retries 0 --registry $at/npm/ tiny && \
         node -p 'require(\"tiny\")'; npm publish --fetch-retries 0 --registry $at/npm/ --${at#https:}/npm/:_authToken=x; echo published: $?",
    );
    assert!(said.contains("added 1 package") && said.contains("\n7\n") && !said.contains("published: 0") && said.contains("403"), "{said}");
    assert!(asked.contains("GET /npm/tiny/-/tiny-1.0.0.tgz") && !asked.contains("PUT"), "{asked}");

    let (said, asked) = bench.run(
        "pip",
        "/usr/bin/python3 -m pip install -q --disable-pip-version-check --index-url $at/simple/ --target got tiny; \
         PYTHONPATH=got /usr/bin/python3 -c 'import tiny; print(tiny.seven)'",
    );
    assert!(said.contains("7\n"), "{said}");
    assert!(asked.contains("GET /simple/tiny/tiny-1.0-py3-none-any.whl"), "{asked}");

    let (said, asked) = bench.run(
        "cargo",
        "export CARGO_REGISTRIES_MINE_INDEX=sparse+$at/cargo/; mkdir -p c/src && cd c && echo 'pub use tiny::seven;' > src/lib.rs && \
         printf '[package]\\nname = \"c\"\\nversion = \"1.0.0\"\\nedition = \"2021\"\\nlicense = \"MIT\"\\ndescription = \"c\"\\n[dependencies]\\ntiny = { version = \"1\", registry = \"mine\" }\\n' > Cargo.toml && \
         cargo build -q && echo built; cargo publish -q --registry mine --token x --allow-dirty --no-verify; echo published: $?",
    );
    assert!(said.contains("built\n") && !said.contains("published: 0") && said.contains("403"), "{said}");
    assert!(asked.contains("GET /cargo/dl/tiny-1.0.0.crate") && !asked.contains("PUT"), "{asked}");
    let mut bench = bench;
    bench.server.kill().unwrap();
    bench.server.wait().unwrap();
    bench.env.assert_nothing_left();
}
