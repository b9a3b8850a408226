//! One door: a listener, the connections through it and what they may do.

use std::convert::Infallible;
use std::net::TcpListener as StdListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aedile_core::Clock;
use aedile_core::egress::{Door, DoorActivity, DoorGrant};
use aedile_core::limits::{DOOR_CONNECTIONS_MAX, DOOR_HEADER_BYTES_MAX};
use aedile_models::ApiFormat;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::error::Refused;
use crate::fetch_rules::FetchRules;
use crate::ledger::Limits;
use crate::routes;
use crate::spending::{Ending, Held, Spending};
use crate::upstream::Upstream;
use crate::vault::Vault;

/// The most header lines of one request.
const HEADER_LINES_MAX: usize = 100;
/// The wait after the host has no descriptor left for a new connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What everything behind one door shares.
pub(crate) struct Room {
    pub(crate) grant: DoorGrant,
    pub(crate) limits: Limits,
    pub(crate) upstream: Upstream,
    pub(crate) vault: Arc<Vault>,
    /// Where the agent may read on the web.
    pub(crate) fetch: Arc<FetchRules>,
    pub(crate) spending: Arc<Spending>,
    /// How long a request's head, and each further piece of its body, is waited for.
    pub(crate) read_timeout: Duration,
    /// Requests that may be under way.
    pub(crate) requests: Arc<Semaphore>,
    /// Work that goes on when its client has gone.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the door closes.
    pub(crate) closed: CancellationToken,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) activity: Mutex<DoorActivity>,
    /// The last refusal that no waiting helps against.
    pub(crate) refusal: Mutex<Option<String>>,
}

/// Counts a request as under way until it is dropped.
pub(crate) struct UnderWay<'a>(&'a Room);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.activity().in_flight -= 1;
    }
}

impl Room {
    pub(crate) fn activity(&self) -> MutexGuard<'_, DoorActivity> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn refusal(&self) -> MutexGuard<'_, Option<String>> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn under_way(&self) -> UnderWay<'_> {
        self.activity().in_flight += 1;
        UnderWay(self)
    }

    /// Notes that bytes of an answer have passed.
    pub(crate) fn flowed(&self) {
        let now = self.clock.now();
        self.activity().last_flow = Some(now);
    }

    /// What an agent must know about the model that it is granted: the format that it should speak and the window that it may fill.
    pub(crate) fn granted(&self) -> serde_json::Value {
        let (format, set) = match &self.upstream {
            Upstream::Provider(endpoint) => (endpoint.format, endpoint.context_tokens),
            // Written turns are told in any format.
            Upstream::Script(_) => (ApiFormat::Anthropic, None),
        };
        let (can, window) = self.spending.model(&self.grant.model);
        serde_json::json!({
            "model": self.grant.model, "format": format.name(), "context_tokens": set.unwrap_or(window), "max_output_tokens": can.output,
            "images": can.images, "pdf": can.pdf, "thinking": can.thinking, "structured_output": can.structured,
        })
    }

    pub(crate) async fn settle(&self, held: Held, ending: Ending) {
        let charged = self.spending.settle(held, ending).await;
        let mut activity = self.activity();
        activity.usage = activity.usage.plus(&charged.usage);
        activity.spent = activity.spent.plus(charged.usd);
    }

    /// Whether the granted provider speaks the format. Whoever speaks one of OpenAI's formats may be asked in the other.
    pub(crate) fn speaks(&self, format: ApiFormat) -> Result<(), Refused> {
        let openai = |format: ApiFormat| matches!(format, ApiFormat::OpenAi | ApiFormat::Responses);
        match &self.upstream {
            Upstream::Provider(endpoint) if endpoint.format != format && !(openai(endpoint.format) && openai(format)) => {
                let paths = match endpoint.format {
                    ApiFormat::Anthropic => "/v1/messages and /v1/messages/count_tokens",
                    ApiFormat::OpenAi | ApiFormat::Responses => "/v1/responses, /v1/chat/completions and /v1/models",
                    ApiFormat::Gemini => "/v1beta/models/MODEL:generateContent, :streamGenerateContent?alt=sse and :countTokens",
                    ApiFormat::Ollama => "/api/chat",
                };
                Err(Refused::not_found(format!("this door leads to {}: use {paths}", endpoint.name)))
            }
            _ => Ok(()),
        }
    }
}

/// An open door. Dropping it closes the listener and every connection; what is under way is settled as cut.
pub(crate) struct OpenDoor {
    room: Arc<Room>,
    _close: DropGuard,
}

impl Door for OpenDoor {
    fn activity(&self) -> DoorActivity {
        *self.room.activity()
    }

    fn refusal(&self) -> Option<String> {
        self.room.refusal().clone()
    }
}

impl Drop for OpenDoor {
    fn drop(&mut self) {
        self.room.spending.forget(&self.room.grant.who);
    }
}

impl OpenDoor {
    /// Serves the listener. Must be called within the runtime that serves it.
    pub(crate) fn open(listener: StdListener, room: Room) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let room = Arc::new(room);
        let close = room.closed.clone().drop_guard();
        tokio::spawn(accept(listener, room.clone()));
        Ok(Self { room, _close: close })
    }
}

async fn accept(listener: TcpListener, room: Arc<Room>) {
    let slots = Arc::new(Semaphore::new(DOOR_CONNECTIONS_MAX));
    let accepting = async {
        // The semaphore is never closed.
        while let Ok(slot) = slots.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let room = room.clone();
                    tokio::spawn(async move {
                        let _slot = slot;
                        serve(stream, room).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(agent = %room.grant.who.agent, %error, "a connection to a door was not accepted");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = room.closed.cancelled() => {}
    }
}

async fn serve(stream: TcpStream, room: Arc<Room>) {
    // Pieces of a stream are small and each must go at once.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let room = room.clone();
        async move { Ok::<_, Infallible>(routes::answer(room, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(room.read_timeout)
        .max_headers(HEADER_LINES_MAX)
        .max_header_size(DOOR_HEADER_BYTES_MAX)
        .max_buf_size(DOOR_HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // A client that breaks off is no event.
        _ = connection => {}
        () = room.closed.cancelled() => {}
    }
}
