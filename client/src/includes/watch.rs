//! Watches for folders that are moved while a compile runs. A folder that took the name of
//! another, and was written into since, has the same times as one that was only written
//! into; and every build writes objects into folders.

use std::cell::Cell;
use std::collections::{BTreeSet, HashSet};
use std::fs;

use crate::includes::paths::{ancestors, as_path};
use crate::includes::stat::{self, Seen, Stat};
use crate::os;

/// Folders that are watched.
const FOLDERS_MAX: usize = 128;

/// Folders that are watched from before a compile until after it.
#[derive(Debug, Default)]
pub struct Watch {
    /// Device and inode.
    folders: HashSet<(u64, u64)>,
    system: system::Events,
    moved: Cell<bool>,
}

impl Watch {
    /// Watches the folders of `paths` and the working directory, and those above
    /// them as they are spelled and as links lead, as far as the system lets us.
    pub fn new<'p>(paths: impl Iterator<Item = &'p [u8]>) -> Watch {
        let mut all = BTreeSet::new();
        for path in paths.chain([&b"."[..]]) {
            all.extend(ancestors(path).map(<[u8]>::to_vec));
            if let Ok(real) = fs::canonicalize(as_path(path)) {
                all.extend(ancestors(os::bytes(real.as_os_str())).map(<[u8]>::to_vec));
            }
        }
        let mut watch = Watch::default();
        for path in all {
            watch.add(&path);
        }
        watch
    }

    fn add(&mut self, path: &[u8]) {
        let Seen::Folder(stat) = stat::of(path) else {
            return;
        };
        let known = self.folders.contains(&device_and_inode(stat));
        if known || self.folders.len() >= FOLDERS_MAX || !self.system.add(path) {
            return;
        }
        // Another one may have taken its name in between.
        if let Seen::Folder(again) = stat::of(path)
            && device_and_inode(again) == device_and_inode(stat)
        {
            self.folders.insert(device_and_inode(stat));
        }
    }

    /// Whether no watched folder was moved or removed so far.
    pub fn is_quiet(&self) -> bool {
        let moved = self.moved.get() || !self.system.is_quiet();
        self.moved.set(moved);
        !moved
    }

    /// Whether the folder that has `stat` is watched.
    pub fn has(&self, stat: Stat) -> bool {
        self.folders.contains(&device_and_inode(stat))
    }
}

fn device_and_inode(stat: Stat) -> (u64, u64) {
    (stat.device, stat.inode)
}

#[cfg(target_os = "linux")]
mod system {
    use nix::errno::Errno;
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

    use crate::includes::paths::as_path;

    /// Made with the first folder; a user may have a hundred or so.
    #[derive(Debug, Default)]
    pub struct Events(Option<Inotify>);

    impl Events {
        /// Whether the folder is watched from now on.
        pub fn add(&mut self, path: &[u8]) -> bool {
            let flags = InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC;
            if self.0.is_none() {
                self.0 = Inotify::init(flags).ok();
            }
            let moved = AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_DELETE_SELF;
            let only_folders = AddWatchFlags::IN_ONLYDIR;
            self.0
                .as_ref()
                .is_some_and(|watch| watch.add_watch(as_path(path), moved | only_folders).is_ok())
        }

        /// Whether nothing happened since the last time.
        pub fn is_quiet(&self) -> bool {
            let events = self.0.as_ref().map(Inotify::read_events);
            events.is_none_or(|events| matches!(events, Err(Errno::EAGAIN)))
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    /// Watches nothing: what could have been moved counts as moved.
    #[derive(Debug, Default)]
    pub struct Events;

    impl Events {
        /// No folder is watched.
        pub fn add(&mut self, _path: &[u8]) -> bool {
            false
        }

        /// Nothing is seen.
        pub fn is_quiet(&self) -> bool {
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_moves_is_seen() {
        let root = std::env::temp_dir().join(format!("hg-watch-{}", std::process::id()));
        let inner = root.join("a/b");
        fs::create_dir_all(&inner).unwrap();
        let path = os::bytes(inner.as_os_str());
        let watched = |path: &[u8], watch: &Watch| match stat::of(path) {
            Seen::Folder(stat) => watch.has(stat),
            _ => false,
        };
        let watch = Watch::new([path].into_iter());
        for folder in ancestors(path).chain([&b"."[..]]) {
            assert!(watched(folder, &watch), "{folder:?}");
        }
        fs::write(inner.join("f"), "").unwrap();
        assert!(watch.is_quiet());
        fs::rename(root.join("a"), root.join("c")).unwrap();
        fs::rename(root.join("c"), root.join("a")).unwrap();
        assert!(!watch.is_quiet());
        assert!(!watch.is_quiet(), "it does not forget");
        let watch = Watch::new([path].into_iter());
        fs::remove_dir_all(&inner).unwrap();
        assert!(!watch.is_quiet());
        let _ = fs::remove_dir_all(&root);
    }
}
