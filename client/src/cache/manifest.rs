//! Under which facts which answer holds. One manifest for each command; in it,
//! one set of facts for each state of the sources that was seen.

use bytes::Bytes;
use prost::Message;

use crate::includes::devices::Devices;
use crate::includes::facts::{FileFact, FolderFact};
use crate::includes::stat::{Seen, Stat};
use crate::includes::stat_cache::StatCache;

/// Sets of facts in a manifest; the oldest goes first.
const SETS_MAX: usize = 16;
/// Bytes of a manifest; beyond, the oldest sets go.
const BYTES_MAX: usize = 4 << 20;

/// What must be true of files and folders for an answer to hold.
#[derive(Clone, PartialEq, Message)]
pub struct Facts {
    /// The answer's key.
    #[prost(bytes = "bytes", tag = "1")]
    pub answer: Bytes,
    /// Every file that could have been read; the source first.
    #[prost(message, repeated, tag = "2")]
    pub files: Vec<FileFact>,
    /// Every folder in which a header was looked for.
    #[prost(message, repeated, tag = "3")]
    pub folders: Vec<FolderFact>,
    /// The base folder for which the answer is stored under its text too, or can't be;
    /// empty: not tried.
    #[prost(bytes = "bytes", tag = "4")]
    pub base: Bytes,
}

/// The answers under one key, each with its facts; the newest first.
#[derive(Clone, PartialEq, Message)]
pub struct Manifest {
    /// At most sixteen.
    #[prost(message, repeated, tag = "1")]
    pub sets: Vec<Facts>,
    /// Files can't be followed: results are stored under their preprocessed text alone.
    #[prost(bool, tag = "2")]
    pub textual: bool,
    /// An answer named the folder although nothing in its command says that it would: answers
    /// are kept for each folder apart.
    #[prost(bool, tag = "3")]
    pub placed: bool,
}

/// A set of facts that is true now.
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
    /// Decodes an entry; `None`: it is no manifest.
    pub fn read(body: Vec<u8>) -> Option<Manifest> {
        Manifest::decode(Bytes::from(body)).ok()
    }

    /// The facts that are true now; `now_ns` is when `stats` began.
    pub fn find(&self, stats: &mut StatCache, now_ns: i64) -> Option<Match> {
        let same = self.sets.iter().find(|set| set.is_unchanged(stats));
        if let Some(set) = same {
            return Some(Match {
                answer: set.answer.clone(),
                base: set.base.clone(),
                refreshed: None,
            });
        }
        let set = self.sets.iter().find(|set| set.holds(stats))?;
        Some(Match {
            answer: set.answer.clone(),
            base: set.base.clone(),
            refreshed: Some(set.refreshed(stats, now_ns)),
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
    /// Whether the facts hold by stat alone; `false` says nothing.
    fn is_unchanged(&self, stats: &mut StatCache) -> bool {
        let unchanged = |file: &FileFact| {
            file.stat != Stat::default() && stats.at(&file.path) == Seen::File(file.stat)
        };
        self.files.iter().all(unchanged) && self.folders.iter().all(|f| f.holds(stats))
    }

    fn holds(&self, stats: &mut StatCache) -> bool {
        let mut same = |file: &FileFact| {
            let known = file.stat != Stat::default();
            known && stats.at(&file.path) == Seen::File(file.stat)
                || stats
                    .content(&file.path)
                    .is_some_and(|content| content.digest.to_be_bytes() == file.digest[..])
        };
        self.files.iter().all(&mut same) && self.folders.iter().all(|f| f.holds(stats))
    }

    fn refreshed(&self, stats: &mut StatCache, now_ns: i64) -> Facts {
        let mut fresh = self.clone();
        let mut devices = Devices::default();
        for file in &mut fresh.files {
            // Read a moment ago, or its stat is still right.
            if let Some(content) = stats.read_before(&file.path) {
                file.stat = devices.kept(&file.path, content.stat, now_ns);
            }
        }
        for folder in &mut fresh.folders {
            if !folder.has_links()
                && let Seen::Folder(stat) = stats.at(&folder.path)
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
