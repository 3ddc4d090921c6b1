//! Unwind information, record by record: each function owns its part of `.eh_frame`.

use super::section::{Relocation, Section};

/// One record without its length and what depends on its place.
#[derive(Debug, Default)]
pub(super) struct FrameRecord {
    /// Its offset in the section.
    pub(super) start: u64,
    /// Its bytes without the padding, whose length depends on the place too.
    pub(super) bytes: Vec<u8>,
    pub(super) relocations: Vec<Relocation>,
}

/// The unwind information of one function.
#[derive(Debug)]
pub(super) struct Frame {
    /// The relocation that leads to the function.
    pub(super) function: Relocation,
    /// The offset of the function in its section, as far as known.
    pub(super) offset: u64,
    /// The record that several functions share.
    pub(super) common: FrameRecord,
    pub(super) own: FrameRecord,
}

/// All frames of the section `.eh_frame`; `None` if it is not understood to the end.
pub(super) fn frames(section: &Section<'_>) -> Option<Vec<Frame>> {
    let number = |at: usize| {
        Some(u32::from_le_bytes(section.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
    };
    let mut frames = Vec::new();
    let mut at = 0;
    while at < section.bytes.len() {
        let length = number(at)? as usize;
        if length == 0 {
            at += 4;
            continue;
        }
        if length >= 0xffff_fff0 {
            return None;
        }
        let end = at.checked_add(4)?.checked_add(length)?;
        let distance = number(at + 4)? as usize;
        if distance != 0 {
            let common = (at + 4).checked_sub(distance)?;
            if number(common + 4)? != 0 {
                return None;
            }
            let common_end = common.checked_add(4)?.checked_add(number(common)? as usize)?;
            let own = record(section, at + 8, end)?;
            // A record begins with its function's address, and the linker must know that.
            let function =
                own.relocations.first().copied().filter(|first| first.offset == own.start)?;
            let common = record(section, common + 8, common_end)?;
            let mut own = own;
            own.relocations.remove(0);
            frames.push(Frame { function, offset: 0, common, own });
        }
        at = end;
    }
    Some(frames)
}

fn record(section: &Section<'_>, start: usize, end: usize) -> Option<FrameRecord> {
    let bytes = section.bytes.get(start..end)?;
    let length = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let (start, end) = (start as u64, end as u64);
    let from = section.relocations.partition_point(|relocation| relocation.offset < start);
    let to = section.relocations.partition_point(|relocation| relocation.offset < end);
    let relocations = section.relocations.get(from..to)?.to_vec();
    Some(FrameRecord { start, bytes: bytes[..length].to_vec(), relocations })
}

#[cfg(test)]
mod tests {
    use object::{SymbolIndex, elf};

    use super::*;

    fn section(bytes: &[u8], relocations: Vec<Relocation>) -> Section<'_> {
        Section {
            name: ".eh_frame",
            flags: elf::SHF_ALLOC.into(),
            kind: elf::SHT_PROGBITS,
            size: bytes.len() as u64,
            align: 8,
            entry_size: 0,
            bytes,
            relocations,
            node: None,
        }
    }

    fn at(offset: u64) -> Relocation {
        Relocation { offset, kind: elf::R_X86_64_PC32, symbol: SymbolIndex(1), addend: 0 }
    }

    /// A shared record with one relocation, and a function's at `padding` bytes behind it.
    fn table(padding: usize) -> Vec<u8> {
        let mut bytes = vec![16, 0, 0, 0, 0, 0, 0, 0, b'z', 1, 2, 0, 0, 0, 0, 3, 0, 0, 0, 0];
        bytes.resize(bytes.len() + padding, 0);
        bytes[0] += padding as u8;
        let own = bytes.len();
        bytes.extend([12 + padding as u8, 0, 0, 0, own as u8 + 4, 0, 0, 0]);
        bytes.extend([0, 0, 0, 0, 7, 8, 9, 0]);
        bytes.resize(bytes.len() + padding, 0);
        bytes
    }

    #[test]
    fn padding_and_place_do_not_count() {
        let look = |padding: usize| {
            let bytes = table(padding);
            let own = 20 + padding as u64;
            let found = frames(&section(&bytes, vec![at(11), at(own + 8), at(own + 12)])).unwrap();
            let [frame] = &found[..] else { panic!("{found:?}") };
            assert_eq!(frame.function.offset, own + 8);
            assert_eq!(frame.common.relocations[0].offset - frame.common.start, 3);
            assert_eq!(frame.own.relocations[0].offset - frame.own.start, 4);
            (frame.common.bytes.clone(), frame.own.bytes.clone())
        };
        assert_eq!(look(0), look(4));
        assert_eq!(look(0).1, [0, 0, 0, 0, 7, 8, 9]);
    }

    #[test]
    fn anything_odd_is_refused() {
        let bytes = table(0);
        let refused = |bytes: &[u8], relocations| frames(&section(bytes, relocations)).is_none();
        assert!(!refused(&bytes, vec![at(28)]));
        assert!(refused(&bytes, Vec::new()), "a function without an address");
        assert!(refused(&bytes, vec![at(29)]), "an address elsewhere");
        assert!(refused(&bytes[..30], vec![at(28)]), "cut off");
        let mut lost = bytes.clone();
        lost[24] = 8;
        assert!(refused(&lost, vec![at(28)]), "no shared record there");
        assert!(refused(&[0xff; 16], Vec::new()), "64 bits");
    }
}
