//! The compile cache's entries, and the notes of what was done with them.

use std::path::Path;

use hg_proto::disk::entries::{Entries, Name, Unusable};
use hg_proto::disk::shard::Shrunk;

use crate::cache::disk::day_log::{DayLogs, Event};

/// A cache in its folder.
#[derive(Debug, Clone)]
pub struct Cache {
    entries: Entries,
}

impl Cache {
    /// The cache in `folder`, of at most `size_bytes_max` bytes on disk; made
    /// if there is none. With `read_only` nothing in it is ever written.
    ///
    /// # Errors
    /// Why it can't be used.
    pub fn open(folder: &Path, size_bytes_max: u64, read_only: bool) -> Result<Cache, Unusable> {
        let entries = Entries::open(folder, size_bytes_max, read_only)?;
        Ok(Cache { entries })
    }

    /// Its entries.
    pub fn entries(&self) -> &Entries {
        &self.entries
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.entries.folder()
    }

    /// Adds `event` to the statistics.
    pub fn record(&self, event: Event<'_>) {
        if !self.entries.is_read_only() {
            DayLogs::new(self.folder()).append(&event);
        }
    }

    /// The body of an entry. `None`: it is absent, or was damaged and is
    /// removed.
    pub fn read(&self, name: Name) -> Option<Vec<u8>> {
        self.entries.read(name)
    }

    /// Stores an entry as [`Entries::write`] does, and notes what became of that.
    ///
    /// # Errors
    /// The disk can't be written, or is full.
    pub fn write(&self, name: Name, body: &[u8]) -> Result<(), Unusable> {
        let mut evicted = Shrunk::default();
        let stored = self.entries.write(name, body, &mut evicted);
        if evicted.entries > 0 {
            self.record(Event::Evicted {
                entries: evicted.entries,
                bytes: evicted.bytes,
            });
        }
        if !stored? {
            self.record(Event::Error("cache-busy"));
        }
        Ok(())
    }
}
