//! The worker's state folder: its lock, the task folders in it, and the leftovers of a
//! crash. Unaware of what a task does in its folder.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use hg_proto::secure::credentials::write_private;
use hg_proto::secure::private::{self, Lock};
use hg_proto::wire::digest::Hasher;
use nix::fcntl::Flock;

use crate::files::scratch::{self, Scratch};

/// Environment variable that marks every process of a compile, so that the next start of
/// the worker finds those that a crash left running.
pub const TASK_VARIABLE: &str = "HG_TASK";

/// Looks for leftovers at most: each finds processes that were started since the one before.
const KILL_ROUNDS_MAX: usize = 16;
/// Time that the watchdog of a worker that died may take to release the folder.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);
/// Time between two attempts to lock.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// The state folder, locked by this process.
#[derive(Debug)]
pub struct StateFolder {
    /// Absolute path, links resolved.
    pub path: PathBuf,
    _lock: Flock<File>,
}

/// Why the state folder can't be opened.
#[derive(Debug)]
pub enum StateError {
    /// Another worker has locked it; the number of its process, if that is known.
    Taken(PathBuf, Option<u32>),
    /// Other users could have written to it: in words.
    NotPrivate(String),
    /// The task folders can't be made below the folder that the operator names.
    Scratch(PathBuf, io::Error),
    /// The file system says no.
    Io(PathBuf, io::Error),
}

impl std::fmt::Display for StateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StateError::Taken(path, process) => {
                let path = path.display();
                write!(f, "{path}: another worker runs with this state")?;
                if let Some(process) = process {
                    write!(f, " (process {process})")?;
                }
                f.write_str("; give each its own --state")
            }
            StateError::NotPrivate(why) => write!(f, "--state {why}"),
            StateError::Scratch(path, error) => {
                write!(f, "--scratch {}: {error}", path.display())
            }
            StateError::Io(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for StateError {}

impl StateFolder {
    /// Makes the folder if it is missing, locks it, clears what a crash left, and makes the
    /// folder of task folders where `scratch` says.
    ///
    /// # Errors
    /// Another worker has locked it, other users could have written to it, or the file
    /// system says no.
    pub fn open(folder: &Path, scratch: &Scratch) -> Result<Self, StateError> {
        let at = |error| StateError::Io(folder.to_path_buf(), error);
        private::open_folder(folder).map_err(StateError::NotPrivate)?;
        let folder = folder.canonicalize().map_err(at)?;
        let until = Instant::now() + LOCK_WAIT_MAX;
        let lock = loop {
            let lock = private::lock_folder(&folder);
            match lock.map_err(|error| StateError::Io(folder.clone(), error))? {
                Lock::Ours(lock) => break lock,
                Lock::Taken(_) if Instant::now() < until => thread::sleep(LOCK_RETRY),
                Lock::Taken(process) => return Err(StateError::Taken(folder, process)),
            }
        };
        let state = StateFolder {
            path: folder,
            _lock: lock,
        };
        let tasks = state.tasks();
        // Processes first: they would go on writing to the folders.
        kill_leftovers(&tasks);
        let at_tasks = |error| StateError::Io(tasks.clone(), error);
        scratch::remove(&tasks).map_err(at_tasks)?;
        scratch::make_tasks_folder(scratch, &state.path, &tasks).map_err(
            |error| match scratch {
                Scratch::Below(folder) => StateError::Scratch(folder.clone(), error),
                Scratch::Auto => at_tasks(error),
            },
        )?;
        Ok(state)
    }

    /// Folder of the task folders; a link if they lie elsewhere.
    pub fn tasks(&self) -> PathBuf {
        self.path.join("tasks")
    }

    /// Folder of memos about compilers.
    pub fn toolchains(&self) -> PathBuf {
        self.path.join("toolchains")
    }

    /// Writes `line` to `endpoints.json`, whole or not at all.
    ///
    /// # Errors
    /// The file system says no.
    pub fn write_endpoints(&self, line: &str) -> io::Result<()> {
        write_private(&self.path.join("endpoints.json"), line.as_bytes())
    }
}

/// Value of [`TASK_VARIABLE`] for tasks under `tasks`: the same at the next start, and no
/// path of this machine, which is none of a compile's business.
pub fn task_mark(tasks: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;

    let state = tasks.parent().and_then(|state| state.canonicalize().ok());
    let state = state.unwrap_or_default();
    // Device and inode, so that nobody can guess the path.
    let place = fs::metadata(&state).map_or([0; 2], |meta| [meta.dev(), meta.ino()]);
    let mut hasher = Hasher::new();
    hasher.field(b"hybridgrid task mark");
    hasher.field(state.as_os_str().as_bytes());
    hasher.field(place.map(u64::to_be_bytes).as_flattened());
    hasher.finish().to_hex()[..32].to_owned()
}

/// Kills processes of this user that belong to a task under `tasks`, and those
/// that they start meanwhile.
pub fn kill_leftovers(tasks: &Path) {
    for round in 0..KILL_ROUNDS_MAX {
        let found = kill_once(tasks);
        if found == 0 {
            break;
        }
        if round == 0 {
            crate::log::line(
                crate::log::Level::Warn,
                format_args!("killing {found} processes, left over from a crash"),
            );
        }
    }
}

/// Kills what one look at /proc finds. Gives how many processes that were.
#[cfg(target_os = "linux")]
fn kill_once(tasks: &Path) -> usize {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    let wanted = format!("{TASK_VARIABLE}={}", task_mark(tasks)).into_bytes();
    let Ok(entries) = fs::read_dir("/proc") else {
        return 0;
    };
    let mut found = 0;
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        // Other users' processes can't be read, and ended ones are gone.
        let Ok(environment) = fs::read(entry.path().join("environ")) else {
            continue;
        };
        if environment
            .split(|&byte| byte == 0)
            .any(|variable| variable == wanted)
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            found += 1;
        }
    }
    found
}

#[cfg(not(target_os = "linux"))]
fn kill_once(_tasks: &Path) -> usize {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_scratch_folder_is_said_of_it() {
        let folder = tempfile::tempdir().unwrap();
        // Nobody makes folders there.
        let scratch = Scratch::Below("/proc/nope".into());
        let error = StateFolder::open(&folder.path().join("state"), &scratch).unwrap_err();
        let words = error.to_string();
        assert!(words.starts_with("--scratch /proc/nope: "), "{words}");
    }
}
