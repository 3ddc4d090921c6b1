//! What a project tells the clients that watch it: its state, and the verdicts that hold for the
//! tree as it is. Without such clients it keeps nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::mailbox::RunNumber;
use super::super::subscriber::{Batch, Subscriber};
use crate::model::{
    Answer, BuildEvent, Digest, EventOf, Outcome, Source, SourcePlace, StreamEvent, TargetAnswer,
    TargetEvent, TargetId, TargetKind, TargetReport, TestEntry, TestReport, Timestamp, Verdict,
    VerdictEvent,
};
use crate::protocol::{LastBuild, LiveProject, ProjectStatus, tests_events};
use crate::runner::{RunEvent, describe_end, failure_texts};
use crate::verdict::{KnownRecord, Step};

/// At most so many bytes of what a failed target printed are told where no test is named.
const MOST_OUTPUT: usize = 4096;

/// The clients of a project, and what they know.
pub(super) struct Broadcast {
    root: PathBuf,
    clients: Vec<Subscriber>,
    told: LiveProject,
    /// The last answer by a run, until it is told.
    answer: Option<Answer>,
    /// The records have not been asked about this tree.
    wants_records: bool,
    /// The run whose news is told; none once the tree was touched while it ran.
    run: Option<RunNumber>,
    last_run: RunNumber,
    /// Verdicts have been told of a run that is not proven to be of this tree.
    is_unproven: bool,
    /// Read by runs on other threads.
    is_watched: Arc<AtomicBool>,
}

impl Broadcast {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            clients: Vec::new(),
            told: LiveProject::default(),
            answer: None,
            wants_records: false,
            run: None,
            last_run: RunNumber::default(),
            is_unproven: false,
            is_watched: Arc::default(),
        }
    }

    /// Adds a client and tells it what is known.
    pub(super) fn add(&mut self, client: Subscriber) {
        if self.is_watched() {
            client.tell(self.told.events(&self.root).into());
        } else {
            self.wants_records = true;
        }
        self.clients.push(client);
        self.is_watched.store(true, Ordering::Relaxed);
    }

    /// Whether there is a client; forgets everything once there is none.
    pub(super) fn is_watched(&mut self) -> bool {
        self.clients.retain(|client| !client.is_gone());
        let is_watched = !self.clients.is_empty();
        if !is_watched && self.is_watched.swap(false, Ordering::Relaxed) {
            (self.told, self.answer) = (LiveProject::default(), None);
            self.is_unproven = false;
        }
        is_watched
    }

    /// Whether a change of the tree would make something untrue that was told.
    pub(super) fn has_verdicts(&mut self) -> bool {
        self.is_watched() && (self.told.verdict.is_some() || !self.told.targets.is_empty())
    }

    /// Whether the records are to be asked.
    pub(super) fn wants_records(&self) -> bool {
        self.wants_records
    }

    /// The way by which the next run, on another thread, tells of itself. Nothing is told of one that
    /// is not of the project's own selection (`is_own`): it says too little of a target.
    pub(super) fn reporter(&mut self, code_hash: Digest, is_own: bool) -> RunReporter {
        self.end_run(false);
        self.last_run.0 += 1;
        self.run = is_own.then_some(self.last_run);
        let of = self.of(code_hash);
        let is_watched = Arc::clone(&self.is_watched);
        RunReporter { of, run: self.last_run, is_built: false, is_watched }
    }

    /// Whether news of a run may come.
    pub(super) fn has_run(&mut self) -> bool {
        self.is_watched() && self.run.is_some()
    }

    /// Tells the news of a run, unless that has been given up or its tree was touched meanwhile.
    pub(super) fn tell_run(&mut self, run: RunNumber, events: Vec<StreamEvent>) {
        if self.run != Some(run) {
            return;
        }
        let has_verdict = events.iter().any(|event| matches!(event, StreamEvent::Target(_)));
        self.is_unproven |= has_verdict;
        self.tell(events);
    }

    /// The tree was touched while a run was under way: what the run has told and will tell is in
    /// doubt, also where the content is the same again.
    pub(super) fn disturb_run(&mut self, code_hash: Option<Digest>) {
        self.run = None;
        self.withdraw(code_hash);
    }

    /// The run, if there is one, has ended. Unless it is proven to be of its tree, no verdict stays
    /// that it has told.
    pub(super) fn end_run(&mut self, is_proven: bool) {
        self.run = None;
        if std::mem::take(&mut self.is_unproven) && !is_proven {
            self.withdraw(self.told.code_hash);
        }
    }

    /// Tells events that change what is known; those for another tree change nothing.
    pub(super) fn tell(&mut self, events: impl IntoIterator<Item = StreamEvent>) {
        if !self.is_watched() {
            return;
        }
        let mut told = Vec::new();
        for event in events {
            if event.of().is_some_and(|of| self.told.code_hash != Some(of.code_hash)) {
                continue;
            }
            self.told.apply(event.clone());
            told.push(event);
        }
        if !told.is_empty() {
            let batch: Batch = told.into();
            self.clients.iter().for_each(|client| client.tell(Arc::clone(&batch)));
        }
    }

    /// Tells the state. A tree of another code hash makes all verdicts unknown; `is_built`: the
    /// last build was of this tree.
    pub(super) fn tell_status(&mut self, status: &ProjectStatus, is_built: bool) {
        if self.told.activity.is_none() || self.told.code_hash != status.code_hash {
            self.withdraw(status.code_hash);
        }
        let before = self.told.activity.clone();
        let is_same = before
            .as_ref()
            .is_some_and(|before| (before.state, &before.reason) == (status.state, &status.reason));
        if !is_same {
            let since = before.filter(|before| before.state == status.state);
            let since = since.map_or_else(Timestamp::now, |before| before.since);
            let (state, reason) = (status.state, status.reason.clone());
            let project = self.root.clone();
            self.tell([StreamEvent::Project { project, state, reason, since }]);
        }
        let build = status.last_build.as_ref().filter(|_| is_built).zip(status.code_hash);
        if let Some((build, code_hash)) = build {
            let build = build_event(self.of(code_hash), build);
            if self.told.build.as_ref() != Some(&build) {
                self.tell([StreamEvent::Build(build)]);
            }
        }
    }

    /// Makes all verdicts unknown; from now on they hold for this tree.
    pub(super) fn withdraw(&mut self, code_hash: Option<Digest>) {
        (self.answer, self.wants_records) = (None, true);
        self.is_unproven = false;
        let project = self.root.clone();
        self.tell([StreamEvent::Tree { project, code_hash }]);
    }

    /// Takes note of an answer by a run, to be told with what the records say.
    pub(super) fn note_answer(&mut self, answer: Option<Answer>) {
        (self.answer, self.wants_records) = (answer, true);
    }

    /// Tells what the records and the last run say of the tree.
    pub(super) fn tell_known(&mut self, code_hash: Digest, known: Result<KnownRecord, String>) {
        self.wants_records = false;
        let of = self.of(code_hash);
        let answer = self.answer.take().filter(|answer| answer.code_hash == Some(code_hash));
        let mut answered: BTreeMap<TargetId, TargetAnswer> = BTreeMap::new();
        if let Some(answer) = &answer {
            answered.extend(answer.targets.iter().map(|of| (of.id.clone(), of.clone())));
        }
        let mut events = Vec::new();
        let mut verdict = VerdictEvent {
            of: of.clone(),
            verdict: None,
            reason: None,
            source: None,
            when: None,
            counts: Default::default(),
        };
        match (known, answer) {
            (Ok(KnownRecord { record, reason }), answer) => {
                for report in &record.targets {
                    let run = answered.get(&report.id);
                    events.extend(match run {
                        Some(run) => self.report_events(target_event(&of, run), report),
                        None => {
                            let (source, when) = (Source::Cache, record.created);
                            let answer = TargetAnswer::from_report(report, source, reason, when);
                            self.report_events(target_event(&of, &answer), report)
                        }
                    });
                    verdict.counts += report.counts;
                }
                verdict.verdict = Some(record.verdict);
                verdict.source = Some(answer.map_or(Source::Cache, |answer| answer.source()));
                verdict.when = Some(record.created);
            }
            (Err(_), Some(answer)) => {
                for target in &answer.targets {
                    events.extend(self.answer_events(&of, target));
                }
                verdict.verdict = Some(answer.verdict());
                verdict.source = Some(answer.source());
                verdict.when = answer.oldest();
                verdict.counts = answer.counts();
                let why = answer.not_kept.join("; ");
                verdict.reason = Some(why).filter(|why| !why.is_empty());
            }
            (Err(reason), None) => verdict.reason = Some(reason),
        }
        if self.told.verdict.as_ref() != Some(&verdict) {
            events.push(StreamEvent::Verdict(verdict));
        }
        self.tell(events);
    }

    /// Everything of before a client's question has been told.
    pub(super) fn tell_confirmed(&mut self, token: u64) {
        let project = self.root.clone();
        self.tell([StreamEvent::Confirmed { project, token }]);
    }

    /// The project has left the config.
    pub(super) fn tell_gone(&mut self) {
        let project = self.root.clone();
        self.tell([StreamEvent::Gone { project }]);
    }

    fn of(&self, code_hash: Digest) -> EventOf {
        EventOf { project: self.root.clone(), code_hash }
    }

    /// The events of a target whose tests are known; none if all that has been told.
    fn report_events(&self, event: TargetEvent, report: &TargetReport) -> Vec<StreamEvent> {
        let tests = test_entries(report);
        let is_told = self.told.targets.get(&event.id).is_some_and(|told| {
            told.event == event && told.tests.values().eq(sorted(&tests).values().copied())
        });
        if is_told { Vec::new() } else { whole_target(event, tests) }
    }

    /// The events of a target of which only the failed tests are known; what its run has told of
    /// the others stays.
    fn answer_events(&self, of: &EventOf, answer: &TargetAnswer) -> Vec<StreamEvent> {
        let event = target_event(of, answer);
        let told = self.told.targets.get(&event.id);
        if told.is_some_and(|told| {
            (told.event.verdict, told.event.source, told.event.counts)
                == (event.verdict, event.source, event.counts)
        }) {
            return Vec::new();
        }
        let failed = |name: &String| TestReport { name: name.clone(), outcome: Outcome::Failed };
        let failed: Vec<_> = answer.failures.iter().map(failed).collect();
        let output = whole_output(&answer.output, answer.stderr.as_deref());
        let tests = entries(&failed, answer.id.kind, &output);
        whole_target(event, tests)
    }
}

/// Tells of a run, from the thread that runs it, as long as somebody watches.
#[derive(Clone, Debug)]
pub(super) struct RunReporter {
    of: EventOf,
    run: RunNumber,
    /// The newest build is of this tree.
    is_built: bool,
    is_watched: Arc<AtomicBool>,
}

impl RunReporter {
    /// Whether somebody watches.
    pub(super) fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed)
    }

    /// The run is of this tree from now on.
    pub(super) fn set_code_hash(&mut self, code_hash: Digest) {
        self.of.code_hash = code_hash;
    }

    /// The run that it tells of.
    pub(super) fn run(&self) -> RunNumber {
        self.run
    }

    /// The events of a step. Nothing is told of tests before the build is known to be of the tree.
    pub(super) fn events_of(&mut self, step: &Step<'_>) -> Vec<StreamEvent> {
        match step {
            Step::Built(build) => self.is_built = build.sources.are_of_tree(),
            Step::BuildingAgain(_) => self.is_built = false,
            _ => {}
        }
        if !self.is_built || !self.is_watched() {
            return Vec::new();
        }
        match step {
            Step::Planned { run, left } => self.planned(*run, *left),
            Step::Running(RunEvent::Started { id }) => self.started(id),
            Step::Running(RunEvent::Finished { report }) => self.finished(report),
            _ => Vec::new(),
        }
    }

    /// So many targets are about to run.
    fn planned(&self, run: usize, left: usize) -> Vec<StreamEvent> {
        vec![StreamEvent::Plan { of: self.of.clone(), run, left, done: 0 }]
    }

    /// A target has begun.
    fn started(&self, id: &TargetId) -> Vec<StreamEvent> {
        let (of, id, since) = (self.of.clone(), id.clone(), Timestamp::now());
        vec![StreamEvent::Running { of, id, since }]
    }

    /// A target has ended.
    fn finished(&self, report: &TargetReport) -> Vec<StreamEvent> {
        let now = Timestamp::now();
        let answer = TargetAnswer::from_report(report, Source::Run, "run in the background", now);
        whole_target(target_event(&self.of, &answer), test_entries(report))
    }
}

fn whole_target(event: TargetEvent, tests: Vec<TestEntry>) -> Vec<StreamEvent> {
    let mut events: Vec<_> = tests_events(&event, tests).collect();
    events.insert(0, StreamEvent::Target(event));
    events
}

fn sorted(tests: &[TestEntry]) -> BTreeMap<&str, &TestEntry> {
    tests.iter().map(|test| (&*test.name, test)).collect()
}

fn target_event(of: &EventOf, answer: &TargetAnswer) -> TargetEvent {
    let is_unnamed = answer.verdict != Verdict::Pass && answer.failures.is_empty();
    let message = is_unnamed.then(|| {
        let output = whole_output(&answer.output, answer.stderr.as_deref());
        let end = describe_end(answer.end);
        format!("{end}\n{}", tail(&output)).trim_end().to_owned()
    });
    TargetEvent {
        of: of.clone(),
        id: answer.id.clone(),
        verdict: answer.verdict,
        source: answer.source,
        reason: answer.reason.clone(),
        when: answer.when,
        duration_ms: answer.duration_ms,
        counts: answer.counts,
        message,
    }
}

fn build_event(of: EventOf, build: &LastBuild) -> BuildEvent {
    BuildEvent {
        of,
        when: build.when,
        success: build.success,
        duration_ms: build.duration_ms,
        errors: if build.success { String::new() } else { build.errors.clone() },
        ended: build.ended.clone(),
    }
}

fn whole_output(output: &str, stderr: Option<&str>) -> String {
    format!("{output}{}", stderr.unwrap_or_default())
}

/// The end of an output, without colours.
fn tail(output: &str) -> String {
    let output = anstream::adapter::strip_str(output).to_string();
    let mut start = output.len().saturating_sub(MOST_OUTPUT);
    while !output.is_char_boundary(start) {
        start += 1;
    }
    output[start..].to_owned()
}

/// What there is to say of the tests of a report.
fn test_entries(report: &TargetReport) -> Vec<TestEntry> {
    let output = whole_output(&report.output, report.stderr.as_deref());
    entries(&report.tests, report.id.kind, &output)
}

fn entries(tests: &[TestReport], kind: TargetKind, output: &str) -> Vec<TestEntry> {
    let is_red = tests.iter().any(|test| test.outcome == Outcome::Failed);
    let mut texts = if is_red { failure_texts(output) } else { BTreeMap::new() };
    let entry = |test: &TestReport| {
        let text = texts.remove(&test.name).filter(|_| test.outcome == Outcome::Failed);
        let (message, panic) = text.map(|text| (text.message, text.panic)).unzip();
        let panic = panic.flatten().map(|panic| SourcePlace {
            file: panic.file,
            line: panic.line,
            column: Some(panic.column),
        });
        TestEntry {
            name: test.name.clone(),
            outcome: test.outcome,
            place: (kind == TargetKind::Doc).then(|| doctest_place(&test.name)).flatten(),
            message: message.filter(|message| !message.is_empty()),
            panic,
        }
    };
    tests.iter().map(entry).collect()
}

/// The place that rustdoc puts into the name of a doctest: `src/lib.rs - item (line 3)`.
fn doctest_place(name: &str) -> Option<SourcePlace> {
    let (file, rest) = name.split_once(" - ")?;
    let (_, line) = rest.rsplit_once("(line ")?;
    let line = line.split(')').next()?.parse().ok()?;
    Some(SourcePlace { file: file.to_owned(), line, column: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::subscriber::{Subscription, subscribe};

    fn tree() -> Digest {
        Digest::of(b"tree")
    }

    /// A project of which a client knows nothing but the tree.
    fn watched() -> (Broadcast, Subscription) {
        let mut broadcast = Broadcast::new("/p".into());
        let (client, subscription) = subscribe();
        broadcast.add(client);
        broadcast.withdraw(Some(tree()));
        (broadcast, subscription)
    }

    fn green() -> TargetReport {
        TargetReport { id: TargetId::sample("p"), ..TargetReport::sample(&[("one", Outcome::Ok)]) }
    }

    /// A run whose one target has ended.
    fn ran(broadcast: &mut Broadcast) -> RunReporter {
        let mut reporter = broadcast.reporter(tree(), true);
        reporter.is_built = true;
        let report = green();
        let events = reporter.events_of(&Step::Running(RunEvent::Finished { report: &report }));
        broadcast.tell_run(reporter.run(), events);
        assert_eq!(broadcast.told.targets.len(), 1);
        reporter
    }

    #[test]
    fn verdicts_of_a_run_stay_only_if_it_is_proven() {
        let (mut broadcast, _subscription) = watched();
        ran(&mut broadcast);
        broadcast.end_run(false);
        assert!(broadcast.told.targets.is_empty() && broadcast.wants_records());
        assert_eq!(broadcast.told.code_hash, Some(tree()));

        ran(&mut broadcast);
        broadcast.end_run(true);
        broadcast.end_run(false);
        assert_eq!(broadcast.told.targets.len(), 1, "proven");
        ran(&mut broadcast);
        drop(broadcast.reporter(tree(), true));
        assert!(broadcast.told.targets.is_empty(), "another run began before the end was told");
    }

    #[test]
    fn a_run_that_a_change_has_met_tells_nothing_more() {
        let (mut broadcast, _subscription) = watched();
        let mut reporter = ran(&mut broadcast);
        broadcast.disturb_run(Some(tree()));
        assert!(broadcast.told.targets.is_empty() && !broadcast.has_run());
        let report = green();
        let events = reporter.events_of(&Step::Running(RunEvent::Finished { report: &report }));
        broadcast.tell_run(reporter.run(), events.clone());
        assert!(!events.is_empty() && broadcast.told.targets.is_empty());
        drop(broadcast.reporter(tree(), true));
        broadcast.tell_run(reporter.run(), events);
        assert!(broadcast.told.targets.is_empty(), "late news of the run before");
        drop(broadcast.reporter(tree(), false));
        assert!(!broadcast.has_run(), "another selection than the project's own");
    }

    #[test]
    fn nothing_is_told_of_tests_before_the_build_is_known_to_be_of_the_tree() {
        let (mut broadcast, _subscription) = watched();
        let mut reporter = broadcast.reporter(tree(), true);
        let report = green();
        let finished = Step::Running(RunEvent::Finished { report: &report });
        assert_eq!(reporter.events_of(&finished), []);
        reporter.is_built = true;
        assert_ne!(reporter.events_of(&finished), []);
        reporter.events_of(&Step::BuildingAgain(&[]));
        assert_eq!(reporter.events_of(&finished), []);
    }

    #[test]
    fn a_doctest_bears_its_place_in_its_name() {
        let place = doctest_place("src/lib.rs - Stack<T>::push (line 12) - compile fail").unwrap();
        assert_eq!((&*place.file, place.line), ("src/lib.rs", 12));
        assert_eq!(doctest_place("tests::adds"), None);
    }
}
