//! Pragmas, pasted macros, and lines that still read something when the text is
//! compiled.

use hg_proto::compiler::toolchain::Family;
use hg_proto::options::args::Reason;
use memchr::memmem;

use super::whole_words::{MACROS, reason};
use crate::source::lex::{Words, hash_word, is_word, line_start, stands_alone, words};
use crate::source::pieces::{begins_counter, composable, parts_of};

/// Macros that use `__COUNTER__`, before we give up to follow them.
const COUNTER_MACROS_MAX: usize = 64;

/// `CAT(__DA, TE__)`: pieces of a macro's name. The first piece is `__D`, `__DA`
/// and so on, or bare underscores that are no function's name, and then the next
/// one is a distinctive piece of the rest.
pub(super) fn pasted_macro(user: &[u8]) -> Option<Reason> {
    let mut bare = false;
    for at in memchr::memchr_iter(b'_', user) {
        if at > 0 && is_word(user[at - 1]) {
            continue;
        }
        let len = user[at..]
            .iter()
            .take(20)
            .take_while(|byte| is_word(**byte))
            .count();
        let token = &user[at..at + len];
        if token == b"_" || token == b"__" {
            let next = user[at + len..].trim_ascii_start().first();
            bare |= next != Some(&b'(');
            continue;
        }
        if token.len() < 3 {
            continue;
        }
        for (name, code) in MACROS {
            if token.len() < name.len() && name.starts_with(token) {
                return reason(code, token);
            }
        }
    }
    if !bare {
        return None;
    }
    for (name, code) in MACROS {
        let stem = &name[2..name.len() - 2];
        for at in memmem::find_iter(user, stem) {
            let word = |byte: &&u8| is_word(**byte);
            let before = user[..at]
                .iter()
                .rev()
                .take(name.len())
                .take_while(word)
                .count();
            let after = user[at..].iter().take(name.len()).take_while(word).count();
            let token = &user[at - before..at + after];
            if memmem::find(name, token).is_some() {
                return reason(code, token);
            }
        }
    }
    None
}

/// Pragmas that read files, or that change what the preprocessor says while it
/// compiles but not while it only preprocesses (gcc 12: `__AVX2__` and the like).
pub(super) fn pragma(user: &[u8], family: Family) -> Option<Reason> {
    let mut made = false;
    for at in memmem::find_iter(user, b"ragma") {
        if !matches!(
            at.checked_sub(1).and_then(|at| user.get(at)),
            Some(b'p' | b'P')
        ) {
            continue;
        }
        let after = user[at + 5..].trim_ascii_start();
        let operator = user[at - 1] == b'P';
        if operator && after.starts_with(b"(") {
            let operand = after[1..].trim_ascii_start();
            made |= !matches!(operand.first(), Some(b'"' | b'L' | b'u' | b'U'));
        } else if operator {
            made = true;
        }
        let mut words = Words::at(user, at + 5);
        let first = words.next().unwrap_or_default();
        let second = words.next().unwrap_or_default();
        // The directive is carried out here; this one is again there, of one file.
        let code = (operator && first == b"once").then_some("pragma-once");
        if let Some(code) = code.or_else(|| bad_pragma(first, second, family)) {
            return reason(code, &[first, b" ", second].concat());
        }
    }
    if made {
        made_pragma(user, family)
    } else {
        None
    }
}

fn bad_pragma(first: &[u8], second: &[u8], family: Family) -> Option<&'static str> {
    match (first, second) {
        (b"GCC", _) if family == Family::Gcc && is_option_word(second) => Some("pragma-target"),
        (b"GCC", b"dependency" | b"pch_preprocess") => Some("pragma-file"),
        (b"clang", b"module" | b"__debug" | b"include_instead") => Some("pragma-file"),
        (b"include_alias" | b"hdrstop", _) if family == Family::Clang => Some("pragma-file"),
        _ => None,
    }
}

const OPTION_WORDS: [&[u8]; 5] = [
    b"target",
    b"optimize",
    b"push_options",
    b"pop_options",
    b"reset_options",
];

pub(super) fn is_option_word(word: &[u8]) -> bool {
    OPTION_WORDS.contains(&word)
}

/// Whether `text` has a word by which a pragma of gcc may change options, with what it is
/// given, or pieces of one.
pub(crate) fn names_options(text: &[u8]) -> bool {
    let named = |at: usize, name: &[u8]| {
        let given = text[at + name.len()..].trim_ascii_start().starts_with(b"(");
        // `#pragma optimize("", off)` is another compiler's.
        let other = text[..at].trim_ascii_end().ends_with(b"pragma");
        stands_alone(text, at, name.len()) && !other && (given || name.ends_with(b"options"))
    };
    let whole = |name: &&[u8]| memmem::find_iter(text, name).any(|at| named(at, name));
    OPTION_WORDS.iter().any(whole) || is_made(text, &OPTION_WORDS)
}

/// Whether one of `names` is a word of `text`, or can be pasted from its words.
pub(super) fn is_there(text: &[u8], names: &[&[u8]]) -> bool {
    let whole = |name: &&[u8]| {
        let mut found = memmem::find_iter(text, name);
        found.any(|at| stands_alone(text, at, name.len()))
    };
    names.iter().any(whole) || is_made(text, names)
}

/// Whether one of `names` can be pasted from words of `text`, of two letters or more.
pub(super) fn is_made(text: &[u8], names: &[&[u8]]) -> bool {
    if memmem::find(text, b"##").is_none() {
        return false;
    }
    let parts = parts_of(names, words(text).filter(|word| word.len() > 1));
    names
        .iter()
        .any(|name| composable(name, parts.iter().copied()))
}

/// `_Pragma` of something that is no plain string: its words may be anywhere.
fn made_pragma(user: &[u8], family: Family) -> Option<Reason> {
    for at in memmem::find_iter(user, b"GCC") {
        let mut words = Words::at(user, at);
        let (first, second) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        if let Some(code) = bad_pragma(first, second, family) {
            return reason(code, &[first, b" ", second].concat());
        }
    }
    if is_there(user, &[b"once"]) {
        return reason("pragma-once", b"once");
    }
    if family != Family::Gcc {
        return None;
    }
    if is_made(user, &OPTION_WORDS) {
        return reason("pragma-target", b"pasted");
    }
    for word in OPTION_WORDS {
        for at in memmem::find_iter(user, word) {
            if !stands_alone(user, at, word.len()) {
                continue;
            }
            let called = user[at + word.len()..].trim_ascii_start().first() == Some(&b'(');
            let attribute = user[..at].trim_ascii_end().ends_with(b"((");
            if word.ends_with(b"options") || (called && !attribute && in_define(user, at)) {
                return reason("pragma-target", word);
            }
        }
    }
    None
}

/// Whether the line of `at` is a `#define`; `true` when the line is too long.
fn in_define(user: &[u8], at: usize) -> bool {
    line_start(user, at).is_none_or(|start| hash_word(&user[start..]) == b"define")
}

/// Lines that still read something when the text is compiled, or that were
/// counted on already: `#embed`, modules, `__COUNTER__` in a condition.
pub(super) fn directive(user: &[u8], family: Family) -> Option<Reason> {
    if memmem::find(user, b"embed").is_some()
        && user
            .split(|byte| *byte == b'\n')
            .any(|line| hash_word(line) == b"embed")
    {
        return reason("embed", b"#embed");
    }
    for word in [&b"import"[..], b"module"] {
        for at in memmem::find_iter(user, word) {
            if is_module_line(user, at, word) {
                return reason("module", word);
            }
        }
    }
    if family == Family::Clang && begins_counter(user) {
        return reason("counter-in-condition", b"pasted");
    }
    if family == Family::Clang && memmem::find(user, b"__COUNTER__").is_some() {
        return counted(user);
    }
    None
}

/// `import <x>;`, `export module m;` and the like, at the start of a line.
fn is_module_line(user: &[u8], at: usize, word: &[u8]) -> bool {
    if !stands_alone(user, at, word.len()) {
        return false;
    }
    let near = line_start(user, at).unwrap_or(at);
    if !matches!(user[near..at].trim_ascii(), b"" | b"export") {
        return false;
    }
    let rest = &user[at + word.len()..];
    match rest.trim_ascii_start().first() {
        Some(b';' | b':') => word == b"module" || rest.first() != Some(&b';'),
        Some(b'<' | b'"') => word == b"import",
        Some(byte) => is_word(*byte) && rest.first().is_some_and(u8::is_ascii_whitespace),
        None => false,
    }
}

/// clang replaces conditions by their value, so a `__COUNTER__` in one would not
/// be counted again.
fn counted(user: &[u8]) -> Option<Reason> {
    let mut names: Vec<&[u8]> = vec![b"__COUNTER__"];
    let mut seen = 0;
    // Each round learns the macros that use one known so far; bounded by their number.
    while seen < names.len() {
        let name = names[seen];
        seen += 1;
        for at in memmem::find_iter(user, name) {
            if !stands_alone(user, at, name.len()) {
                continue;
            }
            let Some(start) = line_start(user, at) else {
                return reason("counter-in-condition", name);
            };
            match hash_word(&user[start..]) {
                b"if" | b"elif" => return reason("counter-in-condition", name),
                b"define" => {
                    let line = &user[start..at];
                    let after = memmem::find(line, b"define").map_or(start, |at| start + at + 6);
                    let defined = Words::at(user, after).next().unwrap_or_default();
                    if !defined.is_empty() && !names.contains(&defined) {
                        names.push(defined);
                    }
                }
                _ => {}
            }
            if names.len() > COUNTER_MACROS_MAX {
                return reason("counter-in-condition", name);
            }
        }
    }
    None
}
