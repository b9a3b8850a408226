//! `aedile events`.

use std::time::Duration;

use aedile_core::event::Position;
use aedile_core::limits::READ_EVENTS_MAX;
use aedile_core::store::Store;
use clap::Args;

use crate::error::CliResult;
use crate::output::Output;
use crate::{exit, state};

/// How often a follower looks whether somebody still reads.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Print the event log, one event a line
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Start after this position (0 is the beginning)
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    after: u64,
    /// Wait for further events
    #[arg(long)]
    follow: bool,
}

/// Runs `aedile events`. The lines are JSON with and without `--json`: the log has no other form.
pub fn cmd_events(args: &EventsArgs, out: Output) -> CliResult {
    let Some(store) = state::open_existing()? else {
        out.warn("no events: nothing has been run yet");
        return Ok(exit::OK);
    };
    let mut after = Position(args.after);
    loop {
        let events = store.read(after, READ_EVENTS_MAX)?;
        for envelope in &events {
            out.object(envelope);
            after = envelope.position;
        }
        if events.is_empty() || out.reader_is_gone() {
            if !args.follow || out.reader_is_gone() {
                return Ok(exit::OK);
            }
            store.wait_for_change(after, LOOK_EVERY)?;
        }
    }
}
