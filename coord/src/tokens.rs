//! `hg-coord token`, `revoke` and `rotate`: the commands that change who may.

use std::path::PathBuf;

use hg_proto::tls;

use crate::config::{self, Revoke, Rotate, TokenArgs};
use crate::trust;

/// Prints a token.
///
/// # Errors
/// What did not work, for the operator.
pub fn token(args: &TokenArgs, home: Option<PathBuf>) -> Result<(), String> {
    let trust = trust::open(&config::state(args.state.as_deref(), home)?)?;
    let name = args
        .name
        .clone()
        .unwrap_or_else(|| format!("{}-{:08x}", args.role, fastrand::u32(..)));
    let token = trust.token(args.role, &name, args.expires)?;
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
pub fn revoke(args: &Revoke, home: Option<PathBuf>) -> Result<(), String> {
    let state = config::state(args.state.as_deref(), home)?;
    trust::revoke(&state, &args.name)?;
    println!("{}: revoked", args.name);
    Ok(())
}

/// Rotates.
///
/// # Errors
/// What did not work, for the operator.
pub fn rotate(args: &Rotate, home: Option<PathBuf>) -> Result<(), String> {
    let state = config::state(args.state.as_deref(), home)?;
    let trust = trust::rotate(&state, args.rotation())?;
    println!("certificate {}", tls::hex(&trust.newest()));
    Ok(())
}
