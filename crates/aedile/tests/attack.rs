//! `aedile attack`: the program attacks its own boxes.

use std::collections::BTreeSet;
use std::time::Duration;

use aedile_testkit::TestEnvironment;
use aedile_testkit::environment::User;

const LIMIT: Duration = Duration::from_secs(300);

#[test]
fn everything_is_contained_in_a_repository_without_set_up() {
    for user in [User::Same, User::Ordinary] {
        let env = TestEnvironment::for_user(super::program(), user);
        let made = "git init -q . && git -c user.name=t -c user.email=t@t commit -q --allow-empty -m start";
        let repository = env.work().join("repository");
        std::fs::create_dir(&repository).unwrap();
        super::output_of("sh", &["-c", made], &repository);
        env.give_to_user();
        let mut command = env.command();
        command.args(["attack", "--json"]).current_dir(&repository);
        let finished = env.run_command(command, LIMIT);
        let report: serde_json::Value = serde_json::from_str(finished.success()).unwrap();
        let probes = report["probes"].as_array().unwrap();
        assert!(probes.len() >= 120, "{} probes", probes.len());
        let mut names = BTreeSet::new();
        for probe in probes {
            assert_eq!((&probe["contained"], &probe["tries"]), (&true.into(), &1.into()), "{probe}");
            assert!(names.insert(probe["id"].as_str().unwrap()) && probe["class"].is_string(), "{probe}");
            assert!(!probe["stopped_by"].as_array().unwrap().is_empty(), "{probe}");
        }
        assert!(report["not_run"].as_array().unwrap().iter().all(|probe| probe["reason"].is_string()));
        assert!(!env.state().exists() && repository.join(".git/config").exists());
        env.assert_nothing_left();
    }
}

#[test]
fn outside_a_repository_it_says_so() {
    let env = TestEnvironment::new(super::program());
    assert!(env.run(["attack"]).expect_code(4).contains("git"));
}
