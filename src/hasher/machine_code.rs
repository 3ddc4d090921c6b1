//! What the code and the data of a program refer to, by addresses: on x86_64 without a disassembler.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;

use object::elf::{PF_W, PF_X};
use object::{
    Object as _, ObjectKind, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _,
    ObjectSymbolTable as _, ReadRef, RelocationTarget, SegmentFlags,
};

/// A loaded part of a program, or a whole file.
pub(super) struct LoadedPart<'a> {
    pub(super) content: &'a [u8],
    pub(super) address: u64,
    pub(super) is_code: bool,
    pub(super) is_writable: bool,
}

/// The parts of a program that are loaded when it runs.
///
/// # Errors
/// If one of them cannot be read.
pub(super) fn loaded_parts<'data>(
    program: &object::File<'data, impl ReadRef<'data>>,
) -> io::Result<Vec<LoadedPart<'data>>> {
    let mut parts = Vec::new();
    for segment in program.segments() {
        let SegmentFlags::Elf { p_flags } = segment.flags() else { continue };
        parts.push(LoadedPart {
            content: segment.data().map_err(io::Error::other)?,
            address: segment.address(),
            is_code: p_flags & PF_X != 0,
            is_writable: p_flags & PF_W != 0,
        });
    }
    Ok(parts)
}

/// The name of a symbol as a source has it.
pub(super) fn readable(name: &[u8]) -> String {
    format!("{:#}", rustc_demangle::demangle(&String::from_utf8_lossy(name)))
}

/// The slots by which code reaches what it imports by these names.
pub(super) fn import_slots<'data>(
    program: &object::File<'data, impl ReadRef<'data>>,
    is_wanted: impl Fn(&[u8]) -> bool,
) -> Vec<u64> {
    let is_import = |relocation: &object::Relocation| match relocation.target() {
        RelocationTarget::Symbol(index) => program
            .dynamic_symbol_table()
            .and_then(|table| table.symbol_by_index(index).ok()?.name_bytes().ok())
            .is_some_and(&is_wanted),
        _ => false,
    };
    let slots = program.dynamic_relocations().into_iter().flatten();
    slots.filter(|(_, to)| is_import(to)).map(|(at, _)| at).collect()
}

/// Where a symbol lies.
pub(super) fn extent<'data>(symbol: &impl object::ObjectSymbol<'data>) -> Range<u64> {
    symbol.address()..symbol.address().saturating_add(symbol.size())
}

/// Functions of a program, by their places.
pub(super) struct Functions(Vec<Range<u64>>);

impl FromIterator<Range<u64>> for Functions {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(places: I) -> Self {
        let mut places: Vec<_> = places.into_iter().collect();
        places.sort_unstable_by_key(|function| function.start);
        Self(places)
    }
}

impl Functions {
    /// Whether one of them contains the address.
    pub(super) fn contain(&self, at: u64) -> bool {
        let after = self.0.partition_point(|function| function.start <= at);
        after.checked_sub(1).is_some_and(|index| self.0[index].contains(&at))
    }

    /// Where code begins, instruction by instruction, that reaches to the address: the start of the
    /// function around it, or the end of the one before. `None` if none comes before.
    pub(super) fn code_start(&self, at: u64) -> Option<u64> {
        let after = self.0.partition_point(|function| function.start <= at);
        let before = &self.0[after.checked_sub(1)?];
        Some(if before.end > at { before.start } else { before.end.max(before.start) })
    }
}

/// Whether data of a program points to one of these places, or code at an address that counts
/// refers to one.
pub(super) fn refers_to<'data>(
    program: &object::File<'data, impl ReadRef<'data>>,
    parts: &[LoadedPart<'_>],
    places: &BTreeSet<u64>,
    counts: impl Fn(u64) -> bool,
) -> bool {
    // Code refers to what may lie elsewhere by a slot of this table.
    let slots = program
        .section_by_name(".got")
        .map(|got| got.address()..got.address().saturating_add(got.size()));
    let mut places = places.clone();
    // The linker writes most pointers only where the loader is told of them.
    for (at, to) in program.dynamic_relocations().into_iter().flatten() {
        if places.contains(&to.addend().cast_unsigned()) {
            if !slots.as_ref().is_some_and(|slots| slots.contains(&at)) {
                return true;
            }
            places.insert(at);
        }
    }
    let (Some(first), Some(last)) = (places.first(), places.last()) else { return false };
    let is_place = |address: &u64| (first..=last).contains(&address) && places.contains(address);
    let is_movable = program.kind() == ObjectKind::Dynamic;
    parts.iter().any(|part| {
        let to_aligned = part.address.wrapping_neg() % 8;
        let from = usize::try_from(to_aligned).unwrap_or_default().min(part.content.len());
        let pointers = part.content[from..].chunks_exact(8);
        let mut pointers =
            pointers.map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap_or_default()));
        // The loader writes the pointers of a program that can be moved.
        ((!is_movable || part.is_writable) && pointers.any(|pointer| is_place(&pointer)))
            || (part.is_code
                && references(part, is_movable).any(|(at, to)| is_place(&to) && counts(at)))
    })
}

/// All that could be an address in an instruction, with its place: relative to the end of the
/// instruction, or absolute where the program cannot be moved.
fn references<'a>(
    part: &'a LoadedPart<'_>,
    is_movable: bool,
) -> impl Iterator<Item = (u64, u64)> + use<'a> {
    part.content.windows(6).enumerate().flat_map(move |(before, bytes)| {
        let number = i32::from_le_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]);
        let at = part.address.wrapping_add(before as u64 + 2);
        let ends: &[u64] = match (bytes[0], bytes[1]) {
            // Calls and jumps end with the number. Conditional ones have a byte before; without it these
            // are operands on the stack.
            (_, 0xe8 | 0xe9) | (0x0f, 0x80..=0x8f) => &[4],
            // An operand at an address relative to the end, which `lea` only takes. For others a
            // constant of 1, 2 or 4 bytes may follow.
            (0x8d, operand) if operand & 0xc7 == 0x05 => &[4],
            (_, operand) if operand & 0xc7 == 0x05 => &[4, 5, 6, 8],
            _ => &[],
        };
        let relative =
            ends.iter().map(move |end| at.wrapping_add(*end).wrapping_add_signed(number.into()));
        let absolute = (!is_movable).then(|| u64::from(number.cast_unsigned()));
        relative.chain(absolute).map(move |to| (at, to))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_refers_to_an_address_relative_to_its_end() {
        let targets = |content: &[u8]| {
            let part = LoadedPart { content, address: 0x1000, is_code: true, is_writable: false };
            references(&part, true).map(|(at, to)| (at - 0x1000, to - 0x1000)).collect::<Vec<_>>()
        };
        // lea rdi, [rip + 0x10]; call +0x20; cmp qword ptr [rip + 0x30], 1
        assert!(targets(&[0x48, 0x8d, 0x3d, 0x10, 0, 0, 0]).contains(&(3, 0x17)));
        assert_eq!(targets(&[0x90, 0xe8, 0x20, 0, 0, 0]), [(2, 0x26)]);
        assert_eq!(targets(&[0x0f, 0x84, 0x20, 0, 0, 0]), [(2, 0x26)]);
        assert_eq!(targets(&[0x48, 0x89, 0x8c, 0x24, 0xa8, 0x15, 0, 0]), [], "mov [rsp + _], rcx");
        let compared = targets(&[0x48, 0x83, 0x3d, 0x30, 0, 0, 0, 1]);
        assert!(compared.contains(&(3, 0x38)), "{compared:?}");
        assert_eq!(targets(&[0x90; 16]), []);
        let part =
            LoadedPart { content: &[0xb8; 6], address: 0, is_code: true, is_writable: false };
        assert!(references(&part, false).any(|(_, to)| to == 0xb8b8_b8b8));
    }
}
