//! The log file: JSON lines in the state directory, for what is not an event.

use std::path::Path;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;

use crate::env;

/// The directory of logs in the state directory.
pub const DIR: &str = "logs";

/// Starts logging to `<state>/logs/aedile.jsonl`. Without a place to write, nothing is logged; the program works all the same.
pub fn start(state: &Path) {
    let dir = state.join(DIR);
    let opened =
        std::fs::create_dir_all(&dir).and_then(|()| std::fs::OpenOptions::new().create(true).append(true).open(dir.join("aedile.jsonl")));
    let Ok(file) = opened else { return };
    let filter = EnvFilter::try_new(env::text(env::LOG).unwrap_or_else(|| "warn".to_owned())).unwrap_or_else(|_| EnvFilter::new("warn"));
    // A second start in one process keeps the first subscriber.
    let _ = tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(Mutex::new(file)).try_init();
}
