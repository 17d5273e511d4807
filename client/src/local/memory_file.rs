//! Files in memory, without a name: for a child to write into, and to be told by number.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;

/// A file without a name, for a child to write into.
#[cfg(target_os = "linux")]
pub fn scratch() -> io::Result<File> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    Ok(memfd_create(c"hgbuild", MFdFlags::MFD_CLOEXEC)?.into())
}

/// A file without a name, for a child to write into.
#[cfg(not(target_os = "linux"))]
pub fn scratch() -> io::Result<File> {
    use std::fs::OpenOptions;
    let path = std::env::temp_dir().join(format!(".hgbuild-{}", std::process::id()));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// All of `file`, which a child has written: about `size` bytes.
pub fn content(file: &mut File, size: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut content)?;
    Ok(content)
}

/// The path by which a child opens `file`, which it has inherited.
pub fn descriptor_path(file: &File) -> String {
    let folder = if cfg!(target_os = "linux") {
        "/proc/self/fd"
    } else {
        "/dev/fd"
    };
    format!("{folder}/{}", file.as_raw_fd())
}
