//! The log of the cache's events: one line for each in a file for each day (UTC), and the
//! counts of older days in one file.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::private;

/// Bytes of a line, its end included.
const LINE_BYTES_MAX: u64 = 256;
/// Bytes of a reason's code.
const CODE_BYTES_MAX: usize = 64;
/// Different reasons that are counted one by one.
const CODES_MAX: usize = 256;
/// Bytes of the counts of older days.
const FOLDED_BYTES_MAX: u64 = 1 << 20;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// An event of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A hit by the command and the files that it reads.
    DirectHit { saved_ms: u64, bytes: u64 },
    /// A hit by the preprocessed text.
    PreprocessedHit { saved_ms: u64, bytes: u64 },
    /// No answer; so many bytes were stored.
    Miss { bytes: u64 },
    /// A command in which the cache took no part, and the reason's code.
    Bypass(&'a str),
    /// A failure of the cache, and its code.
    Error(&'a str),
    /// Entries that were removed to make room.
    Evicted { entries: u64, bytes: u64 },
}

impl Event<'_> {
    /// The line of the log.
    pub fn line(&self) -> String {
        match self {
            Event::DirectHit { saved_ms, bytes } => format!("D {saved_ms} {bytes}\n"),
            Event::PreprocessedHit { saved_ms, bytes } => format!("P {saved_ms} {bytes}\n"),
            Event::Miss { bytes } => format!("M {bytes}\n"),
            Event::Bypass(code) => format!("B {}\n", one_word(code)),
            Event::Error(code) => format!("E {}\n", one_word(code)),
            Event::Evicted { entries, bytes } => format!("V {entries} {bytes}\n"),
        }
    }

    /// Parses a line; `None`: it is torn, or none of ours.
    pub fn parse(line: &str) -> Option<Event<'_>> {
        let mut words = line.strip_suffix('\n')?.split(' ');
        let kind = words.next()?;
        let first = words.next()?;
        let second = words.next();
        let number = |word: &str| word.parse::<u64>().ok();
        let event = match (kind, second) {
            ("D", Some(second)) => Event::DirectHit {
                saved_ms: number(first)?,
                bytes: number(second)?,
            },
            ("P", Some(second)) => Event::PreprocessedHit {
                saved_ms: number(first)?,
                bytes: number(second)?,
            },
            ("V", Some(second)) => Event::Evicted {
                entries: number(first)?,
                bytes: number(second)?,
            },
            ("M", None) => Event::Miss {
                bytes: number(first)?,
            },
            ("B", None) if one_word(first) == first => Event::Bypass(first),
            ("E", None) if one_word(first) == first => Event::Error(first),
            _ => return None,
        };
        words.next().is_none().then_some(event)
    }
}

/// `code` as one printable word.
fn one_word(code: &str) -> String {
    let printable = code.chars().map(|letter| match letter {
        '!'..='~' => letter,
        _ => '_',
    });
    let word: String = printable.take(CODE_BYTES_MAX).collect();
    if word.is_empty() {
        "_".to_owned()
    } else {
        word
    }
}

/// Counts of events.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    pub direct_hit: u64,
    pub preprocessed_hit: u64,
    pub miss: u64,
    /// By reason.
    pub bypass: BTreeMap<String, u64>,
    /// By code.
    pub error: BTreeMap<String, u64>,
    /// Taken from the cache by hits.
    pub bytes_read: u64,
    /// Stored by misses.
    pub bytes_written: u64,
    /// Entries that made room.
    pub evictions: u64,
    pub evicted_bytes: u64,
    /// Compiler time that hits saved.
    pub saved_ms: u64,
}

impl Tally {
    /// Adds one event.
    pub fn add(&mut self, event: &Event<'_>) {
        let add = |to: &mut u64, more: u64| *to = to.saturating_add(more);
        match event {
            Event::DirectHit { saved_ms, bytes } => {
                add(&mut self.direct_hit, 1);
                add(&mut self.saved_ms, *saved_ms);
                add(&mut self.bytes_read, *bytes);
            }
            Event::PreprocessedHit { saved_ms, bytes } => {
                add(&mut self.preprocessed_hit, 1);
                add(&mut self.saved_ms, *saved_ms);
                add(&mut self.bytes_read, *bytes);
            }
            Event::Miss { bytes } => {
                add(&mut self.miss, 1);
                add(&mut self.bytes_written, *bytes);
            }
            Event::Bypass(code) => count(&mut self.bypass, code),
            Event::Error(code) => count(&mut self.error, code),
            Event::Evicted { entries, bytes } => {
                add(&mut self.evictions, *entries);
                add(&mut self.evicted_bytes, *bytes);
            }
        }
    }
}

fn count(codes: &mut BTreeMap<String, u64>, code: &str) {
    let code = if codes.contains_key(code) || codes.len() < CODES_MAX {
        code
    } else {
        "other"
    };
    let counted = codes.entry(code.to_owned()).or_default();
    *counted = counted.saturating_add(1);
}

/// A position in the logs up to which events were counted.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The day, as its log is named.
    pub day: String,
    /// Bytes into that log.
    pub offset: u64,
}

/// The counts up to a position.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Folded {
    until: Position,
    tally: Tally,
}

/// The logs of a cache folder.
#[derive(Debug)]
pub struct DayLogs {
    folder: PathBuf,
}

impl DayLogs {
    /// The logs of the cache in `folder`.
    pub fn new(folder: &Path) -> Self {
        DayLogs {
            folder: folder.join("events"),
        }
    }

    /// Adds a line: one open, one write. Statistics lack a line that can't be written.
    pub fn append(&self, event: &Event<'_>) {
        let path = self.folder.join(day_name(SystemTime::now()));
        let mut options = OpenOptions::new();
        let log = options.append(true).open(&path);
        let first = log.is_err();
        let log = log.or_else(|_| {
            private::make_within(&self.folder)?;
            options.create(true).mode(private::file_mode(&self.folder));
            options.open(&path)
        });
        if let Ok(mut log) = log {
            let _ = log.write_all(event.line().as_bytes());
        }
        if first {
            // The first of a day tidies up after the others.
            self.fold();
        }
    }

    /// All counts.
    pub fn tally(&self) -> Tally {
        let mut folded = self.folded();
        let tally = &mut folded.tally;
        self.since(&folded.until, None, u64::MAX, |event| tally.add(event));
        folded.tally
    }

    /// Starts all counts at zero. False: another process is folding.
    pub fn zero(&self) -> io::Result<bool> {
        let Some(_lock) = self.lock("folding")? else {
            return Ok(false);
        };
        let day = day_name(SystemTime::now());
        let offset = fs::metadata(self.folder.join(&day)).map_or(0, |meta| meta.len());
        self.keep(&Folded {
            until: Position { day, offset },
            tally: Tally::default(),
        })?;
        Ok(true)
    }

    /// Counts the logs up to the day before yesterday together, and removes them. A process
    /// that began before midnight may still write to yesterday's.
    pub fn fold(&self) {
        let Ok(Some(_lock)) = self.lock("folding") else {
            return;
        };
        let mut folded = self.folded();
        let yesterday = day_name(SystemTime::now() - DAY);
        if self.days().iter().any(|day| *day < yesterday) {
            if folded.until.day < yesterday {
                let tally = &mut folded.tally;
                let end = Some(yesterday.as_str());
                self.since(&folded.until, end, u64::MAX, |event| tally.add(event));
                folded.until = Position {
                    day: yesterday.clone(),
                    offset: 0,
                };
                if self.keep(&folded).is_err() {
                    return;
                }
            }
            for day in self.days().iter().filter(|day| **day < yesterday) {
                let _ = fs::remove_file(self.folder.join(day));
            }
        }
    }

    fn folded(&self) -> Folded {
        let read = || -> Option<Folded> {
            let mut text = Vec::new();
            let file = File::open(self.folder.join("folded")).ok()?;
            file.take(FOLDED_BYTES_MAX).read_to_end(&mut text).ok()?;
            serde_json::from_slice(&text).ok()
        };
        read().unwrap_or_default()
    }

    fn keep(&self, folded: &Folded) -> io::Result<()> {
        let text = serde_json::to_vec(folded).map_err(io::Error::other)?;
        private::replace_within(&self.folder.join("folded"), &text)
    }

    /// Passes each event from `from` on, before the log of `end`, out of `bytes_max` bytes at
    /// most, to `take`. Returns the position after the last whole line.
    pub fn since(
        &self,
        from: &Position,
        end: Option<&str>,
        bytes_max: u64,
        mut take: impl FnMut(&Event<'_>),
    ) -> Position {
        let mut at = from.clone();
        let mut left = bytes_max;
        for day in self.days() {
            if day < from.day || end.is_some_and(|end| *day >= *end) || left == 0 {
                continue;
            }
            let offset = if day == from.day { from.offset } else { 0 };
            let Ok(read) = self.read_day(&day, offset, left, &mut take) else {
                continue;
            };
            left = left.saturating_sub(read);
            at = Position {
                day,
                offset: offset + read,
            };
        }
        at
    }

    fn read_day(
        &self,
        day: &str,
        offset: u64,
        bytes_max: u64,
        take: &mut impl FnMut(&Event<'_>),
    ) -> io::Result<u64> {
        let mut log = File::open(self.folder.join(day))?;
        log.seek(SeekFrom::Start(offset))?;
        let mut log = BufReader::new(log);
        let mut line = Vec::new();
        let mut read = 0;
        while read < bytes_max {
            line.clear();
            (&mut log)
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)?;
            let torn = !line.ends_with(b"\n");
            if torn && (line.len() as u64) < LINE_BYTES_MAX {
                break;
            }
            read += line.len() as u64;
            let text = str::from_utf8(&line).unwrap_or_default();
            if let Some(event) = Event::parse(text) {
                take(&event);
            }
        }
        Ok(read)
    }

    /// The days that have a log, in order.
    fn days(&self) -> Vec<String> {
        let Ok(items) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let names = items
            .flatten()
            .filter_map(|it| it.file_name().into_string().ok());
        let mut days: Vec<String> = names.filter(|name| is_day(name)).collect();
        days.sort();
        days
    }

    /// Takes the lock of this name; `None`: another process holds it.
    pub fn lock(&self, name: &str) -> io::Result<Option<File>> {
        private::make_within(&self.folder)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        options.mode(private::file_mode(&self.folder));
        let file = options.open(self.folder.join(name))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// The path of the file of this name.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// `2026-01-31`, in UTC.
fn day_name(time: SystemTime) -> String {
    let mut text = humantime::format_rfc3339_seconds(time).to_string();
    text.truncate(10);
    text
}

fn is_day(name: &str) -> bool {
    name.len() == 10
        && name.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(name: &str) -> (PathBuf, DayLogs) {
        let folder = std::env::temp_dir().join(format!("hg-day-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("events")).unwrap();
        let logs = DayLogs::new(&folder);
        (folder, logs)
    }

    const HIT: Event<'static> = Event::DirectHit {
        saved_ms: 20,
        bytes: 300,
    };

    #[test]
    fn lines_come_back_and_foreign_ones_do_not() {
        let events = [
            HIT,
            Event::PreprocessedHit {
                saved_ms: 1,
                bytes: 2,
            },
            Event::Miss { bytes: 7 },
            Event::Bypass("link"),
            Event::Error("cache-full"),
            Event::Evicted {
                entries: 3,
                bytes: 4,
            },
        ];
        for event in events {
            assert_eq!(Event::parse(&event.line()), Some(event));
        }
        assert_eq!(Event::Bypass("a b\nD 1 1").line(), "B a_b_D_1_1\n");
        for line in [
            "",
            "\n",
            "D 1 2",
            "D 1\n",
            "D 1 2 3\n",
            "D 1 2D 1 2\n",
            "M 1M 2\n",
            "M -1\n",
            "X 1 2\n",
            "B \n",
        ] {
            assert_eq!(Event::parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn torn_and_foreign_lines_are_skipped() {
        let (folder, logs) = logs("torn");
        let day = logs.path(&day_name(SystemTime::now()));
        let long = "x".repeat(1000);
        fs::write(&day, format!("D 1 2\nrubbish\n\u{7f}\n{long}\nM 5\nM 1")).unwrap();
        let tally = logs.tally();
        assert_eq!((tally.direct_hit, tally.miss), (1, 1));
        assert_eq!((tally.bytes_read, tally.bytes_written), (2, 5));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn old_days_are_folded_once() {
        let (folder, logs) = logs("fold");
        fs::write(logs.path("2020-01-01"), "D 1 2\nB link\n").unwrap();
        fs::write(logs.path("2020-01-02"), "D 1 2\n").unwrap();
        logs.append(&HIT);
        assert_eq!(logs.days().len(), 1, "the first of a day folds");
        let before = logs.tally();
        assert_eq!((before.direct_hit, before.saved_ms), (3, 22));
        // Killed before the old logs went: they are not counted again.
        fs::write(logs.path("2020-01-02"), "D 1 2\n").unwrap();
        assert_eq!(logs.tally(), before);
        logs.fold();
        assert_eq!(logs.tally(), before);
        assert_eq!(logs.days().len(), 1);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn zero_starts_again() {
        let (folder, logs) = logs("zero");
        logs.append(&HIT);
        assert!(logs.zero().unwrap());
        assert_eq!(logs.tally(), Tally::default());
        logs.append(&Event::Miss { bytes: 9 });
        let tally = logs.tally();
        assert_eq!((tally.direct_hit, tally.miss), (0, 1));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn reasons_have_a_bound() {
        let mut tally = Tally::default();
        for number in 0..2 * CODES_MAX {
            tally.add(&Event::Bypass(&number.to_string()));
        }
        assert_eq!(tally.bypass.len(), CODES_MAX + 1);
        assert_eq!(tally.bypass["other"], CODES_MAX as u64);
    }
}
