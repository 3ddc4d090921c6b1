//! The tree as the test itself sees it: a plain walk that shares no code with the hasher.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Two trees with the same fingerprint are the same, as far as 64 bits tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprints {
    /// Everything, ignored or not, the dependency outside included.
    pub(super) all: u64,
    /// The files that count under every ignore rule used here.
    pub(super) sure: u64,
}

pub(super) fn fingerprints(root: &Path) -> Fingerprints {
    let mut all = DefaultHasher::new();
    walk(root, "", &|_| true, &mut all);
    walk(&root.with_file_name("outer"), "", &|_| true, &mut all);
    let mut sure = DefaultHasher::new();
    walk(&root.join("src"), "", &|name| !name.starts_with("ignored-"), &mut sure);
    fs::read(root.join("Cargo.toml")).ok().hash(&mut sure);
    Fingerprints { all: all.finish(), sure: sure.finish() }
}

fn walk(folder: &Path, below: &str, wanted: &dyn Fn(&str) -> bool, hasher: &mut DefaultHasher) {
    let Ok(entries) = fs::read_dir(folder) else { return below.hash(hasher) };
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    for name in names.iter().filter(|name| *name != ".git" && wanted(name)) {
        let path = folder.join(name);
        let below = format!("{below}/{name}");
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            (&below, "folder").hash(hasher);
            walk(&path, &below, wanted, hasher);
        } else if metadata.is_symlink() {
            (&below, "link", fs::read_link(&path).unwrap()).hash(hasher);
        } else {
            let executable = metadata.permissions().mode() & 0o100 != 0;
            (&below, executable, fs::read(&path).unwrap()).hash(hasher);
        }
    }
}
