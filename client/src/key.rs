//! What an answer depends on beside the content of files: every part, in order,
//! by name, so that it can be shown what changed. Pure.

use xxhash_rust::xxh3::Xxh3;

/// Changes when entries mean something else.
const FORMAT: &str = "hgbuild cache 1";

/// One thing that an answer depends on.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Part {
    /// What it is: `argument`, `directory`, `environment` ...
    #[prost(string, tag = "1")]
    pub what: String,
    /// Its value.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// All parts of a question to the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    parts: Vec<Part>,
}

impl Part {
    /// Its value in words for people: digests in hexadecimal.
    pub fn shown(&self) -> String {
        match &self.what[..] {
            "compiler" | "surroundings" => self
                .value
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            _ => self.value.escape_ascii().to_string(),
        }
    }
}

impl Default for Key {
    fn default() -> Self {
        let mut key = Key { parts: Vec::new() };
        key.add("format", FORMAT.as_bytes());
        key
    }
}

impl Key {
    /// Made of `parts` alone.
    pub fn of(parts: Vec<Part>) -> Self {
        Key { parts }
    }

    /// Adds a part; order matters.
    pub fn add(&mut self, what: &str, value: &[u8]) {
        self.parts.push(Part {
            what: what.to_owned(),
            value: value.to_vec(),
        });
    }

    /// All parts, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// XXH3-128 over names, lengths and values.
    pub fn digest(&self) -> [u8; 16] {
        let mut hasher = Xxh3::new();
        for part in &self.parts {
            for bytes in [part.what.as_bytes(), &part.value] {
                hasher.update(&(bytes.len() as u64).to_be_bytes());
                hasher.update(bytes);
            }
        }
        hasher.digest128().to_be_bytes()
    }
}

/// What is different between two questions, in words for people.
pub fn differences(old: &[Part], new: &[Part]) -> Vec<String> {
    let mut found = Vec::new();
    let name = |part: &Part| format!("{} {}", part.what, part.shown());
    let mut kinds: Vec<&str> = old.iter().chain(new).map(|part| &part.what[..]).collect();
    let mut seen = std::collections::BTreeSet::new();
    kinds.retain(|kind| seen.insert(kind.to_owned()));
    for kind in kinds {
        let of = |parts: &[Part]| -> Vec<Part> {
            parts.iter().filter(|p| p.what == kind).cloned().collect()
        };
        let (was, is) = (of(old), of(new));
        if was == is {
            continue;
        }
        let gone = missing(&was, &is);
        let added = missing(&is, &was);
        if gone.is_empty() && added.is_empty() {
            found.push(format!("{kind}s in another order"));
        }
        match (&gone[..], &added[..]) {
            ([a], [b]) => found.push(format!("{} is now {}", name(a), b.shown())),
            _ => {
                found.extend(gone.iter().map(|part| format!("{} is gone", name(part))));
                found.extend(added.iter().map(|part| format!("{} is new", name(part))));
            }
        }
    }
    found
}

/// Parts of `a` that `b` has not, as often as it has not.
fn missing(a: &[Part], b: &[Part]) -> Vec<Part> {
    let mut rest: Vec<&Part> = b.iter().collect();
    let mut found = Vec::new();
    for part in a {
        match rest.iter().position(|other| *other == part) {
            Some(at) => {
                rest.swap_remove(at);
            }
            None => found.push(part.clone()),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(parts: &[(&str, &str)]) -> Key {
        let mut key = Key::default();
        for (what, value) in parts {
            key.add(what, value.as_bytes());
        }
        key
    }

    #[test]
    fn every_part_counts() {
        let base = [
            ("argument", "-DA"),
            ("argument", "-DB"),
            ("directory", "/x"),
        ];
        let digest = key(&base).digest();
        assert_eq!(digest, key(&base).digest());
        for other in [
            &[
                ("argument", "-DB"),
                ("argument", "-DA"),
                ("directory", "/x"),
            ][..],
            &[("argument", "-DA-DB"), ("directory", "/x")],
            &[
                ("argument", "-DA"),
                ("argument", "-DB"),
                ("directory", "/xy"),
            ],
            &[
                ("argument", "-DA"),
                ("argument", "-DB"),
                ("director", "y/x"),
            ],
            &[("argument", "-DA"), ("argument", "-DB")],
        ] {
            assert_ne!(digest, key(other).digest(), "{other:?}");
        }
    }

    #[test]
    fn differences_in_words() {
        let said = |old: &[(&str, &str)], new: &[(&str, &str)]| {
            differences(key(old).parts(), key(new).parts())
        };
        let a = ("argument", "-DA");
        let b = ("argument", "-DB");
        assert_eq!(said(&[a, b], &[a, b]), [""; 0]);
        assert_eq!(said(&[a], &[b]), ["argument -DA is now -DB"]);
        assert_eq!(said(&[a, b], &[b, a]), ["arguments in another order"]);
        assert_eq!(said(&[a], &[a, b]), ["argument -DB is new"]);
        assert_eq!(said(&[a, a], &[a]), ["argument -DA is gone"]);
        assert_eq!(
            said(&[("directory", "/x")], &[("directory", "/y"), a]),
            ["directory /x is now /y", "argument -DA is new"]
        );
        assert_eq!(
            said(&[("compiler", "\u{1}")], &[("compiler", "\u{7f}")]),
            ["compiler 01 is now 7f"]
        );
    }
}
