//! A coordinator and workers to which harm is done, one seeded step after the
//! other.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hg_tests::command::scrubbed;
use hg_tests::daemon::Daemon;
use hg_tests::grid::{http_get, token};
use hg_tests::leftover;
use hg_tests::programs::{Programs, programs};
use hg_tests::running::until;
use hg_tests::skip;
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::link::Link;

/// Workers.
const WORKERS: usize = 5;
/// How many of them are behind a wire that can be cut.
const WIRED: usize = 2;
/// Compiles at once on each worker.
const SLOTS: &str = "2";
/// For how long a worker is stopped or cut off: longer than a silent worker is
/// kept.
const AWAY_MS_MAX: u64 = 12_000;

/// Numbers that look random and are the same for the same seed (SplitMix64).
pub struct Random(pub u64);

impl Random {
    /// One of `0..bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

struct Member {
    name: String,
    daemon: Daemon,
    link: Option<Link>,
    /// When it goes on, or its wire is mended.
    away_until: Option<Instant>,
    starts: usize,
}

/// Ends with everything it started when it is dropped.
pub struct Fleet {
    members: Vec<Member>,
    coordinator: Daemon,
    programs: Programs,
    starts: usize,
    /// What was done, with milliseconds since the start.
    pub deeds: Vec<String>,
    began: Instant,
    folder: TempDir,
}

impl Fleet {
    /// All are up when it comes back.
    pub fn start() -> Fleet {
        let folder = tempfile::Builder::new().prefix("hg-chaos-").tempdir();
        let folder = folder.expect("a temporary folder");
        let programs = programs().clone();
        let links = links();
        let listen = match links.is_empty() {
            true => "127.0.0.1:0",
            false => "0.0.0.0:0",
        };
        let coordinator = start_coordinator(&programs, folder.path(), listen, 0);
        let mut fleet = Fleet {
            members: Vec::new(),
            coordinator,
            programs,
            starts: 0,
            deeds: Vec::new(),
            began: Instant::now(),
            folder,
        };
        let links = links.into_iter().map(Some);
        for (number, link) in links
            .chain(std::iter::repeat_with(|| None))
            .take(WORKERS)
            .enumerate()
        {
            let name = format!("worker-{}", number + 1);
            let daemon = fleet.start_worker(&name, link.as_ref(), 0);
            fleet.members.push(Member {
                name,
                daemon,
                link,
                away_until: None,
                starts: 0,
            });
        }
        fleet.wait_for_all();
        fleet
    }

    /// Where clients connect to.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    fn port(&self) -> String {
        let grid = self.coordinator.address("grid");
        let port = grid.rsplit(':').next();
        port.expect("a port").to_owned()
    }

    fn start_worker(&self, name: &str, link: Option<&Link>, starts: usize) -> Daemon {
        let home = self.folder.path();
        let program = &self.programs.worker;
        let (mut command, host) = match link {
            Some(link) => (link.command(program, home), link.address.as_str()),
            None => (scrubbed(program, home, home), "127.0.0.1"),
        };
        command
            .args(["serve", "--coordinator", &format!("{host}:{}", self.port())])
            .env(
                "HG_TOKEN",
                token(&self.programs, home, &["--role", "worker", "--name", name]),
            )
            .args(["--slots", SLOTS, "--name", name])
            .args(["--http", "127.0.0.1:0", "--state"])
            .arg(home.join(name));
        Daemon::start(
            name,
            &mut command,
            home.join(format!("{name}.{starts}.log")),
        )
    }

    fn wait_for_all(&self) {
        until(&self.coordinator, "all workers", || {
            let listed = http_get(&self.coordinator.address("http"), "/api/v1/workers").ok()?;
            let listed: Vec<Value> = serde_json::from_str(&listed).ok()?;
            (listed.len() == WORKERS).then_some(())
        });
    }

    /// Ends what was to end by now.
    pub fn come_back(&mut self) {
        let now = Instant::now();
        for number in 0..self.members.len() {
            if self.members[number].away_until.is_some_and(|at| at <= now) {
                self.bring_back(number);
            }
        }
    }

    fn bring_back(&mut self, number: usize) {
        let member = &mut self.members[number];
        if member.away_until.take().is_some() {
            if let Some(link) = &mut member.link {
                link.mend();
            }
            member.daemon.signal(Signal::SIGCONT);
            let deed = format!("{} is back", member.name);
            self.note(deed);
        }
    }

    fn note(&mut self, deed: String) {
        self.deeds
            .push(format!("{} ms: {deed}", self.began.elapsed().as_millis()));
    }

    /// Does some harm.
    pub fn harm(&mut self, random: &mut Random) {
        let number = random.below(self.members.len() as u64) as usize;
        let away = Duration::from_millis(random.below(AWAY_MS_MAX));
        match random.below(16) {
            0..=4 => self.restart_worker(number, Signal::SIGKILL),
            5..=7 => self.restart_worker(number, Signal::SIGTERM),
            8..=11 => self.stop(number, away),
            12..=14 => self.cut(number, away),
            _ => {
                let kill = random.below(2) == 0;
                let signal = if kill {
                    Signal::SIGKILL
                } else {
                    Signal::SIGTERM
                };
                self.restart_coordinator(signal);
            }
        }
    }

    fn restart_worker(&mut self, number: usize, signal: Signal) {
        if signal == Signal::SIGTERM {
            // It can't drain while it is stopped.
            self.bring_back(number);
        }
        self.note(format!("{signal} to {}", self.members[number].name));
        let member = &mut self.members[number];
        let ended = member.daemon.end(signal);
        let drained = signal != Signal::SIGTERM || ended.is_some_and(|status| status.success());
        assert!(
            drained,
            "{}: {ended:?}\n{}",
            member.name,
            member.daemon.stderr()
        );
        member.starts += 1;
        let member = &self.members[number];
        let daemon = self.start_worker(&member.name, member.link.as_ref(), member.starts);
        self.members[number].daemon = daemon;
    }

    fn stop(&mut self, number: usize, away: Duration) {
        let member = &mut self.members[number];
        if member.away_until.is_none() {
            member.daemon.signal(Signal::SIGSTOP);
            member.away_until = Some(Instant::now() + away);
            let deed = format!("SIGSTOP to {} for {away:?}", member.name);
            self.note(deed);
        }
    }

    fn cut(&mut self, number: usize, away: Duration) {
        let member = &mut self.members[number];
        let Some(link) = &mut member.link else {
            return self.stop(number, away);
        };
        if member.away_until.is_none() {
            link.cut();
            member.away_until = Some(Instant::now() + away);
            let deed = format!("the wire of {} is cut for {away:?}", member.name);
            self.note(deed);
        }
    }

    fn restart_coordinator(&mut self, signal: Signal) {
        self.note(format!("{signal} to the coordinator"));
        let listen = self.coordinator.address("grid");
        self.coordinator.end(signal);
        self.starts += 1;
        let home = self.folder.path();
        self.coordinator = start_coordinator(&self.programs, home, &listen, self.starts);
    }

    /// Ends all harm, and waits until every worker is there and does nothing.
    pub fn calm_down(&mut self) {
        for number in 0..self.members.len() {
            self.bring_back(number);
        }
        self.wait_for_all();
        for member in &self.members {
            let tasks = self.folder.path().join(&member.name).join("tasks");
            until(&member.daemon, "a worker without tasks", || {
                let folders = std::fs::read_dir(&tasks).ok()?.count();
                (folders == 0 && leftover::processes(&tasks).is_empty()).then_some(())
            });
        }
    }

    /// Every daemon ends when it is told to, and nothing is left.
    pub fn end(mut self) {
        let mut daemons: Vec<(&str, &mut Daemon)> = Vec::new();
        for member in &mut self.members {
            daemons.push((&member.name, &mut member.daemon));
        }
        daemons.push(("coordinator", &mut self.coordinator));
        for (name, daemon) in daemons {
            let ended = daemon.end(Signal::SIGTERM);
            let well = ended.is_some_and(|status| status.success());
            assert!(well, "{name}: {ended:?}\n{}", daemon.stderr());
        }
        let left = leftover::processes(self.folder.path());
        assert!(left.is_empty(), "left behind: {left:#?}");
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // Workers that are cut off would wait for the other end.
        for number in 0..self.members.len() {
            self.bring_back(number);
        }
    }
}

/// As many as are wanted, or none.
fn links() -> Vec<Link> {
    match (0..WIRED).map(Link::lay).collect() {
        Ok(links) => links,
        Err(why) => {
            skip("wires that are cut", &why);
            Vec::new()
        }
    }
}

fn start_coordinator(programs: &Programs, home: &Path, listen: &str, starts: usize) -> Daemon {
    let state: PathBuf = home.join("coordinator");
    let mut command: Command = scrubbed(&programs.coordinator, home, home);
    command
        .args(["serve", "--cache-size", "off", "--listen", listen])
        .args(["--http", "127.0.0.1:0", "--state"])
        .arg(state);
    let log = home.join(format!("coordinator.{starts}.log"));
    Daemon::start("coordinator", &mut command, log)
}
