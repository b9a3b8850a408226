//! Our server against a client that is played by hand.

use std::sync::Arc;

use aedile_runtimes::serve_acp;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;

use crate::fake::{ByHand, FakeAgent, soon};

fn serve() -> ByHand {
    let (stdin, to_stdin) = std::io::pipe().unwrap();
    let (from_stdout, stdout) = std::io::pipe().unwrap();
    let (stdin, stdout) = (pipe::Receiver::from_owned_fd(stdin.into()).unwrap(), pipe::Sender::from_owned_fd(stdout.into()).unwrap());
    tokio::spawn(serve_acp(Arc::new(FakeAgent::default()), stdin, stdout));
    ByHand::new(from_stdout, to_stdin)
}

/// Lines as clients in use send them, with fields that we do not know.
#[tokio::test]
async fn a_conversation_of_real_lines() {
    let mut client = serve();
    client.say(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":1,"clientCapabilities":{"fs":{"readTextFile":true,"writeTextFile":true},"terminal":true,"_meta":{"terminal_output":true}},"clientInfo":{"name":"zed","title":"Zed","version":"0.210"}}}"#).await;
    let hello = client.hear().await;
    assert_eq!((&hello["id"], &hello["result"]["protocolVersion"]), (&json!(0), &json!(1)));
    assert_eq!(hello["result"]["agentCapabilities"]["loadSession"], true);
    client.say(r#"{"jsonrpc":"2.0","id":"b","method":"session/new","params":{"cwd":"/tmp","mcpServers":[{"name":"x","command":"y","args":[],"env":[]}]}}"#).await;
    let opened = client.hear().await;
    assert_eq!((&opened["id"], &opened["result"]["sessionId"]), (&json!("b"), &json!("session-1")));
    assert_eq!(opened["result"]["modes"]["currentModeId"], "default");
    assert_eq!(opened["result"]["modes"]["availableModes"][1], json!({"id": "plan", "name": "plan", "description": "The mode plan"}));
    client.say(r#"{"jsonrpc":"2.0","id":2,"method":"session/prompt","params":{"sessionId":"session-1","prompt":[{"type":"text","text":"limit"}]}}"#).await;
    let end = client.hear().await;
    assert_eq!(end["result"], json!({"stopReason": "max_turn_requests", "_meta": {"detail": "the same call was made 5 times"}}));
    client.say(r#"{"jsonrpc":"2.0","id":3,"method":"session/prompt","params":{"sessionId":"session-1","prompt":[{"type":"text","text":"do"},{"type":"resource_link","uri":"file:///a","name":"a"}]}}"#).await;
    let first = client.hear().await;
    assert_eq!(first["params"]["update"], json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "step 0\n"}}));
}

#[tokio::test]
async fn a_cancel_arrives_during_the_turn() {
    let mut client = serve();
    client.say(json!({"jsonrpc": "2.0", "id": 1, "method": "session/new", "params": {"cwd": "/", "mcpServers": []}})).await;
    client.hear().await;
    let prompt = json!({"sessionId": "session-1", "prompt": [{"type": "text", "text": "wait"}]});
    client.say(json!({"jsonrpc": "2.0", "id": 2, "method": "session/prompt", "params": prompt})).await;
    assert_eq!(client.hear().await["method"], "session/update");
    client.say(json!({"jsonrpc": "2.0", "method": "session/cancel", "params": {"sessionId": "session-1"}})).await;
    assert_eq!(client.hear().await["result"], json!({"stopReason": "cancelled"}));
}

#[tokio::test]
async fn what_is_wrong_is_answered_with_an_error() {
    let mut client = serve();
    let image = json!({"sessionId": "session-1", "prompt": [{"type": "image", "data": "", "mimeType": "image/png"}]});
    for (line, code, id) in [
        ("not json".to_owned(), -32700, json!(null)),
        ("{\"jsonrpc\":\"2.0\"}".to_owned(), -32700, json!(null)),
        (json!({"jsonrpc": "2.0", "id": 1, "method": "session/nonsense", "params": {}}).to_string(), -32601, json!(1)),
        (json!({"jsonrpc": "2.0", "id": 2, "method": "session/new", "params": {"cwd": 7}}).to_string(), -32602, json!(2)),
        (json!({"jsonrpc": "2.0", "id": 3, "method": "session/new"}).to_string(), -32602, json!(3)),
        (
            json!({"jsonrpc": "2.0", "id": 4, "method": "session/load", "params": {"cwd": "/", "sessionId": "no"}}).to_string(),
            -32603,
            json!(4),
        ),
        (json!({"jsonrpc": "2.0", "id": 5, "method": "session/prompt", "params": image}).to_string(), -32602, json!(5)),
    ] {
        client.say(line.clone()).await;
        let answer = client.hear().await;
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(code), &id), "{line}: {answer}");
    }
}

#[tokio::test]
async fn a_line_that_is_too_long_is_refused_and_the_next_one_works() {
    let mut client = serve();
    let piece = vec![b' '; 1 << 20];
    for _ in 0..17 {
        soon(client.stdout.write_all(&piece)).await.unwrap();
    }
    client.say("").await;
    assert_eq!(client.hear().await["error"]["code"], -32600);
    client.say(json!({"jsonrpc": "2.0", "id": 1, "method": "session/new", "params": {"cwd": "/", "mcpServers": []}})).await;
    assert_eq!(client.hear().await["id"], 1);
}

async fn open(client: &mut ByHand, capabilities: serde_json::Value) {
    let hello = json!({"protocolVersion": 1, "clientCapabilities": capabilities});
    client.say(json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello})).await;
    client.hear().await;
    client.say(json!({"jsonrpc": "2.0", "id": 1, "method": "session/new", "params": {"cwd": "/", "mcpServers": []}})).await;
    client.hear().await;
}

async fn ask(client: &mut ByHand, id: i64) {
    let prompt = json!({"sessionId": "session-1", "prompt": [{"type": "text", "text": "ask"}]});
    client.say(json!({"jsonrpc": "2.0", "id": id, "method": "session/prompt", "params": prompt})).await;
}

#[tokio::test]
async fn the_client_is_asked_and_its_answer_arrives() {
    let mut client = serve();
    open(&mut client, json!({"fs": {}})).await;
    let answers = [
        (json!({"outcome": {"outcome": "selected", "optionId": "once"}}), "Once"),
        (json!({"outcome": {"outcome": "selected", "optionId": "always"}}), "Always"),
        (json!({"outcome": {"outcome": "selected", "optionId": "reject"}}), "Rejected"),
        (json!({"outcome": {"outcome": "cancelled"}}), "Unanswered"),
        (json!({"nonsense": 1}), "Unanswered"),
    ];
    for (number, (answer, wanted)) in (10..).zip(answers) {
        ask(&mut client, number).await;
        let (id, params) = client.expect("session/request_permission").await;
        assert_eq!(params["toolCall"]["rawInput"], json!({"command": "ls"}));
        let kinds: Vec<&str> = params["options"].as_array().unwrap().iter().map(|option| option["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["allow_once", "allow_always", "reject_once"]);
        let question: agent_client_protocol_schema::v1::RequestPermissionRequest = serde_json::from_value(params).unwrap();
        assert_eq!(question.options.len(), 3);
        // An answer to nothing is passed over.
        client.answer(&json!(4711), json!({})).await;
        client.answer(&id, answer).await;
        assert_eq!(client.hear().await["result"]["_meta"]["detail"], wanted);
    }
}

#[tokio::test]
async fn a_client_without_a_person_is_not_asked_and_modes_are_checked() {
    let mut client = serve();
    open(&mut client, json!({"_meta": {"aedile": {"unattended": true}}})).await;
    ask(&mut client, 2).await;
    assert_eq!(client.hear().await["result"]["_meta"]["detail"], "nobody to ask");
    let set = json!({"sessionId": "session-1", "modeId": "plan"});
    client.say(json!({"jsonrpc": "2.0", "id": 3, "method": "session/set_mode", "params": set})).await;
    assert_eq!(client.hear().await["error"]["code"], -32602);
}

#[tokio::test]
async fn forks_models_and_schemas_reach_the_agent() {
    let mut client = serve();
    open(&mut client, json!({})).await;
    client.say(json!({"jsonrpc": "2.0", "id": 2, "method": "session/fork", "params": {"sessionId": "session-1", "cwd": "/", "mcpServers": []}})).await;
    assert_eq!(client.hear().await["result"]["sessionId"], "session-2");
    for (model, code) in [("script/other", json!(null)), ("script/none", json!(-32602))] {
        let set = json!({"sessionId": "session-1", "modelId": model});
        client.say(json!({"jsonrpc": "2.0", "id": 3, "method": "session/set_model", "params": set})).await;
        assert_eq!(client.hear().await["error"]["code"], code, "{model}");
    }
    let meta = json!({"aedile": {"outputSchema": {"type": "object"}}});
    let prompt = json!({"sessionId": "session-1", "prompt": [{"type": "text", "text": "count"}], "_meta": meta});
    client.say(json!({"jsonrpc": "2.0", "id": 4, "method": "session/prompt", "params": prompt})).await;
    let update = &client.hear().await["params"]["update"];
    assert_eq!(update["content"]["text"], json!({"asked": "count", "by": {"type": "object"}}).to_string());
    assert_eq!(update["_meta"]["aedile"]["output"], true);
}

#[tokio::test]
async fn a_cancel_right_behind_the_prompt_ends_its_turn() {
    let mut client = serve();
    open(&mut client, json!({})).await;
    for id in 2..12 {
        let prompt = json!({"sessionId": "session-1", "prompt": [{"type": "text", "text": "wait"}]});
        let prompt = json!({"jsonrpc": "2.0", "id": id, "method": "session/prompt", "params": prompt});
        let cancel = json!({"jsonrpc": "2.0", "method": "session/cancel", "params": {"sessionId": "session-1"}});
        client.say(format!("{prompt}\n{cancel}")).await;
        assert_eq!(client.hear().await["method"], "session/update");
        assert_eq!(client.hear().await["result"], json!({"stopReason": "cancelled"}));
    }
}

#[tokio::test]
async fn a_client_that_reads_late_misses_pieces_of_text_and_nothing_else() {
    let mut client = serve();
    open(&mut client, json!({})).await;
    let meta = json!({"aedile": {"outputSchema": {"type": "object"}}});
    let prompt = json!({"sessionId": "session-1", "prompt": [{"type": "text", "text": "flood"}], "_meta": meta});
    client.say(json!({"jsonrpc": "2.0", "id": 4, "method": "session/prompt", "params": prompt})).await;
    let (mut kinds, mut texts) = (Vec::new(), 0);
    let answer = loop {
        let mut heard = client.hear().await;
        if heard["id"] == 4 {
            break heard["result"].take();
        }
        let update = heard["params"]["update"].take();
        match update["sessionUpdate"].as_str().unwrap() {
            "agent_message_chunk" if update["_meta"].is_null() => texts += 1,
            kind => kinds.push(kind.to_owned()),
        }
    };
    assert!((1..10_000).contains(&texts), "{texts}");
    assert_eq!(kinds, ["agent_thought_chunk", "tool_call", "tool_call_update"]);
    assert_eq!(answer["_meta"]["aedile"]["output"]["asked"], "flood");
}
