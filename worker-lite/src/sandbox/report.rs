//! How a compiler ended: what init of the full sandbox tells the worker, once, and how the
//! worker reads it.

#[cfg(target_os = "linux")]
pub use linux::*;

/// How the compiler itself ended, and what it and all that it waited for used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// As wait(2) has it.
    pub status: i32,
    /// Processor time.
    pub user_us: u64,
    /// Processor time of the kernel for it.
    pub system_us: u64,
    /// Resident memory of the largest process.
    pub peak_bytes: u64,
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::io::{self, Read};
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::sync::Arc;

    use nix::libc;

    use super::Ended;
    use crate::sandbox::roots::Root;

    /// What went wrong in the child, by number.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[repr(i32)]
    pub enum Step {
        Descriptors,
        Limits,
        Mounts,
        Root,
        File,
        Task,
        Pivot,
        Folder,
        User,
        Capabilities,
        Parent,
        Filter,
        Fork,
        Exec,
    }

    /// What each step is called.
    pub const STEPS: [(Step, &str); 14] = [
        (Step::Descriptors, "its descriptors"),
        (Step::Limits, "its limits"),
        (Step::Mounts, "mounts of its own"),
        (Step::Root, "mounting its root"),
        (Step::File, "mounting"),
        (Step::Task, "mounting the task's folder"),
        (Step::Pivot, "changing to its root"),
        (Step::Folder, "entering the task's folder"),
        (Step::User, "its user"),
        (Step::Capabilities, "dropping capabilities"),
        (Step::Parent, "its end with the worker's"),
        (Step::Filter, "the filter of system calls"),
        (Step::Fork, "forking"),
        (Step::Exec, "running the compiler"),
    ];

    /// What init tells the worker, once.
    #[repr(C)]
    #[derive(Debug, Clone, Copy, Default)]
    pub struct Report {
        /// 1: `value` is a wait status; 2: it is a [`Step`], and `errno` why.
        pub kind: i32,
        /// See `kind`.
        pub value: i32,
        /// As errno(3).
        pub errno: i32,
        /// Which of the mounts.
        pub mount: i32,
        /// Microseconds of the compiler in its own code.
        pub user_us: u64,
        /// Microseconds of the compiler in the kernel's.
        pub system_us: u64,
        /// Bytes of memory that its largest process had.
        pub peak_bytes: u64,
    }

    /// [`Report::kind`]: it ended.
    pub const ENDED: i32 = 1;
    /// [`Report::kind`]: it was not started.
    pub const FAILED: i32 = 2;
    /// Bytes of a report.
    pub const REPORT_BYTES: usize = size_of::<Report>();

    /// The worker's end of an init.
    #[derive(Debug)]
    pub struct Init {
        pub report: OwnedFd,
        /// Must stay while init works on it.
        pub root: Arc<Root>,
    }

    impl Init {
        /// What init said before it ended, now that it has; `None`: it was killed.
        ///
        /// # Errors
        /// The compiler could not be started: why.
        pub fn ended(self) -> io::Result<Option<Ended>> {
            let Some(report) = self.read() else {
                return Ok(None);
            };
            if report.kind == ENDED {
                return Ok(Some(Ended {
                    status: report.value,
                    user_us: report.user_us,
                    system_us: report.system_us,
                    peak_bytes: report.peak_bytes,
                }));
            }
            let step = STEPS.iter().find(|(step, _)| *step as i32 == report.value);
            let mut what = step.map_or("?", |(_, words)| words).to_owned();
            if report.value == Step::File as i32
                && let Some(mount) = self.root.mounts.get(report.mount as usize)
            {
                what = format!("{what} {}", mount.source.to_string_lossy());
            }
            Err(said(&what, io::Error::from_raw_os_error(report.errno)))
        }

        fn read(&self) -> Option<Report> {
            // Nobody writes any more; an empty pipe must not hold us up.
            // SAFETY: plain system calls on a descriptor that is ours.
            unsafe {
                let flags = libc::fcntl(self.report.as_raw_fd(), libc::F_GETFL);
                libc::fcntl(
                    self.report.as_raw_fd(),
                    libc::F_SETFL,
                    flags | libc::O_NONBLOCK,
                );
            }
            let mut bytes = [0; REPORT_BYTES];
            let mut file = fs::File::from(self.report.try_clone().ok()?);
            file.read_exact(&mut bytes).ok()?;
            // SAFETY: plain numbers, of which every value is valid.
            Some(unsafe { std::mem::transmute::<[u8; REPORT_BYTES], Report>(bytes) })
        }
    }

    /// `error`, and what it happened to.
    pub fn said(what: &str, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{what}: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_its_words() {
        for (at, (step, words)) in STEPS.iter().enumerate() {
            assert_eq!(*step as usize, at);
            assert!(!words.is_empty());
        }
    }
}
