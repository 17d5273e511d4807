//! What workers remember of this machine's compilers, handed on from a worker of this process
//! to those that are started after it, as if they had run in that state folder before. To
//! read and ask all compilers takes more than half of what a worker's start does, and most
//! tests start some workers. The first worker of each process starts without.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The folder of memos in a worker's state folder.
const FOLDER: &str = "toolchains";

/// Content of each memo by its name.
static MEMOS: Mutex<BTreeMap<OsString, Vec<u8>>> = Mutex::new(BTreeMap::new());

/// Takes over what the worker of `state` remembers, unless another one's is held already.
pub fn take(state: &Path) {
    let mut memos = MEMOS.lock().unwrap_or_else(PoisonError::into_inner);
    if memos.is_empty() {
        // Without it the next worker asks anew.
        *memos = read(&state.join(FOLDER)).unwrap_or_default();
    }
}

fn read(folder: &Path) -> io::Result<BTreeMap<OsString, Vec<u8>>> {
    let entries = fs::read_dir(folder)?;
    entries
        .map(|entry| entry.and_then(|entry| Ok((entry.file_name(), fs::read(entry.path())?))))
        .collect()
}

/// Gives what is remembered to the worker that will have `state`, which is not there yet.
///
/// # Errors
/// The file system says no.
pub fn plant(state: &Path) -> io::Result<()> {
    let memos = MEMOS.lock().unwrap_or_else(PoisonError::into_inner);
    if memos.is_empty() || state.exists() {
        return Ok(());
    }
    let folder = state.join(FOLDER);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)?;
    for (name, content) in &*memos {
        let mut options = File::options();
        let file = options.write(true).create_new(true).mode(0o600);
        file.open(folder.join(name))?.write_all(content)?;
    }
    Ok(())
}
