//! `hg-coord drain WORKER`: asks a running coordinator to take a worker out, and
//! waits until it is.

use std::path::PathBuf;
use std::time::Duration;

use hg_proto::v1;
use tonic::Status;

use crate::commands::dial::Bearing;
use crate::commands::running::Running;
use crate::config::{CommandError, Drain};

/// Between two looks whether the worker is gone.
const LOOK: Duration = Duration::from_millis(200);

/// Drains.
///
/// # Errors
/// What did not work, for the operator.
pub fn run(args: &Drain, home: Option<PathBuf>) -> Result<(), CommandError> {
    let (address, state) = (args.coordinator.as_deref(), args.state.as_deref());
    let running = Running::find(address, state, args.insecure, home)?;
    Ok(running.ask(async |client| drain(args, client).await)?)
}

async fn drain(args: &Drain, mut client: Bearing) -> Result<(), Status> {
    let request = v1::DrainWorkerRequest {
        worker: args.worker.clone(),
        stay: args.stay,
    };
    let answer = client.drain_worker(request).await?.into_inner();
    let (id, mut running) = (answer.worker, answer.running);
    let what = match args.stay {
        true => "paused",
        false => "draining",
    };
    println!("{id}: {what}, {running} running");
    if args.no_wait {
        return Ok(());
    }
    loop {
        tokio::time::sleep(LOOK).await;
        let listed = client
            .list_workers(v1::ListWorkersRequest::default())
            .await?;
        let listed = listed.into_inner().workers;
        match listed
            .iter()
            .find(|worker| worker.id == id && (worker.draining || args.stay))
        {
            None => {
                println!("{id}: gone");
                return Ok(());
            }
            Some(worker) if args.stay && worker.running == 0 => {
                println!(
                    "{id}: idle; hg-coord readmit {} gives it tasks again",
                    worker.name
                );
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
