//! Cargo's locks: a background build yields to a cargo that the developer started.
//!
//! Cargo locks a build directory for as long as a build takes, and a second cargo waits. On Linux
//! `/proc/locks` names the waiting processes: after the line of the held lock there is one line for
//! each, with an arrow and the same number. Other systems do not tell.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// Which of these processes, `holders`, hold a lock for which a process waits that is no child of
/// this one. For cargo, that is the lock of a build directory or of the package cache.
#[must_use]
pub(crate) fn awaited(holders: &BTreeSet<u32>) -> BTreeSet<u32> {
    let locks = if holders.is_empty() { None } else { fs::read_to_string("/proc/locks").ok() };
    let own = std::process::id();
    awaited_in(&locks.unwrap_or_default(), holders, |pid| parent(pid) == Some(own))
}

/// Whether a process holds the lock of one of these target directories. The check takes a free lock
/// for a moment.
#[must_use]
pub(crate) fn is_locked(target_dirs: &[PathBuf]) -> bool {
    target_dirs.iter().flat_map(|dir| lock_files(dir)).any(|file| {
        let taken = |file: File| matches!(file.try_lock(), Err(TryLockError::WouldBlock));
        File::open(file).is_ok_and(taken)
    })
}

/// The lock files: one for each profile, also below the folders of target triples.
fn lock_files(target_dir: &Path) -> Vec<PathBuf> {
    let folders = |dir: &Path| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let lock = |dir: &PathBuf| Some(dir.join(".cargo-lock")).filter(|file| file.is_file());
    let mut found = Vec::new();
    for dir in folders(target_dir) {
        match lock(&dir) {
            Some(file) => found.push(file),
            None => found.extend(folders(&dir).iter().filter_map(lock)),
        }
    }
    found
}

/// Reads the text of `/proc/locks`: `1: FLOCK ADVISORY WRITE 4711 08:01:131 0 EOF` is a lock that
/// process 4711 holds, and `1: -> FLOCK ADVISORY WRITE 4712 …` says that 4712 waits for it.
fn awaited_in(
    locks: &str,
    holders: &BTreeSet<u32>,
    is_ours: impl Fn(u32) -> bool,
) -> BTreeSet<u32> {
    let mut awaited = BTreeSet::new();
    let mut held = None;
    for line in locks.lines() {
        let mut words = line.split_whitespace();
        let Some(number) = words.next() else { continue };
        let mut words = words.peekable();
        let waits = words.next_if_eq(&"->").is_some();
        let pid = words.nth(3).and_then(|pid| pid.parse::<u32>().ok());
        if !waits {
            held = pid.map(|pid| (number, pid));
        } else if let (Some((lock, holder)), Some(pid)) = (held, pid)
            && lock == number
            && holders.contains(&holder)
            && !is_ours(pid)
        {
            awaited.insert(holder);
        }
    }
    awaited
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCKS: &str = "\
1: POSIX  ADVISORY  WRITE 100 00:1a:5 0 EOF
2: FLOCK  ADVISORY  WRITE 7 08:01:131 0 EOF
2: -> FLOCK  ADVISORY  WRITE 8 08:01:131 0 EOF
2: -> FLOCK  ADVISORY  WRITE 9 08:01:131 0 EOF
3: FLOCK  ADVISORY  WRITE 10 08:01:132 0 EOF
3: -> FLOCK  ADVISORY  WRITE 11 08:01:132 0 EOF
";

    #[test]
    fn a_lock_for_which_a_foreign_process_waits_is_found() {
        let awaited = |locks: &str, holders: &[u32], ours: &[u32]| {
            let holders = holders.iter().copied().collect();
            let awaited = awaited_in(locks, &holders, |pid| ours.contains(&pid));
            awaited.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(awaited(LOCKS, &[7], &[]), [7]);
        assert_eq!(awaited(LOCKS, &[7, 10], &[]), [7, 10]);
        assert_eq!(awaited(LOCKS, &[100], &[]), [0; 0], "nobody waits for that one");
        assert_eq!(awaited(LOCKS, &[10], &[11]), [0; 0], "ours waits");
        assert_eq!(awaited(LOCKS, &[7], &[8]), [7], "two wait, one of them is ours");
        assert_eq!(awaited(LOCKS, &[8, 9], &[]), [0; 0], "those only wait");
        assert_eq!(awaited("", &[7], &[]), [0; 0]);
        assert_eq!(awaited("nonsense\n2: ->\n", &[7], &[]), [0; 0]);
    }

    #[test]
    fn a_lock_is_seen_wherever_cargo_puts_it() {
        let target = tempfile::tempdir().unwrap();
        let dirs = [target.path().to_owned()];
        assert!(!is_locked(&dirs));
        for folder in ["debug", "x86_64-unknown-linux-gnu/release"] {
            let folder = target.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            let file = File::create(folder.join(".cargo-lock")).unwrap();
            assert!(!is_locked(&dirs));
            file.lock().unwrap();
            assert!(is_locked(&dirs));
            drop(file);
            assert!(!is_locked(&dirs));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_parent_is_found() {
        assert_eq!(parent(std::process::id()), Some(std::os::unix::process::parent_id()));
    }
}
