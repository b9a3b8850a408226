//! What a worker takes in memory while its agents wait for their models.
//!
//! Counted is `Private_Dirty` of `/proc/PID/smaps_rollup` of the worker alone: memory that is there only because this process is.
//! Pages of the program file are the page cache's and shared with every agent; `Pss`, which counts their share, is reported beside it.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use aedile_core::machine::AgentState;
use aedile_core::store::list;
use aedile_core::view::AgentView;
use aedile_testkit::{Background, TempRepo, TestEnvironment, wait_for};
use anyhow::Context;

use crate::figure::{Amount, Figure, Target};
use crate::fixture::open_store;
use crate::measure::median;

const FEW: usize = 1;
const MANY: usize = 17;
const ROUNDS: usize = 3;
const START_LIMIT: Duration = Duration::from_secs(120);
/// The worker has settled when it has grown by less than this, in bytes, while it was looked at several times.
const SETTLED_BYTES: f64 = 64.0 * 1024.0;
const LOOK_EVERY: Duration = Duration::from_millis(250);
const LOOKS: usize = 4;

/// Measures workers with one and with seventeen waiting agents, in turns.
pub(crate) fn figures(program: &Path) -> anyhow::Result<Vec<Figure>> {
    // Pages of a program that was just built and is not on the disk yet would count as the worker's own.
    std::fs::File::open(program)?.sync_all()?;
    let (mut few, mut many) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        few.push(worker(program, FEW)?);
        many.push(worker(program, MANY)?);
    }
    let private = |seen: &[Memory]| median(seen.iter().map(|memory| memory.private).collect());
    let shared = |seen: &[Memory]| median(seen.iter().map(|memory| memory.pss).collect());
    let each = |few: f64, many: f64| (many - few) / 16.0;
    let (agent, agent_pss) = (each(private(&few), private(&many)), each(shared(&few), shared(&many)));
    let worker = private(&few) - agent;
    Ok(vec![
        Figure::beside(
            "worker, idle (Private_Dirty)",
            Amount::megabytes(worker),
            ("its Pss with one agent", Amount::megabytes(shared(&few))),
            Target::AtMost(8.0),
        ),
        Figure::beside(
            "worker, each waiting agent more (Private_Dirty)",
            Amount::megabytes(agent),
            ("Pss", Amount::megabytes(agent_pss)),
            Target::AtMost(2.0),
        ),
    ])
}

/// Bytes of one process.
#[derive(Clone, Copy)]
struct Memory {
    private: f64,
    pss: f64,
}

/// Starts a worker whose agents all wait for an answer of their model, and looks at it when it has settled.
fn worker(program: &Path, agents: usize) -> anyhow::Result<Memory> {
    let environment = TestEnvironment::new(program);
    let repo = TempRepo::init(&environment.work().join("repo"));
    repo.write("README.md", "# sample\n").commit("first");
    let mut tasks = "goal = \"wait\"\n".to_owned();
    for number in 0..agents {
        writeln!(tasks, "[[task]]\nid = \"t{number}\"\nprompt = \"wait\"\nscope = [\"d{number}/**\"]")?;
        writeln!(tasks, "script = [{{ text = \"done\", wait_ms = 600000 }}]")?;
    }
    let file = environment.work().join("tasks.toml");
    std::fs::write(&file, tasks)?;
    let (file, count) = (file.display().to_string(), agents.to_string());
    let worker = environment.spawn_in(repo.path(), ["run", "--tasks", &file, "--agents", &count]);
    wait_for(&format!("{agents} agents in their first turn"), START_LIMIT, || in_turn(&environment.state(), agents));
    let memory = settled(worker.id());
    end(worker);
    memory
}

fn in_turn(state: &Path, agents: usize) -> Option<()> {
    let store = state.join("aedile.db").exists().then(|| open_store(state).ok()).flatten()?;
    let seen: Vec<AgentView> = list(&store, None).ok()?;
    (seen.iter().filter(|agent| agent.state == AgentState::InTurn).count() == agents).then_some(())
}

/// Kills the worker; its boxes end with it.
fn end(worker: Background) {
    worker.kill_9();
}

fn settled(pid: u32) -> anyhow::Result<Memory> {
    let mut seen: Vec<Memory> = Vec::new();
    loop {
        seen.push(memory(pid)?);
        let last = &seen[seen.len().saturating_sub(LOOKS)..];
        let grown = last.last().zip(last.first()).map_or(0.0, |(last, first)| (last.private - first.private).abs());
        if let Some(now) = last.last().filter(|_| last.len() == LOOKS && grown < SETTLED_BYTES || seen.len() > 100) {
            return Ok(*now);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn memory(pid: u32) -> anyhow::Result<Memory> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).context("the worker has ended")?;
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name} in smaps_rollup"))?;
        let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok::<_, anyhow::Error>(kilobytes * 1024.0)
    };
    Ok(Memory { private: bytes("Private_Dirty:")?, pss: bytes("Pss:")? })
}
