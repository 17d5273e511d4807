//! One file that a compile could read, and what it says about macros.

use hg_proto::options::args::Reason;

use crate::includes::facts;
use crate::includes::headers::{Ask, Known};
use crate::source::scan::{self, Header};

/// A file that could have been read.
#[derive(Debug)]
pub struct Part {
    /// As the compiler would spell it.
    pub path: Vec<u8>,
    /// What it holds; `None`: nothing was to be learnt from reading it, since it is
    /// `known`.
    pub text: Option<Vec<u8>>,
    /// What it says. The stat is of the time of reading.
    pub known: Known,
    /// It is the system's, and nothing is wrong with it.
    pub(crate) lasting: bool,
    /// More was learnt of it than is remembered.
    pub(crate) learnt: bool,
}

impl Part {
    /// What it says about the macro `word`; `None`: nobody can say.
    ///
    /// # Errors
    /// It holds something else by now.
    pub fn ask(&mut self, ask: Ask, word: &[u8]) -> Result<Option<Vec<Header>>, Reason> {
        let of_definitions = matches!(ask, Ask::Values | Ask::Strings);
        if of_definitions && !scan::may_be_among(&self.known.defined, word) {
            return Ok(Some(Vec::new()));
        }
        if let Some(known) = self.known.answer(ask, word) {
            return Ok(known);
        }
        let text = match self.text.take() {
            Some(text) => text,
            None => self.read()?,
        };
        let said = ask.of(&text, word);
        self.text = Some(text);
        self.learnt |= self.lasting && self.known.learn(ask, word, &said);
        Ok(said)
    }

    /// What it holds, once more.
    ///
    /// # Errors
    /// It holds something else by now.
    pub fn read(&self) -> Result<Vec<u8>, Reason> {
        let changed = || Reason::new("input-changed", &self.path);
        let (text, content) = facts::read(&self.path).map_err(|_| changed())?;
        match Some(content) == self.known.content() {
            true => Ok(text),
            false => Err(changed()),
        }
    }
}
