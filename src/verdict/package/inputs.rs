//! What a record of the package level depends on besides its key.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::built_from::BuiltPackages;
use super::code::is_library;
use super::listing::{SourceListing, from_root};
use crate::cache::{Input, InputState};
use crate::compiler::{UnitInputs, free_place_of_module};
use crate::hasher::may_change_length;
use crate::observer::is_of_linker;
use crate::verdict::facts::{Facts, Question};
use crate::verdict::fingerprint::Fingerprints;
use crate::verdict::look_up::input_now;
use crate::workspace::PathStamp;

/// The folders of a profile in which everything is named by a hash of what decides it.
const OF_CARGO: [&str; 4] = ["deps", ".fingerprint", "incremental", "examples"];

/// The inputs of an observed run, by how this level counts them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SplitInputs {
    /// Those of the record.
    pub(super) inputs: Vec<Input>,
    /// Products of the packages: the key covers them, and the run could read names from them.
    pub(super) readers: Vec<Input>,
}

impl SplitInputs {
    /// Whether the run has read more of these products than what is loaded of them: it could see their
    /// debug information, which has its length whatever a comment says. Of libraries a compiler of examples
    /// reads more.
    pub(super) fn has_read_products(&self, root: &Path, are_examples: bool) -> bool {
        let is_loaded = |input: &Input| {
            matches!(input.state, InputState::Program(_) | InputState::Kind(_))
                || (matches!(input.state, InputState::Measured(_))
                    && !may_change_length(&root.join(&input.path)))
                || (are_examples && is_library(&input.path))
        };
        !self.readers.iter().all(is_loaded)
    }

    /// Takes out the sources that the key covers, if only a compiler has read them; all others count like
    /// any file.
    pub(super) fn settle_sources(&mut self, is_covered: impl Fn(&Path) -> bool) {
        for input in std::mem::take(&mut self.inputs) {
            match input.state {
                InputState::Source(content) => {
                    let covered = is_covered(&input.path);
                    let input = Input { state: InputState::File(content), ..input };
                    if covered { &mut self.readers } else { &mut self.inputs }.push(input);
                }
                _ => self.inputs.push(input),
            }
        }
    }
}

/// The target directories of a build, and which of the files there the packages of a target decide.
#[derive(Debug)]
pub(super) struct TargetFiles<'a> {
    root: &'a Path,
    target_dirs: Vec<PathBuf>,
    /// Products of the packages that the target is built from.
    own: BTreeSet<PathBuf>,
    /// Folders above products, and cargo's own.
    folders: BTreeSet<PathBuf>,
    /// The names of all that the whole build leaves where programs may look for it.
    visible: &'a BTreeSet<String>,
}

impl<'a> TargetFiles<'a> {
    /// The files that a build has made for a target.
    pub(super) fn of(
        question: &'a Question,
        facts: &Facts,
        built: &BuiltPackages<'_>,
        reach: &BTreeSet<usize>,
        visible: &'a BTreeSet<String>,
    ) -> Self {
        let products = built.products(reach);
        let files = products.flat_map(|product| product.files.iter().chain(&product.executable));
        Self::new(&question.root, &facts.target_dirs, files, visible)
    }

    fn new<'f>(
        root: &'a Path,
        target_dirs: &[PathBuf],
        files: impl Iterator<Item = &'f PathBuf>,
        visible: &'a BTreeSet<String>,
    ) -> Self {
        let real = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
        let target_dirs: Vec<_> = target_dirs.iter().map(real).collect();
        let mut own: BTreeSet<PathBuf> = files.map(real).collect();
        // Cargo tells of a library's second name beside its own folder, not of the first one.
        let is_metadata = |file: &&PathBuf| file.extension() == Some(OsStr::new("rmeta"));
        let libraries: Vec<_> =
            own.iter().filter(is_metadata).map(|file| file.with_extension("rlib")).collect();
        own.extend(libraries);
        let mut folders: BTreeSet<PathBuf> = target_dirs.iter().cloned().collect();
        for file in &own {
            let is_made = |folder: &&Path| target_dirs.iter().any(|dir| folder.starts_with(dir));
            folders.extend(file.ancestors().skip(1).take_while(is_made).map(Path::to_owned));
        }
        let of_cargo = |folder: &PathBuf| OF_CARGO.map(|name| folder.join(name));
        let more: Vec<_> = folders.iter().flat_map(of_cargo).collect();
        folders.extend(more);
        folders.extend(target_dirs.iter().map(|dir| dir.join("tmp")));
        Self { root, target_dirs, own, folders, visible }
    }

    /// Takes apart what a run has consulted.
    ///
    /// # Errors
    /// The path of something in a target directory that these packages do not decide.
    pub(super) fn split(&self, inputs: &[Input]) -> Result<SplitInputs, PathBuf> {
        let mut split = SplitInputs::default();
        for input in inputs {
            let path = self.root.join(&input.path);
            let below = self.target_dirs.iter().find_map(|dir| path.strip_prefix(dir).ok());
            match below {
                None => split.inputs.push(input.clone()),
                Some(_) if self.own.contains(&path) => split.readers.push(input.clone()),
                Some(_) if self.is_everywhere(&path, input.state) => {}
                // What tests leave for each other.
                Some(below) if below.starts_with("tmp") => split.inputs.push(input.clone()),
                Some(_) => return Err(input.path.clone()),
            }
        }
        Ok(split)
    }

    /// Whether a build of the whole, in any checkout, leaves the same there.
    fn is_everywhere(&self, path: &Path, state: InputState) -> bool {
        let name = path.file_name().unwrap_or_default();
        match state {
            InputState::Kind(_) => self.folders.contains(path) || is_of_script(path),
            // Where loaders and linkers look for libraries of the system.
            InputState::Absent => {
                let text = name.to_string_lossy();
                // Nothing else has a name with the hash of a product.
                let is_beside = self.own.contains(&path.with_extension(""));
                let is_nowhere = is_of_linker(path) && !self.visible.contains(&*text);
                is_beside || is_nowhere || self.folders.contains(path)
            }
            _ => false,
        }
    }
}

/// Whether it is the folder into which a build script writes: libraries are looked for in those of all
/// packages.
fn is_of_script(path: &Path) -> bool {
    let mut above = path.ancestors().filter_map(Path::file_name);
    above.next().is_some_and(|name| name == "out")
        && above.nth(1).is_some_and(|name| name == "build")
}

/// What a build has read beside the packages' own files.
pub(super) struct BuildReads<'a> {
    root: &'a Path,
    /// When the build began.
    pub(super) built_at: SystemTime,
    /// The files with the packages that they belong to, by cargo's own names of the readers.
    files: BTreeMap<&'a str, BTreeMap<&'a Path, Option<usize>>>,
}

impl<'a> BuildReads<'a> {
    /// What these units have read.
    pub(super) fn of(
        question: &'a Question,
        units: &'a [UnitInputs],
        listing: &SourceListing,
        folders: &[PathBuf],
        built_at: SystemTime,
    ) -> Self {
        let root = &question.root;
        let mut files: BTreeMap<&str, BTreeMap<&Path, Option<usize>>> = BTreeMap::new();
        for unit in units {
            let known = files.entry(&unit.package_id).or_default();
            for file in &unit.files {
                let owner = || listing.package_of(&from_root(root, file), folders);
                known.entry(file).or_insert_with(owner);
            }
        }
        Self { root, built_at, files }
    }

    /// The files that units of these packages have read and that belong to none of the packages.
    ///
    /// # Errors
    /// Why it is not known what was read.
    pub(super) fn inputs(
        &self,
        package_ids: &BTreeSet<&str>,
        built_from: &BTreeSet<usize>,
        fingerprints: &mut Fingerprints,
    ) -> Result<Vec<Input>, String> {
        let of_packages = package_ids.iter().filter_map(|id| self.files.get(id)).flatten();
        let is_covered = |owner: &Option<usize>| owner.is_some_and(|at| built_from.contains(&at));
        let beside: BTreeSet<&Path> =
            of_packages.filter(|(_, owner)| !is_covered(owner)).map(|(file, _)| *file).collect();
        let free_places = beside.iter().filter_map(|file| free_place_of_module(file));
        let beside: BTreeSet<PathBuf> =
            beside.iter().map(|file| file.to_path_buf()).chain(free_places).collect();
        let mut input = |path: &Path| {
            let why = |what: &str| format!("`{}` {what}", path.display());
            if path.is_dir() {
                return Err(why("is a folder that a build script watches"));
            }
            let stamps = [PathStamp::of(path), PathStamp::followed(path)];
            if stamps.iter().any(|stamp| !stamp.is_settled(self.built_at)) {
                return Err(why("has only just changed"));
            }
            input_now(path, self.root, fingerprints).ok_or_else(|| why("cannot be read"))
        };
        beside.iter().map(|path| input(path)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    fn input(path: &str, state: InputState) -> Input {
        Input { path: path.into(), state, proof: None }
    }

    #[test]
    fn only_what_the_compiler_alone_has_read_is_covered_without_comments() {
        let digest = Digest::of(b"x");
        let mut split = SplitInputs {
            inputs: vec![
                input("src/lib.rs", InputState::Source(digest)),
                input("src/read.rs", InputState::File(digest)),
                input("elsewhere.rs", InputState::Source(digest)),
            ],
            readers: vec![input("target/debug/deps/a-1", InputState::Program(digest))],
        };
        assert!(!split.has_read_products(Path::new(""), false));
        split.settle_sources(|path| path.starts_with("src"));
        let inputs = ["src/read.rs", "elsewhere.rs"].map(|p| input(p, InputState::File(digest)));
        assert_eq!(split.inputs, inputs);
        assert_eq!(split.readers[1], input("src/lib.rs", InputState::File(digest)));
        let read = |file: &str, state, are_examples| {
            let readers = vec![input(file, state)];
            SplitInputs { inputs: Vec::new(), readers }
                .has_read_products(Path::new("/nowhere"), are_examples)
        };
        assert!(read("target/debug/a", InputState::File(digest), true));
        assert!(read("target/debug/a", InputState::Measured(digest), false));
        assert!(read("target/debug/deps/liba.rmeta", InputState::File(digest), false));
        assert!(!read("target/debug/deps/liba.rmeta", InputState::File(digest), true));
    }

    #[test]
    fn only_products_of_the_own_packages_are_covered_by_them() {
        let root = Path::new("/w");
        let files = ["/w/target/debug/a", "/w/target/debug/deps/a-1"].map(PathBuf::from);
        let visible = BTreeSet::from(["b", "libplugin.so", "libz.a"].map(str::to_owned));
        let target = TargetFiles::new(root, &["/w/target".into()], files.iter(), &visible);
        let digest = Digest::of(b"x");
        let (kind, file) = (InputState::Kind(digest), InputState::Program(digest));
        let split = target.split(&[
            input("tests/data", InputState::File(digest)),
            input("target/debug/a", file),
            input("target/debug/deps/a-1", file),
            input("target/debug", kind),
            input("target/debug/deps", kind),
            input("target/tmp", kind),
            input("target/debug/deps/libc.so.6", InputState::Absent),
            input("target/debug/deps/glibc-hwcaps/x86-64-v3", InputState::Absent),
            input("target/debug/tls", InputState::Absent),
            input("target/debug/deps/a-1.dwp", InputState::Absent),
            input("target/debug/build/x-1/out", kind),
            input("target/debug/build/x-1/out/libc.a", InputState::Absent),
            input("target/tmp/left", InputState::Absent),
            input("/etc/hosts", InputState::File(digest)),
        ]);
        let split = split.unwrap();
        let names = |inputs: &[Input]| -> Vec<String> {
            inputs.iter().map(|input| input.path.display().to_string()).collect()
        };
        assert_eq!(names(&split.inputs), ["tests/data", "target/tmp/left", "/etc/hosts"]);
        assert_eq!(names(&split.readers), ["target/debug/a", "target/debug/deps/a-1"]);
        for foreign in [
            input("target/debug/b", file),
            input("target/debug/b", InputState::Absent),
            input("target/debug/libplugin.so", InputState::Absent),
            input("target/debug/build/x-1/out/libz.a", InputState::Absent),
            input("target/debug", InputState::Listing(digest)),
            input("target/debug/build/x/out/f", InputState::File(digest)),
            input("target/wasm", kind),
        ] {
            assert_eq!(target.split(std::slice::from_ref(&foreign)), Err(foreign.path));
        }
    }
}
