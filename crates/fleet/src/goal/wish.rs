//! Another plan, as a person asks for it in words.

use std::fmt::Write;

use aedile_core::TaskKey;
use aedile_core::ids::BadId;
use aedile_core::limits::{PLAN_WISH_BYTES_MAX, PLAN_WISHES_MAX};
use aedile_core::plan::{PlanAnswer, ProposedPlan, plan_key};
use aedile_core::task::TaskSpec;
use aedile_core::tool::cut_middle;
use aedile_core::view::TaskView;

/// The most bytes in which the plan that was seen is told again.
const SEEN_BYTES_MAX: usize = 32 * 1024;

/// Returns why another plan cannot be asked for in these words, in a sentence; `plans` is how many were proposed in the run so far.
pub fn bad_wish(plans: usize, words: &str) -> Option<String> {
    let length = words.trim().len();
    if plans > PLAN_WISHES_MAX {
        return Some(format!(
            "another plan was asked for {PLAN_WISHES_MAX} times already: take this one into a file and edit it, or begin with a clearer goal"
        ));
    }
    match length {
        0 => Some("nothing was said, so the plan stays as it is".to_owned()),
        length if length > PLAN_WISH_BYTES_MAX => Some(format!(
            "that has {length} bytes and at most {PLAN_WISH_BYTES_MAX} are taken: say it shorter, or take the plan into a file and edit it"
        )),
        _ => None,
    }
}

/// Makes the task that plans again: what the first was told, everything that the person has said since, and the plan that they saw.
pub(crate) fn plan_again(planned: &[TaskView], seen: &ProposedPlan, words: &str) -> Result<TaskSpec, BadId> {
    let earlier = planned.iter().filter_map(|task| match task.plan.as_ref()?.answered.as_ref()? {
        PlanAnswer::Another { words } => Some(words.as_str()),
        PlanAnswer::Accepted { .. } | PlanAnswer::Declined { .. } => None,
    });
    let (Some(first), Some(last)) = (planned.first(), planned.last()) else {
        return Err(BadId { what: "a plan", text: String::new(), problem: "nothing was planned" });
    };
    let mut prompt = first.spec.prompt.trim_end().to_owned();
    prompt.push_str("\n\nA plan was handed in for this before. The person has seen it and wants another one. What they say, in order:\n");
    for wish in earlier.chain([words]) {
        wish.trim().lines().for_each(|line| prompt.extend(["> ", line, "\n"]));
    }
    prompt.push_str("\nThe plan that they saw last:\n");
    prompt.push_str(&cut_middle(&told(seen), SEEN_BYTES_MAX));
    prompt.push_str("\nKeep of it what they do not object to. What they say goes before the advice on how to divide; what is checked is checked as before.\n");
    Ok(TaskSpec { key: TaskKey::new(plan_key(planned.len() + 1))?, prompt, ..last.spec.clone() })
}

/// A plan in short.
fn told(seen: &ProposedPlan) -> String {
    let mut text = String::new();
    for task in &seen.plan.tasks {
        let after = if task.after.is_empty() { String::new() } else { format!("; after {}", task.after.join(", ")) };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "- `{}`: {}; may change {}{after}", task.id, task.title.trim(), task.scope.join(", "));
    }
    text
}
