//! Which toolchains of other machines make the objects of this machine's: earned by trials
//! (`commands/trials.rs`), and remembered in the run folder, for this user alone. Reads and
//! writes that file. Unaware of the grid.

use std::path::{Path, PathBuf};

use hg_proto::compiler::memo;
use hg_proto::compiler::toolchain::Family;
use hg_proto::v1::Toolchain;
use hg_proto::wire::digest::Digest;
use prost::Message;

/// Toolchains that are remembered before the folder is emptied.
const FILES_MAX: usize = 64;
/// Toolchains of others that a task may name, as the coordinator takes them.
const EQUALS_MAX: usize = 8;

/// Options, by how they begin, with which machines are known to differ or whose files
/// nobody has compared.
const UNTRIED: [&[u8]; 6] = [
    b"-flto",
    b"-fsanitize",
    b"-fprofile",
    b"-fplugin",
    b"-fthinlto",
    b"-fcs-profile",
];

/// What trials have shown of one toolchain of this machine, in one form of tasks.
#[derive(Clone, PartialEq, Message)]
pub struct Trials {
    /// Other toolchains, each once.
    #[prost(message, repeated, tag = "1")]
    tried: Vec<Tried>,
}

#[derive(Clone, PartialEq, Message)]
struct Tried {
    /// Of the other toolchain, in the same form.
    #[prost(bytes = "vec", tag = "1")]
    digest: Vec<u8>,
    /// Its objects are those of this machine's.
    #[prost(bool, tag = "2")]
    equal: bool,
    /// What they say of who made them, and what those of this machine's say: both are
    /// empty where it is the same.
    #[prost(bytes = "vec", tag = "3")]
    ident: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    own_ident: Vec<u8>,
}

/// How two objects of one source are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Equal {
    /// Byte for byte.
    Whole,
    /// But for the names that their compilers leave in them.
    ButIdent {
        /// The other one's.
        theirs: Vec<u8>,
        /// This machine's.
        ours: Vec<u8>,
    },
}

impl Trials {
    /// What is known of `toolchain`, of this machine and one form.
    pub fn of(run: &Path, toolchain: &[u8]) -> Self {
        let known = memo::recall(&file(run, toolchain));
        let known = known.and_then(|bytes| Trials::decode(&bytes[..]).ok());
        known.unwrap_or_default()
    }

    /// Whether the objects of the toolchain of `digest` are those of this machine's.
    /// `None`: it was not tried.
    pub fn verdict(&self, digest: &[u8]) -> Option<bool> {
        let mut tried = self.tried.iter();
        Some(tried.find(|tried| tried.digest == digest)?.equal)
    }

    /// Notes what a trial of the toolchain of `digest` showed; `None`: its objects are
    /// others.
    pub fn note(&mut self, digest: &[u8], equal: Option<Equal>) {
        self.tried.retain(|tried| tried.digest != digest);
        let (ident, own_ident) = match &equal {
            Some(Equal::ButIdent { theirs, ours }) => (theirs.clone(), ours.clone()),
            _ => Default::default(),
        };
        self.tried.push(Tried {
            digest: digest.to_vec(),
            equal: equal.is_some(),
            ident,
            own_ident,
        });
    }

    /// Keeps it for the compiles to come.
    pub fn keep(&self, run: &Path, toolchain: &[u8]) {
        // What is not kept is tried again.
        let _ = memo::remember(&file(run, toolchain), &self.encode_to_vec(), FILES_MAX);
    }

    /// The toolchains that stand for this machine's, sorted, as many as a task may name.
    pub fn equals(&self) -> Vec<Vec<u8>> {
        let equal = self.tried.iter().filter(|tried| tried.equal);
        let mut digests: Vec<Vec<u8>> = equal.map(|tried| tried.digest.clone()).collect();
        digests.sort_unstable();
        digests.truncate(EQUALS_MAX);
        digests
    }

    /// What this machine's compiler leaves in an object in place of `ident`, which one of
    /// the others has left there.
    pub fn own_ident(&self, ident: &[u8]) -> Option<&[u8]> {
        let mut tried = self.tried.iter().filter(|tried| tried.equal);
        let its = tried.find(|tried| !ident.is_empty() && tried.ident == ident)?;
        Some(&its.own_ident)
    }
}

fn file(run: &Path, toolchain: &[u8]) -> PathBuf {
    let name = &Digest::of(toolchain).to_hex()[..24];
    run.join("equals").join(name)
}

/// Whether `other` may be tried in place of `own`: the same release of the same vendor,
/// and made for the same target if that can't be told by an option.
pub fn may_be_equal(own: &Toolchain, other: &Toolchain) -> bool {
    let family = Family::from_wire(own.family());
    let same = own.family == other.family
        && own.language == other.language
        && own.version == other.version
        && !own.release.is_empty()
        && revision(&own.release) == revision(&other.release);
    same && (family == Some(Family::Clang) || own.target == other.target)
}

/// A vendor's revision without what its stable updates and cross compilers add to it:
/// `(Debian 12.2.0-14+deb12u1)` and `(Debian 12.2.0-14cross1)` are both `(Debian
/// 12.2.0-14)`.
fn revision(release: &str) -> String {
    let (words, last) = match release.strip_suffix(')') {
        Some(words) => (words, ")"),
        None => (release, ""),
    };
    let mut words = words.trim_end();
    if let Some((before, update)) = words.rsplit_once("+deb")
        && update.chars().all(|c| c.is_ascii_digit() || c == 'u')
    {
        words = before;
    }
    if let Some((before, number)) = words.rsplit_once("cross")
        && number.chars().all(|c| c.is_ascii_digit())
    {
        words = before;
    }
    format!("{words}{last}")
}

/// Whether compiles with these words may go where equality was tried.
pub fn covers<'a>(words: impl IntoIterator<Item = &'a Vec<u8>>) -> bool {
    let mut words = words.into_iter();
    !words.any(|word| UNTRIED.iter().any(|start| word.starts_with(start)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hg_proto::v1;

    #[test]
    fn verdicts_are_kept() {
        let run = std::env::temp_dir().join(format!("hg-equals-{}", std::process::id()));
        let mut trials = Trials::of(&run, b"own");
        assert_eq!((trials.verdict(&[1; 32]), trials.equals()), (None, vec![]));
        trials.note(&[2; 32], Some(Equal::Whole));
        trials.note(&[3; 32], None);
        let (theirs, ours) = (b"GCC: theirs".to_vec(), b"GCC: ours".to_vec());
        trials.note(&[1; 32], Some(Equal::ButIdent { theirs, ours }));
        trials.keep(&run, b"own");
        let trials = Trials::of(&run, b"own");
        assert_eq!(trials.equals(), [vec![1; 32], vec![2; 32]]);
        assert_eq!(trials.verdict(&[3; 32]), Some(false));
        assert_eq!(trials.own_ident(b"GCC: theirs"), Some(&b"GCC: ours"[..]));
        assert_eq!(trials.own_ident(b""), None);
        assert_eq!(Trials::of(&run, b"other"), Trials::default());
        std::fs::remove_dir_all(run).unwrap();
    }

    #[test]
    fn what_may_be_tried() {
        let toolchain = |family: v1::Family, release: &str, target: &str| Toolchain {
            family: family.into(),
            language: v1::Language::C.into(),
            version: "12.2.0".into(),
            release: release.into(),
            target: target.into(),
            ..Toolchain::default()
        };
        let (gcc, clang) = (v1::Family::Gcc, v1::Family::Clang);
        let [x86, arm] = ["x86_64-linux-gnu", "aarch64-linux-gnu"];
        let debian = "gcc version 12.2.0 (Debian 12.2.0-14)";
        let updated = "gcc version 12.2.0 (Debian 12.2.0-14+deb12u1)";
        let own = toolchain(gcc, updated, x86);
        for (other, may_be) in [
            (toolchain(gcc, debian, x86), true),
            (
                toolchain(gcc, "gcc version 12.2.0 (Debian 12.2.0-14cross1)", x86),
                true,
            ),
            (toolchain(gcc, debian, arm), false),
            (
                toolchain(gcc, "gcc version 12.2.0 (Debian 12.2.0-9)", x86),
                false,
            ),
            (
                toolchain(gcc, "gcc version 12.2.0 (Ubuntu 12.2.0-14)", x86),
                false,
            ),
            (toolchain(gcc, "", x86), false),
            (toolchain(clang, debian, x86), false),
        ] {
            assert_eq!(may_be_equal(&own, &other), may_be, "{other:?}");
        }
        let own = toolchain(clang, "Debian clang version 14.0.6", x86);
        assert!(may_be_equal(
            &own,
            &toolchain(clang, "Debian clang version 14.0.6", arm)
        ));
        assert!(!may_be_equal(
            &own,
            &toolchain(clang, "clang version 14.0.6", arm)
        ));
        let nameless = toolchain(clang, "", x86);
        assert!(!may_be_equal(&nameless, &nameless));
    }

    #[test]
    fn options_that_nobody_tried() {
        let words = |words: &[&str]| {
            words
                .iter()
                .map(|w| w.as_bytes().to_vec())
                .collect::<Vec<_>>()
        };
        assert!(covers(&words(&["-O2", "-g", "-fPIC"])));
        for word in ["-flto=thin", "-fsanitize=address", "-fprofile-use=x"] {
            assert!(!covers(&words(&["-O2", word])), "{word}");
        }
    }
}
