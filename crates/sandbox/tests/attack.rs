//! The attack suite: everything is contained, and each probe is stopped by exactly the fences that it names.

use crate::support::launcher;
use aedile_sandbox::Fence;
use aedile_sandbox::attack::{Probe, Suite, probes};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Probes that an ordinary user must be able to run here.
const AT_LEAST: usize = 120;

#[test]
fn everything_is_contained() {
    let report = Suite::new(&launcher(), None).unwrap().run_all().unwrap();
    let out: Vec<_> = report.probes.iter().filter(|verdict| !verdict.contained).collect();
    assert!(out.is_empty(), "{out:#?}");
    for missing in &report.not_run {
        println!("not run: {} ({}): {}", missing.id, missing.class, missing.reason);
    }
    println!("{} probes contained, {} not run", report.probes.len(), report.not_run.len());
    assert!(report.probes.len() >= AT_LEAST, "{} probes ran", report.probes.len());
    let classes: BTreeSet<_> = report.probes.iter().map(|verdict| verdict.class).collect();
    assert!(classes.len() >= 9, "{classes:?}");
}

#[test]
fn names_are_used_once() {
    let mut names = BTreeSet::new();
    for probe in probes() {
        assert!(names.insert(probe.id), "{}", probe.id);
        assert!(!probe.fences.is_empty(), "{}", probe.id);
    }
}

/// With exactly its fences taken away it gets out; with any one of them left it does not.
fn judge(suite: &Suite, probe: &Probe) -> Option<Vec<String>> {
    let mut wrong = Vec::new();
    // What proves nothing without a box proves nothing about fences.
    if !matches!(suite.baseline(probe), Ok(None)) {
        return None;
    }
    let mut tried = |without: &[Fence], expected: bool| match suite.run_without(probe, without) {
        Ok(escaped) if escaped == expected => {}
        Ok(escaped) => wrong.push(format!("{}: without {without:?} it {}", probe.id, if escaped { "gets out" } else { "is contained" })),
        Err(error) => wrong.push(format!("{}: without {without:?}: {error}", probe.id)),
    };
    tried(probe.fences, true);
    for left in probe.fences {
        let others: Vec<Fence> = probe.fences.iter().copied().filter(|fence| fence != left).collect();
        tried(&others, false);
    }
    Some(wrong)
}

#[test]
fn each_probe_is_stopped_by_the_fences_that_it_names_and_by_each_of_them_alone() {
    let (suite, all, next) = (Suite::new(&launcher(), None).unwrap(), probes(), AtomicUsize::new(0));
    let (wrong, judged) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(probe) = all.get(next.fetch_add(1, Ordering::SeqCst)) {
                    if let Some(found) = judge(&suite, probe) {
                        judged.fetch_add(1, Ordering::SeqCst);
                        wrong.lock().unwrap().extend(found);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let judged = judged.into_inner();
    assert!(judged >= AT_LEAST, "{judged} probes were judged");
}
