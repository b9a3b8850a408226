//! Measures the release build of aedile and prints a table: each figure beside its floor or peer, measured in the same run.
//!
//! `cargo build --release --locked -p aedile && cargo run --release -p aedile-bench [-- [--json] [GROUP]...]`
//!
//! `merge-cases` as the first argument merges and scores cases that are given to it (`merge_cases.rs`).
//!
//! The groups are `cpu`, `boxes`, `landing`, `memory`, `mail`, `door`, `scan`, `agent` and `size`; all of them when none is named. The exit code is 0
//! whether or not the targets are met, 1 when something could not be measured, 2 for an unknown argument.

mod agent;
mod boxes;
mod cpu;
mod door;
mod fake_model;
mod figure;
mod fixture;
mod gateway;
mod landing;
mod machine;
mod mail;
mod mail_process;
mod measure;
mod memory;
mod merge_cases;
mod merge_score;
mod scan;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use crate::figure::{Amount, Figure, Target};

/// A group of figures: its name and what measures it, given the program.
type Group = (&'static str, fn(&Path) -> anyhow::Result<Vec<Figure>>);

const GROUPS: &[Group] = &[
    ("cpu", cpu::figures),
    ("boxes", boxes::figures),
    ("landing", landing::figures),
    ("memory", memory::figures),
    ("mail", mail::figures),
    ("door", door::figures),
    ("gateway", gateway::figures),
    ("scan", scan::figures),
    ("agent", agent::figures),
    ("size", size),
];

#[expect(clippy::print_stderr, reason = "this is a program")]
fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some((mail_process::ARGUMENT, rest)) = args.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return exit(mail_process::main(rest));
    }
    if let Some((merge_cases::ARGUMENT, rest)) = args.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return exit(merge_cases::main(rest));
    }
    let json = args.iter().any(|arg| arg == "--json");
    let names: Vec<&str> = args.iter().map(String::as_str).filter(|arg| *arg != "--json").collect();
    if let Some(unknown) = names.iter().find(|name| !GROUPS.iter().any(|(known, _)| known == *name)) {
        let known: Vec<&str> = GROUPS.iter().map(|(name, _)| *name).collect();
        eprintln!("{unknown} is no group of figures; known are {}, and --json", known.join(", "));
        return ExitCode::from(2);
    }
    exit(run(&names, json))
}

#[expect(clippy::print_stderr, reason = "this is a program")]
fn exit(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the measurement broke: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is a program")]
fn run(names: &[&str], json: bool) -> anyhow::Result<()> {
    let program = program()?;
    let machine = machine::describe()?;
    let mut figures = Vec::new();
    for (name, measure) in GROUPS.iter().filter(|(name, _)| names.is_empty() || names.contains(name)) {
        eprintln!("measuring {name} ...");
        figures.extend(measure(&program).with_context(|| format!("measuring {name}"))?);
    }
    if json {
        let rows: Vec<_> = figures.iter().map(Figure::to_json).collect();
        println!("{}", serde_json::json!({ "machine": machine.to_json(), "figures": rows }));
    } else {
        println!("{machine}\n");
        figure::table(&figures).iter().for_each(|line| println!("{line}"));
    }
    Ok(())
}

/// The program that is measured lies beside this one.
fn program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let program = own.with_file_name("aedile");
    anyhow::ensure!(program.exists(), "{} is not there: run `cargo build --release --locked -p aedile` first", program.display());
    Ok(program)
}

fn size(program: &Path) -> anyhow::Result<Vec<Figure>> {
    let bytes = u32::try_from(std::fs::metadata(program)?.len())?;
    Ok(vec![Figure::alone("release binary, stripped", Amount::megabytes(f64::from(bytes)), Target::AtMost(20.0))])
}
