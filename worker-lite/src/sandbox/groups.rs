//! A control group for each compile, where whoever started the worker has given it
//! its own group to divide (Linux, cgroup v2; systemd: `Delegate=yes`), and only
//! there: bounds the memory and the processes of a compile as a whole. Not pure:
//! writes below /sys/fs/cgroup.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::unistd::Pid;

/// Where control groups are by convention.
const MOUNT: &str = "/sys/fs/cgroup";
/// What systemd marks a group with that it has given away (systemd,
/// CGROUP_DELEGATION.md); the second is for root's eyes.
#[cfg(target_os = "linux")]
const MARKS: [&std::ffi::CStr; 2] = [c"user.delegate", c"trusted.delegate"];
/// Processes and threads of one compile, where a compile's can be counted.
pub(crate) const PROCESSES_MAX: u64 = 64;
/// What is wanted of it.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];
/// The worker itself moves there: a group that is divided has no processes.
const OWN: &str = "worker";
const PREFIX: &str = "compile-";

/// The worker's group, divided.
#[derive(Debug)]
pub struct Groups {
    folder: PathBuf,
    made: AtomicU64,
}

/// The group of one compile; what is left in it dies when this is dropped.
#[derive(Debug)]
pub struct Group {
    folder: PathBuf,
}

impl Groups {
    /// Divides this process's group if it was given away; `None`: it was not. No
    /// other process of ours may be there yet.
    ///
    /// # Errors
    /// It was, and can't be divided.
    pub fn take() -> io::Result<Option<Self>> {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        match own_group(&groups, Path::new(MOUNT)) {
            Some(folder) if is_given_away(&folder) => Self::divide(folder).map(Some),
            _ => Ok(None),
        }
    }

    fn divide(folder: PathBuf) -> io::Result<Self> {
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
        make(&own)?;
        fs::write(own.join("cgroup.procs"), Pid::this().to_string())?;
        let enable = CONTROLLERS.map(|name| format!("+{name}")).join(" ");
        fs::write(folder.join("cgroup.subtree_control"), enable)?;
        Ok(Groups {
            folder,
            made: AtomicU64::new(0),
        })
    }

    /// A group that may use so many bytes of memory and processes.
    ///
    /// # Errors
    /// The kernel says no.
    pub fn group(&self, memory_bytes_max: u64, processes_max: u64) -> io::Result<Group> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let group = Group {
            folder: self.folder.join(format!("{PREFIX}{number}")),
        };
        make(&group.folder)?;
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

impl Group {
    /// Moves a process there, and with it all that it will start.
    ///
    /// # Errors
    /// The kernel says no.
    pub fn add(&self, pid: Pid) -> io::Result<()> {
        fs::write(self.folder.join("cgroup.procs"), pid.to_string())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Linux 5.14; they were killed by other means before.
        let _ = fs::write(self.folder.join("cgroup.kill"), "1");
        // One that dies a little later leaves an empty group to the next start.
        let _ = fs::remove_dir(&self.folder);
    }
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// `groups` is the text of /proc/self/cgroup (cgroups(7)).
fn own_group(groups: &str, mount: &Path) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let folder = mount.join(path);
    folder.join("cgroup.procs").exists().then_some(folder)
}

#[cfg(target_os = "linux")]
fn is_given_away(folder: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Ok(path) = std::ffi::CString::new(folder.as_os_str().as_bytes()) else {
        return false;
    };
    MARKS.iter().any(|mark| {
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
fn is_given_away(_folder: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_divided_and_bounded() {
        let mount = tempfile::tempdir().unwrap();
        let service = mount.path().join("system.slice/worker.service");
        fs::create_dir_all(service.join("compile-7")).unwrap();
        fs::write(service.join("cgroup.procs"), "").unwrap();
        let text = "1:name=systemd:/x\n0::/system.slice/worker.service\n";
        assert_eq!(own_group(text, mount.path()), Some(service.clone()));
        assert_eq!(own_group("0::/gone\n", mount.path()), None);
        assert!(!is_given_away(&service));
        fs::write(service.join("cgroup.controllers"), "cpu memory\n").unwrap();
        assert!(Groups::divide(service.clone()).is_err());
        fs::write(service.join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        let groups = Groups::divide(service.clone()).unwrap();
        let read = |name: &str| fs::read_to_string(service.join(name)).unwrap();
        assert_eq!(read("cgroup.subtree_control"), "+memory +pids");
        assert_eq!(read("worker/cgroup.procs"), Pid::this().to_string());
        assert!(!service.join("compile-7").exists());
        let group = groups.group(1000, 64).unwrap();
        group.add(Pid::from_raw(77)).unwrap();
        assert_eq!(read("compile-0/memory.max"), "1000");
        assert_eq!(read("compile-0/pids.max"), "64");
        assert_eq!(read("compile-0/cgroup.procs"), "77");
        let second = groups.group(u64::MAX, 64).unwrap();
        assert_eq!(read("compile-1/memory.max"), "max");
        drop((group, second));
    }
}
