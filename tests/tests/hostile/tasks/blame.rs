//! Tasks that fail by their client's doing, as many at once as it likes: what others
//! compile goes to the workers all the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use hg_proto::compiler::toolchain::Language;
use hg_proto::v1;
use hg_proto::wire::limits::{ARGUMENT_LENGTH_MAX, COMPILE_MS_MAX};
use hg_tests::grid::Grid;
use hg_tests::raw_tree::{self, RawClient, TreeTask};

const THREADS: usize = 8;
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Compiles of the client that means no harm.
const HONEST: usize = 40;
/// Tasks of the other one that must have ended meanwhile.
const HOSTILE_MIN: usize = 60;

/// Odd, but a compile.
const MADE: [&str; 3] = [
    "a long argument",
    "a folder that is not there",
    "a name of control characters",
];

/// A compile in `folder` of a source that holds `text`.
fn compile(folder: &Path, name: &str, text: &str) -> TreeTask {
    fs::write(folder.join(name), text).expect("a source");
    let object = name.replace(".c", ".o");
    let line = format!("-O1 -c {name} -o {object}");
    let gcc = Path::new("/usr/bin/gcc");
    TreeTask::of(gcc, Language::C, folder, &line, &[&object])
}

fn with(task: &TreeTask, change: impl FnOnce(&mut v1::Task)) -> TreeTask {
    let mut task = task.clone();
    change(&mut task.task);
    task
}

/// Each fails in a way of its own, most of them where only the worker can tell.
fn worst(folder: &Path) -> Vec<(&'static str, TreeTask)> {
    let good = compile(folder, "evil.c", "int evil;\n");
    let path = |name: &str| [folder.as_os_str().as_encoded_bytes(), b"/", name.as_bytes()].concat();
    let flat = |task: &mut v1::Task| {
        let digest =
            hg_proto::compiler::probe::probe(Path::new("/usr/bin/gcc"), None).expect("a gcc");
        let other = digest.toolchain(Language::C);
        let toolchain = task.toolchain.as_mut().expect("a toolchain");
        toolchain.digest = other.expect("a toolchain").digest;
    };
    let writes = |path: Vec<u8>| {
        with(&good, |task| {
            *task.arguments.last_mut().expect("-o's argument") = path.clone();
            task.outputs = vec![path];
        })
    };
    let mut all = vec![
        ("a long name", writes(path(&"n".repeat(300)))),
        (
            "a long path",
            writes(path(&format!("{}n", "n/".repeat(505)))),
        ),
        (
            "a deep path",
            writes(path(&format!("{}n", "n/".repeat(80)))),
        ),
        ("a folder that is not there", writes(path("none/evil.o"))),
        ("the worker's folder", writes(b"/usr/lib".to_vec())),
        (
            "a file in the worker's folder",
            writes(b"/usr/lib/evil.o".to_vec()),
        ),
        ("a file of the worker's", writes(b"/usr/bin/gcc".to_vec())),
        ("a device", writes(b"/dev/null".to_vec())),
        ("a name of control characters", writes(path("\u{1}\u{7f}"))),
        ("the other form's digest", with(&good, flat)),
        (
            "no time",
            with(&good, |task| {
                task.limits = Some(v1::Limits {
                    wall_ms_max: 1,
                    ..v1::Limits::default()
                });
            }),
        ),
        (
            "no memory",
            with(&good, |task| {
                task.limits = Some(v1::Limits {
                    memory_bytes_max: 1,
                    ..v1::Limits::default()
                });
            }),
        ),
        (
            "no room for its output",
            with(&good, |task| {
                task.limits = Some(v1::Limits {
                    output_bytes_max: 1,
                    ..v1::Limits::default()
                });
            }),
        ),
    ];
    for bytes in [ARGUMENT_LENGTH_MAX, ARGUMENT_LENGTH_MAX + 1, 200 << 10] {
        let long = |task: &mut v1::Task| {
            task.arguments
                .insert(0, [&b"-DX="[..], &vec![b'x'; bytes - 4]].concat());
        };
        all.push(("a long argument", with(&good, long)));
    }
    let mut many = good.clone();
    for at in 0..600 {
        let deep = "f/".repeat(40);
        many.add(&path(&format!("{at}/{deep}h.h")), b"int h;\n".to_vec());
    }
    all.push(("many folders", many));
    let mut absent = good.clone();
    // What is sent is not what was announced.
    absent.task.inputs[0].digest = vec![7; 32];
    all.push(("another content", absent));
    // Grows until it is stopped, however much that is.
    let grows = "#define A B B B B B B B B\n#define B C C C C C C C C\n#define C D D D D D D D D\n\
                 #define D E E E E E E E E\n#define E F F F F F F F F\n#define F G G G G G G G G\n\
                 #define G H H H H H H H H\n#define H int x; int x; int x;\nA A A A A A A A\n";
    let grows = compile_only(folder, "grows.c", grows);
    all.push((
        "no end",
        with(&grows, |task| {
            task.limits = Some(v1::Limits {
                wall_ms_max: 3_000.min(COMPILE_MS_MAX),
                ..v1::Limits::default()
            });
        }),
    ));
    all
}

/// As [`compile`], of what is not compiled here.
fn compile_only(folder: &Path, name: &str, text: &str) -> TreeTask {
    let mut task = compile(folder, name, "int x;\n");
    let at = folder.join(name);
    task.edit(at.as_os_str().as_encoded_bytes(), text.as_bytes());
    task
}

fn folder(name: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::Builder::new()
        .prefix(name)
        .tempdir()
        .expect("a folder");
    let path = folder.path().canonicalize().expect("a folder");
    (folder, path)
}

#[test]
fn one_client_does_not_shut_the_workers_for_others() {
    let what = "a client that only does harm";
    let Some(mut grid) = raw_tree::grid(what) else {
        return;
    };
    grid.add_worker();
    grid.add_worker();
    grid.wait_for_workers(3);
    let (_evil, evil_folder) = folder("hg-evil-");
    let (_good, good_folder) = folder("hg-good-");
    let worst = worst(&evil_folder);
    let hostile = RawClient::new(&grid);
    let honest = RawClient::new(&grid);
    let (over, ended) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut stayed = Vec::new();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (worst, hostile, over, ended) = (&worst, &hostile, &over, &ended);
            scope.spawn(move || {
                for round in thread.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    let (title, task) = &worst[round % worst.len()];
                    let answer = hostile.submit(task);
                    let made = answer.is_ok_and(|answer| answer.result.exit_code == 0);
                    assert!(!made || MADE.contains(title), "{title}");
                    ended.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while ended.load(Ordering::Relaxed) < THREADS {
            thread::sleep(LOOK_AGAIN);
        }
        let mut at = 0;
        while at < HONEST || ended.load(Ordering::Relaxed) < HOSTILE_MIN {
            let task = compile(
                &good_folder,
                &format!("good{at}.c"),
                "int good(int x) { return x; }\n",
            );
            match honest.submit(&task) {
                Ok(answer) => assert_eq!(answer.result.exit_code, 0),
                Err(failure) => stayed.push(failure),
            }
            at += 1;
        }
        over.store(true, Ordering::Relaxed);
        assert!(
            stayed.len() * 20 <= at,
            "{} of {at} stay: {stayed:#?}",
            stayed.len()
        );
    });
    assert_open(&grid);
}

/// No worker is shut for all.
fn assert_open(grid: &Grid) {
    let workers = grid.get("/api/v1/workers").expect("a list");
    assert_eq!(
        workers.matches("\"circuit\":\"closed\"").count(),
        3,
        "{workers}"
    );
}
