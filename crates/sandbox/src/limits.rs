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
/// Bytes of one process's POSIX message queues.
const QUEUE_BYTES: u64 = 819_200;
/// Signals and timers that may wait.
const PENDING_SIGNALS: u64 = 8192;
/// A core file of one byte is none. 0 would be less strict: a `core_pattern` that names a program is started by the kernel all the same then.
const CORE: u64 = 1;
/// Bytes of a box's temporary directories where an eighth of the memory is more than this.
const TEMPORARY_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// What a temporary file takes at least, and how many there may be in the smallest box.
const BYTES_PER_ENTRY: u64 = 4096;
const TEMPORARY_ENTRIES_MIN: u64 = 16 * 1024;

/// Sets the limits of this process and of all it starts. A limit is never raised above the one already in force.
pub(crate) fn apply(limits: &BoxLimits) -> io::Result<()> {
    // The box's own first process is one more.
    lower(Resource::Nproc, limits.processes.unwrap_or(PROCESSES).saturating_add(1))?;
    lower(Resource::Nofile, limits.descriptors.unwrap_or(DESCRIPTORS))?;
    lower(Resource::Fsize, limits.file_bytes.unwrap_or(FILE_BYTES))?;
    lower(Resource::Data, memory_bytes(limits))?;
    lower(Resource::Msgqueue, QUEUE_BYTES)?;
    lower(Resource::Sigpending, PENDING_SIGNALS)?;
    lower(Resource::Rtprio, 0)?;
    lower(Resource::Nice, 0)?;
    if let Some(cpu) = limits.cpu {
        lower(Resource::Cpu, cpu.as_secs().max(1))?;
    }
    lower(Resource::Core, CORE)
}

/// Bytes of memory of the box.
pub(crate) fn memory_bytes(limits: &BoxLimits) -> u64 {
    limits.memory_bytes.unwrap_or_else(|| machine_memory() / 2)
}

fn lower(resource: Resource, wanted: u64) -> io::Result<()> {
    let hard = getrlimit(resource).maximum;
    let limit = Some(hard.map_or(wanted, |hard| hard.min(wanted)));
    Ok(setrlimit(resource, Rlimit { current: limit, maximum: limit })?)
}

/// Bytes of memory that the temporary directories of one box may hold together.
pub(crate) fn temporary_bytes(limits: &BoxLimits) -> u64 {
    (machine_memory() / 8).min(TEMPORARY_BYTES_MAX).min(memory_bytes(limits))
}

/// Files and directories that they may hold: the kernel's memory for them counts nowhere else.
pub(crate) fn temporary_entries(bytes: u64) -> u64 {
    (bytes / BYTES_PER_ENTRY).max(TEMPORARY_ENTRIES_MIN)
}

/// Bytes of memory that the machine has.
fn machine_memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit))
}
