//! A log file that does not grow without bound, for systems that keep no log themselves.

use crate::paths::create_private_folder;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Bytes after which a file is put aside.
const MAX_LOG_BYTES: u64 = 4 << 20;
/// How many files that were put aside are kept: `x.log.1` is the youngest.
const KEPT_LOGS: u32 = 3;

/// A file that is put aside when it is full; the oldest of those goes.
///
/// A line is never torn apart: rotation happens between writes, and each event is one.
#[derive(Debug)]
pub(crate) struct RotatingFile {
    path: PathBuf,
    file: File,
    written: u64,
    limit: u64,
}

impl RotatingFile {
    /// Opens the file to append, and makes its folder.
    ///
    /// # Errors
    /// If either cannot be done.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::with_limit(path, MAX_LOG_BYTES)
    }

    fn with_limit(path: &Path, limit: u64) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            create_private_folder(folder)?;
        }
        let file = append(path)?;
        let written = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, written, limit })
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..KEPT_LOGS).rev() {
            // Not there yet: nothing to move.
            let _ = std::fs::rename(self.aside(number), self.aside(number + 1));
        }
        std::fs::rename(&self.path, self.aside(1))?;
        self.file = append(&self.path)?;
        self.written = 0;
        Ok(())
    }

    fn aside(&self, number: u32) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        name.into()
    }
}

fn append(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    // What tests print can be anything: for the user's eyes only.
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

impl Write for RotatingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written > 0 && self.written + bytes.len() as u64 > self.limit {
            // A folder that turned read-only: better one file too long than no log.
            let _ = self.rotate();
        }
        let count = self.file.write(bytes)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_youngest_are_kept_and_no_line_is_torn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/x.log");
        let mut log = RotatingFile::with_limit(&path, 10).unwrap();
        for number in 0..6 {
            log.write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
        assert_eq!(read(path.clone()), "line 5\n");
        assert_eq!(read(log.aside(1)), "line 4\n");
        assert_eq!(read(log.aside(3)), "line 2\n");
        assert!(!log.aside(4).exists());
        // It goes on where it was.
        drop(log);
        let mut log = RotatingFile::with_limit(&path, 10).unwrap();
        log.write_all(b"more\n").unwrap();
        assert_eq!(read(log.aside(1)), "line 5\n");
        assert_eq!(read(path), "more\n");
    }
}
