//! Comments that say that a case falls through (gcc's -Wimplicit-fallthrough). gcc honours
//! one that stands before a label; not where a condition (`#if` and its like) stands between
//! them, which is gone from a preprocessed text. Pure.

use memchr::memmem;

use crate::source::lex::{hash_word, line_of, quoted_len, splice};

/// The level of the warning where the command line names none.
pub const LEVEL_DEFAULT: u8 = 3;
/// From this level on gcc ignores comments.
pub const LEVEL_NEVER: u8 = 5;
/// The level at which any comment will do.
const LEVEL_ANY: u8 = 1;
/// The level at which a comment will do that has the words in it.
const LEVEL_WITHIN: u8 = 2;

/// Directives that a preprocessed text has lost.
const GONE: [&[u8]; 8] = [
    b"if",
    b"ifdef",
    b"ifndef",
    b"elif",
    b"elifdef",
    b"elifndef",
    b"else",
    b"endif",
];

/// Whether a comment that gcc may take for one about falling through at `level` stands
/// before a condition.
pub fn falls_into_condition(source: &[u8], level: u8) -> bool {
    let source = splice(source);
    falls_forward(&source, level) || falls_backward(&source, level)
}

/// Reads forward from the beginning: right where strings and comments are what they look
/// like.
fn falls_forward(source: &[u8], level: u8) -> bool {
    let (mut at, mut told, mut is_first) = (0, false, true);
    while let Some(rest) = source.get(at..).filter(|rest| !rest.is_empty()) {
        at += match rest {
            [b'\n', ..] => {
                is_first = true;
                1
            }
            [b' ' | b'\t' | b'\r' | 0x0b | 0x0c, ..] => 1,
            [b'/', b'*', body @ ..] => {
                let len = memmem::find(body, b"*/").unwrap_or(body.len());
                told |= tells(&body[..len], level);
                len + 4
            }
            [b'/', b'/', body @ ..] => {
                let len = line_of(body).len();
                told |= tells(&body[..len], level);
                len + 2
            }
            _ => {
                if told && is_first && GONE.contains(&hash_word(rest)) {
                    return true;
                }
                (told, is_first) = (false, false);
                match rest {
                    [b'"' | b'\'', ..] => quoted_len(rest).unwrap_or(1),
                    _ => 1,
                }
            }
        };
    }
    false
}

/// Reads backward from each condition: right also where a raw string, or a quote that is
/// none, misleads reading forward.
fn falls_backward(source: &[u8], level: u8) -> bool {
    let mut from = 0;
    memchr::memchr2_iter(b'#', b'%', source).any(|at| {
        if !GONE.contains(&hash_word(&source[at..])) {
            return false;
        }
        // No byte is looked at for two conditions.
        let before = &source[from..at];
        from = at;
        ends_in_comment(before, level)
    })
}

/// Whether the last of `text` but blanks are comments, of which one is about falling
/// through.
fn ends_in_comment(mut text: &[u8], level: u8) -> bool {
    loop {
        let end = text.trim_ascii_end();
        let marks = match end.strip_suffix(b"*/") {
            Some(body) => {
                let last = memmem::rfind(body, b"*/").map_or(0, |at| at + 2);
                Marks::of(end, last, b"/*")
            }
            // It goes on to the end of the line.
            None if !text[end.len()..].contains(&b'\n') => return false,
            None => {
                let line = memchr::memrchr(b'\n', end).map_or(0, |at| at + 1);
                Marks::of(end, line, b"//")
            }
        };
        if marks.comments().any(|comment| tells(comment, level)) {
            return true;
        }
        match marks.first {
            Some(first) => text = &end[..first],
            None => return false,
        }
    }
}

/// The places where the comment at the end of a text may begin.
struct Marks<'t> {
    text: &'t [u8],
    /// The first of them; the others may be part of the comment.
    first: Option<usize>,
    mark: &'static [u8],
}

impl<'t> Marks<'t> {
    fn of(text: &'t [u8], from: usize, mark: &'static [u8]) -> Self {
        let first = memmem::find(&text[from..], mark).map(|at| from + at);
        Marks { text, first, mark }
    }

    fn comments(&self) -> impl Iterator<Item = &'t [u8]> {
        let rest = self.first.map_or(&b""[..], |first| &self.text[first..]);
        memmem::find_iter(rest, self.mark).map(|at| {
            let comment = &rest[at + 2..];
            comment.strip_suffix(b"*/").unwrap_or(comment)
        })
    }
}

/// Whether gcc may read from a comment's text that a case falls through: all that its
/// patterns match, and more.
fn tells(comment: &[u8], level: u8) -> bool {
    match level {
        0..=LEVEL_ANY => true,
        LEVEL_WITHIN => {
            let mut starts = memchr::memchr2_iter(b'f', b'F', comment);
            starts.any(|at| after_words(&comment[at..]).is_some())
        }
        LEVEL_NEVER.. => false,
        _ => {
            let mut rest = comment;
            loop {
                let trimmed = trim(rest);
                let words = [&b"lint"[..], b"else", b"intentionally", b"intentional"];
                let without = words.iter().find_map(|word| strip(trimmed, word));
                match without {
                    Some(without) => rest = without,
                    None => break rest = trimmed,
                }
            }
            after_words(rest).is_some_and(|rest| matches!(trim_words(rest), [] | [b'-', ..]))
        }
    }
}

/// The text after the `fall through`, in any spelling, that `text` begins with.
fn after_words(text: &[u8]) -> Option<&[u8]> {
    let rest = strip(text, b"fall")?;
    let rest = strip(rest, b"s").unwrap_or(rest);
    let blanks = rest
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t' | b'-'));
    let rest = strip(&rest[blanks.count()..], b"thr")?;
    strip(rest, b"ough").or_else(|| strip(rest, b"u"))
}

fn strip<'t>(text: &'t [u8], word: &[u8]) -> Option<&'t [u8]> {
    let (start, rest) = text.split_at_checked(word.len())?;
    start.eq_ignore_ascii_case(word).then_some(rest)
}

/// `text` without the marks that may stand before the words.
fn trim(text: &[u8]) -> &[u8] {
    let marks = text.iter().take_while(|byte| b" \t.!,@-".contains(byte));
    &text[marks.count()..]
}

/// `text` without the marks that may stand after the words.
fn trim_words(text: &[u8]) -> &[u8] {
    let marks = text.iter().take_while(|byte| b" \t\r.!@".contains(byte));
    &text[marks.count()..]
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// The levels, of 1 to 5, at which a comment is a hazard.
    fn levels(source: &str) -> Vec<u8> {
        let falls = |level: &u8| falls_into_condition(source.as_bytes(), *level);
        (1..=LEVEL_NEVER).filter(falls).collect()
    }

    #[test]
    fn each_level_has_comments_of_its_own() {
        for comment in [
            "/* fall through */",
            "// Falls through - see\n",
            "/* FALLTHRU */ /* really */",
            "f(); // else, fall-through.\r\n",
            "/*FALLTHROUGH*/\n\n",
            "/* -fallthrough */",
            "//@fallthrough@\n",
            "/* intentionally fall\\\n through! */",
            "/* fall through - see /* here */",
            "// fall through - #ifdef FOO\n",
            "/* fall through - only #if X */",
            "// fall through - see /* x */\n",
            "s = R\"(\" /*)\"; // fall through\n",
            "/* fall through - http://x */ // y\n",
            "s = \"/*\"; c = '\\\\'; /* fall through */\x0b\n",
        ] {
            for condition in ["#if 1", "#  else", "%:endif"] {
                let text = format!("a;\n{comment}{condition}\n");
                assert_eq!(levels(&text), [1, 2, 3, 4], "{text}");
            }
        }
        for comment in [
            "/* FALLTHROUGH declares */",
            "// it falls through\n",
            "/* fall through,\n on and on */",
        ] {
            assert_eq!(levels(&format!("{comment}#if 1\n")), [1, 2], "{comment}");
        }
        assert_eq!(levels("/* next */\n#if 1"), [1]);
        for text in [
            "/* fall through */\ncase 2:\n#if 1\n",
            "/* fall through */ f();\n#if 1\n",
            "/* fall through */\n#pragma x\n",
            "fall through\n#if 1\n",
            "",
        ] {
            assert_eq!(levels(text), [0u8; 0], "{text}");
        }
    }

    #[test]
    fn large_texts_take_no_longer_than_they_are() {
        const BYTES: usize = 5 << 20;
        for part in [
            "/* fall thr ",
            "// fall through ",
            "/**/",
            "//\n",
            "/* fall through on */\n",
            "/* fall through on */\n#if 1\n",
            "fall through */\n#if 1\n",
        ] {
            let text = part.repeat(BYTES / part.len()) + "#if 1\n";
            let began = Instant::now();
            assert!(!falls_into_condition(text.as_bytes(), LEVEL_DEFAULT));
            // Where each is looked at to the end of the text, it takes hours.
            assert!(began.elapsed() < Duration::from_secs(60), "{part}");
        }
    }
}
