//! The line at the bottom of a terminal while a build runs: it is there, it disturbs
//! nothing, and it is gone afterwards.

use std::process::Command;

use hg_tests::command::{run, scrubbed};
use hg_tests::grid::Grid;
use hg_tests::programs::programs;
use hg_tests::project::{Project, slow};
use hg_tests::terminal::Terminal;
use hg_tests::{in_path, skip};

const ROWS: u16 = 12;
const COLUMNS: u16 = 100;
/// Ctrl-Z.
const STOP: &str = "\x1a";
/// How it begins.
const LINE: &str = "hgbuild: ";

fn is_line(row: Option<&String>) -> bool {
    row.is_some_and(|row| row.starts_with(LINE) && row.contains("; running: "))
}

/// Files that keep a compiler busy for longer than the line takes to come, and one that it
/// warns of.
fn project() -> Project {
    let project = Project::of(8);
    for number in 0..3 {
        project.add(&format!("s{number}.c"), &slow(number));
    }
    project.add("w.c", "int f(void) { int unused; return 0; }\n");
    project
}

/// What stands on the screen but for our own words, and for the order in which compilers end.
fn others(rows: &[String]) -> Vec<String> {
    let mut rows: Vec<String> = rows
        .iter()
        .filter(|row| !row.is_empty() && !row.starts_with(LINE))
        .cloned()
        .collect();
    rows.sort();
    rows
}

#[test]
fn it_is_there_while_a_build_runs_and_disturbs_nothing() {
    let grid = Grid::start(programs(), 1, 2);
    let project = project();
    let mut make = project.hgbuild_make(&grid.address(), &["-j2"]);
    let mut terminal = Terminal::run(&mut make, ROWS, COLUMNS);
    terminal.until("the line, with something on a worker", |rows| {
        let line = rows.last()?;
        (is_line(Some(line)) && !line.contains("running: 0 on workers")).then_some(())
    });
    let (status, rows) = terminal.finish();
    assert!(status.success(), "{rows:#?}");
    assert!(!rows.iter().any(|row| is_line(Some(row))), "{rows:#?}");
    let summary = |row: &String| row.starts_with("hgbuild: 12 compiled: ");
    assert!(rows.iter().any(summary), "{rows:#?}");
    let mut plain = project.plain_make(&["-j2"]);
    let (status, plain) = Terminal::run(&mut plain, ROWS, COLUMNS).finish();
    assert!(status.success(), "{plain:#?}");
    assert_eq!(others(&rows), others(&plain), "{rows:#?} {plain:#?}");
}

#[test]
fn a_screen_that_is_full_scrolls_above_it() {
    let grid = Grid::start(programs(), 1, 2);
    let project = project();
    let script = "for n in $(seq 30); do echo line $n; done; gcc -c s0.c; printf half; \
                  gcc -c s1.c; echo ' and half'";
    let mut command = project.hgbuild(&grid.address(), &["--", "sh", "-c", script]);
    let mut terminal = Terminal::run(&mut command, ROWS, COLUMNS);
    terminal.until("the line below half a line", |rows| {
        let above = rows.get(rows.len().checked_sub(2)?)?;
        (is_line(rows.last()) && above == "half").then_some(())
    });
    let (status, rows) = terminal.finish();
    assert!(status.success(), "{rows:#?}");
    let end = rows.iter().position(|row| row == "half and half");
    let end = end.unwrap_or_else(|| panic!("{rows:#?}"));
    assert_eq!(rows[end - 1], "line 30", "{rows:#?}");
    assert_eq!(rows[end - 2], "line 29", "{rows:#?}");
    assert!(!rows.iter().any(|row| is_line(Some(row))), "{rows:#?}");
}

#[test]
fn who_stops_the_build_gets_the_whole_screen() {
    if in_path("bash").is_none() {
        return skip("the status line and job control", "there is no bash");
    }
    let grid = Grid::start(programs(), 1, 2);
    let project = project();
    let script = "gcc -c s0.c; gcc -c s1.c; gcc -c s2.c; echo over";
    let hgbuild = project.hgbuild(&grid.address(), &["--", "sh", "-c", script]);
    let mut shell = scrubbed("bash", &project.there(), project.home());
    shell
        .args(["--norc", "--noprofile", "-i"])
        .env("PS1", "> ")
        .env("SCRIPT", script)
        .env("HGBUILD", &programs().client)
        .envs(
            hgbuild
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    let mut terminal = Terminal::run(&mut shell, ROWS, COLUMNS);
    let has_line = |rows: &[String]| is_line(rows.last()).then_some(());
    terminal.press("\"$HGBUILD\" -- sh -c \"$SCRIPT\"\n");
    terminal.until("the line", has_line);
    terminal.press(STOP);
    terminal.until("a prompt", |rows| {
        rows.iter().any(|row| row.contains("Stopped")).then_some(())
    });
    terminal.press("seq 1 40; echo end\n");
    terminal.until("a screen that scrolls as a whole", |rows| {
        let is_whole = rows[rows.len() - 2] == "end" && rows[rows.len() - 1] == ">";
        (is_whole && rows[0] == "31").then_some(())
    });
    terminal.press("fg\n");
    terminal.until("the line again", has_line);
    terminal.until("its end", |rows| {
        rows.iter().any(|row| row == "over").then_some(())
    });
    terminal.press("exit\n");
    let (_, rows) = terminal.finish();
    assert!(!rows.iter().any(|row| is_line(Some(row))), "{rows:#?}");
}

#[test]
fn where_nobody_could_see_it_or_wants_it_there_is_none() {
    let grid = Grid::start(programs(), 1, 2);
    let project = project();
    // What reads single keys has the screen to itself.
    let alone = "stty -icanon; gcc -c s0.c; gcc -c s1.c; stty icanon; echo over";
    let plain = "gcc -c s0.c; gcc -c s1.c; echo over";
    let cases: [(&str, &str, &str); 3] = [
        ("TERM", "dumb", plain),
        ("HG_STATUS_LINE", "0", plain),
        ("HG_STATUS_LINE", "1", alone),
    ];
    for (name, value, script) in cases {
        let mut command = Command::new("env");
        command.arg(format!("{name}={value}"));
        let hgbuild = project.hgbuild(&grid.address(), &["--", "sh", "-c", script]);
        command.arg(hgbuild.get_program()).args(hgbuild.get_args());
        command.envs(
            hgbuild
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        command.current_dir(project.there());
        let mut terminal = Terminal::run(&mut command, ROWS, COLUMNS);
        let mut seen = false;
        terminal.until("its end", |rows| {
            seen |= rows.iter().any(|row| is_line(Some(row)));
            rows.iter().any(|row| row == "over").then_some(())
        });
        let (status, rows) = terminal.finish();
        assert!(status.success() && !seen, "{name}={value}: {rows:#?}");
    }
}

/// Quick compiles before slow ones: some have ended when others run.
fn long_project() -> Project {
    let project = Project::of(QUICK);
    for number in 0..3 {
        project.add(&format!("s{number}.c"), &slow(number));
    }
    project
}
const QUICK: usize = 20;

/// Runs `build`, and sees how many compiles it has, and that an end is in sight.
fn total_is_told(mut build: Command, total: usize) {
    let mut terminal = Terminal::run(&mut build, ROWS, COLUMNS);
    let mut totals = Vec::new();
    terminal.until("the time left", |rows| {
        let line = rows.last()?.strip_prefix(LINE)?;
        let (_, total) = line.split_once(" compiled")?.0.split_once('/')?;
        totals.push(total.to_owned());
        line.contains(" compiled, ETA 0:").then_some(())
    });
    let (status, rows) = terminal.finish();
    assert!(status.success(), "{rows:#?}");
    totals.dedup();
    assert_eq!(totals, [total.to_string()]);
    let summary = format!("hgbuild: {total} compiled: ");
    assert!(
        rows.iter().any(|row| row.starts_with(&summary)),
        "{rows:#?}"
    );
}

#[test]
fn of_a_cmake_tree_it_says_how_much_is_to_come() {
    if in_path("cmake").is_none() {
        return skip("the end of a build of CMake's", "there is no cmake");
    }
    let grid = Grid::start(programs(), 1, 2);
    for (generator, tool) in [("Ninja", "ninja"), ("Unix Makefiles", "make")] {
        if in_path(tool).is_none() {
            skip(
                "the end of a build of CMake's",
                &format!("there is no {tool}"),
            );
            continue;
        }
        let project = long_project();
        // One target is not built, and one object is there already.
        let lists = "cmake_minimum_required(VERSION 3.10)\nproject(it C)\n\
            file(GLOB all f*.c)\nlist(REMOVE_ITEM all ${CMAKE_SOURCE_DIR}/f00.c)\n\
            add_library(first OBJECT f00.c)\n\
            add_library(it STATIC ${all})\nadd_subdirectory(sub)\n\
            add_library(not EXCLUDE_FROM_ALL ${all})\n";
        project.add("CMakeLists.txt", lists);
        let sub = project.there().join("sub");
        std::fs::create_dir(&sub).expect("a folder");
        let lists =
            "file(GLOB all ../s*.c)\nadd_library(slow STATIC ${all})\nadd_dependencies(slow it)\n";
        std::fs::write(sub.join("CMakeLists.txt"), lists).expect("room");
        let mut configure = scrubbed("cmake", &project.there(), project.home());
        let launcher = format!(
            "-DCMAKE_C_COMPILER_LAUNCHER={}",
            programs().client.display()
        );
        configure.args(["-S", ".", "-B", "out", "-G", generator, &launcher]);
        let outcome = run(&mut configure);
        assert!(outcome.ok(), "{}", outcome.words());
        let mut first = scrubbed("cmake", &project.there(), project.home());
        let outcome = run(first.args(["--build", "out", "--target", "first"]));
        assert!(outcome.ok(), "{}", outcome.words());
        let build = project.hgbuild(&grid.address(), &["cmake", "--build", "out", "-j2"]);
        total_is_told(build, QUICK - 1 + 3);
    }
}

#[test]
fn of_a_build_that_was_watched_it_says_how_much_is_to_come() {
    let grid = Grid::start(programs(), 1, 2);
    let project = long_project();
    let there = project.there().canonicalize().expect("a path");
    let names = (0..QUICK).map(|number| format!("f{number:02}"));
    let names = names.chain((0..3).map(|number| format!("s{number}")));
    let entries = names.map(|name| {
        format!(
            r#"{{"directory":"{}","file":"{name}.c","output":"{name}.o","arguments":["gcc"]}}"#,
            there.display()
        )
    });
    let entries: Vec<String> = entries.collect();
    let list = format!("[{}]", entries.join(",\n"));
    std::fs::write(there.join("compile_commands.json"), list).expect("room");
    total_is_told(project.hgbuild_make(&grid.address(), &["-j2"]), QUICK + 3);
}
