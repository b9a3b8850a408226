//! What a box costs: the time to the first byte of the program in it, beside the same program without a box.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Barrier};
use std::time::Instant;

use aedile_core::sandbox::{BoxIo, BoxLimits, BoxNet, BoxSpec, Sandbox, WORKSPACE_INSIDE, WriteScope};
use aedile_sandbox::{NativeSandbox, SandboxConfig, TOOL_VARIABLES, ToolSearch, Trees, discover};
use anyhow::Context;

use crate::figure::{Amount, Figure, Target};
use crate::measure::{command, directory, median, millis, runtime, variable};

const ROUNDS: usize = 61;
const AT_ONCE: usize = 16;
const AT_ONCE_ROUNDS: usize = 5;

/// Measures one box after the other, in turns with bare processes, then sixteen at once.
pub(crate) fn figures(program: &Path) -> anyhow::Result<Vec<Figure>> {
    let holder = directory()?;
    let host = Host::new(program, holder.path())?;
    let (mut bare, mut boxed) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(bare_first_byte()?);
        boxed.push(host.first_byte()?);
    }
    let mut at_once = Vec::new();
    let mut bare_at_once = Vec::new();
    for _ in 0..AT_ONCE_ROUNDS {
        at_once.push(all_first_bytes(|ready| host.held_first_byte(ready))?);
        bare_at_once.push(all_first_bytes(bare_held_first_byte)?);
    }
    let peer = ("bare fork+exec", Amount::millis(median(bare)));
    let all = ("16 bare", Amount::millis(median(bare_at_once)));
    Ok(vec![
        Figure::beside(
            "box: asked for, to the first byte of `/bin/echo` in it, p50",
            Amount::millis(median(boxed)),
            peer,
            Target::MoreAtMost(25.0),
        ),
        Figure::beside("16 boxes started at once, to all first bytes", Amount::millis(median(at_once)), all, Target::AtMost(2000.0)),
    ])
}

/// A sandbox with the person's tools, and an agent's tree and home.
struct Host {
    sandbox: NativeSandbox,
    tree: PathBuf,
    home: PathBuf,
}

impl Host {
    fn new(program: &Path, dir: &Path) -> anyhow::Result<Self> {
        let path = std::env::split_paths(&variable("PATH")).collect();
        let variables = TOOL_VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), variable(name).into_string().ok()?)));
        let search = ToolSearch {
            programs: Vec::new(),
            home: Some(PathBuf::from(variable("HOME"))).filter(|home| home.is_absolute()),
            path,
            candidates: Vec::new(),
            variables: variables.filter(|(_, value)| !value.is_empty()).collect(),
            state_dir: Some(dir.to_owned()),
        };
        let (tree, home, runtime_dir) = (dir.join("tree"), dir.join("home"), dir.join("boxes"));
        for dir in [&tree, &home, &runtime_dir, &tree.join("src/auth"), &tree.join(".git")] {
            std::fs::create_dir_all(dir)?;
        }
        let config = SandboxConfig {
            launcher: program.to_owned(),
            toolchains: discover(&search),
            runtime_dir,
            trees: Trees::Own(vec![dir.to_owned()]),
        };
        Ok(Self { sandbox: NativeSandbox::new(config)?, tree, home })
    }

    /// The box of an agent: a scope, a home and a door.
    fn spec(&self, command: &[&str]) -> BoxSpec {
        BoxSpec {
            label: "bench".to_owned(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            tree: Some(self.tree.clone()),
            tree_inside: WORKSPACE_INSIDE.into(),
            write: WriteScope::Globs { globs: vec!["src/auth/**".to_owned()], also: vec![".git".to_owned()], except: Vec::new() },
            mounts: Vec::new(),
            home: Some(self.home.clone()),
            env: Vec::new(),
            net: BoxNet::Door,
            limits: BoxLimits::default(),
            io: BoxIo::Captured,
        }
    }

    fn first_byte(&self) -> anyhow::Result<f64> {
        let start = Instant::now();
        let mut child = self.sandbox.spawn(self.spec(&["/bin/echo", "x"]))?;
        read_one(child.take_stdout().context("no stdout")?.into())?;
        let time = millis(start.elapsed());
        runtime()?.block_on(child.wait())?;
        Ok(time)
    }

    /// The box stays until every other one has spoken.
    fn held_first_byte(&self, ready: &Barrier) -> anyhow::Result<()> {
        let child = self.sandbox.spawn(self.spec(&["/bin/sh", "-c", "echo x; exec sleep 60"]));
        let done = child.map_err(anyhow::Error::from).and_then(|mut child| {
            read_one(child.take_stdout().context("no stdout")?.into())?;
            Ok(child)
        });
        ready.wait();
        // Dropping the box kills it.
        done.map(drop)
    }
}

fn read_one(mut from: File) -> anyhow::Result<()> {
    from.read_exact(&mut [0_u8]).context("the program said nothing")
}

fn bare_first_byte() -> anyhow::Result<f64> {
    let start = Instant::now();
    let mut child = command("/bin/echo").arg("x").stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    child.stdout.take().context("no stdout")?.read_exact(&mut [0_u8])?;
    let time = millis(start.elapsed());
    child.wait()?;
    Ok(time)
}

fn bare_held_first_byte(ready: &Barrier) -> anyhow::Result<()> {
    let child = command("/bin/sh").args(["-c", "echo x; exec sleep 60"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let read = child.map_err(anyhow::Error::from).and_then(|mut child| {
        child.stdout.take().context("no stdout")?.read_exact(&mut [0_u8])?;
        Ok(child)
    });
    ready.wait();
    let mut child = read?;
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// Starts sixteen and returns the milliseconds until each has given its first byte; `one` waits at the barrier then.
fn all_first_bytes(one: impl Fn(&Barrier) -> anyhow::Result<()> + Sync) -> anyhow::Result<f64> {
    let ready = Arc::new(Barrier::new(AT_ONCE + 1));
    let start = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(|| one(&ready))).collect();
        ready.wait();
        let time = millis(start.elapsed());
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a thread broke"))??;
        }
        Ok(time)
    })
}
