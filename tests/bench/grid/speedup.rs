//! How near a build comes to what its workers could do at best: real programs
//! and a real driver, but a compiler proper that sleeps, so that one machine can
//! play sixteen.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use hg_tests::command::{self, scrubbed};
use hg_tests::daemon::Daemon;
use hg_tests::grid::Grid;
use hg_tests::programs::Programs;
use hg_tests::{event, skip};

use super::verdict;

/// Workers, and compiles at once on each.
const WORKERS: usize = 16;
const SLOTS: usize = 4;
/// Compiles, and milliseconds that they take on average: so long that this machine
/// has time for what they cost beside.
const TASKS: usize = 1_024;
const TASK_MS: usize = 3_000;
/// Each takes from half to one and a half times that, by its number: compiles of
/// one length would all end together, and each wave would pay for the one slot
/// that missed it.
const STEPS: usize = 101;
const STEP: usize = 37;
/// Jobs of make: what hgbuild would choose by itself, and some that preprocess.
const JOBS: usize = 80;
const RATIO_MAX: f64 = 1.10;

/// Stands in for cc1: the real one preprocesses and says what it is, this one sleeps
/// as long as the name of the function in its source says, and writes an object's
/// assembly.
const SLEEPER: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
static long wanted(const char *path) {
    static char text[65536];
    FILE *file = fopen(path, "r");
    if (!file)
        return -1;
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    const char *name = strstr(text, "int ms");
    return name ? atol(name + 6) : -1;
}
int main(int count, char **words) {
    const char *output = 0;
    long ms = -1;
    for (int at = 1; at < count; at++) {
        if (!strcmp(words[at], "-E") || !strcmp(words[at], "--version")) {
            execv(REAL, words);
            return 1;
        }
        if (!strcmp(words[at], "-o") && at + 1 < count)
            output = words[++at];
        else if (words[at][0] != '-' && ms < 0)
            ms = wanted(words[at]);
    }
    if (ms < 0)
        ms = 0; /* a worker's look whether it works at all */
    struct timespec pause = { ms / 1000, ms % 1000 * 1000000L };
    nanosleep(&pause, 0);
    FILE *file = output ? fopen(output, "w") : stdout;
    return !file || fputs("\t.text\n", file) < 0 || fclose(file);
}
"#;

fn measure(programs: &Programs) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let home = folder.path();
    let path = sleeping_gcc(&home.join("own"))?;
    let mut grid = Grid::start(programs, 0, 1);
    for number in 1..=WORKERS {
        let name = format!("sleeper-{number}");
        let mut command = scrubbed(&programs.worker, grid.folder(), grid.folder());
        command
            .args(["serve", "--coordinator", &grid.address(), "--name", &name])
            .args([
                "--dedicated",
                "--slots",
                &SLOTS.to_string(),
                "--http",
                "127.0.0.1:0",
                "--state",
            ])
            .arg(grid.folder().join(&name))
            .arg("--compilers")
            .arg(&path)
            .env("PATH", &path);
        let log = grid.folder().join(format!("{name}.log"));
        grid.workers.push(Daemon::start(&name, &mut command, log));
    }
    grid.wait_for_workers(WORKERS);

    let place = home.join("project");
    fs::create_dir_all(&place).map_err(|error| error.to_string())?;
    for number in 0..TASKS {
        let source = format!("int ms{}(void) {{ return {number}; }}\n", task_ms(number));
        fs::write(place.join(format!("f{number}.c")), source).map_err(|error| error.to_string())?;
    }
    let makefile = "all: $(patsubst %.c,%.o,$(wildcard *.c))\n%.o: %.c\n\t@gcc -c -o $@ $<\n";
    fs::write(place.join("Makefile"), makefile).map_err(|error| error.to_string())?;
    let log = home.join("events.jsonl");
    // What yields is nobody's load: the workers share this machine with it, as
    // sixteen machines would not.
    let mut build = scrubbed("nice", &place, home);
    build
        .args(["-n", "19"])
        .arg(&programs.client)
        .args(["make", "-s", &format!("-j{JOBS}")])
        .env("HG_COORDINATOR", grid.address())
        .env("HG_LOCAL_SLOTS", "0")
        .env("HG_EVENT_LOG", &log)
        .env("PATH", with_system(&path));
    let began = Instant::now();
    let outcome = command::run(&mut build);
    let wall_s = began.elapsed().as_secs_f64();
    if !outcome.ok() {
        return Err(outcome.words());
    }
    let events = event::read(&log);
    let remote = events
        .iter()
        .filter(|event| event.place == "remote")
        .count();
    let all_ms: usize = (0..TASKS).map(task_ms).sum();
    let ideal_s = all_ms as f64 / (WORKERS * SLOTS) as f64 / 1e3;
    let ratio = wall_s / ideal_s;
    println!(
        "\nspeedup: {TASKS} tasks of {TASK_MS} ms on average on {WORKERS} workers of {SLOTS} slots, {remote} of them there\n  {wall_s:.1} s, at best {ideal_s:.1} s: {ratio:.3} (at most {RATIO_MAX}: {})",
        verdict(ratio <= RATIO_MAX)
    );
    let cuts: usize = grid
        .workers
        .iter()
        .map(|worker| worker.stderr().matches("load of others").count())
        .sum();
    let each_ms = events.iter().map(|event| event.wall_ms).sum::<f64>() / TASKS as f64;
    println!(
        "  {each_ms:.0} ms from start to end of each on average; workers cut or changed their slots {cuts} times for the load of others"
    );
    if remote < TASKS {
        let others = events.iter().filter(|event| event.place != "remote");
        let mut whys: Vec<&str> = others.map(|event| event.reason.as_str()).collect();
        whys.sort_unstable();
        whys.dedup();
        println!("  not there: {whys:?}");
    }
    Ok(())
}

/// How long the stand-in for cc1 sleeps.
fn task_ms(number: usize) -> usize {
    TASK_MS / 2 + number * STEP % STEPS * TASK_MS / (STEPS - 1)
}

/// Prints the ratio, or why there is none.
pub fn run(programs: &Programs) {
    if let Err(why) = measure(programs) {
        skip("speedup", &why);
    }
}

/// A copy of gcc's driver that finds our cc1; gives the PATH in which it is.
fn sleeping_gcc(root: &Path) -> Result<PathBuf, String> {
    let in_path = |name: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .map(|folder| folder.join(name))
            .find_map(|found| found.canonicalize().ok())
            .ok_or_else(|| format!("no {name} here"))
    };
    let real = in_path("gcc")?;
    let asked = command::run(Command::new(&real).arg("-print-prog-name=cc1"));
    let real_cc1 = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
    let real_cc1 = real_cc1
        .canonicalize()
        .map_err(|error| format!("cc1: {error}"))?;
    let below = real_cc1
        .strip_prefix("/usr")
        .map_err(|error| error.to_string())?;
    let (bin, cc1) = (root.join("bin"), root.join(below));
    let words = |error: std::io::Error| format!("{}: {error}", root.display());
    fs::create_dir_all(&bin).map_err(words)?;
    fs::create_dir_all(cc1.parent().unwrap_or(root)).map_err(words)?;
    fs::copy(&real, bin.join("gcc")).map_err(words)?;
    symlink(in_path("as")?, bin.join("as")).map_err(words)?;
    let source = root.join("sleeper.c");
    fs::write(&source, SLEEPER).map_err(words)?;
    let made = command::run(
        Command::new(real)
            .args(["-O1", "-static"])
            .arg(format!("-DREAL=\"{}\"", real_cc1.display()))
            .arg("-o")
            .args([&cc1, &source]),
    );
    if !made.ok() {
        return Err(made.words());
    }
    let asked = command::run(Command::new(bin.join("gcc")).arg("-print-prog-name=cc1"));
    let found = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
    match found.canonicalize().ok() == cc1.canonicalize().ok() {
        true => Ok(bin),
        false => Err("this gcc does not work from another place".into()),
    }
}

fn with_system(bin: &Path) -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(bin.to_path_buf()).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).expect("names without a colon")
}
