//! What a policy file may say.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::money::MicroUsd;
use crate::scope::Scope;

/// Globs of names. `*` stands for anything, also for `/`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Names {
    globs: Vec<String>,
    set: GlobSet,
}

impl PartialEq for Names {
    fn eq(&self, other: &Self) -> bool {
        self.globs == other.globs
    }
}

impl Eq for Names {}

impl TryFrom<Vec<String>> for Names {
    type Error = String;
    fn try_from(globs: Vec<String>) -> Result<Self, String> {
        let mut builder = GlobSetBuilder::new();
        for glob in &globs {
            if glob.is_empty() {
                return Err("a name is empty".to_owned());
            }
            let compiled = GlobBuilder::new(glob).build();
            builder.add(compiled.map_err(|error| format!("{glob:?} is no glob: {}", error.kind()))?);
        }
        let set = builder.build().map_err(|error| format!("the globs cannot be used together: {error}"))?;
        Ok(Self { globs, set })
    }
}

impl From<Names> for Vec<String> {
    fn from(names: Names) -> Self {
        names.globs
    }
}

impl Names {
    /// The globs as they were written.
    pub fn globs(&self) -> &[String] {
        &self.globs
    }

    /// Whether the name is meant.
    pub fn contains(&self, name: &str) -> bool {
        self.set.is_match(name)
    }
}

/// Globs of paths, relative to the repository's root, as in a task's scope.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Paths(Scope);

impl Default for Paths {
    fn default() -> Self {
        Self(Scope::nothing())
    }
}

impl PartialEq for Paths {
    fn eq(&self, other: &Self) -> bool {
        self.globs() == other.globs()
    }
}

impl TryFrom<Vec<String>> for Paths {
    type Error = String;
    fn try_from(globs: Vec<String>) -> Result<Self, String> {
        Scope::new(&globs).map(Self).map_err(|bad| format!("the glob {:?} {}", bad.glob, bad.problem))
    }
}

impl From<Paths> for Vec<String> {
    fn from(paths: Paths) -> Self {
        paths.globs().to_owned()
    }
}

impl Paths {
    /// The globs in their normal form.
    pub fn globs(&self) -> &[String] {
        self.0.globs()
    }

    /// The same as a scope.
    pub fn scope(&self) -> &Scope {
        &self.0
    }

    /// Whether the path is meant.
    pub fn contains(&self, path: &str) -> bool {
        self.0.allows(path)
    }
}

/// `[limits]`: of each box, and of its door.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Bytes of memory of the whole box.
    pub memory_bytes: Option<u64>,
    /// Bytes of one file.
    pub file_bytes: Option<u64>,
    /// Open descriptors of one process.
    pub descriptors: Option<u64>,
    /// Bytes written to disks by the whole box.
    pub disk_bytes: Option<u64>,
    /// Processor seconds of the whole box.
    pub cpu_s: Option<u64>,
    /// Seconds until the box is ended.
    pub time_s: Option<u64>,
    /// Requests to other hosts that its door passes in a minute.
    pub requests_per_minute: Option<u64>,
    /// Bytes that its door sends to other hosts in all.
    pub bytes_out: Option<u64>,
    /// Bytes of answers of other hosts that come through its door in all.
    pub bytes_in: Option<u64>,
}

impl Limits {
    /// Each limit with its key.
    pub fn each(&self) -> [(&'static str, Option<u64>); 10] {
        [
            ("processes", self.processes),
            ("memory_bytes", self.memory_bytes),
            ("file_bytes", self.file_bytes),
            ("descriptors", self.descriptors),
            ("disk_bytes", self.disk_bytes),
            ("cpu_s", self.cpu_s),
            ("time_s", self.time_s),
            ("requests_per_minute", self.requests_per_minute),
            ("bytes_out", self.bytes_out),
            ("bytes_in", self.bytes_in),
        ]
    }
}

/// `[write]`: paths of the repository.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Write {
    /// What may be written; the task's scope when absent.
    pub allow: Option<Paths>,
    /// What may not, whatever is allowed.
    pub deny: Paths,
}

/// `[read]`: paths of the repository.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Read {
    /// Files that are kept out of an agent's workspace, and empty in the box of a command, besides those for secrets.
    pub hide: Paths,
    /// Files that are shown although they have the name of a file for secrets.
    pub show: Paths,
}

/// `[secrets]`: names of secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecretNames {
    /// What may be used; everything when absent.
    pub allow: Option<Names>,
    /// What may not, whatever is allowed.
    pub deny: Names,
    /// Of what may be used, what a person is asked about before a request carries it.
    pub ask: Names,
}

/// `[tools]`: names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Named {
    /// What may be used; everything when absent.
    pub allow: Option<Names>,
    /// What may not, whatever is allowed.
    pub deny: Names,
}

impl Named {
    /// Whether it leaves the name.
    pub fn leaves(&self, name: &str) -> bool {
        !self.deny.contains(name) && self.allow.as_ref().is_none_or(|allow| allow.contains(name))
    }
}

/// `[spend]`: the most that may be spent, in dollars and tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spend {
    /// Of one life of an agent.
    pub agent_usd: Option<f64>,
    /// The same in tokens.
    pub agent_tokens: Option<u64>,
    /// Of one task.
    pub task_usd: Option<f64>,
    /// The same in tokens.
    pub task_tokens: Option<u64>,
    /// Of a run.
    pub run_usd: Option<f64>,
    /// The same in tokens.
    pub run_tokens: Option<u64>,
}

impl Spend {
    /// The amounts of money with their keys.
    pub fn usd(&self) -> [(&'static str, Option<f64>); 3] {
        [("agent_usd", self.agent_usd), ("task_usd", self.task_usd), ("run_usd", self.run_usd)]
    }

    /// The amounts of tokens with their keys.
    pub fn tokens(&self) -> [(&'static str, Option<u64>); 3] {
        [("agent_tokens", self.agent_tokens), ("task_tokens", self.task_tokens), ("run_tokens", self.run_tokens)]
    }
}

/// Reads an amount that the parser has checked.
pub(crate) fn micros(usd: Option<f64>) -> Option<MicroUsd> {
    usd.and_then(MicroUsd::from_usd)
}

/// `[spawn]`: which agents a run may have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spawn {
    /// Agents at work at once.
    pub at_once: Option<u32>,
    /// Tasks of a run.
    pub tasks: Option<u32>,
    /// Globs of runtimes; all when absent.
    pub runtimes: Option<Names>,
    /// Globs of models, as `PROVIDER/MODEL`; all when absent.
    pub models: Option<Names>,
}

/// `[provider]`: what a model's provider may do on its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Provider {
    /// Globs of the kinds of tools that it executes itself (`web_search_*`); none when absent.
    pub allow: Option<Names>,
}

/// Everything that the top of a file, or one `[[rule]]` in it, says.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sections {
    /// Limits of boxes.
    pub limits: Limits,
    /// What may be written.
    pub write: Write,
    /// What is seen.
    pub read: Read,
    /// How many `[[network]]` rules there are; `gateway` reads them.
    #[serde(skip)]
    pub network: Vec<IgnoredAny>,
    /// Secrets by name.
    pub secrets: SecretNames,
    /// Tools by name: of our agent, of MCP, and the calls of the agent API.
    pub tools: Named,
    /// Spending.
    pub spend: Spend,
    /// Agents.
    pub spawn: Spawn,
    /// Providers.
    pub provider: Provider,
}
