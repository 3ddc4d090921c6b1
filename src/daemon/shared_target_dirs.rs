//! Finds projects that build into the same target directory.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::protocol::ProjectStatus;

/// Notes for each project which others build into its target directory, through links or not: cargo
/// builds one at a time there.
pub(super) fn note_shared_target_dirs(projects: &mut [ProjectStatus]) {
    let dirs = |project: &ProjectStatus| {
        project.target_dirs.iter().map(|dir| PathBuf::from(&dir.0)).collect::<Vec<_>>()
    };
    let all: Vec<_> =
        projects.iter().map(|project| (project.path.clone(), dirs(project))).collect();
    for (project, notes) in projects.iter_mut().zip(notes(&all)) {
        project.notes.extend(notes);
    }
}

/// The notes for each of these projects with their target directories.
fn notes(projects: &[(PathBuf, Vec<PathBuf>)]) -> Vec<Vec<String>> {
    let mut users: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
    for (index, (_, dirs)) in projects.iter().enumerate() {
        for dir in dirs {
            let users =
                users.entry(dir.canonicalize().unwrap_or_else(|_| dir.clone())).or_default();
            if !users.contains(&index) {
                users.push(index);
            }
        }
    }
    let mut notes = vec![Vec::new(); projects.len()];
    for (dir, users) in users.into_iter().filter(|(_, users)| users.len() > 1) {
        for &index in &users {
            let others = users.iter().filter(|other| **other != index);
            let names: Vec<_> =
                others.map(|other| projects[*other].0.display().to_string()).collect();
            notes[index].push(format!(
                "shares the target directory {} with {}: one build at a time",
                dir.display(),
                names.join(", ")
            ));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_folder_by_two_names_is_shared() {
        let base = tempfile::tempdir().unwrap();
        let real = base.path().join("real");
        std::fs::create_dir(&real).unwrap();
        let link = base.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let gone = PathBuf::from("/no/such");
        let projects = [
            ("/a".into(), vec![real.clone(), "/own".into()]),
            ("/b".into(), vec![link, real]),
            ("/c".into(), vec![gone.clone()]),
            ("/d".into(), vec![gone]),
            ("/e".into(), vec![]),
        ];
        let found = notes(&projects);
        let [a, b, c, d, e] = &found[..] else { panic!("{found:?}") };
        assert!(a[0].contains("with /b:") && a.len() == 1, "{a:?}");
        assert!(b[0].contains("with /a:") && b.len() == 1, "{b:?}");
        assert!(c[0].contains("/no/such with /d") && d[0].contains("with /c"), "{c:?} {d:?}");
        assert!(e.is_empty());
    }
}
