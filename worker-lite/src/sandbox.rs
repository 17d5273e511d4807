//! What confines a compile: a private folder, a scrubbed environment, limits, and
//! the best walls that this machine has. Which those are is measured at the start,
//! by trying to break out. Facade over `sandbox_linux` and `sandbox_portable`;
//! unaware of the link and of how the compile is watched.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::Pid;

use crate::groups::{Group, Groups};
use crate::log::{self, Level as Loud};
pub use crate::privileges::Confines;
use crate::root::Layout;
use crate::sandbox_portable;
use crate::state::{TASK_VARIABLE, make_private, remove_tree, task_mark};
#[cfg(target_os = "linux")]
use crate::totals::Totals;
use crate::tree::Tree;

#[cfg(target_os = "linux")]
use crate::{
    escape::{Reached, Targets},
    network::Network,
    privileges,
    roots::Roots,
    sandbox_linux::{self, Init},
};

/// Where a compiler finds its helpers.
pub const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// Whom compiles of a worker of root's run as: nobody, by its usual number.
#[cfg(target_os = "linux")]
const NOBODY: u32 = 65534;
/// Processes and threads of one compile, where a compile's can be counted.
pub(crate) const PROCESSES_MAX: u64 = 64;
/// What breaking out may take.
#[cfg(target_os = "linux")]
const ESCAPE_MS_MAX: u16 = 10_000;

/// Folders of one task that are looked through after it: inputs and outputs are in
/// fewer, and a compiler makes none.
const FOLDERS_MAX: usize = 4096;

/// How much holds a compile; more is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A private folder and limits: nothing that a determined compile respects.
    Folder,
    /// No files but its own and the toolchain's, no network, no privileges; by
    /// Landlock and a filter of system calls.
    Landlock,
    /// Nothing else is there: namespaces and a root of its own.
    Full,
}

impl Level {
    /// As it is advertised: `full`, `landlock` or `folder`.
    pub fn name(self) -> &'static str {
        match self {
            Level::Folder => "folder",
            Level::Landlock => "landlock",
            Level::Full => "full",
        }
    }
}

/// Which sandbox the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The best that there is.
    Best,
    /// The full one, or the worker does not start.
    Full,
    /// The private folder alone.
    Folder,
}

impl Wanted {
    /// `auto`, `require` or `off`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Wanted::Best),
            "require" => Some(Wanted::Full),
            "off" => Some(Wanted::Folder),
            _ => None,
        }
    }
}

/// The private folder of one task; gone when dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// By which the next start knows its processes.
    mark: String,
}

impl Folder {
    /// Makes `name` under `tasks`, with `root`, `home` and `tmp` in it.
    ///
    /// # Errors
    /// The file system says no.
    pub fn create(tasks: &Path, name: &str) -> io::Result<Self> {
        let folder = Folder {
            path: tasks.canonicalize()?.join(name),
            mark: task_mark(tasks),
        };
        for part in [
            folder.root(),
            folder.path.join("home"),
            folder.path.join("tmp"),
        ] {
            make_private(&part)?;
        }
        Ok(folder)
    }

    /// All of it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The task's folder as the contract means it: inputs and outputs.
    pub fn root(&self) -> PathBuf {
        self.path.join("root")
    }

    /// Gives all that is in it now to `user`.
    fn give_to(&self, user: u32) -> io::Result<()> {
        let mut left = vec![self.path.clone()];
        while let Some(path) = left.pop() {
            // No link is followed, though none should be there yet.
            std::os::unix::fs::lchown(&path, Some(user), Some(user))?;
            if fs::symlink_metadata(&path)?.is_dir() {
                for entry in fs::read_dir(&path)? {
                    left.push(entry?.path());
                }
            }
        }
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.path) {
            let path = self.path.display();
            log::line(Loud::Warn, format_args!("{path}: {error}"));
        }
    }
}

/// A compiler to be run.
pub struct Launch<'a> {
    /// Absolute.
    pub driver: &'a Path,
    /// All that it may see of this machine, itself among it.
    pub files: &'a [PathBuf],
    /// A folder ahead of [`PATH`].
    pub path_first: Option<&'a Path>,
    /// Without the compiler's name.
    pub arguments: &'a [OsString],
    /// Beside our own variables, which can't be replaced.
    pub environment: &'a [(OsString, OsString)],
    /// The task's.
    pub folder: &'a Folder,
    /// Below the folder's root; in the tree form, absolute.
    pub directory: &'a Path,
    /// The task's files, in the tree form.
    pub tree: Option<&'a Tree<'a>>,
    /// Of each process.
    pub confines: Confines,
    /// Columns of the terminal that its stderr is; `None`: a pipe.
    pub terminal: Option<u16>,
    /// Whom it runs as, if not us; set by [`Sandbox::start`].
    pub(crate) user: Option<u32>,
    /// Where it runs, before it does anything; set as `user` is.
    pub(crate) group: Option<&'a Group>,
    /// Instead of the compiler: what to try.
    #[cfg(target_os = "linux")]
    pub(crate) escape: Option<&'a Targets>,
}

impl<'a> Launch<'a> {
    /// `driver`, which needs `files`, in `directory` of `folder`.
    pub fn new(
        driver: &'a Path,
        files: &'a [PathBuf],
        folder: &'a Folder,
        directory: &'a Path,
        confines: Confines,
    ) -> Self {
        Launch {
            driver,
            files,
            path_first: None,
            arguments: &[],
            environment: &[],
            folder,
            directory,
            tree: None,
            confines,
            terminal: None,
            user: None,
            group: None,
            #[cfg(target_os = "linux")]
            escape: None,
        }
    }

    /// All variables; the task's folder is at `task`.
    pub(crate) fn environment_at(&self, task: &Path) -> Vec<(OsString, OsString)> {
        let mut path = OsString::new();
        if let Some(first) = self.path_first {
            path.push(first);
            path.push(":");
        }
        path.push(PATH);
        let mut own: Vec<(&str, OsString)> = vec![
            ("PATH", path),
            ("HOME", task.join("home").into()),
            ("TMPDIR", task.join("tmp").into()),
            (TASK_VARIABLE, self.folder.mark.clone().into()),
        ];
        if self.tree.is_some() {
            // Where gcc takes the name of its folder from.
            own.push(("PWD", self.directory.into()));
        }
        let is_own = |name: &OsStr| own.iter().any(|(known, _)| name == *known);
        let mut all: Vec<_> = self
            .environment
            .iter()
            .filter(|(name, _)| !is_own(name))
            .cloned()
            .collect();
        all.extend(own.into_iter().map(|(name, value)| (name.into(), value)));
        all
    }
}

/// A process that was started, leader of a group of its own.
#[derive(Debug)]
pub struct Started {
    /// To be waited for.
    pub pid: Pid,
    /// What it says, until somebody takes it.
    pub stdout: Option<OwnedFd>,
    /// What it says, until somebody takes it.
    pub stderr: Option<OwnedFd>,
    /// The latter comes from a terminal.
    pub on_terminal: bool,
    /// Where it runs; whatever is left there ends with this.
    pub(crate) group: Option<Group>,
    /// That process only stands for the compiler.
    #[cfg(target_os = "linux")]
    pub(crate) init: Option<Init>,
}

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

impl Started {
    /// How the compiler ended, once the process is reaped; `None`: as the process.
    ///
    /// # Errors
    /// The compiler could not be started after all.
    pub fn ended(self) -> io::Result<Option<Ended>> {
        #[cfg(target_os = "linux")]
        if let Some(init) = self.init {
            return init.ended();
        }
        Ok(None)
    }
}

/// What this machine has to hold compiles with.
pub struct Sandbox {
    level: Level,
    /// Whom compiles run as, if not us.
    user: Option<u32>,
    /// Why there is no more, for people; empty: there is no more.
    lacks: String,
    /// Where each compile can have a control group.
    groups: Option<Groups>,
    #[cfg(target_os = "linux")]
    roots: Roots,
    /// Of all compiles; `None`: each has one of its own.
    #[cfg(target_os = "linux")]
    network: Option<Network>,
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sandbox({})", self.level.name())
    }
}

impl Sandbox {
    /// How much it holds.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Why it is not a better one, for people; empty: it is the best.
    pub fn lacks(&self) -> &str {
        &self.lacks
    }

    /// Each compile gets a control group of its own from now on.
    pub fn divide(&mut self, groups: Groups) {
        self.groups = Some(groups);
    }

    /// Starts a compiler.
    ///
    /// # Errors
    /// It can't be run, or not so confined.
    pub fn start(&self, launch: &Launch<'_>) -> io::Result<Started> {
        if let Some(user) = self.user {
            launch.folder.give_to(user)?;
        }
        let bounded = |groups: &Groups| {
            let memory_bytes_max = launch.confines.totals.memory_bytes_max;
            groups.group(memory_bytes_max, PROCESSES_MAX)
        };
        let group = self.groups.as_ref().map(bounded).transpose()?;
        let mut started = self.start_as(&Launch {
            user: self.user,
            group: group.as_ref(),
            ..*launch
        })?;
        started.group = group;
        Ok(started)
    }

    /// Says in the log what there is.
    pub fn tell(&self) {
        let groups = match self.groups {
            Some(_) => ", with a control group for each compile",
            None => "",
        };
        match self.level {
            Level::Full => log::line(Loud::Info, format_args!("sandbox: full{groups}")),
            level => log::line(
                Loud::Warn,
                format_args!("sandbox: {}{groups}: {}", level.name(), self.lacks),
            ),
        }
    }
}

#[cfg(target_os = "linux")]
impl Sandbox {
    /// Finds the best that is wanted and holds. `state` is the worker's own folder,
    /// of which a compile must see nothing; `tasks` has the task folders.
    ///
    /// # Errors
    /// Words: the full one is wanted and can't be had, or none can.
    pub fn measure(state: &Path, tasks: &Path, wanted: Wanted) -> Result<Self, String> {
        let mut why = match wanted {
            Wanted::Folder => vec!["--sandbox off".to_owned()],
            Wanted::Best | Wanted::Full => Vec::new(),
        };
        let levels = match wanted {
            Wanted::Best => &[Level::Full, Level::Landlock, Level::Folder][..],
            Wanted::Full => &[Level::Full],
            Wanted::Folder => &[Level::Folder],
        };
        for level in levels {
            match Self::at(*level, state, tasks) {
                Ok(mut sandbox) => {
                    if !sandbox.lacks.is_empty() {
                        why.push(sandbox.lacks);
                    }
                    sandbox.lacks = why.join("; ");
                    return Ok(sandbox);
                }
                Err(error) => why.push(format!("not {}: {error}", level.name())),
            }
            if *level == Level::Full {
                why.extend(sandbox_linux::hints());
            }
        }
        let what = match wanted {
            Wanted::Full => "--sandbox require",
            Wanted::Best | Wanted::Folder => "no sandbox",
        };
        Err(format!("{what}: {}", why.join("; ")))
    }

    /// The sandbox of `level`, which has proven to hold what it should.
    ///
    /// # Errors
    /// Words: it can't be had here, or can be broken out of.
    pub fn at(level: Level, state: &Path, tasks: &Path) -> Result<Self, String> {
        let place = |error: io::Error| format!("{}: {error}", state.display());
        let mut sandbox = Sandbox {
            level,
            user: user(tasks).map_err(place)?,
            lacks: String::new(),
            groups: None,
            roots: Roots::in_place(state.join("roots")).map_err(place)?,
            network: Network::empty(),
        };
        let reached = sandbox
            .escape(state, tasks)
            .map_err(|error| error.to_string())?;
        if !reached.is_nothing() {
            sandbox.lacks = format!("a compile {}", reached.words());
        }
        let holds = match level {
            Level::Full => reached.is_nothing(),
            Level::Landlock => reached.is_little(),
            Level::Folder => reached.is_usable(),
        };
        match holds {
            true => Ok(sandbox),
            false => Err(sandbox.lacks),
        }
    }

    /// Tries to break out of what compiles get.
    fn escape(&self, state: &Path, tasks: &Path) -> io::Result<Reached> {
        use nix::poll::{PollFd, PollFlags, poll};
        use nix::sys::signal::{Signal, killpg};
        use nix::sys::wait::waitpid;
        use std::io::Read;
        use std::os::fd::AsFd;

        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let targets = Targets::new(&state.join("lock"), state, &listener);
        let folder = Folder::create(tasks, "escape")?;
        let confines = Confines {
            memory_bytes_max: u64::MAX,
            file_bytes_max: 1 << 20,
            cpu_s_max: 10,
            nice: 0,
            totals: Totals::new(0, 0, u64::MAX, 1 << 20),
        };
        let mut launch = Launch::new(Path::new("/"), &[], &folder, Path::new(""), confines);
        launch.escape = Some(&targets);
        let mut started = self.start(&launch)?;
        let mut stdout = started
            .stdout
            .take()
            .map(fs::File::from)
            .ok_or(io::ErrorKind::BrokenPipe)?;
        let mut polled = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
        let mut bits = [0; 4];
        let told = match poll(&mut polled, ESCAPE_MS_MAX) {
            Ok(1..) => stdout.read_exact(&mut bits),
            _ => Err(io::Error::from(io::ErrorKind::TimedOut)),
        };
        // Its group may have no other members, or be gone already.
        let _ = killpg(started.pid, Signal::SIGKILL);
        let _ = waitpid(started.pid, None);
        // Why it could not be started says more than that it said nothing.
        started.ended()?;
        told?;
        let reached = Reached::from_bits(u32::from_ne_bytes(bits));
        Ok(reached.and_network(listener.accept().is_ok()))
    }

    fn start_as(&self, launch: &Launch<'_>) -> io::Result<Started> {
        match self.level {
            Level::Full => {
                let root = match launch.tree {
                    Some(_) => self.roots.in_place_of(launch.files),
                    None => self.roots.of(launch.files),
                };
                sandbox_linux::start(&root?, self.network.as_ref(), launch)
            }
            _ if launch.tree.is_some() => Err(io::ErrorKind::Unsupported.into()),
            Level::Landlock => sandbox_portable::start(launch, true),
            Level::Folder => sandbox_portable::start(launch, false),
        }
    }

    /// What is known of how to show `files` is wrong.
    pub fn forget(&self, files: &[PathBuf]) {
        self.roots.forget(files);
    }

    /// Gives `see` where `files` are for tasks of the tree form.
    ///
    /// # Errors
    /// One of them is not there.
    pub fn in_place<T>(
        &self,
        files: &[PathBuf],
        see: impl FnOnce(&Arc<Layout>) -> T,
    ) -> io::Result<T> {
        Ok(see(self.roots.in_place_of(files)?.layout()))
    }
}

/// Whom compiles run as, if not us: a worker of root's gives them to nobody.
#[cfg(target_os = "linux")]
fn user(tasks: &Path) -> io::Result<Option<u32>> {
    if !privileges::can_give_away() {
        return Ok(None);
    }
    // In a container, that number may be nobody's at all.
    let folder = Folder::create(tasks, "user")?;
    Ok(folder.give_to(NOBODY).is_ok().then_some(NOBODY))
}

#[cfg(not(target_os = "linux"))]
impl Sandbox {
    /// The private folder is all that there is.
    ///
    /// # Errors
    /// Words: the full one is wanted.
    pub fn measure(_state: &Path, _tasks: &Path, wanted: Wanted) -> Result<Self, String> {
        let lacks = "only a private folder and limits on this system";
        match wanted {
            Wanted::Full => Err(format!("--sandbox require: {lacks}")),
            Wanted::Best | Wanted::Folder => Ok(Sandbox {
                level: Level::Folder,
                user: None,
                lacks: lacks.to_owned(),
                groups: None,
            }),
        }
    }

    fn start_as(&self, launch: &Launch<'_>) -> io::Result<Started> {
        sandbox_portable::start(launch, false)
    }

    /// Nothing is known of how to show files.
    pub fn forget(&self, _files: &[PathBuf]) {}

    /// There is no tree form.
    ///
    /// # Errors
    /// Always.
    pub fn in_place<T>(
        &self,
        _files: &[PathBuf],
        _see: impl FnOnce(&Arc<Layout>) -> T,
    ) -> io::Result<T> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

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
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        seen += 1;
        if seen > FOLDERS_MAX {
            return Err(io::Error::other("too many folders"));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compile_is_told_no_path_of_the_worker() {
        let state = tempfile::tempdir().unwrap();
        let state = state.path().canonicalize().unwrap();
        let tasks = state.join("tasks");
        make_private(&tasks).unwrap();
        let folder = Folder::create(&tasks, "task-7").unwrap();
        let confines = Confines {
            memory_bytes_max: 1 << 30,
            file_bytes_max: 1 << 30,
            cpu_s_max: 60,
            nice: 0,
            totals: Totals::new(0, 0, u64::MAX, 1 << 20),
        };
        let launch = Launch::new(
            Path::new("/usr/bin/gcc"),
            &[],
            &folder,
            Path::new("/task"),
            confines,
        );
        let told = launch.environment_at(Path::new("/task"));
        assert!(told.iter().any(|(name, _)| name == TASK_VARIABLE));
        let path = state.to_string_lossy().into_owned();
        for (name, value) in told {
            assert!(!value.to_string_lossy().contains(&path), "{name:?}");
        }
    }
}
