//! `hg-coord drain WORKER`: asks a running coordinator to take a worker out, and
//! waits until it is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hg_proto::secure::credentials;
use hg_proto::secure::token::{Role, Token};
use hg_proto::v1;

use crate::commands::dial;
use crate::config::{self, CommandError, Drain};
use crate::trust::secrets;

/// Between two looks whether the worker is gone.
const LOOK: Duration = Duration::from_millis(200);
/// Seconds for which a token holds that is made for one command.
const TOKEN_S: u64 = 86_400;
/// The name in it.
const NAME: &str = "hg-coord-drain";

/// Drains.
///
/// # Errors
/// What did not work, for the operator.
pub fn run(args: &Drain, home: Option<PathBuf>) -> Result<(), CommandError> {
    let (address, token) = whom_to_ask(args, home).map_err(CommandError::Usage)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("runtime: {error}"))?;
    Ok(runtime.block_on(drain(args, &address, token.as_ref()))?)
}

/// Where the coordinator is, and the token to show there; `None`: it asks for none.
fn whom_to_ask(args: &Drain, home: Option<PathBuf>) -> Result<(String, Option<Token>), String> {
    let state = config::state(args.state.as_deref(), home);
    let (address, insecure) = match &args.coordinator {
        Some(address) => (address.clone(), args.insecure),
        None => last_address(state.as_ref().map_err(Clone::clone)?)?,
    };
    match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {}
        _ => return Err(format!("--coordinator {address}: not HOST:PORT")),
    }
    let token = match insecure || args.insecure {
        true => None,
        false => Some(token(&address, state.ok().as_deref())?),
    };
    Ok((address, token))
}

/// Where the coordinator of this state folder listens, and whether it is insecure.
fn last_address(state: &Path) -> Result<(String, bool), String> {
    let path = state.join("endpoints.json");
    let hint = "use --coordinator HOST:PORT";
    let text = std::fs::read_to_string(&path)
        .map_err(|error| format!("{}: {error}; {hint}", path.display()))?;
    let value: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| format!("{}: {error}; {hint}", path.display()))?;
    let address = value["grid"].as_str();
    let address = address.ok_or_else(|| format!("{}: no address; {hint}", path.display()))?;
    let insecure = value["insecure"].as_bool() == Some(true);
    Ok((address.replace("0.0.0.0:", "127.0.0.1:"), insecure))
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

async fn drain(args: &Drain, address: &str, token: Option<&Token>) -> Result<(), String> {
    let failed = |why: String| format!("{address}: {why}");
    let mut client = dial::client(address, token).await?;
    let request = v1::DrainWorkerRequest {
        worker: args.worker.clone(),
    };
    let said = |status: tonic::Status| failed(status.message().to_owned());
    let answer = client.drain_worker(request).await.map_err(said)?;
    let answer = answer.into_inner();
    let (id, mut running) = (answer.worker, answer.running);
    println!("{id}: draining, {running} running");
    if args.no_wait {
        return Ok(());
    }
    loop {
        tokio::time::sleep(LOOK).await;
        let listed = client.list_workers(v1::ListWorkersRequest {}).await;
        let listed = listed.map_err(said)?.into_inner().workers;
        match listed
            .iter()
            .find(|worker| worker.id == id && worker.draining)
        {
            None => {
                println!("{id}: gone");
                return Ok(());
            }
            Some(worker) if worker.running != running => {
                running = worker.running;
                println!("{id}: {running} running");
            }
            Some(_) => {}
        }
    }
}
