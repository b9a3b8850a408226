//! When one agent would do as well.

use aedile_core::limits::{PLAN_JOINED_MAX, PLAN_PROMPT_BYTES_MAX, PLAN_TASK_BYTES_MAX};
use aedile_core::plan::{Plan, PlannedTask};
use aedile_core::scope::Scope;

use super::form::{list, weight};
use crate::order::{After, before};

/// The id of a task that stands for all of a plan.
const WHOLE: &str = "goal";

/// Which pairs of tasks cannot be worked on at the same time.
struct Pairs<'a> {
    tasks: &'a [PlannedTask],
    apart: Vec<Vec<bool>>,
}

impl<'a> Pairs<'a> {
    fn of(plan: &'a Plan) -> Self {
        let tasks = plan.tasks.as_slice();
        let after: After<'_> = tasks.iter().map(|task| (task.id.as_str(), task.after.iter().map(String::as_str).collect())).collect();
        let before = before(&after);
        let scopes: Vec<Option<Scope>> = tasks.iter().map(|task| Scope::new(&task.scope).ok()).collect();
        let comes_after = |a: &str, b: &str| before.get(a).is_some_and(|all| all.contains(b));
        let apart = |a: usize, b: usize| {
            let overlap = match (&scopes[a], &scopes[b]) {
                (Some(one), Some(other)) => one.overlaps(other),
                _ => true,
            };
            overlap || comes_after(&tasks[a].id, &tasks[b].id) || comes_after(&tasks[b].id, &tasks[a].id)
        };
        let apart = (0..tasks.len()).map(|a| (0..tasks.len()).map(|b| a != b && apart(a, b)).collect()).collect();
        Self { tasks, apart }
    }

    /// Whether no two tasks can be worked on at once.
    fn one_at_a_time(&self) -> bool {
        self.apart.iter().enumerate().all(|(a, row)| row.iter().enumerate().all(|(b, apart)| a == b || *apart))
    }
}

/// Returns how many tasks are at work at most when each begins as soon as it can.
pub(crate) fn at_once(plan: &Plan) -> usize {
    let pairs = Pairs::of(plan);
    let mut done: Vec<&str> = Vec::new();
    let mut most = 0;
    while done.len() < pairs.tasks.len() {
        let mut chosen: Vec<usize> = Vec::new();
        for (at, task) in pairs.tasks.iter().enumerate() {
            let free = !done.contains(&task.id.as_str()) && task.after.iter().all(|id| done.contains(&id.as_str()));
            if free && chosen.iter().all(|other| !pairs.apart[at][*other]) {
                chosen.push(at);
            }
        }
        if chosen.is_empty() {
            break;
        }
        most = most.max(chosen.len());
        done.extend(chosen.into_iter().map(|at| pairs.tasks[at].id.as_str()));
    }
    most
}

/// Makes one task of a plan whose tasks only wait for each other, and says so; a long row of tasks stays and is named as one.
pub(crate) fn join(plan: Plan, goal: &str) -> (Plan, Option<String>) {
    if plan.tasks.len() == 1 {
        return (plan, Some("it is one task: one agent does it, and more would not help".to_owned()));
    }
    if !Pairs::of(&plan).one_at_a_time() {
        return (plan, None);
    }
    let ids: Vec<String> = plan.tasks.iter().map(|task| task.id.clone()).collect();
    let why = "no two of them could be worked on at the same time, since each comes after another or changes the same files";
    let whole = in_order(&plan.tasks).filter(|tasks| tasks.len() <= PLAN_JOINED_MAX).map(|tasks| one(&tasks, goal));
    match whole.filter(|whole| whole.prompt.len() <= PLAN_PROMPT_BYTES_MAX && weight(whole) <= PLAN_TASK_BYTES_MAX) {
        Some(whole) => {
            let note = format!("{} were made one task: {why}; one agent does it with less, since it reads the code once", list(&ids));
            (Plan { tasks: vec![whole], ..plan }, Some(note))
        }
        None => {
            let note = format!("one agent at a time works on these {} tasks: {why}; more agents would not make it faster", ids.len());
            (plan, Some(note))
        }
    }
}

/// The tasks so that each stands behind those that it comes after.
fn in_order(tasks: &[PlannedTask]) -> Option<Vec<&PlannedTask>> {
    let mut ordered: Vec<&PlannedTask> = Vec::new();
    while ordered.len() < tasks.len() {
        let free = |task: &&PlannedTask| {
            let has = |id: &str| ordered.iter().any(|other| other.id == id);
            !has(&task.id) && task.after.iter().all(|id| has(id))
        };
        let next = tasks.iter().find(free)?;
        ordered.push(next);
    }
    Some(ordered)
}

fn one(tasks: &[&PlannedTask], goal: &str) -> PlannedTask {
    let steps: Vec<String> =
        tasks.iter().enumerate().map(|(at, task)| format!("{}. {}\n\n{}", at + 1, task.title.trim(), task.prompt.trim())).collect();
    let mut scope: Vec<String> = Vec::new();
    for glob in tasks.iter().flat_map(|task| &task.scope) {
        if !scope.contains(glob) {
            scope.push(glob.clone());
        }
    }
    let line = goal.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    PlannedTask {
        id: WHOLE.to_owned(),
        title: line.chars().take(80).collect(),
        prompt: format!("Reach this goal: {goal}\n\nIn these steps, each checked before the next begins:\n\n{}", steps.join("\n\n")),
        scope,
        after: Vec::new(),
        acceptance: tasks.iter().flat_map(|task| task.acceptance.clone()).collect(),
    }
}
