//! `cargo run --release -p hg-tests --bin sandboxbench [ROUNDS]`: what the sandbox
//! costs a compile. The same compiler on the same file, through the worker's own
//! code, in each of its sandboxes in turn.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use hg_proto::probe;
use hg_tests::skip;
use hg_worker_lite::compile;
use hg_worker_lite::control::Control;
use hg_worker_lite::sandbox::{Confines, Folder, Launch, Level, Sandbox};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// Compiles with each sandbox when nothing is said.
const ROUNDS_DEFAULT: usize = 200;
/// What a compile may lose to its sandbox.
const ADDED_MS_MAX: f64 = 5.0;
const SOURCE: &str = "int square(int x) { return x * x; }\n";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let rounds = words.first().and_then(|word| word.parse().ok());
    let rounds = rounds.unwrap_or(ROUNDS_DEFAULT);
    let state = tempfile::tempdir().expect("a folder");
    for (driver, language) in [
        ("gcc", "cpp-output"),
        ("clang", "cpp-output"),
        ("g++", "c++-cpp-output"),
    ] {
        let driver = Path::new("/usr/bin").join(driver);
        match probe::probe(&driver, None) {
            Ok(probe) => measure(&driver, language, &probe.files, state.path(), rounds),
            Err(error) => skip("sandboxbench", &error.to_string()),
        }
    }
}

struct Place {
    level: Level,
    sandbox: Sandbox,
    tasks: PathBuf,
    wall_ms: Vec<f64>,
    cpu_ms: Vec<f64>,
}

fn measure(driver: &Path, language: &str, files: &[PathBuf], state: &Path, rounds: usize) {
    let mut places = Vec::new();
    for level in [Level::Folder, Level::Landlock, Level::Full] {
        let own = state.join(level.name());
        let tasks = own.join("tasks");
        fs::create_dir_all(&tasks).expect("a folder");
        match Sandbox::at(level, &own, &tasks) {
            Ok(sandbox) => places.push(Place {
                level,
                sandbox,
                tasks,
                wall_ms: Vec::new(),
                cpu_ms: Vec::new(),
            }),
            Err(why) => skip(level.name(), &why),
        }
    }
    for round in 0..=rounds {
        for place in &mut places {
            let (wall_ms, cpu_ms) = compile_once(place, driver, language, files);
            // The first one makes the root and fills the disk's cache.
            if round > 0 {
                place.wall_ms.push(wall_ms);
                place.cpu_ms.push(cpu_ms);
            }
        }
    }
    println!("\n{} -c of a line, {rounds} times each", driver.display());
    let Some(least) = places.iter().find(|place| place.level == Level::Folder) else {
        return;
    };
    let (wall, cpu) = (median(&least.wall_ms), median(&least.cpu_ms));
    for place in &places {
        let (own_wall, own_cpu) = (median(&place.wall_ms), median(&place.cpu_ms));
        let added = own_wall - wall;
        println!(
            "  {:<9} median {own_wall:6.2} ms, {added:+5.2} ms, ratio {:.3}; CPU {own_cpu:6.2} ms, {:+5.2} ms{}",
            place.level.name(),
            own_wall / wall,
            own_cpu - cpu,
            match place.level {
                Level::Folder => String::new(),
                _ if added <= ADDED_MS_MAX => format!("; at most {ADDED_MS_MAX} ms: yes"),
                _ => format!("; at most {ADDED_MS_MAX} ms: NO"),
            }
        );
    }
}

/// Wall time and processor time of one compile, its folder and its end included.
fn compile_once(place: &Place, driver: &Path, language: &str, files: &[PathBuf]) -> (f64, f64) {
    let arguments: Vec<OsString> = ["-x", language, "-O2", "-c", "in", "-o", "out"]
        .map(OsString::from)
        .to_vec();
    let cpu = cpu_ms();
    let began = Instant::now();
    let folder = Folder::create(&place.tasks, "bench").expect("a folder");
    fs::write(folder.root().join("in"), SOURCE).expect("a source");
    let confines = Confines {
        memory_bytes_max: u64::MAX,
        file_bytes_max: 1 << 30,
        cpu_s_max: 60,
        nice: 0,
    };
    let mut launch = Launch::new(driver, files, &folder, Path::new(""), confines);
    launch.arguments = &arguments;
    let control = Control::new(0).expect("descriptors");
    let ran = compile::run(&place.sandbox, &launch, 60_000, false, &control);
    let ran = ran.expect("a compile");
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    assert!(folder.root().join("out").is_file());
    drop(folder);
    (began.elapsed().as_secs_f64() * 1e3, cpu_ms() - cpu)
}

/// Of this process and all that it waited for.
fn cpu_ms() -> f64 {
    let used = |who| {
        let usage = getrusage(who).expect("our own usage");
        usage.user_time().num_microseconds() + usage.system_time().num_microseconds()
    };
    (used(UsageWho::RUSAGE_SELF) + used(UsageWho::RUSAGE_CHILDREN)) as f64 / 1e3
}

fn median(of: &[f64]) -> f64 {
    let mut sorted = of.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
