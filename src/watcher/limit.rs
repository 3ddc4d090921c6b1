//! The system's limits on watching, as a named state with the way out of it.

use std::fmt;
use std::fs;
use std::io;

/// The file into which the command of [`WatchLimit`] writes the new limit.
const FILE: &str = "/etc/sysctl.d/60-knhk-test-cache.conf";

/// The resource that is exhausted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LimitKind {
    /// Watched folders of this user.
    Watches,
    /// Watchers (inotify instances) of this user.
    Instances,
    /// Open files of this process.
    OpenFiles,
}

/// A limit of the system was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WatchLimit {
    /// Which limit.
    pub kind: LimitKind,
    /// The limit now, if the system says so.
    pub current: Option<u64>,
    /// The need of this process alone. Other programs of the user take from the same limit, so
    /// more than this may be needed.
    pub needed_at_least: u64,
    /// The kernel's name for it; none for the limit on open files.
    pub sysctl: Option<&'static str>,
    /// The file in which a higher limit lasts over a restart.
    pub file: &'static str,
}

impl WatchLimit {
    /// The limit on watched folders, reached while `needed` were asked for.
    pub(super) fn watches(needed: u64) -> Self {
        Self::read(
            LimitKind::Watches,
            needed,
            [
                ("fs.inotify.max_user_watches", "/proc/sys/fs/inotify/max_user_watches"),
                ("user.max_inotify_watches", "/proc/sys/user/max_inotify_watches"),
            ],
        )
    }

    /// The limit behind `EMFILE` when a watcher is made: two limits have that one error.
    fn instances() -> Self {
        if let Err(error) = fs::File::open("/")
            && error.raw_os_error() == Some(libc::EMFILE)
        {
            let current = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
            let needed_at_least = current.unwrap_or(0) + 8;
            return Self {
                kind: LimitKind::OpenFiles,
                current,
                needed_at_least,
                sysctl: None,
                file: FILE,
            };
        }
        let mut limit = Self::read(
            LimitKind::Instances,
            1,
            [
                ("fs.inotify.max_user_instances", "/proc/sys/fs/inotify/max_user_instances"),
                ("user.max_inotify_instances", "/proc/sys/user/max_inotify_instances"),
            ],
        );
        limit.needed_at_least = limit.current.unwrap_or(0) + 1;
        limit
    }

    /// The limit behind an error of making a watcher, if one is.
    pub(super) fn behind(error: &io::Error) -> Option<Self> {
        (error.raw_os_error() == Some(libc::EMFILE)).then(Self::instances)
    }

    /// The smaller of the machine's limit and the user namespace's, which bind both.
    fn read(kind: LimitKind, needed_at_least: u64, sources: [(&'static str, &str); 2]) -> Self {
        let read = |file: &str| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
        let smallest = sources
            .iter()
            .filter_map(|(sysctl, file)| Some((read(file)?, *sysctl)))
            .min_by_key(|(value, _)| *value);
        Self {
            kind,
            current: smallest.map(|(value, _)| value),
            needed_at_least,
            sysctl: Some(smallest.map_or(sources[0].0, |(_, sysctl)| sysctl)),
            file: FILE,
        }
    }

    /// The command that raises the limit now and for good, with room for the other programs
    /// that share it.
    #[must_use]
    pub(crate) fn command(&self) -> String {
        let needed = self.current.unwrap_or(0).saturating_add(self.needed_at_least);
        let least = if self.kind == LimitKind::Watches { 524_288 } else { 1024 };
        let value = needed.next_power_of_two().max(least);
        match self.sysctl {
            Some(name) => {
                format!("echo {name}={value} | sudo tee {0} && sudo sysctl -p {0}", self.file)
            }
            None => format!("ulimit -n {value}"),
        }
    }
}

impl fmt::Display for WatchLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            LimitKind::Watches => "watched folders a user may have",
            LimitKind::Instances => "file watchers a user may have",
            LimitKind::OpenFiles => "files a process may have open",
        };
        write!(f, "the system's limit on {what} is reached (")?;
        if let Some(name) = self.sysctl {
            write!(f, "{name} ")?;
        }
        match self.current {
            Some(current) => write!(f, "is {current}")?,
            None => write!(f, "is unknown")?,
        }
        let command = self.command();
        write!(f, ", this needs at least {}): raise it with `{command}`", self.needed_at_least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_the_limit_and_the_command() {
        let limit = WatchLimit {
            kind: LimitKind::Watches,
            current: Some(8192),
            needed_at_least: 10_001,
            sysctl: Some("fs.inotify.max_user_watches"),
            file: FILE,
        };
        assert_eq!(
            limit.to_string(),
            "the system's limit on watched folders a user may have is reached \
             (fs.inotify.max_user_watches is 8192, this needs at least 10001): raise it with \
             `echo fs.inotify.max_user_watches=524288 | \
             sudo tee /etc/sysctl.d/60-knhk-test-cache.conf && \
             sudo sysctl -p /etc/sysctl.d/60-knhk-test-cache.conf`"
        );
    }

    #[test]
    fn the_command_always_raises_and_never_lowers() {
        for current in [Some(8192), Some(524_288), Some(3_000_000), None] {
            let limit = WatchLimit {
                kind: LimitKind::Watches,
                current,
                needed_at_least: 10,
                sysctl: Some("s"),
                file: FILE,
            };
            let command = limit.command();
            let value = command.split(['=', ' ']).nth(2).unwrap().parse::<u64>().unwrap();
            assert!(value > current.unwrap_or(0), "{command}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_current_limit_is_read_from_the_system() {
        assert!(WatchLimit::watches(7).current.is_some_and(|current| current > 0));
        assert_eq!(WatchLimit::behind(&io::Error::from_raw_os_error(libc::ENOENT)), None);
    }
}
