//! The terminal as a screen: entered, drawn on and left as it was found, however this
//! process ends. A few escape sequences that every terminal of today knows (ECMA-48, and
//! of xterm the alternate screen).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::panic;
use std::sync::{Mutex, PoisonError};

use nix::sys::termios::{
    LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};

use crate::local::terminal;

/// Alternate screen, no cursor, no new line at the end of one.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
const LEAVE: &str = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";

/// The terminal of this process while it is a screen: for whoever ends it. `None`: it is
/// none now.
static ENTERED: Mutex<Option<Entered>> = Mutex::new(None);

struct Entered {
    terminal: File,
    modes: Termios,
}

impl Entered {
    fn leave(mut self) {
        let _ = self.terminal.write_all(LEAVE.as_bytes());
        let _ = tcsetattr(self.terminal.as_fd(), SetArg::TCSADRAIN, &self.modes);
    }
}

/// Makes the terminal what it was. Does nothing where it is.
pub fn leave() {
    let entered = ENTERED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if let Some(entered) = entered {
        entered.leave();
    }
}

/// From now on a panic of any thread leaves the screen before it is told, and ends the
/// process.
pub fn leave_on_panic() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        leave();
        tell(info);
        std::process::exit(101);
    }));
}

/// A terminal that is drawn on. Dropped, it is left.
pub struct Screen {
    terminal: File,
    /// What stands there.
    shown: Vec<String>,
}

impl Screen {
    /// Enters `terminal`.
    ///
    /// # Errors
    /// It is none, or is gone.
    pub fn enter(terminal: OwnedFd) -> io::Result<Self> {
        let mut screen = Screen {
            terminal: File::from(terminal),
            shown: Vec::new(),
        };
        screen.enter_again()?;
        Ok(screen)
    }

    /// Enters it after it was left, or after somebody else may have changed it.
    ///
    /// # Errors
    /// It is gone.
    pub fn enter_again(&mut self) -> io::Result<()> {
        let mut entered = ENTERED.lock().unwrap_or_else(PoisonError::into_inner);
        let modes = match entered.take() {
            // The modes of then count: what there is now may be ours.
            Some(before) => before.modes,
            None => tcgetattr(&self.terminal)?,
        };
        let mut ours = modes.clone();
        // Keys come at once and are not shown; ^C and ^Z stay signals.
        ours.local_flags
            .remove(LocalFlags::ICANON | LocalFlags::ECHO);
        ours.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        ours.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        *entered = Some(Entered {
            terminal: self.terminal.try_clone()?,
            modes,
        });
        drop(entered);
        tcsetattr(&self.terminal, SetArg::TCSADRAIN, &ours)?;
        self.shown.clear();
        self.terminal.write_all(ENTER.as_bytes())
    }

    /// Columns and rows.
    pub fn size(&self) -> (usize, usize) {
        terminal::size(&self.terminal)
    }

    /// All of it is drawn the next time: its size has changed.
    pub fn forget(&mut self) {
        self.shown.clear();
    }

    /// Shows `lines`, which hold nothing but text and styles.
    /// Only lines that are others than before are written, all at once.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn draw(&mut self, lines: Vec<String>) -> io::Result<()> {
        let mut out = String::new();
        if self.shown.is_empty() {
            out.push_str("\x1b[2J");
        }
        let rows = lines.len().max(self.shown.len());
        for row in 0..rows {
            let now = lines.get(row).map_or("", String::as_str);
            if self.shown.get(row).map(String::as_str) != Some(now) {
                out.push_str(&format!("\x1b[{};1H{now}\x1b[0m\x1b[K", row + 1));
            }
        }
        self.shown = lines;
        self.terminal.write_all(out.as_bytes())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::pty::{Winsize, openpty};
    use std::io::Read;

    #[test]
    fn a_terminal_is_left_as_it_was_found_by_a_panic_too() {
        let size = Winsize {
            ws_row: 5,
            ws_col: 30,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(Some(&size), None).expect("a terminal");
        let before = tcgetattr(&pair.slave).expect("modes");
        let terminal = pair.slave.try_clone().expect("a terminal");
        let ended = panic::catch_unwind(move || {
            let mut screen = Screen::enter(terminal).expect("a screen");
            assert_eq!(screen.size(), (30, 5));
            screen
                .draw(vec!["one".into(), "two".into()])
                .expect("drawn");
            screen.draw(vec!["one".into(), "2".into()]).expect("drawn");
            let during = tcgetattr(&screen.terminal).expect("modes");
            assert!(!during.local_flags.contains(LocalFlags::ECHO));
            assert!(during.local_flags.contains(LocalFlags::ISIG));
            // As in a bug.
            panic::resume_unwind(Box::new(()));
        });
        assert!(ended.is_err());
        assert_eq!(tcgetattr(&pair.slave).expect("modes"), before);
        // What a terminal is told comes in pieces; the last end of it closed is the end.
        drop(pair.slave);
        let mut master = File::from(pair.master);
        let mut said = Vec::new();
        let mut piece = [0; 4_096];
        while let Ok(length @ 1..) = master.read(&mut piece) {
            said.extend_from_slice(&piece[..length]);
        }
        let said = String::from_utf8(said).expect("text");
        assert!(said.starts_with("\x1b[?1049h"), "{said:?}");
        assert!(said.ends_with("\x1b[?25h\x1b[?1049l"), "{said:?}");
        // The line that did not change was not written again.
        assert_eq!(said.matches("one").count(), 1);
        assert!(said.contains("\x1b[2;1H2\x1b[0m\x1b[K"), "{said:?}");
    }
}
