//! Compiles with debug information through hgbuild and a worker that takes source and
//! headers at the client's own paths: objects, dependency files, words and exit
//! codes are the local compiler's own, and what can't be the same there goes
//! another way.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use hg_proto::v1::{self, submit_response::Kind};
use hg_tests::command::{Outcome, run, run_on_terminal, scrubbed};
use hg_tests::daemon::Daemon;
use hg_tests::event::{self, Event};
use hg_tests::fake_grid::{accepted, answer, say, started};
use hg_tests::folder::{Snapshot, compare, snapshot};
use hg_tests::grid::{Grid, worker};
use hg_tests::programs::programs;
use hg_tests::raw_tree::grid;
use hg_tests::running::until;
use hg_tests::tls_peer::Listener;
use hg_tests::workload::LUA;
use hg_tests::{in_path, skip};
use tempfile::TempDir;

const COMPILERS: [&str; 4] = ["gcc", "g++", "clang", "clang++"];

/// Sources, compiled twice in the same folder: paths are in the objects.
struct Space {
    place: TempDir,
    folder: PathBuf,
}

/// How one compile went.
struct Ran {
    outcome: Outcome,
    files: Snapshot,
    events: Vec<Event>,
}

impl Space {
    fn new(files: &[(&str, &str)]) -> Space {
        let place = tempfile::Builder::new().prefix("hg-tree-").tempdir();
        let place = place.expect("a temporary folder");
        let folder = place.path().canonicalize().expect("a path").join("project");
        let space = Space { place, folder };
        fs::create_dir(&space.folder).expect("a folder");
        for (name, text) in files {
            space.write(name, text);
        }
        space
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(&path)).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    fn home(&self) -> &Path {
        self.place.path()
    }

    fn log(&self) -> PathBuf {
        self.home().join("events.jsonl")
    }

    fn plain(&self, compiler: &str, words: &str) -> Command {
        let mut command = scrubbed(compiler, &self.folder, self.home());
        command.args(words.split_whitespace()).env("LC_ALL", "C");
        command
    }

    fn hgbuild(&self, grid: &Grid, compiler: &str, words: &str) -> Command {
        let mut command = scrubbed(&programs().client, &self.folder, self.home());
        grid.lead(&mut command)
            .arg(compiler)
            .args(words.split_whitespace())
            .env("LC_ALL", "C")
            .env("HG_LOCAL_SLOTS", "0")
            .env("HG_EVENT_LOG", self.log());
        command
    }

    /// What is remembered of the system's headers.
    fn memo(&self) -> PathBuf {
        let run_folder = self.home().join(".hybridgrid/run");
        let entries = fs::read_dir(run_folder).expect("a folder");
        let mut names = entries.map(|entry| entry.expect("a name").path());
        let ours = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // Those of a project have its folder's digest behind.
            name.starts_with("headers-") && name.matches('-').count() == 1
        };
        names.find(ours).expect("what is remembered")
    }

    /// Runs `command` and takes away what it made.
    fn ran(&self, command: &mut Command) -> Ran {
        self.ran_by(command, run)
    }

    fn ran_by(&self, command: &mut Command, run: impl FnOnce(&mut Command) -> Outcome) -> Ran {
        let before = snapshot(&self.folder).expect("the folder");
        let outcome = run(command);
        let mut files = snapshot(&self.folder).expect("the folder");
        files.retain(|name, _| !before.contains_key(name));
        for name in files.keys() {
            fs::remove_file(self.folder.join(name)).expect("an output");
        }
        let events = event::read(&self.log());
        let _ = fs::remove_file(self.log());
        Ran {
            outcome,
            files,
            events,
        }
    }

    fn ran_in(&self, command: &mut Command, locale: &str) -> Ran {
        command.env("LC_ALL", locale);
        self.ran(command)
    }

    /// Compiles with and without hgbuild, compares, and says where and how.
    fn same(&self, grid: &Grid, compiler: &str, words: &str) -> String {
        let plain = self.ran(&mut self.plain(compiler, words));
        let wrapped = self.ran(&mut self.hgbuild(grid, compiler, words));
        let different = compare(
            (&plain.outcome, &plain.files),
            (&wrapped.outcome, &wrapped.files),
        );
        let name = format!("{compiler} {words}: {:?}", wrapped.events);
        assert!(different.is_empty(), "{name}:\n{}", different.join("\n"));
        assert_eq!(wrapped.events.len(), 1, "{name}");
        let event = &wrapped.events[0];
        match event.place.as_str() {
            "remote" => format!("remote {}", event.form),
            _ => event
                .reason
                .split(':')
                .next()
                .unwrap_or_default()
                .to_owned(),
        }
    }

    fn goes(&self, grid: &Grid, expected: &str, compiler: &str, words: &str) {
        let went = self.same(grid, compiler, words);
        assert_eq!(went, expected, "{compiler} {words}");
    }
}

const MAIN_C: &str = "\
#include <stdio.h>\n\
#include <stdlib.h>\n\
#include \"inc/shape.h\"\n\
#include \"made/config.h\"\n\
#define AREA(shape) ((shape)->width * (shape)->height)\n\
int area(const struct shape *shape) { return CONFIG + AREA(shape); }\n\
int shown(const struct shape *shape) { return printf(\"%d %s\\n\", area(shape), __FILE__); }\n";

const MAIN_CC: &str = "\
#include <map>\n\
#include <string>\n\
#include <vector>\n\
#include \"inc/shape.h\"\n\
#include \"made/config.h\"\n\
static int sum(const std::vector<shape> &all) { int n = CONFIG; for (auto &s : all) n += s.width; return n; }\n\
std::map<std::string, int> shown(const std::vector<shape> &all) { return {{\"sum\", sum(all)}}; }\n";

fn project() -> Space {
    Space::new(&[
        ("src/main.c", MAIN_C),
        ("src/main.cc", MAIN_CC),
        (
            "src/inc/shape.h",
            "#pragma once\n#include \"../inc/deep/unit.h\"\nstruct shape { unit width, height; };\n",
        ),
        (
            "src/inc/deep/unit.h",
            "#ifndef UNIT_H\n#define UNIT_H\ntypedef int unit;\n#endif\n",
        ),
        ("build/made/config.h", "#define CONFIG 42\n"),
        ("build/obj/keep", ""),
    ])
}

fn source(compiler: &str) -> &'static str {
    if compiler.ends_with("++") {
        "main.cc"
    } else {
        "main.c"
    }
}

#[test]
fn debug_information_and_dependencies_are_the_same() {
    let Some(grid) = grid("debug information") else {
        return;
    };
    let space = project();
    let folder = space.folder.display().to_string();
    for compiler in COMPILERS {
        let source = source(compiler);
        for words in [
            format!("-O2 -g -Isrc -Ibuild -c src/{source} -o build/obj/main.o"),
            format!(
                "-O2 -g3 -gdwarf-4 -I{folder}/build -c {folder}/src/{source} -o {folder}/build/obj/main.o"
            ),
            format!(
                "-Og -ggdb -Isrc/../build -Inone -MD -MP -MF build/obj/main.d -c src/../src/{source} -o build/../build/obj/main.o"
            ),
            format!("-g -gz -MMD -Ibuild -c src/{source} -ffile-prefix-map={folder}=/src"),
            format!("-g1 -S -O1 -Ibuild -Wp,-MMD,main.d src/{source}"),
            format!("-O2 -Ibuild -MD -MT other -c src/{source}"),
        ] {
            space.goes(&grid, "remote tree", compiler, &words);
        }
    }
}

#[test]
fn warnings_are_the_same_and_so_are_errors() {
    let Some(grid) = grid("warnings") else {
        return;
    };
    let space = Space::new(&[
        (
            "w.c",
            "#include \"h/w.h\"\n#define SET(x, y) x = y\nint f(int a) {\n\tint unused;\n\tif (SET(a, 1)) return CAST(\"text\");\n\treturn 0;\n}\n",
        ),
        (
            "h/w.h",
            "#define CAST(x) ((char) (x))\nstatic int never_used(void) { return 1; }\n",
        ),
        (
            "e.c",
            "#include \"h/w.h\"\nint f(void) { return undeclared + 1; }\n",
        ),
        ("gone.c", "#include \"gone.h\"\nint x;\n"),
    ]);
    for compiler in ["gcc", "clang"] {
        let warned = "-g -Wall -Wextra -c w.c";
        space.goes(&grid, "remote tree", compiler, warned);
        // In another locale gcc's quotes are others, there as here.
        for locale in ["C.UTF-8", "en_US.UTF-8"] {
            let plain = space.ran_in(&mut space.plain(compiler, warned), locale);
            let away = space.ran_in(&mut space.hgbuild(&grid, compiler, warned), locale);
            let different = compare((&plain.outcome, &plain.files), (&away.outcome, &away.files));
            assert!(different.is_empty(), "{locale}: {}", different.join("\n"));
            let form = &away.events[0].form;
            assert_eq!(form, "tree", "{locale}: {:?}", away.events);
        }
        space.goes(
            &grid,
            "remote tree",
            compiler,
            "-O2 -Wall -c w.c -fdiagnostics-color=always",
        );
        space.goes(&grid, "remote-failed", compiler, "-g -Wall -Werror -c w.c");
        space.goes(&grid, "remote-failed", compiler, "-g -c e.c");
        space.goes(&grid, "remote-failed", compiler, "-g -c gone.c");
        space.goes(
            &grid,
            "remote tree",
            compiler,
            "-g -Wmissing-include-dirs -Ih -Igone -c w.c",
        );
    }
}

/// Colours, links, and lines that a terminal has no room for.
#[test]
fn words_on_a_terminal_are_the_same() {
    let Some(grid) = grid("terminal") else {
        return;
    };
    let long = "a + ".repeat(30);
    let source = format!(
        "int f(int a) {{\n\tint unused = {long}a; int late;\n\treturn \"text\";\n}}\n\
         static int never_used_whatever_happens_in_this_file(void) {{ return 1; }}\n"
    );
    let space = Space::new(&[("w.c", &source), ("clean.c", "int x;\n")]);
    let stays = |compiler: &str, words: &str, columns: u16, set: &[(&str, &str)], stays: bool| {
        let on = |command: &mut Command| run_on_terminal(command, columns);
        let set = || set.iter().copied();
        let plain = space.ran_by(space.plain(compiler, words).envs(set()), on);
        let away = space.ran_by(space.hgbuild(&grid, compiler, words).envs(set()), on);
        let name = format!("{compiler} {words} {columns} {:?}", away.events);
        let different = compare((&plain.outcome, &plain.files), (&away.outcome, &away.files));
        assert!(different.is_empty(), "{name}: {}", different.join("\n"));
        assert_eq!(
            away.events[0].form,
            if stays { "" } else { "tree" },
            "{name}"
        );
        plain.outcome.stderr
    };
    let same = |compiler: &str, words: &str, columns: u16, set: &[(&str, &str)]| {
        stays(compiler, words, columns, set, false)
    };
    for compiler in ["gcc", "g++", "clang"] {
        let warned = "-g -Wall -fpermissive -Wno-int-conversion -c w.c";
        let mut looks = Vec::new();
        for columns in [0, 40, 200] {
            for term in ["xterm-256color", "dumb"] {
                let said = same(compiler, warned, columns, &[("TERM", term)]);
                assert_eq!(said.contains(&0x1b), term != "dumb", "{compiler} {term}");
                looks.push(said);
            }
        }
        let told = [("TERM", "xterm"), ("COLUMNS", "60")];
        looks.push(same(compiler, warned, 0, &told));
        // They do look otherwise, or nothing was tried.
        assert!(looks[0] != looks[6], "{compiler}");
        let utf8 = [("TERM", "xterm"), ("COLUMNS", "60"), ("LC_ALL", "C.UTF-8")];
        same(compiler, warned, 0, &utf8);
        let plain_links = [("TERM", "xterm"), ("GCC_URLS", "no"), ("NO_COLOR", "1")];
        same(compiler, warned, 80, &plain_links);
        let typed = "-Wall -fpermissive -Wno-int-conversion -fdiagnostics-color=never -c w.c";
        same(compiler, typed, 80, &[("TERM", "xterm")]);
        let left = "-Wall -fpermissive -Wno-int-conversion -fdiagnostics-color=auto -c w.c";
        stays(
            compiler,
            left,
            80,
            &[("TERM", "xterm")],
            compiler == "clang",
        );
        same(compiler, "-g -Wall -c clean.c", 80, &[("TERM", "xterm")]);
    }
}

/// Files, the source last, and words besides it.
type Search = (&'static [(&'static str, &'static str)], &'static str);

/// What is found twice has two values: the object says which one was read.
const SEARCHES: [Search; 13] = [
    // The next one lies in a folder for quotes.
    (
        &[
            ("q1/h.h", "#include_next <h.h>\n"),
            ("q2/h.h", "#define V 2\n"),
            ("i/h.h", "#define V 3\n"),
            ("a.c", "#include \"h.h\"\nint v = V;\n"),
        ],
        "-iquote q1 -iquote q2 -Ii",
    ),
    (
        &[
            ("h.h", "#include_next <h.h>\n"),
            ("q2/h.h", "#define V 2\n"),
            ("i/h.h", "#define V 3\n"),
            ("a.c", "#include \"h.h\"\nint v = V;\n"),
        ],
        "-iquote q2 -Ii",
    ),
    // It is there, and can't be had by an include in brackets: an error.
    (
        &[
            (
                "q1/h.h",
                "#if __has_include_next(<o.h>)\n#include <o.h>\n#endif\n",
            ),
            ("q2/o.h", ""),
            ("a.c", "#include \"h.h\"\nint v;\n"),
        ],
        "-iquote q1 -iquote q2",
    ),
    // Words between brackets that are macros.
    (
        &[
            ("i1/lib/2/h.h", "#define V 1\n"),
            ("i2/lib/2/h.h", "#define V 2\n"),
            (
                "i2/a.c",
                "#if 0\n#include \"lib/2/h.h\"\n#endif\n#define VER 2\n#define H <lib/VER/h.h>\n#include H\nint v = V;\n",
            ),
        ],
        "-Ii1 -Ii2",
    ),
    (
        &[
            ("dir/h.h", ""),
            (
                "a.c",
                "#define HAS(x) __has_include(<dir/x>)\n#if HAS(h.h)\nint v = 1;\n#else\nint v = 2;\n#endif\n",
            ),
        ],
        "-I.",
    ),
    (
        &[
            ("lib/2/h.h", ""),
            (
                "a.c",
                "#define HAS(x) __has_include(x)\n#define VER 2\n#if HAS(<lib/VER/h.h>)\nint v = 1;\n#else\nint v = 2;\n#endif\n",
            ),
        ],
        "-I.",
    ),
    // Asked for where the macro is used.
    (
        &[
            ("inc/def.h", "#define H __has_include(\"q.h\")\n"),
            ("q.h", ""),
            (
                "a.c",
                "#include <def.h>\n#if H\nint v = 1;\n#else\nint v = 2;\n#endif\n",
            ),
        ],
        "-Iinc",
    ),
    (
        &[
            ("h.h", ""),
            (
                "a.c",
                "#define HAS(x) __has_include(x)\n#if X\nint v = 1;\n#else\nint v = 2;\n#endif\n",
            ),
        ],
        "-DX=HAS(\"h.h\")",
    ),
    (
        &[
            ("inc/y.h", ""),
            (
                "a.c",
                "#define ANY(a, b) (__has_include(a) || __has_include(b))\n#if ANY(<nope.h>, <y.h>)\nint v = 1;\n#else\nint v = 2;\n#endif\n",
            ),
        ],
        "-Iinc",
    ),
    (
        &[
            ("inc/1/y.h", ""),
            (
                "a.c",
                "#define NOT(x) !(x)\n#define lib 1\n#if NOT(__has_include(<lib/y.h>))\nint v = 1;\n#else\nint v = 2;\n#endif\n",
            ),
        ],
        "-Iinc",
    ),
    (
        &[
            ("lib/2/h.h", ""),
            (
                "a.c",
                "#define HV __has_include(<lib/VER/h.h>)\n#if HV\nint v = 1;\n#else\nint v = 2;\n#endif\n",
            ),
        ],
        "-I. -Wp,-DA=1,-DVER=2",
    ),
    // The name of the macro that asks is put together.
    (
        &[
            ("h.h", ""),
            (
                "a.c",
                "#define HAS(x) __has_include(x)\n#define CAT(a, b) a##b\n#if CAT(HA, S)(\"h.h\")\nint v = 1;\n#else\nint v = 2;\n#endif\n",
            ),
        ],
        "-DP",
    ),
    // A comment that seems to begin twice.
    (
        &[
            ("p.h", "#define V 1\n"),
            ("inc/p.h", "#define V 2\n"),
            (
                "a.c",
                "#if 0\n#include <p.h>\n#endif\n# /* a /* b */ include \"p.h\"\nint v = V;\n",
            ),
        ],
        "-Iinc",
    ),
];

#[test]
fn the_header_that_is_meant_is_read() {
    let Some(grid) = grid("meant") else {
        return;
    };
    for (files, words) in SEARCHES {
        let space = Space::new(files);
        let source = files.last().expect("a source").0;
        for compiler in ["gcc", "clang"] {
            space.same(&grid, compiler, &format!("{words} -c {source}"));
        }
    }
}

/// gcc takes files for one by their times too, which are others on a worker.
#[test]
fn twins_that_are_read_once() {
    let Some(grid) = grid("twins") else {
        return;
    };
    let twin = "_Pragma(\"once\")\nint N = 1;\n";
    let space = Space::new(&[
        ("i1/h.h", twin),
        ("i2/h.h", twin),
        (
            "a.c",
            "#define N a\n#include \"i1/h.h\"\n#undef N\n#define N b\n#include \"i2/h.h\"\n",
        ),
    ]);
    let older = fs::File::open(space.folder.join("i1/h.h")).expect("a header");
    let hour = std::time::Duration::from_secs(3600);
    let time = std::time::SystemTime::now() - hour;
    older.set_modified(time).expect("a time");
    for compiler in ["gcc", "clang"] {
        space.same(&grid, compiler, "-c a.c");
    }
}

/// gcc takes one even where there is no header beside it.
#[test]
fn a_precompiled_header_stays_here() {
    let Some(grid) = grid("pch") else {
        return;
    };
    let space = Space::new(&[
        ("d/f.h", "#define V 1\n"),
        ("f.h", "#define V 7\n"),
        ("a.c", "#include \"f.h\"\nint v = V;\n"),
    ]);
    let made = run(&mut space.plain("gcc", "-c f.h -o f.h.gch"));
    assert!(made.ok(), "{}", made.words());
    fs::remove_file(space.folder.join("f.h")).expect("a header");
    space.goes(&grid, "pch", "gcc", "-Id -c a.c");
}

#[test]
fn headers_are_found_where_they_would_be_here() {
    let Some(grid) = grid("headers") else {
        return;
    };
    let space = Space::new(&[
        (
            "a.c",
            "#include <n.h>\n#if __has_include(<there.h>)\nint there;\n#endif\n#if __has_include(\"not_there.h\")\n#error no\n#endif\n#ifdef NEVER\n#include <no/such/header.h>\n#include NAMED_NOWHERE\n#endif\n#include NAMED\nint x = NEXT + SHADOWED + NAME;\n",
        ),
        ("one/n.h", "#include_next <n.h>\n#include <shadowed.h>\n"),
        ("two/n.h", "#define NEXT 1\n"),
        ("two/there.h", ""),
        ("one/shadowed.h", "#define SHADOWED 2\n"),
        ("two/shadowed.h", "#define SHADOWED 3\n"),
        ("named.h", "#define NAME 4\n"),
        ("copy/n.h", "#define NEXT 1\n"),
    ]);
    for compiler in ["gcc", "clang"] {
        let words = "-g -DNAMED=\"named.h\" -Ione -Itwo -MD -c a.c";
        space.goes(&grid, "remote tree", compiler, words);
        let words = "-g -DNAMED=\"named.h\" -iquote two -Ione -isystem two -Icopy -MD -c a.c";
        space.same(&grid, compiler, words);
        // One that takes the place of another from now on.
        space.write("shadowed.h", "#define SHADOWED 5\n");
        space.goes(
            &grid,
            "remote tree",
            compiler,
            "-g -DNAMED=\"named.h\" -I. -Ione -Itwo -c a.c",
        );
        fs::remove_file(space.folder.join("shadowed.h")).expect("a header");
        let edited =
            space.ran(&mut space.plain(compiler, "-g -DNAMED=\"named.h\" -Ione -Itwo -c a.c"));
        space.write("two/n.h", "#define NEXT 100\n");
        let words = "-g -DNAMED=\"named.h\" -Ione -Itwo -c a.c";
        space.goes(&grid, "remote tree", compiler, words);
        let again = space.ran(&mut space.plain(compiler, words));
        assert_ne!(edited.files, again.files, "an edit is seen");
        space.write("two/n.h", "#define NEXT 1\n");
    }
}

/// What would not be the same elsewhere goes as text, or stays for `-g`.
#[test]
fn what_can_not_be_the_same_there_goes_another_way() {
    let Some(grid) = grid("another way") else {
        return;
    };
    let space = Space::new(&[
        ("l.c", "#include \"link.h\"\nint x = REAL;\n"),
        ("real.h", "#define REAL 1\n"),
        ("f.c", "#include \"linked/h.h\"\nint x = H;\n"),
        ("folder/h.h", "#define H 1\n"),
        (
            "q.c",
            "#define NAME <stdio.h>\n#if __has_include(NAME)\nint x;\n#endif\n",
        ),
        (
            "o.c",
            "#include \"one/once.h\"\n#include \"two/once.h\"\nint x = ONCE;\n",
        ),
        ("one/once.h", "#pragma once\n#define ONCE 1\n"),
        ("two/once.h", "#pragma once\n#define ONCE 1\n"),
        ("t.c", "const char *t = __TIMESTAMP__;\n"),
        ("p.c", "#include \"p.h\"\nint x = P;\n"),
        ("p.h", "#define P 1\n"),
        // The file has two names, and one of them is a link.
        (
            "both.c",
            "#include \"link.h\"\n#include \"real.h\"\nint x = REAL;\n",
        ),
        // Not out of the link's own folder.
        ("up.c", "#include \"deep/../up.h\"\nint x = UP;\n"),
        ("up.h", "#define UP 1\n"),
        ("folder/inner/keep", ""),
        ("folder/up.h", "#define UP 2\n"),
    ]);
    symlink("real.h", space.folder.join("link.h")).expect("a link");
    symlink("folder", space.folder.join("linked")).expect("a link");
    symlink("folder/inner", space.folder.join("deep")).expect("a link");
    for compiler in ["gcc", "clang"] {
        for source in ["l.c", "f.c"] {
            let words = format!("-g -MD -Wall -c {source}");
            space.goes(&grid, "remote tree", compiler, &words);
        }
    }
    for (source, reason) in [
        ("both.c", "linked-header"),
        ("up.c", "linked-header"),
        ("q.c", "computed-question"),
        ("o.c", "double-header"),
        ("t.c", "time-macro"),
    ] {
        for compiler in ["gcc", "clang"] {
            space.goes(&grid, reason, compiler, &format!("-g -c {source}"));
            if source != "t.c" && source != "q.c" {
                let flat = "remote preprocessed";
                space.goes(&grid, flat, compiler, &format!("-O1 -c {source}"));
            }
        }
    }
    let made = run(&mut space.plain("gcc", "-g -c p.h -o p.h.gch"));
    assert!(made.ok(), "{}", made.words());
    space.goes(&grid, "pch", "gcc", "-g -c p.c");
}

/// Text that only looks as if it hung on the clock, on files that an assembler reads, on
/// headers that nobody can name or on another folder.
#[test]
fn what_only_looks_like_a_hazard_travels() {
    let Some(grid) = grid("no hazards") else {
        return;
    };
    let space = Space::new(&[
        (
            "time.c",
            "/* Built at __DATE__, __TIME__: DATE, TIME. */\n#ifdef _\n#undef _\n#endif\n\
             #define MODE(t) DATE_##t\n#define GLUE(a, b) a##b\n\
             enum { DATE_SHORT, TIME };\nint x = MODE(SHORT), GLUE(y, z), t = (TIME); // DATE, TIME\n",
        ),
        (
            "asm.c",
            "/* the asm of it: incbin, .include \"x\" */\nstruct s { int include_dirs; };\n\
             int f(struct s *s) { __asm__(\"nop\"); return s\n->include_dirs; }\n\
             struct s s = { .include_dirs = 1 };\nconst char *format = \"%d.%d\";\n",
        ),
        ("one/real.h", "#define REAL 1\n"),
        (
            "asks.c",
            "#define GLUE(F, H) F ## H\n#ifdef __has_include\n#define HAS(x) __has_include(x)\n#else\n#define HAS(x) 0\n#endif\n\
             #include <fcntl.h>\n\
             #if HAS(<fcntl.h>) && HAS(<stdio.h>) && HAS(\"one/real.h\")\n#include <stdio.h>\nint x;\n#endif\n",
        ),
        // What only the preprocessor can tell.
        (
            "unused.c",
            "#define BUILT \"at \" __TIME__\n#define J(a, b) a##b\n#ifdef NEVER\n\
             const char *d = J(__DA, TE__), *b = BUILT;\n#endif\nint x = J(1, 2);\n",
        ),
        (
            "made.c",
            "#define BIN \"bin\"\n#define S2(x) #x\n#define S(x) S2(x)\n\
             #define ALIAS(a, b) __asm__(\".globl \" S(a) \"\\n.set \" S(a) \",\" S(b))\n\
             const char *inc = \"inc\", *bin = BIN, *format = \"%d.%d\";\nint f(void) { return 1; }\n\
             ALIAS(g, f);\n",
        ),
        (
            "macros.c",
            "__asm__(\".macro twice a:req, b\\n.set .Lseen\\\\@, 1\\n.irp rs,1,2\\n.ifc \\\\b, \\\\rs\\n\\\\a:\\n\"\n\
             \"  .long \\\\b + 1\\n.endif\\n.endr\\n.endm\\n.data\\ntwice here, 2\\n.text\\n.purgem twice\");\n",
        ),
        ("two/inc/keep", ""),
        ("one/inc/keep", ""),
        ("one/b/h.h", "int v = 1;\n"),
        ("two/b/h.h", "int v = 2;\n"),
        (
            "named.c",
            "#if 0\n#include \"two/b/h.h\"\n#include NO(x)\n#endif\n#define STR(x) #x\n\
             #define INC(x) STR(x)\n#include INC(../b/h.h)\n",
        ),
        ("one/inc/x y.h", "int blank = 1;\n"),
        ("two/inc/x y.h", "int blank = 2;\n"),
        (
            "blank.c",
            "#if 0\n#include \"two/inc/x y.h\"\n#endif\n#define NAME <x  y.h>\n#include NAME\n",
        ),
        (
            "lock.c",
            "#include \"lock.h\"\nconst char *inc = \"inc\", *bin = \"bin\";\n\
             void f(int *x) { __asm__(LOCK\n\"incl %0\" : \"+m\"(*x)); }\n",
        ),
        (
            "lock.h",
            "#if SMP\n#define LOCK \"lock; \"\n#else\n#define LOCK\n#endif\n",
        ),
        ("one/real64.h", ""),
        (
            "other.c",
            "#define HAS(x) __has_include(x)\n#define real real64\n#define none2 real\n\
             int a = HAS_A, b = HAS_B;\n#if HAS(<real.h>)\nint c;\n#else\nint d;\n#endif\n\
             #if HAS(<none2.h>)\nint e;\n#endif\n#undef real\n#if HAS(<real.h>)\nint f;\n#endif\n\
             #if HAS(<linux.h>)\nint g;\n#endif\n",
        ),
        ("two/1.h", ""),
    ]);
    let sources = [
        "time", "asm", "asks", "unused", "made", "macros", "named", "other", "blank", "lock",
    ];
    for source in sources {
        for compiler in ["gcc", "clang"] {
            let folders = "-Ione/inc -Itwo/inc -Ione -Itwo";
            let words = format!("-g {folders} -DHAS_A=1 -DHAS_B -c {source}.c");
            space.goes(&grid, "remote tree", compiler, &words);
        }
    }
    for pwd in ["/", ".", "/nowhere"] {
        let words = "-g -c time.c";
        let plain = space.ran(space.plain("gcc", words).env("PWD", pwd));
        let away = space.ran(space.hgbuild(&grid, "gcc", words).env("PWD", pwd));
        let (plain, words) = ((&plain.outcome, &plain.files), (&away.outcome, &away.files));
        assert_eq!(compare(plain, words), [""; 0], "{pwd}");
        assert_eq!(away.events[0].form, "tree", "{pwd}: {:?}", away.events);
    }
}

/// The same, where it does: the object is the local one, which a worker can't make.
#[test]
fn what_is_a_hazard_stays_or_comes_back() {
    let Some(grid) = grid("hazards") else {
        return;
    };
    let space = Space::new(&[
        ("data", "0123456789"),
        ("whole.c", "__asm__(\".incbin \\\"data\\\"\");\n"),
        (
            "joined.c",
            "__asm__(\"\\t.InC\" /* c */ \"BiN \\\"data\\\"\");\n",
        ),
        (
            "pieces.c",
            "#define BIN \"bin\"\n__asm__(\".inc\" BIN \" \\\"data\\\"\");\n",
        ),
        (
            "prose.c",
            "#define S2(x) #x\n#define S(x) S2(x)\n#define F(k, t) k(t)\n\
             F(asm, \".inc\" S(bin) \" \\\"data\\\"\");\n",
        ),
        // The worker would have the second of that name alone.
        ("h.h", "first"),
        ("inc/h.h", "int second;\n"),
        (
            "first.c",
            "#include <h.h>\n#define S2(x) #x\n#define S(x) S2(x)\n\
             __asm__(\".section .rodata\\n.inc\" S(bin) \" \\\"h.h\\\"\\n.text\");\n",
        ),
        (
            "macros.c",
            "__asm__(\".data\\n.macro rd a, b\\n\\\\a\\\\b \\\"data\\\"\\n.endm\\nrd .inc, bin\\n.text\");\n",
        ),
        (
            "glue.c",
            "__asm__(\".data\\n.macro rd a, b, c\\n\\\\()\\\\a\\\\b\\\\c \\\"data\\\"\\n.endm\\nrd ., inc, bin\\n.text\");\n",
        ),
        (
            "operand.c",
            "extern int x __asm__(\".inc\");\nvoid f(void) { __asm__(\"%c0bin \\\"data\\\"\" : : \"i\"(&x)); }\n",
        ),
        (
            "wide.c",
            "#include <stddef.h>\n#define W_(x) L##x\n#define W(x) W_(x)\nconst wchar_t t[] = W(__DATE__);\n",
        ),
        (
            "three.c",
            "#define X(a, b, c) a##b##c\nconst char *t = X(__,DA,TE__);\n",
        ),
        (
            "target.c",
            "#pragma GCC target(\"avx2\")\n#ifdef __AVX2__\nconst char t[] = __DATE__;\n#endif\nint x;\n",
        ),
        (
            "builtin.c",
            "static double cbrt(int x) { return x; }\n#if !__has_builtin(cbrt)\nconst char t[] = __DATE__;\n#endif\n\
             double g(int z) { return cbrt(z); }\n",
        ),
        (
            "line.c",
            "#define STAMP __TIMESTAMP__\n#line 10 STAMP\nint f(int a) { return a; }\n",
        ),
        (
            "builtin_named.c",
            "static double cbrt(int x) { return x; }\n#define HAS_BUILTIN_CBRT __has_builtin(cbrt)\n\
             #if !HAS_BUILTIN_CBRT\nconst char t[] = __DATE__;\n#endif\ndouble g(int z) { return cbrt(z); }\n",
        ),
        (
            "letters.c",
            "#define X(a, b, c, d, e, f, g, h) a##b##c##d##e##f##g##h\nconst char t[] = X(_,_,D,A,T,E,_,_);\n",
        ),
        (
            "letters_asm.c",
            "#define Q(x) #x\n__asm__(\".data\\n.\" Q(i) Q(n) Q(c) Q(b) Q(i) Q(n) \" \\\"data\\\"\\n.text\\n\");\n",
        ),
        (
            "comment_asm.c",
            "#define LOCK \"\" /*\n*/ \"inc\"\n__asm__(\".data\\n.\" LOCK \"bin \\\"data\\\"\\n.text\\n\");\n",
        ),
        (
            "keyword.cc",
            "struct __is_pod {};\nextern const char t[];\n#if __is_identifier(__is_pod)\nconst char t[] = __DATE__;\n#endif\n",
        ),
        (
            "counter.c",
            "#define C __COUNTER__\n#pragma omp parallel C\n#if __COUNTER__ == 1\nint x;\n#else\n\
             const char t[] = __DATE__;\n#endif\n",
        ),
        ("inc/a b.h", ""),
        (
            "asks.c",
            "#define H __has_include(<a  b.h>)\n#if H\nint yes;\n#else\nint no;\n#endif\n",
        ),
        ("inc/fcntlx.h", ""),
        (
            "glued_name.c",
            "#define H __has_include(<fc##ntlx.h>)\n#if H\nint yes;\n#else\nint no;\n#endif\n",
        ),
        (
            "begun.c",
            "__asm__(\".data\\n.macro rd a\\n.inc\\\\a \\\"data\\\"\\n.endm\\nrd bin\\n.text\");\n",
        ),
        (
            "section.c",
            "#define BIN \"bin\"\n#define ODD \".data.x,\\\"aw\\\"\\n.inc\" BIN \" \\\"data\\\"\\n#\"\n\
             __asm__(\"nop\");\n__attribute__((section(ODD))) int v = 1;\n",
        ),
        (
            "comment.c",
            "#if !__has_include(<a/*b>)\nconst char *d = __DATE__; // */\n#endif\n",
        ),
        (
            "opened.c",
            "#define J(a, b) a##b\n#define OPEN J(\nconst char *d = OPEN __DA, TE__);\n",
        ),
        (
            "date.c",
            "#define J(a, b) a##b\nconst char *d = J(__DA, TE__);\n",
        ),
        (
            "glued.c",
            "#define U _\n#define J(a, b) a##b\n#define K(a, b) J(a, b)\n\
             const char *d = K(U, K(U, K(DATE, K(U, U))));\n",
        ),
    ]);
    for (source, reason) in [
        ("macros", "asm-file-directive"),
        ("begun", "asm-file-directive"),
        ("glue", "asm-file-directive"),
        ("operand", "asm-file-directive"),
        ("wide", "time-macro"),
        ("three", "time-macro"),
        ("target", "pragma-target"),
        ("builtin", "builtin-question"),
        ("line", "line-directive"),
        ("builtin_named", "builtin-question"),
        ("letters", "time-macro"),
        ("asks", "computed-question"),
        ("glued_name", "computed-question"),
        ("comment", "time-macro"),
        ("opened", "time-macro"),
        ("date", "time-macro"),
        ("glued", "time-macro"),
    ] {
        let words = format!("-O1 -g -w -Iinc -c {source}.c");
        space.goes(&grid, reason, "gcc", &words);
    }
    // Once macros are expanded the file is named plainly: it travels too.
    for source in [
        "whole",
        "joined",
        "pieces",
        "prose",
        "first",
        "letters_asm",
        "comment_asm",
        "section",
    ] {
        let words = format!("-O1 -g -w -Iinc -c {source}.c");
        space.goes(&grid, "remote tree", "gcc", &words);
    }
    for (compiler, source, reason) in [
        ("clang++", "keyword.cc", "builtin-question"),
        ("clang", "counter.c", "late-pragma"),
    ] {
        let words = format!("-O1 -g -w -c {source}");
        space.goes(&grid, reason, compiler, &words);
    }
}

/// A clock that stands still for SOURCE_DATE_EPOCH or by the command line, and files that are
/// embedded.
#[test]
fn frozen_clocks_and_embedded_files_travel() {
    let Some(grid) = grid("frozen") else {
        return;
    };
    let space = Space::new(&[
        ("t.c", "const char t[] = __DATE__ \" \" __TIME__;\n"),
        ("d.c", "const char d[] = __DATE__;\n"),
        ("s.c", "const char s[] = __TIMESTAMP__;\n"),
        (
            "sub/e.c",
            "const unsigned char e[] = {\n#embed \"data\" limit(4)\n};\n\
             const unsigned char g[] = {\n#embed \"here\"\n};\n",
        ),
        ("sub/data", "beside"),
        ("data", "not beside"),
        ("here", "in the working directory"),
        ("l.c", "#include \"linked/e.h\"\n"),
        (
            "real/e.h",
            "const unsigned char e[] = {\n#embed \"data\"\n};\n",
        ),
        ("real/data", "real"),
    ]);
    symlink("real", space.folder.join("linked")).expect("a link");
    let at = |epoch: &str, compiler: &str, words: &str| {
        let plain = space.ran(space.plain(compiler, words).env("SOURCE_DATE_EPOCH", epoch));
        let mut wrapped = space.hgbuild(&grid, compiler, words);
        let wrapped = space.ran(wrapped.env("SOURCE_DATE_EPOCH", epoch));
        let (one, other) = (&plain.files, &wrapped.files);
        let different = compare((&plain.outcome, one), (&wrapped.outcome, other));
        assert_eq!(different, [""; 0], "{compiler} {words}");
        let event = &wrapped.events[0];
        (format!("{} {}", event.place, event.reason), plain.files)
    };
    let (first, second) = (
        at("86400", "gcc", "-g -c t.c"),
        at("99", "gcc", "-g -c t.c"),
    );
    assert_eq!(
        (&first.0[..], &second.0[..]),
        ("remote remote", "remote remote")
    );
    assert_ne!(first.1, second.1);
    // Of the file, whatever the variable says.
    assert!(at("86400", "gcc", "-g -c s.c").0.contains("time-macro"));
    for compiler in ["gcc", "clang"] {
        let words = "-g -w -D__DATE__=\"x\" -c d.c";
        space.goes(&grid, "remote tree", compiler, words);
        let words = "-g -w -D__DATE__=__TIMESTAMP__ -c d.c";
        space.goes(&grid, "time-macro", compiler, words);
    }
    let newer = "clang-19";
    if in_path(newer).is_none() {
        skip("embedded files", "no clang-19");
        return;
    }
    // The older one has no such variable.
    assert!(at("86400", "clang", "-g -c d.c").0.contains("time-macro"));
    assert_eq!(at("86400", newer, "-g -c t.c").0, "remote remote");
    assert_eq!(at("86400", newer, "-g -c s.c").0, "remote remote");
    let words = "-g -std=c23 -c sub/e.c";
    space.goes(&grid, "remote tree", newer, words);
    // It looks in the real folder, by its real name.
    space.goes(&grid, "linked-header", newer, "-g -std=c23 -c l.c");
}

/// Assembler sources, and text that was preprocessed: with the files that an assembler reads,
/// where that can be told.
#[test]
fn assembler_and_preprocessed_text_travel_with_what_they_read() {
    let Some(grid) = grid("assembler") else {
        return;
    };
    let space = Space::new(&[
        ("data", "0123456789"),
        (
            "n.h",
            "#ifndef N\n#define N 3\n.macro twice a\n\t\\a\n\t\\a\n.endm\n#endif\n",
        ),
        (
            "all.S",
            "#include \"n.h\"\n/* .incbin and .include \"x\" of old */\n# don't: it isn't\n\
             .macro put size:req, value\n\t.\\size \\value\n.endm\n\
             .irp reg, ax, bx\n\tpush %r\\reg\n.endr\n\
             \t.text\nf:\ttwice nop\n\tmov $N, %eax\n\tret\n\
             \t.data\n\tput long, .-8\n\t.incbin \"data\", 2, 4\n\t.include \"more.inc\"\n",
        ),
        ("more.inc", "\t.ascii \"more\"\nhere: .incbin \"data\"\n"),
        (
            "plain.s",
            "# what this includes\n\t.text\nf:\tret\n\t.include \"last.inc\"\n",
        ),
        ("one/last.inc", "\t.byte 1\n"),
        ("two/keep", ""),
        ("two/n.h", ".byte 2\n"),
        (
            "n.i",
            "# 1 \"n.c\"\n# 1 \"/gone//\"\n# 1 \"n.h\" 1\nint f(int a) {\nif (a = 1) return 2;\nreturn 3; }\n",
        ),
        // What can't be told.
        (
            "pasted.S",
            ".macro rd a, b\n\t\\a\\b \"n.h\"\n.endm\n\t.data\n#define IN .inc\nrd IN, bin\n",
        ),
        (
            "first.s",
            "#include \"n.h\"\n.macro rd a\n\t.inc\\a \"n.h\"\n.endm\n\t.data\n\trd bin\n",
        ),
        ("sub/beside.s", "\t.data\n\t.incbin \"d\"\n"),
        ("sub/d", "beside"),
        ("d", "here"),
        ("either.s", "\t.data\n\t.incbin \"e\"\n"),
        ("one/e", "1"),
        ("two/e", "2"),
        (
            "late.i",
            "int x;\n__asm__(\".data\\n.macro rd a\\n.inc\\\\a \\\"data\\\"\\n.endm\\nrd bin\\n.text\");\n",
        ),
    ]);
    for compiler in ["gcc", "clang"] {
        for words in [
            "-g -MD -c all.S",
            "-c all.S -o two/all.o",
            "-Ione -Itwo -g -c plain.s",
            "-O2 -g -Wall -c n.i",
        ] {
            space.goes(&grid, "remote tree", compiler, words);
        }
        for words in [
            "-Itwo -c pasted.S",
            "-Itwo -c first.s",
            "-c sub/beside.s",
            "-Ione -Itwo -c either.s",
            "-c late.i",
        ] {
            space.goes(&grid, "asm-file-directive", compiler, words);
        }
    }
}

/// Sources that one of two readers takes otherwise: a dialect, a preprocessor that only
/// preprocesses, or the scan that looks for what a compile may read.
#[test]
fn what_may_be_read_otherwise_is_read_here() {
    let Some(grid) = grid("otherwise") else {
        return;
    };
    let has = "(\"x.h\")\nint yes;\n#else\nint no;\n#endif\n";
    let asks = |question: &str| format!("{question}{has}");
    let data = |text: &str| format!("#define B \"bin\"\n#if 0\n#include <data>\n#endif\n{text}\n");
    let glue = "#define CAT(a,b) a##b\n";
    let files = [
        ("x.h", "int here;\n".to_owned()),
        ("inc/x.h", "int there;\n".into()),
        ("data", "AAAA".into()),
        ("inc/data", "BBBB".into()),
        ("h.h", String::new()),
        ("b/a.h", "PRAGMA(once)\nX\n".into()),
        ("a.h", "PRAGMA(once)\nX\n".into()),
        ("tri.c", asks("// really??/\n#if __has_include")),
        ("nul.c", asks("// a\\\0\n#if __has_include")),
        ("tab.c", "\x0b#line 5 \"h.h\"\nint x;\n".into()),
        ("ident.c", data(&format!("{glue}#define S(...) S2(__VA_ARGS__)\n#define S2(...) #__VA_ARGS__\n\
            #ident S(A '\"; #' \\n.data\\n .CAT(inc,bin) \"data\" \\n #)"))),
        ("digraph.c", "#define D __DATE__\n%:line 5 D\nconst char *f(void) { return __builtin_FILE(); }\n".into()),
        ("lines.c", "#define Q \"h.h\"\n#line 1 Q\nint f(void) { int x; return x; }\n".into()),
        ("once.c", format!("#define PRAGMA(x) _Pragma(#x)\n{glue}#define CAT2(a,b) CAT(a,b)\n\
            #define X int CAT2(v,__COUNTER__);\n#include \"a.h\"\n#include \"b/a.h\"\n#include \"a.h\"\n")),
        ("given.c", data("#define AT(x,y) __attribute__((x(y)))\nAT(section, \"foo,\\\"aw\\\"\\n.inc\" B \" \\\"data\\\"\\n#\") int v = 1;")),
        ("below.c", data("__attribute__((section\n (\"foo,\\\"aw\\\"\\n.inc\" B \" \\\"data\\\"\\n#\"))) int v = 1;")),
        ("fentry.c", data("__attribute__((fentry_name(\"g\\n.inc\" B \" \\\"data\\\"\\n#\"))) void f(void) {}")),
        ("weakref.c", data(&format!("{glue}static int y(void) __attribute__((CAT(weak,ref)(\"g\\n.inc\" B \" \\\"data\\\"\\n#\")));\n\
            int z(void) {{ return y(); }}"))),
        ("_asm.c", data("_asm(\".inc\" B \" \\\"data\\\"\");")),
        ("has.c", asks(&format!("{glue}#if CAT(_,_has_include)"))),
        ("has_line.c", "#define HAS(x) __has_include(x)\n#line HAS(\"x.h\")\nint a[__LINE__+1];\n".into()),
        ("raw.cc", "#define IGN(a,b) b\n#if IGN(R\"(\n)\", __has_include(\"x.h\"))\nint a;\n#else\nint b;\n#endif\n".into()),
        ("builtin.c", "#define Has_Builtin(x) __has_builtin(x)\nunsigned long strlen(const char *);\n\
            #if Has_Builtin(strlen)\nint x;\n#else\nconst char *s = __DATE__;\n#endif\n".into()),
        ("count.c", format!("{glue}void g(int);\nvoid f(int n) {{\n#pragma unroll(CAT(__COU,NTER__)+2)\n\
            for(int i=0;i<n;i++) g(i);\n}}\n#if CAT(__COU,NTER__) == 1\nconst char *s = __DATE__;\n#endif\n")),
        ("frames.c", "#ifndef __GCC_HAVE_DWARF2_CFI_ASM\nconst char *s = __DATE__;\n#endif\n".into()),
        ("newer.c", "#define P2(x) _Pragma(#x)\n#define P(x) P2(x)\n#define G GCC\nP(G dependency \"h.h\")\n\
            #if 0\n#include \"h.h\"\n#endif\nint x;\n".into()),
        ("push.c", "#define STAMP __DATE__\n#pragma clang attribute push(__attribute__((section(STAMP))), apply_to = function)\n\
            void f(int n) { }\n#pragma clang attribute pop\n".into()),
        ("unroll.cc", "#define STAMP __DATE__\nvoid g(int);\nvoid f(int n) {\n#pragma unroll(STAMP[10]-'0'+1)\n\
            for(int i=0;i<n;i++) g(i);\n}\n".into()),
        (
            "made_target.c",
            "#define P2(x) _Pragma(#x)\n#define P(x) P2(x)\nP(GCC target(\"avx2\"))\n\
             #ifdef __AVX2__\nconst char t[] = __DATE__;\n#endif\nint x;\n"
                .into(),
        ),
        (
            "intrinsics.c",
            "#include <immintrin.h>\n#pragma optimize(\"\", off)\n#if 0\nconst char *d = __DATE__;\n\
             #endif\nint x(int target) { return target; }\n"
                .into(),
        ),
        (
            "blocks.c",
            "#ifdef _MSC_VER\n#define TO_INT(i, d) __asm fld d __asm fistp i\n#endif\n\
             const char inc[] = \".inc\", bin[] = \"bin\";\n"
                .into(),
        ),
        ("below_hash.c", "#define M \"x.h\"\n#if 0\n#include <x.h>\n#endif\n#include /*\n*/ M\n".into()),
        ("below_define.c", "#if 0\n#define M \"z.h\"\n#include <x.h>\n#endif\n#define /*\n*/ M \"x.h\"\n#include M\n".into()),
        ("begins.h", "#define A __h\n".into()),
        ("split.c", asks(&format!("{glue}#define CAT2(a,b) CAT(a,b)\n#include \"begins.h\"\n#if CAT2(A, as_include)"))),
        ("given_name.c", asks(&format!("{glue}#define CAT2(a,b) CAT(a,b)\n#if CAT2(A, as_include)"))),
        ("asker.h", "#define A_HAS_BUILTIN(x) __has_builtin(x)\n".into()),
        ("chain.c", "#include \"asker.h\"\n#define HB A_HAS_BUILTIN\nunsigned long strlen(const char *);\n\
            #if HB(strlen)\nint x;\n#else\nconst char *s = __DATE__;\n#endif\n".into()),
        ("given_chain.c", "#include \"asker.h\"\nunsigned long strlen(const char *);\n\
            #if HB(strlen)\nint x;\n#else\nconst char *s = __DATE__;\n#endif\n".into()),
        ("harmless_chain.c", "#define A_HAS_BUILTIN __has_builtin(__builtin_trap)\n#define HB A_HAS_BUILTIN\n\
            #if HB\nint x;\n#else\nconst char *s = __DATE__;\n#endif\n".into()),
        ("called.c", asks("#define Q __ha##s_include(\"x.h\")\n#if Q\nint q;\n#endif\n#if __ha##s_include")),
        ("bare.h", "#define U __\n".into()),
        ("bare.c", asks(&format!("{glue}#define CAT2(a,b) CAT(a,b)\n#include \"bare.h\"\n#if CAT2(U, has_include)"))),
        ("given_bare.c", asks(&format!("{glue}#define CAT2(a,b) CAT(a,b)\n#if CAT2(U, has_include)"))),
        ("slashes.c", asks("#define SECOND(a,b) b\n#if SECOND(//, __has_include(\"x.h\"))\nint s;\n#endif\n#if 0 && defined")),
        ("harmless_slashes.c", "int x = 1; // it's\n".into()),
        ("number.cc", "#define DROP(x)\nDROP(1.'0) int q = '/*'; const char *s = __DATE__; int w = '*/';\n".into()),
        ("glued_builtin.c", format!("{glue}unsigned long strlen(const char *);\n#if CAT(__has,_builtin)(strlen)\nint x;\n\
            #else\nconst char *s = __DATE__;\n#endif\n")),
        ("glibc.c", "#include <string.h>\n#define HB __glibc_has_builtin\n#if HB(strlen)\nint x;\n#else\n\
            const char *s = __DATE__;\n#endif\n".into()),
        ("asker_name.c", format!("{glue}#define HAS_BUILTIN(x) __has_builtin(x)\nunsigned long strlen(const char *);\n\
            #if CAT(HAS_,BUILTIN)(strlen)\nint x;\n#else\nconst char *s = __DATE__;\n#endif\n")),
        ("glued_text.c", format!("{glue}unsigned long strlen(const char *);\n#if CAT(__has_,builtin)(strlen)\nint x;\n\
            #else\nint y[7];\n#endif\n")),
        ("text.c", "#if 0\nint l[7]; const char *t = __DATE__;\n#endif\nunsigned long strlen(const char *);\n\
            #if __has_builtin(strlen)\nint x;\n#else\nint y[7];\n#endif\n".into()),
        ("harmless_trigraphs.c", "/* \"??/\" for \"\\\"\n??=include <gone.h>\n*/ int x; // ??=\n".into()),
        ("harmless_name.c", format!("{glue}#define F(h) ({{ int *__h = (h); g(__h); }})\nint g(int *);\n\
            int f(int *a) {{ return F(CAT(a,)); }}\n#if __has_include(\"x.h\")\nint x;\n#endif\n")),
        ("harmless.c", "// what??!\n#ident \"$Id$\"\nint printf(const char *, ...);\nint f(int section, int alias) {\n\
            return printf(\"%:z??\") + (section, alias);\n}\n".into()),
    ];
    let files: Vec<_> = files
        .iter()
        .map(|(name, text)| (*name, &text[..]))
        .collect();
    let space = Space::new(&files);
    for (went, compiler, words) in [
        ("odd-spelling", "gcc", "tri.c"),
        ("odd-spelling", "clang", "tri.c"),
        ("odd-spelling", "clang", "nul.c"),
        ("odd-spelling", "gcc", "tab.c"),
        ("odd-spelling", "gcc", "ident.c -Iinc"),
        ("odd-spelling", "clang", "digraph.c"),
        ("line-directive", "gcc", "lines.c -Wall"),
        ("double-header", "gcc", "once.c"),
        ("remote tree", "gcc", "given.c -Iinc"),
        ("remote tree", "gcc", "below.c -Iinc"),
        ("remote tree", "gcc", "fentry.c -Iinc -pg -mfentry"),
        ("remote tree", "gcc", "weakref.c -Iinc"),
        ("remote tree", "clang", "_asm.c -Iinc -fms-extensions"),
        ("computed-question", "gcc", "has.c"),
        ("computed-question", "clang", "has.c"),
        ("computed-question", "gcc", "split.c"),
        ("computed-question", "clang", "split.c"),
        ("computed-question", "gcc", "given_name.c -DA=__h"),
        ("builtin-question", "gcc", "chain.c"),
        (
            "builtin-question",
            "gcc",
            "given_chain.c -DHB=A_HAS_BUILTIN",
        ),
        ("computed-question", "gcc", "called.c"),
        ("computed-question", "clang", "called.c"),
        ("computed-question", "gcc", "bare.c"),
        ("computed-question", "gcc", "given_bare.c -DU=__"),
        ("odd-spelling", "gcc", "slashes.c -std=gnu11 -std=c89"),
        ("odd-spelling", "gcc", "slashes.c -std=gnu11 -ansi"),
        ("time-macro", "g++", "number.cc"),
        ("time-macro", "clang++", "number.cc"),
        ("computed-question", "gcc", "glued_builtin.c"),
        ("builtin-question", "gcc", "glibc.c"),
        ("builtin-question", "gcc", "asker_name.c"),
        ("builtin-question", "gcc", "text.c"),
        ("remote tree", "gcc", "harmless_chain.c"),
        ("remote tree", "gcc", "harmless_trigraphs.c -std=c99 -Wall"),
        ("remote tree", "clang", "harmless_trigraphs.c -std=c99"),
        ("remote tree", "clang", "harmless_trigraphs.c -Wall"),
        ("remote tree", "gcc", "harmless_name.c"),
        ("line-directive", "gcc", "has_line.c"),
        ("computed-question", "clang++", "raw.cc"),
        ("builtin-question", "gcc", "builtin.c"),
        ("late-pragma", "clang", "count.c -Wno-unknown-pragmas"),
        (
            "time-macro",
            "gcc",
            "frames.c -g3 -g0 -fno-asynchronous-unwind-tables",
        ),
        ("pragma-dependency", "gcc", "newer.c"),
        ("late-pragma", "clang", "push.c"),
        ("late-pragma", "clang++", "unroll.cc"),
        ("remote tree", "gcc", "below_hash.c -Iinc"),
        ("remote tree", "clang", "below_hash.c -Iinc"),
        ("remote tree", "gcc", "below_define.c -Iinc"),
        ("pragma-target", "gcc", "made_target.c"),
        ("remote tree", "gcc", "intrinsics.c"),
        ("remote tree", "gcc", "blocks.c"),
        ("remote tree", "clang", "blocks.c"),
        (
            "remote tree",
            "clang",
            "blocks.c --target=x86_64-pc-linux-gnu",
        ),
        ("remote tree", "gcc", "blocks.c -fms-extensions"),
        (
            "remote tree",
            "gcc",
            "harmless_slashes.c -std=c89 -std=gnu11",
        ),
        ("remote tree", "clang", "harmless_slashes.c -ansi -std=c99"),
        ("remote tree", "gcc", "harmless.c"),
        ("remote tree", "clang", "harmless.c"),
    ] {
        space.goes(&grid, went, compiler, &format!("-g -c {words}"));
    }
    // Where the text alone could go out too.
    space.goes(&grid, "builtin-question", "gcc", "-c text.c");
    space.goes(&grid, "computed-question", "gcc", "-c glued_text.c");
}

/// No worker of the grid takes the tree form.
#[test]
fn a_grid_without_it_takes_the_text() {
    let mut grid = Grid::start(programs(), 0, 2);
    let address = grid.address();
    let mut bare = worker(programs(), grid.folder(), "bare", &address, 2);
    let log = grid.folder().join("bare.log");
    bare.args(["--sandbox", "off"]);
    grid.workers.push(Daemon::start("bare", &mut bare, log));
    grid.wait_for_workers(1);
    until(&grid.coordinator, "toolchains", || {
        let list = grid.get("/api/v1/workers").ok()?;
        list.contains("\"digest\"").then_some(())
    });
    let space = project();
    for compiler in ["gcc", "clang"] {
        // The second time, the note of the first is there.
        for _ in 0..2 {
            let flat = "remote preprocessed";
            space.goes(&grid, flat, compiler, "-O2 -Ibuild -MD -c src/main.c");
            space.goes(&grid, "no-worker", compiler, "-g -Ibuild -c src/main.c");
        }
    }
    // What gcc reads otherwise where it only preprocesses.
    for (name, text) in [
        (
            "blank.c",
            "// foo\\ \n#define B 1\n#ifdef B\nint b;\n#endif\n",
        ),
        (
            "feed.c",
            "// foo\\\x0c\n#define B 1\n#ifdef B\nint b;\n#endif\n",
        ),
        (
            "digraph.c",
            "%:if __has_include(\"src/main.c\")\nint a;\n%:endif\n",
        ),
        (
            "slashes.c",
            "int a = 4 //**/ 2 /*\n;\n#define B 1\n*/ ;\n#ifdef B\nint b;\n#endif\n",
        ),
        (
            "pasted.c",
            "#define CAT(a,b) a##b\n#define P2(x) _Pragma(#x)\n#define P(x) P2(x)\n#define G GCC\n\
             P(G CAT(tar,get)(\"avx2\"))\n#ifdef __AVX2__\nint b;\n#endif\n",
        ),
        (
            "counted.c",
            "#define CAT(a,b) a##b\n#if CAT(__COU,NTER__) == 0\nint x[__COUNTER__+1];\n#endif\n",
        ),
    ] {
        space.write(name, text);
        let reason = match name {
            "pasted.c" => "pragma-target",
            "counted.c" => "counter-in-condition",
            _ => "odd-spelling",
        };
        let compiler = if name == "counted.c" { "clang" } else { "gcc" };
        let standard = if name == "slashes.c" { " -std=c90" } else { "" };
        space.goes(&grid, reason, compiler, &format!("-c {name}{standard}"));
    }
}

/// A header that somebody writes into all the time: every object is made of one
/// state of it or the other, and the cache never says otherwise.
#[test]
fn a_header_that_changes_meanwhile() {
    let Some(grid) = grid("changes") else {
        return;
    };
    let space = Space::new(&[
        (
            "a.c",
            "#include \"v.h\"\n#include \"v.h\"\nint x = VALUE;\n",
        ),
        ("v.h", "#undef VALUE\n#define VALUE 1\n"),
    ]);
    let words = "-g -c a.c";
    let mut states = Vec::new();
    for value in ["1", "2"] {
        space.write("v.h", &format!("#undef VALUE\n#define VALUE {value}\n"));
        states.push(space.ran(&mut space.plain("gcc", words)).files);
    }
    assert_ne!(states[0], states[1]);
    let header = space.folder.join("v.h");
    let at = "#undef VALUE\n#define VALUE ".len() as u64;
    let compiled = || {
        let mut command = space.hgbuild(&grid, "gcc", words);
        command
            .env("HG_CACHE_MAX_SIZE", "10MiB")
            .env("HG_CACHE_DIR", space.home().join("cache"));
        let outcome = run(&mut command);
        assert!(outcome.ok(), "{}", outcome.words());
        let object = space.folder.join("a.o");
        let mut made = snapshot(&space.folder).expect("the folder");
        made.retain(|name, _| name == Path::new("a.o"));
        fs::remove_file(object).expect("an object");
        made
    };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let file = File::options()
                .write(true)
                .open(&header)
                .expect("the header");
            let mut value = 1;
            while !done.load(Ordering::Relaxed) {
                value = 3 - value;
                let digit = value.to_string();
                file.write_all_at(digit.as_bytes(), at).expect("an edit");
                std::thread::yield_now();
            }
        });
        for _ in 0..12 {
            assert!(states.contains(&compiled()), "neither of the two");
        }
        done.store(true, Ordering::Relaxed);
        writer.join().expect("the writer");
    });
    for (value, state) in ["1", "2", "1"].iter().zip([0, 1, 0]) {
        fs::write(&header, format!("#undef VALUE\n#define VALUE {value}\n")).expect("an edit");
        assert_eq!(compiled(), states[state], "{value}");
        assert_eq!(compiled(), states[state], "{value}, kept");
    }
    let events = event::read(&space.log());
    let places = |place: &str| events.iter().filter(|e| e.place == place).count();
    assert!(places("remote") > 0 && places("cache") > 0, "{events:?}");
}

/// Headers of the system are not read again, and sent all the same to a worker that
/// has not got them; whatever lies in the file costs nothing but time.
#[test]
fn headers_of_the_system_are_remembered() {
    let Some(first) = grid("remembered") else {
        return;
    };
    let space = project();
    for compiler in COMPILERS {
        let words = &format!("-g -Ibuild -c src/{} -o o.o", source(compiler));
        space.goes(&first, "remote tree", compiler, words);
        space.goes(&first, "remote tree", compiler, words);
    }
    let known = fs::read(space.memo()).expect("what is remembered");
    assert!(known.len() > 1000, "{}", known.len());
    let Some(other) = grid("remembered") else {
        return;
    };
    for compiler in COMPILERS {
        let words = &format!("-g -Ibuild -c src/{} -o o.o", source(compiler));
        let ran = space.ran(&mut space.hgbuild(&other, compiler, words));
        assert!(ran.outcome.ok(), "{}", ran.outcome.words());
        let plain = space.ran(&mut space.plain(compiler, words));
        assert_eq!(ran.files, plain.files);
        let event = &ran.events[0];
        let went = (&event.place[..], &event.form[..]);
        assert_eq!(went, ("remote", "tree"), "{event:?}");
        if compiler == COMPILERS[0] {
            assert!(event.bytes_up > 50_000, "{event:?}");
        }
    }
    // Nothing was left to learn.
    assert!(fs::read(space.memo()).expect("the same") == known);
    let step = known.len() / 12;
    for (at, byte) in known.iter().enumerate().skip(20).step_by(step) {
        let mut damaged = known.clone();
        damaged[at] = !byte;
        fs::write(space.memo(), &damaged).expect("damage");
        let words = "-g -Ibuild -c src/main.c -o o.o";
        space.goes(&first, "remote tree", "gcc", words);
        damaged.truncate(at);
        fs::write(space.memo(), &damaged).expect("damage");
        space.goes(&first, "remote tree", "gcc", words);
    }
}

/// A header that is the system's to us is written in its place, as long as it was and
/// with its old time, also while a worker waits for it; and one that was looked for in
/// vain appears.
#[test]
fn a_header_of_the_system_that_changes() {
    let tools = ["unshare", "mount", "touch", "cmp", "sed"];
    if !tools.iter().all(|tool| in_path(tool).is_some()) {
        skip(
            "a header of the system",
            "no unshare, mount, touch, cmp or sed",
        );
        return;
    }
    let Some(grid) = grid("system") else {
        return;
    };
    let space = Space::new(&[
        (
            "a.c",
            "#include <lua.h>\n#include <lauxlib.h>\nint x = LUA_MINSTACK + LUA_NOREF;\n",
        ),
        ("upper/keep", ""),
        ("work/keep", ""),
    ]);
    let lua = match LUA.sources() {
        Ok(lua) => lua,
        Err(why) => return skip("a header of the system", &why),
    };
    // Younger ones are not remembered.
    until(&grid.coordinator, "headers a minute old", || {
        let changed = fs::metadata(lua.join("lua.h")).ok()?.ctime();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        (now.as_secs().cast_signed() > changed + 62).then_some(())
    });
    let mount = &format!(
        "rm -f work/keep; mount -t overlay overlay \
        -o lowerdir={}:/usr/include,upperdir=upper,workdir=work /usr/include",
        lua.display()
    );
    let unshare = ["-m", "-rm"].into_iter().find(|flags| {
        let mut command = scrubbed("unshare", &space.folder, space.home());
        run(command.args([flags, "sh", "-c", mount])).ok()
    });
    let Some(unshare) = unshare else {
        skip("a header of the system", "no overlay can be mounted here");
        return;
    };
    let text = format!(
        "{mount} || exit 99
        both() {{
            gcc -g -c a.c -o plain.o || exit 98
            for round in 1 2; do
                \"$HG\" gcc -g -c a.c -o a.o || exit 97
                cmp plain.o a.o || exit 96
            done
        }}
        system=/usr/include/lua.h
        both
        cp -p $system one.h
        sed '/LUA_MINSTACK/s/20/21/' one.h >$system
        cmp -s one.h $system && exit 95
        touch -r one.h $system
        both
        printf '#include <hg_test.h>\n' >>$system
        printf '#undef LUA_MINSTACK\n#define LUA_MINSTACK 3\n' >/usr/include/hg_test.h
        both
        mount -t tmpfs tmpfs /usr/local/include || exit 94
        both
        printf '#undef LUA_MINSTACK\n#define LUA_MINSTACK 4\n' >/usr/local/include/hg_test.h
        both
        system=/usr/include/lauxlib.h
        cp -p $system two.h
        (until test -e asked; do :; done
            sed 's/(-2)/(-3)/' two.h >$system; touch -r two.h $system; : >changed) &
        HG_FALLBACK=0 HG_INSECURE=1 HG_COORDINATOR=\"$WAITS\" \"$HG\" gcc -g -c a.c -o a.o || exit 93
        gcc -g -c a.c -o plain.o; cmp plain.o a.o || exit 92
        both"
    );
    let folder = space.folder.clone();
    let waits = Listener::start(move |mut ear| {
        let task = answer(&mut ear)?;
        say(&mut ear, accepted())?;
        say(&mut ear, started(1, "late"))?;
        fs::write(folder.join("asked"), "")?;
        while !folder.join("changed").exists() {
            std::thread::yield_now();
        }
        let digests = task.inputs.into_iter().map(|input| input.digest);
        let needed = v1::InputsNeeded {
            attempt: 1,
            digests: digests.collect(),
        };
        say(&mut ear, Kind::Need(needed))?;
        io::copy(&mut ear, &mut io::sink()).map(drop)
    });
    let mut command = scrubbed("unshare", &space.folder, space.home());
    grid.lead(&mut command)
        .args([unshare, "sh", "-c", &text])
        .env("HG", &programs().client)
        .env("WAITS", &waits.address)
        .env("LC_ALL", "C")
        .env("HG_LOCAL_SLOTS", "0")
        .env("HG_EVENT_LOG", space.log());
    let outcome = run(&mut command);
    assert!(outcome.ok(), "{}", outcome.words());
    let events = event::read(&space.log());
    let why = "input-changed: /usr/include/lauxlib.h: it was written meanwhile";
    let (other, trees): (Vec<_>, Vec<_>) = events.iter().partition(|e| e.reason == why);
    let trees = trees.iter().filter(|event| event.form == "tree").count();
    assert_eq!(
        (trees, other.len(), events.len()),
        (12, 1, 13),
        "{events:?}"
    );
}
