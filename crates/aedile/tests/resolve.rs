//! `aedile resolve`: conflicts of the person's own merges, settled where the engine can; everything else of theirs stays.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};

use aedile_testkit::environment::Finished;
use aedile_testkit::{TempRepo, TestEnvironment};
use serde_json::Value;

const BASE: &str = "struct A {\n    first: u8,\n}\n";
const PATH: &str = "src/a b/größe.rs";

fn with(line: &str) -> String {
    BASE.replace("}\n", &format!("    {line}\n}}\n"))
}

fn joined() -> String {
    "struct A {\n    first: u8,\n    height: Option<Meters>,\n    names: Vec<String>,\n}\n".to_owned()
}

struct Place {
    env: TestEnvironment,
    repo: TempRepo,
}

impl Place {
    /// `main` and `other` add a field each at one place, and do what they are told besides.
    fn new(base: impl Fn(&TempRepo), other: impl Fn(&TempRepo), main: impl Fn(&TempRepo)) -> Self {
        let env = TestEnvironment::new(super::program());
        let repo = TempRepo::init(&env.work().join("repo"));
        repo.write(PATH, BASE);
        base(&repo);
        repo.commit("base");
        repo.branch("other").checkout("other").write(PATH, with("names: Vec<String>,"));
        other(&repo);
        repo.commit("other");
        repo.checkout("main").write(PATH, with("height: Option<Meters>,"));
        main(&repo);
        repo.commit("main");
        Self { env, repo }
    }

    fn merge(&self) {
        self.repo.try_git(&["merge", "-q", "other"]).unwrap_err();
    }

    fn resolve(&self, args: &[&str]) -> Finished {
        self.env.run_in(self.repo.path(), [&["resolve"], args].concat())
    }

    /// What is said of each path: the outcome and the words.
    fn told(&self, args: &[&str], code: i32) -> BTreeMap<String, (String, String)> {
        let finished = self.resolve(&[args, &["--json"]].concat());
        assert_eq!(finished.code(), Some(code), "{}{}", finished.stdout, finished.stderr);
        let answer: Value = serde_json::from_str(&finished.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let paths = answer["paths"].as_array().unwrap().iter();
        paths.map(|one| (text(&one["path"]), (text(&one["outcome"]), text(&one["words"])))).collect()
    }

    /// Everything that a dry run may not change.
    fn state(&self) -> (String, String, String, usize) {
        let git = |args: &[&str]| self.repo.git(args);
        let objects = git(&["count-objects", "-v"]);
        let lines = git(&["status", "--porcelain=v2", "-uall"]);
        (lines, git(&["ls-files", "-s"]), objects, std::fs::read_dir(self.repo.path()).unwrap().count())
    }
}

#[test]
fn what_is_settled_is_staged_and_the_rest_and_the_persons_files_stay() {
    let base = |repo: &TempRepo| {
        repo.write("notes", "a\nb\n").write("begun", "x\n").write("gone", "1\n").write("image", b"\0o").write("mine", "m\n");
    };
    let other = |repo: &TempRepo| {
        repo.write("notes", "a\ntheirs\n").write("begun", "theirs\n").write("gone", "2\n").write("image", b"\0t");
    };
    let main = |repo: &TempRepo| {
        repo.write("notes", "a\nours\n").write("begun", "ours\n").remove("gone").write("image", b"\0m");
    };
    let place = Place::new(base, other, main);
    assert!(place.resolve(&[]).success().starts_with("no path is in conflict here"));
    place.merge();
    place.repo.write("begun", "by hand\n").write("mine", "dirty\n").write("new", "untracked\n");
    let (before, files) = (place.state(), ["notes", "gone", "image"].map(|path| place.repo.read(path)));
    let dry = place.resolve(&["--dry-run"]);
    assert!(dry.stdout.contains("größe.rs  would be resolved: 1 contested place settled (joined)"), "{}{}", dry.stdout, dry.stderr);
    assert_eq!((dry.code(), place.state()), (Some(1), before));

    let told = place.told(&[], 1);
    assert_eq!(told[PATH], ("resolved".to_owned(), "1 contested place settled (joined)".to_owned()));
    let words = |path: &str| told[path].1.as_str();
    assert!(["notes", "begun"].iter().all(|path| words(path).contains("not settled by any rule")), "{told:?}");
    assert!(words("gone").starts_with("ours deleted or renamed it") && words("image") == "a version is no text", "{told:?}");
    assert!(told.iter().all(|(path, (outcome, _))| (outcome == "resolved") == (path == PATH)), "{told:?}");
    assert_eq!((place.repo.read(PATH), place.repo.show("", PATH)), (joined(), joined()));
    assert_eq!(["notes", "gone", "image"].map(|path| place.repo.read(path)), files);
    assert_eq!(["begun", "mine", "new"].map(|path| place.repo.read(path)), ["by hand\n", "dirty\n", "untracked\n"]);
    assert_eq!(place.repo.git(&["diff", "--name-only", "--diff-filter=U"]), "begun\ngone\nimage\nnotes");
    assert!(place.repo.git(&["status", "--porcelain", "mine", "new"]).ends_with(" M mine\n?? new"));
    let left = place.resolve(&[]);
    assert!(
        left.stdout.contains("next: edit what is left between its markers and `git add` it") && !left.stdout.contains(PATH),
        "{}",
        left.stdout
    );

    // What was settled can be had as a conflict again.
    place.repo.git(&["checkout", "-q", "-m", "--", PATH]);
    assert!(place.repo.read(PATH).contains("<<<<<<<"));
    assert_eq!(place.told(&[PATH], 0)[PATH].0, "resolved");
    place.repo.git(&["add", "notes", "begun", "image"]);
    place.repo.git(&["rm", "-q", "gone"]);
    place.repo.git(&["commit", "-q", "--no-edit"]);
    assert_eq!(place.repo.show("HEAD", PATH), joined());
}

#[test]
fn rebase_cherry_pick_revert_and_stash_pop_go_on_from_there() {
    let plain = |_: &TempRepo| {};
    let place = Place::new(plain, plain, plain);
    let (repo, start) = (&place.repo, place.repo.head());
    let settled = |next: &str| {
        let finished = place.resolve(&[]);
        assert!(finished.success().contains(&format!("next: look at `git diff --cached`{next}")), "{}", finished.stdout);
        assert_eq!(repo.git(&["ls-files", "-u"]), "");
    };
    repo.try_git(&["cherry-pick", "other"]).unwrap_err();
    settled(", then `git cherry-pick --continue`");
    repo.git(&["-c", "core.editor=true", "cherry-pick", "--continue"]);
    assert_eq!(repo.show("HEAD", PATH), joined());

    repo.git(&["reset", "-q", "--hard", &start]);
    repo.checkout("other").try_git(&["rebase", "-q", "main"]).unwrap_err();
    settled(", then `git rebase --continue`");
    repo.git(&["-c", "core.editor=true", "rebase", "--continue"]);
    assert_eq!((repo.show("other", PATH), repo.rev("other^")), (joined(), start.clone()));

    repo.checkout("main").git(&["reset", "-q", "--hard", "HEAD^"]);
    repo.write(PATH, with("names: Vec<String>,")).git(&["stash", "-q"]);
    repo.git(&["reset", "-q", "--hard", &start]);
    repo.try_git(&["stash", "pop"]).unwrap_err();
    settled("; a stash that was popped is still there");
    assert_eq!((repo.read(PATH), repo.git(&["stash", "list"]).lines().count()), (joined(), 1));

    // Both took a field out that stands beside the other's.
    repo.git(&["reset", "-q", "--hard", &start]);
    repo.write(PATH, joined()).commit("names");
    repo.write(PATH, joined().replace("names: Vec<String>", "names: Vec<Box<str>>")).commit("boxed");
    repo.try_git(&["revert", "--no-edit", "HEAD^"]).unwrap_err();
    let left = place.resolve(&[]);
    assert!(left.expect_code(1).is_empty() && left.stdout.contains("not settled"), "{}", left.stdout);
    assert!(repo.read(PATH).contains("<<<<<<<"));
}

#[test]
fn what_is_no_conflict_between_texts_is_declined_with_a_sentence() {
    let base = |repo: &TempRepo| {
        repo.write("was", "1\n2\n3\n4\n5\n6\n").write("locked", "a\n").write(".gitattributes", "locked -merge\n");
        symlink("one", repo.path().join("link")).unwrap();
        let commit = "1111111111111111111111111111111111111111";
        repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},module")]);
    };
    let relinked = |repo: &TempRepo, to: &str| {
        std::fs::remove_file(repo.path().join("link")).unwrap();
        symlink(to, repo.path().join("link")).unwrap();
    };
    let other = |repo: &TempRepo| {
        repo.write("locked", "t\n").git(&["mv", "was", "theirs-name"]);
        relinked(repo, "two");
        repo.write_executable("added", "#!/bin/sh\n");
    };
    let main = |repo: &TempRepo| {
        repo.write("locked", "o\n").git(&["mv", "was", "ours-name"]);
        relinked(repo, "three");
        repo.write("added", "#!/bin/sh\n");
    };
    let place = Place::new(base, other, main);
    place.merge();
    let before = place.repo.git(&["ls-files", "-u"]);
    let told = place.told(&[], 1);
    let words = |path: &str| told.get(path).unwrap_or_else(|| panic!("{path} is not in {told:?} of {before}")).1.as_str();
    assert!(words("link") == "a version is a link" && words("added") == "the sides gave it different modes", "{told:?}");
    assert!(words("was").starts_with("no side has it") && words("ours-name").starts_with("only one side"), "{told:?}");
    assert_eq!(words("locked"), "its attributes name another way to merge it");
    assert_eq!(told[PATH].0, "resolved");
    assert_eq!(place.repo.git(&["ls-files", "-u"]), before.lines().filter(|line| !line.contains("a b/")).collect::<Vec<_>>().join("\n"));
}

#[test]
fn line_ends_and_modes_are_those_of_the_path() {
    let base = |repo: &TempRepo| {
        repo.write(".gitattributes", "*.rs text eol=crlf\n");
    };
    let main = |repo: &TempRepo| {
        std::fs::set_permissions(repo.path().join(PATH), PermissionsExt::from_mode(0o755)).unwrap();
    };
    let place = Place::new(base, |_| {}, main);
    place.merge();
    assert!(place.repo.read(PATH).contains("<<<<<<< HEAD\r\n"));
    place.resolve(&[]).success();
    assert_eq!(place.repo.read(PATH), joined().replace('\n', "\r\n"));
    assert_eq!(std::fs::metadata(place.repo.path().join(PATH)).unwrap().permissions().mode() & 0o111, 0o111);
    assert_eq!(place.repo.git(&["status", "--porcelain"]), r#"M  "src/a b/gr\303\266\303\237e.rs""#);
}

#[test]
fn a_run_that_was_cut_off_is_finished_by_the_next_and_an_edit_is_never_overwritten() {
    let place = Place::new(|_| {}, |_| {}, |_| {});
    place.merge();
    let conflict = place.repo.read(PATH);
    place.repo.write(PATH, conflict.replace("first: u8", "first: u16"));
    let told = place.told(&[], 1);
    assert!(told[PATH].1.starts_with("the file is not as git left it"), "{told:?}");
    assert!(place.repo.read(PATH).contains("first: u16"));
    std::fs::remove_file(place.repo.path().join(PATH)).unwrap();
    assert!(place.told(&[], 1)[PATH].1.starts_with("there is no ordinary file"));
    // In another style, with other labels, it is still nobody's work.
    place.repo.git(&["checkout", "-q", "--conflict=diff3", "--", PATH]);
    assert_eq!(place.told(&["--dry-run"], 0)[PATH].0, "resolved");
    // The file was written and the index was not.
    place.repo.write(PATH, joined());
    assert_eq!(place.told(&[], 0)[PATH].0, "resolved");
    assert_eq!(place.repo.git(&["ls-files", "-u"]), "");
}

#[test]
fn paths_are_taken_from_where_the_person_is_and_wrong_ones_are_refused() {
    let place = Place::new(|_| {}, |_| {}, |_| {});
    let nowhere = place.env.run_in(place.env.root(), ["resolve"]);
    assert!(nowhere.expect_code(4).contains("is not in a git repository"), "{}", nowhere.stderr);
    place.merge();
    assert!(place.resolve(&["src/nothing.rs"]).expect_code(2).contains("src/nothing.rs is not in conflict"));
    assert!(place.resolve(&["../elsewhere"]).expect_code(2).contains("is not in this repository"));
    assert!(place.repo.read(PATH).contains("<<<<<<<"));
    let here = place.repo.path().join("src");
    let finished = place.env.run_in(&here, ["resolve", "../src/./a b"]);
    assert!(finished.success().contains("resolved: 1 contested place"), "{}", finished.stdout);
    assert!(!place.env.state().exists(), "no state is needed");
}
