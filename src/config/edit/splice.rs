//! One entry more or less in the text of a config, and no other byte changed.

use std::ops::Range;

use toml_edit::{Document, Item};

/// The byte order mark, which some editors put before the text.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The text with a project at its end. `path` is a TOML string.
///
/// There is always one blank line before the entry, and the file goes on ending as it did, with a
/// line break or without one. So [`cut`] can give back the very same bytes.
pub(super) fn append(text: &str, path: &str) -> String {
    let line_end = match text.find('\n') {
        Some(at) if text[..at].ends_with('\r') => "\r\n",
        _ => "\n",
    };
    let mut new = text.to_owned();
    let empty = text.trim_start_matches(BYTE_ORDER_MARK).is_empty();
    let terminated = empty || text.ends_with('\n');
    if !terminated {
        new.push_str(line_end);
    }
    if !empty {
        new.push_str(line_end);
    }
    new.push_str("[[project]]");
    new.push_str(line_end);
    new.push_str("path = ");
    new.push_str(path);
    if terminated {
        new.push_str(line_end);
    }
    new
}

/// The text without an entry: its lines from the header to its last value, and one blank line
/// before them. Comments above and below the entry stay.
pub(super) fn cut(text: &str, header: &Range<usize>, end: usize) -> String {
    // A byte order mark belongs to the file.
    let first = if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len_utf8() } else { 0 };
    let line_start = |at: usize| text[first..at].rfind('\n').map_or(first, |at| first + at + 1);
    let mut start = line_start(header.start);
    let (end, terminated) = match text[end..].find('\n') {
        Some(at) => (end + at + 1, true),
        None => (text.len(), false),
    };
    if start > first {
        let previous = line_start(start - 1);
        if text[previous..start].trim_end_matches(['\r', '\n']).is_empty() {
            start = previous;
        }
    }
    let mut head = &text[..start];
    if !terminated && let Some(rest) = head.strip_suffix('\n') {
        head = rest.strip_suffix('\r').unwrap_or(rest);
    }
    format!("{head}{}", &text[end..])
}

/// Where the projects start if they are written as `project = [...]`. The text is valid TOML.
pub(super) fn inline(text: &str) -> Option<usize> {
    let document = Document::parse(text).ok()?;
    match document.get_key_value("project")? {
        (key, Item::Value(_)) => Some(key.span().map_or(0, |span| span.start)),
        _ => None,
    }
}

/// The line of a byte, from 1.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}
