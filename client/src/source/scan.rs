//! The headers that a source file may include, or ask for by `__has_include`: a superset,
//! since conditions are not evaluated. Pure: total over any bytes; unaware of search paths.

use std::borrow::Cow;

use memchr::memmem;
use xxhash_rust::xxh3::xxh3_64;

use crate::source::code::without_comments;
use crate::source::lex::{
    blanks_at, decode, is_word, splice, string, word_len, word_len_before, words,
};
use crate::source::questions::question_parts;

/// A header as a directive names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub struct Header {
    /// The text between the quotes or the angle brackets.
    #[prost(bytes = "vec", tag = "1")]
    pub name: Vec<u8>,
    /// `"name"`: searched for beside the including file first.
    #[prost(bool, tag = "2")]
    pub quoted: bool,
}

/// The directives of one file that name other files.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Scan {
    /// Headers of `#include` and `#import`: the compiler takes the first that it finds.
    #[prost(message, repeated, tag = "1")]
    pub includes: Vec<Header>,
    /// Headers of `__has_include` and its like; and of `#include_next`, which passes by some
    /// that exist, and goes on in the folders for quotes even with brackets.
    #[prost(message, repeated, tag = "2")]
    pub asks: Vec<Header>,
    /// Macros that ask for the header that they are given:
    /// `#define HAS(x) __has_include(x)`.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub askers: Vec<Vec<u8>>,
    /// Files that `#line` names: compilers quote their lines.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub quoted: Vec<Vec<u8>>,
    /// An `#include` whose header is made by a macro.
    #[prost(bool, tag = "5")]
    pub computed: bool,
    /// Macros that alone make a header: `#include HEADER`.
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub macros: Vec<Vec<u8>>,
    /// An `#include` whose header is made otherwise: `#include NAME(x)`.
    #[prost(bool, tag = "7")]
    pub pasted: bool,
    /// A question whose header can't be told from the file alone, or an `#embed` of such.
    #[prost(bool, tag = "8")]
    pub opaque: bool,
    /// Words that a question's name could be pasted from, see [`question_parts`].
    #[prost(bytes = "vec", repeated, tag = "14")]
    pub parts: Vec<Vec<u8>>,
    /// There is an `#import`, which takes equal files for one.
    #[prost(bool, tag = "10")]
    pub imports: bool,
    /// `#pragma GCC dependency` compares the times of files.
    #[prost(bool, tag = "11")]
    pub dated: bool,
    /// A `#line` whose name is made by a macro: a preprocessor need not show it.
    #[prost(bool, tag = "13")]
    pub lines_made: bool,
    /// Names of headers whose words would be replaced if they were macros:
    /// `#define HAS_IT __has_include(<lib/it.h>)`.
    #[prost(bytes = "vec", repeated, tag = "12")]
    pub spelled: Vec<Vec<u8>>,
    /// Files of `#embed "name"`.
    #[prost(bytes = "vec", repeated, tag = "15")]
    pub embeds: Vec<Vec<u8>>,
}

/// `text` with line feeds for all newlines and spaces for NUL: compilers take a carriage return
/// for a newline, and pass over NUL and a byte order mark.
fn plain(text: &[u8]) -> Cow<'_, [u8]> {
    let mark = text.strip_prefix(b"\xef\xbb\xbf");
    let odd = mark.is_some() || memchr::memchr2(b'\r', 0, text).is_some();
    if !odd {
        return Cow::Borrowed(text);
    }
    let text = mark.unwrap_or(text);
    let mut plain = Vec::with_capacity(text.len());
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'\r' if text.get(at + 1) == Some(&b'\n') => {}
            b'\r' => plain.push(b'\n'),
            0 => plain.push(b' '),
            byte => plain.push(*byte),
        }
    }
    Cow::Owned(plain)
}

/// A text that is ready for [`scan`]: line feeds for all newlines, continued lines joined,
/// and no comments, unless dialects disagree on what is one.
#[derive(Debug)]
pub struct Code<'t> {
    /// The text.
    pub text: Cow<'t, [u8]>,
    /// Its comments are gone: dialects agree on them.
    pub without_comments: bool,
    /// The original had line feeds alone, and no NUL.
    pub was_plain: bool,
}

/// Makes `text` ready for [`scan`].
pub fn code_of(text: &[u8]) -> Code<'_> {
    match plain(text) {
        Cow::Borrowed(text) => code(splice(text), true),
        Cow::Owned(text) => {
            let code = code(splice(&text), false);
            Code {
                text: Cow::Owned(code.text.into_owned()),
                ..code
            }
        }
    }
}

fn code(spliced: Cow<'_, [u8]>, was_plain: bool) -> Code<'_> {
    let code = without_comments(&spliced);
    Code {
        without_comments: code.is_some(),
        text: code.map_or(spliced, Cow::Owned),
        was_plain,
    }
}

/// The directives of `text`, see [`code_of`].
pub fn scan(text: &[u8]) -> Scan {
    let mut found = Scan::default();
    for word in [&b"include"[..], b"import", b"embed"] {
        let mut done = 0;
        for at in memmem::find_iter(text, word) {
            // "include" is in "__has_include_next" once, and in "include_include" twice.
            if at < done {
                continue;
            }
            let start = at - word_len_before(&text[..at]);
            let end = at + word_len(&text[at..]);
            done = end;
            found.word(text, start, end);
        }
    }
    found.dated = memmem::find_iter(text, DEPENDENCY).any(|at| is_dated(text, at));
    found.quoted = line_files(text, &mut found.lines_made);
    found.parts = question_parts(text);
    // A trigraph may stand for another letter, or not.
    let doubtful = |header: &Header| memmem::find(&header.name, b"??").is_some();
    found.opaque |= found.asks.iter().chain(&found.includes).any(doubtful);
    // clang takes one header for another then.
    found.opaque |= memmem::find(text, b"include_alias").is_some();
    found.includes.sort();
    found.includes.dedup();
    found.asks.sort();
    found.asks.dedup();
    found.spelled.sort();
    found.spelled.dedup();
    found
}

const DEPENDENCY: &[u8] = b"dependency";

/// Whether the `dependency` at `at` may be that of `#pragma GCC dependency "file"`: its
/// line says so, or a file follows, and macros do the rest.
fn is_dated(text: &[u8], at: usize) -> bool {
    let line = memchr::memrchr(b'\n', &text[..at]).map_or(0, |newline| newline + 1);
    let rest = skip_blank(&text[at + DEPENDENCY.len()..]);
    memmem::find(&text[line..at], b"GCC").is_some() || matches!(rest.first(), Some(b'"' | b'<'))
}

/// Whether a directive has a word that the name of the macro `asker` could be pasted from:
/// `CAT(HA, S)("it.h")`. The first such word is a beginning of the name, no parameter, and
/// not called, since the end of a call is what gets pasted.
fn has_beginning(text: &[u8], asker: &[u8]) -> bool {
    let Some(first) = asker.first() else {
        return false;
    };
    memchr::memchr_iter(*first, text).any(|at| {
        let len = word_len(&text[at..]);
        let starts = !text[..at].last().is_some_and(|byte| is_word(*byte));
        let word = &text[at..at + len];
        starts
            && len < asker.len()
            && asker.starts_with(word)
            && !skip_blank(&text[at + len..]).starts_with(b"(")
            && !is_parameter(text, at, word)
            && !is_question(word)
            && directive_before(&text[..at]).is_some_and(|before| !asks_of_compiler(before))
    })
}

/// Whether the `word` at `at` is a parameter of the macro that its line defines.
fn is_parameter(text: &[u8], at: usize, word: &[u8]) -> bool {
    let start = memchr::memrchr(b'\n', &text[..at]).map_or(0, |newline| newline + 1);
    let line = text[start..].split(|byte| *byte == b'\n').next();
    let parameters = || {
        let (_, body) = definition(line?)?;
        let parameters = body.strip_prefix(b"(")?;
        let close = memchr::memchr(b')', parameters)?;
        Some(parameters[..close].split(|byte| *byte == b','))
    };
    parameters().is_some_and(|mut names| names.any(|name| name.trim_ascii() == word))
}

/// The headers that `text` gives the macro `asker`. `None`: `text` uses it in a way that
/// can't be followed. `whole`: `text` does not paste its name together.
pub fn headers_given_to(text: &[u8], asker: &[u8], whole: bool) -> Option<Vec<Header>> {
    let text = code_of(text).text;
    if !whole && has_beginning(&text, asker) {
        return None;
    }
    let mut asks = Vec::new();
    for (before, after) in in_directives(&text, asker) {
        if asks_of_compiler(before) {
            continue;
        }
        let condition = skip_hash(before)
            .is_some_and(|words| words.starts_with(b"if") || words.starts_with(b"elif"));
        let given = skip_blank(after).strip_prefix(b"(").and_then(header_alone);
        asks.push(given.filter(|_| condition)?);
    }
    Some(asks)
}

/// Headers that the macro `name` may stand for by the definitions in `text`. `None`: one of
/// them can't be followed.
pub fn headers_named(text: &[u8], name: &[u8]) -> Option<Vec<Header>> {
    if !may_name(text, name) {
        return Some(Vec::new());
    }
    let text = code_of(text).text;
    let mut headers = Vec::new();
    for (before, after) in in_directives(&text, name) {
        if skip_hash(before).is_none() {
            // After a comment that began lines ago, perhaps behind the `define` itself.
            let ended = memmem::find(before, b"*/").map_or(before, |end| &before[..end]);
            let began = memmem::find(ended, b"/*").is_some();
            match memmem::find(before, b"define").is_some() || !began {
                true => return None,
                false => continue,
            }
        }
        let defined = skip_hash(before).and_then(|words| words.strip_prefix(b"define"));
        if defined.is_some_and(|words| skip_blank(words).is_empty()) {
            headers.push(header(after)?);
        }
    }
    Some(headers)
}

/// Words of a header's name that a macro may stand for.
pub fn words_of(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    words(name).filter(|word| !word[0].is_ascii_digit())
}

/// Words that `text` may define the macro `name` as, in place of names of headers. `None`:
/// it is, or may be, more than a word.
pub fn values_of(text: &[u8], name: &[u8]) -> Option<Vec<Header>> {
    let mut values = Vec::new();
    for body in definitions(text, name)? {
        // It takes arguments, and no bracket follows in a clean name.
        if body.starts_with(b"(") {
            continue;
        }
        let value = body.trim_ascii();
        let word = value.iter().all(|byte| is_word(*byte));
        values.push(Header {
            name: word.then(|| value.to_vec())?,
            quoted: false,
        });
    }
    Some(values)
}

/// A filter of the names that `text`, see [`code_of`], may define as macros: the last two
/// bytes of each one's XXH3-64, in order.
pub fn defined_names(text: &[u8]) -> Vec<u8> {
    let mut names: Vec<[u8; 2]> = memmem::find_iter(text, b"define")
        .filter(|at| directive_before(&text[..*at]).is_some())
        .map(|at| {
            let defined = skip_blank(&text[at + b"define".len()..]);
            let len = word_len(defined);
            hashed(&defined[..len])
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names.concat()
}

/// Whether `name` may be in the filter `names`, see [`defined_names`].
pub fn may_be_among(names: &[u8], name: &[u8]) -> bool {
    let name = hashed(name);
    names.as_chunks::<2>().0.binary_search(&name).is_ok()
}

fn hashed(name: &[u8]) -> [u8; 2] {
    let [.., high, low] = xxh3_64(name).to_be_bytes();
    [high, low]
}

/// Whether `name` is in `text`, perhaps on two lines.
fn may_name(text: &[u8], name: &[u8]) -> bool {
    let continued = || text.contains(&b'\\') || memmem::find(text, b"??/").is_some();
    memmem::find(text, name).is_some() || continued()
}

/// The rest of each line of `text` after `#define name`, or what may be one.
fn definitions(text: &[u8], name: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut bodies = Vec::new();
    if !may_name(text, name) {
        return Some(bodies);
    }
    let text = code_of(text).text;
    for at in memmem::find_iter(&text, b"define") {
        let defined = skip_blank(&text[at + b"define".len()..]);
        let Some(rest) = defined.strip_prefix(name) else {
            continue;
        };
        // Another name goes on.
        if rest
            .first()
            .is_some_and(|byte| is_word(*byte) || *byte == b'\\')
            || directive_before(&text[..at]).is_none()
        {
            continue;
        }
        bodies.push(rest.split(|byte| *byte == b'\n').next()?.to_vec());
    }
    Some(bodies)
}

/// Strings that `text` may define the macro `name` as, escapes decoded, or single words (not
/// `quoted`). `None`: it is, or may be, something else.
pub fn strings_of(text: &[u8], name: &[u8]) -> Option<Vec<Header>> {
    let mut values = Vec::new();
    for body in definitions(text, name)? {
        // It may go on below a comment.
        if memmem::find(&body, b"/*").is_some() {
            return None;
        }
        let mut value = Vec::new();
        let mut rest = body.trim_ascii();
        if rest.first().is_some_and(u8::is_ascii_alphabetic) && rest.iter().all(|b| is_word(*b)) {
            values.push(Header {
                name: rest.to_vec(),
                quoted: false,
            });
            continue;
        }
        while let Some(quoted) = rest.strip_prefix(b"\"") {
            let (body, after) = string(quoted)?;
            decode(body, &mut value);
            rest = skip_blank(after);
        }
        values.push(Header {
            name: rest.is_empty().then_some(value)?,
            quoted: true,
        });
    }
    Some(values)
}

/// `name` with the macro `word` replaced by `value`.
pub fn replaced(name: &[u8], word: &[u8], value: &[u8]) -> Vec<u8> {
    let mut made = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some(byte) = rest.first() {
        let len = match is_word(*byte) {
            true => word_len(rest),
            false => 1,
        };
        let whole = &rest[..len];
        made.extend_from_slice(if whole == word { value } else { whole });
        rest = &rest[len..];
    }
    made
}

/// Each place where the whole word `name` stands in a directive: the line before it, and the
/// text after it.
fn in_directives<'t>(text: &'t [u8], name: &[u8]) -> impl Iterator<Item = (&'t [u8], &'t [u8])> {
    let len = name.len();
    memmem::find_iter(text, name).filter_map(move |at| {
        let (before, after) = (&text[..at], &text[at + len..]);
        let part_of_a_word = before.last().is_some_and(|byte| is_word(*byte))
            || after.first().is_some_and(|byte| is_word(*byte));
        let before = directive_before(before).filter(|_| !part_of_a_word)?;
        Some((before, after))
    })
}

/// The files of `#line 12 "name"` and `# 12 "name"`; `made` is set if a macro makes one.
fn line_files(text: &[u8], made: &mut bool) -> Vec<Vec<u8>> {
    let mut files: Vec<Vec<u8>> = Vec::new();
    for at in memchr::memchr_iter(b'#', text) {
        if directive_before(&text[..at + 1]).is_none() {
            continue;
        }
        let rest = skip_blank(&text[at + 1..]);
        let rest = skip_blank(rest.strip_prefix(b"line").unwrap_or(rest));
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        // Not in the middle of a line with a comment: `"ldr r4, [%1, #4]" /* x */`.
        let before = text[..at].rsplit(|byte| *byte == b'\n').next();
        let before = before.unwrap_or_default().trim_ascii();
        let first = before.is_empty() || before.ends_with(b"*/");
        if digits == 0 {
            let word = skip_blank(&text[at + 1..]).strip_prefix(b"line");
            let next = word.and_then(<[u8]>::first);
            *made |= first && next.is_some_and(|byte| !is_word(*byte));
            continue;
        }
        let next = skip_blank(&rest[digits..]).first();
        *made |= first && next.is_some_and(|byte| is_word(*byte));
        if let Some(Header { name, quoted: true }) = header(&rest[digits..])
            && !files.contains(&name)
        {
            files.push(name);
        }
    }
    files
}

impl Scan {
    fn word(&mut self, text: &[u8], start: usize, end: usize) {
        let word = &text[start..end];
        let after = &text[end..];
        match word {
            b"include" | b"include_next" | b"import" => match after_hash(&text[..start]) {
                HashBefore::Absent => {}
                hash => match header(after).inspect(|_| self.imports |= word == b"import") {
                    Some(header) if word == b"include_next" => self.asks.push(anywhere(header)),
                    Some(header) => self.includes.push(header),
                    // Where it is looked for is not where others are.
                    None if word == b"include_next" => {
                        self.computed |= hash == HashBefore::FirstInLine;
                        self.pasted |= hash == HashBefore::FirstInLine;
                    }
                    None if hash == HashBefore::FirstInLine => self.made_by_macro(after),
                    None => {}
                },
            },
            b"embed" => match (after_hash(&text[..start]), header(after)) {
                (HashBefore::Absent, _) => {}
                (_, Some(Header { name, quoted: true })) => self.embeds.push(name),
                _ => self.opaque = true,
            },
            _ if is_question(word) => self.question(text, start, after),
            _ => {}
        }
    }

    fn made_by_macro(&mut self, after: &[u8]) {
        self.computed = true;
        let line = skip_blank(after).split(|byte| *byte == b'\n').next();
        let words = line.unwrap_or_default();
        // No macro, and so an error, or words of a comment: `#include's`.
        let expands = |byte: &u8| is_word(*byte) && !byte.is_ascii_digit() || *byte >= 0x80;
        if !words
            .first()
            .is_some_and(|byte| expands(byte) || b"$\\".contains(byte))
        {
            return;
        }
        let len = word_len(words);
        let (name, rest) = words.split_at(len);
        let rest = skip_blank(rest);
        let alone = rest.is_empty() || rest.starts_with(b"//");
        // What starts with an underscore may be the compiler's own: `__FILE__`.
        match alone && name.first().is_some_and(u8::is_ascii_alphabetic) {
            true => self.macros.push(name.to_vec()),
            false => self.pasted = true,
        }
    }

    fn question(&mut self, text: &[u8], start: usize, after: &[u8]) {
        let Some(before) = directive_before(&text[..start]) else {
            // clang lets raw strings go over several lines of a directive.
            self.opaque |= memmem::find(text, b"R\"").is_some();
            return;
        };
        let word = &text[start..text.len() - after.len()];
        let embed = memmem::find(word, b"embed").is_some();
        let next = word.ends_with(b"_next");
        match skip_blank(after).strip_prefix(b"(").map(header) {
            Some(Some(header)) if !embed => {
                let defined = definition(before);
                // A macro asks where it is used: beside that file, and for what it is
                // given, a word of which may be in the name.
                self.opaque |=
                    defined.is_some_and(|(_, body)| header.quoted || body.starts_with(b"("));
                // Between brackets, words are replaced by then.
                if defined.is_some() || !header.quoted && !is_plain_condition(before) {
                    self.spelled.push(header.name.clone());
                }
                self.asks.push(if next { anywhere(header) } else { header });
            }
            // `#define __has_include(x) 0`: for compilers that have none.
            Some(_) if is_defined(before) => {}
            // `#ifdef __has_include` asks of the compiler, not of a header.
            None if asks_of_compiler(before) => {}
            _ => match asker(before, after).filter(|_| !embed && !next) {
                Some(asker) => self.askers.push(asker.to_vec()),
                None => self.opaque = true,
            },
        }
    }
}

/// A header that is looked for in all folders, whatever its brackets.
fn anywhere(header: Header) -> Header {
    Header {
        quoted: true,
        ..header
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

/// The macro whose body `before` has come to, and all after its name.
fn definition(before: &[u8]) -> Option<(&[u8], &[u8])> {
    let words = skip_blank(skip_hash(before)?.strip_prefix(b"define")?);
    let len = word_len(words);
    (len > 0).then(|| words.split_at(len))
}

/// The macro that `before` has come to the body of, if it asks for the header that it
/// is given and for no other: `#define HAS(x) __has_include(x)`, `#define HAS
/// __has_include`.
fn asker<'t>(before: &'t [u8], after: &[u8]) -> Option<&'t [u8]> {
    let (name, body) = definition(before)?;
    let Some(parameters) = body.strip_prefix(b"(") else {
        let line = after.split(|byte| *byte == b'\n').next()?;
        let rest = skip_blank(line);
        return (rest.is_empty() || rest.starts_with(b"//")).then_some(name);
    };
    let close = memchr::memchr(b')', parameters)?;
    let parameter = match parameters[..close].trim_ascii() {
        b"..." => b"__VA_ARGS__",
        parameter => parameter,
    };
    if parameter.is_empty() || !parameter.iter().all(|byte| is_word(*byte)) {
        return None;
    }
    let asked = skip_blank(after).strip_prefix(b"(")?;
    let rest = skip_blank(asked).strip_prefix(parameter)?;
    skip_blank(rest).starts_with(b")").then_some(name)
}

/// Whether `before` is a condition up to here in which no macro can have its hands: it
/// would replace the words between brackets that follow.
fn is_plain_condition(before: &[u8]) -> bool {
    let words = skip_hash(before).unwrap_or_default();
    let rest = words.strip_prefix(b"el").unwrap_or(words);
    let Some(mut rest) = rest.strip_prefix(b"if") else {
        return false;
    };
    if rest.first().is_some_and(|byte| is_word(*byte)) {
        return false;
    }
    loop {
        rest = rest.trim_ascii_start();
        let len = word_len(rest);
        match rest {
            [] => return true,
            [b'!' | b'(' | b')', ..] => rest = &rest[1..],
            [b'&', b'&', ..] | [b'|', b'|', ..] => rest = &rest[2..],
            _ if &rest[..len] == b"defined" => {
                let name = rest[len..].trim_ascii_start();
                let name = name.strip_prefix(b"(").unwrap_or(name).trim_ascii_start();
                let len = word_len(name);
                if len == 0 {
                    return false;
                }
                rest = &name[len..];
            }
            _ if len > 0 && rest[..len].iter().all(u8::is_ascii_digit) => rest = &rest[len..],
            _ => return false,
        }
    }
}

/// Whether a macro that is given `name` between brackets can only replace whole words of
/// it: blanks, comments, `##` and calls come out otherwise.
pub fn is_clean(name: &[u8]) -> bool {
    name.iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"_./-+".contains(byte))
}

/// The word that `text` ends with, but for blanks.
fn last_word(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii_end();
    &text[text.len() - word_len_before(text)..]
}

fn asks_of_compiler(before: &[u8]) -> bool {
    let Some(words) = skip_hash(before) else {
        return false;
    };
    let len = word_len(words);
    match &words[..len] {
        b"ifdef" | b"ifndef" | b"undef" | b"elifdef" | b"elifndef" => true,
        b"if" | b"elif" => {
            let before = words.trim_ascii_end();
            last_word(before.strip_suffix(b"(").unwrap_or(before)) == b"defined"
        }
        b"define" => is_defined(before),
        // Prose after `#error`, options after `#pragma`, a comment after `#endif`.
        b"error" | b"warning" | b"pragma" | b"endif" | b"else" => true,
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

/// The `#` before a word.
#[derive(PartialEq, Eq)]
enum HashBefore {
    /// There is none.
    Absent,
    /// It stands somewhere in the line.
    InLine,
    /// It may be the first thing in its line.
    FirstInLine,
}

/// Looks back over blanks and comments for a `#`.
fn after_hash(before: &[u8]) -> HashBefore {
    let mut rest = before;
    loop {
        let blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | 0x0b | 0x0c);
        let blanks = rest.iter().rev().take_while(blank).count();
        rest = &rest[..rest.len() - blanks];
        if !rest.ends_with(b"*/") {
            break;
        }
        let body = &rest[..rest.len() - 2];
        let from = memmem::rfind(body, b"*/").map_or(0, |end| end + 2);
        let mut opens = memmem::find_iter(&body[from..], b"/*");
        match (opens.next(), opens.next()) {
            (Some(open), None) => rest = &rest[..from + open],
            // Never opened here, or nobody can say where: it may be a directive.
            _ => return HashBefore::FirstInLine,
        }
    }
    let hashes = [&b"#"[..], b"%:", b"??="];
    let Some(hash) = hashes.iter().find_map(|hash| rest.strip_suffix(*hash)) else {
        return HashBefore::Absent;
    };
    let line = memchr::memrchr(b'\n', hash).map_or(hash, |newline| &hash[newline + 1..]);
    match line.trim_ascii().is_empty() || memmem::find(line, b"*/").is_some() {
        true => HashBefore::FirstInLine,
        false => HashBefore::InLine,
    }
}

/// Blanks and comments.
fn skip_blank(mut text: &[u8]) -> &[u8] {
    loop {
        text = &text[blanks_at(text)..];
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

/// `"name"` or `<name>` at the start of `text`, alone before the `)`.
fn header_alone(text: &[u8]) -> Option<Header> {
    let header = header(text)?;
    let rest = &skip_blank(text)[header.name.len() + 2..];
    skip_blank(rest).starts_with(b")").then_some(header)
}

/// `text` with the names in its include directives blotted out, so that they
/// are not taken for anything else.
pub fn without_includes(text: &[u8]) -> Cow<'_, [u8]> {
    let mut kept: Vec<u8> = Vec::new();
    let mut from = 0;
    for at in memmem::find_iter(text, b"include") {
        let word_starts = !text[..at].last().is_some_and(|byte| is_word(*byte));
        if !word_starts || after_hash(&text[..at]) != HashBefore::FirstInLine {
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

    fn scan(text: &[u8]) -> Scan {
        super::scan(&code_of(text).text)
    }

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
            "\u{feff}#include \"a.h\"",
            "int x;\r#include \"a.h\"\rint y;",
            "\0#\0include \"a.h\"",
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
        assert_eq!(asks("#include_next <a.h>"), plain("\"a.h"));
        assert_eq!(asks("#elif X && __has_include_next(<a.h>)"), plain("\"a.h"));
        assert_eq!(asks("#define H __has_include(<a.h>)"), plain("<a.h"));
        let later = scan(b"#define H __has_include(<lib/2/a_b.h>)");
        assert_eq!(later.spelled, [b"lib/2/a_b.h"]);
        for text in [
            "#if __has_include(<lib/a.h>)",
            "#elif defined(X) && (__has_include(<a.h>))",
            "# if !defined X || 1 && __has_include(<a.h>)",
        ] {
            assert!(scan(text.as_bytes()).spelled.is_empty(), "{text}");
        }
        assert_eq!(
            scan(b"#if NOT( X(1) || __has_include(<a/>))").spelled,
            [b"a/"]
        );
        for spelled in [
            "#if NOT( /*\n*/ __has_include(<a.h>))",
            "#if ID/*c*/(__has_include(<a.h>))",
            "#if ID( ')' && __has_include(<a.h>))",
            "#if OPEN __has_include(<a.h>))",
            "#if if(__has_include(<a.h>))",
            "#if X && __has_include(<a.h>)",
        ] {
            assert_eq!(scan(spelled.as_bytes()).spelled, [b"a.h"], "{spelled}");
        }
        for name in [
            "a  b.h", "a/**/b.h", "a.h ", "a##b.h", "f(a).h", "\u{e9}.h", "a\\b",
        ] {
            assert!(!is_clean(name.as_bytes()), "{name}");
        }
        assert!(is_clean(b"sys/a-b_c++.h"));
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
        for (asker, text) in [
            ("HAS", "#define HAS(x) __has_include(x)"),
            ("HAS", "#  define HAS __has_include"),
            ("H_1", "#define H_1(x) (X && __has_include( x ))"),
            ("HAS", "#define HAS(...) __has_include(__VA_ARGS__)"),
            ("HAS", "#define HAS __has_include // of the compiler"),
        ] {
            let found = scan(text.as_bytes());
            assert_eq!(found.askers, [asker.as_bytes()], "{text}");
            assert!(!found.opaque);
        }
        assert_eq!(asks("\u{feff}#if __has_include(<a.h>)"), plain("<a.h"));
        assert_eq!(asks("int x;\r#if __has_include(<a.h>)\r"), plain("<a.h"));
        assert!(!scan(b"#if CAT(__has_,include)(<a.h>)").parts.is_empty());
        for opaque in [
            "#if __has_include(\"a??-.h\")",
            "#if __has_include(NAME)",
            "#if HAS && __has_include",
            "#if __has_embed(\"a\")",
            "#embed <a>",
            "#embed NAME",
            "/*\n*/ #if __has_include(X)",
            "#define H __has_include(\"a.h\")",
            "#define H(x) __has_include(<dir/x>)",
            "#define H(x) __has_include_next(x)",
            "#define H(a, b) (__has_include(a) || __has_include(b))",
            "#define H(a, ...) __has_include(__VA_ARGS__)",
            "#define H(x) __has_include(OTHER)",
            "#define H __has_include (X)",
            "#if my_defined(__has_include)",
            "#pragma include_alias(\"a.h\", \"b.h\")",
        ] {
            assert!(asks(opaque).1, "{opaque}");
        }
    }

    #[test]
    fn lines_whose_name_a_macro_makes() {
        for (text, made) in [
            ("#line 3 NAME", true),
            ("# 3 NAME\n", true),
            ("#line NAME", true),
            ("/*\n*/ #line 3 NAME", true),
            ("#line 3 \"a.c\"\n# 4\n", false),
            ("#linear x\n", false),
            ("\"[r1, #4] x\" /* y */\n", false),
            ("/* x */ \"mov r1, #4 x\"\n", false),
        ] {
            assert_eq!(scan(text.as_bytes()).lines_made, made, "{text}");
        }
    }

    #[test]
    fn macros_that_may_be_defined() {
        for (text, values) in [
            ("#define lib 1", Some("1")),
            (
                "# /* x */ define /* y */ lib lib64\n#define lib\n",
                Some("lib64,"),
            ),
            ("#define lib(x) 1", Some("none")),
            ("#de\\\nfine l\\\nib", Some("")),
            ("#define library lib", Some("none")),
            ("#undef lib\nint lib;", Some("none")),
            ("// let us define lib\n", Some("none")),
            ("/*\n*/ #define lib", Some("")),
            ("#define lib a b", None),
            ("#define lib a/b", None),
            ("#define lib /* a */", Some("")),
            ("R\"(\n)\"\n#define lib /* a */", None),
        ] {
            let found = values_of(text.as_bytes(), b"lib").map(|found| match found.len() {
                0 => "none".to_owned(),
                _ => {
                    let text = |value: &Header| String::from_utf8_lossy(&value.name).into_owned();
                    found.iter().map(text).collect::<Vec<_>>().join(",")
                }
            });
            assert_eq!(found.as_deref(), values, "{text}");
        }
        for (text, value) in [
            ("#define lib \"lock;\" \"\\n\"", Some("lock;\n")),
            ("#define lib\n", Some("")),
            ("#define lib L\"x\"", None),
            ("#define lib(x) \"x\"", None),
            ("#define lib \"x\" // y", Some("x")),
            ("#define lib \"x\" /*\n*/ \"y\"", Some("xy")),
            ("R\"(\n)\"\n#define lib \"x\" /*\n*/ \"y\"", None),
            ("#define lib OTHER", Some("OTHER")),
            ("#define lib __OTHER", None),
            ("#define lib OTHER(x)", None),
        ] {
            let found = strings_of(text.as_bytes(), b"lib").map(|mut found| found.remove(0).name);
            assert_eq!(found.as_deref(), value.map(str::as_bytes), "{text}");
        }
        let names = b"#define lib x\n# def\\\nine li\\\nb2(x) y\n/*\n*/#define lib3\n";
        let names = defined_names(&code_of(names).text);
        for (name, there) in [
            ("lib", true),
            ("lib2", true),
            ("lib3", true),
            ("li", false),
            ("x", false),
        ] {
            assert_eq!(may_be_among(&names, name.as_bytes()), there, "{name}");
        }
        assert_eq!(replaced(b"sys/lib.lib1", b"lib", b"64"), b"sys/64.lib1");
        let words: Vec<&[u8]> = words_of(b"lib/2/a-b_c.h9").collect();
        assert_eq!(words, [&b"lib"[..], b"a", b"b_c", b"h9"]);
    }

    #[test]
    fn macros_that_ask() {
        let asked =
            |text: &str| headers_given_to(text.as_bytes(), b"HAS", false).map(|asks| names(&asks));
        let none = Some(vec![]);
        assert_eq!(
            asked("#if HAS(<a.h>) && HAS( \"b.h\" )"),
            Some(vec!["<a.h".into(), "\"b.h".into()])
        );
        assert_eq!(
            asked("#define HAS(x) __has_include(x)\n#undef HAS\n#ifdef HAS\n"),
            none
        );
        assert_eq!(asked("int HAS; MY_HAS(x) HASTE"), none);
        assert_eq!(asked("#if MY_HAS(x)"), none);
        for lost in [
            "#if HAS(NAME)",
            "#define OTHER(x) HAS(x)",
            "#if HAS",
            "#include HAS(<a>)",
            "#if HAS(<a.h>, <b.h>)",
            "#if CAT(HA, S)(<a.h>)",
            "#define P H\n",
        ] {
            assert_eq!(asked(lost), None, "{lost}");
        }
        assert_eq!(asked("int H; // HA\n#ifdef AS\n#if SHA\n"), none);
        assert_eq!(asked("#define GLUE(H, S) H ## S\n"), none);
        assert_eq!(asked("#define GLUE(S) H ## S\n"), None);
        assert_eq!(asked("#define H(x) 1\n#define B(x) H(x)\n#undef H\n"), none);
        let question = "#if __has_include(<a.h>)\n";
        assert_eq!(
            headers_given_to(question.as_bytes(), b"__has_include_it", false),
            Some(vec![])
        );
    }

    #[test]
    fn macros_that_name_headers() {
        let made = |text: &str| {
            let found = scan(text.as_bytes());
            assert!(found.computed, "{text}");
            (found.macros, found.pasted)
        };
        let alone = (vec![b"USER_H".to_vec()], false);
        assert_eq!(made("#if defined(USER_H)\n# include USER_H\n"), alone);
        assert_eq!(made("#include USER_H // why\n"), alone);
        assert_eq!(made("#include USER_H /* why */"), alone);
        assert_eq!(made("#include __FILE__"), (vec![], true));
        assert_eq!(made("#include $x"), (vec![], true));
        assert_eq!(made("#include \u{e9}"), (vec![], true));
        assert_eq!(made("#include"), (vec![], false));
        assert_eq!(made("R\"()\"\n/*\n#include's guards */"), (vec![], false));
        assert_eq!(made("#include /*\n*/ USER_H"), alone);
        assert_eq!(made("R\"()\"\n#include /*\n*/ USER_H"), alone);
        assert_eq!(made("#include STR(x)"), (vec![], true));
        let named = |text: &str| headers_named(text.as_bytes(), b"H").map(|h| names(&h));
        let one = |name: &str| Some(vec![name.to_owned()]);
        assert_eq!(named("#define H <a.h>\n"), one("<a.h"));
        assert_eq!(named("# define /* x */ H \"a.h\"\n"), one("\"a.h"));
        assert_eq!(named("#de\\\nfine \\\nH \"a.h\"\n"), one("\"a.h"));
        assert_eq!(named("/*\n*/ #define /*\n*/ H <a.h>"), one("<a.h"));
        for none in [
            "int H;",
            "#ifdef H\n#include H\n#undef H\n#endif",
            "#define H2 1\n#define MY_H 2\n#define X H\n",
            "/* #define\n H */",
        ] {
            assert_eq!(named(none), Some(vec![]), "{none}");
        }
        for lost in [
            "#define H OTHER",
            "#define H(x) <a.h>",
            "R\"()\"\n/*\n*/ #define H <a.h>",
            "R\"()\"\n#define /*\n*/ H <a.h>",
            "#define H",
        ] {
            assert_eq!(named(lost), None, "{lost}");
        }
    }

    #[test]
    fn lines_of_other_files() {
        let files = |text: &str| {
            let found = scan(text.as_bytes()).quoted;
            found
                .iter()
                .map(|f| String::from_utf8_lossy(f).into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            files("#line 1 \"a.y\"\n # 7 \"b\" 3\n#line 8\n#line 9 \"a.y\""),
            ["a.y", "b"]
        );
        assert_eq!(files("x # 1 \"a\"\n#define A 1 \"b\"\n"), [""; 0]);
        assert!(scan(b"#pragma GCC dependency \"x\"").dated);
        assert!(scan(b"_Pragma(\"GCC dependency \\\"x\\\"\")").dated);
        assert!(!scan(b"/* a dependency */").dated);
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
