//! The tools of one session.

use aedile_core::tool::{Sight, Tool, ToolRisk};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use crate::apply_patch::ApplyPatch;
use crate::bash::Bash;
use crate::door::DoorClient;
use crate::edit::{Edit, MultiEdit};
use crate::glob::Glob;
use crate::grep::Grep;
use crate::jobs::{JobKill, JobOutput, Jobs};
use crate::ls::Ls;
use crate::mail::{MailRead, MailSend, TaskInfo};
use crate::notebook_edit::NotebookEdit;
use crate::place::Place;
use crate::plan_tool::SubmitPlan;
use crate::read::Read;
use crate::shell::Shell;
use crate::submit_tool::Submit;
use crate::todo::Todo;
use crate::web_fetch::WebFetch;
use crate::write::Write;

/// Makes the tools of a session.
#[derive(Debug, Clone)]
pub struct ToolBox {
    /// What the model takes besides text; the tools follow when it changes.
    pub sees: Sight,
}

impl ToolBox {
    /// Makes the tools for a model that takes pictures and documents; see [`ToolBox::tools`].
    pub fn standard(cwd: &Path, scope: &[String], door: Option<DoorClient>) -> Vec<Arc<dyn Tool>> {
        Self { sees: Sight::new(true, true) }.tools(cwd, scope, door)
    }

    /// Makes the tools of one session: `read`, `write`, `edit`, `multi_edit`, `apply_patch`, `notebook_edit`, `glob`, `grep`, `ls`, `bash`,
    /// `job_output`, `job_kill` and `todo`, and with a door also `submit`, `web_fetch`, `task_info`, `mail_send` and `mail_read`. They share a shell, its
    /// background jobs and a to-do list; dropping them all ends the jobs.
    ///
    /// `cwd` is the workspace's root, where relative paths start. `scope` holds the globs of what the task may change; it only feeds messages (the
    /// kernel is what decides), and an empty list means that none is known.
    pub fn tools(self, cwd: &Path, scope: &[String], door: Option<DoorClient>) -> Vec<Arc<dyn Tool>> {
        let place = Arc::new(Place::new(cwd, scope));
        let shell = Arc::new(Shell::new(Arc::clone(&place)));
        let jobs = Arc::new(Jobs::default());
        let mut tools: Vec<Arc<dyn Tool>> = vec![
            Arc::new(Read { place: Arc::clone(&place), sees: self.sees }),
            Arc::new(Write { place: Arc::clone(&place) }),
            Arc::new(Edit { place: Arc::clone(&place) }),
            Arc::new(MultiEdit { place: Arc::clone(&place) }),
            Arc::new(ApplyPatch { place: Arc::clone(&place) }),
            Arc::new(NotebookEdit { place: Arc::clone(&place) }),
            Arc::new(Glob { place: Arc::clone(&place), withheld: OnceLock::new() }),
            Arc::new(Grep { place: Arc::clone(&place), withheld: OnceLock::new() }),
            Arc::new(Ls { place: Arc::clone(&place) }),
            Arc::new(Bash { shell, jobs: Arc::clone(&jobs) }),
            Arc::new(JobOutput { jobs: Arc::clone(&jobs) }),
            Arc::new(JobKill { jobs }),
            Arc::new(Todo::default()),
        ];
        if let Some(door) = door {
            tools.push(Arc::new(Submit { place, door: door.clone() }));
            tools.push(Arc::new(WebFetch { door: door.clone() }));
            tools.push(Arc::new(TaskInfo { door: door.clone() }));
            tools.push(Arc::new(MailSend { door: door.clone() }));
            tools.push(Arc::new(MailRead::new(door)));
        }
        tools
    }

    /// Makes the tools of a session that plans: as [`ToolBox::tools`], with `submit_plan` in the place of `submit` and of all that writes
    /// files, since such a session changes nothing.
    pub fn planning(self, cwd: &Path, door: DoorClient) -> Vec<Arc<dyn Tool>> {
        let mut tools = self.tools(cwd, &[], Some(door.clone()));
        tools.retain(|tool| tool.risk() != ToolRisk::Write && tool.spec().name != "submit");
        tools.push(Arc::new(SubmitPlan { door }));
        tools
    }
}
