//! Why no record answers for a target, whatever the record says, and why the record of another run does
//! not answer although nothing that it consulted has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::checkout::found_elsewhere;
use super::facts::Question;
use super::fingerprint::Fingerprints;
use super::patterns::AlwaysRun;
use super::unseen_reads::may_read_otherwise;
use crate::cache::{Cache, ProjectState, Record};
use crate::config::Settings;
use crate::model::{TargetId, TargetReport};

/// Why no record answers for a target. Of several reasons, the first one here is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum BarReason {
    /// The config has it always run.
    AlwaysRun,
    /// A verified answer of it was wrong.
    Distrusted,
    /// Some of its tests are flaky.
    Flaky,
}

impl BarReason {
    /// The reason, for a person.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::AlwaysRun => "the config has it always run",
            Self::Distrusted => {
                "a verified answer of it was wrong: it runs until `knhk-test-cache resume --trust`"
            }
            Self::Flaky => "some of its tests are flaky",
        }
    }
}

impl fmt::Display for BarReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The targets for which no record answers, by the config and by what runs have shown.
#[derive(Clone, Debug)]
pub(super) struct BarredTargets {
    always: AlwaysRun,
    distrusted: BTreeSet<String>,
    flaky: BTreeSet<String>,
}

impl BarredTargets {
    /// Those of a project with these settings and in this state.
    pub(super) fn of(settings: &Settings, state: &ProjectState) -> Self {
        fn names<T>(of: &BTreeMap<String, T>) -> BTreeSet<String> {
            of.keys().cloned().collect()
        }
        let (distrusted, flaky) = (names(&state.distrusted), names(&state.flaky));
        Self { always: AlwaysRun::of(settings), distrusted, flaky }
    }

    /// Why no record answers for this target; `None` if one may.
    pub(super) fn why(&self, id: &TargetId) -> Option<BarReason> {
        let name = id.to_string();
        match () {
            () if self.always.names(id) => Some(BarReason::AlwaysRun),
            () if self.distrusted.contains(&name) => Some(BarReason::Distrusted),
            () => self.flaky.contains(&name).then_some(BarReason::Flaky),
        }
    }

    /// Why this record does not answer for all of its targets; `None` if it may.
    pub(super) fn why_not(&self, record: &Record) -> Option<String> {
        let barred = |report: &TargetReport| Some((self.why(&report.id)?, report.id.clone()));
        let (why, id) = record.targets.iter().filter_map(barred).min_by_key(|(why, _)| *why)?;
        Some(format!("{id}: {why}"))
    }
}

/// Why a record that is looked up before a build does not answer here although nothing that its run
/// consulted has changed: another checkout finds other files, or it took too long.
pub(super) fn obstacle_here(
    record: &Record,
    cache: &Cache,
    question: &Question,
    fingerprints: &mut Fingerprints,
) -> Option<String> {
    let Question { root, environment, settings, .. } = question;
    found_elsewhere(record, root, environment, fingerprints)
        .or_else(|| may_read_otherwise(record, cache, question, fingerprints))
        .or_else(|| over_time(record, settings.timeout))
}

/// Why a record of a run that took longer than a test target may now does not answer.
pub(super) fn over_time(record: &Record, timeout: Option<Duration>) -> Option<String> {
    let timeout = timeout?;
    let took = |report: &&TargetReport| Duration::from_millis(report.duration_ms) >= timeout;
    let slow = record.targets.iter().find(took)?;
    let (id, took) = (&slow.id, slow.duration_ms);
    Some(format!("{id} took {took} ms, more than the `timeout` of {} ms", timeout.as_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::shipped_settings;
    use crate::model::Timestamp;

    #[test]
    fn the_first_reason_is_told_whichever_target_it_is_of() {
        let id = TargetId::sample;
        let settings = Settings { always_run: vec!["p::always".to_owned()], ..shipped_settings() };
        let mut state = ProjectState::default();
        for name in ["always", "wrong", "both"] {
            state.distrusted.insert(id(name).to_string(), Timestamp(1));
        }
        for name in ["always", "both", "flaky"] {
            state.flaky.insert(id(name).to_string(), Vec::new());
        }
        let barred = BarredTargets::of(&settings, &state);
        let whys = ["always", "wrong", "both", "flaky", "plain"].map(|name| barred.why(&id(name)));
        let [always, wrong, both, flaky, plain] = whys;
        assert_eq!((always, plain), (Some(BarReason::AlwaysRun), None));
        assert_eq!((wrong, both), (Some(BarReason::Distrusted), Some(BarReason::Distrusted)));
        assert_eq!(flaky, Some(BarReason::Flaky));
    }
}
