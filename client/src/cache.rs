//! Entries on disk: written whole, checked when read. Not bounded yet.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_128;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Which facts lead to which answer.
    Manifest,
    /// An answer.
    Result,
    /// The last question about a source.
    Trail,
}

/// Which entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    /// XXH3-128 of what it is for.
    pub key: [u8; 16],
    /// What it is.
    pub kind: Kind,
}

/// A folder with entries.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    read_only: bool,
}

/// Why the cache can't be used.
#[derive(Debug)]
pub struct Trouble {
    /// For people.
    pub words: String,
    /// Stable, for counting.
    pub code: &'static str,
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble {
            words: error.to_string(),
            code: "cache-io",
        }
    }
}

/// What happened to a compile.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// Answered by its command and files.
    DirectHit {
        /// Milliseconds that the compile had taken.
        saved_ms: u64,
        /// Bytes of outputs.
        bytes: u64,
    },
    /// Answered by its preprocessed text.
    PreprocessedHit {
        /// Milliseconds that the compile had taken.
        saved_ms: u64,
        /// Bytes of outputs.
        bytes: u64,
    },
    /// Compiled, and kept.
    Miss {
        /// Bytes of outputs.
        bytes: u64,
    },
    /// Not one to be kept, for this reason.
    Bypass(&'a str),
    /// The cache failed, for this reason.
    Error(&'a str),
}

impl Cache {
    /// The cache in `folder`.
    ///
    /// # Errors
    /// The folder can't be made.
    pub fn open(folder: &Path, _size_bytes_max: u64, read_only: bool) -> Result<Cache, Trouble> {
        fs::create_dir_all(folder)?;
        Ok(Cache {
            folder: folder.to_path_buf(),
            read_only,
        })
    }

    fn path(&self, name: Name) -> PathBuf {
        let hex = format!("{:032x}", u128::from_be_bytes(name.key));
        let kind = match name.kind {
            Kind::Manifest => "m",
            Kind::Result => "r",
            Kind::Trail => "t",
        };
        self.folder
            .join(&hex[..2])
            .join(format!("{}.{kind}", &hex[2..]))
    }

    /// The body of an entry. `None`: it is not there, or damaged.
    pub fn read(&self, name: Name) -> Option<Vec<u8>> {
        let mut body = fs::read(self.path(name)).ok()?;
        let sum = body.split_off(body.len().checked_sub(16)?);
        (xxh3_128(&body).to_be_bytes() == sum[..]).then_some(body)
    }

    /// Writes an entry, whole or not at all.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write(&self, name: Name, body: &[u8]) -> Result<(), Trouble> {
        if self.read_only {
            return Ok(());
        }
        let path = self.path(name);
        if let Some(shard) = path.parent() {
            fs::create_dir_all(shard)?;
        }
        let temporary = path.with_extension(std::process::id().to_string());
        fs::write(&temporary, [body, &xxh3_128(body).to_be_bytes()].concat())?;
        Ok(fs::rename(&temporary, &path)?)
    }

    /// Counts an event.
    pub fn tell(&self, event: Event<'_>) {
        if self.read_only {
            return;
        }
        let line = match event {
            Event::DirectHit { saved_ms, bytes } => format!("d {saved_ms} {bytes}\n"),
            Event::PreprocessedHit { saved_ms, bytes } => format!("p {saved_ms} {bytes}\n"),
            Event::Miss { bytes } => format!("m {bytes}\n"),
            Event::Bypass(reason) => format!("b {reason}\n"),
            Event::Error(reason) => format!("e {reason}\n"),
        };
        let log = self.folder.join("events");
        if let Ok(mut log) = OpenOptions::new().append(true).create(true).open(log) {
            // A lost count hurts nobody.
            let _ = log.write_all(line.as_bytes());
        }
    }
}
