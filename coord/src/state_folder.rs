//! The coordinator's state folder: its user's alone, and of one coordinator at a time.

use std::fs::File;
use std::io;
use std::path::Path;

use hg_proto::secure::credentials::write_private;
use hg_proto::secure::private::{self, Lock};
use nix::fcntl::Flock;

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

/// Puts `content` at `name` in it; a reader sees the old file or the new one.
///
/// # Errors
/// As the file system says; the old file is still there.
pub fn write(state: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    write_private(&state.join(name), content)
}
