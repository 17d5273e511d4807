//! The coordinator's state folder: its user's alone.

use std::io;
use std::path::Path;

use hg_proto::credentials::write_private;
use hg_proto::private;

/// Makes it if it is missing.
///
/// # Errors
/// In words: the file system says no, or others could have written there.
pub fn open(state: &Path) -> Result<(), String> {
    private::open_folder(state).map_err(|why| format!("--state {why}"))
}

/// Puts `content` at `name` in it; a reader sees the old file or the new one.
///
/// # Errors
/// As the file system says; the old file is still there.
pub fn write(state: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    write_private(&state.join(name), content)
}
