//! Could a file have changed behind its stamp? The one answer, for every part of this program.
//!
//! A [`Stamp`] is everything that `stat` says of a file. A digest that was computed once holds for
//! as long as the stamp stays the same, so that no file is read twice. That is only true of a
//! *settled* stamp: one so old, when the file was read, that every later change must give another
//! one. [`Stamp::is_settled`] decides that. A file whose stamp is not settled is read again.
//!
//! How old a stamp must be depends on the clock that made it:
//!
//! - The kernel stamps files by a coarse clock, which advances once a tick (at most every 10 ms)
//!   and lags behind the clock that programs read. Two writes within one tick leave one stamp. A
//!   write also sets the times before it stores the bytes. Ext4, xfs, btrfs, tmpfs and most others
//!   keep these times in full: [`TICK_MARGIN`].
//! - FAT keeps times of two seconds, HFS+ and old ext3 of one, exFAT of 10 ms. A change time that
//!   is no whole number of milliseconds proves a finer file system: nobody can choose a file's
//!   change time. All others: [`COARSE_MARGIN`].
//! - On a network file system, or one that a program serves, another machine's clock may have made
//!   the stamp, and may be late: [`FOREIGN_CLOCK_MARGIN`].
//! - A stamp in the future is never settled: a clock was set back, or the time was chosen.
//!
//! The modification time counts as well as the change time, because FAT has no change time.
//!
//! A stamp names the device, because inode numbers, sizes and times can be equal on two of them.
//! A loop device or a drive with removable media keeps its number when its content is exchanged
//! for another image, so there the mount counts too.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{self, AtFlags, CWD, FileType, RawMode, Stat};
use rustix::io::Errno;
use rustix::path::Arg;
use serde::{Deserialize, Serialize};

use super::mounts;

/// The least age of a settled stamp where times are kept in full.
const TICK_MARGIN: Duration = Duration::from_millis(25);
/// The same where times may be as coarse as two seconds.
const COARSE_MARGIN: Duration = Duration::from_millis(2_100);
/// The same where another machine's clock may have made the stamp. Kerberos, which network file
/// systems use, tolerates clocks that differ by five minutes.
const FOREIGN_CLOCK_MARGIN: Duration = Duration::from_secs(5 * 60);

/// A change time that is a multiple of this, in nanoseconds, may come from a coarse file system.
const COARSE_UNIT: i64 = 1_000_000;

/// The kinds of things that have a name in a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Folder,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// The name of a socket.
    Socket,
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// Nothing that this program knows.
    Odd,
}

impl From<FileType> for FileKind {
    fn from(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Folder,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice => Self::Character,
            FileType::BlockDevice => Self::Block,
            FileType::Unknown => Self::Odd,
        }
    }
}

/// Everything that the system says of a file without opening it. Equal stamps mean equal content
/// if the stamp was settled when the content was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Length in bytes.
    pub size: u64,
    /// When the content was last written: nanoseconds since the epoch. Anyone can set it.
    pub modified: i64,
    /// When the inode was last changed: nanoseconds since the epoch. Nobody can set it, short of
    /// setting the clock.
    pub changed: i64,
    /// The number within the file system.
    pub inode: u64,
    /// The file system; for exchangeable media, the mount of it.
    pub device: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// How many names lead to the file.
    pub links: u32,
    /// The owner.
    pub user: u32,
    /// The owner's group.
    pub group: u32,
}

impl Stamp {
    /// The stamp of `name` in an open folder, of the link itself where it is one.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn at(folder: impl AsFd, name: impl Arg + Copy) -> io::Result<Self> {
        Ok(look(folder, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// The stamp of what is at `path`, links followed.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn followed(path: &Path) -> io::Result<Self> {
        Ok(look(CWD, path, AtFlags::empty())?)
    }

    /// The stamp of an open file.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn open(file: impl AsFd) -> io::Result<Self> {
        let file = file.as_fd();
        Ok(Self::from_stat(&fs::fstat(file)?, || mounts::id_of(file, c"", AtFlags::EMPTY_PATH)))
    }

    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_lossless,
        reason = "the fields' types differ between platforms"
    )]
    fn from_stat(raw: &Stat, mount: impl FnOnce() -> Option<u64>) -> Self {
        Self {
            size: raw.st_size as u64,
            modified: nanoseconds(raw.st_mtime as i64, raw.st_mtime_nsec as i64),
            changed: nanoseconds(raw.st_ctime as i64, raw.st_ctime_nsec as i64),
            inode: raw.st_ino as u64,
            device: device(raw.st_dev as u64, mount),
            mode: raw.st_mode as u32,
            links: u32::try_from(raw.st_nlink).unwrap_or(u32::MAX),
            user: raw.st_uid,
            group: raw.st_gid,
        }
    }

    /// The kind of the file.
    #[must_use]
    pub(crate) fn kind(&self) -> FileKind {
        FileType::from_raw_mode(self.mode as RawMode).into()
    }

    /// The permission bits alone.
    #[must_use]
    pub(crate) const fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    /// Whether the owner may execute it: the one permission that git keeps, and the same for
    /// every umask.
    #[must_use]
    pub(crate) const fn is_executable(&self) -> bool {
        self.mode & 0o100 != 0
    }

    /// Whether a file that was read at `time` or later cannot have changed since without changing
    /// this stamp. `time` must have been taken before the stamp and the content.
    #[must_use]
    pub(crate) fn is_settled(&self, time: SystemTime) -> bool {
        // Most stamps are older than every margin, and need no look at the list of mounts.
        self.is_older(FOREIGN_CLOCK_MARGIN, time)
            || (self.is_older(self.margin(), time) && !mounts::has_foreign_clock(self.device))
    }

    fn margin(&self) -> Duration {
        if self.changed % COARSE_UNIT == 0 { COARSE_MARGIN } else { TICK_MARGIN }
    }

    /// Whether both times lie at least `margin` before `time`.
    fn is_older(&self, margin: Duration, time: SystemTime) -> bool {
        let age = since_epoch(time).saturating_sub(self.modified.max(self.changed));
        u64::try_from(age).is_ok_and(|age| Duration::from_nanos(age) >= margin)
    }

    /// The length of [`Self::to_bytes`].
    pub(crate) const BYTES: usize = 56;

    /// The stamp as bytes, for digests and files.
    #[must_use]
    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let Self { size, modified, changed, inode, device, mode, links, user, group } = self;
        let mut bytes = [0; Self::BYTES];
        let long = [size, modified.cast_unsigned(), changed.cast_unsigned(), inode, device];
        for (place, number) in bytes.chunks_exact_mut(8).zip(long) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        for (place, number) in bytes[40..].chunks_exact_mut(4).zip([mode, links, user, group]) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// The stamp from its bytes.
    #[must_use]
    pub(crate) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let (long, _) = bytes[..40].as_chunks().0.split_at(5);
        let long = |at: usize| u64::from_le_bytes(long[at]);
        let short = bytes[40..].as_chunks().0;
        let short = |at: usize| u32::from_le_bytes(short[at]);
        Self {
            size: long(0),
            modified: long(1).cast_signed(),
            changed: long(2).cast_signed(),
            inode: long(3),
            device: long(4),
            mode: short(0),
            links: short(1),
            user: short(2),
            group: short(3),
        }
    }

    /// The stamp of a folder as its parent's listing tells it: only what the listing holds.
    pub(crate) fn of_listed_folder(inode: u64) -> Self {
        Self { inode, mode: u32::from(FileType::Directory.as_raw_mode() as u16), ..Self::default() }
    }
}

/// The result of one look at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathStamp {
    /// Nothing is there, or something on the way is no folder.
    Absent,
    /// The system does not say; its error number.
    Unknown(i32),
    /// Something is there.
    Present(Stamp),
}

impl PathStamp {
    /// Looks at `path` itself: a symbolic link at its end is not followed.
    #[must_use]
    pub fn of(path: impl Arg + Copy) -> Self {
        look(CWD, path, AtFlags::SYMLINK_NOFOLLOW).into()
    }

    /// Looks at what `path` leads to, symbolic links followed.
    #[must_use]
    pub(crate) fn followed(path: impl Arg + Copy) -> Self {
        look(CWD, path, AtFlags::empty()).into()
    }

    /// The stamp, if something is there.
    #[must_use]
    pub(crate) const fn present(&self) -> Option<&Stamp> {
        match self {
            Self::Present(stamp) => Some(stamp),
            Self::Absent | Self::Unknown(_) => None,
        }
    }

    /// The kind of the file, if there is one.
    #[must_use]
    pub(crate) fn kind(&self) -> Option<FileKind> {
        self.present().map(Stamp::kind)
    }

    /// The stamp without the count of hard links and the time at which that changes, so that a hard
    /// link to a file makes no difference.
    #[must_use]
    pub(crate) fn without_links(self) -> Self {
        match self {
            Self::Present(stamp) => {
                Self::Present(Stamp { changed: stamp.modified, links: 1, ..stamp })
            }
            other => other,
        }
    }

    /// Whether nothing can have changed since `time` without showing; see [`Stamp::is_settled`].
    #[must_use]
    pub(crate) fn is_settled(&self, time: SystemTime) -> bool {
        match self {
            Self::Absent => true,
            Self::Unknown(_) => false,
            Self::Present(stamp) => stamp.is_settled(time),
        }
    }

    /// Whether what `path` leads to still is as it was when this stamp was taken, links followed.
    #[must_use]
    pub(crate) fn proves(&self, path: &Path) -> bool {
        !matches!(self, Self::Unknown(_)) && *self == Self::followed(path)
    }
}

impl From<rustix::io::Result<Stamp>> for PathStamp {
    fn from(stamp: rustix::io::Result<Stamp>) -> Self {
        match stamp {
            Ok(stamp) => Self::Present(stamp),
            Err(Errno::NOENT | Errno::NOTDIR) => Self::Absent,
            Err(error) => Self::Unknown(error.raw_os_error()),
        }
    }
}

/// How long it takes until everything at `paths` that was made a moment ago is settled, on a file
/// system that keeps times in full. Nothing, if waiting so long does not help.
#[must_use]
pub(crate) fn until_settled(paths: &[PathBuf], now: SystemTime) -> Duration {
    let changed = |path: &PathBuf| PathStamp::of(path).present().map(|stamp| stamp.changed);
    let age = |changed: i64| since_epoch(now).saturating_sub(changed);
    let youngest = paths.iter().filter_map(changed).map(age).min().unwrap_or(i64::MAX);
    // A millisecond more, for the timer that waits.
    let wanted = (TICK_MARGIN + Duration::from_millis(1)).as_nanos() as i64;
    let wait = Duration::from_nanos(wanted.saturating_sub(youngest).max(0).cast_unsigned());
    if wait <= 2 * TICK_MARGIN { wait } else { Duration::ZERO }
}

/// Whether nothing is at `path`, and no file stands where a folder on the way to it must be.
pub(crate) fn is_missing(path: &Path) -> bool {
    look(CWD, path, AtFlags::SYMLINK_NOFOLLOW).is_err_and(|error| error == Errno::NOENT)
}

fn look(folder: impl AsFd, name: impl Arg + Copy, flags: AtFlags) -> rustix::io::Result<Stamp> {
    let folder = folder.as_fd();
    let raw = fs::statat(folder, name, flags)?;
    Ok(Stamp::from_stat(&raw, || mounts::id_of(folder, name, flags)))
}

/// Saturates, so that a time beyond the range lies in the future and is never settled.
pub(crate) fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

fn since_epoch(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// The device's number; where its content can be exchanged under the same number, mixed with the
/// number of the mount, which no later mount has.
fn device(raw: u64, mount: impl FnOnce() -> Option<u64>) -> u64 {
    if !mounts::is_exchangeable(raw) {
        return raw;
    }
    mount().map_or(raw, |mount| mount.rotate_left(32) ^ mounts::boot() ^ raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const SECOND: i64 = 1_000_000_000;

    fn at(milliseconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(milliseconds)
    }

    /// The stamp of a file on a disk that was written and changed at these times.
    fn stamp(modified: i64, changed: i64) -> Stamp {
        let (mode, device) = (0o100_644, 0x801);
        Stamp { modified, changed, device, size: 1, inode: 2, mode, ..Stamp::default() }
    }

    #[test]
    fn a_stamp_is_settled_once_the_clock_that_made_it_must_have_advanced() {
        let fine = 10 * SECOND + 1_234_567;
        for stamp in [stamp(fine, fine), stamp(0, fine)] {
            assert!(!stamp.is_settled(at(10_020)) && stamp.is_settled(at(10_027)), "{stamp:?}");
        }
        assert!(!stamp(fine + SECOND, fine).is_settled(at(11_020)), "by both of its times");
        let coarse = stamp(10 * SECOND, 10 * SECOND);
        assert!(!coarse.is_settled(at(12_000)) && coarse.is_settled(at(12_100)));
        let tenths = stamp(10 * SECOND, 10 * SECOND + 120_000_000);
        assert!(!tenths.is_settled(at(10_500)), "of exFAT");
    }

    #[test]
    fn a_stamp_from_the_future_is_never_settled() {
        assert!(!stamp(10 * SECOND + 1, 10 * SECOND + 1).is_settled(at(9_000)));
        assert!(!stamp(i64::MAX, 1).is_settled(at(1_000_000)), "beyond what can be told");
        assert!(!stamp(nanoseconds(i64::MAX, 0), 1).is_settled(SystemTime::now()));
        assert!(stamp(i64::MIN, i64::MIN).is_settled(SystemTime::now()));
    }

    #[test]
    fn an_absent_path_is_settled_and_an_unknown_one_never() {
        assert!(PathStamp::Absent.is_settled(UNIX_EPOCH));
        assert!(!PathStamp::Unknown(5).is_settled(SystemTime::now()));
        assert!(!PathStamp::Unknown(2).proves(Path::new("/none")), "not even of the same error");
    }

    #[test]
    fn a_path_proves_itself_until_it_is_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("f"), dir.path().join("l"));
        assert_eq!(PathStamp::of(&file), PathStamp::Absent);
        std::fs::write(&file, "1").unwrap();
        symlink("f", &link).unwrap();
        let stamp = PathStamp::followed(&link);
        assert_eq!(stamp, PathStamp::of(&file));
        assert_eq!(stamp.kind(), Some(FileKind::File));
        assert_eq!(PathStamp::of(&link).kind(), Some(FileKind::Symlink));
        assert!(stamp.proves(&file) && stamp.proves(&link));
        let open = Stamp::open(std::fs::File::open(&file).unwrap()).unwrap();
        assert_eq!(PathStamp::Present(open), stamp);
        std::fs::write(&file, "22").unwrap();
        assert!(!stamp.proves(&file));
        assert_eq!(PathStamp::of(&file.join("below")), PathStamp::Absent);
    }

    #[test]
    fn every_part_of_a_stamp_counts_and_survives_as_bytes() {
        let numbers = |step: u64| Stamp {
            size: step,
            modified: -5,
            changed: 2 * step.cast_signed(),
            inode: 3 * step,
            device: 4 * step,
            mode: 0o100_755,
            links: 1,
            user: 7,
            group: 8,
        };
        let one = numbers(1);
        let others = [
            Stamp { size: 9, ..one },
            Stamp { modified: 9, ..one },
            Stamp { changed: 9, ..one },
            Stamp { inode: 9, ..one },
            Stamp { device: 9, ..one },
            Stamp { mode: 9, ..one },
            Stamp { links: 9, ..one },
            Stamp { user: 9, ..one },
            Stamp { group: 9, ..one },
        ];
        for other in others {
            assert_ne!(one, other);
            assert_ne!(one.to_bytes(), other.to_bytes());
            assert_eq!(Stamp::from_bytes(&other.to_bytes()), other);
        }
        assert_eq!(Stamp::from_bytes(&one.to_bytes()), one);
    }

    #[test]
    fn another_image_in_the_same_drive_is_another_device() {
        let disk = |mount| device(0x801, || Some(mount));
        assert_eq!(disk(1), disk(2), "a disk keeps its files however often it is mounted");
        #[cfg(target_os = "linux")]
        {
            let drive = |mount| device(rustix::fs::makedev(7, 0), || mount);
            assert_ne!(drive(Some(1)), drive(Some(2)));
            assert_eq!(drive(Some(1)), drive(Some(1)));
            assert_eq!(drive(None), drive(None));
        }
    }

    #[test]
    fn a_file_that_was_just_written_settles_after_the_wait() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().join("f"), dir.path().join("none")];
        assert_eq!(until_settled(&paths, SystemTime::now()), Duration::ZERO);
        std::fs::write(&paths[0], "").unwrap();
        let now = SystemTime::now();
        let wait = until_settled(&paths, now);
        let stamp = *PathStamp::of(&paths[0]).present().unwrap();
        if stamp.changed % COARSE_UNIT != 0 {
            assert!(stamp.is_settled(now + wait));
        }
        assert!(wait <= 2 * TICK_MARGIN);
        assert_eq!(until_settled(&paths, now + Duration::from_secs(1)), Duration::ZERO);
        assert_eq!(until_settled(&paths, now - Duration::from_secs(60)), Duration::ZERO);
    }
}
