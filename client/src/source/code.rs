//! C text without its comments, where all dialects agree on what is a comment. Pure.

use std::borrow::Cow;

use memchr::memmem;

use crate::source::lex::{
    is_word, line_of, quoted_len, raw_string, splicing_trigraph, word_len, word_len_before,
};

/// `text`, continued lines joined, with a blank in place of each comment. `None`:
/// dialects disagree on where its comments or strings end (trigraphs, raw strings,
/// digit separators, a `//` that C90 does not know), so that nothing may be left out.
pub(crate) fn without_comments(text: &[u8]) -> Option<Vec<u8>> {
    let odd = splicing_trigraph(text).is_some()
        || memchr::memchr(0, text).is_some()
        || memchr::memchr_iter(b'\r', text).any(|at| text.get(at + 1) != Some(&b'\n'));
    if odd || text.starts_with(b"\xef\xbb\xbf") || has_odd_header(text) {
        return None;
    }
    let mut code = Vec::with_capacity(text.len());
    let mut from = 0;
    while let Some(at) = memchr::memchr3(b'/', b'"', b'\'', &text[from..]) {
        let at = from + at;
        code.extend_from_slice(&text[from..at]);
        let rest = &text[at..];
        let used = match rest {
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
    // A backslash or a quote to some; in a comment neither.
    let trigraphs = [&b"??/"[..], b"??'"];
    let plain = |mark: &&[u8]| memmem::find(&code, mark).is_none();
    trigraphs.iter().all(plain).then_some(code)
}

/// Preprocessed `text` with a plain string for each raw one, and numbers without
/// separators. `None`: one is in a directive, or in a dialect that is not `modern`: it may
/// mean something else there.
pub(crate) fn without_raw_strings(text: &[u8], modern: bool) -> Option<Cow<'_, [u8]>> {
    if memmem::find(text, b"R\"").is_none() && memchr::memchr(b'\'', text).is_none() {
        return Some(Cow::Borrowed(text));
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.first() {
        let len = match rest {
            [byte, ..] if is_word(*byte) => {
                let len = word_len(rest);
                let word = &rest[..len];
                let raw = matches!(word, b"R" | b"LR" | b"uR" | b"UR" | b"u8R");
                let raw = raw && rest.get(len) == Some(&b'"');
                let line = plain.rsplit(|byte| *byte == b'\n').next();
                let directive = line.is_some_and(|line| line.trim_ascii_start().starts_with(b"#"));
                if raw && (directive || !modern) {
                    return None;
                }
                if raw && let Some((body, after)) = raw_string(&rest[len - 1..]) {
                    plain.extend_from_slice(&word[..len - 1]);
                    plain.push(b'"');
                    for byte in body {
                        match byte {
                            b'\n' => plain.extend_from_slice(b"\\n"),
                            b'\\' | b'"' => plain.extend_from_slice(&[b'\\', *byte]),
                            byte => plain.push(*byte),
                        }
                    }
                    plain.push(b'"');
                    rest = after;
                    continue;
                }
                let separates = first.is_ascii_digit()
                    && rest.get(len) == Some(&b'\'')
                    && rest.get(len + 1).is_some_and(|byte| is_word(*byte));
                plain.extend_from_slice(word);
                if separates && (directive || !modern) {
                    return None;
                }
                if separates {
                    rest = &rest[len + 1..];
                    // The next digits are of the same number.
                    while rest
                        .first()
                        .is_some_and(|byte| is_word(*byte) || *byte == b'\'')
                    {
                        let (byte, after) = (rest[0], &rest[1..]);
                        let ends = byte == b'\'' && !after.first().is_some_and(|b| is_word(*b));
                        if ends {
                            break;
                        }
                        if byte != b'\'' {
                            plain.push(byte);
                        }
                        rest = after;
                    }
                    continue;
                }
                rest = &rest[len..];
                continue;
            }
            [b'"' | b'\'', ..] => quoted_len(rest).unwrap_or(1),
            _ => 1,
        };
        plain.extend_from_slice(&rest[..len]);
        rest = &rest[len..];
    }
    Some(Cow::Owned(plain))
}

/// Bytes of the string or character that `rest` starts with. One that its line does
/// not end goes up to the end of that line, in gcc and in clang.
fn quoted(before: &[u8], rest: &[u8]) -> Option<usize> {
    let word = &before[before.len() - word_len_before(before)..];
    let prefix = matches!(word, b"" | b"L" | b"u" | b"U" | b"u8");
    let separator = rest[0] == b'\'' && !prefix;
    let raw = rest[0] == b'"' && is_raw_prefix(word);
    if separator || raw || rest[0] == b'\'' && ends_open_number(before) {
        return None;
    }
    if let Some(len) = quoted_len(rest) {
        return Some(len);
    }
    let line = line_of(rest);
    let comment = [&b"/*"[..], b"*/", b"//"];
    let doubtful = comment
        .iter()
        .any(|mark| memmem::find(line, mark).is_some());
    (!doubtful).then_some(line.len())
}

/// Whether a quote behind `word` may begin a raw string: `R"`, but not `DIR"`. What no dialect
/// has to take for a part of a name begins a word of its own.
fn is_raw_prefix(word: &[u8]) -> bool {
    let in_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let name = word.rsplit(|byte| !in_name(byte)).next();
    matches!(name, Some(b"R" | b"LR" | b"uR" | b"UR" | b"u8R"))
}

/// Whether a number that a digit may follow behind a quote ends `text`: `1.'0`, `0xe-'1`.
fn ends_open_number(text: &[u8]) -> bool {
    let in_number = |byte: &&u8| is_word(**byte) || b".+-'".contains(*byte);
    let len = text.iter().rev().take_while(in_number).count();
    let number = &text[text.len() - len..];
    let open = match number {
        [.., b'.'] => true,
        [.., exponent, b'+' | b'-'] => b"eEpP".contains(exponent),
        _ => false,
    };
    open && number.iter().any(u8::is_ascii_digit)
}

/// Whether a header's name has something that looks like a comment, a string or an escape,
/// which it is not there.
fn has_odd_header(text: &[u8]) -> bool {
    let words = [&b"include"[..], b"import", b"embed"];
    words
        .iter()
        .flat_map(|word| memmem::find_iter(text, word).map(|at| at + word.len()))
        .any(|at| is_odd_header(line_of(&text[at..])))
}

fn is_odd_header(line: &[u8]) -> bool {
    let next = line
        .iter()
        .position(|byte| !is_word(*byte) && !matches!(byte, b' ' | b'\t' | b'('));
    let Some((open, rest)) = next.and_then(|at| line[at..].split_first()) else {
        return false;
    };
    let (close, marks) = match open {
        b'<' => (b'>', &[&b"'"[..], b"\"", b"\\", b"/*", b"//"][..]),
        b'"' => (b'"', &[&b"\\"[..]][..]),
        _ => return false,
    };
    let name = &rest[..memchr::memchr(close, rest).unwrap_or(rest.len())];
    marks.iter().any(|mark| memmem::find(name, mark).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_strings_and_separators() {
        for (text, plain) in [
            (
                "x = R\"a(\\.inc\"\n)a\" \"b\";",
                "x = \"\\\\.inc\\\"\\n\" \"b\";",
            ),
            ("u8R\"(')\"", "u8\"'\""),
            ("1'000'0 'x' 0x1'ap1", "10000 'x' 0x1ap1"),
            ("'\"' R \"R(\"", "'\"' R \"R(\""),
            ("u'a' + 1", "u'a' + 1"),
            ("\"R\" \"1'0\"", "\"R\" \"1'0\""),
        ] {
            let found = without_raw_strings(text.as_bytes(), true)
                .unwrap()
                .into_owned();
            assert_eq!(String::from_utf8(found).unwrap(), plain, "{text}");
        }
        for text in ["x = R\"(y)\";", "1'000"] {
            assert!(
                without_raw_strings(text.as_bytes(), false).is_none(),
                "{text}"
            );
            let pragma = format!("#pragma {text}\n");
            assert!(
                without_raw_strings(pragma.as_bytes(), true).is_none(),
                "{text}"
            );
        }
    }

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
            ("#error 'don t\n/* x */", "#error 'don t\n "),
            ("#include <a/b.h> // c\n", "#include <a/b.h>  \n"),
            ("#include \"a/*b.h\" /* c */", "#include \"a/*b.h\"  "),
            ("a / b", "a / b"),
            ("L'x' /* */", "L'x'  "),
            ("a-'b' /* */ +'c' e-'d'", "a-'b'   +'c' e-'d'"),
            ("DIR\"/*\" /* */ xR\"//\"", "DIR\"/*\"   xR\"//\""),
            ("a /* \"??/\" ??' */ b // ??/ ??'\n", "a   b  \n"),
        ] {
            assert_eq!(code(text).as_deref(), Some(left), "{text}");
        }
        for doubtful in [
            "a /* b",
            "// a ??/\n__DATE__",
            "R\"(/*)\" x",
            "u8R\"(/*)\" x",
            "a$R\"(/*)\" x",
            "1'000 /* ' */",
            "DROP(1.'0) '/*'",
            "1e+'0 '/*'",
            "0xe-'a' '/*'",
            "#error don't",
            "a //* b */ c",
            "a // __DATE__",
            "#include <a//b.h>",
            "#if !__has_include(<a/*b>)\n__DATE__ // */",
            "#if __has_include(<a'b>) // don't /*\n",
            "include < /* > \" */ 1",
            "#if !__has_include(\"d\\\") && '\"/*'\n",
            "0x1.a'0p0; '/*'",
            "\u{feff}#define P",
            "#error don't /* x\n*/",
            "// a\rb",
            "a ??' b /* ' */",
            "/* *??/\n/ a",
            "/* ??/ */ \"??/\"",
            "a \0",
        ] {
            assert_eq!(code(doubtful), None, "{doubtful}");
        }
    }
}
