//! HTTP/2 inside a tunnel. Only between the box and the door: to the server each request goes in HTTP/1.1, so what is judged and sent is the same.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use aedile_core::limits::DOOR_HEADER_BYTES_MAX;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::body::DoorBody;
use crate::door::Room;

/// Requests at once on one connection. Clients begin with as many before they are told a number, and some give up when one is refused.
const STREAMS_MAX: u32 = 100;
/// Bytes of one request's body that are taken before they are read, and of all requests of a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of one answer that wait for the client.
const SEND_BYTES_MAX: usize = 64 * 1024;
/// Requests that were taken back before they were looked at, and errors of the client, after which the connection ends.
const RESETS_MAX: usize = 32;
/// How often a client that says nothing is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(20);

/// Runs what belongs to one connection; it ends with the connection.
#[derive(Clone)]
struct OfConnection(CancellationToken);

impl<F: Future + Send + 'static> Executor<F> for OfConnection {
    fn execute(&self, future: F) {
        let ended = self.0.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = future => {}
                () = ended.cancelled() => {}
            }
        });
    }
}

/// Counts the requests of one connection.
#[derive(Default)]
struct Requests {
    under_way: AtomicUsize,
    all: AtomicU64,
}

struct UnderWay(Arc<Requests>);

impl UnderWay {
    fn new(requests: &Arc<Requests>) -> Self {
        requests.under_way.fetch_add(1, Ordering::SeqCst);
        requests.all.fetch_add(1, Ordering::SeqCst);
        Self(requests.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Serves HTTP/2 on a connection until it ends, or nothing was asked on it for as long as a head is waited for.
pub(crate) async fn serve_h2<T, F, A>(room: &Room, stream: T, answer: F)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Response<DoorBody>> + Send + 'static,
{
    let requests = Arc::new(Requests::default());
    let ended = room.closed.child_token();
    let _end = ended.clone().drop_guard();
    let service = service_fn(|request: Request<Incoming>| {
        let (under_way, answering) = (UnderWay::new(&requests), answer(request));
        async move {
            // It is under way until its answer has gone.
            let response = answering.await.map(|body| {
                let counted = body.map_frame(move |frame| {
                    let _ = &under_way;
                    frame
                });
                counted.boxed_unsync()
            });
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http2::Builder::new(OfConnection(ended))
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(DOOR_HEADER_BYTES_MAX).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BYTES_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(RESETS_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(room.read_timeout)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let (mut last, mut leaving) = (u64::MAX, false);
    loop {
        tokio::select! {
            // A client that breaks off is no event.
            _ = connection.as_mut() => return,
            () = tokio::time::sleep(room.read_timeout) => {}
        }
        let all = requests.all.load(Ordering::SeqCst);
        if requests.under_way.load(Ordering::SeqCst) == 0 && (last == all || all == 0) {
            if leaving {
                return;
            }
            leaving = true;
            connection.as_mut().graceful_shutdown();
        }
        last = all;
    }
}
