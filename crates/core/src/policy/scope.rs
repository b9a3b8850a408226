//! A task's scope, narrowed by what policy leaves of it.

use super::agent::{AgentPolicy, Source};
use crate::scope::Scope;

impl AgentPolicy {
    /// The globs of a scope, narrowed by every list of what may be written. Where two globs only meet, the one of the scope stays: globs cannot
    /// say what both allow, and whoever checks the paths holds them against [`AgentPolicy::may_write`] too.
    pub fn narrowed(&self, scope: &[String]) -> Vec<String> {
        let mut globs = scope.to_vec();
        for allow in self.write_allowed() {
            let mut left: Vec<String> = globs.iter().flat_map(|glob| allow.globs().iter().filter_map(|own| both(glob, own))).collect();
            left.sort();
            left.dedup();
            globs = left;
        }
        globs
    }

    /// The same, exactly: for boxes behind which nobody checks the paths. Nothing is left where the lists allow nothing of the scope.
    ///
    /// # Errors
    /// A glob of the scope, one of what may be written, and who says so, when the two only meet: no glob says what both allow.
    pub fn narrowed_exactly(&self, scope: &[String]) -> Result<Vec<String>, (String, String, &Source)> {
        let mut globs = scope.to_vec();
        let lists = self.parts().iter().filter_map(|(source, sections)| Some((source, sections.write.allow.as_ref()?)));
        for (source, allow) in lists {
            let mut left = Vec::new();
            for glob in &globs {
                // What one of them allows as a whole needs no other.
                let whole = |own: &&String| covers_text(own, glob);
                if allow.globs().iter().any(|own| whole(&own)) {
                    left.push(glob.clone());
                    continue;
                }
                for own in allow.globs() {
                    match both(glob, own) {
                        Some(both) if both == *own => left.push(both),
                        Some(_) => return Err((glob.clone(), own.clone(), source)),
                        None => {}
                    }
                }
            }
            left.sort();
            left.dedup();
            globs = left;
        }
        Ok(globs)
    }
}

fn covers_text(wide: &str, narrow: &str) -> bool {
    Scope::new(&[wide.to_owned()]).is_ok_and(|scope| covers(&scope, wide, narrow))
}

/// The glob of what both allow.
fn both(glob: &str, allow: &str) -> Option<String> {
    let one = |text: &str| Scope::new(&[text.to_owned()]).ok();
    let (scope, own) = (one(glob)?, one(allow)?);
    if covers(&own, allow, glob) {
        Some(glob.to_owned())
    } else if covers(&scope, glob, allow) {
        Some(allow.to_owned())
    } else {
        scope.overlaps(&own).then(|| glob.to_owned())
    }
}

/// Whether `wide` allows everything that `narrow` does. Errs on the side of no.
fn covers(scope: &Scope, wide: &str, narrow: &str) -> bool {
    let wild = |text: &str| text.contains(['*', '?', '[', '{', '\\']);
    if wide == narrow || scope.is_everything() {
        return true;
    }
    let below = |dir: &str| narrow.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'));
    match wide.strip_suffix("/**").filter(|dir| !wild(dir)) {
        Some(dir) => below(dir),
        None if !wild(wide) => below(wide),
        None => !wild(narrow) && scope.allows(narrow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{LayerName, Policies, PolicyText, Who};

    #[test]
    fn a_scope_is_narrowed_by_every_list() {
        for (allow, scope, left) in [
            (&["[\"src/**\"]"][..], &["src/a/**", "docs/**"][..], &["src/a/**"][..]),
            (&["[\"src/**\", \"docs\"]"], &["**"], &["docs", "src/**"]),
            (&["[\"src/**\"]", "[\"**/*.rs\"]"], &["src/a.rs", "src/b/**"], &["src/a.rs", "src/b/**"]),
            (&["[\"src/a/**\"]"], &["src/**"], &["src/a/**"]),
            (&["[\"docs/*.md\"]"], &["docs/a.md", "docs/b.txt"], &["docs/a.md"]),
            (&["[]"], &["src/**"], &[]),
            (&["[\"src\"]"], &["srcs/**"], &[]),
        ] {
            let text = |said: &&str| PolicyText { layer: LayerName::User, place: "p".into(), text: format!("[write]\nallow = {said}") };
            let policies = Policies::parse(&allow.iter().map(text).collect::<Vec<_>>()).unwrap();
            let policy = policies.of(Who { role: "builder", agent: "ada", task: "one" });
            let scope: Vec<String> = scope.iter().map(|glob| (*glob).to_owned()).collect();
            assert_eq!(policy.narrowed(&scope), left, "{allow:?} {scope:?}");
        }
        let text = |said: &str| PolicyText { layer: LayerName::User, place: "p".into(), text: format!("[write]\nallow = {said}") };
        let left = |said: &[&str], scope: &[&str]| {
            let policies = Policies::parse(&said.iter().map(|said| text(said)).collect::<Vec<_>>()).unwrap();
            let scope: Vec<String> = scope.iter().map(|glob| (*glob).to_owned()).collect();
            policies.of_everybody().narrowed_exactly(&scope).map_err(|(glob, own, _)| (glob, own))
        };
        let owned = |globs: &[&str]| Ok(globs.iter().map(|glob| (*glob).to_owned()).collect::<Vec<_>>());
        assert_eq!(left(&["[\"src/**\", \"**/*.rs\"]"], &["src/a/**", "docs/**"]), Err(("docs/**".into(), "**/*.rs".into())));
        assert_eq!(left(&["[\"src/**\", \"**/*.rs\"]"], &["src/a/**"]), owned(&["src/a/**"]));
        assert_eq!(left(&["[\"src/**\"]", "[\"src/a/**\", \"docs/**\"]"], &["**"]), owned(&["src/a/**"]));
        assert_eq!(left(&["[\"src/**\"]"], &["docs/**"]), owned(&[]));
        assert_eq!(AgentPolicy::default().narrowed(&["b".to_owned(), "a".to_owned()]), ["b", "a"]);
    }
}
