//! Facts of the host that workers need: which processes live, what they use, and how the rest of a dead worker is killed.

use std::path::Path;

/// Returns a process's start time in clock ticks since boot, while it lives.
pub fn start_time(pid: u32) -> Option<u64> {
    stat(pid).and_then(|fields| fields.get(19)?.parse().ok())
}

/// The fields of `/proc/PID/stat` from the third on (the name may hold blanks), `proc_pid_stat(5)`. `None` for a zombie too: it lives no more.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<String> = text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect();
    (!matches!(fields.first().map(String::as_str), Some("Z" | "X"))).then_some(fields)
}

/// Adds up the CPU time of a process and everything below it, in clock ticks.
pub fn cpu_ticks(pid: u32) -> Option<u64> {
    let own = |fields: &[String]| -> Option<u64> { Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?) };
    let mut sum = own(&stat(pid)?)?;
    let mut open = children(pid);
    while let Some(child) = open.pop() {
        if let Some(ticks) = stat(child).and_then(|fields| own(&fields)) {
            sum += ticks;
        }
        open.extend(children(child));
    }
    Some(sum)
}

fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()).collect()
}

/// Kills the first process of a box whose worker died; the kernel then kills all others in it. Does nothing when another process has that id now.
pub fn kill_orphan(pid: u32, start: u64) {
    let Some(id) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else { return };
    // The descriptor pins the process, so that the check and the signal speak of the same one.
    let Ok(process) = rustix::process::pidfd_open(id, rustix::process::PidfdFlags::empty()) else { return };
    if start_time(pid) == Some(start) {
        let _ = rustix::process::pidfd_send_signal(process, rustix::process::Signal::KILL);
    }
}

/// The name of this life of this process: machine, boot, process id and start time.
pub fn holder() -> String {
    let pid = std::process::id();
    format!("{}/{}/{pid}/{}", machine(), boot(), start_time(pid).unwrap_or_default())
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(path)).map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn machine() -> String {
    match read("/etc/machine-id") {
        id if id.is_empty() => read("/proc/sys/kernel/hostname"),
        id => id,
    }
}

fn boot() -> String {
    read("/proc/sys/kernel/random/boot_id")
}

/// Whether a holder is proved dead: of this machine, and from an earlier boot or a process that is gone. Anything else may live.
pub fn is_dead(holder: &str) -> bool {
    let parts: Vec<&str> = holder.split('/').collect();
    let [of_machine, of_boot, pid, start] = parts[..] else { return false };
    let (Ok(pid), Ok(start)) = (pid.parse::<u32>(), start.parse::<u64>()) else { return false };
    of_machine == machine() && (of_boot != boot() || start_time(pid) != Some(start))
}

/// Names a holder for a person.
pub fn describe(holder: &str) -> String {
    match holder.split('/').collect::<Vec<_>>()[..] {
        [of_machine, _, pid, _] if of_machine == machine() => format!("process {pid}"),
        [of_machine, _, pid, _] => format!("process {pid} on the machine {of_machine}"),
        _ => format!("the worker {holder}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_another_start_is_not() {
        let me = holder();
        assert!(!is_dead(&me));
        let (rest, start) = me.rsplit_once('/').unwrap();
        assert!(is_dead(&format!("{rest}/{}", start.parse::<u64>().unwrap() + 1)));
        assert!(!is_dead("elsewhere/boot/1/1") && !is_dead("nonsense"));
    }

    #[test]
    fn cpu_time_counts_the_whole_tree() {
        #[expect(clippy::disallowed_methods, reason = "a test needs a child that works")]
        let mut child = std::process::Command::new("sh").args(["-c", "(while :; do :; done) & wait"]).spawn().unwrap();
        aedile_testkit::wait_for("CPU time below the child", std::time::Duration::from_secs(20), || {
            cpu_ticks(child.id()).filter(|ticks| *ticks >= 5)
        });
        for pid in children(child.id()) {
            kill_orphan(pid, start_time(pid).unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
