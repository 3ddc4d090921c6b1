//! The system calls of a walk: what a name is, what a folder holds, what a link says.
//!
//! Everything that differs between Linux and macOS in this module is in this file.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RawMode, Stat};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Link,
    Fifo,
    Socket,
    Character,
    Block,
    /// Nothing that this program knows.
    Odd,
}

impl Kind {
    fn of(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Folder,
            FileType::Symlink => Self::Link,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice => Self::Character,
            FileType::BlockDevice => Self::Block,
            FileType::Unknown => Self::Odd,
        }
    }
}

/// What the system says about a file without opening it. Equal stamps of which neither is young
/// (see [`Stamp::settled`]) mean equal content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Stamp {
    /// Bytes.
    pub size: u64,
    /// When the content was last written: nanoseconds since the epoch. Anyone can set it.
    pub modified: i64,
    /// When the inode was last changed: nanoseconds since the epoch. Nobody can set it, short of
    /// setting the clock.
    pub changed: i64,
    pub inode: u64,
    pub device: u32,
    /// Type and permission bits.
    pub mode: u32,
}

impl Stamp {
    pub(super) fn kind(&self) -> Kind {
        Kind::of(FileType::from_raw_mode(self.mode as RawMode))
    }

    /// Whether the owner may execute it: the one permission that git keeps, and the same for
    /// every umask.
    pub(super) fn executable(&self) -> bool {
        self.mode & 0o100 != 0
    }

    /// Whether a file that was read at `now` or later could not have changed since without
    /// changing this stamp: both times lie at least `margin` back (all in nanoseconds). Times in
    /// the future are never settled.
    pub(super) fn settled(&self, now: i64, margin: i64) -> bool {
        now.saturating_sub(self.modified.max(self.changed)) >= margin
    }

    /// The length of [`Self::to_bytes`].
    pub(super) const BYTES: usize = 40;

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.size.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.modified.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.changed.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.inode.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.device.to_le_bytes());
        bytes[36..].copy_from_slice(&self.mode.to_le_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let long = |at: usize| {
            let mut part = [0; 8];
            part.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(part)
        };
        let last = long(32);
        Self {
            size: long(0),
            modified: long(8).cast_signed(),
            changed: long(16).cast_signed(),
            inode: long(24),
            device: last as u32,
            mode: (last >> 32) as u32,
        }
    }

    /// The stamp of a folder as its parent's listing tells it: only what the listing holds.
    pub(super) fn of_folder(inode: u64) -> Self {
        let mode = u32::from(FileType::Directory.as_raw_mode() as u16);
        Self { inode, mode, ..Self::default() }
    }
}

/// A stamp, and how many names lead to the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Status {
    pub stamp: Stamp,
    pub names: u64,
}

#[expect(clippy::unnecessary_cast, reason = "the fields' types differ between platforms")]
fn status(raw: &Stat) -> Status {
    Status {
        stamp: Stamp {
            size: raw.st_size as u64,
            modified: nanoseconds(raw.st_mtime as i64, raw.st_mtime_nsec as i64),
            changed: nanoseconds(raw.st_ctime as i64, raw.st_ctime_nsec as i64),
            inode: raw.st_ino as u64,
            device: device(raw),
            mode: raw.st_mode as u32,
        },
        names: raw.st_nlink as u64,
    }
}

/// Saturates, so that a time beyond the range lies in the future and is never settled.
fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

/// The kernel's own 32 bits of a device number (12 major, 20 minor); nothing is lost.
#[cfg(target_os = "linux")]
fn device(raw: &Stat) -> u32 {
    join_device(fs::major(raw.st_dev), fs::minor(raw.st_dev))
}

#[cfg(target_os = "linux")]
fn join_device(major: u32, minor: u32) -> u32 {
    (major << 20) | (minor & 0x000f_ffff)
}

#[cfg(not(target_os = "linux"))]
fn device(raw: &Stat) -> u32 {
    raw.st_dev as u32
}

/// The wall clock in nanoseconds since the epoch, as file systems stamp files.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// The status of `name` in the open folder, of the link itself where it is one.
pub(super) fn status_at(folder: impl AsFd, name: &[u8]) -> io::Result<Status> {
    Ok(status(&fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?))
}

/// The status of what `path` leads to.
pub(super) fn status_followed(path: &Path) -> io::Result<Status> {
    Ok(status(&fs::stat(path)?))
}

/// The status of `path` itself.
pub(super) fn status_of(path: &Path) -> io::Result<Status> {
    Ok(status(&fs::lstat(path)?))
}

/// The status of an open file.
pub(super) fn status_open(file: impl AsFd) -> io::Result<Status> {
    Ok(status(&fs::fstat(file)?))
}

/// Opens a file for reading. Neither a FIFO nor a terminal that took its place can block or
/// capture the process; `follow` says whether a link may lead elsewhere.
pub(super) fn open_file(folder: impl AsFd, name: &[u8], follow: bool) -> io::Result<OwnedFd> {
    let mut flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    if !follow {
        flags |= OFlags::NOFOLLOW;
    }
    Ok(fs::openat(folder, name, flags, Mode::empty())?)
}

/// Opens a folder for listing; its own name may be a link only if `follow`.
pub(super) fn open_folder(path: &Path, follow: bool) -> io::Result<OwnedFd> {
    let mut flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
    if !follow {
        flags |= OFlags::NOFOLLOW;
    }
    Ok(fs::open(path, flags, Mode::empty())?)
}

/// What the link `name` in the open folder says.
pub(super) fn read_link(folder: impl AsFd, name: &[u8]) -> io::Result<Vec<u8>> {
    Ok(fs::readlinkat(folder, name, Vec::new())?.into_bytes())
}

/// Which folder this is, whatever it is called: survives a rename, and no later folder has the
/// same, even where the file system uses inode numbers again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub device: u32,
    pub inode: u64,
    /// When it was made. On a file system that does not know, when it was last changed: then
    /// every change looks like another folder, which costs time and never a change.
    born: i64,
}

impl Identity {
    /// Its device and inode: all that a listing tells of it.
    pub(super) fn number(&self) -> (u32, u64) {
        (self.device, self.inode)
    }
}

/// A folder's identity, and when its list of names last changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FolderStatus {
    pub identity: Identity,
    modified: i64,
    changed: i64,
}

/// The status of the folder at `path`, which is no link.
pub(super) fn folder_at(path: &Path) -> io::Result<FolderStatus> {
    folder_open(&open_folder(path, false)?)
}

/// The status of an open folder.
#[cfg(target_os = "linux")]
pub(super) fn folder_open(folder: &OwnedFd) -> io::Result<FolderStatus> {
    use fs::StatxFlags;
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let raw = match fs::statx(folder, c"", AtFlags::EMPTY_PATH, wanted) {
        Ok(raw) => raw,
        Err(rustix::io::Errno::NOSYS) => {
            let Status { stamp, .. } = status_open(folder)?;
            return Ok(without_birth(&stamp));
        }
        Err(error) => return Err(error.into()),
    };
    let time = |t: fs::StatxTimestamp| nanoseconds(t.tv_sec, i64::from(t.tv_nsec));
    let changed = time(raw.stx_ctime);
    let knows_birth = raw.stx_mask & StatxFlags::BTIME.bits() != 0;
    Ok(FolderStatus {
        identity: Identity {
            device: join_device(raw.stx_dev_major, raw.stx_dev_minor),
            inode: raw.stx_ino,
            born: if knows_birth { time(raw.stx_btime) } else { changed },
        },
        modified: time(raw.stx_mtime),
        changed,
    })
}

#[cfg(target_os = "linux")]
fn without_birth(stamp: &Stamp) -> FolderStatus {
    FolderStatus {
        identity: Identity { device: stamp.device, inode: stamp.inode, born: stamp.changed },
        modified: stamp.modified,
        changed: stamp.changed,
    }
}

/// The status of an open folder.
#[cfg(not(target_os = "linux"))]
pub(super) fn folder_open(folder: &OwnedFd) -> io::Result<FolderStatus> {
    let raw = fs::fstat(folder)?;
    let Status { stamp, .. } = status(&raw);
    Ok(FolderStatus {
        identity: Identity {
            device: stamp.device,
            inode: stamp.inode,
            born: nanoseconds(raw.st_birthtime, raw.st_birthtime_nsec),
        },
        modified: stamp.modified,
        changed: stamp.changed,
    })
}

/// The names in a folder, in one piece of memory that is used again for the next folder.
#[derive(Default)]
pub(super) struct Names {
    bytes: Vec<u8>,
    list: Vec<Name>,
}

/// One name, and what the listing itself says about it.
#[derive(Clone, Copy)]
pub(super) struct Name {
    start: u32,
    length: u16,
    /// `None` where the file system does not say.
    pub kind: Option<Kind>,
    pub inode: u64,
}

impl Names {
    fn push(&mut self, name: &[u8], kind: FileType, inode: u64) {
        if name == b"." || name == b".." {
            return;
        }
        let kind = (kind != FileType::Unknown).then(|| Kind::of(kind));
        self.list.push(Name {
            start: u32::try_from(self.bytes.len()).unwrap_or(u32::MAX),
            length: u16::try_from(name.len()).unwrap_or(u16::MAX),
            kind,
            inode,
        });
        self.bytes.extend_from_slice(name);
    }

    /// Lists a folder that was listed before.
    pub(super) fn read_again(&mut self, folder: &OwnedFd, buffer: &mut Vec<u8>) -> io::Result<()> {
        fs::seek(folder, fs::SeekFrom::Start(0))?;
        self.read(folder, buffer)
    }

    /// Lists a folder that was just opened, sorted by the names' bytes.
    pub(super) fn read(&mut self, folder: &OwnedFd, buffer: &mut Vec<u8>) -> io::Result<()> {
        self.bytes.clear();
        self.list.clear();
        self.read_unsorted(folder, buffer)?;
        if u32::try_from(self.bytes.len()).is_err() {
            return Err(io::Error::other("more names than any real folder has"));
        }
        let bytes = &self.bytes;
        self.list.sort_unstable_by(|a, b| slice(bytes, a).cmp(slice(bytes, b)));
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn read_unsorted(&mut self, folder: &OwnedFd, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.clear();
        buffer.reserve(64 * 1024);
        let mut entries = fs::RawDir::new(folder, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            self.push(entry.file_name().to_bytes(), entry.file_type(), entry.ino());
        }
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn read_unsorted(&mut self, folder: &OwnedFd, _buffer: &mut Vec<u8>) -> io::Result<()> {
        for entry in fs::Dir::read_from(folder)? {
            let entry = entry?;
            self.push(entry.file_name().to_bytes(), entry.file_type(), entry.ino());
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// All names, sorted.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Name)> {
        self.list.iter().map(|name| (slice(&self.bytes, name), *name))
    }

    /// Whether there is such a name, and what the listing says of it.
    pub(super) fn find(&self, wanted: &[u8]) -> Option<Name> {
        let found = self.list.binary_search_by(|name| slice(&self.bytes, name).cmp(wanted));
        found.ok().map(|at| self.list[at])
    }

    /// Whether the other list holds the same names of the same kinds.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.list.len() == other.list.len()
            && self.iter().zip(other.iter()).all(|((left, a), (right, b))| {
                left == right && a.kind == b.kind && a.inode == b.inode
            })
    }
}

fn slice<'a>(bytes: &'a [u8], name: &Name) -> &'a [u8] {
    &bytes[name.start as usize..][..usize::from(name.length)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(modified: i64, changed: i64) -> Stamp {
        Stamp { modified, changed, size: 1, inode: 2, device: 3, mode: 0o100_755 }
    }

    #[test]
    fn a_stamp_is_settled_when_both_its_times_are_old_enough() {
        assert!(stamp(10, 20).settled(120, 100));
        assert!(!stamp(10, 21).settled(120, 100) && !stamp(21, 10).settled(120, 100));
        assert!(!stamp(130, 10).settled(120, 0), "of the future");
        assert!(!stamp(i64::MAX, 0).settled(now(), 0), "beyond what can be told");
        assert!(stamp(i64::MIN, i64::MIN).settled(now(), 100));
        assert_eq!(nanoseconds(i64::MAX / 2, 5), i64::MAX);
    }

    #[test]
    fn stamps_survive_being_bytes() {
        let stamp = Stamp { size: u64::MAX - 1, inode: 1 << 63, ..stamp(-5, i64::MAX) };
        assert_eq!(Stamp::from_bytes(&stamp.to_bytes()), stamp);
        assert_eq!((stamp.kind(), stamp.executable()), (Kind::File, true));
        assert_eq!(Stamp::of_folder(7).kind(), Kind::Folder);
    }

    #[test]
    fn a_folder_made_again_is_another_one_whatever_its_inode() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a");
        let make = || {
            std::fs::create_dir(&path).unwrap();
            folder_at(&path).unwrap().identity
        };
        let first = make();
        std::fs::write(path.join("x"), "").unwrap();
        std::fs::remove_file(path.join("x")).unwrap();
        assert_eq!(folder_at(&path).unwrap().identity, first, "what is in it does not matter");
        std::fs::remove_dir(&path).unwrap();
        assert_ne!(make(), first);
    }

    #[test]
    fn names_come_sorted_by_their_bytes_and_can_be_listed_again() {
        let temp = tempfile::tempdir().unwrap();
        for name in ["b", "a.x", "a", "B", "é"] {
            std::fs::write(temp.path().join(name), "").unwrap();
        }
        let folder = open_folder(temp.path(), false).unwrap();
        let (mut names, mut again) = (Names::default(), Names::default());
        names.read(&folder, &mut Vec::new()).unwrap();
        let listed: Vec<_> = names.iter().map(|(name, _)| name.to_vec()).collect();
        assert_eq!(listed, ["B", "a", "a.x", "b", "é"].map(|name| name.as_bytes().to_vec()));
        assert!(names.find(b"a.x").is_some() && names.find(b"a.").is_none());
        again.read_again(&folder, &mut Vec::new()).unwrap();
        assert!(names.same(&again) && names.len() == 5);
        std::fs::rename(temp.path().join("b"), temp.path().join("c")).unwrap();
        again.read_again(&folder, &mut Vec::new()).unwrap();
        assert!(!names.same(&again));
    }
}
