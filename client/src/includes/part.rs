//! A file that a compile could read, and its answers about macros.

use hg_proto::options::args::Reason;
use hg_proto::wire::digest::Digest;
use memchr::memmem;

use crate::includes::headers::{HeaderRecord, MacroQuery};
use crate::includes::stat;
use crate::source::hazards::{self, Signs};
use crate::source::lex::words;
use crate::source::scan::{self, Header};

/// A file that could have been read.
#[derive(Debug)]
pub struct Part {
    /// Its path as the compiler would spell it.
    pub path: Vec<u8>,
    /// Its content; `None`: it was not read, since it is remembered.
    pub text: Option<Vec<u8>>,
    /// What is known of it, with the stat when it was read.
    pub known: HeaderRecord,
    /// The file may be remembered.
    pub(crate) lasting: bool,
    /// More is known of it than is remembered.
    pub(crate) learnt: bool,
}

impl Part {
    /// Finds out what its content says; nothing is done for one that is remembered.
    pub(crate) fn examine(&mut self) {
        let Some(text) = &self.text else {
            return;
        };
        let code = scan::code_of(text);
        self.known.scan = scan::scan(&code.text);
        self.known.defined = scan::defined_names(&code.text);
        self.known.once = once(&code.text);
        self.known.signs = Signs::of(&self.path, text, &code);
        if self.lasting {
            self.known.signs.complete(&self.path, text, &code);
            self.known.digest = Digest::of(text).as_bytes().to_vec();
        }
    }

    /// The file's answer about the macro `word`; `None`: it can't be told.
    ///
    /// # Errors
    /// The file has changed.
    pub fn query(&mut self, query: MacroQuery, word: &[u8]) -> Result<Option<Vec<Header>>, Reason> {
        let of_definitions = matches!(query, MacroQuery::Values | MacroQuery::Strings);
        if of_definitions && !scan::may_be_among(&self.known.defined, word) {
            return Ok(Some(Vec::new()));
        }
        if let Some(known) = self.known.answer(query, word) {
            return Ok(known);
        }
        let text = match self.text.take() {
            Some(text) => text,
            None => self.read()?,
        };
        let said = query.of(&text, word);
        self.text = Some(text);
        self.learnt |= self.lasting && self.known.learn(query, word, &said);
        Ok(said)
    }

    /// Reads the file once more.
    ///
    /// # Errors
    /// The file has changed.
    pub fn read(&self) -> Result<Vec<u8>, Reason> {
        let changed = || Reason::new("input-changed", &self.path);
        let (text, content) = stat::read(&self.path).map_err(|_| changed())?;
        match Some(content) == self.known.content() {
            true => Ok(text),
            false => Err(changed()),
        }
    }
}

/// Whether code may have a `#pragma once`, or a `_Pragma("once")` that some macro makes: it
/// has the word, or words that it can be pasted from.
fn once(code: &[u8]) -> bool {
    const ONCE: &[u8] = b"once";
    if memmem::find(code, ONCE).is_some() {
        return true;
    }
    let parts = || hazards::parts_of(&[ONCE], words(code));
    memmem::find(code, b"##").is_some() && hazards::composable(ONCE, parts().into_iter())
}
