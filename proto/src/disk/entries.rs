//! Entries of a cache: one file each, whole and checked or not there.
//!
//! A read takes no lock and looks at nothing but the entry's own file, so that
//! a hit costs the same in a cache of any size.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::libc;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use crate::disk::draft::Draft;
use crate::disk::evict;
use crate::disk::index::{Id, Kind, on_disk};
use crate::disk::shard::{self, LOOKS_MAX, Shards, Shrunk};
use crate::disk::team_folder;
use crate::secure::private;

/// Bytes of an entry's body.
pub const ENTRY_BYTES_MAX: u64 = 1 << 30;
/// What the folder's version file says.
const VERSION: u32 = 1;
/// Bytes of a version file that are looked at.
const VERSION_BYTES_MAX: u64 = 32;
/// Last bytes of an entry, with its format's version.
const MAGIC: [u8; 8] = *b"hgentry1";
/// XXH3-128 of the body, seeded by name; and the magic.
const TRAILER_BYTES: usize = 24;
/// A use is noted in the entry's time when the last note is older.
const TOUCH_AFTER: Duration = Duration::from_secs(60 * 60);
/// Attempts to find room that another process does not take first.
const TRIES_MAX: u32 = 32;

/// Name of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name {
    /// Evenly distributed: the first byte is the shard.
    pub key: [u8; 16],
    /// Entries of one key but different kinds are unrelated.
    pub kind: Kind,
}

impl Name {
    /// The entry that lies in shard `number` as `id`.
    pub fn of(number: u8, id: &Id) -> Option<Name> {
        let kind = Kind::of(id[15])?;
        let mut key = [number; 16];
        key[1..].copy_from_slice(&id[..15]);
        Some(Name { key, kind })
    }

    fn shard(&self) -> u8 {
        self.key[0]
    }

    fn id(&self) -> Id {
        let mut id = [self.kind.letter(); 16];
        id[..15].copy_from_slice(&self.key[1..]);
        id
    }

    /// The trailer of a body under this name: under another name, the same bytes count as
    /// damaged.
    fn trailer(&self, body: &[u8]) -> [u8; TRAILER_BYTES] {
        let mut name = [self.kind.letter(); 17];
        name[..16].copy_from_slice(&self.key);
        let check = xxh3_128_with_seed(body, xxh3_64(&name));
        let mut trailer = [0; TRAILER_BYTES];
        trailer[..16].copy_from_slice(&check.to_le_bytes());
        trailer[16..].copy_from_slice(&MAGIC);
        trailer
    }
}

/// Why the cache can't be used. Never a reason for a build to fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// The reason in words, for people.
    pub words: String,
    /// Stable: `cache-read-only`, `cache-newer`, `cache-full`, `cache-unsafe` or `cache-io`.
    pub code: &'static str,
}

impl Unusable {
    pub fn new(folder: &Path, error: &io::Error) -> Self {
        let code = match error.raw_os_error() {
            Some(libc::EROFS | libc::EACCES | libc::EPERM) => "cache-read-only",
            Some(libc::ENOSPC | libc::EDQUOT) => "cache-full",
            _ => "cache-io",
        };
        Unusable {
            words: format!("{}: {error}", folder.display()),
            code,
        }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// The entries of a cache in its folder.
#[derive(Debug, Clone)]
pub struct Entries {
    folder: PathBuf,
    size_bytes_max: u64,
    read_only: bool,
}

/// Outcome of reading an entry.
pub enum ReadOutcome {
    /// It is whole, and this is in it.
    Body(Vec<u8>),
    /// There is none.
    Absent,
    /// What lies there is no entry of that name.
    Damaged,
    /// The disk can't be read.
    Unreadable(io::Error),
}

impl Entries {
    /// The cache in `folder`, of at most `size_bytes_max` bytes on disk; made
    /// if there is none. With `read_only` nothing in it is ever written.
    pub fn open(folder: &Path, size_bytes_max: u64, read_only: bool) -> Result<Entries, Unusable> {
        let trouble = |error: io::Error| Unusable::new(folder, &error);
        match version(folder).map_err(trouble)? {
            Some(VERSION) => {}
            Some(newer) if newer > VERSION => {
                return Err(Unusable {
                    words: format!(
                        "{} has format {newer}, a newer hgbuild's; this one knows {VERSION}",
                        folder.display()
                    ),
                    code: "cache-newer",
                });
            }
            _ if read_only => {}
            _ => make(folder).map_err(trouble)?,
        }
        Ok(Entries {
            folder: folder.to_path_buf(),
            size_bytes_max,
            read_only,
        })
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether nothing in its folder may be written.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The body of an entry. `None`: it is absent, or was damaged and is
    /// removed.
    pub fn read(&self, name: Name) -> Option<Vec<u8>> {
        match self.read_checked(name, !self.read_only) {
            ReadOutcome::Body(body) => Some(body),
            ReadOutcome::Absent | ReadOutcome::Unreadable(_) => None,
            ReadOutcome::Damaged => {
                if !self.read_only {
                    // If it can't be removed now, the next reader tries again.
                    let is_damaged = |outcome| matches!(outcome, ReadOutcome::Damaged);
                    let _ = self.remove_if(name, 0, is_damaged);
                }
                None
            }
        }
    }

    /// Reads and checks an entry; with `touch`, its time of use is renewed.
    pub fn read_checked(&self, name: Name, touch: bool) -> ReadOutcome {
        let mut file = match File::open(self.path(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return ReadOutcome::Absent,
            Err(error) => return ReadOutcome::Unreadable(error),
        };
        let (body, modified) = match whole(&mut file) {
            Ok(Some(found)) => found,
            Ok(None) => return ReadOutcome::Damaged,
            Err(error) => return ReadOutcome::Unreadable(error),
        };
        let Some((body, trailer)) = split(body) else {
            return ReadOutcome::Damaged;
        };
        if trailer != name.trailer(&body) {
            return ReadOutcome::Damaged;
        }
        let now = SystemTime::now();
        if touch
            && now
                .duration_since(modified)
                .is_ok_and(|age| age > TOUCH_AFTER)
        {
            // At worst it goes earlier than it should.
            let _ = file.set_modified(now);
        }
        ReadOutcome::Body(body)
    }

    /// Removes an entry if it `is_bad`, as it is under its shard's lock. False: its shard is
    /// in use.
    ///
    /// # Errors
    /// As the file system says.
    pub fn remove_if(
        &self,
        name: Name,
        looks: u32,
        is_bad: impl FnOnce(ReadOutcome) -> bool,
    ) -> io::Result<bool> {
        let shards = Shards::open(&self.folder)?;
        let Some(mut shard) = shards.lock(name.shard(), looks)? else {
            return Ok(false);
        };
        if is_bad(self.read_checked(name, false)) {
            shard.remove(name.id())?;
        }
        Ok(true)
    }

    /// Stores an entry, whole or not at all, in the place of an older one of
    /// that name; others go to make room for it, and are added to `evicted`. False: it is
    /// left out, since so many processes write that there is no room in time.
    ///
    /// # Errors
    /// The disk can't be written, or is full.
    pub fn write(&self, name: Name, body: &[u8], evicted: &mut Shrunk) -> Result<bool, Unusable> {
        let bytes = on_disk(body.len() as u64 + TRAILER_BYTES as u64);
        let too_large = body.len() as u64 > ENTRY_BYTES_MAX || bytes > self.size_bytes_max;
        if self.read_only || too_large {
            return Ok(true);
        }
        let stored = self.store(name, body, bytes, evicted);
        stored.map_err(|error| Unusable::new(&self.folder, &error))
    }

    fn store(&self, name: Name, body: &[u8], bytes: u64, evicted: &mut Shrunk) -> io::Result<bool> {
        let shards = Shards::open(&self.folder)?;
        shards.repair()?;
        let mut draft = Draft::new(&shard::dir(&self.folder, name.shard()))?;
        draft.file().write_all(body)?;
        draft.file().write_all(&name.trailer(body))?;
        for _ in 0..TRIES_MAX {
            let Some(mut shard) = shards.lock(name.shard(), LOOKS_MAX)? else {
                return Ok(false);
            };
            if shard.put(name.id(), bytes, self.size_bytes_max, |path| {
                draft.place(path)
            })? {
                return Ok(true);
            }
            drop(shard);
            if !evict::make_room(&shards, self.size_bytes_max, bytes, evicted)? {
                break;
            }
        }
        Ok(false)
    }

    fn path(&self, name: Name) -> PathBuf {
        shard::dir(&self.folder, name.shard()).join(shard::file_name(&name.id()))
    }
}

/// All bytes of an entry's file, and when it was last used. `None`: no entry
/// has that size.
fn whole(file: &mut File) -> io::Result<Option<(Vec<u8>, SystemTime)>> {
    let meta = file.metadata()?;
    let len = meta.len();
    if !meta.is_file() || len < TRAILER_BYTES as u64 || len > ENTRY_BYTES_MAX + TRAILER_BYTES as u64
    {
        return Ok(None);
    }
    let mut bytes = vec![0; len as usize];
    match file.read_exact(&mut bytes) {
        Ok(()) => Ok(Some((bytes, meta.modified()?))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn split(mut bytes: Vec<u8>) -> Option<(Vec<u8>, [u8; TRAILER_BYTES])> {
    let trailer = *bytes.last_chunk::<TRAILER_BYTES>()?;
    bytes.truncate(bytes.len() - TRAILER_BYTES);
    Some((bytes, trailer))
}

/// The format's version of the folder's entries; `None`: it holds no cache.
fn version(folder: &Path) -> io::Result<Option<u32>> {
    let file = match File::open(folder.join("version")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(VERSION_BYTES_MAX).read_to_string(&mut text)?;
    if text.trim().is_empty() {
        // What a power failure leaves.
        return Ok(None);
    }
    let unknown = || io::Error::other("its version file says nothing that we know");
    text.trim().parse().map(Some).map_err(|_| unknown())
}

fn make(folder: &Path) -> io::Result<()> {
    private::make_folder(folder)?;
    let text = format!("{VERSION}\n");
    team_folder::replace_within(&folder.join("version"), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn cache(name: &str, size_bytes_max: u64) -> Entries {
        let folder = std::env::temp_dir().join(format!("hg-cache-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        Entries::open(&folder, size_bytes_max, false).unwrap()
    }

    /// Gives how many others went.
    fn write(entries: &Entries, name: Name, body: &[u8]) -> u64 {
        let mut evicted = Shrunk::default();
        assert!(entries.write(name, body, &mut evicted).unwrap());
        evicted.entries
    }

    fn name(number: u8) -> Name {
        Name {
            key: [number; 16],
            kind: Kind::Result,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let cache = cache("read", 1 << 20);
        assert_eq!(cache.read(name(1)), None);
        for body in [&b""[..], b"one", b"another, longer one"] {
            write(&cache, name(1), body);
            assert_eq!(cache.read(name(1)).as_deref(), Some(body));
        }
        let trail = Name {
            kind: Kind::Trail,
            ..name(1)
        };
        assert_eq!(cache.read(trail), None, "kinds are apart");
        assert_eq!(fs::metadata(cache.path(name(1))).unwrap().nlink(), 1);
        assert_eq!(shard::sizes(&cache.folder).unwrap().entries(), 1);
        fs::remove_dir_all(&cache.folder).unwrap();
    }

    #[test]
    fn all_kinds_are_there_when_they_are_counted_anew() {
        let cache = cache("kinds", 1 << 20);
        for kind in Kind::ALL {
            write(&cache, Name { kind, ..name(1) }, b"body");
        }
        let shards = Shards::open(&cache.folder).unwrap();
        let mut shard = shards.lock(1, 0).unwrap().unwrap();
        let counted = shard.recount().unwrap().entries.oldest_first();
        let mut kinds: Vec<u8> = counted.iter().map(|(id, _)| id[15]).collect();
        let mut all = Kind::ALL.map(Kind::letter);
        kinds.sort_unstable();
        all.sort_unstable();
        assert_eq!(kinds, all);
        for (id, _) in counted {
            let kind = Kind::of(id[15]).unwrap();
            assert_eq!(Name::of(1, &id), Some(Name { kind, ..name(1) }));
        }
        fs::remove_dir_all(&cache.folder).unwrap();
    }

    #[test]
    fn every_damaged_byte_and_every_cut_is_a_miss() {
        let cache = cache("flip", 1 << 20);
        let body: Vec<u8> = (0..300_u16).map(|byte| byte as u8).collect();
        write(&cache, name(1), &body);
        let path = cache.path(name(1));
        let good = fs::read(&path).unwrap();
        assert_eq!(good.len(), body.len() + TRAILER_BYTES);
        let is_miss = |bytes: &[u8], what: &str| {
            fs::write(&path, bytes).unwrap();
            assert_eq!(cache.read(name(1)), None, "{what}");
            assert!(!path.exists(), "{what}: removed");
        };
        for at in 0..good.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = good.clone();
                damaged[at] ^= flip;
                is_miss(&damaged, &format!("byte {at} ^ {flip}"));
            }
            is_miss(&good[..at], &format!("cut to {at}"));
        }
        is_miss(&[&good[..], b"x"].concat(), "longer");
        fs::write(&path, &good).unwrap();
        assert_eq!(cache.read(name(1)), Some(body));
        fs::remove_dir_all(&cache.folder).unwrap();
    }

    #[test]
    fn under_another_name_it_is_damaged() {
        let cache = cache("name", 1 << 20);
        write(&cache, name(1), b"body");
        write(&cache, name(2), b"other");
        fs::copy(cache.path(name(1)), cache.path(name(2))).unwrap();
        assert_eq!(cache.read(name(2)), None);
        let mut kind = name(1);
        kind.kind = Kind::Manifest;
        fs::copy(cache.path(name(1)), cache.path(kind)).unwrap();
        assert_eq!(cache.read(kind), None);
        assert!(cache.read(name(1)).is_some());
        fs::remove_dir_all(&cache.folder).unwrap();
    }

    #[test]
    fn what_is_larger_than_the_cache_is_left_out() {
        let cache = cache("large", 10_000);
        write(&cache, name(1), &[0; 4000]);
        write(&cache, name(2), &[0; 10_000]);
        assert!(cache.read(name(1)).is_some());
        assert_eq!(cache.read(name(2)), None);
        fs::remove_dir_all(&cache.folder).unwrap();
    }

    #[test]
    fn a_small_cache_keeps_the_latest() {
        let cache = cache("small", 3 * 4096);
        let mut evicted = 0;
        for number in 0..50 {
            evicted += write(&cache, name(number), &[number; 100]);
            assert!(cache.read(name(number)).is_some(), "{number}");
            assert!(shard::sizes(&cache.folder).unwrap().total() <= 3 * 4096);
        }
        assert!(cache.read(name(48)).is_some());
        assert!(cache.read(name(40)).is_none());
        assert!(evicted >= 47, "{evicted}");
        fs::remove_dir_all(&cache.folder).unwrap();
    }

    #[test]
    fn a_use_is_noted_once_an_hour() {
        let cache = cache("touch", 1 << 20);
        write(&cache, name(1), b"body");
        let modified = || {
            fs::metadata(cache.path(name(1)))
                .unwrap()
                .modified()
                .unwrap()
        };
        let set = |age| {
            let file = File::open(cache.path(name(1))).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
            modified()
        };
        let lately = set(TOUCH_AFTER / 2);
        assert!(cache.read(name(1)).is_some());
        assert_eq!(modified(), lately);
        let before = set(2 * TOUCH_AFTER);
        let reader = Entries::open(&cache.folder, 1 << 20, true).unwrap();
        assert!(reader.read(name(1)).is_some());
        assert_eq!(modified(), before, "a reader writes nothing");
        assert!(cache.read(name(1)).is_some());
        assert!(modified() > lately);
        fs::remove_dir_all(&cache.folder).unwrap();
    }

    #[test]
    fn a_reader_writes_nothing() {
        let cache = cache("reader", 1 << 20);
        let folder = cache.folder.join("none");
        let reader = Entries::open(&folder, 1 << 20, true).unwrap();
        assert_eq!(reader.read(name(1)), None);
        write(&reader, name(1), b"body");
        assert!(!folder.exists());
        write(&cache, name(1), b"body");
        fs::write(cache.path(name(1)), "rubbish").unwrap();
        let reader = Entries::open(&cache.folder, 1 << 20, true).unwrap();
        assert_eq!(reader.read(name(1)), None);
        assert!(cache.path(name(1)).exists(), "the damaged one too stays");
        fs::remove_dir_all(&cache.folder).unwrap();
    }

    #[test]
    fn troubles_have_codes() {
        let cache = cache("trouble", 1 << 20);
        let open = |folder: &Path| Entries::open(folder, 1 << 20, false).map(|_| ());
        let code = |folder: &Path| open(folder).unwrap_err().code;
        fs::write(cache.folder.join("version"), "2\n").unwrap();
        assert_eq!(code(&cache.folder), "cache-newer");
        fs::write(cache.folder.join("version"), "rubbish").unwrap();
        assert_eq!(code(&cache.folder), "cache-io");
        fs::write(cache.folder.join("version"), "").unwrap();
        assert_eq!(open(&cache.folder), Ok(()), "made again");
        assert_eq!(open(&cache.folder.join("a/b")), Ok(()), "made");
        assert_eq!(code(&cache.folder.join("version")), "cache-io");
        assert_eq!(code(Path::new("/proc/hg-cache")), "cache-io");
        for (errno, code) in [
            (libc::EROFS, "cache-read-only"),
            (libc::EACCES, "cache-read-only"),
            (libc::ENOSPC, "cache-full"),
            (libc::EIO, "cache-io"),
        ] {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!(Unusable::new(Path::new("/c"), &error).code, code);
        }
        // A shard that can't be a folder: said, not fatal.
        fs::write(cache.folder.join("05"), "").unwrap();
        let refused = cache.write(name(5), b"x", &mut Shrunk::default());
        assert_eq!(refused.unwrap_err().code, "cache-io");
        assert_eq!(cache.read(name(5)), None);
        fs::remove_dir_all(&cache.folder).unwrap();
    }
}
