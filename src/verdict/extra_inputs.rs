//! What an outcome depends on besides the digest of the tree.
//!
//! That digest has the contents and kinds of all that counts in the tree, and who may execute
//! files. What the runs were seen to consult may be more: files that do not count or lie
//! elsewhere, names that do not count in a folder that was listed, permissions, owners and
//! attributes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::binary::Cacheability;
use super::fingerprint::{Aspect, Fingerprints, aspect_of};
use super::ran::RanTargets;
use super::{Facts, ProjectTree, Question};
use crate::cache::{Input, InputState, RecordedProducts};
use crate::compiler::BuildSources;

/// What a target directory's profile holds besides what cargo tells of, each named by a hash of
/// all that decides it.
const OF_CARGO: [&str; 3] = ["deps", ".fingerprint", "incremental"];

/// What the outcome of these targets depends on besides the tree.
pub(super) async fn extra_inputs<T: ProjectTree>(
    question: &Question,
    facts: &Facts,
    sources: &BuildSources,
    ran: &RanTargets<'_>,
    tree: &mut T,
) -> Vec<Input> {
    let root = &question.root;
    let products = Products::of(facts, sources, &ran.products);
    let mut inputs = BTreeMap::new();
    for input in consulted_by(ran) {
        let path = root.join(&input.path);
        // One path may count for two targets in two ways, or have changed between them:
        // then the record holds both, and never answers.
        if !products.are_at(&path, input.state) {
            inputs.insert((path, input.state), input.clone());
        }
    }
    let inside: BTreeSet<_> =
        inputs.keys().map(|(path, _)| path).filter(|path| path.starts_with(root)).collect();
    let inside = inside.into_iter().cloned().collect();
    let uncounted: BTreeSet<_> = tree.uncounted(inside).await.into_iter().collect();
    let mut fingerprints = Fingerprints::default();
    let rest = inputs.into_iter().filter_map(|((path, _), input)| {
        if path.starts_with(root) && !uncounted.contains(&path) {
            beside_the_tree(root, &path, input, &mut fingerprints)
        } else {
            Some(input)
        }
    });
    rest.collect()
}

/// The products of cargo's that the compiler and these targets consulted. They follow from the tree
/// unless somebody changes them by hand, which cargo does not notice.
pub(super) fn products_consulted(
    question: &Question,
    facts: &Facts,
    sources: &BuildSources,
    ran: &RanTargets<'_>,
) -> RecordedProducts {
    let root = &question.root;
    let products = Products::of(facts, sources, &ran.products);
    let mut fingerprints = Fingerprints::default();
    let mut consulted = BTreeMap::new();
    for input in consulted_by(ran) {
        let path = root.join(&input.path);
        let Some(way) = aspect_of(&input.state).filter(|_| products.files.contains(&path)) else {
            continue;
        };
        // Read once more, since it was perhaps too young to be believed by its stamp then.
        let now = fingerprints.read(root, &path, way).ok();
        let input = now.filter(|now| now.state == input.state).unwrap_or(input.clone());
        consulted.insert((path, input.state), input);
    }
    for path in &sources.generated {
        if let Ok(input) = fingerprints.read(root, path, Aspect::Content) {
            consulted.insert((path.clone(), input.state), input);
        }
    }
    if consulted.is_empty() {
        return RecordedProducts::default();
    }
    let lists = sources.units.iter();
    let lists = lists.filter_map(|unit| fingerprints.read(root, &unit.list, Aspect::Same).ok());
    let consulted = consulted.into_values().collect();
    RecordedProducts { consulted, lists: lists.collect(), ..RecordedProducts::default() }
}

/// The inputs of those targets of which it is known what they consulted.
fn consulted_by<'a>(ran: &'a RanTargets<'_>) -> impl Iterator<Item = &'a Input> {
    let inputs = ran.targets.iter().filter_map(|target| match &target.cacheability {
        Cacheability::Observed(all) | Cacheability::WholeTree(all) => Some(all),
        Cacheability::Uncacheable(_) => None,
    });
    inputs.flatten()
}

/// What is left of an input whose content the tree's digest has. Empty folders are not in that
/// digest, so an absent name stays.
fn beside_the_tree(
    root: &Path,
    path: &Path,
    input: Input,
    fingerprints: &mut Fingerprints,
) -> Option<Input> {
    match input.state {
        InputState::Link(_) | InputState::Digest(_) => None,
        // One look is enough for the rest: no content need be read again.
        InputState::File(_)
        | InputState::Source(_)
        | InputState::Program(_)
        | InputState::Measured(_)
            if fingerprints.holds(root, &input) =>
        {
            Some(fingerprints.read(root, path, Aspect::Kind).unwrap_or(input))
        }
        _ => Some(input),
    }
}

/// What cargo has built, and decides by the tree and what else is in the key. Whatever else lies
/// in a target directory has been put there by somebody: an earlier build of another selection, a
/// script, a test.
struct Products {
    target_dirs: Vec<PathBuf>,
    files: BTreeSet<PathBuf>,
    /// Folders of cargo's own.
    folders: BTreeSet<PathBuf>,
    /// The folders that cargo makes for build scripts, in which loaders look for libraries. What lies
    /// there is the scripts' own.
    of_scripts: BTreeSet<PathBuf>,
}

impl Products {
    fn of(facts: &Facts, sources: &BuildSources, products: &[PathBuf]) -> Self {
        let real = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
        let files: BTreeSet<PathBuf> = products.iter().map(real).collect();
        let profiles = files.iter().filter_map(|file| {
            let folder = file.parent()?;
            if folder.ends_with("deps") { folder.parent() } else { Some(folder) }
        });
        let profiles: BTreeSet<&Path> = profiles.collect();
        let folders = profiles.iter().flat_map(|folder| OF_CARGO.map(|name| folder.join(name)));
        let folders = folders.collect();
        let of_scripts = sources.inputs.iter().filter_map(|unit| unit.out_dir.as_ref());
        let of_scripts = of_scripts.map(real).collect();
        let target_dirs = facts.target_dirs.iter().map(real).collect();
        Self { target_dirs, files, folders, of_scripts }
    }

    /// Whether what is at `path`, and was seen in this state, is cargo's.
    fn are_at(&self, path: &Path, state: InputState) -> bool {
        if matches!(state, InputState::Kind(_)) && self.of_scripts.contains(path) {
            return true;
        }
        let is_made = self.target_dirs.iter().any(|dir| path.starts_with(dir));
        let holds_some = || {
            let first = self.files.range(path.to_owned()..).next();
            first.is_some_and(|file| file.starts_with(path))
        };
        is_made && (holds_some() || path.ancestors().any(|folder| self.folders.contains(folder)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    #[test]
    fn what_cargo_has_built_is_told_from_what_lies_beside_it() {
        let files = ["/t/debug/p", "/t/debug/deps/it-1", "/t/debug/build/p-1/build-script-build"];
        let files: BTreeSet<_> = files.into_iter().map(PathBuf::from).collect();
        let folders = [PathBuf::from("/t/debug/deps")].into();
        let of_scripts = [PathBuf::from("/t/debug/build/p-1/out")].into();
        let products = Products { target_dirs: vec!["/t".into()], files, folders, of_scripts };
        let kind = InputState::Kind(Digest::of(b"folder"));
        for path in ["/t", "/t/debug", "/t/debug/p", "/t/debug/deps/other"] {
            assert!(products.are_at(Path::new(path), kind), "{path}");
        }
        for path in ["/t/debug/q", "/t/debug/build/x/out", "/t/wasm", "/t/tmp/x", "/", "/u/debug/p"]
        {
            assert!(!products.are_at(Path::new(path), kind), "{path}");
        }
        let of_script = Path::new("/t/debug/build/p-1/out");
        assert!(products.are_at(of_script, kind));
        let listed = InputState::Listing(Digest::of(b"names"));
        assert!(!products.are_at(of_script, listed), "the script decides the names");
        assert!(!products.are_at(&of_script.join("f"), kind));
    }
}
