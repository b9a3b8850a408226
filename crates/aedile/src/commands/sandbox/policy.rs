//! The policy file of `aedile sandbox exec --policy`: limits, what may be written, what is not seen, what is reached through the door.

use std::path::Path;
use std::time::Duration;

use aedile_core::limits::BOX_MEMORY_BYTES_MIN;
use aedile_core::policy::{LayerName, Policies, PolicyText, Who};
use aedile_core::sandbox::BoxLimits;

use crate::error::CliError;
use crate::layers;

/// The command of a box, as rules see it.
pub const COMMAND: Who<'_> = Who { role: "command", agent: "exec", task: "exec" };

/// What the file says of the box of a command.
#[derive(Debug, Default)]
pub struct Policy {
    /// Limits; a limit on the command line counts where it is the lower one.
    limits: BoxLimits,
    /// Globs of what may be written, as with --write; all of DIR when absent.
    pub write: Option<Vec<String>>,
    /// Globs of further files that are empty in the box.
    pub hide: Vec<String>,
    /// Globs of files that are shown although they have the name of a file for secrets.
    pub show: Vec<String>,
    /// The file, when it has network rules.
    pub reach: Option<PolicyText>,
}

/// Defaults of `sandbox exec`.
const PROCESSES: u64 = 512;
const MEMORY_BYTES: u64 = 2 * 1024 * 1024 * 1024;
const FILE_BYTES: u64 = 2 * 1024 * 1024 * 1024;
const DESCRIPTORS: u64 = 4096;

impl Policy {
    /// Reads and checks the file.
    pub fn read(path: &Path) -> Result<Self, CliError> {
        let text = layers::file(path, LayerName::Run)?;
        let bad =
            |problem: &str| CliError::config(format!("the policy {}: {problem}", text.place)).hint("docs/policy.md describes the file");
        layers::check(std::slice::from_ref(&text))?;
        let policies = Policies::parse(std::slice::from_ref(&text)).map_err(|error| bad(&error.0))?;
        let policy = policies.of(COMMAND);
        if !policy.write_denied().is_empty() {
            return Err(bad("[write] deny is for the agents of a run").first_hint("name what the command may write with [write] allow"));
        }
        let mut write = policy.write_allowed();
        let allowed = write.next().map(|paths| paths.globs().to_owned());
        if write.next().is_some() {
            return Err(bad("two [write] allow sections mean the command").first_hint("leave one of them out"));
        }
        if allowed.as_ref().is_some_and(Vec::is_empty) {
            return Err(bad("[write] allow is empty").first_hint("name what may be written; to keep nothing of it, use --cow --discard"));
        }
        let network = policy.parts().iter().any(|(_, said)| !said.network.is_empty());
        let (limits, hide, show) = (policy.limits(), policy.hidden(), policy.shown());
        Ok(Self { limits, write: allowed, hide, show, reach: network.then_some(text) })
    }

    /// The limits of the box: of the policy and the command line the lower one, else the default.
    pub fn limits(&self, flags: &BoxLimits) -> Result<BoxLimits, CliError> {
        let lower = |policy: Option<u64>, flag: Option<u64>| policy.into_iter().chain(flag).min();
        let sooner = |policy: Option<Duration>, flag: Option<Duration>| policy.into_iter().chain(flag).min();
        let limits = BoxLimits {
            processes: lower(self.limits.processes, flags.processes).or(Some(PROCESSES)),
            memory_bytes: lower(self.limits.memory_bytes, flags.memory_bytes).or(Some(MEMORY_BYTES)),
            file_bytes: lower(self.limits.file_bytes, flags.file_bytes).or(Some(FILE_BYTES)),
            descriptors: lower(self.limits.descriptors, flags.descriptors).or(Some(DESCRIPTORS)),
            disk_bytes: lower(self.limits.disk_bytes, flags.disk_bytes),
            cpu: sooner(self.limits.cpu, flags.cpu),
            wall: sooner(self.limits.wall, flags.wall),
        };
        let least = |name: &str, value: Option<u64>, least: u64| match value {
            Some(value) if value < least => {
                Err(CliError::usage(format!("a limit of {value} {name} is too low: no command starts with less than {least}")))
            }
            _ => Ok(()),
        };
        least("bytes of memory", limits.memory_bytes, BOX_MEMORY_BYTES_MIN)?;
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
        let policy = read("[limits]\nprocesses = 9\nmemory_bytes = 100000000\ncpu_s = 7\ndisk_bytes = 5\n[[rule]]\nid = \"mine\"\nroles = [\"command\"]\n[rule.limits]\ndisk_bytes = 4").unwrap();
        let flags =
            BoxLimits { processes: Some(20), memory_bytes: Some(50_000_000), wall: Some(Duration::from_secs(3)), ..BoxLimits::default() };
        let limits = policy.limits(&flags).unwrap();
        assert_eq!((limits.processes, limits.memory_bytes, limits.disk_bytes), (Some(9), Some(50_000_000), Some(4)));
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
            ("[limits]\nprocesses = 0", "processes = 0"),
            ("[write]\ndeny = [\"a\"]", "[write] deny"),
            ("[write]\nallow = [\"a\"]\n[[rule]]\nid = \"x\"\nroles = [\"command\"]\n[rule.write]\nallow = [\"b\"]", "two [write] allow"),
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
