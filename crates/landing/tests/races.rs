//! A target that moves, claims that others hold, repeats.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aedile_core::event::Event;
use aedile_core::machine::ChangeState;
use aedile_core::store::ClaimRequest;
use aedile_landing::{LandingDeps, LandingError, LandingQueue, Step};

use crate::support::{Setup, World, gated, person_commits, watched};

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_moves_during_the_gates_means_another_round_of_gates() {
    let world = World::new(gated(&[("check", "sh check.sh")]));
    let change = world.submitted("auth", &["src/**"], &[("src/new.txt", "x\n")]);
    let (repo, gates) = (world.repo.path().to_owned(), Arc::new(AtomicU32::new(0)));
    let seen = Arc::clone(&gates);
    let sandbox = watched(&world.sandbox, move |spec| {
        if spec.label == "gate check" && seen.fetch_add(1, Ordering::SeqCst) == 0 {
            person_commits(&repo, "README.md", "the person was faster\n");
        }
    });
    let queue = LandingQueue::new(LandingDeps { sandbox, ..world.deps("tester") });
    assert!(matches!(queue.step(world.run).await.unwrap(), Some(Step::Landed { .. })));
    assert_eq!((gates.load(Ordering::SeqCst), world.count("gated"), world.count("land_intended")), (2, 2, 1));
    assert_eq!(world.repo.show("main", "README.md"), "the person was faster\n");
    assert_eq!(world.repo.show("main", "src/new.txt"), "x\n");
    // The tree that landed is the one that the last gate saw.
    assert_eq!(world.repo.rev("main^{tree}"), world.change(change).gated.unwrap().tree.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_landing_whose_target_moved_after_the_intent_is_abandoned_and_made_anew() {
    let world = World::new(Setup::default());
    let change = world.submitted("auth", &["src/**"], &[("src/new.txt", "x\n")]);
    let queue = world.queue();
    assert_eq!(queue.advance(change).await.unwrap(), ChangeState::Imported);
    assert_eq!(queue.advance(change).await.unwrap(), ChangeState::Gated);
    // Another life wrote its intent and died before the ref moved; then the person came.
    let gated = world.change(change).gated.unwrap();
    let landing_ref = world.run_view().landing_ref;
    let lost = world.repo.rev("person");
    world.append(Event::LandIntended {
        change,
        landing_ref,
        old: gated.onto.clone(),
        new: aedile_core::CommitId::new(world.repo.git(&["commit-tree", &format!("{lost}^{{tree}}"), "-p", &lost, "-m", "never"])).unwrap(),
        tree: gated.tree,
    });
    let person = world.person_commits("README.md", "mine\n");
    assert_eq!(queue.advance(change).await.unwrap(), ChangeState::Imported);
    assert_eq!((world.main(), world.count("land_abandoned")), (person.clone(), 1));
    world.land().await;
    assert_eq!((world.repo.rev("main^"), world.count("landed")), (person, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_holder_of_the_target_lands() {
    let world = World::new(Setup::default());
    world.submitted("auth", &["src/**"], &[("src/new.txt", "x\n")]);
    let run = world.run_view();
    let name = format!("landing/{}/{}", run.project, run.landing_ref);
    let other = ClaimRequest { name: name.clone(), holder: "other".to_owned(), ttl: Duration::from_secs(600), dead: Vec::new() };
    world.store.claim(&other).unwrap();
    assert_eq!(world.queue().step(world.run).await.unwrap(), None);
    assert_eq!(world.count("change_imported"), 0);
    // Its holder is proved dead: the claim is taken.
    let queue = LandingQueue::new(LandingDeps { dead: vec!["other".to_owned()], ..world.deps("tester") });
    assert!(matches!(queue.step(world.run).await.unwrap(), Some(Step::Landed { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_the_target_during_a_gate_lands_nothing() {
    let world = World::new(gated(&[("check", "true")]));
    let before = world.main();
    world.submitted("auth", &["src/**"], &[("src/new.txt", "x\n")]);
    let run = world.run_view();
    let (store, name) = (Arc::clone(&world.store), format!("landing/{}/{}", run.project, run.landing_ref));
    let sandbox = watched(&world.sandbox, move |spec| {
        if spec.label == "gate check" {
            let dead = vec!["tester".to_owned()];
            store.claim(&ClaimRequest { name: name.clone(), holder: "other".to_owned(), ttl: Duration::from_secs(600), dead }).unwrap();
        }
    });
    let queue = LandingQueue::new(LandingDeps { sandbox, ..world.deps("tester") });
    let error = queue.step(world.run).await.unwrap_err();
    assert!(matches!(error, LandingError::Store(aedile_core::store::StoreError::Fenced(_))), "{error}");
    assert_eq!((world.main(), world.count("landed"), world.count("gated")), (before, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_queues_share_a_target_without_landing_anything_twice() {
    let world = World::new(Setup::default());
    for n in 0..6 {
        world.submitted(&format!("t{n}"), &["src/**"], &[(&format!("src/{n}.txt"), "x\n")]);
    }
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let running: Vec<_> = ["a", "b"]
        .map(|holder| {
            let (queue, stopped, run) = (LandingQueue::new(world.deps(holder)), stopped.clone(), world.run);
            tokio::spawn(async move { queue.run(run, stopped).await })
        })
        .into();
    aedile_testkit::wait_for_async("six landings", Duration::from_secs(120), || async { (world.count("landed") == 6).then_some(()) }).await;
    stop.send(true).unwrap();
    for queue in running {
        queue.await.unwrap().unwrap();
    }
    assert_eq!(world.repo.git(&["rev-list", "--count", "main"]), "7");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_another_program_is_left_alone_and_the_landing_goes_on_when_it_is_gone() {
    let world = World::new(Setup::default());
    let before = world.main();
    let change = world.submitted("auth", &["src/**"], &[("src/new.txt", "x\n")]);
    world.repo.write(".git/refs/heads/main.lock", "");
    let error = world.queue().step(world.run).await.unwrap_err().to_string();
    assert!(error.contains("main.lock"), "{error}");
    assert_eq!((world.main(), world.change(change).state), (before, ChangeState::Intended));
    // What is not ours is not removed by us.
    world.repo.remove(".git/refs/heads/main.lock");
    let landed = world.land().await;
    assert_eq!((world.main().as_str(), world.count("land_intended"), world.count("landed")), (landed.as_str(), 1, 1));
}
