//! SHA-256 digests and the one way in which several fields become one digest.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest; printed, parsed and stored as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes` as they are, equal to what `sha256sum` prints.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of everything that `reader` yields, and how many bytes that was.
    ///
    /// # Errors
    /// The first error of the reader other than an interruption.
    pub(crate) fn of_reader(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<(Self, u64)> {
        let mut state = Sha256::new();
        let mut total = 0;
        loop {
            match reader.read(buffer) {
                Ok(0) => return Ok((Self(state.finalize().into()), total)),
                Ok(n) => {
                    state.update(&buffer[..n]);
                    total += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The 32 bytes.
    #[must_use]
    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A digest from its 32 bytes, as read back from a binary file.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The first 12 hexadecimal digits: enough for a person to tell two apart.
    #[must_use]
    pub(crate) fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256 digest: expected 64 hexadecimal digits")]
pub struct ParseDigestError;

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.as_bytes();
        if text.len() != 64 {
            return Err(ParseDigestError);
        }
        let nibble = |c: u8| match c {
            b'0'..=b'9' => Ok(c - b'0'),
            b'a'..=b'f' => Ok(c - b'a' + 10),
            _ => Err(ParseDigestError),
        };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Builds one digest from several fields.
///
/// Every field is written with its length first, so that no two different sequences of fields
/// give the same bytes; the domain keeps digests of different things apart.
#[derive(Clone)]
pub(crate) struct Digester(Sha256);

impl Digester {
    /// Starts a digest in `domain`, a fixed text that names what is digested and its version.
    #[must_use]
    pub(crate) fn new(domain: &str) -> Self {
        let mut this = Self(Sha256::new());
        this.field(domain.as_bytes());
        this
    }

    /// Adds one field of any length.
    pub(crate) fn field(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds a number.
    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        self.field(&number.to_le_bytes())
    }

    /// Adds another digest.
    pub(crate) fn digest(&mut self, digest: &Digest) -> &mut Self {
        self.field(digest.as_bytes())
    }

    /// The digest of all fields so far.
    #[must_use]
    pub(crate) fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digester")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_answer() {
        assert_eq!(
            Digest::of(b"abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn reader_agrees_with_slice() {
        let bytes = vec![7; 100_001];
        let (digest, total) = Digest::of_reader(&mut &bytes[..], &mut [0; 4096]).unwrap();
        assert_eq!((digest, total), (Digest::of(&bytes), 100_001));
    }

    #[test]
    fn bad_texts_are_refused() {
        for text in ["", "ab", &"g".repeat(64), &"A".repeat(64), &"é".repeat(32)] {
            assert_eq!(text.parse::<Digest>(), Err(ParseDigestError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_round_trip(bytes: [u8; 32]) {
            let digest = Digest::from_bytes(bytes);
            prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        }

        #[test]
        fn moving_a_field_boundary_changes_the_digest(text in "[a-z]{2,20}", cut in 1usize..19) {
            prop_assume!(cut < text.len());
            let (left, right) = text.split_at(cut);
            let mut one = Digester::new("t");
            one.field(text.as_bytes());
            let mut two = Digester::new("t");
            two.field(left.as_bytes()).field(right.as_bytes());
            prop_assert_ne!(one.finish(), two.finish());
        }
    }
}
