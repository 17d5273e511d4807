//! A worker in a machine that is too small for what it is sent: its daemon
//! lives, and every task ends with the local compiler's object.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hg_tests::cgroup::Cgroup;
use hg_tests::command::{run_within, scrubbed};
use hg_tests::event;
use hg_tests::grid::Grid;
use hg_tests::leftover;
use hg_tests::programs::programs;
use hg_tests::running::until;
use hg_tests::skip;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::Signal;

/// What the worker's machine has.
const MEMORY_BYTES: u64 = 512 << 20;
/// Compiles at once.
const TASKS: usize = 8;
/// What one compile must need, in MiB: two of them are too much.
const NEED_MIB: std::ops::RangeInclusive<i64> = 350..=450;
/// Members of the class that is instantiated: about 1 MiB each with gcc 12.
const MEMBERS: usize = 370;
/// Who waits longer is compiled here: the test is not to take minutes.
const QUEUE_MS_MAX: &str = "10000";
/// What the build may take: each task alone takes some seconds.
const BUILD_TIME_MAX: Duration = Duration::from_secs(300);

/// A source whose templates need about `members` MiB of the compiler.
fn hungry(members: usize) -> String {
    let mut source = String::from("template <int N> struct Wide {\n");
    for member in 0..members {
        source += &format!("  int m{member}(int, char, long, Wide<N> *);\n");
    }
    source
        + "};\n\
           template <int N> struct Chain {\n  \
           static constexpr int total = sizeof(Wide<N>) + Chain<N - 1>::total;\n};\n\
           template <> struct Chain<0> { static constexpr int total = 0; };\n\
           int f() { return Chain<800>::total; }\n"
}

/// Compiles `place/wide.cc` plainly; the MiB that the largest of its processes
/// took, which no child of ours has taken before.
fn compile_plainly(place: &Path) -> Result<i64, String> {
    let mut compile = Command::new("g++");
    compile.current_dir(place).args(["-c", "wide.cc"]);
    let status = compile.stdin(Stdio::null()).process_group(0).status();
    let status = status.map_err(|error| format!("no g++ here: {error}"))?;
    assert!(status.success(), "{status}");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("our own usage");
    Ok(usage.max_rss() / 1024)
}

#[test]
fn a_worker_outlives_compiles_that_are_too_large_for_it() {
    let name = "a worker with little memory";
    let folder = tempfile::tempdir().expect("a folder");
    let places: Vec<_> = (0..TASKS)
        .map(|n| folder.path().join(format!("p{n}")))
        .collect();
    for place in &places {
        fs::create_dir(place).expect("a folder");
        fs::write(place.join("wide.cc"), hungry(MEMBERS)).expect("a source");
    }
    let plain = match compile_plainly(&places[0]) {
        Err(why) => return skip(name, &why),
        Ok(mib) if !NEED_MIB.contains(&mib) => {
            return skip(name, &format!("this g++ needs {mib} MiB"));
        }
        Ok(_) => fs::read(places[0].join("wide.o")).expect("an object"),
    };
    fs::remove_file(places[0].join("wide.o")).expect("an object");
    let small = Cgroup::make("memory").and_then(|small| {
        small.limit_memory(MEMORY_BYTES)?;
        Ok(small)
    });
    let small = match small {
        Ok(small) => small,
        Err(why) => return skip(name, &why),
    };
    // As many slots as tasks: its memory alone is what holds it back.
    let mut grid = Grid::start(programs(), 0, TASKS as u32);
    grid.add_worker();
    small.add(grid.workers[0].pid()).expect("a process to move");
    grid.wait_for_workers(1);

    let makefile = "all: $(patsubst %.cc,%.o,$(wildcard p*/wide.cc))\n\
                    %.o: %.cc\n\t@cd $(@D) && g++ -c wide.cc\n";
    fs::write(folder.path().join("Makefile"), makefile).expect("a Makefile");
    let log = folder.path().join("events.jsonl");
    let mut make = scrubbed(&programs().client, folder.path(), folder.path());
    make.args(["make", &format!("-j{TASKS}")])
        .env("HG_COORDINATOR", grid.address())
        .env("HG_LOCAL_SLOTS", "0")
        .env("HG_QUEUE_MS_MAX", QUEUE_MS_MAX)
        .env("HG_EVENT_LOG", &log);
    let outcome = run_within(&mut make, BUILD_TIME_MAX);
    assert!(outcome.ok(), "{}", outcome.words());
    for place in &places {
        let object = fs::read(place.join("wide.o")).expect("an object");
        assert!(object == plain, "{}: not as it is plainly", place.display());
    }
    let events = event::read(&log);
    let told: Vec<_> = events
        .iter()
        .map(|e| (e.place.as_str(), e.reason.as_str()))
        .collect();
    let kills = small.oom_kills();
    eprintln!("{kills} kills; {told:?}");
    let tried = events.iter().any(|event| event.place == "remote");
    assert!(tried || kills > 0, "the worker had none: {told:?}");

    let worker = &grid.workers[0];
    assert!(
        worker.lives_for(Duration::ZERO),
        "it died\n{}",
        worker.stderr()
    );
    let tasks = grid.folder().join("worker-1/tasks");
    until(&grid.workers[0], "a worker without tasks", || {
        let folders = fs::read_dir(&tasks).ok()?.count();
        (folders == 0 && leftover::processes(&tasks).is_empty()).then_some(())
    });
    let ended = grid.workers[0].end(Signal::SIGTERM);
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
}
