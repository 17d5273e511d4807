//! A grid with an honest worker and one played by the test, which compiles as others do and
//! turns one bit in one object of so many.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use hg_proto::v1::{self, Chunk, Done, Need, TaskResult, from_worker, to_worker};
use tempfile::TempDir;

use crate::command::{run, scrubbed};
use crate::event;
use crate::grid::{Grid, coordinator};
use crate::hostile::hello;
use crate::impostor::{Impostor, announced, for_impostors};
use crate::programs::programs;

/// Between two heartbeats.
const BEAT: Duration = Duration::from_millis(500);
/// Slots of the played worker.
const SLOTS: u32 = 2;

/// Such a grid, without a client.
pub struct Flipping {
    grid: Grid,
    place: TempDir,
    stop: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
    compiles: usize,
}

/// How a grid dealt with it.
#[derive(Debug, Default, Clone, Copy)]
pub struct Course {
    /// Results of the played worker that its client took.
    pub results: u64,
    /// Compiles in all.
    pub compiles: u64,
    /// Those that the client did itself since it was to check a result.
    pub checks: u64,
    /// The played worker gets no more tasks.
    pub is_out: bool,
}

impl Flipping {
    /// The played worker spoils one object in `every`, by chance.
    ///
    /// # Panics
    /// A program does not run.
    pub fn new(every: u64, seed: u64) -> Flipping {
        let folder = |name| tempfile::Builder::new().prefix(name).tempdir();
        let state = folder("hg-flipping-").expect("a temporary folder");
        // Those by chance would find it no sooner than in some thousand results.
        let words = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
        let audits = ["--audit", "1000000000", "--idle-audit", "60"];
        let words = [&words[..], &["--insecure"], &audits].concat();
        let daemon = coordinator(programs(), state.path(), &words);
        let mut grid = Grid::around(programs(), state, daemon);
        grid.add_insecure_worker();
        grid.wait_for_workers(1);
        let hello = v1::Hello {
            slots: SLOTS,
            ..hello(1)
        };
        let worker = Impostor::join_as(&grid, hello);
        grid.wait_for_workers(2);
        let stop = Arc::new(AtomicBool::new(false));
        let stops = stop.clone();
        let serving = std::thread::spawn(move || serve(worker, every, seed, &stops));
        Flipping {
            grid,
            place: folder("hg-flipping-").expect("a temporary folder"),
            stop,
            serving: Some(serving),
            compiles: 0,
        }
    }

    /// The coordinator's page at `path`.
    ///
    /// # Errors
    /// In words: there is none.
    pub fn get(&self, path: &str) -> Result<String, String> {
        self.grid.get(path)
    }

    /// What the coordinator has said.
    pub fn log(&self) -> String {
        self.grid.coordinator.stderr()
    }

    /// Compiles until the played worker is out, or has had so many results.
    ///
    /// # Panics
    /// A compile fails, or its object is not that of the plain compiler.
    pub fn run(&mut self, gcc: &Path, results_max: u64) -> Course {
        let mut course = Course::default();
        while course.results < results_max && !course.is_out {
            let event = self.compile();
            course.compiles += 1;
            course.results += u64::from(event.worker == "hostile");
            if event.reason.starts_with("audit") {
                course.checks += 1;
                self.assert_object(gcc);
            }
            course.is_out = self
                .log()
                .contains("worker hostile returned another object");
        }
        course
    }

    fn compile(&mut self) -> event::Event {
        self.compiles += 1;
        let folder = self.place.path();
        let number = self.compiles;
        let text = format!("int f{number}(int x) {{ return {number} * x; }}\n");
        let source = folder.join(format!("f{number}.c"));
        fs::write(&source, text).expect("a source");
        // Nobody writes to it while it is compiled.
        let file = fs::File::options().write(true).open(&source).expect("it");
        let long_ago = SystemTime::now() - Duration::from_secs(60);
        file.set_modified(long_ago).expect("a time");
        let log = folder.join("events");
        let mut command = scrubbed(&programs().client, folder, folder);
        command.arg("gcc").args(["-O1", "-c"]).arg(&source);
        for_impostors(command.args(["-o", "a.o"]))
            .env("HG_COORDINATOR", self.grid.address())
            .env("HG_INSECURE", "1")
            .env("HG_LOCAL_SLOTS", "0")
            .env("HG_EVENT_LOG", &log);
        let ran = run(&mut command);
        assert!(ran.ok(), "{}", ran.words());
        let events = event::read(&log);
        fs::remove_file(log).expect("the events");
        events.into_iter().next_back().expect("an event")
    }

    /// What lies there after a check is what the plain compiler makes.
    fn assert_object(&self, gcc: &Path) {
        let folder = self.place.path();
        let object = || fs::read(folder.join("a.o")).expect("an object");
        let had = object();
        let mut plain = scrubbed(gcc, folder, folder);
        plain.args(["-O1", "-c"]);
        plain.arg(folder.join(format!("f{}.c", self.compiles)));
        assert!(run(plain.args(["-o", "a.o"])).ok());
        assert!(object() == had, "another object stayed");
    }
}

impl Drop for Flipping {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

/// Serves tasks by the real compiler, until it is told to stop.
fn serve(mut worker: Impostor, every: u64, seed: u64, stop: &AtomicBool) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut open: HashMap<u64, (v1::Task, Vec<u8>)> = HashMap::new();
    let (mut beats, mut beat) = (0, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        if beat.elapsed() >= BEAT {
            (beats, beat) = (beats + 1, Instant::now());
            worker.say(from_worker::Kind::Heartbeat(v1::Heartbeat {
                sequence: beats,
                memory_available_bytes: 8 << 30,
                ..v1::Heartbeat::default()
            }));
        }
        match worker.hear_within(BEAT / 5) {
            Some(to_worker::Kind::Dispatch(dispatch)) => {
                let task = dispatch.task.expect("a task");
                worker.say(from_worker::Kind::Need(Need {
                    dispatch_id: dispatch.dispatch_id,
                    digests: vec![task.inputs[0].digest.clone()],
                }));
                open.insert(dispatch.dispatch_id, (task, Vec::new()));
            }
            Some(to_worker::Kind::Cancel(cancel)) => _ = open.remove(&cancel.dispatch_id),
            Some(to_worker::Kind::Chunk(chunk)) => {
                let Some((_, travelled)) = open.get_mut(&chunk.dispatch_id) else {
                    continue;
                };
                travelled.extend(chunk.data);
                if chunk.last
                    && let Some((task, travelled)) = open.remove(&chunk.dispatch_id)
                {
                    let text = zstd::decode_all(&travelled[..]).expect("zstd");
                    let began = Instant::now();
                    let mut object = compiled(&task, &text);
                    if random.u64(0..every) == 0 {
                        let middle = object.len() / 2;
                        object[middle] ^= 1;
                    }
                    answer(
                        &mut worker,
                        chunk.dispatch_id,
                        &task,
                        &object,
                        began.elapsed(),
                    );
                }
            }
            _ => {}
        }
    }
}

/// Says that `object` is what `task` came to, by a compiler that ran for so long.
pub fn answer(
    worker: &mut Impostor,
    dispatch_id: u64,
    task: &v1::Task,
    object: &[u8],
    wall: Duration,
) {
    let (output, travels) = announced(object, &task.outputs[0]);
    worker.say(from_worker::Kind::Chunk(Chunk {
        dispatch_id,
        blob: 0,
        data: travels,
        last: true,
    }));
    worker.say(from_worker::Kind::Done(Done {
        dispatch_id,
        result: Some(TaskResult {
            outputs: vec![output],
            usage: Some(v1::Usage {
                wall_us: wall.as_micros() as u64,
                ..v1::Usage::default()
            }),
            ..TaskResult::default()
        }),
    }));
}

/// What the compiler of this machine makes of `task`, whose one input is `text`.
///
/// # Panics
/// It fails.
pub fn compiled(task: &v1::Task, text: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |bytes: &[u8]| PathBuf::from(String::from_utf8_lossy(bytes).into_owned());
    let directory = folder.path().join(path(&task.working_directory));
    fs::create_dir_all(&directory).expect("a folder");
    fs::write(directory.join(path(&task.inputs[0].path)), text).expect("a file");
    let words = task.arguments.iter().map(|word| path(word));
    let status = Command::new("gcc")
        .args(words)
        .current_dir(&directory)
        .stdin(Stdio::null())
        .status();
    assert!(status.expect("gcc").success());
    fs::read(directory.join(path(&task.outputs[0]))).expect("an object")
}
