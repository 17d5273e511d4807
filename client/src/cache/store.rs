//! Stores the result of a compile with the facts under which it holds.

use std::ffi::OsString;
use std::path::Path;

use bytes::Bytes;
use hg_proto::options::args::{Compile, Dialect, Reason};
use memchr::memmem;
use prost::Message;

use crate::cache::answer::{Answer, Output, SideFile};
use crate::cache::disk::entries::Cache;
use crate::cache::lookup::{
    Lookup, answer_name, manifest_name, manifest_of, text_name, trail_name,
};
use crate::cache::manifest::{Facts, Manifest};
use crate::includes::closure::{self, COMPUTED_QUESTION, Closure, Settled, is_doubt};
use crate::includes::dependency_list::Listed;
use crate::includes::search_path::SearchPath;
use crate::includes::stat;
use crate::includes::walk_input;
use crate::includes::watch::Watch;
use crate::invocation::identity;
use crate::key::{Key, Part};
use crate::os;
use hg_proto::disk::entries::{Name, Unusable};

/// Reasons of files that were written a moment ago: they are gone by the next compile.
const PASSING: [&str; 2] = ["too-new", "input-changed"];

/// The result of a compile.
#[derive(Debug)]
pub struct Compiled {
    /// Object or assembly.
    pub object: Output,
    /// Dependency file.
    pub dependencies: Option<Output>,
    /// Files beside these.
    pub sides: Vec<SideFile>,
    /// What it wrote to stderr.
    pub stderr: Vec<u8>,
    /// The compiler's own list of what it read.
    pub listed: Listed,
    /// All that it could have read, where that was gathered before the compile.
    pub closure: Option<Closure>,
    /// Milliseconds from start to end.
    pub compile_ms: u64,
}

/// A result, and what it depends on.
#[derive(Debug)]
pub struct Storable<'a> {
    /// The result.
    pub result: Compiled,
    /// Response files (`@file`) of the command line.
    pub responses: &'a [Vec<u8>],
    /// When the compile began, from [`Lookup::begin`].
    pub began_ns: i64,
    /// Folders that were watched since then.
    pub watch: &'a Watch,
    /// The file in which the system's headers are remembered.
    pub headers: Option<&'a Path>,
    /// Whether it can be stored under its preprocessed text.
    pub text: ByText<'a>,
    /// The base folder that was configured when the text was made.
    pub base: Option<&'a [u8]>,
}

/// Whether a result can be stored under its preprocessed text.
#[derive(Debug)]
pub enum ByText<'a> {
    /// No preprocessor ran.
    Untried,
    /// The text does not stand for the compile.
    Unfit(Reason),
    /// The result can be stored, under this key.
    Known(TextKey<'a>),
}

/// A preprocessed text as a key.
#[derive(Debug)]
pub struct TextKey<'a> {
    /// The key: text, command and toolchain.
    pub key: &'a Key,
    /// A folder that the object must not name: its text is the same in other checkouts.
    pub base: Option<&'a [u8]>,
}

/// The last cache key of a source, for `hgbuild explain` to compare the next one with.
#[derive(Clone, PartialEq, Message)]
pub struct Trail {
    /// What the key was made of.
    #[prost(message, repeated, tag = "1")]
    pub parts: Vec<Part>,
    /// Why no result is stored under it; empty: one is.
    #[prost(string, tag = "2")]
    pub refused: String,
}

impl Trail {
    /// Decodes an entry; `None`: it is no trail.
    pub fn read(body: Vec<u8>) -> Option<Trail> {
        Trail::decode(&body[..]).ok()
    }

    /// The entry of that key's manifest.
    pub fn manifest(&self) -> Name {
        manifest_name(&Key::of(self.parts.clone()))
    }
}

/// Why a result was not stored.
#[derive(Debug)]
pub enum NotStored {
    /// The compile is not one whose result can be stored.
    Compile(Reason),
    /// The result can be stored under its text alone, which the next compile will make.
    Untried(Reason),
    /// The cache can't be written.
    Cache(Unusable),
}

impl From<Reason> for NotStored {
    fn from(reason: Reason) -> Self {
        NotStored::Compile(reason)
    }
}

impl From<Unusable> for NotStored {
    fn from(trouble: Unusable) -> Self {
        NotStored::Cache(trouble)
    }
}

/// Stores `storable`; returns the bytes of its outputs. `settle` runs the preprocessor for
/// what the files leave in doubt.
///
/// # Errors
/// Why it was not stored.
pub fn store(
    lookup: &Lookup,
    compile: &Compile,
    dialect: Dialect,
    search_path: &SearchPath,
    storable: &Storable<'_>,
    settle: impl FnOnce() -> Result<Settled, Reason>,
) -> Result<u64, NotStored> {
    let closure = match storable.result.closure.clone() {
        Some(closure) => Ok(closure),
        None => gather_closure(compile, dialect, search_path, storable, settle),
    };
    let closure = match closure {
        Err(reason) if reason.code == COMPUTED_QUESTION => {
            return store_by_text_alone(lookup, compile, storable, reason);
        }
        closure => closure?,
    };
    if let ByText::Known(text) = &storable.text {
        // Where it can't, the facts will do.
        let _ = write_text_entry(&lookup.cache, text, storable)?;
    }
    let answer = Answer {
        object: storable.result.object.clone(),
        dependencies: storable.result.dependencies.clone(),
        stderr: storable.result.stderr.clone().into(),
        terminal: lookup.terminal.clone().into(),
        compile_ms: storable.result.compile_ms,
        sides: storable.result.sides.clone(),
    };
    let cache = &lookup.cache;
    let placed = identity::key_in_folder(&lookup.key).filter(|_| names_folder(&storable.result));
    if placed.is_some() {
        // Answers are kept for each folder apart from now on.
        change_manifest(cache, &lookup.key, |manifest| manifest.placed = true)?;
    }
    let key = placed.as_ref().unwrap_or(&lookup.key);
    let name = Bytes::copy_from_slice(&answer_key(key, &closure, &answer).digest());
    if let Some(entry) = answer_name(&name) {
        cache.write(entry, &answer.encode_to_vec())?;
    }
    let facts = Facts {
        answer: name,
        files: closure.files,
        folders: closure.folders,
        base: Bytes::copy_from_slice(storable.base.unwrap_or_default()),
    };
    add_facts(cache, key, facts)?;
    write_trail(cache, key, &compile.source, None)?;
    Ok(answer.size())
}

/// Whether the result of a compile that should not name the folder does: an assembler
/// writes it down, say, for the lines that a source gives by hand.
fn names_folder(result: &Compiled) -> bool {
    let folders = [std::env::current_dir().ok().map(Into::into), os::pwd()];
    let folders = folders
        .into_iter()
        .flatten()
        .map(|path: OsString| os::bytes(&path).to_vec());
    let object = result.object.content();
    folders.into_iter().any(|folder| {
        let names = |content: &[u8]| memmem::find(content, &folder).is_some();
        object.as_ref().map_or(true, |object| names(object)) || names(&result.stderr)
    })
}

/// Changes the manifest of `key`.
fn change_manifest(
    cache: &Cache,
    key: &Key,
    change: impl FnOnce(&mut Manifest),
) -> Result<(), Unusable> {
    // Another process may have added to it since the look-up.
    let mut manifest = manifest_of(cache, key);
    change(&mut manifest);
    cache.write(manifest_name(key), &manifest.encode_to_vec())
}

/// Stores under its text alone a result whose files can't be followed, for `reason`.
fn store_by_text_alone(
    lookup: &Lookup,
    compile: &Compile,
    storable: &Storable<'_>,
    reason: Reason,
) -> Result<u64, NotStored> {
    let unfit = match &storable.text {
        ByText::Known(text) => write_text_entry(&lookup.cache, text, storable)?.err(),
        ByText::Unfit(why) => Some(why.clone()),
        ByText::Untried => None,
    };
    // What is refused now may do after an edit.
    change_manifest(&lookup.cache, &lookup.key, |manifest| {
        manifest.textual = true;
    })?;
    match (unfit, &storable.text) {
        (Some(why), _) => {
            let detail = format!("{} (by its text: {why})", reason.detail);
            Err(NotStored::Compile(Reason { detail, ..reason }))
        }
        (None, ByText::Untried) => Err(NotStored::Untried(reason)),
        (None, _) => {
            // Hits come here too, and the trail tells them nothing new.
            if !lookup.manifest.textual {
                write_trail(&lookup.cache, &lookup.key, &compile.source, Some(&reason))?;
            }
            Ok(storable.result.object.size)
        }
    }
}

/// Stores the answer `name` under its text too; its facts held since
/// `storable.began_ns`. The manifest notes that this was done, or can't be. `settle` is as
/// in [`store`].
///
/// # Errors
/// Why it was not done now.
pub fn index_by_text(
    lookup: &Lookup,
    compile: &Compile,
    dialect: Dialect,
    search_path: &SearchPath,
    storable: &Storable<'_>,
    name: &Bytes,
    settle: impl FnOnce() -> Result<Settled, Reason>,
) -> Result<(), NotStored> {
    if let ByText::Known(text) = &storable.text {
        match gather_closure(compile, dialect, search_path, storable, settle) {
            Ok(_) => {
                // The note is the same if it can't.
                let _ = write_text_entry(&lookup.cache, text, storable)?;
            }
            Err(reason) if PASSING.contains(&reason.code) => return Err(reason.into()),
            Err(_) => {}
        }
    }
    change_manifest(&lookup.cache, &lookup.key, |manifest| {
        for set in manifest.sets.iter_mut().filter(|set| set.answer == name) {
            set.base = Bytes::copy_from_slice(storable.base.unwrap_or_default());
        }
    })?;
    Ok(())
}

/// Everything that the compile could have read, from the files as they are now.
fn gather_closure(
    compile: &Compile,
    dialect: Dialect,
    search_path: &SearchPath,
    storable: &Storable<'_>,
    settle: impl FnOnce() -> Result<Settled, Reason>,
) -> Result<Closure, Reason> {
    let (responses, listed) = (storable.responses, &storable.result.listed);
    let mut input = walk_input::of_compile(
        compile,
        dialect,
        responses,
        search_path,
        listed,
        storable.watch,
    );
    input.began_ns = storable.began_ns;
    input.headers = storable.headers;
    match closure::gather(&input) {
        Err(doubt) if is_doubt(&doubt, compile, dialect) => {
            let settled = settle().map_err(|why| match why.code == doubt.code {
                // The doubt was right, and the files say more of what it is.
                true => doubt,
                false => unsettled(why, &doubt),
            })?;
            input.settled = Some(&settled);
            closure::gather(&input)
        }
        closure => closure,
    }
}

/// Why the preprocessor could not settle `doubt`, for which alone it ran.
fn unsettled(why: Reason, doubt: &Reason) -> Reason {
    let detail = format!("{} (in doubt: {doubt})", why.detail);
    Reason {
        detail: detail.trim_start().to_owned(),
        ..why
    }
}

/// Writes the entry of an object under its text. Diagnostics quote lines of files, and are
/// never repeated on account of a text. The inner error is why the object can't be stored.
fn write_text_entry(
    cache: &Cache,
    text: &TextKey<'_>,
    storable: &Storable<'_>,
) -> Result<Result<(), Reason>, Unusable> {
    if !storable.result.stderr.is_empty() {
        return Ok(Err(Reason::new("diagnostics", b"")));
    }
    if let Some(base) = text.base {
        let content = storable.result.object.content();
        if content.map_or(true, |content| memmem::find(&content, base).is_some()) {
            return Ok(Err(Reason::new("base-folder", base)));
        }
    }
    let answer = Answer {
        object: storable.result.object.clone(),
        compile_ms: storable.result.compile_ms,
        ..Answer::default()
    };
    cache
        .write(text_name(text.key), &answer.encode_to_vec())
        .map(Ok)
}

/// Adds `facts` to the manifest of `key`.
///
/// # Errors
/// The cache can't be written.
pub fn add_facts(cache: &Cache, key: &Key, facts: Facts) -> Result<(), Unusable> {
    change_manifest(cache, key, |manifest| manifest.add(facts))
}

/// Writes the trail of `source`, whose key is `key`; `refused`: why no result is stored.
///
/// # Errors
/// The cache can't be written.
pub fn write_trail(
    cache: &Cache,
    key: &Key,
    source: &[u8],
    refused: Option<&Reason>,
) -> Result<(), Unusable> {
    let trail = Trail {
        parts: key.parts().to_vec(),
        refused: refused.map(Reason::to_string).unwrap_or_default(),
    };
    let folder = std::env::current_dir().unwrap_or_default();
    let name = trail_name(&folder, source);
    cache.write(name, &trail.encode_to_vec())
}

/// The same content under the same key is the same answer.
fn answer_key(question: &Key, closure: &Closure, answer: &Answer) -> Key {
    let mut key = Key::default();
    key.add("question", &question.digest());
    for file in &closure.files {
        key.add("file", &file.path);
        key.add("content", &file.digest);
    }
    // `__has_include` can tell folders apart where all files are the same.
    for folder in &closure.folders {
        key.add("folder", &folder.path);
        key.add("names", &folder.names);
    }
    if !answer.stderr.is_empty() {
        key.add("terminal", &answer.terminal);
    }
    key
}

/// What the compiler wrote to `path` before it ended at `ended_ns`: anything later is from
/// another process.
///
/// # Errors
/// The file can't be read, or was written later.
pub fn written(path: &Path, ended_ns: i64) -> Result<Output, Reason> {
    let (content, read) = stat::read(os::bytes(path.as_os_str()))
        .map_err(|error| Reason::new("output", error.to_string().as_bytes()))?;
    let whole = read.stat.size == content.len() as u64;
    match whole && read.stat.youngest_ns() <= ended_ns {
        true => Ok(Output::keep(content)),
        false => Err(Reason::new("output-changed", os::bytes(path.as_os_str()))),
    }
}
