//! The state of the tests as plain lines, for a pipe, and for a terminal where they are wanted.
//!
//! Failures look as rustc's errors do, between a line that begins with `[Running` and one that begins
//! with `[Finished running`: rust-analyzer's problem matcher `$rustc-watch` reads them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::summary::{Standing, compiler_errors, one_line, standing, state_text};
use crate::model::{Digest, Outcome, SourcePlace, TestEntry, Timestamp, VerdictEvent};
use crate::protocol::{LiveProject, LiveState, State, StreamEvent};

const BEGIN: &str = "[Running 'cargo test']";

/// The lines of a state that changes by events. They come in blocks, each of which begins when
/// something changes and ends when nothing is under way.
#[derive(Debug, Default)]
pub(crate) struct LineReport {
    state: LiveState,
    /// The failures of the block that has begun and not ended.
    block: Option<Vec<String>>,
    /// What the last block has told.
    told: Option<Vec<ToldProject>>,
    /// The projects of which every target has ended, and the answer has not come.
    awaited: BTreeSet<PathBuf>,
}

/// What a block tells of a project: another one makes another block.
#[derive(Debug, PartialEq)]
struct ToldProject {
    root: PathBuf,
    code_hash: Option<Digest>,
    is_settled: bool,
    failures: Vec<String>,
    verdict: Option<VerdictEvent>,
}

impl LineReport {
    /// Takes note of an event; gives the lines to print.
    pub(crate) fn note(&mut self, event: StreamEvent, now: Timestamp) -> Vec<String> {
        self.note_awaited(&event);
        let lost = match &event {
            StreamEvent::Disconnected { reason, .. } => Some(reason.clone()),
            _ => None,
        };
        let is_void = matches!(
            event,
            StreamEvent::Tree { .. } | StreamEvent::Gone { .. } | StreamEvent::Disconnected { .. }
        );
        self.state.apply(event);
        let mut lines = Vec::new();
        if is_void && self.block.as_ref().is_some_and(|told| !told.is_empty()) {
            // What it has told is void: another block replaces it.
            self.block = None;
            lines.push(end_line(Standing::Unknown));
        }
        if let Some(reason) = lost {
            let was_told = self.told.take().is_some();
            if self.block.take().is_none() && was_told {
                lines.push(BEGIN.to_owned());
            }
            if was_told {
                lines.push(format!("unknown: the connection is lost: {}", one_line(&reason)));
                lines.push(end_line(Standing::Unknown));
            }
            return lines;
        }
        if !self.state.is_synced {
            return lines;
        }
        let now_told = self.projects();
        if self.block.is_none() && self.told.as_ref() != Some(&now_told) {
            self.block = Some(Vec::new());
            lines.push(BEGIN.to_owned());
        }
        if let Some(block) = &mut self.block {
            for failure in now_told.iter().flat_map(|project| &project.failures) {
                if !block.contains(failure) {
                    block.push(failure.clone());
                    lines.push(failure.clone());
                }
            }
            if now_told.iter().all(|project| project.is_settled) {
                lines.extend(self.state_lines(now));
                lines.push(end_line(self.standing()));
                self.block = None;
            }
        }
        self.told = Some(now_told);
        lines
    }

    /// The state as it is: every failure, and a line for each project.
    pub(crate) fn lines(&self, now: Timestamp) -> Vec<String> {
        let projects = self.projects();
        let failures = projects.into_iter().flat_map(|project| project.failures);
        failures.chain(self.state_lines(now)).collect()
    }

    /// What is known.
    pub(crate) fn state(&self) -> &LiveState {
        &self.state
    }

    /// What the state says of all projects.
    pub(crate) fn standing(&self) -> Standing {
        let all: Vec<_> = self.state.projects.values().map(standing).collect();
        if all.contains(&Standing::Red) {
            return Standing::Red;
        }
        let is_known = !all.is_empty() && !all.contains(&Standing::Unknown);
        if is_known { Standing::Green } else { Standing::Unknown }
    }

    /// The answer comes a moment after the last target has ended.
    fn note_awaited(&mut self, event: &StreamEvent) {
        match event {
            StreamEvent::Project { project: root, state, .. } => {
                self.awaited.remove(root);
                let ended = self.state.projects.get(root).is_some_and(|project| {
                    let was_testing = project.activity.as_ref().map(|activity| activity.state);
                    let plan = project.plan.filter(|plan| plan.left == 0 && plan.done >= plan.run);
                    let is_answered =
                        project.verdict.as_ref().is_some_and(|verdict| verdict.verdict.is_some());
                    was_testing == Some(State::Testing) && plan.is_some() && !is_answered
                });
                if ended && *state == State::Idle {
                    self.awaited.insert(root.clone());
                }
            }
            StreamEvent::Verdict(verdict) => drop(self.awaited.remove(&verdict.of.project)),
            StreamEvent::Tree { project, .. } | StreamEvent::Gone { project } => {
                self.awaited.remove(project);
            }
            StreamEvent::Hello { .. } => self.awaited.clear(),
            _ => {}
        }
    }

    fn projects(&self) -> Vec<ToldProject> {
        let is_one = self.state.projects.len() == 1;
        let told = |(root, project): (&PathBuf, &LiveProject)| ToldProject {
            root: root.clone(),
            code_hash: project.code_hash,
            is_settled: is_settled(project) && !self.awaited.contains(root),
            failures: failures(root, project, is_one),
            verdict: project.verdict.clone(),
        };
        self.state.projects.iter().map(told).collect()
    }

    fn state_lines(&self, now: Timestamp) -> Vec<String> {
        let projects = self.state.projects.iter();
        projects
            .map(|(root, project)| format!("{}: {}", root.display(), state_text(project, now)))
            .collect()
    }
}

/// Whether nothing is under way that will tell more of this tree.
fn is_settled(project: &LiveProject) -> bool {
    let Some(activity) = &project.activity else { return false };
    match activity.state {
        State::Hashing | State::Building | State::Testing => false,
        State::Failed => project.build.is_some(),
        State::Missing => true,
        State::Idle | State::Paused => match project.code_hash {
            Some(_) => project.verdict.is_some(),
            None => activity.reason.is_some(),
        },
    }
}

/// Every failure, each with its place. `is_one`: paths are relative to the workspace.
fn failures(root: &Path, project: &LiveProject, is_one: bool) -> Vec<String> {
    let place = |place: &SourcePlace| {
        let file = Path::new(&place.file);
        let shown = match is_one {
            true => file.strip_prefix(root).unwrap_or(file).to_owned(),
            false => root.join(file),
        };
        format!(" --> {}:{}:{}", shown.display(), place.line, place.column.unwrap_or(1))
    };
    let nowhere = SourcePlace { file: "Cargo.toml".to_owned(), line: 1, column: None };
    let mut found = Vec::new();
    let build = project.build.as_ref().filter(|build| !build.success && build.ended.is_none());
    if let Some(build) = build {
        found.extend(compiler_errors(&build.errors).into_iter().map(|error| {
            let place = error.place.map(|place| format!("\n --> {place}")).unwrap_or_default();
            format!("{}{place}", error.title)
        }));
        if found.is_empty() {
            found.push(format!("error: the tests do not compile\n{}", place(&nowhere)));
        }
    }
    for (id, target) in &project.targets {
        let failed = |test: &&TestEntry| test.outcome == Outcome::Failed;
        for test in target.tests.values().filter(failed) {
            let message = test.message.as_deref().unwrap_or("no message");
            let at = test.panic.as_ref().or(test.place.as_ref()).unwrap_or(&nowhere);
            let message = one_line(message);
            found.push(format!("error: test {} failed: {message}\n{}", test.name, place(at)));
        }
        if let Some(message) = &target.event.message {
            let message = one_line(message);
            found.push(format!("error: {id} failed: {message}\n{}", place(&nowhere)));
        }
    }
    found
}

fn end_line(standing: Standing) -> String {
    let status = match standing {
        Standing::Green => 0,
        Standing::Red => 101,
        Standing::Unknown => 10,
    };
    format!("[Finished running. Exit status: {status}]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        BuildEvent, EventOf, STREAM_VERSION, Source, TargetEvent, TargetId, TestCounts, Verdict,
    };

    const NOW: Timestamp = Timestamp(600_000);

    fn of(tree: u8) -> EventOf {
        EventOf::sample(tree)
    }

    fn tree(tree: u8) -> StreamEvent {
        StreamEvent::Tree { project: "/p".into(), code_hash: Some(of(tree).code_hash) }
    }

    fn doing(state: State) -> StreamEvent {
        StreamEvent::Project { project: "/p".into(), state, reason: None, since: NOW }
    }

    fn verdict(tree: u8, verdict: Option<Verdict>) -> StreamEvent {
        let counts = TestCounts { passed: 3, ..TestCounts::default() };
        StreamEvent::Verdict(VerdictEvent {
            verdict,
            reason: verdict.is_none().then(|| "no record of it".to_owned()),
            source: verdict.map(|_| Source::Cache),
            when: verdict.map(|_| Timestamp(0)),
            counts,
            ..VerdictEvent::sample(of(tree), Verdict::Pass)
        })
    }

    /// A target that fails, by one test.
    fn red(tree: u8) -> [StreamEvent; 2] {
        let id = TargetId::sample("p");
        let counts = TestCounts { passed: 2, failed: 1, ..TestCounts::default() };
        let target = TargetEvent {
            when: NOW,
            counts,
            ..TargetEvent::sample(of(tree), id.clone(), Verdict::Fail)
        };
        let test = TestEntry {
            message: Some("assertion `left == right` failed\n  left: 1\n right: 2".into()),
            panic: Some(SourcePlace { file: "src/lib.rs".into(), line: 3, column: Some(5) }),
            ..TestEntry::sample("adds", Outcome::Failed)
        };
        let tests = vec![test];
        let (source, when) = (Source::Run, NOW);
        [StreamEvent::Target(target), StreamEvent::Tests { of: of(tree), id, source, when, tests }]
    }

    /// A report that has told of a green project.
    fn green() -> (LineReport, Vec<String>) {
        let mut report = LineReport::default();
        let hello =
            StreamEvent::Hello { version: STREAM_VERSION, tool: String::new(), daemon: true };
        let events = [
            hello,
            tree(0),
            doing(State::Idle),
            verdict(0, Some(Verdict::Pass)),
            StreamEvent::Synced,
        ];
        let lines = tell(&mut report, events);
        (report, lines)
    }

    fn tell(report: &mut LineReport, events: impl IntoIterator<Item = StreamEvent>) -> Vec<String> {
        events.into_iter().flat_map(|event| report.note(event, NOW)).collect()
    }

    #[test]
    fn a_green_project_is_one_line_between_two() {
        let (mut report, lines) = green();
        insta::assert_snapshot!(lines.join("\n"), @r"
        [Running 'cargo test']
        /p: green, 3 passed, 10m ago, cached
        [Finished running. Exit status: 0]
        ");
        assert_eq!(report.lines(NOW), [&*lines[1]]);
        assert_eq!(tell(&mut report, [verdict(0, Some(Verdict::Pass))]), [""; 0], "no news");
    }

    #[test]
    fn a_failure_is_told_once_and_at_once_and_looks_as_rustcs() {
        let (mut report, _) = green();
        let begun = tell(&mut report, [tree(1), doing(State::Building), verdict(1, None)]);
        assert_eq!(begun, [BEGIN]);
        let plan = StreamEvent::Plan { of: of(1), run: 1, left: 0, done: 0 };
        assert_eq!(tell(&mut report, [doing(State::Testing), plan]), [""; 0]);
        let told = tell(&mut report, red(1)).join("\n");
        insta::assert_snapshot!(told, @r"
        error: test adds failed: assertion `left == right` failed; left: 1; right: 2
         --> src/lib.rs:3:5
        ");
        insta::assert_snapshot!(tell(&mut report, [doing(State::Idle)]).join("\n"), @r"
        /p: red, 2 passed, 1 failed, just now, run
        [Finished running. Exit status: 101]
        ");
        assert_eq!(report.standing(), Standing::Red);
    }

    #[test]
    fn a_change_of_the_tree_voids_what_a_block_has_told() {
        let (mut report, _) = green();
        tell(&mut report, [tree(1), doing(State::Testing)]);
        tell(&mut report, red(1));
        let lines = tell(&mut report, [tree(2)]);
        assert_eq!(lines, ["[Finished running. Exit status: 10]", BEGIN]);
        let lines = tell(&mut report, [doing(State::Idle), verdict(2, None)]);
        let end = ["/p: unknown: no record of it", "[Finished running. Exit status: 10]"];
        assert_eq!(lines, end);
    }

    #[test]
    fn the_end_waits_for_the_answer_of_a_whole_run() {
        let (mut report, _) = green();
        let plan = StreamEvent::Plan { of: of(1), run: 0, left: 0, done: 0 };
        tell(&mut report, [tree(1), verdict(1, None), doing(State::Testing), plan]);
        assert_eq!(tell(&mut report, [doing(State::Idle)]), [""; 0]);
        let lines = tell(&mut report, [verdict(1, Some(Verdict::Pass))]);
        assert_eq!(lines.last().unwrap(), "[Finished running. Exit status: 0]");
    }

    #[test]
    fn errors_of_the_compiler_are_told_with_their_places() {
        let (mut report, _) = green();
        let errors = "error[E0425]: cannot find value `x`\n --> src/lib.rs:1:2\n  |\n\n\
                      error: could not compile `p` (lib test)\n";
        let build = StreamEvent::Build(BuildEvent {
            of: of(1),
            when: NOW,
            success: false,
            duration_ms: 1,
            errors: errors.into(),
            ended: None,
        });
        let lines = tell(&mut report, [tree(1), doing(State::Failed), build]).join("\n");
        insta::assert_snapshot!(lines, @r"
        [Running 'cargo test']
        error[E0425]: cannot find value `x`
         --> src/lib.rs:1:2
        error: could not compile `p` (lib test)
        /p: red, the tests do not compile
        [Finished running. Exit status: 101]
        ");
    }

    #[test]
    fn a_lost_connection_leaves_nothing_known_and_is_told_once() {
        let (mut report, _) = green();
        let lost = || StreamEvent::Disconnected { reason: "gone".into(), retry_ms: 1 };
        let lines = tell(&mut report, [lost(), lost()]).join("\n");
        insta::assert_snapshot!(lines, @r"
        [Running 'cargo test']
        unknown: the connection is lost: gone
        [Finished running. Exit status: 10]
        ");
        assert_eq!(report.standing(), Standing::Unknown);
    }
}
