//! `aedile sandbox exec`.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aedile_core::egress::proxy_env;
use aedile_core::sandbox::{BoxChild, BoxExit, BoxLimits, BoxMount, BoxNet, BoxSpec, SandboxError, TRUST_INSIDE};
use aedile_core::scope::Scope;
use aedile_sandbox::{BoxNote, Change, ChangeKind, Cow, ExecRequest, Guard, NativeChild, NativeSandbox, exec_spec, not_started};
use clap::{Args, ValueEnum};
use rustix::process::getpgrp;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::policy::Policy;
use super::relay::{self, Relay};
use super::unfinished;
use crate::error::{CliError, CliResult};
use crate::output::{self, Output};
use crate::{env, host, open_door, state, wiring};

/// Changes that are listed one by one.
const LISTED_MAX: usize = 200;
/// Characters of a path that are shown.
const PATH_CHARS_MAX: usize = 300;

#[derive(Debug, Args)]
pub struct ExecArgs {
    /// The directory: its own path and the working directory in the box
    ///
    /// Without --write and --cow the command writes to it at once, except to what runs code outside the box: git's hooks and configuration, and
    /// the settings of editors, shells, package managers, agents and CI. Such files stay as they are, and new ones are moved to the state
    /// directory afterwards. Files that have a further name (a hard link) outside DIR are read-only, and files for secrets (`.env`, keys) are
    /// empty.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Of what is there, only what this glob (relative to DIR) allows is writable; may be repeated
    ///
    /// `.git` of DIR and the repositories that lie in writable directories stay as they are, and DIR gets none when it has none. New entries
    /// can also come up beside what a glob for single files allows. A name of the tool configuration is approved by a glob that names it. A
    /// glob that cannot be held, because of a symbolic link beside what it allows for example, is refused.
    #[arg(long, value_name = "GLOB")]
    write: Vec<String>,
    /// Show this file or directory read-only at its own path; may be repeated
    #[arg(long, value_name = "PATH")]
    ro: Vec<PathBuf>,
    /// Set a variable in the box; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// What the box reaches
    #[arg(long, value_enum, default_value_t = Net::None)]
    net: Net,
    /// A file with [limits], [write] and [read] rules (docs/security.md), which narrow the options here as they narrow it
    ///
    /// The policies of this host (/etc/aedile/policy.toml, and policy.toml beside your config.toml) narrow it and the options. Its [[network]]
    /// rules (docs/policy.md) count with --net door: the door is then a proxy for what they allow, in HTTP and HTTPS.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Bytes of memory of the whole box; 2 GiB when absent
    #[arg(long, value_name = "BYTES")]
    mem: Option<u64>,
    /// Processes and threads; 512 when absent
    #[arg(long, value_name = "N")]
    pids: Option<u64>,
    /// Seconds after which the box is ended, with exit code 124
    #[arg(long, value_name = "SECONDS")]
    time: Option<u64>,
    /// Work on a copy of DIR; at the end the changes go to DIR, except those that are refused, which are listed with their rule
    #[arg(long)]
    cow: bool,
    /// With --cow: show the changes at the end and ask before they are made
    #[arg(long, requires = "cow")]
    review: bool,
    /// With --cow: throw the changes away at the end
    #[arg(long, requires = "cow", conflicts_with = "review")]
    discard: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Net {
    /// Nothing
    None,
    /// The gateway's door at http://127.0.0.1:7070, for the model that `[agents] model` of aedile.toml in DIR names
    Door,
}

/// What becomes of the command's writing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writing {
    AtOnce,
    Filtered,
    Reviewed,
    Discarded,
}

/// Runs `aedile sandbox exec`.
pub fn cmd_exec(args: &ExecArgs, out: Output) -> CliResult {
    let (dir, net) = (args.dir.clone(), args.net);
    let writing = match (args.cow, args.review, args.discard) {
        (false, ..) => Writing::AtOnce,
        (true, false, false) => Writing::Filtered,
        (true, true, _) => Writing::Reviewed,
        (true, _, true) => Writing::Discarded,
    };
    if writing == Writing::Reviewed && !out.can_ask() {
        return Err(CliError::usage("--review needs a terminal at which you can be asked")
            .hint("with --cow alone the changes go to DIR, with --cow --discard they do not"));
    }
    check_streams()?;
    let state = state::dir()?;
    unfinished::finish(&state, out);
    let policy = Policy::read(args.policy.as_deref())?;
    let guard = Guard { protect: true, mask: true, hide: policy.hide(), show: policy.show() };
    if policy.reaches() && net == Net::None {
        out.warn("note: the [[network]] rules of the policy count with --net door only; this box reaches nothing");
    }
    let mut spec = exec_spec(request(args, &policy)?, env::home().as_deref(), &state)?;
    spec.write = policy.scope(&args.write, spec.tree.as_deref().unwrap_or(&dir), writing != Writing::AtOnce)?;
    let place = Place::of_this_process(&state);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let job = Job { spec, guard, dir: &dir, net, policy, writing, out };
    let exit = runtime.block_on(job.run(&place.0));
    runtime.shutdown_background();
    drop(place);
    Ok(match exit? {
        BoxExit::Code(code) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
        // As a shell says it.
        BoxExit::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        BoxExit::TimedOut => 124,
    })
}

/// Where the box puts copies down, if it needs any: below the state directory, named after this process. It goes when it is empty; what could
/// not be given back to DIR and what was moved away stays there, and `aedile clean` removes it in its time.
struct Place(PathBuf);

/// The directory of such places in the state directory; each is named `PID-START`.
pub const EXEC: &str = "exec";

/// The certificate that the box believes its door by, in such a place.
const CERTIFICATE: &str = "door.pem";

impl Place {
    fn of_this_process(state: &Path) -> Self {
        let pid = std::process::id();
        Self(state.join(EXEC).join(format!("{pid}-{}", host::start_time(pid).unwrap_or_default())))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Public, and of no use without its gateway.
        let _ = std::fs::remove_file(self.0.join(CERTIFICATE));
        for dir in [&self.0.join("boxes"), &self.0] {
            // Fails when it was never made or holds something, and both is well.
            let _ = std::fs::remove_dir(dir);
        }
    }
}

/// A directory or a disk as one of our streams would be a way for the command round the box.
fn check_streams() -> Result<(), CliError> {
    use rustix::fs::{FileType, fstat};
    let kinds = [fstat(std::io::stdin()), fstat(std::io::stdout()), fstat(std::io::stderr())];
    for (kind, name) in kinds.into_iter().zip(["stdin", "stdout", "stderr"]) {
        let kind = kind.map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode));
        if matches!(kind, FileType::Directory | FileType::BlockDevice) {
            return Err(CliError::usage(format!("{name} is a directory or a disk, which the command would have in its box"))
                .hint("give it a file, a pipe or /dev/null"));
        }
    }
    Ok(())
}

fn request(args: &ExecArgs, policy: &Policy) -> Result<ExecRequest, CliError> {
    let env = args.env.iter().map(|pair| match pair.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(CliError::usage(format!("--env {pair:?} must be written NAME=VALUE"))),
    });
    Scope::new(&args.write).map_err(|bad| {
        CliError::usage(format!("--write {:?} {}", bad.glob, bad.problem))
            .hint("globs are relative to DIR: `src/**` is everything below DIR/src")
    })?;
    let wall = args.time.map(Duration::from_secs);
    let flags = BoxLimits { processes: args.pids, memory_bytes: args.mem, wall, ..BoxLimits::default() };
    let mut env = env.collect::<Result<Vec<_>, CliError>>()?;
    if policy.reaches() && args.net == Net::Door {
        add(&mut env, proxy_env());
    }
    Ok(ExecRequest {
        env,
        dir: args.dir.clone(),
        write: Vec::new(),
        read_only: args.ro.clone(),
        net: if args.net == Net::Door { BoxNet::Door } else { BoxNet::None },
        command: args.command.clone(),
        limits: policy.limits(&flags)?,
        io: relay::streams(),
    })
}

/// Adds variables to those that the person gave, which stay as they are.
fn add(env: &mut Vec<(String, String)>, more: Vec<(String, String)>) {
    let new: Vec<_> = more.into_iter().filter(|(name, _)| env.iter().all(|(given, _)| given != name)).collect();
    env.extend(new);
}

/// One command in its box.
struct Job<'a> {
    spec: BoxSpec,
    guard: Guard,
    dir: &'a Path,
    net: Net,
    /// What the door is held to, and passes on as a proxy.
    policy: Policy,
    writing: Writing,
    out: Output,
}

impl Job<'_> {
    async fn run(mut self, place: &Path) -> Result<BoxExit, CliError> {
        let sandbox = wiring::persons_sandbox(place)?;
        let opener = match self.net {
            Net::None => None,
            Net::Door => Some(open_door::Opener::for_directory(self.dir, &self.policy)?),
        };
        if let Some(trust) = opener.as_ref().map(open_door::Opener::trust).transpose()?.flatten() {
            let host = place.join(CERTIFICATE);
            std::fs::create_dir_all(place)?;
            std::fs::write(&host, &trust.pem)?;
            self.spec.mounts.push(BoxMount { host, inside: TRUST_INSIDE.into(), writable: false });
            add(&mut self.spec.env, trust.env);
            // Secrets go nowhere but through TLS.
            add(&mut self.spec.env, opener.as_ref().map_or_else(Vec::new, open_door::Opener::placeholders));
        }
        // From here on no signal ends this process before the box is watched.
        let mut signals = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
        let (out, writing) = (self.out, self.writing);
        let (mut child, cow) = self.start(&sandbox)?;
        tell(out, child.take_notes());
        let door = match (&opener, child.take_door()) {
            (Some(opener), Some(listener)) => Some(opener.open(listener)?),
            _ => None,
        };
        let relay = child.take_terminal().map(Relay::start).transpose()?;
        let exit = watch(&mut child, &mut signals, relay.as_ref()).await;
        // Gives the terminal back to the person before anything is said.
        drop(relay);
        tell(out, child.take_notes());
        drop(door);
        drop(child);
        if let Some(opener) = opener {
            opener.settled().await;
        }
        if let Some(cow) = cow {
            finish(out, writing, cow)?;
        }
        exit
    }

    fn start(self, sandbox: &NativeSandbox) -> Result<(NativeChild, Option<Cow>), CliError> {
        let program = self.spec.command.first().cloned().unwrap_or_default();
        let started = if self.writing == Writing::AtOnce {
            sandbox.spawn_guarded(self.spec, &self.guard).map(|child| (child, None))
        } else {
            sandbox.spawn_on_copy(self.spec, &self.guard).map(|(child, cow)| (child, Some(cow)))
        };
        started.map_err(|error: SandboxError| match not_started(&error) {
            Some(code) => CliError::new(code, format!("{program} was not started in the box: {error}"))
                .hint("the box sees the system's programs, the toolchains that `aedile doctor` lists, DIR and what --ro names"),
            None => error.into(),
        })
    }
}

/// Tells the person on stderr what was held, hidden, ended or moved away.
pub(super) fn tell(out: Output, notes: Vec<BoxNote>) {
    for note in notes {
        let path = output::one_line(&note.path.to_string_lossy(), PATH_CHARS_MAX);
        let about = if path.is_empty() { String::new() } else { format!("{path} ") };
        out.warn(format!("note: {about}{} [{}]", note.words, note.rule));
    }
}

/// Brings the changes of the copy to DIR, or not.
fn finish(out: Output, writing: Writing, cow: Cow) -> Result<(), CliError> {
    let changes = cow.changes()?;
    let refused = |change: &&Change| change.refused.is_some();
    let listed = |change: &Change| {
        let path = output::one_line(&change.path.to_string_lossy(), PATH_CHARS_MAX);
        match (&change.refused, change.kind) {
            (Some((rule, words)), _) => format!("refused: {path} {words} [{rule}]"),
            (None, ChangeKind::Added) => format!("  added    {path}"),
            (None, ChangeKind::Changed) => format!("  changed  {path}"),
            (None, ChangeKind::Removed) => format!("  removed  {path}"),
        }
    };
    let say = |changes: Vec<&Change>| {
        changes.iter().take(LISTED_MAX).for_each(|change| out.warn(listed(change)));
        if changes.len() > LISTED_MAX {
            out.warn(format!("  and {} more", changes.len() - LISTED_MAX));
        }
    };
    match writing {
        Writing::Discarded => {
            out.warn(format!("note: {} changes were thrown away", changes.len()));
            return Ok(());
        }
        Writing::Reviewed => {
            say(changes.iter().collect());
            let allowed = changes.len() - changes.iter().filter(refused).count();
            if allowed > 0 && !out.ask(&format!("Make these {allowed} changes? The copy is in {}.", cow.path().display())) {
                out.warn("note: nothing was changed");
                return Ok(());
            }
        }
        Writing::Filtered | Writing::AtOnce => say(changes.iter().filter(refused).collect()),
    }
    if let Some(kept) = cow.apply(&changes)? {
        out.warn(format!("note: what was refused is kept in {}", kept.display()));
    }
    Ok(())
}

/// Waits for the box. A signal to us is handed on as a request to end; a second one kills. Ctrl-C on a terminal is none of that: the command
/// is to answer it as it would without a box. It has it already where it shares our terminal; at one of its own it is given it as a key.
async fn watch(child: &mut dyn BoxChild, [interrupt, term, hang]: &mut [Signal; 3], relay: Option<&Relay>) -> Result<BoxExit, CliError> {
    let mut asked = false;
    let mut resized = signal(SignalKind::window_change())?;
    loop {
        let from_terminal = tokio::select! {
            exit = child.wait() => return Ok(exit?),
            _ = resized.recv() => {
                relay.inspect(|relay| relay.resize());
                continue;
            }
            _ = interrupt.recv() => on_terminal(),
            _ = term.recv() => false,
            _ = hang.recv() => false,
        };
        if from_terminal {
            relay.inspect(|relay| relay.interrupt());
            continue;
        }
        if asked {
            child.kill();
        } else {
            child.terminate();
        }
        asked = true;
    }
}

/// Whether this process and the command are what the terminal's keys reach.
fn on_terminal() -> bool {
    let reached = |fd: BorrowedFd<'_>| rustix::termios::tcgetpgrp(fd).is_ok_and(|group| group == getpgrp());
    [std::io::stdin().as_fd(), std::io::stdout().as_fd(), std::io::stderr().as_fd()].into_iter().any(reached)
}
