//! The process: from flags to a running coordinator, and its end.

use std::io::{self, Write};
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hg_proto::command_line::USAGE;
use hg_proto::secure::tls::{ALPN_GRPC, ALPN_WORKER};
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::stat::{Mode, umask};
use serde_json::json;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::backend::client::Backend;
use crate::backend::secret;
use crate::bounds::{BACKLOG_MAX, FDS_MAX, SHUTDOWN_MS_MAX};
use crate::commands::{cache, drain, invite, readmit, tokens};
use crate::config::{Args, CacheBackend, CacheSize, Command, CommandError, Config, PROGRAM, Serve};
use crate::dispatch::hub::Hub;
use crate::dispatch::{audit_file, predictor_file};
use crate::results::store::Store;
use crate::scheduling::coordinator::Settings;
use crate::serve::accept::Door;
use crate::serve::announce::{self, Announcer};
use crate::serve::pages::Guard;
use crate::serve::{grpc, pages, spans, void_lists};
use crate::trust::command_socket;
use crate::trust::doorkeeper::{Doorkeeper, LocalTokens};
use crate::{log, state_folder};

/// gRPC connections between accept and server.
const HANDOVER_MAX: usize = 64;
/// Threads that serve connections.
const THREADS: std::ops::RangeInclusive<usize> = 2..=8;

/// Does what the command line says.
pub fn main() -> ExitCode {
    // Nothing that we make is for others, whatever we were started under.
    umask(Mode::from_bits_truncate(0o077));
    let args = match PROGRAM.typed::<Args>() {
        Ok(args) => args,
        Err(code) => return code,
    };
    let home = std::env::var_os("HOME")
        .filter(|home| !home.is_empty())
        .map(PathBuf::from);
    let done = match args.command {
        Some(Command::Serve(args)) => return start(&args, home),
        Some(Command::Drain(args)) => drain::run(&args, home),
        Some(Command::Readmit(args)) => readmit::run(&args, home),
        Some(Command::Cache(args)) => cache::run(&args, home),
        Some(Command::Invite(args)) => invite::run(&args, home),
        Some(Command::Token(args)) => tokens::token(&args, home),
        Some(Command::Tokens(args)) => tokens::list(&args, home),
        Some(Command::Revoke(args)) => tokens::revoke(&args, home),
        Some(Command::Rotate(args)) => tokens::rotate(&args, home),
        None => {
            let usage = PROGRAM.wrong(&[], "say what to do, as in 'hg-coord serve'");
            return ExitCode::from(usage.print());
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(CommandError::Usage(why)) => {
            eprintln!("hg-coord: {why}");
            ExitCode::from(USAGE)
        }
        Err(CommandError::Failed(why)) => {
            eprintln!("hg-coord: {why}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Serve, home: Option<PathBuf>) -> ExitCode {
    let level = std::env::var("HG_LOG").ok();
    match log::level_named(level.as_deref()) {
        Some(level) => log::set_level(level),
        None => log::warn(format_args!("HG_LOG takes off, error, warn, info or debug")),
    }
    let config = match Config::new(args, home) {
        Ok(config) => config,
        Err(why) => {
            eprintln!("hg-coord: {why}");
            return ExitCode::from(USAGE);
        }
    };
    match run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(CommandError::Usage(why)) => {
            log::error(format_args!("{why}"));
            ExitCode::from(USAGE)
        }
        Err(CommandError::Failed(why)) => {
            log::error(format_args!("{why}"));
            ExitCode::FAILURE
        }
    }
}

fn run(config: &Config) -> Result<(), CommandError> {
    // Held until the end.
    let _lock = state_folder::take(&config.state).map_err(CommandError::Usage)?;
    if config.insecure {
        log::warn(format_args!(
            "INSECURE: links are not encrypted, and nobody is asked who they are"
        ));
    }
    if config.exposed {
        log::warn(format_args!(
            "LISTENING BEYOND THIS MACHINE WITHOUT AUTHENTICATION: anybody who reaches the port \
             can run compiles on the workers and read what others send"
        ));
    }
    let fds = raise_fds() as u64;
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.clamp(*THREADS.start(), *THREADS.end()))
        .enable_all()
        .build()
        .map_err(|error| format!("runtime: {error}"))?;
    let result = runtime.block_on(serve(config, fds));
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// As many file descriptors as the system lets us have, and how many that is.
fn raise_fds() -> rlim_t {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 1_024;
    };
    let most = rlim_t::try_from(FDS_MAX).unwrap_or(hard);
    let wanted = hard.min(most).max(soft);
    match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
        Ok(()) => wanted,
        Err(_) => soft,
    }
}

fn bind(flag: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), String> {
    let bound = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // A restart finds its port free.
        socket.set_reuseaddr(true)?;
        if address.ip() == Ipv6Addr::UNSPECIFIED {
            // For IPv4 too, whatever the system's default is.
            SockRef::from(&socket).set_only_v6(false)?;
        }
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG_MAX)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound().map_err(|error: io::Error| format!("{flag} {address}: {error}"))
}

async fn serve(config: &Config, fds: u64) -> Result<(), CommandError> {
    // Before anybody can see the ports, so that a signal is never lost.
    let signals = |kind| signal(kind).map_err(|error| format!("signals: {error}"));
    let (mut term, mut int) = (
        signals(SignalKind::terminate())?,
        signals(SignalKind::interrupt())?,
    );
    let (hub, mut ended) = Hub::new(Settings {
        seed: seed(),
        weights: config.weights.clone(),
        predictor: predictor_file::load(&config.state),
        audit_every: config.audit_every,
        idle_audit_share: f64::from(config.idle_audit_percent) / 100.0,
        differing: audit_file::load(&config.state).map_err(CommandError::Usage)?,
        ..Settings::default()
    });
    let bytes_max = match config.cache_size {
        CacheSize::Off => None,
        CacheSize::SuitsDisk => Some(Store::suited_bytes(&config.state)),
        CacheSize::AtMost(bytes) => Some(bytes),
    };
    if let Some(bytes_max) = bytes_max {
        let store = Store::open(&config.state, bytes_max).map_err(CommandError::Usage)?;
        // Nobody else sets it.
        let _ = hub.results.set(Arc::new(store));
    }
    if let Some(wanted) = &config.cache_backend {
        let backend = cache_backend(wanted, config, &hub).map_err(CommandError::Usage)?;
        // Nobody else sets it.
        let _ = hub.backend.set(backend);
    }
    let keeper = match config.insecure {
        true => Doorkeeper::insecure(),
        false => Doorkeeper::new(&config.state, &config.pki).map_err(CommandError::Usage)?,
    };
    let tls = |protocols| {
        let tls = keeper.server_config(&config.pki, protocols);
        let tls = tls.map_err(CommandError::Usage)?;
        Ok::<_, CommandError>(tls.map(TlsAcceptor::from))
    };
    let grid_tls = tls(&[ALPN_GRPC, ALPN_WORKER])?;
    let bound = bind("--listen", config.listen);
    let bound = bound.or_else(|why| match config.listen_else {
        Some(address) => bind("--listen", address).map_err(|_| why),
        None => Err(why),
    });
    let (grid, grid_address) = bound.map_err(CommandError::Usage)?;
    let mut endpoints = json!({ "grid": grid_address.to_string() });
    if config.insecure {
        endpoints["insecure"] = json!(true);
    }
    let http = match config.http {
        Some(address) => {
            let (listener, address) = bind("--http", address).map_err(CommandError::Usage)?;
            endpoints["http"] = json!(address.to_string());
            // What can be read is open to this machine; others must say who they are.
            let guard = Guard {
                tls: match address.ip().is_loopback() {
                    true => None,
                    false => tls(&[b"http/1.1"])?,
                },
                keeper: (!config.insecure).then(|| keeper.clone()),
            };
            Some(tokio::spawn(pages::accept(listener, hub.clone(), guard)))
        }
        None => None,
    };
    let (sender, connections) = mpsc::channel(HANDOVER_MAX);
    let mut closing = hub.closing.subscribe();
    let shutdown = async move {
        // The hub outlives this.
        let _ = closing.wait_for(|closing| *closing).await;
    };
    let mut service = tokio::spawn(grpc::serve(
        hub.clone(),
        keeper.clone(),
        connections,
        shutdown,
    ));
    let local = match config.insecure {
        true => None,
        false => LocalTokens::leave(grid_address, &config.state),
    };
    let door = Door::new(hub.clone(), fds, sender, keeper.clone(), grid_tls);
    let mut door = tokio::spawn(door.accept(grid));
    let ticker = tokio::spawn(hub.clone().tick());
    let learner = tokio::spawn(predictor_file::keep(hub.clone(), config.state.clone()));
    let auditor = tokio::spawn(audit_file::keep(hub.clone(), config.state.clone()));
    let voids = tokio::spawn(void_lists::share(hub.clone()));
    let watch = match config.insecure {
        true => None,
        false => {
            let commands = command_socket::listen(&config.state).inspect_err(|error| {
                log::warn(format_args!(
                    "commands are heard of a second later: {}: {error}",
                    config.state.display()
                ));
            });
            let keeping = keeper.clone().keep(config.state.clone(), commands.ok());
            Some(tokio::spawn(keeping))
        }
    };
    if let Some(url) = &config.otlp {
        let collector = spans::collector(url);
        let collector = collector.map_err(|why| CommandError::Usage(format!("--otlp {why}")))?;
        tokio::spawn(spans::export(hub.clone(), collector));
    }
    let announcer = match config.mdns && announce::is_for_others(grid_address) {
        true => announcer(&config.state, grid_address)?,
        false => None,
    };
    if announcer.is_some() {
        endpoints["mdns"] = json!(true);
    }
    let announcer = announcer.map(|announcer| {
        let keeper = keeper.clone();
        tokio::spawn(async move { announcer.announce(keeper).await })
    });
    tell(&config.state, &endpoints.to_string())?;
    log::info(format_args!("serving on {endpoints}"));
    for line in invite::next_steps(config, grid_address) {
        // For whoever started it, whatever the log's level is.
        eprintln!("hg-coord: {line}");
    }

    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
        result = &mut service => return Err(format!("grpc: {result:?}").into()),
        result = &mut door => return Err(format!("the grid port: {result:?}").into()),
        () = renew(local.as_ref(), &keeper) => {}
    }
    log::info(format_args!("going away"));
    door.abort();
    ticker.abort();
    learner.abort();
    auditor.abort();
    voids.abort();
    for other in [http, watch, announcer].into_iter().flatten() {
        other.abort();
    }
    hub.shut_down();
    let quiet = async {
        // Ends when every link and every submit stream has.
        let _ = ended.recv().await;
        let _ = service.await;
    };
    let _ = tokio::time::timeout(Duration::from_millis(SHUTDOWN_MS_MAX), quiet).await;
    predictor_file::save(&hub, &config.state, 0);
    audit_file::save(&hub, &config.state);
    keeper.note_seen(&config.state);
    Ok(())
}

fn cache_backend(
    wanted: &CacheBackend,
    config: &Config,
    hub: &Hub,
) -> Result<Arc<Backend>, String> {
    let own = config.state.join(secret::FILE);
    // One that the operator names is another coordinator's.
    let path = wanted.key.as_ref().unwrap_or(&own);
    let (secret, is_new) = secret::load(path, wanted.key.is_none())
        .map_err(|why| format!("--cache-backend-key {why}"))?;
    let shown = wanted.address.shown();
    let name = secret.name();
    if is_new {
        log::warn(format_args!(
            "made the key {name} for cache backend {shown}: copy {} to the other coordinators \
             that use it",
            path.display()
        ));
    }
    log::info(format_args!("cache backend {shown}, key {name}"));
    let backend = Backend::open(wanted.address.clone(), secret, hub.metrics.backend.clone());
    backend.map_err(|why| format!("--cache-backend {shown}: {why}"))
}

async fn renew(local: Option<&LocalTokens>, keeper: &Doorkeeper) {
    match local {
        Some(local) => local.renew(keeper).await,
        None => std::future::pending().await,
    }
}

/// Different in each process: workers must not be able to tell who is chosen.
fn seed() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    now.as_nanos() as u64 ^ (u64::from(std::process::id()) << 32)
}

/// Announces the coordinator, as far as the system lets it.
fn announcer(state: &Path, address: SocketAddr) -> Result<Option<Announcer>, CommandError> {
    let grid = announce::grid_id(state).map_err(CommandError::Usage)?;
    match Announcer::start(grid, address) {
        Ok(announcer) => Ok(Some(announcer)),
        Err(why) => {
            log::warn(format_args!("not announced: {why}"));
            Ok(None)
        }
    }
}

/// Tells who started us, and who looks later, where we listen.
fn tell(state: &Path, endpoints: &str) -> Result<(), String> {
    let line = format!("{endpoints}\n");
    state_folder::write(state, "endpoints.json", line.as_bytes())
        .map_err(|error| format!("--state {}: {error}", state.display()))?;
    let mut stdout = io::stdout().lock();
    // Nobody reads stdout: the file has it.
    let _ = stdout
        .write_all(line.as_bytes())
        .and_then(|()| stdout.flush());
    Ok(())
}
