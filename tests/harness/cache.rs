//! hgbuild's cache, as seen from outside: how it is switched on, what it says of
//! itself, and the files in its folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::command::{Outcome, run, scrubbed};
use crate::programs::programs;

/// What `hgbuild cache stats --json` says.
#[derive(Debug, Clone, Deserialize)]
pub struct Stats {
    /// Where it is.
    pub folder: PathBuf,
    /// Bytes in use.
    pub size_bytes: u64,
    /// Bytes that it may use.
    pub size_bytes_max: u64,
    /// Files that hold something.
    pub entries: u64,
    /// Answered by stat data or content of the headers alone.
    pub direct_hit: u64,
    /// Answered after a run of the preprocessor.
    pub preprocessed_hit: u64,
    /// Compiled, and stored if nothing went wrong.
    pub miss: u64,
    /// Not for the cache, by reason.
    pub bypass: BTreeMap<String, u64>,
    /// Trouble with the cache, by reason.
    pub error: BTreeMap<String, u64>,
    /// Bytes taken from it.
    pub bytes_read: u64,
    /// Bytes put into it.
    pub bytes_written: u64,
    /// Entries that had to go.
    pub evictions: u64,
    /// Bytes that had to go.
    pub evicted_bytes: u64,
    /// Milliseconds that hits saved.
    pub saved_ms: u64,
}

/// Switches the cache on for `command`, in `folder`, with its stock size.
pub fn switch_on<'a>(command: &'a mut Command, folder: &Path) -> &'a mut Command {
    command
        .env_remove("HG_CACHE_MAX_SIZE")
        .env("HG_CACHE_DIR", folder)
}

/// `hgbuild WORDS`, with the cache in `cache`.
pub fn hgbuild(words: &[&str], folder: &Path, home: &Path, cache: &Path) -> Command {
    let mut command = scrubbed(&programs().client, folder, home);
    command.args(words);
    switch_on(&mut command, cache);
    command
}

/// `hgbuild cache WORDS` to its end.
pub fn tool(words: &[&str], home: &Path, cache: &Path) -> Outcome {
    run(&mut hgbuild(
        &[&["cache"], words].concat(),
        home,
        home,
        cache,
    ))
}

/// What the cache says of itself.
///
/// # Errors
/// It says nothing that can be read: words.
pub fn stats(home: &Path, cache: &Path) -> Result<Stats, String> {
    let outcome = tool(&["stats", "--json"], home, cache);
    if !outcome.ok() {
        return Err(format!("cache stats: {}", outcome.words()));
    }
    serde_json::from_slice(&outcome.stdout)
        .map_err(|error| format!("cache stats: {error}: {}", outcome.words()))
}

/// Every regular file below `folder` and its bytes on disk's length, sorted by path.
pub fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        // An entry may go while we look.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => open.push(path),
                Ok(metadata) if metadata.is_file() => found.push((path, metadata.len())),
                _ => {}
            }
        }
    }
    found.sort();
    found
}
