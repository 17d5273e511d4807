//! What a grid that is no good costs a build: `hgbuild make` against `make`,
//! pair by pair, with nothing known of the grid and once more when it is.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use hg_proto::v1;
use hg_tests::cgroup::Cgroup;
use hg_tests::command::{run, scrubbed};
use hg_tests::event;
use hg_tests::grid::Grid;
use hg_tests::programs::Programs;
use hg_tests::skip;
use hg_tests::workload::LUA;
use serde_json::Value;
use tokio::sync::watch;

use super::fake::{self, Mode};
use super::process::cpu_s;
use super::{spread, verdict};

/// Of the build again, when the first one has taught what there is to learn.
const RATIO_MAX: f64 = 1.05;
/// Of the first build, with a worker that is there and of no use.
const FIRST_RATIO_MAX: f64 = 1.10;
/// How much of a core each slot of the slow worker has.
const SLOW_PERCENT: u32 = 10;

/// Grids that are no good, by name.
pub const TROUBLES: [(&str, Trouble); 5] = [
    ("no-coordinator", Trouble::NoCoordinator),
    ("nobody-listens", Trouble::NobodyListens),
    ("no-worker", Trouble::NoWorker),
    ("slow-worker", Trouble::SlowWorker),
    ("silent-worker", Trouble::SilentWorker),
];

/// A grid that is no good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// None is known.
    NoCoordinator,
    /// Nobody is at its address.
    NobodyListens,
    /// A coordinator alone.
    NoWorker,
    /// A worker with a tenth of a core for each slot.
    SlowWorker,
    /// A worker that says that compiles began, and nothing more.
    SilentWorker,
}

/// Prints a line for each, or for `only` one.
pub fn run_pairs(programs: &Programs, rounds: usize, jobs: Option<usize>, only: Option<&str>) {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let jobs = jobs.unwrap_or(cores);
    println!(
        "\nnever-slower: Lua by gcc, {cores} cores, make -j{jobs}, {rounds} rounds; wall ratios, at most {FIRST_RATIO_MAX} for the first and {RATIO_MAX} again"
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = folder.path().join("lua");
    if let Err(why) = LUA.unpack(&place) {
        return skip("never-slower", &why);
    }
    let bench = Bench {
        programs,
        place: &place,
        folder: folder.path(),
        jobs,
        cores: cores as u32,
    };
    // The first build of all fills the page cache.
    bench.build(&mut bench.plain());
    let wanted = |name| only.is_none_or(|only| only == name);
    for (name, trouble) in TROUBLES.into_iter().filter(|(name, _)| wanted(*name)) {
        if let Err(why) = bench.compare(trouble, name, rounds) {
            skip(name, &why);
        }
    }
}

struct Bench<'a> {
    programs: &'a Programs,
    place: &'a Path,
    folder: &'a Path,
    jobs: usize,
    cores: u32,
}

impl Bench<'_> {
    fn compare(&self, trouble: Trouble, name: &str, rounds: usize) -> Result<(), String> {
        let (mut first, mut again, mut fair, mut whys) = (vec![], vec![], vec![], vec![]);
        for round in 0..rounds {
            let before_s = self.build(&mut self.plain());
            let home = self.folder.join(format!("home {name} {round}"));
            let log = home.join("events.jsonl");
            fs::create_dir_all(&home).map_err(|error| error.to_string())?;
            let grid = Bad::start(self, trouble)?;
            let first_s = self.build(&mut self.wrapped(&home, &grid));
            let taken = grid.cpu_s();
            let again_s = self.build(&mut self.wrapped(&home, &grid));
            // A worker on a machine of its own would not use this one's cores.
            let lost_s = (grid.cpu_s() - taken) / f64::from(self.cores);
            // Machines get faster and slower meanwhile.
            let plain_s = (before_s + self.build(&mut self.plain())) / 2.0;
            first.push(first_s / plain_s);
            again.push(again_s / plain_s);
            fair.push((again_s - lost_s) / plain_s);
            whys.push(told(&log));
        }
        let words = (spread(&mut first), spread(&mut again), spread(&mut fair));
        let met_first = match trouble {
            Trouble::SlowWorker | Trouble::SilentWorker => {
                verdict(first[first.len() / 2] <= FIRST_RATIO_MAX)
            }
            _ => "no goal",
        };
        println!(
            "  {name}: {} ({met_first}); again {} ({}), without what the worker took of this machine {}",
            words.0,
            words.1,
            verdict(again[again.len() / 2] <= RATIO_MAX),
            words.2
        );
        println!("    {}", whys.last().map_or("", String::as_str));
        Ok(())
    }

    fn plain(&self) -> Command {
        scrubbed("make", self.place, self.folder)
    }

    fn wrapped(&self, home: &Path, grid: &Bad) -> Command {
        let mut make = scrubbed(&self.programs.client, self.place, home);
        make.arg("make")
            .env("HG_EVENT_LOG", home.join("events.jsonl"));
        if let Some(address) = &grid.address {
            make.env("HG_COORDINATOR", address).env("HG_INSECURE", "1");
        }
        make
    }

    /// Seconds.
    fn build(&self, make: &mut Command) -> f64 {
        // There is none the first time.
        let _ = fs::remove_dir_all(self.place.join("out"));
        make.args(["-s", &format!("-j{}", self.jobs), "CC=gcc"]);
        let began = Instant::now();
        let outcome = run(make);
        let wall_s = began.elapsed().as_secs_f64();
        assert!(outcome.ok(), "{make:?}: {}", outcome.words());
        wall_s
    }
}

/// How often for which reason.
fn told(log: &Path) -> String {
    let mut counts = std::collections::BTreeMap::new();
    for event in event::read(log) {
        let why = event
            .reason
            .split(':')
            .next()
            .unwrap_or_default()
            .to_owned();
        *counts.entry(format!("{} {why}", event.place)).or_insert(0) += 1;
    }
    format!("{counts:?}")
}

/// A grid that is no good, ended when dropped.
struct Bad {
    address: Option<String>,
    /// What the fake worker does; it leaves when this is dropped.
    mode: Option<watch::Sender<Mode>>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
    grid: Option<Grid>,
    /// Goes after its processes.
    _slow: Option<Cgroup>,
}

impl Bad {
    fn start(bench: &Bench, trouble: Trouble) -> Result<Bad, String> {
        let mut bad = Bad {
            address: None,
            mode: None,
            thread: None,
            grid: None,
            _slow: None,
        };
        let start = |workers| Grid::insecure(bench.programs, workers, bench.cores);
        match trouble {
            Trouble::NoCoordinator => return Ok(bad),
            Trouble::NobodyListens => {
                bad.address = Some("127.0.0.1:1".into());
                return Ok(bad);
            }
            Trouble::NoWorker => bad.grid = Some(start(0)),
            Trouble::SlowWorker => {
                let slow = Cgroup::make("cpu")?;
                slow.limit_cpu(SLOW_PERCENT * bench.cores)?;
                let grid = start(1);
                toolchains(&grid)?;
                slow.add(grid.workers[0].pid())?;
                bad.grid = Some(grid);
                bad._slow = Some(slow);
            }
            Trouble::SilentWorker => {
                let mut grid = start(1);
                let toolchains = toolchains(&grid)?;
                grid.workers.clear();
                grid.wait_for_workers(0);
                let (mode, watched) = watch::channel(Mode::Hold);
                let (address, slots) = (grid.address(), bench.cores);
                bad.mode = Some(mode);
                bad.thread = Some(thread::spawn(move || {
                    let mut builder = tokio::runtime::Builder::new_current_thread();
                    let runtime = builder.enable_all().build()?;
                    runtime.block_on(fake::serve(&address, None, 1, slots, toolchains, watched))
                }));
                grid.wait_for_workers(1);
                bad.grid = Some(grid);
            }
        }
        bad.address = bad.grid.as_ref().map(Grid::address);
        Ok(bad)
    }

    /// Seconds of processor time that the workers took.
    fn cpu_s(&self) -> f64 {
        let workers = self.grid.iter().flat_map(|grid| &grid.workers);
        workers.map(|worker| cpu_s(worker.pid())).sum()
    }
}

impl Drop for Bad {
    fn drop(&mut self) {
        self.mode = None;
        if let Some(thread) = self.thread.take()
            && let Ok(Err(error)) = thread.join()
        {
            eprintln!("the worker that never answers: {error}");
        }
    }
}

/// What the grid's one worker compiles with, as soon as that is known.
fn toolchains(grid: &Grid) -> Result<Vec<v1::Toolchain>, String> {
    let offered = hg_tests::running::until(&grid.coordinator, "toolchains", || {
        let listed = grid.get("/api/v1/workers").ok()?;
        let listed: Vec<Value> = serde_json::from_str(&listed).ok()?;
        let offered = listed.first()?["toolchains"].as_array()?.clone();
        (!offered.is_empty()).then_some(offered)
    });
    let toolchain = |offered: &Value| {
        let hex = offered["digest"].as_str()?.as_bytes();
        let bytes = hex.chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(pair, 16).ok()
        });
        Some(v1::Toolchain {
            family: v1::Family::Gcc.into(),
            language: v1::Language::C.into(),
            digest: bytes.collect::<Option<Vec<u8>>>()?,
            ..v1::Toolchain::default()
        })
    };
    let all: Option<Vec<_>> = offered.iter().map(toolchain).collect();
    all.ok_or_else(|| "digests that can't be read".to_owned())
}
