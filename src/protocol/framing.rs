//! Lines on the wire: one JSON object and a newline, bounded in size.

use serde::Serialize;

/// The largest message in bytes. An environment is at most 2 MiB on Linux; escaped, four times
/// that.
pub(crate) const MAX_MESSAGE: usize = 16 << 20;

/// Why bytes are not a message.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// More than [`MAX_MESSAGE`] bytes with no end of line.
    #[error("message of more than {limit} bytes", limit = MAX_MESSAGE)]
    TooLong,
    /// Not the JSON that was expected.
    #[error("not a message of this protocol: {0}")]
    Garbage(#[from] serde_json::Error),
}

/// A message as bytes, its newline included. JSON escapes every newline inside.
///
/// # Errors
/// If it is longer than [`MAX_MESSAGE`].
pub(crate) fn encode(message: &impl Serialize) -> Result<Vec<u8>, FrameError> {
    let mut bytes = serde_json::to_vec(message)?;
    bytes.push(b'\n');
    if bytes.len() > MAX_MESSAGE { Err(FrameError::TooLong) } else { Ok(bytes) }
}

/// Collects bytes until a line is whole.
#[derive(Debug, Default)]
pub(crate) struct LineBuffer {
    bytes: Vec<u8>,
    /// How far the bytes are known to hold no newline.
    searched: usize,
}

impl LineBuffer {
    /// Adds what was read.
    ///
    /// # Errors
    /// If the line under way is longer than [`MAX_MESSAGE`].
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        self.bytes.extend_from_slice(bytes);
        let too_long = self.bytes.len() > MAX_MESSAGE && !self.bytes.contains(&b'\n');
        if too_long { Err(FrameError::TooLong) } else { Ok(()) }
    }

    /// The next whole line, without its newline.
    pub(crate) fn next_line(&mut self) -> Option<Vec<u8>> {
        let found = self.bytes[self.searched..].iter().position(|b| *b == b'\n');
        let Some(at) = found.map(|at| self.searched + at) else {
            self.searched = self.bytes.len();
            return None;
        };
        let rest = self.bytes.split_off(at + 1);
        let mut line = std::mem::replace(&mut self.bytes, rest);
        line.pop();
        self.searched = 0;
        Some(line)
    }

    /// Whether a line has begun and not ended.
    #[must_use]
    pub(crate) fn is_partial(&self) -> bool {
        !self.bytes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_without_end_is_bounded() {
        let mut buffer = LineBuffer::default();
        let chunk = vec![b'x'; 1 << 20];
        let pushed = (0..32).take_while(|_| buffer.push(&chunk).is_ok()).count();
        assert_eq!(pushed, MAX_MESSAGE >> 20);
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_they_arrive(
            lines in prop::collection::vec("[a-z]{0,9}", 0..9), step in 1usize..7,
        ) {
            let mut wire = lines.join("\n").into_bytes();
            wire.push(b'\n');
            let mut buffer = LineBuffer::default();
            let mut seen = Vec::new();
            for chunk in wire.chunks(step) {
                buffer.push(chunk).unwrap();
                while let Some(line) = buffer.next_line() {
                    seen.push(String::from_utf8(line).unwrap());
                }
            }
            let expected = if lines.is_empty() { vec![String::new()] } else { lines };
            prop_assert_eq!(seen, expected);
            prop_assert!(!buffer.is_partial());
        }
    }
}
