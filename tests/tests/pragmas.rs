//! gcc's `-E -fdirectives-only` leaves some pragmas out. What has one is not
//! sent preprocessed; as a tree it travels with its pragmas.

use std::fs;

use hg_tests::command::{run, scrubbed};
use hg_tests::event::{self, Event};
use hg_tests::grid::Grid;
use hg_tests::programs::programs;
use hg_tests::raw_tree;

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
