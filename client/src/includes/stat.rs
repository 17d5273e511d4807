//! Stats and contents of files, and the clock by which files are stamped.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use nix::time::{ClockId, clock_gettime};
use xxhash_rust::xxh3::xxh3_128;

use crate::includes::paths::as_path;

/// Bytes of one input.
const INPUT_BYTES_MAX: u64 = 256 << 20;
/// Nanoseconds within which a second write may leave a stat as it was, on a
/// file system that counts them.
const RACY_NS: i64 = 20_000_000;
/// Nanoseconds within which a second write may leave a stat as it was, on a file system
/// that counts whole seconds.
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
pub(super) fn nanoseconds(seconds: impl Into<i64>, nanoseconds: impl Into<i64>) -> i64 {
    seconds
        .into()
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds.into())
}

/// The stat of a file or folder: while it is the same, so are content or names.
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
    /// The stat of a file, or of a link itself.
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

    /// The last write, or change of the inode: nanoseconds since 1970.
    pub fn youngest_ns(&self) -> i64 {
        self.mtime_ns.cast_signed().max(self.ctime_ns.cast_signed())
    }

    /// Whether every later write changes the stat, which was taken at `now_ns`.
    fn is_settled(&self, now_ns: i64) -> bool {
        let racy = match self.is_coarse() {
            true => RACY_COARSE_NS,
            false => RACY_NS,
        };
        self.youngest_ns().saturating_add(racy) < now_ns
    }

    /// Whether its file system may count whole seconds.
    pub fn is_coarse(&self) -> bool {
        let whole = |ns: u64| ns.is_multiple_of(1_000_000_000);
        whole(self.mtime_ns) && whole(self.ctime_ns)
    }

    /// Whether the file may have been written at `began_ns` or later; `skew_ns` is how far
    /// behind the clock of its file system may be. The time of the last write can be set by
    /// anyone, and counts only where another machine sets the inode's.
    pub fn is_newer(&self, began_ns: i64, skew_ns: i64) -> bool {
        let touched_ns = match skew_ns {
            0 => self.ctime_ns.cast_signed(),
            _ => self.youngest_ns(),
        };
        let coarse_ns = if self.is_coarse() { RACY_COARSE_NS } else { 0 };
        touched_ns.saturating_add(skew_ns).saturating_add(coarse_ns) >= began_ns
    }

    /// This stat if every later write changes it; else one that no file has.
    pub fn if_settled(self, now_ns: i64) -> Stat {
        match self.is_settled(now_ns) {
            true => self,
            false => Stat::default(),
        }
    }
}

/// What is at a path, links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Nothing.
    Absent,
    /// A regular file.
    File(Stat),
    /// A folder.
    Folder(Stat),
    /// A device or the like, or it can't be looked at.
    Other,
}

/// Content of a file, and its stat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// XXH3-128.
    pub digest: u128,
    /// Taken after reading.
    pub stat: Stat,
}

/// What is at `path` now, links followed.
pub fn of(path: &[u8]) -> Seen {
    classify(fs::metadata(as_path(path)))
}

/// What is at `path` now; a symbolic link is [`Seen::Other`].
pub fn of_link(path: &[u8]) -> Seen {
    classify(fs::symlink_metadata(as_path(path)))
}

pub(super) fn classify(meta: io::Result<Metadata>) -> Seen {
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

/// A file's text, with its digest and stat.
///
/// # Errors
/// The file can't be read, changes meanwhile, is no regular file, or is over 256 MiB.
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

/// Whether a name in `folder` may be that of a precompiled header.
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
}
