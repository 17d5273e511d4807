//! Which toolchains of other machines make the objects of this machine's: earned by trials
//! (`commands/trials.rs`), and remembered in the run folder, for this user alone. Reads and
//! writes that file. Unaware of the grid.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use hg_proto::boot;
use hg_proto::compiler::memo;
use hg_proto::compiler::toolchain::Family;
use hg_proto::v1::Toolchain;
use hg_proto::wire::digest::{Digest, Hasher};
use memchr::memmem;
use prost::Message;

use crate::grid::trial_cases;

/// Toolchains that are remembered before the folder is emptied.
const FILES_MAX: usize = 64;
/// Toolchains of others that a task may name, as the coordinator takes them.
const EQUALS_MAX: usize = 8;

/// Other toolchains that are remembered of one of this machine.
const TRIED_MAX: usize = 32;
/// Seconds after which what failed without another object is tried again.
const FAILED_S: u64 = 3_600;

/// What trials have shown of one toolchain of this machine, in one form of tasks.
#[derive(Clone, PartialEq, Message)]
pub struct Trials {
    /// What was tried, and since which start of this machine: other trials say nothing of
    /// now.
    #[prost(bytes = "vec", tag = "2")]
    basis: Vec<u8>,
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
    /// It compiled nothing, at this time in seconds since 1970; 0: it did.
    #[prost(uint64, tag = "5")]
    failed_s: u64,
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
        known
            .filter(|known| known.basis == basis())
            .unwrap_or_default()
    }

    /// What is known of this machine's toolchain in each of `forms`.
    pub fn of_forms(run: Option<&Path>, forms: [&Toolchain; 2]) -> [Self; 2] {
        forms.map(|its| run.map_or_else(Trials::default, |run| Trials::of(run, &its.digest)))
    }

    /// Whether the objects of the toolchain of `digest` are those of this machine's.
    /// `None`: it was not tried.
    pub fn verdict(&self, digest: &[u8]) -> Option<bool> {
        let mut tried = self.tried.iter();
        let its = tried.find(|tried| tried.digest == digest)?;
        let is_over = its.failed_s > 0 && now_s().saturating_sub(its.failed_s) > FAILED_S;
        (!is_over).then_some(its.equal)
    }

    /// Notes that the toolchain of `digest` did not compile, for a while.
    pub fn note_failure(&mut self, digest: &[u8]) {
        self.note(digest, None);
        if let Some(its) = self.tried.last_mut() {
            its.failed_s = now_s().max(1);
        }
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
            failed_s: 0,
        });
        // The newest are those that are there.
        let over = self.tried.len().saturating_sub(TRIED_MAX);
        self.tried.drain(..over);
    }

    /// Keeps it for the compiles to come.
    pub fn keep(&mut self, run: &Path, toolchain: &[u8]) {
        self.basis = basis();
        // What is not kept is tried again.
        let _ = memo::remember(&file(run, toolchain), &self.encode_to_vec(), FILES_MAX);
    }

    /// The toolchains that stand for this machine's, sorted, as many as a task may name.
    pub fn equals(&self) -> Vec<Vec<u8>> {
        let equal = self.tried.iter().rev().filter(|tried| tried.equal);
        let newest = equal.take(EQUALS_MAX);
        let mut digests: Vec<Vec<u8>> = newest.map(|tried| tried.digest.clone()).collect();
        digests.sort_unstable();
        digests
    }

    /// What this machine's compiler leaves in an object in place of `ident`, which one of
    /// the others has left there.
    pub fn own_ident(&self, ident: &[u8]) -> Option<&[u8]> {
        let mut tried = self.tried.iter().filter(|tried| tried.equal);
        let its = tried.find(|tried| !ident.is_empty() && tried.ident == ident)?;
        Some(&its.own_ident)
    }

    /// Whether `object` has in it what one of the others would have left there.
    pub fn names_another(&self, object: &[u8]) -> bool {
        let equal = self.tried.iter().filter(|tried| tried.equal);
        let mut idents = equal.filter(|tried| !tried.ident.is_empty());
        idents.any(|tried| memmem::find(object, &tried.ident).is_some())
    }
}

fn now_s() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}

fn file(run: &Path, toolchain: &[u8]) -> PathBuf {
    run.join("equals")
        .join(&Digest::of(toolchain).to_hex()[..24])
}

/// What stands for all that is tried, and for this start of this machine.
fn basis() -> Vec<u8> {
    let mut hasher = Hasher::new();
    hasher.field(&boot::id().unwrap_or_default());
    for (name, text) in trial_cases::C.iter().chain(&trial_cases::CXX) {
        hasher.field(name.as_bytes());
        hasher.field(text.as_bytes());
    }
    for word in trial_cases::OPTIONS.iter().flat_map(|words| words.iter()) {
        hasher.field(word.as_bytes());
    }
    hasher.finish().as_bytes().to_vec()
}

/// Whether `other` may be tried in place of `own`: the same release of the same vendor, and
/// made for the same target if that can't be told by an option. A stable update of a
/// vendor's is another release, unless `updates` are to be taken for the same.
pub fn may_be_equal(own: &Toolchain, other: &Toolchain, updates: bool) -> bool {
    let family = Family::from_wire(own.family());
    let revision = |toolchain: &Toolchain| revision(&toolchain.release, updates);
    let same = own.family == other.family
        && own.language == other.language
        && own.version == other.version
        && !own.release.is_empty()
        && revision(own) == revision(other);
    match family {
        Some(Family::Clang) => same,
        // Whoever built it without a name may have built it anyhow.
        Some(Family::Gcc) => {
            same && own.target == other.target
                && own.release.ends_with(')')
                && !own.release.ends_with("(GCC)")
        }
        None => false,
    }
}

/// A vendor's revision without what a cross compiler's package adds to it: `(Debian
/// 12.2.0-14cross1)` is `(Debian 12.2.0-14)`, and with `updates` so is `(Debian
/// 12.2.0-14+deb12u1)`.
fn revision(release: &str, updates: bool) -> String {
    let (words, last) = match release.strip_suffix(')') {
        Some(words) => (words, ")"),
        None => (release, ""),
    };
    let mut words = words.trim_end();
    if let Some((before, update)) = words.rsplit_once("+deb")
        && updates
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
        assert!(trials.names_another(b"..GCC: theirs.."));
        assert!(!trials.names_another(b"..GCC: ours.."));
        assert_eq!(trials.own_ident(b"GCC: theirs"), Some(&b"GCC: ours"[..]));
        assert_eq!(trials.own_ident(b""), None);
        assert_eq!(Trials::of(&run, b"other"), Trials::default());
        // What was tried otherwise is not known.
        let mut stale = trials.clone();
        stale.basis = b"before".to_vec();
        let kept = memo::remember(&file(&run, b"own"), &stale.encode_to_vec(), FILES_MAX);
        kept.unwrap();
        assert_eq!(Trials::of(&run, b"own"), Trials::default());
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
        assert!(!may_be_equal(&own, &toolchain(gcc, debian, x86), false));
        let nameless = "gcc version 12.2.0 (GCC)";
        let nameless = toolchain(gcc, nameless, x86);
        assert!(!may_be_equal(&nameless, &nameless, true));
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
            assert_eq!(may_be_equal(&own, &other, true), may_be, "{other:?}");
        }
        let own = toolchain(clang, "Debian clang version 14.0.6", x86);
        assert!(may_be_equal(
            &own,
            &toolchain(clang, "Debian clang version 14.0.6", arm),
            false
        ));
        assert!(!may_be_equal(
            &own,
            &toolchain(clang, "clang version 14.0.6", arm),
            false
        ));
        let nameless = toolchain(clang, "", x86);
        assert!(!may_be_equal(&nameless, &nameless, false));
    }
}
