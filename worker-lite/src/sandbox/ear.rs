//! What hears a compiler: a pipe, or a terminal for those who shape their words by it.

use std::io;
use std::os::fd::OwnedFd;

/// The two ends of a compiler's stderr.
#[derive(Debug)]
pub struct Ear {
    /// To read from.
    pub ours: OwnedFd,
    /// The compiler's.
    pub theirs: OwnedFd,
    /// It is a terminal.
    pub on_terminal: bool,
}

impl Ear {
    /// A terminal of `terminal` columns, if one is wanted and to be had.
    ///
    /// # Errors
    /// There are no descriptors.
    pub fn new(terminal: Option<u16>) -> io::Result<Self> {
        if let Some(columns) = terminal
            && let Ok((ours, theirs)) = pair(columns)
        {
            let on_terminal = true;
            return Ok(Ear {
                ours,
                theirs,
                on_terminal,
            });
        }
        let (ours, theirs) = io::pipe()?;
        Ok(Ear {
            ours: ours.into(),
            theirs: theirs.into(),
            on_terminal: false,
        })
    }
}

/// Both ends of a terminal that hands on what is written as it is. No other compile may
/// inherit them, not even for a moment.
#[cfg(target_os = "linux")]
fn pair(columns: u16) -> io::Result<(OwnedFd, OwnedFd)> {
    use std::os::fd::AsRawFd;

    use nix::fcntl::{OFlag, open};
    use nix::libc;
    use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
    use nix::sys::stat::Mode;
    use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let ours = posix_openpt(flags)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let theirs = open(&ptsname_r(&ours)?[..], flags, Mode::empty())?;
    let mut modes = tcgetattr(&theirs)?;
    cfmakeraw(&mut modes);
    tcsetattr(&theirs, SetArg::TCSANOW, &modes)?;
    let size = libc::winsize {
        ws_row: 0,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: reads the struct that it is given.
    match unsafe { libc::ioctl(theirs.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) } {
        0 => Ok((ours.into(), theirs)),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(not(target_os = "linux"))]
fn pair(_columns: u16) -> io::Result<(OwnedFd, OwnedFd)> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_pipe_unless_a_terminal_is_wanted() {
        let Ear {
            ours,
            theirs,
            on_terminal,
        } = Ear::new(None).unwrap();
        assert!(!on_terminal);
        File::from(theirs).write_all(b"words\n").unwrap();
        let mut said = String::new();
        File::from(ours).read_to_string(&mut said).unwrap();
        assert_eq!(said, "words\n");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_terminal_is_as_wide_as_asked_and_changes_nothing() {
        use std::io::IsTerminal;
        use std::os::fd::AsRawFd;

        let ear = Ear::new(Some(57)).unwrap();
        if !ear.on_terminal {
            eprintln!("skipped: no terminals here");
            return;
        }
        assert!(ear.theirs.is_terminal());
        let mut size = nix::libc::winsize {
            ws_row: 9,
            ws_col: 9,
            ws_xpixel: 9,
            ws_ypixel: 9,
        };
        // SAFETY: fills in the struct that it is given.
        let asked = unsafe {
            nix::libc::ioctl(ear.theirs.as_raw_fd(), nix::libc::TIOCGWINSZ, &raw mut size)
        };
        assert_eq!((asked, size.ws_col), (0, 57));
        File::from(ear.theirs)
            .write_all(b"a\n\tb\x03\x04c")
            .unwrap();
        let mut said = [0; 16];
        let len = File::from(ear.ours).read(&mut said).unwrap();
        assert_eq!(&said[..len], b"a\n\tb\x03\x04c");
    }
}
