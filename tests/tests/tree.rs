//! The tree form of a task, sent by a client of the test's own: what the worker
//! makes of it is the local compiler's own, debug information and all, and a header
//! travels once.

use std::fs;
use std::path::{Path, PathBuf};

use hg_proto::toolchain::Language;
use hg_tests::grid::Grid;
use hg_tests::programs::programs;
use hg_tests::raw_tree::{RawClient, TreeTask, toolchain};
use hg_tests::running::until;
use hg_tests::skip;
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

/// A grid whose worker takes tasks of the tree form; `None`: none does here.
fn grid(what: &str) -> Option<Grid> {
    let grid = Grid::start(programs(), 1, 2);
    let workers = until(&grid.coordinator, "toolchains", || {
        let list = grid.get("/api/v1/workers").ok()?;
        list.contains("\"digest\"").then_some(list)
    });
    if !workers.contains("\"sandbox\":\"full\"") {
        skip(what, &grid.workers[0].stderr());
        return None;
    }
    Some(grid)
}

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
