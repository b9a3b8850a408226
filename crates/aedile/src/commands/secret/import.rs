//! `aedile secret import`.

use std::path::PathBuf;

use aedile_core::{Clock, SecretString};
use aedile_gateway::safe::{Safe, Source};
use clap::Args;
use serde_json::json;
use zeroize::Zeroizing;

use super::binding::{BindingArgs, words};
use crate::clock::SystemClock;
use crate::error::{CliError, CliResult};
use crate::output::Output;
use crate::{exit, keys};

/// A file of variables is a page.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The file: lines of NAME=VALUE, with or without `export` and quotes
    file: PathBuf,
    #[command(flatten)]
    binding: BindingArgs,
    /// Replace secrets that are there already
    #[arg(long)]
    replace: bool,
}

/// Runs `aedile secret import`.
pub fn cmd_import(args: &ImportArgs, out: Output) -> CliResult {
    let failed = |problem: String| CliError::usage(format!("{}: {problem}; nothing was kept", args.file.display()));
    let meta = std::fs::metadata(&args.file).map_err(|error| failed(error.to_string()))?;
    if !meta.is_file() || meta.len() > FILE_BYTES_MAX {
        return Err(failed(format!("is no file of at most {FILE_BYTES_MAX} bytes")));
    }
    let text = Zeroizing::new(std::fs::read_to_string(&args.file).map_err(|error| failed(error.to_string()))?);
    let pairs = pairs(&text).map_err(failed)?;
    if pairs.is_empty() {
        return Err(failed("holds no variable with a value".to_owned()));
    }
    let names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
    Safe::change(&keys::places()?, |safe| {
        let there: Vec<&str> = names.iter().copied().filter(|name| safe.holds(name)).collect();
        if !there.is_empty() && !args.replace {
            return Err(failed(format!("{} would be replaced", there.join(", "))).hint("--replace does that"));
        }
        for (name, value) in &pairs {
            let source = Source::Value(SecretString::from(value.as_str()));
            safe.put(name, args.binding.binding(Some(name.clone())), &source, SystemClock.now().0)?;
        }
        Ok(())
    })?;
    let goes = words(&args.binding.binding(None));
    out.object_or(&json!({ "names": names, "goes": goes }), || {
        vec![
            format!("kept {}: {}; {goes}", names.len(), names.join(", ")),
            format!("{} still holds them in plain text: remove it when nothing else reads it", args.file.display()),
        ]
    });
    Ok(exit::OK)
}

/// Names and values of the lines; variables without a value are left out.
fn pairs(text: &str) -> Result<Vec<(String, Zeroizing<String>)>, String> {
    let mut pairs: Vec<(String, Zeroizing<String>)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or_else(|| format!("line {} is not written NAME=VALUE", at + 1))?;
        let (name, value) = (name.trim(), plain(value.trim()).ok_or_else(|| format!("line {} has a quote that is not closed", at + 1))?);
        if pairs.iter().any(|(known, _)| known == name) {
            return Err(format!("line {} gives {name} a second time", at + 1));
        }
        if !value.is_empty() {
            pairs.push((name.to_owned(), value));
        }
    }
    Ok(pairs)
}

/// A value without its quotes, or without the comment behind it.
fn plain(value: &str) -> Option<Zeroizing<String>> {
    let text = match value.as_bytes().first() {
        Some(b'\'') => value[1..].split_once('\'')?.0.to_owned(),
        Some(b'"') => {
            let mut text = String::with_capacity(value.len());
            let mut chars = value[1..].chars();
            loop {
                match chars.next()? {
                    '"' => break text,
                    '\\' => match chars.next()? {
                        'n' => text.push('\n'),
                        other => text.push(other),
                    },
                    other => text.push(other),
                }
            }
        }
        Some(b'#') => String::new(),
        _ => value.split(" #").next().unwrap_or_default().trim_end().to_owned(),
    };
    Some(Zeroizing::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_shells_write_them() {
        let text = "# keys\n\nA=one\nexport B='two # three'\nC=\"four\\n\\\"five\\\"\" # c\nD= # nothing\nE=\n F = six # seven\nG=a=b#c\n";
        let found: Vec<(String, String)> = pairs(text).unwrap().into_iter().map(|(name, value)| (name, value.to_string())).collect();
        let wanted = [("A", "one"), ("B", "two # three"), ("C", "four\n\"five\""), ("F", "six"), ("G", "a=b#c")];
        assert_eq!(found, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
        for (text, part) in [("A", "line 1"), ("A=1\nA=2", "second time"), ("A='x", "quote"), ("A=\"x", "quote")] {
            assert!(pairs(text).unwrap_err().contains(part), "{text}");
        }
    }
}
