//! A model on loopback that has a file written and a command run, in Anthropic's format, and notes when it was first asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use aedile_core::model::ModelRef;
use aedile_models::grant::{GRANT_PATH, Told};
use serde_json::{Value, json};

/// What was asked so far. Requests without tools are titles and probes, and do not count.
#[derive(Default)]
struct Seen {
    first: Option<Instant>,
    turns: usize,
}

/// The server; its thread ends with the process.
pub(crate) struct FakeModel {
    url: String,
    seen: Arc<Mutex<Seen>>,
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeModel {
    /// Starts to listen.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let told = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&told);
                // A client that goes away in the middle is its own affair.
                std::thread::spawn(move || serve(stream, &seen).unwrap_or_default());
            }
        });
        Ok(Self { url, seen })
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// When the first request with tools had arrived.
    pub(crate) fn first(&self) -> Option<Instant> {
        lock(&self.seen).first
    }

    /// How many requests with tools there were.
    pub(crate) fn turns(&self) -> usize {
        lock(&self.seen).turns
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Seen>) -> anyhow::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let header = line.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (kind, answer) = answer(&path, &body, seen);
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}", answer.len())?;
    Ok(())
}

fn answer(path: &str, body: &Value, seen: &Mutex<Seen>) -> (&'static str, String) {
    if path.ends_with("/call") {
        let refused = aedile_core::agent_api::AgentReply::Refused { message: "there is no task".to_owned() };
        return ("application/json", serde_json::to_string(&refused).unwrap_or_default());
    }
    if path == GRANT_PATH {
        return ("application/json", json!(granted()).to_string());
    }
    let offers: Vec<&str> = body["tools"].as_array().into_iter().flatten().filter_map(|tool| tool["name"].as_str()).collect();
    let block = if offers.is_empty() {
        json!({"type": "text", "text": "ok"})
    } else {
        let mut seen = lock(seen);
        seen.first.get_or_insert_with(Instant::now);
        seen.turns += 1;
        block(seen.turns, offers.contains(&"Write"))
    };
    if body["stream"] == true {
        return ("text/event-stream", stream_of(&block));
    }
    ("application/json", message(&block).to_string())
}

/// The model that a door would name.
fn granted() -> Told {
    let model = ModelRef { provider: "anthropic".to_owned(), model: "bench".to_owned() };
    let (context_tokens, max_output_tokens) = (200_000, 32_000);
    let (images, pdf, thinking, structured_output) = (false, false, false, false);
    Told {
        model,
        format: "anthropic".to_owned(),
        context_tokens,
        max_output_tokens,
        images,
        pdf,
        thinking,
        structured_output,
        others: Vec::new(),
    }
}

/// What the model does in its turn: a file, a command, a word.
fn block(turn: usize, theirs: bool) -> Value {
    match (turn, theirs) {
        (1, true) => json!({"type": "tool_use", "id": "toolu_1", "name": "Write", "input": {"file_path": "made.txt", "content": "made\n"}}),
        (1, false) => json!({"type": "tool_use", "id": "toolu_1", "name": "write", "input": {"path": "made.txt", "content": "made\n"}}),
        (2, theirs) => {
            let name = if theirs { "Bash" } else { "bash" };
            let input = json!({"command": "echo made > made.txt && cat made.txt", "description": "Shows the file"});
            json!({"type": "tool_use", "id": "toolu_2", "name": name, "input": input})
        }
        _ => json!({"type": "text", "text": "Done."}),
    }
}

fn message(block: &Value) -> Value {
    let stop = if block["type"] == "tool_use" { "tool_use" } else { "end_turn" };
    let usage = json!({"input_tokens": 1000, "output_tokens": 50, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0});
    json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "bench", "content": [block], "stop_reason": stop,
        "stop_sequence": null, "usage": usage})
}

fn stream_of(block: &Value) -> String {
    let whole = message(block);
    let mut begun = whole.clone();
    begun["content"] = json!([]);
    begun["stop_reason"] = Value::Null;
    let (empty, delta) = if block["type"] == "tool_use" {
        let mut empty = block.clone();
        empty["input"] = json!({});
        (empty, json!({"type": "input_json_delta", "partial_json": block["input"].to_string()}))
    } else {
        (json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": block["text"]}))
    };
    let events = [
        json!({"type": "message_start", "message": begun}),
        json!({"type": "content_block_start", "index": 0, "content_block": empty}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": whole["stop_reason"], "stop_sequence": null}, "usage": whole["usage"]}),
        json!({"type": "message_stop"}),
    ];
    events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default())).collect()
}
