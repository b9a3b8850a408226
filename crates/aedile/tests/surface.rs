//! What is left of the commands of real work: other runtimes behind each of them, pages of the web, long words on stdin, and secrets
//! that nobody is shown.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;

use aedile_testkit::environment::Finished;
use aedile_testkit::{Conversation, ScriptedServer, Step, wait_for};
use serde_json::{Value, json};

use crate::scenario::{LIMIT, Scenario};

const KEY: &str = "sk-ant-real-key-of-the-person";
const MODEL: &str = "anthropic/claude-sonnet-4-5";
const GATE: &str = "target = \"main\"\n[[gate]]\nname = \"test\"\ncommand = \"sh test.sh\"\n";

/// A command of Claude Code's.
fn claude(command: &str) -> Step {
    Step::tool("Bash", json!({ "command": command })).expect_tool("Bash").expect_header_value("x-api-key", KEY)
}

/// The project with a model server that plays this.
fn played(scenario: &mut Scenario, conversations: Vec<Conversation>) -> ScriptedServer {
    let server = ScriptedServer::start(conversations);
    scenario.env.var("AEDILE_ANTHROPIC_BASE_URL", server.url()).var("ANTHROPIC_API_KEY", KEY);
    server
}

/// Runs the command with this on its stdin.
fn with_stdin(scenario: &Scenario, args: &[&str], stdin: &[u8]) -> Finished {
    let path = scenario.env.work().join("stdin");
    std::fs::write(&path, stdin).unwrap();
    let mut command = scenario.command(args);
    command.stdin(Stdio::from(std::fs::File::open(path).unwrap()));
    scenario.env.run_command(command, LIMIT)
}

/// A server that answers every request with one page, for as long as the test lasts; its address.
fn page() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
                head.extend(byte);
            }
            let body = "<h1>Parts</h1><p>Each part says <b>ok</b>.</p>";
            let (status, kind) = if head.starts_with(b"GET /gone") { ("404 Not Found", "text/plain") } else { ("200 OK", "text/html") };
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
            // The reader may have gone.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn claude_code_alone_keeps_to_its_scope_reads_listed_pages_and_ends_as_a_branch() {
    if !super::runtimes::has_claude("claude_code_alone_keeps_to_its_scope_reads_listed_pages_and_ends_as_a_branch") {
        return;
    }
    let host = page();
    let mut scenario = Scenario::with_config(&format!("{GATE}[fetch]\nhosts = [\"{host}\"]\n"));
    let told = move |request: &aedile_testkit::SeenRequest| match request.text() {
        text if text.contains("aedile fetch URL") && text.contains(&host) => Ok(()),
        text => Err(format!("it is not told of `aedile fetch`:\n{text}")),
    };
    let read = format!(
        "aedile fetch http://{0}/parts; aedile fetch http://{0}/gone || echo \"gone: $?\"; aedile fetch https://example.com/ || echo \"other: $?\"",
        scenario.repo.read("aedile.toml").split('"').rev().nth(1).unwrap()
    );
    let work = "echo no > notes.md; echo ok > parts/one.txt && aedile submit -m 'Write part one'";
    let talk = Conversation::any()
        .step(claude(&read).expect(told))
        .step(
            claude(work)
                .expect_latest("# Parts")
                .expect_latest("Each part says **ok**.")
                .expect_latest("gone: 1")
                .expect_latest("example.com may not be read from")
                .expect_latest("other: 1"),
        )
        .afterwards(Step::text("I have submitted it."));
    let server = played(&mut scenario, vec![talk]);
    let done = scenario.run(&[
        "code",
        "Write part one",
        "--runtime",
        "claude",
        "--model",
        MODEL,
        "--scope",
        "parts/one.*",
        "--scope",
        "parts/two.txt",
        "--branch",
        "made",
        "--json",
    ]);
    assert_eq!(server.failures(), Vec::<String>::new());
    let lines: Vec<Value> = done.success().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let start = &lines[0]["start"];
    assert_eq!((&start["runtime"], &start["scope"]), (&json!("claude"), &json!(["parts/one.*", "parts/two.txt"])), "{start}");
    let last = lines.last().unwrap();
    assert_eq!((&last["state"], &last["branch"], last["files"].as_array().unwrap().len()), (&json!("taken"), &json!("made"), 1), "{last}");
    assert!(last["usd"].as_f64().unwrap() > 0.0, "{last}");
    assert_eq!(scenario.parts("made"), [("parts/one.txt".to_owned(), "ok\n".to_owned())]);
    assert_eq!(scenario.repo.show("made", "notes.md"), "Parts.\n", "the kernel kept it from what is not in its scope");
    drop(server);
    scenario.env.assert_nothing_left();
}

#[test]
fn claude_code_plans_a_goal_and_works_on_its_tasks() {
    if !super::runtimes::has_claude("claude_code_plans_a_goal_and_works_on_its_tasks") {
        return;
    }
    let mut scenario = Scenario::new();
    let part = |name: &str, scope: &str| json!({ "id": name, "title": format!("Write {name}"), "prompt": format!("task-{name}: write parts/{name}.txt, which says ok."), "scope": [scope] });
    let plan = |tasks: &[Value]| json!({ "summary": "A file for each part.", "tasks": tasks }).to_string();
    let bad = plan(&[part("one", "../one.txt")]);
    let good = plan(&[part("one", "parts/one.txt"), part("two", "parts/two.txt")]);
    let planner = Conversation::when("planner", |request| request.first_user().contains("Plan how coding agents reach this goal"))
        .step(claude("aedile plan schema | grep -c acceptance; echo broken > notes.md").expect(|request| match request.text() {
            text if text.contains("aedile fetch") => Err("no host is listed, and it is told of `aedile fetch`".to_owned()),
            _ => Ok(()),
        }))
        .step(claude(&format!("echo '{bad}' | aedile plan submit - || echo refused: $?")).expect_latest("Read-only file system"))
        .step(
            claude(&format!("echo '{good}' > /tmp/plan.json; aedile plan submit /tmp/plan.json"))
                .expect_latest("must not leave the repository")
                .expect_latest("refused: 1"),
        )
        .afterwards(Step::text("The plan is handed in."));
    let writer = |name: &'static str| {
        Conversation::about(&format!("task-{name}:"))
            .step(claude(&format!("echo ok > parts/{name}.txt && aedile submit -m 'Write {name}'")))
            .afterwards(Step::text("Done."))
    };
    let server = played(&mut scenario, vec![planner, writer("one"), writer("two")]);
    let done = scenario.run(&["run", "Write two parts", "--yes", "--runtime", "claude", "--model", MODEL, "--budget-usd", "5", "--json"]);
    assert_eq!(server.failures(), Vec::<String>::new());
    let last = serde_json::from_str::<Value>(done.success().lines().last().unwrap()).unwrap();
    assert_eq!(last["landed"], 2, "{last}");
    let opened = scenario.events_of("task_opened");
    assert!(opened.len() == 3 && opened.iter().all(|event| event["spec"]["runtime"] == "claude"), "{opened:?}");
    assert_eq!((scenario.events_of("plan_rejected").len(), scenario.events_of("plan_proposed").len()), (1, 1));
    assert_eq!(scenario.parts("aedile/main").len(), 2);
    drop(server);
    scenario.env.assert_nothing_left();
}

#[test]
fn a_tasks_file_runs_with_the_runtime_of_the_command_line() {
    if !super::runtimes::has_claude("a_tasks_file_runs_with_the_runtime_of_the_command_line") {
        return;
    }
    let mut scenario = Scenario::new();
    scenario.tasks("goal = \"One part\"\n[[task]]\nid = \"one\"\nprompt = \"task-one: write the part.\"\nscope = [\"parts/one.txt\"]\n");
    let talk = Conversation::about("task-one:").step(claude("echo ok > parts/one.txt && aedile submit -m 'Write it'"));
    let server = played(&mut scenario, vec![talk.afterwards(Step::text("Done."))]);
    let done = scenario.finish(&["--runtime", "claude", "--model", MODEL]);
    assert_eq!(server.failures(), Vec::<String>::new());
    assert!(done.success().contains("1 of 1 landed"), "{}", done.stdout);
    let list = scenario.run(&["runtime", "list"]);
    for part in ["our own coding agent", "claude", "over stream-json"] {
        assert!(list.success().contains(part), "{part}: {}", list.stdout);
    }
    drop(server);
    scenario.env.assert_nothing_left();
}

#[test]
fn mail_of_the_person_reaches_our_agent_within_its_turn() {
    let mut scenario = Scenario::new();
    scenario.tasks("goal = \"One part\"\n[[task]]\nid = \"one\"\nprompt = \"task-one: write the part.\"\nscope = [\"parts/one.*\"]\n");
    let hold = "touch parts/one.held; until [ -e parts/one.go ]; do sleep 0.05; done; rm -f parts/one.held parts/one.go";
    let talk = Conversation::about("task-one:")
        .step(Step::tool("bash", json!({ "command": hold })))
        .step(Step::tool("bash", json!({ "command": "echo ok blue > parts/one.txt" })).expect_latest("use the word blue"))
        .step(Step::tool("submit", json!({ "summary": "Write it" })));
    let server = played(&mut scenario, vec![talk.afterwards(Step::text("Done."))]);
    let worker = scenario.start(&["--model", MODEL]);
    let go = scenario.held("one");
    let agent = scenario.events_of("task_claimed")[0]["agent"].as_str().unwrap().to_owned();
    scenario.run(&["mail", "send", &agent, "--subject", "Colour", "--body", "use the word blue"]).success();
    wait_for("the mail to be handed over", LIMIT, || (!scenario.events_of("mail_claimed").is_empty()).then_some(()));
    crate::control::release(&go);
    worker.wait(LIMIT).success();
    assert_eq!(server.failures(), Vec::<String>::new());
    assert_eq!(scenario.repo.show("aedile/main", "parts/one.txt"), "ok blue\n");
    assert_eq!((scenario.events_of("turn_started").len(), scenario.events_of("mail_acked").len()), (1, 1), "it was one turn");
    assert!(scenario.run(&["transcript", &agent]).success().contains("use the word blue"));
    drop(server);
    scenario.env.assert_nothing_left();
}

#[test]
fn a_secret_in_an_agents_words_is_shown_to_nobody_however_it_is_cut() {
    let mut scenario = Scenario::new();
    // The model server says a text in two halves, and the middle of this one is within the key.
    let words = format!("The key is {KEY}, be calm");
    assert!(words.find(KEY).unwrap() < words.len() / 2 && words.len() / 2 < words.find(KEY).unwrap() + KEY.len());
    let steps = || {
        let talk = Conversation::any().step(Step::tool("bash", json!({ "command": format!("echo {KEY}; echo {KEY} >&2; exit 1") })));
        vec![talk.step(Step::text(&words)).afterwards(Step::text("s"))]
    };
    for json in [false, true] {
        let server = played(&mut scenario, steps());
        let args = ["code", "Say it", "--model", MODEL, "--json"];
        let done = scenario.run(if json { &args } else { &args[..4] });
        let said = done.success();
        assert!(!said.contains(KEY) && !done.stderr.contains(KEY), "{said}{}", done.stderr);
        assert!(!said.contains("sk-ant-real") && !said.contains("of-the-person"), "no part of it either: {said}");
        if json {
            let texts =
                said.lines().filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["session"]["text"].as_str().map(str::to_owned));
            assert_eq!(texts.collect::<String>(), "The key is [secret anthropic], be calm");
        } else {
            assert!(said.contains("The key is [secret anthropic], be calm"), "{said}");
        }
        assert!(said.contains("echo [secret anthropic]"), "{said}");
        drop(server);
    }
    scenario.env.assert_nothing_left();
}

#[test]
fn a_goal_and_a_prompt_come_from_stdin_and_too_much_is_refused() {
    let mut scenario = Scenario::new();
    let planner = Conversation::when("planner", |request| request.first_user().contains("Write part one.\nIt says ok."));
    let plan = json!({ "summary": "One.", "tasks": [{ "id": "one", "title": "One", "prompt": "Write the file parts/one.txt. Its only line says ok.", "scope": ["parts/one.txt"] }] });
    let alone = Conversation::any().step(Step::text("It is about parts.").expect_latest("What is it\nabout?"));
    let server = played(&mut scenario, vec![planner.step(Step::tool("submit_plan", plan)), alone]);
    let planned = with_stdin(&scenario, &["run", "-", "--plan-only", "plan.toml", "--model", MODEL], b"Write part one.\nIt says ok.\n");
    assert!(planned.success().contains("the plan is in plan.toml"), "{}", planned.stdout);
    assert!(scenario.repo.read("plan.toml").contains("It says ok."));
    let asked = with_stdin(&scenario, &["code", "-", "--model", MODEL], b"What is it\nabout?\n");
    assert!(asked.success().contains("It is about parts."), "{}", asked.stdout);
    let before = server.requests().len();

    let large = vec![b'x'; 1 << 20];
    for (args, stdin, parts) in [
        (
            &["run", "-", "--yes", "--model", MODEL][..],
            &large[..],
            ["the goal on stdin has more than 16384 bytes", "name its file in the goal"],
        ),
        (&["code", "-", "--model", MODEL], &large, ["the prompt on stdin has more than", "name its file in the prompt"]),
        (&["run", "-", "--yes", "--model", MODEL], b"", ["the goal is empty", ""]),
        (&["code", "-", "--model", MODEL], b" \n", ["the prompt is empty", ""]),
        (&["run", "-", "--yes", "--model", MODEL], b"gr\xfcn", ["is not UTF-8 from byte 2 on", "iconv"]),
        // The question about the plan could not be answered any more.
        (&["run", "-", "--model", MODEL], b"Write part one.", ["there is no terminal to ask on", "--yes"]),
    ] {
        let refused = with_stdin(&scenario, args, stdin);
        let said = refused.expect_code(2);
        assert!(parts.iter().all(|part| said.contains(part)), "{args:?}: {said}");
    }
    // As an argument the kernel does not take it, so that the program is never reached.
    let text = String::from_utf8(large).unwrap();
    let error = scenario.command(&["run", &text, "--yes", "--model", MODEL]).spawn().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::ArgumentListTooLong);
    assert_eq!(server.requests().len(), before, "nothing was spent");
}
