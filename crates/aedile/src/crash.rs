//! Crash points for tests: `AEDILE_CRASH_AT=NAME` or `NAME:N` kills the program as `kill -9` would.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::env;

static WANTED: OnceLock<(String, u32)> = OnceLock::new();
static PASSED: AtomicU32 = AtomicU32::new(0);

/// Installs the hook when the variable asks for it.
pub fn arm() {
    let Some(wanted) = env::text(env::CRASH_AT) else { return };
    let (name, times) = wanted.split_once(':').unwrap_or((&wanted, "1"));
    let _ = WANTED.set((name.to_owned(), times.parse().unwrap_or(1)));
    aedile_core::crash::install(hook);
}

fn hook(name: &'static str) {
    let Some((wanted, times)) = WANTED.get() else { return };
    if name == wanted && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *times {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
