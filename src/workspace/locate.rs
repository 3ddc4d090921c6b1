//! Finds the workspace root by reading manifests in cargo's order.

use std::io;
use std::path::{Path, PathBuf};

use super::toml_file::{self, TomlError};

/// Why there is no workspace around a folder.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocateError {
    /// The folder itself cannot be reached.
    #[error("cannot look into `{}`: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// No manifest here or above.
    #[error("no `Cargo.toml` in `{}` or any folder above it", .0.display())]
    NoManifest(PathBuf),
    /// A manifest on the way cannot be read or parsed.
    #[error(transparent)]
    Manifest(#[from] TomlError),
    /// `package.workspace` names a folder without a manifest.
    #[error("`{}` says that its workspace is `{}`, and there is no `Cargo.toml`", manifest.display(), root.display())]
    NoSuchRoot {
        /// The member's manifest.
        manifest: PathBuf,
        /// The folder that it points to.
        root: PathBuf,
    },
}

/// The root folder (canonical) of the workspace that cargo would work on in `start`, which may
/// be a folder or a file such as a manifest.
///
/// The rules are cargo's: the nearest manifest is the package; `package.workspace` points at the
/// root; otherwise the nearest manifest upwards with a `[workspace]` that does not exclude the
/// package; otherwise the package is its own root.
///
/// # Errors
/// No manifest, or one on the way that cannot be read or parsed.
pub(crate) fn locate(start: &Path) -> Result<PathBuf, LocateError> {
    let start = start
        .canonicalize()
        .map_err(|source| LocateError::Folder { path: start.to_owned(), source })?;
    let package = start
        .ancestors()
        .find(|folder| folder.join("Cargo.toml").is_file())
        .ok_or_else(|| LocateError::NoManifest(start.clone()))?;
    for folder in package.ancestors() {
        // Inside `target/package` lies what `cargo package` unpacked: a world of its own.
        if folder.ends_with("target/package") {
            break;
        }
        let path = folder.join("Cargo.toml");
        let Some(manifest) = toml_file::read(&path)? else { continue };
        if let Some(workspace) = manifest.get("workspace") {
            if folder == package || !excludes(folder, workspace, package) {
                return Ok(folder.to_owned());
            }
        } else if let Some(root) = pointer(&manifest) {
            let root = folder.join(root);
            let found = root.join("Cargo.toml").is_file().then(|| root.canonicalize().ok());
            return found.flatten().ok_or(LocateError::NoSuchRoot { manifest: path, root });
        }
    }
    Ok(package.to_owned())
}

/// `package.workspace`.
fn pointer(manifest: &toml::Table) -> Option<&str> {
    manifest.get("package").or_else(|| manifest.get("project"))?.get("workspace")?.as_str()
}

/// Whether the workspace in `root` excludes the package: by cargo's rule a member that is named
/// outright is never excluded, and both are prefixes of the path, not patterns.
fn excludes(root: &Path, workspace: &toml::Value, package: &Path) -> bool {
    let names = |key: &str| {
        let list = workspace.get(key).and_then(toml::Value::as_array);
        list.into_iter()
            .flatten()
            .filter_map(toml::Value::as_str)
            .any(|name| package.starts_with(root.join(name)))
    };
    names("exclude") && !names("members")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        (dir, root)
    }

    const PACKAGE: &str = "[package]\nname='p'\nversion='0.1.0'\n";

    #[test]
    fn from_a_nested_folder_to_the_workspace() {
        let (_dir, root) = tree(&[
            ("Cargo.toml", "[workspace]\nmembers=['a']"),
            ("a/Cargo.toml", PACKAGE),
            ("a/src/lib.rs", ""),
        ]);
        for start in ["", "a", "a/src", "a/src/lib.rs", "a/Cargo.toml"] {
            assert_eq!(locate(&root.join(start)).unwrap(), root, "{start}");
        }
    }

    #[test]
    fn excluded_packages_are_their_own_root_unless_named_as_members() {
        let (_dir, root) = tree(&[
            ("Cargo.toml", "[workspace]\nmembers=['x/in']\nexclude=['fuzz', 'x']"),
            ("fuzz/Cargo.toml", PACKAGE),
            ("x/in/Cargo.toml", PACKAGE),
            ("fuzzy/Cargo.toml", PACKAGE),
        ]);
        assert_eq!(locate(&root.join("fuzz")).unwrap(), root.join("fuzz"));
        assert_eq!(locate(&root.join("x/in")).unwrap(), root);
        assert_eq!(locate(&root.join("fuzzy")).unwrap(), root, "a prefix of folders, not letters");
    }

    #[test]
    fn excluded_by_the_inner_one_means_the_outer_one_is_asked() {
        let (_dir, root) = tree(&[
            ("Cargo.toml", "[workspace]"),
            ("in/Cargo.toml", "[workspace]\nexclude=['p']"),
            ("in/p/Cargo.toml", PACKAGE),
        ]);
        assert_eq!(locate(&root.join("in/p")).unwrap(), root);
    }

    #[test]
    fn a_package_can_name_its_workspace() {
        let (_dir, root) = tree(&[
            ("ws/Cargo.toml", "[workspace]\nmembers=['../p']"),
            ("p/Cargo.toml", "[package]\nname='p'\nworkspace='../ws'"),
            ("q/Cargo.toml", "[package]\nname='q'\nworkspace='../no'"),
        ]);
        assert_eq!(locate(&root.join("p")).unwrap(), root.join("ws"));
        assert!(matches!(locate(&root.join("q")), Err(LocateError::NoSuchRoot { .. })));
    }

    #[test]
    fn a_lone_package_is_its_own_root() {
        let (_dir, root) = tree(&[("p/Cargo.toml", PACKAGE), ("p/q/Cargo.toml", PACKAGE)]);
        assert_eq!(locate(&root.join("p/q")).unwrap(), root.join("p/q"));
    }

    #[test]
    fn bad_input_is_named() {
        let (_dir, root) = tree(&[("bad/Cargo.toml", "[package\n"), ("none/x", "")]);
        let error = locate(&root.join("none")).unwrap_err().to_string();
        assert!(error.contains("no `Cargo.toml` in") && error.contains("none"), "{error}");
        let error = locate(&root.join("bad")).unwrap_err().to_string();
        assert!(error.contains("bad/Cargo.toml:1:"), "{error}");
        assert!(matches!(locate(&root.join("gone")), Err(LocateError::Folder { .. })));
    }

    #[test]
    fn an_unreadable_manifest_is_an_error_and_not_a_missing_one() {
        let (_dir, root) = tree(&[("p/Cargo.toml", PACKAGE)]);
        // A folder in the manifest's place of a parent: unreadable for every user, root too.
        std::fs::create_dir_all(root.join("Cargo.toml")).unwrap();
        let error = locate(&root.join("p")).unwrap_err();
        assert!(matches!(error, LocateError::Manifest(TomlError::Unreadable { .. })), "{error}");
    }
}
