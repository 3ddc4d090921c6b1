//! The result of an observation, as plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::PathClass;
use crate::workspace::{FileKind, PathStamp, Stamp};

/// Everything that one run consulted.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// All used paths, absolute and without symlinks, `.` and `..`. A symlink that was followed has
    /// an entry of its own. Files that the run made are here too.
    pub paths: BTreeMap<PathBuf, PathAccess>,
    /// Names of libraries for which the dynamic loader may have asked its cache: all that decides a run
    /// which has used the cache by [`Uses::ASKED`] only.
    pub libraries: BTreeSet<OsString>,
    /// Sockets outside the run that it connected to, or tried to.
    pub peers: BTreeSet<Peer>,
    /// Why something may be missing. If not empty, every file of the workspace counts.
    pub problems: BTreeSet<Problem>,
    /// How observation changed the run. If not empty, a failure must be repeated unobserved.
    pub interference: BTreeSet<Interference>,
    /// A process of the tree has written of a panic to its error output, or perhaps has.
    pub panicked: bool,
    /// A process of the tree was still alive when the observation ended.
    pub left_behind: bool,
    /// How many calls were notified, which is what the observation cost.
    pub calls: u64,
}

impl Observation {
    /// Whether everything that the run consulted is recorded.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.problems.is_empty() && self.interference.is_empty()
    }

    /// The paths whose state the run depends on.
    pub fn inputs(&self) -> impl Iterator<Item = (&Path, &PathAccess)> {
        self.paths.iter().filter(|(_, seen)| seen.is_input()).map(|(path, seen)| (&**path, seen))
    }

    /// The paths that were used in one of these ways.
    pub fn used(&self, uses: Uses) -> impl Iterator<Item = (&Path, &PathAccess)> {
        self.paths
            .iter()
            .filter(move |(_, seen)| seen.uses.any(uses))
            .map(|(path, seen)| (&**path, seen))
    }

    /// The paths that the run looked up and that did not exist.
    pub fn absent(&self) -> impl Iterator<Item = &Path> {
        self.inputs().filter(|(_, seen)| seen.first == PathStamp::Absent).map(|(path, _)| path)
    }

    /// Whether a process of the run read the file `program`, so that the digest of its loadable
    /// parts does not suffice. `program` must be without symlinks, as in [`Self::paths`].
    #[must_use]
    pub fn reads(&self, program: &Path) -> bool {
        self.paths.get(program).is_some_and(|seen| seen.uses.any(Uses::READ))
    }
}

/// One path and its uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathAccess {
    /// Its stamp when the run first used it, before the kernel executed that call.
    pub first: PathStamp,
    /// All uses. Uses of a thing after the run itself made it are not recorded.
    pub uses: Uses,
    /// The text of a symlink, or the content of a setting of the kernel.
    pub text: Option<Vec<u8>>,
    /// How its content can be described.
    pub class: PathClass,
}

impl PathAccess {
    /// Whether the run depends on it.
    #[must_use]
    pub(crate) fn is_input(&self) -> bool {
        self.uses.any(Uses::INPUT)
    }

    /// Whether the run used it only as scratch space: it looked whether the path existed, or listed
    /// a folder, and then removed, made or changed it. No content was read.
    ///
    /// It is still an input. A caller may ignore it below folders that hold only results (the
    /// target folder, the temporary folder), where it is a leftover of an earlier run.
    #[must_use]
    pub(crate) fn is_scratch(&self) -> bool {
        let content = Uses::READ.with(Uses::EXECUTED).with(Uses::ATTRIBUTES);
        let content = content.with(Uses::FOLLOWED).with(Uses::ASKED);
        self.uses.any(Uses::OUTPUT) && !self.uses.any(content)
    }

    /// Whether `now` is the same state, as far as the run's uses can tell. Of a folder that was
    /// not listed only kind, permissions and identity count: creating a file in it changes its times.
    #[must_use]
    pub(crate) fn holds(&self, now: &PathStamp) -> bool {
        match (&self.first, now) {
            (PathStamp::Unknown(_), _) | (_, PathStamp::Unknown(_)) => false,
            (PathStamp::Present(first), PathStamp::Present(now))
                if [first, now].iter().all(|stamp| stamp.kind() == FileKind::Folder)
                    && !self.uses.any(Uses::LISTED.with(Uses::ATTRIBUTES)) =>
            {
                let itself = |stamp: &Stamp| {
                    (stamp.mode, stamp.user, stamp.group, stamp.device, stamp.inode)
                };
                itself(first) == itself(now)
            }
            (first, now) => !self.is_input() || first == now,
        }
    }
}

/// A set of uses of a path.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Uses(u32);

impl Uses {
    /// It was opened for reading.
    pub const READ: Self = Self(1);
    /// A folder was listed, or removed if it was empty.
    pub const LISTED: Self = Self(1 << 1);
    /// Its existence, kind or metadata was looked up.
    pub const PROBED: Self = Self(1 << 2);
    /// It was executed, or is the interpreter of an executed file.
    pub const EXECUTED: Self = Self(1 << 3);
    /// A symlink was read or followed.
    pub const FOLLOWED: Self = Self(1 << 4);
    /// Its extended attributes were read, which no digest of content covers.
    pub(crate) const ATTRIBUTES: Self = Self(1 << 5);
    /// It did not exist, and the run made it.
    pub const CREATED: Self = Self(1 << 6);
    /// It existed, and the run replaced all of its content without reading it.
    pub(crate) const REPLACED: Self = Self(1 << 7);
    /// It existed, and the run opened it for writing or changed its metadata.
    pub(crate) const MODIFIED: Self = Self(1 << 8);
    /// The run removed it or renamed it away.
    pub(crate) const REMOVED: Self = Self(1 << 9);
    /// It was made by a call that succeeds only for a free name.
    pub(crate) const CLAIMED: Self = Self(1 << 10);
    /// It was made by a call that succeeds only for a free name or a writable file.
    pub const OVERWRITTEN: Self = Self(1 << 11);
    /// It was emptied by a call that succeeds only for an existing file.
    pub(crate) const REQUIRED: Self = Self(1 << 12);
    /// The run made a hard link to it.
    pub(crate) const LINKED: Self = Self(1 << 13);
    /// It is a Rust source, and another process of the run than the first opened it or looked it up.
    /// Only with [`ObserveOptions::tells_readers`](super::ObserveOptions::tells_readers).
    pub const READ_BELOW: Self = Self(1 << 14);
    /// It is the dynamic loader's cache, and searches that were foreseen asked it for libraries
    /// ([`Observation::libraries`]).
    pub const ASKED: Self = Self(1 << 15);
    /// It was executed more than once, under this name or another one.
    pub const EXECUTED_AGAIN: Self = Self(1 << 16);
    /// The uses that make a path an input.
    pub(crate) const INPUT: Self = Self(0b1001_1100_0011_1111);
    /// The uses that make a path a result.
    pub(crate) const OUTPUT: Self = Self(0b11_1100_0000);
    /// The input uses from which the run learns nothing but the state of the name.
    pub(crate) const NAME: Self = Self(0b1_1100_0000_0000);

    const NAMES: [&'static str; 17] = [
        "read",
        "listed",
        "probed",
        "executed",
        "followed",
        "attributes",
        "created",
        "replaced",
        "modified",
        "removed",
        "claimed",
        "overwritten",
        "required",
        "linked",
        "read below",
        "asked",
        "executed again",
    ];

    /// Whether the two sets share a use.
    #[must_use]
    pub(crate) const fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether every use of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The uses that are in both sets.
    #[must_use]
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The uses that are in either set.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Uses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(
                (0..Self::NAMES.len())
                    .filter(|bit| self.0 & (1 << bit) != 0)
                    .map(|bit| Self::NAMES[bit]),
            )
            .finish()
    }
}

/// A socket outside the run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Its address.
    pub address: Address,
    /// The kind of process that was found there.
    pub reach: Reach,
}

/// The address of a socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// TCP or UDP.
    Inet(SocketAddr),
    /// A local socket with a path.
    Unix(PathBuf),
    /// A local socket with a name outside of the file system (Linux).
    Abstract(Vec<u8>),
    /// A socket of another family, by its number: `AF_NETLINK` (16) asks the kernel, `AF_VSOCK`
    /// (40) reaches other machines.
    Family(i32),
    /// System V or POSIX queues, semaphores and shared memory, or the kernel's keyring.
    Ipc(&'static str),
    /// An address that was not understood.
    Other,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
            Self::Abstract(name) => write!(f, "@{}", name.escape_ascii()),
            Self::Family(number) => write!(f, "socket family {number}"),
            Self::Ipc(name) => f.write_str(name),
            Self::Other => f.write_str("a socket of unknown kind"),
        }
    }
}

/// The kind of process that was found at the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Nobody on this machine: the connection was refused.
    Nobody,
    /// A process outside the run, or possibly one.
    Outside,
}

/// Why an observation may be incomplete.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Problem {
    /// The child did not pass us its listener.
    #[error("the run could not be observed from its start ({0})")]
    NotStarted(String),
    /// Another process's memory could not be read.
    #[error("the arguments of a call could not be read ({0})")]
    Memory(String),
    /// A call of another architecture, such as a 32-bit program's.
    #[error("a program of another architecture ran")]
    Architecture,
    /// `io_uring` opens files without a system call for each.
    #[error("the run uses io_uring")]
    IoUring,
    /// From this call on, paths may lead elsewhere.
    #[error("the run changes mounts or its root folder ({0})")]
    Namespace(&'static str),
    /// Files are reached without a path.
    #[error("the run reaches files without naming them ({0})")]
    Nameless(&'static str),
    /// A folder that the run had not made was moved, with everything in it.
    #[error("the run moves the folder `{}`, which it did not make", .0.display())]
    FolderMoved(PathBuf),
    /// A folder without a name was used.
    #[error("a path was relative to a removed or unreachable folder")]
    LostFolder,
    /// A path is too long to be looked up by its absolute name.
    #[error("a path is too long to be looked up from the root")]
    TooLong,
    /// A program is neither ELF nor a script.
    #[error("`{}` is a program of an unknown format", .0.display())]
    Format(PathBuf),
    /// The run used more paths than are recorded.
    #[error("the run used more than {0} paths")]
    TooMany(usize),
    /// A call was not understood.
    #[error("a call was not understood (number {0})")]
    Call(i64),
    /// The dynamic loader searched for a library in a way that could not be foreseen. Only if its search
    /// passes ([`LoaderCalls`](super::LoaderCalls)).
    #[error("a library was searched for in a way that could not be foreseen")]
    UnknownSearch,
    /// Code ran that no file holds or that no loader has mapped, or that calls the kernel from where the
    /// dynamic loader does. Only if calls of the loader pass ([`LoaderCalls`](super::LoaderCalls)).
    #[error("code ran whose calls cannot be told from those of the dynamic loader")]
    UnknownCode,
    /// The supervisor was stuck, and calls continued unseen.
    #[error("a file system did not answer in time while the run was observed")]
    Stuck,
    /// The observer panicked.
    #[error("the observer failed on a call: this is a bug, please report it")]
    Bug,
    /// The kernel refused an operation that had worked before.
    #[error("the kernel ended the observation early ({0})")]
    Kernel(String),
}

/// How observation changed the run, so that its outcome may differ.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Interference {
    /// The run executed a program with set-user-id, set-group-id or file capabilities, which have no
    /// effect under `no_new_privs`.
    #[error("`{}` needs privileges that an observed run cannot get", .0.display())]
    Privileges(PathBuf),
    /// The run installs or queries seccomp filters. A second listener is refused, and a tracing
    /// filter is ignored.
    #[error("the run uses seccomp itself")]
    Seccomp,
    /// The run restricts itself, which requires `no_new_privs`. An observed run has that already.
    #[error("the run uses landlock")]
    Landlock,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_a_set() {
        let both = Uses::READ.with(Uses::REMOVED);
        assert!(both.any(Uses::INPUT) && both.any(Uses::OUTPUT));
        assert!(both.contains(Uses::READ) && !both.contains(Uses::READ.with(Uses::LISTED)));
        assert_eq!(format!("{both:?}"), r#"["read", "removed"]"#);
        assert!(!Uses::INPUT.any(Uses::OUTPUT));
    }

    #[test]
    fn an_unlisted_folder_holds_although_its_times_change() {
        let dir = tempfile::tempdir().unwrap();
        let seen = |uses| PathAccess {
            first: PathStamp::of(dir.path()),
            uses,
            text: None,
            class: crate::observer::PathClass::Ordinary,
        };
        let (probed, listed) = (seen(Uses::PROBED), seen(Uses::LISTED));
        let unknown = PathAccess { first: PathStamp::Unknown(1), ..probed.clone() };
        std::fs::write(dir.path().join("new"), "").unwrap();
        std::fs::create_dir(dir.path().join("folder")).unwrap();
        let now = PathStamp::of(dir.path());
        assert!(probed.holds(&now) && !listed.holds(&now) && !unknown.holds(&now));
        assert!(!probed.holds(&PathStamp::Absent));
        assert!(!probed.is_scratch());
        assert!(seen(Uses::LISTED.with(Uses::REMOVED)).is_scratch());
        assert!(!seen(Uses::READ.with(Uses::REMOVED)).is_scratch());
    }
}
