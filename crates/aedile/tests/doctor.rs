//! `aedile doctor` on this host and on hosts that lack something.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use aedile_testkit::TestEnvironment;
use aedile_testkit::environment::{Finished, User};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

fn features(finished: &Finished) -> Vec<Value> {
    finished.last_json()["features"].as_array().unwrap().clone()
}

/// The names of what is missing; every one of them has a cost, and nothing else has.
fn missing(features: &[Value]) -> Vec<&str> {
    for feature in features {
        let (present, cost) = (feature["present"].as_bool().unwrap(), feature["cost"].as_str());
        assert!(present == cost.is_none_or(str::is_empty), "{feature}");
        assert!(!feature["detail"].as_str().unwrap().is_empty(), "{feature}");
    }
    features.iter().filter(|feature| feature["present"] == false).filter_map(|feature| feature["name"].as_str()).collect()
}

#[test]
fn each_feature_of_this_host_is_tried_and_has_a_line() {
    for user in [User::Same, User::Ordinary] {
        let env = TestEnvironment::for_user(super::program(), user);
        let report = env.run(["doctor", "--json"]);
        report.expect_code(0);
        let features = features(&report);
        // Without these the box would not have worked.
        for name in ["user namespaces", "mount namespaces", "pid namespaces", "network namespaces", "openat2", "pidfd", "seccomp"] {
            assert!(features.iter().any(|feature| feature["name"] == name && feature["present"] == true), "{name}: {features:?}");
        }
        let told = env.run(["doctor"]);
        let lost = missing(&features);
        for name in features.iter().filter_map(|feature| feature["name"].as_str()) {
            let begin = if lost.contains(&name) { format!("missing  {name}: ") } else { format!("present  {name}: ") };
            let line = told.success().lines().find(|line| line.starts_with(&begin));
            assert_eq!(line.unwrap_or_else(|| panic!("{begin}")).contains("What that costs: "), lost.contains(&name));
        }
        env.assert_nothing_left();
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the program is started on a host that lacks something")]
fn a_host_without_network_namespaces_is_told_so() {
    let env = TestEnvironment::new(super::program());
    // The limit of one namespace of users holds in those below it.
    let script = "echo 0 > /proc/sys/user/max_net_namespaces && exec unshare -U --map-user=1000 --map-group=1000 \"$0\" doctor --json";
    let mut command = env.command();
    let program = command.get_program().to_owned();
    let mut apart = Command::new("unshare");
    apart.args(["-U", "-r", "sh", "-c", script]).arg(program).current_dir(env.work()).env_clear();
    apart.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command = apart;
    let report = env.run_command(command, LIMIT);
    report.expect_code(5);
    let features = features(&report);
    let spaces = missing(&features).into_iter().filter(|name| name.ends_with("namespaces")).collect::<Vec<_>>();
    assert_eq!(spaces, ["network namespaces"], "{features:?}");
    let lost = features.iter().find(|feature| feature["name"] == "network namespaces").unwrap();
    assert!(lost["cost"].as_str().unwrap().contains("no box can be started"), "{lost}");
}

#[test]
fn a_box_is_a_host_that_lacks_what_its_filter_refuses() {
    let env = TestEnvironment::new(super::program());
    let dir = env.work().join("dir");
    std::fs::create_dir(&dir).unwrap();
    let mut command = env.command();
    let program = command.get_program().to_owned();
    command.args(["sandbox", "exec", "--dir"]).arg(&dir).arg("--ro").arg(Path::new(&program)).arg("--").arg(&program);
    command.args(["doctor", "--json"]);
    let report = env.run_command(command, LIMIT);
    report.expect_code(5);
    let features = features(&report);
    let lost = missing(&features);
    for name in
        ["user namespaces", "mounts by descriptor", "openat2", "memory files with seals", "session key rings", "overlay file systems"]
    {
        assert!(lost.contains(&name), "{name}: {features:?}");
    }
    for name in ["pidfd", "close_range", "seccomp", "memfd_noexec", "counts of written bytes"] {
        assert!(!lost.contains(&name), "{name}: {features:?}");
    }
}
