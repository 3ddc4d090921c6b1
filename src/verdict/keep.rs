//! Keeping what a run came to: of the whole, and of each target, also where the run did not come
//! to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use super::binary::{Cacheability, RedRun, RunMoment, TargetRecords, Uncacheable, selection_text};
use super::execute::FinishedTargets;
use super::fingerprint::Fingerprints;
use super::look_up::{LookUp, input_now};
use super::options::RunOptions;
use super::other_environments::{OtherEnvironments, ProvenWhole};
use super::ran::{RanTarget, RanTargets};
use super::started_programs::is_program;
use super::unreached_base::stamp_of;
use super::{Facts, ProjectTree, TreeState, code_hash, conduct, failed, flaky};
use crate::cache::{Input, ProjectState, Record, RecordedProducts, Uncached};
use crate::compiler::{Build, free_place_of_module};
use crate::config::TestSelection;
use crate::model::{Digest, End, OsText, TargetReport, Timestamp, Verdict};
use crate::observer::Observer;
use crate::process::Priority;
use crate::protocol::RanProgram;
use crate::workspace::PathStamp;

/// Runs of more tests are not compared with earlier ones: their names fill a message.
const MOST_COMPARED_TESTS: usize = 50_000;

/// Keeps what runs come to.
#[derive(Clone, Copy)]
pub(super) struct Keeper<'a> {
    pub(super) look_up: LookUp<'a>,
    pub(super) options: &'a RunOptions,
    /// When the question came.
    pub(super) asked: Instant,
}

/// What a record of a whole run is made of.
pub(super) struct WholeRun<'a> {
    pub(super) tree_digest: &'a Digest,
    pub(super) build: &'a Build,
    /// When the build began.
    pub(super) built_at: SystemTime,
    /// The files that no snapshot holds.
    pub(super) sources: &'a [PathBuf],
    /// What else the run depends on, if that is known.
    pub(super) inputs: Result<Vec<Input>, String>,
    /// The products of the build and what cargo compares with them, if another environment may get the
    /// same answer while they are untouched.
    pub(super) products: Option<Vec<Input>>,
    /// Those of the products that the run consulted.
    pub(super) consulted: RecordedProducts,
    /// The records of its green targets.
    pub(super) records: &'a [Record],
    pub(super) reports: &'a [TargetReport],
    /// When the oldest of the reports was made.
    pub(super) when: Timestamp,
}

impl Keeper<'_> {
    /// Keeps the outcome of the whole unless there is a doubt; the doubts.
    pub(super) fn keep_whole(&self, run: &WholeRun<'_>) -> Vec<String> {
        let LookUp { cache, question, facts } = self.look_up;
        let changed = match Facts::gather(question, cache.dir()) {
            Ok(now) => now.changed_since(facts),
            Err(error) => vec![error.to_string()],
        };
        if !changed.is_empty() {
            return vec![format!("while the tests ran: {}", changed.join(", "))];
        }
        let odd = |end: End| matches!(end, End::TimedOut | End::Cancelled | End::NotStarted);
        if let Some(report) = run.reports.iter().find(|report| odd(report.end)) {
            return vec![format!("{}: {}", report.id, report.end)];
        }
        match (self.inputs(run), &run.inputs) {
            (Ok(mut inputs), Ok(more)) => {
                inputs.extend(more.iter().cloned());
                let record = self.record(run, inputs);
                if let Err(error) = cache.put(&record, self.options.limits) {
                    return vec![format!("cannot {error}")];
                }
                self.remember_environment(run, &record);
                Vec::new()
            }
            (inputs, more) => {
                inputs.err().into_iter().flatten().chain(more.as_ref().err().cloned()).collect()
            }
        }
    }

    /// Remembers in which environment the whole was green.
    fn remember_environment(&self, run: &WholeRun<'_>, record: &Record) {
        let LookUp { cache, question, facts } = self.look_up;
        let Some(products) = run.products.clone() else { return };
        let (sources, records) = (&run.build.sources, run.records);
        OtherEnvironments::of(cache, question, facts, &record.code_hash).remember(ProvenWhole {
            record,
            sources,
            products,
            records,
        });
    }

    /// The inputs of a record for files that no snapshot holds, or what is doubtful about them.
    fn inputs(&self, run: &WholeRun<'_>) -> Result<Vec<Input>, Vec<String>> {
        let LookUp { question, facts, .. } = self.look_up;
        let (root, sources) = (&question.root, &run.build.sources);
        let short = |path: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();
        let lost =
            |path: &PathBuf| format!("{} is gone: what was read is not known", path.display());
        let mut doubts: Vec<_> = sources.missing.iter().map(lost).collect();
        doubts.extend(sources.unseen.iter().map(|path| {
            let path = short(path);
            format!("{path} was replaced by an older file, which cargo does not see: touch it")
        }));
        // No snapshot has what lies there, and nothing tells of a new file.
        doubts.extend(facts.target_among_sources(root).map(|dir| {
            let dir = short(dir);
            format!("the target directory {dir} is one of sources too: choose another")
        }));
        let (mut inputs, mut fingerprints) = (Vec::new(), Fingerprints::default());
        let free_places = run.sources.iter().filter_map(|path| free_place_of_module(path));
        for path in run.sources.iter().cloned().chain(free_places) {
            let path = path.as_path();
            let young = is_young(path, run.built_at);
            match input_now(path, root, &mut fingerprints).filter(|_| !young) {
                Some(input) => inputs.push(input),
                None if young => doubts.push(format!("{} has only just changed", path.display())),
                None => doubts.push(format!("{} cannot be read", path.display())),
            }
        }
        if doubts.is_empty() { Ok(inputs) } else { Err(doubts) }
    }

    fn record(&self, run: &WholeRun<'_>, inputs: Vec<Input>) -> Record {
        let LookUp { question, facts, .. } = self.look_up;
        let identity = facts.identity.build.iter().chain(&facts.identity.run);
        let key = self.look_up.key(run.tree_digest);
        let code_hash = code_hash(run.tree_digest, &facts.identity);
        let (selection, reports) = (question.selection_text(), run.reports.to_vec());
        Record {
            created: run.when,
            inputs,
            duration_ms: u64::try_from(self.asked.elapsed().as_millis()).unwrap_or(u64::MAX),
            identity: identity.map(|(name, digest)| (name.clone(), digest.to_string())).collect(),
            products: run.consulted.clone(),
            ..Record::new(key, &question.root, code_hash, selection, reports).made_here()
        }
    }

    /// Removes the record of the whole: what was green does not build, or fails, now.
    pub(super) fn disprove(&self, tree_digest: &Digest) {
        self.look_up.disprove(tree_digest);
    }

    /// The programs that ran, if they are to be compared with earlier runs.
    fn ran_programs(
        &self,
        ran: &RanTargets<'_>,
        records: &TargetRecords<'_>,
        kept: &[Record],
    ) -> Vec<RanProgram> {
        if self.look_up.question.settings.selection == TestSelection::Off {
            return Vec::new();
        }
        let tests: usize = ran.targets.iter().map(|target| target.report.tests.len()).sum();
        let all = ran.targets.iter().enumerate();
        let programs =
            all.filter(|(_, target)| target.kept.is_none() && tests <= MOST_COMPARED_TESTS);
        let program = |(index, target): (usize, &RanTarget)| {
            let is_of = |record: &&Record| record.targets[0].id == target.report.id;
            let observed = matches!(target.cacheability, Cacheability::Observed(_));
            let record = kept.iter().find(is_of).filter(|_| observed);
            let record = record.map(|record| (record.key, record.created));
            let program = records.ran_program(index, &target.report, record, ran.unoptimized)?;
            let started = self.started_programs(target);
            let paths = started.iter().map(|(path, _)| path);
            let is_unoptimized =
                |path: &&OsText| ran.unoptimized_executables.contains(Path::new(&path.0));
            let started_unoptimized = paths.filter(is_unoptimized).cloned().collect();
            let is_part = target.rest.is_some();
            Some(RanProgram { is_part, started, started_unoptimized, ..program })
        };
        programs.filter_map(program).collect()
    }

    /// The programs that cargo built and the target has started. Of a red run that is what its last
    /// green one started.
    fn started_programs(&self, target: &RanTarget) -> Vec<(OsText, Digest)> {
        let LookUp { cache, question, .. } = self.look_up;
        let inputs = match &target.cacheability {
            Cacheability::Observed(inputs) => Some(inputs.clone()),
            _ => cache
                .latest(&question.root, &selection_text(&target.report.id))
                .map(|record| record.inputs),
        };
        let inputs = inputs.iter().flatten().filter(|input| is_program(input));
        let program = |input: &Input| {
            let path = question.root.join(&input.path);
            (OsText::from(path.as_os_str()), stamp_of(&path))
        };
        inputs.map(program).collect()
    }

    /// Notes why nothing is kept of a run whose targets are not kept one by one.
    fn note_uncacheable(&self, ran: &RanTargets<'_>, when: Timestamp) -> Vec<String> {
        let (mut not_kept, mut uncached) = (BTreeSet::new(), BTreeMap::new());
        for target in ran.targets.iter().filter(|target| target.report.verdict == Verdict::Pass) {
            if let Cacheability::Uncacheable(doubts) = &target.cacheability {
                let told = Uncacheable::told(doubts, when);
                not_kept.insert(format!("the run through cargo-nextest: {}", told.why.join("; ")));
                uncached.insert(target.report.id.to_string(), told);
            }
        }
        self.note_targets(ran, uncached);
        not_kept.into_iter().collect()
    }

    /// Keeps what each target came to; why the whole cannot be kept, if so. `still` is the tree's
    /// digest if nothing of it has changed.
    pub(super) fn keep_targets(
        &self,
        ran: &mut RanTargets<'_>,
        tree_digest: Option<&Digest>,
        still: Option<&Digest>,
        when: Timestamp,
    ) -> Vec<String> {
        let Some(mut records) = ran.records.take() else {
            self.disprove_calls(ran);
            return self.note_uncacheable(ran, when);
        };
        let reports = ran.targets.iter().map(|target| &target.report).enumerate();
        self.note_conduct(reports, &records);
        let identity = &self.look_up.facts.identity;
        let code_hash = tree_digest.map(|tree| code_hash(tree, identity));
        let (mut not_kept, mut uncached, mut kept) = (Vec::new(), BTreeMap::new(), Vec::new());
        for (index, target) in ran.targets.iter().enumerate() {
            if let (Some(record), Some(code_hash)) = (&target.kept, code_hash) {
                records.claim(record, code_hash);
                continue;
            }
            if target.report.verdict != Verdict::Pass {
                let in_part = target.rest.is_some();
                records.disprove(index, &target.report, tree_digest, in_part);
                if let Some(code_hash) = code_hash {
                    self.look_up.cache.disprove_in_snapshot(code_hash, &target.report.id);
                }
                continue;
            }
            if let Cacheability::Uncacheable(reasons) = &target.cacheability {
                let told = Uncacheable::told(reasons, when);
                not_kept.push(format!("{}: {}", target.report.id, told.why.join("; ")));
                uncached.insert(target.report.id.to_string(), told);
            }
            if code_hash.is_some() {
                let rest = target.rest.as_deref();
                let moment = RunMoment { code_hash, still, when: target.when(when), rest };
                let record = records.record(index, &target.report, &target.cacheability, moment);
                kept.extend(record);
            }
        }
        ran.programs = self.ran_programs(ran, &records, &kept);
        self.note_targets(ran, uncached);
        self.store(&records, kept);
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
        tree: &mut T,
        state: &TreeState<T::Mark>,
        before: Option<&Record>,
    ) {
        // A developer who interrupts a command may have told its tests to end as well.
        if self.options.priority != Priority::Background {
            return;
        }
        let Ok(digest) = &state.digest else { return };
        let LookUp { cache, question, facts } = self.look_up;
        let FinishedTargets { ended, mut records, replaced } = finished;
        self.note_conduct(ended.iter().map(|(index, ended)| (*index, &ended.report)), &records);
        let needs_tree =
            ended.values().any(|ended| matches!(ended.cacheability, Cacheability::WholeTree(_)));
        let still = match needs_tree && !replaced {
            true => tree.changed_since(&state.mark).await.filter(Vec::is_empty).map(|_| digest),
            false => None,
        };
        let code_hash = Some(code_hash(digest, &facts.identity));
        let moment = RunMoment { code_hash, still, when: Timestamp::now(), rest: None };
        let flaky = cache.state(&question.root).flaky;
        let mut kept = Vec::new();
        for (index, ended) in &ended {
            let report = &ended.report;
            if report.verdict != Verdict::Pass {
                records.disprove(*index, report, Some(digest), ended.rest.is_some());
                continue;
            }
            // Two outcomes on the same code: only a run that comes to its end judges that.
            let was_red = failed::before(before, &report.id).is_some();
            if !was_red && !flaky.contains_key(&report.id.to_string()) {
                let (when, rest) = (ended.when(moment.when), ended.rest.as_deref());
                let moment = RunMoment { when, rest, ..moment };
                let record = records.record(*index, report, &ended.cacheability, moment);
                kept.extend(record);
            }
        }
        if !kept.is_empty() {
            let (project, targets) = (question.root.display(), kept.len());
            tracing::info!(%project, targets, "given up: what has ended is kept");
            self.store(&records, kept);
        }
    }

    fn store(&self, records: &TargetRecords<'_>, kept: Vec<Record>) {
        if let Err(error) = records.store(kept, self.options.limits) {
            tracing::warn!(%error, "what single targets came to is not kept");
        }
    }

    /// Targets were red of which the programs are not known.
    fn disprove_calls(&self, ran: &RanTargets<'_>) {
        let LookUp { cache, question, .. } = self.look_up;
        let mut fingerprints = Fingerprints::new(&question.settings);
        for report in ran.targets.iter().map(|target| &target.report) {
            if let Some(red) = RedRun::of(report, None) {
                red.disprove_calls(cache, &question.root, &mut fingerprints);
            }
        }
    }

    /// Notes for explanations which targets there are, and why nothing is kept of some of them.
    fn note_targets(&self, ran: &RanTargets<'_>, uncached: BTreeMap<String, Uncached>) {
        let LookUp { cache, question, .. } = self.look_up;
        let ids: Vec<_> = ran.targets.iter().map(|target| target.report.id.clone()).collect();
        let known = cache.state(&question.root);
        let is_listed = ids.iter().any(|id| known.uncached.contains_key(&id.to_string()));
        let new = ran.targets.iter().filter(|target| target.kept.is_none());
        let unseen: Vec<_> =
            new.map(|target| (target.report.id.to_string(), &target.unseen)).collect();
        let nothing = Vec::new();
        let is_seen =
            unseen.iter().all(|(id, why)| known.unseen.get(id).unwrap_or(&nothing) == *why);
        let failed = |target: &&RanTarget| target.report.verdict != Verdict::Pass;
        let name = |target: &RanTarget| target.report.id.to_string();
        let failing: BTreeSet<_> = ran.targets.iter().filter(failed).map(name).collect();
        let is_same = ran
            .targets
            .iter()
            .map(name)
            .all(|name| known.failing.contains(&name) == failing.contains(&name));
        if known.targets == ids && uncached.is_empty() && !is_listed && is_seen && is_same {
            return;
        }
        cache.note_state(&question.root, "why targets are not kept is forgotten", |state| {
            for id in ids.iter().map(ToString::to_string) {
                state.uncached.remove(&id);
                state.failing.remove(&id);
            }
            state.failing.extend(failing);
            state.uncached.extend(uncached);
            for (id, why) in unseen {
                state.unseen.remove(&id);
                if !why.is_empty() {
                    state.unseen.insert(id, why.clone());
                }
            }
            state.targets = ids;
        });
    }

    /// Notes how observed runs behaved, by their places in the plan.
    fn note_conduct<'r>(
        &self,
        reports: impl Iterator<Item = (usize, &'r TargetReport)>,
        records: &TargetRecords<'_>,
    ) {
        let LookUp { cache, question, .. } = self.look_up;
        let known = cache.state(&question.root);
        let (mut new, mut costly, mut cheap) = (Vec::new(), BTreeMap::new(), Vec::new());
        for (index, report) in reports {
            let Some(seen) = records.seen(index) else { continue };
            let name = report.id.to_string();
            let over_budget = |call| conduct::over_budget(question, report, seen.calls, call);
            match Observer::call_cost().and_then(over_budget) {
                Some(cost) => drop(costly.insert(name.clone(), cost)),
                None if known.over_budget.contains_key(&name) => cheap.push(name.clone()),
                None => {}
            }
            let conduct = conduct::conduct_of(question, report, &seen.obstacles);
            new.extend(conduct.map(|conduct| (name, conduct)));
        }
        new.retain(|(name, conduct)| known.conduct.get(name) != Some(conduct));
        if new.is_empty() && costly.is_empty() && cheap.is_empty() {
            return;
        }
        let lost = "which targets may run in the background is forgotten";
        cache.note_state(&question.root, lost, |state| {
            state.conduct.extend(new);
            state.over_budget.retain(|name, _| !cheap.contains(name));
            state.over_budget.extend(costly);
        });
    }

    /// Compares with `before`, an earlier run of the very same code.
    pub(super) fn note_flaky(
        &self,
        ran: &mut RanTargets<'_>,
        before: Option<&Record>,
        when: Timestamp,
    ) {
        let LookUp { cache, question, .. } = self.look_up;
        let wanted = question.settings.flaky_runs;
        let mut note = |state: &mut ProjectState| {
            flaky::judge(state, &mut ran.targets, before, wanted, when);
        };
        // A look first: nearly always there is nothing to write.
        let mut state = cache.state(&question.root);
        let is_noted = (before.is_some() || !state.flaky.is_empty())
            && cache.note_state(&question.root, flaky::FLAKY_LOST, &mut note);
        if !is_noted {
            note(&mut state);
        }
    }
}

pub(super) fn is_green(reports: &[TargetReport]) -> bool {
    reports.iter().all(|report| report.verdict == Verdict::Pass)
}

/// Whether the file, or the link that leads to it, may have been another one at `time`. Not by
/// its time of modification alone: a file that is moved here keeps that.
fn is_young(path: &Path, time: SystemTime) -> bool {
    !PathStamp::of(path).is_settled(time) || !PathStamp::followed(path).is_settled(time)
}
