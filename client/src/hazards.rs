//! What preprocessed text could hide: things that another machine would read
//! otherwise. Pure; unaware of where the text came from and of how it travels.
//!
//! The text keeps its macros (`gcc -E -fdirectives-only`, `clang -E
//! -frewrite-includes`), so a hazard can be spelled in pieces. Whole words are
//! looked for everywhere; pieces only in *user text*: what does not come from
//! the system's own header folders. When in doubt, a text is a hazard.

use std::borrow::Cow;

use hg_proto::args::Reason;
use hg_proto::toolchain::Family;
use memchr::memmem;

use crate::scan;

/// Folders whose headers come with the system and hide nothing in pieces.
const SYSTEM_FOLDERS: [&[u8]; 5] = [
    b"/usr/include/",
    b"/usr/lib/gcc/",
    b"/usr/lib/gcc-cross/",
    b"/usr/lib/llvm",
    b"/usr/lib/clang/",
];

/// How many of [`MACROS`] change with time.
const CLOCK_MACROS: usize = 3;
/// Macros whose value is not in the text.
const MACROS: [(&[u8], &str); 5] = [
    (b"__DATE__", "time-macro"),
    (b"__TIME__", "time-macro"),
    (b"__TIMESTAMP__", "time-macro"),
    (b"__BASE_FILE__", "base-file-macro"),
    (b"__INCLUDE_LEVEL__", "base-file-macro"),
];

/// The assembler's directives that read files, without their dot.
const FILE_DIRECTIVES: [&[u8]; 2] = [b"incbin", b"include"];

/// Why `text`, made by a preprocessor of `family`, must be compiled here; `None`
/// when it means the same everywhere. Total: any bytes will do.
pub fn find(text: &[u8], family: Family) -> Option<Reason> {
    if let Some(reason) = whole_words(text) {
        return Some(reason);
    }
    let user = user_text(text);
    if open_end(text) {
        return reason("open-end", b"\\");
    }
    let spliced = splice(&user);
    if let Cow::Owned(spliced) = &spliced
        && let Some(reason) = whole_words(spliced)
    {
        return Some(reason);
    }
    pasted_macro(&spliced)
        .or_else(|| pragma(&spliced, family))
        .or_else(|| directive(&spliced, family))
        .or_else(|| assembler(&spliced))
}

/// The files of a compile as they lie on disk, searched for what its result
/// depends on beside their content: the clock, and files that the assembler reads.
#[derive(Debug, Default)]
pub struct Texts {
    user: Vec<u8>,
    plain_assembler: bool,
}

impl Texts {
    /// None yet. `plain_assembler`: [`reads_files`] has said no.
    pub fn new(plain_assembler: bool) -> Self {
        Texts {
            user: Vec::new(),
            plain_assembler,
        }
    }

    /// Adds the file at `path`.
    pub fn add(&mut self, path: &[u8], text: &[u8]) -> Option<Reason> {
        if let Some(reason) = self.words(text) {
            return Some(reason);
        }
        if !is_system(path) {
            let spliced = splice(text);
            self.user
                .extend_from_slice(&scan::without_includes(&spliced));
            self.user.push(b'\n');
        }
        None
    }

    /// What the files say together, and with `macros` of the command line.
    pub fn finish(mut self, macros: &[Vec<u8>]) -> Option<Reason> {
        for word in macros {
            self.user.extend_from_slice(b"#define ");
            self.user.extend_from_slice(word);
            self.user.push(b'\n');
        }
        let asm = || match self.plain_assembler {
            true => None,
            // Whoever may paste `asm` in front of it.
            false => memmem::find(&self.user, b".include")
                .and_then(|_| reason(ASM_FILE_DIRECTIVE, b".include"))
                .or_else(|| assembler(&self.user)),
        };
        self.words(&self.user)
            .or_else(|| pasted_macro(&self.user))
            .or_else(asm)
    }

    /// A source's own name, and how deep it is included, are in the key.
    fn words(&self, text: &[u8]) -> Option<Reason> {
        let found = words_among(text, &MACROS[..CLOCK_MACROS]);
        found.filter(|reason| !self.plain_assembler || reason.code != ASM_FILE_DIRECTIVE)
    }
}

/// The reason of assembler text that may read a file.
pub const ASM_FILE_DIRECTIVE: &str = "asm-file-directive";

/// Whether the assembler may be made to read a file by `text`, preprocessed and
/// its macros expanded.
pub fn reads_files(text: &[u8]) -> bool {
    words_among(text, &[]).is_some() || assembler(text).is_some()
}

/// What gcc 12 writes for a pragma that it has carried out and leaves out.
const CARRIED_OUT: &[u8] = b"       ";

/// Why `text` can't stand for `file`: gcc 12's `-E -fdirectives-only` leaves these
/// pragmas out (plain `-E` does not). `source` is the file as it lies on disk;
/// `openmp`: one of `-fopenmp`, `-fopenmp-simd`, `-fopenacc` is on.
///
/// A pragma may stand in a group that is skipped, which the text does not show.
/// `message` is lost in silence only when no directive follows (else gcc warns or
/// crashes), and changes no object; of `pop_macro` and `poison` an empty line of a
/// certain length stays.
pub fn lost_pragma(text: &[u8], file: &[u8], source: &[u8], openmp: bool) -> Option<Reason> {
    let source = splice(source);
    for at in memmem::find_iter(&source, b"pragma") {
        let mut words = Words::at(&source, at + b"pragma".len());
        let first = words.next().unwrap_or_default();
        let lost = match first {
            b"redefine_extname" => true,
            b"omp" | b"acc" => openmp,
            b"message" => !directive_follows(&source[at..]),
            b"pop_macro" => carries_out(text, file, &source),
            b"GCC" => words.next() == Some(b"poison") && carries_out(text, file, &source),
            _ => false,
        };
        if lost {
            return reason("lost-pragma", first);
        }
    }
    None
}

/// Whether a directive that gcc would stumble over comes later.
fn directive_follows(source: &[u8]) -> bool {
    let mut lines = source.split(|byte| *byte == b'\n').skip(1);
    lines.any(|line| !matches!(hash_word(line), b"" | b"pragma"))
}

/// Whether `text` has more traces of pragmas carried out in `file` than those that
/// `source` has of the harmless ones.
fn carries_out(text: &[u8], file: &[u8], source: &[u8]) -> bool {
    let mut traces = 0;
    let mut from = None;
    for marker in Markers::of(text) {
        if let Some(from) = from {
            traces += count_traces(&text[from..marker.start]);
        }
        from = (unescape(marker.path) == file).then_some(marker.end);
    }
    traces += from.map_or(0, |from| count_traces(&text[from..]));
    let harmless = memmem::find_iter(source, b"pragma").filter(|at| {
        let mut words = Words::at(source, at + b"pragma".len());
        match words.next() {
            Some(b"once") => true,
            Some(b"GCC") => words.next() == Some(b"system_header"),
            _ => false,
        }
    });
    traces > harmless.count()
}

fn count_traces(part: &[u8]) -> usize {
    part.split(|byte| *byte == b'\n')
        .filter(|line| *line == CARRIED_OUT)
        .count()
}

/// The files that `text` says it is made of, outside the system's folders, each
/// once, in order of appearance; paths as the compiler spells them.
pub fn user_files(text: &[u8]) -> Vec<Vec<u8>> {
    let mut files: Vec<Vec<u8>> = Vec::new();
    for marker in Markers::of(text) {
        // "/work//" is how -g says where the compiler runs.
        let no_file = marker.path.starts_with(b"<") || marker.path.ends_with(b"//");
        if no_file || is_system(marker.path) {
            continue;
        }
        let path = unescape(marker.path);
        // Neighbours repeat; the list of user files is short.
        if !files.contains(&path) {
            files.push(path);
        }
    }
    files
}

fn reason(code: &'static str, detail: &[u8]) -> Option<Reason> {
    Some(Reason::new(code, detail))
}

/// A byte of an identifier.
pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// Whether `text[at..at + len]` is a token of its own.
fn stands_alone(text: &[u8], at: usize, len: usize) -> bool {
    let before = at.checked_sub(1).and_then(|at| text.get(at));
    let after = text.get(at + len);
    !before.is_some_and(|byte| is_word(*byte)) && !after.is_some_and(|byte| is_word(*byte))
}

fn whole_words(text: &[u8]) -> Option<Reason> {
    words_among(text, &MACROS)
}

fn words_among(text: &[u8], macros: &[(&[u8], &'static str)]) -> Option<Reason> {
    for (name, code) in macros {
        // The part after the underscores is rarer, so that the search is faster.
        let rare = &name[2..];
        for at in memmem::find_iter(text, rare) {
            let Some(start) = at.checked_sub(2) else {
                continue;
            };
            if text[start..].starts_with(name) && stands_alone(text, start, name.len()) {
                return reason(code, name);
            }
        }
    }
    for word in [&b"incbin"[..], b"INCBIN"] {
        if memmem::find(text, word).is_some() {
            return reason(ASM_FILE_DIRECTIVE, word);
        }
    }
    None
}

/// `# 12 "path" flags` at the start of a line.
struct Marker<'t> {
    /// Where the line starts, and where the next one does.
    start: usize,
    end: usize,
    /// As spelled: with the compiler's escapes.
    path: &'t [u8],
    enters: bool,
    returns: bool,
}

struct Markers<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Markers<'t> {
    fn of(text: &'t [u8]) -> Self {
        Markers { text, at: 0 }
    }

    fn parse(&self, start: usize) -> Option<Marker<'t>> {
        let line = self.text.get(start..)?;
        let rest = line.strip_prefix(b"# ")?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let rest = rest[digits..].strip_prefix(b" \"")?;
        if digits == 0 {
            return None;
        }
        let mut len = 0;
        loop {
            match rest.get(len)? {
                b'"' => break,
                b'\n' => return None,
                b'\\' => len += 2,
                _ => len += 1,
            }
        }
        let flags = rest.get(len + 1..)?;
        let flags_len = memchr::memchr(b'\n', flags).unwrap_or(flags.len());
        let flags = &flags[..flags_len];
        let offset = rest.as_ptr() as usize - self.text.as_ptr() as usize;
        Some(Marker {
            start,
            end: (offset + len + 1 + flags_len + 1).min(self.text.len()),
            path: &rest[..len],
            enters: flags.starts_with(b" 1"),
            returns: flags.starts_with(b" 2"),
        })
    }
}

impl<'t> Iterator for Markers<'t> {
    type Item = Marker<'t>;

    fn next(&mut self) -> Option<Marker<'t>> {
        while self.at < self.text.len() {
            let start = match self.at {
                0 if self.text.starts_with(b"# ") => 0,
                from => {
                    // A marker ends with its newline: step back onto it.
                    let from = from.saturating_sub(1);
                    from + memmem::find(&self.text[from..], b"\n# ")? + 1
                }
            };
            self.at = start + 2;
            if let Some(marker) = self.parse(start) {
                self.at = marker.end.max(self.at);
                return Some(marker);
            }
        }
        None
    }
}

pub(crate) fn is_system(path: &[u8]) -> bool {
    let path = normal(path);
    SYSTEM_FOLDERS.iter().any(|folder| path.starts_with(folder))
}

/// Without `..` (clang spells `/usr/bin/../lib/gcc/...`).
fn normal(path: &[u8]) -> Cow<'_, [u8]> {
    if memmem::find(path, b"/..").is_none() {
        return Cow::Borrowed(path);
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b".." if parts.len() > 1 => {
                parts.pop();
            }
            b"." => {}
            part => parts.push(part),
        }
    }
    Cow::Owned(parts.join(&b'/'))
}

/// A marker's path without its escapes.
fn unescape(path: &[u8]) -> Vec<u8> {
    if !path.contains(&b'\\') {
        return path.to_vec();
    }
    let mut plain = Vec::with_capacity(path.len());
    decode(path, &mut plain);
    plain
}

/// All of `text` that is not from the system's folders. If files are not left as
/// they were entered, somebody plays with markers: then it is everything.
/// (gcc 12 forgets to mark a short header now and then: its text then counts as
/// its includer's.)
pub fn user_text(text: &[u8]) -> Cow<'_, [u8]> {
    let mut user = Vec::new();
    // Path and whether it is the user's, of each file that is open.
    let mut open: Vec<(&[u8], bool)> = vec![(b"", true)];
    let mut is_user = true;
    let mut from = 0;
    for marker in Markers::of(text) {
        if is_user {
            user.extend_from_slice(&text[from..marker.start]);
        }
        from = marker.end;
        if marker.enters {
            open.push((marker.path, !is_system(marker.path)));
        } else if marker.returns {
            match open.iter().rposition(|(path, _)| *path == marker.path) {
                Some(at) => open.truncate(at + 1),
                None => return Cow::Borrowed(text),
            }
        } else {
            // A bare marker may come from the user's own #line: it renames the
            // file, and does not make it the system's.
            let outermost = open.len() == 1;
            if let Some((path, is_user)) = open.last_mut() {
                *path = marker.path;
                *is_user = if outermost {
                    marker.path != b"<built-in>"
                } else {
                    *is_user
                };
            }
        }
        is_user = open.last().is_none_or(|(_, is_user)| *is_user);
    }
    if open.len() > 1 {
        return Cow::Borrowed(text);
    }
    if is_user {
        user.extend_from_slice(&text[from..]);
    }
    Cow::Owned(user)
}

/// Without continued lines (also those with blanks before the newline, and
/// trigraphs).
pub(crate) fn splice(text: &[u8]) -> Cow<'_, [u8]> {
    let mut spliced = Vec::new();
    let mut from = 0;
    for newline in memchr::memchr_iter(b'\n', text) {
        let line = text[from.min(newline)..newline].trim_ascii_end();
        let kept = match line {
            [kept @ .., b'?', b'?', b'/'] | [kept @ .., b'\\'] => kept.len(),
            _ => continue,
        };
        let start = from.min(newline);
        spliced.extend_from_slice(&text[start..start + kept]);
        from = newline + 1;
    }
    if from == 0 {
        return Cow::Borrowed(text);
    }
    spliced.extend_from_slice(&text[from..]);
    Cow::Owned(spliced)
}

/// Whether a file of `text` ends in a backslash: in the text a line follows it.
fn open_end(text: &[u8]) -> bool {
    memmem::find_iter(text, b"\\\n").any(|at| {
        let after = &text[at + 2..];
        after.is_empty() || after.starts_with(b"# ") || after.starts_with(b"#line ")
    })
}

/// The words after a place, whatever blanks, quotes, backslashes and opening
/// parentheses lie between them, up to anything else.
struct Words<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Words<'t> {
    fn at(text: &'t [u8], at: usize) -> Self {
        Words { text, at }
    }
}

impl<'t> Iterator for Words<'t> {
    type Item = &'t [u8];

    fn next(&mut self) -> Option<&'t [u8]> {
        while matches!(
            self.text.get(self.at),
            Some(b' ' | b'\t' | b'\x0b' | b'\x0c' | b'"' | b'\\' | b'(' | b')')
        ) {
            self.at += 1;
        }
        let rest = self.text.get(self.at..)?;
        let len = rest.iter().take_while(|byte| is_word(**byte)).count();
        self.at += len;
        (len > 0).then(|| &rest[..len])
    }
}

/// `CAT(__DA, TE__)`: pieces of a macro's name. The first piece is `__D`, `__DA`
/// and so on, or bare underscores that are no function's name, and then the next
/// one is a distinctive piece of the rest.
fn pasted_macro(user: &[u8]) -> Option<Reason> {
    let mut bare = false;
    for at in memchr::memchr_iter(b'_', user) {
        if at > 0 && is_word(user[at - 1]) {
            continue;
        }
        let len = user[at..]
            .iter()
            .take(20)
            .take_while(|byte| is_word(**byte))
            .count();
        let token = &user[at..at + len];
        if token == b"_" || token == b"__" {
            let next = user[at + len..].trim_ascii_start().first();
            bare |= next != Some(&b'(');
            continue;
        }
        if token.len() < 3 {
            continue;
        }
        for (name, code) in MACROS {
            if token.len() < name.len() && name.starts_with(token) {
                return reason(code, token);
            }
        }
    }
    if !bare {
        return None;
    }
    for (name, code) in MACROS {
        let stem = &name[2..name.len() - 2];
        for at in memmem::find_iter(user, stem) {
            let word = |byte: &&u8| is_word(**byte);
            let before = user[..at]
                .iter()
                .rev()
                .take(name.len())
                .take_while(word)
                .count();
            let after = user[at..].iter().take(name.len()).take_while(word).count();
            let token = &user[at - before..at + after];
            if memmem::find(name, token).is_some() {
                return reason(code, token);
            }
        }
    }
    None
}

/// Pragmas that read files, or that change what the preprocessor says while it
/// compiles but not while it only preprocesses (gcc 12: `__AVX2__` and the like).
fn pragma(user: &[u8], family: Family) -> Option<Reason> {
    let mut made = false;
    for at in memmem::find_iter(user, b"ragma") {
        if !matches!(
            at.checked_sub(1).and_then(|at| user.get(at)),
            Some(b'p' | b'P')
        ) {
            continue;
        }
        let after = user[at + 5..].trim_ascii_start();
        let operator = user[at - 1] == b'P';
        if operator && after.starts_with(b"(") {
            let operand = after[1..].trim_ascii_start();
            made |= !matches!(operand.first(), Some(b'"' | b'L' | b'u' | b'U'));
        } else if operator {
            made = true;
        }
        let mut words = Words::at(user, at + 5);
        let first = words.next().unwrap_or_default();
        let second = words.next().unwrap_or_default();
        if let Some(code) = bad_pragma(first, second, family) {
            return reason(code, &[first, b" ", second].concat());
        }
    }
    if made {
        made_pragma(user, family)
    } else {
        None
    }
}

fn bad_pragma(first: &[u8], second: &[u8], family: Family) -> Option<&'static str> {
    match (first, second) {
        (b"GCC", _) if family == Family::Gcc && is_option_word(second) => Some("pragma-target"),
        (b"GCC", b"dependency" | b"pch_preprocess") => Some("pragma-file"),
        (b"clang", b"module" | b"__debug" | b"include_instead") => Some("pragma-file"),
        (b"include_alias" | b"hdrstop", _) if family == Family::Clang => Some("pragma-file"),
        _ => None,
    }
}

fn is_option_word(word: &[u8]) -> bool {
    matches!(
        word,
        b"target" | b"optimize" | b"push_options" | b"pop_options" | b"reset_options"
    )
}

/// `_Pragma` of something that is no plain string: its words may be anywhere.
fn made_pragma(user: &[u8], family: Family) -> Option<Reason> {
    for at in memmem::find_iter(user, b"GCC") {
        let mut words = Words::at(user, at);
        let (first, second) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        if let Some(code) = bad_pragma(first, second, family) {
            return reason(code, &[first, b" ", second].concat());
        }
    }
    if family != Family::Gcc {
        return None;
    }
    for word in [
        &b"push_options"[..],
        b"pop_options",
        b"reset_options",
        b"target",
        b"optimize",
    ] {
        for at in memmem::find_iter(user, word) {
            if !stands_alone(user, at, word.len()) {
                continue;
            }
            let called = user[at + word.len()..].trim_ascii_start().first() == Some(&b'(');
            let attribute = user[..at].trim_ascii_end().ends_with(b"((");
            if word.ends_with(b"options") || (called && !attribute && in_define(user, at)) {
                return reason("pragma-target", word);
            }
        }
    }
    None
}

/// Whether the line of `at` is a `#define`; `true` when the line is too long.
fn in_define(user: &[u8], at: usize) -> bool {
    line_start(user, at).is_none_or(|start| hash_word(&user[start..]) == b"define")
}

/// Where the line of `at` starts, unless that is too far.
fn line_start(user: &[u8], at: usize) -> Option<usize> {
    let from = at.saturating_sub(LOOK_BACK_BYTES_MAX);
    match memchr::memrchr(b'\n', &user[from..at]) {
        Some(newline) => Some(from + newline + 1),
        None => (from == 0).then_some(0),
    }
}

/// The name of the directive that `line` starts with, or nothing.
fn hash_word(line: &[u8]) -> &[u8] {
    let line = line.trim_ascii_start();
    let rest = match line {
        [b'#', rest @ ..] | [b'%', b':', rest @ ..] => rest.trim_ascii_start(),
        _ => return b"",
    };
    let len = rest.iter().take_while(|byte| is_word(**byte)).count();
    &rest[..len]
}

/// Lines that still read something when the text is compiled, or that were
/// counted on already: `#embed`, modules, `__COUNTER__` in a condition.
fn directive(user: &[u8], family: Family) -> Option<Reason> {
    if memmem::find(user, b"embed").is_some()
        && user
            .split(|byte| *byte == b'\n')
            .any(|line| hash_word(line) == b"embed")
    {
        return reason("embed", b"#embed");
    }
    for word in [&b"import"[..], b"module"] {
        for at in memmem::find_iter(user, word) {
            if is_module_line(user, at, word) {
                return reason("module", word);
            }
        }
    }
    if family == Family::Clang && memmem::find(user, b"__COUNTER__").is_some() {
        return counted(user);
    }
    None
}

/// `import <x>;`, `export module m;` and the like, at the start of a line.
fn is_module_line(user: &[u8], at: usize, word: &[u8]) -> bool {
    if !stands_alone(user, at, word.len()) {
        return false;
    }
    let near = line_start(user, at).unwrap_or(at);
    if !matches!(user[near..at].trim_ascii(), b"" | b"export") {
        return false;
    }
    let rest = &user[at + word.len()..];
    match rest.trim_ascii_start().first() {
        Some(b';' | b':') => word == b"module" || rest.first() != Some(&b';'),
        Some(b'<' | b'"') => word == b"import",
        Some(byte) => is_word(*byte) && rest.first().is_some_and(u8::is_ascii_whitespace),
        None => false,
    }
}

/// clang replaces conditions by their value, so a `__COUNTER__` in one would not
/// be counted again.
fn counted(user: &[u8]) -> Option<Reason> {
    let mut names: Vec<&[u8]> = vec![b"__COUNTER__"];
    let mut seen = 0;
    // Each round learns the macros that use one known so far; bounded by their number.
    while seen < names.len() {
        let name = names[seen];
        seen += 1;
        for at in memmem::find_iter(user, name) {
            if !stands_alone(user, at, name.len()) {
                continue;
            }
            let Some(start) = line_start(user, at) else {
                return reason("counter-in-condition", name);
            };
            match hash_word(&user[start..]) {
                b"if" | b"elif" => return reason("counter-in-condition", name),
                b"define" => {
                    let line = &user[start..at];
                    let after = memmem::find(line, b"define").map_or(start, |at| start + at + 6);
                    let defined = Words::at(user, after).next().unwrap_or_default();
                    if !defined.is_empty() && !names.contains(&defined) {
                        names.push(defined);
                    }
                }
                _ => {}
            }
            if names.len() > COUNTER_MACROS_MAX {
                return reason("counter-in-condition", name);
            }
        }
    }
    None
}

/// Macros that use `__COUNTER__`, before we give up to follow them.
const COUNTER_MACROS_MAX: usize = 64;

/// `asm()` that may make the assembler read a file.
fn assembler(user: &[u8]) -> Option<Reason> {
    let mut opaque = false;
    for at in memmem::find_iter(user, b"asm") {
        let start = if user[..at].ends_with(b"__") {
            at - 2
        } else {
            at
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
                    return reason("asm-file-directive", word);
                }
            }
            Template::Opaque => opaque = true,
            Template::None => {}
        }
    }
    if opaque { made_template(user) } else { None }
}

/// Bytes of an `asm` that are read exactly; a longer one counts as opaque.
const TEMPLATE_BYTES_MAX: usize = 256 << 10;
/// Bytes looked back for the start of a line; beyond, the worst is assumed.
const LOOK_BACK_BYTES_MAX: usize = 16 << 10;

/// The first operand of an `asm`.
enum Template {
    /// No assembler text at all: a comment, a word in prose.
    None,
    /// Made of strings alone; escapes decoded.
    Text(Vec<u8>),
    /// Macros take part.
    Opaque,
}

fn template(after: &[u8]) -> Template {
    let after = &after[..after.len().min(TEMPLATE_BYTES_MAX)];
    let mut rest = after.trim_ascii_start();
    loop {
        let len = rest.iter().take_while(|byte| is_word(**byte)).count();
        match &rest[..len] {
            b"" => break,
            b"volatile" | b"__volatile__" | b"__volatile" | b"goto" | b"inline" | b"__inline__"
            | b"__inline" => rest = rest[len..].trim_ascii_start(),
            // `#define A asm volatile` and such; in prose it costs a closer look.
            _ => return Template::Opaque,
        }
    }
    match rest.first() {
        Some(b'(') => rest = &rest[1..],
        Some(b'.' | b',' | b';' | b'-' | b'\'' | b'`') => return Template::None,
        _ => return Template::Opaque,
    }
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
            Some(b'R') => match raw_string(rest) {
                Some((body, after)) => {
                    text.extend_from_slice(body);
                    rest = after;
                }
                None => return Template::Opaque,
            },
            Some(b')' | b':') => return Template::Text(text),
            _ => return Template::Opaque,
        }
    }
}

/// After blanks and comments.
fn skip_blank(mut text: &[u8]) -> &[u8] {
    loop {
        text = text.trim_ascii_start();
        let end = if text.starts_with(b"/*") {
            memmem::find(&text[2..], b"*/").map(|at| at + 4)
        } else if text.starts_with(b"//") {
            memchr::memchr(b'\n', text)
        } else {
            return text;
        };
        match end {
            Some(end) => text = &text[end..],
            None => return b"",
        }
    }
}

/// The body of a string whose opening quote is behind us, and what follows it.
fn string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    loop {
        at += memchr::memchr3(b'"', b'\\', b'\n', text.get(at..)?)?;
        match text[at] {
            b'"' => return Some((&text[..at], &text[at + 1..])),
            b'\\' => at += 2,
            _ => return None,
        }
    }
}

/// The body of `R"x(...)x"` and what follows it.
fn raw_string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = text.strip_prefix(b"R\"")?;
    let open = rest.iter().take(17).position(|byte| *byte == b'(')?;
    let close = [b")", &rest[..open], b"\""].concat();
    let body = &rest[open + 1..];
    let end = memmem::find(body, &close)?;
    Some((&body[..end], &body[end + close.len()..]))
}

/// Appends the bytes that the body of a string stands for. Only what is ASCII
/// matters; everything else may come out as anything that is not.
fn decode(body: &[u8], out: &mut Vec<u8>) {
    let mut rest = body;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let Some(kind) = rest.get(at + 1) else {
            return;
        };
        let tail = &rest[at + 2..];
        let (value, used) = match kind {
            b'x' => number(tail, 16, usize::MAX),
            b'u' => number(tail, 16, 4),
            b'U' => number(tail, 16, 8),
            b'0'..=b'7' => number(&rest[at + 1..], 8, 3),
            b'n' => (u32::from(b'\n'), 0),
            b't' | b'v' | b'f' | b'r' => (u32::from(b' '), 0),
            other => (u32::from(*other), 0),
        };
        out.push(u8::try_from(value).unwrap_or(0xff));
        let octal = matches!(kind, b'0'..=b'7');
        rest = if octal {
            &rest[at + 1 + used..]
        } else {
            &tail[used..]
        };
    }
    out.extend_from_slice(rest);
}

fn number(text: &[u8], radix: u32, digits_max: usize) -> (u32, usize) {
    let mut value = 0u32;
    let mut used = 0;
    while used < digits_max {
        let Some(digit) = text
            .get(used)
            .and_then(|byte| char::from(*byte).to_digit(radix))
        else {
            break;
        };
        // gcc keeps the low bits of an escape that is too long.
        value = value.wrapping_mul(radix).wrapping_add(digit);
        used += 1;
    }
    let value = if digits_max == usize::MAX || radix == 8 {
        value & 0xff
    } else {
        value
    };
    (value, used)
}

/// What makes a complete template suspicious. Directives are found in any case
/// (gas takes `.INCBIN`), also ones that operands or macros complete.
fn bad_template(text: &[u8]) -> Option<&'static [u8]> {
    let lower = text.to_ascii_lowercase();
    if let Some(word) = asm_word(&lower) {
        return Some(word);
    }
    // ".inc%c0" and ".inc{bin|}": the rest of the word comes from elsewhere.
    for at in memchr::memchr_iter(b'.', &lower) {
        let rest = &lower[at + 1..];
        let len = rest
            .iter()
            .take_while(|byte| byte.is_ascii_lowercase())
            .count();
        let cut = matches!(rest.get(len), Some(b'%' | b'{' | b'|' | b'}'));
        let counter = rest[len..].starts_with(b"%=") || rest[len..].starts_with(b"%%");
        if cut
            && !counter
            && FILE_DIRECTIVES
                .iter()
                .any(|word| word.starts_with(&rest[..len]))
        {
            return Some(b".inc%");
        }
    }
    None
}

/// The first word of lower-case assembler text that may lead to a file.
fn asm_word(lower: &[u8]) -> Option<&'static [u8]> {
    const WORDS: [&[u8]; 7] = [
        b"incbin",
        b".include",
        b".macro",
        b".irp",
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
    let mut squeezed = Vec::with_capacity(user.len());
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let mut rest = user;
    let mut line_starts = true;
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
            return reason("asm-file-directive", b"unclosed raw string beside asm");
        }
        let plain = if *first == b'"' {
            string(&rest[1..])
        } else {
            None
        };
        if let Some((body, after)) = raw.flatten().or(plain) {
            if plain.is_some() && hides_a_letter(body) {
                return reason("asm-file-directive", b"escaped letters beside asm");
            }
            if let Some(word) = bad_template(body) {
                return reason("asm-file-directive", word);
            }
            add_edges(body, &mut pieces);
            squeeze(body, &mut squeezed);
            rest = after;
        } else if is_word(*first) {
            let len = rest.iter().take_while(|byte| is_word(**byte)).count();
            add_piece(&rest[..len], &mut pieces);
            squeeze(&rest[..len], &mut squeezed);
            rest = &rest[len..];
        } else {
            squeeze(&rest[..1], &mut squeezed);
            rest = &rest[1..];
        }
    }
    if let Some(word) = asm_word(&squeezed) {
        return reason("asm-file-directive", word);
    }
    for word in FILE_DIRECTIVES {
        if composable(word, &pieces) {
            return reason("asm-file-directive", &[b"pieces of ", word].concat());
        }
    }
    None
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

/// Keeps `token` if it is a part of a directive's name.
fn add_piece(token: &[u8], pieces: &mut Vec<Vec<u8>>) {
    if token.len() > FILE_DIRECTIVES[1].len() {
        return;
    }
    let token = token.to_ascii_lowercase();
    let part = FILE_DIRECTIVES
        .iter()
        .any(|word| memmem::find(word, &token).is_some());
    if part && !token.is_empty() && !pieces.contains(&token) {
        pieces.push(token);
    }
}

/// The words that a string starts and ends with: a neighbour may go on.
fn add_edges(text: &[u8], pieces: &mut Vec<Vec<u8>>) {
    let head = text.iter().take_while(|byte| is_word(**byte)).count();
    let tail = text.iter().rev().take_while(|byte| is_word(**byte)).count();
    add_piece(&text[..head], pieces);
    add_piece(&text[text.len() - tail..], pieces);
}

/// Whether `word` can be put together from `pieces` of two letters or more, or
/// from a long one and single letters.
fn composable(word: &[u8], pieces: &[Vec<u8>]) -> bool {
    let long = pieces.iter().any(|piece| piece.len() >= 4);
    let mut reached = vec![false; word.len() + 1];
    reached[0] = true;
    for at in 0..word.len() {
        if !reached[at] {
            continue;
        }
        for piece in pieces {
            let usable = piece.len() >= 2 || long;
            if usable && word[at..].starts_with(piece) {
                reached[at + piece.len()] = true;
            }
        }
    }
    reached[word.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As gcc writes it: a system header that pastes and has asm, then the file.
    fn gcc(user: &str) -> Vec<u8> {
        format!(
            "# 0 \"a.c\"\n# 0 \"<built-in>\"\n#define __x86_64__ 1\n# 0 \"<command-line>\"\n\
             # 1 \"a.c\"\n# 1 \"/usr/include/sys/cdefs.h\" 1 3 4\n\
             #define __CONCAT(x,y) x ## y\n#define __D 1\n\
             #pragma GCC target(\"avx2\")\nint f(void) __asm__ (\"\" \"g\" __D);\n\
             # 2 \"a.c\" 2\n{user}\n"
        )
        .into_bytes()
    }

    fn code(user: &str, family: Family) -> Option<&'static str> {
        find(&gcc(user), family).map(|reason| reason.code)
    }

    #[track_caller]
    fn is(expected: Option<&'static str>, users: &[&str]) {
        for user in users {
            for family in [Family::Gcc, Family::Clang] {
                assert_eq!(code(user, family), expected, "{family:?}: {user}");
            }
        }
    }

    #[test]
    fn assembler_files() {
        is(
            Some("asm-file-directive"),
            &[
                r#"asm(".incbin \"x\"");"#,
                r#"asm("\t.include \"x\"");"#,
                r#"__asm__ volatile (".inc" "bin \"x\"");"#,
                "asm(\".inc\" /* c */\n  // d\n \"lude \\\"x\\\"\");",
                r#"asm(".InCbIn \"x\"");"#,
                r#"asm(".\x69ncbin \"x\"");"#,
                r#"asm(".\151nclude \"x\"");"#,
                r#"asm(".\u0069nclude \"x\"");"#,
                "asm(R\"x(.include \"a\")x\");",
                r#"asm(".inc%c0 \"x\"" : : "i"(bin));"#,
                r#"asm(".inc{bin|lude} \"x\"");"#,
                r#"asm(".macro m a\n .inc\\a \"x\"\n.endm\n m bin");"#,
                "#define S(x) #x\n#define I(x) S(.inc##x \"f\")\nasm(I(bin));",
                "#define S(x) \".in\" #x \" \\\"f\\\"\"\nasm(S(clude));",
                "#define A asm\nA(\".inc\" \"lude 'x'\");",
                "#define T \".\\x69nclude 'x'\"\nasm(T);",
                "as\\\nm(\".inc\\\nlude 'x'\");",
                "const char *incbin;",
                "int x __asm__(\"a\\n.include 'b'\");",
            ],
        );
    }

    #[test]
    fn harmless_assembler() {
        is(
            None,
            &[
                r#"asm volatile ("rdtsc" : "=a"(lo), "=d"(hi));"#,
                r#"asm("lock; incl %0" : "+m"(x)); int bin, in, inc;"#,
                r#"asm("jmp .L%=\n.L%=:"); asm(".p2align 4");"#,
                r#"asm(".quad %c0" : : "i"(1)); int x asm("y");"#,
                "/* the asm of this file */ #define M(x) __asm__(x)\nM(\"nop\");",
                "#define M(x) __asm__(x)\n#if 0 // end.\n#include <a.h>\n#endif\nM(\"nop\");",
                "const char *path = \"see .include\";",
                "#ident \"asm\"",
            ],
        );
    }

    #[test]
    fn time_and_file_macros() {
        is(
            Some("time-macro"),
            &[
                "char *a = __DATE__;",
                "char *a = __TIME__ \" \" __TIMESTAMP__;",
                "char *a = __DA\\\nTE__;",
                "char *a = __DA\\ \nTE__;",
                "char *a = __TI??/\nME__;",
                "char *a = __CONCAT(__DA,TE__);",
                "char *a = __CONCAT(__TIME,STAMP__);",
                "#define W(x) __##x##__\nchar *a = W(DATE);",
                "char *a = __CONCAT(__, TIME__);",
                "char *a = __CONCAT(_, _DATE__);",
            ],
        );
        is(
            Some("base-file-macro"),
            &[
                "char *a = __BASE_FILE__;",
                "int a = __INCLUDE_LEVEL__;",
                "char *a = __CONCAT(__BASE_,FILE__);",
                "#define W(x) __##x##__\nchar *a = W(BASE_FILE);",
            ],
        );
        is(
            None,
            &[
                "char *a = __FILE__; int b = __LINE__; int c = __COUNTER__;",
                "int MY__DATE__, __DATE__S, DATE, TIME, __TIMESIZE;",
                "puts(_(\"DATE\"));",
                "#line 3 \"/usr/include/foo.y\"",
            ],
        );
    }

    #[test]
    fn pragmas() {
        for user in [
            "#pragma GCC target(\"avx2\")",
            "#pragma GCC   optimize (\"O3\")",
            "#  pragma GCC push_options",
            "_Pragma(\"GCC target(\\\"avx2\\\")\")",
            "#define P(x) _Pragma(#x)\nP(GCC target(\"avx2\"))",
            "#define P(x) _Pragma(#x)\n#define T target(\"avx2\")\nP(GCC T)",
            "#pragma GCC \\\n pop_options",
        ] {
            assert_eq!(code(user, Family::Gcc), Some("pragma-target"), "{user}");
            assert_eq!(code(user, Family::Clang), None, "{user}");
        }
        is(
            Some("pragma-file"),
            &[
                "#pragma GCC dependency \"x.h\"",
                "#pragma GCC pch_preprocess \"x.gch\"",
                "#pragma clang __debug dump x",
                "_Pragma(\"clang module import x\")",
            ],
        );
        is(
            None,
            &[
                "#pragma pack(1)\n#pragma GCC diagnostic push\n#pragma once",
                "#pragma GCC ivdep\n_Pragma(\"GCC diagnostic ignored \\\"-Wtarget\\\"\")",
                "#define P(x) _Pragma(#x)\nP(GCC unroll 4) int target(int); int y = target(1);",
                "#define P(x) _Pragma(#x)\n#define A __attribute__((target(\"avx2\")))",
            ],
        );
    }

    #[test]
    fn lines_that_still_read() {
        is(
            Some("embed"),
            &["int a[] = {\n#embed \"x\"\n};", "# embed <x>"],
        );
        is(
            Some("module"),
            &[
                "import <x>;",
                "export import y;",
                "module;",
                "export module z;",
                "import :p;",
            ],
        );
        is(
            None,
            &[
                "int embed; int module; int import;",
                "x.module = 1;\nmodule->x = 2;",
            ],
        );
        for user in [
            "#if __COUNTER__ == 0\n#endif",
            "#define N __COUNTER__\n#define M (N + 1)\n#if M\n#endif",
        ] {
            assert_eq!(
                code(user, Family::Clang),
                Some("counter-in-condition"),
                "{user}"
            );
        }
        is(
            None,
            &["#define U(x) x##__COUNTER__\n#if 1\nint a;\n#endif"],
        );
    }

    #[test]
    fn pieces_in_system_headers_do_not_count_but_user_headers_do() {
        let nested = "# 1 \"./u.h\" 1\n#define P __DA\n# 3 \"a.c\" 2";
        assert_eq!(code(nested, Family::Gcc), Some("time-macro"));
        let clang = "# 1 \"/usr/bin/../lib/gcc/x/12/../../../../include/c++/12/a\" 1 3\n\
                     #define P __DA\n# 3 \"a.c\" 2";
        assert_eq!(code(clang, Family::Clang), None);
        let outside = "# 1 \"/usr/include/../local/a\" 1 3\n#define P __DA\n# 3 \"a.c\" 2";
        assert_eq!(code(outside, Family::Clang), Some("time-macro"));
    }

    #[test]
    fn made_up_markers_hide_nothing() {
        for fake in [
            "# 1 \"/usr/include/x.h\"\n#define P __DA",
            "# 1 \"/usr/include/x.h\" 1 3\n#define P __DA",
            "# 9 \"never/entered.c\" 2\n# 1 \"/usr/include/x.h\" 1 3\n#define P __DA",
        ] {
            assert_eq!(code(fake, Family::Gcc), Some("time-macro"), "{fake}");
        }
    }

    #[test]
    fn pragmas_that_gcc_drops() {
        let text = gcc("       \nint a;");
        let lost = |source: &str, openmp| lost_pragma(&text, b"a.c", source.as_bytes(), openmp);
        for source in [
            "#pragma redefine_extname a b\n",
            " # pragma message \"x\"\nint a;\n#pragma pack(1)\n",
            "#pragma pop_macro(\"X\")",
            "#pragma GCC poison x",
            "#pra\\\ngma pop_macro(\"X\")",
        ] {
            assert!(lost(source, false).is_some(), "{source}");
        }
        assert!(lost("#pragma omp parallel for\n", true).is_some());
        assert!(lost("#pragma omp parallel for\n", false).is_none());
        assert!(lost("#pragma once\n#pragma GCC diagnostic push", true).is_none());
    }

    #[test]
    fn pragmas_in_skipped_groups_are_not_dropped() {
        let text = gcc("\n\nint a;");
        let source =
            b"#pragma once\n#if 0\n#pragma pop_macro(\"X\")\n#pragma message \"m\"\n#endif\n";
        assert_eq!(lost_pragma(&text, b"a.c", source, false), None);
        // The one trace is of `once`; a second one would be of `pop_macro`.
        let text = gcc("       \nint a;");
        assert_eq!(lost_pragma(&text, b"a.c", source, false), None);
        let text = gcc("       \n       \nint a;");
        assert!(lost_pragma(&text, b"a.c", source, false).is_some());
        assert_eq!(lost_pragma(&text, b"b.c", source, false), None);
    }

    #[test]
    fn user_files_are_listed_once() {
        let text =
            gcc("# 1 \"/work//\"\n# 1 \"a.c\"\n# 1 \"./u \\\"q\\\".h\" 1\nint a;\n# 3 \"a.c\" 2");
        assert_eq!(
            user_files(&text),
            [b"a.c".to_vec(), b"./u \"q\".h".to_vec()]
        );
    }

    #[test]
    fn any_bytes_will_do() {
        let seeds: [&[u8]; 12] = [
            b"asm(\"\\x",
            b"\n# 1 \"",
            b"\\",
            b"_Pragma(",
            b"__DA",
            b"R\"(",
            b"/*",
            b"\xff\x00",
            b"\n# 2 \"a\" 2",
            b"import",
            b"_",
            b"\\\n",
        ];
        // Every ordered triple of pieces, and each cut short by one byte.
        for a in seeds {
            for b in seeds {
                for c in seeds {
                    let text = [a, b, c].concat();
                    for family in [Family::Gcc, Family::Clang] {
                        find(&text, family);
                        find(&text[..text.len() - 1], family);
                    }
                    user_files(&text);
                    lost_pragma(&text, a, &text, true);
                }
            }
        }
    }

    #[test]
    fn real_headers_are_free() {
        let c = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n\
                 #include <math.h>\n#include <pthread.h>\n#include <unistd.h>\n\
                 #include <sys/socket.h>\nint main(void) { return 0; }\n";
        let cxx = "#include <iostream>\n#include <regex>\n#include <algorithm>\n\
                   #include <thread>\nint main() { return 0; }\n";
        let gcc = ("gcc", "-fdirectives-only", Family::Gcc);
        let clang = ("clang", "-frewrite-includes", Family::Clang);
        for (language, source) in [("c", c), ("c++", cxx)] {
            for (compiler, option, family) in [gcc, clang] {
                let Some(text) = preprocess(compiler, option, language, source) else {
                    eprintln!("skipped: no {compiler} for {language} here");
                    continue;
                };
                assert!(text.len() > 10_000);
                assert_eq!(find(&text, family), None, "{compiler} {language}");
            }
        }
    }

    fn preprocess(compiler: &str, option: &str, language: &str, source: &str) -> Option<Vec<u8>> {
        use std::io::Write;
        use std::process::{Command, Stdio};
        let mut child = Command::new(compiler)
            .args(["-E", option, "-x", language, "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        child.stdin.take()?.write_all(source.as_bytes()).ok()?;
        let output = child.wait_with_output().ok()?;
        output.status.success().then_some(output.stdout)
    }
}
