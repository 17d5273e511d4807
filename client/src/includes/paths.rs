//! Paths as compilers spell them: bytes, never resolved. Pure.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `path` as the system takes it.
pub fn as_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

/// `folder/name`; the working directory is `.` and says nothing.
pub fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    match folder {
        b"." => name.to_vec(),
        b"/" => [b"/", name].concat(),
        _ => [folder, b"/", name].concat(),
    }
}

/// Folder and name of `path`; `None`: its end is no name.
pub fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let name = memchr::memrchr(b'/', path).map_or(path, |slash| &path[slash + 1..]);
    (!matches!(name, b"" | b"." | b"..")).then_some((parent(path), name))
}

/// The folder of a path, as it is spelled.
pub fn parent(path: &[u8]) -> &[u8] {
    match memchr::memrchr(b'/', path) {
        None => b".",
        Some(0) => b"/",
        Some(mut slash) => {
            while slash > 1 && path[slash - 1] == b'/' {
                slash -= 1;
            }
            &path[..slash]
        }
    }
}

/// A folder's path but for slashes at its end.
pub fn without_slash(folder: &[u8]) -> &[u8] {
    let mut len = folder.len();
    while len > 1 && folder[len - 1] == b'/' {
        len -= 1;
    }
    &folder[..len]
}

/// A path, and the folders above it as they are spelled.
pub fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(path), |at| {
        let up = parent(at);
        (up.len() < at.len()).then_some(up)
    })
}

/// What a directive would say to find `path` in `folder`.
pub fn name_in<'p>(folder: &[u8], path: &'p [u8]) -> Option<&'p [u8]> {
    match folder {
        b"." if !path.starts_with(b"/") => Some(path.strip_prefix(b"./").unwrap_or(path)),
        _ => {
            let rest = path.strip_prefix(folder)?.strip_prefix(b"/")?;
            (!rest.is_empty()).then_some(rest)
        }
    }
}
