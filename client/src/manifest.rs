//! Under which facts which answer holds. One manifest for each command; in it,
//! one set of facts for each state of the sources that was seen.

use bytes::Bytes;
use prost::Message;

use crate::facts::{Devices, Looks, Seen, Stat, as_path, join};

/// Sets of facts in a manifest; the oldest goes first.
const SETS_MAX: usize = 16;
/// Bytes of a manifest; beyond, the oldest sets go.
const BYTES_MAX: usize = 4 << 20;

/// A file that was read.
#[derive(Clone, PartialEq, Message)]
pub struct FileFact {
    /// As the compiler would spell it; relative to the working directory.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// Stands for the content; all zero if it can't.
    #[prost(message, required, tag = "2")]
    pub stat: Stat,
    /// XXH3-128 of the content, big-endian.
    #[prost(bytes = "bytes", tag = "3")]
    pub digest: Bytes,
}

/// Names that were looked for in a folder.
#[derive(Clone, PartialEq, Message)]
pub struct FolderFact {
    /// As the compiler would spell it.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// While it is the same, so are the names; all zero if that can't be said.
    #[prost(message, required, tag = "2")]
    pub stat: Stat,
    /// For each name: [`ABSENT`], [`FILE`], [`FOLDER`] or [`OTHER`], the name, NUL.
    #[prost(bytes = "bytes", tag = "3")]
    pub names: Bytes,
    /// No name with `.gch` after it may be there either.
    #[prost(bool, tag = "4")]
    pub precompiled: bool,
}

/// There is nothing by that name.
pub const ABSENT: u8 = b'-';
/// There is a regular file.
pub const FILE: u8 = b'f';
/// There is a folder.
pub const FOLDER: u8 = b'd';
/// There is something else, or something that can't be looked at.
pub const OTHER: u8 = b'o';

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

impl FolderFact {
    /// Each name with its state.
    pub fn names(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let names = self.names.split(|byte| *byte == 0);
        names.filter_map(|name| name.split_first().map(|(state, name)| (*state, name)))
    }

    fn holds(&self, looks: &mut Looks) -> bool {
        let seen = looks.at(&self.path);
        if self.stat != Stat::default() && seen == Seen::Folder(self.stat) {
            return true;
        }
        if !matches!(seen, Seen::Folder(_)) {
            return false;
        }
        // Where nothing was known to stand for the folder, nor does a list of it:
        // names of some file systems are found in other spellings too.
        let listed = cfg!(target_os = "linux") && self.stat != Stat::default();
        let there = match listed {
            true => looks.names(&self.path),
            false => None,
        };
        let Some(there) = there else {
            return self.holds_name_by_name(looks);
        };
        let is_there = |name: &[u8]| there.binary_search_by(|n| n[..].cmp(name)).is_ok();
        let precompiled = |name: &[u8]| is_there(&[name, b".gch"].concat());
        let any_precompiled = self.precompiled && there.iter().any(|name| name.ends_with(b".gch"));
        self.names().all(|(state, name)| {
            // A link that leads nowhere is there, and is not.
            let same = match is_there(name) {
                false => state == ABSENT,
                true => state_of(looks.at(&join(&self.path, name))) == state,
            };
            same && !(any_precompiled && precompiled(name))
        })
    }

    fn holds_name_by_name(&self, looks: &mut Looks) -> bool {
        self.names().all(|(state, name)| {
            let path = join(&self.path, name);
            let precompiled = [&path[..], b".gch"].concat();
            state_of(looks.at(&path)) == state
                && (!self.precompiled || looks.at(&precompiled) == Seen::Absent)
        })
    }

    /// A name that is a link may come to stand for something else while the
    /// folder stays as it is.
    fn has_links(&self) -> bool {
        self.names()
            .any(|(_, name)| as_path(&join(&self.path, name)).is_symlink())
    }
}

/// How a fact spells what was seen.
pub fn state_of(seen: Seen) -> u8 {
    match seen {
        Seen::Absent => ABSENT,
        Seen::File(_) => FILE,
        Seen::Folder(_) => FOLDER,
        Seen::Other => OTHER,
    }
}
