//! The box's own terminal: the program's streams are one side of it, and the caller relays the other to the person's.

use crate::sys;
use crate::wire::{self, Failure, Step, Word};
use aedile_core::sandbox::BoxIo;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Makes the terminal, if the box is to have one, from the box's own devices, and hands its other side over. Returns the program's side.
pub(crate) fn make(io: BoxIo, control: &OwnedFd) -> Result<Option<OwnedFd>, Failure> {
    let BoxIo::Terminal { rows, columns, .. } = io else { return Ok(None) };
    const STEP: &str = "making the box's terminal";
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let other_side = rustix::pty::openpt(flags).step(STEP)?;
    rustix::pty::unlockpt(&other_side).step(STEP)?;
    let own = rustix::pty::ioctl_tiocgptpeer(&other_side, flags).step(STEP)?;
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&own, size).step(STEP)?;
    wire::send(control.as_fd(), &Word::Terminal, Some(other_side.as_fd())).step("handing the box's terminal over")?;
    Ok(Some(own))
}

/// Makes it the terminal of the calling process, which leads a session, and of those of its streams that it takes the place of.
pub(crate) fn sit_at(io: BoxIo, terminal: &OwnedFd) -> io::Result<()> {
    let BoxIo::Terminal { streams, .. } = io else { return Ok(()) };
    rustix::process::ioctl_tiocsctty(terminal)?;
    let numbers = streams.into_iter().zip(0..).filter(|(own, _)| *own).map(|(_, number)| number);
    numbers.into_iter().try_for_each(|number| sys::put_at(terminal.as_raw_fd(), number))
}
