//! The coordinator's state folder: its user's alone, and of one coordinator at a time.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use hg_proto::secure::credentials::write_private;
use hg_proto::secure::private::{self, Lock};
use nix::fcntl::Flock;
use serde::de::DeserializeOwned;

use crate::bounds::LEARNED_BYTES_MAX;

/// Makes it if it is missing.
///
/// # Errors
/// In words: the file system says no, or others could have written there.
pub fn open(state: &Path) -> Result<(), String> {
    private::open_folder(state).map_err(|why| format!("--state {why}"))
}

/// [`open`]s it for the one coordinator that runs with it, until the lock is dropped.
///
/// # Errors
/// As [`open`], or another one runs with it.
pub fn take(state: &Path) -> Result<Flock<File>, String> {
    open(state)?;
    let shown = state.display();
    match private::lock_folder(state).map_err(|error| format!("--state {shown}: {error}"))? {
        Lock::Ours(lock) => Ok(lock),
        Lock::Taken(process) => {
            let process = process.map_or_else(String::new, |number| format!(" (process {number})"));
            Err(format!(
                "--state {shown}: another coordinator runs with it{process}; give each its own \
                 --state"
            ))
        }
    }
}

/// What the file `name` in it holds; `None`: there is none.
///
/// # Errors
/// It is larger than [`LEARNED_BYTES_MAX`], or as the file system says.
pub fn read(state: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let path = state.join(name);
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(meta) if meta.len() > LEARNED_BYTES_MAX => Err(io::Error::other("too large")),
        Ok(_) => fs::read(&path).map(Some),
    }
}

/// What the JSON file `name` in it says; `None`: there is none.
///
/// # Errors
/// In words: it is there and can't be read.
pub fn read_json<T: DeserializeOwned>(state: &Path, name: &str) -> Result<Option<T>, String> {
    let read = || {
        let bytes = read(state, name)?;
        let said = bytes.map(|bytes| serde_json::from_slice(&bytes));
        said.transpose().map_err(io::Error::from)
    };
    read().map_err(|error| format!("{}: {error}", state.join(name).display()))
}

/// Puts `content` at `name` in it; a reader sees the old file or the new one.
///
/// # Errors
/// As the file system says; the old file is still there.
pub fn write(state: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    write_private(&state.join(name), content)
}
