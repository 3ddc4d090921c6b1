//! What a daemon costs that has nothing to do.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use super::stage::{Stage, pause};
use super::table::Table;
use super::workspaces::Workspaces;

/// Questions before the look: what they leave behind counts.
const QUESTIONS: usize = 20;
pub(crate) const IDLE: Duration = Duration::from_secs(60);

pub(crate) fn measure(stage: &Stage, workspaces: &Workspaces, table: &mut Table) {
    let large = &workspaces.large;
    // Once from nothing, and once as every later start finds it: reading everything leaves other
    // holes in memory than taking the digests from the memo.
    stage.forget();
    for (start, watch_it) in [("first start", true), ("later start", false)] {
        stage.daemon(&[large]);
        stage.warm(large, &[]);
        let id = stage.daemon_id();
        let asleep = Used::by(id);
        for _ in 0..QUESTIONS {
            stage.ours(large, &["test"]);
        }
        // A meter that does not move while questions are answered measures nothing.
        let awake = asleep.zip(Used::by(id)).map(|(before, after)| after.at_least_since(&before));
        assert!(awake.is_none_or(|used| !used.is_zero()), "the processor time is not counted here");
        // The last background work and its threads end.
        pause(Duration::from_secs(15));
        let (resident, peak) = (memory(id, "VmRSS:"), memory(id, "VmHWM:"));
        let what = format!("resident memory of the daemon, 100,000 files, {start}");
        let ours = format!("{} (peak {})", bytes(resident), bytes(peak));
        table.row(&what, ours, "", "", "60 MB, hope 30 MB");
        if watch_it {
            let before = Used::by(id);
            pause(IDLE);
            let used = before.zip(Used::by(id)).and_then(|(before, after)| after.since(&before));
            let used = used.map_or("not told here".to_owned(), |(time, switches)| {
                format!("{:.2} ms, {switches} wake-ups", time.as_secs_f64() * 1e3)
            });
            let what = "processor time of the daemon, 60 s idle, 100,000 files";
            table.row(what, used, "", "", "20 ms, hope 5 ms");
        }
        stage.end_daemon();
    }
}

/// For a person.
pub(crate) fn bytes(kib: Option<u64>) -> String {
    kib.map_or("not told here".to_owned(), |kib| format!("{:.1} MB", kib as f64 * 1.024e-3))
}

/// A line of `/proc/<id>/status` in KiB; `None` where there is no such file.
pub(crate) fn memory(id: u32, name: &str) -> Option<u64> {
    number(&fs::read_to_string(format!("/proc/{id}/status")).ok()?, name)
}

fn number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Processor time and switches of each thread, from the scheduler's own clock: ticks are too
/// coarse.
pub(crate) struct Used(BTreeMap<String, (Duration, u64)>);

impl Used {
    /// So far; `None` where the system does not tell.
    pub(crate) fn by(id: u32) -> Option<Self> {
        let threads = fs::read_dir(format!("/proc/{id}/task")).ok()?.flatten().map(|thread| {
            let line = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            let time = Duration::from_nanos(line.split_whitespace().next()?.parse().ok()?);
            let status = fs::read_to_string(thread.path().join("status")).ok()?;
            let switches = number(&status, "voluntary_ctxt_switches:")?
                + number(&status, "nonvoluntary_ctxt_switches:")?;
            Some((thread.file_name().to_string_lossy().into_owned(), (time, switches)))
        });
        threads.collect::<Option<_>>().map(Self)
    }

    /// What was used since `before`; `None` if a thread has ended, with which its share is gone.
    pub(crate) fn since(&self, before: &Self) -> Option<(Duration, u64)> {
        let all_there = before.0.keys().all(|thread| self.0.contains_key(thread));
        let switches: u64 = self.0.iter().map(|(t, (_, n))| n - before.of(t).1).sum();
        all_there.then(|| (self.at_least_since(before), switches))
    }

    /// The same for the threads that are left.
    fn at_least_since(&self, before: &Self) -> Duration {
        self.0.iter().map(|(thread, (time, _))| *time - before.of(thread).0).sum()
    }

    fn of(&self, thread: &str) -> (Duration, u64) {
        self.0.get(thread).copied().unwrap_or_default()
    }
}
