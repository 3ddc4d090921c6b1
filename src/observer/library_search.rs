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

use super::executables::needed_libraries;
use super::resolve::as_path;
use crate::observer::loader_cache::LoaderCache;
use crate::workspace::PathStamp;

/// A list of libraries that are loaded into every program.
pub(in crate::observer) const PRELOADED: &[u8] = b"/etc/ld.so.preload";

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
    /// All names for which the loader may ask its cache.
    pub(in crate::observer) names: Vec<Vec<u8>>,
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
#[derive(Debug, Default)]
pub(in crate::observer) struct Loading {
    pub(in crate::observer) libraries: Arc<Libraries>,
    /// It has opened the cache.
    pub(in crate::observer) has_cache: bool,
    /// The library that it has opened by its path, as the cache or a caller has it, and not read.
    pub(in crate::observer) opened: Option<Library>,
}

/// What is known about the libraries of an observation's programs.
#[derive(Debug, Default)]
pub(in crate::observer) struct LibraryLoads {
    /// The loader's cache when the last program started.
    pub(in crate::observer) cache: Option<(PathStamp, Arc<LoaderCache>)>,
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
