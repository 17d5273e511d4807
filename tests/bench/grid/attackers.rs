//! Attackers: what they say, over and over and in several threads, until they are told
//! to stop. Each takes at most a share of a core, since it plays another machine.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hg_proto::secure::tls::{ALPN_GRPC, ALPN_WORKER, Trust};
use hg_proto::secure::token::Fingerprint;
use hg_proto::v1::{self, from_worker};
use hg_tests::h2::{
    END_HEADERS, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, call_headers, frame,
};
use hg_tests::hostile::{encoded, hello};
use hg_tests::tls_peer::{TlsPeer, socket_from};
use nix::time::{ClockId, clock_gettime};

/// Share of a core that an attacker takes at most.
const SHARE_MAX: f64 = 0.5;
/// Its threads: whoever waits for an answer does not hold up the others.
const THREADS: usize = 8;
/// What it rests when it has taken that.
const REST: Duration = Duration::from_millis(2);
/// Frames in one write.
const BATCH: usize = 500;
/// Connections that are held open in the middle of a handshake.
const HALF_OPEN: usize = 3_000;
/// Of these, how many are opened between two looks at the clock.
const OPENED: usize = 20;

/// Whom it attacks, and with what it was given.
pub struct Target {
    /// The coordinator's grid port.
    pub address: String,
    /// Its certificate's.
    pub fingerprint: Fingerprint,
    /// A good client's.
    pub client: String,
    /// A good worker's.
    pub worker: String,
}

/// Where an attacker comes from: not from where the build does.
const FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

impl Target {
    fn socket(&self) -> io::Result<TcpStream> {
        socket_from(FROM, &self.address)
    }

    fn dial(&self, protocols: &[&[u8]]) -> io::Result<TlsPeer> {
        let trust = Trust::Pinned(self.fingerprint);
        TlsPeer::over(self.socket()?, &self.address, &trust, protocols)
    }
}

/// Until when, and how much it has taken.
pub struct Ration<'a> {
    over: &'a AtomicBool,
    began: Instant,
    share: f64,
    /// Connections, or whatever else it began.
    pub tries: u64,
}

impl<'a> Ration<'a> {
    /// From now on, for the calling thread.
    pub fn new(over: &'a AtomicBool, share: f64) -> Self {
        Ration {
            over,
            began: Instant::now(),
            share,
            tries: 0,
        }
    }

    /// Seconds of processor time since then, as long as the thread did nothing before.
    pub fn spent_s(&self) -> f64 {
        let spent = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the thread's clock");
        Duration::from(spent).as_secs_f64()
    }

    /// Share of a core that it took so far.
    pub fn taken(&self) -> f64 {
        self.spent_s() / self.began.elapsed().as_secs_f64().max(1e-3)
    }

    /// Rests as long as it has taken more than its share; false: it is over.
    fn goes_on(&self) -> bool {
        while !self.over.load(Ordering::SeqCst) {
            if self.taken() < self.share {
                return true;
            }
            thread::sleep(REST);
        }
        false
    }
}

/// One of them.
#[derive(Clone, Copy)]
pub struct Attack {
    /// As it is asked for.
    pub name: &'static str,
    once: fn(&Target, &mut Ration<'_>, &mut Held) -> io::Result<()>,
}

/// Connections that stay open from one time to the next.
type Held = VecDeque<TcpStream>;

/// All of them.
pub const ATTACKS: [Attack; 5] = [
    Attack {
        name: "pings",
        once: |target, ration, _| {
            let pings = frame(PING, 0, 0, &[7; 8]).repeat(BATCH);
            flood(target, ration, |_| pings.clone())
        },
    },
    Attack {
        name: "resets",
        once: resets,
    },
    Attack {
        name: "half-open",
        once: half_open,
    },
    Attack {
        name: "frames",
        once: frames,
    },
    Attack {
        name: "checks",
        once: checks,
    },
];

impl Attack {
    /// Attacks until it is over. The share of a core that all threads took together,
    /// and how often they tried.
    pub fn run(&self, target: &Target, over: &AtomicBool) -> (f64, u64) {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| scope.spawn(|| self.run_one(target, over)))
                .collect();
            let ended = threads.into_iter().map(|thread| {
                let ration = thread.join().expect("an attacker");
                (ration.taken, ration.tries)
            });
            ended.fold((0.0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
        })
    }

    fn run_one(&self, target: &Target, over: &AtomicBool) -> Ended {
        let mut ration = Ration::new(over, SHARE_MAX / THREADS as f64);
        let mut held = Held::new();
        while ration.goes_on() {
            ration.tries += 1;
            // It is dropped again and again: that is what is measured.
            let _ = (self.once)(target, &mut ration, &mut held);
        }
        // By the thread's own clock.
        Ended {
            taken: ration.taken(),
            tries: ration.tries,
        }
    }
}

/// What one thread did.
struct Ended {
    taken: f64,
    tries: u64,
}

/// Takes `share` of a core until it is over, and talks to nobody.
pub fn stand_in(share: f64, over: &AtomicBool) {
    let ration = Ration::new(over, share);
    while ration.goes_on() {
        std::hint::spin_loop();
    }
}

/// One connection of HTTP/2 on which `batch` after `batch` is said, by number.
fn flood(
    target: &Target,
    ration: &mut Ration<'_>,
    batch: impl Fn(u32) -> Vec<u8>,
) -> io::Result<()> {
    let mut peer = target.dial(&[ALPN_GRPC])?;
    let first = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    peer.stream.write_all(&first)?;
    let mut number = 0;
    while ration.goes_on() {
        peer.stream.write_all(&batch(number))?;
        peer.stream.flush()?;
        number += 1;
    }
    Ok(())
}

/// Calls of a good client that are opened and taken back.
fn resets(target: &Target, ration: &mut Ration<'_>, _: &mut Held) -> io::Result<()> {
    let bearer = format!("Bearer {}", target.client);
    let open = call_headers("SubmitTask", &[("authorization", &bearer)]);
    let cancel = 8_u32.to_be_bytes();
    flood(target, ration, |number| {
        let first = number * BATCH as u32;
        let pairs = (first..first + BATCH as u32).flat_map(|n| {
            let stream = 2 * n + 1;
            let open = frame(HEADERS, END_HEADERS, stream, &open);
            [open, frame(RST_STREAM, 0, stream, &cancel)].concat()
        });
        pairs.collect()
    })
}

/// More connections that stop in the middle of a handshake; the oldest are closed.
fn half_open(target: &Target, ration: &mut Ration<'_>, held: &mut Held) -> io::Result<()> {
    let peer = target.dial(&[ALPN_WORKER])?;
    let tape = &peer.stream.sock.tape;
    let len = usize::from(u16::from_be_bytes([tape[3], tape[4]]));
    let whole = &tape[..5 + len];
    while ration.goes_on() {
        for number in 0..OPENED {
            let mut stream = target.socket()?;
            // Half of a hello, a whole one and then nothing, or one byte.
            stream.write_all(match number % 3 {
                0 => &whole[..whole.len() / 2],
                1 => whole,
                _ => &whole[..1],
            })?;
            held.push_back(stream);
            ration.tries += 1;
        }
        while held.len() > HALF_OPEN / THREADS {
            held.pop_front();
        }
    }
    Ok(())
}

/// A worker with a good token that sends heartbeats as fast as it can, and reads no
/// answer.
fn frames(target: &Target, ration: &mut Ration<'_>, _: &mut Held) -> io::Result<()> {
    let mut peer = worker(target)?;
    peer.say(from_worker::Kind::Hello(v1::Hello {
        token: target.worker.clone(),
        ..hello(3)
    }));
    let beat = encoded(from_worker::Kind::Heartbeat(v1::Heartbeat::default()));
    let drain = encoded(from_worker::Kind::Draining(v1::Draining {}));
    let beats = [drain, beat.repeat(BATCH)].concat();
    while ration.goes_on() {
        peer.stream.write_all(&beats)?;
        peer.stream.flush()?;
    }
    Ok(())
}

/// A handshake, a token that is good, and again.
fn checks(target: &Target, _: &mut Ration<'_>, _: &mut Held) -> io::Result<()> {
    let mut peer = worker(target)?;
    let token = target.worker.clone();
    peer.say(from_worker::Kind::Check(v1::Check { token }));
    Ok(())
}

fn worker(target: &Target) -> io::Result<TlsPeer> {
    target.dial(&[ALPN_WORKER])
}
