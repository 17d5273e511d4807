//! What all sandboxes share: the description of a compiler process to be started, and the
//! handle of a started one. Unaware of what isolates it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::unistd::Pid;

use crate::files::state::TASK_VARIABLE;
use crate::inputs::layout::Tools;
use crate::inputs::tree::Tree;
use crate::sandbox::cgroups::CompileCgroup;
#[cfg(target_os = "linux")]
use crate::sandbox::escape::Targets;
use crate::sandbox::folder::TaskFolder;
use crate::sandbox::privileges::ResourceLimits;
use crate::sandbox::report::CompilerExit;
#[cfg(target_os = "linux")]
use crate::sandbox::report::InitProcess;

/// PATH of every compile.
pub const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A compiler process to be started.
pub struct Launch<'a> {
    /// Absolute path of the program.
    pub driver: &'a Path,
    /// All files and folders of this machine that it may see, the driver among them.
    pub tools: &'a Tools,
    /// Folder that its PATH has ahead of [`PATH`].
    pub path_first: Option<&'a Path>,
    /// Its argv, without the program's name.
    pub arguments: &'a [OsString],
    /// Environment variables beside the worker's own, which they can't replace.
    pub environment: &'a [(OsString, OsString)],
    /// The private folder of its task.
    pub folder: &'a TaskFolder,
    /// Working directory: below the folder's root, or in the tree form absolute.
    pub directory: &'a Path,
    /// Files of a task of the tree form.
    pub tree: Option<&'a Tree<'a>>,
    /// Bounds on each of its processes, and on all of them.
    pub limits: ResourceLimits,
    /// Columns of the terminal that its stderr is to be; `None`: a pipe.
    pub terminal: Option<u16>,
    /// User as which it runs, if not the worker's own; set by the facade.
    pub(crate) user: Option<u32>,
    /// Control group that it enters before it does anything; set by the facade.
    pub(crate) cgroup: Option<&'a CompileCgroup>,
    /// Attempts to break out that are made in place of the compiler.
    #[cfg(target_os = "linux")]
    pub(crate) escape: Option<&'a Targets>,
}

impl<'a> Launch<'a> {
    /// A launch of `driver`, which needs `tools`, in `directory` of `folder`, without
    /// arguments.
    pub fn new(
        driver: &'a Path,
        tools: &'a Tools,
        folder: &'a TaskFolder,
        directory: &'a Path,
        limits: ResourceLimits,
    ) -> Self {
        Launch {
            driver,
            tools,
            path_first: None,
            arguments: &[],
            environment: &[],
            folder,
            directory,
            tree: None,
            limits,
            terminal: None,
            user: None,
            cgroup: None,
            #[cfg(target_os = "linux")]
            escape: None,
        }
    }

    /// Its whole environment, where it finds the task's folder at `task`.
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

/// A started compiler process, leader of a process group of its own.
#[derive(Debug)]
pub struct Started {
    /// Child of the worker, to be waited for.
    pub pid: Pid,
    /// Reading end of its stdout, until somebody takes it.
    pub stdout: Option<OwnedFd>,
    /// Reading end of its stderr, until somebody takes it.
    pub stderr: Option<OwnedFd>,
    /// Its stderr is a terminal.
    pub on_terminal: bool,
    /// Control group that it runs in; whatever is left in there ends with this.
    pub(crate) cgroup: Option<CompileCgroup>,
    /// The process is the init of a sandbox, and the compiler a child of it.
    #[cfg(target_os = "linux")]
    pub(crate) init: Option<InitProcess>,
}

impl Started {
    /// How the compiler ended, once the process is reaped; `None`: as the process did.
    ///
    /// # Errors
    /// The compiler could not be started after all.
    pub fn exit(self) -> io::Result<Option<CompilerExit>> {
        #[cfg(target_os = "linux")]
        if let Some(init) = self.init {
            return init.exit();
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::totals::Totals;
    use hg_proto::secure::private::make_folder;

    #[test]
    fn a_compile_is_told_no_path_of_the_worker() {
        let state = tempfile::tempdir().unwrap();
        let state = state.path().canonicalize().unwrap();
        let tasks = state.join("tasks");
        make_folder(&tasks).unwrap();
        let folder = TaskFolder::create(&tasks, "task-7").unwrap();
        let limits = ResourceLimits {
            memory_bytes_max: 1 << 30,
            file_bytes_max: 1 << 30,
            cpu_s_max: 60,
            nice: 0,
            totals: Totals::new(0, 0, u64::MAX, 1 << 20),
        };
        let none = Tools::Own(Vec::new());
        let launch = Launch::new(
            Path::new("/usr/bin/gcc"),
            &none,
            &folder,
            Path::new("/task"),
            limits,
        );
        let told = launch.environment_at(Path::new("/task"));
        assert!(told.iter().any(|(name, _)| name == TASK_VARIABLE));
        let path = state.to_string_lossy().into_owned();
        for (name, value) in told {
            assert!(!value.to_string_lossy().contains(&path), "{name:?}");
        }
    }
}
