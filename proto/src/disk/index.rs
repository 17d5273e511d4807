//! The entries of a shard of the cache, the sizes of all shards, and the order of eviction.
//! Pure: it sees bytes of the journal, the index and the size table, never a file or a
//! clock.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The kind of an entry's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Facts of a key.
    Manifest,
    /// Result of a compile.
    Result,
    /// Last key of a source.
    Trail,
    /// What a worker made of a task.
    Task,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 4] = [Kind::Manifest, Kind::Result, Kind::Trail, Kind::Task];

    /// The last byte of its entries' ids, and the end of their files' names.
    pub fn letter(self) -> u8 {
        match self {
            Kind::Manifest => b'm',
            Kind::Result => b'r',
            Kind::Trail => b't',
            Kind::Task => b'k',
        }
    }

    /// The inverse of [`Kind::letter`].
    pub fn of(letter: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.letter() == letter)
    }
}

/// Shards of a cache, each with a lock of its own.
pub const SHARDS: usize = 256;
/// Bytes of one change in a journal or an index.
pub const RECORD_BYTES: usize = 32;
/// Bytes of one shard in the size table.
pub const SLOT_BYTES: usize = 32;
/// Disks give space in blocks, and so is it counted.
const BLOCK_BYTES: u64 = 4096;
/// First bytes of an index, with its format's version.
const INDEX_MAGIC: [u8; 8] = *b"hgindex1";
/// Bytes of an index's magic and number of records.
const INDEX_HEAD_BYTES: usize = 16;
/// Number of blocks of a record that removes an entry.
const REMOVED: u32 = u32::MAX;
/// Seed of the check: a record of zeros must not be valid.
const RECORD_SEED: u64 = 0x6867_7265_636f_7264;
const SLOT_SEED: u64 = 0x6867_2073_6c6f_7420;

/// An entry within its shard: 15 bytes of key, and the kind's letter.
pub type Id = [u8; 16];

/// Bytes that a file of `len` bytes takes on a disk.
pub fn on_disk(len: u64) -> u64 {
    len.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES)
}

/// Size and age of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Bytes, as [`on_disk`] counts.
    pub bytes: u64,
    /// Its last use, nanoseconds since 1970.
    pub used_ns: u64,
}

/// A record of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The entry was stored.
    Put(Id, Entry),
    /// The entry was removed.
    Removed(Id),
}

impl Change {
    /// 16 bytes id, 8 bytes time, 4 bytes blocks, 4 bytes check.
    pub fn encode(&self) -> [u8; RECORD_BYTES] {
        let (id, used_ns, blocks) = match self {
            Change::Put(id, entry) => {
                let blocks = u32::try_from(entry.bytes.div_ceil(BLOCK_BYTES));
                (id, entry.used_ns, blocks.unwrap_or(REMOVED - 1))
            }
            Change::Removed(id) => (id, 0, REMOVED),
        };
        let mut record = [0; RECORD_BYTES];
        record[..16].copy_from_slice(id);
        record[16..24].copy_from_slice(&used_ns.to_le_bytes());
        record[24..28].copy_from_slice(&blocks.to_le_bytes());
        let check = record_check(&record);
        record[28..].copy_from_slice(&check.to_le_bytes());
        record
    }

    /// `None`: damaged.
    pub fn decode(record: &[u8; RECORD_BYTES]) -> Option<Change> {
        if record_check(record) != u32_at(record, 28) {
            return None;
        }
        let mut id = [0; 16];
        id.copy_from_slice(&record[..16]);
        Some(match u32_at(record, 24) {
            REMOVED => Change::Removed(id),
            blocks => {
                let entry = Entry {
                    bytes: u64::from(blocks) * BLOCK_BYTES,
                    used_ns: u64_at(record, 16),
                };
                Change::Put(id, entry)
            }
        })
    }
}

fn record_check(record: &[u8; RECORD_BYTES]) -> u32 {
    xxh3_64_with_seed(&record[..28], RECORD_SEED) as u32
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// The entries of one shard.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Entries {
    known: BTreeMap<Id, Entry>,
    bytes: u64,
}

impl Entries {
    /// Takes over what a packed index says. False: it is not whole.
    pub fn fold_index(&mut self, index: &[u8]) -> bool {
        let Some((head, records)) = index.split_at_checked(INDEX_HEAD_BYTES) else {
            return false;
        };
        let whole = head[..8] == INDEX_MAGIC && {
            let count = u64_at(head, 8);
            count.checked_mul(RECORD_BYTES as u64) == Some(records.len() as u64)
        };
        self.fold(records) && whole
    }

    /// Applies the changes of a journal in their order; to apply them again
    /// changes nothing. False: some were damaged and left out.
    pub fn fold(&mut self, journal: &[u8]) -> bool {
        let (records, rest) = journal.as_chunks::<RECORD_BYTES>();
        let mut whole = rest.is_empty();
        for record in records {
            match Change::decode(record) {
                Some(change) => self.apply(change),
                None => whole = false,
            }
        }
        whole
    }

    /// Applies one change.
    pub fn apply(&mut self, change: Change) {
        let before = match change {
            Change::Put(id, entry) => {
                self.bytes = self.bytes.saturating_add(entry.bytes);
                self.known.insert(id, entry)
            }
            Change::Removed(id) => self.known.remove(&id),
        };
        self.bytes = self
            .bytes
            .saturating_sub(before.map_or(0, |entry| entry.bytes));
    }

    /// Encodes the entries as an index, for [`Entries::fold_index`].
    pub fn index(&self) -> Vec<u8> {
        let mut index = Vec::with_capacity(INDEX_HEAD_BYTES + self.known.len() * RECORD_BYTES);
        index.extend_from_slice(&INDEX_MAGIC);
        index.extend_from_slice(&(self.known.len() as u64).to_le_bytes());
        for (id, entry) in &self.known {
            index.extend_from_slice(&Change::Put(*id, *entry).encode());
        }
        index
    }

    /// The entries in the order of eviction; equally old ones by id.
    pub fn oldest_first(&self) -> Vec<(Id, Entry)> {
        let mut all: Vec<(Id, Entry)> = self.known.iter().map(|(id, it)| (*id, *it)).collect();
        all.sort_by_key(|(id, entry)| (entry.used_ns, *id));
        all
    }

    /// The slot for the size table, where the files were last counted at `recounted_s`
    /// (seconds since 1970).
    pub fn slot(&self, recounted_s: u32) -> Slot {
        Slot {
            bytes: self.bytes,
            oldest_ns: self.known.values().map(|it| it.used_ns).min().unwrap_or(0),
            entries: u32::try_from(self.known.len()).unwrap_or(u32::MAX),
            recounted_s,
        }
    }
}

/// Size and age of a shard, in the size table.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Bytes of all entries, as [`on_disk`] counts; may be too high, for a while.
    pub bytes: u64,
    /// Last use of the oldest entry, or earlier: nanoseconds since 1970.
    pub oldest_ns: u64,
    /// Number of entries.
    pub entries: u32,
    /// When the files themselves were last counted: seconds since 1970.
    pub recounted_s: u32,
}

impl Slot {
    /// 8 bytes size, 8 bytes time, 4 bytes count, 4 bytes time, 8 bytes check.
    pub fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut slot = [0; SLOT_BYTES];
        slot[..8].copy_from_slice(&self.bytes.to_le_bytes());
        slot[8..16].copy_from_slice(&self.oldest_ns.to_le_bytes());
        slot[16..20].copy_from_slice(&self.entries.to_le_bytes());
        slot[20..24].copy_from_slice(&self.recounted_s.to_le_bytes());
        let check = xxh3_64_with_seed(&slot[..24], SLOT_SEED);
        slot[24..].copy_from_slice(&check.to_le_bytes());
        slot
    }

    /// `None`: never written, or damaged.
    pub fn decode(slot: &[u8; SLOT_BYTES]) -> Option<Slot> {
        let check = xxh3_64_with_seed(&slot[..24], SLOT_SEED);
        (check == u64_at(slot, 24)).then(|| Slot {
            bytes: u64_at(slot, 0),
            oldest_ns: u64_at(slot, 8),
            entries: u32_at(slot, 16),
            recounted_s: u32_at(slot, 20),
        })
    }

    /// With an entry of `bytes` more, used at `now_ns`, in place of one of
    /// `replaced` bytes.
    pub fn with(&self, bytes: u64, replaced: Option<u64>, now_ns: u64) -> Slot {
        let kept = self.bytes.saturating_sub(replaced.unwrap_or(0));
        Slot {
            bytes: kept.saturating_add(bytes),
            oldest_ns: if self.entries == 0 {
                now_ns
            } else {
                self.oldest_ns
            },
            entries: self.entries.saturating_add(u32::from(replaced.is_none())),
            recounted_s: self.recounted_s,
        }
    }
}

/// The size table: what each shard holds; `None` where that is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots(Vec<Option<Slot>>);

impl Slots {
    /// Decodes the table's bytes; of shards that are missing nothing is known.
    pub fn decode(table: &[u8]) -> Slots {
        let (slots, _) = table.as_chunks::<SLOT_BYTES>();
        let mut all: Vec<Option<Slot>> = slots.iter().take(SHARDS).map(Slot::decode).collect();
        all.resize(SHARDS, None);
        Slots(all)
    }

    /// The slot of one shard, if it is known.
    pub fn get(&self, shard: u8) -> Option<Slot> {
        self.0.get(usize::from(shard)).copied().flatten()
    }

    /// Shards of which nothing is known.
    pub fn unknown(&self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).filter(|shard| self.get(*shard).is_none())
    }

    /// Bytes of all that is known.
    pub fn total(&self) -> u64 {
        let known = self.0.iter().flatten();
        known.fold(0, |sum, slot| sum.saturating_add(slot.bytes))
    }

    /// Number of entries of all that is known.
    pub fn entries(&self) -> u64 {
        let known = self.0.iter().flatten();
        known.map(|slot| u64::from(slot.entries)).sum()
    }

    /// The shard with the entry that was not used for the longest time, but for those in
    /// `skip`.
    pub fn oldest(&self, skip: &[bool; SHARDS]) -> Option<(u8, Slot)> {
        (0..=u8::MAX)
            .filter(|shard| !skip[usize::from(*shard)])
            .filter_map(|shard| Some((shard, self.get(shard)?)))
            .filter(|(_, slot)| slot.bytes > 0 || slot.entries > 0)
            .min_by_key(|(shard, slot)| (slot.oldest_ns, *shard))
    }
}

/// Bytes of the oldest entries that a shard of `shard_bytes` gives when `need` of `total`
/// must go: keys are spread evenly, so each shard holds its share of the oldest. At least one
/// byte, so that one entry is looked at.
pub fn share(need: u64, shard_bytes: u64, total: u64) -> u64 {
    let share = u128::from(need) * u128::from(shard_bytes) / u128::from(total.max(1));
    u64::try_from(share).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> Id {
        let mut id = [7; 16];
        id[0] = number;
        id
    }

    fn put(number: u8, blocks: u64, used_ns: u64) -> Change {
        let bytes = blocks * BLOCK_BYTES;
        Change::Put(id(number), Entry { bytes, used_ns })
    }

    fn journal(changes: &[Change]) -> Vec<u8> {
        changes.iter().flat_map(Change::encode).collect()
    }

    #[test]
    fn a_file_takes_whole_blocks() {
        assert_eq!(on_disk(0), 0);
        assert_eq!(on_disk(1), 4096);
        assert_eq!(on_disk(4096), 4096);
        assert_eq!(on_disk(4097), 8192);
        assert!(on_disk(u64::MAX) > 1 << 60);
    }

    #[test]
    fn a_record_comes_back_and_a_damaged_one_does_not() {
        for change in [put(1, 5, 77), Change::Removed(id(9))] {
            let record = change.encode();
            assert_eq!(Change::decode(&record), Some(change));
            for at in 0..RECORD_BYTES {
                let mut damaged = record;
                damaged[at] ^= 0x10;
                assert_eq!(Change::decode(&damaged), None, "byte {at}");
            }
        }
        assert_eq!(Change::decode(&[0; RECORD_BYTES]), None);
        assert_eq!(Slot::decode(&[0; SLOT_BYTES]), None);
    }

    #[test]
    fn a_journal_applied_twice_is_applied_once() {
        let changes = [
            put(1, 1, 10),
            put(2, 2, 20),
            put(1, 4, 30),
            Change::Removed(id(2)),
            put(3, 8, 40),
        ];
        let mut once = Entries::default();
        assert!(once.fold(&journal(&changes)));
        assert_eq!(once.slot(5).bytes, 12 * BLOCK_BYTES);
        assert_eq!(once.slot(5).entries, 2);
        assert_eq!(once.slot(5).oldest_ns, 30);
        // Killed between the new index and the emptied journal.
        let mut twice = Entries::default();
        assert!(twice.fold_index(&once.index()));
        assert_eq!(twice, once);
        assert!(twice.fold(&journal(&changes)));
        assert_eq!(twice, once);
    }

    #[test]
    fn a_damaged_index_says_so_and_keeps_the_rest() {
        let mut entries = Entries::default();
        for number in 0..5 {
            entries.apply(put(number, 1, u64::from(number)));
        }
        let index = entries.index();
        for at in 0..index.len() {
            let mut damaged = index.clone();
            damaged[at] ^= 1;
            assert!(!Entries::default().fold_index(&damaged), "byte {at}");
            assert!(!Entries::default().fold_index(&index[..at]), "cut at {at}");
        }
        let mut rest = Entries::default();
        rest.fold_index(&index[..index.len() - RECORD_BYTES]);
        assert_eq!(rest.slot(0).entries, 4);
    }

    #[test]
    fn the_oldest_go_first() {
        let mut entries = Entries::default();
        for (number, used_ns) in [(1, 30), (2, 10), (3, 20), (4, 10)] {
            entries.apply(put(number, 1, used_ns));
        }
        let order: Vec<u8> = entries.oldest_first().iter().map(|(id, _)| id[0]).collect();
        assert_eq!(order, [2, 4, 3, 1]);
    }

    #[test]
    fn the_table_knows_what_it_does_not_know() {
        let slot = |bytes, oldest_ns| Slot {
            bytes,
            oldest_ns,
            entries: u32::from(bytes > 0),
            recounted_s: 1,
        };
        let mut table: Vec<u8> = (0..SHARDS).flat_map(|_| slot(0, 0).encode()).collect();
        let at = |shard: usize| shard * SLOT_BYTES..(shard + 1) * SLOT_BYTES;
        table[at(3)].copy_from_slice(&slot(100, 50).encode());
        table[at(9)].copy_from_slice(&slot(200, 40).encode());
        table[at(200)].copy_from_slice(&slot(300, 60).encode());
        let slots = Slots::decode(&table);
        assert_eq!((slots.total(), slots.entries()), (600, 3));
        assert_eq!(slots.unknown().count(), 0);
        let mut skip = [false; SHARDS];
        let mut order = Vec::new();
        while let Some((shard, _)) = slots.oldest(&skip) {
            order.push(shard);
            skip[usize::from(shard)] = true;
        }
        assert_eq!(order, [9, 3, 200]);
        table[9 * SLOT_BYTES] ^= 1;
        table.truncate(255 * SLOT_BYTES + 3);
        let slots = Slots::decode(&table);
        assert_eq!(slots.total(), 400);
        assert_eq!(slots.unknown().collect::<Vec<_>>(), [9, 255]);
    }

    #[test]
    fn a_slot_counts_what_is_replaced_once() {
        let empty = Slot::default();
        let one = empty.with(4096, None, 70);
        assert_eq!((one.bytes, one.entries, one.oldest_ns), (4096, 1, 70));
        let two = one.with(8192, None, 80);
        assert_eq!((two.bytes, two.entries, two.oldest_ns), (12288, 2, 70));
        let replaced = two.with(4096, Some(8192), 90);
        assert_eq!((replaced.bytes, replaced.entries), (8192, 2));
    }

    #[test]
    fn each_shard_gives_its_share() {
        assert_eq!(share(100, 50, 1000), 5);
        assert_eq!(share(1, 1, 1000), 1);
        assert_eq!(share(u64::MAX, u64::MAX, 1), u64::MAX);
        assert_eq!(share(5, 5, 0), 25);
    }
}
