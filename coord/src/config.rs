//! What the operator typed, and what it means. Unaware of sockets.

use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use argh::FromArgs;

/// The Hybrid-Grid coordinator: takes compiles from hgbuild and gives them to
/// workers. HG_LOG=error|warn|info|debug says how much goes to stderr.
#[derive(FromArgs, Debug)]
pub struct Args {
    /// print the version and exit
    #[argh(switch)]
    pub version: bool,

    /// what to do
    #[argh(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(FromArgs, Debug)]
#[argh(subcommand)]
pub enum Command {
    /// Run.
    Serve(Serve),
    /// Take a worker out.
    Drain(Drain),
}

/// Give a worker no more tasks, and wait until it has finished those it has and
/// is gone.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "drain")]
pub struct Drain {
    /// its id or name, as `hgbuild workers` lists it
    #[argh(positional)]
    pub worker: String,

    /// HOST:PORT of the coordinator (default: the one that last ran with this
    /// state folder)
    #[argh(option)]
    pub coordinator: Option<String>,

    /// the coordinator's folder for state (default: ~/.hybridgrid/coord)
    #[argh(option)]
    pub state: Option<PathBuf>,

    /// do not wait
    #[argh(switch)]
    pub no_wait: bool,
}

/// Run the coordinator until SIGTERM or SIGINT. Once it listens it prints one
/// JSON line with its addresses and writes the same to endpoints.json in its
/// state folder.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "serve")]
pub struct Serve {
    /// address for clients and workers, port 0 for any free one (default: 127.0.0.1:9000)
    #[argh(option, default = "\"127.0.0.1:9000\".into()")]
    pub listen: String,

    /// address for health, metrics and the REST API, or 'off' (default: 127.0.0.1:8080)
    #[argh(option, default = "\"127.0.0.1:8080\".into()")]
    pub http: String,

    /// folder for state (default: ~/.hybridgrid/coord)
    #[argh(option)]
    pub state: Option<PathBuf>,

    /// NAME=WEIGHT: this client's share of the grid is WEIGHT times that of
    /// others while all want it (1 to 1000; may be given again for another).
    /// hgbuild names its clients UID@HOST
    #[argh(option)]
    pub client_weight: Vec<String>,

    /// listen beyond this machine although anybody who reaches the port can
    /// then run compiles and see sources
    #[argh(switch)]
    pub insecure_any_address: bool,
}

/// What is needed to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The grid port.
    pub listen: SocketAddr,
    /// The HTTP port, if there is to be one.
    pub http: Option<SocketAddr>,
    /// Where state is kept.
    pub state: PathBuf,
    /// Weights of clients; 1 for all others.
    pub weights: HashMap<String, u32>,
    /// The operator accepts that others can reach it.
    pub exposed: bool,
}

impl Config {
    /// What was typed, resolved.
    ///
    /// # Errors
    /// Which flag is wrong, and why.
    pub fn new(args: &Serve, home: Option<PathBuf>) -> Result<Self, String> {
        let listen = resolve("--listen", &args.listen)?;
        let http = match args.http.as_str() {
            "off" => None,
            text => Some(resolve("--http", text)?),
        };
        let mut exposed = false;
        for (flag, address) in [("--listen", Some(listen)), ("--http", http)] {
            let Some(address) = address.filter(|address| !address.ip().is_loopback()) else {
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
            http,
            state: state(args.state.as_deref(), home)?,
            weights: args
                .client_weight
                .iter()
                .map(|text| weight(text))
                .collect::<Result<_, _>>()?,
            exposed,
        })
    }
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
    fn loopback_is_the_default() {
        let config = config(&[]).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:9000");
        assert_eq!(
            config.http.map(|http| http.to_string()).as_deref(),
            Some("127.0.0.1:8080")
        );
        assert_eq!(config.state, PathBuf::from("/home/me/.hybridgrid/coord"));
        assert!(!config.exposed);
    }

    #[test]
    fn other_addresses_must_be_asked_for_twice() {
        let listen = ["--listen", "0.0.0.0:0"];
        assert!(
            config(&listen)
                .unwrap_err()
                .contains("--insecure-any-address")
        );
        assert!(
            config(&["--http", "[::]:0"])
                .unwrap_err()
                .contains("--http")
        );
        let flags = [
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
