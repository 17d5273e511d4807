//! A compile between the user and the local cache: asked before, kept after.
//! Whatever goes wrong here, the compiler runs.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;

use hg_proto::args::Reason;
use hg_proto::toolchain::Family;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::cache::{Cache, Event, Trouble};
use crate::capture::{self, Said};
use crate::closure::{Folders, Listed};
use crate::compiler::Found;
use crate::config::{CacheSettings, Config};
use crate::inputs::{descriptor_path, scratch};
use crate::listed;
use crate::lookup::{self, Hit, Lookup};
use crate::output::{self, Pending, Style};
use crate::plan::Plan;
use crate::search;
use crate::store::{self, Made, Refused};

/// A compile whose result shall be kept.
pub struct Keeper {
    lookup: Lookup,
    basis: Vec<u8>,
    memo: Option<PathBuf>,
    began_ns: i64,
    read_only: bool,
    quiet: bool,
}

/// What the cache says to a compile.
pub enum Asked {
    /// It takes no part.
    No,
    /// All outputs are in place and all was said.
    Answered,
    /// It knows nothing, and shall.
    Unknown(Box<Keeper>),
}

/// Asks the cache, and puts a good answer in place.
pub fn ask(config: &Config, found: &Found, plan: &Plan) -> Asked {
    let Some(settings) = &config.cache else {
        return Asked::No;
    };
    let quiet = settings.warned;
    let cache = match Cache::open(
        &settings.folder,
        settings.size_bytes_max,
        settings.read_only,
    ) {
        Ok(cache) => cache,
        Err(trouble) => {
            warn(&trouble, quiet);
            return Asked::No;
        }
    };
    match question(config, found, plan) {
        Ok(question) => answer(cache, settings, question, plan, quiet),
        Err(reason) => {
            cache.tell(Event::Bypass(reason.code));
            Asked::No
        }
    }
}

/// Counts a command that the cache has no part in.
pub fn bypassed(config: &Config, reason: &Reason) {
    let Some(settings) = &config.cache else {
        return;
    };
    let cache = Cache::open(
        &settings.folder,
        settings.size_bytes_max,
        settings.read_only,
    );
    if let Ok(cache) = cache {
        cache.tell(Event::Bypass(reason.code));
    }
}

/// What can be asked before the cache is looked at.
struct Question {
    key: crate::key::Key,
    basis: Vec<u8>,
    memo: Option<PathBuf>,
}

fn question(config: &Config, found: &Found, plan: &Plan) -> Result<Question, Reason> {
    plan.compile.cache.clone()?;
    plan.check_files()?;
    let probe = plan.probe(found, config)?;
    let toolchain = probe
        .toolchain(plan.compile.language)
        .ok_or_else(|| Reason::new("unknown-compiler", b"not for this language"))?;
    Ok(Question {
        key: lookup::key(found, &plan.compile, plan.dialect, &toolchain),
        basis: lookup::basis(found, &toolchain),
        memo: config.run_folder().map(|run| run.join("folders")),
    })
}

fn answer(
    cache: Cache,
    settings: &CacheSettings,
    question: Question,
    plan: &Plan,
    quiet: bool,
) -> Asked {
    let mut lookup = Lookup::new(cache, question.key);
    if !settings.recache
        && let Some(hit) = lookup.hit()
    {
        match put(&hit, plan) {
            Ok(()) => {
                lookup.cache.tell(Event::DirectHit {
                    saved_ms: hit.answer.compile_ms,
                    bytes: hit.answer.size(),
                });
                if let Some(facts) = hit.refreshed {
                    // The next one is answered without reading the files.
                    let _ = store::keep_facts(&lookup, facts);
                }
                return Asked::Answered;
            }
            Err(_) => lookup.cache.tell(Event::Error("output")),
        }
    }
    let began_ns = lookup.begin(&plan.compile.source);
    Asked::Unknown(Box::new(Keeper {
        lookup,
        basis: question.basis,
        memo: question.memo,
        began_ns,
        read_only: settings.read_only,
        quiet,
    }))
}

/// Writes the files that the compile would have written, then says what it
/// would have said.
fn put(hit: &Hit, plan: &Plan) -> io::Result<()> {
    let mut files = Vec::new();
    if let Some(path) = &plan.dependencies {
        let kept = hit.answer.dependencies.as_ref();
        let kept = kept.ok_or(io::ErrorKind::InvalidData)?;
        let mut file = Pending::new(path, Style::Rewrite)?;
        file.file().write_all(&kept.content()?)?;
        files.push(file);
    }
    let mut object = Pending::new(&plan.object, plan.object_style())?;
    object.file().write_all(&hit.answer.object.content()?)?;
    files.push(object);
    output::put_all(files)?;
    // Nobody may be reading; the compiler would not care either.
    let _ = io::stderr().write_all(&hit.answer.stderr);
    Ok(())
}

impl Keeper {
    /// Runs the user's command, and keeps what it makes.
    ///
    /// # Errors
    /// It can't be started this way; nothing ran.
    pub fn compile(self, found: &Found, plan: &Plan) -> io::Result<Said> {
        let began = std::time::Instant::now();
        let mut list = List::new(found, plan)?;
        let said = capture::run(&found.command, &list.environment()?)?;
        let compile_ms = began.elapsed().as_millis() as u64;
        if said.ended.code() != 0 {
            self.lookup.cache.tell(Event::Bypass("compile-failed"));
        } else if said.stdout {
            self.lookup.cache.tell(Event::Bypass("stdout"));
        } else {
            let listed = list.read(plan);
            self.keep(found, plan, said.stderr.clone(), listed, compile_ms);
        }
        Ok(said)
    }

    /// Keeps what lies in place now.
    pub fn keep(
        self,
        found: &Found,
        plan: &Plan,
        stderr: Vec<u8>,
        listed: Listed,
        compile_ms: u64,
    ) {
        if self.read_only {
            return self.lookup.cache.tell(Event::Bypass("read-only"));
        }
        let made = Made {
            object: &plan.object,
            dependencies: plan.dependencies.as_deref(),
            stderr,
            listed,
            began_ns: self.began_ns,
            compile_ms,
        };
        let stored = self.folders(found, plan).map_err(Refused::from);
        let stored = stored.and_then(|folders| {
            store::store(&self.lookup, &plan.compile, plan.dialect, &folders, &made)
        });
        match stored {
            Ok(bytes) => self.lookup.cache.tell(Event::Miss { bytes }),
            Err(Refused::Compile(reason)) => {
                if std::env::var_os("HG_LOG").is_some_and(|level| level == "debug") {
                    eprintln!("hgbuild: not kept: {reason}");
                }
                self.lookup.cache.tell(Event::Bypass(reason.code));
            }
            Err(Refused::Cache(trouble)) => {
                warn(&trouble, self.quiet);
                self.lookup.cache.tell(Event::Error(trouble.code));
            }
        }
    }

    fn folders(&self, found: &Found, plan: &Plan) -> Result<Folders, Reason> {
        let memo = self.memo.as_deref();
        search::folders(found, &plan.compile, &self.basis, memo)
    }
}

fn warn(trouble: &Trouble, quiet: bool) {
    if !quiet {
        eprintln!("hgbuild: the cache is not used: {}", trouble.words);
    }
}

/// The compiler's own list of what it reads, asked for in ways that leave its
/// command line as it was typed.
struct List {
    file: Option<File>,
    family: Family,
}

impl List {
    fn new(found: &Found, plan: &Plan) -> io::Result<Self> {
        // A wrapper reads these variables too, and thinks of them what it likes.
        let asked = plan.compile.dependencies.is_none() && !found.is_wrapped();
        let file = match asked {
            true => Some(scratch()?),
            false => None,
        };
        if let Some(file) = &file {
            // The compiler opens it by number.
            fcntl(file, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(List {
            file,
            family: plan.dialect.family,
        })
    }

    fn environment(&self) -> io::Result<Vec<(&'static str, OsString)>> {
        let Some(file) = &self.file else {
            return Ok(Vec::new());
        };
        let path = descriptor_path(file);
        Ok(match self.family {
            Family::Gcc => vec![("SUNPRO_DEPENDENCIES", format!("{path} x").into())],
            Family::Clang => vec![
                ("CC_PRINT_HEADERS", "1".into()),
                ("CC_PRINT_HEADERS_FILE", path.into()),
            ],
        })
    }

    fn read(&mut self, plan: &Plan) -> Listed {
        if let Some(asked) = &plan.compile.dependencies {
            let written = plan.dependencies.as_ref().map(std::fs::read);
            return match written {
                Some(Ok(rule)) => listed::from_rule(&rule, asked.system_headers),
                _ => Listed::default(),
            };
        }
        let mut text = Vec::new();
        let read = self.file.as_mut().map(|file| {
            file.rewind()?;
            file.read_to_end(&mut text)
        });
        match (read, self.family) {
            (Some(Ok(_)), Family::Gcc) => listed::from_rule(&text, true),
            (Some(Ok(_)), Family::Clang) => listed::from_headers(&text, &plan.compile.source),
            _ => Listed::default(),
        }
    }
}
