//! `aedile mcp` as a client of the protocol meets it: the wire itself, bad input, and what is left when the client is gone.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use aedile_testkit::{Conversation, ScriptedServer, Step, require, wait_for};
use serde_json::{Value, json};

use crate::scenario::{LIMIT, Scenario, hold, submit, task, turn, write};

/// A client that speaks the wire format by hand.
struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    /// What came that was no answer.
    notifications: Vec<Value>,
    next: u64,
}

impl Client {
    fn start(scenario: &Scenario) -> Self {
        let mut command = scenario.command(&["mcp"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let stdin = child.stdin.take();
        let mut client = Self { child, stdin, lines, notifications: Vec::new(), next: 0 };
        let info = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } });
        let answer = client.request("initialize", info);
        assert_eq!(
            (&answer["result"]["serverInfo"]["name"], answer["result"]["capabilities"]["tools"].is_object()),
            (&json!("aedile"), true)
        );
        client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string());
        client
    }

    fn send(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(line.as_bytes()).and_then(|()| stdin.write_all(b"\n")).and_then(|()| stdin.flush()).unwrap();
    }

    /// Sends a request without waiting for its answer; returns its id.
    fn ask(&mut self, method: &str, params: Value) -> u64 {
        self.next += 1;
        let mut request = json!({ "jsonrpc": "2.0", "id": self.next, "method": method });
        request["params"] = params;
        self.send(&request.to_string());
        self.next
    }

    fn answer(&mut self, id: u64) -> Value {
        loop {
            let line = self.lines.next().unwrap().unwrap();
            let value: Value = serde_json::from_str(&line).unwrap_or_default();
            assert!(value.is_object(), "stdout carries the protocol alone: {line}");
            if value["id"] == json!(id) {
                return value;
            }
            self.notifications.push(value);
        }
    }

    fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.ask(method, params);
        self.answer(id)
    }

    fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let mut params = json!({ "name": tool });
        params["arguments"] = arguments;
        self.request("tools/call", params)["result"].take()
    }

    /// Closes stdin, as a client does that ends, and waits for the server's end.
    fn leave(mut self) {
        self.stdin.take();
        assert!(self.child.wait().unwrap().success());
    }
}

fn done(name: &str) -> String {
    turn(None, &[write(name, "ok"), submit("Write the part")])
}

#[test]
fn a_run_is_driven_and_looked_at_through_tools() {
    let scenario = Scenario::new();
    scenario.tasks(&format!("goal = \"Parts\"\n{}{}", task("one", "", &[done("one")]), task("two", "", &[done("two")])));
    let mut client = Client::start(&scenario);
    let tools = client.request("tools/list", json!({}))["result"]["tools"].take();
    let tool = |name: &str| tools.as_array().unwrap().iter().find(|tool| tool["name"] == name).unwrap();
    assert_eq!(tool("status")["annotations"]["readOnlyHint"], true);
    assert_eq!(
        (&tool("task_cancel")["annotations"]["destructiveHint"], &tool("mail_send")["annotations"]["destructiveHint"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(tool("mail_send")["inputSchema"]["required"], json!(["to", "body"]));

    let params = json!({ "name": "run", "arguments": { "tasks": "../tasks.toml", "agents": 2 }, "_meta": { "progressToken": "p" } });
    let ran = client.request("tools/call", params)["result"].take();
    assert_eq!((&ran["isError"], &ran["structuredContent"]["landed"]), (&json!(false), &json!(2)), "{ran}");
    let words: Vec<&str> = client.notifications.iter().filter_map(|note| note["params"]["message"].as_str()).collect();
    assert!(words.iter().any(|word| word.starts_with("one: landed on aedile/main")), "{words:?}");
    assert!(client.notifications.iter().all(|note| note["params"]["progressToken"] == "p"));
    let status = client.call("status", json!({}))["structuredContent"].take();
    assert_eq!(status["runs"][0]["state"], "ended", "{status}");
    let events = client.call("events", json!({ "after": 2 }))["structuredContent"].take();
    assert_eq!(events["items"][0]["position"], 3, "{events}");
    let costs = client.call("costs", json!({}))["structuredContent"].take();
    assert!(costs["usd"].is_number(), "{costs}");
    client.leave();
    scenario.env.assert_nothing_left();
}

#[test]
fn bad_input_is_answered_and_hurts_nobody() {
    let scenario = Scenario::new();
    let mut client = Client::start(&scenario);
    client.send("{ this is no JSON");
    client.send("[]");
    let unknown = client.request("tools/call", json!({ "name": "no_such", "arguments": {} }));
    assert!(unknown["error"]["message"].as_str().unwrap().contains("there is no tool \"no_such\""), "{unknown}");
    assert_eq!(client.request("no/such/method", json!({}))["error"]["code"], -32601);
    for (tool, arguments, part, code) in [
        ("task_retry", json!({}), "\"task\" of the tool task_retry is missing", 2),
        ("status", json!({ "colour": "red" }), "no argument \"colour\"; it takes ", 2),
        ("demo", json!({ "agents": "five" }), "must be a whole number", 2),
        ("demo", json!({ "agents": 99 }), "the demo has work for 1 to", 2),
        ("run", json!({ "tasks": "gone.toml" }), "cannot read the tasks file gone.toml", 4),
        ("mail_send", json!({ "to": "ada", "body": "hello" }), "nothing has been run yet", 1),
        ("init", json!({}), "aedile.toml exists already", 4),
        ("logs", json!({ "agent": "ada" }), "nothing has been run yet", 1),
    ] {
        let answer = client.call(tool, arguments);
        let (said, error) = (answer["content"][0]["text"].as_str().unwrap(), &answer["structuredContent"]);
        assert!(answer["isError"] == true && said.contains(part) && error["exit_code"] == code, "{part}: {answer}");
    }
    let hinted = client.call("run", json!({ "tasks": "gone.toml" }));
    assert!(hinted["content"][0]["text"].as_str().unwrap().contains("hint: "), "{hinted}");
    assert!(client.call("doctor", json!({}))["structuredContent"].is_object(), "it still answers");
    client.leave();
}

#[test]
fn what_a_client_started_is_saved_when_it_cancels_or_is_gone() {
    let scenario = Scenario::new();
    let turns = [turn(None, &[hold("one")]), turn(Some("interrupted"), &[hold("one")]), done("one")];
    scenario.tasks(&format!("goal = \"Parts\"\n{}", task("one", "", &turns)));
    let mut client = Client::start(&scenario);
    let started = client.call("run", json!({ "tasks": "../tasks.toml", "wait": false }));
    assert_eq!(started["structuredContent"]["under_way"], true, "{started}");
    scenario.held("one");
    // Another client looks at it meanwhile, and cannot drive it too.
    let mut second = Client::start(&scenario);
    let status = second.call("status", json!({}))["structuredContent"].take();
    assert_eq!(
        (&status["runs"][0]["state"], &status["runs"][0]["run"]),
        (&json!("running"), &started["structuredContent"]["run"]),
        "{status}"
    );
    let held = second.call("run", json!({ "resume": true }));
    assert!(held["isError"] == true && held["content"][0]["text"].as_str().unwrap().contains("is driven by"), "{held}");
    second.leave();
    client.leave();
    scenario.env.assert_nothing_left();
    let stopped = scenario.run(&["status", "--json"]).last_json();
    assert_eq!(stopped["runs"][0]["state"], "stopped", "{stopped}");

    // Killed without a word, its run stops too, at the end of the turn.
    let mut client = Client::start(&scenario);
    client.ask("tools/call", json!({ "name": "run", "arguments": { "resume": true } }));
    let go = scenario.held("one");
    client.child.kill().unwrap();
    client.child.wait().unwrap();
    wait_for("the request to stop", LIMIT, || (scenario.events_of("run_stop_requested").len() > 1).then_some(()));
    std::fs::write(go, "").unwrap();
    scenario.env.assert_nothing_left();

    // The next one finishes the work.
    let mut client = Client::start(&scenario);
    let finished = client.call("run", json!({ "resume": true }));
    assert_eq!(finished["structuredContent"]["landed"], 1, "{finished}");
    client.leave();
    assert_eq!(scenario.landed("aedile/main"), ["one"]);
}

#[test]
fn a_cancelled_call_stops_its_run() {
    let scenario = Scenario::new();
    scenario.tasks(&format!("goal = \"Parts\"\n{}", task("one", "", &[turn(None, &[hold("one")]), done("one")])));
    let mut client = Client::start(&scenario);
    let id = client.ask("tools/call", json!({ "name": "run", "arguments": { "tasks": "../tasks.toml" } }));
    let go = scenario.held("one");
    let cancelled = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id, "reason": "enough" } });
    client.send(&cancelled.to_string());
    wait_for("the request to stop", LIMIT, || (!scenario.events_of("run_stop_requested").is_empty()).then_some(()));
    std::fs::write(go, "").unwrap();
    wait_for("the stop", LIMIT, || {
        let status = client.call("status", json!({}))["structuredContent"].take();
        (status["runs"][0]["state"] == "stopped").then_some(())
    });
    client.leave();
    scenario.env.assert_nothing_left();
}

#[test]
fn the_official_client_drives_it() {
    #[expect(clippy::disallowed_methods, reason = "a test is told where the SDK is installed")]
    let python = std::env::var_os("AEDILE_SDK_PYTHON");
    let missing = python.is_none().then_some("AEDILE_SDK_PYTHON names no Python with the official SDK (see .ci/run)");
    if !require("the_official_client_drives_it", missing) {
        return;
    }
    let mut scenario = Scenario::new();
    scenario.tasks(&format!("goal = \"Parts\"\n{}{}", task("one", "", &[done("one")]), task("two", "\"one\"", &[done("two")])));
    let alone = |name: &str| {
        let write = Step::tool("write", json!({ "path": format!("parts/{name}.txt"), "content": "ok\n" }));
        Conversation::about(&format!("Write part {name}")).step(write).step(Step::tool("submit", json!({ "summary": "Write it" })))
    };
    let server = ScriptedServer::start(vec![alone("three").afterwards(Step::text("Done.")), alone("four").afterwards(Step::text("Done."))]);
    scenario.env.var("AEDILE_ANTHROPIC_BASE_URL", server.url());
    let command = scenario.command(&["mcp"]);
    let text = |value: &std::ffi::OsStr| value.to_string_lossy().into_owned();
    let env: serde_json::Map<String, Value> =
        command.get_envs().filter_map(|(name, value)| Some((text(name), json!(text(value?))))).collect();
    let start = json!({ "command": text(command.get_program()), "args": command.get_args().map(text).collect::<Vec<_>>(), "env": env, "cwd": "/", "root": scenario.repo.path(), "model": "anthropic/claude-sonnet-4-5" });
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp_client.py");
    let said =
        super::output_of(&python.unwrap().to_string_lossy(), &[&script.to_string_lossy(), &start.to_string()], std::path::Path::new("/"));
    assert!(said.contains("all good"), "{said}");
    assert_eq!(scenario.landed("aedile/main"), ["one", "two"]);
    assert_eq!(scenario.parts("three"), [("parts/three.txt".to_owned(), "ok\n".to_owned())]);
    assert_eq!(scenario.repo.read("parts/four.txt"), "ok\n");
    assert_eq!(server.failures(), Vec::<String>::new());
    drop(server);
    scenario.env.assert_nothing_left();
}
