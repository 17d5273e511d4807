//! Asks the name servers of this machine which coordinators its search domains have: the SRV
//! records (RFC 2782) of `_hybridgrid-coord._tcp.DOMAIN`. With I/O.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::lan::browse;
use crate::lan::message::{self, Name};

/// Names of a domain's coordinators, before the domain.
const SERVICE: &str = "_hybridgrid-coord._tcp";
/// The system's own settings of its resolver.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where name servers listen.
const PORT: u16 = 53;
/// What the resolver of the system takes of either (resolv.conf(5)).
const SERVERS_MAX: usize = 3;
const DOMAINS_MAX: usize = 6;
/// Hosts of one answer that are looked at.
const HOSTS_MAX: usize = 4;
/// When the question is asked: it may be lost, as may be an answer.
const ASKED_AT: [Duration; 2] = [Duration::ZERO, Duration::from_millis(700)];
/// Bytes of an answer by UDP (RFC 1035, section 4.2.1).
const ANSWER_BYTES_MAX: usize = 512;
/// Answers of one call that are looked at: whoever sends more wants to be a burden.
const ANSWERS_MAX: usize = 64;

/// Domains in which hosts are looked for, and who knows of them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Resolver {
    servers: Vec<IpAddr>,
    domains: Vec<String>,
}

impl Resolver {
    /// As `text`, a resolv.conf, says: the last `search` or `domain` counts.
    fn of(text: &str) -> Self {
        let mut resolver = Resolver::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    // One with an interface in it is of no use without that.
                    let server = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    resolver.servers.extend(server);
                }
                Some("search" | "domain") => {
                    resolver.domains = words.map(str::to_owned).collect();
                }
                _ => {}
            }
        }
        resolver.servers.truncate(SERVERS_MAX);
        resolver.domains.truncate(DOMAINS_MAX);
        if resolver.servers.is_empty() {
            resolver.servers.push(Ipv4Addr::LOCALHOST.into());
        }
        resolver
    }

    /// The names that are asked for. Multicast DNS has what ends in `local` (RFC 6762).
    fn services(&self) -> Vec<Name> {
        let domains = self.domains.iter().filter(|domain| {
            let last = domain.trim_end_matches('.').rsplit('.').next();
            last.is_some_and(|label| !label.eq_ignore_ascii_case("local"))
        });
        let names = domains.map(|domain| Name::of(&format!("{SERVICE}.{domain}")));
        names.flatten().collect()
    }
}

/// Gives `heard` the addresses of coordinators that the search domains have, as far as they
/// are known within `wait`, until it has heard enough. Nothing of it is proved.
///
/// # Errors
/// As the system says: it gives no socket.
pub fn look(wait: Duration, heard: impl FnMut(SocketAddr) -> ControlFlow<()>) -> io::Result<()> {
    let text = fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    let resolver = Resolver::of(&text);
    let services = resolver.services();
    if services.is_empty() {
        return Ok(());
    }
    let servers = resolver.servers.iter().map(|ip| SocketAddr::new(*ip, PORT));
    let sockets: Vec<UdpSocket> = servers.filter_map(|server| to(server).ok()).collect();
    ask(&sockets, &services, wait, heard)
}

/// A socket to which `server` alone can answer.
fn to(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn ask(
    sockets: &[UdpSocket],
    services: &[Name],
    wait: Duration,
    mut heard: impl FnMut(SocketAddr) -> ControlFlow<()>,
) -> io::Result<()> {
    let began = Instant::now();
    let first = (std::process::id() % 0x8000) as u16;
    let numbered = || services.iter().zip(first..);
    // Whose answer is still waited for.
    let mut open: Vec<(usize, u16)> = (0..sockets.len())
        .flat_map(|socket| numbered().map(move |(_, number)| (socket, number)))
        .collect();
    let (mut asked, mut answers) = (0, 0);
    let mut buffer = [0; ANSWER_BYTES_MAX];
    while !open.is_empty() && answers < ANSWERS_MAX && began.elapsed() < wait {
        if ASKED_AT.get(asked).is_some_and(|at| *at <= began.elapsed()) {
            asked += 1;
            for (socket, number) in &open {
                let service = &services[usize::from(number - first)];
                // One that can't be asked may be able to the next time.
                let _ = sockets[*socket].send(&message::servers_question(service, *number));
            }
        }
        let next = ASKED_AT.get(asked).map_or(wait, |at| (*at).min(wait));
        wait_for(sockets, next.saturating_sub(began.elapsed()))?;
        for (at, socket) in sockets.iter().enumerate() {
            while answers < ANSWERS_MAX {
                let length = match socket.recv(&mut buffer) {
                    Ok(length) => length,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // Nobody is there: the next question may be answered.
                    Err(_) => break,
                };
                answers += 1;
                let answer = &buffer[..length];
                let Some((service, number)) =
                    numbered().find(|(_, number)| answer.starts_with(&number.to_be_bytes()))
                else {
                    continue;
                };
                open.retain(|one| *one != (at, number));
                let servers = message::servers(answer, service, number).unwrap_or_default();
                for address in servers.iter().take(HOSTS_MAX).flat_map(addresses) {
                    if heard(address).is_break() {
                        return Ok(());
                    }
                }
            }
        }
    }
    Ok(())
}

fn wait_for(sockets: &[UdpSocket], wait: Duration) -> io::Result<()> {
    let mut waiting: Vec<PollFd> = sockets
        .iter()
        .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
        .collect();
    // Rounded up: a wait that is over too soon would be waited again and again.
    let ms = wait.as_micros().div_ceil(1000);
    let timeout = PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX);
    match poll(&mut waiting, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// What the system's resolver makes of a host, as far as it can be dialled.
fn addresses((host, port): &(String, u16)) -> Vec<SocketAddr> {
    // With its last dot it is asked for as it is.
    let found = (format!("{host}."), *port).to_socket_addrs();
    let found = found.into_iter().flatten();
    let dialled = |address: SocketAddr| browse::address(address.ip(), address.port(), None);
    found.filter_map(dialled).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_is_what_its_file_says() {
        let text = "# by hand\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver x\n\
                    nameserver 192.0.2.2\nnameserver 192.0.2.3\ndomain old\n\
                    search a.example Home.local b.example. local\noptions ndots:1\n";
        let resolver = Resolver::of(text);
        let servers: Vec<String> = resolver.servers.iter().map(IpAddr::to_string).collect();
        assert_eq!(servers, ["192.0.2.1", "2001:db8::1", "192.0.2.2"]);
        let expected = ["a.example", "b.example"].map(|domain| {
            let name = format!("_hybridgrid-coord._tcp.{domain}");
            Name::of(&name).unwrap()
        });
        assert_eq!(resolver.services(), expected);
        assert_eq!(Resolver::of("").services(), []);
    }
}
