//! `aedile logs`.

use std::collections::HashSet;

use aedile_core::event::{Envelope, Event, Position};
use aedile_core::limits::READ_EVENTS_MAX;
use aedile_core::runtime::TurnStop;
use aedile_core::store::Store;
use aedile_core::view::AgentView;
use aedile_core::{BlobId, ChangeId, SpendId};
use aedile_fleet::TurnTranscript;
use clap::Args;
use serde_json::json;

use crate::clock::moment;
use crate::commands::events::LOOK_EVERY;
use crate::error::{CliError, CliResult};
use crate::narrate::Narrator;
use crate::output::Output;
use crate::terminal::printable;
use crate::{exit, names, state};

/// Tell everything that is recorded of an agent: its lives and ends, what broke, its stderr, refusals, what became of its change
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The agent
    agent: String,
    /// Wait for what comes next
    #[arg(long, short)]
    follow: bool,
    /// The run (its id or the eight characters that other commands print); otherwise the last one that has the agent
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
}

/// What concerns one agent: an agent keeps its task and a task its agent.
struct Concern {
    agent: AgentView,
    changes: HashSet<ChangeId>,
    requests: HashSet<SpendId>,
}

impl Concern {
    /// Says the event in a line when it is about the agent.
    fn line(&mut self, envelope: &Envelope, told: Option<String>) -> Option<String> {
        let event = &envelope.event;
        let name = self.agent.agent.as_str();
        match event {
            Event::ChangeSubmitted { change, task, .. } if *task == self.agent.task => drop(self.changes.insert(*change)),
            Event::SpendReserved { spend, agent, .. } if *agent == self.agent.agent && envelope.run == Some(self.agent.run) => {
                self.requests.insert(*spend);
                return None;
            }
            // What was metered is in `costs`; what was not tells of an answer that was lost.
            Event::SpendSettled { spend, usd, estimated, .. } => {
                let lost = self.requests.remove(spend) && *estimated;
                return lost.then(|| format!("a model request ended without the provider's count; {usd} are charged, as reserved"));
            }
            Event::MailSent { from, to, run, .. } => {
                return told.filter(|_| *run == self.agent.run && (from == name || to == name));
            }
            _ => {}
        }
        let about = event.task() == Some(self.agent.task) || event.change().is_some_and(|change| self.changes.contains(&change));
        told.filter(|_| about)
    }
}

/// Runs `aedile logs`.
pub fn cmd_logs(args: &LogsArgs, out: Output) -> CliResult {
    let store = state::open_existing()?.ok_or_else(state::nothing_yet)?;
    let (run, agent) = names::agent(&store, args.run.as_deref(), &args.agent)?;
    let mut concern = Concern { agent, changes: HashSet::new(), requests: HashSet::new() };
    let mut narrator = Narrator::default();
    let mut after = Position(run.first.0.saturating_sub(1));
    loop {
        let events = store.read(after, READ_EVENTS_MAX)?;
        for envelope in &events {
            after = envelope.position;
            let told = narrator.say(envelope).map(|(_, line)| line);
            if let Some(line) = concern.line(envelope, told) {
                print(envelope, &line, &stderr_of(&store, &envelope.event)?, out);
            }
        }
        if events.is_empty() {
            if !args.follow || out.reader_is_gone() {
                return Ok(exit::OK);
            }
            store.wait_for_change(after, LOOK_EVERY)?;
        }
    }
}

fn print(envelope: &Envelope, line: &str, stderr: &str, out: Output) {
    if out.json {
        out.object(&json!({ "position": envelope.position, "at": moment(envelope.at), "type": envelope.event.name(), "text": line, "stderr": stderr }));
        return;
    }
    out.line(format!("{}  {line}", moment(envelope.at)));
    printable(stderr.as_bytes()).lines().for_each(|line| out.line(format!("    stderr | {line}")));
}

/// The end of the agent's stderr, kept with a turn that broke off.
fn stderr_of(store: &dyn Store, event: &Event) -> Result<String, CliError> {
    match event {
        Event::TurnEnded { stop: TurnStop::Failed, transcript: Some(blob), .. } => {
            Ok(transcript(store, blob)?.map(|transcript| transcript.stderr).unwrap_or_default())
        }
        _ => Ok(String::new()),
    }
}

/// Reads a turn's transcript; `None` when it is no longer kept.
pub fn transcript(store: &dyn Store, blob: &BlobId) -> Result<Option<TurnTranscript>, CliError> {
    let Some(bytes) = store.get_blob(blob)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        CliError::new(exit::STATE, format!("the transcript {blob} cannot be read: {error}")).hint("`aedile store check` tells more")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use aedile_core::clock::{SeededEntropy, SteppingClock};
    use aedile_core::{IncarnationId, TaskId};
    use aedile_store::MemoryStore;

    #[test]
    fn a_turn_that_broke_off_comes_with_its_stderr() {
        let (clock, entropy) = (SteppingClock::default(), SeededEntropy::new(1));
        let store = MemoryStore::new(std::sync::Arc::new(SteppingClock::default()));
        let stderr = "last words".to_owned();
        let kept = TurnTranscript { prompt: String::new(), events: Vec::new(), left_out: 0, stop: TurnStop::Failed, detail: None, stderr };
        let blob = store.put_blob(&serde_json::to_vec(&kept).unwrap()).unwrap();
        let (task, incarnation) = (TaskId::new(&clock, &entropy), IncarnationId::new(&clock, &entropy));
        let ended = |stop| Event::TurnEnded { task, incarnation, turn: 1, stop, detail: None, transcript: Some(blob.clone()) };
        assert_eq!(stderr_of(&store, &ended(TurnStop::Failed)).unwrap(), "last words");
        assert_eq!(stderr_of(&store, &ended(TurnStop::EndTurn)).unwrap(), "");
        let gone = BlobId::of(b"gone");
        assert_eq!(transcript(&store, &gone).unwrap(), None);
        let odd = store.put_blob(b"{").unwrap();
        assert!(transcript(&store, &odd).unwrap_err().to_string().contains("store check"));
    }
}
