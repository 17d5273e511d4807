//! What a compiler command means: what it reads and writes, what of it matters
//! where, and where it may run. Knows nothing that `table` does not know.
//! Unaware of files: it never looks whether one is there.

use std::fmt;

pub use crate::compiler::toolchain::{Family, Language};
use crate::options::row::{File, Permit, Role, Row, Shape};
use crate::options::table::{find, find_pair};
use crate::reasons;
use crate::wire::plain_path::plain;

/// What [`Compile::expand_args`] has in place of the time.
pub const CLOCK_MARK: &str = "the clock of hybrid-grid";

/// Macros that change with time.
pub const CLOCKS: [&str; 3] = ["__DATE__", "__TIME__", "__TIMESTAMP__"];

/// By which gcc is told that a source is preprocessed.
const PREPROCESSED: &str = "-fpreprocessed";

/// Bytes of a reason's detail.
const DETAIL_BYTES_MAX: usize = 200;

/// Why a command runs on the client's own machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The reason's code: stable, for counting.
    pub code: &'static str,
    /// The part of the command that is to blame, or empty.
    pub detail: String,
}

impl Reason {
    /// A reason whose detail is `blame`, shortened and made printable.
    pub fn new(code: &'static str, blame: &[u8]) -> Reason {
        let mut detail: String = String::from_utf8_lossy(blame)
            .chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .collect();
        if detail.len() > DETAIL_BYTES_MAX {
            let cut = (0..=DETAIL_BYTES_MAX)
                .rev()
                .find(|at| detail.is_char_boundary(*at));
            detail.truncate(cut.unwrap_or(0));
            detail.push_str("...");
        }
        Reason::of(code, detail)
    }

    /// A reason whose detail is `words` of our own, as they are.
    pub fn with(code: &'static str, words: impl fmt::Display) -> Reason {
        Reason::of(code, words.to_string())
    }

    fn of(code: &'static str, detail: String) -> Reason {
        debug_assert!(reasons::find(code).is_some(), "{code} has no meaning");
        Reason { code, detail }
    }

    fn bare(code: &'static str) -> Reason {
        Reason::new(code, b"")
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.detail.as_str() {
            "" => f.write_str(self.code),
            detail => write!(f, "{}: {detail}", self.code),
        }
    }
}

impl std::error::Error for Reason {}

/// The compiler whose command line is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// The compiler's family, of which the table's rows count.
    pub family: Family,
    /// Whether it is g++ or clang++, for which `.c` is C++ too.
    pub cxx_driver: bool,
}

/// An option with its value, or the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// The item's one or two words, as typed.
    pub words: Vec<Vec<u8>>,
    /// What it is for.
    pub role: Role,
    /// What its value names.
    pub file: File,
    /// Where the value begins in the last word, if it has one.
    value_at: usize,
    spelling: &'static str,
}

impl Argument {
    /// The option as the table spells it; empty for the source.
    pub fn spelling(&self) -> &'static str {
        self.spelling
    }

    /// The option's value, or the source's path.
    pub fn value(&self) -> &[u8] {
        self.words.last().map_or(b"", |word| &word[self.value_at..])
    }
}

/// What is asked for about the dependency file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependencies {
    /// `-MD`, not `-MMD`.
    pub system_headers: bool,
    /// `-MF`, or the file in `-Wp,-MD,FILE`.
    pub file: Option<Vec<u8>>,
    /// `-MT` or `-MQ` is there.
    pub explicit_target: bool,
    /// `-MP` is there.
    pub phony: bool,
    // gcc's `-Wp,-MD,FILE` goes past the driver, which would name the target after `-o`.
    past_driver: bool,
}

/// A file that a compile may write beside its object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SideOutput {
    /// As the compiler would spell it.
    pub path: Vec<u8>,
    /// The option that asks for it, as the table spells it.
    pub option: &'static str,
}

/// How much of the way to an object a source has before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// C or C++.
    Code,
    /// C or C++ that was preprocessed (`.i`, `.ii`). gcc follows no directives in it, clang
    /// does.
    PreprocessedCode,
    /// Assembler that is to be preprocessed (`.S`).
    Assembler,
    /// Assembler as it is (`.s`).
    PreprocessedAssembler,
}

impl SourceKind {
    /// Whether an assembler reads it.
    pub fn is_assembler(self) -> bool {
        matches!(
            self,
            SourceKind::Assembler | SourceKind::PreprocessedAssembler
        )
    }

    /// Whether it was preprocessed: no dependency file is written then.
    pub fn is_preprocessed(self) -> bool {
        matches!(
            self,
            SourceKind::PreprocessedCode | SourceKind::PreprocessedAssembler
        )
    }
}

/// A command that compiles one C, C++ or assembler file to an object or to assembly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compile {
    /// The language that the source is written in; of assembler, that of the driver.
    pub language: Language,
    /// What the source is.
    pub kind: SourceKind,
    /// Whether the output is assembly (`-S`) instead of an object (`-c`).
    pub assembly: bool,
    /// As typed.
    pub source: Vec<u8>,
    /// The output as typed after `-o`.
    pub output: Option<Vec<u8>>,
    /// The dependency file, if one is asked for.
    pub dependencies: Option<Dependencies>,
    /// Every word of the command, in order.
    pub arguments: Vec<Argument>,
    /// May its preprocessed text be compiled elsewhere?
    pub travel: Result<(), Reason>,
    /// May its files be compiled elsewhere, each at its own path?
    pub tree: Result<(), Reason>,
    /// May its result be cached?
    pub cache: Result<(), Reason>,
}

/// Reads a command line: `args` without the compiler's name, response files
/// expanded.
///
/// # Errors
/// Why the command must run here, as it is, with nothing kept.
pub fn parse(dialect: Dialect, args: &[Vec<u8>]) -> Result<Compile, Reason> {
    let mut parser = Parser::default();
    let mut rest = args;
    while let Some(item) = read(dialect.family, &mut rest)? {
        parser.take(dialect, item)?;
    }
    parser.finish(dialect)
}

// An option and its words, or a source (`row` is `None`).
struct Item<'a> {
    row: Option<Row>,
    words: &'a [Vec<u8>],
    value_at: usize,
}

impl Item<'_> {
    fn value(&self) -> &[u8] {
        self.words.last().map_or(b"", |word| &word[self.value_at..])
    }

    fn reason(&self, code: &'static str) -> Reason {
        Reason::new(code, &self.words.join(&b' '))
    }
}

// The next option or source of `rest`.
fn read<'a>(family: Family, rest: &mut &'a [Vec<u8>]) -> Result<Option<Item<'a>>, Reason> {
    let Some(word) = rest.first() else {
        return Ok(None);
    };
    if word.starts_with(b"@") {
        return Err(Reason::new("response-file", word));
    }
    if !word.starts_with(b"-") || word == b"-" {
        let (words, after) = rest.split_at(1);
        *rest = after;
        return Ok(Some(Item {
            row: None,
            words,
            value_at: 0,
        }));
    }
    let unknown = || Reason::new("unknown-option", word);
    let (mut row, at) = find(family, word).ok_or_else(unknown)?;
    let two = match row.shape {
        Shape::Separate => true,
        Shape::JoinedOrSeparate => word.len() == at,
        _ => false,
    };
    if two && rest.len() < 2 {
        return Err(Reason::new("missing-value", word));
    }
    let (words, after) = rest.split_at(if two { 2 } else { 1 });
    *rest = after;
    if two && let Some(pair) = find_pair(family, word, &words[1]) {
        row = pair;
    }
    let item = Item {
        row: Some(row),
        words,
        value_at: if two { 0 } else { at },
    };
    if !row.knows(item.value()) {
        return Err(item.reason("unknown-option"));
    }
    Ok(Some(item))
}

/// Whether an option asks for this machine's processor, perhaps with more or less than it has:
/// `native+crc`, in any case. A worker's is another one; what could be said in other words
/// was before (`invocation/native.rs` of the client).
fn is_own_processor(row: &Row, value: &[u8]) -> bool {
    let names = ["-march=", "-mcpu=", "-mtune="].contains(&row.spelling);
    let (start, _) = value.split_at(value.len().min(b"native".len()));
    names && start.eq_ignore_ascii_case(b"native")
}

#[derive(Default)]
struct Parser {
    arguments: Vec<Argument>,
    stage: Option<u8>,
    source: Option<Vec<u8>>,
    second: Option<Vec<u8>>,
    language: Option<Vec<u8>>,
    source_language: Option<Vec<u8>>,
    output: Option<Vec<u8>>,
    generate: Option<bool>,
    file: Option<Vec<u8>>,
    explicit_target: bool,
    phony: bool,
    past_driver: bool,
    debug: Option<Reason>,
    travel: Option<Reason>,
    tree: Option<Reason>,
    cache: Option<Reason>,
}

impl Parser {
    fn take(&mut self, dialect: Dialect, item: Item<'_>) -> Result<(), Reason> {
        let Some(row) = item.row else {
            return self.source(item);
        };
        if is_own_processor(&row, item.value()) {
            return Err(item.reason("native-arch"));
        }
        if let Permit::No(code) = row.cache {
            // A command that neither travels nor is cached needs no second look.
            if let Permit::No(code) = row.travel {
                return Err(item.reason(code.name()));
            }
            self.cache.get_or_insert_with(|| item.reason(code.name()));
        }
        if let Permit::No(code) = row.travel {
            self.travel.get_or_insert_with(|| item.reason(code.name()));
        }
        if let Permit::No(code) = row.tree {
            self.tree.get_or_insert_with(|| item.reason(code.name()));
        }
        match row.role {
            Role::Stage => self.stage(&item)?,
            Role::Output => self.output(&item)?,
            Role::Language => self.language(&item)?,
            Role::Dependency => self.dependency(dialect, &row, &item)?,
            Role::SideOutput => self.side_output(&row, &item),
            Role::Debug => self.debug = debug_after(&row).then(|| item.reason("debug-info")),
            _ => {}
        }
        self.push(item, row.role, row.file, row.spelling);
        Ok(())
    }

    fn push(&mut self, item: Item<'_>, role: Role, file: File, spelling: &'static str) {
        self.arguments.push(Argument {
            words: item.words.to_vec(),
            role,
            file,
            value_at: item.value_at,
            spelling,
        });
    }

    fn source(&mut self, item: Item<'_>) -> Result<(), Reason> {
        let path = item.value();
        if self.source.is_some() {
            // Of a link, that is not what keeps it here.
            self.second.get_or_insert_with(|| path.to_vec());
            return Ok(());
        }
        self.source = Some(path.to_vec());
        self.source_language = self.language.clone();
        self.push(item, Role::Source, File::Input, "");
        Ok(())
    }

    fn stage(&mut self, item: &Item<'_>) -> Result<(), Reason> {
        let letter = item.words[0].last().copied();
        if self.stage.is_some() && self.stage != letter {
            return Err(Reason::bare("several-stages"));
        }
        self.stage = letter;
        Ok(())
    }

    fn output(&mut self, item: &Item<'_>) -> Result<(), Reason> {
        let path = item.value();
        if self.output.is_some() {
            return Err(Reason::new("several-outputs", path));
        }
        if path == b"-" || path == b"/dev/stdout" {
            return Err(Reason::new("stdout-output", path));
        }
        if path.is_empty() || path.starts_with(b"/dev/") || path.ends_with(b"/") {
            return Err(Reason::new("output-is-device", path));
        }
        self.output = Some(path.to_vec());
        Ok(())
    }

    /// Refuses one that is no file of the compile's own.
    fn side_output(&mut self, row: &Row, item: &Item<'_>) {
        let path = item.value();
        let odd = path.is_empty() || path == b"-" || path.starts_with(b"/dev/");
        if row.file == File::Output && (odd || path.ends_with(b"/")) {
            let reason = || item.reason("extra-output");
            self.tree.get_or_insert_with(reason);
            self.cache.get_or_insert_with(reason);
        }
    }

    fn language(&mut self, item: &Item<'_>) -> Result<(), Reason> {
        if self.source.is_some() {
            // That is for sources behind it, of which there is none.
            return match item.value() {
                b"none" => Ok(()),
                _ => Err(item.reason("language-after-source")),
            };
        }
        self.language = match item.value() {
            b"none" => None,
            name => Some(name.to_vec()),
        };
        Ok(())
    }

    fn dependency(&mut self, dialect: Dialect, row: &Row, item: &Item<'_>) -> Result<(), Reason> {
        let value = item.value();
        match row.spelling {
            "-MD" => self.generate(true)?,
            "-MMD" => self.generate(false)?,
            "-MP" => self.phony = true,
            "-MT" | "-MQ" => self.explicit_target = true,
            "-MF" => self.dependency_file(value)?,
            "-Wp,-MD," | "-Wp,-MMD," => {
                if value.contains(&b',') {
                    return Err(item.reason("preprocessor-option"));
                }
                self.generate(row.spelling == "-Wp,-MD,")?;
                self.past_driver = dialect.family == Family::Gcc;
                self.dependency_file(value)?;
            }
            _ => return Err(item.reason("dependency-option")),
        }
        Ok(())
    }

    // -MD beside -MMD: the compilers do not agree on what that means.
    fn generate(&mut self, system_headers: bool) -> Result<(), Reason> {
        if self.generate.is_some() {
            return Err(Reason::bare("several-dependency-options"));
        }
        self.generate = Some(system_headers);
        Ok(())
    }

    fn dependency_file(&mut self, path: &[u8]) -> Result<(), Reason> {
        if self.file.is_some() {
            return Err(Reason::new("several-dependency-options", path));
        }
        if path.is_empty() || path == b"-" || path.starts_with(b"/dev/") {
            return Err(Reason::new("dependencies-to-device", path));
        }
        self.file = Some(path.to_vec());
        Ok(())
    }

    fn finish(mut self, dialect: Dialect) -> Result<Compile, Reason> {
        let Some(source) = self.source.take() else {
            return Err(Reason::bare("no-source"));
        };
        let Some(stage) = self.stage else {
            return Err(Reason::bare("not-a-compile"));
        };
        if let Some(second) = &self.second {
            return Err(Reason::new("several-sources", second));
        }
        if is_stdin(&source) {
            return Err(Reason::bare("stdin-source"));
        }
        let (language, kind) = language_of(dialect, self.source_language.as_deref(), &source)?;
        let kind = self.kind(kind, stage, &source)?;
        let dependencies = self.dependencies()?;
        // A compiler that does not preprocess writes none.
        let dependencies = dependencies.filter(|_| !self.is_listed_nowhere(kind));
        self.travel = self.debug.take().or(self.travel);
        let as_it_is = match kind {
            SourceKind::Code => None,
            SourceKind::PreprocessedCode => Some("preprocessed-source"),
            SourceKind::Assembler | SourceKind::PreprocessedAssembler => Some("assembler-source"),
        };
        if let Some(code) = as_it_is {
            self.travel
                .get_or_insert_with(|| Reason::new(code, &source));
        }
        if let Some(reason) = self.source_path_embedded(dialect) {
            self.travel.get_or_insert(reason);
        }
        if let Some(reason) = odd_name(&source) {
            self.tree.get_or_insert_with(|| reason.clone());
            self.travel.get_or_insert(reason);
        }
        // The driver would read it, if a file of that name is there.
        let mut words = self.arguments.iter().flat_map(|a| &a.words);
        if let Some(word) = words.find(|word| word.starts_with(b"@")) {
            let reason = || Reason::new("response-file", word);
            self.tree.get_or_insert_with(reason);
        }
        let compile = Compile {
            language,
            kind,
            assembly: stage == b'S',
            source,
            output: self.output,
            dependencies,
            arguments: self.arguments,
            travel: self.travel.map_or(Ok(()), Err),
            tree: self.tree.map_or(Ok(()), Err),
            cache: self.cache.map_or(Ok(()), Err),
        };
        Ok(compile.quietly_linkless(dialect))
    }

    // What a source is that looks like one of `kind`: gcc may be told that it is preprocessed.
    fn kind(&self, kind: SourceKind, stage: u8, source: &[u8]) -> Result<SourceKind, Reason> {
        if kind.is_assembler() && stage == b'S' {
            return Err(Reason::new("assembler-source", source));
        }
        let mut told = self.arguments.iter().rev();
        match told.find(|argument| argument.spelling == PREPROCESSED) {
            Some(_) if kind != SourceKind::Code => {
                Err(Reason::new("preprocessed-source", PREPROCESSED.as_bytes()))
            }
            Some(argument) if argument.words[0] == PREPROCESSED.as_bytes() => {
                Ok(SourceKind::PreprocessedCode)
            }
            _ => Ok(kind),
        }
    }

    // Whether no dependency file is written, although one is asked for.
    fn is_listed_nowhere(&self, kind: SourceKind) -> bool {
        let told = |argument: &Argument| argument.spelling == PREPROCESSED;
        kind.is_preprocessed() && !self.arguments.iter().any(told)
    }

    // clang's address sanitizers write the source's path as typed into the object.
    fn source_path_embedded(&self, dialect: Dialect) -> Option<Reason> {
        let addresses = |name: &[u8]| {
            matches!(
                name,
                b"address" | b"hwaddress" | b"kernel-address" | b"kernel-hwaddress"
            )
        };
        let argument = self.arguments.iter().find(|argument| {
            argument.spelling == "-fsanitize="
                && argument.value().split(|b| *b == b',').any(addresses)
        })?;
        (dialect.family == Family::Clang).then(|| Reason::new("source-path", &argument.words[0]))
    }

    fn dependencies(&mut self) -> Result<Option<Dependencies>, Reason> {
        let Some(system_headers) = self.generate else {
            if self.file.is_some() || self.explicit_target || self.phony {
                return Err(Reason::bare("dependency-option"));
            }
            return Ok(None);
        };
        Ok(Some(Dependencies {
            system_headers,
            file: self.file.take(),
            explicit_target: self.explicit_target,
            phony: self.phony,
            past_driver: self.past_driver,
        }))
    }
}

// Whether there is debug information if this is the last word on it.
fn debug_after(row: &Row) -> bool {
    !matches!(row.spelling, "-g0" | "-ggdb0")
}

// Headers beside the file that `/dev/stdin` leads to are not beside that name.
fn is_stdin(source: &[u8]) -> bool {
    let is_device = source.starts_with(b"/dev/") || source.starts_with(b"/proc/");
    source == b"-" || is_device && source != b"/dev/null"
}

// A name that the worker's folder or a line marker might not hold as it is.
fn odd_name(source: &[u8]) -> Option<Reason> {
    let odd = |byte: &u8| byte.is_ascii_control() || b"\"\\".contains(byte);
    let base = base_name(source);
    let bad = source.iter().any(odd)
        || base.starts_with(b"-")
        || base.starts_with(b"@")
        || base.is_empty()
        || std::str::from_utf8(source).is_err();
    bad.then(|| Reason::new("source-name", source))
}

fn language_of(
    dialect: Dialect,
    named: Option<&[u8]>,
    source: &[u8],
) -> Result<(Language, SourceKind), Reason> {
    // What g++ has to be told by `-x`.
    let own = match dialect.cxx_driver {
        true => Language::Cxx,
        false => Language::C,
    };
    let code = |language| Ok((language, SourceKind::Code));
    let preprocessed = |language| Ok((language, SourceKind::PreprocessedCode));
    // g++ has the preprocessor of gcc, which its identity does not tell.
    let assembler = || match (dialect.family, dialect.cxx_driver) {
        (Family::Gcc, true) => Err(Reason::new("assembler-source", source)),
        _ => Ok((own, SourceKind::Assembler)),
    };
    let preprocessed_assembler = || Ok((own, SourceKind::PreprocessedAssembler));
    if let Some(name) = named {
        return match name {
            b"c" => code(Language::C),
            b"c++" => code(Language::Cxx),
            b"cpp-output" => preprocessed(Language::C),
            b"c++-cpp-output" => preprocessed(Language::Cxx),
            b"assembler" => preprocessed_assembler(),
            b"assembler-with-cpp" => assembler(),
            b"c-header" | b"c++-header" => Err(Reason::new("header-source", name)),
            other => Err(Reason::new("language", other)),
        };
    }
    match suffix(source) {
        b"c" => code(own),
        b"cc" | b"cp" | b"cxx" | b"cpp" | b"CPP" | b"c++" | b"C" => code(Language::Cxx),
        b"i" => preprocessed(own),
        b"ii" => preprocessed(Language::Cxx),
        b"s" => preprocessed_assembler(),
        b"sx" if dialect.family == Family::Clang => Err(Reason::new("assembler-source", source)),
        b"S" | b"sx" => assembler(),
        b"h" | b"hh" | b"H" | b"hp" | b"hxx" | b"hpp" | b"HPP" | b"h++" | b"tcc" => {
            Err(Reason::new("header-source", source))
        }
        b"m" | b"mi" | b"mm" | b"M" | b"mii" => Err(Reason::new("language", b"objective-c")),
        b"cppm" | b"ixx" | b"ccm" | b"cxxm" | b"pcm" => Err(Reason::new("modules", source)),
        b"o" | b"a" | b"so" | b"lo" | b"obj" => Err(Reason::new("not-a-compile", source)),
        _ => Err(Reason::new("language", source)),
    }
}

fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// The one source that `words` seem to compile: for counting commands of which the table
/// knows too little.
pub fn likely_source(words: &[Vec<u8>]) -> Option<&[u8]> {
    let compiles = |word: &Vec<u8>| matches!(&word[..], b"-c" | b"-S");
    if !words.iter().any(compiles) {
        return None;
    }
    let named = |word: &&Vec<u8>| !word.starts_with(b"-") && is_source(word);
    let mut sources = words.iter().filter(named);
    let source = sources.next()?;
    sources.next().is_none().then_some(source)
}

/// Whether a path is, by the end of its name, what compilers make objects of.
pub fn is_source(path: &[u8]) -> bool {
    let known: [&[u8]; 13] = [
        b"c", b"i", b"C", b"cc", b"cp", b"cpp", b"cxx", b"c++", b"ii", b"s", b"S", b"m", b"mm",
    ];
    known.contains(&suffix(path))
}

// After the last dot of the base name; empty if there is none.
fn suffix(path: &[u8]) -> &[u8] {
    let base = base_name(path);
    match base.iter().rposition(|byte| *byte == b'.') {
        Some(dot) => &base[dot + 1..],
        None => b"",
    }
}

fn with_suffix(path: &[u8], suffix: &[u8]) -> Vec<u8> {
    let base_at = path.len() - base_name(path).len();
    let dot = path[base_at..].iter().rposition(|byte| *byte == b'.');
    // gcc and clang both take a leading dot for the name, not for a suffix.
    let stem = dot.map_or(path.len(), |dot| base_at + dot);
    [&path[..stem], suffix].concat()
}

impl Compile {
    /// Whether the object has the words of the command line in it, of which clang then is
    /// told no others.
    pub fn records_words(&self) -> bool {
        let names = [
            "-frecord-gcc-switches",
            "-frecord-command-line",
            "-grecord-gcc-switches",
            "-grecord-command-line",
        ];
        self.arguments.iter().any(|a| names.contains(&a.spelling))
    }

    /// Whether what comes out is LLVM's, in place of an object or assembly.
    pub fn emits_llvm(&self) -> bool {
        self.arguments.iter().any(|a| a.spelling == "-emit-llvm")
    }

    /// Whether clang leaves an object for later: `-flto` without one of machine code beside.
    pub fn defers_code(&self) -> bool {
        let last = |names: &[&str]| {
            let mut options = self.arguments.iter().rev();
            options
                .find(|a| names.contains(&a.spelling))
                .map(|a| &a.words[0])
        };
        let is_on = |word: &Vec<u8>| !word.starts_with(b"-fno-");
        last(&["-flto", "-flto=", "-fno-lto"]).is_some_and(is_on)
            && !last(&["-ffat-lto-objects"]).is_some_and(is_on)
    }

    /// `-o`, or what the compiler chooses: in the working directory.
    pub fn output_path(&self) -> Vec<u8> {
        let suffix: &[u8] = match (self.assembly, self.emits_llvm()) {
            (true, false) => b".s",
            (true, true) => b".ll",
            (false, false) => b".o",
            (false, true) => b".bc",
        };
        match &self.output {
            Some(path) => path.clone(),
            None => with_suffix(base_name(&self.source), suffix),
        }
    }

    /// Where the compiler writes dependencies, if it does.
    pub fn dependency_path(&self) -> Option<Vec<u8>> {
        let dependencies = self.dependencies.as_ref()?;
        Some(match &dependencies.file {
            Some(path) => path.clone(),
            None => with_suffix(&self.output_path(), b".d"),
        })
    }

    /// The command as typed, response files expanded: what a worker runs in the
    /// tree form.
    pub fn tree_args(&self) -> Vec<Vec<u8>> {
        let words = self.arguments.iter().flat_map(|a| &a.words);
        words.cloned().collect()
    }

    /// Plain paths of all that the compile may write when it runs in `folder`: object
    /// or assembly, then the dependency file, then what is beside them.
    pub fn tree_outputs(&self, folder: &[u8]) -> Vec<Vec<u8>> {
        let paths = [Some(self.output_path()), self.dependency_path()];
        let paths = paths.into_iter().flatten();
        let paths = paths.chain(self.side_outputs().into_iter().map(|side| side.path));
        let mut outputs: Vec<Vec<u8>> = Vec::new();
        for path in paths.map(|path| plain(folder, &path)) {
            if !outputs.contains(&path) {
                outputs.push(path);
            }
        }
        outputs
    }

    /// Files that the compile may write beside the object, as the compiler would spell
    /// their paths; each once. It need not write all.
    pub fn side_outputs(&self) -> Vec<SideOutput> {
        let mut found: Vec<SideOutput> = Vec::new();
        let taken = [Some(self.output_path()), self.dependency_path()];
        for argument in &self.arguments {
            if argument.role != Role::SideOutput {
                continue;
            }
            for path in self.written_by(argument) {
                let known = taken.iter().flatten().any(|taken| *taken == path)
                    || found.iter().any(|side| side.path == path);
                if !known {
                    let option = argument.spelling;
                    found.push(SideOutput { path, option });
                }
            }
        }
        found
    }

    /// Where what `argument` asks for may be written.
    fn written_by(&self, argument: &Argument) -> Vec<Vec<u8>> {
        if argument.file == File::Output {
            return vec![argument.value().to_vec()];
        }
        let output = self.output_path();
        let suffix: &[u8] = match argument.spelling {
            "--coverage" | "-coverage" | "-ftest-coverage" => b".gcno",
            "-fstack-usage" => b".su",
            "-fcallgraph-info" | "-fcallgraph-info=" => b".ci",
            "-gsplit-dwarf" | "-gsplit-dwarf=split" => b".dwo",
            "-fsave-optimization-record" | "-fsave-optimization-record=yaml" => b".opt.yaml",
            _ => return self.temporary_files(argument),
        };
        vec![with_suffix(&output, suffix)]
    }

    /// What `-save-temps` leaves: preprocessed text, bitcode and assembly, named after the
    /// output or the source, in the folder of the one or in the working directory.
    fn temporary_files(&self, argument: &Argument) -> Vec<Vec<u8>> {
        let output = self.output_path();
        let folder = &output[..output.len() - base_name(&output).len()];
        let (named, source) = (base_name(&output), base_name(&self.source));
        let beside = [folder, source].concat();
        let stems: Vec<&[u8]> = match argument.spelling {
            "-save-temps=obj" => vec![&output, &beside],
            "-save-temps=cwd" => vec![named, source],
            // gcc takes it for the first, clang for the second.
            _ => vec![&output, named, source],
        };
        let text: &[u8] = match self.language {
            Language::C => b".i",
            Language::Cxx => b".ii",
        };
        let suffixes = [text, b".bc", b".s"];
        let named = stems
            .iter()
            .flat_map(|stem| suffixes.map(|s| with_suffix(stem, s)));
        named.collect()
    }

    /// Where gcc looks for a profile when it compiles in `folder`: beside the object, or in a
    /// folder by all of that path, in which `#` stands for slashes.
    pub fn profile_candidates(&self, dialect: Dialect, folder: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let uses = |a: &&Argument| a.spelling.starts_with("-fprofile-use");
        let options = self.arguments.iter().filter(uses);
        for option in options.filter(|_| dialect.family == Family::Gcc) {
            let profile = with_suffix(&self.output_path(), b".gcda");
            found.push(profile.clone());
            if option.spelling.ends_with('=') {
                let name: Vec<u8> = match profile.starts_with(b"/") {
                    true => profile,
                    false => [folder, b"/", &profile].concat(),
                };
                let parts = name.split(|byte| *byte == b'/');
                let parts = parts.filter(|part| !matches!(*part, b"."));
                let parts = parts.map(|part| if part == b".." { &b"^"[..] } else { part });
                let mangled = parts.collect::<Vec<_>>().join(&b'#');
                found.push([option.value(), b"/", &mangled].concat());
            }
        }
        found
    }

    /// Files beside which the compile may not travel: if one is there, clang
    /// reads it in place of the header that `-include` names.
    pub fn precompiled_candidates(&self, dialect: Dialect) -> Vec<Vec<u8>> {
        let headers = self.arguments.iter().filter(|a| a.spelling == "-include");
        let mut found = Vec::new();
        for header in headers.filter(|_| dialect.family == Family::Clang) {
            for suffix in [&b".pch"[..], b".gch"] {
                found.push([header.value(), suffix].concat());
            }
        }
        found
    }

    /// The command that preprocesses, macros kept, to stdout; and writes to
    /// `dependency_file` what the plain compile would write to its own.
    pub fn preprocess_args(
        &self,
        dialect: Dialect,
        dependency_file: Option<&[u8]>,
    ) -> Vec<Vec<u8>> {
        match dialect.family {
            Family::Gcc => self.preprocess(&["-fdirectives-only"], dependency_file),
            Family::Clang => self.preprocess(
                &["-frewrite-includes", "-Qunused-arguments"],
                dependency_file,
            ),
        }
    }

    /// The command that writes to stdout what a compile sees once its macros are
    /// expanded, with [`CLOCK_MARK`] in the strings that [`CLOCKS`] are, but for those that
    /// are `frozen`; and to `dependency_file` a rule with every file that was read.
    pub fn expand_args(
        &self,
        dialect: Dialect,
        dependency_file: &[u8],
        frozen: &[&str],
    ) -> Vec<Vec<u8>> {
        // No markers: they would stand in the middle of what a macro makes.
        let mut how = vec!["-P", "-w"];
        if dialect.family == Family::Clang {
            how.push("-Qunused-arguments");
        }
        let mut args = self.preprocess(&how, None);
        // Level 3 has all macros written down, ours too.
        for word in args.iter_mut().filter(|word| word.starts_with(b"-g")) {
            let version = word.starts_with(b"-gdwarf-");
            if let (Some(level @ b'3'), false) = (word.last_mut(), version) {
                *level = b'2';
            }
        }
        // Strings, as they are: they are glued to prefixes and suffixes.
        let clocks = CLOCKS.iter().filter(|name| !frozen.contains(name));
        let marked = clocks.map(|name| format!("-D{name}=\"{CLOCK_MARK}\"").into_bytes());
        args.extend(marked);
        args.extend([&b"-MD"[..], b"-MF", dependency_file].map(<[u8]>::to_vec));
        args
    }

    fn preprocess(&self, how: &[&str], dependency_file: Option<&[u8]>) -> Vec<Vec<u8>> {
        let mut args: Vec<Vec<u8>> = Vec::with_capacity(self.arguments.len() + 8);
        let kept = |role| {
            !matches!(
                role,
                Role::Stage | Role::Output | Role::Dependency | Role::Link | Role::SideOutput
            )
        };
        for argument in self.arguments.iter().filter(|a| kept(a.role)) {
            args.extend(argument.words.iter().cloned());
        }
        args.push(b"-E".to_vec());
        args.extend(words(how));
        if let (Some(file), Some(dependencies)) = (dependency_file, &self.dependencies) {
            self.push_dependencies(dependencies, file, &mut args);
        }
        args
    }

    fn push_dependencies(&self, dependencies: &Dependencies, file: &[u8], args: &mut Vec<Vec<u8>>) {
        let how: &[u8] = if dependencies.system_headers {
            b"-MD"
        } else {
            b"-MMD"
        };
        args.extend([how.to_vec(), b"-MF".to_vec(), file.to_vec()]);
        let as_typed = |spelling| matches!(spelling, "-MT" | "-MQ" | "-MP");
        for argument in self.arguments.iter().filter(|a| as_typed(a.spelling)) {
            args.extend(argument.words.iter().cloned());
        }
        if let Some(output) = &self.output
            && !dependencies.explicit_target
            && !dependencies.past_driver
        {
            args.extend([b"-MQ".to_vec(), output.clone()]);
        }
    }

    /// The command that compiles the preprocessed text `input` to `output`,
    /// both relative to the folder it runs in. The same for gcc and g++, and
    /// for clang and clang++.
    pub fn travel_args(&self, dialect: Dialect, input: &[u8], output: &[u8]) -> Vec<Vec<u8>> {
        let mut args = Vec::with_capacity(self.arguments.len() + 8);
        let travels = |role| role_travels(dialect.family, role);
        for argument in self.arguments.iter().filter(|a| travels(a.role)) {
            args.extend(argument.words.iter().cloned());
        }
        if dialect.family == Family::Clang {
            args.extend(words(&OF_MARKERS));
        }
        args.extend(tail(
            dialect.family,
            self.language,
            self.assembly,
            input,
            output,
        ));
        args
    }

    // clang warns of linker options, unless it is told not to.
    fn quietly_linkless(mut self, dialect: Dialect) -> Compile {
        let link = self.arguments.iter().find(|a| a.role == Role::Link);
        if let (Family::Clang, Some(link)) = (dialect.family, link) {
            let quiet = ["-Qunused-arguments", "-Wno-unused-command-line-argument"];
            let mut words = self.arguments.iter().flat_map(|a| &a.words);
            if !words.any(|word| {
                quiet
                    .iter()
                    .any(|quiet| quiet.as_bytes() == word.as_slice())
            }) {
                let reason = Reason::new("linker-input", &link.words.join(&b' '));
                self.tree = self.tree.and(Err(reason.clone()));
                self.travel = self.travel.and(Err(reason));
            }
        }
        self
    }
}

/// clang 15 and later warn of line markers, which are the preprocessor's and not the
/// user's; earlier ones know no such warning, and would say that.
const OF_MARKERS: [&str; 2] = ["-Wno-unknown-warning-option", "-Wno-gnu-line-marker"];

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn role_travels(family: Family, role: Role) -> bool {
    match role {
        Role::Compile | Role::Debug | Role::Driver => true,
        Role::Define => family == Family::Clang,
        _ => false,
    }
}

// How every command of ours for a worker ends.
fn tail(
    family: Family,
    language: Language,
    assembly: bool,
    input: &[u8],
    output: &[u8],
) -> Vec<Vec<u8>> {
    let mut args = match family {
        Family::Gcc => words(&["-fpreprocessed", "-fdirectives-only"]),
        Family::Clang => Vec::new(),
    };
    args.extend(words(&[
        "-x",
        language.name(),
        if assembly { "-S" } else { "-c" },
    ]));
    args.extend([input.to_vec(), b"-o".to_vec(), output.to_vec()]);
    args
}

/// Whether a worker may run `args`: exactly what [`Compile::travel_args`] makes
/// of options that travel, for `inputs[0]` and `outputs[0]`.
///
/// # Errors
/// What is wrong with it; the sender is to blame.
pub fn check_travelled(
    dialect: Dialect,
    args: &[Vec<u8>],
    inputs: &[&[u8]],
    outputs: &[&[u8]],
) -> Result<(), Reason> {
    let ([input], [output]) = (inputs, outputs) else {
        return Err(Reason::bare("not-one-file"));
    };
    for path in [input, output] {
        if !is_inside(path) {
            return Err(Reason::new("path", path));
        }
    }
    if input == output {
        return Err(Reason::new("path", output));
    }
    let tails = [Language::C, Language::Cxx]
        .into_iter()
        .flat_map(|language| {
            [false, true].map(|assembly| tail(dialect.family, language, assembly, input, output))
        });
    let Some(mut rest) = tails
        .into_iter()
        .find_map(|tail| args.strip_suffix(tail.as_slice()))
    else {
        return Err(Reason::bare("not-a-travelling-compile"));
    };
    let mut debug = Ok(());
    while let Some(item) = read(dialect.family, &mut rest)? {
        let row = item.row.ok_or_else(|| item.reason("several-sources"))?;
        if let Permit::No(code) = row.travel {
            return Err(item.reason(code.name()));
        }
        if !role_travels(dialect.family, row.role) || row.file != File::None {
            return Err(item.reason("does-not-travel"));
        }
        if row.role == Role::Debug {
            debug = if debug_after(&row) {
                Err(item.reason("debug-info"))
            } else {
                Ok(())
            };
        }
    }
    debug
}

/// Whether a worker may run `args` in the tree form, in `folder`, with a toolchain
/// for `language`: a compile that travels so, and whose files are `outputs`: the
/// object or the assembly, and the dependency file if there is one. `folder` and
/// `outputs` are plain (see [`crate::wire::plain_path`]).
///
/// # Errors
/// What is wrong with it; the sender is to blame.
pub fn check_tree(
    dialect: Dialect,
    language: Language,
    args: &[Vec<u8>],
    folder: &[u8],
    outputs: &[&[u8]],
) -> Result<(), Reason> {
    let compile = parse(dialect, args)?;
    compile.tree.clone()?;
    if compile.language != language {
        // `clang++` run as `clang` would take the source for another language.
        return Err(Reason::bare("language"));
    }
    match compile.tree_outputs(folder) == outputs {
        true => Ok(()),
        false => Err(Reason::bare("outputs")),
    }
}

// A path that stays in the folder and looks like no option.
fn is_inside(path: &[u8]) -> bool {
    let plain = |part: &[u8]| !part.is_empty() && part != b".." && part != b".";
    path.split(|byte| *byte == b'/').all(plain)
        && !path.starts_with(b"-")
        && !path.starts_with(b"@")
        && !path.contains(&0)
}

/// The words of a response file, by libiberty's rules: white space separates,
/// either quote groups, a backslash takes the next byte as it is, also in quotes.
pub fn split_response_file(text: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        let blank = matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c);
        if blank && quote.is_none() {
            found.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        match byte {
            b'\\' => word.extend(bytes.next()),
            _ if quote == Some(byte) => quote = None,
            b'\'' | b'"' if quote.is_none() => quote = Some(byte),
            _ => word.push(byte),
        }
    }
    found.extend(word);
    found
}

/// Variables that make a compiler do more, or something else, than its
/// arguments say. Sorted.
const FORCE_LOCAL: &[&str] = &[
    "CCC_OVERRIDE_OPTIONS",
    "CC_LOG_DIAGNOSTICS",
    "CC_LOG_DIAGNOSTICS_FILE",
    "CC_PRINT_HEADERS",
    "CC_PRINT_HEADERS_FILE",
    "CC_PRINT_HEADERS_FILTERING",
    "CC_PRINT_HEADERS_FORMAT",
    "CC_PRINT_OPTIONS",
    "CC_PRINT_OPTIONS_FILE",
    "CC_PRINT_PROC_STAT",
    "CC_PRINT_PROC_STAT_FILE",
    "CLANG_CONFIG_FILE_SYSTEM_DIR",
    "CLANG_CONFIG_FILE_USER_DIR",
    "CLANG_NO_DEFAULT_CONFIG",
    "COMPILER_PATH",
    "DEPENDENCIES_OUTPUT",
    "FORCE_CLANG_DIAGNOSTICS_CRASH",
    "GCC_COMPARE_DEBUG",
    "GCC_EXEC_PREFIX",
    "GCC_ROOT",
    "GNUTARGET",
    "IPHONEOS_DEPLOYMENT_TARGET",
    "MACOSX_DEPLOYMENT_TARGET",
    "QA_OVERRIDE_GCC3_OPTIONS",
    "RC_DEBUG_OPTIONS",
    "SDKROOT",
    "SUNPRO_DEPENDENCIES",
];

/// The reason why a compile stays here while the variable `name` is set, to
/// whatever value.
pub fn environment_forces_local(name: &[u8]) -> Option<Reason> {
    FORCE_LOCAL
        .binary_search_by(|entry| entry.as_bytes().cmp(name))
        .ok()
        .map(|_| Reason::new("environment", name))
}

/// Whether the variable `name` is to be set for the compiler that does the work.
pub fn environment_travels(name: &[u8]) -> bool {
    name.starts_with(b"LC_")
        || matches!(
            name,
            b"LANG"
                | b"LANGUAGE"
                | b"SOURCE_DATE_EPOCH"
                | b"GCC_COLORS"
                | b"GCC_EXTRA_DIAGNOSTIC_OUTPUT"
        )
}

/// Whether the variable `name` has a part in what compilers say on a terminal, and is to
/// be set where they say it on one for somebody else.
pub fn shapes_words_on_terminal(name: &[u8]) -> bool {
    matches!(
        name,
        b"TERM" | b"COLUMNS" | b"COLORTERM" | b"NO_COLOR" | b"GCC_URLS" | b"TERM_URLS"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const GCC: Dialect = Dialect {
        family: Family::Gcc,
        cxx_driver: false,
    };
    const GXX: Dialect = Dialect {
        family: Family::Gcc,
        cxx_driver: true,
    };
    const CLANG: Dialect = Dialect {
        family: Family::Clang,
        cxx_driver: false,
    };

    fn split(line: &str) -> Vec<Vec<u8>> {
        line.split_whitespace()
            .map(|word| word.as_bytes().to_vec())
            .collect()
    }

    fn read_line(dialect: Dialect, line: &str) -> Result<Compile, Reason> {
        parse(dialect, &split(line))
    }

    fn join(words: &[Vec<u8>]) -> String {
        String::from_utf8(words.join(&b' ')).unwrap()
    }

    fn code(dialect: Dialect, line: &str) -> &'static str {
        match read_line(dialect, line) {
            Err(reason) => reason.code,
            Ok(compile) => compile
                .travel
                .map_or_else(|reason| reason.code, |()| "travels"),
        }
    }

    #[test]
    fn sources_of_commands_that_are_not_understood() {
        for (typed, source) in [
            ("-fnope -c a.c -o a.o", Some("a.c")),
            ("-S -Wa,-a x/b.cpp", Some("x/b.cpp")),
            ("-fnope a.c", None),
            ("-c a.c b.c", None),
            ("-c -x c -", None),
            ("-v", None),
        ] {
            let words: Vec<Vec<u8>> = typed.split(' ').map(|word| word.into()).collect();
            let found = likely_source(&words).map(String::from_utf8_lossy);
            assert_eq!(found.as_deref(), source, "{typed}");
        }
    }

    #[test]
    fn reasons() {
        for (line, reason) in [
            ("-c a.c", "travels"),
            ("", "no-source"),
            ("a.c", "not-a-compile"),
            ("--version", "not-a-compile"),
            ("-### -c a.c", "not-a-compile"),
            ("a.o -o a", "not-a-compile"),
            ("a.o b.o -o a", "not-a-compile"),
            ("a.c b.c", "not-a-compile"),
            ("a.c b.c -c", "several-sources"),
            ("-E a.c", "preprocess-only"),
            ("-M a.c", "dependencies-only"),
            ("-c a.c b.c", "several-sources"),
            ("-c -", "stdin-source"),
            ("-x c -c /dev/stdin", "stdin-source"),
            ("-x c -c /proc/self/fd/0", "stdin-source"),
            ("-c a.c -o -", "stdout-output"),
            ("-c a.c -o /dev/stdout", "stdout-output"),
            ("-c a.c -o /dev/null", "output-is-device"),
            ("-c a.c -MD -MF /dev/stdout", "dependencies-to-device"),
            ("-c a.c -MF x.d", "dependency-option"),
            ("-c a.c -MD -MMD", "several-dependency-options"),
            ("-c -S a.c", "several-stages"),
            ("-c a.c -fplugin=x.so", "plugin"),
            ("-c a.c -fnever-heard-of", "unknown-option"),
            ("-c a.c -std=c99/../x", "unknown-option"),
            ("-c @file", "response-file"),
            ("-c a.c -o", "missing-value"),
            ("-c a.i", "preprocessed-source"),
            ("-c a.S", "assembler-source"),
            ("-c -x assembler-with-cpp a.c", "assembler-source"),
            ("-c a.h", "header-source"),
            ("-c a.m", "language"),
            ("-c -x objective-c a.c", "language"),
            ("-c a", "language"),
            ("-c a.c -x c++", "language-after-source"),
            ("-c -g a.c", "debug-info"),
            ("-c -g0 -ggdb3 a.c", "debug-info"),
            ("-c -g -O2 -g0 a.c", "travels"),
            ("-c -gno-strict-dwarf -gz a.c", "travels"),
            ("-c -gsplit-dwarf -g0 a.c", "extra-output"),
            ("-c --coverage a.c", "coverage"),
            ("-c -fprofile-use=x a.c", "profile"),
            ("-c -save-temps a.c", "save-temps"),
            ("-c -fdump-tree-all a.c", "dump"),
            ("-c -march=native a.c", "native-arch"),
            ("-c -mcpu=native+crc a.c", "native-arch"),
            ("-c -mtune=Native a.c", "native-arch"),
            ("-c -Wa,-a=x a.c", "assembler-option"),
            ("-c -Wa,--noexecstack,-a=x a.c", "assembler-option"),
            ("-c -Wa,--noexecstack a.c", "travels"),
            (
                "-c -Wa,-mtune=generic32 -Wa,-march=i686+sse2 a.c",
                "travels",
            ),
            ("-c -Wa,-mtune=generic32,-a=x a.c", "unknown-option"),
            ("-c -Wa,-mtune=generic32,@x a.c", "unknown-option"),
            (
                "-c -Wa,-mrelax-relocations=yes,-a=x a.c",
                "assembler-option",
            ),
            ("-c -specs=x a.c", "specs"),
            ("-c -B x a.c", "driver-option"),
            ("-c -wrapper gdb a.c", "driver-option"),
            ("-c -frecord-gcc-switches a.c", "records-command-line"),
            ("-c -fstack-usage a.c", "extra-output"),
            ("-c -Wp,-P a.c", "preprocessor-option"),
            ("-c -Wp,-MD,a,-P a.c", "preprocessor-option"),
            ("-c -Wp,-DA=1,-UB a.c", "travels"),
            ("-c -Wp,-DA,-P a.c", "unknown-option"),
            ("-c -finput-charset=latin1 a.c", "charset"),
            ("-c dir/-a.c", "source-name"),
            ("-c -Wall -Wno-error=format=2 -Werror a.c", "travels"),
            ("-c -include -O2 -I -c a.c", "travels"),
            ("-o -c a.c", "not-a-compile"),
        ] {
            assert_eq!(code(GCC, line), reason, "{line}");
        }
        assert_eq!(code(CLANG, "-c a.c -Xclang -load"), "clang-cc1-option");
        assert_eq!(code(CLANG, "-c a.c -Xclang -fno-pch-timestamp"), "travels");
        assert_eq!(code(CLANG, "-c a.c -fsanitize=address"), "source-path");
        assert_eq!(code(GCC, "-c a.c -fsanitize=address"), "travels");
        assert_eq!(code(CLANG, "-c a.c -lm"), "linker-input");
        assert_eq!(code(CLANG, "-c a.c -lm -Qunused-arguments"), "travels");
        assert_eq!(code(GCC, "-c a.c -lm -L. -Wl,-O1"), "travels");
        assert_eq!(code(CLANG, "-c a.c -objcmt-migrate-all"), "language");
    }

    /// As real builds write them: autotools, CMake, Debian, LLVM, Linux, Chromium.
    #[test]
    fn command_lines_of_real_builds_travel() {
        for line in [
            "-DHAVE_CONFIG_H -I. -I.. -O2 -MT a.lo -MD -MP -MF .deps/a.Tpo -c a.c -fPIC -DPIC -o .libs/a.o",
            "-Dx_EXPORTS -I/s/include -isystem /opt/include -O3 -DNDEBUG -std=gnu++17 -fPIC -MD -MT CMakeFiles/x.dir/a.cc.o -MF CMakeFiles/x.dir/a.cc.o.d -o CMakeFiles/x.dir/a.cc.o -c /s/a.cc",
            "-O2 -ffile-prefix-map=/build/x=. -fstack-protector-strong -fstack-clash-protection -Wformat -Werror=format-security -fcf-protection -Wdate-time -D_FORTIFY_SOURCE=2 -c a.c",
            "-O2 -fexceptions -pipe -Wall -Wp,-U_FORTIFY_SOURCE,-D_FORTIFY_SOURCE=3 -Wp,-D_GLIBCXX_ASSERTIONS -m64 -march=x86-64-v2 -mtune=generic -fasynchronous-unwind-tables -c a.c",
            "-fPIC -fno-semantic-interposition -fvisibility-inlines-hidden -Werror=date-time -Wno-class-memaccess -Wsuggest-override -fdiagnostics-color -ffunction-sections -fdata-sections -std=c++17 -fno-exceptions -funwind-tables -fno-rtti -UNDEBUG -c a.cpp -o a.cpp.o",
            "-Wp,-MMD,kernel/.a.o.d -nostdinc -I./arch/x86/include -include ./include/linux/kconfig.h -D__KERNEL__ -fmacro-prefix-map=./= -std=gnu11 -fshort-wchar -funsigned-char -mno-sse -m64 -falign-jumps=1 -mno-80387 -mno-fp-ret-in-387 -mpreferred-stack-boundary=3 -mskip-rax-setup -mno-red-zone -mcmodel=kernel -fno-jump-tables -mharden-sls=all -fno-delete-null-pointer-checks -O2 -fno-allow-store-data-races -fstack-protector-strong -ftrivial-auto-var-init=zero -fno-stack-clash-protection -fzero-call-used-regs=used-gpr -falign-functions=16 -fstrict-flex-arrays=3 -fno-strict-overflow -fno-stack-check -fconserve-stack -Wno-packed-not-aligned -mindirect-branch=thunk-extern -mfunction-return=thunk-extern -fcf-protection=none -pg -mrecord-mcount -mfentry -DCC_USING_FENTRY -fpatchable-function-entry=16,16 -DKBUILD_MODNAME='\"a\"' -c -o kernel/a.o kernel/a.c",
            "-std=c++20 -frandom-seed=bazel-out/k8-opt/bin/a.pic.o -fno-canonical-system-headers -Wno-builtin-macro-redefined -D__DATE__=\"redacted\" -iquote . -iquote bazel-out -U_FORTIFY_SOURCE -c a.cc -o a.pic.o",
        ] {
            assert_eq!(code(GCC, line), "travels", "{line}");
        }
        for line in [
            "-MMD -MF obj/a.o.d -DX=1 -I../.. -fno-ident -fno-strict-aliasing --param=ssp-buffer-size=4 -fstack-protector -funwind-tables -fPIC -pthread -fcolor-diagnostics -fmerge-all-constants -fcrash-diagnostics-dir=../tools -mllvm -instcombine-lower-dbg-declare=0 -ffp-contract=off -m64 -msse3 -Wno-builtin-macro-redefined -ffile-compilation-dir=. -no-canonical-prefixes -fno-omit-frame-pointer -g0 -fvisibility=hidden -Xclang -fno-pch-timestamp -Wno-c++11-narrowing -std=c++20 --target=x86_64-linux-gnu --sysroot=../sysroot -stdlib=libc++ -c ../a.cc -o obj/a.o",
            "-target aarch64-linux-gnu -mcpu=cortex-a72+crypto -mbranch-protection=standard -moutline-atomics -Weverything -c a.c",
        ] {
            assert_eq!(code(CLANG, line), "travels", "{line}");
        }
    }

    #[test]
    fn a_reason_reads_well_and_is_short() {
        let reason = read_line(GCC, "-c a.c -fplugin=x.so").unwrap_err();
        assert_eq!(reason.to_string(), "plugin: -fplugin=x.so");
        assert_eq!(read_line(GCC, "").unwrap_err().to_string(), "no-source");
        let long = Reason::new("unknown-option", "\u{fc}\n".repeat(500).as_bytes());
        assert!(long.detail.len() <= DETAIL_BYTES_MAX + 3 && !long.detail.contains('\n'));
    }

    #[test]
    fn what_is_compiled() {
        let compile = read_line(GXX, "-c dir/a.b.c").unwrap();
        assert_eq!(compile.language, Language::Cxx);
        assert_eq!(compile.output_path(), b"a.b.o");
        assert_eq!(compile.dependency_path(), None);
        let compile = read_line(GCC, "-S -xc++ dir/a -MD").unwrap();
        assert_eq!((compile.language, compile.assembly), (Language::Cxx, true));
        assert_eq!(compile.output_path(), b"a.s");
        assert_eq!(compile.dependency_path().unwrap(), b"a.d");
        let compile = read_line(GCC, "-x c++ -x none -c a.c -MMD -o o.d/x").unwrap();
        assert_eq!(compile.language, Language::C);
        assert_eq!(compile.dependency_path().unwrap(), b"o.d/x.d");
        let dependencies = compile.dependencies.unwrap();
        assert!(!dependencies.system_headers && !dependencies.explicit_target);
        // What is not preprocessed lists nothing.
        for line in ["-c a.s -MD", "-c a.ii -MD -MF x"] {
            assert_eq!(read_line(GCC, line).unwrap().dependencies, None, "{line}");
        }
        for line in ["-c a.S -MD", "-c -fpreprocessed a.c -MD"] {
            assert!(
                read_line(GCC, line).unwrap().dependencies.is_some(),
                "{line}"
            );
        }
    }

    #[test]
    fn the_two_commands_of_a_travelling_compile() {
        let line = "-DA -I inc -O2 -c s/a.c -MD -MT t -MP -o o/a.o -lm -pipe";
        let compile = read_line(GCC, line).unwrap();
        assert_eq!(
            join(&compile.preprocess_args(GCC, Some(b"d"))),
            "-DA -I inc -O2 s/a.c -pipe -E -fdirectives-only -MD -MF d -MT t -MP"
        );
        assert_eq!(
            join(&compile.preprocess_args(GCC, None)),
            "-DA -I inc -O2 s/a.c -pipe -E -fdirectives-only"
        );
        assert_eq!(
            join(&compile.travel_args(GCC, b"a.c", b"a.o")),
            "-O2 -pipe -fpreprocessed -fdirectives-only -x c -c a.c -o a.o"
        );
        let compile = read_line(CLANG, "-DA -U B -Iinc -S s/a.cc -MMD -o o/a.s").unwrap();
        assert_eq!(
            join(&compile.preprocess_args(CLANG, Some(b"d"))),
            "-DA -U B -Iinc s/a.cc -E -frewrite-includes -Qunused-arguments -MMD -MF d -MQ o/a.s"
        );
        assert_eq!(
            join(&compile.travel_args(CLANG, b"a.cc", b"a.s")),
            "-DA -U B -Wno-unknown-warning-option -Wno-gnu-line-marker -x c++ -S a.cc -o a.s"
        );
    }

    fn refusal(dialect: Dialect, line: &str) -> &'static str {
        match check_travelled(dialect, &split(line), &[b"a.c"], &[b"a.o"]) {
            Ok(()) => "accepted",
            Err(reason) => reason.code,
        }
    }

    #[test]
    fn a_worker_takes_nothing_else() {
        let tail = "-fpreprocessed -fdirectives-only -x c -c a.c -o a.o";
        for (line, code) in [
            ("-O2 -Wall -g -g0", "accepted"),
            ("-g", "debug-info"),
            ("-fplugin=x.so", "plugin"),
            ("-specs=x", "specs"),
            ("-wrapper x", "driver-option"),
            ("-Bx", "driver-option"),
            ("@file", "response-file"),
            ("-fdump-tree-all=x", "dump"),
            ("-aux-info x", "extra-output"),
            ("-dumpdir x", "driver-option"),
            ("-o elsewhere", "does-not-travel"),
            ("-oelsewhere", "does-not-travel"),
            ("-MD -MF x", "does-not-travel"),
            ("-Wp,-MD,x", "does-not-travel"),
            ("--sysroot=/", "does-not-travel"),
            ("-include x", "does-not-travel"),
            ("-DX", "does-not-travel"),
            ("-lm", "does-not-travel"),
            ("-x c", "does-not-travel"),
            ("-S", "does-not-travel"),
            ("-fpreprocessed", "preprocessed-source"),
            ("b.c", "several-sources"),
            ("-Wa,-a=x", "assembler-option"),
            ("-fsanitize=../x", "unknown-option"),
            ("-flto", "lto"),
            ("-o", "missing-value"),
        ] {
            assert_eq!(refusal(GCC, &format!("{line} {tail}")), code, "{line}");
        }
        assert_eq!(
            refusal(GCC, "-O2 -c a.c -o a.o"),
            "not-a-travelling-compile"
        );
        assert_eq!(
            refusal(GCC, &format!("{tail} -O2")),
            "not-a-travelling-compile"
        );
        let tail = "-x c++ -S a.c -o a.o";
        for (line, code) in [
            ("-DX -UY --target=x86_64-linux-gnu", "accepted"),
            ("-Xclang -load -Xclang x", "clang-cc1-option"),
            ("-fpass-plugin=x", "plugin"),
            ("-Ix", "does-not-travel"),
            ("--config x", "config"),
            ("-mllvm -x", "clang-cc1-option"),
            ("-Wp,-DA,-MD,x", "unknown-option"),
            ("-Wp,-DA,-UB", "accepted"),
        ] {
            assert_eq!(refusal(CLANG, &format!("{line} {tail}")), code, "{line}");
        }
    }

    #[test]
    fn what_travels_in_the_tree_form() {
        let tree = |dialect, line: &str| match read_line(dialect, line) {
            Err(reason) => reason.code,
            Ok(compile) => compile.tree.map_or_else(|reason| reason.code, |()| "tree"),
        };
        for line in [
            "-c a.c",
            "-c -g a.c",
            "-c -ggdb3 -gz -gdwarf-4 -g0 -O2 a.c -MD -MP -MF x/a.d -MT a.o -o x/a.o",
            "-g1 -S ../a.c -fdebug-prefix-map=/w=/x -Wp,-MMD,a.d",
            "-c -g -flto=auto -ffat-lto-objects a.c",
            "-c -g -fexec-charset=UTF-8 a.c",
            "-c -g -MD a.S",
            "-c a.sx",
            "-c -x assembler a.txt",
            "-x c -c a.txt -x none -o a.o",
            "-c -g -fprofile-use=x a.c",
            "-c -O2 a.i",
            "-c -x c++-cpp-output a.txt",
            "-c -fpreprocessed a.c",
        ] {
            assert_eq!(tree(GCC, line), "tree", "{line}");
        }
        assert_eq!(tree(GXX, "-c a.s"), "tree");
        assert_eq!(tree(CLANG, "-c -g -gembed-source a.c"), "tree");
        for (line, code) in [
            ("-c -gsplit-dwarf a.c", "extra-output"),
            ("-c -gtoggle a.c", "debug-info"),
            ("-c -g -fplugin=x.so a.c", "plugin"),
            ("-c -g -specs=x a.c", "specs"),
            ("-c -g -fprofile-dir=x a.c", "profile"),
            ("-c -g a.c -o @x", "response-file"),
            ("-c -g -I @x a.c", "response-file"),
            ("-c -g -fexec-charset=latin1 a.c", "charset"),
            ("-S a.S", "assembler-source"),
            ("-c -fpreprocessed a.s", "preprocessed-source"),
        ] {
            assert_eq!(tree(GCC, line), code, "{line}");
        }
        // Its preprocessor is another program than its identity tells.
        assert_eq!(tree(GXX, "-c a.S"), "assembler-source");
        assert_eq!(tree(CLANG, "-c a.sx"), "assembler-source");
        assert_eq!(tree(CLANG, "-c -g a.c -lm"), "linker-input");
        for line in [
            "-c a.c -fsanitize=address -fsanitize-ignorelist=../l",
            "-c -fprofile-use=p a.c",
            "-c -flto=thin -fsplit-lto-unit a.c",
            "-emit-llvm -S a.c",
        ] {
            assert_eq!(tree(CLANG, line), "tree", "{line}");
            assert_ne!(code(CLANG, line), "travels", "{line}");
        }
        let named = |line: &str| read_line(CLANG, line).unwrap().output_path();
        assert_eq!(named("-emit-llvm -S x/a.c"), b"a.ll");
        assert_eq!(named("-emit-llvm -c x/a.c"), b"a.bc");
    }

    #[test]
    fn profiles_that_gcc_looks_for() {
        let looked = |dialect, line: &str| {
            join(
                &read_line(dialect, line)
                    .unwrap()
                    .profile_candidates(dialect, b"/w"),
            )
        };
        assert_eq!(looked(GCC, "-c x/a.c -fprofile-use"), "a.gcda");
        assert_eq!(
            looked(GCC, "-c a.c -fprofile-use=d -o ../o/./b.o"),
            "../o/./b.gcda d/#w#^#o#b.gcda"
        );
        assert_eq!(looked(GCC, "-c a.c -fprofile-generate"), "");
        assert_eq!(looked(CLANG, "-c a.c -fprofile-use=d"), "");
    }

    #[test]
    fn files_beside_the_object() {
        let sides = |dialect, line: &str| {
            let found = read_line(dialect, line).unwrap().side_outputs();
            join(&found.into_iter().map(|side| side.path).collect::<Vec<_>>())
        };
        let gcc = "-c x/a.c --coverage -fstack-usage -fcallgraph-info=su -aux-info p -o o/b.o";
        assert_eq!(sides(GCC, gcc), "o/b.gcno o/b.su o/b.ci p");
        assert_eq!(sides(GCC, "-c x/a.c -aux-info r -fstack-usage"), "r a.su");
        assert_eq!(sides(GCC, "-c a.c -O2 -g -fprofile-generate"), "");
        let clang = "-c a.c -gsplit-dwarf -fsave-optimization-record -o b.o";
        assert_eq!(sides(CLANG, clang), "b.dwo b.opt.yaml");
        assert_eq!(
            sides(CLANG, "-c x/a.c -save-temps=obj -o o/b.o"),
            "o/b.i o/b.bc o/b.s o/a.i o/a.bc o/a.s"
        );
        // The assembly is what it is about.
        assert_eq!(sides(CLANG, "-S a.c -save-temps"), "a.i a.bc");
        let refused = |line: &str| read_line(GCC, line).unwrap().tree.map_err(|why| why.code);
        for path in ["-", "/dev/stdout", "x/"] {
            let line = format!("-c a.c -aux-info {path}");
            assert_eq!(refused(&line), Err("extra-output"), "{line}");
        }
    }

    #[test]
    fn a_worker_takes_a_tree_as_it_was_typed() {
        let refusal = |dialect, line: &str, outputs: &[&[u8]]| match check_tree(
            dialect,
            Language::C,
            &split(line),
            b"/w/x",
            outputs,
        ) {
            Ok(()) => "accepted",
            Err(reason) => reason.code,
        };
        let object: &[u8] = b"/w/x/a.o";
        for line in ["-c -g a.c", "-c a.c -o a.o -lm -I..", "-xc -c a.h -oa.o"] {
            assert_eq!(refusal(GCC, line, &[object]), "accepted", "{line}");
        }
        let both = [object, b"/w/o/a.d"];
        assert_eq!(refusal(GCC, "-c a.c -MD -MF ../o/a.d", &both), "accepted");
        let beside: [&[u8]; 2] = [object, b"/w/x/a.su"];
        assert_eq!(refusal(GCC, "-c a.c -fstack-usage", &beside), "accepted");
        assert_eq!(refusal(GCC, "-c a.c -fstack-usage", &[object]), "outputs");
        for (line, code) in [
            ("-c a.c -aux-info /etc/x", "outputs"),
            ("-c a.c -aux-info ../a", "outputs"),
            ("-c a.c -o ../a.o", "outputs"),
            ("-c a.c -MD", "outputs"),
            ("-c a.cc", "language"),
            ("-c a.c -wrapper x", "driver-option"),
            ("-c a.c -I @x", "response-file"),
            ("@x", "response-file"),
            ("-c a.c -Wa,-a=x", "assembler-option"),
            ("-c a.c -gsplit-dwarf", "extra-output"),
        ] {
            assert_eq!(refusal(GCC, line, &[object]), code, "{line}");
        }
        assert_eq!(refusal(GCC, "-c a.c", &both), "outputs");
        assert_eq!(refusal(GXX, "-c a.c", &[object]), "language");
    }

    #[test]
    fn a_worker_stays_in_its_folder() {
        for path in [
            "/a.c", "../a.c", "x/../a.c", "-a.c", "@a.c", "", "./a.c", "x//a.c",
        ] {
            let args = tail(Family::Gcc, Language::C, false, path.as_bytes(), b"a.o");
            let checked = check_travelled(GCC, &args, &[path.as_bytes()], &[b"a.o"]);
            assert_eq!(checked.unwrap_err().code, "path", "{path}");
        }
        let args = tail(Family::Gcc, Language::C, false, b"x/a.c", b"a.o");
        assert_eq!(check_travelled(GCC, &args, &[b"x/a.c"], &[b"a.o"]), Ok(()));
        assert_eq!(
            check_travelled(GCC, &args, &[], &[]).unwrap_err().code,
            "not-one-file"
        );
    }

    /// Whatever is thrown at it: no panic, and the two ends agree.
    #[test]
    fn a_worker_takes_all_that_travels() {
        let rows: Vec<_> = crate::options::table::rows().collect();
        let mut seed = 7_u64;
        let mut below = |bound: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % bound
        };
        let (mut travelled, mut refused) = (0, 0);
        for round in 0..20_000 {
            let dialect = [GCC, CLANG, GXX][round % 3];
            let mut args = split("-c a.c");
            for _ in 0..below(4) {
                let mut words = rows[below(rows.len())].example();
                if below(8) == 0 {
                    let last = words.len() - 1;
                    words[last].truncate(below(12));
                    words[last].push(['/', ',', '=', 'x', '\n', '@'][below(6)]);
                }
                args.extend(words.into_iter().map(String::into_bytes));
            }
            match parse(dialect, &args) {
                Ok(compile) if compile.travel.is_ok() => {
                    travelled += 1;
                    let _ = compile.preprocess_args(dialect, Some(b"d"));
                    let args = compile.travel_args(dialect, b"a.c", b"a.o");
                    let checked = check_travelled(dialect, &args, &[b"a.c"], &[b"a.o"]);
                    assert_eq!(checked, Ok(()), "{}", join(&args));
                }
                _ => refused += 1,
            }
        }
        assert!(
            travelled > 1_000 && refused > 1_000,
            "{travelled} {refused}"
        );
    }

    #[test]
    fn response_files() {
        let words = |text: &str| {
            join(
                &split_response_file(text.as_bytes())
                    .join(&b'|')
                    .split(|b| *b == b'\n')
                    .map(<[u8]>::to_vec)
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(
            words("-c a.c\n\t-DX='a b'  \"-Dy=\\\"z\\\"\""),
            "-c|a.c|-DX=a b|-Dy=\"z\""
        );
        assert_eq!(words("a\\ b '' \"c'd\" 'e\\'f'"), "a b||c'd|e'f");
        assert!(split_response_file(b" \n ").is_empty());
        assert_eq!(split_response_file(b"x\\"), [b"x"]);
    }

    #[test]
    fn variables() {
        assert!(FORCE_LOCAL.is_sorted());
        assert_eq!(
            environment_forces_local(b"CCC_OVERRIDE_OPTIONS")
                .unwrap()
                .to_string(),
            "environment: CCC_OVERRIDE_OPTIONS"
        );
        assert!(environment_forces_local(b"CPATH").is_none());
        assert!(environment_travels(b"LC_ALL") && environment_travels(b"GCC_COLORS"));
        assert!(!environment_travels(b"LD_PRELOAD"));
    }
}
