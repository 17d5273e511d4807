//! What confines a compile: a private folder, a scrubbed environment, limits, and
//! the best walls that this machine has. Which those are is measured at the start,
//! by trying to break out. Facade over `sandbox_linux` and `sandbox_portable`;
//! unaware of the link and of how the compile is watched.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::inputs::layout::{Layout, Tools};
use crate::log::{self, Level as Loud};
pub use crate::sandbox::folder::{Folder, unexpected};
use crate::sandbox::groups::{Groups, PROCESSES_MAX};
pub use crate::sandbox::launch::{Launch, PATH, Started};
use crate::sandbox::partial;
pub use crate::sandbox::privileges::Confines;
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

/// Whom compiles of a worker of root's run as: nobody, by its usual number.
#[cfg(target_os = "linux")]
const NOBODY: u32 = 65534;
/// What breaking out may take.
#[cfg(target_os = "linux")]
const ESCAPE_MS_MAX: u16 = 10_000;

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
                why.extend(full::hints());
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
        let none = Tools::Own(Vec::new());
        let mut launch = Launch::new(Path::new("/"), &none, &folder, Path::new(""), confines);
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
                    Some(_) => self.roots.in_place_of(launch.tools),
                    None => self.roots.of(launch.tools),
                };
                full::start(&root?, self.network.as_ref(), launch)
            }
            _ if launch.tree.is_some() => Err(io::ErrorKind::Unsupported.into()),
            Level::Landlock => partial::start(launch, true),
            Level::Folder => partial::start(launch, false),
        }
    }

    /// What is known of how to show `tools` is wrong.
    pub fn forget(&self, tools: &Tools) {
        self.roots.forget(tools);
    }

    /// Gives `see` where `tools` are for tasks of the tree form.
    ///
    /// # Errors
    /// One of them is not there.
    pub fn in_place<T>(&self, tools: &Tools, see: impl FnOnce(&Arc<Layout>) -> T) -> io::Result<T> {
        Ok(see(self.roots.in_place_of(tools)?.layout()))
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
        partial::start(launch, false)
    }

    /// Nothing is known of how to show files.
    pub fn forget(&self, _tools: &Tools) {}

    /// There is no tree form.
    ///
    /// # Errors
    /// Always.
    pub fn in_place<T>(
        &self,
        _tools: &Tools,
        _see: impl FnOnce(&Arc<Layout>) -> T,
    ) -> io::Result<T> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
