//! Folders and files for whom the folder is that they are made in: one user, or a team by
//! its group, whatever the umask.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::secure::{atomic_file, private};

/// Of a folder for us alone.
const FOLDER_MODE: u32 = 0o700;
/// Of a file for us alone.
const FILE_MODE: u32 = 0o600;
/// What others than the owner may do.
const OTHERS: u32 = 0o077;

/// Makes `folder` in one that may be a team's: it is for whom that is.
///
/// # Errors
/// As the file system says.
pub fn make_within(folder: &Path) -> io::Result<()> {
    let above = folder.parent().unwrap_or(Path::new("/"));
    private::make_folder(above)?;
    let mut builder = DirBuilder::new();
    let mode = FOLDER_MODE | others(above);
    builder.recursive(true).mode(mode).create(folder)
}

/// The mode of a file in `folder`: it is for whom that is.
pub fn file_mode(folder: &Path) -> u32 {
    FILE_MODE | others(folder) & 0o066
}

/// Writes a file for whom its folder is.
///
/// # Errors
/// As the file system says.
pub fn write_within(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    options.mode(file_mode(folder)).open(path)?.write_all(bytes)
}

/// Replaces a file as a whole by one for whom its folder is.
///
/// # Errors
/// As the file system says; the old one is still there.
pub fn replace_within(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    atomic_file::replace(path, file_mode(folder), bytes)
}

fn others(folder: &Path) -> u32 {
    fs::metadata(folder).map_or(0, |meta| meta.mode() & OTHERS)
}
