//! Text as an assembler reads it: the files that it names by `.incbin` and `.include`, and
//! whether macros of the assembler could put such a directive together. Pure.

use hg_proto::options::args::Reason;
use memchr::memmem;

use super::whole_words::ASM_FILE_DIRECTIVE;
use crate::source::lex::is_word;
use crate::source::pieces::composable;

/// The assembler's directives that read files, without their dot.
pub(super) const DIRECTIVES: [&[u8]; 2] = [b"incbin", b"include"];
/// What makes macros: by these, words are put together from pieces.
const MACROS: [&[u8]; 3] = [b".macro", b".irp", b".irep"];
/// What makes each letter of a word a piece.
const LETTERS: [&[u8]; 2] = [b".irpc", b".irepc"];
/// What changes how all of the text is read, or names a file in another way.
const STRANGE: [&[u8]; 3] = [b"altmacro", b".mri", b".secure_log"];
/// Files that one compile's assembler text may name.
const READS_MAX: usize = 1024;

/// A file that assembler text names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssemblerFile {
    /// As it is spelled.
    pub name: Vec<u8>,
    /// It is assembler text too (`.include`).
    pub is_text: bool,
}

/// All the text that one assembler reads.
#[derive(Debug, Clone, Default)]
pub struct Assembled {
    /// The files that it names, each once.
    pub files: Vec<AssemblerFile>,
    /// Words of C may come between: operands of an `asm`.
    with_operands: bool,
    has_macros: bool,
    /// What stands behind a dot, where that may be the beginning of a directive's name.
    beginnings: Vec<Vec<u8>>,
    /// Words that are parts of such a name.
    words: Vec<Vec<u8>>,
}

impl Assembled {
    /// One that is made of the templates of a C text.
    pub(super) fn of_templates() -> Self {
        Assembled {
            with_operands: true,
            ..Assembled::default()
        }
    }

    /// Adds `text`.
    ///
    /// # Errors
    /// It reads, or may read, a file that can't be told.
    pub fn add(&mut self, text: &[u8]) -> Result<(), Reason> {
        let lower = text.to_ascii_lowercase();
        let has = |word: &[u8]| memmem::find(&lower, word).is_some();
        if lower.contains(&0) {
            return Err(doubt(b"NUL"));
        }
        if let Some(word) = STRANGE.iter().find(|word| has(word)) {
            return Err(doubt(word));
        }
        for name in DIRECTIVES {
            for at in memmem::find_iter(&lower, name) {
                self.directive(text, &lower, at, name)?;
            }
        }
        self.has_macros |= MACROS.iter().any(|word| has(word));
        self.pieces(&lower, LETTERS.iter().any(|word| has(word)));
        Ok(())
    }

    /// Why all that was added together may read a file that can't be told.
    pub fn doubt(&self) -> Option<Reason> {
        if !self.has_macros {
            return None;
        }
        let pieces = || self.words.iter().map(Vec::as_slice);
        let makes = |begun: &Vec<u8>| {
            let rest = |name: &&[u8]| {
                let rest = name.strip_prefix(&begun[..]);
                rest.is_some_and(|rest| self.with_operands || composable(rest, pieces()))
            };
            DIRECTIVES.iter().any(rest)
        };
        let made = self.beginnings.iter().any(makes);
        made.then(|| doubt(b"pieces, and macros of the assembler"))
    }

    /// The `name` at `at`, if it is a directive.
    fn directive(
        &mut self,
        text: &[u8],
        lower: &[u8],
        at: usize,
        name: &[u8],
    ) -> Result<(), Reason> {
        let (before, rest) = (&lower[..at], &text[at + name.len()..]);
        if rest.first().is_some_and(|byte| is_word(*byte)) {
            return Ok(());
        }
        let argument = rest.trim_ascii_start();
        let Some(before) = before.strip_suffix(b".") else {
            // Some targets need no dot.
            let alone = !before.last().is_some_and(|byte| is_word(*byte));
            return match alone && argument.starts_with(b"\"") {
                true => Err(doubt(name)),
                false => Ok(()),
            };
        };
        let line = before.rsplit(|byte| *byte == b'\n').next();
        let statement = line.unwrap_or_default().trim_ascii();
        let is_first = statement.is_empty() || statement.ends_with(b":") || ends(statement);
        let file = quoted(argument).filter(|_| is_first);
        let name = file.ok_or_else(|| doubt(name))?.to_vec();
        let is_text = !lower[at..].starts_with(DIRECTIVES[0]);
        let file = AssemblerFile { name, is_text };
        if !self.files.contains(&file) {
            self.files.push(file);
        }
        match self.files.len() > READS_MAX {
            true => Err(Reason::new("too-many-inputs", b"of the assembler")),
            false => Ok(()),
        }
    }

    /// Notes what a directive's name could be made of.
    fn pieces(&mut self, lower: &[u8], by_letter: bool) {
        let is_part = |word: &[u8]| DIRECTIVES.iter().any(|n| memmem::find(n, word).is_some());
        let mut add = |word: &[u8]| {
            if !word.is_empty() && is_part(word) && !self.words.iter().any(|known| known == word) {
                self.words.push(word.to_vec());
            }
        };
        let mut after_dot = false;
        for run in lower.split_inclusive(|byte| !byte.is_ascii_lowercase()) {
            let len = run.iter().take_while(|b| b.is_ascii_lowercase()).count();
            let (word, end) = run.split_at(len);
            // The dot goes where the word goes: that makes no name with another dot.
            if !after_dot {
                add(word);
            }
            if by_letter {
                word.chunks(1).for_each(&mut add);
            }
            after_dot = end == b".";
        }
        for at in memchr::memchr_iter(b'.', lower) {
            let rest = &lower[at + 1..];
            let len = rest.iter().take_while(|b| b.is_ascii_lowercase()).count();
            let (word, after) = rest.split_at(len);
            let ends = !after.first().is_some_and(|byte| is_word(*byte));
            let begins = |name: &&[u8]| name.starts_with(word) && len < name.len();
            if ends && DIRECTIVES.iter().any(begins) {
                let known = self.beginnings.iter().any(|known| known == word);
                if !known {
                    self.beginnings.push(word.to_vec());
                }
            }
        }
    }
}

/// Whether a statement ends here.
fn ends(before: &[u8]) -> bool {
    before.ends_with(b";")
}

/// The plain name in quotes that `text` begins with.
fn quoted(text: &[u8]) -> Option<&[u8]> {
    let rest = text.strip_prefix(b"\"")?;
    let name = &rest[..memchr::memchr(b'"', rest)?];
    let odd = |byte: &u8| byte.is_ascii_control() || b"\\%{|}".contains(byte);
    (!name.is_empty() && !name.iter().any(odd)).then_some(name)
}

fn doubt(detail: &[u8]) -> Reason {
    Reason::new(ASM_FILE_DIRECTIVE, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of files, or why not.
    fn read(text: &str) -> Result<String, String> {
        let mut all = Assembled::default();
        all.add(text.as_bytes()).map_err(|why| why.detail)?;
        match all.doubt() {
            Some(why) => Err(why.detail),
            None => {
                let names: Vec<Vec<u8>> = all.files.into_iter().map(|file| file.name).collect();
                Ok(String::from_utf8(names.join(&b' ')).unwrap())
            }
        }
    }

    #[test]
    fn files_that_are_named_plainly() {
        for (text, names) in [
            ("f:\tret\n", ""),
            ("\t.incbin \"a b.bin\",4,8\n", "a b.bin"),
            (
                ".INCBIN\t\"A\"\nx: .include \"b\" # c\n.include \"b\"",
                "A b",
            ),
            ("nop; .incbin \"a\"", "a"),
            ("# this includes, and would include, include_next\n", ""),
            ("call incbin_done\nmy_incbin:\n.included\n", ""),
            // Pieces of one, and macros that could not put it together.
            (".macro m a\n\tmov \\a, %eax\n.endm\n.inc\n", ""),
            (
                ".macro m a\n\t.\\a 1\n.endm\nm byte\n.incbin \"x.inc\"",
                "x.inc",
            ),
            (".macro m a\n\\a\\()x: .long . - \\a\n.endm\nm bin\n", ""),
            ("inc bin . .inc", ""),
        ] {
            assert_eq!(read(text).as_deref(), Ok(names), "{text}");
        }
    }

    #[test]
    fn files_that_can_not_be_told() {
        for text in [
            ".incbin a\n",
            ".incbin \"a\\142\"\n",
            ".macro m f\n.incbin \"\\f\"\n.endm\nm x\n",
            ".macro m a b\n\\a\\b \"x\"\n.endm\nm .inc, bin\n",
            ".macro m a\n.inc\\a \"x\"\n.endm\nm bin\n",
            ".macro m a\n.\\a\\()bin \"x\"\n.endm\nm inc\n",
            ".macro m a b c\n\\a\\b\\c \"x\"\n.endm\nm .in, clu, de\n",
            ".irp a, .inc\n\\a\\()bin \"x\"\n.endr\n",
            ".irpc a, nib\n.i\\a\n.endr\ncbu\n",
            ".altmacro\n",
            ".mri 1\n",
            "include \"x\"\n",
            "\tincbin \"x\"\n",
            "/* .incbin \"x\" */\n",
            "x.include \"x\"\n",
            "\0",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn words_of_operands_may_be_any() {
        let mut all = Assembled::of_templates();
        all.add(b".long . - 1\n.include \"m\"\n").unwrap();
        assert!(all.doubt().is_none());
        all.add(b".macro m a\n.endm\n").unwrap();
        assert!(all.doubt().is_some());
    }
}
