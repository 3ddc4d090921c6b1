//! Why something cannot be watched.

use std::io;
use std::path::PathBuf;

use super::WatchLimit;

/// Why a folder has no watch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WatchError {
    /// There is nothing at the path.
    #[error("not there")]
    Missing,
    /// The path is a file or a symbolic link, which is never followed.
    #[error("not a folder")]
    NotAFolder,
    /// Watches are known by absolute paths.
    #[error("not an absolute path")]
    Relative,
    /// The file system does not report every change: poll it, and scan it for every question.
    #[error("changes on the file system `{file_system}` are not all reported")]
    Untrusted {
        /// Its name, or its magic number.
        file_system: String,
    },
    /// A limit of the system. The folder must be polled until it is raised.
    #[error("{0}")]
    Limit(WatchLimit),
    /// The system refuses, mostly for want of the right to read the folder.
    #[error("cannot be watched: {0}")]
    Refused(String),
    /// The watcher itself does not work; `renew` tries to make a new one.
    #[error("the file watcher does not work: {0}")]
    Broken(String),
}

/// A folder that was asked for and is not watched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not watched: {why}", dir.display())]
pub(crate) struct Unwatched {
    /// The folder.
    pub dir: PathBuf,
    /// The reason.
    pub why: WatchError,
}

/// Why there is no watcher at all.
#[derive(Debug, thiserror::Error)]
pub enum WatchStartError {
    /// The folder for cookies cannot be made or watched.
    #[error("cannot use `{}` for cookie files: {source}", dir.display())]
    Cookies {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refuses for another reason.
    #[error("cannot watch files: {0}")]
    System(#[from] io::Error),
}
