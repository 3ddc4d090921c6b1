//! Output in bounded memory: its beginning and its end.

/// How many bytes of either end are stored.
pub(super) const MOST_OUTPUT: usize = 4 * 1024 * 1024;

/// Bytes of which at most a head and a tail are stored.
#[derive(Debug)]
pub(super) struct Bounded {
    head: Vec<u8>,
    tail: Vec<u8>,
    total: u64,
    keep: usize,
}

impl Bounded {
    /// Keeps `keep` bytes of either end.
    pub(super) fn new(keep: usize) -> Self {
        Self { head: Vec::new(), tail: Vec::new(), total: 0, keep }
    }

    /// Adds bytes at the end. Costs the same whatever came before.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = (self.keep - self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        let rest = &bytes[room..];
        let rest = &rest[rest.len().saturating_sub(self.keep)..];
        self.tail.extend_from_slice(rest);
        // Rarely, so that every byte is moved at most about once.
        if self.tail.len() >= 2 * self.keep {
            self.tail.drain(..self.tail.len() - self.keep);
        }
    }

    /// The stored bytes, with a line in the middle that says how many are missing, if any.
    pub(super) fn bytes(mut self) -> Vec<u8> {
        let surplus = self.tail.len().saturating_sub(self.keep);
        self.tail.drain(..surplus);
        let kept = (self.head.len() + self.tail.len()) as u64;
        if kept < self.total {
            let missing = format!("\n[... {} bytes left out ...]\n", self.total - kept);
            self.head.extend_from_slice(missing.as_bytes());
        }
        self.head.append(&mut self.tail);
        self.head
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_ends_survive(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..30),
            keep in 1usize..20,
        ) {
            let all = pieces.concat();
            let mut bounded = Bounded::new(keep);
            for piece in &pieces {
                bounded.push(piece);
                prop_assert!(bounded.tail.len() <= 2 * keep && bounded.head.len() <= keep);
            }
            let kept = bounded.bytes();
            if all.len() <= 2 * keep {
                prop_assert_eq!(kept, all);
            } else {
                prop_assert!(kept.starts_with(&all[..keep]));
                prop_assert!(kept.ends_with(&all[all.len() - keep..]));
                let missing = format!("[... {} bytes left out ...]", all.len() - 2 * keep);
                prop_assert!(String::from_utf8_lossy(&kept).contains(&missing));
            }
        }
    }
}
