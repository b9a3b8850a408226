//! `aedile feed`.

use aedile_core::event::Position;
use aedile_core::limits::READ_EVENTS_MAX;
use aedile_core::store::Store;
use clap::Args;

use crate::clock::moment;
use crate::commands::events::LOOK_EVERY;
use crate::error::CliResult;
use crate::narrate::{Narrator, Weight};
use crate::output::Output;
use crate::{exit, state};

/// Tell what happens, in sentences
#[derive(Debug, Args)]
pub struct FeedArgs {
    /// Wait for what comes next
    #[arg(long, short)]
    follow: bool,
    /// Tell every detail
    #[arg(long)]
    all: bool,
    /// Tell about this run only (its id or the eight characters that other commands print)
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Tell at most this many lines of the past
    #[arg(long, value_name = "N", default_value_t = 100)]
    last: usize,
}

/// Runs `aedile feed`.
pub fn cmd_feed(args: &FeedArgs, out: Output) -> CliResult {
    let Some(store) = state::open_existing()? else {
        if let Some(text) = &args.run {
            return Err(state::no_run(text));
        }
        out.warn("nothing has been run yet");
        return Ok(exit::OK);
    };
    let only = args.run.as_deref().map(|text| state::find_run(&store, text)).transpose()?.map(|run| run.run);
    let mut narrator = Narrator::default();
    let mut after = Position(0);
    let mut past = std::collections::VecDeque::new();
    let mut live = false;
    loop {
        let events = store.read(after, READ_EVENTS_MAX)?;
        for envelope in &events {
            after = envelope.position;
            let said = narrator.say(envelope).filter(|(weight, _)| args.all || *weight == Weight::Step);
            let Some((_, line)) = said.filter(|_| only.is_none() || envelope.run == only) else { continue };
            let line = if out.json {
                serde_json::json!({ "position": envelope.position, "at": moment(envelope.at), "run": envelope.run, "text": line })
                    .to_string()
            } else {
                format!("{}  {line}", moment(envelope.at))
            };
            if live {
                out.line(line);
            } else {
                past.push_back(line);
                if past.len() > args.last {
                    past.pop_front();
                }
            }
        }
        if events.is_empty() {
            past.drain(..).for_each(|line| out.line(line));
            live = true;
            if !args.follow || out.reader_is_gone() {
                return Ok(exit::OK);
            }
            store.wait_for_change(after, LOOK_EVERY)?;
        }
    }
}
