//! The system calls of a walk: what a name is, what a folder holds, what a link says.
//!
//! Everything that differs between Linux and macOS in this module is in this file.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

#[cfg(target_os = "linux")]
use rustix::fs::AtFlags;
use rustix::fs::{self, FileType, Mode, OFlags};

use crate::workspace::{FileKind, Stamp, nanoseconds};

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

/// The text of the link `name` in the open folder.
pub(super) fn read_link(folder: impl AsFd, name: &[u8]) -> io::Result<Vec<u8>> {
    Ok(fs::readlinkat(folder, name, Vec::new())?.into_bytes())
}

/// Which folder this is, whatever it is called: survives a rename, and no later folder has the
/// same, even where the file system uses inode numbers again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FolderIdentity {
    pub device: u64,
    pub inode: u64,
    /// When it was made. On a file system that does not know, when it was last changed: then
    /// every change looks like another folder, which costs time and never a change.
    born: i64,
}

impl FolderIdentity {
    /// Its device and inode: all that a listing tells of it.
    pub(super) fn number(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

/// A folder's identity, and when its list of names last changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FolderStatus {
    pub identity: FolderIdentity,
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
            let stamp = Stamp::open(folder)?;
            return Ok(without_birth(&stamp));
        }
        Err(error) => return Err(error.into()),
    };
    let time = |t: fs::StatxTimestamp| nanoseconds(t.tv_sec, i64::from(t.tv_nsec));
    let changed = time(raw.stx_ctime);
    let knows_birth = raw.stx_mask & StatxFlags::BTIME.bits() != 0;
    Ok(FolderStatus {
        identity: FolderIdentity {
            device: fs::makedev(raw.stx_dev_major, raw.stx_dev_minor),
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
        identity: FolderIdentity { device: stamp.device, inode: stamp.inode, born: stamp.changed },
        modified: stamp.modified,
        changed: stamp.changed,
    }
}

/// The status of an open folder.
#[cfg(not(target_os = "linux"))]
pub(super) fn folder_open(folder: &OwnedFd) -> io::Result<FolderStatus> {
    let raw = fs::fstat(folder)?;
    let stamp = Stamp::open(folder)?;
    Ok(FolderStatus {
        identity: FolderIdentity {
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
pub(super) struct NameList {
    bytes: Vec<u8>,
    list: Vec<ListedName>,
}

/// One name, and what the listing itself says about it.
#[derive(Clone, Copy)]
pub(super) struct ListedName {
    start: u32,
    length: u16,
    /// `None` where the file system does not say.
    pub kind: Option<FileKind>,
    pub inode: u64,
}

impl NameList {
    fn push(&mut self, name: &[u8], kind: FileType, inode: u64) {
        if name == b"." || name == b".." {
            return;
        }
        let kind = (kind != FileType::Unknown).then(|| FileKind::from(kind));
        self.list.push(ListedName {
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
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], ListedName)> {
        self.list.iter().map(|name| (slice(&self.bytes, name), *name))
    }

    /// Whether there is such a name, and what the listing says of it.
    pub(super) fn find(&self, wanted: &[u8]) -> Option<ListedName> {
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

fn slice<'a>(bytes: &'a [u8], name: &ListedName) -> &'a [u8] {
    &bytes[name.start as usize..][..usize::from(name.length)]
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let (mut names, mut again) = (NameList::default(), NameList::default());
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
