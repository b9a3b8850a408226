//! What a person sees while one agent works: its words as they come, its tools, the steps of its change, and a line to answer on.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::Arc;

use aedile_core::event::{Envelope, Event, Position};
use aedile_core::limits::READ_EVENTS_MAX;
use aedile_core::runtime::SessionEvent;
use aedile_core::store::{Store, StoreError};
use aedile_core::{AgentName, Clock, RunId};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::json;

use super::heard::{Heard, Piece};
use super::input::{Fate, Input};
use crate::clock::{SystemClock, ago};
use crate::narrate::{Narrator, Weight};
use crate::output::{Output, one_line};
use crate::picture::Picture;
use crate::state;
use crate::worker::Face;

/// Columns where the terminal does not say how many it has.
const COLUMNS: usize = 80;

/// Shows one agent.
pub struct CodeFace {
    out: Output,
    run: RunId,
    after: Position,
    narrator: Narrator,
    heard: Arc<Heard>,
    input: Option<Input>,
    titles: HashMap<String, String>,
    waits: bool,
    screen: Screen,
}

/// Where text goes.
enum Screen {
    /// Objects, a line each.
    Json,
    /// Whole lines; this one is not whole yet.
    Plain(String),
    /// A terminal with lines that are drawn again.
    Live(Live),
}

struct Live {
    all: MultiProgress,
    /// The words that make no whole line yet, the state of the agent, and what is being typed.
    bars: [ProgressBar; 3],
    partial: String,
}

impl CodeFace {
    /// Shows what comes after `shown`.
    pub fn new(
        store: &dyn Store,
        run: RunId,
        shown: Position,
        (heard, input): (Arc<Heard>, Option<Input>),
        out: Output,
    ) -> Result<Self, StoreError> {
        let mut narrator = Narrator::default();
        // What lies before teaches it names. A new run's first events are behind `shown`.
        let mut at = state::view_of(store, run)?.map_or(shown, |run| Position(run.first.0.saturating_sub(1)));
        while at < shown {
            let events = store.read(at, READ_EVENTS_MAX)?;
            let Some(last) = events.last() else { break };
            at = last.position;
            events.iter().filter(|envelope| envelope.run == Some(run)).for_each(|envelope| drop(narrator.say(envelope)));
        }
        let live = !out.json && std::io::stdout().is_terminal() && std::io::stderr().is_terminal() && !MultiProgress::new().is_hidden();
        let screen = match (out.json, live) {
            (true, _) => Screen::Json,
            (false, true) => Screen::Live(Live::new(input.as_ref().is_some_and(|input| input.edited().is_some()))),
            (false, false) => Screen::Plain(String::new()),
        };
        Ok(Self { out, run, after: shown, narrator, heard, input, titles: HashMap::new(), waits: false, screen })
    }

    fn piece(&mut self, agent: &AgentName, piece: &Piece) {
        self.waits = matches!(piece, Piece::Waits);
        if let Screen::Json = self.screen {
            let session = match piece {
                Piece::Event(event) => json!(event),
                Piece::Waits => json!({ "kind": "waits" }),
                Piece::LeftOut(pieces) => json!({ "kind": "left_out", "pieces": pieces }),
            };
            self.out.object(&json!({ "agent": agent, "session": session }));
            return;
        }
        match piece {
            Piece::Event(SessionEvent::Text { text }) => self.text(text),
            Piece::Event(SessionEvent::ToolStarted { id, title }) => {
                let title = one_line(title, 120);
                self.line(&format!("  > {title}"));
                self.titles.insert(id.clone(), title);
            }
            Piece::Event(SessionEvent::ToolEnded { id, is_error, output }) => {
                let title = self.titles.remove(id).unwrap_or_default();
                if *is_error {
                    let first = output.lines().find(|line| !line.trim().is_empty()).unwrap_or("it failed");
                    self.line(&format!("  ! {title}: {}", one_line(first.trim(), 120)));
                }
            }
            Piece::Event(SessionEvent::Warning { text }) => self.line(&format!("  warning: {}", one_line(text, 300))),
            // Its text was shown already.
            Piece::Event(SessionEvent::Output { .. }) => {}
            Piece::Event(SessionEvent::SubAgent { agent: sub, event }) => self.sub_agent(sub, event),
            Piece::Event(SessionEvent::Message { .. }) => self.line(&format!("  {agent} has your message")),
            Piece::Event(SessionEvent::Retrying { attempt, why, wait_ms }) => {
                self.line(&format!("  waits for its model: {}, try {attempt} in {} s", one_line(why, 200), wait_ms.div_ceil(1000)));
            }
            Piece::Event(SessionEvent::Used { .. }) => {}
            Piece::Waits => self.line(&format!("{agent} waits for you: type an answer, or Ctrl-D to let it finish")),
            Piece::LeftOut(pieces) => self.line(&format!("[{pieces} pieces came too fast to be shown; the transcript has them]")),
        }
    }

    /// What a sub-agent does; what it says is its parent's to tell.
    fn sub_agent(&mut self, name: &str, event: &SessionEvent) {
        match event {
            SessionEvent::ToolStarted { title, .. } => self.line(&format!("  > [{name}] {}", one_line(title, 120))),
            SessionEvent::Warning { text } => self.line(&format!("  warning: [{name}] {}", one_line(text, 300))),
            _ => {}
        }
    }

    /// Words as they come; only whole lines stay.
    fn text(&mut self, text: &str) {
        let clean = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
        match &mut self.screen {
            Screen::Json => {}
            Screen::Plain(partial) => {
                partial.extend(text.chars().map(clean));
                while let Some(end) = partial.find('\n') {
                    let rest = partial.split_off(end + 1);
                    self.out.line(partial.trim_end_matches('\n'));
                    *partial = rest;
                }
            }
            Screen::Live(live) => live.text(text.chars().map(clean)),
        }
    }

    /// A line of ours, below the words so far.
    fn line(&mut self, line: &str) {
        match &mut self.screen {
            Screen::Json => {}
            Screen::Plain(partial) => {
                if !partial.is_empty() {
                    self.out.line(std::mem::take(partial));
                }
                self.out.line(line);
            }
            Screen::Live(live) => {
                live.flush();
                live.print(line);
            }
        }
    }

    fn event(&mut self, envelope: &Envelope) {
        let said = self.narrator.say(envelope);
        if envelope.run != Some(self.run) {
            return;
        }
        if let Screen::Json = self.screen {
            self.out.object(envelope);
            return;
        }
        match &envelope.event {
            // The opening and closing lines say these, or the session shows them.
            Event::RunStarted { .. } | Event::RunEnded { .. } | Event::TaskHeld { .. } | Event::TaskClaimed { .. } => {}
            Event::MailSent { from, body, .. } if from != "person" => {
                self.line(&format!("{from} writes to you:"));
                body.lines().for_each(|line| self.line(&format!("  {}", one_line(line, 2000))));
            }
            Event::MailSent { .. } => {}
            _ => {
                if let Some((Weight::Step, line)) = said {
                    self.line(line.trim_start_matches("code: "));
                }
            }
        }
    }

    fn fate(&mut self, text: &str, fate: &Fate) {
        let (state, why) = match fate {
            Fate::Sent => ("sent", None),
            Fate::Refused(why) => ("refused", Some(why)),
        };
        if let Screen::Json = self.screen {
            self.out.object(&json!({ "message": { "text": text, "state": state, "why": why } }));
            return;
        }
        let text = one_line(text, 200);
        match why {
            None if self.waits => self.line(&format!("you: {text}")),
            None => self.line(&format!("you: {text}  (it gets this after its present step, or when its turn ends)")),
            Some(why) => self.line(&format!("not sent: {why}: {text}")),
        }
        self.waits = false;
    }

    fn redraw(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        let Screen::Live(live) = &self.screen else { return Ok(()) };
        let Some(run) = state::view_of(store, self.run)? else { return Ok(()) };
        let picture = Picture::of(store, run)?;
        if let Some(task) = picture.tasks.first() {
            let (waits, since) = picture.waits(task);
            let (tokens, usd) = picture.spent(task.task);
            let waits = match (self.waits, waits.is_empty()) {
                (true, _) => "you".to_owned(),
                (false, true) => task.state.to_string(),
                (false, false) => waits,
            };
            live.bars[1].set_message(one_line(&format!("  {waits}, {}  {tokens} tokens, {usd}", ago(SystemClock.now().since(since))), 160));
        }
        if let Some(edited) = self.input.as_ref().and_then(Input::edited) {
            // The end of a long line is what its writer looks at.
            let skipped = edited.chars().count().saturating_sub(columns() - 4);
            live.bars[2].set_message(format!("> {}\u{2581}", one_line(&edited.chars().skip(skipped).collect::<String>(), usize::MAX)));
        }
        live.bars.iter().for_each(ProgressBar::tick);
        Ok(())
    }
}

impl Face for CodeFace {
    fn position(&self) -> Position {
        self.after
    }

    fn update(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        for (agent, piece) in self.heard.take() {
            self.piece(&agent, &piece);
        }
        loop {
            let events = store.read(self.after, READ_EVENTS_MAX)?;
            let Some(last) = events.last() else { break };
            self.after = last.position;
            events.iter().for_each(|envelope| self.event(envelope));
        }
        let fates = match &mut self.input {
            Some(input) => input.deliver(store, self.run)?,
            None => Vec::new(),
        };
        fates.iter().for_each(|(text, fate)| self.fate(text, fate));
        self.redraw(store)
    }

    fn finish(mut self: Box<Self>) {
        for (agent, piece) in self.heard.end() {
            self.piece(&agent, &piece);
        }
        match &mut self.screen {
            Screen::Json => {}
            Screen::Plain(partial) => {
                if !partial.is_empty() {
                    self.out.line(std::mem::take(partial));
                }
            }
            Screen::Live(live) => {
                live.flush();
                let _ = live.all.clear();
            }
        }
    }
}

/// The columns of the terminal.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(0, |size| usize::from(size.ws_col));
    if size < 20 { COLUMNS } else { size }
}

impl Live {
    fn new(typing: bool) -> Self {
        let all = MultiProgress::new();
        let style = ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = || ProgressBar::new_spinner().with_style(style.clone());
        let bars = [all.add(bar()), all.add(bar()), if typing { all.add(bar()) } else { ProgressBar::hidden() }];
        Self { all, bars, partial: String::new() }
    }

    fn print(&self, line: &str) {
        // Above the drawn lines; where they cannot be drawn, straight.
        if self.all.println(line).is_err() {
            let _ = writeln!(std::io::stdout().lock(), "{line}");
        }
    }

    fn text(&mut self, text: impl Iterator<Item = char>) {
        let width = columns() - 1;
        for c in text {
            if c == '\n' {
                self.print(&self.partial);
                self.partial.clear();
                continue;
            }
            self.partial.push(c);
            if self.partial.chars().count() >= width {
                let at = self.partial.rfind(' ').map_or(self.partial.len(), |at| at + 1);
                let rest = self.partial.split_off(at);
                self.print(self.partial.trim_end());
                self.partial = rest;
            }
        }
        self.bars[0].set_message(self.partial.clone());
    }

    fn flush(&mut self) {
        if !self.partial.is_empty() {
            self.print(&self.partial);
            self.partial.clear();
            self.bars[0].set_message("");
        }
    }
}
