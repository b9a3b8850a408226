//! Clean-room trees for gates, and the cost of a landing.

use std::process::Command;
use std::time::Duration;

use aedile_testkit::TempRepo;

use crate::support::World;

#[test]
fn a_clean_room_holds_the_commit_and_nothing_else() {
    let world = World::new();
    world.repo.write("untracked.txt", "u\n").write("src/a.txt", "dirty\n");
    let dest = world.state.path().join("gate");
    world.hub.export_tree(world.project.head(), &dest).unwrap();
    let repo = TempRepo::open(&dest);
    assert_eq!(repo.read("src/a.txt"), "one\ntwo\nthree\n");
    assert!(!dest.join("untracked.txt").exists());
    let mut log = repo.command(&["describe", "--always", "--dirty"]);
    let log = log.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", world.hub.dir().join("objects")).output().unwrap();
    assert!(world.project.head().as_str().starts_with(String::from_utf8_lossy(&log.stdout).trim()));
    assert!(!log.stdout.is_empty());
}

/// CPU time of all children that this thread's process has waited for, from the kernel's own count.
fn children_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<u64> = text.rsplit_once(") ").unwrap().1.split(' ').skip(13).take(2).map(|field| field.parse().unwrap()).collect();
    Duration::from_millis(fields.iter().sum::<u64>() * 10)
}

/// Not a strict bench (ticks are 10 ms and other tests run beside it), but it fails when somebody adds process after process.
#[test]
fn landing_costs_a_few_git_processes() {
    let world = World::new();
    world.repo.branch("other");
    let changes: Vec<_> = (0..10).map(|n| world.changed(&format!("t{n}"), &format!("src/{n}.txt"), "new\n")).collect();
    let workspace = world.workspace("import");
    workspace.repo.write("src/import.txt", "i\n");
    let commit = workspace.commit("work");
    let before = children_cpu();
    for _ in 0..10 {
        world.import(&workspace, &commit).unwrap();
    }
    println!("10 imports: {:?}", children_cpu() - before);
    let before = children_cpu();
    for change in &changes {
        let base = world.project.landing_point(&crate::support::refname("refs/heads/main")).unwrap().base;
        world.hub.diff_paths(&base, change).unwrap();
        world.land(change);
    }
    let ours = children_cpu() - before;
    let floor_repo = World::new();
    for n in 0..10 {
        floor_repo.repo.checkout("main").branch(&format!("b{n}")).write(&format!("src/{n}.txt"), "new\n").commit("x");
    }
    floor_repo.repo.checkout("main");
    let before = children_cpu();
    for n in 0..10 {
        let mut merge: Command = floor_repo.repo.command(&["merge", "-q", "--no-ff", "--no-edit", &format!("b{n}")]);
        assert!(merge.status().unwrap().success());
    }
    let floor = children_cpu() - before;
    assert!(ours < floor * 10 + Duration::from_millis(500), "10 landings took {ours:?}, 10 merges {floor:?}");
    println!("10 landings: {ours:?}; 10 merges by git: {floor:?}");
}
