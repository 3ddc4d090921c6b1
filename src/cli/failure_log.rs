//! The complete words of failures, in files of which the latest stay.

use std::fs;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::model::{Answer, Timestamp, Verdict};
use crate::paths::create_private_folder;

/// So many logs are kept.
const KEPT_LOGS: usize = 20;

/// Writes what each failed target printed.
pub(super) fn keep_failures(cache_dir: &Path, answer: &Answer) -> io::Result<PathBuf> {
    let mut text = String::new();
    for target in answer.targets.iter().filter(|target| target.verdict != Verdict::Pass) {
        let stderr = target.stderr.as_deref().unwrap_or_default();
        let (id, end, output) = (&target.id, target.end, &target.output);
        text.push_str(&format!("--- {id} ({end}) ---\n{output}\n{stderr}"));
    }
    keep(cache_dir, &text)
}

/// Writes a log of its own and removes the oldest.
pub(super) fn keep(cache_dir: &Path, text: &str) -> io::Result<PathBuf> {
    let folder = cache_dir.join("failures");
    create_private_folder(&folder)?;
    let mut logs: Vec<PathBuf> = fs::read_dir(&folder)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_log(path))
        .collect();
    // The names begin with the time, in as many digits for the next centuries.
    logs.sort();
    for old in logs.iter().rev().skip(KEPT_LOGS - 1) {
        // Another process may have removed it.
        let _ = fs::remove_file(old);
    }
    let path = folder.join(format!("{:013}-{}.log", Timestamp::now().0, std::process::id()));
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    file.write_all(text.as_bytes())?;
    Ok(path)
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_logs_stay_and_other_files_are_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("failures");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("notes.txt"), "mine").unwrap();
        for number in 0..30 {
            fs::write(folder.join(format!("{number:013}-1.log")), "old").unwrap();
        }
        let path = keep(dir.path(), "all of it").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "all of it");
        assert!(folder.join("notes.txt").exists());
        assert!(!folder.join(format!("{:013}-1.log", 10)).exists());
        assert!(folder.join(format!("{:013}-1.log", 11)).exists());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), KEPT_LOGS + 1);
    }
}
