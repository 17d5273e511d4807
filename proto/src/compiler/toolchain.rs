//! What makes two compilers the same, as far as their output goes.
//! Pure: [`crate::compiler::probe`] looks at the files.

use crate::v1;
use crate::wire::digest::{Digest, Hasher};

/// Whose command line it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// The GNU compiler collection.
    Gcc,
    /// LLVM's clang.
    Clang,
}

/// A language that may travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Language {
    /// C.
    C,
    /// C++.
    Cxx,
}

impl Family {
    /// For people and in records: `gcc` or `clang`.
    pub fn name(self) -> &'static str {
        match self {
            Family::Gcc => "gcc",
            Family::Clang => "clang",
        }
    }

    /// The usual name of its driver for `language`.
    pub fn driver(self, language: Language) -> &'static str {
        match (self, language) {
            (Family::Gcc, Language::C) => "gcc",
            (Family::Gcc, Language::Cxx) => "g++",
            (Family::Clang, Language::C) => "clang",
            (Family::Clang, Language::Cxx) => "clang++",
        }
    }

    /// From the wire.
    pub fn from_wire(family: v1::Family) -> Option<Self> {
        match family {
            v1::Family::Gcc => Some(Family::Gcc),
            v1::Family::Clang => Some(Family::Clang),
            v1::Family::Unspecified => None,
        }
    }

    /// To the wire.
    pub fn to_wire(self) -> v1::Family {
        match self {
            Family::Gcc => v1::Family::Gcc,
            Family::Clang => v1::Family::Clang,
        }
    }
}

impl Language {
    /// For people and in records: `c` or `c++`; also what `-x` takes.
    pub fn name(self) -> &'static str {
        match self {
            Language::C => "c",
            Language::Cxx => "c++",
        }
    }

    /// From the wire.
    pub fn from_wire(language: v1::Language) -> Option<Self> {
        match language {
            v1::Language::C => Some(Language::C),
            v1::Language::Cxx => Some(Language::Cxx),
            v1::Language::Unspecified => None,
        }
    }

    /// To the wire.
    pub fn to_wire(self) -> v1::Language {
        match self {
            Language::C => v1::Language::C,
            Language::Cxx => v1::Language::Cxx,
        }
    }
}

/// A file that takes part in making code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// What it is there for: `driver`, `cc1`, `as`, `lib`, `specs`.
    pub role: String,
    /// Digest of its content.
    pub digest: Digest,
}

/// The vendor's revision in the line in which a compiler says its version: `Debian 12.2.0-14`
/// of `gcc version 12.2.0 (Debian 12.2.0-14)`, all of it where there is none in parentheses.
pub fn revision(release: &str) -> &str {
    let last = release.strip_suffix(')');
    let inside = last.and_then(|words| words.rsplit_once('('));
    inside.map_or(release, |(_, revision)| revision).trim()
}

/// The digest that stands for a compiler and a language: over the family, the
/// language and the contents of all components, in an order that does not
/// depend on where the files lie.
pub fn identity(family: Family, language: Language, components: &[Component]) -> Digest {
    let mut sorted: Vec<&Component> = components.iter().collect();
    sorted.sort_by(|a, b| (&a.role, a.digest).cmp(&(&b.role, b.digest)));
    sorted.dedup();
    let mut hasher = Hasher::new();
    hasher.field(b"hybridgrid toolchain 1");
    hasher.field(family.name().as_bytes());
    hasher.field(language.name().as_bytes());
    for component in sorted {
        hasher.field(component.role.as_bytes());
        hasher.field(component.digest.as_bytes());
    }
    hasher.finish()
}

/// The digest that a toolchain of `identity` has for tasks in the tree form: over
/// its place too, since a compiler finds its own headers from there, and they
/// travel to where it looks for them. [`crate::compiler::probe::Probe::tree_toolchain`] says
/// what a place is.
pub fn tree_identity(identity: Digest, place: &[u8]) -> Digest {
    let mut hasher = Hasher::new();
    hasher.field(b"hybridgrid toolchain in place 1");
    hasher.field(identity.as_bytes());
    hasher.field(place);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(role: &str, content: &str) -> Component {
        Component {
            role: role.into(),
            digest: Digest::of(content.as_bytes()),
        }
    }

    #[test]
    fn order_and_repetition_do_not_matter_content_does() {
        let a = component("driver", "a");
        let b = component("cc1", "b");
        let one = identity(Family::Gcc, Language::C, &[a.clone(), b.clone()]);
        let two = identity(Family::Gcc, Language::C, &[b.clone(), a.clone(), b.clone()]);
        assert_eq!(one, two);
        let other = identity(
            Family::Gcc,
            Language::C,
            &[a.clone(), component("cc1", "c")],
        );
        assert_ne!(one, other);
        assert_ne!(one, identity(Family::Gcc, Language::Cxx, &[a, b]));
    }

    #[test]
    fn in_place_is_another_toolchain_and_so_is_another_place() {
        let plain = Digest::of(b"gcc");
        let placed = tree_identity(plain, b"/usr/bin/gcc");
        assert_ne!(placed, plain);
        assert_ne!(placed, tree_identity(plain, b"/opt/bin/gcc"));
        assert_ne!(placed, tree_identity(Digest::of(b"g++"), b"/usr/bin/gcc"));
    }
}
