//! What the user set: flag, environment, `~/.hybridgrid/config.toml`, default,
//! in that order. Unaware of what is done with it.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hg_proto::log::Level;
use hg_proto::secure::credentials::{self, TOKEN_VARIABLE};
use hg_proto::secure::tls::{self, Pki};
use hg_proto::secure::token::{Fingerprint, Token};
use serde::Deserialize;

use crate::cli::Flags;
use crate::private;
use hg_proto::size;

/// Where settings are kept, in the home folder.
pub const FILE_NAME: &str = "config.toml";
/// Bytes of a configuration file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The local cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSettings {
    /// The cache's folder.
    pub folder: PathBuf,
    /// The user named that folder.
    pub chosen: bool,
    /// Bytes of all entries together.
    pub size_bytes_max: u64,
    /// Answers are taken, and nothing is kept.
    pub read_only: bool,
    /// Nothing is taken, and all is kept anew.
    pub recache: bool,
    /// Below this folder, paths need not be the same for an answer to be.
    pub base: Option<PathBuf>,
    /// Trouble with it was told already, by the build above us.
    pub warned: bool,
    /// The file of that build whose removal is the right to tell of trouble.
    pub right: Option<PathBuf>,
}

impl CacheSettings {
    /// Whether the cache's folder is there, and nobody puts objects into it who was not
    /// meant to.
    ///
    /// # Errors
    /// Somebody may: in words, with what mends it.
    pub fn trust(&self) -> Result<bool, String> {
        let folder = &self.folder;
        let itself = fs::symlink_metadata(folder);
        let meta = match itself {
            Ok(link) if link.is_symlink() => {
                private::check_link(folder, &link)?;
                fs::metadata(folder)
            }
            itself => itself,
        };
        match meta {
            Ok(meta) if self.chosen => private::check_chosen(folder, &meta, self.read_only)?,
            Ok(meta) => private::check(folder, &meta)?,
            // It is made, or opening it says what is wrong.
            Err(_) => return Ok(false),
        }
        Ok(true)
    }

    /// A folder in the cache for this user's own notes; the cache may be a team's, whose
    /// members have objects in common and nothing else. `None`: there can't be one.
    fn own_folder(&self) -> Option<PathBuf> {
        if self.read_only || !self.trust().is_ok_and(|is_there| is_there) {
            return None;
        }
        let folder = self.folder.join(format!("user-{}", nix::unistd::geteuid()));
        match fs::symlink_metadata(&folder) {
            Ok(meta) => private::check(&folder, &meta).ok()?,
            Err(_) => private::make(&folder).ok()?,
        }
        Some(folder)
    }
}

/// Bytes of the cache when nothing is said.
const CACHE_BYTES_DEFAULT: u64 = 10 << 30;

/// All settings, resolved.
#[derive(Debug, Clone)]
pub struct Config {
    /// `HOST:PORT` of the grid port; `None`: no grid is known.
    pub coordinator: Option<String>,
    /// That was named by flag, environment or file.
    pub is_named: bool,
    /// The certificate by which a coordinator that was not named is known, wherever it is; it
    /// may be looked for.
    pub sought: Option<Fingerprint>,
    /// A coordinator may be looked for by mDNS.
    pub mdns: bool,
    /// The coordinator is spoken to in plaintext, without a token.
    pub insecure: bool,
    /// Certificates of the operator's own.
    pub pki: Pki,
    /// How many compiles that could travel may run here; `None`: our choice.
    pub local_slots: Option<usize>,
    /// A failure of the grid ends in a local compile.
    pub fallback: bool,
    /// `None`: nothing is cached.
    pub cache: Option<CacheSettings>,
    /// The wrapper does nothing but run the compiler.
    pub disabled: bool,
    /// What is said on stderr.
    pub level: Level,
    /// One JSON line per invocation goes here.
    pub event_log: Option<PathBuf>,
    /// One JSON line per invocation goes here too, for the build command above us.
    pub summary_log: Option<PathBuf>,
    /// Where the trace of a build goes.
    pub trace: Option<PathBuf>,
    /// Where the build command above us holds a connection to the grid.
    pub relay: Option<PathBuf>,
    /// What `cc` stands for.
    pub cc: Option<OsString>,
    /// What `c++` stands for.
    pub cxx: Option<OsString>,
    /// Milliseconds that a task may wait for a worker.
    pub queue_ms_max: u32,
    /// Workers are given compilers that they lack.
    pub ship: bool,
    /// A build shows on a terminal how far it has come.
    pub status_line: bool,
    /// `~/.hybridgrid`; `None`: no home folder, or one that is left alone.
    pub home: Option<PathBuf>,
    /// Why the home folder is left alone, if it is and nobody said so; a trouble too.
    pub refused: Option<String>,
    /// What is wrong with the settings: the grid is not used then.
    pub trouble: Option<String>,
    /// All that is wrong with them, of the file the first thing alone.
    pub troubles: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    coordinator: Option<String>,
    mdns: Option<bool>,
    insecure: Option<bool>,
    tls_ca: Option<PathBuf>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    local_slots: Option<usize>,
    fallback: Option<bool>,
    log: Option<String>,
    event_log: Option<PathBuf>,
    cc: Option<String>,
    cxx: Option<String>,
    queue_ms_max: Option<u32>,
    ship: Option<bool>,
    status_line: Option<bool>,
    cache_dir: Option<PathBuf>,
    cache_max_size: Option<String>,
    base_dir: Option<PathBuf>,
}

impl Config {
    /// Reads environment and file. Never fails: what is wrong is in
    /// [`Config::trouble`], since a build must not end over it.
    pub fn load(flags: &Flags) -> Self {
        let mut troubles = Vec::new();
        let home = home().map_or(Ok(None), trusted).unwrap_or_else(|why| {
            troubles.push(why);
            None
        });
        let refused = troubles.first().cloned();
        let refused = refused.filter(|_| !is_on("HG_CACHE_WARNED"));
        let file = match home.as_deref().map(read_file) {
            Some(Ok(file)) => file,
            Some(Err(why)) => {
                troubles.push(why);
                File::default()
            }
            None => File::default(),
        };
        let mut note = |result: Result<(), String>| {
            if let Err(why) = result {
                troubles.push(why);
            }
        };

        let mut local_slots = file.local_slots;
        note(number("HG_LOCAL_SLOTS").map(|value| local_slots = value.or(local_slots)));
        let mut queue_ms_max = file.queue_ms_max.unwrap_or(30_000);
        note(number("HG_QUEUE_MS_MAX").map(|value| queue_ms_max = value.unwrap_or(queue_ms_max)));
        let mut fallback = file.fallback.unwrap_or(true);
        note(switch("HG_FALLBACK").map(|value| fallback = value.unwrap_or(fallback)));
        let mut ship = file.ship.unwrap_or(true);
        let mut status_line = file.status_line.unwrap_or(true);
        note(switch("HG_STATUS_LINE").map(|value| status_line = value.unwrap_or(status_line)));
        note(switch("HG_SHIP").map(|value| ship = value.unwrap_or(ship)));
        let mut level = Level::Off;
        let named = env::var("HG_LOG").ok().or(file.log);
        note(named.map_or(Ok(()), |name| level_named(&name).map(|found| level = found)));
        let mut mdns = file.mdns.unwrap_or(true);
        note(switch("HG_MDNS").map(|value| mdns = value.unwrap_or(mdns)));
        let mut coordinator = flags
            .coordinator
            .clone()
            .or_else(|| text("HG_COORDINATOR"))
            .or(file.coordinator);
        let is_named = coordinator.is_some();
        let mut insecure = file.insecure.unwrap_or(false);
        note(switch("HG_INSECURE").map(|value| insecure = value.unwrap_or(insecure)));
        let file_of =
            |flag: &Option<PathBuf>, name, set| flag.clone().or_else(|| path(name)).or(set);
        let pki = Pki {
            ca: file_of(&flags.tls_ca, "HG_TLS_CA", file.tls_ca),
            certificate: file_of(&flags.tls_cert, "HG_TLS_CERT", file.tls_cert),
            key: file_of(&flags.tls_key, "HG_TLS_KEY", file.tls_key),
        };
        let insecure = insecure || flags.insecure;
        let mut sought = None;
        if !is_named {
            let known = joined(home.as_deref());
            coordinator = known.address;
            // In plaintext anybody could be it, and an authority of the operator's own knows
            // it by its name.
            sought = known.pin.filter(|_| mdns && !insecure && pki.is_empty());
        }
        if let Some(address) = &coordinator {
            note(check_address(address));
        }
        if flags.verbose {
            level = level.max(Level::Info);
        }
        let folder = path("HG_CACHE_DIR").or(file.cache_dir);
        let size = text("HG_CACHE_MAX_SIZE").or(file.cache_max_size);
        let base = path("HG_BASE_DIR").or(file.base_dir);
        let cache = cache(folder, home.as_deref(), size.as_deref(), base);
        let cache = cache.unwrap_or_else(|why| {
            note(Err(why));
            None
        });
        if !troubles.is_empty() {
            coordinator = None;
            sought = None;
        }
        Config {
            coordinator,
            is_named,
            sought,
            mdns,
            insecure,
            pki,
            local_slots,
            fallback: fallback && !flags.no_fallback,
            cache,
            disabled: is_on("HG_DISABLE"),
            level,
            event_log: path("HG_EVENT_LOG").or(file.event_log),
            summary_log: path("HG_SUMMARY_LOG"),
            trace: flags.trace.clone(),
            relay: path("HG_RELAY"),
            cc: env::var_os("HG_CC").or(file.cc.map(OsString::from)),
            cxx: env::var_os("HG_CXX").or(file.cxx.map(OsString::from)),
            queue_ms_max,
            ship,
            status_line,
            home,
            refused,
            trouble: troubles.first().cloned(),
            troubles,
        }
    }

    /// Where `join` keeps a token.
    pub fn token_file(&self) -> Option<PathBuf> {
        self.home.as_deref().map(token_file)
    }

    /// Where is kept at which address the coordinator with `fingerprint` was found.
    pub fn found_file(&self, fingerprint: &Fingerprint) -> Option<PathBuf> {
        self.home
            .as_deref()
            .map(|home| found_file(home, fingerprint))
    }

    /// What memos of the grid at `address` are about: whoever asks otherwise, or as
    /// somebody else, may be answered otherwise.
    pub fn grid_key(&self, address: &str) -> Vec<u8> {
        let Pki {
            ca,
            certificate,
            key,
        } = &self.pki;
        let token = env::var_os(TOKEN_VARIABLE).filter(|token| !self.insecure && !token.is_empty());
        let files = [ca, certificate, key].map(|file| file.as_ref().map(|file| file.as_os_str()));
        let mut grid_key = address.as_bytes().to_vec();
        for word in files.into_iter().chain([token.as_deref()]) {
            grid_key.push(0);
            grid_key.extend_from_slice(word.unwrap_or_default().as_encoded_bytes());
        }
        grid_key.push(u8::from(self.insecure));
        grid_key
    }

    /// Where locks and short-lived memos lie.
    pub fn run_folder(&self) -> Option<PathBuf> {
        self.home.as_deref().map(run_folder)
    }

    /// Where is kept what compilers have said of themselves: beside the locks or, where no
    /// home is to be used, in the cache. To ask a compiler anew costs more than a hit saves.
    pub fn compiler_memos(&self) -> Option<PathBuf> {
        let in_cache = || self.cache.as_ref()?.own_folder();
        self.run_folder().or_else(in_cache)
    }
}

fn cache(
    folder: Option<PathBuf>,
    home: Option<&Path>,
    size: Option<&str>,
    base: Option<PathBuf>,
) -> Result<Option<CacheSettings>, String> {
    let size_bytes_max = match size {
        None => CACHE_BYTES_DEFAULT,
        Some(size) => size::parse(size).map_err(|why| format!("HG_CACHE_MAX_SIZE: {why}"))?,
    };
    if let Some(base) = base.as_ref().filter(|base| !base.is_absolute()) {
        return Err(format!(
            "HG_BASE_DIR: {}: not an absolute path",
            base.display()
        ));
    }
    let chosen = folder.is_some();
    let folder = folder.or_else(|| home.map(|home| home.join("cache")));
    Ok(folder
        .filter(|_| size_bytes_max > 0)
        .map(|folder| CacheSettings {
            folder,
            chosen,
            size_bytes_max,
            read_only: is_on("HG_READONLY_CACHE"),
            recache: is_on("HG_RECACHE"),
            base,
            warned: is_on("HG_CACHE_WARNED"),
            right: path("HG_SUMMARY_LOG").map(|log| right_to_warn(&log)),
        }))
}

/// Beside the log of a build.
pub fn right_to_warn(summary_log: &Path) -> PathBuf {
    summary_log.with_extension("warn")
}

fn token_file(home: &Path) -> PathBuf {
    home.join("token")
}

fn run_folder(home: &Path) -> PathBuf {
    home.join("run")
}

fn found_file(home: &Path, fingerprint: &Fingerprint) -> PathBuf {
    run_folder(home).join(format!("coordinator-{}", &tls::hex(fingerprint)[..16]))
}

/// What a token says of its coordinator.
#[derive(Default)]
struct Joined {
    /// Where it was last.
    address: Option<String>,
    /// Which it is.
    pin: Option<Fingerprint>,
}

/// The coordinator that the token is of: where it was found, or else where it was joined. A
/// token that is wrong is told when it is wanted.
fn joined(home: Option<&Path>) -> Joined {
    let stored = home.and_then(|home| credentials::stored(&token_file(home)).ok()?);
    let (stored, joined_at) = match stored {
        Some(stored) => (Some(stored.token), stored.coordinator),
        None => (None, None),
    };
    let token = match text(TOKEN_VARIABLE) {
        Some(text) => Token::parse(&text).ok(),
        None => stored,
    };
    let pin = token.map(|token| token.fingerprint);
    let found = home.zip(pin).and_then(|(home, pin)| {
        let found = fs::read_to_string(found_file(home, &pin)).ok()?;
        check_address(&found).ok().map(|()| found)
    });
    Joined {
        address: found.or(joined_at),
        pin,
    }
}

/// Set, to anything but a word for no.
fn is_on(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| !is_off(&value))
}

/// `folder`, if nobody else writes there; nothing below a home that is not ours.
fn trusted(folder: PathBuf) -> Result<Option<PathBuf>, String> {
    private::check_home(folder.parent().unwrap_or(&folder))?;
    match fs::metadata(&folder) {
        Ok(meta) if meta.is_dir() => private::check(&folder, &meta)?,
        // It is made, or what is wrong with it is told when it is used.
        _ => {}
    }
    Ok(Some(folder))
}

fn home() -> Option<PathBuf> {
    let home = match env::var_os("HOME") {
        Some(home) if !home.is_empty() => PathBuf::from(home),
        _ => {
            nix::unistd::User::from_uid(nix::unistd::getuid())
                .ok()??
                .dir
        }
    };
    home.is_absolute().then(|| home.join(".hybridgrid"))
}

/// What is wrong with `text`, lines of the file.
///
/// # Errors
/// In words.
pub fn check_line(text: &str) -> Result<(), String> {
    let read = toml::from_str::<File>(text);
    read.map(drop)
        .map_err(|error| error.message().replace('\n', " "))
}

fn read_file(home: &Path) -> Result<File, String> {
    let path = home.join(FILE_NAME);
    let told = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(File::default()),
        // A home that is no folder holds no settings either.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(File::default()),
        Err(error) => return Err(told(&error)),
        Ok(meta) if meta.len() > FILE_BYTES_MAX => return Err(told(&"over 1 MiB")),
        Ok(_) => {}
    }
    let text = fs::read_to_string(&path).map_err(|error| told(&error))?;
    toml::from_str(&text).map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map_or(1, |before| before.matches('\n').count() + 1);
        // One line: it is shown as a reason.
        told(&format_args!("line {line}: {}", error.message()))
    })
}

fn text(name: &str) -> Option<String> {
    let value = env::var_os(name)?.to_string_lossy().into_owned();
    (!value.is_empty()).then_some(value)
}

fn path(name: &str) -> Option<PathBuf> {
    let value = env::var_os(name)?;
    (!value.is_empty()).then(|| PathBuf::from(value))
}

fn number<T: std::str::FromStr>(name: &str) -> Result<Option<T>, String> {
    match text(name) {
        None => Ok(None),
        Some(value) => match value.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(format!("{name}={value}: not a number")),
        },
    }
}

fn is_off(value: &std::ffi::OsStr) -> bool {
    matches!(value.to_str(), Some("" | "0" | "false" | "no" | "off"))
}

fn switch(name: &str) -> Result<Option<bool>, String> {
    match text(name).as_deref() {
        None => Ok(None),
        Some("1" | "true" | "yes" | "on") => Ok(Some(true)),
        Some("0" | "false" | "no" | "off") => Ok(Some(false)),
        Some(other) => Err(format!("{name}={other}: 0 or 1")),
    }
}

fn level_named(name: &str) -> Result<Level, String> {
    match name {
        "" => Ok(Level::Off),
        _ => Level::from_name(name)
            .ok_or_else(|| format!("HG_LOG={name}: off, error, warn, info or debug")),
    }
}

/// Whether it can be one.
///
/// # Errors
/// It is not HOST:PORT.
pub fn check_address(address: &str) -> Result<(), String> {
    let wrong = || format!("coordinator {address:?}: HOST:PORT is expected");
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let port_ok = port.parse::<u16>().is_ok_and(|port| port != 0);
    let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    let odd = host.is_empty() || host.contains(['/', '@', ' ']) || host.len() > 255;
    if odd || bare_v6 || !port_ok || !address.is_ascii() {
        return Err(wrong());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in ["127.0.0.1:9000", "pi.local:1", "[::1]:9000"] {
            assert_eq!(check_address(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "host",
            "host:",
            ":9000",
            "host:0",
            "host:65536",
            "::1:9000",
            "a b:1",
            "http://h:1",
        ] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_file_knows_each_line_of_the_table() {
        for setting in crate::settings::SETTINGS {
            if let Err(error) = toml::from_str::<File>(setting.line) {
                panic!("{}: {error}", setting.line);
            }
        }
    }

    #[test]
    fn unknown_settings_are_named() {
        let error = toml::from_str::<File>("coordinatr = \"x:1\"").unwrap_err();
        assert!(error.to_string().contains("coordinatr"));
    }
}
