//! The files that the editor holds open, with their text as it is on the screen.

use std::fs;
use std::path::{Path, PathBuf};

use lsp_types::{TextDocumentContentChangeEvent, Uri};

use super::text::ColumnUnit;
use crate::model::Digest;
use crate::workspace::PathStamp;

/// An open file.
#[derive(Clone, Debug)]
pub(super) struct OpenFile {
    /// Its name in the editor.
    pub(super) uri: Uri,
    /// Where it is on disk, without links.
    pub(super) path: PathBuf,
    /// The text on the screen.
    pub(super) text: String,
    /// The digest of that text.
    pub(super) content: Digest,
}

impl OpenFile {
    /// A file that was opened with this text.
    pub(super) fn new(uri: Uri, path: PathBuf, text: String) -> Self {
        let content = digest(&path, &text);
        Self { uri, path, text, content }
    }

    /// Changes the text as the user has.
    pub(super) fn change(
        &mut self,
        changes: Vec<TextDocumentContentChangeEvent>,
        unit: ColumnUnit,
    ) {
        for change in changes {
            match change.range {
                None => self.text = change.text,
                Some(range) => {
                    let start = unit.offset(&self.text, range.start);
                    let end = unit.offset(&self.text, range.end).max(start);
                    self.text.replace_range(start..end, &change.text);
                }
            }
        }
        self.content = digest(&self.path, &self.text);
    }
}

/// A file on disk at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileOnDisk {
    stamp: PathStamp,
    /// None if it cannot be read as text.
    pub(super) content: Option<Digest>,
}

impl FileOnDisk {
    /// Looks at a file.
    pub(super) fn look(path: &Path) -> Self {
        let stamp = PathStamp::of(path);
        let text = fs::read_to_string(path).ok();
        Self { stamp, content: text.map(|text| digest(path, &text)) }
    }
}

/// The digest of a text as the compiler reads it: editors take away byte order marks, and ends of
/// lines count in Rust as one character.
fn digest(path: &Path, text: &str) -> Digest {
    let text = text.trim_start_matches('\u{feff}');
    let is_rust = path.extension().is_some_and(|extension| extension == "rs");
    if is_rust && text.contains('\r') {
        return Digest::of(text.replace("\r\n", "\n").as_bytes());
    }
    Digest::of(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lsp_types::{Position, Range};

    fn open(text: &str) -> OpenFile {
        OpenFile::new("file:///a.rs".parse().unwrap(), "/a.rs".into(), text.to_owned())
    }

    fn edit(from: (u32, u32), to: (u32, u32), text: &str) -> TextDocumentContentChangeEvent {
        let range = Range::new(Position::new(from.0, from.1), Position::new(to.0, to.1));
        TextDocumentContentChangeEvent {
            range: Some(range),
            range_length: None,
            text: text.to_owned(),
        }
    }

    #[test]
    fn an_edit_and_its_undoing_give_the_same_content() {
        let mut file = open("fn a() {}\nfn b() {}\n");
        let before = file.content;
        file.change(vec![edit((0, 3), (0, 4), "äh"), edit((1, 0), (2, 0), "")], ColumnUnit::Utf16);
        assert_eq!(file.text, "fn äh() {}\n");
        assert_ne!(file.content, before);
        file.change(vec![edit((1, 0), (1, 0), "fn b() {}\n")], ColumnUnit::Utf16);
        file.change(vec![edit((0, 3), (0, 5), "a")], ColumnUnit::Utf16);
        assert_eq!((file.text.as_str(), file.content), ("fn a() {}\nfn b() {}\n", before));
    }

    #[test]
    fn a_range_that_makes_no_sense_does_no_harm() {
        let mut file = open("ab\n");
        file.change(vec![edit((0, 2), (0, 1), "x"), edit((9, 9), (7, 0), "y")], ColumnUnit::Utf8);
        assert_eq!(file.text, "abx\ny");
    }

    #[test]
    fn what_editors_change_by_themselves_is_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.rs");
        fs::write(&path, "\u{feff}fn a() {}\r\n").unwrap();
        let file = OpenFile::new("file:///a".parse().unwrap(), path.clone(), "fn a() {}\n".into());
        assert_eq!(FileOnDisk::look(&path).content, Some(file.content));
        fs::write(&path, b"\xff").unwrap();
        assert_eq!(FileOnDisk::look(&path).content, None);
        let text = dir.path().join("a.txt");
        fs::write(&text, "a\r\n").unwrap();
        assert_ne!(FileOnDisk::look(&text).content, Some(digest(&text, "a\n")));
    }
}
