//! Where the dynamic loader searches for the libraries of a program, by what the program, its libraries
//! and its environment say.
//!
//! For each name that the program or one of its libraries needs, the loader tries each folder of
//! `LD_LIBRARY_PATH`, and below it folders for better processors. Then it tries the folders that the file
//! itself names (`DT_RUNPATH`), its cache (`/etc/ld.so.cache`), and last its own folders
//! (`_dl_map_object` in elf/dl-load.c). More than that decides some searches: they give `None` here.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use libc::pid_t;

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
        let path = Self(path.unwrap_or_default().to_vec());
        // Relative ones are those of another folder once a process changes its own.
        let is_known = path.folders().all(|folder| folder.starts_with(b"/"));
        (is_known && !path.0.contains(&b'$')).then_some(path)
    }

    /// The folders, as they are spelled. An empty one would be the current folder.
    pub(in crate::observer) fn folders(&self) -> impl Iterator<Item = &[u8]> {
        let parts = self.0.split(|byte| matches!(byte, b':' | b';'));
        parts.filter(|_| !self.0.is_empty())
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

/// What decides the search for libraries at a program's start, besides the libraries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::observer) struct Start {
    pub(in crate::observer) program: Vec<u8>,
    pub(in crate::observer) path: SearchPath,
}

/// A start that was seen before.
#[derive(Debug)]
pub(in crate::observer) struct KnownStart {
    pub(in crate::observer) program: PathStamp,
    pub(in crate::observer) libraries: Arc<Libraries>,
}

/// A process whose loader is at work.
#[derive(Debug)]
pub(in crate::observer) struct Loading {
    pub(in crate::observer) libraries: Arc<Libraries>,
    /// It has opened the cache.
    pub(in crate::observer) has_cache: bool,
    /// The library of the cache that it has opened and not read.
    pub(in crate::observer) opened: Option<Vec<u8>>,
}

/// What is known about the libraries of an observation's programs.
#[derive(Debug, Default)]
pub(in crate::observer) struct LibraryLoads {
    pub(in crate::observer) cache: LoaderCache,
    pub(in crate::observer) starts: HashMap<Start, KnownStart>,
    pub(in crate::observer) loading: HashMap<pid_t, Loading>,
}

impl LibraryLoads {
    /// Forgets the starts, because names lead elsewhere from now on.
    pub(in crate::observer) fn forget(&mut self) {
        self.starts.clear();
    }
}

/// What a file needs: names, and the folders of its own in which they are searched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::observer) struct Needs {
    pub(in crate::observer) names: Vec<Vec<u8>>,
    pub(in crate::observer) folders: Vec<Vec<u8>>,
}

/// What a file needs that the loader has opened by this path.
pub(in crate::observer) fn needs(path: &[u8]) -> Option<Needs> {
    let needed = needed_libraries(&File::open(as_path(path)).ok()?)?;
    let is_searched =
        |name: &Vec<u8>| !name.is_empty() && !name.iter().any(|byte| matches!(byte, b'/' | b'$'));
    let folders: Option<Vec<_>> = match &needed.folders[..] {
        b"" => Some(Vec::new()),
        folders => folders.split(|byte| *byte == b':').map(|folder| expand(folder, path)).collect(),
    };
    needed.names.iter().all(is_searched).then_some(Needs { names: needed.names, folders: folders? })
}

/// A folder that a file names for its libraries, with `$ORIGIN` in its place. `None` if it depends on more
/// than the file's own folder.
fn expand(folder: &[u8], file: &[u8]) -> Option<Vec<u8>> {
    let own = &file[..file.iter().rposition(|byte| *byte == b'/')?];
    let rest = [&b"$ORIGIN"[..], b"${ORIGIN}"].iter().find_map(|token| folder.strip_prefix(*token));
    let expanded = match rest {
        Some(rest) if rest.is_empty() || rest.starts_with(b"/") => [own, rest].concat(),
        Some(_) => return None,
        None => folder.to_vec(),
    };
    (expanded.starts_with(b"/") && !expanded.contains(&b'$')).then_some(expanded)
}

/// The files for each name, each with whether every processor can use it.
type CachedFiles = HashMap<Vec<u8>, Vec<(Vec<u8>, bool)>>;

/// The content of the loader's cache.
#[derive(Debug, Default)]
pub(in crate::observer) struct LoaderCache {
    stamp: Option<PathStamp>,
    files: CachedFiles,
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
fn files(content: &[u8]) -> Option<CachedFiles> {
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
    let mut files = CachedFiles::new();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_tells_the_folders_or_that_they_cannot_be_told() {
        let folders = |environment: &str| -> Option<Vec<String>> {
            let path = SearchPath::of(environment.as_bytes())?;
            let text = |folder: &[u8]| String::from_utf8(folder.to_vec()).unwrap();
            Some(path.folders().map(text).collect())
        };
        let none: [&str; 0] = [];
        let is = |environment: &str, expected: &[&str]| {
            assert_eq!(folders(environment).unwrap(), expected, "{environment:?}");
        };
        is("A=1\0LD_LIBRARY_PATH=/a:/b;/c/\0", &["/a", "/b", "/c/"]);
        is("LD_LIBRARY_PATH=", &none);
        is("OLD_LIBRARY_PATH=/a\0LD_BIND_NOW=1", &none);
        for unknown in [
            "LD_LIBRARY_PATH=/a\0LD_LIBRARY_PATH=/b",
            "LD_LIBRARY_PATH=$ORIGIN",
            "LD_LIBRARY_PATH=/a:b",
            "LD_LIBRARY_PATH=/a::/b",
            "LD_LIBRARY_PATH=:",
            "LD_PRELOAD=/a",
            "LD_AUDIT=",
            "LD_ORIGIN_PATH=/a",
            "GLIBC_TUNABLES=glibc.cpu.hwcaps=x",
        ] {
            assert_eq!(folders(unknown), None, "{unknown:?}");
        }
    }

    /// A cache with these entries: flags, demands on the processor, name, path.
    fn cache(entries: &[(u32, u64, &str, &str)]) -> Vec<u8> {
        let mut content = b"glibc-ld.so.cache1.1".to_vec();
        content.extend(u32::try_from(entries.len()).unwrap().to_le_bytes());
        content.resize(48, 0);
        content[28] = 2;
        let mut texts = Vec::new();
        let start = 48 + 24 * entries.len();
        let mut text = |text: &str| {
            let at = u32::try_from(start + texts.len()).unwrap();
            texts.extend(text.bytes().chain([0]));
            at.to_le_bytes()
        };
        for (flags, demands, name, path) in entries {
            content.extend(flags.to_le_bytes());
            content.extend(text(name));
            content.extend(text(path));
            content.extend([0; 4]);
            content.extend(demands.to_le_bytes());
        }
        content.extend(texts);
        content
    }

    #[test]
    fn a_cache_tells_which_files_may_be_loaded() {
        let content = cache(&[
            (0x303, 1 << 62, "liba.so", "/v3/liba.so"),
            (0x303, 0, "liba.so", "/lib/liba.so"),
            (0x303, 1 << 62, "libb.so", "/v3/libb.so"),
            (3, 0, "libc.so", "/lib32/libc.so"),
        ]);
        let cache = LoaderCache { stamp: None, files: files(&content).unwrap() };
        let paths = |name: &str| -> Option<Vec<String>> {
            let text = |(path, _): &(Vec<u8>, bool)| String::from_utf8(path.clone()).unwrap();
            Some(cache.files(name.as_bytes())?.iter().map(text).collect())
        };
        assert_eq!(paths("liba.so").unwrap(), ["/v3/liba.so", "/lib/liba.so"]);
        assert_eq!(paths("libb.so"), None, "not every processor can use it");
        assert_eq!(paths("libc.so"), None, "of another architecture");
        assert_eq!(paths("libd.so"), None);
        assert!(files(&content[..content.len() - 1]).is_none(), "cut off");
        assert!(files(&content[..100]).is_none());
        assert!(files(b"ld.so-1.7.0").is_none());
        let mut other = content;
        other[28] = 3;
        assert!(files(&other).is_none(), "big-endian");
    }

    #[test]
    #[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
    fn this_program_needs_the_c_library() {
        let own = std::env::current_exe().unwrap().into_os_string().into_encoded_bytes();
        assert!(needs(&own).unwrap().names.contains(&b"libc.so.6".to_vec()));
        assert_eq!(needs(b"/etc/passwd"), None);
    }

    #[test]
    fn a_files_own_folders_are_known_if_they_depend_on_its_folder_only() {
        let expanded = |folder: &str| {
            expand(folder.as_bytes(), b"/a/bin/p").map(|folder| String::from_utf8(folder).unwrap())
        };
        assert_eq!(expanded("$ORIGIN/../lib").unwrap(), "/a/bin/../lib");
        assert_eq!(expanded("${ORIGIN}").unwrap(), "/a/bin");
        assert_eq!(expanded("/opt/lib").unwrap(), "/opt/lib");
        for unknown in ["$ORIGINAL/lib", "$LIB", "/opt/$PLATFORM", "/opt/$ORIGIN", "lib", ""] {
            assert_eq!(expanded(unknown), None, "{unknown}");
        }
        assert_eq!(expand(b"$ORIGIN/lib", b"late/libx.so"), None, "the current folder");
    }
}
