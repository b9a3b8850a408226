//! "May this agent do that?", answered with the rule that says so.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::agent::{AgentPolicy, Source};
use super::{LayerName, Sections};
use crate::money::MicroUsd;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Said {
    /// Whether it may be done.
    pub allowed: bool,
    /// The layer that decides; `None` when none says anything of it.
    pub layer: Option<LayerName>,
    /// The rule that decides.
    pub rule: String,
    /// A sentence.
    pub why: String,
    /// What may be done instead.
    pub instead: Option<String>,
}

impl Said {
    pub(crate) fn denied(source: &Source, key: &str, why: &str, instead: &str) -> Self {
        let why = format!("{why}, says the {} policy ({})", source.layer, source.key(key));
        Self { allowed: false, layer: Some(source.layer), rule: source.key(key), why, instead: Some(instead.to_owned()) }
    }

    pub(crate) fn allowed(source: Option<&Source>, key: &str) -> Self {
        match source {
            None => Self {
                allowed: true,
                layer: None,
                rule: "default".to_owned(),
                why: "no policy says anything of it".to_owned(),
                instead: None,
            },
            Some(source) => Self {
                allowed: true,
                layer: Some(source.layer),
                rule: source.key(key),
                why: format!("the {} policy allows it ({})", source.layer, source.key(key)),
                instead: None,
            },
        }
    }

    /// The sentence, with what may be done instead.
    pub fn sentence(&self) -> String {
        self.instead.as_ref().map_or_else(|| self.why.clone(), |instead| format!("{}; {instead}", self.why))
    }
}

/// What an agent might do.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    /// Ask another host: method and URL. `gateway` answers.
    Net {
        /// The method.
        method: String,
        /// The URL.
        url: String,
    },
    /// Write a path.
    Write(String),
    /// Read a path.
    Read(String),
    /// Use a secret.
    Secret(String),
    /// Use a tool.
    Tool(String),
    /// Spend this much in one life.
    Spend(MicroUsd),
    /// Be started, on this runtime or with this model where one is named.
    Spawn {
        /// The runtime.
        runtime: Option<String>,
        /// The model.
        model: Option<String>,
    },
}

/// A deed that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no deed; write `net METHOD URL`, `write PATH`, `read PATH`, `secret NAME`, `tool NAME`, `spend DOLLARS`, `spawn`, `spawn runtime NAME` or `spawn model PROVIDER/MODEL`"
)]
pub struct BadDeed(pub String);

impl FromStr for Deed {
    type Err = BadDeed;
    fn from_str(text: &str) -> Result<Self, BadDeed> {
        let bad = || BadDeed(text.chars().take(200).collect());
        let (verb, rest) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
        let rest = rest.trim();
        let one = || (!rest.is_empty()).then(|| rest.to_owned()).ok_or_else(bad);
        Ok(match verb {
            "net" => {
                let (method, url) = rest.split_once(char::is_whitespace).ok_or_else(bad)?;
                Self::Net { method: method.to_owned(), url: url.trim().to_owned() }
            }
            "write" => Self::Write(path(&one()?)),
            "read" => Self::Read(path(&one()?)),
            "secret" => Self::Secret(one()?),
            "tool" => Self::Tool(one()?),
            "spend" => Self::Spend(one()?.trim_start_matches('$').parse().ok().and_then(MicroUsd::from_usd).ok_or_else(bad)?),
            "spawn" if rest.is_empty() => Self::Spawn { runtime: None, model: None },
            "spawn" => match rest.split_once(char::is_whitespace) {
                Some(("runtime", name)) => Self::Spawn { runtime: Some(name.trim().to_owned()), model: None },
                Some(("model", name)) => Self::Spawn { runtime: None, model: Some(name.trim().to_owned()) },
                _ => return Err(bad()),
            },
            _ => return Err(bad()),
        })
    }
}

fn path(text: &str) -> String {
    text.trim_start_matches("./").to_owned()
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net { method, url } => write!(f, "{method} {url}"),
            Self::Write(path) => write!(f, "write {path}"),
            Self::Read(path) => write!(f, "read {path}"),
            Self::Secret(name) => write!(f, "use the secret {name}"),
            Self::Tool(name) => write!(f, "use the tool {name}"),
            Self::Spend(usd) => write!(f, "spend {usd}"),
            Self::Spawn { runtime: Some(name), .. } => write!(f, "run on {name}"),
            Self::Spawn { model: Some(name), .. } => write!(f, "ask {name}"),
            Self::Spawn { .. } => f.write_str("be started"),
        }
    }
}

impl AgentPolicy {
    /// Answers for everything but the network.
    pub fn may(&self, deed: &Deed) -> Option<Said> {
        Some(match deed {
            Deed::Net { .. } => return None,
            Deed::Write(path) => self.may_write(path),
            Deed::Read(path) => self.may_read(path),
            Deed::Secret(name) => self.may_carry(name),
            Deed::Tool(name) => self.may_use_tool(name),
            Deed::Spend(usd) => self.may_spend(*usd),
            Deed::Spawn { runtime: Some(name), .. } => self.may_run_on(name),
            Deed::Spawn { model: Some(name), .. } => self.may_ask_model(name),
            Deed::Spawn { .. } => Said::allowed(self.lowest(|said| said.spawn.at_once).map(|(_, source)| source), "spawn.at_once"),
        })
    }

    fn may_carry(&self, secret: &str) -> Said {
        let said = self.may_use_secret(secret);
        match self.asks_about_secret(secret).filter(|_| said.allowed) {
            None => said,
            Some(source) => {
                let why = format!("the secret {secret} may be used once a person has said so");
                let instead = "try: they are asked, and the request is refused until they have answered";
                Said::denied(source, "secrets.ask", &why, instead)
            }
        }
    }

    fn may_spend(&self, usd: MicroUsd) -> Said {
        type Pick = fn(&Sections) -> Option<f64>;
        let keys: [(&str, Pick); 3] = [
            ("spend.agent_usd", |said| said.spend.agent_usd),
            ("spend.task_usd", |said| said.spend.task_usd),
            ("spend.run_usd", |said| said.spend.run_usd),
        ];
        let mut last = None;
        for (key, pick) in keys {
            let Some((most, source)) = self.lowest(pick) else { continue };
            if MicroUsd::from_usd(most).is_some_and(|most| usd > most) {
                let instead = format!("stay below ${most:.2}");
                return Said::denied(source, key, &format!("{usd} is more than may be spent"), &instead);
            }
            last = last.or(Some((source, key)));
        }
        last.map_or_else(|| Said::allowed(None, "spend"), |(source, key)| Said::allowed(Some(source), key))
    }
}
