//! What policy says of changes and of gates.

use std::sync::{Arc, Mutex};

use aedile_core::event::ReturnReason;
use aedile_core::policy::{LayerName, PolicyText};
use aedile_core::project::ProjectRules;
use aedile_landing::{LandingDeps, LandingQueue, Step};

use crate::support::{Setup, World, gated, watched};

fn layer(layer: LayerName, text: &str) -> PolicyText {
    PolicyText { layer, place: format!("{layer}.toml"), text: text.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_policy_denies_goes_back_with_the_rule_although_it_is_in_scope() {
    let policy = vec![layer(
        LayerName::Project,
        "[write]\ndeny = [\"src/gen/**\"]\n[[rule]]\nid = \"ada-docs\"\nagents = [\"ada\"]\n[rule.write]\nallow = [\"src/**\"]\n",
    )];
    let world = World::new(Setup { rules: ProjectRules { policy, ..ProjectRules::default() }, checked_out: false });
    world.submitted("one", &["**"], &[("src/gen/x.txt", "x\n"), ("docs/y.txt", "y\n"), ("src/fine.txt", "z\n")]);
    let (reason, evidence) = world.go_back().await;
    let ReturnReason::Scope { violations } = reason else { panic!("{reason:?}") };
    assert_eq!(violations.len(), 2, "{violations:?}");
    assert!(violations[0].contains("docs/y.txt") && violations[0].contains("ada-docs/write.allow"), "{violations:?}");
    assert!(violations[1].contains("src/gen/x.txt") && violations[1].contains("the project policy (write.deny)"), "{violations:?}");
    assert!(evidence.contains("leave it as it is"), "{evidence}");
    world.submitted("two", &["**"], &[("src/other.txt", "z\n")]);
    world.land().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_layers_of_the_host_hold_too_and_gates_have_the_limits_of_policy() {
    let world = World::new(gated(&[("check", "sh check.sh")]));
    let specs: Arc<Mutex<Vec<_>>> = Arc::default();
    let seen = Arc::clone(&specs);
    let sandbox = watched(&world.sandbox, move |spec| {
        if spec.label.starts_with("gate") {
            seen.lock().unwrap().push(spec.limits.clone());
        }
    });
    let host = "[write]\ndeny = [\"src/no.txt\"]\n[limits]\nprocesses = 99\n[[rule]]\nid = \"gates\"\nroles = [\"gate\"]\n[rule.limits]\ntime_s = 50\n";
    let policy = vec![layer(LayerName::Organisation, host)];
    let queue = LandingQueue::new(LandingDeps { sandbox, policy, ..world.deps("tester") });
    world.submitted("one", &["src/**"], &[("src/new.txt", "new\n")]);
    assert!(matches!(queue.step(world.run).await.unwrap(), Some(Step::Landed { .. })));
    let limits = specs.lock().unwrap()[0].clone();
    assert_eq!((limits.processes, limits.wall.map(|wall| wall.as_secs())), (Some(99), Some(50)));
    world.submitted("two", &["src/**"], &[("src/no.txt", "new\n")]);
    assert!(matches!(queue.step(world.run).await.unwrap(), Some(Step::Returned { .. })));
}
