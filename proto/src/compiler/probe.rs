//! Looks at a compiler on this machine: what it is, and which files make its
//! code. Not pure: reads files and runs the compiler. Results are memoised by
//! the stat of every file that took part, since a compile must not pay for it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fmt};

use prost::Message;

use crate::compiler::mathematics;
use crate::compiler::memo;
use crate::compiler::toolchain::{self, Component, Family, Language};
use crate::compiler::turn::wait;
use crate::secure::private;
use crate::v1;
use crate::wire::digest::{Digest, Hasher};
use crate::wire::taken_path::{CONFIGURATION, PRELOAD, SPECS};

/// Files in a memo folder before it is emptied.
const MEMOS_MAX: usize = 256;
/// Nanoseconds in which a second write of a file may leave its stat unchanged.
const RACY_NS: i128 = 2_000_000_000;
/// The file in a memo folder that is locked by whoever looks at a compiler.
const TURN: &str = ".turn";
/// Looks at that lock: to read a compiler takes some tens of milliseconds.
const TURN_LOOKS: u32 = 500;
/// Variables that change what a driver runs, loads or reads.
const STEERING: [&str; 6] = [
    // In which clang may have a folder for configuration files.
    "HOME",
    "PATH",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "COMPILER_PATH",
    "GCC_EXEC_PREFIX",
];

/// A compiler on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The driver as it was named, absolute. Links are not resolved: `clang++`
    /// is `clang` by another name.
    pub driver: PathBuf,
    /// Whose command line it speaks.
    pub family: Family,
    /// As it prints it: `12.2.0`.
    pub version: String,
    /// The line in which it says its version, with its vendor's revision.
    pub release: String,
    /// Target triple.
    pub target: String,
    /// Identity for C, if it compiles C.
    pub c: Option<Digest>,
    /// Identity for C++, if it compiles C++.
    pub cxx: Option<Digest>,
    /// What it found around itself: clang takes headers from the gcc that it finds.
    pub surroundings: Digest,
    /// Every file that took part, by the path at which it is looked for, and the
    /// folders that clang looks into. Sorted; links are not resolved.
    pub files: Vec<PathBuf>,
}

/// Why a file is no compiler of ours.
#[derive(Debug)]
pub enum ProbeError {
    /// It can't be run or read.
    Io(PathBuf, io::Error),
    /// It is a script: what it runs can't be known from its content.
    Script(PathBuf),
    /// It reads a configuration file of its own.
    Configured(PathBuf),
    /// It runs, and is neither gcc nor clang.
    NotACompiler(PathBuf),
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeError::Io(path, error) => write!(f, "{}: {error}", path.display()),
            ProbeError::Script(path) => write!(f, "{}: a script", path.display()),
            ProbeError::Configured(path) => {
                write!(f, "{}: has a configuration file", path.display())
            }
            ProbeError::NotACompiler(path) => {
                write!(f, "{}: neither gcc nor clang", path.display())
            }
        }
    }
}

impl std::error::Error for ProbeError {}

impl Probe {
    /// The identity for `language`, as it goes on the wire.
    pub fn toolchain(&self, language: Language) -> Option<v1::Toolchain> {
        let digest = match language {
            Language::C => self.c,
            Language::Cxx => self.cxx,
        }?;
        Some(v1::Toolchain {
            family: self.family.to_wire().into(),
            version: self.version.clone(),
            target: self.target.clone(),
            language: language.to_wire().into(),
            digest: digest.as_bytes().to_vec(),
            tree: false,
            shipment: Vec::new(),
            tree_digests: Vec::new(),
            release: self.release.clone(),
            equals: Vec::new(),
            image: String::new(),
        })
    }

    /// The identity for `language` in the tree form: over where the compiler stands,
    /// too. What it finds around itself it spells from the folder that it was named
    /// in, or from the one that its links lead to. `None`: not for this language, or
    /// its links lead nowhere.
    pub fn tree_toolchain(&self, language: Language) -> Option<v1::Toolchain> {
        let mut toolchain = self.toolchain(language)?;
        let plain = Digest::try_from(&toolchain.digest[..]).ok()?;
        let real = fs::canonicalize(&self.driver).ok()?;
        let folder = self.driver.parent()?;
        let mut place = Hasher::new();
        place.field(real.as_os_str().as_bytes());
        place.field(folder.as_os_str().as_bytes());
        place.field(self.surroundings.as_bytes());
        let digest = toolchain::tree_identity(plain, place.finish().as_bytes());
        toolchain.digest = digest.as_bytes().to_vec();
        toolchain.tree = true;
        Some(toolchain)
    }
}

/// Looks at `driver`, an absolute path. `memo` is a folder in which results are
/// kept; `None`: look afresh. A memo that can't be read or written is only slow.
///
/// # Errors
/// The driver can't be run, or is no compiler whose files are known.
pub fn probe(driver: &Path, memo: Option<&Path>) -> Result<Probe, ProbeError> {
    let folder = memo;
    let memo = memo.map(|folder| folder.join(memo_name(driver)));
    let known = || memo.as_deref().and_then(|file| recall(file, driver));
    if let Some(known) = known() {
        return Ok(known);
    }
    let turn = folder.and_then(take_turn);
    if turn.is_some()
        && let Some(known) = known()
    {
        return Ok(known);
    }
    let mut look = Look::default();
    let probe = look.at(driver)?;
    if let Some(file) = memo {
        // Failing to remember costs time, nothing else.
        let _ = remember(&file, &probe, &look, now_ns());
    }
    Ok(probe)
}

/// The right to look at compilers, in the name of all who keep results in `folder`: a
/// build starts many at once, and each would read the same hundred megabytes. `None`:
/// whoever has it takes too long, or there can be no lock.
fn take_turn(folder: &Path) -> Option<File> {
    // Whoever writes there says which compiler is which: it is ours alone.
    private::make_folder(folder).ok()?;
    // Where nothing can be kept there is nothing to wait for.
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let lock = options.open(folder.join(TURN)).ok()?;
    wait(TURN_LOOKS, || lock.try_lock().ok())?;
    Some(lock)
}

/// One look at a compiler: the files seen, and where a file must stay absent.
#[derive(Default)]
struct Look {
    files: BTreeMap<PathBuf, (Stat, Digest)>,
    absent: Vec<PathBuf>,
    /// Files that must stay as they are, and make no code themselves.
    watched: BTreeMap<PathBuf, Stat>,
    /// Folders in which clang would read a configuration file; none is there.
    unconfigured: BTreeMap<PathBuf, Stat>,
}

impl Look {
    fn at(&mut self, driver: &Path) -> Result<Probe, ProbeError> {
        let failed = |error| ProbeError::Io(driver.to_path_buf(), error);
        if !is_program(driver).map_err(failed)? {
            return Err(ProbeError::Script(driver.to_path_buf()));
        }
        let banner = run(driver, &["-v"]).map_err(failed)?;
        let Banner {
            family,
            version,
            release,
            target,
            configured,
            configuration_folders,
        } = Banner::parse(&banner).ok_or_else(|| ProbeError::NotACompiler(driver.into()))?;
        if configured {
            return Err(ProbeError::Configured(driver.to_path_buf()));
        }
        let surroundings = self.surroundings(&banner).map_err(failed)?;
        self.watch(Path::new(PRELOAD)).map_err(failed)?;
        if family == Family::Clang {
            let folders = &configuration_folders;
            if self
                .configurations(driver, &target, folders)
                .map_err(failed)?
            {
                return Err(ProbeError::Configured(driver.to_path_buf()));
            }
            self.resources(driver).map_err(failed)?;
        }
        // A program that runs another gcc, with options of its own perhaps.
        let mut lines = banner.lines();
        let itself = lines.find_map(|line| line.strip_prefix("COLLECT_GCC="));
        if itself.is_some_and(|gcc| Path::new(gcc) != driver) {
            return Err(ProbeError::NotACompiler(driver.into()));
        }
        let mut common = self.program("driver", driver).map_err(failed)?;
        if family == Family::Clang {
            common.push(Component {
                role: "mathematics".to_owned(),
                digest: Digest::of(mathematics::variant().as_bytes()),
            });
        }
        let (c, cxx) = match family {
            Family::Clang => (Some(common.clone()), Some(common)),
            Family::Gcc => {
                common.extend(self.assembler(driver).map_err(failed)?);
                common.extend(self.specs(driver).map_err(failed)?);
                self.overriding(driver).map_err(failed)?;
                let c = self.proper(driver, "cc1").map_err(failed)?;
                let cxx = self.proper(driver, "cc1plus").map_err(failed)?;
                let join = |more: Vec<Component>| [common.clone(), more].concat();
                (c.map(join), cxx.map(join))
            }
        };
        let id = |language, components: Option<Vec<Component>>| {
            components.map(|all| toolchain::identity(family, language, &all))
        };
        Ok(Probe {
            driver: driver.to_path_buf(),
            family,
            version,
            release,
            target,
            c: id(Language::C, c),
            cxx: id(Language::Cxx, cxx),
            surroundings,
            files: self.files.keys().cloned().collect(),
        })
    }

    /// The folders in which clang found gccs, whose headers it takes.
    fn surroundings(&mut self, banner: &str) -> io::Result<Digest> {
        let mut hasher = Hasher::new();
        for line in banner.lines() {
            let Some((what, path)) = line.split_once("GCC installation: ") else {
                continue;
            };
            hasher.field(what.as_bytes());
            hasher.field(path.as_bytes());
            if let Some(folder) = Path::new(path).parent() {
                self.folder(folder)?;
            }
        }
        Ok(hasher.finish())
    }

    /// Where clang has its own headers and lists; some installations have none.
    fn resources(&mut self, driver: &Path) -> io::Result<()> {
        let folder = ask(driver, "-print-resource-dir")?;
        if folder.is_absolute() && folder.is_dir() {
            self.folder(&folder)?;
        }
        Ok(())
    }

    /// A folder that counts by what lies in it, not by what that contains.
    fn folder(&mut self, folder: &Path) -> io::Result<()> {
        let stat = Stat::of(&fs::metadata(folder)?);
        let none = Hasher::new().finish();
        self.files.insert(folder.to_path_buf(), (stat, none));
        Ok(())
    }

    /// What is at `path`, if anything is, stays so.
    fn watch(&mut self, path: &Path) -> io::Result<()> {
        match fs::metadata(path) {
            Ok(meta) => {
                self.watched.insert(path.to_path_buf(), Stat::of(&meta));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.absent.push(path.to_path_buf());
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether clang would read options from a file, for some target: beside its real
    /// path, where it was called, or in `folders`, which it names itself.
    fn configurations(
        &mut self,
        driver: &Path,
        target: &str,
        folders: &[PathBuf],
    ) -> io::Result<bool> {
        let folder = driver.parent().unwrap_or(Path::new("/"));
        let name = driver.file_name().unwrap_or_default().to_string_lossy();
        for name in [
            format!("{name}{CONFIGURATION}"),
            format!("{target}{CONFIGURATION}"),
            format!("{target}-{name}{CONFIGURATION}"),
        ] {
            self.absent.push(folder.join(name));
        }
        let real = fs::canonicalize(driver)?;
        let beside = real.parent().unwrap_or(Path::new("/"));
        for folder in folders.iter().map(PathBuf::as_path).chain([beside]) {
            let stat = match fs::metadata(folder) {
                Ok(meta) => Stat::of(&meta),
                // What we can't reach clang can't read; once it can be, it is looked into.
                Err(_) => {
                    let none = Stat::default();
                    self.unconfigured.insert(folder.to_path_buf(), none);
                    continue;
                }
            };
            if has_configuration(folder)? {
                return Ok(true);
            }
            self.unconfigured.insert(folder.to_path_buf(), stat);
        }
        Ok(false)
    }

    /// What gcc would take before what it takes now.
    fn overriding(&mut self, driver: &Path) -> io::Result<()> {
        let said = run(driver, &["-print-search-dirs"])?;
        let list = |start: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(start));
            let mut folders: Vec<PathBuf> = Vec::new();
            for folder in line.unwrap_or_default().split(':') {
                // Its folders are there several times, by other paths.
                if let Ok(real) = fs::canonicalize(folder)
                    && !folders.contains(&real)
                {
                    folders.push(real);
                }
            }
            folders
        };
        for folder in list("libraries: =") {
            self.absent.push(folder.join(SPECS));
        }
        for folder in list("programs: =") {
            self.absent.push(folder.join("as"));
        }
        let taken = |path: &PathBuf| !self.files.contains_key(path) && !path.is_file();
        self.absent.retain(taken);
        Ok(())
    }

    /// cc1 or cc1plus; `None`: this gcc has none.
    fn proper(&mut self, driver: &Path, name: &str) -> io::Result<Option<Vec<Component>>> {
        let path = ask(driver, &format!("-print-prog-name={name}"))?;
        if !path.is_absolute() {
            return Ok(None);
        }
        self.program("cc1", &path).map(Some)
    }

    /// The assembler, found as the driver finds it: by its own folders, then PATH.
    fn assembler(&mut self, driver: &Path) -> io::Result<Vec<Component>> {
        let named = ask(driver, "-print-prog-name=as")?;
        if named.is_absolute() {
            return self.program("as", &named);
        }
        let path = env::var_os("PATH").unwrap_or_default();
        for folder in env::split_paths(&path) {
            let candidate = folder.join(&named);
            if candidate.is_file() {
                return self.program("as", &candidate);
            }
            self.absent.push(candidate);
        }
        Err(io::Error::new(io::ErrorKind::NotFound, "no assembler"))
    }

    fn specs(&mut self, driver: &Path) -> io::Result<Vec<Component>> {
        let path = ask(driver, "-print-file-name=specs")?;
        if !path.is_absolute() {
            return Ok(Vec::new());
        }
        Ok(vec![self.file("specs", &path)?])
    }

    /// A program and every library that the loader gives it.
    fn program(&mut self, role: &str, path: &Path) -> io::Result<Vec<Component>> {
        let mut components = vec![self.file(role, path)?];
        for library in libraries(path)? {
            components.push(self.file("lib", &library)?);
        }
        Ok(components)
    }

    fn file(&mut self, role: &str, path: &Path) -> io::Result<Component> {
        let digest = match self.files.get(path) {
            Some((_, digest)) => *digest,
            None => {
                let mut file = File::open(path)?;
                let stat = Stat::of(&file.metadata()?);
                let digest = settled_digest(&mut file, &stat, now_ns())?;
                if Stat::of(&fs::metadata(path)?) != stat {
                    return Err(io::Error::other("changed while it was read"));
                }
                self.files.insert(path.to_path_buf(), (stat, digest));
                digest
            }
        };
        Ok(Component {
            role: role.to_owned(),
            digest,
        })
    }
}

/// What `-v` says on stderr.
struct Banner {
    family: Family,
    version: String,
    /// The whole line that has the version.
    release: String,
    target: String,
    configured: bool,
    /// Where it looks for configuration files beside its own folder.
    configuration_folders: Vec<PathBuf>,
}

impl Banner {
    fn parse(text: &str) -> Option<Self> {
        let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
        let word = |rest: &str| rest.split_whitespace().next().map(str::to_owned);
        let (family, said) = match line("gcc version ") {
            Some(rest) => (Family::Gcc, rest),
            None => {
                let (_, rest) = text
                    .lines()
                    .find_map(|line| line.split_once("clang version "))?;
                (Family::Clang, rest)
            }
        };
        let release = text.lines().find(|line| line.ends_with(said))?;
        Some(Banner {
            family,
            version: word(said)?,
            release: release.trim_end().to_owned(),
            target: word(line("Target: ")?)?,
            configured: line("Configuration file: ").is_some(),
            configuration_folders: ["System", "User"]
                .iter()
                .filter_map(|whose| line(&format!("{whose} configuration file directory: ")))
                .map(PathBuf::from)
                .collect(),
        })
    }
}

/// Whether a configuration file of clang's lies in `folder`. Which of them it reads
/// depends on the target, and an option may say that.
fn has_configuration(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if name.as_bytes().ends_with(CONFIGURATION.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// ELF or Mach-O, not a script.
fn is_program(path: &Path) -> io::Result<bool> {
    let mut magic = [0; 4];
    let read = File::open(path)?.take(4).read(&mut magic)?;
    Ok(read == 4
        && matches!(
            magic,
            [0x7f, b'E', b'L', b'F']
                | [0xcf, 0xfa, 0xed, 0xfe]
                | [0xce, 0xfa, 0xed, 0xfe]
                | [0xca, 0xfe, 0xba, 0xbe]
        ))
}

fn quiet(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// stdout and stderr together: drivers differ in which they use.
fn run(program: &Path, args: &[&str]) -> io::Result<String> {
    let output = quiet(program, args).output()?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push('\n');
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

fn ask(driver: &Path, question: &str) -> io::Result<PathBuf> {
    let mut answer = quiet(driver, &[question]).output()?.stdout;
    while answer.last().is_some_and(u8::is_ascii_whitespace) {
        answer.pop();
    }
    Ok(PathBuf::from(OsString::from_vec(answer)))
}

/// What the loader would load with `program`, itself among it, as `ldd` asks it.
///
/// # Errors
/// The program can't be run.
#[cfg(target_os = "linux")]
pub fn libraries(program: &Path) -> io::Result<Vec<PathBuf>> {
    let output = quiet(program, &["--version"])
        .env("LD_TRACE_LOADED_OBJECTS", "1")
        .output()?;
    Ok(libraries_listed(&output.stdout))
}

/// The libraries in what the loader prints when it is asked to list them.
pub fn libraries_listed(said: &[u8]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for line in said.split(|&byte| byte == b'\n') {
        // "\tlibm.so.6 => /lib/libm.so.6 (0x...)" or "\t/lib/ld.so (0x...)".
        let Some(line) = line.strip_prefix(b"\t") else {
            continue;
        };
        let path = match line.windows(4).position(|at| at == b" => ") {
            Some(at) => &line[at + 4..],
            None => line,
        };
        let end = path
            .windows(2)
            .rposition(|at| at == b" (")
            .unwrap_or(path.len());
        let path = Path::new(OsStr::from_bytes(&path[..end]));
        if path.is_absolute() && !found.iter().any(|known| known == path) {
            found.push(path.to_path_buf());
        }
    }
    found
}

/// The system's libraries are part of the system here.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn libraries(_program: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(Vec::new())
}

/// The digest of a file whose state is `stat`, which is read once if it is settled by
/// `now_ns`: the compilers of a machine share most of what they load, and a worker looks at
/// all of them.
fn settled_digest(file: &mut File, stat: &Stat, now_ns: i128) -> io::Result<Digest> {
    static READ: Mutex<Vec<(Stat, Digest)>> = Mutex::new(Vec::new());
    let read = || READ.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, digest)) = read().iter().find(|(of, _)| of == stat) {
        return Ok(*digest);
    }
    let is_settled = stat.youngest_ns() + RACY_NS < now_ns;
    let digest = digest_of(file)?;
    if is_settled && Stat::of(&file.metadata()?) == *stat {
        read().push((stat.clone(), digest));
    }
    Ok(digest)
}

fn digest_of(file: &mut File) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// What stands for a file's content while it does not change.
#[derive(Clone, PartialEq, prost::Message)]
struct Stat {
    #[prost(uint64, tag = "1")]
    device: u64,
    #[prost(uint64, tag = "2")]
    inode: u64,
    #[prost(uint64, tag = "3")]
    size: u64,
    #[prost(sint64, tag = "4")]
    mtime_s: i64,
    #[prost(sint64, tag = "5")]
    mtime_ns: i64,
    #[prost(sint64, tag = "6")]
    ctime_s: i64,
    #[prost(sint64, tag = "7")]
    ctime_ns: i64,
}

impl Stat {
    fn of(metadata: &fs::Metadata) -> Self {
        Stat {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mtime_s: metadata.mtime(),
            mtime_ns: metadata.mtime_nsec(),
            ctime_s: metadata.ctime(),
            ctime_ns: metadata.ctime_nsec(),
        }
    }

    fn youngest_ns(&self) -> i128 {
        let ns = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        ns(self.mtime_s, self.mtime_ns).max(ns(self.ctime_s, self.ctime_ns))
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct MemoFile {
    #[prost(bytes = "vec", tag = "1")]
    path: Vec<u8>,
    #[prost(message, required, tag = "2")]
    stat: Stat,
}

/// A memo on disk.
#[derive(Clone, PartialEq, prost::Message)]
struct Memo {
    #[prost(string, tag = "1")]
    family: String,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(string, tag = "3")]
    target: String,
    #[prost(bytes = "vec", optional, tag = "4")]
    c: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "5")]
    cxx: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "6")]
    files: Vec<MemoFile>,
    #[prost(bytes = "vec", repeated, tag = "7")]
    absent: Vec<Vec<u8>>,
    #[prost(bytes = "vec", tag = "8")]
    surroundings: Vec<u8>,
    #[prost(message, repeated, tag = "9")]
    watched: Vec<MemoFile>,
    #[prost(message, repeated, tag = "10")]
    unconfigured: Vec<MemoFile>,
    #[prost(string, tag = "11")]
    release: String,
}

fn memo_name(driver: &Path) -> String {
    let mut hasher = Hasher::new();
    hasher.field(b"hybridgrid probe 6");
    // A home may be that of several machines.
    hasher.field(mathematics::variant().as_bytes());
    hasher.field(driver.as_os_str().as_bytes());
    for name in STEERING {
        let value = env::var_os(name);
        hasher.field(&[u8::from(value.is_some())]);
        hasher.field(value.unwrap_or_default().as_bytes());
    }
    hasher.finish().to_hex()[..32].to_owned()
}

fn recall(file: &Path, driver: &Path) -> Option<Probe> {
    let memo = Memo::decode(&memo::recall(file)?[..]).ok()?;
    for known in memo.files.iter().chain(&memo.watched) {
        let path = Path::new(OsStr::from_bytes(&known.path));
        if Stat::of(&fs::metadata(path).ok()?) != known.stat {
            return None;
        }
    }
    for known in &memo.unconfigured {
        let folder = Path::new(OsStr::from_bytes(&known.path));
        if !is_unconfigured(folder, &known.stat) {
            return None;
        }
    }
    for path in &memo.absent {
        if Path::new(OsStr::from_bytes(path)).is_file() {
            return None;
        }
    }
    let digest = |bytes: Option<Vec<u8>>| match bytes {
        None => Some(None),
        Some(bytes) => Digest::try_from(&bytes[..]).ok().map(Some),
    };
    Some(Probe {
        driver: driver.to_path_buf(),
        family: match &*memo.family {
            "gcc" => Family::Gcc,
            "clang" => Family::Clang,
            _ => return None,
        },
        version: memo.version,
        release: memo.release,
        target: memo.target,
        c: digest(memo.c)?,
        cxx: digest(memo.cxx)?,
        surroundings: Digest::try_from(&memo.surroundings[..]).ok()?,
        files: memo
            .files
            .into_iter()
            .map(|file| PathBuf::from(OsString::from_vec(file.path)))
            .collect(),
    })
}

/// Whether there is still no configuration file in `folder`, which had `stat` when there
/// was none. Other programs come and go there with each update of the system: the folder's
/// time alone is not a reason to read a compiler anew.
fn is_unconfigured(folder: &Path, stat: &Stat) -> bool {
    match fs::metadata(folder) {
        Ok(meta) if Stat::of(&meta) == *stat => true,
        Ok(_) => has_configuration(folder).is_ok_and(|has| !has),
        Err(_) => true,
    }
}

/// Nanoseconds since 1970.
fn now_ns() -> i128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| since.as_nanos() as i128)
}

/// Keeps what a look found; `now_ns` is when it was over.
fn remember(file: &Path, probe: &Probe, look: &Look, now_ns: i128) -> io::Result<()> {
    let racy = |stat: &Stat| stat.youngest_ns() + RACY_NS > now_ns;
    let stats = look.files.values().map(|(stat, _)| stat);
    let folders = look.unconfigured.values();
    if stats.chain(look.watched.values()).chain(folders).any(racy) {
        return Ok(());
    }
    let known = |(path, stat): (&PathBuf, &Stat)| MemoFile {
        path: path.as_os_str().as_bytes().to_vec(),
        stat: stat.clone(),
    };
    let memo = Memo {
        family: probe.family.name().to_owned(),
        version: probe.version.clone(),
        release: probe.release.clone(),
        target: probe.target.clone(),
        c: probe.c.map(|digest| digest.as_bytes().to_vec()),
        cxx: probe.cxx.map(|digest| digest.as_bytes().to_vec()),
        files: look
            .files
            .iter()
            .map(|(path, (stat, _))| known((path, stat)))
            .collect(),
        watched: look.watched.iter().map(known).collect(),
        unconfigured: look.unconfigured.iter().map(known).collect(),
        absent: look
            .absent
            .iter()
            .map(|path| path.as_os_str().as_bytes().to_vec())
            .collect(),
        surroundings: probe.surroundings.as_bytes().to_vec(),
    };
    memo::remember(file, &memo.encode_to_vec(), MEMOS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::{process, thread};

    #[test]
    fn a_settled_file_is_read_once_and_another_each_time() {
        let path = env::temp_dir().join(format!("hg-settled-{}", process::id()));
        let digest = |text: &str, stat: &Stat, now_ns| {
            fs::write(&path, text).unwrap();
            let mut file = File::open(&path).unwrap();
            settled_digest(&mut file, stat, now_ns).unwrap()
        };
        fs::write(&path, "old").unwrap();
        let stat = Stat::of(&fs::metadata(&path).unwrap());
        // Whatever is written there now might have the same stat.
        assert_eq!(digest("one", &stat, now_ns()), Digest::of(b"one"));
        assert_eq!(digest("two", &stat, now_ns()), Digest::of(b"two"));
        // Not remembered by a stat that is not the file's own any more.
        let later = now_ns() + 2 * RACY_NS;
        digest("six", &stat, later);
        let stat = Stat::of(&fs::metadata(&path).unwrap());
        let mut file = File::open(&path).unwrap();
        assert_eq!(
            settled_digest(&mut file, &stat, later).unwrap(),
            Digest::of(b"six")
        );
        // By the stat alone: nobody looks into the file.
        assert_eq!(digest("ten", &stat, later), Digest::of(b"six"));
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn one_looks_and_the_others_wait() {
        let folder = env::temp_dir().join(format!("hg-probe-turn-{}", process::id()));
        let inside = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    // It was too long for this one, on a busy machine.
                    let Some(turn) = take_turn(&folder) else {
                        return;
                    };
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(turn);
                });
            }
        });
        fs::remove_dir_all(folder).expect("the folder");
    }

    #[test]
    fn a_memo_hangs_on_configuration_files_and_not_on_their_folders_time() {
        let folder = env::temp_dir().join(format!("hg-probe-config-{}", process::id()));
        let [programs, gone] = ["bin", "gone"].map(|name| folder.join(name));
        fs::create_dir_all(&programs).unwrap();
        let driver = programs.join("clang");
        fs::write(&driver, "").unwrap();
        let target = "x86_64-pc-linux-gnu";
        let mut look = Look::default();
        let folders = [gone.clone()];
        assert!(!look.configurations(&driver, target, &folders).unwrap());
        let probe = Probe {
            driver: driver.clone(),
            family: Family::Clang,
            version: "14.0.6".into(),
            release: "Debian clang version 14.0.6".into(),
            target: target.into(),
            c: None,
            cxx: None,
            surroundings: Hasher::new().finish(),
            files: Vec::new(),
        };
        let memo = folder.join("memos/memo");
        let later = now_ns() + RACY_NS;
        remember(&memo, &probe, &look, later).unwrap();
        assert_eq!(recall(&memo, &driver), Some(probe.clone()));
        // Another program is installed, and the other folder comes to be.
        fs::write(programs.join("ld"), "").unwrap();
        fs::create_dir(&gone).unwrap();
        assert_eq!(recall(&memo, &driver), Some(probe.clone()));
        for folder in [&gone, &programs] {
            let file = folder.join("aarch64-linux-gnu.cfg");
            fs::write(&file, "-O3").unwrap();
            assert_eq!(recall(&memo, &driver), None, "{file:?}");
            let mut look = Look::default();
            let folders = [gone.clone()];
            assert!(look.configurations(&driver, target, &folders).unwrap());
            fs::remove_file(&file).unwrap();
            assert_eq!(recall(&memo, &driver), Some(probe.clone()));
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn banners() {
        let gcc = Banner::parse("Using built-in specs.\nTarget: x86_64-linux-gnu\ngcc version 12.2.0 (Debian 12.2.0-14) \n").unwrap();
        assert_eq!((gcc.family, &*gcc.version), (Family::Gcc, "12.2.0"));
        assert_eq!(gcc.release, "gcc version 12.2.0 (Debian 12.2.0-14)");
        let clang = Banner::parse("Debian clang version 14.0.6\nTarget: x86_64-pc-linux-gnu\nThread model: posix\nConfiguration file: /etc/clang/clang.cfg\n").unwrap();
        assert_eq!((clang.family, &*clang.version), (Family::Clang, "14.0.6"));
        assert_eq!(clang.release, "Debian clang version 14.0.6");
        assert_eq!(clang.target, "x86_64-pc-linux-gnu");
        assert!(clang.configured);
        assert!(clang.configuration_folders.is_empty());
        let clang = Banner::parse("clang version 19.1.0\nTarget: x86_64-pc-linux-gnu\nSystem configuration file directory: /etc/clang\nUser configuration file directory: /home/x/.config/clang\n").unwrap();
        let folders = ["/etc/clang", "/home/x/.config/clang"].map(PathBuf::from);
        assert_eq!(clang.configuration_folders, folders);
        assert!(Banner::parse("tcc version 0.9.27").is_none());
    }

    #[test]
    fn scripts_are_refused() {
        let folder = env::temp_dir().join(format!("hg-probe-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let script = folder.join("gcc");
        fs::write(&script, "#!/bin/sh\nexec gcc \"$@\"\n").unwrap();
        assert!(matches!(probe(&script, None), Err(ProbeError::Script(_))));
        fs::remove_dir_all(&folder).unwrap();
    }
}
