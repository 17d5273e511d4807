//! Root file systems of sandboxes, each made once and ready to be mounted for any number of
//! compiles: a skeleton of folders, and what is bind-mounted in it. Linux. Unaware of
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
use crate::sandbox::cgroups::PROCESSES_MAX;
use crate::sandbox::seccomp::Filter;

/// The first Linux that counts a user's processes by user namespace.
const COUNTED_BY_NAMESPACE: (u32, u32) = (5, 14);
/// Roots of one kind that are kept ready; each is some small files.
const ROOTS_MAX: usize = 64;

/// A root file system that is ready to be mounted, for any number of compiles.
#[derive(Debug)]
pub struct Root {
    /// Folder of its skeleton; `None`: each task of the tree form brings its own.
    pub skeleton: Option<PathBuf>,
    layout: Arc<Layout>,
    /// What is mounted in the skeleton, outer folders first.
    pub mounts: Vec<Mount>,
    /// Seccomp filter of all compiles in it.
    pub filter: Filter,
    /// Bound on the processes of one compile, where the kernel can count those.
    pub processes_max: Option<u64>,
}

/// A bind mount, in the form in which the kernel takes it.
#[derive(Debug)]
pub struct Mount {
    /// File or folder of this machine.
    pub source: CString,
    /// Path of the mount point, relative to the root.
    pub target: CString,
    /// Flags of the first mount(2): with all that is mounted below, or without.
    pub bind: c_ulong,
    /// Flags of the remount: what may be done there.
    pub flags: c_ulong,
    /// It is left out for a task that has files of its own in its place.
    pub is_optional: bool,
}

impl Mount {
    /// Mounts `source` at `target` with `flags`, beside those that its file system has.
    ///
    /// # Errors
    /// `source` does not exist, or has a NUL in its name.
    pub fn new(source: &Path, target: &Path, bind: c_ulong, flags: c_ulong) -> io::Result<Self> {
        let target = target.strip_prefix("/").unwrap_or(target);
        Ok(Mount {
            source: c(source.as_os_str().as_bytes())?,
            target: c(target.as_os_str().as_bytes())?,
            bind,
            flags: flags | locked_flags(source)?,
            is_optional: false,
        })
    }

    /// Mounts a folder that a compile may write to, and run nothing from.
    ///
    /// # Errors
    /// `source` does not exist, or has a NUL in its name.
    pub fn writable(source: &Path, target: &Path) -> io::Result<Self> {
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        Mount::new(source, target, libc::MS_BIND, flags)
    }
}

/// `bytes` as system calls take strings.
///
/// # Errors
/// There is a NUL in it.
pub fn c(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Mount flags of the file system of `path`: a remount in a user namespace has to repeat
/// them, since the kernel locks them (mount_namespaces(7)).
///
/// # Errors
/// `path` does not exist.
pub fn locked_flags(path: &Path) -> io::Result<c_ulong> {
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
    /// A root laid out as `layout`, whose skeleton is written to `skeleton`, which does not
    /// exist yet.
    ///
    /// # Errors
    /// The file system says no.
    pub fn new(layout: Layout, skeleton: &Path) -> io::Result<Self> {
        layout.write(skeleton)?;
        let mut root = Root::without_skeleton(layout)?;
        root.skeleton = Some(skeleton.to_path_buf());
        // It is on the disk now, and nobody asks for it in memory.
        root.layout = Arc::default();
        Ok(root)
    }

    fn without_skeleton(layout: Layout) -> io::Result<Self> {
        let mount = |(path, entry): (&Path, &Entry)| {
            let shared = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV;
            let (source, bind, flags) = match entry {
                Entry::Subtree(source) | Entry::OptionalSubtree(source) => {
                    (source, libc::MS_BIND | libc::MS_REC, shared)
                }
                Entry::File(source) => (source, libc::MS_BIND, shared),
                Entry::Device(source) => (source, libc::MS_BIND, libc::MS_NOSUID | libc::MS_NOEXEC),
                Entry::Folder | Entry::Link(_) | Entry::Marker => return Ok(None),
            };
            let mut mount = Mount::new(source, path, bind, flags)?;
            mount.is_optional = matches!(entry, Entry::OptionalSubtree(_));
            Ok(Some(mount))
        };
        let mounts: io::Result<Vec<_>> = layout.bind_sources().map(mount).collect();
        Ok(Root {
            skeleton: None,
            mounts: mounts?.into_iter().flatten().collect(),
            layout: Arc::new(layout),
            filter: Filter::new(true),
            processes_max: counts_by_namespace().then_some(PROCESSES_MAX),
        })
    }

    /// Which file of this machine is at which path of it, for roots without a skeleton.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if let Some(skeleton) = &self.skeleton {
            // What stays is small, and the next start removes it.
            let _ = remove_tree(skeleton);
        }
    }
}

/// Whether this kernel counts processes of a user by user namespace, so that a limit on
/// them bounds one compile alone.
pub fn counts_by_namespace() -> bool {
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

/// Cache of roots by the files that are visible in them.
pub struct Roots {
    /// Folder of all skeletons.
    folder: PathBuf,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Roots for tasks of preprocessed text.
    roots: HashMap<Tools, Arc<Root>>,
    /// Roots for tasks of the tree form.
    without_headers: HashMap<Tools, Arc<Root>>,
    /// Skeletons made so far, which numbers them.
    made: u64,
}

impl Roots {
    /// An empty cache whose skeletons lie in `folder`, which is emptied.
    ///
    /// # Errors
    /// The file system says no.
    pub fn in_folder(folder: PathBuf) -> io::Result<Self> {
        remove_tree(&folder)?;
        make_folder(&folder)?;
        // The path at which compilers find it mounted has no links.
        let folder = folder.canonicalize()?;
        Ok(Roots {
            folder,
            known: Mutex::default(),
        })
    }

    /// The root for preprocessed text in which `tools` are visible.
    ///
    /// # Errors
    /// One of `tools` does not exist, or the file system says no.
    pub fn root(&self, tools: &Tools) -> io::Result<Arc<Root>> {
        // No code panics while it holds the lock, and what it guards is whole.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(root) = known.roots.get(tools) {
            return Ok(root.clone());
        }
        if known.roots.len() >= ROOTS_MAX {
            known.roots.clear();
        }
        known.made += 1;
        let skeleton = self.folder.join(known.made.to_string());
        let root = Arc::new(Root::new(Layout::of(tools)?, &skeleton)?);
        known.roots.insert(tools.clone(), root.clone());
        Ok(root)
    }

    /// The root for tasks of the tree form, in which all of `tools` but headers are visible.
    ///
    /// # Errors
    /// One of `tools` does not exist, or the file system says no.
    pub fn root_without_headers(&self, tools: &Tools) -> io::Result<Arc<Root>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(root) = known.without_headers.get(tools) {
            return Ok(root.clone());
        }
        if known.without_headers.len() >= ROOTS_MAX {
            known.without_headers.clear();
        }
        let root = Arc::new(Root::without_skeleton(Layout::without_headers(tools)?)?);
        known.without_headers.insert(tools.clone(), root.clone());
        Ok(root)
    }

    /// Forgets the roots that were made of `tools`: they are wrong by now.
    pub fn forget(&self, tools: &Tools) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.roots.remove(tools);
        known.without_headers.remove(tools);
    }
}
