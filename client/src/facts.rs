//! What is true of files while an answer holds: their content, and which names
//! in a folder stand for nothing. Looks at the disk, each path once.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;

use foldhash::{HashMap, HashSet};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use nix::time::{ClockId, clock_gettime};
use xxhash_rust::xxh3::xxh3_128;

/// Bytes of one input.
const INPUT_BYTES_MAX: u64 = 256 << 20;
/// Bytes of a folder's path, from which on it pays to open it.
const FOLDER_BYTES_MIN: usize = 12;
/// Folders that are held open.
const FOLDERS_MAX: usize = 64;
/// Nanoseconds within which a second write may leave a stat as it was, on a
/// file system that counts them.
const RACY_NS: i64 = 20_000_000;
/// The same, where times are whole seconds.
const RACY_COARSE_NS: i64 = 2_100_000_000;

/// Nanoseconds since 1970; no file that is written from now on has an older
/// time. Kernels stamp files by the coarse clock, newer ones sometimes by a finer.
pub fn now_ns() -> i64 {
    #[cfg(target_os = "linux")]
    let clock = ClockId::CLOCK_REALTIME_COARSE;
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::CLOCK_REALTIME;
    read_clock(clock)
}

/// Nanoseconds since 1970; no file that was written before has a younger time.
pub fn now_fine_ns() -> i64 {
    read_clock(ClockId::CLOCK_REALTIME)
}

fn read_clock(clock: ClockId) -> i64 {
    clock_gettime(clock).map_or(0, |time| nanoseconds(time.tv_sec(), time.tv_nsec()))
}

#[allow(clippy::unnecessary_cast)] // Their widths differ between systems.
fn nanoseconds(seconds: impl Into<i64>, nanoseconds: impl Into<i64>) -> i64 {
    seconds
        .into()
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds.into())
}

/// What stands for a file's content, or a folder's names, while it is the same.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Stat {
    /// Device.
    #[prost(fixed64, tag = "1")]
    pub device: u64,
    /// Inode.
    #[prost(fixed64, tag = "2")]
    pub inode: u64,
    /// Bytes.
    #[prost(fixed64, tag = "3")]
    pub size: u64,
    /// Last write, nanoseconds since 1970.
    #[prost(fixed64, tag = "4")]
    pub mtime_ns: u64,
    /// Last change of the inode, nanoseconds since 1970.
    #[prost(fixed64, tag = "5")]
    pub ctime_ns: u64,
    /// Type and permissions.
    #[prost(fixed32, tag = "6")]
    pub mode: u32,
}

impl Stat {
    /// Of a file, or of a link itself.
    pub fn of(meta: &Metadata) -> Self {
        Stat {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            mtime_ns: nanoseconds(meta.mtime(), meta.mtime_nsec()).cast_unsigned(),
            ctime_ns: nanoseconds(meta.ctime(), meta.ctime_nsec()).cast_unsigned(),
            mode: meta.mode(),
        }
    }

    /// When it was last touched.
    pub fn youngest_ns(&self) -> i64 {
        self.mtime_ns.cast_signed().max(self.ctime_ns.cast_signed())
    }

    /// Whether a later write could not leave it as it is; `now_ns` is when it
    /// was taken.
    fn is_settled(&self, now_ns: i64) -> bool {
        let racy = match self.is_coarse() {
            true => RACY_COARSE_NS,
            false => RACY_NS,
        };
        self.youngest_ns().saturating_add(racy) < now_ns
    }

    /// Its file system counts whole seconds.
    pub fn is_coarse(&self) -> bool {
        let whole = |ns: u64| ns.is_multiple_of(1_000_000_000);
        whole(self.mtime_ns) && whole(self.ctime_ns)
    }

    /// Whether it may have been written at `began_ns` or later; `skew_ns` is how
    /// far behind its clock may be. Its time of writing can be set by anyone,
    /// and counts only where another machine sets the other.
    pub fn is_newer(&self, began_ns: i64, skew_ns: i64) -> bool {
        let touched_ns = match skew_ns {
            0 => self.ctime_ns.cast_signed(),
            _ => self.youngest_ns(),
        };
        let coarse_ns = if self.is_coarse() { RACY_COARSE_NS } else { 0 };
        touched_ns.saturating_add(skew_ns).saturating_add(coarse_ns) >= began_ns
    }

    /// Itself if it is settled; else one that no file has.
    pub fn if_settled(self, now_ns: i64) -> Stat {
        match self.is_settled(now_ns) {
            true => self,
            false => Stat::default(),
        }
    }
}

/// What a path leads to, links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Nothing.
    Absent,
    /// A regular file.
    File(Stat),
    /// A folder.
    Folder(Stat),
    /// Something else, or something that can't be looked at.
    Other,
}

/// Content of a file, and the stat that goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// XXH3-128.
    pub digest: u128,
    /// Taken after reading.
    pub stat: Stat,
}

/// Names in a folder, sorted.
pub type Names = Rc<Vec<Vec<u8>>>;

/// Looks at each path once, so that all answers are of one moment.
#[derive(Debug, Default)]
pub struct Looks {
    seen: HashMap<Vec<u8>, Seen>,
    /// Those that are links, wherever they lead.
    links: HashSet<Vec<u8>>,
    /// Folders that are looked into more than once: from there, a file is found
    /// without walking its whole path again.
    folders: HashMap<Vec<u8>, Option<OwnedFd>>,
    contents: HashMap<Vec<u8>, Option<Content>>,
    names: HashMap<Vec<u8>, Option<Names>>,
}

impl Looks {
    /// What `path` leads to.
    pub fn at(&mut self, path: &[u8]) -> Seen {
        if let Some(seen) = self.seen.get(path) {
            return *seen;
        }
        let itself = match self.is_below_nothing(path) {
            true => Itself::Seen(Seen::Absent),
            false => self.look_into(path).unwrap_or_else(|| look(path)),
        };
        let seen = match itself {
            Itself::Link => {
                self.links.insert(path.to_vec());
                see(path)
            }
            Itself::Seen(seen) => seen,
        };
        self.seen.insert(path.to_vec(), seen);
        seen
    }

    /// Whether `path` is a link, wherever that leads.
    pub fn is_link(&mut self, path: &[u8]) -> bool {
        let _ = self.at(path);
        self.links.contains(path)
    }

    /// Many names are looked for in folders that are not there.
    fn is_below_nothing(&mut self, path: &[u8]) -> bool {
        let folder = memchr::memrchr(b'/', path).map_or(&b""[..], |slash| &path[..slash]);
        folder.len() >= FOLDER_BYTES_MIN && self.at(folder) == Seen::Absent
    }

    fn look_into(&mut self, path: &[u8]) -> Option<Itself> {
        let slash = memchr::memrchr(b'/', path)?;
        let (folder, name) = (&path[..slash], &path[slash + 1..]);
        if folder.len() < FOLDER_BYTES_MIN || name.is_empty() {
            return None;
        }
        if !self.folders.contains_key(folder) {
            let full = self.folders.len() >= FOLDERS_MAX;
            let opened = (!full).then(|| open_folder(folder)).flatten();
            self.folders.insert(folder.to_vec(), opened);
        }
        let folder = self.folders.get(folder)?.as_ref()?;
        let itself = AtFlags::AT_SYMLINK_NOFOLLOW;
        Some(classify_at(fstatat(folder, name, itself)))
    }

    /// All names in a folder, sorted; `None`: it can't be read.
    pub fn names(&mut self, folder: &[u8]) -> Option<Names> {
        if let Some(names) = self.names.get(folder) {
            return names.clone();
        }
        let names = list(folder).ok().map(Rc::new);
        self.names.insert(folder.to_vec(), names.clone());
        names
    }

    /// Digest of the content of `path`; `None`: it can't be read.
    pub fn content(&mut self, path: &[u8]) -> Option<Content> {
        if let Some(content) = self.contents.get(path) {
            return *content;
        }
        let content = read(path).ok().map(|(_, content)| content);
        self.contents.insert(path.to_vec(), content);
        content
    }

    /// When the youngest file looked at was touched, nanoseconds since 1970.
    pub fn youngest_ns(&self) -> i64 {
        let files = self.seen.values().filter_map(|seen| match seen {
            Seen::File(stat) => Some(stat.youngest_ns()),
            _ => None,
        });
        files.max().unwrap_or(0)
    }

    /// What [`Looks::content`] said of `path`, if it was asked.
    pub fn read_before(&self, path: &[u8]) -> Option<Content> {
        self.contents.get(path).copied().flatten()
    }
}

/// Nanoseconds by which another machine's clock may be behind ours.
const SKEW_NS: i64 = 3_600_000_000_000;

/// Whose a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// This machine's.
    Ours,
    /// The same, and made of folders of others.
    Layers,
    /// Another machine's, or an image's whose files all have one time.
    Others,
}

/// Which devices are this machine's own: on others, clocks differ and stats are
/// remembered by the network for a while.
#[derive(Debug, Default)]
pub struct Devices {
    owners: HashMap<u64, Owner>,
}

impl Devices {
    fn owner(&mut self, path: &[u8], device: u64) -> Owner {
        *self
            .owners
            .entry(device)
            .or_insert_with(|| owner(as_path(path)))
    }

    fn is_own(&mut self, path: &[u8], device: u64) -> bool {
        self.owner(path, device) != Owner::Others
    }

    /// Whether `path` may lie in a folder of another device than its stat says.
    pub fn is_layered(&mut self, path: &[u8], stat: Stat) -> bool {
        self.owner(path, stat.device) == Owner::Layers
    }

    /// What may stand for `path` later; all zero if nothing may.
    pub fn kept(&mut self, path: &[u8], stat: Stat, now_ns: i64) -> Stat {
        match self.is_own(path, stat.device) {
            true => stat.if_settled(now_ns),
            false => Stat::default(),
        }
    }

    /// By how many nanoseconds the times of `path` may be behind.
    pub fn skew_ns(&mut self, path: &[u8], stat: Stat) -> i64 {
        match self.is_own(path, stat.device) {
            true => 0,
            false => SKEW_NS,
        }
    }
}

#[cfg(target_os = "linux")]
fn owner(path: &Path) -> Owner {
    use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};
    match statfs(path) {
        Ok(fs) if fs.filesystem_type() == OVERLAYFS_SUPER_MAGIC => Owner::Layers,
        Ok(fs) if is_own(&fs) => Owner::Ours,
        _ => Owner::Others,
    }
}

/// Whether the file lies on a device of this machine's own.
#[cfg(target_os = "linux")]
pub fn is_own_file(file: &File) -> bool {
    nix::sys::statfs::fstatfs(file).is_ok_and(|fs| is_own(&fs))
}

/// Whether the folder comes by NFS.
#[cfg(target_os = "linux")]
pub fn is_on_nfs(folder: &Path) -> bool {
    use nix::sys::statfs::{NFS_SUPER_MAGIC, statfs};
    statfs(folder).is_ok_and(|fs| fs.filesystem_type() == NFS_SUPER_MAGIC)
}

/// File systems that are known to be this machine's own, and to stamp each file when it
/// is written (statfs(2)): not images such as squashfs, whose next edition may have
/// all numbers and times of this one.
#[cfg(target_os = "linux")]
#[allow(clippy::unnecessary_cast)] // Their widths differ between machines.
fn is_own(fs: &nix::sys::statfs::Statfs) -> bool {
    use nix::libc;
    const OWN: [i64; 11] = [
        libc::EXT4_SUPER_MAGIC as i64,
        libc::XFS_SUPER_MAGIC as i64,
        libc::BTRFS_SUPER_MAGIC as i64,
        libc::TMPFS_MAGIC as i64,
        libc::OVERLAYFS_SUPER_MAGIC as i64,
        libc::F2FS_SUPER_MAGIC as i64,
        libc::REISERFS_SUPER_MAGIC as i64,
        0x2fc1_2fc1, // ZFS
        0xca45_1a4e, // bcachefs
        0x3153_464a, // JFS
        0x8584_58f6, // ramfs
    ];
    OWN.contains(&(fs.filesystem_type().0 as i64 & 0xffff_ffff))
}

/// A network file system can't be told here.
#[cfg(not(target_os = "linux"))]
fn owner(_path: &Path) -> Owner {
    Owner::Ours
}

/// A network file system can't be told here.
#[cfg(not(target_os = "linux"))]
pub fn is_own_file(_file: &File) -> bool {
    true
}

/// `path` as the system takes it.
pub fn as_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

/// Whether a name in `folder` may be a precompiled header's.
pub fn may_be_precompiled(folder: &[u8]) -> bool {
    const SUFFIX: &[u8] = b".gch";
    let is_one = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let end = name.as_bytes().last_chunk::<{ SUFFIX.len() }>();
        // Some file systems find it in other spellings too.
        end.is_some_and(|end| end.eq_ignore_ascii_case(SUFFIX))
    };
    let entries = fs::read_dir(as_path(folder));
    // What can't be read may be one.
    entries.map_or(true, |mut all| all.any(|entry| entry.map_or(true, is_one)))
}

fn list(folder: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(as_path(folder))? {
        names.push(entry?.file_name().into_vec());
    }
    names.sort_unstable();
    Ok(names)
}

/// What is at a path, links not followed.
enum Itself {
    Link,
    Seen(Seen),
}

fn look(path: &[u8]) -> Itself {
    match fs::symlink_metadata(as_path(path)) {
        Ok(meta) if meta.is_symlink() => Itself::Link,
        meta => Itself::Seen(classify(meta)),
    }
}

/// What `path` leads to now.
pub fn see(path: &[u8]) -> Seen {
    classify(fs::metadata(as_path(path)))
}

/// What `path` is now; a link is something else.
pub fn see_itself(path: &[u8]) -> Seen {
    classify(fs::symlink_metadata(as_path(path)))
}

/// A folder to look into; `None`: the whole path will do.
#[cfg(target_os = "linux")]
fn open_folder(path: &[u8]) -> Option<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).ok()
}

/// A folder to look into; `None`: the whole path will do.
#[cfg(not(target_os = "linux"))]
fn open_folder(_path: &[u8]) -> Option<OwnedFd> {
    None
}

#[allow(clippy::unnecessary_cast)] // Their widths differ between systems.
fn classify_at(stat: nix::Result<FileStat>) -> Itself {
    let stat = match stat {
        Ok(stat) => stat,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Itself::Seen(Seen::Absent),
        Err(_) => return Itself::Seen(Seen::Other),
    };
    let seen = Stat {
        device: stat.st_dev as u64,
        inode: stat.st_ino as u64,
        size: stat.st_size as u64,
        mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec).cast_unsigned(),
        ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec).cast_unsigned(),
        mode: stat.st_mode as u32,
    };
    match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFLNK => Itself::Link,
        SFlag::S_IFREG => Itself::Seen(Seen::File(seen)),
        SFlag::S_IFDIR => Itself::Seen(Seen::Folder(seen)),
        _ => Itself::Seen(Seen::Other),
    }
}

fn classify(meta: io::Result<Metadata>) -> Seen {
    match meta {
        Ok(meta) if meta.is_file() => Seen::File(Stat::of(&meta)),
        Ok(meta) if meta.is_dir() => Seen::Folder(Stat::of(&meta)),
        Ok(_) => Seen::Other,
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Seen::Absent,
            _ => Seen::Other,
        },
    }
}

/// A file's text, with what stands for it.
///
/// # Errors
/// It can't be read, changes meanwhile, is no regular file, or is over 256 MiB.
pub fn read(path: &[u8]) -> io::Result<(Vec<u8>, Content)> {
    let file = File::open(as_path(path))?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.size() > INPUT_BYTES_MAX {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mut text = Vec::with_capacity(meta.size() as usize + 1);
    // One more than there should be, which says that there are no more.
    (&file).take(meta.size() + 1).read_to_end(&mut text)?;
    let stat = Stat::of(&file.metadata()?);
    if stat.size != text.len() as u64 {
        return Err(io::Error::other("changed while it was read"));
    }
    let content = Content {
        digest: xxh3_128(&text),
        stat,
    };
    Ok((text, content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_change_unseen_is_not_settled() {
        let now = 10_000_000_000;
        let stat = |mtime_ns: i64, ctime_ns: i64| Stat {
            inode: 7,
            mtime_ns: mtime_ns.cast_unsigned(),
            ctime_ns: ctime_ns.cast_unsigned(),
            ..Stat::default()
        };
        let kept = |stat: Stat| stat.if_settled(now) == stat;
        assert!(kept(stat(1, now - RACY_NS - 1)));
        assert!(!kept(stat(1, now - RACY_NS)));
        assert!(!kept(stat(now + 5, 1)));
        assert!(!kept(stat(8_000_000_000, 8_000_000_000)));
        assert!(kept(stat(7_000_000_000, 7_000_000_000)));
    }

    #[test]
    fn a_path_is_looked_at_once() {
        let path = std::env::temp_dir().join(format!("hg-facts-{}", std::process::id()));
        let path = path.as_os_str().as_bytes();
        let mut looks = Looks::default();
        assert_eq!(looks.at(path), Seen::Absent);
        fs::write(as_path(path), "x").unwrap();
        assert_eq!(looks.at(path), Seen::Absent);
        assert!(matches!(see(path), Seen::File(stat) if stat.size == 1));
        let content = looks.content(path).unwrap();
        fs::write(as_path(path), "y").unwrap();
        assert_eq!(looks.content(path), Some(content));
        fs::remove_file(as_path(path)).unwrap();
        assert_eq!(looks.at(b"/dev/null"), Seen::Other);
    }
}
