//! `hg-worker-lite join`: tries a token at its coordinator and keeps it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hg_proto::secure::credentials::{self, Stored};
use hg_proto::secure::private;
use hg_proto::secure::tls::Pki;
use hg_proto::secure::token::{Role, Token};
use hg_proto::v1::{Check, FromWorker, Welcome, from_worker, to_worker};
use hg_proto::wire::frame;
use smol::{LocalExecutor, future};

use crate::link::access::{self, Pass};
use crate::link::connection::{self, Inbound};
use crate::metrics::Metrics;

/// For the coordinator to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// A token, and where it is to be tried and kept.
pub struct Invitation {
    token: Token,
    coordinator: String,
    pass: Pass,
    state: PathBuf,
}

impl Invitation {
    /// `token` for `coordinator`, HOST:PORT, to be kept in `state`.
    ///
    /// # Errors
    /// In words: it is no worker's token, a file is wrong, or `state` is not ours alone.
    pub fn new(
        token: Token,
        coordinator: String,
        pki: &Pki,
        state: PathBuf,
    ) -> Result<Self, String> {
        let role = token.claims.role;
        if role != Role::Worker {
            return Err(format!(
                "this is a token for a {role}: it is for 'hgbuild join'"
            ));
        }
        let pass = access::pass(&coordinator, Some(&token), pki)?;
        private::open_folder(&state).map_err(|why| format!("--state {why}"))?;
        Ok(Invitation {
            token,
            coordinator,
            pass,
            state,
        })
    }

    /// Tries the token and keeps it. Gives what to tell.
    ///
    /// # Errors
    /// In words: it is not good there, or can't be kept.
    pub fn accept(self) -> Result<String, String> {
        let coordinator = &self.coordinator;
        let welcome = try_it(&self.token, coordinator, &self.pass)?;
        let token = match Token::parse(&welcome.token) {
            Ok(renewed) if renewed.is_of_holder_of(&self.token) => renewed,
            _ => self.token,
        };
        let name = token.claims.name.clone();
        let stored = Stored {
            token,
            coordinator: Some(coordinator.clone()),
        };
        let path = access::kept(&self.state);
        credentials::store(&path, &stored)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(format!(
            "joined {coordinator} as the worker {name}; the token is in {}",
            path.display()
        ))
    }
}

fn try_it(token: &Token, coordinator: &str, pass: &Pass) -> Result<Welcome, String> {
    let metrics = Arc::new(Metrics::new().map_err(|error| error.to_string())?);
    let check = FromWorker {
        kind: Some(from_worker::Kind::Check(Check {
            token: token.to_text(),
        })),
    };
    let check = frame::encode(&check).map_err(|error| error.to_string())?;
    let executor = LocalExecutor::new();
    let asked = async {
        let wire = connection::dial(coordinator, pass.dial.as_ref()).await?;
        let (mut link, writer) = connection::open(wire, metrics);
        let _writer = executor.spawn(async move {
            // The end of it is seen by the reader.
            let _ = writer.run().await;
        });
        link.ahead().send(check);
        match link.next().await {
            Inbound::Message(message) => match message.kind {
                Some(to_worker::Kind::Welcome(welcome)) => Ok(welcome),
                Some(to_worker::Kind::Goodbye(goodbye)) => {
                    Err(format!("{coordinator}: {}", goodbye.reason.escape_debug()))
                }
                _ => Err(format!("{coordinator}: it said something unexpected")),
            },
            Inbound::Lost(why) => Err(format!("{coordinator}: {why}")),
        }
    };
    let late = async {
        smol::Timer::after(ANSWER).await;
        Err(format!("{coordinator}: no answer in {ANSWER:?}"))
    };
    smol::block_on(executor.run(future::or(asked, late)))
}
