//! The stderr of a compiler: a pipe, or a pseudoterminal for a compiler that shapes its
//! words by it.

use std::io;
use std::os::fd::OwnedFd;

/// Both ends of a compiler's stderr.
#[derive(Debug)]
pub struct Stderr {
    /// The worker's end, to read from.
    pub reader: OwnedFd,
    /// The compiler's end, to write to.
    pub writer: OwnedFd,
    /// It is a terminal, and not a pipe.
    pub on_terminal: bool,
}

impl Stderr {
    /// A terminal of `terminal` columns if one is wanted and can be had, else a pipe.
    ///
    /// # Errors
    /// No file descriptors are left.
    pub fn new(terminal: Option<u16>) -> io::Result<Self> {
        if let Some(columns) = terminal
            && let Ok((reader, writer)) = pseudoterminal(columns)
        {
            let on_terminal = true;
            return Ok(Stderr {
                reader,
                writer,
                on_terminal,
            });
        }
        let (reader, writer) = io::pipe()?;
        Ok(Stderr {
            reader: reader.into(),
            writer: writer.into(),
            on_terminal: false,
        })
    }
}

/// Both ends of a terminal in raw mode: it hands on what is written as it is. No other
/// compile may inherit them, not even for a moment.
#[cfg(target_os = "linux")]
fn pseudoterminal(columns: u16) -> io::Result<(OwnedFd, OwnedFd)> {
    use std::os::fd::AsRawFd;

    use nix::fcntl::{OFlag, open};
    use nix::libc;
    use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
    use nix::sys::stat::Mode;
    use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let reader = posix_openpt(flags)?;
    grantpt(&reader)?;
    unlockpt(&reader)?;
    let writer = open(&ptsname_r(&reader)?[..], flags, Mode::empty())?;
    let mut modes = tcgetattr(&writer)?;
    cfmakeraw(&mut modes);
    tcsetattr(&writer, SetArg::TCSANOW, &modes)?;
    let size = libc::winsize {
        ws_row: 0,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: reads the struct that it is given.
    match unsafe { libc::ioctl(writer.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) } {
        0 => Ok((reader.into(), writer)),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(not(target_os = "linux"))]
fn pseudoterminal(_columns: u16) -> io::Result<(OwnedFd, OwnedFd)> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_pipe_unless_a_terminal_is_wanted() {
        let Stderr {
            reader,
            writer,
            on_terminal,
        } = Stderr::new(None).unwrap();
        assert!(!on_terminal);
        File::from(writer).write_all(b"words\n").unwrap();
        let mut said = String::new();
        File::from(reader).read_to_string(&mut said).unwrap();
        assert_eq!(said, "words\n");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_terminal_is_as_wide_as_asked_and_changes_nothing() {
        use std::io::IsTerminal;
        use std::os::fd::AsRawFd;

        let stderr = Stderr::new(Some(57)).unwrap();
        if !stderr.on_terminal {
            eprintln!("skipped: no terminals here");
            return;
        }
        assert!(stderr.writer.is_terminal());
        let mut size = nix::libc::winsize {
            ws_row: 9,
            ws_col: 9,
            ws_xpixel: 9,
            ws_ypixel: 9,
        };
        // SAFETY: fills in the struct that it is given.
        let asked = unsafe {
            nix::libc::ioctl(
                stderr.writer.as_raw_fd(),
                nix::libc::TIOCGWINSZ,
                &raw mut size,
            )
        };
        assert_eq!((asked, size.ws_col), (0, 57));
        File::from(stderr.writer)
            .write_all(b"a\n\tb\x03\x04c")
            .unwrap();
        let mut said = [0; 16];
        let len = File::from(stderr.reader).read(&mut said).unwrap();
        assert_eq!(&said[..len], b"a\n\tb\x03\x04c");
    }
}
