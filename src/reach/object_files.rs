//! The files in which a program's objects still are after the link.
//!
//! The objects of the program's own crate are in rustc's folder for incremental builds, the
//! others in the libraries beside the program. The program's symbol table names them all.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use object::elf;
use object::read::ReadCache;
use object::read::archive::ArchiveFile;
use object::read::elf::{FileHeader as _, Sym as _};

use super::error::UnknownLayout;
use super::object_code::{ObjectCode, read_object};
use super::program::ProgramTables;
use super::section::{ENDIAN, Elf};
use super::sysroot::{Sysroot, list, unit_of};

/// A file's part by the file's identity, not by its path: rustc links the objects that stay as they
/// are into the folder of its next build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ContentKey {
    device: u64,
    inode: u64,
    modified: SystemTime,
    offset: u64,
    length: u64,
}

impl ContentKey {
    /// All of the file with this metadata.
    fn of(metadata: &Metadata) -> io::Result<Self> {
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: metadata.modified()?,
            offset: 0,
            length: metadata.len(),
        })
    }
}

/// The bytes of one object: a file, or a part of a library.
#[derive(Clone, Debug)]
struct ObjectSource {
    path: PathBuf,
    key: ContentKey,
}

impl ObjectSource {
    fn of_file(path: &Path) -> Result<Self, UnknownLayout> {
        let key = fs::metadata(path).and_then(|metadata| ContentKey::of(&metadata));
        let key = key.map_err(|error| UnknownLayout::unreadable(path, error))?;
        Ok(Self { path: path.to_owned(), key })
    }

    fn read(&self) -> Result<Vec<u8>, UnknownLayout> {
        let read = || {
            let mut file = File::open(&self.path)?;
            // A library that was replaced since it was listed has other members.
            if file.metadata()?.modified()? != self.key.modified {
                return Err(io::Error::other("it was replaced while it was read"));
            }
            file.seek(SeekFrom::Start(self.key.offset))?;
            let length = usize::try_from(self.key.length).map_err(io::Error::other)?;
            let mut bytes = Vec::new();
            file.take(self.key.length).read_to_end(&mut bytes)?;
            if bytes.len() == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        };
        read().map_err(|error| UnknownLayout::unreadable(&self.path, error))
    }
}

/// What was read of files, and whether anything has needed it in this round.
#[derive(Debug)]
struct Kept<T>(HashMap<ContentKey, (T, bool)>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Clone> Kept<T> {
    fn get(&mut self, key: &ContentKey) -> Option<T> {
        self.0.get_mut(key).map(|(value, used)| {
            *used = true;
            value.clone()
        })
    }

    fn insert(&mut self, key: ContentKey, value: T) {
        self.0.insert(key, (value, true));
    }

    fn end_round(&mut self) {
        self.0.retain(|_, (_, used)| std::mem::take(used));
    }
}

/// One member of a library.
#[derive(Clone, Debug)]
struct LibraryMember {
    name: String,
    source: ObjectSource,
}

/// Objects that were read, for the next program that was linked from them too.
#[derive(Debug, Default)]
pub(super) struct ObjectFiles {
    parsed: Kept<Arc<ObjectCode>>,
    libraries: Kept<Arc<Vec<LibraryMember>>>,
    /// The source name of each object of another compiler.
    foreign: Kept<Option<String>>,
}

/// An object of a program, or one of several that can be it.
struct LinkedObject<'a> {
    /// The name in the program; `None` where the program has none.
    name: Option<&'a str>,
    source: ObjectSource,
    by_rustc: bool,
    /// Whether the program was linked from each object of this name.
    is_certain: bool,
}

/// The files in `folder` whose names end with `end`.
fn list_paths(folder: &Path, end: &str) -> Result<Vec<PathBuf>, UnknownLayout> {
    let names = if folder.is_dir() { list(folder)? } else { Vec::new() };
    let names = names.iter().filter(|name| name.ends_with(end));
    Ok(names.map(|name| folder.join(name)).collect())
}

/// The archives that build scripts have left where cargo tells them to.
fn archives(profile: &Path) -> Result<Vec<PathBuf>, UnknownLayout> {
    let mut found = Vec::new();
    for package in list_paths(&profile.join("build"), "")? {
        for folder in ["out", "out/lib"] {
            found.extend(list_paths(&package.join(folder), ".a")?);
        }
    }
    Ok(found)
}

/// Whether an object of this name, which the program has so many times, is one of those that the C compiler
/// adds to every program. Some linkers name an object where it does not name its source file, and end their
/// list with nothing.
fn is_startup(name: &str, times: usize, is_around_others: bool) -> bool {
    // Programs have such files of their own, too.
    const SOURCES: [&str; 5] = ["abi-note.c", "init.c", "static-reloc.c", "elf-init.c", "start.S"];
    const OTHERS: [&str; 10] = [
        "crti.S",
        "crtn.S",
        "Scrt1.o",
        "crt1.o",
        "crti.o",
        "crtn.o",
        "crtbegin.o",
        "crtbeginS.o",
        "crtend.o",
        "crtendS.o",
    ];
    match name.rsplit('/').next().unwrap_or(name) {
        "" => true,
        // At the beginning and at the end.
        "crtstuff.c" => times <= 2,
        file => OTHERS.contains(&file) || is_around_others && SOURCES.contains(&file),
    }
}

/// Whether rustc gives such names to code units.
fn is_unit(name: &str) -> bool {
    name.contains("-cgu.")
        || name.len() >= 20 && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

impl ObjectFiles {
    /// Forgets what nothing has needed since the last end of a round.
    pub(super) fn end_round(&mut self) {
        self.parsed.end_round();
        self.libraries.end_round();
        self.foreign.end_round();
    }

    /// The objects from which `program`, which has these tables, was linked at `linked`, in that order.
    pub(super) fn of_program(
        &mut self,
        program: &Path,
        linked: SystemTime,
        tables: &ProgramTables,
        sysroot: &Sysroot,
    ) -> Result<Vec<Arc<ObjectCode>>, UnknownLayout> {
        let names = &tables.objects;
        let profile = profile_folder(program);
        let incremental = incremental_units(&profile.join("incremental"))?;
        let libraries = self.libraries(&list_paths(&profile.join("deps"), ".rlib")?)?;
        let archives = self.libraries(&archives(&profile)?)?;
        let mut members: HashMap<&str, Vec<&ObjectSource>> = HashMap::new();
        for member in libraries.iter().flat_map(|library| library.iter()) {
            if let Some(unit) = unit_of(&member.name) {
                members.entry(unit).or_default().push(&member.source);
            }
        }
        // A crate's library has bundled the objects; its own tests are linked from the archive.
        let bundled = self.foreign_members(&libraries)?;
        let archived = self.foreign_members(&archives)?;
        let mut times: HashMap<&str, usize> = HashMap::new();
        names.iter().for_each(|name| *times.entry(name).or_default() += 1);
        let mut objects = Vec::new();
        let mut gone: Vec<&String> = Vec::new();
        // The C compiler's own objects are around all others.
        let first = names.iter().position(|name| is_unit(name)).unwrap_or(names.len());
        let last = names.iter().rposition(|name| is_unit(name)).unwrap_or(names.len());
        for (at, name) in names.iter().enumerate() {
            // One of both may be left from an earlier build.
            let foreign = [&bundled, &archived].map(|from| from.get(&Some(name.clone())));
            let foreign: Vec<_> = foreign.into_iter().flatten().flatten().collect();
            let mut add = |source: &ObjectSource, by_rustc, count| {
                let (source, is_certain) = (source.clone(), times[name.as_str()] == count);
                objects.push(LinkedObject {
                    name: Some(name.as_str()),
                    source,
                    by_rustc,
                    is_certain,
                });
            };
            if let Some(found) = members.get(name.as_str()) {
                found.iter().for_each(|source| add(source, true, found.len()));
            } else if let Some(paths) = incremental.get(name) {
                for path in paths {
                    add(&ObjectSource::of_file(path)?, true, paths.len());
                }
            } else if !foreign.is_empty() {
                foreign.iter().for_each(|source| add(source, false, foreign.len()));
            } else if is_unit(name) {
                gone.extend((!sysroot.has(name)).then_some(name));
            } else if !is_startup(name, times[name.as_str()], at < first || at > last) {
                return Err(UnknownLayout::UnknownObject { object: name.clone() });
            }
        }
        // The one unit that hands allocations on to the allocator is deleted after the link.
        if let [object, _, ..] = gone[..] {
            let others = gone.len() - 1;
            return Err(UnknownLayout::ObjectsGone { object: object.clone(), others });
        }
        let is_newer =
            |object: &&LinkedObject<'_>| may_be_newer(object.source.key.modified, linked);
        if let Some(newer) = objects.iter().find(is_newer) {
            return Err(UnknownLayout::Stale { path: newer.source.path.clone() });
        }
        // Assembler leaves no name in the program, so all that can be part of it is taken.
        let unnamed = [&bundled, &archived].map(|members| members.get(&None));
        let unnamed = unnamed.into_iter().flatten().flatten();
        let unnamed = unnamed.filter(|source| !may_be_newer(source.key.modified, linked)).cloned();
        objects.extend(unnamed.map(|source| LinkedObject {
            name: None,
            source,
            by_rustc: false,
            is_certain: false,
        }));
        let codes = self.read(&objects)?;
        without_doubles(&objects, &codes, tables)
    }

    /// Reads all of `objects`, those that are not known yet on all processors.
    fn read(
        &mut self,
        objects: &[LinkedObject<'_>],
    ) -> Result<Vec<Arc<ObjectCode>>, UnknownLayout> {
        let mut codes = Vec::with_capacity(objects.len());
        codes.extend(objects.iter().map(|object| self.parsed.get(&object.source.key)));
        let known = codes.iter().zip(objects).enumerate();
        let new: Vec<_> = known
            .filter(|(_, (code, _))| code.is_none())
            .map(|(at, (_, object))| (at, object))
            .collect();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = new.len().div_ceil(threads).max(1);
        let parse = |(at, object): &(usize, &LinkedObject<'_>)| {
            let name = object.name.unwrap_or("assembler");
            let code = read_object(name, &object.source.read()?, object.by_rustc)?;
            Ok((*at, object.source.key, Arc::new(code)))
        };
        let read: Vec<Result<Vec<_>, UnknownLayout>> = std::thread::scope(|scope| {
            let running: Vec<_> = new
                .chunks(share)
                .map(|chunk| scope.spawn(move || chunk.iter().map(parse).collect()))
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            running.into_iter().map(join).collect()
        });
        for part in read {
            for (at, key, code) in part? {
                self.parsed.insert(key, Arc::clone(&code));
                codes[at] = Some(code);
            }
        }
        Ok(codes.into_iter().flatten().collect())
    }

    /// The members of each of the libraries at `paths`.
    fn libraries(
        &mut self,
        paths: &[PathBuf],
    ) -> Result<Vec<Arc<Vec<LibraryMember>>>, UnknownLayout> {
        let mut libraries = Vec::new();
        for path in paths {
            let failed = |error: io::Error| UnknownLayout::unreadable(path, error);
            let file = File::open(path).map_err(failed)?;
            let key = file.metadata().and_then(|metadata| ContentKey::of(&metadata));
            let key = key.map_err(failed)?;
            let members = match self.libraries.get(&key) {
                Some(known) => known,
                None => {
                    let read = members(&ReadCache::new(file), path, key);
                    let read = read.map_err(|error| failed(io::Error::other(error)))?;
                    let members = Arc::new(read);
                    self.libraries.insert(key, Arc::clone(&members));
                    members
                }
            };
            libraries.push(members);
        }
        Ok(libraries)
    }

    /// The members that another compiler has made, by the name of their source file. Those of one
    /// library come after each other.
    fn foreign_members(
        &mut self,
        libraries: &[Arc<Vec<LibraryMember>>],
    ) -> Result<HashMap<Option<String>, Vec<ObjectSource>>, UnknownLayout> {
        let mut found: HashMap<Option<String>, Vec<ObjectSource>> = HashMap::new();
        let foreign = |member: &&LibraryMember| {
            !member.name.ends_with(".rcgu.o") && !member.name.ends_with(".rmeta")
        };
        for member in libraries.iter().flat_map(|library| library.iter()).filter(foreign) {
            let source = &member.source;
            let file = match self.foreign.get(&source.key) {
                Some(file) => file,
                None => {
                    // Anything but an object cannot be linked.
                    let Some(file) = source_file(&source.read()?) else { continue };
                    self.foreign.insert(source.key, file.clone());
                    file
                }
            };
            found.entry(file).or_default().push(source.clone());
        }
        Ok(found)
    }
}

/// The objects without those that the program was perhaps linked from in the place of another one.
///
/// Builds with other features leave archives of other objects of the same names. It is not known which
/// of them the program has, so they must be alike.
fn without_doubles(
    objects: &[LinkedObject<'_>],
    codes: &[Arc<ObjectCode>],
    tables: &ProgramTables,
) -> Result<Vec<Arc<ObjectCode>>, UnknownLayout> {
    let mut kept = Vec::with_capacity(codes.len());
    let mut known: HashMap<&str, &ObjectCode> = HashMap::new();
    for (object, code) in objects.iter().zip(codes) {
        if object.name.is_none() && !can_be_part(code, tables) {
            continue;
        }
        let defined = code.definitions.iter().map(|one| &*code.names[one.name as usize]);
        let defined = defined.filter(|_| object.name.is_none());
        let mut is_double = false;
        for name in object.name.into_iter().chain(defined).filter(|_| !object.is_certain) {
            match known.insert(name, code) {
                Some(other) if other != &**code => {
                    return Err(UnknownLayout::SeveralObjects { name: name.to_owned() });
                }
                other => is_double |= other.is_some(),
            }
        }
        if !is_double {
            kept.push(Arc::clone(code));
        }
    }
    Ok(kept)
}

/// Whether an object of assembler can be part of the program: something runs by itself in it, or the
/// program has a symbol of its.
fn can_be_part(code: &ObjectCode, tables: &ProgramTables) -> bool {
    let is_there = |name: u32| tables.defines(&code.names[name as usize]);
    !code.roots.is_empty() || code.definitions.iter().any(|one| is_there(one.name))
}

/// Whether something that was written at `written` can be newer than what was written at `linked`. Where
/// times are of whole seconds, two of the same second do not say which of both came first.
fn may_be_newer(written: SystemTime, linked: SystemTime) -> bool {
    let since = linked.duration_since(SystemTime::UNIX_EPOCH);
    let is_exact = since.is_ok_and(|since| since.subsec_nanos() != 0);
    written > linked || written == linked && !is_exact
}

/// The name of the source file of the object `data`; `None` for anything but an object.
fn source_file(data: &[u8]) -> Option<Option<String>> {
    let header = Elf::parse(data).ok()?;
    let sections = header.sections(ENDIAN, data).ok()?;
    let symbols = sections.symbols(ENDIAN, data, elf::SHT_SYMTAB).ok()?;
    let file = symbols.iter().find(|symbol| symbol.st_type() == elf::STT_FILE);
    let name = file.and_then(|symbol| symbol.name(ENDIAN, symbols.strings()).ok());
    Some(name.map(|name| String::from_utf8_lossy(name).into_owned()))
}

fn members(
    cache: &ReadCache<File>,
    path: &Path,
    library: ContentKey,
) -> object::Result<Vec<LibraryMember>> {
    let mut members = Vec::new();
    let archive = ArchiveFile::parse(cache)?;
    // The members of a thin archive are elsewhere.
    if archive.is_thin() {
        return Ok(members);
    }
    for member in archive.members() {
        let member = member?;
        let (offset, length) = member.file_range();
        members.push(LibraryMember {
            name: String::from_utf8_lossy(member.name()).into_owned(),
            source: ObjectSource {
                path: path.to_owned(),
                key: ContentKey { offset, length, ..library },
            },
        });
    }
    Ok(members)
}

/// The first of the shared `libraries` that was built with `program`.
pub(super) fn built_library<'a>(program: &Path, libraries: &'a [String]) -> Option<&'a String> {
    let profile = profile_folder(program);
    let built = |library: &&String| {
        library.starts_with("libstd-")
            || profile.join(library).exists()
            || profile.join("deps").join(library).exists()
    };
    libraries.iter().find(built)
}

/// The folder of the profile, in which a program lies, or below which.
fn profile_folder(program: &Path) -> PathBuf {
    let folder = program.parent().unwrap_or(program);
    let below = ["deps", "examples"].iter().any(|name| folder.ends_with(name));
    if below { folder.parent().unwrap_or(folder) } else { folder }.to_owned()
}

/// The objects of each crate's newest finished incremental build, by the name of the code unit.
fn incremental_units(folder: &Path) -> Result<HashMap<String, Vec<PathBuf>>, UnknownLayout> {
    let mut units: HashMap<String, Vec<PathBuf>> = HashMap::new();
    if !folder.is_dir() {
        return Ok(units);
    }
    for krate in list(folder)? {
        let krate = folder.join(krate);
        if !krate.is_dir() {
            continue;
        }
        // `s-TIME-RANDOM-HASH`; a build that is not finished ends with `-working`.
        let sessions = list(&krate)?;
        let finished = sessions.iter().filter(|name| {
            name.starts_with("s-") && name.split('-').count() == 4 && !name.ends_with("-working")
        });
        // The time is a number of base 36.
        let time = |name: &&String| {
            name.split('-').nth(1).and_then(|time| u128::from_str_radix(time, 36).ok())
        };
        let Some(session) = finished.max_by_key(time) else { continue };
        let session = krate.join(session);
        for name in list(&session)? {
            if let Some(unit) = name.strip_suffix(".o") {
                units.entry(unit.to_owned()).or_default().push(session.join(&name));
            }
        }
    }
    Ok(units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_tells_its_unit() {
        for (member, unit) in [
            (
                "tiny-971b83af18b862a5.2o251eutwtyalx3t7fx7j13mf.0bui58w.rcgu.o",
                "2o251eutwtyalx3t7fx7j13mf",
            ),
            (
                "getopts-e6d2.getopts.d8d20304923dd620-cgu.0.rcgu.o",
                "getopts.d8d20304923dd620-cgu.0",
            ),
            ("log-0a1b.log.b60cd10c67ed074-cgu.12.0bui58w.rcgu.o", "log.b60cd10c67ed074-cgu.12"),
        ] {
            assert_eq!(unit_of(member), Some(unit));
            assert!(is_unit(unit), "{unit}");
        }
        assert_eq!(unit_of("lib.rmeta"), None);
        assert_eq!(unit_of("cc-pcre2.o"), None);
        assert!(!is_unit("crtstuff.c") && !is_unit("pcre2_compile.c"));
    }

    #[test]
    fn the_profile_is_above_or_around_a_program() {
        for path in ["t/debug/deps/a-1", "t/debug/examples/b-2", "t/debug/rg"] {
            assert_eq!(profile_folder(Path::new(path)), Path::new("t/debug"), "{path}");
        }
    }

    #[test]
    fn the_newest_finished_build_of_each_crate_counts() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("incremental");
        let units = || {
            let units = incremental_units(&folder).unwrap();
            let mut found: Vec<_> = units
                .into_iter()
                .flat_map(|(unit, paths)| paths.into_iter().map(move |path| (unit.clone(), path)))
                .map(|(unit, path)| {
                    format!("{unit} {}", path.strip_prefix(&folder).unwrap().display())
                })
                .collect();
            found.sort_unstable();
            found
        };
        assert_eq!(units(), Vec::<String>::new());
        for file in [
            "a-1/s-hz-0a-one/u.o",
            "a-1/s-i0-0b-two/u.o",
            "a-1/s-i0-0b-two/dep-graph.bin",
            "a-1/s-zz-0c-working/u.o",
            "a-1/s-zz-0c.lock",
            "b-2/s-1-0a-x/v.o",
            "c-3/s-1-0a-working/w.o",
        ] {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        assert_eq!(units(), ["u a-1/s-i0-0b-two/u.o", "v b-2/s-1-0a-x/v.o"]);
    }
}
