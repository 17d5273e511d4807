//! State of the services that packages install: a folder that root has made for a user of
//! the service's own. Commands of root's find it, and work there as that user, so that
//! what they write is the service's. With I/O.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

/// Packages' services have their state folders here.
const FOLDER: &str = "/var/lib/hybridgrid";

/// The state folder of the service `name` (`coord` or `worker`), for root's commands: where
/// a package has made it. `None`: it has not, or this is not root.
pub fn state_folder(name: &str) -> Option<PathBuf> {
    let folder = Path::new(FOLDER).join(name);
    (geteuid().is_root() && folder.is_dir()).then_some(folder)
}

/// Goes on as the user whose `folder` is, for good, where root has made it for another one:
/// where all above it is root's, so that no user can have put it there. What else `folder`
/// is is left to those who open it.
///
/// # Errors
/// In words: the system does not let us.
pub fn act_for_owner(folder: &Path) -> Result<(), String> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let Ok(folder) = fs::canonicalize(folder) else {
        // It is to be made, and then root's.
        return Ok(());
    };
    let Ok(found) = fs::symlink_metadata(&folder) else {
        return Ok(());
    };
    let is_roots = |above: &Path| {
        fs::symlink_metadata(above).is_ok_and(|found| found.uid() == 0 && found.mode() & 0o022 == 0)
    };
    if found.uid() == 0 || !folder.ancestors().skip(1).all(is_roots) {
        return Ok(());
    }
    become_user(found.uid(), found.gid())
        .map_err(|errno| format!("{}: can't be its owner: {errno}", folder.display()))
}

#[cfg(target_os = "linux")]
fn become_user(user: u32, group: u32) -> nix::Result<()> {
    use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
    setgroups(&[])?;
    setgid(Gid::from_raw(group))?;
    setuid(Uid::from_raw(user))
}

/// Packages are Linux's: elsewhere services are the user's own.
#[cfg(not(target_os = "linux"))]
fn become_user(_: u32, _: u32) -> nix::Result<()> {
    Ok(())
}
