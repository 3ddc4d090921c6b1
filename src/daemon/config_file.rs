//! Whether the config file is still the one that was read.
//!
//! Its folder is watched, but no event is proof: the file may be a link to elsewhere, and a
//! question may come before an edit's quiet period is over. So every question has the file looked
//! at, which costs one `stat`.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::model::Digest;
use crate::workspace::PathStamp;

/// The file, and what it was when it was last read.
#[derive(Debug)]
pub(super) struct WatchedConfigFile {
    path: PathBuf,
    stamp: PathStamp,
    /// The stamp proves the content.
    settled: bool,
    content: Option<Digest>,
}

impl WatchedConfigFile {
    /// The file as it is now; to be called before it is read.
    pub(super) fn new(path: &Path) -> Self {
        let now = SystemTime::now();
        let stamp = PathStamp::followed(path);
        let settled = stamp.is_settled(now);
        // To open a pipe would wait for a writer.
        let is_file = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
        let bytes = is_file.then(|| std::fs::read(path).ok()).flatten();
        let content = bytes.map(|bytes| Digest::of(&bytes));
        Self { path: path.to_owned(), stamp, settled, content }
    }

    /// Whether its content is another one than at the last call.
    pub(super) fn has_changed(&mut self) -> bool {
        if self.settled && self.stamp.proves(&self.path) {
            return false;
        }
        let now = Self::new(&self.path);
        let changed = now.content != self.content;
        *self = now;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_seen_once_also_behind_a_link_and_within_a_tick() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("config.toml"));
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let mut file = WatchedConfigFile::new(&link);
        assert!(!file.has_changed(), "not there");
        for text in ["a", "b", "c"] {
            std::fs::write(&real, text).unwrap();
            assert!(file.has_changed(), "{text}");
            assert!(!file.has_changed(), "{text}");
        }
        std::fs::write(&real, "c").unwrap();
        assert!(!file.has_changed(), "it says the same");
        std::fs::remove_file(&real).unwrap();
        assert!(file.has_changed());
    }
}
