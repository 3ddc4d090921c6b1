//! Limits where a child can write, by Landlock (Linux 5.19 and newer).

#![cfg_attr(target_os = "linux", expect(unsafe_code, reason = "the kernel's own interface"))]

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

/// The folders in which a child can write; nowhere else.
#[derive(Clone, Debug)]
pub(crate) struct WritableFolders(Arc<OwnedFd>);

impl WritableFolders {
    /// These folders and all below them, and devices.
    ///
    /// # Errors
    /// If the kernel cannot limit a process so, or there is no such folder.
    pub(crate) fn only(folders: &[&Path]) -> io::Result<Self> {
        landlock::rules(folders).map(|rules| Self(Arc::new(rules)))
    }

    /// Limits the calling process, for ever. Between fork and exec: it makes system calls only.
    pub(super) fn enter(&self) -> io::Result<()> {
        landlock::enter(&self.0)
    }
}

#[cfg(not(target_os = "linux"))]
mod landlock {
    use super::{OwnedFd, Path, io};

    pub(super) fn rules(_: &[&Path]) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn enter(_: &OwnedFd) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(target_os = "linux")]
mod landlock {
    use std::fs::File;
    use std::os::fd::{AsRawFd as _, FromRawFd as _};
    use std::os::unix::fs::OpenOptionsExt as _;

    use super::{OwnedFd, Path, io};

    /// The version of the interface that lets a file get another folder.
    const WITH_MOVES: libc::c_long = 2;
    /// The version that knows truncation.
    const WITH_TRUNCATION: libc::c_long = 3;
    /// Writing into files.
    const WRITE: u64 = 1 << 1;
    /// Removing and making whatever there is: bits 4 to 12.
    const REMOVE_AND_MAKE: u64 = 0x1ff0;
    const MOVE: u64 = 1 << 13;
    const TRUNCATE: u64 = 1 << 14;
    const QUERY_VERSION: libc::c_ulong = 1;
    const RULE_BELOW_PATH: libc::c_long = 1;
    /// Terminals and `/dev/null` are nobody's files.
    const DEVICES: &str = "/dev";

    /// The kernel's form of a rule.
    #[repr(C, packed)]
    struct PathRule {
        access: u64,
        folder: i32,
    }

    pub(super) fn rules(folders: &[&Path]) -> io::Result<OwnedFd> {
        let create = libc::SYS_landlock_create_ruleset;
        // SAFETY: no pointer is passed.
        let version = unsafe { libc::syscall(create, 0_usize, 0_usize, QUERY_VERSION) };
        if version < WITH_MOVES {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel has no Landlock"));
        }
        let truncation = if version < WITH_TRUNCATION { 0 } else { TRUNCATE };
        let access: u64 = WRITE | REMOVE_AND_MAKE | MOVE | truncation;
        // SAFETY: the kernel reads the number, whose size is given.
        let rules = unsafe { libc::syscall(create, &raw const access, size_of::<u64>(), 0_usize) };
        let rules = i32::try_from(rules).ok().filter(|rules| *rules >= 0);
        let rules = rules.ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the kernel made this descriptor for us, and nobody else knows it.
        let rules = unsafe { OwnedFd::from_raw_fd(rules) };
        for folder in folders.iter().copied().chain([Path::new(DEVICES)]) {
            let opened = File::options().read(true).custom_flags(libc::O_PATH).open(folder)?;
            let rule = PathRule { access, folder: opened.as_raw_fd() };
            let (number, kind) = (libc::SYS_landlock_add_rule, RULE_BELOW_PATH);
            // SAFETY: the rule lives until the call returns.
            let added =
                unsafe { libc::syscall(number, rules.as_raw_fd(), kind, &raw const rule, 0_usize) };
            if added != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(rules)
    }

    pub(super) fn enter(rules: &OwnedFd) -> io::Result<()> {
        let number = libc::SYS_landlock_restrict_self;
        // SAFETY: only numbers are passed.
        let is_limited = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::syscall(number, rules.as_raw_fd(), 0_usize) == 0
        };
        if is_limited { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::process::{Environment, Spec, capture};

    #[test]
    fn a_child_writes_into_these_folders_only_and_reads_everything() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["open", "shut"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        std::fs::write(dir.path().join("shut/file"), "1").unwrap();
        let open = dir.path().join("open");
        let folders = match WritableFolders::only(&[&open]) {
            Ok(folders) => folders,
            Err(error) => return eprintln!("left out: {error}"),
        };
        let environment = Environment::of(&[("PATH", "/usr/local/bin:/usr/bin:/bin")]);
        let run = |script: &str| {
            let spec = Spec::new("sh", dir.path(), environment.clone()).args(["-c", script]);
            let spec = spec.writes_only_in(&folders);
            capture(&spec, Duration::from_secs(60)).unwrap().success()
        };
        assert!(run("cat shut/file > open/file && echo 2 > open/file && mkdir open/dir"));
        assert!(run("mv open/file open/dir/file && echo > /dev/null && rm -r open/dir"));
        for script in ["echo 2 > shut/file", "rm shut/file", "mkdir shut/dir", "mv shut/file open"]
        {
            assert!(!run(script), "{script}");
        }
        assert_eq!(std::fs::read_to_string(dir.path().join("shut/file")).unwrap(), "1");
        assert!(WritableFolders::only(&[&dir.path().join("none")]).is_err());
    }
}
