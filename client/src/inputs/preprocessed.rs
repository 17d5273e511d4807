//! Gathers the text form of a task: the source, preprocessed on this machine with its
//! macros kept, and the dependency file as a by-product.

use std::fs::File;
use std::io;
use std::process::{Child, Stdio};

use bytes::Bytes;
use hg_proto::compiler::toolchain::{Family, Language};
use hg_proto::options::args::{CLOCKS, Compile, Dialect, Reason, SourceKind};
use hg_proto::options::row::Role;
use hg_proto::wire::digest::Digest;
use hg_proto::wire::limits::{INPUT_BYTES_MAX, ZSTD_WINDOW_LOG_MAX};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::includes::closure::Settled;
use crate::includes::dependency_list::{self, Listed};
use crate::includes::stat;
use crate::invocation::plan::Plan;
use crate::local::compiler::Found;
use crate::local::memory_file::{content, descriptor_path, scratch};
use crate::local::process;
use crate::local::signals::Forwarding;
use crate::local::slots::Slot;
use crate::os;
use crate::source::hazards;

/// zstd's fastest: the text is sent once and thrown away.
const ZSTD_LEVEL: i32 = 1;
/// Bytes of preprocessed text that are held in memory.
const TEXT_BYTES_MAX: u64 = 64 << 20;
const _: () = assert!(TEXT_BYTES_MAX <= INPUT_BYTES_MAX);

/// Preprocessed text that may leave this machine.
#[derive(Debug)]
pub struct Gathered {
    /// Digest of the text.
    pub digest: Digest,
    /// Bytes of plain text.
    pub size: u64,
    /// The text as it travels, zstd.
    pub encoded: Bytes,
    /// Content of the dependency file, if one is wanted.
    pub dependencies: Option<Vec<u8>>,
    /// The preprocessor's own list of what it read.
    pub listed: Listed,
}

/// What the preprocessor does with macros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Macros<'a> {
    /// Keeps them, for another machine to compile.
    Kept,
    /// Expands them, to be searched for what the files leave in doubt; with these of the
    /// clock's as they are.
    Expanded(&'a [&'static str]),
}

/// A preprocessor that runs.
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
        macros: Macros<'_>,
    ) -> Result<Self, Reason> {
        let failed = |error: io::Error| reason("preprocessor-failed", error);
        let dependencies = scratch().map_err(failed)?;
        let target = descriptor_path(&dependencies);
        let mut args = match macros {
            Macros::Kept => compile.preprocess_args(dialect, Some(target.as_bytes())),
            Macros::Expanded(frozen) => compile.expand_args(dialect, target.as_bytes(), frozen),
        };
        let asked = compile.dependencies.as_ref();
        let asked = asked.filter(|_| macros == Macros::Kept);
        if macros == Macros::Kept && asked.is_none() {
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
        let mut process = process::prepare(&command);
        process.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let child = os::with_file_size_limit(TEXT_BYTES_MAX, || process.spawn()).map_err(failed)?;
        forwarding.forward_to(child.id());
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

    /// The whole text, once the preprocessor has ended well and silently.
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

    /// The dependency file, if one is wanted, and the files that it lists; to be called after
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
        let listed = dependency_list::from_rule(&rule, self.complete);
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

/// Runs the preprocessor to dispel what the files leave in doubt, see
/// [`crate::includes::closure::is_doubt`]. `has_epoch`: SOURCE_DATE_EPOCH stands still for
/// clocks of this compiler, which are these.
///
/// # Errors
/// The doubt is right, or the preprocessor fails.
pub fn settle(
    found: &Found,
    compile: &Compile,
    dialect: Dialect,
    has_epoch: &[&'static str],
) -> Result<Settled, Reason> {
    let words = || compile.arguments.iter().flat_map(|a| &a.words);
    let frozen = [has_epoch, &clocks_defined(compile)?].concat();
    let before_ns = stat::now_ns();
    let (text, listed) = match compile.kind {
        // As it is.
        SourceKind::PreprocessedCode | SourceKind::PreprocessedAssembler => {
            let (text, _) = stat::read(&compile.source)
                .map_err(|_| Reason::new("input-changed", &compile.source))?;
            (text, Listed::default())
        }
        SourceKind::Code | SourceKind::Assembler => {
            let mut preprocessing =
                Preprocessing::start(found, compile, dialect, Macros::Expanded(&frozen))?;
            (preprocessing.text()?, preprocessing.dependencies()?.1)
        }
    };
    let old = |word: &Vec<u8>| {
        let years = [&b"98"[..], b"03", b"0x", b"11"];
        let named = |year: &&[u8]| memchr::memmem::find(word, year).is_some();
        word == b"-ansi" || word.starts_with(b"-std") && years.iter().any(named)
    };
    let modern = compile.language == Language::Cxx && !words().any(old);
    let is_code = !compile.kind.is_assembler();
    let assembled = match is_code {
        true => hazards::find_expanded(&text, dialect.family, modern)?,
        false => hazards::find_assembled(&text)?,
    };
    Ok(Settled {
        before_ns,
        listed,
        late: match dialect.family {
            Family::Gcc if is_code => hazards::carried_out_late(&text),
            _ => None,
        },
        assembled,
    })
}

/// The clock's macros that the command line defines, or takes away: neither changes with
/// time then, since the compiler's own don't come back.
///
/// # Errors
/// One is named in another way.
fn clocks_defined(compile: &Compile) -> Result<Vec<&'static str>, Reason> {
    let mut defined = Vec::new();
    for argument in &compile.arguments {
        let mut value = argument.value();
        if argument.role == Role::Define {
            let name = value.split(|byte| matches!(byte, b'=' | b'(')).next();
            let name = name.unwrap_or_default();
            if let Some(clock) = CLOCKS.iter().find(|clock| clock.as_bytes() == name) {
                defined.push(*clock);
                value = &value[name.len()..];
            }
        }
        let named = |clock: &&str| memchr::memmem::find(value, clock.as_bytes()).is_some();
        // Another definition of the same word, or what that stands for.
        if CLOCKS.iter().any(named) {
            return Err(Reason::new(
                hazards::TIME_MACRO,
                &argument.words.join(&b' '),
            ));
        }
    }
    Ok(defined)
}

/// SOURCE_DATE_EPOCH as compilers take it: a number of seconds up to the year 9999.
const EPOCH_MAX: u64 = 253_402_300_799;

/// The clock's macros that SOURCE_DATE_EPOCH freezes for the compiler of `version`.
fn clocks_of_epoch(dialect: Dialect, version: &str, epoch: &[u8]) -> &'static [&'static str] {
    let is_number = !epoch.is_empty() && epoch.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(epoch).ok().and_then(|s| s.parse().ok());
    if !is_number || number.is_none_or(|number: u64| number > EPOCH_MAX) {
        return &[];
    }
    let major = version.split('.').next().and_then(|s| s.parse().ok());
    match (dialect.family, major.unwrap_or(0)) {
        // Its __TIMESTAMP__ is that of the file all the same.
        (Family::Gcc, 7..) => &CLOCKS[..2],
        (Family::Clang, 16..) => &CLOCKS,
        _ => &[],
    }
}

impl Plan {
    /// The clock's macros that the environment freezes.
    fn clocks_frozen(&self) -> &'static [&'static str] {
        let mut variables = self.environment.iter();
        let epoch = variables.find(|variable| variable.name == b"SOURCE_DATE_EPOCH");
        match epoch.zip(self.known_probe()) {
            Some((epoch, probe)) => clocks_of_epoch(self.dialect, &probe.version, &epoch.value),
            None => &[],
        }
    }

    /// The proof of a preprocessor run where the files leave doubts; it runs once. `wait`
    /// waits for a slot.
    ///
    /// # Errors
    /// The doubt is right, or the preprocessor fails.
    pub fn settle(
        &self,
        found: &Found,
        wait: impl FnOnce() -> Option<Slot>,
    ) -> Result<&Settled, Reason> {
        let look = || {
            let _slot = wait();
            settle(found, &self.compile, self.dialect, self.clocks_frozen())
        };
        self.settled
            .get_or_init(look)
            .as_ref()
            .map_err(Reason::clone)
    }
}

/// Checks a text for hazards and compresses it.
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
