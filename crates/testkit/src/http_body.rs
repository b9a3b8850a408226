//! A response body whose pieces come from a channel, and which can end by breaking the connection.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc::Receiver;

/// What comes next of a body.
pub(crate) enum Piece {
    /// Bytes.
    Bytes(Bytes),
    /// The connection breaks.
    Cut,
}

/// The body.
pub(crate) struct ChannelBody(pub(crate) Receiver<Piece>);

impl Body for ChannelBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0.poll_recv(context).map(|piece| match piece {
            None => None,
            Some(Piece::Bytes(bytes)) => Some(Ok(Frame::data(bytes))),
            Some(Piece::Cut) => Some(Err(std::io::Error::other("the script cuts the stream here"))),
        })
    }
}
