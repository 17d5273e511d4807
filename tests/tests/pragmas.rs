//! gcc's `-E -fdirectives-only` leaves some pragmas out. What has one is
//! compiled here, so that the object is the local compiler's.

use std::fs;

use hg_tests::command::{run, scrubbed};
use hg_tests::event;
use hg_tests::grid::Grid;
use hg_tests::programs::programs;

/// Name, options, source; without its pragma each gives another object.
const CASES: [(&str, &[&str], &str); 3] = [
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
    let folder = tempfile::tempdir().expect("a temporary folder");
    let home = folder.path();
    let grid = Grid::start(programs(), 1, 1);
    let log = home.join("events.jsonl");
    for (name, options, source) in CASES {
        fs::write(home.join("a.c"), source).expect("a.c");
        let mut gcc = scrubbed("gcc", home, home);
        let plain = run(gcc
            .args(options)
            .args(["-O2", "-c", "a.c", "-o", "plain.o"]));
        let mut hgbuild = scrubbed(&programs().client, home, home);
        hgbuild
            .env("HG_COORDINATOR", grid.address())
            .env("HG_LOCAL_SLOTS", "0")
            .env("HG_EVENT_LOG", &log);
        let args = ["-O2", "-c", "a.c", "-o", "there.o"];
        let wrapped = run(hgbuild.arg("gcc").args(options).args(args));
        assert_eq!(plain, wrapped, "{name}");
        let [one, other] = ["plain.o", "there.o"].map(|o| fs::read(home.join(o)).expect(o));
        assert!(one == other, "{name}: the object differs");
        let last = event::read(&log).pop().expect("an event");
        assert_eq!(last.reason, format!("lost-pragma: {name}"));
    }
}
