//! Taking more than the box may have. Its limits are small for these probes.

use super::inside::{Here, call, fork, n, text};
use super::material::{Looked, acted_well};
use super::run::{DESCRIPTORS, FILE_BYTES, MEMORY_BYTES, PROCESSES};
use super::{Probe, Sign};
use crate::fence::Fence::{self, Limits, Time, Watcher};
use std::fs::{self, File};
use std::io::{self, Write};
use std::time::Duration;

/// Long enough for the watcher to look several times.
const A_WHILE: Duration = Duration::from_secs(4);
const PART: usize = 20 << 20;

const fn probe(id: &'static str, fences: &'static [Fence], act: fn(&Here) -> io::Result<()>, sign: fn(&Looked) -> bool) -> Probe {
    Probe { id, class: "limits", fences, act, sign: Sign::Looks(sign) }
}

/// Memory of this process that is really there.
fn take(bytes: usize) -> io::Result<Vec<u8>> {
    let mut memory = Vec::new();
    memory.try_reserve_exact(bytes).map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
    memory.resize(bytes, 1);
    Ok(std::hint::black_box(memory))
}

fn memory_file() -> io::Result<File> {
    let name = text("attack");
    let fd = call(libc::SYS_memfd_create, &[name.as_ptr().addr(), 8])?;
    fs::OpenOptions::new().write(true).open(format!("/proc/self/fd/{fd}"))
}

pub(super) const PROBES: &[Probe] = &[
    probe(
        "too-many-processes",
        &[Limits],
        |_| {
            for _ in 0..PROCESSES + 20 {
                if fork()? == 0 {
                    std::thread::sleep(Duration::from_secs(2));
                    crate::sys::leave(0);
                }
            }
            Ok(())
        },
        |looked| looked.processes() > usize::try_from(PROCESSES).unwrap_or(usize::MAX) + 5,
    ),
    probe(
        "too-many-threads",
        &[Limits],
        |_| {
            for _ in 0..PROCESSES + 20 {
                std::thread::Builder::new().stack_size(64 * 1024).spawn(|| std::thread::sleep(Duration::from_secs(2)))?;
            }
            Ok(())
        },
        |looked| looked.threads() > usize::try_from(PROCESSES).unwrap_or(usize::MAX) + 5,
    ),
    probe(
        "too-many-descriptors",
        &[Limits],
        |_| {
            for _ in 0..DESCRIPTORS + 20 {
                call(libc::SYS_dup, &[1])?;
            }
            Ok(())
        },
        |looked| looked.descriptors() > usize::try_from(DESCRIPTORS).unwrap_or(usize::MAX),
    ),
    probe(
        "too-large-file",
        &[Limits],
        |here| {
            let mut file = File::create(here.tree("big"))?;
            (0..FILE_BYTES / 65_536 + 8).try_for_each(|_| file.write_all(&[0; 65_536]))
        },
        |looked| fs::metadata(looked.tree.join("big")).is_ok_and(|meta| meta.len() > FILE_BYTES),
    ),
    probe(
        "too-large-hole",
        &[Limits],
        |here| File::create(here.tree("big"))?.set_len(FILE_BYTES + 4096),
        |looked| fs::metadata(looked.tree.join("big")).is_ok_and(|meta| meta.len() > FILE_BYTES),
    ),
    probe(
        "too-much-memory-in-one-process",
        &[Limits, Watcher],
        |_| {
            let memory = take(usize::try_from(MEMORY_BYTES).unwrap_or(0) + PART)?;
            std::thread::sleep(A_WHILE);
            drop(memory);
            Ok(())
        },
        acted_well,
    ),
    probe(
        "too-much-memory-in-many-processes",
        &[Watcher],
        |_| {
            for _ in 0..usize::try_from(MEMORY_BYTES).unwrap_or(0) / PART + 3 {
                if fork()? == 0 {
                    let memory = take(PART);
                    std::thread::sleep(A_WHILE * 2);
                    drop(memory);
                    crate::sys::leave(0);
                }
            }
            std::thread::sleep(A_WHILE);
            Ok(())
        },
        acted_well,
    ),
    probe(
        "too-much-memory-in-files",
        &[Watcher],
        |_| {
            // One process may not have so many descriptors, of which each file takes two.
            let each = (MEMORY_BYTES / FILE_BYTES + 16) / 5 + 1;
            for _ in 0..5 {
                if fork()? == 0 {
                    let mut files = Vec::new();
                    for mut file in (0..each).filter_map(|_| memory_file().ok()) {
                        let _ = (0..FILE_BYTES / 65_536).try_for_each(|_| file.write_all(&[1; 65_536]));
                        files.push(file);
                    }
                    std::thread::sleep(A_WHILE * 2);
                    crate::sys::leave(0);
                }
            }
            std::thread::sleep(A_WHILE);
            Ok(())
        },
        acted_well,
    ),
    probe(
        "too-much-shared-memory",
        &[Watcher],
        |_| {
            let (protection, sharing) =
                (n(libc::PROT_READ | libc::PROT_WRITE), n(libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_POPULATE));
            for _ in 0..usize::try_from(MEMORY_BYTES).unwrap_or(0) / PART + 2 {
                call(libc::SYS_mmap, &[0, PART, protection, sharing, n(-1), 0])?;
            }
            std::thread::sleep(A_WHILE);
            Ok(())
        },
        acted_well,
    ),
    probe(
        "too-much-memory-in-segments",
        &[Watcher],
        |_| {
            for _ in 0..usize::try_from(MEMORY_BYTES).unwrap_or(0) / PART + 2 {
                let segment = call(libc::SYS_shmget, &[0, PART, 0o1600])?;
                let at = call(libc::SYS_shmat, &[segment, 0, 0])?;
                // Removed as soon as nobody has it any more.
                call(libc::SYS_shmctl, &[segment, 0, 0])?;
                let zero = File::open("/dev/zero")?;
                call(libc::SYS_read, &[n(std::os::fd::AsRawFd::as_raw_fd(&zero)), at, PART])?;
            }
            std::thread::sleep(A_WHILE);
            Ok(())
        },
        acted_well,
    ),
    probe(
        "too-much-written",
        &[Watcher],
        |here| {
            for at in 0..24 {
                let mut file = File::create(here.tree(&format!("part-{at}")))?;
                (0..FILE_BYTES / 65_536).try_for_each(|_| file.write_all(&[1; 65_536]))?;
            }
            std::thread::sleep(A_WHILE);
            Ok(())
        },
        acted_well,
    ),
    probe(
        "too-much-room-taken",
        &[Fence::Seccomp],
        |here| {
            let file = File::create(here.tree("room"))?;
            Ok(rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, FILE_BYTES / 2)?)
        },
        |looked| fs::metadata(looked.tree.join("room")).is_ok_and(|meta| meta.len() > 0),
    ),
    probe(
        "too-much-processor-time",
        &[Limits, Watcher],
        |_| {
            let mut clock = [0_i64; 2];
            while clock[0] < 2 {
                // CLOCK_PROCESS_CPUTIME_ID
                call(libc::SYS_clock_gettime, &[2, clock.as_mut_ptr().addr()])?;
            }
            Ok(())
        },
        acted_well,
    ),
    probe(
        "too-long",
        &[Time],
        |_| {
            std::thread::sleep(Duration::from_secs(3));
            Ok(())
        },
        acted_well,
    ),
];
