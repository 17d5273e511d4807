//! A folder as a compiler leaves it: every file's content, mode and links, and
//! how two of them differ.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::command::Outcome;

/// Something in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A regular file.
    File {
        /// Its content.
        bytes: Vec<u8>,
        /// Permission bits.
        mode: u32,
    },
    /// A symbolic link and what it says.
    Link(PathBuf),
    /// A folder and its permission bits.
    Folder(u32),
    /// A FIFO, a socket, a device.
    Other,
}

/// All that is below a folder, by relative path.
pub type Snapshot = BTreeMap<PathBuf, Entry>;

/// Looks at everything below `root`, which is not followed through links.
///
/// # Errors
/// Something can't be read.
pub fn snapshot(root: &Path) -> io::Result<Snapshot> {
    let mut found = Snapshot::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let metadata = path.symlink_metadata()?;
            let mode = metadata.permissions().mode() & 0o7777;
            let kind = metadata.file_type();
            let seen = if kind.is_symlink() {
                Entry::Link(fs::read_link(&path)?)
            } else if kind.is_dir() {
                open.push(path.clone());
                Entry::Folder(mode)
            } else if kind.is_file() {
                Entry::File {
                    bytes: fs::read(&path)?,
                    mode,
                }
            } else {
                Entry::Other
            };
            let relative = path.strip_prefix(root).unwrap_or(&path).to_path_buf();
            found.insert(relative, seen);
        }
    }
    Ok(found)
}

/// Copies everything below `from` into `to`, which is made. Links are copied as links.
///
/// # Errors
/// Something can't be read or written.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        let kind = path.symlink_metadata()?.file_type();
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&path)?, &target)?;
        } else if kind.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// How `wrapped` differs from `plain`, a line each; empty: not at all.
pub fn differences(plain: &Snapshot, wrapped: &Snapshot) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, entry) in plain {
        match (entry, wrapped.get(path)) {
            (_, None) => lines.push(format!("{}: missing", path.display())),
            (entry, Some(other)) if entry == other => {}
            (
                Entry::File { bytes, mode },
                Some(Entry::File {
                    bytes: other,
                    mode: other_mode,
                }),
            ) => {
                if mode != other_mode {
                    lines.push(format!(
                        "{}: mode {mode:o}, then {other_mode:o}",
                        path.display()
                    ));
                }
                if bytes != other {
                    let at = bytes.iter().zip(other).take_while(|(a, b)| a == b).count();
                    lines.push(format!(
                        "{}: {} bytes, then {}; they part at {at}",
                        path.display(),
                        bytes.len(),
                        other.len()
                    ));
                }
            }
            _ => lines.push(format!("{}: another kind of entry", path.display())),
        }
    }
    for path in wrapped.keys().filter(|path| !plain.contains_key(*path)) {
        lines.push(format!("{}: only there afterwards", path.display()));
    }
    lines
}

/// How a wrapped run differs from a plain one: exit code, signal, stdout, stderr
/// and every file; empty: not at all.
pub fn compare(plain: (&Outcome, &Snapshot), wrapped: (&Outcome, &Snapshot)) -> Vec<String> {
    let mut lines = differences(plain.1, wrapped.1);
    let (plain, wrapped) = (plain.0, wrapped.0);
    if (plain.code, plain.signal) != (wrapped.code, wrapped.signal) {
        lines.push(format!(
            "exit {:?} signal {:?}, then exit {:?} signal {:?}",
            plain.code, plain.signal, wrapped.code, wrapped.signal
        ));
    }
    for (name, one, other) in [
        ("stdout", &plain.stdout, &wrapped.stdout),
        ("stderr", &plain.stderr, &wrapped.stderr),
    ] {
        if one != other {
            lines.push(format!(
                "{name} was\n{}\nthen\n{}",
                String::from_utf8_lossy(one),
                String::from_utf8_lossy(other)
            ));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_difference_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
        fs::create_dir_all(one.join("sub")).unwrap();
        for name in ["same", "bytes", "mode", "gone", "sub/deep"] {
            fs::write(one.join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("same", one.join("link")).unwrap();
        copy(&one, &other).unwrap();
        let before = snapshot(&one).unwrap();
        assert_eq!(
            differences(&before, &snapshot(&other).unwrap()),
            Vec::<String>::new()
        );

        fs::write(other.join("bytes"), "bytex").unwrap();
        fs::set_permissions(other.join("mode"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::remove_file(other.join("gone")).unwrap();
        fs::write(other.join("new"), "").unwrap();
        fs::remove_file(other.join("link")).unwrap();
        fs::write(other.join("link"), "same").unwrap();
        let seen = differences(&before, &snapshot(&other).unwrap()).join("\n");
        for words in [
            "bytes: 5 bytes, then 5; they part at 4",
            "mode: mode 644, then 755",
            "gone: missing",
            "new: only there afterwards",
            "link: another kind of entry",
        ] {
            assert!(seen.contains(words), "{words:?} is not in\n{seen}");
        }
        assert_eq!(seen.lines().count(), 5, "{seen}");
    }

    #[test]
    fn exit_codes_and_words_are_compared() {
        let plain = Outcome {
            code: Some(0),
            signal: None,
            stdout: b"a".to_vec(),
            stderr: b"b".to_vec(),
        };
        let none = Snapshot::new();
        let against = |other: &Outcome| compare((&plain, &none), (other, &none)).len();
        assert_eq!(against(&plain), 0);
        let mut other = plain.clone();
        other.code = Some(1);
        assert_eq!(against(&other), 1);
        other.stderr.clear();
        assert_eq!(against(&other), 2);
        other.stdout.clear();
        assert_eq!(against(&other), 3);
    }
}
