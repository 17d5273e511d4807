//! The compilers of this machine: where they are looked for, and the identity of each. Not pure: reads
//! folders and runs compilers. Unaware of tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use hg_proto::compiler::probe;
use hg_proto::compiler::toolchain::{Family, Language};
use hg_proto::options::args::Dialect;
use hg_proto::v1::{self, Shipment};
use hg_proto::wire::digest::Digest;
use hg_proto::wire::limits::TOOLCHAINS_MAX;

use crate::files::shipments::Shipments;
use crate::inputs::layout::Tools;
use crate::inputs::validate::Accepts;
use crate::log::{self, Level};
use crate::sandbox::facade;

/// A compiler of this machine, for one language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiler {
    /// Absolute path, as it was found.
    pub driver: PathBuf,
    /// Family whose command line it takes.
    pub family: Family,
    /// Language that it compiles under this identity.
    pub language: Language,
    /// Folder of its assembler, which it needs in PATH ahead of [`facade::PATH`].
    pub path_first: Option<PathBuf>,
    /// Files and folders that it runs, loads and reads.
    pub tools: Tools,
    /// Identity as it is sent to the coordinator.
    pub toolchain: v1::Toolchain,
}

impl Compiler {
    /// How its command line is to be parsed.
    pub fn dialect(&self) -> Dialect {
        Dialect {
            family: self.family,
            cxx_driver: self.driver.file_name().is_some_and(is_cxx_name),
        }
    }

    /// Tasks that it accepts.
    pub fn accepts(&self) -> Accepts {
        Accepts {
            dialect: self.dialect(),
            language: self.language,
            tree: self.toolchain.tree,
        }
    }

    /// Whether a client has brought it.
    pub fn is_clients(&self) -> bool {
        !self.toolchain.shipment.is_empty()
    }

    /// Whether the files that make its code are still those that were advertised; `memo` is
    /// the folder of memos about compilers.
    pub fn is_unchanged(&self, memo: &Path) -> bool {
        if let Tools::Shipped { .. } = self.tools {
            // Known by its content, and ours alone to write.
            return true;
        }
        let now = || {
            let probe = probe::probe(&self.driver, Some(memo)).ok()?;
            match self.toolchain.tree {
                true => probe.tree_toolchain(self.language),
                false => probe.toolchain(self.language),
            }
        };
        now().is_some_and(|toolchain| toolchain.digest == self.toolchain.digest)
    }
}

impl Compiler {
    /// The compiler of a client's toolchain, which `shipments` keep. `None`: of no
    /// family that is known.
    pub fn shipped(digest: Digest, list: &Arc<Shipment>, contents: &Path) -> Option<Self> {
        let family = Family::from_wire(list.family())?;
        let language = Language::from_wire(list.language())?;
        let bytes = digest.as_bytes().to_vec();
        Some(Compiler {
            driver: PathBuf::from(OsStr::from_bytes(&list.driver)),
            family,
            language,
            path_first: None,
            tools: Tools::Shipped {
                digest,
                list: list.clone(),
                contents: contents.to_path_buf(),
            },
            toolchain: v1::Toolchain {
                family: list.family,
                version: list.version.clone(),
                target: list.target.clone(),
                language: list.language,
                digest: bytes.clone(),
                tree: true,
                shipment: bytes,
                ..v1::Toolchain::default()
            },
        })
    }
}

/// Offers each compiler of `catalogue` for tasks of the tree form too, as far as there is
/// room in it; `memo` is the folder of memos about compilers.
pub fn offer_tree_form(catalogue: &mut Catalogue, memo: &Path) {
    let compilers: Vec<Compiler> = catalogue.values().cloned().collect();
    for compiler in compilers {
        let probe = probe::probe(&compiler.driver, Some(memo)).ok();
        let toolchain = probe.and_then(|probe| probe.tree_toolchain(compiler.language));
        if let Some(toolchain) = toolchain
            && catalogue.len() < TOOLCHAINS_MAX
            && let Ok(digest) = Digest::try_from(&toolchain.digest[..])
        {
            catalogue.insert(
                digest,
                Compiler {
                    toolchain,
                    ..compiler
                },
            );
        }
    }
}

/// Offers what clients have brought, as far as there is room for it.
pub fn offer_shipped(catalogue: &mut Catalogue, shipments: &Shipments) {
    for (digest, list) in shipments.all() {
        if let Some(compiler) = Compiler::shipped(digest, &list, shipments.contents())
            && catalogue.len() < TOOLCHAINS_MAX
        {
            catalogue.insert(digest, compiler);
        }
    }
}

/// Compilers by identity.
pub type Catalogue = BTreeMap<Digest, Compiler>;

/// Folders with compilers that need not be in PATH, the first choice first: `*` is any name.
const USUAL_FOLDERS: [(&str, &str); 3] = [
    ("/usr/local/bin", ""),
    ("/usr/lib", "llvm-*/bin"),
    ("/opt", "*/bin"),
];
/// Names that are looked at in one such place.
const USUAL_NAMES_MAX: usize = 1024;

/// Where compilers are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Places {
    /// In PATH, then where distributions and vendors have those that are not in it.
    Usual,
    /// In these folders alone.
    Folders(Vec<PathBuf>),
}

impl Places {
    /// The folders as they are now.
    fn folders(&self) -> Vec<PathBuf> {
        match self {
            Places::Folders(folders) => folders.clone(),
            Places::Usual => {
                let path = env::var_os("PATH").unwrap_or_default();
                let usual = USUAL_FOLDERS.iter();
                let usual = usual.flat_map(|(above, below)| usual_folders(Path::new(above), below));
                env::split_paths(&path).chain(usual).collect()
            }
        }
    }
}

/// The folders `below` one, whose first name may have a `*` in it.
fn usual_folders(above: &Path, below: &str) -> Vec<PathBuf> {
    let Some((name, rest)) = below.split_once('/') else {
        return vec![above.join(below)];
    };
    let (start, end) = name.split_once('*').unwrap_or((name, ""));
    let entries = above.read_dir().into_iter().flatten().flatten();
    let names = entries.take(USUAL_NAMES_MAX).map(|entry| entry.file_name());
    let fits = |name: &OsString| {
        let name = name.as_bytes();
        name.len() >= start.len() + end.len()
            && name.starts_with(start.as_bytes())
            && name.ends_with(end.as_bytes())
    };
    let mut names: Vec<OsString> = names.filter(fits).collect();
    names.sort();
    let folder = |name| above.join(name).join(rest);
    names.into_iter().map(folder).collect()
}

/// Finds the compilers in `places`; `memo` is the folder of memos about compilers.
pub fn find(places: &Places, memo: &Path) -> Catalogue {
    let mut catalogue = Catalogue::new();
    // `clang` and `clang++` are one program, which takes longer to start than to answer.
    let mut assemblers = BTreeMap::new();
    for driver in candidates(places.folders()) {
        let probe = match probe::probe(&driver, Some(memo)) {
            Ok(probe) => probe,
            Err(error) => {
                log::line(Level::Info, format_args!("not offered: {error}"));
                continue;
            }
        };
        let program = driver.canonicalize().unwrap_or_else(|_| driver.clone());
        let assembler = assemblers.entry(program);
        let path_first = assembler.or_insert_with(|| assembler_folder(&driver));
        for language in [Language::C, Language::Cxx] {
            let Some(toolchain) = probe.toolchain(language) else {
                continue;
            };
            let Ok(digest) = Digest::try_from(&toolchain.digest[..]) else {
                continue;
            };
            let compiler = Compiler {
                driver: driver.clone(),
                family: probe.family,
                language,
                path_first: path_first.clone(),
                tools: Tools::Own(probe.files.clone()),
                toolchain,
            };
            offer(&mut catalogue, digest, compiler);
        }
    }
    catalogue
}

/// Adds a compiler to `catalogue`. Under one identity, `clang++` is preferred for C++ and
/// `clang` for C; otherwise the first one found stays.
fn offer(catalogue: &mut Catalogue, digest: Digest, compiler: Compiler) {
    let suits = |c: &Compiler| c.dialect().cxx_driver == (c.language == Language::Cxx);
    let full = catalogue.len() >= TOOLCHAINS_MAX;
    match catalogue.get(&digest) {
        None if full => {
            let driver = compiler.driver.display();
            log::line(
                Level::Warn,
                format_args!("{driver}: one toolchain too many"),
            );
        }
        Some(known) if suits(known) || !suits(&compiler) => {}
        _ => {
            log::line(
                Level::Info,
                format_args!(
                    "toolchain {} {} {} {}: {}",
                    &digest.to_hex()[..16],
                    compiler.family.name(),
                    compiler.toolchain.version,
                    compiler.language.name(),
                    compiler.driver.display()
                ),
            );
            catalogue.insert(digest, compiler);
        }
    }
}

/// Programs in `folders` whose names are a compiler's, and so are those of the files that they
/// link to (`ccache` under the name `gcc` is none); each once.
pub fn candidates(folders: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for folder in folders.into_iter().filter(|folder| folder.is_absolute()) {
        let Ok(entries) = folder.read_dir() else {
            continue;
        };
        let mut drivers: Vec<PathBuf> = entries
            .flatten()
            .filter(|entry| is_compiler_name(entry.file_name()))
            .map(|entry| entry.path())
            .collect();
        drivers.sort();
        for driver in drivers {
            let Ok(real) = driver.canonicalize() else {
                continue;
            };
            if !real.file_name().is_some_and(is_compiler_name) {
                continue;
            }
            let is_cxx = driver.file_name().is_some_and(is_cxx_name);
            if seen.insert((real, is_cxx)) {
                found.push(driver);
            }
        }
    }
    found
}

/// `name` without a version at its end: `g++-12` is `g++`, and `x86_64-linux-gnu-gcc-12` is
/// `x86_64-linux-gnu-gcc`.
fn without_version(name: &[u8]) -> &[u8] {
    match name.iter().rposition(|&byte| byte == b'-') {
        Some(at)
            if at + 1 < name.len()
                && name[at + 1..]
                    .iter()
                    .all(|b| b.is_ascii_digit() || *b == b'.') =>
        {
            &name[..at]
        }
        _ => name,
    }
}

fn is_compiler_name(name: impl AsRef<OsStr>) -> bool {
    let name = without_version(name.as_ref().as_bytes());
    let cross = |suffix: &[u8]| {
        name.strip_suffix(suffix)
            .is_some_and(|triple| triple.windows(7).any(|part| part == b"-linux-"))
    };
    matches!(
        name,
        b"cc" | b"c++" | b"gcc" | b"g++" | b"clang" | b"clang++"
    ) || cross(b"-gcc")
        || cross(b"-g++")
        || cross(b"-clang")
        || cross(b"-clang++")
}

fn is_cxx_name(name: &OsStr) -> bool {
    without_version(name.as_bytes()).ends_with(b"++")
}

/// Folder in which the driver finds its assembler, if it would find another one, or none,
/// with [`facade::PATH`] alone.
pub fn assembler_folder(driver: &Path) -> Option<PathBuf> {
    let output = Command::new(driver)
        .arg("-print-prog-name=as")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    // An absolute answer: the driver finds it by itself.
    if output.stdout.trim_ascii() != b"as" {
        return None;
    }
    let first = |path: &OsStr| env::split_paths(path).find(|folder| folder.join("as").is_file());
    let folder = first(&env::var_os("PATH")?)?;
    let confined = first(OsStr::new(facade::PATH));
    (folder.is_absolute() && confined.as_ref() != Some(&folder)).then_some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_compilers() {
        for name in [
            "cc",
            "c++",
            "gcc-12",
            "g++-4.9",
            "clang++-14",
            "aarch64-linux-gnu-gcc-12",
            "arm-linux-gnueabihf-g++",
            "aarch64-unknown-linux-gnu-clang++-19",
        ] {
            assert!(is_compiler_name(name), "{name}");
        }
        for name in [
            "ccache",
            "gcc-ar",
            "gcc-ar-12",
            "clang-format",
            "clang-",
            "avr-gcc",
            "c89",
        ] {
            assert!(!is_compiler_name(name), "{name}");
        }
    }

    #[test]
    fn usual_folders_are_those_that_are_there() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["llvm-14/bin", "llvm-9/bin", "llvm/bin", "gcc-12/bin"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let named = |below| usual_folders(folder.path(), below);
        let at = |names: &[&str]| -> Vec<PathBuf> {
            names.iter().map(|name| folder.path().join(name)).collect()
        };
        assert_eq!(named("llvm-*/bin"), at(&["llvm-14/bin", "llvm-9/bin"]));
        assert_eq!(named("*/bin").len(), 4);
        assert_eq!(named("bin"), at(&["bin"]));
        assert_eq!(usual_folders(&folder.path().join("no"), "*/bin"), at(&[]));
    }

    #[test]
    fn names_of_cxx_drivers() {
        assert!(is_cxx_name(OsStr::new("x86_64-linux-gnu-g++-12")));
        assert!(!is_cxx_name(OsStr::new("gcc")));
    }

    #[test]
    fn a_link_to_something_else_is_no_compiler() {
        let folder = env::temp_dir().join(format!("hg-worker-names-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for real in ["ccache", "clang"] {
            std::fs::write(folder.join(real), "").unwrap();
        }
        for (name, real) in [
            ("gcc", "ccache"),
            ("clang++", "clang"),
            ("clang-14", "clang"),
        ] {
            std::os::unix::fs::symlink(real, folder.join(name)).unwrap();
        }
        let found = candidates([folder.clone()]);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, [folder.join("clang"), folder.join("clang++")]);
    }
}
