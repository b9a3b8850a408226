//! Connections to other hosts that are kept open for the next request of the same door. No two doors share one.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::policy::{Host, Target};

/// Connections that one door keeps though nobody uses them.
const IDLE_MAX: usize = 8;
/// Many servers close after five seconds; what is younger than that is likely to be open still.
const IDLE_LIFE: Duration = Duration::from_secs(4);

/// A connection that a request can be sent on.
pub(crate) struct Line {
    pub(crate) sender: SendRequest<Full<Bytes>>,
    /// Set when something has come since the last request was sent.
    pub(crate) heard: Arc<AtomicBool>,
    key: (bool, Host, u16),
}

impl Line {
    pub(crate) fn new(target: &Target, sender: SendRequest<Full<Bytes>>, heard: Arc<AtomicBool>) -> Self {
        Self { sender, heard, key: key(target) }
    }
}

fn key(target: &Target) -> (bool, Host, u16) {
    (target.secure, target.host.clone(), target.port)
}

/// The idle connections of one door.
#[derive(Default)]
pub(crate) struct Pool(Mutex<Idle>);

#[derive(Default)]
struct Idle {
    lines: Vec<(Instant, Line)>,
    /// Whether somebody closes those whose time is over.
    swept: bool,
}

impl Idle {
    fn sweep(&mut self) {
        let now = Instant::now();
        self.lines.retain(|(since, line)| now.duration_since(*since) < IDLE_LIFE && !line.sender.is_closed());
    }
}

impl Pool {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the connection to this host that was used last, if one is still open.
    pub(crate) fn take(&self, target: &Target) -> Option<Line> {
        let mut idle = self.idle();
        idle.sweep();
        let wanted = key(target);
        let at = idle.lines.iter().rposition(|(_, line)| line.key == wanted && line.sender.is_ready())?;
        Some(idle.lines.remove(at).1)
    }

    /// Keeps a connection whose answer was read to its end. It is closed when its time is over, also if nothing else happens.
    pub(crate) async fn keep(self: &Arc<Self>, mut line: Line) {
        if !tokio::time::timeout(IDLE_LIFE, line.sender.ready()).await.is_ok_and(|ready| ready.is_ok()) {
            return;
        }
        let mut idle = self.idle();
        if idle.lines.len() >= IDLE_MAX {
            idle.lines.remove(0);
        }
        idle.lines.push((Instant::now(), line));
        if !std::mem::replace(&mut idle.swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }
}

/// Closes connections whose time is over, until there are none.
async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(IDLE_LIFE).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = pool.idle();
        idle.sweep();
        if idle.lines.is_empty() {
            idle.swept = false;
            return;
        }
    }
}

/// A connection that notes when something has come.
pub(crate) struct Heard<T> {
    pub(crate) stream: T,
    pub(crate) heard: Arc<AtomicBool>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Heard<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.heard.store(true, Ordering::Release);
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Heard<T> {
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
