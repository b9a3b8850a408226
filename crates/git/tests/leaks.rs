//! Secrets in what a change adds: each object is looked into once, and never all of them at once.

use std::collections::HashMap;
use std::sync::Mutex;

use aedile_core::redact::{Leak, Redactor};

use crate::support::World;

/// Counts how often it is asked about which text, and takes one word for a secret.
#[derive(Default)]
struct Counting(Mutex<HashMap<Vec<u8>, usize>>);

impl Redactor for Counting {
    fn redact_text(&self, _: &str) -> Option<String> {
        None
    }
    fn redact_bytes(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
    fn leaks(&self, bytes: &[u8]) -> Vec<Leak> {
        *self.0.lock().unwrap().entry(bytes.to_vec()).or_default() += 1;
        let found = String::from_utf8_lossy(bytes).matches("sesame").count();
        vec![Leak { rule: "secret.word".to_owned(), known: true, what: 0 }; found]
    }
    fn settled(&self, text: &str) -> usize {
        text.len()
    }
}

#[test]
fn an_object_under_many_names_is_looked_into_once_and_told_under_each() {
    let world = World::new();
    let workspace = world.workspace("t");
    for name in 0..40 {
        workspace.repo.write(&format!("many/{name}"), "open sesame\n").write(&format!("plain/{name}"), "nothing\n");
    }
    let commit = workspace.commit("many");
    world.import(&workspace, &commit).unwrap();
    let counting = Counting::default();
    let found = world.hub.secrets_added(&counting, world.project.head(), &commit).unwrap();
    assert_eq!(found.len(), 40);
    assert!(
        found.iter().all(|secret| secret.path.starts_with("many/") && secret.rule == "secret.word" && secret.known && secret.is_found())
    );
    let asked = counting.0.lock().unwrap();
    assert_eq!((asked.get(&b"open sesame\n"[..]), asked.get(&b"nothing\n"[..])), (Some(&1), Some(&1)));
}
