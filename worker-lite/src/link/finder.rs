//! Finds the coordinator, and finds it again where it has moved: at the address that is
//! known, else by multicast DNS
//! or in the search domains. Whoever answers there shows the certificate that the token
//! names before it is told anything.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use hg_proto::lan::search;
use hg_proto::secure::token::{Fingerprint, Token};
use smol::{LocalExecutor, future};

use crate::link::access::{self, Access};
use crate::link::connection::{self, Wire};

/// How long a dial of the known address has for itself before the coordinator is looked for.
const HEAD_START: Duration = Duration::from_millis(500);
/// How long announcements are listened for.
const LISTEN_FOR: Duration = Duration::from_secs(2);
/// How long those who were heard may take to answer, after that.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(2);
/// Addresses that are tried at one time: announcements are anybody's.
const TRIED_MAX: usize = 32;
/// Between two looks, after a first one that found nothing; it doubles up to the last.
const LOOK_AGAIN: Duration = Duration::from_secs(4);
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(64);

/// Where the coordinator is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// HOST:PORT, by a flag or a variable: there and nowhere else.
    Named(String),
    /// Where it was last, if anywhere; else it is looked for.
    Looked(Option<String>),
    /// As that, but it is not looked for.
    Joined(String),
}

impl Place {
    /// HOST:PORT, as far as it is known.
    pub fn address(&self) -> Option<&str> {
        match self {
            Place::Named(address) | Place::Joined(address) => Some(address),
            Place::Looked(address) => address.as_deref(),
        }
    }
}

/// The coordinator's last address, and when it was looked for.
pub struct Finder {
    place: RefCell<Place>,
    /// When it may be looked for again, and the wait after that.
    again: Cell<(Option<Instant>, Duration)>,
}

/// A connection, and the token for its Hello.
pub struct Dialled {
    /// The connection, shaken hands over.
    pub wire: Wire,
    /// Text of a token; empty: none.
    pub token: String,
    /// Where the coordinator is, if it was found there just now.
    pub found: Option<String>,
}

impl Finder {
    /// Begins at `place`.
    pub fn new(place: Place) -> Self {
        Finder {
            place: RefCell::new(place),
            again: Cell::new((None, LOOK_AGAIN)),
        }
    }

    /// Connects to the coordinator.
    ///
    /// # Errors
    /// In words: why not.
    pub async fn dial(&self, access: &Access) -> Result<Dialled, String> {
        let place = self.place.borrow().clone();
        let (failed, failure) = async_channel::bounded(1);
        let known = async {
            let dialled = match place.address() {
                Some(address) => dial_known(access, address).await,
                None => Err("no coordinator is known".to_owned()),
            };
            match dialled {
                Ok(dialled) => Ok(dialled),
                Err(why) => {
                    let _ = failed.send(why).await;
                    future::pending().await
                }
            }
        };
        let looked = async {
            let failed_soon = async { failure.recv().await.ok() };
            let head_start = async {
                smol::Timer::after(HEAD_START).await;
                None
            };
            let why = future::or(failed_soon, head_start).await;
            if let Place::Looked(last) = &place
                && let Some(dialled) = self.look(access, last.as_deref()).await
            {
                return Ok(dialled);
            }
            Err(match why {
                Some(why) => why,
                None => failure.recv().await.unwrap_or_default(),
            })
        };
        let dialled = future::or(known, looked).await?;
        self.again.set((None, LOOK_AGAIN));
        if let Some(found) = &dialled.found {
            *self.place.borrow_mut() = Place::Looked(Some(found.clone()));
        }
        Ok(dialled)
    }

    /// Looks for it, unless that was in vain lately.
    async fn look(&self, access: &Access, last: Option<&str>) -> Option<Dialled> {
        let (until, wait) = self.again.get();
        if until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        // The operator's own certificates say by which name the coordinator is known, and in
        // plaintext anybody could be it.
        let token = access.own_token().filter(|_| access.may_look())?;
        let found = find(&token, last).await;
        if found.is_none() {
            let next = (wait * 2).min(LOOK_AGAIN_MAX);
            self.again.set((Some(Instant::now() + wait), next));
        }
        let (address, wire) = found?;
        Some(Dialled {
            wire,
            token: token.to_text(),
            found: Some(address),
        })
    }
}

async fn dial_known(access: &Access, address: &str) -> Result<Dialled, String> {
    let credentials = access.dial_credentials(address)?;
    let wire = connection::dial(address, credentials.tls.as_ref()).await?;
    Ok(Dialled {
        wire,
        token: credentials.token,
        found: None,
    })
}

/// Looks for the coordinator that `token` is of, not at `last`: where it is, and a connection
/// over which it has shown its certificate.
pub async fn find(token: &Token, last: Option<&str>) -> Option<(String, Wire)> {
    let heard = listen(token.fingerprint);
    let executor = LocalExecutor::new();
    let (answers, answered) = async_channel::unbounded();
    let search = async {
        // Dropped with the last attempt, so that the answers end.
        let answers = answers;
        let mut tried: Vec<SocketAddr> = Vec::new();
        while let Ok(address) = heard.recv().await {
            let is_new = !tried.contains(&address) && Some(&*address.to_string()) != last;
            if is_new && tried.len() < TRIED_MAX {
                tried.push(address);
                let attempt = attempt(token.clone(), address, answers.clone());
                executor.spawn(attempt).detach();
            }
        }
        drop(answers);
        future::pending().await
    };
    let first = async { answered.recv().await.ok() };
    let late = async {
        smol::Timer::after(LISTEN_FOR + ANSWER_WAIT_MAX).await;
        None
    };
    executor
        .run(future::or(first, future::or(search, late)))
        .await
}

async fn attempt(token: Token, address: SocketAddr, answers: Sender<(String, Wire)>) {
    smol::Timer::after(search::stands_back(&address)).await;
    let address = address.to_string();
    let pki = Default::default();
    let Ok(credentials) = access::dial_credentials(&address, Some(&token), &pki) else {
        return;
    };
    // What is wrong with a stranger is nobody's business.
    if let Ok(wire) = connection::dial(&address, credentials.tls.as_ref()).await {
        let _ = answers.send((address, wire)).await;
    }
}

/// Listens for where the coordinator with `fingerprint` could be; ends when nobody wants to
/// know any more.
fn listen(fingerprint: Fingerprint) -> Receiver<SocketAddr> {
    let (heard, hears) = async_channel::unbounded();
    search::begin(fingerprint, LISTEN_FOR, move |address| {
        match heard.try_send(address) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    hears
}
