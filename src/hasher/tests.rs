//! A ground to walk on, for the tests of the whole.

mod content;
mod ignored;
#[cfg(target_os = "linux")]
mod images;
mod incremental;
mod memo;
mod outside;
mod property;
mod unknown;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::{CodeHasher, DirChange, Options, ScanChanges, Snapshot};
use crate::model::Digest;
use crate::process::{self, Environment, Spec};

/// A throw-away repository, with nothing added, and a home of its own.
pub(super) struct Ground {
    temp: TempDir,
    pub root: PathBuf,
}

impl Ground {
    pub(super) fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        // Without links, as git sees it.
        let root = temp.path().canonicalize().unwrap().join("ws");
        fs::create_dir(&root).unwrap();
        fs::create_dir(temp.path().join("home")).unwrap();
        // All that makes a folder a repository.
        for folder in ["objects", "refs"] {
            fs::create_dir_all(root.join(".git").join(folder)).unwrap();
        }
        fs::write(root.join(".git/HEAD"), "ref: refs/heads/m\n").unwrap();
        Self { temp, root }
    }

    /// A tree with these files, each with its path as content, as a comment in a manifest.
    pub(super) fn with(files: &[&str]) -> Self {
        let ground = Self::new();
        for file in files {
            let mark = if file.ends_with("Cargo.toml") { "#" } else { "" };
            ground.write(file, format!("{mark}{file}"));
        }
        ground
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// Outside of the tree.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.root.with_file_name(name)
    }

    pub(super) fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn mkdir(&self, folder: &str) {
        fs::create_dir_all(self.path(folder)).unwrap();
    }

    pub(super) fn remove(&self, path: &str) {
        let path = self.path(path);
        if path.symlink_metadata().unwrap().is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }

    pub(super) fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    pub(super) fn link(&self, text: &str, at: &str) {
        symlink(text, self.path(at)).unwrap();
    }

    pub(super) fn set_executable(&self, file: &str, on: bool) {
        let mode = if on { 0o755 } else { 0o644 };
        fs::set_permissions(self.path(file), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(super) fn environment(&self) -> Environment {
        let mut environment = Environment::default();
        environment.set("PATH", std::env::var_os("PATH").unwrap());
        environment.set("HOME", self.temp.path().join("home"));
        environment.set("GIT_CONFIG_NOSYSTEM", "1");
        environment
    }

    pub(super) fn options(&self) -> Options {
        Options { environment: self.environment(), ..Options::default() }
    }

    pub(super) fn git_in(&self, folder: &Path, args: &[&str]) {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=m"];
        let modules = ["-c", "protocol.file.allow=always"];
        let spec = Spec::new("git", folder, self.environment());
        let spec = spec.args(identity).args(modules).args(args);
        let output = process::capture(&spec, Duration::from_secs(60)).unwrap();
        assert!(output.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub(super) fn git(&self, args: &[&str]) {
        self.git_in(&self.root, args);
    }

    pub(super) fn hasher(&self) -> CodeHasher {
        self.hasher_with(self.options())
    }

    pub(super) fn hasher_with(&self, options: Options) -> CodeHasher {
        let mut hasher = CodeHasher::with_options(&self.root, options).unwrap();
        // The files of a test are so young that their age would decide by chance.
        hasher.probe.settled = Some(false);
        hasher
    }

    /// The digest that a hasher without a past gives the tree.
    pub(super) fn digest(&self) -> Digest {
        self.digest_with(self.options())
    }

    pub(super) fn digest_with(&self, options: Options) -> Digest {
        let mut hasher = self.hasher_with(options);
        hasher.scan(&mut |_| {});
        known(&hasher)
    }

    /// The paths that count, from the root, folders only if nothing in them does.
    pub(super) fn counted(&self) -> Vec<String> {
        self.counted_with(self.options())
    }

    pub(super) fn counted_with(&self, options: Options) -> Vec<String> {
        let mut hasher = self.hasher_with(options);
        hasher.scan(&mut |_| {});
        listed(&hasher)
    }
}

/// Every path of the manifest.
pub(super) fn listed(hasher: &CodeHasher) -> Vec<String> {
    let empty = super::manifest::ManifestBuilder::new().finish();
    let all = empty.diff(&hasher.manifest());
    all.into_iter().map(|change| change.path.to_string_lossy().into_owned()).collect()
}

pub(super) fn known(hasher: &CodeHasher) -> Digest {
    match hasher.snapshot() {
        Snapshot::Known { digest, .. } => digest,
        Snapshot::Unknown { why } => panic!("unknown: {why:?}"),
    }
}

pub(super) fn unknown(hasher: &CodeHasher) -> Vec<String> {
    match hasher.snapshot() {
        Snapshot::Known { .. } => panic!("known"),
        Snapshot::Unknown { why } => why,
    }
}

/// Keeps watches as the kernel does: on the folder, whatever it is called. Complains where a
/// real watcher would go deaf.
#[derive(Default)]
pub(super) struct Watches {
    by_path: HashMap<PathBuf, Option<(u64, u64)>>,
    pub told: Vec<(&'static str, PathBuf)>,
}

impl Watches {
    pub(super) fn take(&mut self, change: DirChange<'_>) {
        match change {
            DirChange::Entering(path) => {
                let meta = fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
                let other =
                    self.by_path.iter().find(|(_, there)| meta.is_some() && **there == meta);
                assert!(other.is_none(), "{path:?} is watched as {other:?}");
                let before = self.by_path.insert(path.to_owned(), meta);
                assert!(before.is_none(), "{path:?} is watched already");
                self.told.push(("entering", path.to_owned()));
            }
            DirChange::Removed(path) => {
                assert!(self.by_path.remove(path).is_some(), "{path:?} is not watched");
                self.told.push(("removed", path.to_owned()));
            }
        }
    }

    /// The watches are on the folders that the hasher wants watched, and on nothing else.
    pub(super) fn check(&self, hasher: &CodeHasher) {
        let wanted: BTreeSet<PathBuf> = hasher.directories().collect();
        let set: BTreeSet<PathBuf> = self.by_path.keys().cloned().collect();
        assert_eq!(set, wanted);
        for (path, identity) in &self.by_path {
            let now = fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
            assert_eq!(*identity, now, "{path:?} is another folder now");
        }
    }
}

/// A hasher that lives on, with its watches.
pub(super) struct Living {
    pub hasher: CodeHasher,
    pub watches: Watches,
}

impl Living {
    pub(super) fn new(hasher: CodeHasher) -> Self {
        let mut this = Self { hasher, watches: Watches::default() };
        this.scan();
        this
    }

    pub(super) fn scan(&mut self) -> ScanChanges {
        self.watches.told.clear();
        let changes = self.hasher.scan(&mut |change| self.watches.take(change));
        self.watches.check(&self.hasher);
        changes
    }

    pub(super) fn rescan(&mut self, folders: &[PathBuf]) -> ScanChanges {
        self.watches.told.clear();
        let folders = folders.iter().cloned().collect();
        let changes = self.hasher.rescan(&folders, &mut |change| self.watches.take(change));
        self.watches.check(&self.hasher);
        changes
    }

    pub(super) fn rescan_files(&mut self, folders: &[PathBuf]) -> ScanChanges {
        self.watches.told.clear();
        let folders = folders.iter().cloned().collect();
        let changes = self.hasher.rescan_files(&folders, &mut |change| self.watches.take(change));
        self.watches.check(&self.hasher);
        changes
    }

    pub(super) fn known(&self) -> Digest {
        known(&self.hasher)
    }
}
