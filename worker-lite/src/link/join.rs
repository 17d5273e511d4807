//! `hg-worker-lite join`: checks a token with its coordinator and keeps it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hg_proto::secure::credentials::{self, Stored};
use hg_proto::secure::private;
use hg_proto::secure::service;
use hg_proto::secure::tls::Pki;
use hg_proto::secure::token::{Role, Token};
use hg_proto::v1::{Check, FromWorker, Welcome, from_worker, to_worker};
use hg_proto::wire::frame;
use smol::{LocalExecutor, future};

use crate::link::access::{self, DialCredentials};
use crate::link::connection::{self, Inbound};
use crate::metrics::Metrics;

/// How long the coordinator may take to answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);

/// A token, the coordinator that it is for, and the state folder that is to keep it.
pub struct Invitation {
    token: Token,
    coordinator: String,
    credentials: DialCredentials,
    state: PathBuf,
}

impl Invitation {
    /// `token` for `coordinator`, HOST:PORT, to be kept in `state`.
    ///
    /// # Errors
    /// In words: it is no worker's token, a file is wrong, or other users may write to `state`.
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
        let credentials = access::dial_credentials(&coordinator, Some(&token), pki)?;
        service::act_for_owner(&state)?;
        private::open_folder(&state).map_err(|why| format!("--state {why}"))?;
        Ok(Invitation {
            token,
            coordinator,
            credentials,
            state,
        })
    }

    /// Checks the token and keeps it. Gives the words to tell the user.
    ///
    /// # Errors
    /// In words: the coordinator does not accept it, or it can't be kept.
    pub fn accept(self) -> Result<String, String> {
        let coordinator = &self.coordinator;
        let welcome = check_token(&self.token, coordinator, &self.credentials)?;
        let token = match Token::parse(&welcome.token) {
            Ok(renewed) if renewed.is_of_holder_of(&self.token) => renewed,
            _ => self.token,
        };
        let name = token.claims.name.clone();
        let stored = Stored {
            token,
            coordinator: Some(coordinator.clone()),
        };
        let path = access::token_path(&self.state);
        credentials::store(&path, &stored)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(format!(
            "joined {coordinator} as the worker {name}; the token is in {}",
            path.display()
        ))
    }
}

fn check_token(
    token: &Token,
    coordinator: &str,
    credentials: &DialCredentials,
) -> Result<Welcome, String> {
    let metrics = Arc::new(Metrics::new().map_err(|error| error.to_string())?);
    let check = FromWorker {
        kind: Some(from_worker::Kind::Check(Check {
            token: token.to_text(),
        })),
    };
    let check = frame::encode(&check).map_err(|error| error.to_string())?;
    let executor = LocalExecutor::new();
    let asked = async {
        let wire = connection::dial(coordinator, credentials.tls.as_ref()).await?;
        let (mut link, writer) = connection::open(wire, metrics);
        let _writer = executor.spawn(async move {
            // The reader sees the link's end.
            let _ = writer.run().await;
        });
        link.urgent().send(check);
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
        smol::Timer::after(ANSWER_WAIT_MAX).await;
        Err(format!("{coordinator}: no answer in {ANSWER_WAIT_MAX:?}"))
    };
    smol::block_on(executor.run(future::or(asked, late)))
}
