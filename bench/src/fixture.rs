//! A store with a run in it whose agents are at work.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aedile_core::agent_api::DoorIdentity;
use aedile_core::event::Event;
use aedile_core::model::ModelRef;
use aedile_core::money::{MicroUsd, Usage};
use aedile_core::project::ProjectRules;
use aedile_core::redact::NoSecrets;
use aedile_core::store::{Append, NewEvent, Store, list};
use aedile_core::task::TaskSpec;
use aedile_core::view::TaskView;
use aedile_core::{AgentName, CommitId, IncarnationId, MailId, ProjectId, RefName, RunId, SessionId, SpendId, TaskKey};
use aedile_fleet::{RunPlan, open_run};
use aedile_store::{Options, SqliteStore};
use aedile_testkit::{OsEntropy, SystemClock};

/// Opens a store as the program does.
pub(crate) fn open_store(dir: &Path) -> anyhow::Result<SqliteStore> {
    Ok(SqliteStore::open(dir, Options { clock: Arc::new(SystemClock), redactor: Arc::new(NoSecrets), read_only: false })?)
}

/// The specification of a small task.
pub(crate) fn task(key: &str) -> anyhow::Result<TaskSpec> {
    Ok(TaskSpec {
        key: TaskKey::new(key)?,
        title: format!("Work on {key}"),
        prompt: "Change what is asked for and submit it.".repeat(10),
        read: Vec::new(),
        scope: vec![format!("src/{key}/**")],
        after: Vec::new(),
        gates: Vec::new(),
        role: "builder".to_owned(),
        runtime: "aedile".to_owned(),
        model: ModelRef { provider: "anthropic".to_owned(), model: "bench".to_owned() },
        budget_usd: None,
        script: None,
    })
}

/// Opens a run with this many tasks, each claimed by an agent of its own (`agent-0`, ...) that is in its first turn.
pub(crate) fn working_run(store: &dyn Store, agents: usize) -> anyhow::Result<Vec<DoorIdentity>> {
    let project = ProjectId::new(&SystemClock, &OsEntropy);
    let root = PathBuf::from("/nowhere");
    store.append(Append {
        events: vec![NewEvent { run: None, event: Event::ProjectAdded { project, root: root.clone() } }],
        ..Append::default()
    })?;
    let commit = CommitId::new("0".repeat(40))?;
    let tasks: anyhow::Result<Vec<_>> = (0..agents).map(|number| task(&format!("task-{number}"))).collect();
    let plan = RunPlan {
        project,
        root,
        goal: "measure".to_owned(),
        target: "main".to_owned(),
        landing_ref: RefName::new("refs/heads/main")?,
        base: commit.clone(),
        slots: 50,
        rules: ProjectRules::default(),
        tasks: tasks?,
    };
    let run = open_run(store, &SystemClock, &OsEntropy, &plan)?;
    let tasks: Vec<TaskView> = list(store, Some(run))?;
    let start = |(number, task): (usize, TaskView)| start(store, run, number, &task, &commit);
    tasks.into_iter().enumerate().map(start).collect()
}

fn start(store: &dyn Store, run: RunId, number: usize, task: &TaskView, base: &CommitId) -> anyhow::Result<DoorIdentity> {
    let (agent, incarnation) = (AgentName::new(format!("agent-{number}"))?, IncarnationId::new(&SystemClock, &OsEntropy));
    let id = task.task;
    let path = PathBuf::from(format!("/nowhere/{number}"));
    let pid = u32::try_from(number)? + 100;
    let append = Append::of(run, Event::TaskReady { task: id })
        .and(Event::TaskClaimed { task: id, agent: agent.clone(), incarnation, fence: 1, attempt: 1 })
        .and(Event::WorkspaceReady { task: id, attempt: 1, path, base: base.clone(), view: None, conflicts: Vec::new() })
        .and(Event::BoxReady { task: id, incarnation, pid, pid_start: 1, grants: vec!["write src/**".to_owned()] })
        .and(Event::AgentStarted {
            task: id,
            agent: agent.clone(),
            incarnation,
            session: SessionId::new(format!("session-{number}"))?,
            prompt: aedile_core::BlobId::of(b"prompt"),
        })
        .and(Event::TurnStarted { task: id, incarnation, turn: 1 });
    store.append(append)?;
    Ok(DoorIdentity { run, task: id, key: task.spec.key.clone(), role: "builder".to_owned(), agent, incarnation })
}

/// What agents leave in the store besides their states: each has made some requests and has had some mail.
pub(crate) fn past(store: &dyn Store, agents: &[DoorIdentity]) -> anyhow::Result<()> {
    for (number, who) in agents.iter().enumerate() {
        let mut events = Vec::new();
        for _ in 0..5 {
            let spend = SpendId::new(&SystemClock, &OsEntropy);
            let model = ModelRef { provider: "anthropic".to_owned(), model: "bench".to_owned() };
            let (run, task, agent) = (who.run, who.task, who.agent.clone());
            events.push(Event::SpendReserved { spend, run, task, agent, model, tokens: 9000, usd: MicroUsd(40_000) });
            let usage = Usage { input_tokens: 4000, output_tokens: 500, ..Usage::default() };
            events.push(Event::SpendSettled { spend, usage, usd: MicroUsd(20_000), estimated: false });
        }
        for _ in 0..2 {
            let (mail, to) = (MailId::new(&SystemClock, &OsEntropy), agents[(number + 1) % agents.len()].agent.to_string());
            let (from, subject, body) = (who.agent.to_string(), "A question".to_owned(), "Which name do you give it?".to_owned());
            events.push(Event::MailSent { mail, run: who.run, from, to, subject, body });
            events.push(Event::MailClaimed { mail, by: "reader".to_owned() });
            events.push(Event::MailAcked { mail });
        }
        let events = events.into_iter().map(|event| NewEvent { run: Some(who.run), event }).collect();
        store.append(Append { events, ..Append::default() })?;
    }
    Ok(())
}
