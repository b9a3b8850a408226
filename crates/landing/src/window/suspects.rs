//! Those who were in a red tree and are tried alone, and those set aside: whether it was a flake, and what they fail with.

use super::{Action, Because, Entry, Purpose, Run, Window};

/// A change that is tried alone on the target.
#[derive(Clone, Debug)]
pub(super) struct Suspect<C> {
    pub(super) entry: Entry<C>,
    /// Whether a red tree held it.
    pub(super) held: bool,
    /// How often a landing took away the target on which it was being tried.
    pub(super) missed: u32,
    /// Its run.
    pub(super) run: Option<u64>,
    /// The second look, begun before the first has ended since a verifier was free.
    pub(super) early: Option<u64>,
    /// Whether that one was red.
    red_when_it_came: bool,
    /// Whether it was green.
    verdict: Option<bool>,
}

impl<C> Suspect<C> {
    pub(super) fn of(entry: Entry<C>, held: bool) -> Self {
        Self { entry, held, early: None, red_when_it_came: false, missed: 0, run: None, verdict: None }
    }

    pub(super) fn is_tried(&self) -> bool {
        self.run.is_some()
    }
}

/// A change that was red alone on the target and is looked at again.
#[derive(Clone, Debug)]
pub(super) struct Aside<C> {
    pub(super) entry: Entry<C>,
    /// The latest point at which it is known to be green.
    green: Option<usize>,
    /// The first point at which it is known to be red; where it was set aside, at first.
    red: usize,
    /// The first point at which it is sure to be red: a second run was.
    sure: Option<usize>,
    pub(super) run: Option<u64>,
}

impl<C: Copy + Eq> Window<C> {
    /// Sets aside the suspects that are red, and takes the green ones back into the queue.
    pub(super) fn judge(&mut self, actions: &mut Vec<Action<C>>) {
        let mut at = 0;
        while let Some(suspect) = self.suspects.get_mut(at) {
            let Some(green) = suspect.verdict.take() else {
                at += 1;
                continue;
            };
            let suspect = self.suspects.remove(at);
            if green {
                self.back(suspect.entry);
            } else {
                self.set_aside(suspect, actions);
            }
        }
        self.say_why(actions);
    }

    /// The change is red alone on the target.
    pub(super) fn set_aside(&mut self, suspect: Suspect<C>, actions: &mut Vec<Action<C>>) {
        let Suspect { entry, early, red_when_it_came, .. } = suspect;
        actions.push(Action::SetAside { change: entry.change });
        let (green, red) = (entry.cleared, if red_when_it_came { entry.came } else { self.landed.len() });
        self.aside.push(Aside { entry, green, red, sure: red_when_it_came.then_some(red), run: early });
    }

    /// Takes a change back into the queue, behind what is closed.
    fn back(&mut self, mut entry: Entry<C>) {
        entry.passed = super::PASSED_MAX;
        let front = self.closed();
        self.queue.insert(front, entry);
    }

    /// Sends back those of whom it is known why.
    fn say_why(&mut self, actions: &mut Vec<Action<C>>) {
        let (landed, rate) = (&self.landed, &mut self.rate);
        self.aside.retain(|aside| {
            let because = match aside.green {
                _ if aside.sure != Some(aside.red) => return true,
                _ if aside.red == aside.entry.came && aside.entry.moved => Because::Unknown,
                _ if aside.red == aside.entry.came => Because::Itself,
                Some(green) if green + 1 == aside.red => landed.get(green).map_or(Because::Unknown, |&with| Because::With(with)),
                _ => return true,
            };
            rate.ejected();
            actions.push(Action::Return { change: aside.entry.change, because });
            false
        });
        while let Some(at) = self.aside.iter().position(|aside| aside.sure.is_none() && aside.green == Some(aside.red)) {
            let entry = self.aside.remove(at).entry;
            actions.push(Action::Flaky { change: entry.change });
            self.back(entry);
        }
    }

    /// A suspect's run has ended.
    pub(super) fn alone(&mut self, run: Run<C>, green: bool) {
        let now = self.landed.len();
        let Some(suspect) = self.suspects.iter_mut().find(|suspect| suspect.run == Some(run.number)) else { return };
        suspect.run = None;
        if green {
            suspect.entry.cleared = Some(run.after);
            suspect.verdict = Some(true);
            self.greens.push(run);
        } else if run.after == now {
            suspect.verdict = Some(false);
        } else {
            suspect.missed += 1;
        }
    }

    /// A suspect's run was stopped since the target moved on.
    pub(super) fn missed(&mut self, run: &Run<C>) {
        if let Some(suspect) = self.suspects.iter_mut().find(|suspect| suspect.run == Some(run.number)) {
            suspect.run = None;
            suspect.missed += 1;
        }
    }

    /// Whether somebody waits for this second look.
    pub(super) fn is_looked_at(&self, run: u64) -> bool {
        self.aside.iter().any(|aside| aside.run == Some(run)) || self.suspects.iter().any(|suspect| suspect.early == Some(run))
    }

    /// A second look at a change that was set aside has ended.
    pub(super) fn looked(&mut self, run: &Run<C>, green: bool) {
        let Some(aside) = self.aside.iter_mut().find(|aside| aside.run == Some(run.number)) else {
            let Some(suspect) = self.suspects.iter_mut().find(|suspect| suspect.early == Some(run.number)) else { return };
            suspect.early = None;
            if green {
                suspect.entry.cleared = suspect.entry.cleared.max(Some(run.after));
            } else {
                suspect.red_when_it_came = true;
            }
            return;
        };
        aside.run = None;
        if green {
            aside.green = Some(run.after);
            // Here it was red once, by a flake; later it is red for sure.
            if let Some(sure) = aside.sure.filter(|_| run.after == aside.red) {
                aside.red = sure;
            }
        } else {
            if run.after == aside.red || run.after == aside.entry.came {
                aside.sure = Some(run.after);
            }
            aside.red = run.after;
        }
    }

    /// Starts up to `free` runs of suspects; those that a red tree held first.
    pub(super) fn try_suspects(&mut self, free: usize, actions: &mut Vec<Action<C>>) {
        let after = self.landed.len();
        let mut wanted: Vec<_> = (0..self.suspects.len()).filter(|&at| !self.suspects[at].is_tried()).collect();
        wanted.sort_by_key(|&at| !self.suspects[at].held);
        for at in wanted.into_iter().take(free) {
            let change = self.suspects[at].entry.change;
            let number = self.begin(Purpose::Alone, after, vec![change], false, actions);
            self.suspects[at].run = Some(number);
        }
    }

    /// Where nobody else needs the verifiers, suspects that are being tried get their second look at once.
    pub(super) fn look_early(&mut self, actions: &mut Vec<Action<C>>) {
        for at in 0..self.suspects.len() {
            let suspect = &self.suspects[at];
            let known = suspect.early.is_some() || suspect.red_when_it_came || suspect.entry.cleared.is_some();
            if self.free() > 0 && suspect.held && suspect.is_tried() && !known && suspect.entry.came < self.landed.len() {
                let (after, change) = (suspect.entry.came, suspect.entry.change);
                let number = self.begin(Purpose::Again, after, vec![change], false, actions);
                self.suspects[at].early = Some(number);
            }
        }
    }

    /// Starts up to `free` second looks: first where the change came, then the same tree once more, then
    /// halfway between what is green and what is red; what is found that way is looked at twice, too.
    pub(super) fn look_again(&mut self, free: usize, actions: &mut Vec<Action<C>>) {
        for at in 0..self.aside.len() {
            let aside = &self.aside[at];
            if aside.run.is_none() && self.free() > 0 && self.flying(Purpose::Again) < free {
                let after = match aside.green {
                    None => aside.entry.came,
                    Some(green) if aside.sure.is_none() || green + 1 == aside.red => aside.red,
                    Some(green) => green.midpoint(aside.red),
                };
                let (change, again) = (aside.entry.change, after == aside.red);
                let number = self.begin(Purpose::Again, after, vec![change], again, actions);
                self.aside[at].run = Some(number);
            }
        }
    }
}
