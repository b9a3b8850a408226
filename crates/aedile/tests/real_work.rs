//! A goal in words over the published sources of two crates and an npm package: planned, with Claude Code and our own agent side by side,
//! a sub-agent, a message of the person in the middle of a turn, a worker that is killed and goes on, and a landed change taken back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aedile_testkit::{Conversation, ScriptedServer, Step, TempRepo, TestEnvironment, wait_for};
use serde_json::{Value, json};

use crate::real_input::{SEMVER, copy_tree, published_source};
use crate::scenario::Scenario;

const MODEL: &str = "anthropic/claude-sonnet-4-5";
const KEY: &str = "sk-ant-real-key-of-the-person";
const CONFIG: &str = "target = \"main\"
[[gate]]
name = \"crates\"
command = \"cargo test --offline --quiet\"
[[gate]]
name = \"package\"
command = \"node is-number/check.js\"
[build]
directories = [\"target\"]
";
/// Five landings, each with the tests of both crates built from nothing.
const LIMIT: Duration = Duration::from_secs(300);
/// What the repository itself adds to the npm package, which is published without its tests.
const CHECK: &str = "const assert = require('assert');\nconst isNumber = require('./index.js');\n\
    assert(isNumber('5') && isNumber(5.5) && !isNumber('foo') && !isNumber(null));\n\
    if (isNumber.finite) assert(isNumber.finite(1) && !isNumber.finite(Infinity));\n";

/// The task of a plan, told apart by its id in the prompt.
fn planned(id: &str, title: &str, prompt: &str, scope: &[&str], after: &[&str]) -> Value {
    let prompt = format!("task-{id}: {prompt}");
    json!({"id": id, "title": title, "prompt": prompt, "scope": scope, "after": after, "acceptance": []})
}

fn plan() -> Value {
    let tasks = [
        planned(
            "stable",
            "Say whether a version is stable",
            "add Version::is_stable to semver, with a test of its own.",
            &["semver/src/lib.rs", "semver/tests/test_version.rs"],
            &[],
        ),
        planned(
            "explain",
            "Explain the hash of fnv",
            "say in a comment at the top of fnv/lib.rs what the crate is not good for.",
            &["fnv/lib.rs"],
            &[],
        ),
        planned("finite", "Tell finite numbers apart", "add isNumber.finite to the package is-number.", &["is-number/index.js"], &[]),
        planned("guide", "Describe is_stable", "mention Version::is_stable in semver's README.", &["semver/README.md"], &["stable"]),
    ];
    json!({"summary": "One task for each package, and the guide.", "tasks": tasks})
}

/// Makes `fnv/held` and waits for `fnv/go`.
const HOLD: &str = "touch fnv/held; until [ -e fnv/go ]; do sleep 0.05; done; rm -f fnv/held fnv/go";

fn bash(command: &str) -> Step {
    Step::tool("bash", json!({ "command": command }))
}

fn submit(summary: &str) -> Step {
    Step::tool("submit", json!({ "summary": summary }))
}

/// The conversation of our agent about a task, up to its end.
fn ours(id: &str, steps: Vec<Step>) -> Conversation {
    steps.into_iter().fold(Conversation::about(&format!("task-{id}:")), Conversation::step).afterwards(Step::text("It is submitted."))
}

fn conversations() -> Vec<Conversation> {
    let planner = Conversation::when("planner", |request| request.first_user().contains("Plan how coding agents reach this goal"))
        .step(bash("ls; head -n 5 fnv/lib.rs").expect_latest("Small improvements").expect_latest("node is-number/check.js"))
        .step(Step::tool("submit_plan", plan()).expect_latest("is-number"));
    let scout = Conversation::about("sub-scout:")
        .step(Step::tool("grep", json!({ "pattern": "^impl Version \\{", "path": "semver/src/lib.rs" })))
        .step(Step::text("It begins with the line `impl Version {`.").expect_latest("impl Version {"));
    let method = "impl Version {\n    /// Whether this is a release with a major version of at least one.\n    pub fn is_stable(&self) -> bool {\n        self.major > 0 && self.pre.is_empty()\n    }\n";
    let stable = vec![
        Step::tool("task", json!({ "description": "Find the place", "prompt": "sub-scout: where does impl Version begin?" })),
        Step::tool("edit", json!({ "path": "semver/src/lib.rs", "old_string": "impl Version {\n", "new_string": method }))
            .expect_latest("It begins with the line"),
        bash(
            "printf '\\n#[test]\\nfn test_is_stable() {\\n    assert!(version(\"1.2.3\").is_stable());\\n    assert!(!version(\"1.0.0-rc.1\").is_stable());\\n}\\n' >> semver/tests/test_version.rs",
        ),
        submit("Add Version::is_stable"),
    ];
    let finite = "module.exports.finite = function(value) {\n  return typeof value === 'number' && Number.isFinite(value);\n};\n";
    let finite = vec![
        Step::tool("read", json!({ "path": "is-number/index.js" })),
        bash(&format!("cat >> is-number/index.js <<'END'\n\n{finite}END\nnode is-number/check.js && echo checked")),
        submit("Add isNumber.finite").expect_latest("checked"),
    ];
    let guide = vec![
        bash(
            "grep -c is_stable semver/src/lib.rs; printf '\\n`Version::is_stable` says whether a version is a stable release.\\n' >> semver/README.md",
        ),
        submit("Describe is_stable").expect_latest("1\n"),
    ];
    vec![planner, scout, ours("stable", stable), ours("finite", finite), ours("guide", guide), explain()]
}

/// Claude Code's conversation: killed in its first life, told something by the person in its second.
fn explain() -> Conversation {
    let claude = |command: &str| Step::tool("Bash", json!({ "command": command }));
    let knows = |step: Step| {
        step.expect(|request| match request.text() {
            text if text.contains("You were interrupted") && text.contains("touch fnv/held") => Ok(()),
            text => Err(format!("the history of the killed life is not there:\n{text}")),
        })
    };
    Conversation::about("task-explain:")
        .step(claude(HOLD).expect_tool("Bash").expect_header_value("x-api-key", KEY))
        .step(knows(claude(HOLD)))
        .step(
            claude("sed -i '1i //! Not for keys that an attacker chooses.' fnv/lib.rs && aedile submit -m 'Explain the hash of fnv'")
                .expect_latest("say attacker, not enemy"),
        )
        .afterwards(Step::text("I have submitted it."))
}

/// The repository: a workspace of two published crates, and a published npm package beside them.
fn published() -> Scenario {
    let scratch = tempfile::tempdir().unwrap();
    let mut env = TestEnvironment::new(super::program());
    super::share_toolchain(&mut env);
    let root = env.work().join("project");
    for (name, dependency) in [("semver", SEMVER), ("fnv", "\"=1.0.7\"")] {
        copy_tree(&published_source(&scratch.path().join(name), name, dependency), &root.join(name));
    }
    let packed = super::output_of("npm", &["pack", "--silent", "is-number@7.0.0"], scratch.path());
    super::output_of("tar", &["-xzf", packed.trim()], scratch.path());
    copy_tree(&scratch.path().join("package"), &root.join("is-number"));
    let repo = TempRepo::init(&root);
    repo.write("aedile.toml", CONFIG).write(".gitignore", "target\nCargo.lock\n");
    repo.write("Cargo.toml", "[workspace]\nmembers = [\"semver\", \"fnv\"]\nresolver = \"2\"\n").write("is-number/check.js", CHECK);
    repo.git(&["branch", "-M", "main"]);
    let before = repo.commit("Two crates and a package as published");
    Scenario { env, repo, before }
}

/// The workspace of the task in whose `fnv` an agent is held up.
fn held(scenario: &Scenario) -> PathBuf {
    wait_for("an agent at fnv/held", LIMIT, || {
        let spaces = scenario.events_of("workspace_ready");
        let paths = spaces.iter().map(|event| PathBuf::from(event["path"].as_str().unwrap()).join("fnv"));
        paths.into_iter().find(|fnv| fnv.join("held").exists())
    })
}

fn landed(scenario: &Scenario) -> Vec<String> {
    scenario.landed("aedile/main")
}

#[test]
fn a_goal_over_two_crates_and_a_package_survives_what_happens_to_it() {
    if !super::runtimes::has_claude("a_goal_over_two_crates_and_a_package_survives_what_happens_to_it") {
        return;
    }
    let mut scenario = published();
    let server = ScriptedServer::start(conversations());
    scenario.env.var("AEDILE_ANTHROPIC_BASE_URL", server.url()).var("ANTHROPIC_API_KEY", KEY);

    // A goal in words becomes a file of tasks; the person gives one of them to Claude Code.
    let goal = ["run", "Small improvements to what we depend on", "--model", MODEL, "--plan-only", "../plan.toml"];
    scenario.run(&goal).success();
    let tasks = scenario.env.work().join("plan.toml");
    let text = std::fs::read_to_string(&tasks).unwrap();
    let (before, explain) = text.split_once("id = \"explain\"").unwrap();
    let explain = explain.replacen("runtime = \"aedile\"", "runtime = \"claude\"", 1);
    std::fs::write(&tasks, format!("{before}id = \"explain\"{explain}")).unwrap();

    // Everything lands but what Claude Code holds; then the worker dies, and another goes on.
    let start = ["run", "--tasks", "../plan.toml", "--model", MODEL, "--agents", "2"];
    let worker = scenario.env.start(scenario.command(&start));
    let fnv = held(&scenario);
    wait_for("three landed tasks", LIMIT, || (scenario.events_of("landed").len() == 3).then_some(()));
    worker.kill_9();
    std::fs::remove_file(fnv.join("held")).unwrap();
    let worker = scenario.env.start(scenario.command(&["run", "--resume", "--json"]));
    let fnv = held(&scenario);

    // The person says something in the middle of the turn.
    let agents = scenario.run(&["agent", "list", "--json"]).last_json();
    let agent = agents["agents"].as_array().unwrap().iter().find(|agent| agent["task"] == "explain").unwrap()["agent"].clone();
    let mail = ["mail", "send", agent.as_str().unwrap(), "--subject", "Wording", "--body", "say attacker, not enemy"];
    scenario.run(&mail).success();
    wait_for("the mail to be handed over", LIMIT, || (!scenario.events_of("mail_claimed").is_empty()).then_some(()));
    std::fs::write(fnv.join("go"), "").unwrap();
    let finished = worker.wait(LIMIT);
    assert_eq!(server.failures(), Vec::<String>::new());
    finished.expect_code(0);

    let order = landed(&scenario);
    let place = |task: &str| order.iter().position(|landed| landed == task).unwrap();
    assert!(order.len() == 4 && place("stable") < place("guide") && place("explain") == 3, "{order:?}");
    assert!(scenario.repo.show("aedile/main", "is-number/index.js").contains("module.exports.finite"));

    // One landed change is taken back.
    scenario.env.run_command(scenario.command(&["undo", "finite"]), LIMIT).success();
    let package = |revision: &str| scenario.repo.show(revision, "is-number/index.js");
    assert_eq!(package("aedile/main"), package(&scenario.before));
    green_at_each(&scenario);
    assert_eq!((scenario.repo.head(), scenario.repo.git(&["status", "--porcelain"])), (scenario.before.clone(), String::new()));
    assert!(!scenario.run(&["events"]).success().contains(KEY), "no key in the log");
    server.finish();
    scenario.env.assert_nothing_left();
}

/// The tests of the crates and of the package, at every landed commit.
fn green_at_each(scenario: &Scenario) {
    let commits = scenario.repo.git(&["rev-list", "--reverse", &format!("{}..aedile/main", scenario.before)]);
    assert_eq!(commits.lines().count(), 5);
    let target = tempfile::tempdir().unwrap();
    for commit in commits.lines() {
        let room = tempfile::tempdir().unwrap();
        let tree = room.path().join("tree");
        scenario.repo.git(&["worktree", "add", "--detach", &tree.to_string_lossy(), commit]);
        tests(&tree, target.path());
    }
    scenario.repo.git(&["worktree", "prune"]);
}

fn tests(tree: &Path, target: &Path) {
    super::output_of("cargo", &["test", "--offline", "--quiet", "--target-dir", &target.to_string_lossy()], tree);
    super::output_of("node", &["is-number/check.js"], tree);
}
