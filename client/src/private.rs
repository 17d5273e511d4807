//! Folders and files that are this user's alone, whatever the umask, and whether what
//! is there already is: who can write there decides what we obey, and which objects
//! the cache answers with.

use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

pub use hg_proto::disk::team_folder::{file_mode, make_within, replace_within, write_within};
use hg_proto::secure::atomic_file;
use nix::unistd::{getegid, geteuid};

/// Of a file.
pub const FILE_MODE: u32 = 0o600;
/// What others than the owner may do.
const OTHERS: u32 = 0o077;
/// By which the group writes, and everybody else.
const GROUP_WRITES: u32 = 0o020;
const ALL_WRITE: u32 = 0o002;
/// What is made in such a folder belongs to the folder's group.
const SET_GROUP: u32 = 0o2000;

/// Makes `folder`, and those above it, for us alone.
///
/// # Errors
/// As the file system says.
pub fn make(folder: &Path) -> io::Result<()> {
    hg_proto::secure::private::make_folder(folder)
}

/// To make files for us alone.
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(FILE_MODE);
    options
}

/// Writes a file for us alone.
///
/// # Errors
/// As the file system says.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = options();
    options.write(true).create(true).truncate(true);
    options.open(path)?.write_all(bytes)
}

/// Replaces a file as a whole by one for us alone.
///
/// # Errors
/// As the file system says; the old one is still there.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    atomic_file::replace(path, FILE_MODE, bytes)
}

/// Whether `folder`, which has `meta`, is ours and nobody else can write to it. One that
/// others can only read is closed to them.
///
/// # Errors
/// It is not: in words, and how to mend it.
pub fn check(folder: &Path, meta: &Metadata) -> Result<(), String> {
    check_owner(folder, meta)?;
    if meta.mode() & (GROUP_WRITES | ALL_WRITE) != 0 {
        return Err(writable(folder, "others"));
    }
    if meta.mode() & OTHERS != 0 {
        // What they could see they saw.
        let closed = fs::Permissions::from_mode(meta.mode() & !OTHERS);
        let _ = fs::set_permissions(folder, closed);
    }
    Ok(())
}

/// The same of a folder that the user named: it may be a team's, whose members write
/// there by its group, and to be read it may be anybody's.
///
/// # Errors
/// It can't be trusted: in words, and how to mend it.
pub fn check_chosen(folder: &Path, meta: &Metadata, read_only: bool) -> Result<(), String> {
    if meta.mode() & ALL_WRITE != 0 {
        return Err(writable(folder, "all"));
    }
    let team = GROUP_WRITES | SET_GROUP;
    if meta.mode() & team == GROUP_WRITES {
        let path = folder.display();
        let words = writable(folder, "its group");
        return Err(format!("{words}, or, for a team's: chmod g+s {path}"));
    }
    // Anybody can make a folder of a group that we are not in.
    let of_team = meta.mode() & team == team && is_own_group(meta.gid());
    match of_team || meta.uid() == 0 || read_only {
        true => Ok(()),
        false => check_owner(folder, meta),
    }
}

/// Whether a link in place of a folder, which has `meta`, is ours or root's: whoever owns
/// it may lead it elsewhere after any look.
///
/// # Errors
/// It is another's: in words, and how to mend it.
pub fn check_link(link: &Path, meta: &Metadata) -> Result<(), String> {
    match meta.uid() {
        0 => Ok(()),
        _ => check_owner(link, meta),
    }
}

fn is_own_group(group: u32) -> bool {
    // Apple's answer is cut off and not to be relied on.
    #[cfg(not(target_vendor = "apple"))]
    if let Ok(groups) = nix::unistd::getgroups()
        && groups.iter().any(|own| own.as_raw() == group)
    {
        return true;
    }
    getegid().as_raw() == group
}

/// Whether root may use the home of somebody: only its own.
///
/// # Errors
/// It is another's, as with `sudo -E`: in words, and how to mend it.
pub fn check_home(home: &Path) -> Result<(), String> {
    match fs::metadata(home) {
        Ok(meta) if geteuid().is_root() => check_owner(home, &meta),
        _ => Ok(()),
    }
}

fn check_owner(folder: &Path, meta: &Metadata) -> Result<(), String> {
    let (owner, own) = (meta.uid(), geteuid().as_raw());
    let path = folder.display();
    match owner == own {
        true => Ok(()),
        false => Err(format!(
            "{path}: it is user {owner}'s, and this is user {own}: set HOME (sudo -H), or chown -R {own} {path}"
        )),
    }
}

fn writable(folder: &Path, who: &str) -> String {
    let path = folder.display();
    let whose = match who {
        "all" => "o-w",
        "its group" => "g-w",
        _ => "go-w",
    };
    format!("{path}: {who} can write to it: chmod -R {whose} {path}")
}
