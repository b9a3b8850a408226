//! What an agent may read of a commit: the globs of its task, what policy hides, and names of files that hold secrets.

use super::agent::AgentPolicy;
use crate::protected::{Secrecy, secrecy};
use crate::scope::{BadScope, Scope};

/// What an agent may read of a commit's files.
#[derive(Clone, Debug, Default)]
pub struct Reads {
    globs: Option<Scope>,
    policy: AgentPolicy,
}

/// Whether a path may be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sight {
    /// It may.
    Seen,
    /// It may not: a rule hides it, it is outside what the task reads, or its name is one of a file for secrets.
    Hidden,
    /// It may unless a private key is in it: certificates have the same names.
    UnlessPrivateKey,
}

impl AgentPolicy {
    /// What an agent may read whose task names these `globs`; an empty list is the whole repository.
    ///
    /// # Errors
    /// [`BadScope`] names the glob that cannot be used.
    pub fn reads(&self, globs: &[String]) -> Result<Reads, BadScope> {
        let globs = if globs.is_empty() { None } else { Some(Scope::new(globs)?) };
        Ok(Reads { globs, policy: self.clone() })
    }
}

impl Reads {
    /// Whether something is kept from the agent by a rule of the task or the policy. Older commits hold it too, so that the agent gets none of them.
    pub fn is_narrow(&self) -> bool {
        self.globs.is_some() || !self.policy.hidden().is_empty()
    }

    /// Whether the path (relative, `/` between parts) may be read. What policy shows by name is no secret; what it hides nothing shows.
    pub fn of(&self, path: &str) -> Sight {
        let outside = self.globs.as_ref().is_some_and(|globs| !globs.allows(path));
        if outside || !self.policy.may_read(path).allowed {
            return Sight::Hidden;
        }
        let name = path.rsplit('/').next().unwrap_or(path);
        match secrecy(name).filter(|_| !self.policy.shows(path)) {
            None => Sight::Seen,
            Some(Secrecy::Secret) => Sight::Hidden,
            Some(Secrecy::IfPrivateKey) => Sight::UnlessPrivateKey,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{LayerName, Policies, PolicyText, Who};

    fn reads(policy: &str, globs: &[&str]) -> Reads {
        let text = PolicyText { layer: LayerName::Project, place: "p".into(), text: policy.to_owned() };
        let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
        Policies::parse(if policy.is_empty() { &[] } else { std::slice::from_ref(&text) })
            .unwrap()
            .of(Who { role: "builder", agent: "ada", task: "one" })
            .reads(&globs)
            .unwrap()
    }

    #[test]
    fn what_may_be_read_is_what_all_of_them_leave() {
        let policy = "[read]\nhide = [\"data/**\"]\nshow = [\"tests/**\", \"data/.env\"]";
        for (policy, globs, path, sight) in [
            ("", &[][..], "src/a.rs", Sight::Seen),
            ("", &[], "a/.env", Sight::Hidden),
            ("", &[], "a/.env.example", Sight::Seen),
            ("", &[], "a/server.pem", Sight::UnlessPrivateKey),
            ("", &["src/**"], "src/a.rs", Sight::Seen),
            ("", &["src/**"], "docs/a.md", Sight::Hidden),
            ("", &["src/**"], "src/.env", Sight::Hidden),
            (policy, &[], "tests/server.pem", Sight::Seen),
            (policy, &[], "tests/.env", Sight::Seen),
            (policy, &[], "data/x", Sight::Hidden),
            (policy, &[], "data/.env", Sight::Hidden),
            (policy, &["src/**"], "tests/server.pem", Sight::Hidden),
        ] {
            assert_eq!(reads(policy, globs).of(path), sight, "{policy:?} {globs:?} {path}");
        }
        assert!(!reads("", &[]).is_narrow() && reads("", &["**"]).is_narrow() && reads(policy, &[]).is_narrow());
        assert!(AgentPolicy::default().reads(&["../x".to_owned()]).is_err());
    }
}
