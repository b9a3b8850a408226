//! What policy leaves to agents of a run.

use aedile_core::MicroUsd;
use aedile_core::agent_api::{AgentReply, AgentRequest};
use aedile_core::machine::TaskState;
use aedile_core::policy::{LayerName, PolicyText};
use aedile_core::sandbox::WriteScope;
use aedile_fleet::{Parts, StopWish};

use crate::fakes::{World, end_turn};
use crate::support::{Landing, open, plan, store, task, view};

fn layer(layer: LayerName, text: &str) -> PolicyText {
    PolicyText { layer, place: format!("{layer}.toml"), text: text.to_owned() }
}

#[tokio::test]
async fn a_box_a_door_and_what_an_agent_is_told_are_what_policy_leaves() {
    let world = World::new(|turn| async move {
        let AgentReply::Task { scope, tools, .. } = turn.call(AgentRequest::TaskInfo {}).await else { panic!() };
        assert_eq!(scope, ["src/a/**"]);
        assert!(tools.len() == 1 && !tools[0].leaves("bash") && tools[0].leaves("read"));
        turn.submit().await;
        end_turn()
    });
    let store = store();
    let mut plan = plan(vec![task("one", "src/**", &[])], 4);
    plan.rules.run_budget.usd = Some(MicroUsd(9_000_000));
    plan.rules.policy = vec![layer(
        LayerName::Project,
        "[write]\nallow = [\"src/a/**\"]\ndeny = [\"src/a/gen/**\"]\n[spend]\ntask_usd = 1.0\nrun_usd = 30.0\n",
    )];
    let run = open(store.as_ref(), &plan);
    let user = "[limits]\nprocesses = 77\n[[rule]]\nid = \"b\"\nroles = [\"builder\"]\n[rule.tools]\ndeny = [\"bash\"]\n\
                [[rule]]\nid = \"s\"\nroles = [\"scout\"]\n[rule.limits]\nprocesses = 3\n";
    let parts = Parts { policy: vec![layer(LayerName::User, user)], ..world.parts(&store, "worker") };
    let report = world.drive_with(&store, run, Landing::default(), parts, StopWish::No).await.unwrap();
    assert_eq!(report.landed, 1);
    let spec = world.specs.lock().unwrap()[0].clone();
    let (globs, except) = (vec!["src/a/**".to_owned()], vec!["src/a/gen/**".to_owned()]);
    assert_eq!(spec.write, WriteScope::Globs { globs, also: vec![".git".to_owned()], except });
    assert_eq!(spec.limits.processes, Some(77));
    let prompt = &world.prompts("one")[0];
    assert!(
        prompt.contains("You may change only: `src/a/**`") && prompt.contains("keeps these paths as they are: `src/a/gen/**`"),
        "{prompt}"
    );
    let grant = world.grants.lock().unwrap()[0].clone();
    assert_eq!((grant.task_budget.usd, grant.run_budget.usd), (Some(MicroUsd(1_000_000)), Some(MicroUsd(9_000_000))));
    assert_eq!(grant.policy.iter().map(|text| text.layer).collect::<Vec<_>>(), [LayerName::User, LayerName::Project]);
    // The door of the fake passes nothing on unless some network rule is there.
    assert!(spec.env.iter().all(|(name, _)| name != "http_proxy"));
}

#[tokio::test]
async fn a_door_that_passes_something_on_is_found_as_a_proxy() {
    let world = World::new(|turn| async move {
        turn.submit().await;
        end_turn()
    });
    let store = store();
    let mut plan = plan(vec![task("one", "src/**", &[])], 4);
    plan.rules.policy = vec![layer(LayerName::Run, "[[network]]\nid = \"a\"\nhosts = [\"a.example.org\"]\n")];
    let run = open(store.as_ref(), &plan);
    assert_eq!(world.drive(&store, run, Landing::default()).await.unwrap().landed, 1);
    let spec = world.specs.lock().unwrap()[0].clone();
    let proxy = spec.env.iter().find(|(name, _)| name == "http_proxy").map(|(_, value)| value.as_str());
    assert_eq!(proxy, Some("http://127.0.0.1:7070"));
    let trusted = spec.mounts.iter().find(|mount| mount.inside.to_str() == Some(aedile_core::sandbox::TRUST_INSIDE)).unwrap();
    assert!(!trusted.writable && spec.env.contains(&("X_CERT".to_owned(), "there".to_owned())));
}

#[tokio::test]
async fn what_policy_does_not_let_start_waits_for_a_person_with_the_rule() {
    for (said, part) in [
        ("[spawn]\nmodels = [\"anthropic/*\"]", "spawn.models"),
        ("[[rule]]\nid = \"x\"\nagents = [\"ada\"]\n[rule.spawn]\nruntimes = [\"claude\"]", "x/spawn.runtimes"),
        ("[spawn]\nat_once = 0", "user.toml"),
    ] {
        let world = World::new(|_| async { panic!("it must not start") });
        let store = store();
        let run = open(store.as_ref(), &plan(vec![task("one", "src/**", &[])], 4));
        let parts = Parts { policy: vec![layer(LayerName::User, said)], ..world.parts(&store, "worker") };
        world.drive_with(&store, run, Landing::default(), parts, StopWish::No).await.unwrap();
        let task = view(store.as_ref(), run, "one");
        let why = task.why.clone().unwrap_or_default();
        assert!(task.state == TaskState::Waiting && why.contains(part), "{:?}: {why}", task.state);
    }
}
