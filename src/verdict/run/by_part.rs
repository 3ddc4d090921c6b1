//! Answers from records of packages, where some or all targets have one: what lacks one is built and run alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Answering, ByPackages, RunOutcome};
use crate::cache::Record;
use crate::compiler::BuildProgress;
use crate::model::{Answer, TargetId, Timestamp, Verdict};
use crate::runner::RunEvent;
use crate::shared::SharedStore;
use crate::verdict::binary::TargetRecords;
use crate::verdict::by_packages::answers_of;
use crate::verdict::early::EarlyRuns;
use crate::verdict::execute::Interrupted;
use crate::verdict::look_up::Finding;
use crate::verdict::options::{RunError, Step};
use crate::verdict::package::{BuildScope, PackageLevel, Partial, ProvenRun, has_features_of};
use crate::verdict::provenance::provenance;
use crate::verdict::target_discovery::{DiscoveredNames, manifests_above};
use crate::verdict::{ProjectTree, Question, TreeState};

impl<'a> Answering<'a> {
    /// Answers from records of the package level: either all targets, or all but some, which are then built
    /// and run without the rest. Where the whole has been built, a build of a part
    /// saves nothing, and cargo may choose other features for it.
    pub(super) async fn by_packages<T: ProjectTree>(
        &self,
        level: &mut PackageLevel<'a>,
        tree: &mut T,
        state: &TreeState<T::Mark>,
        on_step: &mut dyn FnMut(Step<'_>),
    ) -> Result<ByPackages, RunError> {
        let nothing = Ok(ByPackages::Unanswered(Vec::new()));
        let needs_all = self.needs_all_packages();
        if !self.may_answer_by_packages() || (needs_all && !level.has_records()) {
            return nothing;
        }
        let Ok(known) = level.find() else { return nothing };
        let green: Vec<_> =
            known.targets.iter().filter_map(|(_, found)| found.clone().ok()).collect();
        let ids: Vec<_> = known.targets.iter().map(|(id, _)| id.clone()).collect();
        let are_all = !green.is_empty() && green.len() == ids.len();
        if needs_all && !are_all {
            return nothing;
        }
        if self.options.no_cache {
            return Ok(ByPackages::Unanswered(green));
        }
        if are_all {
            return Ok(ByPackages::Answer(Box::new(self.merged(level, &ids, green, None))));
        }
        // What is published must prove that whole packages can be built.
        let may_split = !self.options.store.as_ref().is_some_and(SharedStore::writes);
        let part = level
            .plan()
            .and_then(|plan| Partial::of(&self.question.selection, plan, &known, may_split));
        let Some(part) = part else { return nothing };
        match self.by_part(level, &part, tree, state, on_step).await? {
            Some(outcome) => {
                let Partial { order, answered, .. } = part;
                let merged = self.merged(level, &order, answered, Some(outcome));
                Ok(ByPackages::Answer(Box::new(merged)))
            }
            None => nothing,
        }
    }

    /// The answer of records, and of the run of a part, in cargo's order.
    fn merged(
        &self,
        level: &PackageLevel<'_>,
        order: &[TargetId],
        records: Vec<Arc<Record>>,
        part: Option<RunOutcome>,
    ) -> RunOutcome {
        let mut outcome = part.unwrap_or_else(|| {
            let code_hash = Some(level.code_hash());
            RunOutcome::of(Answer { code_hash, targets: Vec::new(), not_kept: Vec::new() })
        });
        outcome.answer.targets.extend(answers_of(level, &records));
        let place = |id: &TargetId| order.iter().position(|other| other == id);
        outcome.answer.targets.sort_by_key(|target| place(&target.id));
        outcome.of_targets.extend(records);
        self.cache.note_state(
            &self.question.root,
            "which targets there are is forgotten",
            |state| {
                state.targets = order.to_vec();
            },
        );
        outcome
    }

    /// Builds and runs a part without the rest. `None` if it is not certain that the whole would
    /// come to the same.
    async fn by_part<T: ProjectTree>(
        &self,
        level: &mut PackageLevel<'a>,
        part: &Partial,
        tree: &mut T,
        state: &TreeState<T::Mark>,
        on_step: &mut dyn FnMut(Step<'_>),
    ) -> Result<Option<RunOutcome>, RunError> {
        let Ok(digest) = &state.digest else { return Ok(None) };
        let selection = part.selection.clone();
        let question = Question { selection, ..self.question.clone() };
        let session =
            Answering::of(&question, self.facts, self.cache, self.options, self.keeper.asked);
        let mut diagnostics = Vec::new();
        // Not told before it is believed.
        let mut believed = |step: Step<'_>| match step {
            Step::Building(BuildProgress::Diagnostic(text)) => diagnostics.push(text),
            Step::Running(RunEvent::Finished { report }) if report.verdict != Verdict::Pass => {}
            step => on_step(step),
        };
        let built_at = SystemTime::now();
        let mut early = EarlyRuns::new(&question, self.facts, self.cache, self.options);
        let build = match session.build(&mut early, &mut believed, state).await {
            Ok(build) => build,
            Err(RunError::Cancelled) => return Err(RunError::Cancelled),
            Err(error) => {
                tracing::debug!(%error, "the whole is built: a part of it cannot be");
                return Ok(None);
            }
        };
        let is_still = |changed: Option<Vec<String>>| changed.is_some_and(|all| all.is_empty());
        if !build.sources.are_of_tree() || !is_still(tree.changed_since(&state.mark).await) {
            return Ok(None);
        }
        if !level.plan().is_some_and(|plan| has_features_of(plan, &build)) {
            tracing::debug!("the whole is built: a part of it has other features");
            if part.scope == BuildScope::Packages {
                level.note_inseparable(part.packages.clone());
            }
            return Ok(None);
        }
        believed(Step::Built(&build));
        let root = &self.question.root;
        let manifests = tree.uncounted(manifests_above(root, &build.sources)).await;
        let names = DiscoveredNames::look(root, &build.sources, &manifests);
        let execution = session.execution(Some(digest), &Finding::Nothing(String::new()));
        let mut ran = match execution.execute(&build, None, &mut early, &mut believed).await {
            Ok(ran) => ran,
            Err(Interrupted { error: RunError::Cancelled, .. }) => return Err(RunError::Cancelled),
            Err(_) => return Ok(None),
        };
        let when = Timestamp::now();
        let is_green = ran.targets.iter().all(|target| target.report.verdict == Verdict::Pass);
        let green: BTreeSet<_> =
            ran.targets.iter().map(|target| target.report.id.clone()).collect();
        if !is_green || green != part.runs || ran.replaced || ran.doubt.is_some() {
            return Ok(None);
        }
        let products = std::mem::take(&mut ran.products);
        let dir = self.cache.dir();
        let provenance =
            provenance(&question, self.facts, &build.sources, &products, dir, tree).await;
        let names = DiscoveredNames::look(root, &build.sources, &manifests).since(names);
        if !is_still(tree.changed_since(&state.mark).await) {
            return Ok(None);
        }
        // Tests may change what others have consulted.
        if !level.find().is_ok_and(|known| part.is_answered_by(&known)) {
            tracing::debug!(
                "the whole is built: what ran has changed what other targets depend on"
            );
            return Ok(None);
        }
        let proven = ran.records.as_ref().map(TargetRecords::proven).unwrap_or_default();
        let not_kept = session.keeper.keep_targets(&mut ran, Some(digest), Some(digest), when);
        let proven = proven.take();
        let are_known = proven.len() == ran.targets.len()
            && proven.iter().all(|record| record.environment.is_complete);
        let doubt = level.doubt(&build, &proven);
        if !are_known || doubt.is_some() {
            let why = doubt.unwrap_or_else(|| not_kept.join("; "));
            tracing::debug!(%why, "the whole is built: a run may depend on it");
            return Ok(None);
        }
        let run = ProvenRun {
            build: &build,
            built_at,
            records: &proven,
            limits: self.options.limits,
            proof: provenance.proof,
            scope: part.scope,
            green,
        };
        let shareable = names.is_ok().then(|| self.keep_packages(level, &run)).flatten();
        for text in diagnostics {
            on_step(Step::Building(BuildProgress::Diagnostic(text)));
        }
        let outcome = RunOutcome::of_run(ran, Some(level.code_hash()), not_kept, when);
        Ok(Some(RunOutcome { shareable, ..outcome }))
    }
}
