//! What killed runs of `sandbox exec` left undone: the next command does it.

use std::path::{Path, PathBuf};

use aedile_sandbox::{Outcome, Unfinished, finish_unfinished, has_unfinished};

use super::exec::{EXEC, tell};
use crate::output::Output;

/// Where boxes put things in a place of `sandbox exec`.
fn boxes(place: &Path) -> PathBuf {
    place.join("boxes")
}

/// Whether something in this place is still to be done, or its command still runs.
pub fn is_open(place: &Path) -> bool {
    has_unfinished(&boxes(place))
}

/// Places of `sandbox exec`, after a look at what was to be done.
#[derive(Debug, Default)]
pub struct Finished {
    /// Something was moved there just now: the person has not seen it yet.
    pub filled: Vec<PathBuf>,
    /// Nothing is to be done there any more unless a directory comes back.
    pub absent: Vec<PathBuf>,
}

/// Moves away what commands have planted whose aedile was killed, and says so. What runs, or what another process works on, is left alone.
pub fn finish(state: &Path, out: Output) -> Finished {
    let mut all = Finished::default();
    let places = std::fs::read_dir(state.join(EXEC)).into_iter().flatten().flatten().map(|entry| entry.path());
    for place in places.filter(|place| is_open(place)) {
        let finished = finish_unfinished(&boxes(&place));
        if finished.iter().any(|one| !one.notes.is_empty()) {
            all.filled.push(place.clone());
        }
        if !finished.is_empty() && finished.iter().all(|one| one.outcome == Outcome::Absent) {
            all.absent.push(place.clone());
        }
        for Unfinished { tree, notes, outcome } in finished {
            let count = notes.len();
            tell(out, notes);
            let about = format!("aedile was killed while a command of `sandbox exec` ran in {}", tree.display());
            match outcome {
                Outcome::Done => out.warn(format!("note: {about}; what it had planted is out of the way ({count} names)")),
                Outcome::Absent => out.warn(format!(
                    "warning: {about}, which is not there now, or another directory is; what it had planted may be where that went. It is looked for \
                     when the directory is back; `aedile clean --days 0` forgets it"
                )),
                Outcome::Failed(why) => out.warn(format!("warning: {about}, and what it had planted may still be there: {why}")),
            }
        }
        for dir in [&boxes(&place), &place] {
            // Fails when something was moved there, and that stays until `aedile clean` takes it in its time.
            let _ = std::fs::remove_dir(dir);
        }
    }
    all
}
