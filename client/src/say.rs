//! Words for a person. That they can't be written, or that nobody reads them,
//! costs no compile and changes no exit code of a build.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// `hgbuild: WORDS` on stderr.
pub fn warn(words: impl Display) {
    aside(format_args!("hgbuild: {words}\n"));
}

/// `text` on stderr in one write, so that lines of parallel compiles do not mix.
pub fn aside(text: impl Display) {
    let _ = io::stderr().write_all(text.to_string().as_bytes());
}

/// What was asked for, on stdout. Returns the exit code: 1 if it can't be written.
/// A reader that has enough has been answered.
pub fn answer(text: impl Display) -> i32 {
    let mut stdout = io::stdout();
    let written = stdout.write_all(text.to_string().as_bytes());
    match written.and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            warn(format_args!("stdout: {error}"));
            1
        }
        _ => 0,
    }
}
