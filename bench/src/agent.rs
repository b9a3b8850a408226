//! Our coding agent without a screen: how soon its first request leaves, and what a run of three turns takes in memory.
//!
//! Beside it, where `claude` is on PATH, Claude Code does the same against the same model: a file is written, a command run, a word said. Both are
//! started directly, without a box; memory is the highest sum of resident pages (`VmRSS`) over the process and its descendants, looked at every
//! ten milliseconds, and never less than the process's own high-water mark.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::fake_model::FakeModel;
use crate::figure::{Amount, Figure, Target};
use crate::measure::{command, directory, find, median, millis, variable};

const ROUNDS: usize = 5;
const PEER_ROUNDS: usize = 3;
const RUN_LIMIT: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(10);
const PROMPT: &str = "Write the file and check it.";

/// One run of three turns.
struct Run {
    /// From the start of the process to its first request that offers tools.
    first_request: Duration,
    /// Bytes.
    peak: f64,
}

/// Measures our agent, and Claude Code where it is.
pub(crate) fn figures(program: &Path) -> anyhow::Result<Vec<Figure>> {
    let ours: Vec<Run> = (0..ROUNDS).map(|_| ours(program)).collect::<anyhow::Result<_>>()?;
    let theirs: Vec<Run> = match find("claude") {
        Ok(claude) => (0..PEER_ROUNDS).map(|_| theirs(&claude)).collect::<anyhow::Result<_>>()?,
        Err(_) => Vec::new(),
    };
    let first = |runs: &[Run]| Amount::millis(median(runs.iter().map(|run| millis(run.first_request)).collect()));
    let peak = |runs: &[Run]| Amount::megabytes(median(runs.iter().map(|run| run.peak).collect()));
    let row = |what: &str, of: &dyn Fn(&[Run]) -> Amount, target| match theirs.as_slice() {
        [] => Figure::alone(format!("{what} (no `claude` on PATH)"), of(&ours), target),
        theirs => Figure::beside(what, of(&ours), ("Claude Code", of(theirs)), target),
    };
    Ok(vec![
        row("agent, start to first request", &first, Target::AtMost(100.0)),
        row("agent, headless run of three turns, peak resident", &peak, Target::AtMost(60.0)),
    ])
}

fn ours(program: &Path) -> anyhow::Result<Run> {
    let (dir, model) = (directory()?, FakeModel::start()?);
    let (home, work) = (dir.path().join("home"), dir.path().join("work"));
    std::fs::create_dir_all(&home)?;
    std::fs::create_dir_all(&work)?;
    let mut agent = command(program);
    agent.arg("__agent").env_clear().env("PATH", variable("PATH")).env("HOME", &home).current_dir(&work);
    agent.env("AEDILE_DOOR", model.url()).env("AEDILE_MODEL", "anthropic/bench");
    agent.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let watched = Watched::start(agent)?;
    speak(&watched, &work)?;
    finish(watched, &model, &work)
}

/// A conversation over the agent protocol, until the prompt is answered.
fn speak(watched: &Watched, work: &Path) -> anyhow::Result<()> {
    let mut child = watched.child.lock().map_err(|_| anyhow::anyhow!("the sampler broke"))?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
    drop(child);
    let mut ask = |id: u64, method: &str, params: Value| -> anyhow::Result<Value> {
        writeln!(stdin, "{}", json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))?;
        loop {
            let line: Value = serde_json::from_str(&lines.next().context("the agent has ended")??)?;
            if line["id"] == id && line.get("method").is_none() {
                ensure!(line.get("error").is_none(), "{method}: {}", line["error"]);
                return Ok(line["result"].clone());
            }
        }
    };
    let capabilities = json!({"_meta": {"aedile": {"unattended": true}}});
    ask(1, "initialize", json!({"protocolVersion": 1, "clientCapabilities": capabilities}))?;
    let session = ask(2, "session/new", json!({"cwd": work, "mcpServers": []}))?["sessionId"].clone();
    let end = ask(3, "session/prompt", json!({"sessionId": session, "prompt": [{"type": "text", "text": PROMPT}]}))?;
    ensure!(end["stopReason"] == "end_turn", "the turn ended with {end}");
    Ok(())
}

fn theirs(claude: &Path) -> anyhow::Result<Run> {
    let (dir, model) = (directory()?, FakeModel::start()?);
    let (home, work) = (dir.path().join("home"), dir.path().join("work"));
    std::fs::create_dir_all(&home)?;
    std::fs::create_dir_all(&work)?;
    let mut agent = command(claude);
    agent.args(["-p", PROMPT, "--dangerously-skip-permissions", "--output-format", "stream-json", "--verbose"]);
    agent.env_clear().env("PATH", variable("PATH")).env("HOME", &home).current_dir(&work);
    agent.env("ANTHROPIC_BASE_URL", model.url()).env("ANTHROPIC_AUTH_TOKEN", "placeholder").env("IS_SANDBOX", "1");
    agent.env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
    agent.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let watched = Watched::start(agent)?;
    watched.wait()?;
    finish(watched, &model, &work)
}

fn finish(watched: Watched, model: &FakeModel, work: &Path) -> anyhow::Result<Run> {
    let started = watched.started;
    let peak = watched.end()?;
    ensure!(work.join("made.txt").is_file() && model.turns() >= 3, "the run was not whole: {} turns", model.turns());
    let first = model.first().context("no request came")?;
    Ok(Run { first_request: first.duration_since(started), peak })
}

/// A process whose memory is looked at.
struct Watched {
    child: std::sync::Arc<std::sync::Mutex<Child>>,
    pid: u32,
    started: Instant,
    over: std::sync::Arc<std::sync::atomic::AtomicBool>,
    sampler: std::thread::JoinHandle<f64>,
}

impl Watched {
    fn start(mut command: Command) -> anyhow::Result<Self> {
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let pid = child.id();
        let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let told = std::sync::Arc::clone(&over);
        let sampler = std::thread::spawn(move || {
            let mut peak: f64 = 0.0;
            while !told.load(std::sync::atomic::Ordering::Relaxed) {
                peak = peak.max(resident(pid)).max(status(pid, "VmHWM:"));
                std::thread::sleep(LOOK_EVERY);
            }
            peak
        });
        Ok(Self { child: std::sync::Arc::new(std::sync::Mutex::new(child)), pid, started, over, sampler })
    }

    fn wait(&self) -> anyhow::Result<()> {
        let mut child = self.child.lock().map_err(|_| anyhow::anyhow!("the sampler broke"))?;
        while self.started.elapsed() < RUN_LIMIT {
            if let Some(status) = child.try_wait()? {
                ensure!(status.success(), "the process {} ended with {status}", self.pid);
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        child.kill()?;
        bail!("no end after {} s", RUN_LIMIT.as_secs())
    }

    /// Ends the process and returns the most memory that it had, in bytes.
    fn end(self) -> anyhow::Result<f64> {
        self.over.store(true, std::sync::atomic::Ordering::Relaxed);
        let peak = self.sampler.join().map_err(|_| anyhow::anyhow!("the sampler broke"))?;
        let mut child = self.child.lock().map_err(|_| anyhow::anyhow!("the sampler broke"))?;
        if child.try_wait()?.is_none() {
            child.kill()?;
            child.wait()?;
        }
        ensure!(peak > 0.0, "the memory of {} was not seen", self.pid);
        Ok(peak)
    }
}

/// The resident bytes of a process and its descendants.
fn resident(pid: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let below: f64 =
        children.flat_map(|pids| pids.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()).map(resident).sum();
    below + status(pid, "VmRSS:")
}

fn status(pid: u32, name: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kilobytes = text.lines().find_map(|line| line.strip_prefix(name)?.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kilobytes.unwrap_or_default() * 1024.0
}
