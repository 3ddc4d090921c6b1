//! Notices that something was mounted or unmounted, which no file event tells.

#[cfg(target_os = "linux")]
pub(super) use linux::Mounts;
#[cfg(not(target_os = "linux"))]
pub(super) use other::Mounts;

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    /// The kernel's list of mounts, kept open: one `poll` says whether it changed.
    #[derive(Debug)]
    pub(crate) struct Mounts(Option<File>);

    impl Mounts {
        pub(crate) fn new() -> Self {
            Self(File::open("/proc/self/mountinfo").ok())
        }

        /// Whether a mount came or went since the last call. `true` where that is not known.
        pub(crate) fn changed(&mut self) -> bool {
            let Some(file) = &self.0 else { return true };
            let mut fds = [PollFd::new(file, PollFlags::PRI)];
            match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
                Ok(_) => fds[0].revents().intersects(PollFlags::PRI | PollFlags::ERR),
                Err(_) => true,
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    /// Where the system has no such list, the caller's look at the top folders must do.
    #[derive(Debug)]
    pub(crate) struct Mounts;

    impl Mounts {
        pub(crate) fn new() -> Self {
            Self
        }

        pub(crate) fn changed(&mut self) -> bool {
            false
        }
    }
}
