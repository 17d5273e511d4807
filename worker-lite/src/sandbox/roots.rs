//! Roots of sandboxes, each written once and ready to be mounted for any number of
//! compiles: a skeleton of folders, and what is mounted on it. Linux. Unaware of
//! processes.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hg_proto::secure::private::make_folder;
use nix::libc::{self, c_ulong};
use nix::sys::statvfs::{FsFlags, statvfs};

use crate::files::removal::remove_tree;
use crate::inputs::layout::{Entry, Layout, Tools};
use crate::sandbox::groups::PROCESSES_MAX;
use crate::sandbox::seccomp::Filter;

/// The first Linux that counts a user's processes by user namespace.
const COUNTED_BY_NAMESPACE: (u32, u32) = (5, 14);
/// Roots that are kept ready; each is some small files.
const ROOTS_MAX: usize = 64;

/// A root that is ready to be mounted, for any number of compiles.
#[derive(Debug)]
pub struct Root {
    /// Where its folders are; `None`: each task of the tree form has its own.
    pub skeleton: Option<PathBuf>,
    layout: Arc<Layout>,
    /// What is mounted in each.
    pub mounts: Vec<Mount>,
    /// The system calls that are there.
    pub filter: Filter,
    /// A bound on the processes of one compile, where those can be counted.
    pub processes_max: Option<u64>,
}

/// What is mounted where, in the form in which the kernel takes it.
#[derive(Debug)]
pub struct Mount {
    /// A file or folder of this machine.
    pub source: CString,
    /// Relative to the root.
    pub target: CString,
    /// With all that is mounted below, or not.
    pub bind: c_ulong,
    /// What holds there.
    pub flags: c_ulong,
    /// It yields to what a task has there.
    pub spare: bool,
}

impl Mount {
    /// `source` at `target`, with the flags that it has already.
    ///
    /// # Errors
    /// It is not there, or has a NUL in its name.
    pub fn new(source: &Path, target: &Path, bind: c_ulong, flags: c_ulong) -> io::Result<Self> {
        let target = target.strip_prefix("/").unwrap_or(target);
        Ok(Mount {
            source: c(source.as_os_str().as_bytes())?,
            target: c(target.as_os_str().as_bytes())?,
            bind,
            flags: flags | kept_flags(source)?,
            spare: false,
        })
    }

    /// What a compile may write to: nothing in it is run.
    ///
    /// # Errors
    /// As [`Mount::new`].
    pub fn writable(source: &Path, target: &Path) -> io::Result<Self> {
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        Mount::new(source, target, libc::MS_BIND, flags)
    }
}

/// A word as system calls take it.
///
/// # Errors
/// There is a NUL in it.
pub fn c(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Flags that the place of `path` has already, which nobody may take away there.
///
/// # Errors
/// It is not there.
pub fn kept_flags(path: &Path) -> io::Result<c_ulong> {
    let flags = statvfs(path)?.flags();
    let pairs = [
        (FsFlags::ST_RDONLY, libc::MS_RDONLY),
        (FsFlags::ST_NOSUID, libc::MS_NOSUID),
        (FsFlags::ST_NODEV, libc::MS_NODEV),
        (FsFlags::ST_NOEXEC, libc::MS_NOEXEC),
    ];
    let kept = pairs.iter().filter(|(flag, _)| flags.contains(*flag));
    Ok(kept.fold(0, |all, (_, flag)| all | flag))
}

impl Root {
    /// Writes the skeleton of `layout` to `skeleton`, which is not there yet.
    ///
    /// # Errors
    /// The file system says no.
    pub fn new(layout: Layout, skeleton: &Path) -> io::Result<Self> {
        layout.write(skeleton)?;
        let mut root = Root::without_skeleton(layout)?;
        root.skeleton = Some(skeleton.to_path_buf());
        // It is on the disk now, and nobody asks for it here.
        root.layout = Arc::default();
        Ok(root)
    }

    fn without_skeleton(layout: Layout) -> io::Result<Self> {
        let mount = |(path, entry): (&Path, &Entry)| {
            let shared = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV;
            let (source, bind, flags) = match entry {
                Entry::Tree(source) | Entry::Spare(source) => {
                    (source, libc::MS_BIND | libc::MS_REC, shared)
                }
                Entry::File(source) => (source, libc::MS_BIND, shared),
                Entry::Device(source) => (source, libc::MS_BIND, libc::MS_NOSUID | libc::MS_NOEXEC),
                Entry::Folder | Entry::Link(_) | Entry::Mark => return Ok(None),
            };
            let mut mount = Mount::new(source, path, bind, flags)?;
            mount.spare = matches!(entry, Entry::Spare(_));
            Ok(Some(mount))
        };
        let mounts: io::Result<Vec<_>> = layout.sources().map(mount).collect();
        Ok(Root {
            skeleton: None,
            mounts: mounts?.into_iter().flatten().collect(),
            layout: Arc::new(layout),
            filter: Filter::new(true),
            processes_max: counts_by_namespace().then_some(PROCESSES_MAX),
        })
    }

    /// What is where in it.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if let Some(skeleton) = &self.skeleton {
            // What stays is small, and goes at the next start.
            let _ = remove_tree(skeleton);
        }
    }
}

/// Whether a limit on processes is one on this compile alone.
fn counts_by_namespace() -> bool {
    let release = nix::sys::utsname::uname();
    let release = release
        .as_ref()
        .map(|name| name.release().to_string_lossy());
    let release = release.unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= COUNTED_BY_NAMESPACE,
        _ => false,
    }
}

/// Roots by what is in them, each written once.
pub struct Roots {
    place: PathBuf,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    roots: HashMap<Tools, Arc<Root>>,
    in_place: HashMap<Tools, Arc<Root>>,
    made: u64,
}

impl Roots {
    /// None yet; they will lie in `place`, which is emptied.
    ///
    /// # Errors
    /// The file system says no.
    pub fn in_place(place: PathBuf) -> io::Result<Self> {
        remove_tree(&place)?;
        make_folder(&place)?;
        // As compilers find it mounted: links on the way are not theirs.
        let place = place.canonicalize()?;
        Ok(Roots {
            place,
            known: Mutex::default(),
        })
    }

    /// The root that shows `tools`.
    ///
    /// # Errors
    /// One of them is not there, or the file system says no.
    pub fn of(&self, tools: &Tools) -> io::Result<Arc<Root>> {
        // No code panics while it holds the lock, and what it guards is whole.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(root) = known.roots.get(tools) {
            return Ok(root.clone());
        }
        if known.roots.len() >= ROOTS_MAX {
            known.roots.clear();
        }
        known.made += 1;
        let skeleton = self.place.join(known.made.to_string());
        let root = Arc::new(Root::new(Layout::of(tools)?, &skeleton)?);
        known.roots.insert(tools.clone(), root.clone());
        Ok(root)
    }

    /// The root that shows `tools` to tasks of the tree form.
    ///
    /// # Errors
    /// As [`Roots::of`].
    pub fn in_place_of(&self, tools: &Tools) -> io::Result<Arc<Root>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(root) = known.in_place.get(tools) {
            return Ok(root.clone());
        }
        if known.in_place.len() >= ROOTS_MAX {
            known.in_place.clear();
        }
        let root = Arc::new(Root::without_skeleton(Layout::in_place(tools)?)?);
        known.in_place.insert(tools.clone(), root.clone());
        Ok(root)
    }

    /// What is known of how to show `tools` is wrong.
    pub fn forget(&self, tools: &Tools) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.roots.remove(tools);
        known.in_place.remove(tools);
    }
}
