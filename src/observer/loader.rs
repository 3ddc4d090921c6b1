//! The look-ups of the dynamic loader that need no notification.
//!
//! At the start of a program the loader tries to open its libraries in every folder of
//! `LD_LIBRARY_PATH`, and in folders below those for better processors. Where an attempt fails, it asks
//! once whether the folder is there (`newfstatat`), to try no more names in a folder that is not. That
//! is most of the cost of a run that starts many programs. The questions pass, because the attempts name
//! the folders too: whoever records an attempt records the folder in the same breath. Most attempts pass
//! as well. `library_calls` records them at the program's start, and says how it finds out about others.
//!
//! **Which call is the loader's?** The filter sees numbers and the address of the calling instruction,
//! whose place in its page is the same wherever the loader lies. No other code must call the kernel from
//! that place in a page of a library. So every library that the loader opens is searched for such
//! an instruction, and so is each program that the kernel puts where libraries lie. Code that is in no
//! such file (made at run time, or mapped by somebody else than the loader) is notified. After either
//! the observation says [`Problem::UnknownCode`](crate::observer::Problem::UnknownCode), and is not
//! complete.
//!
//! The loader asks `newfstatat` for nothing else than such folders and for open descriptors. That is
//! so in the releases of the GNU C library that are named here ([`KNOWN_RELEASES`]; `open_path` in
//! elf/dl-load.c). Another loader's calls are all notified.

use std::collections::HashMap;
use std::fs::File;
use std::ops::{Range, RangeInclusive};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::executables::executable_parts;
use super::resolve::as_path;
use crate::observer::{LOADER_FOLDERS, LoaderCalls};
use crate::workspace::PathStamp;

/// Where programs for x86-64 name the loader of the GNU C library.
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
/// The minor versions of release 2 in which the loader asks as this page says.
const KNOWN_RELEASES: RangeInclusive<u32> = 33..=42;
const RELEASE: &[u8] = b"stable release version 2.";
const LARGEST_LOADER: u64 = 16 << 20;
/// Below a stack that may grow larger, libraries may lie anywhere.
const LARGEST_STACK: u64 = 512 << 30;
/// The upper half of the addresses from which on the kernel puts libraries, and no program that has a
/// loader. Libraries lie below the stack's largest size ([`LARGEST_STACK`]) and a random distance from
/// 0x7fff_ffff_f000, programs up to the same distance above 0x5555_5555_4000: 1 TiB, or 16 TiB where
/// `vm.mmap_rnd_bits` is 32.
pub(in crate::observer) const LIBRARIES: u32 = 0x6800;
/// How many searched files are remembered before all are forgotten.
const MAX_SEARCHED: usize = 10_000;
/// What one read of a searched file takes in.
const CHUNK: usize = 1 << 20;
const ADDR_NO_RANDOMIZE: u32 = 0x0004_0000;
#[cfg(target_arch = "x86_64")]
const ASKING: libc::c_long = libc::SYS_access;
#[cfg(not(target_arch = "x86_64"))]
const ASKING: libc::c_long = libc::SYS_faccessat;
const SYSCALL: [u8; 2] = [0x0f, 0x05];
const PAGE_SIZE: u64 = 4096;

/// Instructions that may lie between the load of a call's number and the call: `mov rsi, rdi` and
/// [`HERE`].
const MOVES: [&[u8]; 2] = [&[0x48, 0x89, 0xfe], &HERE];
/// `mov edi, AT_FDCWD`.
const HERE: [u8; 5] = [0xbf, 0x9c, 0xff, 0xff, 0xff];
/// `xor eax, eax`.
const ZERO: [u8; 2] = [0x31, 0xc0];

/// Places in a page: of the instructions after a call of the loader.
type Sites = Vec<u16>;

/// Where the loader searches for libraries.
#[derive(Debug)]
pub(in crate::observer) struct SearchSites {
    /// Where it looks for a list of libraries to be loaded first, as it does once for each program.
    starts: Sites,
    /// Where it opens libraries and its cache.
    pub(in crate::observer) opens: Sites,
    /// Where it reads the start of each library that it has opened.
    pub(in crate::observer) reads: Sites,
}

/// A call of the loader's code.
#[derive(Clone, Copy, Debug)]
struct CallSite {
    /// Where it ends, as a place in its page.
    site: u16,
    /// The number that is loaded before it, if that is seen.
    number: Option<u32>,
    /// It is for paths relative to the current folder only.
    here: bool,
}

/// The loader whose search passes.
#[derive(Debug)]
pub(in crate::observer) struct KnownLoader {
    path: Vec<u8>,
    stamp: PathStamp,
    /// Where it asks for folders.
    pub(in crate::observer) asks: Sites,
    /// Where it maps libraries.
    pub(in crate::observer) maps: Sites,
    /// Where it may open files.
    opens: Sites,
    /// `None` if its attempts to open are notified too.
    pub(in crate::observer) search: Option<SearchSites>,
    /// The folders that it tries first in each folder of its search path.
    pub(in crate::observer) variants: &'static [&'static str],
    /// Whether these files call the kernel from such places, by path, with their stamps.
    searched: Mutex<HashMap<Vec<u8>, (PathStamp, bool)>>,
}

impl KnownLoader {
    /// The machine's loader as it is now. `None` if it is not one of the known releases.
    /// Without its search, if that does not pass.
    pub(in crate::observer) fn current(pass: LoaderCalls) -> Option<Arc<Self>> {
        type Last = Option<(PathStamp, [Option<Arc<KnownLoader>>; 2])>;
        if pass == LoaderCalls::Notified {
            return None;
        }
        let level = usize::from(pass == LoaderCalls::SearchPasses && is_random());
        static LAST: Mutex<Last> = Mutex::new(None);
        let stack = rustix::process::getrlimit(rustix::process::Resource::Stack);
        if !cfg!(target_arch = "x86_64") || stack.current.is_none_or(|size| size > LARGEST_STACK) {
            return None;
        }
        let path = Path::new(LOADER).canonicalize().ok()?;
        let stamp = PathStamp::of(&path);
        if !stamp.is_settled(SystemTime::now()) {
            return None;
        }
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((known, loaders)) if *known == stamp => loaders[level].clone(),
            _ => {
                let loaders = [false, true].map(|searches| {
                    let mut loader = Self::read(&path, stamp)?;
                    loader.search = loader.search.filter(|_| searches);
                    Some(Arc::new(loader))
                });
                *last = Some((stamp, loaders.clone()));
                loaders[level].clone()
            }
        }
    }

    fn read(path: &Path, stamp: PathStamp) -> Option<Self> {
        let file = File::open(path).ok()?;
        if file.metadata().ok()?.len() > LARGEST_LOADER {
            return None;
        }
        let content = std::fs::read(path).ok()?;
        let release = content.windows(RELEASE.len()).position(|text| text == RELEASE)?;
        let digits = content[release + RELEASE.len()..].iter().take_while(|c| c.is_ascii_digit());
        let minor =
            digits.fold(0, |sum: u32, digit| sum.saturating_mul(10) + u32::from(digit - b'0'));
        let parts = executable_parts(&file)?;
        if !KNOWN_RELEASES.contains(&minor) || PathStamp::of(path) != stamp {
            return None;
        }
        let code = |part: &Range<u64>| {
            content.get(usize::try_from(part.start).ok()?..usize::try_from(part.end).ok()?)
        };
        let mut calls: Vec<CallSite> = Vec::new();
        for part in &parts {
            let code = code(part)?;
            for at in (0..code.len().saturating_sub(1)).filter(|at| code[*at..*at + 2] == SYSCALL) {
                calls.push(call(&code[..at], site(part.start + at as u64 + 2)));
            }
        }
        let sites = |number: libc::c_long, here: bool| -> Sites {
            let number = u32::try_from(number).ok();
            let is_only_that =
                |site: u16| calls.iter().all(|call| call.site != site || call.number == number);
            let is_meant = |call: &&CallSite| call.number == number && (call.here || !here);
            let mut sites: Sites = calls.iter().filter(is_meant).map(|call| call.site).collect();
            sites.retain(|site| is_only_that(*site));
            sites
        };
        // Also calls by a number that is loaded elsewhere: what is opened anywhere is to be searched.
        let open = u32::try_from(libc::SYS_openat).ok();
        let may_open = |call: &&CallSite| call.number.is_none() || call.number == open;
        let opens = calls.iter().filter(may_open).map(|call| call.site).collect();
        let search = SearchSites {
            starts: sites(ASKING, false),
            opens: sites(libc::SYS_openat, true),
            reads: sites(libc::SYS_read, false),
        };
        let is_whole =
            [&search.starts, &search.opens, &search.reads].iter().all(|sites| !sites.is_empty());
        let mut loader = Self {
            path: path.as_os_str().as_bytes().to_vec(),
            stamp,
            asks: sites(libc::SYS_newfstatat, false),
            maps: sites(libc::SYS_mmap, false),
            opens,
            search: is_whole.then_some(search),
            variants: if minor < 37 { LOADER_FOLDERS } else { &LOADER_FOLDERS[..1] },
            searched: Mutex::default(),
        };
        // Every program has this library: a call like the loader's there would spoil every run.
        let libc = path.with_file_name("libc.so.6");
        if loader.search_file(libc.as_os_str().as_bytes()) != Some(false) {
            loader.search = None;
        }
        let is_useful =
            [&loader.asks, &loader.maps, &loader.opens].iter().all(|sites| !sites.is_empty());
        is_useful.then_some(loader)
    }

    /// Whether the loader opens files by the call that ends at `address`.
    pub(in crate::observer) fn opens_at(&self, address: u64) -> bool {
        self.opens.contains(&site(address))
    }

    /// Whether the loader makes this call while it searches for libraries: one of those at `sites`.
    fn searches_at(&self, address: u64, sites: impl Fn(&SearchSites) -> &Sites) -> bool {
        let is_library = address >> 32 >= u64::from(LIBRARIES);
        let holds = |search| sites(search).contains(&site(address));
        is_library && self.search.as_ref().is_some_and(holds)
    }

    /// Whether the loader starts a program by the call that ends at `address`.
    pub(in crate::observer) fn starts_at(&self, address: u64) -> bool {
        self.searches_at(address, |search| &search.starts)
    }

    /// Whether the loader attempts to open a library, or its cache, by the call that ends at `address`.
    pub(in crate::observer) fn attempts_at(&self, address: u64) -> bool {
        self.searches_at(address, |search| &search.opens)
    }

    /// Whether the loader reads a library by the call that ends at `address`.
    pub(in crate::observer) fn reads_at(&self, address: u64) -> bool {
        self.searches_at(address, |search| &search.reads)
    }

    /// Whether this is the loader's own file.
    pub(in crate::observer) fn is_at(&self, path: &[u8]) -> bool {
        path == self.path
    }

    /// Whether code of this file calls the kernel where the loader does, or may do so.
    pub(in crate::observer) fn is_like(&self, path: &[u8], stamp: PathStamp) -> bool {
        if path == self.path && stamp == self.stamp {
            return false;
        }
        let searched = || self.searched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, is_like)) = searched().get(path)
            && *known == stamp
        {
            return *is_like;
        }
        // Unlocked: a file on a dead mount must not stop other observations.
        let started = SystemTime::now();
        let is_like = self.search_file(path).unwrap_or(true);
        if stamp.is_settled(started) {
            let mut searched = searched();
            if searched.len() >= MAX_SEARCHED {
                searched.clear();
            }
            searched.insert(path.to_vec(), (stamp, is_like));
        }
        is_like
    }

    /// The same without memory. `None` if the file cannot be read, is broken, or can change its code.
    fn search_file(&self, path: &[u8]) -> Option<bool> {
        let file = File::open(as_path(path)).ok()?;
        let mut magic = [0; 4];
        if file.read_exact_at(&mut magic, 0).is_err() || magic != *b"\x7fELF" {
            // No code is mapped from it by a loader.
            return Some(false);
        }
        let search = self.search.iter();
        let search = search.flat_map(|search| [&search.starts, &search.opens, &search.reads]);
        let sites: Vec<_> = self
            .asks
            .iter()
            .chain(&self.maps)
            .chain(search.flatten())
            .map(|site| u64::from(*site))
            .collect();
        let mut chunk = vec![0; CHUNK + 1];
        for part in executable_parts(&file)? {
            let mut start = part.start;
            while start < part.end {
                // With the first byte of the next chunk, which an instruction may end in.
                let length = usize::try_from(part.end - start).ok()?.min(chunk.len());
                file.read_exact_at(&mut chunk[..length], start).ok()?;
                let is_call = |at: usize| at + 2 <= length && chunk[at..at + 2] == SYSCALL;
                let holds = sites.iter().any(|site| {
                    let first = (site + 2 * PAGE_SIZE - 2 - start % PAGE_SIZE) % PAGE_SIZE;
                    let first = usize::try_from(first).unwrap_or_default();
                    (first..length).step_by(PAGE_SIZE as usize).any(is_call)
                });
                if holds {
                    return Some(true);
                }
                start += CHUNK as u64;
            }
        }
        Some(false)
    }
}

/// The call after this code, which ends at `site`.
fn call(before: &[u8], site: u16) -> CallSite {
    let (mut rest, mut here) = (before, false);
    while let Some(shorter) = MOVES.iter().find_map(|bytes| rest.strip_suffix(*bytes)) {
        here |= rest.ends_with(&HERE);
        rest = shorter;
    }
    let number = match rest {
        [.., 0xb8, a, b, c, d] => Some(u32::from_le_bytes([*a, *b, *c, *d])), // mov eax, number
        _ if rest.ends_with(&ZERO) => Some(0),
        _ => None,
    };
    CallSite { site, number, here }
}

/// Whether stacks begin at random addresses, and libraries lie far below them therefore.
fn is_random() -> bool {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let personality = read("/proc/self/personality");
    u32::from_str_radix(personality.trim(), 16).is_ok_and(|bits| bits & ADDR_NO_RANDOMIZE == 0)
        && matches!(read("/proc/sys/kernel/randomize_va_space").trim(), "1" | "2")
}

/// The place in its page.
fn site(address: u64) -> u16 {
    (address % PAGE_SIZE) as u16
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn loader(asks: u16, maps: u16) -> KnownLoader {
        KnownLoader {
            path: b"/loader".to_vec(),
            stamp: PathStamp::Absent,
            asks: vec![asks],
            maps: vec![maps],
            opens: vec![1],
            search: None,
            variants: &[],
            searched: Mutex::default(),
        }
    }

    /// An ELF file with one executable part at `offset`.
    fn library(offset: u64, code: &[u8]) -> tempfile::NamedTempFile {
        let mut bytes = vec![0; usize::try_from(offset).unwrap()];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18] = 62;
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64] = 1;
        bytes[68] = 5;
        bytes[72..80].copy_from_slice(&offset.to_le_bytes());
        bytes[96..104].copy_from_slice(&(code.len() as u64).to_le_bytes());
        bytes.extend(code);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    fn is_like(loader: &KnownLoader, file: &Path) -> bool {
        loader.is_like(file.as_os_str().as_bytes(), PathStamp::of(file))
    }

    #[test]
    fn this_machines_loader_is_known_if_its_release_is() {
        let Some(loader) = KnownLoader::current(LoaderCalls::SearchPasses) else { return };
        assert!(loader.opens_at(0x7f00_0000_0000 + u64::from(loader.opens[0])));
        assert!(!is_like(&loader, as_path(&loader.path)), "its own calls are meant");
        assert!(loader.asks.iter().all(|site| !loader.maps.contains(site)));
        if let Some(search) =
            loader.search.as_ref().filter(|_| std::env::var_os("KNHK_TEST_CACHE_CI").is_some())
        {
            let address = 0x7f00_0000_0000 + u64::from(search.opens[0]);
            assert!(loader.attempts_at(address) && !loader.attempts_at(address & 0xffff_ffff));
        }
        let again = KnownLoader::current(LoaderCalls::SearchPasses).unwrap();
        assert!(Arc::ptr_eq(&loader, &again), "it is read once");
    }

    #[test]
    fn a_file_that_is_no_library_is_not_like_the_loader_and_an_unreadable_one_may_be() {
        let loader = loader(0x92a, 0xca3);
        let text = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(text.path(), "/usr/lib/libc.so.6").unwrap();
        assert!(!is_like(&loader, text.path()));
        assert!(is_like(&loader, Path::new("/nowhere/at/all")));
        std::fs::write(text.path(), b"\x7fELF").unwrap();
        assert!(is_like(&loader, text.path()), "cut off");
        let library = library(128, &[0x90; 64]);
        assert!(!is_like(&loader, library.path()));
        let mut bytes = std::fs::read(library.path()).unwrap();
        bytes[68] = 7;
        std::fs::write(text.path(), bytes).unwrap();
        assert!(is_like(&loader, text.path()), "it can write to its own code");
    }

    #[test]
    fn a_call_is_known_by_the_number_that_is_loaded_before_it() {
        let number = [0xb8, 1, 1, 0, 0];
        let known = |before: &[&[u8]]| {
            let call = call(&before.concat(), 7);
            (call.number, call.here)
        };
        assert_eq!(known(&[&number]), (Some(257), false));
        assert_eq!(known(&[&number, MOVES[0], &HERE]), (Some(257), true));
        assert_eq!(known(&[&number, &HERE, MOVES[0]]), (Some(257), true));
        assert_eq!(known(&[&[0x90], &ZERO]), (Some(0), false));
        assert_eq!(known(&[&number, &[0x90]]), (None, false), "it may be changed");
        assert_eq!(known(&[&[0xb8, 1, 1]]), (None, false));
    }

    #[test]
    fn a_library_with_a_call_from_where_libraries_are_opened_or_read_is_like_the_loader() {
        let mut code = vec![0x90; 5000];
        code[300..302].copy_from_slice(&SYSCALL);
        let library = library(128, &code);
        let place = site(128 + 302);
        let search = |opens, reads| {
            let sites = SearchSites { starts: vec![1], opens: vec![opens], reads: vec![reads] };
            KnownLoader { search: Some(sites), ..loader(2, 3) }
        };
        assert!(!is_like(&search(4, 5), library.path()));
        assert!(is_like(&search(place, 5), library.path()));
        assert!(is_like(&search(4, place), library.path()));
    }

    proptest! {
        #[test]
        fn a_call_is_found_where_it_matters_and_only_there(
            asks in 0_u16..4096, maps in 0_u16..4096,
            offset in 128_u64..9000,
            at in prop_oneof![0_usize..20_000, CHUNK - 4100..CHUNK + 4100],
        ) {
            let mut code = vec![0x90; at + 5000];
            code[at..at + 2].copy_from_slice(&SYSCALL);
            let end = site(offset + at as u64 + 2);
            let file = library(offset, &code);
            let found = is_like(&loader(asks, maps), file.path());
            prop_assert_eq!(found, end == asks || end == maps);
            prop_assert!(is_like(&loader(end, maps), file.path()));
            prop_assert!(is_like(&loader(asks, end), file.path()));
        }
    }
}
