//! What is known of the options of gcc and clang: how each is spelt, what it is
//! for, and where a compile that has it may go. What is not here is not known.
//! The rows themselves are in the `rows_*` files. Pure; unaware of whole command
//! lines: `args` reads those.

use crate::compiler::toolchain::Family;
use crate::options::row::{Row, Shape, flag};
use crate::options::{rows_clang, rows_driver, rows_gcc, rows_machine, rows_shared};

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

// `row`, its texts as parts of `TEXT`, where they begin at `at`.
const fn packed(row: &Row, at: usize) -> Row<Span> {
    let spelling = Span::new(at, row.spelling);
    let sample = Span::new(at + row.spelling.len(), row.sample);
    row.holding(spelling, sample)
}

fn unpacked(row: &Row<Span>) -> Row {
    row.holding(row.spelling.text(), row.sample.text())
}

const TABLES: [&[Row]; 5] = [
    rows_driver::ROWS,
    rows_shared::ROWS,
    rows_gcc::ROWS,
    rows_clang::ROWS,
    rows_machine::ROWS,
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

// Used while this is compiled, and nowhere in a program.
#[allow(long_running_const_eval, clippy::large_const_arrays)]
const SORTED: [Row; COUNT] = sorted(joined_tables());

/// Every row, sorted by spelling while this is compiled. Without pointers: each of
/// thousands would have to be set, in memory of its own, whenever a program starts. With
/// them each start of hgbuild took 1,900 relocations and 25,000 instructions more, which
/// is 3 % of those of `hgbuild --version`.
static ROWS: [Row<Span>; COUNT] = {
    let mut rows = [packed(&SORTED[0], 0); COUNT];
    let (mut row, mut at) = (0, 0);
    while row < COUNT {
        rows[row] = packed(&SORTED[row], at);
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
    ROWS.iter().map(unpacked)
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
        .map(unpacked)
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
                return fits.map(unpacked);
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
    use crate::options::row::{File, Permit, Role, Value};

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
