//! Whether a file system reports every change that is made to it.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::workspace::overlay_layers;

/// Whether the events of a file system can be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileSystemTrust {
    /// Every change is made through this kernel, which reports it.
    Yes,
    /// Changes may come from elsewhere (a server, a host, a user-space file system) without an
    /// event: every question needs a full stat scan.
    No {
        /// The file system's name, or its magic number where that is not known.
        file_system: String,
    },
}

/// Whether the events of the file system on which `path` lies can be trusted.
///
/// A file system that is not known is not trusted.
///
/// # Errors
/// If the system cannot say, mostly because `path` is not there.
pub(crate) fn events_are_trustworthy(path: &Path) -> io::Result<FileSystemTrust> {
    let stat = rustix::fs::statfs(path)?;
    let trust = platform::trust(&stat);
    if trust == FileSystemTrust::Yes && platform::is_overlay(&stat) {
        let layers = overlay_layers(path.metadata()?.dev());
        return Ok(trust_in_overlay(&layers));
    }
    Ok(trust)
}

/// An overlay reports what is changed through it, and nothing that is changed in the folders that
/// it is made of. In a container those are out of reach, and it can be trusted. A relative layer may
/// lie anywhere.
fn trust_in_overlay(layers: &[PathBuf]) -> FileSystemTrust {
    if layers.iter().any(|layer| layer.is_relative() || layer.is_dir()) {
        FileSystemTrust::No { file_system: "overlayfs".to_owned() }
    } else {
        FileSystemTrust::Yes
    }
}

#[cfg(target_os = "linux")]
mod platform {
    use super::FileSystemTrust;

    const OVERLAY: u32 = 0x794c_7630;

    /// Local file systems of the kernel: all changes pass through its notification hooks.
    /// Read-only ones have no changes to report.
    const LOCAL: &[u32] = &[
        0x0000_ef53, // ext2, ext3, ext4
        0x9123_683e, // btrfs
        0x5846_5342, // xfs
        0x0102_1994, // tmpfs
        0x8584_58f6, // ramfs
        0x2fc1_2fc1, // zfs
        0xf2f5_2010, // f2fs
        0xca45_1a4e, // bcachefs
        OVERLAY,
        0xe0f5_e1e2, // erofs
        0x7371_7368, // squashfs
        0x3153_464a, // jfs
        0x0000_3434, // nilfs2
        0x5265_4973, // reiserfs
        0x0000_9660, // iso9660
        0x1501_3346, // udf
        0x0000_4d44, // vfat
        0x2011_bab0, // exfat
        0x7366_746e, // ntfs3
        0x0000_f15f, // ecryptfs
    ];

    /// Names for those that people meet and that are not trusted.
    const ELSEWHERE: &[(u32, &str)] = &[
        (0x0000_6969, "nfs"),
        (0x0000_517b, "smb"),
        (0xff53_4d42, "cifs"),
        (0xfe53_4d42, "smb2"),
        (0x0102_1997, "9p"),
        (0x6573_5546, "fuse"),
        (0x786f_4256, "vboxsf"),
        (0x00c3_6400, "ceph"),
        (0x5346_414f, "afs"),
        (0x6b41_4653, "afs"),
        (0x7375_7245, "coda"),
        (0x0116_1970, "gfs2"),
        (0x7461_636f, "ocfs2"),
        (0x0bd0_0bd0, "lustre"),
        (0x0000_9fa0, "proc"),
        (0x6265_6572, "sysfs"),
    ];

    pub(super) fn trust(stat: &rustix::fs::StatFs) -> FileSystemTrust {
        // The field is as wide as the platform's long; the magic numbers have 32 bits.
        of_magic(stat.f_type as u32)
    }

    pub(super) fn is_overlay(stat: &rustix::fs::StatFs) -> bool {
        stat.f_type as u32 == OVERLAY
    }

    pub(super) fn of_magic(magic: u32) -> FileSystemTrust {
        if LOCAL.contains(&magic) {
            return FileSystemTrust::Yes;
        }
        let name = ELSEWHERE.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name);
        FileSystemTrust::No {
            file_system: name.map_or_else(|| format!("{magic:#010x}"), str::to_owned),
        }
    }
}

#[cfg(target_os = "macos")]
mod platform {
    use super::FileSystemTrust;

    pub(super) fn is_overlay(_stat: &rustix::fs::StatFs) -> bool {
        false
    }

    pub(super) fn trust(stat: &rustix::fs::StatFs) -> FileSystemTrust {
        let name: Vec<u8> =
            stat.f_fstypename.iter().map(|&c| c as u8).take_while(|&c| c != 0).collect();
        match name.as_slice() {
            b"apfs" | b"hfs" => FileSystemTrust::Yes,
            other => {
                FileSystemTrust::No { file_system: String::from_utf8_lossy(other).into_owned() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(events_are_trustworthy(&dir.path().join("missing")).is_err());
    }

    #[test]
    fn an_overlay_is_trusted_where_its_layers_are_out_of_reach() {
        let dir = tempfile::tempdir().unwrap();
        let away = PathBuf::from("/nonexistent/overlay2/l/ABC");
        assert_eq!(trust_in_overlay(&[]), FileSystemTrust::Yes);
        assert_eq!(trust_in_overlay(std::slice::from_ref(&away)), FileSystemTrust::Yes);
        let no = FileSystemTrust::No { file_system: "overlayfs".to_owned() };
        assert_eq!(trust_in_overlay(&[away, dir.path().to_owned()]), no);
        assert_eq!(trust_in_overlay(&[PathBuf::from("lower")]), no);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_a_process_or_a_device_shows_is_not_trusted() {
        let no = |name: &str| FileSystemTrust::No { file_system: name.to_owned() };
        assert_eq!(events_are_trustworthy(Path::new("/proc")).unwrap(), no("proc"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn local_file_systems_are_trusted_and_the_rest_is_named() {
        use super::platform::of_magic;
        for local in [0xef53, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0xf2f5_2010] {
            assert_eq!(of_magic(local), FileSystemTrust::Yes, "{local:#x}");
        }
        for (magic, name) in [
            (0x6969, "nfs"),
            (0xff53_4d42, "cifs"),
            (0x0102_1997, "9p"),
            (0x6573_5546, "fuse"),
            (0x1234_5678, "0x12345678"),
        ] {
            assert_eq!(of_magic(magic), FileSystemTrust::No { file_system: name.to_owned() });
        }
    }
}
