//! How the coordinator is reached, and as whom: plaintext, by a join token, or by
//! certificates of the operator's own.

use std::path::PathBuf;

use hg_proto::secure::credentials;
use hg_proto::secure::tls::{ALPN_GRPC, Dial, Pki, Trust};
use hg_proto::secure::token::{Role, Token};
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
    /// What is shown, and where it lies if it was stored: the coordinator may
    /// replace it there.
    shown: Option<(Token, PathBuf)>,
}

impl Access {
    /// By the settings.
    ///
    /// # Errors
    /// In words: there is no coordinator, no token for it, or a file is wrong.
    pub fn find(config: &Config) -> Result<Self, String> {
        match (&config.coordinator, config.sought) {
            (Some(address), _) => Access::at(config, address),
            (None, Some(_)) => Err(
                "no coordinator is known, and on this network none is found that the token is \
                 of: HG_COORDINATOR=HOST:PORT, or --coordinator"
                    .into(),
            ),
            (None, None) => Err(
                "no coordinator is set: hgbuild join, HG_COORDINATOR=HOST:PORT, --coordinator, \
                 or coordinator = \"HOST:PORT\" in ~/.hybridgrid/config.toml"
                    .into(),
            ),
        }
    }

    /// By the settings, to the coordinator at `address`, HOST:PORT.
    ///
    /// # Errors
    /// In words: there is no token for it, or a file is wrong.
    pub fn at(config: &Config, address: &str) -> Result<Self, String> {
        if config.insecure {
            return Ok(Access::plain(address));
        }
        let at = config.token_file();
        let token = credentials::find(address, Role::Client, at.as_deref())?;
        let mut access = Access::with(address, token.as_ref(), &config.pki)?;
        access.shown = token.zip(at);
        Ok(access)
    }

    /// In plaintext and without a token: to a coordinator that wants neither, or through
    /// somebody who shows a token there.
    pub fn plain(address: &str) -> Self {
        Access {
            address: address.to_owned(),
            dial: None,
            bearer: None,
            shown: None,
        }
    }

    /// With a token that is known, or certificates, or both.
    ///
    /// # Errors
    /// In words: there is neither, or a file is wrong.
    pub fn with(address: &str, token: Option<&Token>, pki: &Pki) -> Result<Self, String> {
        let trust = Trust::of(token, pki).ok_or_else(|| {
            format!(
                "no token for {address}: ask who runs it for one ('hg-coord token --role \
                 client') and run 'hgbuild join', or set HG_TOKEN"
            )
        })?;
        Ok(Access {
            address: address.to_owned(),
            dial: Some(Dial::new(&trust, address, ALPN_GRPC)?),
            bearer: token.map(bearer),
            shown: None,
        })
    }

    /// Keeps the token in `header` in place of the one that is shown, if that is the stored
    /// one and both are of one holder.
    pub fn take_renewal(&self, header: &HeaderValue) {
        if let (Some((shown, path)), Ok(text)) = (&self.shown, header.to_str()) {
            // Otherwise the next answer brings it again.
            let _ = credentials::renew(path, text, |stored| stored == shown);
        }
    }
}

fn bearer(token: &Token) -> HeaderValue {
    let text = format!("Bearer {}", token.to_text());
    // A token's text is ASCII.
    let mut value = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""));
    // Never in HPACK's tables.
    value.set_sensitive(true);
    value
}
