//! What a driver is made of: the services that the program wires together.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aedile_core::agent_api::DoorIdentity;
use aedile_core::egress::Egress;
use aedile_core::policy::PolicyText;
use aedile_core::runtime::{Runtime, SessionEvent};
use aedile_core::sandbox::Sandbox;
use aedile_core::store::Store;
use aedile_core::{Clock, Entropy, RunId, TaskKey};
use tokio::sync::watch;

use crate::picture::Pace;
use crate::workspaces::Workspaces;

/// Looks at a process of the host: its id is given, the CPU time of it and everything below it (in clock ticks) is returned.
pub type CpuTicks = Arc<dyn Fn(u32) -> Option<u64> + Send + Sync>;
/// Kills what is left of a box whose worker died: process id and start time of its first process. Does nothing when that process is gone.
pub type KillOrphan = Arc<dyn Fn(u32, u64) + Send + Sync>;

/// What the driver has to know of the host.
#[derive(Clone)]
pub struct HostFacts {
    /// The aedile program, shown read-only in every box at `PROGRAM_INSIDE`.
    pub program: PathBuf,
    /// The state directory; homes of agents live below it.
    pub state: PathBuf,
    /// This worker's name, unique for each of its lives.
    pub holder: String,
    /// Earlier workers that are proved dead.
    pub dead: Vec<String>,
    /// CPU time of a box.
    pub cpu_ticks: CpuTicks,
    /// Kills an orphan.
    pub kill_orphan: KillOrphan,
}

impl HostFacts {
    /// The directory that the agent of a task sees as its HOME. Kept until the task closes.
    pub fn home(&self, run: RunId, key: &TaskKey) -> PathBuf {
        self.homes(run).join(key.as_str())
    }

    /// The directory of the files that the agent of a task sees read-only. Kept until the task closes.
    pub fn overlay(&self, run: RunId, key: &TaskKey) -> PathBuf {
        Path::new(&self.state).join("overlays").join(run.to_string()).join(key.as_str())
    }

    /// The directory of all homes of a run.
    pub fn homes(&self, run: RunId) -> PathBuf {
        Path::new(&self.state).join("homes").join(run.to_string())
    }
}

/// What an onlooker is shown.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// The agent says or does something.
    Event(&'a SessionEvent),
    /// The agent has ended its turn without submitting, and waits for what the person says.
    Waits,
}

/// Is shown what agents do, at once and in order; must not block. What an agent says is untrusted text.
pub type Sees = Arc<dyn Fn(&DoorIdentity, Seen<'_>) + Send + Sync>;

/// A person who is there while agents work.
#[derive(Clone, Default)]
pub struct Onlooker {
    /// What shows them the agents' sessions.
    pub sees: Option<Sees>,
    /// Whether they stay to answer: an agent that ends its turn without submitting then waits for mail instead of being reminded.
    pub stays: Option<watch::Receiver<bool>>,
}

/// Everything that a driver works with. Cheap to clone.
#[derive(Clone)]
pub struct Parts {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Makes boxes.
    pub sandbox: Arc<dyn Sandbox>,
    /// Opens doors.
    pub egress: Arc<dyn Egress>,
    /// The runtimes that tasks may name.
    pub runtimes: Vec<Arc<dyn Runtime>>,
    /// Makes workspaces.
    pub workspaces: Arc<dyn Workspaces>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub entropy: Arc<dyn Entropy>,
    /// The host.
    pub host: HostFacts,
    /// How long things may take.
    pub pace: Pace,
    /// Who looks on.
    pub onlooker: Onlooker,
    /// The layers of policy of the machine and the person; those of the project and the run are the run's own.
    pub policy: Vec<PolicyText>,
}

impl Parts {
    /// Returns the runtime of that name.
    pub fn runtime(&self, name: &str) -> Option<&Arc<dyn Runtime>> {
        self.runtimes.iter().find(|runtime| runtime.name() == name)
    }

    /// In words, who speaks through a door.
    pub(crate) fn label(who: &DoorIdentity) -> String {
        format!("agent {} ({})", who.agent, who.key)
    }
}
