//! Where a project's tests are built, and who else builds there.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::actor::Actor;
use super::rivalry::With;
use super::work::Built;
use crate::compiler::{self, BuildLedger};
use crate::model::{OsText, Timestamp};
use crate::process::Environment;
use crate::protocol::LastBuild;
use crate::verdict::{Facts, Question};
use crate::workspace::BuildVariables;

/// How often a target directory is looked through at most.
const BETWEEN: Duration = Duration::from_secs(60 * 60);

impl Actor {
    /// Builds like the shell that a command came from, from now on and after a restart.
    pub(super) fn is_called_from(&mut self, environment: Environment) {
        let shell = BuildVariables::of(&environment);
        self.environment = environment;
        if self.shell.as_ref() == Some(&shell) {
            return;
        }
        self.shell = Some(shell.clone());
        self.keep(|state| state.shell = Some(shell));
    }

    /// Looks whether somebody else undoes what we build.
    pub(super) fn judge(&mut self, of: &Built, build: &LastBuild) {
        let environment = self.environment.clone();
        let with = With { identity: *of.identity(), tree: *of.tree(), environment };
        if self.rivalry.built(with, &build.dirty)
            && let Some(why) = self.rivalry.why()
        {
            warn!(project = %self.root.display(), reason = %why, "builds undo each other's work");
        }
    }

    /// Removes what earlier builds have left, if the config wants that, now and then.
    pub(super) fn clean_target(&mut self) {
        let now = Instant::now();
        let lately = self.cleaned.is_some_and(|last| now - last < BETWEEN);
        if !self.settings.clean_target || lately {
            return;
        }
        self.cleaned = Some(now);
        let (root, cache_dir) = (self.root.clone(), self.shared.paths.cache_dir.clone());
        // Nobody waits for it, and cargo's lock keeps builds and it apart.
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

    /// Says where the tests are built, and what is out of the ordinary about it.
    pub(super) fn tell_place(&self, question: &Question, facts: &Facts) {
        let mut notes = Vec::new();
        if self.shell.is_none() {
            notes.push(
                "built as the service's own environment says: no command has come from a shell \
                 yet"
                .to_owned(),
            );
        }
        notes.extend(facts.target_dirs.iter().filter_map(|dir| {
            let to = std::fs::read_link(dir).ok()?;
            Some(format!("{} is a link to {}", dir.display(), to.display()))
        }));
        if question.target_dir.is_none() && facts.cargo_config.has_build_dir() {
            notes.push("cargo's `build.build-dir` is set: intermediate files lie there".to_owned());
        }
        let target_dirs: Vec<_> = facts.target_dirs.iter().map(OsText::from).collect();
        self.status.send_if_modified(|status| {
            let changed = (&status.target_dirs, &status.notes) != (&target_dirs, &notes);
            (status.target_dirs, status.notes) = (target_dirs, notes);
            changed
        });
    }
}
