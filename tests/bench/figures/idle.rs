//! What a daemon costs that has nothing to do.

use std::fs;
use std::time::Duration;

use super::stage::{Stage, pause};
use super::table::Table;
use super::workspaces::Workspaces;

/// Questions before the look: what they leave behind counts.
const QUESTIONS: usize = 20;
const IDLE: Duration = Duration::from_secs(60);

pub(crate) fn measure(stage: &Stage, workspaces: &Workspaces, table: &mut Table) {
    let large = &workspaces.large;
    stage.daemon(&[large]);
    stage.warm(large, &[]);
    for _ in 0..QUESTIONS {
        stage.ours(large, &["test"]);
    }
    let id = stage.daemon_id();
    // The last background work ends, and freed memory is given back.
    pause(Duration::from_secs(15));
    let before = processor_time(id);
    pause(IDLE);
    let used = processor_time(id).zip(before).map(|(after, before)| after.saturating_sub(before));
    let (resident, peak) = (memory(id, "VmRSS:"), memory(id, "VmHWM:"));
    let bytes = |kib: Option<u64>| {
        kib.map_or("not told here".to_owned(), |kib| format!("{:.1} MB", kib as f64 * 1.024e-3))
    };
    let what = "resident memory of the daemon, 100,000 files";
    let peak = format!("(peak {})", bytes(peak));
    table.row(what, format!("{} {peak}", bytes(resident)), "", "", "60 MB, hope 30 MB");
    let used = used
        .map_or("not told here".to_owned(), |used| format!("{:.2} ms", used.as_secs_f64() * 1e3));
    let what = "processor time of the daemon, 60 s idle, 100,000 files";
    table.row(what, used, "", "", "20 ms, hope 5 ms");
    stage.end_daemon();
}

/// A line of `/proc/<id>/status` in KiB; `None` where there is no such file.
fn memory(id: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The processor time of all threads, from the scheduler's own clock: ticks are too coarse.
fn processor_time(id: u32) -> Option<Duration> {
    let threads = fs::read_dir(format!("/proc/{id}/task")).ok()?;
    let nanoseconds = threads.flatten().map(|thread| {
        let line = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    });
    nanoseconds.sum::<Option<u64>>().map(Duration::from_nanos)
}
