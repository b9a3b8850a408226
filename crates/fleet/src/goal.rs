//! From a goal in words to tasks: what a planning agent is told, how its plan is checked and completed, and how it becomes tasks.
//!
//! Everything here is pure but [`answer`]: the layout of the code is given. A planning agent is an agent like any other, whose
//! task is a plan ([`TaskSpec::is_plan`](aedile_core::task::TaskSpec::is_plan)); its unit runs [`check`] on what it hands in.

mod answer;
mod check;
mod complete;
mod form;
mod join;
mod layout;
mod packages;
mod paths;
mod prompt;
mod tasks;
mod wish;

pub use answer::{accept, another, decline};
pub use check::{Ground, check};
pub use layout::{EntryKind, Layout};
pub use prompt::{bad_goal, plan_task};
pub use tasks::specs;
pub use wish::bad_wish;
