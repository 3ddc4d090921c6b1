//! What was seen, as plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::PathClass;
use crate::workspace::{FileKind, PathStamp, Stamp};

/// Everything that one run consulted.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// By absolute path without symlinks, `.` and `..` (a symlink on the way is an entry of its
    /// own). What the run made itself is here too, with no use that is an input.
    pub paths: BTreeMap<PathBuf, PathAccess>,
    /// OwnSockets that were not opened by the run and that it spoke to, or tried to.
    pub peers: BTreeSet<Peer>,
    /// Why something may be missing. Not empty: count every file of the workspace.
    pub problems: BTreeSet<Problem>,
    /// What being observed changed for the run. Not empty: repeat the run unobserved.
    pub interference: BTreeSet<Interference>,
    /// A process of the tree was still alive when the observation ended.
    pub left_behind: bool,
    /// How many calls were seen: what the observation cost.
    pub calls: u64,
}

impl Observation {
    /// Whether everything that the run consulted is named here.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.problems.is_empty() && self.interference.is_empty()
    }

    /// The paths whose state the run depends on: everything but what it only made itself.
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

    /// The paths that the run looked for and that were not there.
    pub fn absent(&self) -> impl Iterator<Item = &Path> {
        self.inputs().filter(|(_, seen)| seen.first == PathStamp::Absent).map(|(path, _)| path)
    }

    /// Whether a process of the run read the file `program`: then the digest of its loadable parts
    /// alone does not describe it. `program` as in [`Self::paths`], without symlinks.
    #[must_use]
    pub fn reads(&self, program: &Path) -> bool {
        self.paths.get(program).is_some_and(|seen| seen.uses.any(Uses::READ))
    }
}

/// One path and what was done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathAccess {
    /// What it was when the run first used it, before that call went on.
    pub first: PathStamp,
    /// All that was done. What was done to a thing after the run itself made it is not noted.
    pub uses: Uses,
    /// A symlink's text.
    pub link: Option<PathBuf>,
    /// What kind of place it lies in.
    pub place: PathClass,
}

impl PathAccess {
    /// Whether the run depends on it.
    #[must_use]
    pub fn is_input(&self) -> bool {
        self.uses.any(Uses::INPUT)
    }

    /// Whether the run only looked whether it was there, or what a folder held, and then removed
    /// or made it: leftovers of an earlier run that it cleared away. No content was read.
    ///
    /// Still an input by the letter. Below folders that hold nothing but results (the target
    /// folder, the temporary one) a caller may leave it out; a run that decides
    /// something by such a leftover's mere presence would then be misjudged.
    #[must_use]
    pub fn is_scratch(&self) -> bool {
        let made = Uses::CREATED.with(Uses::REPLACED).with(Uses::REMOVED);
        let content = Uses::READ.with(Uses::EXECUTED).with(Uses::ATTRIBUTES).with(Uses::FOLLOWED);
        self.uses.any(made) && !self.uses.any(content)
    }

    /// Whether it is now as it was, as far as this run's uses of it can tell. Of a folder that was
    /// not listed only its being there counts: something made in it changes its times.
    #[must_use]
    pub fn holds(&self, now: &PathStamp) -> bool {
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

/// A set of ways to use a path.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Uses(u16);

impl Uses {
    /// Its content was read, or could be (opened for reading).
    pub const READ: Self = Self(1);
    /// A folder was opened, so that it could be listed.
    pub const LISTED: Self = Self(1 << 1);
    /// Only its being there, its kind or its metadata was asked for.
    pub const PROBED: Self = Self(1 << 2);
    /// It was executed, or is the interpreter of what was executed.
    pub const EXECUTED: Self = Self(1 << 3);
    /// A symlink whose text was read or followed.
    pub const FOLLOWED: Self = Self(1 << 4);
    /// Its extended attributes were asked for: no digest of content covers those.
    pub const ATTRIBUTES: Self = Self(1 << 5);
    /// It was not there, and the run made it.
    pub const CREATED: Self = Self(1 << 6);
    /// It was there, and the run replaced all of its content without looking.
    pub const REPLACED: Self = Self(1 << 7);
    /// It was there, and the run opened it for writing or changed its metadata.
    pub const MODIFIED: Self = Self(1 << 8);
    /// The run removed it or renamed it away.
    pub const REMOVED: Self = Self(1 << 9);
    /// The uses that make a path an input.
    pub const INPUT: Self = Self(0b11_1111);
    /// The uses that make a path a result.
    pub const OUTPUT: Self = Self(0b11_1100_0000);

    const NAMES: [&'static str; 10] = [
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
    ];

    /// Whether the two sets share a use.
    #[must_use]
    pub const fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether every use of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Uses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries((0..10).filter(|bit| self.0 & (1 << bit) != 0).map(|bit| Self::NAMES[bit]))
            .finish()
    }
}

/// A socket outside the run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Where.
    pub address: Address,
    /// Who was there.
    pub reach: Reach,
}

/// Where a socket is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// TCP or UDP.
    Inet(SocketAddr),
    /// A local socket with a path.
    Unix(PathBuf),
    /// A local socket with a name outside the file system (Linux).
    Abstract(Vec<u8>),
    /// A socket of another family was made: `AF_NETLINK` (16) asks the kernel, `AF_VSOCK` (40)
    /// reaches other machines. The number is the system's.
    Family(i32),
    /// System V or POSIX queues, semaphores and shared memory, or keys of the kernel, by name.
    Ipc(&'static str),
    /// An address that could not be understood.
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

/// Who was at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Nobody listened on this machine: the run was refused.
    Nobody,
    /// Someone outside the run, or nobody knows.
    Outside,
}

/// Why an observation may lack something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Problem {
    /// The child never handed us its listener.
    #[error("the run could not be observed from its start ({0})")]
    NotStarted(String),
    /// Another process's memory could not be read.
    #[error("the arguments of a call could not be read ({0})")]
    Memory(String),
    /// A call of another architecture, such as a 32-bit program's.
    #[error("a program of another architecture ran")]
    Architecture,
    /// `io_uring` opens files without system calls of its own.
    #[error("the run uses io_uring")]
    IoUring,
    /// Paths mean something else from here on.
    #[error("the run changes mounts or its root folder ({0})")]
    Namespace(&'static str),
    /// Files are reached without a path.
    #[error("the run reaches files without naming them ({0})")]
    Nameless(&'static str),
    /// A folder that the run had not made was moved, with all that is in it.
    #[error("the run moves the folder `{}`, which it did not make", .0.display())]
    FolderMoved(PathBuf),
    /// A folder that has no name any more was used.
    #[error("a path was relative to a removed or unreachable folder")]
    LostFolder,
    /// A path cannot be looked up by its absolute name.
    #[error("a path is too long to be looked up from the root")]
    TooLong,
    /// A program that is neither ELF nor a script.
    #[error("`{}` is a program of an unknown format", .0.display())]
    Format(PathBuf),
    /// More paths than are kept.
    #[error("the run used more than {0} paths")]
    TooMany(usize),
    /// A call was not understood.
    #[error("a call was not understood (number {0})")]
    Call(i64),
    /// The supervisor was stuck and calls were let go unseen.
    #[error("a file system did not answer in time while the run was observed")]
    Stuck,
    /// A bug of ours, survived.
    #[error("the observer failed on a call: this is a bug, please report it")]
    Bug,
    /// The kernel refused something that it had promised.
    #[error("the kernel ended the observation early ({0})")]
    Kernel(String),
}

/// What being observed changed for the run: its outcome may not be its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Interference {
    /// Executed a program with set-user-id, set-group-id or file capabilities, which give nothing
    /// under `no_new_privs`.
    #[error("`{}` needs privileges that an observed run cannot get", .0.display())]
    Privileges(PathBuf),
    /// Installs or asks for seccomp filters: a second listener is refused, and a filter that
    /// traces would be passed over.
    #[error("the run uses seccomp itself")]
    Seccomp,
    /// Restricts itself, which takes `no_new_privs`: an observed run has that without asking.
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
    fn what_holds_depends_on_how_it_was_used() {
        let dir = tempfile::tempdir().unwrap();
        let seen = |uses| PathAccess {
            first: PathStamp::of(dir.path()),
            uses,
            link: None,
            place: crate::observer::PathClass::Ordinary,
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
