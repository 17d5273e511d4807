//! Toolchains that clients brought: each a list of files, and their contents by digest,
//! which several lists may share. Bounded in bytes; what was not used for longest goes,
//! and nothing that a compile has in hand. Unaware of links and sandboxes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use hg_proto::compiler::shipment;
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
/// Whoever compiles may run them, and nobody writes to them.
const MODE: u32 = 0o555;
/// Bytes that are read at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Toolchains of others, on this machine's disk.
#[derive(Debug)]
pub struct Shipments {
    contents: PathBuf,
    lists: PathBuf,
    bytes_max: u64,
    books: Mutex<BTreeMap<Digest, Kept>>,
}

#[derive(Debug)]
struct Kept {
    list: Arc<Shipment>,
    /// Compiles that have it in hand.
    users: usize,
    used: SystemTime,
}

/// A toolchain that stays while this lives.
#[derive(Debug)]
pub struct InUse {
    shipments: Arc<Shipments>,
    digest: Digest,
}

impl Drop for InUse {
    fn drop(&mut self) {
        if let Some(kept) = self.shipments.books().get_mut(&self.digest) {
            kept.users -= 1;
        }
    }
}

impl Shipments {
    /// Those that are kept in `folder`, as far as they are whole: each content is read.
    ///
    /// # Errors
    /// The file system says no.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let (contents, lists) = (folder.join("contents"), folder.join("lists"));
        make_folder(&contents)?;
        make_folder(&lists)?;
        let free = vitals::disk_free_bytes(folder).unwrap_or(0);
        let shipments = Shipments {
            // As compilers find them mounted: links on the way are not theirs.
            contents: contents.canonicalize()?,
            lists: lists.canonicalize()?,
            bytes_max: BYTES_MAX.min(free / DISK_SHARE),
            books: Mutex::default(),
        };
        let mut whole = BTreeMap::new();
        for entry in fs::read_dir(&shipments.lists)? {
            let path = entry?.path();
            match shipments.read(&path, &mut whole) {
                Ok((digest, kept)) => {
                    shipments.books().insert(digest, kept);
                }
                Err(error) => {
                    let shown = path.display();
                    log::line(Level::Warn, format_args!("dropped: {shown}: {error}"));
                    fs::remove_file(&path)?;
                }
            }
        }
        shipments.drop_unlisted(&BTreeSet::new())?;
        Ok(shipments)
    }

    fn books(&self) -> MutexGuard<'_, BTreeMap<Digest, Kept>> {
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
        let all = books.iter();
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
        let new = path.with_extension("new");
        fs::write(&new, list.encode_to_vec())?;
        fs::rename(&new, &path)?;
        let kept = Kept {
            list: list.clone(),
            users: 0,
            used: SystemTime::now(),
        };
        self.books().entry(digest).or_insert(kept);
        Ok(digest)
    }

    /// Takes it into use; `None`: it is gone.
    pub fn hold(self: &Arc<Self>, digest: Digest) -> Option<InUse> {
        let mut books = self.books();
        let kept = books.get_mut(&digest)?;
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

    /// Makes room for `list`: those go that were not used for longest and that nobody
    /// has in hand. Gives them.
    ///
    /// # Errors
    /// Words: there is no room for it, or the file system says no.
    pub fn make_room(&self, list: &Shipment) -> Result<Vec<Digest>, String> {
        let wanted = shipment::contents(list);
        let bytes: u64 = wanted.values().sum();
        if bytes > self.bytes_max {
            let most = self.bytes_max;
            return Err(format!("{bytes} bytes, and at most {most} are kept here"));
        }
        let mut gone = Vec::new();
        let mut books = self.books();
        loop {
            let mut all = wanted.clone();
            for kept in books.values() {
                all.extend(shipment::contents(&kept.list));
            }
            if all.values().sum::<u64>() <= self.bytes_max {
                break;
            }
            let idle = books.iter().filter(|(_, kept)| kept.users == 0);
            let Some(oldest) = idle.min_by_key(|(_, kept)| kept.used).map(|(d, _)| *d) else {
                return Err("no room beside those that are in use".into());
            };
            books.remove(&oldest);
            fs::remove_file(self.lists.join(oldest.to_hex())).map_err(|error| error.to_string())?;
            gone.push(oldest);
        }
        drop(books);
        let wanted = wanted.into_keys().collect();
        self.drop_unlisted(&wanted)
            .map_err(|error| error.to_string())?;
        Ok(gone)
    }

    /// One that does not work here goes.
    ///
    /// # Errors
    /// The file system says no.
    pub fn forget(&self, digest: &Digest) -> io::Result<()> {
        self.books().remove(digest);
        fs::remove_file(self.lists.join(digest.to_hex()))?;
        self.drop_unlisted(&BTreeSet::new())
    }

    /// Contents that no list has go, but those that are `wanted` and those that are on
    /// their way.
    fn drop_unlisted(&self, wanted: &BTreeSet<Digest>) -> io::Result<()> {
        let books = self.books();
        let mut listed = wanted.clone();
        for kept in books.values() {
            listed.extend(shipment::contents(&kept.list).into_keys());
        }
        for entry in fs::read_dir(&self.contents)? {
            let entry = entry?;
            let name = entry.file_name();
            let digest = name.to_str().and_then(Digest::from_hex);
            if digest.is_some_and(|digest| !listed.contains(&digest)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
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
