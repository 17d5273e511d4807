//! `#pragma pack`, as far as clang warns of it by files: of an `#include` that comes back
//! with another alignment than it began with, or that begins with one. A text is a single
//! file, and earns no such words. Pure.
//!
//! clang's text has conditions of `#if` as the value they came to, and those of `#ifdef` as
//! they are spelled: equal spellings in one file are taken for one condition. A file that is
//! not sure to leave the alignment as it was is a hazard.

use hg_proto::options::args::Reason;
use memchr::memmem;

use super::markers::{Marker, Markers};
use super::operands::{self, is_made};
use super::pragmas::is_there;
use crate::source::code::without_comments;
use crate::source::lex::{Words, hash_word, line_start, splice, stands_alone, word_len};

/// The reason of a file that packs.
const PRAGMA_PACK: &str = "pragma-pack";

/// Why clang may have something to say of alignments in the files of `text`, its own;
/// `beneath`: of an `#include` that begins with one, too.
pub fn packs_across_files(text: &[u8], beneath: bool) -> Option<Reason> {
    let text = splice(text);
    if !mentions_packing(&text) {
        return None;
    }
    let Some(code) = without_comments(&text) else {
        return Some(Reason::new(PRAGMA_PACK, b"odd text"));
    };
    if packs_by_operator(&code) {
        return Some(Reason::new(PRAGMA_PACK, b"by _Pragma"));
    }
    let mut walk = Walk {
        beneath,
        groups: Vec::new(),
        open: vec![File::default()],
    };
    let mut from = 0;
    for marker in Markers::of(&code) {
        walk.lines(&code[from..marker.start]);
        from = marker.end;
        if let Err(path) = walk.pass(&marker) {
            return Some(Reason::new(PRAGMA_PACK, path));
        }
    }
    None
}

/// Whether some pragma may be about alignments; comments count.
fn mentions_packing(text: &[u8]) -> bool {
    let pragmas = memmem::find_iter(text, b"ragma");
    pragmas.map(|at| at + b"ragma".len()).any(|at| {
        let mut words = Words::at(text, at);
        match words.next().unwrap_or_default() {
            b"pack" | b"align" | b"options" => true,
            _ => is_made(text, at),
        }
    })
}

/// Whether a `_Pragma` may set an alignment: wherever its macro is used.
fn packs_by_operator(code: &[u8]) -> bool {
    let mut made = false;
    for at in memmem::find_iter(code, b"ragma") {
        let at = at + b"ragma".len();
        let operator = code[..at].ends_with(b"_Pragma") || code[..at].ends_with(b"__pragma");
        let packs = || {
            let first = Words::at(code, at).next().unwrap_or_default();
            matches!(first, b"pack" | b"align" | b"options")
        };
        if operator && packs() {
            return true;
        }
        made |= is_made(code, at);
    }
    // Where nobody can tell what an operator is given, it is anything that is there.
    made && operands::may_name(code, &[b"pack", b"align", b"options"])
        .unwrap_or_else(|| is_given(code, b"pack") || is_there(code, &[b"options"]))
}

/// Whether `name` is called, or could be pasted, elsewhere than in a pragma of its own.
fn is_given(code: &[u8], name: &[u8]) -> bool {
    let called = |at: usize| {
        let after = code[at + name.len()..].trim_ascii_start();
        let own = line_start(code, at).is_some_and(|line| hash_word(&code[line..]) == b"pragma");
        stands_alone(code, at, name.len()) && after.starts_with(b"(") && !own
    };
    let mut whole = memmem::find_iter(code, name);
    whole.any(called) || super::pragmas::is_made(code, &[name])
}

/// A file that is open.
#[derive(Default)]
struct File<'t> {
    path: &'t [u8],
    /// How many groups were open before it.
    groups: usize,
    /// An alignment was set before the file began.
    beneath: bool,
    /// Condition and label of each push in the file.
    pushed: Vec<(Vec<u8>, Vec<u8>)>,
    /// The condition under which the file has set an alignment.
    set: Option<Vec<u8>>,
    /// Its effect can't be told.
    doubt: bool,
}

impl File<'_> {
    fn packs(&self) -> bool {
        !self.pushed.is_empty() || self.set.is_some() || self.doubt
    }
}

/// A conditional group.
struct Group {
    /// Its conditions so far, as they are spelled.
    spelling: Vec<u8>,
    /// Whether its lines count; `None`: it can't be told.
    counts: Option<bool>,
    /// Whether a branch before this one did.
    taken: Option<bool>,
}

struct Walk<'t> {
    beneath: bool,
    groups: Vec<Group>,
    /// The innermost last.
    open: Vec<File<'t>>,
}

impl<'t> Walk<'t> {
    /// # Errors
    /// The path of a file that clang may warn of.
    fn pass(&mut self, marker: &Marker<'t>) -> Result<(), &'t [u8]> {
        if marker.enters {
            let beneath = self.open.iter().any(|file| file.packs() || file.beneath);
            self.open.push(File {
                path: marker.path,
                groups: self.groups.len(),
                beneath,
                ..File::default()
            });
            return match beneath && self.beneath {
                true => Err(marker.path),
                false => Ok(()),
            };
        }
        if marker.returns {
            // The outermost has no name before its first marker.
            let left = self.open.pop().filter(|_| !self.open.is_empty());
            return match left {
                Some(file) if file.packs() => Err(file.path),
                Some(_) => Ok(()),
                None => Err(marker.path),
            };
        }
        Ok(())
    }

    fn lines(&mut self, lines: &[u8]) {
        for line in lines.split(|byte| *byte == b'\n') {
            self.directive(line);
        }
    }

    fn directive(&mut self, line: &[u8]) {
        let name = hash_word(line);
        let rest = memmem::find(line, name).map_or(&b""[..], |at| &line[at + name.len()..]);
        match name {
            b"if" | b"ifdef" | b"ifndef" => self.groups.push(Group {
                spelling: line.trim_ascii().to_vec(),
                counts: value(rest),
                taken: value(rest),
            }),
            b"elif" | b"elifdef" | b"elifndef" | b"else" => {
                let Some(group) = self.groups.last_mut() else {
                    return;
                };
                group.spelling.push(b'\n');
                group.spelling.extend_from_slice(line.trim_ascii());
                let own = if name == b"else" {
                    Some(true)
                } else {
                    value(rest)
                };
                group.counts = match (group.taken, own) {
                    (Some(true), _) | (_, Some(false)) => Some(false),
                    (Some(false), own) => own,
                    (None, _) => None,
                };
                if group.counts != Some(false) {
                    group.taken = group.counts;
                }
            }
            b"endif" => {
                self.groups.pop();
            }
            b"pragma" => self.pragma(rest),
            _ => {}
        }
    }

    fn pragma(&mut self, rest: &[u8]) {
        if self.groups.iter().any(|group| group.counts == Some(false)) {
            return;
        }
        let rest = rest.trim_ascii_start();
        let word = &rest[..word_len(rest)];
        let given = rest[word.len()..].trim_ascii();
        let Some(file) = self.open.last_mut() else {
            return;
        };
        let groups = self.groups.get(file.groups..).unwrap_or_default();
        let unsure = groups.iter().filter(|group| group.counts.is_none());
        let condition: Vec<&[u8]> = unsure.map(|group| &group.spelling[..]).collect();
        let condition = condition.join(&b'\r');
        match word {
            b"pack" => file.pack(condition, given),
            b"options" => file.doubt = true,
            b"align" if given.starts_with(b"=") => file.doubt = true,
            _ => {}
        }
    }
}

/// The value that clang has found for a condition; `None`: it can't be told.
fn value(condition: &[u8]) -> Option<bool> {
    match condition.trim_ascii() {
        b"0" => Some(false),
        b"1" => Some(true),
        _ => None,
    }
}

impl File<'_> {
    fn pack(&mut self, condition: Vec<u8>, given: &[u8]) {
        let inner = given.strip_prefix(b"(");
        let Some(inner) = inner.and_then(|inner| inner.split(|byte| *byte == b')').next()) else {
            self.doubt = true;
            return;
        };
        let mut words = inner.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        let first = words.next().unwrap_or_default();
        let is_label = |word: &&[u8]| !word.first().is_some_and(u8::is_ascii_digit);
        let label = words.next().filter(is_label).unwrap_or_default();
        match first {
            b"show" => {}
            b"push" => self.pushed.push((condition, label.to_vec())),
            b"pop" => match self.pushed.pop() {
                Some((pushed, name)) => {
                    self.doubt |= pushed != condition || !label.is_empty() && name != label;
                }
                None => self.doubt = true,
            },
            // A pop will bring back what was there.
            _ if !self.pushed.is_empty() => {}
            b"" => match self.set.take() {
                Some(set) => self.doubt |= set != condition || self.beneath,
                None => self.doubt |= self.beneath,
            },
            _ => match &self.set {
                Some(set) => self.doubt |= *set != condition,
                None => self.set = Some(condition),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source with `before` an `#include` of `header`, as clang writes it down.
    fn text(before: &str, header: &str) -> Vec<u8> {
        format!(
            "# 1 \"<built-in>\"\n# 1 \"a.c\"\n{before}\n\
             #if defined(__CLANG_REWRITTEN_INCLUDES) /* p.h expanded */\n#include \"p.h\"\n\
             #else /* p.h expanded */\n# 2 \"a.c\"\n# 1 \"./p.h\" 1\n{header}\n\
             #endif /* p.h expanded */\n# 3 \"a.c\" 2\nint x;\n"
        )
        .into_bytes()
    }

    #[track_caller]
    fn is(hazard: bool, before: &str, header: &str) {
        let found = packs_across_files(&text(before, header), false);
        assert_eq!(found.is_some(), hazard, "{before}: {header}: {found:?}");
    }

    #[test]
    fn a_header_that_leaves_another_alignment() {
        for header in [
            "#pragma pack(1)",
            "#pragma pack(push, 1)",
            "#pragma pack(push)\n#pragma pack(2)",
            "#  pragma  pack ( N )",
            "#pragma pa\\\nck(1)",
            "#pragma pack(pop)",
            "#pragma pack 1",
            "#pragma options align=packed",
            "#pragma align=packed",
            "#pragma pack(push, 1)\n/*\n#pragma pack(pop)\n*/",
            "#pragma pack(push, 1)\n#if 0 /* evaluated */\n#pragma pack(pop)\n#endif",
            "#pragma pack(push, 1)\n#ifdef A\n#pragma pack(pop)\n#endif",
            "#ifdef A\n#pragma pack(1)\n#else\n#pragma pack()\n#endif",
            "#if 1\n#else\n#pragma pack(pop)\n#endif\n#pragma pack(1)",
            "#pragma pack(push, one, 1)\n#pragma pack(pop, other)",
            "#define P _Pragma(\"pack(1)\")",
            "#define D(x) _Pragma(#x)\nD(pack(1))",
            "#define D(x) _Pragma(#x)\n#define E D(\nE pack (1))",
            "#define D(x) _Pragma(#x)\n#define J(a, b) a##b\nD(J(pa, ck)(1))",
            "#define P __pragma(pack(1))",
        ] {
            is(true, "", header);
        }
    }

    #[test]
    fn a_header_that_leaves_the_alignment_as_it_was() {
        for header in [
            "#pragma pack(push, 1)\nstruct s;\n#pragma pack(pop)",
            "#pragma pack(push)\n#pragma pack(1)\n#pragma pack()\n#pragma pack(pop)",
            "#pragma pack(push, name, 1)\n#pragma pack(pop, name)",
            "#pragma pack(1)\n#pragma pack(2)\n#pragma pack()",
            "#pragma pack()",
            "#ifdef A\n#pragma pack(push, 1)\n#endif\n#ifdef A\n#pragma pack(pop)\n#endif",
            "#ifdef A\n#pragma pack(1)\n#else\n#define X\n#endif\n#ifdef A\n#pragma pack()\n#endif",
            "#if 0 /* evaluated */\n#pragma pack(1)\n#elif 1 /* evaluated */\n#endif",
            "#if 1 /* evaluated */\n#pragma pack(push, 1)\n#endif\n#pragma pack(pop)",
            "#define D(x) _Pragma(#x)\nint pack;\n#pragma pack(push, 1)\n#pragma pack(pop)",
            "// #pragma pack(1)",
            "int pack(1);",
        ] {
            is(false, "", header);
        }
    }

    #[test]
    fn what_the_includer_has_set() {
        is(false, "#pragma pack(1)", "int x;");
        is(
            false,
            "#pragma pack(1)",
            "#pragma pack(push, 2)\n#pragma pack(pop)",
        );
        is(true, "#pragma pack(1)", "#pragma pack()");
        is(true, "#pragma pack(push, 1)", "#pragma pack(pop)");
        is(
            false,
            "#pragma pack(push, 1)\n#pragma pack(pop)",
            "#pragma pack()",
        );
        let beneath = |before| packs_across_files(&text(before, "int x;"), true).is_some();
        assert!(beneath("#pragma pack(push, 1)"));
        assert!(!beneath("#pragma pack(push, 1)\n#pragma pack(pop)"));
    }
}
