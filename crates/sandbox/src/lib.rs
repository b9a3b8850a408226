//! The box: namespaces, Landlock, seccomp, limits; the only starter of processes on the host.
//!
//! [`NativeSandbox`] starts boxes from one thread of this process. For each it executes a launcher (the same program again, see
//! [`launcher_main`]) with an empty environment and closed descriptors; the launcher makes the namespaces and the mounts, and the
//! box's first process gives up every privilege before it starts the program.

mod again;
mod aside;
pub mod attack;
mod bar;
mod beneath;
mod check;
mod child;
mod copy;
mod cow;
mod exec;
mod features;
mod fence;
mod fence_landlock;
mod fence_seccomp;
mod give;
mod guarded;
mod home;
mod host_command;
mod idmap;
mod init;
mod launcher;
mod ledger;
mod limits;
mod links;
mod locks;
mod native;
mod report;
mod rootfs;
mod scope_plan;
mod sources;
mod starter;
mod survey;
mod sys;
mod terminal;
mod toolchain;
mod unfinished;
mod watcher;
mod wire;

pub use again::{Again, AgainRequest};
pub use aside::BoxNote;
pub use child::NativeChild;
pub use cow::{Change, ChangeKind, Cow};
pub use exec::{ExecRequest, check_exec_dir, exec_spec, not_started};
pub use features::{FEATURES_ARGUMENT, Feature};
pub use fence::Fence;
pub use host_command::{Asked, ask_command};
pub use launcher::launcher_main;
pub use native::{BOX_HOST_ID, NativeSandbox, SandboxConfig, Trees};
pub use starter::LAUNCHER_ARGUMENT;
pub use survey::Guard;
pub use toolchain::{TOOL_VARIABLES, ToolMount, ToolSearch, Toolchains, discover, find_program};
pub use unfinished::{Outcome, Unfinished, finish_unfinished, has_unfinished};
