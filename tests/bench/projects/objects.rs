//! The objects that a build left, by their contents.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hg_proto::wire::digest::Digest;

/// Every `.o` file below a folder, by its path there.
pub type Objects = BTreeMap<PathBuf, Digest>;

/// Looks at all objects below `root`. Links are not followed.
///
/// # Errors
/// Something can't be read.
pub fn find(root: &Path) -> io::Result<Objects> {
    let mut found = Objects::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|end| end == "o") {
                let name = path.strip_prefix(root).unwrap_or(&path).to_path_buf();
                found.insert(name, Digest::of(&fs::read(&path)?));
            }
        }
    }
    Ok(found)
}

/// The objects that only one of two builds has, or that differ.
pub fn differences(plain: &Objects, other: &Objects) -> Vec<PathBuf> {
    let changed = plain
        .iter()
        .filter(|(path, digest)| other.get(*path) != Some(digest));
    let added = other.iter().filter(|(path, _)| !plain.contains_key(*path));
    changed.chain(added).map(|(path, _)| path.clone()).collect()
}
