//! What `run` and `demo` show while they work: a line per agent on a terminal, plain lines elsewhere, events with `--json`.

use std::io::IsTerminal;
use std::time::Duration;

use aedile_core::event::Position;
use aedile_core::limits::READ_EVENTS_MAX;
use aedile_core::machine::{AgentState, ChangeState};
use aedile_core::store::{Store, StoreError};
use aedile_core::{Clock, RunId};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::clock::{SystemClock, ago};
use crate::narrate::{Narrator, Weight};
use crate::output::{Output, one_line};
use crate::picture::Picture;
use crate::state;
use crate::worker::Face;

/// Follows one run and shows it.
pub struct Progress {
    out: Output,
    run: RunId,
    after: Position,
    narrator: Narrator,
    live: Option<Live>,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress").field("run", &self.run).field("after", &self.after).finish_non_exhaustive()
    }
}

struct Live {
    all: MultiProgress,
    lines: Vec<ProgressBar>,
}

impl Progress {
    /// Shows what comes after `shown`; what lies before in the log only teaches it names.
    pub fn new(store: &dyn Store, run: RunId, shown: Position, out: Output) -> Result<Self, StoreError> {
        let mut narrator = Narrator::default();
        let mut at = Position(0);
        while at < shown {
            let events = store.read(at, READ_EVENTS_MAX)?;
            for envelope in events.iter().take_while(|envelope| envelope.position <= shown) {
                narrator.say(envelope);
            }
            at = events.last().map_or(shown, |envelope| envelope.position);
        }
        let live = (!out.json && std::io::stdout().is_terminal()).then(|| Live { all: MultiProgress::new(), lines: Vec::new() });
        Ok(Self { out, run, after: shown, narrator, live })
    }

    fn redraw(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        let Some(live) = &mut self.live else { return Ok(()) };
        let Some(run) = state::view_of(store, self.run)? else { return Ok(()) };
        let lines = live_lines(&Picture::of(store, run)?);
        while live.lines.len() < lines.len() {
            let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            live.lines.push(live.all.add(ProgressBar::new_spinner().with_style(style)));
        }
        for (at, bar) in live.lines.iter().enumerate() {
            bar.set_message(lines.get(at).cloned().unwrap_or_default());
            bar.tick();
        }
        Ok(())
    }
}

impl Face for Progress {
    fn update(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        loop {
            let events = store.read(self.after, READ_EVENTS_MAX)?;
            if events.is_empty() {
                break;
            }
            for envelope in &events {
                self.after = envelope.position;
                let said = self.narrator.say(envelope);
                if envelope.run != Some(self.run) {
                    continue;
                }
                if self.out.json {
                    self.out.object(envelope);
                } else if let Some((Weight::Step, line)) = said {
                    match &self.live {
                        Some(live) => drop(live.all.println(line)),
                        None => self.out.line(line),
                    }
                }
            }
        }
        self.redraw(store)
    }

    fn position(&self) -> Position {
        self.after
    }

    /// What was said stays.
    fn finish(self: Box<Self>) {
        if let Some(live) = self.live {
            let _ = live.all.clear();
        }
    }
}

/// A line for each agent at work, then one for the landing.
fn live_lines(picture: &Picture) -> Vec<String> {
    let now = SystemClock.now();
    let mut lines = Vec::new();
    for agent in picture.agents.iter().filter(|agent| agent.state != AgentState::Ended) {
        let Some(task) = picture.tasks.iter().find(|task| task.task == agent.task) else { continue };
        let (waits, since) = picture.waits(task);
        let (tokens, usd) = picture.spent(task.task);
        let waits = if waits.is_empty() { String::new() } else { format!("waits for {waits}, ") };
        lines.push(one_line(
            &format!(
                "  {:10} {:14} {:13} {waits}{}  {tokens} tokens, {usd}",
                agent.agent.as_str(),
                agent.key,
                agent.state.as_str(),
                ago(now.since(since))
            ),
            160,
        ));
    }
    let queue: Vec<_> =
        picture.changes.iter().filter(|change| !matches!(change.state, ChangeState::Landed | ChangeState::Returned)).collect();
    let head = queue
        .first()
        .map_or(String::new(), |change| format!(", {} is {} for {}", picture.key(change.task), change.state, ago(now.since(change.since))));
    lines.push(format!("  landing    {} of {} landed, {} in the queue{head}", picture.landed(), picture.to_land(), queue.len()));
    lines
}

/// How often the live lines are drawn again when nothing happens.
pub const REDRAW_EVERY: Duration = Duration::from_millis(500);
