//! The answer of another host on its way into a box.

use std::io;
use std::sync::Arc;

use aedile_core::limits::PROXY_ANSWER_BYTES_MAX;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap};
use hyper::{Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

use crate::body::{DoorBody, full, streamed};
use crate::door::Room;
use crate::error::Refused;
use crate::policy::Target;
use crate::proxy_send::CONNECTION_HEADERS;

/// Pieces of an answer that wait for a slow client; the server waits then.
const PIECES_WAITING_MAX: usize = 8;

/// Passes the answer back.
pub(crate) fn answer(
    room: Arc<Room>,
    target: &Target,
    response: Response<Incoming>,
    head_only: bool,
    permit: OwnedSemaphorePermit,
) -> Result<Response<DoorBody>, Refused> {
    let (head, incoming) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refused::upstream(format!("{} changed the protocol, which nobody asked for", target.host)));
    }
    if head.headers.get_all(CONTENT_ENCODING).iter().any(|coding| coding != "identity") {
        return Err(Refused::upstream(format!("{} packed its answer, which it was asked not to do", target.host)));
    }
    let empty = head_only || matches!(head.status, StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT);
    let mut headers = HeaderMap::new();
    for (name, value) in &head.headers {
        // The length changes where a value is taken out.
        let ours = CONNECTION_HEADERS.contains(name) || (name == CONTENT_LENGTH && !empty);
        if !ours && room.vault.redact_known_bytes(value.as_bytes()).is_none() {
            headers.append(name.clone(), value.clone());
        }
    }
    let body = if empty {
        full(Bytes::new())
    } else {
        let (to, pieces) = mpsc::channel(PIECES_WAITING_MAX);
        let tasks = room.tasks.clone();
        tasks.spawn(async move {
            let _permit = permit;
            tokio::select! {
                () = flow(&room, incoming, &to) => {}
                () = to.closed() => {}
                () = room.closed.cancelled() => {}
            }
        });
        streamed(pieces)
    };
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// Passes the pieces on, without the values of the vault; what may be the beginning of one waits for the next piece.
async fn flow(room: &Room, mut incoming: Incoming, to: &mpsc::Sender<io::Result<Bytes>>) {
    let mut held = Vec::new();
    let mut passed = 0_u64;
    let end = loop {
        let data = match timeout(room.read_timeout, incoming.frame()).await {
            Err(_) => break Some("nothing came in time".to_owned()),
            Ok(None) => break None,
            Ok(Some(Err(error))) => break Some(error.to_string()),
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        };
        passed = passed.saturating_add(data.len() as u64);
        if passed > PROXY_ANSWER_BYTES_MAX {
            break Some(format!("the answer does not end within {PROXY_ANSWER_BYTES_MAX} bytes"));
        }
        held.extend_from_slice(&data);
        let rest = held.split_off(room.vault.settled_known(&held));
        let whole = std::mem::replace(&mut held, rest);
        if !whole.is_empty() && to.send(Ok(room.vault.redact_known_bytes(&whole).unwrap_or(whole).into())).await.is_err() {
            return;
        }
    };
    let last = match end {
        Some(why) => Err(io::Error::other(why)),
        None if held.is_empty() => return,
        None => Ok(room.vault.redact_known_bytes(&held).unwrap_or(held).into()),
    };
    // A client that has gone wants no more.
    let _ = to.send(last).await;
}
