//! Policy as a person meets it: what is wrong with a file, what results, who may do what.

use aedile_testkit::{TempRepo, TestEnvironment};

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
