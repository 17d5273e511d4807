//! The tree form of a task, sent by a client of the test's own: what the worker
//! makes of it is the local compiler's own, debug information and all, and a header
//! travels once.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hg_proto::compiler::probe;
use hg_proto::compiler::toolchain::Language;
use hg_proto::v1::failure::Code;
use hg_proto::wire::digest::Digest;
use hg_tests::grid::Grid;
use hg_tests::hostile::resident;
use hg_tests::raw_tree::{RawClient, TreeTask, grid, toolchain};
use hg_tests::skip;
use nix::sys::signal::Signal;
use tempfile::TempDir;

const SOURCE: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include "inner/shape.h"
#include "beside.h"
#define AREA(shape) ((shape)->width * (shape)->height)
int area(const struct shape *shape) { return BESIDE + AREA(shape); }
int main(int count, char **words) {
    struct shape shape = {count, atoi(words[0])};
    return printf("%d %s %d\n", area(&shape), __FILE__, unused_value);
}
"#;
const SOURCE_CXX: &str = r#"
#include <string>
#include <vector>
#include "inner/shape.h"
template <typename T> T sum(const std::vector<T> &all) {
    T total{};
    for (const auto &one : all) total += one;
    return total;
}
std::string shown(const std::vector<int> &all) { return std::to_string(sum(all)); }
"#;

/// A project in a folder of its own, at its real path.
fn project() -> (TempDir, PathBuf) {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().canonicalize().expect("a path");
    for inner in ["src/inner", "src/inner/deeper", "build/obj"] {
        fs::create_dir_all(folder.join(inner)).expect("a folder");
    }
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("a file");
    write("src/main.c", SOURCE);
    write("src/sum.cc", SOURCE_CXX);
    write(
        "src/inner/shape.h",
        "struct shape { int width, height; };\n#include \"deeper/value.h\"\n",
    );
    write(
        "src/inner/deeper/value.h",
        "static int unused_value = 7, not_used;\n",
    );
    write("src/beside.h", "#define BESIDE 3\n");
    (place, folder)
}

fn driver(name: &str) -> PathBuf {
    Path::new("/usr/bin").join(name)
}

/// A grid, a client, a project and gcc.
struct Ready {
    grid: Grid,
    client: RawClient,
    /// Removed at the end.
    _place: TempDir,
    folder: PathBuf,
    driver: PathBuf,
}

impl Ready {
    /// `None`: something of it is not to be had here, which `what` needs.
    fn with_gcc(what: &str) -> Option<Ready> {
        let grid = grid(what)?;
        let driver = driver("gcc");
        if toolchain(&driver, Language::C).is_none() {
            skip(what, "gcc");
            return None;
        }
        let client = RawClient::new(&grid);
        let (_place, folder) = project();
        Some(Ready {
            grid,
            client,
            _place,
            folder,
            driver,
        })
    }

    /// main.c, compiled where it lies.
    fn task(&self) -> TreeTask {
        let cwd = self.folder.join("src");
        TreeTask::of(&self.driver, Language::C, &cwd, "-g -c main.c", &["main.o"])
    }
}

#[test]
fn an_object_with_debug_information_is_the_local_compilers() {
    let what = "the tree form";
    let Some(grid) = grid(what) else {
        return;
    };
    let client = RawClient::new(&grid);
    let (_place, folder) = project();
    let cases = [
        (
            "gcc",
            Language::C,
            "src",
            "-g -O2 -Wall -c main.c -o main.o",
        ),
        (
            "gcc",
            Language::C,
            "build",
            "-g3 -c ../src/main.c -o obj/main.o",
        ),
        (
            "gcc",
            Language::C,
            "src",
            "-g -MD -MF inner/deeper/main.d -c main.c",
        ),
        (
            "gcc",
            Language::C,
            "",
            "-g -Wall -MMD -c src/main.c -o src/main.o",
        ),
        (
            "gcc",
            Language::C,
            "",
            "-S -Wextra -Isrc/inner src/main.c -o build/main.s",
        ),
        ("g++", Language::Cxx, "src", "-g -O1 -c sum.cc"),
        (
            "clang",
            Language::C,
            "src",
            "-g -O2 -Wall -c main.c -o main.o",
        ),
        (
            "clang",
            Language::C,
            "build",
            "-gdwarf-4 -MD -c ../src/main.c -o obj/main.o",
        ),
        (
            "clang",
            Language::Cxx,
            "build",
            "-g -O1 -c ../src/sum.cc -o sum.o",
        ),
    ];
    for (name, language, inner, arguments) in cases {
        let driver = driver(name);
        if toolchain(&driver, language).is_none() {
            skip(what, name);
            continue;
        }
        let cwd = folder.join(inner);
        let cwd = cwd.components().as_path();
        let words: Vec<&str> = arguments.split(' ').collect();
        let after = |option: &str| {
            let at = words.iter().position(|word| *word == option)?;
            Some(words[at + 1].to_owned())
        };
        let object = after("-o").unwrap_or_else(|| {
            let source = words
                .iter()
                .find(|word| word.contains(".c"))
                .expect("a source");
            format!("{}.o", source.split('.').next().unwrap_or_default())
        });
        let mut outputs = vec![object.clone()];
        if arguments.contains("-MD") || arguments.contains("-MMD") {
            outputs.push(after("-MF").unwrap_or_else(|| object.replace(".o", ".d")));
        }
        let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
        let task = TreeTask::of(&driver, language, cwd, arguments, &outputs);
        let title = format!("{name} {arguments}");
        let (local, expected) = task.locally(&driver);
        assert!(local.ok(), "{title}: {}", local.words());
        let answer = client
            .submit(&task)
            .unwrap_or_else(|failure| panic!("{title}: {failure:?}"));
        let said = String::from_utf8_lossy(&answer.result.stderr).into_owned();
        assert_eq!(answer.result.exit_code, 0, "{title}: {said}");
        assert_eq!(said, String::from_utf8_lossy(&local.stderr), "{title}");
        assert!(answer.result.unexpected.is_empty(), "{:?}", answer.result);
        for (at, expected) in expected.iter().enumerate() {
            assert!(!expected.is_empty(), "{title}: no output {at} here");
            assert!(
                *expected == answer.outputs[at],
                "{title}: output {at} differs"
            );
        }
        // All of it is there now.
        let again = client.submit(&task).expect("an answer");
        assert_eq!((again.needed, again.sent_bytes), (0, 0), "{title}");
        assert!(
            again.outputs == expected,
            "{title}: another the second time"
        );
        eprintln!(
            "{title}: {} inputs, {} contents of {} bytes travelled",
            task.contents.len(),
            answer.needed,
            answer.sent_bytes
        );
    }
}

/// What a compile that means harm gets: no result, or one that failed; and never a
/// word of `secret`.
fn assert_held(client: &RawClient, title: &str, task: &TreeTask, secret: &str) {
    match client.submit(task) {
        Err(failure) => assert_eq!(failure.code(), Code::Refused, "{title}: {failure:?}"),
        Ok(answer) => {
            let result = answer.result;
            assert!(result.exit_code != 0, "{title}: it compiles");
            let mut said = [result.stdout, result.stderr].concat();
            said.extend(answer.outputs.concat());
            let shows = said.windows(secret.len()).any(|at| at == secret.as_bytes());
            assert!(!shows, "{title}: it came out");
        }
    }
}

#[test]
fn nothing_is_there_but_what_was_sent() {
    let Some(ready) = Ready::with_gcc("hostile trees") else {
        return;
    };
    let Ready { client, driver, .. } = &ready;
    let (folder, cwd) = (&ready.folder, ready.folder.join("src"));
    let make = |arguments: &str| TreeTask::of(driver, Language::C, &cwd, arguments, &["main.o"]);
    let good = make("-g -c main.c");
    let at = |name: &str| cwd.join(name).as_os_str().as_encoded_bytes().to_vec();
    let source = at("main.c");
    // On this machine, and readable for all, but not sent.
    let secret = "secret_5d1";
    let file = folder.join("secret.h");
    fs::write(&file, format!("int {secret};\n#error {secret}\n")).expect("a file");
    let file = file.display().to_string();
    for line in [
        "#include \"/etc/passwd\"",
        "#include \"FILE\"",
        "#include \"../secret.h\"",
        "#include_next <../../../../../../../FILE>",
        "__asm__(\".incbin \\\"FILE\\\"\");",
        "__asm__(\".incbin \\\"/etc/passwd\\\"\");",
        "__asm__(\".include \\\"FILE\\\"\");",
        "#include \"/proc/self/environ\"",
        "#include \"/dev/stdin\"\n#error",
        "#if __has_include(\"FILE\") || __has_include(\"/etc/passwd\")\n#else\n#error\n#endif",
    ] {
        let mut task = good.clone();
        task.edit(&source, line.replace("FILE", &file).as_bytes());
        assert_held(client, line, &task, secret);
    }
    for words in [
        "-include /etc/passwd",
        "-include FILE",
        "-I.. -include secret.h",
        "-fplugin=FILE",
        "-specs=FILE",
        "-wrapper FILE",
        "@FILE",
        "-B/tmp",
        "-fauto-profile=FILE",
        "-o ../build/main.o",
        "-MD -MF ../build/main.d",
    ] {
        let mut task = good.clone();
        let more = words.replace("FILE", &file);
        let more = more.split(' ').map(|word| word.as_bytes().to_vec());
        task.task.arguments.splice(0..0, more);
        assert_held(client, words, &task, secret);
    }
    // Files in the place of the worker's own.
    let real = driver.canonicalize().expect("a path");
    let cc1 = probe::probe(driver, None).expect("gcc").files;
    let cc1 = cc1.iter().find(|path| path.ends_with("cc1")).expect("cc1");
    for path in [
        Path::new("/etc/ld.so.cache"),
        Path::new("/dev/null"),
        Path::new("/task/tmp/x"),
        Path::new("/proc/x"),
        &real,
        cc1,
        &cc1.join("x"),
    ] {
        let mut task = good.clone();
        task.add(path.as_os_str().as_encoded_bytes(), b"mine".to_vec());
        let failure = client.submit(&task).err().expect("a refusal");
        assert_eq!(failure.code(), Code::Refused, "{path:?}: {failure:?}");
    }
    // An output in the place of an input, of a folder, and beside the compiler.
    let beside = real.with_file_name("main.o");
    for output in [source.clone(), cwd.as_os_str().as_encoded_bytes().to_vec()] {
        let mut task = good.clone();
        task.task.outputs = vec![output];
        assert_held(client, "an output over an input", &task, secret);
    }
    let mut task = good.clone();
    let words = ["-o".into(), beside.as_os_str().as_encoded_bytes().to_vec()];
    task.task.arguments.extend(words);
    task.task.outputs = vec![beside.as_os_str().as_encoded_bytes().to_vec()];
    let failure = client.submit(&task).err().expect("a refusal");
    assert_eq!(failure.code(), Code::Refused, "{failure:?}");
    assert!(!beside.exists());
    // The worker is well, and its store is what it was.
    let answer = client.submit(&good).expect("a compile");
    assert_eq!(answer.result.exit_code, 0, "{:?}", answer.result);
    assert_eq!(answer.outputs, good.locally(driver).1);
}

#[test]
fn what_was_kept_outlives_the_worker_and_a_damaged_file_comes_again() {
    let Some(ready) = Ready::with_gcc("the store") else {
        return;
    };
    let task = ready.task();
    let Ready {
        mut grid,
        client,
        driver,
        ..
    } = ready;
    let (_, expected) = task.locally(&driver);
    let first = client.submit(&task).expect("a compile");
    assert!(first.needed > 10 && first.outputs == expected);
    let young = grid.folder().join("worker-1/blobs/young");
    let trees = grid.folder().join("worker-1/trees");
    assert_eq!(fs::read_dir(&young).expect("a store").count(), first.needed);
    // What a crash leaves goes; what was whole stays.
    fs::create_dir_all(trees.join("left/root")).expect("a folder");
    grid.workers[0].end(Signal::SIGKILL);
    grid.wait_for_workers(0);
    grid.workers.clear();
    grid.add_worker();
    grid.wait_for_workers(1);
    assert_eq!(fs::read_dir(&trees).expect("trees").count(), 0);
    let digest = Digest::of(SOURCE.as_bytes()).to_hex();
    let kept = young.join(digest);
    fs::set_permissions(&kept, PermissionsExt::from_mode(0o644)).expect("a mode");
    fs::write(&kept, SOURCE.replace("count", "c0unt")).expect("a file");
    let again = client.submit(&task).expect("a compile");
    assert_eq!((again.needed, again.sent_bytes), (1, SOURCE.len()));
    assert!(again.outputs == expected);
}

#[test]
fn a_large_source_costs_the_worker_no_memory() {
    let Some(ready) = Ready::with_gcc("a large source") else {
        return;
    };
    let mut task = ready.task();
    let Ready { grid, client, .. } = &ready;
    client.submit(&task).expect("a compile");
    let rest = resident(&grid.workers[0]);
    // Of blanks, so that the compile is a short one.
    let mut source = vec![b' '; 100 << 20];
    for line in source.chunks_mut(1 << 16) {
        line[line.len() - 1] = b'\n';
    }
    source.extend_from_slice(b"int large;\n");
    let path = ready.folder.join("src/main.c");
    task.edit(path.as_os_str().as_encoded_bytes(), &source);
    let answer = client.submit(&task).expect("a compile");
    assert_eq!(answer.result.exit_code, 0, "{:?}", answer.result);
    assert_eq!(answer.sent_bytes, source.len());
    let now = resident(&grid.workers[0]);
    eprintln!("{} KiB at rest, {} KiB with 100 MiB", rest >> 10, now >> 10);
    assert!(now < rest + (8 << 20), "from {rest} to {now} bytes");
}
