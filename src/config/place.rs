//! Where a project's path leads.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::error::Fault;
use crate::paths::MAX_SYMLINKS;

/// The folder's one name, without symbolic links, and what is wrong with it.
///
/// The name is the same whether the folder exists or not, as long as the links on the way do, so
/// that a project that vanishes and comes back stays the same project.
pub(super) fn resolve(path: &Path) -> (PathBuf, Result<(), Fault>) {
    match path.canonicalize() {
        Ok(real) if real.is_dir() => (real, Ok(())),
        Ok(real) => {
            let fault = Fault::NotAFolder(real.clone());
            (real, Err(fault))
        }
        Err(error) => {
            let path = follow(path);
            let fault = match error.kind() {
                std::io::ErrorKind::NotFound => Fault::Missing(path.clone()),
                _ => Fault::Unreachable { path: path.clone(), why: error.to_string() },
            };
            (path, Err(fault))
        }
    }
}

/// Follows an absolute path as far as it exists; the rest is taken by its words.
fn follow(path: &Path) -> PathBuf {
    let mut rest = words(path).collect::<VecDeque<_>>();
    let mut real = PathBuf::from("/");
    let mut links = 0;
    while let Some(word) = rest.pop_front() {
        if word == ".." {
            real.pop();
            continue;
        }
        real.push(word);
        if links < MAX_SYMLINKS
            && let Ok(target) = fs::read_link(&real)
        {
            links += 1;
            real.pop();
            if target.is_absolute() {
                real = PathBuf::from("/");
            }
            for word in words(&target).rev() {
                rest.push_front(word);
            }
        }
    }
    real
}

/// The names and `..` of a path.
fn words(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_folder_has_one_name_whether_it_exists_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir(root.join("real")).unwrap();
        symlink("real", root.join("link")).unwrap();
        symlink(root.join("link/gone"), root.join("far")).unwrap();
        let project = root.join("real/gone");
        let ways = ["real/gone", "link/gone", "link/../link/gone", "real/no/../gone", "far"];
        for way in ways {
            let found = resolve(&root.join(way));
            assert_eq!(found, (project.clone(), Err(Fault::Missing(project.clone()))), "{way}");
        }
        fs::create_dir(&project).unwrap();
        for way in ["real/gone", "link/gone", "link/../link/gone", "far", "real/gone/."] {
            assert_eq!(resolve(&root.join(way)), (project.clone(), Ok(())), "{way}");
        }
    }

    #[test]
    fn files_and_loops_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::write(root.join("file"), "").unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let fault = |name: &str| resolve(&root.join(name)).1.unwrap_err();
        assert_eq!(fault("file"), Fault::NotAFolder(root.join("file")));
        assert!(matches!(fault("file/below"), Fault::Unreachable { .. }));
        assert!(matches!(fault("loop"), Fault::Unreachable { .. }));
    }
}
