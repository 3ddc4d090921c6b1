//! Keys, from the bytes that a terminal sends.

/// A key of the keyboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PressedKey {
    Char(char),
    /// With the Ctrl key.
    Ctrl(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Backspace,
}

/// Takes bytes apart. The bytes of one key may come in two pieces.
#[derive(Debug, Default)]
pub(super) struct KeyReader {
    pending: Vec<u8>,
}

impl KeyReader {
    /// The keys that are complete with these bytes.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Vec<PressedKey> {
        self.pending.extend_from_slice(bytes);
        let mut keys = Vec::new();
        while let Some((key, length)) = first_key(&self.pending) {
            self.pending.drain(..length);
            keys.extend(key);
        }
        keys
    }

    /// Whether bytes wait for others.
    pub(super) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Nothing more has come: a lone escape is that key.
    pub(super) fn give_up(&mut self) -> Option<PressedKey> {
        let is_escape = self.pending.first() == Some(&0x1b);
        self.pending.clear();
        is_escape.then_some(PressedKey::Escape)
    }
}

/// The first key with the number of its bytes; no key for a sequence that means none.
fn first_key(bytes: &[u8]) -> Option<(Option<PressedKey>, usize)> {
    let key = match *bytes.first()? {
        0x1b => return escape_sequence(bytes),
        b'\r' | b'\n' => PressedKey::Enter,
        0x7f | 0x08 => PressedKey::Backspace,
        byte @ 1..=26 => PressedKey::Ctrl(char::from(b'a' + byte - 1)),
        0..0x20 => return Some((None, 1)),
        byte @ 0x20..0x7f => PressedKey::Char(char::from(byte)),
        lead => {
            let length = match lead {
                0xc0..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0..=0xf7 => 4,
                _ => return Some((None, 1)),
            };
            let text = std::str::from_utf8(bytes.get(..length)?);
            return Some((
                text.ok().and_then(|text| text.chars().next()).map(PressedKey::Char),
                length,
            ));
        }
    };
    Some((Some(key), 1))
}

/// `ESC [ … letter`, `ESC O letter`, or a key with Alt, which means nothing here.
fn escape_sequence(bytes: &[u8]) -> Option<(Option<PressedKey>, usize)> {
    match bytes.get(1)? {
        0x1b => return Some((Some(PressedKey::Escape), 1)),
        b'[' | b'O' => {}
        _ => return Some((None, 2)),
    }
    let last = bytes[2..].iter().position(|byte| (0x40..0x7f).contains(byte))? + 2;
    let number = bytes[2..last].split(|byte| *byte == b';').next().unwrap_or_default();
    let key = match (bytes[last], number) {
        (b'A', _) => Some(PressedKey::Up),
        (b'B', _) => Some(PressedKey::Down),
        (b'H', _) | (b'~', b"1" | b"7") => Some(PressedKey::Home),
        (b'F', _) | (b'~', b"4" | b"8") => Some(PressedKey::End),
        (b'~', b"5") => Some(PressedKey::PageUp),
        (b'~', b"6") => Some(PressedKey::PageDown),
        (b'M', _) if bytes[1] == b'O' => Some(PressedKey::Enter),
        _ => None,
    };
    Some((key, last + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_keys_however_they_come() {
        let bytes = "q\x1b[A\x1bOB\x1b[5~\x1b[1;5H\x1b[200~é\r\x7f\x03\x1bx".as_bytes();
        let expected = [
            PressedKey::Char('q'),
            PressedKey::Up,
            PressedKey::Down,
            PressedKey::PageUp,
            PressedKey::Home,
            PressedKey::Char('é'),
            PressedKey::Enter,
            PressedKey::Backspace,
            PressedKey::Ctrl('c'),
        ];
        assert_eq!(KeyReader::default().read(bytes), expected);
        let mut reader = KeyReader::default();
        let keys: Vec<_> = bytes.iter().flat_map(|byte| reader.read(&[*byte])).collect();
        assert_eq!(keys, expected);
        assert!(!reader.is_waiting());
    }

    #[test]
    fn an_escape_is_a_key_when_nothing_follows() {
        let mut reader = KeyReader::default();
        assert_eq!(reader.read(b"\x1b"), []);
        assert!(reader.is_waiting());
        assert_eq!(reader.give_up(), Some(PressedKey::Escape));
        assert_eq!(reader.read(b"\x1b\x1b"), [PressedKey::Escape]);
        assert_eq!((reader.give_up(), reader.give_up()), (Some(PressedKey::Escape), None));
    }

    #[test]
    fn no_bytes_are_too_odd() {
        let mut reader = KeyReader::default();
        for byte in (0..=255u8).cycle().take(2_000) {
            reader.read(&[byte, 0xc3, byte, 0x1b, b'[', byte]);
        }
        reader.give_up();
        assert_eq!(reader.read(b"q"), [PressedKey::Char('q')]);
    }
}
