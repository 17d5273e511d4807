//! Finds the coordinator by multicast DNS or in the search domains, where it was not named, and finds it again where
//! it has moved. Whoever says to be it shows the certificate that the token names before it is
//! told anything. Where it was found is kept for the processes to come, so that a compile looks
//! for it only when nobody is there.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use hg_proto::lan::search;
use hg_proto::secure::credentials;
use hg_proto::secure::tls::Pki;
use hg_proto::secure::token::{Fingerprint, Role, Token};
use smol::{LocalExecutor, Timer, future};

use crate::config::Config;
use crate::grid::access::Access;
use crate::grid::attempt::{self, CONNECT_MS_MAX};
use crate::grid::grpc::{Connection, GrpcError, Tasks};
use crate::grid::memo::{Known, Memos};
use crate::private;

/// What a compile may wait for it.
const COMPILE_WAIT_MAX: Duration = Duration::from_millis(300);
/// What somebody may who waits for an answer.
pub const PERSON_WAIT_MAX: Duration = Duration::from_secs(2);
/// Addresses that are tried at one time: announcements are anybody's.
const TRIED_MAX: usize = 32;

/// For a compile that has no coordinator, or none at `last`: where it is, unless that was
/// looked for in vain lately.
pub fn for_compile(config: &Config, memos: &Memos, last: Option<&str>) -> Option<String> {
    let fingerprint = config.sought?;
    let key = [b"mdns".as_slice(), &fingerprint].concat();
    if let Known::Bad(_) = memos.recall(&key, attempt::look_backoff) {
        return None;
    }
    // Those of one burst do without it while the first of them looks.
    memos.note(&key, "being looked for, or not found");
    let tasks = Tasks::new();
    let (address, _) = look(config, &tasks, COMPILE_WAIT_MAX, last)?;
    memos.forget(&key);
    Some(address)
}

/// A connection to the coordinator of the settings, for somebody who waits for an answer.
///
/// # Errors
/// In words: there is none, or why it can't be had.
pub fn to_grid(config: &Config, tasks: &Tasks) -> Result<Connection, String> {
    let why = match Connection::to_grid(config, tasks) {
        Ok(connection) => return Ok(connection),
        Err(why) => why,
    };
    let found = look(
        config,
        tasks,
        PERSON_WAIT_MAX,
        config.coordinator.as_deref(),
    );
    found.map(|(_, connection)| connection).ok_or(why)
}

/// The same for a build, which is not kept waiting.
///
/// # Errors
/// As [`to_grid`].
pub fn to_grid_soon(config: &Config, tasks: &Tasks) -> Result<Connection, String> {
    let why = match Connection::to_grid(config, tasks) {
        Ok(connection) => return Ok(connection),
        Err(why) => why,
    };
    let memos = Memos::new(config.run_folder().as_deref());
    let address = for_compile(config, &memos, config.coordinator.as_deref()).ok_or(why)?;
    let opened = Connection::open(tasks, Access::at(config, &address)?, CONNECT_MS_MAX);
    tasks.run(opened).map_err(|error| error.to_string())
}

/// Looks for the coordinator of the settings, not at `last`, and keeps where it is.
fn look(
    config: &Config,
    tasks: &Tasks,
    wait: Duration,
    last: Option<&str>,
) -> Option<(String, Connection)> {
    let fingerprint = config.sought?;
    // No coordinator of this user's own is at no address.
    let token = credentials::find("", Role::Client, config.token_file().as_deref());
    let token = token.ok().flatten();
    let token = token.filter(|token| token.fingerprint == fingerprint)?;
    let (address, connection) = by_dns(tasks, &token, wait, last)?;
    if let Some(path) = config.found_file(&fingerprint) {
        let put = || private::replace(&path, address.as_bytes());
        if put().is_err() && path.parent().is_some_and(|run| private::make(run).is_ok()) {
            // Otherwise the next process looks for it, too.
            let _ = put();
        }
    }
    Some((address, connection))
}

/// Looks for the coordinator that `token` is of, not at `last`: where it is, and a connection
/// over which it has shown its certificate.
pub fn by_dns(
    tasks: &Tasks,
    token: &Token,
    wait: Duration,
    last: Option<&str>,
) -> Option<(String, Connection)> {
    let end = Instant::now() + wait;
    let heard = listen(token.fingerprint, wait);
    let executor = LocalExecutor::new();
    let (answers, answered) = async_channel::unbounded();
    let search = async {
        let answers: Sender<(String, Connection)> = answers;
        let mut tried: Vec<SocketAddr> = Vec::new();
        while let Ok(address) = heard.recv().await {
            let is_new = !tried.contains(&address) && Some(&*address.to_string()) != last;
            if is_new && tried.len() < TRIED_MAX {
                tried.push(address);
                let attempt = attempt(tasks, token, address, answers.clone());
                executor.spawn(attempt).detach();
            }
        }
        // Dropped with the last attempt, so that the answers end.
        drop(answers);
        future::pending().await
    };
    let first = async { answered.recv().await.ok() };
    let late = async {
        Timer::at(end).await;
        None
    };
    tasks.run(executor.run(future::or(first, future::or(search, late))))
}

async fn attempt(
    tasks: &Tasks,
    token: &Token,
    address: SocketAddr,
    answers: Sender<(String, Connection)>,
) {
    let Ok(access) = Access::with(&address.to_string(), Some(token), &Pki::default()) else {
        return;
    };
    Timer::after(search::stands_back(&address)).await;
    // What is wrong with a stranger is nobody's business.
    if let Ok(connection) = Connection::open(tasks, access, CONNECT_MS_MAX).await {
        let _ = answers.send((address.to_string(), connection)).await;
    }
}

/// Listens for where the coordinator with `fingerprint` could be; ends when nobody wants to
/// know any more.
fn listen(fingerprint: Fingerprint, wait: Duration) -> Receiver<SocketAddr> {
    let (heard, hears) = async_channel::unbounded();
    search::begin(fingerprint, wait, move |address| {
        match heard.try_send(address) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    hears
}

/// Whether a dial that ended so may have gone to where the coordinator no longer is.
pub fn may_have_moved(error: &GrpcError) -> bool {
    matches!(
        error,
        GrpcError::Connect(_) | GrpcError::Gone(_) | GrpcError::Timeout(_)
    )
}
