//! `aedile status`.

use aedile_core::machine::{AgentState, ChangeState, RunState};
use aedile_core::view::RunView;
use aedile_core::{Clock, MicroUsd};
use clap::Args;
use serde_json::json;

use crate::clock::{SystemClock, ago, moment};
use crate::commands::costs::dollars;
use crate::error::CliResult;
use crate::narrate::{branch, short};
use crate::output::{Output, one_line, table};
use crate::picture::Picture;
use crate::{disk, exit, state};

/// Show runs, tasks, agents, the landing queue, costs and disk use
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// This run only (its id or the eight characters that other commands print)
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Every run, not only those under way and the last one
    #[arg(long)]
    all: bool,
}

/// Runs `aedile status`.
pub fn cmd_status(args: &StatusArgs, out: Output) -> CliResult {
    let Some(store) = state::open_existing()? else {
        if let Some(text) = &args.run {
            return Err(state::no_run(text));
        }
        out.say("nothing has been run yet; `aedile demo` shows how it looks, `aedile init` prepares this repository");
        if out.json {
            out.object(&json!({ "runs": [], "disk": disk::Use::default() }));
        }
        return Ok(exit::OK);
    };
    let runs = match &args.run {
        Some(text) => vec![state::find_run(&store, text)?],
        None => shown(state::runs(&store)?, args.all),
    };
    let pictures = runs.into_iter().map(|run| Picture::of(&store, run)).collect::<Result<Vec<_>, _>>()?;
    let used = disk::measure(&state::dir()?);
    if out.json {
        let runs: Vec<_> = pictures.iter().map(run_json).collect();
        out.object(&json!({ "runs": runs, "disk": used }));
        return Ok(exit::OK);
    }
    for picture in &pictures {
        print(picture, out);
    }
    out.line(format!("state: {}{} in {}", if used.complete { "" } else { "more than " }, disk::bytes(used.bytes), state::dir()?.display()));
    Ok(exit::OK)
}

fn shown(mut runs: Vec<RunView>, all: bool) -> Vec<RunView> {
    let last = runs.last().map(|run| run.run);
    runs.retain(|run| all || Some(run.run) == last || run.state != RunState::Ended);
    runs
}

fn print(picture: &Picture, out: Output) {
    let now = SystemClock.now();
    let run = &picture.run;
    out.line(format!("run {}  {}  ({} for {})", run.run.short(), one_line(&run.goal, 80), run.state, ago(now.since(run.since))));
    out.line(format!("  {} of {} landed on {} at {}", picture.landed(), picture.to_land(), branch(&run.landing_ref), short(&run.tip)));
    if run.state == RunState::Paused {
        out.line(format!("  paused since {}: nothing is started, what is submitted lands; `aedile run resume` goes on", moment(run.since)));
    }
    if matches!(run.state, RunState::Running | RunState::Paused | RunState::Stopping) && picture.worker.is_none() {
        out.line("  no worker drives it; `aedile run --resume` goes on");
    }
    if run.rules.gates.is_empty() {
        out.line("  no gate is configured: what lands was not tested (add [[gate]] to aedile.toml)");
    }
    for down in &run.down {
        let again = down.again.map(|again| format!("; tried again at {}", moment(again))).unwrap_or_default();
        out.line(format!("  {} is left alone since {}{again}: {}", down.provider, moment(down.since), one_line(&down.why, 200)));
    }
    let mut rows = vec![["", "task", "state", "since", "agent", "waits for", "tokens", "cost"].map(str::to_owned).to_vec()];
    for task in &picture.tasks {
        let spent = picture.spent(task.task);
        rows.push(vec![
            String::new(),
            task.spec.key.to_string(),
            task.state.to_string(),
            ago(now.since(task.since)),
            task.agent.as_ref().map(ToString::to_string).unwrap_or_default(),
            one_line(&picture.waits_for(task), 70),
            spent.0.to_string(),
            spent.1.to_string(),
        ]);
    }
    table(&rows).into_iter().for_each(|row| out.line(row));
    for agent in picture.agents.iter().filter(|agent| agent.state != AgentState::Ended) {
        if let Some(switched) = &agent.switched {
            let (since, why) = (moment(switched.since), one_line(&switched.why, 200));
            out.line(format!("  {} goes on with {} since {since}: {why}", agent.agent, switched.model));
        }
    }
    for change in picture.changes.iter().filter(|change| !matches!(change.state, ChangeState::Landed | ChangeState::Returned)) {
        out.line(format!("  landing: {} is {} for {}", picture.key(change.task), change.state, ago(now.since(change.since))));
    }
    let unread = picture.mail_for_person;
    if unread > 0 {
        out.line(format!("  mail: {unread} unread for you; `aedile mail read` shows it"));
    }
    out.line(String::new());
}

fn run_json(picture: &Picture) -> serde_json::Value {
    let run = &picture.run;
    let tasks: Vec<_> = picture
        .tasks
        .iter()
        .map(|task| {
            let (tokens, usd): (u64, MicroUsd) = picture.spent(task.task);
            json!({
                "id": task.spec.key, "title": task.spec.title, "state": task.state, "since": moment(task.since), "waits_for": picture.waits_for(task),
                "agent": task.agent, "turn": task.turn, "attempt": task.attempt, "returns": task.returns, "landed": task.landed, "why": task.why,
                "tokens": tokens, "usd": dollars(usd),
            })
        })
        .collect();
    let agents: Vec<_> = picture
        .agents
        .iter()
        .map(|agent| json!({ "agent": agent.agent, "task": agent.key, "state": agent.state, "since": moment(agent.since), "turn": agent.turn, "pid": agent.process.map(|(pid, _)| pid), "model": agent.switched.as_ref().map(|to| json!({ "model": to.model, "why": to.why, "since": moment(to.since) })) }))
        .collect();
    let landing: Vec<_> = picture
        .changes
        .iter()
        .filter(|change| !matches!(change.state, ChangeState::Landed | ChangeState::Returned))
        .map(|change| json!({ "change": change.change, "task": picture.key(change.task), "state": change.state, "since": moment(change.since) }))
        .collect();
    let down: Vec<_> = run
        .down
        .iter()
        .map(|down| json!({ "provider": down.provider, "why": down.why, "since": moment(down.since), "again": down.again.map(moment) }))
        .collect();
    json!({
        "run": run.run, "goal": run.goal, "state": run.state, "worker": picture.worker, "since": moment(run.since), "started": moment(run.started), "repository": run.root,
        "target": run.target, "landing_ref": run.landing_ref, "base": run.base, "tip": run.tip, "gates": run.rules.gates.iter().map(|gate| &gate.name).collect::<Vec<_>>(),
        "tasks": tasks, "agents": agents, "providers_down": down, "landing": landing, "unread_mail": picture.mail_for_person,
    })
}
