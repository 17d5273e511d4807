//! Facts of files under which an answer holds: their content, and which names a folder
//! lacks.

use bytes::Bytes;
use prost::Message;

use crate::includes::paths::{as_path, join};
use crate::includes::stat::{Seen, Stat};
use crate::includes::stat_cache::StatCache;

/// A file that was read.
#[derive(Clone, PartialEq, Message)]
pub struct FileFact {
    /// The path as the compiler would spell it; relative to the working directory.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// While it is the same, so is the content; all zero: that can't be said.
    #[prost(message, required, tag = "2")]
    pub stat: Stat,
    /// XXH3-128 of the content, big-endian.
    #[prost(bytes = "bytes", tag = "3")]
    pub digest: Bytes,
}

/// Names that were looked for in a folder.
#[derive(Clone, PartialEq, Message)]
pub struct FolderFact {
    /// The path as the compiler would spell it.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// While it is the same, so are the names; all zero: that can't be said.
    #[prost(message, required, tag = "2")]
    pub stat: Stat,
    /// For each name: [`ABSENT`], [`FILE`], [`FOLDER`] or [`OTHER`], the name, NUL.
    #[prost(bytes = "bytes", tag = "3")]
    pub names: Bytes,
    /// For none of the names may there be one with `.gch` after it either.
    #[prost(bool, tag = "4")]
    pub precompiled: bool,
}

/// State of a name that does not exist.
pub const ABSENT: u8 = b'-';
/// State of a regular file.
pub const FILE: u8 = b'f';
/// State of a folder.
pub const FOLDER: u8 = b'd';
/// State of a device or the like, or of what can't be looked at.
pub const OTHER: u8 = b'o';

impl FolderFact {
    /// Each name with its state.
    pub fn names(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let names = self.names.split(|byte| *byte == 0);
        names.filter_map(|name| name.split_first().map(|(state, name)| (*state, name)))
    }

    /// Whether the fact is true now.
    pub fn holds(&self, stats: &mut StatCache) -> bool {
        let seen = stats.at(&self.path);
        if self.stat != Stat::default() && seen == Seen::Folder(self.stat) {
            return true;
        }
        if !matches!(seen, Seen::Folder(_)) {
            return false;
        }
        // Where no stat was known to stand for the folder, nor does a list of it:
        // names of some file systems are found in other spellings too.
        let listed = cfg!(target_os = "linux") && self.stat != Stat::default();
        let there = match listed {
            true => stats.names(&self.path),
            false => None,
        };
        let Some(there) = there else {
            return self.holds_name_by_name(stats);
        };
        let is_there = |name: &[u8]| there.binary_search_by(|n| n[..].cmp(name)).is_ok();
        let precompiled = |name: &[u8]| is_there(&[name, b".gch"].concat());
        let any_precompiled = self.precompiled && there.iter().any(|name| name.ends_with(b".gch"));
        self.names().all(|(state, name)| {
            // A link that leads nowhere is there, and is not.
            let same = match is_there(name) {
                false => state == ABSENT,
                true => state_of(stats.at(&join(&self.path, name))) == state,
            };
            same && !(any_precompiled && precompiled(name))
        })
    }

    fn holds_name_by_name(&self, stats: &mut StatCache) -> bool {
        self.names().all(|(state, name)| {
            let path = join(&self.path, name);
            let precompiled = [&path[..], b".gch"].concat();
            state_of(stats.at(&path)) == state
                && (!self.precompiled || stats.at(&precompiled) == Seen::Absent)
        })
    }

    /// A name that is a link may come to stand for something else while the
    /// folder stays as it is.
    pub fn has_links(&self) -> bool {
        self.names()
            .any(|(_, name)| as_path(&join(&self.path, name)).is_symlink())
    }
}

/// How a fact spells what is at a name.
pub fn state_of(seen: Seen) -> u8 {
    match seen {
        Seen::Absent => ABSENT,
        Seen::File(_) => FILE,
        Seen::Folder(_) => FOLDER,
        Seen::Other => OTHER,
    }
}
