//! The events that the watcher reports.

use std::ffi::OsString;
use std::path::PathBuf;

/// One cookie, and so one moment: see [`FileWatcher::cookie`](super::FileWatcher::cookie).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CookieId(pub(super) u64);

/// A report of the watcher, in the order in which the kernel saw what it reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WatchEvent {
    /// Something changed in a watched folder: list `dir` again.
    Changed {
        /// The folder, as it was given to `watch`.
        dir: PathBuf,
        /// The entry that changed; `None` if it is the folder itself (its mode, its owner).
        name: Option<OsString>,
    },
    /// Events were lost, or there were too many to name: everything may have changed. Call
    /// [`renew`](super::FileWatcher::renew), then scan everything.
    Rescan,
    /// The watch on this folder is in doubt: it was removed, moved, replaced, unmounted or
    /// mounted over. Call [`renew`](super::FileWatcher::renew), then list the folder (if there
    /// still is one) and its parent again.
    Gone(PathBuf),
    /// Everything that happened before this cookie was asked for has been reported.
    Cookie(CookieId),
    /// The watcher does not work, and says why. A [`Rescan`](Self::Rescan) follows; `renew`
    /// makes a new one.
    Failed(String),
}
