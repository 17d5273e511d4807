//! This machine's toolchain as a list of files that a worker without it can be given:
//! programs, what they load, and every link on the way, each at its own path. Reads
//! files and asks the loader. Unaware of the grid.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hg_proto::compiler::mathematics;
use hg_proto::compiler::probe::{self, Probe};
use hg_proto::compiler::shipment;
use hg_proto::compiler::toolchain::{Family, Language};
use hg_proto::compiler::way::{self, Step};
use hg_proto::secure::atomic_file;
use hg_proto::v1::{Shipment, ShippedFile, Toolchain, Worker, shipped_file::Kind};
use hg_proto::wire::digest::Digest;

use crate::os;
use crate::private;

/// Bytes of a program in which the name of its loader is.
const HEAD_BYTES: u64 = 4096;
/// glibc's list of libraries. It differs between any two machines, and is left out where
/// the loader finds the same libraries without it.
const LOADER_CACHE: &str = "/etc/ld.so.cache";
/// What characters and quotes are, by locale.
const LOCALES: &str = "/usr/lib/locale";
/// Bytes of locales that travel: those of a machine that has them all are more than a
/// compiler.
const LOCALES_BYTES_MAX: u64 = 32 << 20;
/// How long a worker that refused a toolchain is not offered it again by itself.
const REFUSED_FOR: Duration = Duration::from_secs(6 * 3600);
/// How the names of notes of that end.
const REFUSED: &str = "refused";
/// How often it is looked whether workers lack a toolchain that compiles get.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// The same where no worker has it.
const WANTED_AGAIN: Duration = Duration::from_secs(10);
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
            driver: os::bytes(probe.driver.as_os_str()).to_vec(),
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

/// The right to send toolchains in the name of this user. `None`: somebody is at it, or
/// it can't be had; who is `patient` waits for it.
pub fn turn(run: &Path, is_patient: bool) -> Option<File> {
    private::make(run).ok()?;
    let lock = private::options()
        .write(true)
        .create(true)
        .open(run.join("ship.lock"))
        .ok()?;
    match is_patient {
        true => lock.lock().ok()?,
        false => lock.try_lock().ok()?,
    }
    Some(lock)
}

/// The shipment of `toolchain`, if it was packed once: what stands for it on workers that
/// were given it.
pub fn known(run: &Path, toolchain: &Toolchain) -> Option<Digest> {
    let text = fs::read_to_string(note(run, toolchain)).ok()?;
    let (digest, stamp) = text.split_once(' ')?;
    (stamp == locales_stamp()).then(|| Digest::from_hex(digest))?
}

/// Notes that `digest` is the shipment of `toolchain`.
pub fn remember(run: &Path, toolchain: &Toolchain, digest: Digest) {
    let path = note(run, toolchain);
    let text = format!("{} {}", digest.to_hex(), locales_stamp());
    if let Some(folder) = path.parent()
        && private::make(folder).is_ok()
    {
        // Without the note, tasks do not name it, and compile elsewhere.
        let _ = atomic_file::replace(&path, private::FILE_MODE, text.as_bytes());
    }
}

/// Notes that `worker`, as long as it runs, does not take the toolchain.
pub fn note_refused(run: &Path, toolchain: &Toolchain, worker: &Worker) {
    let path = refusal(run, toolchain, worker);
    if let Some(folder) = path.parent() {
        let old = fs::read_dir(folder).into_iter().flatten().flatten();
        for entry in old.filter(|entry| entry.path().extension().is_some_and(|e| e == REFUSED)) {
            if !is_younger(&entry.path(), REFUSED_FOR) {
                let _ = fs::remove_file(entry.path());
            }
        }
        // Without the note it is tried again.
        let _ = private::make(folder).and_then(|()| private::write(&path, b""));
    }
}

/// Whether `worker` has refused the toolchain not long ago.
pub fn was_refused(run: &Path, toolchain: &Toolchain, worker: &Worker) -> bool {
    is_younger(&refusal(run, toolchain, worker), REFUSED_FOR)
}

fn refusal(run: &Path, toolchain: &Toolchain, worker: &Worker) -> PathBuf {
    let pair = [&toolchain.digest[..], &worker.shipping].concat();
    let name = &Digest::of(&pair).to_hex()[..24];
    run.join("shipments").join(name).with_extension(REFUSED)
}

fn is_younger(path: &Path, than: Duration) -> bool {
    let modified = fs::metadata(path).and_then(|meta| meta.modified());
    modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < than))
}

/// What a shipment holds that its toolchain's identity does not cover.
fn locales_stamp() -> String {
    fs::metadata(LOCALES).map_or_else(
        |_| "none".to_owned(),
        |meta| format!("{}.{}", meta.ino(), meta.mtime_nsec() ^ meta.mtime()),
    )
}

fn note(run: &Path, toolchain: &Toolchain) -> PathBuf {
    let name = &Digest::of(&toolchain.digest).to_hex()[..24];
    run.join("shipments").join(name)
}

/// Starts `hgbuild ship` for a compiler in the background, unless that was done lately.
/// `wanted`: a compile has just found no worker with it.
pub fn look_after(run: &Path, toolchain: &Toolchain, driver: &Path, wanted: bool) {
    let asked = note(run, toolchain).with_extension("asked");
    let often = if wanted { WANTED_AGAIN } else { LOOK_AGAIN };
    let is_due = !is_younger(&asked, often);
    let folder = asked.parent().unwrap_or(run);
    if !is_due || private::make(folder).is_err() || private::write(&asked, b"").is_err() {
        return;
    }
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let language = Language::from_wire(toolchain.language()).map_or("", Language::name);
    let words = ["ship", "--background", "--language", language];
    // Nobody waits for it: what it does is for the compiles to come.
    let _ = Command::new(program)
        .args(words)
        .arg(driver)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
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
        let path = os::bytes(path.as_os_str()).to_vec();
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
                let target = os::bytes(target.as_os_str()).to_vec();
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
