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

/// The origin of a program's symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SymbolOrigin {
    /// From a shared library, when the program is loaded.
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
    /// The place of each function in the file; `None` for a name that several have.
    functions: HashMap<String, Option<Range<usize>>>,
    /// Shared libraries that are loaded with the program.
    pub(super) libraries: Vec<String>,
    /// Where these are looked for besides the folders of the system.
    pub(super) library_folders: Vec<String>,
    /// What else the kernel is told: where the program begins, which loader it has, and what its stack is
    /// like.
    pub(super) loading: Vec<String>,
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
            _ => {}
        }
    }
    let entry = header.e_entry.get(ENDIAN);
    for symbol in symbols.iter().skip(1) {
        let name = symbol.name(ENDIAN, symbols.strings()).map_err(unknown)?;
        let name = String::from_utf8_lossy(name).into_owned();
        if symbol.st_type() == elf::STT_FILE {
            tables.objects.push(name);
            continue;
        }
        // `memcpy@GLIBC_2.14`
        let name = name.split('@').next().unwrap_or_default().to_owned();
        if entry != 0 && symbol.st_value(ENDIAN) == entry && !symbol.is_local() {
            tables.loading.push(format!("entry {name}"));
        }
        if symbol.st_type() == elf::STT_FUNC && symbol.st_shndx(ENDIAN) != elf::SHN_UNDEF {
            let section = sections.section(SectionIndex(symbol.st_shndx(ENDIAN).into()));
            let place = section.ok().and_then(|section| {
                let distance = symbol.st_value(ENDIAN).checked_sub(section.sh_addr(ENDIAN))?;
                let start =
                    usize::try_from(section.sh_offset(ENDIAN).checked_add(distance)?).ok()?;
                let end = start.checked_add(usize::try_from(symbol.st_size(ENDIAN)).ok()?)?;
                Some(start..end)
            });
            let several = tables.functions.contains_key(&name);
            tables.functions.insert(name.clone(), place.filter(|_| !several));
        }
        let origin = if symbol.st_shndx(ENDIAN) == elf::SHN_UNDEF {
            SymbolOrigin::Library
        } else {
            SymbolOrigin::Linked
        };
        tables.origins.insert(name, origin);
    }
    let exports = sections.symbols(ENDIAN, data, elf::SHT_DYNSYM).map_err(unknown)?;
    for symbol in exports.iter().filter(|symbol| symbol.st_shndx(ENDIAN) != elf::SHN_UNDEF) {
        let name = symbol.name(ENDIAN, exports.strings()).map_err(unknown)?;
        tables.exported.insert(String::from_utf8_lossy(name).into_owned());
    }
    if let Some((entries, strings)) = sections.dynamic(ENDIAN, data).map_err(unknown)? {
        let strings = sections.strings(ENDIAN, data, strings).map_err(unknown)?;
        for entry in entries {
            let list = match entry.d_tag.get(ENDIAN) {
                elf::DT_NEEDED => &mut tables.libraries,
                elf::DT_RPATH | elf::DT_RUNPATH => &mut tables.library_folders,
                _ => continue,
            };
            let at = u32::try_from(entry.d_val.get(ENDIAN)).map_err(|_| UnknownLayout::Format)?;
            let name = strings.get(at).map_err(|()| UnknownLayout::Format)?;
            list.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(tables)
}

impl ProgramTables {
    /// Checks that the program `data` was linked from `objects`: each function that has a name in
    /// both is the same.
    pub(super) fn check(
        &self,
        data: &[u8],
        objects: &[Arc<ObjectCode>],
    ) -> Result<(), UnknownLayout> {
        let mut checked = false;
        for object in objects {
            for body in &object.bodies {
                let name: &str = &object.names[body.name as usize];
                let Some(Some(place)) = self.functions.get(name) else { continue };
                if !data.get(place.clone()).is_some_and(|code| body.is(code)) {
                    return Err(UnknownLayout::OtherCode { function: name.to_owned() });
                }
                checked = true;
            }
        }
        // `main` at least is in both.
        if checked { Ok(()) } else { Err(UnknownLayout::NoMain) }
    }
}
