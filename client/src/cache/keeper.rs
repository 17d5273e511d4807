//! A compile between the user and the local cache: asked before, kept after.
//! Whatever goes wrong here, the compiler runs.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use hg_proto::compiler::toolchain::Family;
use hg_proto::options::args::{Argument, Compile, Reason};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::cache::answer::{Answer, Output};
use crate::cache::disk::day_log::Event;
use crate::cache::disk::entries::{Cache, Trouble};
use crate::cache::lookup::{self, Hit, Lookup};
use crate::cache::preprocessor_mode::{self, Text};
use crate::cache::store::{self, ByText, Compiled, Made, Refused, Shared};
use crate::config::{CacheSettings, Config};
use crate::includes::closure::{Folders, Listed};
use crate::includes::dependency_list;
use crate::includes::facts;
use crate::includes::headers;
use crate::includes::paths;
use crate::includes::search_path;
use crate::includes::watch::Watch;
use crate::invocation::identity::{self, Identity};
use crate::invocation::plan::Plan;
use crate::key::Key;
use crate::local::capture::{self, Said};
use crate::local::compiler::Found;
use crate::local::memory_file::{descriptor_path, scratch};
use crate::local::output::{self, Pending, Style};
use crate::local::slots::Slot;
use crate::os;
use crate::private;
use crate::say;

/// A compile whose result shall be kept.
pub struct Keeper {
    lookup: Lookup,
    toolchain: Identity,
    /// Where the compiler's folders for headers are remembered.
    memo: Option<PathBuf>,
    headers: Option<PathBuf>,
    settings: CacheSettings,
    base: Option<Vec<u8>>,
    began_ns: i64,
    watch: Watch,
    /// What the preprocessor said, if it was asked.
    text: Option<Result<Text, Reason>>,
}

/// What the cache says to a compile.
pub enum Asked {
    /// It takes no part, for this reason if there is one to tell.
    No(Option<Reason>),
    /// All outputs are in place and all was said; for this reason.
    Answered(&'static str),
    /// It knows nothing, and shall.
    Unknown(Box<Keeper>),
}

/// Asks the cache, and puts a good answer in place.
/// `wait` is for a slot, wherever a compiler runs.
pub fn ask(config: &Config, found: &Found, plan: &Plan, wait: impl Fn() -> Option<Slot>) -> Asked {
    let Some(settings) = &config.cache else {
        return Asked::No(None);
    };
    let cache = match open(settings) {
        Ok(cache) => cache,
        Err(trouble) => {
            warn(&trouble, settings);
            return Asked::No(None);
        }
    };
    let (toolchain, key) = match question(config, found, plan) {
        Ok(question) => question,
        Err(reason) => {
            cache.tell(Event::Bypass(reason.code));
            return Asked::No(Some(reason));
        }
    };
    let mut keeper = Keeper {
        lookup: Lookup::new(cache, key),
        toolchain,
        memo: search_path::memos(config),
        headers: headers::file(config),
        settings: settings.clone(),
        base: base(settings),
        began_ns: 0,
        watch: Watch::default(),
        text: None,
    };
    if !settings.recache && keeper.direct(found, plan, &wait) {
        return Asked::Answered("direct-hit");
    }
    keeper.begin(plan);
    if may_know_the_text(&keeper.lookup, keeper.base.as_deref()) {
        keeper.preprocess(found, plan, &wait);
        if !settings.recache && keeper.textual(found, plan, &wait) {
            return Asked::Answered("preprocessed-hit");
        }
    }
    Asked::Unknown(Box::new(keeper))
}

/// Counts a command that the cache has no part in.
pub fn bypassed(config: &Config, reason: &Reason) {
    let Some(settings) = &config.cache else {
        return;
    };
    if let Ok(cache) = open(settings) {
        cache.tell(Event::Bypass(reason.code));
    }
}

/// The cache as it is set.
///
/// # Errors
/// It can't be used.
pub fn open(settings: &CacheSettings) -> Result<Cache, Trouble> {
    let unsafe_folder = |words| Trouble {
        words,
        code: "cache-unsafe",
    };
    let folder = &settings.folder;
    if !settings.trust().map_err(unsafe_folder)? && !settings.read_only {
        private::make(folder).map_err(|error| Trouble::new(folder, &error))?;
        // Another user may have made it first: nothing is written before this is known.
        settings.trust().map_err(unsafe_folder)?;
    }
    Cache::open(
        &settings.folder,
        settings.size_bytes_max,
        settings.read_only,
    )
}

/// Compiler and question of a compile that the cache may take part in.
///
/// # Errors
/// It may not.
pub fn question(config: &Config, found: &Found, plan: &Plan) -> Result<(Identity, Key), Reason> {
    plan.compile.cache.clone()?;
    refuse(found, plan)?;
    plan.check_files()?;
    let probe = plan.probe(found, config)?;
    let toolchain = Identity::of(probe, plan.compile.language)
        .ok_or_else(|| Reason::new("unknown-compiler", b"not for this language"))?;
    let key = identity::key(found, &plan.compile, plan.dialect, &toolchain);
    Ok((toolchain, key))
}

/// What can't be followed from here.
fn refuse(found: &Found, plan: &Plan) -> Result<(), Reason> {
    if found.wrapped {
        // It reads settings of its own.
        let program = found.command.program.as_os_str();
        return Err(Reason::new("wrapper", os::bytes(program)));
    }
    if os::file_size_limit() {
        return Err(Reason::new("file-size-limit", b""));
    }
    search_path::refuse(&plan.compile, plan.dialect)
}

/// The base folder, if that is what we are below.
pub fn base(settings: &CacheSettings) -> Option<Vec<u8>> {
    // Without a slash at its end.
    let base: PathBuf = settings.base.as_ref()?.components().collect();
    let folder = std::env::current_dir().ok()?;
    folder
        .starts_with(&base)
        .then(|| os::bytes(base.as_os_str()).to_vec())
}

/// Whether an object may be known by its text. Preprocessing costs too much
/// to find out about a file that was never seen.
pub fn may_know_the_text(lookup: &Lookup, base: Option<&[u8]>) -> bool {
    let manifest = &lookup.manifest;
    !manifest.sets.is_empty() || manifest.textual || base.is_some()
}

/// Writes the files that the compile would have written.
fn put(plan: &Plan, object: &Output, dependencies: Option<&[u8]>) -> io::Result<()> {
    let mut files = Vec::new();
    if let Some(path) = &plan.dependencies {
        let content = dependencies.ok_or(io::ErrorKind::InvalidData)?;
        files.push(Pending::with(path, Style::Rewrite, content)?);
    }
    let content = object.content()?;
    files.push(Pending::with(&plan.object, plan.object_style(), &content)?);
    output::put_all(files)
}

/// The folders that the command line names to read from.
fn folders(compile: &Compile) -> impl Iterator<Item = &[u8]> {
    let named = compile
        .arguments
        .iter()
        .filter(|a| search_path::names_folder(a));
    named
        .map(Argument::value)
        .filter(|folder| !folder.is_empty())
        .chain([paths::parent(&compile.source)])
}

impl Keeper {
    /// What is written from now on was not there when the compile began.
    fn begin(&mut self, plan: &Plan) {
        self.watch = Watch::new(folders(&plan.compile));
        self.began_ns = self.lookup.begin(&plan.compile.source);
    }

    /// Makes the text. Where it can't be had, the compile will say why.
    fn preprocess(&mut self, found: &Found, plan: &Plan, wait: impl FnOnce() -> Option<Slot>) {
        let _slot = wait();
        let base = self.base.as_deref();
        self.text = Some(preprocessor_mode::read(found, plan, &self.toolchain, base));
    }

    /// Answers by command and files, if that can be done.
    fn direct(&mut self, found: &Found, plan: &Plan, wait: impl Fn() -> Option<Slot>) -> bool {
        let Some(hit) = self.lookup.hit() else {
            return false;
        };
        let Hit {
            answer,
            refreshed,
            name,
            base,
        } = hit;
        let dependencies = answer.dependencies.as_ref().map(Output::content);
        let put = dependencies
            .transpose()
            .and_then(|content| put(plan, &answer.object, content.as_deref()));
        if put.is_err() {
            self.lookup.cache.tell(Event::Error("output"));
            return false;
        }
        // Nobody may be reading; the compiler would not care either.
        let _ = io::stderr().write_all(&answer.stderr);
        self.lookup.cache.tell(Event::DirectHit {
            saved_ms: answer.compile_ms,
            bytes: answer.size(),
        });
        if let Some(facts) = refreshed
            && !self.settings.read_only
        {
            // The next one is answered without reading the files.
            let _ = store::keep_facts(&self.lookup, facts);
        }
        if self.base.as_ref().is_some_and(|wanted| base != wanted) && !self.settings.read_only {
            // At worst the next one tries again.
            let _ = self.share(found, plan, &name, wait);
        }
        true
    }

    /// Keeps by its text too what was just answered by its files: other checkouts find
    /// it by that. It was kept without the base folder, or with another.
    fn share(
        &mut self,
        found: &Found,
        plan: &Plan,
        name: &[u8],
        wait: impl Fn() -> Option<Slot>,
    ) -> Result<(), Refused> {
        self.begin(plan);
        // Files may have changed since the answer was found to hold. From here on that
        // would be seen.
        let hit = self.lookup.hit_again().filter(|hit| hit.name == name);
        let Some(Hit { answer, name, .. }) = hit else {
            return Ok(());
        };
        self.preprocess(found, plan, &wait);
        let text = self.text.as_ref().and_then(|text| text.as_ref().ok());
        let result = Compiled {
            object: answer.object,
            dependencies: None,
            stderr: answer.stderr.to_vec(),
            listed: text.map(|text| text.listed.clone()).unwrap_or_default(),
            closure: None,
            compile_ms: answer.compile_ms,
        };
        let (made, folders) = self.made(found, plan, result, &wait)?;
        let settle = || plan.settle(found, wait).cloned();
        let (compile, dialect) = (&plan.compile, plan.dialect);
        store::share(
            &self.lookup,
            compile,
            dialect,
            &folders,
            &made,
            &name,
            settle,
        )
    }

    /// Answers by text, if that can be done.
    fn textual(&mut self, found: &Found, plan: &Plan, wait: impl FnOnce() -> Option<Slot>) -> bool {
        let Some(Ok(text)) = &self.text else {
            return false;
        };
        let answer = self.lookup.cache.read(lookup::text_name(&text.key));
        let Some(answer) = answer.and_then(Answer::read) else {
            return false;
        };
        if put(plan, &answer.object, text.dependencies.as_deref()).is_err() {
            self.lookup.cache.tell(Event::Error("output"));
            return false;
        }
        self.lookup.cache.tell(Event::PreprocessedHit {
            saved_ms: answer.compile_ms,
            bytes: answer.object.size,
        });
        if !self.settings.read_only {
            let dependencies = text.dependencies.clone();
            // The next one is answered directly.
            let _ = self.store(
                found,
                plan,
                Compiled {
                    object: answer.object,
                    dependencies: dependencies.map(Output::keep),
                    stderr: Vec::new(),
                    listed: text.listed.clone(),
                    closure: None,
                    compile_ms: answer.compile_ms,
                },
                wait,
            );
        }
        true
    }

    /// Runs the user's command, and keeps what it makes; or says why not.
    ///
    /// # Errors
    /// It can't be started this way; nothing ran.
    pub fn compile(self, found: &Found, plan: &Plan) -> io::Result<(Said, Option<Reason>)> {
        let began = Instant::now();
        let mut list = List::new(plan)?;
        let claim = self.claim(plan);
        let said = capture::run(&found.command, &list.environment()?)?;
        let ended_ns = facts::now_fine_ns();
        let bare = |code: &'static str| self.refuse(plan, Reason::new(code, b""));
        let refused = if said.ended.code() != 0 {
            bare("compile-failed")
        } else if claim.is_none() {
            bare("output-shared")
        } else if said.stdout {
            bare("stdout")
        } else {
            let dependencies = plan.dependencies.as_deref();
            let dependencies = dependencies.map(|path| store::written(path, ended_ns));
            let object = store::written(&plan.object, ended_ns);
            match (object, dependencies.transpose()) {
                (Ok(object), Ok(dependencies)) => self.keep(
                    found,
                    plan,
                    Compiled {
                        object,
                        dependencies,
                        stderr: said.stderr.clone(),
                        listed: list.read(plan),
                        closure: None,
                        compile_ms: began.elapsed().as_millis() as u64,
                    },
                    // Whoever lets it run has one.
                    || None,
                ),
                (Err(reason), _) | (_, Err(reason)) => self.refuse(plan, reason),
            }
        };
        Ok((said, refused))
    }

    /// Nobody else of ours may write the outputs meanwhile. `None`: somebody does.
    fn claim(&self, plan: &Plan) -> Option<File> {
        let run = self.memo.as_ref()?.parent()?;
        let outputs = [Some(&plan.object), plan.dependencies.as_ref()];
        let outputs = outputs.into_iter().flatten();
        let paths: Vec<PathBuf> = outputs
            .filter_map(|path| std::path::absolute(path).ok())
            .collect();
        os::claim(&run.join("outputs"), &paths)
    }

    /// Keeps a result, or says why not. `wait` is for a slot, should a compiler have to
    /// be asked.
    pub fn keep(
        &self,
        found: &Found,
        plan: &Plan,
        result: Compiled,
        wait: impl FnOnce() -> Option<Slot>,
    ) -> Option<Reason> {
        if self.settings.read_only {
            return None;
        }
        match self.store(found, plan, result, wait) {
            Ok(bytes) => {
                self.lookup.cache.tell(Event::Miss { bytes });
                None
            }
            Err(Refused::Untried(reason)) => {
                self.lookup.cache.tell(Event::Miss { bytes: 0 });
                self.note_refused(plan, &reason);
                Some(reason)
            }
            Err(Refused::Compile(reason)) => self.refuse(plan, reason),
            Err(Refused::Cache(trouble)) => {
                warn(&trouble, &self.settings);
                self.lookup.cache.tell(Event::Error(trouble.code));
                Some(Reason::new(trouble.code, trouble.words.as_bytes()))
            }
        }
    }

    /// Counts a compile that is not kept, and gives the reason back.
    fn refuse(&self, plan: &Plan, reason: Reason) -> Option<Reason> {
        self.lookup.cache.tell(Event::Bypass(reason.code));
        self.note_refused(plan, &reason);
        Some(reason)
    }

    /// For `hgbuild explain`, which knows nothing else of such a compile.
    fn note_refused(&self, plan: &Plan, reason: &Reason) {
        // A cache that can't be written has said so.
        let _ = store::leave_trail(&self.lookup, &plan.compile.source, Some(reason));
    }

    fn store(
        &self,
        found: &Found,
        plan: &Plan,
        result: Compiled,
        wait: impl FnOnce() -> Option<Slot>,
    ) -> Result<u64, Refused> {
        let (made, folders) = self.made(found, plan, result, wait)?;
        store::store(
            &self.lookup,
            &plan.compile,
            plan.dialect,
            &folders,
            &made,
            || plan.settle(found, || None).cloned(),
        )
    }

    /// What is to be kept, and where the compile looks for headers.
    fn made<'a>(
        &'a self,
        found: &Found,
        plan: &'a Plan,
        result: Compiled,
        wait: impl FnOnce() -> Option<Slot>,
    ) -> Result<(Made<'a>, Folders), Reason> {
        let text = match &self.text {
            Some(Ok(text)) => ByText::Known(Shared {
                key: &text.key,
                base: self.base.as_deref().filter(|_| text.shared),
            }),
            Some(Err(why)) => ByText::Unfit(why.clone()),
            None => {
                preprocessor_mode::may_be(plan).map_or_else(ByText::Unfit, |()| ByText::Untried)
            }
        };
        let made = Made {
            result,
            responses: &plan.responses,
            began_ns: self.began_ns,
            watch: &self.watch,
            headers: self.headers.as_deref(),
            text,
            base: self.base.as_deref(),
        };
        let basis = identity::basis(found, &self.toolchain);
        let memo = self.memo.as_deref();
        let folders = match made.result.closure {
            Some(_) => Folders::default(),
            None => search_path::folders(found, &plan.compile, &basis, memo, wait)?,
        };
        Ok((made, folders))
    }
}

/// Says that the cache is left out, once in a build.
pub fn warn(trouble: &Trouble, settings: &CacheSettings) {
    // A home that is not there was not meant to hold one.
    if settings.warned || !(settings.chosen || settings.folder.exists()) {
        return;
    }
    // To remove a file takes no room on a full disk, and only one process can.
    let right = settings.right.as_ref();
    if right.is_none_or(|right| std::fs::remove_file(right).is_ok()) {
        say::warn(format_args!("the cache is not used: {}", trouble.words));
    }
}

/// The compiler's own list of what it reads, asked for in ways that leave its
/// command line as it was typed.
struct List {
    file: Option<File>,
    family: Family,
}

impl List {
    fn new(plan: &Plan) -> io::Result<Self> {
        let file = match plan.compile.dependencies {
            None => Some(scratch()?),
            Some(_) => None,
        };
        // Where there is no such path, the compiler would complain.
        let file = file.filter(|file| Path::new(&descriptor_path(file)).exists());
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
                Some(Ok(rule)) => dependency_list::from_rule(&rule, asked.system_headers),
                _ => Listed::default(),
            };
        }
        let mut text = Vec::new();
        let read = self.file.as_mut().map(|file| {
            file.rewind()?;
            file.read_to_end(&mut text)
        });
        match (read, self.family) {
            (Some(Ok(_)), Family::Gcc) => dependency_list::from_rule(&text, true),
            (Some(Ok(_)), Family::Clang) => {
                dependency_list::from_headers(&text, &plan.compile.source)
            }
            _ => Listed::default(),
        }
    }
}
