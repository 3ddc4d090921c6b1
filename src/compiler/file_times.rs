//! When files were modified and changed.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

/// The times of a file's last modification and last change, in seconds and nanoseconds. No program
/// can set the second one.
#[derive(Clone, Copy)]
pub(super) struct FileTimes {
    pub(super) modified: (i64, i64),
    pub(super) changed: (i64, i64),
}

impl FileTimes {
    /// A moment as files have it.
    pub(super) fn at(time: SystemTime) -> (i64, i64) {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos().into())
    }

    /// The times of the path itself, even if it is a link.
    pub(super) fn of(path: &Path) -> Option<Self> {
        std::fs::symlink_metadata(path).ok().as_ref().map(Self::from)
    }
}

impl From<&std::fs::Metadata> for FileTimes {
    fn from(metadata: &std::fs::Metadata) -> Self {
        Self {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Whether the file is older than what was `made` then.
pub(super) fn is_older(file: &Path, made: Option<(i64, i64)>) -> bool {
    FileTimes::of(file).is_some_and(|times| Some(times.modified.max(times.changed)) <= made)
}
