//! What a landing costs, gates apart.

use std::time::Duration;

use aedile_core::machine::ChangeState;

use crate::support::{Setup, World};

const ROUNDS: u32 = 10;

/// CPU time of this process and of its children that have ended, user and system.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<u64> =
        stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(4).map(|field| field.parse().unwrap()).collect();
    Duration::from_millis(fields.iter().sum::<u64>() * 10)
}

/// Prints the figures of one run; the bounds only catch a landing that has grown out of all proportion on a busy machine.
#[tokio::test(flavor = "multi_thread")]
async fn a_landing_costs_a_few_git_merges() {
    let world = World::new(Setup::default());
    let queue = world.queue();
    let (mut import, mut landing) = (Duration::ZERO, Duration::ZERO);
    for n in 0..ROUNDS {
        let change = world.submitted(&format!("t{n}"), &["src/**"], &[(&format!("src/{n}.txt"), "x\n")]);
        let start = cpu();
        assert_eq!(queue.advance(change).await.unwrap(), ChangeState::Imported);
        let middle = cpu();
        assert_eq!(queue.advance(change).await.unwrap(), ChangeState::Gated);
        assert_eq!(queue.advance(change).await.unwrap(), ChangeState::Landed);
        (import, landing) = (import + (middle - start), landing + (cpu() - middle));
    }
    for n in 0..ROUNDS {
        world.repo.git(&["checkout", "-q", "-b", &format!("side{n}"), "person~0"]);
        world.repo.write(&format!("src/m{n}.txt"), "m\n").commit("side");
    }
    world.repo.git(&["checkout", "-q", "-b", "into", "main"]);
    let start = cpu();
    for n in 0..ROUNDS {
        world.repo.git(&["merge", "-q", "--no-edit", &format!("side{n}")]);
    }
    let merge = cpu() - start;
    let each = |total: Duration| total.as_secs_f64() * 1000.0 / f64::from(ROUNDS);
    println!(
        "import {:.1} ms, landing {:.1} ms, git merge {:.1} ms, ratio {:.1}",
        each(import),
        each(landing),
        each(merge),
        each(landing) / each(merge)
    );
    assert!(landing.max(import) < Duration::from_millis(250) * ROUNDS);
}
