//! A way to a port that takes its time, as one over a wide area does: a proxy on loopback.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that are read at once.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces on their way in one direction: as much as a fast and long line holds.
const PIECES_MAX: usize = 1 << 10;

/// Listens until the process ends.
pub struct SlowLink {
    /// `HOST:PORT` of this end.
    pub address: String,
    connections: Arc<AtomicUsize>,
}

impl SlowLink {
    /// A way to `target` on which each direction takes `delay`, and a connection is there
    /// after both.
    ///
    /// # Panics
    /// There is no port left.
    pub fn lay(target: &str, delay: Duration) -> SlowLink {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let target = target.to_owned();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                let target = target.clone();
                thread::spawn(move || {
                    if let Ok(far) = TcpStream::connect(&target) {
                        // Nagle's algorithm would wait where the two ends don't.
                        let quick = [&near, &far].map(|end| end.set_nodelay(true));
                        drop(quick);
                        join(&near, &far, delay);
                    }
                });
            }
        });
        SlowLink {
            address,
            connections,
        }
    }

    /// How many connections have come.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Carries both directions to their ends.
fn join(near: &TcpStream, far: &TcpStream, delay: Duration) {
    let pair = || Ok::<_, io::Error>((near.try_clone()?, far.try_clone()?));
    let (Ok((near_in, far_out)), Ok((near_out, far_in))) = (pair(), pair()) else {
        return;
    };
    // A kernel on loopback says at once that it is connected; the first word waits for that.
    let shaken = Instant::now() + 2 * delay;
    let up = thread::spawn(move || carry(near_in, far_out, delay, shaken));
    carry(far_in, near_out, delay, shaken);
    let _ = up.join();
}

fn carry(from: TcpStream, to: TcpStream, delay: Duration, not_before: Instant) {
    let (sender, receiver) = mpsc::sync_channel(PIECES_MAX);
    let arriving = thread::spawn(move || put(&receiver, to));
    let mut from = from;
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        let due = Instant::now().max(not_before) + delay;
        if sender.send((due, piece[..count].to_vec())).is_err() {
            break;
        }
    }
    drop(sender);
    let _ = arriving.join();
    let _ = from.shutdown(Shutdown::Read);
}

/// Writes each piece when it is due.
fn put(pieces: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream) {
    for (due, piece) in pieces {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
