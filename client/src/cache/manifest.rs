//! Under which facts which answer holds. One manifest for each command; in it,
//! one set of facts for each state of the sources that was seen.

use bytes::Bytes;
use prost::Message;

use crate::includes::facts::{Devices, FileFact, FolderFact, Looks, Seen, Stat};

/// Sets of facts in a manifest; the oldest goes first.
const SETS_MAX: usize = 16;
/// Bytes of a manifest; beyond, the oldest sets go.
const BYTES_MAX: usize = 4 << 20;

/// What must be true for an answer to hold.
#[derive(Clone, PartialEq, Message)]
pub struct Facts {
    /// Which answer: the key of its entry.
    #[prost(bytes = "bytes", tag = "1")]
    pub answer: Bytes,
    /// Every file that could have been read; the source first.
    #[prost(message, repeated, tag = "2")]
    pub files: Vec<FileFact>,
    /// Every folder in which a header was looked for.
    #[prost(message, repeated, tag = "3")]
    pub folders: Vec<FolderFact>,
    /// The base folder for which the answer is kept by its text too, or can't be; empty:
    /// nobody has tried.
    #[prost(bytes = "bytes", tag = "4")]
    pub base: Bytes,
}

/// All that is known of a command; newest facts first.
#[derive(Clone, PartialEq, Message)]
pub struct Manifest {
    /// At most sixteen.
    #[prost(message, repeated, tag = "1")]
    pub sets: Vec<Facts>,
    /// No facts can be kept: only the preprocessed text says what is read.
    #[prost(bool, tag = "2")]
    pub textual: bool,
}

/// Facts that are true now.
#[derive(Debug, Clone)]
pub struct Match {
    /// The answer's key.
    pub answer: Bytes,
    /// See [`Facts::base`].
    pub base: Bytes,
    /// The same facts with today's stats, where those in the manifest are old.
    pub refreshed: Option<Facts>,
}

impl Manifest {
    /// Reads a manifest's entry. `None`: it is none.
    pub fn read(body: Vec<u8>) -> Option<Manifest> {
        Manifest::decode(Bytes::from(body)).ok()
    }

    /// The facts that are true now; `now_ns` is when `looks` began.
    pub fn find(&self, looks: &mut Looks, now_ns: i64) -> Option<Match> {
        let same = self.sets.iter().find(|set| set.is_unchanged(looks));
        if let Some(set) = same {
            return Some(Match {
                answer: set.answer.clone(),
                base: set.base.clone(),
                refreshed: None,
            });
        }
        let set = self.sets.iter().find(|set| set.holds(looks))?;
        Some(Match {
            answer: set.answer.clone(),
            base: set.base.clone(),
            refreshed: Some(set.refreshed(looks, now_ns)),
        })
    }

    /// Puts `facts` first, in place of the same ones with older stats.
    pub fn add(&mut self, facts: Facts) {
        self.sets.retain(|set| !set.says_the_same(&facts));
        self.sets.insert(0, facts);
        self.sets.truncate(SETS_MAX);
        while self.sets.len() > 1 && self.encoded_len() > BYTES_MAX {
            self.sets.pop();
        }
    }
}

impl Facts {
    /// By stat alone; true means true.
    fn is_unchanged(&self, looks: &mut Looks) -> bool {
        let unchanged = |file: &FileFact| {
            file.stat != Stat::default() && looks.at(&file.path) == Seen::File(file.stat)
        };
        self.files.iter().all(unchanged) && self.folders.iter().all(|f| f.holds(looks))
    }

    fn holds(&self, looks: &mut Looks) -> bool {
        let mut same = |file: &FileFact| {
            let known = file.stat != Stat::default();
            known && looks.at(&file.path) == Seen::File(file.stat)
                || looks
                    .content(&file.path)
                    .is_some_and(|content| content.digest.to_be_bytes() == file.digest[..])
        };
        self.files.iter().all(&mut same) && self.folders.iter().all(|f| f.holds(looks))
    }

    fn refreshed(&self, looks: &mut Looks, now_ns: i64) -> Facts {
        let mut fresh = self.clone();
        let mut devices = Devices::default();
        for file in &mut fresh.files {
            // Read a moment ago, or its stat is still right.
            if let Some(content) = looks.read_before(&file.path) {
                file.stat = devices.kept(&file.path, content.stat, now_ns);
            }
        }
        for folder in &mut fresh.folders {
            if !folder.has_links()
                && let Seen::Folder(stat) = looks.at(&folder.path)
            {
                folder.stat = devices.kept(&folder.path, stat, now_ns);
            }
        }
        fresh
    }

    fn says_the_same(&self, other: &Facts) -> bool {
        let file = |a: &FileFact, b: &FileFact| a.path == b.path && a.digest == b.digest;
        let folder = |a: &FolderFact, b: &FolderFact| {
            (&a.path, &a.names, a.precompiled) == (&b.path, &b.names, b.precompiled)
        };
        self.answer == other.answer
            && equal(&self.files, &other.files, file)
            && equal(&self.folders, &other.folders, folder)
    }
}

fn equal<T>(a: &[T], b: &[T], same: impl Fn(&T, &T) -> bool) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
}
