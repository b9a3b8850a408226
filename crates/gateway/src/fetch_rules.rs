//! Which addresses on the web agents may read, and the one reading of a URL that everything after it uses.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::Url;

/// Where the setting stands.
const SETTING: &str = "`[fetch] hosts` in aedile.toml";
/// The longest URL.
const URL_BYTES_MAX: usize = 4096;

/// The hosts that agents may read from.
#[derive(Debug, Clone, Default)]
pub struct FetchRules {
    hosts: Vec<HostRule>,
    /// The list as it was given.
    names: Vec<String>,
    /// The time of a whole fetch, where it is not the usual one.
    timeout: Option<Duration>,
}

/// The time of a whole fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
struct HostRule {
    /// Lower case; the part behind `*` where every subdomain is meant.
    name: String,
    subdomains: bool,
    /// An address written as numbers, which may be a local one.
    literal: Option<IpAddr>,
    port: Option<u16>,
}

/// What may be read.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) url: Url,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The address, where the host is one that is listed as such.
    pub(crate) literal: Option<IpAddr>,
}

impl FetchRules {
    /// Takes the list: `docs.rs`, `*.python.org` (subdomains only), `example.com:8443`, `127.0.0.1:8080`, `[::1]:8080`.
    ///
    /// # Errors
    /// A sentence that names the entry.
    pub fn new(hosts: &[String]) -> Result<Self, String> {
        Ok(Self {
            hosts: hosts.iter().map(|host| HostRule::parse(host)).collect::<Result<_, _>>()?,
            names: hosts.to_owned(),
            timeout: None,
        })
    }

    /// Gives a whole fetch this long, instead of 30 seconds.
    #[must_use]
    pub fn within(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Returns how long a whole fetch may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(FETCH_TIMEOUT)
    }

    /// Returns the list as it was given.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Reads a URL and holds it against the list.
    ///
    /// # Errors
    /// A sentence for the agent that says what is wrong and which setting would allow it.
    pub(crate) fn target(&self, text: &str) -> Result<Target, String> {
        if self.hosts.is_empty() {
            return Err(format!(
                "no host may be read from: none is listed as {SETTING}. Go on without, or say what you need in your summary"
            ));
        }
        if text.len() > URL_BYTES_MAX || text.bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b'\\') {
            return Err(format!("the URL must be one word without spaces or backslashes and have at most {URL_BYTES_MAX} bytes"));
        }
        let written = text.split_once("://").map(|(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
        if written.is_some_and(|host| !host.is_ascii()) {
            return Err("the host must be written in its plain form, in ASCII (punycode where its name has other letters)".to_owned());
        }
        let url = Url::parse(text).map_err(|error| format!("the URL is not understood: {error}"))?;
        let (Some(written), Some(host), Some(port)) = (written, url.host_str(), url.port_or_known_default()) else {
            return Err("the URL must look like https://HOST/PATH".to_owned());
        };
        if written.contains('@') {
            return Err("the URL may not hold a user name or a password".to_owned());
        }
        let canonical = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let written = written.to_ascii_lowercase();
        // `127.1`, `0x7f.1`, `example.com:443` and names that are not ASCII are other spellings of something else.
        if written != canonical && Some(written.as_str()) != url.port_or_known_default().map(|port| format!("{host}:{port}")).as_deref() {
            return Err(format!("the host must be written in its plain form, {canonical:?}"));
        }
        let rule = self.hosts.iter().find(|rule| rule.allows(host, port)).ok_or_else(|| {
            format!("{canonical} may not be read from: it is not listed as {SETTING}. Go on without, or say what you need in your summary")
        })?;
        match url.scheme() {
            "https" => {}
            "http" if rule.literal.is_some() => {}
            "http" => return Err(format!("{host} is read only by https; plain http is for listed addresses of this machine")),
            other => return Err(format!("only https is read, not {other}")),
        }
        Ok(Target { host: host.to_owned(), port, literal: rule.literal, url })
    }
}

impl HostRule {
    fn parse(text: &str) -> Result<Self, String> {
        let bad = |problem: &str| format!("the host {text:?} of {SETTING} {problem}");
        let name = text.to_ascii_lowercase();
        let (name, port) = match name.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(|| bad("has a port that is not a number"))?;
                (host.to_owned(), Some(port))
            }
            _ => (name, None),
        };
        let (subdomains, name) = match name.strip_prefix("*.") {
            Some(rest) => (true, rest.to_owned()),
            None => (false, name),
        };
        let literal = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        let name = match literal {
            Some(IpAddr::V6(address)) => format!("[{address}]"),
            _ => name,
        };
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if literal.is_some() {
            return if subdomains {
                Err(bad("is an address, which has no subdomains"))
            } else {
                Ok(Self { name, subdomains, literal, port })
            };
        }
        if !name.split('.').all(label) {
            return Err(bad("is not a host name; write docs.rs, *.python.org or 127.0.0.1:8080, without a scheme or a path"));
        }
        if subdomains && !name.contains('.') {
            return Err(bad("would mean a whole top-level domain; name at least two labels behind `*.`"));
        }
        if name.split('.').next_back().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x")) {
            return Err(bad("looks like an address but is not one in its plain form"));
        }
        Ok(Self { name, subdomains, literal, port })
    }

    fn allows(&self, host: &str, port: u16) -> bool {
        let named = if self.subdomains {
            host.strip_suffix(&self.name).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            host == self.name
        };
        let port_fits = match (self.port, self.literal) {
            (Some(wanted), _) => port == wanted,
            (None, Some(_)) => port == 443 || port == 80,
            (None, None) => port == 443,
        };
        named && port_fits
    }
}

#[cfg(test)]
mod tests {
    use super::FetchRules;

    fn rules(hosts: &[&str]) -> Result<FetchRules, String> {
        FetchRules::new(&hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn only_listed_hosts_in_their_plain_form_are_read() {
        let rules = rules(&["docs.rs", "*.python.org", "example.com:8443", "127.0.0.1:8080", "[::1]"]).unwrap();
        for url in [
            "https://docs.rs/x?y#z",
            "https://DOCS.rs",
            "https://docs.rs:443/",
            "https://docs.python.org/3/",
            "https://a.b.python.org",
            "https://example.com:8443/",
            "http://127.0.0.1:8080/x",
            "http://[::1]/",
        ] {
            assert!(rules.target(url).is_ok(), "{url}: {:?}", rules.target(url).err());
        }
        for (url, part) in [
            ("https://docs.rs.evil.example/", "is not listed as `[fetch] hosts`"),
            ("https://xdocs.rs/", "not listed"),
            ("https://python.org/", "not listed"),
            ("https://evilpython.org/", "not listed"),
            ("https://.python.org/", "not listed"),
            ("https://docs.rs./", "not listed"),
            ("https://docs.rs:444/", "not listed"),
            ("https://example.com/", "not listed"),
            ("https://docs.rs@evil.example/", "user name"),
            ("https://user:pw@docs.rs/", "user name"),
            ("http://docs.rs/", "not listed"),
            ("http://docs.rs:443/", "only by https"),
            ("ftp://docs.rs/", "not listed"),
            ("file:///etc/passwd", "must look like"),
            ("data:text/plain,x", "must look like"),
            ("http://127.1:8080/", "plain form"),
            ("http://0x7f000001:8080/", "plain form"),
            ("http://2130706433:8080/", "plain form"),
            ("http://127.0.0.1:8081/", "not listed"),
            ("http://[0:0:0:0:0:0:0:1]/", "plain form"),
            ("https://d\u{f6}cs.rs/", "plain form"),
            ("https://docs.rs\\@evil.example/", "backslashes"),
            ("https://docs.rs/a b", "spaces"),
            ("https://docs.rs/\u{0}", "spaces"),
            ("docs.rs", "not understood"),
        ] {
            let refused = rules.target(url).unwrap_err();
            assert!(refused.contains(part), "{url}: {refused}");
        }
        assert!(FetchRules::default().target("https://docs.rs/").unwrap_err().contains("none is listed as `[fetch] hosts`"));
    }

    #[test]
    fn a_host_that_cannot_be_meant_is_refused() {
        for host in [
            "",
            "https://docs.rs",
            "docs.rs/x",
            "*",
            "*.rs",
            "a..b",
            "*.127.0.0.1",
            "127.1",
            "0x7f.1",
            "docs.rs:x",
            "docs.rs:0",
            "-a.b",
            "b\u{f6}.de",
            "a.*.b",
        ] {
            assert!(rules(&[host]).is_err(), "{host}");
        }
    }
}
