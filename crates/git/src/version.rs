//! Which gits are good enough.

use std::fmt;

/// A version of git, for example 2.47.3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct GitVersion {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// The third number.
    pub patch: u32,
}

/// Releases of older lines that carry the fixes of 2.45.1.
const OLDER_LINES: [(u32, u32); 6] = [(44, 1), (43, 4), (42, 2), (41, 1), (40, 2), (39, 4)];

impl GitVersion {
    /// Reads what `git version` prints, for example `git version 2.39.5 (Apple Git-154)`.
    pub fn parse(text: &str) -> Option<Self> {
        let word = text.trim().strip_prefix("git version ")?.split_whitespace().next()?;
        let mut numbers = word.split('.').map(|part| part.split(|c: char| !c.is_ascii_digit()).next().unwrap_or("").parse::<u32>());
        let mut next = || numbers.next().and_then(Result::ok);
        Some(Self { major: next()?, minor: next()?, patch: next().unwrap_or(0) })
    }

    /// Whether this version is 2.45.1 or newer, or an older line with the same security fixes.
    pub fn is_safe(self) -> bool {
        let old = OLDER_LINES.iter().any(|&(minor, patch)| self.major == 2 && self.minor == minor && self.patch >= patch);
        old || self >= Self { major: 2, minor: 45, patch: 1 }
    }
}

impl fmt::Display for GitVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_with_the_fixes_are_safe() {
        for good in [
            "2.45.1",
            "2.45.2",
            "2.47.3",
            "3.0.0",
            "2.44.1",
            "2.43.4",
            "2.43.7",
            "2.42.2",
            "2.41.1",
            "2.40.2",
            "2.39.4",
            "2.39.5 (Apple Git-154)",
        ] {
            assert!(GitVersion::parse(&format!("git version {good}\n")).unwrap().is_safe(), "{good}");
        }
        for bad in ["2.45.0", "2.44.0", "2.43.3", "2.39.3", "2.38.9", "1.9.0", "2.45.0.windows.1", "2.45.rc1"] {
            assert!(!GitVersion::parse(&format!("git version {bad}")).unwrap().is_safe(), "{bad}");
        }
        assert_eq!(GitVersion::parse("not git"), None);
        assert_eq!(GitVersion::parse("git version 2.48.0-rc1").unwrap().to_string(), "2.48.0");
    }
}
