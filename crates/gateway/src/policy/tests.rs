//! Requests as attackers and ordinary programs write them, held against a small policy.

use std::io::Write;

use super::{Decision, Egress, Host, Policy, Request, SecretsFile, Target};

const POLICY: &str = r#"
[[network]]
id = "api"
hosts = ["api.example.org"]
methods = ["GET", "POST"]
paths = ["/v1/**", "/files/*.json"]

[[network]]
id = "packages"
host = "*.packages.example.org"

[[network]]
id = "local"
hosts = ["127.0.0.1", "[::1]", "build.internal", "169.254.169.254"]
schemes = ["http", "https"]
ports = [8080]

[[network]]
id = "no-admin"
effect = "deny"
hosts = ["api.example.org"]
paths = ["/v1/admin/**"]
"#;

const VALUE: &str = "q8Zt2LmP0vRx7KdWb3NcY5Hs";

fn secrets() -> String {
    format!(
        "[[secret]]\nname = \"api\"\nvalue = \"{VALUE}\"\nhosts = [\"api.example.org\"]\npaths = [\"/v1/**\"]\n\n\
         [[secret]]\nname = \"query\"\nvalue = \"another-Zx8kLm2Qr9-value\"\nhost = \"a.packages.example.org\"\nplace = \"query:key\"\n"
    )
}

fn egress() -> Egress {
    Egress::new(Policy::parse(POLICY).unwrap(), SecretsFile::parse(&secrets()).unwrap())
}

fn request(method: &str, url: &str) -> Request {
    Request { method: method.to_owned(), url: url.to_owned(), ..Request::default() }
}

fn decide(request: &Request) -> Decision {
    egress().decide(request)
}

fn with_header(name: &str, value: &str) -> Request {
    Request { headers: vec![(name.to_owned(), value.to_owned())], ..request("GET", "https://api.example.org/v1/x") }
}

fn with_body(body: impl Into<Vec<u8>>) -> Request {
    Request { body: body.into(), ..request("POST", "https://api.example.org/v1/x") }
}

#[test]
fn what_a_rule_allows_passes_in_its_plain_form() {
    for (method, url, rule, plain) in [
        ("GET", "https://api.example.org/v1/x?y=1#z", "api", "https://api.example.org/v1/x?y=1"),
        ("POST", "HTTPS://API.Example.Org:443/v1", "api", "https://api.example.org/v1"),
        ("GET", "https://api.example.org/v1/a/./b/../c", "api", "https://api.example.org/v1/a/c"),
        ("GET", "https://api.example.org/%76%31/%7Euser/%c3%a9", "api", "https://api.example.org/v1/~user/%C3%A9"),
        ("GET", "https://api.example.org/files/a.json", "api", "https://api.example.org/files/a.json"),
        ("HEAD", "https://a.packages.example.org", "packages", "https://a.packages.example.org/"),
        ("GET", "https://a.b.packages.example.org/x", "packages", "https://a.b.packages.example.org/x"),
        ("GET", "http://127.0.0.1:8080/", "local", "http://127.0.0.1:8080/"),
        ("GET", "http://[0:0:0:0:0:0:0:1]:8080/", "local", "http://[::1]:8080/"),
        ("GET", "https://build.internal:8080/", "local", "https://build.internal:8080/"),
    ] {
        let decision = decide(&request(method, url));
        let got = (decision.allow, decision.rule.as_str(), decision.url.as_deref());
        assert_eq!(got, (true, rule, Some(plain)), "{url}: {}", decision.why);
    }
}

#[test]
fn everything_else_is_denied_by_the_rule_that_fits() {
    for (method, url, rule) in [
        ("GET", "https://evil.example/", "policy.default"),
        ("DELETE", "https://api.example.org/v1/x", "policy.default"),
        ("GET", "http://api.example.org/v1/x", "policy.default"),
        ("GET", "https://api.example.org:8443/v1/x", "policy.default"),
        ("GET", "https://api.example.org/v1admin", "policy.default"),
        ("GET", "https://api.example.org/files/a/b.json", "policy.default"),
        ("GET", "https://api.example.org/v1/../x", "policy.default"),
        ("GET", "https://api.example.org/v1/admin/x", "no-admin"),
        ("GET", "https://api.example.org/v1/x/../admin", "no-admin"),
        ("GET", "https://api.example.org/v1/%61dmin", "no-admin"),
        ("GET", "https://packages.example.org/", "policy.default"),
        ("GET", "https://evilpackages.example.org/", "policy.default"),
        ("GET", "https://api.example.org.evil.example/v1/x", "policy.default"),
        ("GET", "https://api.example.org@evil.example/", "url.userinfo"),
        ("GET", "https://user:pw@api.example.org/v1/x", "url.userinfo"),
        ("GET", "https://evil.example\\@api.example.org/v1/x", "url.backslash"),
        ("GET", "https://evil.example#@api.example.org/", "policy.default"),
        ("GET", "https://evil.example?@api.example.org/", "policy.default"),
        ("GET", " https://api.example.org/v1/x", "url.characters"),
        ("GET", "https://api.example.org/v1/x\r\nHost: evil", "url.characters"),
        ("GET", "https://api.example.org\u{0}.evil.example/", "url.characters"),
        ("GET", "https://\u{430}pi.example.org/v1/x", "url.characters"),
        ("GET", "https://api\u{3002}example.org/v1/x", "url.characters"),
        ("GET", "https://api%2eexample.org/v1/x", "host.encoded"),
        ("GET", "https://api.example.org./v1/x", "host.dot"),
        ("GET", "https://xn--api-.example.org/", "host.name"),
        ("GET", "https://a_b.packages.example.org/", "host.name"),
        ("GET", "https://-a.packages.example.org/", "host.name"),
        ("GET", "https://a..packages.example.org/", "host.name"),
        ("GET", "https:///v1/x", "host.empty"),
        ("GET", "https:api.example.org/v1/x", "url.form"),
        ("GET", "//api.example.org/v1/x", "url.form"),
        ("GET", "ftp://api.example.org/", "url.scheme"),
        ("GET", "file:///etc/passwd", "url.scheme"),
        ("GET", "gopher://127.0.0.1:8080/", "url.scheme"),
        ("GET", "https://api.example.org:0443/v1/x", "url.port"),
        ("GET", "https://api.example.org:/v1/x", "url.port"),
        ("GET", "https://api.example.org:65536/v1/x", "url.port"),
        ("GET", "https://api.example.org:443:80/v1/x", "url.port"),
        ("GET", "https://api.example.org:+443/v1/x", "url.port"),
        ("GET", "https://api.example.org/v1/%2e%2e/x", "path.encoded"),
        ("GET", "https://api.example.org/v1%2fx", "path.encoded"),
        ("GET", "https://api.example.org/v1/%252e", "path.encoded"),
        ("GET", "https://api.example.org/v1/%00", "path.encoded"),
        ("GET", "https://api.example.org/v1/%zz", "path.encoding"),
        ("GET", "https://api.example.org/v1/%+1", "path.encoding"),
        ("GET", "https://api.example.org/../v1", "path.dots"),
        ("GET", "https://api.example.org/v1/..;/admin", "path.dots"),
        ("get", "https://api.example.org/v1/x", "method.form"),
        ("", "https://api.example.org/v1/x", "method.form"),
        ("CONNECT", "https://api.example.org/v1/x", "policy.default"),
    ] {
        let decision = decide(&request(method, url));
        assert_eq!((decision.allow, decision.rule.as_str()), (false, rule), "{method} {url}: {}", decision.why);
        assert!(decision.why.len() > 15, "{url}");
    }
}

#[test]
fn addresses_are_judged_however_they_are_written() {
    for (host, rule) in [
        ("10.0.0.1", "address.private"),
        ("172.16.0.1", "address.private"),
        ("192.168.1.1", "address.private"),
        ("127.0.0.2", "address.loopback"),
        ("0.0.0.0", "address.reserved"),
        ("100.64.0.1", "address.carrier"),
        ("169.254.1.1", "address.link"),
        ("169.254.169.254", "address.metadata"),
        ("168.63.129.16", "address.metadata"),
        ("100.100.100.200", "address.metadata"),
        ("[fd00:ec2::254]", "address.metadata"),
        ("224.0.0.1", "address.multicast"),
        ("255.255.255.255", "address.reserved"),
        ("192.0.2.1", "address.reserved"),
        ("198.18.0.1", "address.reserved"),
        ("[::]", "address.loopback"),
        ("[::1]", "address.loopback"),
        ("[::ffff:127.0.0.1]", "address.embedded"),
        ("[::ffff:8.8.8.8]", "address.embedded"),
        ("[::ffff:0:127.0.0.1]", "address.embedded"),
        ("[::127.0.0.1]", "address.embedded"),
        ("[64:ff9b::7f00:1]", "address.embedded"),
        ("[64:ff9b:1::1]", "address.embedded"),
        ("[2002:7f00:1::]", "address.embedded"),
        ("[2001:0:1::1]", "address.embedded"),
        ("[2606:4700::5efe:7f00:1]", "address.embedded"),
        ("[fe80::1]", "address.link"),
        ("[fc00::1]", "address.private"),
        ("[fec0::1]", "address.reserved"),
        ("[ff02::1]", "address.multicast"),
        ("[2001:db8::1]", "address.reserved"),
        ("[fe80::1%25eth0]", "host.zone"),
        ("[fe80::1%eth0]", "host.zone"),
        ("[127.0.0.1]", "host.address"),
        ("[::1", "url.port"),
        ("127.1", "host.numeric"),
        ("0177.0.0.1", "host.numeric"),
        ("0x7f.0.0.1", "host.numeric"),
        ("0x7f000001", "host.numeric"),
        ("2130706433", "host.numeric"),
        ("017700000001", "host.numeric"),
        ("127.0.0.1.", "host.dot"),
        ("127.0.0.01", "host.numeric"),
        ("a.0x1", "host.numeric"),
        ("1.2.3.4.5", "host.numeric"),
        ("8.8.8.8", "policy.default"),
        ("[2606:4700::1111]", "policy.default"),
        ("localhost", "host.local"),
        ("db.localhost", "host.local"),
        ("printer.local", "host.local"),
        ("other.internal", "host.local"),
        ("intranet", "host.local"),
        ("metadata.google.internal", "address.metadata"),
        ("metadata", "address.metadata"),
    ] {
        let decision = decide(&request("GET", &format!("https://{host}/")));
        assert_eq!((decision.allow, decision.rule.as_str()), (false, rule), "{host}: {}", decision.why);
    }
    // No rule opens the address that hands out credentials.
    assert_eq!(decide(&request("GET", "http://169.254.169.254:8080/")).rule, "address.metadata");
    assert!(matches!(Host::parse("xn--mnchen-3ya.de"), Ok(Host::Name(_))) && Host::parse("xn--zz!").is_err());
}

#[test]
fn headers_that_mislead_are_refused() {
    for (name, value, rule) in [
        ("Host", "evil.example", "header.host"),
        ("Host", "api.example.org:80", "header.host"),
        ("X-HTTP-Method-Override", "DELETE", "header.misleading"),
        ("X_Original_URL", "/v1/admin", "header.misleading"),
        ("Content_Length", "5", "header.misleading"),
        ("Transfer_Encoding", "chunked", "header.misleading"),
        ("X-A", "b\r\nHost: evil.example", "header.value"),
        ("X A", "b", "header.name"),
        ("", "b", "header.name"),
        ("Upgrade", "websocket", "header.connection"),
        ("Connection", "keep-alive, Upgrade", "header.connection"),
        ("Content-Length", "5", "header.framing"),
        ("Content-Length", "+0", "header.framing"),
        ("Transfer-Encoding", "xchunked", "header.framing"),
        ("Content-Encoding", "compress", "body.encoding"),
        ("Content-Encoding", "gzip, gzip", "body.encoding"),
    ] {
        let decision = decide(&with_header(name, value));
        assert_eq!((decision.allow, decision.rule.as_str()), (false, rule), "{name}: {value}: {}", decision.why);
    }
    let mut twice = with_header("Content-Length", "0");
    twice.headers.push(("Transfer-Encoding".to_owned(), "chunked".to_owned()));
    assert_eq!(decide(&twice).rule, "header.framing");
    twice.headers = vec![("Host".to_owned(), "api.example.org".to_owned()), ("host".to_owned(), "evil.example".to_owned())];
    assert_eq!(decide(&twice).rule, "header.twice");
    for (name, value) in
        [("Host", "api.example.org"), ("Host", "API.example.org:443"), ("Accept", "*/*"), ("Content-Length", "0"), ("X-Trace", "a\tb")]
    {
        assert!(decide(&with_header(name, value)).allow, "{name}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

#[test]
fn the_value_of_a_secret_goes_nowhere_in_any_form() {
    let reversed: String = VALUE.chars().rev().collect();
    let get = |path: &str| request("GET", &format!("https://api.example.org/v1/{path}"));
    let packed = Request { headers: vec![("Content-Encoding".to_owned(), "gzip".to_owned())], ..with_body(gzip(VALUE.as_bytes())) };
    for request in [
        get(VALUE),
        get(&format!("x?y={VALUE}")),
        get(&format!("x?y={}", hex(VALUE.as_bytes()))),
        get(&VALUE.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>()),
        with_header("X-Note", &reversed),
        with_header("Authorization", &format!("Bearer {VALUE}")),
        with_header(&format!("X-{VALUE}"), "1"),
        with_body(format!("{{\"a\":\"{VALUE}\"}}")),
        with_body(gzip(hex(VALUE.as_bytes()).as_bytes())),
        with_body(format!("{{\"a\":\"{}\",\"b\":\"{}\"}}", &VALUE[..12], &VALUE[12..])),
        with_body(format!("a={}&b={}", &VALUE[..7], &VALUE[7..])),
        get(&format!("x?a={}&b={}", &VALUE[..9], &VALUE[9..])),
        packed,
        request("GET", &format!("https://{}.packages.example.org/", VALUE.to_ascii_lowercase())),
    ] {
        let decision = decide(&request);
        assert_eq!((decision.allow, decision.rule.as_str()), (false, "secret.value"), "{}", request.url);
    }
    assert!(decide(&with_body("nothing of it")).allow);
}

#[test]
fn parts_over_requests_are_put_together() {
    let mut egress = egress();
    let part = |text: &str| request("GET", &format!("https://api.example.org/v1/x?part={text}"));
    assert!(egress.decide(&part(&VALUE[..10])).allow);
    assert!(egress.decide(&request("GET", "https://api.example.org/v1/other?page=2")).allow);
    let decision = egress.decide(&part(&VALUE[10..]));
    assert_eq!((decision.allow, decision.rule.as_str()), (false, "secret.value"));
    assert!(egress.decide(&part("harmless")).allow);
}

#[test]
fn a_placeholder_goes_only_where_its_secret_may() {
    let bearer =
        |url: &str| Request { headers: vec![("Authorization".to_owned(), "Bearer aedile-secret-api".to_owned())], ..request("GET", url) };
    assert!(decide(&bearer("https://api.example.org/v1/x")).allow);
    for request in [
        bearer("https://a.packages.example.org/x"),
        bearer("https://api.example.org/files/a.json"),
        bearer("http://127.0.0.1:8080/"),
        with_header("X-Key", "aedile-secret-api"),
        with_body("aedile-secret-api"),
        request("GET", "https://api.example.org/v1/x?k=aedile-secret-api"),
        request("GET", "https://api.example.org/v1/x?k=aedile%2Dsecret-api"),
        request("GET", "https://b.packages.example.org/?key=aedile-secret-query"),
        request("GET", "https://a.packages.example.org/?other=aedile-secret-query"),
        request("GET", "https://a.packages.example.org/aedile-secret-query?key=aedile-secret-query"),
    ] {
        let decision = decide(&request);
        assert_eq!((decision.allow, decision.rule.as_str()), (false, "secret.placeholder"), "{}", request.url);
    }
    assert!(decide(&request("GET", "https://a.packages.example.org/?key=aedile-secret-query&x=1")).allow);
}

#[test]
fn credentials_by_their_form_are_blocked() {
    let token = ["glpat", "-w7Zt2LmP0vRx7KdWb3Nc"].concat();
    assert_eq!(decide(&with_body(format!("see {token}"))).rule, "leak.gitlab-pat");
    assert!(decide(&with_body("password: changeme")).allow);
}

#[test]
fn wrong_files_are_told_without_a_value() {
    for (text, part) in [
        ("[[network]]\nid = \"a\"\nhosts = [\"x.org\"]\nhostz = 1\n", "hostz"),
        ("[netwrk]\n", "netwrk"),
        ("[[network]]\nid = \"a\"\nhosts = []\n", "names no `hosts`"),
        ("[[network]]\nid = \"a\"\n", "hosts"),
        ("[[network]]\nid = \"a\"\nhosts = [\"*.org\"]\n", "all of org"),
        ("[[network]]\nid = \"a\"\nhosts = [\"https://x.org\"]\n", "is no host"),
        ("[[network]]\nid = \"a\"\nhosts = [\"x.org\"]\npaths = [\"v1\"]\n", "is no path"),
        ("[[network]]\nid = \"a\"\nhosts = [\"x.org\"]\npaths = [\"/**/x\"]\n", "elsewhere"),
        ("[[network]]\nid = \"a\"\nhosts = [\"x.org\"]\nmethods = [\"CONNECT\"]\n", "no method"),
        ("[[network]]\nid = \"a\"\nhosts = [\"x.org\"]\nports = [0]\n", "no port"),
        ("[[network]]\nid = \"a\"\nhosts = [\"x.org\"]\nwebsocket = true\neffect = \"deny\"\n", "`websocket` goes with"),
        ("[[network]]\nid = \"a\"\nhosts = [\"x.org\"]\nwebsocket = true\nmethods = [\"POST\"]\n", "`websocket` goes with"),
        ("[[network]]\nid = \"a\"\nhosts = [\"x.org\"]\nschemes = [\"ws\"]\n", "no scheme"),
        ("[[network]]\nid = \"a b\"\nhosts = [\"x.org\"]\n", "the id must be"),
        ("[[network]]\nid = \"a\"\nhosts = [\"x.org\"]\n[[network]]\nid = \"a\"\nhosts = [\"y.org\"]\n", "no other"),
    ] {
        let error = Policy::parse(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    for (text, part) in [
        ("[[secret]]\nname = \"a\"\nvalue = \"\"\n", "1 to 65536 bytes"),
        ("[[secret]]\nname = \"a\"\n", "value"),
        ("[[secret]]\nname = \"a\"\nvalue = \"hunter2-hunter2\"\nplace = \"cookie\"\n", "is not known"),
        ("[[secret]]\nname = \"a\"\nvalue = \"hunter2-hunter2\"\nplaceholder = \"short\"\n", "at least 8"),
        ("[[secret]]\nname = \"a\"\nvalue = \"hunter2-hunter2\"\nx = 1\n", "x"),
        ("[[secret]]\nname = \"a\"\nvalue = \"hunter2-hunter2\"\nrole = \"a b\"\n", "no role"),
        ("[[secret]]\nname = \"a\"\nvalue = \"hunter2-hunter2\"\nenv = \"1A\"\n", "variable"),
        ("[[secret]]\nname = \"a\"\nvalue = \"hunter2-hunter2\n", "line 3"),
        ("{\"secret\": [{\"name\": \"a\", \"value\": \"hunter2-hunter2\", \"hosts\": 3}]}", "line 1"),
    ] {
        let error = SecretsFile::parse(text).unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains("hunter2"), "{text}: {error}");
    }
    assert_eq!(Policy::parse("").unwrap(), Policy::default());
    assert_eq!(Policy::parse("[limits]\nprocesses = 9\n[write]\nallow = [\"a\"]\n[read]\nhide = []\n").unwrap(), Policy::default());
    let json = r#"{"network": [{"id": "a", "host": "x.org", "port": 8443, "method": "PUT"}]}"#;
    let toml = "[[network]]\nid = \"a\"\nhosts = [\"x.org\"]\nports = [8443]\nmethods = [\"PUT\"]\n";
    assert_eq!(Policy::parse(json), Policy::parse(toml));
    assert!(!format!("{:?}", SecretsFile::parse(&secrets()).unwrap()).contains(VALUE));
}

#[test]
fn any_url_is_read_the_same_in_its_plain_form() {
    const PARTS: &[&str] = &[
        "https://",
        "http://",
        "api",
        ".",
        "example",
        "org",
        "/",
        "..",
        "%2e",
        "%41",
        "@",
        ":",
        "443",
        "8080",
        "[",
        "]",
        "::1",
        "127",
        "0x7f",
        "?",
        "#",
        "a=b",
        "&",
        "%",
        "xn--",
        "mnchen-3ya",
        "-",
        "\u{e9}",
        " ",
        "\\",
        ";",
        "%2F",
        "*",
        "~",
    ];
    let mut state = 7_u64;
    let mut next = |most: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % most
    };
    let mut read = 0;
    for _ in 0..crate::leak::cases() {
        let mut text = if next(3) == 0 { String::new() } else { "https://a.example.org/".to_owned() };
        (0..next(8)).for_each(|_| text.push_str(PARTS[next(PARTS.len())]));
        if let Ok(target) = Target::parse(&text) {
            read += 1;
            let plain = target.to_string();
            assert_eq!(Target::parse(&plain).as_ref(), Ok(&target), "{text} -> {plain}");
            assert_eq!(Target::parse(&plain).unwrap().to_string(), plain, "{text}");
            assert!(!target.path.split('/').any(|segment| matches!(segment, "." | "..")), "{text}");
        }
    }
    assert!(read > 2000, "{read}");
}

#[test]
fn any_file_is_read_or_refused() {
    const PARTS: &[&str] = &[
        "[[network]]\n",
        "[[secret]]\n",
        "id = \"a\"\n",
        "name = \"b\"\n",
        "value = \"hunter2-hunter2\"\n",
        "hosts = [\"x.org\"]\n",
        "host = \"*.y.org\"\n",
        "paths = [\"/**\"]\n",
        "ports = [443]\n",
        "port = 70000\n",
        "methods = \"GET\"\n",
        "effect = \"deny\"\n",
        "place = \"header:X\"\n",
        "x = 1\n",
        "[limits]\n",
        "{",
        "}",
        "\"",
        "=",
        "[",
        "]",
        "\u{e9}",
        "\\",
        "#",
        "'''",
        "\u{0}",
    ];
    let mut state = 11_u64;
    let mut next = |most: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % most
    };
    let (mut read, mut refused) = (0, 0);
    for _ in 0..crate::leak::cases() {
        let text: String = (0..next(9)).map(|_| PARTS[next(PARTS.len())]).collect();
        match Policy::parse(&text) {
            Ok(_) => read += 1,
            Err(error) => {
                refused += 1;
                assert!(!error.0.is_empty() && !error.0.contains("hunter2"), "{text}: {error}");
            }
        }
        if let Err(error) = SecretsFile::parse(&text) {
            assert!(!error.0.is_empty() && !error.0.contains("hunter2"), "{text}: {error}");
        }
    }
    assert!(read > 500 && refused > 5000, "{read} {refused}");
}
