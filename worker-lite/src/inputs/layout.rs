//! What a compile's own root is made of: which file of this machine appears at
//! which path. Reads the file system and writes a skeleton of folders, links and
//! empty files, on which a sandbox mounts the real ones. Unaware of mounts.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, Permissions};
use std::hash::{Hash, Hasher};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use hg_proto::v1::{Shipment, shipped_file::Kind};
use hg_proto::wire::digest::Digest;

/// Links that one path may lead through, as the kernel's own bound is.
const LINKS_MAX: usize = 40;
/// What a program needs of a system besides its libraries; what is missing there
/// is missing here too. The loader's list of libraries, and what characters are.
const COMPANIONS: [&str; 2] = ["/etc/ld.so.cache", "/usr/lib/locale"];
/// Devices without which programs go wrong.
pub const DEVICES: [&str; 3] = ["/dev/null", "/dev/zero", "/dev/urandom"];
/// Where the task's own folder appears.
pub const TASK: &str = "/task";
/// Where nothing of a task's may be, in the tree form.
const RESERVED: [&str; 4] = [TASK, "/dev", "/proc", "/sys"];

/// Clang takes a folder for a gcc's by this file, which it does not read.
const GCC_MARK: &str = "crtbegin.o";
/// Where clang has its lists for sanitizers, in the folder of its own headers.
const LISTS: &str = "share";
/// How deep a folder of a compiler's is looked through for these two: a gcc has
/// its version there, and a kind of machine.
const MARK_DEPTH_MAX: usize = 2;
/// Names that are looked at in such a folder.
const MARK_NAMES_MAX: usize = 4096;

/// The files of a toolchain, and where on this machine they are.
#[derive(Debug, Clone)]
pub enum Tools {
    /// This machine's own, at the same paths in the root: files and folders, with every
    /// link on the way.
    Own(Vec<PathBuf>),
    /// A client's, at the client's paths.
    Shipped {
        /// What stands for them.
        digest: Digest,
        /// All there is.
        list: Arc<Shipment>,
        /// The folder that has the contents of files by their digests.
        contents: PathBuf,
    },
}

impl PartialEq for Tools {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Tools::Own(files), Tools::Own(others)) => files == others,
            (Tools::Shipped { digest, .. }, Tools::Shipped { digest: other, .. }) => {
                digest == other
            }
            _ => false,
        }
    }
}

impl Eq for Tools {}

impl Hash for Tools {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Tools::Own(files) => files.hash(state),
            Tools::Shipped { digest, .. } => digest.as_bytes().hash(state),
        }
    }
}

/// What is at one path of the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A folder of the root's own.
    Folder,
    /// A symbolic link.
    Link(PathBuf),
    /// This machine's file.
    File(PathBuf),
    /// This machine's folder, with all in it.
    Tree(PathBuf),
    /// This machine's device.
    Device(PathBuf),
    /// An empty file, in place of the task's: that it is there is all that counts.
    Mark,
    /// This machine's folder, unless the task has something in it.
    Spare(PathBuf),
}

/// Path in the root, and what is there. Folders come before what is in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// Paths are spelled in one way: compared as bytes, in a fraction of the time.
    entries: BTreeMap<OsString, Entry>,
}

impl Layout {
    /// Devices, the place of the task's folder, what programs need of a system,
    /// and the toolchain.
    ///
    /// # Errors
    /// One of its files is not there.
    pub fn of(tools: &Tools) -> io::Result<Self> {
        Layout::with(tools, Entry::Tree)
    }

    /// The same for the tree form, in which headers come with the task: of folders
    /// among its files, only what a compiler wants besides.
    ///
    /// # Errors
    /// As [`Layout::of`].
    pub fn in_place(tools: &Tools) -> io::Result<Self> {
        Layout::with(tools, Entry::Spare)
    }

    fn with(tools: &Tools, folder: fn(PathBuf) -> Entry) -> io::Result<Self> {
        let mut layout = Layout::default();
        layout.folders_to(Path::new(TASK));
        layout.entries.insert(TASK.into(), Entry::Folder);
        for device in DEVICES {
            // What is no device here stays away.
            if fs::metadata(device).is_ok() {
                layout.place(Path::new(device), Entry::Device(device.into()));
            }
        }
        let files = match tools {
            Tools::Own(files) => files,
            Tools::Shipped { list, contents, .. } => {
                layout.add_shipped(list, contents);
                return Ok(layout);
            }
        };
        for file in files {
            layout.add(file, folder).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", file.display()))
            })?;
        }
        for companion in COMPANIONS.map(Path::new) {
            match layout.add(companion, Entry::Tree) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(layout)
    }

    /// What a client's toolchain has, and nothing of this machine's beside it: its
    /// loader is not this machine's, nor are its locales.
    fn add_shipped(&mut self, list: &Shipment, contents: &Path) {
        for file in &list.files {
            let path = Path::new(OsStr::from_bytes(&file.path));
            match &file.kind {
                Some(Kind::Digest(digest)) => {
                    // Checked when it was kept.
                    let digest = Digest::try_from(&digest[..]);
                    let content = digest.map(|digest| contents.join(digest.to_hex()));
                    if let Ok(content) = content {
                        self.place(path, Entry::File(content));
                    }
                }
                Some(Kind::Link(target)) => {
                    let target = PathBuf::from(OsStr::from_bytes(target));
                    self.place(path, Entry::Link(target));
                }
                Some(Kind::Folder(_)) => self.folders_to(&path.join("x")),
                Some(Kind::Mark(_)) => self.place(path, Entry::Mark),
                None => {}
            }
        }
    }

    /// Puts `entry` at `path`, which has no links in it.
    pub fn place(&mut self, path: &Path, entry: Entry) {
        self.folders_to(path);
        self.entries.insert(path.into(), entry);
    }

    /// What there is, by path; folders first.
    pub fn entries(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.entries
            .iter()
            .map(|(path, entry)| (Path::new(path), entry))
    }

    fn folders_to(&mut self, path: &Path) {
        for above in path.ancestors().skip(1) {
            if above != Path::new("/") {
                self.entries.entry(above.into()).or_insert(Entry::Folder);
            }
        }
    }

    /// Makes `path` lead to the same file in the root as it does on this machine.
    fn add(&mut self, path: &Path, folder: fn(PathBuf) -> Entry) -> io::Result<()> {
        let mut links = 0;
        let mut left = components(path);
        let mut real = PathBuf::from("/");
        while let Some(name) = left.pop() {
            if name == ".." {
                real.pop();
                continue;
            }
            let next = real.join(&name);
            let found = fs::symlink_metadata(&next)?;
            if found.is_symlink() {
                links += 1;
                if links > LINKS_MAX {
                    return Err(io::Error::from_raw_os_error(nix::libc::ELOOP));
                }
                let target = fs::read_link(&next)?;
                if target.is_absolute() {
                    real = PathBuf::from("/");
                }
                left.extend(components(&target));
                self.place(&next, Entry::Link(target));
                continue;
            }
            if !left.is_empty() {
                // Also where the path only passes through, up and out again.
                self.folders_to(&next.join("x"));
            } else if found.is_dir() {
                match folder(next.clone()) {
                    Entry::Spare(_) => self.add_marks(&next, 0)?,
                    tree => self.place(&next, tree),
                }
            } else if found.is_file() {
                self.place(&next, Entry::File(next.clone()));
            } else {
                return Err(io::Error::other("neither a file nor a folder"));
            }
            real = next;
        }
        Ok(())
    }

    /// What a compiler wants of a folder of its own, without the headers in it.
    fn add_marks(&mut self, folder: &Path, depth: usize) -> io::Result<()> {
        for entry in fs::read_dir(folder)?.take(MARK_NAMES_MAX) {
            let entry = entry?;
            let (kind, path) = (entry.file_type()?, entry.path());
            if kind.is_dir() && entry.file_name() == LISTS {
                self.place(&path, Entry::Spare(path.clone()));
            } else if kind.is_dir() && depth < MARK_DEPTH_MAX {
                self.add_marks(&path, depth + 1)?;
            } else if kind.is_file() && entry.file_name() == GCC_MARK {
                self.place(&path, Entry::Mark);
            }
        }
        Ok(())
    }

    /// Whether a task may have a file at the plain `path` (`is_file`) or a folder: not at or
    /// below anything of this machine's, nor in place of a folder that leads there.
    pub fn takes(&self, path: &Path, is_file: bool) -> bool {
        if RESERVED
            .iter()
            .any(|reserved| is_at_or_below(path, reserved))
        {
            return false;
        }
        let free = |at: &Path, entry: &Entry| match entry {
            Entry::Mark => at == path && is_file,
            Entry::Spare(_) | Entry::Folder => at != path || !is_file,
            Entry::Link(_) | Entry::File(_) | Entry::Tree(_) | Entry::Device(_) => false,
        };
        let known = |at: &Path| {
            let entry = self.entries.get(at.as_os_str());
            entry.is_none_or(|entry| free(at, entry))
        };
        path.ancestors().all(known)
    }

    /// Whether a folder at `path` is there without a task.
    pub fn has_folder(&self, path: &Path) -> bool {
        let entry = self.entries.get(path.as_os_str());
        matches!(
            entry,
            Some(Entry::Folder | Entry::Tree(_) | Entry::Spare(_))
        )
    }

    /// Paths of what a task may have in its own way.
    pub fn yielding(&self) -> impl Iterator<Item = &Path> {
        let yields = |entry: &Entry| matches!(entry, Entry::Mark | Entry::Spare(_));
        let yielding = self.entries().filter(move |(_, entry)| yields(entry));
        yielding.map(|(path, _)| path)
    }

    /// Whether something of this machine's lies in `folder` itself.
    pub fn occupies(&self, folder: &Path) -> bool {
        let is_ours = |entry: &Entry| !matches!(entry, Entry::Folder);
        self.entries()
            .any(|(path, entry)| is_ours(entry) && path.parent() == Some(folder))
    }

    /// What is mounted or may be read: the root's entries that are not below a
    /// tree of this machine's, which has them anyway.
    pub fn sources(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.entries().filter(|(path, entry)| {
            let is_mounted = !matches!(entry, Entry::Folder | Entry::Link(_) | Entry::Mark);
            is_mounted && !self.is_in_tree(path)
        })
    }

    fn is_in_tree(&self, path: &Path) -> bool {
        path.ancestors()
            .skip(1)
            .any(|above| matches!(self.entries.get(above.as_os_str()), Some(Entry::Tree(_))))
    }

    /// Makes folders, links and empty files for all entries in `skeleton`, which
    /// is not there yet. Anybody may read them: there is nothing in them.
    ///
    /// # Errors
    /// The file system says no.
    pub fn write(&self, skeleton: &Path) -> io::Result<()> {
        self.write_without(skeleton, &[])
    }

    /// The same without what [yields](Layout::yielding) at these paths.
    ///
    /// # Errors
    /// The file system says no.
    pub fn write_without(&self, skeleton: &Path, taken: &[PathBuf]) -> io::Result<()> {
        open_folder(skeleton)?;
        for (path, entry) in self.entries().filter(|(path, _)| !self.is_in_tree(path)) {
            if taken.iter().any(|taken| taken == path) {
                continue;
            }
            let at = below(skeleton, path);
            match entry {
                Entry::Folder | Entry::Tree(_) | Entry::Spare(_) => open_folder(&at)?,
                Entry::Link(target) => symlink(target, &at)?,
                Entry::File(_) | Entry::Device(_) | Entry::Mark => {
                    drop(File::create_new(&at)?);
                }
            }
        }
        Ok(())
    }
}

fn is_at_or_below(path: &Path, folder: &str) -> bool {
    let rest = path.as_os_str().as_bytes().strip_prefix(folder.as_bytes());
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
}

/// Where the root's `path` lies in `skeleton`.
pub fn below(skeleton: &Path, path: &Path) -> PathBuf {
    skeleton.join(path.strip_prefix("/").unwrap_or(path))
}

/// Makes a folder that anybody may look into, whatever the worker's umask is: a
/// compile may run as somebody else.
///
/// # Errors
/// The file system says no.
pub fn open_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

/// The names on a path, the first one last.
fn components(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_where_it_leads_here() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().canonicalize().unwrap();
        fs::create_dir_all(here.join("lib/real")).unwrap();
        fs::create_dir(here.join("bin")).unwrap();
        fs::write(here.join("lib/real/cc1"), "cc1").unwrap();
        fs::write(here.join("lib/real/other"), "secret").unwrap();
        symlink("real", here.join("lib/link")).unwrap();
        symlink(here.join("lib/link/cc1"), here.join("bin/cc")).unwrap();
        let asked = here.join("bin/../bin/cc");
        let layout = Layout::of(&Tools::Own(vec![asked.clone(), here.join("lib/link")])).unwrap();
        let sources: Vec<_> = layout
            .sources()
            .filter(|(path, _)| path.starts_with(&here))
            .collect();
        // The folder has the file in it: one mount serves both.
        let real = here.join("lib/real");
        assert_eq!(sources, [(real.as_path(), &Entry::Tree(real.clone()))]);
        let skeleton = here.join("skeleton");
        layout.write(&skeleton).unwrap();
        let inside = |path: &Path| skeleton.join(path.strip_prefix("/").unwrap());
        assert!(inside(&real).is_dir());
        assert_eq!(fs::read_dir(inside(&real)).unwrap().count(), 0);
        assert_eq!(
            fs::read_link(inside(&here.join("bin/cc"))).unwrap(),
            here.join("lib/link/cc1")
        );
        assert!(inside(Path::new("/task")).is_dir() && inside(Path::new("/dev/null")).is_file());
        assert!(!inside(Path::new("/etc/passwd")).exists());
        // Without the folder, the file alone.
        let layout = Layout::of(&Tools::Own(vec![asked])).unwrap();
        let file = real.join("cc1");
        let mut sources = layout.sources().filter(|(path, _)| path.starts_with(&here));
        assert_eq!(
            sources.next(),
            Some((file.as_path(), &Entry::File(file.clone())))
        );
        assert_eq!(sources.next(), None);
    }

    #[test]
    fn in_place_a_compilers_folders_are_the_tasks_to_fill() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().canonicalize().unwrap();
        let (gcc, clang) = (here.join("gcc"), here.join("clang"));
        for path in [
            "gcc/12/32",
            "gcc/12/include",
            "clang/include",
            "clang/share",
        ] {
            fs::create_dir_all(here.join(path)).unwrap();
        }
        for path in [
            "gcc/12/crtbegin.o",
            "gcc/12/32/crtbegin.o",
            "gcc/12/include/x.h",
        ] {
            fs::write(here.join(path), "ours").unwrap();
        }
        fs::write(here.join("clang/include/x.h"), "ours").unwrap();
        fs::write(here.join("clang/share/list"), "ours").unwrap();
        fs::write(here.join("cc"), "ours").unwrap();
        symlink("cc", here.join("link")).unwrap();
        let layout = Layout::in_place(&Tools::Own(vec![
            gcc.clone(),
            clang.clone(),
            here.join("link"),
        ]))
        .unwrap();
        let sources = layout.sources().filter(|(path, _)| path.starts_with(&here));
        let sources: Vec<_> = sources.map(|(path, _)| path.to_path_buf()).collect();
        assert_eq!(sources, [here.join("cc"), clang.join("share")]);
        let takes = |path: &str, is_file| layout.takes(&here.join(path), is_file);
        for path in [
            "gcc/12/include/x.h",
            "gcc/12/crtbegin.o",
            "clang/include/x.h",
            "clang/share/list",
            "clang/share/sub/list",
            "new/x.h",
        ] {
            assert!(takes(path, true), "{path}");
        }
        for path in [
            "cc",
            "cc/x",
            "link",
            "link/x",
            "gcc",
            "gcc/12",
            "clang/share",
        ] {
            assert!(!takes(path, true), "{path}");
        }
        assert!(!layout.takes(&here, true));
        assert!(takes("gcc/12", false) && takes("clang/share", false) && takes("new", false));
        assert!(!takes("cc", false) && !takes("link/x", false));
        for path in [
            "/dev/x",
            "/dev/null",
            "/proc/x",
            "/task",
            "/task/x",
            "/etc/ld.so.cache",
        ] {
            let path = Path::new(path);
            // The loader's list may be missing on this machine.
            assert!(!layout.takes(path, true) || !path.exists(), "{path:?}");
        }
        assert!(layout.occupies(&here) && layout.occupies(&gcc.join("12")));
        assert!(!layout.occupies(&gcc) && !layout.occupies(&here.join("new")));
        let skeleton = here.join("skeleton");
        let taken = vec![clang.join("share"), gcc.join("12/crtbegin.o")];
        layout.write_without(&skeleton, &taken).unwrap();
        let mark = |path: &str| below(&skeleton, &here.join(path));
        assert_eq!(fs::metadata(mark("gcc/12/32/crtbegin.o")).unwrap().len(), 0);
        assert!(!mark("gcc/12/crtbegin.o").exists() && !mark("clang/share").exists());
    }

    #[test]
    fn what_is_missing_or_endless_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        symlink("loop", folder.path().join("loop")).unwrap();
        for name in ["none", "loop", "loop/none"] {
            assert!(
                Layout::of(&Tools::Own(vec![folder.path().join(name)])).is_err(),
                "{name}"
            );
        }
    }
}
