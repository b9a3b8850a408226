//! The one place that prints.

use std::io::{IsTerminal, Write};

/// Where and how a command prints.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Machine-readable output on stdout.
    pub json: bool,
}

impl Output {
    /// Prints a line on stdout. A reader that has gone away (`| head`) is not an error.
    pub fn line(&self, text: impl AsRef<str>) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{}", text.as_ref());
    }

    /// Prints bytes on stdout as they are.
    pub fn bytes(&self, bytes: &[u8]) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    }

    /// Prints a line only when people read.
    pub fn say(&self, text: impl AsRef<str>) {
        if !self.json {
            self.line(text);
        }
    }

    /// Prints one object on one line and hands it on at once.
    pub fn object(&self, value: &impl serde::Serialize) {
        let mut out = std::io::stdout().lock();
        if serde_json::to_writer(&mut out, value).is_ok() {
            let _ = out.write_all(b"\n").and_then(|()| out.flush());
        }
    }

    /// Prints an object for `--json`, or lines for people.
    pub fn object_or(&self, value: &impl serde::Serialize, lines: impl FnOnce() -> Vec<String>) {
        if self.json {
            self.object(value);
        } else {
            lines().into_iter().for_each(|line| self.line(line));
        }
    }

    /// Prints a line on stderr.
    pub fn warn(&self, text: impl AsRef<str>) {
        let _ = writeln!(std::io::stderr().lock(), "{}", text.as_ref());
    }

    /// Whether whoever read stdout has gone away, as `head` does: then there is nobody to follow anything for.
    pub fn reader_is_gone(&self) -> bool {
        use rustix::event::{PollFd, PollFlags};
        let stdout = std::io::stdout();
        let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
        let answer = rustix::event::poll(&mut polled, Some(&rustix::event::Timespec::default()));
        answer.is_ok() && polled[0].revents().intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL)
    }

    /// Whether a person can be asked.
    pub fn can_ask(&self) -> bool {
        !self.json && std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
    }

    /// Asks a yes-or-no question; an empty answer is yes.
    pub fn ask(&self, question: &str) -> bool {
        {
            let mut out = std::io::stdout().lock();
            let _ = write!(out, "{question} [Y/n] ").and_then(|()| out.flush());
        }
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "" | "y" | "yes")
    }
}

/// Lays out rows in columns that are as wide as their widest cell.
pub fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let pad = |(cell, width): (&String, &usize)| format!("{cell}{}", " ".repeat(width.saturating_sub(cell.chars().count())));
    rows.iter().map(|row| row.iter().zip(&widths).map(pad).collect::<Vec<_>>().join("  ").trim_end().to_owned()).collect()
}

/// Makes text of an agent safe for a terminal and one line: control characters become spaces, and it is cut to `max` characters.
pub fn one_line(text: &str, max: usize) -> String {
    let mut line = String::new();
    for (at, c) in text.chars().enumerate() {
        if at == max {
            line.push('…');
            break;
        }
        line.push(if c.is_control() { ' ' } else { c });
    }
    line
}
