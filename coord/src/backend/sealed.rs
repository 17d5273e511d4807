//! A result as it lies in the backend: who can't have made it there is nobody to be
//! believed. Pure.
//!
//! `magic`, then keyed BLAKE3 over the key and the body, then the body. The key is no part
//! of what lies there, so that an entry under another name does not hold.

use std::fmt;

use hg_proto::wire::digest::Digest;

use crate::bounds::BACKEND_ENTRY_BYTES_MAX;

/// With the form's version.
const MAGIC: [u8; 8] = *b"hgrslt1\n";
/// Bytes before the body.
pub const HEAD_BYTES: usize = MAGIC.len() + TAG_BYTES;
const TAG_BYTES: usize = 32;
/// What the key of the tags is derived for.
const PURPOSE: &str = "hybridgrid 2026 results in a backend, tags";
/// What the name that a secret is known by is derived for.
const NAME_PURPOSE: &str = "hybridgrid 2026 results in a backend, name of the key";

/// What all coordinators know that share a backend, and nobody else.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.name())
    }
}

/// Why an entry counts as none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// Larger than any that is put there.
    TooLarge,
    /// It is no entry of ours, or was cut short before its body.
    NotAnEntry,
    /// Another entry's, damaged, or made by who has another key or none.
    NotAuthentic,
}

impl Secret {
    /// Of these bytes.
    pub fn new(bytes: [u8; 32]) -> Secret {
        Secret(bytes)
    }

    /// By what people tell secrets apart; says nothing of it.
    pub fn name(&self) -> String {
        let name = blake3::derive_key(NAME_PURPOSE, &self.0);
        name[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// `body` as it is put under `key`.
    pub fn seal(&self, key: &Digest, body: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(HEAD_BYTES + body.len());
        sealed.extend_from_slice(&MAGIC);
        sealed.extend_from_slice(self.tag(key, body).as_bytes());
        sealed.extend_from_slice(body);
        sealed
    }

    /// The body of what was found under `key`.
    ///
    /// # Errors
    /// It counts as none.
    pub fn open(&self, key: &Digest, mut sealed: Vec<u8>) -> Result<Vec<u8>, Rejected> {
        if sealed.len() > BACKEND_ENTRY_BYTES_MAX + HEAD_BYTES {
            return Err(Rejected::TooLarge);
        }
        let Some((head, body)) = sealed.split_at_checked(HEAD_BYTES) else {
            return Err(Rejected::NotAnEntry);
        };
        let tag = <[u8; TAG_BYTES]>::try_from(&head[MAGIC.len()..]);
        let Some(tag) = tag.ok().filter(|_| head.starts_with(&MAGIC)) else {
            return Err(Rejected::NotAnEntry);
        };
        // Takes the same time wherever they differ.
        if self.tag(key, body) != blake3::Hash::from(tag) {
            return Err(Rejected::NotAuthentic);
        }
        sealed.drain(..HEAD_BYTES);
        Ok(sealed)
    }

    fn tag(&self, key: &Digest, body: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&blake3::derive_key(PURPOSE, &self.0));
        hasher.update(&MAGIC);
        hasher.update(key.as_bytes());
        hasher.update(body);
        hasher.finalize()
    }
}

impl Rejected {
    /// What was found.
    pub fn words(self) -> &'static str {
        match self {
            Rejected::TooLarge => "an entry that is too large",
            Rejected::NotAnEntry => "what is no entry",
            Rejected::NotAuthentic => "an entry without our tag",
        }
    }

    /// As metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Rejected::TooLarge => "too-large",
            Rejected::NotAnEntry => "not-an-entry",
            Rejected::NotAuthentic => "not-authentic",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_under_its_key_and_by_its_secret_alone() {
        let (secret, other) = (Secret::new([1; 32]), Secret::new([2; 32]));
        let (key, another) = (Digest::of(b"a"), Digest::of(b"b"));
        let sealed = secret.seal(&key, b"body");
        assert_eq!(secret.open(&key, sealed.clone()), Ok(b"body".to_vec()));
        let rejected = Err(Rejected::NotAuthentic);
        assert_eq!(secret.open(&another, sealed.clone()), rejected);
        assert_eq!(other.open(&key, sealed), rejected);
        assert_ne!(secret.name(), other.name());
        assert!(!format!("{secret:?}").contains("1, 1"));
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let secret = Secret::new([1; 32]);
        let key = Digest::of(b"a");
        let good = secret.seal(&key, b"an object");
        for at in 0..good.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = good.clone();
                damaged[at] ^= flip;
                assert!(secret.open(&key, damaged).is_err(), "{at} {flip}");
            }
            assert!(secret.open(&key, good[..at].to_vec()).is_err(), "{at}");
        }
        let mut longer = good;
        longer.push(0);
        assert!(secret.open(&key, longer).is_err());
    }

    #[test]
    fn what_is_too_large_is_not_looked_at() {
        let secret = Secret::new([1; 32]);
        let key = Digest::of(b"a");
        let sealed = secret.seal(&key, &vec![0; BACKEND_ENTRY_BYTES_MAX + 1]);
        assert_eq!(secret.open(&key, sealed), Err(Rejected::TooLarge));
    }
}
