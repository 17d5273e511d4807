//! Who takes part: the plain compiler, every ccache in PATH, sccache, hgbuild.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hg_tests::command::scrubbed;
use hg_tests::event;
use hg_tests::{in_path, skip};

use super::server::Server;
use super::units::Unit;

/// A way to compile, with a cache of its own.
pub struct Contender {
    /// For the table.
    pub name: String,
    kind: Kind,
    /// Holds its cache and its home.
    folder: PathBuf,
    /// The process that does its work, if that is another one.
    server: Option<Server>,
}

#[derive(PartialEq, Eq)]
enum Kind {
    /// `/bin/true`: what starting a process costs.
    Floor,
    Plain,
    Ccache(PathBuf),
    Sccache(PathBuf),
    Ours(PathBuf),
}

impl Contender {
    /// Everybody, the floor first, hgbuild next, each below `folder`.
    pub fn all(client: &Path, folder: &Path) -> Vec<Contender> {
        let new = |name: &str, kind: Kind| Contender {
            name: name.to_owned(),
            kind,
            folder: folder.join(name.replace(['/', ' '], "_")),
            server: None,
        };
        let mut all = vec![
            new("/bin/true", Kind::Floor),
            new("hgbuild", Kind::Ours(client.to_path_buf())),
            new("plain", Kind::Plain),
        ];
        let ccaches = ccaches();
        if ccaches.is_empty() {
            skip("ccache", "not installed");
        }
        for program in ccaches {
            let name = format!("ccache {} {}", version(&program), program.display());
            all.push(new(&name, Kind::Ccache(program)));
        }
        match in_path("sccache") {
            Some(program) => {
                let name = format!("sccache {} (CPU: its client)", version(&program));
                all.push(new(&name, Kind::Sccache(program)));
            }
            None => skip("sccache", "not installed"),
        }
        all.iter_mut().for_each(Contender::prepare);
        all
    }

    /// hgbuild with a cache in `folder`.
    pub fn ours(client: &Path, folder: &Path) -> Contender {
        let mut ours = Contender {
            name: "hgbuild".to_owned(),
            kind: Kind::Ours(client.to_path_buf()),
            folder: folder.to_path_buf(),
            server: None,
        };
        ours.prepare();
        ours
    }

    fn prepare(&mut self) {
        for folder in [self.home(), self.cache()] {
            fs::create_dir_all(folder).expect("a folder");
        }
        if let Kind::Sccache(program) = &self.kind {
            self.server = Some(Server::start(program, &self.folder, &self.cache()));
        }
    }

    /// hgbuild.
    pub fn is_ours(&self) -> bool {
        matches!(self.kind, Kind::Ours(_))
    }

    /// `/bin/true`.
    pub fn is_floor(&self) -> bool {
        self.kind == Kind::Floor
    }

    /// One that remembers.
    pub fn is_cache(&self) -> bool {
        matches!(
            self.kind,
            Kind::Ours(_) | Kind::Ccache(_) | Kind::Sccache(_)
        )
    }

    /// The process that does its work, if that is another one.
    pub fn server(&self) -> Option<u32> {
        self.server.as_ref().map(Server::id)
    }

    fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// Where its cache is.
    pub fn cache(&self) -> PathBuf {
        self.folder.join("cache")
    }

    /// Forgets all results; what is known of the compiler stays.
    pub fn forget(&mut self) {
        // A server remembers what is in its cache.
        self.server = None;
        fs::remove_dir_all(self.cache()).expect("a cache");
        self.prepare();
    }

    /// Program and arguments that compile `unit`.
    fn words(&self, unit: &Unit) -> Vec<OsString> {
        let compile = unit.words.iter().map(OsString::from);
        match &self.kind {
            Kind::Floor => vec!["/bin/true".into()],
            Kind::Plain => compile.collect(),
            Kind::Ccache(program) | Kind::Sccache(program) | Kind::Ours(program) => {
                std::iter::once(program.into()).chain(compile).collect()
            }
        }
    }

    /// Compiles `unit`, its words thrown away.
    pub fn command(&self, unit: &Unit) -> Command {
        self.behind(&[], unit)
    }

    /// As [`Contender::command`], with another program and its arguments in front.
    pub fn behind(&self, front: &[OsString], unit: &Unit) -> Command {
        let words = [front, &self.words(unit)].concat();
        let mut command = scrubbed(&words[0], &unit.folder, &self.home());
        command
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        match &self.kind {
            Kind::Ccache(_) => command.env("CCACHE_DIR", self.cache()),
            Kind::Ours(_) => hg_tests::cache::switch_on(&mut command, &self.cache()),
            Kind::Sccache(_) => match &self.server {
                Some(server) => command.envs(server.environment()),
                None => &mut command,
            },
            Kind::Floor | Kind::Plain => &mut command,
        };
        command
    }

    /// How hgbuild compiles `unit` now: `direct-hit` and the like. `None`: it fails, or
    /// this is somebody else.
    pub fn mode(&self, unit: &Unit) -> Option<String> {
        if !self.is_ours() {
            return None;
        }
        let log = self.folder.join("events.jsonl");
        let _ = fs::remove_file(&log);
        let status = self.command(unit).env("HG_EVENT_LOG", &log).status();
        let last = event::read(&log).pop();
        last.filter(|_| status.is_ok_and(|status| status.success()))
            .map(|event| event.reason)
    }

    /// Whether it answers `unit` from its cache now.
    pub fn hits(&self, unit: &Unit) -> bool {
        match &self.kind {
            Kind::Floor | Kind::Plain => true,
            Kind::Ours(_) => self.mode(unit).is_some_and(|mode| mode.ends_with("-hit")),
            Kind::Ccache(program) => {
                let before = self.ccache_hits(program);
                let status = self.command(unit).status();
                status.is_ok_and(|status| status.success()) && self.ccache_hits(program) > before
            }
            Kind::Sccache(program) => {
                let hits = || self.server.as_ref().and_then(|server| server.hits(program));
                let before = hits();
                let status = self.command(unit).status();
                status.is_ok_and(|status| status.success()) && hits() > before
            }
        }
    }

    fn ccache_hits(&self, program: &Path) -> u64 {
        let mut command = scrubbed(program, &self.folder, &self.home());
        command.arg("--print-stats").env("CCACHE_DIR", self.cache());
        let output = command.output().map(|output| output.stdout);
        let text = String::from_utf8_lossy(&output.unwrap_or_default()).into_owned();
        text.lines()
            .filter_map(|line| line.split_once('\t'))
            .filter(|(name, _)| name.ends_with("_cache_hit"))
            .filter_map(|(_, count)| count.trim().parse::<u64>().ok())
            .sum()
    }
}

/// Each file of that name in PATH once.
fn ccaches() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<PathBuf> = std::env::split_paths(&path)
        .filter_map(|folder| fs::canonicalize(folder.join("ccache")).ok())
        .filter(|file| file.is_file())
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|file| seen.insert(file.clone()));
    found
}

fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    let first = text.lines().next().unwrap_or_default();
    first.rsplit(' ').next().unwrap_or_default().to_owned()
}
