//! `aedile secret audit`.

use std::collections::BTreeMap;

use aedile_core::event::{Event, Position};
use aedile_core::store::Store;
use aedile_core::{AgentName, IncarnationId, RunId, TaskId, Timestamp};
use clap::Args;
use serde_json::json;

use crate::clock::moment;
use crate::error::CliResult;
use crate::output::{Output, one_line, table};
use crate::{exit, state};

/// Events that are read at once.
const READ_AT_ONCE: usize = 1000;
/// Begins the grants of a box that are secrets.
const GRANT: &str = "secret ";

#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Only this secret
    #[arg(long, value_name = "NAME")]
    secret: Option<String>,
    /// Only this run (its id or the eight characters that other commands print)
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// For each task which agent could have used which secret, used or not
    #[arg(long)]
    tasks: bool,
}

/// One line of the audit: when, which task's key, who, which secret, what with it.
struct Line {
    at: Timestamp,
    run: RunId,
    task: TaskId,
    agent: String,
    secret: String,
    what: String,
    rule: String,
}

/// Runs `aedile secret audit`.
pub fn cmd_audit(args: &AuditArgs, out: Output) -> CliResult {
    let (mut lines, mut known) = (Vec::new(), Known::default());
    if let Some(store) = state::open_existing()? {
        let run = args.run.as_deref().map(|text| state::find_run(&store, text)).transpose()?.map(|run| run.run);
        let mut after = Position(0);
        loop {
            let events = store.read(after, READ_AT_ONCE)?;
            let Some(last) = events.last() else { break };
            after = last.position;
            for envelope in events {
                let wanted =
                    |line: &Line| run.is_none_or(|run| line.run == run) && args.secret.as_ref().is_none_or(|wanted| *wanted == line.secret);
                lines.extend(known.read(envelope.at, envelope.event, args.tasks).into_iter().filter(wanted));
            }
        }
    }
    let key = |line: &Line| known.tasks.get(&line.task).map_or_else(|| "-".to_owned(), |(_, key)| key.clone());
    let values: Vec<_> = lines
        .iter()
        .map(|line| {
            json!({
                "at": line.at, "run": line.run, "task": key(line), "agent": line.agent, "secret": line.secret, "what": line.what, "rule": line.rule,
            })
        })
        .collect();
    let name = if args.tasks { "grants" } else { "uses" };
    out.object_or(&json!({ name: values }), || {
        if lines.is_empty() {
            return vec![
                if args.tasks { "no agent could use a secret of the vault" } else { "no secret of the vault was used by an agent" }
                    .to_owned(),
            ];
        }
        let last = if args.tasks { "MAY GO" } else { "REQUEST" };
        let head = ["WHEN", "RUN", "TASK", "AGENT", "SECRET", last, "RULE"].map(str::to_owned).to_vec();
        let row = |line: &Line| {
            let plain = |text: &str| one_line(text, 160);
            vec![
                moment(line.at),
                line.run.short(),
                key(line),
                plain(&line.agent),
                plain(&line.secret),
                plain(&line.what),
                plain(&line.rule),
            ]
        };
        table(&std::iter::once(head).chain(lines.iter().map(row)).collect::<Vec<_>>())
    });
    Ok(exit::OK)
}

/// What earlier events said of the tasks and agents that later ones name.
#[derive(Default)]
struct Known {
    tasks: BTreeMap<TaskId, (RunId, String)>,
    agents: BTreeMap<IncarnationId, AgentName>,
}

impl Known {
    /// Takes an event in; the lines that it makes.
    fn read(&mut self, at: Timestamp, event: Event, grants: bool) -> Vec<Line> {
        match event {
            Event::TaskOpened { run, task, spec } => drop(self.tasks.insert(task, (run, spec.key.to_string()))),
            Event::TaskClaimed { incarnation, agent, .. } => drop(self.agents.insert(incarnation, agent)),
            Event::SecretUsed { run, task, agent, secret, method, host, path, rule } if !grants => {
                return vec![Line { at, run, task, agent: agent.to_string(), secret, what: format!("{method} {host}{path}"), rule }];
            }
            Event::SecretRefreshed { run, task, agent, secret, host, until, rotated } if !grants => {
                let rotated = if rotated { ", with another refresh token" } else { "" };
                let what = format!("refreshed at {host}{rotated}, lasts until {}", moment(until));
                return vec![Line { at, run, task, agent: agent.to_string(), secret, what, rule: String::new() }];
            }
            Event::SecretNotRefreshed { run, task, agent, secret, host, why } if !grants => {
                let what = format!("not refreshed at {host}: {why}");
                return vec![Line { at, run, task, agent: agent.to_string(), secret, what, rule: String::new() }];
            }
            Event::BoxReady { task, incarnation, grants: granted, .. } if grants => {
                let Some((run, _)) = self.tasks.get(&task) else { return Vec::new() };
                let agent = self.agents.get(&incarnation).map_or_else(|| "-".to_owned(), ToString::to_string);
                let line = |grant: &str| {
                    let (secret, what) = grant.split_once(' ').unwrap_or((grant, ""));
                    let (secret, what) = (secret.to_owned(), what.to_owned());
                    Line { at, run: *run, task, agent: agent.clone(), secret, what, rule: String::new() }
                };
                return granted.iter().filter_map(|grant| grant.strip_prefix(GRANT)).map(line).collect();
            }
            _ => {}
        }
        Vec::new()
    }
}
