//! Machine code as an object has it, to be found again in the program.
//!
//! The linker writes addresses into a function and may replace the instructions that use them.
//! Everything else of a function is equal in the object and in the program, or the program was
//! linked from something else.

use std::hash::{DefaultHasher, Hasher as _};

/// One function of an object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FunctionBody {
    /// Its name's place among the object's names.
    pub(super) name: u32,
    size: usize,
    /// Offsets at which the linker writes addresses.
    addresses: Vec<usize>,
    hash: u64,
}

impl FunctionBody {
    /// The function called `name` with this code, in which the linker writes at `addresses`.
    pub(super) fn new(name: u32, code: &[u8], addresses: Vec<usize>) -> Self {
        let hash = hash(code, &addresses);
        Self { name, size: code.len(), addresses, hash }
    }

    /// Whether `code` is this function after the link.
    pub(super) fn is(&self, code: &[u8]) -> bool {
        code.len() == self.size && hash(code, &self.addresses) == self.hash
    }
}

/// A hash of what the linker leaves alone. The longest sequence that it replaces has 4 bytes
/// before the first address and 12 from there on.
fn hash(code: &[u8], addresses: &[usize]) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut from = 0;
    for address in addresses {
        let to = address.saturating_sub(4).min(code.len());
        if to > from {
            hasher.write(&code[from..to]);
        }
        from = from.max(address.saturating_add(12)).min(code.len());
    }
    hasher.write(&code[from..]);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_linker_writes_may_differ() {
        let code: Vec<u8> = (0..64).collect();
        let body = FunctionBody::new(0, &code, vec![20, 30]);
        assert!(body.is(&code));
        for at in 0..code.len() {
            let mut other = code.clone();
            other[at] = 0xff;
            assert_eq!(body.is(&other), (16..42).contains(&at), "{at}");
        }
        assert!(!body.is(&code[..63]));
        assert!(FunctionBody::new(0, &[], vec![9]).is(&[]));
    }
}
