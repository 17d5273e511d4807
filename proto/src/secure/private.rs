//! Folders and files of one user alone: made so whatever the umask, and refused, in
//! words that say how to mend it, where another user could have written. With I/O.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

/// The file in a folder that is locked by whom the folder is for.
const LOCK_NAME: &str = "lock";
/// Bytes of a process's number in it.
const LOCK_BYTES_MAX: u64 = 16;

/// Mode bits by which group and others write.
const WRITE: u32 = 0o022;
/// Mode bits of group and others.
const ANY: u32 = 0o077;

/// Makes `folder`, and those above it that are missing, with mode 0700; one that is
/// there is left as it is.
///
/// # Errors
/// As the file system says.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    let Err(error) = make_one_folder(folder) else {
        return Ok(());
    };
    let above = folder.parent();
    match above.filter(|above| !above.as_os_str().is_empty()) {
        // In some nobody makes anything, as in /proc, and it is said so as well.
        Some(above) if error.kind() == io::ErrorKind::NotFound && !above.is_dir() => {
            make_folder(above)?;
            make_one_folder(folder)
        }
        _ => Err(error),
    }
}

fn make_one_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        // A umask may have taken bits of ours away.
        Ok(()) => fs::set_permissions(folder, Permissions::from_mode(0o700)),
        Err(_) if folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// [`make_folder`], and then [`check_folder`]. Root makes none in what is another
/// user's, who could put another in its place: HOME may be left over from `sudo`.
///
/// # Errors
/// In words, as both say.
pub fn open_folder(folder: &Path) -> Result<(), String> {
    let mut above = folder.ancestors().skip(1);
    let nearest = above.find_map(|path| Some((path, fs::metadata(path).ok()?)));
    if let Some((path, found)) = nearest
        && geteuid().is_root()
        && !folder.exists()
    {
        check_owner(path, &found)?;
    }
    make_folder(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    check_folder(folder)
}

/// Whether nobody but this user (and root) can write in `folder`.
///
/// # Errors
/// In words: it is somebody else's, or others may write there.
pub fn check_folder(folder: &Path) -> Result<(), String> {
    let found = fs::metadata(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    check_owner(folder, &found)?;
    if found.mode() & WRITE == 0 {
        return Ok(());
    }
    let (path, mode) = (folder.display(), found.mode() & 0o7777);
    Err(format!(
        "{path}: others may write there (mode {mode:o}), and may have: look at what is in it, \
         then chmod 700 {path}"
    ))
}

/// Whether nobody but this user (and root) has anything to do with the file at `path`,
/// of which `found` was read.
///
/// # Errors
/// In words: it is somebody else's, or others may read or write it.
pub fn check_file(path: &Path, found: &Metadata) -> Result<(), String> {
    check_owner(path, found)?;
    if found.mode() & ANY == 0 {
        return Ok(());
    }
    let (path, mode) = (path.display(), found.mode() & 0o7777);
    let verb = match found.mode() & WRITE {
        0 => "read",
        _ => "write",
    };
    Err(format!(
        "{path}: others may {verb} it (mode {mode:o}), and may have: chmod 600 {path}, and make \
         its secrets anew"
    ))
}

/// Opens what is a plain file at `path` itself: it follows no link, and waits for nobody at
/// the other end of a pipe.
///
/// # Errors
/// As the file system says, or it is something else.
pub fn open_plain(options: &OpenOptions, path: &Path) -> io::Result<File> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW;
    let file = options.clone().custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Which process has a folder's lock.
#[derive(Debug)]
pub enum Lock {
    /// This process's, until it is dropped.
    Ours(Flock<File>),
    /// Another process's; its number, if that is known.
    Taken(Option<u32>),
}

/// Takes a folder for this process alone, if no other has taken it.
///
/// # Errors
/// As the file system says.
pub fn lock_folder(folder: &Path) -> io::Result<Lock> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(folder.join(LOCK_NAME))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            lock.set_len(0)?;
            // For whoever comes second; nothing depends on it.
            let _ = lock.write_all(std::process::id().to_string().as_bytes());
            Ok(Lock::Ours(lock))
        }
        Err((file, Errno::EWOULDBLOCK)) => {
            let mut number = String::new();
            let read = file.take(LOCK_BYTES_MAX).read_to_string(&mut number);
            Ok(Lock::Taken(read.ok().and_then(|_| number.parse().ok())))
        }
        Err((_, errno)) => Err(errno.into()),
    }
}

/// Whether this user or root owns `path`, of which `found` was read.
///
/// # Errors
/// In words: somebody else does.
pub fn check_owner(path: &Path, found: &Metadata) -> Result<(), String> {
    let (owner, own) = (found.uid(), geteuid().as_raw());
    if owner == own || owner == 0 {
        return Ok(());
    }
    let path = path.display();
    Err(format!(
        "{path}: it belongs to user {owner}, and this is user {own}: run as that user, name \
         another place, or, if all in it is right, chown -R {own} {path}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_taken_once() {
        let folder = std::env::temp_dir().join(format!("hg-lock-{}", std::process::id()));
        make_folder(&folder).unwrap();
        for _ in 0..2 {
            // A longer number of an earlier process.
            fs::write(folder.join(LOCK_NAME), "123456789012").unwrap();
            let first = lock_folder(&folder).unwrap();
            assert!(matches!(first, Lock::Ours(_)));
            let Lock::Taken(process) = lock_folder(&folder).unwrap() else {
                panic!("twice");
            };
            assert_eq!(process, Some(std::process::id()));
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_others_could_write_is_refused() {
        let top = std::env::temp_dir().join(format!("hg-private-{}", std::process::id()));
        let folder = top.join("a/b");
        open_folder(&folder).unwrap();
        open_folder(&folder).unwrap();
        for made in [&top, &top.join("a"), &folder] {
            assert_eq!(fs::metadata(made).unwrap().mode() & 0o7777, 0o700);
        }
        let set = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        for (mode, is_good) in [(0o755, true), (0o775, false), (0o1777, false)] {
            set(&folder, mode);
            assert_eq!(open_folder(&folder).is_ok(), is_good, "{mode:o}");
        }
        let file = folder.join("file");
        fs::write(&file, "").unwrap();
        for (mode, is_good) in [(0o600, true), (0o400, true), (0o640, false), (0o602, false)] {
            set(&file, mode);
            let checked = check_file(&file, &fs::metadata(&file).unwrap());
            assert_eq!(checked.is_ok(), is_good, "{mode:o}");
        }
        assert!(open_folder(&file.join("below")).is_err());
        fs::remove_dir_all(top).unwrap();
    }
}
