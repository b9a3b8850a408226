//! `aedile resolve`: settles the conflicts of a merge of the person's.

use std::path::{Component, Path, PathBuf};

use aedile_code::Sides;
use aedile_code::merge::{BYTES_MAX, Outcome, Receipt, merge};
use aedile_git::{EntryMode, Operation, Project, Resolved, Unmerged};
use clap::Args;
use serde_json::{Value, json};

use crate::commands::merge_file::settled;
use crate::error::{CliError, CliResult};
use crate::output::{Output, one_line, table};
use crate::{exit, wiring};

/// Settle the conflicts of a merge, rebase, cherry-pick, revert or stash pop that stopped, where the engine can
///
/// It takes the three versions of each path in conflict from git's index. What comes out clean and stands against the evidence is written and staged; everything else stays as git left it, and is
/// named with the reason. A file that you have begun to edit is left alone, and so is everything that is not in conflict. No project, agent, model or network is needed. `git checkout -m -- PATH`
/// brings a conflict back. The exit code is 0 when nothing is left in conflict (of the paths given), 1 when something is, and 2 when a path is not in conflict.
#[derive(Debug, Args)]
pub struct ResolveArgs {
    /// Only these files, or what lies in these directories
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Say what would be done and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// What became of one path.
struct Told {
    path: PathBuf,
    /// The answer, where there is one.
    answer: Option<Resolved>,
    /// What was settled and how, or why it is left.
    words: String,
    /// What the engine says about each contested place.
    receipt: Option<Receipt>,
}

/// Runs `aedile resolve`.
pub fn cmd_resolve(args: &ResolveArgs, out: Output) -> CliResult {
    let here = std::env::current_dir()?;
    let project = wiring::discover(&here)?;
    let (operation, unmerged) = (project.operation()?, chosen(project.unmerged()?, &args.paths, &here, project.root())?);
    let mut told = unmerged.iter().map(|one| settle(&project, one)).collect::<Result<Vec<Told>, CliError>>()?;
    if !args.dry_run {
        put_down(&project, &mut told)?;
    }
    let open = if args.dry_run { told.iter().any(|one| one.answer.is_none()) } else { !project.unmerged()?.is_empty() };
    let left = told.iter().filter(|one| one.answer.is_none()).count();
    let next = if told.is_empty() && !open { None } else { Some(next(operation, open, args.dry_run)) };
    let answer = json!({
        "operation": operation.map(Operation::command),
        "dry_run": args.dry_run,
        "resolved": told.len() - left,
        "left": left,
        "paths": told.iter().map(object).collect::<Vec<_>>(),
        "next": next,
    });
    out.object_or(&answer, || {
        let done = if args.dry_run { "would be resolved" } else { "resolved" };
        let row = |one: &Told| {
            let word = if one.answer.is_some() { done } else { "left" };
            vec![one_line(&one.path.to_string_lossy(), 400), format!("{word}: {}", one.words)]
        };
        let mut lines = table(&told.iter().map(row).collect::<Vec<_>>());
        if told.is_empty() {
            lines.push("no path is in conflict here".to_owned());
        }
        lines.extend(next.as_ref().map(|next| format!("next: {next}")));
        lines
    });
    Ok(if left == 0 { exit::OK } else { exit::FAILURE })
}

/// The paths that were asked for; all without any.
fn chosen(unmerged: Vec<Unmerged>, asked: &[PathBuf], here: &Path, root: &Path) -> Result<Vec<Unmerged>, CliError> {
    let mut wanted = vec![asked.is_empty(); unmerged.len()];
    for path in asked {
        let whole = plain(&here.join(path));
        let outside = || CliError::usage(format!("{} is not in this repository ({})", path.display(), root.display()));
        let inside = whole.strip_prefix(root).map_err(|_| outside())?;
        let mut any = false;
        for (one, wanted) in unmerged.iter().zip(&mut wanted) {
            if one.stages.path.starts_with(inside) {
                (any, *wanted) = (true, true);
            }
        }
        if !any {
            return Err(CliError::usage(format!("{} is not in conflict", path.display())).hint("`git status` names what is"));
        }
    }
    Ok(unmerged.into_iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|(one, _)| one).collect())
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut whole = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => _ = whole.pop(),
            Component::CurDir => {}
            part => whole.push(part),
        }
    }
    whole
}

fn settle(project: &Project, one: &Unmerged) -> Result<Told, CliError> {
    let path = one.stages.path.clone();
    let left = |words: &str| Told { path: path.clone(), answer: None, words: words.to_owned(), receipt: None };
    let mode = match mode(one) {
        Ok(mode) => mode,
        Err(words) => return Ok(left(words)),
    };
    let Some(versions) = versions(project, one)? else { return Ok(left("a version is missing here or has more than 64 MiB")) };
    let Some(instead_of) = project.working_file(&path)? else {
        return Ok(left("there is no ordinary file of this name in the working tree"));
    };
    let [base, ours, theirs] = &versions;
    let outcome = merge(&Sides { base, ours, theirs, path: &path.to_string_lossy() });
    let (bytes, receipt) = match outcome {
        Outcome::Declined { reason } => return Ok(left(reason)),
        Outcome::Conflict { receipt, .. } => {
            return Ok(Told { words: open(&receipt), receipt: Some(receipt), ..left("") });
        }
        Outcome::Clean { bytes, receipt } => (bytes, receipt),
    };
    if [ours, theirs].into_iter().any(|side| has_markers(side)) {
        return Ok(left("a version holds conflict markers itself"));
    }
    let answer = Resolved { path: path.clone(), bytes, mode, instead_of };
    if !project.is_as_git_left_it(one, &answer.instead_of, &versions)? && !project.holds(&answer)? {
        return Ok(Told {
            receipt: Some(receipt),
            ..left("the file is not as git left it: you have begun to resolve it, or another program has")
        });
    }
    Ok(Told { path, words: settled(&receipt), receipt: Some(receipt), answer: Some(answer) })
}

/// The mode of the result, or why the conflict is not one between two texts.
fn mode(one: &Unmerged) -> Result<EntryMode, &'static str> {
    let versions = &one.stages.versions;
    let modes = versions.each_ref().map(|version| version.as_ref().map_or(EntryMode::Absent, |(mode, _)| *mode));
    if modes.contains(&EntryMode::Gitlink) {
        return Err("a submodule: choose its commit");
    }
    if modes.contains(&EntryMode::Link) {
        return Err("a version is a link");
    }
    let [base, ours, theirs] = modes;
    match (base, ours, theirs) {
        (EntryMode::Absent, EntryMode::Absent, _) | (EntryMode::Absent, _, EntryMode::Absent) => {
            return Err("only one side has it under this name: a file or directory of the other is in the way, or both renamed one file");
        }
        (_, EntryMode::Absent, EntryMode::Absent) => return Err("no side has it under this name: both renamed it, each to another"),
        (_, EntryMode::Absent, _) => return Err("ours deleted or renamed it, theirs changed it: keep it (`git add`) or not (`git rm`)"),
        (_, _, EntryMode::Absent) => return Err("theirs deleted or renamed it, ours changed it: keep it (`git add`) or not (`git rm`)"),
        _ => {}
    }
    if !matches!(one.driver.as_str(), "unspecified" | "set" | "text" | "union" | "aedile") {
        return Err("its attributes name another way to merge it");
    }
    let mode = if ours == theirs || theirs == base {
        ours
    } else if ours == base {
        theirs
    } else {
        return Err("the sides gave it different modes");
    };
    if matches!(mode, EntryMode::File | EntryMode::Executable) { Ok(mode) } else { Err("a version is no ordinary file") }
}

/// The bytes of the three versions; a base that is not there is empty.
fn versions(project: &Project, one: &Unmerged) -> Result<Option<[Vec<u8>; 3]>, CliError> {
    let known = one.stages.versions.iter().flatten().map(|(_, id)| id.clone()).collect::<Vec<_>>();
    let mut found = project.blobs(&known, BYTES_MAX)?.into_iter();
    let mut next = |at: usize| if one.stages.versions[at].is_some() { found.next().flatten() } else { Some(Vec::new()) };
    let (base, ours, theirs) = (next(0), next(1), next(2));
    Ok((|| Some([base?, ours?, theirs?]))())
}

/// Whether a text holds a whole conflict.
fn has_markers(text: &[u8]) -> bool {
    let mut lines = text.split(|byte| *byte == b'\n');
    ["<<<<<<<", "=======", ">>>>>>>"].iter().all(|marker| lines.any(|line| line.starts_with(marker.as_bytes())))
}

/// Why a merge is no answer.
fn open(receipt: &Receipt) -> String {
    if let Some(refused) = &receipt.refused {
        return format!("every contested place could be settled, but the result is not believed: {refused}");
    }
    let (all, open) = (receipt.regions.len(), receipt.regions.iter().filter(|region| region.by.is_none()).count());
    if all == 1 {
        "the contested place is not settled by any rule".to_owned()
    } else {
        format!("{open} of {all} contested places are not settled by any rule")
    }
}

fn put_down(project: &Project, told: &mut [Told]) -> Result<(), CliError> {
    let answers: Vec<Resolved> = told.iter().filter_map(|one| one.answer.clone()).collect();
    let done = project.put_down(&answers)?;
    for (one, done) in told.iter_mut().filter(|one| one.answer.is_some()).zip(done) {
        if !done {
            one.answer = None;
            "the file was changed meanwhile".clone_into(&mut one.words);
        }
    }
    Ok(())
}

/// What to do now.
fn next(operation: Option<Operation>, open: bool, dry_run: bool) -> String {
    if dry_run {
        return "`aedile resolve` does it".to_owned();
    }
    if open {
        return "edit what is left between its markers and `git add` it".to_owned();
    }
    match operation {
        Some(Operation::Merge) => "look at `git diff --cached`, then `git commit`".to_owned(),
        Some(other) => format!("look at `git diff --cached`, then `git {} --continue`", other.command()),
        None => "look at `git diff --cached`; a stash that was popped is still there (`git stash drop`)".to_owned(),
    }
}

fn object(one: &Told) -> Value {
    let outcome = if one.answer.is_some() { "resolved" } else { "left" };
    let rules = one.receipt.iter().flat_map(|receipt| receipt.regions.iter().filter_map(|region| region.by));
    let rules: std::collections::BTreeSet<&str> = rules.collect();
    json!({ "path": one.path.to_string_lossy(), "outcome": outcome, "words": one.words, "by": rules, "receipt": one.receipt })
}
