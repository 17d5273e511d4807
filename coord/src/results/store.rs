//! The store of results on disk: bounded, checked, and read without a look at anything but
//! the entry's own file. Blocks: never called from where connections are served.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hg_proto::disk::entries::{Entries, Name};
use hg_proto::disk::index::Kind;
use hg_proto::disk::shard::{self, Shrunk};
use hg_proto::wire::digest::Digest;
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::bounds::{RESULTS_BYTES_DEFAULT, RESULTS_DISK_SHARE, VOID_LIST_MAX};
use crate::results::kept::Kept;
use crate::state_folder;

/// Its folder in the state folder.
const FOLDER: &str = "results";
/// Whose results are void, beside it.
const VOID: &str = "void-results.json";

/// Results of this maker, up to then, count as none.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Void {
    holder: String,
    worker: String,
    until_unix_ms: u64,
}

/// See the top of the file.
#[derive(Debug)]
pub struct Store {
    entries: Entries,
    state: PathBuf,
    /// By holder and name of worker.
    void: Mutex<BTreeMap<(String, String), u64>>,
    /// Results that are there, about.
    count: AtomicU64,
}

/// What became of a result that was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Older ones that went for it.
    pub evicted: u64,
    /// It is there.
    pub is_kept: bool,
}

impl Store {
    /// Opens the store in the folder `state`, of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// In words: it can't be used, and what to do.
    pub fn open(state: &Path, bytes_max: u64) -> Result<Store, String> {
        let folder = state.join(FOLDER);
        let entries = Entries::open(&folder, bytes_max, false);
        let entries = entries.map_err(|why| format!("{why} (remove it, or --cache-size off)"))?;
        let sizes = shard::sizes(&folder);
        Ok(Store {
            entries,
            state: state.to_path_buf(),
            void: Mutex::new(load(state)?),
            count: sizes.map_or(0, |sizes| sizes.entries()).into(),
        })
    }

    /// Whether there is one in the folder `state`.
    pub fn is_in(state: &Path) -> bool {
        state.join(FOLDER).is_dir()
    }

    /// The entries, for upkeep.
    pub fn entries(&self) -> &Entries {
        &self.entries
    }

    /// Bytes that the store may have on the disk of `state`.
    pub fn suited_bytes(state: &Path) -> u64 {
        let free = nix::sys::statvfs::statvfs(state);
        #[allow(clippy::unnecessary_cast)] // Their widths differ between machines.
        let free = free.map_or(u64::MAX, |disk| {
            (disk.blocks_available() as u64).saturating_mul(disk.fragment_size() as u64)
        });
        RESULTS_BYTES_DEFAULT.min(free / RESULTS_DISK_SHARE)
    }

    fn void(&self) -> MutexGuard<'_, BTreeMap<(String, String), u64>> {
        self.void.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept under `key`. What is damaged or void is no more.
    pub fn get(&self, key: &Digest) -> Option<Kept> {
        let body = self.entries.read(name(key))?;
        let kept = Kept::decode(&body[..]).ok()?;
        (kept.is_of(key) && !self.is_void(&kept)).then_some(kept)
    }

    /// Whether a worker made it whose results count as none.
    pub fn is_void(&self, kept: &Kept) -> bool {
        let maker = kept.maker.clone().unwrap_or_default();
        let until = self.void().get(&(maker.holder, maker.name)).copied();
        until.is_some_and(|until| kept.made_unix_ms <= until)
    }

    /// Keeps a result, in the place of an older one of its key.
    ///
    /// # Errors
    /// The disk can't be written, or is full.
    pub fn put(&self, key: &Digest, kept: &Kept) -> Result<Stored, String> {
        let mut evicted = Shrunk::default();
        let body = kept.encode_to_vec();
        let stored = self.entries.write(name(key), &body, &mut evicted);
        let is_kept = stored.map_err(|why| why.to_string())?;
        let lost = |count: u64| Some(count.saturating_sub(evicted.entries) + u64::from(is_kept));
        // It never fails.
        let _ = self
            .count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, lost);
        Ok(Stored {
            is_kept,
            evicted: evicted.entries,
        })
    }

    /// Makes void what `holder`'s worker `name` has made until `now_unix_ms`: it returned
    /// another object than a client's own compiler.
    ///
    /// # Errors
    /// It could not be written down: a coordinator that starts again does not know of it.
    pub fn make_void(&self, holder: &str, name: &str, now_unix_ms: u64) -> io::Result<()> {
        let who = (holder.to_owned(), name.to_owned());
        self.void().insert(who, now_unix_ms);
        self.save_void()
    }

    fn save_void(&self) -> io::Result<()> {
        let rows = void_rows(&self.void());
        state_folder::write(&self.state, VOID, &serde_json::to_vec_pretty(&rows)?)
    }

    /// Whose results are void, for other coordinators.
    ///
    /// # Errors
    /// Never, but for what serde may say.
    pub fn void_list(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(&void_rows(&self.void()))?)
    }

    /// Makes void what `list`, another coordinator's [`Store::void_list`], says. True: this
    /// one's says more.
    ///
    /// # Errors
    /// It is none, or could not be written down.
    pub fn add_void(&self, list: &[u8]) -> io::Result<bool> {
        let rows: Vec<Void> = serde_json::from_slice(list)?;
        let (says_more, is_changed) = {
            let mut void = self.void();
            let before = void.clone();
            let mut theirs = BTreeMap::new();
            for row in rows.into_iter().take(VOID_LIST_MAX) {
                let who = (row.holder, row.worker);
                let until = void.entry(who.clone()).or_default();
                *until = (*until).max(row.until_unix_ms);
                theirs.insert(who, row.until_unix_ms);
            }
            (*void != theirs, *void != before)
        };
        if is_changed {
            self.save_void()?;
        }
        Ok(says_more)
    }

    /// About how many results there are.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Results, and their bytes on disk. `None`: it can't be read.
    pub fn size(&self) -> Option<(u64, u64)> {
        let sizes = shard::sizes(self.entries.folder()).ok()?;
        Some((sizes.entries(), sizes.total()))
    }
}

fn void_rows(void: &BTreeMap<(String, String), u64>) -> Vec<Void> {
    let row = |((holder, worker), until): (&(String, String), &u64)| Void {
        holder: holder.clone(),
        worker: worker.clone(),
        until_unix_ms: *until,
    };
    void.iter().map(row).collect()
}

/// The name of an entry has half of the key; the other half is in its body.
fn name(key: &Digest) -> Name {
    let mut half = [0; 16];
    half.copy_from_slice(&key.as_bytes()[..16]);
    Name {
        key: half,
        kind: Kind::Task,
    }
}

fn load(state: &Path) -> Result<BTreeMap<(String, String), u64>, String> {
    let rows: Vec<Void> = state_folder::read_json(state, VOID)?.unwrap_or_default();
    let row = |row: Void| ((row.holder, row.worker), row.until_unix_ms);
    Ok(rows.into_iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::kept::Maker;
    use hg_proto::v1::{Output, TaskResult};
    use std::fs;

    fn state(name: &str) -> PathBuf {
        let state = std::env::temp_dir().join(format!("hg-results-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&state);
        fs::create_dir_all(&state).unwrap();
        state
    }

    fn maker(name: &str) -> Maker {
        Maker {
            holder: "team".into(),
            name: name.into(),
            ..Maker::default()
        }
    }

    fn kept(key: &Digest, worker: &str, made_unix_ms: u64) -> Kept {
        let output = Output {
            encoded_size: 3,
            ..Output::default()
        };
        Kept {
            key: key.as_bytes().to_vec(),
            result: Some(TaskResult {
                outputs: vec![output],
                ..TaskResult::default()
            }),
            outputs: vec![b"abc".to_vec()],
            maker: Some(maker(worker)),
            made_unix_ms,
        }
    }

    #[test]
    fn what_is_kept_is_there_after_a_restart() {
        let state = state("kept");
        let (key, other) = (Digest::of(b"1"), Digest::of(b"2"));
        let store = Store::open(&state, 1 << 20).unwrap();
        let stored = store.put(&key, &kept(&key, "pi", 5)).unwrap();
        assert_eq!((stored.is_kept, stored.evicted), (true, 0));
        for store in [store, Store::open(&state, 1 << 20).unwrap()] {
            assert_eq!(store.get(&key), Some(kept(&key, "pi", 5)));
            assert_eq!(store.get(&other), None);
            assert_eq!(store.size().map(|(entries, _)| entries), Some(1));
            assert_eq!(store.count(), 1);
        }
        fs::remove_dir_all(&state).unwrap();
    }

    #[test]
    fn another_key_with_the_same_beginning_is_another() {
        let state = state("half");
        let key = Digest::of(b"1");
        let mut twin = *key.as_bytes();
        twin[31] ^= 1;
        let twin = Digest::try_from(&twin[..]).unwrap();
        let store = Store::open(&state, 1 << 20).unwrap();
        store.put(&key, &kept(&key, "pi", 5)).unwrap();
        assert_eq!(store.get(&twin), None);
        assert!(store.get(&key).is_some());
        fs::remove_dir_all(&state).unwrap();
    }

    #[test]
    fn a_liar_s_results_are_void_and_those_after_it_was_let_back_are_not() {
        let state = state("void");
        let (bad, good) = (Digest::of(b"bad"), Digest::of(b"good"));
        let store = Store::open(&state, 1 << 20).unwrap();
        store.put(&bad, &kept(&bad, "liar", 5)).unwrap();
        store.put(&good, &kept(&good, "pi", 5)).unwrap();
        store.make_void("team", "liar", 7).unwrap();
        for store in [store, Store::open(&state, 1 << 20).unwrap()] {
            assert_eq!(store.get(&bad), None);
            assert!(store.get(&good).is_some());
        }
        let store = Store::open(&state, 1 << 20).unwrap();
        store.put(&bad, &kept(&bad, "liar", 8)).unwrap();
        assert!(store.get(&bad).is_some());
        fs::remove_dir_all(&state).unwrap();
    }

    #[test]
    fn what_one_coordinator_found_out_is_void_at_another_and_the_other_way() {
        let (here, there) = (state("void-here"), state("void-there"));
        let open = |state: &Path| Store::open(state, 1 << 20).unwrap();
        let (ours, theirs) = (open(&here), open(&there));
        let key = Digest::of(b"bad");
        theirs.put(&key, &kept(&key, "liar", 5)).unwrap();
        ours.make_void("team", "liar", 7).unwrap();
        theirs.make_void("team", "other", 9).unwrap();
        let list = |store: &Store| store.void_list().unwrap();
        assert!(theirs.add_void(&list(&ours)).unwrap(), "it has the other");
        assert_eq!(open(&there).get(&key), None, "after a restart too");
        assert!(!ours.add_void(&list(&theirs)).unwrap());
        assert_eq!(list(&ours), list(&theirs));
        // An older word does not take a younger one back.
        ours.make_void("team", "liar", 20).unwrap();
        assert!(ours.add_void(&list(&theirs)).unwrap());
        assert!(ours.is_void(&kept(&key, "liar", 20)));
        assert!(ours.add_void(b"[{").is_err());
        for state in [here, there] {
            fs::remove_dir_all(&state).unwrap();
        }
    }

    #[test]
    fn it_is_bounded() {
        let state = state("bound");
        let store = Store::open(&state, 8 * 4096).unwrap();
        let mut evicted = 0;
        for number in 0..40_u8 {
            let key = Digest::of(&[number]);
            evicted += store.put(&key, &kept(&key, "pi", 5)).unwrap().evicted;
            assert!(store.size().unwrap().1 <= 8 * 4096);
        }
        assert!(evicted >= 32, "{evicted}");
        fs::remove_dir_all(&state).unwrap();
    }
}
