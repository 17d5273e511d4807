//! What a source file may include, and where it may ask whether a header is
//! there: a superset, since conditions are not evaluated. Pure: total over any
//! bytes; unaware of search paths.

use std::borrow::Cow;

use memchr::memmem;

use crate::hazards::{is_word, splice};

/// A header as a directive names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Header {
    /// Between the quotes or the angle brackets.
    pub name: Vec<u8>,
    /// `"name"`: looked for beside the file first.
    pub quoted: bool,
}

/// What was found in one file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Of `#include` and `#import`: the first one found is taken.
    pub includes: Vec<Header>,
    /// Of `__has_include` and its like, and of `#include_next`, which passes by
    /// some that are there.
    pub asks: Vec<Header>,
    /// An `#include` whose header is made by a macro.
    pub computed: bool,
    /// A question whose header can't be read here, or an `#embed`.
    pub opaque: bool,
}

/// Reads `text`.
pub fn scan(text: &[u8]) -> Scan {
    let text = splice(text);
    let mut found = Scan::default();
    for word in [&b"include"[..], b"import", b"embed"] {
        let mut done = 0;
        for at in memmem::find_iter(&text, word) {
            // "include" is in "__has_include_next" once, and in "include_include" twice.
            if at < done {
                continue;
            }
            let start = at - count_back(&text[..at], is_word);
            let end = at + text[at..].iter().take_while(|byte| is_word(**byte)).count();
            done = end;
            found.word(&text, start, end);
        }
    }
    found.includes.sort();
    found.includes.dedup();
    found.asks.sort();
    found.asks.dedup();
    found
}

fn count_back(text: &[u8], fits: fn(u8) -> bool) -> usize {
    text.iter().rev().take_while(|byte| fits(**byte)).count()
}

impl Scan {
    fn word(&mut self, text: &[u8], start: usize, end: usize) {
        let word = &text[start..end];
        let after = &text[end..];
        match word {
            b"include" | b"include_next" | b"import" => match after_hash(&text[..start]) {
                Hash::None => {}
                hash => match header(after) {
                    Some(header) if word == b"include_next" => self.asks.push(header),
                    Some(header) => self.includes.push(header),
                    None => self.computed |= hash == Hash::First,
                },
            },
            b"embed" => self.opaque |= after_hash(&text[..start]) != Hash::None,
            _ if is_question(word) => self.question(text, start, after),
            _ => {}
        }
    }

    fn question(&mut self, text: &[u8], start: usize, after: &[u8]) {
        let Some(before) = directive_before(&text[..start]) else {
            return;
        };
        let embed = memmem::find(&text[start..text.len() - after.len()], b"embed").is_some();
        match skip_blank(after).strip_prefix(b"(").map(header) {
            Some(Some(header)) if !embed => self.asks.push(header),
            // `#define __has_include(x) 0`: for compilers that have none.
            Some(_) => self.opaque |= !is_defined(before),
            // `#ifdef __has_include` asks of the compiler, not of a header;
            // `#define HAS __has_include` would.
            None => self.opaque |= !asks_of_compiler(before),
        }
    }
}

fn is_question(word: &[u8]) -> bool {
    [&b"has_include"[..], b"has_embed"]
        .iter()
        .any(|part| memmem::find(word, part).is_some())
        && word.starts_with(b"__")
}

/// The line up to where `text` ends, if that is, or may be, a directive.
fn directive_before(text: &[u8]) -> Option<&[u8]> {
    let line = memchr::memrchr(b'\n', text).map_or(text, |newline| &text[newline + 1..]);
    // A comment may end where the directive starts.
    let may_be = skip_hash(line).is_some() || memmem::find(line, b"*/").is_some();
    may_be.then_some(line)
}

fn is_defined(before: &[u8]) -> bool {
    skip_hash(before).is_some_and(|words| words.trim_ascii() == b"define")
}

fn asks_of_compiler(before: &[u8]) -> bool {
    let Some(words) = skip_hash(before) else {
        return false;
    };
    let len = words.iter().take_while(|byte| is_word(**byte)).count();
    match &words[..len] {
        b"ifdef" | b"ifndef" | b"undef" | b"elifdef" | b"elifndef" => true,
        b"if" | b"elif" => {
            let before = words.trim_ascii_end();
            let before = before.strip_suffix(b"(").unwrap_or(before);
            before.trim_ascii_end().ends_with(b"defined")
        }
        b"define" => is_defined(before),
        // Prose after `#error`, options after `#pragma`, a comment after `#endif`.
        b"error" | b"warning" | b"pragma" | b"endif" | b"else" | b"line" => true,
        _ => false,
    }
}

fn skip_hash(line: &[u8]) -> Option<&[u8]> {
    let line = skip_blank(line);
    let rest = line
        .strip_prefix(b"#")
        .or_else(|| line.strip_prefix(b"%:"))
        .or_else(|| line.strip_prefix(b"??="))?;
    Some(skip_blank(rest))
}

#[derive(PartialEq, Eq)]
enum Hash {
    /// No `#` stands before.
    None,
    /// One does, somewhere in the line.
    Some,
    /// And it may be the first thing in its line.
    First,
}

/// Looks back over blanks and comments for a `#`.
fn after_hash(before: &[u8]) -> Hash {
    let mut rest = before;
    loop {
        let blanks = count_back(rest, |byte| matches!(byte, b' ' | b'\t' | 0x0b | 0x0c));
        rest = &rest[..rest.len() - blanks];
        if !rest.ends_with(b"*/") {
            break;
        }
        match memmem::rfind(&rest[..rest.len() - 2], b"/*") {
            Some(open) => rest = &rest[..open],
            // Never opened here: whatever it is, it may be a directive.
            None => return Hash::First,
        }
    }
    let hashes = [&b"#"[..], b"%:", b"??="];
    let Some(hash) = hashes.iter().find_map(|hash| rest.strip_suffix(*hash)) else {
        return Hash::None;
    };
    let line = memchr::memrchr(b'\n', hash).map_or(hash, |newline| &hash[newline + 1..]);
    match line.trim_ascii().is_empty() || memmem::find(line, b"*/").is_some() {
        true => Hash::First,
        false => Hash::Some,
    }
}

/// Blanks and comments.
fn skip_blank(mut text: &[u8]) -> &[u8] {
    loop {
        let blanks = text
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | 0x0b | 0x0c))
            .count();
        text = &text[blanks..];
        let Some(comment) = text.strip_prefix(b"/*") else {
            return text;
        };
        match memmem::find(comment, b"*/") {
            Some(end) => text = &comment[end + 2..],
            None => return &[],
        }
    }
}

/// `"name"` or `<name>` at the start of `text`.
fn header(text: &[u8]) -> Option<Header> {
    let text = skip_blank(text);
    let (close, quoted) = match text.first()? {
        b'"' => (b'"', true),
        b'<' => (b'>', false),
        _ => return None,
    };
    let line = text[1..].split(|byte| *byte == b'\n').next()?;
    let end = memchr::memchr(close, line)?;
    Some(Header {
        name: line[..end].to_vec(),
        quoted,
    })
}

/// `text` with the names in its include directives blotted out, so that they
/// are not taken for anything else.
pub fn without_includes(text: &[u8]) -> Cow<'_, [u8]> {
    let mut kept: Vec<u8> = Vec::new();
    let mut from = 0;
    for at in memmem::find_iter(text, b"include") {
        let word_starts = !text[..at].last().is_some_and(|byte| is_word(*byte));
        if !word_starts || after_hash(&text[..at]) != Hash::First {
            continue;
        }
        let end = memchr::memchr(b'\n', &text[at..]).map_or(text.len(), |newline| at + newline);
        if at >= from {
            kept.extend_from_slice(&text[from..at]);
            from = end;
        }
    }
    match from {
        0 => Cow::Borrowed(text),
        from => {
            kept.extend_from_slice(&text[from..]);
            Cow::Owned(kept)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(headers: &[Header]) -> Vec<String> {
        let show = |h: &Header| {
            format!(
                "{}{}",
                if h.quoted { '"' } else { '<' },
                String::from_utf8_lossy(&h.name)
            )
        };
        headers.iter().map(show).collect()
    }

    fn includes(text: &str) -> Vec<String> {
        let found = scan(text.as_bytes());
        assert!(!found.computed && !found.opaque, "{text}: {found:?}");
        names(&found.includes)
    }

    #[test]
    fn however_a_directive_is_spelled() {
        for text in [
            "#include \"a.h\"\n",
            "#include\"a.h\"",
            "  #\tinclude \t \"a.h\"",
            "# /* x */ include /* y */ \"a.h\"",
            "/* x\n y */ #include \"a.h\"",
            "%:include \"a.h\"",
            "?\x3f=include \"a.h\"",
            "#inc\\\nlude \"a.h\"",
            "#include \\\n \"a.h\"",
            "#include \"a\\\n.h\"",
            "#include \"a.h\"\r\n",
            "#import \"a.h\"",
            "#if 0\n#include \"a.h\"\n#endif",
            "x\n??=include \"a.h\"",
        ] {
            assert_eq!(includes(text), ["\"a.h"], "{text}");
        }
        assert_eq!(includes("#include <a/b.h> // <c>"), ["<a/b.h"]);
        assert_eq!(includes("int include; include(x); \"include\""), [""; 0]);
        assert_eq!(includes("see #include files"), [""; 0]);
    }

    #[test]
    fn headers_that_macros_make() {
        for text in [
            "#include HEADER\n",
            "#include STR(a.h)",
            " # include_next X",
            "/* */ #include X",
            "#include",
        ] {
            assert!(scan(text.as_bytes()).computed, "{text}");
        }
    }

    #[test]
    fn questions() {
        let asks = |text: &str| {
            let found = scan(text.as_bytes());
            (names(&found.asks), found.opaque)
        };
        let plain = |name: &str| (vec![name.to_owned()], false);
        assert_eq!(asks("#if __has_include(<a.h>)"), plain("<a.h"));
        assert_eq!(asks("#if __has_include ( \"a.h\" )"), plain("\"a.h"));
        assert_eq!(asks("#include_next <a.h>"), plain("<a.h"));
        assert_eq!(asks("#elif X && __has_include_next(<a.h>)"), plain("<a.h"));
        assert_eq!(asks("#define H __has_include(<a.h>)"), plain("<a.h"));
        for harmless in [
            "#ifdef __has_include\n",
            "#if defined __has_include && X",
            "#if defined(__has_include)",
            "# define __has_include(x) 0",
            "#ifndef __has_include\n#define __has_include(x) 0",
            "// about __has_include here",
            "#endif // __has_include",
            "my__has_includes(<x>)",
        ] {
            assert_eq!(asks(harmless), (vec![], false), "{harmless}");
        }
        for opaque in [
            "#if __has_include(NAME)",
            "#define HAS(x) __has_include(x)",
            "#define HAS __has_include",
            "#if HAS && __has_include",
            "#if __has_embed(\"a\")",
            "#embed \"a\"",
            "/*\n*/ #if __has_include(X)",
        ] {
            assert!(asks(opaque).1, "{opaque}");
        }
    }

    #[test]
    fn any_bytes_will_do() {
        for text in [
            &b"#include"[..],
            b"#include \"",
            b"#include <",
            b"include",
            b"*/include",
            b"#__has_include(",
            b"\\\n#include\\\n",
            b"__has_include",
            b"#if __has_include",
            b"/*include",
        ] {
            for end in 0..=text.len() {
                scan(&text[..end]);
                without_includes(&text[..end]);
            }
        }
    }

    #[test]
    fn names_are_blotted_out() {
        let text = b"a\n#include <x/include.h>\nasm(\"include\");\n";
        assert_eq!(&*without_includes(text), b"a\n#\nasm(\"include\");\n");
    }
}
