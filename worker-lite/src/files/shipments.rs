//! Toolchains that clients brought: each a list of files, and their contents by digest,
//! which several lists may share. Bounded in bytes; what was not used for longest goes,
//! and nothing that a compile has in hand. Unaware of links and sandboxes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::SystemTime;

use hg_proto::compiler::shipment;
use hg_proto::secure::atomic_file;
use hg_proto::secure::private::make_folder;
use hg_proto::v1::Shipment;
use hg_proto::wire::digest::{Digest, Hasher};
use hg_proto::wire::limits::FRAME_BYTES_MAX;
use prost::Message;

use crate::log::{self, Level};
use crate::machine::vitals;

/// Bytes that are kept at most.
const BYTES_MAX: u64 = 8 << 30;
/// The share of the free disk that is kept at most.
const DISK_SHARE: u64 = 5;
/// Toolchains that are kept at most: each is a row of what the worker offers.
const LISTS_MAX: usize = 32;
/// Whoever compiles may run them, and nobody writes to them.
const MODE: u32 = 0o555;
/// Lists are the worker's own.
const LIST_MODE: u32 = 0o600;
/// Bytes that are read at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Toolchains of others, on this machine's disk.
#[derive(Debug)]
pub struct Shipments {
    contents: PathBuf,
    lists: PathBuf,
    bytes_max: u64,
    is_loaded: Once,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    kept: BTreeMap<Digest, Kept>,
    /// On their way; each as often as it is brought.
    coming: Vec<Arc<Shipment>>,
}

impl Books {
    /// The contents of all lists, each once, with its bytes.
    fn contents(&self) -> BTreeMap<Digest, u64> {
        let kept = self.kept.values().map(|kept| &kept.list);
        let lists = kept.chain(&self.coming);
        lists.flat_map(|list| shipment::contents(list)).collect()
    }
}

#[derive(Debug)]
struct Kept {
    list: Arc<Shipment>,
    /// Compiles that have it in hand.
    users: usize,
    used: SystemTime,
}

/// Room for a toolchain that is on its way.
#[derive(Debug)]
pub struct Room {
    shipments: Arc<Shipments>,
    list: Arc<Shipment>,
    /// What had to go for it.
    pub gone: Vec<Digest>,
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut books = self.shipments.books();
        let at = books
            .coming
            .iter()
            .position(|list| Arc::ptr_eq(list, &self.list));
        if let Some(at) = at {
            books.coming.swap_remove(at);
        }
    }
}

/// A toolchain that stays while this lives.
#[derive(Debug)]
pub struct InUse {
    shipments: Arc<Shipments>,
    digest: Digest,
}

impl InUse {
    /// What stands for it.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        if let Some(kept) = self.shipments.books().kept.get_mut(&self.digest) {
            kept.users -= 1;
        }
    }
}

impl Shipments {
    /// None yet, in `folder`; see [`Shipments::load`].
    ///
    /// # Errors
    /// The file system says no.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let (contents, lists) = (folder.join("contents"), folder.join("lists"));
        make_folder(&contents)?;
        make_folder(&lists)?;
        let free = vitals::disk_free_bytes(folder).unwrap_or(0);
        Ok(Shipments {
            // As compilers find them mounted: links on the way are not theirs.
            contents: contents.canonicalize()?,
            lists: lists.canonicalize()?,
            bytes_max: BYTES_MAX.min(free / DISK_SHARE),
            is_loaded: Once::new(),
            books: Mutex::default(),
        })
    }

    /// Takes in what an earlier run has kept, as far as it is whole: each content is read,
    /// which takes a while. Once.
    pub fn load(&self) {
        self.is_loaded.call_once(|| {
            if let Err(error) = self.load_all() {
                let folder = self.contents.display();
                log::line(Level::Warn, format_args!("{folder}: {error}"));
            }
        });
    }

    fn load_all(&self) -> io::Result<()> {
        let mut whole = BTreeMap::new();
        for entry in fs::read_dir(&self.lists)? {
            let path = entry?.path();
            match self.read(&path, &mut whole) {
                Ok((digest, kept)) => {
                    self.books().kept.insert(digest, kept);
                }
                Err(error) => {
                    let shown = path.display();
                    log::line(Level::Warn, format_args!("dropped: {shown}: {error}"));
                    fs::remove_file(&path)?;
                }
            }
        }
        // What came of a toolchain that was on its way need not come again.
        for entry in fs::read_dir(&self.contents)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let digest = name.and_then(Digest::from_hex);
            let known = digest.and_then(|digest| whole.get(&digest).copied());
            let is_whole = || digest_of(&path).is_ok_and(|found| Some(found) == digest);
            if !known.unwrap_or_else(is_whole) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The list at `path`, all of whose contents are there. `whole`: what is known of
    /// those that were read.
    fn read(&self, path: &Path, whole: &mut BTreeMap<Digest, bool>) -> io::Result<(Digest, Kept)> {
        let damaged = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
        let meta = fs::metadata(path)?;
        if meta.len() > FRAME_BYTES_MAX as u64 {
            return Err(damaged("too long for a list"));
        }
        let list = Shipment::decode(&fs::read(path)?[..]).map_err(|_| damaged("no list"))?;
        shipment::check(&list).map_err(|why| damaged(&why))?;
        let digest = shipment::digest(&list);
        if path.file_name() != Some(digest.to_hex().as_ref()) {
            return Err(damaged("another one than its name says"));
        }
        for content in shipment::contents(&list).into_keys() {
            let is_whole = || digest_of(&self.content(&content)).is_ok_and(|d| d == content);
            if !*whole.entry(content).or_insert_with(is_whole) {
                return Err(damaged("a content is missing or damaged"));
            }
        }
        let kept = Kept {
            list: Arc::new(list),
            users: 0,
            used: meta.modified()?,
        };
        Ok((digest, kept))
    }

    /// All that are kept.
    pub fn all(&self) -> Vec<(Digest, Arc<Shipment>)> {
        let books = self.books();
        let all = books.kept.iter();
        all.map(|(digest, kept)| (*digest, kept.list.clone()))
            .collect()
    }

    /// Where the contents of all files are, by their digests.
    pub fn contents(&self) -> &Path {
        &self.contents
    }

    /// Where the content with `digest` is, or would be.
    pub fn content(&self, digest: &Digest) -> PathBuf {
        self.contents.join(digest.to_hex())
    }

    /// The contents of `list` that are not here.
    pub fn lacking(&self, list: &Shipment) -> BTreeSet<Digest> {
        let contents = shipment::contents(list).into_keys();
        contents
            .filter(|digest| !self.content(digest).is_file())
            .collect()
    }

    /// The content with `digest` has come, and lies at `part`, on the same disk.
    ///
    /// # Errors
    /// The file system says no.
    pub fn came(&self, digest: &Digest, part: &Path) -> io::Result<()> {
        fs::set_permissions(part, Permissions::from_mode(MODE))?;
        fs::rename(part, self.content(digest))
    }

    /// Keeps `list`, whose contents have all come.
    ///
    /// # Errors
    /// The file system says no.
    pub fn keep(&self, list: &Arc<Shipment>) -> io::Result<Digest> {
        let digest = shipment::digest(list);
        let path = self.lists.join(digest.to_hex());
        atomic_file::replace(&path, LIST_MODE, &list.encode_to_vec())?;
        let kept = Kept {
            list: list.clone(),
            users: 0,
            used: SystemTime::now(),
        };
        self.books().kept.entry(digest).or_insert(kept);
        Ok(digest)
    }

    /// Takes it into use; `None`: it is gone.
    pub fn hold(self: &Arc<Self>, digest: Digest) -> Option<InUse> {
        let mut books = self.books();
        let kept = books.kept.get_mut(&digest)?;
        kept.users += 1;
        kept.used = SystemTime::now();
        // For the order after a restart, which is worth no failure.
        let list = File::open(self.lists.join(digest.to_hex()));
        let _ = list.and_then(|list| list.set_modified(kept.used));
        Some(InUse {
            shipments: self.clone(),
            digest,
        })
    }

    /// The list that `digest` stands for, if it is kept.
    pub fn list(&self, digest: &Digest) -> Option<Arc<Shipment>> {
        let books = self.books();
        books.kept.get(digest).map(|kept| kept.list.clone())
    }

    /// Whether it is kept.
    pub fn has(&self, digest: &Digest) -> bool {
        self.books().kept.contains_key(digest)
    }

    /// Makes room for `list`: those go that were not used for longest and that nobody
    /// has in hand.
    ///
    /// # Errors
    /// Words: there is no room for it, and nothing went.
    pub fn make_room(self: &Arc<Self>, list: &Arc<Shipment>) -> Result<Room, String> {
        let bytes: u64 = shipment::contents(list).values().sum();
        if bytes > self.bytes_max {
            let most = self.bytes_max;
            return Err(format!("{bytes} bytes, and at most {most} are kept here"));
        }
        let mut books = self.books();
        let gone = self.to_go(&books, list);
        let gone = gone.ok_or("no room beside those that are in use")?;
        for digest in &gone {
            books.kept.remove(digest);
        }
        books.coming.push(list.clone());
        let unlisted = self.unlisted(&books);
        drop(books);
        // A disk may take long for it, and compiles ask for the books.
        for digest in &gone {
            remove(&self.lists.join(digest.to_hex()));
        }
        for path in unlisted {
            remove(&path);
        }
        Ok(Room {
            shipments: self.clone(),
            list: list.clone(),
            gone,
        })
    }

    /// Which of those that are kept have to go for `list`; `None`: there is no room.
    fn to_go(&self, books: &Books, list: &Shipment) -> Option<Vec<Digest>> {
        let own = shipment::digest(list);
        let mut idle: Vec<(&Digest, &Kept)> = books.kept.iter().collect();
        idle.retain(|(digest, kept)| kept.users == 0 && **digest != own);
        idle.sort_by_key(|(_, kept)| kept.used);
        let mut idle = idle.into_iter();
        let mut gone: Vec<Digest> = Vec::new();
        loop {
            let stays = |digest: &&Digest| !gone.contains(digest) && **digest != own;
            let kept = books.kept.keys().filter(stays).count();
            let mut contents = shipment::contents(list);
            let stay = books.kept.iter().filter(|(digest, _)| stays(digest));
            let lists = stay.map(|(_, kept)| &kept.list).chain(&books.coming);
            contents.extend(lists.flat_map(|list| shipment::contents(list)));
            let fits = contents.values().sum::<u64>() <= self.bytes_max;
            if fits && kept + books.coming.len() < LISTS_MAX {
                return Some(gone);
            }
            gone.push(*idle.next()?.0);
        }
    }

    /// One that does not work here goes.
    pub fn forget(&self, digest: &Digest) {
        let mut books = self.books();
        books.kept.remove(digest);
        let unlisted = self.unlisted(&books);
        drop(books);
        remove(&self.lists.join(digest.to_hex()));
        for path in unlisted {
            remove(&path);
        }
    }

    /// The contents that no list has.
    fn unlisted(&self, books: &Books) -> Vec<PathBuf> {
        let listed = books.contents();
        let entries = fs::read_dir(&self.contents).into_iter().flatten().flatten();
        let is_unlisted = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            let digest = name.and_then(Digest::from_hex);
            digest.is_some_and(|digest| !listed.contains_key(&digest))
        };
        entries
            .map(|entry| entry.path())
            .filter(is_unlisted)
            .collect()
    }
}

/// What can't be removed stays, and is looked at again at the next start.
fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let path = path.display();
            log::line(Level::Warn, format_args!("{path}: {error}"));
        }
        _ => {}
    }
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hg_proto::v1::{self, ShippedFile, shipped_file::Kind};

    struct Bench {
        place: tempfile::TempDir,
        shipments: Arc<Shipments>,
    }

    impl Bench {
        /// Room for so many bytes.
        fn new(bytes_max: u64) -> Self {
            let place = tempfile::tempdir().unwrap();
            let mut shipments = Shipments::open(&place.path().join("kept")).unwrap();
            shipments.bytes_max = bytes_max;
            shipments.load();
            Bench {
                place,
                shipments: Arc::new(shipments),
            }
        }

        /// Keeps a list with these contents, which come as far as they are lacking.
        fn keep(&self, contents: &[&str]) -> Result<(Digest, Vec<Digest>), String> {
            let list = Arc::new(list(contents));
            let room = self.shipments.make_room(&list)?;
            let lacking = self.shipments.lacking(&list);
            for content in contents {
                let digest = Digest::of(content.as_bytes());
                if lacking.contains(&digest) {
                    let part = self.place.path().join("part");
                    fs::write(&part, content).unwrap();
                    self.shipments.came(&digest, &part).unwrap();
                }
            }
            Ok((self.shipments.keep(&list).unwrap(), room.gone.clone()))
        }

        fn kept(&self) -> Vec<Digest> {
            self.shipments.all().into_iter().map(|(d, _)| d).collect()
        }

        fn has(&self, content: &str) -> bool {
            let digest = Digest::of(content.as_bytes());
            self.shipments.content(&digest).is_file()
        }

        fn again(&self) -> Shipments {
            let again = Shipments::open(&self.place.path().join("kept")).unwrap();
            again.load();
            again
        }
    }

    fn list(contents: &[&str]) -> Shipment {
        let mut files: Vec<ShippedFile> = contents
            .iter()
            .map(|content| ShippedFile {
                path: format!("/{content:.4}").into(),
                kind: Some(Kind::Digest(
                    Digest::of(content.as_bytes()).as_bytes().to_vec(),
                )),
                size: content.len() as u64,
            })
            .collect();
        let driver = files[0].path.clone();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Shipment {
            family: v1::Family::Gcc.into(),
            language: v1::Language::C.into(),
            driver,
            files,
            ..Shipment::default()
        }
    }

    #[test]
    fn what_was_not_used_for_longest_goes_and_nothing_that_is_in_use() {
        let bench = Bench::new(30);
        let (one, gone) = bench.keep(&["1111111111"]).unwrap();
        assert!(gone.is_empty());
        let (two, _) = bench.keep(&["2222222222"]).unwrap();
        let (three, _) = bench.keep(&["3333333333"]).unwrap();
        // Used later than the second one.
        drop(bench.shipments.hold(one).unwrap());
        let (four, gone) = bench.keep(&["4444444444"]).unwrap();
        assert_eq!(gone, [two]);
        assert!(!bench.has("2222222222"));
        let held: Vec<InUse> = [one, three, four]
            .into_iter()
            .map(|digest| bench.shipments.hold(digest).unwrap())
            .collect();
        let refused = bench.keep(&["5555555555"]).unwrap_err();
        assert_eq!(refused, "no room beside those that are in use");
        assert!(bench.has("1111111111") && bench.has("3333333333"));
        drop(held);
        let (_, gone) = bench.keep(&["5555555555"]).unwrap();
        assert_eq!(gone, [one]);
        assert!(bench.shipments.hold(one).is_none());
        let refused = bench.keep(&["x".repeat(31).as_str()]).unwrap_err();
        assert!(refused.starts_with("31 bytes, and at most 30"), "{refused}");
        assert_eq!(bench.kept().len(), 3);
    }

    #[test]
    fn what_is_on_its_way_is_not_dropped_for_another_one() {
        let bench = Bench::new(30);
        let first = Arc::new(list(&["1111111111", "2222222222"]));
        let room = bench.shipments.make_room(&first).unwrap();
        let part = bench.place.path().join("part");
        fs::write(&part, "1111111111").unwrap();
        let came = Digest::of(b"1111111111");
        bench.shipments.came(&came, &part).unwrap();
        bench.keep(&["3333333333"]).unwrap();
        assert!(bench.has("1111111111"));
        // The room that it needs is its own.
        let refused = bench.keep(&["44444444445"]).map(drop);
        assert!(refused.is_err());
        drop(room);
        bench.keep(&["44444444445"]).unwrap();
        assert!(!bench.has("1111111111"));
    }

    #[test]
    fn there_are_no_more_than_may_be_however_small() {
        let bench = Bench::new(1 << 20);
        let (first, _) = bench.keep(&["0"]).unwrap();
        for at in 1..LISTS_MAX {
            let (_, gone) = bench.keep(&[&at.to_string()]).unwrap();
            assert!(gone.is_empty(), "{at}");
        }
        let (_, gone) = bench.keep(&["one more"]).unwrap();
        assert_eq!((gone, bench.kept().len()), (vec![first], LISTS_MAX));
        // What is there is no more for being brought again.
        let (_, gone) = bench.keep(&["one more"]).unwrap();
        assert!(gone.is_empty());
    }

    #[test]
    fn contents_are_shared_and_go_with_the_last_list_that_has_them() {
        let bench = Bench::new(100);
        let (c, _) = bench.keep(&["driver", "common"]).unwrap();
        let lacking = bench.shipments.lacking(&list(&["other", "common"]));
        assert_eq!(
            lacking.into_iter().collect::<Vec<_>>(),
            [Digest::of(b"other")]
        );
        let (cxx, _) = bench.keep(&["other", "common"]).unwrap();
        bench.shipments.forget(&c);
        assert!(!bench.has("driver") && bench.has("common"));
        bench.shipments.forget(&cxx);
        assert!(!bench.has("common") && !bench.has("other"));
        assert!(bench.kept().is_empty());
    }

    #[test]
    fn after_a_restart_what_is_whole_is_there() {
        let bench = Bench::new(100);
        let (one, _) = bench.keep(&["1111", "common"]).unwrap();
        let (two, _) = bench.keep(&["2222", "common"]).unwrap();
        let unlisted = Digest::of(b"nobody's");
        let part = bench.place.path().join("part");
        fs::write(&part, "nobody's").unwrap();
        bench.shipments.came(&unlisted, &part).unwrap();
        let half = bench.shipments.contents().join("1.1-1.part");
        fs::write(&half, "half").unwrap();
        let again = bench.again();
        assert_eq!(again.all().len(), 2);
        // It may be of one that was on its way, until there is another one.
        assert!(bench.has("nobody's") && !half.exists());
        bench.keep(&["3333"]).unwrap();
        assert!(!bench.has("nobody's"));
        // One bit of it.
        let path = again.content(&Digest::of(b"2222"));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "2223").unwrap();
        let again = bench.again();
        assert_eq!(again.all().len(), 2);
        assert!(again.all().iter().all(|(digest, _)| *digest != two));
        // A list that is not what its name says.
        let lists = bench.place.path().join("kept/lists");
        fs::rename(lists.join(one.to_hex()), lists.join(two.to_hex())).unwrap();
        assert_eq!(bench.again().all().len(), 1);
    }
}
