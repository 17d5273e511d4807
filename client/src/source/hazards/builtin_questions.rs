//! `__has_builtin`, which gcc answers otherwise when it only preprocesses. Pure.

use super::signs::Signs;
use crate::source::pieces::merge;
use crate::source::questions::{makes_question, question_parts};
use crate::source::scan;

/// Collects `__has_builtin` from the files of a compile: where gcc compiles, it knows what was
/// declared before.
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

    /// Whether a file has one, or could paste one together. In a header of the system the
    /// answer is always the same.
    pub fn asks(&self) -> bool {
        self.signs.asks_of_compile(true) || makes_question(&self.parts)
    }
}
