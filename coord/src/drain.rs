//! `hg-coord drain WORKER`: asks a running coordinator to take a worker out, and
//! waits until it is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hg_proto::v1;

use crate::config::{self, Drain};
use crate::grpc::Client;

/// Between two looks whether the worker is gone.
const LOOK: Duration = Duration::from_millis(200);
/// For the coordinator to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Drains.
///
/// # Errors
/// What did not work, for the operator.
pub fn run(args: &Drain, home: Option<PathBuf>) -> Result<(), String> {
    let address = match &args.coordinator {
        Some(address) => address.clone(),
        None => last_address(&config::state(args.state.as_deref(), home)?)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("runtime: {error}"))?;
    runtime.block_on(drain(args, &address))
}

/// Where the coordinator of this state folder listens.
fn last_address(state: &Path) -> Result<String, String> {
    let path = state.join("endpoints.json");
    let hint = "use --coordinator HOST:PORT";
    let text = std::fs::read_to_string(&path)
        .map_err(|error| format!("{}: {error}; {hint}", path.display()))?;
    let value: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| format!("{}: {error}; {hint}", path.display()))?;
    let address = value["grid"].as_str();
    let address = address.ok_or_else(|| format!("{}: no address; {hint}", path.display()))?;
    Ok(address.to_owned())
}

async fn drain(args: &Drain, address: &str) -> Result<(), String> {
    let failed = |why: String| format!("{address}: {why}");
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| failed(error.to_string()))?
        .connect_timeout(ANSWER)
        .timeout(ANSWER);
    let channel = endpoint.connect().await;
    let channel = channel.map_err(|error| failed(format!("no coordinator there: {error}")))?;
    let mut client = Client::new(channel);
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
