//! Named crash points: places where a test may kill the program with `kill -9` semantics.

use std::sync::OnceLock;

/// Every crash point, in the order of one task. The tests go through this table.
pub const CRASH_POINTS: &[&str] = &[
    "workspace-ready",
    "spawn",
    "turn",
    "snapshot",
    "mail",
    "submit",
    "plan",
    "plan-answer",
    "import",
    "gate",
    "before-ref-move",
    "after-ref-move",
    "task-close",
    "undo-adopt",
    "apply",
];

static HOOK: OnceLock<fn(&'static str)> = OnceLock::new();

/// Installs what happens at a crash point. The program does so once, before any work, when it is told to crash.
pub fn install(hook: fn(&'static str)) {
    let _ = HOOK.set(hook);
}

/// Marks a crash point; does nothing unless a hook was installed.
pub fn point(name: &'static str) {
    debug_assert!(CRASH_POINTS.contains(&name), "crash point {name} is not in the table");
    if let Some(hook) = HOOK.get() {
        hook(name);
    }
}
