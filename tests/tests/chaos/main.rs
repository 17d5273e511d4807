//! Builds while workers are killed, stopped, drained and cut off, and while the
//! coordinator dies and comes back: each ends well, with the plain compiler's
//! objects and nothing beside them. And coordinators that are found, and found again.
//!
//! `HG_CHAOS_SECONDS`: how long; 20 unless told, 600 in the full form.
//! `HG_CHAOS_SEED`: what happens, as a run before said; else always another.

mod fleet;
mod lan;
mod link;

use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use hg_tests::command::{Outcome, run_within, scrubbed};
use hg_tests::event;
use hg_tests::folder::{Snapshot, compare, snapshot};
use hg_tests::leftover;
use hg_tests::programs::programs;
use hg_tests::running::PATIENCE;
use hg_tests::skip;
use hg_tests::workload::LUA;

use fleet::{Fleet, Random};

/// Seconds of chaos unless told otherwise.
const SECONDS_DEFAULT: u64 = 20;
/// Between two harms, at most.
const PAUSE_MS_MAX: u64 = 1_200;
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// What one build may take under all that.
const BUILD_TIME_MAX: Duration = Duration::from_secs(300);

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}

fn seed() -> u64 {
    number("HG_CHAOS_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.map_or(1, |now| now.as_millis() as u64)
    })
}

/// A thread that does harm until this is dropped.
struct Chaos {
    on: Option<Sender<()>>,
    thread: Option<JoinHandle<Fleet>>,
}

impl Chaos {
    fn start(mut fleet: Fleet, seed: u64) -> Chaos {
        let (on, over) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            let mut random = Random(seed);
            loop {
                let pause = Duration::from_millis(random.below(PAUSE_MS_MAX));
                if over.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                    return fleet;
                }
                fleet.come_back();
                fleet.harm(&mut random);
            }
        });
        Chaos {
            on: Some(on),
            thread: Some(thread),
        }
    }

    /// Ends the harm and gives the fleet back.
    fn end(&mut self) -> thread::Result<Fleet> {
        self.on = None;
        self.thread.take().expect("it ends once").join()
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        if self.thread.is_some()
            && let Ok(fleet) = self.end()
        {
            eprintln!("{}", fleet.deeds.join("\n"));
        }
    }
}

/// `make` in `place`, from nothing; how it ended, and all that is there then.
fn built(make: &mut Command, place: &Path) -> (Outcome, Snapshot) {
    // There is none the first time.
    let _ = std::fs::remove_dir_all(place.join("out"));
    let jobs = ["make", "-j8", "--output-sync=target", "--silent", "CC=gcc"];
    let skipped = usize::from(make.get_program() == "make");
    let outcome = run_within(make.args(&jobs[skipped..]), BUILD_TIME_MAX);
    let files = snapshot(place).expect("the build's folder");
    (outcome, files)
}

/// Waits until nothing runs in a build's folder any more. A task's processes look as if
/// they did, and a worker that was stopped hears only when it goes on that its task is
/// not wanted.
fn none_left(place: &Path) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = leftover::processes(place);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "left behind: {left:#?}");
        thread::park_timeout(LOOK_AGAIN);
    }
}

/// How many compiles workers did in a build; it is as the plain one.
fn build_under_chaos(
    plain: &(Outcome, Snapshot),
    place: &Path,
    home: &Path,
    address: &str,
) -> usize {
    std::fs::create_dir_all(home).expect("a home");
    let log = home.join("events.jsonl");
    let mut make = scrubbed(&programs().client, place, home);
    make.env("HG_COORDINATOR", address)
        .env("HG_LOCAL_SLOTS", "0")
        .env("HG_EVENT_LOG", &log);
    let (outcome, files) = built(&mut make, place);
    let outcome = outcome.without_summary().sorted();
    let different = compare((&plain.0.sorted(), &plain.1), (&outcome, &files));
    assert!(different.is_empty(), "{}", different.join("\n"));
    none_left(place);
    let mut events = event::read(&log);
    events.retain(|event| !event.source.is_empty());
    assert_eq!(events.len(), LUA.objects, "one event for each compile");
    events
        .iter()
        .filter(|event| event.place == "remote")
        .count()
}

#[test]
fn builds_end_well_whatever_happens_to_the_grid() {
    let name = "builds under chaos";
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = folder.path().join("lua");
    if Command::new("gcc").arg("--version").output().is_err() {
        return skip(name, "no gcc here");
    }
    if let Err(why) = LUA.unpack(&place) {
        return skip(name, &why);
    }
    let plain = built(&mut scrubbed("make", &place, folder.path()), &place);
    assert!(plain.0.ok(), "plainly: {}", plain.0.words());

    let seed = seed();
    let seconds = number("HG_CHAOS_SECONDS").unwrap_or(SECONDS_DEFAULT);
    eprintln!("HG_CHAOS_SEED={seed} HG_CHAOS_SECONDS={seconds}");
    let fleet = Fleet::start();
    let address = fleet.address();
    let mut chaos = Chaos::start(fleet, seed);
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let (mut builds, mut remote) = (0, 0);
    while Instant::now() < deadline {
        builds += 1;
        // What one build has noted of a grid that was down is not for the next.
        let home = folder.path().join(format!("home-{builds}"));
        remote += build_under_chaos(&plain, &place, &home, &address);
    }
    let mut fleet = match chaos.end() {
        Ok(fleet) => fleet,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    let deeds = fleet.deeds.len();
    eprintln!(
        "{builds} builds, {remote} of {} compiles on workers, {deeds} deeds",
        builds * LUA.objects
    );
    assert!(
        remote > 0 && deeds > 0,
        "nothing happened:\n{}",
        fleet.deeds.join("\n")
    );
    fleet.calm_down();
    fleet.end();
    let left = leftover::processes(folder.path());
    assert!(left.is_empty(), "left behind: {left:#?}");
}
