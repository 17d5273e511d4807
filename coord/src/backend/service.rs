//! The backend's service, by OpenDAL: what is there under a name, and what is put there.

use std::env;

use futures_util::TryStreamExt;
use opendal::services::{Fs, Redis, S3Config};
use opendal::{Builder, Configurator, ErrorKind, Operator};

use crate::backend::address::{Address, Kind};
use crate::backend::sealed::HEAD_BYTES;
use crate::bounds::{
    BACKEND_ENTRY_BYTES_MAX, BACKEND_READS_AT_ONCE_MAX, BACKEND_WRITES_AT_ONCE_MAX,
};

/// Bytes that an entry has at most.
const READ_BYTES_MAX: usize = BACKEND_ENTRY_BYTES_MAX + HEAD_BYTES;
/// The password of a Redis, as Redis's own command line takes it.
pub const REDIS_PASSWORD_VARIABLE: &str = "REDISCLI_AUTH";

/// A line to the backend; it connects when it is used.
#[derive(Debug, Clone)]
pub struct Service {
    operator: Operator,
    /// An entry comes in pieces, so that one that is too large need not come whole.
    streams: bool,
}

/// What is there under a name.
#[derive(Debug)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// More than any entry has.
    TooLarge,
    /// So much.
    Bytes(Vec<u8>),
}

/// What is known once, for all lines.
pub fn prepare() {
    // Whoever asks for TLS without saying by what gets the one that all else has. That it
    // was said before is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    opendal_http_transport_reqwest::install_default();
}

impl Service {
    /// The one at `address`.
    ///
    /// # Errors
    /// In words: it can't be one.
    pub fn new(address: &Address) -> Result<Service, String> {
        let operator = match address.kind {
            Kind::S3 => s3(address),
            Kind::Redis => redis(address),
            Kind::Folder => folder(address),
        };
        let operator = operator.map_err(|error| match address.kind {
            Kind::S3 if error.message().starts_with("region is missing") => {
                "there is no region: add ?region=... to the URL, or set AWS_REGION".into()
            }
            _ => words(&error),
        })?;
        Ok(Service {
            operator,
            streams: address.kind == Kind::S3,
        })
    }

    /// What is there under `name`.
    ///
    /// # Errors
    /// In words: the service did not say.
    pub async fn read(&self, name: &str) -> Result<Found, String> {
        match self.read_bounded(name).await {
            Ok(found) => Ok(found),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Found::Nothing),
            Err(error) => Err(words(&error)),
        }
    }

    async fn read_bounded(&self, name: &str) -> opendal::Result<Found> {
        if !self.streams {
            let bytes = self.operator.stat(name).await?.content_length();
            if bytes > READ_BYTES_MAX as u64 {
                return Ok(Found::TooLarge);
            }
        }
        let mut pieces = self.operator.reader(name).await?.into_stream(..).await?;
        let mut read = Vec::new();
        while let Some(piece) = pieces.try_next().await? {
            if read.len() + piece.len() > READ_BYTES_MAX {
                return Ok(Found::TooLarge);
            }
            piece.for_each(|part| read.extend_from_slice(&part));
        }
        Ok(Found::Bytes(read))
    }

    /// Puts `bytes` there.
    ///
    /// # Errors
    /// In words: the service did not take it.
    pub async fn write(&self, name: &str, bytes: Vec<u8>) -> Result<(), String> {
        let written = self.operator.write(name, bytes).await;
        written.map(drop).map_err(|error| words(&error))
    }
}

fn s3(address: &Address) -> opendal::Result<Operator> {
    let mut options = address.options.clone();
    options.insert("bucket".into(), address.authority().into());
    options.insert("root".into(), address.folder.clone());
    let config = S3Config::from_iter(options)?;
    build(config.into_builder())
}

fn redis(address: &Address) -> opendal::Result<Operator> {
    let scheme = address.base.split("://").next().unwrap_or_default();
    let endpoint = match scheme {
        // A host is to be there, and counts for nothing.
        "redis+unix" => address.base.replacen(":///", "://localhost/", 1),
        _ => format!("{scheme}://{}", address.authority()),
    };
    let db = address.options.get("db").and_then(|db| db.parse().ok());
    let password = env::var(REDIS_PASSWORD_VARIABLE).unwrap_or_default();
    build(
        Redis::default()
            .endpoint(&endpoint)
            .username(address.user.as_deref().unwrap_or_default())
            .password(&password)
            .db(db.unwrap_or(0))
            .root(&address.folder)
            .connection_pool_max_size(BACKEND_READS_AT_ONCE_MAX + BACKEND_WRITES_AT_ONCE_MAX),
    )
}

fn folder(address: &Address) -> opendal::Result<Operator> {
    let root = format!("/{}", address.folder);
    // Within it, so that what is whole can be moved to its name.
    let drafts = format!("{root}/.drafts");
    build(Fs::default().root(&root).atomic_write_dir(&drafts))
}

fn build(builder: impl Builder) -> opendal::Result<Operator> {
    Operator::new(builder)
}

/// What the service said, and the reason beneath it; without the request, which may have
/// more in it than anybody is to see.
fn words(error: &opendal::Error) -> String {
    let mut words = error.message().to_owned();
    if words.is_empty() {
        words = error.kind().to_string();
    }
    let mut beneath = std::error::Error::source(error);
    while let Some(error) = beneath {
        let text = error.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        beneath = error.source();
    }
    let mut line: String = words.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(ERROR_CHARACTERS_MAX) {
        line.truncate(end);
    }
    line
}

/// Characters of what a service says, which may be a page.
const ERROR_CHARACTERS_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody listens on this port, which takes root's rights to bind.
    const NOBODY: &str = "127.0.0.1:1";

    #[tokio::test]
    async fn s3_is_dialled_with_and_without_tls() {
        prepare();
        for scheme in ["http", "https"] {
            let url = format!("s3://b?region=r&endpoint={scheme}://{NOBODY}");
            let mut address = Address::parse(&url).unwrap();
            // So that nobody is asked for who asks.
            let unsigned = ("skip_signature".to_owned(), "true".to_owned());
            address.options.extend([unsigned]);
            let service = Service::new(&address).unwrap();
            let read = service.read("name").await.unwrap_err();
            let written = service.write("name", vec![1]).await.unwrap_err();
            for why in [read, written] {
                assert!(why.contains("refused"), "{scheme}: {why}");
            }
        }
    }

    #[tokio::test]
    async fn a_folder_gives_what_was_put_there() {
        let root = std::env::temp_dir().join(format!("hg-backend-{}", std::process::id()));
        let url = format!("fs://{}", root.display());
        let service = Service::new(&Address::parse(&url).unwrap()).unwrap();
        assert!(matches!(service.read("a/b").await, Ok(Found::Nothing)));
        service.write("a/b", b"what".to_vec()).await.unwrap();
        let found = service.read("a/b").await.unwrap();
        assert!(matches!(found, Found::Bytes(bytes) if bytes == b"what"));
        let large = vec![0; READ_BYTES_MAX + 1];
        service.write("a/b", large).await.unwrap();
        assert!(matches!(service.read("a/b").await, Ok(Found::TooLarge)));
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_region_that_is_missing_is_named() {
        // The environment of who tests may have one.
        if env::var_os("AWS_REGION").is_none() && env::var_os("AWS_DEFAULT_REGION").is_none() {
            let why = Service::new(&Address::parse("s3://b").unwrap()).unwrap_err();
            assert!(why.contains("add ?region="), "{why}");
        }
    }
}
