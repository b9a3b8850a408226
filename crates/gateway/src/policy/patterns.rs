//! Patterns of hosts and paths. Nothing is compared as a mere beginning or end of a text: hosts by labels, paths by segments.

use std::fmt;
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

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Address(address) => write!(f, "{}", Host::Address(*address)),
        }
    }
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

    /// Whether some host is meant by both.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        let below =
            |name: &String, above: &String| name.strip_suffix(above.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'));
        match (self, other) {
            (Self::Below(name), Self::Below(other)) => name == other || below(name, other) || below(other, name),
            (Self::Below(above), Self::Name(name)) | (Self::Name(name), Self::Below(above)) => below(name, above),
            (own, other) => own == other,
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

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.segments.iter().try_for_each(|segment| write!(f, "/{segment}"))?;
        f.write_str(if self.below { "/**" } else { "" })
    }
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

impl PathPattern {
    /// Whether the path is meant as it is written and as servers read it that take slashes in a row for one.
    pub(super) fn matches_every_reading(&self, path: &str) -> bool {
        self.matches(path) && (!path.contains("//") || self.matches(&merged(path)))
    }

    /// Whether the path is meant in one of the ways in which servers read it: slashes in a row or at the end as one or none, without what stands
    /// behind a `;` in a segment, in small letters.
    pub(super) fn matches_some_reading(&self, path: &str) -> bool {
        let bare = |text: &str| {
            let name = |segment: &str| segment.split(';').next().unwrap_or_default().to_ascii_lowercase();
            text.split('/').map(name).filter(|segment| !segment.is_empty()).collect::<Vec<_>>()
        };
        let loose = Self { segments: self.segments.iter().flat_map(|segment| bare(segment)).collect(), below: self.below };
        self.matches(path) || self.matches(&merged(path)) || loose.matches(&format!("/{}", bare(path).join("/")))
    }
}

/// The path with slashes in a row as one.
fn merged(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if !(c == '/' && out.ends_with('/')) {
            out.push(c);
        }
    }
    out
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

#[cfg(test)]
mod tests {
    use super::PathPattern;

    #[test]
    fn a_path_is_denied_in_each_reading_and_allowed_only_where_the_readings_agree() {
        let some = |pattern: &str, path: &str| PathPattern::parse(pattern).unwrap().matches_some_reading(path);
        let every = |pattern: &str, path: &str| PathPattern::parse(pattern).unwrap().matches_every_reading(path);
        for path in ["/admin", "/admin/", "/admin/x", "//admin/x", "/admin//x", "/Admin/x", "/admin;a=b/x", "/admin/x;y"] {
            assert!(some("/admin/**", path), "{path}");
        }
        for path in ["/", "/administrator", "/x/admin", "/adm/in"] {
            assert!(!some("/admin/**", path), "{path}");
        }
        assert!(some("/v1/*/secret", "/V1//a/Secret/") && !some("/v1/*/secret", "/v1/secret"));
        assert!(every("/v1/**", "/v1/a//b") && every("/v1/**", "/v1/a"));
        // Some servers read `/x/y`, which the rule does not mean.
        assert!(!every("/*/x/y", "//x/y") && !every("/v1/**", "//v1/x") && !every("/v1/**", "/V1/x"));
    }
}
