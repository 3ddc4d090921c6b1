//! Why a question would be answered from cache, or why it would be run.

mod calls;
mod shared;
mod variables;

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::binary::{self, Uncacheable, plain_name};
use super::fingerprint::Fingerprints;
use super::look_up::{Finding, LookUp};
use super::obstacles::{BarReason, BarredTargets};
use super::package::{PackageExplanation, PackageLevel, SAME_PACKAGES};
use super::{Facts, Question, TreeState, code_hash};
use crate::cache::{Cache, ObservationCost, ProjectState, Record, RecordLevel, SelectionRecord};
use crate::hasher::{FileChange, Manifest};
use crate::model::{Digest, TargetId, Timestamp, Verdict};
use crate::observer::Observer;

/// So many reasons why every file counts are told.
const REASONS: usize = 3;

/// What decides the next answer.
#[derive(Clone, Debug)]
pub(crate) struct Explanation {
    /// The code as it is now; none if a file could not be read.
    pub code_hash: Option<Digest>,
    /// Whether records answer.
    pub cached: bool,
    /// The reason in one line.
    pub reason: String,
    /// The files that differ from the last record of the same selection.
    pub files: Vec<FileChange>,
    /// The settings that differ from it: toolchain, cargo config, variables.
    pub settings: Vec<String>,
    /// The last record of the same selection, whatever it says.
    pub last: Option<Record>,
    /// The targets of the last run, one by one.
    pub targets: Vec<TargetExplanation>,
    /// What a selection per test would have run.
    pub selection: SelectionRecord,
}

/// What decides the next answer for one test target.
#[derive(Clone, Debug)]
pub(crate) struct TargetExplanation {
    /// Which target.
    pub id: TargetId,
    /// What the last record of the whole says of it.
    pub verdict: Option<Verdict>,
    /// When the run ended whose record is its own; none if it has no such record.
    pub kept: Option<Timestamp>,
    /// Whether records answer for it, as far as that can be told without a build.
    pub cached: bool,
    /// The reason in one line.
    pub reason: String,
    /// The recorded inputs that have changed since, up to a limit.
    pub changed: Vec<String>,
    /// The number of its recorded inputs.
    pub inputs: usize,
    /// Since when it runs alone, because it failed beside other test programs and passed alone.
    pub runs_alone: Option<Timestamp>,
    /// Why it does not run in the background unasked, empty if it does; `None` if that is not known.
    pub obstacles: Option<Vec<String>>,
    /// What to do so that it is cached, if it is not.
    pub advice: Vec<String>,
    /// What observing its last run cost, if that was more than the configured share.
    pub over_budget: Option<ObservationCost>,
    /// The records of its calls by plain `cargo test`; none if this program is not cargo's runner.
    pub calls: Option<CallsExplanation>,
    /// What each level says of it, the widest first.
    pub levels: Vec<LevelExplanation>,
}

/// What one level of records says of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LevelExplanation {
    /// Which level.
    pub level: RecordLevel,
    /// Whether its records answer; `None` if only a build can tell.
    pub answers: Option<bool>,
    /// The reason in one line.
    pub reason: String,
    /// What differs from the last run with a record at this level.
    pub differences: Vec<String>,
    /// The checkout of that run, if it is known.
    pub compared_with: Option<PathBuf>,
}

pub(crate) use self::calls::CallsExplanation;
pub(crate) use self::shared::{SharedReason, SharedReasons, shared_reasons};
use self::variables::{ENVIRONMENTS, VariableChanges};

impl TargetExplanation {
    /// A target that nothing here is recorded of.
    pub(crate) fn unrecorded(id: TargetId, reason: &str) -> Self {
        Self {
            id,
            verdict: None,
            kept: None,
            cached: false,
            reason: reason.to_owned(),
            changed: Vec::new(),
            inputs: 0,
            runs_alone: None,
            obstacles: None,
            advice: Vec::new(),
            over_budget: None,
            calls: None,
            levels: Vec::new(),
        }
    }
}

/// Why a record of one target is likely to answer.
const BY_BUILD: &str = "inputs unchanged; cached if the rebuilt binary is identical";

/// So many changed inputs of a target are named.
const NAMED: usize = 10;

/// Explains what would happen to `question` for the tree as `look` saw it.
#[must_use]
pub(crate) fn explain<M>(
    question: &Question,
    facts: &Facts,
    look: &TreeState<M>,
    manifest: &Manifest,
    cache: &Cache,
) -> Explanation {
    let newest = cache.newest(&question.root, &question.selection_text(), ENVIRONMENTS);
    // The newest one counts where environments are equally similar.
    let last = newest.into_iter().min_by_key(|record| changed_settings(record, facts).len());
    let mut explanation = Explanation {
        code_hash: None,
        cached: false,
        reason: String::new(),
        files: Vec::new(),
        settings: Vec::new(),
        last,
        targets: Vec::new(),
        selection: cache.state(&question.root).selection,
    };
    decide(&mut explanation, question, facts, look, manifest, cache);
    let tree = look.digest.as_ref().ok();
    let level = tree.and_then(|tree| PackageLevel::of(cache, question, facts, manifest, tree));
    let packages = |ids: &[TargetId]| level.as_ref().map(|level| level.explain(ids, manifest));
    let of_plan = level.as_ref().map(PackageLevel::targets).unwrap_or_default();
    explanation.targets = targets(&explanation, question, facts, cache, of_plan, packages);
    let is_cached = explanation.targets.iter().all(|target| target.cached);
    if is_cached && !explanation.cached && !explanation.targets.is_empty() {
        explanation.cached = true;
        SAME_PACKAGES.clone_into(&mut explanation.reason);
    }
    // A fresh clone has no targets that could be told one by one.
    if explanation.targets.is_empty()
        && let Some(Err(why)) = level.as_ref().map(PackageLevel::find)
    {
        explanation.reason = format!("{}; {why}", explanation.reason);
    }
    explanation
}

/// Decides for the whole.
fn decide<M>(
    explanation: &mut Explanation,
    question: &Question,
    facts: &Facts,
    look: &TreeState<M>,
    manifest: &Manifest,
    cache: &Cache,
) {
    let tree = match &look.digest {
        Ok(tree) => tree,
        Err(why) => {
            explanation.reason = format!("the snapshot is unknown: {}", why.join("; "));
            return;
        }
    };
    explanation.code_hash = Some(code_hash(tree, &facts.identity));
    explanation.reason = match (LookUp { cache, question, facts }).find(tree) {
        Finding::Green { record, reason } => {
            explanation.cached = true;
            explanation.last = Some(Record::clone(&record));
            reason.to_owned()
        }
        Finding::Red(record) => {
            explanation.last = Some(Record::clone(&record));
            "this very code failed before".to_owned()
        }
        Finding::Nothing(why) => why,
    };
    let Some(last) = &explanation.last else { return };
    let changes = changed_settings(last, facts);
    let parts: Vec<&str> = changes.iter().map(|(part, _)| &**part).collect();
    let variables = VariableChanges::among(&parts, question, facts, cache);
    let targets = cache.state(&question.root).targets;
    let mut fingerprints = Fingerprints::new(&question.settings);
    let told = |(part, change): &(String, &str)| match variables.meaning(
        part,
        &targets,
        &mut fingerprints,
    ) {
        Some(meaning) => format!("{part} {change}: {meaning}"),
        None => format!("{part} {change}"),
    };
    // A record of another environment answers although variables differ.
    explanation.settings = changes.iter().map(told).collect();
    if explanation.cached {
        return;
    }
    let then = cache.manifest(last.code_hash).and_then(|bytes| Manifest::from_bytes(bytes).ok());
    if let Some(then) = then {
        explanation.files = then.diff(manifest);
    }
}

/// Decides for each target that is known or among `of_plan`; `packages` explains the package level.
fn targets(
    whole: &Explanation,
    question: &Question,
    facts: &Facts,
    cache: &Cache,
    of_plan: Vec<TargetId>,
    packages: impl Fn(&[TargetId]) -> Option<BTreeMap<TargetId, PackageExplanation>>,
) -> Vec<TargetExplanation> {
    let last = whole.last.as_ref();
    let parts = last.map(|last| changed_settings(last, facts)).unwrap_or_default();
    let parts: Vec<&str> = parts.iter().map(|(part, _)| &**part).collect();
    let variables = VariableChanges::among(&parts, question, facts, cache);
    let reports: BTreeMap<_, _> = whole
        .last
        .iter()
        .flat_map(|record| &record.targets)
        .map(|report| (&report.id, report.verdict))
        .collect();
    let state = cache.state(&question.root);
    let known = state.targets.clone();
    let mut known =
        if known.is_empty() { reports.keys().copied().cloned().collect() } else { known };
    let is_other = |id: &TargetId| !known.contains(id);
    let other: Vec<_> = of_plan.into_iter().filter(is_other).collect();
    known.extend(other);
    // Users of plain `cargo test` alone have no list of targets: cargo was never asked for one.
    let is_new = |id: &&TargetId| {
        binary::named(&known, &plain_name(&id.package, &id.target)).next().is_none()
    };
    let called: Vec<_> = state.called.iter().filter(is_new).cloned().collect();
    known.extend(called);
    let barred = BarredTargets::of(&question.settings, &state);
    let mut fingerprints = Fingerprints::new(&question.settings);
    let mut packages = packages(&known).unwrap_or_default();
    // Where the whole is built, records of packages answer for all targets or for none.
    let is_enough = |explained: &PackageExplanation| explained.obstacle.is_none();
    let may_answer = packages.values().all(is_enough) || !question.is_built(facts, cache.dir());
    let mut explained = Vec::new();
    for id in known {
        let of_packages = packages.remove(&id);
        let record = variables.closest(&id);
        let inputs = record.as_ref().map_or(&[][..], |record| &record.inputs);
        let changed = inputs.iter().filter(|input| !fingerprints.holds(&question.root, input));
        let changed: Vec<_> =
            changed.take(NAMED).map(|input| input.path.display().to_string()).collect();
        let mut this = TargetExplanation {
            verdict: reports.get(&id).copied(),
            kept: record.as_ref().map(|record| record.created),
            cached: whole.cached,
            reason: whole.reason.clone(),
            inputs: inputs.len(),
            changed,
            runs_alone: state.run_alone.get(&id.to_string()).copied(),
            obstacles: state.conduct.get(&id.to_string()).map(|known| known.obstacles.clone()),
            advice: Vec::new(),
            over_budget: over_budget(&state, &id, question),
            calls: calls::of(&id, barred.why(&id), question, cache, &state, &mut fingerprints),
            levels: Vec::new(),
            id,
        };
        let not_kept = state.uncached.get(&this.id.to_string());
        if whole.cached {
            this.changed.clear();
        } else if let Some(why) = barred.why(&this.id) {
            let doubt = match why {
                BarReason::AlwaysRun => Some(Uncacheable::AlwaysRun),
                BarReason::Distrusted => None,
                BarReason::Flaky => flaky(&state, &this.id, question),
            };
            this.reason = doubt.as_ref().map_or_else(|| why.to_string(), ToString::to_string);
            this.advice.extend(doubt.map(|doubt| doubt.advice()));
        } else if let Some(uncached) = not_kept {
            this.reason = format!("not kept the last time: {}", uncached.why.join("; "));
            this.advice.clone_from(&uncached.advice);
        } else if !this.changed.is_empty() {
            this.reason = format!("`{}` changed", this.changed.join("`, `"));
        } else if let Some(record) = &record
            && let Some((name, why)) = first_counting(&variables, record, &mut fingerprints)
        {
            this.reason = format!("environment variable {name} differs: {why}");
        } else if let Some(why) = state.unseen.get(&this.id.to_string()) {
            let told = why.iter().take(REASONS).map(String::as_str).collect::<Vec<_>>().join("; ");
            let more = match why.len().saturating_sub(REASONS) {
                0 => String::new(),
                more => format!("; and {more} more like that"),
            };
            this.reason = format!("every file counts for it: {told}{more}");
        } else if let Err(why) = Observer::available() {
            this.reason = format!("every file counts: runs cannot be observed here: {why}");
        } else if record.is_some() {
            BY_BUILD.clone_into(&mut this.reason);
        }
        this.levels = levels(whole, &this, of_packages);
        let is_answered = |level: &LevelExplanation| {
            level.level == RecordLevel::Package && level.answers == Some(true)
        };
        if !this.cached && may_answer && this.levels.iter().any(is_answered) {
            this.cached = true;
            SAME_PACKAGES.clone_into(&mut this.reason);
        }
        explained.push(this);
    }
    explained
}

/// What each level says of a target of which the reason at the binary level is known.
fn levels(
    whole: &Explanation,
    target: &TargetExplanation,
    packages: Option<PackageExplanation>,
) -> Vec<LevelExplanation> {
    let plain = |level, answers, reason: &str| LevelExplanation {
        level,
        answers,
        reason: reason.to_owned(),
        differences: Vec::new(),
        compared_with: None,
    };
    let source = LevelExplanation {
        differences: whole.files.iter().map(ToString::to_string).take(NAMED).collect(),
        ..plain(RecordLevel::Source, Some(whole.cached), &whole.reason)
    };
    let package = match packages {
        None => plain(
            RecordLevel::Package,
            Some(false),
            "its packages are not known: there is no lock file, or the config or cargo's has them found \
             in another way",
        ),
        Some(PackageExplanation { obstacle: None, .. }) => {
            plain(RecordLevel::Package, Some(true), SAME_PACKAGES)
        }
        Some(PackageExplanation { obstacle: Some(why), differences, compared_with }) => {
            let plain = plain(RecordLevel::Package, Some(false), &why);
            LevelExplanation { differences, compared_with, ..plain }
        }
    };
    // Whether the program will be the same, only a build can tell.
    let answers = (target.kept.is_none() || target.reason != BY_BUILD).then_some(whole.cached);
    let binary = match answers {
        Some(true) => plain(RecordLevel::Binary, None, "not asked: the whole is cached"),
        answers => LevelExplanation {
            differences: target.changed.clone(),
            ..plain(RecordLevel::Binary, answers, &target.reason)
        },
    };
    vec![source, package, binary]
}

/// What observing the target's last run cost, if that is more than the configured share.
fn over_budget(
    state: &ProjectState,
    id: &TargetId,
    question: &Question,
) -> Option<ObservationCost> {
    let cost = state.over_budget.get(&id.to_string()).copied();
    cost.filter(|cost| cost.percent() > question.settings.observe_budget.into())
}

/// What is known of flaky tests of the target.
fn flaky(state: &ProjectState, id: &TargetId, question: &Question) -> Option<Uncacheable> {
    let flaky = state.flaky.get(&id.to_string())?;
    Some(Uncacheable::Flaky {
        tests: flaky.iter().map(|flaky| flaky.test.clone()).collect(),
        agreed: flaky.iter().map(|flaky| flaky.agreed).min().unwrap_or_default(),
        wanted: question.settings.flaky_runs,
    })
}

/// The first variable that differs and counts for the target of this record, and why.
fn first_counting(
    variables: &VariableChanges<'_>,
    record: &Record,
    fingerprints: &mut Fingerprints,
) -> Option<(String, String)> {
    let differences = variables.of_target(record, fingerprints).into_iter();
    differences.into_iter().find_map(|difference| Some((difference.name, difference.why?)))
}

/// Names every part of the identity that is not as it was for `last`, with what became of it.
fn changed_settings(last: &Record, facts: &Facts) -> Vec<(String, &'static str)> {
    let (build, run) = (&facts.identity.build, &facts.identity.run);
    let mut changed = Vec::new();
    for (name, digest) in build.iter().chain(run) {
        match last.identity.get(name) {
            None => changed.push((name.clone(), "is new")),
            Some(then) if *then != digest.to_string() => {
                changed.push((name.clone(), "has changed"));
            }
            Some(_) => {}
        }
    }
    let gone = |name: &&String| !build.contains_key(*name) && !run.contains_key(*name);
    changed.extend(last.identity.keys().filter(gone).map(|name| (name.clone(), "is gone")));
    changed
}
