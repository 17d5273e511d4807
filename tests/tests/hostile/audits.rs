//! A worker that returns almost the right object is found out by a compile of the client's
//! own, whose object is the one that stays; then it gets no more tasks until an operator
//! lets it back.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, SystemTime};

use hg_proto::v1::{self, Need, from_worker, to_worker};
use hg_tests::command::{Outcome, run, scrubbed};
use hg_tests::event::{self, Event};
use hg_tests::flipper::{Flipping, answer, compiled};
use hg_tests::grid::{Grid, coordinator};
use hg_tests::hostile::hello;
use hg_tests::impostor::{Impostor, for_impostors};
use hg_tests::programs::programs;
use hg_tests::{in_path, skip};
use nix::sys::signal::Signal;
use tempfile::TempDir;

/// Between two heartbeats.
const BEAT: Duration = Duration::from_millis(500);
const SOURCE: &str = "int twice(int x) { return 2 * x; }\n";

struct Bench {
    grid: Grid,
    place: TempDir,
}

impl Bench {
    /// A grid that has every result checked, and one real worker, which is there for its
    /// toolchains alone.
    fn new() -> Bench {
        Bench::with(&["--audit", "1"])
    }

    /// The same with other `words` after `hg-coord serve`.
    fn with(words: &[&str]) -> Bench {
        let more = words;
        let folder = tempfile::Builder::new().prefix("hg-audit-").tempdir();
        let folder = folder.expect("a temporary folder");
        let words = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
        let words = [&words[..], &["--insecure"], more].concat();
        let daemon = coordinator(programs(), folder.path(), &words);
        let mut grid = Grid::around(programs(), folder, daemon);
        grid.add_insecure_worker();
        grid.wait_for_workers(1);
        let place = tempfile::Builder::new().prefix("hg-audit-").tempdir();
        let bench = Bench {
            grid,
            place: place.expect("a temporary folder"),
        };
        bench.write(SOURCE);
        bench
    }

    fn write(&self, text: &str) {
        let source = self.place.path().join("a.c");
        fs::write(&source, text).expect("a source");
        // Nobody writes to it while it is compiled.
        let source = fs::File::options().write(true).open(source).expect("it");
        let long_ago = SystemTime::now() - Duration::from_secs(60);
        source.set_modified(long_ago).expect("a time");
    }

    fn folder(&self) -> &Path {
        self.place.path()
    }

    fn gcc(&self, program: &Path) -> Command {
        let mut command = scrubbed(program, self.folder(), self.folder());
        command.args(["-O1", "-c", "a.c", "-o", "a.o"]);
        command
    }

    /// Compiles through the grid, as the only client. Gives where it went.
    fn compile(&self) -> (Outcome, Event) {
        let log = self.folder().join("events");
        let mut command = scrubbed(&programs().client, self.folder(), self.folder());
        command.arg("gcc").args(["-O1", "-c", "a.c", "-o", "a.o"]);
        for_impostors(&mut command)
            .env("HG_COORDINATOR", self.grid.address())
            .env("HG_INSECURE", "1")
            .env("HG_LOCAL_SLOTS", "0")
            .env("HG_QUEUE_MS_MAX", "1000")
            .env("HG_EVENT_LOG", &log);
        let ran = run(&mut command);
        let events = event::read(&log);
        fs::remove_file(log).expect("the events");
        (ran, events.into_iter().next_back().expect("an event"))
    }

    /// An operator lets the worker back.
    fn readmit(&self) {
        let mut readmit = scrubbed(&programs().coordinator, self.folder(), self.folder());
        readmit.args(["readmit", "hostile", "--insecure", "--coordinator"]);
        let readmitted = run(readmit.arg(self.grid.address()));
        assert!(readmitted.ok(), "{}", readmitted.words());
    }

    fn object(&self) -> Vec<u8> {
        fs::read(self.folder().join("a.o")).expect("an object")
    }
}

/// Serves tasks by the real compiler, and turns one bit of each object while it is told to.
fn serve(mut worker: Impostor, flips: &Receiver<bool>) {
    let mut beats = 0;
    loop {
        let flip = match flips.recv_timeout(BEAT) {
            Ok(flip) => flip,
            Err(RecvTimeoutError::Timeout) => {
                beats += 1;
                worker.say(from_worker::Kind::Heartbeat(v1::Heartbeat {
                    sequence: beats,
                    ..v1::Heartbeat::default()
                }));
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let dispatch = worker.dispatch();
        let dispatch_id = dispatch.dispatch_id;
        let task = dispatch.task.expect("a task");
        worker.say(from_worker::Kind::Need(Need {
            dispatch_id,
            digests: vec![task.inputs[0].digest.clone()],
        }));
        let text = received(&mut worker);
        let mut object = compiled(&task, &text);
        if flip {
            let middle = object.len() / 2;
            object[middle] ^= 1;
        }
        answer(&mut worker, dispatch_id, &task, &object, Duration::ZERO);
    }
}

/// The input of the task, once all of it has come.
fn received(worker: &mut Impostor) -> Vec<u8> {
    let mut travelled = Vec::new();
    loop {
        if let to_worker::Kind::Chunk(chunk) = worker.hear() {
            travelled.extend(chunk.data);
            if chunk.last {
                return zstd::decode_all(&travelled[..]).expect("zstd");
            }
        }
    }
}

#[test]
fn a_worker_that_turns_a_bit_is_found_out_and_let_back_by_an_operator() {
    let Some(gcc) = in_path("gcc") else {
        return skip("audits", "no gcc");
    };
    let bench = Bench::new();
    run(&mut bench.gcc(&gcc));
    let wanted = bench.object();
    let worker = Impostor::join_as(&bench.grid, hello(1));
    bench.grid.wait_for_workers(2);
    // The real one is not wanted any more.
    bench.grid.workers[0].signal(Signal::SIGSTOP);
    let (flip, flips) = channel();
    let serving = thread::spawn(move || serve(worker, &flips));
    let audits = bench.folder().join(".hybridgrid/audits");

    flip.send(false).expect("a worker");
    let (ran, event) = bench.compile();
    assert!(ran.ok() && ran.stderr.is_empty(), "{}", ran.words());
    assert_eq!(
        (&*event.place, &*event.worker),
        ("remote", "hostile"),
        "{event:?}"
    );
    assert!(bench.object() == wanted && !audits.exists());

    flip.send(true).expect("a worker");
    let (ran, event) = bench.compile();
    assert!(ran.ok(), "{}", ran.words());
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(told.contains("returned another object"), "{told}");
    assert_eq!(event.place, "local");
    assert!(event.reason.starts_with("audit: hostile"), "{event:?}");
    assert!(bench.object() == wanted);
    let kept = fs::read_dir(&audits).expect("a folder").next();
    let kept = kept.expect("a difference").expect("a folder").path();
    assert!(fs::read(kept.join("local.o")).expect("an object") == wanted);
    let remote = fs::read(kept.join("remote.o")).expect("an object");
    let differing = remote.iter().zip(&wanted).filter(|(a, b)| a != b);
    assert_eq!((remote.len(), differing.count()), (wanted.len(), 1));

    // It is given nothing now.
    let (ran, event) = bench.compile();
    assert!(ran.ok() && bench.object() == wanted, "{}", ran.words());
    assert_eq!(event.place, "local", "{event:?}");
    bench.readmit();

    flip.send(false).expect("a worker");
    let (ran, event) = bench.compile();
    assert!(ran.ok(), "{}", ran.words());
    assert_eq!(
        (&*event.place, &*event.worker),
        ("remote", "hostile"),
        "{event:?}"
    );
    let metrics = bench.grid.get("/metrics").expect("metrics");
    assert!(
        metrics.contains("hybridgrid_audit_mismatches_total 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains("hybridgrid_audits_total{result=\"same\"} 2"),
        "{metrics}"
    );
    drop(flip);
    serving.join().expect("the worker");
    // So that it hears that it is to end.
    bench.grid.workers[0].signal(Signal::SIGCONT);
}

#[test]
fn what_a_worker_made_before_it_was_found_out_reaches_nobody() {
    let Some(gcc) = in_path("gcc") else {
        return skip("audits of kept results", "no gcc");
    };
    let bench = Bench::with(&["--audit", "2", "--cache-size", "1GiB"]);
    let full = v1::Hello {
        sandbox: "full".into(),
        ..hello(1)
    };
    let worker = Impostor::join_as(&bench.grid, full);
    bench.grid.wait_for_workers(2);
    bench.grid.workers[0].signal(Signal::SIGSTOP);
    let (flip, flips) = channel();
    let serving = thread::spawn(move || serve(worker, &flips));
    let text = |number: usize| format!("int f{number}(int x) {{ return {number} * x; }}\n");
    // Each has another chance to be the one that is checked; the first ones are to be kept.
    let mut made = Vec::new();
    for number in 0..64 {
        bench.write(&text(number));
        flip.send(true).expect("a worker");
        let (ran, event) = bench.compile();
        assert!(ran.ok(), "{}", ran.words());
        match (&*event.place, made.is_empty()) {
            ("remote", _) => made.push(number),
            (_, true) => bench.readmit(),
            (_, false) => break,
        }
    }
    let metrics = bench.grid.get("/metrics").expect("metrics");
    let kept = format!("hybridgrid_result_cache_kept_total {}\n", made.len());
    assert!(metrics.contains(&kept), "{metrics}");
    bench.grid.workers[0].signal(Signal::SIGCONT);
    for number in made {
        bench.write(&text(number));
        run(&mut bench.gcc(&gcc));
        let wanted = bench.object();
        let (ran, event) = bench.compile();
        assert!(ran.ok() && bench.object() == wanted, "{number}: {event:?}");
    }
    drop(flip);
    serving.join().expect("the worker");
}

#[test]
fn while_workers_idle_one_that_spoils_some_objects_is_put_out_soon() {
    let Some(gcc) = in_path("gcc") else {
        return skip("idle audits", "no gcc");
    };
    // With one object in ten the arithmetic is that of one in a hundred, ten times as fast;
    // 'bench audits' plays that one.
    let mut flipping = Flipping::new(10, 1);
    let course = flipping.run(&gcc, 100);
    assert!(course.is_out, "{course:?}\n{}", flipping.log());
    assert!(course.checks >= 1, "{course:?}");
    let metrics = flipping.get("/metrics").expect("metrics");
    assert!(
        metrics.contains("hybridgrid_audit_mismatches_total 1"),
        "{metrics}"
    );
    let log = flipping.log();
    assert!(log.contains("made different objects of one task"), "{log}");
    let workers = flipping.get("/api/v1/workers").expect("workers");
    assert!(workers.contains("\"audits_different\":1"), "{workers}");
}
