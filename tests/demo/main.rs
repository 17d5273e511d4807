//! `cargo demo`: a grid on this machine builds Lua, and every object is compared
//! with the one that the local compiler writes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hg_tests::command::{Outcome, run, scrubbed, signal_foreground};
use hg_tests::event::{self, Event};
use hg_tests::folder::{Entry, Snapshot, snapshot};
use hg_tests::follow::Follower;
use hg_tests::grid::Grid;
use hg_tests::programs::{self, Programs};
use hg_tests::workload::LUA;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

const WORKERS: usize = 2;
const JOBS: u32 = 8;
/// Exit code after Ctrl-C, as a shell reports it.
const EXIT_INTERRUPTED: u8 = 130;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    if let Err(error) = catch_interrupts() {
        eprintln!("demo: signals: {error}");
    }
    let result = demo();
    if INTERRUPTED.load(Ordering::SeqCst) {
        eprintln!("demo: interrupted; everything is ended");
        return ExitCode::from(EXIT_INTERRUPTED);
    }
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("demo: {why}");
            ExitCode::FAILURE
        }
    }
}

/// `Ok(true)`: all objects are equal, and the grid made at least one.
fn demo() -> Result<bool, String> {
    needed("gcc", "a C compiler (Debian: apt install gcc)")?;
    needed("make", "make (Debian: apt install make)")?;
    println!("Building hg-coord, hg-worker-lite and hgbuild ...");
    let programs = programs::build(false)?;

    let folder = tempfile::Builder::new()
        .prefix("hg-demo-")
        .tempdir()
        .map_err(|error| format!("temporary folder: {error}"))?;
    // Names of one length, so that paths of one length are compiled.
    let plain_folder = folder.path().join("plain").join("lua");
    let grid_folder = folder.path().join("there").join("lua");
    println!("Fetching Lua's sources ...");
    for copy in [&plain_folder, &grid_folder] {
        LUA.unpack(copy)?;
    }

    let plain = local_build(&plain_folder, folder.path())?;
    let (grid, events) = grid_build(&programs, &grid_folder, folder.path())?;
    let equal = report(&plain, &grid, &events)?;
    let remote = events
        .iter()
        .filter(|event| event.place == "remote")
        .count();
    if remote == 0 {
        println!("No file was compiled by a worker.");
    }
    Ok(equal && remote > 0)
}

/// A build that went well.
struct Build {
    time: Duration,
    files: Snapshot,
}

fn local_build(folder: &Path, home: &Path) -> Result<Build, String> {
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    println!("\nBuilding it with the local compiler alone: make -j{jobs}");
    let mut make = scrubbed("make", folder, home);
    make.args(["--silent", &format!("-j{jobs}")]);
    let start = Instant::now();
    finished(&run(&mut make), "make")?;
    built(start.elapsed(), folder)
}

fn grid_build(
    programs: &Programs,
    folder: &Path,
    home: &Path,
) -> Result<(Build, Vec<Event>), String> {
    interrupted()?;
    let slots = thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(WORKERS));
    let grid = Grid::start(programs, WORKERS, slots as u32);
    println!(
        "\nA coordinator listens on {}, its pages are at http://{}/",
        grid.address(),
        grid.http()
    );
    println!("{WORKERS} workers have {slots} slot(s) each.");
    println!("Building it on the grid: hgbuild make -j{JOBS}\n");
    println!(
        "  {:<16} {:<8} {:<12} {:>8}",
        "source", "where", "worker", "ms"
    );
    let log = home.join("events.jsonl");
    let follower = Follower::start(&log, print_event)
        .map_err(|error| format!("{}: {error}", log.display()))?;
    let mut make = scrubbed(&programs.client, folder, home);
    make.args(["make", "--silent", &format!("-j{JOBS}")])
        .env("HG_COORDINATOR", grid.address())
        .env("HG_LOCAL_SLOTS", "0")
        .env("HG_EVENT_LOG", &log);
    let start = Instant::now();
    let outcome = run(&mut make);
    let time = start.elapsed();
    follower
        .finish()
        .map_err(|error| format!("{}: {error}", log.display()))?;
    finished(&outcome, "hgbuild make")?;
    let build = built(time, folder)?;
    Ok((build, event::read(&log)))
}

fn print_event(line: &str) {
    match event::parse(line) {
        Ok(event) => {
            let why = if event.place == "local" {
                &event.reason
            } else {
                ""
            };
            let line = format!(
                "  {:<16} {:<8} {:<12} {:>8.0} {why}",
                file_name(&event.source),
                event.place,
                event.worker,
                event.wall_ms
            );
            println!("{}", line.trim_end());
        }
        Err(why) => println!("  {why}"),
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Prints the comparison and the totals; whether all files are equal.
fn report(plain: &Build, grid: &Build, events: &[Event]) -> Result<bool, String> {
    let objects: Vec<(&PathBuf, &Entry)> = plain
        .files
        .iter()
        .filter(|(path, _)| path.extension().is_some_and(|e| e == "o" || e == "a"))
        .collect();
    if objects.len() <= LUA.objects {
        return Err(format!("only {} objects were made", objects.len()));
    }
    let mut equal = 0;
    for (path, entry) in &objects {
        if grid.files.get(*path) == Some(*entry) {
            equal += 1;
        } else {
            println!("  {} DIFFERS from the local compiler's", path.display());
        }
    }
    let count = |place: &str| events.iter().filter(|event| event.place == place).count();
    println!(
        "\n{} compiles: {} remote, {} local",
        events.len(),
        count("remote"),
        count("local")
    );
    for (reason, times) in reasons(events) {
        println!("  local {times} times: {reason}");
    }
    println!(
        "{equal} of {} objects and archives are equal, byte for byte",
        objects.len()
    );
    println!(
        "local {:.1} s, grid {:.1} s (the same machine did both)",
        plain.time.as_secs_f64(),
        grid.time.as_secs_f64()
    );
    Ok(equal == objects.len())
}

fn reasons(events: &[Event]) -> BTreeMap<&str, usize> {
    let mut reasons = BTreeMap::new();
    for event in events.iter().filter(|event| event.place == "local") {
        *reasons.entry(event.reason.as_str()).or_default() += 1;
    }
    reasons
}

fn built(time: Duration, folder: &Path) -> Result<Build, String> {
    let out = folder.join("out");
    let files = snapshot(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    Ok(Build { time, files })
}

fn finished(outcome: &Outcome, what: &str) -> Result<(), String> {
    interrupted()?;
    print!("{}", String::from_utf8_lossy(&outcome.stdout));
    eprint!("{}", String::from_utf8_lossy(&outcome.stderr));
    match outcome.ok() {
        true => Ok(()),
        false => Err(format!("{what} failed: exit {:?}", outcome.code)),
    }
}

fn interrupted() -> Result<(), String> {
    match INTERRUPTED.load(Ordering::SeqCst) {
        true => Err("interrupted".into()),
        false => Ok(()),
    }
}

fn needed(program: &str, what: &str) -> Result<(), String> {
    let found = Command::new(program).arg("--version").output();
    match found {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err(format!("{program} can't be run; this needs {what}")),
    }
}

/// Ctrl-C ends the running build; then the demo ends by itself, and with it all
/// that it started. (Signals are caught and not blocked: children would inherit
/// a blocked one.)
fn catch_interrupts() -> nix::Result<()> {
    let (reader, writer) = nix::unistd::pipe()?;
    WAKE.store(writer.into_raw_fd(), Ordering::SeqCst);
    let action = SigAction::new(
        SigHandler::Handler(interrupt),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler does nothing but an atomic load and a write(2).
        unsafe { sigaction(signal, &action)? };
    }
    thread::spawn(move || {
        let mut reader = File::from(reader);
        while let Ok(1) = reader.read(&mut [0]) {
            INTERRUPTED.store(true, Ordering::SeqCst);
            signal_foreground(Signal::SIGINT);
        }
    });
    Ok(())
}

/// Where the handler writes to.
static WAKE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn interrupt(_signal: i32) {
    // SAFETY: the descriptor is never closed.
    let wake = unsafe { BorrowedFd::borrow_raw(WAKE.load(Ordering::SeqCst)) };
    // A full pipe has woken the thread already.
    let _ = nix::unistd::write(wake, b"!");
}
