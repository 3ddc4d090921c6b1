//! An object's tables: sections, symbols, and relocations with their targets.

use std::collections::{BTreeMap, HashMap, HashSet};

use object::elf;
use object::read::elf::{FileHeader, SectionHeader, SectionTable, Sym, SymbolTable};
use object::{LittleEndian as Endian, SectionIndex, SymbolIndex};

use super::error::UnknownLayout;
use super::location_flow::LocationUses;
use super::merged;
use super::section::{ENDIAN, Elf, Relocation, Section};
use super::unwind::{self, Frame};

/// Relocations in a newer, compressed form.
const SHT_CREL: u32 = 0x4000_0014;

/// The target of a relocation.
pub(super) enum RelocationTarget<'a> {
    /// Into a node of this object.
    Node { node: u32, section: usize, offset: u64 },
    /// Into a section of merged pieces, as this piece.
    Piece { bytes: &'a [u8], skip: i64 },
    /// To a global symbol.
    Symbol { name: &'a str, addend: i64 },
    /// A fixed number.
    Number(u64),
    /// Into something that is not loaded.
    Nothing,
}

/// An object's tables while it is read.
pub(super) struct ObjectReader<'data> {
    name: &'data str,
    pub(super) sections: Vec<Section<'data>>,
    pub(super) symbols: SymbolTable<'data, Elf>,
    pub(super) by_rustc: bool,
}

impl<'data> ObjectReader<'data> {
    pub(super) fn open(
        name: &'data str,
        data: &'data [u8],
        by_rustc: bool,
    ) -> Result<Self, UnknownLayout> {
        let failed = |error: object::Error| UnknownLayout::object(name, error.to_string());
        let header = Elf::parse(data).map_err(failed)?;
        if header.e_type.get(ENDIAN) != elf::ET_REL
            || header.e_machine.get(ENDIAN) != elf::EM_X86_64
            || !header.is_little_endian()
        {
            return Err(UnknownLayout::object(name, "not an object for x86-64"));
        }
        let table = header.sections(ENDIAN, data).map_err(failed)?;
        let symbols = table.symbols(ENDIAN, data, elf::SHT_SYMTAB).map_err(failed)?;
        let mut sections = Vec::with_capacity(table.len());
        for section in table.iter() {
            let text = table.section_name(ENDIAN, section).map_err(failed)?;
            let text = std::str::from_utf8(text)
                .map_err(|_| UnknownLayout::object(name, "a section's name is not a text"))?;
            let flags = section.sh_flags(ENDIAN);
            let loaded = flags & u64::from(elf::SHF_ALLOC) != 0;
            sections.push(Section {
                name: text,
                flags,
                kind: section.sh_type(ENDIAN),
                size: section.sh_size(ENDIAN),
                align: section.sh_addralign(ENDIAN),
                entry_size: section.sh_entsize(ENDIAN),
                bytes: if loaded { section.data(ENDIAN, data).map_err(failed)? } else { &[] },
                relocations: Vec::new(),
                node: None,
            });
        }
        read_relocations(name, data, &table, &mut sections)?;
        // A section that other objects can refer to is a node even if the linker merges it.
        let mut shared = HashSet::new();
        for (index, symbol) in symbols.enumerate().filter(|(_, symbol)| !symbol.is_local()) {
            let section = symbols.symbol_section(ENDIAN, symbol, index).map_err(failed)?;
            shared.extend(section.map(|section| section.0));
        }
        let mut next = 0;
        for (index, section) in sections.iter_mut().enumerate() {
            if section.has(elf::SHF_ALLOC)
                && (!section.is_merged() || shared.contains(&index))
                && section.name != ".eh_frame"
                && section.kind != elf::SHT_NOTE
            {
                section.node = Some(next);
                next += 1;
            }
        }
        Ok(Self { name, sections, symbols, by_rustc })
    }

    pub(super) fn problem(&self, problem: impl Into<String>) -> UnknownLayout {
        UnknownLayout::object(self.name, problem)
    }

    pub(super) fn symbol_name(
        &self,
        symbol: &elf::Sym64<Endian>,
    ) -> Result<&'data str, UnknownLayout> {
        let name = symbol.name(ENDIAN, self.symbols.strings());
        name.ok()
            .and_then(|name| std::str::from_utf8(name).ok())
            .ok_or_else(|| self.problem("a symbol's name is not a text"))
    }

    /// The target of `relocation`.
    pub(super) fn destination(
        &self,
        relocation: &Relocation,
    ) -> Result<RelocationTarget<'data>, UnknownLayout> {
        if relocation.symbol.0 == 0 {
            return Ok(RelocationTarget::Number(relocation.addend.cast_unsigned()));
        }
        let symbol = self
            .symbols
            .symbol(relocation.symbol)
            .map_err(|error| self.problem(error.to_string()))?;
        let value = symbol.st_value(ENDIAN);
        let addend = relocation.addend;
        // A definition elsewhere may come before the object's own.
        if !symbol.is_local() {
            let name = self.symbol_name(symbol)?;
            return Ok(RelocationTarget::Symbol { name, addend });
        }
        let Some(index) = self.section_of(relocation.symbol, symbol)? else {
            return Ok(RelocationTarget::Number(value.wrapping_add_signed(addend)));
        };
        let section = &self.sections[index.0];
        if let Some(node) = section.node {
            let offset = value.wrapping_add_signed(addend);
            return Ok(RelocationTarget::Node { node, section: index.0, offset });
        }
        if !section.has(elf::SHF_ALLOC) || !section.is_merged() {
            return Ok(RelocationTarget::Nothing);
        }
        let by_section = symbol.st_type() == elf::STT_SECTION;
        let piece = merged::piece(section, relocation.kind, value, addend, by_section)
            .ok_or_else(|| self.problem("a reference to merged constants leads outside of them"))?;
        Ok(RelocationTarget::Piece { bytes: piece.bytes, skip: piece.skip })
    }

    /// The target of a reference relative to the next instruction, or by a table of addresses, if it is the
    /// target's very start.
    pub(super) fn start(
        &self,
        relocation: &Relocation,
    ) -> Result<Option<RelocationTarget<'data>>, UnknownLayout> {
        const BEFORE_START: u64 = 4_u64.wrapping_neg();
        let kinds = [
            elf::R_X86_64_PC32,
            elf::R_X86_64_PLT32,
            elf::R_X86_64_GOTPCREL,
            elf::R_X86_64_GOTPCRELX,
            elf::R_X86_64_REX_GOTPCRELX,
        ];
        let target = self.destination(relocation)?;
        let is_start = match &target {
            RelocationTarget::Node { offset, .. } => *offset == BEFORE_START,
            RelocationTarget::Symbol { addend, .. } => *addend == -4,
            _ => false,
        };
        Ok(Some(target).filter(|_| is_start && kinds.contains(&relocation.kind)))
    }

    /// The panic locations, by their nodes, with the number of references to each.
    pub(super) fn location_uses(&self) -> Result<BTreeMap<u32, LocationUses>, UnknownLayout> {
        let mut uses: BTreeMap<u32, LocationUses> = BTreeMap::new();
        for section in &self.sections {
            if let Some(node) = section.node
                && self.is_location(section)?
            {
                uses.insert(node, LocationUses::default());
            }
        }
        if uses.is_empty() {
            return Ok(uses);
        }
        for relocation in self.sections.iter().flat_map(|section| &section.relocations) {
            if let RelocationTarget::Node { node, .. } = self.destination(relocation)?
                && let Some(uses) = uses.get_mut(&node)
            {
                uses.unknown += 1;
            }
        }
        Ok(uses)
    }

    fn section(&self, index: SectionIndex) -> Result<&Section<'data>, UnknownLayout> {
        self.sections.get(index.0).ok_or_else(|| self.problem("a symbol of no section"))
    }

    /// The section in which `symbol` is defined.
    pub(super) fn section_of(
        &self,
        index: SymbolIndex,
        symbol: &elf::Sym64<Endian>,
    ) -> Result<Option<SectionIndex>, UnknownLayout> {
        let section = self.symbols.symbol_section(ENDIAN, symbol, index);
        let section = section.map_err(|error| self.problem(error.to_string()))?;
        section.map(|section| self.section(section).map(|_| section)).transpose()
    }

    /// Each node's unwind information.
    pub(super) fn frames(&self) -> Result<HashMap<u32, Vec<Frame>>, UnknownLayout> {
        let mut frames: HashMap<u32, Vec<Frame>> = HashMap::new();
        for section in self.sections.iter().filter(|section| section.name == ".eh_frame") {
            let found = unwind::frames(section)
                .ok_or_else(|| self.problem("its unwind information is not understood"))?;
            for mut frame in found {
                let RelocationTarget::Node { node, offset, .. } =
                    self.destination(&frame.function)?
                else {
                    return Err(self.problem("its unwind information is of no section"));
                };
                frame.offset = offset;
                frames.entry(node).or_default().push(frame);
            }
        }
        Ok(frames)
    }

    /// Whether `section` is a panic location: file, line and column.
    ///
    /// Its file's name is text with a NUL that its length leaves out. A text of the program's own
    /// has no NUL, or its length counts it.
    pub(super) fn is_location(&self, section: &Section<'_>) -> Result<bool, UnknownLayout> {
        let [relocation] = section.relocations[..] else { return Ok(false) };
        if !self.by_rustc
            || section.bytes.len() != 24
            || !section.name.starts_with(".data.rel.ro")
            || (relocation.offset, relocation.kind) != (0, elf::R_X86_64_64)
        {
            return Ok(false);
        }
        let RelocationTarget::Piece { bytes, .. } = self.destination(&relocation)? else {
            return Ok(false);
        };
        let length = (bytes.len() as u64).wrapping_sub(1);
        Ok(bytes.ends_with(b".rs\0") && section.bytes[8..16] == length.to_le_bytes())
    }
}

fn read_relocations(
    name: &str,
    data: &[u8],
    table: &SectionTable<'_, Elf>,
    sections: &mut [Section<'_>],
) -> Result<(), UnknownLayout> {
    let failed = |error: object::Error| UnknownLayout::object(name, error.to_string());
    for section in table.iter() {
        let kind = section.sh_type(ENDIAN);
        if ![elf::SHT_REL, elf::SHT_RELA, SHT_CREL].contains(&kind) {
            continue;
        }
        let Some(target) = sections.get_mut(section.sh_info(ENDIAN) as usize) else {
            return Err(UnknownLayout::object(name, "relocations of no section"));
        };
        if !target.has(elf::SHF_ALLOC) {
            continue;
        }
        let Some((entries, _)) = section.rela(ENDIAN, data).map_err(failed)? else {
            return Err(UnknownLayout::object(name, "relocations of an unknown form"));
        };
        target.relocations.extend(entries.iter().map(|entry| Relocation {
            offset: entry.r_offset.get(ENDIAN),
            kind: entry.r_type(ENDIAN, false),
            symbol: SymbolIndex(entry.r_sym(ENDIAN, false) as usize),
            addend: entry.r_addend.get(ENDIAN),
        }));
        target.relocations.sort_by_key(|relocation| relocation.offset);
    }
    Ok(())
}
