//! What confines a compile: a private folder, a scrubbed environment, limits.
//! Unaware of the link and of how the compile is watched.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::state::{TASK_ROOT_VARIABLE, make_private, remove_tree};

/// Where a compiler finds its helpers.
pub const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// Open files of one process.
const FILES_MAX: u64 = 1024;

/// The private folder of one task; gone when dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// As the next start names it, whatever links lie on the way.
    mark: PathBuf,
}

impl Folder {
    /// Makes `name` under `tasks`, with `root`, `home` and `tmp` in it.
    ///
    /// # Errors
    /// The file system says no.
    pub fn create(tasks: &Path, name: &str) -> io::Result<Self> {
        let folder = Folder {
            path: tasks.canonicalize()?.join(name),
            mark: tasks.join(name),
        };
        for part in [folder.root(), folder.home(), folder.tmp()] {
            make_private(&part)?;
        }
        Ok(folder)
    }

    /// The task's folder as the contract means it: inputs and outputs.
    pub fn root(&self) -> PathBuf {
        self.path.join("root")
    }

    fn home(&self) -> PathBuf {
        self.path.join("home")
    }

    fn tmp(&self) -> PathBuf {
        self.path.join("tmp")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.path) {
            crate::log::line(
                crate::log::Level::Warn,
                format_args!("{}: {error}", self.path.display()),
            );
        }
    }
}

/// Limits on each process of a compile.
#[derive(Debug, Clone, Copy)]
pub struct Confines {
    /// Address space.
    pub memory_bytes_max: u64,
    /// One file.
    pub file_bytes_max: u64,
    /// Processor time.
    pub cpu_s_max: u64,
    /// How far below other programs it runs, 0 to 19.
    pub nice: i32,
}

/// A command that runs `driver` in `directory` (below `folder`'s root), confined.
/// Its process leads a group of its own and dies with the thread that starts it.
pub fn command(
    driver: &Path,
    folder: &Folder,
    directory: &Path,
    environment: &[(OsString, OsString)],
    path_first: Option<&Path>,
    confines: Confines,
) -> Command {
    let mut path = OsString::new();
    if let Some(first) = path_first {
        path.push(first);
        path.push(":");
    }
    path.push(PATH);
    let (home, tmp) = (folder.home(), folder.tmp());
    let own: [(&str, &OsStr); 4] = [
        ("PATH", &path),
        ("HOME", home.as_os_str()),
        ("TMPDIR", tmp.as_os_str()),
        (TASK_ROOT_VARIABLE, folder.mark.as_os_str()),
    ];
    let mut command = Command::new(driver);
    command
        .current_dir(directory)
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        // Ours last: the task's can't replace them.
        .envs(own)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let parent = std::process::id();
    // SAFETY: between fork and exec, `confine` makes system calls only.
    unsafe {
        command.pre_exec(move || confine(confines, parent));
    }
    command
}

/// Runs in the child, before the compiler.
fn confine(confines: Confines, parent: u32) -> io::Result<()> {
    die_with_parent(parent)?;
    limit(Resource::RLIMIT_CORE, 0)?;
    limit(Resource::RLIMIT_FSIZE, confines.file_bytes_max)?;
    limit(Resource::RLIMIT_AS, confines.memory_bytes_max)?;
    limit(Resource::RLIMIT_CPU, confines.cpu_s_max)?;
    limit(Resource::RLIMIT_NOFILE, FILES_MAX)?;
    // Courtesy only: a system that does not let us goes on without.
    // SAFETY: plain system calls.
    unsafe {
        libc::nice(confines.nice);
    }
    last_at_the_disk();
    first_to_go();
    Ok(())
}

/// Lowers a limit to `max`, or leaves it where it is lower already.
fn limit(resource: Resource, max: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    // Not useless where the type has 32 bits.
    #[allow(clippy::useless_conversion)]
    let max = libc::rlim_t::try_from(max).unwrap_or(libc::RLIM_INFINITY);
    let max = max.min(hard);
    Ok(setrlimit(resource, max, max)?)
}

#[cfg(target_os = "linux")]
fn die_with_parent(parent: u32) -> io::Result<()> {
    // SAFETY: plain system calls.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
            return Err(io::Error::last_os_error());
        }
        // It may have died before the call above.
        if libc::getppid() as u32 != parent {
            libc::_exit(127);
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_parent: u32) -> io::Result<()> {
    Ok(())
}

/// Others read and write first: best effort, class 2, at its lowest priority, 7
/// (ioprio_set(2)).
#[cfg(target_os = "linux")]
fn last_at_the_disk() {
    const WHO_PROCESS: libc::c_int = 1;
    const BEST_EFFORT_LOWEST: libc::c_int = (2 << 13) | 7;
    // SAFETY: a plain system call with three numbers; 0 is the caller.
    unsafe {
        libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, BEST_EFFORT_LOWEST);
    }
}

#[cfg(not(target_os = "linux"))]
fn last_at_the_disk() {}

/// When memory runs out, a compile goes before anything else on the machine.
#[cfg(target_os = "linux")]
fn first_to_go() {
    // SAFETY: plain system calls on a constant path and a constant text.
    unsafe {
        let file = libc::open(
            c"/proc/self/oom_score_adj".as_ptr(),
            libc::O_WRONLY | libc::O_CLOEXEC,
        );
        if file >= 0 {
            libc::write(file, c"1000".as_ptr().cast(), 4);
            libc::close(file);
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn first_to_go() {}

/// Files below `root` that are neither `inputs` nor `outputs`, at most `names_max`
/// of them: relative to `directory` where they lie in it, else to `root`.
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
    while let Some(folder) = folders.pop() {
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
