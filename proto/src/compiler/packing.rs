//! This machine's toolchain as a list of files that run elsewhere: programs, what they load,
//! and every link on the way, each at its own path. Not pure: reads files and asks the
//! loader.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::compiler::mathematics;
use crate::compiler::probe::{self, Probe};
use crate::compiler::shipment;
use crate::compiler::toolchain::{Family, Language};
use crate::compiler::way::{self, Step};
use crate::v1::{Shipment, ShippedFile, shipped_file::Kind};
use crate::wire::digest::Digest;

/// Bytes of a program in which the name of its loader is.
const HEAD_BYTES: u64 = 4096;
/// glibc's list of libraries. It differs between any two machines, and is left out where
/// the loader finds the same libraries without it.
const LOADER_CACHE: &str = "/etc/ld.so.cache";
/// What characters and quotes are, by locale.
pub const LOCALES: &str = "/usr/lib/locale";
/// Bytes of locales that travel: those of a machine that has them all are more than a
/// compiler.
const LOCALES_BYTES_MAX: u64 = 32 << 20;
/// Clang takes a folder for a gcc's by this file, which it does not read.
const GCC_MARK: &str = "crtbegin.o";
/// Where clang has its lists for sanitizers, in the folder of its own headers.
const LISTS: &str = "share";
/// How deep a folder of a compiler's is looked through for these two.
const FOLDER_DEPTH_MAX: usize = 2;

/// A toolchain that can be sent.
#[derive(Debug)]
pub struct Packed {
    /// What it is.
    pub shipment: Shipment,
    /// Where each content is to be had.
    pub sources: BTreeMap<Digest, PathBuf>,
}

impl Packed {
    /// The toolchain of `probe` for `language`, its files read and hashed.
    ///
    /// # Errors
    /// Words: it can't be read, or not all of it can travel.
    pub fn of(probe: &Probe, language: Language) -> Result<Self, String> {
        let mut files = Files::default();
        let own = |file: &&PathBuf| is_for(file, language);
        for file in probe.files.iter().filter(own) {
            let named = |error| format!("{}: {error}", file.display());
            files.add(file).map_err(named)?;
        }
        if !probe.files.iter().any(|file| is_loader(file)) && is_dynamic(&probe.driver) {
            return Err(format!(
                "{}: its loader does not say what it loads",
                probe.driver.display()
            ));
        }
        let mut programs = probe
            .files
            .iter()
            .filter(own)
            .filter(|file| is_program(file));
        if programs.any(|program| needs_loader_cache(program)) {
            let named = |error| format!("{LOADER_CACHE}: {error}");
            files.add(Path::new(LOADER_CACHE)).map_err(named)?;
        }
        let locales = |error| format!("{LOCALES}: {error}");
        let size = bytes_below(Path::new(LOCALES)).map_err(locales)?;
        if size > LOCALES_BYTES_MAX {
            return Err(format!("{LOCALES}: {size} bytes of locales"));
        }
        if size > 0 {
            files.add_all(Path::new(LOCALES)).map_err(locales)?;
        }
        let shipment = Shipment {
            family: probe.family.to_wire().into(),
            version: probe.version.clone(),
            target: probe.target.clone(),
            language: language.to_wire().into(),
            architecture: std::env::consts::ARCH.to_owned(),
            os: std::env::consts::OS.to_owned(),
            driver: probe.driver.as_os_str().as_bytes().to_vec(),
            files: files.entries.into_values().collect(),
            mathematics: match probe.family {
                // It computes what it folds by itself.
                Family::Gcc => String::new(),
                Family::Clang => mathematics::variant(),
            },
        };
        shipment::check(&shipment)?;
        Ok(Packed {
            shipment,
            sources: files.sources,
        })
    }

    /// What stands for it.
    pub fn digest(&self) -> Digest {
        shipment::digest(&self.shipment)
    }
}

/// Whether the compiler for `language` needs `file`: gcc has one for each.
fn is_for(file: &Path, language: Language) -> bool {
    let other = match language {
        Language::C => "cc1plus",
        Language::Cxx => "cc1",
    };
    file.file_name() != Some(other.as_ref())
}

/// Whether the loader finds other libraries for `program`, or none, without its list.
fn needs_loader_cache(program: &Path) -> bool {
    if !Path::new(LOADER_CACHE).is_file() {
        return false;
    }
    let Ok(libraries) = probe::libraries(program) else {
        return false;
    };
    // The loader itself, which is no program's library, is the last one that is named.
    let Some(loader) = libraries.iter().rev().find(|library| is_loader(library)) else {
        return false;
    };
    let output = Command::new(loader)
        .args(["--inhibit-cache", "--list"])
        .arg(program)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let Ok(output) = output.as_ref().map(|output| &output.stdout) else {
        return true;
    };
    probe::libraries_listed(output) != libraries
}

/// Whether the program names a loader, within the part that is mapped first.
fn is_dynamic(program: &Path) -> bool {
    let mut head = Vec::new();
    let read = File::open(program).and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head));
    read.is_ok()
        && head
            .windows(7)
            .any(|part| part == b"/lib/ld" || part == b"/lib64/")
}

/// Neither a library nor a folder.
fn is_program(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().as_bytes();
    !name.windows(3).any(|part| part == b".so") && file.is_file()
}

fn is_loader(library: &Path) -> bool {
    let name = library.file_name().unwrap_or_default().as_bytes();
    name.starts_with(b"ld-linux") || name.starts_with(b"ld.so") || name.starts_with(b"ld64.so")
}

/// Bytes of all files in `folder`; none where it is not there.
fn bytes_below(folder: &Path) -> io::Result<u64> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut bytes = 0;
    for entry in entries {
        let entry = entry?;
        bytes += match entry.file_type()?.is_dir() {
            true => bytes_below(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(bytes)
}

/// Files, links and folders, by path.
#[derive(Default)]
struct Files {
    entries: BTreeMap<Vec<u8>, ShippedFile>,
    sources: BTreeMap<Digest, PathBuf>,
}

impl Files {
    fn put(&mut self, path: &Path, kind: Kind, size: u64) {
        let path = path.as_os_str().as_bytes().to_vec();
        let kind = Some(kind);
        let file = ShippedFile {
            path: path.clone(),
            kind,
            size,
        };
        self.entries.entry(path).or_insert(file);
    }

    /// Makes `path` lead there to the same file as it does here.
    fn add(&mut self, path: &Path) -> io::Result<()> {
        way::along(path, |at, step| match step {
            Step::Link(target) => {
                let target = target.as_os_str().as_bytes().to_vec();
                self.put(at, Kind::Link(target), 0);
                Ok(())
            }
            Step::Through => Ok(()),
            // The folder that is only passed through must be there.
            Step::Up => {
                self.put_folder(at);
                Ok(())
            }
            Step::End(meta) if meta.is_dir() => {
                self.put_folder(at);
                self.add_marks(at, 0)
            }
            Step::End(_) => self.add_file(at),
        })
    }

    fn put_folder(&mut self, path: &Path) {
        if path != Path::new("/") {
            self.put(path, Kind::Folder(true), 0);
        }
    }

    fn add_file(&mut self, path: &Path) -> io::Result<()> {
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("neither a file nor a folder"));
        }
        let content = fs::read(path)?;
        let digest = Digest::of(&content);
        self.sources
            .entry(digest)
            .or_insert_with(|| path.to_path_buf());
        let kind = Kind::Digest(digest.as_bytes().to_vec());
        self.put(path, kind, content.len() as u64);
        Ok(())
    }

    /// All in `folder`, which is there without its links.
    fn add_all(&mut self, folder: &Path) -> io::Result<()> {
        self.add(folder)?;
        for entry in fs::read_dir(fs::canonicalize(folder)?)? {
            let path = entry?.path();
            match fs::metadata(&path) {
                Ok(meta) if meta.is_dir() && !path.is_symlink() => self.add_all(&path)?,
                Ok(meta) if meta.is_file() => self.add(&path)?,
                // Nobody can read it here either.
                _ => {}
            }
        }
        Ok(())
    }

    /// What a compiler wants of a folder of its own, without the headers in it, which
    /// each task brings.
    fn add_marks(&mut self, folder: &Path, depth: usize) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let (kind, path) = (entry.file_type()?, entry.path());
            if kind.is_dir() && entry.file_name() == LISTS {
                for list in fs::read_dir(&path)? {
                    let list = list?;
                    if list.file_type()?.is_file() {
                        self.add_file(&list.path())?;
                    }
                }
            } else if kind.is_dir() && depth < FOLDER_DEPTH_MAX {
                self.add_marks(&path, depth + 1)?;
            } else if kind.is_file() && entry.file_name() == GCC_MARK {
                self.put(&path, Kind::Mark(true), 0);
            }
        }
        Ok(())
    }
}
