//! A grant of OAuth 2.0: a refresh token, and the access token that was got for it last.

use std::time::Duration;

use aedile_core::{ExposeSecret, SecretString, Timestamp};

use crate::policy::{Target, closed};

/// An access token is used until so long before its end.
const MARGIN: Duration = Duration::from_secs(60);
/// What a server says nothing of lasts so long.
const LIFE_UNSAID: Duration = Duration::from_secs(300);
/// No longer end is believed.
const LIFE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Tokens of earlier times that are still known, the newest ones.
const RETIRED_MAX: usize = 16;
/// The longest token, client secret and scope, in bytes.
pub(crate) const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Parts of a sealed grant before the retired tokens.
const PARTS: usize = 9;

/// How a client with a secret says who it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// In the `Authorization` header (`client_secret_basic`).
    #[default]
    Basic,
    /// In the body (`client_secret_post`).
    Body,
}

/// What a server gave for a refresh token.
#[derive(Clone)]
pub struct AccessToken {
    /// The token.
    pub token: SecretString,
    /// When it was asked for.
    pub from: Timestamp,
    /// When it ends.
    pub until: Timestamp,
}

impl AccessToken {
    /// A token that was asked for at this time and lasts so long; absent: the server did not say.
    pub fn lasting(token: SecretString, from: Timestamp, life: Option<Duration>) -> Self {
        Self { token, from, until: from.plus(life.unwrap_or(LIFE_UNSAID).min(LIFE_MAX)) }
    }

    /// Whether it can be sent: it does not end within a minute, or within half of its life where that is shorter. Where the clock
    /// stands before the time at which it was asked for, its end means nothing.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        let margin = MARGIN.min(self.until.since(self.from) / 2);
        now.plus(MARGIN) >= self.from && now.plus(margin) < self.until
    }
}

/// A grant: what is asked where for access tokens.
#[derive(Clone)]
pub struct OAuth {
    /// The token endpoint, an https URL.
    pub url: String,
    /// The client's id, which is not secret.
    pub client_id: String,
    /// The client's secret, where it has one.
    pub client_secret: Option<SecretString>,
    /// How the client says its secret.
    pub client_auth: ClientAuth,
    /// The scope that is asked for; absent: that of the grant.
    pub scope: Option<String>,
    /// The refresh token.
    pub refresh_token: SecretString,
    /// What was got for it last.
    pub access: Option<AccessToken>,
    /// Tokens of earlier times, which are looked for like the present ones.
    pub retired: Vec<SecretString>,
}

impl OAuth {
    /// Whether the other one asks the same server with the same words, whatever was got for them.
    pub(crate) fn asks_as(&self, other: &Self) -> bool {
        self.url == other.url
            && self.client_id == other.client_id
            && self.client_auth == other.client_auth
            && self.scope == other.scope
            && self.refresh_token.expose_secret() == other.refresh_token.expose_secret()
            && self.client_secret.as_ref().map(ExposeSecret::expose_secret) == other.client_secret.as_ref().map(ExposeSecret::expose_secret)
    }

    /// The grant with another refresh token, and with what was got for it. What was there before is retired.
    #[must_use]
    pub fn renewed(&self, refresh_token: Option<SecretString>, access: Option<AccessToken>) -> Self {
        let mut next = self.clone();
        let mut retire = |token: SecretString| {
            if !next.retired.iter().any(|known| known.expose_secret() == token.expose_secret()) {
                next.retired.push(token);
            }
        };
        if let Some(before) = &self.access {
            retire(before.token.clone());
        }
        if let Some(new) = refresh_token.filter(|new| new.expose_secret() != self.refresh_token.expose_secret()) {
            retire(self.refresh_token.clone());
            next.refresh_token = new;
        }
        next.access = access;
        let old = next.retired.len().saturating_sub(RETIRED_MAX);
        next.retired.drain(..old);
        next
    }

    /// Everything of it that must be found wherever it stands.
    pub(crate) fn values(&self) -> impl Iterator<Item = &SecretString> {
        let access = self.access.as_ref().map(|access| &access.token);
        [Some(&self.refresh_token), access, self.client_secret.as_ref()].into_iter().flatten().chain(&self.retired)
    }

    /// The token endpoint, read the one way.
    ///
    /// # Errors
    /// What is wrong with it: no https, no URL, or one that no rule opens.
    pub(crate) fn endpoint(&self) -> Result<Target, String> {
        let target = Target::parse(&self.url).map_err(|refusal| format!("has a token endpoint that cannot be used: {}", refusal.why))?;
        if !target.secure {
            return Err("has a token endpoint without TLS: its URL must begin with https://".to_owned());
        }
        match closed(&target.host) {
            Some(refusal) => Err(format!("has a token endpoint that cannot be used: {}", refusal.why)),
            None => Ok(target),
        }
    }

    /// Whether it can be kept.
    pub(super) fn check(&self) -> Result<(), String> {
        self.endpoint()?;
        if self.url.contains('#') {
            return Err("has a token endpoint with a fragment (`#`): leave it out".to_owned());
        }
        let texts = [("client id", self.client_id.as_str()), ("scope", self.scope.as_deref().unwrap_or("-"))];
        let secrets = [("client secret", self.client_secret.as_ref()), ("refresh token", Some(&self.refresh_token))];
        let secrets = secrets.into_iter().filter_map(|(what, secret)| Some((what, secret?.expose_secret())));
        for (what, text) in texts.into_iter().chain(secrets) {
            check_text(text).map_err(|wrong| format!("has a {what} that {wrong}"))?;
        }
        Ok(())
    }

    /// Its parts as they are sealed.
    pub(super) fn parts(&self) -> Vec<SecretString> {
        let text = |text: &str| SecretString::from(text);
        let time = |time: Option<Timestamp>| SecretString::from(time.map_or_else(String::new, |time| time.0.to_string()));
        let access = self.access.as_ref();
        let mut parts = vec![
            text(&self.url),
            text(&self.client_id),
            text(if self.client_auth == ClientAuth::Body { "body" } else { "basic" }),
            self.client_secret.clone().unwrap_or_else(|| text("")),
            text(self.scope.as_deref().unwrap_or_default()),
            self.refresh_token.clone(),
            access.map_or_else(|| text(""), |access| access.token.clone()),
            time(access.map(|access| access.from)),
            time(access.map(|access| access.until)),
        ];
        parts.extend(self.retired.iter().cloned());
        parts
    }

    /// Reads what [`Self::parts`] wrote.
    pub(super) fn from_parts(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('\0').collect();
        let (&[url, client_id, auth, client_secret, scope, refresh_token, token, from, until], retired) =
            parts.split_first_chunk::<PARTS>()?;
        let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let time = |text: &str| text.parse().ok().map(Timestamp);
        let access = match said(token) {
            Some(_) => Some(AccessToken { token: token.into(), from: time(from)?, until: time(until)? }),
            None => None,
        };
        Some(Self {
            url: url.to_owned(),
            client_id: client_id.to_owned(),
            client_secret: (!client_secret.is_empty()).then(|| client_secret.into()),
            client_auth: if auth == "body" { ClientAuth::Body } else { ClientAuth::Basic },
            scope: said(scope),
            refresh_token: refresh_token.into(),
            access,
            retired: retired.iter().map(|token| SecretString::from(*token)).collect(),
        })
    }
}

/// Whether a text may be a token or stand with one: visible, of one line, not too long (RFC 6749, appendix A).
pub(crate) fn check_text(text: &str) -> Result<(), String> {
    match text.len() {
        0 => Err("is empty".to_owned()),
        length if length > TOKEN_BYTES_MAX => Err(format!("has {length} bytes; the most is {TOKEN_BYTES_MAX}")),
        _ if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) => Err("holds other characters than visible ones of ASCII".to_owned()),
        _ if text.trim() != text => Err("begins or ends with a space".to_owned()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> OAuth {
        OAuth {
            url: "https://auth.example.org/token".to_owned(),
            client_id: "me".to_owned(),
            client_secret: None,
            client_auth: ClientAuth::Body,
            scope: None,
            refresh_token: "refresh-0".into(),
            access: None,
            retired: Vec::new(),
        }
    }

    fn access(token: &str, from: i64, seconds: u64) -> AccessToken {
        AccessToken::lasting(token.into(), Timestamp(from * 1_000_000), Some(Duration::from_secs(seconds)))
    }

    #[test]
    fn a_token_is_fresh_until_a_minute_before_its_end() {
        let at = |seconds: i64| Timestamp(seconds * 1_000_000);
        let long = access("a", 1000, 3600);
        for (now, fresh) in [(1000, true), (4539, true), (4540, false), (4600, false), (941, true), (939, false)] {
            assert_eq!(long.is_fresh(at(now)), fresh, "{now}");
        }
        let short = access("a", 1000, 40);
        assert!(short.is_fresh(at(1019)) && !short.is_fresh(at(1020)));
        assert!(!access("a", 1000, 0).is_fresh(at(1000)));
        assert_eq!(AccessToken::lasting("a".into(), at(0), None).until, at(300));
        assert_eq!(access("a", 0, u64::MAX / 2).until, at(30 * 24 * 3600));
    }

    #[test]
    fn what_was_replaced_is_retired_and_the_oldest_forgotten() {
        let mut grant = grant();
        for at in 1..=20 {
            grant = grant.renewed(Some(format!("refresh-{at}").into()), Some(access(&format!("access-{at}"), 0, 1)));
        }
        let known: Vec<&str> = grant.values().map(ExposeSecret::expose_secret).collect();
        assert_eq!(known[..2], ["refresh-20", "access-20"]);
        assert_eq!((known.len(), known[17]), (18, "refresh-19"));
        let kept = grant.renewed(None, None);
        assert_eq!((kept.refresh_token.expose_secret(), kept.retired[15].expose_secret()), ("refresh-20", "access-20"));
    }

    #[test]
    fn a_grant_is_checked_whole() {
        assert!(grant().check().is_ok());
        type Change = fn(&mut OAuth);
        let cases: [(Change, &str); 8] = [
            (|grant| "http://auth.example.org/token".clone_into(&mut grant.url), "https://"),
            (|grant| "https://u:p@auth.example.org/token".clone_into(&mut grant.url), "user name"),
            (|grant| "https://auth.example.org/token#x".clone_into(&mut grant.url), "fragment"),
            (|grant| "https://169.254.169.254/token".clone_into(&mut grant.url), "credentials"),
            (|grant| "https://metadata.google.internal/token".clone_into(&mut grant.url), "credentials"),
            (|grant| grant.client_id.clear(), "client id that is empty"),
            (|grant| grant.refresh_token = "a\nb".into(), "visible"),
            (|grant| grant.client_secret = Some("x".repeat(20_000).into()), "20000 bytes"),
        ];
        for (change, part) in cases {
            let mut wrong = grant();
            change(&mut wrong);
            let said = wrong.check().unwrap_err();
            assert!(said.contains(part), "{said}");
        }
    }
}
