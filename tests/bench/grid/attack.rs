//! What an attack costs others' builds: real compiles on workers in peace, under an
//! attack, and beside a stand-in that takes as much processor time as the attacker
//! did and talks to nobody, in turn. The attacker would be another machine, so that
//! the last is what a build under attack is held against; and so would the workers,
//! so that it is told too what is left without the processor time of the coordinator.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use hg_proto::secure::token::Token;
use hg_tests::command::{run, scrubbed};
use hg_tests::grid::Grid;
use hg_tests::hostile::raise_fds;
use hg_tests::programs::Programs;
use hg_tests::workload::ZSTD;
use hg_tests::{event, skip};

use super::attackers::{ATTACKS, Attack, Target, stand_in};
use super::process::cpu_s;
use super::{spread, verdict};

/// Of a build under attack, against one beside the stand-in.
const RATIO_MAX: f64 = 1.20;
/// Workers, and compiles at once on each.
const WORKERS: usize = 2;
const SLOTS: u32 = 2;
/// Jobs of make.
const JOBS: usize = 4;

/// Prints a line for each attack, or for the one of this name.
pub fn run_attacks(programs: &Programs, rounds: usize, only: Option<&str>) {
    println!(
        "\nattack: zstd by gcc -O2, make -j{JOBS}, all of it on {WORKERS} workers of {SLOTS} slots, {rounds} rounds; wall ratios, at most {RATIO_MAX}"
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = folder.path().join("zstd");
    if let Err(why) = ZSTD.unpack(&place) {
        return skip("attack", &why);
    }
    raise_fds();
    for attack in ATTACKS {
        if only.is_none_or(|only| only == attack.name) {
            // One that was shut out for another attack would be a stranger again.
            against(attack, programs, folder.path(), rounds);
        }
    }
}

/// A grid of its own for one attack.
fn against(attack: Attack, programs: &Programs, home: &Path, rounds: usize) {
    let grid = Grid::start(programs, WORKERS, SLOTS);
    let token = |role| grid.token(&["--role", role, "--name", "attacker"]);
    let client = token("client");
    let target = Target {
        address: grid.address(),
        fingerprint: Token::parse(&client).expect("a token").fingerprint,
        client,
        worker: token("worker"),
    };
    let bench = Bench {
        programs,
        grid: &grid,
        place: &home.join("zstd"),
        home,
    };
    // The first build of all finds out about the compilers.
    bench.build();
    bench.compare(attack, &target, rounds);
}

struct Bench<'a> {
    programs: &'a Programs,
    grid: &'a Grid,
    place: &'a Path,
    home: &'a Path,
}

/// One build.
struct Built {
    wall_s: f64,
    /// Of a core, that the coordinator took.
    coordinator: f64,
    /// Compiles that were not done by a worker.
    elsewhere: usize,
}

impl Bench<'_> {
    fn compare(&self, attack: Attack, target: &Target, rounds: usize) {
        let (mut under, mut against_peace, mut peace_s) = (vec![], vec![], vec![]);
        let cores = thread::available_parallelism().map_or(1, usize::from) as f64;
        let mut apart = vec![];
        let (mut taken, mut coordinator, mut at_peace) = (vec![], vec![], vec![]);
        let (mut elsewhere, mut tries) = (0, 0);
        for _ in 0..rounds {
            let peace = self.build();
            let (attacked, ration) = beside(|over| attack.run(target, over), || self.build());
            // Whoever was let in as a worker goes with its link.
            self.grid.wait_for_workers(WORKERS);
            let (control, ()) = beside(|over| stand_in(ration.0, over), || self.build());
            under.push(attacked.wall_s / control.wall_s);
            let lost_s = attacked.wall_s * attacked.coordinator / cores;
            apart.push((attacked.wall_s - lost_s) / control.wall_s);
            against_peace.push(attacked.wall_s / peace.wall_s);
            peace_s.push(peace.wall_s);
            taken.push(ration.0);
            tries += ration.1;
            coordinator.push(attacked.coordinator);
            at_peace.push(peace.coordinator);
            elsewhere += attacked.elsewhere;
        }
        let words = spread(&mut under);
        let met = verdict(under[under.len() / 2] <= RATIO_MAX);
        println!(
            "  {}: {words} ({met}), without what the coordinator took of this machine {}; against peace {}, which takes {} s",
            attack.name,
            spread(&mut apart),
            spread(&mut against_peace),
            spread(&mut peace_s)
        );
        println!(
            "    attacker {} of a core, {} tries a build; coordinator {} of a core, {} in peace; {elsewhere} compiles not on a worker",
            spread(&mut taken),
            tries / rounds as u64,
            spread(&mut coordinator),
            spread(&mut at_peace)
        );
    }

    fn build(&self) -> Built {
        // There is none the first time.
        let _ = fs::remove_dir_all(self.place.join("out"));
        let log = self.home.join("events.jsonl");
        let _ = fs::remove_file(&log);
        let mut make = scrubbed(&self.programs.client, self.place, self.home);
        make.args(["make", "-s", &format!("-j{JOBS}"), "CC=gcc"])
            .env("HG_LOCAL_SLOTS", "0")
            .env("HG_EVENT_LOG", &log);
        self.grid.lead(&mut make);
        let pid = self.grid.coordinator.pid();
        let (began, before) = (Instant::now(), cpu_s(pid));
        let outcome = run(&mut make);
        let wall_s = began.elapsed().as_secs_f64();
        assert!(outcome.ok(), "{}", outcome.words());
        let events = event::read(&log);
        Built {
            wall_s,
            coordinator: (cpu_s(pid) - before) / wall_s,
            elsewhere: events.iter().filter(|one| one.place != "remote").count(),
        }
    }
}

/// `work` while `other` goes on, in a thread of its own until it is told that it is
/// over.
fn beside<T, O: Send>(
    other: impl FnOnce(&AtomicBool) -> O + Send,
    work: impl FnOnce() -> T,
) -> (T, O) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let other = scope.spawn(|| other(&over));
        let done = work();
        over.store(true, Ordering::SeqCst);
        (done, other.join().expect("the other thread"))
    })
}
