//! Location of the task folders: in memory where there is plenty, which spares SD cards,
//! or below a folder that the operator names, or in the state folder. Other users may write
//! beside a location outside the state folder, so that nothing found there is trusted.
//! Unaware of tasks.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use hg_proto::secure::private::make_folder;
use hg_proto::wire::digest::Digest;
use nix::unistd::geteuid;

use crate::files::removal::remove_tree;
use crate::log::{self, Level};
#[cfg(target_os = "linux")]
use crate::machine::vitals;

/// File system in memory that all users of a Linux machine may write to.
const SHARED_MEMORY: &str = "/dev/shm";
/// Bytes that must be free in it.
#[cfg(target_os = "linux")]
const FREE_BYTES_MIN: u64 = 256 << 20;
/// Bytes of memory that a machine must have for task folders in it.
#[cfg(target_os = "linux")]
const MEMORY_BYTES_MIN: u64 = 1 << 30;

/// Where the operator wants the task folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scratch {
    /// In memory where there is plenty of it, else in the state folder.
    Auto,
    /// Below this folder.
    Below(PathBuf),
}

/// Makes `tasks`, which does not exist, where `scratch` says: a folder, or a link to this
/// worker's own folder elsewhere. `state` is the state folder.
///
/// # Errors
/// The file system says no, or another user's folder is in the way.
pub fn make_tasks_folder(scratch: &Scratch, state: &Path, tasks: &Path) -> io::Result<()> {
    let above = match scratch {
        Scratch::Below(folder) => {
            make_folder(folder)?;
            folder.canonicalize()?
        }
        Scratch::Auto if memory_suits(state) => SHARED_MEMORY.into(),
        Scratch::Auto => return make_folder(tasks),
    };
    let own = above.join(own_name(state));
    match claim(&own).and_then(|()| symlink(&own, tasks)) {
        Err(error) if *scratch == Scratch::Auto => {
            let own = own.display();
            log::line(Level::Warn, format_args!("{own}: {error}; not used"));
            make_folder(tasks)
        }
        other => other,
    }
}

/// Removes `tasks` and all in it, also where it is a link of [`make_tasks_folder`]; it may be
/// missing.
///
/// # Errors
/// The file system says no.
pub fn remove(tasks: &Path) -> io::Result<()> {
    let Ok(own) = fs::read_link(tasks) else {
        return remove_tree(tasks);
    };
    if is_ours(&own).is_ok() {
        remove_tree(&own)?;
    }
    fs::remove_file(tasks)
}

/// Removes what is in `tasks` and in `elsewhere`, which it linked to, and leaves `tasks`
/// empty if its state folder still exists.
///
/// # Errors
/// The file system says no.
pub fn clear(tasks: &Path, elsewhere: Option<&Path>) -> io::Result<()> {
    remove(tasks)?;
    if let Some(own) = elsewhere.filter(|own| is_ours(own).is_ok()) {
        remove_tree(own)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(tasks) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Name of the folder for `state` of this user: no other worker's, and the same at each
/// start.
fn own_name(state: &Path) -> String {
    let mut who = geteuid().to_string().into_bytes();
    who.push(b' ');
    who.extend_from_slice(state.as_os_str().as_bytes());
    format!("hg-worker-{}", &Digest::of(&who).to_hex()[..16])
}

/// Makes the folder `own`, empty. In a sticky folder nobody can replace it once it is this
/// user's, and a folder that exists already may be a trap.
fn claim(own: &Path) -> io::Result<()> {
    match fs::symlink_metadata(own) {
        Ok(_) => {
            is_ours(own)?;
            remove_tree(own)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::DirBuilder::new().mode(0o700).create(own)
}

fn is_ours(folder: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(folder)?;
    let is_private = found.mode() & 0o777 == 0o700;
    if found.is_dir() && is_private && found.uid() == geteuid().as_raw() {
        return Ok(());
    }
    Err(io::Error::other("not a private folder of this user"))
}

#[cfg(target_os = "linux")]
fn memory_suits(state: &Path) -> bool {
    let shared = Path::new(SHARED_MEMORY);
    is_in_memory(shared)
        && !is_in_memory(state)
        && vitals::disk_free_bytes(shared).is_some_and(|free| free >= FREE_BYTES_MIN)
        && vitals::memory_bytes() >= MEMORY_BYTES_MIN
}

/// Whether files in `folder` are in memory.
#[cfg(target_os = "linux")]
pub fn is_in_memory(folder: &Path) -> bool {
    use nix::sys::statfs::{TMPFS_MAGIC, statfs};
    statfs(folder).is_ok_and(|stat| stat.filesystem_type() == TMPFS_MAGIC)
}

/// Whether files in `folder` are in memory.
#[cfg(not(target_os = "linux"))]
pub fn is_in_memory(_folder: &Path) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn memory_suits(_state: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn below(folder: &Path) -> Scratch {
        Scratch::Below(folder.to_path_buf())
    }

    #[test]
    fn a_worker_finds_its_own_place_again_and_no_other() {
        let (above, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let tasks = state.path().join("tasks");
        let scratch = below(above.path());
        make_tasks_folder(&scratch, state.path(), &tasks).unwrap();
        let own = fs::read_link(&tasks).unwrap();
        assert!(own.starts_with(above.path().canonicalize().unwrap()));
        assert_eq!(fs::metadata(&own).unwrap().mode() & 0o777, 0o700);
        fs::create_dir_all(tasks.join("left/over")).unwrap();
        // A crash: what is there is taken over, and emptied.
        fs::remove_file(&tasks).unwrap();
        make_tasks_folder(&scratch, state.path(), &tasks).unwrap();
        assert_eq!(fs::read_link(&tasks).unwrap(), own);
        assert!(fs::read_dir(&tasks).unwrap().next().is_none());
        let other = state.path().join("other");
        make_tasks_folder(&scratch, &other, &state.path().join("tasks2")).unwrap();
        assert_eq!(fs::read_dir(above.path()).unwrap().count(), 2);
        remove(&tasks).unwrap();
        assert!(!own.exists() && fs::symlink_metadata(&tasks).is_err());
        remove(&tasks).unwrap();
        // The same where the state folder has gone first.
        make_tasks_folder(&scratch, state.path(), &tasks).unwrap();
        fs::remove_file(&tasks).unwrap();
        clear(&tasks, Some(&own)).unwrap();
        assert!(!own.exists() && tasks.is_dir());
        clear(&state.path().join("gone/tasks"), Some(&own)).unwrap();
    }

    #[test]
    fn what_is_not_ours_is_not_used() {
        let (above, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let victim = tempfile::tempdir().unwrap();
        fs::write(victim.path().join("precious"), "").unwrap();
        let own = above.path().join(own_name(state.path()));
        let tasks = state.path().join("tasks");
        let refused = || {
            assert!(make_tasks_folder(&below(above.path()), state.path(), &tasks).is_err());
            assert!(!tasks.exists());
        };
        symlink(victim.path(), &own).unwrap();
        refused();
        fs::remove_file(&own).unwrap();
        fs::write(&own, "").unwrap();
        refused();
        fs::remove_file(&own).unwrap();
        fs::create_dir(&own).unwrap();
        fs::set_permissions(&own, PermissionsExt::from_mode(0o777)).unwrap();
        refused();
        // Nor is a link followed to what is not ours.
        let open = above.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, PermissionsExt::from_mode(0o755)).unwrap();
        fs::write(open.join("precious"), "").unwrap();
        symlink(&open, &tasks).unwrap();
        remove(&tasks).unwrap();
        assert!(open.join("precious").exists() && victim.path().join("precious").exists());
    }
}
