//! Runs a compiler and watches it until no process of it is left: output, deadline,
//! cancellation, usage. Unaware of the link, of blobs and of what the outputs are.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use hg_proto::v1::{Failure, Usage, failure::Code};
use hg_proto::wire::limits::STDIO_BYTES_MAX;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::inputs::validate::failure;
use crate::machine::usage;
use crate::sandbox::facade::{Launch, Sandbox, Started};
use crate::sandbox::totals::{Excess, Totals};
use crate::tasks::control::Control;

/// Milliseconds between two looks at the compiler where the kernel has no pidfd.
const POLL_MS: u16 = 10;
/// Milliseconds that a pipe may stay open after the compiler's process group has ended: only
/// a process that left the group can hold it.
const PIPES_MS_MAX: u64 = 1_000;
/// Time until a compile is first reported to run.
const FIRST_PROGRESS: Duration = Duration::from_millis(100);
/// Time between two reports that a compile runs.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// Time between two looks at what the compile uses as a whole; most end before the first.
const TOTALS_EVERY: Duration = Duration::from_millis(200);
/// Bytes read from a pipe at a time.
const READ_BYTES: usize = 16 << 10;

/// Exit of a compiler that ended by itself, and what it said.
#[derive(Debug)]
pub struct CompilerOutput {
    /// Exit code or signal of the driver.
    pub status: ExitStatus,
    /// Its stdout, cut to [`STDIO_BYTES_MAX`] bytes.
    pub stdout: Vec<u8>,
    /// Its stderr, cut to [`STDIO_BYTES_MAX`] bytes.
    pub stderr: Vec<u8>,
    /// Its stderr was a terminal.
    pub on_terminal: bool,
    /// Its stdout or its stderr was cut.
    pub truncated: bool,
    /// Resources that the driver and all children that it waited for used.
    pub usage: Usage,
}

/// Why a compile has no result.
#[derive(Debug)]
pub enum CompileError {
    /// The compiler could not be started.
    Spawn(io::Error),
    /// The compiler did not end by itself, or hit a limit; or watching it failed.
    Failed(Failure),
}

fn failed<T>(code: Code, detail: impl Into<String>) -> Result<T, CompileError> {
    Err(CompileError::Failed(failure(code, detail)))
}

/// Runs `launch` to its end, or to `wall_ms_max`, or until `control` is cancelled;
/// `is_capped`: the task bounds its own memory. `on_progress` is called from time to time
/// with the microseconds of processor time that were used so far (`None`: unknown). Whatever
/// is left of the process group is killed before this returns.
///
/// # Errors
/// The compiler could not be started, did not end by itself, or hit a limit.
pub fn run(
    sandbox: &Sandbox,
    launch: &Launch<'_>,
    wall_ms_max: u32,
    is_capped: bool,
    control: &Control,
    on_progress: &dyn Fn(Option<u64>),
) -> Result<CompilerOutput, CompileError> {
    let begun = Instant::now();
    let mut started = sandbox.start(launch).map_err(CompileError::Spawn)?;
    let (pid, on_terminal) = (started.pid, started.on_terminal);
    control.set_process_group(pid);
    let deadline = begun + Duration::from_millis(wall_ms_max.into());
    let mut watch = Watcher::new(&mut started, deadline);
    let exceeded = || launch.limits.totals.exceeded(pid, launch.folder.path());
    let on_progress = || on_progress(usage::cpu_us(pid));
    let watched = watch.until_end(pid, control, exceeded, on_progress);
    let (mut status, mut usage) = match watch.reaped.take() {
        Some(reaped) => reaped,
        // Watching failed: the compiler is killed.
        None => {
            control.kill();
            control.reap(|| reap(pid))
        }
    }
    .or_else(|error| failed(Code::Worker, format!("waiting for the compiler: {error}")))?;
    if let Err(error) = watched {
        return failed(Code::Worker, format!("watching the compiler: {error}"));
    }
    if let Some(ended) = started.exit().map_err(CompileError::Spawn)? {
        status = ExitStatus::from_raw(ended.status);
        usage.user_us = ended.user_us;
        usage.system_us = ended.system_us;
        usage.peak_memory_bytes = ended.peak_bytes;
    }
    usage.wall_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    let output = CompilerOutput {
        status,
        truncated: watch.stdout.truncated || watch.stderr.truncated,
        stdout: std::mem::take(&mut watch.stdout.bytes),
        stderr: std::mem::take(&mut watch.stderr.bytes),
        on_terminal,
        usage,
    };
    if let Some(why) = control.cancelled() {
        return Err(CompileError::Failed(why));
    }
    if watch.late {
        return failed(
            Code::Limit,
            format!("the compile took more than {wall_ms_max} ms"),
        );
    }
    let limits = &launch.limits;
    if let Some(excess) = watch.exceeded {
        let is_own = is_capped && limits.totals.memory_bytes_max >= limits.memory_bytes_max;
        let failure = over_totals(excess, &limits.totals, is_own);
        return Err(CompileError::Failed(failure));
    }
    match hit_limit(&output, Shortage::of(is_capped, &limits.totals)) {
        Some(failure) => Err(CompileError::Failed(failure)),
        None => Ok(output),
    }
}

/// The compiler's stdout or stderr, as read so far.
struct Captured {
    /// `None` once nobody can write to it any more.
    pipe: Option<OwnedFd>,
    bytes: Vec<u8>,
    truncated: bool,
}

impl Captured {
    fn new(pipe: Option<OwnedFd>) -> Self {
        Captured {
            pipe,
            bytes: Vec::new(),
            truncated: false,
        }
    }

    /// Reads what is ready; keeps what may travel and drops the rest.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let Some(pipe) = self.pipe.take() else {
            return Ok(());
        };
        let mut file = std::fs::File::from(pipe);
        let len = match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.pipe = Some(file.into());
                return Ok(());
            }
            // A terminal reports so that nobody can write to it any more.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => 0,
            other => other?,
        };
        if len > 0 {
            let kept = len.min(STDIO_BYTES_MAX - self.bytes.len());
            self.bytes.extend_from_slice(&buffer[..kept]);
            self.truncated |= kept < len;
            self.pipe = Some(file.into());
        }
        Ok(())
    }
}

/// What is watched of a running compiler, and what was seen so far.
struct Watcher {
    stdout: Captured,
    stderr: Captured,
    pidfd: Option<OwnedFd>,
    deadline: Instant,
    /// It had to end at its deadline.
    late: bool,
    /// It had to end since it had too much of this.
    exceeded: Option<Excess>,
    look_at: Instant,
    progress_at: Instant,
    reaped: Option<io::Result<(ExitStatus, Usage)>>,
}

impl Watcher {
    fn new(started: &mut Started, deadline: Instant) -> Self {
        Watcher {
            stdout: Captured::new(started.stdout.take()),
            stderr: Captured::new(started.stderr.take()),
            pidfd: pidfd(started.pid),
            deadline,
            late: false,
            exceeded: None,
            look_at: Instant::now() + TOTALS_EVERY,
            progress_at: Instant::now() + FIRST_PROGRESS,
            reaped: None,
        }
    }

    /// Returns when the compiler is reaped and its pipes are closed. The compiler is killed
    /// once `exceeded` gives a reason; `on_progress` is called from time to time.
    fn until_end(
        &mut self,
        pid: Pid,
        control: &Control,
        exceeded: impl Fn() -> Option<Excess>,
        on_progress: impl Fn(),
    ) -> io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        let mut pipes_until = None;
        loop {
            if self.reaped.is_none() && has_ended(pid)? {
                self.reaped = Some(control.reap(|| reap(pid)));
                pipes_until = Some(Instant::now() + Duration::from_millis(PIPES_MS_MAX));
            }
            let now = Instant::now();
            if let Some(until) = pipes_until
                && (now >= until || (self.stdout.pipe.is_none() && self.stderr.pipe.is_none()))
            {
                return Ok(());
            }
            if now >= self.deadline && self.reaped.is_none() {
                self.late = true;
                control.kill();
            }
            if now >= self.look_at && self.reaped.is_none() && !self.must_end() {
                self.exceeded = exceeded();
                if self.exceeded.is_some() {
                    control.kill();
                }
                self.look_at = Instant::now() + TOTALS_EVERY;
            }
            if now >= self.progress_at && self.reaped.is_none() && !self.must_end() {
                on_progress();
                self.progress_at = Instant::now() + PROGRESS_EVERY;
            }
            let (out, err) = self.wait(pipes_until, now, control)?;
            if out {
                self.stdout.read(&mut buffer)?;
            }
            if err {
                self.stderr.read(&mut buffer)?;
            }
        }
    }

    /// Waits for output, the compiler's end, a wake-up or a time that is due. Gives whether
    /// stdout and stderr are readable.
    fn wait(
        &self,
        pipes_until: Option<Instant>,
        now: Instant,
        control: &Control,
    ) -> io::Result<(bool, bool)> {
        let sources = [
            Some(control.wake_fd()),
            self.stdout.pipe.as_ref().map(AsFd::as_fd),
            self.stderr.pipe.as_ref().map(AsFd::as_fd),
            match self.reaped {
                None => self.pidfd.as_ref().map(AsFd::as_fd),
                Some(_) => None,
            },
        ];
        let mut polled: Vec<(usize, PollFd<'_>)> = Vec::with_capacity(sources.len());
        for (at, source) in sources.iter().enumerate() {
            if let Some(fd) = source {
                polled.push((at, PollFd::new(*fd, PollFlags::POLLIN)));
            }
        }
        let mut fds: Vec<PollFd<'_>> = polled.iter().map(|(_, fd)| fd.clone()).collect();
        match poll(&mut fds, self.timeout(pipes_until, now)) {
            Err(Errno::EINTR) => return Ok((false, false)),
            other => other?,
        };
        let ready = |wanted: usize| {
            polled
                .iter()
                .zip(&fds)
                .any(|((at, _), fd)| *at == wanted && fd.any() == Some(true))
        };
        if ready(0) {
            control.clear_wake();
        }
        Ok((ready(1), ready(2)))
    }

    fn must_end(&self) -> bool {
        self.late || self.exceeded.is_some()
    }

    fn timeout(&self, pipes_until: Option<Instant>, now: Instant) -> PollTimeout {
        // The killed group is about to be reaped.
        if self.reaped.is_none() && (self.pidfd.is_none() || self.must_end()) {
            return PollTimeout::from(POLL_MS);
        }
        let left = pipes_until
            .unwrap_or(self.deadline.min(self.look_at).min(self.progress_at))
            .saturating_duration_since(now);
        // Rounded up: a wait that ends too early would spin.
        PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
    }
}

/// Descriptor that is readable once the process has ended; `None`: the kernel has no such
/// (before Linux 5.3).
fn pidfd(pid: Pid) -> Option<OwnedFd> {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::FromRawFd;
        // SAFETY: the call takes two numbers and gives a new descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
        // SAFETY: a descriptor that the kernel just made and nobody else has.
        (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = pid;
        None
    }
}

/// Whether the process has ended. It stays unreaped, so that nobody else gets its number.
fn has_ended(pid: Pid) -> io::Result<bool> {
    loop {
        // SAFETY: all zeros is a valid siginfo_t, and the call fills it in.
        let (result, info) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let result = libc::waitid(
                libc::P_PID,
                pid.as_raw() as libc::id_t,
                &mut info,
                libc::WEXITED | libc::WNOHANG | libc::WNOWAIT,
            );
            (result, info)
        };
        if result == 0 {
            // SAFETY: after a waitid that succeeded the field is set; 0: not ended.
            return Ok(unsafe { info.si_pid() } != 0);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Reaps the process once it ends. Gives its status and its usage, but for the wall time.
fn reap(pid: Pid) -> io::Result<(ExitStatus, Usage)> {
    let mut status = 0;
    // SAFETY: all zeros is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both places are ours for the call.
        let got = unsafe { libc::wait4(pid.as_raw(), &mut status, 0, &mut usage) };
        if got == pid.as_raw() {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // The fields' widths differ between systems.
    #[allow(clippy::unnecessary_cast)]
    let us = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    let peak_unit_bytes = if cfg!(target_os = "macos") { 1 } else { 1024 };
    #[allow(clippy::unnecessary_cast)]
    let peak = usage.ru_maxrss as u64 * peak_unit_bytes;
    let usage = Usage {
        wall_us: 0,
        user_us: us(usage.ru_utime),
        system_us: us(usage.ru_stime),
        peak_memory_bytes: peak,
    };
    Ok((ExitStatus::from_raw(status), usage))
}

/// What drivers print when the processor time of a process that they ran was over. A
/// wrong guess, here and below, costs one compile elsewhere.
const TIME_WORDS: [&[u8]; 1] = [b"CPU time limit exceeded"];

/// What drivers and their programs print when a file became too long, or had no room.
const FILE_WORDS: [&[u8]; 3] = [
    b"No space left on device",
    b"File size limit exceeded",
    b"File too large",
];

/// What drivers print when the kernel has killed a process that they ran, which it does for
/// want of memory.
const KILLED_WORDS: [&[u8]; 2] = [
    b"Killed signal terminated program",
    b"unable to execute command: Killed",
];

/// What drivers and their programs print when they got no memory.
const MEMORY_WORDS: [&[u8]; 4] = [
    b"virtual memory exhausted",
    b"Cannot allocate memory",
    b"out of memory allocating",
    b"LLVM ERROR: out of memory",
];

/// Failure codes of a compile that ran out of memory or of room for its files: `Limit`
/// where the task itself sets the bound, which is the same on every worker.
#[derive(Debug, Clone, Copy)]
struct Shortage {
    memory: Code,
    files: Code,
}

impl Shortage {
    /// `is_capped`: the task bounds its own memory.
    fn of(is_capped: bool, totals: &Totals) -> Self {
        Shortage {
            memory: if is_capped { Code::Limit } else { Code::Memory },
            files: if totals.is_short_of_disk() {
                Code::Disk
            } else {
                Code::Limit
            },
        }
    }
}

/// Failure of a compile that was killed for what it used as a whole; `is_own`: the task itself
/// sets the bound on its memory. Otherwise it may get what it needs on another worker, or
/// with a higher prediction.
fn over_totals(excess: Excess, totals: &Totals, is_own: bool) -> Failure {
    let memory_bytes = match excess {
        Excess::Files(why) => return failure(Code::Limit, why),
        Excess::Disk(why) => return failure(Code::Disk, why),
        Excess::Memory(bytes) => bytes,
    };
    let code = match is_own {
        true => Code::Limit,
        false => Code::Memory,
    };
    let max = totals.memory_bytes_max;
    let why = format!("the compile takes more than {max} bytes of memory");
    Failure {
        memory_bytes,
        ..failure(code, why)
    }
}

/// Whether the compile ended because of its limits and not because of what it was asked
/// to compile; `shortage` says whose limits those are.
fn hit_limit(output: &CompilerOutput, shortage: Shortage) -> Option<Failure> {
    // The kernel's own: nobody else has a reason to send it, and kills of the worker were
    // told before.
    let killed = "killed, for want of memory perhaps";
    let failure = |code, why: &str| Failure {
        memory_bytes: match code {
            Code::Memory => output.usage.peak_memory_bytes,
            _ => 0,
        },
        ..failure(code, why)
    };
    match output.status.signal() {
        Some(libc::SIGKILL) => return Some(failure(Code::Memory, killed)),
        Some(libc::SIGXCPU) => return Some(failure(Code::Limit, "too much processor time")),
        Some(libc::SIGXFSZ) => return Some(failure(shortage.files, "too large a file")),
        _ => {}
    }
    if output.status.success() {
        return None;
    }
    let said = |code, words: &[&[u8]]| {
        let words = words.iter().find(|words| contains(&output.stderr, words))?;
        Some(failure(code, &String::from_utf8_lossy(words)))
    };
    said(Code::Limit, &TIME_WORDS)
        .or_else(|| said(shortage.files, &FILE_WORDS))
        .or_else(|| said(Code::Memory, &KILLED_WORDS))
        .or_else(|| said(shortage.memory, &MEMORY_WORDS))
}

fn contains(text: &[u8], words: &[u8]) -> bool {
    text.windows(words.len()).any(|window| window == words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_limit_it_was() {
        let totals = Totals::new(0, 0, u64::MAX, 1 << 30);
        let found = |status: i32, stderr: &str, is_capped, totals: &Totals| {
            let output = CompilerOutput {
                status: ExitStatus::from_raw(status),
                stdout: Vec::new(),
                stderr: stderr.into(),
                on_terminal: false,
                truncated: false,
                usage: Usage::default(),
            };
            hit_limit(&output, Shortage::of(is_capped, totals)).map(|failure| failure.code())
        };
        let code = |status, stderr, is_capped| found(status, stderr, is_capped, &totals);
        let exit_1 = 1 << 8;
        assert_eq!(code(0, "Cannot allocate memory", false), None);
        assert_eq!(code(exit_1, "x.c:1:1: error: no", false), None);
        assert_eq!(code(libc::SIGSEGV, "", false), None);
        assert_eq!(code(libc::SIGKILL, "", true), Some(Code::Memory));
        assert_eq!(code(libc::SIGXCPU, "", false), Some(Code::Limit));
        let killed = "gcc: fatal error: Killed signal terminated program cc1\n";
        assert_eq!(code(exit_1, killed, true), Some(Code::Memory));
        let none = "cc1: out of memory allocating 65536 bytes\n";
        assert_eq!(code(exit_1, none, false), Some(Code::Memory));
        assert_eq!(code(exit_1, none, true), Some(Code::Limit));
        // Room for files that only this worker lacks may be had elsewhere.
        let small = totals.on_disk(Some(1 << 20), 1);
        for (status, stderr) in [
            (libc::SIGXFSZ, ""),
            (exit_1, "as: File size limit exceeded\n"),
            (exit_1, "as: x.o: No space left on device\n"),
            (exit_1, "as: x.o: File too large\n"),
        ] {
            assert_eq!(code(status, stderr, true), Some(Code::Limit), "{stderr}");
            let on_small = found(status, stderr, true, &small);
            assert_eq!(on_small, Some(Code::Disk), "{stderr}");
        }
        let late = "gcc: CPU time limit exceeded\n";
        assert_eq!(found(exit_1, late, true, &small), Some(Code::Limit));
    }
}
