//! The policy file and the secrets file.

use std::collections::BTreeSet;
use std::fmt;

use aedile_core::policy::Whom;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::patterns::{HostPattern, PathPattern};
use super::presets;
use super::target::Target;

/// The largest policy or secrets file, in bytes.
const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;
const METHODS: &[&str] =
    &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "PROPFIND", "REPORT", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK"];

/// A policy or secrets file that is wrong. The message names the place and never holds a secret's value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadFile(pub String);

/// Whether a rule lets pass or holds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// What it names may pass.
    #[default]
    Allow,
    /// What it names passes only when a person says so; it goes before rules that allow.
    Ask,
    /// What it names may not pass, whatever other rules say.
    Deny,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
        })
    }
}

/// A rule over the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRule {
    /// Its name, which every decision by it carries.
    pub id: String,
    /// Whom it means.
    pub whom: Whom,
    /// Whether it lets pass.
    pub effect: Effect,
    /// The hosts; never empty.
    pub hosts: Vec<HostPattern>,
    /// `https`, `http` or both.
    pub schemes: Vec<String>,
    /// The ports.
    pub ports: Vec<u16>,
    /// The methods; empty: all (of rules that deny).
    pub methods: Vec<String>,
    /// The paths; empty: all.
    pub paths: Vec<PathPattern>,
    /// What the path ends with, in rules of presets.
    pub(super) end: Option<String>,
    /// Parameters of the query, name and value. A rule that allows wants each of them, once; one that denies holds where any of them is.
    pub query: Vec<(String, String)>,
    /// Whether a WebSocket may be opened where the rule allows to read.
    pub websocket: bool,
}

/// What is asked for when a WebSocket is: not the reading that its request looks like.
pub(crate) const WEBSOCKET: &str = "WEBSOCKET";

/// A parameter of a query as a server reads it.
fn parameters(query: &str) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + '_ {
    let decoded = |text: &str| crate::leak::unescaped(text.as_bytes()).0;
    query
        .split('&')
        .map(move |pair| pair.split_once('=').map_or((decoded(pair), Vec::new()), |(name, value)| (decoded(name), decoded(value))))
}

impl NetworkRule {
    /// Whether the query is meant.
    fn asks(&self, target: &Target) -> bool {
        let query = target.query.as_deref().unwrap_or_default();
        if self.effect == Effect::Deny {
            let held = |(name, value): &(String, String)| {
                parameters(query).any(|(known, said)| known == name.as_bytes() && said == value.as_bytes())
            };
            return self.query.is_empty() || self.query.iter().any(held);
        }
        // Of two parameters with one name servers differ in which they take, and in what they decode.
        self.query.iter().all(|(name, value)| {
            let plain = query.split('&').filter(|pair| pair.split_once('=') == Some((name, value))).count();
            plain == 1 && parameters(query).filter(|(known, _)| known == name.as_bytes()).count() == 1
        })
    }

    /// Whether the host, the port and the scheme are meant, whatever is asked of them.
    pub(super) fn reaches(&self, target: &Target) -> bool {
        let scheme = if target.secure { "https" } else { "http" };
        let anything = self.effect == Effect::Deny;
        self.hosts.iter().any(|pattern| pattern.matches(&target.host))
            && (self.schemes.iter().any(|known| known == scheme) || anything && self.schemes.is_empty())
            && (self.ports.contains(&target.port) || anything && self.ports.is_empty())
    }

    /// Whether everything is meant that may be asked where it reaches.
    pub(super) fn is_whole(&self) -> bool {
        self.methods.is_empty() && self.paths.is_empty() && self.query.is_empty() && self.end.is_none()
    }

    /// Whether the request is meant.
    pub fn matches(&self, method: &str, target: &Target) -> bool {
        let denies = self.effect == Effect::Deny;
        // Servers differ in how they read a path: a rule that denies or asks holds for each reading, one that allows only where the readings agree.
        let path = |pattern: &PathPattern| {
            if self.effect != Effect::Allow {
                pattern.matches_some_reading(&target.path)
            } else {
                pattern.matches_every_reading(&target.path)
            }
        };
        let asked = if method == WEBSOCKET { "GET" } else { method };
        self.reaches(target)
            && (denies || method != WEBSOCKET || self.websocket)
            && (self.methods.iter().any(|known| known == asked) || denies && self.methods.is_empty())
            && (self.paths.is_empty() || self.paths.iter().any(path))
            && self.end.as_ref().is_none_or(|end| target.path.ends_with(end.as_str()))
            && self.asks(target)
    }
}

/// The policy over the network. What no rule allows is denied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The rules, in the order of the file.
    pub network: Vec<NetworkRule>,
}

pub(super) fn one_or_many<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany<T> {
        Many(Vec<T>),
        One(T),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::Many(many) => many,
        OneOrMany::One(one) => vec![one],
    })
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawPolicy {
    network: Vec<RawNetwork>,
    rule: Vec<RawRule>,
    // The other parts of the same file; `core` reads them.
    #[serde(rename = "limits")]
    _limits: IgnoredAny,
    #[serde(rename = "write")]
    _write: IgnoredAny,
    #[serde(rename = "read")]
    _read: IgnoredAny,
    #[serde(rename = "secrets")]
    _secrets: IgnoredAny,
    #[serde(rename = "tools")]
    _tools: IgnoredAny,
    #[serde(rename = "spend")]
    _spend: IgnoredAny,
    #[serde(rename = "spawn")]
    _spawn: IgnoredAny,
    #[serde(rename = "provider")]
    _provider: IgnoredAny,
}

/// `[[rule]]`: the same sections for certain agents.
#[derive(Deserialize, Default)]
#[serde(default)]
struct RawRule {
    id: String,
    roles: Vec<String>,
    agents: Vec<String>,
    tasks: Vec<String>,
    network: Vec<RawNetwork>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNetwork {
    pub(super) id: String,
    #[serde(default)]
    pub(super) effect: Effect,
    pub(super) preset: Option<String>,
    #[serde(alias = "host", default, deserialize_with = "one_or_many")]
    pub(super) hosts: Vec<String>,
    #[serde(alias = "scheme", default, deserialize_with = "one_or_many")]
    pub(super) schemes: Vec<String>,
    #[serde(alias = "port", default, deserialize_with = "one_or_many")]
    pub(super) ports: Vec<u16>,
    #[serde(alias = "method", default, deserialize_with = "one_or_many")]
    pub(super) methods: Vec<String>,
    #[serde(alias = "path", default, deserialize_with = "one_or_many")]
    pub(super) paths: Vec<String>,
    #[serde(default, deserialize_with = "one_or_many")]
    pub(super) query: Vec<String>,
    #[serde(default)]
    pub(super) websocket: bool,
    #[serde(skip)]
    pub(super) end: Option<String>,
}

/// Reads TOML, or JSON of the same keys where the text begins with a brace. The error says where, never what: a value may be near.
pub(super) fn parsed<T: serde::de::DeserializeOwned + Default>(text: &str) -> Result<T, BadFile> {
    if text.len() > FILE_BYTES_MAX {
        return Err(BadFile(format!("the file has more than {FILE_BYTES_MAX} bytes")));
    }
    if text.trim_start().starts_with('{') {
        let bad =
            |error: serde_json::Error| BadFile(format!("line {}, column {}: {}", error.line(), error.column(), quiet(&error.to_string())));
        return serde_json::from_str(text).map_err(bad);
    }
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        BadFile(format!("line {line}: {}", quiet(error.message())))
    })
}

/// Messages about types quote what was found; names of keys stand between backticks and are kept.
fn quiet(message: &str) -> String {
    let cut = message.find('"').unwrap_or(message.len());
    message[..cut].split(" at line ").next().unwrap_or_default().trim_end().to_owned()
}

pub(super) fn is_name(text: &str) -> bool {
    (1..=100).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

pub(super) fn hosts(who: &str, texts: &[String]) -> Result<Vec<HostPattern>, BadFile> {
    let bad = |text: &str, problem: String| BadFile(format!("{who}: the host {text:?} {problem}"));
    texts.iter().map(|text| HostPattern::parse(text).map_err(|problem| bad(text, problem))).collect()
}

pub(super) fn paths(who: &str, texts: &[String]) -> Result<Vec<PathPattern>, BadFile> {
    let bad = |text: &str, problem: String| BadFile(format!("{who}: the path {text:?} {problem}"));
    texts.iter().map(|text| PathPattern::parse(text).map_err(|problem| bad(text, problem))).collect()
}

pub(super) fn methods(who: &str, texts: Vec<String>) -> Result<Vec<String>, BadFile> {
    match texts.iter().find(|method| !METHODS.contains(&method.as_str())) {
        Some(method) => Err(BadFile(format!("{who}: {method:?} is no method that can be allowed; known are {}", METHODS.join(", ")))),
        None => Ok(texts),
    }
}

/// Parameters as `NAME=VALUE`, in their plain form.
fn query(who: &str, texts: &[String]) -> Result<Vec<(String, String)>, BadFile> {
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) if plain(name) && plain(value) => Ok((name.to_owned(), value.to_owned())),
        _ => Err(BadFile(format!("{who}: the parameter {text:?} must be written NAME=VALUE, with letters, digits and `-._~`"))),
    };
    texts.iter().map(pair).collect()
}

impl Policy {
    /// Reads a policy: `[[network]]` with `id`, `hosts`, and where they are not the usual ones `effect`, `schemes` (https), `ports` (443; 80 for http),
    /// `methods` (GET, HEAD), `paths` (all) and `query` (any); or `id` and `preset`. A rule with `effect = "deny"` means everything that it does not narrow.
    ///
    /// # Errors
    /// [`BadFile`]: an unknown key, a wrong pattern, a name that is missing or given twice.
    pub fn parse(text: &str) -> Result<Self, BadFile> {
        let raw: RawPolicy = parsed(text)?;
        let mut seen = BTreeSet::new();
        let mut network: Vec<(Whom, RawNetwork)> = Vec::new();
        for rule in raw.network {
            network.extend(presets::expanded(rule)?.into_iter().map(|rule| (Whom::default(), rule)));
        }
        for RawRule { id, roles, agents, tasks, network: rules } in raw.rule {
            let whom = Whom::new(roles, agents, tasks).map_err(|problem| BadFile(format!("rule {id:?}: {problem}")))?;
            for rule in rules {
                network.extend(presets::expanded(rule)?.into_iter().map(|rule| (whom.clone(), rule)));
            }
        }
        let network = network.into_iter().map(|(whom, rule)| {
            let who = format!("network rule {:?}", rule.id);
            if !is_name(&rule.id) || !seen.insert(rule.id.clone()) {
                return Err(BadFile(format!("{who}: the id must be 1 to 100 letters, digits, `_`, `-` and `.`, and no other rule's")));
            }
            if rule.hosts.is_empty() {
                return Err(BadFile(format!("{who}: it names no `hosts`, so it would never hold")));
            }
            if let Some(scheme) = rule.schemes.iter().find(|scheme| !matches!(scheme.as_str(), "http" | "https")) {
                return Err(BadFile(format!("{who}: {scheme:?} is no scheme; known are https and http")));
            }
            if rule.ports.contains(&0) {
                return Err(BadFile(format!("{who}: 0 is no port")));
            }
            if rule.websocket
                && (rule.effect == Effect::Deny || !(rule.methods.is_empty() || rule.methods.iter().any(|method| method == "GET")))
            {
                return Err(BadFile(format!("{who}: `websocket` goes with a rule that allows GET")));
            }
            let mut rule = NetworkRule {
                hosts: hosts(&who, &rule.hosts)?,
                paths: paths(&who, &rule.paths)?,
                methods: methods(&who, rule.methods)?,
                id: rule.id,
                whom,
                effect: rule.effect,
                schemes: rule.schemes,
                ports: rule.ports,
                query: query(&who, &rule.query)?,
                end: rule.end,
                websocket: rule.websocket,
            };
            rule.fill();
            Ok(rule)
        });
        Ok(Self { network: network.collect::<Result<_, _>>()? })
    }

    /// Whether some rule allows something to anyone.
    pub fn allows(&self) -> bool {
        self.network.iter().any(|rule| rule.effect != Effect::Deny)
    }
}

impl NetworkRule {
    /// What an allowing rule leaves out is the narrowest usual.
    fn fill(&mut self) {
        if self.effect == Effect::Deny {
            return;
        }
        if self.schemes.is_empty() {
            self.schemes.push("https".to_owned());
        }
        if self.ports.is_empty() {
            self.ports.extend(self.schemes.iter().map(|scheme| if scheme == "https" { 443 } else { 80 }));
        }
        if self.methods.is_empty() {
            self.methods.extend(["GET", "HEAD"].map(str::to_owned));
        }
    }
}
