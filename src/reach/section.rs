//! A section of an object, and what the linker is told about it.

use object::elf::{self, FileHeader64};
use object::{LittleEndian as Endian, SymbolIndex};

pub(super) type Elf = FileHeader64<Endian>;
pub(super) const ENDIAN: Endian = Endian;

/// A relocation of a section.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relocation {
    pub(super) offset: u64,
    pub(super) kind: u32,
    pub(super) symbol: SymbolIndex,
    pub(super) addend: i64,
}

/// A section of the object with what was read of it.
pub(super) struct Section<'data> {
    pub(super) name: &'data str,
    pub(super) flags: u64,
    pub(super) kind: u32,
    pub(super) size: u64,
    pub(super) align: u64,
    pub(super) entry_size: u64,
    pub(super) bytes: &'data [u8],
    pub(super) relocations: Vec<Relocation>,
    /// Its node, if it has one.
    pub(super) node: Option<u32>,
}

impl Section<'_> {
    pub(super) fn has(&self, flag: u32) -> bool {
        self.flags & u64::from(flag) != 0
    }

    /// Whether equal pieces of it are merged, so that each is part of what refers to it.
    pub(super) fn is_merged(&self) -> bool {
        self.has(elf::SHF_MERGE) && self.relocations.is_empty() && self.entry_size > 0
    }

    /// Whether the program can change it once it runs. The loader alone writes to `.data.rel.ro`.
    pub(super) fn is_variable(&self) -> bool {
        self.has(elf::SHF_WRITE) && !self.name.starts_with(".data.rel.ro")
    }

    /// Whether it counts even if nothing refers to it.
    pub(super) fn is_root(&self) -> bool {
        self.is_list_of_functions()
            || [".init", ".fini"].contains(&self.name)
            || self.has(elf::SHF_GNU_RETAIN)
    }

    /// Whether it lists functions that run before `main` or after it. The linker sorts such lists by the
    /// numbers in their names.
    pub(super) fn is_list_of_functions(&self) -> bool {
        let kinds = [elf::SHT_INIT_ARRAY, elf::SHT_FINI_ARRAY, elf::SHT_PREINIT_ARRAY];
        let names = [".init_array", ".fini_array", ".preinit_array", ".ctors", ".dtors"];
        let named = |name: &str| {
            self.name
                .strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        kinds.contains(&self.kind) || names.iter().any(|name| named(name))
    }
}
