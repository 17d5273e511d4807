//! Removes a folder with all that a hostile compile may have left in it. Unaware of what
//! folders are for.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Times that a folder is gone through when dying processes still write into it.
const REMOVE_ATTEMPTS_MAX: u32 = 16;

/// Removes `folder` and all in it, however deep and whatever its modes; it may be missing.
/// What a hostile compile can leave must cost neither stack nor descriptors, nor need a path
/// that is too long.
///
/// # Errors
/// The file system says no.
pub fn remove_tree(folder: &Path) -> io::Result<()> {
    for _ in 1..REMOVE_ATTEMPTS_MAX {
        match remove_once(folder) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => return other,
        }
    }
    remove_once(folder)
}

/// One pass of [`remove_tree`]: the folders in each folder are moved up beside it, so that
/// none lies deeper than one.
fn remove_once(folder: &Path) -> io::Result<()> {
    let mut moved = 0u64;
    loop {
        let mut is_empty = true;
        for entry in readable(folder)? {
            is_empty = false;
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                fs::remove_file(entry.path())?;
                continue;
            }
            for inner in readable(&entry.path())? {
                let inner = inner?;
                if inner.file_type()?.is_dir() {
                    // To be moved, a folder must be writable itself: its ".." changes.
                    readable(&inner.path())?;
                    fs::rename(inner.path(), free_name(folder, &mut moved))?;
                } else {
                    fs::remove_file(inner.path())?;
                }
            }
            fs::remove_dir(entry.path())?;
        }
        if is_empty {
            return fs::remove_dir(folder);
        }
    }
}

/// Lists a folder of this user, whose mode may forbid it.
fn readable(folder: &Path) -> io::Result<fs::ReadDir> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        other => {
            let found = other?;
            if fs::symlink_metadata(folder)?.permissions().mode() & 0o700 == 0o700 {
                return Ok(found);
            }
        }
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    fs::read_dir(folder)
}

/// A path in `folder` that no file has; `moved` counts those that were given.
fn free_name(folder: &Path, moved: &mut u64) -> PathBuf {
    loop {
        *moved += 1;
        let name = folder.join(format!(".removed-{moved}"));
        if fs::symlink_metadata(&name).is_err() {
            return name;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_folder_without_modes_is_removed() {
        // Deeper than a path may be long, and than descriptors go.
        const DEPTH: usize = 25_000;
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().join("top");
        fs::create_dir(&top).unwrap();
        // Built from the inside out, since paths have an end.
        let (inner, outer) = (folder.path().join("inner"), folder.path().join("outer"));
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("file"), "").unwrap();
        for _ in 0..DEPTH {
            fs::create_dir(&outer).unwrap();
            fs::rename(&inner, outer.join("folder")).unwrap();
            fs::rename(&outer, &inner).unwrap();
        }
        fs::rename(&inner, top.join("deep")).unwrap();
        let closed = top.join("closed");
        fs::create_dir_all(closed.join("closed")).unwrap();
        fs::write(closed.join("closed/file"), "").unwrap();
        std::os::unix::fs::symlink("/etc", closed.join("link")).unwrap();
        for path in [closed.join("closed"), closed] {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        }
        remove_tree(&top).unwrap();
        assert!(!top.exists() && Path::new("/etc").exists());
        remove_tree(&top).unwrap();
    }
}
