//! One model request: reserved, sent, streamed through, metered, settled.
//!
//! It runs in a task of its own, so that a client that goes away in the middle cannot keep it from being settled. While nothing has been
//! said to the client, a provider that is down can be replaced by another: by the client, when it says that it can
//! ([`SWITCHES_HEADER`]), else here, by one that speaks the same format. An answer that has begun is never asked for again.

use std::io;
use std::sync::Arc;

use aedile_core::Redactor;
use aedile_core::limits::MODEL_ANSWER_BYTES_MAX;
use aedile_models::grant::SWITCHES_HEADER;
use aedile_models::{Down, Fault, FaultKind, FaultOf, Metered, ModelBody, UsageMeter};
use bytes::Bytes;
use hyper::header::{HeaderMap, RETRY_AFTER};
use hyper::{Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::answer;
use crate::body::{DoorBody, full, streamed};
use crate::door::Room;
use crate::error::Refused;
use crate::outages::Pass;
use crate::passing::Passing;
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
    /// The place of its model among those that are granted.
    pub(crate) at: usize,
    pub(crate) headers: HeaderMap,
    pub(crate) query: &'static str,
    pub(crate) passing: Arc<Passing>,
    /// Given back when the exchange has ended.
    pub(crate) _permit: OwnedSemaphorePermit,
}

/// What became of a request of which the client has heard nothing.
struct Unsaid {
    reply: Reply,
    /// What it hears when nobody else can be asked.
    response: Response<DoorBody>,
    /// What is left alone, its provider or its model, and why.
    down: Option<(String, Down)>,
    /// Why asking again does not help, if it does not.
    refusal: Option<String>,
}

impl Unsaid {
    fn refused(reply: Reply, refused: Refused) -> Box<Self> {
        Box::new(Self { reply, response: refused.into_response(), down: None, refusal: None })
    }
}

/// How a stream through the door ended.
enum End {
    /// By itself.
    Whole,
    /// The provider broke off.
    Cut(String),
    /// The client has gone, or the door was closed.
    Left(String),
}

impl Exchange {
    /// Starts the exchange and waits for the head of its answer.
    pub(crate) async fn start(self) -> Result<Response<DoorBody>, Refused> {
        let (reply, head) = oneshot::channel();
        let tasks = self.room.tasks.clone();
        tasks.spawn(self.run(reply));
        head.await.map_err(|_| Refused::upstream("the door was closed"))
    }

    async fn run(mut self, mut reply: Reply) {
        let output = self.body.limit_output();
        self.body.want_usage();
        self.body.keep_nothing();
        let (room, format) = (self.room.clone(), self.body.format());
        let switches = self.headers.contains_key(SWITCHES_HEADER);
        for _ in 0..=room.leads.len() {
            let at = self.at;
            let Err(unsaid) = self.through(output, reply).await else { return };
            let Unsaid { reply: waits, response, down, refusal } = *unsaid;
            let next = down.as_ref().and_then(|_| room.instead(at, |lead| switches || lead.speaks(format)));
            let (Some(next), Some(down)) = (next, down) else {
                if refusal.is_some() {
                    *room.refusal() = refusal;
                }
                return answer_with(waits, response);
            };
            if switches {
                let (what, down) = &down;
                let refused = Refused::down(what, down, room.clock.now(), Some(&room.leads[next].model));
                return answer_with(waits, refused.into_response());
            }
            self.at = next;
            self.body.set_model(&room.leads[next].model.model);
            reply = waits;
        }
    }

    /// Asks the model at its place. An error means that the client has heard nothing yet.
    async fn through(&mut self, output_tokens: u64, reply: Reply) -> Result<(), Box<Unsaid>> {
        let (room, at) = (self.room.clone(), self.at);
        let switches = self.headers.contains_key(SWITCHES_HEADER);
        let lead = &room.leads[at];
        self.passing.asks(lead);
        let nowhere_else = room.instead(at, |other| switches || other.speaks(self.body.format())).is_none();
        let mut pass = match lead.provider().map(|_| room.outages.admit(&lead.model, nowhere_else)).transpose() {
            Ok(pass) => pass,
            Err(down) => {
                let refused = Refused::down(&down.0, &down.1, room.clock.now(), None);
                return Err(Box::new(Unsaid { down: Some(down), ..*Unsaid::refused(reply, refused) }));
            }
        };
        let asked = Asked {
            input_tokens: self.body.facts().input_estimate,
            output_tokens,
            terms: self.body.terms(),
            wider: answer::wants_wider_window(&self.headers),
        };
        let held = match room.spending.reserve(&room.grant.who, &lead.model, &room.limits, asked).await {
            Ok(held) => {
                *room.refusal() = None;
                held
            }
            Err(NotReserved::Budget { message, for_good }) => {
                *room.refusal() = for_good.then(|| message.clone());
                return Err(Unsaid::refused(reply, Refused::budget(message)));
            }
            Err(NotReserved::Store(message)) => {
                return Err(Unsaid::refused(reply, Refused::store(format!("the request's cost cannot be recorded: {message}"))));
            }
        };
        let _under_way = room.under_way();
        self.pass(&room, pass.as_mut(), reply, held).await
    }

    async fn pass(&self, room: &Arc<Room>, mut pass: Option<&mut Pass>, mut reply: Reply, held: Held) -> Result<(), Box<Unsaid>> {
        let (body, at) = (&self.body, self.at);
        let send = async {
            match &room.leads[at].upstream {
                Upstream::Provider(endpoint) => {
                    let facts = body.facts();
                    let method = body.format().chat_method(&facts.model, facts.stream);
                    endpoint.send(&format!("{method}{}", self.query), answer::outward(&self.headers), Some(body.to_bytes())).await
                }
                Upstream::Script(script) => play(script, body).await,
            }
        };
        let sent = tokio::select! {
            sent = send => sent,
            () = reply.closed() => Err(NoAnswer::GivenUp("the client has gone".to_owned())),
            () = room.closed.cancelled() => Err(NoAnswer::GivenUp("the door was closed".to_owned())),
        };
        let mut answer = match sent {
            Ok(answer) => answer,
            Err(no) => {
                let (refused, ending, fault) = match no {
                    NoAnswer::Unreached(message) => (Refused::upstream(&message), Ending::Nothing, Some(message)),
                    NoAnswer::Lost(message) => (Refused::upstream(&message), Ending::Unknown, Some(message)),
                    NoAnswer::GivenUp(message) => (Refused::upstream(message), Ending::Unknown, None),
                    NoAnswer::Bad(message) => (Refused::bad_request(message), Ending::Nothing, None),
                };
                room.settle(held, ending).await;
                let down = match fault {
                    Some(why) => failed(room, at, pass, passing(&why)).await,
                    None => None,
                };
                return Err(Box::new(Unsaid { down, ..*Unsaid::refused(reply, refused) }));
            }
        };
        if answer.status != StatusCode::OK {
            room.settle(held, Ending::Nothing).await;
            return Err(self.refused(room, pass, reply, &mut answer).await);
        }
        room.note(pass.as_mut().map(|pass| pass.begun()).unwrap_or_default()).await;
        room.answers(at).await;
        let (pieces, stream) = mpsc::channel(PIECES_WAITING_MAX);
        let mut response = Response::new(streamed(stream));
        *response.headers_mut() = answer::back(&answer.headers, room.vault.as_ref());
        answer_with(reply, response);
        let (metered, complaint, end) = relay(room, &mut answer, body, &pieces).await;
        room.settle(held, Ending::Answered(metered)).await;
        match end {
            End::Whole if complaint => drop(failed(room, at, pass, passing("it reported an error within its answer")).await),
            End::Whole => room.note(pass.map(Pass::answered).unwrap_or_default()).await,
            End::Cut(why) => {
                failed(room, at, pass, passing(&why)).await;
                let _ = pieces.send(Err(io::Error::other(why))).await;
            }
            End::Left(why) => drop(pieces.send(Err(io::Error::other(why))).await),
        }
        Ok(())
    }

    /// An answer that is an error.
    async fn refused(&self, room: &Room, pass: Option<&mut Pass>, reply: Reply, answer: &mut Answer) -> Box<Unsaid> {
        let at = self.at;
        let Failed { response, words, fault } = read_failure(answer, room).await;
        let refusal = match &room.leads[at].upstream {
            // Asking again does not make a key valid.
            Upstream::Provider(endpoint) if answer.status == StatusCode::UNAUTHORIZED => Some(format!(
                "{0} refuses its key (401): give a valid one (docs/environment.md, `[provider.{0}]`); it says: {words}",
                endpoint.name
            )),
            _ => None,
        };
        let down = match fault {
            Some((kind, of)) => failed(room, at, pass, Fault { why: format!("{}: {words}", answer.status.as_u16()), kind, of }).await,
            None => {
                // What speaks of the request shows that the provider is there.
                room.note(pass.map(Pass::begun).unwrap_or_default()).await;
                None
            }
        };
        Box::new(Unsaid { reply, response, down, refusal })
    }
}

fn passing(why: &str) -> Fault {
    Fault { why: why.to_owned(), kind: FaultKind::Passing, of: FaultOf::Provider }
}

/// Counts a fault, and says what is left alone now.
async fn failed(room: &Room, at: usize, pass: Option<&mut Pass>, fault: Fault) -> Option<(String, Down)> {
    room.note(pass?.failed(fault)).await;
    room.outages.down(&room.leads[at].model)
}

fn answer_with(reply: Reply, response: Response<DoorBody>) {
    // The client has gone when nobody takes it.
    let _ = reply.send(response);
}

/// Passes the pieces on as they come. An end before the provider's own is an error. Also says whether the provider reported one itself.
async fn relay(room: &Room, answer: &mut Answer, body: &ModelBody, to: &mpsc::Sender<io::Result<Bytes>>) -> (Metered, bool, End) {
    let mut meter = UsageMeter::new(body.format());
    let mut passed = 0;
    let end = loop {
        let piece = tokio::select! {
            piece = answer.piece() => piece,
            () = to.closed() => break End::Left("the client has gone".to_owned()),
            () = room.closed.cancelled() => break End::Left("the door was closed".to_owned()),
        };
        match piece {
            Ok(None) => break End::Whole,
            Err(why) => break End::Cut(why),
            Ok(Some(bytes)) => {
                passed += bytes.len();
                if passed > MODEL_ANSWER_BYTES_MAX {
                    break End::Cut(format!("the answer does not end within {MODEL_ANSWER_BYTES_MAX} bytes"));
                }
                room.flowed();
                meter.feed(&bytes);
                let sent = tokio::select! {
                    sent = to.send(Ok(bytes)) => sent.is_ok(),
                    () = room.closed.cancelled() => false,
                };
                if !sent {
                    break End::Left("the client has gone or the door was closed".to_owned());
                }
            }
        }
    };
    let complaint = meter.complained();
    (meter.finish(), complaint, end)
}

/// An error of the provider.
pub(crate) struct Failed {
    /// As it is passed on, without secrets. A redirect is not followed.
    pub(crate) response: Response<DoorBody>,
    /// The beginning of what it said, without secrets and on one line.
    words: String,
    /// What it says of the provider.
    fault: Option<(FaultKind, FaultOf)>,
}

/// Reads an error of the provider.
pub(crate) async fn read_failure(answer: &mut Answer, room: &Room) -> Failed {
    if answer.status.is_redirection() {
        let message = "the provider answered with a redirect, which a door does not follow: correct the base URL in your own `config.toml` (docs/configuration.md)";
        return Failed { response: Refused::upstream(message).into_response(), words: message.to_owned(), fault: None };
    }
    match answer.rest(ERROR_BYTES_MAX).await {
        Err(why) => {
            let message = format!("the provider's answer was cut: {why}");
            Failed {
                response: Refused::upstream(message.clone()).into_response(),
                words: message,
                fault: Some((FaultKind::Passing, FaultOf::Provider)),
            }
        }
        Ok(bytes) => {
            let after = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let fault = Fault::read(answer.status.as_u16(), after, &bytes, room.clock.now());
            let clean = room.vault.redact_bytes(&bytes).unwrap_or(bytes);
            let words = String::from_utf8_lossy(&clean).split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect();
            let mut response = Response::new(full(clean));
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer::back(&answer.headers, room.vault.as_ref());
            Failed { response, words, fault }
        }
    }
}
