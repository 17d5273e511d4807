//! `floors`: draws the rooms of each crate, floor by floor: how many files and lines are
//! in each, and which others it uses. Ends with 1 where the sources disagree with
//! `tests/floors.txt`. With a folder: those of another checkout, by its own list.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use hg_tests::floors::{CRATES, Crate, Floors};
use hg_tests::programs::checkout;

fn main() -> ExitCode {
    let folder = env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.as_deref().unwrap_or_else(|| checkout());
    // A checkout without a list has circles all the same.
    let list = fs::read_to_string(folder.join("tests/floors.txt")).unwrap_or_default();
    let mut faults = Vec::new();
    for name in CRATES {
        let floors = Floors::of(&list, name);
        match Crate::read(folder, name) {
            Ok(found) => {
                println!("{}", found.drawing(&floors));
                faults.extend(found.faults(&floors));
            }
            Err(why) => faults.push(why),
        }
    }
    for fault in &faults {
        eprintln!("floors: {fault}");
    }
    match faults.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
