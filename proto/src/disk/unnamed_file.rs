//! Files without a name: nothing is left of one however its process ends, until
//! it is given a name.

use std::fs::File;
use std::io;
use std::path::Path;

/// A file of this `mode` (less the umask) in `folder`, on its file system, to be read
/// and written.
///
/// # Errors
/// The folder can't be written, or there are no such files here.
#[cfg(target_os = "linux")]
pub fn create(folder: &Path, mode: u32) -> io::Result<File> {
    use nix::libc;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.read(true).write(true).mode(mode);
    options.custom_flags(libc::O_TMPFILE).open(folder)
}

/// Gives it its name.
///
/// # Errors
/// There is a file of that name, no /proc, or the file system can't.
#[cfg(target_os = "linux")]
pub fn name(file: &File, path: &Path) -> io::Result<()> {
    use nix::fcntl::{AT_FDCWD, AtFlags};
    use std::os::fd::AsRawFd;
    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    let open = Path::new(&open);
    nix::unistd::linkat(AT_FDCWD, open, AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW)?;
    Ok(())
}

/// Elsewhere every file has a name from the start.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn create(_folder: &Path, _mode: u32) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// There are none to be named.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn name(_file: &File, _path: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
