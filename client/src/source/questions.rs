//! `__has_include` and `__has_builtin` whose names macros may paste together. Pure.

use memchr::memmem;

use super::pieces::{composable, parts_of};
use crate::source::lex::{self, Kind, Token, Tokens, is_word};

/// The questions whose names may be pasted together.
const QUESTIONS: [&[u8]; 2] = [b"__has_include", b"__has_builtin"];
/// Their beginning, which hardly any other name has.
const BEGINS: &[u8] = b"__has_";

/// Words of `code` that are parts of a question's name, each once. Only directives can ask,
/// so only their words count, without the names of macros and of their parameters.
pub fn question_parts(code: &[u8]) -> Vec<Vec<u8>> {
    parts_in(code, &QUESTIONS)
}

/// As [`question_parts`], of `names` of macros that directives call.
pub fn parts_in<N: AsRef<[u8]>>(code: &[u8], names: &[N]) -> Vec<Vec<u8>> {
    let names: Vec<&[u8]> = names.iter().map(AsRef::as_ref).collect();
    let parts = parts_of(&names, directive_words(code).into_iter());
    parts.into_iter().map(<[u8]>::to_vec).collect()
}

/// Words of the directives of `code` that a macro may be given.
fn directive_words(code: &[u8]) -> Vec<&[u8]> {
    let mut words = Vec::new();
    let marks = [&b"/*"[..], b"*/", b"//", b"R\""];
    let has_mark = |text: &[u8]| marks.iter().any(|mark| memmem::find(text, mark).is_some());
    let marked = has_mark(code);
    for line in code.split(|byte| *byte == b'\n') {
        let start = line.trim_ascii_start();
        let is_directive = start.starts_with(b"#") || start.starts_with(b"%:");
        // A comment that could not be taken out may end where a directive starts.
        let may_start = || marked && memmem::find(line, b"*/").is_some();
        if !is_directive && !may_start() {
            continue;
        }
        // In comments, and between digits, a quote is none.
        match marked && has_mark(line) || separates_digits(line) {
            true => words.extend(lex::words(line)),
            false => words.extend(words_of(start)),
        }
    }
    words
}

/// Whether `line` has a quote that may stand within a number.
fn separates_digits(line: &[u8]) -> bool {
    let separates = |at: usize| {
        let number = |byte: &u8| is_word(*byte) || b".+-".contains(byte);
        let before = at.checked_sub(1).and_then(|at| line.get(at));
        before.is_some_and(number) && line.get(at + 1).is_some_and(|byte| is_word(*byte))
    };
    memchr::memchr_iter(b'\'', line).any(separates)
}

/// The words of a directive, but for its name, and for those of a macro and its parameters.
fn words_of(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut tokens = Tokens::of(line).skip(1).peekable();
    let directive = tokens.next().map_or(&b""[..], |token| token.text);
    let parameters = match directive {
        b"define" => parameters(&mut tokens),
        _ => Vec::new(),
    };
    let words = tokens.filter(|token| token.kind == Kind::Word);
    let words = words.map(|token| token.text);
    words.filter(move |word| !parameters.contains(word))
}

/// The parameters of the macro whose name comes next in `tokens`, up to its body.
fn parameters<'t>(
    tokens: &mut std::iter::Peekable<impl Iterator<Item = Token<'t>>>,
) -> Vec<&'t [u8]> {
    let Some(name) = tokens.next() else {
        return Vec::new();
    };
    let end = name.at + name.text.len();
    if tokens
        .next_if(|open| open.text == b"(" && open.at == end)
        .is_none()
    {
        return Vec::new();
    }
    let within = tokens.by_ref().take_while(|token| token.text != b")");
    within.map(|token| token.text).collect()
}

/// Whether a question's name could be put together from `parts`.
pub fn makes_question(parts: &[Vec<u8>]) -> bool {
    let begins = |part: &Vec<u8>| part.starts_with(BEGINS);
    let all = || parts.iter().map(Vec::as_slice);
    parts.iter().any(begins) || QUESTIONS.iter().any(|name| composable(name, all()))
}

/// Whether `name` could be put together from `parts`.
pub fn makes(name: &[u8], parts: &[Vec<u8>]) -> bool {
    // One of several names may be a part of another.
    let others = parts.iter().map(Vec::as_slice).filter(|part| *part != name);
    composable(name, others)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn makes(files: &[&str]) -> bool {
        let parts = files
            .iter()
            .flat_map(|file| question_parts(file.as_bytes()));
        makes_question(&parts.collect::<Vec<_>>())
    }

    #[test]
    fn names_that_are_put_together() {
        for files in [
            &["#if CAT(__has_,include)(<a.h>)"][..],
            &["#if CAT(__has_inc EMPTY, lude)(<a.h>)"],
            &["#if CAT(__, has_include)(<a.h>)"],
            &["#if CAT(__h EMPTY, as_include)(<a.h>)"],
            &["#define A __has\n", "#if CAT(A, _include)(<a.h>)"],
            &["#define A(x) __h##x", "#define B as_include"],
            &["#define A(x) F(__h, x)\n#define B as_include(x)"],
            &[
                "#define A (__h)\n#define B as\n#define C _\n",
                "#if D(include)",
            ],
            &["# define A x, __h\n", "#define A(x) x%:%:as_include"],
            &["#define Q __ha##s_include(\"x.h\")"],
            &["#define Q __has##_builtin(strlen)"],
            &["#define A __ha\n#define B(x) s_include(x)\n"],
            &["#define U __\n", "#if CAT(U,has_builtin)(strlen)"],
            &["#define U _\n", "#if C(C(U,U),has_include)(<a.h>)"],
            &["/*\n*/ # define A __has_\n"],
            &["#define A __has_ // *\n"],
            &["#define A \"*/\" __has_\n"],
            &["# /* don't */ define A __has_\n"],
            &["/* don't */ #define A __has_\n"],
            &["#if 1'0 == 10 && CAT(__ha, s_include)(<a.h>)"],
            &["#if SECOND(1.'0, CAT(__ha, s_include)(<a.h>))"],
            &["#define A R\"(\" __has_ )\"\n"],
        ] {
            assert!(makes(files), "{files:?}");
        }
    }

    #[test]
    fn names_that_are_not() {
        for files in [
            &["#if __has_include(<a.h>) && __has_builtin(__builtin_trap)"][..],
            &[
                "#define F(h) ({ struct s *__h = (h); grow(__h); })\n#define G(x) _##x\n#include <a.h>",
            ],
            &["int f(int __h) { return CAT(__h, as_include); }"],
            &["#define A(__has, _include) __has##_include"],
            &["#define A \"__has_\" '_' __h\n"],
            &["#define _(x) gettext(x)\n#define __h 1\n#define as_include 2"],
        ] {
            assert!(!makes(files), "{files:?}");
        }
    }
}
