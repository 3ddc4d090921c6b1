//! The binary level: a test target that is the same program as when it was green, and would
//! consult the same things, is green.
//!
//! ```text
//! plan ─▶ key (the program's loadable parts, arguments, folder, variables, toolchain)
//!      ─▶ records under the key ─▶ every input as it was? ─▶ green from its record
//!      ─▶ else run, observed ─▶ what it consulted, if it holds still ─▶ a new record
//! ```
//!
//! **What makes a record believable.** A path's stamp is taken while the run waits in its first
//! call on it. After the run the stamp must be the same, and the path must have been left alone
//! for so long before the run that no change can hide behind equal times; then what is digested
//! now is what the run could read. Anything else keeps nothing.
//!
//! **What is no input.** What the run made itself; what it cleared away of an earlier run's
//! leftovers below the target folder and the temporary one; facts that tell how large the machine
//! is. The system's libraries and the toolchain's files count as the very files they were, not by
//! content: they are large, and replaced rather than edited.
//!
//! **Where nothing can be observed**, or something may have been missed, the digest of the whole
//! tree joins the key, and what was seen counts beside it. What spoke to others than itself is not
//! kept at all, unless the project vouches for them.

mod cargo_builds;
mod conduct;
mod contradiction;
mod coverage;
mod inputs;
mod key;
mod observe;
mod program;
mod reached;
mod script_run;
mod uncacheable;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

pub(super) use self::conduct::{RunMoment, SeenConduct};
use self::contradiction::{CallEnvironment, targets_named_like};
pub(super) use self::contradiction::{RedRun, program_in, tests_of};
pub(super) use self::inputs::Cacheability;
use self::inputs::InputJudge;
use self::key::IGNORED;
pub(super) use self::key::{
    PROGRAM, PROGRAM_FILE, PlanContext, PlanOrigin, REACHED, ReachedCode, Subject, calls_text,
    named, packages_text, plain_name, selection_text,
};
pub(super) use self::observe::ObservedRun;
use self::observe::Observing;
use self::program::BuiltProgram;
pub(crate) use self::program::store_program_digest;
pub(super) use self::script_run::{RUN_AGAIN, ScriptObserver, script_memo, took_at_most};
pub(super) use self::uncacheable::Uncacheable;
use super::checkout::found_elsewhere;
use super::fingerprint::{Aspect, Fingerprints, describe_change, digest_of_stamp};
use super::obstacles::over_time;
use super::patterns::{Excluded, Trusted};
use super::{Facts, Question, unreached_base};
use crate::cache::{
    Input, Limits, Lookup, MissReason, PutError, Record, RecordKey, RecordedEnvironment,
};
use crate::compiler::PlannedTarget;
use crate::config::{Settings, TestSelection};
use crate::model::{
    Digest, Digester, OsText, TargetId, TargetKind, TargetReport, Timestamp, Verdict,
};
use crate::observer::{LoaderCalls, Observation, Observer};
use crate::process::Environment;
use crate::protocol::RanProgram;
use crate::runner::{ProcessHook, TestJob};

/// The records of the targets of one plan: found, stored and disproved here and nowhere else. A call
/// of one test program by cargo itself is a plan with one target.
pub(super) struct TargetRecords<'a> {
    context: PlanContext<'a>,
    fingerprints: Fingerprints,
    targets: Vec<TargetEntry>,
    observing: Option<Observing>,
    proven: ProvenRecords,
}

/// The records of green targets that were used or made for a plan, for wider levels.
#[derive(Clone, Debug, Default)]
pub(super) struct ProvenRecords(Arc<Mutex<Vec<Record>>>);

impl ProvenRecords {
    fn add(&self, record: &Record) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record.clone());
    }

    /// Takes what has been proven.
    pub(super) fn take(&self) -> Vec<Record> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One target of the plan.
struct TargetEntry {
    program: PathBuf,
    environment: Environment,
    /// Why there is none: it can neither be answered nor kept.
    subject: Result<Subject, String>,
    found: TargetFinding,
    /// How its observed run behaved; `None` if none was observed.
    seen: Option<SeenConduct>,
}

/// What the records say of a target.
#[derive(Clone, Debug)]
pub(super) enum TargetFinding {
    /// Green, and all that it depends on is as it was.
    Green(Arc<Record>),
    /// It must run: why, and how long that took when it did.
    Nothing {
        /// For a person.
        why: String,
        /// The duration of the run in the last record with this key.
        expected: Option<Duration>,
    },
}

/// A program that cargo built, as it was looked up.
pub(super) struct BuiltSubject {
    pub(super) program: PathBuf,
    /// Digest of its stamp.
    pub(super) stamp: Digest,
    /// Digest of everything besides the program, its path and the variables that decides the outcome and is
    /// known beforehand.
    pub(super) context: Digest,
}

impl<'a> TargetRecords<'a> {
    /// Looks up all targets of a plan. `tree_digest` is the digest of the tree; if it is not known,
    /// nothing is answered for a question and nothing will be kept: a file that cannot be read is
    /// reason enough. `obstacle` says why a target must run whatever the records say.
    pub(super) fn look_up(
        context: PlanContext<'a>,
        plan: &[PlannedTarget],
        tree_digest: Option<&Digest>,
        obstacle: impl Fn(&PlannedTarget) -> Option<String>,
    ) -> Self {
        let fingerprints = Fingerprints::new(context.settings);
        let mut this = Self {
            context,
            fingerprints,
            targets: Vec::new(),
            observing: None,
            proven: ProvenRecords::default(),
        };
        let needs_tree = matches!(this.context.origin, PlanOrigin::Question { .. });
        for planned in plan {
            let subject = Subject::of(planned, &this.context, &mut this.fingerprints);
            let nothing = |why: String| TargetFinding::Nothing { why, expected: None };
            let found = match (&subject, obstacle(planned)) {
                (_, Some(why)) => nothing(why),
                (Err(why), None) => nothing(why.clone()),
                (Ok(_), None) if needs_tree && tree_digest.is_none() => {
                    nothing("the snapshot is unknown".to_owned())
                }
                (Ok(subject), None) => this.find(subject, tree_digest),
            };
            let (program, environment) = (planned.program.clone(), planned.environment.clone());
            this.targets.push(TargetEntry { program, environment, subject, found, seen: None });
        }
        this
    }

    /// Where the records are told of that [`TargetRecords::claim`] uses and [`TargetRecords::record`]
    /// makes of green targets.
    pub(super) fn proven(&self) -> ProvenRecords {
        self.proven.clone()
    }

    /// What the records say of the target with this index.
    pub(super) fn found(&self, index: usize) -> &TargetFinding {
        &self.targets[index].found
    }

    /// Looks the target with this index up once more: a record of it may have come.
    pub(super) fn look_again(&mut self, index: usize, tree_digest: Option<&Digest>) {
        if let Ok(subject) = self.targets[index].subject.clone() {
            self.targets[index].found = self.find(&subject, tree_digest);
        }
    }

    /// Whether the target with this index measures coverage.
    pub(super) fn is_measured(&self, index: usize) -> bool {
        let TargetEntry { program, environment, .. } = &self.targets[index];
        coverage::is_measured(environment, program)
    }

    /// The subject of the target with this index, if its program could be read.
    pub(super) fn subject(&self, index: usize) -> Option<&Subject> {
        self.targets[index].subject.as_ref().ok()
    }

    fn find(&mut self, subject: &Subject, tree_digest: Option<&Digest>) -> TargetFinding {
        let now = Timestamp::now();
        // The newest of the most similar environment is the one to compare with.
        let mut last: Option<(Reverse<usize>, Timestamp, String, Duration)> = None;
        for key in Self::keys(subject, tree_digest) {
            let Lookup::Hit(record) = self.context.cache.get(&key, now, self.context.settings.ttl)
            else {
                continue;
            };
            if !Self::is_of(&record, subject) {
                continue;
            }
            let why = self.obstacle(&record).or_else(|| self.other_environment(&record, subject));
            let Some(why) = why else { return TargetFinding::Green(record) };
            let distance = subject.asked.differing(&record.environment.variables).len();
            let took = Duration::from_millis(record.duration_ms);
            last = last.max(Some((Reverse(distance), record.created, why, took)));
        }
        match last {
            Some((.., why, took)) => TargetFinding::Nothing { why, expected: Some(took) },
            None => {
                let why = "no record of this program with these arguments and variables".to_owned();
                TargetFinding::Nothing { why, expected: None }
            }
        }
    }

    /// All keys under which there can be records of a target as it is.
    fn keys(subject: &Subject, tree_digest: Option<&Digest>) -> Vec<RecordKey> {
        subject.slots().chain(tree_digest.and_then(|tree| subject.with_tree(tree))).collect()
    }

    /// Whether the record is one of this target alone: the key says so, and a look costs nothing.
    fn is_of(record: &Record, subject: &Subject) -> bool {
        matches!(&record.targets[..], [report] if report.id == subject.id)
    }

    /// Why the record does not answer now: something that it depends on is not as it was, perhaps
    /// because tests that have run meanwhile have changed it.
    pub(super) fn obstacle(&mut self, record: &Record) -> Option<String> {
        if matches!(self.context.origin, PlanOrigin::Question { .. })
            && let Some(why) = over_time(record, self.context.settings.timeout)
        {
            return Some(why);
        }
        let PlanContext { root, environment, .. } = self.context;
        if let Some(why) = self.other_checkout(record) {
            return Some(why);
        }
        // What a build script or a macro has read elsewhere is in the program, which is the same.
        let elsewhere = found_elsewhere(record, root, environment, &mut self.fingerprints);
        if elsewhere.is_some() {
            return elsewhere;
        }
        // What a run, for this question or for another one, has made since this one came was not there
        // then. What it had made before is what a run for this question would find.
        self.fingerprints.accept_what_runs_left(self.context.asked);
        let changed = self.fingerprints.first_changed(self.context.root, &record.inputs);
        self.fingerprints.accept_what_runs_left(None);
        Some(describe_change(&changed?.path))
    }

    /// Why the record of another checkout is no answer in this one, whatever it consulted.
    fn other_checkout(&self, record: &Record) -> Option<String> {
        let PlanContext { cache, root, settings, origin, .. } = &self.context;
        let then = &record.workspace_root;
        if then == root {
            return None;
        }
        let project = then.display();
        // A call does not know its target's name to the letter: all of a package are meant.
        let distrusted = cache.state(then).distrusted;
        let is_of = |id: &TargetId| distrusted.keys().any(|name| name.starts_with(&id.package));
        if record.targets.iter().any(|report| is_of(&report.id)) {
            return Some(format!("its record is of {project}, where a verified answer was wrong"));
        }
        if record.identity.get(IGNORED) != ignored_variables(settings).as_ref() {
            return Some(format!("its record is of {project}, where other variables are ignored"));
        }
        // What a call printed is shown again.
        let is_shown = matches!(origin, PlanOrigin::Call { .. });
        let path = then.to_string_lossy();
        let names_it = |report: &TargetReport| report.output.contains(&*path);
        (is_shown && record.targets.iter().any(names_it))
            .then(|| format!("its record is of {project}, which its output names"))
    }

    /// Why the record does not answer in this environment. What it depends on must be as it was.
    fn other_environment(&mut self, record: &Record, subject: &Subject) -> Option<String> {
        let judge = self.context.environment_judge();
        judge.obstacle(record, &subject.asked, &mut self.fingerprints)
    }

    /// The green records of the program of the target with this index as it is now, whatever they consulted.
    pub(super) fn of_same_program(&mut self, index: usize) -> Vec<Arc<Record>> {
        let Some(subject) = self.subject(index).cloned() else { return Vec::new() };
        let (now, ttl) = (Timestamp::now(), self.context.settings.ttl);
        let records =
            subject.slots().filter_map(|key| match self.context.cache.get(&key, now, ttl) {
                Lookup::Hit(record) => Some(record),
                Lookup::Miss(_) => None,
            });
        let mut records: Vec<_> = records.collect();
        records.retain(|record| {
            Self::is_of(record, &subject) && self.other_environment(record, &subject).is_none()
        });
        records
    }

    /// What earlier runs of the very same call came to, green or red, however long ago.
    pub(super) fn earlier(&mut self, index: usize) -> Vec<Arc<Record>> {
        let Some(subject) = self.subject(index).cloned() else { return Vec::new() };
        let keys = subject.slots().chain(subject.red_call());
        let get = |key| self.context.cache.get(&key, Timestamp::now(), Duration::MAX);
        let records = keys.filter_map(|key| match get(key) {
            Lookup::Hit(record) | Lookup::Miss(MissReason::NotGreen(record)) => Some(record),
            Lookup::Miss(_) => None,
        });
        let mut records: Vec<_> = records.collect();
        records.retain(|record| {
            Self::is_of(record, &subject)
                && self.obstacle(record).is_none()
                && self.other_environment(record, &subject).is_none()
        });
        records
    }

    fn judge_of(&self, subject: &Subject, temporary: &Path) -> InputJudge {
        InputJudge {
            root: self.context.root.to_owned(),
            subject: subject.clone(),
            own: None,
            target_dirs: self.context.target_dirs.iter().map(|dir| real(dir)).collect(),
            covered: self.context.covered.iter().map(|dir| real(dir)).collect(),
            temporary: real(temporary),
            excluded: Excluded::of(self.context.settings),
            trusted: Trusted::of(self.context.settings),
            selects: self.context.settings.selection != TestSelection::Off,
        }
    }

    /// Has the job of the target with this index observed, if that is possible; `pass` says which
    /// calls of the dynamic loader may pass in it.
    pub(super) fn observe(&mut self, index: usize, job: &mut TestJob, pass: LoaderCalls) {
        let Ok(subject) = &self.targets[index].subject else { return };
        if Observer::available().is_err() {
            return;
        }
        if self.observing.is_none() {
            self.observing = Observing::begin(std::mem::take(&mut self.fingerprints)).ok();
        }
        let Some(observing) = &self.observing else { return };
        let judge = self.judge_of(subject, &temporary_dir(&job.environment, &job.dir));
        job.around = Some(observing.around(index, judge, pass));
    }

    /// What was seen of every observed run that has ended, by index. The jobs must be gone.
    pub(super) fn observed(&mut self) -> BTreeMap<usize, ObservedRun> {
        let Some(observing) = self.observing.take() else { return BTreeMap::new() };
        let (observed, fingerprints) = observing.finish();
        self.fingerprints = fingerprints;
        for (index, run) in &observed {
            self.targets[*index].seen = Some(run.conduct.clone());
        }
        observed
    }

    /// How the last observed run of the target with this index behaved; `None` if none was observed.
    pub(super) fn seen(&self, index: usize) -> Option<&SeenConduct> {
        self.targets[index].seen.as_ref()
    }

    /// Forgets how the last run behaved if that was quietly: it ran only some of the tests.
    pub(super) fn forget_quiet(&mut self, index: usize) {
        self.targets[index].seen.take_if(|seen| seen.obstacles.is_empty());
    }

    /// Takes over how another run of the target with this index was seen to behave.
    pub(super) fn note_seen(&mut self, index: usize, seen: SeenConduct) {
        self.targets[index].seen = Some(seen);
    }

    /// What a run of the target with this index, which the caller has observed, depends on.
    pub(super) fn judge(
        &mut self,
        index: usize,
        observation: &Observation,
        started: SystemTime,
        temporary: &Path,
    ) -> Cacheability {
        match &self.targets[index].subject {
            Ok(subject) => {
                let judge = self.judge_of(subject, temporary);
                judge.judge(observation, started, &mut self.fingerprints)
            }
            Err(why) => Cacheability::Uncacheable(vec![Uncacheable::Unreadable(why.clone())]),
        }
    }

    /// Says that the target's record is used for this snapshot too, so that it stays.
    pub(super) fn claim(&self, record: &Record, code_hash: Digest) {
        let PlanContext { cache, root, .. } = self.context;
        self.proven.add(record);
        // If it cannot be written, retention may remove the record earlier: no harm now.
        let _ = cache.claim(root, code_hash, record, Timestamp::now());
    }

    /// A run was red: records that would answer green are wrong, those of calls by cargo itself
    /// and those of the whole target alike. `in_part`: only tests ran that a change can affect, so that
    /// nothing speaks against what is known of the others.
    pub(super) fn disprove(
        &mut self,
        index: usize,
        report: &TargetReport,
        tree_digest: Option<&Digest>,
        in_part: bool,
    ) {
        let PlanContext { cache, root, .. } = self.context;
        let context = self.context.clone();
        let judge = context.environment_judge();
        let subject = self.subject(index).cloned();
        let parts = subject.as_ref().map(|subject| &subject.parts);
        let program = parts.and_then(|parts| parts.get(PROGRAM)).map(String::as_str);
        let Some(mut red) = RedRun::of(report, program) else { return };
        let fingerprints = &mut self.fingerprints;
        if let PlanOrigin::Call { .. } = self.context.origin {
            let known = targets_named_like(&report.id, cache.state(root).targets);
            red.disprove_targets(cache, root, &known, fingerprints);
            if let Some(Subject { parts, asked, .. }) = &subject {
                red = red.with_variables(CallEnvironment { parts, asked, judge: &judge });
            }
        }
        red.disprove_calls(cache, root, fingerprints);
        if self.context.settings.selection == TestSelection::On && !in_part {
            unreached_base::disprove(cache, root, &report.id);
        }
        let Some(subject) = subject else { return };
        while let TargetFinding::Green(record) = self.find(&subject, tree_digest) {
            cache.disprove(&record.key);
            if matches!(cache.get(&record.key, Timestamp::now(), Duration::MAX), Lookup::Hit(_)) {
                // It cannot be removed: a read-only disk, already told of.
                return;
            }
        }
    }

    /// The record of a run: a green one as an answer, one of a call that failed to compare with.
    /// `None` if there can be none.
    pub(super) fn record(
        &mut self,
        index: usize,
        report: &TargetReport,
        cacheability: &Cacheability,
        moment: RunMoment<'_>,
    ) -> Option<Record> {
        let subject = self.subject(index)?.clone();
        let red = subject.red_call().filter(|_| report.verdict != Verdict::Pass);
        let (key, inputs) = match cacheability {
            _ if report.verdict != Verdict::Pass && red.is_none() => return None,
            Cacheability::Observed(inputs) => {
                (red.unwrap_or_else(|| self.slot_for(&subject, inputs, moment.when)), inputs)
            }
            Cacheability::WholeTree(inputs) => (subject.with_tree(moment.still?)?, inputs),
            Cacheability::Uncacheable(_) => return None,
        };
        let program = subject.program.as_ref();
        let program = program.map(|BuiltProgram { path, .. }| {
            self.fingerprints.read(self.context.root, path, Aspect::Program)
        });
        let is_known = program.as_ref().is_none_or(Result::is_ok);
        let is_complete = is_known && matches!(cacheability, Cacheability::Observed(_));
        // Another checkout may not have built it.
        let absolute = |input: Input| Input { path: self.context.root.join(&input.path), ..input };
        let readers = program.and_then(Result::ok).map(absolute).into_iter().collect();
        let given = given_by_cargo(&self.targets[index].environment, self.context.environment);
        let environment = subject.asked.recorded(self.context.root, inputs, readers, is_complete);
        let environment = RecordedEnvironment { given, ..environment };
        let mut identity = subject.parts.clone();
        let ignored = ignored_variables(self.context.settings);
        identity.extend(ignored.map(|ignored| (IGNORED.to_owned(), ignored)));
        let selection = match &self.context.origin {
            PlanOrigin::Question { .. } => selection_text(&subject.id),
            PlanOrigin::Call { .. } => {
                let file = subject.program.as_ref().map(|program| program.path.display());
                identity.extend(file.map(|file| (PROGRAM_FILE.to_owned(), file.to_string())));
                calls_text(&plain_name(&subject.id.package, &subject.id.target))
            }
        };
        let code_hash = moment.code_hash.unwrap_or_else(|| day(moment.when));
        let record =
            Record::new(key, self.context.root, code_hash, selection, vec![report.clone()]);
        let record = Record {
            created: moment.when,
            inputs: inputs.clone(),
            identity,
            environment,
            is_quiet: self.seen(index).is_some_and(|seen| !seen.panicked)
                && moment.rest.is_none_or(|rest| rest.is_quiet),
            is_by_reach: moment.rest.is_some(),
            ..record.made_here()
        };
        if record.verdict == Verdict::Pass {
            self.proven.add(&record);
        }
        Some(record)
    }

    /// The program of the target with this index as it ran, with the record that names all inputs
    /// of the run if there is one. `None` if cargo did not build it.
    pub(super) fn ran_program(
        &self,
        index: usize,
        report: &TargetReport,
        record: Option<(RecordKey, Timestamp)>,
        unoptimized: bool,
    ) -> Option<RanProgram> {
        let BuiltSubject { program, stamp, context } = self.built(index)?;
        Some(RanProgram {
            variables: self.subject(index)?.variables(),
            id: report.id.clone(),
            program,
            stamp,
            context,
            record,
            unoptimized,
            is_part: false,
            started: Vec::new(),
            started_unoptimized: Vec::new(),
            tests: report.tests.clone(),
        })
    }

    /// The program of the target with this index, if cargo built it.
    pub(super) fn built(&self, index: usize) -> Option<BuiltSubject> {
        let subject = self.subject(index)?;
        let program = subject.program.as_ref()?;
        let stamp = digest_of_stamp(&program.stamp.without_links());
        Some(BuiltSubject { program: program.path.clone(), stamp, context: subject.context() })
    }

    /// Where a record of these inputs goes: in the place of one of the same, a free one, that of the
    /// environment least like this one, and of those the oldest.
    fn slot_for(&mut self, subject: &Subject, inputs: &[Input], now: Timestamp) -> RecordKey {
        let of = |inputs: &[Input]| -> BTreeSet<_> {
            inputs.iter().map(|input| (input.path.clone(), input.state)).collect()
        };
        let wanted = of(inputs);
        let mut free: Option<RecordKey> = None;
        let mut farthest: Option<(usize, Reverse<Timestamp>, RecordKey)> = None;
        let slots: Vec<_> = subject.slots().collect();
        for key in slots.iter().copied() {
            match self.context.cache.get(&key, now, self.context.settings.ttl) {
                Lookup::Hit(record) => {
                    let is_same = of(&record.inputs) == wanted
                        && self.other_environment(&record, subject).is_none();
                    if is_same {
                        return key;
                    }
                    let distance = subject.asked.differing(&record.environment.variables).len();
                    farthest = farthest.max(Some((distance, Reverse(record.created), key)));
                }
                Lookup::Miss(_) => free = free.or(Some(key)),
            }
        }
        free.or(farthest.map(|(.., key)| key)).unwrap_or(slots[0])
    }

    /// Stores records, and brings everything back within the limits.
    ///
    /// # Errors
    /// The first reason why one of them was not stored.
    pub(super) fn store(&self, mut records: Vec<Record>, limits: Limits) -> Result<(), PutError> {
        let cache = self.context.cache;
        // That takes a look at everything. Of calls, which store one record each, only some do it.
        let last = match &self.context.origin {
            PlanOrigin::Call { .. } => {
                records.pop_if(|record| record.key.digest.to_string().starts_with('0'))
            }
            PlanOrigin::Question { .. } => records.pop(),
        };
        let stored = records.iter().try_for_each(|record| cache.store(record, limits).map(drop));
        let put = last.map_or(Ok(()), |record| cache.put(&record, limits).map(drop));
        put.and(stored)
    }

    /// Forgets the record of a call that failed: a green run of it has followed.
    pub(super) fn forget_red(&self, index: usize) {
        let cache = self.context.cache;
        let Some(key) = self.subject(index).and_then(Subject::red_call) else { return };
        let found = cache.get(&key, Timestamp::now(), Duration::MAX);
        if !matches!(found, Lookup::Miss(MissReason::Absent)) {
            cache.disprove(&key);
        }
    }
}

/// The observation of a whole run through cargo-nextest.
pub(super) struct NextestObservation {
    observing: Observing,
    /// A folder for the run, which does not count as an input.
    pub(super) dir: TempDir,
}

impl NextestObservation {
    /// Begins the observation of a run, and gives the hook around it. `None` if runs cannot be
    /// observed.
    pub(super) fn begin(
        question: &Question,
        facts: &Facts,
    ) -> Option<(Self, Arc<dyn ProcessHook>)> {
        Observer::available().ok()?;
        let dir = tempfile::tempdir().ok()?;
        let observing = Observing::begin(Fingerprints::new(&question.settings)).ok()?;
        let (package, target) = (String::new(), "cargo-nextest".to_owned());
        let judge = InputJudge {
            root: question.root.clone(),
            subject: Subject::unkeyed(TargetId { package, target, kind: TargetKind::Test }),
            own: Some(real(dir.path())),
            target_dirs: facts.target_dirs.iter().map(|dir| real(dir)).collect(),
            covered: facts.toolchain.folders(),
            temporary: real(&temporary_dir(&question.environment, &question.selection.dir)),
            excluded: Excluded::of(&question.settings),
            trusted: Trusted::of(&question.settings),
            selects: false,
        };
        // What needs it could not be told apart.
        let hook = observing.around(0, judge, LoaderCalls::Notified);
        Some((Self { observing, dir }, hook))
    }

    /// The observed run, once its hook is dropped. `None` if it was not observed.
    pub(super) fn finish(self) -> Option<ObservedRun> {
        self.observing.finish().0.remove(&0)
    }
}

/// Which variables a project ignores, as its records tell; `None` if it ignores none of itself.
fn ignored_variables(settings: &Settings) -> Option<String> {
    let mut digester = Digester::new("ignored variables 1");
    for glob in &settings.ignore_env {
        digester.field(glob.as_bytes());
    }
    (!settings.ignore_env.is_empty()).then(|| digester.finish().to_string())
}

/// The values of variables that a run has and its client has not.
fn given_by_cargo(run: &Environment, client: &Environment) -> Vec<OsText> {
    let given = run.iter().filter(|(name, value)| client.get(*name) != Some(*value));
    let given: BTreeSet<_> = given.map(|(_, value)| value).collect();
    given.into_iter().map(OsText::from).collect()
}

/// The folder for temporary files of a program that runs in `dir`.
pub(super) fn temporary_dir(environment: &Environment, dir: &Path) -> PathBuf {
    environment.get("TMPDIR").map_or_else(|| "/tmp".into(), |temporary| dir.join(temporary))
}

/// A folder as the kernel knows it.
fn real(folder: &Path) -> PathBuf {
    folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
}

/// What stands for the snapshot of a call, which nobody has taken: the day, so that as many days are
/// kept as snapshots may be.
fn day(now: Timestamp) -> Digest {
    const DAY: u64 = 86_400_000;
    let mut digester = Digester::new("calls of a day 1");
    digester.number(now.0 / DAY);
    digester.finish()
}
