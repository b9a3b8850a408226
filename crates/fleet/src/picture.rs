//! What `decide` looks at: the run as the store has it, and what this worker does at the moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::time::Duration;

use aedile_core::apply::agent_key;
use aedile_core::event::{Event, Position};
use aedile_core::limits;
use aedile_core::machine::ChangeState;
use aedile_core::money::{Budget, MicroUsd};
use aedile_core::scope::Scope;
use aedile_core::store::{Store, StoreError, list, load};
use aedile_core::view::{AgentView, ChangeView, CostView, RunView, SpendView, TaskView};
use aedile_core::{AgentName, ChangeId, RunId, TaskId, Timestamp};

/// How long things may take. The product uses [`Pace::default`]; tests shorten it.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The wait before an agent that died is started again; doubled for each further time.
    pub restart_backoff: Duration,
    /// An agent without progress for this long is silent.
    pub silent: Duration,
    /// A turn is ended after this long.
    pub turn_timeout: Duration,
    /// How long a turn may go on after the agent submitted, and after it was interrupted.
    pub submit_grace: Duration,
    /// Between asking a process to end and killing it.
    pub term_grace: Duration,
    /// A started runtime must answer within this time.
    pub attach: Duration,
    /// How often liveness is looked at.
    pub look_every: Duration,
    /// How often mail for an agent in a turn is looked for, where its runtime takes messages then.
    pub mail_every: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            restart_backoff: Duration::from_millis(500),
            silent: limits::AGENT_SILENT,
            turn_timeout: limits::TURN_TIMEOUT,
            submit_grace: Duration::from_secs(60),
            term_grace: limits::TERM_GRACE,
            attach: limits::AGENT_HANDSHAKE + limits::TERM_GRACE,
            look_every: Duration::from_secs(5),
            mail_every: Duration::from_secs(1),
        }
    }
}

/// What the worker's own unit for a task does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnitPhase {
    /// It starts or works.
    Working,
    /// It was told to end after its present turn.
    Finishing,
    /// It was told to end at once.
    Ending,
    /// It saves and removes the workspace of a closed task.
    Tidying,
}

/// Tokens and money, settled and held back together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Spent {
    /// Tokens of all kinds.
    pub tokens: u64,
    /// Money.
    pub usd: MicroUsd,
}

impl Spent {
    fn add(&mut self, tokens: u64, usd: MicroUsd) {
        self.tokens = self.tokens.saturating_add(tokens);
        self.usd = self.usd.plus(usd);
    }

    /// Returns in words what is used up, when nothing is left of the budget.
    pub fn exhausts(&self, budget: &Budget) -> Option<String> {
        match budget {
            Budget { usd: Some(limit), .. } if self.usd >= *limit => Some(format!("{} of {limit} are spent or held back", self.usd)),
            Budget { tokens: Some(limit), .. } if self.tokens >= *limit => {
                Some(format!("{} of {limit} tokens are used or held back", self.tokens))
            }
            _ => None,
        }
    }
}

/// One task as `decide` sees it.
#[derive(Clone, Debug)]
pub struct TaskPicture {
    /// The task.
    pub view: TaskView,
    /// Where its present change stands.
    pub change: Option<ChangeState>,
    /// What it used.
    pub spent: Spent,
    /// Its scope, compiled when it is first needed: most tasks of a status line never are compared.
    scope: OnceLock<Option<Scope>>,
}

impl TaskPicture {
    /// Its scope; `None` when it does not compile, which counts as everything.
    pub fn scope(&self) -> Option<&Scope> {
        self.scope.get_or_init(|| Scope::new(&self.view.spec.scope).ok()).as_ref()
    }

    /// Whether the two tasks may change a common path.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self.scope(), other.scope()) {
            (Some(a), Some(b)) => a.overlaps(b),
            _ => true,
        }
    }

    /// The budget of the task: its own, else the project's for each task.
    pub fn budget(&self, run: &RunView) -> Budget {
        match self.view.spec.budget_usd {
            Some(usd) => Budget { usd: Some(usd), tokens: run.rules.task_budget.tokens },
            None => run.rules.task_budget,
        }
    }
}

/// A run as `decide` sees it.
#[derive(Clone, Debug)]
pub struct RunPicture {
    /// The run.
    pub run: RunView,
    /// Its tasks in the order of their opening.
    pub tasks: Vec<TaskPicture>,
    /// Its agents.
    pub agents: Vec<AgentView>,
    /// What it used.
    pub spent: Spent,
    /// This worker's units.
    pub units: BTreeMap<TaskId, UnitPhase>,
    /// Closed tasks whose workspace and home are gone.
    pub tidied: BTreeSet<TaskId>,
    /// Tasks that are not to be started before a time, and what they wait for.
    pub later: BTreeMap<TaskId, (Timestamp, String)>,
    /// How long things may take.
    pub pace: Pace,
    seen: Position,
    changes: BTreeMap<ChangeId, ChangeState>,
}

/// Events that one look reads at once.
const READ_AT_ONCE: usize = 1000;

/// What has to be read again.
#[derive(Default)]
struct News {
    run: bool,
    spending: bool,
    tasks: BTreeSet<TaskId>,
    changes: BTreeSet<ChangeId>,
}

impl News {
    fn note(&mut self, event: &Event) {
        match event {
            Event::RunStarted { .. }
            | Event::RunStopRequested { .. }
            | Event::RunPaused { .. }
            | Event::RunStopped { .. }
            | Event::RunResumed { .. }
            | Event::RunBudgetRaised { .. }
            | Event::RunEnded { .. }
            | Event::ProviderDown { .. } => self.run = true,
            Event::TaskOpened { task, .. }
            | Event::TaskReady { task }
            | Event::TaskClaimed { task, .. }
            | Event::WorkspaceReady { task, .. }
            | Event::BoxReady { task, .. }
            | Event::AgentStarted { task, .. }
            | Event::TurnStarted { task, .. }
            | Event::AgentHeldUp { task, .. }
            | Event::ModelSwitched { task, .. }
            | Event::TurnEnded { task, .. }
            | Event::SnapshotTaken { task, .. }
            | Event::WorkspaceKept { task, .. }
            | Event::AgentEnded { task, .. }
            | Event::FinishedWithoutSubmit { task }
            | Event::TaskWaits { task, .. }
            | Event::TaskHeld { task }
            | Event::TaskReleased { task }
            | Event::TaskRetried { task }
            | Event::TaskEdited { task, .. }
            | Event::UndoPlanned { task, .. }
            | Event::TaskCancelRequested { task }
            | Event::PlanRejected { task, .. }
            | Event::PlanProposed { task, .. }
            | Event::PlanAnswered { task, .. }
            | Event::TaskClosed { task, .. } => drop(self.tasks.insert(*task)),
            Event::ChangeSubmitted { change, .. }
            | Event::ChangeImported { change, .. }
            | Event::Gated { change, .. }
            | Event::LandIntended { change, .. }
            | Event::LandAbandoned { change, .. }
            | Event::ImportApproved { change, .. }
            | Event::ChangeReturned { change, .. } => drop(self.changes.insert(*change)),
            Event::Landed { change, .. } => (self.run, _) = (true, self.changes.insert(*change)),
            Event::SpendReserved { .. } | Event::SpendSettled { .. } => self.spending = true,
            Event::ProjectAdded { .. }
            | Event::TierTried { .. }
            | Event::LinesDropped { .. }
            | Event::GatePassed { .. }
            | Event::GateFailed { .. }
            | Event::SecretUsed { .. }
            | Event::SecretRefreshed { .. }
            | Event::SecretNotRefreshed { .. }
            | Event::RequestDenied { .. }
            | Event::AskOpened { .. }
            | Event::AskAnswered { .. }
            | Event::MailSent { .. }
            | Event::MailClaimed { .. }
            | Event::MailAcked { .. } => {}
        }
    }
}

impl RunPicture {
    /// Reads the run from the store. Nothing is known of any worker's units: this is what the CLI sees.
    ///
    /// # Errors
    /// As the store; `None` when there is no such run.
    pub fn load(store: &dyn Store, run: RunId) -> Result<Option<Self>, StoreError> {
        // Before the views: what is appended meanwhile is then read again, not missed.
        let seen = store.last()?;
        let Some(view) = load::<RunView>(store, &run.to_string())? else { return Ok(None) };
        let changes: BTreeMap<_, _> =
            list::<ChangeView>(store, Some(run))?.into_iter().map(|change| (change.change, change.state)).collect();
        let tasks = list::<TaskView>(store, Some(run))?.into_iter().map(|task| task_picture(task, &changes)).collect();
        let mut picture = Self {
            run: view,
            tasks,
            agents: list(store, Some(run))?,
            spent: Spent::default(),
            units: BTreeMap::new(),
            tidied: BTreeSet::new(),
            later: BTreeMap::new(),
            pace: Pace::default(),
            seen,
            changes,
        };
        if picture.has_budget() {
            picture.load_spending(store)?;
        }
        Ok(Some(picture))
    }

    /// Reads again what has changed in the store since the last look; what the worker knows of its own units stays.
    ///
    /// # Errors
    /// As the store.
    pub fn refresh(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        let mut news = News::default();
        loop {
            let events = store.read(self.seen, READ_AT_ONCE)?;
            let Some(last) = events.last() else { break };
            self.seen = last.position;
            events.iter().filter(|envelope| envelope.run == Some(self.run.run)).for_each(|envelope| news.note(&envelope.event));
        }
        if news.run {
            self.run = load(store, &self.run.run.to_string())?.unwrap_or_else(|| self.run.clone());
        }
        for change in news.changes {
            let Some(change) = load::<ChangeView>(store, &change.to_string())? else { continue };
            news.tasks.insert(change.task);
            self.changes.insert(change.change, change.state);
        }
        for task in news.tasks {
            self.read_task(store, task)?;
        }
        match news.spending && self.has_budget() {
            true => self.load_spending(store),
            false => Ok(()),
        }
    }

    fn read_task(&mut self, store: &dyn Store, task: TaskId) -> Result<(), StoreError> {
        let Some(view) = load::<TaskView>(store, &task.to_string())? else { return Ok(()) };
        if let Some(name) = &view.agent
            && let Some(agent) = load::<AgentView>(store, &agent_key(view.run, name.as_str()))?
        {
            match self.agents.iter_mut().find(|of| of.agent == agent.agent) {
                Some(of) => *of = agent,
                None => self.agents.push(agent),
            }
        }
        let change = view.change.and_then(|change| self.changes.get(&change).copied());
        match self.tasks.iter_mut().find(|of| of.view.task == task) {
            Some(of) => {
                if of.view.spec.scope != view.spec.scope {
                    of.scope = OnceLock::new();
                }
                (of.view, of.change) = (view, change);
            }
            None => self.tasks.push(task_picture(view, &self.changes)),
        }
        Ok(())
    }

    fn has_budget(&self) -> bool {
        let set = |budget: &Budget| budget.tokens.is_some() || budget.usd.is_some();
        set(&self.run.rules.run_budget) || self.tasks.iter().any(|task| set(&task.budget(&self.run)))
    }

    fn load_spending(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        self.spent = Spent::default();
        self.tasks.iter_mut().for_each(|task| task.spent = Spent::default());
        let settled = list::<CostView>(store, Some(self.run.run))?.into_iter();
        let settled = settled.map(|cost| (cost.task, cost.usage.total().saturating_add(cost.estimated_tokens), cost.usd));
        let held = list::<SpendView>(store, Some(self.run.run))?.into_iter().map(|held| (held.task, held.tokens, held.usd));
        for (task, tokens, usd) in settled.chain(held) {
            self.spent.add(tokens, usd);
            if let Some(of) = self.tasks.iter_mut().find(|of| of.view.task == task) {
                of.spent.add(tokens, usd);
            }
        }
        Ok(())
    }

    /// Returns a task.
    pub fn task(&self, task: TaskId) -> Option<&TaskPicture> {
        self.tasks.iter().find(|of| of.view.task == task)
    }

    /// Returns the agent of that name.
    pub fn agent(&self, name: &AgentName) -> Option<&AgentView> {
        self.agents.iter().find(|agent| agent.agent == *name)
    }

    /// How many agents may be at work at once.
    pub fn slots(&self) -> usize {
        usize::try_from(self.run.slots).unwrap_or(limits::AGENTS_MAX).clamp(1, limits::AGENTS_MAX)
    }
}

fn task_picture(view: TaskView, changes: &BTreeMap<ChangeId, ChangeState>) -> TaskPicture {
    let change = view.change.and_then(|change| changes.get(&change).copied());
    TaskPicture { scope: OnceLock::new(), change, spent: Spent::default(), view }
}
