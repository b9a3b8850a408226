//! `aedile merge-file`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use aedile_code::Sides;
use aedile_code::merge::{BYTES_MAX, Outcome, Receipt, merge};
use clap::Args;
use serde_json::{Value, json};

use crate::error::{CliError, CliResult};
use crate::output::Output;

/// It was merged.
const CLEAN: u8 = 0;
/// It holds conflicts.
const CONFLICT: u8 = 1;
/// It was not merged at all.
const DECLINED: u8 = 2;

/// Merge three versions of a file by what they say, not only by lines
///
/// The result goes to stdout. The exit code is 0 when it is clean, 1 when conflicts stand in it (with markers in diff3 style), and 2 when nothing was merged: a
/// version is no text or too large, or a file cannot be read. No model and no network is asked; the same files give the same result everywhere.
#[derive(Debug, Args)]
pub struct MergeFileArgs {
    /// What both sides began with; an empty file when both added it
    #[arg(value_name = "BASE")]
    base: PathBuf,
    /// Our version
    #[arg(value_name = "OURS")]
    ours: PathBuf,
    /// Their version
    #[arg(value_name = "THEIRS")]
    theirs: PathBuf,
    /// The path in the repository; it tells the language
    #[arg(long, value_name = "REPO_PATH")]
    path: PathBuf,
    /// Write where each contested region went, and why, to this file; `--json FILE` is the same
    #[arg(long, value_name = "RECEIPT_FILE")]
    receipt: Option<PathBuf>,
    /// Write the result to this file instead of stdout; when nothing was merged, the file stays as it is
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write only a clean result, and say in a line what was settled; else the file stays as it is. So git's merge calls it (`aedile merge-driver`)
    #[arg(long, requires = "output")]
    only_settled: bool,
}

/// Takes `--json FILE` behind `merge-file` for `--receipt FILE`: everywhere else `--json` has no value.
pub fn arguments(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let given: Vec<OsString> = given.collect();
    let Some(at) = given.iter().skip(1).position(|arg| !arg.as_encoded_bytes().starts_with(b"-")).map(|at| at + 1) else { return given };
    if given[at] != "merge-file" {
        return given;
    }
    let renamed = |arg: OsString| match arg.to_str() {
        Some("--json") => "--receipt".into(),
        Some(text) => text.strip_prefix("--json=").map(|file| format!("--receipt={file}").into()).unwrap_or(arg),
        None => arg,
    };
    let (before, behind) = given.split_at(at);
    before.iter().cloned().chain(behind.iter().cloned().map(renamed)).collect()
}

/// Runs `aedile merge-file`.
pub fn cmd_merge_file(args: &MergeFileArgs, out: Output) -> CliResult {
    let [base, ours, theirs] = [read(&args.base)?, read(&args.ours)?, read(&args.theirs)?];
    let path = args.path.to_string_lossy();
    let outcome = merge(&Sides { base: &base, ours: &ours, theirs: &theirs, path: &path });
    if let Some(file) = &args.receipt {
        let text = format!("{:#}\n", object(&path, &outcome));
        std::fs::write(file, text)
            .map_err(|error| CliError::usage(format!("the receipt cannot be written to {}: {error}", file.display())))?;
    }
    let (bytes, code) = match outcome {
        Outcome::Clean { bytes, receipt } => {
            if args.only_settled {
                out.warn(format!("aedile: {path}: {}", settled(&receipt)));
            }
            (bytes, CLEAN)
        }
        Outcome::Conflict { .. } if args.only_settled => return Ok(CONFLICT),
        Outcome::Conflict { bytes, .. } => (bytes, CONFLICT),
        Outcome::Declined { .. } if args.only_settled => return Ok(DECLINED),
        Outcome::Declined { reason } => {
            out.warn(format!("{path} is not merged: {reason}"));
            return Ok(DECLINED);
        }
    };
    match &args.output {
        None => out.bytes(&bytes),
        Some(file) => {
            replace(file, &bytes)
                .map_err(|error| CliError::usage(format!("the result cannot be written to {}: {error}", file.display())))?;
        }
    }
    Ok(code)
}

/// What was settled in a clean file, and by which rules, in a few words.
pub fn settled(receipt: &Receipt) -> String {
    let rules: BTreeSet<&str> = receipt.regions.iter().filter_map(|region| region.by).collect();
    let places = match receipt.regions.len() {
        0 => return "no line was contested".to_owned(),
        1 => "1 contested place".to_owned(),
        many => format!("{many} contested places"),
    };
    format!("{places} settled ({})", rules.into_iter().collect::<Vec<_>>().join(", "))
}

/// Writes a file; one that is there is replaced as a whole or not at all, and keeps its permissions.
fn replace(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let Some(there) = file.symlink_metadata().ok().filter(std::fs::Metadata::is_file) else { return std::fs::write(file, bytes) };
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut new = tempfile::NamedTempFile::new_in(dir)?;
    new.write_all(bytes)?;
    new.as_file().set_permissions(there.permissions())?;
    new.persist(file)?;
    Ok(())
}

/// What became of everything, for people and programs.
fn object(path: &str, outcome: &Outcome) -> Value {
    let told = |state: &str, Receipt { taken, regions, refused }: &Receipt| json!({ "path": path, "outcome": state, "taken": taken, "regions": regions, "refused": refused });
    match outcome {
        Outcome::Clean { receipt, .. } => told("clean", receipt),
        Outcome::Conflict { receipt, .. } => told("conflict", receipt),
        Outcome::Declined { reason } => json!({ "path": path, "outcome": "declined", "refused": reason }),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    let failed = |error: std::io::Error| CliError::usage(format!("{} cannot be read: {error}", path.display()));
    let size = path.metadata().map_err(failed)?.len();
    if size > BYTES_MAX as u64 {
        return Err(CliError::usage(format!("{} has {size} bytes; at most {BYTES_MAX} are merged", path.display())));
    }
    std::fs::read(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_with_a_file_is_the_receipt_of_this_command_alone() {
        let of = |line: &str| {
            let words = arguments(line.split(' ').map(OsString::from)).into_iter().map(|word| word.into_string().unwrap());
            words.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of("aedile merge-file a b c --path p --json r"), "aedile merge-file a b c --path p --receipt r");
        assert_eq!(of("aedile --json merge-file a b c --json=r"), "aedile --json merge-file a b c --receipt=r");
        assert_eq!(of("aedile status --json"), "aedile status --json");
    }
}
