//! The shell of a session: which program it is, and what a command finds that an earlier one left.
//!
//! Each command runs in a process of its own, so that a time limit or an `exit` costs nothing but that command. At its end it leaves its
//! directory, variables and functions in a file, from which the next one begins.

use aedile_core::limits::TOOL_OUTPUT_BYTES_MAX;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::capture::Capture;
use crate::place::Place;
use crate::spawner::{Running, start};

/// What saves the state.
const SAVE: &str = include_str!("shell.sh");
/// Puts the saved state in place: what was exported and is not any more goes, then everything is set as it was.
const RESTORE: &str = "\
if [ -r \"$__aedile_last\" ]; then
for __aedile_name in $(compgen -e); do case $__aedile_name in PWD | SHLVL) ;; *) unset \"$__aedile_name\" 2>/dev/null ;; esac; done
. \"$__aedile_last\" 2>/dev/null
fi
unset __aedile_name __aedile_last
";
/// A larger state is not kept.
const STATE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The end of a state that was written whole.
const STATE_END: &str = "# whole\n";
/// Files with whole outputs that are kept; the oldest goes.
const OUTPUTS_MAX: u64 = 8;

/// The shell's state.
pub(crate) struct Shell {
    pub(crate) place: Arc<Place>,
    program: &'static str,
    kept: Mutex<Kept>,
    next: AtomicU64,
    directory: PathBuf,
}

struct Kept {
    cwd: PathBuf,
    /// The file with variables and functions.
    state: Option<PathBuf>,
}

/// The file in which a command leaves its state. Removed when dropped, unless it was taken over.
pub(crate) struct StateFile(PathBuf);

impl Drop for StateFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
        let _ = fs::remove_file(cwd_of(&self.0));
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn cwd_of(state: &Path) -> PathBuf {
    state.with_added_extension("cwd")
}

impl Shell {
    pub(crate) fn new(place: Arc<Place>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let program = ["/bin/bash", "/usr/bin/bash"].into_iter().find(|path| Path::new(path).exists()).unwrap_or("/bin/sh");
        let name = format!("aedile-shell-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let kept = Mutex::new(Kept { cwd: place.root().to_owned(), state: None });
        Self { place, program, kept, next: AtomicU64::new(1), directory: std::env::temp_dir().join(name) }
    }

    /// Whether variables and functions are kept; a shell that is not bash keeps only its directory.
    pub(crate) fn keeps_variables(&self) -> bool {
        self.program.ends_with("bash")
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the next command starts. A directory that is gone gives the root and `true`.
    pub(crate) fn cwd(&self) -> (PathBuf, bool) {
        let mut kept = self.kept();
        let gone = !kept.cwd.is_dir();
        if gone {
            self.place.root().clone_into(&mut kept.cwd);
        }
        (kept.cwd.clone(), gone)
    }

    /// Makes the directory of the shell's files, also anew when a command has removed it.
    fn own_directory(&self) -> io::Result<&Path> {
        match DirBuilder::new().mode(0o700).create(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && self.directory.is_dir() => {}
            done => done?,
        }
        Ok(&self.directory)
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Starts a command that leaves its state behind.
    pub(crate) fn foreground(&self, command: &str, cwd: &Path, limit: Duration) -> io::Result<(Running, Option<StateFile>)> {
        let number = self.number();
        let file = self.own_directory().ok().map(|directory| directory.join(format!("state-{number}")));
        let file = file.and_then(|path| fs::write(&path, "").is_ok().then_some(StateFile(path)));
        let Some(path) = file.as_ref().and_then(|file| file.0.to_str()).filter(|path| !path.contains('\'')) else {
            return Ok((start(self.program, &["-c", command], cwd, Some(limit), self.capture(number))?, None));
        };
        // The trap also runs when the command calls `exit`, and at a signal, when the file may be gone and must not come back. A command that
        // sets an EXIT trap of its own keeps it, since the state is saved before. Nothing of it is seen even under `set -x`.
        let script = if self.keeps_variables() {
            let save = self.save_script()?;
            format!(
                "{}__aedile_state='{path}'\ntrap '{{ . '\\''{save}'\\''; }} 2>/dev/null' EXIT\neval \"$1\"\n\
                 {{ __aedile_code=$?; . '{save}'; __aedile_state=; }} 2>/dev/null\nexit $__aedile_code",
                self.restore()
            )
        } else {
            format!("trap '[ ! -e '\\''{path}'\\'' ] || pwd -P >'\\''{path}.cwd'\\'' 2>/dev/null' EXIT\neval \"$1\"")
        };
        let running = start(self.program, &["-c", &script, "bash", command], cwd, Some(limit), self.capture(number))?;
        Ok((running, file))
    }

    /// Starts a command that goes on by itself, from the present state.
    pub(crate) fn background(&self, command: &str, cwd: &Path) -> io::Result<Running> {
        let script = format!("{}eval \"$1\"", self.restore());
        start(self.program, &["-c", &script, "bash", command], cwd, None, self.capture(self.number()))
    }

    fn restore(&self) -> String {
        match self.kept().state.as_ref().and_then(|state| state.to_str()) {
            Some(state) => format!("__aedile_last='{state}'\n{RESTORE}"),
            None => String::new(),
        }
    }

    fn save_script(&self) -> io::Result<String> {
        let path = self.own_directory()?.join("save");
        if !path.exists() {
            fs::write(&path, SAVE)?;
        }
        Ok(path.display().to_string())
    }

    /// Memory for an output, with a file for the whole of a long one.
    fn capture(&self, number: u64) -> Capture {
        let file = |number: u64| self.directory.join(format!("output-{number}.txt"));
        if let Some(old) = number.checked_sub(OUTPUTS_MAX) {
            self.drop_outputs(old);
        }
        let path = self.own_directory().ok().map(|_| file(number));
        Capture::new(TOOL_OUTPUT_BYTES_MAX, path)
    }

    /// Removes outputs of commands up to a number.
    fn drop_outputs(&self, last: u64) {
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("output-")?.strip_suffix(".txt")?.parse::<u64>().ok());
            if number.is_some_and(|number| number <= last) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Takes over the state that a command left. Says what was not kept.
    pub(crate) fn take(&self, file: &StateFile) -> Option<String> {
        let mut kept = self.kept();
        if let Ok(text) = fs::read_to_string(cwd_of(&file.0)) {
            let path = PathBuf::from(text.strip_suffix('\n').unwrap_or(&text));
            if path.is_absolute() && path.is_dir() {
                kept.cwd = path;
            }
        }
        if !self.keeps_variables() {
            return None;
        }
        let bytes = fs::metadata(&file.0).map_or(0, |meta| meta.len());
        if bytes > STATE_BYTES_MAX {
            return Some(format!("the command's variables take {bytes} bytes, more than {STATE_BYTES_MAX}, and were not kept"));
        }
        // A command that ended otherwise (`exec`, a signal) left nothing.
        if fs::read(&file.0).is_ok_and(|state| state.ends_with(STATE_END.as_bytes())) {
            let state = self.directory.join("state");
            if fs::rename(&file.0, &state).is_ok() {
                kept.state = Some(state);
            }
        }
        None
    }
}
