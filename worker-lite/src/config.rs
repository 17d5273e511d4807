//! What was typed, the environment and the defaults become one configuration;
//! then the worker serves with it.

use std::env;
#[cfg(target_os = "linux")]
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use argh::{ArgsInfo, CommandInfoWithArgs, FromArgs};
use hg_proto::PROTOCOL_VERSION;
use hg_proto::command_line::{self, Program};
use hg_proto::secure::credentials;
use hg_proto::secure::service;
use hg_proto::secure::tls::Pki;
use hg_proto::v1::Hello;
use hg_proto::wire::digest::Digest;
use hg_proto::wire::limits::{NAME_BYTES_MAX, SLOTS_MAX};
use nix::sys::stat::{Mode, umask};

use crate::files::scratch::Scratch;
use crate::files::shipments::Shipments;
use crate::files::state::StateFolder;
use crate::files::store;
use crate::http;
use crate::images::catalogue::{self, IMAGES_MAX, Images};
use crate::images::engine;
#[cfg(target_os = "linux")]
use crate::images::{finding, inside};
use crate::inputs::tree::Trees;
use crate::link::access::{self, Access};
use crate::link::finder::Place;
use crate::link::join::Invitation;
use crate::link::shell::{self, Serving};
use crate::log::{self, Level};
use crate::machine::{beneath, vitals};
use crate::metrics::Metrics;
use crate::sandbox::cgroups::CompileCgroups;
use crate::sandbox::facade::{Isolation, Policy, Sandbox};
use crate::signals;
use crate::tasks::toolchains::Places;
use crate::watchdog::Watchdog;
use hg_proto::compiler::speed;

/// Nice value of compilers where the operator says nothing: far enough below the machine's
/// own programs that they stay brisk.
const NICE_DEFAULT: i32 = 10;
const NICE_MAX: i32 = 19;
/// This program, also where its file was replaced meanwhile (Linux).
const PROGRAM_FILE: &str = "/proc/self/exe";
const HTTP_DEFAULT: &str = "127.0.0.1:9090";
/// Exit code of a worker that can't start as it was told to.
const EXIT_CANNOT_START: u8 = command_line::USAGE;
/// Exit code of a worker that started and then failed.
const EXIT_FAILED: u8 = 1;

/// What `hg-worker-lite --help` prints beside the options.
pub const PROGRAM: Program = Program {
    name: "hg-worker-lite",
    version: env!("CARGO_PKG_VERSION"),
    environment: &[
        (
            "HG_COORDINATOR",
            "where the coordinator listens, unless --coordinator says so ",
        ),
        ("HG_TOKEN", "a join token, before the one that 'join' keeps"),
        (
            "HG_LOG",
            "how much is said on stderr: off, error, warn, info or debug (info)",
        ),
        (
            "HOME",
            "where ~/.hybridgrid/worker is, unless --state says another folder",
        ),
    ],
};

/// The Hybrid-Grid worker: compiles C and C++ for the grid's clients.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    error_code(1, "it began as it was told to, and failed."),
    error_code(2, "the command line is wrong, or what it names is wrong or taken.")
)]
struct Typed {
    /// print the version and exit
    #[argh(switch, short = 'V')]
    #[expect(dead_code, reason = "a line of --help; answered before argh looks")]
    version: bool,

    #[argh(subcommand)]
    command: Option<Subcommand>,
}

#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one, for as long as a start takes"
)]
enum Subcommand {
    Serve(Serve),
    Join(Join),
}

/// Keeps a token that lets this worker serve a grid ('hg-coord token --role
/// worker'), once its coordinator has said that it is good.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "join",
    note = "On a machine that others use too, give the token by stdin or a file: command lines are seen by all.",
    example = "{command_name} < token\n{command_name} --coordinator build.example:9000 < token"
)]
struct Join {
    /// the token, or a file it is in (default: HG_TOKEN, else stdin)
    #[argh(positional, arg_name = "TOKEN")]
    token: Option<String>,

    /// where the coordinator listens (default: HG_COORDINATOR, or where mDNS finds
    /// it on this network)
    #[argh(option, arg_name = "HOST:PORT")]
    coordinator: Option<String>,

    /// the folder that 'serve' will have as --state (default: ~/.hybridgrid/worker;
    /// for root where the service is installed /var/lib/hybridgrid/worker)
    #[argh(option, arg_name = "DIR")]
    state: Option<PathBuf>,

    /// authorities, in PEM, by which the coordinator is known instead of by the token
    #[argh(option, arg_name = "FILE")]
    tls_ca: Option<PathBuf>,
}

/// Dials a coordinator and takes compiles from it until SIGTERM or SIGINT, which
/// finish what runs and take no more (a second one ends it at once).
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "serve",
    example = "{command_name} --coordinator build.example:9000 --slots 4",
    error_code(
        2,
        "can't start: an option is wrong, or the state or an address is taken."
    )
)]
struct Serve {
    /// where the coordinator listens (default: HG_COORDINATOR, or where it was joined
    /// and, when nobody is there, where mDNS finds it on this network)
    #[argh(option, arg_name = "HOST:PORT")]
    coordinator: Option<String>,

    /// a coordinator that is not where it was is not looked for by mDNS
    #[argh(switch)]
    no_mdns: bool,

    /// authorities, in PEM, by which the coordinator is known instead of by a token
    #[argh(option, arg_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// a certificate of your own, in PEM, that says that this is a worker
    #[argh(option, arg_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// its private key
    #[argh(option, arg_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// the coordinator runs with --insecure: no encryption, no token
    #[argh(switch)]
    insecure: bool,

    /// compiles at a time (default: one per core)
    #[argh(option, arg_name = "N")]
    slots: Option<u32>,

    /// how far below other programs compilers run, 0 to 19 (default: 10)
    #[argh(option, arg_name = "N", default = "NICE_DEFAULT")]
    nice: i32,

    /// offer all slots however busy others keep this machine; heat and memory
    /// still count
    #[argh(switch)]
    dedicated: bool,

    /// what people call this worker (default: the machine's name)
    #[argh(option, arg_name = "NAME")]
    name: Option<String>,

    /// where /health and /metrics are, on loopback, with port 0 for any free one
    /// (default: 127.0.0.1:9090)
    #[argh(option, arg_name = "ADDR:PORT|off")]
    http: Option<String>,

    /// the folder for the lock and for running compiles, not shared with another
    /// worker (default: ~/.hybridgrid/worker)
    #[argh(option, arg_name = "DIR")]
    state: Option<PathBuf>,

    /// where the files of running compiles are: below DIR, or auto for memory
    /// (/dev/shm) where there is plenty, else --state (default: auto)
    #[argh(option, arg_name = "auto|DIR")]
    scratch: Option<PathBuf>,

    /// how much of the disk of --state is for headers and sources that came, so that
    /// they need not come again, in MiB; 0 for none, and no tasks that need it
    /// (default: 1024, or a twentieth of what is free)
    #[argh(option, arg_name = "MIB")]
    blobs: Option<u64>,

    /// what holds compilers: auto for the best that this machine has, require to
    /// refuse to start with less than the full one, off for a private folder alone
    /// (default: auto)
    #[argh(
        option,
        arg_name = "auto|require|off",
        default = "String::from(\"auto\")"
    )]
    sandbox: String,

    /// whose compilers are run: this machine's own, or clients' too where a client's
    /// is another one; those are kept on the disk of --state, and only the full
    /// sandbox runs them (default: clients)
    #[argh(
        option,
        arg_name = "clients|own",
        default = "String::from(\"clients\")"
    )]
    toolchains: String,

    /// where this machine's compilers are looked for: in these folders, or auto for PATH,
    /// /usr/local/bin, /usr/lib/llvm-*/bin and /opt/*/bin, or none to offer none
    /// (default: auto)
    #[argh(
        option,
        arg_name = "auto|none|DIR[,DIR...]",
        default = "String::from(\"auto\")"
    )]
    compilers: String,

    /// container images whose compilers are offered beside this machine's: Docker or
    /// Podman gives their files, and the worker's own full sandbox runs them
    #[argh(option, arg_name = "IMAGE[,IMAGE...]")]
    container: Option<String>,
}

/// What may be typed.
pub fn command_line() -> CommandInfoWithArgs {
    Typed::get_args_info()
}

/// Runs the program as its command line says.
pub fn run() -> ExitCode {
    vitals::tune_allocator();
    clear_compiler_variables();
    #[cfg(target_os = "linux")]
    if let Some(root) = looked_into() {
        return inside::run(&root);
    }
    keep_owner_bits();
    let typed = match PROGRAM.typed::<Typed>() {
        Ok(typed) => typed,
        Err(code) => return code,
    };
    let typed = match typed.command {
        Some(Subcommand::Serve(typed)) => typed,
        Some(Subcommand::Join(typed)) => return join(typed),
        None => {
            let usage = PROGRAM.wrong(&[], "say what to do, as in 'hg-worker-lite serve'");
            return ExitCode::from(usage.print());
        }
    };
    let serving = set_log_level().and_then(|()| prepare(typed));
    let (_watchdog, _state, serving) = match serving {
        Ok(all) => all,
        Err(why) => {
            log::line(Level::Error, format_args!("{why}"));
            return ExitCode::from(EXIT_CANNOT_START);
        }
    };
    let images = serving.images.clone();
    let served = shell::serve(serving);
    if let Some(images) = images {
        images.close();
    }
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::line(Level::Error, format_args!("{error}"));
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// The image's files that this process is to look into; `None`: it is a worker.
#[cfg(target_os = "linux")]
fn looked_into() -> Option<OsString> {
    let mut words = env::args_os().skip(1);
    let is_it = words.next()? == finding::WORD;
    words.next().filter(|_| is_it)
}

fn join(typed: Join) -> ExitCode {
    let invitation = (|| {
        let token = credentials::given(typed.token.as_deref())?;
        let coordinator = named(typed.coordinator)?;
        let pki = Pki {
            ca: typed.tls_ca,
            ..Pki::default()
        };
        let of_service = || service::state_folder("worker");
        let state = state_folder(typed.state.or_else(of_service))?;
        Invitation::new(token, coordinator, &pki, state)
    })();
    let (code, why) = match invitation.map(Invitation::accept) {
        Ok(Ok(said)) => {
            println!("{said}");
            return ExitCode::SUCCESS;
        }
        Ok(Err(why)) => (EXIT_FAILED, why),
        Err(why) => (EXIT_CANNOT_START, why),
    };
    eprintln!("hg-worker-lite: {why}");
    ExitCode::from(code)
}

fn state_folder(typed: Option<PathBuf>) -> Result<PathBuf, String> {
    match typed {
        Some(folder) => Ok(folder),
        None => env::var_os("HOME")
            .map(|home| PathBuf::from(home).join(".hybridgrid/worker"))
            .ok_or_else(|| "no --state, and HOME is not set".into()),
    }
}

/// Variables that change what a compiler runs or loads. Compiles don't get them,
/// so compilers must not be identified with them either.
const COMPILER_VARIABLES: [&str; 4] = [
    "COMPILER_PATH",
    "GCC_EXEC_PREFIX",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
];

fn clear_compiler_variables() {
    for name in COMPILER_VARIABLES {
        // SAFETY: no other thread exists yet.
        unsafe { env::remove_var(name) };
    }
}

/// Drops bits of the owner from the umask, which would make folders that the worker itself
/// can't use.
fn keep_owner_bits() {
    let mask = umask(Mode::from_bits_truncate(0o077));
    umask(mask & Mode::from_bits_truncate(0o077));
}

fn set_log_level() -> Result<(), String> {
    match env::var("HG_LOG") {
        Ok(name) => {
            let level = Level::from_name(&name)
                .ok_or_else(|| format!("HG_LOG={name}: not off, error, warn, info or debug"))?;
            log::set_level(level);
            Ok(())
        }
        Err(_) => Ok(()),
    }
}

/// Checks what was typed, takes the state folder and the address, and says where
/// it listens.
fn prepare(typed: Serve) -> Result<(Watchdog, StateFolder, Serving), String> {
    let folder = state_folder(typed.state)?;
    let access = Access {
        insecure: typed.insecure,
        pki: Pki {
            ca: typed.tls_ca,
            certificate: typed.tls_cert,
            key: typed.tls_key,
        },
        token_path: access::token_path(&folder),
    };
    let coordinator = place(typed.coordinator, &access, !typed.no_mdns)?;
    if access.insecure {
        let text = "INSECURE: the link is not encrypted, and nobody is asked who they are";
        log::line(Level::Warn, format_args!("{text}"));
    }
    access.check(coordinator.address())?;
    let mut hello = hello(typed.slots, typed.name)?;
    if !(0..=NICE_MAX).contains(&typed.nice) {
        return Err(format!("--nice {}: not 0 to {NICE_MAX}", typed.nice));
    }
    let policy = Policy::from_name(&typed.sandbox)
        .ok_or_else(|| format!("--sandbox {}: not auto, require or off", typed.sandbox))?;
    let places = places(&typed.compilers)?;
    // Before the first thread starts, and before a compile could need it.
    let signals = signals::listen().map_err(|error| format!("signals: {error}"))?;
    let scratch = match typed.scratch {
        Some(folder) if folder != Path::new("auto") => Scratch::Below(folder),
        _ => Scratch::Auto,
    };
    let state = StateFolder::open(&folder, &scratch).map_err(|error| error.to_string())?;
    // Before there are processes that would have to move to another group.
    let groups = CompileCgroups::of_this_process().unwrap_or_else(|error| {
        log::line(Level::Warn, format_args!("no control groups: {error}"));
        None
    });
    let watchdog = Watchdog::start(&state.tasks()).map_err(|error| format!("watchdog: {error}"))?;
    let mut sandbox = Sandbox::measure(&state.path, &state.tasks(), policy)?;
    if let Some(groups) = groups {
        sandbox.use_cgroups(groups);
    }
    sandbox.log();
    hello.sandbox = sandbox.isolation().name().to_owned();
    let trees = trees(&state.path, &sandbox, typed.blobs, hello.slots)?;
    let shipments = shipments(&state.path, &typed.toolchains, trees.is_some())?;
    if shipments.is_some() {
        let mut shipping = vec![0; Digest::LEN];
        fastrand::Rng::new().fill(&mut shipping);
        hello.shipping = shipping;
    }
    let images = images(&state.path, typed.container.as_deref(), &sandbox)?;
    let metrics = Arc::new(Metrics::new().map_err(|error| error.to_string())?);
    metrics.slots.set(hello.slots.into());
    metrics.slots_now.set(hello.slots.into());
    let http = listen(typed.http.as_deref().unwrap_or(HTTP_DEFAULT), &metrics)?;
    announce(&state, &hello.name, http.as_deref())?;
    let serving = Serving {
        coordinator,
        access,
        hello,
        tasks: state.tasks(),
        nice: typed.nice,
        dedicated: typed.dedicated,
        places,
        memo: state.toolchains(),
        sandbox: Arc::new(sandbox),
        trees,
        shipments,
        images,
        metrics,
        signals,
    };
    Ok((watchdog, state, serving))
}

/// Store and skeletons for tasks of the tree form; `None`: the sandbox or the operator
/// allows none.
fn trees(
    state: &Path,
    sandbox: &Sandbox,
    mib: Option<u64>,
    slots: u32,
) -> Result<Option<Arc<Trees>>, String> {
    let bytes_max = match mib {
        Some(mib) => mib.saturating_mul(1 << 20),
        None => store::bytes_max_default(state),
    };
    if sandbox.isolation() != Isolation::Full || bytes_max == 0 {
        return Ok(None);
    }
    // One skeleton for each task that may be here, and one for a second compiler.
    let trees = Trees::open(state, bytes_max, slots as usize + 2);
    let trees = trees.map_err(|error| format!("{}: {error}", state.display()))?;
    Ok(Some(Arc::new(trees)))
}

/// Where clients' toolchains are kept, if they are taken. They are native code that runs
/// in the sandbox, and only the full one holds that.
fn shipments(state: &Path, whose: &str, has_trees: bool) -> Result<Option<Arc<Shipments>>, String> {
    match whose {
        "own" => return Ok(None),
        "clients" => {}
        other => return Err(format!("--toolchains {other}: not clients or own")),
    }
    if !has_trees {
        return Ok(None);
    }
    let folder = state.join("shipments");
    let shipments = Shipments::open(&folder);
    let shipments = shipments.map_err(|error| format!("{}: {error}", folder.display()))?;
    let text = "clients' own compilers are run in the sandbox; --toolchains own for none";
    log::line(Level::Info, format_args!("{text}"));
    Ok(Some(Arc::new(shipments)))
}

/// Where compilers are looked for, as `--compilers` has it.
fn places(typed: &str) -> Result<Places, String> {
    let folders = match typed {
        "auto" => return Ok(Places::Usual),
        "none" => Vec::new(),
        folders => folders.split(',').map(PathBuf::from).collect(),
    };
    match folders.iter().find(|folder| !folder.is_absolute()) {
        None => Ok(Places::Folders(folders)),
        Some(odd) => Err(format!(
            "--compilers {}: not auto or none, and no absolute path of a folder",
            odd.display()
        )),
    }
}

/// Images whose compilers are offered; `None`: the operator names none.
fn images(
    state: &Path,
    names: Option<&str>,
    sandbox: &Sandbox,
) -> Result<Option<Arc<Images>>, String> {
    let Some(names) = names else {
        catalogue::clear(state, true);
        return Ok(None);
    };
    let named = |why: String| format!("--container: {why}");
    let all: Vec<String> = names.split(',').map(str::to_owned).collect();
    if let Some(odd) = all.iter().find(|name| !engine::is_name(name)) {
        return Err(named(format!("{odd:?}: not the name of an image")));
    }
    if all.len() > IMAGES_MAX {
        return Err(named(format!("more than {IMAGES_MAX} images")));
    }
    if sandbox.isolation() != Isolation::Full {
        let why = "only the full sandbox runs compilers of images; the lines above say what \
                   this machine lacks for it";
        return Err(named(why.to_owned()));
    }
    let images = Images::open(state, all, PROGRAM_FILE.into()).map_err(named)?;
    Ok(Some(Arc::new(images)))
}

/// Where the coordinator is: as it was typed, or from the environment, or where it was
/// joined, or where mDNS finds it.
fn place(typed: Option<String>, access: &Access, mdns: bool) -> Result<Place, String> {
    if let Some(named) = named(typed)? {
        return Ok(Place::Named(named));
    }
    let stored = credentials::stored(&access.token_path).ok().flatten();
    let joined = stored.and_then(|stored| stored.coordinator);
    let joined = joined.map(|joined| checked("the joined", joined));
    let joined = joined.transpose()?;
    match (joined, mdns && access.may_look()) {
        (joined, true) if joined.is_some() || access.own_token().is_some() => {
            Ok(Place::Looked(joined))
        }
        (Some(joined), _) => Ok(Place::Joined(joined)),
        (None, _) => {
            Err("no coordinator: 'hg-worker-lite join', or --coordinator or HG_COORDINATOR".into())
        }
    }
}

/// HOST:PORT as it was typed, or from the environment.
fn named(typed: Option<String>) -> Result<Option<String>, String> {
    let from_environment = env::var("HG_COORDINATOR").ok();
    let from_environment = from_environment.filter(|coordinator| !coordinator.is_empty());
    match (typed, from_environment) {
        (Some(typed), _) => checked("--coordinator", typed).map(Some),
        (None, Some(set)) => checked("HG_COORDINATOR", set).map(Some),
        (None, None) => Ok(None),
    }
}

/// `coordinator`, if it can be HOST:PORT.
fn checked(from: &str, coordinator: String) -> Result<String, String> {
    match coordinator.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(coordinator),
        _ => Err(format!("{from} {coordinator}: not HOST:PORT")),
    }
}

fn hello(slots: Option<u32>, name: Option<String>) -> Result<Hello, String> {
    let cores = vitals::cores();
    let slots = slots.unwrap_or(cores.min(SLOTS_MAX));
    if !(1..=SLOTS_MAX).contains(&slots) {
        return Err(format!("--slots {slots}: not 1 to {SLOTS_MAX}"));
    }
    let name = name.unwrap_or_else(vitals::hostname);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(format!(
            "--name {name:?}: not 1 to {NAME_BYTES_MAX} printable bytes"
        ));
    }
    let mut instance = vec![0; 16];
    fastrand::Rng::new().fill(&mut instance);
    Ok(Hello {
        own_metrics: true,
        machine: Some(Box::new(beneath::machine())),
        protocol_version: PROTOCOL_VERSION,
        program_version: env!("CARGO_PKG_VERSION").into(),
        name,
        instance,
        slots,
        cores,
        memory_bytes: vitals::memory_bytes(),
        architecture: env::consts::ARCH.into(),
        os: env::consts::OS.into(),
        toolchains: Vec::new(),
        speed_milli: speed::measure_milli(|| true),
        token: String::new(),
        sandbox: String::new(),
        shipping: Vec::new(),
    })
}

fn listen(address: &str, metrics: &Arc<Metrics>) -> Result<Option<String>, String> {
    if address == "off" {
        return Ok(None);
    }
    let http = http::bind(address)
        .map_err(|error| format!("--http {address}: {error} (port 0 takes any, off takes none)"))?;
    let bound = http.address.to_string();
    http.answer(metrics.clone())
        .map_err(|error| format!("--http {address}: {error}"))?;
    Ok(Some(bound))
}

/// Writes where the worker listens as one JSON line to stdout and to `endpoints.json`.
fn announce(state: &StateFolder, name: &str, http: Option<&str>) -> Result<(), String> {
    let http = http.map_or("null".into(), json_string);
    let line = format!("{{\"name\":{},\"http\":{http}}}\n", json_string(name));
    state
        .write_endpoints(&line)
        .map_err(|error| format!("{}: {error}", state.path.display()))?;
    let mut stdout = std::io::stdout();
    stdout
        .write_all(line.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| format!("stdout: {error}"))
}

/// `text` as a JSON string (RFC 8259, section 7); names have no control characters.
fn json_string(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}
