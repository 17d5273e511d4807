//! Whether a compiler could warn of the layout of a text. Pure; unaware of options.
//!
//! Two warnings get lost on a worker. gcc looks for columns in the source file
//! itself before it warns of misleading indentation. clang compares a line of
//! the file with one of the text before it warns of an empty body. So a text
//! that might earn one of them is compiled here; in doubt, it might. Of 238 sources of Lua,
//! zlib, zstd, BLAKE3 and ring it clears 199 of the first warning and 231 of the second:
//! without it, none of them could travel as text with `-Wall`.

use std::collections::HashSet;

use memchr::memmem;

use crate::source::lex::{is_word, quoted_len, raw_string, word_len, words};

/// Bytes of user text that are looked at; a longer one might earn the warning.
const TEXT_BYTES_MAX: usize = 16 << 20;
/// Statements in statements.
const DEPTH_MAX: usize = 200;
/// Looks at a token, for each token.
const LOOKS_MAX: usize = 64;
/// Rounds in which macros are learnt that use those of the round before.
const ROUNDS_MAX: usize = 8;
/// gcc's `-ftabstop` if there is none.
const TAB_COLUMNS: u32 = 8;

/// The words that stand before a statement that they guard.
const GUARDS: [&[u8]; 4] = [b"if", b"else", b"for", b"while"];

/// Whether a guarded statement without braces is followed by one that looks guarded too.
/// `text` is the whole preprocessed text, macros kept; `user` the part that compilers warn
/// of.
pub fn may_mislead(text: &[u8], user: &[u8]) -> bool {
    if user.len() > TEXT_BYTES_MAX {
        return true;
    }
    let tokens = tokens(user);
    let mut reader = Reader {
        looks: tokens.len().saturating_mul(LOOKS_MAX),
        guards: guards(text),
        tokens: &tokens,
    };
    (0..tokens.len()).any(|at| reader.is_guard(at) && reader.misleads(at).unwrap_or(true))
}

/// Whether `user` has an `if (x);` or the like on one line, which is no `do`'s.
pub fn may_be_empty(user: &[u8]) -> bool {
    if user.len() > TEXT_BYTES_MAX {
        return true;
    }
    let tokens = tokens(user);
    let mut reader = Reader {
        looks: tokens.len().saturating_mul(LOOKS_MAX),
        guards: GUARDS.into_iter().collect(),
        tokens: &tokens,
    };
    reader.has_empty_body().unwrap_or(true)
}

/// [`GUARDS`], and the macros of `text` that have one in their body.
fn guards(text: &[u8]) -> HashSet<&[u8]> {
    let mut names: HashSet<&[u8]> = GUARDS.into_iter().collect();
    let mut defines: Vec<(&[u8], &[u8])> = Vec::new();
    for at in memmem::find_iter(text, b"#define ") {
        let rest = &text[at + b"#define ".len()..];
        let name = &rest[..word_len(rest)];
        let mut end = name.len();
        loop {
            end += memchr::memchr(b'\n', &rest[end..]).unwrap_or(rest.len() - end);
            if end == rest.len() || !rest[..end].trim_ascii_end().ends_with(b"\\") {
                break;
            }
            end += 1;
        }
        defines.push((name, &rest[name.len()..end]));
    }
    for _ in 0..ROUNDS_MAX {
        let before = names.len();
        defines.retain(|(name, body)| {
            let uses = words(body).any(|word| names.contains(word));
            if uses {
                names.insert(name);
            }
            !uses
        });
        if names.len() == before {
            break;
        }
    }
    names
}

/// A word, a literal, or one byte of anything else.
#[derive(Debug, Clone, Copy)]
struct Token<'t> {
    text: &'t [u8],
    line: u32,
    column: u32,
    /// The column of the first token of its line.
    indent: u32,
}

/// All tokens but those of directives.
fn tokens(text: &[u8]) -> Vec<Token<'_>> {
    let mut found: Vec<Token<'_>> = Vec::new();
    let mut cursor = Cursor {
        text,
        at: 0,
        line: 0,
        column: 0,
    };
    while let Some(byte) = cursor.peek(0) {
        let (line, column, start) = (cursor.line, cursor.column, cursor.at);
        let first = found.last().is_none_or(|token| token.line != line);
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c' | b'\\' => {
                cursor.step(1);
                continue;
            }
            b'/' if cursor.peek(1) == Some(b'/') => {
                cursor.line_end();
                continue;
            }
            b'/' if cursor.peek(1) == Some(b'*') => {
                let end = memmem::find(&text[start + 2..], b"*/").map(|at| at + 4);
                cursor.step(end.unwrap_or(text.len() - start));
                continue;
            }
            b'#' if first => {
                cursor.line_end();
                continue;
            }
            b'"' | b'\'' => match quoted_len(&text[start..]) {
                Some(len) => cursor.step(len),
                None => cursor.line_end(),
            },
            byte if is_word(byte) => {
                let len = word_len(&text[start..]);
                let raw = text[start + len - 1..].starts_with(b"R\"") && len <= 3;
                let raw = raw.then(|| raw_string(&text[start + len - 1..])).flatten();
                let end = raw.map_or(start + len, |(_, after)| text.len() - after.len());
                cursor.step(end - start);
            }
            _ => cursor.step(1),
        }
        let indent = match found.last() {
            Some(token) if token.line == line => token.indent,
            _ => column,
        };
        found.push(Token {
            text: &text[start..cursor.at],
            line,
            column,
            indent,
        });
    }
    found
}

struct Cursor<'t> {
    text: &'t [u8],
    at: usize,
    line: u32,
    column: u32,
}

impl Cursor<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn step(&mut self, count: usize) {
        let end = (self.at + count).min(self.text.len());
        for byte in &self.text[self.at..end] {
            match byte {
                b'\n' => (self.line, self.column) = (self.line + 1, 0),
                b'\t' => self.column += TAB_COLUMNS - self.column % TAB_COLUMNS,
                _ => self.column += 1,
            }
        }
        self.at = end;
    }

    /// Steps to the newline that ends this line, continued lines included.
    fn line_end(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let len = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let goes_on = rest[..len].trim_ascii_end().ends_with(b"\\") && len < rest.len();
            self.step(len + usize::from(goes_on));
            if !goes_on {
                return;
            }
        }
    }
}

struct Reader<'t> {
    tokens: &'t [Token<'t>],
    guards: HashSet<&'t [u8]>,
    /// Looks at tokens that are left, so that no text takes longer than it is.
    looks: usize,
}

impl Reader<'_> {
    fn text(&self, at: usize) -> &[u8] {
        self.tokens.get(at).map_or(b"", |token| token.text)
    }

    fn is_guard(&self, at: usize) -> bool {
        self.guards.contains(self.text(at))
    }

    /// As [`may_be_empty`]; `None`: it took too many looks.
    fn has_empty_body(&mut self) -> Option<bool> {
        let mut ends = HashSet::new();
        for at in 0..self.tokens.len() {
            match self.text(at) {
                b"do" => {
                    ends.insert(self.statement(at + 1, 0)?);
                }
                b"if" | b"for" | b"while" | b"switch" if !ends.contains(&at) => {
                    let body = self.guarded(at)?;
                    let before = self.tokens[body - 1];
                    let empty = self.text(body) == b";";
                    if empty && self.tokens[body].line == before.line {
                        return Some(true);
                    }
                }
                b"else" => {
                    let same = |next: &Token<'_>| next.line == self.tokens[at].line;
                    let next = self.tokens.get(at + 1);
                    if next.is_some_and(|next| next.text == b";" && same(next)) {
                        return Some(true);
                    }
                }
                _ => {}
            }
        }
        Some(false)
    }

    /// Whether the guard at `at` misleads; `None`: it took too many looks.
    fn misleads(&mut self, at: usize) -> Option<bool> {
        let body = self.guarded(at)?;
        if matches!(self.text(body), b"{" | b"}" | b"") {
            return Some(false);
        }
        let end = self.statement(body, 0)?;
        let (guard, first) = (self.tokens[at], self.tokens[body]);
        let last = self.tokens[end.clamp(body + 1, self.tokens.len()) - 1];
        let Some(next) = self.tokens.get(end) else {
            return Some(false);
        };
        if matches!(next.text, b"}" | b"else" | b";" | b")") {
            return Some(false);
        }
        Some(
            next.line == last.line
                || next.line == first.line
                || next.column == first.column
                || next.column > guard.indent,
        )
    }

    /// Where the statement begins that the word at `at` guards.
    fn guarded(&mut self, at: usize) -> Option<usize> {
        let mut next = at + 1;
        if matches!(self.text(next), b"constexpr" | b"consteval") {
            next += 1;
        }
        match self.text(next) {
            b"(" if self.text(at) != b"else" => self.group(next),
            _ => Some(next),
        }
    }

    /// The token after the bracket that closes the one at `at`.
    fn group(&mut self, at: usize) -> Option<usize> {
        let mut open = 0usize;
        for next in at..self.tokens.len() {
            self.look()?;
            match self.text(next) {
                b"(" | b"[" | b"{" => open += 1,
                b")" | b"]" | b"}" if open == 1 => return Some(next + 1),
                b")" | b"]" | b"}" => open -= 1,
                _ => {}
            }
        }
        Some(self.tokens.len())
    }

    /// The token after the statement at `at`.
    fn statement(&mut self, at: usize, depth: usize) -> Option<usize> {
        self.look()?;
        if depth > DEPTH_MAX {
            return None;
        }
        match self.text(at) {
            b"{" => self.group(at),
            b"do" => {
                let end = self.statement(at + 1, depth + 1)?;
                self.simple(end)
            }
            _ if self.is_guard(at) || self.text(at) == b"switch" => {
                let body = self.guarded(at)?;
                let end = self.statement(body, depth + 1)?;
                match (self.text(at), self.text(end)) {
                    (b"else", _) | (_, b"") => Some(end),
                    (_, b"else") => self.statement(end, depth + 1),
                    _ => Some(end),
                }
            }
            _ => self.simple(at),
        }
    }

    /// The token after the semicolon of the statement at `at`, or the brace that closes the
    /// block around it.
    fn simple(&mut self, mut at: usize) -> Option<usize> {
        loop {
            self.look()?;
            match self.text(at) {
                b"" | b"}" | b")" | b"]" => return Some(at),
                b";" => return Some(at + 1),
                b"(" | b"[" | b"{" => at = self.group(at)?,
                _ => at += 1,
            }
        }
    }

    fn look(&mut self) -> Option<()> {
        self.looks = self.looks.checked_sub(1)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> bool {
        may_mislead(text.as_bytes(), text.as_bytes())
    }

    #[test]
    fn what_looks_guarded() {
        for text in [
            "if (a)\n\tb();\n\tc();\n",
            "if (a) b(); c();\n",
            "  if (a)\n    b();\n    c();\n  d();\n",
            "if (a)\n\tb();\n        c();\n",
            "else\n  b();\n  c();\n",
            "for (i = 0; i < 3; i++)\n  a(i);\n  b(i);\n",
            "while (x) // why\n  a();\n  /* not */ b();\n",
            "while (x);\n  b();\n",
            "if (a)\n  if (b)\n    c();\n  d();\n",
            "if (a)\n  for (;;)\n    c();\n  d();\n",
            "#define EACH(x) for (;;)\nEACH(y)\n  c();\n  d();\n",
            "#define E for (;;)\n#define EACH(x) \\\n  E\nEACH(y)\n  c();\n  d();\n",
            "void f(void) {\n  if (R\"(\n)\")\n    a();\n    b();\n}\n",
        ] {
            assert!(found(text), "{text}");
        }
    }

    #[test]
    fn what_does_not() {
        for text in [
            "",
            "if (a)\n\tb();\nc();\n",
            "if (a) b();\nc();\n",
            "if (a) {\n  b();\n}\nc();\n",
            "if (a)\n  b();\nelse if (c)\n  d();\nelse\n  e();\nf();\n",
            "  do {\n    b();\n  } while (c);\n  d();\n",
            "{\n  if (a)\n    b(\"if (x) y; z;\");\n}\n",
            "for (;;)\n  while (a)\n    if (b)\n      c();\nd();\n",
            "#define IF(a) if (a) b(); c();\nint x;\n",
            "/* if (a)\n  b();\n  c(); */\n",
        ] {
            assert!(!found(text), "{text}");
        }
    }

    #[test]
    fn empty_bodies() {
        for text in [
            "while (a);",
            "if (a) ;\n",
            "for (;;);\n",
            "x; else ;",
            "do a(); while (b); while (c);",
        ] {
            assert!(may_be_empty(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "do a(); while (b);",
            "do { if (a) b(); } while (c);",
            "while (a)\n  ;\n",
            "for (;;) {}",
        ] {
            assert!(!may_be_empty(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn any_bytes_will_do() {
        let text = "if (((\\\"'R\"(/*#define else{}[;\n";
        for start in 0..text.len() {
            found(&text[start..]);
            found(&text[start..].repeat(50));
            may_be_empty(text[start..].repeat(50).as_bytes());
        }
    }
}
