//! `bench overhead [ROUNDS]`: what the wrapper and the grid
//! cost, against the plain compiler and, where they are installed, distcc and Icecream. All
//! are measured in turn in each round of one run; the figures to quote are the
//! median of the rounds' ratios, and the ratio of the least of all rounds, which
//! other work on the machine disturbs least: it can only add.

mod peers;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use hg_tests::command::{self, scrubbed};
use hg_tests::grid::Grid;
use hg_tests::programs;
use hg_tests::workload::{LEVELDB, LUA, Workload, ZSTD};

use crate::cpu::Meter;
use peers::Peer;

/// Rounds when nothing is said.
const ROUNDS_DEFAULT: usize = 3;
/// Runs of one small compile in a round.
const SMALL_RUNS: usize = 40;

/// Measures in as many rounds as `words` say.
pub fn run(words: Vec<String>) -> ExitCode {
    let rounds = words.first().and_then(|word| word.parse().ok());
    let rounds = rounds.unwrap_or(ROUNDS_DEFAULT);
    let programs = match programs::build(true) {
        Ok(programs) => programs,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    println!("{rounds} rounds; CPU: user and system of every process that took part");
    wrapper(&programs.client, folder.path(), rounds);
    grid(&programs, folder.path(), rounds);
    ExitCode::SUCCESS
}

/// `hgbuild gcc -c` without a coordinator, against `gcc -c`.
fn wrapper(client: &Path, folder: &Path, rounds: usize) {
    if let Err(why) = LUA.unpack(&folder.join("small")) {
        hg_tests::skip("wrapper", &why);
        return;
    }
    let source = folder.join("small/src");
    let mut ratios = (Vec::new(), Vec::new());
    let mut added_ms = Vec::new();
    for _ in 0..rounds * SMALL_RUNS {
        let args = ["-O2", "-c", "lapi.c", "-o", "/dev/null"];
        let plain = measure(&[], scrubbed("gcc", &source, folder).args(args));
        let mut wrapped = scrubbed(client, &source, folder);
        let wrapped = measure(&[], wrapped.arg("gcc").args(args));
        ratios.0.push(wrapped.cpu_s / plain.cpu_s);
        ratios.1.push(wrapped.wall_s / plain.wall_s);
        added_ms.push((wrapped.wall_s - plain.wall_s) * 1e3);
    }
    println!("\nhgbuild gcc -O2 -c lapi.c, no coordinator, against gcc");
    println!(
        "  added wall {}\n  CPU ratio  {}\n  wall ratio {}",
        spread(&mut added_ms, " ms"),
        spread(&mut ratios.0, ""),
        spread(&mut ratios.1, "")
    );
}

/// Whole builds through coordinator and two workers, against `make -j2`.
fn grid(programs: &programs::Programs, folder: &Path, rounds: usize) {
    let peers = Peer::all(folder);
    // As many slots as a plain build has jobs, so that as many compilers share
    // the caches; one job more keeps them fed.
    let grid = Grid::start(programs, 2, 1);
    let daemons: Vec<u32> = grid
        .workers
        .iter()
        .chain([&grid.coordinator])
        .map(|daemon| daemon.pid().as_raw() as u32)
        .collect();
    for (workload, compiler) in [(LUA, "gcc"), (ZSTD, "gcc"), (LEVELDB, "g++")] {
        if let Err(why) = workload.unpack(&folder.join(workload.name)) {
            hg_tests::skip(workload.name, &why);
            continue;
        }
        let home = folder.join("home");
        let place = folder.join(workload.name);
        let mut all_remote = Figures::default();
        let mut as_it_comes = Figures::default();
        let mut theirs: Vec<Figures> = peers.iter().map(|_| Figures::default()).collect();
        for _ in 0..rounds {
            let plain = measure(&[], &mut make(&place, &home, workload, compiler, 2));
            for (figures, local) in [(&mut all_remote, Some("0")), (&mut as_it_comes, None)] {
                let ours = make(&place, &home, workload, compiler, 3);
                let mut wrapped = scrubbed(&programs.client, &place, &home);
                wrapped
                    .arg("make")
                    .args(ours.get_args())
                    .env("HG_COORDINATOR", grid.address())
                    .envs(local.map(|slots| ("HG_LOCAL_SLOTS", slots)));
                figures.add(measure(&daemons, &mut wrapped), plain);
            }
            for (peer, figures) in peers.iter().zip(&mut theirs) {
                let wrapped = format!("{} {compiler}", peer.wrapper);
                let arguments = make(&place, &home, workload, &wrapped, 3);
                let mut led = peer.make(&place, &home);
                led.args(arguments.get_args());
                let before = peer.compiled();
                let taken = try_measure(&peer.pids(), &mut led);
                let remote = peer
                    .compiled()
                    .zip(before)
                    .map(|(after, before)| after - before);
                match taken {
                    Ok(taken) if remote.is_none_or(|remote| remote >= workload.objects) => {
                        figures.add(taken, plain);
                    }
                    Ok(_) => hg_tests::skip(peer.name, "it compiled some of them here"),
                    Err(why) => hg_tests::skip(peer.name, &why),
                }
            }
        }
        println!(
            "\n{} by {compiler} -O2, {} objects",
            workload.name, workload.objects
        );
        all_remote.print("HG_LOCAL_SLOTS=0");
        as_it_comes.print("as it comes");
        for (peer, figures) in peers.iter().zip(&mut theirs) {
            figures.print(peer.name);
        }
    }
}

fn make(place: &Path, home: &Path, workload: Workload, compiler: &str, jobs: usize) -> Command {
    let _ = std::fs::remove_dir_all(place.join("out"));
    let mut command = scrubbed("make", place, home);
    command
        .arg("-s")
        .arg(format!("-j{jobs}"))
        .arg(format!("{}={compiler}", workload.compiler_variable));
    command
}

/// One run.
#[derive(Clone, Copy)]
struct Figure {
    cpu_s: f64,
    wall_s: f64,
}

fn measure(daemons: &[u32], command: &mut Command) -> Figure {
    try_measure(daemons, command).unwrap_or_else(|why| panic!("{why}"))
}

/// As [`measure`]; words where the command fails.
fn try_measure(daemons: &[u32], command: &mut Command) -> Result<Figure, String> {
    let meter = Meter::start(daemons);
    let began = Instant::now();
    let outcome = command::run(command);
    let wall = began.elapsed();
    if !outcome.ok() {
        return Err(format!("{command:?}: {}", outcome.words()));
    }
    Ok(Figure {
        cpu_s: meter.used().as_secs_f64(),
        wall_s: wall
            .as_secs_f64()
            .max(Duration::from_nanos(1).as_secs_f64()),
    })
}

/// Ratios against the plain run of the same round.
#[derive(Default)]
struct Figures {
    cpu: Vec<f64>,
    wall: Vec<f64>,
    /// Seconds: ours, and the plain run's.
    cpu_s: Vec<(f64, f64)>,
}

impl Figures {
    fn add(&mut self, figure: Figure, plain: Figure) {
        self.cpu.push(figure.cpu_s / plain.cpu_s);
        self.wall.push(figure.wall_s / plain.wall_s);
        self.cpu_s.push((figure.cpu_s, plain.cpu_s));
    }

    fn print(&mut self, name: &str) {
        if self.cpu.is_empty() {
            return;
        }
        let least = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::INFINITY, f64::min);
        let ours_s = least(&mut self.cpu_s.iter().map(|(ours_s, _)| *ours_s));
        let plain_s = least(&mut self.cpu_s.iter().map(|(_, plain_s)| *plain_s));
        println!(
            "  {name:<17} CPU ratio {}, of the least {:.3}   wall ratio {}",
            spread(&mut self.cpu, ""),
            ours_s / plain_s,
            spread(&mut self.wall, "")
        );
    }
}

/// Median, and the range in brackets.
fn spread(values: &mut [f64], unit: &str) -> String {
    values.sort_by(f64::total_cmp);
    match values {
        [] => "none".to_owned(),
        _ => format!(
            "{:.3}{unit} [{:.3} .. {:.3}]",
            values[values.len() / 2],
            values[0],
            values[values.len() - 1]
        ),
    }
}
