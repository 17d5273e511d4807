//! A folder of links named like the compilers of this machine, each to us, so
//! that a build that calls `gcc` calls `hgbuild gcc`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use hg_proto::digest::Digest;

use crate::compiler::{Search, name_of};

/// Compilers on one machine.
const LINKS_MAX: usize = 512;

/// Makes the folder, or brings it up to date, and gives its path.
///
/// # Errors
/// It can't be made.
pub fn prepare(home: &Path) -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let mark = &Digest::of(own.as_os_str().as_bytes()).to_hex()[..12];
    let folder = home.join("masquerade").join(mark);
    fs::create_dir_all(&folder)?;
    for name in compilers() {
        let link = folder.join(&name);
        if fs::read_link(&link).is_ok_and(|to| to == own) {
            continue;
        }
        let _ = fs::remove_file(&link);
        match symlink(&own, &link) {
            // Another hgbuild made it just now.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
    }
    Ok(folder)
}

/// Names of compilers in PATH.
fn compilers() -> BTreeSet<OsString> {
    let mut names = BTreeSet::new();
    for folder in Search::new().folders() {
        let Ok(entries) = fs::read_dir(folder) else {
            continue;
        };
        for name in entries.flatten().map(|entry| entry.file_name()) {
            if name_of(&name).is_some() && names.len() < LINKS_MAX {
                names.insert(name);
            }
        }
    }
    names
}
