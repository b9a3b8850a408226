//! Between the person's terminal and the box's own: the command never has the person's.
//!
//! What is typed goes to the box's terminal as it is typed, so that its keys (Ctrl-C, Ctrl-D) are the command's; what the command writes goes
//! to the person's.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::JoinHandle;

use aedile_core::sandbox::BoxIo;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::getpgrp;
use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr, tcsetwinsize};

/// Bytes that are carried at once.
const PIECE_BYTES: usize = 16 * 1024;
/// What Ctrl-C types.
const INTERRUPT: u8 = 3;

/// The streams of a box: a terminal of its own in the place of those of ours that are terminals.
pub fn streams() -> BoxIo {
    let streams = [io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal()];
    if streams == [false; 3] {
        return BoxIo::Inherit;
    }
    let size = size();
    BoxIo::Terminal { streams, rows: size.ws_row, columns: size.ws_col }
}

/// The first of our streams that is a terminal, in the order in which they are written to.
fn with_ours<T>(act: impl Fn(BorrowedFd<'_>) -> T) -> Option<T> {
    let (out, err, from) = (io::stdout(), io::stderr(), io::stdin());
    let ours = [(out.is_terminal(), out.as_fd()), (err.is_terminal(), err.as_fd()), (from.is_terminal(), from.as_fd())];
    ours.into_iter().find(|(terminal, _)| *terminal).map(|(_, fd)| act(fd))
}

fn size() -> Winsize {
    let unknown = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    with_ours(|fd| tcgetwinsize(fd)).and_then(Result::ok).unwrap_or(unknown)
}

/// Relays until it is dropped, when everything that the box wrote was shown and the person's terminal is as it was before.
pub struct Relay {
    /// The other side of the box's terminal.
    box_side: OwnedFd,
    /// Closed to end the relay where the box's terminal does not end by itself.
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    /// How the person's terminal was set.
    before: Option<Termios>,
}

impl Relay {
    /// Begins to relay; keys are passed on raw from here on, when ours is the program that the terminal's keys reach.
    pub fn start(box_side: OwnedFd) -> io::Result<Self> {
        // A terminal that is not ours to control tells no group.
        let typed = io::stdin().is_terminal() && tcgetpgrp(io::stdin()).map_or(true, |group| group == getpgrp());
        let before = if typed { tcgetattr(io::stdin()).ok() } else { None };
        if let Some(before) = &before {
            // The box's terminal begins as the person's was set.
            tcsetattr(&box_side, OptionalActions::Now, before)?;
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        }
        let mut relay = Self { box_side, stop: None, thread: None, before };
        rustix::fs::fcntl_setfl(&relay.box_side, OFlags::RDWR | OFlags::NONBLOCK)?;
        let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC)?;
        let shown = with_ours(|fd| fd.try_clone_to_owned()).ok_or_else(|| io::Error::other("no stream is a terminal"))??;
        let (side, shown) = (File::from(relay.box_side.try_clone()?), File::from(shown));
        relay.stop = Some(stop);
        let carry = move || carry(&side, &shown, &stopped, typed);
        relay.thread = Some(std::thread::Builder::new().name("terminal".to_owned()).spawn(carry)?);
        Ok(relay)
    }

    /// Gives the box's terminal the size of the person's.
    pub fn resize(&self) {
        // A terminal that has ended has no size.
        let _ = tcsetwinsize(&self.box_side, size());
    }

    /// Types Ctrl-C at the box's terminal.
    pub fn interrupt(&self) {
        let _ = rustix::io::write(&self.box_side, &[INTERRUPT]);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), OptionalActions::Drain, before);
        }
    }
}

/// Carries both ways until the box's terminal ends; after a stop only what was written before it. What the command does not take keeps back
/// only further keys.
fn carry(mut side: &File, mut shown: &File, stopped: &OwnedFd, mut typed: bool) {
    let keys = io::stdin();
    let mut piece = vec![0; PIECE_BYTES];
    let mut waiting = Vec::new();
    let mut stopping = false;
    loop {
        let to_box = if waiting.is_empty() || stopping { PollFlags::empty() } else { PollFlags::OUT };
        let mut polled = vec![PollFd::new(side, PollFlags::IN | to_box)];
        if !stopping {
            polled.push(PollFd::new(stopped, PollFlags::empty()));
        }
        if typed && waiting.is_empty() && !stopping {
            polled.push(PollFd::new(&keys, PollFlags::IN));
        }
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        match poll(&mut polled, stopping.then_some(&now)) {
            Err(Errno::INTR) => continue,
            Err(_) | Ok(0) => return,
            Ok(_) => {}
        }
        let come: Vec<PollFlags> = polled.iter().map(PollFd::revents).collect();
        let ended = PollFlags::HUP | PollFlags::ERR;
        if come[0].intersects(PollFlags::IN | ended) {
            match side.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return,
                Ok(count) if shown.write_all(&piece[..count]).is_err() => return,
                Ok(_) => {}
            }
        }
        if come[0].contains(PollFlags::OUT) {
            match side.write(&waiting) {
                Ok(count) => drop(waiting.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => waiting.clear(),
            }
        }
        if come.get(2).is_some_and(|keys| !keys.is_empty()) {
            match rustix::io::read(&keys, &mut piece) {
                Ok(0) | Err(_) => typed = false,
                Ok(count) => waiting.extend_from_slice(&piece[..count]),
            }
        }
        stopping |= come.get(1).is_some_and(|stop| !stop.is_empty());
    }
}
