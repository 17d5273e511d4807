//! One shard of the cache under its lock: the journal, the packed index and its
//! place in the size table. It knows names and sizes of entries, never what is
//! in them.
//!
//! Killed anywhere, a holder leaves at most a size that is too high: an entry
//! is counted before its file appears, and discounted after it went. An entry
//! that is counted but has no file is dropped when eviction meets it.
//!
//! Why there are journal and index although a folder could be listed: to list and stat a
//! shard of 4,000 entries (a cache of a million) takes 10 ms, to read its index 0.3 ms, and
//! eviction does it under the lock, shard after shard. At four entries both take
//! microseconds.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::compiler::turn;
use crate::secure::atomic_file::{TEMPORARY_SUFFIX, temporary_name};

use crate::disk::index::{
    Change, Entries, Entry, Id, Kind, SHARDS, SLOT_BYTES, Slot, Slots, on_disk,
};
use crate::disk::team_folder;

/// Looks at a lock that another process holds, before its shard is given up.
pub const LOOKS_MAX: u32 = 250;
/// A journal of more bytes is packed into the index: 512 changes.
const JOURNAL_BYTES_MAX: u64 = 16 << 10;
/// Seconds after which the files of a shard are counted again.
const RECOUNT_S: u32 = 24 * 60 * 60;
/// A temporary file of this age belongs to nobody any more.
const LEFTOVER: Duration = Duration::from_secs(60 * 60);
/// Reads of the size table before a slot counts as damaged, not as half written.
const TABLE_READS_MAX: usize = 3;

/// A cache folder's shards, and the table of their sizes.
#[derive(Debug)]
pub struct Shards {
    folder: PathBuf,
    table: File,
}

impl Shards {
    /// Opens the shards of the cache in `folder`; makes the size table if there is none.
    pub fn open(folder: &Path) -> io::Result<Shards> {
        let path = folder.join("sizes");
        let open = || table_options(folder).open(&path);
        let table = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_table(folder, &path)?;
                open()?
            }
            other => other?,
        };
        Ok(Shards {
            folder: folder.to_path_buf(),
            table,
        })
    }

    /// The size table.
    pub fn slots(&self) -> io::Result<Slots> {
        let mut slots = self.read_table()?;
        for _ in 1..TABLE_READS_MAX {
            if slots.unknown().next().is_none() {
                break;
            }
            slots = self.read_table()?;
        }
        Ok(slots)
    }

    fn read_table(&self) -> io::Result<Slots> {
        let mut table = Aligned([0; SHARDS * SLOT_BYTES]);
        let table = &mut table.0;
        let mut filled = 0;
        while filled < table.len() {
            match self.table.read_at(&mut table[filled..], filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(Slots::decode(&table[..filled]))
    }

    /// Counts the files of shards of which the table says nothing. Those that
    /// are in use are left to their users.
    pub fn repair(&self) -> io::Result<()> {
        for number in self.slots()?.unknown() {
            if let Some(mut shard) = self.lock(number, 0)? {
                shard.recount()?;
            }
        }
        Ok(())
    }

    /// Locks shard `number`; if another process holds the lock, looks again up to `looks`
    /// times. `None`: it still does.
    pub fn lock(&self, number: u8, looks: u32) -> io::Result<Option<Shard<'_>>> {
        let dir = dir(&self.folder, number);
        let path = dir.join("journal");
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        options.mode(team_folder::file_mode(&self.folder));
        let journal = match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                team_folder::make_within(&dir)?;
                options.open(&path)?
            }
            other => other?,
        };
        let taken = turn::wait(looks, || match journal.try_lock() {
            Err(fs::TryLockError::WouldBlock) => None,
            Err(fs::TryLockError::Error(error)) => Some(Err(error)),
            Ok(()) => Some(Ok(())),
        });
        Ok(taken.transpose()?.map(|()| Shard {
            shards: self,
            number,
            dir,
            journal,
        }))
    }

    /// Tries to become the one process that makes room for all, until it ends or calls
    /// [`Shards::step_down`].
    pub fn lead(&self) -> bool {
        self.table.try_lock().is_ok()
    }

    /// Lets another process lead.
    pub fn step_down(&self) {
        let _ = self.table.unlock();
    }
}

/// Memory that is aligned for direct input and output.
#[repr(align(4096))]
struct Aligned<const BYTES: usize>([u8; BYTES]);

/// Options to open the size table with.
fn table_options(folder: &Path) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    // NFS reads from a page that it has, and writes the whole of it: slots that
    // another machine has written since would be as they were.
    #[cfg(target_os = "linux")]
    if crate::disk::own_device::is_on_nfs(folder) {
        options.custom_flags(nix::libc::O_DIRECT);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = folder;
    options
}

/// The size table of the cache in `folder`; nothing is written.
pub fn sizes(folder: &Path) -> io::Result<Slots> {
    match fs::read(folder.join("sizes")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Slots::decode(&[])),
        table => Ok(Slots::decode(&table?)),
    }
}

/// Makes a size table: in a new folder all shards are empty; in one whose table was lost
/// nothing is known of them.
fn make_table(folder: &Path, path: &Path) -> io::Result<()> {
    let fresh = !(0..=u8::MAX).any(|number| dir(folder, number).exists());
    let slot = Slot {
        recounted_s: now_s(),
        ..Slot::default()
    };
    let slot = if fresh {
        slot.encode()
    } else {
        [0; SLOT_BYTES]
    };
    let temporary = folder.join(temporary_name());
    team_folder::write_within(&temporary, &slot.repeat(SHARDS))?;
    // A link never takes the place of a table that others count in already.
    let made = match fs::hard_link(&temporary, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => fs::rename(&temporary, path),
        _ => Ok(()),
    };
    let _ = fs::remove_file(&temporary);
    made
}

/// A shard under its lock, until this is dropped.
#[derive(Debug)]
pub struct Shard<'a> {
    shards: &'a Shards,
    number: u8,
    dir: PathBuf,
    journal: File,
}

/// Outcome of counting the files of a shard.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Recount {
    /// Entries that have a file.
    pub entries: Entries,
    /// Temporary files of killed writers that were removed.
    pub leftovers: u64,
}

impl Shard<'_> {
    /// Counts an entry of `bytes` (as [`on_disk`] counts) and has `place` put
    /// its file at the path it is given, unless the cache would then hold more
    /// than `bytes_max`. False: no room.
    pub fn put(
        &mut self,
        id: Id,
        bytes: u64,
        bytes_max: u64,
        place: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<bool> {
        let used_ns = now_ns();
        let before = self.slot()?;
        let path = self.dir.join(file_name(&id));
        let replaced = fs::symlink_metadata(&path).ok();
        let replaced = replaced.map(|meta| on_disk(meta.len()));
        // Counted first, summed then: of two who take the last room at once,
        // at least one sees both.
        self.set_slot(before.with(bytes, replaced, used_ns))?;
        if self.shards.slots()?.total() > bytes_max {
            self.set_slot(before)?;
            return Ok(false);
        }
        let placed = self
            .append(&[Change::Put(id, Entry { bytes, used_ns })])
            .and_then(|()| place(&path));
        if let Err(error) = placed {
            self.set_slot(before)?;
            let _ = self.recount();
            return Err(error);
        }
        self.pack_if_long();
        Ok(true)
    }

    /// Removes the oldest entries, `share` bytes of them, but for those that were used since
    /// they were counted.
    pub fn shrink(&mut self, share: u64) -> io::Result<Shrunk> {
        let before = self.slot()?;
        let mut entries = if self.is_due(&before) {
            self.recount()?.entries
        } else {
            self.load()?
        };
        let mut shrunk = Shrunk::default();
        if entries.slot(0).oldest_ns > before.oldest_ns {
            // Others may be older: the caller chooses again.
            let recounted_s = self.slot()?.recounted_s;
            self.set_slot(entries.slot(recounted_s))?;
            return Ok(shrunk);
        }
        let mut changes = Vec::new();
        let mut looked_at = 0;
        let mut failed = None;
        for (id, entry) in entries.oldest_first() {
            if looked_at >= share || failed.is_some() {
                break;
            }
            looked_at += entry.bytes.max(1);
            match self.remove_unless_used(&id, entry) {
                Ok(Some(used)) => changes.push(Change::Put(id, used)),
                Ok(None) => {
                    changes.push(Change::Removed(id));
                    shrunk.entries += 1;
                    shrunk.bytes += entry.bytes;
                }
                Err(error) => failed = Some(error),
            }
        }
        for change in &changes {
            entries.apply(*change);
        }
        self.append(&changes)?;
        let recounted_s = self.slot()?.recounted_s;
        self.set_slot(entries.slot(recounted_s))?;
        self.pack_if_long();
        failed.map_or(Ok(shrunk), Err)
    }

    /// Removes an entry; one that was used meanwhile stays, and is returned with its later
    /// time.
    fn remove_unless_used(&self, id: &Id, entry: Entry) -> io::Result<Option<Entry>> {
        let path = self.dir.join(file_name(id));
        let gone = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Ok(None),
            _ => Err(error),
        };
        match fs::symlink_metadata(&path) {
            Ok(meta) if modified_ns(&meta) > entry.used_ns => Ok(Some(Entry {
                used_ns: modified_ns(&meta),
                ..entry
            })),
            Ok(_) => fs::remove_file(&path).map(|()| None).or_else(gone),
            Err(error) => gone(error),
        }
    }

    /// Removes one entry.
    pub fn remove(&mut self, id: Id) -> io::Result<()> {
        let path = self.dir.join(file_name(&id));
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let recounted_s = self.slot()?.recounted_s;
        let mut entries = self.load()?;
        let change = Change::Removed(id);
        entries.apply(change);
        self.append(&[change])?;
        self.set_slot(entries.slot(recounted_s))
    }

    /// Removes all entries; returns how many there were.
    pub fn clear(&mut self) -> io::Result<u64> {
        let found = self.recount()?.entries.oldest_first();
        for (id, _) in &found {
            match fs::remove_file(self.dir.join(file_name(id))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.pack(&Entries::default())?;
        self.set_slot(Entries::default().slot(now_s()))?;
        Ok(found.len() as u64)
    }

    /// Counts the files anew: entries that are in no index are taken in, those
    /// without a file are dropped, what killed writers left is removed.
    pub fn recount(&mut self) -> io::Result<Recount> {
        let mut found = Recount::default();
        for item in fs::read_dir(&self.dir)? {
            let item = item?;
            let name = item.file_name();
            let Some(name) = name.to_str() else { continue };
            // Gone meanwhile is gone.
            let Ok(meta) = item.metadata() else { continue };
            if let Some(id) = id_of(name).filter(|_| meta.is_file()) {
                let bytes = on_disk(meta.len());
                let used_ns = modified_ns(&meta);
                found
                    .entries
                    .apply(Change::Put(id, Entry { bytes, used_ns }));
            } else if remove_leftover(name, &meta, &item.path()) {
                found.leftovers += 1;
            }
        }
        self.pack(&found.entries)?;
        self.set_slot(found.entries.slot(now_s()))?;
        Ok(found)
    }

    /// This shard's slot in the size table; counts the files if it has none.
    fn slot(&mut self) -> io::Result<Slot> {
        match self.shards.slots()?.get(self.number) {
            Some(slot) => Ok(slot),
            None => Ok(self.recount()?.entries.slot(now_s())),
        }
    }

    fn set_slot(&self, slot: Slot) -> io::Result<()> {
        let at = usize::from(self.number) * SLOT_BYTES;
        let slot = Aligned(slot.encode());
        self.shards.table.write_all_at(&slot.0, at as u64)
    }

    fn is_due(&self, slot: &Slot) -> bool {
        // Counted in the future: the clock was set.
        let now_s = now_s();
        slot.recounted_s > now_s || now_s - slot.recounted_s > RECOUNT_S
    }

    /// The entries by index and journal; if these are damaged, by counting the files.
    fn load(&mut self) -> io::Result<Entries> {
        let mut entries = Entries::default();
        let mut whole = match fs::read(self.dir.join("index")) {
            Ok(index) => entries.fold_index(&index),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error),
        };
        let mut journal = Vec::new();
        self.journal.seek(SeekFrom::Start(0))?;
        self.journal.read_to_end(&mut journal)?;
        whole &= entries.fold(&journal);
        if whole {
            Ok(entries)
        } else {
            Ok(self.recount()?.entries)
        }
    }

    /// Appends all of `changes` to the journal, or none of them. After a torn record they are
    /// damaged too, and the next load counts the files.
    fn append(&mut self, changes: &[Change]) -> io::Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let len = self.journal.metadata()?.len();
        let records: Vec<u8> = changes.iter().flat_map(Change::encode).collect();
        self.journal
            .write_all(&records)
            .inspect_err(|_| drop(self.journal.set_len(len)))
    }

    /// Packs a journal that got long. One that can't be packed now can be later.
    fn pack_if_long(&mut self) {
        let long = self
            .journal
            .metadata()
            .is_ok_and(|meta| meta.len() > JOURNAL_BYTES_MAX);
        if long && let Ok(entries) = self.load() {
            let _ = self.pack(&entries);
        }
    }

    /// Writes the index and empties the journal. A process that is killed in between leaves a
    /// journal that is applied again, without effect.
    fn pack(&mut self, entries: &Entries) -> io::Result<()> {
        team_folder::replace_within(&self.dir.join("index"), &entries.index())?;
        self.journal.set_len(0)
    }
}

/// Entries that [`Shard::shrink`] removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Shrunk {
    /// Their number.
    pub entries: u64,
    /// Their bytes, as [`on_disk`] counts.
    pub bytes: u64,
}

/// The folder of shard `number` of the cache in `folder`.
pub fn dir(folder: &Path, number: u8) -> PathBuf {
    folder.join(format!("{number:02x}"))
}

/// The name of an entry's file in its shard.
pub fn file_name(id: &Id) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut name = String::with_capacity(32);
    for byte in &id[..15] {
        name.push(char::from(DIGITS[usize::from(byte >> 4)]));
        name.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    name.push('.');
    name.push(char::from(id[15]));
    name
}

/// The entry that a file of this name holds, if it is one.
pub fn id_of(name: &str) -> Option<Id> {
    let (hex, kind) = name.split_once('.')?;
    let [kind] = kind.as_bytes() else {
        return None;
    };
    Kind::of(*kind)?;
    let mut id = [0; 16];
    id[15] = *kind;
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    if pairs.len() != 15 || !rest.is_empty() {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(pairs) {
        let digit = |letter: u8| match letter {
            b'0'..=b'9' => Some(letter - b'0'),
            b'a'..=b'f' => Some(letter - b'a' + 10),
            _ => None,
        };
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(id)
}

/// Removes a file if it is a temporary one whose process is long gone.
pub fn remove_leftover(name: &str, meta: &fs::Metadata, path: &Path) -> bool {
    let old = |modified: SystemTime| modified.elapsed().is_ok_and(|age| age > LEFTOVER);
    name.ends_with(TEMPORARY_SUFFIX)
        && meta.is_file()
        && meta.modified().is_ok_and(old)
        && fs::remove_file(path).is_ok()
}

fn modified_ns(meta: &fs::Metadata) -> u64 {
    meta.modified().map_or(0, since_1970_ns)
}

fn now_ns() -> u64 {
    since_1970_ns(SystemTime::now())
}

fn now_s() -> u32 {
    u32::try_from(now_ns() / 1_000_000_000).unwrap_or(u32::MAX)
}

fn since_1970_ns(time: SystemTime) -> u64 {
    let age = time.duration_since(SystemTime::UNIX_EPOCH);
    age.map_or(0, |age| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Other tests fork, and children hold our locks until they exec.
    const LOOKS: u32 = 2_000;
    use crate::disk::index::RECORD_BYTES;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("hg-shard-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn id(number: u8) -> Id {
        let mut id = [number; 16];
        id[15] = b'r';
        id
    }

    fn put(shards: &Shards, shard: u8, number: u8) {
        let mut shard = shards.lock(shard, LOOKS).unwrap().unwrap();
        let stored = shard.put(id(number), 4096, u64::MAX, |path| fs::write(path, [number]));
        assert!(stored.unwrap());
    }

    fn counted(shards: &Shards, shard: u8) -> (u64, u32) {
        let slot = shards.slots().unwrap().get(shard).unwrap();
        (slot.bytes, slot.entries)
    }

    #[test]
    fn names_of_files() {
        let name = file_name(&id(0xa5));
        assert_eq!(name, "a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5.r");
        assert_eq!(id_of(&name), Some(id(0xa5)));
        for foreign in [
            "journal",
            "index",
            "1-2-3.tmp",
            &name[1..],
            "A5.r",
            &format!("{name}r"),
        ] {
            assert_eq!(id_of(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_holder_that_stopped_blocks_nobody_for_long() {
        let folder = folder("stopped");
        let shards = Shards::open(&folder).unwrap();
        let held = shards.lock(3, LOOKS).unwrap().unwrap();
        let begun = Instant::now();
        assert!(shards.lock(3, LOOKS_MAX).unwrap().is_none());
        assert!(begun.elapsed() < 40 * LOOKS_MAX * turn::LOOK);
        assert!(shards.lock(4, LOOKS).unwrap().is_some());
        drop(held);
        assert!(shards.lock(3, LOOKS).unwrap().is_some());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_lost_or_damaged_table_is_made_from_the_files() {
        let folder = folder("table");
        let shards = Shards::open(&folder).unwrap();
        put(&shards, 3, 1);
        put(&shards, 3, 2);
        put(&shards, 200, 1);
        drop(shards);
        fs::remove_file(folder.join("sizes")).unwrap();
        let shards = Shards::open(&folder).unwrap();
        assert_eq!(shards.slots().unwrap().unknown().count(), SHARDS);
        shards.repair().unwrap();
        assert_eq!(counted(&shards, 3), (8192, 2));
        assert_eq!(counted(&shards, 200), (4096, 1));
        shards
            .table
            .write_all_at(b"x", 3 * SLOT_BYTES as u64)
            .unwrap();
        put(&shards, 3, 3);
        assert_eq!(counted(&shards, 3), (12288, 3));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn journals_are_packed_and_damage_is_counted_anew() {
        let folder = folder("pack");
        let shards = Shards::open(&folder).unwrap();
        let rounds = JOURNAL_BYTES_MAX as usize / RECORD_BYTES + 10;
        for round in 0..rounds {
            put(&shards, 7, (round % 5) as u8);
        }
        let journal = dir(&folder, 7).join("journal");
        let index = dir(&folder, 7).join("index");
        assert!(fs::metadata(&journal).unwrap().len() < JOURNAL_BYTES_MAX);
        assert_eq!(counted(&shards, 7), (5 * 4096, 5));
        // Torn, damaged, lost: the files say what is there.
        for (path, bytes) in [
            (&journal, &b"torn"[..]),
            (&journal, &[1; RECORD_BYTES]),
            (&index, b"hgindex1 and rubbish"),
        ] {
            fs::write(path, bytes).unwrap();
            let mut shard = shards.lock(7, LOOKS).unwrap().unwrap();
            assert_eq!(shard.load().unwrap().slot(0).entries, 5);
        }
        fs::write(&journal, b"torn").unwrap();
        put(&shards, 7, 9);
        let mut shard = shards.lock(7, LOOKS).unwrap().unwrap();
        assert_eq!(shard.load().unwrap().slot(0).entries, 6);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_a_killed_process_counted_is_dropped() {
        let folder = folder("over");
        let shards = Shards::open(&folder).unwrap();
        put(&shards, 7, 1);
        let mut shard = shards.lock(7, LOOKS).unwrap().unwrap();
        // Killed before the file came, and after it went.
        let entry = Entry {
            bytes: 4096,
            used_ns: 1,
        };
        shard.append(&[Change::Put(id(2), entry)]).unwrap();
        let slot = shard.slot().unwrap().with(4096, None, 1);
        shard
            .set_slot(Slot {
                oldest_ns: 1,
                ..slot
            })
            .unwrap();
        let shrunk = shard.shrink(4096).unwrap();
        assert_eq!(shrunk.entries, 1);
        assert_eq!(counted(&shards, 7), (4096, 1));
        assert!(dir(&folder, 7).join(file_name(&id(1))).exists());
        drop(shard);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn orphans_are_taken_in_and_leftovers_go() {
        let folder = folder("orphans");
        let shards = Shards::open(&folder).unwrap();
        put(&shards, 7, 1);
        fs::write(dir(&folder, 7).join(file_name(&id(2))), [0; 5000]).unwrap();
        let old = dir(&folder, 7).join("1-2-3.tmp");
        let young = dir(&folder, 7).join("1-2-4.tmp");
        fs::write(&young, "").unwrap();
        fs::write(&old, "").unwrap();
        let long_ago = SystemTime::now() - 2 * LEFTOVER;
        File::open(&old).unwrap().set_modified(long_ago).unwrap();
        let mut shard = shards.lock(7, LOOKS).unwrap().unwrap();
        // Last counted days ago.
        let slot = shard.slot().unwrap();
        let days_ago = Slot {
            recounted_s: slot.recounted_s - 2 * RECOUNT_S,
            ..slot
        };
        shard.set_slot(days_ago).unwrap();
        let gone: u64 = (0..4).map(|_| shard.shrink(1).unwrap().entries).sum();
        drop(shard);
        assert!(young.exists() && !old.exists());
        assert_eq!(gone, 2, "the orphan too");
        assert_eq!(counted(&shards, 7), (0, 0));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_was_used_meanwhile_gets_a_second_chance() {
        let folder = folder("chance");
        let shards = Shards::open(&folder).unwrap();
        put(&shards, 7, 1);
        put(&shards, 7, 2);
        let first = dir(&folder, 7).join(file_name(&id(1)));
        let later = SystemTime::now() + Duration::from_secs(5);
        File::open(&first).unwrap().set_modified(later).unwrap();
        let mut shard = shards.lock(7, LOOKS).unwrap().unwrap();
        let mut gone = 0;
        while gone == 0 {
            gone = shard.shrink(1).unwrap().entries;
        }
        assert!(first.exists());
        assert_eq!(shard.shrink(1).unwrap().entries, 1);
        assert!(!first.exists());
        assert_eq!(counted(&shards, 7), (0, 0));
        drop(shard);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn two_locks_never_share_the_last_room() {
        let folder = folder("room");
        let shards = Shards::open(&folder).unwrap();
        let mut one = shards.lock(1, LOOKS).unwrap().unwrap();
        let mut two = shards.lock(2, LOOKS).unwrap().unwrap();
        let mut inner = None;
        let outer = one.put(id(1), 4096, 6000, |path| {
            inner = Some(two.put(id(1), 4096, 6000, |path| fs::write(path, "x"))?);
            fs::write(path, "x")
        });
        assert!(outer.unwrap());
        assert_eq!(inner, Some(false));
        fs::remove_dir_all(folder).unwrap();
    }
}
