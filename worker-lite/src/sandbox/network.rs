//! A network with nothing in it, for all compiles of a worker. Linux. Unaware of what a
//! thread does in there.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::thread;

use nix::libc;

/// The network of the thread that looks.
const NETWORK: &str = "/proc/thread-self/ns/net";

/// A network with nothing in it. The kernel takes longer to make one, and to take it
/// down, than for all the other namespaces together, one at a time on the whole
/// machine: who may make it beforehand shares it among compiles. It belongs to the
/// worker's users, so that no compile may change it, and the filter has no sockets.
#[derive(Debug)]
pub struct Network {
    nowhere: fs::File,
    here: fs::File,
}

impl Network {
    /// `None`: each compile needs one of its own.
    pub fn empty() -> Option<Self> {
        let make = || -> io::Result<Self> {
            let here = fs::File::open(NETWORK)?;
            // SAFETY: a plain system call; the thread does nothing else.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error());
            }
            let nowhere = fs::File::open(NETWORK)?;
            // Who may make one may not always enter it.
            enter(&here)?;
            enter(&nowhere)?;
            Ok(Network { nowhere, here })
        };
        let made = thread::Builder::new().name("network".into()).spawn(make);
        made.ok()?.join().ok()?.ok()
    }

    /// Moves this thread in there.
    ///
    /// # Errors
    /// It may not, any more.
    pub fn go(&self) -> io::Result<()> {
        enter(&self.nowhere)
    }

    /// Moves this thread back.
    ///
    /// # Errors
    /// It may not, any more.
    pub fn back(&self) -> io::Result<()> {
        enter(&self.here)
    }
}

/// Moves this thread to `network`.
fn enter(network: &fs::File) -> io::Result<()> {
    // SAFETY: a plain system call on a descriptor that is ours.
    match unsafe { libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_of_all_compiles_is_empty_and_not_ours() {
        let of_thread = || fs::read_link(NETWORK).unwrap();
        let ours = of_thread();
        let Some(network) = Network::empty() else {
            eprintln!("skipped: this user may not make a network beforehand");
            return;
        };
        assert_eq!(of_thread(), ours);
        let look = move || {
            network.go().unwrap();
            let links = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
            let theirs = of_thread();
            network.back().unwrap();
            (links, theirs, of_thread())
        };
        let (links, theirs, back) = thread::spawn(look).join().unwrap();
        assert_ne!(theirs, ours);
        assert_eq!(back, ours);
        let links: Vec<_> = links.lines().skip(2).map(str::trim).collect();
        assert!(links[0].starts_with("lo:") && links.len() == 1, "{links:?}");
    }
}
