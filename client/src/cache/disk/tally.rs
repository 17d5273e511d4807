//! Statistics of the cache, and the hits and misses that the coordinator was not told of.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::cache::disk::day_log::{DayLogs, Position};
pub use crate::cache::disk::day_log::{Event, Tally};
use crate::cache::disk::entries::Cache;
use crate::private;

/// Bytes of the logs that are read for one report.
const REPORT_BYTES_MAX: u64 = 1 << 20;
/// Bytes without a hit after which the position is kept, not to read them again.
const SKIP_BYTES: u64 = 64 << 10;

/// The counts of the cache in `folder`.
pub fn tally(folder: &Path) -> Tally {
    DayLogs::new(folder).tally()
}

/// Hits and misses that no coordinator was told of; no other process reports them until
/// this is dropped.
#[derive(Debug)]
pub struct Unreported {
    /// Their number.
    pub hits: u64,
    /// Compiler time that they saved.
    pub saved_ms: u64,
    /// Compiles that the cache had no answer for.
    pub misses: u64,
    until: Position,
    reported: PathBuf,
    _lock: File,
}

impl Unreported {
    /// Notes that they were reported.
    pub fn mark_reported(self) {
        keep_position(&self.reported, &self.until);
    }
}

/// What to report; `None`: there is nothing, or another process reports it.
pub fn unreported(cache: &Cache) -> Option<Unreported> {
    if cache.entries().is_read_only() {
        return None;
    }
    let logs = DayLogs::new(cache.folder());
    let lock = logs.lock("reporting").ok()??;
    let reported = logs.path("reported");
    let from: Position = fs::read(&reported)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    let mut found = Tally::default();
    let until = logs.since(&from, None, REPORT_BYTES_MAX, |event| found.add(event));
    let hits = found.direct_hit + found.preprocessed_hit;
    if hits + found.miss == 0 {
        if until.day != from.day || until.offset > from.offset + SKIP_BYTES {
            keep_position(&reported, &until);
        }
        return None;
    }
    Some(Unreported {
        hits,
        saved_ms: found.saved_ms,
        misses: found.miss,
        until,
        reported,
        _lock: lock,
    })
}

/// Keeps the position; if that fails, all is reported once more.
fn keep_position(reported: &Path, until: &Position) {
    if let Ok(text) = serde_json::to_vec(until) {
        let _ = private::replace_within(reported, &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hit_is_reported_once() {
        let folder = std::env::temp_dir().join(format!("hg-tally-{}", std::process::id()));
        let cache = Cache::open(&folder, 1 << 20, false).unwrap();
        assert!(unreported(&cache).is_none());
        let hit = Event::DirectHit {
            saved_ms: 5,
            bytes: 1,
        };
        cache.record(hit);
        cache.record(Event::Miss { bytes: 1 });
        cache.record(hit);
        let first = unreported(&cache).unwrap();
        assert_eq!((first.hits, first.saved_ms, first.misses), (2, 10, 1));
        assert!(unreported(&cache).is_none(), "one at a time");
        drop(first);
        let again = unreported(&cache).unwrap();
        assert_eq!(again.hits, 2, "the report failed");
        again.mark_reported();
        assert!(unreported(&cache).is_none());
        cache.record(hit);
        let last = unreported(&cache).unwrap();
        assert_eq!((last.hits, last.saved_ms), (1, 5));
        last.mark_reported();
        assert_eq!(tally(&folder).direct_hit, 3);
        fs::remove_dir_all(folder).unwrap();
    }
}
