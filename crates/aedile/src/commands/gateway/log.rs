//! `aedile gateway log`.

use std::collections::VecDeque;
use std::time::Duration;

use aedile_gateway::{Outcome, Passage, Passages};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::clock::moment;
use crate::error::{CliError, CliResult};
use crate::output::{Output, one_line, table};
use crate::{disk, exit, state};

#[derive(Debug, Args)]
pub struct LogArgs {
    /// Only this run (its id or the eight characters that other commands print)
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Only this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Only the task with this key
    #[arg(long, value_name = "KEY")]
    task: Option<String>,
    /// Only places that hold this text, such as a host
    #[arg(long, value_name = "TEXT")]
    to: Option<String>,
    /// Only requests that carried this secret
    #[arg(long, value_name = "NAME")]
    secret: Option<String>,
    /// Only requests of which this became
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<Became>,
    /// List at most this many, the newest
    #[arg(long, value_name = "N", default_value_t = 100)]
    last: usize,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Became {
    Passed,
    Denied,
    Asked,
    Failed,
}

impl LogArgs {
    fn wants(&self, run: Option<aedile_core::RunId>, passage: &Passage) -> bool {
        let became = self.outcome.is_none_or(|became| {
            passage.outcome
                == match became {
                    Became::Passed => Outcome::Passed,
                    Became::Denied => Outcome::Denied,
                    Became::Asked => Outcome::Asked,
                    Became::Failed => Outcome::Failed,
                }
        });
        became
            && run.is_none_or(|run| passage.run == run)
            && self.agent.as_ref().is_none_or(|agent| passage.agent.as_str() == agent)
            && self.task.as_ref().is_none_or(|task| passage.key.as_str() == task)
            && self.to.as_ref().is_none_or(|to| passage.to.contains(to.as_str()))
            && self.secret.as_ref().is_none_or(|secret| passage.secrets.contains(secret))
    }
}

/// Runs `aedile gateway log`.
pub fn cmd_log(args: &LogArgs, out: Output) -> CliResult {
    let run = match &args.run {
        None => None,
        Some(text) => match state::open_existing()? {
            None => return Err(state::no_run(text)),
            Some(store) => Some(state::find_run(&store, text)?.run),
        },
    };
    let dir = state::dir()?.join(crate::tracing_log::DIR);
    let (mut kept, mut all) = (VecDeque::new(), 0_usize);
    let read = Passages::read(&dir, |passage| {
        if args.wants(run, &passage) {
            all += 1;
            kept.push_back(passage);
            if kept.len() > args.last {
                kept.pop_front();
            }
        }
    });
    let strange = read.map_err(|error| CliError::new(exit::STATE, format!("the log in {} cannot be read: {error}", dir.display())))?;
    if strange > 0 {
        out.warn(format!("{strange} lines of the log in {} cannot be read and are left out", dir.display()));
    }
    out.object_or(&json!({ "requests": kept, "of": all, "unreadable": strange }), || {
        if kept.is_empty() {
            return vec!["no request is listed: nothing that was asked for left a box, or would have".to_owned()];
        }
        let head = ["WHEN", "AGENT", "TASK", "OUTCOME", "REQUEST", "RULE", "SECRETS", "OUT", "IN", "HEAD", "END"].map(str::to_owned);
        let mut lines = table(&std::iter::once(head.to_vec()).chain(kept.iter().map(row)).collect::<Vec<_>>());
        if all > kept.len() {
            lines.push(format!("the newest {} of {all}; `--last N` lists more", kept.len()));
        }
        lines
    });
    Ok(exit::OK)
}

fn row(passage: &Passage) -> Vec<String> {
    let plain = |text: &str| one_line(text, 160);
    let rule = match (passage.layer, passage.rule.as_deref()) {
        (_, None) => "-".to_owned(),
        (None, Some(rule)) => plain(rule),
        (Some(layer), Some(rule)) => plain(&format!("{layer}/{rule}")),
    };
    let status = if passage.status == 0 { String::new() } else { format!(" {}", passage.status) };
    let cut = if passage.outcome == Outcome::Passed && !passage.whole { ", cut" } else { "" };
    let model = passage.model.as_ref().map_or_else(String::new, |model| format!(" ({model})"));
    let secrets = if passage.secrets.is_empty() { "-".to_owned() } else { passage.secrets.join(", ") };
    vec![
        moment(passage.at),
        passage.agent.to_string(),
        passage.key.to_string(),
        format!("{}{status}{cut}", passage.outcome.as_str()),
        plain(&format!("{} {}{model}", passage.method, passage.to)),
        rule,
        plain(&secrets),
        size(passage.bytes_out),
        size(passage.bytes_in),
        took(passage.head_us),
        took(passage.us),
    ]
}

fn size(bytes: u64) -> String {
    if bytes < 10_000 { format!("{bytes} B") } else { disk::bytes(bytes) }
}

fn took(us: u64) -> String {
    let time = Duration::from_micros(us);
    if time < Duration::from_secs(10) { format!("{:.1} ms", time.as_secs_f64() * 1000.0) } else { format!("{:.1} s", time.as_secs_f64()) }
}
