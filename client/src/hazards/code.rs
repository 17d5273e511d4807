//! C text without its comments, where every dialect agrees on what is one. Pure.

use memchr::memmem;

use super::tokens::{is_word, string};

/// `text`, continued lines joined, with a blank in place of each comment. `None`:
/// dialects disagree on where its comments or strings end (trigraphs, raw strings,
/// digit separators, a `//` that C90 does not know), so that nothing may be left out.
pub(super) fn without_comments(text: &[u8]) -> Option<Vec<u8>> {
    let trigraphs = [&b"??/"[..], b"??'"];
    let odd = trigraphs
        .iter()
        .any(|mark| memmem::find(text, mark).is_some())
        || memchr::memchr(0, text).is_some()
        || memchr::memchr_iter(b'\r', text).any(|at| text.get(at + 1) != Some(&b'\n'));
    if odd {
        return None;
    }
    let mut code = Vec::with_capacity(text.len());
    let mut from = 0;
    while let Some(at) = memchr::memchr3(b'/', b'"', b'\'', &text[from..]) {
        let at = from + at;
        code.extend_from_slice(&text[from..at]);
        let rest = &text[at..];
        let used = match rest {
            [b'/', b'*' | b'/', ..] if in_header_name(&code) => header_name(rest),
            [b'/', b'*', body @ ..] => {
                code.push(b' ');
                from = at + 2 + memmem::find(body, b"*/")? + 2;
                continue;
            }
            [b'/', b'/', ..] => {
                let line = line_of(rest);
                // C90 would read on; there it hardly ever means anything.
                let words = [&b"/*"[..], b"__D", b"__T", b"incbin"];
                if words.iter().any(|word| memmem::find(line, word).is_some()) {
                    return None;
                }
                code.push(b' ');
                from = at + line.len();
                continue;
            }
            [b'/', ..] => 1,
            _ => quoted(&code, rest)?,
        };
        code.extend_from_slice(&rest[..used]);
        from = at + used;
    }
    code.extend_from_slice(&text[from..]);
    Some(code)
}

/// Bytes of the string or character that `rest` starts with. One that its line does
/// not end goes up to the end of that line, in gcc and in clang.
fn quoted(before: &[u8], rest: &[u8]) -> Option<usize> {
    let word = before.iter().rev().take_while(|byte| is_word(**byte));
    let word = &before[before.len() - word.count()..];
    let separator = rest[0] == b'\'' && word.first().is_some_and(u8::is_ascii_digit);
    let raw = rest[0] == b'"' && word.ends_with(b"R");
    if separator || raw {
        return None;
    }
    let closed = match rest[0] {
        b'"' => string(&rest[1..]).map(|(body, _)| body.len() + 2),
        _ => character(rest),
    };
    if closed.is_some() {
        return closed;
    }
    let line = line_of(rest);
    let comment = [&b"/*"[..], b"*/", b"//"];
    let doubtful = comment
        .iter()
        .any(|mark| memmem::find(line, mark).is_some());
    (!doubtful).then_some(line.len())
}

fn character(rest: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match rest.get(at)? {
            b'\'' => return Some(at + 1),
            b'\\' => at += 2,
            b'\n' => return None,
            _ => at += 1,
        }
    }
}

/// Whether `before` has come into the brackets of `#include <a//b.h>`.
fn in_header_name(before: &[u8]) -> bool {
    let line = memchr::memrchr(b'\n', before).map_or(before, |at| &before[at + 1..]);
    let Some(open) = memchr::memchr(b'<', line) else {
        return false;
    };
    let word = line[..open].trim_ascii();
    let includes = [&b"include"[..], b"include_next", b"import"];
    includes.iter().any(|name| word.ends_with(name)) && memchr::memchr(b'>', line).is_none()
}

fn header_name(rest: &[u8]) -> usize {
    memchr::memchr(b'>', line_of(rest)).map_or(2, |close| close + 1)
}

fn line_of(text: &[u8]) -> &[u8] {
    memchr::memchr(b'\n', text).map_or(text, |newline| &text[..newline])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_go_and_strings_stay() {
        let code = |text: &str| {
            let code = without_comments(text.as_bytes())?;
            Some(String::from_utf8(code).unwrap())
        };
        for (text, left) in [
            ("a /* b */ c", "a   c"),
            ("a // b\nc", "a  \nc"),
            (
                "\"/* a */\" '\"' /* ' */ \"//\"",
                "\"/* a */\" '\"'   \"//\"",
            ),
            ("'\\'' /* \" */ \"\\\"/*\"", "'\\''   \"\\\"/*\""),
            ("#error don't\n/* x */", "#error don't\n "),
            ("#include <a//b.h> // c\n", "#include <a//b.h>  \n"),
            ("#include <a/*b.h>\n/* c */", "#include <a/*b.h>\n "),
            ("a / b", "a / b"),
            ("L'x' /* */", "L'x'  "),
        ] {
            assert_eq!(code(text).as_deref(), Some(left), "{text}");
        }
        for doubtful in [
            "a /* b",
            "// a ??/\n__DATE__",
            "R\"(/*)\" x",
            "u8R\"(/*)\" x",
            "1'000 /* ' */",
            "a //* b */ c",
            "a // __DATE__",
            "#error don't /* x\n*/",
            "// a\rb",
            "a ??' b /* ' */",
            "a \0",
        ] {
            assert_eq!(code(doubtful), None, "{doubtful}");
        }
    }
}
