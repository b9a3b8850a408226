//! Modes, rules and questions.

use aedile_core::runtime::{PermissionAnswer, PermissionAsker, PermissionQuestion, SessionEvent, TurnStop};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use crate::support::{Bench, Turn, last_results};

/// Answers in order, then with a refusal, and remembers what was asked.
#[derive(Default)]
struct Person {
    answers: Mutex<VecDeque<PermissionAnswer>>,
    asked: Mutex<Vec<PermissionQuestion>>,
}

#[async_trait]
impl PermissionAsker for Person {
    async fn ask(&self, question: PermissionQuestion) -> PermissionAnswer {
        self.asked.lock().unwrap().push(question);
        self.answers.lock().unwrap().pop_front().unwrap_or(PermissionAnswer::Rejected)
    }
}

impl Person {
    fn titles(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|question| question.title.clone()).collect()
    }
}

fn attended(bench: &mut Bench, answers: Vec<PermissionAnswer>) -> Arc<Person> {
    let person = Arc::new(Person { answers: Mutex::new(answers.into()), ..Person::default() });
    bench.config.asker = Some(Arc::clone(&person) as Arc<dyn PermissionAsker>);
    person
}

fn rules(bench: &Bench, permissions: &Value) {
    bench.put(".claude/settings.json", &json!({"permissions": permissions}).to_string());
}

/// The person's own settings.
fn own(bench: &mut Bench, settings: &Value) {
    bench.config.own_settings = Some(("/own/settings.json".to_owned(), settings.to_string()));
}

fn bash(command: &str) -> (&'static str, Value) {
    ("bash", json!({"command": command}))
}

fn write(path: &str) -> (&'static str, Value) {
    ("write", json!({"path": path, "content": "x\n"}))
}

/// Makes the calls in one turn and returns their results.
async fn results_of(bench: &mut Bench, calls: Vec<(&'static str, Value)>) -> Vec<(String, bool)> {
    bench.next_life(vec![Turn::Calls(calls), Turn::Say("ok")]);
    assert_eq!(bench.prompt("go").await.stop, TurnStop::EndTurn);
    last_results(&bench.model.request(1))
}

#[tokio::test]
async fn the_person_is_asked_before_changes_and_answers_hold() {
    use PermissionAnswer::{Always, Once};
    let mut bench = Bench::new(vec![]);
    bench.put("a.txt", "x\n");
    let person = attended(&mut bench, vec![Once, Always]);
    bench.next_life(vec![
        Turn::Calls(vec![("read", json!({"path": "a.txt"})), write("b.txt"), bash("echo 1"), bash("echo 1"), bash("echo 2")]),
        Turn::Say("ok"),
    ]);
    let session = bench.session();
    session.prompt("go", &bench.sink()).await;
    assert_eq!(person.titles(), ["write b.txt", "bash echo 1", "bash echo 2"]);
    let results = last_results(&bench.model.request(1));
    assert_eq!(results.iter().map(|result| result.1).collect::<Vec<_>>(), [false, false, false, false, true], "{results:?}");
    assert!(results[4].0.contains("the person does not allow this call"));
    assert_eq!(person.asked.lock().unwrap()[1].always.as_deref(), Some("Bash(echo 1)"));
    let id = session.id().clone();
    drop(session);
    bench.next_life(vec![Turn::Calls(vec![bash("echo 1"), bash("echo 1; echo 3")]), Turn::Say("ok")]);
    bench.open(&id).await.prompt("go", &bench.sink()).await;
    assert_eq!(person.titles()[3..], ["bash echo 1; echo 3"], "what was allowed stays allowed in the resumed session");
    let ends = bench.events().into_iter().filter(|event| matches!(event, SessionEvent::ToolEnded { .. })).count();
    assert_eq!(ends, 7);
}

#[tokio::test]
async fn a_compound_command_is_allowed_only_by_all_of_its_parts() {
    let mut bench = Bench::new(vec![]);
    let allow = json!(["Bash(echo *)", "Bash(git status)", "Bash(true now:*)", "Edit(out/**)", "Bash(bash)", "Bash(cat)"]);
    own(&mut bench, &json!({"permissions": {"allow": allow}}));
    let person = attended(&mut bench, vec![]);
    let free = [
        "echo a",
        "echo",
        "git status",
        "echo a && git status; echo b | echo c",
        "echo 'a; rm b'",
        "echo a > out/x",
        "true now or never 2>&1",
        "true now",
        "cat </dev/null",
    ];
    let asked = [
        "echo a && touch x",
        "echo $(touch x)",
        "echo `touch x`",
        "git status --short",
        "echoes",
        "LD_PRELOAD=x echo a",
        "echo a > src.txt",
        "echo a > out/../src.txt",
        "cat <<EOF\nx\nEOF",
        "echo \"${x:-$(touch x)}\"",
        "echo a & touch x",
        "echo a\ntouch x",
        "true nowhere",
        "bash < in.sh",
        "echo a | cat 0<in.sh",
        "echo $(git status)",
        "echo `git status`",
        "true now <(git status)",
    ];
    let mut calls: Vec<_> = free.iter().chain(&asked).map(|command| bash(command)).collect();
    calls.push(bash(""));
    std::fs::create_dir(bench.path("out")).unwrap();
    results_of(&mut bench, calls).await;
    let commands: Vec<String> = person.asked.lock().unwrap().iter().map(|q| q.input["command"].as_str().unwrap().to_owned()).collect();
    assert_eq!(commands[..asked.len()], asked);
    assert!(!bench.path("x").exists() && bench.path("out/x").exists());
}

#[tokio::test]
async fn what_is_denied_is_denied_however_it_is_wrapped_and_without_a_person() {
    let mut bench = Bench::new(vec![]);
    rules(&bench, &json!({"deny": ["Bash(rm *)", "Read(.env)", "Edit(/locked/**)"], "ask": ["Bash(touch *)"]}));
    for file in ["x", ".env", "deep/.env", "locked/a"] {
        bench.put(file, "keep\n");
    }
    std::os::unix::fs::symlink(bench.path(".env"), bench.path("link")).unwrap();
    let denied = [
        bash("rm x"),
        bash("cd . && rm x"),
        bash("sudo rm x"),
        bash("/bin/rm x"),
        bash("echo $(rm x)"),
        bash("r\\m x; 'r'm x"),
        bash("FOO=1 rm x"),
        bash("echo x | xargs rm -f"),
        bash("bash -c 'cd . && rm x'"),
        bash("find . -name x -exec rm {} +"),
        bash("echo no > locked/a"),
        bash("echo no >> ./deep/../locked/a"),
        ("read", json!({"path": ".env"})),
        ("read", json!({"path": "deep/.env"})),
        ("read", json!({"path": "deep/../.env"})),
        ("read", json!({"file_path": "link"})),
        write("locked/a"),
        ("edit", json!({"path": "locked/a", "old_string": "keep", "new_string": "no"})),
        ("multi_edit", json!({"path": "locked/a", "edits": [{"old_string": "keep", "new_string": "no"}]})),
        ("apply_patch", json!({"patch": "*** Begin Patch\n*** Update File: locked/a\n@@\n-keep\n+no\n*** End Patch"})),
        ("apply_patch", json!({"patch": "--- a/locked/a\n+++ b/locked/a\n@@ -1 +1 @@\n-keep\n+no\n"})),
        ("apply_patch", json!({"patch": "--- a/x\t1\n+++ b/locked/b\n@@ -1 +1 @@\n-keep\n+no\n"})),
    ];
    let count = denied.len();
    let mut calls = denied.to_vec();
    calls.extend([bash("touch made"), write("free"), ("read", json!({"path": "x"}))]);
    let results = results_of(&mut bench, calls).await;
    for (number, (text, is_error)) in results[..count].iter().enumerate() {
        assert!(*is_error && text.starts_with("not allowed: the rule "), "{number}: {text}");
    }
    assert!(results[count..].iter().all(|(_, is_error)| !is_error), "where nobody can be asked, the box decides: {results:?}");
    for file in ["x", ".env", "locked/a"] {
        assert_eq!(bench.get(file), "keep\n");
    }
}

#[tokio::test]
async fn modes_ask_less_or_refuse() {
    let mut bench = Bench::new(vec![]);
    own(&mut bench, &json!({"permissions": {"defaultMode": "acceptEdits"}}));
    let person = attended(&mut bench, vec![]);
    let outside = bench.home.path().join("x").display().to_string();
    let calls = vec![
        write("a.txt"),
        write(".claude/settings.json"),
        write("../outside.txt"),
        ("write", json!({"path": outside, "content": "x"})),
        bash("echo"),
    ];
    results_of(&mut bench, calls).await;
    assert_eq!(person.titles()[0], "write .claude/settings.json");
    assert_eq!(person.titles().len(), 4, "{:?}", person.titles());
    own(&mut bench, &json!({"permissions": {"allow": ["Bash"]}}));
    rules(&bench, &json!({"defaultMode": "plan"}));
    let results =
        results_of(&mut bench, vec![("read", json!({"path": "a.txt"})), write("b.txt"), bash("touch c"), ("todo", json!({}))]).await;
    assert_eq!(results.iter().map(|result| result.1).collect::<Vec<_>>(), [false, true, true, false], "{results:?}");
    assert!(results[2].0.contains("plan mode"));
    own(&mut bench, &json!({"permissions": {"allow": [7]}}));
    rules(&bench, &json!({"defaultMode": "bypassPermissions", "ask": ["Bash(touch *)", "Write(("], "deny": ["Bash(x"]}));
    bench.next_life(vec![Turn::Calls(vec![write("d.txt"), ("bash", json!({"command": "echo"}))]), Turn::Say("ok")]);
    let session = bench.session();
    assert_eq!(session.mode(), "default", "a repository cannot switch questions off");
    assert!(session.set_mode("bypassPermissions") && !session.set_mode("whatever"));
    session.prompt("go", &bench.sink()).await;
    assert_eq!(bench.get("d.txt"), "x\n");
    assert!(last_results(&bench.model.request(1))[1].1, "a deny rule that is not understood denies its tool");
    let warnings = bench.warnings();
    for words in
        ["cannot switch questions off", "\"Write((\" (ask) is not used", "\"Bash(x\" is not understood", "is no text and not used: 7"]
    {
        assert!(warnings.contains(words), "{words}: {warnings}");
    }
}

#[tokio::test]
async fn hooks_may_save_a_question_or_want_one() {
    let decide = |what: &str| format!(r#"echo '{{"hookSpecificOutput":{{"hookEventName":"PreToolUse","permissionDecision":"{what}"}}}}'"#);
    let hook = |matcher: &str, command: &str| json!({"matcher": matcher, "hooks": [{"type": "command", "command": command}]});
    let mut bench = Bench::new(vec![]);
    let settings = json!({
        "permissions": {"deny": ["Write(secret)"]},
        "hooks": {"PreToolUse": [hook("Read", &decide("ask"))], "Notification": [hook("permission_prompt", "cat > told")]},
    });
    bench.put(".claude/settings.json", &settings.to_string());
    own(&mut bench, &json!({"hooks": {"PreToolUse": [hook("Write", &decide("allow"))]}}));
    let person = attended(&mut bench, vec![PermissionAnswer::Once]);
    let results = results_of(&mut bench, vec![write("a.txt"), write("secret"), ("read", json!({"path": "a.txt"}))]).await;
    assert_eq!(results.iter().map(|result| result.1).collect::<Vec<_>>(), [false, true, false], "{results:?}");
    assert_eq!(person.titles(), ["read a.txt"]);
    assert!(bench.get("told").contains("permission to use Read") && bench.get("told").contains("\"permission_mode\":\"default\""));
}

#[tokio::test]
async fn a_sub_agent_asks_in_its_own_name_under_the_same_rules() {
    let mut bench = Bench::new(vec![
        Turn::Calls(vec![("task", json!({"description": "d", "prompt": "p", "kind": "writing"}))]),
        Turn::Calls(vec![write("a.txt"), bash("rm -rf x")]),
        Turn::Say("Done."),
        Turn::Say("ok"),
    ]);
    rules(&bench, &json!({"deny": ["Bash(rm *)"]}));
    let person = attended(&mut bench, vec![PermissionAnswer::Once]);
    assert_eq!(bench.prompt("go").await.stop, TurnStop::EndTurn);
    assert_eq!(person.titles(), ["[build-1] write a.txt"]);
    assert!(person.asked.lock().unwrap()[0].call.starts_with("build-1/"));
    assert!(last_results(&bench.model.request(2))[1].0.contains("the rule Bash(rm *)"));
}

#[tokio::test]
async fn a_repository_switches_no_question_off() {
    let approve = r#"echo '{"hookSpecificOutput":{"hookEventName":"PreToolUse","permissionDecision":"allow"}}'"#;
    let mut bench = Bench::new(vec![]);
    let hooks = json!({"PreToolUse": [{"matcher": "*", "hooks": [
        {"type": "command", "command": approve}, {"type": "command", "command": "echo '{\"decision\":\"approve\"}'"},
    ]}]});
    let settings = json!({"permissions": {"allow": ["Bash", "Edit"], "defaultMode": "acceptEdits"}, "hooks": hooks});
    bench.put(".claude/settings.json", &settings.to_string());
    let person = attended(&mut bench, vec![]);
    let results = results_of(&mut bench, vec![write("a.txt"), bash("touch b.txt")]).await;
    assert_eq!(person.titles(), ["write a.txt", "bash touch b.txt"]);
    assert!(results.iter().all(|(_, is_error)| *is_error) && !bench.path("a.txt").exists() && !bench.path("b.txt").exists());
    let warnings = bench.warnings();
    for words in ["`permissions.allow` is not used: a repository cannot switch questions off", "the mode acceptEdits is not used"] {
        assert!(warnings.contains(words), "{words}: {warnings}");
    }
}

#[tokio::test]
async fn what_is_fed_in_or_worked_out_is_never_allowed_for_good() {
    let mut bench = Bench::new(vec![]);
    let person = attended(&mut bench, vec![PermissionAnswer::Always; 4]);
    bench.put("in.sh", "echo one >> ran\n");
    let commands = ["bash < in.sh", "bash <in.sh", "echo `for f in a; do done`", "bash < /dev/null"];
    results_of(&mut bench, commands.map(bash).to_vec()).await;
    let offered: Vec<Option<String>> = person.asked.lock().unwrap().iter().map(|question| question.always.clone()).collect();
    assert_eq!(offered, [None, None, None, Some("Bash(bash)".to_owned())]);
    assert_eq!(bench.get("ran"), "one\none\n");
}

#[tokio::test]
async fn a_search_passes_over_what_may_not_be_read() {
    let mut bench = Bench::new(vec![]);
    rules(&bench, &json!({"deny": ["Read(.env)", "Read(/secret/**)", "Grep(only-grep)"]}));
    for file in [".env", "deep/.env", "secret/a", "secret/b/c", "only-grep", "free"] {
        bench.put(file, "needle\n");
    }
    let calls = vec![
        ("grep", json!({"pattern": "needle", "mode": "files"})),
        ("grep", json!({"pattern": "needle", "path": "deep"})),
        ("glob", json!({"pattern": "**/*"})),
        bash("cat < .env"),
        bash("cat < deep/../secret/a"),
    ];
    let results = results_of(&mut bench, calls).await;
    let note = |number: usize| format!("[passed over, since a permission rule denies reading them: {number}]");
    assert_eq!(results[0], (format!("free\n{}", note(5)), false));
    assert!(results[1].0.starts_with("[no match") && results[1].0.ends_with(&note(1)), "{results:?}");
    assert!(!results[2].0.contains(".env") && !results[2].0.contains("secret/") && results[2].0.contains("only-grep"), "{results:?}");
    assert!(results[3..].iter().all(|(text, is_error)| *is_error && text.starts_with("not allowed: the rule Read(")), "{results:?}");
}

#[tokio::test]
async fn what_must_be_asked_for_is_passed_over_where_somebody_can_be_asked() {
    let mut bench = Bench::new(vec![]);
    rules(&bench, &json!({"ask": ["Read(.env)"]}));
    bench.put(".env", "needle\n");
    let search = || vec![("grep", json!({"pattern": "needle", "mode": "files", "path": "."}))];
    assert_eq!(results_of(&mut bench, search()).await[0].0, ".env\n", "nobody can be asked");
    attended(&mut bench, vec![]);
    assert!(results_of(&mut bench, search()).await[0].0.starts_with("[no match"));
}
