//! What the figures were measured on.

use std::fmt;

use serde_json::{Value, json};

/// The machine.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    cores: usize,
    model: String,
    kernel: String,
    memory_mb: u64,
    load: String,
    git: String,
}

/// Asks the kernel.
pub(crate) fn describe() -> anyhow::Result<Machine> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |path: &str, name: &str| {
        let text = read(path);
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let memory = field("/proc/meminfo", "MemTotal");
    let git = crate::measure::command("git").arg("--version").output()?;
    Ok(Machine {
        cores: std::thread::available_parallelism()?.get(),
        model: field("/proc/cpuinfo", "model name"),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        memory_mb: memory.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1000,
        load: read("/proc/loadavg").split_whitespace().take(1).collect(),
        git: String::from_utf8_lossy(&git.stdout).trim().to_owned(),
    })
}

impl Machine {
    /// The machine as an object.
    pub(crate) fn to_json(&self) -> Value {
        let Self { cores, model, kernel, memory_mb, load, git } = self;
        json!({ "cores": cores, "model": model, "kernel": kernel, "memory_mb": memory_mb, "load": load, "git": git })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let model = if self.model.is_empty() { "a CPU without a name" } else { &self.model };
        let Self { cores, kernel, memory_mb, load, git, .. } = self;
        write!(f, "{cores} cores of {model}, {memory_mb} MB, Linux {kernel}, {git}; load at the start {load}")
    }
}
