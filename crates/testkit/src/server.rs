//! A model server on loopback that plays written steps and checks what it is asked.
//!
//! Steps belong to a [`Conversation`], which is chosen by a predicate on the request, so that several agents can be served
//! at once. A step checks its request, then answers. What does not fit is answered with status 500 and an explanation
//! and reported by [`ScriptedServer::finish`] (or at drop).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;

use crate::server_answer::Answer;
use crate::server_http;

/// A wire format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WireFormat {
    /// `POST /v1/messages`.
    Anthropic,
    /// `POST /v1/chat/completions`.
    OpenAi,
    /// `POST /v1/responses`.
    Responses,
    /// `POST /v1beta/models/MODEL:generateContent` and `:streamGenerateContent?alt=sse`.
    Gemini,
    /// `POST /api/chat`.
    Ollama,
}

impl WireFormat {
    /// Every format.
    pub const ALL: [Self; 5] = [Self::Anthropic, Self::OpenAi, Self::Responses, Self::Gemini, Self::Ollama];
}

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub struct SeenRequest {
    /// The method, for example `POST`.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// What stands behind the `?`.
    pub query: String,
    /// Header names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body; `Null` when it was not JSON.
    pub body: Value,
    /// The conversation that took it, if any did.
    pub conversation: Option<String>,
}

impl SeenRequest {
    /// Returns the wire format that the path stands for.
    pub fn format(&self) -> Option<WireFormat> {
        match self.path.as_str() {
            path if path.ends_with("/messages") => Some(WireFormat::Anthropic),
            path if path.ends_with("/chat/completions") => Some(WireFormat::OpenAi),
            path if path.ends_with("/responses") => Some(WireFormat::Responses),
            path if path.ends_with("enerateContent") => Some(WireFormat::Gemini),
            path if path.ends_with("/api/chat") => Some(WireFormat::Ollama),
            _ => None,
        }
    }

    /// Returns a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Returns the messages of the body; in Responses its items, in Gemini its contents.
    pub fn messages(&self) -> &[Value] {
        let field = match self.format() {
            Some(WireFormat::Responses) => "input",
            Some(WireFormat::Gemini) => "contents",
            _ => "messages",
        };
        self.body[field].as_array().map_or(&[], Vec::as_slice)
    }

    /// Returns whether a stream is asked for.
    pub fn wants_stream(&self) -> bool {
        match self.format() {
            Some(WireFormat::Gemini) => self.path.ends_with(":streamGenerateContent"),
            Some(WireFormat::Ollama) => self.body["stream"] != false,
            _ => self.body["stream"] == true,
        }
    }

    /// Returns the model that is asked for.
    pub fn model(&self) -> String {
        let of_path = self.path.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(model, _)| model);
        let model = if self.format() == Some(WireFormat::Gemini) { of_path } else { self.body["model"].as_str() };
        model.unwrap_or_default().to_owned()
    }

    /// Returns all text of the system prompt, in either format.
    pub fn system(&self) -> String {
        let mut text: String = ["system", "instructions", "systemInstruction"].map(|field| all_text(&self.body[field])).concat();
        let system = self.messages().iter().filter(|message| message["role"] == "system" || message["role"] == "developer");
        system.for_each(|message| text.push_str(&said(message)));
        text
    }

    /// Returns the text of the first message that a user wrote.
    pub fn first_user(&self) -> String {
        self.messages().iter().find(|message| message["role"] == "user").map(said).unwrap_or_default()
    }

    /// Returns the text of all messages since the last one of the assistant, tool results included.
    pub fn latest(&self) -> String {
        let after = self.messages().iter().rposition(of_assistant).map_or(0, |at| at + 1);
        self.messages()[after..].iter().map(said).collect()
    }

    /// Returns the text of the whole conversation and the system prompt.
    pub fn text(&self) -> String {
        self.messages().iter().map(said).fold(self.system(), |all, text| all + &text)
    }

    /// Returns the names of the tools that are offered.
    pub fn tool_names(&self) -> Vec<String> {
        let listed = |tool: &Value| tool["functionDeclarations"].as_array().cloned().unwrap_or_else(|| vec![tool.clone()]);
        let tools = self.body["tools"].as_array().into_iter().flatten().flat_map(listed);
        tools.filter_map(|tool| tool.pointer("/function/name").or_else(|| tool.get("name"))?.as_str().map(str::to_owned)).collect()
    }
}

/// Whether the model said this.
fn of_assistant(message: &Value) -> bool {
    let by_kind = matches!(message["type"].as_str(), Some("function_call" | "reasoning"));
    message["role"] == "assistant" || message["role"] == "model" || by_kind
}

/// What a message, an item or a content says.
fn said(message: &Value) -> String {
    ["content", "output", "parts"].map(|field| all_text(&message[field])).concat()
}

/// All strings within `text`, `content`, `input` and the like, a line each.
fn all_text(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text}\n"),
        Value::Array(items) => items.iter().map(all_text).collect(),
        Value::Object(fields) => fields.iter().filter(|(key, _)| *key != "type").map(|(_, value)| all_text(value)).collect(),
        _ => String::new(),
    }
}

type Check = Box<dyn Fn(&SeenRequest) -> Result<(), String> + Send + Sync>;

/// What is expected of one request, and the answer to it.
pub struct Step {
    pub(crate) answer: Answer,
    checks: Vec<Check>,
}

impl Step {
    fn new(answer: Answer) -> Self {
        Self { answer, checks: Vec::new() }
    }

    /// Answers with a text and ends the turn.
    pub fn text(text: &str) -> Self {
        Self::new(Answer { text: text.to_owned(), ..Answer::default() })
    }

    /// Answers with one tool call.
    pub fn tool(name: &str, input: Value) -> Self {
        Self::new(Answer::default()).and_tool(name, input)
    }

    /// Answers with a status and an error in the words of the format.
    pub fn status(status: u16, message: &str) -> Self {
        Self::new(Answer { status, text: message.to_owned(), ..Answer::default() })
    }

    /// Answers with these very bytes.
    pub fn raw(content_type: &str, body: &str) -> Self {
        Self::new(Answer { raw: Some((content_type.to_owned(), body.to_owned())), ..Answer::default() })
    }

    /// Answers with an event that is broken JSON (a body of broken JSON when no stream was asked for).
    pub fn bad_json() -> Self {
        Self::new(Answer { bad_json: true, ..Answer::default() })
    }

    /// Adds a tool call; several are parallel.
    #[must_use]
    pub fn and_tool(mut self, name: &str, input: Value) -> Self {
        self.answer.tools.push((name.to_owned(), input));
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.answer.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Breaks the connection after this many events of the stream.
    #[must_use]
    pub fn cut_after(mut self, events: usize) -> Self {
        self.answer.cut_after = Some(events);
        self
    }

    /// Waits before the first byte and before each further piece.
    #[must_use]
    pub fn slow(mut self, delay: Duration) -> Self {
        self.answer.delay = delay;
        self
    }

    /// Sends the body in pieces of this many bytes, which split events anywhere.
    #[must_use]
    pub fn in_pieces_of(mut self, bytes: usize) -> Self {
        self.answer.piece_bytes = Some(bytes);
        self
    }

    /// Sets the usage that is reported: input, output, read from cache, written to cache. By default input 100 and output 10.
    #[must_use]
    pub fn usage(mut self, input: u64, output: u64, cache_read: u64, cache_write: u64) -> Self {
        self.answer.usage = Some([input, output, cache_read, cache_write]);
        self
    }

    /// Reports no usage, as some servers do.
    #[must_use]
    pub fn without_usage(mut self) -> Self {
        self.answer.usage = None;
        self
    }

    /// Adds a check of the request; its error says what is wrong.
    #[must_use]
    pub fn expect(mut self, check: impl Fn(&SeenRequest) -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.checks.push(Box::new(check));
        self
    }

    /// Expects a header to be there.
    #[must_use]
    pub fn expect_header(self, name: &'static str) -> Self {
        self.expect(move |request| request.header(name).map(|_| ()).ok_or(format!("the header {name} is missing")))
    }

    /// Expects a header to have this value.
    #[must_use]
    pub fn expect_header_value(self, name: &'static str, value: &str) -> Self {
        let value = value.to_owned();
        self.expect(move |request| match request.header(name) {
            Some(found) if found == value => Ok(()),
            found => Err(format!("the header {name} is {found:?}, expected {value:?}")),
        })
    }

    /// Expects the value at a JSON pointer of the body.
    #[must_use]
    pub fn expect_json(self, pointer: &str, value: Value) -> Self {
        let pointer = pointer.to_owned();
        self.expect(move |request| match request.body.pointer(&pointer) {
            Some(found) if *found == value => Ok(()),
            found => Err(format!("{pointer} of the body is {found:?}, expected {value}")),
        })
    }

    /// Expects a tool to be offered.
    #[must_use]
    pub fn expect_tool(self, name: &str) -> Self {
        let name = name.to_owned();
        self.expect(move |request| {
            let names = request.tool_names();
            if names.contains(&name) { Ok(()) } else { Err(format!("the tool {name} is not offered, only {names:?}")) }
        })
    }

    /// Expects the text since the last assistant message (tool results included) to hold this.
    #[must_use]
    pub fn expect_latest(self, part: &str) -> Self {
        let part = part.to_owned();
        self.expect(move |request| {
            let latest = request.latest();
            if latest.contains(&part) { Ok(()) } else { Err(format!("the latest content does not hold {part:?}:\n{latest}")) }
        })
    }

    /// Expects the system prompt to hold this.
    #[must_use]
    pub fn expect_system(self, part: &str) -> Self {
        let part = part.to_owned();
        self.expect(move |request| {
            let system = request.system();
            if system.contains(&part) { Ok(()) } else { Err(format!("the system prompt does not hold {part:?}:\n{system}")) }
        })
    }

    fn mismatches(&self, request: &SeenRequest) -> Vec<String> {
        self.checks.iter().filter_map(|check| check(request).err()).collect()
    }
}

type Predicate = Box<dyn Fn(&SeenRequest) -> bool + Send + Sync>;

/// The steps of one conversation, played in order.
pub struct Conversation {
    name: String,
    takes: Predicate,
    steps: std::collections::VecDeque<Arc<Step>>,
    played: usize,
    afterwards: Option<Arc<Step>>,
}

impl Conversation {
    /// Takes every request whose system prompt or first user message holds `name`.
    pub fn about(name: &str) -> Self {
        let part = name.to_owned();
        Self::when(name, move |request| request.system().contains(&part) || request.first_user().contains(&part))
    }

    /// Takes every request that the predicate accepts. The first conversation that accepts a request gets it.
    pub fn when(name: &str, takes: impl Fn(&SeenRequest) -> bool + Send + Sync + 'static) -> Self {
        Self { name: name.to_owned(), takes: Box::new(takes), steps: std::collections::VecDeque::new(), played: 0, afterwards: None }
    }

    /// Takes every request.
    pub fn any() -> Self {
        Self::when("any", |_| true)
    }

    /// Adds a step.
    #[must_use]
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push_back(Arc::new(step));
        self
    }

    /// Answers every request after the last step with this one.
    #[must_use]
    pub fn afterwards(mut self, step: Step) -> Self {
        self.afterwards = Some(Arc::new(step));
        self
    }
}

#[derive(Default)]
pub(crate) struct State {
    conversations: Vec<Conversation>,
    seen: Vec<SeenRequest>,
    failures: Vec<String>,
}

impl State {
    /// Records the request and returns the step that answers it, or what is wrong.
    pub(crate) fn take(&mut self, mut request: SeenRequest) -> Result<Arc<Step>, String> {
        let found = self.conversations.iter_mut().find(|conversation| (conversation.takes)(&request));
        let result = match found {
            None => Err(format!("no conversation takes {} {}; it begins: {:.300}", request.method, request.path, request.first_user())),
            Some(conversation) => {
                request.conversation = Some(conversation.name.clone());
                next_step(conversation, &request)
            }
        };
        self.seen.push(request);
        result.inspect_err(|failure| self.failures.push(failure.clone()))
    }

    /// Records a request that no conversation is asked about.
    pub(crate) fn saw(&mut self, request: SeenRequest) {
        self.seen.push(request);
    }

    fn unplayed(&self) -> Vec<String> {
        let left = self.conversations.iter().filter(|conversation| !conversation.steps.is_empty());
        left.map(|c| format!("conversation {}: {} steps were played, {} were not asked for", c.name, c.played, c.steps.len())).collect()
    }
}

fn next_step(conversation: &mut Conversation, request: &SeenRequest) -> Result<Arc<Step>, String> {
    let name = &conversation.name;
    let step = conversation.steps.pop_front().or_else(|| conversation.afterwards.clone());
    let step = step.ok_or_else(|| {
        format!("conversation {name}: one request more than its {} steps; latest content:\n{}", conversation.played, request.latest())
    })?;
    conversation.played += 1;
    let wrong = step.mismatches(request);
    if wrong.is_empty() { Ok(step) } else { Err(format!("conversation {name}, step {}: {}", conversation.played, wrong.join("; "))) }
}

/// The server. It runs on a thread of its own until it is dropped, so that tests without tokio can use it too.
pub struct ScriptedServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl ScriptedServer {
    /// Starts a server on a free port of loopback.
    pub fn start(conversations: Vec<Conversation>) -> Self {
        let state = Arc::new(Mutex::new(State { conversations, ..State::default() }));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let shared = state.clone();
        let thread = std::thread::Builder::new().name("scripted-server".to_owned());
        let thread = thread.spawn(move || server_http::serve(listener, &shared, stopped)).unwrap();
        Self { address, state, stop: Some(stop), thread: Some(thread) }
    }

    /// Returns the base URL without a path: for `AEDILE_ANTHROPIC_BASE_URL`, and for OpenAI with `/v1` behind it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns all requests so far.
    pub fn requests(&self) -> Vec<SeenRequest> {
        lock(&self.state).seen.clone()
    }

    /// Returns the requests that a conversation took so far.
    pub fn requests_of(&self, conversation: &str) -> Vec<SeenRequest> {
        self.requests().into_iter().filter(|request| request.conversation.as_deref() == Some(conversation)).collect()
    }

    /// Returns what went wrong so far; steps that were not asked for are not counted.
    pub fn failures(&self) -> Vec<String> {
        lock(&self.state).failures.clone()
    }

    /// Stops the server and returns all requests.
    ///
    /// # Panics
    /// When a request was not as expected or a step was not asked for.
    pub fn finish(mut self) -> Vec<SeenRequest> {
        self.close();
        let mut state = lock(&self.state);
        let mut failures = std::mem::take(&mut state.failures);
        failures.extend(state.unplayed());
        let seen = std::mem::take(&mut state.seen);
        drop(state);
        assert!(failures.is_empty(), "the scripted model server was not asked as expected:\n* {}", failures.join("\n* "));
        seen
    }

    fn close(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the thread of the scripted model server panicked");
        }
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.close();
        let failures = std::mem::take(&mut lock(&self.state).failures);
        if !std::thread::panicking() {
            assert!(failures.is_empty(), "the scripted model server was not asked as expected:\n* {}", failures.join("\n* "));
        }
    }
}

pub(crate) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
