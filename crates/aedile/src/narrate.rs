//! Turns events into lines for people.

use std::collections::HashMap;

use aedile_core::event::{Envelope, Event, ReturnReason, TaskOutcome, TierOutcome};
use aedile_core::limits::PLAN_ROUNDS_MAX;
use aedile_core::plan::PlanAnswer;
use aedile_core::runtime::TurnStop;
use aedile_core::{ChangeId, CommitId, RefName, TaskId};

use crate::output::one_line;

/// Remembers the names behind ids while it reads events in order.
#[derive(Debug, Default)]
pub struct Narrator {
    tasks: HashMap<TaskId, String>,
    agents: HashMap<TaskId, String>,
    changes: HashMap<ChangeId, TaskId>,
    /// What looked like secrets in the last snapshot of a task that was told.
    marked: HashMap<TaskId, Vec<String>>,
    /// Whether the task that was claimed last had been claimed before.
    again: bool,
    /// Whether a plan waits for its answer.
    asks: bool,
}

/// How important a line is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Weight {
    /// Only in `feed --all`.
    Detail,
    /// In `feed` and in the plain progress of `run`.
    Step,
}

impl Narrator {
    /// Takes one event and says it in a line.
    pub fn say(&mut self, envelope: &Envelope) -> Option<(Weight, String)> {
        match &envelope.event {
            Event::TaskOpened { task, spec, .. } => {
                self.tasks.insert(*task, spec.key.to_string());
            }
            Event::TaskClaimed { task, agent, .. } => {
                self.again = self.agents.insert(*task, agent.to_string()).is_some();
            }
            Event::PlanProposed { .. } => self.asks = true,
            Event::PlanAnswered { .. } => self.asks = false,
            Event::ChangeSubmitted { change, task, .. } => {
                self.changes.insert(*change, *task);
            }
            _ => {}
        }
        let said = self
            .run_line(&envelope.event)
            .or_else(|| self.task_line(&envelope.event))
            .or_else(|| self.model_line(&envelope.event))
            .or_else(|| self.kept_line(&envelope.event))
            .or_else(|| self.plan_line(&envelope.event))
            .or_else(|| self.change_line(&envelope.event))
            .or_else(|| other_line(&envelope.event));
        if let Event::SnapshotTaken { task, secrets, .. } = &envelope.event {
            self.marked.insert(*task, secrets.clone());
        }
        said
    }

    fn task(&self, task: TaskId) -> &str {
        self.tasks.get(&task).map_or("?", String::as_str)
    }

    fn agent(&self, task: TaskId) -> &str {
        self.agents.get(&task).map_or("an agent", String::as_str)
    }

    fn of(&self, change: ChangeId) -> &str {
        self.changes.get(&change).map_or("?", |task| self.task(*task))
    }

    fn run_line(&self, event: &Event) -> Option<(Weight, String)> {
        let line = match event {
            Event::RunStarted { run, goal, landing_ref, base, slots, .. } => {
                format!(
                    "run {} started: {} (up to {slots} agents, lands on {} from {})",
                    run.short(),
                    one_line(goal, 100),
                    branch(landing_ref),
                    short(base)
                )
            }
            Event::RunStopRequested { now: true, .. } => "stopping at once".to_owned(),
            Event::RunStopRequested { .. } => "stopping: present turns end and are saved first".to_owned(),
            Event::RunStopped { run } if self.asks => format!("run {} waits for your answer to its plan", run.short()),
            Event::RunPaused { run } => {
                format!(
                    "run {} pauses: present turns finish, what is submitted lands, nothing is started; `aedile run resume` goes on",
                    run.short()
                )
            }
            Event::RunStopped { run } => format!("run {} stopped; `aedile run --resume` goes on", run.short()),
            Event::RunResumed { run, .. } => format!("run {} goes on", run.short()),
            Event::RunBudgetRaised { run, usd } => format!("run {} may spend {usd} in all", run.short()),
            Event::RunEnded { run, landed, failed } => format!("run {} ended: {landed} landed, {failed} not", run.short()),
            _ => return None,
        };
        Some((Weight::Step, line))
    }

    /// A mark is told once, and again when it is another.
    fn saved(&self, task: TaskId, commit: &CommitId, secrets: &[String]) -> (Weight, String) {
        let line = format!("{}: saved as {}", self.task(task), short(commit));
        if secrets.is_empty() || self.marked.get(&task).is_some_and(|told| told == secrets) {
            return (Weight::Detail, line);
        }
        let held = list(secrets);
        let barred = "a change with them does not land, `snapshot restore` writes them only with --despite-secrets";
        (Weight::Step, format!("{line}, with what looks like secrets: {held}; {barred}"))
    }

    fn task_line(&self, event: &Event) -> Option<(Weight, String)> {
        use Weight::{Detail, Step};
        let said = match event {
            Event::TaskOpened { spec, .. } => (Detail, format!("{}: opened: {}", spec.key, one_line(&spec.title, 100))),
            Event::TaskReady { task } => (Detail, format!("{}: ready", self.task(*task))),
            Event::TaskClaimed { task, agent, attempt, .. } if *attempt > 1 => {
                (Step, format!("{}: {agent} takes it up again (workspace {attempt})", self.task(*task)))
            }
            Event::TaskClaimed { task, agent, .. } if self.again => (Step, format!("{}: {agent} goes on with it", self.task(*task))),
            Event::TaskClaimed { task, agent, .. } => (Step, format!("{}: {agent} takes it up", self.task(*task))),
            Event::WorkspaceReady { task, base, conflicts, .. } if conflicts.is_empty() => {
                (Detail, format!("{}: workspace ready at {}", self.task(*task), short(base)))
            }
            Event::WorkspaceReady { task, conflicts, .. } => {
                (Step, format!("{}: workspace holds conflicts in {}", self.task(*task), list(conflicts)))
            }
            Event::BoxReady { task, pid, .. } => (Detail, format!("{}: box ready (pid {pid})", self.task(*task))),
            Event::AgentStarted { task, agent, .. } => (Detail, format!("{}: {agent} answers", self.task(*task))),
            Event::TurnStarted { task, turn, .. } => (Detail, format!("{}: {} begins turn {turn}", self.task(*task), self.agent(*task))),
            Event::TurnEnded { task, turn, stop: stop @ (TurnStop::Failed | TurnStop::Limit | TurnStop::Refusal), detail, .. } => (
                // The end of the agent, which follows a failed turn, says the same.
                if *stop == TurnStop::Failed { Detail } else { Step },
                format!(
                    "{}: turn {turn} of {} broke off: {}",
                    self.task(*task),
                    self.agent(*task),
                    one_line(detail.as_deref().unwrap_or("no reason given"), 300)
                ),
            ),
            Event::TurnEnded { task, turn, .. } => (Detail, format!("{}: {} ended turn {turn}", self.task(*task), self.agent(*task))),
            Event::SnapshotTaken { task, commit, secrets, .. } => self.saved(*task, commit, secrets),
            Event::AgentEnded { task, agent, why, failed, .. } => {
                (if *failed { Step } else { Detail }, format!("{}: {agent} ended: {}", self.task(*task), one_line(why, 300)))
            }
            Event::FinishedWithoutSubmit { task } => (
                Step,
                format!("{}: {} finished without submitting; `aedile task retry {0}` tries again", self.task(*task), self.agent(*task)),
            ),
            Event::TaskWaits { task, why } => (Step, format!("{}: waits for you: {}", self.task(*task), one_line(why, 300))),
            Event::TaskHeld { task } => (Step, format!("{}: its change is kept for you; nothing has landed", self.task(*task))),
            Event::TaskReleased { task } => (Step, format!("{}: its change goes to the landing queue", self.task(*task))),
            Event::TaskRetried { task } => (Step, format!("{}: to be tried again", self.task(*task))),
            Event::TaskEdited { task, .. } => (Step, format!("{}: changed by you", self.task(*task))),
            Event::UndoPlanned { task, undoes, .. } => {
                let back: Vec<String> = undoes.iter().map(|change| format!("{} ({})", self.of(*change), change.short())).collect();
                (Step, format!("{}: takes back {}", self.task(*task), list(&back)))
            }
            Event::TaskCancelRequested { task } => (Step, format!("{}: to be cancelled", self.task(*task))),
            Event::TaskClosed { outcome: TaskOutcome::Landed { .. }, .. } => return None,
            Event::TaskClosed { task, outcome: TaskOutcome::Failed { why } } => {
                (Step, format!("{}: failed: {}", self.task(*task), one_line(why, 300)))
            }
            Event::TaskClosed { task, outcome: TaskOutcome::Taken { to } } => {
                (Step, format!("{}: you took its change to {to}", self.task(*task)))
            }
            Event::TaskClosed { task, outcome: TaskOutcome::Answered } => {
                (Step, format!("{}: {} answered; nothing was changed", self.task(*task), self.agent(*task)))
            }
            Event::TaskClosed { task, outcome: TaskOutcome::Cancelled } => (Step, format!("{}: cancelled", self.task(*task))),
            _ => return None,
        };
        Some(said)
    }

    /// What becomes of the models that agents ask.
    fn model_line(&self, event: &Event) -> Option<(Weight, String)> {
        let line = match event {
            Event::AgentHeldUp { task, why: Some(why), .. } => {
                format!("{}: {} waits for its model: {}", self.task(*task), self.agent(*task), one_line(why, 300))
            }
            Event::AgentHeldUp { task, why: None, .. } => {
                format!("{}: the model of {} answers again", self.task(*task), self.agent(*task))
            }
            Event::ModelSwitched { task, to, why, .. } => {
                format!("{}: {} goes on with {to}: {}", self.task(*task), self.agent(*task), one_line(why, 300))
            }
            Event::ProviderDown { provider, why: Some(why), .. } => {
                format!("{} is left alone for now: {}", one_line(provider, 60), one_line(why, 300))
            }
            Event::ProviderDown { provider, why: None, .. } => format!("{} answers again", one_line(provider, 60)),
            _ => return None,
        };
        Some((Weight::Step, line))
    }

    fn kept_line(&self, event: &Event) -> Option<(Weight, String)> {
        let Event::WorkspaceKept { task, why: Some(why) } = event else { return None };
        Some((Weight::Step, format!("{}: its workspace could not be saved and stays: {}", self.task(*task), one_line(why, 300))))
    }

    fn plan_line(&self, event: &Event) -> Option<(Weight, String)> {
        let line = match event {
            Event::PlanRejected { task, round, reasons, .. } => {
                format!("{}: try {round} of {PLAN_ROUNDS_MAX} is no plan yet: {}", self.task(*task), list(reasons))
            }
            Event::PlanProposed { task, tasks, .. } => {
                let many = if *tasks == 1 { "one task".to_owned() } else { format!("{tasks} tasks") };
                format!("{}: {} proposes {many}", self.task(*task), self.agent(*task))
            }
            Event::PlanAnswered { task, answer: PlanAnswer::Accepted { tasks } } => {
                format!("{}: accepted; tasks opened: {tasks}", self.task(*task))
            }
            Event::PlanAnswered { task, answer: PlanAnswer::Another { words } } => {
                format!("{}: another one is wanted: {}", self.task(*task), one_line(words, 200))
            }
            Event::PlanAnswered { task, answer: PlanAnswer::Declined { why } } => {
                format!("{}: not started: {}", self.task(*task), one_line(why, 200))
            }
            _ => return None,
        };
        Some((Weight::Step, line))
    }

    fn change_line(&self, event: &Event) -> Option<(Weight, String)> {
        use Weight::{Detail, Step};
        let said = match event {
            Event::ChangeSubmitted { task, agent, summary, left_out, .. } => {
                let left = if left_out.is_empty() { String::new() } else { format!(" (left out, not in its scope: {})", list(left_out)) };
                (Step, format!("{}: {agent} submitted: {}{left}", self.task(*task), one_line(summary, 120)))
            }
            Event::ChangeImported { change, paths, .. } => (Detail, format!("{}: imported, {paths} paths", self.of(*change))),
            Event::TierTried { change, tier, outcome: TierOutcome::Merged { receipt: Some(_), .. }, .. } => {
                let task = self.of(*change);
                (
                    Step,
                    format!(
                        "{task}: git found conflicts, the {tier} tier settled them; its gates judge that (`aedile landing receipt {task}`)"
                    ),
                )
            }
            Event::TierTried { change, tier, outcome: TierOutcome::Merged { .. }, .. } => {
                (Detail, format!("{}: tier {tier} merged it", self.of(*change)))
            }
            Event::TierTried { change, tier, outcome: TierOutcome::Conflict { paths }, .. } => {
                (Detail, format!("{}: tier {tier} found conflicts in {}", self.of(*change), list(paths)))
            }
            Event::TierTried { change, tier, outcome: TierOutcome::Declined { why }, .. } => {
                (Detail, format!("{}: tier {tier} declined: {}", self.of(*change), one_line(why, 200)))
            }
            Event::LinesDropped { change, lines, .. } => {
                (Step, format!("{}: it leaves out what others have landed: {}", self.of(*change), list(lines)))
            }
            Event::GatePassed { change, gate, millis, .. } => {
                (Step, format!("{}: gate {} green in {}", self.of(*change), one_line(gate, 60), seconds(*millis)))
            }
            Event::GateFailed { change, gate, millis, exit, .. } => {
                (Step, format!("{}: gate {} RED after {} ({exit})", self.of(*change), one_line(gate, 60), seconds(*millis)))
            }
            Event::Gated { change, gates, .. } if gates.is_empty() => {
                (Step, format!("{}: no gate is configured, so nothing was tested", self.of(*change)))
            }
            Event::Gated { change, .. } => (Detail, format!("{}: all gates green", self.of(*change))),
            Event::LandIntended { change, new, .. } => (Detail, format!("{}: about to land as {}", self.of(*change), short(new))),
            Event::Landed { change, landing_ref, new, .. } => {
                (Step, format!("{}: landed on {} as {}", self.of(*change), branch(landing_ref), short(new)))
            }
            Event::LandAbandoned { change, why } => (Step, format!("{}: not landed: {}", self.of(*change), one_line(why, 200))),
            Event::ChangeReturned { change, reason, .. } => (Step, format!("{}: goes back: {}", self.of(*change), returned(reason))),
            Event::ImportApproved { change, findings, .. } => {
                (Step, format!("{}: approved for this commit: {}", self.of(*change), list(findings)))
            }
            _ => return None,
        };
        Some(said)
    }
}

fn other_line(event: &Event) -> Option<(Weight, String)> {
    let said = match event {
        Event::AskOpened { ask, agent, rule, method, host, path, .. } => {
            let what = one_line(&format!("{method} {host}{path}"), 300);
            (
                Weight::Step,
                format!("{agent} asks to {what} (rule {}): `aedile policy answer {} allow` or `deny`", one_line(rule, 100), ask.short()),
            )
        }
        Event::AskAnswered { ask, allow, scope, .. } => {
            let word = if *allow { "allowed" } else { "denied" };
            (Weight::Step, format!("a person {word} question {} (scope {scope})", ask.short()))
        }
        Event::RequestDenied { agent, layer, rule, what, count, .. } => {
            let layer = layer.map(|layer| format!(" of the {layer} policy")).unwrap_or_default();
            let times = if *count == 1 { String::new() } else { format!(", {count} times more") };
            // Somebody tried to carry a secret away, or was made to.
            let alarm = if rule.starts_with("secret.") { "ALARM: " } else { "" };
            (Weight::Step, format!("{alarm}{agent} was denied {} by the rule {}{layer}{times}", one_line(what, 200), one_line(rule, 100)))
        }
        Event::SecretUsed { agent, secret, method, host, path, .. } => {
            let path = one_line(path, 100);
            (Weight::Detail, format!("{agent} used the secret {secret}: {} {}{path}", one_line(method, 20), one_line(host, 100)))
        }
        Event::SecretRefreshed { agent, secret, host, rotated, .. } => {
            let rotated = if *rotated { ", with another refresh token" } else { "" };
            (Weight::Detail, format!("the secret {secret} was refreshed at {} for {agent}{rotated}", one_line(host, 100)))
        }
        Event::SecretNotRefreshed { agent, secret, host, why, .. } => {
            let why = one_line(why, 300);
            (
                Weight::Step,
                format!("a request of {agent} was not sent: the secret {secret} was not refreshed at {}: {why}", one_line(host, 100)),
            )
        }
        Event::MailSent { from, to, subject, .. } => (Weight::Step, format!("mail from {from} to {to}: {}", one_line(subject, 120))),
        Event::SpendSettled { usage, usd, estimated, .. } => {
            (Weight::Detail, format!("{} tokens, {usd}{}", usage.total(), if *estimated { " (estimated)" } else { "" }))
        }
        _ => return None,
    };
    Some(said)
}

/// Says why a change went back, safe for a terminal.
pub fn returned(reason: &ReturnReason) -> String {
    one_line(&reason.to_string(), 300)
}

fn list(items: &[String]) -> String {
    let shown: Vec<String> = items.iter().take(3).map(|item| one_line(item, 120)).collect();
    match items.len().saturating_sub(3) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The first ten digits of a commit id.
pub fn short(commit: &CommitId) -> &str {
    &commit.as_str()[..10]
}

/// A ref without `refs/heads/`.
pub fn branch(name: &RefName) -> &str {
    name.as_str().strip_prefix("refs/heads/").unwrap_or(name.as_str())
}

/// Milliseconds as seconds with one decimal.
pub fn seconds(millis: u64) -> String {
    format!("{}.{} s", millis / 1000, millis % 1000 / 100)
}
