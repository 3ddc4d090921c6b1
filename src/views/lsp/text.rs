//! Positions in a text and paths as URIs, as the language server protocol writes them.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use lsp_types::{Position, PositionEncodingKind, Range, Uri};

/// The unit in which columns are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ColumnUnit {
    /// Bytes.
    Utf8,
    /// Two-byte units, which every client knows.
    #[default]
    Utf16,
}

impl ColumnUnit {
    /// The unit for a client that offers these.
    pub(super) fn choose(offered: Option<&[PositionEncodingKind]>) -> Self {
        let knows_bytes = offered.is_some_and(|all| all.contains(&PositionEncodingKind::UTF8));
        if knows_bytes { Self::Utf8 } else { Self::Utf16 }
    }

    /// Its name in the protocol.
    pub(super) fn kind(self) -> PositionEncodingKind {
        match self {
            Self::Utf8 => PositionEncodingKind::UTF8,
            Self::Utf16 => PositionEncodingKind::UTF16,
        }
    }

    fn length(self, text: &str) -> u32 {
        let length = match self {
            Self::Utf8 => text.len(),
            Self::Utf16 => text.encode_utf16().count(),
        };
        u32::try_from(length).unwrap_or(u32::MAX)
    }

    /// The byte at a position. Beyond the end of a line is its end, inside a character its start.
    pub(super) fn offset(self, text: &str, position: Position) -> usize {
        let mut start = 0;
        for _ in 0..position.line {
            match text[start..].find('\n') {
                Some(end) => start += end + 1,
                None => return text.len(),
            }
        }
        let line = line_at(text, start);
        let mut column = 0;
        for (at, character) in line.char_indices() {
            column += self.length(&line[at..at + character.len_utf8()]);
            if column > position.character {
                return start + at;
            }
        }
        start + line.len()
    }

    /// The part of a line from a column, counted in characters from 1, or from its first
    /// character that is no space, to its end. The line is counted from 1.
    pub(super) fn rest_of_line(self, text: &str, line: usize, column: Option<usize>) -> Range {
        let content = text.split('\n').nth(line.saturating_sub(1)).unwrap_or_default();
        let content = content.trim_end();
        let indent = || content.len() - content.trim_start().len();
        let start = match column {
            Some(column) => content.char_indices().nth(column.saturating_sub(1)).map(|(at, _)| at),
            None => None,
        };
        let start = self.length(&content[..start.unwrap_or_else(indent)]);
        let line = u32::try_from(line.saturating_sub(1)).unwrap_or(u32::MAX);
        Range::new(Position::new(line, start), Position::new(line, self.length(content)))
    }
}

/// The line that begins at a byte, without its end.
fn line_at(text: &str, start: usize) -> &str {
    let rest = &text[start..];
    let line = rest.find('\n').map_or(rest, |end| &rest[..end]);
    line.strip_suffix('\r').unwrap_or(line)
}

/// The path of a file's URI; none of another kind of URI.
pub(super) fn path_of(uri: &Uri) -> Option<PathBuf> {
    let rest = uri.as_str().strip_prefix("file://")?;
    let rest = rest.strip_prefix("localhost").unwrap_or(rest);
    if !rest.starts_with('/') {
        return None;
    }
    let mut bytes = Vec::new();
    let mut left = rest.as_bytes();
    while let [first, tail @ ..] = left {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).ok()?;
                Some(u8::from_str_radix(digits, 16).ok()?)
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        left = if escaped.is_some() { &tail[2..] } else { tail };
    }
    Some(PathBuf::from(OsString::from_vec(bytes)))
}

/// The URI of an absolute path.
pub(super) fn uri_of(path: &Path) -> Option<Uri> {
    let mut uri = "file://".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                uri.push(char::from(*byte));
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn columns_are_counted_in_the_units_of_the_client() {
        let text = "a\nx = \"𝄞é\";\r\nlast";
        let at = |unit: ColumnUnit, line, column| unit.offset(text, Position::new(line, column));
        assert_eq!(at(ColumnUnit::Utf16, 1, 5), 7);
        assert_eq!(at(ColumnUnit::Utf16, 1, 7), 11, "after the clef");
        assert_eq!(at(ColumnUnit::Utf16, 1, 6), 7, "inside the clef");
        assert_eq!(at(ColumnUnit::Utf8, 1, 9), 11);
        assert_eq!(at(ColumnUnit::Utf8, 1, 99), 15, "beyond the line, before its end");
        assert_eq!(at(ColumnUnit::Utf8, 9, 0), text.len());
        let rest = ColumnUnit::Utf16.rest_of_line(text, 2, Some(7));
        assert_eq!(rest, Range::new(Position::new(1, 7), Position::new(1, 10)));
        let rest = ColumnUnit::Utf8.rest_of_line("\n  fn a() {}\n", 2, None);
        assert_eq!(rest, Range::new(Position::new(1, 2), Position::new(1, 11)));
        assert_eq!(ColumnUnit::Utf8.rest_of_line("x", 7, Some(3)).start, Position::new(6, 0));
    }

    #[test]
    fn bytes_are_counted_where_the_client_can() {
        use PositionEncodingKind as Kind;
        assert_eq!(ColumnUnit::choose(None), ColumnUnit::Utf16);
        assert_eq!(ColumnUnit::choose(Some(&[Kind::UTF16])), ColumnUnit::Utf16);
        assert_eq!(ColumnUnit::choose(Some(&[Kind::UTF16, Kind::UTF8])), ColumnUnit::Utf8);
    }

    #[test]
    fn only_files_have_paths() {
        let path = |uri: &str| path_of(&uri.parse().unwrap());
        assert_eq!(path("file:///a%20b/c.rs"), Some("/a b/c.rs".into()));
        assert_eq!(path("file://localhost/a"), Some("/a".into()));
        assert_eq!(path("file://server/a"), None);
        assert_eq!(path("untitled:Untitled-1"), None);
    }

    proptest! {
        #[test]
        fn a_path_comes_back_from_its_uri(bytes in prop::collection::vec(1u8..=255, 0..40)) {
            let path = Path::new("/").join(OsString::from_vec(bytes));
            prop_assert_eq!(path_of(&uri_of(&path).unwrap()), Some(path));
        }

        #[test]
        fn an_offset_is_the_start_of_a_character(
            text in "[a-z𝄞é\r\n]{0,20}", line in 0u32..5, column in 0u32..9, bytes in any::<bool>(),
        ) {
            let unit = if bytes { ColumnUnit::Utf8 } else { ColumnUnit::Utf16 };
            let offset = unit.offset(&text, Position::new(line, column));
            prop_assert!(text.is_char_boundary(offset));
        }
    }
}
