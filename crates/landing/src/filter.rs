//! The import filter: which paths and kinds of entry a change may hold. Pure: what git said about the change comes in, a verdict goes out.

use aedile_core::project::ProjectRules;
use aedile_core::scope::{BadScope, Scope};

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

/// What the filter says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Verdict {
    /// Path and rule, one line each; empty when the change may be imported.
    pub(crate) violations: Vec<String>,
    /// Protected paths that it changes although the run does not allow that.
    pub(crate) protected: Vec<String>,
}

/// Decides which entries a change of a task may hold.
#[derive(Debug)]
pub(crate) struct Filter {
    scope: Scope,
    protected: Scope,
    allow_protected: bool,
    build_dirs: Vec<String>,
}

impl Filter {
    /// Makes the filter of a task with these scope globs under the rules of its run.
    ///
    /// # Errors
    /// [`BadScope`] names the glob that cannot be used.
    pub(crate) fn new(scope: &[String], rules: &ProjectRules) -> Result<Self, BadScope> {
        let trim = |dir: &String| dir.trim_start_matches("./").trim_end_matches('/').to_owned();
        Ok(Self {
            scope: Scope::new(scope)?,
            protected: Scope::new(&rules.protected)?,
            allow_protected: rules.allow_protected,
            build_dirs: rules.build_dirs.iter().map(trim).filter(|dir| !dir.is_empty()).collect(),
        })
    }

    /// Checks every path.
    pub(crate) fn check(&self, touched: &[Touched]) -> Verdict {
        let mut verdict = Verdict::default();
        for entry in touched {
            let shown = shown(&entry.path);
            if let Some(rule) = self.rule_against(entry) {
                verdict.violations.push(format!("{shown}: {rule}"));
            } else if !self.allow_protected && self.protected.allows(&entry.path) {
                verdict.protected.push(shown);
            }
        }
        bound(&mut verdict.violations);
        bound(&mut verdict.protected);
        verdict
    }

    fn rule_against(&self, entry: &Touched) -> Option<String> {
        if let Some(problem) = bad_name(&entry.path) {
            return Some(problem.to_owned());
        }
        let below = |dir: &String| entry.path.strip_prefix(dir.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if let Some(dir) = self.build_dirs.iter().find(|dir| below(dir)) {
            return Some(format!("`{dir}` holds what builds write and is never part of a change"));
        }
        if !self.scope.allows(&entry.path) {
            return Some("is outside the task's scope".to_owned());
        }
        match entry.mode {
            0 | 0o100_644 | 0o100_755 => None,
            0o120_000 => match &entry.link {
                Some(target) => bad_link(&entry.path, target).map(str::to_owned),
                None => Some("is a symbolic link whose target cannot be read".to_owned()),
            },
            0o160_000 => Some("is a nested repository (gitlink); its files must be part of the change themselves".to_owned()),
            mode => Some(format!("has the mode {mode:o}; only ordinary files, executables and symbolic links may be landed")),
        }
    }
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

fn bad_name(path: &str) -> Option<&'static str> {
    if path.contains('\u{fffd}') {
        return Some("has a name that is not UTF-8");
    }
    if path.chars().any(char::is_control) {
        return Some("has a control character in its name");
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Some("is not a plain relative path");
    }
    path.split(['/', '\\']).any(is_dot_git).then_some("names git's own directory, or some file system would take it for that")
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
        Filter::new(&own(scope), &rules).unwrap()
    }

    fn file(path: &str) -> Touched {
        Touched { path: path.to_owned(), mode: 0o100_644, link: None }
    }

    fn link(path: &str, target: &str) -> Touched {
        Touched { path: path.to_owned(), mode: 0o120_000, link: Some(target.to_owned()) }
    }

    fn refused(filter: &Filter, entry: Touched) -> bool {
        !filter.check(&[entry]).violations.is_empty()
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
    fn nested_repositories_and_odd_modes_are_refused() {
        let f = filter(&["**"], &[], true);
        for mode in [0o160_000, 0o104_755, 0o102_755, 0o100_664, 0o040_000, 0o020_666] {
            assert!(refused(&f, Touched { mode, ..file("a") }), "{mode:o}");
        }
        assert!(!refused(&f, Touched { mode: 0o100_755, ..file("a") }));
    }

    #[test]
    fn protected_paths_are_told_apart_from_violations() {
        let f = filter(&["**"], &["aedile.toml", ".github/**"], false);
        let verdict = f.check(&[file("aedile.toml"), file(".github/workflows/ci.yml"), file("src/x")]);
        assert_eq!((verdict.violations.len(), verdict.protected.len()), (0, 2));
        assert_eq!(filter(&["**"], &["aedile.toml"], true).check(&[file("aedile.toml")]), Verdict::default());
    }

    #[test]
    fn names_that_lie_are_refused_and_shown_harmlessly() {
        let f = filter(&["**"], &[], false);
        let verdict = f.check(&[file("a\u{1b}[31m\nb"), file("x\u{fffd}")]);
        assert_eq!(verdict.violations.len(), 2);
        assert!(verdict.violations.iter().all(|line| !line.chars().any(char::is_control)));
    }

    #[test]
    fn a_verdict_is_bounded() {
        let many: Vec<Touched> = (0..5000).map(|n| file(&format!("{n}/{}", "x".repeat(2000)))).collect();
        let verdict = filter(&["src/**"], &[], false).check(&many);
        assert_eq!(verdict.violations.len(), LINES_MAX + 1);
        assert!(verdict.violations.iter().map(String::len).sum::<usize>() < 64 * 1024);
    }
}
