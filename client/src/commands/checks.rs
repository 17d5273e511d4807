//! What on this machine keeps a build from the grid or the cache: folders that can't be
//! written to, a clock that is off, CMake trees that call compilers by their paths.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::statvfs::statvfs;

use crate::cache::keeper;
use crate::config::Config;
use crate::private;

/// Bytes that a folder of ours must have room for, at the least.
const PROBE_BYTES: usize = 64 << 10;
/// How far two clocks may be apart.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(60);
/// Name of the file in which CMake keeps what a tree was configured with.
const CMAKE_CACHE: &str = "CMakeCache.txt";
/// Bytes of such a file.
const CMAKE_CACHE_BYTES_MAX: u64 = 4 << 20;
/// Folders that are looked into for one.
const FOLDERS_MAX: usize = 64;

/// Why the home folder is of no use; `None`: it can be written to, or there is none.
pub fn home_trouble(config: &Config) -> Option<String> {
    let run = config.run_folder()?;
    let told = |error: io::Error| format!("{}: {error}", run.display());
    let probe = || private::make(&run).and_then(|()| has_room(&run));
    probe().err().map(told)
}

/// Why the cache is of no use; `None`: it is, or there is none.
pub fn cache_trouble(config: &Config) -> Option<String> {
    let settings = config.cache.as_ref()?;
    if let Err(trouble) = keeper::open(settings) {
        return Some(trouble.words);
    }
    let probed = match settings.read_only {
        true => Ok(()),
        false => has_room(&settings.folder),
    };
    let told = |error| format!("{}: {error}", settings.folder.display());
    probed.err().map(told)
}

/// Bytes that a user may still write to the file system of `folder`, or of the next folder
/// above that is there.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find(|folder| folder.exists())?;
    let room = statvfs(there).ok()?;
    // How wide these are differs from one system to the other.
    #[allow(clippy::useless_conversion)]
    let (blocks, size) = (
        u64::from(room.blocks_available()),
        u64::from(room.fragment_size()),
    );
    Some(blocks.saturating_mul(size))
}

/// Where the plain name of a compiler leads by PATH.
#[derive(Debug, PartialEq, Eq)]
pub enum ByPath {
    /// To us, by this folder.
    Led(PathBuf),
    /// To a compiler in the second folder, before the first one, which leads to us.
    Behind(PathBuf, PathBuf),
    /// To compilers.
    Plain,
}

/// Where the names of usual compilers lead by PATH.
pub fn led_by_path() -> ByPath {
    let Some(own) = env::current_exe()
        .ok()
        .and_then(|own| own.canonicalize().ok())
    else {
        return ByPath::Plain;
    };
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    led_by(&folders, &own)
}

fn led_by(folders: &[PathBuf], own: &Path) -> ByPath {
    for name in ["gcc", "cc", "clang", "g++"] {
        let mut others = None;
        for folder in folders {
            let Ok(program) = folder.join(name).canonicalize() else {
                continue;
            };
            // Another hgbuild than this one does it too.
            let is_ours = program == own || program.file_name() == Some("hgbuild".as_ref());
            match (is_ours, others) {
                (true, None) => return ByPath::Led(folder.clone()),
                (true, Some(other)) => return ByPath::Behind(folder.clone(), other),
                (false, known) => others = Some(known.unwrap_or_else(|| folder.clone())),
            }
        }
    }
    ByPath::Plain
}

/// Whether something can be written into `folder`.
fn has_room(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!("probe-{}", std::process::id()));
    let written = private::options()
        .write(true)
        .create_new(true)
        .open(&path)
        .and_then(|mut file| file.write_all(&vec![0; PROBE_BYTES]));
    match fs::remove_file(&path) {
        Err(error) if written.is_ok() => Err(error),
        _ => written,
    }
}

/// How this machine's clock differs from the coordinator's, which says that it is
/// `unix_ms`; `None`: not by much, or it does not say.
pub fn clock_trouble(unix_ms: u64) -> Option<String> {
    let own = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let theirs = Duration::from_millis(unix_ms);
    let apart = own.abs_diff(theirs);
    (unix_ms > 0 && apart > CLOCKS_APART_MAX).then(|| {
        let way = if own < theirs { "behind" } else { "ahead of" };
        format!(
            "this machine's clock is {} {way} the coordinator's",
            in_words(apart)
        )
    })
}

/// As exact as somebody needs it.
fn in_words(apart: Duration) -> String {
    let (unit, unit_s) = match apart.as_secs() {
        0..3600 => ("minute", 60),
        3600..86400 => ("hour", 3600),
        _ => ("day", 86400),
    };
    match apart.as_secs() / unit_s {
        1 => format!("1 {unit}"),
        count => format!("{count} {unit}s"),
    }
}

/// A CMake tree that calls its compiler past us.
#[derive(Debug, PartialEq, Eq)]
pub struct CmakeTree {
    /// The build folder.
    pub folder: PathBuf,
    /// The compiler's path.
    pub compiler: String,
}

impl CmakeTree {
    /// The one in `folder`.
    pub fn of(folder: &Path) -> Option<Self> {
        let file = File::open(folder.join(CMAKE_CACHE)).ok()?;
        let mut text = Vec::new();
        file.take(CMAKE_CACHE_BYTES_MAX)
            .read_to_end(&mut text)
            .ok()?;
        let compiler = past_us(&String::from_utf8_lossy(&text))?;
        Some(CmakeTree {
            folder: folder.to_owned(),
            compiler,
        })
    }

    /// Those in `folder` and right below it.
    pub fn near(folder: &Path) -> Vec<Self> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut below: Vec<PathBuf> = entries
            .take(FOLDERS_MAX)
            .map(|entry| folder.join(entry.file_name()))
            .collect();
        below.sort();
        let folders = std::iter::once(folder.to_owned()).chain(below);
        folders
            .filter_map(|folder| CmakeTree::of(&folder))
            .collect()
    }

    /// What is wrong with it.
    pub fn words(&self) -> String {
        let file = self.shown().join(CMAKE_CACHE);
        format!("{} calls {} by its path", file.display(), self.compiler)
    }

    /// What to type.
    pub fn remedy(&self) -> String {
        let shown = self.shown();
        let folder = match shown.as_os_str().is_empty() {
            true => Path::new("."),
            false => shown,
        };
        format!(
            "cmake {} -DCMAKE_C_COMPILER_LAUNCHER=hgbuild -DCMAKE_CXX_COMPILER_LAUNCHER=hgbuild",
            folder.display()
        )
    }

    fn shown(&self) -> &Path {
        self.folder.strip_prefix(".").unwrap_or(&self.folder)
    }
}

/// The compiler that a tree configured as `text` says calls past us.
fn past_us(text: &str) -> Option<String> {
    let value = |name: &str| {
        let mut values = text.lines().filter_map(|line| {
            let (_, value) = line
                .strip_prefix(name)?
                .strip_prefix(':')?
                .split_once('=')?;
            (!value.is_empty()).then_some(value)
        });
        values.next()
    };
    ["C", "CXX"].iter().find_map(|language| {
        let compiler = value(&format!("CMAKE_{language}_COMPILER"))?;
        let launcher = value(&format!("CMAKE_{language}_COMPILER_LAUNCHER"));
        let is_past = compiler.starts_with('/') && !compiler.contains("/.hybridgrid/");
        (is_past && launcher.is_none()).then(|| compiler.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process;

    use super::*;

    #[test]
    fn a_tree_without_a_launcher_calls_past_us() {
        let cache =
            "// A path\nCMAKE_C_COMPILER:FILEPATH=/usr/bin/cc\nCMAKE_C_COMPILER_AR:FILEPATH=/x\n";
        assert_eq!(past_us(cache).as_deref(), Some("/usr/bin/cc"));
        for (line, expected) in [
            ("CMAKE_C_COMPILER_LAUNCHER:UNINITIALIZED=hgbuild", false),
            ("CMAKE_C_COMPILER_LAUNCHER:STRING=", true),
            ("CMAKE_CXX_COMPILER_LAUNCHER:STRING=hgbuild", true),
        ] {
            assert_eq!(
                past_us(&format!("{cache}{line}\n")).is_some(),
                expected,
                "{line}"
            );
        }
        let ours = "CMAKE_C_COMPILER:FILEPATH=/home/a/.hybridgrid/masquerade/cc\n";
        assert_eq!(past_us(ours), None);
        assert_eq!(past_us(""), None);
    }

    #[test]
    fn the_first_folder_with_a_compiler_decides() {
        let place = env::temp_dir().join(format!("hg-by-path-{}", process::id()));
        let _ = fs::remove_dir_all(&place);
        let place_of = |name: &str| place.join(name);
        for folder in ["real", "ours", "empty"] {
            fs::create_dir_all(place_of(folder)).expect("a folder");
        }
        fs::write(place_of("real/gcc"), "").expect("a file");
        fs::write(place_of("hgbuild"), "").expect("a file");
        symlink("../hgbuild", place_of("ours/gcc")).expect("a link");
        let place = place.canonicalize().expect("a path");
        let led = |names: &[&str]| {
            let folders: Vec<PathBuf> = names.iter().map(|name| place.join(name)).collect();
            led_by(&folders, Path::new("/nowhere"))
        };
        assert_eq!(
            led(&["empty", "ours", "real"]),
            ByPath::Led(place.join("ours"))
        );
        let behind = ByPath::Behind(place.join("ours"), place.join("real"));
        assert_eq!(led(&["real", "ours"]), behind);
        assert_eq!(led(&["empty", "real"]), ByPath::Plain);
        assert!(free_bytes(&place.join("not/there")).is_some_and(|bytes| bytes > 0));
        let _ = fs::remove_dir_all(&place);
    }

    #[test]
    fn clocks_that_are_apart_are_told() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let at = |difference_s: i64| {
            let ms = now.as_millis() as i64 + difference_s * 1000;
            clock_trouble(ms as u64)
        };
        assert_eq!(at(0), None);
        assert_eq!(at(30), None);
        assert_eq!(clock_trouble(0), None);
        let behind = at(3 * 86400 + 600).unwrap();
        assert_eq!(
            behind,
            "this machine's clock is 3 days behind the coordinator's"
        );
        assert!(at(-3660).unwrap().contains(" 1 hour ahead of "));
    }
}
