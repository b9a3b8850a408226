//! Scopes: which paths a task may change.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// A scope that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("scope {glob:?} {problem}")]
pub struct BadScope {
    /// The glob as it was written.
    pub glob: String,
    /// What is wrong with it.
    pub problem: String,
}

/// A compiled list of globs relative to the repository's root. `src/**` is everything below `src`; `src/` means the same;
/// `*` does not cross `/`. A plain path stands for itself and, if it is a directory, for all below it.
#[derive(Clone, Debug)]
pub struct Scope {
    globs: Vec<String>,
    set: GlobSet,
}

impl Scope {
    /// The scope that allows nothing.
    pub fn nothing() -> Self {
        Self { globs: Vec::new(), set: GlobSet::empty() }
    }

    /// Compiles the globs. An empty list allows nothing.
    ///
    /// # Errors
    /// [`BadScope`] names the first glob that is empty, absolute, an exclusion, leaves the tree, touches `.git` or does not parse.
    pub fn new(globs: &[String]) -> Result<Self, BadScope> {
        let mut builder = GlobSetBuilder::new();
        let mut kept = Vec::with_capacity(globs.len());
        for glob in globs {
            let bad = |problem: &str| BadScope { glob: glob.clone(), problem: problem.to_owned() };
            if glob.is_empty() {
                return Err(bad("is empty; write ** for everything"));
            }
            if glob.starts_with('!') {
                return Err(bad("begins with `!`, but a scope cannot exclude; name what may be changed"));
            }
            let mut text = glob.trim_start_matches("./").to_owned();
            if text.is_empty() || text == "." {
                text = "**".to_owned();
            }
            if text.starts_with('/') {
                return Err(bad("must be relative to the repository's root"));
            }
            if text.split('/').any(|part| part == "..") {
                return Err(bad("must not leave the repository"));
            }
            if text.split('/').any(|part| part.eq_ignore_ascii_case(".git")) {
                return Err(bad("must not name .git"));
            }
            if text.contains("//") {
                return Err(bad("holds `//`, which matches nothing"));
            }
            if text.ends_with('/') {
                text.push_str("**");
            }
            let mut add = |pattern: &str| -> Result<(), BadScope> {
                let compiled = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build();
                builder.add(compiled.map_err(|error| bad(&error.kind().to_string()))?);
                Ok(())
            };
            add(&text)?;
            if !text.contains(['*', '?', '[', '{']) {
                add(&format!("{text}/**"))?;
            }
            kept.push(text);
        }
        let set = builder.build().map_err(|error| BadScope { glob: globs.join(" "), problem: error.to_string() })?;
        Ok(Self { globs: kept, set })
    }

    /// Whether the path (relative, `/` between parts) may be changed. `.git` never may.
    pub fn allows(&self, path: &str) -> bool {
        !path.split('/').any(|part| part.eq_ignore_ascii_case(".git") || part == "..") && self.set.is_match(path)
    }

    /// Returns the globs in normal form.
    pub fn globs(&self) -> &[String] {
        &self.globs
    }

    /// Whether the scope allows everything below the root.
    pub fn is_everything(&self) -> bool {
        self.globs.iter().any(|glob| glob == "**")
    }

    /// Returns the directory (relative, empty for the root) below which each glob lies, with `true` when the glob allows *all* below it.
    pub fn directories(&self) -> Vec<(String, bool)> {
        self.globs.iter().map(|glob| directory_of(glob)).collect()
    }

    /// Whether the two scopes may allow a common path. Errs on the side of `true`.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.globs.iter().any(|a| other.globs.iter().any(|b| globs_overlap(a, b)))
    }
}

fn directory_of(glob: &str) -> (String, bool) {
    let parts: Vec<&str> = glob.split('/').collect();
    let wild = parts.iter().position(|part| part.contains(['*', '?', '[', '{', '\\']));
    match wild {
        Some(at) => (parts[..at].join("/"), at + 1 == parts.len() && parts[at] == "**"),
        None => (parts[..parts.len() - 1].join("/"), false),
    }
}

/// Compares part by part: literal parts must be equal, a part with a wildcard may equal any, `**` may stand for any number.
fn globs_overlap(a: &str, b: &str) -> bool {
    fn walk(a: &[&str], b: &[&str]) -> bool {
        let wild = |part: &str| part.contains(['*', '?', '[', ']', '{', '}', '\\']);
        match (a.first(), b.first()) {
            (None, None) => true,
            (Some(&"**"), _) | (_, Some(&"**")) => true,
            // A plain path also stands for all below it.
            (None, Some(_)) | (Some(_), None) => true,
            (Some(x), Some(y)) => {
                let same = match (wild(x), wild(y)) {
                    (true, true) => true,
                    (true, false) => single_matches(x, y),
                    (false, true) => single_matches(y, x),
                    (false, false) => x == y,
                };
                same && walk(&a[1..], &b[1..])
            }
        }
    }
    let (a, b): (Vec<&str>, Vec<&str>) = (a.split('/').collect(), b.split('/').collect());
    walk(&a, &b)
}

/// A pattern that is only a piece of a larger brace group does not compile alone; it may match anything.
fn single_matches(pattern: &str, text: &str) -> bool {
    GlobBuilder::new(pattern).literal_separator(true).build().map_or(true, |glob| glob.compile_matcher().is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(globs: &[&str]) -> Scope {
        Scope::new(&globs.iter().map(|g| (*g).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn allows_what_the_globs_say() {
        let s = scope(&["src/auth/**", "docs/*.md", "Cargo.toml", "assets/"]);
        for path in ["src/auth/a.rs", "src/auth/x/y.rs", "docs/a.md", "Cargo.toml", "assets/x/y"] {
            assert!(s.allows(path), "{path}");
        }
        for path in ["src/lib.rs", "docs/x/a.md", "Cargo.lock", "src/auth/../lib.rs", "src/auth/.git/config", "src/auth/.GIT/config"] {
            assert!(!s.allows(path), "{path}");
        }
    }

    #[test]
    fn an_empty_scope_allows_nothing() {
        assert!(!scope(&[]).allows("a"));
    }

    #[test]
    fn bad_scopes_are_named() {
        for bad in ["/etc/**", "../x", "a/../../b", ".git/hooks", "a/.git/**", "[z"] {
            let error = Scope::new(&[bad.to_owned()]).unwrap_err();
            assert_eq!(error.glob, bad);
        }
    }

    #[test]
    fn overlap_is_safe_and_useful() {
        let yes = [
            ("src/**", "src/a.rs"),
            ("src/*.rs", "src/lib.rs"),
            ("**", "x"),
            ("a", "a/b.rs"),
            ("src/{a,b}.rs", "src/*.rs"),
            ("**/x.rs", "b/y.rs"),
        ];
        for (a, b) in yes {
            assert!(scope(&[a]).overlaps(&scope(&[b])) && scope(&[b]).overlaps(&scope(&[a])), "{a} {b}");
        }
        for (a, b) in [("src/a/**", "src/b/**"), ("a.rs", "b.rs"), ("src/*.rs", "src/lib.py"), ("x/y", "x/z/w")] {
            assert!(!scope(&[a]).overlaps(&scope(&[b])) && !scope(&[b]).overlaps(&scope(&[a])), "{a} {b}");
        }
    }

    #[test]
    fn directories_say_where_a_glob_lies() {
        let got = scope(&["src/auth/**", "docs/*.md", "Cargo.toml", "**"]).directories();
        let want = [("src/auth", true), ("docs", false), ("", false), ("", true)];
        assert_eq!(got, want.map(|(d, all)| (d.to_owned(), all)));
    }
}
