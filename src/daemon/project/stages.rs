//! Builds that come before that of the whole, one after the other.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tracing::info;

use crate::compiler::Units;
use crate::workspace::Selection;

/// Why a stage is none: it makes other things than the whole is made of, or cargo refuses it.
pub(super) const OTHER: &str = "not the same by itself";
pub(super) const REFUSED: &str = "cargo does not build it by itself";

/// A build that comes before that of the whole.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) selection: Selection,
    /// The packages that are selected, as `-p` takes them.
    pub(super) specs: Vec<String>,
    /// As in "built globset (edited)".
    pub(super) what: String,
    /// What the whole is made of: a stage that makes anything else is given up.
    pub(super) units: Arc<Units>,
}

/// How far one is.
pub(super) struct Progression<'a> {
    left: &'a [Stage],
    /// What to say of the stages that are over.
    said: String,
    begun: Instant,
}

impl<'a> Progression<'a> {
    pub(super) fn new(stages: &'a [Stage]) -> Self {
        Self { left: stages, said: String::new(), begun: Instant::now() }
    }

    /// The stage that is to be built; `None`: the whole.
    pub(super) fn next(&self) -> Option<&'a Stage> {
        self.left.first()
    }

    /// What `status` says before anything else while this is built.
    pub(super) fn intro(&self, stage: Option<&Stage>) -> String {
        match (stage, self.said.as_str()) {
            (Some(stage), "") => format!("building {} first", stage.what),
            (Some(stage), said) => format!("{said}, building {}", stage.what),
            (None, "") => String::new(),
            (None, said) => format!("{said}, building the rest"),
        }
    }

    /// The next stage is built, or does not compile: then neither does what is built from it.
    pub(super) fn ended(&mut self, success: bool, project: &Path) {
        let Some((stage, left)) = self.left.split_first() else { return };
        let (duration, what) = (self.milliseconds(), &stage.what);
        info!(project = %project.display(), %what, duration, success, "built before the rest");
        self.said = match (success, self.said.is_empty()) {
            (true, true) => format!("built {what}"),
            (true, false) => format!("{}, {what}", self.said),
            (false, _) => format!("{what} does not compile"),
        };
        self.left = if success { left } else { &[] };
    }

    /// The next stage is none: why.
    pub(super) fn skip(&mut self, project: &Path, why: &str) {
        let Some((stage, left)) = self.left.split_first() else { return };
        let (duration, what) = (self.milliseconds(), &stage.what);
        let project = project.display();
        info!(%project, %what, duration, "not built first: {why}");
        self.left = left;
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(what: &str) -> Stage {
        let (selection, specs) = (Selection::default(), Vec::new());
        Stage { selection, specs, what: what.to_owned(), units: Arc::default() }
    }

    #[test]
    fn status_says_what_is_ready_and_what_is_next() {
        let stages = ["a (edited)", "b (next)"].map(stage);
        let project = Path::new("/w");
        let mut progress = Progression::new(&stages);
        let said = |progress: &Progression<'_>| progress.intro(progress.next());
        assert_eq!(said(&progress), "building a (edited) first");
        progress.ended(true, project);
        assert_eq!(said(&progress), "built a (edited), building b (next)");
        progress.ended(true, project);
        assert_eq!(said(&progress), "built a (edited), b (next), building the rest");
        let mut progress = Progression::new(&stages);
        progress.skip(project, OTHER);
        assert_eq!(said(&progress), "building b (next) first");
        progress.ended(false, project);
        assert_eq!(said(&progress), "b (next) does not compile, building the rest");
        let mut progress = Progression::new(&stages);
        progress.ended(false, project);
        assert!(progress.next().is_none(), "what is built from it would not compile either");
        assert_eq!(said(&Progression::new(&[])), "");
    }
}
