//! `aedile init`.

use std::path::Path;

use aedile_core::CommitId;
use aedile_core::protected::{Secrecy, holds_private_key, secrecy};
use aedile_git::Project;
use clap::Args;
use serde_json::json;

use crate::config::{detect, file};
use crate::error::{CliError, CliResult};
use crate::output::Output;
use crate::{exit, wiring};

/// Prepare this repository: look for gates and build directories and write a commented aedile.toml
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Write and commit the file without asking
    #[arg(long, short)]
    yes: bool,
}

/// Runs `aedile init`. An existing file is never written over.
pub fn cmd_init(args: &InitArgs, out: Output) -> CliResult {
    let here = std::env::current_dir()?;
    let project = wiring::discover(&here)?;
    let path = project.root().join(file::NAME);
    if path.symlink_metadata().is_ok() {
        return Err(CliError::config(format!("{} exists already; it was not changed", path.display()))
            .hint("edit it, or remove it and run `aedile init` again"));
    }
    let target = project.branch().map_or("main", |branch| branch.as_str().trim_start_matches("refs/heads/")).to_owned();
    let mut found = detect::detect(project.root());
    found.notes.extend(kept_from_agents(&project)?);
    let text = detect::render(&found, &target);
    explain(&found, out);
    if !args.yes && !out.can_ask() {
        out.say(&text);
        return Err(
            CliError::usage("nothing was written: there is no terminal to ask on").hint("`aedile init --yes` writes and commits the file")
        );
    }
    if !args.yes {
        out.line(format!("\n{text}"));
        if !out.ask(&format!("Write this to {}?", path.display())) {
            out.line("nothing was written");
            return Ok(exit::OK);
        }
    }
    let commit = args.yes || out.ask("Commit it? Gates are read from the commit, so an uncommitted file has no effect.");
    if commit && project.identity().is_none() {
        return Err(CliError::new(exit::GIT, "git does not know who you are, so aedile.toml cannot be committed; nothing was written")
            .hint("git config --global user.name \"Your Name\" && git config --global user.email you@example.com"));
    }
    write_new(&path, &text)?;
    let commit = if commit { Some(commit_it(&project, &path)?) } else { None };
    let value = json!({
        "written": path, "commit": commit, "languages": found.languages, "gates": found.gates, "build_directories": found.build_dirs, "notes": found.notes, "target": target,
    });
    out.object_or(&value, || {
        let mut lines = vec![format!("wrote {}", path.display())];
        match &commit {
            Some(commit) => lines.push(format!("committed it as {}", crate::narrate::short(commit))),
            None => lines.push("not committed; until it is, runs do not see it".to_owned()),
        }
        lines.push("next: write a tasks file (docs/tasks-file.md) and `aedile run --tasks FILE`".to_owned());
        lines
    });
    Ok(exit::OK)
}

/// What to say of tracked files that have the name of a file for secrets: agents see neither them nor the history that holds them.
fn kept_from_agents(project: &Project) -> Result<Option<String>, CliError> {
    const NAMED_MAX: usize = 20;
    let holds_key = |path: &Path| std::fs::read(project.root().join(path)).is_ok_and(|bytes| holds_private_key(&bytes));
    let is_kept = |path: &Path| match secrecy(&path.file_name().unwrap_or_default().to_string_lossy()) {
        Some(Secrecy::Secret) => true,
        Some(Secrecy::IfPrivateKey) => holds_key(path),
        None => false,
    };
    let files = project.files(project.head()).map_err(|error| CliError::new(exit::GIT, error.to_string()))?;
    let kept: Vec<String> =
        files.iter().filter(|file| is_kept(&file.path)).map(|file| format!("{:?}", file.path.to_string_lossy())).collect();
    if kept.is_empty() {
        return Ok(None);
    }
    let more = kept.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let named = kept[..kept.len().min(NAMED_MAX)].join(", ");
    Ok(Some(format!(
        "tracked files with names of files for secrets: {named}{more}. Agents see neither them nor the history. What of them holds no secret (test certificates, \
         examples) is shown by `[read] show = [...]` in .aedile/policy.toml (docs/policy.md)"
    )))
}

fn commit_it(project: &Project, path: &Path) -> Result<CommitId, CliError> {
    project.commit_file(file::NAME, "Add aedile.toml").map_err(|error| {
        CliError::new(exit::GIT, format!("{} was written but could not be committed: {error}", path.display()))
            .hint(format!("mend that, then `git add {0} && git commit {0}`; until it is committed, runs do not see it", file::NAME))
    })
}

fn explain(found: &detect::Found, out: Output) {
    if found.languages.is_empty() {
        out.say("found no build tool that aedile knows");
    } else {
        out.say(format!("found {}", found.languages.join(", ")));
    }
    for gate in &found.gates {
        out.say(format!("gate {}: {}", gate.name, gate.command));
    }
    for note in &found.notes {
        out.say(format!("note: {note}"));
    }
    if found.gates.is_empty() {
        out.say("NO GATE: until one is configured, changes land without being tested, and every report says so");
    }
}

/// Creates the file; one that appeared meanwhile is left alone.
fn write_new(path: &Path, text: &str) -> Result<(), CliError> {
    use std::io::Write;
    let failed = |error: std::io::Error| CliError::failure(format!("cannot write {}: {error}", path.display()));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}
