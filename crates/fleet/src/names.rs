//! Agent names: plain, persistent, and never wedged, since what is free is computed from the tasks.

use std::collections::BTreeSet;

use aedile_core::AgentName;

/// The names, in the order in which they are given.
pub const NAMES: &[&str] = &[
    "ada", "basil", "clara", "denis", "edith", "felix", "greta", "hugo", "iris", "jonas", "karin", "leo", "mara", "nils", "olga", "paul",
    "quinn", "rosa", "simon", "tilda", "ulrich", "vera", "walter", "xenia", "yann", "zoe", "agnes", "bruno", "celia", "dario", "elsa",
    "frank", "gina", "henry", "ida", "jasper", "kira", "lars", "mina", "noah", "orla", "petra", "quentin", "rita", "sven", "tara", "ugo",
    "viola", "wanda", "xavier", "yvonne", "zeno", "amos", "bella", "cyril", "dora", "emil", "fiona", "gustav", "hanna", "igor", "julia",
    "knut", "lena", "marco", "nora", "oskar", "paula", "ralf", "sonja", "theo", "ursula",
];

/// Returns the first name that none of `taken` has: a plain one, or one with a number when all plain ones are taken.
pub fn free_name(taken: &BTreeSet<String>) -> Option<AgentName> {
    let plain = NAMES.iter().map(|name| (*name).to_owned());
    let numbered = (2_u32..).flat_map(|number| NAMES.iter().map(move |name| format!("{name}-{number}")));
    plain.chain(numbered).find(|name| !taken.contains(name)).and_then(|name| AgentName::new(name).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_many_different_and_valid() {
        let all: BTreeSet<&str> = NAMES.iter().copied().collect();
        assert!(all.len() >= 64 && all.len() == NAMES.len());
        assert!(NAMES.iter().all(|name| AgentName::new(*name).is_ok()));
        assert!(!all.contains("person"));
    }

    #[test]
    fn the_first_free_name_is_given_and_there_is_always_one() {
        let mut taken = BTreeSet::new();
        assert_eq!(free_name(&taken).unwrap().as_str(), "ada");
        taken.insert("ada".to_owned());
        assert_eq!(free_name(&taken).unwrap().as_str(), "basil");
        taken.extend(NAMES.iter().map(|name| (*name).to_owned()));
        assert_eq!(free_name(&taken).unwrap().as_str(), "ada-2");
    }
}
