//! How many compilers and preprocessors run at once on this machine, over all
//! hgbuild processes of a user. A slot is a locked file: the kernel gives it
//! back whatever happens to its holder, whose number is in the file.
//!
//! A holder that is stopped (Ctrl-Z on a build, a debugger) keeps its lock and uses no
//! processor, so it does not count: another build goes on beside it. When it goes on
//! too, more compilers run than there are slots until the first of them end: as with
//! two builds without us, and never more than were started.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::local::signals;
use crate::private;

/// Slots of a machine, however many cores it has.
const SLOTS_MAX: usize = 256;
/// Slots beside those of stopped holders.
const BESIDE_STOPPED_MAX: usize = 1024;
/// Between two looks at whether holders are stopped.
const STOPPED_LOOK_MS: u64 = 100;
/// Between two looks of the one process that looks for a free slot.
const LOOK_MS: u64 = 2;
/// Between two looks of the others, should that one have been stopped.
const BESIDE_MS: u64 = 200;
/// After this long we run without a slot: a wrong count must not stop a build.
const WAIT_S_MAX: u64 = 600;

/// A place to run one compiler; given back on drop, or when the process ends.
#[derive(Debug)]
pub struct Slot {
    files: Vec<File>,
}

impl Slot {
    /// Lets the lock live on in a program that takes our place (`exec`).
    pub fn keep_over_exec(&self) {
        use nix::fcntl::{FcntlArg, FdFlag, fcntl};
        for file in &self.files {
            // At worst the slot is free too early.
            let _ = fcntl(file, FcntlArg::F_SETFD(FdFlag::empty()));
        }
    }
}

/// The slots of this machine.
#[derive(Debug, Clone)]
pub struct Slots {
    folder: PathBuf,
    total: usize,
    travelling: usize,
}

impl Slots {
    /// The slots of a user whose locks are in `folder`. `travelling`: how many may be used
    /// for compiles that could travel; `None`: all but those that preprocessing for the
    /// others needs.
    pub fn new(folder: &Path, travelling: Option<usize>) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let total = cores.min(SLOTS_MAX);
        Slots {
            folder: folder.to_path_buf(),
            total,
            travelling: travelling
                .unwrap_or(total - total.div_ceil(4))
                .min(SLOTS_MAX),
        }
    }

    /// Compilers that may run on this machine at once.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Compilers that may run at once for compiles that could travel.
    pub fn travelling(&self) -> usize {
        self.travelling
    }

    /// Waits for a slot. `None`: slots can't be had here (no folder to lock
    /// in), or none came free for very long; run without.
    pub fn wait(&self) -> Option<Slot> {
        if let Some(slot) = self.any("slot", self.total)? {
            return Some(slot);
        }
        if let Some(slot) = self.beside_stopped()? {
            return Some(slot);
        }
        // One process looks, the others sleep behind it, in about the order
        // in which they came.
        let stopped_look = Duration::from_millis(STOPPED_LOOK_MS);
        let until = Instant::now() + Duration::from_secs(WAIT_S_MAX);
        let mut look_for_stopped = Instant::now() + stopped_look;
        let passing = self.pass_gate()?;
        let mut passed = None;
        while Instant::now() < until {
            if passed.is_some() {
                thread::sleep(Duration::from_millis(LOOK_MS));
            } else {
                match passing.recv_timeout(Duration::from_millis(BESIDE_MS)) {
                    Ok(gate) => passed = Some(gate),
                    Err(RecvTimeoutError::Disconnected) => return None,
                    Err(RecvTimeoutError::Timeout) => {}
                }
            }
            if let Some(slot) = self.any("slot", self.total)? {
                return Some(slot);
            }
            if Instant::now() >= look_for_stopped {
                if let Some(slot) = self.beside_stopped()? {
                    return Some(slot);
                }
                look_for_stopped = Instant::now() + stopped_look;
            }
        }
        None
    }

    /// Waits at the gate on a thread of its own: whoever holds it may be stopped for
    /// hours. What comes is the gate, ours until it is dropped.
    fn pass_gate(&self) -> Option<Receiver<File>> {
        let gate = self.open("gate").ok()?;
        let (sender, receiver) = mpsc::channel();
        let wait = move || {
            if gate.lock().is_ok() {
                // Who found a slot meanwhile does not want it any more.
                let _ = sender.send(gate);
            }
        };
        // It may outlive the wait: signals are for the thread that decides when.
        signals::with_signals_held(|| thread::Builder::new().spawn(wait)).ok()?;
        Some(receiver)
    }

    /// A free slot for a compile that could travel, without waiting; `None`: those that
    /// such compiles may have are taken.
    pub fn try_travelling(&self) -> Option<Slot> {
        if self.travelling == 0 {
            return None;
        }
        let mut right = self.any("travel", self.travelling)??;
        // `HG_LOCAL_SLOTS` above the number of cores means what it says.
        if self.travelling <= self.total {
            let mut place = self.any("slot", self.total)??;
            right.files.append(&mut place.files);
        }
        Some(right)
    }

    /// Any free slot, for a compile that could travel to a grid that is no faster; `None`
    /// too where all that can travel shall.
    pub fn try_any_for_travelling(&self) -> Option<Slot> {
        self.try_travelling().or_else(|| match self.travelling {
            0 => None,
            _ => self.try_any(),
        })
    }

    /// Any free slot, without waiting.
    pub fn try_any(&self) -> Option<Slot> {
        self.any("slot", self.total)?
    }

    /// The first free one of `count` slots of a `kind`. `Some(None)`: all are taken; `None`:
    /// slots can't be had.
    fn any(&self, kind: &str, count: usize) -> Option<Option<Slot>> {
        for index in 0..count {
            if let Some(slot) = self.take(kind, index)? {
                return Some(Some(slot));
            }
        }
        Some(None)
    }

    /// A slot above the count, if fewer compilers run than there are slots since those
    /// who hold the others are stopped. `Some(None)`: enough of them run.
    fn beside_stopped(&self) -> Option<Option<Slot>> {
        let mut running = 0;
        for index in 0..self.total + BESIDE_STOPPED_MAX {
            if running == self.total {
                break;
            }
            if let Some(slot) = self.take("slot", index)? {
                return Some(Some(slot));
            }
            running += usize::from(!self.is_holder_stopped(index));
        }
        Some(None)
    }

    /// Takes one slot. `Some(None)`: somebody has it; `None`: slots can't be had.
    fn take(&self, kind: &str, index: usize) -> Option<Option<Slot>> {
        let file = self.open(&format!("{kind}.{index}")).ok()?;
        match file.try_lock() {
            Ok(()) => {
                // Without the number the holder counts as one that runs. It is as long
                // each time, so that nothing of another one is left behind it.
                let _ = file.write_all_at(format!("{:10}", process::id()).as_bytes(), 0);
                Some(Some(Slot { files: vec![file] }))
            }
            Err(fs::TryLockError::WouldBlock) => Some(None),
            Err(fs::TryLockError::Error(_)) => None,
        }
    }

    /// Whether whoever holds a slot is stopped; where nobody can tell, it is not. A
    /// compiler that took our place has our number. In a home that machines or
    /// containers share the number may be of another one's process: at worst one more
    /// compiler runs.
    fn is_holder_stopped(&self, index: usize) -> bool {
        let holder = fs::read_to_string(self.folder.join(format!("slot.{index}")));
        let pid = holder.ok().and_then(|text| text.trim().parse().ok());
        pid.is_some_and(is_stopped)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        let path = self.folder.join(name);
        let mut options = private::options();
        options.write(true).create(true).truncate(false);
        match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                private::make(&self.folder)?;
                options.open(&path)
            }
            other => other,
        }
    }
}

/// Whether a process is stopped by a signal or a debugger (proc_pid_stat(5)).
fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Its name, in brackets, may have brackets and blanks in it.
    let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    state.starts_with(['T', 't'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("hg-slots-{name}-{}", process::id()))
    }

    #[test]
    fn as_many_as_there_are() {
        let folder = folder("count");
        let slots = Slots {
            folder: folder.clone(),
            total: 2,
            travelling: 1,
        };
        let first = slots.try_travelling().unwrap();
        assert!(slots.try_travelling().is_none(), "one may travel");
        drop(slots.try_any_for_travelling().unwrap());
        let second = slots.wait().unwrap();
        assert!(slots.try_any_for_travelling().is_none());
        assert!(slots.any("slot", 2).unwrap().is_none(), "two in all");
        drop(first);
        drop(second);
        assert!(slots.try_travelling().is_some());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_waiter_gets_what_is_given_back() {
        let folder = folder("wait");
        let slots = Slots {
            folder: folder.clone(),
            total: 1,
            travelling: 0,
        };
        let held = slots.wait().unwrap();
        let waiter = {
            let slots = slots.clone();
            thread::spawn(move || slots.wait().is_some())
        };
        drop(held);
        assert!(waiter.join().unwrap());
        assert!(slots.try_travelling().is_none(), "none may travel");
        assert!(slots.try_any_for_travelling().is_none(), "not even then");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_waiter_passes_by_who_is_stopped_at_the_gate() {
        let folder = folder("gate");
        let slots = Slots {
            folder: folder.clone(),
            total: 1,
            travelling: 0,
        };
        let held = slots.wait().unwrap();
        let gate = slots.open("gate").unwrap();
        gate.lock().unwrap();
        let (told, tells) = mpsc::channel();
        let waiter = slots.clone();
        thread::spawn(move || told.send(waiter.wait().is_some()));
        drop(held);
        assert!(tells.recv_timeout(Duration::from_secs(60)).unwrap());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn who_is_stopped_holds_nobody_up() {
        use nix::sys::signal::{Signal, kill};
        use nix::sys::wait::{WaitPidFlag, waitpid};
        use nix::unistd::Pid;

        let folder = folder("stopped");
        let slots = Slots {
            folder: folder.clone(),
            total: 2,
            travelling: 1,
        };
        let mut children = Vec::new();
        let mut held = Vec::new();
        for index in 0..2 {
            let child = process::Command::new("cat")
                .stdin(process::Stdio::piped())
                .spawn()
                .unwrap();
            let slot = slots.wait().unwrap();
            // As a compiler that runs in its place.
            let number = format!("{:10}", child.id());
            slot.files[0].write_all_at(number.as_bytes(), 0).unwrap();
            assert_eq!(slots.beside_stopped().unwrap().is_some(), index == 0);
            children.push(child);
            held.push(slot);
        }
        let pid = Pid::from_raw(children[0].id().cast_signed());
        kill(pid, Signal::SIGSTOP).unwrap();
        waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
        let beside = slots.wait().unwrap();
        assert!(slots.beside_stopped().unwrap().is_none(), "two run");
        kill(pid, Signal::SIGCONT).unwrap();
        drop(beside);
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn no_folder_no_slots_no_trouble() {
        let slots = Slots {
            folder: PathBuf::from("/dev/null/x"),
            total: 1,
            travelling: 1,
        };
        assert!(slots.wait().is_none());
        assert!(slots.try_travelling().is_none());
    }
}
