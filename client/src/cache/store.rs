//! Keeps what a compile gave, with the facts under which it holds.

use std::path::Path;

use bytes::Bytes;
use hg_proto::options::args::{Compile, Dialect, Reason};
use memchr::memmem;
use prost::Message;

use crate::cache::answer::{Answer, Output};
use crate::cache::disk::entries::{Cache, Name, Trouble};
use crate::cache::lookup::{Lookup, answer_name, manifest_name, text_name, trail_name};
use crate::cache::manifest::{Facts, Manifest};
use crate::includes::closure::{
    self, COMPUTED_QUESTION, Closure, Folders, Listed, Settled, is_doubt,
};
use crate::includes::facts;
use crate::includes::question::question;
use crate::includes::watch::Watch;
use crate::key::{Key, Part};
use crate::os;

/// Reasons of files that were written a moment ago: the next time there may be none.
const PASSING: [&str; 2] = ["too-new", "input-changed"];

/// What a compile gave.
#[derive(Debug)]
pub struct Compiled {
    /// Object or assembly.
    pub object: Output,
    /// Dependency file.
    pub dependencies: Option<Output>,
    /// Said on stderr.
    pub stderr: Vec<u8>,
    /// What the compiler says it read.
    pub listed: Listed,
    /// All that it could read, where that was gathered before.
    pub closure: Option<Closure>,
    /// Milliseconds from start to end.
    pub compile_ms: u64,
}

/// What is to be kept, and what it hangs on.
#[derive(Debug)]
pub struct Made<'a> {
    /// What the compile gave.
    pub result: Compiled,
    /// Files with arguments.
    pub responses: &'a [Vec<u8>],
    /// When it began, from [`Lookup::begin`].
    pub began_ns: i64,
    /// Folders that were watched since.
    pub watch: &'a Watch,
    /// The file in which the system's headers are remembered.
    pub headers: Option<&'a Path>,
    /// The text that it was made of.
    pub text: ByText<'a>,
    /// The base folder for which the text was asked for.
    pub base: Option<&'a [u8]>,
}

/// Whether a result can be kept by the text that it was made of.
#[derive(Debug)]
pub enum ByText<'a> {
    /// Nobody has asked the preprocessor.
    Untried,
    /// Its text does not stand for the compile.
    Unfit(Reason),
    /// It can.
    Known(Shared<'a>),
}

/// A text under which an object may be kept.
#[derive(Debug)]
pub struct Shared<'a> {
    /// What the object hangs on.
    pub key: &'a Key,
    /// The folder that the object must not name.
    pub base: Option<&'a [u8]>,
}

/// The last question about a source.
#[derive(Clone, PartialEq, Message)]
pub struct Trail {
    /// What it was made of.
    #[prost(message, repeated, tag = "1")]
    pub parts: Vec<Part>,
    /// Why no facts are kept of it; empty: they are.
    #[prost(string, tag = "2")]
    pub refused: String,
}

impl Trail {
    /// Reads a trail's entry. `None`: it is none.
    pub fn read(body: Vec<u8>) -> Option<Trail> {
        Trail::decode(&body[..]).ok()
    }

    /// Where the manifest of that question lies.
    pub fn manifest(&self) -> Name {
        manifest_name(&Key::of(self.parts.clone()))
    }
}

/// Why nothing was kept.
#[derive(Debug)]
pub enum Refused {
    /// The compile is not one to keep.
    Compile(Reason),
    /// It can be kept by its text alone, for which nobody has asked yet: the next
    /// compile will.
    Untried(Reason),
    /// The cache can't.
    Cache(Trouble),
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Refused::Compile(reason)
    }
}

impl From<Trouble> for Refused {
    fn from(trouble: Trouble) -> Self {
        Refused::Cache(trouble)
    }
}

/// Keeps `made`. Returns the bytes of its outputs. `settle` has the preprocessor say
/// what the files leave in doubt.
///
/// # Errors
/// Why not.
pub fn store(
    lookup: &Lookup,
    compile: &Compile,
    dialect: Dialect,
    folders: &Folders,
    made: &Made<'_>,
    settle: impl FnOnce() -> Result<Settled, Reason>,
) -> Result<u64, Refused> {
    let closure = match made.result.closure.clone() {
        Some(closure) => Ok(closure),
        None => follow(compile, dialect, folders, made, settle),
    };
    let closure = match closure {
        Err(reason) if reason.code == COMPUTED_QUESTION => {
            return store_text(lookup, compile, made, reason);
        }
        closure => closure?,
    };
    if let ByText::Known(text) = &made.text {
        // Where it can't, the facts will do.
        let _ = keep_text(&lookup.cache, text, made)?;
    }
    let answer = Answer {
        object: made.result.object.clone(),
        dependencies: made.result.dependencies.clone(),
        stderr: made.result.stderr.clone().into(),
        terminal: lookup.terminal.clone().into(),
        compile_ms: made.result.compile_ms,
    };
    let name = Bytes::copy_from_slice(&answer_key(lookup, &closure, &answer).digest());
    let cache = &lookup.cache;
    if let Some(entry) = answer_name(&name) {
        cache.write(entry, &answer.encode_to_vec())?;
    }
    let facts = Facts {
        answer: name,
        files: closure.files,
        folders: closure.folders,
        base: Bytes::copy_from_slice(made.base.unwrap_or_default()),
    };
    keep_facts(lookup, facts)?;
    leave_trail(lookup, &compile.source, None)?;
    Ok(answer.size())
}

/// Keeps by its text alone what can't be followed, for `reason`.
fn store_text(
    lookup: &Lookup,
    compile: &Compile,
    made: &Made<'_>,
    reason: Reason,
) -> Result<u64, Refused> {
    let unfit = match &made.text {
        ByText::Known(text) => keep_text(&lookup.cache, text, made)?.err(),
        ByText::Unfit(why) => Some(why.clone()),
        ByText::Untried => None,
    };
    // What is refused now may do after an edit.
    let mut manifest = known(lookup);
    manifest.textual = true;
    let name = manifest_name(&lookup.key);
    lookup.cache.write(name, &manifest.encode_to_vec())?;
    match (unfit, &made.text) {
        (Some(why), _) => {
            let detail = format!("{} (by its text: {why})", reason.detail);
            Err(Refused::Compile(Reason { detail, ..reason }))
        }
        (None, ByText::Untried) => Err(Refused::Untried(reason)),
        (None, _) => {
            // Hits come here too, and the trail tells them nothing new.
            if !lookup.manifest.textual {
                leave_trail(lookup, &compile.source, Some(&reason))?;
            }
            Ok(made.result.object.size)
        }
    }
}

/// Keeps by its text too what is known by its facts as `name`: they held since
/// `made.began_ns`. Notes that this was done, or can't be. `settle` is as in [`store`].
///
/// # Errors
/// Why it is not done now.
pub fn share(
    lookup: &Lookup,
    compile: &Compile,
    dialect: Dialect,
    folders: &Folders,
    made: &Made<'_>,
    name: &Bytes,
    settle: impl FnOnce() -> Result<Settled, Reason>,
) -> Result<(), Refused> {
    if let ByText::Known(text) = &made.text {
        match follow(compile, dialect, folders, made, settle) {
            Ok(_) => {
                // The note is the same if it can't.
                let _ = keep_text(&lookup.cache, text, made)?;
            }
            Err(reason) if PASSING.contains(&reason.code) => return Err(reason.into()),
            Err(_) => {}
        }
    }
    let mut manifest = known(lookup);
    for set in manifest.sets.iter_mut().filter(|set| set.answer == name) {
        set.base = Bytes::copy_from_slice(made.base.unwrap_or_default());
    }
    let name = manifest_name(&lookup.key);
    Ok(lookup.cache.write(name, &manifest.encode_to_vec())?)
}

/// Everything that the compile could have read, from what lies there now.
fn follow(
    compile: &Compile,
    dialect: Dialect,
    folders: &Folders,
    made: &Made<'_>,
    settle: impl FnOnce() -> Result<Settled, Reason>,
) -> Result<Closure, Reason> {
    let (responses, listed) = (made.responses, &made.result.listed);
    let mut question = question(compile, dialect, responses, folders, listed, made.watch);
    question.began_ns = made.began_ns;
    question.headers = made.headers;
    match closure::gather(&question) {
        Err(doubt) if is_doubt(&doubt) => {
            let settled = settle().map_err(|why| match why.code == doubt.code {
                // It is as it looks, and the files say more of what it is.
                true => doubt,
                false => in_doubt(why, &doubt),
            })?;
            question.settled = Some(&settled);
            closure::gather(&question)
        }
        closure => closure,
    }
}

/// Why the preprocessor could not settle `doubt`: without that nobody had asked it.
fn in_doubt(why: Reason, doubt: &Reason) -> Reason {
    let detail = format!("{} (in doubt: {doubt})", why.detail);
    Reason {
        detail: detail.trim_start().to_owned(),
        ..why
    }
}

/// Keeps an object under its text. What was said quotes lines of files, and is
/// never said again on account of a text. The inner error is why it can't be kept.
fn keep_text(
    cache: &Cache,
    text: &Shared<'_>,
    made: &Made<'_>,
) -> Result<Result<(), Reason>, Trouble> {
    if !made.result.stderr.is_empty() {
        return Ok(Err(Reason::new("diagnostics", b"")));
    }
    if let Some(base) = text.base {
        let content = made.result.object.content();
        if content.map_or(true, |content| memmem::find(&content, base).is_some()) {
            return Ok(Err(Reason::new("base-folder", base)));
        }
    }
    let answer = Answer {
        object: made.result.object.clone(),
        compile_ms: made.result.compile_ms,
        ..Answer::default()
    };
    cache
        .write(text_name(text.key), &answer.encode_to_vec())
        .map(Ok)
}

fn known(lookup: &Lookup) -> Manifest {
    // Another process may have added to it since we looked.
    lookup
        .cache
        .read(manifest_name(&lookup.key))
        .and_then(Manifest::read)
        .unwrap_or_default()
}

/// Adds `facts` to what is known about a question.
///
/// # Errors
/// The cache can't be written.
pub fn keep_facts(lookup: &Lookup, facts: Facts) -> Result<(), Trouble> {
    let mut manifest = known(lookup);
    manifest.add(facts);
    let name = manifest_name(&lookup.key);
    lookup.cache.write(name, &manifest.encode_to_vec())
}

/// Notes the last question about `source`, and why no facts are kept of it.
///
/// # Errors
/// The cache can't be written.
pub fn leave_trail(
    lookup: &Lookup,
    source: &[u8],
    refused: Option<&Reason>,
) -> Result<(), Trouble> {
    let trail = Trail {
        parts: lookup.key.parts().to_vec(),
        refused: refused.map(Reason::to_string).unwrap_or_default(),
    };
    let folder = std::env::current_dir().unwrap_or_default();
    let name = trail_name(&folder, source);
    lookup.cache.write(name, &trail.encode_to_vec())
}

/// The same content under the same question is the same answer.
fn answer_key(lookup: &Lookup, closure: &Closure, answer: &Answer) -> Key {
    let mut key = Key::default();
    key.add("question", &lookup.key.digest());
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

/// What the compiler wrote to `path`, before `ended_ns`: what was written
/// later is another one's.
///
/// # Errors
/// It can't be told.
pub fn written(path: &Path, ended_ns: i64) -> Result<Output, Reason> {
    let (content, read) = facts::read(os::bytes(path.as_os_str()))
        .map_err(|error| Reason::new("output", error.to_string().as_bytes()))?;
    let whole = read.stat.size == content.len() as u64;
    match whole && read.stat.youngest_ns() <= ended_ns {
        true => Ok(Output::keep(content)),
        false => Err(Reason::new("output-changed", os::bytes(path.as_os_str()))),
    }
}
