//! The one reading of a URL. What could be read in two ways is refused, not repaired; everything that is decided or dialled afterwards uses
//! the parts that are read here.

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Refusal;

/// The longest URL, in bytes.
const URL_BYTES_MAX: usize = 8192;
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// A host: a name in its plain form, or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// Small letters, digits and dashes.
    Name(String),
    /// An address in its plain form.
    Address(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// Where a request goes: the only parts that are used after it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `https` rather than `http`.
    pub secure: bool,
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
    /// The path, with dots resolved and what need not be encoded decoded.
    pub path: String,
    /// The query, as it was written.
    pub query: Option<String>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = if self.secure { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port != usual {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)?;
        self.query.as_ref().map_or(Ok(()), |query| write!(f, "?{query}"))
    }
}

impl Target {
    /// The host, with the port where it is not the usual one: what stands in a `Host` header.
    pub fn authority(&self) -> String {
        let usual = if self.secure { 443 } else { 80 };
        if self.port == usual { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }

    /// Reads a URL.
    ///
    /// # Errors
    /// [`Refusal`]: which part is not as it must be.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.len() > URL_BYTES_MAX {
            return Err(Refusal::new("url.length", format!("the URL is longer than {URL_BYTES_MAX} bytes")));
        }
        if text.contains('\\') {
            return Err(Refusal::new("url.backslash", "the URL holds a backslash, which some read as a slash"));
        }
        if !text.bytes().all(|byte| (b'!'..=b'~').contains(&byte)) {
            let why = "the URL holds a space, a control character or one that is not ASCII; encode it, and write names as `xn--...`";
            return Err(Refusal::new("url.characters", why));
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| Refusal::new("url.form", "the URL must look like https://HOST/PATH"))?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(Refusal::new("url.scheme", "only http and https go out")),
        };
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(Refusal::new("url.userinfo", "the URL holds a user name or a password before its host"));
        }
        let (host, port) = split_port(authority, if secure { 443 } else { 80 })?;
        let host = Host::parse(host)?;
        let rest = rest.split('#').next().unwrap_or_default();
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query.to_owned())));
        Ok(Self { secure, host, port, path: path_of(path)?, query })
    }
}

fn split_port(authority: &str, usual: u16) -> Result<(&str, u16), Refusal> {
    let bad = || Refusal::new("url.port", "the port must be a number from 1 to 65535 in its plain form");
    let behind_bracket = authority.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = authority[behind_bracket..].find(':').map(|at| at + behind_bracket) else { return Ok((authority, usual)) };
    let digits = &authority[colon + 1..];
    if digits.is_empty() || digits.starts_with('0') || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        // An address of IPv6 without brackets ends here, too.
        return Err(bad());
    }
    Ok((&authority[..colon], digits.parse().map_err(|_| bad())?))
}

impl Host {
    /// Reads a host as it stands in a URL.
    ///
    /// # Errors
    /// [`Refusal`]: what is not as it must be.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() {
            return Err(Refusal::new("host.empty", "the URL names no host"));
        }
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or_else(|| Refusal::new("host.address", "the address is not closed by `]`"))?;
            if inner.contains('%') {
                return Err(Refusal::new("host.zone", "an address with a zone belongs to a network at hand"));
            }
            let address: Ipv6Addr =
                inner.parse().map_err(|_| Refusal::new("host.address", "between the brackets stands no IPv6 address"))?;
            return Ok(Self::Address(IpAddr::V6(address)));
        }
        if text.contains('%') {
            return Err(Refusal::new("host.encoded", "the host is encoded; write it plainly"));
        }
        let name = text.to_ascii_lowercase();
        if name.ends_with('.') {
            return Err(Refusal::new("host.dot", "the host ends with a dot; write it without"));
        }
        if is_number(name.rsplit('.').next().unwrap_or_default()) {
            // `127.1`, `0x7f.1`, `017700000001`, `2130706433`: other ways to write an address.
            let address: Option<Ipv4Addr> = name.parse().ok();
            let why = "the host is a number; write an address as four numbers without zeros before them";
            return address.map(|address| Self::Address(IpAddr::V4(address))).ok_or_else(|| Refusal::new("host.numeric", why));
        }
        if name.len() > NAME_BYTES_MAX || !name.split('.').all(is_label) {
            let why = "the host is no name of labels of letters, digits and dashes; write other characters as `xn--...`";
            return Err(Refusal::new("host.name", why));
        }
        Ok(Self::Name(name))
    }
}

/// Whether the last label makes readers of numbers read the whole as one.
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hex || (!label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_label(label: &str) -> bool {
    let plain = (1..=LABEL_BYTES_MAX).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-');
    let dashes = label.get(2..4) == Some("--");
    plain && (!dashes || (label.starts_with("xn--") && is_encoded_name(label)))
}

/// Whether an `xn--` label reads as itself where the request is sent: the reader there decodes it (RFC 3492) and knows what is none.
fn is_encoded_name(label: &str) -> bool {
    reqwest::Url::parse(&format!("https://{label}/")).is_ok_and(|url| url.host_str() == Some(label))
}

/// Reads a path: what need not be encoded is decoded, dots are resolved, what others would read differently is refused.
fn path_of(text: &str) -> Result<String, Refusal> {
    let mut decoded = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c != '%' {
            decoded.push(c);
            rest = &rest[1..];
            continue;
        }
        let byte = rest.get(1..3).and_then(|digits| u8::from_str_radix(digits, 16).ok().filter(|_| !digits.contains('+')));
        let byte = byte.ok_or_else(|| Refusal::new("path.encoding", "a `%` in the path is not followed by two digits"))?;
        match byte {
            b'/' | b'\\' | b'.' | b'%' | b'?' | b'#' | b';' | 0..=0x1f | 0x7f => {
                let why = "the path holds an encoded slash, dot, percent or control sign, which some decode and some do not";
                return Err(Refusal::new("path.encoded", why));
            }
            byte if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') => decoded.push(char::from(byte)),
            // Writing to a String cannot fail.
            byte => drop(write!(decoded, "%{byte:02X}")),
        }
        rest = &rest[3..];
    }
    let mut segments: Vec<&str> = Vec::new();
    let all: Vec<&str> = decoded.strip_prefix('/').unwrap_or(&decoded).split('/').collect();
    for (at, segment) in all.iter().enumerate() {
        let last = at + 1 == all.len();
        match *segment {
            "." | ".." => {
                if *segment == ".." && segments.pop().is_none() {
                    return Err(Refusal::new("path.dots", "the path leads above its root"));
                }
                if last {
                    segments.push("");
                }
            }
            // `..;x` is `..` to some servers.
            segment if segment.split(';').next().is_some_and(|name| matches!(name, "." | "..")) => {
                return Err(Refusal::new("path.dots", "a segment of the path is dots with parameters"));
            }
            segment => segments.push(segment),
        }
    }
    Ok(format!("/{}", segments.join("/")))
}
