//! `hg-coord readmit WORKER`: asks a running coordinator to give a worker tasks again that
//! an audit has put out.

use std::path::PathBuf;

use hg_proto::v1;

use crate::commands::dial::Bearing;
use crate::commands::running::Running;
use crate::config::{CommandError, Readmit};

/// Lets the worker back.
///
/// # Errors
/// What did not work, for the operator.
pub fn run(args: &Readmit, home: Option<PathBuf>) -> Result<(), CommandError> {
    let (address, state) = (args.coordinator.as_deref(), args.state.as_deref());
    let running = Running::find(address, state, args.insecure, home)?;
    let readmitted = running.ask(async |mut client: Bearing| {
        let request = v1::ReadmitWorkerRequest {
            worker: args.worker.clone(),
        };
        let answer = client.readmit_worker(request).await?;
        Ok(answer.into_inner().readmitted)
    });
    match readmitted? {
        0 => Err(format!("{}: no worker of that name was put out", args.worker).into()),
        _ => {
            println!("{}: gets tasks again", args.worker);
            Ok(())
        }
    }
}
