//! Which projects build into the same target directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::protocol::ProjectStatus;

/// Notes of each project with whom it shares a target directory, whatever links lead there: cargo
/// builds one at a time in it.
pub(super) fn note_shared(projects: &mut [ProjectStatus]) {
    let mut users: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
    for (index, project) in projects.iter().enumerate() {
        for dir in &project.target_dirs {
            let dir = Path::new(&dir.0);
            let real = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
            let users = users.entry(real).or_default();
            if !users.contains(&index) {
                users.push(index);
            }
        }
    }
    for (dir, users) in users.into_iter().filter(|(_, users)| users.len() > 1) {
        for &index in &users {
            let others = users.iter().filter(|other| **other != index);
            let names: Vec<_> =
                others.map(|other| projects[*other].path.display().to_string()).collect();
            let text = format!(
                "shares the target directory {} with {}: one build at a time",
                dir.display(),
                names.join(", ")
            );
            projects[index].notes.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{CacheUse, State};

    fn project(path: &str, dirs: &[&Path]) -> ProjectStatus {
        ProjectStatus {
            path: path.into(),
            state: State::Idle,
            reason: None,
            code_hash: None,
            watch: "events".into(),
            target_dirs: dirs.iter().map(Into::into).collect(),
            notes: Vec::new(),
            last_build: None,
            last_verdict: None,
            cache: CacheUse::default(),
            verified: 0,
            wrong: 0,
            flaky: Vec::new(),
        }
    }

    #[test]
    fn one_folder_by_two_names_is_shared() {
        let base = tempfile::tempdir().unwrap();
        let real = base.path().join("real");
        std::fs::create_dir(&real).unwrap();
        let link = base.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let (gone, own) = (Path::new("/no/such"), Path::new("/own"));
        let mut projects = [
            project("/a", &[&real, own]),
            project("/b", &[&link, &real]),
            project("/c", &[gone]),
            project("/d", &[gone]),
            project("/e", &[]),
        ];
        note_shared(&mut projects);
        let [a, b, c, d, e] = projects.map(|project| project.notes);
        assert!(a[0].contains("with /b:") && a.len() == 1, "{a:?}");
        assert!(b[0].contains("with /a:") && b.len() == 1, "{b:?}");
        assert!(c[0].contains("/no/such with /d") && d[0].contains("with /c"), "{c:?} {d:?}");
        assert!(e.is_empty());
    }
}
