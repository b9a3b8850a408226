use aedile_core::model::{Block, Message, ModelDelta, ModelProvider, ModelRequest, ModelResponse, ModelStop, Role};
use aedile_models::script::SCRIPT_CLOSING;
use aedile_models::{ApiFormat, ModelBody, Script, ScriptModel, anthropic, gemini, ollama, openai, responses};
use aedile_testkit::{Conversation, ScriptedServer, Step, WireFormat};
use serde_json::{Value, json};

use crate::support::{ALL, api, ask, plain, request};

fn script(value: Value) -> Script {
    Script::parse(&value).unwrap()
}

/// What was said, and the inputs of the calls.
fn said(response: &ModelResponse) -> String {
    let block = |block: &Block| match block {
        Block::Text { text, .. } => text.clone(),
        Block::ToolUse { input, .. } => input.to_string(),
        other => panic!("{other:?}"),
    };
    response.message.content.iter().map(block).collect::<Vec<_>>().join("+")
}

fn tool_result(response: &ModelResponse, text: &str) -> Message {
    let id = response.message.content.iter().find_map(|block| match block {
        Block::ToolUse { id, .. } => Some(id.clone()),
        _ => None,
    });
    let block = id.map_or_else(|| Block::text(text), |id| Block::tool_result(id, text, false));
    Message::new(Role::User, vec![block])
}

/// Plays a conversation: the answers to the prompt and to each further text.
fn talk(script: &Script, prompt: &str, texts: &[&str]) -> Vec<String> {
    let mut request = request(prompt);
    let mut answers = Vec::new();
    for text in texts.iter().map(Some).chain([None]) {
        let response = script.play(&request).response;
        answers.push(said(&response));
        if let Some(text) = text {
            let result = tool_result(&response, text);
            request.messages.extend([response.message, result]);
        }
    }
    answers
}

fn tool(name: &str) -> Value {
    json!({"tools": [{"name": "bash", "input": {"c": name}}]})
}

fn when(when: &str, name: &str) -> Value {
    let mut turn = tool(name);
    turn["when"] = json!(when);
    turn
}

#[test]
fn turns_come_in_order_and_then_it_closes() {
    let script = script(json!(["one", tool("two"), {"text": "three", "tools": [{"name": "a"}, {"name": "b", "input": {}}]}]));
    assert_eq!(talk(&script, "go", &["x", "y", "z", "z"]), ["one", r#"{"c":"two"}"#, "three+{}+{}", SCRIPT_CLOSING, SCRIPT_CLOSING]);
}

#[test]
fn a_branch_is_taken_only_on_its_evidence() {
    let script = script(json!([tool("test"), when("FAILED", "repair"), when("error", "other"), "done"]));
    assert_eq!(talk(&script, "go", &["1 FAILED", "ok"]), [r#"{"c":"test"}"#, r#"{"c":"repair"}"#, "done"]);
    assert_eq!(talk(&script, "go", &["all ok", "ok"]), [r#"{"c":"test"}"#, "done", SCRIPT_CLOSING]);
    assert_eq!(talk(&script, "FAILED", &["error", "ok"]), [r#"{"c":"test"}"#, r#"{"c":"other"}"#, "done"], "old evidence does not count");
}

#[test]
fn closing_waits_for_evidence_that_comes_later() {
    let script = script(json!([tool("submit"), when("gate test failed", "repair"), when("conflict", "resolve")]));
    let answers = talk(&script, "go", &["submitted", "please submit", "gate test failed: 1", "conflict in a.rs"]);
    assert_eq!(answers, [r#"{"c":"submit"}"#, SCRIPT_CLOSING, SCRIPT_CLOSING, r#"{"c":"repair"}"#, r#"{"c":"resolve"}"#]);
}

#[test]
fn a_conversation_whose_beginning_was_dropped_goes_on() {
    let script = script(json!([tool("a"), tool("b"), "c", tool("d")]));
    let mut whole = request("go");
    for text in ["1", "2", "3"] {
        let response = script.play(&whole).response;
        let result = tool_result(&response, text);
        whole.messages.extend([response.message, result]);
    }
    let mut short = whole.clone();
    short.messages.splice(0..3, [Message::user("summary of what was before")]);
    assert_eq!(said(&script.play(&short).response), said(&script.play(&whole).response));
    assert_eq!(said(&script.play(&short).response), r#"{"c":"d"}"#);
}

#[test]
fn a_request_without_tools_does_not_get_calls() {
    let script = script(json!([tool("a"), "b"]));
    let mut title = request("make a title");
    title.tools.clear();
    assert_eq!(said(&script.play(&title).response), SCRIPT_CLOSING);
    assert_eq!(said(&script.play(&request("go")).response), r#"{"c":"a"}"#);
}

#[test]
fn mistakes_are_named_by_their_place() {
    let cases = [
        (json!({}), "script: must be an array"),
        (json!(["a", 3]), "script[1]: must be a text or an object"),
        (json!([""]), "script[0]: must not be empty"),
        (json!([{"when": "x"}]), "script[0]: must have `text`, `tools` or `shell`"),
        (json!([{"txt": "x"}]), "script[0].txt: is not known"),
        (json!([{"text": 1}]), "script[0].text: must be a text"),
        (json!([{"text": "x", "wait_ms": -1}]), "script[0].wait_ms: must be a whole number"),
        (json!([{"tools": {}}]), "script[0].tools: must be an array"),
        (json!([{"tools": [{"name": ""}]}]), "script[0].tools[0].name: must be"),
        (json!([{"tools": [{"name": "a", "input": []}]}]), "script[0].tools[0].input: must be an object"),
        (json!([{"tools": [{"name": "a", "args": {}}]}]), "script[0].tools[0].args: is not known"),
    ];
    for (value, expected) in cases {
        let error = Script::parse(&value).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[tokio::test]
async fn as_a_provider_it_streams_and_waits() {
    let script = script(json!([{"text": "hm", "tools": [{"name": "read", "input": {"path": "a"}}], "wait_ms": 50}]));
    let before = std::time::Instant::now();
    let mut deltas = Vec::new();
    let response = ScriptModel::new(script).stream(&request("go"), &mut |delta: ModelDelta| deltas.push(delta)).await.unwrap();
    assert!(before.elapsed().as_millis() >= 50);
    assert_eq!(deltas, [ModelDelta::Text("hm".to_owned()), ModelDelta::ToolStarted { name: "read".to_owned() }]);
    assert_eq!(response.stop, ModelStop::ToolUse);
    let usage = response.usage.unwrap();
    assert!(usage.input_tokens > 20 && usage.output_tokens > 5);
}

fn wire(format: ApiFormat, request: &ModelRequest, stream: bool) -> ModelBody {
    let body = match format {
        ApiFormat::Anthropic => anthropic::request_to_wire(request, stream),
        ApiFormat::OpenAi => openai::request_to_wire(request, stream),
        ApiFormat::Responses => responses::request_to_wire(request, stream),
        ApiFormat::Ollama => ollama::request_to_wire(request, stream),
        ApiFormat::Gemini => {
            let body = gemini::request_to_wire(request);
            return ModelBody::parse_gemini(&request.model, stream, body.to_string().as_bytes()).unwrap();
        }
    };
    ModelBody::parse(format, body.to_string().as_bytes()).unwrap()
}

/// The answer as the format's own provider reads it.
async fn read_back(format: WireFormat, script: &Script, request: &ModelRequest, stream: bool) -> ModelResponse {
    let answer = script.answer(&wire(api(format), request, stream)).unwrap();
    let body = String::from_utf8(answer.chunks.concat()).unwrap();
    let server = ScriptedServer::start(vec![Conversation::any().step(Step::raw(answer.content_type, &body))]);
    let read = ask(format, &server, request).await.0.unwrap();
    assert_eq!(read.usage, Some(answer.usage), "{format:?}");
    read
}

#[tokio::test]
async fn on_the_wire_it_plays_the_same_turns() {
    let script = script(json!([tool("test"), when("FAILED", "repair"), "done"]));
    for format in ALL {
        let mut typed = request("go");
        for text in ["1 FAILED", "ok", "more"] {
            let expected = script.play(&typed).response;
            let read = read_back(format, &script, &typed, false).await;
            assert_eq!((plain(&read.message), &read.stop), (expected.message.content.clone(), &expected.stop), "{format:?}");
            let result = tool_result(&expected, text);
            typed.messages.extend([read.message, result]);
        }
    }
}

#[tokio::test]
async fn its_streams_are_understood_by_the_providers() {
    let script =
        script(json!([{"text": "Ünï ".repeat(30), "tools": [{"name": "read", "input": {"path": "a".repeat(90)}}, {"name": "list"}]}]));
    for format in ALL {
        let asked = request("go");
        assert!(script.answer(&wire(api(format), &asked, true)).unwrap().chunks.len() > 5);
        let streamed = read_back(format, &script, &asked, true).await;
        assert_eq!(plain(&streamed.message), script.play(&asked).response.message.content, "{format:?}");
        assert_eq!(streamed.stop, ModelStop::ToolUse);
    }
}
