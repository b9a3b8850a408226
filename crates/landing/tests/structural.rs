//! The structural tier: what git leaves in conflict lands by what the files say, judged by gates, or goes back with the reason.

use aedile_core::event::{Event, ReturnReason, TierOutcome};

use aedile_core::CommitId;
use aedile_core::store::list;
use aedile_core::view::ChangeView;

use crate::support::{Setup, Workspace, World, gated};

const REGISTRY: &str = "pub fn all() -> Vec<Tool> {\n    vec![\n        // tools\n    ]\n}\n";

fn world(gate: &str) -> World {
    let world = World::new(gated(&[("test", gate)]));
    world.person_commits("src/list.txt", "one\n");
    world.person_commits("src/tools.rs", REGISTRY);
    world
}

/// A change of one file, submitted on the commit before everything else.
fn submit(world: &World, base: &CommitId, key: &str, edit: impl Fn(&Workspace)) {
    let ws = world.workspace_from(world.task(key, &["src/**"]), base);
    edit(&ws);
    ws.commit("x");
    world.submit(&ws, "done");
}

fn tool(name: &str) -> String {
    REGISTRY.replace("    ]", &format!("        Tool::new(\"{name}\", {name}::run),\n    ]"))
}

fn tiers(world: &World) -> Vec<(String, TierOutcome)> {
    let tried = |event| match event {
        Event::TierTried { tier, outcome, .. } => Some((tier, outcome)),
        _ => None,
    };
    world.events().into_iter().filter_map(tried).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn six_changes_at_one_anchor_all_land_and_each_has_its_receipt() {
    let world = world("grep -c Tool::new src/tools.rs");
    let base = CommitId::new(world.main()).unwrap();
    let names = ["hammer", "saw", "drill", "file", "clamp", "level"];
    for name in names {
        submit(&world, &base, name, |ws| {
            ws.repo.write("src/tools.rs", tool(name));
        });
    }
    for _ in names {
        world.land().await;
    }
    let landed = world.repo.show("main", "src/tools.rs");
    assert!(names.iter().all(|name| landed.matches(&format!("\"{name}\"")).count() == 1) && !landed.contains("<<<<"), "{landed}");
    let receipts: Vec<_> = tiers(&world)
        .into_iter()
        .filter_map(|(tier, outcome)| match outcome {
            TierOutcome::Merged { receipt: Some(blob), .. } if tier == "structural" => Some(blob),
            _ => None,
        })
        .collect();
    assert_eq!(receipts.len(), 5, "the first needed none");
    let text = String::from_utf8(world.store.get_blob(&receipts[4]).unwrap().unwrap()).unwrap();
    assert!(text.contains("\"src/tools.rs\"") && text.contains("\"by\":\"joined\""), "{text}");
    let views: Vec<ChangeView> = list(&*world.store, Some(world.run)).unwrap();
    assert_eq!(views.iter().filter(|change| change.receipt.is_some()).count(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_tier_merged_lands_only_when_its_gate_is_green() {
    let world = world("test $(grep -c Tool::new src/tools.rs) -lt 2");
    let base = CommitId::new(world.main()).unwrap();
    submit(&world, &base, "hammer", |ws| {
        ws.repo.write("src/tools.rs", tool("hammer"));
    });
    submit(&world, &base, "saw", |ws| {
        ws.repo.write("src/tools.rs", tool("saw"));
    });
    let landed = world.land().await;
    let (reason, _) = world.go_back().await;
    assert_eq!(reason, ReturnReason::Gate { gate: "test".to_owned() });
    assert_eq!(world.main(), landed.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_gate_nobody_would_judge_it_and_the_change_goes_back() {
    let world = World::new(Setup::default());
    world.person_commits("src/tools.rs", REGISTRY);
    let base = CommitId::new(world.main()).unwrap();
    submit(&world, &base, "hammer", |ws| {
        ws.repo.write("src/tools.rs", tool("hammer"));
    });
    submit(&world, &base, "saw", |ws| {
        ws.repo.write("src/tools.rs", tool("saw"));
    });
    world.land().await;
    let (reason, _) = world.go_back().await;
    assert_eq!(reason, ReturnReason::Conflict { paths: vec!["src/tools.rs".to_owned()] });
    assert!(matches!(tiers(&world).last(), Some((tier, TierOutcome::Declined { .. })) if tier == "structural"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_rule_settles_goes_back_with_the_place_and_other_conflicts_are_not_touched() {
    let world = world("true");
    let base = CommitId::new(world.main()).unwrap();
    submit(&world, &base, "one", |ws| {
        ws.repo.write("src/tools.rs", REGISTRY.replace("all()", "each()")).write("src/list.txt", "uno\n");
    });
    submit(&world, &base, "two", |ws| {
        ws.repo.write("src/tools.rs", REGISTRY.replace("all()", "every()"));
    });
    submit(&world, &base, "three", |ws| drop(ws.git(&["rm", "-q", "src/list.txt"])));
    let landed = world.land().await;
    let (_, text) = world.go_back().await;
    assert!(text.contains("src/tools.rs: both changed the same (line 1)"), "{text}");
    let (reason, _) = world.go_back().await;
    assert_eq!(reason, ReturnReason::Conflict { paths: vec!["src/list.txt".to_owned()] });
    assert!(
        matches!(tiers(&world).last(), Some((_, TierOutcome::Declined { why })) if why.contains("not only about texts")),
        "{:?}",
        tiers(&world)
    );
    assert_eq!(world.main(), landed.as_str());
}
