//! Programs that are no compiler for those below us, since the way to them went through
//! these: scripts and wrappers that may come back to us, and hgbuilds that can't tell
//! what we are. Without that they would take each other for the compiler for ever.
//!
//! The list goes down in the environment and, for scripts that clear that (`env -i`), in
//! a file in memory that stays open over `exec`. A program that does both, clear the
//! environment and close what it did not open, hands nothing on, and is not noticed.

use std::env;
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// Names the variable with the list: `DEVICE:INODE`, with blanks between.
const VARIABLE: &str = "HG_PASSED";

/// The list of one process.
pub struct Passed {
    places: Vec<String>,
}

impl Passed {
    /// What was handed down to this process.
    pub fn inherited() -> Passed {
        let mut passed = Passed { places: Vec::new() };
        let variable = env::var(VARIABLE).unwrap_or_default();
        let in_memory = in_memory::inherited().unwrap_or_default();
        for place in variable.split(' ').chain(in_memory.split(' ')) {
            passed.add_place(place.to_owned());
        }
        passed
    }

    /// Whether the file with `meta` is in the list.
    pub fn contains(&self, meta: &Metadata) -> bool {
        self.places.contains(&place(meta))
    }

    /// Adds the file with `meta`.
    pub fn add(&mut self, meta: &Metadata) {
        self.add_place(place(meta));
    }

    fn add_place(&mut self, place: String) {
        if !place.is_empty() && !self.places.contains(&place) {
            self.places.push(place);
        }
    }

    /// Hands the list on to whatever this process becomes or starts from here on; gives the
    /// variable to set for it.
    pub fn hand_on(self) -> (&'static str, OsString) {
        let list = self.places.join(" ");
        in_memory::hand_on(list.as_bytes());
        (VARIABLE, list.into())
    }
}

fn place(meta: &Metadata) -> String {
    format!("{}:{}", meta.dev(), meta.ino())
}

#[cfg(target_os = "linux")]
mod in_memory {
    use std::fs::{self, File};
    use std::io::{Read, Write};
    use std::os::fd::{AsRawFd, RawFd};

    use nix::libc;
    use nix::sys::memfd::{MFdFlags, memfd_create};

    /// Under which the file is open: above the descriptors that shells and build tools
    /// have for themselves, and within the least limit that is usual (256).
    const DESCRIPTOR: RawFd = 200;
    /// Bytes of a list; who made a longer one is not us.
    const BYTES_MAX: u64 = 1 << 16;

    fn path() -> String {
        format!("/proc/self/fd/{DESCRIPTOR}")
    }

    /// Whether what is open there is a list; `None`: nothing is.
    fn is_ours() -> Option<bool> {
        let target = fs::read_link(path()).ok()?;
        Some(target.as_os_str() == "/memfd:hg-passed (deleted)")
    }

    pub fn inherited() -> Option<String> {
        is_ours().filter(|ours| *ours)?;
        let mut list = String::new();
        // Opened anew: others read by the same descriptor.
        let file = File::open(path()).ok()?;
        file.take(BYTES_MAX).read_to_string(&mut list).ok()?;
        Some(list)
    }

    /// Where it can't be, the environment alone has the list.
    pub fn hand_on(list: &[u8]) {
        if is_ours() == Some(false) {
            return;
        }
        // A file of its own: what is above us has other programs below it too.
        let Ok(file) = memfd_create(c"hg-passed", MFdFlags::MFD_CLOEXEC) else {
            return;
        };
        let mut file = File::from(file);
        if file.write_all(list).is_ok() {
            // SAFETY: nothing of this process owns that number. The copy stays open over
            // exec, the file itself does not.
            unsafe { libc::dup2(file.as_raw_fd(), DESCRIPTOR) };
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod in_memory {
    pub fn inherited() -> Option<String> {
        None
    }

    pub fn hand_on(_list: &[u8]) {}
}
