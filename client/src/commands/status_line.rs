//! One line at the bottom of the terminal while a build runs: what was compiled, what runs
//! now and where. The rest of the screen scrolls above it, so that whatever the build and its
//! compilers write stays as it is. There is none where nobody could see it, or something else
//! has the terminal.

use std::collections::{HashMap, HashSet};
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, raise, sigaction};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::{Pid, getpgrp, tcgetpgrp};

use crate::commands::expected::{self, progress::Progress};
use crate::compile::events::{Event, Origin, printable, running_file};
use crate::local::terminal;
use crate::private;

/// Between two looks at what has happened.
const REDRAW: Duration = Duration::from_millis(200);
/// After the last compile the line goes: what comes then may want the whole terminal.
const LINGERS: Duration = Duration::from_secs(1);
/// A terminal that is smaller has no room for it.
const ROWS_MIN: usize = 5;
const COLUMNS_MIN: usize = 20;
/// All rows scroll again; the cursor stays where it is.
const ALL_SCROLL: &[u8] = b"\x1b7\x1b[r\x1b8";

/// The line on the screen makes the rest of it scroll.
static IS_SHOWN: AtomicBool = AtomicBool::new(false);

/// The line of one build; gone when this is dropped.
pub struct StatusLine {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    running: PathBuf,
}

impl StatusLine {
    /// For the build by the command `words`, which starts now, and whose compiles write to
    /// `summary_log`; `None`: nobody would see it.
    pub fn start(summary_log: &Path, words: &[OsString]) -> Option<StatusLine> {
        let term = env::var_os("TERM").filter(|term| !term.is_empty() && term != "dumb");
        if term.is_none() || !io::stderr().is_terminal() {
            return None;
        }
        let running = running_file(summary_log);
        private::write(&running, b"").ok()?;
        leave_the_terminal_alone_while_stopped();
        let over = Arc::new(AtomicBool::new(false));
        let mut line = Line {
            log: Lines::of(summary_log)?,
            begun: Lines::of(&running)?,
            counts: Counts {
                expected: look_ahead(words),
                ..Counts::default()
            },
            screen: None,
        };
        let told = over.clone();
        let thread = thread::Builder::new().name("status".into()).spawn(move || {
            while !told.load(Ordering::SeqCst) {
                line.update();
                thread::park_timeout(REDRAW);
            }
            line.hide();
        });
        Some(StatusLine {
            over,
            thread: Some(thread.ok()?),
            running,
        })
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
        let _ = fs::remove_file(&self.running);
    }
}

/// The objects that a build makes; `None`: that can't be known.
type Expected = Arc<OnceLock<Option<HashSet<PathBuf>>>>;

/// What the build by `words` has to make, where that can be known, once it is: read beside
/// the build, which does not wait for it.
fn look_ahead(words: &[OsString]) -> Expected {
    let expected = Expected::default();
    let (told, words, start) = (expected.clone(), words.to_vec(), SystemTime::now());
    let look = move || told.set(expected::objects(&words, start));
    // Without it there is a line all the same.
    let _ = thread::Builder::new().name("expected".into()).spawn(look);
    expected
}

struct Line {
    log: Lines,
    begun: Lines,
    counts: Counts,
    /// Where it stands.
    screen: Option<Shown>,
}

/// What is on the screen.
#[derive(PartialEq, Eq)]
struct Shown {
    rows: usize,
    columns: usize,
    text: String,
}

impl Line {
    fn update(&mut self) {
        let now = Instant::now();
        while let Some(line) = self.begun.next() {
            self.counts.begin(&String::from_utf8_lossy(line));
        }
        while let Some(line) = self.log.next() {
            if let Ok(event) = serde_json::from_slice::<Event<'_>>(line) {
                self.counts.end(&event, now);
            }
        }
        self.counts.forget_the_dead();
        match self.counts.text(now) {
            Some(text) => self.show(text),
            None => self.hide(),
        }
    }

    fn show(&mut self, text: String) {
        let Some((rows, columns)) = room() else {
            return;
        };
        let text = text.chars().take(columns - 1).collect();
        let shown = Shown {
            rows,
            columns,
            text,
        };
        if !IS_SHOWN.load(Ordering::SeqCst) {
            // Whoever stopped us had the whole screen.
            self.screen = None;
        }
        if self.screen.as_ref() == Some(&shown) {
            return;
        }
        let mut bytes = Vec::new();
        match &self.screen {
            // Its old place scrolls from now on.
            Some(old) if old.rows < rows => erase(&mut bytes, old.rows),
            Some(_) => {}
            // The cursor leaves the last row, with all that is above it.
            None => bytes.extend_from_slice(b"\x1bD\x1b[A"),
        }
        let (last, above, text) = (rows, rows - 1, &shown.text);
        let draw = format!("\x1b7\x1b[1;{above}r\x1b[{last};1H\x1b[2K{text}\x1b8");
        bytes.extend_from_slice(draw.as_bytes());
        IS_SHOWN.store(true, Ordering::SeqCst);
        write(&bytes);
        self.screen = Some(shown);
    }

    fn hide(&mut self) {
        let Some(shown) = self.screen.take() else {
            return;
        };
        IS_SHOWN.store(false, Ordering::SeqCst);
        // Who has taken the terminal has set it up as it wants it.
        if room().is_some() {
            let mut bytes = Vec::new();
            erase(&mut bytes, shown.rows);
            bytes.extend_from_slice(ALL_SCROLL);
            write(&bytes);
        }
    }
}

fn erase(bytes: &mut Vec<u8>, row: usize) {
    bytes.extend_from_slice(format!("\x1b7\x1b[{row};1H\x1b[2K\x1b8").as_bytes());
}

fn write(bytes: &[u8]) {
    let _ = io::stderr().write_all(bytes);
}

/// Rows and columns of the terminal, if it is ours to write to: this build is in its
/// foreground, and nobody reads single keys, as what fills a whole screen does.
fn room() -> Option<(usize, usize)> {
    let stderr = io::stderr();
    let modes = tcgetattr(stderr.as_fd()).ok()?;
    let is_ours = tcgetpgrp(stderr.as_fd()).ok()? == getpgrp();
    if !is_ours || !modes.local_flags.contains(LocalFlags::ICANON) {
        return None;
    }
    let (columns, rows) = terminal::size(&stderr);
    (rows >= ROWS_MIN && columns >= COLUMNS_MIN).then_some((rows, columns))
}

/// Who stops the build by a key gets the whole screen.
fn leave_the_terminal_alone_while_stopped() {
    let action = SigAction::new(
        SigHandler::Handler(stop),
        // The second time it stops us.
        SaFlags::SA_RESETHAND | SaFlags::SA_NODEFER | SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    // SAFETY: the handler calls async-signal-safe functions only.
    if let Ok(before) = unsafe { sigaction(Signal::SIGTSTP, &action) }
        && matches!(before.handler(), SigHandler::SigIgn)
    {
        // SAFETY: as it was.
        let _ = unsafe { sigaction(Signal::SIGTSTP, &before) };
    }
}

extern "C" fn stop(_: libc::c_int) {
    if IS_SHOWN.swap(false, Ordering::SeqCst) {
        // SAFETY: write is async-signal-safe, and the bytes are there for ever.
        unsafe { libc::write(2, ALL_SCROLL.as_ptr().cast(), ALL_SCROLL.len()) };
    }
    let _ = raise(Signal::SIGTSTP);
    // Going on.
    leave_the_terminal_alone_while_stopped();
}

/// What has happened in a build.
#[derive(Default)]
struct Counts {
    /// Sources compiled by workers, here, and answered by the cache.
    ended: [u64; 3],
    /// By process.
    running: HashMap<u32, Place>,
    /// The objects that are to come.
    expected: Expected,
    progress: Progress,
    /// When something last ran.
    last: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    There,
    Here,
}

impl Counts {
    /// A line of the file of what has begun.
    fn begin(&mut self, line: &str) {
        let Some((pid, place)) = line.trim_end().split_once(' ') else {
            return;
        };
        let place = match place == Origin::Remote.name() {
            true => Place::There,
            false => Place::Here,
        };
        if let Ok(pid) = pid.parse() {
            self.running.insert(pid, place);
        }
    }

    fn end(&mut self, event: &Event<'_>, now: Instant) {
        self.running.remove(&event.pid);
        self.last = Some(now);
        if event.source.is_empty() {
            return;
        }
        self.ended[event.origin as usize] += 1;
        let object = Path::new(&event.cwd).join(&event.output);
        self.progress.end(expected::plain(&object), now);
    }

    /// Those that were killed have no end in the log.
    fn forget_the_dead(&mut self) {
        self.running.retain(|pid, _| {
            i32::try_from(*pid).is_ok_and(|pid| kill(Pid::from_raw(pid), None).is_ok())
        });
    }

    /// `None`: nothing was compiled lately.
    fn text(&mut self, now: Instant) -> Option<String> {
        let is_quiet = self.running.is_empty()
            && self
                .last
                .is_none_or(|last| now.duration_since(last) > LINGERS);
        if is_quiet {
            return None;
        }
        if let Some(objects) = self.expected.get() {
            self.progress.expect(objects.as_ref());
        }
        let rate = self.progress.rate(now);
        let running = |place| self.running.values().filter(|one| **one == place).count();
        let [remote, local, cached] = self.ended;
        let text = format!(
            "hgbuild: {} compiled{}: {remote} remote, {local} local, {cached} cached; {rate:.0}/s; \
             running: {} on workers, {} here",
            self.progress.of_total(),
            self.progress.time_left(now),
            running(Place::There),
            running(Place::Here),
        );
        Some(printable(&text))
    }
}

/// The lines of a file that grows.
struct Lines {
    file: BufReader<File>,
    line: Vec<u8>,
}

impl Lines {
    fn of(path: &Path) -> Option<Lines> {
        Some(Lines {
            file: BufReader::new(File::open(path).ok()?),
            line: Vec::new(),
        })
    }

    /// The next one that is whole.
    fn next(&mut self) -> Option<&[u8]> {
        if self.line.ends_with(b"\n") {
            self.line.clear();
        }
        self.file.read_until(b'\n', &mut self.line).ok()?;
        self.line.ends_with(b"\n").then_some(&self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_ends_once_and_goes_with_its_process() {
        let mut counts = Counts::default();
        let now = Instant::now();
        assert_eq!(counts.text(now), None);
        let own = std::process::id();
        counts.begin(&format!("{own} remote\n"));
        counts.begin("no line\n");
        // No process has this one.
        counts.begin("4194305 local\n");
        counts.forget_the_dead();
        let text = counts.text(now).expect("one runs");
        assert!(text.ends_with("running: 1 on workers, 0 here"), "{text}");
        let line = format!(
            r#"{{"v":1,"time":"","cwd":"","source":"a.c","output":"","compiler":"gcc","where":"cache","reason":"direct","worker":null,"exit":0,"pid":{own},"wall_ms":0,"queue_ms":0,"remote_ms":0,"bytes_up":0,"bytes_down":0}}"#
        );
        let event = serde_json::from_str::<Event<'_>>(&line).expect("an event");
        counts.end(&event, now);
        let text = counts.text(now).expect("one ran a moment ago");
        assert!(
            text.starts_with("hgbuild: 1 compiled: 0 remote, 0 local, 1 cached"),
            "{text}"
        );
        assert!(text.ends_with("running: 0 on workers, 0 here"), "{text}");
        assert_eq!(counts.text(now + 2 * LINGERS), None);
    }

    #[test]
    fn a_line_is_read_when_it_is_whole() {
        let folder = tempfile_folder();
        let path = folder.join("log");
        fs::write(&path, "a\nb").expect("a file");
        let mut lines = Lines::of(&path).expect("it is there");
        assert_eq!(lines.next(), Some(&b"a\n"[..]));
        assert_eq!(lines.next(), None);
        let mut file = File::options()
            .append(true)
            .open(&path)
            .expect("it is there");
        file.write_all(b"c\nd\n").expect("room");
        assert_eq!(lines.next(), Some(&b"bc\n"[..]));
        assert_eq!(lines.next(), Some(&b"d\n"[..]));
        assert_eq!(lines.next(), None);
        fs::remove_dir_all(folder).expect("it was there");
    }

    fn tempfile_folder() -> PathBuf {
        let folder = env::temp_dir().join(format!("hg-status-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        folder
    }
}
