//! What an agent may read: the part of the repository that its task and the policy leave, and nothing of the rest.

use super::scenario::{Scenario, bash, submit, task, turn, write};

const CANARY: &str = "canary-5f2d-in-a-tracked-file";

/// A project whose gate needs files that no agent may see.
fn project() -> Scenario {
    let scenario = Scenario::with_config(
        "target = \"main\"\n[[gate]]\nname = \"test\"\ncommand = \"sh test.sh\"\n[[gate]]\nname = \"whole\"\ncommand = \"grep -q canary .env && grep -q canary plans/next.md\"\n",
    );
    scenario
        .repo
        .write(".env", format!("TOKEN={CANARY}\n"))
        .write("plans/next.md", format!("{CANARY}\n"))
        .write(".env.example", "TOKEN=\n");
    scenario.repo.commit("what is not for everybody");
    scenario
}

/// Looks everywhere for what it should not see, then writes something bad, and mends it when it comes back.
fn curious(name: &str, read: &str) -> String {
    let look = format!(
        "ls -A; echo commits: $(git log --all --format=%H | wc -l); git cat-file --batch-all-objects --batch-check | wc -l; \
         echo found: $(git grep -l {0}- $(git rev-list --all) ; grep -rIl --exclude-dir=proc --exclude-dir=sys {0}- /workspace /aedile /home 2>/dev/null | grep -v session); ls /aedile",
        &CANARY[..11]
    );
    let turns = [
        turn(None, &[bash(&look), write(name, "bad"), submit("Write it")]),
        turn(Some("did not land"), &[bash(&look), write(name, "ok"), submit("Mend it")]),
    ];
    task(name, "", &turns).replace("after = []", &format!("after = []\n{read}"))
}

#[test]
fn an_agent_sees_what_its_task_reads_and_lands_without_taking_the_rest_away() {
    let scenario = project();
    scenario.tasks(&format!("goal = \"g\"\n{}", curious("one", "read = [\"parts/**\"]")));
    scenario.finish(&[]).success();
    let agent = scenario.events_of("task_claimed")[0]["agent"].as_str().unwrap().to_owned();
    let said = scenario.run(&["transcript", &agent]);
    let said = said.success();
    assert!(said.contains("commits: 1") && said.contains("found:") && !said.contains("found: ."), "{said}");
    for hidden in [CANARY, "notes.md", "plans", ".env"] {
        assert!(!said.lines().any(|line| line.trim() == hidden) && !said.contains(CANARY), "{hidden}: {said}");
    }
    assert!(scenario.events_of("workspace_ready").iter().all(|event| event["view"].is_string()));
    assert_eq!(scenario.events_of("change_returned").len(), 1, "the gate was red once");
    // What it did not see is where it was, and only its part has changed.
    let landed = scenario.events_of("landed")[0]["new"].as_str().unwrap().to_owned();
    let changed = scenario.repo.git(&["diff", "--name-status", &format!("{landed}~1"), &landed]);
    assert_eq!(changed.trim(), "A\tparts/one.txt");
    assert!(scenario.repo.show(&landed, ".env").contains(CANARY) && scenario.repo.show(&landed, "parts/one.txt").contains("ok"));
    let grants = scenario.events_of("box_ready")[0]["grants"].to_string();
    assert!(grants.contains("read parts/**, without its history") && !grants.contains("/aedile/objects"), "{grants}");
}

#[test]
fn tracked_files_for_secrets_are_kept_from_agents_unless_policy_shows_them() {
    let scenario = project();
    scenario.tasks(&format!("goal = \"g\"\n{}", curious("one", "")));
    scenario.finish(&[]).success();
    let seen = |at: usize| {
        let agent = scenario.events_of("task_claimed")[at]["agent"].as_str().unwrap().to_owned();
        scenario.run(&["transcript", &agent]).success().to_owned()
    };
    let said = seen(0);
    assert!(said.contains("commits: 1") && said.contains(".env.example") && said.contains("plans/next.md"), "{said}");
    assert!(!said.contains("found: .env") && !said.contains("/.env\n"), "{said}");
    // A person says that it is harmless: the agent works with the history again.
    let policy = scenario.env.work().join("run.toml");
    std::fs::write(&policy, "[read]\nshow = [\".env\"]\n").unwrap();
    scenario.tasks(&format!("goal = \"g\"\n{}", curious("two", "")));
    scenario.finish(&["--policy", "../run.toml"]).success();
    assert!(scenario.events_of("workspace_ready").last().unwrap()["view"].is_null());
    let claims = scenario.events_of("task_claimed").len();
    assert!(seen(claims - 1).contains(":.env"), "the search that found nothing before finds it now");
}

#[test]
fn what_a_task_reads_is_checked_before_anything_runs() {
    let scenario = project();
    for (read, part) in [
        ("read = []", "`read` is empty"),
        ("read = [\"../x\"]", "must not leave the repository"),
        ("read = [\"docs/**\"]", "no path in common"),
    ] {
        scenario.tasks(&format!("goal = \"g\"\n{}", curious("one", read)));
        let said = scenario.finish(&[]);
        let said = said.expect_code(4);
        assert!(said.contains(part), "{said}");
    }
    let said = scenario.env.run_in(scenario.repo.path(), ["policy", "explain", "--do", "read .env"]);
    assert_eq!(said.code(), Some(8));
}
