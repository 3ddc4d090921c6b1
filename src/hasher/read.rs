//! Digests of files that hold still: a file that changes while it is read is read again, and if
//! it never holds still, its content is not known.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::CWD;
use sha2::{Digest as _, Sha256};

use super::system;
use crate::model::Digest;
use crate::workspace::{FileKind, Stamp};

/// How often a file that changes under the reader is read before giving up.
const READ_ATTEMPTS: usize = 4;
/// A file of more bytes than this is read once. While it is read, its stamp is looked at again
/// after every so many bytes: a log of gigabytes that grows must not hold up every question.
const LARGE: u64 = 16 << 20;
/// Larger files are read in pieces of this size, in bytes.
const READ_PIECE: usize = 128 * 1024;

/// Why a file has no digest.
#[derive(Debug)]
pub(super) enum ReadError {
    /// It is no longer there, or no longer a file: the folder must be listed again.
    Gone,
    /// It changed during every attempt.
    Restless,
    /// The system refused.
    Failed(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        if is_absence(&error) || error.raw_os_error() == Some(libc::ELOOP) {
            // A link in the place of the file that was just there.
            Self::Gone
        } else {
            Self::Failed(error)
        }
    }
}

/// Whether the error says that there is no such file.
pub(super) fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// A thread's memory for reading.
pub(super) struct Buffer(Box<[u8]>);

impl Default for Buffer {
    fn default() -> Self {
        Self(vec![0; READ_PIECE].into_boxed_slice())
    }
}

/// Lets tests come between the two looks at a file; nothing in the real program.
#[derive(Clone, Default)]
pub(super) struct Probe {
    #[cfg(test)]
    pub during: Option<During>,
    /// Whether stamps count as settled, whatever their age.
    #[cfg(test)]
    pub settled: Option<bool>,
}

/// What happens while the file at a path is read.
#[cfg(test)]
type During = std::sync::Arc<dyn Fn(&Path) -> io::Result<()> + Send + Sync>;

impl Probe {
    #[cfg(test)]
    pub(super) fn reading(&self, path: &Path, name: &[u8]) -> io::Result<()> {
        let path = path.join(std::ffi::OsStr::from_bytes(name));
        self.during.as_ref().map_or(Ok(()), |during| during(&path))
    }

    #[cfg(not(test))]
    #[inline]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the tests' one does more")]
    pub(super) fn reading(&self, _path: &Path, _name: &[u8]) -> io::Result<()> {
        Ok(())
    }

    /// Whether the stamp is settled, seen from `time`.
    #[cfg(test)]
    pub(super) fn is_settled(&self, stamp: &Stamp, time: SystemTime) -> bool {
        self.settled.unwrap_or_else(|| stamp.is_settled(time))
    }

    /// Whether the stamp is settled, seen from `time`.
    #[cfg(not(test))]
    #[inline]
    #[expect(clippy::unused_self, reason = "the tests' one does more")]
    pub(super) fn is_settled(&self, stamp: &Stamp, time: SystemTime) -> bool {
        stamp.is_settled(time)
    }
}

/// The location of a file: its name in an open folder, and that folder's path for messages.
pub(super) struct FileLocation<'a, F> {
    pub folder: F,
    pub path: &'a Path,
    pub name: &'a [u8],
    /// Whether the name may be a link to the file.
    pub follow: bool,
}

impl<F: AsFd> FileLocation<'_, F> {
    fn stamp(&self) -> io::Result<Stamp> {
        if self.follow {
            Stamp::followed(&self.path.join(std::ffi::OsStr::from_bytes(self.name)))
        } else {
            Stamp::at(&self.folder, self.name)
        }
    }

    /// The digest of the file, and its stamp at that moment. `before` is its stamp of a moment
    /// ago.
    pub(super) fn digest(
        &self,
        before: Stamp,
        buffer: &mut Buffer,
        probe: &Probe,
    ) -> Result<(Stamp, Digest), ReadError> {
        let mut before = before;
        let attempts = if before.size > LARGE { 1 } else { READ_ATTEMPTS };
        for _ in 0..attempts {
            if before.kind() != FileKind::File {
                return Err(ReadError::Gone);
            }
            let file = system::open_file(&self.folder, self.name, self.follow)?;
            let (digest, file) = read(file, &before, buffer)?;
            probe.reading(self.path, self.name)?;
            let after = Stamp::open(&file)?;
            if after == before {
                return Ok((after, digest));
            }
            before = self.stamp()?;
        }
        Err(ReadError::Restless)
    }

    /// The content of a small file and its stamp at that moment.
    pub(super) fn content(&self, before: Stamp) -> Result<(Stamp, Vec<u8>), ReadError> {
        let mut before = before;
        for _ in 0..READ_ATTEMPTS {
            if before.kind() != FileKind::File {
                return Err(ReadError::Gone);
            }
            let mut file = File::from(system::open_file(&self.folder, self.name, self.follow)?);
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let after = Stamp::open(&file)?;
            if after == before {
                return Ok((after, bytes));
            }
            before = self.stamp()?;
        }
        Err(ReadError::Restless)
    }
}

/// Reads all of an open file. One call is enough for a small one: if it holds still, what was
/// read is all of it, and if not, the caller sees that.
fn read(file: OwnedFd, before: &Stamp, buffer: &mut Buffer) -> Result<(Digest, File), ReadError> {
    let mut file = File::from(file);
    let mut state: Option<Sha256> = None;
    let mut unchecked = 0;
    loop {
        if unchecked > LARGE {
            if Stamp::open(&file)? != *before {
                return Err(ReadError::Restless);
            }
            unchecked = 0;
        }
        let piece = match file.read(&mut buffer.0) {
            Ok(count) => &buffer.0[..count],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        unchecked += piece.len() as u64;
        let whole =
            state.is_none() && piece.len() as u64 == before.size && piece.len() < buffer.0.len();
        if whole {
            return Ok((Digest::of(piece), file));
        }
        let state = state.get_or_insert_default();
        if piece.is_empty() {
            return Ok((Digest::from_bytes(state.finalize_reset().into()), file));
        }
        state.update(piece);
    }
}

/// The message about a file that changes while it is read, with the remedy.
pub(super) const UNSTABLE_FILE: &str = "it changes while it is read: if no test needs it, name it in \
     `.gitignore`, or under `exclude` in the config";

/// The content of a file that a record names as its input, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileDigest {
    /// A regular file with this content.
    Known(Digest),
    /// There is no such file.
    Absent,
    /// There is something, but it cannot be read as a file: why, for a person.
    Unknown(String),
}

/// The digest of the file at `path`, following links. Never opens anything that is not a regular
/// file, and never gives the digest of a file that changed while it was read.
#[must_use]
pub(crate) fn file_digest(path: &Path) -> FileDigest {
    let unknown = |why: &str| FileDigest::Unknown(format!("`{}`: {why}", path.display()));
    let stamp = match Stamp::followed(path) {
        Ok(stamp) => stamp,
        Err(error) if is_absence(&error) => return FileDigest::Absent,
        Err(error) => return unknown(&error.to_string()),
    };
    if stamp.kind() != FileKind::File {
        return unknown("not a regular file");
    }
    let name = path.as_os_str().as_bytes();
    let place = FileLocation { folder: CWD, path: Path::new(""), name, follow: true };
    match place.digest(stamp, &mut Buffer::default(), &Probe::default()) {
        Ok((_, digest)) => FileDigest::Known(digest),
        Err(ReadError::Gone) if !path.exists() => FileDigest::Absent,
        Err(ReadError::Gone | ReadError::Restless) => unknown("it changes while it is read"),
        Err(ReadError::Failed(error)) => unknown(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_every_size_has_the_digest_of_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        for size in [0, 1, 4_096, READ_PIECE - 1, READ_PIECE, READ_PIECE + 1, 3 * READ_PIECE] {
            let bytes: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            std::fs::write(&file, &bytes).unwrap();
            assert_eq!(file_digest(&file), FileDigest::Known(Digest::of(&bytes)), "{size}");
        }
    }

    #[test]
    fn a_large_file_that_grows_is_given_up_at_its_first_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let file = File::create(&path).unwrap();
        file.set_len(3 * LARGE).unwrap();
        let (read, length) = (std::sync::atomic::AtomicU32::new(0), 3 * LARGE);
        let during = move |_: &Path| {
            read.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            file.set_len(length + u64::from(read.load(std::sync::atomic::Ordering::Relaxed)))
        };
        let probe = Probe { during: Some(std::sync::Arc::new(during)), settled: None };
        let name = path.as_os_str().as_bytes();
        let place = FileLocation { folder: CWD, path: Path::new(""), name, follow: true };
        let before = Stamp::followed(&path).unwrap();
        let digest = place.digest(before, &mut Buffer::default(), &probe);
        assert!(matches!(digest, Err(ReadError::Restless)));
        assert_eq!(path.metadata().unwrap().len(), length + 1, "read once");

        // It has grown since its stamp was taken: that is seen long before the end.
        let open = system::open_file(CWD, name, true).unwrap();
        let other = Stamp { size: 1, ..before };
        assert!(matches!(read_all(open, &other), Err(ReadError::Restless)));
    }

    fn read_all(file: OwnedFd, before: &Stamp) -> Result<Digest, ReadError> {
        let position = file.try_clone().unwrap();
        let result = read(file, before, &mut Buffer::default()).map(|(digest, _)| digest);
        let at = rustix::fs::seek(position, rustix::fs::SeekFrom::Current(0)).unwrap();
        assert!(at < 2 * LARGE, "read up to {at}");
        result
    }

    #[test]
    fn links_are_followed_and_absence_is_not_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "text").unwrap();
        std::os::unix::fs::symlink("f", dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("dangling")).unwrap();
        let digest = |name: &str| file_digest(&dir.path().join(name));
        assert_eq!(digest("link"), FileDigest::Known(Digest::of(b"text")));
        for absent in ["dangling", "none", "f/below", "none/below"] {
            assert_eq!(digest(absent), FileDigest::Absent, "{absent}");
        }
    }

    #[test]
    fn what_is_no_file_is_unknown_and_never_opened() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mkfifoat(CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
        std::os::unix::fs::symlink("loop", dir.path().join("loop")).unwrap();
        for odd in [fifo, dir.path().to_owned(), dir.path().join("loop")] {
            assert!(matches!(file_digest(&odd), FileDigest::Unknown(_)), "{}", odd.display());
        }
    }

    #[test]
    fn a_file_of_the_kernel_that_claims_to_be_empty_is_read_to_its_end() {
        if Path::new("/proc/version").exists() {
            let text = std::fs::read("/proc/version").unwrap();
            assert_eq!(
                file_digest(Path::new("/proc/version")),
                FileDigest::Known(Digest::of(&text))
            );
        }
    }
}
