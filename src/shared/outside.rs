//! Whether a file is out of reach of the code under test: a change to the code must not change whom
//! we believe, and a test must not find a key beside it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::paths::MAX_SYMLINKS;

/// A file, or a link on the way to it, lies in the tree under test.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} lies in the code under test, {}, where a change to the code could change it: keep it elsewhere",
    path.display(), tree.display()
)]
pub(crate) struct InsideTree {
    path: PathBuf,
    tree: PathBuf,
}

/// Whether neither the file nor any link on the way to it lies in the tree under test: the workspace
/// with the repository around it.
///
/// # Errors
/// If one does.
pub(super) fn outside_tree(path: &Path, workspace_root: &Path) -> Result<(), InsideTree> {
    let tree = tree_of(workspace_root);
    let inside = || Err(InsideTree { path: path.to_owned(), tree: tree.clone() });
    if path.starts_with(workspace_root) || path.starts_with(&tree) {
        return inside();
    }
    let mut rest: VecDeque<OsString> = words(path).collect();
    let (mut real, mut links) = (PathBuf::from("/"), 0);
    while let Some(word) = rest.pop_front() {
        if word == ".." {
            real.pop();
            continue;
        }
        real.push(word);
        if real.starts_with(&tree) {
            return inside();
        }
        if let Ok(target) = fs::read_link(&real) {
            links += 1;
            if links > MAX_SYMLINKS {
                return inside();
            }
            real.pop();
            if target.is_absolute() {
                real = PathBuf::from("/");
            }
            for word in words(&target).rev() {
                rest.push_front(word);
            }
        }
    }
    Ok(())
}

/// The repository around a workspace, without links; the workspace where there is none.
fn tree_of(workspace_root: &Path) -> PathBuf {
    let real = workspace_root.canonicalize().unwrap_or_else(|_| workspace_root.to_owned());
    let repository = real.ancestors().find(|dir| dir.join(".git").exists());
    repository.unwrap_or(&real).to_owned()
}

/// The names and `..` of a path.
fn words(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    let is_word =
        |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    path.components().filter(is_word).map(|part| part.as_os_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn no_way_leads_through_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let root = base.join("repository/workspace");
        fs::create_dir_all(&root).unwrap();
        fs::create_dir(base.join("repository/.git")).unwrap();
        fs::create_dir(base.join("keys")).unwrap();
        fs::write(base.join("keys/signers"), "").unwrap();
        fs::write(root.join("signers"), "").unwrap();
        symlink(base.join("keys/signers"), root.join("link")).unwrap();
        symlink(base.join("keys"), root.join("folder")).unwrap();
        symlink(root.join("folder"), base.join("keys/loop")).unwrap();
        symlink(root.join("signers"), base.join("keys/in")).unwrap();
        symlink(&root, base.join("other-name")).unwrap();
        let ok = |path: &str| outside_tree(&base.join(path), &root).is_ok();
        assert!(ok("keys/signers"));
        assert!(ok("keys/absent"));
        for path in [
            "repository/workspace/signers",
            "repository/workspace/link",
            "repository/signers",
            "keys/loop/signers",
            "keys/in",
            "other-name/signers",
            "keys/../repository/workspace/signers",
        ] {
            assert!(!ok(path), "{path}");
        }
        assert!(outside_tree(&root.join("signers"), &base.join("other-name")).is_err());
    }

    #[test]
    fn a_workspace_without_a_repository_is_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let root = base.join("a");
        fs::create_dir(&root).unwrap();
        assert!(outside_tree(&base.join("signers"), &root).is_ok());
        assert!(outside_tree(&base.join("ab"), &root).is_ok());
        assert!(outside_tree(&root.join("signers"), &root).is_err());
    }
}
