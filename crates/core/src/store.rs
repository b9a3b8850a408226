//! The store: event log, views, claims and blobs behind one trait.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::event::{Envelope, Event, Position};
use crate::ids::{BlobId, RunId};
use crate::machine::Illegal;
use crate::view::{View, ViewKind};

/// Proof that the caller holds a claim.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Fence {
    /// The claim's name, for example `task/<id>`.
    pub claim: String,
    /// Its number. Numbers of one name only grow.
    pub number: u64,
}

/// An event that is to be appended.
#[derive(Clone, PartialEq, Debug)]
pub struct NewEvent {
    /// The run that it belongs to; must agree with the event's own, if it names one.
    pub run: Option<RunId>,
    /// What happened.
    pub event: Event,
}

/// Several events that become durable together or not at all.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Append {
    /// At least one, at most `APPEND_EVENTS_MAX`.
    pub events: Vec<NewEvent>,
    /// The claim under which they are written; an old number is refused.
    pub fence: Option<Fence>,
    /// A key that makes the append happen once: a second append with the same key changes nothing and says so.
    pub once: Option<String>,
}

impl Append {
    /// One event of a run.
    pub fn of(run: RunId, event: Event) -> Self {
        Self { events: vec![NewEvent { run: Some(run), event }], fence: None, once: None }
    }

    /// Adds an event of the same run as the first.
    #[must_use]
    pub fn and(mut self, event: Event) -> Self {
        let run = self.events.first().and_then(|first| first.run);
        self.events.push(NewEvent { run, event });
        self
    }

    /// Writes under the claim.
    #[must_use]
    pub fn fenced(mut self, fence: &Fence) -> Self {
        self.fence = Some(fence.clone());
        self
    }

    /// Happens once.
    #[must_use]
    pub fn once(mut self, key: impl Into<String>) -> Self {
        self.once = Some(key.into());
        self
    }
}

/// What an append did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Appended {
    /// The events are durable; the last one is here.
    At(Position),
    /// An append with the same `once` key came earlier; nothing was written.
    Already(Position),
}

/// Asks for a claim.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClaimRequest {
    /// What is claimed.
    pub name: String,
    /// Who claims: unique for each life of a worker.
    pub holder: String,
    /// For how long.
    pub ttl: Duration,
    /// Holders that the caller has proved dead; their claims may be taken at once.
    pub dead: Vec<String>,
}

/// A claim that somebody holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClaimInfo {
    /// What is claimed.
    pub name: String,
    /// By whom.
    pub holder: String,
    /// Its number.
    pub number: u64,
    /// When it ends unless it is renewed.
    pub expires: Timestamp,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The claim is not held (any more) under this number.
    #[error("the claim {} with number {} is no longer held: another worker took over", .0.claim, .0.number)]
    Fenced(Fence),
    /// The step is not allowed.
    #[error(transparent)]
    Illegal(#[from] Illegal),
    /// The claim belongs to somebody else.
    #[error("{name} is claimed by {holder}")]
    Claimed {
        /// What.
        name: String,
        /// By whom.
        holder: String,
        /// Until when.
        expires: Timestamp,
    },
    /// A limit of `core::limits` was passed.
    #[error("{what} has {got} bytes or items; at most {max} are allowed")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How much.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// The state on disk was written by a newer aedile.
    #[error("{what} was written by a newer aedile (version {found}, this one knows up to {known}): upgrade aedile")]
    Newer {
        /// Which file or event.
        what: String,
        /// Version found.
        found: u32,
        /// Highest version known.
        known: u32,
    },
    /// Something in the state cannot be read.
    #[error("the state is damaged at {place}: {problem}; `aedile store check` tells more")]
    Damaged {
        /// Where.
        place: String,
        /// What.
        problem: String,
    },
    /// The database or the file system failed.
    #[error("the store failed: {0}")]
    Backend(String),
}

/// The store. Every call may block for the time of a durable write; call it from a thread that may block.
pub trait Store: Send + Sync {
    /// Makes the events durable, in one transaction with their effect on the views, after redaction.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was written then.
    fn append(&self, append: Append) -> Result<Appended, StoreError>;
    /// Returns up to `limit` (at most `READ_EVENTS_MAX`) events after the position, in order.
    fn read(&self, after: Position, limit: usize) -> Result<Vec<Envelope>, StoreError>;
    /// Returns the position of the last event, 0 when there is none.
    fn last(&self) -> Result<Position, StoreError>;
    /// Waits until there is an event after the position or the time is over; returns the last position. Sees appends of other processes too.
    fn wait_for_change(&self, after: Position, timeout: Duration) -> Result<Position, StoreError>;

    /// Takes a claim that is free, expired, the holder's own or a dead holder's. The number is higher than any before for this name.
    fn claim(&self, request: &ClaimRequest) -> Result<Fence, StoreError>;
    /// Holds the claim for another `ttl` from now.
    fn renew(&self, fence: &Fence, ttl: Duration) -> Result<(), StoreError>;
    /// Gives the claim back; harmless when it is no longer held.
    fn release(&self, fence: &Fence) -> Result<(), StoreError>;
    /// Returns the claims whose names start so.
    fn claims(&self, prefix: &str) -> Result<Vec<ClaimInfo>, StoreError>;

    /// Stores bytes (after redaction) and returns the id of what was stored.
    fn put_blob(&self, bytes: &[u8]) -> Result<BlobId, StoreError>;
    /// Returns a blob.
    fn get_blob(&self, id: &BlobId) -> Result<Option<Vec<u8>>, StoreError>;

    /// Returns one document of a view as JSON.
    fn view(&self, kind: ViewKind, key: &str) -> Result<Option<String>, StoreError>;
    /// Returns the documents of a view in the order of their creation, of one run or of all.
    fn views(&self, kind: ViewKind, run: Option<RunId>) -> Result<Vec<String>, StoreError>;
    /// Makes all views anew from the log; returns how many events were read.
    fn rebuild(&self) -> Result<u64, StoreError>;
}

/// Reads one document of a view.
///
/// # Errors
/// As [`Store::view`]; `Damaged` when the document does not parse.
pub fn load<T: View>(store: &dyn Store, key: &str) -> Result<Option<T>, StoreError> {
    store.view(T::KIND, key)?.map(|text| parse(&text)).transpose()
}

/// Reads all documents of a view.
///
/// # Errors
/// As [`Store::views`]; `Damaged` when a document does not parse.
pub fn list<T: View>(store: &dyn Store, run: Option<RunId>) -> Result<Vec<T>, StoreError> {
    store.views(T::KIND, run)?.iter().map(|text| parse(text)).collect()
}

fn parse<T: View>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text)
        .map_err(|error| StoreError::Damaged { place: format!("view {}", T::KIND.as_str()), problem: error.to_string() })
}
