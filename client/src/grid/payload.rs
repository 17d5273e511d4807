//! The bytes of an input, for when a worker asks for them.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use hg_proto::wire::digest::Digest;

use crate::includes::stat;
use crate::os;

/// What an input holds.
#[derive(Debug)]
pub enum Payload {
    /// Bytes in memory.
    Held(Bytes),
    /// Content of a file that was not read.
    File {
        /// The file's path.
        path: PathBuf,
        /// Length in bytes.
        size: u64,
        /// Digest of what the file is known to hold.
        digest: Digest,
    },
}

impl Payload {
    /// Length in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Payload::Held(bytes) => bytes.len() as u64,
            Payload::File { size, .. } => *size,
        }
    }

    /// The whole content.
    ///
    /// # Errors
    /// The file can't be read, or holds something else now.
    pub fn bytes(&self) -> io::Result<Bytes> {
        let (path, wanted) = match self {
            Payload::Held(bytes) => return Ok(bytes.clone()),
            Payload::File { path, digest, .. } => (path, digest),
        };
        let named = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let (bytes, _) = stat::read(os::bytes(path.as_os_str()))
            .map_err(|error| io::Error::new(error.kind(), named(&error)))?;
        match Digest::of(&bytes) == *wanted {
            true => Ok(bytes.into()),
            false => Err(io::Error::other(named(&"it was written meanwhile"))),
        }
    }
}
