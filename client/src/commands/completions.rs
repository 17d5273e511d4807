//! `hgbuild completions SHELL`: the scripts that `cargo run -p hg-tests --bin manuals` made
//! of the table of options.

use crate::cli::{Completions, PROGRAM};
use crate::say;

/// What shells are called, and their scripts.
const SCRIPTS: [(&str, &str); 3] = [
    (
        "bash",
        include_str!("../../../packaging/completions/hgbuild.bash"),
    ),
    (
        "zsh",
        include_str!("../../../packaging/completions/_hgbuild"),
    ),
    (
        "fish",
        include_str!("../../../packaging/completions/hgbuild.fish"),
    ),
];

/// Prints the script of a shell; gives the exit code.
pub fn completions(args: &Completions) -> i32 {
    let found = SCRIPTS.iter().find(|(shell, _)| *shell == args.shell);
    match found {
        Some((_, script)) => say::answer(script),
        None => {
            let why = format!("no completions for '{}': bash, zsh or fish", args.shell);
            say::aside(PROGRAM.wrong(&["completions"], &why).text);
            2
        }
    }
}
