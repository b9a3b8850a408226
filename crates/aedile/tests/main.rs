//! The program as a person meets it: the real binary, real git, the real kernel.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod attack;
mod cli;
mod code;
mod control;
mod crash;
mod demo;
mod doctor;
mod editor;
mod exec;
mod exec_guard;
mod exec_killed;
mod exec_layers;
mod exec_programs;
mod exec_proxy;
mod exec_secrets;
mod exec_terminal;
mod fifty;
mod goals;
mod landing;
mod mcp;
mod merge;
mod merge_driver;
mod policy;
mod providers;
mod reading;
mod real_input;
mod real_work;
mod resolve;
mod runtimes;
mod scan;
mod scenario;
mod secret;
mod snapshots;
mod steering;
mod surface;
mod terminal;
mod tidy;
mod transcripts;
mod undo;
mod ways;

use std::path::{Path, PathBuf};

use aedile_testkit::TestEnvironment;

/// The program under test.
fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_aedile"))
}

/// Runs a tool of the machine and returns what it printed.
fn output_of(tool: &str, args: &[&str], dir: &Path) -> String {
    #[expect(clippy::disallowed_methods, reason = "a test prepares its material")]
    let output = std::process::Command::new(tool).args(args).current_dir(dir).output().unwrap();
    assert!(
        output.status.success(),
        "{tool} {args:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Gives the environment this machine's Rust, as a person would have it.
fn share_toolchain(env: &mut TestEnvironment) {
    #[expect(clippy::disallowed_methods, reason = "a test hands on the machine's toolchain")]
    let var = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let home = var("HOME").unwrap();
    let cargo = var("CARGO_HOME").unwrap_or_else(|| home.join(".cargo"));
    let rustup = var("RUSTUP_HOME").unwrap_or_else(|| home.join(".rustup"));
    env.var("PATH", var("PATH").unwrap()).var("CARGO_HOME", cargo).var("RUSTUP_HOME", rustup);
}
