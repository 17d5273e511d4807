//! Small files that are replaced as a whole: a reader sees the old content or the new one,
//! and whatever fails leaves the old one. With I/O.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// How the name of every temporary file ends: one that a killed process left is known by it.
pub const TEMPORARY_SUFFIX: &str = ".tmp";

/// A name for a temporary file that no other process and no other thread takes.
pub fn temporary_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    // A process of the same number may have left one.
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_ns = now.map_or(0, |now| now.subsec_nanos());
    format!(
        "{}-{now_ns:x}-{count}{TEMPORARY_SUFFIX}",
        std::process::id()
    )
}

/// Puts `content` at `path`, in a new file of `mode` less the umask. It is not synced: a
/// power failure may leave it empty.
///
/// # Errors
/// As the file system says; the old file is still there.
pub fn replace(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    replace_with(path, mode, |file| file.write_all(content))
}

/// As [`replace`], but `fill` writes the content; what it syncs outlives a power failure.
///
/// # Errors
/// As the file system or `fill` says; the old file is still there.
pub fn replace_with(
    path: &Path,
    mode: u32,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = path.with_file_name(temporary_name());
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let written = options
        .open(&temporary)
        .and_then(|mut file| fill(&mut file));
    written
        .and_then(|()| fs::rename(&temporary, path))
        .inspect_err(|_| drop(fs::remove_file(&temporary)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_or_new_and_nothing_beside_it() {
        let folder = std::env::temp_dir().join(format!("hg-atomic-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("file");
        let names = || fs::read_dir(&folder).unwrap().count();
        replace(&path, 0o600, b"old").unwrap();
        let failed = replace_with(&path, 0o600, |file| {
            file.write_all(b"new")?;
            Err(io::Error::other("a full disk"))
        });
        assert!(failed.is_err());
        assert_eq!((fs::read(&path).unwrap(), names()), (b"old".to_vec(), 1));
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for _ in 0..500 {
                    replace(&path, 0o600, b"old").unwrap();
                    replace(&path, 0o600, b"new").unwrap();
                }
            });
            let other = scope.spawn(|| replace(&path, 0o600, b"old").unwrap());
            while !writer.is_finished() || !other.is_finished() {
                let read = fs::read(&path).unwrap();
                assert!(read == b"old" || read == b"new", "{read:?}");
            }
        });
        assert_eq!(names(), 1);
        let nowhere = folder.join("none/file");
        assert!(replace(&nowhere, 0o600, b"").is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}
