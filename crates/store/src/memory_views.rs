//! Views in memory, with undo.

use std::collections::{BTreeMap, HashMap};

use aedile_core::RunId;
use aedile_core::apply::ViewTx;
use aedile_core::store::StoreError;
use aedile_core::view::ViewKind;

/// Every document of every kind.
#[derive(Default)]
pub(crate) struct MemoryViews {
    kinds: [Kind; ViewKind::ALL.len()],
    made: u64,
    undo: Vec<(ViewKind, String, Option<Document>)>,
}

#[derive(Default)]
struct Kind {
    documents: HashMap<String, Document>,
    order: BTreeMap<u64, String>,
}

struct Document {
    seq: u64,
    run: Option<RunId>,
    text: String,
}

impl Kind {
    fn set(&mut self, key: &str, document: Document) -> Option<Document> {
        self.order.insert(document.seq, key.to_owned());
        self.documents.insert(key.to_owned(), document)
    }

    fn unset(&mut self, key: &str) -> Option<Document> {
        let old = self.documents.remove(key)?;
        self.order.remove(&old.seq);
        Some(old)
    }
}

impl MemoryViews {
    /// Keeps what was done since the last `keep` or `undo`.
    pub(crate) fn keep(&mut self) {
        self.undo.clear();
    }

    /// Takes back what was done since the last `keep` or `undo`.
    pub(crate) fn undo(&mut self) {
        while let Some((kind, key, old)) = self.undo.pop() {
            let kind = &mut self.kinds[kind as usize];
            match old {
                Some(document) => kind.set(&key, document),
                None => kind.unset(&key),
            };
        }
    }

    /// Returns a document.
    pub(crate) fn document(&self, kind: ViewKind, key: &str) -> Option<&str> {
        self.kinds[kind as usize].documents.get(key).map(|document| document.text.as_str())
    }

    /// Returns keys, runs and documents in the order of their creation.
    pub(crate) fn list(&self, kind: ViewKind) -> impl Iterator<Item = (&str, Option<RunId>, &str)> {
        let kind = &self.kinds[kind as usize];
        kind.order.values().filter_map(|key| kind.documents.get(key).map(|document| (key.as_str(), document.run, document.text.as_str())))
    }
}

impl ViewTx for MemoryViews {
    fn get(&mut self, kind: ViewKind, key: &str) -> Result<Option<String>, StoreError> {
        Ok(self.document(kind, key).map(str::to_owned))
    }

    fn put(&mut self, kind: ViewKind, key: &str, run: Option<RunId>, document: &str) -> Result<(), StoreError> {
        self.made += 1;
        // Place and run of a key stay as they were at first.
        let known = self.kinds[kind as usize].documents.get(key).map(|document| (document.seq, document.run));
        let (seq, run) = known.unwrap_or((self.made, run));
        let document = Document { seq, run, text: document.to_owned() };
        let old = self.kinds[kind as usize].set(key, document);
        self.undo.push((kind, key.to_owned(), old));
        Ok(())
    }

    fn remove(&mut self, kind: ViewKind, key: &str) -> Result<(), StoreError> {
        if let Some(old) = self.kinds[kind as usize].unset(key) {
            self.undo.push((kind, key.to_owned(), Some(old)));
        }
        Ok(())
    }
}
