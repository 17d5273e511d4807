//! Hazards: text that another machine would compile or warn of otherwise. Pure; unaware of
//! where the text came from and of how it travels.
//!
//! The text keeps its macros (`gcc -E -fdirectives-only`, `clang -E
//! -frewrite-includes`), so a hazard can be spelled in pieces. Whole words are
//! looked for everywhere; pieces only in *user text*: what does not come from
//! the system's own header folders. When in doubt, a text is a hazard.

mod assembled;
mod assembler;
mod builtin_questions;
mod falling;
mod markers;
mod odd;
mod operands;
mod packing;
mod pragmas;
mod signs;
pub(crate) mod whole_words;

use std::borrow::Cow;

use hg_proto::compiler::toolchain::Family;
use hg_proto::options::args::{CLOCK_MARK, Reason};
use memchr::memmem;

use crate::source::code::{without_comments, without_raw_strings};
use crate::source::lex::{Words, hash_word, line_start, splice, stands_alone};
use crate::source::pieces::Pieces;
pub(crate) use crate::source::pieces::{composable, merge, parts_of};
pub use crate::source::questions::{makes, makes_question, parts_in, question_parts};
pub use assembled::{Assembled, AssemblerFile};
use assembler::{
    assembler, assembler_expanded, assembler_in, file_words, has_attribute, names_file,
    numbered_lines, templates_expanded,
};
pub use builtin_questions::BuiltinQuestions;
pub use falling::{LEVEL_DEFAULT, LEVEL_NEVER, falls_into_condition};
pub(crate) use markers::is_system;
pub use markers::user_text;
use markers::{Markers, open_end, unescape};
pub use odd::{ODD_SPELLING, odd_slashes};
use odd::{odd_line, odd_spelling};
pub use packing::packs_across_files;
pub(crate) use pragmas::names_options;
use pragmas::{directive, is_option_word, is_there, pasted_macro, pragma};
pub use signs::Signs;
pub use whole_words::{ASM_FILE_DIRECTIVE, TIME_MACRO};
use whole_words::{MACROS, clock, clock_or_file, reason, whole_words};

/// Why `text`, made by a preprocessor of `family`, must be compiled here; `None`
/// when it means the same everywhere. Total: any bytes will do.
pub fn find(text: &[u8], family: Family) -> Option<Reason> {
    if let Some(reason) = whole_words(text) {
        return Some(reason);
    }
    let user = user_text(text);
    if open_end(text) {
        return reason("open-end", b"\\");
    }
    let spliced = splice(&user);
    if let Cow::Owned(spliced) = &spliced
        && let Some(reason) = whole_words(spliced)
    {
        return Some(reason);
    }
    let code = without_comments(&spliced);
    let pasted = match &code {
        None => pasted_macro(&spliced),
        Some(code) => {
            let mut pieces = Pieces::of(&MACROS);
            pieces.add(code);
            pieces.reason()
        }
    };
    pasted
        .or_else(|| pragma(&spliced, family))
        .or_else(|| directive(&spliced, family))
        .or_else(|| match &code {
            None => assembler(&spliced),
            Some(code) => assembler_in(code),
        })
        .or_else(|| odd_spelling(&user))
        .or_else(|| (family == Family::Gcc).then(|| odd_line(text))?)
        .or_else(|| numbered_lines(&user))
}

/// What the assembler reads of a C or C++ text: `text` is preprocessed by a compiler of
/// `family`, its macros expanded, with [`CLOCK_MARK`] where the time would be. `modern`: its
/// dialect has raw strings and separators of digits.
///
/// # Errors
/// The hazard in it: it changes with time, or may make the assembler read a file that can't
/// be told.
pub fn find_expanded(text: &[u8], family: Family, modern: bool) -> Result<Assembled, Reason> {
    refuse_clock(text)?;
    // clang leaves macros in these for later.
    if family == Family::Clang
        && let Some(why) = expanded_late(text)
    {
        return Err(why);
    }
    let odd = || reason(ASM_FILE_DIRECTIVE, b"odd text");
    let hazard = match without_raw_strings(text, modern) {
        None => odd(),
        Some(text) => match without_comments(&text) {
            None => clock_or_file(&text)
                .or_else(|| names_file(&text))
                .or_else(|| assembler(&text))
                .or_else(|| has_attribute(&text).then(odd)?),
            // Hardly any text has one.
            Some(code) if file_words(&code) > 0 => return templates_expanded(&code),
            Some(code) => assembler_expanded(&code),
        },
    };
    hazard.map_or_else(|| Ok(Assembled::default()), Err)
}

/// What the assembler reads of assembler text that was preprocessed like a text for
/// [`find_expanded`].
///
/// # Errors
/// As that.
pub fn find_assembled(text: &[u8]) -> Result<Assembled, Reason> {
    refuse_clock(text)?;
    let mut assembled = Assembled::default();
    assembled.add(text)?;
    Ok(assembled)
}

fn refuse_clock(text: &[u8]) -> Result<(), Reason> {
    let marked = memmem::find(text, CLOCK_MARK.as_bytes()).is_some();
    let mark = || reason(TIME_MACRO, b"when preprocessed");
    let hazard = marked.then(mark).flatten().or_else(|| clock(text));
    hazard.map_or(Ok(()), Err)
}

/// A pragma of gcc that changes which macros there are, in preprocessed text: they follow
/// it while gcc compiles, not while it preprocesses.
pub fn carried_out_late(text: &[u8]) -> Option<Reason> {
    memmem::find_iter(text, b"pragma").find_map(|at| {
        let mut words = Words::at(text, at + b"pragma".len());
        let gcc = words.next() == Some(b"GCC");
        let option = words.next().filter(|word| gcc && is_option_word(word))?;
        reason("pragma-target", option)
    })
}

/// A pragma whose words clang expands only when it compiles.
fn expanded_late(text: &[u8]) -> Option<Reason> {
    // Their words are never macros, or are expanded in what the preprocessor says too.
    const EARLY: [&[u8]; 14] = [
        b"GCC",
        b"STDC",
        b"once",
        b"pack",
        b"push_macro",
        b"pop_macro",
        b"weak",
        b"message",
        b"redefine_extname",
        b"region",
        b"endregion",
        b"mark",
        b"warning",
        b"optimize",
    ];
    const EARLY_OF_CLANG: [&[u8]; 5] = [
        b"diagnostic",
        b"system_header",
        b"assume_nonnull",
        b"poison",
        b"deprecated",
    ];
    memmem::find_iter(text, b"pragma").find_map(|at| {
        let start = line_start(text, at)?;
        if hash_word(&text[start..]) != b"pragma" {
            return None;
        }
        let mut words = Words::at(text, at + b"pragma".len());
        let first = words.next().unwrap_or_default();
        let second = words.next().unwrap_or_default();
        let early = match first {
            b"clang" => EARLY_OF_CLANG.contains(&second),
            _ => EARLY.contains(&first),
        };
        let detail = [first, b" ", second].concat();
        (!early).then(|| Reason::new("late-pragma", &detail))
    })
}

/// The line that gcc 12 writes in place of a pragma that it has carried out.
const CARRIED_OUT: &[u8] = b"       ";

/// Why `text` can't stand for `file`: gcc 12's `-E -fdirectives-only` leaves these
/// pragmas out (plain `-E` does not). `source` is the file as it lies on disk;
/// `openmp`: one of `-fopenmp`, `-fopenmp-simd`, `-fopenacc` is on.
///
/// A pragma may stand in a group that is skipped, which the text does not show.
/// `message` is lost in silence only when no directive follows (else gcc warns or
/// crashes), and changes no object; of `pop_macro` and `poison` an empty line of a
/// certain length stays.
pub fn lost_pragma(text: &[u8], file: &[u8], source: &[u8], openmp: bool) -> Option<Reason> {
    let source = splice(source);
    for at in memmem::find_iter(&source, b"pragma") {
        let mut words = Words::at(&source, at + b"pragma".len());
        let first = words.next().unwrap_or_default();
        let lost = match first {
            b"redefine_extname" => true,
            b"omp" | b"acc" => openmp,
            b"message" => !directive_follows(&source[at..]),
            b"pop_macro" => carries_out(text, file, &source),
            b"GCC" => words.next() == Some(b"poison") && carries_out(text, file, &source),
            _ => false,
        };
        if lost {
            return reason("lost-pragma", first);
        }
    }
    None
}

/// Whether a directive that gcc would stumble over comes later.
fn directive_follows(source: &[u8]) -> bool {
    let mut lines = source.split(|byte| *byte == b'\n').skip(1);
    lines.any(|line| !matches!(hash_word(line), b"" | b"pragma"))
}

/// Whether `text` has more traces of pragmas carried out in `file` than those that
/// `source` has of the harmless ones.
fn carries_out(text: &[u8], file: &[u8], source: &[u8]) -> bool {
    let mut traces = 0;
    let mut from = None;
    for marker in Markers::of(text) {
        if let Some(from) = from {
            traces += count_traces(&text[from..marker.start]);
        }
        from = (unescape(marker.path) == file).then_some(marker.end);
    }
    traces += from.map_or(0, |from| count_traces(&text[from..]));
    let harmless = memmem::find_iter(source, b"pragma").filter(|at| {
        let mut words = Words::at(source, at + b"pragma".len());
        match words.next() {
            Some(b"once") => true,
            Some(b"GCC") => words.next() == Some(b"system_header"),
            _ => false,
        }
    });
    traces > harmless.count()
}

fn count_traces(part: &[u8]) -> usize {
    part.split(|byte| *byte == b'\n')
        .filter(|line| *line == CARRIED_OUT)
        .count()
}

/// Whether user text says of a pointer that it may be null, or not: then clang wants that said
/// of all pointers in a header.
pub fn names_nullability(user: &[u8]) -> bool {
    const NAMES: [&[u8]; 5] = [
        b"_Nonnull",
        b"_Nullable",
        b"_Nullable_result",
        b"_Null_unspecified",
        b"assume_nonnull",
    ];
    // Macros of Apple's targets; glibc has one of this name that is called.
    let of_apples = |name: &&[u8]| {
        memmem::find_iter(user, name).any(|at| {
            let called = user[at + name.len()..].trim_ascii_start().starts_with(b"(");
            let directive =
                line_start(user, at).is_some_and(|at| !hash_word(&user[at..]).is_empty());
            stands_alone(user, at, name.len()) && !called && !directive
        })
    };
    let apples = [&b"__nonnull"[..], b"__nullable", b"__null_unspecified"];
    is_there(user, &NAMES) || apples.iter().any(of_apples)
}

/// Whether lines of `file` end in several ways: clang counts one of them when it makes a
/// text, and all when it compiles.
pub fn mixes_newlines(file: &[u8]) -> bool {
    let Some(first) = memchr::memchr(b'\r', file) else {
        return false;
    };
    let odd_return = |at: usize| file.get(at + 1) != Some(&b'\n');
    let odd_newline = |at: usize| at == 0 || file[at - 1] != b'\r';
    memchr::memchr(b'\n', file) < Some(first)
        || memchr::memchr_iter(b'\r', file).any(odd_return)
        || memchr::memchr_iter(b'\n', file).any(odd_newline)
}

/// The files that `text` says it is made of, outside the system's folders, each
/// once, in order of appearance; paths as the compiler spells them.
pub fn user_files(text: &[u8]) -> Vec<Vec<u8>> {
    let mut files: Vec<Vec<u8>> = Vec::new();
    for marker in Markers::of(text) {
        // "/work//" is how -g says where the compiler runs.
        let no_file = marker.path.starts_with(b"<") || marker.path.ends_with(b"//");
        if no_file || is_system(marker.path) {
            continue;
        }
        let path = unescape(marker.path);
        // Neighbours repeat; the list of user files is short.
        if !files.contains(&path) {
            files.push(path);
        }
    }
    files
}

#[cfg(test)]
mod tests;
