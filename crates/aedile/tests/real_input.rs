//! Four agents on the published source of a real crate, through the scripted model server: real edits with real tools, the crate's own tests
//! as the gate, a dependency, a change that a gate sends back, and a write that the kernel refuses.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aedile_testkit::{Conversation, ScriptedServer, Step, TempRepo, TestEnvironment};
use serde_json::json;

const CRATE: &str = "semver-1.0.27";

/// The source of a crate as published, from the registry cache that `cargo fetch` fills; `dependency` is what a manifest says of it.
pub(crate) fn published_source(scratch: &Path, name: &str, dependency: &str) -> PathBuf {
    std::fs::create_dir_all(scratch.join("src")).unwrap();
    std::fs::write(scratch.join("src/lib.rs"), "").unwrap();
    let manifest = format!(
        "[package]\nname = \"fetch\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\n{name} = {dependency}\n[workspace]\n"
    );
    std::fs::write(scratch.join("Cargo.toml"), manifest).unwrap();
    let metadata = super::output_of("cargo", &["metadata", "--format-version", "1"], scratch);
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let package = metadata["packages"].as_array().unwrap().iter().find(|package| package["name"] == name).unwrap();
    Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap().to_owned()
}

/// What a manifest says of the version of semver that the tests work on.
pub(crate) const SEMVER: &str = "{ version = \"=1.0.27\", features = [\"serde\"] }";

pub(crate) fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else if entry.file_name() != "Cargo.lock" && !entry.file_name().to_string_lossy().starts_with(".cargo") {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

const TASKS: &str = r#"
goal = "Small improvements to semver"

[[task]]
id = "stable"
title = "Say whether a version is stable"
prompt = "task-stable: add Version::is_stable with a test."
scope = ["src/lib.rs", "tests/test_version.rs"]
model = "anthropic/claude-sonnet-4-5"

[[task]]
id = "uses"
title = "Test is_stable with requirements"
prompt = "task-uses: test is_stable together with requirements."
scope = ["tests/test_version_req.rs"]
after = ["stable"]
model = "openai/gpt-4.1"

[[task]]
id = "render"
title = "Explain how versions are rendered"
prompt = "task-render: work on src/display.rs."
scope = ["src/display.rs"]
model = "openai/gpt-4.1"

[[task]]
id = "outside"
title = "Mention is_stable in the README"
prompt = "task-outside: mention is_stable in the README."
scope = ["README.md"]
model = "anthropic/claude-sonnet-4-5"
"#;

fn submit(summary: &str) -> Step {
    Step::tool("submit", json!({ "summary": summary }))
}

fn bash(command: &str) -> Step {
    Step::tool("bash", json!({ "command": command }))
}

fn conversations() -> Vec<Conversation> {
    let method = "impl Version {\n    /// Whether this is a release with a major version of at least one.\n    pub fn is_stable(&self) -> bool {\n        self.major > 0 && self.pre.is_empty()\n    }\n";
    let done = || Step::text("I am done.");
    vec![
        Conversation::about("task-stable")
            .step(Step::tool("grep", json!({ "pattern": "^impl Version \\{", "path": "src/lib.rs" })).and_tool("read", json!({ "path": "src/lib.rs", "limit": 40 })).expect_tool("edit").expect_header("x-api-key"))
            .step(Step::tool("edit", json!({ "path": "src/lib.rs", "old_string": "impl Version {\n", "new_string": method })))
            .step(bash("printf '\\n#[test]\\nfn test_is_stable() {\\n    assert!(version(\"1.2.3\").is_stable());\\n    assert!(!version(\"0.9.0\").is_stable());\\n    assert!(!version(\"1.0.0-rc.1\").is_stable());\\n}\\n' >> tests/test_version.rs"))
            .step(bash("cargo test --offline --test test_version 2>&1 | tail -n 5"))
            .step(submit("Add Version::is_stable").expect_latest("test result: ok"))
            .afterwards(done()),
        Conversation::about("task-uses")
            .step(bash("grep -n is_stable src/lib.rs"))
            .step(bash("printf '\\n#[test]\\nfn test_stable_matches() {\\n    let stable = semver::Version::new(1, 2, 3);\\n    assert!(stable.is_stable() && req(\"^1\").matches(&stable));\\n}\\n' >> tests/test_version_req.rs").expect_latest("is_stable"))
            .step(submit("Test is_stable with requirements"))
            .afterwards(done()),
        Conversation::about("task-render")
            .step(bash("sed -i 's/\"{}.{}.{}\"/\"{}.{}_{}\"/' src/display.rs && sed -i '1i // Versions are written as the specification has them.' src/display.rs"))
            .step(submit("Explain rendering"))
            .step(bash("sed -i 's/\"{}.{}_{}\"/\"{}.{}.{}\"/' src/display.rs && git diff --stat").expect_latest("FAILED"))
            .step(submit("Explain rendering, without breaking it"))
            .afterwards(done()),
        Conversation::about("task-outside")
            .step(bash("echo '# planted' >> Cargo.toml; echo exit $?; cat /dev/null > src/lib.rs; echo exit $?"))
            .step(bash("printf '\\n`Version::is_stable` says whether a version is a stable release.\\n' >> README.md").expect_latest("Read-only file system"))
            .step(submit("Mention is_stable"))
            .afterwards(done()),
    ]
}

#[test]
fn four_agents_work_on_a_real_crate() {
    let scratch = tempfile::tempdir().unwrap();
    let source = published_source(scratch.path(), "semver", SEMVER);
    assert!(source.ends_with(CRATE), "{}", source.display());
    let mut env = TestEnvironment::new(super::program());
    let root = env.work().join("semver");
    copy_tree(&source, &root);
    let repo = TempRepo::init(&root);
    repo.write(
        "aedile.toml",
        "target = \"main\"\n[[gate]]\nname = \"test\"\ncommand = \"cargo test --offline\"\n[build]\ndirectories = [\"target\"]\n",
    );
    repo.write(".gitignore", "/target\n/Cargo.lock\n");
    repo.git(&["branch", "-M", "main"]);
    let before = repo.commit("semver as published");
    std::fs::write(env.work().join("tasks.toml"), TASKS).unwrap();
    let server = ScriptedServer::start(conversations());
    super::share_toolchain(&mut env);
    env.var("AEDILE_ANTHROPIC_BASE_URL", server.url()).var("AEDILE_OPENAI_BASE_URL", server.url());
    env.var("ANTHROPIC_API_KEY", "sk-ant-real-key-of-the-person").var("OPENAI_API_KEY", "sk-real-key-of-the-person");

    let mut command = env.command();
    command.current_dir(&root).args(["run", "--tasks", "../tasks.toml", "--agents", "4", "--json"]);
    let finished = env.run_command(command, Duration::from_secs(400));
    assert_eq!(server.failures(), Vec::<String>::new());
    let last = finished.last_json();
    finished.expect_code(0);
    assert_eq!((last["landed"].as_u64(), last["failed"].as_u64()), (Some(4), Some(0)), "{last}");

    let requests = server.finish();
    assert!(requests.iter().any(|request| request.header("x-api-key") == Some("sk-ant-real-key-of-the-person")));
    check_history(&repo, &before);
    let log = env.run_in(&root, ["events"]);
    let events = log.success();
    assert!(events.contains("\"gate_failed\"") && events.contains("\"change_returned\""), "the broken change went back");
    assert!(!events.contains("real-key-of-the-person"), "no key in the log");
    env.assert_nothing_left();
}

/// One commit per task on the landing ref, the crate's tests green at each, and the person's checkout as it was.
fn check_history(repo: &TempRepo, before: &str) {
    assert_eq!(repo.head(), before, "the checked-out branch did not move");
    assert_eq!(repo.git(&["status", "--porcelain"]), "");
    let commits = repo.git(&["rev-list", "--reverse", &format!("{before}..refs/heads/aedile/main")]);
    let trailers: Vec<String> = commits
        .lines()
        .map(|commit| repo.git(&["log", "-1", "--format=%(trailers:key=Aedile-Task,valueonly)", commit]).trim().to_owned())
        .collect();
    assert_eq!(trailers.len(), 4, "{trailers:?}");
    let place = |task: &str| trailers.iter().position(|trailer| trailer == task).unwrap();
    assert!(place("stable") < place("uses"));
    for task in ["render", "outside"] {
        place(task);
    }
    assert_eq!(repo.git(&["show", "refs/heads/aedile/main:Cargo.toml"]), repo.git(&["show", &format!("{before}:Cargo.toml")]));
    let target = tempfile::tempdir().unwrap();
    for commit in commits.lines() {
        let room = tempfile::tempdir().unwrap();
        repo.git(&["worktree", "add", "--detach", &room.path().join("tree").to_string_lossy(), commit]);
        let said = super::output_of(
            "cargo",
            &["test", "--offline", "--quiet", "--target-dir", &target.path().to_string_lossy()],
            &room.path().join("tree"),
        );
        assert!(said.contains("test result: ok"), "{commit}: {said}");
    }
    repo.git(&["worktree", "prune"]);
}
