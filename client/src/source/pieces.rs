//! Pieces of macros' names in a file, and whether those of all files could be pasted
//! together to a whole name. Pure.

use hg_proto::options::args::Reason;

use memchr::memmem;

use crate::source::lex::{Kind, Token, Tokens, is_word, literal_len, word_len};

/// Pieces of some macros' names, collected from the texts of a compile.
#[derive(Debug)]
pub(crate) struct Pieces {
    /// The macros' names with their underscores, and the codes of their reasons.
    macros: &'static [(&'static [u8], &'static str)],
    /// Bytes that are in one of the names: most words begin with another.
    letters: [bool; 256],
    /// A word that such a name begins with: `__DA`.
    pub(crate) beginning: Option<Reason>,
    /// There are underscores alone, where they may be pasted to anything.
    pub(crate) bare: bool,
    /// Other parts of such names: `DATE`, `TI`, `ME__`.
    pub(crate) parts: Vec<Vec<u8>>,
}

impl Pieces {
    /// No pieces yet of the names of `macros`.
    pub(crate) fn of(macros: &'static [(&'static [u8], &'static str)]) -> Self {
        let mut letters = [false; 256];
        for byte in macros.iter().flat_map(|(name, _)| *name) {
            letters[usize::from(*byte)] = true;
        }
        Pieces {
            macros,
            letters,
            beginning: None,
            bare: false,
            parts: Vec::new(),
        }
    }

    /// Adds a text without comments, continued lines joined.
    pub(crate) fn add(&mut self, code: &[u8]) {
        if !self.may_be_in(code) {
            return;
        }
        let mut place = Place::default();
        let mut tokens = Tokens::of(code).peekable();
        while let Some(token) = tokens.next() {
            let next = tokens.peek().map_or(&b""[..], |next| next.text);
            let joined = next == b"##" || place.before == b"##";
            if token.kind == Kind::Word && (joined || place.may_be_pasted()) {
                // `_("words")`: it is called, and goes nowhere.
                let called = next == b"(" && !joined;
                self.word(token.text, called);
            }
            place.pass(&token);
        }
    }

    /// Whether `code` has a word of the names' letters alone. Few texts have one, and to
    /// read all tokens takes ten times as long.
    pub(crate) fn may_be_in(&self, code: &[u8]) -> bool {
        let mut at = 0;
        // `None`: before a word.
        let mut of_letters = None;
        while let Some(byte) = code.get(at) {
            if is_word(*byte) {
                let letter = self.letters[usize::from(*byte)];
                of_letters = Some(letter && of_letters.unwrap_or(true));
                at += 1;
                continue;
            }
            if of_letters == Some(true) {
                return true;
            }
            of_letters = None;
            at += match byte {
                b'"' | b'\'' => literal_len(&code[at..]),
                _ => 1,
            };
        }
        of_letters == Some(true)
    }

    /// Adds all words of a text in which dialects disagree on comments.
    pub(crate) fn add_words(&mut self, text: &[u8]) {
        let mut rest = text;
        while let Some(at) = rest.iter().position(|byte| is_word(*byte)) {
            let len = word_len(&rest[at..]);
            let (word, after) = rest[at..].split_at(len);
            rest = after;
            self.word(word, after.trim_ascii_start().starts_with(b"("));
        }
    }

    fn word(&mut self, word: &[u8], called: bool) {
        if word.iter().any(|byte| !self.letters[usize::from(*byte)]) {
            return;
        }
        if word == b"_" || word == b"__" {
            self.bare |= !called;
            return;
        }
        for (name, code) in self.macros {
            if (3..name.len()).contains(&word.len()) && name.starts_with(word) {
                self.beginning.get_or_insert(Reason::new(code, word));
            } else if word.len() < name.len() && is_within(word, name) {
                if !self.parts.iter().any(|part| part == word) {
                    self.parts.push(word.to_vec());
                }
                break;
            }
        }
    }

    /// Why one of the names could be pasted together; `None`: none could.
    pub(crate) fn reason(&self) -> Option<Reason> {
        let composed = || {
            let name = composed(self.macros, &self.parts, self.bare)?;
            let (_, code) = self
                .macros
                .iter()
                .find(|(all, _)| *all == name.as_bytes())?;
            Some(Reason::new(code, format!("pieces of {name}").as_bytes()))
        };
        self.beginning.clone().or_else(composed)
    }
}

/// Whether `word` is a part of `name`. Names are so short, and words so many, that to
/// prepare a search costs more than to look.
pub(crate) fn is_within(word: &[u8], name: &[u8]) -> bool {
    let first = word.first();
    let mut starts = (0..name.len()).filter(|at| name.get(*at) == first);
    starts.any(|at| name[at..].starts_with(word))
}

/// The words of `words` that are parts of one of `names`, each once.
pub(crate) fn parts_of<'t>(
    names: &[&[u8]],
    words: impl Iterator<Item = &'t [u8]>,
) -> Vec<&'t [u8]> {
    let mut parts = Vec::new();
    for word in words {
        let part = |name: &&[u8]| word.len() < name.len() && is_within(word, name);
        if names.iter().any(part) && !parts.contains(&word) {
            parts.push(word);
        }
    }
    parts
}

/// Adds those of `more` that are not among `parts`.
pub(crate) fn merge(parts: &mut Vec<Vec<u8>>, more: &[Vec<u8>]) {
    for part in more {
        if !parts.contains(part) {
            parts.push(part.clone());
        }
    }
}

/// The name that `parts` could be pasted to; `bare`: with underscores alone, which a name
/// needs where no part is a beginning of it.
pub(crate) fn composed(
    macros: &[(&'static [u8], &'static str)],
    parts: &[Vec<u8>],
    bare: bool,
) -> Option<&'static str> {
    if !bare {
        return None;
    }
    let all = parts.iter().map(Vec::as_slice).chain([&b"_"[..], b"__"]);
    let mut names = macros.iter().map(|(name, _)| *name);
    let name = names.find(|name| composable(name, all.clone()))?;
    std::str::from_utf8(name).ok()
}

/// Whether `word` can be pasted together from `pieces`.
pub(crate) fn composable<'p>(word: &[u8], pieces: impl Iterator<Item = &'p [u8]> + Clone) -> bool {
    let mut reached = vec![false; word.len() + 1];
    reached[0] = true;
    for at in 0..word.len() {
        if !reached[at] {
            continue;
        }
        for piece in pieces.clone() {
            if word[at..].starts_with(piece) {
                reached[at + piece.len()] = true;
            }
        }
    }
    reached[word.len()]
}

/// The surroundings of a token.
#[derive(Default)]
struct Place<'t> {
    /// The directive, if its line is one.
    directive: &'t [u8],
    /// The name of the directive was the last token.
    named: bool,
    before: &'t [u8],
    before_that: &'t [u8],
}

impl<'t> Place<'t> {
    /// Whether the next word may become a macro's argument, or is part of a macro's body.
    fn may_be_pasted(&self) -> bool {
        match self.directive {
            b"define" => !self.named,
            b"ifdef" | b"ifndef" | b"elifdef" | b"elifndef" | b"undef" => false,
            b"if" | b"elif" => {
                let asked = self.before == b"(" && self.before_that == b"defined";
                !(self.before == b"defined" || asked)
            }
            _ => true,
        }
    }

    fn pass(&mut self, token: &Token<'t>) {
        self.named = false;
        match token.text {
            b"\n" => self.directive = b"",
            b"#" | b"%:" if token.starts_line => self.directive = b"#",
            word if self.directive == b"#" => {
                self.directive = word;
                self.named = true;
            }
            _ => {}
        }
        self.before_that = self.before;
        self.before = token.text;
    }
}

/// Whether `text` has a word that `__COUNTER__` begins with, and could be pasted from.
pub(crate) fn begins_counter(text: &[u8]) -> bool {
    let name = &b"__COUNTER__"[..];
    memmem::find_iter(text, b"__C").any(|at| {
        let word = &text[at..at + word_len(&text[at..])];
        let starts = !text[..at].last().is_some_and(|byte| is_word(*byte));
        starts && word.len() < name.len() && name.starts_with(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> bool {
        let mut pieces = Pieces::of(&crate::source::hazards::whole_words::MACROS);
        pieces.add(text.as_bytes());
        pieces.reason().is_some()
    }

    #[test]
    fn names_that_pieces_make() {
        for text in [
            "x = CAT(__DA, TE__);",
            "x = CAT(__TIME, STAMP__);",
            "x = CAT3(__, TI, ME__);",
            "x = CAT3(_, _TI, ME__);",
            "x = CAT8(_, _, T, I, M, E, _, _);",
            "x = CAT4(__, TIM, E, __);",
            "#define W(x) __##x##__\nx = W(DATE);",
            "x = CAT(__, TIME__);",
            "x = CAT(_, _DATE__);",
            "#define U _\n#define T TIME\n",
            "#define A(x, y) x##_##y\nx = A(, B(DATE__));",
            "%: define W(x) __ %:%: x\nx = W(DATE__);",
            "#define U(x) _##x\nx = U(_TIME__);",
            "#define OPEN CAT(\nx = OPEN __DA, TE__);",
            "x = CAT(\n#if 0\n)\n#endif\n__DA, TE__);",
            "#ident CAT(__DA, TE__)",
            "# 3 CAT(__DA, TE__)",
            "#pragma message CAT(__TI, ME__)",
            "#define A(x, y) x##_##y\nx = B(B(B(,B(,DATE)),),);",
            "#define define __DA\nx = CAT(define, TE__);",
        ] {
            assert!(found(text), "{text}");
        }
    }

    #[test]
    fn pieces_that_never_meet() {
        for text in [
            "#ifdef _\n#undef _\n#define _(x) x\n#endif\n#define M(t) (DATE_##t)",
            "#if defined(_) || defined _\n#endif\nf(TIME);",
            "puts(_(\"DATE\")); f(DATE);",
            "#define F(T, E) T##_##E\nint TI, D;",
            "#define N(x) a##_##x\nf(MY_DATE);",
            "f(MY_DATE, DATES, __TIMEZONE, x__DATE__);",
        ] {
            assert!(!found(text), "{text}");
        }
    }
}
