//! What the live view knows and shows, and what its keys do. It reads no terminal and starts nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ratatui_core::buffer::Buffer;

use super::keys::PressedKey;
use super::paint::{PaintedBoard, Palette, TextPanel, body_height};
use super::rows::{RowList, RowOptions, RowSubject, ScreenRow, name};
use crate::model::{Outcome, StreamEvent, TargetId, Timestamp};
use crate::protocol::{LiveState, State};

/// What a key asks for that the board cannot do itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyWish {
    Quit,
    Interrupt,
    Suspend,
    /// Paint everything anew.
    Repaint,
    /// Run what is not known to be green.
    Run {
        project: PathBuf,
    },
    /// Run the tests that failed last.
    RunFailed {
        project: PathBuf,
        tests: FailedTests,
    },
    /// Say why a target is cached or not.
    Explain {
        project: PathBuf,
        target: Option<TargetId>,
    },
    /// Open the source in the user's editor.
    Edit(RowSubject),
    /// Pause background work, or go on with it.
    Pause {
        project: PathBuf,
    },
}

/// The names of failed tests by their target.
pub(super) type FailedTests = BTreeMap<TargetId, BTreeSet<String>>;

/// The live view.
#[derive(Debug, Default)]
pub(super) struct Board {
    state: LiveState,
    options: RowOptions,
    /// The rows as they were painted last.
    rows: RowList,
    /// Something has changed since.
    are_rows_stale: bool,
    /// The row that keys act on, and the first that is seen.
    cursor: usize,
    top: usize,
    /// Rows on the screen, when it was painted last.
    page: usize,
    is_typing_filter: bool,
    note: Option<String>,
    panel: Option<TextPanel>,
    /// The failed tests of each project, also after its tree has changed.
    failed: BTreeMap<PathBuf, FailedTests>,
}

impl Board {
    /// Takes note of an event.
    pub(super) fn apply(&mut self, event: StreamEvent) {
        self.note_failed(&event);
        self.state.apply(event);
        self.are_rows_stale = true;
    }

    /// What is known.
    pub(super) fn state(&self) -> &LiveState {
        &self.state
    }

    /// The time has changed: so have ages.
    pub(super) fn tick(&mut self) {
        self.are_rows_stale = true;
    }

    /// Whether something is under way whose time is shown in seconds.
    pub(super) fn is_busy(&self) -> bool {
        self.state.projects.values().any(|project| {
            let state = project.activity.as_ref().map(|activity| activity.state);
            !project.running.is_empty() || state == Some(State::Testing)
        })
    }

    /// Shows a line in place of the keys until the next key.
    pub(super) fn note(&mut self, text: String) {
        self.note = Some(text);
    }

    /// Shows a text in place of the rows.
    pub(super) fn open_panel(&mut self, title: String, text: &str) {
        let text = anstream::adapter::strip_str(text).to_string();
        self.panel = Some(TextPanel::new(title, &text));
        self.note = None;
    }

    /// Paints the whole screen.
    pub(super) fn paint(&mut self, buffer: &mut Buffer, now: Timestamp, palette: Palette) {
        let area = buffer.area;
        let width = usize::from(area.width);
        if std::mem::replace(&mut self.options.width, width) != width {
            self.are_rows_stale = true;
        }
        self.panel.iter_mut().for_each(|panel| panel.fit(width));
        self.page = body_height(area, self.state.projects.len());
        if std::mem::take(&mut self.are_rows_stale) {
            self.rows = RowList::of(&self.state, &self.options, now);
        }
        self.cursor = self.cursor.min(self.rows.len().saturating_sub(1));
        self.top =
            self.top.min(self.cursor).max((self.cursor + 1).saturating_sub(self.page.max(1)));
        let seen = self.top..self.top + self.page;
        let rows = self.rows.get(&self.state, &self.options, seen);
        let filter = (self.is_typing_filter || !self.options.filter.is_empty())
            .then_some(self.options.filter.as_str());
        let board = PaintedBoard {
            state: &self.state,
            rows: &rows,
            cursor: self.cursor - self.top,
            panel: self.panel.as_ref(),
            note: self.note.as_deref(),
            filter,
            is_typing_filter: self.is_typing_filter,
        };
        board.paint(buffer, now, palette);
    }

    /// Does what a key says; what is left to do.
    pub(super) fn key(&mut self, key: PressedKey) -> Option<KeyWish> {
        self.note = None;
        match key {
            PressedKey::Ctrl('c') => return Some(KeyWish::Interrupt),
            PressedKey::Ctrl('z') => return Some(KeyWish::Suspend),
            PressedKey::Ctrl('l') => return Some(KeyWish::Repaint),
            _ => {}
        }
        if self.is_typing_filter {
            self.type_filter(key);
            return None;
        }
        let page = self.page.max(1);
        match key {
            PressedKey::Up | PressedKey::Char('k') => self.scroll(|at| at.saturating_sub(1)),
            PressedKey::Down | PressedKey::Char('j') => self.scroll(|at| at.saturating_add(1)),
            PressedKey::PageUp => self.scroll(|at| at.saturating_sub(page)),
            PressedKey::PageDown | PressedKey::Char(' ') => {
                self.scroll(|at| at.saturating_add(page));
            }
            PressedKey::Home | PressedKey::Char('g') => self.scroll(|_| 0),
            PressedKey::End | PressedKey::Char('G') => self.scroll(|_| usize::MAX),
            PressedKey::Escape | PressedKey::Char('q') if self.panel.is_some() => self.panel = None,
            PressedKey::Char('q') => return Some(KeyWish::Quit),
            PressedKey::Escape => self.set_filter(String::new()),
            PressedKey::Char('/') => self.is_typing_filter = true,
            PressedKey::Char('t') => {
                self.options.shows_tests = !self.options.shows_tests;
                self.are_rows_stale = true;
            }
            PressedKey::Char('r' | 'f' | 'e' | 'o' | 'p') | PressedKey::Enter => {
                return self.act(key);
            }
            _ => {}
        }
        None
    }

    fn scroll(&mut self, to: impl Fn(usize) -> usize) {
        match &mut self.panel {
            Some(panel) => panel.scroll(to),
            None => self.cursor = to(self.cursor).min(self.rows.len().saturating_sub(1)),
        }
    }

    fn type_filter(&mut self, key: PressedKey) {
        let mut filter = self.options.filter.clone();
        match key {
            PressedKey::Char(char) => filter.push(char),
            PressedKey::Backspace => drop(filter.pop()),
            PressedKey::Enter => return self.is_typing_filter = false,
            PressedKey::Escape => {
                self.is_typing_filter = false;
                filter.clear();
            }
            _ => return,
        }
        self.set_filter(filter);
    }

    fn set_filter(&mut self, filter: String) {
        self.options.filter = filter;
        (self.cursor, self.are_rows_stale) = (0, true);
    }

    /// A key that is about the row at the cursor.
    fn act(&mut self, key: PressedKey) -> Option<KeyWish> {
        let subject = self.subject()?;
        let (project, target) = (subject.project.clone(), subject.target.clone());
        let name = name(&project);
        match key {
            PressedKey::Char('r') => {
                self.note(format!("running what is not known to be green in {name}"));
                Some(KeyWish::Run { project })
            }
            PressedKey::Char('f') => {
                let tests = self.failed.get(&project).filter(|tests| !tests.is_empty()).cloned();
                let Some(tests) = tests else {
                    self.note(format!("no test of {name} has failed"));
                    return None;
                };
                let count = tests.values().map(BTreeSet::len).sum::<usize>();
                self.note(format!("running the {count} tests of {name} that failed last"));
                Some(KeyWish::RunFailed { project, tests })
            }
            PressedKey::Char('e') => {
                self.note("looking for the reasons".to_owned());
                Some(KeyWish::Explain { project, target })
            }
            PressedKey::Char('p') => Some(KeyWish::Pause { project }),
            _ => Some(KeyWish::Edit((*subject).clone())),
        }
    }

    /// What the row at the cursor is about; without rows, the first project.
    fn subject(&self) -> Option<Rc<RowSubject>> {
        let at = self.cursor..self.cursor + 1;
        match self.rows.get(&self.state, &self.options, at).pop() {
            Some(ScreenRow { subject, .. }) => Some(subject),
            None => {
                let project = self.state.projects.keys().next()?.clone();
                Some(Rc::new(RowSubject { project, ..RowSubject::default() }))
            }
        }
    }

    fn note_failed(&mut self, event: &StreamEvent) {
        match event {
            StreamEvent::Gone { project } => drop(self.failed.remove(project)),
            StreamEvent::Target(target) if target.counts.failed == 0 => {
                if let Some(failed) = self.failed.get_mut(&target.of.project) {
                    failed.remove(&target.id);
                }
            }
            StreamEvent::Tests { of, id, tests, .. } => {
                let failed = tests.iter().filter(|test| test.outcome == Outcome::Failed);
                let mut failed = failed.map(|test| test.name.clone()).peekable();
                if failed.peek().is_some() {
                    let project = self.failed.entry(of.project.clone()).or_default();
                    project.entry(id.clone()).or_default().extend(failed);
                }
                let of_target = self.failed.get_mut(&of.project).and_then(|it| it.get_mut(id));
                if let Some(names) = of_target {
                    let passed = tests.iter().filter(|test| test.outcome == Outcome::Ok);
                    let passed: BTreeSet<_> = passed.map(|test| &test.name).collect();
                    names.retain(|name| !passed.contains(name));
                }
            }
            _ => {}
        }
    }
}

/// The folder of the files that a failure names.
pub(super) fn source_file(subject: &RowSubject, file: &str) -> PathBuf {
    subject.project.join(Path::new(file))
}
