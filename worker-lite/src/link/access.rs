//! How the coordinator is reached, and as whom: plaintext, by a join token, or by
//! certificates of the operator's own.

use std::path::{Path, PathBuf};

use hg_proto::secure::credentials;
use hg_proto::secure::private;
use hg_proto::secure::tls::{ALPN_WORKER, Dial, Pki, Trust};
use hg_proto::secure::token::{Role, Token};

/// What the operator said.
#[derive(Debug, Clone)]
pub struct Access {
    /// Plaintext, and no token.
    pub insecure: bool,
    /// Certificates of the operator's own.
    pub pki: Pki,
    /// Where `join` keeps a token.
    pub kept: PathBuf,
}

/// What one dial needs.
pub struct Pass {
    /// `None`: plaintext.
    pub dial: Option<Dial>,
    /// The text of a token for the Hello; empty: none.
    pub token: String,
}

impl Access {
    /// What the next dial to `coordinator`, HOST:PORT, needs: looked for anew, since
    /// a coordinator on this machine may have left a new token.
    ///
    /// # Errors
    /// In words: there is no token, or a file is wrong.
    pub fn pass(&self, coordinator: &str) -> Result<Pass, String> {
        if self.insecure {
            return Ok(Pass {
                dial: None,
                token: String::new(),
            });
        }
        let token = credentials::find(coordinator, Role::Worker, Some(&self.kept))?;
        pass(coordinator, token.as_ref(), &self.pki)
    }

    /// What of the operator's own is wrong now, and will not mend itself: a token that
    /// is missing may still come, by `join` or by a coordinator of this user's own.
    ///
    /// # Errors
    /// In words: a file or a variable is wrong, or a file is not ours alone.
    pub fn check(&self, coordinator: &str) -> Result<(), String> {
        match (self.insecure, self.pki.is_empty()) {
            (true, true) => return Ok(()),
            (true, false) => return Err("--insecure and certificates exclude each other".into()),
            (false, _) => {}
        }
        if let Ok(found) = std::fs::metadata(&self.kept) {
            private::check_owner(&self.kept, &found)?;
        }
        credentials::stored(&self.kept)?;
        let token = credentials::find(coordinator, Role::Worker, Some(&self.kept))?;
        match Trust::of(token.as_ref(), &self.pki) {
            Some(trust) => Dial::new(&trust, coordinator, ALPN_WORKER).map(drop),
            None => Ok(()),
        }
    }

    /// Keeps `text` in place of the stored token, if both are of one holder.
    ///
    /// # Errors
    /// In words: it is no token, or can't be kept.
    pub fn renew(&self, text: &str) -> Result<(), String> {
        credentials::renew(&self.kept, text, |_| true)
    }
}

/// What a dial with `token` needs, or with certificates, or both.
///
/// # Errors
/// In words: there is neither, or a file is wrong.
pub fn pass(coordinator: &str, token: Option<&Token>, pki: &Pki) -> Result<Pass, String> {
    let trust = Trust::of(token, pki).ok_or_else(|| {
        format!(
            "no token for {coordinator}: get one there ('hg-coord token --role worker') and \
             run 'hg-worker-lite join', or set {}",
            credentials::TOKEN_VARIABLE
        )
    })?;
    Ok(Pass {
        dial: Some(Dial::new(&trust, coordinator, ALPN_WORKER)?),
        token: token.map_or_else(String::new, Token::to_text),
    })
}

/// Where `join` keeps a token in a state folder.
pub fn kept(state: &Path) -> PathBuf {
    state.join("token")
}
