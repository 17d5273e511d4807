//! `hg-coord drain WORKER`: asks a running coordinator to take a worker out, and
//! waits until it is.

use std::path::PathBuf;
use std::time::Duration;

use hg_proto::secure::token::Token;
use hg_proto::v1;

use crate::commands::dial;
use crate::commands::running::Running;
use crate::config::{CommandError, Drain};

/// Between two looks whether the worker is gone.
const LOOK: Duration = Duration::from_millis(200);

/// Drains.
///
/// # Errors
/// What did not work, for the operator.
pub fn run(args: &Drain, home: Option<PathBuf>) -> Result<(), CommandError> {
    let running = Running::find(
        args.coordinator.as_deref(),
        args.state.as_deref(),
        args.insecure,
        home,
    );
    let Running { address, token } = running.map_err(CommandError::Usage)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("runtime: {error}"))?;
    Ok(runtime.block_on(drain(args, &address, token.as_ref()))?)
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
