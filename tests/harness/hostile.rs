//! For tests that attack: what a coordinator takes and counts, a build beside the
//! attack that must not notice, and the bytes of both protocols.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hg_proto::v1::{self, FromWorker, from_worker};
use hg_proto::wire::digest::Digest;
use hg_proto::wire::frame;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::command::{Outcome, run_within};
use crate::daemon::Daemon;
use crate::grid::Grid;
use crate::project::Project;
use crate::running::{PATIENCE, until};

/// Files of the build that must not notice.
const FILES: usize = 12;
/// Bytes that a coordinator may take beyond what it took at rest, whatever
/// comes.
const GROWTH_BYTES_MAX: u64 = 160 << 20;

/// Bytes of a process in memory.
///
/// # Panics
/// It does not live.
pub fn resident(daemon: &Daemon) -> u64 {
    memory(daemon, "VmRSS:")
}

/// Bytes of a process in memory, at most until now.
///
/// # Panics
/// As [`resident`].
pub fn peak(daemon: &Daemon) -> u64 {
    memory(daemon, "VmHWM:")
}

/// A line of proc(5), /proc/PID/status.
fn memory(daemon: &Daemon, name: &str) -> u64 {
    let path = format!("/proc/{}/status", daemon.pid());
    let status = fs::read_to_string(&path).expect("a process that lives");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("memory in KiB") << 10
}

/// How often the coordinator counted `reason` under `hybridgrid_NAME_total`.
pub fn counted(grid: &Grid, name: &str, reason: &str) -> u64 {
    let name = format!("hybridgrid_{name}_total{{reason=\"{reason}\"}} ");
    let text = grid.get("/metrics").unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(&name));
    // Counts are written as floating-point numbers.
    value.map_or(0, |value| value.parse::<f64>().unwrap_or(0.0) as u64)
}

/// How many connections were dropped for `reason`.
pub fn dropped(grid: &Grid, reason: &str) -> u64 {
    counted(grid, "connections_dropped", reason)
}

/// How many were not let in for `reason`.
pub fn refused(grid: &Grid, reason: &str) -> u64 {
    counted(grid, "refused", reason)
}

/// Comes back when at least so many connections were dropped for `reason`.
///
/// # Panics
/// They are not in time.
pub fn wait_dropped(grid: &Grid, reason: &str, least: u64) {
    until(
        &grid.coordinator,
        &format!("{least} dropped: {reason}"),
        || (dropped(grid, reason) >= least).then_some(()),
    );
}

/// The coordinator takes little more than at rest.
///
/// # Panics
/// It takes much more.
pub fn assert_bounded(what: &str, grid: &Grid, rest: u64) {
    let now = resident(&grid.coordinator);
    eprintln!("{what}: {} KiB at rest, {} KiB now", rest >> 10, now >> 10);
    assert!(
        now < rest + GROWTH_BYTES_MAX,
        "{what}: from {rest} to {now} bytes"
    );
}

/// Builds projects as long as `attack` goes on, all of them on workers. Says how much
/// slower that was than the same once the attack is over.
///
/// # Panics
/// A build is not as a plain one, or not all of it was remote.
pub fn build_under(grid: &Grid, what: &str, attack: impl FnOnce()) {
    let over = AtomicBool::new(false);
    let (address, insecure) = (grid.address(), grid.is_insecure());
    let build = || build_at(&address, insecure, what);
    let under = std::thread::scope(|scope| {
        let builds = scope.spawn(|| {
            let mut took = vec![build()];
            while !over.load(Ordering::SeqCst) {
                took.push(build());
            }
            took
        });
        // Told however the attack ends.
        let attacked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(attack));
        over.store(true, Ordering::SeqCst);
        match (attacked, builds.join()) {
            (Ok(()), Ok(took)) => took,
            (Err(panic), _) | (_, Err(panic)) => std::panic::resume_unwind(panic),
        }
    });
    let quiet: Vec<Duration> = (0..3).map(|_| build()).collect();
    let (beside, after) = (median(under.clone()), median(quiet));
    eprintln!(
        "{what}: {} builds of {FILES} files beside it took {beside:.2?} each, after it {after:.2?}: {:.0} %",
        under.len(),
        100.0 * beside.as_secs_f64() / after.as_secs_f64().max(1e-3)
    );
}

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took[took.len() / 2]
}

/// Builds a project, all of it on workers.
///
/// # Panics
/// As [`build_under`].
pub fn build_now(grid: &Grid, what: &str) -> Duration {
    build_at(&grid.address(), grid.is_insecure(), what)
}

fn build_at(address: &str, insecure: bool, what: &str) -> Duration {
    let project = Project::of(FILES);
    if insecure {
        project.in_plaintext();
    }
    let mut make = project.hgbuild_make(address, &["-j4"]);
    let began = Instant::now();
    let wrapped = run_within(&mut make, PATIENCE);
    let took = began.elapsed();
    assert_remote(what, &project, wrapped);
    took
}

/// `wrapped` did what the plain build does, and every compile of it was remote.
///
/// # Panics
/// Otherwise.
pub fn assert_remote(what: &str, project: &Project, wrapped: Outcome) {
    let plain = run_within(&mut project.plain_make(&["-j4"]), PATIENCE);
    assert!(plain.ok(), "{}", plain.words());
    project.assert_same_as(what, &plain, wrapped);
    let events = project.events();
    assert!(!events.is_empty(), "{what}: nothing was compiled");
    let remote = events.iter().all(|event| event.place == "remote");
    assert!(remote, "{what}: {}", project.told());
}

/// A compiler for `language` that no machine has, for workers that the test plays.
pub fn toolchain(language: v1::Language) -> v1::Toolchain {
    v1::Toolchain {
        family: v1::Family::Gcc.into(),
        version: "12.2.0".into(),
        target: "x86_64-linux-gnu".into(),
        language: language.into(),
        digest: Digest::of(b"a compiler").as_bytes().to_vec(),
        ..v1::Toolchain::default()
    }
}

/// A compile with it of one byte.
pub fn task(language: v1::Language) -> v1::Task {
    let source = match language {
        v1::Language::Cxx => "a.cc",
        _ => "a.c",
    };
    v1::Task {
        toolchain: Some(toolchain(language)),
        arguments: vec![b"-c".to_vec(), source.into()],
        inputs: vec![v1::Input {
            path: source.into(),
            digest: Digest::of(b"x").as_bytes().to_vec(),
            size: 1,
            encoding: v1::Encoding::Identity.into(),
            encoded_size: 1,
        }],
        outputs: vec![b"a.o".to_vec()],
        source: source.into(),
        ..v1::Task::default()
    }
}

/// A worker's message as a frame.
///
/// # Panics
/// It is too long for one.
pub fn encoded(kind: from_worker::Kind) -> Vec<u8> {
    frame::encode(&FromWorker { kind: Some(kind) }).expect("a frame")
}

/// A hello of a worker without toolchains.
pub fn hello(instance: u8) -> v1::Hello {
    v1::Hello {
        protocol_version: hg_proto::PROTOCOL_VERSION,
        name: "hostile".into(),
        instance: vec![instance; 16],
        slots: 1,
        ..v1::Hello::default()
    }
}

/// A hello as a frame.
pub fn greeting(hello: v1::Hello) -> Vec<u8> {
    encoded(from_worker::Kind::Hello(hello))
}

/// A frame with a true length around any bytes.
pub fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

/// The open files of this process, all for one of the tests that need thousands: those
/// run in turn.
pub struct Fds {
    /// How many there may be.
    pub limit: usize,
    _turn: MutexGuard<'static, ()>,
}

static FDS: Mutex<()> = Mutex::new(());

/// Lets this process open as many files as it may, once no other test does.
///
/// # Panics
/// The system does not say how many.
pub fn raise_fds() -> Fds {
    let turn = FDS.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the hard limit");
    Fds {
        limit: usize::try_from(hard).unwrap_or(usize::MAX),
        _turn: turn,
    }
}
