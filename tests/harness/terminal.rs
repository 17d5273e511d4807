//! A terminal with a screen, and a command in its foreground: what a person would see.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::running::PATIENCE;

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The command is killed, with its group, when this is dropped.
pub struct Terminal {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<avt::Terminal>>,
    said: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Runs `command` on one of so many rows and columns, as a shell would.
    ///
    /// # Panics
    /// There is none to be had, or the command can't be started.
    pub fn run(command: &mut Command, rows: u16, columns: u16) -> Terminal {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&size, None).expect("a terminal");
        fcntl(&pty.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("a descriptor");
        let end = || pty.slave.try_clone().expect("a descriptor");
        command.stdin(end()).stdout(end()).stderr(end());
        command.env("TERM", "xterm");
        // SAFETY: system calls that may be made between fork and exec.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                match libc::ioctl(0, libc::TIOCSCTTY, 0) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            });
        }
        let child = command.spawn().expect("the command");
        // Nobody but the command holds the other end: its end is seen.
        command.stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null());
        drop(pty.slave);
        let keyboard = File::from(pty.master);
        let mut output = keyboard.try_clone().expect("a descriptor");
        let screen = avt::Terminal::new(columns.into(), rows.into()).expect("rows and columns");
        let screen = Arc::new(Mutex::new(screen));
        let shown = screen.clone();
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = said.clone();
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            let mut rest = Vec::new();
            // That nobody can write any more is an error.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                rest.extend_from_slice(&bytes[..count]);
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.extend_from_slice(&bytes[..count]);
                drop(heard);
                // A character may come in two pieces.
                let whole = match std::str::from_utf8(&rest) {
                    Err(error) if error.error_len().is_none() => error.valid_up_to(),
                    _ => rest.len(),
                };
                let text = String::from_utf8_lossy(&rest[..whole]).into_owned();
                rest.drain(..whole);
                let mut screen = shown.lock().unwrap_or_else(PoisonError::into_inner);
                screen.feed([text.as_str()]);
            }
        });
        Terminal {
            child,
            keyboard,
            screen,
            said,
            reader: Some(reader),
        }
    }

    /// The rows of the screen, without blanks at their ends.
    pub fn rows(&self) -> Vec<String> {
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        let screen = screen.screen();
        let rows = (0..).map_while(|row| screen.line(row));
        rows.map(|row| row.text().trim_end().to_owned()).collect()
    }

    /// The bytes that came since this was asked before.
    pub fn said(&self) -> Vec<u8> {
        std::mem::take(&mut self.said.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes it so large.
    ///
    /// # Panics
    /// The terminal is gone.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        let mut screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        screen.resize(columns.into(), rows.into());
        drop(screen);
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: reads the struct that it is given.
        let told =
            unsafe { libc::ioctl(self.keyboard.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(told, 0, "TIOCSWINSZ");
    }

    /// Types `keys`.
    ///
    /// # Panics
    /// The terminal is gone.
    pub fn press(&mut self, keys: &str) {
        self.keyboard
            .write_all(keys.as_bytes())
            .expect("a terminal");
    }

    /// To the command alone.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Waits until `look` finds something among the rows.
    ///
    /// # Panics
    /// It does not within [`PATIENCE`].
    pub fn until<T>(&mut self, what: &str, mut look: impl FnMut(&[String]) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let rows = self.rows();
            if let Some(found) = look(&rows) {
                return found;
            }
            let is_over = self.reader.as_ref().is_none_or(JoinHandle::is_finished);
            assert!(!is_over, "it ended; no {what}: {rows:#?}");
            assert!(Instant::now() < deadline, "in vain: {what}: {rows:#?}");
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits for its end: how it ended, and the rows as they are then.
    ///
    /// # Panics
    /// It can't be waited for.
    pub fn finish(mut self) -> (ExitStatus, Vec<String>) {
        let status = self.child.wait().expect("a child");
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        (status, self.rows())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = killpg(self.pid(), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}
