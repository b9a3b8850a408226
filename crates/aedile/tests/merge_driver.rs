//! `aedile merge-driver`: git's own merges ask the engine, and lose nothing when it does not answer.

use std::path::Path;

use aedile_testkit::{TempRepo, TestEnvironment};

const BASE: &str = "struct A {\n    first: u8,\n}\n";
/// A path with a blank and letters that are not ASCII.
const PATH: &str = "src/a b/größe.rs";

fn with(line: &str) -> String {
    BASE.replace("}\n", &format!("    {line}\n}}\n"))
}

fn both() -> String {
    with("height: Option<Meters>,").replace("}\n", "    names: Vec<String>,\n}\n")
}

fn repository(env: &TestEnvironment, name: &str) -> TempRepo {
    let repo = TempRepo::init(&env.work().join(name));
    repo.write(PATH, BASE).write("notes", "one\ntwo\n").write("image", b"\0one");
    repo.commit("base");
    repo
}

/// `main` and `other` add a field each to one place.
fn two_fields(repo: &TempRepo) {
    repo.branch("other").checkout("other").write(PATH, with("names: Vec<String>,")).commit("names");
    repo.checkout("main").write(PATH, with("height: Option<Meters>,")).commit("height");
}

/// What git leaves of a merge that conflicts: each file, and what stands in the index.
fn left(repo: &TempRepo, style: &str) -> (Vec<Vec<u8>>, String) {
    repo.try_git(&["-c", &format!("merge.conflictStyle={style}"), "merge", "-q", "other"]).unwrap_err();
    let files = ["notes", "image", "both"].map(|path| std::fs::read(repo.path().join(path)).unwrap());
    let index = repo.git(&["ls-files", "-u", "--full-name"]);
    repo.git(&["merge", "--abort"]);
    (files.into(), index)
}

/// `main` and `other` contradict each other in a text and a binary file, and both add one.
fn contradicting(env: &TestEnvironment, name: &str) -> TempRepo {
    let repo = repository(env, name);
    repo.branch("other").checkout("other");
    repo.write("notes", "one\ntheirs\n").write("image", b"\0theirs").write("both", "a\nb\nthis\n").commit("other");
    repo.checkout("main").write("notes", "one\nours\n").write("image", b"\0ours").write("both", "a\nb\nthat\n").commit("main");
    repo
}

fn config(repo: &TempRepo) -> String {
    std::fs::read_to_string(repo.path().join(".git/config")).unwrap()
}

#[test]
fn merge_rebase_and_cherry_pick_settle_what_the_engine_settles() {
    let env = TestEnvironment::new(super::program());
    let repo = repository(&env, "repo");
    two_fields(&repo);
    repo.try_git(&["merge", "-q", "other"]).unwrap_err();
    repo.git(&["merge", "--abort"]);
    env.run_in(repo.path(), ["merge-driver", "install"]).success();
    let start = repo.head();

    let merged = repo.command(&["merge", "-q", "--no-edit", "other"]).output().unwrap();
    let said = String::from_utf8_lossy(&merged.stderr);
    assert!(merged.status.success() && said.contains(&format!("aedile: {PATH}: 1 contested place settled (joined)")), "{said}");
    assert_eq!(repo.read(PATH), both());
    assert_eq!(repo.git(&["status", "--porcelain"]), "", "nothing is left lying about");

    repo.git(&["reset", "-q", "--hard", &start]);
    repo.git(&["cherry-pick", "other"]);
    assert_eq!(repo.read(PATH), both());

    repo.git(&["reset", "-q", "--hard", &start]);
    repo.checkout("other").git(&["rebase", "-q", "main"]);
    assert_eq!(
        (repo.read(PATH), repo.rev("HEAD^")),
        (with("height: Option<Meters>,").replace("}\n", "    names: Vec<String>,\n}\n"), start)
    );
}

#[test]
fn what_stays_in_conflict_is_left_as_git_leaves_it() {
    let env = TestEnvironment::new(super::program());
    let repo = contradicting(&env, "repo");
    let without = ["merge", "diff3", "zdiff3"].map(|style| left(&repo, style));
    assert!(without[0].0[0].starts_with(b"one\n<<<<<<< HEAD\nours\n=======\n"), "{:?}", without[0]);
    assert_eq!(without[0].0[1], b"\0ours");
    env.run_in(repo.path(), ["merge-driver", "install"]).success();
    assert_eq!(["merge", "diff3", "zdiff3"].map(|style| left(&repo, style)), without);
    // What the attributes of a path name is followed as before, and so is the size of markers.
    repo.write(".gitattributes", "notes merge=union\nboth conflict-marker-size=12\n").commit("attributes");
    let (files, index) = left(&repo, "merge");
    assert_eq!(files[0], b"one\nours\ntheirs\n");
    assert!(files[2].starts_with(b"a\nb\n<<<<<<<<<<<< HEAD\n"), "{:?}", String::from_utf8_lossy(&files[2]));
    assert!(!index.contains("notes") && index.contains("image") && index.contains("both"), "{index}");
}

#[test]
fn a_program_that_is_gone_or_dies_costs_nothing() {
    let at = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("it's 100% {}", std::process::id()));
    std::fs::create_dir_all(&at).unwrap();
    let program = at.join("aedile");
    std::fs::hard_link(super::program(), &program).or_else(|_| std::fs::copy(super::program(), &program).map(drop)).unwrap();
    let env = TestEnvironment::new(&program);
    let (repo, fields) = (contradicting(&env, "repo"), repository(&env, "fields"));
    two_fields(&fields);
    let without = left(&repo, "diff3");
    for dir in [repo.path(), fields.path()] {
        env.run_in(dir, ["merge-driver", "install"]).success();
    }
    assert!(fields.git(&["merge-tree", "--write-tree", "main", "other"]).len() == 40, "from where it lies it is called");
    for what in [None, Some("#!/bin/sh\nkill -9 $$\n")] {
        std::fs::remove_file(&program).unwrap();
        if let Some(script) = what {
            std::fs::write(&program, script).unwrap();
            std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        assert_eq!(left(&repo, "diff3"), without, "{what:?}");
        fields.try_git(&["merge", "-q", "other"]).unwrap_err();
        assert!(fields.read(PATH).contains("height") && fields.read(PATH).contains("names"), "both sides stand between markers");
        fields.git(&["merge", "--abort"]);
        if what.is_none() {
            let status = TestEnvironment::new(super::program()).run_in(repo.path(), ["merge-driver", "status"]);
            assert!(status.success().contains("which is not there"), "{}", status.stdout);
            std::fs::write(&program, "").unwrap();
        }
    }
    std::fs::remove_dir_all(&at).unwrap();
}

#[test]
fn installing_twice_changes_nothing_and_uninstalling_puts_the_file_back() {
    let env = TestEnvironment::new(super::program());
    let repo = repository(&env, "repo");
    repo.git(&["config", "merge.conflictStyle", "zdiff3"]);
    let before = config(&repo);
    let run = |args: &[&str]| env.run_in(repo.path(), args);
    assert!(run(&["merge-driver", "status"]).success().starts_with("git does not use aedile here\nmerge.default is not set"));
    let installed = run(&["merge-driver", "install", "--json"]).success().to_owned();
    let answer: serde_json::Value = serde_json::from_str(&installed).unwrap();
    assert_eq!((answer["changed"].as_array().unwrap().len(), &answer["in_use"]), (4, &true.into()));
    let after = config(&repo);
    assert!(run(&["merge-driver", "install"]).success().starts_with("nothing to change"));
    assert_eq!(config(&repo), after);
    let status = run(&["merge-driver", "status"]).success().to_owned();
    assert!(status.starts_with("git uses aedile here\nmerge.default is `aedile` (.git/config)\nthe driver calls /"), "{status}");
    // A line of an older program is brought up to date.
    repo.git(&["config", "merge.aedile.driver", "'/gone/aedile' merge-file"]);
    assert!(run(&["merge-driver", "install"]).success().contains("it was '/gone/aedile' merge-file"));
    assert_eq!(config(&repo), after);
    assert!(run(&["merge-driver", "uninstall"]).success().contains("removed merge.default"));
    assert_eq!(config(&repo), before);
    assert!(run(&["merge-driver", "uninstall"]).success().starts_with("nothing to change"));
    assert_eq!(repo.git(&["status", "--porcelain"]), "");
    assert!(!std::fs::read_to_string(repo.path().join(".git/info/attributes")).is_ok_and(|text| text.contains("aedile")));
    assert!(!env.state().exists(), "no state is needed");
}

#[test]
fn a_merge_default_of_the_persons_is_kept_and_global_is_for_all_repositories() {
    let env = TestEnvironment::new(super::program());
    let repo = repository(&env, "repo");
    repo.git(&["config", "merge.default", "mine"]);
    let refused = env.run_in(repo.path(), ["merge-driver", "install"]);
    assert!(refused.expect_code(1).contains("merge.default is `mine` already (.git/config); it is kept"), "{}", refused.stderr);
    assert_eq!(repo.git(&["config", "merge.default"]), "mine");
    env.run_in(repo.path(), ["merge-driver", "uninstall"]).success();
    assert!(config(&repo).contains("default = mine") && !config(&repo).contains("aedile"), "{}", config(&repo));
    repo.git(&["config", "--unset", "merge.default"]);

    // Outside of a repository there is none to set it up in.
    let nowhere = env.run_in(env.root(), ["merge-driver", "install"]);
    assert!(nowhere.expect_code(4).contains("--global"), "{}", nowhere.stderr);
    env.run_in(env.root(), ["merge-driver", "install", "--global"]).success();
    let global = std::fs::read_to_string(env.home().join(".gitconfig")).unwrap();
    assert!(global.contains("default = aedile"), "{global}");
    assert!(env.run_in(repo.path(), ["merge-driver", "status"]).success().starts_with("git uses aedile here\n"));
    let twice = env.run_in(repo.path(), ["merge-driver", "uninstall"]).success().to_owned();
    assert!(twice.contains("git uses aedile here all the same"), "{twice}");
    env.run_in(env.root(), ["merge-driver", "uninstall", "--global"]).success();
    assert_eq!(std::fs::read_to_string(env.home().join(".gitconfig")).unwrap(), "");
}
