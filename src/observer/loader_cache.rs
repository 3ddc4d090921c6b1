//! The dynamic loader's cache, `/etc/ld.so.cache`: which files it names for a library.
//!
//! The layout is that of sysdeps/generic/dl-cache.h in the GNU C library, as `ldconfig` has written it since
//! release 2.32. The loader finds the entries of a name by a binary search, and takes the first or best that
//! this processor can use (`search_cache` in elf/dl-cache.c). So the entries of a name, in their order, are
//! all that it can learn, as long as the search finds them: the cache must be sorted. A cache of which
//! anything is not understood is not read at all.

use std::cmp::Ordering;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::model::{Digest, Digester};
use crate::workspace::{FileKind, PathStamp};

/// The path of the loader's cache.
pub(crate) const LOADER_CACHE: &str = "/etc/ld.so.cache";

const MAX_SIZE: u64 = 64 << 20;
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;
const SECTION: usize = 16;
/// `cache_extension_magic`.
const EXTENSIONS: u32 = 0xeaa4_2174;
/// The release that wrote the cache, which the loader does not look at.
const TAG_GENERATOR: u32 = 0;
/// Places of the names of folders for better processors.
const TAG_HWCAPS: u32 = 1;
/// The largest number in a name that the loader can count to.
const MAX_DIGITS: usize = 9;

/// An entry of the cache.
#[derive(Debug)]
pub(in crate::observer) struct CachedFile {
    name: Vec<u8>,
    pub(in crate::observer) path: Vec<u8>,
    /// The kind of library.
    flags: u32,
    /// Demands on the kernel.
    system: u32,
    /// Demands on the processor. The lower half is 0 if `folder` tells more.
    processor: u64,
    /// The folder for better processors in which it lies.
    folder: Option<Vec<u8>>,
}

impl CachedFile {
    /// Whether it is for this architecture and this C library.
    pub(in crate::observer) fn is_native(&self) -> bool {
        const NATIVE: u32 = 0x0303;
        self.flags == NATIVE
    }

    /// Whether every kernel and processor can use it.
    pub(in crate::observer) fn is_for_all(&self) -> bool {
        self.system == 0 && self.processor == 0
    }
}

/// The content of the loader's cache.
#[derive(Debug)]
pub(crate) struct LoaderCache(Vec<CachedFile>);

impl LoaderCache {
    /// The machine's cache, with the stamp of its file. `None` if there is none that can be understood.
    pub(crate) fn current() -> Option<(PathStamp, Arc<Self>)> {
        type Last = Option<(PathStamp, Option<Arc<LoaderCache>>)>;
        static LAST: Mutex<Last> = Mutex::new(None);
        let before = SystemTime::now();
        let path = Path::new(LOADER_CACHE);
        let stamp = PathStamp::of(path);
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, cache)) = &*last
            && *known == stamp
        {
            return Some((stamp, cache.clone()?));
        }
        let size = stamp.present().filter(|stamp| stamp.kind() == FileKind::File)?.size;
        let content = (size <= MAX_SIZE).then(|| std::fs::read(path).ok()).flatten();
        let cache = content.and_then(|content| Self::parse(&content)).map(Arc::new);
        if PathStamp::of(path) != stamp {
            return None;
        }
        if stamp.is_settled(before) {
            *last = Some((stamp, cache.clone()));
        }
        Some((stamp, cache?))
    }

    /// Reads a cache. `None` if anything of it is not understood.
    pub(crate) fn parse(content: &[u8]) -> Option<Self> {
        let zeros = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        if !content.starts_with(MAGIC) || content.len() <= HEADER || cfg!(target_endian = "big") {
            return None;
        }
        // Little-endian, or not said; and what later releases may give a meaning.
        if !matches!(content[28], 0 | 2) || !zeros(&content[29..32]) || !zeros(&content[36..HEADER])
        {
            return None;
        }
        let count = usize::try_from(number(content, 20)?).ok()?;
        let entries = content.get(HEADER..HEADER.checked_add(count.checked_mul(ENTRY)?)?)?;
        let folders = folders(content, number(content, 32)?)?;
        let entries = entries.chunks_exact(ENTRY).map(|entry| {
            let processor = number(entry, 16)?;
            let demands = number(entry, 20)?;
            let name = text(content, number(entry, 4)?)?;
            let is_in_folder = demands & !0x3ff == 1 << 30;
            let folder = is_in_folder.then(|| folders.get(usize::try_from(processor).ok()?));
            let folder = folder.map(|folder| folder.cloned().ok_or(())).transpose().ok()?;
            Some(CachedFile {
                name: is_understood(name).then(|| name.to_vec())?,
                path: text(content, number(entry, 8)?)?.to_vec(),
                flags: number(entry, 0)?,
                system: number(entry, 12)?,
                processor: u64::from(demands) << 32
                    | u64::from(if is_in_folder { 0 } else { processor }),
                folder,
            })
        });
        let entries = entries.collect::<Option<Vec<_>>>()?;
        let is_sorted = |pair: &[CachedFile]| order(&pair[0].name, &pair[1].name).is_ge();
        entries.windows(2).all(is_sorted).then_some(Self(entries))
    }

    /// The entries that the loader looks at for this name, in their order. `None` if the name is not
    /// understood.
    pub(in crate::observer) fn files(&self, name: &[u8]) -> Option<&[CachedFile]> {
        if !is_understood(name) {
            return None;
        }
        let first = self.0.partition_point(|entry| order(&entry.name, name).is_gt());
        let rest = &self.0[first..];
        Some(&rest[..rest.partition_point(|entry| order(&entry.name, name).is_eq())])
    }

    /// What the loader can learn about a library of this name. `None` if the name is not understood.
    pub(crate) fn answer(&self, name: &[u8]) -> Option<Digest> {
        let files = self.files(name)?;
        let mut digester = Digester::new("loader cache 1");
        digester.number(files.len() as u64);
        for file in files {
            digester.field(&file.name).field(&file.path).number(file.flags.into());
            digester.number(file.system.into()).number(file.processor);
            digester.field(file.folder.as_deref().unwrap_or_default());
        }
        Some(digester.finish())
    }
}

/// The names of folders for better processors, which entries name by their places here.
fn folders(content: &[u8], at: u32) -> Option<Vec<Vec<u8>>> {
    let mut folders = None;
    if at == 0 {
        return Some(Vec::new());
    }
    let head = content.get(usize::try_from(at).ok()?..)?;
    if !at.is_multiple_of(4) || number(head, 0)? != EXTENSIONS {
        return None;
    }
    let count = usize::try_from(number(head, 4)?).ok()?;
    let sections = head.get(8..count.checked_mul(SECTION)?.checked_add(8)?)?;
    for section in sections.chunks_exact(SECTION) {
        let (offset, size) = (number(section, 8)?, number(section, 12)?);
        let start = usize::try_from(offset).ok()?;
        let part = content.get(start..start.checked_add(usize::try_from(size).ok()?)?)?;
        match number(section, 0)? {
            _ if number(section, 4)? != 0 => return None,
            TAG_GENERATOR => {}
            TAG_HWCAPS if folders.is_none() && size > 0 && (offset | size).is_multiple_of(4) => {
                let name = |place: &[u8]| text(content, number(place, 0)?).map(<[u8]>::to_vec);
                folders = Some(part.chunks_exact(4).map(name).collect::<Option<Vec<_>>>()?);
            }
            _ => return None,
        }
    }
    let folders = folders.unwrap_or_default();
    // The loader merges them with its own names, which are sorted.
    let is_sorted = folders.windows(2).all(|pair| pair[0] < pair[1]);
    is_sorted.then_some(folders)
}

/// A little-endian number of four bytes.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// A text that ends in a zero.
fn text(content: &[u8], at: u32) -> Option<&[u8]> {
    let text = content.get(usize::try_from(at).ok()?..)?;
    Some(&text[..text.iter().position(|byte| *byte == 0)?])
}

/// Whether names compare here as they do for the loader, which counts in 32 bits and whose bytes have a sign
/// on some processors; and whether it can be the last part of a path.
fn is_understood(name: &[u8]) -> bool {
    let is_plain = |byte: &u8| (b' '..0x7f).contains(byte) && *byte != b'/';
    let mut numbers = name.split(|byte| !byte.is_ascii_digit());
    !matches!(name, b"" | b"." | b"..")
        && name.iter().all(is_plain)
        && numbers.all(|number| number.len() <= MAX_DIGITS)
}

/// A part of a name, in the order of the loader.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum NamePart {
    Letter(u8),
    Number(u32),
}

/// How two names compare (`_dl_cache_libcmp`). Names that differ can be equal: `liba.so.1`, `liba.so.01`.
fn order(one: &[u8], other: &[u8]) -> Ordering {
    parts(one).cmp(parts(other))
}

fn parts(mut name: &[u8]) -> impl Iterator<Item = NamePart> {
    std::iter::from_fn(move || {
        let (first, rest) = name.split_first()?;
        let digits = name.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            name = rest;
            return Some(NamePart::Letter(*first));
        }
        let (number, rest) = name.split_at(digits);
        name = rest;
        let add = |sum: u32, digit: &u8| sum.wrapping_mul(10) + u32::from(digit - b'0');
        Some(NamePart::Number(number.iter().fold(0, add)))
    })
}

#[cfg(test)]
mod tests;
