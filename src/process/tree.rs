//! Process trees: finding all descendants of a process, and signalling them.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The descendants of `root`, including those that left its group by `setsid`. Empty without
/// `/proc`; then only the group can be reached.
#[must_use]
pub fn descendants(root: Pid) -> Vec<Pid> {
    let parents: Vec<(i32, i32)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let mut found = vec![root.as_raw_nonzero().get()];
    let mut next = 0;
    while next < found.len() {
        let this = found[next];
        found.extend(parents.iter().filter(|(_, parent)| *parent == this).map(|(pid, _)| *pid));
        next += 1;
    }
    found.into_iter().skip(1).filter_map(Pid::from_raw).collect()
}

/// The fourth field of `/proc/PID/stat`; the second can hold spaces and parentheses.
fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Sends `signal` to the group that `leader` leads and to all its descendants.
pub(super) fn signal_tree(leader: Pid, signal: Signal) {
    let descendants = descendants(leader);
    // An error means that the process or group is gone already.
    let _ = kill_process_group(leader, signal);
    for pid in descendants {
        let _ = kill_process(pid, signal);
    }
}
