//! Random histories: the stores agree with each other, and a rebuild agrees with the way that led there.

use aedile_core::event::{Event, ReturnReason, TaskOutcome};
use aedile_core::runtime::TurnStop;
use aedile_core::store::{Append, StoreError};
use aedile_core::{ChangeId, MicroUsd, RunId, SpendId, TaskId, Usage};
use proptest::prelude::*;

use crate::support::{
    Ids, agent, commit, documents, landing_ref, mail, mail_as, memory, model, open, opened, plain, sqlite, started, tree,
};

/// A step, and the nouns that it is about; most do not fit the state and are refused.
type Step = (u8, usize, usize);

struct Nouns {
    ids: Ids,
    runs: Vec<RunId>,
    tasks: Vec<TaskId>,
    changes: Vec<ChangeId>,
    spends: Vec<SpendId>,
    mails: Vec<aedile_core::MailId>,
}

impl Nouns {
    fn new() -> Self {
        let ids = Ids::new(77);
        Self {
            runs: (0..2).map(|_| ids.run()).collect(),
            tasks: (0..3).map(|_| ids.task()).collect(),
            changes: (0..3).map(|_| ids.change()).collect(),
            spends: (0..2).map(|_| ids.spend()).collect(),
            mails: (0..3).map(|_| ids.mail()).collect(),
            ids,
        }
    }

    fn event(&self, (step, a, b): Step) -> Event {
        let (run, task, change) = (self.runs[a % 2], self.tasks[b % 3], self.changes[b % 3]);
        let (spend, letter, who) = (self.spends[b % 2], self.mails[b % 3], agent(b as u64 % 2));
        let (old, new, landing_ref) = (commit(1), commit(2), landing_ref());
        match step {
            0 => started(run, self.ids.project()),
            1 => Event::RunStopRequested { run, now: b % 2 == 0 },
            2 => Event::RunResumed { run, worker: "w".to_owned() },
            3..=5 => opened(run, task, b as u64),
            6..=8 => Event::TaskReady { task },
            9..=11 => Event::TaskClaimed { task, agent: who, incarnation: self.ids.life(), fence: a as u64, attempt: 1 },
            12 => Event::TurnEnded { task, incarnation: self.ids.life(), turn: 1, stop: TurnStop::EndTurn, detail: None, transcript: None },
            13..=15 => Event::ChangeSubmitted {
                change,
                run,
                task,
                agent: who,
                workspace: "/w".into(),
                base: old,
                commit: new,
                summary: "s".to_owned(),
                left_out: Vec::new(),
            },
            16 | 17 => Event::ChangeImported { change, paths: 1, commit: None },
            18 | 19 => Event::Gated { change, tree: tree(3), onto: old, gates: Vec::new(), passed: None },
            20 | 21 => Event::LandIntended { change, landing_ref, old, new, tree: tree(3) },
            22 | 23 => Event::Landed { change, landing_ref, old, new },
            24 => Event::ChangeReturned { change, reason: ReturnReason::Empty, evidence: None },
            25 => Event::TaskClosed { task, outcome: TaskOutcome::Landed { commit: new } },
            26 => Event::TaskClosed { task, outcome: TaskOutcome::Cancelled },
            27 => mail_as(letter, run, "once"),
            28 => Event::MailClaimed { mail: letter, by: "person".to_owned() },
            29 => Event::MailAcked { mail: letter },
            30 => Event::SpendReserved { spend, run, task, agent: who, model: model(), tokens: 10, usd: MicroUsd(5) },
            31 => Event::SpendSettled { spend, usage: Usage::default(), usd: MicroUsd(3), estimated: a % 2 == 0 },
            _ => mail(&self.ids, run, "any"),
        }
    }

    fn append(&self, steps: &[Step]) -> Append {
        let events = steps.iter().map(|step| aedile_core::store::NewEvent { run: None, event: self.event(*step) }).collect();
        Append { events, fence: None, once: None }
    }
}

fn told(answer: Result<aedile_core::store::Appended, StoreError>) -> String {
    answer.map_or_else(|error| error.to_string(), |appended| format!("{appended:?}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn stores_agree_and_a_rebuild_changes_nothing(
        history in prop::collection::vec(prop::collection::vec((0_u8..33, 0_usize..4, 0_usize..6), 1..3), 1..60),
    ) {
        let (disk, simulated, nouns) = (plain(sqlite), plain(memory), Nouns::new());
        // A beginning that lets many of the steps fit.
        let beginning: [Step; 4] = [(0, 0, 0), (0, 1, 0), (3, 0, 0), (6, 0, 0)];
        for steps in std::iter::once(&beginning[..]).chain(history.iter().map(Vec::as_slice)) {
            let append = nouns.append(steps);
            prop_assert_eq!(told(disk.store.append(append.clone())), told(simulated.store.append(append)));
        }
        let stepwise = documents(disk.store.as_ref());
        prop_assert_eq!(&stepwise, &documents(simulated.store.as_ref()));
        let count = disk.store.last().unwrap().0;
        prop_assert_eq!(disk.store.rebuild().unwrap(), count);
        prop_assert_eq!(simulated.store.rebuild().unwrap(), count);
        prop_assert_eq!(&stepwise, &documents(disk.store.as_ref()));
        prop_assert_eq!(&stepwise, &documents(simulated.store.as_ref()));
        let dir = disk.dir.as_ref().unwrap().path();
        let report = open(dir).check().unwrap();
        prop_assert_eq!(report.problems, Vec::<String>::new());
        prop_assert_eq!(report.events, count);
    }
}
