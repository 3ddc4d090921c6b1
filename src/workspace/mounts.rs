//! The list of mounted file systems: what the kernel says of each, and what follows from it.

#[cfg(target_os = "linux")]
pub(crate) use linux::{MountWatch, Mounted, overlay_layers};
#[cfg(target_os = "linux")]
pub(super) use linux::{boot, has_foreign_clock, id_of, is_exchangeable};
#[cfg(not(target_os = "linux"))]
pub(crate) use other::*;

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeSet;
    use std::ffi::OsString;
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::ffi::OsStringExt as _;
    use std::path::PathBuf;
    use std::sync::{LazyLock, Mutex, PoisonError};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fs::{AtFlags, StatxFlags, major, makedev, statx};
    use rustix::path::Arg;

    const LIST: &str = "/proc/self/mountinfo";

    /// Kernel file systems without a block device of their own that take their times from this
    /// machine's clock. Every other one may take them from elsewhere: a server, a host, a program.
    const OWN_CLOCK: &[&[u8]] = &[
        b"bcachefs",
        b"btrfs",
        b"devtmpfs",
        b"ecryptfs",
        b"hugetlbfs",
        b"overlay",
        b"ramfs",
        b"tmpfs",
        b"zfs",
    ];

    /// Block devices whose content can be exchanged under the same number: floppies, loop
    /// devices, optical drives, network block devices.
    const EXCHANGEABLE: &[u32] = &[2, 7, 11, 43];

    /// Asks `statx` for a number that no later mount of this boot has (since Linux 6.8).
    const UNIQUE_MOUNT: StatxFlags = StatxFlags::from_bits_retain(0x4000);

    /// One mount.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Mount {
        /// Its number: one mount may lie over another at the same place.
        id: Vec<u8>,
        device: u64,
        point: PathBuf,
        file_system: Vec<u8>,
    }

    /// All mounts; `None` if the kernel does not say.
    fn all() -> Option<BTreeSet<Mount>> {
        let list = std::fs::read(LIST).ok()?;
        Some(list.split(|byte| *byte == b'\n').filter_map(mount).collect())
    }

    /// `36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
    fn mount(line: &[u8]) -> Option<Mount> {
        let mut fields = line.split(|byte| *byte == b' ');
        let id = fields.next()?.to_vec();
        let device = std::str::from_utf8(fields.nth(1)?).ok()?;
        let (major, minor) = device.split_once(':')?;
        let device = makedev(major.parse().ok()?, minor.parse().ok()?);
        let point = unescaped(fields.nth(1)?);
        let file_system = fields.skip_while(|field| *field != b"-").nth(1)?.to_vec();
        Some(Mount { id, device, point, file_system })
    }

    /// The folders that the overlay file system with this device is made of, as far as the kernel
    /// names them. A relative one was named from a folder that nobody knows any more.
    pub(crate) fn overlay_layers(device: u64) -> Vec<PathBuf> {
        let list = std::fs::read(LIST).unwrap_or_default();
        let lines = list.split(|byte| *byte == b'\n');
        let of_device = |line: &&[u8]| mount(line).is_some_and(|mount| mount.device == device);
        lines.filter(of_device).flat_map(layers).collect()
    }

    /// What stands after `lowerdir=` and `upperdir=` in a line of the list. The layers of a root are
    /// those of a container: where they are relative, they lie outside of it.
    fn layers(line: &[u8]) -> Vec<PathBuf> {
        let is_root = mount(line).is_some_and(|mount| mount.point == *"/");
        const LAYERS: [&[u8]; 4] = [b"lowerdir", b"lowerdir+", b"upperdir", b"datadir+"];
        let fields = line.split(|byte| *byte == b' ').skip_while(|field| *field != b"-");
        let options = fields.skip(3).flat_map(|field| field.split(|byte| *byte == b','));
        let values = options.filter_map(|option| {
            let equals = option.iter().position(|byte| *byte == b'=')?;
            LAYERS.contains(&&option[..equals]).then(|| &option[equals + 1..])
        });
        let folders = values.flat_map(|value| value.split(|byte| *byte == b':'));
        let folders = folders.filter(|folder| !folder.is_empty()).map(unescaped);
        folders.filter(|folder| folder.is_absolute() || !is_root).collect()
    }

    /// Spaces, tabs, line ends and backslashes stand there in octal.
    fn unescaped(field: &[u8]) -> PathBuf {
        let mut name = Vec::with_capacity(field.len());
        let mut rest = field;
        while let Some((&byte, after)) = rest.split_first() {
            let digits = after.get(..3).filter(|_| byte == b'\\');
            let code = digits
                .and_then(|digits| std::str::from_utf8(digits).ok())
                .and_then(|digits| u8::from_str_radix(digits, 8).ok());
            name.push(code.unwrap_or(byte));
            rest = if code.is_some() { &after[3..] } else { after };
        }
        OsString::from_vec(name).into()
    }

    /// The kernel's list of mounts, kept open: one `poll` says whether it changed.
    #[derive(Debug)]
    struct ListFile(Option<File>);

    impl ListFile {
        fn open() -> Self {
            Self(File::open(LIST).ok())
        }

        /// Whether anything was mounted or unmounted since the last call; `None` if that is not
        /// known.
        fn has_changed(&self) -> Option<bool> {
            let mut fds = [PollFd::new(self.0.as_ref()?, PollFlags::PRI)];
            poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).ok()?;
            Some(fds[0].revents().intersects(PollFlags::PRI | PollFlags::ERR))
        }
    }

    /// What has been mounted and unmounted since the last look.
    #[derive(Debug, PartialEq, Eq)]
    pub(crate) enum Mounted {
        Nothing,
        /// At these places, and perhaps others that came and went meanwhile.
        At(Vec<PathBuf>),
        /// It cannot be told where.
        Unknown,
    }

    /// Notices that something was mounted or unmounted, which no file event tells.
    #[derive(Debug)]
    pub(crate) struct MountWatch {
        list: ListFile,
        known: BTreeSet<Mount>,
    }

    impl MountWatch {
        pub(crate) fn new() -> Self {
            let list = ListFile::open();
            // What was mounted before is no change.
            let _ = list.has_changed();
            Self { list, known: all().unwrap_or_default() }
        }

        /// What came or went since the last call.
        pub(crate) fn changed(&mut self) -> Mounted {
            match self.list.has_changed() {
                Some(false) => return Mounted::Nothing,
                Some(true) => {}
                None => return Mounted::Unknown,
            }
            let Some(now) = all() else { return Mounted::Unknown };
            let before = std::mem::replace(&mut self.known, now);
            let changed = before.symmetric_difference(&self.known);
            Mounted::At(changed.map(|mount| mount.point.clone()).collect())
        }
    }

    /// The devices of mounts whose times may come from another machine's clock.
    struct ForeignClocks {
        list: ListFile,
        devices: BTreeSet<u64>,
    }

    impl ForeignClocks {
        fn new() -> Self {
            let list = ListFile::open();
            let _ = list.has_changed();
            Self { list, devices: foreign(&all().unwrap_or_default()) }
        }

        fn hold(&mut self, device: u64) -> bool {
            match self.list.has_changed() {
                Some(false) => {}
                Some(true) => self.devices = foreign(&all().unwrap_or_default()),
                None => return true,
            }
            self.devices.contains(&device)
        }
    }

    fn foreign(mounts: &BTreeSet<Mount>) -> BTreeSet<u64> {
        let foreign = |mount: &&Mount| !OWN_CLOCK.contains(&&*mount.file_system);
        mounts.iter().filter(foreign).map(|mount| mount.device).collect()
    }

    /// Whether files of this device may have their times from another machine's clock. A file
    /// system on a block device has them from ours; so have subvolumes and the layers of an
    /// overlay, which are on no list.
    pub(in crate::workspace) fn has_foreign_clock(device: u64) -> bool {
        static KNOWN: LazyLock<Mutex<ForeignClocks>> =
            LazyLock::new(|| Mutex::new(ForeignClocks::new()));
        major(device) == 0 && KNOWN.lock().unwrap_or_else(PoisonError::into_inner).hold(device)
    }

    /// Whether another medium can appear under the device's number.
    pub(in crate::workspace) fn is_exchangeable(device: u64) -> bool {
        EXCHANGEABLE.contains(&major(device))
    }

    /// The number of the mount that leads to a file; `None` if the kernel is too old to say.
    pub(in crate::workspace) fn id_of(
        folder: impl AsFd,
        name: impl Arg,
        flags: AtFlags,
    ) -> Option<u64> {
        let raw = statx(folder, name, flags, UNIQUE_MOUNT).ok()?;
        (raw.stx_mask & UNIQUE_MOUNT.bits() != 0).then_some(raw.stx_mnt_id)
    }

    /// A number of this boot: numbers of mounts begin anew with each.
    pub(in crate::workspace) fn boot() -> u64 {
        static BOOT: LazyLock<u64> = LazyLock::new(|| {
            let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
            let digits = id.map(|id| id.replace('-', "")).unwrap_or_default();
            digits.get(..16).and_then(|id| u64::from_str_radix(id, 16).ok()).unwrap_or_default()
        });
        *BOOT
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn lines_are_read_as_the_kernel_writes_them() {
            let line = b"36 35 8:1 /a /b\\040c\\134d\\x rw shared:7 master:1 - ext4 /dev/sda1 rw";
            let expected = Mount {
                id: b"36".to_vec(),
                device: makedev(8, 1),
                point: PathBuf::from("/b c\\d\\x"),
                file_system: b"ext4".to_vec(),
            };
            assert_eq!(mount(line), Some(expected));
            assert_eq!(mount(b""), None);
            assert!(all().unwrap().iter().any(|mount| mount.point == *"/"));
        }

        #[test]
        fn the_layers_of_an_overlay_are_named() {
            let line =
                b"9 1 0:9 / /m rw - overlay none rw,lowerdir=/a\\040b:/c,upperdir=/u,workdir=/w";
            assert_eq!(layers(line), ["/a b", "/c", "/u"].map(PathBuf::from));
            let line = b"9 1 0:9 / /m rw - overlay none rw,lowerdir+=/a,lowerdir+=/c,datadir+=/d";
            assert_eq!(layers(line), ["/a", "/c", "/d"].map(PathBuf::from));
            assert!(layers(b"9 1 8:1 / / rw - ext4 /dev/sda1 rw").is_empty());
            let relative = b"9 1 0:9 / /m rw - overlay none rw,lowerdir=a,upperdir=/u";
            assert_eq!(layers(relative), ["a", "/u"].map(PathBuf::from));
            let root = b"9 1 0:9 / / rw - overlay none rw,lowerdir=1/fs:2/fs,upperdir=/u";
            assert_eq!(layers(root), [PathBuf::from("/u")]);
        }

        #[test]
        fn a_list_that_cannot_be_opened_leaves_changes_unknown() {
            let mut watch = MountWatch { list: ListFile(None), known: BTreeSet::new() };
            assert_eq!(watch.changed(), Mounted::Unknown);
            assert_eq!(MountWatch::new().changed(), Mounted::Nothing);
            let mut clocks = ForeignClocks { list: ListFile(None), devices: BTreeSet::new() };
            assert!(clocks.hold(1));
        }

        #[test]
        fn only_the_clocks_of_kernel_file_systems_are_ours() {
            let list = [
                ("nfs4", 50),
                ("fuse.sshfs", 51),
                ("virtiofs", 52),
                ("9p", 53),
                ("never-heard-of", 54),
                ("tmpfs", 55),
                ("overlay", 56),
                ("btrfs", 57),
            ];
            let mounts = list.map(|(file_system, minor)| Mount {
                id: Vec::new(),
                device: makedev(0, minor),
                point: PathBuf::new(),
                file_system: file_system.into(),
            });
            let expected = [50, 51, 52, 53, 54].map(|minor| makedev(0, minor));
            assert_eq!(foreign(&mounts.into()), expected.into());
            assert!(!has_foreign_clock(makedev(8, 1)), "a disk");
        }

        #[test]
        fn every_mount_has_a_number() {
            let id = || id_of(rustix::fs::CWD, c"/", AtFlags::empty());
            assert_eq!(id(), id());
            assert_ne!(boot(), 0);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use std::os::fd::AsFd;
    use std::path::PathBuf;

    use rustix::fs::AtFlags;
    use rustix::path::Arg;

    /// What has been mounted and unmounted since the last look.
    #[derive(Debug, PartialEq, Eq)]
    pub(crate) enum Mounted {
        Nothing,
        At(Vec<PathBuf>),
        Unknown,
    }

    /// Where the system has no such list, the caller's look at the top folders must do.
    #[derive(Debug)]
    pub(crate) struct MountWatch;

    impl MountWatch {
        pub(crate) fn new() -> Self {
            Self
        }

        pub(crate) fn changed(&mut self) -> Mounted {
            Mounted::Nothing
        }
    }

    pub(crate) fn overlay_layers(_device: u64) -> Vec<PathBuf> {
        Vec::new()
    }

    pub(crate) fn has_foreign_clock(_device: u64) -> bool {
        false
    }

    pub(crate) fn is_exchangeable(_device: u64) -> bool {
        false
    }

    pub(crate) fn id_of(_folder: impl AsFd, _name: impl Arg, _flags: AtFlags) -> Option<u64> {
        None
    }

    pub(crate) fn boot() -> u64 {
        0
    }
}
