//! Other distributed compilers, to be compared with: each has one worker on loopback with two
//! slots, and every compile goes there.

mod distcc;
mod icecream;

use std::path::Path;
use std::process::{Child, Command};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use hg_tests::command::scrubbed;
use hg_tests::skip;

/// One that runs, ended when dropped.
pub struct Peer {
    /// For the table.
    pub name: &'static str,
    /// What stands in front of a compiler.
    pub wrapper: &'static str,
    /// What stands in front of a build.
    front: Vec<String>,
    environment: Vec<(&'static str, String)>,
    daemon: Daemon,
}

impl Peer {
    /// Those that are installed, each started.
    pub fn all(folder: &Path) -> Vec<Peer> {
        let started = [
            ("distcc", distcc::start(folder)),
            ("icecream", icecream::start()),
        ];
        let running = started
            .into_iter()
            .filter_map(|(name, peer)| peer.inspect_err(|why| skip(name, why)).ok());
        running.collect()
    }

    /// `make` in `folder`, where this one's daemons are.
    pub fn make(&self, folder: &Path, home: &Path) -> Command {
        let words = self.front.iter().map(String::as_str).chain(["make"]);
        let mut command = in_front(words, folder, home);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// How many compiles its worker has done; `None` where nobody counts: distcc compiles
    /// nothing here, since it has been told so.
    pub fn compiled(&self) -> Option<usize> {
        let folder = self.daemon.folder.as_ref()?;
        Some(icecream::compiled(folder.path()))
    }

    /// For the CPU account.
    pub fn pids(&self) -> Vec<u32> {
        vec![self.daemon.child.id()]
    }
}

/// A command of `words`.
fn in_front<'a>(words: impl Iterator<Item = &'a str>, folder: &Path, home: &Path) -> Command {
    let words: Vec<&str> = words.collect();
    let mut command = scrubbed(words[0], folder, home);
    command.args(&words[1..]);
    command
}

/// A process, with all that it has started, and their folder.
struct Daemon {
    child: Child,
    /// What ends all of them.
    end: Signal,
    folder: Option<tempfile::TempDir>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), self.end);
        let _ = self.child.wait();
        drop(self.folder.take());
    }
}
