//! Access tokens of OAuth grants, got when a request needs one: asked for once, kept before they are used, known to the finder before both.
//!
//! Within a process whoever needs the token of a grant waits for the one who asks. Among processes a lock file names the one that may ask, and
//! it looks into the vault again first: a refresh token that was replaced is not used a second time. What asks goes on when its client has gone.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aedile_core::event::Event;
use aedile_core::{ExposeSecret, SecretString, Timestamp};
use tokio::time::{Instant, sleep};

use crate::door::Room;
use crate::error::Refused;
use crate::renewal_ask::{Unanswered, ask};
use crate::safe::{AccessToken, OAuth, Places, Safe, SafeError, Source};

/// How long another process may be at it.
const PLACE_TIMEOUT: Duration = Duration::from_secs(60);
/// How often it is looked whether it has ended.
const PLACE_AGAIN: Duration = Duration::from_millis(50);
/// After a failure nobody is asked for so long, and twice as long after each further one.
const HOLD: Duration = Duration::from_secs(10);
/// The longest hold; that after a refusal.
const HOLD_MAX: Duration = Duration::from_secs(300);
/// Tokens of one grant that this process looks for, the newest ones.
const SEEN_MAX: usize = 64;

/// The grants of a vault.
#[derive(Default)]
pub(crate) struct Renewals(BTreeMap<String, Arc<Renewal>>);

struct Renewal {
    name: String,
    places: Places,
    known: Mutex<Known>,
    turn: tokio::sync::Mutex<Turn>,
}

/// What is known of a grant.
struct Known {
    /// What requests may carry: the vault holds it.
    access: Option<AccessToken>,
    /// Every token that was seen, the newest last.
    seen: Vec<SecretString>,
}

/// Held by the one who asks.
#[derive(Default)]
struct Turn {
    unkept: Option<Unkept>,
    failed: Option<Failed>,
}

/// An answer that could not be written into the vault yet.
struct Unkept {
    /// What was asked with.
    asked: OAuth,
    grant: OAuth,
    rotated: bool,
    /// No other process asks with what this answer has replaced.
    _place: File,
}

/// A failure, which holds for this grant and for a time.
struct Failed {
    asked: OAuth,
    until: Instant,
    times: u32,
    why: String,
}

/// What the vault says.
enum Look {
    Token(SecretString),
    Ask(Box<OAuth>),
}

impl Renewals {
    pub(crate) fn new(places: &Places, grants: Vec<(String, OAuth)>) -> Self {
        let renewal = |(name, grant): (String, OAuth)| {
            let mut known = Known { access: grant.access.clone(), seen: Vec::new() };
            known.see(&grant);
            let renewal =
                Renewal { name: name.clone(), places: places.clone(), known: Mutex::new(known), turn: tokio::sync::Mutex::default() };
            (name, Arc::new(renewal))
        };
        Self(grants.into_iter().map(renewal).collect())
    }

    /// Every token that is known, with the name of its secret.
    pub(crate) fn tokens(&self) -> Vec<(String, SecretString)> {
        let of = |(name, renewal): (&String, &Arc<Renewal>)| {
            renewal.known().seen.iter().map(|token| (name.clone(), token.clone())).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }

    /// A token that a request may carry now, for this secret.
    ///
    /// # Errors
    /// A sentence for the agent, without any secret.
    pub(crate) async fn token(&self, name: &str, room: &Arc<Room>) -> Result<SecretString, Refused> {
        let renewal = self.0.get(name).cloned();
        let renewal = renewal.ok_or_else(|| Refused::upstream(format!("the secret {name} has no token endpoint, so nothing was sent")))?;
        if let Some(token) = renewal.fresh(room.clock.now()) {
            return Ok(token);
        }
        // An agent that hangs up must not lose what the server gives only once.
        let (tasks, room) = (room.tasks.clone(), room.clone());
        let renewed = tasks.spawn(async move { renewal.renew(&room).await }).await;
        renewed.unwrap_or_else(|error| Err(format!("the secret {name} was not refreshed: {error}"))).map_err(Refused::upstream)
    }
}

impl Known {
    /// Takes the tokens of a grant in. Says whether one of them is new.
    fn see(&mut self, grant: &OAuth) -> bool {
        let before = self.seen.len();
        let same = |one: &SecretString, other: &SecretString| one.expose_secret() == other.expose_secret();
        let (mut new, present): (bool, Vec<SecretString>) = (false, grant.values().cloned().collect());
        new |= present.iter().any(|token| !self.seen.iter().any(|known| same(known, token)));
        self.seen.retain(|known| !present.iter().any(|token| same(known, token)));
        // The present ones come first in a grant, and are forgotten last here.
        self.seen.extend(present.into_iter().rev());
        let old = self.seen.len().saturating_sub(SEEN_MAX);
        self.seen.drain(..old);
        new || self.seen.len() != before
    }
}

impl Renewal {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self, now: Timestamp) -> Option<SecretString> {
        self.known().access.as_ref().filter(|access| access.is_fresh(now)).map(|access| access.token.clone())
    }

    /// Takes new tokens in, so that they are found from now on.
    async fn see(&self, room: &Arc<Room>, grant: &OAuth) {
        if self.known().see(grant) {
            let vault = room.vault.clone();
            // With many secrets that takes a while. It fails only when the runtime ends.
            let _ = tokio::task::spawn_blocking(move || vault.look()).await;
        }
    }

    async fn renew(&self, room: &Arc<Room>) -> Result<SecretString, String> {
        let mut turn = self.turn.lock().await;
        if let Some(token) = self.fresh(room.clock.now()) {
            return Ok(token);
        }
        if let Some(unkept) = turn.unkept.take() {
            self.keep(room, &mut turn, unkept).await?;
        }
        if let Look::Token(token) = self.look(room, &turn).await? {
            return Ok(token);
        }
        let place = self.place().await?;
        // Another process may have been quicker.
        let grant = match self.look(room, &turn).await? {
            Look::Token(token) => return Ok(token),
            Look::Ask(grant) => grant,
        };
        let from = room.clock.now();
        match ask(&room.roots, &grant).await {
            Err(mut failed) => {
                let next = match failed.refresh_token.take() {
                    None => *grant,
                    Some(token) => {
                        let next = grant.renewed(Some(token), None);
                        self.see(room, &next).await;
                        let unkept = Unkept { asked: *grant, grant: next.clone(), rotated: true, _place: place };
                        self.keep(room, &mut turn, unkept).await?;
                        next
                    }
                };
                Err(self.failed(room, &mut turn, next, failed).await)
            }
            Ok(answer) => {
                let rotated = answer.refresh_token.is_some();
                let access = AccessToken::lasting(answer.access_token, from, answer.life);
                let next = grant.renewed(answer.refresh_token, Some(access.clone()));
                self.see(room, &next).await;
                self.keep(room, &mut turn, Unkept { asked: *grant, grant: next, rotated, _place: place }).await?;
                Ok(access.token)
            }
        }
    }

    /// Looks into the vault: a token that can be used, what to ask with, or why nobody is to be asked now.
    async fn look(&self, room: &Arc<Room>, turn: &Turn) -> Result<Look, String> {
        let (places, name) = (self.places.clone(), self.name.clone());
        let read = tokio::task::spawn_blocking(move || -> Result<Option<Source>, SafeError> {
            let Some(safe) = Safe::open(&places)? else { return Ok(None) };
            let is_there = safe.records().iter().any(|record| record.name == name);
            is_there.then(|| safe.source(&name)).transpose()
        });
        let name = &self.name;
        let read = read.await.map_err(|error| format!("the vault cannot be read: {error}"))?;
        let grant = match read.map_err(|error| format!("the secret {name} cannot be read: {error}"))? {
            Some(Source::OAuth(grant)) => grant,
            Some(_) => {
                return Err(format!(
                    "the secret {name} is refreshed no more: a person has set another kind of it meanwhile, which is used when the worker starts anew"
                ));
            }
            None => {
                return Err(format!("the secret {name} is no longer in the vault: a person keeps it anew with `aedile secret set {name}`"));
            }
        };
        self.see(room, &grant).await;
        if let Some(access) = grant.access.as_ref().filter(|access| access.is_fresh(room.clock.now())) {
            self.known().access = Some(access.clone());
            return Ok(Look::Token(access.token.clone()));
        }
        match &turn.failed {
            Some(failed) if failed.asked.asks_as(&grant) && Instant::now() < failed.until => Err(failed.why.clone()),
            _ => Ok(Look::Ask(grant)),
        }
    }

    /// Waits until no other process asks.
    async fn place(&self) -> Result<File, String> {
        let deadline = Instant::now() + PLACE_TIMEOUT;
        loop {
            match self.places.renewing(&self.name) {
                Ok(Some(place)) => return Ok(place),
                Ok(None) if Instant::now() >= deadline => {
                    return Err(format!(
                        "the secret {} is being refreshed by another aedile, which does not come to an end; try again later",
                        self.name
                    ));
                }
                Ok(None) => sleep(PLACE_AGAIN).await,
                Err(error) => return Err(format!("the secret {} cannot be refreshed: {error}", self.name)),
            }
        }
    }

    /// Writes an answer into the vault. It is used by nobody before; where it cannot be written it is kept here, and tried again.
    async fn keep(&self, room: &Arc<Room>, turn: &mut Turn, unkept: Unkept) -> Result<(), String> {
        let (places, name, grant, asked) = (self.places.clone(), self.name.clone(), unkept.grant.clone(), unkept.asked.clone());
        let now = room.clock.now().0;
        let kept = tokio::task::spawn_blocking(move || {
            Safe::change(&places, |safe| {
                let record = safe.records().iter().find(|record| record.name == name);
                let Some(binding) = record.map(|record| record.binding.clone()) else { return Ok::<_, NotKept>(false) };
                // A version says nothing: a secret that is removed and set again begins with the first.
                if !matches!(safe.source(&name)?, Source::OAuth(present) if present.asks_as(&asked)) {
                    return Ok(false);
                }
                safe.put(&name, binding, &Source::OAuth(Box::new(grant)), now)?;
                Ok(true)
            })
        });
        match kept.await.unwrap_or_else(|error| Err(NotKept(error.to_string()))) {
            Ok(true) => {}
            Ok(false) => return Err(format!("the secret {} was given another value while it was refreshed; try again", self.name)),
            Err(NotKept(why)) => {
                tracing::error!(secret = self.name, why, "a refreshed secret was not kept");
                turn.unkept = Some(unkept);
                return Err(format!(
                    "the secret {} was refreshed and cannot be kept, so nothing was sent: {why}; try again later",
                    self.name
                ));
            }
        }
        turn.failed = None;
        let until = unkept.grant.access.as_ref().map_or(Timestamp(0), |access| access.until);
        self.known().access.clone_from(&unkept.grant.access);
        let who = &room.grant.who;
        room.record(Event::SecretRefreshed {
            run: who.run,
            task: who.task,
            agent: who.agent.clone(),
            secret: self.name.clone(),
            host: host(&unkept.grant),
            until,
            rotated: unkept.rotated,
        })
        .await;
        Ok(())
    }

    /// Notes that there is no token, for a time. Returns what the agent is told.
    async fn failed(&self, room: &Arc<Room>, turn: &mut Turn, asked: OAuth, failed: Unanswered) -> String {
        let (name, host) = (&self.name, host(&asked));
        let times = turn.failed.as_ref().filter(|before| before.asked.asks_as(&asked)).map_or(0, |before| before.times);
        let hold = if failed.lasting { HOLD_MAX } else { (HOLD * 2_u32.saturating_pow(times.min(8))).min(HOLD_MAX) };
        let step = format!("`aedile secret rotate {name}` gives it another refresh token");
        let why = if failed.lasting { format!("{}; {step}", failed.why) } else { failed.why.clone() };
        let who = &room.grant.who;
        let (run, task, agent) = (who.run, who.task, who.agent.clone());
        tracing::warn!(secret = name, host, why, "a secret was not refreshed");
        room.record(Event::SecretNotRefreshed { run, task, agent, secret: name.clone(), host: host.clone(), why }).await;
        let then = if failed.lasting {
            format!("only a person can mend that ({step}): go on without")
        } else {
            format!("it is tried again in {} s at the earliest", hold.as_secs())
        };
        let said = format!("the secret {name} could not be refreshed at {host}: {}, so nothing was sent; {then}", failed.why);
        turn.failed = Some(Failed { asked, until: Instant::now() + hold, times: times + 1, why: said.clone() });
        said
    }
}

/// The token endpoint's host, for reports.
fn host(grant: &OAuth) -> String {
    grant.endpoint().map_or_else(|_| "-".to_owned(), |target| target.authority())
}

/// Why an answer could not be written down.
struct NotKept(String);

impl From<SafeError> for NotKept {
    fn from(error: SafeError) -> Self {
        Self(error.to_string())
    }
}
