//! What the layers of policy say of the box of a command: limits, what may be written, what is not seen, what is reached through the door.

use std::path::Path;
use std::time::Duration;

use aedile_core::limits::BOX_MEMORY_BYTES_MIN;
use aedile_core::policy::{AgentPolicy, LayerName, Policies, PolicyText, Source, Who};
use aedile_core::protected;
use aedile_core::sandbox::{BoxLimits, WriteScope};

use crate::error::CliError;
use crate::layers;

/// The command of a box, as rules see it.
pub const COMMAND: Who<'_> = Who { role: "command", agent: "exec", task: "exec" };

/// What all layers say of the box of a command: those of the host, and the file of --policy.
#[derive(Debug, Default)]
pub struct Policy {
    texts: Vec<PolicyText>,
    /// What they say together.
    said: AgentPolicy,
    /// What the layers of the host say.
    host: AgentPolicy,
    /// Globs of the file of what may be written, as with --write.
    allowed: Option<Vec<String>>,
    /// Whether the file opens something in the network.
    reaches: bool,
}

/// Defaults of `sandbox exec`.
const PROCESSES: u64 = 512;
const MEMORY_BYTES: u64 = 2 * 1024 * 1024 * 1024;
const FILE_BYTES: u64 = 2 * 1024 * 1024 * 1024;
const DESCRIPTORS: u64 = 4096;

impl Policy {
    /// Reads and checks the layers of the host, and the file of --policy if there is one.
    ///
    /// # Errors
    /// One of them cannot be read or used; the error names it.
    pub fn read(path: Option<&Path>) -> Result<Self, CliError> {
        Self::of(layers::of_host()?, path.map(|path| layers::file(path, LayerName::Run)).transpose()?)
    }

    fn of(host: Vec<PolicyText>, file: Option<PolicyText>) -> Result<Self, CliError> {
        let parse = |texts: &[PolicyText]| {
            layers::check(texts)?;
            Ok::<_, CliError>(Policies::parse(texts).map_err(|error| CliError::config(error.0))?.of(COMMAND))
        };
        let mut policy = Self { host: parse(&host)?, texts: host, ..Self::default() };
        if let Some(text) = file {
            let own = parse(std::slice::from_ref(&text))?;
            policy.allowed = allowed(&own, &text.place)?;
            policy.reaches = own.parts().iter().any(|(_, said)| !said.network.is_empty());
            policy.texts.push(text);
        }
        policy.said = parse(&policy.texts)?;
        Ok(policy)
    }

    /// Globs of further files that are empty in the box.
    pub fn hide(&self) -> Vec<String> {
        self.said.hidden()
    }

    /// Globs of files that are shown although they have the name of a file for secrets.
    pub fn show(&self) -> Vec<String> {
        self.said.shown()
    }

    /// What all layers say of the command.
    pub fn said(&self) -> &AgentPolicy {
        &self.said
    }

    /// All layers, when the file has network rules; only then is the door a proxy. The host's narrow what the file opens and open nothing.
    pub fn reach(&self) -> Vec<PolicyText> {
        if self.reaches { self.texts.clone() } else { Vec::new() }
    }

    /// Whether the file has network rules.
    pub fn reaches(&self) -> bool {
        self.reaches
    }

    /// Names the file of a layer and the key in it.
    fn place(&self, source: &Source, key: &str) -> String {
        let text = self.texts.iter().find(|text| text.layer == source.layer);
        format!("the {} policy {} ({})", source.layer, text.map_or("", |text| text.place.as_str()), source.key(key))
    }

    /// What may be written in `dir`: what `flags` (--write) or the file name, or everything, as far as every layer allows it and none denies it.
    /// `copy` says that changes are held against it one by one at the end.
    ///
    /// # Errors
    /// What cannot be held; the error names the layer's file.
    pub fn scope(&self, flags: &[String], dir: &Path, copy: bool) -> Result<WriteScope, CliError> {
        let named = match (&self.allowed, flags) {
            (Some(_), [_, ..]) => {
                return Err(CliError::usage("both --write and [write] allow of the policy say what may be written; leave one of them out"));
            }
            (Some(allowed), []) => Some(allowed.clone()),
            (None, []) => None,
            (None, flags) => Some(flags.to_vec()),
        };
        let whole = ["**".to_owned()];
        let begin = named.as_deref().unwrap_or(&whole);
        let globs = self.host.narrowed_exactly(begin).map_err(|(glob, own, source)| {
            CliError::config(format!(
                "{glob:?} and {own:?} of {} allow some paths together, and no glob says which",
                self.place(source, "write.allow")
            ))
            .hint("name with --write only what the policy allows as a whole")
        })?;
        let denied = self.said.write_denied();
        if named.is_none() && denied.is_empty() && self.host.write_allowed().next().is_none() {
            return Ok(WriteScope::All);
        }
        // What a person names is approved by it; a layer of the host approves nothing.
        for glob in globs.iter().filter(|glob| !begin.contains(*glob)) {
            if let Some(name) = first_protected(glob, begin) {
                let text = format!(
                    "{glob:?} of a policy of this host leads to {name}, which is protected from commands unless you name it yourself"
                );
                return Err(CliError::config(text).hint("name with --write what the command may write"));
            }
        }
        if !copy {
            self.can_be_denied(dir)?;
        }
        Ok(if globs.is_empty() { WriteScope::Nothing } else { WriteScope::Globs { globs, also: Vec::new(), except: denied } })
    }

    /// While a command writes at once, what is denied is held by being there: nothing keeps what is not there from being made.
    fn can_be_denied(&self, dir: &Path) -> Result<(), CliError> {
        for (source, sections) in self.said.parts() {
            for glob in sections.write.deny.globs() {
                let plain = glob.strip_suffix("/**").unwrap_or(glob);
                let why = if plain.contains(['*', '?', '[', '{', '\\']) {
                    Some("is a pattern, and something new could come under it")
                } else {
                    // Each part by itself: what lies behind a link is not held by the link's name.
                    let on_the_way = Path::new(plain).ancestors().filter(|part| !part.as_os_str().is_empty());
                    let found: Option<Vec<_>> = on_the_way.map(|part| std::fs::symlink_metadata(dir.join(part)).ok()).collect();
                    match found {
                        None => Some("is not there, and could be made"),
                        Some(found) if found.iter().any(std::fs::Metadata::is_symlink) => {
                            Some("leads through a link, which could be turned")
                        }
                        Some(_) => None,
                    }
                };
                if let Some(why) = why {
                    return Err(CliError::config(format!("{glob:?} of {} {why}", self.place(source, "write.deny")))
                        .hint("use --cow: then each change is held against it before it reaches DIR"));
                }
            }
        }
        Ok(())
    }

    /// The limits of the box: of the policy and the command line the lower one, else the default.
    pub fn limits(&self, flags: &BoxLimits) -> Result<BoxLimits, CliError> {
        let own = self.said.limits();
        let lower = |policy: Option<u64>, flag: Option<u64>| policy.into_iter().chain(flag).min();
        let sooner = |policy: Option<Duration>, flag: Option<Duration>| policy.into_iter().chain(flag).min();
        let limits = BoxLimits {
            processes: lower(own.processes, flags.processes).or(Some(PROCESSES)),
            memory_bytes: lower(own.memory_bytes, flags.memory_bytes).or(Some(MEMORY_BYTES)),
            file_bytes: lower(own.file_bytes, flags.file_bytes).or(Some(FILE_BYTES)),
            descriptors: lower(own.descriptors, flags.descriptors).or(Some(DESCRIPTORS)),
            disk_bytes: lower(own.disk_bytes, flags.disk_bytes),
            cpu: sooner(own.cpu, flags.cpu),
            wall: sooner(own.wall, flags.wall),
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

/// What the file of --policy lets be written, as --write does.
fn allowed(own: &AgentPolicy, place: &str) -> Result<Option<Vec<String>>, CliError> {
    let bad = |problem: &str| CliError::config(format!("the policy {place}: {problem}")).hint("docs/policy.md describes the file");
    let mut write = own.write_allowed();
    let allowed = write.next().map(|paths| paths.globs().to_owned());
    if write.next().is_some() {
        return Err(bad("two [write] allow sections mean the command").first_hint("leave one of them out"));
    }
    if allowed.as_ref().is_some_and(Vec::is_empty) {
        return Err(bad("[write] allow is empty").first_hint("name what may be written; to keep nothing of it, use --cow --discard"));
    }
    Ok(allowed)
}

/// A protected name on the plain beginning of a glob that none of the person's globs has on its own.
fn first_protected(glob: &str, persons: &[String]) -> Option<&'static str> {
    let parts = |glob: &str| -> Vec<String> {
        glob.split('/').take_while(|part| !part.contains(['*', '?', '[', '{', '\\'])).map(protected::folded).collect()
    };
    let approved: Vec<String> = persons.iter().flat_map(|glob| parts(glob)).collect();
    let new = parts(glob).into_iter().filter(|part| !approved.contains(part));
    let first = |name: &'static str| protected::folded(name.split('/').next().unwrap_or_default());
    new.into_iter().find_map(|part| protected::NAMES.iter().map(|entry| entry.name).find(|name| first(name) == part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Policy, CliError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("p"), text).unwrap();
        Policy::of(Vec::new(), Some(layers::file(&dir.path().join("p"), LayerName::Run)?))
    }

    fn text(layer: LayerName, text: &str) -> PolicyText {
        PolicyText { layer, place: format!("/etc/{layer}.toml"), text: text.to_owned() }
    }

    #[test]
    fn the_layers_of_the_host_narrow_what_is_written_and_errors_name_them() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("src/gen")).unwrap();
        std::os::unix::fs::symlink("src", dir.path().join("current")).unwrap();
        let org = |said: &str| vec![text(LayerName::Organisation, said)];
        let scope = |host: &str, file: Option<&str>, flags: &[&str], copy: bool| {
            let policy = Policy::of(org(host), file.map(|said| text(LayerName::Run, said))).unwrap();
            policy.scope(&flags.iter().map(|glob| (*glob).to_owned()).collect::<Vec<_>>(), dir.path(), copy)
        };
        let globs = |globs: &[&str], except: &[&str]| {
            let owned = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect();
            WriteScope::Globs { globs: owned(globs), also: Vec::new(), except: owned(except) }
        };
        let allow = "[write]\nallow = [\"src/**\"]";
        assert_eq!(scope("[limits]\nprocesses = 9", None, &[], false).unwrap(), WriteScope::All);
        assert_eq!(scope(allow, None, &[], false).unwrap(), globs(&["src/**"], &[]));
        assert_eq!(scope(allow, Some("[write]\nallow = [\"src/a/**\", \"docs/**\"]"), &[], false).unwrap(), globs(&["src/a/**"], &[]));
        assert_eq!(scope(allow, None, &["docs/**"], false).unwrap(), WriteScope::Nothing);
        assert_eq!(scope("[write]\nallow = []", None, &[], false).unwrap(), WriteScope::Nothing);
        let deny = "[write]\ndeny = [\"src/gen/**\"]";
        assert_eq!(scope(deny, None, &[], false).unwrap(), globs(&["**"], &["src/gen/**"]));
        assert_eq!(scope(allow, Some(deny), &[], false).unwrap(), globs(&["src/**"], &["src/gen/**"]));
        let wide = "[write]\ndeny = [\"**/*.lock\"]";
        assert_eq!(scope(wide, None, &["src/**"], true).unwrap(), globs(&["src/**"], &["**/*.lock"]));
        for (host, flags, parts) in [
            (wide, &[][..], &["/etc/organisation.toml (write.deny)", "**/*.lock", "a pattern"][..]),
            ("[write]\ndeny = [\"none\"]", &[], &["/etc/organisation.toml", "not there"]),
            ("[write]\ndeny = [\"current/gen\"]", &[], &["/etc/organisation.toml (write.deny)", "through a link"]),
            ("[write]\nallow = [\"**/*.rs\"]", &["src/**"], &["/etc/organisation.toml (write.allow)", "src/**"]),
            ("[write]\nallow = [\".vscode/**\"]", &[], &[".vscode", "protected"]),
        ] {
            let error = scope(host, None, flags, false).unwrap_err();
            assert!(parts.iter().all(|part| error.message.contains(part)) && error.code == crate::exit::CONFIG, "{}", error.message);
        }
    }

    #[test]
    fn of_all_layers_the_lowest_limit_counts_and_the_host_opens_nothing() {
        let net = "[[network]]\nid = \"a\"\nhosts = [\"example.org\"]\n";
        let host = || {
            vec![text(LayerName::Organisation, "[limits]\nprocesses = 9"), text(LayerName::User, &format!("{net}[limits]\nprocesses = 7"))]
        };
        let policy = Policy::of(host(), None).unwrap();
        assert_eq!(policy.limits(&BoxLimits { processes: Some(8), ..BoxLimits::default() }).unwrap().processes, Some(7));
        assert!(!policy.reaches() && policy.reach().is_empty());
        let policy = Policy::of(host(), Some(text(LayerName::Run, net))).unwrap();
        assert!(policy.reaches() && policy.reach().len() == 3);
        let error = Policy::of(vec![text(LayerName::User, "[limits]\nprocesses = 0")], None).unwrap_err();
        assert!(error.message.contains("/etc/user.toml"), "{}", error.message);
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
