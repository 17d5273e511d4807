//! Whether a file lies on a device of this machine's own, and not on another machine's
//! or on an image: then its times are of this machine's clock.

use std::fs::File;
use std::io;
#[cfg(target_os = "linux")]
use std::path::Path;

/// Whether the file lies on a device of this machine's own.
#[cfg(target_os = "linux")]
pub fn is_own_file(file: &File) -> bool {
    nix::sys::statfs::fstatfs(file).is_ok_and(|fs| is_own(&fs))
}

/// Whether the folder comes by NFS.
#[cfg(target_os = "linux")]
pub fn is_on_nfs(folder: &Path) -> bool {
    use nix::sys::statfs::{NFS_SUPER_MAGIC, statfs};
    statfs(folder).is_ok_and(|fs| fs.filesystem_type() == NFS_SUPER_MAGIC)
}

/// File systems that are known to be this machine's own, and to stamp each file when it
/// is written (statfs(2)): not images such as squashfs, whose next edition may have
/// all numbers and times of this one.
#[cfg(target_os = "linux")]
#[allow(clippy::unnecessary_cast)] // Their widths differ between machines.
pub fn is_own(fs: &nix::sys::statfs::Statfs) -> bool {
    use nix::libc;
    const OWN: [i64; 11] = [
        libc::EXT4_SUPER_MAGIC as i64,
        libc::XFS_SUPER_MAGIC as i64,
        libc::BTRFS_SUPER_MAGIC as i64,
        libc::TMPFS_MAGIC as i64,
        libc::OVERLAYFS_SUPER_MAGIC as i64,
        libc::F2FS_SUPER_MAGIC as i64,
        libc::REISERFS_SUPER_MAGIC as i64,
        0x2fc1_2fc1, // ZFS
        0xca45_1a4e, // bcachefs
        0x3153_464a, // JFS
        0x8584_58f6, // ramfs
    ];
    OWN.contains(&(fs.filesystem_type().0 as i64 & 0xffff_ffff))
}

/// A network file system can't be told here.
#[cfg(not(target_os = "linux"))]
pub fn is_own_file(_file: &File) -> bool {
    true
}

/// Waits until all that was written is where it belongs, on file systems that say
/// only then, or when a file is closed, that a disk is full or a server gone.
///
/// # Errors
/// It did not arrive.
pub fn arrived(file: &File) -> io::Result<()> {
    if !is_own_file(file) {
        file.sync_all()?;
    }
    Ok(nix::unistd::close(file.try_clone()?)?)
}
