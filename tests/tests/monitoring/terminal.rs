//! What `hgbuild` says in a terminal: `explain`, `config`, `doctor`.

use std::path::Path;
use std::process::Command;

use hg_tests::command::{Outcome, run, scrubbed};
use hg_tests::grid::Grid;
use hg_tests::programs::programs;
use serde_json::Value;

use crate::shared::{build, write_sources};

/// `hgbuild WORDS` in `folder`, which is its home too.
pub fn hgbuild(folder: &Path, words: &[&str]) -> Command {
    let mut command = scrubbed(&programs().client, folder, folder);
    command.args(words);
    command
}

fn text(outcome: &Outcome) -> String {
    assert!(outcome.ok(), "{}", outcome.words());
    String::from_utf8_lossy(&outcome.stdout).into_owned()
}

fn json(outcome: &Outcome) -> Value {
    serde_json::from_slice(&outcome.stdout).unwrap_or_else(|_| panic!("{}", outcome.words()))
}

#[test]
fn explain_says_where_the_last_compile_of_a_source_went() {
    let grid = Grid::start(programs(), 1, 2);
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().canonicalize().expect("a path");
    write_sources(&folder);
    let unknown = run(&mut hgbuild(&folder, &["explain", "clock.c"]));
    assert_eq!(unknown.code, Some(1), "{}", unknown.words());
    assert!(unknown.words().contains("no compile of it is known"));

    build(&grid, &folder);
    // Without a grid, and from wherever it is asked.
    let clock = text(&run(&mut hgbuild(&folder, &["explain", "./clock.c"])));
    for words in [
        "time-macro: __TIME__",
        "leave the clock's macros out",
        "  where      local",
    ] {
        assert!(clock.contains(words), "{clock}");
    }
    assert!(
        clock.starts_with(&format!("{}/clock.c\n", folder.display())),
        "{clock}"
    );
    let source = folder.join("f0.c").display().to_string();
    let away = run(hgbuild(&folder, &["explain", &source, "--json"]).current_dir("/"));
    let away = json(&away);
    assert_eq!(away["where"], "remote", "{away}");
    assert_eq!(away["path"], source.as_str());
    assert_eq!(away["meaning"], "a worker compiled it");
    assert!(
        away["worker"].is_string() && away["remote_ms"].as_u64() > Some(0),
        "{away}"
    );
    // Compiled again, here: what is younger is told.
    std::fs::remove_file(folder.join("f0.o")).expect("an object");
    assert!(run(&mut hgbuild(&folder, &["make", "CC=gcc"])).ok());
    let here = json(&run(&mut hgbuild(&folder, &["explain", "--json", "f0.c"])));
    assert_eq!(here["where"], "local", "{here}");
    assert_eq!(here["reason"], "no-coordinator");
    assert_eq!(
        here["advice"],
        "join a grid: 'hgbuild join', or set HG_COORDINATOR"
    );
}
