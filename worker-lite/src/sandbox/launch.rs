//! What the sandboxes share: a compiler to be run, and one that was started. Unaware of
//! what holds it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::unistd::Pid;

use crate::files::state::TASK_VARIABLE;
use crate::inputs::layout::Tools;
use crate::inputs::tree::Tree;
#[cfg(target_os = "linux")]
use crate::sandbox::escape::Targets;
use crate::sandbox::folder::Folder;
use crate::sandbox::groups::Group;
use crate::sandbox::privileges::Confines;
use crate::sandbox::report::Ended;
#[cfg(target_os = "linux")]
use crate::sandbox::report::Init;

/// Where a compiler finds its helpers.
pub const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// A compiler to be run.
pub struct Launch<'a> {
    /// Absolute.
    pub driver: &'a Path,
    /// All that it may see of this machine, itself among it.
    pub tools: &'a Tools,
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
    /// `driver`, one of `tools`, in `directory` of `folder`.
    pub fn new(
        driver: &'a Path,
        tools: &'a Tools,
        folder: &'a Folder,
        directory: &'a Path,
        confines: Confines,
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
        let folder = Folder::create(&tasks, "task-7").unwrap();
        let confines = Confines {
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
