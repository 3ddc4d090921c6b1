//! What belongs to a project although a walk of its folder does not meet it: path dependencies
//! outside, packages that git ignores, folders behind symbolic links.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use crate::hasher::{CodeHasher, FileDigest, file_digest};
use crate::model::{Digest, Digester};
use crate::process::Environment;
use crate::workspace::{Outside, PathStamp};

/// A folder this near to the top is the system's or everybody's (`/usr`, `/home`), and nothing
/// that a project could be made of.
const SHALLOWEST: usize = 3;

/// Everything that lies beyond a walk of the root, as it was at one look.
#[derive(Debug, Default)]
pub(super) struct Beyond {
    /// Folders to be walked too; sorted.
    pub(super) folders: BTreeSet<PathBuf>,
    /// Those of the folders that are there only because nothing else walks them.
    hidden: BTreeSet<PathBuf>,
    /// What belongs to it and is no folder, or not there.
    pub(super) loose: Loose,
    /// Why it is not known what belongs to it.
    pub(super) doubts: Vec<String>,
}

/// What decides where to look.
pub(super) struct View<'a> {
    pub(super) root: &'a Path,
    pub(super) hasher: &'a CodeHasher,
    pub(super) outside: &'a Outside,
    pub(super) target_dirs: &'a [PathBuf],
    pub(super) environment: &'a Environment,
}

impl Beyond {
    /// Looks, `self` being what the look before found.
    pub(super) fn look(&self, view: &View<'_>) -> Self {
        let mut now = Self::default();
        for path in &view.outside.roots {
            if path.is_dir() {
                now.folders.insert(path.clone());
            } else {
                now.loose.add(path);
            }
        }
        view.outside.missing.iter().for_each(|manifest| now.loose.add(manifest));
        for package in &view.outside.packages {
            let manifest = package.join("Cargo.toml");
            if !view.is_built(package) && self.is_hidden(view, package, &manifest) {
                // Only now: nearly all are counted, and this asks the disk.
                now.hidden.extend(manifest.is_file().then(|| package.clone()));
            }
        }
        for link in view.hasher.unfollowed() {
            self.behind(view, &link, &mut now);
        }
        now.folders.extend(now.hidden.iter().cloned());
        now.doubts.extend(view.without_git(&now.folders));
        now
    }

    /// Whether `folder` must be walked by itself, since `sign`, which lies there, is not counted.
    fn is_hidden(&self, view: &View<'_>, folder: &Path, sign: &Path) -> bool {
        // Counted, but perhaps only because it was found hidden before.
        self.hidden.contains(folder) || !view.hasher.counts(sign)
    }

    /// What a link to a folder leads to: a test that opens a file by that way reads it.
    fn behind(&self, view: &View<'_>, link: &Path, now: &mut Self) {
        // A link that has just changed is looked at again with the next question.
        let Ok(real) = link.canonicalize() else { return };
        let doubt = |why: &str| {
            let (link, real) = (link.display(), real.display());
            format!("`{link}` leads to `{real}`, {why}: exclude the link in the config")
        };
        if real == view.root || view.outside.roots.contains(&real) || view.is_built(&real) {
            return;
        }
        if view.root.starts_with(&real) {
            now.doubts.push(doubt("in which the project itself lies"));
        } else if real.components().count() < SHALLOWEST {
            now.doubts.push(doubt("which is too much to read"));
        } else if self.is_hidden(view, &real, &real) {
            now.hidden.insert(real);
        }
    }
}

impl View<'_> {
    /// Only git can say which of the files that it ignores it tracks all the same, and those
    /// count.
    fn without_git(&self, folders: &BTreeSet<PathBuf>) -> Option<String> {
        if self.environment.find_program(Path::new("git"), self.root).is_some() {
            return None;
        }
        let in_repository = |path: &Path| path.ancestors().any(|at| at.join(".git").exists());
        let mut all = std::iter::once(self.root).chain(folders.iter().map(PathBuf::as_path));
        let path = all.find(|path| in_repository(path))?;
        Some(format!(
            "`{}` is in a git repository, and there is no `git` in PATH to say what it tracks",
            path.display()
        ))
    }

    /// Whether cargo makes what is there: it is decided by the rest.
    fn is_built(&self, path: &Path) -> bool {
        self.target_dirs.iter().any(|dir| path.starts_with(dir))
    }
}

/// Paths that are no folders, with what is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Loose(BTreeMap<PathBuf, (FileDigest, PathStamp)>);

impl Loose {
    fn add(&mut self, path: &Path) {
        // The stamp first: what changes after it shows the next time.
        let stamp = PathStamp::followed(path);
        self.0.insert(path.to_owned(), (file_digest(path), stamp));
    }

    /// Adds all of it to the digest of a tree; why that is not possible, if it is not.
    pub(super) fn join(&self, root: &Path, tree: Digest) -> Result<Digest, Vec<String>> {
        if self.0.is_empty() {
            return Ok(tree);
        }
        let mut digester = Digester::new("tree and loose files 1");
        digester.digest(&tree).number(self.0.len() as u64);
        let mut doubts = Vec::new();
        for (path, (state, _)) in &self.0 {
            digester.field(way(root, path).as_os_str().as_bytes());
            match state {
                FileDigest::Known(digest) => drop(digester.number(1).digest(digest)),
                FileDigest::Absent => drop(digester.number(0)),
                FileDigest::Unknown(why) => doubts.push(why.clone()),
            }
        }
        if doubts.is_empty() { Ok(digester.finish()) } else { Err(doubts) }
    }

    /// Those that can be read, by the way from the root, with their content; of one that is not there
    /// with a digest that no content has. Cargo refuses some workspaces for what is not there.
    pub(super) fn files(&self, root: &Path) -> impl Iterator<Item = (PathBuf, Digest)> {
        let absent = Digester::new("nothing is there").finish();
        self.0.iter().filter_map(move |(path, (state, _))| match state {
            FileDigest::Known(digest) => Some((way(root, path), *digest)),
            FileDigest::Absent => Some((way(root, path), absent)),
            FileDigest::Unknown(_) => None,
        })
    }

    /// The paths that are not as they were, even if they say the same again.
    pub(super) fn changed_since(&self, before: &Self) -> Vec<PathBuf> {
        let all: BTreeSet<&PathBuf> = self.0.keys().chain(before.0.keys()).collect();
        all.into_iter().filter(|path| self.0.get(*path) != before.0.get(*path)).cloned().collect()
    }
}

/// The way from one absolute path to another: the same in every checkout.
fn way(from: &Path, to: &Path) -> PathBuf {
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    up.chain(to.components().skip(common)).collect()
}
