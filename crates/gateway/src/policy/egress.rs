//! The decision over a request: read once, hold it against the rules, look for secrets in it.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use aedile_core::policy::LayerName;
use serde_json::Value;

use super::files::WEBSOCKET;
use super::layers::{Layers, Verdict};
use super::secrets::{Place, SecretRule, SecretsFile, basic};
use super::target::Target;
use super::{Refusal, headers};
use crate::leak::{self, Secrets, Shapes, Values};
use crate::unpack::Coding;
use crate::websocket;

/// The longest method.
const METHOD_BYTES_MAX: usize = 32;
/// The largest body, in bytes, as it is sent and unpacked.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Parts of values are remembered for so many fields.
const FIELDS_MAX: usize = 256;

/// A request as it would be sent.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The URL.
    pub url: String,
    /// Names and values, in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// The bytes of its URL, headers and body.
    pub(crate) fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        self.url.len() + headers + self.body.len()
    }
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may go.
    pub allow: bool,
    /// Whether it may go when a person says so; it may not by itself then.
    pub ask: bool,
    /// The layer that the rule stands in; `None` for rules that always hold.
    pub layer: Option<LayerName>,
    /// The rule that decided: one of the policy, or one of those that always hold (`address.loopback`, `secret.value`, ...).
    pub rule: String,
    /// The URL that would be dialled, in its plain form; `None` when it could not be read.
    pub url: Option<String>,
    /// A sentence for whoever asked.
    pub why: String,
}

/// Decides over requests of one agent: what it sends in parts is put together again.
pub struct Egress {
    layers: Layers,
    secrets: Arc<[SecretRule]>,
    values: Arc<Values>,
    /// What was sent before, by field.
    memory: BTreeMap<String, Vec<u8>>,
}

impl Egress {
    /// Takes the rules and the secrets.
    pub fn new(layers: impl Into<Layers>, secrets: SecretsFile) -> Self {
        let values = Secrets::new(secrets.secrets.iter().flat_map(|secret| secret.values().map(|value| (secret.name.as_str(), value))));
        Self::looking_with(layers, secrets, Arc::new(Values::new(values)))
    }

    /// The same, with what finds the values of these secrets, which is large and made once for all doors.
    pub(crate) fn looking_with(layers: impl Into<Layers>, secrets: SecretsFile, values: Arc<Values>) -> Self {
        Self { layers: layers.into(), secrets: secrets.secrets.into(), values, memory: BTreeMap::new() }
    }

    /// The rules over the network.
    pub(crate) fn layers(&self) -> &Layers {
        &self.layers
    }

    /// The secrets that requests may carry.
    pub(crate) fn secrets(&self) -> Arc<[SecretRule]> {
        self.secrets.clone()
    }

    /// Decides over a request.
    pub fn decide(&mut self, request: &Request) -> Decision {
        let target = match Target::parse(&request.url) {
            Ok(target) => target,
            Err(refusal) => {
                return Decision { allow: false, ask: false, layer: None, rule: refusal.rule.to_owned(), url: None, why: refusal.why };
            }
        };
        let decided = self.judge(request, &target);
        let (allow, Verdict { layer, rule, why, ask }) = match decided {
            Ok(verdict) => (!verdict.ask, verdict),
            Err(verdict) => (false, verdict),
        };
        Decision { allow, ask, layer, rule, url: Some(target.to_string()), why }
    }

    fn judge(&mut self, request: &Request, target: &Target) -> Result<Verdict, Verdict> {
        let always = |(rule, why)| Verdict { layer: None, rule, why, ask: false };
        let plain = |refusal: Refusal| always((refusal.rule.to_owned(), refusal.why));
        let token = |byte: u8| byte.is_ascii_uppercase() || byte == b'-';
        if request.method.is_empty() || request.method.len() > METHOD_BYTES_MAX || !request.method.bytes().all(token) {
            return Err(always(("method.form".to_owned(), "the method must be capital letters".to_owned())));
        }
        let upgrades = websocket::is_asked(request).map_err(plain)?;
        headers::check(&request.headers, target, request.body.len(), upgrades).map_err(plain)?;
        let allowed = match self.layers.decide(&request.method, target) {
            Ok(allowed) => allowed,
            // It goes nowhere in any case; what it was to carry away is told of all the same.
            Err(denied) => return Err(self.carried(request, target).map_or(denied, always)),
        };
        if upgrades {
            let why = "a WebSocket is opened only where a rule of every layer says `websocket = true`";
            self.layers.decide(WEBSOCKET, target).map_err(|_| plain(Refusal::new("header.connection", why)))?;
        }
        let body = unpacked(request).map_err(plain)?;
        // Secrets are looked for last, so that a request that goes nowhere does not fill the memory.
        self.placeholders(request, target, &body).map_err(always)?;
        self.leaks(request, target, &body).map_err(always)?;
        Ok(allowed)
    }

    /// Looks into a message of a connection that was allowed, as into a body: no value of a secret, whole or in parts over several messages, no
    /// credential, and no placeholder, since nothing is put in its place here.
    ///
    /// # Errors
    /// The rule that it breaks, and a sentence.
    pub(crate) fn decide_message(&mut self, target: &Target, message: &[u8]) -> Result<(), (String, String)> {
        let holds = |secret: &&SecretRule| secret.stands_in(message);
        if let Some(secret) = self.secrets.iter().find(holds) {
            if secret.canary {
                return Err(canary_found(&secret.name));
            }
            let why = format!("a message holds the placeholder of the secret {}, which is put into requests only", secret.name);
            return Err(("secret.placeholder".to_owned(), why));
        }
        let request = Request { body: message.to_vec(), ..Request::default() };
        self.leaks(&request, target, message)
    }

    /// The secret that a request was to carry to where no request may go: as it is, packed, or by what stands for it.
    fn carried(&self, request: &Request, target: &Target) -> Option<(String, String)> {
        let body = unpacked(request).ok()?;
        if let Err(found) = self.placeholders(request, target, &body) {
            return Some(found);
        }
        let headers = request.headers.iter().map(|(_, value)| value.as_bytes());
        let mut texts = [request.url.as_bytes(), request.body.as_slice(), &body].into_iter().chain(headers);
        let values = self.values.now();
        texts.find_map(|text| values.find_packed(text).first().map(|hit| self.found(values.name(hit.owner))))
    }

    /// What is said of a value that was found.
    fn found(&self, name: &str) -> (String, String) {
        let canary = self.secrets.iter().any(|secret| secret.canary && secret.name == name);
        if canary { canary_found(name) } else { value_found(name) }
    }

    /// A placeholder may stand only where its secret may go.
    fn placeholders(&self, request: &Request, target: &Target, body: &[u8]) -> Result<(), (String, String)> {
        for secret in &*self.secrets {
            let held = |text: &[u8]| secret.stands_in(text);
            let (view, _) = crate::leak::unescaped(request.url.as_bytes());
            let in_url = held(request.url.as_bytes()) || held(&view);
            let header = request.headers.iter().find(|(name, value)| {
                held(name.as_bytes()) || held(value.as_bytes()) || basic(value).is_some_and(|plain| held(plain.as_bytes()))
            });
            let in_body = held(body);
            if !(in_url || header.is_some() || in_body) {
                continue;
            }
            let bound = secret.is_bound_to(&request.method, target);
            let header = header.map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()));
            if secret.canary {
                return Err(canary_found(&secret.name));
            }
            if !bound || !stands_right(secret, header, target, body, (in_url, in_body)) {
                let why = format!("the placeholder of the secret {} stands in a request that the secret is not for", secret.name);
                return Err(("secret.placeholder".to_owned(), why));
            }
        }
        Ok(())
    }

    /// No value of a secret, in any form, whole or in parts, and nothing that is a credential by its own form.
    fn leaks(&mut self, request: &Request, target: &Target, body: &[u8]) -> Result<(), (String, String)> {
        let names = request.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>();
        let url = target.to_string();
        let mut texts = vec![request.url.as_bytes(), url.as_bytes(), request.body.as_slice()];
        texts.extend(names.iter().map(String::as_bytes));
        if body != request.body {
            texts.push(body);
        }
        let values = self.values.now();
        for text in &texts {
            let layers = values.find_deep(text);
            if let Some(hit) = layers.hits.first() {
                return Err(self.found(values.name(hit.owner)));
            }
            if layers.unread {
                return Err(("body.size".to_owned(), "the request holds more packed data than is looked at".to_owned()));
            }
            if let Some(span) = Shapes::get().scan(text).iter().find(|span| span.verdict == leak::Verdict::Block) {
                return Err((format!("leak.{}", span.rule), format!("the request holds what looks like a credential ({})", span.rule)));
            }
        }
        if let Some(name) = texts.iter().find_map(|text| values.find_folded(&String::from_utf8_lossy(text))) {
            return Err(self.found(name));
        }
        self.parts(request, target, body)
    }

    /// Values in parts: over the fields of this request, and field by field over those before.
    fn parts(&mut self, request: &Request, target: &Target, body: &[u8]) -> Result<(), (String, String)> {
        let fields = fields(request, target, body);
        let values = self.values.now();
        let all = fields.iter().map(|(_, value)| value.as_slice());
        if let Some(name) = values.find_split(&mut Vec::new(), all) {
            return Err(self.found(name));
        }
        for (field, value) in &fields {
            let known = self.memory.contains_key(field);
            if known || self.memory.len() < FIELDS_MAX {
                let memory = self.memory.entry(field.clone()).or_default();
                if let Some(name) = values.find_split(memory, [value.as_slice()]) {
                    memory.clear();
                    return Err(self.found(name));
                }
            }
        }
        Ok(())
    }
}

fn canary_found(name: &str) -> (String, String) {
    ("secret.canary".to_owned(), format!("the request holds the secret {name}, which may go nowhere: leave it out"))
}

fn value_found(name: &str) -> (String, String) {
    ("secret.value".to_owned(), format!("the request holds the value of the secret {name}; send its placeholder instead"))
}

/// Whether the placeholder stands where the secret is to stand, and nowhere else.
fn stands_right(
    secret: &SecretRule,
    header: Option<(String, &str)>,
    target: &Target,
    body: &[u8],
    (in_url, in_body): (bool, bool),
) -> bool {
    let authorization = |scheme: &str| {
        header.as_ref().is_some_and(|(name, value)| {
            name == "authorization" && value.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        })
    };
    match &secret.place {
        Place::Bearer => authorization("bearer ") && !in_url && !in_body,
        Place::Basic => authorization("basic ") && !in_url && !in_body,
        Place::SigV4 => authorization("aws4-hmac-sha256 ") && !in_url && !in_body,
        Place::Header(wanted) => header.is_some_and(|(name, _)| name == *wanted) && !in_url && !in_body,
        Place::Query(wanted) => {
            let query = target.query.as_deref().unwrap_or_default();
            let pair = |pair: &str| pair.split_once('=').is_some_and(|(name, value)| name == wanted && value == secret.placeholder);
            let path = target.path.contains(&secret.placeholder);
            query.split('&').any(pair) && !path && header.is_none() && !in_body
        }
        Place::Json(pointer) => {
            let value: Option<Value> = serde_json::from_slice(body).ok();
            let right =
                value.as_ref().and_then(|value| value.pointer(pointer)).and_then(Value::as_str) == Some(secret.placeholder.as_str());
            right && header.is_none() && !in_url
        }
    }
}

/// The body without its packing.
pub(crate) fn unpacked(request: &Request) -> Result<Vec<u8>, Refusal> {
    if request.body.len() > BODY_BYTES_MAX {
        return Err(Refusal::new("body.size", format!("the body has more than {BODY_BYTES_MAX} bytes")));
    }
    let coding = request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-encoding"));
    let coding = coding.map_or(Ok(None), |(_, value)| Coding::parse(value)).map_err(|other| {
        let why = format!("the body is packed as {other:?}, which cannot be looked into; send it as gzip, deflate, br, zstd or plain");
        Refusal::new("body.encoding", why)
    })?;
    let Some(coding) = coding else { return Ok(request.body.clone()) };
    let mut out = Vec::new();
    let most = u64::try_from(BODY_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    if coding.unpack(request.body.as_slice()).take(most).read_to_end(&mut out).is_err() {
        return Err(Refusal::new("body.encoding", "the body is not packed as its Content-Encoding says"));
    }
    if out.len() > BODY_BYTES_MAX {
        return Err(Refusal::new("body.size", format!("the body unpacks to more than {BODY_BYTES_MAX} bytes")));
    }
    Ok(out)
}

/// The fields of a request, by name: labels of the host, segments of the path, parameters, headers, strings of a JSON body.
fn fields(request: &Request, target: &Target, body: &[u8]) -> Vec<(String, Vec<u8>)> {
    let decoded = |text: &str| crate::leak::unescaped(text.as_bytes()).0;
    let mut fields = vec![("host".to_owned(), target.host.to_string().into_bytes())];
    fields.push(("path".to_owned(), decoded(target.path.rsplit('/').next().unwrap_or_default())));
    let pairs = |text: &str, kind: &str, fields: &mut Vec<(String, Vec<u8>)>| {
        fields.extend(
            text.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (format!("{kind} {name}"), decoded(value))),
        );
    };
    pairs(target.query.as_deref().unwrap_or_default(), "query", &mut fields);
    // What every request says again would only stand between the parts.
    let plain =
        |name: &str| ["host", "user-agent", "accept", "content-length", "content-type", "connection", "accept-encoding"].contains(&name);
    let headers = request.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).filter(|(name, _)| !plain(name));
    fields.extend(headers.map(|(name, value)| (format!("header {name}"), value.clone().into_bytes())));
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => strings(&value, "body", &mut fields),
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            if text.contains('=') && !text.contains(char::is_whitespace) {
                pairs(&text, "form", &mut fields);
            }
            fields.push(("body".to_owned(), body.to_vec()));
        }
    }
    fields
}

fn strings(value: &Value, name: &str, fields: &mut Vec<(String, Vec<u8>)>) {
    match value {
        Value::String(text) => fields.push((name.to_owned(), text.clone().into_bytes())),
        Value::Number(number) => fields.push((name.to_owned(), number.to_string().into_bytes())),
        Value::Array(items) => items.iter().for_each(|item| strings(item, name, fields)),
        Value::Object(items) => items.iter().for_each(|(key, item)| strings(item, &format!("{name}/{key}"), fields)),
        Value::Null | Value::Bool(_) => {}
    }
}
