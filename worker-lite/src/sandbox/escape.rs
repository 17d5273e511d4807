//! Attempts to break out of a sandbox, from inside: what a compiler that obeys an attacker
//! would try. Linux. Runs in a fresh child: makes system calls and nothing else.

use std::ffi::CString;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use nix::libc;

use crate::sandbox::privileges;

/// What the attempts may reach; bits of [`Reached`].
const FILES_READ: u32 = 1;
const FILES_WRITTEN: u32 = 1 << 1;
const NETWORK: u32 = 1 << 2;
const PROCESSES: u32 = 1 << 3;
const PRIVILEGES: u32 = 1 << 4;
/// Not a way out: the task's own folder or a device can't be used.
const UNUSABLE: u32 = 1 << 5;

const WORDS: [(u32, &str); 6] = [
    (FILES_READ, "can read other files"),
    (FILES_WRITTEN, "can write elsewhere"),
    (NETWORK, "can connect"),
    (PROCESSES, "can signal other processes"),
    (PRIVILEGES, "could gain privileges"),
    (UNUSABLE, "can't use its own folder"),
];

/// What the attempts reached, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached(u32);

impl Reached {
    /// The set that [`attempt`] gave as bits.
    pub fn from_bits(bits: u32) -> Self {
        Reached(bits)
    }

    /// Whether nothing was reached.
    pub fn is_nothing(self) -> bool {
        self.0 == 0
    }

    /// Whether at most other processes were reached.
    pub fn is_processes_only(self) -> bool {
        self.0 & !PROCESSES == 0
    }

    /// Whether a compile could run in the sandbox, broken out of or not.
    pub fn is_usable(self) -> bool {
        self.0 & UNUSABLE == 0
    }

    /// With the network added if it was `reached`: the listener may know better.
    pub fn and_network(self, reached: bool) -> Self {
        Reached(self.0 | if reached { NETWORK } else { 0 })
    }

    /// What was reached, for people.
    pub fn words(self) -> String {
        let reached = WORDS.iter().filter(|(bit, _)| self.0 & bit != 0);
        let words: Vec<&str> = reached.map(|(_, words)| *words).collect();
        words.join(", ")
    }
}

/// Targets of the attempts, in the form in which system calls take them.
#[derive(Debug)]
pub struct Targets {
    /// Files that must not be read.
    secrets: Vec<CString>,
    /// Files that must not be made.
    new_files: Vec<CString>,
    /// Listener that must not be connected to.
    address: libc::sockaddr_in,
    /// Process that must not be signalled.
    worker: libc::pid_t,
}

fn c(path: &Path) -> Option<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).ok()
}

impl Targets {
    /// Files of the system, `secret`, which is a file of the worker's, new files in `place`,
    /// in the root and in /dev, and `listener`, which is on loopback.
    pub fn new(secret: &Path, place: &Path, listener: &TcpListener) -> Self {
        let port = listener.local_addr().map_or(0, |address| address.port());
        // SAFETY: all zeros is a valid address.
        let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        address.sin_family = libc::AF_INET as libc::sa_family_t;
        address.sin_port = port.to_be();
        address.sin_addr.s_addr = u32::from(Ipv4Addr::LOCALHOST).to_be();
        let name = format!(".hg-escape-{}", std::process::id());
        let secrets = ["/etc/passwd", "/proc/self/environ"].map(Path::new);
        Targets {
            secrets: secrets.into_iter().chain([secret]).filter_map(c).collect(),
            new_files: [place, Path::new("/"), Path::new("/dev")]
                .iter()
                .filter_map(|folder| c(&folder.join(&name)))
                .collect(),
            address,
            worker: std::process::id() as libc::pid_t,
        }
    }
}

/// Makes all attempts, in a working directory that is the task's own. Gives the bits of
/// [`Reached`].
pub fn attempt(targets: &Targets) -> u32 {
    let mut reached = 0;
    let mut when = |bit, is: bool| {
        if is {
            reached |= bit;
        }
    };
    // SAFETY: plain system calls on memory that outlives them.
    unsafe {
        for secret in &targets.secrets {
            let fd = libc::open(secret.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
            let mut byte = 0u8;
            when(
                FILES_READ,
                fd >= 0 && libc::read(fd, (&raw mut byte).cast(), 1) >= 0,
            );
            libc::close(fd);
        }
        for path in &targets.new_files {
            when(FILES_WRITTEN, creates(path));
        }
        when(NETWORK, connects(&targets.address));
        // Signal 0 is never sent: whether it could be is what is answered. Where
        // nobody else is there the number of the worker may be one's own.
        let others = libc::kill(-1, 0) == 0;
        when(PROCESSES, others && libc::kill(targets.worker, 0) == 0);
        when(PRIVILEGES, holds_capabilities());
        when(
            PRIVILEGES,
            libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0 as libc::c_ulong, 0, 0, 0) != 1
                || libc::syscall(libc::SYS_unshare, libc::CLONE_NEWUSER) == 0,
        );
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        let wrote = null >= 0 && libc::write(null, c"x".as_ptr().cast(), 1) == 1;
        when(UNUSABLE, !wrote || !creates(c".hg-own"));
    }
    reached
}

/// Whether the file at `path` can be made; it is removed again.
///
/// # Safety
/// None is needed beyond a valid path; marked since it makes raw system calls.
unsafe fn creates(path: &std::ffi::CStr) -> bool {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
    // SAFETY: plain system calls on a path that outlives them.
    unsafe {
        let fd = libc::open(path.as_ptr(), flags, 0o600);
        if fd < 0 {
            return false;
        }
        libc::close(fd);
        libc::unlink(path.as_ptr());
        true
    }
}

fn connects(address: &libc::sockaddr_in) -> bool {
    // SAFETY: plain system calls; the address has the length that is given.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        let len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        let reached = socket >= 0 && libc::connect(socket, (&raw const *address).cast(), len) == 0;
        libc::close(socket);
        reached
    }
}

/// Any capability in any of this process's own sets, or in what it could get.
fn holds_capabilities() -> bool {
    let held = privileges::capabilities().is_none_or(|sets| sets != 0);
    // SAFETY: a plain system call; 1 is CAP_DAC_OVERRIDE. Outside of a user namespace other
    // users than root can't empty this set, and need not.
    let can_be_gained = unsafe {
        libc::getuid() == 0 && libc::prctl(libc::PR_CAPBSET_READ, 1 as libc::c_ulong) == 1
    };
    held || can_be_gained
}
