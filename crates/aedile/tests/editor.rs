//! An editor drives our agent in a box over the agent protocol: it is asked, and its answers hold.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use aedile_testkit::{Conversation, ScriptedServer, SeenRequest, Step, TestEnvironment, WireFormat};
use serde_json::{Value, json};

struct Editor {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// Titles of the calls that it was asked about.
    asked: Vec<String>,
}

impl Editor {
    /// Asks the agent and waits for the answer; in between it answers questions: edits are allowed, commands are not.
    fn ask(&mut self, id: u64, method: &str, params: &Value) -> Value {
        let answer = self.answer(id, method, params);
        assert!(answer.get("error").is_none(), "{answer}");
        answer["result"].clone()
    }

    /// Asks for what is refused, and returns the reason.
    fn refused(&mut self, id: u64, method: &str, params: &Value) -> String {
        self.answer(id, method, params)["error"]["message"].as_str().unwrap().to_owned()
    }

    fn answer(&mut self, id: u64, method: &str, params: &Value) -> Value {
        writeln!(self.stdin, "{}", json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).unwrap();
        loop {
            let line: Value = serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap();
            if line["method"] == "session/request_permission" {
                let title = line["params"]["toolCall"]["title"].as_str().unwrap().to_owned();
                let option = if title.starts_with("write") { "once" } else { "reject" };
                self.asked.push(title);
                let outcome = json!({"outcome": {"outcome": "selected", "optionId": option}});
                writeln!(self.stdin, "{}", json!({"jsonrpc": "2.0", "id": line["id"], "result": outcome})).unwrap();
            } else if line["id"] == id && line.get("method").is_none() {
                return line;
            }
        }
    }
}

/// Starts the agent in a box round the directory, with the door of its `aedile.toml`. A person's own settings come into the box read-only.
fn start(env: &TestEnvironment, dir: &Path, model: &str, own: Option<&Path>) -> Editor {
    let program = super::program();
    let mut command = env.command();
    command.args(["sandbox", "exec", "--net", "door", "--env", &format!("AEDILE_MODEL={model}")]);
    command.args(["--env", "AEDILE_DOOR=http://127.0.0.1:7070", "--dir"]);
    command.arg(dir);
    if let Some(own) = own {
        command.arg("--env").arg(format!("AEDILE_SETTINGS={}", own.display())).arg("--ro").arg(own);
    }
    command.arg("--ro").arg(&program).arg("--").arg(&program).arg("__agent");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut editor = Editor { child, stdin, lines: BufReader::new(stdout).lines(), asked: Vec::new() };
    editor.ask(1, "initialize", &json!({"protocolVersion": 1, "clientCapabilities": {}}));
    editor
}

/// A directory with this `aedile.toml`.
fn directory(env: &TestEnvironment, config: &str) -> PathBuf {
    let dir = env.work().join("dir");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("aedile.toml"), config).unwrap();
    dir.canonicalize().unwrap()
}

#[test]
fn a_session_changes_between_the_models_that_its_door_grants() {
    let mut env = TestEnvironment::new(super::program());
    let config = "[agents]\nmodel = \"anthropic/claude-sonnet-4-5\"\nfallback = [\"openai/gpt-4.1\", \"ollama/qwen3-coder\"]\n";
    env.person_config("[provider.openai]\napi = \"responses\"\n");
    let dir = directory(&env, config);
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false});
    let offers = |pictures: bool| {
        move |request: &SeenRequest| match request.body.to_string().contains("Pictures (PNG") {
            offered if offered == pictures => Ok(()),
            offered => Err(format!("pictures are offered: {offered}")),
        }
    };
    let of = |format: WireFormat| Conversation::when(&format!("{format:?}"), move |request: &SeenRequest| request.format() == Some(format));
    let answer = || Step::text("{\"n\": 1}");
    let server = ScriptedServer::start(vec![
        of(WireFormat::Anthropic).step(answer().expect(offers(true)).expect_json("/output_config/format/schema", schema.clone())),
        of(WireFormat::Responses).step(answer().expect(offers(true)).expect_json("/text/format/schema", schema.clone())),
        of(WireFormat::Ollama).step(answer().expect(offers(false)).expect(|request| match request.body.get("format") {
            None => Ok(()),
            Some(format) => Err(format!("its calls would be held to the schema too: {format}")),
        })),
    ]);
    for name in ["ANTHROPIC", "OPENAI", "OLLAMA"] {
        env.var(format!("AEDILE_{name}_BASE_URL"), server.url());
    }
    env.var("ANTHROPIC_API_KEY", "key-of-anthropic").var("OPENAI_API_KEY", "key-of-openai");
    let mut editor = start(&env, &dir, "anthropic/claude-sonnet-4-5", None);
    let session = editor.ask(2, "session/new", &json!({"cwd": dir, "mcpServers": []}))["sessionId"].clone();
    let prompt =
        json!({"sessionId": session, "prompt": [{"type": "text", "text": "Count."}], "_meta": {"aedile": {"outputSchema": schema}}});
    assert_eq!(editor.ask(3, "session/prompt", &prompt)["stopReason"], "end_turn");
    for (id, model) in [(4, "openai/gpt-4.1"), (6, "ollama/qwen3-coder")] {
        editor.ask(id, "session/set_model", &json!({"sessionId": session, "modelId": model}));
        assert_eq!(editor.ask(id + 1, "session/prompt", &prompt)["stopReason"], "end_turn");
    }
    let refused = editor.refused(8, "session/set_model", &json!({"sessionId": session, "modelId": "openai/gpt-5"}));
    assert!(refused.contains("does not lead to openai/gpt-5; it leads to anthropic/claude-sonnet-4-5, openai/gpt-4.1"), "{refused}");
    drop(editor.stdin);
    assert!(editor.child.wait().unwrap().success());
    let seen = server.finish();
    assert_eq!(seen.iter().map(|request| request.header("x-api-key")).collect::<Vec<_>>(), [Some("key-of-anthropic"), None, None]);
    assert!(seen[2].text().contains("{\"n\": 1}"), "the conversation goes on");
    env.assert_nothing_left();
}

#[test]
fn an_editor_is_asked_and_its_answers_hold() {
    let mut env = TestEnvironment::new(super::program());
    let dir = directory(&env, "[agents]\nmodel = \"openai/gpt-4.1\"\n");
    let first =
        Step::tool("write", json!({"path": "made.txt", "content": "made\n"})).and_tool("bash", json!({"command": "touch refused.txt"}));
    let server =
        ScriptedServer::start(vec![Conversation::any().step(first).step(Step::text("Done.").expect_latest("does not allow this call"))]);
    env.var("AEDILE_OPENAI_BASE_URL", server.url()).var("OPENAI_API_KEY", "sk-real-key-of-the-person");
    let mut editor = start(&env, &dir, "openai/gpt-4.1", None);
    let session = editor.ask(2, "session/new", &json!({"cwd": dir, "mcpServers": []}));
    assert_eq!(session["modes"]["currentModeId"], "default");
    let prompt = json!({"sessionId": session["sessionId"], "prompt": [{"type": "text", "text": "Write it."}]});
    assert_eq!(editor.ask(3, "session/prompt", &prompt)["stopReason"], "end_turn");
    assert_eq!(editor.asked, ["write made.txt", "bash touch refused.txt"]);
    assert_eq!(std::fs::read_to_string(dir.join("made.txt")).unwrap(), "made\n");
    assert!(!dir.join("refused.txt").exists());
    drop(editor.stdin);
    assert!(editor.child.wait().unwrap().success());
    assert_eq!(server.finish().len(), 2);
    env.assert_nothing_left();
}

#[test]
fn only_the_persons_own_file_saves_questions() {
    let mut env = TestEnvironment::new(super::program());
    let dir = directory(&env, "[agents]\nmodel = \"openai/gpt-4.1\"\n");
    let allow = |rule: &str| json!({"permissions": {"allow": [rule], "defaultMode": "acceptEdits"}}).to_string();
    std::fs::create_dir(dir.join(".claude")).unwrap();
    std::fs::write(dir.join(".claude/settings.json"), allow("Bash(touch theirs.txt)")).unwrap();
    let own = env.work().canonicalize().unwrap().join("own.json");
    std::fs::write(&own, json!({"permissions": {"allow": ["Bash(touch mine.txt)"]}}).to_string()).unwrap();
    let step = ["touch mine.txt", "touch theirs.txt"]
        .iter()
        .fold(Step::tool("write", json!({"path": "made.txt", "content": "made\n"})), |step, command| {
            step.and_tool("bash", json!({ "command": command }))
        });
    let server = ScriptedServer::start(vec![Conversation::any().step(step).step(Step::text("Done."))]);
    env.var("AEDILE_OPENAI_BASE_URL", server.url()).var("OPENAI_API_KEY", "sk-real-key-of-the-person");
    let mut editor = start(&env, &dir, "openai/gpt-4.1", Some(&own));
    let session = editor.ask(2, "session/new", &json!({"cwd": dir, "mcpServers": []}));
    assert_eq!(session["modes"]["currentModeId"], "default");
    let prompt = json!({"sessionId": session["sessionId"], "prompt": [{"type": "text", "text": "Do it."}]});
    assert_eq!(editor.ask(3, "session/prompt", &prompt)["stopReason"], "end_turn");
    assert_eq!(editor.asked, ["write made.txt", "bash touch theirs.txt"]);
    assert!(dir.join("mine.txt").exists() && !dir.join("theirs.txt").exists());
    drop(editor.stdin);
    assert!(editor.child.wait().unwrap().success());
    server.finish();
    env.assert_nothing_left();
}
