//! Pieces of macros' names that a file has, and whether those of all files could be
//! pasted together to one. Pure.

use hg_proto::args::Reason;
use memchr::memmem;

use super::tokens::{Kind, Tokens};

/// Underscores that one `##_##` after another is taken to add: two, in `A(B(DATE_))`.
const GLUED_MAX: usize = 2;

/// What the texts of a compile have of some macros' names in pieces.
#[derive(Debug)]
pub(super) struct Pieces {
    /// Names with their underscores, and the codes of their reasons.
    macros: &'static [(&'static [u8], &'static str)],
    /// `__DA`: what such a name begins with.
    beginning: Option<Reason>,
    /// Underscores alone, where they may be pasted to anything.
    bare: bool,
    /// One between two `##`.
    glue: bool,
    /// `DATE`, `TIME__`: words without all their underscores, and how many are missing.
    stems: Vec<(Reason, usize)>,
}

impl Pieces {
    /// Of the names of `macros`.
    pub(super) fn of(macros: &'static [(&'static [u8], &'static str)]) -> Self {
        Pieces {
            macros,
            beginning: None,
            bare: false,
            glue: false,
            stems: Vec::new(),
        }
    }

    /// Adds a text without comments, continued lines joined.
    pub(super) fn add(&mut self, code: &[u8]) {
        let mut place = Place::default();
        let mut tokens = Tokens::of(code).peekable();
        while let Some(token) = tokens.next() {
            let next = tokens.peek().map_or(&b""[..], |next| next.text);
            let joined = next == b"##" || place.before == b"##";
            if token.kind == Kind::Word && (joined || place.may_be_pasted()) {
                let glue = next == b"##" && place.before == b"##";
                // `_("words")`: it is called, and goes nowhere.
                let called = next == b"(" && !joined;
                self.word(token.text, glue, called);
            }
            place.pass(&token);
        }
    }

    fn word(&mut self, word: &[u8], glue: bool, called: bool) {
        if word == b"_" || word == b"__" {
            let glue = glue && word == b"_";
            self.glue |= glue;
            self.bare |= !(called || glue);
            return;
        }
        if word.len() < 3 {
            return;
        }
        for (name, code) in self.macros {
            let stem = &name[2..name.len() - 2];
            if word.len() < name.len() && name.starts_with(word) {
                self.beginning.get_or_insert(Reason::new(code, word));
            } else if memmem::find(word, stem).is_some() && memmem::find(name, word).is_some() {
                let missing = name.len() - word.len();
                self.stems.push((Reason::new(code, word), missing));
            }
        }
    }

    /// Why one of the names could be put together.
    pub(super) fn reason(&self) -> Option<Reason> {
        let (bare, glue) = (self.bare, self.glue);
        let pasted = |(_, missing): &&(Reason, usize)| bare || glue && *missing <= GLUED_MAX;
        let stem = || self.stems.iter().find(pasted).map(|(reason, _)| reason);
        self.beginning.as_ref().or_else(stem).cloned()
    }
}

/// Where in a text a token stands.
#[derive(Default)]
struct Place<'t> {
    /// The directive, if its line is one.
    directive: &'t [u8],
    /// Parentheses that are open.
    depth: usize,
    before: &'t [u8],
    before_that: &'t [u8],
}

impl<'t> Place<'t> {
    /// Whether a word here may become a macro's argument, or is what one stands for.
    fn may_be_pasted(&self) -> bool {
        match self.directive {
            b"" => self.depth > 0,
            b"define" => self.before != b"define",
            b"if" | b"elif" => {
                let asked = self.before == b"(" && self.before_that == b"defined";
                !(self.before == b"defined" || asked)
            }
            b"include" | b"include_next" | b"import" | b"line" | b"embed" => true,
            _ => false,
        }
    }

    fn pass(&mut self, token: &super::tokens::Token<'t>) {
        match token.text {
            b"\n" => self.directive = b"",
            b"(" if self.directive.is_empty() => self.depth += 1,
            b")" if self.directive.is_empty() => self.depth = self.depth.saturating_sub(1),
            b"#" | b"%:" if token.starts_line => self.directive = b"#",
            word if self.directive == b"#" => self.directive = word,
            _ => {}
        }
        self.before_that = self.before;
        self.before = token.text;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> bool {
        let mut pieces = Pieces::of(&super::super::MACROS);
        pieces.add(text.as_bytes());
        pieces.reason().is_some()
    }

    #[test]
    fn names_that_pieces_make() {
        for text in [
            "x = CAT(__DA, TE__);",
            "x = CAT(__TIME, STAMP__);",
            "#define W(x) __##x##__\nx = W(DATE);",
            "x = CAT(__, TIME__);",
            "x = CAT(_, _DATE__);",
            "#define U _\n#define T TIME\n",
            "#define A(x, y) x##_##y\nx = A(, B(DATE__));",
            "%: define W(x) __ %:%: x\nx = W(DATE__);",
            "#define U(x) _##x\nx = U(_TIME__);",
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
            "#define N(x) a##_##x\nenum { DATE, TIME };",
            "#define N(x) a##_##x\nf(DATE, TIME);",
            "auto _ = f(TIME);",
            "f(MY_DATE, DATES, __TIMEZONE, x__DATE__);",
        ] {
            assert!(!found(text), "{text}");
        }
    }
}
