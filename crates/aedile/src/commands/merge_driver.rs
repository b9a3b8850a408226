//! `aedile merge-driver`: git's own merges, rebases and cherry-picks use the engine.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use aedile_git::{Config, ConfigEntry, ConfigPlace, GitVersion};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::error::{CliError, CliResult};
use crate::output::Output;
use crate::{exit, wiring};

/// The name of the driver in git's configuration.
const NAME: &str = "aedile";
/// The setting that makes git use it for every path that names no other in its attributes.
const DEFAULT: &str = "merge.default";
/// The program and its arguments.
const DRIVER: &str = "merge.aedile.driver";
/// The settings that are read.
const PATTERN: &str = r"^merge\.(default|aedile\.(name|driver|recursive))$";

/// Let git's own merge, rebase and cherry-pick use the engine
#[derive(Debug, Args)]
pub struct MergeDriverArgs {
    #[command(subcommand)]
    command: MergeDriverCommand,
}

#[derive(Debug, Subcommand)]
enum MergeDriverCommand {
    /// Set it up in the repository's configuration: `merge.aedile.*` and `merge.default`
    ///
    /// Nothing is written into tracked files or attributes. From then on git asks the engine where a text conflicts, and takes an answer only when every
    /// contested place is settled; what git merges itself, and what stays in conflict, is as before. A `merge.default` of yours is kept, and named with exit code 1. Without
    /// the program git goes on as before.
    Install(PlaceArgs),
    /// Take back what `install` set
    Uninstall(PlaceArgs),
    /// Say whether git uses it here, and by which files
    Status,
}

#[derive(Debug, Args)]
struct PlaceArgs {
    /// For all your repositories (your own git configuration) instead of this one
    #[arg(long)]
    global: bool,
}

impl PlaceArgs {
    fn place(&self) -> ConfigPlace {
        if self.global { ConfigPlace::Global } else { ConfigPlace::Repository }
    }
}

/// Runs `aedile merge-driver`.
pub fn cmd_merge_driver(args: &MergeDriverArgs, out: Output) -> CliResult {
    let (config, version) = wiring::git_config(&std::env::current_dir()?)?;
    match &args.command {
        MergeDriverCommand::Install(place) => install(&config, version, place.place(), out),
        MergeDriverCommand::Uninstall(place) => uninstall(&config, place.place(), out),
        MergeDriverCommand::Status => status(&config, out),
    }
}

fn install(config: &Config, version: GitVersion, place: ConfigPlace, out: Output) -> CliResult {
    let entries = config.entries(PATTERN)?;
    let foreign = effective(&entries).filter(|entry| entry.value != NAME);
    let mut wanted: Vec<(&str, OsString)> = vec![
        ("merge.aedile.name", "what the text says (aedile)".into()),
        // What both sides began with is merged by lines when there are several such commits, as git does.
        ("merge.aedile.recursive", "text".into()),
        (DRIVER, driver(&wiring::program()?, version)),
    ];
    if foreign.is_none() {
        wanted.push((DEFAULT, NAME.into()));
    }
    let mut changed = Vec::new();
    for (key, value) in wanted {
        let was: Vec<&ConfigEntry> = entries.iter().filter(|entry| entry.key == key && entry.scope == place.scope()).collect();
        if !matches!(was[..], [one] if one.value == value) {
            config.set(place, key, &value).map_err(no_place)?;
            changed.push(json!({ "key": key, "value": value.to_string_lossy(), "was": was.last().map(|was| was.value.to_string_lossy()) }));
        }
    }
    let answer = json!({ "place": place.scope(), "changed": changed, "kept": foreign.map(told), "in_use": foreign.is_none() });
    out.object_or(&answer, || {
        let mut lines = changes("set", &changed, place);
        if foreign.is_none() {
            lines.push(match place {
                ConfigPlace::Repository => "git merge, rebase and cherry-pick use aedile in this repository.".to_owned(),
                ConfigPlace::Global => "git merge, rebase and cherry-pick use aedile in all your repositories.".to_owned(),
            });
        }
        lines
    });
    let Some(entry) = foreign else { return Ok(exit::OK) };
    let value = entry.value.to_string_lossy();
    out.warn(format!("merge.default is `{value}` already ({}); it is kept, so git does not ask aedile by itself", entry.file));
    out.warn(format!(
        "hint: `git config --{} --unset merge.default` and install again, or `merge=aedile` in the attributes of chosen paths",
        entry.scope
    ));
    Ok(exit::FAILURE)
}

fn uninstall(config: &Config, place: ConfigPlace, out: Output) -> CliResult {
    let entries = config.entries(PATTERN)?;
    let ours = |entry: &&ConfigEntry| entry.scope == place.scope() && (entry.key != DEFAULT || entry.value == NAME);
    let mut changed = Vec::new();
    for entry in entries.iter().filter(ours) {
        config.unset(place, &entry.key).map_err(no_place)?;
        changed.push(json!({ "key": entry.key, "value": null, "was": entry.value.to_string_lossy() }));
    }
    let left = config.entries(PATTERN)?;
    let still = effective(&left).filter(|entry| entry.value == NAME);
    let answer = json!({ "place": place.scope(), "changed": changed, "in_use": still.is_some() });
    out.object_or(&answer, || {
        let mut lines = changes("removed", &changed, place);
        lines.extend(still.map(|entry| format!("git uses aedile here all the same: merge.default is set in {}", entry.file)));
        lines
    });
    Ok(exit::OK)
}

fn status(config: &Config, out: Output) -> CliResult {
    let entries = config.entries(PATTERN)?;
    let default = effective(&entries);
    let line = entries.iter().rfind(|entry| entry.key == DRIVER);
    let program = line.and_then(|entry| program_of(&entry.value));
    let there = program.as_ref().is_some_and(|program| program.is_file());
    let in_use = there && default.is_some_and(|entry| entry.value == NAME);
    let answer = json!({
        "in_use": in_use,
        "default": default.map(told),
        "driver": line.map(told),
        "program": program.as_ref().map(|program| program.to_string_lossy()),
        "program_is_there": there,
    });
    out.object_or(&answer, || {
        let mut lines = vec![if in_use { "git uses aedile here" } else { "git does not use aedile here" }.to_owned()];
        lines.push(match default {
            Some(entry) => format!("merge.default is `{}` ({})", entry.value.to_string_lossy(), entry.file),
            None => "merge.default is not set".to_owned(),
        });
        lines.push(match (line, &program) {
            (None, _) => "there is no driver `aedile`; `aedile merge-driver install` sets it up".to_owned(),
            (Some(entry), None) => format!("the driver names no program that is understood ({})", entry.file),
            (Some(entry), Some(program)) if there => format!("the driver calls {} ({})", program.display(), entry.file),
            (Some(entry), Some(program)) => {
                format!("the driver calls {}, which is not there ({}); git merges by lines as before", program.display(), entry.file)
            }
        });
        lines
    });
    Ok(exit::OK)
}

/// The `merge.default` that git follows here.
fn effective(entries: &[ConfigEntry]) -> Option<&ConfigEntry> {
    entries.iter().rfind(|entry| entry.key == DEFAULT)
}

fn told(entry: &ConfigEntry) -> Value {
    json!({ "value": entry.value.to_string_lossy(), "scope": entry.scope, "file": entry.file })
}

fn changes(done: &str, changed: &[Value], place: ConfigPlace) -> Vec<String> {
    if changed.is_empty() {
        return vec![format!("nothing to change in the {} configuration", place.scope())];
    }
    let line = |change: &Value| {
        let (key, was) = (change["key"].as_str().unwrap_or_default(), change["was"].as_str());
        match (change["value"].as_str(), was) {
            (Some(value), None) => format!("{done} {key} = {value}"),
            (Some(value), Some(was)) => format!("{done} {key} = {value}\n  it was {was}"),
            (None, _) => format!("{done} {key}"),
        }
    };
    changed.iter().map(line).collect()
}

fn no_place(error: aedile_git::GitError) -> CliError {
    match error {
        aedile_git::GitError::NotARepository { .. } => {
            CliError::config(error.to_string()).hint("`--global` sets it up for all your repositories, from anywhere")
        }
        other => other.into(),
    }
}

/// The line that git gives to a shell. git tries first, then the engine; where neither settles all of it, git's markers stand in the file, which is no less than git would have
/// left, also when the program is gone. Labels and the way of comparing are handed over since git 2.44.
fn driver(program: &Path, version: GitVersion) -> OsString {
    let (labels, algorithm) = if version >= (GitVersion { major: 2, minor: 44, patch: 0 }) {
        ("-L %X -L %S -L %Y", " --diff-algorithm=histogram")
    } else {
        ("-L ours -L base -L theirs", "")
    };
    let mut line =
        format!("m() {{ git merge-file -q{algorithm} --marker-size=%L {labels} \"$@\" %A %O %B; }}; {{ m -p >/dev/null 2>&1 && m; }} || ")
            .into_bytes();
    line.extend(quoted(program.as_os_str()));
    line.extend_from_slice(b" merge-file %O %A %B --path %P --output %A --only-settled || m || exit 1");
    OsString::from_vec(line)
}

/// A word for the shell, in which git finds no placeholder.
fn quoted(word: &OsStr) -> Vec<u8> {
    let mut text = vec![b'\''];
    for byte in word.as_bytes() {
        match byte {
            b'\'' => text.extend_from_slice(b"'\\''"),
            b'%' => text.extend_from_slice(b"%%"),
            byte => text.push(*byte),
        }
    }
    text.push(b'\'');
    text
}

/// The program in a line that [`driver`] made: the word before the last `merge-file`.
fn program_of(line: &OsStr) -> Option<PathBuf> {
    let words = shlex::bytes::split(line.as_bytes())?;
    let at = words.iter().rposition(|word| word == b"merge-file")?;
    let text = words.get(at.checked_sub(1)?)?;
    let mut word = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        word.push(*byte);
        if *byte == b'%' {
            bytes.next();
        }
    }
    Some(PathBuf::from(OsString::from_vec(word))).filter(|program| program.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_again_in_its_line_whatever_it_is_called() {
        for path in ["/usr/bin/aedile", "/a b/it's 100%/ÿ merge-file"] {
            for minor in [39, 47] {
                let line = driver(Path::new(path), GitVersion { major: 2, minor, patch: 4 });
                assert_eq!(program_of(&line), Some(PathBuf::from(path)), "{}", line.display());
                assert_eq!(line.to_string_lossy().contains("%X"), minor == 47);
            }
        }
        assert_eq!(program_of(OsStr::new("mergetool %O")), None);
    }
}
