//! Notices that something was mounted or unmounted, which no file event tells.

use std::path::PathBuf;

#[cfg(target_os = "linux")]
pub(super) use linux::Mounts;
#[cfg(not(target_os = "linux"))]
pub(super) use other::Mounts;

/// What has been mounted and unmounted since the last look.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mounted {
    Nothing,
    /// At these places, and perhaps others that came and went meanwhile.
    At(Vec<PathBuf>),
    /// It cannot be told where.
    Unknown,
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeSet;
    use std::ffi::OsString;
    use std::fs::File;
    use std::os::unix::ffi::OsStringExt as _;
    use std::path::PathBuf;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::Mounted;

    const LIST: &str = "/proc/self/mountinfo";

    /// The kernel's list of mounts, kept open: one `poll` says whether it changed.
    #[derive(Debug)]
    pub(crate) struct Mounts {
        file: Option<File>,
        /// Each with its number: one may lie over another.
        points: BTreeSet<(Vec<u8>, PathBuf)>,
    }

    impl Mounts {
        pub(crate) fn new() -> Self {
            let file = File::open(LIST).ok();
            Self { file, points: points().unwrap_or_default() }
        }

        /// What came or went since the last call.
        pub(crate) fn changed(&mut self) -> Mounted {
            let Some(file) = &self.file else { return Mounted::Unknown };
            let mut fds = [PollFd::new(file, PollFlags::PRI)];
            match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
                Ok(_) if !fds[0].revents().intersects(PollFlags::PRI | PollFlags::ERR) => {
                    return Mounted::Nothing;
                }
                Ok(_) => {}
                Err(_) => return Mounted::Unknown,
            }
            let Some(now) = points() else { return Mounted::Unknown };
            let before = std::mem::replace(&mut self.points, now);
            let changed = before.symmetric_difference(&self.points);
            Mounted::At(changed.map(|(_, point)| point.clone()).collect())
        }
    }

    /// Where something is mounted.
    fn points() -> Option<BTreeSet<(Vec<u8>, PathBuf)>> {
        let list = std::fs::read(LIST).ok()?;
        let lines = list.split(|byte| *byte == b'\n');
        let point = |line: &[u8]| {
            let mut fields = line.split(|byte| *byte == b' ');
            Some((fields.next()?.to_vec(), unescaped(fields.nth(3)?)))
        };
        Some(lines.filter_map(point).collect())
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

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn names_are_read_as_the_kernel_writes_them() {
            assert_eq!(unescaped(b"/a\\040b\\134c\\x"), PathBuf::from("/a b\\c\\x"));
            assert!(points().unwrap().iter().any(|(_, point)| *point == *"/"));
            assert_eq!(Mounts { file: None, points: BTreeSet::new() }.changed(), Mounted::Unknown);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use super::Mounted;

    /// Where the system has no such list, the caller's look at the top folders must do.
    #[derive(Debug)]
    pub(crate) struct Mounts;

    impl Mounts {
        pub(crate) fn new() -> Self {
            Self
        }

        pub(crate) fn changed(&mut self) -> Mounted {
            Mounted::Nothing
        }
    }
}
