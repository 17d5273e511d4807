//! `hgbuild gcc ...` against `gcc ...`: the same folder, one run after the other,
//! with a grid, without one, and with a dead one. Exit code, stdout, stderr and
//! every file, mode and link must be the same, and the event log must say what
//! is expected of each command.

mod case;
mod compare;
mod no_fallback;
mod pages;
mod shared;
mod status_line;
mod trace;
mod trouble;
mod usage;

mod rows_builds;
mod rows_files;
mod rows_language;
mod rows_messages;
mod rows_outputs;
mod rows_sizes;
mod rows_stay;
mod rows_travel;

use compare::check;

#[test]
fn what_stays() {
    check("stay", rows_stay::CASES);
}

#[test]
fn what_travels() {
    check("travel", rows_travel::CASES);
}

#[test]
fn outputs() {
    check("outputs", rows_outputs::CASES);
}

#[test]
fn messages() {
    check("messages", rows_messages::CASES);
}

#[test]
fn names_and_modes_of_files() {
    check("files", rows_files::CASES);
}

#[test]
fn texts() {
    check("language", rows_language::CASES);
}

#[test]
fn sizes() {
    check("sizes", rows_sizes::CASES);
}

#[test]
fn builds_and_wrappers() {
    check("builds", rows_builds::CASES);
}
