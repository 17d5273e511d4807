//! Report of a compiler's exit: what the init process of the full sandbox writes to the
//! worker, once, and how the worker reads it.

#[cfg(target_os = "linux")]
pub use linux::*;

/// Exit of the compiler itself, and what it and all children that it waited for used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompilerExit {
    /// Wait status, as wait(2) has it.
    pub status: i32,
    /// Processor time in user mode.
    pub user_us: u64,
    /// Processor time in the kernel.
    pub system_us: u64,
    /// Peak resident memory of the largest process.
    pub peak_bytes: u64,
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::io::{self, Read};
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::sync::Arc;

    use nix::libc;

    use super::CompilerExit;
    use crate::sandbox::roots::Root;

    /// Step of the sandbox's setup that failed.
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

    /// Words for each step, in the order of its number.
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

    /// Message that init writes to the worker, once.
    #[repr(C)]
    #[derive(Debug, Clone, Copy, Default)]
    pub struct Report {
        /// [`ENDED`]: `value` is a wait status. [`FAILED`]: it is a [`Step`], and `errno`
        /// says why it failed.
        pub kind: i32,
        /// Wait status or [`Step`], by `kind`.
        pub value: i32,
        /// Error number of the failed step, as errno(3) has it.
        pub errno: i32,
        /// Index of the root's mount that failed, in [`Step::File`].
        pub mount: i32,
        /// Microseconds of processor time of the compiler in user mode.
        pub user_us: u64,
        /// Microseconds of processor time of the compiler in the kernel.
        pub system_us: u64,
        /// Peak bytes of resident memory of its largest process.
        pub peak_bytes: u64,
    }

    /// [`Report::kind`]: the compiler ended.
    pub const ENDED: i32 = 1;
    /// [`Report::kind`]: the compiler was not started.
    pub const FAILED: i32 = 2;
    /// Bytes of a report.
    pub const REPORT_BYTES: usize = size_of::<Report>();

    /// The worker's handle of an init process.
    #[derive(Debug)]
    pub struct InitProcess {
        /// Reading end of the pipe that the [`Report`] comes through.
        pub report: OwnedFd,
        /// Root that init builds; its skeleton must not be removed before.
        pub root: Arc<Root>,
    }

    impl InitProcess {
        /// The report of an init that has ended; `None`: it was killed before.
        ///
        /// # Errors
        /// The compiler could not be started: why.
        pub fn exit(self) -> io::Result<Option<CompilerExit>> {
            let Some(report) = self.read() else {
                return Ok(None);
            };
            if report.kind == ENDED {
                return Ok(Some(CompilerExit {
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
            Err(with_context(
                &what,
                io::Error::from_raw_os_error(report.errno),
            ))
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

    /// `error` with what failed in front of its words.
    pub fn with_context(what: &str, error: io::Error) -> io::Error {
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
