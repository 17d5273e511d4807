//! A control group of a test's own (Linux, cgroups(7)), version 1 or 2.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::unistd::Pid;

const ROOT: &str = "/sys/fs/cgroup";

/// Empty and gone when dropped, if its processes have ended.
pub struct Cgroup {
    folder: PathBuf,
    /// Of version 2.
    pub unified: bool,
}

impl Cgroup {
    /// A new group in the hierarchy of `controller` (`memory`, `cpu`).
    ///
    /// # Errors
    /// Words: why there can be none here.
    pub fn make(controller: &str) -> Result<Cgroup, String> {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let unified = Path::new(ROOT).join("cgroup.controllers").exists();
        let root = match unified {
            true => PathBuf::from(ROOT),
            false => Path::new(ROOT).join(controller),
        };
        if unified {
            let enabled = root.join("cgroup.subtree_control");
            fs::write(&enabled, format!("+{controller}"))
                .map_err(|error| format!("{}: {error}", enabled.display()))?;
        }
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = root.join(format!("hg-test-{}-{number}", std::process::id()));
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Cgroup { folder, unified })
    }

    /// Lets the group use `percent` of one core.
    ///
    /// # Errors
    /// Words: the system refuses.
    pub fn limit_cpu(&self, percent: u32) -> Result<(), String> {
        // In microseconds; short, so that what runs is slow and does not stutter.
        let (period, quota) = (50_000, percent * 500);
        match self.unified {
            true => self.set("cpu.max", &format!("{quota} {period}")),
            false => {
                self.set("cpu.cfs_period_us", &period.to_string())?;
                self.set("cpu.cfs_quota_us", &quota.to_string())
            }
        }
    }

    /// Lets the group use `bytes` of memory, and no swap where that can be said.
    ///
    /// # Errors
    /// Words: the system refuses.
    pub fn limit_memory(&self, bytes: u64) -> Result<(), String> {
        let bytes = bytes.to_string();
        match self.unified {
            true => {
                self.set("memory.max", &bytes)?;
                // There may be no account of swap.
                let _ = self.set("memory.swap.max", "0");
            }
            false => {
                self.set("memory.limit_in_bytes", &bytes)?;
                let _ = self.set("memory.memsw.limit_in_bytes", &bytes);
            }
        }
        Ok(())
    }

    /// Processes of the group that the kernel has killed for want of memory.
    pub fn oom_kills(&self) -> u64 {
        let name = match self.unified {
            true => "memory.events",
            false => "memory.oom_control",
        };
        let text = fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// Moves a process, and with it all that it will start.
    ///
    /// # Errors
    /// Words: the system refuses.
    pub fn add(&self, pid: Pid) -> Result<(), String> {
        self.set("cgroup.procs", &pid.to_string())
    }

    fn set(&self, name: &str, value: &str) -> Result<(), String> {
        let file = self.folder.join(name);
        fs::write(&file, value).map_err(|error| format!("{}: {error}", file.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.folder) {
            eprintln!("{}: {error}", self.folder.display());
        }
    }
}
