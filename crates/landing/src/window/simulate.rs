//! The window on a simulated clock: worlds of good and bad changes, where a run of the gates takes one unit of time.

use std::collections::HashMap;

use super::{Action, Rate, Run, Window};

/// Worlds of one simulation.
const WORLDS: u32 = 1000;

/// What a world is drawn from.
#[derive(Clone, Copy, Debug)]
pub struct World {
    /// Changes, all waiting at the start.
    pub changes: u32,
    /// The chance that a change is bad.
    pub bad: f64,
    /// The chance that two changes fail together.
    pub pairs: f64,
    /// Runs at once.
    pub verifiers: usize,
}

/// Means over all worlds.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Means {
    /// How many worlds.
    pub worlds: u32,
    /// Runs of the gates for each change.
    pub runs_per_branch: f64,
    /// Units of time until every change has landed or is back with its author, and it is known why.
    pub makespan: f64,
    /// Changes that landed.
    pub landed: f64,
    /// Changes that were ejected though they were green on the target at that moment.
    pub wrongly_ejected: f64,
}

/// Plays 1,000 worlds through the window. The same world gives the same means.
pub fn simulate(world: &World) -> Means {
    let mut sum = Means::default();
    for seed in 0..WORLDS {
        let one = Play::of(world, u64::from(seed)).play(world);
        sum.runs_per_branch += one.runs_per_branch;
        sum.makespan += one.makespan;
        sum.landed += one.landed;
        sum.wrongly_ejected += one.wrongly_ejected;
    }
    let mean = |sum: f64| sum / f64::from(WORLDS);
    Means {
        worlds: WORLDS,
        runs_per_branch: mean(sum.runs_per_branch),
        makespan: mean(sum.makespan),
        landed: mean(sum.landed),
        wrongly_ejected: mean(sum.wrongly_ejected),
    }
}

/// One world, and what has happened in it.
struct Play {
    bad: Vec<bool>,
    /// Those with whom each change fails.
    pairs: Vec<Vec<u32>>,
    /// Verdicts by tree: the same changes make the same tree in any order.
    verdicts: HashMap<Vec<u32>, bool>,
    runs: u32,
    wrongly: u32,
}

impl Play {
    fn of(world: &World, seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1));
        let bad = (0..world.changes).map(|_| random.chance(world.bad)).collect();
        let mut pairs = vec![Vec::new(); world.changes as usize];
        for second in 0..world.changes {
            for first in 0..second {
                if world.pairs > 0.0 && random.chance(world.pairs) {
                    pairs[second as usize].push(first);
                    pairs[first as usize].push(second);
                }
            }
        }
        Self { bad, pairs, verdicts: HashMap::new(), runs: 0, wrongly: 0 }
    }

    fn play(mut self, world: &World) -> Means {
        let mut window = Window::new(world.verifiers, Rate::default());
        (0..world.changes).for_each(|change| window.push(change, 0));
        let (mut now, mut running): (u32, Vec<Run<u32>>) = (0, Vec::new());
        let mut known = Vec::new();
        loop {
            let before = window.landed().to_vec();
            let actions = window.decide();
            self.follow(before, actions, &window, &mut running, &mut known);
            if !known.is_empty() {
                // A verdict that is known costs nothing.
                known.drain(..).for_each(|(run, green)| window.report(run, green));
            } else if running.is_empty() {
                break;
            } else {
                now += 1;
                for run in running.drain(..) {
                    let green = self.verify(&window, &run);
                    window.report(run.number, green);
                }
            }
        }
        let all = f64::from(world.changes.max(1));
        let landed = u32::try_from(window.landed().len()).map_or(all, f64::from);
        Means {
            worlds: 1,
            runs_per_branch: f64::from(self.runs) / all,
            makespan: f64::from(now),
            landed,
            wrongly_ejected: f64::from(self.wrongly),
        }
    }

    fn follow(
        &mut self,
        mut target: Vec<u32>,
        actions: Vec<Action<u32>>,
        window: &Window<u32>,
        running: &mut Vec<Run<u32>>,
        known: &mut Vec<(u64, bool)>,
    ) {
        for action in actions {
            match action {
                Action::Land { changes } => target.extend(changes),
                Action::SetAside { change } => {
                    let mut tree = target.clone();
                    tree.push(change);
                    self.wrongly += u32::from(self.is_green(&tree));
                }
                Action::Start(run) => match self.verdicts.get(&tree_of(window, &run)) {
                    Some(&green) if !run.again => known.push((run.number, green)),
                    _ => running.push(run),
                },
                Action::Stop { run } => running.retain(|other| other.number != run),
                Action::Return { .. } | Action::Flaky { .. } => {}
            }
        }
    }

    fn verify(&mut self, window: &Window<u32>, run: &Run<u32>) -> bool {
        self.runs += 1;
        let tree = tree_of(window, run);
        let green = self.is_green(&tree);
        self.verdicts.insert(tree, green);
        green
    }

    fn is_green(&self, tree: &[u32]) -> bool {
        let holds = |change: &u32| tree.contains(change);
        !tree.iter().any(|&change| self.bad[change as usize] || self.pairs[change as usize].iter().any(holds))
    }
}

fn tree_of(window: &Window<u32>, run: &Run<u32>) -> Vec<u32> {
    let mut tree = window.landed()[..run.after].to_vec();
    tree.extend(&run.changes);
    tree.sort_unstable();
    tree
}

/// A small generator (splitmix64): worlds are the same on every machine.
struct Random(u64);

impl Random {
    fn chance(&mut self, chance: f64) -> bool {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        ((mixed >> 11) as f64) < chance * (1_u64 << 53) as f64
    }
}
