//! The policy file and the secrets file.

use std::collections::BTreeSet;
use std::fmt;

use aedile_core::policy::Whom;
use aedile_core::{ExposeSecret, SecretString};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::patterns::{HostPattern, PathPattern};
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
    /// What it names may not pass, whatever other rules say.
    Deny,
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
}

impl NetworkRule {
    /// Whether the request is meant.
    pub fn matches(&self, method: &str, target: &Target) -> bool {
        let scheme = if target.secure { "https" } else { "http" };
        let host = self.hosts.iter().any(|pattern| pattern.matches(&target.host));
        let anything = self.effect == Effect::Deny;
        host && (self.schemes.iter().any(|known| known == scheme) || anything && self.schemes.is_empty())
            && (self.ports.contains(&target.port) || anything && self.ports.is_empty())
            && (self.methods.iter().any(|known| known == method) || anything && self.methods.is_empty())
            && (self.paths.is_empty() || self.paths.iter().any(|pattern| pattern.matches(&target.path)))
    }
}

/// The policy over the network. What no rule allows is denied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The rules, in the order of the file.
    pub network: Vec<NetworkRule>,
}

/// Where in a request a secret stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `Authorization: Bearer VALUE`.
    Bearer,
    /// `Authorization: Basic ...` with the value as the password.
    Basic,
    /// A header of this name, small letters.
    Header(String),
    /// A parameter of the query.
    Query(String),
    /// A string of a JSON body, by pointer.
    Json(String),
    /// The signature of an AWS request.
    SigV4,
}

/// A secret with the requests that may carry it.
#[derive(Clone)]
pub struct SecretRule {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: SecretString,
    /// What stands for it inside a box.
    pub placeholder: String,
    /// The hosts that it may go to.
    pub hosts: Vec<HostPattern>,
    /// The methods; empty: all.
    pub methods: Vec<String>,
    /// The paths; empty: all.
    pub paths: Vec<PathPattern>,
    /// Where it stands.
    pub place: Place,
    /// The roles of agents that may use it; empty: all.
    pub roles: Vec<String>,
    /// The variable in which a box finds the placeholder.
    pub env: Option<String>,
}

impl SecretRule {
    /// A secret that may go nowhere, neither it nor what stands for it.
    pub fn nowhere(name: &str, value: SecretString) -> Self {
        Self {
            name: name.to_owned(),
            value,
            placeholder: placeholder_of(name),
            hosts: Vec::new(),
            methods: Vec::new(),
            paths: Vec::new(),
            place: Place::Bearer,
            roles: Vec::new(),
            env: None,
        }
    }

    /// Whether an agent of this role may use it. Without a role only what all may use.
    pub fn is_for(&self, role: Option<&str>) -> bool {
        self.roles.is_empty() || role.is_some_and(|role| self.roles.iter().any(|known| known == role))
    }
}

/// What stands for a secret where nothing else was said.
fn placeholder_of(name: &str) -> String {
    format!("aedile-secret-{name}")
}

impl fmt::Debug for SecretRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretRule").field("name", &self.name).field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// The secrets file.
#[derive(Debug, Clone, Default)]
pub struct SecretsFile {
    /// The secrets, in the order of the file.
    pub secrets: Vec<SecretRule>,
}

fn one_or_many<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
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

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNetwork {
    id: String,
    #[serde(default)]
    effect: Effect,
    #[serde(alias = "host", deserialize_with = "one_or_many")]
    hosts: Vec<String>,
    #[serde(alias = "scheme", default, deserialize_with = "one_or_many")]
    schemes: Vec<String>,
    #[serde(alias = "port", default, deserialize_with = "one_or_many")]
    ports: Vec<u16>,
    #[serde(alias = "method", default, deserialize_with = "one_or_many")]
    methods: Vec<String>,
    #[serde(alias = "path", default, deserialize_with = "one_or_many")]
    paths: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawSecrets {
    secret: Vec<RawSecret>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSecret {
    name: String,
    #[serde(deserialize_with = "secret")]
    value: SecretString,
    placeholder: Option<String>,
    #[serde(alias = "host", default, deserialize_with = "one_or_many")]
    hosts: Vec<String>,
    #[serde(alias = "method", default, deserialize_with = "one_or_many")]
    methods: Vec<String>,
    #[serde(alias = "path", default, deserialize_with = "one_or_many")]
    paths: Vec<String>,
    place: Option<String>,
    #[serde(alias = "role", default, deserialize_with = "one_or_many")]
    roles: Vec<String>,
    env: Option<String>,
}

/// Reads TOML, or JSON of the same keys where the text begins with a brace. The error says where, never what: a value may be near.
fn parsed<T: serde::de::DeserializeOwned + Default>(text: &str) -> Result<T, BadFile> {
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

fn is_name(text: &str) -> bool {
    (1..=100).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

/// Whether it names a variable as programs read their keys from.
fn is_variable(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    (1..=100).contains(&text.len()) && plain && !text.as_bytes()[0].is_ascii_digit()
}

fn hosts(who: &str, texts: &[String]) -> Result<Vec<HostPattern>, BadFile> {
    let bad = |text: &str, problem: String| BadFile(format!("{who}: the host {text:?} {problem}"));
    texts.iter().map(|text| HostPattern::parse(text).map_err(|problem| bad(text, problem))).collect()
}

fn paths(who: &str, texts: &[String]) -> Result<Vec<PathPattern>, BadFile> {
    let bad = |text: &str, problem: String| BadFile(format!("{who}: the path {text:?} {problem}"));
    texts.iter().map(|text| PathPattern::parse(text).map_err(|problem| bad(text, problem))).collect()
}

fn methods(who: &str, texts: Vec<String>) -> Result<Vec<String>, BadFile> {
    match texts.iter().find(|method| !METHODS.contains(&method.as_str())) {
        Some(method) => Err(BadFile(format!("{who}: {method:?} is no method that can be allowed; known are {}", METHODS.join(", ")))),
        None => Ok(texts),
    }
}

impl Policy {
    /// Reads a policy: `[[network]]` with `id`, `hosts`, and where they are not the usual ones `effect`, `schemes` (https), `ports` (443; 80 for http),
    /// `methods` (GET, HEAD) and `paths` (all). A rule with `effect = "deny"` means everything that it does not narrow.
    ///
    /// # Errors
    /// [`BadFile`]: an unknown key, a wrong pattern, a name that is missing or given twice.
    pub fn parse(text: &str) -> Result<Self, BadFile> {
        let raw: RawPolicy = parsed(text)?;
        let mut seen = BTreeSet::new();
        let mut network: Vec<(Whom, RawNetwork)> = raw.network.into_iter().map(|rule| (Whom::default(), rule)).collect();
        for RawRule { id, roles, agents, tasks, network: rules } in raw.rule {
            let whom = Whom::new(roles, agents, tasks).map_err(|problem| BadFile(format!("rule {id:?}: {problem}")))?;
            network.extend(rules.into_iter().map(|rule| (whom.clone(), rule)));
        }
        let network = network.into_iter().map(|(whom, rule)| {
            let who = format!("network rule {:?}", rule.id);
            if !is_name(&rule.id) || !seen.insert(rule.id.clone()) {
                return Err(BadFile(format!("{who}: the id must be 1 to 100 letters, digits, `_`, `-` and `.`, and no other rule's")));
            }
            if rule.hosts.is_empty() {
                return Err(BadFile(format!("{who}: it names no host, so it would never hold")));
            }
            if let Some(scheme) = rule.schemes.iter().find(|scheme| !matches!(scheme.as_str(), "http" | "https")) {
                return Err(BadFile(format!("{who}: {scheme:?} is no scheme; known are https and http")));
            }
            if rule.ports.contains(&0) {
                return Err(BadFile(format!("{who}: 0 is no port")));
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
            };
            rule.fill();
            Ok(rule)
        });
        Ok(Self { network: network.collect::<Result<_, _>>()? })
    }

    /// Whether some rule allows something to anyone.
    pub fn allows(&self) -> bool {
        self.network.iter().any(|rule| rule.effect == Effect::Allow)
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

impl Place {
    /// Reads `bearer`, `basic`, `header:NAME`, `query:NAME`, `json:/POINTER` or `sigv4`.
    fn parse(text: &str) -> Option<Self> {
        Some(match text.split_once(':') {
            None if text == "bearer" => Self::Bearer,
            None if text == "basic" => Self::Basic,
            None if text == "sigv4" => Self::SigV4,
            Some(("header", name)) if is_name(name) => Self::Header(name.to_ascii_lowercase()),
            Some(("query", name)) if is_name(name) => Self::Query(name.to_owned()),
            Some(("json", pointer)) if pointer.starts_with('/') => Self::Json(pointer.to_owned()),
            _ => return None,
        })
    }
}

impl SecretsFile {
    /// Reads secrets: `[[secret]]` with `name`, `value`, `hosts`, and where they are not the usual ones `methods` (all), `paths` (all), `place`
    /// (bearer), `placeholder` (`aedile-secret-NAME`), `roles` (all) and `env` (none). A secret without hosts may go nowhere.
    ///
    /// # Errors
    /// [`BadFile`]: an unknown key, a wrong pattern or place, a name given twice, a value that is empty or longer than 64 KiB.
    pub fn parse(text: &str) -> Result<Self, BadFile> {
        let raw: RawSecrets = parsed(text)?;
        let mut seen = BTreeSet::new();
        let secrets = raw.secret.into_iter().map(|secret| {
            let who = format!("secret {:?}", secret.name);
            if !is_name(&secret.name) || !seen.insert(secret.name.clone()) {
                return Err(BadFile(format!("{who}: the name must be 1 to 100 letters, digits, `_`, `-` and `.`, and no other secret's")));
            }
            let value = SecretString::from(secret.value.expose_secret().trim());
            if !(1..=64 * 1024).contains(&value.expose_secret().len()) {
                return Err(BadFile(format!("{who}: the value must have 1 to 65536 bytes")));
            }
            let place = secret.place.unwrap_or_else(|| "bearer".to_owned());
            let known = "bearer, basic, header:NAME, query:NAME, json:/POINTER and sigv4";
            let placeholder = secret.placeholder.unwrap_or_else(|| placeholder_of(&secret.name));
            if placeholder.len() < 8 || placeholder == *value.expose_secret() {
                return Err(BadFile(format!("{who}: the placeholder must have at least 8 characters and not be the value")));
            }
            if let Some(role) = secret.roles.iter().find(|role| !is_name(role)) {
                return Err(BadFile(format!("{who}: {role:?} is no role; a role is 1 to 100 letters, digits, `_`, `-` and `.`")));
            }
            if let Some(env) = secret.env.as_ref().filter(|env| !is_variable(env)) {
                return Err(BadFile(format!("{who}: {env:?} is no name of a variable: capital letters, digits and `_`, no digit first")));
            }
            Ok(SecretRule {
                hosts: hosts(&who, &secret.hosts)?,
                methods: methods(&who, secret.methods)?,
                paths: paths(&who, &secret.paths)?,
                place: Place::parse(&place)
                    .ok_or_else(|| BadFile(format!("{who}: the place {place:?} is not known; known are {known}")))?,
                name: secret.name,
                value,
                placeholder,
                roles: secret.roles,
                env: secret.env,
            })
        });
        Ok(Self { secrets: secrets.collect::<Result<_, _>>()? })
    }
}
