//! `hgbuild top`: the grid as it works, on a screen that changes with it, or as text.

mod keys;
mod screen;
mod snapshot;
mod view;

use std::env;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{SigSet, Signal, raise};

use crate::cli::Top;
use crate::config::Config;
use crate::local::signals;
use crate::say;
use keys::Keys;
use screen::Screen;
use snapshot::{Observer, Snapshot, Trouble};
use view::{View, clean};

/// Between two looks at the grid, unless it is said.
const INTERVAL: Duration = Duration::from_millis(500);
/// The shortest that may be said, and the longest.
const INTERVAL_S: std::ops::RangeInclusive<f64> = 0.1..=86_400.0;
/// A grid that is slow to answer is asked less often: so many times what that took.
const REST: u32 = 4;
/// Between two drawings.
const DRAW: Duration = Duration::from_millis(50);
/// Before a grid that was lost is dialled again.
const DIAL_AGAIN: Duration = Duration::from_secs(1);

/// What this process hears of while it has a screen.
const HEARD: [Signal; 7] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGTSTP,
    Signal::SIGCONT,
    Signal::SIGWINCH,
];

/// Something that happened while the screen is shown.
enum Happening {
    Keys(Vec<u8>),
    Signal(Signal),
    Looked(Result<Box<Snapshot>, Trouble>),
}

/// Shows the grid until it is told to end. Gives an exit code.
pub fn top(config: &Config, args: &Top) -> i32 {
    let interval = match args.interval {
        Some(seconds) if !INTERVAL_S.contains(&seconds) => {
            let (least, most) = (INTERVAL_S.start(), INTERVAL_S.end());
            say::warn(format_args!("--interval takes {least} to {most} seconds"));
            return 2;
        }
        seconds => seconds.map(Duration::from_secs_f64),
    };
    let is_dumb = env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    let is_screen = io::stdout().is_terminal() && !is_dumb && !args.json;
    match is_screen {
        true => on_screen(config, interval.unwrap_or(INTERVAL)),
        false => as_text(config, interval, args.json),
    }
}

/// A snapshot as text, or one after the other.
fn as_text(config: &Config, interval: Option<Duration>, as_json: bool) -> i32 {
    let mut observer = Observer::new(config);
    let mut is_first = true;
    loop {
        let began = Instant::now();
        let looked = observer.look();
        match &looked {
            Ok(snapshot) if as_json => {
                if !write(&format!("{}\n", snapshot.object())) {
                    return 0;
                }
            }
            Ok(snapshot) => {
                let blank = if is_first { "" } else { "\n" };
                let time = humantime::format_rfc3339_seconds(SystemTime::now());
                let head = interval.map_or_else(String::new, |_| format!("{blank}{time}"));
                if !write(&format!("{head}{}", view::text(snapshot))) {
                    return 0;
                }
                is_first = false;
            }
            Err(trouble) => say::warn(clean(trouble.words())),
        }
        let may_go_on = !matches!(looked, Err(Trouble::Refused(_)));
        match interval {
            // A first one that fails is no start.
            Some(interval) if may_go_on && (looked.is_ok() || !is_first) => {
                thread::sleep(pause(interval, began, looked.is_err()));
            }
            _ => return i32::from(looked.is_err()),
        }
    }
}

/// Whether anybody still reads.
fn write(text: &str) -> bool {
    let mut stdout = io::stdout();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .is_ok()
}

/// Until the next look, after one that began at `began`.
fn pause(interval: Duration, began: Instant, is_lost: bool) -> Duration {
    let took = began.elapsed();
    let wanted = interval.saturating_sub(took).max(took * REST);
    if is_lost {
        wanted.max(DIAL_AGAIN)
    } else {
        wanted
    }
}

fn on_screen(config: &Config, interval: Duration) -> i32 {
    // Before there is any other thread: none of them must be ended by one.
    let mut heard = SigSet::empty();
    heard.extend(HEARD);
    if let Err(error) = heard.thread_block() {
        say::warn(error);
        return 1;
    }
    let (sender, happenings) = mpsc::channel();
    thread::scope(|scope| {
        let threads = [
            spawn(scope, "signals", {
                let sender = sender.clone();
                move || hear(heard, &sender)
            }),
            spawn(scope, "keys", {
                let sender = sender.clone();
                move || read_keys(&sender)
            }),
            spawn(scope, "grid", move || {
                look_at_grid(config, interval, &sender)
            }),
        ];
        let ended = match threads.into_iter().collect::<io::Result<Vec<()>>>() {
            Ok(_) => show(&happenings),
            Err(error) => Ended::Failed(error.to_string()),
        };
        // The other threads wait for what may never come: the process ends without them.
        end(ended)
    })
}

fn spawn<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() + Send + 'scope,
) -> io::Result<()> {
    thread::Builder::new()
        .name(name.into())
        .spawn_scoped(scope, work)
        .map(drop)
}

/// How it ended.
enum Ended {
    Asked,
    By(Signal),
    Failed(String),
}

fn end(ended: Ended) -> ! {
    screen::leave();
    match ended {
        Ended::Asked => std::process::exit(0),
        Ended::By(signal) => {
            signals::die_by(signal);
            std::process::exit(128 + signal as i32)
        }
        Ended::Failed(why) => {
            say::warn(clean(&why));
            std::process::exit(1)
        }
    }
}

fn hear(heard: SigSet, sender: &Sender<Happening>) {
    while let Ok(signal) = heard.wait() {
        if sender.send(Happening::Signal(signal)).is_err() {
            return;
        }
    }
}

fn read_keys(sender: &Sender<Happening>) {
    let mut bytes = [0; 64];
    // Without a terminal there are no keys, and signals end it.
    while let Ok(length @ 1..) = io::stdin().read(&mut bytes) {
        if sender
            .send(Happening::Keys(bytes[..length].to_vec()))
            .is_err()
        {
            return;
        }
    }
}

fn look_at_grid(config: &Config, interval: Duration, sender: &Sender<Happening>) {
    let mut observer = Observer::new(config);
    loop {
        let began = Instant::now();
        let looked = observer.look();
        let is_lost = looked.is_err();
        if sender
            .send(Happening::Looked(looked.map(Box::new)))
            .is_err()
        {
            return;
        }
        thread::sleep(pause(interval, began, is_lost));
    }
}

/// What is on the screen, and why.
struct Shown {
    view: View,
    keys: Keys,
    snapshot: Snapshot,
    trouble: Option<String>,
    /// None before the grid has answered once.
    screen: Option<Screen>,
    is_coloured: bool,
}

fn show(happenings: &Receiver<Happening>) -> Ended {
    let is_coloured = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut shown = Shown {
        view: View::default(),
        keys: Keys::default(),
        snapshot: Snapshot::default(),
        trouble: None,
        screen: None,
        is_coloured,
    };
    while let Ok(first) = happenings.recv() {
        for happening in std::iter::once(first).chain(happenings.try_iter()) {
            if let Some(ended) = shown.take(happening) {
                return ended;
            }
        }
        if let Err(error) = shown.draw() {
            return Ended::Failed(format!("the terminal: {error}"));
        }
        thread::sleep(DRAW);
    }
    Ended::Asked
}

impl Shown {
    /// Takes in what happened. Gives how all ends, if it does.
    fn take(&mut self, happening: Happening) -> Option<Ended> {
        match happening {
            Happening::Keys(bytes) => {
                let keys = self.keys.read(&bytes);
                let is_over = keys
                    .into_iter()
                    .any(|key| self.view.press(key, &self.snapshot));
                return is_over.then_some(Ended::Asked);
            }
            Happening::Looked(Ok(snapshot)) => {
                self.snapshot = *snapshot;
                self.trouble = None;
                if self.screen.is_none() {
                    return self
                        .enter()
                        .err()
                        .map(|error| Ended::Failed(error.to_string()));
                }
            }
            Happening::Looked(Err(Trouble::Lost(why))) if self.screen.is_some() => {
                self.trouble = Some(why);
            }
            Happening::Looked(Err(trouble)) => {
                return Some(Ended::Failed(trouble.words().to_owned()));
            }
            Happening::Signal(Signal::SIGWINCH) => {
                if let Some(screen) = &mut self.screen {
                    screen.forget();
                }
            }
            Happening::Signal(Signal::SIGTSTP) => {
                screen::leave();
                // Goes on here when the shell lets it.
                let _ = raise(Signal::SIGSTOP);
                return self.enter_again();
            }
            Happening::Signal(Signal::SIGCONT) => return self.enter_again(),
            Happening::Signal(signal) => return Some(Ended::By(signal)),
        }
        None
    }

    fn enter(&mut self) -> io::Result<()> {
        screen::leave_on_panic();
        let terminal = io::stdout().as_fd().try_clone_to_owned()?;
        self.screen = Some(Screen::enter(terminal)?);
        Ok(())
    }

    /// After a stop.
    fn enter_again(&mut self) -> Option<Ended> {
        let entered = self.screen.as_mut().map(Screen::enter_again)?;
        entered.err().map(|error| Ended::Failed(error.to_string()))
    }

    fn draw(&mut self) -> io::Result<()> {
        let Some(screen) = &mut self.screen else {
            return Ok(());
        };
        let size = screen.size();
        let lines = self
            .view
            .lines(&self.snapshot, self.trouble.as_deref(), size);
        screen.draw(
            lines
                .iter()
                .map(|line| line.drawn(size.0, self.is_coloured))
                .collect(),
        )
    }
}
