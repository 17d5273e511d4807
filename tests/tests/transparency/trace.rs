//! `hgbuild --trace FILE`: what a build's time went to, for programs that draw such.

use std::collections::BTreeMap;
use std::fs;

use hg_tests::grid::Grid;
use hg_tests::programs::programs;
use hg_tests::project::{Project, slow};
use hg_tests::running::Running;
use serde_json::Value;

/// A slice of a trace.
#[derive(Debug, Clone)]
struct Slice {
    name: String,
    lane: (u64, u64),
    from: u64,
    to: u64,
}

fn slices(trace: &Value) -> Vec<Slice> {
    let lines = trace["traceEvents"].as_array().expect("a list");
    let number = |line: &Value, key: &str| line[key].as_u64().expect("a number");
    let slices = lines.iter().filter(|line| line["ph"] == "X");
    slices
        .map(|line| Slice {
            name: line["name"].as_str().expect("a name").to_owned(),
            lane: (number(line, "pid"), number(line, "tid")),
            from: number(line, "ts"),
            to: number(line, "ts") + number(line, "dur"),
        })
        .collect()
}

/// The names of processes and lanes, by their numbers.
fn names(trace: &Value, kind: &str) -> BTreeMap<(u64, u64), String> {
    let lines = trace["traceEvents"].as_array().expect("a list");
    let named = lines.iter().filter(|line| line["name"] == kind);
    let name = |line: &Value| line["args"]["name"].as_str().unwrap_or_default().to_owned();
    let number = |line: &Value, key: &str| line[key].as_u64().unwrap_or_default();
    named
        .map(|line| ((number(line, "pid"), number(line, "tid")), name(line)))
        .collect()
}

#[test]
fn phases_fill_each_compile_and_workers_have_lanes_of_their_own() {
    let grid = Grid::start(programs(), 2, 1);
    let project = Project::of(4);
    project.add("s0.c", &slow(0));
    project.add("bad.c", "int f(void) { return nothing; }\n");
    let words = ["--trace", "trace.json", "make", "-k", "-j3"];
    let outcome = Running::start(&mut project.hgbuild(&grid.address(), &words)).finish();
    assert_eq!(outcome.code, Some(2), "{}", outcome.words());
    let text = fs::read(project.there().join("trace.json")).expect("a trace");
    let trace: Value = serde_json::from_slice(&text).expect("JSON");
    let slices = slices(&trace);
    let build = slices.iter().find(|one| one.name == "make -k -j3");
    let build = build.expect("the build");
    let compiles: Vec<&Slice> = slices
        .iter()
        .filter(|one| one.lane.0 == build.lane.0 && one.name.ends_with(".c"))
        .collect();
    assert_eq!(compiles.len(), 6, "{slices:#?}");
    for compile in &compiles {
        assert!(
            compile.from >= build.from && compile.to <= build.to,
            "{compile:?}"
        );
        let inside = |one: &&Slice| {
            one.lane == compile.lane
                && one.name != compile.name
                && one.from >= compile.from
                && one.to <= compile.to
        };
        let sum: u64 = slices
            .iter()
            .filter(inside)
            .map(|one| one.to - one.from)
            .sum();
        assert_eq!(sum, compile.to - compile.from, "{compile:?} {slices:#?}");
        let others = compiles.iter().filter(|one| one.lane == compile.lane);
        let overlapping = others.filter(|one| one.from < compile.to && compile.from < one.to);
        assert_eq!(overlapping.count(), 1, "itself alone: {compile:?}");
    }
    let phases = |source: &str| {
        let compile = compiles.iter().find(|one| one.name == source);
        let compile = compile.expect("its compile");
        let inside = slices.iter().filter(|one| {
            one.lane == compile.lane && one.from >= compile.from && one.to <= compile.to
        });
        let names = inside.map(|one| one.name.clone());
        names.filter(|name| name != source).collect::<Vec<_>>()
    };
    let remote = phases("s0.c");
    for phase in ["lookup", "gather", "queue", "compile", "finish"] {
        assert!(
            remote.iter().any(|name| name == phase),
            "{phase}: {remote:?}"
        );
    }
    // What fails there compiles here.
    let failed = phases("bad.c");
    assert!(failed.iter().any(|name| name == "local"), "{failed:?}");
    let processes = names(&trace, "process_name");
    let workers = processes
        .values()
        .filter(|name| name.starts_with("worker "));
    assert!(workers.count() >= 1, "{processes:?}");
    let on_workers = slices
        .iter()
        .filter(|one| one.lane.0 != build.lane.0 && one.name.ends_with(".c"));
    assert!(on_workers.count() >= 5, "{slices:#?}");
    // Numbers of the event log, which are rounded.
    for event in project.events() {
        let compile = compiles.iter().find(|one| one.name == event.source);
        let compile = compile.expect("its compile");
        let wall_ms = (compile.to - compile.from) / 1_000;
        assert_eq!(wall_ms as f64, event.wall_ms, "{event:?}");
    }
}

#[test]
fn a_trace_that_cannot_be_written_is_told_and_costs_no_build() {
    let grid = Grid::start(programs(), 1, 1);
    let project = Project::of(1);
    let words = ["--trace", "no/such/folder.json", "make"];
    let outcome = Running::start(&mut project.hgbuild(&grid.address(), &words)).finish();
    assert!(outcome.ok(), "{}", outcome.words());
    assert!(
        outcome.words().contains("no/such/folder.json"),
        "{}",
        outcome.words()
    );
}
