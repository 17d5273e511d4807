//! Which program a compiler's name stands for: the one that plain `gcc` would
//! run, past whatever leads to us under that name, and the real compiler behind
//! a wrapper such as ccache.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hg_proto::compiler::toolchain::Family;
use nix::unistd::{AccessFlags, access};

use crate::config::Config;
use crate::local::passed::Passed;

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

/// What our own program is called.
const OWN_NAME: &str = "hgbuild";

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
    /// The file to run, as it was named or as PATH spells it: a script's `$0`.
    /// There is a slash in the path.
    pub program: PathBuf,
    /// What the program sees as its own name (`argv[0]`).
    pub arg0: OsString,
    /// The arguments as typed.
    pub args: Vec<OsString>,
    /// PATH without our masquerade; `None`: PATH as it is.
    pub path: Option<OsString>,
    /// Variables that are set for the program and those below it.
    pub marks: Vec<(&'static str, OsString)>,
}

/// A command, and the compiler that it comes down to.
#[derive(Debug, Clone)]
pub struct Found {
    /// The command as the user would have run it.
    pub command: Command,
    /// The compiler itself, by an absolute path.
    pub driver: PathBuf,
    /// A wrapper such as ccache stands in front of the compiler.
    pub wrapped: bool,
    /// Arguments for the compiler itself, without the wrapper's.
    pub args: Vec<OsString>,
    /// What the compiler's name says; `None`: it is not a compiler's.
    pub name: Option<Name>,
}

impl Found {
    /// `args` for the compiler itself, past what stands in front of it.
    pub fn driver_command(&self, args: Vec<OsString>) -> Command {
        Command {
            program: self.driver.clone(),
            // A wrapper's name would make it look beside the wrapper.
            arg0: match self.wrapped {
                false => self.command.arg0.clone(),
                true => self.driver.clone().into(),
            },
            args,
            path: self.command.path.clone(),
            marks: vec![served()],
        }
    }

    /// Marks the command before it is run as typed, so that it ends whatever it is: a
    /// script or a wrapper that comes back to us is not taken for the compiler again,
    /// nor are we by another hgbuild that can't tell what we are.
    pub fn mark(&mut self) {
        if self.name.is_none() {
            return;
        }
        let mut passed = Passed::inherited();
        let own = env::current_exe().ok();
        let script = is_script(&self.command.program);
        let again = (self.wrapped || script).then_some(&self.command.program);
        for meta in own.iter().chain(again).flat_map(fs::metadata) {
            passed.add(&meta);
        }
        self.command.marks.push(passed.hand_on());
        // A script has no slot, and may come back to us for one.
        if !script {
            self.command.marks.push(served());
        }
    }
}

/// What runs below has its slot, and grid and cache were asked for it. An hgbuild that
/// we took for a compiler must not wait for another slot while we hold ours.
fn served() -> (&'static str, OsString) {
    ("HG_DISABLE", "1".into())
}

/// Whether the kernel runs it by another program.
pub fn is_script(program: &Path) -> bool {
    let mut magic = [0; 2];
    let read = File::open(program).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && &magic == b"#!"
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
    let first = search.first(name, |_| false)?;
    let driver = std::path::absolute(&first.program).ok()?;
    let command = Command {
        // By its bare name, or that of a link to us, a compiler would find us and take
        // our place for its own.
        arg0: match first.past_us {
            true => driver.clone().into(),
            false => name.to_owned(),
        },
        program: first.program,
        args: args.to_vec(),
        path: search.clean_path(),
        marks: Vec::new(),
    };
    let mut found = Found {
        driver,
        wrapped: false,
        args: args.to_vec(),
        name: name_of(name),
        command,
    };
    if is_wrapper(&first.real_name) {
        resolve_wrapper(&mut found, name, &search);
    }
    Some(found)
}

/// `ccache gcc -c x.c`, or a `gcc` that is a link to ccache.
fn resolve_wrapper(found: &mut Found, name: &OsStr, search: &Search) {
    let real = |name: &OsStr| {
        let first = search.first(name, is_wrapper)?;
        std::path::absolute(first.program).ok()
    };
    if found.name.is_some() {
        if let Some(driver) = real(name) {
            found.driver = driver;
            found.wrapped = true;
        }
    } else if let Some((inner, rest)) = found.args.split_first()
        && let Some(kind) = name_of(inner)
        && let Some(driver) = real(inner)
    {
        found.driver = driver;
        found.wrapped = true;
        found.name = Some(kind);
        found.args = rest.to_vec();
    }
}

fn is_wrapper(real_name: &OsStr) -> bool {
    real_name
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

/// The folders of PATH, and which programs are ourselves.
pub struct Search {
    path: OsString,
    own: Option<(PathBuf, Metadata)>,
    masquerade: Option<PathBuf>,
    passed: Passed,
}

/// What a name stands for.
struct First {
    program: PathBuf,
    /// The name of what it is a link to, in the end.
    real_name: OsString,
    /// On the way to it there was a link to us that has the same name.
    past_us: bool,
}

impl Default for Search {
    fn default() -> Self {
        Search::new()
    }
}

impl Search {
    /// Over the PATH of this process.
    pub fn new() -> Self {
        let own = env::current_exe().ok();
        Search {
            path: env::var_os("PATH").unwrap_or_default(),
            own: own.and_then(|own| fs::metadata(&own).ok().map(|meta| (own, meta))),
            masquerade: env::var_os("HG_MASQUERADE").map(PathBuf::from),
            passed: Passed::inherited(),
        }
    }

    /// The program that a shell would run for `name`, leaving out ourselves
    /// and whose real name `skip` says.
    fn first(&self, name: &OsStr, skip: impl Fn(&OsStr) -> bool) -> Option<First> {
        if !name.as_bytes().contains(&b'/') {
            return self.in_folders(name, false, skip);
        }
        let program = PathBuf::from(name);
        let meta = is_program(&program)?;
        let real_name = real_name(&program);
        // A masquerade's link by its full name, as a configured build keeps it.
        if self.is_no_compiler(&program, &meta, &real_name) {
            return self.in_folders(program.file_name()?, true, skip);
        }
        (!skip(&real_name)).then_some(First {
            program,
            real_name,
            past_us: false,
        })
    }

    fn in_folders(
        &self,
        name: &OsStr,
        mut past_us: bool,
        skip: impl Fn(&OsStr) -> bool,
    ) -> Option<First> {
        for folder in self.folders() {
            // An empty entry is the folder that we are in.
            let program = match folder.as_os_str().is_empty() {
                true => Path::new(".").join(name),
                false => folder.join(name),
            };
            let Some(meta) = is_program(&program) else {
                continue;
            };
            let real_name = real_name(&program);
            if self.is_no_compiler(&program, &meta, &real_name) {
                past_us = true;
            } else if !skip(&real_name) {
                return Some(First {
                    program,
                    real_name,
                    past_us,
                });
            }
        }
        None
    }

    fn is_ourselves(&self, candidate: &Path) -> bool {
        let meta = fs::metadata(candidate);
        meta.is_ok_and(|meta| self.is_one_of_us(candidate, &meta, &real_name(candidate)))
    }

    /// Whether it leads to us, or did already.
    fn is_no_compiler(&self, candidate: &Path, meta: &Metadata, real_name: &OsStr) -> bool {
        self.is_one_of_us(candidate, meta, real_name) || self.passed.contains(meta)
    }

    /// Whether it is this program, a copy of it, or another hgbuild.
    fn is_one_of_us(&self, candidate: &Path, meta: &Metadata, real_name: &OsStr) -> bool {
        let Some((own, known)) = &self.own else {
            return real_name == OWN_NAME;
        };
        (meta.dev(), meta.ino()) == (known.dev(), known.ino())
            || real_name == OWN_NAME
            || meta.len() == known.len() && is_same(candidate, own).unwrap_or(false)
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

/// What is there, if it can be run.
fn is_program(candidate: &Path) -> Option<Metadata> {
    let meta = fs::metadata(candidate).ok().filter(Metadata::is_file)?;
    access(candidate, AccessFlags::X_OK).is_ok().then_some(meta)
}

/// Whether two files hold the same.
fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    const PIECE_BYTES: u64 = 1 << 16;
    let [mut one, mut other] = [File::open(one)?, File::open(other)?];
    let [mut left, mut right] = [Vec::new(), Vec::new()];
    loop {
        for (file, piece) in [(&mut one, &mut left), (&mut other, &mut right)] {
            piece.clear();
            file.take(PIECE_BYTES).read_to_end(piece)?;
        }
        if left != right || left.is_empty() {
            return Ok(left == right);
        }
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
