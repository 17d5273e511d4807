//! What is true of files while an answer holds: their content, and which names
//! in a folder stand for nothing. Looks at the disk, each path once.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use foldhash::{HashMap, HashSet};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use nix::time::{ClockId, clock_gettime};
use prost::Message;
use xxhash_rust::xxh3::xxh3_128;

use crate::includes::paths::{as_path, join, split};
#[cfg(target_os = "linux")]
use crate::local::own_device::is_own;

/// Bytes of one input.
const INPUT_BYTES_MAX: u64 = 256 << 20;
/// Bytes of a folder's path, from which on it pays to open it.
const FOLDER_BYTES_MIN: usize = 12;
/// Folders that are held open.
const FOLDERS_MAX: usize = 64;
/// Names that are looked for in vain in a folder, before all of it is listed.
const MISSES_MIN: usize = 6;
/// Names in a folder that is listed: what is larger costs more than it saves.
const LISTED_MAX: usize = 1024;
/// Bytes of a name that a folder may have.
const NAME_BYTES_MAX: usize = 255;
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

/// A folder that names are looked for in, as [`Looks`] count them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FolderId(usize);

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Links followed.
    pub seen: Seen,
    /// It is a link, wherever it leads.
    pub is_link: bool,
    /// For whoever looks: it was dealt with.
    pub noted: bool,
}

/// A folder that names are looked for in.
#[derive(Debug, Default)]
struct Folder {
    path: Vec<u8>,
    /// What it is; `None`: it was not looked at.
    seen: Option<Seen>,
    /// What was looked for in it.
    looks: HashMap<Vec<u8>, Look>,
    /// From here, a file is found without walking its whole path again.
    opened: Option<OwnedFd>,
    /// Names that were looked for in vain.
    misses: usize,
    /// All that are there, in lower case; `None`: they are not known.
    names: Option<HashSet<Vec<u8>>>,
}

impl Folder {
    /// Whether it is known that there is no `name`.
    fn lacks(&self, name: &[u8]) -> bool {
        let Some(names) = &self.names else {
            return false;
        };
        // Some file systems find a name in other spellings, or by a short one that is
        // not listed.
        let plain = name.len() <= NAME_BYTES_MAX
            && name.is_ascii()
            && !name.iter().any(|c| matches!(c, b'~' | 0));
        match name.iter().any(u8::is_ascii_uppercase) {
            true => plain && !names.contains(&name.to_ascii_lowercase()),
            false => plain && !names.contains(name),
        }
    }

    /// What `name` in it is.
    fn look(&mut self, name: &[u8]) -> Look {
        // Many names are looked for in folders that are not there.
        if self.seen == Some(Seen::Absent) || self.lacks(name) {
            return Itself::Seen(Seen::Absent).followed(&[]);
        }
        let path = || join(&self.path, name);
        let look = match &self.opened {
            Some(opened) => {
                match classify_at(fstatat(opened, name, AtFlags::AT_SYMLINK_NOFOLLOW)) {
                    Itself::Link => Itself::Link.followed(&path()),
                    seen => seen.followed(&[]),
                }
            }
            None => {
                let path = path();
                look(&path).followed(&path)
            }
        };
        if look.seen == Seen::Absent && !look.is_link {
            self.misses += 1;
            if self.misses == MISSES_MIN {
                self.names = list_few(&self.path);
            }
        }
        look
    }
}

/// A folder in which names were noted.
#[derive(Debug)]
pub struct Noted<'l> {
    /// Which one.
    pub id: FolderId,
    /// How it is spelled.
    pub path: &'l [u8],
    /// What it is.
    pub seen: Seen,
    /// Those names, sorted, and what each is.
    pub names: Vec<(&'l [u8], Seen)>,
}

/// Looks at each path once, so that all answers are of one moment.
#[derive(Debug, Default)]
pub struct Looks {
    folders: Vec<Folder>,
    /// By their paths.
    ids: HashMap<Vec<u8>, FolderId>,
    /// Paths that are no names in a folder.
    others: HashMap<Vec<u8>, Look>,
    /// Folders that are held open.
    opened: usize,
    contents: HashMap<Vec<u8>, Option<Content>>,
    names: HashMap<Vec<u8>, Option<Names>>,
}

impl Looks {
    /// What `path` leads to.
    pub fn at(&mut self, path: &[u8]) -> Seen {
        if let Some((folder, name)) = split(path) {
            let folder = self.folder(folder);
            return self.look_in(folder, name).seen;
        }
        if let Some(look) = self.others.get(path) {
            return look.seen;
        }
        let look = look(path).followed(path);
        self.others.insert(path.to_vec(), look);
        look.seen
    }

    /// The folder `path`, whether it is there or not.
    pub fn folder(&mut self, path: &[u8]) -> FolderId {
        if let Some(id) = self.ids.get(path) {
            return *id;
        }
        let pays = path.len() >= FOLDER_BYTES_MIN;
        let seen = pays.then(|| self.at(path));
        let may_be_opened = pays && self.opened < FOLDERS_MAX && seen != Some(Seen::Absent);
        let opened = may_be_opened.then(|| open_folder(path)).flatten();
        self.opened += usize::from(opened.is_some());
        let id = FolderId(self.folders.len());
        self.folders.push(Folder {
            path: path.to_vec(),
            seen,
            opened,
            ..Folder::default()
        });
        self.ids.insert(path.to_vec(), id);
        id
    }

    /// How `folder` is spelled.
    pub fn path_of(&self, folder: FolderId) -> &[u8] {
        &self.folders[folder.0].path
    }

    /// What `folder` itself is.
    pub fn seen_of(&mut self, folder: FolderId) -> Seen {
        if let Some(seen) = self.folders[folder.0].seen {
            return seen;
        }
        let path = self.path_of(folder).to_vec();
        let seen = self.at(&path);
        self.folders[folder.0].seen = Some(seen);
        seen
    }

    /// What `name` in `folder` is: a name, neither empty nor `.` or `..`.
    pub fn look_in(&mut self, folder: FolderId, name: &[u8]) -> &mut Look {
        let folder = &mut self.folders[folder.0];
        if !folder.looks.contains_key(name) {
            let look = folder.look(name);
            return folder.looks.entry(name.to_vec()).or_insert(look);
        }
        folder.looks.get_mut(name).expect("it is there")
    }

    /// Folders in which names were noted, in order of their paths.
    pub fn noted(&self) -> Vec<Noted<'_>> {
        let mut all = Vec::new();
        for (folder, id) in self.folders.iter().zip((0..).map(FolderId)) {
            let noted = folder.looks.iter().filter(|(_, look)| look.noted);
            let mut noted: Vec<_> = noted.map(|(name, look)| (&name[..], look.seen)).collect();
            if !noted.is_empty() {
                noted.sort_unstable_by_key(|(name, _)| *name);
                all.push(Noted {
                    id,
                    path: &folder.path,
                    seen: folder.seen.unwrap_or(Seen::Other),
                    names: noted,
                });
            }
        }
        all.sort_unstable_by_key(|folder| folder.path);
        all
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
        let looks = self.folders.iter().flat_map(|folder| folder.looks.values());
        let files = looks.chain(self.others.values());
        let files = files.filter_map(|look| match look.seen {
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

/// Whether what is not listed in `folder` is not there: an automounter has more.
#[cfg(target_os = "linux")]
fn lists_all(folder: &[u8]) -> bool {
    nix::sys::statfs::statfs(as_path(folder)).is_ok_and(|fs| is_own(&fs))
}

/// Whether what is not listed in `folder` is not there: an automounter can't be told here.
#[cfg(not(target_os = "linux"))]
fn lists_all(_folder: &[u8]) -> bool {
    false
}

/// A network file system can't be told here.
#[cfg(not(target_os = "linux"))]
fn owner(_path: &Path) -> Owner {
    Owner::Ours
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

/// All names in `folder`, in lower case; `None`: there may be more names, or other
/// spellings of these, than can be listed.
fn list_few(folder: &[u8]) -> Option<HashSet<Vec<u8>>> {
    let mut names = HashSet::default();
    if !lists_all(folder) {
        return None;
    }
    for entry in fs::read_dir(as_path(folder)).ok()? {
        let mut name = entry.ok()?.file_name().into_vec();
        if names.len() >= LISTED_MAX || !name.is_ascii() {
            return None;
        }
        name.make_ascii_lowercase();
        names.insert(name);
    }
    Some(names)
}

/// What is at a path, links not followed.
enum Itself {
    Link,
    Seen(Seen),
}

impl Itself {
    /// With what is at the end of a link; it is at `path`.
    fn followed(self, path: &[u8]) -> Look {
        let (seen, is_link) = match self {
            Itself::Link => (see(path), true),
            Itself::Seen(seen) => (seen, false),
        };
        Look {
            seen,
            is_link,
            noted: false,
        }
    }
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

/// A file that was read.
#[derive(Clone, PartialEq, Message)]
pub struct FileFact {
    /// As the compiler would spell it; relative to the working directory.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// Stands for the content; all zero if it can't.
    #[prost(message, required, tag = "2")]
    pub stat: Stat,
    /// XXH3-128 of the content, big-endian.
    #[prost(bytes = "bytes", tag = "3")]
    pub digest: Bytes,
}

/// Names that were looked for in a folder.
#[derive(Clone, PartialEq, Message)]
pub struct FolderFact {
    /// As the compiler would spell it.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// While it is the same, so are the names; all zero if that can't be said.
    #[prost(message, required, tag = "2")]
    pub stat: Stat,
    /// For each name: [`ABSENT`], [`FILE`], [`FOLDER`] or [`OTHER`], the name, NUL.
    #[prost(bytes = "bytes", tag = "3")]
    pub names: Bytes,
    /// No name with `.gch` after it may be there either.
    #[prost(bool, tag = "4")]
    pub precompiled: bool,
}

/// There is nothing by that name.
pub const ABSENT: u8 = b'-';
/// There is a regular file.
pub const FILE: u8 = b'f';
/// There is a folder.
pub const FOLDER: u8 = b'd';
/// There is something else, or something that can't be looked at.
pub const OTHER: u8 = b'o';

impl FolderFact {
    /// Each name with its state.
    pub fn names(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let names = self.names.split(|byte| *byte == 0);
        names.filter_map(|name| name.split_first().map(|(state, name)| (*state, name)))
    }

    /// Whether it is true now.
    pub fn holds(&self, looks: &mut Looks) -> bool {
        let seen = looks.at(&self.path);
        if self.stat != Stat::default() && seen == Seen::Folder(self.stat) {
            return true;
        }
        if !matches!(seen, Seen::Folder(_)) {
            return false;
        }
        // Where nothing was known to stand for the folder, nor does a list of it:
        // names of some file systems are found in other spellings too.
        let listed = cfg!(target_os = "linux") && self.stat != Stat::default();
        let there = match listed {
            true => looks.names(&self.path),
            false => None,
        };
        let Some(there) = there else {
            return self.holds_name_by_name(looks);
        };
        let is_there = |name: &[u8]| there.binary_search_by(|n| n[..].cmp(name)).is_ok();
        let precompiled = |name: &[u8]| is_there(&[name, b".gch"].concat());
        let any_precompiled = self.precompiled && there.iter().any(|name| name.ends_with(b".gch"));
        self.names().all(|(state, name)| {
            // A link that leads nowhere is there, and is not.
            let same = match is_there(name) {
                false => state == ABSENT,
                true => state_of(looks.at(&join(&self.path, name))) == state,
            };
            same && !(any_precompiled && precompiled(name))
        })
    }

    fn holds_name_by_name(&self, looks: &mut Looks) -> bool {
        self.names().all(|(state, name)| {
            let path = join(&self.path, name);
            let precompiled = [&path[..], b".gch"].concat();
            state_of(looks.at(&path)) == state
                && (!self.precompiled || looks.at(&precompiled) == Seen::Absent)
        })
    }

    /// A name that is a link may come to stand for something else while the
    /// folder stays as it is.
    pub fn has_links(&self) -> bool {
        self.names()
            .any(|(_, name)| as_path(&join(&self.path, name)).is_symlink())
    }
}

/// How a fact spells what was seen.
pub fn state_of(seen: Seen) -> u8 {
    match seen {
        Seen::Absent => ABSENT,
        Seen::File(_) => FILE,
        Seen::Folder(_) => FOLDER,
        Seen::Other => OTHER,
    }
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
    fn a_folder_that_is_listed_lacks_only_what_no_spelling_finds() {
        let folder = std::env::temp_dir().join(format!("hg-facts-l-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let at = |name: &str| [folder.as_os_str().as_bytes(), b"/", name.as_bytes()].concat();
        let there = |name: &str| fs::write(as_path(&at(name)), "x").unwrap();
        there("There.h");
        let mut looks = Looks::default();
        for miss in 0..MISSES_MIN {
            assert_eq!(looks.at(&at(&format!("{miss}.h"))), Seen::Absent);
        }
        for late in ["late.h", "THERE.h", "late~1.h", "l\u{e4}te.h"] {
            there(late);
        }
        let listed = lists_all(folder.as_os_str().as_bytes());
        assert_eq!(looks.at(&at("late.h")) == Seen::Absent, listed);
        for found in ["There.h", "THERE.h", "late~1.h", "l\u{e4}te.h"] {
            assert!(matches!(looks.at(&at(found)), Seen::File(_)), "{found}");
        }
        assert!(matches!(looks.at(&at(".")), Seen::Folder(_)));
        fs::remove_dir_all(folder).unwrap();
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
