//! The rows below the projects' lines: failures first, then what runs, then what is known and why.
//!
//! The tests of a target can be 100,000: their rows are counted, and made only when they are seen.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::super::summary::{
    compiler_errors, counts_text, has_failed_build, one_line, source_text,
};
use super::wrap::wrapped;
use crate::model::{Outcome, SourcePlace, TargetId, TestEntry, Timestamp, Verdict};
use crate::protocol::{LiveProject, LiveState, LiveTarget};

/// At most so many lines of one failure are shown.
const FAILURE_LINES: usize = 60;

/// What a row is about: a key acts on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RowSubject {
    pub(super) project: PathBuf,
    pub(super) target: Option<TargetId>,
    pub(super) test: Option<String>,
    pub(super) place: Option<SourcePlace>,
}

/// How a row looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowLook {
    Bad,
    Good,
    Busy,
    Place,
    Plain,
    Faint,
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ScreenRow {
    pub(super) text: String,
    pub(super) look: RowLook,
    pub(super) subject: Rc<RowSubject>,
}

/// What decides the rows besides the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RowOptions {
    /// Columns.
    pub(super) width: usize,
    /// Only rows with this text, in any case.
    pub(super) filter: String,
    /// Each test has a row below its target.
    pub(super) shows_tests: bool,
}

/// All rows of a state.
#[derive(Debug, Default)]
pub(super) struct RowList {
    blocks: Vec<RowBlock>,
    len: usize,
}

#[derive(Debug)]
enum RowBlock {
    Row(ScreenRow),
    /// So many tests of a target.
    Tests {
        project: PathBuf,
        target: TargetId,
        count: usize,
    },
}

impl RowOptions {
    fn matches(&self, text: &str) -> bool {
        let (wanted, text) = (self.filter.as_bytes(), text.as_bytes());
        wanted.is_empty() || text.windows(wanted.len()).any(|it| it.eq_ignore_ascii_case(wanted))
    }

    /// Whether a target's tests have rows. A filter looks for them too.
    fn lists_tests(&self) -> bool {
        self.shows_tests || !self.filter.is_empty()
    }

    /// The tests of a target that have rows.
    fn tests<'a>(&'a self, target: &'a LiveTarget) -> impl Iterator<Item = &'a TestEntry> {
        target.tests.values().filter(|test| self.matches(&test.name))
    }
}

impl RowList {
    /// The rows of a state.
    pub(super) fn of(state: &LiveState, options: &RowOptions, now: Timestamp) -> Self {
        let mut list = Self::default();
        let projects = || {
            state.projects.iter().map(|(root, project)| {
                let is_one = state.projects.len() == 1;
                let prefix = if is_one { String::new() } else { format!("{}: ", name(root)) };
                ProjectRows { root, project, prefix, options, now }
            })
        };
        for project in projects() {
            project.failures(&mut list);
        }
        for project in projects() {
            project.running(&mut list);
        }
        for project in projects() {
            project.targets(&mut list);
        }
        list
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Some of the rows. `state` and `options` are those that the list was made of.
    pub(super) fn get(
        &self,
        state: &LiveState,
        options: &RowOptions,
        wanted: Range<usize>,
    ) -> Vec<ScreenRow> {
        let mut rows = Vec::new();
        let mut at = 0;
        for block in &self.blocks {
            if at >= wanted.end {
                break;
            }
            match block {
                RowBlock::Row(row) if at >= wanted.start => rows.push(row.clone()),
                RowBlock::Row(_) => {}
                RowBlock::Tests { count, .. } if at + count <= wanted.start => {}
                RowBlock::Tests { project, target, .. } => {
                    let known = state.projects.get(project);
                    let tests = known.and_then(|known| known.targets.get(target));
                    let skipped = wanted.start.saturating_sub(at);
                    let seen = wanted.end - at - skipped;
                    let tests = tests.into_iter().flat_map(|known| options.tests(known));
                    let tests = tests.skip(skipped).take(seen);
                    rows.extend(tests.map(|test| test_row(project, target, test)));
                }
            }
            at += block.len();
        }
        rows
    }

    fn push(&mut self, block: RowBlock) {
        self.len += block.len();
        self.blocks.push(block);
    }

    fn row(&mut self, look: RowLook, text: String, subject: &Rc<RowSubject>) {
        self.push(RowBlock::Row(ScreenRow { text, look, subject: Rc::clone(subject) }));
    }
}

impl RowBlock {
    fn len(&self) -> usize {
        match self {
            Self::Row(_) => 1,
            Self::Tests { count, .. } => *count,
        }
    }
}

/// A project whose rows are made.
struct ProjectRows<'a> {
    root: &'a Path,
    project: &'a LiveProject,
    /// Its name, where there are others.
    prefix: String,
    options: &'a RowOptions,
    now: Timestamp,
}

impl ProjectRows<'_> {
    fn subject(&self, target: Option<&TargetId>) -> RowSubject {
        let (project, target) = (self.root.to_owned(), target.cloned());
        RowSubject { project, target, test: None, place: None }
    }

    fn failures(&self, list: &mut RowList) {
        let build = self.project.build.as_ref().filter(|_| has_failed_build(self.project));
        if let Some(build) = build {
            let mut errors = compiler_errors(&build.errors);
            // What is left to say of an error that has been shown.
            errors.retain(|error| {
                error.place.is_some() || !error.title.contains("could not compile")
            });
            if errors.is_empty() {
                let subject = self.subject(None);
                self.failure(list, subject, "the tests do not compile", &build.errors);
            }
            for error in errors {
                let place = error.place.as_deref().and_then(compiler_place);
                let subject = RowSubject { place, ..self.subject(None) };
                self.failure(list, subject, &error.title, &error.lines.join("\n"));
            }
        }
        for (id, target) in &self.project.targets {
            if target.event.verdict == Verdict::Pass {
                continue;
            }
            for test in target.tests.values().filter(|test| test.outcome == Outcome::Failed) {
                let place = test.panic.as_ref().or(test.place.as_ref()).cloned();
                let name = Some(test.name.clone());
                let subject = RowSubject { test: name, place, ..self.subject(Some(id)) };
                let title = format!("{} ({id})", test.name);
                let message = test.message.as_deref().unwrap_or("it gave no message");
                self.failure(list, subject, &title, message);
            }
            if let Some(message) = &target.event.message {
                self.failure(list, self.subject(Some(id)), &format!("{id} failed"), message);
            }
        }
    }

    fn failure(&self, list: &mut RowList, subject: RowSubject, title: &str, message: &str) {
        if ![title, message].iter().any(|text| self.options.matches(text)) {
            return;
        }
        let subject = Rc::new(subject);
        let prefix = &self.prefix;
        let (width, indented) = (self.options.width, self.options.width.saturating_sub(2));
        let title = wrapped(&format!("✗ {prefix}{title}"), width, indented);
        for (index, line) in title.into_iter().enumerate() {
            let indent = if index == 0 { "" } else { "  " };
            list.row(RowLook::Bad, format!("{indent}{line}"), &subject);
        }
        if let Some(place) = &subject.place {
            let column = place.column.map(|column| format!(":{column}")).unwrap_or_default();
            let text = format!("  {}:{}{column}", place.file, place.line);
            list.row(RowLook::Place, text, &subject);
        }
        let message = anstream::adapter::strip_str(message).to_string();
        let mut lines = message.lines().flat_map(|line| wrapped(line, indented, indented));
        for line in lines.by_ref().take(FAILURE_LINES) {
            list.row(RowLook::Plain, format!("  {line}"), &subject);
        }
        if lines.next().is_some() {
            list.row(RowLook::Faint, "  …".to_owned(), &subject);
        }
    }

    fn running(&self, list: &mut RowList) {
        let Self { prefix, options, .. } = self;
        for (id, since) in &self.project.running {
            let seconds = since.age(self.now).unwrap_or_default().as_secs();
            let text = format!("▶ {prefix}{id}  {seconds}s");
            if options.matches(&text) {
                list.row(RowLook::Busy, text, &Rc::new(self.subject(Some(id))));
            }
        }
        if let Some(plan) = self.project.plan.filter(|_| options.filter.is_empty()) {
            let still = plan.run.saturating_sub(plan.done);
            let left = match plan.left {
                0 => String::new(),
                left => format!(", {left} wait until you ask"),
            };
            let text = format!("  {prefix}{still} of {} targets left{left}", plan.run);
            list.row(RowLook::Faint, text, &Rc::new(self.subject(None)));
        }
    }

    fn targets(&self, list: &mut RowList) {
        let Self { prefix, options, .. } = self;
        for (id, target) in &self.project.targets {
            let event = &target.event;
            let is_green = event.verdict == Verdict::Pass;
            let mark = if is_green { '✓' } else { '✗' };
            let counts = counts_text(event.counts);
            let (when, source) = (event.when.ago(self.now), source_text(event.source));
            let why = one_line(&event.reason);
            let text = format!("{mark} {prefix}{id}  {counts}, {when}, {source}: {why}");
            let tests = if options.lists_tests() { options.tests(target).count() } else { 0 };
            if tests == 0 && !options.matches(&text) {
                continue;
            }
            let look = if is_green { RowLook::Good } else { RowLook::Bad };
            list.row(look, text, &Rc::new(self.subject(Some(id))));
            if tests > 0 {
                let (project, target) = (self.root.to_owned(), id.clone());
                list.push(RowBlock::Tests { project, target, count: tests });
            }
        }
    }
}

fn test_row(project: &Path, target: &TargetId, test: &TestEntry) -> ScreenRow {
    let (mark, look) = match test.outcome {
        Outcome::Ok => ('✓', RowLook::Good),
        Outcome::Failed => ('✗', RowLook::Bad),
        Outcome::Ignored => ('–', RowLook::Faint),
    };
    let place = test.panic.as_ref().or(test.place.as_ref()).cloned();
    let subject = RowSubject {
        project: project.to_owned(),
        target: Some(target.clone()),
        test: Some(test.name.clone()),
        place,
    };
    ScreenRow { text: format!("  {mark} {}", test.name), look, subject: Rc::new(subject) }
}

/// The last part of a workspace's path.
pub(super) fn name(root: &Path) -> String {
    root.file_name().unwrap_or(root.as_os_str()).to_string_lossy().into_owned()
}

/// `src/lib.rs:1:2` as a place.
fn compiler_place(text: &str) -> Option<SourcePlace> {
    let mut parts = text.rsplitn(3, ':');
    let (column, line) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(SourcePlace { file: parts.next()?.to_owned(), line, column: Some(column) })
}
