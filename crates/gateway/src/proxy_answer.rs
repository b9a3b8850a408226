//! The answer of another host on its way into a box.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aedile_core::limits::PROXY_ANSWER_BYTES_MAX;
use bytes::{Buf, Bytes};
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
use crate::proxy_pool::Line;
use crate::proxy_send::CONNECTION_HEADERS;
use crate::unpack::Coding;

/// Pieces of an answer that wait for a slow client; the server waits then.
const PIECES_WAITING_MAX: usize = 8;
/// Bytes that are unpacked at once.
const UNPACKED_AT_ONCE: usize = 16 * 1024;
/// An answer may unpack to so many times its size, beyond the first bytes.
const RATIO_MAX: u64 = 200;
const RATIO_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// Passes the answer back.
pub(crate) fn answer(
    room: Arc<Room>,
    target: &Target,
    response: Response<Incoming>,
    line: Line,
    head_only: bool,
    permit: OwnedSemaphorePermit,
) -> Result<Response<DoorBody>, Refused> {
    let (head, incoming) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refused::upstream(format!("{} changed the protocol, which nobody asked for", target.host)));
    }
    let coding = packing(target, head.status, &head.headers)?;
    let empty = head_only || matches!(head.status, StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT);
    let mut headers = HeaderMap::new();
    for (name, value) in &head.headers {
        // The length changes where a value is taken out or something unpacked.
        let length = name == CONTENT_LENGTH && (!empty || coding.is_some());
        let ours = CONNECTION_HEADERS.contains(name) || length || name == CONTENT_ENCODING;
        if !ours && room.vault.redact_known_bytes(value.as_bytes()).is_none() {
            headers.append(name.clone(), value.clone());
        }
    }
    let body = if empty {
        let pool = room.pool.clone();
        tokio::spawn(async move { pool.keep(line).await });
        full(Bytes::new())
    } else {
        let (to, pieces) = mpsc::channel(PIECES_WAITING_MAX);
        let tasks = room.tasks.clone();
        tasks.spawn(async move {
            let _permit = permit;
            let whole = tokio::select! {
                whole = flow(&room, Source::new(&room, incoming, coding), &to) => whole,
                () = to.closed() => false,
                () = room.closed.cancelled() => false,
            };
            drop(to);
            if whole {
                let pool = room.pool.clone();
                tokio::spawn(async move { pool.keep(line).await });
            }
        });
        streamed(pieces)
    };
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// How the answer is packed, although it was asked not to be: some servers hold only the packed form.
fn packing(target: &Target, status: StatusCode, headers: &HeaderMap) -> Result<Option<Coding>, Refused> {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    let coding = match (codings.next(), codings.next()) {
        (None, _) => Ok(None),
        (Some(one), None) => Coding::parse(&String::from_utf8_lossy(one.as_bytes())),
        (Some(_), Some(_)) => Err("several ways".to_owned()),
    };
    match coding {
        Ok(Some(_)) if status == StatusCode::PARTIAL_CONTENT => Err(Refused::upstream(format!(
            "{} sent a part of a packed answer, which cannot be looked into; ask for the whole",
            target.host
        ))),
        Ok(coding) => Ok(coding),
        Err(other) => {
            let other: String = other.chars().take(100).collect();
            Err(Refused::upstream(format!("{} packed its answer as {other:?}, which cannot be looked into", target.host)))
        }
    }
}

/// The plain pieces of an answer.
enum Source {
    Plain(Incoming),
    Unpacked(mpsc::Receiver<io::Result<Bytes>>),
}

impl Source {
    fn new(room: &Arc<Room>, incoming: Incoming, coding: Option<Coding>) -> Self {
        match coding {
            None => Self::Plain(incoming),
            Some(coding) => Self::Unpacked(unpacked(room.clone(), incoming, coding)),
        }
    }

    /// The next piece; `Ok(None)` at the end, `Err` when it is cut.
    async fn next(&mut self, room: &Room) -> Result<Option<Bytes>, String> {
        match self {
            Self::Plain(incoming) => piece(room, incoming).await,
            Self::Unpacked(pieces) => pieces.recv().await.transpose().map_err(|error| error.to_string()),
        }
    }
}

async fn piece(room: &Room, incoming: &mut Incoming) -> Result<Option<Bytes>, String> {
    match timeout(room.read_timeout, incoming.frame()).await {
        Err(_) => Err("nothing came in time".to_owned()),
        Ok(None) => Ok(None),
        Ok(Some(Err(error))) => Err(error.to_string()),
        // What stands behind the body is left out.
        Ok(Some(Ok(frame))) => Ok(Some(frame.into_data().unwrap_or_default())),
    }
}

/// Unpacks on a thread of its own, which waits for the server and for the client.
fn unpacked(room: Arc<Room>, mut incoming: Incoming, coding: Coding) -> mpsc::Receiver<io::Result<Bytes>> {
    let (give, packed) = mpsc::channel(PIECES_WAITING_MAX);
    let (to, pieces) = mpsc::channel(PIECES_WAITING_MAX);
    tokio::spawn(async move {
        loop {
            let piece = match piece(&room, &mut incoming).await {
                Ok(None) => return,
                Ok(Some(piece)) => Ok(piece),
                Err(why) => Err(io::Error::other(why)),
            };
            let last = piece.is_err();
            if give.send(piece).await.is_err() || last {
                return;
            }
        }
    });
    tokio::task::spawn_blocking(move || {
        let taken = Arc::new(AtomicU64::new(0));
        let mut plain = coding.unpack(Packed { pieces: packed, piece: Bytes::new(), taken: taken.clone() });
        let (mut buffer, mut given) = (vec![0; UNPACKED_AT_ONCE], 0_u64);
        loop {
            let piece = match plain.read(&mut buffer) {
                Ok(0) => return,
                Ok(read) => {
                    given = given.saturating_add(read as u64);
                    let most = taken.load(Ordering::Relaxed).saturating_mul(RATIO_MAX).max(RATIO_BYTES_MIN);
                    if given > most {
                        Err(io::Error::other(format!("the answer unpacks to more than {RATIO_MAX} times its size")))
                    } else {
                        Ok(Bytes::copy_from_slice(&buffer[..read]))
                    }
                }
                Err(error) => Err(error),
            };
            let last = piece.is_err();
            if to.blocking_send(piece).is_err() || last {
                return;
            }
        }
    });
    pieces
}

/// Reads pieces that come from elsewhere.
struct Packed {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
    taken: Arc<AtomicU64>,
}

impl Read for Packed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.piece = piece?,
            }
        }
        let read = out.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut out[..read]);
        self.taken.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Passes the pieces on, without the values of the vault; what may be the beginning of one waits for the next piece. Says whether it came to its end.
async fn flow(room: &Room, mut source: Source, to: &mpsc::Sender<io::Result<Bytes>>) -> bool {
    let mut held = Vec::new();
    let mut passed = 0_u64;
    let end = loop {
        let data = match source.next(room).await {
            Err(why) => break Some(why),
            Ok(None) => break None,
            Ok(Some(data)) => data,
        };
        passed = passed.saturating_add(data.len() as u64);
        if passed > PROXY_ANSWER_BYTES_MAX {
            break Some(format!("the answer does not end within {PROXY_ANSWER_BYTES_MAX} bytes"));
        }
        if let Err(why) = room.allowance.receive(data.len() as u64) {
            break Some(why);
        }
        held.extend_from_slice(&data);
        let rest = held.split_off(room.vault.settled_known(&held));
        let whole = std::mem::replace(&mut held, rest);
        if !whole.is_empty() && to.send(Ok(room.vault.redact_known_bytes(&whole).unwrap_or(whole).into())).await.is_err() {
            return false;
        }
    };
    let whole = end.is_none();
    let last = match end {
        Some(why) => Err(io::Error::other(why)),
        None if held.is_empty() => return true,
        None => Ok(room.vault.redact_known_bytes(&held).unwrap_or(held).into()),
    };
    // A client that has gone wants no more.
    let _ = to.send(last).await;
    whole
}
