//! The bytes of a request's head as they came. hyper reads some forms in one of the ways in which they can be read; a door refuses them instead,
//! and this is what it looks at. Nothing else is read from here.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use aedile_core::limits::DOOR_HEADER_BYTES_MAX;
use hyper::Method;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::error::Refused;

/// What has come since the last request was answered, as far as a head is long.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<u8>>>);

impl Seen {
    /// Forgets what has come.
    pub(crate) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Vec::new();
    }

    /// Refuses a head that two readers could read differently, and one that came before the request ahead of it was answered.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn check(&self, method: &Method) -> Result<(), Refused> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = seen.trim_ascii_start();
        if !bytes.starts_with(method.as_str().as_bytes()) {
            return Err(Refused::bad_request("a door answers one request after the other: wait for the answer before the next"));
        }
        let head = head(bytes);
        let mut before = 0;
        for (at, byte) in head.iter().enumerate() {
            if *byte == b'\n' && before != b'\r' || before == b'\r' && *byte != b'\n' || *byte == 0 {
                return Err(Refused::bad_request(format!("byte {at} of the head is no part of it: lines end with CR LF, and only they")));
            }
            before = *byte;
        }
        let count = |name: &[u8]| {
            let named = |line: &&[u8]| line.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name));
            head.split(|byte| *byte == b'\n').skip(1).filter(named).count()
        };
        let (lengths, codings) = (count(b"content-length"), count(b"transfer-encoding"));
        if lengths + codings > 1 {
            return Err(Refused::bad_request("the request tells its length more than once"));
        }
        Ok(())
    }
}

/// The head: up to the first empty line, however its lines end.
fn head(bytes: &[u8]) -> &[u8] {
    let ends = [&b"\r\n\r\n"[..], b"\n\n", b"\n\r\n"];
    let end = ends.iter().filter_map(|end| bytes.windows(end.len()).position(|part| part == *end).map(|at| at + end.len())).min();
    &bytes[..end.unwrap_or(bytes.len())]
}

/// A connection whose bytes are watched as they are read.
pub(crate) struct Watched<T> {
    stream: T,
    seen: Seen,
}

impl<T> Watched<T> {
    pub(crate) fn new(stream: T) -> (Self, Seen) {
        let seen = Seen::default();
        (Self { stream, seen: seen.clone() }, seen)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let mut seen = self.seen.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = &buf.filled()[before..];
        let room = DOOR_HEADER_BYTES_MAX.saturating_sub(seen.len()).min(new.len());
        seen.extend_from_slice(&new[..room]);
        drop(seen);
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
