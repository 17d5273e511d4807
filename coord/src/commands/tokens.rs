//! `hg-coord token`, `tokens`, `revoke` and `rotate`: the commands that show and
//! change who may.

use std::path::{Path, PathBuf};

use hg_proto::secure::tls;

use crate::config::{self, CommandError, Revoke, Rotate, TokenArgs, Tokens};
use crate::log;
use crate::trust::command_socket::{self, Told};
use crate::trust::secrets;

/// Prints a token.
///
/// # Errors
/// What did not work, for the operator.
pub fn token(args: &TokenArgs, home: Option<PathBuf>) -> Result<(), CommandError> {
    let state = config::state_of(args.state.as_deref(), home)?;
    let name = args
        .name
        .clone()
        .unwrap_or_else(|| format!("{}-{:08x}", args.role, fastrand::u32(..)));
    let token = secrets::give(&state, args.role, &name, args.expires)?;
    println!("{}", token.to_text());
    // The line itself says nothing to a reader, and stdout has nothing else.
    let until = match args.expires {
        0 => "until it is revoked".to_owned(),
        seconds => {
            let lasts = std::time::Duration::from_secs(seconds);
            format!("for {}", humantime::format_duration(lasts))
        }
    };
    eprintln!(
        "hg-coord: a token for the {} {name}, good {until}",
        args.role
    );
    Ok(())
}

/// Revokes.
///
/// # Errors
/// What did not work, for the operator.
pub fn revoke(args: &Revoke, home: Option<PathBuf>) -> Result<(), CommandError> {
    let (state, name) = (config::state_of(args.state.as_deref(), home)?, &args.name);
    secrets::revoke(&state, name)?;
    let told = command_socket::tell(&state);
    println!("{name}: revoked{}", known(&told));
    told.map_err(unknown)?;
    // The coordinator has written down who was seen.
    let (list, _) = secrets::listed(&state)?;
    match list.has(name) {
        true => Ok(()),
        false => Err(CommandError::Failed(format!(
            "{name} is revoked, but was never given a token here, nor seen with one: is that \
             the name? See 'hg-coord tokens'"
        ))),
    }
}

/// Prints whom tokens were given to.
///
/// # Errors
/// What did not work, for the operator.
pub fn list(args: &Tokens, home: Option<PathBuf>) -> Result<(), CommandError> {
    let state = config::state_of(args.state.as_deref(), home)?;
    exists(&state).map_err(CommandError::Usage)?;
    // So that it writes down who was seen.
    if let Err(why) = command_socket::tell(&state) {
        log::warn(format_args!(
            "the coordinator does not say who was seen lately: {why}"
        ));
    }
    let (list, revoked) = secrets::listed(&state)?;
    print!("{}", list.table(&revoked, secrets::now_s()));
    Ok(())
}

/// Looking makes no secrets.
fn exists(state: &Path) -> Result<(), String> {
    let path = secrets::path(state);
    match path.try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("{}: no coordinator's state", state.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// How far a change has come, behind what was done.
fn known(told: &Result<Told, String>) -> &'static str {
    match told {
        Ok(Told::Known) => ", and the running coordinator acts by it",
        Ok(Told::NobodyRuns) => "; no coordinator runs with this state that could be told",
        Err(_) => "",
    }
}

fn unknown(why: String) -> String {
    format!("the running coordinator does not say that it knows, and looks by itself: {why}")
}

/// Rotates.
///
/// # Errors
/// What did not work, for the operator.
pub fn rotate(args: &Rotate, home: Option<PathBuf>) -> Result<(), CommandError> {
    let state = config::state_of(args.state.as_deref(), home)?;
    let trust = secrets::rotate(&state, args.rotation())?;
    println!("certificate {}", tls::hex(&trust.newest()));
    command_socket::tell(&state).map_err(unknown)?;
    Ok(())
}
