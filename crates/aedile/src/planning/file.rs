//! A plan as a tasks file.

use std::io::Write;
use std::path::Path;

use aedile_core::TaskKey;
use aedile_core::plan::ProposedPlan;
use aedile_core::task::TaskSpec;
use serde::Serialize;

use crate::error::CliError;
use crate::output::one_line;

/// The file that is written when the person names none.
pub const DEFAULT: &str = "aedile-tasks.toml";

#[derive(Serialize)]
struct File<'a> {
    goal: &'a str,
    task: Vec<Task<'a>>,
}

#[derive(Serialize)]
struct Task<'a> {
    id: &'a TaskKey,
    title: &'a str,
    prompt: &'a str,
    scope: &'a [String],
    #[serde(skip_serializing_if = "<[TaskKey]>::is_empty")]
    after: &'a [TaskKey],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gates: Vec<&'a str>,
    runtime: &'a str,
    model: String,
}

/// The error of a file that would be written over.
pub fn is_there(path: &Path) -> CliError {
    CliError::usage(format!("{} is there already and was left as it is", path.display())).hint("name another file, or move that one away")
}

/// Writes the plan as a file that `run --tasks` takes; never over another one.
pub fn write(path: &Path, goal: &str, proposed: &ProposedPlan, specs: &[TaskSpec]) -> Result<(), CliError> {
    let text = text(goal, proposed, specs)?;
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => is_there(path),
        _ => CliError::failure(format!("cannot write {}: {error}", path.display()))
            .hint("the plan is kept: `aedile run --resume` shows it again"),
    })
}

fn text(goal: &str, proposed: &ProposedPlan, specs: &[TaskSpec]) -> Result<String, CliError> {
    let tasks = specs.iter().map(|spec| Task {
        id: &spec.key,
        title: &spec.title,
        prompt: &spec.prompt,
        scope: &spec.scope,
        after: &spec.after,
        gates: spec.gates.iter().map(|gate| gate.command.as_str()).collect(),
        runtime: &spec.runtime,
        model: spec.model.to_string(),
    });
    let body = toml::to_string_pretty(&File { goal, task: tasks.collect() });
    let body = body.map_err(|error| CliError::failure(format!("the plan cannot be written as TOML: {error}")))?;
    let said = std::iter::once(&proposed.plan.summary).filter(|summary| !summary.trim().is_empty()).chain(&proposed.notes);
    let notes: String = said.flat_map(|note| note.lines()).map(|note| format!("# {}\n", one_line(note, 1000))).collect();
    Ok(format!("# Planned by a model; docs/tasks-file.md describes every key.\n{notes}\n{body}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tasks::{Defaults, TasksFile};
    use aedile_core::plan::Plan;
    use aedile_core::project::ProjectRules;
    use aedile_core::task::GateSpec;

    #[test]
    fn the_file_reads_back_as_the_same_tasks() {
        let spec = TaskSpec {
            key: TaskKey::new("a").unwrap(),
            title: "Say \"a\"".into(),
            prompt: "Two\nlines, '''quoted''' and \"\"\"again\"\"\", \\ and # too.\n".into(),
            read: Vec::new(),
            scope: vec!["src/**".into()],
            after: Vec::new(),
            gates: vec![GateSpec { name: "sh x.sh".into(), command: "sh x.sh".into(), timeout_s: None }],
            role: "builder".into(),
            runtime: "aedile".into(),
            model: "anthropic/m".parse().unwrap(),
            budget_usd: None,
            script: None,
        };
        let specs =
            vec![spec.clone(), TaskSpec { key: TaskKey::new("b").unwrap(), after: vec![spec.key.clone()], gates: Vec::new(), ..spec }];
        let plan = Plan { summary: "First\n]]\n[[task]]".into(), tasks: Vec::new() };
        let proposed = ProposedPlan { plan, notes: vec!["a note".into()], at_once: 1, scope_bytes: Vec::new() };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.toml");
        write(&path, "A goal\nof two lines", &proposed, &specs).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let read = TasksFile::parse(&text, "t.toml").unwrap();
        assert_eq!(read.goal, "A goal\nof two lines");
        let defaults = Defaults {
            model: None,
            runtime: "aedile".into(),
            runtimes: crate::runtimes::Catalogue::of(&crate::config::file::ConfigFile::default()),
        };
        assert_eq!(read.specs("t.toml", &ProjectRules::default(), &defaults).unwrap(), specs, "{text}");
        let again = write(&path, "other", &proposed, &specs).unwrap_err();
        assert_eq!((again.code, std::fs::read_to_string(&path).unwrap()), (crate::exit::USAGE, text));
    }
}
