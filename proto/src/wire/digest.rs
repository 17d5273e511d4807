//! BLAKE3 digests of blobs. Source: the BLAKE3 paper (O'Connor, Aumasson,
//! Neves, Wilcox-O'Hearn, 2020), through the `blake3` crate.

use std::fmt;

/// 32 bytes that stand for a content.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; Digest::LEN]);

/// The bytes on the wire were not a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotADigest {
    /// How many bytes there were instead of 32.
    pub len: usize,
}

impl Digest {
    /// Bytes of a digest.
    pub const LEN: usize = 32;

    /// The digest of `content`.
    pub fn of(content: &[u8]) -> Self {
        Digest(*blake3::hash(content).as_bytes())
    }

    /// As on the wire.
    pub fn as_bytes(&self) -> &[u8; Digest::LEN] {
        &self.0
    }

    /// 64 lower-case hexadecimal digits.
    pub fn to_hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// The inverse of [`Digest::to_hex`].
    pub fn from_hex(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text)
            .ok()
            .map(|hash| Digest(*hash.as_bytes()))
    }
}

impl TryFrom<&[u8]> for Digest {
    type Error = NotADigest;

    fn try_from(bytes: &[u8]) -> Result<Self, NotADigest> {
        match bytes.try_into() {
            Ok(array) => Ok(Digest(array)),
            Err(_) => Err(NotADigest { len: bytes.len() }),
        }
    }
}

impl fmt::Display for NotADigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a digest has {} bytes, not {}", Digest::LEN, self.len)
    }
}

impl std::error::Error for NotADigest {}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex()[..16])
    }
}

/// A digest in the making.
#[derive(Default, Clone)]
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// Nothing hashed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds a length and `bytes`, so that two fields never run into each other.
    pub fn field(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// The digest of all that was added.
    pub fn finish(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trip() {
        let digest = Digest::of(b"abc");
        // BLAKE3 of "abc", from the reference implementation's test vectors.
        assert_eq!(
            digest.to_hex(),
            "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
        );
        assert_eq!(Digest::from_hex(&digest.to_hex()), Some(digest));
        assert_eq!(Digest::from_hex("64"), None);
    }

    #[test]
    fn only_32_bytes() {
        assert_eq!(
            Digest::try_from(&[0u8; 31][..]),
            Err(NotADigest { len: 31 })
        );
        assert!(Digest::try_from(&[0u8; 32][..]).is_ok());
    }

    #[test]
    fn fields_do_not_run_together() {
        let mut one = Hasher::new();
        one.field(b"ab");
        one.field(b"c");
        let mut other = Hasher::new();
        other.field(b"a");
        other.field(b"bc");
        assert_ne!(one.finish(), other.finish());
    }
}
