//! `hgbuild COMPILER ARGS...`: one compile, from what was typed to the files
//! that lie there afterwards. Each step says why it stops, and then the user's
//! own compiler runs.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use hg_proto::args::{self, Compile, Dialect, Reason};
use hg_proto::limits::{ENVIRONMENT_BYTES_MAX, ENVIRONMENT_MAX};
use hg_proto::probe::{self, Probe};
use hg_proto::toolchain::Family;
use hg_proto::v1::{Encoding, EnvironmentVariable, Input, Task};

use crate::attempt::{self, CONNECT_MS_MAX, Lost, Memo};
use crate::compiler::{self, Found};
use crate::config::Config;
use crate::events::{self, Place, Record};
use crate::grpc::{Connection, GrpcError, Tasks};
use crate::inputs::{self, Gathered, Preprocessing};
use crate::local::{self, Ended};
use crate::memo::{Known, Memos};
use crate::os;
use crate::output::{self, Pending, Style};
use crate::signals;
use crate::slots::{Slot, Slots};
use crate::submit::{self, Cost, Outcome, Returned};

/// Exit code when the grid failed and a local compile is not allowed.
const NO_FALLBACK_EXIT: i32 = 75;
/// Bytes of one response file.
const RESPONSE_BYTES_MAX: u64 = 4 << 20;
/// Response files in response files.
const RESPONSE_DEPTH_MAX: usize = 8;
/// Arguments after expansion.
const ARGUMENTS_MAX: usize = 1 << 16;

/// Why the compiler runs here.
enum Stay {
    /// It had to, or had better: not the grid's fault.
    Here(Reason),
    /// The same, with the slot for it in hand.
    Idle(Reason, Slot),
    /// The grid failed.
    GridFailed(Reason),
}

impl From<Reason> for Stay {
    fn from(reason: Reason) -> Self {
        Stay::Here(reason)
    }
}

fn reason(code: &'static str, detail: impl std::fmt::Display) -> Reason {
    Reason {
        code,
        detail: detail.to_string(),
    }
}

/// One invocation.
struct Wrap<'a> {
    config: &'a Config,
    began: Instant,
    record: Record,
    slots: Option<Slots>,
    memos: Memos,
}

/// Runs `name` with `args` as a compile; ends this process as the compiler would.
pub fn compile(name: OsString, args: Vec<OsString>, config: &Config) -> ! {
    let began = Instant::now();
    let Some(found) = compiler::find(&name, &args, config) else {
        eprintln!("hgbuild: {}: no such program", name.to_string_lossy());
        std::process::exit(127);
    };
    let run = config.run_folder();
    let mut wrap = Wrap {
        config,
        began,
        record: Record {
            compiler: os::bytes(&found.command.arg0).to_vec(),
            ..Record::default()
        },
        slots: run
            .as_deref()
            .map(|folder| Slots::new(folder, config.local_slots)),
        memos: Memos::new(run.as_deref()),
    };
    let stay = match wrap.elsewhere(&found) {
        Ok(returned) => wrap.finish(returned),
        Err(stay) => stay,
    };
    if let Some(signal) = signals::seen() {
        Ended::Signal(signal as i32).now();
    }
    wrap.here(&found, stay)
}

impl Wrap<'_> {
    /// Everything up to a result from the grid, its outputs in place.
    fn elsewhere(&mut self, found: &Found) -> Result<Returned, Stay> {
        let config = self.config;
        if config.disabled {
            return Err(reason("disabled", "HG_DISABLE").into());
        }
        let name = found.name.ok_or_else(|| reason("not-a-compiler", ""))?;
        let plan = Plan::read(found, name)?;
        self.record.source = plan.compile.source.clone();
        self.record.output = plan.compile.output_path();
        if let Some(trouble) = &config.trouble {
            return Err(reason("config", trouble).into());
        }
        let address = config
            .coordinator
            .as_deref()
            .ok_or_else(|| reason("no-coordinator", ""))?;
        plan.compile.travel.clone()?;
        plan.check_files()?;
        if let Some(slot) = self.slots.as_ref().and_then(Slots::idle) {
            return Err(Stay::Idle(reason("local-slot", "idle"), slot));
        }
        let mut retry = false;
        match self.memos.recall(address.as_bytes(), attempt::down_memo) {
            Known::Bad(words) => return Err(Stay::GridFailed(reason("grid-down", words))),
            known => retry |= known == Known::Retry,
        }
        os::keep_memory();
        let probe = plan.probe(found, config)?;
        let toolchain = probe
            .toolchain(plan.compile.language)
            .ok_or_else(|| reason("unknown-compiler", "not for this language"))?;
        let missing = [address.as_bytes(), &toolchain.digest].concat();
        match self.memos.recall(&missing, attempt::toolchain_memo) {
            Known::Bad(words) => return Err(Stay::GridFailed(reason("no-worker", words))),
            known => retry |= known == Known::Retry,
        }
        let tasks = Tasks::new();
        let (connection, gathered) = self.gather(&tasks, address, found, &plan)?;
        if signals::seen().is_some() {
            // Came while the preprocessor ran, and would be lost from here on.
            return Err(reason("interrupted", "").into());
        }
        let task = plan.task(&probe, toolchain, &gathered, config)?;
        let sent = self.send(&tasks, connection, task, &gathered, &plan);
        if retry && !matches!(sent, Err(Attempt::Lost(_))) {
            self.memos.forget(address.as_bytes());
            self.memos.forget(&missing);
        }
        sent.map_err(|lost| match lost {
            Attempt::Lost(lost) => {
                let (reason, memo) = attempt::after_loss(&lost);
                match memo {
                    Memo::Coordinator => self.memos.note(address.as_bytes(), &reason.to_string()),
                    Memo::Toolchain => self.memos.note(&missing, &reason.detail),
                    Memo::None => {}
                }
                Stay::GridFailed(reason)
            }
            Attempt::Stay(stay) => stay,
        })
    }

    /// Preprocesses and dials at the same time.
    fn gather(
        &self,
        tasks: &Tasks,
        address: &str,
        found: &Found,
        plan: &Plan,
    ) -> Result<(Connection, Gathered), Stay> {
        let slot = self.slots.as_ref().and_then(Slots::wait);
        let mut preprocessing = Preprocessing::start(found, &plan.compile, plan.dialect)?;
        let connection = tasks.run(Connection::open(tasks, address, CONNECT_MS_MAX));
        let text = preprocessing.text()?;
        let connection = connection.map_err(|error| {
            let words = reason("grid-unreachable", &error);
            self.memos.note(address.as_bytes(), &words.to_string());
            Stay::GridFailed(words)
        })?;
        let dependencies = preprocessing.dependencies()?;
        drop(preprocessing);
        drop(slot);
        inputs::check_files(&text, &plan.compile, plan.dialect)?;
        let gathered = inputs::pack(&text, dependencies, plan.dialect)?;
        Ok((connection, gathered))
    }

    /// Has the task compiled and puts what came back in its place.
    fn send(
        &mut self,
        tasks: &Tasks,
        mut connection: Connection,
        task: Task,
        gathered: &Gathered,
        plan: &Plan,
    ) -> Result<Returned, Attempt> {
        let began = Instant::now();
        let style = plan.object_style();
        let cannot_write = |error: std::io::Error| Attempt::Stay(reason("output", error).into());
        let mut object = Pending::new(&plan.object, style).map_err(cannot_write)?;
        let wanted = task.outputs.first().cloned().unwrap_or_default();
        let mut cost = Cost::default();
        let overtaking = self.slots.as_ref().filter(|slots| slots.travelling() > 0);
        let outcome = tasks.run(submit::submit(
            &mut connection,
            task,
            &gathered.encoded,
            object.file(),
            overtaking,
            &mut cost,
        ));
        self.record.bytes_up = cost.bytes_up;
        self.record.bytes_down = cost.bytes_down;
        self.record.worker = cost.worker;
        self.record.remote_ms = millis(began);
        let returned = match outcome.map_err(Attempt::Lost)? {
            Outcome::Returned(returned) => returned,
            Outcome::Overtaken(slot) => {
                let (reason, _) = attempt::after_loss(&Lost::Overtaken);
                return Err(Attempt::Stay(Stay::Idle(reason, slot)));
            }
        };
        self.record.queue_ms = returned.queue_ms;
        attempt::accept(&returned.result, plan.dialect.family, &wanted)
            .map_err(|reason| Attempt::Stay(reason.into()))?;
        let mut files = Vec::new();
        if let (Some(path), Some(content)) = (&plan.dependencies, &gathered.dependencies) {
            use std::io::Write;
            let mut file = Pending::new(path, Style::Rewrite).map_err(cannot_write)?;
            file.file().write_all(content).map_err(cannot_write)?;
            files.push(file);
        }
        files.push(object);
        output::put_all(files).map_err(cannot_write)?;
        Ok(returned)
    }

    /// A good result is there: says so and ends.
    fn finish(&self, returned: Returned) -> ! {
        use std::io::Write;
        // Nobody may be reading; the compiler would not care either.
        let _ = std::io::stderr().write_all(&returned.result.stderr);
        self.tell(Place::Remote, &reason("remote", ""), 0);
        std::process::exit(0)
    }

    /// The user's own compiler.
    fn here(&self, found: &Found, stay: Stay) -> ! {
        let (reason, slot) = match stay {
            Stay::GridFailed(reason) if !self.config.fallback => {
                eprintln!("hgbuild: the grid failed and --no-fallback is set: {reason}");
                self.tell(Place::Local, &reason, NO_FALLBACK_EXIT);
                std::process::exit(NO_FALLBACK_EXIT);
            }
            Stay::Idle(reason, slot) => (reason, Some(slot)),
            Stay::Here(reason) | Stay::GridFailed(reason) => {
                let slot = match takes_a_slot(found, self.config) {
                    true => self.slots.as_ref().and_then(Slots::wait),
                    false => None,
                };
                (reason, slot)
            }
        };
        if !events::wanted(self.config) {
            if let Some(slot) = &slot {
                slot.keep_over_exec();
            }
            cannot_run(found, &local::become_it(&found.command));
        }
        match local::run(&found.command) {
            Ok(ended) => {
                drop(slot);
                self.tell(Place::Local, &reason, ended.code());
                ended.now()
            }
            Err(error) => cannot_run(found, &error),
        }
    }

    fn tell(&self, place: Place, reason: &Reason, exit: i32) {
        let wall_ms = millis(self.began);
        events::record(self.config, &self.record, place, reason, exit, wall_ms);
    }
}

/// Why there is no result of an attempt.
enum Attempt {
    Lost(Lost),
    Stay(Stay),
}

fn millis(since: Instant) -> u64 {
    since.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
}

fn cannot_run(found: &Found, error: &std::io::Error) -> ! {
    eprintln!("hgbuild: {}: {error}", found.command.program.display());
    std::process::exit(126)
}

/// Compilers and preprocessors take a slot; what only links or answers a
/// question does not, nor what reads a pipe that another one fills.
fn takes_a_slot(found: &Found, config: &Config) -> bool {
    if config.disabled || found.name.is_none() {
        return false;
    }
    let mut works = false;
    for arg in &found.args {
        match os::bytes(arg) {
            b"-" => return false,
            b"-c" | b"-S" | b"-E" | b"-M" | b"-MM" | b"-fsyntax-only" => works = true,
            _ => {}
        }
    }
    // A script may call us again, and would wait for the slot that it holds.
    works && is_binary(&found.command.program)
}

fn is_binary(program: &Path) -> bool {
    let mut magic = [0; 2];
    let read = std::fs::File::open(program).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && &magic != b"#!"
}

/// What a command line means, and which files are concerned.
struct Plan {
    dialect: Dialect,
    compile: Compile,
    object: PathBuf,
    dependencies: Option<PathBuf>,
    environment: Vec<EnvironmentVariable>,
}

impl Plan {
    fn read(found: &Found, name: compiler::Name) -> Result<Self, Reason> {
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
        let mut words = Vec::new();
        expand(&found.args, 0, &mut words)?;
        let compile = args::parse(dialect, &words)?;
        let path = |bytes: Vec<u8>| PathBuf::from(os::from_bytes(bytes));
        Ok(Plan {
            dialect,
            object: path(compile.output_path()),
            dependencies: compile.dependency_path().map(path),
            compile,
            environment,
        })
    }

    fn object_style(&self) -> Style {
        match (self.compile.assembly, self.dialect.family) {
            (true, Family::Gcc) => Style::Rewrite,
            _ => Style::Replace,
        }
    }

    /// Whether source and outputs are such that we do with them as the compiler does.
    fn check_files(&self) -> Result<(), Reason> {
        let source = PathBuf::from(os::from_bytes(self.compile.source.clone()));
        match std::fs::metadata(&source) {
            Ok(meta) if meta.is_file() => {}
            _ => return Err(reason("source", "not a regular file")),
        }
        let clang = self.dialect.family == Family::Clang;
        output::check(&self.object, self.object_style(), clang)?;
        if let Some(path) = &self.dependencies {
            if is_same(path, &self.object) || is_same(path, &source) {
                return Err(reason("output", "two files are one"));
            }
            output::check(path, Style::Rewrite, clang)?;
        }
        if is_same(&self.object, &source) {
            return Err(reason("output", "the source itself"));
        }
        // What such a name's suffix is, gcc's versions do not agree.
        if [&source, &self.object]
            .into_iter()
            .any(|path| is_suffix(path))
        {
            return Err(reason("source-name", source.display()));
        }
        Ok(())
    }

    fn probe(&self, found: &Found, config: &Config) -> Result<Probe, Reason> {
        let memo = config.run_folder().map(|run| run.join("compilers"));
        let probe = probe::probe(&found.driver, memo.as_deref())
            .map_err(|error| reason("unknown-compiler", error))?;
        match probe.family == self.dialect.family {
            true => Ok(probe),
            false => Err(reason("unknown-compiler", "not what its name says")),
        }
    }

    fn task(
        &self,
        probe: &Probe,
        toolchain: hg_proto::v1::Toolchain,
        gathered: &Gathered,
        config: &Config,
    ) -> Result<Task, Reason> {
        let input = inputs::input_name(&self.compile.source)?;
        let output: &[u8] = match (self.compile.assembly, &input[..]) {
            (false, b"out.o") => b"out2.o",
            (false, _) => b"out.o",
            (true, b"out.s") => b"out2.s",
            (true, _) => b"out.s",
        };
        let mut arguments = self.compile.travel_args(self.dialect, &input, output);
        let targeted = |arg: &Vec<u8>| arg.starts_with(b"--target=") || arg == b"-target";
        if self.dialect.family == Family::Clang && !arguments.iter().any(targeted) {
            arguments.insert(0, format!("--target={}", probe.target).into_bytes());
        }
        Ok(Task {
            toolchain: Some(toolchain),
            arguments,
            working_directory: Vec::new(),
            inputs: vec![Input {
                path: input,
                digest: gathered.digest.as_bytes().to_vec(),
                size: gathered.size,
                encoding: Encoding::Zstd.into(),
                encoded_size: gathered.encoded.len() as u64,
            }],
            outputs: vec![output.to_vec()],
            environment: self.environment.clone(),
            limits: None,
            source: String::from_utf8_lossy(&self.compile.source).into_owned(),
            client: client_name(),
            queue_ms_max: config.queue_ms_max,
        })
    }
}

/// Whether both name one file, by path or by what is there.
fn is_same(a: &Path, b: &Path) -> bool {
    let file = |path| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    a == b || matches!((file(a), file(b)), (Ok(a), Ok(b)) if a == b)
}

/// `.c`: a name, or a suffix without one?
fn is_suffix(path: &Path) -> bool {
    let name = path.file_name().map(os::bytes).unwrap_or_default();
    name.starts_with(b".") && !name[1..].contains(&b'.')
}

/// Tasks of one user on one machine share a turn.
fn client_name() -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    format!("{}@{}", nix::unistd::getuid(), host.to_string_lossy())
}

fn real_name(driver: &Path) -> Option<compiler::Name> {
    let real = std::fs::canonicalize(driver).ok()?;
    compiler::name_of(real.as_os_str())
}

/// `cc` and `c++` are links: to whom?
fn family_behind(driver: &Path) -> Family {
    let real = std::fs::canonicalize(driver).unwrap_or_default();
    let name = real.file_name().unwrap_or_default().to_string_lossy();
    match name.contains("clang") || cfg!(target_os = "macos") {
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
                return Err(reason("environment", String::from_utf8_lossy(name)));
            }
            travels.insert(name.to_vec(), value.to_vec());
        }
    }
    if travels.len() > ENVIRONMENT_MAX {
        return Err(reason("environment", "too many variables"));
    }
    Ok(travels
        .into_iter()
        .map(|(name, value)| EnvironmentVariable { name, value })
        .collect())
}

/// Puts the contents of `@file` in its place, as the compiler does.
fn expand(args: &[OsString], depth: usize, words: &mut Vec<Vec<u8>>) -> Result<(), Reason> {
    for arg in args {
        let word = os::bytes(arg);
        let file = word
            .strip_prefix(b"@")
            .map(|name| os::from_bytes(name.to_vec()));
        match file.and_then(|file| read_response(Path::new(&file))) {
            Some(Err(why)) => return Err(why),
            Some(Ok(text)) if depth < RESPONSE_DEPTH_MAX => {
                let inner = args::split_response_file(&text);
                let inner: Vec<OsString> = inner.into_iter().map(os::from_bytes).collect();
                expand(&inner, depth + 1, words)?;
            }
            Some(Ok(_)) => return Err(reason("response-file", "nested too deeply")),
            // Not a file: the compiler takes it for an argument.
            None => words.push(word.to_vec()),
        }
        if words.len() > ARGUMENTS_MAX {
            return Err(reason("response-file", "too many arguments"));
        }
    }
    Ok(())
}

fn read_response(file: &Path) -> Option<Result<Vec<u8>, Reason>> {
    let meta = std::fs::metadata(file).ok()?;
    let told = |why: &str| reason("response-file", format_args!("{}: {why}", file.display()));
    if !meta.is_file() {
        return Some(Err(told("not a regular file")));
    }
    if meta.len() > RESPONSE_BYTES_MAX {
        return Some(Err(told("too large")));
    }
    Some(std::fs::read(file).map_err(|error| told(&error.to_string())))
}

/// What `hgbuild status` and a build need to know of the grid.
pub fn connect(config: &Config, tasks: &Tasks) -> Result<Connection, String> {
    if let Some(trouble) = &config.trouble {
        return Err(trouble.clone());
    }
    let address = config
        .coordinator
        .as_deref()
        .ok_or("no coordinator is set: HG_COORDINATOR=HOST:PORT, --coordinator, or coordinator = \"HOST:PORT\" in ~/.hybridgrid/config.toml")?;
    tasks
        .run(Connection::open(tasks, address, CONNECT_MS_MAX))
        .map_err(|error: GrpcError| format!("{address}: {error}"))
}
