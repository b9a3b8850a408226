//! `aedile scan`: the leak scan over lines of JSON from stdin.

use std::io::{BufRead, Read};

use aedile_gateway::leak::{Shapes, verdict};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::error::CliResult;
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
}

/// Runs `aedile scan`.
pub fn cmd_scan(args: &ScanArgs, out: Output) -> CliResult {
    match &args.command {
        ScanCommand::Secrets => each_line(out, secrets),
    }
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
