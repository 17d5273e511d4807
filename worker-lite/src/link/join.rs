//! `hg-worker-lite join`: checks a token with its coordinator and keeps it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hg_proto::lan::browse;
use hg_proto::secure::credentials::{self, Stored};
use hg_proto::secure::private;
use hg_proto::secure::service;
use hg_proto::secure::tls::Pki;
use hg_proto::secure::token::{Role, Token};
use hg_proto::v1::{Check, FromWorker, Welcome, from_worker, to_worker};
use hg_proto::wire::frame;
use smol::{LocalExecutor, future};

use crate::link::access::{self, DialCredentials};
use crate::link::connection::{self, Inbound, Wire};
use crate::link::finder;
use crate::metrics::Metrics;

/// How long the coordinator may take to answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);

/// A token, the coordinator that it is for, and the state folder that is to keep it.
pub struct Invitation {
    token: Token,
    /// HOST:PORT, and what a dial of it shows; `None`: it is looked for.
    coordinator: Option<(String, DialCredentials)>,
    state: PathBuf,
}

impl Invitation {
    /// `token` for `coordinator`, HOST:PORT, to be kept in `state`. Without `coordinator` it
    /// is looked for.
    ///
    /// # Errors
    /// In words: it is no worker's token, a file is wrong, or other users may write to `state`.
    pub fn new(
        token: Token,
        coordinator: Option<String>,
        pki: &Pki,
        state: PathBuf,
    ) -> Result<Self, String> {
        let role = token.claims.role;
        if role != Role::Worker {
            return Err(format!(
                "this is a token for a {role}: it is for 'hgbuild join'"
            ));
        }
        if coordinator.is_none() && !pki.is_empty() {
            return Err(
                "--tls-ca needs --coordinator: its host is what a certificate names".into(),
            );
        }
        let coordinator = coordinator.map(|address| {
            let credentials = access::dial_credentials(&address, Some(&token), pki)?;
            Ok::<_, String>((address, credentials))
        });
        let coordinator = coordinator.transpose()?;
        service::act_for_owner(&state)?;
        private::open_folder(&state).map_err(|why| format!("--state {why}"))?;
        Ok(Invitation {
            token,
            coordinator,
            state,
        })
    }

    /// Checks the token and keeps it. Gives the words to tell the user.
    ///
    /// # Errors
    /// In words: the coordinator does not accept it, or it can't be kept.
    pub fn accept(self) -> Result<String, String> {
        let executor = LocalExecutor::new();
        let joined = async {
            let (coordinator, wire) = match self.coordinator {
                Some((address, credentials)) => {
                    let wire = connection::dial(&address, credentials.tls.as_ref()).await?;
                    (address, wire)
                }
                None => {
                    let found = finder::find(&self.token, None).await;
                    found.ok_or_else(|| browse::not_found(&self.token.fingerprint))?
                }
            };
            let welcome = check_token(&executor, &self.token, &coordinator, wire).await?;
            Ok::<_, String>((coordinator, welcome))
        };
        let (coordinator, welcome) = smol::block_on(executor.run(joined))?;
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

/// Shows `token` to who has proved to be the coordinator it is of, or the one that the
/// operator's certificates name.
async fn check_token(
    executor: &LocalExecutor<'_>,
    token: &Token,
    coordinator: &str,
    wire: Wire,
) -> Result<Welcome, String> {
    let metrics = Arc::new(Metrics::new().map_err(|error| error.to_string())?);
    let check = FromWorker {
        kind: Some(from_worker::Kind::Check(Check {
            token: token.to_text(),
        })),
    };
    let check = frame::encode(&check).map_err(|error| error.to_string())?;
    let asked = async {
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
    future::or(asked, late).await
}
