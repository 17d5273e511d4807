//! Keys, from the bytes that a terminal sends for them (ECMA-48, xterm). Pure.

/// A key that means something to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A plain one.
    Char(char),
    /// Arrows and their like.
    Up,
    /// See above.
    Down,
    /// See above.
    PageUp,
    /// See above.
    PageDown,
    /// See above.
    Home,
    /// See above.
    End,
    /// Anything else.
    Other,
}

/// Bytes of the longest sequence that is waited for.
const SEQUENCE_BYTES_MAX: usize = 16;

/// Bytes of a sequence that is not whole yet.
#[derive(Debug, Default)]
pub struct Keys(Vec<u8>);

impl Keys {
    /// The keys that `bytes` complete.
    pub fn read(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.0.extend_from_slice(bytes);
        let mut keys = Vec::new();
        let mut rest = &self.0[..];
        while let Some((key, length)) = first(rest) {
            keys.push(key);
            rest = &rest[length..];
        }
        self.0 = rest.to_vec();
        keys
    }
}

/// The first key of `bytes` and how many bytes it is; `None`: it is not whole.
fn first(bytes: &[u8]) -> Option<(Key, usize)> {
    let (first, rest) = bytes.split_first()?;
    match (first, rest.first()) {
        (0x1b, Some(b'[' | b'O')) => {
            let end = rest[1..]
                .iter()
                .position(|byte| (0x40..=0x7e).contains(byte));
            match end {
                Some(end) => Some((named(&rest[1..=end + 1]), end + 3)),
                None if bytes.len() >= SEQUENCE_BYTES_MAX => Some((Key::Other, bytes.len())),
                None => None,
            }
        }
        (0x1b, _) => Some((Key::Other, 1)),
        (byte @ 0x20..=0x7e, _) => Some((Key::Char(char::from(*byte)), 1)),
        _ => Some((Key::Other, 1)),
    }
}

/// The key of what stands behind `ESC [` or `ESC O`.
fn named(sequence: &[u8]) -> Key {
    match sequence {
        b"A" => Key::Up,
        b"B" => Key::Down,
        b"H" | b"1~" | b"7~" => Key::Home,
        b"F" | b"4~" | b"8~" => Key::End,
        b"5~" => Key::PageUp,
        b"6~" => Key::PageDown,
        _ => Key::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_may_come_in_pieces() {
        let mut keys = Keys::default();
        assert_eq!(
            keys.read(b"q\x1b[A\x1bOBj"),
            [Key::Char('q'), Key::Up, Key::Down, Key::Char('j')]
        );
        assert_eq!(keys.read(b"\x1b["), []);
        assert_eq!(keys.read(b"5"), []);
        assert_eq!(keys.read(b"~\x1b[1;5C"), [Key::PageUp, Key::Other]);
        // Escape itself, and what is no key.
        assert_eq!(keys.read(b"\x1b"), [Key::Other]);
        assert_eq!(keys.read(b"\x00\xff"), [Key::Other, Key::Other]);
        let endless = [&b"\x1b["[..], &[b'1'; 40]].concat();
        assert_eq!(keys.read(&endless).len(), 1);
        assert_eq!(keys.read(b"k"), [Key::Char('k')]);
    }
}
