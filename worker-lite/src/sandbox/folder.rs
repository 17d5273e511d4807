//! The private folder of one task, and what a compile left in it. Unaware of what
//! isolates the compile.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hg_proto::secure::private::make_folder;

use crate::files::removal::remove_tree;
use crate::files::state::task_mark;
use crate::log::{self, Level};

/// Folders of one task that are looked through after its compile: inputs and outputs are
/// in fewer, and a compiler makes none.
const FOLDERS_MAX: usize = 4096;

/// The private folder of one task; removed when dropped.
#[derive(Debug)]
pub struct TaskFolder {
    path: PathBuf,
    /// Value of [`crate::files::state::TASK_VARIABLE`], by which the next start of the worker
    /// recognises the task's processes.
    pub(crate) mark: String,
}

impl TaskFolder {
    /// Makes `name` under `tasks`, with `root`, `home` and `tmp` in it.
    ///
    /// # Errors
    /// The file system says no.
    pub fn create(tasks: &Path, name: &str) -> io::Result<Self> {
        let folder = TaskFolder {
            path: tasks.canonicalize()?.join(name),
            mark: task_mark(tasks),
        };
        for part in [
            folder.root(),
            folder.path.join("home"),
            folder.path.join("tmp"),
        ] {
            make_folder(&part)?;
        }
        Ok(folder)
    }

    /// The folder itself, with all that belongs to the task.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The task's folder in the sense of `task.proto`: inputs and outputs lie in it.
    pub fn root(&self) -> PathBuf {
        self.path.join("root")
    }

    /// Makes `user` the owner of all that is in it now.
    pub(crate) fn give_to(&self, user: u32) -> io::Result<()> {
        let mut left = vec![self.path.clone()];
        while let Some(path) = left.pop() {
            // No link is followed, though none should be there yet.
            std::os::unix::fs::lchown(&path, Some(user), Some(user))?;
            if fs::symlink_metadata(&path)?.is_dir() {
                for entry in fs::read_dir(&path)? {
                    left.push(entry?.path());
                }
            }
        }
        Ok(())
    }
}

impl Drop for TaskFolder {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.path) {
            let path = self.path.display();
            log::line(Level::Warn, format_args!("{path}: {error}"));
        }
    }
}

/// Files below `root` that are not `known`, at most `names_max` of them. Both `known` and
/// the result have paths relative to `directory` where they lie in it, else to `root`; no
/// path outside `directory` is known.
///
/// # Errors
/// A folder can't be read.
pub fn unexpected(
    root: &Path,
    directory: &Path,
    known: impl Fn(&Path) -> bool,
    names_max: usize,
) -> io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        seen += 1;
        if seen > FOLDERS_MAX {
            return Err(io::Error::other("too many folders"));
        }
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let path = entry.path();
            // The entry's own type: links are not followed.
            if entry.file_type()?.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path
                .strip_prefix(directory)
                .or_else(|_| path.strip_prefix(root))
                .unwrap_or(&path);
            if path.starts_with(directory) && known(name) {
                continue;
            }
            names.push(name.to_path_buf());
            if names.len() == names_max {
                return Ok(names);
            }
        }
    }
    names.sort();
    Ok(names)
}
