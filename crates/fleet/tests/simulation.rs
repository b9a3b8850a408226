//! Random histories of whole runs over a store that may crash after any append. The agents and the landing are simulated; what is
//! decided, what is appended and what is accepted is the real thing.

mod landing;
mod units;
mod world;

use world::World;

/// How many histories.
const HISTORIES: u64 = 10_000;

#[test]
fn no_history_loses_a_task_or_lands_twice() {
    let threads = std::thread::available_parallelism().map_or(2, |count| count.get().min(4)) as u64;
    std::thread::scope(|scope| {
        let all: Vec<_> =
            (0..threads).map(|first| scope.spawn(move || (first..HISTORIES).step_by(threads as usize).for_each(history))).collect();
        all.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// One history: some time in which everything may go wrong, then a calm end.
fn history(seed: u64) {
    let lived = std::panic::catch_unwind(|| {
        let mut world = World::new(seed);
        let steps = world.random.below(24);
        for _ in 0..steps {
            world.step();
        }
        world.calm_down();
        world.check();
    });
    if let Err(panic) = lived {
        let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        panic!("the history with seed {seed} is wrong: {}", text.unwrap_or_default());
    }
}
