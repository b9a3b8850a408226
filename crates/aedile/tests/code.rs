//! One agent alone: what it is told and shows, what is kept, and the ways to take it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use aedile_testkit::environment::Finished;
use aedile_testkit::{Conversation, ScriptedServer, Step, wait_for};
use serde_json::{Value, json};

use crate::scenario::{LIMIT, Scenario};

const MODEL: &[&str] = &["--model", "anthropic/claude-sonnet-4-5"];

/// A project whose agent is played by these steps.
fn played(scenario: &mut Scenario, steps: Vec<Step>) -> ScriptedServer {
    let conversation = steps.into_iter().fold(Conversation::any(), Conversation::step);
    let server = ScriptedServer::start(vec![conversation.afterwards(Step::text("Done."))]);
    scenario.env.var("AEDILE_ANTHROPIC_BASE_URL", server.url());
    scenario.env.var("ANTHROPIC_API_KEY", "sk-ant-real-key-of-the-person");
    server
}

fn bash(command: &str) -> Step {
    Step::tool("bash", json!({ "command": command }))
}

fn submit(summary: &str) -> Step {
    Step::tool("submit", json!({ "summary": summary }))
}

/// The agent writes a part, reads it back and submits.
fn part(name: &str) -> Vec<Step> {
    let write = Step::tool("write", json!({ "path": format!("parts/{name}.txt"), "content": "ok\n" }));
    vec![write, bash(&format!("cat parts/{name}.txt")), submit("Write the part")]
}

fn code(scenario: &Scenario, args: &[&str]) -> Finished {
    scenario.run(&[&["code"], args].concat())
}

fn id_of(report: &Value) -> String {
    let id = report["change"].as_str().unwrap();
    id[id.len() - 8..].to_owned()
}

/// What of the repository must not change by itself: refs, index, files.
fn fingerprint(scenario: &Scenario) -> String {
    let refs = scenario.repo.git(&["for-each-ref", "--format=%(refname) %(objectname)", "refs/heads"]);
    format!("{refs}\n{}\n{}", scenario.repo.git(&["status", "--porcelain"]), scenario.repo.git(&["ls-files", "-s"]))
}

#[test]
fn a_change_is_kept_and_taken_each_way() {
    let mut scenario = Scenario::new();
    let server = played(&mut scenario, part("one"));
    scenario.repo.write("notes.md", "Mine, not committed.\n").write("loose.txt", "mine\n");
    let before = fingerprint(&scenario);

    let done = code(&scenario, &[&["Write part one.\nIt says ok."], MODEL].concat());
    let said = done.success();
    assert!(done.stderr.contains("does not see what you have not committed: notes.md, loose.txt"), "{}", done.stderr);
    for part in ["may change **", "> write parts/one.txt", "> bash cat parts/one.txt", "ada submitted: Write the part", "A parts/one.txt"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for part in ["ran  cat parts/one.txt; 2 other tool calls", "cost $", "--apply", "--branch NAME", "--land", "aedile diff "] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(fingerprint(&scenario), before, "nothing of the person's has moved");
    assert!(server.requests()[0].text().contains("It says ok."));
    let status = scenario.run(&["status", "--json"]).last_json();
    assert_eq!(status["runs"][0]["tasks"][0]["state"], "held", "{status}");

    let change = scenario.events_of("change_submitted")[0]["change"].as_str().unwrap().to_owned();
    let id = &change[change.len() - 8..];
    // On top of the untouched files, and twice is once too many.
    let applied = code(&scenario, &["--take", id, "--apply", "--json"]).last_json();
    assert_eq!((&applied["applied"], &applied["state"]), (&json!(["parts/one.txt"]), &json!("taken")), "{applied}");
    assert_eq!(scenario.repo.git(&["status", "--porcelain"]), " M notes.md\n?? loose.txt\n?? parts/one.txt");
    let again = code(&scenario, &["--take", id, "--apply"]);
    assert!(again.expect_code(7).contains("nothing was changed") && again.stderr.contains("parts/one.txt"), "{}", again.stderr);

    let branched = code(&scenario, &["--take", &change, "--branch", "one/more"]);
    assert!(branched.success().contains("made the branch one/more"), "{}", branched.stdout);
    let show = scenario.repo.git(&["log", "--format=%P %an|%s|%(trailers:key=Aedile-Task,valueonly)", "-1", "one/more"]);
    assert!(show.starts_with(&format!("{} ", scenario.before)) && show.contains("|Write part one.|code"), "{show}");
    assert_eq!(scenario.parts("one/more"), [("parts/one.txt".to_owned(), "ok\n".to_owned())]);
    let exists = code(&scenario, &["--take", id, "--branch", "one/more"]);
    assert!(exists.expect_code(7).contains("the branch one/more exists already"), "{}", exists.stderr);
    assert!(code(&scenario, &["--take", id, "--land"]).expect_code(1).contains("is not held"), "it was taken");
    assert_eq!(scenario.repo.head(), scenario.before);
    scenario.env.assert_nothing_left();
}

#[test]
fn a_change_that_overlaps_unfinished_work_is_refused_as_a_whole() {
    let mut scenario = Scenario::new();
    let change = "echo 'ok more' >> parts/first.txt; echo new > fresh.txt; mkdir -p deep; echo x > deep/x; chmod +x test.sh";
    let _server = played(&mut scenario, vec![bash(change), submit("Change several")]);
    let kept = code(&scenario, &[&["Change several", "--json"], MODEL].concat()).last_json();
    let id = id_of(&kept);
    scenario.repo.write("parts/first.txt", "ok mine\n").git(&["add", "parts/first.txt"]);
    scenario.repo.write("fresh.txt", "mine\n").write("deep", "mine\n").write("loose.txt", "mine\n");
    let before = fingerprint(&scenario);
    let refused = code(&scenario, &["--take", &id, "--apply"]);
    let said = refused.expect_code(7);
    for part in ["parts/first.txt", "fresh.txt", "deep", "hint: ", "--branch NAME"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("loose.txt") && !said.contains("test.sh"), "{said}");
    assert_eq!(fingerprint(&scenario), before);
    // Ignored files are nobody's to overwrite either.
    scenario.repo.git(&["reset", "-q", "--hard"]);
    scenario.repo.remove("deep").write(".git/info/exclude", "fresh.txt\n");
    let refused = code(&scenario, &["--take", &id, "--apply"]);
    assert!(refused.expect_code(7).contains("fresh.txt"), "{}", refused.stderr);
    assert_eq!(scenario.repo.read("fresh.txt"), "mine\n");
    scenario.repo.remove("fresh.txt");
    code(&scenario, &["--take", &id, "--apply"]).success();
    assert_eq!((scenario.repo.read("parts/first.txt"), scenario.repo.read("deep/x")), ("ok\nok more\n".to_owned(), "x\n".to_owned()));
    assert_eq!(scenario.repo.git(&["diff", "--cached", "--name-only"]), "", "the index is as it was");
    assert!(scenario.repo.git(&["diff", "--summary"]).contains("mode change 100644 => 100755 test.sh"));
}

#[test]
fn a_change_cannot_choose_a_filter_or_a_hook() {
    let mut scenario = Scenario::new();
    let planted = "printf '*.txt filter=planted\\n' > .gitattributes; echo ok > parts/one.txt";
    let _server = played(&mut scenario, vec![bash(planted), submit("Plant attributes")]);
    let trap = scenario.env.work().join("trap");
    let command = format!("touch {}; cat", trap.display());
    for key in ["filter.planted.clean", "filter.planted.smudge"] {
        scenario.repo.git(&["config", key, &command]);
    }
    for hook in ["post-checkout", "pre-applypatch", "applypatch-msg", "post-index-change", "reference-transaction"] {
        scenario.repo.write_executable(&format!(".git/hooks/{hook}"), format!("#!/bin/sh\ntouch {}\n", trap.display()));
    }
    let args = [&["Plant", "--apply", "--allow-protected", "--json"], MODEL].concat();
    let done = code(&scenario, &args).last_json();
    assert_eq!(done["applied"], json!([".gitattributes", "parts/one.txt"]), "{done}");
    assert_eq!(scenario.repo.read("parts/one.txt"), "ok\n");
    assert!(!trap.exists(), "nothing of the change's choosing has run");
}

#[test]
fn a_change_lands_through_the_gates_or_goes_back() {
    let mut scenario = Scenario::new();
    let steps = vec![
        bash("echo no > parts/one.txt"),
        submit("Write it wrong"),
        bash("echo ok > parts/one.txt").expect_latest("does not say ok"),
        submit("Write it right"),
    ];
    let server = played(&mut scenario, steps);
    let landed = code(&scenario, &[&["Write part one", "--land"], MODEL].concat());
    assert!(landed.success().contains("landed on aedile/main") && landed.stdout.contains("aedile sync"), "{}", landed.stdout);
    assert_eq!(scenario.landed("aedile/main"), ["code"]);
    assert_eq!(scenario.events_of("gate_failed").len(), 1);
    drop(server);

    // Kept first, from the checkout, which is behind what has landed; then through the queue.
    let server = played(&mut scenario, part("two"));
    let kept = code(&scenario, &[&["Write part two", "--json"], MODEL].concat()).last_json();
    assert_eq!((&kept["state"], &kept["base"]), (&json!("held"), &json!(scenario.before)), "{kept}");
    let landed = code(&scenario, &["--take", &id_of(&kept), "--land", "--json"]).last_json();
    assert_eq!((&landed["state"], &landed["change"]), (&json!("landed"), &kept["change"]), "{landed}");
    assert_eq!(scenario.parts("aedile/main").len(), 2, "both are there");
    drop(server);
    scenario.env.assert_nothing_left();
}

#[test]
fn a_question_is_answered_without_a_change() {
    let mut scenario = Scenario::with_config("target = \"main\"\n");
    let server = played(&mut scenario, vec![bash("cat notes.md"), Step::text("It is about parts.")]);
    let done = code(&scenario, &[&["What is it about?"], MODEL].concat());
    assert!(done.success().contains("It is about parts.") && done.stdout.contains("nothing was to be changed"), "{}", done.stdout);
    assert!(done.stderr.contains("no gate is configured"), "{}", done.stderr);
    assert_eq!(server.requests().len(), 2, "it is not urged to submit");
    scenario.env.assert_nothing_left();
}

#[test]
fn messages_and_events_are_lines_of_json() {
    let mut scenario = Scenario::new();
    let steps = vec![
        Step::text("Which word?"),
        bash("echo 'ok blue' > parts/one.txt").expect_latest("use the word blue"),
        submit("Write it in blue"),
    ];
    let server = played(&mut scenario, steps);
    let mut command: Command = scenario.command(&[&["code", "Write part one", "--json"], MODEL].concat());
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut lines =
        std::io::BufRead::lines(std::io::BufReader::new(stdout)).map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let first = lines.next().unwrap();
    assert_eq!((&first["start"]["runtime"], &first["start"]["scope"]), (&json!("aedile"), &json!(["**"])), "{first}");
    stdin.write_all(b"nonsense\n").unwrap();
    let refused = lines.by_ref().find(|line| !line["message"].is_null()).unwrap();
    assert!(refused["message"]["why"].as_str().unwrap().contains("line 1 of stdin"), "{refused}");
    let mut seen: Vec<Value> = Vec::new();
    let waits = |line: &Value| line["session"]["kind"] == "waits";
    while !seen.last().is_some_and(waits) {
        seen.push(lines.next().unwrap());
    }
    let said: String = seen.iter().filter_map(|line| line["session"]["text"].as_str()).collect();
    assert_eq!(said, "Which word?", "text comes in pieces, as the model says it");
    stdin.write_all(b"{\"message\": \"use the word blue\"}\n").unwrap();
    let rest: Vec<Value> = lines.collect();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    let last = rest.last().unwrap();
    assert_eq!((&last["state"], &last["files"][0]["path"]), (&json!("held"), &json!("parts/one.txt")), "{last}");
    assert!(rest.iter().any(|line| line["message"]["state"] == "sent"));
    assert!(
        rest.iter().any(|line| line["event"]["type"] == "task_held") && rest.iter().any(|line| line["session"]["kind"] == "tool_started")
    );
    let documented = std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/json-events.md")).unwrap();
    for key in last.as_object().unwrap().keys() {
        assert!(documented.contains(&format!("`{key}`")), "docs/json-events.md does not name {key}");
    }
    drop(server);
}

#[test]
fn ctrl_c_and_kill_keep_the_work_and_a_resume_goes_on() {
    let mut scenario = Scenario::new();
    let hold = "touch parts/one.held; until [ -e parts/one.go ]; do sleep 0.05; done; rm -f parts/one.held parts/one.go";
    let steps = vec![
        bash(&format!("echo half > half.txt; {hold}")),
        Step::text("Half of it is there."),
        bash(&format!("cat half.txt; {hold}")).expect_latest("You were interrupted"),
        bash("rm half.txt parts/one.held; echo ok > parts/one.txt"),
        submit("Write the part"),
    ];
    let _server = played(&mut scenario, steps);
    let worker = scenario.env.start(scenario.command(&[&["code", "Write part one"], MODEL].concat()));
    let go = scenario.held("one");
    worker.signal("INT");
    wait_for("the stop", LIMIT, || worker.stderr().contains("finishing present turns").then_some(()));
    std::fs::write(go, "").unwrap();
    let stopped = worker.wait(LIMIT);
    stopped.expect_code(130);
    assert!(stopped.stdout.contains("aedile code --resume") && stopped.stdout.contains("half.txt"), "{}", stopped.stdout);
    let saved = scenario.events_of("snapshot_taken");
    assert!(!saved.is_empty());

    let worker = scenario.env.start(scenario.command(&["code", "--resume"]));
    scenario.held("one");
    worker.kill_9();
    let resumed = scenario.env.start(scenario.command(&["code", "--resume", "--branch", "late"]));
    let done = resumed.wait(LIMIT);
    assert!(done.success().contains("made the branch late"), "{}", done.stdout);
    assert_eq!(scenario.parts("late"), [("parts/one.txt".to_owned(), "ok\n".to_owned())]);
    scenario.env.assert_nothing_left();
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is_spent() {
    let mut scenario = Scenario::new();
    let server = played(&mut scenario, Vec::new());
    scenario.repo.git(&["branch", "taken"]);
    let cases: [(&[&str], i32, &str); 8] = [
        (&["x"], 4, "no model is named"),
        (&["  ", "--model", "anthropic/m"], 2, "the prompt is empty"),
        (&["x", "--model", "anthropic/m", "--branch", "taken"], 7, "the branch taken exists already"),
        (&["x", "--model", "anthropic/m", "--branch", "a..b"], 7, "a..b"),
        (&["x", "--model", "anthropic/m", "--runtime", "nobody"], 2, "runtime \"nobody\" is not known"),
        (&["x", "--model", "anthropic/m", "--scope", "../out"], 2, "must not leave the repository"),
        (&["x", "--model", "anthropic/m", "--budget-usd", "-1"], 2, "--budget-usd"),
        (&["x", "--apply", "--land", "--model", "anthropic/m"], 2, "cannot be used with"),
    ];
    for (args, exit, part) in cases {
        let said = code(&scenario, args).expect_code(exit).to_owned();
        assert!(said.contains(part), "{args:?}: {said}");
    }
    assert!(code(&scenario, &["--take", "nothing", "--apply"]).expect_code(1).contains("nothing has been run yet"));
    assert!(code(&scenario, &["--resume"]).expect_code(1).contains("no session"), "nothing is open");
    scenario.repo.git(&["switch", "-q", "--detach"]);
    assert!(code(&scenario, &["x", "--land", "--model", "anthropic/m"]).expect_code(2).contains("no branch is checked out"));
    assert!(server.requests().is_empty());
}

/// Runs a command on a terminal of its own: waits for the first text, types the answer, and prints all that was shown.
const ON_A_TERMINAL: &str = r#"
import fcntl, json, os, pty, struct, sys, termios, time
start = json.loads(sys.argv[1])
pid, fd = pty.fork()
if pid == 0:
    os.chdir(start["cwd"])
    os.execvpe(start["command"], [start["command"], *start["args"]], start["env"])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
shown, answered, end = b"", False, time.monotonic() + 90
while time.monotonic() < end:
    try:
        piece = os.read(fd, 65536)
    except OSError:
        break
    if not piece:
        break
    shown += piece
    if not answered and start["wait_for"].encode() in shown:
        answered = True
        os.write(fd, start["answer"].encode())
_, status = os.waitpid(pid, 0)
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(status))
"#;

#[test]
fn a_terminal_shows_words_as_they_come_and_takes_an_answer() {
    let mut scenario = Scenario::new();
    let steps = vec![
        Step::text("Which word?"),
        bash("echo 'ok blue' > parts/one.txt").expect_latest("use the word blue"),
        submit("Write it in blue"),
    ];
    let server = played(&mut scenario, steps);
    let command = scenario.command(&[&["code", "Write part one"], MODEL].concat());
    let text = |value: &std::ffi::OsStr| value.to_string_lossy().into_owned();
    let env: serde_json::Map<String, Value> =
        command.get_envs().filter_map(|(name, value)| Some((text(name), json!(text(value?))))).collect();
    let env = env.into_iter().chain([("TERM".to_owned(), json!("xterm"))]).collect::<serde_json::Map<_, _>>();
    let start = json!({
        "command": text(command.get_program()), "args": command.get_args().map(text).collect::<Vec<_>>(), "env": env,
        "cwd": scenario.repo.path(), "wait_for": "waits for you", "answer": "use the wrd\u{7f}\u{7f}ord blue\r",
    });
    let shown = super::output_of("python3", &["-c", ON_A_TERMINAL, &start.to_string()], scenario.repo.path());
    for part in ["Which word?", "you: use the word blue", "> bash echo 'ok blue'", "aedile code --take"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert_eq!(scenario.parts("main"), Vec::new());
    drop(server);
    scenario.env.assert_nothing_left();
}
