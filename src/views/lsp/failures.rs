//! The failures of a project as places in files with messages.

use std::path::{Path, PathBuf};

use crate::model::{Outcome, SourcePlace, TargetId, TestEntry};
use crate::protocol::LiveProject;

/// A failure, and where it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlacedFailure {
    pub(super) file: PathBuf,
    /// From 1.
    pub(super) line: usize,
    /// In characters, from 1.
    pub(super) column: Option<usize>,
    pub(super) message: String,
    /// The test, in words.
    pub(super) test: Option<String>,
    /// Where the test function is, if the failure is shown elsewhere.
    pub(super) test_place: Option<(PathBuf, usize)>,
}

/// All failures of a project. `find` tells where a test function is.
pub(super) fn failures(
    root: &Path,
    project: &LiveProject,
    mut find: impl FnMut(&TargetId, &str) -> Option<(PathBuf, usize)>,
) -> Vec<PlacedFailure> {
    let mut found = Vec::new();
    for (id, target) in &project.targets {
        let failed = target.tests.values().filter(|test| test.outcome == Outcome::Failed);
        for test in failed {
            let place = test.place.as_ref().and_then(|place| existing(root, place));
            let place = place.map(|(file, line, _)| (file, line)).or_else(|| find(id, &test.name));
            found.push(of_test(root, id, test, place));
        }
        if let Some(message) = &target.event.message {
            found.push(PlacedFailure {
                file: root.join("Cargo.toml"),
                line: 1,
                column: None,
                message: format!("{id}: {message}"),
                test: None,
                test_place: None,
            });
        }
    }
    found
}

fn of_test(
    root: &Path,
    id: &TargetId,
    test: &TestEntry,
    test_place: Option<(PathBuf, usize)>,
) -> PlacedFailure {
    let name = &test.name;
    let message = test.message.clone().unwrap_or_else(|| "failed".to_owned());
    let named = Some(format!("test {name} of {id}"));
    if let Some((file, line, column)) = test.panic.as_ref().and_then(|at| existing(root, at)) {
        return PlacedFailure { file, line, column, message, test: named, test_place };
    }
    let message = format!("{name}: {message}");
    // A failure without any place is shown where the project begins, rather than not at all.
    let (file, line) = test_place.unwrap_or_else(|| (root.join("Cargo.toml"), 1));
    PlacedFailure { file, line, column: None, message, test: named, test_place: None }
}

/// A place in a file that is there.
fn existing(root: &Path, place: &SourcePlace) -> Option<(PathBuf, usize, Option<usize>)> {
    let file = root.join(&place.file).canonicalize().ok().filter(|file| file.is_file())?;
    Some((file, place.line as usize, place.column.map(|column| column as usize)))
}

#[cfg(test)]
mod tests {
    use super::super::marks::tests::{project, target};
    use super::*;

    #[test]
    fn a_failure_is_shown_where_it_panicked_or_at_its_test_or_at_least_somewhere() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::write(root.join("a.rs"), "").unwrap();
        let tests = [("ok", Outcome::Ok), ("t", Outcome::Failed)];
        let mut project = project(&tests);
        let at = |project: &LiveProject, place: Option<usize>| {
            let place = place.map(|line| (root.join("t.rs"), line));
            let mut found = failures(&root, project, |_, _| place.clone());
            assert_eq!(found.len(), 1);
            let found = found.remove(0);
            assert_eq!(found.test.as_deref(), Some("test t of p"));
            let file = found.file.file_name().unwrap().to_str().unwrap().to_owned();
            (file, found.line, found.message, found.test_place.is_some())
        };
        assert_eq!(at(&project, None), ("Cargo.toml".into(), 1, "t: failed".into(), false));
        assert_eq!(at(&project, Some(7)), ("t.rs".into(), 7, "t: failed".into(), false));
        let target = project.targets.get_mut(&target()).unwrap();
        let test = target.tests.get_mut("t").unwrap();
        test.message = Some("left: 1".into());
        let panic = |file: &str| SourcePlace { file: file.into(), line: 3, column: Some(5) };
        test.panic = Some(panic("/rustc/0/core.rs"));
        assert_eq!(at(&project, Some(7)), ("t.rs".into(), 7, "t: left: 1".into(), false));
        let target = project.targets.get_mut(&super::super::marks::tests::target()).unwrap();
        target.tests.get_mut("t").unwrap().panic = Some(panic("a.rs"));
        assert_eq!(at(&project, Some(7)), ("a.rs".into(), 3, "left: 1".into(), true));
    }
}
