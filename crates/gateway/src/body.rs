//! Bodies of requests and answers.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONTENT_ENCODING, HeaderMap, TRANSFER_ENCODING};
use tokio::sync::mpsc;

use crate::error::Refused;

/// The body of an answer: whole, or pieces as they arrive. An error in it breaks the connection, so that the client sees a cut.
pub(crate) type DoorBody = UnsyncBoxBody<Bytes, io::Error>;

/// A body that is there already.
pub(crate) fn full(bytes: impl Into<Bytes>) -> DoorBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body whose pieces come through a channel; it ends when the sender is dropped.
pub(crate) fn streamed(mut pieces: mpsc::Receiver<io::Result<Bytes>>) -> DoorBody {
    let frames = stream::poll_fn(move |cx| pieces.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data))));
    StreamBody::new(frames).boxed_unsync()
}

/// Reads a request's body. Each piece must come within `wait`.
pub(crate) async fn read(headers: &HeaderMap, body: Incoming, max: usize, wait: Duration) -> Result<Vec<u8>, Refused> {
    if headers.contains_key(TRANSFER_ENCODING) {
        return Err(Refused::length_required());
    }
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(Refused::bad_request("a door takes only bodies without Content-Encoding"));
    }
    read_packed(headers, body, max, wait).await
}

/// Reads a request's body as it is sent, packed or not, with its length before it or in chunks; what stands behind the chunks is left out. Each piece
/// must come within `wait`.
pub(crate) async fn read_packed(headers: &HeaderMap, mut body: Incoming, max: usize, wait: Duration) -> Result<Vec<u8>, Refused> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if codings.next().is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) || codings.next().is_some() {
        return Err(Refused::bad_request("the only Transfer-Encoding of a request is `chunked`, once"));
    }
    let length = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if length > max {
        return Err(Refused::too_large(max));
    }
    let mut bytes = Vec::new();
    loop {
        let frame = tokio::time::timeout(wait, body.frame()).await.map_err(|_| Refused::too_slow())?;
        match frame {
            None => return Ok(bytes),
            Some(Err(_)) => return Err(Refused::bad_request("the body was cut")),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                if bytes.len() + data.len() > max {
                    return Err(Refused::too_large(max));
                }
                bytes.extend_from_slice(&data);
            }
        }
    }
}
