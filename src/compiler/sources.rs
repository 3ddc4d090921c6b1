//! The files that a build has read, as the compiler and the build scripts report them.
//!
//! The tree's digest covers the files of the tree. This list is for the rest: ignored files in
//! `include_str!`, files outside that `#[path]` names, files that a build script watches.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use super::build_sources::{BuildSources, BuiltUnit, UnitInputs, WatchedByCargo};
use super::cargo::CargoOutput;
use super::file_times::{FileTimes, is_older};
use super::message::{ArtifactMessage, ScriptMessage, is_local};
use super::script_files::{script_output, script_ran_at, script_run_file};
use super::told::{
    declares_something, dependencies, directives, name_of, static_libraries, variables, watched,
};

/// The folders below which cargo keeps what it downloads.
const DOWNLOADED: [&str; 2] = ["registry/src", "git/checkouts"];
/// The largest number of files in a folder that are listed one by one.
const MOST_WATCHED_FILES: usize = 10_000;
/// The largest number of bytes in such a folder.
const MOST_WATCHED_BYTES: u64 = 64 << 20;

/// Reads the lists of all local units that were built or fresh.
pub(super) fn collect(root: &Path, said: &CargoOutput) -> BuildSources {
    let mut search = SourceSearch {
        root,
        out_dirs: said.scripts.iter().map(|script| script.out_dir.clone()).collect(),
        generated: BTreeSet::new(),
        folders: said.artifacts.iter().flat_map(folders).collect(),
        files: BTreeSet::new(),
        watched: BTreeSet::new(),
        missing: BTreeSet::new(),
        unseen: BTreeSet::new(),
        unwatched: BTreeSet::new(),
        units: Vec::new(),
        inputs: Vec::new(),
        began: SystemTime::now().checked_sub(said.elapsed).unwrap_or(SystemTime::UNIX_EPOCH),
        alone_since: said.alone_since,
    };
    said.artifacts.iter().filter(|artifact| artifact.is_local()).for_each(|a| search.artifact(a));
    said.artifacts.iter().filter(|artifact| !artifact.is_local()).for_each(|a| search.foreign(a));
    let packages: HashMap<&str, &Path> = said
        .artifacts
        .iter()
        .filter_map(|a| Some((a.package_id.as_str(), a.manifest_path.parent()?)))
        .collect();
    for script in &said.scripts {
        search.script(script, packages.get(script.package_id.as_str()).copied());
    }
    let local = said.artifacts.iter().filter(|artifact| artifact.is_local());
    let packages = local.filter_map(|artifact| artifact.manifest_path.parent());
    let packages: BTreeSet<PathBuf> = packages.map(Path::to_owned).collect();
    BuildSources {
        files: search.files.into_iter().collect(),
        generated: search.generated.into_iter().collect(),
        folders: search.watched.into_iter().collect(),
        packages: packages.into_iter().collect(),
        missing: search.missing.into_iter().collect(),
        unseen: search.unseen.into_iter().collect(),
        unwatched: search.unwatched.into_iter().collect(),
        units: search.units,
        inputs: search.inputs,
    }
}

struct SourceSearch<'a> {
    root: &'a Path,
    out_dirs: Vec<PathBuf>,
    generated: BTreeSet<PathBuf>,
    /// The folders of this build's artifacts.
    folders: BTreeSet<PathBuf>,
    files: BTreeSet<PathBuf>,
    /// Folders that a build script watches.
    watched: BTreeSet<PathBuf>,
    missing: BTreeSet<PathBuf>,
    unseen: BTreeSet<PathBuf>,
    unwatched: BTreeSet<PathBuf>,
    units: Vec<BuiltUnit>,
    inputs: Vec<UnitInputs>,
    /// When the build began.
    began: SystemTime,
    /// Since when nobody else can have built here.
    alone_since: SystemTime,
}

impl SourceSearch<'_> {
    fn artifact(&mut self, artifact: &ArtifactMessage) {
        let package = artifact.manifest_path.parent().unwrap_or(self.root);
        // Rustc runs in the workspace's root for what lies below it, else in the package.
        let bases = if artifact.target.src_path.starts_with(self.root) {
            [self.root, package]
        } else {
            [package, self.root]
        };
        let lists = self.lists(artifact);
        let mut inputs = UnitInputs::of(artifact);
        inputs.is_unknown |= lists.is_empty();
        if lists.is_empty() {
            self.missing.extend(artifact.filenames.first().cloned());
        }
        for list in lists {
            let (Ok(bytes), Some(made)) = (std::fs::read(&list), FileTimes::of(&list)) else {
                inputs.is_unknown = true;
                self.missing.insert(list);
                continue;
            };
            inputs.variables.extend(variables(&bytes));
            let mut files = Vec::new();
            for path in dependencies(&bytes) {
                let candidates = bases.map(|base| normalized(&base.join(&path)));
                let there = candidates.iter().find(|path| path.exists());
                files.push(there.unwrap_or(&candidates[0]).clone());
            }
            inputs.files.extend(files.iter().cloned());
            files.iter().for_each(|file| self.add(file.clone(), made));
            let since = (!artifact.fresh).then_some(self.began);
            self.unit(list, WatchedByCargo::Listed, since, files);
        }
        inputs.files.sort();
        inputs.files.dedup();
        inputs.files.retain(|file| !self.is_generated(file));
        self.inputs.push(inputs);
    }

    /// Notes a unit by the file that says what it was made from. It is new if it was made `since` then, when
    /// nobody but this build can have made it, and no file was put into a place with an older time meanwhile.
    fn unit(
        &mut self,
        list: PathBuf,
        watched: WatchedByCargo,
        since: Option<SystemTime>,
        files: Vec<PathBuf>,
    ) {
        let modified = std::fs::metadata(&list).and_then(|metadata| metadata.modified());
        let made = modified.unwrap_or(SystemTime::UNIX_EPOCH);
        let began = FileTimes::at(self.began);
        let is_later = |file: &PathBuf| {
            let times = std::fs::metadata(file).ok().map(|metadata| FileTimes::from(&metadata));
            !self.is_generated(file)
                && times.is_some_and(|times| times.modified < began && times.changed >= began)
        };
        let is_new = since.is_some_and(|since| made >= since) && !files.iter().any(is_later);
        self.units.push(BuiltUnit { list, made, is_new, files, watched });
    }

    /// Notes something of a registry; as a unit if its sources were not downloaded, but lie in a folder that
    /// somebody may edit.
    fn foreign(&mut self, artifact: &ArtifactMessage) {
        // What is downloaded lies in folders of cargo's own, and stays as it is.
        let folder = artifact.manifest_path.parent().map(normalized);
        let folder = folder.filter(|path| !path.ancestors().any(is_store));
        if let (Some(folder), Some(product)) = (folder, artifact.filenames.first()) {
            let watched = WatchedByCargo::Vendored(folder);
            let since = (!artifact.fresh).then_some(self.began);
            self.unit(product.clone(), watched, since, Vec::new());
        }
        let mut inputs = UnitInputs::of(artifact);
        let beside = artifact.filenames.iter().filter_map(|file| list_beside(file));
        let lists: BTreeSet<PathBuf> = beside.collect();
        let read: Vec<_> = lists.iter().filter_map(|list| std::fs::read(list).ok()).collect();
        inputs.is_unknown |= read.is_empty();
        inputs.variables.extend(read.iter().flat_map(|bytes| variables(bytes)));
        inputs.files = self.apart(artifact, &lists, &read);
        self.inputs.push(inputs);
    }

    /// What a unit of a registry or a repository has read apart from what was downloaded with it: cargo does
    /// not look at it again.
    fn apart(
        &mut self,
        artifact: &ArtifactMessage,
        lists: &BTreeSet<PathBuf>,
        read: &[Vec<u8>],
    ) -> Vec<PathBuf> {
        let Some(package) = artifact.manifest_path.parent() else { return Vec::new() };
        // Macros may name a file by another way than cargo names the folder.
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let store = package.ancestors().find(|folder| is_store(folder)).map(real);
        let out_dirs: Vec<PathBuf> = self.out_dirs.iter().map(|dir| real(dir)).collect();
        let is_with_it = |path: &PathBuf| {
            let path = real(path);
            store.as_ref().is_some_and(|store| path.starts_with(store))
                || path.starts_with(real(package))
                || out_dirs.iter().any(|dir| path.starts_with(dir))
        };
        let paths = read.iter().flat_map(|bytes| dependencies(bytes));
        let files = paths.map(|path| normalized(&package.join(path)));
        let beside = files.filter(|path| !path.starts_with(package) && !is_with_it(path));
        let files: BTreeSet<PathBuf> = beside.collect();
        let made = lists.iter().filter_map(|list| FileTimes::of(list)).map(|times| times.modified);
        let made = made.min();
        for file in &files {
            if !is_older(file, made) {
                self.unseen.insert(file.clone());
            } else if let Some(link) = made.and_then(|made| self.later_link(file, made)) {
                self.note_link(file, link);
            }
            self.enter(file.clone());
        }
        files.into_iter().collect()
    }

    /// The static libraries that a build script has linked, and that neither a build has made nor cargo downloaded.
    fn static_libraries(
        &self,
        script: &ScriptMessage,
        package: Option<&Path>,
        output: &[u8],
    ) -> Vec<PathBuf> {
        // Rustc is called in the one or the other.
        let dirs = [Some(self.root), package].into_iter().flatten();
        // `target/debug` of `target/debug/build/PACKAGE/out`.
        let built = script.out_dir.ancestors().nth(3);
        let is_other = |file: &PathBuf| {
            !self.is_generated(file)
                && !built.is_some_and(|built| file.starts_with(built))
                && !file.ancestors().any(is_store)
        };
        let files = dirs.flat_map(|dir| static_libraries(output, dir));
        let files = files.map(|file| normalized(&file)).filter(is_other);
        files.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Adds a file that was read for a unit `made` then.
    fn add(&mut self, path: PathBuf, made: FileTimes) {
        if self.is_generated(&path) {
            self.generated.insert(path);
        } else {
            self.doubt(&path, made);
            self.enter(path);
        }
    }

    /// Whether a build script has written this.
    fn is_generated(&self, path: &Path) -> bool {
        self.out_dirs.iter().any(|folder| path.starts_with(folder))
    }

    /// Enters a file, or all files in a folder. A folder that is too large, or cannot be read, is
    /// itself entered among the files, where it counts as unknown.
    fn enter(&mut self, path: PathBuf) {
        if !path.is_dir() {
            self.files.insert(path);
            return;
        }
        let mut todo = vec![path.clone()];
        let (mut folders, mut files, mut bytes) = (Vec::new(), Vec::new(), 0);
        // Cargo follows links to folders here.
        let mut real = BTreeSet::new();
        while let Some(folder) = todo.pop() {
            let (Ok(entries), Ok(at)) = (std::fs::read_dir(&folder), folder.canonicalize()) else {
                self.files.insert(folder);
                continue;
            };
            if at != folder && at.starts_with(self.root) {
                folders.push(at.clone());
            }
            real.insert(at);
            folders.push(folder);
            for entry in entries {
                let Ok(entry) = entry else { continue };
                let below = entry.path();
                let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
                if !below.is_dir() {
                    bytes += entry.metadata().map_or(0, |metadata| metadata.len());
                    files.push(below);
                } else if is_link && leads_up(&below, &real) {
                    // Its text counts.
                    folders.push(below);
                } else if !self.out_dirs.contains(&below) && !self.watched.contains(&below) {
                    todo.push(below);
                }
            }
            if folders.len() + files.len() > MOST_WATCHED_FILES || bytes > MOST_WATCHED_BYTES {
                self.files.insert(path);
                return;
            }
        }
        self.watched.extend(folders);
        self.files.extend(files);
    }

    /// Notes a path that is newer than its times say. In a folder that a build script watches, every
    /// file is checked.
    fn doubt(&mut self, path: &Path, made: FileTimes) {
        let Ok(metadata) = std::fs::metadata(path) else { return };
        if metadata.is_dir() {
            for entry in std::fs::read_dir(path).into_iter().flatten().filter_map(Result::ok) {
                let below = entry.path();
                // What a link leads to may be anywhere, and above this folder.
                if entry.file_type().is_ok_and(|kind| !kind.is_symlink()) {
                    self.doubt(&below, made);
                } else if let Some(link) = self.later_link(&below, made.modified) {
                    self.note_link(&below, link);
                }
            }
        } else if let Some(link) = self.later_link(path, made.modified) {
            self.note_link(path, link);
        } else if FileTimes::from(&metadata).modified <= made.modified && self.was_moved(path, made)
        {
            self.unseen.insert(path.to_owned());
        }
    }

    /// The path, or a folder on the way to it, that is a link which was made after that. Cargo looks at the file
    /// to which it led then.
    fn later_link<'p>(&self, path: &'p Path, made: (i64, i64)) -> Option<&'p Path> {
        path.ancestors().filter(|way| !self.root.starts_with(way)).find(|way| {
            let metadata = std::fs::symlink_metadata(way).ok();
            metadata
                .filter(std::fs::Metadata::is_symlink)
                .is_some_and(|metadata| FileTimes::from(&metadata).changed > made)
        })
    }

    /// Notes a path to which a later link leads. A link outside of the workspace is nobody's mistake.
    fn note_link(&mut self, path: &Path, link: &Path) {
        let is_own = link.starts_with(self.root);
        if is_own { &mut self.unseen } else { &mut self.unwatched }.insert(path.to_owned());
    }

    /// Whether the file, a link on the way to it, or a folder above it was moved here after `made`. A
    /// moved folder keeps its modification time; a folder in which a file was created does not.
    fn was_moved(&self, path: &Path, made: FileTimes) -> bool {
        let above = path.ancestors().skip(1);
        let mut above = above.take_while(|folder| folder.starts_with(self.root));
        let since = |changed| changed > made.modified;
        let own = std::fs::metadata(path).is_ok_and(|meta| since(FileTimes::from(&meta).changed));
        let link = FileTimes::of(path).is_some_and(|times| since(times.changed));
        own || link
            || above.any(|folder| {
                let is_root = folder == self.root;
                let times = FileTimes::of(folder).filter(|_| !is_root);
                times.is_some_and(|times| since(times.changed) && !since(times.modified))
            })
    }

    /// The compiler's lists for an artifact. A list lies beside its artifact under the same name. If
    /// cargo reports only a second name (`debug/NAME` for `debug/deps/NAME-HASH`), the first is found
    /// by its inode; failing that, every list of that name counts. A list beside a second name is
    /// cargo's own: cargo writes it again at every call, so its time says nothing of the unit.
    fn lists(&self, artifact: &ArtifactMessage) -> Vec<PathBuf> {
        let beside = artifact.filenames.iter().filter_map(|file| list_beside(file));
        let beside: BTreeSet<PathBuf> = beside.filter(|list| is_of_compiler(list)).collect();
        if !beside.is_empty() {
            return beside.into_iter().collect();
        }
        let krate = artifact.target.name.replace('-', "_");
        let files = artifact.filenames.iter().filter_map(|file| file.metadata().ok());
        let inodes: BTreeSet<(u64, u64)> = files.map(|meta| (meta.dev(), meta.ino())).collect();
        let mut same = Vec::new();
        let mut like = Vec::new();
        for entry in self.search_folders(artifact).iter().flat_map(|folder| {
            std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok)
        }) {
            let path = entry.path();
            let Some(stem) = path.file_stem().and_then(OsStr::to_str) else { continue };
            let hash = stem.strip_prefix(&krate);
            let named = hash.is_some_and(|hash| hash.is_empty() || hash.starts_with('-'));
            if !named || path.extension() != Some(OsStr::new("d")) {
                continue;
            }
            if !is_of_compiler(&path) {
                continue;
            }
            let twin = std::fs::metadata(path.with_extension(""));
            if twin.is_ok_and(|meta| inodes.contains(&(meta.dev(), meta.ino()))) {
                same.push(path);
            } else {
                like.push(path);
            }
        }
        if same.is_empty() { like } else { same }
    }

    fn search_folders(&self, artifact: &ArtifactMessage) -> BTreeSet<PathBuf> {
        let mut folders = self.folders.clone();
        for folder in folders_of(artifact) {
            // Cargo's newer layout: `debug/build/PACKAGE/HASH/out`.
            let package = artifact.manifest_path.parent().and_then(Path::file_name);
            let units = folder.join("build").join(package.unwrap_or_default());
            let units = std::fs::read_dir(units).into_iter().flatten().filter_map(Result::ok);
            folders.extend(units.map(|unit| unit.path().join("out")));
            folders.insert(folder.join("deps"));
        }
        folders
    }

    /// Reads the output of a build script, of this run or an earlier one.
    fn script(&mut self, script: &ScriptMessage, package: Option<&Path>) {
        let folder = script.out_dir.parent().unwrap_or(Path::new("/"));
        let output = script_output(&script.out_dir);
        let local = is_local(&script.package_id);
        let mut inputs = UnitInputs {
            package_id: script.package_id.clone(),
            out_dir: Some(script.out_dir.clone()),
            ran_at: script_ran_at(&script.out_dir),
            is_unknown: output.is_none(),
            ..UnitInputs::default()
        };
        if let Some((_, text)) = &output {
            inputs.variables.extend(directives(text, "rerun-if-env-changed=").map(name_of));
            let links = |what: &str| directives(text, what).next().is_some();
            let by_flags = || links("rustc-flags=") || links("rustc-link-arg");
            inputs.links_native =
                links("rustc-link-lib=") || links("rustc-link-search=") || by_flags();
            let at = |path: &Path| normalized(&package.unwrap_or(self.root).join(path));
            inputs.files =
                watched(text).filter(|path| local || path.is_absolute()).map(at).collect();
            inputs.files.extend(self.static_libraries(script, package, text));
        }
        self.inputs.push(inputs);
        let Some(output) = output else {
            self.missing.insert(folder.join("output"));
            return;
        };
        let Some(made) = FileTimes::of(&output.0) else { return };
        for library in self.static_libraries(script, package, &output.1) {
            // Cargo does not look at it.
            if !is_older(&library, Some(made.modified))
                || self.later_link(&library, made.modified).is_some()
            {
                self.unwatched.insert(library.clone());
            }
            self.enter(library);
        }
        if local {
            let at = |path: &Path| normalized(&package.unwrap_or(self.root).join(path));
            let mut declared: Vec<_> = watched(&output.1).map(at).collect();
            if !declares_something(&output.1) {
                // Then cargo watches the whole package.
                declared.extend(package.map(Path::to_owned));
            }
            let list = script_run_file(&script.out_dir).unwrap_or_else(|| output.0.clone());
            let files = declared.iter().filter(|path| !path.is_dir()).cloned().collect();
            // Cargo does not tell whether it has run it, or another one before.
            self.unit(list, WatchedByCargo::Declared(declared), Some(self.alone_since), files);
        }
        for path in watched(&output.1) {
            match package {
                Some(package) if local => self.add(normalized(&package.join(path)), made),
                // A registry's package cannot change; what it watches outside itself can.
                _ if path.is_absolute() => self.add(normalized(path), made),
                Some(_) => {}
                None if local => {
                    self.missing.insert(folder.join("output"));
                }
                None => {}
            }
        }
    }
}

/// Whether cargo keeps what it downloads below this folder.
fn is_store(folder: &Path) -> bool {
    DOWNLOADED.iter().any(|end| folder.ends_with(end))
}

/// Whether a link leads to one of these folders, or above one.
fn leads_up(link: &Path, folders: &BTreeSet<PathBuf>) -> bool {
    let Ok(at) = link.canonicalize() else { return true };
    folders.range(at.clone()..).next().is_some_and(|folder| folder.starts_with(&at))
}

impl UnitInputs {
    /// What the message about an artifact tells.
    fn of(artifact: &ArtifactMessage) -> Self {
        let is_macro = artifact.target.kind.iter().any(|kind| kind == "proc-macro");
        let is_library = |file: &&PathBuf| is_macro && file.extension() == Some(OsStr::new("so"));
        let library = artifact.filenames.iter().find(is_library).cloned();
        let is_unknown = is_macro
            && !artifact.profile.test
            && (library.is_none() || artifact.profile.opt_level != "0");
        Self {
            package_id: artifact.package_id.clone(),
            macro_library: library,
            is_unknown,
            ..Self::default()
        }
    }
}

fn folders(artifact: &ArtifactMessage) -> BTreeSet<PathBuf> {
    if artifact.is_local() { folders_of(artifact) } else { BTreeSet::new() }
}

fn folders_of(artifact: &ArtifactMessage) -> BTreeSet<PathBuf> {
    artifact.filenames.iter().filter_map(|file| Some(file.parent()?.to_owned())).collect()
}

/// `deps/libx-HASH.rlib` → `deps/x-HASH.d`, `deps/x-HASH` → `deps/x-HASH.d`, and a build
/// script's `build-script-build` → the only list in its folder.
fn list_beside(file: &Path) -> Option<PathBuf> {
    let name = file.file_name()?.to_str()?;
    let folder = file.parent()?;
    if name.starts_with("build-script-") {
        let hash = folder.file_name()?.to_str()?.rsplit('-').next()?.to_owned();
        let name = name.replace('-', "_");
        return Some(folder.join(format!("{name}-{hash}.d")));
    }
    let library =
        [".rlib", ".rmeta", ".so", ".dylib", ".a"].iter().find_map(|end| name.strip_suffix(end));
    let stem = match library {
        Some(stem) => stem.strip_prefix("lib").unwrap_or(stem),
        None => name.split_once('.').map_or(name, |(stem, _)| stem),
    };
    Some(folder.join(format!("{stem}.d")))
}

/// Whether the compiler made a list of files: then the list itself is one of the targets in it.
fn is_of_compiler(list: &Path) -> bool {
    let Ok(bytes) = std::fs::read(list) else { return false };
    let target =
        |line: &[u8]| line.windows(4).any(|part| part == b".d: ") || line.ends_with(b".d:");
    bytes.split(|byte| *byte == b'\n').any(|line| !line.starts_with(b"#") && target(line))
}

/// The files that a library was compiled from, by the compiler's list beside it; `None` if one of them
/// cannot be found. The compiler ran in the workspace's root, or named them in full.
pub(crate) fn sources_of_library(library: &Path, root: &Path) -> Option<Vec<PathBuf>> {
    let bytes = std::fs::read(list_beside(library)?).ok()?;
    let sources: Vec<_> = dependencies(&bytes).iter().map(|path| root.join(path)).collect();
    (!sources.is_empty() && sources.iter().all(|source| source.is_file())).then_some(sources)
}

/// Where the compiler also looks for a module that it found in this file.
fn other_place_of_module(file: &Path) -> Option<PathBuf> {
    if file.extension() != Some(OsStr::new("rs")) {
        return None;
    }
    Some(match file.file_name() {
        Some(name) if name == "mod.rs" => file.parent()?.with_added_extension("rs"),
        _ => file.with_extension("").join("mod.rs"),
    })
}

/// Whether something is where the compiler also looks for the module in this file. Cargo does not
/// notice it before it builds the module anew.
pub(crate) fn is_module_twice(file: &Path) -> bool {
    other_place_of_module(file).is_some_and(|place| place.symlink_metadata().is_ok())
}

/// Where the compiler also looks for a module that it found in this file, if nothing is there: it
/// refuses to choose between `m.rs` and `m/mod.rs`. A file `m` in the place of the folder stands for
/// the name below it.
pub(crate) fn free_place_of_module(file: &Path) -> Option<PathBuf> {
    let place = other_place_of_module(file)?;
    match place.symlink_metadata() {
        Ok(_) => None,
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            place.parent().map(Path::to_owned)
        }
        Err(_) => Some(place),
    }
}

/// The path without `.` and `..`, unless a symbolic link stands before the `..`: the system goes
/// up from where the link leads to.
fn normalized(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir if normal.ends_with("..") || normal.is_symlink() => {
                normal.push("..");
            }
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs::{self, File};
    use std::time::Duration;

    /// The unit of a library whose list was written now, in a build that began a minute ago.
    fn unit(root: &Path, fresh: bool) -> BuiltUnit {
        let product = root.join("libx-1.rlib");
        let list = root.join("x-1.d");
        let text = format!("{}: {}\n", list.display(), root.join("lib.rs").display());
        fs::write(list, text).unwrap();
        fs::write(&product, "").unwrap();
        let artifact = serde_json::from_value(json!({
            "package_id": format!("path+file://{}#x@0.1.0", root.display()),
            "manifest_path": root.join("Cargo.toml"),
            "target": { "name": "x", "kind": ["lib"], "src_path": root.join("lib.rs") },
            "profile": { "test": false },
            "filenames": [product],
            "executable": null,
            "fresh": fresh,
        }));
        let said = CargoOutput {
            artifacts: vec![artifact.unwrap()],
            scripts: Vec::new(),
            messages: BTreeSet::new(),
            warnings: Vec::new(),
            dirty: Vec::new(),
            elapsed: Duration::from_secs(60),
            alone_since: SystemTime::now(),
        };
        collect(root, &said).units.pop().unwrap()
    }

    #[test]
    fn a_unit_is_new_if_this_cargo_has_made_it_of_files_that_stayed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let source = File::create(root.join("lib.rs")).unwrap();
        let unit_of = |fresh| unit(&root, fresh);
        assert!(unit_of(false).is_new, "saved during the build: cargo looks at it again");
        assert_eq!(unit_of(false).files, [root.join("lib.rs")]);
        assert!(!unit_of(true).is_new, "another cargo has made it meanwhile");
        source.set_modified(SystemTime::now() - Duration::from_secs(600)).unwrap();
        assert!(!unit_of(false).is_new, "put there during the build, with a time from before it");
    }

    #[test]
    fn the_list_beside_an_artifact() {
        let of = |file: &str| list_beside(Path::new(file)).unwrap();
        assert_eq!(of("/t/deps/libx_y-1f.rlib"), Path::new("/t/deps/x_y-1f.d"));
        assert_eq!(of("/t/deps/it-1f"), Path::new("/t/deps/it-1f.d"));
        assert_eq!(of("/t/deps/libm-1f.so"), Path::new("/t/deps/m-1f.d"));
        let script = of("/t/build/a-b-1f/build-script-build");
        assert_eq!(script, Path::new("/t/build/a-b-1f/build_script_build-1f.d"));
    }

    #[test]
    fn a_list_that_cargo_wrote_is_told_from_the_compilers() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("x.d");
        for (text, expected) in [
            ("/t/x-1f.d: src/lib.rs\n\n/t/x-1f: src/lib.rs\n", true),
            ("/t/x-1f.d:\n", true),
            ("/t/debug/x: /w/src/lib.rs /w/src/x.d\n", false),
            ("/t/debug/x: /w/src/x.d /w/src/lib.rs\n", false),
            ("", false),
        ] {
            std::fs::write(&list, text).unwrap();
            assert_eq!(is_of_compiler(&list), expected, "{text}");
        }
        assert!(!is_of_compiler(&dir.path().join("none.d")));
    }

    #[test]
    fn the_way_up_from_a_link_is_that_of_where_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(base.join("src/real")).unwrap();
        std::fs::create_dir_all(base.join("far/away")).unwrap();
        std::os::unix::fs::symlink(base.join("far/away"), base.join("src/link")).unwrap();
        std::fs::write(base.join("far/x"), "far").unwrap();
        let of = |path: &str| normalized(&base.join(path));
        assert_eq!(of("src/real/../x"), base.join("src/x"));
        assert_eq!(of("./src/none/../../x"), base.join("x"));
        assert_eq!(std::fs::read_to_string(of("src/link/../x")).unwrap(), "far");
        assert_eq!(of("src/link/../../y"), base.join("src/link/../../y"));
    }

    #[test]
    fn a_module_has_a_free_place_or_a_file_that_bars_it() {
        let dir = tempfile::tempdir().unwrap();
        let module = dir.path().join("m.rs");
        assert_eq!(free_place_of_module(&module), Some(dir.path().join("m/mod.rs")));
        std::fs::write(dir.path().join("m"), "").unwrap();
        assert_eq!(free_place_of_module(&module), Some(dir.path().join("m")));
        assert_eq!(free_place_of_module(&dir.path().join("m/mod.rs")), Some(module));
    }
}
