//! What the operator typed, and what it means. Unaware of sockets.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgs};
use hg_proto::command_line::Program;
use hg_proto::secure::service;
use hg_proto::secure::tls::Pki;
use hg_proto::secure::token::{Role, holder_is_well_formed};
use hg_proto::size;

use crate::backend::address::Address;
use crate::trust::doorkeeper::OwnPki;
use crate::trust::secrets::Rotation;

/// What `hg-coord --help` says beside the options.
pub const PROGRAM: Program = Program {
    name: "hg-coord",
    version: env!("CARGO_PKG_VERSION"),
    environment: &[
        (
            "HG_LOG",
            "how much is said on stderr: off, error, warn, info or debug (info)",
        ),
        (
            "HG_TOKEN",
            "an admin's token for 'drain' and 'readmit', before one of the state folder",
        ),
        ("HG_CACHE_BACKEND", "as --cache-backend"),
        (
            "REDISCLI_AUTH",
            "the password of the Redis that --cache-backend names",
        ),
        (
            "AWS_ACCESS_KEY_ID",
            "with AWS_SECRET_ACCESS_KEY who asks the S3 of --cache-backend; else \
             ~/.aws/credentials (AWS_PROFILE) says so",
        ),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "as --otlp"),
        (
            "HOME",
            "where ~/.hybridgrid/coord is, unless --state says another folder",
        ),
    ],
};

/// Why a command did not do what it was to.
#[derive(Debug, PartialEq, Eq)]
pub enum CommandError {
    /// It can't be done as it was typed: a word of the command line, or what that
    /// names, is wrong, missing or taken.
    Usage(String),
    /// It was typed well, and failed.
    Failed(String),
}

impl From<String> for CommandError {
    fn from(why: String) -> Self {
        CommandError::Failed(why)
    }
}

/// The Hybrid-Grid coordinator: takes compiles from hgbuild and gives them to
/// workers.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    error_code(1, "it was typed well, and failed."),
    error_code(2, "the command line is wrong, or what it names is wrong or taken.")
)]
pub struct Args {
    /// print the version and exit
    #[argh(switch, short = 'V')]
    pub version: bool,

    /// what to do
    #[argh(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub enum Command {
    /// Run.
    Serve(Serve),
    /// Take a worker out.
    Drain(Drain),
    Readmit(Readmit),
    /// What is kept.
    Cache(CacheArgs),
    /// Let a machine in by one line.
    Invite(Invite),
    /// Let somebody in.
    Token(TokenArgs),
    /// Who was let in.
    Tokens(Tokens),
    /// Let somebody in no more.
    Revoke(Revoke),
    /// New secrets.
    Rotate(Rotate),
}

/// Print the line to type on a machine that shall compile for others, and the one for a
/// developer's machine: each has a new join token in it, and says where the coordinator is
/// unless it announces itself by mDNS.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "invite",
    note = "A line is a secret: whoever has it gets in. 'hg-coord revoke NAME' makes it void.",
    example = "{command_name} --role worker --name pi3"
)]
pub struct Invite {
    /// print only the line for a worker, a client or an admin
    #[argh(option, arg_name = "worker|client|admin", from_str_fn(role))]
    pub role: Option<Role>,

    /// who will have it, for 'hg-coord revoke' and the audit lines (default: the
    /// role and a random number)
    #[argh(option, arg_name = "NAME", from_str_fn(holder))]
    pub name: Option<String>,

    /// how long it holds, as in 30d or 12h, or never (default: never)
    #[argh(option, arg_name = "TIME", default = "0", from_str_fn(lasting))]
    pub expires: u64,

    /// where the invited reach the coordinator (default: by mDNS if it announces itself,
    /// else where it listens)
    #[argh(option, arg_name = "HOST:PORT")]
    pub coordinator: Option<String>,

    /// the coordinator's folder for state (default: ~/.hybridgrid/coord)
    #[argh(option, arg_name = "DIR")]
    pub state: Option<PathBuf>,
}

/// Print a join token, one line that lets its holder in: give it to 'hgbuild join'
/// or 'hg-worker-lite join'.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "token")]
pub struct TokenArgs {
    /// what the holder may be: worker, client (submits and looks), viewer (looks, for
    /// dashboards and Prometheus) or admin (a client that also changes the grid)
    #[argh(option, arg_name = "worker|client|viewer|admin", from_str_fn(role))]
    pub role: Role,

    /// how long it holds, as in 30d or 12h, or never (default: never)
    #[argh(option, arg_name = "TIME", default = "0", from_str_fn(lasting))]
    pub expires: u64,

    /// who will have it, for 'hg-coord revoke' and the audit lines (default: the
    /// role and a random number)
    #[argh(option, arg_name = "NAME", from_str_fn(holder))]
    pub name: Option<String>,

    /// the coordinator's folder for state (default: ~/.hybridgrid/coord; for root
    /// where the service is installed /var/lib/hybridgrid/coord)
    #[argh(option, arg_name = "DIR")]
    pub state: Option<PathBuf>,
}

/// List whom tokens were given to: name, role, when, until when, when one was shown
/// last, and what is revoked. One line for each name and role, however many tokens it
/// has; who has one of an older version is listed once it was shown.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "tokens")]
pub struct Tokens {
    /// the coordinator's folder for state (default: ~/.hybridgrid/coord; for root
    /// where the service is installed /var/lib/hybridgrid/coord)
    #[argh(option, arg_name = "DIR")]
    pub state: Option<PathBuf>,
}

/// Make void all tokens that were made until now for a name, and its certificate. A
/// running coordinator knows it before this ends, and cuts its holders' links, tasks
/// and streams of events.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "revoke",
    error_code(
        1,
        "it is revoked, but nobody of that name was given a token or seen here."
    )
)]
pub struct Revoke {
    /// the name
    #[argh(positional, arg_name = "NAME", from_str_fn(holder))]
    pub name: String,

    /// the coordinator's folder for state (default: ~/.hybridgrid/coord; for root
    /// where the service is installed /var/lib/hybridgrid/coord)
    #[argh(option, arg_name = "DIR")]
    pub state: Option<PathBuf>,
}

/// Make a new root secret, or a new certificate, or both. The old ones hold for a
/// while beside them; who connects meanwhile gets a new token by itself.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "rotate")]
pub struct Rotate {
    /// the root secret, which tokens are derived from
    #[argh(switch)]
    pub secret: bool,

    /// the certificate, whose fingerprint is in tokens
    #[argh(switch)]
    pub certificate: bool,

    /// how long the old ones hold, as in 30d or 12h; 0s ends them at once
    /// (default: 30d)
    #[argh(
        option,
        arg_name = "TIME",
        default = "30 * 86_400",
        from_str_fn(overlap)
    )]
    pub overlap: u64,

    /// the coordinator's folder for state (default: ~/.hybridgrid/coord; for root
    /// where the service is installed /var/lib/hybridgrid/coord)
    #[argh(option, arg_name = "DIR")]
    pub state: Option<PathBuf>,
}

impl Rotate {
    /// What is to be made; both when nothing is said.
    pub fn rotation(&self) -> Rotation {
        let both = !self.secret && !self.certificate;
        Rotation {
            secret: self.secret || both,
            certificate: self.certificate || both,
            overlap_s: self.overlap,
        }
    }
}

fn role(text: &str) -> Result<Role, String> {
    Role::from_name(text).ok_or_else(|| format!("{text}: worker, client, viewer or admin"))
}

fn holder(text: &str) -> Result<String, String> {
    match holder_is_well_formed(text) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "{text:?}: 1 to 64 letters, digits and -_.@ are a name"
        )),
    }
}

/// Seconds; 0: for ever.
fn lasting(text: &str) -> Result<u64, String> {
    match text {
        "never" => Ok(0),
        _ => match overlap(text)? {
            0 => Err("at least a second, or never".into()),
            seconds => Ok(seconds),
        },
    }
}

fn cache_size(text: &str) -> Result<CacheSize, String> {
    if text == "off" {
        return Ok(CacheSize::Off);
    }
    match size::parse(text)? {
        bytes if bytes >= RESULTS_BYTES_MIN => Ok(CacheSize::AtMost(bytes)),
        _ => Err(format!("{text}: at least 1MiB, or off")),
    }
}

/// Look after the results that a coordinator keeps in its state folder, whether or not it
/// runs.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "cache")]
pub struct CacheArgs {
    /// what to do
    #[argh(subcommand)]
    pub command: CacheCommand,
}

/// What to do with the results.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub enum CacheCommand {
    /// How many there are.
    Stats(CacheStats),
    /// Fewer of them.
    Clear(CacheClear),
    /// Whether they are good.
    Verify(CacheVerify),
}

/// Print how many results there are, and how much of the disk they take. How often
/// they are asked for, and found, is among the coordinator's metrics.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "stats")]
pub struct CacheStats {
    /// print JSON
    #[argh(switch)]
    pub json: bool,

    /// the coordinator's folder for state (default: ~/.hybridgrid/coord; for root
    /// where the service is installed /var/lib/hybridgrid/coord)
    #[argh(option, arg_name = "DIR")]
    pub state: Option<PathBuf>,
}

/// Remove all results, or those of one worker.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "clear")]
pub struct CacheClear {
    /// only those that a worker of this name made
    #[argh(option, arg_name = "NAME")]
    pub worker: Option<String>,

    /// the coordinator's folder for state (default: ~/.hybridgrid/coord; for root
    /// where the service is installed /var/lib/hybridgrid/coord)
    #[argh(option, arg_name = "DIR")]
    pub state: Option<PathBuf>,
}

/// Read all results, and remove those that are damaged or void; print which worker made
/// how many of the others.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "verify",
    error_code(1, "some were wrong, and were removed.")
)]
pub struct CacheVerify {
    /// the coordinator's folder for state (default: ~/.hybridgrid/coord; for root
    /// where the service is installed /var/lib/hybridgrid/coord)
    #[argh(option, arg_name = "DIR")]
    pub state: Option<PathBuf>,
}

fn percent(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(percent @ 0..=100) => Ok(percent),
        _ => Err(format!("{text}: a number from 0 to 100")),
    }
}

fn overlap(text: &str) -> Result<u64, String> {
    let duration = humantime::parse_duration(text);
    let duration = duration.map_err(|error| format!("{text}: {error}; 30d, 12h, 90m or 0s"))?;
    Ok(duration.as_secs())
}

/// Give a worker no more tasks, and wait until it has finished those it has and
/// is gone, or idle.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "drain")]
pub struct Drain {
    /// its id or name, as `hgbuild workers` lists it
    #[argh(positional, arg_name = "WORKER")]
    pub worker: String,

    /// where the coordinator listens (default: the one that last ran with this
    /// state folder)
    #[argh(option, arg_name = "HOST:PORT")]
    pub coordinator: Option<String>,

    /// the coordinator's folder for state (default: ~/.hybridgrid/coord; for root
    /// where the service is installed /var/lib/hybridgrid/coord)
    #[argh(option, arg_name = "DIR")]
    pub state: Option<PathBuf>,

    /// that coordinator runs with --insecure
    #[argh(switch)]
    pub insecure: bool,

    /// it keeps running, and gets tasks again by 'hg-coord readmit'
    #[argh(switch)]
    pub stay: bool,

    /// do not wait
    #[argh(switch)]
    pub no_wait: bool,
}

/// Give a worker tasks again that an operator has taken out by 'drain --stay', or that
/// returned another object than its client's own compiler makes.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "readmit")]
pub struct Readmit {
    /// its own name
    #[argh(positional, arg_name = "WORKER")]
    pub worker: String,

    /// where the coordinator listens (default: the one that last ran with this
    /// state folder)
    #[argh(option, arg_name = "HOST:PORT")]
    pub coordinator: Option<String>,

    /// the coordinator's folder for state (default: ~/.hybridgrid/coord; for root
    /// where the service is installed /var/lib/hybridgrid/coord)
    #[argh(option, arg_name = "DIR")]
    pub state: Option<PathBuf>,

    /// that coordinator runs with --insecure
    #[argh(switch)]
    pub insecure: bool,
}

/// Run the coordinator until SIGTERM or SIGINT. Once it listens it prints one
/// JSON line with its addresses and writes the same to endpoints.json in its
/// state folder.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "serve",
    error_code(
        2,
        "can't start: an option is wrong, or the state or an address is taken."
    )
)]
pub struct Serve {
    /// address for clients and workers, port 0 for any free one (default:
    /// [::]:9000, which is all of IPv6 and IPv4; with --insecure 127.0.0.1:9000)
    #[argh(option, arg_name = "ADDR:PORT")]
    pub listen: Option<String>,

    /// do not announce the coordinator by mDNS on the networks that it listens on
    #[argh(switch)]
    pub no_mdns: bool,

    /// address for health, metrics and the REST API, or 'off' (default: 127.0.0.1:8080)
    #[argh(
        option,
        arg_name = "ADDR:PORT|off",
        default = "\"127.0.0.1:8080\".into()"
    )]
    pub http: String,

    /// folder for state (default: ~/.hybridgrid/coord)
    #[argh(option, arg_name = "DIR")]
    pub state: Option<PathBuf>,

    /// the share of who holds a token of this name is WEIGHT times that
    /// of others while all want it (1 to 1000; may be given again for another).
    /// Clients of one holder share what it has; hgbuild names them UID@HOST
    #[argh(option, arg_name = "NAME=WEIGHT")]
    pub client_weight: Vec<String>,

    /// one of N results of each worker and toolchain is compiled by its client too, and
    /// compared; 0 for none (default: 500)
    #[argh(option, arg_name = "N", default = "AUDIT_EVERY")]
    pub audit: u64,

    /// how many percent of each worker's results a second worker, which idles, compiles
    /// too, to be compared; 0 for none, as with --audit 0 (default: 60)
    #[argh(
        option,
        arg_name = "PERCENT",
        default = "IDLE_AUDIT_PERCENT",
        from_str_fn(percent)
    )]
    pub idle_audit: u8,

    /// how much of the disk of --state is for results, which answer whoever asks for the
    /// same compile again; or off (default: 10GiB, at most a quarter of what is free)
    #[argh(option, arg_name = "SIZE|off", from_str_fn(cache_size))]
    pub cache_size: Option<CacheSize>,

    /// where results are kept beyond this machine, for all coordinators that are told the
    /// same: s3://BUCKET/FOLDER?region=REGION, redis://HOST:PORT, rediss:, redis+unix: or
    /// fs:///FOLDER; with ?read-only nothing is put there, and with ?timeout=250ms a look may
    /// take longer than 100 ms. Passwords are taken from the environment alone
    #[argh(option, arg_name = "URL")]
    pub cache_backend: Option<String>,

    /// file with the key by which coordinators of one --cache-backend know each other's
    /// results; copy it to each of them (default: cache-backend.key in --state, which is
    /// made when it is missing)
    #[argh(option, arg_name = "FILE")]
    pub cache_backend_key: Option<PathBuf>,

    /// where a collector takes what became of tasks, as OpenTelemetry's spans by gRPC
    #[argh(option, arg_name = "http://HOST:PORT")]
    pub otlp: Option<String>,

    /// a certificate of your own in PEM, shown to those who join without a token's
    /// fingerprint
    #[argh(option, arg_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// its private key
    #[argh(option, arg_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// authorities, in PEM, whose certificates say who a peer is: a URI in their
    /// subjectAltName, hybridgrid://ROLE/NAME
    #[argh(option, arg_name = "FILE")]
    pub tls_ca: Option<PathBuf>,

    /// turn peers away that have no such certificate
    #[argh(switch)]
    pub require_client_cert: bool,

    /// for experiments: no encryption, and nobody is asked who they are; on
    /// loopback only
    #[argh(switch)]
    pub insecure: bool,

    /// with --insecure, listen beyond this machine although anybody who reaches the
    /// port can then run compiles and see sources
    #[argh(switch)]
    pub insecure_any_address: bool,
}

/// How many results of a worker there are to one that is audited, when nothing is said.
const AUDIT_EVERY: u64 = 500;
/// How many percent of results a second worker compiles too, when nothing is said: what
/// finds one bad object in a hundred (see [`crate::scheduling::disputes`]).
const IDLE_AUDIT_PERCENT: u8 = 60;
/// Bytes of results below which it is not worth it.
const RESULTS_BYTES_MIN: u64 = 1 << 20;
const LISTEN: &str = "[::]:9000";
/// Where the system has no IPv6.
const LISTEN_IPV4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9000);
const LISTEN_INSECURE: &str = "127.0.0.1:9000";

/// How much of what workers make is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheSize {
    /// Nothing.
    Off,
    /// What suits the disk that it lies on.
    SuitsDisk,
    /// So many bytes.
    AtMost(u64),
}

/// Where results are kept beyond this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheBackend {
    /// Where that is.
    pub address: Address,
    /// The file with the key; `None`: the one of the state folder.
    pub key: Option<PathBuf>,
}

/// What is needed to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The grid port.
    pub listen: SocketAddr,
    /// Where else, if there is no such address.
    pub listen_else: Option<SocketAddr>,
    /// Others may hear by mDNS where it is.
    pub mdns: bool,
    /// The HTTP port, if there is to be one.
    pub http: Option<SocketAddr>,
    /// Where state is kept.
    pub state: PathBuf,
    /// Weights of clients; 1 for all others.
    pub weights: HashMap<String, u32>,
    /// One of so many results of each worker and toolchain is audited; 0: none is.
    pub audit_every: u64,
    /// Percent of each worker's results that a second one, which idles, compiles too.
    pub idle_audit_percent: u8,
    /// How much of the results is kept.
    pub cache_size: CacheSize,
    /// Where results are kept beyond this machine.
    pub cache_backend: Option<CacheBackend>,
    /// Where a collector of spans is.
    pub otlp: Option<String>,
    /// Certificates of the operator's own.
    pub pki: OwnPki,
    /// No encryption, no tokens.
    pub insecure: bool,
    /// The operator accepts that others can reach it all the same.
    pub exposed: bool,
}

impl Config {
    /// What was typed, resolved.
    ///
    /// # Errors
    /// Which flag is wrong, and why.
    pub fn new(args: &Serve, home: Option<PathBuf>) -> Result<Self, String> {
        let (listen, listen_else) = match (args.listen.as_deref(), args.insecure) {
            (Some(typed), _) => (typed, None),
            (None, true) => (LISTEN_INSECURE, None),
            (None, false) => (LISTEN, Some(LISTEN_IPV4)),
        };
        let listen = resolve("--listen", listen)?;
        let http = match args.http.as_str() {
            "off" => None,
            text => Some(resolve("--http", text)?),
        };
        let cache_backend = cache_backend(args)?;
        if args.insecure_any_address && !args.insecure {
            return Err("--insecure-any-address needs --insecure".into());
        }
        let pki = OwnPki {
            files: Pki {
                ca: args.tls_ca.clone(),
                certificate: args.tls_cert.clone(),
                key: args.tls_key.clone(),
            },
            require: args.require_client_cert,
        };
        if args.insecure && pki != OwnPki::default() {
            return Err("--insecure and certificates exclude each other".into());
        }
        let mut exposed = false;
        for (flag, address) in [("--listen", Some(listen)), ("--http", http)] {
            let reachable = address.filter(|address| !address.ip().is_loopback());
            let Some(address) = reachable.filter(|_| args.insecure) else {
                continue;
            };
            if !args.insecure_any_address {
                return Err(format!(
                    "{flag} {address} is reachable from other machines, and nobody is asked who \
                     they are; use a loopback address, or --insecure-any-address to do it anyway"
                ));
            }
            exposed = true;
        }
        Ok(Config {
            listen,
            listen_else,
            // Who asks nobody could be anybody.
            mdns: !args.no_mdns && !args.insecure,
            http,
            state: state(args.state.as_deref(), home)?,
            audit_every: args.audit,
            idle_audit_percent: args.idle_audit,
            cache_size: args.cache_size.unwrap_or(CacheSize::SuitsDisk),
            cache_backend,
            otlp: args
                .otlp
                .clone()
                .or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT")),
            weights: args
                .client_weight
                .iter()
                .map(|text| weight(text))
                .collect::<Result<_, _>>()?,
            pki,
            insecure: args.insecure,
            exposed,
        })
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn cache_backend(args: &Serve) -> Result<Option<CacheBackend>, String> {
    let typed = args
        .cache_backend
        .clone()
        .map(|url| ("--cache-backend", url));
    let named = typed.or_else(|| {
        let url = variable("HG_CACHE_BACKEND")?;
        Some(("HG_CACHE_BACKEND", url))
    });
    let Some((name, url)) = named else {
        return match args.cache_backend_key {
            Some(_) => Err("--cache-backend-key needs --cache-backend".into()),
            None => Ok(None),
        };
    };
    if args.cache_size == Some(CacheSize::Off) {
        return Err(format!(
            "{name} and --cache-size off exclude each other: what comes from a backend is kept \
             on this machine first"
        ));
    }
    let address = Address::parse(&url).map_err(|why| format!("{name}: {why}"))?;
    Ok(Some(CacheBackend {
        address,
        key: args.cache_backend_key.clone(),
    }))
}

/// [`commands_state`], for commands that are no good without it.
///
/// # Errors
/// As [`commands_state`].
pub fn state_of(flag: Option<&Path>, home: Option<PathBuf>) -> Result<PathBuf, CommandError> {
    commands_state(flag, home).map_err(CommandError::Usage)
}

/// [`state`], for a command: that of the installed service for root, as whose user the
/// command goes on.
///
/// # Errors
/// As [`state`], or the system does not let us be that user.
pub fn commands_state(flag: Option<&Path>, home: Option<PathBuf>) -> Result<PathBuf, String> {
    let of_service = || service::state_folder("coord");
    let named = flag.map(Path::to_owned).or_else(of_service);
    let state = state(named.as_deref(), home)?;
    service::act_for_owner(&state)?;
    Ok(state)
}

/// The folder for state.
///
/// # Errors
/// There is neither a flag nor a home.
pub fn state(flag: Option<&Path>, home: Option<PathBuf>) -> Result<PathBuf, String> {
    match (flag, home) {
        (Some(state), _) => Ok(state.to_owned()),
        (None, Some(home)) => Ok(home.join(".hybridgrid/coord")),
        (None, None) => Err("HOME is not set: use --state".into()),
    }
}

fn weight(text: &str) -> Result<(String, u32), String> {
    let parsed = text.rsplit_once('=').and_then(|(name, weight)| {
        let weight = weight
            .parse()
            .ok()
            .filter(|weight| (1..=1_000).contains(weight))?;
        (!name.is_empty()).then(|| (name.to_owned(), weight))
    });
    parsed.ok_or_else(|| format!("--client-weight {text}: it takes NAME=WEIGHT, 1 to 1000"))
}

fn resolve(flag: &str, text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text
        .to_socket_addrs()
        .map_err(|error| format!("{flag} {text}: {error}; it takes HOST:PORT"))?;
    addresses
        .next()
        .ok_or_else(|| format!("{flag} {text}: no such address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(flags: &[&str]) -> Result<Config, String> {
        let args = Serve::from_args(&["serve"], flags).map_err(|exit| exit.output)?;
        Config::new(&args, Some("/home/me".into()))
    }

    #[test]
    fn without_protection_loopback_is_the_default() {
        let protected = config(&[]).unwrap();
        assert_eq!(protected.listen.to_string(), "[::]:9000");
        assert!(protected.mdns && !config(&["--no-mdns"]).unwrap().mdns);
        assert!(!protected.insecure && !protected.exposed);
        let config = config(&["--insecure"]).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:9000");
        assert!(config.insecure);
        assert_eq!(
            config.http.map(|http| http.to_string()).as_deref(),
            Some("127.0.0.1:8080")
        );
        assert_eq!(config.state, PathBuf::from("/home/me/.hybridgrid/coord"));
        assert!(!config.exposed);
    }

    #[test]
    fn other_addresses_must_be_asked_for_twice() {
        let listen = ["--insecure", "--listen", "0.0.0.0:0"];
        assert!(
            config(&listen)
                .unwrap_err()
                .contains("--insecure-any-address")
        );
        assert!(
            config(&["--insecure", "--http", "[::]:0"])
                .unwrap_err()
                .contains("--http")
        );
        assert!(config(&["--insecure-any-address"]).is_err());
        let flags = [
            "--insecure",
            "--listen",
            "0.0.0.0:0",
            "--http",
            "off",
            "--insecure-any-address",
        ];
        let config = config(&flags).unwrap();
        assert!(config.exposed && config.http.is_none());
    }

    #[test]
    fn tokens_last_as_long_as_is_said() {
        let lasts = |text| {
            let typed = ["--role", "client", "--expires", text];
            TokenArgs::from_args(&["token"], &typed).map(|args| args.expires)
        };
        assert_eq!(lasts("30d").unwrap(), 30 * 86_400);
        assert_eq!(lasts("never").unwrap(), 0);
        assert!(lasts("0s").is_err() && lasts("soon").is_err());
        let named =
            |name| TokenArgs::from_args(&["token"], &["--role", "worker", "--name", name]).is_ok();
        assert!(named("pi-3") && !named("pi 3") && !named(""));
        assert!(TokenArgs::from_args(&["token"], &["--role", "root"]).is_err());
    }

    #[test]
    fn both_are_made_anew_when_nothing_is_said() {
        let made = |flags: &[&str]| {
            let rotation = Rotate::from_args(&["rotate"], flags).unwrap().rotation();
            (rotation.secret, rotation.certificate)
        };
        assert_eq!(made(&[]), (true, true));
        assert_eq!(made(&["--secret"]), (true, false));
    }

    #[test]
    fn weights_are_by_name() {
        let config = config(&["--client-weight", "me@a=b=3", "--client-weight", "ci=1"]).unwrap();
        assert_eq!(config.weights["me@a=b"], 3);
        for wrong in ["x", "x=0", "x=1001", "=3", "x=y"] {
            let why = super::weight(wrong).unwrap_err();
            assert!(why.contains("--client-weight"), "{why}");
        }
    }

    #[test]
    fn nonsense_is_named() {
        assert!(
            config(&["--listen", "9000"])
                .unwrap_err()
                .contains("--listen")
        );
    }
}
