//! Puts outputs where the compiler would have put them: whole or not at all,
//! with the modes and links that it would have left.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hg_proto::disk::{own_device, unnamed_file};
use hg_proto::options::args::Reason;
use nix::unistd::{AccessFlags, access, geteuid};

use crate::local::signals::with_signals_held;

/// Of a file that a compiler makes, less the umask.
const NEW_MODE: u32 = 0o666;

/// How the program that makes a file treats one that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A new file takes its place (objects by as, all outputs of clang).
    Replace,
    /// Its content is rewritten: mode and links stay (assembly by cc1,
    /// dependency files).
    Rewrite,
}

/// A file in the making. It has no name until [`put_all`], so that nothing is
/// left of it however this process ends.
#[derive(Debug)]
pub struct Pending {
    target: PathBuf,
    file: File,
    mode: Option<u32>,
}

/// Whether we would leave `target` as the compiler does; device and inode of
/// what is there.
///
/// # Errors
/// Why the compiler had better write it.
pub fn check(
    target: &Path,
    style: Style,
    family_replaces_empty: bool,
) -> Result<Option<(u64, u64)>, Reason> {
    let local = |detail: &str| {
        Err(Reason {
            code: "output",
            detail: format!("{}: {detail}", target.display()),
        })
    };
    let Ok(link) = fs::symlink_metadata(target) else {
        return Ok(None);
    };
    let meta = match link.is_symlink() {
        false => Ok(link.clone()),
        true => fs::metadata(target),
    };
    let Ok(meta) = meta else {
        return local("a link to nothing");
    };
    if !meta.is_file() {
        return local("not a regular file");
    }
    if access(target, AccessFlags::W_OK).is_err() {
        return local("may not be written");
    }
    match style {
        // GNU as writes into an empty file instead of replacing it.
        Style::Replace if meta.size() == 0 && !family_replaces_empty => local("an empty file"),
        Style::Replace => Ok(Some((meta.dev(), meta.ino()))),
        Style::Rewrite if link.is_symlink() => local("a link"),
        Style::Rewrite if meta.nlink() > 1 => local("has other names"),
        Style::Rewrite if meta.uid() != geteuid().as_raw() => local("is somebody else's"),
        Style::Rewrite => Ok(Some((meta.dev(), meta.ino()))),
    }
}

/// Whether a file that is there has the mode of one that is made anew, so that it does not
/// matter whether the compiler rewrites or replaces it. One that is not there has.
#[allow(clippy::unnecessary_cast)] // 16 bits on macOS.
pub fn has_stock_mode(target: &Path) -> bool {
    let own = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    nix::sys::stat::umask(own);
    let Ok(meta) = fs::metadata(target) else {
        return true;
    };
    meta.permissions().mode() & 0o7777 == NEW_MODE & !(own.bits() as u32)
}

impl Pending {
    /// Room for `target`, in its folder.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn new(target: &Path, style: Style) -> io::Result<Self> {
        let folder = folder_of(target);
        let mode = match style {
            Style::Replace => None,
            Style::Rewrite => fs::metadata(target)
                .ok()
                .map(|meta| meta.permissions().mode() & 0o7777),
        };
        Ok(Pending {
            target: target.to_path_buf(),
            file: unnamed_file::create(folder, NEW_MODE).or_else(|_| with_name_removed(folder))?,
            mode,
        })
    }

    /// A file for `target` with all of its `content`.
    ///
    /// # Errors
    /// The folder can't be written, or the disk is full.
    pub fn with(target: &Path, style: Style, content: &[u8]) -> io::Result<Self> {
        let mut pending = Pending::new(target, style)?;
        pending.file.write_all(content)?;
        Ok(pending)
    }

    /// Gives the file another `content`.
    ///
    /// # Errors
    /// The disk is full.
    pub fn rewrite(&mut self, content: &[u8]) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(content)
    }

    /// Where it will be.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The file to write to.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Puts the file under the target's name.
    ///
    /// # Errors
    /// The file can't be named; the target is as it was.
    fn put(mut self) -> io::Result<()> {
        if let Some(mode) = self.mode {
            self.file
                .set_permissions(fs::Permissions::from_mode(mode))?;
        }
        own_device::arrived(&self.file)?;
        // Renaming over a file makes some file systems write it to the disk at
        // once: five times the cost of all the rest.
        let free = match fs::remove_file(&self.target) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if free && unnamed_file::name(&self.file, &self.target).is_ok() {
            return Ok(());
        }
        let path = folder_of(&self.target).join(temporary_name());
        let named = unnamed_file::name(&self.file, &path).or_else(|_| self.copy_to(&path));
        let put = named.and_then(|()| fs::rename(&path, &self.target));
        if put.is_err() {
            let _ = fs::remove_file(&path);
        }
        put
    }

    /// For file systems where a file without a name can't be given one.
    fn copy_to(&mut self, path: &Path) -> io::Result<()> {
        let mut copy = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(NEW_MODE)
            .open(path)?;
        self.file.seek(SeekFrom::Start(0))?;
        io::copy(&mut self.file, &mut copy)?;
        if let Some(mode) = self.mode {
            copy.set_permissions(fs::Permissions::from_mode(mode))?;
        }
        own_device::arrived(&copy)
    }
}

/// Puts all files in place, in order, with nothing in between that would end us.
///
/// # Errors
/// The first that failed; those after it are not put.
pub fn put_all(files: Vec<Pending>) -> io::Result<()> {
    with_signals_held(|| files.into_iter().try_for_each(Pending::put))
}

fn folder_of(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn with_name_removed(folder: &Path) -> io::Result<File> {
    let path = folder.join(temporary_name());
    with_signals_held(|| {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            // NFS can still give it a name.
            .mode(NEW_MODE)
            .open(&path)?;
        fs::remove_file(&path)?;
        Ok(file)
    })
}

fn temporary_name() -> OsString {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(".hgbuild-{}-{next}", std::process::id()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("hg-output-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn write(target: &Path, style: Style, content: &[u8]) {
        put_all(vec![Pending::with(target, style, content).unwrap()]).unwrap();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn files_have_the_same_mode_however_they_are_made() {
        let folder = folder("modes");
        let mode = |file: File| file.metadata().unwrap().permissions().mode();
        assert_eq!(
            mode(with_name_removed(&folder).unwrap()),
            mode(unnamed_file::create(&folder, NEW_MODE).unwrap())
        );
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn nothing_is_seen_before_and_all_after() {
        let folder = folder("whole");
        let target = folder.join("a.o");
        let mut pending = Pending::new(&target, Style::Replace).unwrap();
        pending.file().write_all(b"half").unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        drop(pending);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        write(&target, Style::Replace, b"whole");
        write(&target, Style::Replace, b"again");
        assert_eq!(fs::read(&target).unwrap(), b"again");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn replacing_leaves_other_names_alone_and_rewriting_keeps_the_mode() {
        let folder = folder("links");
        let (a, b) = (folder.join("a.o"), folder.join("b.o"));
        fs::write(&a, "old").unwrap();
        fs::hard_link(&a, &b).unwrap();
        write(&a, Style::Replace, b"new");
        assert_eq!(fs::read(&b).unwrap(), b"old");
        let dep = folder.join("a.d");
        fs::write(&dep, "old").unwrap();
        fs::set_permissions(&dep, fs::Permissions::from_mode(0o640)).unwrap();
        write(&dep, Style::Rewrite, b"new");
        assert_eq!(fs::metadata(&dep).unwrap().mode() & 0o777, 0o640);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_the_compiler_had_better_write() {
        let folder = folder("check");
        let none = folder.join("none");
        assert!(check(&none, Style::Replace, false).is_ok());
        let dangling = folder.join("dangling");
        symlink(&none, &dangling).unwrap();
        assert!(check(&dangling, Style::Replace, false).is_err());
        assert!(check(Path::new("/dev/null"), Style::Replace, false).is_err());
        let empty = folder.join("empty");
        fs::write(&empty, "").unwrap();
        assert!(check(&empty, Style::Replace, false).is_err());
        assert!(check(&empty, Style::Replace, true).is_ok());
        let linked = folder.join("linked");
        fs::hard_link(&empty, &linked).unwrap();
        assert!(check(&linked, Style::Rewrite, true).is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}
