//! The lexer of everything that reads C: words, literals, continued lines and tokens.
//!
//! Why its readers search for bytes first, and ask for tokens only around what they find: a
//! text in which dialects disagree on comments has no tokens that all agree on, and must be
//! searched too. It is no matter of speed: all tokens of 22 MB of headers take 55 ms, one
//! scan for directives 85 ms.

use std::borrow::Cow;

use memchr::memmem;

/// A byte of an identifier.
pub(crate) fn is_word(byte: u8) -> bool {
    WORD[byte as usize]
}

/// A table, since every byte of every input is looked up several times.
static WORD: [bool; 256] = {
    let mut word = [false; 256];
    let mut at = 0;
    while at < word.len() {
        let byte = at as u8;
        word[at] = byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80;
        at += 1;
    }
    word
};

/// Bytes of the word that `text` begins with.
pub(crate) fn word_len(text: &[u8]) -> usize {
    text.iter().take_while(|byte| is_word(**byte)).count()
}

/// Bytes of the word that `text` ends with.
pub(crate) fn word_len_before(text: &[u8]) -> usize {
    let word = text.iter().rev().take_while(|byte| is_word(**byte));
    word.count()
}

/// The words of `text`, whatever is between them: those in strings and comments too.
pub(crate) fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let words = text.split(|byte| !is_word(*byte));
    words.filter(|word| !word.is_empty())
}

/// A blank within a line.
pub(crate) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | 0x0b | 0x0c)
}

/// How many blanks `text` starts with.
pub(crate) fn blanks_at(text: &[u8]) -> usize {
    text.iter().take_while(|byte| is_blank(**byte)).count()
}

/// Whether `text[at..at + len]` is a token of its own.
pub(crate) fn stands_alone(text: &[u8], at: usize, len: usize) -> bool {
    let before = at.checked_sub(1).and_then(|at| text.get(at));
    let after = text.get(at + len);
    !before.is_some_and(|byte| is_word(*byte)) && !after.is_some_and(|byte| is_word(*byte))
}

/// Without continued lines (also those with blanks before the newline, and
/// trigraphs).
pub(crate) fn splice(text: &[u8]) -> Cow<'_, [u8]> {
    let mut spliced = Vec::new();
    let mut from = 0;
    let mut cut = |at: usize, len: usize| {
        let blanks = blanks_at(&text[at + len..]);
        let newline = at + len + blanks;
        if text.get(newline) == Some(&b'\n') {
            spliced.extend_from_slice(&text[from..at]);
            from = newline + 1;
        }
    };
    // Trigraphs are rare, slashes are not.
    if memmem::find(text, b"??/").is_none() {
        memchr::memchr_iter(b'\\', text).for_each(|at| cut(at, 1));
    } else {
        for at in memchr::memchr2_iter(b'\\', b'/', text) {
            match &text[..at] {
                _ if text[at] == b'\\' => cut(at, 1),
                [.., b'?', b'?'] => cut(at - 2, 3),
                _ => {}
            }
        }
    }
    if from == 0 {
        return Cow::Borrowed(text);
    }
    spliced.extend_from_slice(&text[from..]);
    Cow::Owned(spliced)
}

/// Where a trigraph is that joins two lines, in dialects that know trigraphs.
pub(crate) fn splicing_trigraph(text: &[u8]) -> Option<usize> {
    memmem::find_iter(text, b"??/").find(|at| {
        let rest = &text[at + 3..];
        rest.get(blanks_at(rest)) == Some(&b'\n')
    })
}

/// The words from a place on, whatever blanks, quotes, backslashes and opening
/// parentheses lie between them, up to anything else.
pub(crate) struct Words<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Words<'t> {
    pub(crate) fn at(text: &'t [u8], at: usize) -> Self {
        Words { text, at }
    }
}

impl<'t> Iterator for Words<'t> {
    type Item = &'t [u8];

    fn next(&mut self) -> Option<&'t [u8]> {
        while matches!(
            self.text.get(self.at),
            Some(b' ' | b'\t' | b'\x0b' | b'\x0c' | b'"' | b'\\' | b'(' | b')')
        ) {
            self.at += 1;
        }
        let rest = self.text.get(self.at..)?;
        let len = word_len(rest);
        self.at += len;
        (len > 0).then(|| &rest[..len])
    }
}

/// Bytes looked back for the start of a line; beyond, the worst is assumed.
const LOOK_BACK_BYTES_MAX: usize = 16 << 10;

/// Where the line of `at` starts, unless that is too far.
pub(crate) fn line_start(user: &[u8], at: usize) -> Option<usize> {
    let from = at.saturating_sub(LOOK_BACK_BYTES_MAX);
    match memchr::memrchr(b'\n', &user[from..at]) {
        Some(newline) => Some(from + newline + 1),
        None => (from == 0).then_some(0),
    }
}

/// The name of the directive that `line` starts with, or nothing.
pub(crate) fn hash_word(line: &[u8]) -> &[u8] {
    let line = line.trim_ascii_start();
    let rest = match line {
        [b'#', rest @ ..] | [b'%', b':', rest @ ..] => rest.trim_ascii_start(),
        _ => return b"",
    };
    let len = word_len(rest);
    &rest[..len]
}

/// After blanks and comments.
pub(crate) fn skip_blank(mut text: &[u8]) -> &[u8] {
    loop {
        text = text.trim_ascii_start();
        let end = if text.starts_with(b"/*") {
            memmem::find(&text[2..], b"*/").map(|at| at + 4)
        } else if text.starts_with(b"//") {
            memchr::memchr(b'\n', text)
        } else {
            return text;
        };
        match end {
            Some(end) => text = &text[end..],
            None => return b"",
        }
    }
}

/// The body of a string, of which `text` follows the opening quote; and the text after it.
pub(crate) fn string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    loop {
        at += memchr::memchr3(b'"', b'\\', b'\n', text.get(at..)?)?;
        match text[at] {
            b'"' => return Some((&text[..at], &text[at + 1..])),
            b'\\' => at += 2,
            _ => return None,
        }
    }
}

/// The body of the `R"x(...)x"` that `text` begins with, and the text after it.
pub(crate) fn raw_string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = text.strip_prefix(b"R\"")?;
    let open = rest.iter().take(17).position(|byte| *byte == b'(')?;
    let close = [b")", &rest[..open], b"\""].concat();
    let body = &rest[open + 1..];
    let end = memmem::find(body, &close)?;
    Some((&body[..end], &body[end + close.len()..]))
}

/// Appends the bytes that the body of a string stands for. Only what is ASCII
/// matters; everything else may come out as anything that is not.
pub(crate) fn decode(body: &[u8], out: &mut Vec<u8>) {
    let mut rest = body;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let Some(kind) = rest.get(at + 1) else {
            return;
        };
        let tail = &rest[at + 2..];
        let (value, used) = match kind {
            b'x' => number(tail, 16, usize::MAX),
            b'u' => number(tail, 16, 4),
            b'U' => number(tail, 16, 8),
            b'0'..=b'7' => number(&rest[at + 1..], 8, 3),
            b'n' => (u32::from(b'\n'), 0),
            b't' | b'v' | b'f' | b'r' => (u32::from(b' '), 0),
            other => (u32::from(*other), 0),
        };
        out.push(u8::try_from(value).unwrap_or(0xff));
        let octal = matches!(kind, b'0'..=b'7');
        rest = if octal {
            &rest[at + 1 + used..]
        } else {
            &tail[used..]
        };
    }
    out.extend_from_slice(rest);
}

fn number(text: &[u8], radix: u32, digits_max: usize) -> (u32, usize) {
    let mut value = 0u32;
    let mut used = 0;
    while used < digits_max {
        let Some(digit) = text
            .get(used)
            .and_then(|byte| char::from(*byte).to_digit(radix))
        else {
            break;
        };
        // gcc keeps the low bits of an escape that is too long.
        value = value.wrapping_mul(radix).wrapping_add(digit);
        used += 1;
    }
    let value = if digits_max == usize::MAX || radix == 8 {
        value & 0xff
    } else {
        value
    };
    (value, used)
}

/// The kind of a [`Token`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A name, a keyword or a number.
    Word,
    /// A string, quotes and all.
    Text,
    /// Anything else, newlines too.
    Mark,
}

/// A piece of C text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token<'t> {
    pub(crate) kind: Kind,
    /// As it is spelled, but that `%:%:` is `##`.
    pub(crate) text: &'t [u8],
    /// Where it begins in the text.
    pub(crate) at: usize,
    /// It is the first token of its line.
    pub(crate) starts_line: bool,
}

/// The tokens of a text without comments and continued lines; each newline is one.
pub(crate) struct Tokens<'t> {
    text: &'t [u8],
    at: usize,
    starts_line: bool,
}

impl<'t> Tokens<'t> {
    pub(crate) fn of(text: &'t [u8]) -> Self {
        Tokens {
            text,
            at: 0,
            starts_line: true,
        }
    }
}

impl<'t> Iterator for Tokens<'t> {
    type Item = Token<'t>;

    fn next(&mut self) -> Option<Token<'t>> {
        self.at += blanks_at(&self.text[self.at..]);
        let rest = &self.text[self.at..];
        let (kind, text, len) = match rest {
            [] => return None,
            [b'#', b'#', ..] => (Kind::Mark, &b"##"[..], 2),
            [b'%', b':', b'%', b':', ..] => (Kind::Mark, &b"##"[..], 4),
            [b'%', b':', ..] => (Kind::Mark, &rest[..2], 2),
            [quote @ (b'"' | b'\''), ..] => {
                let len = literal_len(rest);
                let kind = if *quote == b'"' {
                    Kind::Text
                } else {
                    Kind::Mark
                };
                (kind, &rest[..len], len)
            }
            [first, ..] if is_word(*first) => {
                let len = word_len(rest);
                (Kind::Word, &rest[..len], len)
            }
            _ => (Kind::Mark, &rest[..1], 1),
        };
        let token = Token {
            kind,
            text,
            at: self.at,
            starts_line: self.starts_line,
        };
        self.starts_line = text == b"\n";
        self.at += len;
        Some(token)
    }
}

/// Bytes of the string or character that `rest` starts with; `None`: its line does not
/// end it.
pub(crate) fn quoted_len(rest: &[u8]) -> Option<usize> {
    let quote = rest.first()?;
    let mut at = 1;
    loop {
        match rest.get(at)? {
            b'\n' => return None,
            b'\\' => at += 2,
            byte if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// Bytes of the string or character that `rest` starts with; where its line does not end
/// it, up to the end of that line.
pub(crate) fn literal_len(rest: &[u8]) -> usize {
    quoted_len(rest).unwrap_or_else(|| line_of(rest).len())
}

/// Up to the end of the line.
pub(crate) fn line_of(text: &[u8]) -> &[u8] {
    memchr::memchr(b'\n', text).map_or(text, |newline| &text[..newline])
}
