//! When a provider is to be left alone.
//!
//! The circuit breaker of M. Nygard, "Release It!" (2007): closed, requests pass; after several failures in a row it is open and
//! nothing passes; after a pause one request is let through, and its end decides. Pure: it is told the time.

use std::collections::VecDeque;
use std::time::Duration;

use aedile_core::Timestamp;
use aedile_core::limits::{BREAKER_FAILURES, BREAKER_PAUSE, BREAKER_PAUSE_MAX, BREAKER_WINDOW};

use crate::fault::{Fault, FaultKind};

/// A provider that is left alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Down {
    /// What it answered last.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
    /// When one request tries it again.
    pub again: Timestamp,
    /// Whether only a person can help.
    pub person: bool,
}

/// Whether a request may go out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It may.
    Passes,
    /// It may, alone: its end decides whether the others may.
    Tries,
    /// It may not.
    Refused(Down),
}

/// What a request has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// The provider is left alone from now on, or for longer.
    Down(Down),
    /// It answers again.
    Answers,
}

#[derive(Debug)]
enum State {
    /// Requests pass; the times of failures in a row.
    Closed(VecDeque<Timestamp>),
    /// Nothing passes until `down.again`; then one request, which is under way while `trying`.
    Open { down: Down, pause: Duration, trying: bool },
}

/// The breaker of one provider, or of one of its models.
#[derive(Debug)]
pub struct Breaker(State);

impl Default for Breaker {
    fn default() -> Self {
        Self(State::Closed(VecDeque::new()))
    }
}

impl Breaker {
    /// Asks whether a request may go out. Each one that may must be followed by one of [`Self::answered`], [`Self::failed`] and
    /// [`Self::gave_up`].
    pub fn admit(&mut self, now: Timestamp) -> Admission {
        match &mut self.0 {
            State::Closed(_) => Admission::Passes,
            State::Open { down, trying, .. } if !*trying && now >= down.again => {
                *trying = true;
                Admission::Tries
            }
            State::Open { down, .. } => Admission::Refused(down.clone()),
        }
    }

    /// Returns why requests do not pass at present; `None` also when the next one may try.
    pub fn down(&self, now: Timestamp) -> Option<&Down> {
        match &self.0 {
            State::Open { down, trying, .. } if *trying || now < down.again => Some(down),
            _ => None,
        }
    }

    /// The provider has answered. `tries`: it was the request that tried it.
    pub fn answered(&mut self, tries: bool) -> Option<Change> {
        match &mut self.0 {
            State::Closed(failures) => failures.clear(),
            State::Open { .. } if tries => {
                *self = Self::default();
                return Some(Change::Answers);
            }
            // It was asked before the provider went down.
            State::Open { .. } => {}
        }
        None
    }

    /// Nothing is known of the provider: the request was broken off, or refused for what it asks.
    pub fn gave_up(&mut self, tries: bool) {
        if let (State::Open { trying, .. }, true) = (&mut self.0, tries) {
            *trying = false;
        }
    }

    /// The provider has failed.
    pub fn failed(&mut self, tries: bool, fault: Fault, now: Timestamp) -> Option<Change> {
        let person = fault.kind == FaultKind::Person;
        let asked = match fault.kind {
            FaultKind::Until(asked) => Some(asked),
            FaultKind::Person => Some(BREAKER_PAUSE_MAX),
            FaultKind::Passing => None,
        };
        let (since, pause) = match &mut self.0 {
            State::Closed(failures) => {
                failures.retain(|at| now.since(*at) <= BREAKER_WINDOW);
                failures.push_back(now);
                if failures.len() < BREAKER_FAILURES && asked.is_none() {
                    return None;
                }
                (now, BREAKER_PAUSE)
            }
            // What only a person could help against is over; another failure begins a new row.
            State::Open { down, .. } if tries && down.person && asked.is_none() => {
                self.0 = State::Closed(VecDeque::from([now]));
                return Some(Change::Answers);
            }
            State::Open { down, pause, .. } if tries => (down.since, pause.saturating_mul(2)),
            State::Open { .. } => return None,
        };
        let pause = asked.unwrap_or(pause).min(BREAKER_PAUSE_MAX);
        let down = Down { why: fault.why, since, again: now.plus(pause), person };
        self.0 = State::Open { down: down.clone(), pause, trying: false };
        Some(Change::Down(down))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultOf;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    fn fault(kind: FaultKind) -> Fault {
        Fault { why: "529: overloaded".to_owned(), kind, of: FaultOf::Provider }
    }

    fn fails(breaker: &mut Breaker, seconds: i64) -> Option<Change> {
        assert_eq!(breaker.admit(at(seconds)), Admission::Passes);
        breaker.failed(false, fault(FaultKind::Passing), at(seconds))
    }

    /// A breaker that opened at that second.
    fn open(seconds: i64) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 1..BREAKER_FAILURES {
            assert_eq!(fails(&mut breaker, seconds), None);
        }
        assert!(matches!(fails(&mut breaker, seconds), Some(Change::Down(down)) if down.since == at(seconds) && !down.person));
        breaker
    }

    #[test]
    fn a_row_of_failures_opens_it_and_an_answer_or_time_breaks_the_row() {
        let mut breaker = Breaker::default();
        for _ in 0..3 * BREAKER_FAILURES {
            assert_eq!(fails(&mut breaker, 0), None);
            assert_eq!(breaker.answered(false), None);
        }
        for second in 0..20 {
            assert_eq!(fails(&mut breaker, second * 20), None, "four a minute are no row");
        }
        let breaker = open(1000);
        assert!(breaker.down(at(1000)).is_some());
    }

    #[test]
    fn one_request_tries_it_after_the_pause_and_decides() {
        let mut breaker = open(0);
        assert!(matches!(breaker.admit(at(29)), Admission::Refused(_)));
        assert_eq!(breaker.down(at(30)), None, "whoever asks now may try");
        assert_eq!(breaker.admit(at(30)), Admission::Tries);
        assert!(matches!(breaker.admit(at(31)), Admission::Refused(_)), "one alone");
        assert!(breaker.down(at(31)).is_some());
        assert_eq!(breaker.answered(false), None, "a request from before decides nothing");
        // It fails: twice the pause, and it has been down since the beginning.
        let Some(Change::Down(down)) = breaker.failed(true, fault(FaultKind::Passing), at(32)) else { panic!("it stays open") };
        assert_eq!((down.since, down.again), (at(0), at(92)));
        assert_eq!(breaker.admit(at(92)), Admission::Tries);
        assert_eq!(breaker.answered(true), Some(Change::Answers));
        assert_eq!(breaker.admit(at(92)), Admission::Passes);
    }

    #[test]
    fn a_request_that_is_broken_off_lets_another_try() {
        let mut breaker = open(0);
        assert_eq!(breaker.admit(at(30)), Admission::Tries);
        breaker.gave_up(true);
        assert_eq!(breaker.admit(at(30)), Admission::Tries);
    }

    #[test]
    fn a_far_reset_and_a_bad_key_open_it_at_once() {
        let mut breaker = Breaker::default();
        let Some(Change::Down(down)) = breaker.failed(false, fault(FaultKind::Until(Duration::from_secs(200))), at(0)) else {
            panic!("it opens")
        };
        assert_eq!((down.again, down.person), (at(200), false));
        let mut breaker = Breaker::default();
        let Some(Change::Down(down)) = breaker.failed(false, fault(FaultKind::Person), at(0)) else { panic!("it opens") };
        assert!(down.person && down.again == at(300));
        assert_eq!(breaker.admit(at(300)), Admission::Tries);
        assert_eq!(breaker.failed(true, fault(FaultKind::Passing), at(300)), Some(Change::Answers), "the key is taken again");
        assert_eq!(breaker.admit(at(300)), Admission::Passes);
    }

    #[test]
    fn pauses_grow_to_their_limit() {
        let mut breaker = open(0);
        let mut now = at(0);
        for expected in [60, 120, 240, 300, 300] {
            now = breaker.down(now).unwrap().again;
            assert_eq!(breaker.admit(now), Admission::Tries);
            let Some(Change::Down(down)) = breaker.failed(true, fault(FaultKind::Passing), now) else { panic!("it stays open") };
            assert_eq!(down.again.since(now), Duration::from_secs(expected));
        }
    }
}
