//! Adds up the history of each project.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::cache::{
    AnsweredTargets, Cache, HistoryEvent, ObservationCost, SelectionRecord, Uncached,
};

/// Sums of answers and verifications.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HistorySums {
    /// How many questions were answered.
    pub(super) answers: u64,
    /// How many of them from records alone.
    pub(super) from_cache: u64,
    /// How many targets were answered from records.
    pub(super) hits: u64,
    /// How many targets ran.
    pub(super) misses: u64,
    /// How long the hits ran when they ran, in milliseconds.
    pub(super) saved_ms: u64,
    /// How many answers were verified.
    pub(super) verified: u64,
    /// How many of those were wrong.
    pub(super) wrong: u64,
}

impl HistorySums {
    fn answer(&mut self, answered: &AnsweredTargets) {
        self.add(&Self {
            answers: 1,
            from_cache: u64::from(answered.misses == 0),
            hits: answered.hits,
            misses: answered.misses,
            saved_ms: answered.saved_ms,
            ..Self::default()
        });
    }

    /// Adds other sums. Foreign lines may hold any number.
    fn add(&mut self, other: &Self) {
        let mut add = |sum: fn(&mut Self) -> &mut u64, more: u64| {
            let sum = sum(self);
            *sum = sum.saturating_add(more);
        };
        add(|sums| &mut sums.answers, other.answers);
        add(|sums| &mut sums.from_cache, other.from_cache);
        add(|sums| &mut sums.hits, other.hits);
        add(|sums| &mut sums.misses, other.misses);
        add(|sums| &mut sums.saved_ms, other.saved_ms);
        add(|sums| &mut sums.verified, other.verified);
        add(|sums| &mut sums.wrong, other.wrong);
    }

    /// The share of targets that were answered from records, in percent.
    pub(super) fn hit_percent(&self) -> u64 {
        let all = self.hits.saturating_add(self.misses).max(1);
        self.hits.saturating_mul(100) / all
    }
}

/// The runs of one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TargetRuns {
    pub(super) runs: u64,
    pub(super) slowest_ms: u64,
    pub(super) total_ms: u64,
}

/// What is known of one project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ProjectHistory {
    pub(super) root: PathBuf,
    /// By the day since the epoch; days without an entry are missing.
    pub(super) days: BTreeMap<u64, HistorySums>,
    /// How many targets ran for which reason.
    reasons: BTreeMap<String, u64>,
    targets: BTreeMap<String, TargetRuns>,
    /// Targets of which a verified answer was wrong.
    pub(super) wrong: BTreeSet<String>,
    /// The signers of wrong records of other machines.
    pub(super) wrong_signers: BTreeSet<String>,
    /// Targets whose last green run was not cached, and calls by cargo itself, by name.
    pub(super) not_cached: BTreeMap<String, Uncached>,
    /// Targets that cost more to observe than the configured share of their last run, by name.
    pub(super) over_budget: BTreeMap<String, ObservationCost>,
    /// What a selection per test would have run, ever since.
    pub(super) selection: SelectionRecord,
}

impl ProjectHistory {
    fn new(root: &Path, cache: &Cache) -> Self {
        let state = cache.state(root);
        let calls = state.uncached_calls.into_iter();
        let calls = calls.map(|(name, call)| match call.args.as_str() {
            "" => (name, call.uncached),
            args => (format!("{name} {args}"), call.uncached),
        });
        Self {
            root: root.to_owned(),
            not_cached: calls.chain(state.uncached).collect(),
            over_budget: state.over_budget,
            selection: state.selection,
            ..Self::default()
        }
    }

    fn note(&mut self, day: u64, event: HistoryEvent) {
        let sums = self.days.entry(day).or_default();
        match event {
            HistoryEvent::Answered(answered) => {
                sums.answer(&answered);
                for (reason, misses) in answered.reasons {
                    let sum = self.reasons.entry(reason).or_default();
                    *sum = sum.saturating_add(misses);
                }
                for ran in answered.ran {
                    let target = self.targets.entry(ran.target).or_default();
                    target.runs += 1;
                    target.slowest_ms = target.slowest_ms.max(ran.ms);
                    target.total_ms = target.total_ms.saturating_add(ran.ms);
                }
            }
            HistoryEvent::Verified { wrong, signers } => {
                sums.verified += 1;
                sums.wrong += u64::from(!wrong.is_empty());
                self.wrong.extend(wrong);
                self.wrong_signers.extend(signers);
            }
        }
    }

    /// The sums over all days.
    pub(super) fn sums(&self) -> HistorySums {
        let mut all = HistorySums::default();
        self.days.values().for_each(|day| all.add(day));
        all
    }

    /// The reasons of the misses, the most frequent first.
    pub(super) fn reasons(&self) -> Vec<(&str, u64)> {
        let reasons = self.reasons.iter().map(|(reason, misses)| (reason.as_str(), *misses));
        let mut reasons: Vec<_> = reasons.collect();
        reasons.sort_by_key(|(_, misses)| Reverse(*misses));
        reasons
    }

    /// The targets that ran, the slowest first.
    pub(super) fn slowest(&self) -> Vec<(&str, &TargetRuns)> {
        let targets = self.targets.iter().map(|(name, runs)| (name.as_str(), runs));
        let mut targets: Vec<_> = targets.collect();
        targets.sort_by_key(|(_, runs)| Reverse(runs.slowest_ms));
        targets
    }
}

/// The history of `only`, or of every project with one, since the beginning of a day.
pub(super) fn histories(cache: &Cache, only: Option<&Path>, first: u64) -> Vec<ProjectHistory> {
    let mut projects: BTreeMap<PathBuf, ProjectHistory> = BTreeMap::new();
    let known = cache.known_projects();
    for root in only.map_or(known, |root| BTreeSet::from([root.to_owned()])) {
        projects.insert(root.clone(), ProjectHistory::new(&root, cache));
    }
    for entry in cache.history(first) {
        if only.is_some_and(|only| only != entry.project) {
            continue;
        }
        let project = projects.entry(entry.project);
        let project = project.or_insert_with_key(|root| ProjectHistory::new(root, cache));
        project.note(entry.when.day(), entry.event);
    }
    let mut projects: Vec<_> = projects.into_values().collect();
    // A project that was named is told of in any case.
    projects.retain(|project| only.is_some() || !project.days.is_empty());
    projects
}

/// The date of a day since the epoch, in the Gregorian calendar.
pub(super) fn date(day: u64) -> String {
    // Counted from a first of March, leap days come last; 400 years have 146,097 days.
    let day = day.saturating_add(719_468);
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (day, expected) in [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_453, "2025-12-31"),
            (20_454, "2026-01-01"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(date(day), expected);
        }
    }

    #[test]
    fn sums_reasons_and_targets_add_up_and_no_number_overflows() {
        let mut project = ProjectHistory::default();
        assert_eq!(project.sums().hit_percent(), 0);
        for (day, reason, ms) in [(7, "a", 5), (8, "b", 9), (8, "b", 1)] {
            let mut answered = AnsweredTargets::default();
            answered.hit(100);
            answered.miss(format!("p::{reason}"), reason, ms);
            project.note(day, HistoryEvent::Answered(answered));
        }
        let mut answered = AnsweredTargets::default();
        answered.hit(50);
        project.note(8, HistoryEvent::Answered(answered));
        let verified = |wrong: &BTreeSet<String>, signers: &BTreeSet<String>| {
            HistoryEvent::Verified { wrong: wrong.clone(), signers: signers.clone() }
        };
        project.note(8, verified(&BTreeSet::new(), &BTreeSet::new()));
        let wrong = BTreeSet::from(["p::a".to_owned()]);
        let signers = BTreeSet::from(["ci@example.com".to_owned()]);
        project.note(8, verified(&wrong, &signers));
        assert_eq!(project.wrong_signers, signers);
        let expected = HistorySums {
            answers: 4,
            from_cache: 1,
            hits: 4,
            misses: 3,
            saved_ms: 350,
            verified: 2,
            wrong: 1,
        };
        assert_eq!((project.sums(), &project.wrong), (expected, &wrong));
        assert_eq!((project.sums().hit_percent(), project.days.len()), (57, 2));
        assert_eq!(project.reasons(), [("b", 2), ("a", 1)]);
        let slowest = project.slowest();
        assert_eq!(slowest[0], ("p::b", &TargetRuns { runs: 2, slowest_ms: 9, total_ms: 10 }));
        let all = AnsweredTargets { hits: u64::MAX, saved_ms: u64::MAX, ..Default::default() };
        project.note(8, HistoryEvent::Answered(all.clone()));
        project.note(8, HistoryEvent::Answered(all));
        assert_eq!(project.sums().hits, u64::MAX);
        assert!(project.sums().hit_percent() <= 100);
    }
}
