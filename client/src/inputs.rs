//! Gathers what a worker needs: the source, preprocessed here with its macros
//! kept, and the dependency file as a by-product.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use bytes::Bytes;
use hg_proto::args::{CLOCKS, Compile, Dialect, Reason};
use hg_proto::digest::Digest;
use hg_proto::limits::{INPUT_BYTES_MAX, ZSTD_WINDOW_LOG_MAX};
use hg_proto::toolchain::{Family, Language};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::closure::{Listed, Settled};
use crate::compiler::Found;
use crate::facts;
use crate::hazards;
use crate::indentation;
use crate::listed;
use crate::local;
use crate::os;
use crate::question;
use crate::signals::Forwarding;

/// zstd's fastest: the text is sent once and thrown away.
const ZSTD_LEVEL: i32 = 1;
/// Bytes of preprocessed text that are held in memory.
const TEXT_BYTES_MAX: u64 = 64 << 20;
const _: () = assert!(TEXT_BYTES_MAX <= INPUT_BYTES_MAX);

/// Headers that gcc may have a precompiled form of in another folder: it takes one
/// only before the first declaration.
const PRECOMPILED_HEADERS_MAX: usize = 2;
/// Parts of a path in an `#include` for which such a form is looked for.
const INCLUDE_PARTS_MAX: usize = 3;

/// A source that may leave this machine.
#[derive(Debug)]
pub struct Gathered {
    /// Of the plain text.
    pub digest: Digest,
    /// Bytes of plain text.
    pub size: u64,
    /// The text as it travels, zstd.
    pub encoded: Bytes,
    /// Content of the dependency file, if one is wanted.
    pub dependencies: Option<Vec<u8>>,
    /// What the preprocessor says it read.
    pub listed: Listed,
}

/// Which text is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Macros kept, for another machine to compile.
    Travelling,
    /// Macros expanded, to be searched for what the files leave in doubt.
    Expanded,
}

/// A preprocessor at work.
pub struct Preprocessing {
    child: Child,
    text: File,
    errors: File,
    dependencies: File,
    wanted: bool,
    complete: bool,
    forwarding: Forwarding,
}

fn reason(code: &'static str, detail: impl std::fmt::Display) -> Reason {
    Reason {
        code,
        detail: detail.to_string(),
    }
}

impl Preprocessing {
    /// Starts the user's compiler as a preprocessor.
    ///
    /// # Errors
    /// Why the compile stays local.
    pub fn start(
        found: &Found,
        compile: &Compile,
        dialect: Dialect,
        text: Wanted,
    ) -> Result<Self, Reason> {
        let failed = |error: io::Error| reason("preprocessor-failed", error);
        let dependencies = scratch().map_err(failed)?;
        let target = descriptor_path(&dependencies);
        let mut args = match text {
            Wanted::Travelling => compile.preprocess_args(dialect, Some(target.as_bytes())),
            Wanted::Expanded => compile.expand_args(dialect, target.as_bytes()),
        };
        let asked = compile.dependencies.as_ref();
        let asked = asked.filter(|_| text == Wanted::Travelling);
        if text == Wanted::Travelling && asked.is_none() {
            // For us: what the text is made of.
            args.extend(["-MD", "-MF", &target].map(|word| word.as_bytes().to_vec()));
        }
        let errors = scratch().map_err(failed)?;
        let args = args.into_iter().map(os::from_bytes).collect();
        let command = found.driver_command(args);
        // The compiler opens it by number.
        fcntl(&dependencies, FcntlArg::F_SETFD(FdFlag::empty())).map_err(|e| failed(e.into()))?;
        // A file, not a pipe: nobody has to be woken for each few kilobytes.
        let text = scratch().map_err(failed)?;
        let stdout = text.try_clone().map_err(failed)?;
        let stderr = errors.try_clone().map_err(failed)?;
        let forwarding = Forwarding::start();
        let mut process = local::process(&command);
        process.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let child = os::with_file_size_limit(TEXT_BYTES_MAX, || process.spawn()).map_err(failed)?;
        forwarding.to(child.id());
        Ok(Preprocessing {
            child,
            text,
            errors,
            dependencies,
            wanted: asked.is_some(),
            complete: asked.is_none_or(|asked| asked.system_headers),
            forwarding,
        })
    }

    /// The whole text, once the preprocessor has ended well and without a word.
    ///
    /// # Errors
    /// Why the compile stays local.
    pub fn text(&mut self) -> Result<Vec<u8>, Reason> {
        let failed = |error: io::Error| reason("preprocessor-failed", error);
        let status = self.child.wait().map_err(failed)?;
        let size = self.text.metadata().map_err(failed)?.len();
        if size >= TEXT_BYTES_MAX {
            return Err(reason(
                "too-large",
                format_args!("over {} MiB preprocessed", TEXT_BYTES_MAX >> 20),
            ));
        }
        if !status.success() {
            return Err(reason("preprocessor-failed", status));
        }
        let said = self.errors.metadata().map_or(1, |meta| meta.len());
        if said > 0 {
            return Err(reason("preprocessor-diagnostics", ""));
        }
        content(&mut self.text, size).map_err(failed)
    }

    /// The dependency file, if one is wanted, and what it says; after
    /// [`Preprocessing::text`].
    ///
    /// # Errors
    /// Why the compile stays local.
    pub fn dependencies(&mut self) -> Result<(Option<Vec<u8>>, Listed), Reason> {
        let file = &mut self.dependencies;
        let rule = file
            .metadata()
            .and_then(|meta| content(file, meta.len()))
            .map_err(|error| reason("preprocessor-failed", error))?;
        let listed = listed::from_rule(&rule, self.complete);
        Ok((self.wanted.then_some(rule), listed))
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Preprocessing {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.stop();
        }
        let _ = &self.forwarding;
    }
}

/// Has the preprocessor say what the files leave in doubt, see [`crate::closure::is_doubt`].
///
/// # Errors
/// What is wrong with what it says.
pub fn settle(found: &Found, compile: &Compile, dialect: Dialect) -> Result<Settled, Reason> {
    // One that the command line takes away would be there.
    let words = || compile.arguments.iter().flat_map(|a| &a.words);
    let names = |word: &&Vec<u8>| {
        let named = |name: &&str| memchr::memmem::find(word, name.as_bytes()).is_some();
        CLOCKS.iter().any(&named)
    };
    if let Some(word) = words().find(names) {
        return Err(Reason::new(hazards::TIME_MACRO, word));
    }
    let before_ns = facts::now_ns();
    let mut preprocessing = Preprocessing::start(found, compile, dialect, Wanted::Expanded)?;
    let text = preprocessing.text()?;
    let (_, listed) = preprocessing.dependencies()?;
    let old = |word: &Vec<u8>| {
        let years = [&b"98"[..], b"03", b"0x", b"11"];
        let named = |year: &&[u8]| memchr::memmem::find(word, year).is_some();
        word == b"-ansi" || word.starts_with(b"-std") && years.iter().any(named)
    };
    let modern = compile.language == Language::Cxx && !words().any(old);
    match hazards::find_expanded(&text, dialect.family, modern) {
        Some(hazard) => Err(hazard),
        None => Ok(Settled {
            before_ns,
            listed,
            late: match dialect.family {
                Family::Gcc => hazards::carried_out_late(&text),
                Family::Clang => None,
            },
        }),
    }
}

/// Looks at the files that `text` is made of, for what the text does not show:
/// precompiled headers that the compiler would take in their place, and pragmas
/// that gcc leaves out.
///
/// # Errors
/// Why the compile stays local.
pub fn check_files(text: &[u8], compile: &Compile, dialect: Dialect) -> Result<(), Reason> {
    let precompiled = |path: &Path| match path.exists() {
        true => Err(reason("pch", path.display())),
        false => Ok(()),
    };
    for candidate in compile.precompiled_candidates(dialect) {
        precompiled(Path::new(&os::from_bytes(candidate)))?;
    }
    if dialect.family == Family::Clang {
        return check_clang(text, compile);
    }
    let words = || compile.arguments.iter().flat_map(|a| &a.words);
    if question::is_c90(compile)
        && let Some(odd) = hazards::odd_slashes(&hazards::user_text(text))
    {
        return Err(odd);
    }
    let files = hazards::user_files(text);
    for name in files.iter().skip(1).take(PRECOMPILED_HEADERS_MAX) {
        for folder in words().filter_map(|word| include_folder(word)) {
            for end in ends(name) {
                let path = [folder, b"/", end, b".gch"].concat();
                precompiled(Path::new(&os::from_bytes(path)))?;
            }
        }
    }
    let fall_level = fall_level(text, compile);
    let openmp = words().any(|word| word.starts_with(b"-fopenmp") || word == b"-fopenacc");
    let mut builtins = hazards::BuiltinQuestions::default();
    for defined in question::macros(compile) {
        builtins.add(&[b"#define ", &defined[..]].concat());
    }
    for file in files {
        let path = PathBuf::from(os::from_bytes(file.clone()));
        precompiled(Path::new(&os::from_bytes([&file[..], b".gch"].concat())))?;
        let content = match read_plain(&path) {
            Ok(content) => content,
            // A name that a `#line` made up; its text is in another file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(reason("unreadable-source", error)),
        };
        if let Some(lost) = hazards::lost_pragma(text, &file, &content, openmp) {
            return Err(lost);
        }
        if fall_level.is_some_and(|level| hazards::falls_into_condition(&content, level)) {
            return Err(reason("fall-through", String::from_utf8_lossy(&file)));
        }
        builtins.add(&content);
        if builtins.asks() {
            return Err(reason("builtin-question", String::from_utf8_lossy(&file)));
        }
    }
    let asked = |word: &Vec<u8>| word == b"-Wall" || word.ends_with(b"misleading-indentation");
    let indentation = mentions(text, b"misleading-indentation")
        || (words().any(asked) && !is_silenced(words(), b"-Wno-misleading-indentation"));
    if indentation {
        let tab = words().any(|word| word.starts_with(b"-ftabstop"));
        if tab || indentation::may_mislead(text, &hazards::user_text(text)) {
            return Err(reason("indentation", ""));
        }
    }
    Ok(())
}

/// What is in a file that a text names; a name may be made up, and of what would never
/// end to be read.
fn read_plain(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let mut file = File::options()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)?;
    match file.metadata()?.is_file() {
        true => file.read_to_end(&mut content).map(|_| content),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

/// [`check_files`] of clang: what it would say of the files, and not of a text that is one
/// file, and what it takes otherwise when it makes the text.
fn check_clang(text: &[u8], compile: &Compile) -> Result<(), Reason> {
    let words = || compile.arguments.iter().flat_map(|a| &a.words);
    let everything = mentions(text, b"-Weverything");
    let quiet =
        |off: &[u8], name: &[u8]| is_silenced(words(), off) && !mentions(text, name) && !everything;
    let user = hazards::user_text(text);
    if !quiet(b"-Wno-empty-body", b"empty-body") && indentation::may_be_empty(&user) {
        return Err(reason("empty-body", ""));
    }
    if !quiet(b"-Wno-pragma-pack", b"pragma-pack") {
        let asked = |word: &Vec<u8>| mentions(word, b"pragma-pack") || word == b"-Weverything";
        let beneath = everything || mentions(text, b"pragma-pack") || words().any(asked);
        if let Some(packs) = hazards::packs_across_files(text, beneath) {
            return Err(packs);
        }
    }
    if !quiet(
        b"-Wno-nullability-completeness",
        b"nullability-completeness",
    ) {
        let defined = question::macros(compile);
        let mut texts = defined.iter().map(Vec::as_slice).chain([&*user]);
        if texts.any(hazards::names_nullability) {
            return Err(reason("nullability", ""));
        }
    }
    for file in hazards::user_files(text) {
        let path = PathBuf::from(os::from_bytes(file.clone()));
        match read_plain(&path) {
            Ok(content) if hazards::mixes_newlines(&content) => {
                return Err(reason("mixed-newlines", path.display()));
            }
            Ok(_) => {}
            // A name that a `#line` made up; its text is in another file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(reason("unreadable-source", error)),
        }
    }
    Ok(())
}

/// The lowest level at which gcc may look for comments about falling through, if it does.
fn fall_level(text: &[u8], compile: &Compile) -> Option<u8> {
    let name = &b"implicit-fallthrough"[..];
    let level = |after: &[u8]| match after {
        [b'=', digit @ b'0'..=b'9', ..] => digit - b'0',
        _ => hazards::LEVEL_DEFAULT,
    };
    let in_text = memchr::memmem::find_iter(text, name).filter_map(|at| {
        let ignored = text[..at].ends_with(b"ignored \"-W");
        (!ignored).then(|| level(&text[at + name.len()..]))
    });
    let words = || compile.arguments.iter().flat_map(|a| &a.words);
    let named = words()
        .filter(|word| !word.starts_with(b"-Wno-"))
        .filter_map(|word| {
            let at = memchr::memmem::find(word, name)?;
            Some(level(&word[at + name.len()..]))
        });
    // The one that is named counts, wherever it stands.
    let extra = || words().any(|word| word == b"-Wextra" || word == b"-W");
    let typed = match is_silenced(words(), b"-Wno-implicit-fallthrough") {
        true => None,
        false => named
            .min()
            .or_else(|| extra().then_some(hazards::LEVEL_DEFAULT)),
    };
    let lowest = in_text.chain(typed).filter(|level| *level > 0).min();
    lowest.filter(|level| *level < hazards::LEVEL_NEVER)
}

/// Whether a pragma may turn a warning on, whatever the options say.
fn mentions(text: &[u8], warning: &[u8]) -> bool {
    memchr::memmem::find(text, warning).is_some()
}

/// Whether `off` holds to the end of a command: no later `-W` may undo it.
fn is_silenced<'a>(words: impl Iterator<Item = &'a Vec<u8>>, off: &[u8]) -> bool {
    words.fold(false, |silenced, word| match &word[..] {
        b"-w" => true,
        word if word == off => true,
        word => silenced && (!word.starts_with(b"-W") || word.starts_with(b"-Wno-")),
    })
}

/// The folder in `-Ifolder` and the like; the word itself when it stands alone.
fn include_folder(word: &[u8]) -> Option<&[u8]> {
    let options = [&b"-I"[..], b"-iquote", b"-isystem", b"-idirafter"];
    let joined = options.iter().find_map(|name| word.strip_prefix(*name));
    let folder = joined.unwrap_or(word);
    (!folder.is_empty() && (joined.is_some() || folder[0] != b'-')).then_some(folder)
}

/// `c.h`, `b/c.h` and `a/b/c.h` of a path: what an `#include` may have said.
fn ends(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = memchr::memrchr_iter(b'/', path).map(|at| &path[at + 1..]);
    slashes.chain([path]).take(INCLUDE_PARTS_MAX)
}

/// Checks a text and makes it ready to travel.
///
/// # Errors
/// Why the compile stays local.
pub fn pack(
    text: &[u8],
    (dependencies, listed): (Option<Vec<u8>>, Listed),
    dialect: Dialect,
) -> Result<Gathered, Reason> {
    if let Some(hazard) = hazards::find(text, dialect.family) {
        return Err(hazard);
    }
    let encoded = encode(text).map_err(|error| reason("compression-failed", error))?;
    Ok(Gathered {
        digest: Digest::of(text),
        size: text.len() as u64,
        encoded: encoded.into(),
        dependencies,
        listed,
    })
}

fn encode(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
    compressor.set_parameter(zstd::zstd_safe::CParameter::WindowLog(ZSTD_WINDOW_LOG_MAX))?;
    compressor.compress(text)
}

/// A file without a name, for a child to write into.
#[cfg(target_os = "linux")]
pub(crate) fn scratch() -> io::Result<File> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    Ok(memfd_create(c"hgbuild", MFdFlags::MFD_CLOEXEC)?.into())
}

/// A file without a name, for a child to write into.
#[cfg(not(target_os = "linux"))]
pub(crate) fn scratch() -> io::Result<File> {
    use std::fs::OpenOptions;
    let path = std::env::temp_dir().join(format!(".hgbuild-{}", std::process::id()));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// All of `file`, which a child has written: about `size` bytes.
fn content(file: &mut File, size: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut content)?;
    Ok(content)
}

pub(crate) fn descriptor_path(file: &File) -> String {
    let folder = if cfg!(target_os = "linux") {
        "/proc/self/fd"
    } else {
        "/dev/fd"
    };
    format!("{folder}/{}", file.as_raw_fd())
}

/// The name under which the source stands in a worker's folder.
///
/// # Errors
/// It has none that could.
pub fn input_name(source: &[u8]) -> Result<Vec<u8>, Reason> {
    let path = os::from_bytes(source.to_vec());
    let name = Path::new(&path).file_name();
    let name = name.map(os::bytes).unwrap_or_default();
    if name.is_empty() || name.starts_with(b"-") || name.starts_with(b"@") {
        return Err(reason("source-name", String::from_utf8_lossy(source)));
    }
    Ok(name.to_vec())
}
