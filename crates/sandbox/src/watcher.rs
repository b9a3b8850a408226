//! What the kernel's limits per process do not bound: memory, processor time and disk of all processes of a box together. The box's first
//! process looks at the others and ends the box when it has gone too far.

use crate::ledger::{Ledger, Used};
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
/// What a look counts at which some process does not show what it writes, less one for each other look, and how far that may go.
const HIDDEN_STEP: u32 = 2;
const HIDDEN_MAX: u32 = 8;
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
    /// Where a person's box writes.
    disks: Vec<Disk>,
    temporary: Option<OwnedFd>,
    ticks: u64,
    looks: u32,
    /// Processor time in ticks, and bytes sent to disks.
    time: Ledger,
    bytes: Ledger,
    /// How often of late some process did not show what it writes.
    hidden: u32,
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
        let temporary = open(temporary);
        // The temporary directories count as memory, not as a disk.
        let memory_device = temporary.as_ref().and_then(|fd| rustix::fs::fstat(fd).ok()).map(|stat| stat.st_dev);
        let mut seen: BTreeSet<_> = memory_device.into_iter().collect();
        let disks = writable.iter().filter_map(|path| {
            let fd = open(path)?;
            let device = rustix::fs::fstat(&fd).ok()?.st_dev;
            let stat = rustix::fs::fstatvfs(&fd).ok()?;
            seen.insert(device).then_some(Disk { fd, bytes: stat.f_bfree.saturating_mul(stat.f_frsize), inodes: stat.f_ffree })
        });
        let disks: Vec<Disk> = if strict { disks.collect() } else { Vec::new() };
        let disk = limits.disk_bytes;
        let ticks = sys::clock_ticks();
        Self {
            memory,
            cpu: limits.cpu,
            disk,
            own_io,
            disks,
            temporary,
            ticks,
            looks: 0,
            time: Ledger::default(),
            bytes: Ledger::default(),
            hidden: 0,
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
            let Some(used) = self.written(pids) else {
                let words = "a process of the box does not show what it writes, so disk_bytes cannot be held, and the box was ended";
                return (Some(words.to_owned()), near);
            };
            near |= used > limit / 4 || self.hidden > 0;
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

    fn processor_time(&mut self, pids: &[u32]) -> Duration {
        let used = |pid: &u32| {
            let stat = read(&format!("/proc/{pid}/stat"));
            one(*pid, &stat, processor_ticks(&stat))
        };
        let now: Vec<Used> = pids.iter().filter_map(used).collect();
        Duration::from_millis(self.time.sum(&now).saturating_mul(1000) / self.ticks.max(1))
    }

    /// Bytes that processes sent to disks; nothing when some did not show it for several looks, as programs that may not be read do not. One look
    /// says little: a process that is just being started or ended does not show it either.
    fn written(&mut self, pids: &[u32]) -> Option<u64> {
        let (mut now, mut hidden) = (Vec::new(), false);
        for pid in pids {
            let amount = if *pid == 1 {
                let mut own = [0u8; 512];
                let length = self.own_io.as_ref().and_then(|file| file.read_at(&mut own, 0).ok()).unwrap_or_default();
                written(&String::from_utf8_lossy(&own[..length]))
            } else {
                match fs::read_to_string(format!("/proc/{pid}/io")) {
                    Ok(io) => written(&io),
                    Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                        let stat = read(&format!("/proc/{pid}/stat"));
                        hidden |= is_alive(&stat);
                        now.extend(one(*pid, &stat, 0).map(|used| Used { amount: self.bytes.last(used.id), ..used }));
                        continue;
                    }
                    Err(_) => continue,
                }
            };
            now.extend(one(*pid, &read(&format!("/proc/{pid}/stat")), amount));
        }
        self.hidden = if hidden { self.hidden + HIDDEN_STEP } else { self.hidden.saturating_sub(1) };
        (self.hidden < HIDDEN_MAX).then(|| self.bytes.sum(&now))
    }
}

/// Whether a process has memory, which it has until it ends: of its `/proc/PID/stat`.
fn is_alive(stat: &str) -> bool {
    // The size in bytes is the 21st after the name in parentheses.
    stat.rsplit_once(')').and_then(|(_, after)| after.split_whitespace().nth(20)).is_some_and(|bytes| bytes != "0")
}

/// A process of which `/proc/PID/stat` is given.
fn one(pid: u32, stat: &str, amount: u64) -> Option<Used> {
    // The second field is the name in parentheses, which may hold anything; the parent is the second after it, the start time the 20th.
    let mut after = stat.rsplit_once(')')?.1.split_whitespace();
    let parent = after.nth(1)?.parse().ok()?;
    let start = after.nth(17)?.parse().ok()?;
    Some(Used { id: (pid, start), parent, amount })
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
        let used = one(12, "12 (a) b) S 7 1 1 0 -1 4 0 0 0 0 1 2 3 4 20 0 1 0 99 5", 3).unwrap();
        assert!(
            is_alive("1 (a) S 1 1 1 0 -1 4 0 0 0 0 1 2 3 4 20 0 1 0 99 4096 7")
                && !is_alive("1 (a) Z 1 1 1 0 -1 4 0 0 0 0 1 2 3 4 20 0 1 0 99 0 0")
        );
        assert_eq!((used.id, used.parent, used.amount), ((12, 99), 7, 3));
        assert_eq!(written("rchar: 1\nwrite_bytes: 10\ncancelled_write_bytes: 4\n"), 6);
    }
}
