//! What the toolchain's own libraries define, and the names that rustc gives.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use object::read::ReadCache;
use object::read::archive::ArchiveFile;

use super::error::UnknownLayout;

/// The code units of the sysroot's libraries and the symbols that these define.
#[derive(Debug, Default)]
pub(super) struct Sysroot {
    pub(super) units: HashSet<Arc<str>>,
    /// With the units that define those whose names rustc has not made up.
    pub(super) symbols: HashMap<String, Vec<Arc<str>>>,
}

impl Sysroot {
    /// Reads the lists of the libraries below `sysroot`, for every target that is installed.
    pub(super) fn read(sysroot: &Path) -> Result<Self, UnknownLayout> {
        let mut this = Self::default();
        let targets = sysroot.join("lib/rustlib");
        for target in list(&targets)? {
            let folder = targets.join(target).join("lib");
            if !folder.is_dir() {
                continue;
            }
            for name in list(&folder)?.iter().filter(|name| name.ends_with(".rlib")) {
                let path = folder.join(name);
                let failed = |error: io::Error| UnknownLayout::unreadable(&path, error);
                let cache = ReadCache::new(File::open(&path).map_err(failed)?);
                this.add(&cache).map_err(|error| failed(io::Error::other(error)))?;
            }
        }
        Ok(this)
    }

    /// Whether the code unit `name` is one of the sysroot.
    pub(super) fn has(&self, name: &str) -> bool {
        self.units.contains(name)
    }

    fn add(&mut self, cache: &ReadCache<File>) -> object::Result<()> {
        let archive = ArchiveFile::parse(cache)?;
        for member in archive.members() {
            if let Some(unit) = unit_of(&String::from_utf8_lossy(member?.name())) {
                self.units.insert(unit.into());
            }
        }
        for symbol in archive.symbols()?.into_iter().flatten() {
            let symbol = symbol?;
            let name = String::from_utf8_lossy(symbol.name()).into_owned();
            let plain = !is_rust(&name);
            let units = self.symbols.entry(name).or_default();
            if plain {
                let member = archive.member(symbol.offset())?;
                let unit = unit_of(&String::from_utf8_lossy(member.name())).map(Arc::from);
                units.extend(unit);
            }
        }
        Ok(())
    }
}

/// Whether rustc has made up the name.
pub(super) fn is_rust(name: &str) -> bool {
    name.starts_with("_R") || name.starts_with("_ZN")
}

/// The names in `folder`, sorted.
pub(super) fn list(folder: &Path) -> Result<Vec<String>, UnknownLayout> {
    let failed = |error| UnknownLayout::unreadable(folder, error);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The code unit in a library's member `crate-hash.UNIT.call.rcgu.o` or `crate-hash.UNIT.rcgu.o`.
pub(super) fn unit_of(member: &str) -> Option<&str> {
    let (_, rest) = member.strip_suffix(".rcgu.o")?.split_once('.')?;
    // The unit `crate.hash-cgu.0` has dots of its own; what a call of rustc adds has none.
    match rest.find("-cgu.") {
        Some(at) => {
            let number = &rest[at + 5..];
            let digits = number.find('.').unwrap_or(number.len());
            Some(&rest[..at + 5 + digits])
        }
        None => Some(rest.split_once('.').map_or(rest, |(unit, _)| unit)),
    }
}
