//! One call of a test program by cargo itself: its records, and what is kept of its run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::super::patterns::{Excluded, Trusted};
use super::super::states::States;
use super::inputs::{Fate, Judge};
use super::key::{SLOTS, Subject};
use super::{is_of, real};
use crate::cache::{Cache, Key, Limits, Lookup, Record};
use crate::config::Settings;
use crate::model::{Digest, Digester, TargetReport, Timestamp, Verdict};
use crate::observer::Observation;
use crate::protocol::VERSION;

/// One call, with what decides its outcome.
pub(in crate::verdict) struct Call<'a> {
    pub(in crate::verdict) subject: Subject,
    pub(in crate::verdict) root: &'a Path,
    pub(in crate::verdict) settings: &'a Settings,
    pub(in crate::verdict) cache: &'a Cache,
    pub(in crate::verdict) states: States,
}

impl Call<'_> {
    fn keys(&self) -> impl Iterator<Item = Key> + use<> {
        (0..SLOTS).map(|number| self.subject.call(number)).collect::<Vec<_>>().into_iter()
    }

    /// The record that answers.
    pub(in crate::verdict) fn find(&mut self) -> Option<Arc<Record>> {
        let now = Timestamp::now();
        for key in self.keys() {
            if let Lookup::Hit(record) = self.cache.get(&key, now, self.settings.ttl)
                && is_of(&record, &self.subject)
                && self.states.first_changed(self.root, &record.inputs).is_none()
            {
                return Some(record);
            }
        }
        None
    }

    /// The run was red: records that would answer are wrong.
    pub(in crate::verdict) fn disprove(&mut self) {
        for _ in 0..SLOTS {
            let Some(record) = self.find() else { return };
            self.cache.disprove(&record.key);
        }
    }

    /// Judges a run that was started at `started` and has ended, and keeps it if nothing that it
    /// depends on is in doubt.
    pub(in crate::verdict) fn keep(
        &mut self,
        report: TargetReport,
        (seen, started): (&Observation, SystemTime),
        (target_dir, temporary): (&Path, &Path),
        limits: Limits,
    ) {
        let judge = Judge {
            root: self.root.to_owned(),
            subject: self.subject.clone(),
            target_dirs: vec![real(target_dir)],
            // No toolchain is part of the key: all that is looked for in its folders counts.
            covered: Vec::new(),
            temporary: real(temporary),
            excluded: Excluded::of(self.settings),
            trusted: Trusted::of(self.settings),
        };
        let Fate::Inputs(inputs) = judge.judge(seen, started, &mut self.states) else { return };
        let now = Timestamp::now();
        let key = self.place_for(now, &inputs);
        let record = Record {
            key,
            created: now,
            project: self.root.to_owned(),
            code_hash: day(now),
            selection: format!("call of test target {}", report.id),
            verdict: Verdict::Pass,
            inputs,
            duration_ms: report.duration_ms,
            targets: vec![report],
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            tool_version: VERSION.to_owned(),
            identity: self.subject.parts.clone(),
        };
        // Bringing everything back within the limits takes a look at everything: now and then.
        let seldom = record.key.digest.to_string().starts_with('0');
        let stored = if seldom {
            self.cache.put(&record, limits).map(drop)
        } else {
            self.cache.store(&record, limits).map(drop)
        };
        if let Err(error) = stored {
            tracing::warn!(%error, "a run is not kept");
        }
    }

    /// A place that holds the same inputs or nothing, else that of the oldest.
    fn place_for(&self, now: Timestamp, inputs: &[crate::cache::Input]) -> Key {
        let mut free = None;
        let mut oldest: Option<(Timestamp, Key)> = None;
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

/// Where what is loaded of a program is remembered.
pub(in crate::verdict) fn memo_of(cache: &Cache, program: &Path) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    let name = Digest::of(program.as_os_str().as_bytes()).to_string();
    cache.dir().join("programs").join(name)
}
