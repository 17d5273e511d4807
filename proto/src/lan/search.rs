//! Who could be the coordinator that a token is of: those who announce it on the local
//! networks, and those whom the search domains name. With threads.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use crate::lan::{browse, unicast};
use crate::secure::token::Fingerprint;

/// Bytes of the stack of a thread that listens. It calls the system's resolver.
const STACK_BYTES: usize = 256 << 10;

/// By how much an address stands back behind a better one.
const STANDS_BACK: Duration = Duration::from_millis(50);

/// Gives `found`, in threads that end after `wait` or when it has heard enough, each address
/// where the coordinator with `fingerprint` could be. Nothing of it is proved.
pub fn begin<F>(fingerprint: Fingerprint, wait: Duration, found: F)
where
    F: FnMut(SocketAddr) -> ControlFlow<()> + Clone + Send + 'static,
{
    let mut announced = found.clone();
    start("mdns", move || {
        let _ = browse::browse(wait, |one| {
            if !one.announcement.names(&fingerprint) {
                return ControlFlow::Continue(());
            }
            one.addresses.into_iter().try_for_each(&mut announced)
        });
    });
    start("dns", move || {
        let _ = unicast::look(wait, found);
    });
}

/// Without a thread nothing is heard.
fn start(name: &str, listen: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().name(name.to_owned());
    let _ = thread.stack_size(STACK_BYTES).spawn(listen);
}

/// How long others are tried before `address`, in the order in which they are listed: last
/// what holds on one wire alone, and names an interface by a number.
pub fn stands_back(address: &SocketAddr) -> Duration {
    match address {
        SocketAddr::V4(_) => Duration::ZERO,
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => 3 * STANDS_BACK,
        SocketAddr::V6(_) => STANDS_BACK,
    }
}
