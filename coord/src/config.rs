//! What the operator typed, and what it means. Unaware of sockets.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

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
        let state = match (&args.state, home) {
            (Some(state), _) => state.clone(),
            (None, Some(home)) => home.join(".hybridgrid/coord"),
            (None, None) => return Err("HOME is not set: use --state".into()),
        };
        Ok(Config {
            listen,
            http,
            state,
            exposed,
        })
    }
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
    fn nonsense_is_named() {
        assert!(
            config(&["--listen", "9000"])
                .unwrap_err()
                .contains("--listen")
        );
    }
}
