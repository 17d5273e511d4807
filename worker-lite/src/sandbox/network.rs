//! An empty network namespace for all compiles of a worker. Linux. Unaware of what a
//! thread does in it.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::thread;

use nix::libc;

/// Network namespace of the calling thread.
const OF_THIS_THREAD: &str = "/proc/thread-self/ns/net";

/// A network namespace with nothing in it but a loopback device that is down. The kernel
/// takes longer to make one, and to take it down, than for all the other namespaces
/// together, and does so for one at a time on the whole machine: a worker that may make it
/// beforehand shares it among compiles. It belongs to the worker's user namespace, so that
/// no compile may change it, and the seccomp filter has no sockets.
#[derive(Debug)]
pub struct Network {
    empty: fs::File,
    /// Namespace of the worker itself.
    own: fs::File,
}

impl Network {
    /// Makes the namespace; `None`: this user may not, and each compile needs one of its
    /// own.
    pub fn empty() -> Option<Self> {
        let make = || -> io::Result<Self> {
            let own = fs::File::open(OF_THIS_THREAD)?;
            // SAFETY: a plain system call; the thread does nothing else.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error());
            }
            let empty = fs::File::open(OF_THIS_THREAD)?;
            // A user who may make one may not always enter it.
            set_namespace(&own)?;
            set_namespace(&empty)?;
            Ok(Network { empty, own })
        };
        let made = thread::Builder::new().name("network".into()).spawn(make);
        made.ok()?.join().ok()?.ok()
    }

    /// Moves the calling thread into the empty namespace.
    ///
    /// # Errors
    /// It may not, any more.
    pub fn enter(&self) -> io::Result<()> {
        set_namespace(&self.empty)
    }

    /// Moves the calling thread back into the worker's own namespace.
    ///
    /// # Errors
    /// It may not, any more.
    pub fn leave(&self) -> io::Result<()> {
        set_namespace(&self.own)
    }
}

/// Moves the calling thread into `namespace`.
fn set_namespace(namespace: &fs::File) -> io::Result<()> {
    // SAFETY: a plain system call on a descriptor that is ours.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_of_all_compiles_is_empty_and_not_ours() {
        let of_thread = || fs::read_link(OF_THIS_THREAD).unwrap();
        let ours = of_thread();
        let Some(network) = Network::empty() else {
            eprintln!("skipped: this user may not make a network beforehand");
            return;
        };
        assert_eq!(of_thread(), ours);
        let look = move || {
            network.enter().unwrap();
            let links = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
            let theirs = of_thread();
            network.leave().unwrap();
            (links, theirs, of_thread())
        };
        let (links, theirs, back) = thread::spawn(look).join().unwrap();
        assert_ne!(theirs, ours);
        assert_eq!(back, ours);
        let links: Vec<_> = links.lines().skip(2).map(str::trim).collect();
        assert!(links[0].starts_with("lo:") && links.len() == 1, "{links:?}");
    }
}
