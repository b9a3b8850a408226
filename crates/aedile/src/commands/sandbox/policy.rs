//! The policy file of `aedile sandbox exec --policy`: limits, what may be written, what is not seen, what is reached through the door.

use std::path::Path;
use std::time::Duration;

use aedile_core::policy::{LayerName, PolicyText};
use aedile_core::sandbox::BoxLimits;
use aedile_core::scope::Scope;
use aedile_gateway::policy;
use serde::Deserialize;

use crate::error::CliError;

/// A policy is a page of text; what is larger is none.
const BYTES_MAX: u64 = 1024 * 1024;

/// The whole file. Unknown keys are errors: a rule that is misspelt would hold nothing.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Limits of the box.
    pub limits: Limits,
    /// What may be written.
    pub write: Write,
    /// What is seen.
    pub read: Read,
    /// What may be asked of which host; the gateway reads it once more and checks it.
    network: Vec<toml::Value>,
    /// The file, when it has `[[network]]` rules.
    #[serde(skip)]
    pub reach: Option<PolicyText>,
}

/// `[limits]`; a limit on the command line counts where it is the lower one.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Bytes of memory of the whole box.
    pub memory_bytes: Option<u64>,
    /// Bytes of one file.
    pub file_bytes: Option<u64>,
    /// Open descriptors of one process.
    pub descriptors: Option<u64>,
    /// Bytes written to disks by the whole box.
    pub disk_bytes: Option<u64>,
    /// Processor seconds of the whole box.
    pub cpu_s: Option<u64>,
    /// Seconds until the box is ended.
    pub time_s: Option<u64>,
}

/// `[write]`.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Write {
    /// Globs relative to DIR, as with --write; all of DIR when absent.
    pub allow: Option<Vec<String>>,
}

/// `[read]`.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Read {
    /// Globs of further files that are empty in the box.
    pub hide: Vec<String>,
    /// Globs of files that are shown although they have the name of a file for secrets.
    pub show: Vec<String>,
}

/// The least memory in which a program starts.
const MEMORY_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// Defaults of `sandbox exec`.
const PROCESSES: u64 = 512;
const MEMORY_BYTES: u64 = 2 * 1024 * 1024 * 1024;
const FILE_BYTES: u64 = 2 * 1024 * 1024 * 1024;
const DESCRIPTORS: u64 = 4096;

impl Policy {
    /// Reads and checks the file.
    pub fn read(path: &Path) -> Result<Self, CliError> {
        let failed = |problem: String| CliError::config(format!("the policy {}: {problem}", path.display()));
        let meta = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?;
        if !meta.is_file() || meta.len() > BYTES_MAX {
            return Err(failed(format!("is no file of at most {BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let mut policy: Self = toml::from_str(&text).map_err(|error| {
            failed(error.to_string()).hint("it may have [limits] processes, memory_bytes, file_bytes, descriptors, disk_bytes, cpu_s and time_s, [write] allow, [read] hide and show, and [[network]] rules (docs/policy.md)")
        })?;
        if policy == Self::default() {
            return Err(
                failed("says nothing".to_owned()).hint("leave --policy out, or write a [limits], [write], [read] or [[network]] section")
            );
        }
        for globs in [policy.write.allow.as_deref().unwrap_or_default(), &policy.read.hide, &policy.read.show] {
            Scope::new(globs).map_err(|bad| failed(format!("glob {:?} {}", bad.glob, bad.problem)))?;
        }
        if policy.write.allow.as_ref().is_some_and(Vec::is_empty) {
            return Err(
                failed("[write] allow is empty".to_owned()).hint("name what may be written; to keep nothing of it, use --cow --discard")
            );
        }
        if !policy.network.is_empty() {
            policy::Policy::parse(&text).map_err(|bad| failed(bad.to_string()))?;
            policy.reach = Some(PolicyText { layer: LayerName::Run, place: path.display().to_string(), text });
        }
        Ok(policy)
    }

    /// The limits of the box: of the policy and the command line the lower one, else the default.
    pub fn limits(&self, flags: &BoxLimits) -> Result<BoxLimits, CliError> {
        let lower = |policy: Option<u64>, flag: Option<u64>| policy.into_iter().chain(flag).min();
        let seconds = |policy: Option<u64>, flag: Option<Duration>| policy.map(Duration::from_secs).into_iter().chain(flag).min();
        let limits = BoxLimits {
            processes: lower(self.limits.processes, flags.processes).or(Some(PROCESSES)),
            memory_bytes: lower(self.limits.memory_bytes, flags.memory_bytes).or(Some(MEMORY_BYTES)),
            file_bytes: lower(self.limits.file_bytes, flags.file_bytes).or(Some(FILE_BYTES)),
            descriptors: lower(self.limits.descriptors, flags.descriptors).or(Some(DESCRIPTORS)),
            disk_bytes: lower(self.limits.disk_bytes, flags.disk_bytes),
            cpu: seconds(self.limits.cpu_s, flags.cpu),
            wall: seconds(self.limits.time_s, flags.wall),
        };
        let least = |name: &str, value: Option<u64>, least: u64| match value {
            Some(value) if value < least => {
                Err(CliError::usage(format!("a limit of {value} {name} is too low: no command starts with less than {least}")))
            }
            _ => Ok(()),
        };
        least("bytes of memory", limits.memory_bytes, MEMORY_BYTES_MIN)?;
        least("processes", limits.processes, 1)?;
        least("descriptors", limits.descriptors, 16)?;
        least("seconds", limits.wall.map(|wall| wall.as_secs()), 1)?;
        least("processor seconds", limits.cpu.map(|cpu| cpu.as_secs()), 1)?;
        Ok(limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Policy, CliError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("p"), text).unwrap();
        Policy::read(&dir.path().join("p"))
    }

    #[test]
    fn limits_of_policy_and_command_line_narrow_each_other() {
        let policy = read("[limits]\nprocesses = 9\nmemory_bytes = 100000000\ncpu_s = 7\ndisk_bytes = 5").unwrap();
        let flags =
            BoxLimits { processes: Some(20), memory_bytes: Some(50_000_000), wall: Some(Duration::from_secs(3)), ..BoxLimits::default() };
        let limits = policy.limits(&flags).unwrap();
        assert_eq!((limits.processes, limits.memory_bytes, limits.disk_bytes), (Some(9), Some(50_000_000), Some(5)));
        assert_eq!((limits.cpu, limits.wall), (Some(Duration::from_secs(7)), Some(Duration::from_secs(3))));
        let plain = Policy::default().limits(&BoxLimits::default()).unwrap();
        assert_eq!(
            (plain.processes, plain.memory_bytes, plain.file_bytes, plain.descriptors),
            (Some(512), Some(2 << 30), Some(2 << 30), Some(4096))
        );
        assert_eq!((plain.wall, plain.cpu, plain.disk_bytes), (None, None, None));
    }

    #[test]
    fn bad_policies_are_named() {
        let many = format!("[read]\nhide = [{}]", "\"x\",".repeat(400_000));
        for (text, part) in [
            ("", "says nothing"),
            ("[limits]\nmemory = 1", "memory"),
            ("[limit]\nprocesses = 1", "limit"),
            ("[limits]\nprocesses = -1", "-1"),
            ("[write]\nallow = []", "empty"),
            ("[write]\nallow = [\"../x\"]", "../x"),
            ("[read]\nhide = [\"[z\"]", "[z"),
            ("[[network]]\nid = \"a\"\nhost = \"example.org\"\nverb = \"GET\"", "verb"),
            ("[[network]]\nid = \"a\"", "hosts"),
            ("x", "policy"),
            (&many, "bytes"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.message.contains(part) && error.code == crate::exit::CONFIG, "{part}: {}", error.message);
        }
        let none = Policy::default().limits(&BoxLimits { memory_bytes: Some(1), ..BoxLimits::default() });
        assert!(none.unwrap_err().message.contains("bytes of memory"));
    }
}
