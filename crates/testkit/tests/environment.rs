use std::time::Duration;

use aedile_testkit::environment::ORDINARY_ID;
use aedile_testkit::{TestEnvironment, User, require, wait_for};

fn shell() -> TestEnvironment {
    TestEnvironment::new("sh")
}

#[test]
fn the_program_sees_this_environment_and_nothing_else() {
    let mut environment = shell();
    environment.var("EXTRA", "yes");
    let out = environment.run(["-c", "env; pwd"]);
    let names: Vec<&str> = out.success().lines().filter_map(|line| line.split_once('=')).map(|pair| pair.0).collect();
    assert!(names.contains(&"EXTRA") && names.contains(&"AEDILE_STATE"));
    assert!(!names.iter().any(|name| name.starts_with("CARGO") || name.ends_with("_KEY") || *name == "USER"), "{names:?}");
    assert!(out.stdout.ends_with(&format!("{}\n", environment.work().display())));
    assert!(out.stdout.contains(&format!("HOME={}", environment.home().display())));
}

#[test]
fn codes_outputs_and_json_come_back() {
    let out = shell().run(["-c", "echo first; echo '{\"a\": 1}'; echo problem >&2; exit 3"]);
    assert_eq!(out.expect_code(3), "problem\n");
    assert_eq!(out.last_json()["a"], 1);
}

#[test]
#[should_panic(expected = "expected code 0")]
fn a_failure_is_not_taken_for_success() {
    let _ = shell().run(["-c", "exit 1"]).success();
}

#[test]
#[should_panic(expected = "did not end within")]
fn a_program_that_hangs_is_ended() {
    let environment = shell();
    let mut command = environment.command();
    command.args(["-c", "exec sleep 600"]);
    environment.run_command(command, Duration::from_millis(100));
}

#[test]
fn what_is_left_is_found() {
    let environment = shell();
    environment.assert_nothing_left();
    let background = environment.spawn_in(&environment.work(), ["-c", "echo ready; exec sleep 600"]);
    background.wait_for_stdout("ready", Duration::from_secs(10));
    std::fs::write(environment.root().join("tmp/forgotten"), "").unwrap();
    let left = environment.left();
    assert!(left.iter().any(|line| line.starts_with(&format!("process {}", background.id()))), "{left:?}");
    assert!(left.iter().any(|line| line.contains("tmp/forgotten")), "{left:?}");
    assert_eq!(background.kill_9().code(), None);
    std::fs::remove_file(environment.root().join("tmp/forgotten")).unwrap();
    environment.assert_nothing_left();
}

#[test]
fn signals_arrive() {
    let environment = shell();
    let mut background =
        environment.spawn_in(&environment.work(), ["-c", "trap 'echo asked; exit 7' INT; echo ready; while :; do sleep 0.01; done"]);
    background.wait_for_stdout("ready", Duration::from_secs(10));
    assert!(background.is_running());
    background.signal("INT");
    let finished = background.wait(Duration::from_secs(10));
    assert_eq!((finished.code(), finished.stdout.as_str()), (Some(7), "ready\nasked\n"));
}

#[test]
fn an_ordinary_user_owns_its_home_and_has_no_rights() {
    let environment = TestEnvironment::for_user("/bin/sh", User::Ordinary);
    let out = environment.run(["-c", "touch \"$HOME/mine\" && id -u && cat /etc/shadow"]);
    let id: u32 = out.stdout.trim().parse().unwrap();
    assert_ne!(id, 0);
    assert!(out.code() != Some(0), "an ordinary user has read /etc/shadow");
    let root = std::fs::metadata("/proc/self").is_ok_and(|data| std::os::unix::fs::MetadataExt::uid(&data) == 0);
    if require("an_ordinary_user_owns_its_home_and_has_no_rights", (!root).then_some("the test does not run as root")) {
        assert_eq!(id, ORDINARY_ID);
    }
}

#[test]
fn waiting_ends_with_the_condition() {
    let mut looks = 0;
    let value = wait_for("three looks", Duration::from_secs(10), || {
        looks += 1;
        (looks == 3).then_some("there")
    });
    assert_eq!(value, "there");
}

#[test]
#[should_panic(expected = "in vain for: nothing")]
fn waiting_has_a_limit() {
    wait_for("nothing", Duration::from_millis(30), || None::<()>);
}
