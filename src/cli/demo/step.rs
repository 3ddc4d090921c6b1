//! The steps of the demo: what changes, what the answer should be, and why.

use std::io;
use std::path::Path;

use super::workspace::{FIXTURE, SHAPES, edit};

/// What a step expects of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Everything runs.
    All,
    /// Some targets run.
    Some,
    /// Nothing runs.
    Nothing,
    /// Some targets run, and tests fail.
    Red,
}

/// Where a step asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the workspace.
    Here,
    /// In the workspace, with the variables of another terminal.
    OtherTerminal,
    /// In a worktree of the workspace's repository.
    Worktree,
}

/// One step.
pub(super) struct DemoStep {
    /// What happens.
    pub(super) name: &'static str,
    /// The edit: a file, what is replaced in it, and by what.
    edit: Option<(&'static str, &'static str, &'static str)>,
    /// Where is asked.
    pub(super) place: Place,
    /// What should come of it.
    pub(super) expected: Expected,
    /// Why that comes of it.
    pub(super) why: &'static str,
}

const PRODUCT: &str = "    width * height\n";
const SUM: &str = "    width + height\n";

/// All steps, in order.
pub(super) const STEPS: [DemoStep; 8] = [
    DemoStep {
        name: "first run",
        edit: None,
        place: Place::Here,
        expected: Expected::All,
        why: "Nothing is known yet: everything is built, run and recorded.",
    },
    DemoStep {
        name: "nothing changed",
        edit: None,
        place: Place::Here,
        expected: Expected::Nothing,
        why: "The same files, toolchain and settings were green: nothing is built or run.",
    },
    DemoStep {
        name: "comment edited",
        edit: Some((SHAPES, "// The product of both sides.", "// Width times height.")),
        place: Place::Here,
        expected: Expected::Some,
        why: "The rebuilt programs are the same byte for byte: only doctests of that source ran.",
    },
    DemoStep {
        name: "fixture edited",
        edit: Some((FIXTURE, "# orders", "# the orders")),
        place: Place::Here,
        expected: Expected::Some,
        why: "Runs are observed: only this target had read the fixture.",
    },
    DemoStep {
        name: "code broken",
        edit: Some((SHAPES, PRODUCT, SUM)),
        place: Place::Here,
        expected: Expected::Red,
        why: "What the edit reaches was run. A failure is never answered from cache.",
    },
    DemoStep {
        name: "code mended",
        edit: Some((SHAPES, SUM, PRODUCT)),
        place: Place::Here,
        expected: Expected::Nothing,
        why: "These very files were green before.",
    },
    DemoStep {
        name: "another terminal",
        edit: None,
        place: Place::OtherTerminal,
        expected: Expected::Some,
        why: "Its variables differ: they do not count where nothing that ran could name them.",
    },
    DemoStep {
        name: "git worktree",
        edit: None,
        place: Place::Worktree,
        expected: Expected::Some,
        why: "Another checkout of the same files: what used no path of the first one is known.",
    },
];

impl DemoStep {
    /// Changes what the step changes.
    pub(super) fn apply(&self, root: &Path) -> io::Result<()> {
        self.edit.map_or(Ok(()), |(file, from, to)| edit(&root.join(file), from, to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::workspace;

    #[test]
    fn each_edit_finds_its_place() {
        let dir = tempfile::tempdir().unwrap();
        workspace::write(dir.path()).unwrap();
        for step in STEPS {
            let Some((file, from, to)) = step.edit else { continue };
            let text = || std::fs::read_to_string(dir.path().join(file)).unwrap();
            assert_eq!(text().matches(from).count(), 1, "{}", step.name);
            step.apply(dir.path()).unwrap();
            assert_eq!(text().matches(to).count(), 1, "{}", step.name);
        }
    }
}
