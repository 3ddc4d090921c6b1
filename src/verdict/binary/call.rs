//! One call of a test program by cargo itself: its records, and what is kept of its run.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::super::calls;
use super::super::fingerprint::Fingerprints;
use super::super::patterns::{Excluded, Trusted};
use super::inputs::{Cacheability, InputJudge};
use super::key::{SLOTS, Subject};
use super::{PROGRAM_FILE, is_of, real};
use crate::cache::{Cache, Input, Limits, Lookup, MissReason, PutError, Record, RecordKey};
use crate::config::Settings;
use crate::model::{Digest, Digester, TargetReport, Timestamp};
use crate::observer::Observation;
use crate::protocol::VERSION;

/// One call, with what decides its outcome.
pub(in crate::verdict) struct CallRecords<'a> {
    pub(in crate::verdict) subject: Subject,
    /// See [`calls::plain_name`].
    pub(in crate::verdict) plain: String,
    pub(in crate::verdict) root: &'a Path,
    pub(in crate::verdict) settings: &'a Settings,
    pub(in crate::verdict) cache: &'a Cache,
    pub(in crate::verdict) fingerprints: Fingerprints,
}

impl CallRecords<'_> {
    fn keys(&self) -> impl Iterator<Item = RecordKey> + use<> {
        (0..SLOTS).map(|number| self.subject.call(number)).collect::<Vec<_>>().into_iter()
    }

    /// The record that answers.
    pub(in crate::verdict) fn find(&mut self) -> Option<Arc<Record>> {
        let now = Timestamp::now();
        for key in self.keys() {
            if let Lookup::Hit(record) = self.cache.get(&key, now, self.settings.ttl)
                && is_of(&record, &self.subject)
                && self.still_holds(&record)
            {
                return Some(record);
            }
        }
        None
    }

    /// What earlier runs of the very same call came to, green or red, however long ago.
    pub(in crate::verdict) fn earlier(&mut self) -> Vec<Arc<Record>> {
        let now = Timestamp::now();
        let keys = self.keys().chain([self.subject.red_call()]);
        let records = keys.filter_map(|key| match self.cache.get(&key, now, Duration::MAX) {
            Lookup::Hit(record) | Lookup::Miss(MissReason::NotGreen(record)) => Some(record),
            Lookup::Miss(_) => None,
        });
        let mut records: Vec<_> = records.collect();
        records.retain(|record| is_of(record, &self.subject) && self.still_holds(record));
        records
    }

    /// Whether everything that the record depends on is as it was.
    pub(in crate::verdict) fn still_holds(&mut self, record: &Record) -> bool {
        self.fingerprints.first_changed(self.root, &record.inputs).is_none()
    }

    /// What a run that was started at `started` and has ended depends on.
    pub(in crate::verdict) fn judge(
        &mut self,
        (seen, started): (&Observation, SystemTime),
        (target_dir, temporary): (&Path, &Path),
    ) -> Cacheability {
        let judge = InputJudge {
            root: self.root.to_owned(),
            subject: self.subject.clone(),
            target_dirs: vec![real(target_dir)],
            // No toolchain is part of the key: all that is looked for in its folders counts.
            covered: Vec::new(),
            temporary: real(temporary),
            excluded: Excluded::of(self.settings),
            trusted: Trusted::of(self.settings),
        };
        judge.judge(seen, started, &mut self.fingerprints)
    }

    /// Keeps a run: a green one as an answer, one that failed to compare with.
    pub(in crate::verdict) fn keep(
        &self,
        report: TargetReport,
        inputs: Vec<Input>,
        limits: Limits,
    ) {
        let now = Timestamp::now();
        let is_green = report.verdict == crate::model::Verdict::Pass;
        let red = self.subject.red_call();
        let key = if is_green { self.place_for(now, &inputs) } else { red };
        let mut identity = self.subject.parts.clone();
        if let Some(program) = &self.subject.program {
            identity.insert(PROGRAM_FILE.to_owned(), program.path.display().to_string());
        }
        let record = Record {
            key,
            created: now,
            workspace_root: self.root.to_owned(),
            code_hash: day(now),
            selection: calls::selection_text(&self.plain),
            verdict: report.verdict,
            inputs,
            duration_ms: report.duration_ms,
            targets: vec![report],
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            tool_version: VERSION.to_owned(),
            identity,
        };
        if let Err(error) = self.store(&record, limits) {
            tracing::warn!(%error, "a run is not kept");
        } else if is_green
            && !matches!(self.cache.get(&red, now, Duration::MAX), Lookup::Miss(MissReason::Absent))
        {
            // It has had its say.
            self.cache.disprove(&red);
        }
    }

    fn store(&self, record: &Record, limits: Limits) -> Result<(), PutError> {
        // Bringing everything back within the limits takes a look at everything: now and then.
        let seldom = record.key.digest.to_string().starts_with('0');
        if seldom {
            self.cache.put(record, limits).map(drop)
        } else {
            self.cache.store(record, limits).map(drop)
        }
    }

    /// A place that holds the same inputs or nothing, else that of the oldest.
    fn place_for(&self, now: Timestamp, inputs: &[Input]) -> RecordKey {
        let mut free = None;
        let mut oldest: Option<(Timestamp, RecordKey)> = None;
        for key in self.keys() {
            match self.cache.get(&key, now, Duration::MAX) {
                Lookup::Hit(record) if record.inputs == inputs => return key,
                Lookup::Hit(record) => {
                    if oldest.is_none_or(|(then, _)| record.created < then) {
                        oldest = Some((record.created, key));
                    }
                }
                Lookup::Miss(_) => free = free.or(Some(key)),
            }
        }
        free.or(oldest.map(|(_, key)| key)).unwrap_or_else(|| self.subject.call(0))
    }
}

/// What stands for the snapshot, which nobody has taken: the day, so that as many days are kept
/// as snapshots may be.
fn day(now: Timestamp) -> Digest {
    const DAY: u64 = 86_400_000;
    let mut digester = Digester::new("calls of a day 1");
    digester.number(now.0 / DAY);
    digester.finish()
}
