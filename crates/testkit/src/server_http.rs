//! The HTTP side of the scripted server.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Sender, channel};

use crate::http_body::{ChannelBody, Piece};
use crate::server::{SeenRequest, State, WireFormat, lock};
use crate::server_answer::{Wire, error_body};

/// Serves until `stopped` resolves; connections end with it.
pub(crate) fn serve(listener: std::net::TcpListener, state: &Arc<Mutex<State>>, mut stopped: tokio::sync::oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            tokio::select! {
                _ = &mut stopped => return,
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    // As providers do: a piece goes at once, whether or not the one before was acknowledged.
                    let _ = stream.set_nodelay(true);
                    let state = state.clone();
                    tokio::spawn(async move {
                        let service = service_fn(move |request| answer(request, state.clone()));
                        // A client that goes away, or a cut that was asked for, is no failure of ours.
                        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                    });
                }
            }
        }
    });
}

async fn answer(request: Request<Incoming>, state: Arc<Mutex<State>>) -> Result<Response<ChannelBody>, Infallible> {
    let (parts, body) = request.into_parts();
    let bytes = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let seen = SeenRequest {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: headers.collect(),
        body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        conversation: None,
    };
    Ok(respond(wire_answer(seen, &state)))
}

fn wire_answer(seen: SeenRequest, state: &Mutex<State>) -> Wire {
    if let Some(fixed) = fixed_answer(&seen) {
        lock(state).saw(seen);
        return Wire::json(200, &fixed);
    }
    let format = seen.format().unwrap_or(WireFormat::Anthropic);
    let (stream, model) = (seen.wants_stream(), seen.model());
    let options = seen.body.pointer("/stream_options/include_usage") == Some(&Value::Bool(true));
    let calls = seen.messages().len();
    match lock(state).take(seen) {
        Ok(step) => step.answer.write(format, stream, options, &model, calls),
        Err(failure) => Wire::json(500, &error_body(format, 500, &format!("scripted model server: {failure}"))),
    }
}

/// Answers that need no step: lists of models and counts of tokens.
fn fixed_answer(seen: &SeenRequest) -> Option<Value> {
    if seen.path.ends_with("/messages/count_tokens") {
        return Some(json!({"input_tokens": seen.body.to_string().len().div_ceil(4)}));
    }
    if seen.path.ends_with(":countTokens") {
        return Some(json!({"totalTokens": seen.body.to_string().len().div_ceil(4)}));
    }
    let list = seen.method == "GET" && seen.path.ends_with("/models");
    list.then(|| json!({"object": "list", "data": [{"id": "scripted", "object": "model", "created": 0, "owned_by": "tests"}]}))
}

fn respond(wire: Wire) -> Response<ChannelBody> {
    let (sender, receiver) = channel(1);
    let mut response = Response::builder().status(wire.status).header("content-type", wire.content_type);
    for (name, value) in wire.headers {
        response = response.header(name, value);
    }
    tokio::spawn(send(sender, wire.pieces, wire.cut, wire.delay));
    response.body(ChannelBody(receiver)).unwrap()
}

async fn send(sender: Sender<Piece>, pieces: Vec<Bytes>, cut: bool, delay: Duration) {
    for piece in pieces {
        tokio::time::sleep(delay).await;
        if sender.send(Piece::Bytes(piece)).await.is_err() {
            return;
        }
    }
    if cut {
        // What was sent before must leave before the connection breaks.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let _ = sender.send(Piece::Cut).await;
    }
}
