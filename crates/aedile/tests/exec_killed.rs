//! `aedile sandbox exec` whose own process is killed: the next command finishes what it had to do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aedile_testkit::environment::{Background, Finished, User};
use aedile_testkit::{TestEnvironment, wait_for};

const LIMIT: Duration = Duration::from_secs(60);

fn environment(user: User) -> (TestEnvironment, PathBuf) {
    let env = TestEnvironment::for_user(super::program(), user);
    let dir = env.work().join("dir");
    std::fs::create_dir(&dir).unwrap();
    std::fs::create_dir_all(dir.join("old/.vscode")).unwrap();
    std::fs::write(dir.join("old/.vscode/tasks.json"), "mine\n").unwrap();
    env.give_to_user();
    (env, dir.canonicalize().unwrap())
}

fn start(env: &TestEnvironment, dir: &Path, options: &[&str], script: &str) -> Background {
    let mut command = env.command();
    command.args(["sandbox", "exec", "--dir"]).arg(dir).args(options).args(["--", "sh", "-c", script]);
    env.start(command)
}

fn exec(env: &TestEnvironment, dir: &Path, script: &str) -> Finished {
    start(env, dir, &[], script).wait(LIMIT)
}

const PLANT: &str = "mkdir .vscode repo repo/.git repo/.git/hooks repo/.git/objects repo/.git/refs; echo evil > .vscode/tasks.json; \
                     echo evil > repo/.git/hooks/post-checkout; echo x > repo/.git/HEAD; echo good > good; echo planted; sleep 1000";

/// Plants things, and is killed then.
fn killed(env: &TestEnvironment, dir: &Path, options: &[&str], script: &str) {
    let running = start(env, dir, options, script);
    running.wait_for_stdout("planted", LIMIT);
    running.kill_9();
}

#[test]
fn the_next_command_moves_away_what_a_killed_one_planted() {
    for user in [User::Same, User::Ordinary] {
        let (env, dir) = environment(user);
        killed(&env, &dir, &[], PLANT);
        assert!(dir.join(".vscode/tasks.json").exists() && dir.join("repo/.git/hooks/post-checkout").exists(), "nothing was planted");
        let next = exec(&env, &dir, "ls -A . repo");
        assert!(!next.success().contains(".vscode") && !next.stdout.contains(".git"), "{}", next.stdout);
        for part in [".vscode was made", "[editor-vscode]", "repo/.git was made", "[git-directory]", "was killed while", "2 names"] {
            assert!(next.stderr.contains(part), "{part}: {}", next.stderr);
        }
        let moved = next.stderr.lines().find(|line| line.contains(".vscode was made")).unwrap();
        let moved = moved.split("moved to ").nth(1).unwrap().split(" [").next().unwrap();
        assert_eq!(std::fs::read_to_string(Path::new(moved).join("tasks.json")).unwrap(), "evil\n");
        assert_eq!(std::fs::read_to_string(dir.join("old/.vscode/tasks.json")).unwrap(), "mine\n");
        assert!(dir.join("good").exists());
        let again = exec(&env, &dir, "true");
        again.success();
        assert!(!again.stderr.contains("killed"), "it is told once: {}", again.stderr);
        assert!(env.run(["clean", "--days", "0"]).success().contains("exec"));
        assert!(!Path::new(moved).exists());
        env.assert_nothing_left();
    }
}

#[test]
fn clean_finishes_it_too_and_takes_the_bar_away() {
    let (env, dir) = environment(User::Same);
    // A glob for files at the root: an empty `.git` bars the way to one.
    killed(&env, &dir, &["--write", "*.txt"], "echo x > a.txt; mkdir new 2>/dev/null; ls -d .git; echo planted; sleep 1000");
    assert!(dir.join(".git").is_dir());
    let left = env.run(["clean", "--days", "0", "--dry-run"]);
    assert!(left.success().contains("exec") && dir.join(".git").is_dir(), "{}", left.stdout);
    let cleaned = env.run(["clean", "--days", "0"]);
    cleaned.success();
    assert!(cleaned.stderr.contains("was killed while"), "{}", cleaned.stderr);
    assert!(!dir.join(".git").exists() && dir.join("a.txt").exists());
    env.assert_nothing_left();
}

#[test]
fn what_runs_is_left_alone_and_two_that_finish_do_not_harm_each_other() {
    let (env, dir) = environment(User::Same);
    let other = env.work().join("other");
    std::fs::create_dir(&other).unwrap();
    let wait = "mkdir .vscode; echo planted; until [ -e go ]; do sleep 0.02; done; cat .vscode/x";
    let running = start(&env, &other, &[], &format!("{wait} 2>/dev/null; ls -A"));
    running.wait_for_stdout("planted", LIMIT);
    killed(&env, &dir, &[], PLANT);
    let both = [start(&env, &dir, &[], "true"), start(&env, &dir, &[], "true")].map(|one| one.wait(LIMIT));
    both.iter().for_each(|one| _ = one.success());
    let told: Vec<_> = both.iter().filter(|one| one.stderr.contains("was killed while")).collect();
    assert!(told.len() == 1 && told[0].stderr.contains("[editor-vscode]"), "{both:?}");
    wait_for("what was planted to be gone", LIMIT, || (!dir.join(".vscode").exists() && !dir.join("repo/.git").exists()).then_some(()));
    std::fs::write(other.join("go"), "").unwrap();
    let ended = running.wait(LIMIT);
    assert!(ended.success().contains(".vscode") && ended.stderr.contains("[editor-vscode]"), "{ended:?}");
    assert!(!other.join(".vscode").exists() && !ended.stderr.contains("killed"), "{}", ended.stderr);
}

#[test]
fn a_directory_that_took_the_place_of_the_killed_one_is_not_touched() {
    let (env, dir) = environment(User::Same);
    let (other, moved) = (env.work().join("other"), env.work().join("moved"));
    std::fs::create_dir(&other).unwrap();
    killed(&env, &dir, &[], PLANT);
    std::fs::rename(&dir, &moved).unwrap();
    std::fs::create_dir_all(dir.join(".vscode")).unwrap();
    for _ in 0..2 {
        let next = exec(&env, &other, "true");
        next.success();
        assert!(next.stderr.contains("another directory is") && next.stderr.contains("clean --days 0"), "{}", next.stderr);
        assert!(dir.join(".vscode").is_dir() && moved.join(".vscode/tasks.json").exists());
    }
    env.run(["clean", "--days", "0"]).success();
    let after = exec(&env, &other, "true");
    after.success();
    assert!(!after.stderr.contains("killed"), "it was to be forgotten: {}", after.stderr);
    env.assert_nothing_left();
}

#[test]
fn clean_does_not_remove_what_it_has_just_moved_away() {
    let (env, dir) = environment(User::Same);
    killed(&env, &dir, &[], PLANT);
    let first = env.run(["clean", "--days", "0"]);
    first.success();
    let moved = first.stderr.lines().find(|line| line.contains(".vscode was made")).unwrap();
    let moved = moved.split("moved to ").nth(1).unwrap().split(" [").next().unwrap();
    assert!(Path::new(moved).exists() && !dir.join(".vscode").exists(), "{}", first.stderr);
    env.run(["clean", "--days", "0"]).success();
    assert!(!Path::new(moved).exists());
    env.assert_nothing_left();
}
