//! `aedile landing`, as far as it needs no run.

use aedile_testkit::TestEnvironment;
use serde_json::Value;

/// The contract of `landing simulate`: no project, one object, the same every time, and what is no chance is named.
#[test]
fn landing_simulate_prints_the_means_of_its_worlds() {
    let env = TestEnvironment::new(super::program());
    let simulate = |more: &[&str]| env.run([&["landing", "simulate"], more].concat()).success().to_owned();
    let asked = ["--n", "30", "--bad", "0.05", "--pairs", "0.001", "--verifiers", "4", "--json"];
    let first = simulate(&asked);
    assert_eq!(simulate(&asked), first);
    let means: Value = serde_json::from_str(&first).unwrap();
    let mean = |name: &str| means[name].as_f64().unwrap();
    assert!(mean("runs_per_branch") <= 0.65 && mean("makespan") <= 5.5 && mean("wrongly_ejected") == 0.0, "{first}");
    assert!((27.0..29.0).contains(&mean("landed")) && means["worlds"] == 1000, "{first}");
    let said = simulate(&["--n", "8", "--bad", "0"]);
    assert!(
        said.contains("8 changes, 4 verifiers") && said.lines().any(|line| line.starts_with("landed") && line.ends_with("8.00")),
        "{said}"
    );
    for (args, parts) in [
        (["--bad", "5"], ["--bad 5 is not a chance", "0.05 for 5 %"]),
        (["--pairs", "nan"], ["--pairs", "NaN is not a chance"]),
        (["--n", "0"], ["--n", "1..=500"]),
        (["--verifiers", "65"], ["--verifiers", "1..=64"]),
    ] {
        let finished = env.run([&["landing", "simulate"], &args[..]].concat());
        let said = finished.expect_code(2);
        assert!(parts.iter().all(|part| said.contains(part)), "{args:?}: {said}");
    }
}
