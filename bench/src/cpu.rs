//! What short commands cost: CPU time beside `git --version`.

use std::path::Path;

use aedile_testkit::TestEnvironment;

use crate::figure::{Amount, Figure, Target};
use crate::fixture;
use crate::measure::{cpu_of, find, median};

/// Runs of each command, in turns with the others.
const ROUNDS: usize = 61;
const AGENTS: usize = 50;
/// Files in the workspace of each agent of the fuller state.
const WORKSPACE_FILES: usize = 200;

/// Measures the short commands.
pub(crate) fn figures(program: &Path) -> anyhow::Result<Vec<Figure>> {
    let (aedile, full, git) = (TestEnvironment::new(program), TestEnvironment::new(program), TestEnvironment::new(find("git")?));
    for environment in [&aedile, &full] {
        let store = fixture::open_store(&environment.state())?;
        let agents = fixture::working_run(&store, AGENTS)?;
        fixture::past(&store, &agents)?;
    }
    workspaces(&full.state())?;
    let subjects: [(&TestEnvironment, &[&str]); 5] =
        [(&git, &["--version"]), (&aedile, &["--version"]), (&aedile, &["status"]), (&aedile, &["status", "--json"]), (&full, &["status"])];
    let mut times = subjects.map(|_| Vec::with_capacity(ROUNDS));
    for _ in 0..ROUNDS {
        for ((environment, args), times) in subjects.iter().zip(&mut times) {
            let mut command = environment.command();
            command.args(*args);
            times.push(cpu_of(command)?);
        }
    }
    let [floor, version, status, json, full] = times.map(median).map(Amount::millis);
    let row = |what, measured, times| Figure::beside(what, measured, ("git --version", floor), Target::TimesAtMost(times));
    Ok(vec![
        row("CPU of `aedile --version`", version, 2.0),
        row("CPU of `aedile status`, 50 agents in the store", status, 4.0),
        row("CPU of `aedile status --json`, 50 agents", json, 4.0),
        Figure::beside("CPU of `aedile status`, with 10,000 files in 50 workspaces", full, ("git --version", floor), Target::Reported),
    ])
}

/// Workspaces as agents have them: the state directory is not empty while they work.
fn workspaces(state: &Path) -> anyhow::Result<()> {
    for agent in 0..AGENTS {
        let dir = state.join(format!("workspaces/{agent}"));
        std::fs::create_dir_all(&dir)?;
        for file in 0..WORKSPACE_FILES {
            std::fs::write(dir.join(file.to_string()), "x")?;
        }
    }
    Ok(())
}
