//! An editor drives our agent in a box over the agent protocol: it is asked, and its answers hold.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use aedile_testkit::{Conversation, ScriptedServer, Step, TestEnvironment};
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
                assert!(line.get("error").is_none(), "{line}");
                return line["result"].clone();
            }
        }
    }
}

#[test]
fn an_editor_is_asked_and_its_answers_hold() {
    let mut env = TestEnvironment::new(super::program());
    let dir = env.work().join("dir");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("aedile.toml"), "[agents]\nmodel = \"openai/gpt-4.1\"\n").unwrap();
    let dir = dir.canonicalize().unwrap();
    let first =
        Step::tool("write", json!({"path": "made.txt", "content": "made\n"})).and_tool("bash", json!({"command": "touch refused.txt"}));
    let server =
        ScriptedServer::start(vec![Conversation::any().step(first).step(Step::text("Done.").expect_latest("does not allow this call"))]);
    env.var("AEDILE_OPENAI_BASE_URL", server.url()).var("OPENAI_API_KEY", "sk-real-key-of-the-person");
    let program = super::program();
    let mut command = env.command();
    command.args([
        "sandbox",
        "exec",
        "--net",
        "door",
        "--env",
        "AEDILE_MODEL=openai/gpt-4.1",
        "--env",
        "AEDILE_DOOR=http://127.0.0.1:7070",
    ]);
    command.arg("--dir").arg(&dir).arg("--ro").arg(&program).arg("--").arg(&program).arg("__agent");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut editor = Editor { child, stdin, lines: BufReader::new(stdout).lines(), asked: Vec::new() };
    editor.ask(1, "initialize", &json!({"protocolVersion": 1, "clientCapabilities": {}}));
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
