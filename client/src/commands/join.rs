//! `hgbuild join`: tries a token at its coordinator and keeps it.

use std::fs;

use hg_proto::lan::browse;
use hg_proto::secure::credentials::{self, Stored};
use hg_proto::secure::token::{Role, Token};
use hg_proto::v1::{GetStatusRequest, GetStatusResponse};

use crate::cli::Join;
use crate::config::{Config, check_address};
use crate::grid::access::Access;
use crate::grid::attempt::CONNECT_MS_MAX;
use crate::grid::find;
use crate::grid::grpc::{Connection, Tasks};
use crate::grid::memo::Memos;
use crate::say;

/// Milliseconds that an answer may take.
const ANSWER_MS_MAX: u64 = 3_000;
/// How much longer than a compile somebody who waits has patience for a connection.
const PATIENCE: u64 = 10;

/// Joins. Gives an exit code.
pub fn join(config: &Config, join: &Join) -> i32 {
    let named = config.coordinator.as_deref().filter(|_| config.is_named);
    let address = join.coordinator.as_deref().or(named);
    let checked = match address {
        // Whatever is wrong with the settings comes first.
        None if config.trouble.is_some() || config.mdns => Ok(None),
        None => Err("where is the coordinator? --coordinator HOST:PORT".to_owned()),
        Some(address) => check_address(address).map(|()| Some(address)),
    };
    let address = match checked {
        Ok(address) => address,
        Err(why) => {
            say::warn(why);
            return 2;
        }
    };
    match try_and_keep(config, join, address) {
        Ok(said) => say::answer(format_args!("{said}\n")),
        Err(why) => {
            say::warn(why);
            1
        }
    }
}

fn try_and_keep(config: &Config, join: &Join, address: Option<&str>) -> Result<String, String> {
    if let Some(trouble) = &config.trouble {
        return Err(trouble.clone());
    }
    if config.insecure {
        return Err("with insecure set there is nothing to join".into());
    }
    let token = credentials::given(join.token.as_deref())?;
    if token.claims.role == Role::Worker {
        return Err("this is a worker's token: it is for 'hg-worker-lite join'".into());
    }
    let path = config
        .token_file()
        .ok_or("no home folder to keep the token in")?;
    let (address, status) = ask(config, address, &token)?;
    let name = token.claims.name.clone();
    let role = token.claims.role;
    let stored = Stored {
        token,
        coordinator: Some(address.clone()),
    };
    credentials::store(&path, &stored).map_err(|error| format!("{}: {error}", path.display()))?;
    // Where it was found before it was joined here.
    if let Some(found) = config.found_file(&stored.token.fingerprint) {
        let _ = fs::remove_file(found);
    }
    // What was thought of it without a token.
    Memos::new(config.run_folder().as_deref()).forget(&config.grid_key(&address));
    Ok(format!(
        "joined {address} as the {role} {name}: {} workers, {} slots",
        status.workers, status.slots
    ))
}

/// Where the coordinator is, and what it says to the bearer of `token`.
fn ask(
    config: &Config,
    address: Option<&str>,
    token: &Token,
) -> Result<(String, GetStatusResponse), String> {
    let tasks = Tasks::new();
    let mut connection = match address {
        Some(address) => {
            let access = Access::with(address, Some(token), &config.pki)?;
            let opened = Connection::open(&tasks, access, CONNECT_MS_MAX * PATIENCE);
            tasks.run(opened).map_err(|error| error.to_string())?
        }
        None if !config.pki.is_empty() => {
            return Err("--coordinator HOST:PORT: its host is what a certificate names".into());
        }
        None => {
            let found = find::by_dns(&tasks, token, find::PERSON_WAIT_MAX, None);
            found
                .ok_or_else(|| browse::not_found(&token.fingerprint))?
                .1
        }
    };
    let answer = connection.call("GetStatus", &GetStatusRequest {}, ANSWER_MS_MAX);
    let answer = tasks.run(answer).map_err(|error| error.to_string())?;
    Ok((connection.address().to_owned(), answer))
}
