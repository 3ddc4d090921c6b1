//! The state that the events of the stream add up to. The daemon keeps one of each project that is
//! watched, to tell it to the next client, and every view keeps one to show it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::VERSION;
use crate::model::{
    BuildEvent, Digest, EventOf, STREAM_VERSION, State, StreamEvent, TargetEvent, TargetId,
    TestEntry, Timestamp, VerdictEvent,
};

/// At most so many tests are told in one event.
const TESTS_IN_AN_EVENT: usize = 500;

/// Everything that a connection has told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LiveState {
    /// The projects by their workspace roots.
    pub projects: BTreeMap<PathBuf, LiveProject>,
    /// The whole state was told since the connection was made.
    pub is_synced: bool,
    /// The view watches by itself, without the service.
    pub is_own: bool,
    /// Why there is no connection, if there is none.
    pub lost: Option<String>,
}

/// What is known of a project.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LiveProject {
    /// What it is about, and since when; none before that was told.
    pub activity: Option<LiveActivity>,
    /// The code hash that everything below holds for.
    pub code_hash: Option<Digest>,
    /// The last background build of this tree.
    pub build: Option<BuildEvent>,
    /// How many targets will run, and how many would have to.
    pub plan: Option<LivePlan>,
    /// The targets that run, since when.
    pub running: BTreeMap<TargetId, Timestamp>,
    /// The verdicts.
    pub targets: BTreeMap<TargetId, LiveTarget>,
    /// The answer for the whole.
    pub verdict: Option<VerdictEvent>,
}

/// What a project is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LiveActivity {
    /// The state.
    pub state: State,
    /// More about it.
    pub reason: Option<String>,
    /// Since when.
    pub since: Timestamp,
}

/// How many targets a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LivePlan {
    /// So many will run.
    pub run: usize,
    /// So many others run only when somebody asks.
    pub left: usize,
    /// So many of the first have ended.
    pub done: usize,
}

/// What is known of a target.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LiveTarget {
    /// Its verdict.
    pub event: TargetEvent,
    /// Its tests by name, as far as they are named.
    pub tests: BTreeMap<String, TestEntry>,
}

impl LiveState {
    /// Takes note of an event. One of a tree that is no longer the newest changes nothing.
    pub(crate) fn apply(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Hello { daemon, .. } => {
                *self = Self { is_own: !daemon, ..Self::default() };
            }
            StreamEvent::Synced => self.is_synced = true,
            StreamEvent::Confirmed { .. } => {}
            StreamEvent::Disconnected { reason, .. } => {
                *self = Self { lost: Some(reason), ..Self::default() };
            }
            StreamEvent::Gone { project } => drop(self.projects.remove(&project)),
            StreamEvent::Project { ref project, .. } | StreamEvent::Tree { ref project, .. } => {
                self.projects.entry(project.clone()).or_default().apply(event);
            }
            StreamEvent::Build(_)
            | StreamEvent::Plan { .. }
            | StreamEvent::Running { .. }
            | StreamEvent::Target(_)
            | StreamEvent::Tests { .. }
            | StreamEvent::Verdict(_) => {
                let project = event.of().and_then(|of| self.projects.get_mut(&of.project));
                if let Some(project) = project {
                    project.apply(event);
                }
            }
        }
    }
}

impl LiveProject {
    /// Takes note of an event of this project.
    pub(crate) fn apply(&mut self, event: StreamEvent) {
        if event.of().is_some_and(|of| self.code_hash != Some(of.code_hash)) {
            return;
        }
        match event {
            StreamEvent::Project { state, reason, since, .. } => {
                self.activity = Some(LiveActivity { state, reason, since });
                if state != State::Testing {
                    self.running.clear();
                    self.plan = None;
                }
            }
            StreamEvent::Tree { code_hash, .. } => {
                let activity = self.activity.take();
                *self = Self { activity, code_hash, ..Self::default() };
            }
            StreamEvent::Build(build) => self.build = Some(build),
            StreamEvent::Plan { run, left, done, .. } => {
                self.plan = Some(LivePlan { run, left, done });
            }
            StreamEvent::Running { id, since, .. } => drop(self.running.insert(id, since)),
            StreamEvent::Target(event) => {
                let was_running = self.running.remove(&event.id).is_some();
                if let Some(plan) = self.plan.as_mut().filter(|_| was_running) {
                    plan.done += 1;
                }
                let tests = BTreeMap::new();
                self.targets.insert(event.id.clone(), LiveTarget { event, tests });
            }
            StreamEvent::Tests { id, tests, .. } => {
                if let Some(target) = self.targets.get_mut(&id) {
                    target.tests.extend(tests.into_iter().map(|test| (test.name.clone(), test)));
                }
            }
            StreamEvent::Verdict(verdict) => self.verdict = Some(verdict),
            StreamEvent::Hello { .. }
            | StreamEvent::Synced
            | StreamEvent::Disconnected { .. }
            | StreamEvent::Confirmed { .. }
            | StreamEvent::Gone { .. } => {}
        }
    }

    /// The events that add up to this state, for a client that knows nothing.
    pub(crate) fn events(&self, root: &Path) -> Vec<StreamEvent> {
        let project = root.to_owned();
        let mut events =
            vec![StreamEvent::Tree { project: project.clone(), code_hash: self.code_hash }];
        if let Some(LiveActivity { state, reason, since }) = self.activity.clone() {
            events.push(StreamEvent::Project { project: project.clone(), state, reason, since });
        }
        let Some(code_hash) = self.code_hash else { return events };
        let of = EventOf { project, code_hash };
        events.extend(self.build.clone().map(StreamEvent::Build));
        for target in self.targets.values() {
            events.push(StreamEvent::Target(target.event.clone()));
            let tests = target.tests.values().cloned().collect();
            events.extend(tests_events(&target.event, tests));
        }
        if let Some(LivePlan { run, left, done }) = self.plan {
            events.push(StreamEvent::Plan { of: of.clone(), run, left, done });
        }
        let running = self.running.iter();
        events.extend(running.map(|(id, since)| StreamEvent::Running {
            of: of.clone(),
            id: id.clone(),
            since: *since,
        }));
        events.extend(self.verdict.clone().map(StreamEvent::Verdict));
        events
    }
}

/// The events that tell the outcomes of the tests of a target.
pub(crate) fn tests_events(
    target: &TargetEvent,
    tests: Vec<TestEntry>,
) -> impl Iterator<Item = StreamEvent> {
    let mut tests = tests.into_iter();
    let TargetEvent { of, id, source, when, .. } = target.clone();
    std::iter::from_fn(move || {
        let tests: Vec<_> = tests.by_ref().take(TESTS_IN_AN_EVENT).collect();
        let (of, id) = (of.clone(), id.clone());
        (!tests.is_empty()).then_some(StreamEvent::Tests { of, id, source, when, tests })
    })
}

/// The first event of a connection.
pub(crate) fn hello() -> StreamEvent {
    StreamEvent::Hello { version: STREAM_VERSION, tool: VERSION.to_owned(), daemon: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Outcome, Source, Verdict};
    use proptest::prelude::*;

    fn of(tree: u8) -> EventOf {
        EventOf::sample(tree)
    }

    fn id(target: u8) -> TargetId {
        TargetId::sample(&format!("t{target}"))
    }

    fn target(tree: u8, target: u8, verdict: Verdict) -> TargetEvent {
        TargetEvent::sample(of(tree), id(target), verdict)
    }

    fn test(name: u8, outcome: Outcome) -> TestEntry {
        TestEntry::sample(&format!("n{name}"), outcome)
    }

    fn any_event() -> impl Strategy<Value = StreamEvent> {
        let project = || PathBuf::from("/p");
        let tree = 0..3u8;
        prop_oneof![
            (0..4u8).prop_map(move |tree| {
                let code_hash = (tree < 3).then(|| of(tree).code_hash);
                StreamEvent::Tree { project: project(), code_hash }
            }),
            any::<bool>().prop_map(move |testing| {
                let state = if testing { State::Testing } else { State::Idle };
                let (reason, since) = (None, Timestamp(1));
                StreamEvent::Project { project: project(), state, reason, since }
            }),
            (tree.clone(), 0..5usize).prop_map(|(tree, run)| StreamEvent::Plan {
                of: of(tree),
                run,
                left: 1,
                done: 0
            }),
            (tree.clone(), 0..3u8).prop_map(|(tree, target)| {
                StreamEvent::Running { of: of(tree), id: id(target), since: Timestamp(2) }
            }),
            (tree.clone(), 0..3u8, any::<bool>()).prop_map(|(tree, one, pass)| {
                let verdict = if pass { Verdict::Pass } else { Verdict::Fail };
                StreamEvent::Target(target(tree, one, verdict))
            }),
            (tree.clone(), 0..3u8, 0..9u8).prop_map(|(tree, one, name)| StreamEvent::Tests {
                of: of(tree),
                id: id(one),
                source: Source::Run,
                when: Timestamp(3),
                tests: vec![test(name, Outcome::Ok)],
            }),
            tree.prop_map(|tree| {
                StreamEvent::Verdict(VerdictEvent::sample(of(tree), Verdict::Pass))
            }),
        ]
    }

    proptest! {
        #[test]
        fn a_client_that_comes_late_knows_what_the_others_know(
            events in prop::collection::vec(any_event(), 0..40),
        ) {
            let mut early = LiveProject::default();
            events.into_iter().for_each(|event| early.apply(event));
            let mut late = LiveProject::default();
            early.events(Path::new("/p")).into_iter().for_each(|event| late.apply(event));
            prop_assert_eq!(late, early);
        }

        #[test]
        fn nothing_is_shown_that_was_told_for_another_tree(
            events in prop::collection::vec(any_event(), 0..40), last in 0..3u8,
        ) {
            let mut state = LiveState::default();
            events.into_iter().for_each(|event| state.apply(event));
            let before = state.projects.get(Path::new("/p")).and_then(|project| project.code_hash);
            let code_hash = of(last).code_hash;
            state.apply(StreamEvent::Target(target(last, 0, Verdict::Pass)));
            let shown = state.projects.get(Path::new("/p"));
            let hashes: Vec<_> = shown.iter().flat_map(|project| {
                project.targets.values().map(|target| target.event.of.code_hash)
            }).collect();
            prop_assert!(hashes.iter().all(|hash| Some(*hash) == before));
            state.apply(StreamEvent::Tree { project: "/p".into(), code_hash: Some(code_hash) });
            let project = &state.projects[Path::new("/p")];
            prop_assert!(project.targets.is_empty() && project.verdict.is_none());
        }
    }

    #[test]
    fn a_large_target_is_told_in_parts() {
        let tests: Vec<_> = (0..=255).map(|name| test(name, Outcome::Ok)).collect();
        let tests = tests.iter().cycle().take(2 * TESTS_IN_AN_EVENT + 1).cloned().collect();
        let events: Vec<_> = tests_events(&target(0, 0, Verdict::Pass), tests).collect();
        assert_eq!(events.len(), 3);
    }

    #[test]
    fn a_lost_connection_leaves_nothing_known() {
        let mut state = LiveState::default();
        state.apply(StreamEvent::Tree { project: "/p".into(), code_hash: None });
        state.apply(StreamEvent::Synced);
        state.apply(StreamEvent::Disconnected { reason: "gone".into(), retry_ms: 1 });
        assert!(state.projects.is_empty() && !state.is_synced);
        assert_eq!(state.lost.as_deref(), Some("gone"));
    }
}
