//! A line of input below live output: the terminal hands over keys one by one and we show what is typed. Ctrl-C stays a signal.

use std::io::Read;

use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};

/// The longest line; further keys are dropped.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Holds the terminal's modes changed; dropping it restores them.
pub struct Keys {
    before: Termios,
}

impl Keys {
    /// Whether we are in the foreground: a program in the background that reads the terminal is stopped.
    pub fn may_read() -> bool {
        tcgetpgrp(std::io::stdin()).is_ok_and(|group| group == getpgrp())
    }

    /// Takes the keys; `None` when the terminal does not let us.
    pub fn take() -> Option<Self> {
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut now = before.clone();
        now.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Now, &now).ok()?;
        Some(Self { before })
    }

    /// Reads keys until Ctrl-D on an empty line. `told` gets the line as it stands, and a whole one at Enter.
    pub fn read(told: &mut dyn FnMut(&str, Option<String>)) {
        let mut line = Line::default();
        for byte in std::io::stdin().lock().bytes() {
            let Ok(byte) = byte else { return };
            match line.key(byte) {
                Key::Edited => told(&line.text(), None),
                Key::Entered(text) => told("", Some(text)),
                Key::Ended => return,
                Key::Nothing => {}
            }
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// What a key did.
#[derive(PartialEq, Debug)]
enum Key {
    Edited,
    Entered(String),
    Ended,
    Nothing,
}

/// Where we are within an escape sequence, which is swallowed.
#[derive(Default, PartialEq)]
enum Escape {
    #[default]
    No,
    Begun,
    Within,
}

#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    escape: Escape,
}

impl Line {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    fn key(&mut self, byte: u8) -> Key {
        match (&self.escape, byte) {
            (Escape::Begun, b'[' | b'O') => self.escape = Escape::Within,
            (Escape::Begun, _) | (Escape::Within, 0x40..=0x7e) => self.escape = Escape::No,
            (Escape::Within, _) => {}
            (Escape::No, 0x1b) => self.escape = Escape::Begun,
            (Escape::No, b'\n' | b'\r') => {
                let text = self.text();
                self.bytes.clear();
                return Key::Entered(text);
            }
            (Escape::No, 0x04) if self.bytes.is_empty() => return Key::Ended,
            (Escape::No, 0x7f | 0x08) => {
                while self.bytes.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
                return Key::Edited;
            }
            // Ctrl-U and Ctrl-W, as a shell has them.
            (Escape::No, 0x15) => {
                self.bytes.clear();
                return Key::Edited;
            }
            (Escape::No, 0x17) => {
                let text = self.text();
                let kept = text.trim_end().rfind(' ').map_or(0, |at| at + 1);
                self.bytes.truncate(kept);
                return Key::Edited;
            }
            (Escape::No, 0x20..) if self.bytes.len() < LINE_BYTES_MAX => {
                self.bytes.push(byte);
                return Key::Edited;
            }
            (Escape::No, _) => {}
        }
        Key::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(bytes: &[u8]) -> (Vec<String>, String, bool) {
        let (mut line, mut entered) = (Line::default(), Vec::new());
        for byte in bytes {
            match line.key(*byte) {
                Key::Entered(text) => entered.push(text),
                Key::Ended => return (entered, line.text(), true),
                Key::Edited | Key::Nothing => {}
            }
        }
        (entered, line.text(), false)
    }

    #[test]
    fn keys_make_lines() {
        assert_eq!(typed(b"use blue\nand"), (vec!["use blue".to_owned()], "and".to_owned(), false));
        assert_eq!(
            typed("gr\u{fc}\x7f\u{fc}n\x1b[D\x1b[3~\x1bOA\r".as_bytes()).0,
            ["gr\u{fc}n"],
            "backspace takes a whole letter, arrows nothing"
        );
        assert_eq!(typed(b"one two three\x17\x17x\r\x15").0, ["one x"]);
        assert_eq!(typed(b"gone\x15\x04"), (vec![], String::new(), true));
        assert_eq!(typed(b"a\x04b").1, "ab", "Ctrl-D ends only an empty line");
    }
}
