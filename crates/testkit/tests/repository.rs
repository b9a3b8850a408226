use aedile_testkit::TempRepo;

fn sample() -> TempRepo {
    let repo = TempRepo::new();
    repo.write("src/a.txt", "one\n").write_executable("run.sh", "#!/bin/sh\n");
    repo.commit("first");
    repo.branch("side").write("src/a.txt", "two\n").commit("second");
    repo
}

#[test]
fn the_same_steps_make_the_same_commits() {
    let (one, two) = (sample(), sample());
    assert_eq!(one.head(), two.head());
    assert_eq!(one.git(&["log", "-1", "--format=%an <%ae> %at"]), "Pat Person <pat@example.org> 1767225960");
}

#[test]
fn files_and_revisions_are_read() {
    let repo = sample();
    assert_eq!(repo.read("src/a.txt"), "two\n");
    assert_eq!(repo.show("main", "src/a.txt"), "one\n");
    assert_eq!(repo.git(&["ls-tree", "HEAD", "run.sh"]).split(' ').next(), Some("100755"));
    repo.checkout("main").remove("run.sh");
    assert_eq!(repo.git(&["status", "--short"]), " D run.sh");
    assert!(repo.try_git(&["checkout", "nowhere"]).unwrap_err().contains("nowhere"));
}

#[test]
fn no_configuration_of_the_person_is_read() {
    let repo = sample();
    let origins = repo.git(&["config", "--list", "--show-origin"]);
    // Ours is the one setting of the command line: a test that runs as root looks at what belongs to an ordinary user.
    let known = |line: &str| line.starts_with("file:.git/config") || line == "command line:\tsafe.directory=*";
    assert!(origins.lines().all(known), "{origins}");
}
