//! `aedile secret`: values come in by stdin or a prompt, stay sealed, and do what they are for.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use aedile_testkit::server::{Conversation, ScriptedServer, Step};
use aedile_testkit::{TestEnvironment, environment::Finished};
use serde_json::{Value, json};

use super::scenario::{LIMIT, Scenario};
use super::terminal::Terminal;

const VALUE: &str = "Zx8kLm2Qr9-value-of-the-forge";

fn environment() -> TestEnvironment {
    TestEnvironment::new(super::program())
}

/// Runs a command with this on stdin.
fn given(env: &TestEnvironment, args: &[&str], input: impl AsRef<[u8]>) -> Finished {
    let path = env.root().join("input");
    std::fs::write(&path, input.as_ref()).unwrap();
    let mut command = env.command();
    command.args(args).stdin(Stdio::from(std::fs::File::open(&path).unwrap()));
    let finished = env.run_command(command, LIMIT);
    std::fs::remove_file(path).unwrap();
    finished
}

/// Every file below a directory that holds the text.
pub(crate) fn holding(dir: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap()) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            found.extend(holding(&path, text));
        } else if path.is_file() && std::fs::read(&path).unwrap().windows(text.len()).any(|part| part == text.as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn secrets_are_set_listed_rotated_and_forgotten_and_never_shown() {
    let env = environment();
    assert!(env.run(["secret", "list"]).success().contains("empty"));
    let options = ["--host", "forge.example.org", "--path", "/api/**", "--role", "builder", "--env", "FORGE_TOKEN"];
    let set = given(&env, &[&["secret", "set", "forge"][..], &options].concat(), format!("{VALUE}\n"));
    assert!(set.success().contains("version 1") && set.stdout.contains("aedile-secret-forge"), "{}", set.stdout);
    let listed: Value = env.run(["secret", "list", "--json"]).last_json();
    let forge = &listed["secrets"][0];
    assert_eq!((&forge["name"], &forge["version"], &forge["source"]), (&json!("forge"), &json!(1), &json!("value")));
    let goes = "to forge.example.org at /api/** (bearer), for builder, as FORGE_TOKEN in boxes";
    assert!(env.run(["secret", "list"]).success().contains(goes));
    assert!(given(&env, &["secret", "rotate", "forge"], VALUE).expect_code(2).contains("has this value already"));
    assert!(given(&env, &["secret", "rotate", "forge"], "another-value-0123").success().contains("version 2"));
    assert!(env.run(["secret", "list"]).success().contains(goes), "the binding stays");
    assert!(env.run(["secret", "rotate", "--master-key"]).success().contains("1 secrets"));
    assert!(given(&env, &["secret", "rotate", "forgo"], "x").expect_code(2).contains("did you mean `forge`"));
    assert!(env.run(["secret", "rm", "forge"]).expect_code(2).contains("--yes"));
    for value in [VALUE, "another-value-0123"] {
        assert_eq!(holding(env.root(), value), Vec::<String>::new());
    }
    env.run(["secret", "rm", "forge", "--yes"]).success();
    assert!(env.run(["secret", "rm", "forge", "--yes"]).expect_code(2).contains("no secret forge"));
    assert!(env.run(["secret", "list"]).success().contains("empty"));
}

#[test]
fn an_oauth_grant_is_kept_and_its_refresh_token_replaced() {
    let env = environment();
    let options = ["--oauth-url", "https://auth.example.org/token", "--client-id", "me", "--host", "forge.example.org"];
    let set = |more: &[&str], input: &str| given(&env, &[&["secret", "set", "forge"][..], &options, more].concat(), input);
    let (client, next) = ("client-secret-Zx8kLm2Qr9", "another-refresh-token-01");
    assert!(set(&[], &format!("{VALUE}\n{client}\n")).expect_code(2).contains("--client-secret"));
    assert!(set(&["--client-secret"], VALUE).expect_code(2).contains("two lines"));
    assert!(set(&["--client-secret", "--client-auth", "body"], &format!("{VALUE}\n{client}\n")).success().contains("version 1, oauth"));
    assert!(env.run(["secret", "list"]).success().contains("oauth, no access token yet"));
    let listed: Value = env.run(["secret", "list", "--json"]).last_json();
    assert_eq!((&listed["secrets"][0]["source"], &listed["secrets"][0]["expires_at"]), (&json!("oauth"), &Value::Null));
    assert!(given(&env, &["secret", "rotate", "forge"], VALUE).expect_code(2).contains("has this refresh token already"));
    assert!(given(&env, &["secret", "rotate", "forge"], next).success().contains("version 2"));
    for value in [VALUE, client, next] {
        assert_eq!(holding(env.root(), value), Vec::<String>::new());
    }
    for (args, part) in [
        (&["forge", "--oauth-url", "http://auth.example.org/token", "--client-id", "me"][..], "https://"),
        (&["forge", "--oauth-url", "https://169.254.169.254/token", "--client-id", "me"], "credentials"),
        (&["forge", "--oauth-url", "https://auth.example.org/token"], "--client-id"),
        (&["forge", "--oauth-url", "https://auth.example.org/token", "--client-id", "me", "--place", "sigv4"], "signs no requests"),
        (&["anthropic", "--oauth-url", "https://auth.example.org/token", "--client-id", "me"], "is not refreshed"),
    ] {
        let refused = given(&env, &[&["secret", "set"], args].concat(), VALUE);
        assert!(refused.expect_code(2).contains(part) && !refused.stderr.contains(VALUE), "{args:?}: {}", refused.stderr);
    }
}

#[test]
fn what_cannot_be_kept_is_said_without_the_value_and_keeps_nothing() {
    let env = environment();
    let refused = env.run(["secret", "set", "forge", VALUE]);
    let said = refused.expect_code(2);
    assert!(said.contains("never an argument") && !said.contains(VALUE), "{said}");
    for (args, input, part) in [
        (&["forge"][..], b"".to_vec(), "empty value"),
        (&["forge"], b"\n\n".to_vec(), "empty value"),
        (&["forge"], vec![b'x'; 1024 * 1024], "65536 bytes"),
        (&["forge"], [VALUE.as_bytes(), b"\xff"].concat(), "UTF-8 from byte 29"),
        (&["for ge"], VALUE.into(), "letters, digits"),
        (&["forge", "--host", "https://forge.example.org"], VALUE.into(), "host"),
        (&["forge", "--place", "cookie"], VALUE.into(), "place"),
        (&["forge", "--env", "forge token"], VALUE.into(), "variable"),
        (&["forge", "--from-command", "op 'read"], VALUE.into(), "quote"),
    ] {
        let refused = given(&env, &[&["secret", "set"], args].concat(), input);
        let said = refused.expect_code(2);
        assert!(said.contains(part) && !said.contains(VALUE), "{args:?}: {said}");
    }
    assert!(env.run(["secret", "list"]).success().contains("empty"));
    assert!(given(&env, &["secret", "set", "short"], "tiny").success().contains("kept"));
    assert!(given(&env, &["secret", "set", "short"], "tiny").stderr.contains("not looked for"));
    let pem = "-----BEGIN KEY-----\nabcdefghijkl\n-----END KEY-----\n";
    given(&env, &["secret", "set", "pem"], pem).success();
}

#[test]
fn a_value_is_asked_for_at_a_terminal_and_not_shown() {
    let env = environment();
    let mut command = env.command();
    command.args(["secret", "set", "forge"]);
    let mut terminal = Terminal::start(command);
    terminal.wait_for("value of forge (not shown):");
    terminal.type_line(VALUE);
    terminal.wait_for("kept forge");
    assert!(terminal.settings_at_end().local_modes.contains(rustix::termios::LocalModes::ECHO));
    let (code, screen) = terminal.end();
    assert!(code == Some(0) && !screen.contains(VALUE), "{screen}");
    assert!(given(&env, &["secret", "rotate", "forge"], VALUE).expect_code(2).contains("this value already"), "what was typed was kept");
}

#[test]
fn a_file_of_variables_is_imported_whole_or_not_at_all() {
    let env = environment();
    let file = env.work().join(".env");
    std::fs::write(&file, format!("# keys\nexport FORGE_TOKEN='{VALUE}'\nDB=\"postgres://u:p@h/x\"\nEMPTY=\n")).unwrap();
    let path = file.to_str().unwrap();
    assert!(env.run(["secret", "import", path, "--host", "forge.example.org"]).success().contains("FORGE_TOKEN, DB"));
    assert!(env.run(["secret", "list"]).success().contains("as FORGE_TOKEN in boxes"));
    std::fs::write(&file, "NEW=one-two-three\nDB=other-value\n").unwrap();
    assert!(env.run(["secret", "import", path]).expect_code(2).contains("DB would be replaced"));
    assert!(!env.run(["secret", "list"]).success().contains("NEW"));
    env.run(["secret", "import", path, "--replace"]).success();
    std::fs::write(&file, "no variable\n").unwrap();
    assert!(env.run(["secret", "import", path]).expect_code(2).contains("line 1"));
}

#[test]
fn a_providers_key_comes_from_the_vault_and_from_where_it_points() {
    let sources: [(&[&str], &str); 4] = [
        (&[], "key-from-the-vault"),
        (&["--from-env", "MY_OWN_KEY"], "key-from-a-variable"),
        (&["--from-file", "~/my.key"], "key-from-a-file"),
        (&["--from-command", "sh -c 'echo key-from-a-command'"], "key-from-a-command"),
    ];
    for (options, key) in sources {
        let step = Step::tool("write", json!({"path": "parts/one.txt", "content": "ok\n"})).expect_header_value("x-api-key", key);
        let done = Step::tool("submit", json!({"summary": "Add one"})).expect_header_value("x-api-key", key);
        let server = ScriptedServer::start(vec![Conversation::any().step(step).step(done)]);
        let mut scenario = Scenario::with_config("target = \"main\"\n[agents]\nmodel = \"anthropic/claude-sonnet-4-5\"\n");
        scenario.env.var("AEDILE_ANTHROPIC_BASE_URL", server.url()).var("MY_OWN_KEY", "key-from-a-variable");
        let file = scenario.env.home().join("my.key");
        std::fs::write(&file, "key-from-a-file\n").unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        given(&scenario.env, &[&["secret", "set", "anthropic"], options].concat(), key).success();
        scenario.tasks("goal = \"g\"\n[[task]]\nid = \"one\"\nprompt = \"Write it.\"\nscope = [\"parts/one.txt\"]\n");
        scenario.finish(&[]).success();
        assert_eq!(scenario.landed("aedile/main"), ["one"]);
        server.finish();
        if options.is_empty() {
            assert_eq!(holding(&scenario.env.state(), key), Vec::<String>::new());
        }
    }
}

#[test]
fn a_source_that_gives_nothing_stops_the_run_with_its_name() {
    let scenario = Scenario::new();
    scenario.tasks(&format!("goal = \"g\"\n{}", super::scenario::task("one", "", &[super::scenario::says(None, "no")])));
    for (source, part) in [
        (["--from-command", "sh -c 'printf half-; echo a-secret; exit 3'"], "`sh` ended with 3"),
        (["--from-command", "no-such-store-of-secrets read x"], "was not started"),
        (["--from-command", "true"], "wrote nothing"),
        (["--from-env", "NOT_SET_ANYWHERE"], "NOT_SET_ANYWHERE is not set"),
        (["--from-file", "/no/such/file"], "/no/such/file"),
    ] {
        given(&scenario.env, &[&["secret", "set", "forge"], &source[..]].concat(), "").success();
        let ended = scenario.finish(&[]);
        let said = ended.expect_code(4);
        assert!(said.contains(part) && !said.contains("half-a-secret"), "{said}");
        // What only looks asks no other program.
        scenario.run(&["status"]).success();
    }
}

#[test]
fn secrets_of_the_vault_are_taken_out_of_what_is_stored() {
    let scenario = Scenario::new();
    given(&scenario.env, &["secret", "set", "forge"], VALUE).success();
    let turns = [super::scenario::turn(
        None,
        &[super::scenario::bash(&format!("echo {VALUE}")), super::scenario::write("one", "ok"), super::scenario::submit("Write it")],
    )];
    // The tasks file is the person's; what is stored of it passes the vault.
    scenario.tasks(&format!("goal = \"Parts\"\n{}", super::scenario::task("one", "", &turns)));
    scenario.finish(&[]).success();
    assert!(scenario.run(&["transcript", "ada"]).success().contains("[secret forge]"));
    assert_eq!(holding(&scenario.env.state(), VALUE), Vec::<String>::new());
}

#[test]
fn a_change_that_holds_a_secret_does_not_land() {
    let scenario = Scenario::new();
    given(&scenario.env, &["secret", "set", "forge"], VALUE).success();
    // In another form than the one that was set.
    let hex: String = VALUE.bytes().map(|byte| format!("{byte:02x}")).collect();
    let token = ["glpat", "-q8Zt2LmP0vRx7KdWb3Nc"].concat();
    // What is stored of the script passes the vault, so the script holds neither whole.
    let halves = |text: &str| format!("(printf %s {}; printf %s {}) > parts/one.txt", &text[..12], &text[12..]);
    let turns = [
        super::scenario::turn(None, &[super::scenario::bash(&halves(&hex)), super::scenario::submit("Write it")]),
        super::scenario::turn(
            Some("holds the value of a secret"),
            &[super::scenario::bash(&halves(&token)), super::scenario::submit("Another")],
        ),
    ];
    scenario.tasks(&format!("goal = \"Parts\"\n{}", super::scenario::task("one", "", &turns)));
    let ended = scenario.finish(&[]);
    ended.expect_code(3);
    assert!(ended.stdout.contains("parts/one.txt: holds the value of a secret [secret.forge]"), "{}", ended.stdout);
    assert!(ended.stdout.contains("parts/one.txt [leak.gitlab-pat]"), "{}", ended.stdout);
    assert!(scenario.landed("HEAD").is_empty());
    scenario.run(&["landing", "approve", "one", "--rule", "leak.gitlab-pat"]).success();
    let ended = scenario.run(&["run", "--resume"]);
    // The gate of the project wants other words; what is asked about here is the filter alone.
    assert!(ended.stdout.contains("gate test RED"), "{}", ended.stdout);
    assert_eq!(scenario.events_of("change_imported").len(), 1);
}

#[test]
fn a_vault_that_was_touched_is_named_and_nothing_is_run() {
    let env = environment();
    given(&env, &["secret", "set", "forge"], VALUE).success();
    let vault = env.state().join("vault/secrets.json");
    let key = env.home().join(".config/aedile/vault.key");
    let (good_vault, good_key) = (std::fs::read(&vault).unwrap(), std::fs::read(&key).unwrap());
    let write =
        |path: &Path, bytes: &[u8]| std::fs::File::options().write(true).truncate(true).open(path).unwrap().write_all(bytes).unwrap();
    write(&vault, &good_vault[..100]);
    assert!(env.run(["secret", "list"]).expect_code(6).contains("damaged"));
    write(&vault, &good_vault);
    given(&env, &["secret", "rotate", "forge"], "another-value-0123").success();
    write(&vault, &good_vault);
    assert!(given(&env, &["secret", "set", "x"], VALUE).expect_code(6).contains("older one"));
    std::fs::remove_file(&key).unwrap();
    assert!(env.run(["secret", "list"]).expect_code(6).contains("is not there"));
    std::fs::write(&key, &good_key).unwrap();
    assert!(env.run(["secret", "list"]).expect_code(6).contains("chmod 600"));
}
