//! What preprocessed text loses: gcc's `-E -fdirectives-only` leaves some pragmas out,
//! and to clang a text is one file, where some of what it says is said of files. What has
//! such is not sent preprocessed; as a tree it travels.

use std::fs;

use hg_tests::command::{run, scrubbed};
use hg_tests::event::{self, Event};
use hg_tests::grid::Grid;
use hg_tests::programs::programs;
use hg_tests::{in_path, raw_tree, skip};

/// Name, options, source; without its pragma it gives another object.
type Case = (&'static str, &'static [&'static str], &'static str);
const CASES: [Case; 3] = [
    (
        "redefine_extname",
        &[],
        "#pragma redefine_extname foo bar\nint foo(void);\nint f(void) { return foo(); }\n",
    ),
    (
        "omp",
        &["-fopenmp"],
        "int sum(int *a, int n) {\nint s = 0;\n#pragma omp parallel for reduction(+:s)\n\
         for (int i = 0; i < n; i++) s += a[i];\nreturn s;\n}\n",
    ),
    (
        "pop_macro",
        &[],
        "int take(int x);\n#define take(x) (x + 1)\n#pragma push_macro(\"take\")\n\
         #undef take\nint take(int x);\n#pragma pop_macro(\"take\")\n\
         int g(void) { return take(1); }\n",
    ),
];

#[test]
fn what_gcc_leaves_out_is_compiled_here() {
    let grid = Grid::start(programs(), 1, 1);
    for case in CASES {
        // A search path of the environment's: it has no tree form.
        let last = compiled(&grid, case, &[("CPATH", "")]);
        assert_eq!(last.reason, format!("lost-pragma: {}", case.0));
    }
}

#[test]
fn a_tree_travels_with_its_pragmas() {
    let Some(grid) = raw_tree::grid("pragmas in trees") else {
        return;
    };
    for case in CASES {
        let last = compiled(&grid, case, &[]);
        assert_eq!((&*last.place, &*last.form), ("remote", "tree"), "{last:?}");
    }
}

/// What hgbuild says of a case, whose object is the local compiler's.
fn compiled(grid: &Grid, case: Case, environment: &[(&str, &str)]) -> Event {
    let (name, options, source) = case;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let home = folder.path();
    let log = home.join("events.jsonl");
    fs::write(home.join("a.c"), source).expect("a.c");
    let mut gcc = scrubbed("gcc", home, home);
    let plain = run(gcc
        .args(options)
        .args(["-O2", "-c", "a.c", "-o", "plain.o"]));
    let mut hgbuild = scrubbed(&programs().client, home, home);
    hgbuild
        .env("HG_COORDINATOR", grid.address())
        .env("HG_LOCAL_SLOTS", "0")
        .env("HG_EVENT_LOG", &log)
        .envs(environment.iter().copied());
    let args = ["-O2", "-c", "a.c", "-o", "there.o"];
    let wrapped = run(hgbuild.arg("gcc").args(options).args(args));
    assert_eq!(plain, wrapped, "{name}");
    let [one, other] = ["plain.o", "there.o"].map(|o| fs::read(home.join(o)).expect(o));
    assert!(one == other, "{name}: the object differs");
    event::read(&log).pop().expect("an event")
}

/// Compilers of one family, by name; those of them that are here are asked.
const CLANG: &[&str] = &["clang", "clang-19"];
const GCC: &[&str] = &["gcc"];

/// A compile whose words or lines depend on which file something stands in.
struct Filed {
    compilers: &'static [&'static str],
    options: &'static str,
    /// The first is the source.
    files: &'static [(&'static str, &'static str)],
    /// Where the compile runs, with a reason for `local`.
    expect: &'static str,
}

const fn filed(
    compilers: &'static [&'static str],
    options: &'static str,
    expect: &'static str,
    files: &'static [(&'static str, &'static str)],
) -> Filed {
    Filed {
        compilers,
        options,
        files,
        expect,
    }
}

const USES: &str = "#include \"h.h\"\nstruct s { char a; int b; };\nint x = sizeof(struct s);\n";
const FILED: &[Filed] = &[
    filed(
        CLANG,
        "-Werror",
        "pragma-pack",
        &[("a.c", USES), ("h.h", "#pragma pack(1)\n")],
    ),
    filed(
        CLANG,
        "",
        "pragma-pack",
        &[("a.c", USES), ("h.h", "#pragma pack(push, 1)\n")],
    ),
    filed(
        CLANG,
        "-Werror",
        "pragma-pack",
        &[("a.c", USES), ("h.h", "#pragma options align=packed\n")],
    ),
    filed(
        CLANG,
        "",
        "pragma-pack",
        &[
            ("a.c", USES),
            ("h.h", "#define P _Pragma(\"pack(1)\")\nP\n"),
        ],
    ),
    filed(
        CLANG,
        "-Werror",
        "pragma-pack",
        &[
            (
                "a.c",
                "#pragma pack(1)\n#include \"h.h\"\nstruct s { char a; int b; };\n",
            ),
            ("h.h", "#pragma pack()\nint y;\n"),
        ],
    ),
    filed(
        CLANG,
        "-Wpragma-pack",
        "pragma-pack",
        &[
            (
                "a.c",
                "#pragma pack(push, 1)\n#include \"h.h\"\n#pragma pack(pop)\n",
            ),
            ("h.h", "struct s { char a; int b; };\n"),
        ],
    ),
    filed(
        CLANG,
        "-Wall -Werror",
        "remote",
        &[
            ("a.c", USES),
            (
                "h.h",
                "#ifdef X\n#pragma pack(push, 1)\n#endif\nint y;\n#ifdef X\n#pragma pack(pop)\n#endif\n",
            ),
        ],
    ),
    filed(
        CLANG,
        "-Wno-pragma-pack",
        "remote",
        &[("a.c", USES), ("h.h", "#pragma pack(1)\n")],
    ),
    filed(
        CLANG,
        "-Werror",
        "nullability",
        &[
            ("a.c", "#include \"h.h\"\n"),
            ("h.h", "void f(int *_Nonnull a, int *b);\n"),
        ],
    ),
    filed(
        CLANG,
        "-DNN=_Nullable",
        "nullability",
        &[
            ("a.c", "#include \"h.h\"\n"),
            ("h.h", "void f(int * NN a, int *b);\n"),
        ],
    ),
    filed(
        CLANG,
        "",
        "mixed-newlines",
        &[
            ("a.c", "#include \"h.h\"\nint x;\r\n\nint y = __LINE__;\n"),
            ("h.h", "extern int z;\n"),
        ],
    ),
    filed(
        CLANG,
        "",
        "mixed-newlines",
        &[
            ("a.c", "#include \"h.h\"\n"),
            (
                "h.h",
                "\r\nint x;\n\n#include <limits.h>\nint y = __LINE__;\n",
            ),
        ],
    ),
    filed(
        CLANG,
        "",
        "remote",
        &[
            ("a.c", "#include \"h.h\"\nint x = __LINE__;\n"),
            ("h.h", "\r\nextern int y;\r\n"),
        ],
    ),
    filed(
        CLANG,
        "-Wunused-macros",
        "remote-diagnostics",
        &[("a.c", "#define A 1\n#if A\nint x;\n#endif\n")],
    ),
    filed(
        CLANG,
        "-pedantic -Wgnu -Werror",
        "remote",
        &[
            ("a.c", "#include \"h.h\"\nint x = H;\n"),
            ("h.h", "#define H 2\n"),
        ],
    ),
    filed(
        CLANG,
        "-Weverything",
        "remote",
        &[
            ("a.c", "#include \"h.h\"\nint x = H;\n"),
            ("h.h", "extern int x;\n#define H 2\n"),
        ],
    ),
    filed(
        &["clang-19"],
        "",
        "remote-diagnostics",
        &[
            (
                "a.c",
                "#pragma clang diagnostic warning \"-Wgnu\"\n#include \"h.h\"\nint x = H;\n",
            ),
            ("h.h", "#define H 2\n"),
        ],
    ),
    filed(
        GCC,
        "-Wextra -Werror",
        "fall-through",
        &[(
            "a.c",
            "int f(int a) {\nswitch (a) {\ncase 1: a++; /* Falls through. */\n#if 1\ncase 2: a++;\n\
             #endif\n}\nreturn a;\n}\n",
        )],
    ),
    filed(
        GCC,
        "-Wextra -Werror",
        "remote",
        &[(
            "a.c",
            "int f(int a) {\nswitch (a) {\n#if 1\ncase 1: a++; /* Falls through. */\ncase 2: a++;\n\
             #endif\n}\nreturn a;\n}\n",
        )],
    ),
    filed(
        GCC,
        "-Wimplicit-fallthrough=1 -Werror",
        "fall-through",
        &[(
            "a.c",
            "int f(int a) {\nswitch (a) {\ncase 1: a++; /* So on. */\n#if 1\ncase 2: a++;\n\
             #endif\n}\nreturn a;\n}\n",
        )],
    ),
    filed(
        GCC,
        "-Wimplicit-fallthrough=0 -Wimplicit-fallthrough=3 -Werror",
        "fall-through",
        &[(
            "a.c",
            "int f(int a) {\nswitch (a) {\ncase 1: a++; // fall through - see /* x */\n#if 1\n\
             case 2: a++;\n#endif\n}\nreturn a;\n}\n",
        )],
    ),
    filed(
        GCC,
        "-Wextra -Wimplicit-fallthrough=5",
        "remote",
        &[("a.c", "/* fall through */\n#if 1\nint x;\n#endif\n")],
    ),
    filed(
        GCC,
        "-Wextra",
        "remote",
        &[(
            "a.c",
            "/* FALLTHROUGH declares that it is no mistake. */\n#if 1\nint x;\n#endif\n",
        )],
    ),
    filed(
        CLANG,
        "",
        "remote",
        &[(
            "a.c",
            "#define J(a, b) a##b\n#define M1(x) _Pragma(#x)\n#define M(x) M1(GCC warning x)\n\
             int J(p, q), pack, options;\n",
        )],
    ),
    filed(
        CLANG,
        "-Werror",
        "pragma-pack",
        &[
            (
                "a.c",
                "#define D(x) _Pragma(#x)\n#define E(x) D(x)\n#include \"h.h\"\nint x;\n",
            ),
            ("h.h", "E(pack(1))\n"),
        ],
    ),
];

#[test]
fn what_is_said_of_files_is_said() {
    let grid = Grid::start(programs(), 1, 1);
    for case in FILED {
        for compiler in case.compilers {
            if in_path(compiler).is_none() {
                skip("words about files", compiler);
                continue;
            }
            let last = compiled_as_text(&grid, compiler, case);
            let title = format!("{compiler} {} {:?}", case.options, case.files);
            let went = match &*last.place {
                "remote" => "remote",
                _ => last.reason.split(':').next().unwrap_or_default(),
            };
            assert_eq!(went, case.expect, "{title}: {last:?}");
        }
    }
}

/// What hgbuild says of a case in a grid that gets texts, whose words, exit code and object
/// are the local compiler's.
fn compiled_as_text(grid: &Grid, compiler: &str, case: &Filed) -> Event {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let home = folder.path();
    let log = home.join("events.jsonl");
    for (name, text) in case.files {
        fs::write(home.join(name), text).expect("a file");
    }
    let object = home.join("a.o");
    let run_and_read = |command: &mut std::process::Command| {
        let options = case.options.split_whitespace();
        // A search path of the environment's: it has no tree form.
        let command = command.args(options).args(["-c", "a.c"]).env("CPATH", "");
        let outcome = run(command);
        let made = fs::read(&object).ok();
        let _ = fs::remove_file(&object);
        (outcome, made)
    };
    let plain = run_and_read(&mut scrubbed(compiler, home, home));
    let mut hgbuild = scrubbed(&programs().client, home, home);
    hgbuild
        .env("HG_COORDINATOR", grid.address())
        .env("HG_LOCAL_SLOTS", "0")
        .env("HG_EVENT_LOG", &log)
        .arg(compiler);
    let wrapped = run_and_read(&mut hgbuild);
    let title = format!("{compiler} {} {:?}", case.options, case.files);
    assert_eq!(plain.0.words(), wrapped.0.words(), "{title}");
    assert!(plain.1 == wrapped.1, "{title}: the object differs");
    event::read(&log).pop().expect("an event")
}
