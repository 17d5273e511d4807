//! Words that make a text a hazard wherever they stand: macros whose value is not in the
//! text, and directives by which an assembler reads files. Pure.

use hg_proto::options::args::Reason;
use memchr::memmem;

use crate::source::code::without_comments;
use crate::source::lex::{splice, stands_alone};

/// How many of [`MACROS`] change with time.
pub(crate) const CLOCK_MACROS: usize = 3;

/// Macros whose value is not in the text: the clock and the file's time, and what gcc takes
/// from the name of the text (clang takes it from the line markers).
pub(crate) static MACROS: [(&[u8], &str); 5] = [
    (b"__DATE__", TIME_MACRO),
    (b"__TIME__", TIME_MACRO),
    (b"__TIMESTAMP__", TIME_MACRO),
    (b"__BASE_FILE__", "base-file-macro"),
    (b"__INCLUDE_LEVEL__", "base-file-macro"),
];

/// The reason of a text that changes with time.
pub const TIME_MACRO: &str = "time-macro";

/// The reason of assembler text that may read a file.
pub const ASM_FILE_DIRECTIVE: &str = "asm-file-directive";

/// A clock, or a file that the assembler may read, by its whole name. A source's own
/// name, and how deep it is included, are in the key.
pub(crate) fn clock_or_file(text: &[u8]) -> Option<Reason> {
    words_among(text, &MACROS[..CLOCK_MACROS])
}

/// A clock by its whole name.
pub(crate) fn clock(text: &[u8]) -> Option<Reason> {
    macros_among(text, &MACROS[..CLOCK_MACROS])
}

/// A hazard of this `code`.
pub(crate) fn reason(code: &'static str, detail: &[u8]) -> Option<Reason> {
    Some(Reason::new(code, detail))
}

/// A whole word that makes `text` a hazard, outside of comments.
pub(crate) fn whole_words(text: &[u8]) -> Option<Reason> {
    let found = words_among(text, &MACROS)?;
    // In a comment it is nothing; rare enough to look twice.
    match without_comments(&splice(text)) {
        Some(code) => words_among(&code, &MACROS),
        None => Some(found),
    }
}

/// One of `macros`, or an assembler's word, even in a comment.
pub(crate) fn words_among(text: &[u8], macros: &[(&'static [u8], &'static str)]) -> Option<Reason> {
    if let Some(found) = macros_among(text, macros) {
        return Some(found);
    }
    for word in [&b"incbin"[..], b"INCBIN"] {
        if memmem::find(text, word).is_some() {
            return reason(ASM_FILE_DIRECTIVE, word);
        }
    }
    None
}

/// One of `macros`, even in a comment.
fn macros_among(text: &[u8], macros: &[(&'static [u8], &'static str)]) -> Option<Reason> {
    for (name, code) in macros {
        // The part after the underscores is rarer, so that the search is faster.
        let rare = &name[2..];
        for at in memmem::find_iter(text, rare) {
            let Some(start) = at.checked_sub(2) else {
                continue;
            };
            if text[start..].starts_with(name) && stands_alone(text, start, name.len()) {
                return reason(code, name);
            }
        }
    }
    None
}
