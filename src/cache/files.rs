//! Atomic writes, checked reads, and locks with a time-out.
//!
//! Nothing is flushed to the disk (`fsync`) unless the caller asks for it: a flush takes
//! milliseconds, and the digest tells when a power failure has cut a record short (a miss).

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

use super::layout::UNFINISHED;
use crate::paths::create_private_folder;
use crate::workspace::Stamp;

/// A file larger than this is not read: no record of ours gets near it.
const READ_LIMIT: u64 = 256 << 20;
/// How often a folder is created again that another process removes at the same moment.
const FOLDER_ATTEMPTS: u32 = 100;
/// Why a file was not read.
#[derive(Debug)]
pub(super) enum Unread {
    /// There is no file.
    Absent,
    /// There is something else than a readable file of ours; the text says what.
    Malformed(String),
    /// This process cannot read it now (too many open files, a bad disk).
    Failed(io::Error),
}

impl Unread {
    fn from_io(error: io::Error) -> Self {
        // `O_NOFOLLOW` fails like this for a link, and `open` for a socket.
        let no_file =
            [libc::ELOOP, libc::ENXIO, libc::EOPNOTSUPP].map(Some).contains(&error.raw_os_error());
        let kind = error.kind();
        let denied = matches!(kind, ErrorKind::PermissionDenied | ErrorKind::NotADirectory);
        match kind {
            ErrorKind::NotFound => Self::Absent,
            _ if no_file => Self::Malformed("it is not a regular file".to_owned()),
            _ if denied => Self::Malformed(format!("it cannot be opened: {error}")),
            _ => Self::Failed(error),
        }
    }
}

/// The remedy for a folder that cannot be written, for a person.
pub(super) fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "free some space there, for example with `knhk-test-cache cache clear`"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "make it writable for yourself, or set XDG_CACHE_HOME to a folder that is"
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists | ErrorKind::IsADirectory => {
            "something else lies where a folder or file of the cache must be: move it away"
        }
        _ => "set XDG_CACHE_HOME to a folder on another disk if this lasts",
    }
}

/// The nearest existing ancestor of `path`: an error message names it.
pub(super) fn nearest(path: &Path) -> &Path {
    path.ancestors().skip(1).find(|dir| dir.symlink_metadata().is_ok()).unwrap_or(path)
}

/// Reads a regular file and its stamp. Never waits (a pipe in its place) and never follows a link.
pub(super) fn read(path: &Path) -> Result<(Vec<u8>, Stamp), Unread> {
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let mut file = opened.map_err(Unread::from_io)?;
    let metadata = file.metadata().map_err(Unread::Failed)?;
    if !metadata.is_file() {
        return Err(Unread::Malformed("it is not a regular file".to_owned()));
    }
    if metadata.len() > READ_LIMIT {
        return Err(Unread::Malformed(format!("it is too large ({} bytes)", metadata.len())));
    }
    // The stamp is taken before the content, so that a change in between shows as another stamp.
    let stamp = Stamp::open(&file).map_err(Unread::Failed)?;
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1);
    file.read_to_end(&mut bytes).map_err(Unread::Failed)?;
    Ok((bytes, stamp))
}

/// The longest file that [`read_short`] reads whole, in bytes.
const SHORT_FILE: usize = 8 * 1024;

/// Reads a short file with as few system calls as possible. It never waits. A longer file is cut:
/// the caller's digest tells.
pub(super) fn read_short(path: &Path) -> io::Result<Vec<u8>> {
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut bytes = vec![0; SHORT_FILE];
    let count = file.read(&mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// Whether a write is worth the wait for the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// It survives the end of the process; a power failure may take it.
    Process,
    /// It survives a power failure.
    Power,
}

/// A file with all its bytes, in its later folder, under a temporary name. Dropping it removes it.
pub(super) fn prepare(path: &Path, parts: &[&[u8]], how: Durability) -> io::Result<NamedTempFile> {
    // Every path of `Layout` lies in a folder.
    let dir = path.parent().ok_or(ErrorKind::InvalidInput)?;
    // Created with mode 0600.
    let create = || tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(dir);
    let mut file = retrying(dir, || create().map_err(plain))?;
    for part in parts {
        file.as_file_mut().write_all(part)?;
    }
    if how == Durability::Power {
        file.as_file().sync_all()?;
    }
    Ok(file)
}

/// The system's own error, without the temporary name that would only puzzle a reader.
fn plain(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.source()?.downcast_ref::<io::Error>());
    let number = inner.and_then(io::Error::raw_os_error);
    number.map_or(error, io::Error::from_raw_os_error)
}

/// Writes a file so that a reader sees the old content or the new, and nothing else.
pub(super) fn write(path: &Path, parts: &[&[u8]], how: Durability) -> io::Result<()> {
    prepare(path, parts, how)?.persist(path)?;
    Ok(())
}

/// Adds bytes to the end of a file by one write, so that several processes can do so at once. The
/// file does not grow beyond `limit`. Gives its size before. Never waits and never follows a link.
pub(super) fn append(path: &Path, bytes: &[u8], limit: u64) -> io::Result<u64> {
    let dir = path.parent().ok_or(ErrorKind::InvalidInput)?;
    let mut file = retrying(dir, || {
        let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600).custom_flags(flags).open(path)
    })?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(ErrorKind::InvalidInput.into());
    }
    if metadata.len() + bytes.len() as u64 > limit {
        return Err(ErrorKind::FileTooLarge.into());
    }
    match file.write(bytes)? {
        written if written == bytes.len() => Ok(metadata.len()),
        _ => Err(ErrorKind::WriteZero.into()),
    }
}

/// Creates an empty file; one that is there already is fine.
pub(super) fn touch(path: &Path) -> io::Result<()> {
    let dir = path.parent().ok_or(ErrorKind::InvalidInput)?;
    retrying(dir, || {
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
    })?;
    Ok(())
}

/// Does `what` in `dir`, and creates the folder again as often as another process removes it.
fn retrying<T>(dir: &Path, mut what: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut attempt = 0;
    loop {
        match what() {
            Err(error) if error.kind() == ErrorKind::NotFound && attempt < FOLDER_ATTEMPTS => {
                attempt += 1;
                match create_private_folder(dir) {
                    // It, or a folder above it, was tidied away between two steps of the creation:
                    // it was there when it was to be made, and was not when it was looked at.
                    Err(error)
                        if matches!(
                            error.kind(),
                            ErrorKind::NotFound | ErrorKind::AlreadyExists
                        ) && attempt < FOLDER_ATTEMPTS => {}
                    made => made?,
                }
            }
            result => return result,
        }
    }
}

/// Removes a file; one that is gone already is fine. Says whether it was there.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The names in a folder that are text (all of ours are), with their types. A folder that is
/// missing has none.
pub(super) fn names(dir: &Path) -> io::Result<Vec<(String, fs::FileType)>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let (Ok(name), Ok(kind)) = (entry.file_name().into_string(), entry.file_type()) {
            names.push((name, kind));
        }
    }
    Ok(names)
}

/// A lock between processes and threads, held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock(Option<File>);

/// Whether other processes may hold the lock at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Others with shared access.
    Shared,
    /// No other process.
    Exclusive,
}

impl Lock {
    /// Takes the lock, waiting at most `timeout`: a holder that is stopped in a debugger must not
    /// stop everyone else. `None` if another process still holds it then.
    ///
    /// On a file system without locks, the caller goes on without one.
    pub(super) fn take(path: &Path, access: Access, timeout: Duration) -> io::Result<Option<Self>> {
        let dir = path.parent().ok_or(ErrorKind::InvalidInput)?;
        let file = retrying(dir, || {
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
        })?;
        let deadline = Instant::now() + timeout;
        loop {
            let tried = match access {
                Access::Shared => file.try_lock_shared(),
                Access::Exclusive => file.try_lock(),
            };
            match tried {
                Ok(()) => return Ok(Some(Self(Some(file)))),
                Err(fs::TryLockError::WouldBlock) => {
                    if Instant::now() >= deadline {
                        return Ok(None);
                    }
                    // The kernel has no lock that waits for a time; this wait is bounded by
                    // `timeout`, and the holders need microseconds.
                    std::thread::park_timeout(Duration::from_micros(300));
                }
                Err(fs::TryLockError::Error(error)) if error.kind() == ErrorKind::Interrupted => {}
                Err(fs::TryLockError::Error(_)) => return Ok(Some(Self(None))),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave the lock with a child that was forked at this moment.
        if let Some(file) = &self.0 {
            let _ = file.unlock();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn written_files_and_folders_are_for_their_user_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/file");
        write(&path, &[b"one", b"two"], Durability::Power).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"onetwo");
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        touch(&dir.path().join("a/c/empty")).unwrap();
        assert_eq!(mode(&dir.path().join("a/c/empty")), 0o600);
    }

    #[test]
    fn an_unfinished_file_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = prepare(&dir.path().join("file"), &[b"x"], Durability::Process).unwrap();
        assert!(file.path().file_name().unwrap().to_str().unwrap().starts_with(UNFINISHED));
        drop(file);
        assert!(names(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn a_folder_that_others_make_and_remove_at_the_same_time_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        std::thread::scope(|scope| {
            for name in ["one", "two", "three"] {
                let folder = &folder;
                scope.spawn(move || {
                    for _ in 0..2_000 {
                        touch(&folder.join(name)).unwrap();
                        remove(&folder.join(name)).unwrap();
                        let _ = fs::remove_dir(folder);
                    }
                });
            }
        });
    }

    #[test]
    fn what_lies_where_a_folder_must_be_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("a")).unwrap();
        let error = touch(&dir.path().join("a/file")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    }

    #[test]
    fn anything_but_a_regular_file_is_malformed_and_never_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{CWD, FileType, Mode, mknodat};
            mknodat(CWD, dir.path().join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        }
        std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
        let pipe = cfg!(target_os = "linux").then_some("pipe");
        for name in ["socket", "link", ".", "file/below"].into_iter().chain(pipe) {
            let read = read(&dir.path().join(name));
            assert!(matches!(read, Err(Unread::Malformed(_))), "{name}: {read:?}");
        }
        assert!(matches!(read(&dir.path().join("none")), Err(Unread::Absent)));
    }

    #[test]
    fn locks_exclude_each_other_and_time_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let take = |access| Lock::take(&path, access, Duration::ZERO).unwrap();
        let shared = take(Access::Shared).unwrap();
        assert!(take(Access::Shared).is_some());
        assert!(take(Access::Exclusive).is_none());
        drop(shared);
        let exclusive = take(Access::Exclusive).unwrap();
        assert!(take(Access::Shared).is_none());
        drop(exclusive);
        assert!(take(Access::Exclusive).is_some());
    }
}
