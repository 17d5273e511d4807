//! What the system's headers say, remembered from compile to compile: they are most
//! of what a compile may read, and hardly ever change. Each is known by its stat, as
//! long as a later write could not leave that as it is. One file of records that is
//! only added to; whatever is wrong with it is passed over, and learnt again.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use foldhash::HashMap;
use nix::fcntl::{Flock, FlockArg};
use prost::Message;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::Config;
use crate::facts::{Content, Stat};
use crate::os;
use crate::scan::{self, Header, Scan};

/// Bytes of the file; beyond, it is begun anew.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Bytes before a record: its length, device and inode, and the XXH3-64 of it.
const FRONT_BYTES: usize = 28;
/// Answers that are remembered of a header; beyond, all are forgotten.
const ANSWERS_MAX: usize = 32;

/// What may be asked of a text about a macro.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// [`scan::asked_of`].
    Asked,
    /// [`scan::headers_named`].
    Named,
}

impl Ask {
    /// Asks `text`.
    pub fn of(self, text: &[u8], word: &[u8]) -> Option<Vec<Header>> {
        match self {
            Ask::Asked => scan::asked_of(text, word),
            Ask::Named => scan::headers_named(text, word),
        }
    }
}

/// What a text said about a macro.
#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    /// It was [`Ask::Named`].
    #[prost(bool, tag = "1")]
    named: bool,
    /// The macro.
    #[prost(bytes = "vec", tag = "2")]
    word: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    headers: Vec<Header>,
    /// It can't be followed.
    #[prost(bool, tag = "4")]
    lost: bool,
}

/// What is known of one file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Known {
    /// Of the file, when it was read.
    #[prost(message, required, tag = "1")]
    pub stat: Stat,
    /// XXH3-128, big endian.
    #[prost(bytes = "vec", tag = "2")]
    content: Vec<u8>,
    /// BLAKE3; empty where it was not asked for.
    #[prost(bytes = "vec", tag = "3")]
    pub digest: Vec<u8>,
    /// Its directives.
    #[prost(message, required, tag = "4")]
    pub scan: Scan,
    /// It has a `#pragma once`.
    #[prost(bool, tag = "5")]
    pub once: bool,
    #[prost(message, repeated, tag = "6")]
    answers: Vec<Answer>,
}

impl Known {
    /// Of a file that was just read.
    pub fn new(content: Content, scan: Scan, once: bool) -> Known {
        Known {
            stat: content.stat,
            content: content.digest.to_be_bytes().to_vec(),
            digest: Vec::new(),
            scan,
            once,
            answers: Vec::new(),
        }
    }

    /// Digest of what the file holds. `None`: nobody could have written that.
    pub fn content(&self) -> Option<Content> {
        Some(Content {
            digest: u128::from_be_bytes(self.content[..].try_into().ok()?),
            stat: self.stat,
        })
    }

    /// What the file is known to say about `word`.
    pub fn answer(&self, ask: Ask, word: &[u8]) -> Option<Option<Vec<Header>>> {
        let named = ask == Ask::Named;
        let mut answers = self.answers.iter();
        let answer = answers.find(|answer| answer.named == named && answer.word == word)?;
        Some((!answer.lost).then(|| answer.headers.clone()))
    }

    /// Adds what the file said about `word`.
    pub fn learn(&mut self, ask: Ask, word: &[u8], said: &Option<Vec<Header>>) {
        if self.answers.len() >= ANSWERS_MAX {
            self.answers.clear();
        }
        self.answers.push(Answer {
            named: ask == Ask::Named,
            word: word.to_vec(),
            headers: said.clone().unwrap_or_default(),
            lost: said.is_none(),
        });
    }
}

/// The file, as it was when this was opened.
#[derive(Debug, Default)]
pub struct Headers {
    file: Option<PathBuf>,
    bytes: Vec<u8>,
    /// The newest record of a device and inode, in `bytes`.
    records: HashMap<(u64, u64), Range<usize>>,
    /// Bytes that are records.
    sound: usize,
    /// Records to be added.
    more: Vec<u8>,
}

/// Where they are remembered.
pub fn file(config: &Config) -> Option<PathBuf> {
    config.run_folder().map(|run| run.join("headers-1"))
}

impl Headers {
    /// `None`: nothing is remembered.
    pub fn open(file: Option<&Path>) -> Headers {
        let mut headers = Headers {
            file: file.map(Path::to_owned),
            ..Headers::default()
        };
        if let Some(Ok(bytes)) = file.map(read) {
            headers.bytes = bytes;
            headers.index();
        }
        headers
    }

    fn index(&mut self) {
        while let Some((place, record)) = record_at(&self.bytes, self.sound) {
            self.sound = record.end;
            self.records.insert(place, record);
        }
    }

    /// What is known of the file that `stat` is of.
    pub fn of(&self, stat: Stat) -> Option<Known> {
        let record = self.records.get(&(stat.device, stat.inode))?;
        let (front, body) = self.bytes[..record.end].split_at(record.start);
        if !front.ends_with(&xxh3_64(body).to_be_bytes()) {
            return None;
        }
        let known = Known::decode(body).ok()?;
        (known.stat == stat && known.content().is_some()).then_some(known)
    }

    /// Has `known` remembered, in place of what was known before. Its stat has to be
    /// settled.
    pub fn add(&mut self, known: &Known) {
        if self.file.is_none() || known.stat == Stat::default() {
            return;
        }
        let body = known.encode_to_vec();
        let Ok(len) = u32::try_from(body.len()) else {
            return;
        };
        self.more.extend(len.to_be_bytes());
        self.more.extend(known.stat.device.to_be_bytes());
        self.more.extend(known.stat.inode.to_be_bytes());
        self.more.extend(xxh3_64(&body).to_be_bytes());
        self.more.extend(body);
    }

    /// Writes down what was added. Not to remember costs time, nothing else.
    pub fn save(&mut self) {
        let more = std::mem::take(&mut self.more);
        // Writing beyond such a limit would end us.
        if more.is_empty() || os::file_size_limit() {
            return;
        }
        if let Some(file) = &self.file {
            let _ = self.append(file, &more);
        }
    }

    fn append(&self, path: &Path, more: &[u8]) -> io::Result<()> {
        std::fs::create_dir_all(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
        let file = File::options().append(true).create(true).open(path)?;
        let busy = |(_, errno)| io::Error::from(errno);
        let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(busy)?;
        let len = file.metadata()?.len();
        if len != self.bytes.len() as u64 {
            // Another compile of this build has learnt the same meanwhile.
            return Ok(());
        }
        let sound = self.sound as u64;
        if sound + more.len() as u64 > FILE_BYTES_MAX {
            file.set_len(0)?;
        } else if sound < len {
            // Somebody was ended in the middle.
            file.set_len(sound)?;
        }
        file.write_all(more)
    }
}

/// Device and inode, and where the record's body is; `None`: no whole one is there.
fn record_at(bytes: &[u8], at: usize) -> Option<((u64, u64), Range<usize>)> {
    let front = bytes.get(at..)?.first_chunk::<FRONT_BYTES>()?;
    let number = |at: usize| Some(u64::from_be_bytes(*front[at..].first_chunk::<8>()?));
    let len = u32::from_be_bytes(*front.first_chunk()?) as usize;
    let start = at + FRONT_BYTES;
    let end = start.checked_add(len)?;
    (end <= bytes.len()).then_some(((number(4)?, number(12)?), start..end))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // A record may be under way beyond the bound.
    let mut bytes = Vec::with_capacity(meta.len().min(FILE_BYTES_MAX) as usize + 1);
    file.take(2 * FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(inode: u64, digest: u128) -> Known {
        let stat = Stat {
            device: 1,
            inode,
            size: 3,
            mtime_ns: 4,
            ctime_ns: 5,
            mode: 6,
        };
        let scan = scan::scan(b"#include <a.h>\n#if __has_include(\"b.h\")\n#endif\n");
        Known::new(Content { digest, stat }, scan, inode == 7)
    }

    fn file(name: &str) -> PathBuf {
        let name = format!("hg-headers-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&folder);
        folder.join("headers")
    }

    fn added(file: &Path, all: &[Known]) {
        let mut headers = Headers::open(Some(file));
        all.iter().for_each(|known| headers.add(known));
        headers.save();
    }

    #[test]
    fn the_newest_of_each_is_remembered() {
        let file = file("newest");
        added(&file, &[known(7, 1), known(8, 2)]);
        let mut again = known(8, 3);
        again.learn(Ask::Asked, b"HAS", &None);
        again.learn(Ask::Named, b"HAS", &Some(Vec::new()));
        added(&file, std::slice::from_ref(&again));
        let headers = Headers::open(Some(&file));
        assert_eq!(headers.of(known(7, 0).stat), Some(known(7, 1)));
        let found = headers.of(again.stat).unwrap();
        assert_eq!(found, again);
        assert_eq!(found.answer(Ask::Asked, b"HAS"), Some(None));
        assert_eq!(found.answer(Ask::Named, b"HAS"), Some(Some(Vec::new())));
        assert_eq!(found.answer(Ask::Named, b"HA"), None);
        assert_eq!(found.content().unwrap().digest, 3);
        for (at, changed) in [
            (
                0,
                Stat {
                    size: 4,
                    ..again.stat
                },
            ),
            (
                1,
                Stat {
                    mtime_ns: 5,
                    ..again.stat
                },
            ),
            (
                2,
                Stat {
                    ctime_ns: 4,
                    ..again.stat
                },
            ),
            (
                3,
                Stat {
                    mode: 7,
                    ..again.stat
                },
            ),
            (
                4,
                Stat {
                    device: 2,
                    ..again.stat
                },
            ),
        ] {
            assert_eq!(headers.of(changed), None, "{at}");
        }
        std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    }

    #[test]
    fn what_is_cut_or_changed_is_learnt_again() {
        let file = file("cut");
        added(&file, &[known(7, 1), known(8, 2)]);
        let whole = std::fs::read(&file).unwrap();
        for at in 0..whole.len() {
            std::fs::write(&file, &whole[..at]).unwrap();
            let headers = Headers::open(Some(&file));
            for inode in [7, 8] {
                let right = known(inode, u128::from(inode) - 6);
                let found = headers.of(right.stat);
                assert!(found.is_none_or(|found| found == right), "{at}");
            }
            added(&file, &[known(8, 2)]);
            let found = Headers::open(Some(&file)).of(known(8, 2).stat);
            assert_eq!(found, Some(known(8, 2)), "{at}");
            let mut turned = whole.clone();
            turned[at] ^= 0x10;
            std::fs::write(&file, &turned).unwrap();
            let headers = Headers::open(Some(&file));
            for inode in [7, 8] {
                let right = known(inode, u128::from(inode) - 6);
                let found = headers.of(right.stat);
                assert!(found.is_none_or(|found| found == right), "{at}");
            }
        }
        std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_full_file_is_begun_anew() {
        let file = file("full");
        let mut large = known(7, 1);
        large.learn(Ask::Asked, &vec![b'x'; 1 << 20], &None);
        for _ in 0..10 {
            added(&file, std::slice::from_ref(&large));
            assert!(std::fs::metadata(&file).unwrap().len() <= FILE_BYTES_MAX);
            assert!(Headers::open(Some(&file)).of(large.stat).is_some());
        }
        std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    }
}
