//! Policy as a person meets it: what is wrong with a file, what results, who may do what.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;

use aedile_testkit::{TempRepo, TestEnvironment, require, wait_for};

use super::scenario::{LIMIT, Scenario, bash, submit, task, turn, write};

/// An environment with a repository whose target has a policy; the checkout says something else.
fn project() -> (TestEnvironment, TempRepo) {
    let env = TestEnvironment::new(super::program());
    let repo = TempRepo::init(&env.work().join("project"));
    repo.write("src/a.rs", "fn a() {}\n").write("infra/x.tf", "x\n").write("aedile.toml", "target = \"main\"\n");
    repo.write(
        ".aedile/policy.toml",
        "[write]\ndeny = [\"infra/**\"]\n[limits]\nprocesses = 300\n[[network]]\nid = \"docs\"\nhosts = [\"docs.example.org\"]\n\
         [[rule]]\nid = \"scouts-read\"\nroles = [\"scout\"]\n[rule.write]\nallow = []\n",
    );
    repo.commit("first");
    repo.write(".aedile/policy.toml", "[write]\nallow = [\"**\"]\n");
    (env, repo)
}

fn user_policy(env: &TestEnvironment, text: &str) -> std::path::PathBuf {
    env.person_config("");
    let dir = env.home().join(".config/aedile");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("policy.toml"), text).unwrap();
    dir.join("policy.toml")
}

#[test]
fn explain_names_the_rule_its_layer_and_what_may_be_done_instead() {
    let (env, repo) = project();
    user_policy(
        &env,
        "[[network]]\nid = \"example\"\nhosts = [\"*.example.org\"]\n[secrets]\nallow = [\"npm\"]\n[spend]\nagent_usd = 2.0\n",
    );
    let ask = |deed: &str, more: &[&str]| {
        let mut args = vec!["policy", "explain", "--agent", "ada", "--do", deed, "--json"];
        args.extend(more);
        let finished = env.run_in(repo.path(), args);
        let said = finished.last_json();
        assert_eq!(finished.code(), Some(if said["allowed"] == true { 0 } else { 8 }), "{deed}: {said}");
        let text = |key: &str| said[key].as_str().unwrap_or("-").to_owned();
        (said["allowed"] == true, text("layer"), text("rule"))
    };
    for (deed, more, allowed, layer, rule) in [
        ("net GET https://docs.example.org/a", &[][..], true, "project", "docs"),
        ("net POST https://docs.example.org/a", &[], false, "user", "policy.default"),
        ("net GET https://api.example.org/a", &[], false, "project", "policy.default"),
        ("net GET http://169.254.169.254/", &[], false, "-", "address.metadata"),
        ("write src/a.rs", &[], true, "-", "default"),
        ("write src/a.rs", &["--role", "scout"], false, "project", "scouts-read/write.allow"),
        ("write infra/x.tf", &[], false, "project", "write.deny"),
        ("write .aedile/policy.toml", &[], false, "-", "protected"),
        ("read .env", &["--role", "command"], false, "-", "secret-file"),
        ("read .env", &[], false, "-", "secret-file"),
        ("read src/a.rs", &[], true, "-", "default"),
        ("secret npm", &[], true, "user", "secrets.allow"),
        ("secret deploy", &[], false, "user", "secrets.allow"),
        ("tool bash", &[], true, "-", "default"),
        ("spend 5.00", &[], false, "user", "spend.agent_usd"),
        ("spawn", &[], true, "-", "default"),
    ] {
        assert_eq!(ask(deed, more), (allowed, layer.to_owned(), rule.to_owned()), "{deed} {more:?}");
    }
    let run = env.work().join("run.toml");
    std::fs::write(&run, "[tools]\ndeny = [\"bash\"]\n").unwrap();
    assert_eq!(ask("tool bash", &["--policy", run.to_str().unwrap()]), (false, "run".to_owned(), "tools.deny".to_owned()));
    let words = env.run_in(repo.path(), ["policy", "explain", "--agent", "ada", "--do", "write infra/x.tf"]);
    let said = words.expect_code(8);
    assert!(said.is_empty(), "{said}");
    let said = words.stdout;
    for part in
        ["denied: ada may not write infra/x.tf", "rule: write.deny (the project policy)", "why: infra/x.tf is not", "instead: leave it"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    let unknown = env.run_in(repo.path(), ["policy", "explain", "--do", "fly"]);
    assert!(unknown.expect_code(2).contains("net METHOD URL"));
}

#[test]
fn show_says_what_results_and_where_each_line_comes_from() {
    let (env, repo) = project();
    user_policy(&env, "[limits]\nprocesses = 200\n");
    let shown = env.run_in(repo.path(), ["policy", "show", "--role", "scout", "--json"]).last_json();
    let line = |key: &str| shown["policy"].as_array().unwrap().iter().find(|line| line["key"] == key).cloned().unwrap();
    assert_eq!((line("limits.processes")["value"].as_str(), line("limits.processes")["layer"].as_str()), (Some("200"), Some("user")));
    assert_eq!(
        (line("write.allow")["rule"].as_str(), line("write.allow")["value"].as_array().map(Vec::len)),
        (Some("scouts-read"), Some(0))
    );
    assert!(line("network")["value"].as_str().unwrap().contains("GET,HEAD docs.example.org port 443"));
    let said = env.run_in(repo.path(), ["policy", "show"]);
    let said = said.success();
    assert!(said.contains(".aedile/policy.toml at ") && said.contains("write.deny") && !said.contains("scouts-read"), "{said}");
    let elsewhere = TestEnvironment::new(super::program());
    assert!(elsewhere.run(["policy", "show"]).success().contains("no policy file is there"));
}

#[test]
fn check_tells_what_is_wrong_what_widens_and_what_matches_nothing() {
    let (env, repo) = project();
    let user = user_policy(&env, "[limits]\nprocesses = 200\n[write]\nallow = [\"src/**\"]\n");
    let file = env.work().join("p.toml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        env.run_in(repo.path(), ["policy", "check", file.to_str().unwrap()])
    };
    for (text, parts) in [
        ("", &["p.toml: it says nothing", "hint: "][..]),
        ("[limits]\nproceses = 1\n", &["line 2: unknown field `proceses`"]),
        ("[[network]]\nid = \"a\"\nhosts = [\"https://x.org\"]\n", &["https://x.org"]),
        ("[write]\nallow = [\"a\"]\ndeny = [\"a\"]\n", &["both name \"a\""]),
        (
            "[limits]\nprocesses = 900\n[write]\nallow = [\"docs/**\"]\n",
            &["processes = 900 is wider than 200 of the user policy", "docs/**"],
        ),
    ] {
        let said = check(text);
        let said = said.expect_code(4);
        assert!(parts.iter().all(|part| said.contains(part)), "{text}: {said}");
    }
    let good = check("[write]\nallow = [\"src/**\", \"src/gone/**\"]\n[limits]\nprocesses = 100\n");
    let said = good.success();
    assert!(said.contains("good as the run policy") && said.contains("warning: [write] allow names \"src/gone/**\""), "{said}");
    let own = env.run_in(repo.path(), ["policy", "check", user.to_str().unwrap()]);
    assert!(own.success().contains("good as the user policy"));
    assert!(env.run(["policy", "check", "/nowhere"]).expect_code(4).contains("/nowhere"));
}

#[test]
fn a_run_is_held_to_its_policy_in_the_box_at_the_door_and_at_the_import() {
    let missing = (!Path::new("/usr/bin/curl").exists()).then_some("there is no /usr/bin/curl");
    if !require("the policy of a run", missing) {
        return;
    }
    let scenario = Scenario::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let read = stream.read(&mut head).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nopened").unwrap();
        String::from_utf8_lossy(&head[..read]).into_owned()
    });
    let project = format!(
        "[write]\nallow = [\"parts/**\"]\ndeny = [\"parts/fixed/**\"]\n[tools]\ndeny = [\"glob\", \"mail\"]\n[limits]\nprocesses = 150\n\
         [[network]]\nid = \"near\"\nhosts = [\"127.0.0.1\"]\nports = [{port}]\nschemes = [\"http\"]\n"
    );
    scenario.repo.write(".aedile/policy.toml", &project).write("parts/fixed/a.txt", "ok\n").commit("policy");
    std::fs::write(
        scenario.env.work().join("run.toml"),
        "[[network]]\nid = \"no-secret\"\neffect = \"deny\"\nhosts = [\"127.0.0.1\"]\npaths = [\"/secret\"]\n",
    )
    .unwrap();
    let near = format!("curl -sS --noproxy '' http://127.0.0.1:{port}");
    let look = format!(
        "(echo x > parts/fixed/a.txt) 2>&1; (echo x > notes.md) 2>&1; mv parts/fixed parts/moved 2>&1; {near}/open; {near}/secret; \
         aedile mail send person -s hi -b hello 2>&1; ulimit -u; env | grep -i _proxy"
    );
    let turns =
        [turn(None, &[bash(&look), ("glob", "{ pattern = \"*\" }".to_owned())]), turn(None, &[write("one", "ok"), submit("Write")])];
    let text = task("one", "", &turns).replace("parts/one.txt\"]", "**\"]");
    scenario.tasks(&format!("goal = \"g\"\n{text}"));
    scenario.finish(&["--policy", "../run.toml"]).success();
    assert!(server.join().unwrap().starts_with("GET /open HTTP/1.1"));
    let agent = scenario.events_of("task_claimed")[0]["agent"].as_str().unwrap().to_owned();
    let said = scenario.run(&["transcript", &agent]);
    let said = said.success();
    for part in ["Read-only file system", "opened", "no-secret", "tools.deny", "http_proxy=http://127.0.0.1:7070", "glob"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(said.matches("Read-only file system").count() + said.matches("Device or resource busy").count(), 3, "{said}");
    let started = scenario.events_of("run_started");
    let layers: Vec<_> = started[0]["rules"]["policy"].as_array().unwrap().iter().map(|text| text["layer"].clone()).collect();
    assert_eq!(layers, ["project", "run"]);
    // A question about the agent of the run is answered under the layers of that run.
    let deed = format!("net GET http://127.0.0.1:{port}/secret");
    let explained = scenario.run(&["policy", "explain", "--agent", &agent, "--do", &deed, "--json"]).last_json();
    assert_eq!(
        (explained["layer"].as_str(), explained["rule"].as_str(), explained["task"].as_str()),
        (Some("run"), Some("no-secret"), Some("one"))
    );
}

#[test]
fn what_policy_does_not_let_start_is_refused_before_anything_runs() {
    let scenario = Scenario::new();
    let two = [task("one", "", &[turn(None, &[write("one", "ok")])]), task("two", "", &[turn(None, &[write("two", "ok")])])].concat();
    scenario.tasks(&format!("goal = \"g\"\n{two}"));
    let refused = |policy: &str, args: &[&str], part: &str| {
        std::fs::write(scenario.env.work().join("run.toml"), policy).unwrap();
        let finished = scenario.finish(&[&["--policy", "../run.toml"], args].concat());
        let said = finished.expect_code(4);
        assert!(said.contains(part), "{part}: {said}");
    };
    refused("[spawn]\ntasks = 1", &[], "2 tasks are too many for a run: at most 1 are allowed, says the run policy (spawn.tasks)");
    refused("[spawn]\nat_once = 2", &["--agents", "3"], "3 agents cannot be at work at once: at most 2");
    refused("[spawn]\nmodels = [\"anthropic/*\"]", &[], "the model script/");
    refused("[spawn]\nruntimes = [\"claude\"]", &[], "the runtime aedile is not among");
    refused("[spwan]\ntasks = 1", &[], "run.toml: line 1: unknown field `spwan`");
    assert!(scenario.run(&["status", "--json"]).last_json()["runs"].as_array().is_none_or(Vec::is_empty));
}

#[test]
fn a_person_answers_what_an_agent_asks_and_its_next_try_passes() {
    let missing = (!Path::new("/usr/bin/curl").exists()).then_some("there is no /usr/bin/curl");
    if !require("questions of a run", missing) {
        return;
    }
    let scenario = Scenario::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let read = stream.read(&mut head).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nopened").unwrap();
        String::from_utf8_lossy(&head[..read]).into_owned()
    });
    let rule = format!("[[network]]\nid = \"deploy\"\neffect = \"ask\"\nhosts = [\"127.0.0.1\"]\nports = [{port}]\nschemes = [\"http\"]\n");
    std::fs::write(scenario.env.work().join("run.toml"), rule).unwrap();
    let near = format!("curl -sS --noproxy '' http://127.0.0.1:{port}/v1/deploy/now");
    let tries = format!("{near}; echo; until {near} | grep opened; do sleep 0.1; done");
    let turns = [turn(None, &[bash(&tries)]), turn(None, &[write("one", "ok"), submit("Write")])];
    scenario.tasks(&format!("goal = \"g\"\n{}", task("one", "", &turns)));
    let run = scenario.start(&["--policy", "../run.toml"]);
    let ask = wait_for("a question", LIMIT, || {
        let asks = scenario.run(&["policy", "asks", "--json"]).last_json();
        asks["asks"].as_array().unwrap().first().cloned()
    });
    assert_eq!((ask["rule"].as_str(), ask["path"].as_str()), (Some("run/deploy"), Some("/v1/deploy/...")));
    let id = ask["ask"].as_str().unwrap();
    let short = &id[id.len() - 8..];
    let listed = scenario.run(&["policy", "asks"]);
    assert!(listed.success().contains(short) && listed.success().contains(&format!("GET http://127.0.0.1:{port}/v1/deploy/...")));
    assert!(scenario.run(&["policy", "answer", "nosuch", "allow"]).expect_code(2).contains("there is no question nosuch"));
    let answered = scenario.run(&["policy", "answer", short, "allow", "--for", "1h", "--scope", "host"]);
    assert!(answered.success().contains("allowed: GET"), "{}", answered.stdout);
    run.wait(LIMIT).success();
    assert!(server.join().unwrap().starts_with("GET /v1/deploy/now HTTP/1.1"));
    assert!(scenario.run(&["policy", "asks"]).success().contains("nothing is asked"));
    assert!(scenario.run(&["policy", "asks", "--all"]).success().contains("allow host"));
    let feed = scenario.run(&["feed"]);
    let said = feed.success();
    assert!(said.contains("asks to GET") && said.contains(&format!("a person allowed question {short}")), "{said}");
    assert_eq!((scenario.events_of("ask_opened").len(), scenario.events_of("request_denied").len()), (1, 0));
    let agent = ask["agent"].as_str().unwrap();
    let deed = format!("net GET http://127.0.0.1:{port}/v1/deploy/now");
    let explained = scenario.run(&["policy", "explain", "--agent", agent, "--do", &deed]);
    explained.expect_code(8);
    assert!(explained.stdout.contains("lets it pass only when a person says so"));
}
