//! A linked program's tables: from which objects it was linked and where its symbols come from.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use object::SectionIndex;
use object::elf;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};

use super::error::UnknownLayout;
use super::object_code::ObjectCode;
use super::section::{ENDIAN, Elf};
use super::sysroot::Sysroot;

/// The origin of a program's symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SymbolOrigin {
    /// From a library of the system, when the program is loaded: its name has a version of these.
    System,
    /// From another shared library, when the program is loaded, or from nowhere.
    Library,
    /// From one of the objects, or from the linker.
    Linked,
}

/// A program's tables, as far as they are needed here.
#[derive(Debug, Default)]
pub(super) struct ProgramTables {
    /// The names of the linked objects, in link order.
    pub(super) objects: Vec<String>,
    pub(super) origins: HashMap<String, SymbolOrigin>,
    /// Symbols that shared libraries can call.
    pub(super) exported: HashSet<String>,
    /// The place of each function and of data in the file; `None` for a name that several have.
    places: HashMap<String, Option<SymbolPlace>>,
    /// Shared libraries that are loaded with the program.
    pub(super) libraries: Vec<String>,
    /// Where these are looked for besides the folders of the system.
    pub(super) library_folders: Vec<String>,
    /// What else the system is told: where the program begins, which loader it has, what its stack is like, and
    /// how much of each thread's its thread-local variables take.
    pub(super) loading: Vec<String>,
}

/// Where a program's file has a function, or data.
#[derive(Debug)]
struct SymbolPlace {
    bytes: Range<usize>,
    /// The object that alone can refer to it, by its place among the linked ones.
    local_to: Option<usize>,
}

/// Reads the tables of the program `data`.
pub(super) fn read_program(data: &[u8]) -> Result<ProgramTables, UnknownLayout> {
    let unknown = |_: object::Error| UnknownLayout::Format;
    let header = Elf::parse(data).map_err(unknown)?;
    if !header.is_little_endian()
        || header.e_machine.get(ENDIAN) != elf::EM_X86_64
        || ![elf::ET_EXEC, elf::ET_DYN].contains(&header.e_type.get(ENDIAN))
    {
        return Err(UnknownLayout::Format);
    }
    let sections = header.sections(ENDIAN, data).map_err(unknown)?;
    let symbols = sections.symbols(ENDIAN, data, elf::SHT_SYMTAB).map_err(unknown)?;
    if symbols.is_empty() {
        return Err(UnknownLayout::Stripped);
    }
    let mut tables = ProgramTables::default();
    tables.loading.push(format!("type {}", header.e_type.get(ENDIAN)));
    for segment in header.program_headers(ENDIAN, data).map_err(unknown)? {
        match segment.p_type(ENDIAN) {
            elf::PT_INTERP => {
                let loader = segment.data(ENDIAN, data).map_err(|()| UnknownLayout::Format)?;
                tables.loading.push(String::from_utf8_lossy(loader).into_owned());
            }
            elf::PT_GNU_STACK => {
                let (flags, size) = (segment.p_flags(ENDIAN), segment.p_memsz(ENDIAN));
                tables.loading.push(format!("stack {flags} {size}"));
            }
            // The system takes it out of each thread's stack.
            elf::PT_TLS => {
                let (size, align) = (segment.p_memsz(ENDIAN), segment.p_align(ENDIAN));
                tables.loading.push(format!("thread-locals {size} {align}"));
            }
            _ => {}
        }
    }
    let entry = header.e_entry.get(ENDIAN);
    // Functions that the system calls by their addresses, whatever their names.
    let mut called = vec![entry];
    if let Some((entries, strings)) = sections.dynamic(ENDIAN, data).map_err(unknown)? {
        let strings = sections.strings(ENDIAN, data, strings).map_err(unknown)?;
        for entry in entries {
            let list = match entry.d_tag.get(ENDIAN) {
                elf::DT_NEEDED => &mut tables.libraries,
                elf::DT_RPATH | elf::DT_RUNPATH => &mut tables.library_folders,
                elf::DT_INIT | elf::DT_FINI => {
                    called.push(entry.d_val.get(ENDIAN));
                    continue;
                }
                _ => continue,
            };
            let at = u32::try_from(entry.d_val.get(ENDIAN)).map_err(|_| UnknownLayout::Format)?;
            let name = strings.get(at).map_err(|()| UnknownLayout::Format)?;
            list.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    let exports = sections.symbols(ENDIAN, data, elf::SHT_DYNSYM).map_err(unknown)?;
    let versions = sections.versions(ENDIAN, data).map_err(unknown)?.unwrap_or_default();
    let mut of_system = HashSet::new();
    for (index, symbol) in exports.enumerate() {
        let name = symbol.name(ENDIAN, exports.strings()).map_err(unknown)?;
        let name = String::from_utf8_lossy(name).into_owned();
        if symbol.st_shndx(ENDIAN) != elf::SHN_UNDEF {
            tables.exported.insert(name);
            continue;
        }
        let version = versions.version(versions.version_index(ENDIAN, index)).map_err(unknown)?;
        if version.is_some_and(|version| is_of_system(version.name())) {
            of_system.insert(name);
        }
    }
    for symbol in symbols.iter().skip(1) {
        let name = symbol.name(ENDIAN, symbols.strings()).map_err(unknown)?;
        let name = String::from_utf8_lossy(name).into_owned();
        if symbol.st_type() == elf::STT_FILE {
            tables.objects.push(name);
            continue;
        }
        // `memcpy@GLIBC_2.14`
        let name = name.split('@').next().unwrap_or_default().to_owned();
        let value = symbol.st_value(ENDIAN);
        if entry != 0 && value == entry && !symbol.is_local() {
            tables.loading.push(format!("entry {name}"));
        }
        let is_defined = symbol.st_shndx(ENDIAN) != elf::SHN_UNDEF;
        if is_defined && value != 0 && called.contains(&value) {
            tables.exported.insert(name.clone());
        }
        if is_defined && [elf::STT_FUNC, elf::STT_OBJECT].contains(&symbol.st_type()) {
            let section = sections.section(SectionIndex(symbol.st_shndx(ENDIAN).into()));
            let section = section.ok().filter(|one| one.sh_type(ENDIAN) != elf::SHT_NOBITS);
            let place = section.and_then(|section| {
                let distance = value.checked_sub(section.sh_addr(ENDIAN))?;
                let start =
                    usize::try_from(section.sh_offset(ENDIAN).checked_add(distance)?).ok()?;
                let end = start.checked_add(usize::try_from(symbol.st_size(ENDIAN)).ok()?)?;
                // An object's own symbols follow its name.
                let local_to =
                    symbol.is_local().then(|| tables.objects.len().checked_sub(1)).flatten();
                Some(SymbolPlace { bytes: start..end, local_to })
            });
            let several = tables.places.contains_key(&name);
            tables.places.insert(name.clone(), place.filter(|_| !several));
        }
        let origin = match () {
            () if is_defined => SymbolOrigin::Linked,
            () if of_system.contains(&name) => SymbolOrigin::System,
            () => SymbolOrigin::Library,
        };
        tables.origins.insert(name, origin);
    }
    Ok(tables)
}

/// Whether a symbol of this version is one of the C library, or of the C compiler's own library.
fn is_of_system(version: &[u8]) -> bool {
    version.starts_with(b"GLIBC_") || version.starts_with(b"GCC_")
}

impl ProgramTables {
    /// Whether the program itself has the symbol.
    pub(super) fn defines(&self, name: &str) -> bool {
        self.origins.get(name) == Some(&SymbolOrigin::Linked)
    }

    /// Checks that the program `data` was linked from `objects` and the sysroot's, and that the linker led
    /// each symbol to its definition: everything that has a name in both is the same, and has a place of its
    /// own.
    pub(super) fn check(
        &self,
        data: &[u8],
        objects: &[Arc<ObjectCode>],
        sysroot: &Sysroot,
    ) -> Result<(), UnknownLayout> {
        if let Some(symbol) = self.origins.keys().find(|name| name.starts_with("__wrap_")) {
            return Err(UnknownLayout::Redirected { symbol: symbol.clone() });
        }
        let all = || {
            objects.iter().enumerate().flat_map(|(at, object)| {
                let bodies = object.bodies.iter();
                bodies.map(move |body| (at, &*object.names[body.name as usize], body))
            })
        };
        // Two objects can have local symbols of one name, of which one is not part of the program.
        let mut local: HashMap<&str, usize> = HashMap::new();
        for (_, name, _) in all().filter(|(.., body)| body.is_local) {
            *local.entry(name).or_default() += 1;
        }
        let mut found = Vec::new();
        for (at, name, body) in all() {
            let Some(Some(SymbolPlace { bytes: range, local_to })) = self.places.get(name) else {
                continue;
            };
            let is_of_sysroot = || local_to.is_some_and(|at| sysroot.has(&self.objects[at]));
            if body.is_local && (local[name] > 1 || is_of_sysroot()) {
                continue;
            }
            if !data.get(range.clone()).is_some_and(|bytes| body.is(bytes)) {
                return Err(UnknownLayout::OtherCode { symbol: name.to_owned() });
            }
            found.push((range.start, name, (at, body.place)));
        }
        found.sort_unstable();
        for same in found.chunk_by(|(one, ..), (other, ..)| one == other) {
            // An object can give one thing two names.
            let (start, first, _) = same[0];
            let is_alias = |name: &str| {
                let mut places = same.iter().map(|(.., place)| *place);
                places.any(|at| [first, name].iter().all(|name| same.contains(&(start, name, at))))
            };
            if let Some((_, name, _)) = same.iter().find(|(_, name, _)| !is_alias(name)) {
                return Err(UnknownLayout::Redirected { symbol: (*name).to_owned() });
            }
        }
        // `main` at least is in both.
        if found.is_empty() { Err(UnknownLayout::NoMain) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::symbol_body::{NodePlace, SymbolBody};
    use super::*;

    #[test]
    fn a_function_of_the_sysroot_alone_is_none_of_an_object() {
        let sysroot = Sysroot { units: ["std.1-cgu.0".into()].into(), ..Sysroot::default() };
        // The object has a function of its own by that name, which the linker has left out.
        let check = |unit: &str| {
            let place = |bytes, local_to| Some(SymbolPlace { bytes, local_to });
            let tables = ProgramTables {
                objects: vec!["mine.1-cgu.0".to_owned(), unit.to_owned()],
                places: [
                    ("main".to_owned(), place(0..4, None)),
                    ("fmt".to_owned(), place(4..8, Some(1))),
                ]
                .into(),
                ..ProgramTables::default()
            };
            let body = |name, is_local, bytes| {
                let place = NodePlace { node: name, offset: 0 };
                SymbolBody::new(name, is_local, place, bytes, &[])
            };
            let object = ObjectCode {
                names: ["main".into(), "fmt".into()].into(),
                bodies: vec![body(0, false, &[1; 4]), body(1, true, &[3; 4])],
                ..ObjectCode::default()
            };
            tables.check(&[1, 1, 1, 1, 2, 2, 2, 2], &[Arc::new(object)], &sysroot)
        };
        assert!(check("std.1-cgu.0").is_ok());
        assert!(matches!(check("mine.2-cgu.0"), Err(UnknownLayout::OtherCode { .. })));
    }
}
