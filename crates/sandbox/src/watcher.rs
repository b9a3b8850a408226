//! What the kernel's limits per process do not bound: memory, processor time and disk of all processes of a box together. The box's first
//! process looks at the others and ends the box when it has gone too far.

use crate::sys;
use aedile_core::sandbox::BoxLimits;
use rustix::fs::{Mode, OFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// The time between two looks, and the least where much is used already.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MIN: Duration = Duration::from_millis(25);
/// A look may take this part of the time at most.
const LOOK_SHARE: u32 = 4;
/// Every how many looks descriptors are searched for memory that is mapped nowhere.
const DESCRIPTORS_EVERY: u32 = 4;
const PROC_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
const STAT_BLOCK: u64 = 512;

/// A file system and what was free on it.
struct Disk {
    fd: OwnedFd,
    bytes: u64,
    inodes: u64,
}

impl Disk {
    /// Whether half of what was free is taken, by whomever.
    fn is_half_gone(&self) -> bool {
        let Ok(stat) = rustix::fs::fstatvfs(&self.fd) else { return false };
        let bytes = stat.f_bfree.saturating_mul(stat.f_frsize);
        bytes < self.bytes / 2 || stat.f_ffree < self.inodes / 2
    }
}

/// One box under watch.
pub(crate) struct Watcher {
    memory: u64,
    cpu: Option<Duration>,
    disk: Option<u64>,
    own_io: Option<fs::File>,
    /// Where a person's box writes that names no limit of disk.
    disks: Vec<Disk>,
    temporary: Option<OwnedFd>,
    ticks: u64,
    looks: u32,
    /// Files that exist only as descriptors: their numbers, and their bytes.
    unnamed: (BTreeSet<u64>, u64),
    /// Shared memory of the whole machine when the box began.
    shared: u64,
    pause: Duration,
}

fn open(path: &Path) -> Option<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

impl Watcher {
    /// Prepares; call it before this process becomes unreadable to itself. `own_io` is `/proc/self/io`.
    pub(crate) fn new(
        limits: &BoxLimits,
        memory: u64,
        own_io: Option<fs::File>,
        writable: &[&Path],
        temporary: &Path,
        strict: bool,
    ) -> Self {
        let mut seen = BTreeSet::new();
        let disks = writable.iter().filter_map(|path| {
            let fd = open(path)?;
            let device = rustix::fs::fstat(&fd).ok()?.st_dev;
            let stat = rustix::fs::fstatvfs(&fd).ok()?;
            seen.insert(device).then_some(Disk { fd, bytes: stat.f_bfree.saturating_mul(stat.f_frsize), inodes: stat.f_ffree })
        });
        let disks: Vec<Disk> = if strict && limits.disk_bytes.is_none() { disks.collect() } else { Vec::new() };
        let disk = limits.disk_bytes;
        let ticks = sys::clock_ticks();
        let temporary = open(temporary);
        Self {
            memory,
            cpu: limits.cpu,
            disk,
            own_io,
            disks,
            temporary,
            ticks,
            looks: 0,
            unnamed: (BTreeSet::new(), 0),
            shared: machine_shared(),
            pause: PAUSE_MIN,
        }
    }

    /// The time until the next look.
    pub(crate) fn pause(&self) -> Duration {
        self.pause
    }

    /// Looks; says what was gone beyond.
    pub(crate) fn look(&mut self) -> Option<String> {
        let start = Instant::now();
        let pids = processes();
        let (over, near) = self.judge(&pids);
        let usual = if near { PAUSE_MIN } else { PAUSE };
        self.pause = usual.max(start.elapsed() * LOOK_SHARE);
        self.looks = self.looks.wrapping_add(1);
        over
    }

    fn judge(&mut self, pids: &[u32]) -> (Option<String>, bool) {
        let mut near = false;
        let (limit, used) = (self.memory, self.memory_at_most(pids));
        near |= used > limit / 4;
        if used > limit && self.memory_exactly(pids) > limit {
            return (Some(format!("the processes of the box together used more than {limit} bytes of memory, and it was ended")), near);
        }
        if let Some(limit) = self.cpu {
            let used = self.processor_time(pids);
            near |= used > limit / 2;
            if used > limit {
                return (Some(format!("the box used more than {} s of processor time and was ended", limit.as_secs())), near);
            }
        }
        if let Some(limit) = self.disk {
            let used = self.written(pids);
            near |= used > limit / 4;
            if used > limit {
                return (Some(format!("the box wrote more than {limit} bytes to disks and was ended")), near);
            }
        }
        if self.disks.iter().any(Disk::is_half_gone) {
            return (Some("more than half of what was free on a disk when the box began is taken, and it was ended".to_owned()), near);
        }
        (None, near)
    }

    /// No less than what is used: what several processes share counts several times, and what the machine shares since, counts as the box's.
    fn memory_at_most(&mut self, pids: &[u32]) -> u64 {
        if self.looks.is_multiple_of(DESCRIPTORS_EVERY) {
            self.unnamed = memory_files(pids);
        }
        let status: Vec<String> = pids.iter().map(|pid| read(&format!("/proc/{pid}/status"))).collect();
        let sum = |name: &str| status.iter().map(|text| kilobytes(text, &[name])).sum::<u64>();
        sum("RssAnon:") + self.files() + sum("RssShmem:").max(self.grown())
    }

    /// What several processes share counts once, as far as they can be looked into.
    fn memory_exactly(&self, pids: &[u32]) -> u64 {
        let mut shared = Shared::default();
        let one = |pid: &u32| {
            let rollup = read(&format!("/proc/{pid}/smaps_rollup"));
            if rollup.is_empty() {
                return kilobytes(&read(&format!("/proc/{pid}/status")), &["RssAnon:", "RssShmem:"]);
            }
            shared.add(&read(&format!("/proc/{pid}/smaps")), &self.unnamed.0);
            kilobytes(&rollup, &["Pss_Anon:"])
        };
        let own: u64 = pids.iter().map(one).sum();
        own + self.files() + shared.resident.max(self.grown().min(shared.sizes.values().sum()))
    }

    /// Shared memory of the machine that came since the box began and that is in none of its files.
    fn grown(&self) -> u64 {
        machine_shared().saturating_sub(self.shared).saturating_sub(self.files())
    }

    /// Memory of the temporary directories, of files without a name and of shared segments.
    fn files(&self) -> u64 {
        let temporary = self.temporary.as_ref().and_then(|fd| rustix::fs::fstatvfs(fd).ok());
        let temporary = temporary.map_or(0, |stat| (stat.f_blocks.saturating_sub(stat.f_bfree)).saturating_mul(stat.f_frsize));
        temporary + self.unnamed.1 + segments(&read("/proc/sysvipc/shm"))
    }

    fn processor_time(&self, pids: &[u32]) -> Duration {
        let ticks: u64 = pids.iter().map(|pid| processor_ticks(&read(&format!("/proc/{pid}/stat")))).sum();
        Duration::from_millis(ticks.saturating_mul(1000) / self.ticks.max(1))
    }

    /// Bytes that processes sent to disks; ended ones are part of whoever waited for them.
    fn written(&self, pids: &[u32]) -> u64 {
        let mut own = [0u8; 512];
        let own =
            self.own_io.as_ref().and_then(|file| file.read_at(&mut own, 0).ok().map(|length| own[..length].to_vec())).unwrap_or_default();
        let own = String::from_utf8_lossy(&own).into_owned();
        pids.iter().filter(|pid| **pid != 1).map(|pid| written(&read(&format!("/proc/{pid}/io")))).sum::<u64>() + written(&own)
    }
}

/// The box's processes.
fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn read(path: &str) -> String {
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(PROC_FILE_BYTES_MAX).read_to_string(&mut text));
    if read.is_err() {
        text.clear();
    }
    text
}

/// The sum of the named lines, which are in kB, in bytes.
fn kilobytes(text: &str, names: &[&str]) -> u64 {
    let lines = text.lines().filter_map(|line| {
        let rest = names.iter().find_map(|name| line.strip_prefix(name))?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    });
    lines.sum::<u64>() * 1024
}

/// Shared memory of the machine, in bytes.
fn machine_shared() -> u64 {
    kilobytes(&read("/proc/meminfo"), &["Shmem:"])
}

/// Shared mappings of several processes.
#[derive(Default)]
struct Shared {
    /// Their share that some process has in its own tables.
    resident: u64,
    /// By number: their sizes. Memory in them may be in nobody's tables.
    sizes: BTreeMap<u64, u64>,
}

impl Shared {
    /// Adds what `smaps` of one process tells, apart from the files in `known`.
    fn add(&mut self, smaps: &str, known: &BTreeSet<u64>) {
        let mut here = None;
        for line in smaps.lines() {
            // Lines of a mapping's own begin with an upper-case word, its first line with an address.
            if line.starts_with(|first: char| first.is_ascii_digit() || first.is_ascii_lowercase()) {
                let anonymous = line.contains(" /dev/zero (deleted)") || line.contains(" /memfd:");
                let number = line.split_whitespace().nth(4).and_then(|number| number.parse().ok());
                here = number.filter(|number| anonymous && !known.contains(number));
            } else if let Some(number) = here {
                self.resident += kilobytes(line, &["Pss:"]);
                let size = kilobytes(line, &["Size:"]);
                let known = self.sizes.entry(number).or_default();
                *known = size.max(*known);
            }
        }
    }
}

/// Bytes in memory of the segments in `/proc/sysvipc/shm`.
fn segments(text: &str) -> u64 {
    let place = text.lines().next().and_then(|head| head.split_whitespace().position(|name| name == "rss"));
    let Some(place) = place else { return 0 };
    text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(place)?.parse::<u64>().ok()).sum()
}

/// Files in memory that exist only as descriptors.
fn memory_files(pids: &[u32]) -> (BTreeSet<u64>, u64) {
    let mut seen = BTreeSet::new();
    let mut sum = 0;
    for pid in pids {
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let memory = fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str().as_encoded_bytes().starts_with(b"/memfd:"));
            if memory
                && let Ok(stat) = fs::metadata(entry.path())
                && seen.insert(stat.ino())
            {
                sum += stat.blocks() * STAT_BLOCK;
            }
        }
    }
    (seen, sum)
}

/// User and system time of a process and of the children that it waited for.
fn processor_ticks(stat: &str) -> u64 {
    // The second field is the name in parentheses, which may hold anything; the times are the 12th to 15th after it.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    after.split_whitespace().skip(11).take(4).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

fn written(io: &str) -> u64 {
    let number = |name: &str| io.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok()).unwrap_or(0);
    number("write_bytes:").saturating_sub(number("cancelled_write_bytes:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_are_read_as_they_are() {
        assert_eq!(kilobytes("VmRSS:\t 9 kB\nRssAnon:\t  4 kB\nRssShmem: 2 kB\n", &["RssAnon:", "RssShmem:"]), 6 * 1024);
        let smaps =
            "7f00-7f01 rw-s 0 00:01 5 /dev/zero (deleted)\nSize: 8 kB\nPss: 4 kB\n7f02-7f03 rw-p 0 00:00 0\nSize: 9 kB\nPss: 100 kB\n";
        let mut shared = Shared::default();
        shared.add(smaps, &BTreeSet::new());
        shared.add(smaps, &BTreeSet::from([5]));
        assert_eq!((shared.resident, shared.sizes), (4096, BTreeMap::from([(5, 8192)])));
        let shm = "  key shmid perms size cpid lpid nattch uid gid cuid cgid atime dtime ctime rss swap\n 0 1 600 99 1 1 0 0 0 0 0 0 0 0 8192 0\n";
        assert_eq!(segments(shm), 8192);
        assert_eq!(processor_ticks("12 (a) b) S 1 1 1 0 -1 4 0 0 0 0 1 2 3 4 20 0"), 10);
        assert_eq!(written("rchar: 1\nwrite_bytes: 10\ncancelled_write_bytes: 4\n"), 6);
    }
}
