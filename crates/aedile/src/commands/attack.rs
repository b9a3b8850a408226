//! `aedile attack`.

use aedile_sandbox::attack::{Report, Suite};
use clap::Args;

use crate::error::CliResult;
use crate::output::{Output, table};
use crate::{exit, wiring};

/// Try to get out of a box in every known way, and say what stopped each
///
/// Over a hundred harmless probes, which are part of this program, run in boxes as `aedile sandbox exec` makes them, with the repository around
/// this directory shown read-only; `aedile init` is not needed. Each runs first without a box: one that does not get out there either proves
/// nothing on this host and is listed apart. Whether one got out of its box is seen from outside it. Exit code 0 means that all are contained.
#[derive(Debug, Args)]
pub struct AttackArgs {}

/// Runs `aedile attack`.
pub fn cmd_attack(_args: &AttackArgs, out: Output) -> CliResult {
    let project = wiring::discover(&std::env::current_dir()?)?;
    let report = Suite::new(&wiring::program()?, Some(project.root()))?.run_all()?;
    let contained = report.probes.iter().filter(|verdict| verdict.contained).count();
    out.object_or(&report, || lines(&report, contained));
    Ok(if contained == report.probes.len() && contained > 0 { exit::OK } else { exit::FAILURE })
}

fn lines(report: &Report, contained: usize) -> Vec<String> {
    let head = ["class", "attempt", "", "stopped by"].map(str::to_owned).to_vec();
    let row = |result: &str, class: &str, id: &str, by: String| vec![class.to_owned(), id.to_owned(), result.to_owned(), by];
    let verdicts = report.probes.iter().map(|verdict| match verdict.contained {
        true => row("contained", verdict.class, verdict.id, verdict.stopped_by.join(", ")),
        false => row("GOT OUT", verdict.class, verdict.id, String::new()),
    });
    let not_run = report.not_run.iter().map(|probe| row("not run", probe.class, probe.id, probe.reason.clone()));
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(verdicts).chain(not_run).collect();
    let mut lines = table(&rows);
    let (all, out) = (report.probes.len(), report.probes.len() - contained);
    lines.push(String::new());
    lines.push(match out {
        0 => format!("all {all} attempts were contained; {} prove nothing on this host", report.not_run.len()),
        _ => format!("{out} of {all} attempts GOT OUT; do not run here what you do not trust"),
    });
    lines
}
