//! The tasks of the demo and the written turns that its agents play. The turns are written; what the tools do is real.

use aedile_core::TaskKey;
use aedile_core::model::ModelRef;
use aedile_core::task::TaskSpec;
use serde_json::{Value, json};

use super::project::{checks, library, page};
use super::words::{WORDS, Word};
use crate::error::CliError;

/// The most agents that the demo has work for.
pub const AGENTS_MAX: usize = WORDS.len();

/// The tasks for the first `number` commands.
pub fn tasks(number: usize) -> Result<Vec<TaskSpec>, CliError> {
    WORDS.iter().take(number).map(task).collect()
}

fn task(word: &Word) -> Result<TaskSpec, CliError> {
    let name = |text: &str| TaskKey::new(text).map_err(|error| CliError::failure(error.to_string()));
    Ok(TaskSpec {
        key: name(word.name)?,
        title: format!("Add the command `{}`", word.name),
        prompt: format!(
            "Add the command `{0}` to abacus. {1}\nImplement it in lib/{0}.sh, check it in tests/{0}.sh and describe it in docs/{0}.md.",
            word.name, word.does
        ),
        read: Vec::new(),
        scope: vec![format!("lib/{}.sh", word.name), format!("tests/{}.sh", word.name), format!("docs/{}.md", word.name)],
        after: word.needs.iter().map(|need| name(need)).collect::<Result<_, _>>()?,
        gates: Vec::new(),
        role: "builder".to_owned(),
        runtime: "aedile".to_owned(),
        model: ModelRef { provider: "script".to_owned(), model: "turns".to_owned() },
        budget_usd: None,
        script: Some(turns(word)),
    })
}

fn call(name: &str, input: &Value) -> Value {
    json!({ "name": name, "input": input })
}

fn turns(word: &Word) -> Value {
    let lib = call("write", &json!({ "path": format!("lib/{}.sh", word.name), "content": library(word) }));
    let test = call("write", &json!({ "path": format!("tests/{}.sh", word.name), "content": checks(word) }));
    let doc = call("write", &json!({ "path": format!("docs/{}.md", word.name), "content": page(word) }));
    let look = json!({ "text": "I look at how an existing command is made.", "tools": [
        call("read", &json!({ "path": "lib/count.sh" })), call("read", &json!({ "path": "tests/count.sh" })), call("ls", &json!({ "path": "." })),
    ]});
    let run = json!({ "text": "Now the checks.", "tools": [call("bash", &json!({ "command": "sh tests/run.sh" }))] });
    let submit = json!({ "text": "The checks are green.", "tools": [call("submit", &json!({ "summary": format!("Add the command {}: {}", word.name, word.does) }))] });
    match word.name {
        // Forgets its checks; the gate sends it back, and the same session mends it.
        "gcd" => json!([
            look,
            { "text": "I write the command and its page.", "tools": [lib, doc] },
            { "text": "It is simple enough to submit as it is.", "tools": [call("submit", &json!({ "summary": "Add the command gcd" }))] },
            { "text": "The gate is right: the checks are missing. I add them.", "tools": [test] },
            run,
            submit,
        ]),
        // Tries to write outside its scope; the kernel refuses.
        "reverse" => json!([
            look,
            { "text": "I mention the command in the README first.", "tools": [call("bash", &json!({ "command": "echo 'There is also `reverse`.' >> README.md" }))] },
            { "text": "That file is not mine to change. I stay within my scope.", "tools": [lib, test, doc] },
            run,
            submit,
        ]),
        _ => json!([look, { "text": "I write the command, its checks and its page.", "tools": [lib, test, doc] }, run, submit]),
    }
}
