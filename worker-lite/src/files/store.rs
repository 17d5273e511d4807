//! Store of contents that were received once, so that they need not travel again: files by
//! digest, in two generations. Bounded in bytes; only the file system knows what is in it,
//! since an idle worker has no memory for an index. Unaware of tasks and of the coordinator.
//!
//! A content is given out as a hard link to its file. Eviction removes the store's own link
//! and leaves the file to those who have others.

use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use hg_proto::boot;
use hg_proto::secure::private::make_folder;
use hg_proto::wire::digest::Digest;
use nix::libc;

use crate::files::removal::remove_tree;
use crate::log::{self, Level};
use crate::machine::vitals;

/// Bytes that are kept at most where the operator says nothing.
const BYTES_MAX_DEFAULT: u64 = 1 << 30;
/// One in so many free bytes of the disk is kept at most where the operator says nothing.
const DISK_SHARE_DEFAULT: u64 = 20;
/// Bytes that a file takes of the disk are a multiple of this.
const BLOCK_BYTES: u64 = 4096;
/// Time of the last change of every file: no compile may see when it was received, and any
/// other time shows that somebody wrote to it.
const MTIME_S: i64 = 1_000_000_000;
/// Mode of every file: nobody writes to it, and compiles may run as another user.
const MODE: u32 = 0o444;

/// The store: contents by digest.
#[derive(Debug)]
pub struct Store {
    young: PathBuf,
    old: PathBuf,
    folder: PathBuf,
    /// Bytes of the young generation beyond which it becomes the old one.
    young_bytes_max: u64,
    counters: Mutex<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    young_bytes: u64,
    /// Generations that were dropped since the start.
    dropped: u64,
}

/// Bytes that may be kept in `folder` where the operator says nothing.
pub fn bytes_max_default(folder: &Path) -> u64 {
    let free = vitals::disk_free_bytes(folder).unwrap_or(0);
    BYTES_MAX_DEFAULT.min(free / DISK_SHARE_DEFAULT)
}

fn disk_bytes(size: u64) -> u64 {
    size.max(1).div_ceil(BLOCK_BYTES) * BLOCK_BYTES
}

/// Gives a complete file the mode and the time of change that files of the store have.
///
/// # Errors
/// The file system says no.
pub fn seal(file: &File) -> io::Result<()> {
    let changed = UNIX_EPOCH + Duration::from_secs(MTIME_S as u64);
    file.set_times(FileTimes::new().set_modified(changed))?;
    file.set_permissions(Permissions::from_mode(MODE))
}

/// Links the file at `from` to `to`; where the file system has no hard links, copies it.
///
/// # Errors
/// The file system says no.
fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if means_no_hard_links(&error) => copy(from, to),
        other => other,
    }
}

fn means_no_hard_links(error: &io::Error) -> bool {
    let no = [libc::EPERM, libc::EMLINK, libc::EOPNOTSUPP];
    error
        .raw_os_error()
        .is_some_and(|errno| no.contains(&errno))
}

/// Copies a content of the store to a file of its own.
///
/// # Errors
/// The file system says no.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut file = File::create_new(to)?;
    io::copy(&mut File::open(from)?, &mut file)?;
    seal(&file)
}

impl Store {
    /// Opens the store in `folder`, which keeps at most `bytes_max` bytes. What was kept
    /// before this machine was started may never have reached the disk, and is removed.
    ///
    /// # Errors
    /// The file system says no.
    pub fn open(folder: &Path, bytes_max: u64) -> io::Result<Self> {
        let store = Store {
            young: folder.join("young"),
            old: folder.join("old"),
            folder: folder.to_path_buf(),
            young_bytes_max: bytes_max / 2,
            counters: Mutex::default(),
        };
        let (mark, boot) = (folder.join("boot"), boot::id());
        if boot.is_none() || fs::read(&mark).ok() != boot {
            remove_tree(folder)?;
        }
        make_folder(&store.young)?;
        make_folder(&store.old)?;
        if let Some(boot) = boot {
            fs::write(mark, boot)?;
        }
        // Left of a generation that was being dropped.
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() && path != store.young && path != store.old {
                remove_tree(&path)?;
            }
        }
        let mut young_bytes = 0;
        for entry in fs::read_dir(&store.young)? {
            young_bytes += disk_bytes(entry?.metadata()?.len());
        }
        store.counters().young_bytes = young_bytes;
        store.rotate_if_full()?;
        Ok(store)
    }

    fn counters(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Links the content with `digest` and `size` to `to`. `false`: the store has not got it,
    /// or not as it was received.
    ///
    /// # Errors
    /// The file system says no.
    pub fn link(&self, digest: Digest, size: u64, to: &Path) -> io::Result<bool> {
        let name = digest.to_hex();
        let (young, old) = (self.young.join(&name), self.old.join(&name));
        // The young generation becomes the old one at any time; the other way goes a file only
        // here.
        let (from, is_old) = match link_or_copy(&young, to) {
            Ok(()) => (&young, false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match link_or_copy(&old, to) {
                Ok(()) => (&old, true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        };
        // Checked under the name that no eviction removes.
        let found = fs::symlink_metadata(to)?;
        if found.len() != size || found.mtime() != MTIME_S || found.mtime_nsec() != 0 {
            fs::remove_file(to)?;
            if found.len() == size {
                let path = from.display();
                log::line(Level::Warn, format_args!("{path}: changed, and dropped"));
                let _ = fs::remove_file(from);
            }
            return Ok(false);
        }
        if is_old && fs::rename(&old, &young).is_ok() {
            self.count(size)?;
        }
        Ok(true)
    }

    /// Keeps a link to the file at `from`, which is complete, has `digest` and was sealed.
    ///
    /// # Errors
    /// The file system says no.
    pub fn insert(&self, digest: Digest, size: u64, from: &Path) -> io::Result<()> {
        match fs::hard_link(from, self.young.join(digest.to_hex())) {
            Ok(()) => self.count(size),
            // Another task was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            // A generation is just being dropped, or a full disk had no room for this
            // one: the next content may be kept.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let _ = self.make_folders(&self.counters());
                Ok(())
            }
            // Without hard links nothing is kept, and each task receives it again.
            Err(error) if means_no_hard_links(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn count(&self, size: u64) -> io::Result<()> {
        self.counters().young_bytes += disk_bytes(size);
        self.rotate_if_full()
    }

    fn rotate_if_full(&self) -> io::Result<()> {
        let gone = {
            let mut counters = self.counters();
            if counters.young_bytes <= self.young_bytes_max {
                return Ok(());
            }
            counters.young_bytes = 0;
            self.rotate(&mut counters)?
        };
        self.drop_generation(&gone)
    }

    /// Detaches the old generation, and makes the young one the old one. Gives the folder
    /// that is to be removed.
    fn rotate(&self, counters: &mut Counters) -> io::Result<PathBuf> {
        let gone = self.detach_old(counters)?;
        ignore_missing(fs::rename(&self.young, &self.old))?;
        // A full disk has room for the folders once the old generation is removed.
        let _ = self.make_folders(counters);
        Ok(gone)
    }

    /// Renames the old generation. Gives the folder that is to be removed.
    fn detach_old(&self, counters: &mut Counters) -> io::Result<PathBuf> {
        counters.dropped += 1;
        let gone = self.folder.join(format!("gone-{}", counters.dropped));
        ignore_missing(fs::rename(&self.old, &gone))?;
        Ok(gone)
    }

    /// Removes a detached generation, and makes the folders that are missing then: on a full
    /// disk there is room for them only now. If that fails, the next time makes them; until
    /// then nothing is found and nothing kept in them.
    fn drop_generation(&self, gone: &Path) -> io::Result<()> {
        remove_tree(gone)?;
        self.make_folders(&self.counters())
    }

    /// Makes the generations' folders that are missing. With the counters locked nobody
    /// renames them.
    fn make_folders(&self, _locked: &Counters) -> io::Result<()> {
        make_folder(&self.young)?;
        make_folder(&self.old)
    }

    /// Removes the old generation, since the disk is full.
    ///
    /// # Errors
    /// The file system says no.
    pub fn evict_old(&self) -> io::Result<()> {
        let gone = {
            let mut counters = self.counters();
            self.detach_old(&mut counters)?
        };
        self.drop_generation(&gone)
    }
}

/// Passes over a folder that does not exist: it was not made again yet.
fn ignore_missing(renamed: io::Result<()>) -> io::Result<()> {
    match renamed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A store and a folder beside it.
    struct Bench {
        place: tempfile::TempDir,
        store: Store,
    }

    impl Bench {
        fn new(bytes_max: u64) -> Self {
            let place = tempfile::tempdir().unwrap();
            let store = Store::open(&place.path().join("blobs"), bytes_max).unwrap();
            Bench { place, store }
        }

        fn again(self, bytes_max: u64) -> Self {
            let store = Store::open(&self.place.path().join("blobs"), bytes_max).unwrap();
            Bench {
                place: self.place,
                store,
            }
        }

        fn put(&self, content: &str) {
            let path = self.place.path().join("came");
            let mut file = File::create_new(&path).unwrap();
            file.write_all(content.as_bytes()).unwrap();
            seal(&file).unwrap();
            let digest = Digest::of(content.as_bytes());
            let size = content.len() as u64;
            self.store.insert(digest, size, &path).unwrap();
            fs::remove_file(path).unwrap();
        }

        fn has(&self, content: &str) -> bool {
            let path = self.place.path().join("taken");
            let digest = Digest::of(content.as_bytes());
            let has = self.store.link(digest, content.len() as u64, &path);
            if has.unwrap() {
                assert_eq!(fs::read_to_string(&path).unwrap(), content);
                let found = fs::metadata(&path).unwrap();
                assert_eq!((found.mtime(), found.mode() & 0o777), (MTIME_S, MODE));
                fs::remove_file(path).unwrap();
                return true;
            }
            assert!(!path.exists());
            false
        }

        fn files(&self) -> usize {
            let count = |folder: &Path| fs::read_dir(folder).unwrap().count();
            count(&self.store.young) + count(&self.store.old)
        }
    }

    #[test]
    fn what_was_kept_is_there_until_the_machine_starts_again() {
        let bench = Bench::new(1 << 20);
        assert!(!bench.has("a"));
        bench.put("a");
        bench.put("");
        bench.put("a");
        assert!(bench.has("a") && bench.has("") && !bench.has("b"));
        let bench = bench.again(1 << 20);
        assert!(bench.has("a") && bench.files() == 2);
        fs::create_dir(bench.store.folder.join("gone-1")).unwrap();
        fs::write(bench.store.folder.join("boot"), "another").unwrap();
        let bench = bench.again(1 << 20);
        assert!(!bench.has("a") && bench.files() == 0);
        assert!(!bench.store.folder.join("gone-1").exists());
        assert_eq!(
            fs::metadata(&bench.store.folder).unwrap().mode() & 0o777,
            0o700
        );
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        // Four young ones at most.
        let bench = Bench::new(8 * BLOCK_BYTES);
        bench.put("wanted");
        for round in 0..100 {
            bench.put(&format!("{round}"));
            assert!(bench.has("wanted"), "{round}");
            assert!(bench.has(&format!("{round}")));
            assert!(bench.files() <= 10, "{}", bench.files());
        }
        assert!(!bench.has("1") && bench.has("99"));
        // The count is right after a start too.
        let bench = bench.again(2 * BLOCK_BYTES);
        bench.put("x");
        bench.put("y");
        assert!(bench.files() <= 3, "{}", bench.files());
    }

    #[test]
    fn a_file_that_was_written_to_is_not_given_again() {
        let bench = Bench::new(1 << 20);
        bench.put("good");
        let path = bench.store.young.join(Digest::of(b"good").to_hex());
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        fs::write(&path, "evil").unwrap();
        assert!(!bench.has("good"));
        assert!(!path.exists());
        bench.put("good");
        // Whoever lies about a length takes nothing away.
        let to = bench.place.path().join("to");
        let digest = Digest::of(b"good");
        assert!(!bench.store.link(digest, 5, &to).unwrap());
        assert!(bench.has("good"));
    }

    #[test]
    fn a_full_disk_gets_half_of_it_back() {
        let bench = Bench::new(4 * BLOCK_BYTES);
        for content in ["a", "b", "c", "d"] {
            bench.put(content);
        }
        assert!(
            bench.files() == 4 || bench.files() == 3,
            "{}",
            bench.files()
        );
        bench.store.evict_old().unwrap();
        assert!(bench.has("d") && !bench.has("a"));
        assert_eq!(fs::read_dir(&bench.store.folder).unwrap().count(), 3);
    }

    #[test]
    fn what_a_full_disk_had_no_room_for_is_made_later() {
        let bench = Bench::new(4 * BLOCK_BYTES);
        for missing in ["old", "young"] {
            bench.put("a");
            fs::remove_dir_all(bench.store.folder.join(missing)).unwrap();
            bench.store.evict_old().unwrap();
            bench.put("b");
            assert!(bench.has("b"), "{missing}");
            fs::remove_dir_all(bench.store.folder.join(missing)).unwrap();
            for content in ["c", "d", "e", "f", "g", "h"] {
                bench.put(content);
            }
            assert!(bench.has("h"), "{missing}");
        }
    }

    /// A file system of its own, in which so many files and folders fit, for the calling
    /// thread. Takes root.
    #[cfg(target_os = "linux")]
    fn small_disk(at: &Path, files: u32) -> bool {
        use std::ffi::CString;
        use std::os::unix::ffi::OsStrExt;
        let target = CString::new(at.as_os_str().as_bytes()).unwrap();
        let options = CString::new(format!("nr_inodes={files}")).unwrap();
        let (tmpfs, private) = (c"tmpfs".as_ptr(), libc::MS_REC | libc::MS_PRIVATE);
        let null = std::ptr::null();
        // SAFETY: plain system calls on memory that outlives them.
        unsafe {
            libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(null, c"/".as_ptr(), null, private, null.cast()) == 0
                && libc::mount(tmpfs, target.as_ptr(), tmpfs, 0, options.as_ptr().cast()) == 0
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn room_comes_back_where_not_even_a_folder_can_be_made() {
        let work = || {
            let place = tempfile::tempdir().unwrap();
            if !small_disk(place.path(), 20) {
                return;
            }
            let store = Store::open(&place.path().join("blobs"), 1 << 20).unwrap();
            let bench = Bench { place, store };
            bench.put("old");
            // They grow old.
            bench.store.counters().young_bytes = 1 << 20;
            bench.store.rotate_if_full().unwrap();
            let fill = |number: u32| File::create(bench.place.path().join(number.to_string()));
            let filled = (0..100).take_while(|number| fill(*number).is_ok()).count();
            assert!(filled < 20, "{filled}");
            for _ in 0..3 {
                bench.store.evict_old().unwrap();
                assert!(bench.store.old.is_dir() && bench.store.young.is_dir());
            }
            assert_eq!(bench.files(), 0);
        };
        // The mount is the thread's.
        std::thread::spawn(work).join().unwrap();
    }

    #[test]
    fn many_at_once() {
        let bench = Bench::new(16 * BLOCK_BYTES);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let bench = &bench;
                scope.spawn(move || {
                    for round in 0..200 {
                        let content = format!("{}", round % 20);
                        let digest = Digest::of(content.as_bytes());
                        let path = bench.place.path().join(format!("{thread}"));
                        let size = content.len() as u64;
                        if !bench.store.link(digest, size, &path).unwrap() {
                            let mut file = File::create_new(&path).unwrap();
                            file.write_all(content.as_bytes()).unwrap();
                            seal(&file).unwrap();
                            bench.store.insert(digest, size, &path).unwrap();
                        }
                        assert_eq!(fs::read_to_string(&path).unwrap(), content);
                        fs::remove_file(path).unwrap();
                    }
                });
            }
        });
        assert!(bench.files() <= 20);
    }
}
