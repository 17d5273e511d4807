//! The coordinator that a command is for: where it listens, and which token is shown.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use hg_proto::secure::credentials;
use hg_proto::secure::token::{Role, Token};
use tonic::Status;

use crate::commands::dial::{self, Bearing};
use crate::config::{self, CommandError};
use crate::trust::secrets;

/// Seconds for which a token holds that is made for one command.
const TOKEN_S: u64 = 86_400;
/// The name in it.
const NAME: &str = "hg-coord-command";

/// A coordinator that runs, and the token to show there; `None`: it asks for none.
pub struct Running {
    /// HOST:PORT.
    pub address: String,
    /// An admin's.
    pub token: Option<Token>,
}

impl Running {
    /// The coordinator at `address`, or else the one that last ran with this state folder.
    ///
    /// # Errors
    /// None is known, or no token for it.
    pub fn find(
        address: Option<&str>,
        state: Option<&Path>,
        is_insecure: bool,
        home: Option<PathBuf>,
    ) -> Result<Self, CommandError> {
        let found = Running::look(address, state, is_insecure, home);
        found.map_err(CommandError::Usage)
    }

    fn look(
        address: Option<&str>,
        state: Option<&Path>,
        is_insecure: bool,
        home: Option<PathBuf>,
    ) -> Result<Self, String> {
        let state = config::commands_state(state, home);
        let (address, insecure) = match address {
            Some(address) => (address.to_owned(), is_insecure),
            None => last_address(state.as_ref().map_err(Clone::clone)?)?,
        };
        match address.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {}
            _ => return Err(format!("--coordinator {address}: not HOST:PORT")),
        }
        let token = match insecure || is_insecure {
            true => None,
            false => Some(token(&address, state.ok().as_deref())?),
        };
        Ok(Running { address, token })
    }

    /// What `work` makes of a client of that coordinator.
    ///
    /// # Errors
    /// In words: it can't be reached, or what went wrong with the work.
    pub fn ask<T>(
        &self,
        work: impl AsyncFnOnce(Bearing) -> Result<T, Status>,
    ) -> Result<T, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("runtime: {error}"))?;
        runtime.block_on(async {
            let client = dial::client(&self.address, self.token.as_ref()).await?;
            let done = work(client).await;
            done.map_err(|status| format!("{}: {}", self.address, status.message()))
        })
    }
}

/// Where the coordinator of this state folder listens, and whether it is insecure.
fn last_address(state: &Path) -> Result<(String, bool), String> {
    let last = Endpoints::of(state)?;
    let mut address = last.grid;
    if address.ip().is_unspecified() {
        // Where it listens for IPv6 it does so for IPv4 too.
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    Ok((address.to_string(), last.insecure))
}

/// What the coordinator that runs with a state folder, or last did, said of itself.
pub struct Endpoints {
    /// Where it listens.
    pub grid: SocketAddr,
    /// It asks nobody for a token.
    pub insecure: bool,
    /// It announces itself by mDNS.
    pub mdns: bool,
}

impl Endpoints {
    /// Those of the coordinator of `state`.
    ///
    /// # Errors
    /// In words: none has run with it, or the file is damaged.
    pub fn of(state: &Path) -> Result<Self, String> {
        let path = state.join("endpoints.json");
        let hint = "use --coordinator HOST:PORT";
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("{}: {error}; {hint}", path.display()))?;
        let value: serde_json::Value = serde_json::from_str(&text)
            .map_err(|error| format!("{}: {error}; {hint}", path.display()))?;
        let grid = value["grid"].as_str().and_then(|grid| grid.parse().ok());
        Ok(Endpoints {
            grid: grid.ok_or_else(|| format!("{}: no address; {hint}", path.display()))?,
            insecure: value["insecure"].as_bool() == Some(true),
            mdns: value["mdns"].as_bool() == Some(true),
        })
    }
}

/// The environment's token, or one of the coordinator of `state`, or one that a
/// coordinator of this user left on this machine.
fn token(address: &str, state: Option<&Path>) -> Result<Token, String> {
    if let Some(token) = credentials::find(address, Role::Admin, None)? {
        return Ok(token);
    }
    match state {
        Some(state) if secrets::path(state).exists() => {
            secrets::open(state)?.token(Role::Admin, NAME, TOKEN_S)
        }
        _ => Err(format!(
            "{address}: no token: set {} to an admin's, or give the coordinator's --state",
            credentials::TOKEN_VARIABLE
        )),
    }
}
