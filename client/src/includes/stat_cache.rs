//! A cache of stats, contents and names for one compile: each path is read from the disk
//! once.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::rc::Rc;

use foldhash::{HashMap, HashSet};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, SFlag, fstatat};

use crate::includes::paths::{as_path, join, split};
use crate::includes::stat::{self, Content, Seen, Stat, classify, nanoseconds, read};
#[cfg(target_os = "linux")]
use hg_proto::disk::own_device::is_own;

/// Bytes of a folder's path from which on it pays to open the folder.
const FOLDER_BYTES_MIN: usize = 12;
/// Folders that are held open.
const FOLDERS_MAX: usize = 64;
/// Names that are looked for in vain in a folder, before all of it is listed.
const MISSES_MIN: usize = 6;
/// Names in a folder that is listed: a larger one costs more than it saves.
const LISTED_MAX: usize = 1024;
/// Bytes of a name that a folder may have.
const NAME_BYTES_MAX: usize = 255;
/// Names in a folder, sorted.
pub type Names = Rc<Vec<Vec<u8>>>;

/// A folder of a [`StatCache`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FolderId(usize);

/// What is at a name in a folder.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// With links followed.
    pub seen: Seen,
    /// The name is a symbolic link, wherever it leads.
    pub is_link: bool,
    /// A mark of the caller's, see [`StatCache::noted`].
    pub noted: bool,
}

/// A folder in which names are looked for.
#[derive(Debug, Default)]
struct Folder {
    path: Vec<u8>,
    /// What is at its path; `None`: not known yet.
    seen: Option<Seen>,
    /// The names that were looked for.
    looks: HashMap<Vec<u8>, Look>,
    /// The folder, held open: a name is found without walking the whole path again.
    opened: Option<OwnedFd>,
    /// How many names were looked for in vain.
    misses: usize,
    /// All names in it, in lower case; `None`: they are not known.
    names: Option<HashSet<Vec<u8>>>,
}

impl Folder {
    /// Whether the folder is known to have no `name`.
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

    /// Looks for `name` in the folder.
    fn look(&mut self, name: &[u8]) -> Look {
        // Many names are looked for in folders that don't exist.
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

/// A folder with the names of it that the caller marked.
#[derive(Debug)]
pub struct Noted<'l> {
    /// The folder.
    pub id: FolderId,
    /// Its path as it is spelled.
    pub path: &'l [u8],
    /// What is at its path.
    pub seen: Seen,
    /// The marked names, sorted, and what is at each.
    pub names: Vec<(&'l [u8], Seen)>,
}

/// Stats each path once, so that all answers are of one moment.
#[derive(Debug, Default)]
pub struct StatCache {
    folders: Vec<Folder>,
    /// The folders by their paths.
    ids: HashMap<Vec<u8>, FolderId>,
    /// Paths whose end is no name: `.`, `..` and `/`.
    others: HashMap<Vec<u8>, Look>,
    /// Folders that are held open.
    opened: usize,
    contents: HashMap<Vec<u8>, Option<Content>>,
    names: HashMap<Vec<u8>, Option<Names>>,
}

impl StatCache {
    /// What is at `path`, links followed.
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

    /// The folder `path`, whether it exists or not.
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

    /// The path of `folder` as it is spelled.
    pub fn path_of(&self, folder: FolderId) -> &[u8] {
        &self.folders[folder.0].path
    }

    /// What is at the path of `folder`.
    pub fn seen_of(&mut self, folder: FolderId) -> Seen {
        if let Some(seen) = self.folders[folder.0].seen {
            return seen;
        }
        let path = self.path_of(folder).to_vec();
        let seen = self.at(&path);
        self.folders[folder.0].seen = Some(seen);
        seen
    }

    /// What is at `name` in `folder`; `name` is neither empty nor `.` or `..`.
    pub fn look_in(&mut self, folder: FolderId, name: &[u8]) -> &mut Look {
        let folder = &mut self.folders[folder.0];
        if !folder.looks.contains_key(name) {
            let look = folder.look(name);
            return folder.looks.entry(name.to_vec()).or_insert(look);
        }
        folder.looks.get_mut(name).expect("it is there")
    }

    /// Folders in which the caller marked names, in order of their paths.
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

    /// The time of the youngest file that was looked at, nanoseconds since 1970.
    pub fn youngest_ns(&self) -> i64 {
        let looks = self.folders.iter().flat_map(|folder| folder.looks.values());
        let files = looks.chain(self.others.values());
        let files = files.filter_map(|look| match look.seen {
            Seen::File(stat) => Some(stat.youngest_ns()),
            _ => None,
        });
        files.max().unwrap_or(0)
    }

    /// The content of `path`, if [`StatCache::content`] has read it.
    pub fn read_before(&self, path: &[u8]) -> Option<Content> {
        self.contents.get(path).copied().flatten()
    }
}

/// Whether `folder` has no names beyond those that it lists, as an automounter's does.
#[cfg(target_os = "linux")]
fn lists_all(folder: &[u8]) -> bool {
    nix::sys::statfs::statfs(as_path(folder)).is_ok_and(|fs| is_own(&fs))
}

/// Whether `folder` has no names beyond those that it lists: an automounter can't be told
/// on this system.
#[cfg(not(target_os = "linux"))]
fn lists_all(_folder: &[u8]) -> bool {
    false
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

/// What is at a path itself.
enum Itself {
    Link,
    Seen(Seen),
}

impl Itself {
    /// With the link at `path` followed, if it is one.
    fn followed(self, path: &[u8]) -> Look {
        let (seen, is_link) = match self {
            Itself::Link => (stat::of(path), true),
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

/// A folder to look into; `None`: the whole path will do.
#[cfg(target_os = "linux")]
fn open_folder(path: &[u8]) -> Option<OwnedFd> {
    use nix::fcntl::{OFlag, open};
    use nix::sys::stat::Mode;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_folder_that_is_listed_lacks_only_what_no_spelling_finds() {
        let folder = std::env::temp_dir().join(format!("hg-facts-l-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let at = |name: &str| [folder.as_os_str().as_bytes(), b"/", name.as_bytes()].concat();
        let there = |name: &str| fs::write(as_path(&at(name)), "x").unwrap();
        there("There.h");
        let mut stats = StatCache::default();
        for miss in 0..MISSES_MIN {
            assert_eq!(stats.at(&at(&format!("{miss}.h"))), Seen::Absent);
        }
        for late in ["late.h", "THERE.h", "late~1.h", "l\u{e4}te.h"] {
            there(late);
        }
        let listed = lists_all(folder.as_os_str().as_bytes());
        assert_eq!(stats.at(&at("late.h")) == Seen::Absent, listed);
        for found in ["There.h", "THERE.h", "late~1.h", "l\u{e4}te.h"] {
            assert!(matches!(stats.at(&at(found)), Seen::File(_)), "{found}");
        }
        assert!(matches!(stats.at(&at(".")), Seen::Folder(_)));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_path_is_looked_at_once() {
        let path = std::env::temp_dir().join(format!("hg-facts-{}", std::process::id()));
        let path = path.as_os_str().as_bytes();
        let mut stats = StatCache::default();
        assert_eq!(stats.at(path), Seen::Absent);
        fs::write(as_path(path), "x").unwrap();
        assert_eq!(stats.at(path), Seen::Absent);
        assert!(matches!(stat::of(path), Seen::File(stat) if stat.size == 1));
        let content = stats.content(path).unwrap();
        fs::write(as_path(path), "y").unwrap();
        assert_eq!(stats.content(path), Some(content));
        fs::remove_file(as_path(path)).unwrap();
        assert_eq!(stats.at(b"/dev/null"), Seen::Other);
    }
}
