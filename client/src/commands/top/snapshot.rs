//! The grid as its coordinator has it at one moment, asked for again and again over one
//! connection.

use hg_proto::json;
use hg_proto::v1::{
    Build, GetActivityRequest, GetActivityResponse, GetStatusRequest, GetStatusResponse,
    ListWorkersRequest, ListWorkersResponse, RunningTask, Worker,
};
use prost::Message;
use serde_json::{Value, json};

use crate::config::Config;
use crate::grid::find;
use crate::grid::grpc::{Connection, GrpcError, Tasks};

/// Milliseconds that each answer may take.
const ANSWER_MS_MAX: u64 = 3_000;
/// What a coordinator says of a method that it does not have.
const UNIMPLEMENTED: &str = "gRPC status 12:";

/// See the top of the file.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Where the coordinator is.
    pub address: String,
    /// The grid in numbers.
    pub status: GetStatusResponse,
    /// Workers, without their toolchains.
    pub workers: Vec<Worker>,
    /// What they run.
    pub running: Vec<RunningTask>,
    /// Builds that go on, or ended a moment ago.
    pub builds: Vec<Build>,
}

impl Snapshot {
    /// As `hgbuild top --json` prints it.
    pub fn object(&self) -> Value {
        json!({
            "coordinator": self.address,
            "status": json::status(&self.status),
            "workers": self.workers.iter().map(json::worker).collect::<Vec<Value>>(),
            "running": self.running.iter().map(json::running_task).collect::<Vec<Value>>(),
            "builds": self.builds.iter().map(json::build).collect::<Vec<Value>>(),
        })
    }
}

/// Why there is no snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Who asks may not: it won't be another answer next time.
    Refused(String),
    /// Nobody answers now.
    Lost(String),
}

impl Trouble {
    /// In words.
    pub fn words(&self) -> &str {
        match self {
            Trouble::Refused(words) | Trouble::Lost(words) => words,
        }
    }
}

/// Asks for snapshots.
pub struct Observer<'a> {
    config: &'a Config,
    tasks: Tasks,
    connection: Option<Connection>,
    /// A coordinator of before does not say what runs.
    says_what_runs: bool,
}

impl<'a> Observer<'a> {
    /// Not connected yet.
    pub fn new(config: &'a Config) -> Self {
        Observer {
            config,
            tasks: Tasks::new(),
            connection: None,
            says_what_runs: true,
        }
    }

    /// What is so now; dials where there is no connection.
    ///
    /// # Errors
    /// It can't be had. The next look dials anew.
    pub fn look(&mut self) -> Result<Snapshot, Trouble> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                self.says_what_runs = true;
                find::to_grid(self.config, &self.tasks).map_err(Trouble::Lost)?
            }
        };
        let snapshot = self.ask(&mut connection)?;
        self.connection = Some(connection);
        Ok(snapshot)
    }

    fn ask(&mut self, connection: &mut Connection) -> Result<Snapshot, Trouble> {
        let address = connection.address().to_owned();
        let trouble = |error| match error {
            GrpcError::Refused(words) => Trouble::Refused(words),
            other => Trouble::Lost(format!("{address}: {other}")),
        };
        let status: GetStatusResponse = self
            .call(connection, "GetStatus", &GetStatusRequest {})
            .map_err(trouble)?;
        let brief = ListWorkersRequest { brief: true };
        let listed: ListWorkersResponse = self
            .call(connection, "ListWorkers", &brief)
            .map_err(trouble)?;
        let mut activity = GetActivityResponse::default();
        if self.says_what_runs {
            match self.call(connection, "GetActivity", &GetActivityRequest {}) {
                Ok(now) => activity = now,
                Err(GrpcError::Status(words)) if words.starts_with(UNIMPLEMENTED) => {
                    self.says_what_runs = false;
                }
                Err(error) => return Err(trouble(error)),
            }
        }
        Ok(Snapshot {
            address,
            status,
            workers: listed.workers,
            running: activity.running,
            builds: activity.builds,
        })
    }

    fn call<Q: Message, A: Message + Default>(
        &self,
        connection: &mut Connection,
        method: &str,
        question: &Q,
    ) -> Result<A, GrpcError> {
        self.tasks
            .run(connection.call(method, question, ANSWER_MS_MAX))
    }
}
