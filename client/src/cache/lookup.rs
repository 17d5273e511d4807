//! Finds an answer whose facts are true now.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use crate::cache::answer::Answer;
use crate::cache::disk::entries::Cache;
use crate::cache::manifest::{Facts, Manifest};
use crate::includes::stat;
use crate::includes::stat_cache::StatCache;
use crate::invocation::identity;
use crate::key::Key;
use crate::local::terminal;
use crate::os;
use hg_proto::disk::entries::Name;
use hg_proto::disk::index::Kind;

/// Milliseconds waited at most for the clock to move on from a file's time.
const TICK_MS_MAX: u64 = 20;

/// The look-up of one compile.
#[derive(Debug)]
pub struct Lookup {
    /// The cache.
    pub cache: Cache,
    /// The compile's key: command, environment, toolchain.
    pub key: Key,
    /// The kind of terminal on stderr, which diagnostics depend on.
    pub terminal: Vec<u8>,
    /// The sets of facts under the key.
    pub manifest: Manifest,
    stats: StatCache,
    began_ns: i64,
}

/// An answer whose facts are true now.
#[derive(Debug)]
pub struct Hit {
    /// The result.
    pub answer: Answer,
    /// Its key.
    pub name: Bytes,
    /// The base folder for which it is stored under its text too, or can't be.
    pub base: Bytes,
    /// Facts to be stored in place of old ones, where stats have changed.
    pub refreshed: Option<Facts>,
}

impl Lookup {
    /// Reads the manifest of `key`.
    pub fn new(cache: Cache, mut key: Key) -> Self {
        let began_ns = stat::now_ns();
        let mut manifest = manifest_of(&cache, &key);
        if manifest.placed
            && let Some(placed) = identity::key_in_folder(&key)
        {
            manifest = manifest_of(&cache, &placed);
            key = placed;
        }
        Lookup {
            cache,
            key,
            terminal: terminal::identity(),
            manifest,
            stats: StatCache::default(),
            began_ns,
        }
    }

    /// The answer whose facts are true now, if there is one.
    pub fn hit(&mut self) -> Option<Hit> {
        let found = self.manifest.find(&mut self.stats, self.began_ns)?;
        let answer = self.cache.read(answer_name(&found.answer)?);
        let answer = answer.and_then(Answer::read)?;
        answer.fits(&self.terminal).then_some(Hit {
            answer,
            name: found.answer,
            base: found.base,
            refreshed: found.refreshed,
        })
    }

    /// As [`Lookup::hit`], from files as they are by now.
    pub fn hit_anew(&mut self) -> Option<Hit> {
        self.stats = StatCache::default();
        self.began_ns = stat::now_ns();
        self.hit()
    }

    /// Why there is no hit although facts are true now; `None`: none are, or there is one.
    pub fn why_no_answer(&self) -> Option<&'static str> {
        let found = self
            .manifest
            .find(&mut StatCache::default(), self.began_ns)?;
        let answer = self.cache.read(answer_name(&found.answer)?);
        match answer.and_then(Answer::read) {
            None => Some("the entry itself is gone"),
            Some(answer) if !answer.fits(&self.terminal) => {
                Some("what it said was for another kind of terminal")
            }
            Some(_) => None,
        }
    }

    /// Whether there is an answer under a preprocessed text.
    pub fn has_text(&self, text: &Key) -> bool {
        self.cache.read(text_name(text)).is_some()
    }

    /// To be called before a compile whose result is to be stored: waits until the clock has
    /// passed the times of the files, so that a file written from then on shows it. Returns
    /// that time, nanoseconds since 1970.
    pub fn begin(&mut self, source: &[u8]) -> i64 {
        let _ = self.stats.at(source);
        let youngest_ns = self.stats.youngest_ns();
        for _ in 0..TICK_MS_MAX {
            let now_ns = stat::now_ns();
            // What is younger than now has a time of its own making.
            if now_ns > youngest_ns || youngest_ns - now_ns > 1_000_000_000 {
                return now_ns;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        stat::now_ns()
    }
}

/// The manifest of a key as it is now; an empty one where there is none.
pub fn manifest_of(cache: &Cache, key: &Key) -> Manifest {
    let read = cache.read(manifest_name(key)).and_then(Manifest::read);
    read.unwrap_or_default()
}

/// The entry of a key's manifest.
pub fn manifest_name(key: &Key) -> Name {
    Name {
        key: key.digest(),
        kind: Kind::Manifest,
    }
}

/// The entry of the answer under a preprocessed text.
pub fn text_name(key: &Key) -> Name {
    Name {
        key: key.digest(),
        kind: Kind::Result,
    }
}

/// The entry of an answer; `None`: `key` is no answer's key.
pub fn answer_name(key: &Bytes) -> Option<Name> {
    Some(Name {
        key: key[..].try_into().ok()?,
        kind: Kind::Result,
    })
}

/// The entry of a source's trail: its last key, to be compared with the next.
pub fn trail_name(folder: &Path, source: &[u8]) -> Name {
    let mut key = Key::default();
    key.add("trail", os::bytes(folder.as_os_str()));
    key.add("source", source);
    Name {
        key: key.digest(),
        kind: Kind::Trail,
    }
}
