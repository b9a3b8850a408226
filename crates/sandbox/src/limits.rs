//! Limits of one box, by the kernel's per-process limits.

use aedile_core::sandbox::BoxLimits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;

/// Processes and threads of a box that names no limit.
const PROCESSES: u64 = 4096;
/// Open descriptors of one process in a box that names no limit.
const DESCRIPTORS: u64 = 65_536;
/// Bytes of one file in a box that names no limit.
const FILE_BYTES: u64 = 16 * 1024 * 1024 * 1024;
/// Bytes of a box's temporary directories where an eighth of the memory is more than this.
const TEMPORARY_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// Sets the limits of this process and of all it starts. A limit is never raised above the one already in force.
pub(crate) fn apply(limits: &BoxLimits) -> io::Result<()> {
    lower(Resource::Nproc, limits.processes.unwrap_or(PROCESSES))?;
    lower(Resource::Nofile, limits.descriptors.unwrap_or(DESCRIPTORS))?;
    lower(Resource::Fsize, limits.file_bytes.unwrap_or(FILE_BYTES))?;
    lower(Resource::Data, limits.memory_bytes.unwrap_or_else(|| machine_memory() / 2))?;
    lower(Resource::Core, 0)
}

fn lower(resource: Resource, wanted: u64) -> io::Result<()> {
    let hard = getrlimit(resource).maximum;
    let limit = Some(hard.map_or(wanted, |hard| hard.min(wanted)));
    Ok(setrlimit(resource, Rlimit { current: limit, maximum: limit })?)
}

/// Bytes of memory that the temporary directories of one box may hold together.
pub(crate) fn temporary_bytes() -> u64 {
    (machine_memory() / 8).min(TEMPORARY_BYTES_MAX)
}

/// Bytes of memory that the machine has.
fn machine_memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit))
}
