//! The closed list of what a door does.

use std::sync::Arc;

use aedile_core::Redactor;
use aedile_core::agent_api::{AgentReply, AgentRequest};
use aedile_core::limits::{DOOR_BODY_BYTES_MAX, DOOR_CALL_BYTES_MAX, DOOR_CONCURRENT_MAX};
use aedile_models::grant::GRANT_PATH;
use aedile_models::{ApiFormat, BadBody, ModelBody};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use crate::answer;
use crate::body::{self, DoorBody, full};
use crate::denials::Denial;
use crate::door::Room;
use crate::error::Refused;
use crate::exchange::{Exchange, read_failure};
use crate::fetch::fetch;
use crate::lead::{self, check_format};
use crate::outward;
use crate::passing::Passing;
use crate::proxy;
use crate::proxy_tunnel::{self, Granted, Tunnel};
use crate::upstream::{Endpoint, NoAnswer, Upstream};

/// Where Gemini's models are.
const GEMINI_PATH: &str = "/v1beta/models/";
/// The largest answer to a request that is not a conversation.
const SMALL_ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The rule that no provider reaches out or keeps something.
const OUTWARD: &str = "provider.outward";

/// What a request wants.
enum Route {
    Chat(ApiFormat),
    CountTokens,
    /// Gemini's model stands in the path.
    Gemini {
        model: String,
        wants: Gemini,
    },
    Models,
    /// What the door grants.
    Grant,
    Call,
}

/// What is wanted of a Gemini model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gemini {
    Answer,
    Stream,
    Count,
}

/// Answers one request.
pub(crate) async fn answer(room: Arc<Room>, request: Request<Incoming>, granted: &Granted) -> Response<DoorBody> {
    // Only where a policy says what may be reached is a door a proxy.
    if room.network.is_some() && *request.method() == Method::CONNECT {
        let asked = Asked::of(&room, &request, None);
        return match proxy_tunnel::open(&room, request, granted).await {
            Ok(response) => {
                // What passes through it has lines of its own.
                asked.passing.stays_within();
                response
            }
            Err(refused) => asked.refused(&room, refused).await,
        };
    }
    if room.network.is_some() && request.uri().authority().is_some() {
        return pass(room, None, request).await;
    }
    let asked = Asked::of(&room, &request, None);
    let taken = match route(&request) {
        Err(refused) => Err(refused),
        Ok((route, query)) => match room.requests.clone().try_acquire_owned() {
            Err(_) => Err(Refused::busy(DOOR_CONCURRENT_MAX)),
            Ok(permit) => {
                if matches!(route, Route::Grant | Route::Call) {
                    asked.passing.stays_within();
                }
                take(room.clone(), route, query, request, permit, &asked.passing).await
            }
        },
    };
    match taken {
        Ok(response) => asked.passing.answered(response),
        Err(refused) => asked.refused(&room, refused).await,
    }
}

/// What is asked, as it is told: method, host and path, without what could hold more.
struct Asked {
    what: String,
    passing: Arc<Passing>,
}

impl Asked {
    fn of(room: &Room, request: &Request<Incoming>, tunnel: Option<&Tunnel>) -> Self {
        let (uri, method) = (request.uri(), request.method());
        let place = match (tunnel, uri.authority()) {
            (Some(tunnel), _) => tunnel.to(uri.path()),
            (None, Some(host)) => {
                format!("{}{host}{}", uri.scheme_str().map(|scheme| format!("{scheme}://")).unwrap_or_default(), uri.path())
            }
            (None, None) => uri.path().to_owned(),
        };
        Self { what: format!("{method} {place}"), passing: Passing::new(room, method.as_str(), &place) }
    }

    /// Answers what is refused, and writes it down when a rule denies it.
    async fn refused(self, room: &Room, refused: Refused) -> Response<DoorBody> {
        if let Some(denial) = refused.denial() {
            room.denied(denial, &self.what).await;
        }
        self.passing.refused(&refused);
        self.passing.answered(refused.into_response())
    }
}

/// Answers a request that came through a tunnel.
pub(crate) async fn inside(room: Arc<Room>, tunnel: &Tunnel, request: Request<Incoming>) -> Response<DoorBody> {
    pass(room, Some(tunnel), request).await
}

/// Passes a request on when others have ended: package managers ask for more at once than a door carries.
async fn pass(room: Arc<Room>, tunnel: Option<&Tunnel>, request: Request<Incoming>) -> Response<DoorBody> {
    let asked = Asked::of(&room, &request, tunnel);
    let permit = {
        let place = room.waiting.try_acquire();
        match place {
            Ok(_place) => tokio::time::timeout(room.read_timeout, room.passing.clone().acquire_owned()).await.ok().and_then(Result::ok),
            Err(_) => None,
        }
    };
    let passed = match permit {
        Some(permit) => proxy::pass(room.clone(), tunnel, request, permit, &asked.passing).await,
        None => Err(Refused::busy(DOOR_CONCURRENT_MAX)),
    };
    match passed {
        Ok(response) => asked.passing.answered(response),
        Err(refused) => asked.refused(&room, refused).await,
    }
}

/// Refuses every form that two readers could understand differently, and every path that is not in the list.
fn route(request: &Request<Incoming>) -> Result<(Route, &'static str), Refused> {
    let uri = request.uri();
    if !matches!(*request.method(), Method::GET | Method::POST) {
        return Err(Refused::method());
    }
    if uri.scheme().is_some() || uri.authority().is_some() {
        return Err(Refused::no_proxy());
    }
    let route = match (request.method() == Method::POST, uri.path()) {
        (true, "/v1/messages") => Route::Chat(ApiFormat::Anthropic),
        (true, "/v1/messages/count_tokens") => Route::CountTokens,
        (true, "/v1/chat/completions") => Route::Chat(ApiFormat::OpenAi),
        (true, "/v1/responses") => Route::Chat(ApiFormat::Responses),
        (true, "/api/chat") => Route::Chat(ApiFormat::Ollama),
        (true, path) if path.starts_with(GEMINI_PATH) => gemini_route(path)?,
        (false, GRANT_PATH) => Route::Grant,
        (false, "/v1/models") => Route::Models,
        (true, "/aedile/v1/call") => Route::Call,
        (_, path) => {
            let path: String = path.chars().take(200).collect();
            return Err(Refused::not_found(format!("this door has no {} {path}", request.method())));
        }
    };
    let streams = matches!(route, Route::Gemini { wants: Gemini::Stream, .. });
    let query = match uri.query() {
        Some("alt=sse") if streams => "",
        _ if streams => return Err(Refused::bad_request("a door streams only with `?alt=sse` in the request line")),
        None | Some("") => "",
        // The libraries of one vendor mark their use of unfinished features so.
        Some("beta=true") => "?beta=true",
        Some(_) => return Err(Refused::bad_request("a door takes no query in the request line")),
    };
    Ok((route, query))
}

/// Reads `MODEL:METHOD` behind the prefix. A name that would have to be decoded is refused.
fn gemini_route(path: &str) -> Result<Route, Refused> {
    let (model, method) = path.strip_prefix(GEMINI_PATH).and_then(|rest| rest.split_once(':')).unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let wants = match method {
        "generateContent" => Gemini::Answer,
        "streamGenerateContent" => Gemini::Stream,
        "countTokens" => Gemini::Count,
        _ => {
            let path: String = path.chars().take(200).collect();
            return Err(Refused::not_found(format!("this door has no POST {path}")));
        }
    };
    if model.is_empty() || !model.chars().all(plain) {
        return Err(Refused::bad_request("the model in the path must be a plain name"));
    }
    Ok(Route::Gemini { model: model.to_owned(), wants })
}

async fn take(
    room: Arc<Room>,
    route: Route,
    query: &'static str,
    request: Request<Incoming>,
    permit: OwnedSemaphorePermit,
    passing: &Arc<Passing>,
) -> Result<Response<DoorBody>, Refused> {
    let (head, incoming) = request.into_parts();
    match route {
        Route::Chat(format) => {
            check_format(&room.leads, format)?;
            let bytes = asked_of_model(&room, &head.headers, incoming, passing).await?;
            let (body, at) = allowed(&room, passing, ModelBody::parse(format, &bytes))?;
            Exchange { room, body, at, headers: head.headers, query, passing: passing.clone(), _permit: permit }.start().await
        }
        Route::CountTokens => {
            check_format(&room.leads, ApiFormat::Anthropic)?;
            let bytes = asked_of_model(&room, &head.headers, incoming, passing).await?;
            let (body, at) = allowed(&room, passing, ModelBody::parse(ApiFormat::Anthropic, &bytes))?;
            match &room.leads[at].upstream {
                Upstream::Script(_) => Ok(json_answer(json!({"input_tokens": body.facts().input_estimate}).to_string())),
                Upstream::Provider(endpoint) => {
                    let headers = answer::outward(&head.headers);
                    let method = format!("messages/count_tokens{query}");
                    small(&room, endpoint.send(&method, headers, Some(body.to_bytes())), endpoint).await
                }
            }
        }
        Route::Gemini { model, wants } => {
            check_format(&room.leads, ApiFormat::Gemini)?;
            let bytes = asked_of_model(&room, &head.headers, incoming, passing).await?;
            let (body, at) = allowed(&room, passing, ModelBody::parse_gemini(&model, wants == Gemini::Stream, &bytes))?;
            match &room.leads[at].upstream {
                Upstream::Script(_) if wants == Gemini::Count => {
                    Ok(json_answer(json!({"totalTokens": body.facts().input_estimate}).to_string()))
                }
                Upstream::Provider(endpoint) if wants == Gemini::Count => {
                    let headers = answer::outward(&head.headers);
                    small(&room, endpoint.send(&format!("models/{model}:countTokens"), headers, Some(body.to_bytes())), endpoint).await
                }
                _ => Exchange { room, body, at, headers: head.headers, query, passing: passing.clone(), _permit: permit }.start().await,
            }
        }
        Route::Grant => {
            body::read(&head.headers, incoming, 0, room.read_timeout).await?;
            Ok(json_answer(serde_json::json!(room.granted()).to_string()))
        }
        Route::Models => {
            check_format(&room.leads, ApiFormat::OpenAi)?;
            body::read(&head.headers, incoming, 0, room.read_timeout).await?;
            let lead = room.leads.iter().find(|lead| lead.speaks(ApiFormat::OpenAi)).unwrap_or(&room.leads[0]);
            passing.asks(lead);
            match &lead.upstream {
                Upstream::Script(_) => {
                    let model = json!({"id": lead.model.model, "object": "model", "created": 0, "owned_by": "aedile"});
                    Ok(json_answer(json!({"object": "list", "data": [model]}).to_string()))
                }
                Upstream::Provider(endpoint) => small(&room, endpoint.send("models", answer::outward(&head.headers), None), endpoint).await,
            }
        }
        Route::Call => {
            let body = body::read(&head.headers, incoming, DOOR_CALL_BYTES_MAX, room.read_timeout).await?;
            let request =
                serde_json::from_slice(&body).map_err(|error| Refused::bad_request(format!("the call is not understood: {error}")))?;
            call(room, request, permit, passing).await
        }
    }
}

/// Reads what is asked of a model.
async fn asked_of_model(room: &Room, headers: &HeaderMap, incoming: Incoming, passing: &Passing) -> Result<Vec<u8>, Refused> {
    let bytes = without_secrets(room, body::read(headers, incoming, DOOR_BODY_BYTES_MAX, room.read_timeout).await?)?;
    passing.sends(bytes.len());
    Ok(bytes)
}

/// Takes the values of the vault out of a conversation: what an agent has read somewhere is not told to a provider.
fn without_secrets(room: &Room, bytes: Vec<u8>) -> Result<Vec<u8>, Refused> {
    // Only values: what looks like a credential stays, or the model would work on another text than stands in the files.
    let Some(clean) = room.vault.redact_known_bytes(&bytes) else { return Ok(bytes) };
    tracing::warn!(agent = %room.grant.who.agent, "a secret's value stood in a model request and was replaced");
    match serde_json::from_slice::<IgnoredAny>(&clean) {
        Ok(_) => Ok(clean),
        Err(_) => Err(Refused::forbidden("the conversation holds the value of a secret, which does not leave the box: leave it out")),
    }
}

/// Holds a parsed body against the grant, and says which of the granted models it is for.
fn allowed(room: &Room, passing: &Passing, parsed: Result<ModelBody, BadBody>) -> Result<(ModelBody, usize), Refused> {
    let body = parsed.map_err(|bad| Refused::bad_request(bad.to_string()))?;
    let at = lead::find(&room.leads, body.format(), &body.facts().model)?;
    passing.asks(&room.leads[at]);
    let opened = outward::without_opened(body.format(), body.fields(), |kind| room.policy.provider_may(kind));
    match outward::reaches_out(body.format(), opened.as_ref().unwrap_or(body.fields())) {
        None => Ok((body, at)),
        Some(what) => Err(Refused::denied(
            OUTWARD,
            format!(
                "{what} is not among what a door lets through, since it may make the provider itself reach out or keep something: leave it out and use your own tools (a person can open kinds of tools with [provider] allow of a policy)"
            ),
        )),
    }
}

/// A small answer of the provider, passed on whole, without secrets.
async fn small(
    room: &Room,
    sending: impl Future<Output = Result<crate::upstream::Answer, NoAnswer>>,
    endpoint: &Endpoint,
) -> Result<Response<DoorBody>, Refused> {
    let mut answer = match sending.await {
        Ok(answer) => answer,
        Err(NoAnswer::Unreached(message) | NoAnswer::Lost(message) | NoAnswer::GivenUp(message) | NoAnswer::Bad(message)) => {
            return Err(Refused::upstream(message));
        }
    };
    room.flowed();
    if answer.status != StatusCode::OK {
        return Ok(read_failure(&mut answer, room).await.response);
    }
    let cut = |why| Refused::upstream(format!("the answer of {} was cut: {why}", endpoint.name));
    let bytes = answer.rest(SMALL_ANSWER_BYTES_MAX).await.map_err(cut)?;
    let mut response = Response::new(full(room.vault.redact_bytes(&bytes).unwrap_or(bytes)));
    *response.headers_mut() = answer::back(&answer.headers, room.vault.as_ref());
    Ok(response)
}

/// Answers the agent's own API. The call is finished even when the client goes away.
async fn call(
    room: Arc<Room>,
    request: AgentRequest,
    permit: OwnedSemaphorePermit,
    passing: &Arc<Passing>,
) -> Result<Response<DoorBody>, Refused> {
    if let Some((tool, said)) = request.tool().map(|tool| (tool, room.policy.may_use_tool(tool))).filter(|(_, said)| !said.allowed) {
        let denial = Denial { layer: said.layer, rule: said.rule.clone(), why: said.sentence() };
        room.denied(denial, &format!("the call {tool}")).await;
        return Ok(json_answer(json!(AgentReply::Refused { message: said.sentence() }).to_string()));
    }
    let tasks = room.tasks.clone();
    let passing = passing.clone();
    let work = tasks.spawn(async move {
        let _permit = permit;
        let reply: AgentReply = match request {
            // The only call that leaves the machine; nobody but the gateway may do that.
            AgentRequest::WebFetch { url } => {
                passing.goes_to(room.told_path(url.split(['?', '#']).next().unwrap_or_default()));
                fetch(&room.fetch, &room.vault, &url, &passing).await
            }
            request => room.grant.api.call(&room.grant.who, request).await,
        };
        serde_json::to_string(&reply).map(|text| room.vault.redact_text(&text).unwrap_or(text))
    });
    match work.await {
        Ok(Ok(text)) => Ok(json_answer(text)),
        Ok(Err(error)) => Err(Refused::store(format!("the reply cannot be written: {error}"))),
        Err(error) => Err(Refused::store(format!("the call failed: {error}"))),
    }
}

fn json_answer(text: String) -> Response<DoorBody> {
    let mut response = Response::new(full(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
