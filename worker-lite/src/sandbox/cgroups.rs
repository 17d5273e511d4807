//! A control group for each compile, which bounds its memory and its processes as a whole.
//! Only where the worker's own group was delegated to it (Linux, cgroup v2; systemd:
//! `Delegate=yes`). Not pure: writes below /sys/fs/cgroup.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::unistd::Pid;

/// Mount point of control groups, by convention.
const MOUNT: &str = "/sys/fs/cgroup";
/// Extended attributes by which systemd marks a delegated group (systemd,
/// CGROUP_DELEGATION.md); the second can be read by root alone.
#[cfg(target_os = "linux")]
const DELEGATION_MARKS: [&std::ffi::CStr; 2] = [c"user.delegate", c"trusted.delegate"];
/// Processes and threads of one compile, where they can be counted for it alone.
pub(crate) const PROCESSES_MAX: u64 = 64;
/// Controllers that the worker's group must offer.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];
/// Child group of the worker itself: a group that has children with controllers may have
/// no processes of its own.
const OWN: &str = "worker";
const PREFIX: &str = "compile-";

/// The worker's own control group, of which each compile gets a child.
#[derive(Debug)]
pub struct CompileCgroups {
    folder: PathBuf,
    made: AtomicU64,
}

/// Control group of one compile; the processes left in it are killed when this is dropped.
#[derive(Debug)]
pub struct CompileCgroup {
    folder: PathBuf,
}

impl CompileCgroups {
    /// Takes this process's control group over for compiles if it was delegated to the
    /// worker; `None`: it was not. No other process of the worker may be in it yet.
    ///
    /// # Errors
    /// It was delegated, and can't be used.
    pub fn of_this_process() -> io::Result<Option<Self>> {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        match own_group(&groups, Path::new(MOUNT)) {
            Some(folder) if is_delegated(&folder) => Self::take_over(folder).map(Some),
            _ => Ok(None),
        }
    }

    fn take_over(folder: PathBuf) -> io::Result<Self> {
        let has = fs::read_to_string(folder.join("cgroup.controllers"))?;
        for wanted in CONTROLLERS {
            if !has.split_whitespace().any(|name| name == wanted) {
                return Err(io::Error::other(format!("no controller {wanted}")));
            }
        }
        // A crash may have left some; those that are not empty stay.
        for entry in fs::read_dir(&folder)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                let _ = fs::remove_dir(entry.path());
            }
        }
        let own = folder.join(OWN);
        create_if_missing(&own)?;
        fs::write(own.join("cgroup.procs"), Pid::this().to_string())?;
        let enable = CONTROLLERS.map(|name| format!("+{name}")).join(" ");
        fs::write(folder.join("cgroup.subtree_control"), enable)?;
        Ok(CompileCgroups {
            folder,
            made: AtomicU64::new(0),
        })
    }

    /// Creates the group of one compile, bounded in bytes of memory and in processes.
    ///
    /// # Errors
    /// The kernel says no.
    pub fn create(&self, memory_bytes_max: u64, processes_max: u64) -> io::Result<CompileCgroup> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let group = CompileCgroup {
            folder: self.folder.join(format!("{PREFIX}{number}")),
        };
        create_if_missing(&group.folder)?;
        let memory = match memory_bytes_max {
            u64::MAX => "max".to_owned(),
            bytes => bytes.to_string(),
        };
        fs::write(group.folder.join("memory.max"), memory)?;
        fs::write(group.folder.join("pids.max"), processes_max.to_string())?;
        // There may be no account of swap.
        let _ = fs::write(group.folder.join("memory.swap.max"), "0");
        Ok(group)
    }
}

impl CompileCgroup {
    /// Moves a process into the group, and with it all that it will start.
    ///
    /// # Errors
    /// The kernel says no.
    pub fn add(&self, pid: Pid) -> io::Result<()> {
        fs::write(self.folder.join("cgroup.procs"), pid.to_string())
    }
}

impl Drop for CompileCgroup {
    fn drop(&mut self) {
        // Linux 5.14; they were killed by other means before.
        let _ = fs::write(self.folder.join("cgroup.kill"), "1");
        // One that dies a little later leaves an empty group to the next start.
        let _ = fs::remove_dir(&self.folder);
    }
}

fn create_if_missing(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Folder of this process's control group in version 2; `groups` is the text of
/// /proc/self/cgroup (cgroups(7)).
fn own_group(groups: &str, mount: &Path) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let folder = mount.join(path);
    folder.join("cgroup.procs").exists().then_some(folder)
}

#[cfg(target_os = "linux")]
fn is_delegated(folder: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Ok(path) = std::ffi::CString::new(folder.as_os_str().as_bytes()) else {
        return false;
    };
    DELEGATION_MARKS.iter().any(|mark| {
        let mut value = [0u8; 2];
        // SAFETY: at most as many bytes are written as there is room for.
        let len = unsafe {
            nix::libc::getxattr(
                path.as_ptr(),
                mark.as_ptr(),
                value.as_mut_ptr().cast(),
                value.len(),
            )
        };
        len == 1 && value[0] == b'1'
    })
}

#[cfg(not(target_os = "linux"))]
fn is_delegated(_folder: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compile_gets_a_bounded_group_of_its_own() {
        let mount = tempfile::tempdir().unwrap();
        let service = mount.path().join("system.slice/worker.service");
        fs::create_dir_all(service.join("compile-7")).unwrap();
        fs::write(service.join("cgroup.procs"), "").unwrap();
        let text = "1:name=systemd:/x\n0::/system.slice/worker.service\n";
        assert_eq!(own_group(text, mount.path()), Some(service.clone()));
        assert_eq!(own_group("0::/gone\n", mount.path()), None);
        assert!(!is_delegated(&service));
        fs::write(service.join("cgroup.controllers"), "cpu memory\n").unwrap();
        assert!(CompileCgroups::take_over(service.clone()).is_err());
        fs::write(service.join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        let groups = CompileCgroups::take_over(service.clone()).unwrap();
        let read = |name: &str| fs::read_to_string(service.join(name)).unwrap();
        assert_eq!(read("cgroup.subtree_control"), "+memory +pids");
        assert_eq!(read("worker/cgroup.procs"), Pid::this().to_string());
        assert!(!service.join("compile-7").exists());
        let group = groups.create(1000, 64).unwrap();
        group.add(Pid::from_raw(77)).unwrap();
        assert_eq!(read("compile-0/memory.max"), "1000");
        assert_eq!(read("compile-0/pids.max"), "64");
        assert_eq!(read("compile-0/cgroup.procs"), "77");
        let second = groups.create(u64::MAX, 64).unwrap();
        assert_eq!(read("compile-1/memory.max"), "max");
        drop((group, second));
    }
}
