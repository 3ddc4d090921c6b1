//! Where a project's tests are built, and who else builds there.

use tracing::warn;

use super::actor::Actor;
use super::rivalry::With;
use super::work::Built;
use crate::model::OsText;
use crate::protocol::LastBuild;
use crate::verdict::{Facts, Question};

impl Actor {
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

    /// Says where the tests are built, and what is out of the ordinary about it.
    pub(super) fn tell_place(&self, question: &Question, facts: &Facts) {
        let mut notes = Vec::new();
        if !self.is_asked {
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
