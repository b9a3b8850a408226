//! Output of a program in bounded memory: the first and the last bytes stay, and a file can take the whole of what is longer.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The largest file of one program's output.
const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a program has said so far.
pub(crate) struct Capture {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    half: usize,
    total: usize,
    whole: Whole,
}

/// Where the whole of a long output goes.
enum Whole {
    /// Nowhere, or the file could not be made or filled.
    Nowhere,
    /// Here, once the output is too long to be kept.
    Later(PathBuf),
    /// Here.
    Open(PathBuf, File),
    /// Here, but only its beginning.
    Full(PathBuf),
}

impl Capture {
    /// Keeps at most `max` bytes; when there are more, `file` is made and takes all of them, up to 16 MiB.
    pub(crate) fn new(max: usize, file: Option<PathBuf>) -> Self {
        let whole = file.map_or(Whole::Nowhere, Whole::Later);
        Self { head: Vec::new(), tail: VecDeque::new(), half: max / 2, total: 0, whole }
    }

    /// Takes more output.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len();
        let (first, rest) = bytes.split_at(bytes.len().min(self.half - self.head.len()));
        self.head.extend_from_slice(first);
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(self.half);
        if over > 0 {
            self.keep_whole(bytes);
        }
        self.tail.drain(..over);
    }

    /// Writes to the file: at first all that there was, then what is new.
    fn keep_whole(&mut self, new: &[u8]) {
        self.whole = match std::mem::replace(&mut self.whole, Whole::Nowhere) {
            Whole::Later(path) => {
                let (a, b) = self.tail.as_slices();
                let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
                match made.and_then(|mut file| write_all(&mut file, &[&self.head, a, b]).map(|()| file)) {
                    Ok(file) => Whole::Open(path, file),
                    Err(_) => Whole::Nowhere,
                }
            }
            Whole::Open(path, _) if self.total > FILE_BYTES_MAX => Whole::Full(path),
            Whole::Open(path, mut file) => match file.write_all(new) {
                Ok(()) => Whole::Open(path, file),
                // The disk is full; what is there stays readable.
                Err(_) => Whole::Full(path),
            },
            other => other,
        };
    }

    /// The file with the whole output and whether it holds all of it; `None` when the output was short.
    pub(crate) fn file(&self) -> Option<(&Path, bool)> {
        match &self.whole {
            Whole::Nowhere | Whole::Later(_) => None,
            Whole::Open(path, _) => Some((path, true)),
            Whole::Full(path) => Some((path, false)),
        }
    }

    /// How many bytes there were in all.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// What came after the first `from` bytes, as text; a line says what was cut.
    pub(crate) fn since(&self, from: usize) -> String {
        let tail_at = self.total - self.tail.len();
        let mut text = String::from_utf8_lossy(&self.head[from.min(self.head.len())..]).into_owned();
        let tail: Vec<u8> = self.tail.iter().copied().skip(from.saturating_sub(tail_at)).collect();
        let cut = tail_at.saturating_sub(from.max(self.head.len()));
        if cut > 0 {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n[... {cut} bytes cut ...]\n");
        }
        text.push_str(&String::from_utf8_lossy(&tail));
        text
    }
}

fn write_all(file: &mut File, parts: &[&[u8]]) -> io::Result<()> {
    parts.iter().try_for_each(|part| file.write_all(part))
}

#[cfg(test)]
mod tests {
    use super::Capture;

    #[test]
    fn head_and_tail_stay() {
        let mut capture = Capture::new(10, None);
        for byte in b'a'..=b'z' {
            capture.push(&[byte]);
        }
        assert_eq!(capture.since(0), "abcde\n[... 16 bytes cut ...]\nvwxyz");
        assert_eq!(capture.since(24), "yz");
        assert_eq!(capture.since(20), "\n[... 1 bytes cut ...]\nvwxyz");
        assert_eq!((capture.since(26), capture.total()), (String::new(), 26));
    }

    #[test]
    fn short_output_is_whole() {
        let mut capture = Capture::new(10, None);
        capture.push(b"abcdefgh");
        assert_eq!((capture.since(0), capture.since(6)), ("abcdefgh".to_owned(), "gh".to_owned()));
    }
}
