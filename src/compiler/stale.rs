//! Build artifacts that our own builds have left and that no cargo would find fresh.
//!
//! Cargo never removes what it has built: other flags or features, and the old files stay beside
//! the new ones for ever. An artifact is removed only if that provably costs no rebuild:
//! - a build of ours has made it, which a ledger records, and it is the workspace's own code;
//! - no last build of any selection of ours has named it;
//! - a source in the compiler's list for it, or for a unit that it was linked with, is newer than
//!   cargo's note of that compilation: with any settings, cargo would rebuild it.
//!
//! If cargo uses another layout, or compares contents instead of times, nothing is proven and
//! nothing is removed. Links are not followed, and cargo's own lock is held meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::cargo::CargoOutput;
use super::told::dependencies;
use crate::model::{OsText, Timestamp};
use crate::paths::replace_file;

/// The version of the file's format; another one is not understood.
const LEDGER_VERSION: u32 = 1;
/// How long the last build of a selection protects the units that it named.
const PROTECTED_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How old a ledger becomes without a write before it is removed.
const LEDGER_UNUSED_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A compilation unit: its profile's folder, and the digest in its file names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Unit {
    folder: OsText,
    hash: String,
}

/// A unit in the messages of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedUnit {
    unit: Unit,
    fresh: bool,
}

/// The units that our builds have made, and the units that the last builds have named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BuildLedger {
    version: u32,
    made: BTreeSet<Unit>,
    last: BTreeMap<String, RecordedBuild>,
}

/// The last build of a selection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RecordedBuild {
    when: Timestamp,
    named: BTreeSet<Unit>,
}

/// A unit that no cargo would find fresh.
#[derive(Clone, Debug)]
pub(crate) struct StaleUnit {
    unit: Unit,
    /// Its files and folders.
    pub paths: Vec<PathBuf>,
    /// Their size.
    pub bytes: u64,
    /// The source that is newer.
    pub newer: PathBuf,
}

/// Why nothing was removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoveStaleError {
    /// A cargo is at work there.
    #[error("a cargo builds in `{}`: try again when it is done", .0.display())]
    Busy(PathBuf),
    /// The system refuses the removal.
    #[error("cannot remove `{}`: {source}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The units of the workspace's own code that a build has named.
pub(super) fn named(said: &CargoOutput, root: &Path) -> Vec<NamedUnit> {
    // The compiler names the sources of what lies elsewhere from other folders.
    let local = said
        .artifacts
        .iter()
        .filter(|artifact| artifact.is_local() && artifact.target.src_path.starts_with(root));
    let units = local.flat_map(|artifact| {
        let units: BTreeSet<Unit> = artifact.filenames.iter().filter_map(|f| unit_of(f)).collect();
        units.into_iter().map(|unit| NamedUnit { unit, fresh: artifact.fresh })
    });
    units.collect()
}

/// Marks units that an earlier part of this build has made as not fresh.
pub(super) fn take_over(named: &mut [NamedUnit], earlier: &[NamedUnit]) {
    let made: BTreeSet<&Unit> = earlier.iter().filter(|n| !n.fresh).map(|n| &n.unit).collect();
    for one in named {
        one.fresh &= !made.contains(&one.unit);
    }
}

/// `…/debug/deps/libx-HASH.rlib`, `…/debug/build/x-HASH/build-script-build`; a second name outside
/// of `deps` leads to the first.
fn unit_of(file: &Path) -> Option<Unit> {
    let folder = file.parent()?;
    let unit = |profile: &Path, name: &str| {
        let hash = hash_in(name)?.to_owned();
        Some(Unit { folder: OsText::from(profile), hash })
    };
    if folder.file_name() == Some(OsStr::new("deps")) {
        return unit(folder.parent()?, file.file_name()?.to_str()?);
    }
    if folder.parent()?.file_name() == Some(OsStr::new("build")) {
        return unit(folder.parent()?.parent()?, folder.file_name()?.to_str()?);
    }
    let own = fs::metadata(file).ok()?;
    let beside = fs::read_dir(folder.join("deps")).ok()?.flatten();
    let twin = beside.map(|entry| entry.path()).find(|path| {
        let same = |other: fs::Metadata| (other.dev(), other.ino()) == (own.dev(), own.ino());
        fs::symlink_metadata(path).is_ok_and(same)
    })?;
    unit(folder, twin.file_name()?.to_str()?)
}

/// `x-0123456789abcdef.d` → the digest.
fn hash_in(name: &str) -> Option<&str> {
    let stem = name.split('.').next()?;
    let (_, hash) = stem.rsplit_once('-')?;
    let digits = hash.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase());
    (hash.len() == 16 && digits).then_some(hash)
}

impl BuildLedger {
    /// Reads the ledger. A missing or unknown one is empty, and proves nothing.
    #[must_use]
    pub(crate) fn load(file: &Path) -> Self {
        let read = || serde_json::from_slice::<Self>(&fs::read(file).ok()?).ok();
        let known = read().filter(|ledger| ledger.version == LEDGER_VERSION);
        known.unwrap_or_else(|| Self { version: LEDGER_VERSION, ..Self::default() })
    }

    /// Whether a build of the selection `of` was recorded not long ago.
    #[must_use]
    pub(crate) fn knows(&self, of: &str) -> bool {
        self.last.contains_key(of)
    }

    /// Records a build of the selection `of`, which built these units or found them fresh, and returns whether the ledger has changed.
    #[must_use]
    pub(crate) fn note(&mut self, of: &str, units: &[NamedUnit], now: Timestamp) -> bool {
        let named = || units.iter();
        let made: BTreeSet<_> = named().filter(|n| !n.fresh).map(|n| n.unit.clone()).collect();
        let last = RecordedBuild { when: now, named: named().map(|n| n.unit.clone()).collect() };
        let day = Duration::from_secs(24 * 60 * 60);
        let known = self.last.get(of).is_some_and(|known| {
            known.named == last.named && known.when.age(now).is_some_and(|age| age < day)
        });
        if known && made.is_subset(&self.made) {
            return false;
        }
        self.made.extend(made);
        self.last.insert(of.to_owned(), last);
        self.last.retain(|_, last| last.when.age(now).is_some_and(|age| age < PROTECTED_FOR));
        // A removed unit needs no entry.
        let there = files_of(self.made.iter());
        self.made.retain(|unit| there.contains_key(unit));
        true
    }

    /// Writes the ledger, whole or not at all.
    ///
    /// # Errors
    /// The system's error. Without the ledger, less is proven.
    pub(crate) fn save(&self, file: &Path) -> io::Result<()> {
        replace_file(file, &serde_json::to_vec(self)?).map(drop)
    }

    /// The units that can be removed from this workspace.
    #[must_use]
    pub(crate) fn stale(&self, root: &Path, now: Timestamp) -> Vec<StaleUnit> {
        // A build of unknown age protects its units as well.
        let protects =
            |last: &&RecordedBuild| last.when.age(now).is_none_or(|age| age < PROTECTED_FOR);
        let wanted: BTreeSet<&Unit> =
            self.last.values().filter(protects).flat_map(|last| &last.named).collect();
        let files = files_of(self.made.iter());
        let made: BTreeMap<&Unit, &UnitFiles> =
            self.made.iter().filter_map(|unit| Some((unit, files.get(unit)?))).collect();
        let mut newer: BTreeMap<&Unit, PathBuf> = BTreeMap::new();
        let mut fresh_prints: Vec<(u64, PathBuf)> = Vec::new();
        for (unit, files) in &made {
            if let Some(source) = newer_source(Path::new(&unit.folder.0), files, root) {
                fresh_prints.extend(prints(files).into_iter().map(|print| (print, source.clone())));
                newer.insert(unit, source);
            }
        }
        // And whatever was linked with one of them, and so on.
        let mut rest: Vec<(&Unit, &UnitFiles, Vec<u64>)> = made
            .iter()
            .filter(|(unit, _)| !newer.contains_key(*unit))
            .map(|(unit, files)| (*unit, *files, linked(files)))
            .collect();
        while !fresh_prints.is_empty() {
            let known: BTreeMap<u64, PathBuf> =
                std::mem::take(&mut fresh_prints).into_iter().collect();
            rest.retain(|(unit, files, linked)| {
                let Some(source) = linked.iter().find_map(|print| known.get(print)) else {
                    return true;
                };
                fresh_prints.extend(prints(files).into_iter().map(|print| (print, source.clone())));
                newer.insert(unit, source.clone());
                false
            });
        }
        let unwanted = newer.into_iter().filter(|(unit, _)| !wanted.contains(unit));
        unwanted
            .filter_map(|(unit, newer)| {
                let paths: Vec<PathBuf> = made.get(unit)?.iter().flatten().cloned().collect();
                let bytes = paths.iter().map(|path| size(path)).sum();
                Some(StaleUnit { unit: unit.clone(), paths, bytes, newer })
            })
            .collect()
    }
}

/// Forgets ledgers in `dir` that no build has written to for a month: the projects are gone, or
/// nothing in them changes.
pub(crate) fn remove_old_ledgers(dir: &Path, now: SystemTime) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        let age = modified.and_then(|modified| now.duration_since(modified).ok());
        if age.is_some_and(|age| age > LEDGER_UNUSED_FOR) {
            // Seen again next time.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Removes them, cargo's locks in hand.
///
/// # Errors
/// At the first that cannot be removed, or if a cargo is at work: then nothing is.
pub(crate) fn remove_stale_unit(stale: &[StaleUnit]) -> Result<(), RemoveStaleError> {
    let folders: BTreeSet<&Path> = stale.iter().map(|one| Path::new(&one.unit.folder.0)).collect();
    let mut held = Vec::new();
    for folder in folders {
        let path = folder.join(".cargo-lock");
        let io = |source| RemoveStaleError::Io { path: path.clone(), source };
        let lock = File::open(&path).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => held.push(lock),
            Err(TryLockError::WouldBlock) => return Err(RemoveStaleError::Busy(folder.to_owned())),
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
    }
    for path in stale.iter().flat_map(|one| &one.paths) {
        let is_folder = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
        let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        match removed {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(RemoveStaleError::Io { path: path.clone(), source });
            }
            _ => {}
        }
    }
    drop(held);
    Ok(())
}

/// The folders of a profile in which the digest of a unit stands in names. Cargo's notes come
/// first: without them nobody takes the rest for fresh.
const BELOW: [&str; 3] = [".fingerprint", "deps", "build"];

/// What there is of a unit, in each of those.
type UnitFiles = [Vec<PathBuf>; 3];

/// What there is of all units in these profiles' folders: looked for once, since there are many.
fn files_of<'a>(units: impl Iterator<Item = &'a Unit>) -> BTreeMap<Unit, UnitFiles> {
    let folders: BTreeSet<&OsText> = units.map(|unit| &unit.folder).collect();
    let mut found: BTreeMap<Unit, UnitFiles> = BTreeMap::new();
    for folder in folders {
        for (at, below) in BELOW.iter().enumerate() {
            let dir = Path::new(&folder.0).join(below);
            // One that is a link leads who knows where.
            if !fs::symlink_metadata(&dir).is_ok_and(|metadata| metadata.is_dir()) {
                continue;
            }
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let Some(hash) = name.to_str().and_then(hash_in) else { continue };
                let unit = Unit { folder: folder.clone(), hash: hash.to_owned() };
                found.entry(unit).or_default()[at].push(entry.path());
            }
        }
    }
    found
}

/// The files in folders of a unit.
fn inside(folders: &[PathBuf]) -> impl Iterator<Item = PathBuf> + '_ {
    let entries = folders.iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
    entries.map(|entry| entry.path())
}

/// A source that is newer than the unit, by the very times that cargo compares.
fn newer_source(folder: &Path, [notes, deps, build]: &UnitFiles, root: &Path) -> Option<PathBuf> {
    let modified = |path: &Path| fs::metadata(path).ok()?.modified().ok();
    let mut compiled = None;
    for note in inside(notes) {
        if note.file_name()?.to_str()?.starts_with("dep-") {
            compiled = Some(modified(&note)?.max(compiled.unwrap_or(SystemTime::UNIX_EPOCH)));
        }
        // It would compare contents, and a newer file may be the same.
        let by_content = |text: &[u8]| text.windows(15).any(|part| part == b"\"checksum\":true");
        if note.extension() == Some(OsStr::new("json")) && by_content(&fs::read(&note).ok()?) {
            return None;
        }
    }
    let compiled = compiled?;
    let files = deps.iter().cloned().chain(inside(build));
    let is_list = |path: &PathBuf| path.extension() == Some(OsStr::new("d"));
    files.filter(is_list).find_map(|list| {
        let sources = dependencies(&fs::read(list).ok()?).into_iter().map(|path| root.join(path));
        // A file in a target directory is made, and files elsewhere are not known well.
        let own = |path: &PathBuf| path.starts_with(root) && !path.starts_with(folder);
        sources.filter(own).find(|path| modified(path).is_some_and(|time| time > compiled))
    })
}

/// The digests by which what is linked with a unit knows it: `.fingerprint/x-HASH/lib-x`, 16
/// digits, the lowest byte first.
fn prints([notes, ..]: &UnitFiles) -> Vec<u64> {
    let read = |path: PathBuf| {
        let bytes = fs::read(path).ok().filter(|bytes| bytes.len() == 16)?;
        let number = u64::from_str_radix(std::str::from_utf8(&bytes).ok()?, 16).ok()?;
        Some(number.swap_bytes())
    };
    inside(notes).filter_map(read).collect()
}

/// The digests of what a unit was linked with: `"deps":[[…,"x",false,DIGEST],…]`.
fn linked([notes, ..]: &UnitFiles) -> Vec<u64> {
    let mut found = Vec::new();
    for path in inside(notes).filter(|path| path.extension() == Some(OsStr::new("json"))) {
        let Ok(bytes) = fs::read(path) else { continue };
        let Ok(note) = serde_json::from_slice::<serde_json::Value>(&bytes) else { continue };
        let deps = note["deps"].as_array().into_iter().flatten();
        found.extend(deps.filter_map(|dep| dep.get(3)?.as_u64()));
    }
    found
}

fn size(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    if !metadata.is_dir() {
        return metadata.len();
    }
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| size(&entry.path())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compiler::Build;
    use crate::compiler::{BuiltUnit, WatchedByCargo};

    #[test]
    fn digests_in_names() {
        let hash = "0123456789abcdef";
        for name in ["libx_y-H.rlib", "x-H", "x-H.d", "x-H.1.rcgu.o", "x-y-H.d"] {
            assert_eq!(hash_in(&name.replace('H', hash)), Some(hash), "{name}");
        }
        for name in ["x", "x-0123456789ABCDEF", "x-0123", "0123456789abcdef", "x-0123456789abcdeg"]
        {
            assert_eq!(hash_in(name), None, "{name}");
        }
    }

    #[test]
    fn units_of_files() {
        let unit = Unit { folder: OsText::from("/t/debug"), hash: "0123456789abcdef".into() };
        for file in ["deps/libx-0123456789abcdef.rmeta", "build/x-0123456789abcdef/build-script-x"]
        {
            assert_eq!(unit_of(&Path::new("/t/debug").join(file)).as_ref(), Some(&unit));
        }
        assert_eq!(unit_of(Path::new("/t/debug/x")), None);
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("deps")).unwrap();
        let first = base.path().join("deps/x-0123456789abcdef");
        fs::write(&first, "x").unwrap();
        fs::hard_link(&first, base.path().join("x")).unwrap();
        let found = unit_of(&base.path().join("x")).unwrap();
        assert_eq!((found.folder, found.hash), (OsText::from(base.path()), unit.hash));
    }

    /// A unit as cargo leaves it, compiled from `src/lib.rs`; its print is `number`.
    fn compile(root: &Path, hash: &str, number: u64, linked: &[u64]) -> NamedUnit {
        let folder = root.join("target/debug");
        let notes = folder.join(format!(".fingerprint/x-{hash}"));
        fs::create_dir_all(&notes).unwrap();
        fs::create_dir_all(folder.join("deps")).unwrap();
        fs::write(folder.join(format!("deps/x-{hash}.d")), "/t/x.d: src/lib.rs\n").unwrap();
        fs::write(folder.join(format!("deps/libx-{hash}.rlib")), "12345").unwrap();
        fs::write(notes.join("dep-lib-x"), "").unwrap();
        fs::write(notes.join("lib-x"), format!("{:016x}", number.swap_bytes())).unwrap();
        let deps: Vec<_> = linked.iter().map(|print| (1, "x", false, print)).collect();
        let json = serde_json::json!({ "deps": deps });
        fs::write(notes.join("lib-x.json"), json.to_string()).unwrap();
        fs::write(folder.join(".cargo-lock"), "").unwrap();
        let unit = Unit { folder: OsText::from(&folder), hash: hash.to_owned() };
        NamedUnit { unit, fresh: false }
    }

    fn build(named: Vec<NamedUnit>) -> Build {
        Build {
            artifacts: Vec::new(),
            warnings: Vec::new(),
            fresh: false,
            rebuilt: 1,
            dirty: vec!["x: why".to_owned()],
            products: Vec::new(),
            named,
            sources: Box::default(),
            planned_from: Box::default(),
            unoptimized: false,
            elapsed: Duration::ZERO,
        }
    }

    #[test]
    fn what_the_build_of_a_part_has_made_is_new_in_the_whole() {
        let unit = |seconds, is_new| BuiltUnit {
            list: "/t/x.d".into(),
            made: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            is_new,
            files: Vec::new(),
            watched: WatchedByCargo::Listed,
        };
        let (mut part, mut whole) = (build(Vec::new()), build(Vec::new()));
        part.sources.units = vec![unit(1, true), unit(2, false)];
        whole.sources.units = vec![unit(1, false), unit(2, false), unit(3, true)];
        whole.comes_after(&part);
        let is_new: Vec<_> = whole.sources.units.iter().map(|unit| unit.is_new).collect();
        assert_eq!(is_new, [true, false, true]);
    }

    const OLD: &str = "00000000000000aa";
    const LINKED: &str = "00000000000000bb";
    const THEIRS: &str = "00000000000000cc";
    const NEW: &str = "00000000000000dd";
    const NOW: Timestamp = Timestamp(1_000_000_000_000);

    /// Two units of ours and one of theirs, then an edit if that is wanted, then another of ours.
    fn scene(edit: bool) -> (tempfile::TempDir, PathBuf, BuildLedger) {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().canonicalize().unwrap();
        fs::create_dir(root.join("src")).unwrap();
        let source = File::create(root.join("src/lib.rs")).unwrap();
        let day = Duration::from_secs(86_400);
        source.set_modified(SystemTime::now() - day).unwrap();
        let mut ledger = BuildLedger { version: LEDGER_VERSION, ..BuildLedger::default() };
        let old = compile(&root, OLD, u64::MAX - 7, &[]);
        let linked = compile(&root, LINKED, 2, &[u64::MAX - 7]);
        // This one has no source that changed.
        fs::write(root.join(format!("target/debug/deps/x-{LINKED}.d")), "a: no/such\n").unwrap();
        compile(&root, THEIRS, 3, &[]);
        assert!(ledger.note("s", &[old, linked], NOW));
        if edit {
            source.set_modified(SystemTime::now() + day).unwrap();
        }
        let mut new = compile(&root, NEW, 4, &[]);
        assert!(ledger.note("s", &[new.clone()], NOW));
        new.fresh = true;
        assert!(!ledger.note("s", &[new], NOW), "no news");
        (base, root, ledger)
    }

    fn hashes(stale: &[StaleUnit]) -> Vec<&str> {
        stale.iter().map(|one| one.unit.hash.as_str()).collect()
    }

    #[test]
    fn only_ours_goes_and_only_what_nobody_would_find_fresh() {
        let (_base, root, ledger) = scene(true);
        let stale = ledger.stale(&root, NOW);
        // Not theirs, and not what the last build named though it is stale as well.
        assert_eq!(hashes(&stale), [OLD, LINKED]);
        assert!(stale.iter().all(|one| one.newer == root.join("src/lib.rs") && one.bytes > 5));
        let outside = root.join("outside");
        fs::write(&outside, "").unwrap();
        let link = root.join(format!("target/debug/deps/y-{OLD}"));
        std::os::unix::fs::symlink(&outside, link).unwrap();
        remove_stale_unit(&ledger.stale(&root, NOW)).unwrap();
        assert!(outside.exists());
        let left = |hash| {
            let unit = Unit { folder: OsText::from(&root.join("target/debug")), hash };
            files_of([&unit].into_iter()).remove(&unit).map_or(0, |files| files.concat().len())
        };
        let counts = [OLD, LINKED, THEIRS, NEW].map(|hash| left(hash.to_owned()));
        assert_eq!(counts, [0, 0, 3, 3]);
        assert!(ledger.stale(&root, NOW).is_empty());
    }

    #[test]
    fn a_unit_that_cargo_could_find_fresh_stays() {
        let (_base, root, ledger) = scene(false);
        assert!(ledger.stale(&root, NOW).is_empty());
        // By content, a touched file may be the same.
        let (_base, root, ledger) = scene(true);
        let list = root.join(format!("target/debug/.fingerprint/x-{OLD}/lib-x.json"));
        fs::write(list, r#"{"local":[{"CheckDepInfo":{"dep_info":"x","checksum":true}}]}"#)
            .unwrap();
        assert!(ledger.stale(&root, NOW).is_empty());
        // A folder of cargo's that is a link leads elsewhere.
        let (_base, root, ledger) = scene(true);
        let deps = root.join("target/debug/deps");
        fs::rename(&deps, root.join("aside")).unwrap();
        std::os::unix::fs::symlink(root.join("aside"), deps).unwrap();
        assert!(ledger.stale(&root, NOW).is_empty());
    }

    #[test]
    fn a_unit_made_by_a_part_of_the_build_is_ours_though_the_whole_finds_it_fresh() {
        let unit = |hash: &str| Unit { folder: OsText::from("/t"), hash: hash.to_owned() };
        let part = build(vec![NamedUnit { unit: unit(OLD), fresh: false }]);
        let found = [OLD, THEIRS].map(|hash| NamedUnit { unit: unit(hash), fresh: true });
        let mut whole = build(found.to_vec());
        whole.fresh = true;
        whole.comes_after(&part);
        assert_eq!(whole.named.iter().map(|one| one.fresh).collect::<Vec<_>>(), [false, true]);
        assert_eq!((whole.rebuilt, whole.fresh, whole.dirty.len()), (2, false, 1));
    }

    #[test]
    fn a_unit_that_another_selection_named_lately_stays() {
        let (_base, root, mut ledger) = scene(true);
        let unit = Unit { folder: OsText::from(&root.join("target/debug")), hash: OLD.to_owned() };
        assert!(ledger.note("t", &[NamedUnit { unit, fresh: true }], NOW));
        assert_eq!(hashes(&ledger.stale(&root, NOW)), [LINKED]);
        let later = Timestamp(NOW.0 + 8 * 86_400_000);
        assert_eq!(hashes(&ledger.stale(&root, later)), [OLD, LINKED, NEW]);
        let earlier = Timestamp(NOW.0 - 86_400_000);
        assert_eq!(hashes(&ledger.stale(&root, earlier)), [LINKED], "a clock that was set back");
    }

    #[test]
    fn nothing_is_removed_while_a_cargo_builds() {
        let (_base, root, ledger) = scene(true);
        let lock = File::open(root.join("target/debug/.cargo-lock")).unwrap();
        lock.lock().unwrap();
        let refused = remove_stale_unit(&ledger.stale(&root, NOW)).unwrap_err();
        assert!(matches!(refused, RemoveStaleError::Busy(_)));
        assert_eq!(ledger.stale(&root, NOW).len(), 2);
    }

    #[test]
    fn the_ledger_survives_and_an_odd_one_proves_nothing() {
        let (base, _root, ledger) = scene(true);
        let file = base.path().join("a/ledger.json");
        ledger.save(&file).unwrap();
        assert_eq!(BuildLedger::load(&file), ledger);
        remove_old_ledgers(file.parent().unwrap(), SystemTime::now());
        assert!(file.exists());
        remove_old_ledgers(file.parent().unwrap(), SystemTime::now() + 2 * LEDGER_UNUSED_FOR);
        assert!(!file.exists());
        for odd in ["", "{}", r#"{"version":2,"made":[],"last":{}}"#] {
            fs::write(&file, odd).unwrap();
            assert!(BuildLedger::load(&file).made.is_empty());
        }
    }
}
