//! Questions that gcc answers otherwise when it only preprocesses: `__has_builtin` knows
//! what was declared before it, if there is a compile. Pure.

use super::signs::Signs;
use crate::scan::{self, Scan};

/// What the files of a compile have of such questions.
#[derive(Debug, Default)]
pub struct BuiltinQuestions {
    signs: Signs,
    words: Scan,
}

impl BuiltinQuestions {
    /// Adds a file of the user's.
    pub fn add(&mut self, text: &[u8]) {
        let code = scan::code_of(text).text;
        self.signs.add_questions(&code);
        self.words.add_words(&scan::question_words(&code));
    }

    /// Whether there is one, or could be put together. What a system's header asks is
    /// answered the same.
    pub fn asks(&self) -> bool {
        self.signs.asks_of_compile(true) || self.words.makes_question()
    }
}
