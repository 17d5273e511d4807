//! One command of a project, under a deadline, in the environment that all of them
//! have.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hg_tests::command::{Outcome, scrubbed};
use hg_tests::running::Running;

use super::interrupt;
use super::project::Compiler;

/// What anything but a build may take.
pub const STEP_TIME_MAX: Duration = Duration::from_secs(600);
/// What a build may take.
pub const BUILD_TIME_MAX: Duration = Duration::from_secs(3600);
/// Between two looks whether a signal came.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Of what a failed command said last.
const LAST_LINES: usize = 4;

/// `program` in `folder`, where CC and CXX name `compiler`.
pub fn command(program: impl AsRef<Path>, folder: &Path, home: &Path, cc: Compiler) -> Command {
    let mut command = scrubbed(program.as_ref(), folder, home);
    let (c, cxx) = cc.names();
    command
        .env("CC", c)
        .env("CXX", cxx)
        // GNU's configure scripts refuse root, for a probe that we don't mind.
        .env("FORCE_UNSAFE_CONFIGURE", "1");
    command
}

/// Runs `command` to a good end.
///
/// # Errors
/// Words: it failed, and what it said last; it took longer than `time_max`, or a signal
/// came: then its process group is killed.
pub fn run(command: &mut Command, time_max: Duration) -> Result<Outcome, String> {
    let words = words(command);
    let deadline = Instant::now() + time_max;
    let mut running = Running::start(command);
    loop {
        match running.over(LOOK_AGAIN) {
            Some(outcome) if outcome.ok() => return Ok(outcome),
            Some(outcome) => return Err(format!("{words}: {}", last_words(&outcome))),
            None if interrupt::seen() => return Err(format!("{words}: interrupted")),
            None if Instant::now() > deadline => {
                return Err(format!("{words}: not done after {time_max:?}"));
            }
            None => {}
        }
    }
}

/// The command as one would type it.
fn words(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or_default();
    let all = std::iter::once(name).chain(command.get_args());
    let all: Vec<_> = all.map(|word| word.to_string_lossy()).collect();
    all.join(" ")
}

fn last_words(outcome: &Outcome) -> String {
    let said = match outcome.stderr.is_empty() {
        true => &outcome.stdout,
        false => &outcome.stderr,
    };
    let text = String::from_utf8_lossy(said);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
    format!("exit {:?}: {}", outcome.code, last.join(" | "))
}
