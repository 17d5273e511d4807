//! The sandbox of compiles: a private folder, a scrubbed environment, resource limits, and
//! the strongest isolation that this machine has. Which that is, is measured when the
//! worker starts, by trying to break out. Facade over `full` and `partial`; unaware of
//! the link and of how a running compile is watched.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::inputs::layout::{Layout, Tools};
use crate::log::{self, Level};
use crate::sandbox::cgroups::{CompileCgroups, PROCESSES_MAX};
pub use crate::sandbox::folder::{TaskFolder, unexpected};
pub use crate::sandbox::launch::{Launch, PATH, Started};
use crate::sandbox::partial;
pub use crate::sandbox::privileges::ResourceLimits;
#[cfg(target_os = "linux")]
use crate::sandbox::totals::Totals;

#[cfg(target_os = "linux")]
use crate::sandbox::escape::{Reached, Targets};
#[cfg(target_os = "linux")]
use crate::sandbox::network::Network;
#[cfg(target_os = "linux")]
use crate::sandbox::roots::Roots;
#[cfg(target_os = "linux")]
use crate::sandbox::{full, privileges};

/// User as which compiles run where the worker is root: nobody, by its usual number.
#[cfg(target_os = "linux")]
const NOBODY: u32 = 65534;
/// Milliseconds that one attempt to break out may take.
#[cfg(target_os = "linux")]
const ESCAPE_MS_MAX: u16 = 10_000;

/// What isolates a compile from the machine; stronger is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isolation {
    /// A private folder and resource limits: nothing that a determined compile respects.
    Folder,
    /// No files but its own and the toolchain's, no network, no privileges: by Landlock
    /// and a seccomp filter.
    Landlock,
    /// Namespaces, and a root in which nothing else exists.
    Full,
}

impl Isolation {
    /// The name under which it is advertised: `full`, `landlock` or `folder`.
    pub fn name(self) -> &'static str {
        match self {
            Isolation::Folder => "folder",
            Isolation::Landlock => "landlock",
            Isolation::Full => "full",
        }
    }
}

/// Which isolation the operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The strongest that this machine has.
    Best,
    /// [`Isolation::Full`], or the worker does not start.
    RequireFull,
    /// [`Isolation::Folder`], whatever the machine has.
    FolderOnly,
}

impl Policy {
    /// The policy that `--sandbox` calls `auto`, `require` or `off`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Policy::Best),
            "require" => Some(Policy::RequireFull),
            "off" => Some(Policy::FolderOnly),
            _ => None,
        }
    }
}

/// Starts compiles in isolation, in a way that was proven on this machine.
pub struct Sandbox {
    isolation: Isolation,
    /// User as which compiles run; `None`: the worker's own.
    user: Option<u32>,
    /// Why the isolation is not stronger, for people; empty: it is the strongest.
    shortcomings: String,
    /// Parent of each compile's control group, if the worker was given one.
    cgroups: Option<CompileCgroups>,
    #[cfg(target_os = "linux")]
    roots: Roots,
    /// Network namespace of all compiles; `None`: each has one of its own.
    #[cfg(target_os = "linux")]
    network: Option<Network>,
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sandbox({})", self.isolation.name())
    }
}

impl Sandbox {
    /// What isolates compiles here.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Gives each compile that is started from now on a control group of its own.
    pub fn use_cgroups(&mut self, cgroups: CompileCgroups) {
        self.cgroups = Some(cgroups);
    }

    /// Starts a compiler.
    ///
    /// # Errors
    /// It can't be run, or not in this isolation.
    pub fn start(&self, launch: &Launch<'_>) -> io::Result<Started> {
        if let Some(user) = self.user {
            launch.folder.give_to(user)?;
        }
        let create = |cgroups: &CompileCgroups| {
            let memory_bytes_max = launch.limits.totals.memory_bytes_max;
            cgroups.create(memory_bytes_max, PROCESSES_MAX)
        };
        let cgroup = self.cgroups.as_ref().map(create).transpose()?;
        let mut started = self.start_as(&Launch {
            user: self.user,
            cgroup: cgroup.as_ref(),
            ..*launch
        })?;
        started.cgroup = cgroup;
        Ok(started)
    }

    /// Writes into the log what isolates compiles here.
    pub fn log(&self) {
        let cgroups = match self.cgroups {
            Some(_) => ", with a control group for each compile",
            None => "",
        };
        match self.isolation {
            Isolation::Full => log::line(Level::Info, format_args!("sandbox: full{cgroups}")),
            level => log::line(
                Level::Warn,
                format_args!("sandbox: {}{cgroups}: {}", level.name(), self.shortcomings),
            ),
        }
    }
}

#[cfg(target_os = "linux")]
impl Sandbox {
    /// Finds the strongest isolation that `policy` allows and that can't be broken out of.
    /// `state` is the worker's own folder, of which a compile must see nothing; `tasks` has
    /// the task folders.
    ///
    /// # Errors
    /// In words: the full isolation is required and can't be had, or none can.
    pub fn measure(state: &Path, tasks: &Path, policy: Policy) -> Result<Self, String> {
        let mut why = match policy {
            Policy::FolderOnly => vec!["--sandbox off".to_owned()],
            Policy::Best | Policy::RequireFull => Vec::new(),
        };
        let levels = match policy {
            Policy::Best => &[Isolation::Full, Isolation::Landlock, Isolation::Folder][..],
            Policy::RequireFull => &[Isolation::Full],
            Policy::FolderOnly => &[Isolation::Folder],
        };
        for level in levels {
            match Self::proven(*level, state, tasks) {
                Ok(mut sandbox) => {
                    if !sandbox.shortcomings.is_empty() {
                        why.push(sandbox.shortcomings);
                    }
                    sandbox.shortcomings = why.join("; ");
                    return Ok(sandbox);
                }
                Err(error) => why.push(format!("not {}: {error}", level.name())),
            }
            if *level == Isolation::Full {
                why.extend(full::hints());
            }
        }
        let what = match policy {
            Policy::RequireFull => "--sandbox require",
            Policy::Best | Policy::FolderOnly => "no sandbox",
        };
        Err(format!("{what}: {}", why.join("; ")))
    }

    /// A sandbox of `isolation`, once it has held what it should.
    ///
    /// # Errors
    /// In words: it can't be had here, or can be broken out of.
    pub fn proven(isolation: Isolation, state: &Path, tasks: &Path) -> Result<Self, String> {
        let at_state = |error: io::Error| format!("{}: {error}", state.display());
        let mut sandbox = Sandbox {
            isolation,
            user: user(tasks).map_err(at_state)?,
            shortcomings: String::new(),
            cgroups: None,
            roots: Roots::in_folder(state.join("roots")).map_err(at_state)?,
            network: Network::empty(),
        };
        let reached = sandbox
            .attempt_escape(state, tasks)
            .map_err(|error| error.to_string())?;
        if !reached.is_nothing() {
            sandbox.shortcomings = format!("a compile {}", reached.words());
        }
        let holds = match isolation {
            Isolation::Full => reached.is_nothing(),
            Isolation::Landlock => reached.is_processes_only(),
            Isolation::Folder => reached.is_usable(),
        };
        match holds {
            true => Ok(sandbox),
            false => Err(sandbox.shortcomings),
        }
    }

    /// Tries to break out of this sandbox, as a compile would.
    fn attempt_escape(&self, state: &Path, tasks: &Path) -> io::Result<Reached> {
        use nix::poll::{PollFd, PollFlags, poll};
        use nix::sys::signal::{Signal, killpg};
        use nix::sys::wait::waitpid;
        use std::io::Read;
        use std::os::fd::AsFd;

        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let targets = Targets::new(&state.join("lock"), state, &listener);
        let folder = TaskFolder::create(tasks, "escape")?;
        let limits = ResourceLimits {
            memory_bytes_max: u64::MAX,
            file_bytes_max: 1 << 20,
            cpu_s_max: 10,
            nice: 0,
            totals: Totals::new(0, 0, u64::MAX, 1 << 20),
        };
        let none = Tools::Own(Vec::new());
        let mut launch = Launch::new(Path::new("/"), &none, &folder, Path::new(""), limits);
        launch.escape = Some(&targets);
        let mut started = self.start(&launch)?;
        let mut stdout = started
            .stdout
            .take()
            .map(std::fs::File::from)
            .ok_or(io::ErrorKind::BrokenPipe)?;
        let mut polled = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
        let mut bits = [0; 4];
        let told = match poll(&mut polled, ESCAPE_MS_MAX) {
            Ok(1..) => stdout.read_exact(&mut bits),
            _ => Err(io::Error::from(io::ErrorKind::TimedOut)),
        };
        // Its process group may have no other members, or be gone already.
        let _ = killpg(started.pid, Signal::SIGKILL);
        let _ = waitpid(started.pid, None);
        // Why it could not be started says more than that it said nothing.
        started.exit()?;
        told?;
        let reached = Reached::from_bits(u32::from_ne_bytes(bits));
        Ok(reached.and_network(listener.accept().is_ok()))
    }

    fn start_as(&self, launch: &Launch<'_>) -> io::Result<Started> {
        match self.isolation {
            Isolation::Full => {
                let root = match launch.tree {
                    Some(_) => self.roots.root_without_headers(launch.tools),
                    None => self.roots.root(launch.tools),
                };
                full::start(&root?, self.network.as_ref(), launch)
            }
            _ if launch.tree.is_some() => Err(io::ErrorKind::Unsupported.into()),
            Isolation::Landlock => partial::start(launch, true),
            Isolation::Folder => partial::start(launch, false),
        }
    }

    /// Forgets the roots that were made of `tools`: they are wrong by now.
    pub fn forget_roots(&self, tools: &Tools) {
        self.roots.forget(tools);
    }

    /// Calls `see` with the layout in which tasks of the tree form find `tools`.
    ///
    /// # Errors
    /// One of `tools` does not exist.
    pub fn with_tree_layout<T>(
        &self,
        tools: &Tools,
        see: impl FnOnce(&Arc<Layout>) -> T,
    ) -> io::Result<T> {
        Ok(see(self.roots.root_without_headers(tools)?.layout()))
    }
}

/// User as which compiles run; `None`: the worker's own. A worker of root's compiles as
/// nobody.
#[cfg(target_os = "linux")]
fn user(tasks: &Path) -> io::Result<Option<u32>> {
    if !privileges::can_change_owners() {
        return Ok(None);
    }
    // In a container, that number may be nobody's at all.
    let folder = TaskFolder::create(tasks, "user")?;
    Ok(folder.give_to(NOBODY).is_ok().then_some(NOBODY))
}

#[cfg(not(target_os = "linux"))]
impl Sandbox {
    /// The private folder is all that there is on this system.
    ///
    /// # Errors
    /// In words: the full isolation is required.
    pub fn measure(_state: &Path, _tasks: &Path, policy: Policy) -> Result<Self, String> {
        let shortcomings = "only a private folder and limits on this system";
        match policy {
            Policy::RequireFull => Err(format!("--sandbox require: {shortcomings}")),
            Policy::Best | Policy::FolderOnly => Ok(Sandbox {
                isolation: Isolation::Folder,
                user: None,
                shortcomings: shortcomings.to_owned(),
                cgroups: None,
            }),
        }
    }

    fn start_as(&self, launch: &Launch<'_>) -> io::Result<Started> {
        partial::start(launch, false)
    }

    /// Does nothing: there are no roots on this system.
    pub fn forget_roots(&self, _tools: &Tools) {}

    /// There is no tree form on this system.
    ///
    /// # Errors
    /// Always.
    pub fn with_tree_layout<T>(
        &self,
        _tools: &Tools,
        _see: impl FnOnce(&Arc<Layout>) -> T,
    ) -> io::Result<T> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
