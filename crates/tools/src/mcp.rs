//! The server end of the Model Context Protocol: what the SDK does is done by the SDK, everything it hands over is ours by a small trait.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, Implementation, InitializeResult, ListToolsResult,
    PaginatedRequestParams, ProgressNotificationParam, ServerCapabilities, Tool, ToolAnnotations,
};
use rmcp::service::{NotificationContext, Peer, RequestContext, RoleServer};
use rmcp::{ServerHandler, ServiceExt};
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Calls at once; more wait.
const CALLS_MAX: usize = 16;
/// A client that does not say in this time which directory it works in works in ours.
const ROOTS_WAIT: Duration = Duration::from_secs(5);
/// Words of progress that may wait for the client; what comes then is left out.
const PROGRESS_WAITING_MAX: usize = 256;

/// One tool that is offered.
#[derive(Clone, Debug)]
pub struct OfferedTool {
    /// Its name, of letters, digits and `_`.
    pub name: String,
    /// What it does, for the model that chooses.
    pub description: String,
    /// The JSON schema of its arguments, an object.
    pub schema: Map<String, Value>,
    /// It changes nothing.
    pub read_only: bool,
    /// It may take something away; only counts where `read_only` is false.
    pub destructive: bool,
}

/// One call.
pub struct ToolCall {
    /// The tool's name, one of those offered.
    pub name: String,
    /// Its arguments.
    pub arguments: Map<String, Value>,
    /// The directory that the client works in, when it says so.
    pub directory: Option<PathBuf>,
    /// Becomes cancelled when the client no longer wants the answer.
    pub cancelled: CancellationToken,
    /// Takes words of progress; they are dropped where the client asked for none.
    pub progress: mpsc::Sender<String>,
}

/// What a call came to.
#[derive(Clone, Debug)]
pub struct ToolAnswer {
    /// The result, an object.
    pub value: Value,
    /// In words for the model; the value as text when there are none.
    pub text: Option<String>,
    /// Whether it is an error.
    pub is_error: bool,
}

/// What is offered to clients.
#[async_trait]
pub trait OfferedTools: Send + Sync + 'static {
    /// What a client should know before it calls anything.
    fn instructions(&self) -> String;
    /// Every tool.
    fn tools(&self) -> &[OfferedTool];
    /// Does it.
    async fn call(&self, call: ToolCall) -> ToolAnswer;
}

/// Serves one client until it is gone. Calls that are under way then are dropped without an answer: what they started is the
/// offerer's to end.
///
/// # Errors
/// What went wrong in the handshake, in a sentence.
pub async fn serve_mcp<R, W>(reader: R, writer: W, tools: Arc<dyn OfferedTools>, version: &str) -> Result<(), String>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let server = Server { tools, version: version.to_owned(), directory: Mutex::new(None), calls: Semaphore::new(CALLS_MAX) };
    match server.serve((reader, writer)).await {
        Ok(running) => running.waiting().await.map(drop).map_err(|error| error.to_string()),
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

struct Server {
    tools: Arc<dyn OfferedTools>,
    version: String,
    /// What the client answered when it was asked for its roots, once it was asked.
    directory: Mutex<Option<Option<PathBuf>>>,
    calls: Semaphore,
}

impl Server {
    /// The first directory that the client names as a root.
    async fn directory(&self, peer: &Peer<RoleServer>) -> Option<PathBuf> {
        let mut known = self.directory.lock().await;
        if known.is_none() {
            *known = Some(first_root(peer).await);
        }
        known.clone().flatten()
    }
}

#[expect(deprecated, reason = "clients of today name their directory so; those of the next revision have no roots and are asked nothing")]
async fn first_root(peer: &Peer<RoleServer>) -> Option<PathBuf> {
    peer.peer_info()?.capabilities.roots.as_ref()?;
    let answer = tokio::time::timeout(ROOTS_WAIT, peer.list_roots()).await.ok()?.ok()?;
    answer.roots.iter().find_map(|root| path_of(&root.uri))
}

/// The path of a `file://` URI without a host.
fn path_of(uri: &str) -> Option<PathBuf> {
    let rest = uri.strip_prefix("file://")?;
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    let mut bytes = Vec::with_capacity(path.len());
    let mut left = path.as_bytes();
    while let Some((first, more)) = left.split_first() {
        let hex = more.get(..2).and_then(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                left = &more[2..];
            }
            _ => {
                bytes.push(*first);
                left = more;
            }
        }
    }
    let path = PathBuf::from(String::from_utf8(bytes).ok()?);
    path.is_absolute().then_some(path)
}

fn offered(tool: &OfferedTool) -> Tool {
    let annotations = ToolAnnotations::new().read_only(tool.read_only).destructive(tool.destructive && !tool.read_only).open_world(false);
    Tool::new(Cow::Owned(tool.name.clone()), Cow::Owned(tool.description.clone()), Arc::new(tool.schema.clone()))
        .with_annotations(annotations)
}

impl ServerHandler for Server {
    fn get_info(&self) -> InitializeResult {
        InitializeResult::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("aedile", &self.version))
            .with_instructions(self.tools.instructions())
    }

    async fn list_tools(&self, _: Option<PaginatedRequestParams>, _: RequestContext<RoleServer>) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.tools.tools().iter().map(offered).collect()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.tools.tools().iter().find(|tool| tool.name == name).map(offered)
    }

    async fn call_tool(&self, request: CallToolRequestParams, context: RequestContext<RoleServer>) -> Result<CallToolResponse, ErrorData> {
        if !self.tools.tools().iter().any(|tool| tool.name == request.name) {
            return Err(ErrorData::invalid_params(format!("there is no tool {:?}; tools/list names them", request.name), None));
        }
        let closed = |_| ErrorData::internal_error("the server is ending", None);
        let _turn = self.calls.acquire().await.map_err(closed)?;
        let (progress, words) = mpsc::channel(PROGRESS_WAITING_MAX);
        let call = ToolCall {
            name: request.name.into_owned(),
            arguments: request.arguments.unwrap_or_default(),
            directory: self.directory(&context.peer).await,
            cancelled: context.ct.clone(),
            progress,
        };
        let answer = reported(self.tools.call(call), words, &context).await;
        let text = answer.text.unwrap_or_else(|| answer.value.to_string());
        let mut result = match answer.is_error {
            true => CallToolResult::structured_error(answer.value),
            false => CallToolResult::structured(answer.value),
        };
        result.content = vec![ContentBlock::text(text)];
        Ok(result.into())
    }

    async fn on_roots_list_changed(&self, _: NotificationContext<RoleServer>) {
        *self.directory.lock().await = None;
    }
}

/// Waits for the answer and hands words of progress on until it is there: none may follow it.
async fn reported(
    call: impl Future<Output = ToolAnswer>,
    mut words: mpsc::Receiver<String>,
    context: &RequestContext<RoleServer>,
) -> ToolAnswer {
    let token = context.meta.get_progress_token();
    let mut count = 0.0;
    let mut tell = async |message: String| {
        count += 1.0;
        if let Some(token) = &token {
            let progress = ProgressNotificationParam::new(token.clone(), count).with_message(message);
            // A client that is gone needs no words.
            let _ = context.peer.notify_progress(progress).await;
        }
    };
    tokio::pin!(call);
    let answer = loop {
        tokio::select! {
            Some(message) = words.recv() => tell(message).await,
            answer = &mut call => break answer,
        }
    };
    while let Ok(message) = words.try_recv() {
        tell(message).await;
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_a_path() {
        assert_eq!(path_of("file:///a/b%20c/%C3%BC"), Some(PathBuf::from("/a/b c/\u{fc}")));
        assert_eq!(path_of("file://localhost/a%2"), Some(PathBuf::from("/a%2")));
        for bad in ["https://a/b", "file://host/a", "file:relative", "/plain"] {
            assert_eq!(path_of(bad), None, "{bad}");
        }
    }
}
