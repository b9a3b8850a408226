//! Properties of the state machines: whatever comes, in whatever order.

use aedile_core::machine::{ChangeState, ChangeStep, RunState, RunStep, TaskState, TaskStep, change_step, run_step, task_step};
use aedile_core::{Clock, CommitId, RefName, SeededEntropy, SteppingClock, TaskKey};
use proptest::prelude::*;

fn task_steps() -> impl Strategy<Value = TaskStep> {
    prop_oneof![
        Just(TaskStep::Ready),
        (0_u64..6, 0_u64..6).prop_map(|(fence, last)| TaskStep::Claim { fence, last }),
        Just(TaskStep::Submit),
        Just(TaskStep::SubmitUndo),
        Just(TaskStep::Return),
        Just(TaskStep::NoSubmit),
        Just(TaskStep::Wait),
        Just(TaskStep::Hold),
        Just(TaskStep::Release),
        Just(TaskStep::Take),
        Just(TaskStep::Approve),
        Just(TaskStep::Answer),
        Just(TaskStep::Retry),
        Just(TaskStep::Land),
        Just(TaskStep::Fail),
        Just(TaskStep::Cancel),
    ]
}

fn change_steps() -> impl Strategy<Value = ChangeStep> {
    prop_oneof![
        Just(ChangeStep::Import),
        Just(ChangeStep::Gate),
        any::<bool>().prop_map(|same| ChangeStep::Intend { same }),
        any::<bool>().prop_map(|same| ChangeStep::Land { same }),
        Just(ChangeStep::Abandon),
        Just(ChangeStep::Return),
    ]
}

proptest! {
    /// A closed task never moves again, it lands only from the queue, and every claim has a newer fence.
    #[test]
    fn tasks_keep_their_promises(steps in prop::collection::vec(task_steps(), 0..40)) {
        let mut state = TaskState::Open;
        for step in steps {
            let next = task_step(state, step);
            if state.is_closed() {
                prop_assert!(next.is_err());
            }
            let Ok(next) = next else { continue };
            if next == TaskState::Landed {
                prop_assert_eq!(state, TaskState::Submitted);
            }
            if let TaskStep::Claim { fence, last } = step {
                prop_assert!(fence > last && next == TaskState::Working);
            }
            state = next;
        }
    }

    /// From every open state a person can cancel, so no task is ever stuck.
    #[test]
    fn no_task_is_stuck(at in 0..TaskState::ALL.len()) {
        let state = TaskState::ALL[at];
        prop_assert_eq!(task_step(state, TaskStep::Cancel).is_ok(), !state.is_closed());
    }

    /// A change lands only through import, gates and the very intent that the gates were for, and at most once.
    #[test]
    fn changes_land_once_and_only_gated(steps in prop::collection::vec(change_steps(), 0..60)) {
        let (mut state, mut landed, mut gated) = (ChangeState::Submitted, 0, false);
        for step in steps {
            let Ok(next) = change_step(state, step) else { continue };
            match next {
                ChangeState::Gated => gated = true,
                ChangeState::Imported => gated = false,
                ChangeState::Intended => {
                    let allowed = gated && step == ChangeStep::Intend { same: true };
                    prop_assert!(allowed);
                }
                ChangeState::Landed => {
                    landed += 1;
                    let allowed = gated && step == ChangeStep::Land { same: true };
                    prop_assert!(allowed);
                }
                ChangeState::Submitted | ChangeState::Returned => {}
            }
            state = next;
        }
        prop_assert!(landed <= 1);
    }

    /// Names that are accepted are usable as parts of git refs.
    #[test]
    fn names_are_safe_in_refs(text in ".{0,80}") {
        if let Ok(key) = TaskKey::new(text.clone()) {
            let branch = format!("refs/heads/aedile/{key}");
            prop_assert!(RefName::new(branch).is_ok());
            prop_assert!(!text.contains(['/', ' ', '~', '^', ':']));
        }
    }
}

#[test]
fn a_run_that_is_over_can_only_be_resumed() {
    for state in [RunState::Stopped, RunState::Ended] {
        for step in [RunStep::RequestStop, RunStep::Pause, RunStep::Stop, RunStep::End] {
            assert!(run_step(state, step).is_err());
        }
        assert_eq!(run_step(state, RunStep::Resume), Ok(RunState::Running));
    }
}

#[test]
fn object_ids_and_refs_are_checked() {
    assert!(CommitId::new("0".repeat(40)).is_ok() && CommitId::new("0".repeat(64)).is_ok());
    for bad in ["", "abc", &"g".repeat(40), &"A".repeat(40), &"0".repeat(41)] {
        assert!(CommitId::new(bad).is_err(), "{bad}");
    }
    for bad in ["heads/x", "refs/heads/a..b", "refs/heads/.a", "refs/heads/a.lock", "refs/heads/a b", "refs//a", "refs/a@{1}"] {
        assert!(RefName::new(bad).is_err(), "{bad}");
    }
}

#[test]
fn uuids_sort_by_time() {
    let (clock, entropy) = (SteppingClock::default(), SeededEntropy::new(1));
    let first = aedile_core::RunId::new(&clock, &entropy);
    clock.now();
    let second = aedile_core::RunId::new(&clock, &entropy);
    assert!(first < second);
    assert_eq!(first.to_string().parse::<aedile_core::RunId>().unwrap(), first);
}
