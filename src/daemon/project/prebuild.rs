//! Builds of some packages that come before the whole build, one after the other.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tracing::info;

use super::super::time::milliseconds;
use crate::compiler::Units;
use crate::workspace::Selection;

/// Why a prebuild is skipped: it makes artifacts that are no part of the whole build, or cargo
/// refuses it.
pub(super) const NOT_SAME: &str = "not the same by itself";
pub(super) const REFUSED: &str = "cargo does not build it by itself";

/// A build that comes before the whole build.
#[derive(Clone, Debug)]
pub(super) struct Prebuild {
    pub(super) selection: Selection,
    /// The packages that are selected, as `-p` takes them.
    pub(super) specs: Vec<String>,
    /// As in "built globset (edited)".
    pub(super) what: String,
    /// The artifacts of the whole build: a prebuild that makes any other is cancelled.
    pub(super) units: Arc<Units>,
}

/// The prebuilds that are left.
pub(super) struct PrebuildProgress<'a> {
    left: &'a [Prebuild],
    /// The text for those that are over.
    said: String,
    begun: Instant,
}

impl<'a> PrebuildProgress<'a> {
    pub(super) fn new(prebuilds: &'a [Prebuild]) -> Self {
        Self { left: prebuilds, said: String::new(), begun: Instant::now() }
    }

    /// The next one; `None` for the whole build.
    pub(super) fn next(&self) -> Option<&'a Prebuild> {
        self.left.first()
    }

    /// The beginning of the text for `status`.
    pub(super) fn intro(&self, prebuild: Option<&Prebuild>) -> String {
        match (prebuild, self.said.as_str()) {
            (Some(prebuild), "") => format!("building {} first", prebuild.what),
            (Some(prebuild), said) => format!("{said}, building {}", prebuild.what),
            (None, "") => String::new(),
            (None, said) => format!("{said}, building the rest"),
        }
    }

    /// The next one has ended. If it does not compile, its dependents do not either.
    pub(super) fn ended(&mut self, success: bool, project: &Path) {
        let Some((prebuild, left)) = self.left.split_first() else { return };
        let (duration, what) = (milliseconds(self.begun.elapsed()), &prebuild.what);
        info!(project = %project.display(), %what, duration, success, "built before the rest");
        self.said = match (success, self.said.is_empty()) {
            (true, true) => format!("built {what}"),
            (true, false) => format!("{}, {what}", self.said),
            (false, _) => format!("{what} does not compile"),
        };
        self.left = if success { left } else { &[] };
    }

    /// The next one is skipped, for this reason.
    pub(super) fn skip(&mut self, project: &Path, why: &str) {
        let Some((prebuild, left)) = self.left.split_first() else { return };
        let (duration, what) = (milliseconds(self.begun.elapsed()), &prebuild.what);
        let project = project.display();
        info!(%project, %what, duration, "not built first: {why}");
        self.left = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prebuild(what: &str) -> Prebuild {
        let (selection, specs) = (Selection::default(), Vec::new());
        Prebuild { selection, specs, what: what.to_owned(), units: Arc::default() }
    }

    #[test]
    fn status_names_the_finished_and_the_next_prebuild() {
        let prebuilds = ["a (edited)", "b (next)"].map(prebuild);
        let project = Path::new("/w");
        let mut progress = PrebuildProgress::new(&prebuilds);
        let said = |progress: &PrebuildProgress<'_>| progress.intro(progress.next());
        assert_eq!(said(&progress), "building a (edited) first");
        progress.ended(true, project);
        assert_eq!(said(&progress), "built a (edited), building b (next)");
        progress.ended(true, project);
        assert_eq!(said(&progress), "built a (edited), b (next), building the rest");
        let mut progress = PrebuildProgress::new(&prebuilds);
        progress.skip(project, NOT_SAME);
        assert_eq!(said(&progress), "building b (next) first");
        progress.ended(false, project);
        assert_eq!(said(&progress), "b (next) does not compile, building the rest");
        let mut progress = PrebuildProgress::new(&prebuilds);
        progress.ended(false, project);
        assert!(progress.next().is_none(), "its dependents would not compile either");
        assert_eq!(said(&PrebuildProgress::new(&[])), "");
    }
}
