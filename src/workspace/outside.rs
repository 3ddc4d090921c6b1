//! Which folders outside the workspace belong to it, because a path dependency names them.
//!
//! Takes too much rather than too little: features, targets and profiles are not looked at, and
//! a `path` in any dependency table counts. Only manifests are read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use super::locate::locate;
use super::stamp::PathStamp;
use super::toml_file::{self, TomlError};
use crate::paths::plain;

/// Folders and files outside the root that belong to the workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outside {
    /// Canonical folders of path dependencies outside the root; for a package that inherits from
    /// a workspace out there, also that workspace's `Cargo.toml` (a file). Sorted, each once,
    /// nothing inside the root. One may contain another, or the root.
    pub roots: Vec<PathBuf>,
    /// Canonical folders inside the root that something names as a package, there or not; the
    /// root itself left out. Sorted. Git may ignore one, and cargo builds it all the same.
    pub packages: Vec<PathBuf>,
    /// Manifests that are not there, in folders that a pattern in `workspace.members` matches.
    /// Cargo refuses a workspace with such a folder, whether or not git ignores it. Sorted.
    pub missing: Vec<PathBuf>,
    /// Every manifest outside the root that was read or found absent, every folder that a pattern
    /// in `workspace.members` was matched in, and the missing manifests, as they were then.
    consulted: BTreeMap<PathBuf, PathStamp>,
    taken: Option<SystemTime>,
}

impl Outside {
    /// Whether nothing has changed that this list was made from, except manifests inside the root:
    /// the caller knows their digests.
    #[must_use]
    pub(crate) fn is_current(&self) -> bool {
        self.taken.is_some_and(|taken| {
            self.consulted.iter().all(|(path, stamp)| stamp.is_settled(taken) && stamp.proves(path))
        })
    }
}

/// The folders outside `root` that path dependencies reach, from all the `manifests` of the tree
/// (absolute paths; the root's own is read in any case) and `overrides`, the folders that cargo's
/// configuration names (`CargoConfig::package_paths`). Outside packages are followed further.
///
/// # Errors
/// Only if the root's manifest cannot be read or parsed, or another cannot be read. One that is
/// there but does not parse is often a test's fixture: everything in it that looks like a path
/// counts instead.
pub(crate) fn outside_roots(
    root: &Path,
    manifests: &[PathBuf],
    overrides: &[PathBuf],
) -> Result<Outside, TomlError> {
    let root = canonical(root);
    let mut search = OutsideSearch {
        outside: Outside { taken: Some(SystemTime::now()), ..Outside::default() },
        root: root.clone(),
        roots: BTreeSet::new(),
        missing: BTreeSet::new(),
        packages: BTreeSet::new(),
        seen: BTreeSet::new(),
        todo: Vec::new(),
    };
    toml_file::read(&root.join("Cargo.toml"))?;
    search.manifest(&root.join("Cargo.toml"));
    manifests.iter().for_each(|manifest| search.manifest(manifest));
    for folder in overrides {
        search.folder(folder);
        search.source(folder);
    }
    search.run()
}

/// Whether the package in `package` is a member of the workspace in `root` (both canonical): cargo
/// refuses to work in a package that lies below a workspace and is no member of it. A package that
/// a dependency names by its path is taken for a member too, whatever table that stands in.
///
/// # Errors
/// If a manifest cannot be read, or the root's cannot be parsed.
pub(crate) fn is_member(root: &Path, package: &Path) -> Result<bool, TomlError> {
    if package == root {
        return Ok(true);
    }
    let manifest = toml_file::read(&root.join("Cargo.toml"))?.unwrap_or_default();
    let list = manifest.get("workspace").and_then(|workspace| workspace.get("members")?.as_array());
    let mut members = list.into_iter().flatten().filter_map(toml::Value::as_str);
    let is_named = |member: &str| {
        canonical(&root.join(member)) == package
            || expand(root, Path::new(member)).folders.iter().any(|folder| folder == package)
    };
    // Only then all manifests must be read.
    Ok(members.any(is_named)
        || outside_roots(root, &[], &[])?.packages.iter().any(|folder| folder == package))
}

/// The folders of the packages inside the root (canonical) that its manifest or one of theirs names, and its
/// own if it has a package. Sorted.
///
/// # Errors
/// Those of [`outside_roots`].
pub(crate) fn packages_inside(root: &Path) -> Result<Vec<PathBuf>, TomlError> {
    let mut packages = outside_roots(root, &[], &[])?.packages;
    packages.retain(|folder| folder.join("Cargo.toml").is_file());
    let manifest = toml_file::read(&root.join("Cargo.toml"))?.unwrap_or_default();
    if manifest.contains_key("package") {
        packages.insert(0, root.to_owned());
    }
    Ok(packages)
}

struct OutsideSearch {
    outside: Outside,
    root: PathBuf,
    roots: BTreeSet<PathBuf>,
    missing: BTreeSet<PathBuf>,
    packages: BTreeSet<PathBuf>,
    seen: BTreeSet<PathBuf>,
    todo: Vec<PathBuf>,
}

impl OutsideSearch {
    fn manifest(&mut self, manifest: &Path) {
        if self.seen.insert(manifest.to_owned()) {
            self.todo.push(manifest.to_owned());
        }
    }

    /// A folder that something names as a package.
    fn folder(&mut self, folder: &Path) {
        let folder = canonical(folder);
        self.manifest(&folder.join("Cargo.toml"));
        if !folder.starts_with(&self.root) {
            // A folder that is not there (yet) counts: its coming into being must be seen.
            self.roots.insert(folder);
        } else if folder != self.root {
            self.packages.insert(folder);
        }
    }

    fn run(mut self) -> Result<Outside, TomlError> {
        while let Some(path) = self.todo.pop() {
            let inside = path.starts_with(&self.root);
            if !inside {
                self.outside.consulted.insert(path.clone(), PathStamp::followed(&path));
            }
            let Some(bytes) = toml_file::read_bytes(&path)? else { continue };
            let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
            match toml_file::parse(&path, &bytes) {
                Ok(manifest) => self.table(&folder, &manifest, inside),
                Err(_) => {
                    for text in quoted(&String::from_utf8_lossy(&bytes)) {
                        self.folder(&folder.join(text));
                    }
                }
            }
        }
        self.outside.roots = self.roots.into_iter().collect();
        self.outside.packages = self.packages.into_iter().collect();
        self.outside.missing = self.missing.into_iter().collect();
        Ok(self.outside)
    }

    fn table(&mut self, folder: &Path, manifest: &toml::Table, inside: bool) {
        for path in dependency_paths(manifest) {
            self.folder(&folder.join(path));
        }
        if let Some(workspace) = manifest.get("workspace") {
            let list = workspace.get("members").and_then(toml::Value::as_array);
            for member in list.into_iter().flatten().filter_map(toml::Value::as_str) {
                self.folder(&folder.join(without_pattern(member)));
                // Outside, the folder above them counts as a whole.
                if inside {
                    self.pattern(folder, Path::new(member));
                }
            }
        } else if !inside {
            self.inherited(folder, manifest);
        }
    }

    /// A folder inside the root that may stand for a registry, with packages in it. Git may ignore them.
    fn source(&mut self, folder: &Path) {
        let folder = canonical(folder);
        if !folder.starts_with(&self.root) {
            return;
        }
        self.outside.consulted.insert(folder.clone(), PathStamp::followed(&folder));
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let package = entry.path();
            let manifest = package.join("Cargo.toml");
            if manifest.is_file() {
                self.folder(&package);
            } else if package.is_dir() {
                let stamp = PathStamp::followed(&manifest);
                self.outside.consulted.insert(manifest, stamp);
            }
        }
    }

    /// The folders inside the root that a member's pattern with wildcards matches. Git may ignore
    /// one, and cargo takes it all the same.
    fn pattern(&mut self, folder: &Path, member: &Path) {
        let Matches { folders, listed } = expand(folder, member);
        for path in listed {
            self.outside.consulted.insert(path.clone(), PathStamp::followed(&path));
        }
        for folder in folders {
            if !folder.starts_with(&self.root) {
                continue;
            }
            let manifest = folder.join("Cargo.toml");
            if manifest.is_file() {
                self.folder(&folder);
            } else {
                let stamp = PathStamp::followed(&manifest);
                self.outside.consulted.insert(manifest.clone(), stamp);
                self.missing.insert(manifest);
            }
        }
    }

    /// An outside package that inherits takes from the manifest of its own workspace: that file
    /// decides its build too, and the paths there are relative to it.
    fn inherited(&mut self, folder: &Path, manifest: &toml::Table) {
        let inherits = inherits(manifest);
        if !inherits {
            return;
        }
        // Not found or not parsable: cargo will refuse the package; what is there counts anyway.
        let Ok(root) = locate(folder) else { return };
        let path = root.join("Cargo.toml");
        self.outside.consulted.insert(path.clone(), PathStamp::followed(&path));
        if path.starts_with(&self.root) {
            return;
        }
        self.roots.insert(path.clone());
        let Ok(Some(workspace)) = toml_file::read(&path) else { return };
        let names = inherited_names(manifest);
        let table = workspace.get("workspace").and_then(|table| table.get("dependencies"));
        for (name, dependency) in table.and_then(toml::Value::as_table).into_iter().flatten() {
            if names.contains(name.as_str())
                && let Some(path) = dependency.get("path").and_then(toml::Value::as_str)
            {
                self.folder(&root.join(path));
            }
        }
    }
}

/// Tables whose entries are dependencies, wherever they stand.
const DEPENDENCY_TABLES: &[&str] = &[
    "dependencies",
    "dev-dependencies",
    "dev_dependencies",
    "build-dependencies",
    "build_dependencies",
    "replace",
];

/// All tables of dependencies in a manifest: at the top, below `workspace`, `target.*`, `patch.*`.
fn dependency_tables(manifest: &toml::Table) -> impl Iterator<Item = &toml::Table> {
    let nested = |key: &str| manifest.get(key).and_then(toml::Value::as_table);
    let targets = nested("target").into_iter().flat_map(toml::Table::values);
    let holders = std::iter::once(manifest)
        .chain(nested("workspace"))
        .chain(targets.filter_map(toml::Value::as_table));
    holders
        .flat_map(|holder| DEPENDENCY_TABLES.iter().filter_map(|name| holder.get(*name)))
        .chain(nested("patch").into_iter().flat_map(toml::Table::values))
        .filter_map(toml::Value::as_table)
}

fn dependency_paths(manifest: &toml::Table) -> impl Iterator<Item = &str> {
    let pointer = ["package", "project"].into_iter().filter_map(|key| manifest.get(key));
    dependency_tables(manifest)
        .flat_map(toml::Table::values)
        .filter_map(|dependency| dependency.get("path"))
        .chain(pointer.filter_map(|package| package.get("workspace")))
        .filter_map(toml::Value::as_str)
}

fn is_inherited(value: &toml::Value) -> bool {
    value.get("workspace").and_then(toml::Value::as_bool) == Some(true)
}

fn inherited_names(manifest: &toml::Table) -> BTreeSet<&str> {
    dependency_tables(manifest)
        .flatten()
        .filter(|(_, value)| is_inherited(value))
        .map(|(name, _)| name.as_str())
        .collect()
}

/// Whether anything of the package comes from its workspace; profiles and the resolver do not
/// matter, since a dependency is built with ours.
fn inherits(manifest: &toml::Table) -> bool {
    let package = manifest.get("package").and_then(toml::Value::as_table);
    !inherited_names(manifest).is_empty()
        || package.into_iter().flat_map(toml::Table::values).any(is_inherited)
        || manifest.get("lints").is_some_and(is_inherited)
}

/// The part of a member's pattern before its first wildcard.
fn without_pattern(member: &str) -> PathBuf {
    let plain =
        |part: &Component<'_>| !part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']);
    Path::new(member).components().take_while(plain).collect()
}

/// The folders that a member's pattern with wildcards matches.
#[derive(Default)]
struct Matches {
    folders: Vec<PathBuf>,
    /// The folders that were listed for it: a new name in one of them may match too.
    listed: Vec<PathBuf>,
}

fn expand(folder: &Path, member: &Path) -> Matches {
    let mut found = vec![canonical(folder)];
    let mut listed = Vec::new();
    for part in member.components() {
        let name = part.as_os_str().to_string_lossy();
        if !name.contains(['*', '?', '[', '{']) {
            found.iter_mut().for_each(|folder| *folder = canonical(&folder.join(part)));
            continue;
        }
        // Cargo itself would refuse what is no pattern.
        let Ok(glob) = globset::Glob::new(&name) else { return Matches::default() };
        let glob = glob.compile_matcher();
        let inner = found.iter().flat_map(std::fs::read_dir).flatten().flatten();
        let inner: Vec<_> =
            inner.filter(|entry| glob.is_match(entry.file_name())).map(|e| e.path()).collect();
        listed.append(&mut found);
        found = inner;
    }
    found.retain(|folder| !listed.is_empty() && folder.is_dir());
    Matches { folders: found, listed }
}

/// Everything in quotes that could lead out of the folder.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split(['"', '\''])
        .filter(|piece| !piece.contains('\n') && (piece.starts_with('/') || piece.contains("..")))
}

/// The canonical path; for what is not there, the path with its dots taken out.
fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| plain(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    struct Tree {
        _dir: tempfile::TempDir,
        base: PathBuf,
    }

    fn tree(files: &[(&str, &str)]) -> Tree {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let this = Tree { _dir: dir, base };
        files.iter().for_each(|(path, text)| this.write(path, text));
        this
    }

    impl Tree {
        fn write(&self, path: &str, text: &str) {
            let path = self.base.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn outside(&self, overrides: &[PathBuf]) -> Vec<String> {
            let manifests = [self.base.join("ws/Cargo.toml"), self.base.join("ws/a/Cargo.toml")];
            let outside = outside_roots(&self.base.join("ws"), &manifests, overrides).unwrap();
            let relative = |path: &PathBuf| {
                path.strip_prefix(&self.base).unwrap().to_str().unwrap().to_owned()
            };
            outside.roots.iter().map(relative).collect()
        }
    }

    const ROOT: &str = "[workspace]\nmembers=['a']\n";

    #[test]
    fn every_table_counts_and_nothing_inside_does() {
        let tables = [
            "dependencies.x",
            "dev-dependencies.x",
            "build-dependencies.x",
            "target.'cfg(windows)'.dependencies.x",
            "target.x86_64-unknown-linux-gnu.dev-dependencies.x",
            "patch.crates-io.x",
            "patch.'https://example.org/x'.x",
            "replace.'x:1.0.0'",
            "workspace.dependencies.x",
        ];
        for table in tables {
            let manifest = format!("[{table}]\npath='../../dep'\n");
            let tree = tree(&[
                ("ws/Cargo.toml", ROOT),
                ("ws/a/Cargo.toml", &format!("{manifest}[dependencies.y]\npath='../b'")),
                ("dep/Cargo.toml", ""),
            ]);
            assert_eq!(tree.outside(&[]), ["dep"], "{table}");
        }
    }

    #[test]
    fn outside_packages_are_followed_each_once_and_cycles_end() {
        let tree = tree(&[
            ("ws/Cargo.toml", ROOT),
            ("ws/a/Cargo.toml", "[dependencies]\nx={path='../../x'}\nx2={path='../.././x/'}"),
            ("x/Cargo.toml", "[dependencies]\ny={path='../y'}\na={path='../ws/a'}"),
            ("y/Cargo.toml", "[dev-dependencies]\nx={path='../x'}\nz={path='../z'}"),
        ]);
        assert_eq!(tree.outside(&[]), ["x", "y", "z"], "z is not there, and counts");
    }

    #[test]
    fn inheritance_leads_to_the_other_workspace() {
        let tree = tree(&[
            ("ws/Cargo.toml", ROOT),
            ("ws/a/Cargo.toml", "[dependencies]\nx={path='../../other/x'}"),
            (
                "other/Cargo.toml",
                "[workspace]\n[workspace.dependencies]\ny={path='y'}\nunused={path='u'}",
            ),
            ("other/x/Cargo.toml", "[package]\nname='x'\n[dependencies]\ny.workspace=true"),
            ("other/y/Cargo.toml", "[package]\nname='y'"),
        ]);
        assert_eq!(tree.outside(&[]), ["other/Cargo.toml", "other/x", "other/y"]);
    }

    #[test]
    fn members_and_overrides_outside_count() {
        let tree = tree(&[
            ("ws/Cargo.toml", "[workspace]\nmembers=['a', '../m', '../many/*']"),
            ("m/Cargo.toml", ""),
            ("many/k/Cargo.toml", ""),
            ("o/Cargo.toml", ""),
        ]);
        assert_eq!(tree.outside(&[tree.base.join("o")]), ["m", "many", "o"]);
    }

    #[test]
    fn packages_inside_are_named_whoever_names_them() {
        let tree = tree(&[
            (
                "ws/Cargo.toml",
                "[workspace]\nmembers=['a', 'many/*/x?']\n[dependencies]\nv={path='v'}",
            ),
            ("ws/a/Cargo.toml", "[dependencies]\nw={path='../w'}"),
            ("ws/many/k/x1/Cargo.toml", ""),
            ("ws/many/k/y1/Cargo.toml", ""),
            ("ws/many/l/x2/none", ""),
        ]);
        let outside = outside_roots(&tree.base.join("ws"), &[], &[]).unwrap();
        let expected = ["a", "many", "many/k/x1", "v", "w"];
        assert_eq!(outside.packages, expected.map(|name| tree.base.join("ws").join(name)));
        assert_eq!(outside.missing, [tree.base.join("ws/many/l/x2/Cargo.toml")]);
        assert!(outside.roots.is_empty());
    }

    #[test]
    fn a_member_is_named_matched_or_depended_on() {
        let tree = tree(&[
            ("ws/Cargo.toml", "[workspace]\nmembers=['a', 'many/*']"),
            ("ws/a/Cargo.toml", "[package]\n[dev-dependencies]\nd={path='../d'}"),
            ("ws/d/Cargo.toml", "[package]\n[dependencies]\ne={path='../e'}"),
            ("ws/e/Cargo.toml", "[package]"),
            ("ws/many/k/Cargo.toml", "[package]"),
            ("ws/none/Cargo.toml", "[package]\n[dependencies]\na={path='../a'}"),
        ]);
        let root = tree.base.join("ws");
        for member in ["", "a", "many/k", "d", "e"] {
            assert!(is_member(&root, &plain(&root.join(member))).unwrap(), "{member}");
        }
        assert!(!is_member(&root, &root.join("none")).unwrap());
        let named = ["a", "d", "e", "many/k"].map(|folder| root.join(folder));
        assert_eq!(packages_inside(&root).unwrap(), named);
        tree.write("ws/Cargo.toml", "[package]\n[workspace]\nmembers=['a']");
        assert_eq!(packages_inside(&root).unwrap()[0], root);
        tree.write("ws/Cargo.toml", "[workspace");
        assert!(is_member(&root, &root.join("a")).is_err());
    }

    #[test]
    fn a_new_folder_that_a_pattern_matches_is_noticed_with_and_without_its_manifest() {
        let tree = tree(&[
            ("ws/Cargo.toml", "[workspace]\nmembers=['crates/*']"),
            ("ws/crates/a/Cargo.toml", "[package]"),
        ]);
        let look = || {
            let mut outside = outside_roots(&tree.base.join("ws"), &[], &[]).unwrap();
            outside.taken = Some(SystemTime::now() + Duration::from_secs(60));
            outside
        };
        let before = look();
        assert!(before.is_current() && before.missing.is_empty());
        std::fs::create_dir(tree.base.join("ws/crates/new")).unwrap();
        assert!(!before.is_current());
        let empty = look();
        let manifest = tree.base.join("ws/crates/new/Cargo.toml");
        assert!(empty.is_current());
        assert_eq!(empty.missing, std::slice::from_ref(&manifest));
        std::fs::write(&manifest, "[package]").unwrap();
        assert!(!empty.is_current(), "its manifest came");
        let there = look();
        assert!(
            there.missing.is_empty() && there.packages.contains(&tree.base.join("ws/crates/new"))
        );
        std::fs::write(tree.base.join("ws/crates/file"), "").unwrap();
        assert_eq!(look().packages, there.packages, "a file is no member");
    }

    #[test]
    fn a_symlink_out_of_the_tree_is_outside() {
        let tree = tree(&[
            ("ws/Cargo.toml", ROOT),
            ("ws/a/Cargo.toml", "[dependencies]\nx={path='../link'}"),
            ("x/Cargo.toml", ""),
        ]);
        std::os::unix::fs::symlink(tree.base.join("x"), tree.base.join("ws/link")).unwrap();
        assert_eq!(tree.outside(&[]), ["x"]);
    }

    #[test]
    fn a_broken_fixture_gives_too_much_and_a_broken_root_is_an_error() {
        let broken = "[dependencies\nx = { path = '../../x' }";
        let tree = tree(&[("ws/Cargo.toml", ROOT), ("ws/a/Cargo.toml", broken)]);
        assert_eq!(tree.outside(&[]), ["x"]);
        tree.write("ws/Cargo.toml", "[workspace");
        let error = outside_roots(&tree.base.join("ws"), &[], &[]).unwrap_err();
        assert!(matches!(error, TomlError::Parse { line: 1, .. }), "{error}");
    }

    #[test]
    fn a_change_out_there_is_noticed() {
        let tree = tree(&[
            ("ws/Cargo.toml", "[dependencies]\nx={path='../x'}"),
            ("x/Cargo.toml", "[package]"),
        ]);
        let mut outside = outside_roots(&tree.base.join("ws"), &[], &[]).unwrap();
        assert!(!outside.is_current(), "not settled");
        outside.taken = Some(SystemTime::now() + Duration::from_secs(60));
        assert!(outside.is_current());
        tree.write("x/Cargo.toml", "[package]\n[dependencies]\ny={path='../y'}");
        assert!(!outside.is_current());
    }
}
