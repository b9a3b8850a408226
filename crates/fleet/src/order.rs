//! Dependencies between tasks: circles, and what comes before what.

use std::collections::{BTreeMap, BTreeSet};

/// Tasks by name, each with the names of those that it comes after. Names that are no task are passed over.
pub(crate) type After<'a> = BTreeMap<&'a str, Vec<&'a str>>;

/// Returns a circle of dependencies, its first name once more at the end.
pub(crate) fn circle(after: &After<'_>) -> Option<Vec<String>> {
    // Tasks without an open dependency are taken away until none is left or all that is left depends on itself.
    let mut left = after.clone();
    loop {
        let free: Vec<&str> = left.iter().filter(|(_, of)| !of.iter().any(|name| left.contains_key(name))).map(|(name, _)| *name).collect();
        if free.is_empty() {
            break;
        }
        for name in free {
            left.remove(name);
        }
    }
    let first = *left.keys().next()?;
    let mut path = vec![first];
    let mut at = first;
    loop {
        let next = *left.get(at)?.iter().find(|name| left.contains_key(*name))?;
        if let Some(start) = path.iter().position(|name| *name == next) {
            let mut names: Vec<String> = path[start..].iter().map(ToString::to_string).collect();
            names.push(next.to_owned());
            return Some(names);
        }
        path.push(next);
        at = next;
    }
}

/// Returns for each task all that come before it, directly or not.
pub(crate) fn before<'a>(after: &After<'a>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let all = |start: &'a str| {
        let mut found: BTreeSet<&'a str> = BTreeSet::new();
        let mut todo: Vec<&'a str> = after.get(start).cloned().unwrap_or_default();
        while let Some(name) = todo.pop() {
            if after.contains_key(name) && found.insert(name) {
                todo.extend(after.get(name).into_iter().flatten());
            }
        }
        found
    };
    after.keys().map(|name| (*name, all(name))).collect()
}
