//! The tasks file: a goal and its tasks, written by a person or a planner.

use aedile_core::TaskKey;
use aedile_core::model::ModelRef;
use aedile_core::plan::COORDINATOR;
use aedile_core::project::ProjectRules;
use aedile_core::scope::Scope;
use aedile_core::task::{GateSpec, TaskSpec};
use serde::Deserialize;

use crate::config::file::dollars;
use crate::error::CliError;
use crate::runtimes::Catalogue;

/// Where to read on.
pub const MANUAL: &str = "docs/tasks-file.md describes the file";

/// The whole file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TasksFile {
    /// What all tasks together are for.
    pub goal: String,
    /// The tasks.
    #[serde(rename = "task", default)]
    pub tasks: Vec<TaskEntry>,
}

/// `[[task]]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskEntry {
    /// Its id.
    pub id: TaskKey,
    /// One line; the id when absent.
    pub title: Option<String>,
    /// What the agent is told.
    pub prompt: String,
    /// Globs of what may be changed; the whole repository when absent.
    pub scope: Option<Vec<String>>,
    /// Globs of what its agent may read; the whole repository when absent. Otherwise its workspace has no history.
    pub read: Option<Vec<String>>,
    /// Ids of tasks that must have landed before.
    #[serde(default)]
    pub after: Vec<TaskKey>,
    /// Further gates of this task.
    #[serde(default)]
    pub gates: Vec<Gate>,
    /// What the agent is.
    pub role: Option<String>,
    /// Which runtime executes it.
    pub runtime: Option<String>,
    /// Which model it uses.
    pub model: Option<ModelRef>,
    /// Dollars that may be spent on it.
    pub budget_usd: Option<f64>,
    /// Written turns for the `script` provider.
    pub script: Option<toml::Value>,
}

/// A gate of a task: a command, the name of a gate of the project, or both parts spelled out.
#[derive(Debug, Clone, PartialEq)]
pub enum Gate {
    /// A command or a name.
    Text(String),
    /// Spelled out.
    Full(GateSpec),
}

impl<'de> Deserialize<'de> for Gate {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = toml::Value::deserialize(from)?;
        match value {
            toml::Value::String(text) => Ok(Self::Text(text)),
            table @ toml::Value::Table(_) => table.try_into().map(Self::Full).map_err(serde::de::Error::custom),
            other => {
                Err(serde::de::Error::custom(format!("a gate is a command or a table with name and command, not {}", other.type_str())))
            }
        }
    }
}

/// What tasks get that name nothing themselves.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// Model, when one is known.
    pub model: Option<ModelRef>,
    /// Runtime.
    pub runtime: String,
    /// The runtimes that there are.
    pub runtimes: Catalogue,
}

impl TasksFile {
    /// Parses a file.
    pub fn parse(text: &str, place: &str) -> Result<Self, CliError> {
        let file: Self = toml::from_str(text).map_err(|error| bad(place, error.to_string().trim_end()))?;
        if file.tasks.is_empty() {
            return Err(bad(place, "there is no [[task]] in it"));
        }
        Ok(file)
    }

    /// Makes specifications of the entries.
    pub fn specs(&self, place: &str, rules: &ProjectRules, defaults: &Defaults) -> Result<Vec<TaskSpec>, CliError> {
        self.tasks.iter().map(|task| task.spec(place, rules, defaults)).collect()
    }
}

impl TaskEntry {
    /// A task with a prompt and nothing else.
    pub fn new(id: TaskKey, prompt: String) -> Self {
        Self {
            id,
            title: None,
            prompt,
            scope: None,
            read: None,
            after: Vec::new(),
            gates: Vec::new(),
            role: None,
            runtime: None,
            model: None,
            budget_usd: None,
            script: None,
        }
    }

    fn spec(&self, place: &str, rules: &ProjectRules, defaults: &Defaults) -> Result<TaskSpec, CliError> {
        let here = |problem: String| bad(place, &format!("task {:?}: {problem}", self.id.as_str()));
        let script = self.script.as_ref().map(serde_json::to_value).transpose().map_err(|error| here(format!("script: {error}")))?;
        let scripted = || ModelRef { provider: "script".to_owned(), model: "turns".to_owned() };
        let model = match (&self.model, &script) {
            (Some(model), _) => model.clone(),
            (None, Some(_)) => scripted(),
            (None, None) => defaults.model.clone().ok_or_else(|| {
                here("no model is named".to_owned())
                    .first_hint("give the task a `model`, run with --model PROVIDER/MODEL, or set `[agents] model` in aedile.toml")
            })?,
        };
        if model.provider == "script" && script.is_none() {
            return Err(here(format!("model {model} plays written turns, but the task has no `script`")));
        }
        if self.role.as_deref() == Some(COORDINATOR) {
            return Err(
                here(format!("role {COORDINATOR:?} is for the agent that plans")).first_hint("`aedile run \"GOAL\"` plans for a goal")
            );
        }
        let runtime = self.runtime.clone().unwrap_or_else(|| defaults.runtime.clone());
        let entry = defaults.runtimes.get(&runtime).map_err(|error| {
            let CliError { message, hints, .. } = error;
            hints.into_iter().rev().fold(here(message), CliError::first_hint)
        })?;
        defaults.runtimes.takes(entry, &model).map_err(|problem| {
            here(problem).first_hint(
                "providers are those built in (`openai` is everything that speaks its format) and those that `[provider.NAME]` in your own `config.toml` adds (docs/models.md)",
            )
        })?;
        Ok(TaskSpec {
            key: self.id.clone(),
            title: self.title.clone().unwrap_or_else(|| self.id.to_string()),
            prompt: self.prompt.clone(),
            read: self.reads().map_err(here)?,
            scope: self.scope.clone().unwrap_or_else(|| vec!["**".to_owned()]),
            after: self.after.clone(),
            gates: self.own_gates(rules),
            role: self.role.clone().unwrap_or_else(|| "builder".to_owned()),
            runtime,
            model,
            budget_usd: dollars(self.budget_usd, "budget_usd", &format!("{place}: task {:?}", self.id.as_str()))
                .map_err(|error| CliError { hints: vec![MANUAL.to_owned()], ..error })?,
            script,
        })
    }

    /// What its agent may read. Scope and `read` must have something in common, or nothing could be changed.
    fn reads(&self) -> Result<Vec<String>, String> {
        let Some(globs) = &self.read else { return Ok(Vec::new()) };
        let reads = Scope::new(globs).map_err(|bad| format!("read: {bad}"))?;
        if globs.is_empty() {
            return Err("`read` is empty: its agent would see nothing; leave it out for the whole repository".to_owned());
        }
        let scope = self.scope.as_ref().and_then(|globs| Scope::new(globs).ok());
        match scope {
            Some(scope) if !scope.overlaps(&reads) => {
                Err("`read` and `scope` have no path in common: its agent could change nothing that it sees".to_owned())
            }
            _ => Ok(globs.clone()),
        }
    }

    /// A gate that the project has already runs anyway.
    fn own_gates(&self, rules: &ProjectRules) -> Vec<GateSpec> {
        let named = |text: &str| rules.gates.iter().any(|gate| gate.name == text);
        self.gates
            .iter()
            .filter_map(|gate| match gate {
                Gate::Text(text) if named(text) => None,
                Gate::Text(text) => Some(GateSpec { name: text.clone(), command: text.clone(), timeout_s: None }),
                Gate::Full(gate) => Some(gate.clone()),
            })
            .collect()
    }
}

fn bad(place: &str, problem: &str) -> CliError {
    CliError::config(format!("{place}: {problem}")).hint(MANUAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
goal = "g"
[[task]]
id = "a"
prompt = "do it"
scope = ["src/**"]
gates = ["test", "sh more.sh", { name = "slow", command = "make slow", timeout_s = 9 }]
script = [{ text = "x", tools = [{ name = "submit", input = { summary = "s" } }] }]
"#;

    fn rules() -> ProjectRules {
        ProjectRules {
            gates: vec![GateSpec { name: "test".into(), command: "make test".into(), timeout_s: None }],
            ..ProjectRules::default()
        }
    }

    fn defaults() -> Defaults {
        let runtimes = Catalogue::of(&crate::config::file::ConfigFile::default());
        Defaults { model: None, runtime: crate::runtimes::AEDILE.into(), runtimes }
    }

    fn specs(text: &str) -> Result<Vec<TaskSpec>, CliError> {
        TasksFile::parse(text, "t.toml")?.specs("t.toml", &rules(), &defaults())
    }

    #[test]
    fn gates_are_commands_names_or_tables() {
        let spec = specs(FILE).unwrap().remove(0);
        let names: Vec<_> = spec.gates.iter().map(|gate| gate.name.as_str()).collect();
        assert_eq!(names, ["sh more.sh", "slow"]);
        assert_eq!(spec.model.to_string(), "script/turns");
        assert_eq!(spec.title, "a");
    }

    #[test]
    fn mistakes_name_the_task() {
        for (from, to, part) in [
            ("script =", "extra =", "extra"),
            ("id = \"a\"", "id = \"a b\"", "a b"),
            ("prompt = \"do it\"", "prompt = \"x\"\nruntime = \"vi\"", "vi"),
            ("prompt = \"do it\"", "prompt = \"x\"\nrole = \"coordinator\"", "coordinator"),
            ("prompt = \"do it\"", "prompt = \"x\"\nruntime = \"claude\"\nmodel = \"openai/gpt\"", "openai/gpt"),
            ("prompt = \"do it\"", "prompt = \"x\"\nmodel = \"acme/x\"", "acme"),
            ("prompt = \"do it\"", "prompt = \"x\"\nmodel = \"x\"", "PROVIDER/MODEL"),
            ("prompt = \"do it\"", "prompt = \"x\"\nbudget_usd = -1", "budget_usd"),
        ] {
            let error = specs(&FILE.replace(from, to)).unwrap_err();
            assert!(error.message.contains(part) && error.message.starts_with("t.toml"), "{error}");
        }
        assert!(specs("goal = \"g\"").unwrap_err().message.contains("[[task]]"));
    }
}
