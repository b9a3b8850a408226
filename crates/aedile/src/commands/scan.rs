//! `aedile scan`: the leak scan over lines of JSON from stdin.

use std::cell::RefCell;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use aedile_gateway::leak::{Shapes, decode_base64, verdict};
use aedile_gateway::policy::{BadFile, Egress, Policy, Request, SecretsFile};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::error::{CliError, CliResult};
use crate::exit;
use crate::output::Output;

/// The longest line of input, in bytes.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Look for secrets in texts
#[derive(Debug, Args)]
pub struct ScanArgs {
    #[command(subcommand)]
    command: ScanCommand,
}

#[derive(Debug, Subcommand)]
enum ScanCommand {
    /// Find credentials by their form: `{"id","text"}` on each line of stdin, an answer with verdict and spans on each line of stdout
    ///
    /// The answer is `{"id", "verdict": "clean|warn|redact|block", "spans": [{"start", "end", "rule"}]}`, in the order of the input; offsets are bytes of
    /// the text. A line that is not understood is answered with `{"id", "line", "error"}`; then the exit code is 1 at the end.
    Secrets,
    /// Decide over requests: `{"id","method","url","headers","body_base64"}` on each line of stdin, a decision on each line of stdout
    ///
    /// The answer is `{"id", "decision": "allow|deny", "rule", "url"}`, in the order of the input; `url` is what would be dialled, in its plain form, `null` when it
    /// could not be read. The lines are requests of one agent: a secret that is sent in parts is put together again. A line that is not understood is answered
    /// with `{"id", "line", "error"}`; then the exit code is 1 at the end. The files are described in docs/policy.md.
    Egress {
        /// The rules over the network
        #[arg(long, value_name = "FILE")]
        policy: PathBuf,
        /// Secrets with their values and where each may go
        #[arg(long, value_name = "FILE")]
        secrets: PathBuf,
    },
}

/// Runs `aedile scan`.
pub fn cmd_scan(args: &ScanArgs, out: Output) -> CliResult {
    match &args.command {
        ScanCommand::Secrets => each_line(out, secrets),
        ScanCommand::Egress { policy, secrets } => {
            let policy = read(policy, Policy::parse)?;
            let secrets = read(secrets, SecretsFile::parse)?;
            let egress = RefCell::new(Egress::new(policy, secrets));
            each_line(out, |line| decided(&mut egress.borrow_mut(), line))
        }
    }
}

fn read<T>(path: &Path, parse: impl Fn(&str) -> Result<T, BadFile>) -> Result<T, CliError> {
    let bytes = std::fs::read(path).map_err(|error| CliError::config(format!("{} cannot be read: {error}", path.display())))?;
    let text = String::from_utf8(bytes).map_err(|_| CliError::config(format!("{} is not UTF-8", path.display())))?;
    parse(&text).map_err(|error| CliError::config(format!("{}: {error}", path.display())).hint("docs/policy.md describes the files"))
}

fn decided(egress: &mut Egress, line: &Value) -> Result<Value, String> {
    let text = |name: &str| line.get(name).and_then(Value::as_str).ok_or_else(|| format!("{name:?} must be there and be a string"));
    let body = match line.get("body_base64") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => decode_base64(text).ok_or("\"body_base64\" is not base64")?,
        Some(_) => return Err("\"body_base64\" must be a string".to_owned()),
    };
    let request =
        Request { method: text("method")?.to_owned(), url: text("url")?.to_owned(), headers: headers(line.get("headers"))?, body };
    let decision = egress.decide(&request);
    let word = if decision.allow { "allow" } else { "deny" };
    Ok(json!({ "id": line.get("id"), "decision": word, "rule": decision.rule, "url": decision.url }))
}

/// Headers as an object of strings or lists of strings, or as a list of pairs.
fn headers(value: Option<&Value>) -> Result<Vec<(String, String)>, String> {
    let bad = || "\"headers\" must be an object of strings or lists of strings, or a list of pairs".to_owned();
    let string = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(bad);
    let mut headers = Vec::new();
    match value {
        None | Some(Value::Null) => {}
        Some(Value::Object(items)) => {
            for (name, value) in items {
                match value {
                    Value::Array(values) => {
                        for value in values {
                            headers.push((name.clone(), string(value)?));
                        }
                    }
                    value => headers.push((name.clone(), string(value)?)),
                }
            }
        }
        Some(Value::Array(pairs)) => {
            for pair in pairs {
                let [name, value] = pair.as_array().map(Vec::as_slice).unwrap_or_default() else { return Err(bad()) };
                headers.push((string(name)?, string(value)?));
            }
        }
        Some(_) => return Err(bad()),
    }
    Ok(headers)
}

fn secrets(line: &Value) -> Result<Value, String> {
    let text = line.get("text").and_then(Value::as_str).ok_or("\"text\" must be there and be a string")?;
    let spans = Shapes::get().scan(text.as_bytes());
    let found: Vec<Value> = spans.iter().map(|span| json!({ "start": span.start, "end": span.end, "rule": span.rule })).collect();
    Ok(json!({ "id": line.get("id"), "verdict": verdict(&spans).word(), "spans": found }))
}

/// Answers each line of stdin with a line of stdout. The code is 1 when a line was not understood; it is answered with what is wrong with it.
fn each_line(out: Output, answer: impl Fn(&Value) -> Result<Value, String>) -> CliResult {
    let mut input = std::io::stdin().lock();
    let (mut number, mut failed) = (0_u64, false);
    while let Some(line) = next_line(&mut input)? {
        number += 1;
        if line.as_ref().is_ok_and(|line| line.trim_ascii().is_empty()) {
            continue;
        }
        let parsed = line.and_then(|line| serde_json::from_slice::<Value>(&line).map_err(|error| format!("it is not JSON: {error}")));
        let (id, answered) = match parsed {
            Ok(value) if value.is_object() => (value.get("id").cloned().unwrap_or(Value::Null), answer(&value)),
            Ok(_) => (Value::Null, Err("it must be an object".to_owned())),
            Err(problem) => (Value::Null, Err(problem)),
        };
        failed |= answered.is_err();
        out.object(&answered.unwrap_or_else(|problem| json!({ "id": id, "line": number, "error": problem })));
    }
    if failed {
        out.warn("error: not every line was understood; those are answered with \"error\"");
    }
    Ok(if failed { exit::FAILURE } else { exit::OK })
}

/// Reads a line; `None` at the end. One that is too long is skipped and said.
fn next_line(input: &mut impl BufRead) -> std::io::Result<Option<Result<Vec<u8>, String>>> {
    let mut line = Vec::new();
    if input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') || line.len() < usize::try_from(LINE_BYTES_MAX).unwrap_or(usize::MAX) {
        return Ok(Some(Ok(line)));
    }
    input.skip_until(b'\n')?;
    Ok(Some(Err(format!("it is longer than {LINE_BYTES_MAX} bytes"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_judged_and_bad_lines_are_told() {
        let answer = secrets(&json!({ "id": 7, "text": format!("a\u{e9} {}{} b", "glpat-", "q8Zt2LmP0vRx7KdWb3Nc") })).unwrap();
        assert_eq!(answer, json!({ "id": 7, "verdict": "block", "spans": [{ "start": 4, "end": 30, "rule": "gitlab-pat" }] }));
        assert_eq!(secrets(&json!({ "id": "x", "text": "nothing" })).unwrap()["verdict"], "clean");
        assert!(secrets(&json!({ "id": "x" })).is_err() && secrets(&json!({ "text": 3 })).is_err());
    }
}
