//! Whether a build's products were made from the tree as it is.
//!
//! Cargo calls a product fresh if the files that it knows of are older. A build script or a macro
//! may have read others, and variables. A record for the tree claims what any build of it gives, so
//! it needs proof that nothing else has changed since. Without that proof the record says only what
//! these very products give: it holds as long as they and what cargo compares with them are there,
//! untouched.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::built_units::{BuildContext, KnownUnits};
use super::fingerprint::{Aspect, Fingerprints};
use super::{Facts, ProjectTree, Question};
use crate::cache::Input;
use crate::compiler::{BuildSources, BuiltUnit, WatchedByCargo, is_module_twice};
use crate::workspace::PathStamp;

/// A workspace of more files and folders is not searched for changes: then there is no proof.
const SEARCH_LIMIT: usize = 200_000;
/// With more changed files than this there is no proof either.
const CHANGED_LIMIT: usize = 2_000;

/// What is known to have been made from the tree as it is, in this environment: any build of it gives the
/// same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Proof {
    /// No artifact.
    Nothing,
    /// The artifacts built only from inputs that the compilers list and build scripts declare.
    Listed,
    /// Every artifact.
    All,
}

/// How a build's products are tied to the tree.
#[derive(Debug)]
pub(super) struct Provenance {
    pub(super) proof: Proof,
    /// The products, and what cargo compares with them, as they are; or why one of them cannot be
    /// looked at, for a person.
    pub(super) products: Result<Vec<Input>, String>,
}

impl Provenance {
    /// What a record of the build for the whole tree depends on besides the tree.
    ///
    /// # Errors
    /// If a product cannot be looked at.
    pub(super) fn conditions(&self) -> Result<Vec<Input>, String> {
        if self.proof == Proof::All { Ok(Vec::new()) } else { self.products.clone() }
    }
}

/// The provenance of what a build has made.
pub(super) async fn provenance<T: ProjectTree>(
    question: &Question,
    facts: &Facts,
    sources: &BuildSources,
    products: &[PathBuf],
    cache_dir: &Path,
    tree: &mut T,
) -> Provenance {
    let proof = proof(question, facts, sources, cache_dir, tree).await;
    let BuildSources { units, files, .. } = sources;
    let mut paths: BTreeSet<&Path> = units.iter().map(|unit| &*unit.list).collect();
    paths.extend(products.iter().chain(files).map(PathBuf::as_path));
    let mut fingerprints = Fingerprints::default();
    let input = |path: &Path| fingerprints.read(&question.root, path, Aspect::Same);
    Provenance { proof, products: paths.into_iter().map(input).collect() }
}

/// For which units everything that could have decided them is as it was when they were made.
async fn proof<T: ProjectTree>(
    question: &Question,
    facts: &Facts,
    sources: &BuildSources,
    cache_dir: &Path,
    tree: &mut T,
) -> Proof {
    let file = question.units_file(cache_dir);
    let build = BuildContext::new(&question.root, &question.environment, &facts.identity);
    let mut known = KnownUnits::load(&file, build);
    let mut is_known = |unit: &BuiltUnit| {
        unit.is_new || matches!(unit.watched, WatchedByCargo::Vendored(_)) || known.holds(unit)
    };
    if !sources.unwatched.is_empty() || !sources.units.iter().all(&mut is_known) {
        return Proof::Nothing;
    }
    let oldest = sources.units.iter().map(|unit| unit.made).min();
    let Some(oldest) = oldest else { return Proof::Nothing };
    let outside = sources.packages.iter().filter(|package| !package.starts_with(&question.root));
    let folders: Vec<_> = outside.chain([&question.root]).cloned().collect();
    let Some(changed) = changed_since(&folders, &facts.all_target_dirs, oldest) else {
        return Proof::Nothing;
    };
    let vendored = VendoredUnits::of(sources);
    let apart: Vec<_> = vendored.apart_from(&question.root).collect();
    let Some(changed_apart) = changed_since(&apart, &facts.all_target_dirs, oldest) else {
        return Proof::Nothing;
    };
    // Whether the tree counts it or it is an input of its own: cargo never looks at it again.
    if changed.iter().chain(&changed_apart).any(|(path, at)| vendored.are_older(path, *at)) {
        return Proof::Nothing;
    }
    // No list has what would make a build of the same files fail.
    let is_twice = || sources.files.iter().any(|file| is_module_twice(file));
    for proof in [Proof::All, Proof::Listed] {
        if proof == Proof::Listed && is_twice() {
            return Proof::Nothing;
        }
        let unseen = changed.iter().filter(|(path, at)| is_unseen(sources, path, *at, proof));
        let unseen: Vec<_> = unseen.map(|(path, _)| path.clone()).collect();
        if unseen.len() <= CHANGED_LIMIT
            && tree.uncounted(unseen.clone()).await.len() == unseen.len()
        {
            return proof;
        }
    }
    Proof::Nothing
}

/// The packages of registries that were not downloaded, each with the time of its oldest unit.
struct VendoredUnits<'a>(BTreeMap<&'a Path, SystemTime>);

impl<'a> VendoredUnits<'a> {
    fn of(sources: &'a BuildSources) -> Self {
        let mut oldest = BTreeMap::new();
        for unit in &sources.units {
            if let WatchedByCargo::Vendored(folder) = &unit.watched {
                let made = oldest.entry(&**folder).or_insert(unit.made);
                *made = unit.made.min(*made);
            }
        }
        Self(oldest)
    }

    /// Those that do not lie below `root`, or are reached there by a link.
    fn apart_from(&self, root: &Path) -> impl Iterator<Item = PathBuf> {
        let is_inside = move |folder: &Path| {
            folder.starts_with(root) && folder.canonicalize().is_ok_and(|at| at == folder)
        };
        self.0.keys().filter(move |folder| !is_inside(folder)).map(|folder| (*folder).to_owned())
    }

    /// Whether one has a unit that is older than a file of its own which was changed then.
    fn are_older(&self, path: &Path, changed: SystemTime) -> bool {
        path.ancestors().any(|folder| self.0.get(folder).is_some_and(|made| *made <= changed))
    }
}

/// Whether a unit of which this is to be proven is older than a file that was changed then, and cargo does
/// not look at the file before it calls the unit fresh. Nothing but sources decides what is built from lists.
fn is_unseen(sources: &BuildSources, path: &Path, changed: SystemTime, proof: Proof) -> bool {
    let is_listed = || {
        sources.files.binary_search_by(|file| file.as_path().cmp(path)).is_ok()
            || sources.folders.binary_search_by(|folder| folder.as_path().cmp(path)).is_ok()
    };
    sources.units.iter().filter(|unit| unit.made <= changed).any(|unit| match &unit.watched {
        WatchedByCargo::Listed => proof == Proof::All && !is_listed(),
        WatchedByCargo::Declared(declared) => {
            proof == Proof::All && !declared.iter().any(|at| path.starts_with(at))
        }
        WatchedByCargo::Vendored(_) => false,
    })
}

/// The files and folders that have changed since, with the times; `None` if there are too many to
/// look at, or some cannot be looked at.
fn changed_since(
    folders: &[PathBuf],
    target_dirs: &[PathBuf],
    since: SystemTime,
) -> Option<Vec<(PathBuf, SystemTime)>> {
    let mut todo: Vec<_> = folders.to_vec();
    let (mut changed, mut count) = (Vec::new(), 0);
    while let Some(folder) = todo.pop() {
        count += 1;
        let at = changed_at(&folder)?;
        if at >= since {
            changed.push((folder.clone(), at));
        }
        for entry in std::fs::read_dir(&folder).ok()? {
            let entry = entry.ok()?;
            let path = entry.path();
            count += 1;
            if count > SEARCH_LIMIT {
                return None;
            }
            if entry.file_type().ok()?.is_dir() {
                if entry.file_name() != ".git" && !target_dirs.contains(&path) {
                    todo.push(path);
                }
                continue;
            }
            match changed_at(&path) {
                Some(at) if at >= since => changed.push((path, at)),
                Some(_) => {}
                None => return None,
            }
        }
    }
    Some(changed)
}

/// When anything about this was changed last.
fn changed_at(path: &Path) -> Option<SystemTime> {
    let stamp = *PathStamp::of(path).present()?;
    let nanoseconds = u64::try_from(stamp.modified.max(stamp.changed)).ok()?;
    Some(UNIX_EPOCH + Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_file_is_unseen_if_an_older_unit_may_have_read_it() {
        let unit = |made, watched| BuiltUnit {
            list: "/t/x.d".into(),
            made: at(made),
            is_new: false,
            files: Vec::new(),
            watched,
        };
        let sources = BuildSources {
            files: vec!["/w/build.rs".into(), "/w/src/lib.rs".into()],
            units: vec![
                unit(30, WatchedByCargo::Listed),
                unit(20, WatchedByCargo::Declared(vec!["/w/proto".into()])),
                unit(10, WatchedByCargo::Vendored("/w/vendor/v".into())),
            ],
            ..BuildSources::default()
        };
        let unseen_for = |proof| {
            let sources = &sources;
            move |path: &str, changed| is_unseen(sources, Path::new(path), at(changed), proof)
        };
        let is = unseen_for(Proof::Listed);
        assert!(!is("/w/data", 20) && !is("/w/src/lib.rs", 25), "lists tell all");
        let is = unseen_for(Proof::All);
        assert!(!is("/w/data", 15), "older than all that could have read it");
        assert!(is("/w/data", 20) && is("/w/src/lib.rs", 25), "not declared by the build script");
        assert!(!is("/w/proto/a", 25), "the build script runs again");
        let vendored = VendoredUnits::of(&sources);
        let is = |path: &str, changed| vendored.are_older(Path::new(path), at(changed));
        assert!(is("/w/vendor/v/src/lib.rs", 15), "nobody looks there");
        assert!(!is("/w/vendor/v/src/lib.rs", 5) && !is("/w/vendor/u/src/lib.rs", 15));
    }

    #[test]
    fn what_changed_is_found_by_the_times_of_files_and_folders() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for folder in ["src", "target", ".git"] {
            std::fs::create_dir(root.join(folder)).unwrap();
            std::fs::write(root.join(folder).join("f"), "").unwrap();
        }
        let target = [root.join("target")];
        let changed = |since| {
            let found = changed_since(std::slice::from_ref(&root), &target, since).unwrap();
            let mut names: Vec<_> = found.into_iter().map(|(path, _)| path).collect();
            names.sort();
            names
        };
        let names = ["", "src", "src/f"].map(|name| root.join(name));
        assert_eq!(changed(UNIX_EPOCH).len(), names.len());
        assert!(changed(SystemTime::now() + Duration::from_secs(60)).is_empty());
    }
}
