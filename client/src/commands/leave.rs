//! `hgbuild leave`: forgets the grid that was joined.

use std::fs;
use std::io;

use hg_proto::secure::credentials;

use crate::config::Config;
use crate::grid::memo::Memos;
use crate::say;

/// Removes the token that `join` has kept. Gives an exit code.
pub fn leave(config: &Config) -> i32 {
    match forget(config) {
        Ok(said) => say::answer(format_args!("{said}\n")),
        Err(why) => {
            say::warn(why);
            1
        }
    }
}

fn forget(config: &Config) -> Result<String, String> {
    if let Some(trouble) = &config.refused {
        return Err(trouble.clone());
    }
    let path = config
        .token_file()
        .ok_or("no home folder: nothing is kept there")?;
    // What is damaged is left all the same.
    let stored = credentials::stored(&path).ok().flatten();
    match fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!(
                "no grid was joined: there is no {}",
                path.display()
            ));
        }
        Err(error) => return Err(format!("{}: {error}", path.display())),
    }
    let mut said = match &stored {
        Some(stored) => {
            if let Some(found) = config.found_file(&stored.token.fingerprint) {
                let _ = fs::remove_file(found);
            }
            let claims = &stored.token.claims;
            format!(
                "left the grid: the token of the {} {} is removed; 'hg-coord revoke {}' on the \
                 coordinator makes it void everywhere",
                claims.role, claims.name, claims.name
            )
        }
        None => format!("left the grid: {} is removed", path.display()),
    };
    if let Some(address) = &config.coordinator {
        Memos::new(config.run_folder().as_deref()).forget(&config.grid_key(address));
        if config.is_named {
            said.push_str(&format!(
                "\n{address} is still named in HG_COORDINATOR or config.toml"
            ));
        }
    }
    Ok(said)
}
