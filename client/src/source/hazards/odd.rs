//! Rare spellings that compilers, their dialects and this program read in different ways.
//! Pure.

use hg_proto::options::args::Reason;
use memchr::memmem;

use super::whole_words::reason;
use crate::source::code::without_comments;
use crate::source::lex::{
    Tokens, blanks_at, hash_word, line_start, quoted_len, skip_blank, splice, splicing_trigraph,
};

/// The reason of a file with such a spelling.
pub const ODD_SPELLING: &str = "odd-spelling";

/// An odd spelling in a user's file: a trigraph, which only some dialects know, for a `#` or
/// a backslash; a digraph for a `#`; or a byte that only some take for a blank.
pub(super) fn odd_spelling(text: &[u8]) -> Option<Reason> {
    if let Some(at) = memchr::memchr2(0, 0x0b, text) {
        let byte = if text[at] == 0 { "NUL" } else { "vertical tab" };
        return reason(ODD_SPELLING, byte.as_bytes());
    }
    if let Some(at) = trigraph(text) {
        return reason(ODD_SPELLING, &text[at..at + 3]);
    }
    let spliced = &splice(text);
    if has_digraph(spliced) {
        return reason(ODD_SPELLING, b"%:");
    }
    has_made_ident(spliced).then(|| reason(ODD_SPELLING, b"#ident"))?
}

/// Where a trigraph for a `#` or a backslash is, unless it is in a comment that is the same
/// in dialects with trigraphs and without.
fn trigraph(text: &[u8]) -> Option<usize> {
    let means = |at: &usize| matches!(text.get(at + 2), Some(b'=' | b'/'));
    let first = memmem::find_iter(text, b"??").find(means)?;
    // What it joins it may move into a comment, or out of one.
    if let Some(at) = splicing_trigraph(text) {
        return Some(at);
    }
    // Where comments end is told only if there is none outside of them.
    match without_comments(&splice(text)) {
        Some(code) if memmem::find(&code, b"??=").is_none() => None,
        _ => Some(first),
    }
}

/// `#ident MADE(x)`: gcc hands on what that makes without its escapes, so that it may end
/// the string, and be anything to the assembler.
fn has_made_ident(text: &[u8]) -> bool {
    [&b"ident"[..], b"sccs"].iter().any(|name| {
        memmem::find_iter(text, name).any(|at| {
            let Some(start) = line_start(text, at) else {
                return false;
            };
            let plain = || skip_blank(&text[at + name.len()..]).starts_with(b"\"");
            hash_word(&text[start..]) == *name && !plain()
        })
    })
}

fn has_digraph(spliced: &[u8]) -> bool {
    const HASH: &[u8] = b"%:";
    if memmem::find(spliced, HASH).is_none() {
        return false;
    }
    match without_comments(spliced) {
        Some(code) => Tokens::of(&code).any(|token| code[token.at..].starts_with(HASH)),
        // It may be in a string; what it does is done at the start of a line, or twice.
        None => memmem::find_iter(spliced, HASH).any(|at| {
            let line = spliced[..at].rsplit(|byte| *byte == b'\n').next();
            let before = line.unwrap_or_default().trim_ascii();
            let twice = spliced[at + HASH.len()..].starts_with(HASH);
            before.is_empty() || before.ends_with(b"*/") || twice
        }),
    }
}

/// A line that gcc's `-fdirectives-only` reads otherwise than gcc does, in text that it made:
/// one that is continued behind blanks counts as two where a comment ends in it.
pub(super) fn odd_line(text: &[u8]) -> Option<Reason> {
    let goes_on = |at: usize| {
        let blanks = blanks_at(&text[at + 1..]);
        blanks > 0 && text.get(at + 1 + blanks) == Some(&b'\n')
    };
    memchr::memchr_iter(b'\\', text)
        .any(goes_on)
        .then(|| reason(ODD_SPELLING, b"blanks after a backslash"))?
}

/// The `//` in a user's text of C90, to which it is no comment.
pub fn odd_slashes(user: &[u8]) -> Option<Reason> {
    has_slashes(user).then(|| reason(ODD_SPELLING, b"//"))?
}

/// Whether `text` has a `//` outside of other comments and of strings: to C90 a comment in
/// no place, and in a directive two tokens.
pub(super) fn has_slashes(text: &[u8]) -> bool {
    if memmem::find(text, b"/").is_none() {
        return false;
    }
    let text = &splice(text);
    let mut at = 0;
    while let Some(found) = memchr::memchr3(b'/', b'"', b'\'', &text[at..]) {
        let rest = &text[at + found..];
        let used = match rest {
            [b'/', b'*', body @ ..] => memmem::find(body, b"*/").map_or(rest.len(), |end| end + 4),
            [b'/', b'/', ..] => return true,
            [b'/', ..] => 1,
            _ => quoted_len(rest).unwrap_or(1),
        };
        at += found + used;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_and_harmless() {
        for (text, detail) in [
            ("// really??/\n#if 1", "??/"),
            ("// really??/ \t\n#if 1", "??/"),
            ("/* *??/\n/ x", "??/"),
            ("/* ??= */\n??=define A 1", "??="),
            ("\"/*??/\"*/\"", "??/"),
            ("'??/'/*'", "??/"),
            ("/* \" */ \"??=\" /* */", "??="),
            ("int a; // ??= //* __DATE__\n", "??="),
            ("??=define A 1", "??="),
            ("\x0b#include <a.h>", "vertical tab"),
            ("// a\\\0\n", "NUL"),
            ("%:include <a.h>", "%:"),
            ("a %:%: b", "%:"),
            ("/*\n*/ %:if 1\nR\"(x)\"", "%:"),
            ("#ident MADE(x)", "#ident"),
            ("# id\\\nent MADE(x)", "#ident"),
            ("#sccs MADE(x)", "#ident"),
        ] {
            let found = odd_spelling(text.as_bytes()).map(|odd| odd.detail);
            assert_eq!(found.as_deref(), Some(detail), "{text}");
        }
        for text in [
            "puts(\"what??\"); // ??",
            "/* with \"??/\" for \"\\\" */ // ??=\n",
            "/*\n??=include <a.h>\n*/",
            "printf(\"%:z\"); /* %: */",
            "R\"(%:)\" \"%:\"",
            "a % b ? c : d",
            "\x0c\n#include <a.h>",
            "#ident \"$Id$\"",
            "int ident = 1;\n#define ident(x) x",
        ] {
            assert_eq!(odd_spelling(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn lines_that_go_on_behind_blanks() {
        assert!(odd_line(b"// foo\\ \n#define B 1").is_some());
        assert!(odd_line(b"// foo\\\x0c\r\n").is_some());
        assert_eq!(odd_line(b"// foo\\\n \"\\ \" \\ x\n"), None);
    }

    #[test]
    fn slashes_that_are_no_comment_to_all() {
        assert!(odd_slashes(b"int a = 4 //**/ 2 /*\n;\n*/ ;").is_some());
        assert!(odd_slashes(b"#if SECOND(//, 1)\n").is_some());
        assert!(odd_slashes(b"#error don't //\n").is_some());
        assert!(odd_slashes(b"/\\\n/ x\n").is_some());
        for plain in [
            "/* // */ a / b; \"//\" '/'",
            "int a; /* http://b /*/",
            "\"\\\"//\"",
        ] {
            assert_eq!(odd_slashes(plain.as_bytes()), None, "{plain}");
        }
    }
}
