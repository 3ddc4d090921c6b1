//! Reading one TOML file, with the position in every complaint.

use std::io;
use std::path::{Path, PathBuf};

/// Why a TOML file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TomlError {
    /// The file is there but cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
}

/// The file's table; `None` if there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<toml::Table>, TomlError> {
    match read_bytes(path)? {
        Some(bytes) => parse(path, &bytes).map(Some),
        None => Ok(None),
    }
}

/// The file's bytes; `None` if there is no such file.
pub(super) fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>, TomlError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(source) => Err(TomlError::Unreadable { path: path.to_owned(), source }),
    }
}

/// Parses bytes that came from `path`.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<toml::Table, TomlError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
        at(path, &before, before.len(), "not UTF-8")
    })?;
    // A byte order mark is allowed in front of a manifest, as cargo allows it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.parse::<toml::Table>()
        .map_err(|error| at(path, text, error.span().map_or(0, |span| span.start), error.message()))
}

fn at(path: &Path, text: &str, offset: usize, message: &str) -> TomlError {
    let before = text.get(..offset).unwrap_or(text);
    let last = before.rsplit('\n').next().unwrap_or_default();
    TomlError::Parse {
        path: path.to_owned(),
        line: before.matches('\n').count() + 1,
        column: last.chars().count() + 1,
        message: message.replace('\n', " "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_named_with_its_place() {
        let error = parse(Path::new("/p/Cargo.toml"), b"[package]\nname = x\n").unwrap_err();
        assert!(error.to_string().starts_with("/p/Cargo.toml:2:8: "), "{error}");
        let error = parse(Path::new("/p"), b"a = \"\xff\"").unwrap_err();
        assert_eq!(error.to_string(), "/p:1:6: not UTF-8");
    }

    #[test]
    fn absent_is_no_error_and_a_folder_is_one() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(&dir.path().join("no")).unwrap().is_none());
        assert!(matches!(read(dir.path()), Err(TomlError::Unreadable { .. })));
    }
}
