//! Disk use of the state directory.

use std::path::Path;

use serde::Serialize;

/// Entries that are looked at; `status` must stay quick however much is kept.
const ENTRIES_MAX: usize = 500;

/// What the state directory takes.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Use {
    /// Bytes of the files that were looked at.
    pub bytes: u64,
    /// Whether all files were looked at.
    pub complete: bool,
}

impl Default for Use {
    fn default() -> Self {
        Self { bytes: 0, complete: true }
    }
}

/// Adds up the files below a directory, at most `ENTRIES_MAX` of them. What cannot be read counts as nothing.
pub fn measure(dir: &Path) -> Use {
    use std::os::unix::fs::MetadataExt;
    let mut used = Use::default();
    let mut open = vec![dir.to_owned()];
    let mut seen = 0;
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            seen += 1;
            if seen > ENTRIES_MAX {
                return Use { complete: false, ..used };
            }
            let Ok(data) = entry.metadata() else { continue };
            if data.is_dir() {
                open.push(entry.path());
            } else {
                used.bytes += data.blocks() * 512;
            }
        }
    }
    used
}

/// Writes bytes for people.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KB", "MB", "GB", "TB"];
    let mut rest = bytes / 1000;
    let mut unit = 0;
    while rest >= 10_000 && unit < 3 {
        rest /= 1000;
        unit += 1;
    }
    format!("{rest} {}", UNITS[unit])
}
