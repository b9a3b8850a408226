//! `aedile agent`.

use aedile_core::Clock;
use aedile_core::store::list;
use aedile_core::view::AgentView;
use clap::{Args, Subcommand};

use crate::clock::{SystemClock, ago, moment};
use crate::error::CliResult;
use crate::output::{Output, one_line, table};
use crate::{exit, state};

/// Show agents
#[derive(Debug, Args)]
pub struct AgentArgs {
    #[command(subcommand)]
    command: Option<AgentCommand>,
    /// The run (its id or the eight characters that other commands print); otherwise the last one
    #[arg(long, value_name = "RUN", global = true)]
    run: Option<String>,
}

#[derive(Debug, Subcommand)]
enum AgentCommand {
    /// List the agents of a run
    List,
}

/// Runs `aedile agent`.
pub fn cmd_agent(args: &AgentArgs, out: Output) -> CliResult {
    let AgentCommand::List = args.command.as_ref().unwrap_or(&AgentCommand::List);
    let Some((store, run)) = state::last_run(args.run.as_deref())? else {
        out.object_or(&serde_json::json!({ "run": null, "agents": [] }), || vec![state::NOTHING_YET.to_owned()]);
        return Ok(exit::OK);
    };
    let agents: Vec<AgentView> = list(&store, Some(run.run))?;
    if out.json {
        let rows: Vec<_> = agents
            .iter()
            .map(|agent| {
                serde_json::json!({
                    "agent": agent.agent, "task": agent.key, "state": agent.state, "since": moment(agent.since), "turn": agent.turn,
                    "incarnation": agent.incarnation, "pid": agent.process.map(|(pid, _)| pid), "ended": agent.ended,
                })
            })
            .collect();
        out.object(&serde_json::json!({ "run": run.run, "agents": rows }));
        return Ok(exit::OK);
    }
    let now = SystemClock.now();
    let mut rows = vec![["agent", "task", "state", "since", "turn", ""].map(str::to_owned).to_vec()];
    for agent in &agents {
        rows.push(vec![
            agent.agent.to_string(),
            agent.key.clone(),
            agent.state.to_string(),
            ago(now.since(agent.since)),
            agent.turn.to_string(),
            one_line(agent.ended.as_deref().unwrap_or(""), 60),
        ]);
    }
    table(&rows).into_iter().for_each(|row| out.line(row));
    Ok(exit::OK)
}
