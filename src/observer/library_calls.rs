//! Records what the dynamic loader looks for when a program starts, and what it loads.
//!
//! The filter lets the loader's attempts to open a library pass where the name lies on the first
//! thread's stack. The loader composes a name there for each folder of a search path (`open_path` in
//! elf/dl-load.c). The observer records all these names before the search begins. Four kinds of the
//! loader's calls are notified, and tell whether it does what was foreseen:
//!
//! ```text
//! a look for [`PRELOADED`]      a program starts: its environment and its needs are known now
//! an open of [`LOADER_CACHE`]   a name was in no folder of the search path
//! another open                  of a path of the cache, or of one that was given with a slash
//! a read                        of each library that was opened, by whatever name
//! ```
//!
//! **`dlopen`** runs the same code.
//!
//! - The loader keeps a path with a slash on the heap. So an attempt to open it is notified. What the library
//!   needs besides the C library, which every process has that can open one, is searched for.
//! - A name without a slash leads to a library, which is read, or to the cache. The loader unmaps the cache
//!   after each start and each `dlopen`, and opens it again when it is needed (`_dl_unload_cache` in
//!   elf/dl-cache.c). A start opens the cache once, for the C library. So a second open of the cache
//!   by a process tells of another search.
//! - The C library calls `dlopen` for name services, character sets and `libgcc_s.so.1`. It uses names of
//!   either kind.
//!
//! After another search, or after a library that was not foreseen, the observation says
//! [`Problem::UnknownSearch`]. The same holds for a start whose search cannot be foreseen.
//!
//! **The cache counts by its answers** ([`Uses::ASKED`]) where only foreseen searches have opened it: all names
//! are known that they can ask for.
//!
//! **Known limits.** A name that begins in memory below the first stack and ends in it is notified, and one
//! that the kernel maps there, once all space below is used up, is not.
//! A program that has more rights than who starts it ignores `LD_LIBRARY_PATH`, and may search elsewhere
//! for a library that is in one of those folders only. The cache stays mapped while a program's start runs
//! code of its libraries that chooses among versions of a function (`STT_GNU_IFUNC`), or its own `malloc`. A
//! failed `dlopen` there would be missed, and what the cache says later of that name.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use libc::{c_int, pid_t};
use rustix::io::Errno;

use super::library_search::{
    KnownStart, Libraries, Library, Loading, Needs, PRELOADED, SearchPath, Start, needs,
};
use super::resolve::{ResolvedPath, as_path};
use super::syscall::{Located, LookupKind, SyscallRecorder};
use crate::observer::loader_cache::{LOADER_CACHE, LoaderCache};
use crate::observer::{Problem, Uses};
use crate::workspace::{FileKind, PathStamp};

/// The loader's own name, which libraries need too. It is loaded already.
const LOADER_NAME: &[u8] = b"ld-linux-x86-64.so.2";
/// The library that has `dlopen`.
const C_LIBRARY: &[u8] = b"libc.so.6";
/// How many starts are remembered before all are forgotten.
const MAX_STARTS: usize = 10_000;
/// So many looks for one start take too long for one call.
const MAX_LOOKS: usize = 1_000;
/// The longest environment that is read.
const MAX_ENVIRONMENT: usize = 4 << 20;
impl SyscallRecorder {
    /// Called before a call is looked at. Whoever makes another call than the loader has started.
    pub(super) fn end_loading(&mut self, thread: pid_t) {
        let Some(loader) = &self.loader else { return };
        let address = self.instruction;
        if !loader.attempts_at(address) && !loader.reads_at(address) && !loader.starts_at(address) {
            self.loads.loading.remove(&thread);
        }
    }

    /// Whether this is an attempt of the loader to open a library, or its cache.
    pub(super) fn is_attempt(&self) -> bool {
        self.loader.as_ref().is_some_and(|loader| loader.attempts_at(self.instruction))
    }

    /// Whether a program starts that looks for this file.
    pub(super) fn is_start(&self, name: &[u8]) -> bool {
        name == PRELOADED
            && self.loader.as_ref().is_some_and(|loader| loader.starts_at(self.instruction))
    }

    /// The loader is about to search for the libraries of a program that starts.
    pub(super) fn start_loading(&mut self, thread: pid_t) -> io::Result<()> {
        match self.foresee(thread)? {
            Some(libraries) => {
                let loading = Loading { libraries, has_cache: false, opened: None };
                self.loads.loading.insert(thread, loading);
            }
            None => {
                self.loads.loading.remove(&thread);
                self.problem(Problem::UnknownSearch);
            }
        }
        Ok(())
    }

    /// What the loader may load, all of which is recorded, with all attempts that may fail. `None` if that
    /// cannot be told.
    fn foresee(&mut self, thread: pid_t) -> io::Result<Option<Arc<Libraries>>> {
        let link = format!("/proc/{thread}/exe");
        let program = rustix::fs::readlink(&link, Vec::with_capacity(256))?.into_bytes();
        let stamp = PathStamp::of(as_path(&program));
        let Some(path) = SearchPath::of(&environment(thread)?) else { return Ok(None) };
        let is_loader = self.loader.as_ref().is_none_or(|loader| loader.is_at(&program));
        if is_loader
            || stamp.kind() != Some(FileKind::File)
            || PathStamp::of(as_path(PRELOADED)) != PathStamp::Absent
        {
            return Ok(None);
        }
        self.loads.cache = LoaderCache::current();
        let Some((_, cache)) = self.loads.cache.clone() else { return Ok(None) };
        let start = Start { program, path };
        if let Some(known) = self.loads.starts.get(&start)
            && known.program == stamp
            && known.libraries.in_folders.iter().all(Library::is_unchanged)
        {
            return Ok(Some(Arc::clone(&known.libraries)));
        }
        let Some(libraries) = self.record_search(thread, &start, &cache).map(Arc::new) else {
            return Ok(None);
        };
        if self.is_memorable() {
            if self.loads.starts.len() >= MAX_STARTS {
                self.loads.starts.clear();
            }
            let known = KnownStart { program: stamp, libraries: Arc::clone(&libraries) };
            self.loads.starts.insert(start, known);
        }
        Ok(Some(libraries))
    }

    /// Records a whole search: each name in each folder, in whatever order the loader tries them. More is
    /// recorded than it looks at, since it stops at the first library of a name.
    fn record_search(
        &mut self,
        thread: pid_t,
        start: &Start,
        cache: &LoaderCache,
    ) -> Option<Libraries> {
        let mut libraries = Libraries::default();
        let mut folders = Vec::new();
        for folder in start.path.folders() {
            folders.push(self.absolute(thread, libc::AT_FDCWD, folder)?.name);
        }
        let shared = folders.len();
        // Each file's names and the folders that it names itself; those of the program come first.
        let mut requests: Vec<Needs> = Vec::new();
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut found: HashSet<(Vec<u8>, Vec<u8>)> = HashSet::new();
        // Where folders are: files that name each other's by `$ORIGIN` spell one in ever longer ways.
        let mut places: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
        let mut cached: HashSet<Vec<u8>> = HashSet::new();
        let mut are_new: Vec<bool> = Vec::new();
        // Tried so far: these folders with these names.
        let (mut tried_folders, mut tried_names) = (0, 0);
        let mut looks = 0;
        let mut files = vec![(start.program.clone(), start.program.clone())];
        // A file says other folders by `$ORIGIN` in each folder in which it is found.
        let mut inspected: HashSet<(Vec<u8>, Vec<u8>)> = HashSet::new();
        while let Some((file, place)) = files.pop() {
            let folder = file.rsplitn(2, |byte| *byte == b'/').last().unwrap_or_default();
            let origin = places.get(folder).map_or(folder, |known| known.as_slice());
            if !inspected.insert((place, origin.to_vec())) {
                continue;
            }
            let needs = needs(&file)?;
            let add = |to: &mut Vec<Vec<u8>>, more: &[Vec<u8>]| {
                for text in more {
                    if !to.contains(text) {
                        to.push(text.clone());
                    }
                }
            };
            add(&mut folders, &needs.folders);
            add(&mut names, &needs.names);
            requests.push(needs);
            for (index, folder) in folders.iter().enumerate() {
                if index == are_new.len() {
                    let place = self.record_folder_of_libraries(thread, folder, &places)?;
                    are_new.push(!places.values().any(|known| Some(known) == place.as_ref()));
                    places.extend(place.map(|place| (folder.clone(), place)));
                }
                let (true, Some(place)) = (are_new[index], places.get(folder)) else { continue };
                let first = if index < tried_folders { tried_names } else { 0 };
                looks += names.len() - first;
                if looks > MAX_LOOKS {
                    return None;
                }
                for name in &names[first..] {
                    if let Some(library) = self.record_library(thread, folder, name)? {
                        files.push(([folder, &b"/"[..], name].concat(), library.path.clone()));
                        found.insert((place.clone(), name.clone()));
                        libraries.in_folders.push(library);
                    }
                }
            }
            for name in names[tried_names..].iter().filter(|name| *name != LOADER_NAME) {
                libraries.names.push(name.clone());
                for file in cache.files(name)?.iter().filter(|file| file.is_native()) {
                    if !file.path.starts_with(b"/") {
                        return None;
                    }
                    let target = self.lead(thread, &file.path)?;
                    if target.stamp.kind() == Some(FileKind::File) && !target.orphan {
                        files.push((file.path.clone(), target.path.clone()));
                        if file.is_for_all() {
                            cached.insert(name.clone());
                        }
                    }
                    let library = Library { path: target.path, stamp: target.stamp };
                    libraries.in_cache.insert(file.path.clone(), library);
                }
            }
            (tried_folders, tried_names) = (folders.len(), names.len());
        }
        let in_folders = |needs: &Needs, name: &Vec<u8>| {
            let mut tried = folders[..shared].iter().chain(&needs.folders);
            tried.any(|folder| {
                let place = places.get(folder);
                place.is_some_and(|place| found.contains(&(place.clone(), name.clone())))
            })
        };
        // What is in no folder must be in the cache: the loader's own folders are not recorded.
        let is_missing = |needs: &Needs, name: &Vec<u8>| {
            name != LOADER_NAME && !in_folders(needs, name) && !cached.contains(name)
        };
        let is_whole =
            !requests.iter().any(|needs| needs.names.iter().any(|name| is_missing(needs, name)));
        // A program that starts without the cache could open it later for the first time.
        let program = requests.first()?;
        let needs_cache = |name: &Vec<u8>| name != LOADER_NAME && !in_folders(program, name);
        (is_whole && program.names.iter().any(needs_cache)).then_some(libraries)
    }

    /// Records a folder of a search path, and gives its place if there may be libraries in it. Of the
    /// `known` places more is recorded already. The outer `None` if that cannot be told.
    fn record_folder_of_libraries(
        &mut self,
        thread: pid_t,
        folder: &[u8],
        known: &HashMap<Vec<u8>, Vec<u8>>,
    ) -> Option<Option<Vec<u8>>> {
        let target = self.record_in(thread, folder, b".", Uses::PROBED)?;
        match target.stamp.kind() {
            Some(FileKind::Folder) if known.values().any(|place| *place == target.path) => {
                Some(Some(target.path))
            }
            Some(FileKind::Folder) => {
                for variant in self.loader.clone()?.variants {
                    let within =
                        self.record_in(thread, folder, variant.as_bytes(), Uses::PROBED)?;
                    if within.stamp != PathStamp::Absent {
                        return None;
                    }
                }
                Some(Some(target.path))
            }
            // A name below a file leads to the file.
            Some(_) => {
                self.log.consult(&target, Uses::READ);
                Some(None)
            }
            None => (target.stamp == PathStamp::Absent).then_some(None),
        }
    }

    /// Records a look for a library in a folder, which may be there. The outer `None` if that cannot be told.
    fn record_library(
        &mut self,
        thread: pid_t,
        folder: &[u8],
        name: &[u8],
    ) -> Option<Option<Library>> {
        let target = self.record_in(thread, folder, name, Uses::READ)?;
        match target.stamp.kind() {
            Some(FileKind::File) if !target.orphan => {
                Some(Some(Library { path: target.path, stamp: target.stamp }))
            }
            None if target.stamp == PathStamp::Absent => Some(None),
            _ => None,
        }
    }

    /// Records a look for a name in a folder of a search path. `None` as in [`Self::lead`].
    fn record_in(
        &mut self,
        thread: pid_t,
        folder: &[u8],
        name: &[u8],
        uses: Uses,
    ) -> Option<ResolvedPath> {
        let target = self.lead(thread, &[folder, b"/", name].concat())?;
        self.log.consult(&target, uses);
        Some(target)
    }

    /// Where a path leads. `None` if it leads nowhere, or elsewhere for each process.
    fn lead(&mut self, thread: pid_t, path: &[u8]) -> Option<ResolvedPath> {
        let located = self.absolute(thread, libc::AT_FDCWD, path)?;
        let target = self.walk(thread, &located, true)?;
        (!self.resolver.may_lead_elsewhere()).then_some(target)
    }

    /// Whether the loader was to open a library by this name, which is of its cache.
    pub(super) fn is_foreseen(&self, thread: pid_t, name: &[u8]) -> bool {
        let loading = self.loads.loading.get(&thread);
        loading.is_some_and(|loading| loading.libraries.in_cache.contains_key(name))
    }

    /// The loader opens its cache. Whether it is recorded what it may ask.
    pub(super) fn opens_cache(&mut self, thread: pid_t, located: Located) -> bool {
        let loading = self.loads.loading.get_mut(&thread);
        // A start opens it once.
        let Some(loading) = loading.filter(|loading| !loading.has_cache) else {
            self.problem(Problem::UnknownSearch);
            return false;
        };
        loading.has_cache = true;
        let libraries = Arc::clone(&loading.libraries);
        if !self.is_recorded(&located, LookupKind::ASKED) {
            let Some(target) = self.walk(thread, &located, true) else { return false };
            if target.path != LOADER_CACHE.as_bytes() {
                return false;
            }
            let then = self.loads.cache.as_ref().map(|(stamp, _)| *stamp);
            if then != Some(target.stamp) {
                self.problem(Problem::UnknownSearch);
            }
            self.log.consult(&target, Uses::ASKED);
            self.set_recorded(located, LookupKind::ASKED);
        }
        self.log.ask_for_libraries(&libraries.names);
        true
    }

    /// The loader opens a library by `name`, which is not on a stack. `target` is where that leads, if it was not
    /// recorded before.
    pub(super) fn opens_library(
        &mut self,
        thread: pid_t,
        name: &[u8],
        target: Option<&ResolvedPath>,
    ) {
        let loading = self.loads.loading.get_mut(&thread);
        let is_known = if let Some(loading) = loading
            && let Some(library) = loading.libraries.in_cache.get(name)
        {
            loading.opened = Some(library.clone());
            library.stamp.kind() == Some(FileKind::File)
                && target.is_none_or(|target| {
                    target.path == library.path && target.stamp == library.stamp
                })
        } else {
            target.is_some_and(|target| {
                // It is recorded that there is none.
                target.stamp == PathStamp::Absent || self.needs_no_search(thread, name, target)
            })
        };
        if !is_known {
            self.problem(Problem::UnknownSearch);
        }
    }

    /// Whether a library that is opened by its path needs no other than those which a process has that can
    /// open one.
    fn needs_no_search(&mut self, thread: pid_t, name: &[u8], target: &ResolvedPath) -> bool {
        let is_loaded = |name: &Vec<u8>| [LOADER_NAME, C_LIBRARY].contains(&&name[..]);
        let is_alone = || needs(name).is_some_and(|needs| needs.names.iter().all(is_loaded));
        if target.stamp.kind() != Some(FileKind::File) || target.orphan || !is_alone() {
            return false;
        }
        let loading = self.loads.loading.entry(thread).or_default();
        loading.opened = Some(Library { path: target.path.clone(), stamp: target.stamp });
        // A process that opens the cache now searches for something else.
        loading.has_cache = true;
        true
    }

    /// The loader reads a library that it has opened.
    pub(super) fn reads_library(&mut self, thread: pid_t, fd: c_int) -> io::Result<()> {
        let link = format!("/proc/{thread}/fd/{fd}");
        let file = match rustix::fs::readlink(&link, Vec::with_capacity(256)) {
            Ok(file) => file.into_bytes(),
            // The call fails: somebody else has closed it.
            Err(Errno::NOENT) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let loading = self.loads.loading.get_mut(&thread);
        let library = loading.and_then(|loading| {
            let is_file = |library: &&Library| library.path == file;
            let opened = loading.opened.take().filter(|library| is_file(&library));
            let in_folder = || loading.libraries.in_folders.iter().find(is_file);
            opened.or_else(|| in_folder().filter(|library| library.is_unchanged()).cloned())
        });
        // Here and not at the start: a large one takes as long as a call may take.
        let is_like = |library: Library| {
            self.loader.as_ref().is_none_or(|loader| loader.is_like(&library.path, library.stamp))
        };
        let is_known = library.is_some_and(|library| !is_like(library));
        if !is_known {
            self.problem(Problem::UnknownSearch);
        }
        Ok(())
    }
}

/// The environment with which the process started its program.
fn environment(thread: pid_t) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let file = std::fs::File::open(format!("/proc/{thread}/environ"))?;
    let mut environment = Vec::with_capacity(8192);
    file.take(MAX_ENVIRONMENT as u64 + 1).read_to_end(&mut environment)?;
    if environment.len() > MAX_ENVIRONMENT {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    Ok(environment)
}
