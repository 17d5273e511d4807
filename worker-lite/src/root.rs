//! What a compile's own root is made of: which file of this machine appears at
//! which path. Reads the file system and writes a skeleton of folders, links and
//! empty files, on which a sandbox mounts the real ones. Unaware of mounts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

/// Links that one path may lead through, as the kernel's own bound is.
const LINKS_MAX: usize = 40;
/// What a program needs of a system besides its libraries; what is missing there
/// is missing here too. The loader's list of libraries, and what characters are.
const COMPANIONS: [&str; 2] = ["/etc/ld.so.cache", "/usr/lib/locale"];
/// Devices without which programs go wrong.
pub const DEVICES: [&str; 3] = ["/dev/null", "/dev/zero", "/dev/urandom"];
/// Where the task's own folder appears.
pub const TASK: &str = "/task";

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
}

/// Path in the root, and what is there. Folders come before what is in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    entries: BTreeMap<PathBuf, Entry>,
}

impl Layout {
    /// Devices, the place of the task's folder, what programs need of a system,
    /// and `files`: paths of files and folders, with every link on the way.
    ///
    /// # Errors
    /// One of `files` is not there.
    pub fn of(files: &[PathBuf]) -> io::Result<Self> {
        let mut layout = Layout::default();
        layout.folders_to(Path::new(TASK));
        layout.entries.insert(TASK.into(), Entry::Folder);
        for device in DEVICES {
            // What is no device here stays away.
            if fs::metadata(device).is_ok() {
                layout.place(Path::new(device), Entry::Device(device.into()));
            }
        }
        for file in files {
            layout.add(file).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", file.display()))
            })?;
        }
        for companion in COMPANIONS.map(Path::new) {
            match layout.add(companion) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(layout)
    }

    /// Puts `entry` at `path`, which has no links in it.
    pub fn place(&mut self, path: &Path, entry: Entry) {
        self.folders_to(path);
        self.entries.insert(path.to_path_buf(), entry);
    }

    /// What there is, by path; folders first.
    pub fn entries(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.entries
            .iter()
            .map(|(path, entry)| (path.as_path(), entry))
    }

    fn folders_to(&mut self, path: &Path) {
        for above in path.ancestors().skip(1) {
            if above != Path::new("/") {
                let above = above.to_path_buf();
                self.entries.entry(above).or_insert(Entry::Folder);
            }
        }
    }

    /// Makes `path` lead to the same file in the root as it does on this machine.
    fn add(&mut self, path: &Path) -> io::Result<()> {
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
                self.place(&next, Entry::Tree(next.clone()));
            } else if found.is_file() {
                self.place(&next, Entry::File(next.clone()));
            } else {
                return Err(io::Error::other("neither a file nor a folder"));
            }
            real = next;
        }
        Ok(())
    }

    /// What is mounted or may be read: the root's entries that are not below a
    /// tree of this machine's, which has them anyway.
    pub fn sources(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.entries().filter(|(path, entry)| {
            !matches!(entry, Entry::Folder | Entry::Link(_)) && !self.is_in_tree(path)
        })
    }

    fn is_in_tree(&self, path: &Path) -> bool {
        path.ancestors()
            .skip(1)
            .any(|above| matches!(self.entries.get(above), Some(Entry::Tree(_))))
    }

    /// Makes folders, links and empty files for all entries in `skeleton`, which
    /// is not there yet. Anybody may read them: there is nothing in them.
    ///
    /// # Errors
    /// The file system says no.
    pub fn write(&self, skeleton: &Path) -> io::Result<()> {
        // Whatever the worker's umask is: a compile may run as somebody else.
        let folder = |path: &Path| {
            DirBuilder::new().mode(0o755).create(path)?;
            fs::set_permissions(path, Permissions::from_mode(0o755))
        };
        folder(skeleton)?;
        for (path, entry) in self.entries().filter(|(path, _)| !self.is_in_tree(path)) {
            let at = skeleton.join(path.strip_prefix("/").unwrap_or(path));
            match entry {
                Entry::Folder | Entry::Tree(_) => folder(&at)?,
                Entry::Link(target) => symlink(target, &at)?,
                Entry::File(_) | Entry::Device(_) => drop(File::create_new(&at)?),
            }
        }
        Ok(())
    }
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
        let layout = Layout::of(&[asked.clone(), here.join("lib/link")]).unwrap();
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
        let layout = Layout::of(&[asked]).unwrap();
        let file = real.join("cc1");
        let mut sources = layout.sources().filter(|(path, _)| path.starts_with(&here));
        assert_eq!(
            sources.next(),
            Some((file.as_path(), &Entry::File(file.clone())))
        );
        assert_eq!(sources.next(), None);
    }

    #[test]
    fn what_is_missing_or_endless_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        symlink("loop", folder.path().join("loop")).unwrap();
        for name in ["none", "loop", "loop/none"] {
            assert!(Layout::of(&[folder.path().join(name)]).is_err(), "{name}");
        }
    }
}
