//! Where a project's tests are built, and what earlier builds have left there.

use std::path::Path;
use std::time::{Duration, Instant};

use tracing::info;

use super::status::StatusTeller;
use crate::compiler::{self, BuildLedger};
use crate::model::{OsText, Timestamp};
use crate::verdict::{Facts, Question};

/// How often a target directory is searched for stale artifacts at most.
const CLEANING_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Tells where the tests are built, and what is unusual about that.
pub(super) fn tell(question: &Question, facts: &Facts, knows_shell: bool, status: &StatusTeller) {
    let mut notes = Vec::new();
    if !knows_shell {
        let note = "built in the service's own environment: no command has come from a shell yet";
        notes.push(note.to_owned());
    }
    notes.extend(facts.target_dirs.iter().filter_map(|dir| {
        let to = std::fs::read_link(dir).ok()?;
        Some(format!("{} is a link to {}", dir.display(), to.display()))
    }));
    if question.target_dir.is_none() && facts.cargo_config.has_build_dir() {
        notes.push("cargo's `build.build-dir` is set: intermediate files lie there".to_owned());
    }
    let target_dirs: Vec<_> = facts.target_dirs.iter().map(OsText::from).collect();
    status.change(|status| (status.target_dirs, status.notes) = (target_dirs, notes));
}

/// Removes the stale artifacts of the service's own builds, now and then.
#[derive(Debug, Default)]
pub(super) struct TargetDirCleaner {
    last: Option<Instant>,
}

impl TargetDirCleaner {
    /// Cleans in the background if the last time was long ago.
    pub(super) fn clean(&mut self, root: &Path, cache_dir: &Path) {
        let now = Instant::now();
        if self.last.is_some_and(|last| now - last < CLEANING_INTERVAL) {
            return;
        }
        self.last = Some(now);
        let (root, cache_dir) = (root.to_owned(), cache_dir.to_owned());
        // Cargo's lock keeps builds away meanwhile.
        tokio::task::spawn_blocking(move || {
            let file = Question::ledger_file(&root, &cache_dir);
            let stale = BuildLedger::load(&file).stale(&root, Timestamp::now());
            let bytes: u64 = stale.iter().map(|one| one.bytes).sum();
            let (project, count) = (root.display(), stale.len());
            match compiler::remove_stale_unit(&stale) {
                Ok(()) if count == 0 => {}
                Ok(()) => info!(%project, count, bytes, "removed stale artifacts of ours"),
                Err(error) => info!(%project, %error, "stale artifacts stay"),
            }
        });
    }
}
