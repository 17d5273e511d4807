//! One option of a compiler: how it is spelt, what it is for, and where a compile that
//! has it may go. Pure; unaware of which options there are.

use crate::compiler::toolchain::Family;

/// How an option takes its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// No value: `-c`.
    Flag,
    /// No value, and a form with `no-` after the letter: `-fexceptions`, `-fno-exceptions`.
    Toggle,
    /// A value in the same word: `-std=c99`.
    Joined,
    /// As `Joined`, and a form with `no-`: `-fsanitize=x`, `-fno-sanitize=x`.
    JoinedToggle,
    /// The next word is the value, whatever it looks like: `-Xlinker x`.
    Separate,
    /// A value in the same word or, if the word ends there, the next: `-Ix`, `-I x`.
    JoinedOrSeparate,
    /// One known value of a `Separate` option, a space between: `-Xclang -fx`.
    Pair,
}

/// What an option is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The file to compile.
    Source,
    /// The stage after which the compiler stops: `-c`, `-S`.
    Stage,
    /// The output: `-o`.
    Output,
    /// The source's language: `-x`.
    Language,
    /// The dependency file.
    Dependency,
    /// Consumed by preprocessing; the text has its effect.
    Preprocess,
    /// A macro; gcc's text has it, clang's does not.
    Define,
    /// Part of compiling the preprocessed text.
    Compile,
    /// Turns debug information on or off; the last one wins.
    Debug,
    /// Has the compiler write a file beside the object.
    SideOutput,
    /// For the linker, and so without effect here.
    Link,
    /// For the driver alone.
    Driver,
}

/// Whether something may be done with a compile that has the option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// It may be done.
    Yes,
    /// It may not be done, for this reason.
    No(Code),
}

/// Code of the reason that a row gives: a byte, since there are many rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(u8);

/// Every code that a row may give. Sorted.
const CODES: &[&str] = &[
    "assembler-option",
    "charset",
    "clang-cc1-option",
    "config",
    "coverage",
    "debug-info",
    "dependencies-only",
    "dependency-option",
    "driver-option",
    "dump",
    "emit-llvm",
    "external-assembler",
    "extra-output",
    "language",
    "lto",
    "modules",
    "not-a-compile",
    "offload",
    "pch",
    "plugin",
    "preprocess-only",
    "preprocessed-source",
    "preprocessor-option",
    "profile",
    "random-seed",
    "records-command-line",
    "sanitizer-list",
    "save-temps",
    "several-archs",
    "source-path",
    "specs",
    "syntax-only",
    "xray",
];

impl Code {
    // A name that is not in the list does not compile.
    const fn of(name: &str) -> Code {
        let mut at = 0;
        while !equal(CODES[at].as_bytes(), name.as_bytes()) {
            at += 1;
        }
        Code(at as u8)
    }

    /// The code's name, as it is counted and shown.
    pub fn name(self) -> &'static str {
        CODES[self.0 as usize]
    }
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

/// What an option's value names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// No file.
    None,
    /// A file that is read as source text.
    Input,
    /// A file that is read and is no source text; or a folder with one of a fixed name.
    Data,
    /// A file that is written.
    Output,
    /// A folder in which files are looked for.
    InputDir,
}

/// Which values are known. Others make the option unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Letters, digits and `_+=.,:*-`: names and numbers, never a path.
    Token,
    /// Letters, digits and `_+=.:*-`: a [`Value::Token`] without commas, after which another
    /// option could follow.
    Word,
    /// Any value is known.
    Any,
    /// Macros after `-Wp,-D` or `-Wp,-U`: `NAME=1,-DOTHER,-UTHIRD`.
    Macros,
}

const GCC: u8 = 1;
const CLANG: u8 = 2;

/// One option. `T` is how its texts are held.
#[derive(Debug, Clone, Copy)]
pub struct Row<T = &'static str> {
    /// The option as typed, up to where the value begins.
    pub spelling: T,
    /// How the option takes its value.
    pub shape: Shape,
    /// Bits of the families that have the option.
    pub(crate) families: u8,
    /// What the option is for.
    pub role: Role,
    /// May the preprocessed text be compiled elsewhere?
    pub travel: Permit,
    /// May the same files at the same paths be compiled elsewhere?
    pub tree: Permit,
    /// May its result be cached?
    pub cache: Permit,
    /// What the option's value names.
    pub file: File,
    /// Which values of the option are known.
    pub value: Value,
    /// A value for the tests; empty where there is none to give.
    pub sample: T,
}

impl<T> Row<T> {
    /// Does `family` have it?
    pub fn has(&self, family: Family) -> bool {
        self.families & bit(family) != 0
    }

    /// This option, its texts held otherwise.
    pub(crate) const fn holding<U>(&self, spelling: U, sample: U) -> Row<U> {
        Row {
            spelling,
            shape: self.shape,
            families: self.families,
            role: self.role,
            travel: self.travel,
            tree: self.tree,
            cache: self.cache,
            file: self.file,
            value: self.value,
            sample,
        }
    }
}

impl Row {
    const fn new(spelling: &'static str, shape: Shape, sample: &'static str) -> Row {
        Row {
            spelling,
            shape,
            families: GCC | CLANG,
            role: Role::Compile,
            travel: Permit::Yes,
            tree: Permit::Yes,
            cache: Permit::Yes,
            file: File::None,
            value: Value::Token,
            sample,
        }
    }

    /// Only gcc has it, or only gcc has it in this way.
    pub(crate) const fn gcc(mut self) -> Row {
        self.families = GCC;
        self
    }

    /// Only clang has it, or only clang has it in this way.
    pub(crate) const fn clang(mut self) -> Row {
        self.families = CLANG;
        self
    }

    /// The compile stays here; its result may be cached.
    pub(crate) const fn local(mut self, code: &'static str) -> Row {
        self.travel = Permit::No(Code::of(code));
        self.tree = self.travel;
        self.value = Value::Any;
        self
    }

    /// The text alone would give something else: only the same files at the same
    /// paths may be compiled elsewhere.
    pub(crate) const fn tree_only(mut self, code: &'static str) -> Row {
        self.travel = Permit::No(Code::of(code));
        self
    }

    /// The compiler runs here, as typed, and nothing is kept.
    pub(crate) const fn never(mut self, code: &'static str) -> Row {
        self.cache = Permit::No(Code::of(code));
        self.local(code)
    }

    /// The value is a file that the compiler writes to beside the object.
    pub(crate) const fn reports(mut self) -> Row {
        self.file = File::Output;
        self.value = Value::Any;
        self.writes("extra-output")
    }

    /// The value is a file that the compile depends on, so that only the same files at the
    /// same paths may be compiled elsewhere.
    pub(crate) const fn reads(mut self, code: &'static str) -> Row {
        self.file = File::Data;
        self.value = Value::Any;
        self.tree_only(code)
    }

    /// Has the compiler write files beside the object, of which all are known: only the same
    /// files at the same paths may be compiled elsewhere.
    pub(crate) const fn writes(mut self, code: &'static str) -> Row {
        self.role = Role::SideOutput;
        self.tree_only(code)
    }

    /// Makes any value known.
    pub(crate) const fn any(mut self) -> Row {
        self.value = Value::Any;
        self
    }

    /// The value has no comma: what follows `-Wa,` is a list of options.
    pub(crate) const fn word(mut self) -> Row {
        self.value = Value::Word;
        self
    }

    /// The value is a list of macros.
    pub(crate) const fn macros(mut self) -> Row {
        self.value = Value::Macros;
        self
    }

    /// Sets what the option is for.
    pub(crate) const fn role(mut self, role: Role) -> Row {
        self.role = role;
        if matches!(
            role,
            Role::Preprocess | Role::Link | Role::Output | Role::Define | Role::Dependency
        ) {
            self.value = Value::Any;
        }
        self
    }

    /// Sets what the option's value names.
    pub(crate) const fn names(mut self, file: File) -> Row {
        self.file = file;
        self
    }

    /// The words of an example.
    pub fn example(&self) -> Vec<String> {
        let (spelling, sample) = (self.spelling, self.sample);
        match self.shape {
            Shape::Flag | Shape::Toggle => vec![spelling.into()],
            Shape::Joined | Shape::JoinedToggle => vec![format!("{spelling}{sample}")],
            Shape::Separate | Shape::JoinedOrSeparate => vec![spelling.into(), sample.into()],
            Shape::Pair => spelling.split(' ').map(Into::into).collect(),
        }
    }

    /// Does `value` look like one that is known?
    pub fn knows(&self, value: &[u8]) -> bool {
        match self.value {
            Value::Any => true,
            Value::Token => value.iter().all(is_of_a_token),
            Value::Word => value
                .iter()
                .all(|byte| is_of_a_token(byte) && *byte != b','),
            Value::Macros => value
                .split(|byte| *byte == b',')
                .enumerate()
                .all(|(at, word)| match word {
                    [b'-', b'D' | b'U', _, ..] => at > 0,
                    // The spelling has the first one's letter.
                    [first, ..] => at == 0 && *first != b'-',
                    [] => false,
                }),
        }
    }
}

fn is_of_a_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_+=.,:*-".contains(byte)
}

pub(crate) const fn flag(spelling: &'static str) -> Row {
    Row::new(spelling, Shape::Flag, "")
}

pub(crate) const fn toggle(spelling: &'static str) -> Row {
    Row::new(spelling, Shape::Toggle, "")
}

pub(crate) const fn joined(spelling: &'static str, sample: &'static str) -> Row {
    Row::new(spelling, Shape::Joined, sample)
}

pub(crate) const fn joined_toggle(spelling: &'static str, sample: &'static str) -> Row {
    Row::new(spelling, Shape::JoinedToggle, sample)
}

pub(crate) const fn separate(spelling: &'static str, sample: &'static str) -> Row {
    Row::new(spelling, Shape::Separate, sample)
}

pub(crate) const fn either(spelling: &'static str, sample: &'static str) -> Row {
    Row::new(spelling, Shape::JoinedOrSeparate, sample)
}

pub(crate) const fn pair(spelling: &'static str) -> Row {
    Row::new(spelling, Shape::Pair, "")
}

const fn bit(family: Family) -> u8 {
    match family {
        Family::Gcc => GCC,
        Family::Clang => CLANG,
    }
}
