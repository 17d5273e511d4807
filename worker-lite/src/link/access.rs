//! Access to the coordinator: in plaintext, by a join token, or by certificates of the
//! operator's own.

use std::path::{Path, PathBuf};

use hg_proto::secure::credentials::{self, Stored};
use hg_proto::secure::private;
use hg_proto::secure::tls::{ALPN_WORKER, Dial, Pki, Trust};
use hg_proto::secure::token::{Role, Token};

/// How the operator wants the coordinator to be dialled.
#[derive(Debug, Clone)]
pub struct Access {
    /// In plaintext, and without a token.
    pub insecure: bool,
    /// Certificates of the operator's own.
    pub pki: Pki,
    /// File in which `join` keeps a token.
    pub token_path: PathBuf,
}

/// What one dial shows to the coordinator, and trusts.
pub struct DialCredentials {
    /// TLS configuration; `None`: plaintext.
    pub tls: Option<Dial>,
    /// Text of a token for the Hello; empty: none.
    pub token: String,
}

impl Access {
    /// Credentials of the next dial to `coordinator`, HOST:PORT. They are looked up for each
    /// dial, since a coordinator on this machine may have left a new token.
    ///
    /// # Errors
    /// In words: there is no token, or a file is wrong.
    pub fn dial_credentials(&self, coordinator: &str) -> Result<DialCredentials, String> {
        if self.insecure {
            return Ok(DialCredentials {
                tls: None,
                token: String::new(),
            });
        }
        let token = credentials::find(coordinator, Role::Worker, Some(&self.token_path))?;
        dial_credentials(coordinator, token.as_ref(), &self.pki)
    }

    /// Checks the operator's files and variables for what will not mend itself: a token that is
    /// missing may still come, by `join` or by a coordinator of this user's own.
    ///
    /// # Errors
    /// In words: a file or a variable is wrong, or other users may write to a file.
    pub fn check(&self, coordinator: Option<&str>) -> Result<(), String> {
        match (self.insecure, self.pki.is_empty()) {
            (true, true) => return Ok(()),
            (true, false) => return Err("--insecure and certificates exclude each other".into()),
            (false, _) => {}
        }
        if let Ok(found) = std::fs::metadata(&self.token_path) {
            private::check_owner(&self.token_path, &found)?;
        }
        credentials::stored(&self.token_path)?;
        let coordinator = coordinator.unwrap_or("");
        let token = credentials::find(coordinator, Role::Worker, Some(&self.token_path))?;
        match Trust::of(token.as_ref(), &self.pki) {
            Some(trust) => Dial::new(&trust, coordinator, ALPN_WORKER).map(drop),
            None => Ok(()),
        }
    }

    /// Whether the coordinator may be looked for: it will prove who it is by its certificate,
    /// whatever its address.
    pub fn may_look(&self) -> bool {
        !self.insecure && self.pki.is_empty()
    }

    /// The token of this worker, whatever is on this machine. `None`: there is none, or it
    /// is wrong, which a dial tells.
    pub fn own_token(&self) -> Option<Token> {
        // No coordinator of this user's own is at no address.
        let token = credentials::find("", Role::Worker, Some(&self.token_path));
        token.ok().flatten()
    }

    /// Keeps that the coordinator is at `address` now.
    ///
    /// # Errors
    /// In words: the file can't be written.
    pub fn moved(&self, address: &str) -> Result<(), String> {
        let Some(stored) = credentials::stored(&self.token_path)? else {
            return Ok(());
        };
        let coordinator = Some(address.to_owned());
        let stored = Stored {
            coordinator,
            ..stored
        };
        credentials::store(&self.token_path, &stored)
            .map_err(|error| format!("{}: {error}", self.token_path.display()))
    }

    /// Stores the token `text` in place of the one that is stored, if both are of one holder.
    ///
    /// # Errors
    /// In words: it is no token, or can't be kept.
    pub fn renew(&self, text: &str) -> Result<(), String> {
        credentials::renew(&self.token_path, text, |_| true)
    }
}

/// Credentials of a dial with `token`, with certificates, or with both.
///
/// # Errors
/// In words: there is neither, or a file is wrong.
pub fn dial_credentials(
    coordinator: &str,
    token: Option<&Token>,
    pki: &Pki,
) -> Result<DialCredentials, String> {
    let trust = Trust::of(token, pki).ok_or_else(|| {
        format!(
            "no token for {coordinator}: get one there ('hg-coord token --role worker') and \
             run 'hg-worker-lite join', or set {}",
            credentials::TOKEN_VARIABLE
        )
    })?;
    Ok(DialCredentials {
        tls: Some(Dial::new(&trust, coordinator, ALPN_WORKER)?),
        token: token.map_or_else(String::new, Token::to_text),
    })
}

/// File in a state folder in which `join` keeps a token.
pub fn token_path(state: &Path) -> PathBuf {
    state.join("token")
}
