//! A request on its way through a door, until it is a line of the gateway's log.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use aedile_core::policy::LayerName;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::body::DoorBody;
use crate::door::Room;
use crate::error::{Ours, Refused};
use crate::lead::Lead;
use crate::passages::{Outcome, Passage, Passages};
use crate::policy::SecretRule;
use crate::upstream::Upstream;

/// A request whose line is written when the last holder lets go of it.
pub(crate) struct Passing {
    /// `None` where no log is kept.
    line: Option<(Arc<Passages>, Mutex<Passage>)>,
    began: Instant,
    sent: AtomicU64,
    received: AtomicU64,
    whole: AtomicBool,
    /// Whether what became of it is known before its answer.
    settled: AtomicBool,
    /// What never leaves the machine is no matter of the log.
    within: AtomicBool,
}

impl Passing {
    /// Begins one.
    pub(crate) fn new(room: &Room, method: &str, to: &str) -> Arc<Self> {
        let who = &room.grant.who;
        let line = room.passages.clone().map(|log| {
            let passage = Passage {
                at: room.clock.now(),
                run: who.run,
                task: who.task,
                key: who.key.clone(),
                agent: who.agent.clone(),
                method: method.to_owned(),
                to: room.told_path(to),
                model: None,
                outcome: Outcome::Failed,
                status: 0,
                layer: None,
                rule: None,
                secrets: Vec::new(),
                bytes_out: 0,
                bytes_in: 0,
                head_us: 0,
                us: 0,
                whole: false,
            };
            (log, Mutex::new(passage))
        });
        Arc::new(Self {
            line,
            began: Instant::now(),
            sent: AtomicU64::default(),
            received: AtomicU64::default(),
            whole: AtomicBool::default(),
            settled: AtomicBool::default(),
            within: AtomicBool::default(),
        })
    }

    fn passage(&self) -> Option<MutexGuard<'_, Passage>> {
        self.line.as_ref().map(|(_, passage)| passage.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// It never leaves the machine.
    pub(crate) fn stays_within(&self) {
        self.within.store(true, Ordering::Relaxed);
    }

    /// It leaves the machine, for this place.
    pub(crate) fn goes_to(&self, to: String) {
        self.within.store(false, Ordering::Relaxed);
        if let Some(mut passage) = self.passage() {
            passage.to = to;
        }
    }

    /// It goes to a model.
    pub(crate) fn asks(&self, lead: &Lead) {
        if let Some(mut passage) = self.passage() {
            passage.model = Some(lead.model.to_string());
            if let Upstream::Provider(endpoint) = &lead.upstream {
                endpoint.base_url.clone_into(&mut passage.to);
                passage.secrets = endpoint.key_name.clone().into_iter().collect();
            }
        }
    }

    /// This rule lets it pass, and these secrets go with it.
    pub(crate) fn by(&self, layer: Option<LayerName>, rule: &str, secrets: &[&SecretRule]) {
        if let Some(mut passage) = self.passage() {
            passage.layer = layer;
            passage.rule = Some(rule.to_owned());
            passage.secrets = secrets.iter().map(|secret| secret.name.clone()).collect();
        }
    }

    /// It is refused.
    pub(crate) fn refused(&self, refused: &Refused) {
        self.settled.store(true, Ordering::Relaxed);
        if let Some(mut passage) = self.passage() {
            let (outcome, layer, rule) = refused.outcome();
            passage.outcome = outcome;
            if rule.is_some() {
                (passage.layer, passage.rule) = (layer, rule.map(str::to_owned));
                passage.secrets.clear();
            }
        }
    }

    /// How far it has come with the page of another host that it is to fetch.
    pub(crate) fn fetches(&self, outcome: Outcome) {
        self.settled.store(true, Ordering::Relaxed);
        if let Some(mut passage) = self.passage() {
            passage.rule = Some("fetch.hosts".to_owned());
            passage.outcome = outcome;
        }
    }

    /// So many bytes went out.
    pub(crate) fn sends(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// So many came in, besides those of the answer's body.
    pub(crate) fn receives(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The head of its answer is there; the body is counted as it flows.
    pub(crate) fn answered(self: Arc<Self>, response: Response<DoorBody>) -> Response<DoorBody> {
        let Some(mut passage) = self.passage() else { return response };
        passage.status = response.status().as_u16();
        passage.head_us = micros(self.began);
        if !self.settled.load(Ordering::Relaxed) && response.extensions().get::<Ours>().is_none() {
            passage.outcome = Outcome::Passed;
        }
        drop(passage);
        response.map(|inner| Counted { inner, passing: self }.boxed_unsync())
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

impl Drop for Passing {
    fn drop(&mut self) {
        if *self.within.get_mut() {
            return;
        }
        let (us, sent, received, whole) = (micros(self.began), *self.sent.get_mut(), *self.received.get_mut(), *self.whole.get_mut());
        if let Some((log, passage)) = &mut self.line {
            let passage = passage.get_mut().unwrap_or_else(PoisonError::into_inner);
            (passage.us, passage.bytes_out, passage.bytes_in, passage.whole) = (us, sent, received, whole);
            log.note(passage);
        }
    }
}

/// A body whose bytes are counted.
struct Counted {
    inner: DoorBody,
    passing: Arc<Passing>,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => self.passing.receives(frame.data_ref().map_or(0, Bytes::len)),
            Poll::Ready(None) => self.passing.whole.store(true, Ordering::Relaxed),
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // Whoever knows from the head that nothing more comes does not ask for it.
        if self.inner.is_end_stream() {
            self.passing.whole.store(true, Ordering::Relaxed);
        }
    }
}
