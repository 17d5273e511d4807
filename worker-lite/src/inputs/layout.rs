//! Layout of a compile's own root: which file of this machine appears at which path.
//! Reads the file system and writes a skeleton of folders, links and empty files, on which
//! a sandbox mounts the real ones. Unaware of mounts.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, Permissions};
use std::hash::{Hash, Hasher};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hg_proto::compiler::shipment;
use hg_proto::compiler::way::{self, Step};
use hg_proto::v1::{Shipment, shipped_file::Kind};
use hg_proto::wire::digest::Digest;

/// Files that programs need of a system besides their libraries: the loader's cache, and
/// locales. One that this machine lacks is missing in the root too.
const COMPANIONS: [&str; 2] = ["/etc/ld.so.cache", "/usr/lib/locale"];
/// Devices that programs can't do without.
pub const DEVICES: [&str; 3] = ["/dev/null", "/dev/zero", "/dev/urandom"];
/// Path in the root at which the task's own folder appears.
pub const TASK: &str = "/task";
/// Paths at and below which a task of the tree form may have nothing.
const RESERVED: [&str; 4] = [TASK, "/dev", "/proc", "/sys"];

/// File by which clang takes a folder for a gcc's, without reading it.
const GCC_MARKER: &str = "crtbegin.o";
/// Folder of clang's lists for sanitizers, in the folder of its own headers.
const SANITIZER_LISTS: &str = "share";
/// Depth to which a compiler's folder is searched for these two: below a gcc's there are
/// its version and a kind of machine.
const MARKER_DEPTH_MAX: usize = 2;
/// Names that are looked at in each such folder.
const MARKER_NAMES_MAX: usize = 4096;

/// The files of a toolchain, and where on this machine they are.
#[derive(Debug, Clone)]
pub enum Tools {
    /// This machine's own, at the same paths in the root: files and folders, with every
    /// link on the way.
    Own(Vec<PathBuf>),
    /// This machine's own programs for a client that takes them for its own: what a
    /// compiler finds around itself there is not here, and comes with the task.
    OwnPrograms(Vec<PathBuf>),
    /// A client's, at the client's paths, or an image's at those it has there.
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
            (Tools::Own(files), Tools::Own(others))
            | (Tools::OwnPrograms(files), Tools::OwnPrograms(others)) => files == others,
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
        std::mem::discriminant(self).hash(state);
        match self {
            Tools::Own(files) | Tools::OwnPrograms(files) => files.hash(state),
            Tools::Shipped { digest, .. } => digest.as_bytes().hash(state),
        }
    }
}

impl Tools {
    /// The same without what a compiler finds around itself.
    pub fn programs_alone(self) -> Self {
        match self {
            Tools::Own(files) => Tools::OwnPrograms(files),
            Tools::OwnPrograms(files) => Tools::OwnPrograms(files),
            Tools::Shipped { list, contents, .. } => {
                let mut list = Shipment::clone(&list);
                list.files
                    .retain(|file| !matches!(file.kind, Some(Kind::Mark(_))));
                Tools::Shipped {
                    digest: shipment::digest(&list),
                    list: Arc::new(list),
                    contents,
                }
            }
        }
    }
}

/// An entry of the root, at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A folder of the skeleton.
    Folder,
    /// A symbolic link, and its target.
    Link(PathBuf),
    /// A file of this machine.
    File(PathBuf),
    /// A folder of this machine, with all that is in it.
    Subtree(PathBuf),
    /// A device of this machine.
    Device(PathBuf),
    /// An empty file, unless the task has one there: its existence is all that counts.
    Marker,
    /// A folder of this machine with all that is in it, unless the task has files in it.
    OptionalSubtree(PathBuf),
}

/// Entries of a root by path. Folders come before what is in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// Paths are normalised, so that they can be compared as bytes, in a fraction of the time.
    entries: BTreeMap<OsString, Entry>,
}

impl Layout {
    /// A root with devices, the task's folder, what programs need of a system, and `tools`.
    ///
    /// # Errors
    /// One of the files does not exist.
    pub fn of(tools: &Tools) -> io::Result<Self> {
        Layout::with(tools, Entry::Subtree)
    }

    /// A root for the tree form, in which headers come with the task: like [`Layout::of`],
    /// but of folders among them it has only what a compiler wants besides headers.
    ///
    /// # Errors
    /// One of the files does not exist.
    pub fn without_headers(tools: &Tools) -> io::Result<Self> {
        Layout::with(
            tools,
            match tools {
                Tools::OwnPrograms(_) => |_| Entry::Folder,
                _ => Entry::OptionalSubtree,
            },
        )
    }

    fn with(tools: &Tools, folder: fn(PathBuf) -> Entry) -> io::Result<Self> {
        let mut layout = Layout::default();
        layout.insert_parents(Path::new(TASK));
        layout.entries.insert(TASK.into(), Entry::Folder);
        for device in DEVICES {
            // A device that this machine lacks is left out.
            if fs::metadata(device).is_ok() {
                layout.insert(Path::new(device), Entry::Device(device.into()));
            }
        }
        let files = match tools {
            Tools::Own(files) | Tools::OwnPrograms(files) => files,
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
            match layout.add(companion, Entry::Subtree) {
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
                        self.insert(path, Entry::File(content));
                    }
                }
                Some(Kind::Link(target)) => {
                    let target = PathBuf::from(OsStr::from_bytes(target));
                    self.insert(path, Entry::Link(target));
                }
                Some(Kind::Folder(_)) => self.insert_parents(&path.join("x")),
                Some(Kind::Mark(_)) => self.insert(path, Entry::Marker),
                None => {}
            }
        }
    }

    /// Puts `entry` at `path`, which has no links in it.
    pub fn insert(&mut self, path: &Path, entry: Entry) {
        self.insert_parents(path);
        self.entries.insert(path.into(), entry);
    }

    /// All entries by path; folders come before what is in them.
    pub fn entries(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.entries
            .iter()
            .map(|(path, entry)| (Path::new(path), entry))
    }

    fn insert_parents(&mut self, path: &Path) {
        for above in path.ancestors().skip(1) {
            if above != Path::new("/") {
                self.entries.entry(above.into()).or_insert(Entry::Folder);
            }
        }
    }

    /// Makes `path` lead to the same file in the root as it does on this machine.
    fn add(&mut self, path: &Path, folder: fn(PathBuf) -> Entry) -> io::Result<()> {
        way::along(path, |at, step| {
            match step {
                Step::Link(target) => self.insert(at, Entry::Link(target)),
                // Also where the path only passes through, up and out again.
                Step::Through => self.insert_parents(&at.join("x")),
                Step::Up => {}
                Step::End(meta) if meta.is_dir() => match folder(at.to_path_buf()) {
                    Entry::OptionalSubtree(_) => self.insert_markers(at, 0)?,
                    // The task's, if it has it.
                    Entry::Folder => {}
                    subtree => self.insert(at, subtree),
                },
                Step::End(meta) if meta.is_file() => {
                    self.insert(at, Entry::File(at.to_path_buf()));
                }
                Step::End(_) => return Err(io::Error::other("neither a file nor a folder")),
            }
            Ok(())
        })
    }

    /// Inserts what a compiler wants of its own `folder` besides headers.
    fn insert_markers(&mut self, folder: &Path, depth: usize) -> io::Result<()> {
        for entry in fs::read_dir(folder)?.take(MARKER_NAMES_MAX) {
            let entry = entry?;
            let (kind, path) = (entry.file_type()?, entry.path());
            if kind.is_dir() && entry.file_name() == SANITIZER_LISTS {
                self.insert(&path, Entry::OptionalSubtree(path.clone()));
            } else if kind.is_dir() && depth < MARKER_DEPTH_MAX {
                self.insert_markers(&path, depth + 1)?;
            } else if kind.is_file() && entry.file_name() == GCC_MARKER {
                self.insert(&path, Entry::Marker);
            }
        }
        Ok(())
    }

    /// Whether a task may have a file (`is_file`) or a folder at the normalised `path`: not at
    /// or below anything of this machine's, nor in place of a folder that leads there.
    pub fn admits(&self, path: &Path, is_file: bool) -> bool {
        if RESERVED
            .iter()
            .any(|reserved| is_at_or_below(path, reserved))
        {
            return false;
        }
        let free = |at: &Path, entry: &Entry| match entry {
            Entry::Marker => at == path && is_file,
            Entry::OptionalSubtree(_) | Entry::Folder => at != path || !is_file,
            Entry::Link(_) | Entry::File(_) | Entry::Subtree(_) | Entry::Device(_) => false,
        };
        let known = |at: &Path| {
            let entry = self.entries.get(at.as_os_str());
            entry.is_none_or(|entry| free(at, entry))
        };
        path.ancestors().all(known)
    }

    /// Whether the skeleton has a folder at `path`, whatever the task.
    pub fn has_folder(&self, path: &Path) -> bool {
        let entry = self.entries.get(path.as_os_str());
        matches!(
            entry,
            Some(Entry::Folder | Entry::Subtree(_) | Entry::OptionalSubtree(_))
        )
    }

    /// Paths at which a task may have its own files instead of this machine's.
    pub fn optional_paths(&self) -> impl Iterator<Item = &Path> {
        let is_optional =
            |entry: &Entry| matches!(entry, Entry::Marker | Entry::OptionalSubtree(_));
        let optional = self.entries().filter(move |(_, entry)| is_optional(entry));
        optional.map(|(path, _)| path)
    }

    /// Whether something of this machine's lies directly in `folder`.
    pub fn has_files_in(&self, folder: &Path) -> bool {
        let is_ours = |entry: &Entry| !matches!(entry, Entry::Folder);
        self.entries()
            .any(|(path, entry)| is_ours(entry) && path.parent() == Some(folder))
    }

    /// Entries that stand for files of this machine, to be mounted or allowed: those below
    /// a subtree of this machine's are left out, since it has them anyway.
    pub fn bind_sources(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.entries().filter(|(path, entry)| {
            let is_mounted = !matches!(entry, Entry::Folder | Entry::Link(_) | Entry::Marker);
            is_mounted && !self.is_in_subtree(path)
        })
    }

    fn is_in_subtree(&self, path: &Path) -> bool {
        path.ancestors()
            .skip(1)
            .any(|above| matches!(self.entries.get(above.as_os_str()), Some(Entry::Subtree(_))))
    }

    /// Makes folders, links and empty files for all entries in `skeleton`, which does not
    /// exist yet. Anybody may read them: there is nothing in them.
    ///
    /// # Errors
    /// The file system says no.
    pub fn write(&self, skeleton: &Path) -> io::Result<()> {
        self.write_without(skeleton, &[])
    }

    /// Like [`Layout::write`], without the [optional](Layout::optional_paths) entries at the
    /// paths `taken` by a task.
    ///
    /// # Errors
    /// The file system says no.
    pub fn write_without(&self, skeleton: &Path, taken: &[PathBuf]) -> io::Result<()> {
        make_public_folder(skeleton)?;
        for (path, entry) in self.entries().filter(|(path, _)| !self.is_in_subtree(path)) {
            if taken.iter().any(|taken| taken == path) {
                continue;
            }
            let at = below(skeleton, path);
            match entry {
                Entry::Folder | Entry::Subtree(_) | Entry::OptionalSubtree(_) => {
                    make_public_folder(&at)?
                }
                Entry::Link(target) => symlink(target, &at)?,
                Entry::File(_) | Entry::Device(_) | Entry::Marker => {
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

/// Path on this machine of the root's `path`, where the root is at `skeleton`.
pub fn below(skeleton: &Path, path: &Path) -> PathBuf {
    skeleton.join(path.strip_prefix("/").unwrap_or(path))
}

/// Makes a folder that anybody may read, whatever the worker's umask is: a compile may run
/// as another user.
///
/// # Errors
/// The file system says no.
pub fn make_public_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o755))
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
            .bind_sources()
            .filter(|(path, _)| path.starts_with(&here))
            .collect();
        // The folder has the file in it: one mount serves both.
        let real = here.join("lib/real");
        assert_eq!(sources, [(real.as_path(), &Entry::Subtree(real.clone()))]);
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
        let mut sources = layout
            .bind_sources()
            .filter(|(path, _)| path.starts_with(&here));
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
        let layout = Layout::without_headers(&Tools::Own(vec![
            gcc.clone(),
            clang.clone(),
            here.join("link"),
        ]))
        .unwrap();
        let sources = layout
            .bind_sources()
            .filter(|(path, _)| path.starts_with(&here));
        let sources: Vec<_> = sources.map(|(path, _)| path.to_path_buf()).collect();
        assert_eq!(sources, [here.join("cc"), clang.join("share")]);
        let takes = |path: &str, is_file| layout.admits(&here.join(path), is_file);
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
        assert!(!layout.admits(&here, true));
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
            assert!(!layout.admits(path, true) || !path.exists(), "{path:?}");
        }
        assert!(layout.has_files_in(&here) && layout.has_files_in(&gcc.join("12")));
        assert!(!layout.has_files_in(&gcc) && !layout.has_files_in(&here.join("new")));
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
