//! Names in a tree by which files make programs on the host run code: git's hooks and configuration, settings of editors, shells, package
//! managers and agents. Whoever may write such a file decides what the next program there does, so a box may not, unless it is approved.

use std::collections::HashMap;
use std::sync::OnceLock;

/// One name that is protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProtectedName {
    /// The rule's id, for reports and approvals.
    pub rule: &'static str,
    /// The name, or several parts of a path with `/` between them.
    pub name: &'static str,
    /// Whether it means something only at the root of the tree.
    pub root_only: bool,
}

const fn anywhere(rule: &'static str, name: &'static str) -> ProtectedName {
    ProtectedName { rule, name, root_only: false }
}

const fn at_root(rule: &'static str, name: &'static str) -> ProtectedName {
    ProtectedName { rule, name, root_only: true }
}

/// The rule of git's own directory.
pub const GIT_RULE: &str = "git-directory";
/// The rule of a directory that git takes for a repository without a working tree, whatever its name.
pub const BARE_RULE: &str = "git-bare-repository";

/// What in a git directory makes git run code or obey another directory: names below it.
pub const GIT_INSIDE: &[&str] = &[
    "hooks",
    "config",
    "config.worktree",
    "commondir",
    "gitdir",
    "info/attributes",
    "modules",
    "worktrees",
    "rebase-merge",
    "rebase-apply",
    "sequencer",
];

/// The tool-configuration table. Names are those that the programs' own documentation gives.
pub const NAMES: &[ProtectedName] = &[
    anywhere("git-attributes", ".gitattributes"),
    anywhere("git-modules", ".gitmodules"),
    anywhere("git-lfs", ".lfsconfig"),
    anywhere("vcs-other", ".hg/hgrc"),
    anywhere("vcs-other", ".jj/repo/config.toml"),
    anywhere("editor-vscode", ".vscode"),
    anywhere("editor-vscode", ".devcontainer"),
    anywhere("editor-vscode", ".devcontainer.json"),
    anywhere("editor-jetbrains", ".idea"),
    anywhere("editor-jetbrains", ".fleet"),
    anywhere("editor-zed", ".zed"),
    anywhere("editor-helix", ".helix"),
    anywhere("editor-vim", ".vimrc"),
    anywhere("editor-vim", ".exrc"),
    anywhere("editor-vim", ".nvimrc"),
    anywhere("editor-vim", ".nvim.lua"),
    anywhere("editor-vim", ".lvimrc"),
    anywhere("editor-emacs", ".dir-locals.el"),
    anywhere("editor-emacs", ".dir-locals-2.el"),
    anywhere("editor-visual-studio", ".vs"),
    anywhere("editor-vim", ".ycm_extra_conf.py"),
    anywhere("shell-direnv", ".envrc"),
    anywhere("shell-direnv", ".direnv"),
    anywhere("shell-startup", ".bashrc"),
    anywhere("shell-startup", ".bash_profile"),
    anywhere("shell-startup", ".bash_login"),
    anywhere("shell-startup", ".bash_logout"),
    anywhere("shell-startup", ".bash_aliases"),
    anywhere("shell-startup", ".profile"),
    anywhere("shell-startup", ".zshrc"),
    anywhere("shell-startup", ".zshenv"),
    anywhere("shell-startup", ".zprofile"),
    anywhere("shell-startup", ".zlogin"),
    anywhere("shell-startup", ".zlogout"),
    anywhere("shell-startup", ".inputrc"),
    anywhere("shell-startup", ".config/fish"),
    anywhere("tool-versions", ".tool-versions"),
    anywhere("tool-versions", ".mise.toml"),
    anywhere("tool-versions", ".mise.local.toml"),
    anywhere("tool-versions", ".mise"),
    anywhere("tool-versions", "mise.toml"),
    anywhere("tool-versions", "mise.local.toml"),
    anywhere("tool-versions", ".config/mise.toml"),
    anywhere("tool-versions", ".config/mise"),
    anywhere("agent-mcp", ".mcp.json"),
    anywhere("agent-settings", ".claude"),
    anywhere("agent-settings", ".claude.json"),
    anywhere("agent-settings", ".codex"),
    anywhere("agent-settings", ".gemini"),
    anywhere("agent-settings", ".cursor"),
    anywhere("agent-settings", ".cursorrules"),
    anywhere("agent-settings", ".windsurf"),
    anywhere("agent-settings", ".windsurfrules"),
    anywhere("agent-settings", ".clinerules"),
    anywhere("agent-settings", ".roo"),
    anywhere("agent-settings", ".continue"),
    anywhere("agent-settings", ".aider.conf.yml"),
    anywhere("agent-settings", ".amazonq"),
    anywhere("agent-settings", ".opencode"),
    anywhere("agent-settings", "opencode.json"),
    anywhere("agent-settings", "opencode.jsonc"),
    anywhere("agent-settings", ".goosehints"),
    anywhere("agent-settings", ".github/copilot-instructions.md"),
    anywhere("agent-instructions", "CLAUDE.md"),
    anywhere("agent-instructions", "CLAUDE.local.md"),
    anywhere("agent-instructions", "AGENTS.md"),
    anywhere("agent-instructions", "AGENTS.override.md"),
    anywhere("agent-instructions", "GEMINI.md"),
    anywhere("agent-settings", "aedile.toml"),
    anywhere("agent-settings", ".aedile"),
    anywhere("packages-npm", ".npmrc"),
    anywhere("packages-npm", ".yarnrc"),
    anywhere("packages-npm", ".yarnrc.yml"),
    anywhere("packages-npm", ".yarn/plugins"),
    anywhere("packages-npm", ".yarn/releases"),
    anywhere("packages-npm", ".pnpmfile.cjs"),
    anywhere("packages-npm", ".pnp.cjs"),
    anywhere("packages-npm", ".pnp.loader.mjs"),
    anywhere("packages-npm", "bunfig.toml"),
    anywhere("packages-cargo", ".cargo"),
    anywhere("packages-cargo", "rust-toolchain"),
    anywhere("packages-cargo", "rust-toolchain.toml"),
    anywhere("packages-python", "pip.conf"),
    anywhere("packages-python", ".pypirc"),
    anywhere("packages-python", "sitecustomize.py"),
    anywhere("packages-python", "usercustomize.py"),
    anywhere("packages-ruby", ".bundle/config"),
    anywhere("packages-ruby", ".gemrc"),
    anywhere("packages-ruby", ".irbrc"),
    anywhere("packages-ruby", ".pryrc"),
    anywhere("packages-java", ".mvn"),
    anywhere("packages-java", "gradle/wrapper"),
    anywhere("packages-java", ".sbtopts"),
    anywhere("packages-java", ".jvmopts"),
    anywhere("packages-r", ".Rprofile"),
    anywhere("packages-php", ".user.ini"),
    anywhere("build-bazel", ".bazelrc"),
    anywhere("build-bazel", ".bazeliskrc"),
    anywhere("build-bazel", "tools/bazel"),
    anywhere("build-buck", ".buckconfig"),
    anywhere("build-just", ".justfile"),
    anywhere("hooks-manager", ".husky"),
    anywhere("hooks-manager", ".pre-commit-config.yaml"),
    anywhere("hooks-manager", ".pre-commit-hooks.yaml"),
    anywhere("hooks-manager", "lefthook.yml"),
    anywhere("hooks-manager", ".lefthook.yml"),
    anywhere("hooks-manager", "lefthook-local.yml"),
    anywhere("hooks-manager", ".lefthook-local.yml"),
    anywhere("hooks-manager", "lefthook.yaml"),
    anywhere("hooks-manager", "lefthook.toml"),
    anywhere("hooks-manager", "lefthook.json"),
    anywhere("hooks-manager", "lefthook.jsonc"),
    anywhere("hooks-manager", ".lefthook.yaml"),
    anywhere("hooks-manager", ".lefthook.toml"),
    anywhere("hooks-manager", ".lefthook.json"),
    anywhere("hooks-manager", ".lefthook.jsonc"),
    anywhere("hooks-manager", "lefthook-local.yaml"),
    anywhere("hooks-manager", "lefthook-local.toml"),
    anywhere("hooks-manager", "lefthook-local.json"),
    anywhere("hooks-manager", "lefthook-local.jsonc"),
    anywhere("hooks-manager", ".lefthook-local.yaml"),
    anywhere("hooks-manager", ".lefthook-local.toml"),
    anywhere("hooks-manager", ".lefthook-local.json"),
    anywhere("hooks-manager", ".lefthook-local.jsonc"),
    anywhere("hooks-manager", ".config/lefthook.yml"),
    anywhere("hooks-manager", ".config/lefthook.yaml"),
    anywhere("hooks-manager", ".config/lefthook.toml"),
    anywhere("hooks-manager", ".config/lefthook.json"),
    anywhere("hooks-manager", ".lintstagedrc"),
    anywhere("hooks-manager", ".lintstagedrc.json"),
    anywhere("hooks-manager", ".lintstagedrc.yaml"),
    anywhere("hooks-manager", ".lintstagedrc.yml"),
    anywhere("hooks-manager", ".lintstagedrc.js"),
    anywhere("hooks-manager", ".lintstagedrc.cjs"),
    anywhere("hooks-manager", ".lintstagedrc.mjs"),
    anywhere("hooks-manager", ".lintstagedrc.ts"),
    anywhere("hooks-manager", ".lefthook"),
    anywhere("hooks-manager", ".overcommit.yml"),
    anywhere("hooks-manager", ".githooks"),
    anywhere("debugger", ".gdbinit"),
    anywhere("debugger", ".lldbinit"),
    anywhere("debugger", ".pdbrc"),
    anywhere("terminal", ".tmux.conf"),
    anywhere("terminal", ".screenrc"),
    anywhere("credentials-use", ".netrc"),
    anywhere("credentials-use", ".curlrc"),
    anywhere("credentials-use", ".wgetrc"),
    anywhere("credentials-use", ".ssh"),
    anywhere("credentials-use", ".gnupg"),
    anywhere("credentials-use", ".gitconfig"),
    anywhere("credentials-use", ".config/git"),
    at_root("ci-workflow", ".github/workflows"),
    at_root("ci-workflow", ".github/actions"),
    at_root("ci-workflow", ".github/dependabot.yml"),
    at_root("ci-workflow", ".github/dependabot.yaml"),
    at_root("ci-workflow", ".gitlab-ci.yml"),
    at_root("ci-workflow", ".gitlab"),
    at_root("ci-workflow", ".circleci"),
    at_root("ci-workflow", ".travis.yml"),
    at_root("ci-workflow", ".drone.yml"),
    at_root("ci-workflow", ".drone.yaml"),
    at_root("ci-workflow", ".woodpecker"),
    at_root("ci-workflow", ".woodpecker.yml"),
    at_root("ci-workflow", ".woodpecker.yaml"),
    at_root("ci-workflow", ".buildkite"),
    at_root("ci-workflow", ".forgejo/workflows"),
    at_root("ci-workflow", ".gitea/workflows"),
    at_root("ci-workflow", ".teamcity"),
    at_root("ci-workflow", ".cirrus.yml"),
    at_root("ci-workflow", ".appveyor.yml"),
    at_root("ci-workflow", "appveyor.yml"),
    at_root("ci-workflow", "azure-pipelines.yml"),
    at_root("ci-workflow", "azure-pipelines.yaml"),
    at_root("ci-workflow", "bitbucket-pipelines.yml"),
    at_root("ci-workflow", "Jenkinsfile"),
    at_root("ci-workflow", ".ci"),
];

/// Ends of names of files that an editor opens as a project, with commands in it.
const PROJECT_ENDS: [ProtectedName; 2] = [anywhere("editor-sublime", ".sublime-project"), anywhere("editor-vscode", ".code-workspace")];

/// The form in which two names are the same to some file system: code points that HFS+ skips are left out, case is folded, and what NTFS
/// drops at the end (dots, spaces, the name of a stream) is cut off.
pub fn folded(name: &str) -> String {
    if name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-')) {
        return name.to_owned();
    }
    let skipped = |c: &char| !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let plain: String = name.split(':').next().unwrap_or_default().chars().filter(skipped).collect();
    plain.trim_end_matches(['.', ' ']).to_uppercase().to_lowercase()
}

/// Whether some file system takes the name for `.git`; `git~1` is its short name on NTFS.
pub fn is_git(name: &str) -> bool {
    let plain = folded(name);
    plain == ".git" || plain == "git~1"
}

/// The entry of the table that protects what lies at this path (relative, `/` between parts) itself. What lies below a protected directory is
/// protected with it and has no entry of its own. Git's own directory is none of the table: see [`is_git`].
pub fn name_at(path: &str) -> Option<&'static ProtectedName> {
    let last = folded(path.rsplit('/').next()?);
    if let Some(entry) = PROJECT_ENDS.iter().find(|entry| last.ends_with(entry.name)) {
        return Some(entry);
    }
    let candidates = by_last_part().get(&last)?;
    let parts: Vec<String> = path.split('/').map(folded).collect();
    candidates.iter().copied().find(|entry| {
        let wanted = entry.name.split('/');
        let count = wanted.clone().count();
        count <= parts.len()
            && (!entry.root_only || count == parts.len())
            && wanted.zip(&parts[parts.len() - count..]).all(|(wanted, part)| wanted.eq_ignore_ascii_case(part))
    })
}

/// An entry of several parts that begins with what lies at this path: whoever puts a link there decides what all of it is.
pub fn begins_at(path: &str) -> Option<&'static ProtectedName> {
    let parts: Vec<String> = path.split('/').map(folded).collect();
    NAMES.iter().find(|entry| {
        let wanted: Vec<&str> = entry.name.split('/').collect();
        (1..wanted.len().min(parts.len() + 1)).any(|count| {
            (!entry.root_only || count == parts.len())
                && wanted.iter().zip(&parts[parts.len() - count..]).all(|(wanted, part)| wanted.eq_ignore_ascii_case(part))
        })
    })
}

/// The table by the last part of its names: it is asked about every entry of a tree.
fn by_last_part() -> &'static HashMap<String, Vec<&'static ProtectedName>> {
    static TABLE: OnceLock<HashMap<String, Vec<&'static ProtectedName>>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table: HashMap<String, Vec<&'static ProtectedName>> = HashMap::new();
        for entry in NAMES {
            table.entry(folded(entry.name.rsplit('/').next().unwrap_or_default())).or_default().push(entry);
        }
        table
    })
}

/// The rule that protects the path or a directory above it, with the path of what is protected.
pub fn rule_over(path: &str) -> Option<(&'static str, &str)> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    for above in ends.filter_map(|end| path.get(..end)).filter(|above| !above.is_empty()) {
        if above.rsplit('/').next().is_some_and(is_git) {
            return Some((GIT_RULE, above));
        }
        if let Some(entry) = name_at(above) {
            return Some((entry.rule, above));
        }
    }
    None
}

/// What a name says of a file's secrecy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Secrecy {
    /// It is made to hold secrets.
    Secret,
    /// It is secret when a private key is in it; certificates have the same names.
    IfPrivateKey,
}

/// Names of files that are made to hold secrets.
const SECRET_NAMES: &[&str] = &[
    ".env",
    ".envrc.local",
    ".netrc",
    ".git-credentials",
    ".pgpass",
    ".my.cnf",
    ".htpasswd",
    ".pypirc",
    ".dockercfg",
    ".vault-token",
    ".terraformrc",
    "terraform.tfvars",
    "terraform.tfstate",
    "credentials.json",
    "client_secret.json",
    "service-account.json",
    "service_account.json",
    "serviceaccountkey.json",
    "secrets.yml",
    "secrets.yaml",
    "secrets.json",
    "secrets.toml",
    "master.key",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ecdsa_sk",
    "id_ed25519",
    "id_ed25519_sk",
];
/// Ends of names of stores of keys.
const SECRET_ENDS: &[&str] = &[".p12", ".pfx", ".jks", ".keystore", ".kdbx", ".ppk", ".tfvars", ".age-key"];
/// Ends of names of files that hold a certificate or a key.
const KEY_ENDS: &[&str] = &[".pem", ".key", ".crt", ".cer", ".der", ".asc", ".gpg"];
/// Ends of `.env.NAME` that hold an example.
const EXAMPLES: &[&str] = &["example", "sample", "template", "dist", "defaults", "schema", "tpl"];

/// What the name of a file says of its secrecy; `None` for an ordinary file.
pub fn secrecy(name: &str) -> Option<Secrecy> {
    let name = name.to_ascii_lowercase();
    let example = |rest: &str| rest.split(['.', '-', '_']).any(|part| EXAMPLES.contains(&part));
    if SECRET_NAMES.contains(&name.as_str()) {
        return Some(Secrecy::Secret);
    }
    if let Some(rest) = name.strip_prefix(".env.").or_else(|| name.strip_prefix(".env-")).or_else(|| name.strip_prefix(".env_")) {
        return (!example(rest)).then_some(Secrecy::Secret);
    }
    if SECRET_ENDS.iter().any(|end| name.ends_with(end)) || (name.ends_with(".env") && !example(&name)) {
        return Some(Secrecy::Secret);
    }
    KEY_ENDS.iter().any(|end| name.ends_with(end)).then_some(Secrecy::IfPrivateKey)
}

/// Whether the beginning of a file shows a private key, in any of the PEM forms.
pub fn holds_private_key(head: &[u8]) -> bool {
    head.windows(11).any(|window| window == b"PRIVATE KEY")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_protected_name_is_known() {
        for path in [
            ".vscode",
            "a/b/.VSCode",
            ".vscode. ",
            ".vs\u{200c}code",
            "x/.mcp.json",
            "CLAUDE.md",
            "sub/claude.md",
            ".cargo",
            "a/gradle/wrapper",
            ".vscode::$INDEX_ALLOCATION",
            "a/My.sublime-project",
            "p.Code-Workspace",
            "tools/bazel",
            ".config/lefthook.json",
        ] {
            assert!(name_at(path).is_some(), "{path:?}");
        }
        for path in [
            "vscode",
            "a/.vscode/settings.json",
            "src/main.rs",
            "gradle",
            "x/Jenkinsfile",
            "sub/.github/workflows",
            ".github",
            ".config",
            "wrapper",
        ] {
            assert_eq!(name_at(path), None, "{path:?}");
        }
        assert_eq!(name_at("Jenkinsfile").map(|entry| entry.rule), Some("ci-workflow"));
    }

    #[test]
    fn where_a_name_of_several_parts_begins_is_known() {
        for path in [".bundle", "a/.Config", ".jj/repo", "a/.jj", ".github", "x/gradle"] {
            assert!(begins_at(path).is_some(), "{path}");
        }
        for path in [".bundle/config", "src", "x/.forgejo", "repo", ".vscode", "jj/repo"] {
            assert_eq!(begins_at(path), None, "{path}");
        }
    }

    #[test]
    fn what_lies_below_is_protected_with_it() {
        assert_eq!(rule_over(".github/workflows/ci.yml"), Some(("ci-workflow", ".github/workflows")));
        assert_eq!(rule_over("a/.GIT/hooks/x"), Some((GIT_RULE, "a/.GIT")));
        assert_eq!(rule_over("a/git~1"), Some((GIT_RULE, "a/git~1")));
        assert_eq!(rule_over("src/lib.rs"), None);
    }

    #[test]
    fn names_of_secrets_are_known_and_examples_pass() {
        for name in [".env", ".ENV", ".env.local", ".env.production", "prod.env", "id_ed25519", "a.p12", "x.tfvars"] {
            assert_eq!(secrecy(name), Some(Secrecy::Secret), "{name}");
        }
        for name in ["server.pem", "tls.key", "ca.crt"] {
            assert_eq!(secrecy(name), Some(Secrecy::IfPrivateKey), "{name}");
        }
        for name in [".env.example", ".env.sample", ".env.local.example", "env", "environment.rs", "key.rs", "id_rsa.pub", "sample.env"] {
            assert_eq!(secrecy(name), None, "{name}");
        }
        assert!(holds_private_key(b"-----BEGIN OPENSSH PRIVATE KEY-----") && !holds_private_key(b"-----BEGIN CERTIFICATE-----"));
    }

    #[test]
    fn the_table_has_no_entry_twice() {
        let mut names: Vec<String> = NAMES.iter().map(|entry| entry.name.to_lowercase()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
