//! Where the dynamic loader searches for the libraries of a program, by what the program, its libraries
//! and its environment say.
//!
//! For each name that the program or one of its libraries needs, the loader tries each folder of
//! `LD_LIBRARY_PATH`, and below it folders for better processors. Then it looks into its cache
//! (`/etc/ld.so.cache`), and last into its own folders (`_dl_map_object` in elf/dl-load.c). A search that
//! is told by more than that is none that this page can tell: `None`.

use std::collections::HashMap;
use std::fs::File;

use super::executables::{needed_libraries, number};
use super::resolve::as_path;
use crate::workspace::{FileKind, PathStamp};

/// The loader's cache.
pub(in crate::observer) const CACHE: &[u8] = b"/etc/ld.so.cache";
/// A list of libraries that are loaded into every program.
pub(in crate::observer) const PRELOADED: &[u8] = b"/etc/ld.so.preload";
const MAX_CACHE: u64 = 64 << 20;

/// What a program's environment says about the search for its libraries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::observer) struct SearchPath(Vec<u8>);

impl SearchPath {
    /// Reads an environment as `/proc` shows it.
    pub(in crate::observer) fn of(environment: &[u8]) -> Option<Self> {
        let mut path = None;
        for variable in environment.split(|byte| *byte == 0) {
            if let Some(value) = variable.strip_prefix(b"LD_LIBRARY_PATH=") {
                // The loader takes the last one, `getenv` the first.
                if path.replace(value).is_some() {
                    return None;
                }
            } else if variable.starts_with(b"LD_BIND_NOW=") {
                // It decides when functions are looked up.
            } else if variable.starts_with(b"LD_") || variable.starts_with(b"GLIBC_TUNABLES=") {
                return None;
            }
        }
        let path = path.unwrap_or_default();
        (!path.contains(&b'$')).then(|| Self(path.to_vec()))
    }

    /// The folders, as they are spelled. An empty one is the current folder.
    pub(in crate::observer) fn folders(&self) -> impl Iterator<Item = &[u8]> {
        let parts = self.0.split(|byte| matches!(byte, b':' | b';'));
        parts
            .filter(|_| !self.0.is_empty())
            .map(|folder| if folder.is_empty() { b"." } else { folder })
    }

    /// Whether a folder depends on the current one.
    pub(in crate::observer) fn is_relative(&self) -> bool {
        self.folders().any(|folder| !folder.starts_with(b"/"))
    }
}

/// A library at the place where the loader finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::observer) struct Library {
    /// Without symlinks.
    pub(in crate::observer) path: Vec<u8>,
    pub(in crate::observer) stamp: PathStamp,
}

impl Library {
    pub(in crate::observer) fn is_unchanged(&self) -> bool {
        PathStamp::of(as_path(&self.path)) == self.stamp
    }
}

/// What the loader may load when a program starts.
#[derive(Debug, Default)]
pub(in crate::observer) struct Libraries {
    /// In the folders of `LD_LIBRARY_PATH`.
    pub(in crate::observer) in_folders: Vec<Library>,
    /// Named by the loader's cache, by the names there.
    pub(in crate::observer) in_cache: HashMap<Vec<u8>, Library>,
}

/// The names of the libraries that a file needs, all of which the loader searches for.
pub(in crate::observer) fn needed(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let needed = needed_libraries(&File::open(as_path(path)).ok()?)?;
    let is_searched = |name: &Vec<u8>| !name.iter().any(|byte| matches!(byte, b'/' | b'$'));
    needed.iter().all(|name| !name.is_empty() && is_searched(name)).then_some(needed)
}

/// The content of the loader's cache.
#[derive(Debug, Default)]
pub(in crate::observer) struct LoaderCache {
    stamp: Option<PathStamp>,
    /// The files for each name, each with whether every processor can use it.
    files: HashMap<Vec<u8>, Vec<(Vec<u8>, bool)>>,
}

impl LoaderCache {
    /// Reads the cache again if it is another. Whether it can be used.
    pub(in crate::observer) fn refresh(&mut self) -> bool {
        let stamp = PathStamp::of(as_path(CACHE));
        if self.stamp.as_ref() != Some(&stamp) {
            self.stamp = None;
            let size =
                std::fs::metadata(as_path(CACHE)).map_or(u64::MAX, |metadata| metadata.len());
            let content = (stamp.kind() == Some(FileKind::File) && size <= MAX_CACHE)
                .then(|| std::fs::read(as_path(CACHE)).ok())
                .flatten();
            match content.and_then(|content| files(&content)) {
                Some(files) if PathStamp::of(as_path(CACHE)) == stamp => {
                    *self = Self { stamp: Some(stamp), files };
                }
                _ => return false,
            }
        }
        true
    }

    /// The files that the loader may take for this name. `None` if it may find none of them usable, and
    /// searches its own folders then.
    pub(in crate::observer) fn files(&self, name: &[u8]) -> Option<&[(Vec<u8>, bool)]> {
        let files = self.files.get(name)?;
        files.iter().any(|(_, usable)| *usable).then_some(&files[..])
    }
}

/// Reads a cache of the format that releases since 2.32 write (sysdeps/generic/dl-cache.h).
fn files(content: &[u8]) -> Option<HashMap<Vec<u8>, Vec<(Vec<u8>, bool)>>> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    const HEADER: usize = 48;
    const ENTRY: usize = 24;
    /// An ELF library for this architecture and this C library.
    const NATIVE: u64 = 0x0303;
    if !content.starts_with(MAGIC) || content.len() <= HEADER {
        return None;
    }
    // Little-endian, or it is not said.
    if content[28] != 0 && content[28] & 3 != 2 {
        return None;
    }
    let count = usize::try_from(number(content, 20, 4)).ok()?;
    let entries = content.get(HEADER..HEADER.checked_add(count.checked_mul(ENTRY)?)?)?;
    let text = |at: u64| {
        let text = content.get(usize::try_from(at).ok()?..)?;
        Some(text[..text.iter().position(|byte| *byte == 0)?].to_vec())
    };
    let mut files: HashMap<_, Vec<_>> = HashMap::new();
    for entry in entries.chunks_exact(ENTRY) {
        let (name, path) = (text(number(entry, 4, 4))?, text(number(entry, 8, 4))?);
        if number(entry, 0, 4) == NATIVE {
            // Without demands on the kernel or on the processor.
            let usable = number(entry, 12, 4) == 0 && number(entry, 16, 8) == 0;
            files.entry(name).or_default().push((path, usable));
        }
    }
    Some(files)
}
