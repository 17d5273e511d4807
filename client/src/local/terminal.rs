//! The terminal that stderr is, and others like it.

use std::env;
use std::io::{self, IsTerminal};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use xxhash_rust::xxh3::xxh3_128;

/// Variables that a compiler's words to a terminal depend on.
pub const VARIABLES: [&str; 6] = [
    "TERM",
    COLUMNS,
    "COLORTERM",
    "NO_COLOR",
    "GCC_URLS",
    "TERM_URLS",
];

/// How wide a terminal is taken for, whatever it says itself.
pub const COLUMNS: &str = "COLUMNS";

/// Where clang finds out about terminals, beside places of the system's.
const DESCRIBED: [&str; 2] = ["TERMINFO", "TERMINFO_DIRS"];

/// What words on stderr depend on: empty where it is no terminal.
pub fn identity() -> Vec<u8> {
    let stderr = io::stderr();
    if !stderr.is_terminal() {
        return Vec::new();
    }
    let mut all = Vec::new();
    for name in VARIABLES.into_iter().chain(DESCRIBED) {
        let value = env::var_os(name);
        all.push(u8::from(value.is_some()));
        all.extend(value.unwrap_or_default().as_encoded_bytes());
        all.push(0);
    }
    for terminal in [io::stderr().as_raw_fd(), io::stdin().as_raw_fd()] {
        all.extend(columns(&terminal).to_be_bytes());
    }
    xxh3_128(&all).to_be_bytes().to_vec()
}

/// How wide a terminal is; 0: unknown, or it is none.
pub fn columns(terminal: &impl AsRawFd) -> u16 {
    window(terminal).map_or(0, |size| size.ws_col)
}

/// Columns and rows of a terminal, or those of the usual one where it does not say.
pub fn size(terminal: &impl AsRawFd) -> (usize, usize) {
    let size = window(terminal).map_or((0, 0), |size| (size.ws_col, size.ws_row));
    match size {
        (0, _) | (_, 0) => (80, 24),
        (columns, rows) => (columns.into(), rows.into()),
    }
}

fn window(terminal: &impl AsRawFd) -> Option<Winsize> {
    let mut size = Winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: fills in the struct that it is given.
    let got = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (got == 0).then_some(size)
}

/// Both ends of a terminal of the same size, which changes nothing: `terminal` does that.
///
/// # Errors
/// There is none to be had.
pub fn like(terminal: &impl AsRawFd) -> io::Result<(OwnedFd, OwnedFd)> {
    let size = window(terminal);
    let pair = openpty(size.as_ref(), None)?;
    let mut modes = tcgetattr(&pair.slave)?;
    cfmakeraw(&mut modes);
    tcsetattr(&pair.slave, SetArg::TCSANOW, &modes)?;
    for end in [&pair.master, &pair.slave] {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    Ok((pair.master, pair.slave))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_those_that_a_worker_takes() {
        let taken =
            |name: &&str| hg_proto::options::args::shapes_words_on_terminal(name.as_bytes());
        assert!(VARIABLES.iter().all(taken));
    }
}
