//! Keeping what single targets came to, of a run that came to its end and of one that did not.

use std::collections::BTreeMap;

use super::super::binary::{Cacheability, Uncacheable};
use super::super::calls::{self, Red};
use super::super::execute::{FinishedTargets, RanTargets};
use super::super::fingerprint::Fingerprints;
use super::super::{ProjectTree, TreeState, code_hash, failed};
use super::{Answering, Known};
use crate::cache::{ProjectState, Record, Uncached};
use crate::model::{Digest, Timestamp, Verdict};
use crate::process::Priority;

impl Answering<'_> {
    /// Keeps what each target came to; why the whole cannot be kept, if so. `still` is the tree's
    /// digest if nothing of it has changed.
    pub(super) fn keep_targets(
        &self,
        ran: &mut RanTargets<'_>,
        tree: Option<&Digest>,
        still: Option<&Digest>,
        when: Timestamp,
    ) -> Vec<String> {
        let Some(mut level) = ran.level.take() else {
            self.disprove_calls(ran);
            return Vec::new();
        };
        let code_hash = tree.map(|tree| code_hash(tree, &self.facts.identity));
        let mut not_kept = Vec::new();
        let mut uncached = BTreeMap::new();
        let mut records = Vec::new();
        for (index, target) in ran.targets.iter().enumerate() {
            if let (Some(record), Some(code_hash)) = (&target.kept, code_hash) {
                level.claim(record, code_hash);
                continue;
            }
            if target.report.verdict != Verdict::Pass {
                level.disprove(index, &target.report, tree);
                continue;
            }
            if let Cacheability::Uncacheable(doubts) = &target.cacheability {
                let why: Vec<_> = doubts.iter().map(ToString::to_string).collect();
                let advice = doubts.iter().map(Uncacheable::advice).collect();
                not_kept.push(format!("{}: {}", target.report.id, why.join("; ")));
                uncached.insert(target.report.id.to_string(), Uncached { when, why, advice });
            }
            let (report, cacheability) = (&target.report, &target.cacheability);
            if let Some(code_hash) = code_hash {
                records.extend(level.record(
                    index,
                    report,
                    cacheability,
                    still,
                    (code_hash, target.when(when)),
                ));
            }
        }
        self.remember_targets(ran, uncached);
        self.store(records);
        not_kept
    }

    /// Keeps those targets of a run that was given up which had ended, so that the next run does
    /// not begin from the beginning.
    ///
    /// What a target was seen to consult was proven unchanged while it ran, whatever has happened
    /// since; where that is not known, the tree must be what it was.
    pub(super) async fn keep_finished<T: ProjectTree>(
        &self,
        finished: FinishedTargets<'_>,
        (tree, look): (&mut T, &TreeState<T::Mark>),
        known: &Known,
    ) {
        // Whoever interrupts a command by hand may have told its tests to end as well.
        if self.options.priority != Priority::Background {
            return;
        }
        let Ok(digest) = &look.digest else { return };
        let FinishedTargets { ended, mut level, replaced } = finished;
        let needs_tree =
            ended.values().any(|ended| matches!(ended.cacheability, Cacheability::WholeTree(_)));
        let still = match needs_tree && !replaced {
            true => tree.changed_since(&look.mark).await.filter(Vec::is_empty).map(|_| digest),
            false => None,
        };
        let (when, code_hash) = (Timestamp::now(), code_hash(digest, &self.facts.identity));
        let flaky = self.cache.state(&self.question.root).flaky;
        let mut records = Vec::new();
        for (index, ended) in &ended {
            let report = &ended.report;
            if report.verdict != Verdict::Pass {
                level.disprove(*index, report, Some(digest));
                continue;
            }
            // Two outcomes on the same code: only a run that comes to its end judges that.
            let was_red = failed::before(known.record(), &report.id).is_some();
            if !was_red && !flaky.contains_key(&report.id.to_string()) {
                let now = (code_hash, when);
                records.extend(level.record(*index, report, &ended.cacheability, still, now));
            }
        }
        if !records.is_empty() {
            let (project, targets) = (self.question.root.display(), records.len());
            tracing::info!(%project, targets, "given up: what has ended is kept");
            self.store(records);
        }
    }

    /// Stores records of single targets, and brings everything back within the limits.
    fn store(&self, mut records: Vec<Record>) {
        let limits = self.options.limits;
        let last = records.pop();
        let mut failed = records.iter().find_map(|record| self.cache.store(record, limits).err());
        if let Some(record) = last {
            failed = self.cache.put(&record, limits).err().or(failed);
        }
        if let Some(error) = failed {
            tracing::warn!(%error, "what single targets came to is not kept");
        }
    }

    /// Targets were red of which the programs are not known.
    fn disprove_calls(&self, ran: &RanTargets<'_>) {
        let mut fingerprints = Fingerprints::default();
        for report in ran.targets.iter().map(|target| &target.report) {
            if let Some(red) = Red::of(report, None) {
                let plain = calls::plain_name(&report.id.package, &report.id.target);
                let place = (self.cache, &*self.question.root);
                calls::disprove_calls(place, &plain, &red, &mut fingerprints);
            }
        }
    }

    /// Notes for explanations which targets there are, and why nothing is kept of some of them.
    fn remember_targets(&self, ran: &RanTargets<'_>, uncached: BTreeMap<String, Uncached>) {
        let root = &self.question.root;
        let ids: Vec<_> = ran.targets.iter().map(|target| target.report.id.clone()).collect();
        let known = self.cache.state(root);
        let is_listed = ids.iter().any(|id| known.uncached.contains_key(&id.to_string()));
        let of_runs = ran.targets.iter().filter(|target| target.kept.is_none());
        let unseen: Vec<_> =
            of_runs.map(|target| (target.report.id.to_string(), &target.unseen)).collect();
        let nothing = Vec::new();
        let is_seen =
            unseen.iter().all(|(id, why)| known.unseen.get(id).unwrap_or(&nothing) == *why);
        if known.targets == ids && uncached.is_empty() && !is_listed && is_seen {
            return;
        }
        let change = |state: &mut ProjectState| {
            ids.iter().for_each(|id| drop(state.uncached.remove(&id.to_string())));
            state.uncached.extend(uncached);
            for (id, why) in unseen {
                state.unseen.remove(&id);
                if !why.is_empty() {
                    state.unseen.insert(id, why.clone());
                }
            }
            state.targets = ids;
        };
        if let Err(error) = self.cache.update_state(root, change) {
            tracing::warn!(%error, "why targets are not kept is forgotten");
        }
    }
}
