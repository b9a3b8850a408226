//! An attack suite of our own: probes that try to get out of a box, all harmless, each judged from the host's side.
//!
//! A probe runs as a program of its own ([`PROBE_ARGUMENT`]), once without a box, where it must succeed (else it proves nothing here and is not
//! counted), and once in a box. [`Suite::run_without`] takes fences away, so that a test can hold the list of what stops each probe against what
//! really stops it.

mod guard;
mod inside;
mod kernel;
mod limits;
mod material;
mod network;
mod processes;
mod reads;
mod run;
mod writes;

pub use inside::probe_main;
pub use run::{NotRun, Report, Suite, Verdict};

use crate::fence::Fence;
use inside::Here;
use material::{Looked, Material};
use std::io;

/// First argument of the program that a probe is.
pub const PROBE_ARGUMENT: &str = "__probe";

/// How the host sees that a probe got out.
#[derive(Clone, Copy)]
pub(crate) enum Sign {
    /// Something outside the tree has changed.
    Outside,
    /// The repository that is shown has changed.
    Repository,
    /// The path (relative to the tree) holds the attacker's word afterwards.
    Planted(&'static str),
    /// The attacker said what only the secret holds.
    Canary,
    /// A listener of the host was reached.
    Reached,
    /// The victim, a process of the host, is not as it was.
    Victim,
    /// The attacker's processes look so while they run.
    Looks(fn(&Looked) -> bool),
    /// The host looks at its own things once everything has ended.
    Left(fn(&Material) -> bool),
}

/// One attempt to get out.
#[derive(Clone, Copy)]
pub struct Probe {
    /// Its name.
    pub id: &'static str,
    /// Its class, as in the reference.
    pub class: &'static str,
    /// Every fence that stops it. Without them it gets out, with any one of them it does not.
    pub fences: &'static [Fence],
    act: fn(&Here) -> io::Result<()>,
    sign: Sign,
}

/// Every probe.
pub fn probes() -> Vec<Probe> {
    [writes::PROBES, reads::PROBES, network::PROBES, processes::PROBES, kernel::PROBES, limits::PROBES, guard::PROBES].concat()
}
