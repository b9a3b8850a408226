//! `aedile sandbox exec` against what a command plants, and its options.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use aedile_testkit::TestEnvironment;
use aedile_testkit::environment::{Finished, User};

const LIMIT: Duration = Duration::from_secs(60);
const USERS: [User; 2] = [User::Same, User::Ordinary];

fn environment(user: User) -> (TestEnvironment, PathBuf) {
    let env = TestEnvironment::for_user(super::program(), user);
    let dir = env.work().join("dir");
    std::fs::create_dir(&dir).unwrap();
    env.give_to_user();
    (env, dir.canonicalize().unwrap())
}

fn script(env: &TestEnvironment, dir: &Path, options: &[&str], script: &str) -> Finished {
    let mut command: Command = env.command();
    command.args(["sandbox", "exec", "--dir"]).arg(dir).args(options).args(["--", "sh", "-c", script]);
    env.run_command(command, LIMIT)
}

fn read(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).unwrap_or_default()
}

#[test]
fn planted_things_are_told_with_their_rule_and_are_gone() {
    for user in USERS {
        let (env, dir) = environment(user);
        let beside = env.work().join("beside");
        std::fs::write(&beside, "old\n").unwrap();
        std::fs::hard_link(&beside, dir.join("linked")).unwrap();
        std::fs::write(dir.join(".env"), "canary\n").unwrap();
        env.give_to_user();
        let finished =
            script(&env, &dir, &[], "cat .env linked; echo evil > linked; mkdir .vscode; echo evil > .vscode/tasks.json; echo good > good");
        assert_eq!((finished.success(), read(&dir, "linked").as_str()), ("old\n", "old\n"));
        for part in ["linked has a further name outside", "[hard-link]", ".env is empty", ".vscode was made", "[editor-vscode]", "moved to"]
        {
            assert!(finished.stderr.contains(part), "{part}: {}", finished.stderr);
        }
        assert!(!dir.join(".vscode").exists() && read(&dir, "good") == "good\n");
        let moved = finished.stderr.lines().find(|line| line.contains(".vscode was made")).unwrap();
        let moved = moved.split("moved to ").nth(1).unwrap().split(" [").next().unwrap();
        assert_eq!(read(Path::new(moved), "tasks.json"), "evil\n");
        env.run(["clean", "--days", "0"]).expect_code(0);
        assert!(!Path::new(moved).exists());
        env.assert_nothing_left();
    }
}

#[test]
fn a_copy_is_given_back_reviewed_or_thrown_away() {
    for user in USERS {
        let (env, dir) = environment(user);
        std::fs::write(dir.join("a"), "old\n").unwrap();
        env.give_to_user();
        let change = "pwd; echo new > a; echo new > b; mkdir .idea; echo evil > .idea/x";
        let finished = script(&env, &dir, &["--cow", "--discard"], change);
        assert_eq!((finished.success(), read(&dir, "a").as_str()), (format!("{}\n", dir.display()).as_str(), "old\n"));
        assert!(finished.stderr.contains("thrown away") && !dir.join("b").exists());
        let finished = script(&env, &dir, &["--cow", "--review"], change);
        assert!(finished.expect_code(2).contains("terminal") && !dir.join("b").exists());
        let finished = script(&env, &dir, &["--cow"], change);
        finished.success();
        assert_eq!((read(&dir, "a"), read(&dir, "b")), ("new\n".to_owned(), "new\n".to_owned()));
        assert!(finished.stderr.contains("refused: .idea") && finished.stderr.contains("[editor-jetbrains]"), "{}", finished.stderr);
        assert!(!dir.join(".idea").exists());
        for options in [&["--review"][..], &["--discard"], &["--cow", "--review", "--discard"]] {
            script(&env, &dir, options, "true").expect_code(2);
        }
        env.assert_nothing_left();
    }
}

#[test]
fn the_changes_are_asked_about_at_a_terminal() {
    let (env, dir) = environment(User::Same);
    for (answer, text) in [("n", ""), ("y", "new\n")] {
        let mut command = env.command();
        command.args(["sandbox", "exec", "--dir"]).arg(&dir).args(["--cow", "--review", "--", "sh", "-c", "echo new > b"]);
        let terminal = super::terminal::Terminal::start(command);
        terminal.wait_for("added    b");
        terminal.wait_for("[Y/n]");
        terminal.type_line(answer);
        assert_eq!(terminal.end().0, Some(0));
        assert_eq!(read(&dir, "b"), text);
    }
}

#[test]
fn limits_come_from_options_policy_and_defaults() {
    for user in USERS {
        let (env, dir) = environment(user);
        std::fs::write(
            env.work().join("policy.toml"),
            "[limits]\nfile_bytes = 1000\n[write]\nallow = [\"a/**\"]\n[read]\nhide = [\"hidden\"]\nshow = [\".env\"]\n",
        )
        .unwrap();
        std::fs::create_dir(dir.join("a")).unwrap();
        std::fs::write(dir.join("hidden"), "canary\n").unwrap();
        std::fs::write(dir.join(".env"), "shown\n").unwrap();
        env.give_to_user();
        let limits = "ulimit -n; awk '/processes/ {print $3}' /proc/self/limits; awk '/data size/ {print $4}' /proc/self/limits; awk '/^Max file size/ {print $4}' /proc/self/limits";
        assert_eq!(script(&env, &dir, &[], limits).success(), "4096\n513\n2147483648\n2147483648\n");
        let options = ["--mem", "100000000", "--pids", "30", "--policy", "policy.toml"];
        assert_eq!(script(&env, &dir, &options, limits).success(), "4096\n31\n100000000\n1000\n");
        let finished = script(&env, &dir, &["--policy", "policy.toml"], "cat hidden .env; echo x > a/x; (echo x > x) 2>&- || echo held");
        assert_eq!(finished.success(), "shown\nheld\n");
        assert_eq!(read(&dir, "a/x"), "x\n");
        script(&env, &dir, &["--time", "1"], "sleep 30").expect_code(124);
        // `tail` keeps what it has until somebody reads it.
        let hog = "for i in 1 2 3; do head -c 60000000 /dev/zero | tail -c 60000000 | (sleep 9; cat >/dev/null) & done; wait";
        let finished = script(&env, &dir, &["--mem", "100000000"], hog);
        assert!(finished.expect_code(137).contains("bytes of memory"), "{}", finished.stderr);
        for options in [
            &["--policy", "missing.toml"][..],
            &["--policy", "policy.toml", "--write", "a/**"],
            &["--mem", "1"],
            &["--pids", "0"],
            &["--time", "0"],
            &["--time", "x"],
        ] {
            let finished = script(&env, &dir, options, "echo ran");
            assert!(finished.stdout.is_empty() && finished.code() != Some(0), "{options:?}");
        }
        env.assert_nothing_left();
    }
}

#[test]
fn a_directory_as_a_stream_is_refused() {
    let (env, dir) = environment(User::Same);
    let mut command = env.command();
    command.args(["sandbox", "exec", "--dir"]).arg(&dir).args(["--", "sh", "-c", "ls /proc/self/fd/0/"]);
    command.stdin(std::fs::File::open("/").unwrap());
    let finished = env.run_command(command, LIMIT);
    assert!(finished.expect_code(2).contains("stdin is a directory"));
}
