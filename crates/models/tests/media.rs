//! Pictures, documents, structured output and conversations that change their model, in every format's own words.

use aedile_core::model::{Block, Media, Message, Role};
use aedile_testkit::{Conversation, ScriptedServer, Step, WireFormat};
use serde_json::{Value, json};

use crate::support::{ask, request};

fn picture() -> Media {
    Media::new("image/png", b"\x89PNG picture", None)
}

fn document() -> Media {
    Media::new("application/pdf", b"%PDF-1.4 << /Type /Page >>", Some("plan.pdf".to_owned()))
}

/// A person shows a picture and a document, then a tool shows a picture.
fn conversation() -> Vec<Message> {
    let shown = vec![Block::text("look"), Block::Media { media: picture() }, Block::Media { media: document() }];
    let call = Block::ToolUse { id: "c1".into(), name: "read".into(), input: json!({"path": "a.png"}), extra: serde_json::Map::new() };
    let result = Block::ToolResult { id: "c1".into(), content: "a.png".into(), is_error: false, media: vec![picture()] };
    vec![Message::new(Role::User, shown), Message::new(Role::Assistant, vec![call]), Message::new(Role::User, vec![result])]
}

/// The body that a format sends for a request.
async fn sent(format: WireFormat, change: impl FnOnce(&mut aedile_core::model::ModelRequest)) -> Value {
    let server = ScriptedServer::start(vec![Conversation::any().step(Step::text("seen"))]);
    let mut request = request("look");
    change(&mut request);
    ask(format, &server, &request).await.0.unwrap();
    server.finish().remove(0).body
}

#[tokio::test]
async fn pictures_and_documents_of_people_and_tools_are_shown() {
    let (png, pdf) = (picture().data, document().data);
    let body = sent(WireFormat::Anthropic, |request| request.messages = conversation()).await;
    let source = |kind: &str, data: &str| json!({"type": "base64", "media_type": kind, "data": data});
    let image = json!({"type": "image", "source": source("image/png", &png)});
    let mut marked = json!({"type": "document", "source": source("application/pdf", &pdf), "title": "plan.pdf"});
    marked["cache_control"] = json!({"type": "ephemeral"});
    assert_eq!(body["messages"][0]["content"], json!([{"type": "text", "text": "look"}, image, marked]));
    assert_eq!(body["messages"][2]["content"][0]["content"], json!([{"type": "text", "text": "a.png"}, image]));
    assert_eq!(body["messages"][2]["content"][0]["cache_control"], json!({"type": "ephemeral"}));

    let body = sent(WireFormat::OpenAi, |request| request.messages = conversation()).await;
    let image = json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{png}")}});
    let file = json!({"type": "file", "file": {"filename": "plan.pdf", "file_data": format!("data:application/pdf;base64,{pdf}")}});
    assert_eq!(body["messages"][1]["content"], json!([{"type": "text", "text": "look"}, image, file]));
    assert_eq!(body["messages"][3], json!({"role": "tool", "tool_call_id": "c1", "content": "a.png"}));
    assert_eq!(body["messages"][4]["content"], json!([{"type": "text", "text": "Shown by the tool call c1:"}, image]));

    let body = sent(WireFormat::Responses, |request| request.messages = conversation()).await;
    let image = json!({"type": "input_image", "detail": "auto", "image_url": format!("data:image/png;base64,{png}")});
    let file = json!({"type": "input_file", "filename": "plan.pdf", "file_data": format!("data:application/pdf;base64,{pdf}")});
    assert_eq!(body["input"][0]["content"], json!([{"type": "input_text", "text": "look"}, image, file]));
    assert_eq!(body["input"][2]["output"], json!([{"type": "input_text", "text": "a.png"}, image]));

    let body = sent(WireFormat::Gemini, |request| request.messages = conversation()).await;
    let inline = |kind: &str, data: &str| json!({"inlineData": {"mimeType": kind, "data": data}});
    let (image, file) = (inline("image/png", &png), inline("application/pdf", &pdf));
    assert_eq!(body["contents"][0]["parts"], json!([{"text": "look"}, image, file]));
    let answer = json!({"functionResponse": {"id": "c1", "name": "read", "response": {"output": "a.png"}}});
    assert_eq!(body["contents"][2]["parts"], json!([answer, image]));

    let body = sent(WireFormat::Ollama, |request| request.messages = conversation()).await;
    let said = "look\n[plan.pdf: this model cannot be shown PDF documents]";
    assert_eq!(body["messages"][1], json!({"role": "user", "content": said, "images": [png]}));
    let answer = json!({"role": "tool", "tool_name": "read", "tool_call_id": "c1", "content": "a.png", "images": [png]});
    assert_eq!(body["messages"][3], answer);
}

#[tokio::test]
async fn a_schema_for_the_answer_is_asked_for_in_each_formats_own_way() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]});
    let body = sent(WireFormat::Anthropic, |request| request.output_schema = Some(schema.clone())).await;
    let n = json!({"type": "integer", "description": "(minimum: 1)"});
    let closed = |n: Value| json!({"type": "object", "properties": {"n": n}, "required": ["n"], "additionalProperties": false});
    assert_eq!(body["output_config"], json!({"format": {"type": "json_schema", "schema": closed(n)}}));
    let body = sent(WireFormat::OpenAi, |request| request.output_schema = Some(schema.clone())).await;
    let named = json!({"name": "answer", "schema": closed(json!({"type": "integer", "minimum": 1})), "strict": true});
    assert_eq!(body["response_format"], json!({"type": "json_schema", "json_schema": named.clone()}));
    let body = sent(WireFormat::Responses, |request| request.output_schema = Some(schema.clone())).await;
    let mut format = named.clone();
    format["type"] = json!("json_schema");
    assert_eq!(body["text"], json!({"format": format}));
    let body = sent(WireFormat::Gemini, |request| request.output_schema = Some(schema.clone())).await;
    assert_eq!(
        (&body["generationConfig"]["responseMimeType"], &body["generationConfig"]["responseJsonSchema"]),
        (&json!("application/json"), &schema)
    );
    let body = sent(WireFormat::Ollama, |request| request.output_schema = Some(schema.clone())).await;
    assert_eq!(body["format"], schema);
}

#[tokio::test]
async fn thinking_goes_back_to_its_own_format_and_not_to_another() {
    let thinking = json!({"type": "thinking", "thinking": "hm", "signature": "c2ln"});
    let mut said = Message::new(Role::Assistant, vec![Block::Other { value: thinking.clone() }, Block::text("Let me see.")]);
    said.extra.insert("reasoning_content".to_owned(), json!("hm"));
    for (format, origin, kept) in [
        (WireFormat::Anthropic, "anthropic/claude-x", true),
        (WireFormat::Anthropic, "openai-chat/gpt-x", false),
        (WireFormat::OpenAi, "openai-chat/gpt-x", true),
        (WireFormat::OpenAi, "anthropic/claude-x", false),
    ] {
        said.origin = Some(origin.to_owned());
        let talk = vec![Message::user("hi"), said.clone(), Message::user("go on")];
        let body = sent(format, |request| request.messages = talk).await;
        let text = body["messages"].to_string();
        assert_eq!((text.contains("c2ln"), text.contains("reasoning_content")), (kept, kept), "{format:?} {origin}");
        assert!(text.contains("Let me see."));
    }
}

#[tokio::test]
async fn an_answer_says_whose_it_is() {
    for format in WireFormat::ALL {
        let origin = format!("{}/test-model", crate::support::api(format).name());
        let server = ScriptedServer::start(vec![Conversation::any().step(Step::text("seen"))]);
        let answer = ask(format, &server, &request("hi")).await.0.unwrap();
        assert_eq!(answer.message.origin, Some(origin));
    }
}

#[tokio::test]
async fn without_a_system_prompt_the_tools_are_marked_and_the_turn_before_stays_cached() {
    let talk = vec![Message::user("one"), Message::new(Role::Assistant, vec![Block::text("two")]), Message::user("three")];
    let body = sent(WireFormat::Anthropic, |request| {
        request.system.clear();
        request.messages = talk;
    })
    .await;
    let mark = json!({"type": "ephemeral"});
    assert_eq!(body["tools"][0]["cache_control"], mark);
    assert_eq!((&body["messages"][0]["content"][0]["cache_control"], &body["messages"][2]["content"][0]["cache_control"]), (&mark, &mark));
    assert_eq!(body.to_string().matches("cache_control").count(), 3);
}
