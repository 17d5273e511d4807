//! The memo of headers: what each says, remembered from compile to compile, since the
//! system's headers are most of what a compile may read, and hardly ever change; and which
//! folders hold no precompiled headers. A file is known by its stat, where no other content
//! could come to have that. One file of records that is only appended to: a damaged record
//! is passed over, and learnt again.

use std::cell::OnceCell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use foldhash::HashMap;
use hg_proto::boot;
use hg_proto::secure::private::open_plain;
use hg_proto::wire::digest::Digest;
use nix::fcntl::{Flock, FlockArg};
use prost::Message;
use xxhash_rust::const_xxh3;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::Config;
use crate::includes::stat::{Content, Stat};
use crate::os;
use crate::private;
use crate::source::hazards::Signs;
use crate::source::scan::{self, Header, Scan};

/// Bytes of the file; beyond, it is begun anew.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Bytes before a record: its length, device and inode, and the XXH3-64 of it.
const FRONT_BYTES: usize = 28;
/// Answers that are remembered of a header.
const ANSWERS_MAX: usize = 64;
/// Major number of devices that are files (Linux, Documentation/admin-guide/devices.txt).
const LOOP: u64 = 7;
/// How the name of a memo begins.
const NAME: &[u8] = b"headers-";
/// Age at which another version's memo is removed.
const FORGOTTEN: Duration = Duration::from_secs(7 * 24 * 3600);
/// Nanoseconds for which a header of the system has to have been left alone: a page that
/// is written through a mapping of memory changes no time until it goes to the disk.
pub const SETTLED_NS: i64 = 60_000_000_000;

/// A source file of this program: its path from this one, and its content.
macro_rules! source {
    ($path:literal) => {
        ($path, include_bytes!($path))
    };
}

/// The code that decides what is found in a text: all that reads C, and its callers in this
/// folder.
const SOURCES: &[(&str, &[u8])] = &[
    source!("closure.rs"),
    source!("closure/computed.rs"),
    source!("closure/expand.rs"),
    source!("closure/memory.rs"),
    source!("headers.rs"),
    source!("macro_names.rs"),
    source!("part.rs"),
    source!("paths.rs"),
    source!("unchanged.rs"),
    source!("../source/code.rs"),
    source!("../source/indentation.rs"),
    source!("../source/lex.rs"),
    source!("../source/mod.rs"),
    source!("../source/pieces.rs"),
    source!("../source/questions.rs"),
    source!("../source/scan.rs"),
    source!("../source/hazards/assembled.rs"),
    source!("../source/hazards/assembler.rs"),
    source!("../source/hazards/builtin_questions.rs"),
    source!("../source/hazards/falling.rs"),
    source!("../source/hazards/markers.rs"),
    source!("../source/hazards/mod.rs"),
    source!("../source/hazards/odd.rs"),
    source!("../source/hazards/operands.rs"),
    source!("../source/hazards/packing.rs"),
    source!("../source/hazards/pragmas.rs"),
    source!("../source/hazards/signs.rs"),
    source!("../source/hazards/whole_words.rs"),
];

/// Digest of that code: another version may have found something else.
const RULES: u64 = {
    let mut rules = 0;
    let mut source = 0;
    while source < SOURCES.len() {
        rules = const_xxh3::xxh3_64_with_seed(SOURCES[source].1, rules);
        source += 1;
    }
    rules
};

/// A question to a text about a macro.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacroQuery {
    /// [`scan::headers_given_to`].
    Asked,
    /// [`scan::headers_given_to`] a header of the system, which puts no user's name together.
    AskedWhole,
    /// [`scan::headers_named`].
    Named,
    /// [`scan::values_of`].
    Values,
    /// [`scan::strings_of`]: strings, not names of headers.
    Strings,
}

impl MacroQuery {
    /// The answer of `text` about `word`; `None`: it can't be told.
    pub fn of(self, text: &[u8], word: &[u8]) -> Option<Vec<Header>> {
        match self {
            MacroQuery::Asked => scan::headers_given_to(text, word, false),
            MacroQuery::AskedWhole => scan::headers_given_to(text, word, true),
            MacroQuery::Named => scan::headers_named(text, word),
            MacroQuery::Values => scan::values_of(text, word),
            MacroQuery::Strings => scan::strings_of(text, word),
        }
    }
}

/// The answer of a text about a macro.
#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    /// The number of the [`MacroQuery`].
    #[prost(uint32, tag = "1")]
    ask: u32,
    /// The macro.
    #[prost(bytes = "vec", tag = "2")]
    word: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    headers: Vec<Header>,
    /// The answer can't be told.
    #[prost(bool, tag = "4")]
    lost: bool,
}

/// What is remembered of one file, or of a folder.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HeaderRecord {
    /// The file's, when it was read.
    #[prost(message, required, tag = "1")]
    pub stat: Stat,
    /// XXH3-128 of the content, big endian.
    #[prost(bytes = "vec", tag = "2")]
    content: Vec<u8>,
    /// BLAKE3 of the content; empty where it was not needed.
    #[prost(bytes = "vec", tag = "3")]
    pub digest: Vec<u8>,
    /// Its directives.
    #[prost(message, required, tag = "4")]
    pub scan: Scan,
    /// The file has a `#pragma once`.
    #[prost(bool, tag = "5")]
    pub once: bool,
    #[prost(message, repeated, tag = "6")]
    answers: Vec<Answer>,
    /// The boot in which it was learnt, where the stat does not outlast one.
    #[prost(bytes = "vec", tag = "7")]
    boot: Vec<u8>,
    /// The record is of a folder in which nothing is named as a precompiled header.
    #[prost(bool, tag = "8")]
    lacks_precompiled: bool,
    /// Signs of hazards in the file.
    #[prost(message, required, tag = "9")]
    pub signs: Signs,
    /// [`scan::defined_names`].
    #[prost(bytes = "vec", tag = "10")]
    pub defined: Vec<u8>,
}

impl HeaderRecord {
    /// The record of a file that was just read.
    pub fn new(content: Content, scan: Scan, once: bool) -> HeaderRecord {
        HeaderRecord {
            stat: content.stat,
            content: content.digest.to_be_bytes().to_vec(),
            digest: Vec::new(),
            scan,
            once,
            answers: Vec::new(),
            boot: Vec::new(),
            lacks_precompiled: false,
            signs: Signs::default(),
            defined: Vec::new(),
        }
    }

    /// The record of a folder in which nothing is named as a precompiled header.
    pub fn without_precompiled(stat: Stat) -> HeaderRecord {
        HeaderRecord {
            stat,
            lacks_precompiled: true,
            ..HeaderRecord::default()
        }
    }

    /// Digest and stat; `None`: the record is none of a file's.
    pub fn content(&self) -> Option<Content> {
        Some(Content {
            digest: u128::from_be_bytes(self.content[..].try_into().ok()?),
            stat: self.stat,
        })
    }

    /// The file's answer about `word`, if it is remembered.
    pub fn answer(&self, ask: MacroQuery, word: &[u8]) -> Option<Option<Vec<Header>>> {
        let ask = ask as u32;
        let mut answers = self.answers.iter();
        let answer = answers.find(|answer| answer.ask == ask && answer.word == word)?;
        Some((!answer.lost).then(|| answer.headers.clone()))
    }

    /// Adds the file's answer about `word`; `false`: there are too many answers.
    pub fn learn(&mut self, ask: MacroQuery, word: &[u8], said: &Option<Vec<Header>>) -> bool {
        if self.answers.len() >= ANSWERS_MAX {
            return false;
        }
        self.answers.push(Answer {
            ask: ask as u32,
            word: word.to_vec(),
            headers: said.clone().unwrap_or_default(),
            lost: said.is_none(),
        });
        true
    }
}

/// Whether `stat`, taken at `now_ns` or later of a file that was left alone for
/// `settled_ns`, will be no other content's, at least until the next boot. `layered`: an
/// image may be below. A file that not everybody may read, this user may not read tomorrow.
pub fn may_last(stat: Stat, layered: bool, settled_ns: i64, now_ns: i64) -> bool {
    let readable = stat.mode & 0o004 != 0;
    let settled = stat.youngest_ns().saturating_add(settled_ns) < now_ns;
    let replaced = layered || major(stat.device) == LOOP;
    readable && settled && !(replaced && is_of_an_image(stat))
}

/// Whether the times may be those of a file system image, made in one go: the next image
/// may have the same times and inodes.
fn is_of_an_image(stat: Stat) -> bool {
    stat.mtime_ns == stat.ctime_ns || stat.is_coarse()
}

#[allow(clippy::unnecessary_cast)] // Their widths differ between systems.
fn major(device: u64) -> u64 {
    nix::libc::major(device as nix::libc::dev_t) as u64
}

/// A memo, as it was when it was opened.
#[derive(Debug, Default)]
pub struct Headers {
    file: Option<PathBuf>,
    bytes: Vec<u8>,
    /// The newest record of a device and inode, in `bytes`.
    records: HashMap<(u64, u64), Range<usize>>,
    /// Bytes up to the end of the last whole record.
    sound: usize,
    /// Records to be appended.
    more: Vec<u8>,
    boot: OnceCell<Option<Vec<u8>>>,
}

/// The memo of a project that is built in `folder`, beside `file`, that of the system's
/// headers.
pub fn of_project(file: &Path, folder: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!("-{:016x}", xxh3_64(os::bytes(folder.as_os_str()))));
    name.into()
}

/// The memo of the system's headers.
pub fn file(config: &Config) -> Option<PathBuf> {
    let rules = format!("{RULES:016x}");
    let name = [NAME, rules.as_bytes()].concat();
    config
        .run_folder()
        .map(|run| run.join(os::from_bytes(name)))
}

impl Headers {
    /// Reads the memo in `file`; `None`: nothing is remembered.
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

    /// The record of the file that has `stat`.
    pub fn of(&self, stat: Stat) -> Option<HeaderRecord> {
        let known = self.record(stat)?;
        let whole = known.content().is_some() && Digest::try_from(&known.digest[..]).is_ok();
        whole.then_some(known)
    }

    /// Whether the folder that has `stat` is remembered to hold nothing that is named as a
    /// precompiled header.
    pub fn lacks_precompiled(&self, stat: Stat) -> bool {
        self.record(stat)
            .is_some_and(|known| known.lacks_precompiled)
    }

    fn record(&self, stat: Stat) -> Option<HeaderRecord> {
        let record = self.records.get(&(stat.device, stat.inode))?;
        let (front, body) = self.bytes[..record.end].split_at(record.start);
        if !front.ends_with(&xxh3_64(body).to_be_bytes()) {
            return None;
        }
        let known = HeaderRecord::decode(body).ok()?;
        let holds = !is_of_an_image(stat) || self.boot() == Some(&known.boot);
        (known.stat == stat && holds).then_some(known)
    }

    /// Has [`Headers::save`] append `known`, in place of an older record. Its stat is one
    /// that [`may_last`].
    pub fn add(&mut self, known: &HeaderRecord) {
        if self.file.is_none() {
            return;
        }
        let mut known = known.clone();
        match self.boot() {
            _ if !is_of_an_image(known.stat) => {}
            Some(boot) => known.boot = boot.to_vec(),
            None => return,
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

    fn boot(&self) -> Option<&[u8]> {
        self.boot.get_or_init(boot::id).as_deref()
    }

    /// Appends what was added. Not to remember costs time, nothing else.
    pub fn save(&mut self) {
        let more = std::mem::take(&mut self.more);
        let fits = (1..=FILE_BYTES_MAX).contains(&(more.len() as u64));
        // Writing beyond such a limit would end us.
        if !fits || os::file_size_limit() {
            return;
        }
        if let Some(file) = &self.file {
            let _ = self.append(file, &more);
        }
    }

    fn append(&self, path: &Path, more: &[u8]) -> io::Result<()> {
        let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        private::make(folder)?;
        let file = open_plain(private::options().append(true).create(true), path)?;
        let busy = |(_, errno)| io::Error::from(errno);
        let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(busy)?;
        let len = file.metadata()?.len();
        if len == 0 {
            forget_others(folder, path);
        }
        let sound = self.sound as u64;
        if sound.max(len) + more.len() as u64 > FILE_BYTES_MAX {
            file.set_len(0)?;
        } else if len != self.bytes.len() as u64 {
            // Another compile of this build has learnt the same meanwhile.
            return Ok(());
        } else if sound < len {
            // Somebody was ended in the middle.
            file.set_len(sound)?;
        }
        file.write_all(more)
    }
}

/// Device and inode of the record at `at`, and where its body is; `None`: no whole record
/// is there.
fn record_at(bytes: &[u8], at: usize) -> Option<((u64, u64), Range<usize>)> {
    let front = bytes.get(at..)?.first_chunk::<FRONT_BYTES>()?;
    let number = |at: usize| Some(u64::from_be_bytes(*front[at..].first_chunk::<8>()?));
    let len = u32::from_be_bytes(*front.first_chunk()?) as usize;
    let start = at + FRONT_BYTES;
    let end = start.checked_add(len)?;
    (end <= bytes.len()).then_some(((number(4)?, number(12)?), start..end))
}

/// Removes the memos of other versions that were not used for long.
fn forget_others(folder: &Path, own: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let ours = entry.file_name().as_encoded_bytes().starts_with(NAME);
        let modified = entry.metadata().and_then(|meta| meta.modified());
        let old = modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > FORGOTTEN));
        if ours && old && entry.path() != own {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = open_plain(File::options().read(true), path)?;
    let len = file.metadata()?.len();
    if len > FILE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = Vec::with_capacity(len as usize + 1);
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing that reads C may be left out, or what it found before a change would count.
    #[test]
    fn all_that_reads_c_is_in_the_rules() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/includes");
        for folder in ["../source", "../source/hazards"] {
            for entry in std::fs::read_dir(here.join(folder)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let path = format!("{folder}/{name}");
                let listed = SOURCES.iter().any(|(source, _)| *source == path);
                let is_code = name.ends_with(".rs") && name != "tests.rs";
                assert!(listed || !is_code, "{path}");
            }
        }
    }

    fn known(inode: u64, digest: u128) -> HeaderRecord {
        let stat = Stat {
            device: 1,
            inode,
            size: 3,
            mtime_ns: 4,
            ctime_ns: 5,
            mode: 6,
        };
        let scan = scan::scan(b"#include <a.h>\n#if __has_include(\"b.h\")\n#endif\n");
        let mut known = HeaderRecord::new(Content { digest, stat }, scan, inode == 7);
        known.digest = vec![7; Digest::LEN];
        known
    }

    fn file(name: &str) -> PathBuf {
        let name = format!("hg-headers-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&folder);
        folder.join("headers")
    }

    #[test]
    fn answers_are_bounded_and_the_first_stay() {
        let mut known = known(7, 1);
        let words: Vec<[u8; 2]> = (0..1000_u16).map(u16::to_be_bytes).collect();
        let learnt = words
            .iter()
            .filter(|word| known.learn(MacroQuery::Named, *word, &None));
        assert_eq!(learnt.count(), ANSWERS_MAX);
        assert_eq!(known.answer(MacroQuery::Named, &words[0]), Some(None));
        assert_eq!(known.answer(MacroQuery::Named, &words[ANSWERS_MAX]), None);
    }

    #[test]
    fn what_may_last() {
        const SECOND: u64 = 1_000_000_000;
        let stat = Stat {
            mtime_ns: 100 * SECOND + 1,
            ctime_ns: 200 * SECOND + 2,
            mode: 0o100644,
            ..Stat::default()
        };
        let minute = 60 * SECOND;
        let late = (stat.ctime_ns + minute + 1).cast_signed();
        assert!(may_last(stat, false, SETTLED_NS, late) && may_last(stat, true, SETTLED_NS, late));
        assert!(!may_last(stat, false, SETTLED_NS, late - 1), "too young");
        let private = Stat {
            mode: 0o100640,
            ..stat
        };
        assert!(!may_last(private, false, SETTLED_NS, late));
        let made = Stat {
            mtime_ns: stat.ctime_ns,
            ..stat
        };
        let coarse = Stat {
            mtime_ns: 100 * SECOND,
            ctime_ns: 200 * SECOND,
            ..stat
        };
        for image in [made, coarse] {
            assert!(may_last(image, false, SETTLED_NS, late), "{image:?}");
            assert!(!may_last(image, true, SETTLED_NS, late), "{image:?}");
            let loop_device = Stat {
                device: 0x705,
                ..image
            };
            assert!(!may_last(loop_device, false, SETTLED_NS, late), "{image:?}");
        }
    }

    #[test]
    fn times_of_an_image_hold_until_the_machine_starts_again() {
        let file = file("boot");
        let mut made = known(7, 1);
        made.stat.mtime_ns = made.stat.ctime_ns;
        added(&file, std::slice::from_ref(&made));
        let remembered = |boot: &str| {
            let headers = Headers::open(Some(&file));
            headers.boot.set(Some(boot.into())).unwrap();
            headers.of(made.stat).is_some()
        };
        assert_eq!(
            Headers::open(Some(&file)).of(made.stat).is_some(),
            boot::id().is_some()
        );
        assert!(!remembered("another"));
        std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_pipe_in_its_place_is_passed_over() {
        let file = file("pipe");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        added(&file, &[known(7, 1)]);
        assert_eq!(Headers::open(Some(&file)).of(known(7, 1).stat), None);
        std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    }

    fn added(file: &Path, all: &[HeaderRecord]) {
        let mut headers = Headers::open(Some(file));
        all.iter().for_each(|known| headers.add(known));
        headers.save();
    }

    #[test]
    fn the_newest_of_each_is_remembered() {
        let file = file("newest");
        added(&file, &[known(7, 1), known(8, 2)]);
        let mut again = known(8, 3);
        again.learn(MacroQuery::Asked, b"HAS", &None);
        again.learn(MacroQuery::Named, b"HAS", &Some(Vec::new()));
        added(&file, std::slice::from_ref(&again));
        let headers = Headers::open(Some(&file));
        assert_eq!(headers.of(known(7, 0).stat), Some(known(7, 1)));
        let found = headers.of(again.stat).unwrap();
        assert_eq!(found, again);
        assert_eq!(found.answer(MacroQuery::Asked, b"HAS"), Some(None));
        assert_eq!(
            found.answer(MacroQuery::Named, b"HAS"),
            Some(Some(Vec::new()))
        );
        assert_eq!(found.answer(MacroQuery::Named, b"HA"), None);
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
    fn a_folder_is_no_file() {
        let file = file("folder");
        let (folder, header) = (known(7, 1).stat, known(8, 2));
        added(
            &file,
            &[HeaderRecord::without_precompiled(folder), header.clone()],
        );
        let headers = Headers::open(Some(&file));
        assert!(headers.lacks_precompiled(folder) && headers.of(folder).is_none());
        assert!(!headers.lacks_precompiled(header.stat) && headers.of(header.stat).is_some());
        let changed = Stat {
            size: folder.size + 1,
            ..folder
        };
        assert!(!headers.lacks_precompiled(changed));
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
        large.learn(MacroQuery::Asked, &vec![b'x'; 1 << 20], &None);
        let remembered = |large: &HeaderRecord| Headers::open(Some(&file)).of(large.stat).is_some();
        for _ in 0..10 {
            added(&file, std::slice::from_ref(&large));
            assert!(std::fs::metadata(&file).unwrap().len() <= FILE_BYTES_MAX);
            assert!(remembered(&large));
        }
        let huge = File::options().write(true).open(&file).unwrap();
        huge.set_len(100 * FILE_BYTES_MAX).unwrap();
        assert!(!remembered(&large));
        added(&file, std::slice::from_ref(&large));
        assert!(remembered(&large), "healed");
        std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    }
}
