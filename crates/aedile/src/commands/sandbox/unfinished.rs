//! What killed runs of `sandbox exec` left undone: the next command does it.

use std::path::{Path, PathBuf};

use aedile_sandbox::{Unfinished, finish_unfinished, has_unfinished};

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

/// Moves away what commands have planted whose aedile was killed, and says so. What runs, or what another process works on, is left alone.
pub fn finish(state: &Path, out: Output) {
    let places = std::fs::read_dir(state.join(EXEC)).into_iter().flatten().flatten().map(|entry| entry.path());
    for place in places.filter(|place| is_open(place)) {
        let finished = finish_unfinished(&boxes(&place));
        for Unfinished { tree, notes, failed } in finished {
            let count = notes.len();
            tell(out, notes);
            let about = format!("aedile was killed while a command of `sandbox exec` ran in {}", tree.display());
            match failed {
                None => out.warn(format!("note: {about}; what it had planted is out of the way ({count} names)")),
                Some(why) => out.warn(format!("warning: {about}, and what it had planted may still be there: {why}")),
            }
        }
        for dir in [&boxes(&place), &place] {
            // Fails when something was moved there, and that stays until `aedile clean` takes it in its time.
            let _ = std::fs::remove_dir(dir);
        }
    }
}
