//! What all layers together say of one agent.

use std::time::Duration;

use serde::Serialize;

use super::deed::Said;
use super::file::{BadPolicy, PolicyFile};
use super::sections::{Named, Names, Paths, Sections, micros};
use super::whom::Who;
use super::{LayerName, PolicyText};
use crate::money::Budget;
use crate::sandbox::BoxLimits;

/// One layer, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Which.
    pub name: LayerName,
    /// Where it was read.
    pub place: String,
    /// What it says.
    pub file: PolicyFile,
}

/// All layers, from the widest to the narrowest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policies(Vec<Layer>);

/// Limits of one door over the requests to other hosts; `None` where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoorLimits {
    /// Requests in a minute, on average and at once.
    pub requests_per_minute: Option<u64>,
    /// Bytes that are sent in all: URLs, headers and bodies.
    pub bytes_out: Option<u64>,
    /// Bytes of bodies that come back in all.
    pub bytes_in: Option<u64>,
}

/// Where something is said: a layer, and in it the id of a `[[rule]]` unless it is said to everybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// The layer.
    pub layer: LayerName,
    /// The rule.
    pub rule: Option<String>,
}

impl Source {
    /// Names a key of it: `write.deny`, or `ID/write.deny`.
    pub fn key(&self, key: &str) -> String {
        self.rule.as_ref().map_or_else(|| key.to_owned(), |rule| format!("{rule}/{key}"))
    }
}

impl Policies {
    /// Reads the layers.
    ///
    /// # Errors
    /// [`BadPolicy`] names the file and what is wrong in it.
    pub fn parse(texts: &[PolicyText]) -> Result<Self, BadPolicy> {
        let layer = |text: &PolicyText| {
            let file = PolicyFile::parse(&text.text).map_err(|bad| BadPolicy(format!("the policy {}: {bad}", text.place)))?;
            Ok(Layer { name: text.layer, place: text.place.clone(), file })
        };
        texts.iter().map(layer).collect::<Result<_, _>>().map(Self)
    }

    /// These layers with further ones below.
    #[cfg(test)]
    pub(crate) fn over(&self, below: &Self) -> Self {
        Self(self.0.iter().chain(&below.0).cloned().collect())
    }

    /// The layers.
    pub fn layers(&self) -> &[Layer] {
        &self.0
    }

    /// What they say of one agent.
    pub fn of(&self, who: Who<'_>) -> AgentPolicy {
        self.said(|rule| rule.whom.means(who))
    }

    /// What they say of every agent, before one is known.
    pub fn of_everybody(&self) -> AgentPolicy {
        self.said(|_| false)
    }

    fn said(&self, means: impl Fn(&super::Rule) -> bool) -> AgentPolicy {
        let mut said = Vec::new();
        for layer in &self.0 {
            for (rule, sections) in layer.file.all() {
                if rule.is_none_or(&means) {
                    let source = Source { layer: layer.name, rule: rule.map(|rule| rule.id.clone()) };
                    said.push((source, sections.clone()));
                }
            }
        }
        AgentPolicy { said }
    }
}

/// What all layers together say of one agent. Everything is narrowed by everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgentPolicy {
    said: Vec<(Source, Sections)>,
}

impl AgentPolicy {
    /// Each part that means the agent, from the widest to the narrowest.
    pub fn parts(&self) -> &[(Source, Sections)] {
        &self.said
    }

    /// The lowest of what is said, and where.
    pub fn lowest<T: PartialOrd + Copy>(&self, pick: impl Fn(&Sections) -> Option<T>) -> Option<(T, &Source)> {
        let mut lowest: Option<(T, &Source)> = None;
        for (source, sections) in &self.said {
            if let Some(value) = pick(sections).filter(|value| lowest.as_ref().is_none_or(|(low, _)| value < low)) {
                lowest = Some((value, source));
            }
        }
        lowest
    }

    fn least<T: PartialOrd + Copy>(&self, pick: impl Fn(&Sections) -> Option<T>) -> Option<T> {
        self.lowest(pick).map(|(value, _)| value)
    }

    /// Limits of the agent's box; `None` where nothing is said.
    pub fn limits(&self) -> BoxLimits {
        BoxLimits {
            processes: self.least(|said| said.limits.processes),
            file_bytes: self.least(|said| said.limits.file_bytes),
            descriptors: self.least(|said| said.limits.descriptors),
            memory_bytes: self.least(|said| said.limits.memory_bytes),
            disk_bytes: self.least(|said| said.limits.disk_bytes),
            cpu: self.least(|said| said.limits.cpu_s).map(Duration::from_secs),
            wall: self.least(|said| said.limits.time_s).map(Duration::from_secs),
        }
    }

    /// Limits of what passes its door to other hosts and back.
    pub fn door_limits(&self) -> DoorLimits {
        DoorLimits {
            requests_per_minute: self.least(|said| said.limits.requests_per_minute),
            bytes_out: self.least(|said| said.limits.bytes_out),
            bytes_in: self.least(|said| said.limits.bytes_in),
        }
    }

    /// The budget of one life of the agent, narrowed.
    pub fn agent_budget(&self, other: Budget) -> Budget {
        narrow(other, self.least(|said| micros(said.spend.agent_usd)), self.least(|said| said.spend.agent_tokens))
    }

    /// The budget of its task, narrowed.
    pub fn task_budget(&self, other: Budget) -> Budget {
        narrow(other, self.least(|said| micros(said.spend.task_usd)), self.least(|said| said.spend.task_tokens))
    }

    /// The budget of a run, narrowed.
    pub fn run_budget(&self, other: Budget) -> Budget {
        narrow(other, self.least(|said| micros(said.spend.run_usd)), self.least(|said| said.spend.run_tokens))
    }

    /// Whether the path may be written, as far as policy goes.
    pub fn may_write(&self, path: &str) -> Said {
        for (source, sections) in &self.said {
            if sections.write.deny.contains(path) {
                let instead = "leave it as it is, or send mail to `person` and say why it must change";
                return Said::denied(source, "write.deny", &format!("{path} is not to be written"), instead);
            }
        }
        let mut last = None;
        for (source, sections) in &self.said {
            let Some(allow) = &sections.write.allow else { continue };
            if !allow.contains(path) {
                let instead = match allow.globs() {
                    [] => "change nothing: this agent only reads".to_owned(),
                    globs => format!("change only what {} allows", globs.join(", ")),
                };
                return Said::denied(source, "write.allow", &format!("{path} is not among what may be written"), &instead);
            }
            last = Some(source);
        }
        Said::allowed(last, "write.allow")
    }

    /// The lists of what may be written; a path must be in each.
    pub fn write_allowed(&self) -> impl Iterator<Item = &Paths> {
        self.said.iter().filter_map(|(_, sections)| sections.write.allow.as_ref())
    }

    /// Globs of what may not be written.
    pub fn write_denied(&self) -> Vec<String> {
        self.said.iter().flat_map(|(_, sections)| sections.write.deny.globs()).cloned().collect()
    }

    /// Globs of files that are empty in the box.
    pub fn hidden(&self) -> Vec<String> {
        self.said.iter().flat_map(|(_, sections)| sections.read.hide.globs()).cloned().collect()
    }

    /// Globs of files that are shown although they have the name of a file for secrets. What some layer hides is shown by none.
    pub fn shown(&self) -> Vec<String> {
        let hidden = |glob: &String| {
            let Ok(one) = crate::scope::Scope::new(std::slice::from_ref(glob)) else { return true };
            self.said.iter().any(|(_, sections)| sections.read.hide.scope().overlaps(&one))
        };
        self.said.iter().flat_map(|(_, sections)| sections.read.show.globs()).filter(|glob| !hidden(glob)).cloned().collect()
    }

    /// Whether a rule shows the path by name and none hides it.
    pub fn shows(&self, path: &str) -> bool {
        let some = |pick: fn(&Sections) -> &Paths| self.said.iter().any(|(_, sections)| pick(sections).contains(path));
        some(|sections| &sections.read.show) && !some(|sections| &sections.read.hide)
    }

    /// Whether the path is seen in the box, as far as policy goes.
    pub fn may_read(&self, path: &str) -> Said {
        for (source, sections) in &self.said {
            if sections.read.hide.contains(path) {
                let instead = "go on without it: it is not in the workspace, or empty in the box";
                return Said::denied(source, "read.hide", &format!("{path} is hidden"), instead);
            }
        }
        let shown = self.said.iter().find(|(_, sections)| sections.read.show.contains(path));
        Said::allowed(shown.map(|(source, _)| source), "read.show")
    }

    /// Whether the secret may be used, if only once a person has said so ([`Self::asks_about_secret`]).
    pub fn may_use_secret(&self, name: &str) -> Said {
        self.named("secrets", "secret", name, |said| (said.secrets.allow.as_ref(), &said.secrets.deny))
    }

    /// Where it is said that a person is asked before a request carries the secret.
    pub fn asks_about_secret(&self, name: &str) -> Option<&Source> {
        self.said.iter().find(|(_, sections)| sections.secrets.ask.contains(name)).map(|(source, _)| source)
    }

    /// Whether the tool, or the call of the agent API, may be used.
    pub fn may_use_tool(&self, name: &str) -> Said {
        self.named("tools", "tool", name, |said| (said.tools.allow.as_ref(), &said.tools.deny))
    }

    /// Every list of tools.
    pub fn tools(&self) -> Vec<Named> {
        self.said.iter().map(|(_, sections)| sections.tools.clone()).filter(|tools| *tools != Named::default()).collect()
    }

    fn named(&self, section: &str, what: &str, name: &str, pick: impl Fn(&Sections) -> (Option<&Names>, &Names)) -> Said {
        for (source, sections) in &self.said {
            if pick(sections).1.contains(name) {
                let instead = format!("go on without the {what} {name}");
                return Said::denied(source, &format!("{section}.deny"), &format!("the {what} {name} may not be used"), &instead);
            }
        }
        self.listed(&format!("{section}.allow"), what, name, |sections| pick(sections).0)
    }

    /// Whether the name is in every list.
    fn listed(&self, key: &str, what: &str, name: &str, pick: impl Fn(&Sections) -> Option<&Names>) -> Said {
        let mut last = None;
        for (source, sections) in &self.said {
            let Some(allow) = pick(sections) else { continue };
            if !allow.contains(name) {
                let instead = match allow.globs() {
                    [] => format!("go on without: no {what} is allowed"),
                    globs => format!("use one of these: {}", globs.join(", ")),
                };
                return Said::denied(source, key, &format!("the {what} {name} is not among those that are allowed"), &instead);
            }
            last = Some(source);
        }
        Said::allowed(last, key)
    }

    /// Whether an agent may run on this runtime.
    pub fn may_run_on(&self, runtime: &str) -> Said {
        self.listed("spawn.runtimes", "runtime", runtime, |said| said.spawn.runtimes.as_ref())
    }

    /// Whether an agent may ask this model.
    pub fn may_ask_model(&self, model: &str) -> Said {
        self.listed("spawn.models", "model", model, |said| said.spawn.models.as_ref())
    }

    /// Whether the provider may execute tools of this kind itself: none unless a layer allows it, and then every layer that allows some.
    pub fn provider_may(&self, kind: &str) -> bool {
        let mut lists = self.said.iter().filter_map(|(_, sections)| sections.provider.allow.as_ref()).peekable();
        lists.peek().is_some() && lists.all(|allow| allow.contains(kind))
    }
}

fn narrow(other: Budget, usd: Option<crate::MicroUsd>, tokens: Option<u64>) -> Budget {
    Budget { usd: other.usd.into_iter().chain(usd).min(), tokens: other.tokens.into_iter().chain(tokens).min() }
}
