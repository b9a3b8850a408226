//! One model request: reserved, sent, streamed through, metered, settled.
//!
//! It runs in a task of its own, so that a client that goes away in the middle cannot keep it from being settled.

use std::io;
use std::sync::Arc;

use aedile_core::Redactor;
use aedile_core::limits::MODEL_ANSWER_BYTES_MAX;
use aedile_models::{Metered, ModelBody, UsageMeter};
use bytes::Bytes;
use hyper::header::HeaderMap;
use hyper::{Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::answer;
use crate::body::{DoorBody, full, streamed};
use crate::door::Room;
use crate::error::Refused;
use crate::spending::{Asked, Ending, Held, NotReserved};
use crate::upstream::{Answer, NoAnswer, Upstream, play};

/// Pieces of an answer that wait for a slow client; the provider waits then.
const PIECES_WAITING_MAX: usize = 8;
/// Bytes of an error answer that are passed on.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// The head of an answer, on its way to the client.
type Reply = oneshot::Sender<Response<DoorBody>>;

/// A model request that may go out.
pub(crate) struct Exchange {
    pub(crate) room: Arc<Room>,
    pub(crate) body: ModelBody,
    pub(crate) headers: HeaderMap,
    pub(crate) query: &'static str,
    pub(crate) permit: OwnedSemaphorePermit,
}

impl Exchange {
    /// Starts the exchange and waits for the head of its answer.
    pub(crate) async fn start(self) -> Result<Response<DoorBody>, Refused> {
        let (reply, head) = oneshot::channel();
        let tasks = self.room.tasks.clone();
        tasks.spawn(self.run(reply));
        head.await.map_err(|_| Refused::upstream("the door was closed"))
    }

    async fn run(mut self, reply: Reply) {
        let output = self.body.limit_output();
        self.body.want_usage();
        self.body.keep_nothing();
        let asked = Asked {
            input_tokens: self.body.facts().input_estimate,
            output_tokens: output,
            terms: self.body.terms(),
            wider: answer::wants_wider_window(&self.headers),
        };
        let room = self.room.clone();
        let held = match room.spending.reserve(&room.grant.who, &room.grant.model, &room.limits, asked).await {
            Ok(held) => {
                *room.refusal() = None;
                held
            }
            Err(not) => {
                let refused = match not {
                    NotReserved::Budget { message, for_good } => {
                        *room.refusal() = for_good.then(|| message.clone());
                        Refused::budget(message)
                    }
                    NotReserved::Store(message) => Refused::store(format!("the request's cost cannot be recorded: {message}")),
                };
                return answer_with(reply, refused.into_response());
            }
        };
        let _under_way = room.under_way();
        let _permit = self.permit;
        let ending = pass(&room, &self.body, std::mem::take(&mut self.headers), self.query, reply, held);
        ending.await;
    }
}

fn answer_with(reply: Reply, response: Response<DoorBody>) {
    // The client has gone when nobody takes it.
    let _ = reply.send(response);
}

async fn pass(room: &Arc<Room>, body: &ModelBody, headers: HeaderMap, query: &str, mut reply: Reply, held: Held) {
    let send = async {
        match &room.upstream {
            Upstream::Provider(endpoint) => {
                let facts = body.facts();
                let method = body.format().chat_method(&facts.model, facts.stream);
                endpoint.send(&format!("{method}{query}"), answer::outward(&headers), Some(body.to_bytes())).await
            }
            Upstream::Script(script) => play(script, body).await,
        }
    };
    let sent = tokio::select! {
        sent = send => sent,
        () = reply.closed() => Err(NoAnswer::Lost("the client has gone".to_owned())),
        () = room.closed.cancelled() => Err(NoAnswer::Lost("the door was closed".to_owned())),
    };
    let mut answer = match sent {
        Ok(answer) => answer,
        Err(no) => {
            let (refused, ending) = match no {
                NoAnswer::Unreached(message) => (Refused::upstream(message), Ending::Nothing),
                NoAnswer::Lost(message) => (Refused::upstream(message), Ending::Unknown),
                NoAnswer::Bad(message) => (Refused::bad_request(message), Ending::Nothing),
            };
            room.settle(held, ending).await;
            return answer_with(reply, refused.into_response());
        }
    };
    if answer.status != StatusCode::OK {
        room.settle(held, Ending::Nothing).await;
        let unauthorized = answer.status == StatusCode::UNAUTHORIZED;
        let (response, words) = failed_with_words(&mut answer, room).await;
        if let (true, Upstream::Provider(endpoint)) = (unauthorized, &room.upstream) {
            // Asking again does not make a key valid.
            let name = &endpoint.name;
            *room.refusal() = Some(format!(
                "{name} refuses its key (401): give a valid one (docs/environment.md, `[provider.{name}]`); it says: {words}"
            ));
        }
        return answer_with(reply, response);
    }
    let (pieces, stream) = mpsc::channel(PIECES_WAITING_MAX);
    let mut response = Response::new(streamed(stream));
    *response.headers_mut() = answer::back(&answer.headers, room.vault.as_ref());
    answer_with(reply, response);
    let (metered, end) = relay(room, &mut answer, body, &pieces).await;
    room.settle(held, Ending::Answered(metered)).await;
    if let Err(why) = end {
        let _ = pieces.send(Err(io::Error::other(why))).await;
    }
}

/// Passes the pieces on as they come. An end before the provider's own is an error.
async fn relay(room: &Room, answer: &mut Answer, body: &ModelBody, to: &mpsc::Sender<io::Result<Bytes>>) -> (Metered, Result<(), String>) {
    let mut meter = UsageMeter::new(body.format());
    let mut passed = 0;
    let end = loop {
        let piece = tokio::select! {
            piece = answer.piece() => piece,
            () = to.closed() => Err("the client has gone".to_owned()),
            () = room.closed.cancelled() => Err("the door was closed".to_owned()),
        };
        match piece {
            Ok(None) => break Ok(()),
            Err(why) => break Err(why),
            Ok(Some(bytes)) => {
                passed += bytes.len();
                if passed > MODEL_ANSWER_BYTES_MAX {
                    break Err(format!("the answer does not end within {MODEL_ANSWER_BYTES_MAX} bytes"));
                }
                room.flowed();
                meter.feed(&bytes);
                let sent = tokio::select! {
                    sent = to.send(Ok(bytes)) => sent.is_ok(),
                    () = room.closed.cancelled() => false,
                };
                if !sent {
                    break Err("the client has gone or the door was closed".to_owned());
                }
            }
        }
    };
    (meter.finish(), end)
}

/// An error of the provider, passed on as it is, without secrets. A redirect is not followed.
pub(crate) async fn failed(answer: &mut Answer, room: &Room) -> Response<DoorBody> {
    failed_with_words(answer, room).await.0
}

/// The same, and the beginning of what the provider said, without secrets and on one line.
async fn failed_with_words(answer: &mut Answer, room: &Room) -> (Response<DoorBody>, String) {
    if answer.status.is_redirection() {
        let message = "the provider answered with a redirect, which a door does not follow: correct the base URL in your own `config.toml` (docs/configuration.md)";
        return (Refused::upstream(message).into_response(), message.to_owned());
    }
    match answer.rest(ERROR_BYTES_MAX).await {
        Err(why) => {
            let message = format!("the provider's answer was cut: {why}");
            (Refused::upstream(message.clone()).into_response(), message)
        }
        Ok(bytes) => {
            let clean = room.vault.redact_bytes(&bytes).unwrap_or(bytes);
            let words = String::from_utf8_lossy(&clean).split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect();
            let mut response = Response::new(full(clean));
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer::back(&answer.headers, room.vault.as_ref());
            (response, words)
        }
    }
}
