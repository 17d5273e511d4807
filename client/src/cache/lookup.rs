//! Asks the local cache whether facts that were kept are true now.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use crate::cache::answer::Answer;
use crate::cache::disk::entries::{Cache, Kind, Name};
use crate::cache::manifest::{Facts, Manifest};
use crate::includes::facts::{self, Looks};
use crate::key::Key;
use crate::local::terminal;
use crate::os;

/// Milliseconds waited at most for the clock to move on from a file's time.
const TICK_MS_MAX: u64 = 20;

/// A question to the cache.
#[derive(Debug)]
pub struct Lookup {
    /// Where answers are.
    pub cache: Cache,
    /// What the question is made of.
    pub key: Key,
    /// What words on stderr depend on.
    pub terminal: Vec<u8>,
    /// All that is known of this question.
    pub manifest: Manifest,
    looks: Looks,
    asked_ns: i64,
}

/// A good answer.
#[derive(Debug)]
pub struct Hit {
    /// What the compile gave.
    pub answer: Answer,
    /// Its key.
    pub name: Bytes,
    /// The base folder for which it is kept by its text too, or can't be.
    pub base: Bytes,
    /// Facts to be kept in place of old ones, where stats have changed.
    pub refreshed: Option<Facts>,
}

impl Lookup {
    /// Reads what is known about `key`.
    pub fn new(cache: Cache, key: Key) -> Self {
        let asked_ns = facts::now_ns();
        let manifest = cache
            .read(manifest_name(&key))
            .and_then(Manifest::read)
            .unwrap_or_default();
        Lookup {
            cache,
            key,
            terminal: terminal::identity(),
            manifest,
            looks: Looks::default(),
            asked_ns,
        }
    }

    /// An answer whose facts are true now.
    pub fn hit(&mut self) -> Option<Hit> {
        let found = self.manifest.find(&mut self.looks, self.asked_ns)?;
        let answer = self.cache.read(answer_name(&found.answer)?);
        let answer = answer.and_then(Answer::read)?;
        answer.fits(&self.terminal).then_some(Hit {
            answer,
            name: found.answer,
            base: found.base,
            refreshed: found.refreshed,
        })
    }

    /// As [`Lookup::hit`], from what lies on the disk by now.
    pub fn hit_again(&mut self) -> Option<Hit> {
        self.looks = Looks::default();
        self.asked_ns = facts::now_ns();
        self.hit()
    }

    /// Why facts that are true now give no answer; `None`: none are, or they do.
    pub fn missed(&self) -> Option<&'static str> {
        let found = self.manifest.find(&mut Looks::default(), self.asked_ns)?;
        let answer = self.cache.read(answer_name(&found.answer)?);
        match answer.and_then(Answer::read) {
            None => Some("the entry itself is gone"),
            Some(answer) if !answer.fits(&self.terminal) => {
                Some("what it said was for another kind of terminal")
            }
            Some(_) => None,
        }
    }

    /// Whether there is an answer to a text.
    pub fn knows_text(&self, text: &Key) -> bool {
        self.cache.read(text_name(text)).is_some()
    }

    /// To be called before a compile whose result shall be kept: waits for the
    /// clock to pass the times of the files, so that one that is written from
    /// now on is seen to be. Nanoseconds since 1970.
    pub fn begin(&mut self, source: &[u8]) -> i64 {
        let _ = self.looks.at(source);
        let youngest_ns = self.looks.youngest_ns();
        for _ in 0..TICK_MS_MAX {
            let now_ns = facts::now_ns();
            // What is younger than now has a time of its own making.
            if now_ns > youngest_ns || youngest_ns - now_ns > 1_000_000_000 {
                return now_ns;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        facts::now_ns()
    }
}

/// Where the manifest of a question lies.
pub fn manifest_name(key: &Key) -> Name {
    Name {
        key: key.digest(),
        kind: Kind::Manifest,
    }
}

/// Where the answer to a text lies.
pub fn text_name(key: &Key) -> Name {
    Name {
        key: key.digest(),
        kind: Kind::Result,
    }
}

/// Where an answer lies; `None`: that is no answer's key.
pub fn answer_name(key: &Bytes) -> Option<Name> {
    Some(Name {
        key: key[..].try_into().ok()?,
        kind: Kind::Result,
    })
}

/// Where the last question about a source is kept, to be compared with the next.
pub fn trail_name(folder: &Path, source: &[u8]) -> Name {
    let mut key = Key::default();
    key.add("trail", os::bytes(folder.as_os_str()));
    key.add("source", source);
    Name {
        key: key.digest(),
        kind: Kind::Trail,
    }
}
