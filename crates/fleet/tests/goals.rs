//! Plans: what is refused and why, what is completed from the code, and when one agent would do.

use aedile_core::plan::ProposedPlan;
use aedile_core::project::ProjectRules;
use aedile_core::task::GateSpec;
use aedile_fleet::goal::{EntryKind, Ground, Layout, bad_goal, bad_wish, check, plan_task, specs};
use serde_json::{Value, json};

const PROMPT: &str = "Do this piece of work so that it is complete and tested.";

fn layout(paths: &[&str]) -> Layout {
    Layout::new(paths.iter().map(|path| ((*path).to_owned(), EntryKind::File, 1000)))
}

/// A Rust workspace with two packages, and other things beside it.
fn code() -> Layout {
    let files = [
        "Cargo.toml",
        "Cargo.lock",
        "README.md",
        ".ci/run",
        "crates/one/Cargo.toml",
        "crates/one/src/lib.rs",
        "crates/one/src/deep/mod.rs",
        "crates/one/tests/all.rs",
        "crates/two/Cargo.toml",
        "crates/two/src/main.rs",
        "web/package.json",
        "web/package-lock.json",
        "web/src/app.ts",
        "py/pack/__init__.py",
        "py/pack/a.py",
        "c/CMakeLists.txt",
        "c/src/a.c",
    ];
    let links = [("link".to_owned(), EntryKind::Link, 4), ("sub".to_owned(), EntryKind::Submodule, 0)];
    let files = files.iter().map(|path| ((*path).to_owned(), EntryKind::File, 1000));
    Layout::new(files.chain(links)).with_manifest("Cargo.toml", "[workspace]\nmembers = [\"crates/one\", \"crates/two\"]\n")
}

fn on<'a>(layout: &'a Layout, protected: &'a [String]) -> Ground<'a> {
    Ground { goal: "Reach it", layout, protected, allow_protected: false }
}

fn task(id: &str, scope: &[&str], after: &[&str]) -> Value {
    json!({"id": id, "title": format!("Do {id}"), "prompt": PROMPT, "scope": scope, "after": after})
}

fn checked(tasks: &[Value]) -> Result<ProposedPlan, Vec<String>> {
    let protected = [".ci/**".to_owned(), "secret.txt".to_owned()];
    check(&json!({"summary": "So.", "tasks": tasks}), &on(&code(), &protected))
}

/// Asserts that the plan is refused for exactly one reason, which holds all of these parts.
fn refused(tasks: &[Value], parts: &[&str]) {
    let reasons = checked(tasks).unwrap_err();
    assert_eq!(reasons.len(), 1, "{reasons:#?}");
    parts.iter().for_each(|part| assert!(reasons[0].contains(part), "{part:?} is not in {:?}", reasons[0]));
}

#[test]
fn what_is_no_plan_is_refused_in_words() {
    let code = code();
    let ground = on(&code, &[]);
    for (value, part) in [
        (json!("First I would look at the code."), "no JSON object"),
        (json!([1, 2]), "no JSON object"),
        (json!({}), "missing field `tasks`"),
        (json!({"tasks": []}), "no task"),
        (json!({"tasks": "many"}), "schema"),
        (json!({"tasks": [task("a", &["web/**"], &[])], "mood": 1}), "mood"),
        (json!({"tasks": [{"id": "a"}]}), "missing field"),
    ] {
        let reasons = check(&value, &ground).unwrap_err();
        assert!(reasons.len() == 1 && reasons[0].contains(part), "{value}: {reasons:?}");
    }
    // Some models send the object as a text.
    let text = json!({"tasks": [task("a", &["web/**"], &[])]}).to_string();
    assert_eq!(check(&json!(text), &ground).unwrap().plan.tasks[0].id, "a");
}

#[test]
fn ten_thousand_tasks_are_counted_and_not_looked_at() {
    let tasks: Vec<Value> = (0..10_000).map(|at| task(&format!("t{at}"), &["../out"], &[])).collect();
    refused(&tasks, &["10000 tasks", "at most 50"]);
}

#[test]
fn every_reason_names_its_task_and_what_is_wrong() {
    let with = |field: &str, value: Value| {
        let mut task = task("a", &["web/**"], &[]);
        task[field] = value;
        [task]
    };
    refused(&with("id", json!("a b")), &["a b", "letters"]);
    refused(&with("id", json!("plan")), &["`plan`", "planning"]);
    refused(&with("title", json!("")), &["`a`", "title"]);
    refused(&with("title", json!("two\nlines")), &["`a`", "title"]);
    refused(&with("prompt", json!("Fix it.")), &["`a`", "7 bytes"]);
    refused(&with("prompt", json!("x".repeat(20_000))), &["`a`", "20000 bytes"]);
    refused(&with("scope", json!([])), &["`a`", "scope is empty"]);
    refused(&with("scope", json!(["../elsewhere/**"])), &["`a`", "must not leave the repository"]);
    refused(&with("scope", json!(["/etc/passwd"])), &["`a`", "relative"]);
    refused(&with("scope", json!([".git/hooks/x"])), &["`a`", ".git"]);
    refused(&with("scope", json!(["link/x"])), &["`a`", "symbolic link"]);
    refused(&with("scope", json!(["sub/**"])), &["`a`", "submodule"]);
    refused(&with("scope", json!(["README.md/x"])), &["`a`", "is a file"]);
    refused(&with("scope", json!(["backend/services/auth/**"])), &["`a`", "`backend`"]);
    refused(&with("scope", json!([".ci/run"])), &["`a`", "protected `.ci/**`", "--allow-protected"]);
    refused(&with("after", json!(["a"])), &["`a`", "itself"]);
    refused(&with("after", json!(["ghost"])), &["`a`", "ghost"]);
    refused(&with("acceptance", json!([{"what": " "}])), &["`a`", "`what`"]);
    refused(&with("acceptance", json!([{"what": "It works.", "command": " "}])), &["`a`", "`command`"]);
}

#[test]
fn a_plan_whose_tasks_no_event_could_hold_is_refused_or_not_joined() {
    // Each text is within its own limit.
    let accepted = |bytes: usize| json!({"what": "w".repeat(bytes), "command": "c".repeat(bytes)});
    let with = |id: &str, scope: &str, after: &[&str], count: usize, bytes: usize| {
        let mut task = task(id, &[scope], after);
        task["acceptance"] = Value::Array((0..count).map(|_| accepted(bytes)).collect());
        task
    };
    refused(&[with("a", "web/**", &[], 20, 4000)], &["`a`", "together", "at most 98304"]);
    let tasks = [with("a", "web/**", &[], 10, 2000), with("b", "web/**", &["a"], 10, 2000)];
    let proposed = checked(&tasks).unwrap();
    assert_eq!(proposed.plan.tasks.len(), 2, "one task of both would be too large");
    let rules = ProjectRules::default();
    let planning = plan_task("g", &code(), &rules, "script/test".parse().unwrap(), "fake".to_owned()).unwrap();
    let specs = specs(&proposed.plan, &planning, &rules).unwrap();
    assert!(specs.iter().all(|spec| serde_json::to_string(spec).unwrap().len() < 128 * 1024));
}

#[test]
fn reasons_that_quote_the_plan_stay_small_enough_for_an_event() {
    let long = "\u{1}".repeat(300_000);
    let mut tasks = [task("a b", &["web/**"], &[long.as_str()]), task(&long, &["py/**"], &[])];
    tasks[1]["title"] = json!(long);
    let reasons = checked(&tasks).unwrap_err();
    assert!(serde_json::to_string(&reasons).unwrap().len() < 64 * 1024 && reasons[0].contains("letters"), "{}", reasons.len());
    let reasons = check(&json!({"tasks": [{"id": "a", long.clone(): 1}]}), &on(&code(), &[])).unwrap_err();
    assert!(serde_json::to_string(&reasons).unwrap().len() < 64 * 1024);
}

#[test]
fn tasks_are_held_against_each_other() {
    refused(&[task("a", &["web/**"], &[]), task("a", &["py/**"], &[])], &["`a`", "two tasks"]);
    refused(&[task("a", &["web/**"], &["b"]), task("b", &["py/**"], &["a"])], &["circle", "a -> b -> a"]);
    refused(&[task("a", &["web/src/**"], &[]), task("b", &["web/src/app.ts"], &[])], &["`a` and `b`", "web/src/app.ts", "`after`"]);
    refused(&[task("a", &["**"], &[]), task("b", &["web/**"], &[])], &["`a`", "whole repository"]);
    // In order, directly or through a third one, they may.
    let third = [task("a", &["web/**"], &[]), task("b", &["py/**"], &["a"]), task("c", &["web/src/**"], &["b"]), task("d", &["c/**"], &[])];
    assert_eq!(checked(&third).unwrap().at_once, 2);
}

#[test]
fn many_reasons_are_cut_and_counted() {
    let tasks: Vec<Value> = (0..50).map(|at| task(&format!("t{at}"), &["/abs"], &[])).collect();
    let reasons = checked(&tasks).unwrap_err();
    assert_eq!((reasons.len(), reasons[20].as_str()), (21, "and 30 more of this kind"));
}

#[test]
fn new_paths_lie_where_such_code_can_lie() {
    let fine = |scope: &[&str]| checked(&[task("a", scope, &[])]).map(|_| ()).unwrap();
    fine(&["web/src/new.ts"]);
    fine(&["docs/**"]);
    fine(&["crates/three/src/**"]);
    refused(&[task("b", &["new/deep/er/est/**"], &[])], &["`b`", "`new`", "`after`"]);
    // A task before it begins the directory.
    let later = [task("a", &["new/deep/x"], &[]), task("b", &["new/deep/er/est/**"], &["a"]), task("c", &["web/**"], &[])];
    checked(&later).unwrap();
}

/// The scope of the only task after the checks, beyond what it had.
fn added(scope: &[&str]) -> Vec<String> {
    let proposed = checked(&[task("a", scope, &[])]).unwrap();
    proposed.plan.tasks[0].scope[scope.len()..].to_vec()
}

#[test]
fn what_new_files_need_is_added_to_the_scope() {
    assert_eq!(added(&["crates/one/src/new.rs"]), ["crates/one/src/lib.rs"]);
    assert_eq!(added(&["crates/one/src/new/**"]), ["crates/one/src/lib.rs"]);
    assert_eq!(added(&["crates/one/src/deep/new.rs"]), ["crates/one/src/deep/mod.rs"]);
    assert_eq!(added(&["crates/two/src/new/mod.rs"]), ["crates/two/src/main.rs"]);
    assert_eq!(added(&["crates/one/src/bin/tool.rs"]), [""; 0]);
    assert_eq!(added(&["crates/one/tests/new.rs"]), [""; 0]);
    assert_eq!(added(&["crates/one/src/**"]), [""; 0]);
    assert_eq!(added(&["crates/one/Cargo.toml"]), ["Cargo.lock"]);
    assert_eq!(added(&["crates/three/**"]), ["Cargo.toml", "Cargo.lock"]);
    assert_eq!(added(&["crates/three/Cargo.toml", "crates/three/src/lib.rs"]), ["Cargo.lock", "Cargo.toml"]);
    assert_eq!(added(&["web/package.json"]), ["web/package-lock.json"]);
    assert_eq!(added(&["py/pack/more/b.py"]), ["py/pack/more/__init__.py"]);
    assert_eq!(added(&["c/src/b.c"]), ["c/CMakeLists.txt"]);
}

/// The same in a layout of these files, of which some have a text.
fn added_in(files: &[(&str, &str)], scope: &[&str]) -> Vec<String> {
    let names: Vec<&str> = files.iter().map(|(path, _)| *path).collect();
    let layout =
        files.iter().filter(|(_, text)| !text.is_empty()).fold(layout(&names), |layout, (path, text)| layout.with_manifest(path, text));
    let plan = json!({"summary": "So.", "tasks": [task("a", scope, &[])]});
    let proposed = check(&plan, &on(&layout, &[])).unwrap();
    proposed.plan.tasks[0].scope[scope.len()..].to_vec()
}

#[test]
fn new_packages_are_listed_in_the_workspace_that_they_belong_to() {
    let cargo = [
        ("Cargo.toml", "[workspace]\nmembers = [\"crates/*\", \"one\"]\nexclude = [\"tools\", \"crates/odd\"]\n"),
        ("Cargo.lock", ""),
        ("one/Cargo.toml", ""),
        ("crates/a/Cargo.toml", ""),
        ("tools/Cargo.toml", "[workspace]\nmembers = [\"gen\"]\n"),
        ("tools/Cargo.lock", ""),
        ("tools/gen/Cargo.toml", ""),
    ];
    assert_eq!(added_in(&cargo, &["tools/see/Cargo.toml"]), ["tools/Cargo.lock", "tools/Cargo.toml"]);
    assert_eq!(added_in(&cargo, &["crates/b/Cargo.toml"]), ["Cargo.lock"], "the glob has it");
    assert_eq!(
        added_in(&cargo, &["crates/odd/sub/Cargo.toml"]),
        ["Cargo.lock"],
        "it is excluded; its manifest still rewrites what lies above"
    );
    assert_eq!(added_in(&cargo, &["one/nested/Cargo.toml"]), ["Cargo.lock", "Cargo.toml"], "a member is not what lies within it");

    let pnpm = [
        ("package.json", "{\"private\": true}"),
        ("pnpm-lock.yaml", ""),
        ("pnpm-workspace.yaml", "packages:\n  - 'packages/*'\n  - \"apps/web\"\n  - '!packages/old-*'\ncatalog:\n  react: ^19.0.0\n"),
        ("packages/a/package.json", ""),
        ("apps/web/package.json", ""),
    ];
    assert_eq!(added_in(&pnpm, &["packages/b/**"]), ["pnpm-lock.yaml"]);
    assert_eq!(added_in(&pnpm, &["apps/docs/**"]), ["pnpm-workspace.yaml", "pnpm-lock.yaml"]);
    assert_eq!(added_in(&pnpm, &["packages/old-b/**"]), [""; 0], "it is taken out on purpose");
    assert_eq!(added_in(&pnpm, &["notes/**"]), [""; 0]);
    let flow = pnpm.map(|(path, text)| (path, if path.starts_with("pnpm-w") { "packages: [ packages/* ]\n" } else { text }));
    assert_eq!(added_in(&flow, &["apps/docs/package.json"]), ["pnpm-lock.yaml", "pnpm-workspace.yaml"]);
    let broken = pnpm.map(|(path, text)| (path, if path.starts_with("pnpm-w") { "packages: [ packages/*\n" } else { text }));
    assert_eq!(added_in(&broken, &["apps/docs/package.json"]), ["pnpm-lock.yaml"]);

    let go = [
        ("go.work", "go 1.24\n\nuse ./tool // the tool\nuse (\n\t./svc/api\n\t\"./svc/web\"\n)\nreplace example.com/x => ./x\n"),
        ("go.work.sum", ""),
        ("tool/go.mod", ""),
        ("svc/api/go.mod", ""),
        ("svc/web/go.mod", ""),
    ];
    assert_eq!(added_in(&go, &["svc/mail/**"]), ["go.work", "go.work.sum"]);
    assert_eq!(added_in(&go, &["svc/mail/go.mod", "svc/mail/main.go"]), ["go.work", "go.work.sum"]);
    assert_eq!(added_in(&go, &["svc/api/new.go"]), [""; 0]);
    assert_eq!(added_in(&go, &["x/go.mod"]), ["go.work", "go.work.sum"], "what is replaced is not used");
}

#[test]
fn an_addition_is_said_and_so_is_what_it_costs() {
    let tasks = [task("a", &["crates/one/src/x.rs"], &[]), task("b", &["crates/one/src/y.rs"], &[]), task("c", &["web/**"], &[])];
    let proposed = checked(&tasks).unwrap();
    assert_eq!(proposed.at_once, 2);
    let notes = proposed.notes.join("\n");
    assert!(
        notes.contains("`a` may change `crates/one/src/lib.rs` too: the new module `crates/one/src/x.rs` is declared there"),
        "{notes}"
    );
    assert!(notes.contains("`a`, `b` need `crates/one/src/lib.rs`, so they are worked on one after the other"), "{notes}");
}

#[test]
fn an_addition_that_is_protected_goes_back() {
    let protected = ["crates/one/src/lib.rs".to_owned()];
    let plan = json!({"tasks": [task("a", &["crates/one/src/x.rs"], &[])]});
    let reasons = check(&plan, &on(&code(), &protected)).unwrap_err();
    assert!(reasons.len() == 1 && reasons[0].contains("protected") && reasons[0].contains("`a`"), "{reasons:?}");
    let code = code();
    check(&plan, &Ground { allow_protected: true, ..on(&code, &protected) }).unwrap();
}

#[test]
fn a_row_of_tasks_becomes_one_and_says_why() {
    let mut first = task("a", &["web/**"], &[]);
    first["acceptance"] = json!([{"what": "The page loads.", "command": "npm test"}]);
    let proposed = checked(&[task("b", &["py/**"], &["a"]), first]).unwrap();
    let [whole] = proposed.plan.tasks.as_slice() else { panic!("{proposed:?}") };
    assert_eq!((whole.id.as_str(), whole.title.as_str()), ("goal", "Reach it"));
    assert!(whole.prompt.find("Do a") < whole.prompt.find("Do b"), "{}", whole.prompt);
    assert_eq!((whole.scope.len(), whole.acceptance.len()), (2, 1));
    assert!(proposed.notes[0].contains("made one task") && proposed.notes[0].contains("no two of them"), "{:?}", proposed.notes);
    let one = checked(&[task("a", &["web/**"], &[])]).unwrap();
    assert!(one.notes[0].contains("one agent does it"), "{:?}", one.notes);
}

#[test]
fn a_long_row_stays_and_is_named() {
    let names = ["a", "b", "c", "d", "e"];
    let tasks: Vec<Value> = (0..5).map(|at| task(names[at], &["web/**"], &names[at.saturating_sub(1)..at])).collect();
    let proposed = checked(&tasks).unwrap();
    assert_eq!((proposed.plan.tasks.len(), proposed.at_once), (5, 1));
    assert!(proposed.notes[0].contains("one agent at a time"), "{:?}", proposed.notes);
}

#[test]
fn acceptance_goes_into_prompts_and_gates() {
    let mut first = task("a", &["web/**"], &[]);
    let accepted = [
        json!({"what": "It loads.", "command": "npm test"}),
        json!({"what": "It is short."}),
        json!({"what": "Green.", "command": "make test"}),
    ];
    first["acceptance"] = json!(accepted);
    let proposed = checked(&[first]).unwrap();
    let gate = GateSpec { name: "test".into(), command: "make test".into(), timeout_s: None };
    let rules = ProjectRules { gates: vec![gate], ..ProjectRules::default() };
    let planning = plan_task("g", &code(), &rules, "anthropic/m".parse().unwrap(), "aedile".into()).unwrap();
    let spec = specs(&proposed.plan, &planning, &rules).unwrap().remove(0);
    assert_eq!(spec.gates.iter().map(|gate| gate.command.as_str()).collect::<Vec<_>>(), ["npm test"]);
    assert!(
        spec.prompt.ends_with("- It loads. (`npm test` succeeds)\n- It is short.\n- Green. (`make test` succeeds)\n"),
        "{}",
        spec.prompt
    );
    assert_eq!((spec.model, spec.runtime.as_str(), spec.role.as_str()), (planning.model, "aedile", "builder"));
}

#[test]
fn a_planning_agent_is_told_what_it_has_to_know() {
    let gate = GateSpec { name: "test".into(), command: "cargo test --offline".into(), timeout_s: None };
    let rules = ProjectRules { gates: vec![gate], protected: vec![".ci/**".into(), "none/**".into()], ..ProjectRules::default() };
    let planning = plan_task("Make it fast", &code(), &rules, "anthropic/m".parse().unwrap(), "aedile".into()).unwrap();
    for part in [
        "Make it fast",
        "read-only",
        "submit_plan",
        "aedile plan submit",
        "at most 50",
        "gate test: `cargo test --offline`",
        "`.ci/**`",
        "crates/one/src/lib.rs (1000 B)",
        "languages: Rust",
    ] {
        assert!(planning.prompt.contains(part), "{part:?} is missing:\n{}", planning.prompt);
    }
    assert!(!planning.prompt.contains("none/**"));
    assert!(planning.is_plan() && planning.scope.is_empty());
    assert!(planning.prompt.len() < 8000, "{} bytes", planning.prompt.len());
}

#[test]
fn a_large_repository_is_told_by_its_directories() {
    let paths: Vec<String> = (0..50_000).map(|at| format!("src/part{}/piece{}/file{at}.rs", at % 90, at % 7)).collect();
    let layout = layout(&paths.iter().map(String::as_str).collect::<Vec<_>>());
    let planning = plan_task("g", &layout, &ProjectRules::default(), "anthropic/m".parse().unwrap(), "aedile".into()).unwrap();
    assert!(planning.prompt.contains("src/part7/ (") && !planning.prompt.contains("piece3"), "{}", planning.prompt);
    assert!(planning.prompt.contains("50000 files") && planning.prompt.len() < 12_000, "{}", planning.prompt.len());
}

#[test]
fn what_is_asked_of_another_plan_is_bounded() {
    assert_eq!(bad_wish(1, "Two tasks only."), None);
    assert!(bad_wish(1, " ").unwrap().contains("nothing was said"));
    assert!(bad_wish(1, &"x".repeat(5000)).unwrap().contains("5000 bytes"));
    assert_eq!(bad_wish(5, "x"), None);
    assert!(bad_wish(6, "x").unwrap().contains("5 times already"));
    refused(&[task("plan-2", &["web/**"], &[])], &["`plan-2` is taken by the planning"]);
    checked(&[task("plan-b", &["web/**"], &[])]).unwrap();
}

#[test]
fn goals_have_a_size() {
    assert!(bad_goal(" \n").unwrap().contains("empty"));
    assert!(bad_goal(&"x".repeat(1024 * 1024)).unwrap().contains("1048576 bytes"));
    assert_eq!(bad_goal("Make it fast"), None);
}
