//! The values of secrets: held once, taken out of everything that is written down.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::Arc;

use aedile_core::egress::UsableSecret;
use aedile_core::policy::AgentPolicy;
use aedile_core::redact::Leak;
use aedile_core::{ExposeSecret, Redactor, SecretString};

use crate::leak::{Secrets, Shapes, Values, Verdict};
use crate::policy::{SecretRule, SecretsFile};
use crate::renewal::Renewals;
use crate::safe::{OAuth, Places};

/// The longest value of a secret, in bytes: a longer one is a file rather than a key.
pub const SECRET_BYTES_MAX: usize = 64 * 1024;

/// Whether a secret may have this name.
pub(crate) fn is_secret_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (1..=100).contains(&name.len()) && name.chars().all(plain)
}

/// A secret that the vault cannot keep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the secret {name} {problem}")]
pub struct BadSecret {
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Holds secrets by name. The only place that keeps their values.
pub struct Vault {
    /// Keys of providers, which the gateway itself puts into requests.
    secrets: Vec<(String, SecretString)>,
    /// Secrets that agents may use in requests.
    bound: Vec<SecretRule>,
    /// Secrets of them that are renewed.
    renewals: Arc<Renewals>,
    finder: Arc<Values>,
    /// Tells credentials apart without keeping them.
    digest: RandomState,
}

fn finder(keys: &[(String, SecretString)], bound: &[SecretRule], renewals: &Renewals) -> Secrets {
    let tokens = renewals.tokens();
    tokens.iter().for_each(|(_, token)| crate::safe::locked::lock(token.expose_secret().as_bytes()));
    let tokens = tokens.iter().map(|(name, token)| (name.as_str(), token.expose_secret()));
    let values = keys.iter().map(|(_, value)| value).chain(bound.iter().map(|rule| &rule.value));
    values.for_each(|value| crate::safe::locked::lock(value.expose_secret().as_bytes()));
    let parts = bound.iter().flat_map(|rule| rule.values().map(|value| (rule.name.as_str(), value)));
    Secrets::new(keys.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).chain(parts).chain(tokens))
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Vault {
    /// Takes the secrets. White space around a value (the line end of a key file) is dropped.
    ///
    /// # Errors
    /// [`BadSecret`] when a name has other characters than letters, digits, `_`, `-` and `.`, is given twice, or a value is empty
    /// or longer than 64 KiB. A value shorter than 8 bytes is kept and injected, but not taken out of texts.
    pub fn new(secrets: impl IntoIterator<Item = (String, SecretString)>) -> Result<Self, BadSecret> {
        let mut kept: Vec<(String, SecretString)> = Vec::new();
        for (name, value) in secrets {
            let value = SecretString::from(value.expose_secret().trim());
            let length = value.expose_secret().len();
            let problem = if !is_secret_name(&name) {
                "must be named with 1 to 100 letters, digits, `_`, `-` and `.`".to_owned()
            } else if kept.iter().any(|(known, _)| *known == name) {
                "is given twice".to_owned()
            } else if !(1..=SECRET_BYTES_MAX).contains(&length) {
                format!("has {length} bytes; a value has 1 to {SECRET_BYTES_MAX}")
            } else {
                kept.push((name, value));
                continue;
            };
            return Err(BadSecret { name: name.chars().take(100).collect(), problem });
        }
        Ok(Self { secrets: kept, ..Self::empty() }.looking())
    }

    /// Takes secrets that agents may use as well. They are no keys of providers.
    ///
    /// # Errors
    /// [`BadSecret`] when a name is given twice.
    pub fn with_bound(self, bound: Vec<SecretRule>) -> Result<Self, BadSecret> {
        let names: Vec<&str> = self.names().chain(bound.iter().map(|rule| rule.name.as_str())).collect();
        if let Some((at, name)) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
            return Err(BadSecret { name: (*name).to_owned(), problem: format!("is given twice, the second time as number {}", at + 1) });
        }
        Ok(Self { bound, ..self }.looking())
    }

    /// Knows the tokens of these grants of the vault at `places`, by the names of secrets that agents may use, and renews them when they are used.
    #[must_use]
    pub fn with_renewed(self, places: &Places, grants: Vec<(String, OAuth)>) -> Self {
        Self { renewals: Arc::new(Renewals::new(places, grants)), ..self }.looking()
    }

    fn looking(self) -> Self {
        self.look();
        self
    }

    /// Looks for what there is now.
    pub(crate) fn look(&self) {
        self.finder.look(|| finder(&self.secrets, &self.bound, &self.renewals));
    }

    /// The secrets that are renewed.
    pub(crate) fn renewals(&self) -> &Arc<Renewals> {
        &self.renewals
    }

    /// Holds no secret: it takes out only what is a credential by its form.
    pub fn empty() -> Self {
        Self {
            secrets: Vec::new(),
            bound: Vec::new(),
            renewals: Arc::default(),
            finder: Arc::new(Values::new(Secrets::new([]))),
            digest: RandomState::new(),
        }
    }

    /// Returns the names of providers' keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.secrets.iter().map(|(name, _)| name.as_str())
    }

    /// Returns all names, for reports.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.keys().chain(self.bound.iter().map(|rule| rule.name.as_str()))
    }

    /// Returns the key of a provider, for injection.
    pub(crate) fn get(&self, name: &str) -> Option<&SecretString> {
        self.secrets.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Returns the bytes with the values of the vault replaced, and nothing that only looks like a credential; `None` when there was none.
    pub(crate) fn redact_known_bytes(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.redacted(bytes, false)
    }

    /// Returns how many bytes at the beginning are whole although more is to come: none that begins a value of the vault is among them.
    pub(crate) fn settled_known(&self, bytes: &[u8]) -> usize {
        self.finder.now().settled(bytes)
    }

    /// The secrets as an agent of this role may use them: keys of providers, and what is for other roles, may go nowhere, neither they nor
    /// what stands for them.
    pub fn rules(&self, role: Option<&str>) -> SecretsFile {
        let keys = self.secrets.iter().map(|(name, value)| SecretRule::nowhere(name, value.clone()));
        let bound =
            self.bound.iter().map(|rule| if rule.is_for(role) { rule.clone() } else { SecretRule { hosts: Vec::new(), ..rule.clone() } });
        SecretsFile { secrets: keys.chain(bound).collect() }
    }

    /// What finds the values of all of [`Self::rules`]; every door looks with this one.
    pub(crate) fn finder(&self) -> Arc<Values> {
        self.finder.clone()
    }

    /// The secrets that an agent of this role may use and that policy leaves to it, and the canaries, which have no hosts.
    pub fn usable(&self, role: Option<&str>, policy: &AgentPolicy) -> Vec<UsableSecret> {
        let left = |rule: &&SecretRule| policy.may_use_secret(&rule.name).allowed;
        let usable = self.bound.iter().filter(|rule| rule.is_for(role) && (rule.canary || !rule.hosts.is_empty())).filter(left);
        let seen = |rule: &SecretRule| UsableSecret {
            name: rule.name.clone(),
            hosts: rule.hosts.iter().map(ToString::to_string).collect(),
            placeholder: rule.placeholder.clone(),
            env: rule.env.clone(),
            canary: rule.canary,
        };
        usable.map(seen).collect()
    }

    /// What is taken out, in order, with what is put in its place. Where a known value and a credential by its form meet, both go, with the
    /// value's name.
    fn found(&self, bytes: &[u8], shapes: bool) -> Vec<(Range<usize>, String)> {
        let finder = self.finder.now();
        let hits = finder.find_packed(bytes);
        let known = hits.iter().map(|hit| (hit.start..hit.end, true, format!("[secret {}]", finder.name(hit.owner))));
        let spans = if shapes { Shapes::get().scan(bytes) } else { Vec::new() };
        let formed = spans.iter().filter(|span| span.verdict >= Verdict::Redact);
        let formed = formed.map(|span| (span.start..span.end, false, format!("[redacted {}]", span.rule)));
        let mut all: Vec<_> = known.chain(formed).collect();
        all.sort_by_key(|(range, ..)| (range.start, std::cmp::Reverse(range.end)));
        let mut found: Vec<(Range<usize>, bool, String)> = Vec::new();
        for (range, is_known, text) in all {
            match found.last_mut() {
                Some((last, last_known, last_text)) if range.start < last.end => {
                    last.end = last.end.max(range.end);
                    if is_known && !*last_known {
                        (*last_known, *last_text) = (true, text);
                    }
                }
                _ => found.push((range, is_known, text)),
            }
        }
        found.into_iter().map(|(range, _, text)| (range, text)).collect()
    }

    fn redacted(&self, bytes: &[u8], shapes: bool) -> Option<Vec<u8>> {
        let found = self.found(bytes, shapes);
        let mut out = Vec::new();
        let mut done = 0;
        for (range, text) in &found {
            out.extend_from_slice(&bytes[done..range.start]);
            out.extend_from_slice(text.as_bytes());
            done = range.end;
        }
        out.extend_from_slice(&bytes[done..]);
        (!found.is_empty()).then_some(out)
    }
}

impl Redactor for Vault {
    fn redact_text(&self, text: &str) -> Option<String> {
        let redacted = self.redacted(text.as_bytes(), true)?;
        // Spans and patterns are whole text, so what is left is too.
        Some(String::from_utf8_lossy(&redacted).into_owned())
    }

    fn redact_known(&self, text: &str) -> Option<String> {
        let redacted = self.redacted(text.as_bytes(), false)?;
        Some(String::from_utf8_lossy(&redacted).into_owned())
    }

    fn redact_bytes(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.redacted(bytes, true)
    }

    fn leaks(&self, bytes: &[u8]) -> Vec<Leak> {
        let finder = self.finder.now();
        let layers = finder.find_deep(bytes);
        let known = layers.hits.iter().map(|hit| Leak { rule: format!("secret.{}", finder.name(hit.owner)), known: true, what: 0 });
        // What is packed too large to be looked into may hold anything.
        let unread = layers.unread.then(|| Leak { rule: "leak.unread".to_owned(), known: false, what: self.digest.hash_one(bytes) });
        let spans = Shapes::get().scan(bytes);
        let formed = spans.iter().filter(|span| span.verdict == Verdict::Block).map(|span| {
            let what = self.digest.hash_one(&bytes[span.start..span.end]);
            Leak { rule: format!("leak.{}", span.rule), known: false, what }
        });
        known.chain(unread).chain(formed).collect()
    }

    /// A value or a credential may begin in the text and go on behind it.
    fn settled(&self, text: &str) -> usize {
        text.floor_char_boundary(self.finder.now().settled(text.as_bytes()).min(Shapes::get().settled(text.as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use aedile_core::policy::{LayerName, Policies, PolicyText, Who};

    use super::*;

    const KEY: &str = "sk-ant-\"q\"/+\u{e9}~0123456789abcdef";

    fn vault() -> Vault {
        Vault::new([
            ("ANTHROPIC_API_KEY".to_owned(), SecretString::from(format!("  {KEY}\n"))),
            ("OTHER".to_owned(), "hunter2-hunter2".into()),
        ])
        .unwrap()
    }

    #[test]
    fn every_form_is_replaced_and_the_rest_stays() {
        let vault = vault();
        let json = serde_json::to_string(KEY).unwrap();
        let upper_hex: String = KEY.bytes().map(|byte| format!("{byte:02X}")).collect();
        for form in [KEY.to_owned(), json.trim_matches('"').to_owned(), upper_hex.to_lowercase(), upper_hex] {
            assert_eq!(vault.redact_text(&format!("a {form} b hunter2-hunter2")).unwrap(), "a [secret ANTHROPIC_API_KEY] b [secret OTHER]");
        }
        assert_eq!(
            vault.redact_text("https://x/?k=sk-ant-%22q%22%2F%2B%C3%A9~0123456789abcdef&b").unwrap(),
            "https://x/?k=[secret ANTHROPIC_API_KEY]&b"
        );
        assert_eq!(vault.redact_text("hunter2 is not enough"), None);
        assert_eq!(vault.redact_bytes(b"\xff\0hunter2-hunter2\xfe").unwrap(), b"\xff\0[secret OTHER]\xfe");
    }

    #[test]
    fn bound_secrets_are_for_their_roles_and_known_like_keys() {
        let file = "[[secret]]\nname = \"forge\"\nvalue = \"forge-value-0123\"\nhost = \"forge.example.org\"\nrole = \"builder\"\nenv = \"FORGE_TOKEN\"";
        let bound = SecretsFile::parse(file).unwrap().secrets;
        let vault = vault().with_bound(bound.clone()).unwrap();
        assert_eq!(vault.redact_text("x forge-value-0123 y").unwrap(), "x [secret forge] y");
        let hosts = |role| vault.rules(role).secrets.iter().map(|rule| rule.hosts.len()).collect::<Vec<_>>();
        assert_eq!((hosts(Some("builder")), hosts(Some("reviewer")), hosts(None)), (vec![0, 0, 1], vec![0, 0, 0], vec![0, 0, 0]));
        assert_eq!(
            UsableSecret::variables(&vault.usable(Some("builder"), &AgentPolicy::default())),
            [("FORGE_TOKEN".to_owned(), "aedile-secret-forge".to_owned())]
        );
        let said = PolicyText { layer: LayerName::User, place: "p".into(), text: "[secrets]\ndeny = [\"forge\"]".into() };
        let denied = Policies::parse(&[said]).unwrap().of(Who { role: "builder", agent: "ada", task: "one" });
        assert!(vault.usable(Some("builder"), &denied).is_empty());
        let left =
            |policy| vault.rules(Some("builder")).left_by(policy).secrets.iter().find(|rule| rule.name == "forge").unwrap().hosts.len();
        assert_eq!((left(&AgentPolicy::default()), left(&denied)), (1, 0));
        assert!(vault.usable(Some("reviewer"), &AgentPolicy::default()).is_empty() && vault.get("forge").is_none());
        assert_eq!(vault.with_bound(bound.iter().chain(&bound).cloned().collect()).unwrap_err().name, "forge");
    }

    #[test]
    fn a_secret_in_pieces_is_found_whatever_the_cut() {
        let vault = vault();
        let text = format!("sk-an, s {KEY}sk-{KEY}: hunter2-hunter2-hunter2-hunter2 sk-ant-\u{e9}");
        let clean = "sk-an, s [secret ANTHROPIC_API_KEY]sk-[secret ANTHROPIC_API_KEY]: [secret OTHER]-[secret OTHER] sk-ant-\u{e9}";
        for size in 1..=text.chars().count() {
            let mut pieces = aedile_core::redact::Pieces::default();
            let chars: Vec<char> = text.chars().collect();
            let mut shown: String = chars.chunks(size).map(|piece| pieces.add(&vault, &piece.iter().collect::<String>())).collect();
            shown += &pieces.end(&vault);
            assert_eq!(shown, clean, "pieces of {size}");
        }
        assert_eq!(vault.settled("nothing of it here."), 19, "ordinary text is not held back");
        let two = Vault::new([
            ("A".to_owned(), "12345678".into()),
            ("B".to_owned(), "12345678-long".into()),
            ("C".to_owned(), "78-other".into()),
        ]);
        let two = two.unwrap();
        for (text, settled) in [("x 12345678", 2), ("x 12345678-", 2), ("x 12345678-l", 2), ("x 12345678-o", 2), ("x 12345678-o ", 13)] {
            assert_eq!(two.settled(text), settled, "{text}");
        }
    }

    #[test]
    fn credentials_by_their_form_go_too_and_once_is_enough() {
        let vault = vault();
        let token = ["glpat", "-q8Zt2LmP0vRx7KdWb3Nc"].concat();
        let text = format!("a {token}, password: \"Zx8!kLm2Qr\", {KEY} b");
        let clean = "a [redacted gitlab-pat], password: \"[redacted generic-password]\", [secret ANTHROPIC_API_KEY] b";
        assert_eq!(vault.redact_text(&text).as_deref(), Some(clean));
        assert_eq!(vault.redact_text(clean), None);
        assert_eq!(vault.redact_known(&text).unwrap(), text.replace(KEY, "[secret ANTHROPIC_API_KEY]"));
        // Both meet: the known name is told.
        let url = "postgres://app:hunter2-hunter2-Zx8kLm2Qr@db.internal/app";
        assert_eq!(vault.redact_text(url).unwrap(), "postgres://app:[secret OTHER]@db.internal/app");
        for size in 1..30 {
            let mut pieces = aedile_core::redact::Pieces::default();
            let chars: Vec<char> = text.chars().collect();
            let mut shown: String = chars.chunks(size).map(|piece| pieces.add(&vault, &piece.iter().collect::<String>())).collect();
            shown += &pieces.end(&vault);
            assert_eq!(shown, clean, "pieces of {size}");
        }
    }

    #[test]
    fn base64_is_found_at_every_alignment() {
        let vault = vault();
        for before in ["", "u", "us", "use", "user:"] {
            for after in ["", "x", "xy", "xyz"] {
                for url_safe in [false, true] {
                    let text = base64(format!("{before}{KEY}{after}").as_bytes(), url_safe);
                    let clean = vault.redact_text(&text).unwrap_or_else(|| panic!("{before:?} {after:?} {url_safe}"));
                    assert!(clean.contains("[secret ANTHROPIC_API_KEY]") && clean.len() < 40, "{clean}");
                }
            }
        }
    }

    fn base64(bytes: &[u8], url_safe: bool) -> String {
        let alphabet: &[u8] = if url_safe {
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        } else {
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        };
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for sextet in 0..=chunk.len() {
                text.push(char::from(alphabet[(word >> (18 - 6 * sextet)) as usize & 63]));
            }
        }
        text
    }

    #[test]
    fn bad_secrets_are_refused_without_their_value() {
        let refused = |name: &str, value: &str| Vault::new([(name.to_owned(), SecretString::from(value))]).unwrap_err().to_string();
        assert_eq!(refused("K", " "), "the secret K has 0 bytes; a value has 1 to 65536");
        assert!(refused("a b", "0123456789").contains("must be named"));
        assert!(!format!("{:?}", vault()).contains("sk-ant"));
        let short = Vault::new([("LOCAL".to_owned(), "ollama".into())]).unwrap();
        assert_eq!((short.redact_text("ollama"), short.get("LOCAL").is_some()), (None, true));
        assert_eq!(Vault::new([]).unwrap().redact_text("x"), None);
    }
}
