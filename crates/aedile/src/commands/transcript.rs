//! `aedile transcript`.

use std::collections::{HashMap, HashSet};

use aedile_core::event::{Event, Position};
use aedile_core::limits::READ_EVENTS_MAX;
use aedile_core::runtime::{SessionEvent, TurnStop};
use aedile_core::store::{Store, load};
use aedile_core::tool::cut_middle;
use aedile_core::view::{AgentView, RunView, TaskView};
use aedile_core::{BlobId, IncarnationId, MicroUsd, SpendId, Timestamp};
use aedile_fleet::TurnTranscript;
use clap::Args;
use serde_json::{Value, json};

use crate::clock::moment;
use crate::commands::costs::dollars;
use crate::commands::logs::transcript;
use crate::error::{CliError, CliResult};
use crate::narrate::seconds;
use crate::output::{Output, one_line};
use crate::terminal::printable;
use crate::{exit, names, state};

/// How much of one tool's output is printed for people, in bytes.
const OUTPUT_BYTES_MAX: usize = 2000;

/// Print what an agent was told, said and did, turn by turn, with what each turn cost
#[derive(Debug, Args)]
pub struct TranscriptArgs {
    /// The agent
    agent: String,
    /// The run (its id or the eight characters that other commands print); otherwise the last one that has the agent
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
}

/// One turn as the log tells it.
struct Turn {
    number: u32,
    incarnation: IncarnationId,
    started: Timestamp,
    ended: Option<Ended>,
    /// How its agent's life ended, when the turn has no end of its own.
    cut: Option<String>,
    requests: u64,
    estimated: u64,
    tokens: u64,
    usd: MicroUsd,
}

struct Ended {
    at: Timestamp,
    stop: TurnStop,
    detail: Option<String>,
    transcript: Option<BlobId>,
}

/// Runs `aedile transcript`.
pub fn cmd_transcript(args: &TranscriptArgs, out: Output) -> CliResult {
    let store = state::open_existing()?.ok_or_else(state::nothing_yet)?;
    let (run, agent) = names::agent(&store, args.run.as_deref(), &args.agent)?;
    let task: Option<TaskView> = load(&store, &agent.task.to_string())?;
    let turns = turns(&store, &run, &agent)?;
    let title = task.map(|task| task.spec.title).unwrap_or_default();
    if out.json {
        let turns = turns.iter().map(|turn| Ok(object(turn, read(&store, turn)?.as_ref()))).collect::<Result<Vec<_>, CliError>>()?;
        out.object(&json!({ "run": run.run, "agent": agent.agent, "task": agent.key, "title": title, "turns": turns }));
        return Ok(exit::OK);
    }
    out.line(format!("{} on {}: {} (run {})", agent.agent, agent.key, one_line(&title, 200), run.run.short()));
    if turns.is_empty() {
        out.line("it has begun no turn yet");
    }
    for turn in &turns {
        out.line(format!("\n{}", heading(turn)));
        match read(&store, turn)? {
            Some(transcript) => print(&transcript, out),
            None if turn.ended.is_some() => out.line("its transcript is no longer kept (`aedile clean` removes those of ended runs)"),
            None => {}
        }
    }
    Ok(exit::OK)
}

fn read(store: &dyn Store, turn: &Turn) -> Result<Option<TurnTranscript>, CliError> {
    match turn.ended.as_ref().and_then(|ended| ended.transcript.as_ref()) {
        Some(blob) => transcript(store, blob),
        None => Ok(None),
    }
}

/// Reads the agent's turns from the log. A request counts for the turn in which it was made.
fn turns(store: &dyn Store, run: &RunView, agent: &AgentView) -> Result<Vec<Turn>, CliError> {
    let mut lives: HashSet<IncarnationId> = HashSet::new();
    let mut requests: HashMap<SpendId, usize> = HashMap::new();
    let mut turns: Vec<Turn> = Vec::new();
    let mut after = Position(run.first.0.saturating_sub(1));
    loop {
        let events = store.read(after, READ_EVENTS_MAX)?;
        let Some(last) = events.last() else { return Ok(turns) };
        after = last.position;
        for envelope in events.iter().filter(|envelope| envelope.run == Some(run.run)) {
            match &envelope.event {
                Event::TaskClaimed { agent: name, incarnation, .. } if *name == agent.agent => drop(lives.insert(*incarnation)),
                Event::TurnStarted { incarnation, turn, .. } if lives.contains(incarnation) => {
                    turns.push(Turn {
                        number: *turn,
                        incarnation: *incarnation,
                        started: envelope.at,
                        ended: None,
                        cut: None,
                        requests: 0,
                        estimated: 0,
                        tokens: 0,
                        usd: MicroUsd(0),
                    });
                }
                Event::TurnEnded { incarnation, stop, detail, transcript, .. } if lives.contains(incarnation) => {
                    if let Some(turn) = turns.last_mut() {
                        let (detail, transcript) = (detail.clone(), transcript.clone());
                        turn.ended = Some(Ended { at: envelope.at, stop: *stop, detail, transcript });
                    }
                }
                Event::AgentEnded { incarnation, why, .. } if lives.contains(incarnation) => {
                    if let Some(turn) = turns.last_mut().filter(|turn| turn.ended.is_none()) {
                        turn.cut = Some(why.clone());
                    }
                }
                Event::SpendReserved { spend, agent: name, .. } if *name == agent.agent && !turns.is_empty() => {
                    requests.insert(*spend, turns.len() - 1);
                }
                Event::SpendSettled { spend, usage, usd, estimated } => {
                    if let Some(turn) = requests.remove(spend).and_then(|at| turns.get_mut(at)) {
                        turn.requests += 1;
                        turn.estimated += u64::from(*estimated);
                        turn.tokens = turn.tokens.saturating_add(usage.total());
                        turn.usd = turn.usd.plus(*usd);
                    }
                }
                _ => {}
            }
        }
    }
}

fn heading(turn: &Turn) -> String {
    let estimated = if turn.estimated > 0 { " (estimated in part)" } else { "" };
    let cost = format!("{} requests, {} tokens, {}{estimated}", turn.requests, turn.tokens, turn.usd);
    let how = match (&turn.ended, &turn.cut) {
        (Some(ended), _) => {
            let detail = ended.detail.as_deref().map(|detail| format!(": {}", one_line(detail, 300))).unwrap_or_default();
            let millis = u64::try_from(ended.at.since(turn.started).as_millis()).unwrap_or(u64::MAX);
            format!("{} after {}{detail}", words(ended.stop), seconds(millis))
        }
        (None, Some(why)) => format!("cut short, and nothing of it was kept: {}", one_line(why, 300)),
        (None, None) => "under way".to_owned(),
    };
    format!("== turn {}, {}, {how}; {cost}", turn.number, moment(turn.started))
}

fn words(stop: TurnStop) -> &'static str {
    match stop {
        TurnStop::EndTurn => "ended by itself",
        TurnStop::Limit => "ended at its limit of steps",
        TurnStop::MaxTokens => "ended at the model's output limit",
        TurnStop::Refusal => "ended since the model declined",
        TurnStop::Cancelled => "was interrupted",
        TurnStop::Failed => "broke off",
    }
}

fn print(transcript: &TurnTranscript, out: Output) {
    lines(&transcript.prompt, "> ", out);
    let mut open = Vec::new();
    transcript.events.iter().for_each(|event| print_event(event, "", &mut open, out));
    open.iter().for_each(|(mark, _, title)| out.line(format!("{mark}[{}] was not finished", one_line(title, 300))));
    if transcript.left_out > 0 {
        out.line(format!("[{} more events were too much to keep]", transcript.left_out));
    }
    lines(&transcript.stderr, "    stderr | ", out);
}

fn lines(text: &str, mark: &str, out: Output) {
    printable(text.trim_end().as_bytes()).lines().for_each(|line| out.line(format!("{mark}{line}").trim_end()));
}

/// Prints one event; `open` are the tool calls that have begun: whose, which, and what.
fn print_event<'a>(event: &'a SessionEvent, mark: &str, open: &mut Vec<(String, &'a str, &'a str)>, out: Output) {
    match event {
        SessionEvent::Text { text } => lines(text, mark, out),
        SessionEvent::Warning { text } => lines(text, &format!("{mark}! "), out),
        SessionEvent::ToolStarted { id, title } => open.push((mark.to_owned(), id, title)),
        SessionEvent::ToolEnded { id, is_error, output } => {
            let at = open.iter().position(|(whose, which, _)| whose == mark && which == id);
            let title = at.map_or("a tool", |at| open.remove(at).2);
            out.line(format!("{mark}[{}]{}", one_line(title, 300), if *is_error { " failed" } else { "" }));
            lines(&cut_middle(output.trim_end(), OUTPUT_BYTES_MAX), &format!("{mark}    "), out);
        }
        SessionEvent::Message { text } => lines(text, &format!("{mark}> "), out),
        SessionEvent::Retrying { attempt, why, .. } => out.line(format!("{mark}! {}; try {attempt}", one_line(why, 300))),
        // What was charged stands at the turn.
        SessionEvent::Used { .. } => {}
        SessionEvent::Output { value } => lines(&format!("answer by the schema: {value:#}"), mark, out),
        SessionEvent::SubAgent { agent, event } => print_event(event, &format!("{mark}{} | ", one_line(agent, 40)), open, out),
    }
}

fn object(turn: &Turn, transcript: Option<&TurnTranscript>) -> Value {
    let ended = turn.ended.as_ref();
    json!({
        "turn": turn.number, "incarnation": turn.incarnation, "started": moment(turn.started), "ended": ended.map(|ended| moment(ended.at)),
        "stop": ended.map(|ended| ended.stop), "detail": ended.and_then(|ended| ended.detail.as_ref()).or(turn.cut.as_ref()),
        "prompt": transcript.map(|of| &of.prompt), "events": transcript.map(|of| &of.events), "left_out": transcript.map(|of| of.left_out),
        "stderr": transcript.map(|of| &of.stderr),
        "requests": turn.requests, "estimated_requests": turn.estimated, "tokens": turn.tokens, "usd": dollars(turn.usd),
    })
}
