//! `asm()` that may make the assembler read a file, whole or put together by
//! macros.

use hg_proto::options::args::Reason;
use memchr::memmem;

use super::assembled::{Assembled, DIRECTIVES};
use super::whole_words::{ASM_FILE_DIRECTIVE, reason};
use crate::source::lex::{
    Kind, Token, Tokens, blanks_at, decode, hash_word, is_blank, is_word, line_start, literal_len,
    raw_string, skip_blank, stands_alone, string, word_len, word_len_before, words,
};
use crate::source::pieces::composable;

/// The assembler's directives that say from which line of which file code is: it writes down
/// the folder that it works in.
const LINE_DIRECTIVES: [&[u8]; 2] = [b".loc", b".file"];

/// Bytes of an `asm` that are read exactly; a longer one counts as opaque.
const TEMPLATE_BYTES_MAX: usize = 256 << 10;

/// Attributes whose text goes to the assembler as it is, underscores aside.
pub(super) const ATTRIBUTES: [&[u8]; 7] = [
    b"section",
    b"symver",
    b"alias",
    b"weakref",
    b"ifunc",
    b"fentry_name",
    b"fentry_section",
];

/// `asm()` that may make the assembler read a file, in text without comments.
pub(super) fn assembler_in(code: &[u8]) -> Option<Reason> {
    let Templates {
        found,
        opaque,
        named,
    } = templates_in(code);
    found.or_else(|| {
        (opaque || !named.is_empty())
            .then(|| made_template(code))
            .flatten()
    })
}

/// Lines that an `asm` of `text` may give to the assembler by hand, where nothing says that
/// they are in a string: macros make strings of anything.
pub(super) fn numbered_lines(text: &[u8]) -> Option<Reason> {
    memmem::find(text, b"asm")?;
    // A member of that name is followed by other signs.
    let is_numbered = |at: usize, name: &[u8]| {
        let mut after = &text[at + name.len()..];
        let whole = after.len();
        loop {
            after = &after[blanks_at(after)..];
            match after.strip_prefix(br"\t") {
                Some(rest) => after = rest,
                None => break,
            }
        }
        let next = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'%' | b'"');
        after.len() < whole && after.first().is_some_and(next)
    };
    LINE_DIRECTIVES.iter().find_map(|name| {
        let mut found = memmem::find_iter(text, name);
        let numbered = found.any(|at| is_numbered(at, name));
        numbered.then(|| reason("asm-file-directive", name))?
    })
}

/// The assembler templates of a text.
#[derive(Default)]
pub(super) struct Templates {
    /// A template that makes the assembler read a file.
    pub(super) found: Option<Reason>,
    /// Macros take part in a template in an unknown way.
    pub(super) opaque: bool,
    /// Templates in which macros take part in a known way.
    pub(super) named: Vec<Named>,
}

impl Templates {
    fn add(&mut self, named: Named) {
        if self.named.len() >= NAMED_MAX {
            self.opaque = true;
        } else if !self.named.contains(&named) {
            self.named.push(named);
        }
    }
}

/// The templates of a text without comments.
pub(super) fn templates_in(code: &[u8]) -> Templates {
    let mut all = Templates::default();
    if memmem::find(code, b"asm").is_none() && !has_attribute(code) {
        return all;
    }
    for token in Tokens::of(code) {
        match template_of(code, &token) {
            Template::Text(text) => {
                if let Some(word) = bad_template(&text) {
                    all.found = reason("asm-file-directive", word);
                    return all;
                }
            }
            // In a macro's body a word may be what that is given.
            Template::Named(named)
                if !in_directive(code, token.at)
                    || named.bare && !named.is_given(code, token.at) =>
            {
                all.add(named);
            }
            Template::Named(_) | Template::Opaque => all.opaque = true,
            Template::None => {}
        }
    }
    all
}

/// Templates of one text that are looked at one by one.
const NAMED_MAX: usize = 64;

/// Whether the line of `at` is, or may be, a directive.
fn in_directive(code: &[u8], at: usize) -> bool {
    line_start(code, at).is_none_or(|start| {
        let line = code[start..].trim_ascii_start();
        line.starts_with(b"#") || line.starts_with(b"%:") || line.starts_with(b"??=")
    })
}

/// The text that the assembler gets by `token` of a text without comments.
fn template_of(code: &[u8], token: &Token<'_>) -> Template {
    let end = token.at + token.text.len();
    match token.text {
        // There is no prose in code: `F(asm, "...")`.
        // One underscore: with clang's -fms-extensions.
        b"asm" | b"_asm" | b"__asm" | b"__asm__" => match template(&code[end..]) {
            Template::None => Template::Opaque,
            template => template,
        },
        name if is_attribute(name) => attribute(code, end),
        _ => Template::None,
    }
}

fn is_attribute(name: &[u8]) -> bool {
    let bare = name.strip_prefix(b"__").unwrap_or(name);
    let bare = bare.strip_suffix(b"__").unwrap_or(bare);
    ATTRIBUTES.contains(&bare)
}

/// What is given to the attribute that ends at `end`; a mere word otherwise, unless it is
/// one that a macro stands for.
fn attribute(code: &[u8], end: usize) -> Template {
    let after = &code[end..];
    let blank = |byte: &&u8| matches!(byte, b' ' | b'\t');
    let blanks = after.iter().take_while(blank).count();
    match after[blanks..].first() {
        Some(_) if after.trim_ascii_start().starts_with(b"(") => template(after),
        Some(byte) if *byte == b'\n' || is_word(*byte) => {
            match line_start(code, end).is_none_or(|at| hash_word(&code[at..end]) == b"define") {
                true => Template::Opaque,
                false => Template::None,
            }
        }
        _ => Template::None,
    }
}

/// As [`assembler_in`], in text whose macros are expanded: templates can be read as the
/// assembler will read them, its own macros included.
pub(super) fn assembler_expanded(code: &[u8]) -> Option<Reason> {
    let mut all = Vec::new();
    for token in Tokens::of(code) {
        match template_of(code, &token) {
            Template::Text(text) => {
                if let Some(word) = bad_end(&text) {
                    return reason("asm-file-directive", word);
                }
                all.extend(text.to_ascii_lowercase());
                all.push(b'\n');
            }
            Template::None => {}
            Template::Named(_) | Template::Opaque => return assembler_in(code),
        }
    }
    let found = file_word(&all).or_else(|| cut_word(&all));
    let made = || macro_word(&all).and_then(|word| made_by_macros(&all, word));
    found
        .or_else(made)
        .and_then(|word| reason("asm-file-directive", word))
}

/// How often text without comments may name a file to an assembler.
pub(super) fn file_words(code: &[u8]) -> usize {
    let lower = code.to_ascii_lowercase();
    let words = DIRECTIVES.iter().flat_map(|name| {
        memmem::find_iter(&lower, name).filter(|at| {
            let after = lower.get(at + name.len());
            // `.include_dirs` is a member of something.
            let ends = !after.is_some_and(|byte| is_word(*byte));
            *name == DIRECTIVES[0] || lower[..*at].ends_with(b".") && ends
        })
    });
    match words.count() {
        // Perhaps in pieces.
        0 => usize::from(names_file_in(code).is_some()),
        count => count,
    }
}

/// The files that the assembler reads of a text whose macros are expanded.
///
/// # Errors
/// One can't be told, or something else than an `asm` names one.
pub(super) fn templates_expanded(code: &[u8]) -> Result<Assembled, Reason> {
    let doubt = |detail: &[u8]| Reason::new(ASM_FILE_DIRECTIVE, detail);
    let mut all = Vec::new();
    for token in Tokens::of(code) {
        match template_of(code, &token) {
            Template::Text(text) => {
                if let Some(word) = bad_end(&text) {
                    return Err(doubt(word));
                }
                all.extend(text);
                all.push(b'\n');
            }
            Template::None => {}
            Template::Named(_) | Template::Opaque => return Err(doubt(b"odd text")),
        }
    }
    let lower = all.to_ascii_lowercase();
    if let Some(word) = cut_word(&lower).or_else(|| macro_word(&lower)) {
        return Err(doubt(word));
    }
    // Others are in strings that may get there in another way.
    if file_words(code) != file_words(&lower) {
        return Err(doubt(b"odd text"));
    }
    let mut assembled = Assembled::of_templates();
    assembled.add(&all)?;
    Ok(assembled)
}

/// Whether a macro may be given the name of an attribute alone: `AT(section, "x")`.
pub(super) fn gives_attribute(code: &[u8]) -> bool {
    let given = |at: usize| {
        let start = at - word_len_before(&code[..at]);
        let len = word_len(&code[start..]);
        let (word, after) = code[start..].split_at(len);
        let before = code[..start].trim_ascii_end();
        let member = before.ends_with(b".") || before.ends_with(b"->");
        // `#if HAS_ATTRIBUTE(ifunc)`
        let line = line_start(code, start).map(|from| hash_word(&code[from..]));
        let asked = matches!(line, Some(b"if" | b"elif" | b"ifdef" | b"ifndef"));
        let ends = matches!(after.trim_ascii_start().first(), Some(b',' | b')'));
        is_attribute(word) && !member && !asked && ends
    };
    let mut all = ATTRIBUTES.iter();
    all.any(|name| memmem::find_iter(code, name).any(given))
}

/// Whether a macro calls its argument: `#define AT(x, y) x(y)`.
pub(super) fn calls_parameter(code: &[u8]) -> bool {
    memmem::find_iter(code, b"define").any(|at| {
        let line = line_start(code, at).filter(|start| hash_word(&code[*start..]) == b"define");
        if line.is_none() {
            return false;
        }
        let line = code[at..].split(|byte| *byte == b'\n').next();
        let mut tokens = Tokens::of(line.unwrap_or_default()).skip(1);
        let (name, open) = (tokens.next(), tokens.next());
        let touches = name
            .zip(open)
            .is_some_and(|(name, open)| open.text == b"(" && open.at == name.at + name.text.len());
        if !touches {
            return false;
        }
        let parameters: Vec<_> = tokens
            .by_ref()
            .take_while(|token| token.text != b")")
            .filter(|token| token.kind == Kind::Word)
            .map(|token| token.text)
            .collect();
        let mut before = &b""[..];
        tokens.any(|token| {
            let calls = token.text == b"(" && parameters.contains(&before);
            before = token.text;
            calls
        })
    })
}

/// Whether `text` has a word that may be an attribute whose text the assembler gets.
pub(super) fn has_attribute(text: &[u8]) -> bool {
    ATTRIBUTES
        .iter()
        .any(|name| memmem::find(text, name).is_some())
}

/// The name of a symbol, or the end of a template, which another one's operand may go on
/// with: `asm(".inc")` and `asm("%c0bin ...")`.
fn bad_end(text: &[u8]) -> Option<&'static [u8]> {
    let at = memchr::memrchr(b'.', text)?;
    let last = text[at + 1..].to_ascii_lowercase();
    begins_directive(&last).then_some(b".inc%")
}

/// The sign of a macro of the assembler's, if `all` of the lower-case text leaves open that
/// one puts the name of a directive together.
fn made_by_macros(all: &[u8], word: &'static [u8]) -> Option<&'static [u8]> {
    // Whose words are more than what is spelled.
    const OTHERS: [&[u8]; 3] = [b".altmacro", b".mri", b".secure_log"];
    if OTHERS
        .iter()
        .any(|other| memmem::find(all, other).is_some())
    {
        return Some(word);
    }
    let in_word = |byte: &u8| is_word(*byte) || matches!(byte, b'.' | b'\\' | b'@');
    let may_begin = |rest: &[u8]| {
        let len = rest
            .iter()
            .take_while(|byte| byte.is_ascii_lowercase())
            .count();
        (begins_directive(&rest[..len]), rest.get(len).copied())
    };
    for at in memchr::memchr_iter(b'.', all) {
        match may_begin(&all[at + 1..]) {
            // `.inc\x`, or `.inc` for a macro that goes on.
            (true, Some(b'\\')) => return Some(word),
            (true, end) if all[at + 1..].starts_with(b"i") && !end.is_some_and(is_word) => {
                return Some(word);
            }
            _ => {}
        }
    }
    for at in memchr::memchr_iter(b'\\', all) {
        let starts = at == 0 || !in_word(&all[at - 1]);
        let rest = &all[at + 1..];
        let len = word_len(rest);
        // `\x\y`, `\x()bin` and `\()\x`; `\x` alone is a word that stands somewhere whole.
        if starts && (len == 0 || matches!(rest.get(len), Some(b'\\' | b'.' | b'@'))) {
            return Some(word);
        }
    }
    None
}

/// A directive that reads a file, spelled in a string or in tokens that may become one;
/// in text without comments.
pub(super) fn names_file_in(code: &[u8]) -> Option<Reason> {
    let tokens = || tokens_name_file(code).then_some(&b".include"[..]);
    let word = strings_name_file(code).or_else(tokens)?;
    reason("asm-file-directive", word)
}

/// `.include` as tokens, whatever strings and newlines are between.
fn tokens_name_file(code: &[u8]) -> bool {
    // To read all tokens is for a word that hardly any text has.
    let ends = |at: usize| at >= 6 && code[at - 6..at].eq_ignore_ascii_case(b"includ");
    if !memchr::memchr2_iter(b'e', b'E', code).any(ends) {
        return false;
    }
    let mut after_dot = false;
    Tokens::of(code).any(|token| {
        let next = code.get(token.at + token.text.len());
        let prefix = next == Some(&b'"') && PREFIXES.contains(&token.text);
        if token.kind == Kind::Text || token.text == b"\n" || prefix {
            return false;
        }
        let names = after_dot && token.text.eq_ignore_ascii_case(b"include");
        after_dot = token.text == b".";
        names
    })
}

/// Encoding prefixes of a string.
const PREFIXES: [&[u8]; 4] = [b"u8", b"L", b"u", b"U"];

/// A directive that reads a file in the strings of `code`, where adjacent strings are one.
fn strings_name_file(code: &[u8]) -> Option<&'static [u8]> {
    let mut joined = Vec::new();
    let mut done = 0;
    while let Some(found) = memchr::memchr2(b'"', b'\'', &code[done..]) {
        let at = done + found;
        let rest = &code[at..];
        let len = literal_len(rest);
        let ends = rest[0] == b'\'' || !goes_on(&code[done..at]);
        if ends && let Some(word) = lower_file_word(&mut joined) {
            return Some(word);
        }
        if rest[0] == b'"' {
            let body = &rest[1..len];
            decode(body.strip_suffix(b"\"").unwrap_or(body), &mut joined);
        }
        done = at + len;
    }
    lower_file_word(&mut joined)
}

/// Whether a string goes on behind `gap`, with a prefix perhaps: `u8"x"` goes on with the
/// string before it.
fn goes_on(gap: &[u8]) -> bool {
    let mut rest = gap.trim_ascii_end();
    if rest.len() == gap.len() {
        let word = word_len_before(rest);
        let (before, word) = rest.split_at(rest.len() - word);
        if PREFIXES.contains(&word) {
            rest = before;
        }
    }
    rest.iter().all(|byte| *byte == b'\n' || is_blank(*byte))
}

/// The directive in `joined`, which is empty then.
fn lower_file_word(joined: &mut Vec<u8>) -> Option<&'static [u8]> {
    joined.make_ascii_lowercase();
    let word = file_word(joined);
    joined.clear();
    word
}

/// As [`names_file_in`], in any text.
pub(super) fn names_file(text: &[u8]) -> Option<Reason> {
    file_word(&text.to_ascii_lowercase()).and_then(|word| reason("asm-file-directive", word))
}

/// A whole directive that reads a file, in lower-case text.
fn file_word(lower: &[u8]) -> Option<&'static [u8]> {
    let (incbin, include) = (&b"incbin"[..], &b".include"[..]);
    if lower.len() < incbin.len() {
        return None;
    }
    if memmem::find(lower, incbin).is_some() {
        return Some(incbin);
    }
    // `.include_dirs` is a member of something.
    let ends = |at: usize| {
        !lower
            .get(at + include.len())
            .is_some_and(|byte| is_word(*byte))
    };
    memmem::find_iter(lower, include)
        .any(ends)
        .then_some(include)
}

/// `asm()` that may make the assembler read a file.
pub(super) fn assembler(user: &[u8]) -> Option<Reason> {
    let Templates { found, opaque, .. } = templates(user);
    found.or_else(|| opaque.then(|| made_template(user)).flatten())
}

/// As [`templates_in`], in any text.
pub(super) fn templates(user: &[u8]) -> Templates {
    let mut all = Templates::default();
    for at in memmem::find_iter(user, b"asm") {
        let before = &user[..at];
        let start = match before.strip_suffix(b"__").or(before.strip_suffix(b"_")) {
            Some(before) => before.len(),
            None => at,
        };
        let len = at + 3 - start
            + if user[at + 3..].starts_with(b"__") {
                2
            } else {
                0
            };
        if !stands_alone(user, start, len) {
            continue;
        }
        match template(&user[start + len..]) {
            Template::Text(text) => {
                if let Some(word) = bad_template(&text) {
                    all.found = reason("asm-file-directive", word);
                    return all;
                }
            }
            Template::Named(named) if named.bare && !named.is_given(user, at) => all.add(named),
            // `F(asm, "...")`, or prose of a comment.
            Template::Named(_) | Template::Opaque | Template::None => all.opaque = true,
        }
    }
    all
}

/// The first operand of an `asm`.
enum Template {
    /// No assembler text at all: a comment, a word in prose.
    None,
    /// Made of strings alone; escapes decoded.
    Text(Vec<u8>),
    /// Made of strings and of words that may be macros.
    Named(Named),
    /// Macros take part in another way.
    Opaque,
}

/// Assembler text in which words stand for more of it: a text, a word, a text and so on.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Named {
    /// The texts around the words, one more than there are words; escapes decoded.
    #[prost(bytes = "vec", repeated, tag = "1")]
    texts: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    words: Vec<Vec<u8>>,
    /// There is one word, where only a macro may be: `asm VOLATILE ("x")`. Without one it is
    /// an error, but for `__asm fld d` of other compilers.
    #[prost(bool, tag = "3")]
    bare: bool,
}

/// Ways to put a [`Named`] together that are looked at.
const WAYS_MAX: usize = 64;

impl Named {
    /// See the field.
    pub(super) fn is_bare(&self) -> bool {
        self.bare
    }

    /// Whether its word is a parameter of the macro that the line of `at` defines.
    fn is_given(&self, code: &[u8], at: usize) -> bool {
        let line = line_start(code, at).map(|start| &code[start..at]);
        let words = line.map(words);
        words.is_none_or(|mut words| words.any(|word| self.words.iter().any(|own| own == word)))
    }

    /// The directive by which the assembler may read a file, where each word stands for one of
    /// its `values`. The outer `None`: there are too many ways.
    fn bad(&self, values: &[Vec<Vec<u8>>]) -> Option<Option<&'static [u8]>> {
        let mut all = vec![self.texts.first().cloned().unwrap_or_default()];
        for (values, text) in values.iter().zip(self.texts.iter().skip(1)) {
            if values.is_empty() || all.len() * values.len() > WAYS_MAX {
                return None;
            }
            let longer = |start: &Vec<u8>| {
                let add = |value: &Vec<u8>| [&start[..], value, text].concat();
                values.iter().map(add).collect::<Vec<_>>()
            };
            all = all.iter().flat_map(longer).collect();
        }
        Some(all.iter().find_map(|text| bad_template(text)))
    }
}

/// Whether one of `templates` may make the assembler read a file. `values_of` says which
/// strings a word may stand for; `None`: it may be anything.
///
/// # Errors
/// As `values_of`, and the templates may be anything too.
pub(super) fn named_template(
    templates: &[Named],
    mut values_of: impl FnMut(&[u8]) -> Option<Vec<Vec<u8>>>,
) -> Result<Option<Reason>, ()> {
    for template in templates {
        if template.bare {
            let defined = |word: &Vec<u8>| values_of(word).is_none_or(|values| !values.is_empty());
            match template.words.iter().any(defined) {
                true => return Err(()),
                false => continue,
            }
        }
        let values: Option<Vec<_>> = template.words.iter().map(|w| values_of(w)).collect();
        if let Some(word) = values.and_then(|values| template.bad(&values)).ok_or(())? {
            return Ok(reason("asm-file-directive", word));
        }
    }
    Ok(None)
}

fn template(after: &[u8]) -> Template {
    let after = &after[..after.len().min(TEMPLATE_BYTES_MAX)];
    let mut rest = after.trim_ascii_start();
    loop {
        let len = word_len(rest);
        match &rest[..len] {
            b"" => break,
            b"volatile" | b"__volatile__" | b"__volatile" | b"goto" | b"inline" | b"__inline__"
            | b"__inline" => rest = rest[len..].trim_ascii_start(),
            // In a macro's body it may be what that is given, or be glued to that.
            word => {
                let plain = word.iter().all(|byte| byte.is_ascii_alphanumeric());
                let glued = rest[len..].trim_ascii_start().starts_with(b"##");
                return match plain && !glued {
                    true => Template::Named(Named {
                        words: vec![word.to_vec()],
                        bare: true,
                        ..Named::default()
                    }),
                    false => Template::Opaque,
                };
            }
        }
    }
    match rest.first() {
        Some(b'(') => rest = &rest[1..],
        Some(b'.' | b',' | b';' | b'-' | b'\'' | b'`') => return Template::None,
        _ => return Template::Opaque,
    }
    let mut named = Named::default();
    let mut text = Vec::new();
    loop {
        rest = skip_blank(rest);
        match rest.first() {
            Some(b'"') => match string(&rest[1..]) {
                Some((body, after)) => {
                    decode(body, &mut text);
                    rest = after;
                }
                None => return Template::Opaque,
            },
            Some(b'R') if rest.starts_with(b"R\"") => match raw_string(rest) {
                Some((body, after)) => {
                    text.extend_from_slice(body);
                    rest = after;
                }
                None => return Template::Opaque,
            },
            Some(b')' | b':') if named.words.is_empty() => return Template::Text(text),
            Some(b')' | b':') => {
                named.texts.push(text);
                return Template::Named(named);
            }
            Some(byte) if is_word(*byte) => {
                let len = word_len(rest);
                let (word, after) = rest.split_at(len);
                // Other letters have two spellings.
                if !word
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
                {
                    return Template::Opaque;
                }
                rest = skip_blank(after);
                // It is the prefix of a string, or takes arguments.
                if after.starts_with(b"\"") || rest.starts_with(b"(") {
                    return Template::Opaque;
                }
                named.texts.push(std::mem::take(&mut text));
                named.words.push(word.to_vec());
            }
            _ => return Template::Opaque,
        }
    }
}

/// What makes a complete template suspicious. Directives are found in any case
/// (gas takes `.INCBIN`), also ones that operands or macros complete.
fn bad_template(text: &[u8]) -> Option<&'static [u8]> {
    bad_string(text).or_else(|| bad_end(text))
}

/// A word that makes a string suspicious that may become a part of a template.
fn bad_string(text: &[u8]) -> Option<&'static [u8]> {
    let lower = text.to_ascii_lowercase();
    asm_word(&lower).or_else(|| cut_word(&lower))
}

/// A directive of lower-case text that reads a file once something else goes on with it.
fn cut_word(lower: &[u8]) -> Option<&'static [u8]> {
    // ".inc%c0" and ".inc{bin|}": the rest of the word comes from elsewhere.
    for at in memchr::memchr_iter(b'.', lower) {
        let rest = &lower[at + 1..];
        let len = rest
            .iter()
            .take_while(|byte| byte.is_ascii_lowercase())
            .count();
        let cut = matches!(rest.get(len), Some(b'%' | b'{' | b'|' | b'}'));
        let counter = rest[len..].starts_with(b"%=") || rest[len..].starts_with(b"%%");
        if cut && !counter && begins_directive(&rest[..len]) {
            return Some(b".inc%");
        }
    }
    None
}

/// Whether a directive that reads a file begins with these small letters, or is them.
fn begins_directive(letters: &[u8]) -> bool {
    DIRECTIVES.iter().any(|name| name.starts_with(letters))
}

/// The first word of lower-case assembler text that may lead to a file.
fn asm_word(lower: &[u8]) -> Option<&'static [u8]> {
    file_word(lower).or_else(|| macro_word(lower))
}

/// Macros of its own put directives together.
fn macro_word(lower: &[u8]) -> Option<&'static [u8]> {
    const WORDS: [&[u8]; 6] = [
        b".macro",
        b".irp",
        b".irep",
        b".altmacro",
        b".mri",
        b".secure_log",
    ];
    WORDS
        .into_iter()
        .find(|word| memmem::find(lower, word).is_some())
}

/// Assembler text made by macros: looks at all user text, squeezed, and at the
/// pieces that are there to be put together.
fn made_template(user: &[u8]) -> Option<Reason> {
    let Made { word, parts } = made_of(user);
    if let Some(word) = word {
        return reason("asm-file-directive", word);
    }
    let name = composed(&parts)?;
    reason("asm-file-directive", &[b"pieces of ", name].concat())
}

/// Signs in a text that matter for assembler text that macros make.
pub(super) struct Made {
    /// A word that makes any such text suspicious.
    pub(super) word: Option<&'static [u8]>,
    /// Parts of the directives' names; single letters are those of strings, and all
    /// where `#x` makes strings of them.
    pub(super) parts: Vec<Vec<u8>>,
}

/// The directive that reads a file, if one can be put together from `parts`.
pub(super) fn composed(parts: &[Vec<u8>]) -> Option<&'static [u8]> {
    DIRECTIVES
        .into_iter()
        .find(|name| composable(name, parts.iter().map(Vec::as_slice)))
}

pub(super) fn made_of(user: &[u8]) -> Made {
    let mut squeezed = Vec::with_capacity(user.len());
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let mut rest = user;
    let mut line_starts = true;
    let mut found = None;
    let made_strings = makes_strings(user);
    while let Some(first) = rest.first() {
        let blank = skip_blank(rest);
        if blank.len() < rest.len() {
            let skipped = &rest[..rest.len() - blank.len()];
            line_starts |= memchr::memchr(b'\n', skipped).is_some();
            rest = blank;
            continue;
        }
        // Includes that clang leaves for the reader are no assembler text.
        if std::mem::take(&mut line_starts)
            && matches!(hash_word(rest), b"include" | b"include_next" | b"import")
        {
            rest = &rest[memchr::memchr(b'\n', rest).unwrap_or(rest.len())..];
            continue;
        }
        let raw = rest.starts_with(b"R\"").then(|| raw_string(rest));
        if let Some(None) = raw {
            found = found.or(Some(&b"unclosed raw string beside asm"[..]));
            break;
        }
        let plain = if *first == b'"' {
            string(&rest[1..])
        } else {
            None
        };
        if let Some((body, after)) = raw.flatten().or(plain) {
            if plain.is_some() && hides_a_letter(body) {
                found = found.or(Some(b"escaped letters beside asm"));
            }
            found = found.or_else(|| bad_string(body));
            add_edges(body, &mut parts);
            squeeze(body, &mut squeezed);
            rest = after;
        } else if is_word(*first) {
            let len = word_len(rest);
            let letters = len > 1 || made_strings;
            add_piece(&rest[..if letters { len } else { 0 }], &mut parts);
            squeeze(&rest[..len], &mut squeezed);
            rest = &rest[len..];
        } else {
            squeeze(&rest[..1], &mut squeezed);
            rest = &rest[1..];
        }
    }
    Made {
        word: found.or_else(|| asm_word(&squeezed)),
        parts,
    }
}

/// Whether a macro of the text, or one of the system's whose name says so, makes a string of
/// its argument.
fn makes_strings(text: &[u8]) -> bool {
    let one = |at: usize| {
        let start = line_start(text, at);
        let defined = start.is_none_or(|start| hash_word(&text[start..at]) == b"define");
        let rest = text[at + 1..].trim_ascii_start();
        defined && text[..at].last() != Some(&b'#') && rest.first().is_some_and(|b| is_word(*b))
    };
    memmem::find(text, b"STRING").is_some() || memchr::memchr_iter(b'#', text).any(one)
}

fn squeeze(text: &[u8], out: &mut Vec<u8>) {
    let drop = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'#' | b',');
    out.extend(
        text.iter()
            .filter(|byte| !drop(byte))
            .map(u8::to_ascii_lowercase),
    );
}

/// Whether a numeric escape of the body stands for a letter or a dot.
fn hides_a_letter(body: &[u8]) -> bool {
    let mut rest = body;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let end = rest.len().min(at + 10);
        if matches!(rest.get(at + 1), Some(b'x' | b'u' | b'U' | b'0'..=b'7')) {
            let mut text = Vec::new();
            decode(&rest[at..end], &mut text);
            if text
                .first()
                .is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'.')
            {
                return true;
            }
        }
        rest = &rest[(at + 2).min(rest.len())..];
    }
    false
}

/// Adds `token` to the parts if it is a part of a directive's name.
fn add_piece(token: &[u8], pieces: &mut Vec<Vec<u8>>) {
    if token.len() > DIRECTIVES[1].len() {
        return;
    }
    let token = token.to_ascii_lowercase();
    let part = DIRECTIVES
        .iter()
        .any(|word| memmem::find(word, &token).is_some());
    if part && !token.is_empty() && !pieces.contains(&token) {
        pieces.push(token);
    }
}

/// The words that a string starts and ends with: a neighbour may go on.
fn add_edges(text: &[u8], pieces: &mut Vec<Vec<u8>>) {
    let head = word_len(text);
    let tail = word_len_before(text);
    add_piece(&text[..head], pieces);
    add_piece(&text[text.len() - tail..], pieces);
    // `%c0bin`, `%[x]bin`: an operand goes before.
    for at in memchr::memchr_iter(b'%', text) {
        let rest = &text[at + 1..];
        let named = rest.iter().position(|byte| !byte.is_ascii_alphabetic());
        let rest = &rest[named.unwrap_or(rest.len())..];
        let operand = match rest.first() {
            Some(b'[') => memchr::memchr(b']', rest).map_or(rest.len(), |end| end + 1),
            _ => rest.iter().take_while(|byte| byte.is_ascii_digit()).count(),
        };
        let rest = &rest[operand..];
        let len = word_len(rest);
        add_piece(&rest[..len], pieces);
    }
}
