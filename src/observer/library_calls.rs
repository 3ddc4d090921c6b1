//! Records what the dynamic loader looks for when a program starts, and what it loads.
//!
//! Its attempts to open libraries in the folders of a search path are not notified. In this place the
//! folders and names are recorded before it begins: at its look for [`PRELOADED`], which it makes once for
//! each program, after it has read the environment. Four kinds of its calls are notified, and tell
//! whether it does what was foreseen:
//!
//! ```text
//! the look for the list                              a program starts
//! an open of its cache                               a name was in none of the folders
//! an open of a name that lies not on a stack         a path of the cache, or one that has a slash
//! a read of a library                                each library that was opened, from wherever
//! ```
//!
//! **`dlopen`** runs the same code. It keeps a path with a slash on the heap, so that this attempt is
//! notified. A name without one leads to a library, which is read, or to the cache: the loader unmaps
//! it after each start and each `dlopen`, and opens it again (`_dl_unload_cache` in elf/dl-cache.c). A
//! start needs the cache once, for the C library. So the second open of the cache by a process, and
//! each library that was not foreseen, say that there was a search of which nothing is known:
//! [`Problem::UnknownCode`]. The C library itself loads name services, character sets and
//! `libgcc_s.so.1` by `dlopen`.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use libc::{c_int, pid_t};
use rustix::io::Errno;

use super::library_search::{
    CACHE, Libraries, Library, LoaderCache, PRELOADED, SearchPath, needed,
};
use super::resolve::{ResolvedPath, as_path};
use super::syscall::SyscallRecorder;
use crate::observer::{Problem, Uses};
use crate::workspace::{FileKind, PathStamp};

/// The longest environment that is read.
const MAX_ENVIRONMENT: usize = 4 << 20;
/// How many starts are remembered before all are forgotten.
const MAX_STARTS: usize = 10_000;

/// What decides the search for libraries at a program's start, besides the libraries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Start {
    program: Vec<u8>,
    path: SearchPath,
    /// The current folder, if it matters.
    folder: Vec<u8>,
}

/// A start that was seen before.
#[derive(Debug)]
struct KnownStart {
    program: PathStamp,
    libraries: Arc<Libraries>,
}

/// A process whose loader is at work.
#[derive(Debug)]
struct Loading {
    libraries: Arc<Libraries>,
    /// It has opened the cache.
    has_cache: bool,
    /// The library of the cache that it has opened and not read.
    opened: Option<Vec<u8>>,
}

/// What is known about the libraries of an observation's programs.
#[derive(Debug, Default)]
pub(super) struct LibraryLoads {
    cache: LoaderCache,
    starts: HashMap<Start, KnownStart>,
    loading: HashMap<pid_t, Loading>,
}

impl LibraryLoads {
    /// Forgets the starts, because names lead elsewhere from now on.
    pub(super) fn forget(&mut self) {
        self.starts.clear();
    }
}

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
                self.problem(Problem::UnknownCode);
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
            || !self.loads.cache.refresh()
        {
            return Ok(None);
        }
        let folder = if path.is_relative() {
            match self.base(thread, libc::AT_FDCWD) {
                Some(folder) => folder,
                None => return Ok(None),
            }
        } else {
            Vec::new()
        };
        let start = Start { program, path, folder };
        if let Some(known) = self.loads.starts.get(&start)
            && known.program == stamp
            && known.libraries.in_folders.iter().all(Library::is_unchanged)
        {
            return Ok(Some(Arc::clone(&known.libraries)));
        }
        let Some(libraries) = self.record_search(thread, &start).map(Arc::new) else {
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

    /// Records a whole search. More is recorded than the loader looks at: it stops at the first library of
    /// a name.
    fn record_search(&mut self, thread: pid_t, start: &Start) -> Option<Libraries> {
        let mut folders = Vec::new();
        for folder in start.path.folders() {
            let name = self.absolute(thread, libc::AT_FDCWD, folder)?;
            let target = self.walk(thread, &name, true)?;
            self.log.consult(&target, Uses::PROBED);
            if target.stamp.kind() == Some(FileKind::Folder) {
                for variant in self.loader.clone()?.variants {
                    let within =
                        self.record_in(thread, folder, variant.as_bytes(), Uses::PROBED)?;
                    if within.stamp != PathStamp::Absent || within.orphan {
                        return None;
                    }
                }
                folders.push(folder);
            } else if target.stamp.kind().is_none() && target.stamp != PathStamp::Absent {
                return None;
            }
        }
        let mut libraries = Libraries::default();
        let mut names = needed(&start.program)?;
        let (mut searched, own) = (0, names.len());
        let mut needs_cache = false;
        while let Some(name) = names.get(searched).cloned() {
            searched += 1;
            let mut files = Vec::new();
            for folder in &folders {
                let target = self.record_in(thread, folder, &name, Uses::READ)?;
                match target.stamp.kind() {
                    Some(FileKind::File) if !target.orphan => {
                        files.push(target.path.clone());
                        let library = Library { path: target.path, stamp: target.stamp };
                        libraries.in_folders.push(library);
                    }
                    None if target.stamp == PathStamp::Absent => {}
                    _ => return None,
                }
            }
            if files.is_empty() && !self.is_loaders_name(&name) {
                needs_cache |= searched <= own;
                for (path, usable) in self.loads.cache.files(&name)?.to_vec() {
                    let located = self.absolute(thread, libc::AT_FDCWD, &path)?;
                    let target = self.walk(thread, &located, true)?;
                    let is_file = target.stamp.kind() == Some(FileKind::File) && !target.orphan;
                    if is_file {
                        files.push(target.path.clone());
                    } else if usable {
                        return None;
                    }
                    let library = Library { path: target.path, stamp: target.stamp };
                    libraries.in_cache.insert(path, library);
                }
            }
            for file in files {
                let loader = self.loader.clone()?;
                if loader.is_like(&file, PathStamp::of(as_path(&file))) {
                    return None;
                }
                for name in needed(&file)? {
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
            }
        }
        // A program that starts without the cache could open it later for the first time.
        needs_cache.then_some(libraries)
    }

    /// Whether this is the name of the loader itself, which is loaded already.
    fn is_loaders_name(&self, name: &[u8]) -> bool {
        name == b"ld-linux-x86-64.so.2"
    }

    /// Records a look for a name in a folder of a search path. `None` if it leads nowhere.
    fn record_in(
        &mut self,
        thread: pid_t,
        folder: &[u8],
        name: &[u8],
        uses: Uses,
    ) -> Option<ResolvedPath> {
        let text = [folder, b"/", name].concat();
        let located = self.absolute(thread, libc::AT_FDCWD, &text)?;
        let target = self.walk(thread, &located, true)?;
        self.log.consult(&target, uses);
        Some(target)
    }

    /// Whether the loader was to open a library by this name, which is of its cache.
    pub(super) fn is_foreseen(&self, thread: pid_t, name: &[u8]) -> bool {
        let loading = self.loads.loading.get(&thread);
        name == CACHE
            || loading.is_some_and(|loading| loading.libraries.in_cache.contains_key(name))
    }

    /// The loader opens `name`, which is not on a stack. `target` is where that leads, if it was not
    /// recorded before.
    pub(super) fn opens_library(
        &mut self,
        thread: pid_t,
        name: &[u8],
        target: Option<&ResolvedPath>,
    ) {
        let loading = self.loads.loading.get_mut(&thread);
        let is_known = if name == CACHE {
            loading.is_some_and(|loading| !std::mem::replace(&mut loading.has_cache, true))
        } else if let Some(loading) = loading
            && let Some(library) = loading.libraries.in_cache.get(name)
        {
            loading.opened = Some(library.path.clone());
            library.stamp.kind() == Some(FileKind::File)
                && target.is_none_or(|target| {
                    target.path == library.path && target.stamp == library.stamp
                })
        } else {
            // It is recorded that there is none.
            target.is_some_and(|target| target.stamp == PathStamp::Absent)
        };
        if !is_known {
            self.problem(Problem::UnknownCode);
        }
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
        let is_known = self.loads.loading.get_mut(&thread).is_some_and(|loading| {
            let is_file = |library: &&Library| library.path == file;
            let mut in_folders = loading.libraries.in_folders.iter();
            loading.opened.take().is_some_and(|path| path == file)
                || in_folders.find(is_file).is_some_and(Library::is_unchanged)
        });
        if !is_known {
            self.problem(Problem::UnknownCode);
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
