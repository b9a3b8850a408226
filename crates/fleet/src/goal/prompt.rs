//! What a planning agent is told.

use std::collections::BTreeMap;
use std::fmt::Write;

use aedile_core::TaskKey;
use aedile_core::ids::BadId;
use aedile_core::limits::{GOAL_BYTES_MAX, PLAN_LAYOUT_LINES_MAX, PLAN_TASKS_MAX};
use aedile_core::model::ModelRef;
use aedile_core::plan::{COORDINATOR, PLAN_KEY};
use aedile_core::project::ProjectRules;
use aedile_core::sandbox::WORKSPACE_INSIDE;
use aedile_core::task::TaskSpec;

use super::layout::{Layout, above, parent};

/// Languages by the endings of their files; only what says something about how work can be divided.
const LANGUAGES: &[(&str, &[&str])] = &[
    ("Rust", &["rs"]),
    ("Python", &["py", "pyi"]),
    ("TypeScript", &["ts", "tsx", "mts", "cts"]),
    ("JavaScript", &["js", "jsx", "mjs", "cjs"]),
    ("Go", &["go"]),
    ("Java", &["java"]),
    ("Kotlin", &["kt", "kts"]),
    ("C#", &["cs"]),
    ("C", &["c", "h"]),
    ("C++", &["cc", "cpp", "cxx", "hpp", "hh"]),
    ("Ruby", &["rb"]),
    ("PHP", &["php"]),
    ("Swift", &["swift"]),
    ("Scala", &["scala"]),
    ("Elixir", &["ex", "exs"]),
    ("Haskell", &["hs"]),
    ("Shell", &["sh", "bash"]),
    ("SQL", &["sql"]),
    ("HTML", &["html", "htm"]),
    ("CSS", &["css", "scss"]),
    ("Markdown", &["md"]),
];

/// Returns why a goal cannot be planned for, in a sentence.
pub fn bad_goal(goal: &str) -> Option<String> {
    if goal.trim().is_empty() {
        return Some("the goal is empty: say in a sentence what is to be reached".to_owned());
    }
    (goal.len() > GOAL_BYTES_MAX).then(|| {
        format!(
            "the goal has {} bytes and at most {GOAL_BYTES_MAX} are allowed: commit the long text to the repository and name its file in the goal",
            goal.len()
        )
    })
}

/// Makes the task that plans for a goal. Its agent reads the code and changes nothing.
///
/// # Errors
/// Never in practice: the key is a constant.
pub fn plan_task(goal: &str, layout: &Layout, rules: &ProjectRules, model: ModelRef, runtime: String) -> Result<TaskSpec, BadId> {
    Ok(TaskSpec {
        key: TaskKey::new(PLAN_KEY)?,
        title: "Split the goal into tasks".to_owned(),
        prompt: prompt(goal, layout, rules),
        read: Vec::new(),
        scope: Vec::new(),
        after: Vec::new(),
        gates: Vec::new(),
        role: COORDINATOR.to_owned(),
        runtime,
        model,
        budget_usd: None,
        script: None,
    })
}

fn prompt(goal: &str, layout: &Layout, rules: &ProjectRules) -> String {
    let mut text = format!("Plan how coding agents reach this goal in the repository at {WORKSPACE_INSIDE}:\n\n{}\n\n", goal.trim());
    let _ = write!(text, "{HOW_AGENTS_WORK}\n{}{HOW_TO_HAND_IN}\n", HOW_TO_DIVIDE.replace("TASKS_MAX", &PLAN_TASKS_MAX.to_string()));
    text.push_str(&facts(layout, rules));
    text
}

const HOW_AGENTS_WORK: &str = "\
You only plan: your workspace is read-only. Read the code that the goal touches before you decide, and find out how it is built and tested.

How the tasks will be worked on:
- Each task goes to an agent of its own with a private clone. It is told the task's prompt and nothing else: not the goal, not the other tasks.
- The kernel lets it write only what the task's `scope` names. A file that it needs and that is not in scope stops it.
- Its result is one commit. It lands when the gates are green on it, merged with what has landed before.
- Tasks work at the same time unless one comes `after` another; a task that comes after others begins with their landed work.
";

const HOW_TO_DIVIDE: &str = "\
How to divide:
- As few tasks as useful, at most TASKS_MAX. Divide where people could work at the same time without meeting, by files and not by kinds of activity. If one \
agent would do as well, plan one task.
- Two tasks that may change the same file must be ordered by `after`, or be one task. Where tasks need something in common, make that a small first task.
- Tests and documentation belong to the task whose code they are for. The gates must be green after every single task.
- `scope`: existing paths, or new ones where such code lies in this repository, and everything that the work needs: tests, the files that declare new modules, \
manifests.
- `prompt`: complete by itself. Name files, functions, the behaviour wanted and what must stay as it is.
- `acceptance`: what somebody else could check. Where a command can decide it without network, name the command.
";

const HOW_TO_HAND_IN: &str = "
Hand the plan in with your tool `submit_plan` if you have one; otherwise write it as JSON and give it to the command `aedile plan submit FILE` (`-` reads \
stdin; `aedile plan schema` prints its form). It is checked at once. If it is refused, mend what the reasons name and hand the whole plan in again. \
When it is taken, end your turn.
";

fn facts(layout: &Layout, rules: &ProjectRules) -> String {
    let mut text = String::from("\nThe repository:\n");
    let (files, bytes) = layout.files().fold((0_usize, 0), |(files, bytes), (_, size)| (files + 1, bytes + size));
    let _ = writeln!(text, "- {files} files, {}", size(bytes));
    let languages = languages(layout);
    if !languages.is_empty() {
        let _ = writeln!(text, "- languages: {languages}");
    }
    match rules.gates.is_empty() {
        true => text.push_str("- no gate is configured: every task must say how it is checked\n"),
        false => rules.gates.iter().for_each(|gate| {
            let _ = writeln!(text, "- gate {}: `{}`", gate.name, gate.command);
        }),
    }
    if !rules.allow_protected && !rules.protected.is_empty() {
        let there =
            |glob: &&String| aedile_core::scope::Scope::new(std::slice::from_ref(glob)).is_ok_and(|scope| layout.within(&scope).0 > 0);
        let protected: Vec<String> = rules.protected.iter().filter(there).map(|glob| format!("`{glob}`")).collect();
        if !protected.is_empty() {
            let _ = writeln!(text, "- protected, in no task's scope: {}", protected.join(", "));
        }
    }
    if !rules.build_dirs.is_empty() {
        let _ = writeln!(text, "- written by builds, never part of a change: {}", rules.build_dirs.join(", "));
    }
    let _ = write!(text, "\nWhat lies where:\n{}", tree(layout));
    text
}

fn languages(layout: &Layout) -> String {
    let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
    for (path, size) in layout.files() {
        let ending = path.rsplit_once('.').map_or("", |(_, ending)| ending);
        if let Some((language, _)) = LANGUAGES.iter().find(|(_, endings)| endings.contains(&ending)) {
            *bytes.entry(language).or_default() += size;
        }
    }
    let mut most: Vec<(&str, u64)> = bytes.into_iter().collect();
    most.sort_by_key(|(language, bytes)| (std::cmp::Reverse(*bytes), *language));
    most.iter().take(6).map(|(language, bytes)| format!("{language} ({})", size(*bytes))).collect::<Vec<_>>().join(", ")
}

/// All files with their sizes, or, when they are too many, the directories down to the depth that fits.
fn tree(layout: &Layout) -> String {
    let files: Vec<(&str, u64)> = layout.files().collect();
    if files.len() <= PLAN_LAYOUT_LINES_MAX {
        return files.iter().map(|(path, bytes)| format!("{} ({})\n", plain(path), size(*bytes))).collect();
    }
    let mut dirs: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for (path, bytes) in &files {
        for dir in above(path) {
            let sum = dirs.entry(dir).or_default();
            *sum = (sum.0 + 1, sum.1 + bytes);
        }
    }
    let depth = |dir: &str| dir.matches('/').count();
    let deepest = dirs.keys().map(|dir| depth(dir)).max().unwrap_or(0);
    let room = |max: &usize| dirs.keys().filter(|dir| depth(dir) <= *max).count() <= PLAN_LAYOUT_LINES_MAX;
    let shown = (0..=deepest).take_while(room).last();
    let mut text = String::new();
    let in_root: Vec<_> = files.iter().filter(|(path, _)| parent(path).is_empty()).take(PLAN_LAYOUT_LINES_MAX).collect();
    in_root.iter().for_each(|(path, bytes)| text.extend([plain(path), format!(" ({})\n", size(*bytes))]));
    let fitting = dirs.iter().filter(|(dir, _)| shown.is_none_or(|max| depth(dir) <= max)).take(PLAN_LAYOUT_LINES_MAX);
    fitting.for_each(|(dir, (files, bytes))| text.extend([plain(dir), format!("/ ({files} files, {})\n", size(*bytes))]));
    text.push_str("These are directories only; look into them with your tools.\n");
    text
}

/// A path of the repository on one line.
fn plain(path: &str) -> String {
    path.chars().map(|c| if c.is_control() { '?' } else { c }).take(200).collect()
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KB", bytes.div_ceil(1024)),
        _ => format!("{} MB", bytes.div_ceil(1_048_576)),
    }
}
