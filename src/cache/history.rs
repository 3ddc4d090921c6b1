//! The history of answers and verifications, for `stats`: one file a day, one entry a line.
//!
//! Several processes append at once: each entry is one write to a file that is open for appending.
//! An entry begins with a line break, so that a torn one spoils no other. No answer comes from
//! here, and an entry that cannot be written is lost.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::debug;

use super::Cache;
use super::files;
use super::index;
use super::layout::{self, Layout};
use super::retention::RemovalReason;
use super::sweep::{CacheItem, SweepReport, remove};
use crate::model::{Answer, Source, Timestamp, os_text};

/// How many days the history goes back.
pub(crate) const HISTORY_DAYS: u64 = 90;
/// The file of a day grows no larger, in bytes.
const LARGEST_DAY: u64 = 4 << 20;
/// So many targets that ran are named in an entry: the slowest.
const NAMED_TARGETS: usize = 50;
/// So many reasons are named in an entry.
const NAMED_REASONS: usize = 20;
/// The longest reason that is named whole, in characters.
const LONGEST_REASON: usize = 200;
/// The reason of the misses whose own reason is not named.
const OTHER_REASONS: &str = "other reasons";

/// One line of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HistoryEntry {
    /// When it was written.
    pub when: Timestamp,
    /// The workspace's root.
    #[serde(with = "os_text")]
    pub project: PathBuf,
    /// What happened.
    #[serde(flatten)]
    pub event: HistoryEvent,
}

/// What the history tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum HistoryEvent {
    /// A question was answered.
    Answered(AnsweredTargets),
    /// An answer from records was compared with a run.
    Verified {
        /// The targets about which they disagreed.
        wrong: BTreeSet<String>,
        /// The signers of wrong records of other machines.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        signers: BTreeSet<String>,
    },
}

/// The test targets of one answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AnsweredTargets {
    /// How many were answered from records.
    pub hits: u64,
    /// How long those ran when they ran, added up, in milliseconds.
    pub saved_ms: u64,
    /// How many ran.
    pub misses: u64,
    /// How many ran for which reason.
    pub reasons: BTreeMap<String, u64>,
    /// The slowest of those that ran.
    pub ran: Vec<TargetTime>,
}

/// How long a target ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TargetTime {
    /// The target's name.
    pub target: String,
    /// In milliseconds.
    pub ms: u64,
}

impl AnsweredTargets {
    /// The targets of an answer.
    pub(crate) fn of(answer: &Answer) -> Self {
        let mut targets = Self::default();
        for target in &answer.targets {
            match target.source {
                Source::Cache => targets.hit(target.duration_ms),
                _ => targets.miss(target.id.to_string(), &target.reason, target.duration_ms),
            }
        }
        targets
    }

    /// Adds a target that was answered from a record of a run of `ms` milliseconds.
    pub(crate) fn hit(&mut self, ms: u64) {
        self.hits += 1;
        self.saved_ms = self.saved_ms.saturating_add(ms);
    }

    /// Adds a target that ran for `ms` milliseconds.
    pub(crate) fn miss(&mut self, target: String, reason: &str, ms: u64) {
        self.misses += 1;
        let reason: String = reason.chars().take(LONGEST_REASON).collect();
        let is_named = self.reasons.len() < NAMED_REASONS || self.reasons.contains_key(&reason);
        let reason = if is_named { reason } else { OTHER_REASONS.to_owned() };
        *self.reasons.entry(reason).or_default() += 1;
        self.ran.push(TargetTime { target, ms });
        self.ran.sort_by_key(|ran| Reverse(ran.ms));
        self.ran.truncate(NAMED_TARGETS);
    }
}

impl Cache {
    /// Appends an event to today's history. To be called when the answer has been printed: nobody
    /// waits for it, and its failure is nobody's failure.
    pub(crate) fn note_history(&self, workspace_root: &Path, event: HistoryEvent) {
        let entry =
            HistoryEntry { when: Timestamp::now(), project: workspace_root.to_owned(), event };
        if let Err(error) = append(&self.layout, &entry) {
            debug!(%error, "an answer is missing in the history");
        }
    }

    /// The readable entries since the beginning of a day (see [`Timestamp::day`]), in the order of
    /// the days.
    pub(crate) fn history(&self, first_day: u64) -> Vec<HistoryEntry> {
        let mut entries = Vec::new();
        for (day, path) in day_files(&self.layout).range(first_day..) {
            let bytes = match files::read(path) {
                Ok((bytes, _)) => bytes,
                Err(unread) => {
                    debug!(file = %path.display(), ?unread, "a day of the history is skipped");
                    continue;
                }
            };
            let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let read = lines.filter_map(|line| serde_json::from_slice::<HistoryEntry>(line).ok());
            entries.extend(read.filter(|entry| entry.when.day() == *day));
        }
        entries
    }

    /// The roots of the projects of which anything is known, in the order of their paths.
    pub(crate) fn known_projects(&self) -> BTreeSet<PathBuf> {
        let projects = index::projects(&self.layout).unwrap_or_default();
        projects.iter().filter_map(|project| index::root_of(&self.layout, project)).collect()
    }
}

fn append(layout: &Layout, entry: &HistoryEntry) -> io::Result<()> {
    let mut line = vec![b'\n'];
    serde_json::to_writer(&mut line, entry)?;
    let path = layout.history_of(entry.when.day());
    let before = files::append(&path, &line, LARGEST_DAY)?;
    if before == 0 {
        // The first entry of a day: the history stays bounded where nobody calls `cache gc`.
        remove_old_days(layout, entry.when, false, &mut SweepReport::default());
    }
    Ok(())
}

/// The files of all days.
fn day_files(layout: &Layout) -> BTreeMap<u64, PathBuf> {
    let names = files::names(&layout.history()).unwrap_or_default().into_iter();
    let days = names.filter(|(_, kind)| kind.is_file());
    days.filter_map(|(name, _)| layout::day_of(&name))
        .map(|day| (day, layout.history_of(day)))
        .collect()
}

/// Removes the days that are older than the history goes back.
pub(super) fn remove_old_days(
    layout: &Layout,
    now: Timestamp,
    dry_run: bool,
    report: &mut SweepReport,
) {
    let first = (now.day() + 1).saturating_sub(HISTORY_DAYS);
    for path in day_files(layout).range(..first).map(|(_, path)| path) {
        let bytes = path.symlink_metadata().map_or(0, |metadata| metadata.len());
        let (item, why) = (CacheItem::File(path.clone()), RemovalReason::History(HISTORY_DAYS));
        remove(path, item, bytes, why, dry_run, report);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(target: &str) -> HistoryEvent {
        let mut targets = AnsweredTargets::default();
        targets.hit(1_000);
        targets.miss(target.to_owned(), "`data` changed", 7);
        HistoryEvent::Answered(targets)
    }

    fn entry(when: Timestamp) -> HistoryEntry {
        HistoryEntry { when, project: "/p".into(), event: answered("p") }
    }

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path().join("cache"));
        (dir, cache)
    }

    #[test]
    fn entries_of_several_processes_come_back() {
        let (_dir, cache) = cache();
        let before = Timestamp::now().day();
        std::thread::scope(|scope| {
            for number in 0..4 {
                let own = Cache::open(cache.dir());
                scope.spawn(move || {
                    for _ in 0..25 {
                        own.note_history(Path::new("/p"), answered(&number.to_string()));
                    }
                });
            }
        });
        let wrong = BTreeSet::from(["p".to_owned()]);
        let verified = HistoryEvent::Verified { wrong, signers: BTreeSet::new() };
        cache.note_history(Path::new("/q"), verified.clone());
        let read = cache.history(before);
        assert_eq!(read.len(), 101);
        let of_second = read.iter().filter(|entry| entry.event == answered("2"));
        assert_eq!(of_second.count(), 25);
        let last = read.last().unwrap();
        assert_eq!(last.project, Path::new("/q"));
        assert_eq!(last.event, verified);
        assert!(cache.history(before + 2).is_empty());
    }

    #[test]
    fn torn_and_foreign_lines_are_skipped() {
        let (_dir, cache) = cache();
        let when = Timestamp(5 * 86_400_000);
        let path = cache.layout.history_of(5);
        append(&cache.layout, &entry(when)).unwrap();
        for torn in [
            &b"\n{\"when\":4320"[..],
            b"\n\xff\xfe\0\0",
            b"\n[]",
            b"\n{\"when\":432000000,\"project\":\"/p\",\"type\":\"sung\"}",
            b"\n{\"when\":1,\"project\":\"/p\",\"type\":\"verified\",\"wrong\":[]}",
        ] {
            files::append(&path, torn, LARGEST_DAY).unwrap();
            append(&cache.layout, &entry(when)).unwrap();
        }
        assert_eq!(cache.history(0), vec![entry(when); 6]);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(cache.history(0).is_empty());
        assert!(append(&cache.layout, &entry(when)).is_err());
        cache.note_history(Path::new("/p"), answered("p"));
    }

    #[test]
    fn a_day_and_the_number_of_days_are_bounded() {
        let (_dir, cache) = cache();
        let at = |day: u64| Timestamp(day * 86_400_000);
        let path = cache.layout.history_of(1);
        files::append(&path, &vec![b' '; 1 << 20], LARGEST_DAY).unwrap();
        let full = files::append(&path, &vec![b' '; LARGEST_DAY as usize], LARGEST_DAY);
        assert!(full.is_err());
        assert_eq!(path.metadata().unwrap().len(), 1 << 20);
        for day in [2, HISTORY_DAYS, HISTORY_DAYS + 1] {
            append(&cache.layout, &entry(at(day))).unwrap();
        }
        assert!(!path.exists(), "the first entry of a day removes what is too old");
        let mut report = SweepReport::default();
        remove_old_days(&cache.layout, at(HISTORY_DAYS + 2), true, &mut report);
        assert_eq!((report.removed.len(), cache.history(0).len()), (1, 3));
        remove_old_days(&cache.layout, at(HISTORY_DAYS + 2), false, &mut report);
        assert_eq!(cache.history(0).len(), 2);
        std::fs::write(cache.layout.history().join("notes.txt"), "").unwrap();
        remove_old_days(&cache.layout, at(9 * HISTORY_DAYS), false, &mut report);
        assert!(cache.history(0).is_empty() && cache.layout.history().join("notes.txt").exists());
    }

    #[test]
    fn an_entry_is_bounded_and_names_the_slowest() {
        let mut targets = AnsweredTargets::default();
        for number in 0..200_u64 {
            targets.miss(number.to_string(), &format!("{number} {}", "x".repeat(999)), number);
        }
        assert_eq!((targets.misses, targets.ran.len()), (200, NAMED_TARGETS));
        assert_eq!(targets.ran[0], TargetTime { target: "199".to_owned(), ms: 199 });
        assert_eq!(targets.reasons.values().sum::<u64>(), 200);
        assert_eq!(targets.reasons[OTHER_REASONS], 200 - NAMED_REASONS as u64);
        let text = serde_json::to_string(&targets).unwrap();
        assert!(text.len() < 10_000, "{}", text.len());
    }
}
