//! What is done to a whole store, shard by shard, while others read and write it.

use std::fs;
use std::io;
use std::path::Path;

use super::entries::{Entries, Name, ReadOutcome};
use super::shard::{self, LOOKS_MAX, Shards};

/// What is wrong with an entry that is not whole, or not of its name.
const DAMAGED: &str = "damaged";

/// What was done to the shards that have a folder.
#[derive(Debug)]
pub struct Walk<T> {
    /// What came of each.
    pub done: Vec<T>,
    /// Shards that were in use for too long, and were left out.
    pub busy: u64,
}

/// What was found in a shard.
#[derive(Debug, Default)]
pub struct Verified {
    /// Entries that are as they should be.
    pub good: u64,
    /// For people, for each of the others: its path, and what is wrong with it.
    pub wrong: Vec<String>,
}

/// Has `work` done to each shard of the store in `folder`; it gives `None` for one that is
/// in use.
///
/// # Errors
/// As `work`, or the file system says; the shards before are done.
pub fn each_shard<T>(
    folder: &Path,
    mut work: impl FnMut(&Shards, u8) -> io::Result<Option<T>>,
) -> io::Result<Walk<T>> {
    let mut walk = Walk {
        done: Vec::new(),
        busy: 0,
    };
    let shards = Shards::open(folder)?;
    for number in 0..=u8::MAX {
        if !shard::dir(folder, number).exists() {
            continue;
        }
        match work(&shards, number)? {
            Some(done) => walk.done.push(done),
            None => walk.busy += 1,
        }
    }
    Ok(walk)
}

/// Removes all entries. Gives how many each shard had.
///
/// # Errors
/// As the file system says.
pub fn clear(folder: &Path) -> io::Result<Walk<u64>> {
    each_shard(folder, |shards, number| {
        let Some(mut shard) = shards.lock(number, LOOKS_MAX)? else {
            return Ok(None);
        };
        shard.clear().map(Some)
    })
}

/// Counts all files anew, and removes what killed writers have left. Gives how much that
/// was in each shard.
///
/// # Errors
/// As the file system says.
pub fn recount(folder: &Path) -> io::Result<Walk<u64>> {
    for item in fs::read_dir(folder)?.flatten() {
        if let (Some(name), Ok(meta)) = (item.file_name().to_str(), item.metadata()) {
            shard::remove_leftover(name, &meta, &item.path());
        }
    }
    each_shard(folder, |shards, number| {
        let Some(mut shard) = shards.lock(number, LOOKS_MAX)? else {
            return Ok(None);
        };
        Ok(Some(shard.recount()?.leftovers))
    })
}

/// Reads every entry, and removes those that are damaged, or of which `why_bad` says in a
/// word why they should go.
///
/// # Errors
/// As the file system says.
pub fn verify(
    entries: &Entries,
    mut why_bad: impl FnMut(Name, &[u8]) -> Option<&'static str>,
) -> io::Result<Walk<Verified>> {
    each_shard(entries.folder(), |_, number| {
        verify_shard(entries, number, &mut why_bad).map(Some)
    })
}

fn verify_shard(
    entries: &Entries,
    number: u8,
    why_bad: &mut impl FnMut(Name, &[u8]) -> Option<&'static str>,
) -> io::Result<Verified> {
    let mut verified = Verified::default();
    let mut judge = |name, outcome: &ReadOutcome| match outcome {
        ReadOutcome::Body(body) => why_bad(name, body),
        ReadOutcome::Damaged => Some(DAMAGED),
        ReadOutcome::Absent | ReadOutcome::Unreadable(_) => None,
    };
    let items = match fs::read_dir(shard::dir(entries.folder(), number)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(verified),
        other => other?,
    };
    for item in items {
        let item = item?;
        let file_name = item.file_name();
        let id = file_name.to_str().and_then(shard::id_of);
        let Some(name) = id.and_then(|id| Name::of(number, &id)) else {
            continue;
        };
        let path = item.path();
        let path = path.display();
        let outcome = entries.read_checked(name, false);
        let why = match (&outcome, judge(name, &outcome)) {
            // Evicted meanwhile.
            (ReadOutcome::Absent, _) => continue,
            (ReadOutcome::Unreadable(error), _) => {
                verified.wrong.push(format!("{path}: {error}"));
                continue;
            }
            (_, None) => {
                verified.good += 1;
                continue;
            }
            (_, Some(why)) => why,
        };
        // Another process may have put a good one in its place.
        let is_bad = |outcome: ReadOutcome| judge(name, &outcome).is_some();
        let removed = entries.remove_if(name, LOOKS_MAX, is_bad);
        verified.wrong.push(match removed {
            Ok(true) => format!("{path}: {why}, removed"),
            Ok(false) => format!("{path}: {why}, in use"),
            Err(error) => format!("{path}: {why}: {error}"),
        });
    }
    Ok(verified)
}
