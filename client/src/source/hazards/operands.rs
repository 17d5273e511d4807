//! The operands that macros may give `_Pragma` and `__pragma`. glibc has a macro that makes
//! a pragma of its argument, so that nearly every text has an operator whose operand is not
//! spelled out; few words can get into it. Pure.

use memchr::memmem;

use crate::source::lex::{
    hash_word, line_of, line_start, quoted_len, stands_alone, word_len, words,
};
use crate::source::pieces::{composable, parts_of};

/// Macros that lead to an operator, and words of operands, that are followed.
const NAMES_MAX: usize = 256;
/// Bytes of the arguments of one call.
const CALL_BYTES_MAX: usize = 64 << 10;

/// Whether the operator whose name ends at `at` is given something else than a string.
pub(super) fn is_made(text: &[u8], at: usize) -> bool {
    let operator = text[..at].ends_with(b"_Pragma") || text[..at].ends_with(b"__pragma");
    let given = text[at..].trim_ascii_start().strip_prefix(b"(");
    operator && !given.is_some_and(|given| given.trim_ascii_start().starts_with(b"\""))
}

/// Whether one of `names` may get into an operand that macros make; `None`: it can't be
/// told. `code` has no comments and no continued lines.
pub(super) fn may_name(code: &[u8], names: &[&[u8]]) -> Option<bool> {
    let mut operands = Operands {
        code,
        makers: Vec::new(),
        found: Vec::new(),
    };
    let ends = memmem::find_iter(code, b"ragma").map(|at| at + b"ragma".len());
    let operators: Vec<usize> = ends.filter(|end| is_made(code, *end)).collect();
    for end in &operators {
        operands.define(*end)?;
    }
    let mut next = 0;
    while let Some(maker) = operands.makers.get(next) {
        for end in ends_of(code, maker.name) {
            operands.define(end)?;
        }
        next += 1;
    }
    for end in operators {
        operands.give(end, true, false)?;
    }
    for at in 0..operands.makers.len() {
        let (name, is_open, is_called) = {
            let maker = &operands.makers[at];
            (maker.name, maker.is_open, maker.is_called)
        };
        for end in ends_of(code, name) {
            operands.give(end, is_open, is_called)?;
        }
    }
    if operands.is_pasted() {
        return None;
    }
    operands.follow()?;
    Some(operands.name(names))
}

/// A macro that leads to an operator.
struct Maker<'t> {
    name: &'t [u8],
    /// The macro has parameters.
    is_called: bool,
    /// What it stands for takes the operand from what follows it.
    is_open: bool,
}

struct Operands<'t> {
    code: &'t [u8],
    makers: Vec<Maker<'t>>,
    /// Texts that may get into an operand.
    found: Vec<&'t [u8]>,
}

impl<'t> Operands<'t> {
    /// Notes the macro whose body has the word that ends at `end`, an operator or a macro
    /// that leads to one. `None`: it can't be followed.
    fn define(&mut self, end: usize) -> Option<()> {
        let code = self.code;
        let start = line_start(code, end)?;
        let line = line_of(&code[start..]);
        if hash_word(line) != b"define" {
            return Some(());
        }
        let definition = Definition::of(line)?;
        let line_end = start + line.len();
        if line_end - definition.body.len() >= end {
            // It is what is defined.
            return Some(());
        }
        if !is_balanced(definition.body) || self.makers.len() > NAMES_MAX {
            return None;
        }
        let is_open = groups(&code[end..line_end])?.is_empty();
        self.found.push(definition.body);
        let mut makers = self.makers.iter_mut();
        match makers.find(|one| one.name == definition.name) {
            Some(maker) => {
                maker.is_called |= definition.is_called;
                maker.is_open |= is_open;
            }
            None => self.makers.push(Maker {
                name: definition.name,
                is_called: definition.is_called,
                is_open,
            }),
        }
        Some(())
    }

    /// Notes the arguments of the word that ends at `end`, unless it is in a directive, where
    /// no operator does anything. `None`: they can't be followed.
    fn give(&mut self, end: usize, is_open: bool, is_called: bool) -> Option<()> {
        let code = self.code;
        if !hash_word(line_of(&code[line_start(code, end)?..])).is_empty() {
            return Some(());
        }
        let groups = groups(&code[end..])?;
        self.found.push(groups);
        let goes_elsewhere = is_open && is_called || groups.is_empty() && (is_open || is_called);
        (!goes_elsewhere).then_some(())
    }

    /// Whether the name of such a macro may be pasted together.
    fn is_pasted(&self) -> bool {
        let names: Vec<&[u8]> = self.makers.iter().map(|one| one.name).collect();
        !names.is_empty() && may_paste(self.code, words(self.code), &names)
    }

    /// Adds the bodies of the macros that operands name; `None`: they can't be followed.
    fn follow(&mut self) -> Option<()> {
        let mut known: Vec<&[u8]> = Vec::new();
        let mut next = 0;
        while let Some(text) = self.found.get(next) {
            next += 1;
            // What it makes may be a macro's name again.
            let pastes = [&b"##"[..], b"%:%:"];
            if pastes
                .iter()
                .any(|paste| memmem::find(text, paste).is_some())
            {
                return None;
            }
            for word in words(text) {
                if known.contains(&word) {
                    continue;
                }
                if known.len() >= NAMES_MAX {
                    return None;
                }
                known.push(word);
                for at in memmem::find_iter(self.code, word) {
                    let start = line_start(self.code, at)?;
                    let line = line_of(&self.code[start..]);
                    if hash_word(line) == b"define"
                        && let Some(definition) = Definition::of(line)
                        && definition.name == word
                    {
                        self.found.push(definition.body);
                    }
                }
            }
        }
        Some(())
    }

    fn name(&self, names: &[&[u8]]) -> bool {
        let all = || self.found.iter().flat_map(|text| words(text));
        all().any(|word| names.contains(&word))
            || self.found.iter().any(|text| may_paste(text, all(), names))
    }
}

/// Where the word `name` ends in `code`, each time.
fn ends_of(code: &[u8], name: &[u8]) -> impl Iterator<Item = usize> {
    let at = memmem::find_iter(code, name).map(|at| at + name.len());
    let ends: Vec<usize> = at
        .filter(|end| stands_alone(code, end - name.len(), name.len()))
        .collect();
    ends.into_iter()
}

/// Whether one of `names` may be pasted from `words` of two letters or more, where `text`
/// pastes.
fn may_paste<'w>(text: &[u8], words: impl Iterator<Item = &'w [u8]>, names: &[&[u8]]) -> bool {
    if memmem::find(text, b"##").is_none() {
        return false;
    }
    let parts = parts_of(names, words.filter(|word| word.len() > 1));
    // Not of itself alone.
    names.iter().any(|name| {
        let parts = parts.iter().copied().filter(|part| part != name);
        composable(name, parts)
    })
}

/// A line `#define NAME(PARAMETERS) BODY`.
struct Definition<'t> {
    name: &'t [u8],
    is_called: bool,
    body: &'t [u8],
}

impl<'t> Definition<'t> {
    fn of(line: &'t [u8]) -> Option<Self> {
        let at = memmem::find(line, b"define")? + b"define".len();
        let rest = line[at..].trim_ascii_start();
        let len = word_len(rest);
        let (name, rest) = rest.split_at(len);
        let is_called = rest.starts_with(b"(");
        let end = match is_called {
            true => memchr::memchr(b')', rest)? + 1,
            false => 0,
        };
        Some(Definition {
            name,
            is_called,
            body: &rest[end..],
        })
    }
}

/// The groups in brackets that `text` begins with, after blanks; `None`: the last of them
/// does not end.
fn groups(text: &[u8]) -> Option<&[u8]> {
    let mut end = 0;
    loop {
        let rest = &text[end..];
        let blanks = rest.len() - rest.trim_ascii_start().len();
        if rest.get(blanks) != Some(&b'(') {
            return Some(&text[..end]);
        }
        end += blanks + group_len(&rest[blanks..])?;
    }
}

/// Bytes of the group whose bracket `text` begins with.
fn group_len(text: &[u8]) -> Option<usize> {
    let mut open = 0usize;
    let mut at = 0;
    while at < CALL_BYTES_MAX {
        match text.get(at)? {
            b'(' => open += 1,
            b')' if open == 1 => return Some(at + 1),
            b')' => open -= 1,
            b'"' | b'\'' => at += quoted_len(&text[at..])? - 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// Whether all brackets that open in `body` close there.
fn is_balanced(body: &[u8]) -> bool {
    let mut open = 0usize;
    let mut at = 0;
    while let Some(byte) = body.get(at) {
        match byte {
            b'(' => open += 1,
            b')' if open == 0 => return false,
            b')' => open -= 1,
            b'"' | b'\'' => match quoted_len(&body[at..]) {
                Some(len) => at += len - 1,
                None => return false,
            },
            _ => {}
        }
        at += 1;
    }
    open == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(code: &str) -> Option<bool> {
        may_name(code.as_bytes(), &[b"pack", b"options"])
    }

    #[test]
    fn what_gets_into_an_operand() {
        for code in [
            "#define D(x) _Pragma(#x)\nD(pack(1))",
            "#define D(x) _Pragma(#x)\n#define E(x) D(x)\nE( pack(1))",
            "#define D(x) _Pragma(#x)\n#define E(x) D(x)\n#define P pack(1)\nE(P)",
            "#define D(x) _Pragma(#x)\n#define J(a, b) a##b\nD(J(pa, ck)(1))",
            "#define S \"pack(1)\"\n_Pragma(S)",
            "#define P __pragma(pack(1))",
            "#define D _Pragma\nD(\"pack(1)\")",
            "#define D _Pragma\n#define E(x) D\n#define F E\nE(1)(\"pack(1)\")",
        ] {
            assert_ne!(found(code), Some(false), "{code}");
        }
    }

    #[test]
    fn who_knows() {
        for code in [
            "#define D(x) _Pragma(#x)\n#define W(f) f(pack(1))\nW(D)",
            "#define D(x) _Pragma(#x)\n#define E D(\nE pack (1))",
            "#define D(x) _Pragma(#x)\n#define E D\n#define C(f, x) f(x)\nC(E, pack(1))",
            "#define DO_IT(x) _Pragma(#x)\n#define X(a) DO_##a\nX(IT)(pack(1))",
            "#define D(x) _Pragma(#x)\nD(pack(1)",
            "_Pragma",
            "#define D(x) _Pragma(#x)\n#define J(a, b) a##b\n#define P_ON pack(1)\nD(J(P_, ON))",
            "#define D(x) _Pragma(#x)\n#define J(a, b) a##b\nD(J(p, ack)(1))",
        ] {
            assert_ne!(found(code), Some(false), "{code}");
        }
    }

    #[test]
    fn what_does_not() {
        let glibc = "# define __glibc_macro_warning1(message) _Pragma (#message)\n\
                     # define __glibc_macro_warning(message) \
                     __glibc_macro_warning1 (GCC warning message)\n";
        for code in [
            "struct pack *pack(int options); int x = a##b;",
            "#define J(a, b) a##b\nint J(pa, ck), pack(1), options;",
            "#define S __glibc_macro_warning(\"no\")\n#ifdef __glibc_macro_warning\n#endif\nint pack;S",
        ] {
            assert_eq!(found(&format!("{glibc}{code}")), Some(false), "{code}");
        }
    }

    #[test]
    fn any_bytes_will_do() {
        let text = "#define D(x) _Pragma(#x)\n#define E D((\"'\nE(D(pack))(1)";
        for start in 0..text.len() {
            for end in start..text.len() {
                let _ = found(&text[start..end]);
            }
        }
    }
}
