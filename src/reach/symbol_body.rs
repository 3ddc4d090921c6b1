//! Functions and data as an object has them, to be found again in the program.
//!
//! The linker writes addresses into a function and may replace the instructions that use them.
//! Everything else of it is equal in the object and in the program, or the program was linked from
//! something else. The same holds for data.

use std::hash::{DefaultHasher, Hasher as _};
use std::ops::Range;

use super::section::Relocation;

/// The longest sequence that the linker replaces has so many bytes before the first address, and so many
/// from there on.
const BEFORE: u64 = 4;
const FROM: u64 = 12;

/// A place in an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodePlace {
    pub(super) node: u32,
    pub(super) offset: u64,
}

/// One function of an object, or one constant or variable.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SymbolBody {
    /// Its name's place among the object's names.
    pub(super) name: u32,
    /// Whether only its object can refer to it.
    pub(super) is_local: bool,
    /// Where it begins.
    pub(super) place: NodePlace,
    size: usize,
    /// What the linker may replace, which can reach beyond the end.
    replaced: Vec<Range<usize>>,
    hash: u64,
}

impl SymbolBody {
    /// The symbol `name` with these bytes, which are at `place`. `relocations` are those of the section,
    /// in order.
    pub(super) fn new(
        name: u32,
        is_local: bool,
        place: NodePlace,
        bytes: &[u8],
        relocations: &[Relocation],
    ) -> Self {
        let start = place.offset;
        let end = start.saturating_add(bytes.len() as u64);
        let first = relocations.partition_point(|one| one.offset.saturating_add(FROM) <= start);
        let behind = relocations.partition_point(|one| one.offset < end.saturating_add(BEFORE));
        let within = relocations.get(first..behind).unwrap_or_default();
        let kept = |one: &Relocation| {
            let from = one.offset.saturating_sub(BEFORE).saturating_sub(start) as usize;
            let to = one.offset.saturating_add(FROM).saturating_sub(start) as usize;
            from..to
        };
        let replaced: Vec<_> = within.iter().map(kept).collect();
        let hash = hash(bytes, &replaced);
        Self { name, is_local, place, size: bytes.len(), replaced, hash }
    }

    /// Whether `bytes` are this symbol's after the link.
    pub(super) fn is(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.size && hash(bytes, &self.replaced) == self.hash
    }
}

/// A hash of what the linker leaves alone.
fn hash(bytes: &[u8], replaced: &[Range<usize>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut from = 0;
    for range in replaced {
        let to = range.start.min(bytes.len());
        if to > from {
            hasher.write(&bytes[from..to]);
        }
        from = from.max(range.end).min(bytes.len());
    }
    hasher.write(&bytes[from..]);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use object::{SymbolIndex, elf};

    use super::*;

    #[test]
    fn only_what_the_linker_writes_may_differ() {
        let code: Vec<u8> = (0..64).collect();
        let body = |start, addresses: &[u64]| {
            let relocation = |offset: &u64| Relocation {
                offset: *offset,
                kind: elf::R_X86_64_PC32,
                symbol: SymbolIndex(0),
                addend: 0,
            };
            let relocations: Vec<_> = addresses.iter().map(relocation).collect();
            SymbolBody::new(0, false, NodePlace { node: 0, offset: start }, &code, &relocations)
        };
        let may_differ = |body: &SymbolBody| {
            assert!(body.is(&code) && !body.is(&code[..63]));
            let differs = |at: &usize| {
                let mut other = code.clone();
                other[*at] = 0xff;
                body.is(&other)
            };
            (0..code.len()).filter(differs).collect::<Vec<_>>()
        };
        assert_eq!(may_differ(&body(0, &[20, 30])), (16..42).collect::<Vec<_>>());
        // Those of what stands before and behind it in its section can reach into it.
        let of_others = body(100, &[70, 92, 167, 168]);
        assert_eq!(may_differ(&of_others), [0, 1, 2, 3, 63]);
        assert!(SymbolBody::new(0, true, NodePlace { node: 0, offset: 9 }, &[], &[]).is(&[]));
    }
}
