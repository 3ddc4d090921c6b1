//! Paints the live view: one line of state for each project, the rows, the keys. A function of what
//! is to be seen, for any size of the screen.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier, Style};

use super::super::summary::{Standing, one_line, standing, state_text};
use super::rows::{RowLook, ScreenRow, name};
use super::wrap::wrapped;
use crate::model::Timestamp;
use crate::protocol::{LiveState, State};

/// The keys, from the most to the least important: where there is no room for all, the last ones
/// are missing.
const KEYS: [(&str, &str); 8] = [
    ("q", "quit"),
    ("r", "run"),
    ("f", "failed"),
    ("e", "explain"),
    ("o", "open"),
    ("p", "pause"),
    ("/", "filter"),
    ("t", "tests"),
];

/// The keys of a text over the rows.
const PANEL_KEYS: [(&str, &str); 3] = [("q", "back"), ("j k", "scroll"), ("g G", "ends")];

/// How the view may look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Palette {
    /// Whether there are colours; without them there are bold, faint and reversed letters.
    pub(super) has_color: bool,
}

impl Palette {
    fn style(self, look: RowLook) -> Style {
        let (color, modifier) = match look {
            RowLook::Bad => (Color::Red, Modifier::BOLD),
            RowLook::Good => (Color::Green, Modifier::empty()),
            RowLook::Busy => (Color::Yellow, Modifier::empty()),
            RowLook::Place => (Color::Cyan, Modifier::empty()),
            RowLook::Plain => return Style::new(),
            RowLook::Faint => return Style::new().add_modifier(Modifier::DIM),
        };
        let style = Style::new().add_modifier(modifier);
        if self.has_color { style.fg(color) } else { style }
    }
}

/// A text that is shown in place of the rows until it is closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TextPanel {
    title: String,
    text: Vec<String>,
    /// The text as it fits into so many columns.
    lines: Vec<String>,
    width: usize,
    /// The first line that is seen.
    top: usize,
}

impl TextPanel {
    pub(super) fn new(title: String, text: &str) -> Self {
        let text: Vec<_> = text.lines().map(str::to_owned).collect();
        Self { title, lines: text.clone(), text, width: usize::MAX, top: 0 }
    }

    /// Breaks lines that are longer than the screen is wide. Their rest is indented.
    pub(super) fn fit(&mut self, width: usize) {
        if std::mem::replace(&mut self.width, width) == width {
            return;
        }
        let pieces = |line: &String| {
            let indent = line.len() - line.trim_start().len() + 2;
            let indent = if indent * 2 < width { indent } else { 0 };
            let mut pieces = wrapped(line, width, width - indent);
            let later = pieces.iter_mut().skip(1);
            later.for_each(|piece| piece.insert_str(0, &" ".repeat(indent)));
            pieces
        };
        self.lines = self.text.iter().flat_map(pieces).collect();
        self.scroll(|at| at);
    }

    /// Shows another part of the text.
    pub(super) fn scroll(&mut self, to: impl Fn(usize) -> usize) {
        self.top = to(self.top).min(self.lines.len().saturating_sub(1));
    }
}

/// What is to be seen.
pub(super) struct PaintedBoard<'a> {
    pub(super) state: &'a LiveState,
    /// The rows that have room.
    pub(super) rows: &'a [ScreenRow],
    /// Which of them keys act on.
    pub(super) cursor: usize,
    pub(super) panel: Option<&'a TextPanel>,
    pub(super) note: Option<&'a str>,
    pub(super) filter: Option<&'a str>,
    pub(super) is_typing_filter: bool,
}

/// How many rows have room below the lines of so many projects.
pub(super) fn body_height(area: Rect, projects: usize) -> usize {
    let (heads, keys) = (head_height(area, projects), keys_height(area));
    usize::from(area.height).saturating_sub(heads + keys)
}

/// The projects' lines take at most a third.
fn head_height(area: Rect, projects: usize) -> usize {
    let height = usize::from(area.height);
    projects.max(1).min((height / 3).max(1)).min(height)
}

fn keys_height(area: Rect) -> usize {
    usize::from(area.height > 1)
}

impl PaintedBoard<'_> {
    /// Paints it all.
    pub(super) fn paint(&self, buffer: &mut Buffer, now: Timestamp, palette: Palette) {
        let area = buffer.area;
        buffer.reset();
        let mut lines = Lines { buffer, area };
        let heads = self.heads(head_height(area, self.state.projects.len()), now);
        let body = heads.len();
        for (at, (look, text)) in heads.iter().enumerate() {
            lines.line(at, text, palette.style(*look));
        }
        let page = body_height(area, self.state.projects.len());
        match self.panel {
            Some(panel) => {
                let title = palette.style(RowLook::Plain).add_modifier(Modifier::BOLD);
                lines.line(body, &panel.title, title);
                let seen = panel.lines.iter().skip(panel.top).take(page.saturating_sub(1));
                for (at, line) in seen.enumerate() {
                    lines.line(body + 1 + at, line, Style::new());
                }
            }
            None => {
                for (at, row) in self.rows.iter().enumerate() {
                    let mut style = palette.style(row.look);
                    if at == self.cursor {
                        style = style.add_modifier(Modifier::REVERSED);
                    }
                    lines.line(body + at, &row.text, style);
                }
            }
        }
        if keys_height(area) > 0 {
            let last = usize::from(area.height) - 1;
            lines.line(
                last,
                &self.last_line(usize::from(area.width)),
                palette.style(RowLook::Faint),
            );
        }
    }

    /// The lines of the projects. Those without room are counted.
    fn heads(&self, room: usize, now: Timestamp) -> Vec<(RowLook, String)> {
        if let Some(reason) = &self.state.lost {
            return vec![(RowLook::Busy, format!("not connected: {}", one_line(reason)))];
        }
        if self.state.projects.is_empty() {
            let text = match self.state.is_synced {
                true => "no project yet: `knhk-test-cache add` in one adds it",
                false => "connecting",
            };
            return vec![(RowLook::Faint, text.to_owned())];
        }
        let projects = self.state.projects.iter();
        let mut heads: Vec<_> = projects
            .map(|(root, project)| {
                let activity = project.activity.as_ref();
                let is_busy = activity.is_some_and(|activity| {
                    matches!(activity.state, State::Hashing | State::Building | State::Testing)
                });
                let (mark, look) = match standing(project) {
                    Standing::Red => ('✗', RowLook::Bad),
                    Standing::Green => ('✓', RowLook::Good),
                    Standing::Unknown if is_busy => ('…', RowLook::Busy),
                    Standing::Unknown => ('?', RowLook::Faint),
                };
                // A verdict and its pause, or its run, are both of interest.
                let doing = activity.filter(|activity| {
                    standing(project) != Standing::Unknown
                        && !matches!(activity.state, State::Idle | State::Failed)
                });
                let doing = doing.map(|activity| format!(" ({})", activity.state.as_str()));
                let text = state_text(project, now);
                (look, format!("{mark} {}  {text}{}", name(root), doing.unwrap_or_default()))
            })
            .collect();
        if heads.len() > room {
            let more = heads.split_off(room.saturating_sub(1));
            let red = more.iter().filter(|(look, _)| *look == RowLook::Bad).count();
            let look = if red > 0 { RowLook::Bad } else { RowLook::Faint };
            heads.push((look, format!("+{} projects, {red} of them red", more.len())));
        }
        heads
    }

    /// A note, the filter, or the keys.
    fn last_line(&self, width: usize) -> String {
        if let Some(note) = self.note {
            return note.to_owned();
        }
        if let Some(filter) = self.filter {
            let cursor = if self.is_typing_filter { "_" } else { "  (Esc: all)" };
            return format!("/{filter}{cursor}");
        }
        let all = if self.panel.is_some() { &PANEL_KEYS[..] } else { &KEYS };
        let shown = |separator: &str, keys: usize| {
            let keys = all[..keys].iter().map(|(key, word)| format!("{key} {word}"));
            keys.collect::<Vec<_>>().join(separator)
        };
        let wide = shown("  ", all.len());
        let texts = (1..=all.len()).rev().map(|keys| shown(" ", keys));
        let mut texts = std::iter::once(wide).chain(texts);
        texts.find(|text| text.len() <= width).unwrap_or_else(|| "q".to_owned())
    }
}

/// Lines of text on the screen.
struct Lines<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
}

impl Lines<'_> {
    /// A line, cut where the screen ends.
    fn line(&mut self, at: usize, text: &str, style: Style) {
        let Ok(y) = u16::try_from(at) else { return };
        if y >= self.area.height || self.area.width == 0 {
            return;
        }
        let (x, y) = (self.area.x, self.area.y + y);
        self.buffer.set_stringn(x, y, text, usize::from(self.area.width), style);
    }
}
