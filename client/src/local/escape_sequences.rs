//! Escape sequences in text for a terminal (ECMA-48). Pure.

/// `words` without the sequences that colour them or make links of them.
pub fn strip(words: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(words.len());
    let mut rest = words;
    while let Some(at) = memchr::memchr(0x1b, rest) {
        plain.extend_from_slice(&rest[..at]);
        let sequence = &rest[at + 1..];
        let len = match sequence.first() {
            Some(b'[') => sequence[1..]
                .iter()
                .position(|byte| (0x40..0x7f).contains(byte))
                .map(|end| end + 2),
            // It ends with a bell, or with an escape and a backslash, which goes next.
            Some(b']') => memchr::memchr2(0x07, 0x1b, sequence)
                .map(|end| end + usize::from(sequence[end] == 0x07)),
            Some(b'\\') => Some(1),
            _ => Some(0),
        };
        rest = &sequence[len.unwrap_or(sequence.len())..];
    }
    plain.extend_from_slice(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_go_and_words_stay() {
        for (words, plain) in [
            ("a.c:1: note", "a.c:1: note"),
            ("\x1b[01m\x1b[Kcc1:\x1b[m\x1b[K x", "cc1: x"),
            ("[\x1b]8;;https://a/b\x07-Wall\x1b]8;;\x07]", "[-Wall]"),
            ("[\x1b]8;;https://a/b\x1b\\-Wall\x1b]8;;\x1b\\]", "[-Wall]"),
            ("a\x1b", "a"),
            ("a\x1b[12", "a"),
            ("a\x1b]8", "a"),
            ("a\x1bb", "ab"),
        ] {
            let found = strip(words.as_bytes());
            assert_eq!(String::from_utf8(found).unwrap(), plain, "{words:?}");
        }
    }
}
