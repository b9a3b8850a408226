//! Scheduler, mail, supervision and budgets: from tasks to submitted changes.
//!
//! [`decide`](decide::decide) is pure: it looks at a [`RunPicture`](picture::RunPicture) and says what to do. The
//! [`RunDriver`](driver::RunDriver) does it: one dispatcher, and one unit (a task of the async runtime) for each agent. Landing is
//! somebody else's work; the two speak only through the store.

pub mod blocked;
pub mod command;
pub mod decide;
pub mod driver;
pub mod goal;
pub mod hub_workspaces;
pub mod mail;
pub mod names;
pub mod parts;
pub mod picture;
pub mod plan;
pub mod recover;
pub mod steps;
pub mod workspaces;

mod agent_box;
mod allowed;
mod api;
mod calls;
mod goal_calls;
mod order;
mod prompts;
mod tidy;
mod transcript;
mod turns;
mod unit;
mod wakeups;

pub use blocked::{WaitsFor, waits_for};
pub use command::{
    CommandError, TaskEdit, approve_import, cancel_task, edit_task, find_task, pause_run, raise_run_budget, release_task, request_stop,
    retry_task, stop_left_run, unpause_run,
};
pub use decide::{Action, decide};
pub use driver::{FleetError, RunDriver, RunReport, StopWish, TaskReport};
pub use hub_workspaces::HubWorkspaces;
pub use mail::{MailError, inbox, send_mail, take_mail};
pub use parts::{HostFacts, Onlooker, Parts, Seen, Sees};
pub use picture::{Pace, RunPicture};
pub use plan::{PlanError, RunPlan, open_run};
pub use tidy::{CloseError, close_task};
pub use transcript::TurnTranscript;
pub use workspaces::Workspaces;
