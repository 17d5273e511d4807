//! Sources of sizes that nobody plans for: right, wherever they are compiled.

use std::fmt::Write;

use hg_tests::command::run_within;
use hg_tests::grid::Grid;
use hg_tests::programs::programs;
use hg_tests::project::Project;
use hg_tests::running::PATIENCE;

fn same_everywhere(what: &str, source: &str) {
    let grid = Grid::start(programs(), 2, 1);
    let project = Project::new();
    project.add("large.c", source);
    // The plain one first: two such compilers at once take much memory.
    let plain = run_within(&mut project.plain_make(&[]), PATIENCE);
    let wrapped = run_within(
        &mut project.hgbuild_make(&grid.address(), &["-j1"]),
        PATIENCE,
    );
    assert!(plain.ok(), "{what}: {}", plain.words());
    project.assert_same_as(what, &plain, wrapped);
    eprintln!("{what}: {}", project.told());
}

#[test]
fn a_source_of_100_mb() {
    let mut source = String::with_capacity(100 << 20);
    while source.len() < 100_000_000 {
        let at = source.len();
        // Comments, so that it is the reading that counts.
        let _ = writeln!(source, "/* {at:9} {} */", "some words to read ".repeat(50));
    }
    same_everywhere("100 MB", &(source + "int f(int x) { return x + 1; }\n"));
}

#[test]
fn a_line_of_50_mb() {
    let words = "words ".repeat(50_000_000 / 6);
    let source = format!("int f(int x) {{ /* {words} */ return x + 1; }}\n");
    same_everywhere("a line of 50 MB", &source);
}

#[test]
fn a_token_of_10_mb() {
    let source = format!(
        "const char *const words = \"{}\";\n",
        "words".repeat(2_000_000)
    );
    same_everywhere("a string of 10 MB", &source);
}
