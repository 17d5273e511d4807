//! How many compilers and preprocessors run at once on this machine, over all
//! hgbuild processes of a user. A slot is a locked file: the kernel gives it
//! back whatever happens to its holder.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::local::signals;
use crate::private;

/// Slots of a machine, however many cores it has.
const SLOTS_MAX: usize = 256;
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
    /// `travelling`: how many may be used for compiles that could travel;
    /// `None`: all but those that preprocessing for the others needs.
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

    /// How many compilers may run here at once.
    pub fn total(&self) -> usize {
        self.total
    }

    /// How many of them may be compiles that could travel.
    pub fn travelling(&self) -> usize {
        self.travelling
    }

    /// Waits for a slot. `None`: slots can't be had here (no folder to lock
    /// in), or none came free for very long; run without.
    pub fn wait(&self) -> Option<Slot> {
        if let Some(slot) = self.any("slot", self.total)? {
            return Some(slot);
        }
        // One process looks, the others sleep behind it, in about the order
        // in which they came.
        let until = Instant::now() + Duration::from_secs(WAIT_S_MAX);
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
        signals::undisturbed(|| thread::Builder::new().spawn(wait)).ok()?;
        Some(receiver)
    }

    /// An idle slot for a compile that could travel, without waiting.
    pub fn idle(&self) -> Option<Slot> {
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

    /// Any idle slot, for a compile that could travel to a grid that is no faster;
    /// none if all that can travel shall.
    pub fn instead(&self) -> Option<Slot> {
        self.idle().or_else(|| match self.travelling {
            0 => None,
            _ => self.spare(),
        })
    }

    /// Any slot that nobody uses, without waiting.
    pub fn spare(&self) -> Option<Slot> {
        self.any("slot", self.total)?
    }

    /// `Some(None)`: all are taken.
    fn any(&self, kind: &str, count: usize) -> Option<Option<Slot>> {
        for index in 0..count {
            let file = self.open(&format!("{kind}.{index}")).ok()?;
            match file.try_lock() {
                Ok(()) => return Some(Some(Slot { files: vec![file] })),
                Err(fs::TryLockError::WouldBlock) => {}
                Err(fs::TryLockError::Error(_)) => return None,
            }
        }
        Some(None)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("hg-slots-{name}-{}", std::process::id()))
    }

    #[test]
    fn as_many_as_there_are() {
        let folder = folder("count");
        let slots = Slots {
            folder: folder.clone(),
            total: 2,
            travelling: 1,
        };
        let first = slots.idle().unwrap();
        assert!(slots.idle().is_none(), "one may travel");
        drop(slots.instead().unwrap());
        let second = slots.wait().unwrap();
        assert!(slots.instead().is_none());
        assert!(slots.any("slot", 2).unwrap().is_none(), "two in all");
        drop(first);
        drop(second);
        assert!(slots.idle().is_some());
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
        assert!(slots.idle().is_none(), "none may travel");
        assert!(slots.instead().is_none(), "not even then");
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
    fn no_folder_no_slots_no_trouble() {
        let slots = Slots {
            folder: PathBuf::from("/dev/null/x"),
            total: 1,
            travelling: 1,
        };
        assert!(slots.wait().is_none());
        assert!(slots.idle().is_none());
    }
}
