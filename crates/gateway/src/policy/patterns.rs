//! Patterns of hosts and paths. Nothing is compared as a mere beginning or end of a text: hosts by labels, paths by segments.

use std::net::IpAddr;

use super::target::Host;

/// A host of a rule: `api.example.org`, `*.example.org` (every subdomain, not the name itself), `192.0.2.7`, `[2001:db8::7]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// This name.
    Name(String),
    /// Every name below this one.
    Below(String),
    /// This address.
    Address(IpAddr),
}

impl HostPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it, without naming it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let inner = lower.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&lower);
        if let Ok(address) = inner.parse::<IpAddr>() {
            return Ok(Self::Address(address));
        }
        let (below, name) = lower.strip_prefix("*.").map_or((false, lower.as_str()), |rest| (true, rest));
        match Host::parse(name) {
            Ok(Host::Name(name)) if below && !name.contains('.') => {
                Err(format!("would mean all of {name}; name at least two labels behind `*.`"))
            }
            Ok(Host::Name(name)) if below => Ok(Self::Below(name)),
            Ok(Host::Name(name)) => Ok(Self::Name(name)),
            _ => Err("is no host; write api.example.org, *.example.org or an address, without a scheme, a port or a path".to_owned()),
        }
    }

    /// Whether the host is meant.
    pub fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Name(name), Host::Name(host)) => name == host,
            (Self::Below(name), Host::Name(host)) => {
                host.strip_suffix(name.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            (Self::Address(address), Host::Address(host)) => address == host,
            _ => false,
        }
    }

    /// Whether it names one host rather than many.
    pub(crate) fn is_exact(&self) -> bool {
        !matches!(self, Self::Below(_))
    }
}

/// A path of a rule: `/v1/models`, with `*` for anything within a segment and `/**` at its end for the path itself and everything below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    segments: Vec<String>,
    below: bool,
}

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it, without naming it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (path, below) = text.strip_suffix("/**").map_or((text, false), |path| (path, true));
        let plain = |byte: u8| (b'!'..=b'~').contains(&byte) && !matches!(byte, b'?' | b'#' | b'\\' | b'%');
        if !(text.starts_with('/') && path.bytes().all(plain)) {
            return Err("is no path; write /v1/models, /v1/*/files or /v1/**, without a query".to_owned());
        }
        if path.contains("**") {
            return Err("has `**` elsewhere than as its last segment".to_owned());
        }
        if path.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err("has a segment of dots".to_owned());
        }
        let segments = if path.is_empty() { Vec::new() } else { path[1..].split('/').map(str::to_owned).collect() };
        Ok(Self { segments, below })
    }

    /// Whether the path, read by [`super::Target`], is meant.
    pub fn matches(&self, path: &str) -> bool {
        let path: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
        let enough = if self.below { path.len() >= self.segments.len() } else { path.len() == self.segments.len() };
        enough && self.segments.iter().zip(&path).all(|(pattern, segment)| segment_matches(pattern, segment))
    }
}

fn segment_matches(pattern: &str, segment: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = segment.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.len() >= last.len() && rest.ends_with(last)
}
