//! The shell of a session: which program it is and where it stands between calls.

use aedile_core::limits::TOOL_OUTPUT_BYTES_MAX;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::files::create_beside;
use crate::place::Place;
use crate::spawner::{Running, start};

/// The shell's state.
pub(crate) struct Shell {
    pub(crate) place: Arc<Place>,
    cwd: Mutex<PathBuf>,
    program: &'static str,
}

/// A file in which a command leaves its last working directory. Removed when dropped.
pub(crate) struct CwdFile(PathBuf);

impl Drop for CwdFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Shell {
    pub(crate) fn new(place: Arc<Place>) -> Self {
        let program = ["/bin/bash", "/usr/bin/bash"].into_iter().find(|path| Path::new(path).exists()).unwrap_or("/bin/sh");
        let cwd = Mutex::new(place.root().to_owned());
        Self { place, cwd, program }
    }

    /// Where the next command starts. A directory that is gone gives the root and `true`.
    pub(crate) fn cwd(&self) -> (PathBuf, bool) {
        let mut cwd = self.cwd.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = !cwd.is_dir();
        if gone {
            self.place.root().clone_into(&mut cwd);
        }
        (cwd.clone(), gone)
    }

    /// Starts a command that leaves its working directory behind.
    pub(crate) fn foreground(&self, command: &str, cwd: &Path, limit: Duration) -> io::Result<(Running, Option<CwdFile>)> {
        let file = create_beside(&std::env::temp_dir()).ok().map(|(path, _)| CwdFile(path));
        let Some(path) = file.as_ref().and_then(|file| file.0.to_str()).filter(|path| !path.contains('\'')) else {
            return Ok((start(self.program, &["-c", command], cwd, Some(limit), TOOL_OUTPUT_BYTES_MAX)?, None));
        };
        // The trap also runs when the command calls `exit`. Its path is put in literally, since the command may change `$1`.
        // It runs at a signal as well, when the file may be gone already and must not come back.
        let script = format!("trap '[ ! -e '\\''{path}'\\'' ] || pwd -P >'\\''{path}'\\'' 2>/dev/null' EXIT\neval \"$1\"");
        let running = start(self.program, &["-c", &script, "bash", command], cwd, Some(limit), TOOL_OUTPUT_BYTES_MAX)?;
        Ok((running, file))
    }

    /// Starts a command that goes on by itself.
    pub(crate) fn background(&self, command: &str, cwd: &Path) -> io::Result<Running> {
        start(self.program, &["-c", command], cwd, None, TOOL_OUTPUT_BYTES_MAX)
    }

    /// Takes over the working directory that a command left.
    pub(crate) fn take_cwd(&self, file: &CwdFile) {
        let Ok(text) = fs::read_to_string(&file.0) else { return };
        let path = PathBuf::from(text.strip_suffix('\n').unwrap_or(&text));
        if path.is_absolute() && path.is_dir() {
            *self.cwd.lock().unwrap_or_else(PoisonError::into_inner) = path;
        }
    }
}
