//! Where a work tree's repository is, and what git is doing there, by the files in which it says so.
//!
//! What is under way decides when work is begun, never an answer: a repository that cannot be read
//! is one where nothing is.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A repository with a work tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repository {
    /// The work tree's top folder.
    work: PathBuf,
    /// HEAD and the index: `.git`, or a folder elsewhere for a worktree or a submodule.
    own: PathBuf,
    /// What all worktrees share: branches, the config, `info/`.
    shared: PathBuf,
}

/// A lock file as it is: another one at the same path is another lock, and so is one that was
/// written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LockId(u64, u64, i64);

impl LockId {
    /// One of these parts: device, inode, time of the last change in nanoseconds.
    #[must_use]
    pub(crate) fn of_parts(device: u64, inode: u64, changed: i64) -> Self {
        Self(device, inode, changed)
    }
}

/// What git is in the middle of, with the developer's help perhaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// `git rebase`.
    Rebase,
    /// `git am`.
    Am,
    /// `git merge`, not committed.
    Merge,
    /// `git cherry-pick`.
    CherryPick,
    /// `git revert`.
    Revert,
    /// `git bisect`.
    Bisect,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rebase => "a rebase",
            Self::Am => "`git am`",
            Self::Merge => "a merge",
            Self::CherryPick => "a cherry-pick",
            Self::Revert => "a revert",
            Self::Bisect => "a bisect",
        })
    }
}

impl Repository {
    /// The repository that `folder` is in, if it is in one.
    #[must_use]
    pub(crate) fn around(folder: &Path) -> Option<Self> {
        folder.ancestors().find_map(Self::at)
    }

    /// The repository whose work tree begins at `folder`.
    #[must_use]
    pub(crate) fn at(folder: &Path) -> Option<Self> {
        let entry = folder.join(".git");
        let kind = fs::metadata(&entry).ok()?.file_type();
        let own = if kind.is_dir() {
            entry
        } else if kind.is_file() {
            folder.join(path_in(fs::read(&entry).ok()?.strip_prefix(b"gitdir:")?))
        } else {
            return None;
        };
        // May be a link to a branch that has no commit yet.
        own.join("HEAD").symlink_metadata().ok()?;
        let shared = match fs::read(own.join("commondir")) {
            Ok(text) => own.join(path_in(&text)),
            Err(_) => own.clone(),
        };
        Some(Self { work: folder.to_owned(), own, shared })
    }

    /// The work tree's top folder.
    #[must_use]
    pub(crate) fn work(&self) -> &Path {
        &self.work
    }

    /// The file whose every change may change what is tracked.
    #[must_use]
    pub(crate) fn index(&self) -> PathBuf {
        self.own.join("index")
    }

    /// HEAD and the index.
    #[must_use]
    pub(crate) fn own(&self) -> &Path {
        &self.own
    }

    /// What all worktrees share: branches, the config, `info/`.
    #[must_use]
    pub(crate) fn shared(&self) -> &Path {
        &self.shared
    }

    /// The lock that git holds as long as it writes to the work tree.
    #[must_use]
    pub(crate) fn lock(&self) -> Option<LockId> {
        let metadata = fs::symlink_metadata(self.own.join("index.lock")).ok()?;
        Some(LockId::of_parts(
            metadata.dev(),
            metadata.ino(),
            metadata.ctime().wrapping_mul(1_000_000_000).wrapping_add(metadata.ctime_nsec()),
        ))
    }

    /// What has been begun and is not done.
    #[must_use]
    pub(crate) fn under_way(&self) -> Option<Operation> {
        let there = |name: &str| self.own.join(name).symlink_metadata().is_ok();
        // A rebase stops as a cherry-pick does: the larger one first.
        if there("rebase-merge") {
            Some(Operation::Rebase)
        } else if there("rebase-apply") {
            Some(if there("rebase-apply/applying") { Operation::Am } else { Operation::Rebase })
        } else if there("MERGE_HEAD") {
            Some(Operation::Merge)
        } else if there("REVERT_HEAD") {
            Some(Operation::Revert)
        } else if there("CHERRY_PICK_HEAD") || there("sequencer") {
            Some(Operation::CherryPick)
        } else if there("BISECT_LOG") {
            Some(Operation::Bisect)
        } else {
            None
        }
    }

    /// The commit that is checked out, as git writes it; `None` where that cannot be told, as in
    /// a repository without a commit.
    #[must_use]
    pub(crate) fn head(&self) -> Option<String> {
        let head = fs::read_to_string(self.own.join("HEAD")).ok()?;
        let Some(name) = head.trim().strip_prefix("ref: ") else {
            return Some(head.trim().to_owned());
        };
        if let Ok(commit) = fs::read_to_string(self.shared.join(name)) {
            return Some(commit.trim().to_owned());
        }
        let packed = fs::read_to_string(self.shared.join("packed-refs")).ok()?;
        packed.lines().find_map(|line| {
            let (commit, of) = line.split_once(' ')?;
            (of == name).then(|| commit.to_owned())
        })
    }
}

fn path_in(text: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(text.trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// As `git init` and `git worktree add` leave them.
    fn repositories() -> (tempfile::TempDir, Repository, Repository) {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path();
        write(base.join("main/.git/HEAD"), "ref: refs/heads/main\n");
        write(base.join("main/.git/refs/heads/main"), "aaaa\n");
        write(base.join("main/.git/packed-refs"), "# pack-refs with: peeled\nbbbb refs/heads/x\n");
        write(base.join("main/.git/worktrees/x/HEAD"), "ref: refs/heads/x\n");
        write(base.join("main/.git/worktrees/x/commondir"), "../..\n");
        write(base.join("x/.git"), "gitdir: ../main/.git/worktrees/x\n");
        fs::create_dir_all(base.join("x/crates/a")).unwrap();
        let main = Repository::around(&base.join("main")).unwrap();
        let worktree = Repository::around(&base.join("x/crates/a")).unwrap();
        assert_eq!(worktree.work(), base.join("x"));
        (dir, main, worktree)
    }

    #[test]
    fn a_worktree_has_its_own_lock_and_shares_the_branches() {
        let (dir, main, worktree) = repositories();
        assert_eq!((main.head(), worktree.head()), (Some("aaaa".into()), Some("bbbb".into())));
        assert_eq!((main.lock(), worktree.lock()), (None, None));
        let lock = dir.path().join("main/.git/worktrees/x/index.lock");
        write(lock.clone(), "");
        let first = worktree.lock();
        assert!(first.is_some() && main.lock().is_none());
        assert_eq!(worktree.lock(), first);
        write(dir.path().join("main/.git/worktrees/x/HEAD"), "cccc\n");
        assert_eq!(worktree.head().as_deref(), Some("cccc"), "detached");
    }

    #[test]
    fn what_is_under_way_is_told_by_what_git_leaves() {
        let (dir, main, worktree) = repositories();
        let own = dir.path().join("main/.git");
        let cases = [
            ("BISECT_LOG", "a bisect"),
            ("sequencer/todo", "a cherry-pick"),
            ("CHERRY_PICK_HEAD", "a cherry-pick"),
            ("REVERT_HEAD", "a revert"),
            ("MERGE_HEAD", "a merge"),
            ("rebase-apply/next", "a rebase"),
            ("rebase-apply/applying", "`git am`"),
            ("rebase-merge/done", "a rebase"),
        ];
        assert_eq!(main.under_way(), None);
        for (file, expected) in cases {
            write(own.join(file), "");
            assert_eq!(main.under_way().unwrap().to_string(), expected, "{file}");
        }
        assert_eq!(worktree.under_way(), None);
    }

    #[test]
    fn no_repository_and_a_broken_one_are_none() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path().join("a/.git"), "nonsense");
        write(dir.path().join("b/.git/config"), "");
        // Not `around`: the temporary folder itself may be in a repository.
        assert_eq!(Repository::at(&dir.path().join("a")), None);
        assert_eq!(Repository::at(&dir.path().join("b")), None);
        assert_eq!(Repository::at(dir.path()), None);
    }
}
