//! What is known of the options of gcc and clang: how each is spelt, what it is
//! for, and where a compile that has it may go. What is not here is not known.
//! The rows themselves are in the `arg_rows_*` files. Unaware of whole command
//! lines: `args` reads those.

use crate::toolchain::Family;
use crate::{arg_rows_clang, arg_rows_driver, arg_rows_gcc, arg_rows_machine, arg_rows_shared};

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
    /// How far to go: `-c`, `-S`.
    Stage,
    /// `-o`.
    Output,
    /// What the source is written in: `-x`.
    Language,
    /// About the dependency file.
    Dependency,
    /// Consumed by preprocessing; the text has its effect.
    Preprocess,
    /// A macro; gcc's text has it, clang's does not.
    Define,
    /// Part of compiling the preprocessed text.
    Compile,
    /// Turns debug information on or off; the last one wins.
    Debug,
    /// For the linker, and so without effect here.
    Link,
    /// For the driver alone.
    Driver,
}

/// Whether something may be done with a compile that has the option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// It may.
    Yes,
    /// It may not.
    No(Code),
}

/// Which reason a row gives: a byte, since there are many rows.
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
    "native-arch",
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

    /// As it is counted and shown.
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

/// How an option gets into the key of a cached result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Its words.
    Words,
    /// Through the preprocessed text only.
    Text,
    /// Not at all: the result is the same without it.
    Nothing,
}

/// What an option's value names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// No file.
    None,
    /// A file that is read.
    Input,
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
    /// The same without commas, after which another option could follow.
    Word,
    /// Anything.
    Any,
    /// Macros after `-Wp,-D` or `-Wp,-U`: `NAME=1,-DOTHER,-UTHIRD`.
    Macros,
}

const GCC: u8 = 1;
const CLANG: u8 = 2;

/// One option. `T` is how its texts are held.
#[derive(Debug, Clone, Copy)]
pub struct Row<T = &'static str> {
    /// As typed, up to where the value begins.
    pub spelling: T,
    /// How it takes its value.
    pub shape: Shape,
    families: u8,
    /// What it is for.
    pub role: Role,
    /// May the preprocessed text be compiled elsewhere?
    pub travel: Permit,
    /// May the same files at the same paths be compiled elsewhere?
    pub tree: Permit,
    /// May its result be cached?
    pub cache: Permit,
    /// How it gets into the key.
    pub key: Key,
    /// What its value names.
    pub file: File,
    /// Which values are known.
    pub value: Value,
    /// A value for the tests; empty where there is none to give.
    pub sample: T,
}

/// A part of `TEXT`.
#[derive(Debug, Clone, Copy)]
struct Span {
    at: u16,
    len: u8,
}

impl Span {
    const fn new(at: usize, text: &str) -> Span {
        assert!(at <= u16::MAX as usize && text.len() <= u8::MAX as usize);
        Span {
            at: at as u16,
            len: text.len() as u8,
        }
    }

    fn text(self) -> &'static str {
        let at = usize::from(self.at);
        &TEXT[at..at + usize::from(self.len)]
    }

    fn bytes(self) -> &'static [u8] {
        self.text().as_bytes()
    }
}

impl<T> Row<T> {
    /// Does `family` have it?
    pub fn has(&self, family: Family) -> bool {
        self.families & bit(family) != 0
    }

    /// The same option, its texts held otherwise.
    const fn holding<U>(&self, spelling: U, sample: U) -> Row<U> {
        Row {
            spelling,
            shape: self.shape,
            families: self.families,
            role: self.role,
            travel: self.travel,
            tree: self.tree,
            cache: self.cache,
            key: self.key,
            file: self.file,
            value: self.value,
            sample,
        }
    }
}

impl Row<Span> {
    fn unpacked(&self) -> Row {
        self.holding(self.spelling.text(), self.sample.text())
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
            key: Key::Words,
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
    pub(crate) const fn in_place(mut self, code: &'static str) -> Row {
        self.travel = Permit::No(Code::of(code));
        self
    }

    /// The compiler runs here, as typed, and nothing is kept.
    pub(crate) const fn never(mut self, code: &'static str) -> Row {
        self.cache = Permit::No(Code::of(code));
        self.local(code)
    }

    /// Any value is known.
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

    /// What it is for, and with it how it gets into the key.
    pub(crate) const fn role(mut self, role: Role) -> Row {
        self.role = role;
        match role {
            Role::Preprocess => {
                self.key = Key::Text;
                self.value = Value::Any;
            }
            Role::Link => {
                self.key = Key::Nothing;
                self.value = Value::Any;
            }
            Role::Output => {
                self.key = Key::Nothing;
                self.value = Value::Any;
            }
            Role::Define | Role::Dependency => self.value = Value::Any,
            _ => {}
        }
        self
    }

    /// The result is the same without it.
    pub(crate) const fn keyless(mut self) -> Row {
        self.key = Key::Nothing;
        self
    }

    /// What the value names.
    pub(crate) const fn names(mut self, file: File) -> Row {
        self.file = file;
        self
    }

    // With its texts as parts of `TEXT`, where they begin at `at`.
    const fn packed(&self, at: usize) -> Row<Span> {
        let spelling = Span::new(at, self.spelling);
        let sample = Span::new(at + self.spelling.len(), self.sample);
        self.holding(spelling, sample)
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

const TABLES: [&[Row]; 5] = [
    arg_rows_driver::ROWS,
    arg_rows_shared::ROWS,
    arg_rows_gcc::ROWS,
    arg_rows_clang::ROWS,
    arg_rows_machine::ROWS,
];

const COUNT: usize = {
    let mut count = 0;
    let mut table = 0;
    while table < TABLES.len() {
        count += TABLES[table].len();
        table += 1;
    }
    count
};

// These two are nowhere in a program.
#[allow(long_running_const_eval, clippy::large_const_arrays)]
const SORTED: [Row; COUNT] = sorted(joined_tables());

/// Every row, sorted by spelling while this is compiled. Without pointers: each of
/// thousands would have to be set, in memory of its own, whenever a program starts.
static ROWS: [Row<Span>; COUNT] = {
    let mut rows = [SORTED[0].packed(0); COUNT];
    let (mut row, mut at) = (0, 0);
    while row < COUNT {
        rows[row] = SORTED[row].packed(at);
        at += SORTED[row].spelling.len() + SORTED[row].sample.len();
        row += 1;
    }
    rows
};

/// The texts of all rows, one behind the other.
static TEXT: &str = match str::from_utf8(&BYTES) {
    Ok(text) => text,
    Err(_) => panic!("a row is no UTF-8"),
};

#[allow(clippy::large_const_arrays)]
const BYTES: [u8; LEN] = {
    let mut bytes = [0; LEN];
    let (mut row, mut at) = (0, 0);
    while row < COUNT {
        at = put(&mut bytes, at, SORTED[row].spelling.as_bytes());
        at = put(&mut bytes, at, SORTED[row].sample.as_bytes());
        row += 1;
    }
    bytes
};

const LEN: usize = {
    let (mut row, mut len) = (0, 0);
    while row < COUNT {
        len += SORTED[row].spelling.len() + SORTED[row].sample.len();
        row += 1;
    }
    len
};

// Copies `text` to `at` and says where it ends.
const fn put(bytes: &mut [u8; LEN], at: usize, text: &[u8]) -> usize {
    let mut byte = 0;
    while byte < text.len() {
        bytes[at + byte] = text[byte];
        byte += 1;
    }
    at + text.len()
}

const fn joined_tables() -> [Row; COUNT] {
    let mut rows = [flag(""); COUNT];
    let (mut at, mut table) = (0, 0);
    while table < TABLES.len() {
        let mut row = 0;
        while row < TABLES[table].len() {
            rows[at] = TABLES[table][row];
            at += 1;
            row += 1;
        }
        table += 1;
    }
    rows
}

// Shell sort: short, in place, and quick enough for the compiler.
const fn sorted(mut rows: [Row; COUNT]) -> [Row; COUNT] {
    let mut gap = 1;
    while gap < COUNT / 3 {
        gap = gap * 3 + 1;
    }
    while gap > 0 {
        let mut at = gap;
        while at < COUNT {
            let row = rows[at];
            let mut to = at;
            while to >= gap && before(&row, &rows[to - gap]) {
                rows[to] = rows[to - gap];
                to -= gap;
            }
            rows[to] = row;
            at += 1;
        }
        gap /= 3;
    }
    rows
}

const fn before(a: &Row, b: &Row) -> bool {
    let (x, y) = (a.spelling.as_bytes(), b.spelling.as_bytes());
    let mut at = 0;
    while at < x.len() && at < y.len() {
        if x[at] != y[at] {
            return x[at] < y[at];
        }
        at += 1;
    }
    if x.len() != y.len() {
        return x.len() < y.len();
    }
    a.families < b.families
}

/// Every row, sorted by spelling.
pub fn rows() -> impl Iterator<Item = Row> {
    ROWS.iter().map(Row::unpacked)
}

/// The row that `word` belongs to, and where its value begins in `word`: the
/// longest spelling that fits. `None`: nothing is known of it.
pub fn find(family: Family, word: &[u8]) -> Option<(Row, usize)> {
    let direct = longest(family, word, false).map(|row| (row, row.spelling.len()));
    let negated = || {
        let (letter, rest) = word.split_first_chunk::<2>()?;
        if !matches!(letter, b"-f" | b"-m" | b"-g") {
            return None;
        }
        let positive = [letter, rest.strip_prefix(b"no-")?].concat();
        let row = longest(family, &positive, true)?;
        Some((row, row.spelling.len() + 3))
    };
    match direct {
        Some((_, at)) if at == word.len() => direct,
        // `-gno-strict-dwarf` is no kind of `-g`.
        _ => [direct, negated()]
            .into_iter()
            .flatten()
            .max_by_key(|(_, at)| *at),
    }
}

/// The row for a `Separate` option with one known value.
pub fn find_pair(family: Family, option: &[u8], value: &[u8]) -> Option<Row> {
    let spelling = [option, b" ", value].concat();
    let start = ROWS.partition_point(|row| row.spelling.bytes() < spelling.as_slice());
    ROWS[start..]
        .iter()
        .take_while(|row| row.spelling.bytes() == spelling)
        .find(|row| row.has(family) && row.shape == Shape::Pair)
        .map(Row::unpacked)
}

// Where the greatest spelling that is not beyond `key` is no prefix of it, no
// prefix longer than what the two have in common can be in the table.
fn longest(family: Family, word: &[u8], negated: bool) -> Option<Row> {
    let mut key = word;
    loop {
        let end = ROWS.partition_point(|row| row.spelling.bytes() <= key);
        let nearest = ROWS[..end].last()?.spelling.bytes();
        let common = nearest.iter().zip(key).take_while(|(a, b)| a == b).count();
        if common == nearest.len() {
            let fits = ROWS[..end]
                .iter()
                .rev()
                .take_while(|row| row.spelling.bytes() == nearest)
                .find(|row| row.has(family) && accepts(row.shape, word, common, negated));
            if fits.is_some() || common == 0 {
                return fits.map(Row::unpacked);
            }
            key = &key[..common - 1];
        } else {
            key = &key[..common];
        }
    }
}

fn accepts(shape: Shape, word: &[u8], len: usize, negated: bool) -> bool {
    let whole = word.len() == len;
    match shape {
        Shape::Flag | Shape::Separate => whole && !negated,
        Shape::Toggle => whole,
        Shape::Joined | Shape::JoinedOrSeparate => !negated,
        Shape::JoinedToggle => true,
        Shape::Pair => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAMILIES: [Family; 2] = [Family::Gcc, Family::Clang];

    #[test]
    fn each_row_is_found_by_its_example() {
        for family in FAMILIES {
            for row in rows().filter(|row| row.has(family)) {
                let example = row.example();
                let word = example[0].as_bytes();
                let found = if row.shape == Shape::Pair {
                    find_pair(family, word, example[1].as_bytes())
                } else {
                    find(family, word).map(|(found, _)| found)
                };
                assert_eq!(
                    found.map(|row| row.spelling),
                    Some(row.spelling),
                    "{example:?}"
                );
                let value = row.sample.as_bytes();
                assert!(row.knows(value), "{example:?}");
            }
        }
    }

    #[test]
    fn each_toggle_has_its_other_form() {
        for family in FAMILIES {
            let toggles = |row: &Row| matches!(row.shape, Shape::Toggle | Shape::JoinedToggle);
            for row in rows().filter(|row| row.has(family)).filter(toggles) {
                let word = row.example().remove(0);
                let other = format!("{}no-{}", &word[..2], &word[2..]);
                let (found, at) = find(family, other.as_bytes()).expect(&other);
                assert_eq!(
                    (found.spelling, at),
                    (row.spelling, row.spelling.len() + 3),
                    "{other}"
                );
            }
        }
    }

    #[test]
    fn no_option_has_two_rows_in_a_family() {
        for family in FAMILIES {
            let own: Vec<Row> = rows().filter(|row| row.has(family)).collect();
            for two in own.windows(2) {
                assert!(two[0].spelling < two[1].spelling, "{}", two[1].spelling);
            }
        }
    }

    #[test]
    fn what_travels_names_no_file_and_no_path() {
        // Values that are paths in text, and never opened.
        let texts = [
            "-ffile-prefix-map=",
            "-fmacro-prefix-map=",
            "-fdebug-prefix-map=",
        ];
        let texts = [
            &texts[..],
            &["-fprofile-prefix-map=", "-fcoverage-prefix-map="],
        ]
        .concat();
        let folders = ["-fdebug-compilation-dir=", "-ffile-compilation-dir="];
        let folders = [
            &folders[..],
            &["-fcoverage-compilation-dir=", "-frandom-seed="],
        ]
        .concat();
        let others = ["-finstrument-functions-exclude-file-list="];
        for row in rows().filter(|row| row.travel == Permit::Yes) {
            if !matches!(row.role, Role::Compile | Role::Debug | Role::Driver) {
                continue;
            }
            assert_eq!(row.file, File::None, "{}", row.spelling);
            let text = [&texts[..], &folders, &others]
                .concat()
                .contains(&row.spelling);
            assert_eq!(row.value == Value::Any, text, "{}", row.spelling);
        }
    }

    // `-Wa,--good,-a=FILE` would write a file.
    #[test]
    fn what_travels_to_another_program_is_exact() {
        for row in rows().filter(|row| row.travel == Permit::Yes) {
            let passed_on = row.spelling.starts_with("-Wa,") || row.spelling.starts_with("-X");
            let exact = matches!(row.shape, Shape::Flag | Shape::Pair)
                || (row.shape == Shape::Joined && row.value == Value::Word);
            assert!(
                exact || !passed_on || row.role == Role::Link,
                "{}",
                row.spelling
            );
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for word in [
            "-fnope",
            "-fno-nope",
            "-cx",
            "--",
            "-mno-arch=x",
            "-",
            "-fno-std=c99",
            "-MDx",
        ] {
            assert!(find(Family::Gcc, word.as_bytes()).is_none(), "{word}");
        }
        assert!(find(Family::Gcc, b"-fblocks").is_none());
        assert!(find(Family::Clang, b"-fgcse-lm").is_none());
    }
}
