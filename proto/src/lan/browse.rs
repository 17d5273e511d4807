//! Asks on the local networks which coordinators there are, by one-shot queries of multicast
//! DNS (RFC 6762, section 5.1): from a port of its own, to which the answers come, so that
//! nothing but the call's time is needed, and whichever responder has the machine's port 5353
//! is not disturbed. With I/O.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::lan::announcement::{Announcement, SERVICE};
use crate::lan::message::{self, Instance, Name};
use crate::secure::token::Fingerprint;

/// Where responders listen (RFC 6762, section 3).
const GROUP_V4: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 251), PORT);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
const PORT: u16 = 5353;
/// When the question is asked: it may be lost, as may be an answer.
const ASKED_AT: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(120),
    Duration::from_millis(700),
    Duration::from_millis(1500),
];
/// Bytes of a message (RFC 6762, section 17).
const MESSAGE_BYTES_MAX: usize = 9000;
/// Networks on which is asked.
const NETWORKS_MAX: usize = 32;
/// Addresses of one announcement that are looked at.
const ADDRESSES_MAX: usize = 8;
/// How long answers are waited for where those who answer are listed.
const LISTED_WITHIN: Duration = Duration::from_secs(1);
/// Messages of one call that are looked at: whoever sends more wants to be a burden.
const MESSAGES_MAX: usize = 256;

/// A coordinator that somebody announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// What is said of it.
    pub announcement: Announcement,
    /// Where it is said to listen, but not on loopback: the likeliest first.
    pub addresses: Vec<SocketAddr>,
}

impl Heard {
    /// `scope`: the interface over which it was heard, if that is known.
    fn of(instance: &Instance, scope: Option<u32>) -> Option<Self> {
        let announcement = Announcement::of(|key| instance.value(key))?;
        let mut addresses = Vec::new();
        let dialled = |ip: &IpAddr| address(*ip, instance.port, scope);
        for address in instance.addresses.iter().filter_map(dialled) {
            add(&mut addresses, address);
        }
        (!addresses.is_empty()).then_some(Heard {
            announcement,
            addresses,
        })
    }
}

impl fmt::Display for Heard {
    /// One line, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Announcement {
            grid,
            host,
            version,
            ..
        } = &self.announcement;
        let addresses = self.addresses.iter().map(SocketAddr::to_string);
        let addresses = addresses.collect::<Vec<_>>().join(", ");
        write!(f, "grid {grid} on {host}, {addresses}, version {version}")
    }
}

/// What can be dialled. Never this machine's loopback: tokens that its user's own coordinators
/// left are for what listens there.
pub fn address(ip: IpAddr, port: u16, scope: Option<u32>) -> Option<SocketAddr> {
    let ip = ip.to_canonical();
    let odd = ip.is_loopback() || ip.is_unspecified() || ip.is_multicast();
    if odd || port == 0 || ip == Ipv4Addr::BROADCAST {
        return None;
    }
    Some(match ip {
        IpAddr::V4(ip) => SocketAddrV4::new(ip, port).into(),
        IpAddr::V6(ip) => {
            let scope = match ip.is_unicast_link_local() {
                true => scope?,
                false => 0,
            };
            SocketAddrV6::new(ip, port, 0, scope).into()
        }
    })
}

/// Puts `address` into its place: IPv4 first, and what is good on one interface alone last.
fn add(addresses: &mut Vec<SocketAddr>, address: SocketAddr) {
    let rank = |address: &SocketAddr| match address {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(v6) => 1 + u8::from(v6.ip().is_unicast_link_local()),
    };
    if !addresses.contains(&address) && addresses.len() < ADDRESSES_MAX {
        let at = addresses.partition_point(|known| rank(known) <= rank(&address));
        addresses.insert(at, address);
    }
}

/// Gives `heard` what is answered within `wait`, until it has heard enough. One coordinator
/// may be heard several times.
///
/// # Errors
/// In words: this machine is on no network, or the system gives no socket.
pub fn browse(
    wait: Duration,
    mut heard: impl FnMut(Heard) -> ControlFlow<()>,
) -> Result<(), String> {
    let told = |error: io::Error| format!("mDNS: {error}");
    let service = Name::of(SERVICE).ok_or("mDNS: no service")?;
    let asker = Asker::open().map_err(told)?;
    let began = Instant::now();
    let number = 1 + (std::process::id() % u32::from(u16::MAX)) as u16;
    let question = message::question(&service, number);
    let mut asked = 0;
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    for _ in 0..MESSAGES_MAX {
        let now = began.elapsed();
        if ASKED_AT.get(asked).is_some_and(|at| *at <= now) {
            asked += 1;
            // A network that can't be asked may be able to the next time.
            asker.ask(&question);
        }
        if now >= wait {
            break;
        }
        let next = ASKED_AT.get(asked).map_or(wait, |at| (*at).min(wait));
        let answer = asker.answer(next.saturating_sub(now), &mut buffer);
        let Some((length, scope)) = answer.map_err(told)? else {
            continue;
        };
        for instance in message::instances(&buffer[..length], &service, number) {
            if Heard::of(&instance, scope).is_some_and(|one| heard(one).is_break()) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// All that is announced within `wait`, each coordinator once.
///
/// # Errors
/// As [`browse`].
pub fn all(wait: Duration) -> Result<Vec<Heard>, String> {
    let mut all: Vec<Heard> = Vec::new();
    browse(wait, |heard| {
        let is_same = |known: &&mut Heard| known.announcement == heard.announcement;
        match all.iter_mut().find(is_same) {
            Some(known) => {
                for address in heard.addresses {
                    add(&mut known.addresses, address);
                }
            }
            None => {
                let grid = &heard.announcement.grid;
                let at = all.partition_point(|known| known.announcement.grid <= *grid);
                all.insert(at, heard);
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(all)
}

/// Why the coordinator with `fingerprint`, which was looked for, is none of those that are
/// here, in words.
pub fn not_found(fingerprint: &Fingerprint) -> String {
    let hint = "give its address with --coordinator HOST:PORT";
    let grids = match all(LISTED_WITHIN) {
        Ok(grids) if grids.is_empty() => {
            return format!("no coordinator is announced on this network; {hint}");
        }
        Ok(grids) => grids,
        Err(why) => return format!("{why}; {hint}"),
    };
    let mut text = String::from("no coordinator on this network is the one that the token is of:");
    for grid in grids {
        text.push_str(&format!("\n  {grid}"));
        if grid.announcement.names(fingerprint) {
            text.push_str(", which says that it is, and does not show its certificate");
        }
    }
    text + "\n" + hint
}

/// Sockets of the two families, as far as the system has them, and the networks that they
/// ask on.
struct Asker {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    networks: Networks,
}

/// Interfaces that carry multicast.
#[derive(Default)]
struct Networks {
    /// An address of each for IPv4.
    v4: Vec<Ipv4Addr>,
    /// The index of each for IPv6.
    v6: Vec<u32>,
}

impl Asker {
    fn open() -> io::Result<Self> {
        let networks = Networks::of_this_machine()?;
        let open = |address: IpAddr| {
            let socket = UdpSocket::bind((address, 0)).ok()?;
            socket.set_nonblocking(true).ok()?;
            Some(socket)
        };
        let v4 = open(Ipv4Addr::UNSPECIFIED.into()).filter(|_| !networks.v4.is_empty());
        let v6 = open(Ipv6Addr::UNSPECIFIED.into()).filter(|_| !networks.v6.is_empty());
        match v4.is_none() && v6.is_none() {
            true => Err(io::Error::other("this machine is on no network")),
            false => Ok(Asker { v4, v6, networks }),
        }
    }

    fn ask(&self, question: &[u8]) {
        let over_v4 = self
            .v4
            .iter()
            .flat_map(|v4| self.networks.v4.iter().map(move |a| (v4, a)));
        for (socket, address) in over_v4 {
            if send_over(socket, *address).is_ok() {
                let _ = socket.send_to(question, GROUP_V4);
            }
        }
        let over_v6 = self
            .v6
            .iter()
            .flat_map(|v6| self.networks.v6.iter().map(move |i| (v6, i)));
        for (socket, index) in over_v6 {
            let _ = socket.send_to(question, SocketAddrV6::new(GROUP_V6, PORT, 0, *index));
        }
    }

    /// The length of the next message that comes within `wait`, and the interface it came
    /// over, where the sender's address says that.
    fn answer(
        &self,
        wait: Duration,
        buffer: &mut [u8],
    ) -> io::Result<Option<(usize, Option<u32>)>> {
        let sockets = || [&self.v4, &self.v6].into_iter().flatten();
        let mut waiting: Vec<PollFd> = sockets()
            .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
            .collect();
        // Rounded up: a wait that is over too soon would be waited again and again.
        let ms = wait.as_micros().div_ceil(1000);
        let timeout = PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX);
        match poll(&mut waiting, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        for socket in sockets() {
            match socket.recv_from(buffer) {
                Ok((length, SocketAddr::V6(from))) if from.scope_id() != 0 => {
                    return Ok(Some((length, Some(from.scope_id()))));
                }
                Ok((length, _)) => return Ok(Some((length, None))),
                // None has come, or one that was sent came back.
                Err(_) => {}
            }
        }
        Ok(None)
    }
}

impl Networks {
    fn of_this_machine() -> io::Result<Self> {
        let mut networks = Networks::default();
        let wanted = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_MULTICAST;
        for interface in getifaddrs()? {
            let flags = interface.flags;
            if !flags.contains(wanted) || flags.contains(InterfaceFlags::IFF_LOOPBACK) {
                continue;
            }
            let Some(address) = interface.address else {
                continue;
            };
            if let Some(v4) = address.as_sockaddr_in() {
                networks.v4.push(v4.ip());
            } else if address.as_sockaddr_in6().is_some()
                && let Ok(index) = if_nametoindex(interface.interface_name.as_str())
                && !networks.v6.contains(&index)
            {
                networks.v6.push(index);
            }
        }
        networks.v4.truncate(NETWORKS_MAX);
        networks.v6.truncate(NETWORKS_MAX);
        Ok(networks)
    }
}

/// Lets what `socket` sends to a group leave over the interface that has `address`.
fn send_over(socket: &UdpSocket, address: Ipv4Addr) -> io::Result<()> {
    let address = libc::in_addr {
        s_addr: u32::from_ne_bytes(address.octets()),
    };
    // SAFETY: the option's value is a structure that outlives the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MULTICAST_IF,
            std::ptr::from_ref(&address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    match set {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_others_can_be_at_is_dialled() {
        let dialled = |ip: &str, scope| {
            let address = address(ip.parse().unwrap(), 9, scope)?;
            Some(address.to_string())
        };
        for odd in [
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "::",
            "224.0.0.251",
        ] {
            assert_eq!(dialled(odd, Some(2)), None, "{odd}");
        }
        assert_eq!(dialled("192.0.2.1", None).as_deref(), Some("192.0.2.1:9"));
        assert_eq!(dialled("fe80::1", None), None);
        assert_eq!(
            dialled("fe80::1", Some(2)).as_deref(),
            Some("[fe80::1%2]:9")
        );
        assert_eq!(
            dialled("2001:db8::1", Some(2)).as_deref(),
            Some("[2001:db8::1]:9")
        );
    }
}
