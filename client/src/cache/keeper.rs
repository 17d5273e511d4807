//! One compile and the local cache: looked up before the compiler runs, stored after.
//! Whatever goes wrong with the cache, the compiler runs.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;
use hg_proto::compiler::toolchain::Family;
use hg_proto::options::args::{Argument, Compile, Reason, SideOutput};
use hg_proto::wire::plain_path::plain;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::cache::answer::{Answer, Output, SideFile};
use crate::cache::disk::day_log::Event;
use crate::cache::disk::entries::Cache;
use crate::cache::lookup::{self, Hit, Lookup};
use crate::cache::preprocessor_mode::{self, Text};
use crate::cache::store::{self, ByText, Compiled, NotStored, Storable, TextKey};
use crate::config::{CacheSettings, Config};
use crate::includes::dependency_list::{self, Listed};
use crate::includes::headers;
use crate::includes::paths;
use crate::includes::search_path::{self, SearchPath};
use crate::includes::stat::{self, Seen};
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
use hg_proto::disk::entries::Unusable;

/// A miss: all that it takes to store the result of the compile.
pub struct Keeper {
    lookup: Lookup,
    toolchain: Identity,
    /// The folder of the memos of [`search_path::find`].
    search_paths: Option<PathBuf>,
    /// The file in which the system's headers are remembered.
    headers: Option<PathBuf>,
    settings: CacheSettings,
    base: Option<Vec<u8>>,
    began_ns: i64,
    watch: Watch,
    /// The preprocessed text, or why it can't stand for the compile; `None`: no preprocessor
    /// ran.
    preprocessed: Option<Result<Text, Reason>>,
}

/// What the cache has for a compile.
pub enum CacheAnswer {
    /// The cache takes no part, for this reason if there is one to tell.
    Bypassed(Option<Reason>),
    /// All outputs are in place and stderr was repeated; `direct-hit` or `preprocessed-hit`.
    Hit(&'static str),
    /// No answer holds: the result is to be stored.
    Miss(Box<Keeper>),
}

/// Looks a compile up, and puts the outputs of a hit in place. `wait` waits for one of this
/// machine's slots, wherever a compiler has to run.
pub fn look_up(
    config: &Config,
    found: &Found,
    plan: &Plan,
    wait: impl Fn() -> Option<Slot>,
) -> CacheAnswer {
    let Some(settings) = &config.cache else {
        return CacheAnswer::Bypassed(None);
    };
    let cache = match open(settings) {
        Ok(cache) => cache,
        Err(trouble) => {
            warn(&trouble, settings);
            return CacheAnswer::Bypassed(None);
        }
    };
    let (toolchain, key) = match cache_key(config, found, plan) {
        Ok(found) => found,
        Err(reason) => {
            cache.record(Event::Bypass(reason.code));
            return CacheAnswer::Bypassed(Some(reason));
        }
    };
    let mut keeper = Keeper {
        lookup: Lookup::new(cache, key),
        toolchain,
        search_paths: search_path::memos(config),
        headers: headers::file(config),
        settings: settings.clone(),
        base: base_folder(settings),
        began_ns: 0,
        watch: Watch::default(),
        preprocessed: None,
    };
    if !settings.recache && keeper.try_direct(found, plan, &wait) {
        return CacheAnswer::Hit("direct-hit");
    }
    keeper.begin(plan);
    if may_use_preprocessor_mode(&keeper.lookup, keeper.base.as_deref()) {
        keeper.preprocess(found, plan, &wait);
        if !settings.recache && keeper.try_preprocessed(found, plan, &wait) {
            return CacheAnswer::Hit("preprocessed-hit");
        }
    }
    CacheAnswer::Miss(Box::new(keeper))
}

/// Counts a command that the cache has no part in.
pub fn count_bypass(config: &Config, reason: &Reason) {
    let Some(settings) = &config.cache else {
        return;
    };
    if let Ok(cache) = open(settings) {
        cache.record(Event::Bypass(reason.code));
    }
}

/// Opens the cache that is configured.
///
/// # Errors
/// Why it can't be used.
pub fn open(settings: &CacheSettings) -> Result<Cache, Unusable> {
    let unsafe_folder = |words| Unusable {
        words,
        code: "cache-unsafe",
    };
    let folder = &settings.folder;
    if !settings.trust().map_err(unsafe_folder)? && !settings.read_only {
        private::make(folder).map_err(|error| Unusable::new(folder, &error))?;
        // Another user may have made it first: nothing is written before this is known.
        settings.trust().map_err(unsafe_folder)?;
    }
    Cache::open(
        &settings.folder,
        settings.size_bytes_max,
        settings.read_only,
    )
}

/// The toolchain's identity and the key of a compile that the cache may take part in.
///
/// # Errors
/// Why the cache takes no part.
pub fn cache_key(config: &Config, found: &Found, plan: &Plan) -> Result<(Identity, Key), Reason> {
    plan.compile.cache.clone()?;
    check_followable(found, plan)?;
    plan.check_files()?;
    let probe = plan.probe(found, config)?;
    let toolchain = Identity::of(probe, plan.compile.language)
        .ok_or_else(|| Reason::new("unknown-compiler", b"not for this language"))?;
    let key = identity::key(found, &plan.compile, plan.dialect, &toolchain);
    Ok((toolchain, key))
}

/// Refuses a compile that may read more than can be found out.
fn check_followable(found: &Found, plan: &Plan) -> Result<(), Reason> {
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

/// `HG_BASE_DIR`, if the working directory is below it.
pub fn base_folder(settings: &CacheSettings) -> Option<Vec<u8>> {
    // Without a slash at its end.
    let base: PathBuf = settings.base.as_ref()?.components().collect();
    let folder = std::env::current_dir().ok()?;
    folder
        .starts_with(&base)
        .then(|| os::bytes(base.as_os_str()).to_vec())
}

/// Whether preprocessor mode is worth a run of the preprocessor, which costs too much for
/// a file that was never seen.
pub fn may_use_preprocessor_mode(lookup: &Lookup, base: Option<&[u8]>) -> bool {
    let manifest = &lookup.manifest;
    !manifest.sets.is_empty() || manifest.textual || base.is_some()
}

/// Puts the files in place that the compile would have written.
fn put_outputs(
    plan: &Plan,
    object: &Output,
    dependencies: Option<&[u8]>,
    sides: &[SideFile],
) -> io::Result<()> {
    let mut files = Vec::new();
    for SideFile { path, output } in sides {
        let path = PathBuf::from(os::from_bytes(path.to_vec()));
        if !plan.sides.contains(&path) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        files.push(Pending::with(&path, Style::Rewrite, &output.content()?)?);
    }
    if let Some(path) = &plan.dependencies {
        let content = dependencies.ok_or(io::ErrorKind::InvalidData)?;
        files.push(Pending::with(path, Style::Rewrite, content)?);
    }
    let content = object.content()?;
    files.push(Pending::with(&plan.object, plan.object_style(), &content)?);
    output::put_all(files)
}

/// The folders that the command line names to read from.
fn named_folders(compile: &Compile) -> impl Iterator<Item = &[u8]> {
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
    /// Files that are written from now on count as newer than the compile.
    fn begin(&mut self, plan: &Plan) {
        self.watch = Watch::new(named_folders(&plan.compile));
        self.began_ns = self.lookup.begin(&plan.compile.source);
    }

    /// Preprocesses. Where that fails, the compile will say why.
    fn preprocess(&mut self, found: &Found, plan: &Plan, wait: impl FnOnce() -> Option<Slot>) {
        let _slot = wait();
        let base = self.base.as_deref();
        self.preprocessed = Some(preprocessor_mode::preprocess(
            found,
            plan,
            &self.toolchain,
            base,
        ));
    }

    /// Direct mode: a hit by the command and the files that it reads.
    fn try_direct(&mut self, found: &Found, plan: &Plan, wait: impl Fn() -> Option<Slot>) -> bool {
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
            .and_then(|rule| put_outputs(plan, &answer.object, rule.as_deref(), &answer.sides));
        if put.is_err() {
            self.lookup.cache.record(Event::Error("output"));
            return false;
        }
        // Nobody may be reading; the compiler would not care either.
        let _ = io::stderr().write_all(&answer.stderr);
        self.lookup.cache.record(Event::DirectHit {
            saved_ms: answer.compile_ms,
            bytes: answer.size(),
        });
        if let Some(facts) = refreshed
            && !self.settings.read_only
        {
            // The next one is answered without reading the files.
            let _ = store::add_facts(&self.lookup.cache, &self.lookup.key, facts);
        }
        if self.base.as_ref().is_some_and(|wanted| base != wanted) && !self.settings.read_only {
            // At worst the next one tries again.
            let _ = self.index_by_text(found, plan, &name, wait);
        }
        true
    }

    /// Stores the answer `name`, which was just a direct hit, under its preprocessed text
    /// too: other checkouts find it by that. It was stored without the base folder, or with
    /// another.
    fn index_by_text(
        &mut self,
        found: &Found,
        plan: &Plan,
        name: &[u8],
        wait: impl Fn() -> Option<Slot>,
    ) -> Result<(), NotStored> {
        self.begin(plan);
        // Files may have changed since the answer was found to hold. From here on that
        // would be seen.
        let hit = self.lookup.hit_anew().filter(|hit| hit.name == name);
        let Some(Hit { answer, name, .. }) = hit else {
            return Ok(());
        };
        self.preprocess(found, plan, &wait);
        let text = self
            .preprocessed
            .as_ref()
            .and_then(|text| text.as_ref().ok());
        let result = Compiled {
            object: answer.object,
            dependencies: None,
            // None has any that is known by its text.
            sides: Vec::new(),
            stderr: answer.stderr.to_vec(),
            listed: text.map(|text| text.listed.clone()).unwrap_or_default(),
            closure: None,
            compile_ms: answer.compile_ms,
        };
        let (storable, folders) = self.storable(found, plan, result, &wait)?;
        let settle = || plan.settle(found, wait).cloned();
        let (compile, dialect) = (&plan.compile, plan.dialect);
        store::index_by_text(
            &self.lookup,
            compile,
            dialect,
            &folders,
            &storable,
            &name,
            settle,
        )
    }

    /// Preprocessor mode: a hit by the preprocessed text.
    fn try_preprocessed(
        &mut self,
        found: &Found,
        plan: &Plan,
        wait: impl FnOnce() -> Option<Slot>,
    ) -> bool {
        let Some(Ok(text)) = &self.preprocessed else {
            return false;
        };
        let answer = self.lookup.cache.read(lookup::text_name(&text.key));
        let Some(answer) = answer.and_then(Answer::read) else {
            return false;
        };
        if put_outputs(plan, &answer.object, text.dependencies.as_deref(), &[]).is_err() {
            self.lookup.cache.record(Event::Error("output"));
            return false;
        }
        self.lookup.cache.record(Event::PreprocessedHit {
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
                    sides: Vec::new(),
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

    /// Runs the user's command, and stores its result; the reason says why that was not done.
    ///
    /// # Errors
    /// The command can't be started this way; nothing ran.
    pub fn compile(self, found: &Found, plan: &Plan) -> io::Result<(Said, Option<Reason>)> {
        let began = Instant::now();
        let mut list = ReadList::new(plan)?;
        let claim = self.claim_outputs(plan);
        let said = capture::run(&found.command, &list.environment()?)?;
        let ended_ns = stat::now_fine_ns();
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
            let rest = dependencies
                .transpose()
                .and_then(|rule| Ok((rule, self.sides_written(plan, ended_ns)?)));
            match (object, rest) {
                (Ok(object), Ok((dependencies, sides))) => self.keep(
                    found,
                    plan,
                    Compiled {
                        object,
                        dependencies,
                        sides,
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

    /// What the compiler wrote beside the object before it ended at `ended_ns`. It must have
    /// been something for each option that asks for it, or its name is not known.
    fn sides_written(&self, plan: &Plan, ended_ns: i64) -> Result<Vec<SideFile>, Reason> {
        let mut sides = Vec::new();
        for path in &plan.sides {
            let bytes = os::bytes(path.as_os_str());
            let Seen::File(stat) = stat::of(bytes) else {
                continue;
            };
            if stat.youngest_ns() < self.began_ns {
                continue;
            }
            let output = store::written(path, ended_ns)?;
            let path = Bytes::copy_from_slice(bytes);
            sides.push(SideFile { path, output });
        }
        let asked = plan.compile.side_outputs();
        let folder = std::env::current_dir().unwrap_or_default();
        let folder = os::bytes(folder.as_os_str());
        let is_there = |side: &SideOutput| {
            let path = plain(folder, &side.path);
            sides.iter().any(|known| known.path == path)
        };
        // Which files those are depends on the compiler's version.
        let unknown = asked.iter().find(|side| {
            let same = asked.iter().filter(|other| other.option == side.option);
            side.option.contains("save-temps") || !same.into_iter().any(is_there)
        });
        match unknown {
            Some(side) => Err(Reason::new("extra-output", side.option.as_bytes())),
            None => Ok(sides),
        }
    }

    /// Claims the outputs against other processes of hgbuild. `None`: one of them has a claim.
    fn claim_outputs(&self, plan: &Plan) -> Option<File> {
        let run = self.search_paths.as_ref()?.parent()?;
        let outputs = [Some(&plan.object), plan.dependencies.as_ref()];
        let outputs = outputs.into_iter().flatten().chain(&plan.sides);
        let paths: Vec<PathBuf> = outputs
            .filter_map(|path| std::path::absolute(path).ok())
            .collect();
        os::claim(&run.join("outputs"), &paths)
    }

    /// Stores a result; the reason says why that was not done. `wait` waits for a slot,
    /// should a compiler have to be asked for its search path.
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
                self.lookup.cache.record(Event::Miss { bytes });
                None
            }
            Err(NotStored::Untried(reason)) => {
                self.lookup.cache.record(Event::Miss { bytes: 0 });
                self.note_refused(plan, &reason);
                Some(reason)
            }
            Err(NotStored::Compile(reason)) => self.refuse(plan, reason),
            Err(NotStored::Cache(trouble)) => {
                warn(&trouble, &self.settings);
                self.lookup.cache.record(Event::Error(trouble.code));
                Some(Reason::new(trouble.code, trouble.words.as_bytes()))
            }
        }
    }

    /// Counts a compile whose result is not stored, and gives the reason back.
    fn refuse(&self, plan: &Plan, reason: Reason) -> Option<Reason> {
        self.lookup.cache.record(Event::Bypass(reason.code));
        self.note_refused(plan, &reason);
        Some(reason)
    }

    /// Notes the reason for `hgbuild explain`, which knows nothing else of such a compile.
    fn note_refused(&self, plan: &Plan, reason: &Reason) {
        // A cache that can't be written has said so.
        let _ = store::write_trail(
            &self.lookup.cache,
            &self.lookup.key,
            &plan.compile.source,
            Some(reason),
        );
    }

    fn store(
        &self,
        found: &Found,
        plan: &Plan,
        result: Compiled,
        wait: impl FnOnce() -> Option<Slot>,
    ) -> Result<u64, NotStored> {
        let (storable, folders) = self.storable(found, plan, result, wait)?;
        store::store(
            &self.lookup,
            &plan.compile,
            plan.dialect,
            &folders,
            &storable,
            || plan.settle(found, || None).cloned(),
        )
    }

    /// The result with what it depends on, and where the compile looks for headers.
    fn storable<'a>(
        &'a self,
        found: &Found,
        plan: &'a Plan,
        result: Compiled,
        wait: impl FnOnce() -> Option<Slot>,
    ) -> Result<(Storable<'a>, SearchPath), Reason> {
        let text = match &self.preprocessed {
            Some(Ok(text)) => ByText::Known(TextKey {
                key: &text.key,
                base: self.base.as_deref().filter(|_| text.shared),
            }),
            Some(Err(why)) => ByText::Unfit(why.clone()),
            None => preprocessor_mode::check_options(plan)
                .map_or_else(ByText::Unfit, |()| ByText::Untried),
        };
        let storable = Storable {
            result,
            responses: &plan.responses,
            began_ns: self.began_ns,
            watch: &self.watch,
            headers: self.headers.as_deref(),
            text,
            base: self.base.as_deref(),
        };
        let basis = identity::basis(found, &self.toolchain);
        let memo = self.search_paths.as_deref();
        let folders = match storable.result.closure {
            Some(_) => SearchPath::default(),
            None => search_path::find(found, &plan.compile, &basis, memo, wait)?,
        };
        Ok((storable, folders))
    }
}

/// Warns once in a build that the cache is not used.
pub fn warn(trouble: &Unusable, settings: &CacheSettings) {
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
struct ReadList {
    file: Option<File>,
    family: Family,
}

impl ReadList {
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
        Ok(ReadList {
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
