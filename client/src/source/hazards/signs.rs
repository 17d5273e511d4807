//! Signs of hazards in one file: of a text that changes with time, or of assembler text that
//! reads a file. A sign may be a whole word, or a piece that other files complete. Pure.

use std::borrow::Cow;

use hg_proto::options::args::Reason;
use memchr::memmem;

use super::assembler::{
    ATTRIBUTES, Made, Named, Templates, calls_parameter, composed, gives_attribute, has_attribute,
    made_of, named_template, names_file, names_file_in, templates, templates_in,
};
use super::markers::is_system;
use super::odd::{ODD_SPELLING, has_slashes, odd_spelling};
use super::pragmas::names_options;
use super::whole_words::{ASM_FILE_DIRECTIVE, CLOCK_MACROS, MACROS, TIME_MACRO, clock_or_file};
use crate::source::code::without_comments;
use crate::source::lex::{Kind, Tokens, hash_word, line_start, splice, word_len, word_len_before};
use crate::source::pieces::{self, Pieces, begins_counter};
use crate::source::scan::{self, Code};

/// The signs of one file, or of several together. Strings are details of reasons; empty: no
/// such sign.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Signs {
    /// A macro of the clock, by its whole name.
    #[prost(string, tag = "1")]
    clock: String,
    /// Assembler text that reads a file, or words that may be such.
    #[prost(string, tag = "2")]
    assembler: String,
    /// Assembler text that macros make in an unknown way.
    #[prost(bool, tag = "3")]
    opaque: bool,
    /// Assembler text that macros make in a known way.
    #[prost(message, repeated, tag = "10")]
    named: Vec<Named>,
    /// The fields after this one are known.
    #[prost(bool, tag = "4")]
    made_known: bool,
    /// A word that makes any opaque text suspicious.
    #[prost(string, tag = "5")]
    made: String,
    /// Parts of directives' names, for opaque text.
    #[prost(bytes = "vec", repeated, tag = "6")]
    parts: Vec<Vec<u8>>,
    /// A word that the name of a clock's macro begins with.
    #[prost(string, tag = "7")]
    beginning: String,
    /// Parts of such a name.
    #[prost(bytes = "vec", repeated, tag = "8")]
    clock_parts: Vec<Vec<u8>>,
    /// There are underscores to begin such a name with.
    #[prost(bool, tag = "9")]
    bare: bool,
    /// The file asks by `__has_builtin`, which gcc answers by what is declared: a preprocessor
    /// knows nothing of that.
    #[prost(bool, tag = "11")]
    asks_of_compile: bool,
    /// There is a word that clang's preprocessor reads otherwise than its compiler.
    #[prost(bool, tag = "12")]
    asks_of_clang: bool,
    /// A spelling that compilers may read otherwise than this program.
    #[prost(string, tag = "13")]
    odd: String,
    /// An attribute whose text the assembler gets is named alone.
    #[prost(bool, tag = "14")]
    gives_attribute: bool,
    /// A macro calls its argument.
    #[prost(bool, tag = "15")]
    calls_parameter: bool,
    /// There are words by which gcc's pragmas change options.
    #[prost(bool, tag = "16")]
    names_options: bool,
    /// `__asm__` could be pasted from its words and underscores alone.
    #[prost(bool, tag = "17")]
    pasted_asm: bool,
    /// Bodies of macros that may be another name of `__has_builtin`.
    #[prost(bytes = "vec", repeated, tag = "18")]
    asks_by: Vec<Vec<u8>>,
    /// Names of macros that pass their argument to `__has_builtin`.
    #[prost(bytes = "vec", repeated, tag = "19")]
    askers: Vec<Vec<u8>>,
    /// There is a `//`, which C90 takes for two tokens.
    #[prost(bool, tag = "20")]
    slashes: bool,
}

impl Signs {
    /// The signs of the file at `path`, which is on disk as `text` and read as `code`; without
    /// those that only matter beside opaque text, see [`Signs::complete`].
    pub fn of(path: &[u8], text: &[u8], code: &Code<'_>) -> Signs {
        let mut signs = Signs::default();
        let user = !is_system(path);
        let named = clock_or_file(text);
        if !user && named.is_none() {
            return signs;
        }
        if user && let Some(Reason { detail, .. }) = odd_spelling(text) {
            signs.odd = detail;
            return signs;
        }
        signs.slashes = user && has_slashes(text);
        match read(text, code) {
            (code, true) => signs.code(&code, user),
            (spliced, false) => signs.any_text(&spliced, user, named),
        }
        signs
    }

    /// Adds the signs of text without comments.
    fn code(&mut self, code: &[u8], user: bool) {
        self.whole(clock_or_file(code));
        if !user {
            return;
        }
        self.add_questions(code);
        self.asks_of_clang = asks_of_clang(code);
        let mut pieces = Pieces::of(&MACROS[..CLOCK_MACROS]);
        pieces.add(code);
        self.pieces(&pieces);
        let code = scan::without_includes(code);
        self.whole(names_file_in(&code));
        self.templates(templates_in(&code));
        self.paste(&code);
        self.gives_attribute = gives_attribute(&code);
        self.calls_parameter = calls_parameter(&code);
        self.names_options = names_options(&code);
    }

    /// Adds the signs of text whose comments can't be told; a word was `named` in it before its lines
    /// were joined.
    fn any_text(&mut self, spliced: &[u8], user: bool, named: Option<Reason>) {
        self.whole(named.or_else(|| clock_or_file(spliced)));
        if !user {
            return;
        }
        self.add_questions(spliced);
        self.asks_of_clang = asks_of_clang(spliced);
        let mut pieces = Pieces::of(&MACROS[..CLOCK_MACROS]);
        pieces.add_words(spliced);
        self.pieces(&pieces);
        let text = scan::without_includes(spliced);
        self.whole(names_file(&text));
        self.templates(templates(&text));
        self.opaque |= has_attribute(&text);
        self.paste(&text);
        self.names_options = names_options(&text);
    }

    /// Adds the signs that [`Signs::of`] the same file has left out.
    pub fn complete(&mut self, path: &[u8], text: &[u8], code: &Code<'_>) {
        if self.made_known {
            return;
        }
        self.made_known = true;
        if is_system(path) {
            return;
        }
        let (code, _) = read(text, code);
        let text = scan::without_includes(&code);
        let Made { word, parts } = made_of(&text);
        self.made = word.map(shown).unwrap_or_default();
        self.parts = parts;
    }

    /// Whether [`Signs::complete`] was called.
    pub fn is_complete(&self) -> bool {
        self.made_known
    }

    /// Whether macros make assembler text in an unknown way.
    pub fn is_opaque(&self) -> bool {
        self.opaque || self.gives_attribute && self.calls_parameter || self.pasted_asm && self.bare
    }

    /// To be called for a compiler to which `__asm` without brackets is assembler text, and no
    /// error.
    pub fn distrust(&mut self) {
        self.opaque |= self.named.iter().any(Named::is_bare);
    }

    /// To be called for a source that an assembler reads: all of it is assembler text.
    pub fn assemble(&mut self) {
        self.opaque = true;
    }

    /// Looks at the assembler text that macros take part in. `values_of` says which
    /// strings a word may stand for; `None`: it may be anything.
    pub fn resolve(&mut self, values_of: impl FnMut(&[u8]) -> Option<Vec<Vec<u8>>>) {
        match named_template(&self.named, values_of) {
            Ok(found) => self.whole(found),
            Err(()) => self.opaque = true,
        }
    }

    /// Adds the signs of another file.
    pub fn add(&mut self, other: &Signs) {
        let texts = [
            (&mut self.clock, &other.clock),
            (&mut self.assembler, &other.assembler),
            (&mut self.made, &other.made),
            (&mut self.beginning, &other.beginning),
        ];
        for (own, other) in texts {
            if own.is_empty() {
                own.clone_from(other);
            }
        }
        self.opaque |= other.opaque;
        self.gives_attribute |= other.gives_attribute;
        self.pasted_asm |= other.pasted_asm;
        self.calls_parameter |= other.calls_parameter;
        self.bare |= other.bare;
        self.asks_of_compile |= other.asks_of_compile;
        self.asks_of_clang |= other.asks_of_clang;
        for named in &other.named {
            if !self.named.contains(named) {
                self.named.push(named.clone());
            }
        }
        let words = [
            (&mut self.clock_parts, &other.clock_parts),
            (&mut self.parts, &other.parts),
            (&mut self.asks_by, &other.asks_by),
            (&mut self.askers, &other.askers),
        ];
        for (own, other) in words {
            pieces::merge(own, other);
        }
    }

    /// Whether a pragma in it may change gcc's options, and with them its macros; those of
    /// the system's headers change them back.
    pub fn names_options(&self) -> bool {
        self.names_options
    }

    /// Whether the preprocessor's word may not be the compile's.
    pub fn asks_of_compile(&self, gcc: bool) -> bool {
        match gcc {
            true => self.asks_of_compile || self.asks_by.iter().any(|by| self.is_asker(by)),
            false => self.asks_of_clang,
        }
    }

    /// Whether it has a `//` outside of other comments and strings.
    pub fn has_slashes(&self) -> bool {
        self.slashes
    }

    /// Names of macros that pass their argument to `__has_builtin`.
    pub fn askers(&self) -> &[Vec<u8>] {
        &self.askers
    }

    /// Whether `word` is, or could become by pasting, the name of a macro that passes its
    /// argument to `__has_builtin`.
    fn is_asker(&self, word: &[u8]) -> bool {
        let mut askers = self.askers.iter();
        askers.any(|asker| memmem::find(asker, word).is_some())
    }

    /// The hazard that needs no other sign to be one.
    pub fn hazard(&self) -> Option<Reason> {
        self.odd().or_else(|| one_of(&self.clock, &self.assembler))
    }

    /// The odd spelling, if there is one.
    pub fn odd(&self) -> Option<Reason> {
        let odd = !self.odd.is_empty();
        odd.then(|| Reason::new(ODD_SPELLING, self.odd.as_bytes()))
    }

    /// The hazard that all signs together make.
    pub fn reason(&self) -> Option<Reason> {
        let pieces = |name: &str| format!("pieces of {name}");
        let pasted = || {
            let names = &MACROS[..CLOCK_MACROS];
            pieces::composed(names, &self.clock_parts, self.bare).map(pieces)
        };
        let directive = || composed(&self.parts).map(|name| pieces(&shown(name)));
        let clock = first([&self.clock, &self.beginning]).or_else(pasted);
        let assembler = match self.is_opaque() {
            true => first([&self.assembler, &self.made]).or_else(directive),
            false => first([&self.assembler]),
        };
        one_of(&clock.unwrap_or_default(), &assembler.unwrap_or_default())
    }

    /// Finds `__has_builtin` of anything but `__builtin_x`, or of what a macro is given
    /// whose name does not say so.
    pub fn add_questions(&mut self, text: &[u8]) {
        let says = |word: &[u8]| memmem::find(&word.to_ascii_lowercase(), b"has_builtin").is_some();
        // In pieces.
        self.asks_of_compile |= memmem::find_iter(text, b"__has_b").any(|at| {
            let rest = text[at..].strip_prefix(b"__has_builtin");
            rest.is_none_or(|rest| rest.starts_with(b"##"))
        });
        // An argument that is a macro; one that takes arguments itself stays as it is.
        self.asks_of_compile |= memmem::find_iter(text, b"__builtin_").any(|at| {
            let end = at + word_len(&text[at..]);
            is_defined_at(text, at).unwrap_or(true) && text.get(end) != Some(&b'(')
        });
        let lower = text.to_ascii_lowercase();
        let mut done = 0;
        while let Some(found) = memmem::find(&lower[done..], b"has_builtin") {
            let at = done + found;
            let start = at - word_len_before(&text[..at]);
            done = start + word_len(&text[start..]);
            let word = &text[start..done];
            let rest = text[done..].trim_ascii_start();
            let line = line_start(text, start).unwrap_or(0);
            let mut tokens = Tokens::of(&text[line..]).skip(1);
            let defines = hash_word(&text[line..]) == b"define";
            let name = tokens.nth(1).map_or(&b""[..], |token| token.text);
            let parameter = (tokens.next().filter(|token| token.text == b"("))
                .and_then(|_| tokens.next())
                .map_or(&b""[..], |token| token.text);
            let alone = tokens.next().is_some_and(|token| token.text == b")");
            // The definition itself: what it is given is looked at where it is used.
            if defines && word == name {
                continue;
            }
            let Some(given) = rest.strip_prefix(b"(").map(<[u8]>::trim_ascii_start) else {
                // `#ifdef __has_builtin`, or another name for it or its end.
                let used = defines || is_used(text, line, start);
                if used && (b"__has_builtin".ends_with(word) || may_be_systems(text, word)) {
                    self.asks_of_compile = true;
                } else if used {
                    self.asks_by.push(word.to_vec());
                }
                continue;
            };
            let given = &given[..word_len(given)];
            if defines && says(name) && alone && given == parameter {
                self.askers.push(name.to_vec());
            } else if !given.starts_with(b"__builtin_") {
                self.asks_of_compile = true;
            }
        }
    }

    /// Whether `__asm__` or an attribute could be pasted from words that are in `text`.
    fn paste(&mut self, text: &[u8]) {
        if memmem::find(text, b"##").is_none() && memmem::find(text, b"%:%:").is_none() {
            return;
        }
        let others = [&b"asm"[..], b"__asm__", b"__section__"];
        let names: Vec<&[u8]> = ATTRIBUTES.into_iter().chain(others).collect();
        let words = Tokens::of(text).filter(|token| token.kind == Kind::Word);
        let words = words.map(|token| token.text).filter(|word| word.len() > 1);
        let parts = pieces::parts_of(&names, words);
        if !parts
            .iter()
            .any(|part| part.iter().any(|byte| *byte != b'_'))
        {
            return;
        }
        let made = |more: &[&[u8]]| {
            let all = parts.iter().chain(more).copied();
            names
                .iter()
                .any(|name| pieces::composable(name, all.clone().filter(|part| part != name)))
        };
        self.opaque |= made(&[]);
        self.pasted_asm = made(&[b"_", b"__"]);
    }

    fn whole(&mut self, found: Option<Reason>) {
        let Some(Reason { code, detail }) = found else {
            return;
        };
        let sign = match code {
            TIME_MACRO => &mut self.clock,
            _ => &mut self.assembler,
        };
        if sign.is_empty() {
            *sign = detail;
        }
    }

    fn templates(&mut self, templates: Templates) {
        self.whole(templates.found);
        self.opaque |= templates.opaque;
        self.named = templates.named;
    }

    fn pieces(&mut self, pieces: &Pieces) {
        let detail = |reason: &Option<Reason>| reason.as_ref().map(|reason| reason.detail.clone());
        self.beginning = detail(&pieces.beginning).unwrap_or_default();
        self.clock_parts.clone_from(&pieces.parts);
        self.bare = pieces.bare;
    }
}

/// `text` with its lines joined, and whether it has no comments either. Bytes that are
/// blanks to some are none in assembler text.
fn read<'c>(text: &[u8], code: &'c Code<'_>) -> (Cow<'c, [u8]>, bool) {
    if code.was_plain {
        return (Cow::Borrowed(&code.text), code.without_comments);
    }
    let spliced = splice(text);
    match without_comments(&spliced) {
        Some(code) => (Cow::Owned(code), true),
        None => (Cow::Owned(spliced.into_owned()), false),
    }
}

/// The first of `details` that is one.
fn first<const N: usize>(details: [&String; N]) -> Option<String> {
    details
        .into_iter()
        .find(|detail| !detail.is_empty())
        .cloned()
}

/// The reason with one of these details, if there is one.
fn one_of(clock: &str, assembler: &str) -> Option<Reason> {
    let reasons = [(TIME_MACRO, clock), (ASM_FILE_DIRECTIVE, assembler)];
    let (code, detail) = reasons.into_iter().find(|(_, detail)| !detail.is_empty())?;
    Some(Reason {
        code,
        detail: detail.to_owned(),
    })
}

/// Whether the word at `start` of the directive that begins at `line` may be expanded,
/// called perhaps by what stands behind it: in a condition that does not merely ask
/// whether it is defined.
fn is_used(text: &[u8], line: usize, start: usize) -> bool {
    let before = text[line..start].trim_ascii_end();
    let before = before.strip_suffix(b"(").unwrap_or(before).trim_ascii_end();
    match hash_word(&text[line..]) {
        b"" | b"ifdef" | b"ifndef" | b"elifdef" | b"elifndef" | b"undef" => false,
        _ => !before.ends_with(b"defined"),
    }
}

/// Whether the word at `at` is the name of the macro that its line defines; `None`: the
/// line is too long to tell.
fn is_defined_at(text: &[u8], at: usize) -> Option<bool> {
    let before = text[line_start(text, at)?..at].trim_ascii_end();
    Some(hash_word(before) == b"define" && before.ends_with(b"define"))
}

/// Whether `word` may be a macro of the system's that passes its argument to
/// `__has_builtin`: it is named like one, and not defined in `text` without parameters.
fn may_be_systems(text: &[u8], word: &[u8]) -> bool {
    let given = |at: usize| {
        let whole = word_len(&text[at..]) == word.len();
        (whole && is_defined_at(text, at)?).then(|| text.get(at + word.len()) == Some(&b'('))
    };
    let mut here = memmem::find_iter(text, word).filter_map(given).peekable();
    word.starts_with(b"_") && (here.peek().is_none() || here.any(|given| given))
}

/// Whether `text` asks clang something that its preprocessor answers otherwise: what became
/// of a keyword, and how many counts pragmas have used.
fn asks_of_clang(text: &[u8]) -> bool {
    let words = [&b"__is_identifier"[..], b"__is_id", b"COUNTER"];
    words.iter().any(|word| memmem::find(text, word).is_some()) || begins_counter(text)
}

fn shown(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signs_of(path: &[u8], text: &[u8]) -> Signs {
        Signs::of(path, text, &scan::code_of(text))
    }

    fn complete(signs: &mut Signs, text: &[u8]) {
        signs.complete(b"a.h", text, &scan::code_of(text));
    }

    fn found(texts: &[&str]) -> Option<&'static str> {
        let mut all = Signs::default();
        for text in texts {
            let mut signs = signs_of(b"a.h", text.as_bytes());
            complete(&mut signs, text.as_bytes());
            all.add(&signs);
        }
        all.resolve(|word| (word == b"TEXT").then(|| vec![b"bin".to_vec(), b"".to_vec()]));
        all.reason().map(|reason| reason.code)
    }

    #[test]
    fn files_complete_each_other() {
        let digits = "x = 1'000;\n";
        for (one, other, code) in [
            (
                "asm(\".inc\" X \" \\\"x\\\"\");",
                "#define X \"bin\"",
                ASM_FILE_DIRECTIVE,
            ),
            (
                "F(asm, Y X)",
                "#define X bin\n#define Y inc",
                ASM_FILE_DIRECTIVE,
            ),
            ("x = CAT(_, X);", "#define X _DATE__", TIME_MACRO),
        ] {
            assert_eq!(found(&[one]), None, "{one}");
            assert_eq!(found(&[other]), None, "{other}");
            assert_eq!(found(&[one, other]), Some(code));
            assert_eq!(found(&[other, one]), Some(code));
            // One whose comments can't be told.
            let odd = |text: &str| format!("{digits}{text}\n");
            assert_eq!(found(&[&odd(one), other]), Some(code), "{one}");
            assert_eq!(found(&[one, &odd(other)]), Some(code), "{other}");
            assert_eq!(found(&[&odd(other), &odd(one)]), Some(code));
        }
        for whole in ["char *d = __DATE__;", "asm(\".incbin \\\"x\\\"\");"] {
            assert!(found(&["int x;", whole]).is_some(), "{whole}");
            assert!(signs_of(b"a.h", whole.as_bytes()).hazard().is_some());
        }
    }

    #[test]
    fn assembler_text_with_names_in_it() {
        let pieces = "const char *a = \"inc\", *b = \"bin\";\n";
        let plain = "asm(\"lock; \" TEXT\n\"xchg %0, %1\" : \"=m\"(x));";
        assert_eq!(found(&[pieces, plain]), None);
        for opaque in [
            "asm(\"lock; \" OTHER \"xchg\");",
            "asm(TEXT(x) \"xchg\");",
            "asm(\"\" TEXT\"x\");",
            "#define F(TEXT) asm(\"\" TEXT)",
        ] {
            assert_eq!(found(&[opaque]), None, "{opaque}");
            assert_eq!(
                found(&[pieces, opaque]),
                Some(ASM_FILE_DIRECTIVE),
                "{opaque}"
            );
        }
        for bad in [
            "asm(\".inc\" TEXT \" x\");",
            "__attribute__((section(\"a\\n.inc\" TEXT))) int x;",
        ] {
            assert_eq!(found(&[bad]), Some(ASM_FILE_DIRECTIVE), "{bad}");
        }
    }

    #[test]
    fn what_only_a_compile_knows() {
        for asks in [
            "#if __has_builtin(cbrt)",
            "#if !__has_builtin ( __memcpy_chk )",
            "#define HAS_BUILTIN_CBRT __has_builtin(cbrt)",
            "#define has_builtin_(x, y) __has_builtin(y)",
            "#define HB __has_builtin",
            "#define HB(x) __has_builtin(x)",
            "#define has_builtin(x) __has_builtin(x)\n#if has_builtin(cbrt)",
            "#define Has_Builtin(x) __has_builtin(x)\n#if Has_Builtin(cbrt)",
            "#if CAT(__has_b,uiltin)(cbrt)",
            "#define END has_builtin\n#if CAT(__, END)(cbrt)",
            "#define has_builtin(x) __has_builtin(x)\n#define HB has_builtin\n#if HB(cbrt)",
            "#define HB A_HAS_BUILTIN\n#define A_HAS_BUILTIN(x) __has_builtin(x)\n",
            "#define HB A_HAS_BUILTIN\n#define A_HAS_BUILTIN_B(x) __has_builtin(x)\n",
            "#define HB __glibc_has_builtin\n#if HB(strlen)",
            "#define HB() __glibc_has_builtin\n#if HB()(strlen)",
            "#if APPLY(__glibc_has_builtin, strlen)",
            "#define HAS_BUILTIN(x) __has_builtin(x)\n#if APPLY(HAS_BUILTIN, strlen)",
            "#define _HAS_BUILTIN(x) 0\n#if ID(_HAS_BUILTIN)(strlen)",
            "#define __builtin_foo strlen\n#if __has_builtin(__builtin_foo)",
        ] {
            assert!(
                signs_of(b"a.h", asks.as_bytes()).asks_of_compile(true),
                "{asks}"
            );
        }
        for plain in [
            "#ifdef __has_builtin\n#endif",
            "#if defined(__has_builtin) && __has_builtin(__builtin_expect)",
            "#define has_builtin(x) __has_builtin(x)\n#if has_builtin(__builtin_trap)",
            "#define has_builtin(x) 0",
            "#define HAS_BUILTIN_ADD __has_builtin(__builtin_add)\n\
             #define HAS_BUILTIN_MUL HAS_BUILTIN_ADD\n#if HAS_BUILTIN_MUL",
            "#define A HAS_BUILTIN_B\n#define has_builtin(x) __has_builtin(x)",
            "#define _HAS_BUILTIN_ADD 1\n#if !_HAS_BUILTIN_ADD && defined(_HAS_BUILTIN_X)",
            "#if HAS_BUILTIN_ADD\n#endif\nint has_builtin_x;",
            "# define __builtin_expect(e, c) (e)\n#if __has_builtin(__builtin_expect)",
        ] {
            assert!(
                !signs_of(b"a.h", plain.as_bytes()).asks_of_compile(true),
                "{plain}"
            );
        }
        for asks in ["#if __is_identifier(x)", "int a[__COUNTER__];"] {
            assert!(
                signs_of(b"a.h", asks.as_bytes()).asks_of_compile(false),
                "{asks}"
            );
        }
    }

    #[test]
    fn words_that_are_pasted() {
        let pieces = "#define K(a, b) a##b\nK(__a, sm__)(\".inc\" T);\n";
        assert_eq!(
            found(&[pieces, "#define T \"bin x\""]),
            Some(ASM_FILE_DIRECTIVE)
        );
        assert_eq!(
            found(&[
                "#define K(a, b) a##b\nint asmx;",
                "#define T \"bin x\" \".inc\""
            ]),
            None
        );
        let letters = "#define Q(x) #x\n__asm__(\".\" Q(i) Q(n) Q(c) Q(b) Q(i) Q(n));";
        assert_eq!(found(&[letters]), Some(ASM_FILE_DIRECTIVE));
        let named =
            "extern int x __asm__(S(.inc));\nvoid f(void) { __asm__(\"%c0bin\" :: \"i\"(&x)); }";
        assert_eq!(found(&[named]), Some(ASM_FILE_DIRECTIVE));
    }

    #[test]
    fn a_word_before_the_brackets_has_to_be_a_macro() {
        let opaque = |text: &str, known: &[&[u8]]| {
            let mut signs = signs_of(b"a.h", text.as_bytes());
            signs.resolve(|word| Some(vec![Vec::new(); usize::from(known.contains(&word))]));
            signs.is_opaque()
        };
        let block = "#define TO_INT(i, d) __asm fld d __asm fistp i\n";
        assert!(!opaque(block, &[]) && opaque(block, &[b"fistp"]));
        assert!(!opaque("R\"()\" // asm for it\n", &[]) && opaque("asm VOL (\"x\");", &[b"VOL"]));
        for given in [
            "#define A(x) asm x (\"nop\");",
            "#define A(x) asm a##x (\"nop\");",
            "#define A asm",
        ] {
            assert!(opaque(given, &[]), "{given}");
        }
        let mut signs = signs_of(b"a.h", block.as_bytes());
        signs.distrust();
        assert!(signs.is_opaque());
    }

    #[test]
    fn what_is_glued_from_underscores_needs_some() {
        let glue = "#define K(a, b) a##b\nint K(io, section);\n";
        assert!(!signs_of(b"a.h", glue.as_bytes()).is_opaque());
        let bare = format!("{glue}int K(__, x);");
        assert!(signs_of(b"a.h", bare.as_bytes()).is_opaque());
    }

    #[test]
    fn names_of_attributes_that_are_given() {
        let given = "AT(section, \"x\");\n";
        let call = "#define AT(x, y) __attribute__((x(y)))\n";
        let opaque = |text: &str| signs_of(b"a.h", text.as_bytes()).is_opaque();
        assert!(opaque(&[call, given].concat()));
        for (one, other) in [
            (call, "f(a->section, b.alias);"),
            (call, "#if HAS(ifunc)\n#endif"),
            ("#define AT(x, y) ((x) + (y))\n", given),
        ] {
            assert!(!opaque(&[one, other].concat()), "{one}{other}");
        }
    }

    #[test]
    fn of_the_systems_headers_only_whole_names_count() {
        let of = |text: &str| signs_of(b"/usr/include/a.h", text.as_bytes());
        let pieces = "#define X _DATE__\nx = CAT(_, __DA);\nasm(\".inc\" BIN);";
        assert_eq!(of(pieces), Signs::default());
        assert!(of("x = __TIME__;").hazard().is_some());
        assert_eq!(of("/* __TIME__ */"), Signs::default());
    }

    #[test]
    fn what_was_left_out_is_known_to_be() {
        let text = b"#define BIN \"bin\"\n";
        let mut signs = signs_of(b"a.h", text);
        assert!(!signs.is_complete() && signs.parts.is_empty());
        complete(&mut signs, text);
        assert!(signs.is_complete());
        assert_eq!(signs.parts, [b"bin"]);
    }
}
