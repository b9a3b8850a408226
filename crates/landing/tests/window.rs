//! The window against worlds of good and bad changes: runs end in any order, changes come while others are verified, runs flake, the target
//! is moved by somebody else.

use std::collections::{HashMap, HashSet};

use aedile_landing::window::{Action, Because, Rate, Run, Window, World, simulate};
use proptest::prelude::*;

/// Steps in which every play has to end.
const STEPS_MAX: usize = 5000;

/// What happens in a play.
#[derive(Clone, Debug)]
struct Plot {
    verifiers: usize,
    /// Bad or not, and the priority, of each change.
    changes: Vec<(bool, u8)>,
    pairs: Vec<(usize, usize)>,
    /// How many wait at the start.
    early: usize,
    /// Decides which run ends next, or whether a change comes.
    choices: Vec<u8>,
    /// This run is red though its tree is good.
    flake: Option<usize>,
    /// The target is moved by somebody else after so many steps.
    moved: Option<usize>,
    /// This landing fails.
    refused: Option<usize>,
    /// This change is taken away after ten steps.
    removed: Option<usize>,
}

fn plots() -> impl Strategy<Value = Plot> {
    let changes = prop::collection::vec((prop::bool::weighted(0.15), 0..3_u8), 1..28);
    let pairs = prop::collection::vec((0..28_usize, 0..28_usize), 0..5);
    let odd = (
        prop::option::weighted(0.3, 0..40_usize),
        prop::option::weighted(0.3, 1..60_usize),
        prop::option::weighted(0.3, 0..4_usize),
        prop::option::weighted(0.3, 0..28_usize),
    );
    (1..7_usize, changes, pairs, 0..28_usize, prop::collection::vec(any::<u8>(), 1..60), odd).prop_map(
        |(verifiers, changes, pairs, early, choices, (flake, moved, refused, removed))| Plot {
            verifiers,
            changes,
            pairs,
            early,
            choices,
            flake,
            moved,
            refused,
            removed,
        },
    )
}

/// A play, and what is true in it.
struct Play {
    plot: Plot,
    window: Window<usize>,
    /// What landed before the window's own target.
    base: Vec<usize>,
    /// A copy of what landed on it.
    landed: Vec<usize>,
    running: Vec<Run<usize>>,
    passed: HashSet<Vec<usize>>,
    /// The target when each change came, and when it was set aside.
    came: HashMap<usize, Vec<usize>>,
    aside: HashMap<usize, Vec<usize>>,
    returned: HashMap<usize, Because<usize>>,
    flaky: Vec<usize>,
    runs: usize,
    landings: usize,
    moved: bool,
}

impl Play {
    fn of(plot: &Plot) -> Self {
        Self {
            window: Window::new(plot.verifiers, Rate::default()),
            plot: plot.clone(),
            base: Vec::new(),
            landed: Vec::new(),
            running: Vec::new(),
            passed: HashSet::new(),
            came: HashMap::new(),
            aside: HashMap::new(),
            returned: HashMap::new(),
            flaky: Vec::new(),
            runs: 0,
            landings: 0,
            moved: false,
        }
    }

    fn is_pair(&self, one: usize, other: usize) -> bool {
        one != other && self.plot.pairs.iter().any(|&pair| pair == (one, other) || pair == (other, one))
    }

    fn is_green(&self, tree: &[usize]) -> bool {
        tree.iter().all(|&one| !self.plot.changes[one].0 && tree.iter().all(|&other| !self.is_pair(one, other)))
    }

    fn target(&self) -> Vec<usize> {
        [&self.base[..], &self.landed].concat()
    }

    fn tree(&self, run: &Run<usize>) -> Vec<usize> {
        [&self.base[..], &self.landed[..run.after], &run.changes].concat()
    }

    fn push(&mut self, change: usize) {
        self.came.insert(change, self.target());
        self.window.push(change, self.plot.changes[change].1);
    }

    fn end(&mut self, at: usize) {
        let run = self.running.remove(at);
        let tree = self.tree(&run);
        let green = self.is_green(&tree) && self.plot.flake != Some(self.runs);
        self.runs += 1;
        if green {
            self.passed.insert(tree);
        }
        self.window.report(run.number, green);
    }

    fn move_target(&mut self, unlanded: &[usize]) {
        self.moved = true;
        self.base.append(&mut self.landed);
        let actions = self.window.target_moved(unlanded);
        self.follow(actions);
    }

    fn follow(&mut self, actions: Vec<Action<usize>>) {
        let mut actions = actions.into_iter();
        while let Some(action) = actions.next() {
            match action {
                Action::Land { changes } => {
                    self.landings += 1;
                    if self.plot.refused == Some(self.landings) {
                        self.plot.refused = None;
                        self.moved = true;
                        // The driver does nothing more of what was decided: it hears what to do on the new target.
                        let started: Vec<u64> =
                            actions.filter_map(|action| if let Action::Start(run) = action { Some(run.number) } else { None }).collect();
                        self.running.retain(|run| !started.contains(&run.number));
                        let unlanded: Vec<usize> = self.window.landed()[self.landed.len()..].to_vec();
                        assert!(unlanded.starts_with(&changes));
                        self.base.append(&mut self.landed);
                        self.window.target_moved(&unlanded);
                        self.running.clear();
                        return;
                    }
                    self.landed.extend(changes);
                    assert!(self.passed.contains(&self.target()), "a tree landed that did not pass itself: {:?}", self.target());
                }
                Action::SetAside { change } => {
                    self.aside.insert(change, self.target());
                }
                Action::Return { change, because } => {
                    let target = &self.aside[&change];
                    assert!(!self.is_green(&[&target[..], &[change]].concat()), "{change} was ejected though green on the target");
                    assert!(self.returned.insert(change, because).is_none(), "{change} went back twice");
                }
                Action::Flaky { change } => self.flaky.push(change),
                Action::Start(run) => {
                    self.running.push(run);
                    assert!(self.running.len() <= self.plot.verifiers, "more runs than verifiers");
                }
                Action::Stop { run } => self.running.retain(|other| other.number != run),
            }
        }
        assert_eq!(self.window.landed(), &self.landed[..]);
    }

    /// Plays to the end.
    fn play(mut self) -> Self {
        let all = self.plot.changes.len();
        let mut next = self.plot.early.min(all);
        (0..next).for_each(|change| self.push(change));
        let choices = self.plot.choices.clone();
        for step in 0..STEPS_MAX {
            let actions = self.window.decide();
            self.follow(actions);
            if self.plot.moved == Some(step) {
                self.move_target(&[]);
                continue;
            }
            if step == 10
                && let Some(removed) = self.plot.removed
                && self.window.remove(removed)
            {
                self.returned.insert(removed, Because::Unknown);
                continue;
            }
            let choice = usize::from(choices[step % choices.len()]);
            if next < all && (choice % 3 == 0 || self.running.is_empty()) {
                self.push(next);
                next += 1;
            } else if self.running.is_empty() {
                let actions = self.window.decide();
                if actions.is_empty() {
                    assert!(self.window.is_idle(), "nothing runs and something waits: {:?}", self.window);
                    return self;
                }
                self.follow(actions);
            } else if choice % 3 == 1 {
                while !self.running.is_empty() {
                    self.end(0);
                }
            } else {
                self.end(choice % self.running.len());
            }
        }
        panic!("no end after {STEPS_MAX} steps: {:?}", self.window);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every change lands in a tree that itself passed, or goes back for a true reason, whatever happens meanwhile.
    #[test]
    fn every_change_lands_or_goes_back_rightly(plot in plots()) {
        let play = Play::of(&plot).play();
        let target = play.target();
        for change in 0..plot.changes.len() {
            prop_assert_eq!(target.iter().filter(|&&landed| landed == change).count() + usize::from(play.returned.contains_key(&change)), 1);
        }
        prop_assert!(play.is_green(&target));
        // Whose tree was red when it came, by a flake, is not looked at a third time.
        for (&change, because) in &play.returned {
            let truly = match *because {
                Because::With(other) => !plot.changes[change].0 && play.is_pair(change, other) && play.aside[&change].contains(&other),
                Because::Itself => !play.is_green(&[&play.came[&change][..], &[change]].concat()) || plot.flake.is_some(),
                Because::Unknown => play.moved || plot.removed == Some(change),
            };
            prop_assert!(truly, "{} went back because {:?}", change, because);
        }
    }

    /// Where everything is good, everything lands, nobody is set aside, and no run is for nothing.
    #[test]
    fn good_changes_all_land(mut plot in plots()) {
        plot.changes.iter_mut().for_each(|change| change.0 = false);
        plot.pairs.clear();
        (plot.flake, plot.moved, plot.refused, plot.removed) = (None, None, None, None);
        let play = Play::of(&plot).play();
        prop_assert_eq!(play.landed.len(), plot.changes.len());
        prop_assert!(play.aside.is_empty() && play.flaky.is_empty());
        prop_assert!(play.runs <= plot.changes.len());
    }
}

fn quiet(verifiers: usize, changes: &[(bool, u8)], pairs: &[(usize, usize)]) -> Plot {
    Plot {
        verifiers,
        changes: changes.to_vec(),
        pairs: pairs.to_vec(),
        early: changes.len(),
        choices: vec![1],
        flake: None,
        moved: None,
        refused: None,
        removed: None,
    }
}

#[test]
fn a_follower_is_not_blamed_and_the_culprit_is() {
    let mut changes = vec![(false, 0); 12];
    changes[4].0 = true;
    let play = Play::of(&quiet(4, &changes, &[])).play();
    assert_eq!(play.returned, HashMap::from([(4, Because::Itself)]));
    assert_eq!(play.aside.len(), 1, "nobody else was ever set aside");
    assert_eq!(play.landed.len(), 11);
}

#[test]
fn a_pair_is_named_and_only_its_second_goes_back() {
    let play = Play::of(&quiet(4, &[(false, 0); 20], &[(3, 17)])).play();
    assert_eq!(play.landed.len(), 19);
    let (&back, &because) = play.returned.iter().next().unwrap();
    assert!([(3, Because::With(17)), (17, Because::With(3))].contains(&(back, because)), "{back}: {because:?}");
}

#[test]
fn the_same_tree_red_and_then_green_is_a_flake_and_lands() {
    let mut plot = quiet(1, &[(false, 0)], &[]);
    plot.flake = Some(0);
    let play = Play::of(&plot).play();
    assert_eq!((play.landed.as_slice(), play.flaky.as_slice()), (&[0][..], &[0][..]));
    assert!(play.returned.is_empty());
}

#[test]
fn a_batch_in_flight_is_closed_and_priority_goes_before_what_waits() {
    let mut window = Window::new(2, Rate::measured(0, 30));
    (0..6).for_each(|change| window.push(change, 0));
    // Where most changes are bad, each is tried alone before it is joined with others.
    let runs: Vec<_> = window.decide();
    assert!(matches!(&runs[..], [Action::Start(one), Action::Start(two)] if one.changes == [0] && two.changes == [1]), "{runs:?}");

    let mut window = Window::new(2, Rate::default());
    (0..30).for_each(|change| window.push(change, 0));
    let started = window.decide();
    let Some(Action::Start(last)) = started.last() else { panic!("{started:?}") };
    assert_eq!(last.changes.len(), 10, "a batch of W/sqrt(p)");
    window.push(99, 5);
    let order: Vec<usize> = window.waiting().collect();
    assert_eq!(order[..10], last.changes[..], "nobody gets into what is being verified");
    assert_eq!(order[10], 99);
    // Nobody is overtaken for ever.
    (100..200).for_each(|change| window.push(change, 5));
    let place = window.waiting().position(|change| change == 10).unwrap();
    assert!(place <= 11 + 20, "overtaken by {place}");
}

#[test]
fn landings_wait_for_a_suspect_that_was_overtaken_twice() {
    let mut window = Window::new(3, Rate::default());
    window.push(0_usize, 0);
    window.push(1, 0);
    let mut slow = None;
    let mut overtaken = 0;
    let mut coming = 2;
    for _ in 0..200 {
        let mut ends = Vec::new();
        for action in window.decide() {
            match action {
                // Whoever builds on 0 is red, and 0 alone takes long.
                Action::Start(run) if run.changes == [0] && slow.is_none() && overtaken > 0 => slow = Some(run.number),
                Action::Start(run) => ends.push((run.number, !run.changes.contains(&0))),
                Action::Stop { run } if slow == Some(run) => slow = None,
                Action::Land { .. } => overtaken += 1,
                Action::SetAside { change } => {
                    assert_eq!(change, 0);
                    assert!(overtaken <= 6, "overtaken {overtaken} times");
                    return;
                }
                Action::Stop { .. } | Action::Return { .. } | Action::Flaky { .. } => {}
            }
        }
        if ends.is_empty()
            && let Some(run) = slow.take()
        {
            window.report(run, false);
            continue;
        }
        ends.into_iter().for_each(|(run, green)| window.report(run, green));
        window.push(coming, 0);
        coming += 1;
    }
    panic!("the suspect never got its verdict: {window:?}");
}

#[test]
fn the_simulated_figures_beat_the_targets() {
    for (changes, bad, pairs, runs, makespan) in [(30, 0.05, 0.0, 0.65, 5.5), (30, 0.05, 0.001, 0.65, 5.5), (100, 0.02, 0.0, 0.4, 10.0)] {
        let means = simulate(&World { changes, bad, pairs, verifiers: 4 });
        assert!(means.runs_per_branch <= runs && means.makespan <= makespan, "{changes} {bad} {pairs}: {means:?}");
        assert!(means.wrongly_ejected == 0.0, "{means:?}");
        assert!(means.landed > f64::from(changes) * (1.0 - bad) - 1.0, "{means:?}");
    }
}

/// The table of the manual is what the simulation says.
#[test]
fn the_manual_has_the_simulated_figures() {
    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/landing.md")).unwrap();
    let rows = manual.lines().filter(|line| line.contains(" % | "));
    let mut seen = 0;
    for row in rows {
        let cells: Vec<f64> = row.split('|').filter_map(|cell| cell.trim().trim_end_matches(" %").parse().ok()).collect();
        let [changes, bad, pairs, verifiers, runs, makespan] = cells[..] else { panic!("{row}") };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the manual's own whole numbers")]
        let means = simulate(&World { changes: changes as u32, bad: bad / 100.0, pairs: pairs / 100.0, verifiers: verifiers as usize });
        assert!((means.runs_per_branch - runs).abs() <= 0.0051 && (means.makespan - makespan).abs() <= 0.051, "{row}: {means:?}");
        seen += 1;
    }
    assert_eq!(seen, 9);
}

#[test]
fn extreme_worlds_end() {
    for (changes, bad, pairs, verifiers) in [(0, 0.5, 0.5, 1), (1, 1.0, 0.0, 1), (40, 1.0, 0.0, 4), (40, 0.0, 1.0, 3), (40, 0.5, 0.05, 64)]
    {
        let means = simulate(&World { changes, bad, pairs, verifiers });
        assert!(means.wrongly_ejected == 0.0, "{means:?}");
        let landed = if bad == 1.0 || changes == 0 { 0.0..=0.0 } else { 1.0..=f64::from(changes) };
        assert!(landed.contains(&means.landed), "{means:?}");
    }
}
