//! The turns of one life: prompt, watch, save, deliver mail, remind.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use aedile_core::agent_api::MailText;
use aedile_core::event::Event;
use aedile_core::limits::PLAN_TIMEOUT;
use aedile_core::machine::RunState;
use aedile_core::runtime::{TurnEnd, TurnStop};
use aedile_core::store::{Append, load};
use aedile_core::view::RunView;
use aedile_core::{MailId, bounded, crash};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::agent_box::Agent;
use crate::decide::Ending;
use crate::goal_calls::Planning;
use crate::mail;
use crate::parts::Seen;
use crate::prompts;
use crate::steps::LifeEnd;
use crate::unit::{Ended, Unit, blocking};

/// A box that used this many clock ticks more than before has done something.
const CPU_TICKS_ALIVE: u64 = 10;

/// How long one wait for a person's mail lasts before the store is asked again.
const LISTEN: Duration = Duration::from_millis(500);

/// When an agent last showed that it is alive.
struct Pulse {
    flow: (Option<aedile_core::Timestamp>, u64),
    ticks: u64,
    events: u64,
    last: Instant,
}

impl Pulse {
    fn new() -> Self {
        Self { flow: (None, 0), ticks: 0, events: 0, last: Instant::now() }
    }

    /// Looks at process, door and session; returns how long nothing has moved.
    fn look(&mut self, unit: &Unit, agent: &Agent) -> Duration {
        let activity = agent.door.activity();
        let flow = (activity.last_flow, activity.usage.total());
        let ticks = (unit.parts.host.cpu_ticks)(agent.pid).unwrap_or(0);
        let events = agent.transcript.seen();
        if flow != self.flow || events != self.events || ticks >= self.ticks.saturating_add(CPU_TICKS_ALIVE) {
            (self.flow, self.events, self.last) = (flow, events, Instant::now());
            self.ticks = ticks;
        }
        self.last.elapsed()
    }
}

/// How a turn came to its end, seen from here.
enum Cut {
    /// By itself.
    No,
    /// We ended it since we were told to.
    Told(String),
    /// We ended it since it had handed its work in long before.
    Submitted,
    /// We ended it since it was silent or took too long.
    Stuck(String),
}

/// Mail on its way into the present turn.
struct Post<'a> {
    agent: &'a Agent,
    look: Interval,
    sending: Option<(Vec<MailId>, Sending<'a>)>,
}

/// Resolves when the agent has taken a message in, or will not.
type Sending<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// What became of it.
enum Posted {
    /// It is time to look for more.
    Look,
    /// The agent has it; or the turn ended before, and it is delivered with the next one.
    Sent(Vec<MailId>, bool),
}

impl<'a> Post<'a> {
    fn new(agent: &'a Agent, every: Duration) -> Self {
        let mut look = tokio::time::interval_at(Instant::now() + every, every);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { agent, look, sending: None }
    }

    /// Waits for what comes next; may be dropped and called again.
    async fn next(&mut self) -> Posted {
        match &mut self.sending {
            Some((mail, sending)) => {
                let taken = sending.await;
                let mail = std::mem::take(mail);
                self.sending = None;
                Posted::Sent(mail, taken)
            }
            None if self.agent.session.takes_messages() => {
                self.look.tick().await;
                Posted::Look
            }
            None => std::future::pending().await,
        }
    }

    /// The mail that the agent has taken in while nobody looked.
    fn taken(&mut self) -> Vec<MailId> {
        let Some((mail, sending)) = &mut self.sending else { return Vec::new() };
        match sending.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(true) => std::mem::take(mail),
            Poll::Ready(false) | Poll::Pending => Vec::new(),
        }
    }

    fn send(&mut self, letters: &[MailText]) {
        let (agent, text) = (self.agent, prompts::mail_within(letters));
        let sending = Box::pin(async move { agent.session.message(&text).await });
        self.sending = Some((letters.iter().map(|letter| letter.id).collect(), sending));
    }
}

impl Unit {
    /// Takes turns until there is a reason to end.
    pub(crate) async fn turns(&mut self, agent: &Agent, first: String) -> Result<LifeEnd, Ended> {
        let mut prompt = first;
        let mut reminded = false;
        if let Some(letters) = self.take_letters(false).await? {
            self.delivered = letters.iter().map(|letter| letter.id).collect();
            prompt = format!("{prompt}\n{}", prompts::mail(&letters));
        }
        loop {
            if let Some((_, why)) = self.end_told() {
                return Ok(LifeEnd::Told(why));
            }
            let (end, cut) = self.turn(agent, &prompt).await?;
            if let Some(life) = self.after_turn(&end, cut, agent.door.refusal()) {
                return Ok(life);
            }
            self.snapshot().await?;
            if let Some((_, why)) = self.end_told() {
                return Ok(LifeEnd::Told(why));
            }
            if self.run_is_stopping().await? {
                return Ok(LifeEnd::Told("the run was asked to stop".to_owned()));
            }
            prompt = match self.next_letters().await? {
                Some(letters) => {
                    self.delivered = letters.iter().map(|letter| letter.id).collect();
                    prompts::mail(&letters)
                }
                None if self.submitted.is_some() => return Ok(LifeEnd::Submitted),
                None if self.end_told().is_some() => continue,
                None if self.answered_only().await? => return Ok(LifeEnd::Answered),
                None if reminded => return Ok(LifeEnd::WithoutSubmit),
                None => {
                    reminded = true;
                    prompts::reminder(&self.task, end.detail.as_deref())
                }
            };
        }
    }

    /// Takes the unread mail. While a person stays with the session and there is none, waits for what they say.
    async fn next_letters(&mut self) -> Result<Option<Vec<MailText>>, Ended> {
        let Some(mut stays) = self.parts.onlooker.stays.clone() else { return self.take_letters(false).await };
        let mut told = self.told.clone();
        let mut shown = false;
        loop {
            // Asked before the mail is looked at: what a person says before they leave is still read.
            let (there, store) = (*stays.borrow_and_update(), std::sync::Arc::clone(&self.parts.store));
            let seen = blocking(move || store.last()).await?;
            let letters = self.take_letters(false).await?;
            if letters.is_some() || !there || self.end_told().is_some() {
                return Ok(letters);
            }
            if let Some(sees) = self.parts.onlooker.sees.as_ref().filter(|_| !shown) {
                sees(&self.who, Seen::Waits);
                shown = true;
            }
            let store = std::sync::Arc::clone(&self.parts.store);
            tokio::select! {
                changed = stays.changed() => if changed.is_err() { return self.take_letters(false).await },
                changed = told.changed() => if changed.is_err() { return Ok(None) },
                Some(call) = self.calls.recv() => {
                    let answer = self.answer(call.request).await?;
                    // The door may have given up waiting.
                    let _ = call.answer.send(answer);
                    if self.submitted.is_some() {
                        return Ok(None);
                    }
                }
                grown = blocking(move || store.wait_for_change(seen, LISTEN)) => drop(grown?),
            }
        }
    }

    /// Whether the agent of a run whose changes are kept has changed nothing: then it has answered, and there is nothing to submit.
    async fn answered_only(&self) -> Result<bool, Ended> {
        let (Some(base), Some(saved), true) = (self.began(), self.task.snapshot.clone(), self.run.rules.hold) else {
            return Ok(false);
        };
        let workspaces = std::sync::Arc::clone(&self.parts.workspaces);
        let differs = tokio::task::spawn_blocking(move || workspaces.differs(&base, &saved)).await;
        Ok(matches!(differs, Ok(Ok(false))))
    }

    /// Whether a stop was asked for that the dispatcher has not passed on yet: no further turn begins after that.
    async fn run_is_stopping(&self) -> Result<bool, Ended> {
        let (store, run) = (std::sync::Arc::clone(&self.parts.store), self.task.run);
        let view = blocking(move || load::<RunView>(store.as_ref(), &run.to_string())).await?;
        Ok(view.is_some_and(|view| view.state != RunState::Running))
    }

    /// Decides after a turn whether the life ends. A turn that failed since its door `refused` for good is not tried again.
    fn after_turn(&self, end: &TurnEnd, cut: Cut, refused: Option<String>) -> Option<LifeEnd> {
        match cut {
            Cut::Told(why) => return Some(LifeEnd::Told(why)),
            // It would plan as long a second time.
            Cut::Stuck(why) if self.task.spec.is_plan() => return Some(LifeEnd::Person(why)),
            Cut::Stuck(why) => return Some(LifeEnd::Failed(why)),
            Cut::Submitted | Cut::No => {}
        }
        if self.submitted.is_some() {
            return Some(LifeEnd::Submitted);
        }
        match &self.planning {
            Planning::Proposed => return Some(LifeEnd::Planned),
            Planning::GaveUp(why) => return Some(LifeEnd::Person(why.clone())),
            Planning::Open => {}
        }
        match end.stop {
            TurnStop::Failed if refused.is_some() => refused.map(LifeEnd::Person),
            TurnStop::Failed => Some(LifeEnd::Failed(end.detail.clone().unwrap_or_else(|| "its turn failed".to_owned()))),
            TurnStop::EndTurn | TurnStop::Limit | TurnStop::MaxTokens | TurnStop::Refusal | TurnStop::Cancelled => {
                self.end_told().map(|(_, why)| LifeEnd::Told(why))
            }
        }
    }

    /// One turn, written down with its transcript; mail that it carried is acknowledged with its end.
    async fn turn(&mut self, agent: &Agent, prompt: &str) -> Result<(TurnEnd, Cut), Ended> {
        self.task.turn += 1;
        let (task, incarnation, turn, run) = (self.task.task, self.who.incarnation, self.task.turn, self.task.run);
        self.append(Append::of(run, Event::TurnStarted { task, incarnation, turn }).fenced(&self.fence)).await?;
        let (mut end, cut) = self.watch(agent, prompt).await?;
        end.detail = end.detail.as_deref().map(bounded::text);
        let stderr = if end.stop == TurnStop::Failed { agent.session.stderr_tail() } else { String::new() };
        let transcript = agent.transcript.take(prompt, &end, &stderr);
        let store = std::sync::Arc::clone(&self.parts.store);
        let transcript = blocking(move || store.put_blob(&transcript)).await?;
        let detail = match &cut {
            Cut::Stuck(why) | Cut::Told(why) => Some(why.clone()),
            Cut::Submitted | Cut::No => end.detail.clone(),
        };
        self.held_up = None;
        let ended = Event::TurnEnded { task, incarnation, turn, stop: end.stop, detail, transcript: Some(transcript) };
        let mut append = Append::of(run, ended);
        let delivered = std::mem::take(&mut self.delivered);
        // A turn that broke may not have taken its mail in: it is delivered again.
        if end.stop != TurnStop::Failed && matches!(cut, Cut::No | Cut::Submitted) {
            append = delivered.into_iter().fold(append, |append, mail| append.and(Event::MailAcked { mail }));
        }
        self.append(append.fenced(&self.fence)).await?;
        crash::point("turn");
        Ok((end, cut))
    }

    /// Waits for the end of the turn while answering the agent's calls and watching that it lives.
    async fn watch(&mut self, agent: &Agent, prompt: &str) -> Result<(TurnEnd, Cut), Ended> {
        let mut pulse = Pulse::new();
        let begun = Instant::now();
        let mut submitted_at = None;
        let longest = if self.task.spec.is_plan() { self.parts.pace.turn_timeout.min(PLAN_TIMEOUT) } else { self.parts.pace.turn_timeout };
        let mut look = tokio::time::interval(self.parts.pace.look_every);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = self.told.clone();
        let mut post = Post::new(agent, self.parts.pace.mail_every);
        let turn = agent.session.prompt(prompt);
        tokio::pin!(turn);
        let cut = loop {
            tokio::select! {
                end = &mut turn => {
                    // Both may be there at once; what was taken in must not be delivered again.
                    self.delivered.extend(post.taken());
                    return Ok((end, Cut::No));
                }
                Some(call) = self.calls.recv() => {
                    let answer = self.answer(call.request).await?;
                    // The door may have given up waiting.
                    let _ = call.answer.send(answer);
                    if self.submitted.is_some() || !matches!(self.planning, Planning::Open) {
                        submitted_at.get_or_insert_with(Instant::now);
                    }
                }
                changed = told.changed() => match (changed, self.end_told()) {
                    (_, Some((Ending::Now, why))) => break Cut::Told(why),
                    (Err(_), _) => break Cut::Told("its worker is ending".to_owned()),
                    (Ok(()), _) => {}
                },
                posted = post.next() => match posted {
                    Posted::Sent(mail, true) => self.delivered.extend(mail),
                    Posted::Sent(_, false) => {}
                    Posted::Look => if let Some(letters) = self.take_letters(true).await? {
                        post.send(&letters);
                    },
                },
                _ = look.tick() => {
                    self.held_up(agent).await?;
                    let pace = self.parts.pace;
                    let silent = pulse.look(self, agent);
                    if submitted_at.is_some_and(|at| at.elapsed() > pace.submit_grace) {
                        break Cut::Submitted;
                    }
                    if silent > pace.silent {
                        break Cut::Stuck(format!("it was silent for {} s: no process time, no model answer", silent.as_secs()));
                    }
                    if begun.elapsed() > longest {
                        break Cut::Stuck(format!("its turn took longer than {} s", longest.as_secs()));
                    }
                }
            }
        };
        agent.session.interrupt().await;
        let end = tokio::time::timeout(self.parts.pace.term_grace, &mut turn).await;
        self.delivered.extend(post.taken());
        let no_answer = || TurnEnd { stop: TurnStop::Cancelled, detail: Some("it did not answer the interruption".to_owned()) };
        Ok((end.unwrap_or_else(|_| no_answer()), cut))
    }

    /// Writes down that the agent's model has stopped answering, or that it answers again.
    async fn held_up(&mut self, agent: &Agent) -> Result<(), Ended> {
        let why = agent.transcript.held_up().as_deref().map(bounded::text);
        if why == self.held_up {
            return Ok(());
        }
        self.held_up.clone_from(&why);
        let event = Event::AgentHeldUp { task: self.task.task, incarnation: self.who.incarnation, why };
        self.append(Append::of(self.task.run, event).fenced(&self.fence)).await?;
        Ok(())
    }

    /// Claims the agent's unread mail: what an earlier life or a broken reader did not confirm included, or only what is `new` to this life.
    async fn take_letters(&mut self, new: bool) -> Result<Option<Vec<MailText>>, Ended> {
        let (store, fence, who) = (std::sync::Arc::clone(&self.parts.store), self.fence.clone(), self.who.clone());
        let letters = blocking(move || {
            let by = who.incarnation.to_string();
            let mut unread = mail::inbox(store.as_ref(), who.run, who.agent.as_str())?;
            unread.retain(|mail| !new || mail.claimed_by.as_deref() != Some(by.as_str()));
            let claims = unread.iter().map(|mail| Event::MailClaimed { mail: mail.mail, by: by.clone() }).collect();
            mail::append_all(store.as_ref(), who.run, claims, &fence)?;
            Ok(unread)
        })
        .await?;
        if letters.is_empty() {
            return Ok(None);
        }
        crash::point("mail");
        Ok(Some(letters.into_iter().map(mail::text).collect()))
    }
}
