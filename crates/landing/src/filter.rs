//! The import filter: which paths and kinds of entry a change may hold. Pure: what git said about the change comes in, a verdict goes out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aedile_core::project::ProjectRules;
use aedile_core::protected;
use aedile_core::scope::{BadScope, Scope};
use aedile_git::AddedSecret;
use unicode_normalization::UnicodeNormalization;

/// Lines of a verdict that are kept; beyond that it says how many more there are.
const LINES_MAX: usize = 100;
/// Characters of a path that are shown.
const PATH_CHARS_MAX: usize = 300;

/// One path that a change touches. A rename is two of them: the old path removed, the new one written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Touched {
    /// The path, relative, `/` between parts; a byte that is not UTF-8 stands as U+FFFD.
    pub(crate) path: String,
    /// The mode that git gives the entry afterwards (`0o100644`, ...); 0 when it is removed.
    pub(crate) mode: u32,
    /// Where a symbolic link points, when the entry is one afterwards.
    pub(crate) link: Option<String>,
}

/// What the filter says. Each line is a path and the rule that speaks against it: `src/.vscode [editor-vscode]`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Verdict {
    /// What may never pass; empty when the change may be imported.
    pub(crate) violations: Vec<String>,
    /// What passes when a person approves it.
    pub(crate) asks: Vec<String>,
}

/// The rule of globs that a project protects besides the table.
const PROTECTED_RULE: &str = "protected-path";

/// Decides which entries a change of a task may hold.
#[derive(Debug)]
pub(crate) struct Filter {
    scope: Scope,
    protected: Scope,
    harmless: Scope,
    allow_protected: bool,
    build_dirs: Vec<String>,
    approved: BTreeSet<String>,
}

impl Filter {
    /// Makes the filter of a task with these scope globs under the rules of its run; `approved` are lines that a person let pass.
    ///
    /// # Errors
    /// [`BadScope`] names the glob that cannot be used.
    pub(crate) fn new(scope: &[String], rules: &ProjectRules, approved: &[String]) -> Result<Self, BadScope> {
        let trim = |dir: &String| dir.trim_start_matches("./").trim_end_matches('/').to_owned();
        Ok(Self {
            scope: Scope::new(scope)?,
            protected: Scope::new(&rules.protected)?,
            harmless: Scope::new(&rules.harmless)?,
            allow_protected: rules.allow_protected,
            build_dirs: rules.build_dirs.iter().map(trim).filter(|dir| !dir.is_empty()).collect(),
            approved: approved.iter().cloned().collect(),
        })
    }

    /// Checks every path, and the secrets that are added.
    pub(crate) fn check(&self, touched: &[Touched], added: &[AddedSecret]) -> Verdict {
        let mut verdict = Verdict::default();
        for entry in touched {
            let shown = shown(&entry.path);
            if let Some((rule, words)) = self.rule_against(entry) {
                verdict.violations.push(format!("{shown}: {words} [{rule}]"));
            } else if let Some(rule) = self.asks_about(&entry.path).or_else(|| self.asks_about_link(entry)) {
                let line = format!("{shown} [{rule}]");
                if !self.approved.contains(&line) {
                    verdict.asks.push(line);
                }
            }
        }
        for AddedSecret { path, rule, known } in added {
            let path = &shown(path);
            let line = format!("{path} [{rule}]");
            if *known {
                verdict.violations.push(format!("{path}: holds the value of a secret [{rule}]"));
            } else if !self.approved.contains(&line) && !self.harmless.allows(path) && !verdict.asks.contains(&line) {
                verdict.asks.push(line);
            }
        }
        bound(&mut verdict.violations);
        bound(&mut verdict.asks);
        verdict
    }

    /// The rule by which only a person lets the path pass.
    fn asks_about(&self, path: &str) -> Option<&'static str> {
        if self.allow_protected {
            return None;
        }
        let table = protected::rule_over(path).map(|(rule, _)| rule);
        if self.protected.allows(path) {
            return Some(table.unwrap_or(PROTECTED_RULE));
        }
        table.filter(|_| !self.harmless.allows(path))
    }

    /// A link at the beginning of a protected name of several parts decides what all of it is: `.config` of `.config/mise`.
    fn asks_about_link(&self, entry: &Touched) -> Option<&'static str> {
        let begins = (entry.mode == 0o120_000 && !self.allow_protected).then(|| protected::begins_at(&entry.path)).flatten()?;
        (!self.harmless.allows(&entry.path)).then_some(begins.rule)
    }

    /// The rule by which nobody lets the entry pass, with words.
    fn rule_against(&self, entry: &Touched) -> Option<(&'static str, String)> {
        if let Some((rule, problem)) = bad_name(&entry.path) {
            return Some((rule, problem.to_owned()));
        }
        let below = |dir: &String| entry.path.strip_prefix(dir.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if let Some(dir) = self.build_dirs.iter().find(|dir| below(dir)) {
            return Some(("build-directory", format!("`{dir}` holds what builds write and is never part of a change")));
        }
        if !self.scope.allows(&entry.path) {
            return Some(("scope", "is outside the task's scope".to_owned()));
        }
        match entry.mode {
            0 | 0o100_644 | 0o100_755 => None,
            0o120_000 => {
                let problem = match &entry.link {
                    Some(target) => bad_link(&entry.path, target)?,
                    None => "is a symbolic link whose target cannot be read",
                };
                Some(("link", problem.to_owned()))
            }
            0o160_000 => Some(("gitlink", "is a nested repository (gitlink); its files must be part of the change themselves".to_owned())),
            mode => Some(("mode", format!("has the mode {mode:o}; only ordinary files, executables and symbolic links may be landed"))),
        }
    }
}

/// Lines about paths that some file system takes for one: in its directory, each name that stands twice in the form in which case and the
/// composition of characters make no difference. Only where one of the two is touched.
pub(crate) fn twins<'a>(touched: &[Touched], all: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: HashMap<String, &str> = HashMap::new();
    let mut twins: BTreeMap<String, (String, String)> = BTreeMap::new();
    for path in all {
        // Each directory on the way is a name, too.
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for name in ends.map(|end| &path[..end]) {
            let known = *names.entry(plain(name)).or_insert(name);
            if known != name {
                twins.entry(plain(name)).or_insert_with(|| (known.to_owned(), name.to_owned()));
            }
        }
    }
    let is_touched = |name: &str| {
        touched
            .iter()
            .any(|entry| entry.mode != 0 && entry.path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    };
    let mut lines: Vec<String> = twins
        .values()
        .filter(|(one, other)| is_touched(one) || is_touched(other))
        .map(|(one, other)| {
            let (one, other) = if is_touched(other) { (other, one) } else { (one, other) };
            format!("{}: some file systems take it for {} [path-twin]", shown(one), shown(other))
        })
        .collect();
    bound(&mut lines);
    lines
}

/// The form in which file systems that ignore case and composition compare paths.
fn plain(path: &str) -> String {
    let composed: String = path.nfc().collect();
    composed.split('/').map(protected::folded).collect::<Vec<_>>().join("/")
}

/// Returns the path as it may stand in one line of a report.
pub(crate) fn shown(path: &str) -> String {
    let mut text: String = path.chars().take(PATH_CHARS_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if path.chars().nth(PATH_CHARS_MAX).is_some() {
        text.push('…');
    }
    text
}

fn bound(lines: &mut Vec<String>) {
    if lines.len() > LINES_MAX {
        let more = lines.len() - LINES_MAX;
        lines.truncate(LINES_MAX);
        lines.push(format!("... and {more} more"));
    }
}

fn bad_name(path: &str) -> Option<(&'static str, &'static str)> {
    if path.contains('\u{fffd}') {
        return Some(("path-form", "has a name that is not UTF-8"));
    }
    if path.chars().any(char::is_control) {
        return Some(("path-form", "has a control character in its name"));
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Some(("path-form", "is not a plain relative path"));
    }
    let git = path.split(['/', '\\']).any(is_dot_git);
    git.then_some((protected::GIT_RULE, "names git's own directory, or some file system would take it for that"))
}

/// Whether some file system takes the name for `.git`: HFS+ skips certain code points and folds case, NTFS drops trailing dots and spaces,
/// knows streams (`.git::$INDEX_ALLOCATION`) and short names (`git~1`).
fn is_dot_git(part: &str) -> bool {
    let skipped = |c: &char| !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let plain: String = part.split(':').next().unwrap_or_default().chars().filter(skipped).collect();
    let plain = plain.trim_end_matches(['.', ' ']);
    let same = |name: &str| plain.to_lowercase() == name || plain.to_uppercase() == name.to_uppercase();
    same(".git") || same("git~1")
}

/// Only leading `..` parts are allowed, and no more than there are directories above the link: then no chain of links that were checked leaves the tree.
fn bad_link(path: &str, target: &str) -> Option<&'static str> {
    if target.is_empty() || target.contains('\u{fffd}') || target.chars().any(char::is_control) {
        return Some("is a symbolic link whose target is no plain path");
    }
    if target.starts_with(['/', '\\']) || target.contains(':') {
        return Some("is a symbolic link to an absolute path");
    }
    let depth = path.split('/').count() - 1;
    let parts: Vec<&str> = target.split(['/', '\\']).filter(|part| !matches!(*part, "" | ".")).collect();
    let up = parts.iter().take_while(|part| **part == "..").count();
    if up > depth || parts[up..].contains(&"..") {
        return Some("is a symbolic link that leaves the tree (`..` may only stand at its beginning and not lead above the root)");
    }
    parts.iter().any(|part| is_dot_git(part)).then_some("is a symbolic link into git's own directory")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(scope: &[&str], protected: &[&str], allow: bool) -> Filter {
        let own = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect::<Vec<_>>();
        let rules =
            ProjectRules { protected: own(protected), build_dirs: own(&["target/"]), allow_protected: allow, ..ProjectRules::default() };
        Filter::new(&own(scope), &rules, &[]).unwrap()
    }

    fn file(path: &str) -> Touched {
        Touched { path: path.to_owned(), mode: 0o100_644, link: None }
    }

    fn link(path: &str, target: &str) -> Touched {
        Touched { path: path.to_owned(), mode: 0o120_000, link: Some(target.to_owned()) }
    }

    fn refused(filter: &Filter, entry: Touched) -> bool {
        !filter.check(&[entry], &[]).violations.is_empty()
    }

    #[test]
    fn only_paths_of_the_scope_pass_and_removals_count_too() {
        let f = filter(&["src/**", "README.md"], &[], false);
        for good in ["src/a.rs", "src/x/y.rs", "README.md"] {
            assert!(!refused(&f, file(good)), "{good}");
        }
        for bad in ["Cargo.toml", "docs/a.md", "target/debug/x", "src/../x", "src//x", "/src/x", "src/./x"] {
            assert!(refused(&f, file(bad)), "{bad}");
        }
        assert!(refused(&f, Touched { mode: 0, ..file("lib.rs") }), "a removal outside the scope");
        assert!(!refused(&f, Touched { mode: 0, ..file("src/lib.rs") }), "a removal within it");
    }

    #[test]
    fn build_directories_never_pass_even_within_the_scope() {
        let f = filter(&["**"], &[], false);
        assert!(refused(&f, file("target/x")));
        assert!(!refused(&f, file("targets/x")) && !refused(&f, file("a/target/x")));
    }

    #[test]
    fn every_spelling_of_git_directories_is_refused() {
        let f = filter(&["**"], &[], true);
        for name in [
            ".git",
            ".GIT",
            ".Git",
            ".git.",
            ".git ",
            ".git. .",
            "git~1",
            "GIT~1",
            ".git::$INDEX_ALLOCATION",
            ".git:x",
            ".g\u{200c}it",
            "\u{feff}.git",
            ".g\u{131}t",
            ".gi\u{202e}t",
            "a\\.git",
            ".git\\hooks",
        ] {
            for path in [format!("src/{name}"), format!("{name}/config"), name.to_owned()] {
                assert!(refused(&f, file(&path)), "{path:?}");
            }
        }
        for good in [".gitignore", ".gitattributes", ".github/x", "git", "a.git", "src/.gitkeep"] {
            assert!(!refused(&f, file(good)), "{good}");
        }
    }

    #[test]
    fn links_stay_in_the_tree() {
        let f = filter(&["**"], &[], true);
        for (path, target) in [("a", "b"), ("a/b", "../c"), ("a/b/c", "../../d/e"), ("a", "./x/y"), ("a", "dir/")] {
            assert!(!refused(&f, link(path, target)), "{path} -> {target}");
        }
        for (path, target) in [
            ("a", ".."),
            ("a", "../x"),
            ("a/b", "../../x"),
            ("a", "/etc/passwd"),
            ("a/b", "c/../../.."),
            ("a/b", "c/.."),
            ("a", ".git/config"),
            ("a/b", "../.GIT"),
            ("a", ""),
            ("a", "C:/x"),
            ("a", "\\\\host\\x"),
            ("a", "x\ny"),
        ] {
            assert!(refused(&f, link(path, target)), "{path} -> {target}");
        }
        assert!(refused(&f, Touched { link: None, ..link("a", "b") }), "an unread target");
    }

    #[test]
    fn a_link_where_a_protected_name_begins_waits_for_a_person() {
        let f = filter(&["**"], &[], false);
        for path in [".config", "sub/gradle", ".yarn", ".github"] {
            let verdict = f.check(&[link(path, "plain"), file("plain/x")], &[]);
            assert!(
                verdict.violations.is_empty() && verdict.asks.len() == 1 && verdict.asks[0].starts_with(&format!("{path} [")),
                "{verdict:?}"
            );
        }
        assert_eq!(f.check(&[link("docs", "plain"), file(".config/plain")], &[]), Verdict::default());
    }

    #[test]
    fn nested_repositories_and_odd_modes_are_refused() {
        let f = filter(&["**"], &[], true);
        for mode in [0o160_000, 0o104_755, 0o102_755, 0o100_664, 0o040_000, 0o020_666] {
            assert!(refused(&f, Touched { mode, ..file("a") }), "{mode:o}");
        }
        assert!(!refused(&f, Touched { mode: 0o100_755, ..file("a") }));
    }

    #[test]
    fn what_a_person_may_approve_is_told_apart_from_violations() {
        let f = filter(&["**"], &["aedile.toml", ".github/**", "gates/**"], false);
        let verdict = f.check(&[file("aedile.toml"), file(".github/workflows/ci.yml"), file("gates/x"), file("src/x")], &[]);
        let asks = ["aedile.toml [agent-settings]", ".github/workflows/ci.yml [ci-workflow]", "gates/x [protected-path]"];
        assert_eq!((verdict.violations.len(), verdict.asks), (0, asks.map(str::to_owned).to_vec()));
        assert_eq!(filter(&["**"], &["aedile.toml"], true).check(&[file("aedile.toml")], &[]), Verdict::default());
    }

    #[test]
    fn every_name_of_the_table_is_asked_about_until_it_is_approved_or_harmless() {
        for name in protected::NAMES {
            let paths = [name.name.to_owned(), format!("{}/x", name.name.to_uppercase()), format!("{}. ", name.name)];
            for path in paths {
                let f = filter(&["**"], &[], false);
                let line = format!("{path} [{}]", name.rule);
                let asked = f.check(&[file(&path)], &[]);
                // Two entries of the table may name one path; the first that does gives the rule.
                assert!(asked.asks.len() == 1 && asked.violations.is_empty(), "{path}: {asked:?}");
                let rules = ProjectRules::default();
                let approved = Filter::new(&["**".to_owned()], &rules, &asked.asks).unwrap();
                assert_eq!(approved.check(&[file(&path)], &[]), Verdict::default(), "{line}");
            }
        }
        let rules = ProjectRules { harmless: vec!["**/AGENTS.md".to_owned()], ..ProjectRules::default() };
        let f = Filter::new(&["**".to_owned()], &rules, &["b/AGENTS.md [agent-instructions]".to_owned()]).unwrap();
        assert_eq!(f.check(&[file("a/AGENTS.md"), file("AGENTS.md")], &[]), Verdict::default());
        assert_eq!(f.check(&[file(".envrc")], &[]).asks, [".envrc [shell-direnv]"]);
    }

    #[test]
    fn secrets_are_told_by_their_rule_and_known_values_pass_for_nobody() {
        let added = |path: &str, rule: &str, known| AddedSecret { path: path.to_owned(), rule: rule.to_owned(), known };
        let rules = ProjectRules { harmless: vec!["tests/**".to_owned()], allow_protected: true, ..ProjectRules::default() };
        let f = Filter::new(&["**".to_owned()], &rules, &["a [leak.jwt]".to_owned(), "a [secret.forge]".to_owned()]).unwrap();
        let all = [added("a", "leak.jwt", false), added("b", "leak.jwt", false), added("tests/x", "leak.jwt", false)];
        assert_eq!(f.check(&[], &all), Verdict { violations: Vec::new(), asks: vec!["b [leak.jwt]".to_owned()] });
        let known = f.check(&[], &[added("tests/x", "secret.forge", true), added("a", "secret.forge", true)]);
        assert_eq!((known.violations.len(), known.asks.len()), (2, 0));
    }

    #[test]
    fn paths_that_a_file_system_takes_for_one_are_named() {
        let all = ["src/a.rs", "src/A.rs", "SRC/b.rs", "caf\u{e9}", "cafe\u{301}", "plain", "x/y"];
        let told = |path: &str| twins(&[file(path)], all.into_iter());
        assert!(
            told("src/A.rs").iter().any(|line| line.starts_with("src/A.rs: ") && line.contains("[path-twin]")),
            "{:?}",
            told("src/A.rs")
        );
        assert!(told("SRC/b.rs").iter().any(|line| line.starts_with("SRC: ")), "{:?}", told("SRC/b.rs"));
        assert_eq!(told("cafe\u{301}").len(), 1);
        assert!(told("plain").is_empty() && told("x/y").is_empty());
        assert!(twins(&[Touched { mode: 0, ..file("plain") }], all.into_iter()).is_empty(), "what is removed has no twin");
    }

    #[test]
    fn any_spelling_of_a_protected_name_is_protected() {
        let mut state = 13_u64;
        let mut next = |most: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % most
        };
        let f = filter(&["**"], &[], false);
        for _ in 0..20_000 {
            let name = protected::NAMES[next(protected::NAMES.len())].name;
            let mut path = String::new();
            for c in name.chars() {
                match next(8) {
                    0 => path.extend(c.to_uppercase()),
                    1 => path.extend(['\u{200d}', c]),
                    2 if c == 's' => path.push('\u{17f}'),
                    3 if c == 'k' => path.push('\u{212a}'),
                    _ => path.push(c),
                }
            }
            path.push_str(["", ".", " ", ". ", "::$DATA"][next(5)]);
            let verdict = f.check(&[file(&path)], &[]);
            assert_eq!(verdict.asks.len() + verdict.violations.len(), 1, "{name} as {path:?}");
        }
    }

    #[test]
    fn names_that_lie_are_refused_and_shown_harmlessly() {
        let f = filter(&["**"], &[], false);
        let verdict = f.check(&[file("a\u{1b}[31m\nb"), file("x\u{fffd}")], &[]);
        assert_eq!(verdict.violations.len(), 2);
        assert!(verdict.violations.iter().all(|line| !line.chars().any(char::is_control)));
    }

    #[test]
    fn a_verdict_is_bounded() {
        let many: Vec<Touched> = (0..5000).map(|n| file(&format!("{n}/{}", "x".repeat(2000)))).collect();
        let verdict = filter(&["src/**"], &[], false).check(&many, &[]);
        assert_eq!(verdict.violations.len(), LINES_MAX + 1);
        assert!(verdict.violations.iter().map(String::len).sum::<usize>() < 64 * 1024);
    }
}
