//! `--no-fallback` and a grid that is not there: an error, and no output.

use std::fs;

use hg_tests::command::{Outcome, run, scrubbed};
use hg_tests::programs::programs;

use crate::shared::Shared;

/// What a shell's `script` gives with nobody at the coordinator's address.
fn without_a_grid(script: &str) -> (Outcome, bool) {
    let shared = Shared::get();
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("a.c"), "int main(void) { return 0; }\n").expect("a source");
    let hgbuild = programs().client.display();
    let text = format!("hg='{hgbuild}'; {script}");
    let mut command = scrubbed("sh", folder.path(), folder.path());
    command
        .args(["-c", &text])
        .env("HG_COORDINATOR", &shared.dead)
        .env("HG_INSECURE", "1")
        .env("HG_LOCAL_SLOTS", "0");
    let outcome = run(&mut command);
    (outcome, folder.path().join("a.o").exists())
}

#[test]
fn a_dead_grid_is_an_error_if_that_is_asked_for() {
    for script in [
        "$hg --no-fallback gcc -c a.c",
        "HG_FALLBACK=0 $hg gcc -c a.c",
        "$hg --no-fallback -- sh -c 'gcc -c a.c'",
        "$hg --no-fallback make -s a.o",
    ] {
        let (outcome, written) = without_a_grid(script);
        let words = outcome.words();
        assert!(!outcome.ok() && !written, "{script}: {words}");
        assert!(words.contains("the grid failed"), "{script}: {words}");
    }
}

#[test]
fn what_never_travels_needs_no_grid() {
    for script in [
        "$hg --no-fallback gcc a.c -o a.o",
        "$hg --no-fallback gcc -fdump-tree-original -c a.c",
        "HG_FALLBACK=1 $hg gcc -c a.c",
    ] {
        let (outcome, written) = without_a_grid(script);
        assert!(outcome.ok() && written, "{script}: {}", outcome.words());
    }
}
