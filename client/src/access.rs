//! How the coordinator is reached, and as whom: plaintext, by a join token, or by
//! certificates of the operator's own.

use std::path::{Path, PathBuf};

use hg_proto::credentials::{self, Stored};
use hg_proto::tls::{ALPN_GRPC, Dial, Pki, Trust};
use hg_proto::token::{Role, Token};
use hyper::header::HeaderValue;

use crate::config::Config;

/// What a connection needs to know.
#[derive(Debug)]
pub struct Access {
    /// HOST:PORT.
    pub address: String,
    /// `None`: plaintext.
    pub dial: Option<Dial>,
    /// What goes with each request.
    pub bearer: Option<HeaderValue>,
    /// Where a token lies that the coordinator may replace.
    kept: Option<(PathBuf, Stored)>,
}

impl Access {
    /// By the settings.
    ///
    /// # Errors
    /// In words: there is no coordinator, no token for it, or a file is wrong.
    pub fn find(config: &Config) -> Result<Self, String> {
        let address = config.coordinator.as_deref().ok_or(
            "no coordinator is set: hgbuild join, HG_COORDINATOR=HOST:PORT, --coordinator, or \
             coordinator = \"HOST:PORT\" in ~/.hybridgrid/config.toml",
        )?;
        if config.insecure {
            return Ok(Access {
                address: address.to_owned(),
                dial: None,
                bearer: None,
                kept: None,
            });
        }
        let at = config.token_file();
        let token = credentials::find(address, Role::Client, at.as_deref())?;
        let mut access = Access::with(address, token.as_ref(), &config.pki)?;
        if let (Some(at), Some(token)) = (at, token) {
            access.kept = is_kept(&at, &token);
        }
        Ok(access)
    }

    /// With a token that is known, or certificates, or both.
    ///
    /// # Errors
    /// In words: there is neither, or a file is wrong.
    pub fn with(address: &str, token: Option<&Token>, pki: &Pki) -> Result<Self, String> {
        let trust = match (token, pki.is_empty()) {
            (_, false) => Trust::Authorities(pki.clone()),
            (Some(token), true) => Trust::Pinned(token.fingerprint),
            (None, true) => {
                return Err(format!(
                    "no token for {address}: ask who runs it for one ('hg-coord token --role \
                     client') and run 'hgbuild join', or set HG_TOKEN"
                ));
            }
        };
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        Ok(Access {
            address: address.to_owned(),
            dial: Some(Dial::new(&trust, host, ALPN_GRPC)?),
            bearer: token.map(bearer),
            kept: None,
        })
    }

    /// Keeps `text` in place of the stored token, if it is one for the same holder.
    pub fn renew(&self, text: &str) {
        let Some((path, old)) = &self.kept else {
            return;
        };
        let Ok(token) = Token::parse(text) else {
            return;
        };
        let (new, was) = (&token.claims, &old.token.claims);
        if new.role == was.role && new.name == was.name {
            let coordinator = old.coordinator.clone();
            // Otherwise the next answer brings it again.
            let _ = credentials::store(path, &Stored { token, coordinator });
        }
    }
}

/// The stored token, if `token` is that one.
fn is_kept(path: &Path, token: &Token) -> Option<(PathBuf, Stored)> {
    let stored = credentials::stored(path).ok()??;
    (stored.token == *token).then(|| (path.to_owned(), stored))
}

fn bearer(token: &Token) -> HeaderValue {
    let text = format!("Bearer {}", token.to_text());
    // A token's text is ASCII.
    let mut value = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""));
    // Never in HPACK's tables.
    value.set_sensitive(true);
    value
}
