//! From what cargo has built to the plan of a workspace.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::code::SourceReaders;
use super::listing::from_root;
use crate::cache::{
    Cache, Input, KeyBasis, KnownMentions, PackagePlan, TargetPlan, UnseenReads, WorkspacePlan,
    carrier_of,
};
use crate::compiler::{
    Build, BuiltScript, BuiltUnit, Product, UnitInputs, WatchedByCargo, script_output,
};
use crate::hasher::{MacroReach, macro_reach};
use crate::model::{Digest, Digester, OsText, TargetId};
use crate::verdict::fingerprint::digest_of_stamp;
use crate::workspace::{LockFile, PathStamp};

/// What stands in the memo of a macro's library.
const ASKS_FOR_VARIABLES: &str = "macro: variables";
const MAY_DO_ANYTHING: &str = "macro: anything";

/// So deep in a build script's folder libraries are looked for.
const LIBRARY_DEPTH: usize = 4;

/// What a key must be made of, and why.
pub(super) struct RequiredBasis {
    pub(super) basis: KeyBasis,
    /// Why it is more than the packages; empty if it is not.
    pub(super) wider_because: String,
}

impl RequiredBasis {
    fn of(basis: KeyBasis, why: impl FnOnce() -> String) -> Self {
        Self { basis, wider_because: why() }
    }
}

impl Default for RequiredBasis {
    fn default() -> Self {
        Self::of(KeyBasis::Packages, String::new)
    }
}

/// A build, with the packages of the lock file that its units are of.
pub(super) struct BuiltPackages<'a> {
    build: &'a Build,
    lock: LockFile,
    /// The places in the lock file, by cargo's own names of packages.
    locked: BTreeMap<&'a str, BTreeSet<usize>>,
}

impl<'a> BuiltPackages<'a> {
    /// The packages of a build in the workspace at `root`. `None` if one of them is not understood.
    pub(super) fn of(root: &Path, build: &'a Build) -> Option<Self> {
        let lock = LockFile::parse(&std::fs::read(root.join("Cargo.lock")).ok()?)?;
        let products = build.products.iter().map(|product| product.package_id.as_str());
        let inputs = build.sources.inputs.iter().map(|unit| unit.package_id.as_str());
        let mut locked = BTreeMap::new();
        for id in products.chain(inputs) {
            let (name, version) = name_and_version(id)?;
            let places: BTreeSet<usize> = lock.find(&name, &version).collect();
            if places.is_empty() {
                return None;
            }
            locked.insert(id, places);
        }
        Some(Self { build, lock, locked })
    }

    /// The packages that a target of this package is built from: itself, those `carried` by it, and all that
    /// these depend on. `None` if the package was not built, or of one that is carried no program.
    pub(super) fn reach(
        &self,
        package: &str,
        carried: &BTreeSet<String>,
    ) -> Option<BTreeSet<usize>> {
        let places = |name: &str, counts: fn(&Product) -> bool| {
            let products = self.build.products.iter();
            let own = products.filter(|product| is_of(product, name) && counts(product));
            let places: BTreeSet<usize> =
                own.flat_map(|product| &self.locked[&*product.package_id]).copied().collect();
            (!places.is_empty()).then_some(places)
        };
        let mut all = places(package, |_| true)?;
        for name in carried {
            all.extend(places(name, is_program)?);
        }
        Some(self.lock.reachable(all))
    }

    /// The packages of the workspace that have programs, and none of these targets.
    fn untested(&self, ids: &[TargetId]) -> Option<BTreeSet<String>> {
        let programs = self.build.products.iter().filter(|product| is_program(product));
        let names = programs.filter(|product| product.local).map(|product| {
            let (name, _) = name_and_version(&product.package_id)?;
            Some(name)
        });
        let names: BTreeSet<String> = names.collect::<Option<_>>()?;
        Some(names.into_iter().filter(|name| ids.iter().all(|id| id.package != *name)).collect())
    }

    /// Whether a package, by cargo's own name, is among these.
    pub(super) fn is_among(&self, package_id: &str, reach: &BTreeSet<usize>) -> bool {
        self.locked.get(package_id).is_none_or(|places| !places.is_disjoint(reach))
    }

    /// The units that those packages have in this build.
    pub(super) fn units(&self, reach: &BTreeSet<usize>) -> impl Iterator<Item = &'a UnitInputs> {
        let build = self.build;
        build.sources.inputs.iter().filter(move |unit| self.is_among(&unit.package_id, reach))
    }

    /// The products that those packages have in this build.
    pub(super) fn products(&self, reach: &BTreeSet<usize>) -> impl Iterator<Item = &'a Product> {
        let build = self.build;
        build.products.iter().filter(move |product| self.is_among(&product.package_id, reach))
    }

    /// The plan of the whole that was built, with these targets. `None` if something of it is not
    /// understood.
    pub(super) fn plan(
        &self,
        readers: &SourceReaders<'_>,
        ids: &[TargetId],
        names: Vec<Input>,
    ) -> Option<WorkspacePlan> {
        let SourceReaders { root, listing, cache, .. } = *readers;
        let names = names.into_iter().map(|input| self.on_the_way(root, input));
        let names = names.collect::<Option<_>>()?;
        let mut folders: BTreeMap<PathBuf, &Product> = BTreeMap::new();
        for product in &self.build.products {
            let folder = from_root(root, product.manifest.parent()?);
            match listing.holds(&folder.join("Cargo.toml")) {
                true => drop(folders.insert(folder, product)),
                false if product.local => return None,
                false => {}
            }
        }
        let packages: Vec<(PathBuf, &Product)> = folders.into_iter().collect();
        let untested = self.untested(ids)?;
        let is_one = |name: &String| {
            packages.iter().filter(|(_, product)| is_of(product, name)).count() == 1
        };
        if !untested.iter().chain(ids.iter().map(|id| &id.package)).all(is_one) {
            return None;
        }
        let mut targets = Vec::new();
        let (carrier, none) = (carrier_of(ids.iter()), BTreeSet::new());
        for id in ids {
            let carried = if carrier == Some(id) { &untested } else { &none };
            let reach = self.reach(&id.package, carried)?;
            let among = packages.iter().enumerate();
            let among =
                among.filter(|(_, (_, product))| self.is_among(&product.package_id, &reach));
            let built_from = among.map(|(at, _)| at).collect();
            let RequiredBasis { basis, wider_because } = self.basis(&reach, cache);
            let ignores_comments =
                basis != KeyBasis::Tree && self.ignores_comments(&reach, readers);
            let id = id.clone();
            // Nothing else may need the tree, or see comments.
            let is_of_scripts = basis == KeyBasis::Tree
                && self.basis_but_scripts(&reach, cache).basis < KeyBasis::Tree
                && self.ignores_comments(&reach, readers);
            let folders: Vec<PathBuf> = packages.iter().map(|(folder, _)| folder.clone()).collect();
            let scripts = is_of_scripts.then(|| self.own_scripts(&reach)).flatten();
            let here = scripts.and_then(|scripts| script_places(&scripts, root, &folders));
            targets.push(TargetPlan {
                id,
                built_from,
                basis,
                wider_because,
                ignores_comments,
                here,
                needs_whole: false,
            });
        }
        let name = |product: &Product| name_and_version(&product.package_id).map(|(name, _)| name);
        let packages = packages.into_iter().map(|(folder, product)| {
            Some(PackagePlan { name: name(product)?, folder: OsText::from(&folder) })
        });
        Some(WorkspacePlan {
            packages: packages.collect::<Option<_>>()?,
            targets,
            features: features(&self.build.products)?,
            products: {
                let mut names = visible_products(&self.build.products);
                for unit in self.build.sources.inputs.iter().filter(|unit| unit.links_native) {
                    add_libraries(unit.out_dir.as_deref(), LIBRARY_DEPTH, &mut names);
                }
                names
            },
            names,
            untested,
            inseparable: BTreeSet::new(),
        })
    }

    /// A name with its way from the root, which leads to a package beside the workspace from another
    /// checkout as well. `None` for one that lies elsewhere.
    fn on_the_way(&self, root: &Path, input: Input) -> Option<Input> {
        if input.path.is_relative() {
            return Some(input);
        }
        let local = self.build.products.iter().filter(|product| product.local);
        let mut folders = local.filter_map(|product| product.manifest.parent());
        folders.any(|folder| input.path.starts_with(folder)).then(|| {
            let path = from_root(root, &input.path);
            Input { path, ..input }
        })
    }

    /// The build scripts of those packages that are not ours.
    pub(super) fn scripts(&self, reach: &BTreeSet<usize>) -> BTreeSet<&'a Path> {
        let foreign = self.products(reach).filter(|product| !product.local && is_script(product));
        foreign.filter_map(|product| product.files.first()).map(PathBuf::as_path).collect()
    }

    /// Whether nothing that builds these packages can see a comment in a source.
    pub(super) fn ignores_comments(
        &self,
        reach: &BTreeSet<usize>,
        readers: &SourceReaders<'_>,
    ) -> bool {
        !readers.see_comments(self.units(reach), self.products(reach))
    }

    /// All packages of the build.
    pub(super) fn all(&self) -> BTreeSet<usize> {
        self.locked.values().flatten().copied().collect()
    }

    /// What nobody has told that was read for these packages. `memo` is by which a script's run is remembered.
    pub(super) fn unseen_reads(
        &self,
        reach: &BTreeSet<usize>,
        cache: &Cache,
        memo: impl FnMut(&BuiltScript) -> Option<Digest>,
    ) -> UnseenReads {
        if self.basis(reach, cache).basis < KeyBasis::Tree {
            return UnseenReads::Nothing;
        }
        let is_of_scripts = self.basis_but_scripts(reach, cache).basis < KeyBasis::Tree;
        let scripts = is_of_scripts.then(|| self.wide_scripts(reach)).flatten();
        let memos = scripts
            .and_then(|scripts| scripts.iter().filter(|script| script.is_own).map(memo).collect());
        memos.map_or(UnseenReads::Anything, UnseenReads::Scripts)
    }

    /// The build scripts that may read anything, of these packages: the workspace's own, and those that link
    /// native code. `None` if it cannot be told which program has made which results.
    pub(super) fn wide_scripts(&self, reach: &BTreeSet<usize>) -> Option<BTreeSet<BuiltScript>> {
        let mut scripts = BTreeSet::new();
        for product in self.products(reach).filter(|product| is_script(product)) {
            let is_other = |other: &Product| {
                is_script(other) && other.package_id == product.package_id && other != product
            };
            let is_run = |unit: &&UnitInputs| {
                unit.package_id == product.package_id && unit.out_dir.is_some()
            };
            let runs: Vec<_> = self.build.sources.inputs.iter().filter(is_run).collect();
            if !product.local && runs.iter().all(|run| !run.links_native) {
                continue;
            }
            let [run] = runs[..] else { return None };
            if self.build.products.iter().any(is_other) {
                return None;
            }
            scripts.insert(BuiltScript {
                package: plain_name(&product.package_id),
                program: product.files.first()?.clone(),
                out_dir: run.out_dir.clone()?,
                is_own: product.local,
                ran_at: run.ran_at?,
            });
        }
        Some(scripts)
    }

    /// The workspace's own build scripts of these packages. `None` if it is not known when cargo runs one of
    /// them again.
    pub(super) fn own_scripts(&self, reach: &BTreeSet<usize>) -> Option<Vec<OwnScript>> {
        let mut scripts: Vec<OwnScript> = Vec::new();
        for product in self.products(reach).filter(|product| product.local && is_script(product)) {
            let folder = product.manifest.parent()?.to_owned();
            let manifest = std::fs::read_to_string(&product.manifest).ok()?;
            // A script that links packages of the workspace runs again with each of their edits.
            if scripts.iter().any(|other| other.folder == folder)
                || links_packages(&toml::Value::Table(manifest.parse().ok()?))
            {
                return None;
            }
            let inputs = self.build.sources.inputs.iter();
            let runs = inputs.filter(|unit| unit.package_id == product.package_id);
            let runs: Vec<_> =
                runs.filter_map(|unit| Some((unit, unit.out_dir.as_deref()?))).collect();
            let [(run, out_dir)] = runs[..] else { return None };
            let (output, _) = script_output(out_dir)?;
            // A folder changes with anything below it.
            if run.files.iter().any(|path| path.is_dir()) {
                return None;
            }
            let made = out_dir.parent()?;
            let is_own = |unit: &&BuiltUnit| {
                unit.list.starts_with(made) && matches!(unit.watched, WatchedByCargo::Declared(_))
            };
            let units: Vec<_> = self.build.sources.units.iter().filter(is_own).collect();
            let [unit] = units[..] else { return None };
            let (left, made) = ([unit.list.clone(), output], unit.made);
            scripts.push(OwnScript { folder, left, made, watched: run.files.clone() });
        }
        Some(scripts)
    }

    /// What the key of something that is built from these packages must be made of.
    pub(super) fn basis(&self, reach: &BTreeSet<usize>, cache: &Cache) -> RequiredBasis {
        let mut products = self.products(reach);
        if let Some(script) = products.find(|product| product.local && is_script(product)) {
            let package = plain_name(&script.package_id);
            return RequiredBasis::of(KeyBasis::Tree, || {
                format!("the build script of {package} may read any file")
            });
        }
        let mut native = self.units(reach).filter(|unit| unit.links_native);
        let but_scripts = self.basis_but_scripts(reach, cache);
        match native.next() {
            Some(script) if but_scripts.basis < KeyBasis::Variables => {
                RequiredBasis::of(KeyBasis::Variables, || {
                    let package = plain_name(&script.package_id);
                    format!("the build script of {package} links a native library")
                })
            }
            _ => but_scripts,
        }
    }

    /// The same, were it known what those build scripts consult.
    pub(super) fn basis_but_scripts(
        &self,
        reach: &BTreeSet<usize>,
        cache: &Cache,
    ) -> RequiredBasis {
        let of_unit = |unit: &UnitInputs| {
            let package = || plain_name(&unit.package_id);
            let (anything, variables) = (KeyBasis::Tree, KeyBasis::Variables);
            match &unit.macro_library {
                _ if unit.is_unknown => RequiredBasis::of(anything, || {
                    format!("it is not known what {} was built from", package())
                }),
                Some(library) => match reach_of(library, cache) {
                    MacroReach::Tokens => RequiredBasis::default(),
                    MacroReach::Variables => RequiredBasis::of(variables, || {
                        format!("the macros of {} may read variables", package())
                    }),
                    MacroReach::Anything => RequiredBasis::of(anything, || {
                        format!("the macros of {} may read any file", package())
                    }),
                },
                None => RequiredBasis::default(),
            }
        };
        let widest = self.units(reach).map(of_unit).max_by_key(|required| required.basis);
        widest.unwrap_or_else(|| {
            RequiredBasis::of(KeyBasis::Tree, || {
                "it is not known what it was built from".to_owned()
            })
        })
    }
}

/// Whether a manifest, or a part of it, names packages that a build script links.
fn links_packages(manifest: &toml::Value) -> bool {
    let names = ["build-dependencies", "build_dependencies"];
    manifest.as_table().is_some_and(|table| {
        table.iter().any(|(key, value)| names.contains(&&**key) || links_packages(value))
    })
}

/// A build script of the workspace, as it ran last.
pub(super) struct OwnScript {
    /// The folder of its package.
    folder: PathBuf,
    /// Its last run left these, and cargo tells by the first one when it was.
    pub(super) left: [PathBuf; 2],
    made: SystemTime,
    /// The files that it asks cargo to watch.
    pub(super) watched: Vec<PathBuf>,
}

impl OwnScript {
    /// Whether it has not run since.
    pub(super) fn is_last_run(&self) -> bool {
        let made = std::fs::metadata(&self.left[0]).and_then(|file| file.modified());
        made.is_ok_and(|made| made == self.made)
    }
}

/// The packages of these scripts, by their places among `folders`. `None` if one is not among them.
pub(super) fn script_places(
    scripts: &[OwnScript],
    root: &Path,
    folders: &[PathBuf],
) -> Option<BTreeSet<usize>> {
    let place = |script: &OwnScript| {
        let folder = from_root(root, &script.folder);
        folders.iter().position(|known| *known == folder)
    };
    scripts.iter().map(place).collect()
}

/// Whether it is one of the workspace's package of this name.
fn is_of(product: &Product, package: &str) -> bool {
    product.local && name_and_version(&product.package_id).is_some_and(|(name, _)| name == package)
}

/// Whether it is no library: nothing is built from it.
fn is_program(product: &Product) -> bool {
    let of_program = |kind: &String| ["bin", "example", "test", "bench"].contains(&&**kind);
    product.kinds.iter().any(of_program)
}

fn is_script(product: &Product) -> bool {
    product.kinds.iter().any(|kind| kind == "custom-build")
}

/// What a macro's library can consult, remembered by the library's stamp.
fn reach_of(library: &Path, cache: &Cache) -> MacroReach {
    use std::os::unix::ffi::OsStrExt as _;
    let stamp = PathStamp::of(library);
    let mut state = Digester::new("reach of a macro 2");
    state.field(library.as_os_str().as_bytes()).digest(&digest_of_stamp(&stamp));
    let state = state.finish();
    if let Some(known) = cache.memo::<KnownMentions>(&state) {
        let has = |text| known.found.get(text) != Some(&false);
        return match (has(MAY_DO_ANYTHING), has(ASKS_FOR_VARIABLES)) {
            (true, _) => MacroReach::Anything,
            (false, true) => MacroReach::Variables,
            (false, false) => MacroReach::Tokens,
        };
    }
    let reach = macro_reach(library).unwrap_or(MacroReach::Anything);
    if PathStamp::of(library) != stamp {
        return MacroReach::Anything;
    }
    let found = [
        (MAY_DO_ANYTHING.to_owned(), reach == MacroReach::Anything),
        (ASKS_FOR_VARIABLES.to_owned(), reach >= MacroReach::Variables),
    ];
    let known = KnownMentions { found: found.into(), is_program: true, ..KnownMentions::default() };
    cache.store_memo(&state, &known);
    reach
}

/// The features of each unit of a build. `None` if a package is not understood.
pub(super) fn features(products: &[Product]) -> Option<BTreeMap<String, BTreeSet<Vec<String>>>> {
    let mut all: BTreeMap<String, BTreeSet<Vec<String>>> = BTreeMap::new();
    for product in products {
        let package = match product.local {
            true => name_and_version(&product.package_id).map(|(n, v)| format!("{n}@{v}"))?,
            false => product.package_id.clone(),
        };
        let kinds = product.kinds.join(",");
        let test = if product.test { " test" } else { "" };
        let unit = format!("{package} {} {kinds}{test}", product.target);
        let mut features = product.features.clone();
        features.sort();
        all.entry(unit).or_default().insert(features);
    }
    Some(all)
}

/// The names of what cargo puts beside its own folders, where programs look for it.
fn visible_products(products: &[Product]) -> BTreeSet<String> {
    let files = products.iter().flat_map(|product| product.files.iter().chain(&product.executable));
    let is_visible = |file: &&PathBuf| {
        !file.parent().is_some_and(|dir| dir.ends_with("deps"))
            && !file.iter().any(|part| part == "build")
    };
    let name = |file: &PathBuf| Some(file.file_name()?.to_string_lossy().into_owned());
    files.filter(is_visible).filter_map(name).collect()
}

/// Adds the names of the libraries in a folder that a build script has made: cargo has loaders and
/// linkers look there, for every package that is tested.
fn add_libraries(folder: Option<&Path>, depth: usize, names: &mut BTreeSet<String>) {
    let entries = folder.and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && depth > 0 {
            add_libraries(Some(&entry.path()), depth - 1, names);
        } else if name.contains(".so") || name.ends_with(".a") {
            names.insert(name);
        }
    }
}

/// The name in cargo's own name of a package, for a person.
fn plain_name(package_id: &str) -> String {
    name_and_version(package_id).map_or_else(|| package_id.to_owned(), |(name, _)| name)
}

/// Name and version in cargo's own name of a package, in its form of today or that of before 1.77.
pub(super) fn name_and_version(package_id: &str) -> Option<(String, String)> {
    let (name, version) = match package_id.split_once(" (") {
        Some((words, _)) => words.split_once(' ')?,
        None => {
            let (address, fragment) = package_id.rsplit_once('#')?;
            let last = || address.split('?').next()?.trim_end_matches('/').rsplit('/').next();
            match fragment.split_once('@') {
                Some(pair) => pair,
                None => (last()?, fragment),
            }
        }
    };
    Some((name.to_owned(), version.to_owned()))
}

/// The part of a digest that says which plan it is of, over the files that decide it.
pub(super) fn digest(parts: &[&[u8]], files: &Digest) -> Digest {
    let mut digester = Digester::new("plan 2");
    for part in parts {
        digester.field(part);
    }
    digester.digest(files);
    digester.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_named_in_all_forms() {
        for (id, name, version) in [
            ("path+file:///w/a#0.1.0", "a", "0.1.0"),
            ("path+file:///w/a#b@0.1.0", "b", "0.1.0"),
            ("registry+https://example.org/index#serde@1.0.1+x", "serde", "1.0.1+x"),
            ("git+https://example.org/r/lib?rev=1#0.2.0", "lib", "0.2.0"),
            ("a-b 0.1.0 (path+file:///w/a)", "a-b", "0.1.0"),
        ] {
            let expected = Some((name.to_owned(), version.to_owned()));
            assert_eq!(name_and_version(id), expected, "{id}");
        }
        assert_eq!(name_and_version("odd"), None);
    }

    #[test]
    fn a_unit_that_is_built_twice_has_both_sets_of_features() {
        let product = |features: &[&str], test| Product {
            package_id: "path+file:///w/a#0.1.0".to_owned(),
            manifest: "/w/a/Cargo.toml".into(),
            local: true,
            target: "a".to_owned(),
            kinds: vec!["lib".to_owned()],
            test,
            features: features.iter().map(|&name| name.to_owned()).collect(),
            files: vec!["/t/debug/deps/liba-1.rlib".into(), "/t/debug/liba.rlib".into()],
            executable: Some("/t/debug/build/a-1/build-script-build".into()),
            variables: Vec::new(),
        };
        let products = [product(&["y", "x"], false), product(&[], false), product(&["x"], true)];
        let features = features(&products).unwrap();
        assert_eq!(features["a@0.1.0 a lib"].len(), 2);
        assert_eq!(features["a@0.1.0 a lib test"].len(), 1);
        assert_eq!(visible_products(&products), BTreeSet::from(["liba.rlib".to_owned()]));
    }
}
