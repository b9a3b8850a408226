//! A person at a terminal: the program's streams are a pseudo-terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use aedile_testkit::wait_for;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::scenario::LIMIT;

/// The program at a terminal.
pub(crate) struct Terminal {
    child: Child,
    keys: File,
    screen: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Terminal {
    /// Starts the command at a new terminal.
    pub(crate) fn start(command: Command) -> Self {
        Self::start_with(command, [true; 3])
    }

    /// Starts the command with these of stdin, stdout and stderr at a new terminal; the others are as the command says.
    pub(crate) fn start_with(mut command: Command, [stdin, stdout, stderr]: [bool; 3]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let name = name.to_str().unwrap();
        let slave = || File::options().read(true).write(true).open(name).unwrap();
        if stdin {
            command.stdin(slave());
        }
        if stdout {
            command.stdout(slave());
        }
        if stderr {
            command.stderr(slave());
        }
        let child = command.spawn().unwrap();
        // The command keeps its ends open: without them the terminal closes when the program ends.
        drop(command);
        let keys = File::from(master);
        let (mut from, screen) = (keys.try_clone().unwrap(), Arc::new(Mutex::new(String::new())));
        let to = Arc::clone(&screen);
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count) = from.read(&mut bytes)
                && count > 0
            {
                to.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Self { child, keys, screen, reader: Some(reader) }
    }

    /// Types a line.
    pub(crate) fn type_line(&self, text: &str) {
        self.type_text(&format!("{text}\n"));
    }

    /// Types.
    pub(crate) fn type_text(&self, text: &str) {
        (&self.keys).write_all(text.as_bytes()).unwrap();
    }

    /// Types on while the test goes on, as far as it is taken.
    pub(crate) fn type_in_background(&self, text: String) {
        let mut keys = self.keys.try_clone().unwrap();
        std::thread::spawn(move || {
            let _ = keys.write_all(text.as_bytes());
        });
    }

    /// Gives the terminal another size, without telling the program.
    pub(crate) fn resize(&self, size: Winsize) {
        tcsetwinsize(&self.keys, size).unwrap();
    }

    /// Waits for the end of the program and returns how it left the terminal set.
    pub(crate) fn settings_at_end(&mut self) -> Termios {
        wait_for("the end of the program", LIMIT, || self.child.try_wait().unwrap());
        tcgetattr(&self.keys).unwrap()
    }

    /// Sends the program a signal by name.
    #[expect(clippy::disallowed_methods, reason = "a test acts as the person who presses a key")]
    pub(crate) fn signal(&self, name: &str) {
        Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
    }

    /// Waits until the text is on the screen.
    pub(crate) fn wait_for(&self, part: &str) {
        self.wait_for_times(part, 1);
    }

    /// Waits until the text has come this often.
    pub(crate) fn wait_for_times(&self, part: &str, times: usize) {
        let there = || (self.screen.lock().unwrap().matches(part).count() >= times).then_some(());
        wait_for(&format!("{part:?} on the terminal, {times} times"), LIMIT, there);
    }

    /// Waits for the end of the program; returns its exit code and everything that was on the screen.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let status = wait_for("the end of the program", LIMIT, || self.child.try_wait().unwrap());
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        let said = self.screen.lock().unwrap().replace('\r', "");
        (status.code(), said)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
