//! Questions that gcc answers otherwise when it only preprocesses. Pure.

use super::signs::Signs;
use crate::source::pieces::merge;
use crate::source::questions::{makes_question, question_parts};
use crate::source::scan;

/// What the files of a compile have of questions about builtins: `__has_builtin` knows
/// what was declared before it, if there is a compile.
#[derive(Debug, Default)]
pub struct BuiltinQuestions {
    signs: Signs,
    parts: Vec<Vec<u8>>,
}

impl BuiltinQuestions {
    /// Adds a file of the user's.
    pub fn add(&mut self, text: &[u8]) {
        let code = scan::code_of(text).text;
        self.signs.add_questions(&code);
        merge(&mut self.parts, &question_parts(&code));
    }

    /// Whether there is one, or could be put together. What a system's header asks is
    /// answered the same.
    pub fn asks(&self) -> bool {
        self.signs.asks_of_compile(true) || makes_question(&self.parts)
    }
}
