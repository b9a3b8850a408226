//! The window: which joined trees are verified next, what lands, and who goes back. Pure: no clock, no input or output.
//!
//! Whoever drives it says which changes wait ([`Window::push`]) and how runs of the gates ended ([`Window::report`]), and does what
//! [`Window::decide`] answers. A *run* verifies one joined tree: the target as it was after so many landings of this window, with some
//! changes on top of it, in order.
//!
//! - A batch of about W/sqrt(p) changes is cut into W nested prefixes that are verified at once; the longest green one lands.
//! - A red prefix leaves a *gap*: the changes at the head that fail as a whole. It is closed to newcomers. A wide one is tried,
//!   once, without each of its W parts: mostly one of these trees is green, and all of it lands. Otherwise it is cut W+1-ary.
//! - Few changes that are left of a gap are *suspects*: each is tried alone on the target, beside the next batch. Who is red there is set aside.
//! - It goes back only after a second red run. That is the one on what was the target when it came: green there, it fails only together with
//!   something that landed since, and that is looked for and named. The same tree red and then green is a flake, and its change goes on.

mod plan;
mod rate;
mod simulate;
mod suspects;

pub use rate::Rate;
pub use simulate::{Means, World, simulate};

use suspects::{Aside, Suspect};

/// Landings that may overtake a suspect while it is tried; then landings wait for its verdict.
const MISSED_MAX: u32 = 2;
/// Changes of a higher priority that may overtake one change.
const PASSED_MAX: u32 = 20;

/// One run of the gates that the window asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run<C> {
    /// Names the run in [`Action::Stop`] and [`Window::report`].
    pub number: u64,
    /// The tree is built on the target as it was after this many changes of [`Window::landed`].
    pub after: usize,
    /// What is on top of it, in order.
    pub changes: Vec<C>,
    /// Whether the gates have to run even where a verdict for the same tree is known: it is the second look at a red one.
    pub again: bool,
}

/// Why a change goes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Because<C> {
    /// It was red already on what was the target when it came.
    Itself,
    /// It was green before this change landed, and is red since: the two fail only together.
    With(C),
    /// Somebody else moved the target since it came, and it is red on what that made of it.
    Unknown,
}

/// What is to be done, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action<C> {
    /// Exactly these changes, in this order, are on the target in a tree that passed: land them in one step.
    Land {
        /// The changes.
        changes: Vec<C>,
    },
    /// The change is red alone on the target of this moment and out of the others' way. [`Action::Return`] or [`Action::Flaky`] follows.
    SetAside {
        /// The change.
        change: C,
    },
    /// The change that was set aside is ejected: it goes back to its author.
    Return {
        /// The change.
        change: C,
        /// Why.
        because: Because<C>,
    },
    /// The change that was set aside waits again: the same tree was red and then green.
    Flaky {
        /// The change.
        change: C,
    },
    /// Begin this run.
    Start(Run<C>),
    /// The run's verdict is no longer of use; it is not reported any more.
    Stop {
        /// Its number.
        run: u64,
    },
}

/// What a run is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purpose {
    /// A prefix of the queue.
    Prefix,
    /// The gap without one part of it.
    Without,
    /// A suspect alone.
    Alone,
    /// The second look at a change that was set aside, and what it fails with.
    Again,
}

#[derive(Clone, Debug)]
struct Flight<C> {
    run: Run<C>,
    purpose: Purpose,
}

/// A change that waits.
#[derive(Clone, Debug)]
struct Entry<C> {
    change: C,
    priority: u8,
    /// Landings before it came.
    came: usize,
    /// The last landing after which it was green alone.
    cleared: Option<usize>,
    passed: u32,
    /// Whether somebody else moved the target since.
    moved: bool,
}

impl<C> Entry<C> {
    /// What was known of it was known on another target.
    fn forget(&mut self) {
        (self.came, self.cleared, self.moved) = (0, None, true);
    }
}

/// The scheduler of one target. `C` names a change.
#[derive(Clone, Debug)]
pub struct Window<C> {
    verifiers: usize,
    rate: Rate,
    queue: Vec<Entry<C>>,
    /// So many changes at the head of the queue are red as a whole on the target.
    gap: Option<usize>,
    /// Whether the gap was tried without its parts.
    parts_tried: bool,
    suspects: Vec<Suspect<C>>,
    aside: Vec<Aside<C>>,
    landed: Vec<C>,
    /// Trees that passed: after how many landings, with what on top.
    greens: Vec<Run<C>>,
    flights: Vec<Flight<C>>,
    numbers: u64,
}

impl<C: Copy + Eq> Window<C> {
    /// Makes an empty window for so many runs at once (at least one), with what is known of the project's changes.
    pub fn new(verifiers: usize, rate: Rate) -> Self {
        Self {
            verifiers: verifiers.max(1),
            rate,
            queue: Vec::new(),
            gap: None,
            parts_tried: false,
            suspects: Vec::new(),
            aside: Vec::new(),
            landed: Vec::new(),
            greens: Vec::new(),
            flights: Vec::new(),
            numbers: 0,
        }
    }

    /// A change waits from now on. A higher priority goes first, but not before what is being verified or bisected, and not before a change
    /// that was overtaken often enough.
    pub fn push(&mut self, change: C, priority: u8) {
        let entry = Entry { change, priority, came: self.landed.len(), cleared: None, passed: 0, moved: false };
        let closed = self.closed();
        let overtaken =
            self.queue[closed..].iter().rev().take_while(|other| other.priority < priority && other.passed < PASSED_MAX).count();
        let at = self.queue.len() - overtaken;
        self.queue[at..].iter_mut().for_each(|other| other.passed += 1);
        self.queue.insert(at, entry);
    }

    /// A run has ended, or the verdict of its tree was known already (not for a run that is to be done [again](Run::again)). Verdicts of runs that
    /// were stopped are ignored.
    pub fn report(&mut self, run: u64, green: bool) {
        let Some(at) = self.flights.iter().position(|flight| flight.run.number == run) else { return };
        let Flight { run, purpose } = self.flights.swap_remove(at);
        match purpose {
            Purpose::Alone => self.alone(run, green),
            Purpose::Again => self.looked(&run, green),
            Purpose::Prefix | Purpose::Without if green => self.greens.push(run),
            Purpose::Prefix => {
                let red = self.rest(&run).filter(|rest| self.is_head(rest)).map(<[C]>::len);
                if let Some(red) = red
                    && self.gap.is_none_or(|gap| red < gap)
                {
                    self.gap = Some(red);
                }
            }
            Purpose::Without => {}
        }
    }

    /// Somebody else moved the target, or took away what a landing was to be built on: `unlanded` did not land although [`Action::Land`] said so.
    /// All verdicts are void.
    pub fn target_moved(&mut self, unlanded: &[C]) -> Vec<Action<C>> {
        let actions: Vec<_> = self.flights.drain(..).map(|flight| Action::Stop { run: flight.run.number }).collect();
        self.greens.clear();
        self.landed.clear();
        self.gap = None;
        let back = unlanded.iter().map(|&change| Entry { change, priority: 0, came: 0, cleared: None, passed: PASSED_MAX, moved: true });
        self.queue.splice(0..0, back);
        self.queue.iter_mut().for_each(Entry::forget);
        let asked: Vec<_> =
            self.suspects.drain(..).map(|suspect| suspect.entry).chain(self.aside.drain(..).map(|aside| aside.entry)).collect();
        self.suspects = asked
            .into_iter()
            .map(|mut entry| {
                entry.forget();
                Suspect::of(entry, true)
            })
            .collect();
        actions
    }

    /// A person took the change away. `false` when it does not wait here: it has landed or went back.
    pub fn remove(&mut self, change: C) -> bool {
        if let Some(at) = self.aside.iter().position(|aside| aside.entry.change == change) {
            self.aside.remove(at);
            return true;
        }
        if let Some(at) = self.suspects.iter().position(|suspect| suspect.entry.change == change) {
            self.suspects.remove(at);
            return true;
        }
        let Some(at) = self.queue.iter().position(|entry| entry.change == change) else { return false };
        self.queue.remove(at);
        // What is left of a gap may well be green.
        self.gap = self.gap.filter(|gap| at >= *gap);
        true
    }

    /// Says what to do now. To be asked after every [`push`](Self::push) and [`report`](Self::report).
    pub fn decide(&mut self) -> Vec<Action<C>> {
        let mut actions = Vec::new();
        loop {
            self.judge(&mut actions);
            if self.land(&mut actions) {
                continue;
            }
            // The head of the queue is red as a whole.
            match self.gap {
                Some(1) => {
                    let entry = self.queue.remove(0);
                    self.gap = None;
                    self.set_aside(Suspect::of(entry, true), &mut actions);
                }
                // Small enough to ask each one.
                Some(gap) if gap <= (self.verifiers / 2).max(1) => {
                    let suspects = self.queue.drain(..gap).map(|entry| Suspect::of(entry, true));
                    self.suspects.extend(suspects);
                    self.gap = None;
                }
                _ => break,
            }
        }
        self.stop(&mut actions);
        self.start(&mut actions);
        actions
    }

    /// What has landed since the window was made or the target was moved by somebody else, oldest first.
    pub fn landed(&self) -> &[C] {
        &self.landed
    }

    /// The changes that wait, in the order in which they would land; then suspects and those that were set aside.
    pub fn waiting(&self) -> impl Iterator<Item = C> + '_ {
        let suspects = self.suspects.iter().map(|suspect| &suspect.entry);
        self.queue.iter().chain(suspects).chain(self.aside.iter().map(|aside| &aside.entry)).map(|entry| entry.change)
    }

    /// Whether nothing waits and nothing is to be found out.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.suspects.is_empty() && self.aside.is_empty()
    }

    /// What is known of the project's changes by now; kept for the next window.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Lands the longest green tree, if there is one.
    fn land(&mut self, actions: &mut Vec<Action<C>>) -> bool {
        let waits_for_suspect = self.suspects.iter().any(|suspect| suspect.missed >= MISSED_MAX && suspect.is_tried());
        if waits_for_suspect {
            return false;
        }
        let in_flight = self.flights.iter().any(|flight| matches!(flight.purpose, Purpose::Prefix | Purpose::Without));
        let longest = self
            .greens
            .iter()
            .filter_map(|green| self.rest(green))
            .filter(|rest| !rest.is_empty() && rest.iter().all(|change| self.queue.iter().any(|entry| entry.change == *change)))
            // One that was cleared alone does not take the ground from under a batch.
            .filter(|rest| !in_flight || rest.len() > 1 || self.is_head(rest))
            .max_by_key(|rest| rest.len())
            .map(<[C]>::to_vec);
        let Some(changes) = longest else {
            self.greens.clear();
            return false;
        };
        let head = self.gap.unwrap_or(0);
        let left = self.queue[..head].iter().filter(|entry| !changes.contains(&entry.change)).count();
        self.gap = (left > 0).then_some(left);
        self.parts_tried = false;
        self.queue.retain(|entry| !changes.contains(&entry.change));
        self.rate.landed(changes.len());
        self.landed.extend(&changes);
        actions.push(Action::Land { changes });
        true
    }

    /// Stops what can no longer be of use.
    fn stop(&mut self, actions: &mut Vec<Action<C>>) {
        let flights = std::mem::take(&mut self.flights);
        let (useful, useless): (Vec<_>, Vec<_>) = flights.into_iter().partition(|flight| self.is_useful(flight));
        self.flights = useful;
        for Flight { run, purpose } in useless {
            if purpose == Purpose::Alone {
                self.missed(&run);
            }
            actions.push(Action::Stop { run: run.number });
        }
    }

    fn is_useful(&self, flight: &Flight<C>) -> bool {
        let gap = self.gap.unwrap_or(usize::MAX);
        match (flight.purpose, self.rest(&flight.run)) {
            (Purpose::Again, _) => self.is_looked_at(flight.run.number),
            (Purpose::Alone, _) => {
                flight.run.after == self.landed.len() && self.suspects.iter().any(|suspect| suspect.run == Some(flight.run.number))
            }
            (Purpose::Prefix, Some(rest)) => !rest.is_empty() && rest.len() < gap && self.is_head(rest),
            (Purpose::Without, Some(rest)) => {
                let waits = |change: &C| self.queue.iter().any(|entry| entry.change == *change);
                self.gap.is_some_and(|gap| self.queue[..gap].iter().any(|entry| !rest.contains(&entry.change))) && rest.iter().all(waits)
            }
            (Purpose::Prefix | Purpose::Without, None) => false,
        }
    }

    /// What of the run's changes has not landed yet; `None` when its tree is not one on top of the target.
    fn rest<'a>(&self, run: &'a Run<C>) -> Option<&'a [C]> {
        run.changes.strip_prefix(self.landed.get(run.after..)?)
    }

    fn is_head(&self, changes: &[C]) -> bool {
        changes.len() <= self.queue.len() && self.queue.iter().zip(changes).all(|(entry, change)| entry.change == *change)
    }

    /// So many changes at the head are being verified, are green and not landed yet, or are bisected: nobody gets between them.
    fn closed(&self) -> usize {
        let batches = self.flights.iter().filter(|flight| matches!(flight.purpose, Purpose::Prefix | Purpose::Without));
        let verified = batches.map(|flight| &flight.run).chain(&self.greens).filter_map(|run| {
            let last = self.rest(run)?.last()?;
            self.queue.iter().position(|entry| entry.change == *last).map(|at| at + 1)
        });
        verified.max().unwrap_or(0).max(self.gap.unwrap_or(0)).min(self.queue.len())
    }
}
