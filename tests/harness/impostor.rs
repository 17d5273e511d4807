//! A worker played by the test, in plaintext, with the toolchains of a real one.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use hg_proto::v1::{self, ToWorker, from_worker, to_worker};
use hg_proto::wire::digest::Digest;
use hg_proto::wire::frame::Decoder;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::grid::Grid;
use crate::hostile::{encoded, greeting, hello};
use crate::programs::programs;
use crate::project::Project;
use crate::running::{PATIENCE, Running, until};

/// See the top of the file.
pub struct Impostor {
    /// Its link.
    pub stream: TcpStream,
    decoder: Decoder,
}

/// A build that an impostor was given a task of.
pub struct Chosen {
    /// It, and one real worker.
    pub grid: Grid,
    /// Has the task.
    pub impostor: Impostor,
    /// What is built: two files.
    pub project: Project,
    /// Goes on.
    pub make: Running,
    /// The task.
    pub dispatch: v1::Dispatch,
}

impl Chosen {
    /// All of it; `instance` tells impostors apart.
    ///
    /// # Panics
    /// The task does not come in time.
    pub fn new(instance: u8) -> Chosen {
        let grid = Grid::insecure(programs(), 1, 1);
        let mut impostor = Impostor::join(&grid, instance);
        grid.wait_for_workers(2);
        // Stopped, so that the impostor is chosen.
        grid.workers[0].signal(Signal::SIGSTOP);
        let project = Project::of(2);
        project.in_plaintext();
        let mut make = project.hgbuild_make(&grid.address(), &["-j2"]);
        let make = Running::start(for_impostors(&mut make));
        let dispatch = impostor.dispatch();
        grid.workers[0].signal(Signal::SIGCONT);
        Chosen {
            grid,
            impostor,
            project,
            make,
            dispatch,
        }
    }
}

/// Lets `build` wait for a worker, and preprocess: impostors offer no other form, and
/// the real worker would have the task. A search path of the environment's does it.
pub fn for_impostors(build: &mut Command) -> &mut Command {
    build.env("HG_QUEUE_MS_MAX", "60000").env("CPATH", "")
}

impl Impostor {
    /// Joins a grid whose first worker is real.
    ///
    /// # Panics
    /// It can't, or that one never has a toolchain.
    pub fn join(grid: &Grid, instance: u8) -> Impostor {
        Impostor::join_as(grid, hello(instance))
    }

    /// Joins with another hello.
    ///
    /// # Panics
    /// As [`Impostor::join`].
    pub fn join_as(grid: &Grid, hello: v1::Hello) -> Impostor {
        let offering = v1::Hello {
            toolchains: toolchains(grid),
            ..hello
        };
        let mut stream = TcpStream::connect(grid.address()).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(&greeting(offering)).expect("a hello");
        Impostor {
            stream,
            decoder: Decoder::new(),
        }
    }

    /// The next task that it is given.
    ///
    /// # Panics
    /// It is given none in time, or dropped.
    pub fn dispatch(&mut self) -> v1::Dispatch {
        loop {
            if let to_worker::Kind::Dispatch(dispatch) = self.hear() {
                return dispatch;
            }
        }
    }

    /// The next that it is told, if that comes within `patience`.
    ///
    /// # Panics
    /// It is dropped.
    pub fn hear_within(&mut self, patience: Duration) -> Option<to_worker::Kind> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(message) = self.decoder.next_message::<ToWorker>().expect("frames") {
                return message.kind;
            }
            let read = self.stream.set_read_timeout(Some(patience));
            read.expect("a timeout");
            let len = match self.stream.read(&mut buffer) {
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return None;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.expect("a message"),
            };
            assert!(len > 0, "dropped");
            self.decoder.push(&buffer[..len]);
        }
    }

    /// The next that it is told.
    ///
    /// # Panics
    /// It is told nothing in time, or dropped.
    pub fn hear(&mut self) -> to_worker::Kind {
        let mut buffer = [0; 4096];
        loop {
            if let Some(message) = self.decoder.next_message::<ToWorker>().expect("frames") {
                return message.kind.expect("a message of a known kind");
            }
            let len = match self.stream.read(&mut buffer) {
                // This process was stopped meanwhile, or the machine.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.expect("a message in time"),
            };
            assert!(len > 0, "dropped");
            self.decoder.push(&buffer[..len]);
        }
    }

    /// Says something. Whoever is dropped can't say everything.
    pub fn say(&mut self, kind: from_worker::Kind) {
        let _ = self.stream.write_all(&encoded(kind));
    }
}

/// What the real worker offers for C.
fn toolchains(grid: &Grid) -> Vec<v1::Toolchain> {
    let listed = until(&grid.coordinator, "toolchains", || {
        let body = grid.get("/api/v1/workers").ok()?;
        let workers: Vec<Value> = serde_json::from_str(&body).ok()?;
        let first = workers.first()?["toolchains"].as_array()?.clone();
        (!first.is_empty()).then_some(first)
    });
    let toolchain = |listed: Value| v1::Toolchain {
        family: v1::Family::Gcc.into(),
        language: v1::Language::C.into(),
        digest: bytes(listed["digest"].as_str().expect("a digest")),
        ..v1::Toolchain::default()
    };
    listed.into_iter().map(toolchain).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).expect("hex");
        u8::from_str_radix(pair, 16).expect("hex")
    });
    pairs.collect()
}

/// What begins as an object of this machine does, and says who made it.
pub fn forged(by: &str) -> Vec<u8> {
    let machine = match std::env::consts::ARCH {
        "x86_64" => 62,
        "aarch64" => 183,
        "arm" => 40,
        _ => 243,
    };
    let class = if cfg!(target_pointer_width = "64") {
        2
    } else {
        1
    };
    // One that is to be linked, the low byte first (System V ABI).
    let mut elf = [b"\x7fELF", &[class, 1, 1][..]].concat();
    elf.resize(16, 0);
    elf.extend([1, 0, machine, 0]);
    elf.resize(64, 0);
    elf.extend(by.as_bytes());
    elf
}

/// What a worker says of `content`, and the content on its way.
pub fn announced(content: &[u8], path: &[u8]) -> (v1::Output, Vec<u8>) {
    let travels = zstd_raw(content);
    let output = v1::Output {
        path: path.to_vec(),
        digest: Digest::of(content).as_bytes().to_vec(),
        size: content.len() as u64,
        encoding: v1::Encoding::Zstd.into(),
        encoded_size: travels.len() as u64,
    };
    (output, travels)
}

/// `content` as zstd of one that does not compress (RFC 8878, section 3.1.1).
///
/// # Panics
/// It is larger than 4 GiB.
fn zstd_raw(content: &[u8]) -> Vec<u8> {
    const BLOCK_BYTES_MAX: usize = 128 << 10;
    let size = u32::try_from(content.len()).expect("a small content");
    // Magic number; one segment, its size in four bytes, no checksum.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    frame.extend(size.to_le_bytes());
    let mut blocks = content.chunks(BLOCK_BYTES_MAX).peekable();
    if content.is_empty() {
        frame.extend([1, 0, 0]);
    }
    while let Some(block) = blocks.next() {
        let head = (block.len() as u32) << 3 | u32::from(blocks.peek().is_none());
        frame.extend(&head.to_le_bytes()[..3]);
        frame.extend(block);
    }
    frame
}
