//! Folders and files of one user alone: made so whatever the umask, and refused, in
//! words that say how to mend it, where another user could have written. With I/O.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use nix::unistd::geteuid;

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
    match DirBuilder::new().mode(0o700).create(folder) {
        // A umask may have taken bits of ours away.
        Ok(()) => fs::set_permissions(folder, Permissions::from_mode(0o700)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = folder
                .parent()
                .filter(|above| !above.as_os_str().is_empty());
            make_folder(above.ok_or(error)?)?;
            make_folder(folder)
        }
        Err(_) if folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// [`make_folder`], and then [`check_folder`].
///
/// # Errors
/// In words, as both say.
pub fn open_folder(folder: &Path) -> Result<(), String> {
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
