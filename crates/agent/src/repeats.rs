//! Notices when the agent does the same thing with the same result again and again.

use aedile_core::limits::AGENT_LOOP_REPEATS_MAX;
use aedile_core::model::Block;
use std::fmt::Write;

use crate::conversation::Call;

/// What is said to the model once.
pub(crate) const LOOP_WARNING: &str = "You have made the same call with the same result several times in a row. Repeating it changes nothing: \
                                       think again, do something else, or say what stops you.";

/// What follows from a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Nothing.
    GoOn,
    /// The model is told.
    Warn,
    /// The turn ends.
    Stop,
}

/// The last step, and how often it came.
#[derive(Default)]
pub(crate) struct Repeats {
    last: Option<String>,
    count: u32,
}

impl Repeats {
    /// Takes a step in.
    pub(crate) fn step(&mut self, calls: &[Call], results: &[Block]) -> Verdict {
        let key = key(calls, results);
        if self.last.as_ref() == Some(&key) {
            self.count += 1;
        } else {
            (self.last, self.count) = (Some(key), 1);
        }
        match self.count {
            count if count > AGENT_LOOP_REPEATS_MAX => Verdict::Stop,
            AGENT_LOOP_REPEATS_MAX => Verdict::Warn,
            _ => Verdict::GoOn,
        }
    }
}

/// Everything about the step but the calls' ids.
fn key(calls: &[Call], results: &[Block]) -> String {
    let mut key = String::new();
    for call in calls {
        // Writing to a String cannot fail.
        let _ = write!(key, "{:?}", (&call.name, &call.input));
    }
    for result in results {
        if let Block::ToolResult { content, .. } = result {
            let _ = write!(key, "{content:?}");
        }
    }
    key
}
