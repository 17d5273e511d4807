//! What a compile is to do, from its command line and environment: what is read
//! and written, and what another machine's compiler may say of it.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use hg_proto::compiler::probe::{self, Probe};
use hg_proto::compiler::toolchain::Family;
use hg_proto::options::args::{self, Compile, Dialect, Reason};
use hg_proto::v1::EnvironmentVariable;
use hg_proto::wire::limits::{ENVIRONMENT_BYTES_MAX, ENVIRONMENT_MAX};

use crate::config::Config;
use crate::grid::attempt::{self, AllowedDiagnostics};
use crate::grid::memo::{Known, Memos};
use crate::grid::object;
use crate::includes::closure::Settled;
use crate::includes::search_path::{self, SearchPath};
use crate::invocation::identity::{self, Identity};
use crate::invocation::native;
use crate::invocation::presentation::{Presentation, PresentationProbe};
use crate::local::compiler::{self, Found};
use crate::local::output::{self, Style};
use crate::local::process;
use crate::local::slots::Slot;
use crate::local::terminal;
use crate::os;

/// Bytes of one response file.
const RESPONSE_BYTES_MAX: u64 = 4 << 20;
/// Response files in response files.
const RESPONSE_DEPTH_MAX: usize = 8;
/// Arguments after expansion.
const ARGUMENTS_MAX: usize = 1 << 16;

/// What a command line means, and which files are concerned.
pub struct Plan {
    /// The family and driver whose command line it is.
    pub dialect: Dialect,
    /// What the command line means.
    pub compile: Compile,
    /// Path of the object or the assembly.
    pub object: PathBuf,
    /// Path of the dependency file, if one is asked for.
    pub dependencies: Option<PathBuf>,
    /// Where the compile may write beside the object, by absolute paths; it need not write all.
    pub sides: Vec<PathBuf>,
    /// Files with arguments, as typed.
    pub responses: Vec<Vec<u8>>,
    pub(crate) environment: Vec<EnvironmentVariable>,
    // The cache asks for it, and the grid again.
    probe: OnceCell<Result<Probe, Reason>>,
    pub(crate) settled: OnceCell<Result<Settled, Reason>>,
}

impl Plan {
    /// Reads what was typed, response files and all.
    ///
    /// # Errors
    /// Why the compiler had better run plainly.
    pub fn read(found: &Found, name: compiler::Name, config: &Config) -> Result<Self, Reason> {
        let environment = environment()?;
        let family = match name.family {
            Some(family) => family,
            None => family_behind(&found.driver),
        };
        let dialect = Dialect {
            family,
            cxx_driver: match family {
                // g++ is another program than gcc, whatever a link to it is called.
                Family::Gcc => real_name(&found.driver).unwrap_or(name).cxx,
                Family::Clang => name.cxx,
            },
        };
        let (mut words, mut responses) = (Vec::new(), Vec::new());
        expand(&found.args, 0, &mut words, &mut responses)?;
        if native::is_asked(&words) {
            let memos = config.compiler_memos();
            let named = native::named(found, family, &words, memos.as_deref());
            words = named.unwrap_or(words);
        }
        let compile = args::parse(dialect, &words)?;
        refuse_probe(&compile.source)?;
        let path = |bytes: Vec<u8>| PathBuf::from(os::from_bytes(bytes));
        // Nearly none has any.
        let sides = match compile.side_outputs().is_empty() {
            true => Vec::new(),
            false => {
                let folder = env::current_dir().unwrap_or_default();
                let outputs = compile.tree_outputs(os::bytes(folder.as_os_str()));
                let main = 1 + usize::from(compile.dependencies.is_some());
                outputs.into_iter().skip(main).map(path).collect()
            }
        };
        Ok(Plan {
            sides,
            dialect,
            object: path(compile.output_path()),
            dependencies: compile.dependency_path().map(path),
            compile,
            responses,
            environment,
            probe: OnceCell::new(),
            settled: OnceCell::new(),
        })
    }

    /// How the compiler treats an object that is there.
    pub fn object_style(&self) -> Style {
        match (self.compile.assembly, self.dialect.family) {
            (true, Family::Gcc) => Style::Rewrite,
            _ => Style::Replace,
        }
    }

    /// The compiler, if it was asked for already.
    pub(crate) fn known_probe(&self) -> Option<&Probe> {
        self.probe.get().and_then(|probe| probe.as_ref().ok())
    }

    /// What the object has to look like; anything, while nobody has asked which compiler it
    /// is.
    pub fn object_kind(&self) -> object::Kind {
        let target = self.known_probe().map_or("", |probe| &probe.target);
        object::Kind::of(&self.compile, self.dialect.family, target)
    }

    /// Whether source and outputs are such that we do with them as the compiler does.
    ///
    /// # Errors
    /// What is odd about them.
    pub fn check_files(&self) -> Result<(), Reason> {
        let source = PathBuf::from(os::from_bytes(self.compile.source.clone()));
        let read = match std::fs::metadata(&source) {
            Ok(meta) if meta.is_file() => Some((meta.dev(), meta.ino())),
            _ => return Err(Reason::with("source", "not a regular file")),
        };
        let clang = self.dialect.family == Family::Clang;
        let written = output::check(&self.object, self.object_style(), clang)?;
        if self.object == source || written == read {
            return Err(Reason::with("output", "the source itself"));
        }
        if let Some(path) = &self.dependencies {
            let listed = output::check(path, Style::Rewrite, clang)?;
            let same = listed.is_some() && (listed == written || listed == read);
            if same || *path == self.object || *path == source {
                return Err(Reason::with("output", "two files are one"));
            }
        }
        for path in &self.sides {
            let listed = output::check(path, Style::Rewrite, clang)?;
            let same = listed.is_some() && (listed == written || listed == read);
            if same || !output::has_stock_mode(path) {
                return Err(Reason::with("output", path.display()));
            }
        }
        // What such a name's suffix is, gcc's versions do not agree.
        if [&source, &self.object]
            .into_iter()
            .any(|path| is_suffix(path))
        {
            return Err(Reason::with("source-name", source.display()));
        }
        Ok(())
    }

    /// Identifies the compiler.
    ///
    /// # Errors
    /// The compiler is not one that we know.
    pub fn probe(&self, found: &Found, config: &Config) -> Result<&Probe, Reason> {
        let look = || {
            let memo = config.compiler_memos().map(|memos| memos.join("compilers"));
            let probe = probe::probe(&found.driver, memo.as_deref())
                .map_err(|error| Reason::with("unknown-compiler", error))?;
            match probe.family == self.dialect.family {
                true => Ok(probe),
                false => Err(Reason::with("unknown-compiler", "not what its name says")),
            }
        };
        self.probe.get_or_init(look).as_ref().map_err(Reason::clone)
    }

    /// Where this compile looks for headers. `wait` is for a slot, should the compiler
    /// have to be asked.
    ///
    /// # Errors
    /// The compiler does not say.
    pub fn folders(
        &self,
        found: &Found,
        config: &Config,
        wait: impl FnOnce() -> Option<Slot>,
    ) -> Result<SearchPath, Reason> {
        let toolchain = Identity::of(self.probe(found, config)?, self.compile.language)
            .ok_or_else(|| Reason::with("unknown-compiler", "not for this language"))?;
        let basis = identity::basis(found, &toolchain);
        let memo = search_path::memos(config);
        search_path::find(found, &self.compile, &basis, memo.as_deref(), wait)
    }

    /// What a worker's compiler may say of the very same files, and what makes it say that
    /// as ours would. `memos` keeps how ours quotes, and speaks to terminals.
    pub fn diagnostics(&self, found: &Found, memos: &Memos) -> Diagnostics {
        let allowed = match self.quotes(found, memos) {
            Quotes::Unknown => AllowedDiagnostics::Nothing,
            Quotes::Plain => AllowedDiagnostics::OfFiles,
            Quotes::Utf8 => AllowedDiagnostics::OfFilesInUtf8,
        };
        let told = |allowed, presentation| Diagnostics {
            allowed,
            presentation,
        };
        let on_terminal = !terminal::identity().is_empty();
        if allowed == AllowedDiagnostics::Nothing || self.speaks_otherwise(found, on_terminal) {
            return told(AllowedDiagnostics::Nothing, Presentation::default());
        }
        if !on_terminal {
            return told(allowed, Presentation::default());
        }
        let manners = PresentationProbe {
            found,
            family: self.dialect.family,
            environment: &self.environment_there(allowed),
            memos,
        };
        match manners.find() {
            Some(presentation) => told(allowed, presentation),
            None => told(AllowedDiagnostics::Nothing, Presentation::default()),
        }
    }

    /// Whether the looks of its words depend on more than a worker's compiler is told: on
    /// what its wrapper does to them, on a choice that is left to the compiler by option,
    /// or on a variable about links that is not for terminals alone.
    fn speaks_otherwise(&self, found: &Found, on_terminal: bool) -> bool {
        let mut words = self.compile.arguments.iter().flat_map(|a| &a.words);
        if on_terminal {
            let left = |word: &Vec<u8>| word == b"-fdiagnostics-color=auto";
            return found.wrapped || self.dialect.family == Family::Clang && words.any(left);
        }
        let links = ["GCC_URLS", "TERM_URLS"];
        let typed = |word: &Vec<u8>| word.starts_with(b"-fdiagnostics-urls");
        links.iter().any(|name| env::var_os(name).is_some()) && words.any(typed)
    }

    /// How gcc quotes, which it does as its locale does; clang has one way.
    fn quotes(&self, found: &Found, memos: &Memos) -> Quotes {
        if self.dialect.family != Family::Gcc {
            return Quotes::Plain;
        }
        let value = |name: &str| {
            let named = self.environment.iter().find(|v| v.name == name.as_bytes());
            named.map_or(&b""[..], |variable| &variable.value)
        };
        let chosen = |category| {
            let names = ["LC_ALL", category, "LANG"];
            let set = names.into_iter().map(value).find(|value| !value.is_empty());
            set.unwrap_or(b"C")
        };
        let (messages, characters) = (chosen("LC_MESSAGES"), chosen("LC_CTYPE"));
        let plain = |locale: &[u8]| matches!(locale, b"C" | b"POSIX");
        if plain(messages) && plain(characters) {
            return Quotes::Plain;
        }
        // No catalogue is for these; another may have some of the words.
        let english = plain(messages)
            || [&b"C."[..], b"en_US"]
                .iter()
                .any(|name| messages.starts_with(name));
        // In another character set other letters are spelled out.
        let name = characters.to_ascii_lowercase();
        let utf8 = name.ends_with(b".utf-8") || name.ends_with(b".utf8");
        if !english || !(utf8 || plain(characters)) || !value("LANGUAGE").is_empty() {
            return Quotes::Unknown;
        }
        let driver = os::bytes(found.driver.as_os_str());
        let key = [b"quotes", driver, messages, characters].join(&0);
        let known = match memos.recall(&key, attempt::source_memo_lasts) {
            Known::Bad(words) => words,
            _ => {
                let words = ask_for_quotes(found);
                memos.note(&key, words);
                words.to_owned()
            }
        };
        match &known[..] {
            PLAIN => Quotes::Plain,
            UTF8 => Quotes::Utf8,
            _ => Quotes::Unknown,
        }
    }

    /// The variables of the compiler there.
    pub(crate) fn environment_there(
        &self,
        allowed: AllowedDiagnostics,
    ) -> Vec<EnvironmentVariable> {
        let mut environment = self.environment.clone();
        // A worker has no other locales than these.
        let locale = match allowed {
            AllowedDiagnostics::OfFilesInUtf8 => &b"C.UTF-8"[..],
            AllowedDiagnostics::OfFiles if self.dialect.family == Family::Gcc => b"C",
            _ => return environment,
        };
        environment.retain(|variable| variable.name != b"LC_ALL");
        environment.push(EnvironmentVariable {
            name: b"LC_ALL".to_vec(),
            value: locale.to_vec(),
        });
        environment
    }
}

/// What a worker's compiler may say, and how it comes to say it.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    /// Which of its words may stand for those of the local compiler.
    pub allowed: AllowedDiagnostics,
    /// How it is made to present them.
    pub presentation: Presentation,
}

/// How a compiler quotes words in what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    /// `'so'`.
    Plain,
    /// With the two marks that UTF-8 has for it.
    Utf8,
    /// In another way, or in another language.
    Unknown,
}

const PLAIN: &str = "plain";
const UTF8: &str = "utf8";

/// Has gcc quote something, in English if it will: an option that it does not know.
fn ask_for_quotes(found: &Found) -> &'static str {
    let command = found.driver_command(vec!["-fhgbuild-asks".into()]);
    let said = process::prepare(&command).stdin(Stdio::null()).output();
    let said = said.map(|output| output.stderr).unwrap_or_default();
    let has = |words: &str| memchr::memmem::find(&said, words.as_bytes()).is_some();
    match has("unrecognized command-line option") {
        true if has("\u{2018}-fhgbuild-asks\u{2019}") => UTF8,
        true if has("'-fhgbuild-asks'") => PLAIN,
        _ => "unknown",
    }
}

/// `.c`: a name, or a suffix without one?
fn is_suffix(path: &Path) -> bool {
    let name = path.file_name().map(os::bytes).unwrap_or_default();
    name.starts_with(b".") && !name[1..].contains(&b'.')
}

/// Folders that configuring makes for the programs that it tries: CMake, Meson, FFmpeg.
const PROBE_FOLDERS: [&[u8]; 4] = [
    b"CMakeFiles/CMakeTmp",
    b"CMakeFiles/CMakeScratch",
    b"meson-private/tmp",
    b"/ffconf.",
];

/// The reason of what a configure script tries out.
pub const CONFIGURE_PROBE: &str = "configure-probe";

/// Refuses what a configure script tries out: small, never the same again, and often
/// meant to fail, which would be done twice.
fn refuse_probe(source: &[u8]) -> Result<(), Reason> {
    let folder = env::current_dir().unwrap_or_default();
    let named = |folder: &[u8]| memchr::memmem::find(source, folder).is_some();
    let base = source.rsplit(|byte| *byte == b'/').next();
    let autoconf = base.is_some_and(|base| base.starts_with(b"conftest."));
    let in_folder = |name: &&[u8]| {
        named(name) || memchr::memmem::find(os::bytes(folder.as_os_str()), name).is_some()
    };
    match autoconf || source == b"/dev/null" || PROBE_FOLDERS.iter().any(in_folder) {
        true => Err(Reason::new(CONFIGURE_PROBE, source)),
        false => Ok(()),
    }
}

fn real_name(driver: &Path) -> Option<compiler::Name> {
    compiler::name_of(&compiler::real_name(driver))
}

/// `cc` and `c++` are links: to whom?
fn family_behind(driver: &Path) -> Family {
    let name = compiler::real_name(driver);
    match name.to_string_lossy().contains("clang") || cfg!(target_os = "macos") {
        true => Family::Clang,
        false => Family::Gcc,
    }
}

/// What of the environment travels.
///
/// # Errors
/// A variable that makes the compiler do what we can't follow.
fn environment() -> Result<Vec<EnvironmentVariable>, Reason> {
    let mut travels = BTreeMap::new();
    for (name, value) in env::vars_os() {
        let (name, value) = (os::bytes(&name), os::bytes(&value));
        if let Some(reason) = args::environment_forces_local(name) {
            return Err(reason);
        }
        if args::environment_travels(name) {
            if name.len() + value.len() > ENVIRONMENT_BYTES_MAX {
                return Err(Reason::with("environment", String::from_utf8_lossy(name)));
            }
            travels.insert(name.to_vec(), value.to_vec());
        }
    }
    if travels.len() > ENVIRONMENT_MAX {
        return Err(Reason::with("environment", "too many variables"));
    }
    Ok(travels
        .into_iter()
        .map(|(name, value)| EnvironmentVariable { name, value })
        .collect())
}

/// Puts the contents of `@file` in its place, as the compiler does.
fn expand(
    args: &[OsString],
    depth: usize,
    words: &mut Vec<Vec<u8>>,
    responses: &mut Vec<Vec<u8>>,
) -> Result<(), Reason> {
    for arg in args {
        let word = os::bytes(arg);
        let file = word
            .strip_prefix(b"@")
            .map(|name| os::from_bytes(name.to_vec()));
        match file.and_then(|file| read_response(Path::new(&file))) {
            Some(Err(why)) => return Err(why),
            Some(Ok(text)) if depth < RESPONSE_DEPTH_MAX => {
                responses.push(word[1..].to_vec());
                let inner = args::split_response_file(&text);
                let inner: Vec<OsString> = inner.into_iter().map(os::from_bytes).collect();
                expand(&inner, depth + 1, words, responses)?;
            }
            Some(Ok(_)) => return Err(Reason::with("response-file", "nested too deeply")),
            // Not a file: the compiler takes it for an argument.
            None => words.push(word.to_vec()),
        }
        if words.len() > ARGUMENTS_MAX {
            return Err(Reason::with("response-file", "too many arguments"));
        }
    }
    Ok(())
}

fn read_response(file: &Path) -> Option<Result<Vec<u8>, Reason>> {
    let meta = std::fs::metadata(file).ok()?;
    let told = |why: &str| Reason::with("response-file", format_args!("{}: {why}", file.display()));
    if !meta.is_file() {
        return Some(Err(told("not a regular file")));
    }
    if meta.len() > RESPONSE_BYTES_MAX {
        return Some(Err(told("too large")));
    }
    Some(std::fs::read(file).map_err(|error| told(&error.to_string())))
}
