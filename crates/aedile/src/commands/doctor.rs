//! `aedile doctor`.

use aedile_core::limits;
use aedile_core::sandbox::{BoxIo, BoxLimits, BoxNet, BoxSpec, Sandbox, WriteScope};
use aedile_git::Git;
use aedile_sandbox::Feature;
use clap::Args;
use serde_json::json;

use crate::config::file::ConfigFile;
use crate::error::{CliError, CliResult};
use crate::output::Output;
use crate::runtimes::Catalogue;
use crate::{disk, env, exit, state, wiring};

/// Say what this host gives, what is missing and what that costs
#[derive(Debug, Args)]
pub struct DoctorArgs {}

/// One finding: what, whether it is well, and words.
type Finding = (String, bool, String);

/// Runs `aedile doctor`. Exit code 0 means that runs can work here.
pub fn cmd_doctor(_args: &DoctorArgs, out: Output) -> CliResult {
    let mut findings: Vec<Finding> = Vec::new();
    findings.push(match Git::find(&env::get(env::PATH).unwrap_or_default()) {
        Ok(git) => ("git".to_owned(), true, format!("{} at {}", git.version(), git.program().display())),
        Err(error) => ("git".to_owned(), false, error.to_string()),
    });
    findings.push(match state::dir().and_then(|dir| Ok((state::open_existing()?.is_some(), dir))) {
        Ok((true, dir)) => ("state".to_owned(), true, format!("{}, {}", dir.display(), disk::bytes(disk::measure(&dir).bytes))),
        Ok((false, dir)) => ("state".to_owned(), true, format!("{}, empty", dir.display())),
        Err(error) => ("state".to_owned(), false, error.message),
    });
    let scratch = tempfile::Builder::new().prefix("aedile-doctor-").tempdir()?;
    std::fs::create_dir(scratch.path().join("boxes"))?;
    let runtimes = Catalogue::of(&ConfigFile::default());
    let sandbox = wiring::sandbox(scratch.path(), &runtimes)?;
    let report = sandbox.report();
    let tried = try_box(&sandbox);
    findings.push(match &tried {
        Ok(()) => ("box".to_owned(), true, format!("works: {} (host id {})", report.level, report.host_uid)),
        Err(error) => ("box".to_owned(), false, error.message.clone()),
    });
    findings.extend(report.mechanisms.iter().cloned());
    let features = sandbox.features().unwrap_or_else(|error| {
        findings.push(("kernel features".to_owned(), false, error.to_string()));
        Vec::new()
    });
    let tools: Vec<String> = wiring::toolchains(&runtimes).mounts.iter().map(|mount| mount.host.display().to_string()).collect();
    scratch.close()?;
    let missing = |needed: &str| findings.iter().any(|(what, good, _)| what == needed && !good);
    let code = match &tried {
        Err(error) => error.code,
        Ok(()) if missing("git") => exit::GIT,
        Ok(()) if missing("state") => exit::STATE,
        Ok(()) => exit::OK,
    };
    let well = code == exit::OK;
    let rows: Vec<_> = findings.iter().map(|(what, good, words)| json!({ "what": what, "good": good, "words": words })).collect();
    out.object_or(&json!({ "well": well, "level": report.level, "findings": rows, "features": features, "tools": tools }), || {
        let mut lines: Vec<String> =
            findings.iter().map(|(what, good, words)| format!("{}  {what}: {words}", if *good { "ok     " } else { "MISSING" })).collect();
        lines.extend(features.iter().map(line));
        lines.push(format!(
            "tools that boxes see read-only: {}",
            if tools.is_empty() { "only the system's".to_owned() } else { tools.join(", ") }
        ));
        lines
    });
    Ok(code)
}

/// What is said of one feature of the kernel.
fn line(feature: &Feature) -> String {
    match feature.cost {
        None => format!("present  {}: {}", feature.name, feature.detail),
        Some(cost) => format!("missing  {}: {}. What that costs: {cost}", feature.name, feature.detail),
    }
}

/// The proof is a box that ran something.
fn try_box(sandbox: &dyn Sandbox) -> Result<(), CliError> {
    let spec = BoxSpec {
        label: "doctor".to_owned(),
        command: vec!["true".to_owned()],
        tree: None,
        tree_inside: "/".into(),
        write: WriteScope::Nothing,
        mounts: Vec::new(),
        home: None,
        env: Vec::new(),
        net: BoxNet::None,
        limits: BoxLimits { wall: Some(limits::TERM_GRACE * 5), ..BoxLimits::default() },
        io: BoxIo::Captured,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut child = sandbox.spawn(spec)?;
        let exit = child.wait().await?;
        if exit.success() {
            Ok(())
        } else {
            Err(CliError::new(exit::UNSUPPORTED, format!("a box was made, but `true` ended with {exit:?} in it")))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_with_what_it_costs() {
        let feature = Feature { name: "seccomp", present: true, detail: "used so".to_owned(), cost: None };
        assert_eq!(line(&feature), "present  seccomp: used so");
        let gone = Feature { present: false, detail: "not there".to_owned(), cost: Some("no box"), ..feature };
        assert_eq!(line(&gone), "missing  seccomp: not there. What that costs: no box");
    }
}
