//! Runtimes in real boxes: one suite that every runtime passes, agents that behave badly, and runs that mix them.

mod bad;
mod commands;
mod doors;
mod rig;
mod suite;
mod together;

use std::path::PathBuf;

use aedile_runtimes::CLAUDE_VERSION_MIN;

/// The directories of this machine's programs.
fn path() -> Vec<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "a test looks for the machine's agents")]
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).collect()
}

/// Where this machine's tools for languages may lie.
fn home() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "a test looks for the machine's tools")]
    std::env::var_os("HOME").map(PathBuf::from)
}

/// The other vendors' agents that the tests use.
fn programs() -> Vec<String> {
    ["claude", "opencode"].map(str::to_owned).to_vec()
}

/// Whether the tests with Claude Code can run here.
pub(crate) fn has_claude(test: &str) -> bool {
    let found = aedile_sandbox::find_program(&path(), "claude");
    let why = format!("`claude` is not on the PATH: npm install @anthropic-ai/claude-code@{CLAUDE_VERSION_MIN}");
    aedile_testkit::require(test, found.is_none().then_some(why.as_str()))
}
