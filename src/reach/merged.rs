//! Sections of strings and constants of which the linker merges equal ones.
//!
//! All functions of a code unit share them, so each piece is part of what refers to it.

use object::elf;

use super::section::Section;

/// The part of a section of merged pieces that a relocation addresses.
pub(super) struct Piece<'a> {
    pub(super) bytes: &'a [u8],
    /// The distance from the start of `bytes` to the address.
    pub(super) skip: i64,
}

/// The piece of `section` that a relocation of `kind` addresses by a symbol at `value`.
///
/// The linker finds the piece by the symbol, unless the symbol is that of the whole section. Then
/// an address relative to the next instruction is off by 4 to 8 bytes, depending on what follows
/// it in the instruction, so everything that it can touch counts.
pub(super) fn piece<'a>(
    section: &Section<'a>,
    kind: u32,
    value: u64,
    addend: i64,
    by_section: bool,
) -> Option<Piece<'a>> {
    if !by_section {
        let start = usize::try_from(value).ok()?;
        return Some(Piece { bytes: from(section, start, start)?, skip: addend });
    }
    let address = value.checked_add_signed(addend);
    if kind == elf::R_X86_64_64 || kind == elf::R_X86_64_32 || kind == elf::R_X86_64_32S {
        let start = usize::try_from(address?).ok()?;
        return Some(Piece { bytes: from(section, start, start)?, skip: 0 });
    }
    let first = usize::try_from(value.cast_signed().checked_add(addend)?.max(0)).ok()?;
    let last = usize::try_from(value.cast_signed().checked_add(addend)?.checked_add(8)?).ok()?;
    let last = last.min(section.bytes.len().checked_sub(1)?);
    Some(Piece { bytes: from(section, first.min(last), last)?, skip: 0 })
}

/// The bytes from `first` to the end of the piece in which `last` lies.
fn from<'a>(section: &Section<'a>, first: usize, last: usize) -> Option<&'a [u8]> {
    let size = usize::try_from(section.entry_size).ok()?;
    let bytes = section.bytes;
    if first > last || last >= bytes.len() {
        return None;
    }
    let mut end = last - last % size + size;
    if section.has(elf::SHF_STRINGS) {
        // A string ends with a character of zeros.
        while bytes.get(end - size..end)?.iter().any(|byte| *byte != 0) {
            end += size;
        }
    }
    bytes.get(first..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(flags: u32, entry_size: u64, bytes: &[u8]) -> Section<'_> {
        Section {
            name: ".rodata.test",
            flags: (flags | elf::SHF_ALLOC | elf::SHF_MERGE).into(),
            kind: elf::SHT_PROGBITS,
            size: bytes.len() as u64,
            align: 1,
            entry_size,
            bytes,
            relocations: Vec::new(),
            node: None,
        }
    }

    fn found(
        section: &Section<'_>,
        kind: u32,
        value: u64,
        addend: i64,
        by_section: bool,
    ) -> String {
        let piece = piece(section, kind, value, addend, by_section);
        piece.map_or("nothing".to_owned(), |piece| {
            format!("{} {}", String::from_utf8_lossy(piece.bytes).replace('\0', "."), piece.skip)
        })
    }

    #[test]
    fn a_string_is_taken_to_its_end() {
        let strings = section(elf::SHF_STRINGS, 1, b"one\0two\0three\0");
        let (absolute, relative) = (elf::R_X86_64_64, elf::R_X86_64_PC32);
        assert_eq!(found(&strings, absolute, 0, 4, true), "two. 0");
        assert_eq!(found(&strings, absolute, 4, 1, false), "two. 1");
        assert_eq!(found(&strings, relative, 4, -4, false), "two. -4");
        // The address is 4 to 8 bytes further, by the section's symbol.
        assert_eq!(found(&strings, relative, 0, 0, true), "one.two.three. 0");
        assert_eq!(found(&strings, relative, 0, -4, true), "one.two. 0");
        assert_eq!(found(&strings, absolute, 0, 14, true), "nothing");
        let endless = section(elf::SHF_STRINGS, 1, b"end");
        assert_eq!(found(&endless, absolute, 0, 0, true), "nothing");
        let wide = section(elf::SHF_STRINGS, 2, b"a\0b\0\0\0c\0\0\0");
        assert_eq!(found(&wide, absolute, 0, 2, true), "b... 0");
    }

    #[test]
    fn a_constant_is_taken_whole() {
        let constants = section(0, 4, b"aaaabbbbccccdddd");
        assert_eq!(found(&constants, elf::R_X86_64_PC32, 8, -4, false), "cccc -4");
        assert_eq!(found(&constants, elf::R_X86_64_PC32, 0, 0, true), "aaaabbbbcccc 0");
        assert_eq!(found(&constants, elf::R_X86_64_64, 0, 16, true), "nothing");
        assert_eq!(found(&constants, elf::R_X86_64_64, u64::MAX, 1, true), "nothing");
    }
}
