//! One door: a listener, the connections through it and what they may do.

use std::convert::Infallible;
use std::net::TcpListener as StdListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aedile_core::Clock;
use aedile_core::egress::{Door, DoorActivity, DoorGrant};
use aedile_core::event::Event;
use aedile_core::limits::{DOOR_CONNECTIONS_MAX, DOOR_HEADER_BYTES_MAX, DOOR_HEADER_LINES_MAX};
use aedile_core::policy::AgentPolicy;
use aedile_models::Change;
use aedile_models::grant::Told;
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::allowance::Allowance;
use crate::authority::Authority;
use crate::body::DoorBody;
use crate::denials::Denials;
use crate::error::{Ours, Refused};
use crate::fetch_rules::FetchRules;
use crate::head_watch::Watched;
use crate::lead::Lead;
use crate::ledger::Limits;
use crate::outages::{Changes, Outages};
use crate::passages::Passages;
use crate::policy::{SecretRule, Target};
use crate::proxy_pool::Pool;
use crate::proxy_tunnel::{self, Granted};
use crate::routes;
use crate::spending::{Ending, Held, Spending};
use crate::tls_roots::Roots;
use crate::vault::Vault;

/// The wait after the host has no descriptor left for a new connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Characters of a path that the log keeps.
const PATH_CHARS_MAX: usize = 200;

/// What everything behind one door shares.
pub(crate) struct Room {
    pub(crate) grant: DoorGrant,
    pub(crate) limits: Limits,
    /// The granted model, and behind it those that may take its place.
    pub(crate) leads: Vec<Lead>,
    /// Which of them answered last.
    pub(crate) answered_by: Mutex<usize>,
    pub(crate) outages: Arc<Outages>,
    pub(crate) vault: Arc<Vault>,
    /// Where the agent may read on the web.
    pub(crate) fetch: Arc<FetchRules>,
    /// What policy leaves to the agent.
    pub(crate) policy: AgentPolicy,
    /// Held while a question is looked up and asked.
    pub(crate) asking: tokio::sync::Mutex<()>,
    /// What was denied so far.
    pub(crate) denials: Denials,
    /// Decides over requests to other hosts; without it the door is no proxy.
    pub(crate) network: Option<Arc<tokio::sync::Mutex<crate::policy::Egress>>>,
    /// Signs for the hosts in whose place the door looks into TLS.
    pub(crate) authority: Option<Arc<Authority>>,
    /// Whom the door believes to be another host.
    pub(crate) roots: Arc<Roots>,
    /// The log of what passes.
    pub(crate) passages: Option<Arc<Passages>>,
    /// Connections to other hosts that are kept open.
    pub(crate) pool: Arc<Pool>,
    /// How much may still pass to other hosts and back.
    pub(crate) allowance: Allowance,
    pub(crate) spending: Arc<Spending>,
    /// How long a request's head, and each further piece of its body, is waited for.
    pub(crate) read_timeout: Duration,
    /// Requests that may be under way.
    pub(crate) requests: Arc<Semaphore>,
    /// Requests to other hosts that may be under way.
    pub(crate) passing: Arc<Semaphore>,
    /// Those that may wait until others have ended.
    pub(crate) waiting: Semaphore,
    /// Work that goes on when its client has gone.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the door closes.
    pub(crate) closed: CancellationToken,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) activity: Mutex<DoorActivity>,
    /// The last refusal that no waiting helps against.
    pub(crate) refusal: Mutex<Option<String>>,
}

/// Counts a request as under way until it is dropped.
pub(crate) struct UnderWay<'a>(&'a Room);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.activity().in_flight -= 1;
    }
}

impl Room {
    pub(crate) fn activity(&self) -> MutexGuard<'_, DoorActivity> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn refusal(&self) -> MutexGuard<'_, Option<String>> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn under_way(&self) -> UnderWay<'_> {
        self.activity().in_flight += 1;
        UnderWay(self)
    }

    /// Notes that bytes of an answer have passed.
    pub(crate) fn flowed(&self) {
        let now = self.clock.now();
        self.activity().last_flow = Some(now);
    }

    /// What an agent must know about the model that it is granted, and about those that may take its place.
    pub(crate) fn granted(&self) -> Option<Told> {
        let mut told = self.leads.iter().map(|lead| lead.told(&self.spending));
        let own = told.next()?;
        Some(Told { others: told.collect(), ..own })
    }

    /// The first other model that can be asked in place of this one at present.
    pub(crate) fn instead(&self, at: usize, fits: impl Fn(&Lead) -> bool) -> Option<usize> {
        let up = |lead: &Lead| lead.provider().is_none() || self.outages.down(&lead.model).is_none();
        let mut others = self.leads.iter().enumerate().filter(|(place, _)| *place != at);
        others.find(|(_, lead)| fits(lead) && up(lead)).map(|(place, _)| place)
    }

    /// Writes down what a request has changed for its provider or its model.
    pub(crate) async fn note(&self, changes: Changes) {
        for (provider, change) in changes {
            let (why, again) = match change {
                Change::Answers => (None, None),
                Change::Down(down) => (Some(down.why), Some(down.again)),
            };
            self.record(Event::ProviderDown { run: self.grant.who.run, provider, why, again }).await;
        }
    }

    /// Writes down that another model answers than the one before.
    pub(crate) async fn answers(&self, at: usize) {
        let before = std::mem::replace(&mut *self.answered_by.lock().unwrap_or_else(PoisonError::into_inner), at);
        if before == at {
            return;
        }
        let down = self.leads[before].provider().and_then(|_| self.outages.down(&self.leads[before].model));
        let why = match down {
            Some((what, down)) => format!("{what}: {}", down.why),
            None if at == 0 => "it is the task's own model".to_owned(),
            None => "the agent asked for it".to_owned(),
        };
        let (from, to) = (self.leads[before].model.clone(), self.leads[at].model.clone());
        self.record(Event::ModelSwitched { task: self.grant.who.task, from, to, why }).await;
    }

    /// Writes down which secrets a request is about to carry. Nothing is sent before that is durable.
    pub(crate) async fn used(&self, secrets: &[&SecretRule], method: &str, target: &Target, rule: &str) -> Result<(), Refused> {
        for secret in secrets {
            let who = &self.grant.who;
            let event = Event::SecretUsed {
                run: who.run,
                task: who.task,
                agent: who.agent.clone(),
                secret: secret.name.clone(),
                method: method.to_owned(),
                host: target.authority(),
                path: target.path.chars().take(PATH_CHARS_MAX).collect(),
                rule: rule.to_owned(),
            };
            let stored = self.spending.append(who.run, event).await;
            stored
                .map_err(|error| Refused::store(format!("the use of a secret could not be written down, so nothing was sent: {error}")))?;
        }
        Ok(())
    }

    pub(crate) async fn record(&self, event: Event) {
        if let Err(message) = self.spending.append(self.grant.who.run, event).await {
            tracing::error!(agent = %self.grant.who.agent, message, "what happened at a door was not stored");
        }
    }

    pub(crate) async fn settle(&self, held: Held, ending: Ending) {
        let charged = self.spending.settle(held, ending).await;
        let mut activity = self.activity();
        activity.usage = activity.usage.plus(&charged.usage);
        activity.spent = activity.spent.plus(charged.usd);
    }
}

/// An open door. Dropping it closes the listener and every connection; what is under way is settled as cut.
pub(crate) struct OpenDoor {
    room: Arc<Room>,
    _close: DropGuard,
}

impl Door for OpenDoor {
    fn activity(&self) -> DoorActivity {
        *self.room.activity()
    }

    fn refusal(&self) -> Option<String> {
        self.room.refusal().clone()
    }
}

impl Drop for OpenDoor {
    fn drop(&mut self) {
        self.room.spending.forget(&self.room.grant.who);
        let room = self.room.clone();
        // Without a runtime nobody waits for it either.
        if let Ok(runtime) = Handle::try_current() {
            self.room.tasks.spawn_on(async move { room.rest_of_denials().await }, &runtime);
        }
    }
}

impl OpenDoor {
    /// Serves the listener. Must be called within the runtime that serves it.
    pub(crate) fn open(listener: StdListener, room: Room) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let room = Arc::new(room);
        let close = room.closed.clone().drop_guard();
        tokio::spawn(accept(listener, room.clone()));
        Ok(Self { room, _close: close })
    }
}

async fn accept(listener: TcpListener, room: Arc<Room>) {
    let slots = Arc::new(Semaphore::new(DOOR_CONNECTIONS_MAX));
    let accepting = async {
        // The semaphore is never closed.
        while let Ok(slot) = slots.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let room = room.clone();
                    tokio::spawn(async move {
                        let _slot = slot;
                        serve(stream, room).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(agent = %room.grant.who.agent, %error, "a connection to a door was not accepted");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = room.closed.cancelled() => {}
    }
}

/// HTTP/1.1 as a door takes it.
fn http(room: &Room) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(room.read_timeout)
        .max_headers(DOOR_HEADER_LINES_MAX)
        .max_header_size(DOOR_HEADER_BYTES_MAX)
        .max_buf_size(DOOR_HEADER_BYTES_MAX);
    builder
}

/// Serves HTTP/1.1 on a connection: each request's head is looked at as it came, then `answer` has it.
pub(crate) async fn serve_http<T, F, A>(room: &Room, stream: T, answer: F)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Response<DoorBody>>,
{
    let (stream, seen) = Watched::new(stream);
    let service = service_fn(|request: Request<Incoming>| {
        let checked = seen.check(request.method());
        let has_body = !request.body().is_end_stream();
        seen.clear();
        let seen = seen.clone();
        let unclear = checked.is_err();
        let answering = checked.map(|()| answer(request));
        async move {
            let mut response = match answering {
                Ok(answering) => answering.await,
                Err(refused) => refused.into_response(),
            };
            seen.clear();
            // What was not read is not to be taken for the next request.
            if unclear || has_body && response.extensions().get::<Ours>().is_some() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    // A client that breaks off is no event.
    let _ = http(room).serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

async fn serve(stream: TcpStream, room: Arc<Room>) {
    // Pieces of a stream are small and each must go at once.
    let _ = stream.set_nodelay(true);
    let granted = Arc::new(Granted::default());
    let serving = async {
        let answer = |request| {
            let (room, granted) = (room.clone(), granted.clone());
            async move { routes::answer(room, request, &granted).await }
        };
        serve_http(&room, stream, answer).await;
        proxy_tunnel::serve(room.clone(), &granted).await;
    };
    tokio::select! {
        () = serving => {}
        () = room.closed.cancelled() => {}
    }
}
