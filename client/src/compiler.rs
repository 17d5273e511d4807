//! Which program a compiler's name stands for: the one that plain `gcc` would
//! run, past our own masquerade folder, and the real compiler behind a wrapper
//! such as ccache.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hg_proto::toolchain::Family;
use nix::unistd::{AccessFlags, access};

use crate::config::Config;
use crate::os;

/// Wrappers that stand in front of a compiler.
const WRAPPERS: [&str; 7] = [
    "ccache",
    "sccache",
    "distcc",
    "icecc",
    "colorgcc",
    "fastcache",
    "buildcache",
];

/// Links that lead to a program, as the kernel counts them.
const LINKS_MAX: usize = 40;

/// What a program's name says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    /// `None` for `cc` and `c++`.
    pub family: Option<Family>,
    /// `g++`, `clang++`, `c++`.
    pub cxx: bool,
}

/// How to run what the user asked for, exactly as they would have.
#[derive(Debug, Clone)]
pub struct Command {
    /// The file to run.
    pub program: PathBuf,
    /// What it sees as its own name.
    pub arg0: OsString,
    /// Its arguments, as typed.
    pub args: Vec<OsString>,
    /// PATH without our masquerade; `None`: as it is.
    pub path: Option<OsString>,
}

/// A command, and the compiler that it comes down to.
#[derive(Debug, Clone)]
pub struct Found {
    /// What plainly runs.
    pub command: Command,
    /// The compiler itself; not the same where a wrapper stands in front.
    pub driver: PathBuf,
    /// Arguments for the driver.
    pub args: Vec<OsString>,
    /// What its name says.
    pub name: Option<Name>,
}

impl Found {
    /// Whether something stands in front of the compiler.
    pub fn is_wrapped(&self) -> bool {
        self.driver != self.command.program
    }

    /// What the driver is to see as its own name: a wrapper's would make it
    /// look beside the wrapper.
    pub fn driver_name(&self) -> OsString {
        match self.is_wrapped() {
            false => self.command.arg0.clone(),
            true => self.driver.clone().into(),
        }
    }
}

/// `gcc`, `x86_64-linux-gnu-g++-12`, `clang++`, `cc` ...
pub fn name_of(program: &OsStr) -> Option<Name> {
    let base = Path::new(program).file_name()?.to_str()?;
    let bare = match base.rsplit_once('-') {
        Some((front, version))
            if !version.is_empty() && version.bytes().all(|c| c.is_ascii_digit() || c == b'.') =>
        {
            front
        }
        _ => base,
    };
    let tail = bare.rsplit('-').next()?;
    let (family, cxx) = match tail {
        "gcc" => (Some(Family::Gcc), false),
        "g++" => (Some(Family::Gcc), true),
        "clang" => (Some(Family::Clang), false),
        "clang++" => (Some(Family::Clang), true),
        "cc" => (None, false),
        "c++" => (None, true),
        _ => return None,
    };
    Some(Name { family, cxx })
}

/// Whether `name` is hgbuild itself, not called by a compiler's name.
pub fn is_hgbuild(name: &OsStr) -> bool {
    if name_of(name).is_some() {
        return false;
    }
    let search = Search::new();
    if name.as_bytes().contains(&b'/') {
        return search.is_ourselves(Path::new(name));
    }
    env::split_paths(&search.path)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file() && access(candidate, AccessFlags::X_OK).is_ok())
        .is_some_and(|first| search.is_ourselves(&first))
}

/// Finds what `name` stands for. `None`: there is no such program.
pub fn find(name: &OsStr, args: &[OsString], config: &Config) -> Option<Found> {
    let name = match name.to_str() {
        Some("cc") => config.cc.as_deref().unwrap_or(name),
        Some("c++") => config.cxx.as_deref().unwrap_or(name),
        _ => name,
    };
    let search = Search::new();
    let program = search.first(name, |_| false)?;
    // A masquerade's link by its full name must not be what the compiler takes
    // for its own place.
    let by_link = name.as_bytes().contains(&b'/') && search.is_ourselves(Path::new(name));
    let command = Command {
        arg0: if by_link {
            program.clone().into()
        } else {
            name.to_owned()
        },
        args: args.to_vec(),
        path: search.clean_path(),
        program,
    };
    let mut found = Found {
        driver: command.program.clone(),
        args: args.to_vec(),
        name: name_of(name),
        command,
    };
    if is_wrapper(&found.command.program) {
        see_through(&mut found, name, &search)?;
    }
    Some(found)
}

/// `ccache gcc -c x.c`, or a `gcc` that is a link to ccache.
fn see_through(found: &mut Found, name: &OsStr, search: &Search) -> Option<()> {
    let real = |name: &OsStr| search.first(name, is_wrapper);
    if found.name.is_some() {
        if let Some(driver) = real(name) {
            found.driver = driver;
        }
    } else if let Some((inner, rest)) = found.args.split_first()
        && let Some(kind) = name_of(inner)
        && let Some(driver) = real(inner)
    {
        found.driver = driver;
        found.name = Some(kind);
        found.args = rest.to_vec();
    }
    Some(())
}

fn is_wrapper(program: &Path) -> bool {
    real_name(program)
        .to_str()
        .is_some_and(|base| WRAPPERS.contains(&base))
}

/// The name of what `program` is a link to, in the end. Its folder may be a
/// link too, which says nothing of its name.
pub fn real_name(program: &Path) -> OsString {
    let mut at = program.to_path_buf();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&at) {
            Ok(target) => at = at.parent().unwrap_or(Path::new("")).join(target),
            Err(_) => break,
        }
    }
    at.file_name().unwrap_or_default().to_owned()
}

/// The folders of PATH, and which program is ourselves.
pub struct Search {
    path: OsString,
    /// Device and inode.
    own: Option<(u64, u64)>,
    masquerade: Option<PathBuf>,
}

impl Default for Search {
    fn default() -> Self {
        Search::new()
    }
}

impl Search {
    /// Over the PATH of this process.
    pub fn new() -> Self {
        Search {
            path: env::var_os("PATH").unwrap_or_default(),
            own: env::current_exe().ok().and_then(|own| os::place(&own)),
            masquerade: env::var_os("HG_MASQUERADE").map(PathBuf::from),
        }
    }

    /// The program that a shell would run for `name`, leaving out ourselves
    /// and what `skip` says.
    pub fn first(&self, name: &OsStr, skip: impl Fn(&Path) -> bool) -> Option<PathBuf> {
        let fits = |candidate: &Path| {
            let meta = fs::metadata(candidate);
            meta.is_ok_and(|meta| meta.is_file() && Some((meta.dev(), meta.ino())) != self.own)
                && access(candidate, AccessFlags::X_OK).is_ok()
                && !skip(candidate)
        };
        if name.as_bytes().contains(&b'/') {
            let named = PathBuf::from(name);
            if fits(&named) {
                return std::path::absolute(named).ok();
            }
            // A masquerade's link by its full name, as a configured build keeps it.
            if !self.is_ourselves(&named) {
                return None;
            }
            return self.first(named.file_name()?, skip);
        }
        env::split_paths(&self.path)
            .filter(|folder| Some(folder) != self.masquerade.as_ref())
            .map(|folder| folder.join(name))
            .find(|candidate| fits(candidate))
            .and_then(|found| std::path::absolute(found).ok())
    }

    fn is_ourselves(&self, candidate: &Path) -> bool {
        self.own.is_some() && os::place(candidate) == self.own
    }

    /// PATH without the masquerade folder, if that is in it.
    pub fn clean_path(&self) -> Option<OsString> {
        let masquerade = self.masquerade.as_ref()?;
        let kept: Vec<PathBuf> = env::split_paths(&self.path)
            .filter(|folder| folder != masquerade)
            .collect();
        env::join_paths(kept).ok()
    }

    /// The folders in order, without the masquerade.
    pub fn folders(&self) -> Vec<PathBuf> {
        env::split_paths(&self.path)
            .filter(|folder| Some(folder) != self.masquerade.as_ref())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let gcc = |name: &str| name_of(OsStr::new(name));
        assert_eq!(gcc("/usr/bin/gcc-12").unwrap().family, Some(Family::Gcc));
        assert!(gcc("aarch64-linux-gnu-g++").unwrap().cxx);
        assert!(gcc("x86_64-linux-gnu-g++-12.2").unwrap().cxx);
        assert_eq!(gcc("clang++-14").unwrap().family, Some(Family::Clang));
        assert_eq!(gcc("c++").unwrap().family, None);
        for other in [
            "gcc-ar",
            "clang-format",
            "clang-14-x",
            "make",
            "ld",
            "ccache",
            "c99",
        ] {
            assert_eq!(gcc(other), None, "{other}");
        }
    }
}
