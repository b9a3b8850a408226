//! Network rules that are known by name: what a package manager or git asks when it reads, and nothing that publishes, pushes or logs in.
//!
//! The requests are those that the tools' own documentation names: Cargo's "Registry Web API" and "Registry Index", npm's "registry" and "audit"
//! pages, PEP 503 and 691 for pip, Go's "GOPROXY protocol", git's "http-protocol".

use super::files::{BadFile, RawNetwork};

/// One rule of a preset.
struct Part {
    /// Behind the rule's own id.
    name: &'static str,
    /// Where it holds when the rule names no hosts.
    hosts: &'static [&'static str],
    methods: &'static [&'static str],
    /// Empty: all.
    paths: &'static [&'static str],
    /// What the path must end with.
    end: Option<&'static str>,
    query: &'static [&'static str],
}

const READ: Part = Part { name: "read", hosts: &[], methods: &["GET", "HEAD"], paths: &[], end: None, query: &[] };

const CARGO: &[Part] = &[
    Part { name: "index", hosts: &["index.crates.io"], ..READ },
    Part { name: "crates", hosts: &["static.crates.io"], ..READ },
    Part { name: "download", hosts: &["crates.io"], paths: &["/api/v1/crates/*/*/download"], ..READ },
];
const NPM: &[Part] = &[
    Part { name: "read", hosts: &["registry.npmjs.org"], ..READ },
    Part {
        name: "audit",
        hosts: &["registry.npmjs.org"],
        methods: &["POST"],
        paths: &["/-/npm/v1/security/advisories/bulk", "/-/npm/v1/security/audits/quick"],
        ..READ
    },
];
const PIP: &[Part] = &[
    Part { name: "index", hosts: &["pypi.org"], paths: &["/simple/**", "/pypi/**"], ..READ },
    Part { name: "files", hosts: &["files.pythonhosted.org"], ..READ },
];
const GO: &[Part] =
    &[Part { name: "modules", hosts: &["proxy.golang.org"], ..READ }, Part { name: "sums", hosts: &["sum.golang.org"], ..READ }];
const GIT: &[Part] = &[
    Part { name: "refs", end: Some("/info/refs"), query: &["service=git-upload-pack"], ..READ },
    Part { name: "objects", methods: &["POST"], end: Some("/git-upload-pack"), ..READ },
];
/// On a mirror that the rule names everything that is read lies where the mirror wants it.
const MIRROR: &[Part] = &[READ];

/// The rules that a rule with a preset stands for; the rule itself where it has none.
///
/// # Errors
/// [`BadFile`]: a preset that is not known, or a rule that says itself what its preset says.
pub(super) fn expanded(mut rule: RawNetwork) -> Result<Vec<RawNetwork>, BadFile> {
    let who = format!("network rule {:?}", rule.id);
    let Some(preset) = rule.preset.take() else { return Ok(vec![rule]) };
    let mirrored = !rule.hosts.is_empty();
    let parts = match (preset.as_str(), mirrored) {
        ("git", true) => GIT,
        ("git", false) => return Err(BadFile(format!("{who}: the preset git needs `hosts`: where the repositories are"))),
        ("cargo" | "pip" | "go", true) => MIRROR,
        ("npm", _) => NPM,
        ("cargo", false) => CARGO,
        ("pip", false) => PIP,
        ("go", false) => GO,
        _ => return Err(BadFile(format!("{who}: there is no preset {preset:?}; known are cargo, npm, pip, go and git"))),
    };
    let narrowed = !rule.paths.is_empty() && preset != "git";
    if narrowed || !rule.methods.is_empty() || !rule.query.is_empty() {
        return Err(BadFile(format!("{who}: its preset says what may be asked; leave `methods`, `paths` and `query` out, or the preset")));
    }
    if rule.effect != super::Effect::Allow {
        return Err(BadFile(format!("{who}: a preset allows; to deny, write a rule without one")));
    }
    let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let one = |part: &Part| RawNetwork {
        id: format!("{}.{}", rule.id, part.name),
        hosts: if mirrored { rule.hosts.clone() } else { own(part.hosts) },
        methods: own(part.methods),
        paths: if part.paths.is_empty() { rule.paths.clone() } else { own(part.paths) },
        end: part.end.map(str::to_owned),
        query: own(part.query),
        ..rule.clone()
    };
    Ok(parts.iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use crate::policy::{Policy, Target};

    /// The rule that lets the request pass.
    fn rule(policy: &str, method: &str, url: &str) -> Option<String> {
        let policy = Policy::parse(policy).unwrap();
        let target = Target::parse(url).unwrap();
        policy.network.iter().find(|rule| rule.matches(method, &target)).map(|rule| rule.id.clone())
    }

    fn check(policy: &str, passes: &[(&str, &str, &str)], denied: &[(&str, &str)]) {
        for (method, url, id) in passes {
            assert_eq!(rule(policy, method, url).as_deref(), Some(*id), "{method} {url}");
        }
        for (method, url) in denied {
            assert_eq!(rule(policy, method, url), None, "{method} {url}");
        }
    }

    #[test]
    fn cargo_reads_and_publishes_nothing() {
        check(
            "[[network]]\nid = \"c\"\npreset = \"cargo\"\n",
            &[
                ("GET", "https://index.crates.io/config.json", "c.index"),
                ("GET", "https://index.crates.io/se/rd/serde", "c.index"),
                ("GET", "https://static.crates.io/crates/serde/serde-1.0.0.crate", "c.crates"),
                ("GET", "https://crates.io/api/v1/crates/serde/1.0.0/download", "c.download"),
            ],
            &[
                ("PUT", "https://crates.io/api/v1/crates/new"),
                ("DELETE", "https://crates.io/api/v1/crates/serde/1.0.0/yank"),
                ("PUT", "https://crates.io/api/v1/crates/serde/owners"),
                ("GET", "https://crates.io/api/v1/me"),
                ("GET", "http://index.crates.io/config.json"),
                ("GET", "https://index.crates.io.evil.example/config.json"),
            ],
        );
    }

    #[test]
    fn npm_reads_and_audits_and_publishes_nothing() {
        check(
            "[[network]]\nid = \"n\"\npreset = \"npm\"\n",
            &[
                ("GET", "https://registry.npmjs.org/left-pad", "n.read"),
                ("GET", "https://registry.npmjs.org/@scope/x/-/x-1.0.0.tgz", "n.read"),
                ("POST", "https://registry.npmjs.org/-/npm/v1/security/advisories/bulk", "n.audit"),
            ],
            &[
                ("PUT", "https://registry.npmjs.org/left-pad"),
                ("PUT", "https://registry.npmjs.org/-/user/org.couchdb.user:me"),
                ("POST", "https://registry.npmjs.org/-/v1/login"),
                ("DELETE", "https://registry.npmjs.org/left-pad/-rev/1"),
                ("POST", "https://registry.npmjs.org/-/npm/v1/tokens"),
            ],
        );
        let mirror = "[[network]]\nid = \"n\"\npreset = \"npm\"\nhost = \"npm.example.org\"\nport = 4873\n";
        check(
            mirror,
            &[
                ("GET", "https://npm.example.org:4873/x", "n.read"),
                ("POST", "https://npm.example.org:4873/-/npm/v1/security/advisories/bulk", "n.audit"),
            ],
            &[("GET", "https://registry.npmjs.org/x"), ("PUT", "https://npm.example.org:4873/x"), ("GET", "https://npm.example.org/x")],
        );
    }

    #[test]
    fn pip_and_go_read() {
        check(
            "[[network]]\nid = \"p\"\npreset = \"pip\"\n[[network]]\nid = \"g\"\npreset = \"go\"\n",
            &[
                ("GET", "https://pypi.org/simple/requests/", "p.index"),
                ("GET", "https://files.pythonhosted.org/packages/aa/bb/x.whl", "p.files"),
                ("GET", "https://proxy.golang.org/golang.org/x/net/@v/list", "g.modules"),
                ("GET", "https://sum.golang.org/lookup/golang.org/x/net@v0.1.0", "g.sums"),
            ],
            &[
                ("POST", "https://upload.pypi.org/legacy/"),
                ("GET", "https://pypi.org/manage/account/"),
                ("POST", "https://pypi.org/simple/x/"),
            ],
        );
    }

    #[test]
    fn git_fetches_and_does_not_push() {
        check(
            "[[network]]\nid = \"r\"\npreset = \"git\"\nhost = \"git.example.org\"\npaths = [\"/team/**\"]\n",
            &[
                ("GET", "https://git.example.org/team/a.git/info/refs?service=git-upload-pack", "r.refs"),
                ("POST", "https://git.example.org/team/sub/a.git/git-upload-pack", "r.objects"),
            ],
            &[
                ("GET", "https://git.example.org/team/a.git/info/refs?service=git-receive-pack"),
                ("GET", "https://git.example.org/team/a.git/info/refs"),
                ("GET", "https://git.example.org/team/a.git/info/refs?service=git-upload-pack&service=git-receive-pack"),
                ("GET", "https://git.example.org/team/a.git/info/refs?service=git-upload-pack&%73ervice=git-receive-pack"),
                ("POST", "https://git.example.org/team/a.git/git-receive-pack"),
                ("GET", "https://git.example.org/other/a.git/info/refs?service=git-upload-pack"),
                ("GET", "https://git.example.org/team/a.git/HEAD"),
                ("POST", "https://git.example.org/team/a.git/info/lfs/objects/batch"),
            ],
        );
    }

    #[test]
    fn what_a_preset_says_is_not_said_again() {
        for (rest, part) in [
            ("preset = \"maven\"", "no preset"),
            ("preset = \"git\"", "needs `hosts`"),
            ("preset = \"npm\"\npaths = [\"/x\"]", "leave `methods`"),
            ("preset = \"npm\"\nmethods = [\"PUT\"]", "leave `methods`"),
            ("preset = \"npm\"\nquery = [\"a=b\"]", "leave `methods`"),
            ("preset = \"npm\"\neffect = \"deny\"", "allows"),
            ("host = \"a.example.org\"\nquery = [\"service\"]", "NAME=VALUE"),
        ] {
            let error = Policy::parse(&format!("[[network]]\nid = \"x\"\n{rest}\n")).unwrap_err();
            assert!(error.0.contains(part), "{rest}: {error}");
        }
    }

    #[test]
    fn a_parameter_that_a_rule_denies_is_found_in_every_spelling() {
        let policy = "[[network]]\nid = \"d\"\neffect = \"deny\"\nhost = \"a.example.org\"\nquery = [\"mode=write\"]\n[[network]]\nid = \"a\"\nhost = \"a.example.org\"\n";
        for query in ["mode=write", "x=1&mode=write", "%6dode=%77rite", "mode=read&mode=write"] {
            assert_eq!(rule(policy, "GET", &format!("https://a.example.org/?{query}")).as_deref(), Some("d"), "{query}");
        }
        assert_eq!(rule(policy, "GET", "https://a.example.org/?mode=read").as_deref(), Some("a"));
    }
}
