//! What `stat` says of a file, as a cheap guard: equal and not young means unchanged.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A change within this span after a look could have left the same times behind: file systems
/// keep times in ticks of up to two seconds.
const YOUNG: Duration = Duration::from_secs(2);

/// What `stat` says of a path, symbolic links followed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stamp {
    /// There is nothing of that name.
    Absent,
    /// There is something.
    Present {
        /// Device and inode.
        file: (u64, u64),
        /// Length in bytes.
        size: u64,
        /// Type and permissions.
        mode: u32,
        /// Modification time in nanoseconds since the epoch.
        mtime: i128,
        /// Change time in nanoseconds since the epoch.
        ctime: i128,
    },
    /// The system does not say; equal to nothing, see [`Stamp::proves`].
    Unknown,
}

impl Stamp {
    /// Looks at `path` now.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        match std::fs::metadata(path) {
            Ok(meta) => Self::Present {
                file: (meta.dev(), meta.ino()),
                size: meta.len(),
                mode: meta.mode(),
                mtime: nanoseconds(meta.mtime(), meta.mtime_nsec()),
                ctime: nanoseconds(meta.ctime(), meta.ctime_nsec()),
            },
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Self::Absent
            }
            Err(_) => Self::Unknown,
        }
    }

    /// Whether a change right after a look at `now` could go unseen by this stamp.
    #[must_use]
    pub fn is_young(&self, now: SystemTime) -> bool {
        match self {
            Self::Absent => false,
            Self::Unknown => true,
            Self::Present { mtime, ctime, .. } => {
                let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
                let limit = now.saturating_sub(YOUNG).as_nanos();
                // A time in the future is not before the limit either: not trusted.
                (*mtime).max(*ctime) >= i128::try_from(limit).unwrap_or(i128::MAX)
            }
        }
    }

    /// Whether the path is still as it was when this stamp was taken.
    #[must_use]
    pub fn proves(&self, path: &Path) -> bool {
        *self != Self::Unknown && *self == Self::of(path)
    }
}

fn nanoseconds(seconds: i64, rest: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_files_are_young_and_old_ones_prove_themselves() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        assert_eq!(Stamp::of(&file), Stamp::Absent);
        std::fs::write(&file, "1").unwrap();
        let stamp = Stamp::of(&file);
        let now = SystemTime::now();
        assert!(stamp.is_young(now));
        assert!(!stamp.is_young(now + Duration::from_secs(10)));
        assert!(stamp.is_young(now - Duration::from_secs(10)), "a time in the future");
        assert!(stamp.proves(&file));
        std::fs::write(&file, "22").unwrap();
        assert!(!stamp.proves(&file));
        assert!(!Stamp::Unknown.proves(&file));
    }
}
