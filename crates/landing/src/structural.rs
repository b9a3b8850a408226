//! The structural tier: where git finds conflicts in texts, each file is merged by what it says.

use std::path::Path;

use aedile_code::Sides;
use aedile_code::merge::{Outcome, Receipt, merge};
use aedile_core::TreeId;
use aedile_core::bounded::few;
use aedile_git::{EntryMode, Hub, Stages};
use serde_json::json;

use crate::LandingError;
use crate::filter::shown;

/// What the tier gave.
pub(crate) enum Structural {
    /// Every conflict is settled: this tree, and the receipts of its files as JSON.
    Tree(TreeId, String),
    /// It is not for this.
    Declined(String),
    /// These files, each with why, stay in conflict.
    Conflict(Vec<String>),
}

/// Larger versions are merged by lines alone, which is what git has done.
const FILE_BYTES_MAX: usize = 2 << 20;
/// Files whose versions are held at once.
const AT_ONCE: usize = 16;

/// The kinds of conflict, as git tells them, in which each side has a text of its own at the path.
const IN_TEXT: [&str; 3] = ["CONFLICT (content)", "CONFLICT (add/add)", "CONFLICT (contents)"];

/// Merges what git left in conflict. `tree` is git's merged tree, with markers in it; nothing of them stays where the answer is a tree.
pub(crate) fn settle(hub: &Hub, tree: &TreeId, stages: &[Stages], messages: &[String]) -> Result<Structural, LandingError> {
    if let Some(other) = messages.iter().find(|text| !IN_TEXT.iter().any(|kind| text.starts_with(kind))) {
        return Ok(Structural::Declined(format!("it is not only about texts: {}", shown(other))));
    }
    let mut files = Vec::new();
    for file in stages {
        match versions(file) {
            Ok(found) => files.push(found),
            Err(why) => return Ok(Structural::Declined(format!("{}: {why}", shown(&file.path.to_string_lossy())))),
        }
    }
    let (mut settled, mut receipts, mut open) = (Vec::new(), Vec::new(), Vec::new());
    for some in files.chunks(AT_ONCE) {
        let ids: Vec<String> = some.iter().flat_map(|file| file.ids.iter().flatten().cloned()).collect();
        let mut blobs = hub.blobs(&ids, FILE_BYTES_MAX)?.into_iter();
        for file in some {
            let texts = file.ids.each_ref().map(|id| id.as_ref().map_or(Some(Vec::new()), |_| blobs.next().flatten()));
            let name = file.path.to_string_lossy();
            let [Some(base), Some(ours), Some(theirs)] = texts else {
                open.push(format!("{}: a version has more than {} MiB", shown(&name), FILE_BYTES_MAX >> 20));
                continue;
            };
            match merge(&Sides { base: &base, ours: &ours, theirs: &theirs, path: &name }) {
                Outcome::Clean { bytes, receipt } => {
                    receipts.push(json!({ "path": name, "taken": receipt.taken, "regions": receipt.regions }));
                    settled.push((file.mode, hub.put_blob(&bytes)?, file.path));
                }
                Outcome::Conflict { receipt, .. } => open.push(format!("{}: {}", shown(&name), why(&receipt))),
                Outcome::Declined { reason } => open.push(format!("{}: {reason}", shown(&name))),
            }
        }
    }
    if !open.is_empty() {
        return Ok(Structural::Conflict(few(open)));
    }
    let merged = hub.tree_with(tree, settled.iter().map(|(mode, id, path)| (*mode, id.as_str(), *path)))?;
    Ok(Structural::Tree(merged, json!({ "tier": TIER, "files": receipts }).to_string()))
}

/// The tier's name in events.
pub(crate) const TIER: &str = "structural";

/// A path in conflict whose sides are files of one mode.
struct File<'a> {
    path: &'a Path,
    mode: EntryMode,
    /// The objects of base, ours and theirs; no base where both added it.
    ids: [Option<String>; 3],
}

fn versions(file: &Stages) -> Result<File<'_>, &'static str> {
    let [base, Some(ours), Some(theirs)] = &file.versions else { return Err("one side has nothing there") };
    if !matches!(ours.0, EntryMode::File | EntryMode::Executable)
        || ours.0 != theirs.0
        || base.as_ref().is_some_and(|base| base.0 != ours.0)
    {
        return Err("its mode or kind is changed, too");
    }
    Ok(File {
        path: &file.path,
        mode: ours.0,
        ids: [base.as_ref().map(|base| base.1.clone()), Some(ours.1.clone()), Some(theirs.1.clone())],
    })
}

/// Why a file stays in conflict, for the agent that mends it.
fn why(receipt: &Receipt) -> String {
    if let Some(refused) = &receipt.refused {
        return refused.clone();
    }
    let open: Vec<String> =
        receipt.regions.iter().filter(|region| region.by.is_none()).map(|region| format!("line {}", region.ours.start)).collect();
    format!("both changed the same ({})", few(open).join(", "))
}
