//! `kill -9` at every named crash point and at arbitrary moments: after `aedile run --resume` everything is as if nothing had happened.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use aedile_core::limits::LEASE;
use aedile_testkit::wait_for;
use serde_json::Value;

use crate::scenario::{LIMIT, Scenario, bash, hold, says, submit, task, turn, write};

/// What an agent finds in its session where a call was cut by the crash; each turn is then played once more.
const CUT: &str = "the call was not finished";

/// A turn, and the same once more when a crash cut it.
fn steady(tools: &[(&str, String)]) -> Vec<String> {
    vec![turn(None, tools), turn(Some(CUT), tools)]
}

/// `ada` writes to `basil` and lands; `basil` waits for the mail between two turns, is sent back by the gate and mends; `last` needs `mailer`.
fn tasks() -> String {
    let letter = "{ to = \"basil\", subject = \"news\", body = \"the part is yours\" }".to_owned();
    let mailer = [
        steady(&[bash("until aedile task info | grep -q '^you are ada; others:.*basil'; do sleep 0.05; done")]),
        steady(&[("mail_send", letter)]),
        steady(&[write("mailer", "ok mailer"), submit("Write the mailer")]),
    ];
    let mender = [
        steady(&[bash("while aedile task info | grep -q 'others:.*ada'; do sleep 0.05; done")]),
        vec![says(None, "I wait for mail.")],
        vec![turn(Some("the part is yours"), &[write("mender", "broken"), submit("Write the mender")])],
        // The mail came while the first turn was played again, so that only a reminder follows.
        vec![turn(Some("Your turn has ended"), &[write("mender", "broken"), submit("Write the mender")])],
        vec![turn(Some("did not land"), &[write("mender", "ok mended"), submit("Mend the mender")])],
        vec![turn(Some(CUT), &[write("mender", "ok mended"), submit("Write the mender")])],
    ];
    let last = steady(&[write("last", "ok last"), submit("Write the last part")]);
    format!(
        "goal = \"Three parts\"\n{}{}{}",
        task("mailer", "", &mailer.concat()),
        task("mender", "", &mender.concat()),
        task("last", "\"mailer\"", &last)
    )
}

/// The project, with work of the person's in every place where git keeps it.
fn scenario() -> (Scenario, Checkout) {
    let scenario = Scenario::new();
    scenario.tasks(&tasks());
    let repo = &scenario.repo;
    repo.write("notes.md", "Stashed.\n");
    repo.git(&["stash", "push", "-q"]);
    repo.write("staged.txt", "staged\n");
    repo.git(&["add", "staged.txt"]);
    repo.write("notes.md", "Edited.\n").write("untracked.txt", "untracked\n");
    let checkout = Checkout::of(&scenario);
    (scenario, checkout)
}

/// Everything of the person's that must stay as it is.
#[derive(PartialEq, Debug)]
struct Checkout {
    head: String,
    main: String,
    index: String,
    status: String,
    stash: String,
    notes: String,
    config: String,
}

impl Checkout {
    fn of(scenario: &Scenario) -> Self {
        let repo = &scenario.repo;
        Self {
            head: repo.git(&["symbolic-ref", "HEAD"]),
            main: repo.rev("refs/heads/main"),
            index: repo.git(&["ls-files", "--stage"]),
            status: repo.git(&["status", "--porcelain"]),
            stash: repo.git(&["stash", "list", "--format=%H"]),
            notes: repo.read("notes.md") + &repo.read("untracked.txt"),
            config: repo.read(".git/config"),
        }
    }
}

/// Goes on after a death and checks that the end is that of an undisturbed run.
fn resume_and_check(scenario: &Scenario, checkout: &Checkout, what: &str) {
    let processes = || scenario.env.left().into_iter().filter(|left| left.starts_with("process ")).collect::<Vec<_>>();
    wait_for(&format!("the end of every process after the crash at {what}"), Duration::from_secs(10), || {
        processes().is_empty().then_some(())
    });
    let began = Instant::now();
    let resumed = scenario.run(&["run", "--resume", "--json"]);
    resumed.expect_code(0);
    assert!(began.elapsed() < LEASE, "{what}: the claims of the dead worker were waited for");
    let last = resumed.last_json();
    assert_eq!((last["landed"].as_u64(), last["failed"].as_u64()), (Some(3), Some(0)), "{what}: {last}");
    check(scenario, checkout, what);
}

/// The one end that every history must have.
fn check(scenario: &Scenario, checkout: &Checkout, what: &str) {
    let target = "refs/heads/aedile/main";
    let mut landed = scenario.landed(target);
    let place = |name: &str| landed.iter().position(|task| task == name);
    assert!(place("mailer") < place("last"), "{what}: {landed:?}");
    landed.sort();
    assert_eq!(landed, ["last", "mailer", "mender"], "{what}");
    let parts = scenario.parts(target);
    let expected = [("last", "ok last\n"), ("mailer", "ok mailer\n"), ("mender", "ok mended\n")];
    assert_eq!(parts, expected.map(|(name, text)| (format!("parts/{name}.txt"), text.to_owned())), "{what}");

    let events: Vec<Value> = scenario.events().into_iter().map(|mut line| line["event"].take()).collect();
    let of = |kind: &str| events.iter().filter(|event| event["type"] == kind).collect::<Vec<_>>();
    assert_eq!(of("landed").len(), 3, "{what}: one landing for each task");
    assert_eq!(of("task_closed").len(), 3, "{what}");
    let mut acks: BTreeMap<String, usize> = BTreeMap::new();
    of("mail_acked").iter().for_each(|ack| *acks.entry(ack["mail"].to_string()).or_default() += 1);
    assert_eq!((of("mail_sent").len(), acks.len()), (1, 1), "{what}: one piece of mail, read");
    assert!(acks.values().all(|times| *times == 1), "{what}: {acks:?}");
    let ends: Vec<_> = of("run_ended");
    assert_eq!((ends.len(), ends[0]["landed"].as_u64()), (1, Some(3)), "{what}");

    assert_eq!(&Checkout::of(scenario), checkout, "{what}: the person's checkout");
    scenario.run(&["store", "check"]).success();
    let status = scenario.run(&["status", "--json"]).last_json();
    assert_eq!(status["runs"][0]["state"], "ended", "{what}");
    assert_eq!(status["runs"][0]["unread_mail"], 0, "{what}");
    scenario.env.assert_nothing_left();
}

/// Dies at the crash point, the `times`-th time that it is reached, and goes on.
fn crash_at(point: &str, times: u32) {
    let what = format!("{point}:{times}");
    let (scenario, checkout) = scenario();
    let mut command = scenario.command(&["run", "--tasks", "../tasks.toml", "--agents", "3"]);
    command.env("AEDILE_CRASH_AT", &what);
    let died = scenario.env.run_command(command, LIMIT);
    assert_eq!(died.status.signal(), Some(9), "{what} was not reached: {}{}", died.stdout, died.stderr);
    resume_and_check(&scenario, &checkout, &what);
}

macro_rules! crash_points {
    ($($test:ident: $point:literal, $($times:literal),+;)+) => {
        $(#[test]
        fn $test() {
            for times in [$($times),+] {
                crash_at($point, times);
            }
        })+

        #[test]
        fn every_crash_point_has_its_test() {
            let elsewhere = [&crate::goals::CRASH_POINTS[..], &crate::undo::CRASH_POINTS, &crate::ways::CRASH_POINTS].concat();
            let others: Vec<&str> = aedile_core::crash::CRASH_POINTS.iter().copied().filter(|point| !elsewhere.contains(point)).collect();
            assert_eq!([$($point),+], *others);
        }
    };
}

crash_points! {
    killed_at_workspace_ready: "workspace-ready", 1, 3;
    killed_at_spawn: "spawn", 1, 4;
    killed_at_turn: "turn", 1, 2;
    killed_at_snapshot: "snapshot", 1, 3;
    killed_at_mail: "mail", 1;
    killed_at_submit: "submit", 1, 2;
    killed_at_import: "import", 1, 2;
    killed_at_gate: "gate", 1, 3;
    killed_before_the_ref_moves: "before-ref-move", 1, 2;
    killed_after_the_ref_moved: "after-ref-move", 1, 3;
    killed_at_task_close: "task-close", 1, 2;
}

#[test]
fn undisturbed() {
    let (scenario, checkout) = scenario();
    scenario.finish(&["--agents", "3"]).success();
    check(&scenario, &checkout, "undisturbed");
}

/// Kills the worker from outside when it has printed this many events, and goes on.
fn kill_after(events: usize) {
    let what = format!("event {events}");
    let (scenario, checkout) = scenario();
    let worker = scenario.start(&["--agents", "3", "--json"]);
    wait_for(&what, LIMIT, || (worker.stdout().lines().count() >= events).then_some(()));
    let died = worker.kill_9();
    assert_eq!(died.status.signal(), Some(9), "{what} came too late: {}", died.stderr);
    resume_and_check(&scenario, &checkout, &what);
}

/// Moments spread over a run of about 120 events, the same at every run of the test.
fn moments(seed: u64) -> impl Iterator<Item = usize> {
    (0..3_u64).map(move |at| {
        let mixed = (seed + at * 2).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        5 + (seed + at * 2) as usize * 15 + mixed as usize % 15
    })
}

#[test]
fn killed_at_arbitrary_moments() {
    moments(0).for_each(kill_after);
}

#[test]
fn killed_at_other_arbitrary_moments() {
    moments(1).for_each(kill_after);
}

#[test]
fn locks_of_a_git_that_died_with_its_agent_block_nothing() {
    let scenario = Scenario::new();
    let name = "one";
    let turns = [
        turn(None, &[write(name, "ok"), bash("touch .git/HEAD.lock .git/index.lock"), hold(name)]),
        turn(Some(CUT), &[submit("Write the part")]),
    ];
    scenario.tasks(&format!("goal = \"One part\"\n{}", task(name, "", &turns)));
    let worker = scenario.start(&[]);
    scenario.held(name);
    worker.kill_9();
    scenario.run(&["run", "--resume"]).success();
    assert_eq!(scenario.landed("aedile/main"), [name]);
    scenario.env.assert_nothing_left();
}
