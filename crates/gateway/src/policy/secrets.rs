//! Secrets with the requests that may carry them, and the secrets file.

use std::collections::BTreeSet;
use std::fmt;

use aedile_core::policy::{AgentPolicy, Source};
use aedile_core::{ExposeSecret, SecretString};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer};

use super::files::{BadFile, hosts, is_name, methods, one_or_many, parsed, paths};
use super::patterns::{HostPattern, PathPattern};
use super::target::Target;
use crate::safe::Binding;

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
    /// Whether it is a decoy, which boxes hold as it is and which may go nowhere.
    pub canary: bool,
    /// Where policy says that a person is asked before a request carries it.
    pub ask: Option<Source>,
    /// Whether its value is an access token, which is got when a request needs it; there is no value here until then.
    pub renews: bool,
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
            canary: false,
            ask: None,
            renews: false,
        }
    }

    /// A secret whose value is an access token, which may go where the binding says.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub fn renewed(name: &str, binding: &Binding) -> Result<Self, BadFile> {
        Ok(Self { renews: true, ..Self::bind(name, SecretString::from(""), binding)? })
    }

    /// A secret that may go where the binding says.
    ///
    /// # Errors
    /// [`BadFile`]: a wrong pattern, place, role, variable or placeholder.
    pub fn bind(name: &str, value: SecretString, binding: &Binding) -> Result<Self, BadFile> {
        let who = format!("secret {name:?}");
        let known = "bearer, basic, header:NAME, query:NAME, json:/POINTER and sigv4";
        let place = binding.place.as_deref().unwrap_or("bearer");
        if binding.canary && !(binding.hosts.is_empty() && binding.placeholder.is_none()) {
            return Err(BadFile(format!("{who}: a canary goes nowhere and stands for itself: leave out hosts and placeholder")));
        }
        let decoy = (binding.canary && !value.expose_secret().is_empty()).then(|| value.expose_secret().to_owned());
        let itself = decoy.is_some();
        let placeholder = decoy.or_else(|| binding.placeholder.clone()).unwrap_or_else(|| placeholder_of(name));
        if placeholder.len() < 8 || !itself && placeholder == *value.expose_secret() {
            return Err(BadFile(format!("{who}: the placeholder must have at least 8 characters and not be the value")));
        }
        if let Some(role) = binding.roles.iter().find(|role| !is_name(role)) {
            return Err(BadFile(format!("{who}: {role:?} is no role; a role is 1 to 100 letters, digits, `_`, `-` and `.`")));
        }
        if let Some(env) = binding.env.as_ref().filter(|env| !is_variable(env)) {
            return Err(BadFile(format!("{who}: {env:?} is no name of a variable: capital letters, digits and `_`, no digit first")));
        }
        Ok(Self {
            hosts: hosts(&who, &binding.hosts)?,
            methods: methods(&who, binding.methods.clone())?,
            paths: paths(&who, &binding.paths)?,
            place: Place::parse(place).ok_or_else(|| BadFile(format!("{who}: the place {place:?} is not known; known are {known}")))?,
            name: name.to_owned(),
            value,
            placeholder,
            roles: binding.roles.clone(),
            env: binding.env.clone(),
            canary: binding.canary,
            ask: None,
            renews: false,
        })
    }

    /// What of it must be found: the value, and of what signs requests the key and the token by themselves (`ID:KEY:TOKEN`; the id is public).
    pub(crate) fn values(&self) -> impl Iterator<Item = &str> {
        let value = self.value.expose_secret();
        let parts = (self.place == Place::SigV4).then(|| value.split(':').skip(1));
        std::iter::once(value).chain(parts.into_iter().flatten())
    }

    /// Whether the request may carry it: over TLS, to one of its hosts, with a method and a path of its.
    pub(crate) fn is_bound_to(&self, method: &str, target: &Target) -> bool {
        self.hosts.iter().any(|pattern| pattern.matches(&target.host))
            && target.secure
            && (self.methods.is_empty() || self.methods.iter().any(|known| known == method))
            && (self.paths.is_empty() || self.paths.iter().any(|pattern| pattern.matches(&target.path)))
    }

    /// Where in a text its placeholder stands: not as the beginning of a longer name, which would be another secret's.
    pub(crate) fn stands_at(&self, text: &[u8]) -> Option<usize> {
        let placeholder = self.placeholder.as_bytes();
        let goes_on = |rest: &[u8]| match rest {
            [b'.', next, ..] => next.is_ascii_alphanumeric(),
            [next, ..] => next.is_ascii_alphanumeric() || matches!(next, b'_' | b'-'),
            [] => false,
        };
        memchr::memmem::find_iter(text, placeholder).find(|at| !goes_on(&text[at + placeholder.len()..]))
    }

    /// Whether its placeholder stands in a text.
    pub(crate) fn stands_in(&self, text: &[u8]) -> bool {
        self.stands_at(text).is_some()
    }

    /// The text with the value wherever the placeholder stands.
    pub(crate) fn put(&self, text: &str) -> String {
        let (mut out, mut rest) = (String::with_capacity(text.len()), text);
        while let Some(at) = self.stands_at(rest.as_bytes()) {
            out.push_str(&rest[..at]);
            out.push_str(self.value.expose_secret());
            rest = &rest[at + self.placeholder.len()..];
        }
        out.push_str(rest);
        out
    }

    /// Whether an agent of this role may use it. Without a role only what all may use.
    pub fn is_for(&self, role: Option<&str>) -> bool {
        self.roles.is_empty() || role.is_some_and(|role| self.roles.iter().any(|known| known == role))
    }
}

/// What stands behind `Basic` in an `Authorization` header, decoded; the judge of a request and what fills it read it by this one function.
pub(crate) fn basic(value: &str) -> Option<String> {
    let (scheme, rest) = value.split_at_checked("basic ".len())?;
    let decoded = scheme.eq_ignore_ascii_case("basic ").then(|| BASE64.decode(rest.trim()).ok())??;
    String::from_utf8(decoded).ok()
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

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
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

/// Whether it names a variable as programs read their keys from.
fn is_variable(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    (1..=100).contains(&text.len()) && plain && !text.as_bytes()[0].is_ascii_digit()
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
    /// The same, where what policy does not leave to the agent may go nowhere, and what it asks a person about says so. Every value is still
    /// looked for.
    pub(crate) fn left_by(mut self, policy: &AgentPolicy) -> Self {
        for secret in &mut self.secrets {
            if !policy.may_use_secret(&secret.name).allowed {
                secret.hosts.clear();
            }
            secret.ask = policy.asks_about_secret(&secret.name).cloned();
        }
        self
    }

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
            let binding = Binding {
                hosts: secret.hosts,
                methods: secret.methods,
                paths: secret.paths,
                place: secret.place,
                roles: secret.roles,
                env: secret.env,
                placeholder: secret.placeholder,
                canary: false,
            };
            SecretRule::bind(&secret.name, value, &binding)
        });
        Ok(Self { secrets: secrets.collect::<Result<_, _>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Egress, Policy, Request};

    const DECOY: &str = "ghp_decoy0123456789decoy0123456789abcd";
    const VALUE: &str = "q8Zt2LmP0vRx7KdWb3NcY5Hs";

    fn decided(method: &str, url: &str, header: &str, body: &str) -> (bool, String) {
        let open = "[[network]]\nid = \"open\"\nhosts = [\"api.example.org\"]\nmethods = [\"GET\", \"POST\"]\n";
        let canary = Binding { env: Some("BAIT".to_owned()), canary: true, ..Binding::default() };
        let api = Binding { hosts: vec!["api.example.org".to_owned()], ..Binding::default() };
        let secrets = vec![SecretRule::bind("bait", DECOY.into(), &canary).unwrap(), SecretRule::bind("api", VALUE.into(), &api).unwrap()];
        let headers = vec![("X-Note".to_owned(), header.to_owned())];
        let request = Request { method: method.to_owned(), url: url.to_owned(), headers, body: body.as_bytes().to_vec() };
        let decision = Egress::new(Policy::parse(open).unwrap(), SecretsFile { secrets }).decide(&request);
        (decision.allow, decision.rule)
    }

    #[test]
    fn a_canary_goes_nowhere_and_a_denied_request_says_what_it_was_to_carry() {
        let (open, closed) = ("https://api.example.org/x", "https://evil.example.com/x");
        let encoded = BASE64.encode(format!("token={DECOY};"));
        for (method, url, header, body, rule) in [
            ("GET", open, DECOY, "", "secret.canary"),
            ("POST", open, "-", encoded.as_str(), "secret.canary"),
            ("GET", closed, DECOY, "", "secret.canary"),
            ("POST", closed, "-", encoded.as_str(), "secret.canary"),
            ("GET", &format!("{closed}?k={DECOY}"), "-", "", "secret.canary"),
            ("GET", closed, "aedile-secret-api", "", "secret.placeholder"),
            ("POST", closed, "-", &BASE64.encode(VALUE), "secret.value"),
            ("POST", closed, "-", "nothing", "policy.default"),
        ] {
            assert_eq!(decided(method, url, header, body), (false, rule.to_owned()), "{method} {url} {header} {body}");
        }
        assert!(decided("GET", open, "-", "").0);
    }

    #[test]
    fn a_canary_stands_for_itself_and_has_no_place_to_go() {
        let bound = |binding: &Binding| SecretRule::bind("bait", DECOY.into(), binding);
        let canary = Binding { canary: true, ..Binding::default() };
        assert_eq!(bound(&canary).unwrap().placeholder, DECOY);
        for wrong in [
            Binding { hosts: vec!["api.example.org".to_owned()], ..canary.clone() },
            Binding { placeholder: Some("other-placeholder".to_owned()), ..canary },
        ] {
            assert!(bound(&wrong).unwrap_err().to_string().contains("a canary goes nowhere"));
        }
    }
}
