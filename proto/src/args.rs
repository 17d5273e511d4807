//! What a compiler command means: what it reads and writes, what of it matters
//! where, and where it may run. Knows nothing that `arg_table` does not know.
//! Unaware of files: it never looks whether one is there.

use std::fmt;

use crate::arg_table::{File, Permit, Role, Row, Shape, find, find_pair};
pub use crate::toolchain::{Family, Language};

/// Bytes of a reason's detail.
const DETAIL_BYTES_MAX: usize = 200;

/// Why a command runs here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Stable, for counting.
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

/// Whose command line it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// Which rows of the table count.
    pub family: Family,
    /// g++ or clang++, for which `.c` is C++ too.
    pub cxx_driver: bool,
}

/// An option with its value, or the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// One or two words, as typed.
    pub words: Vec<Vec<u8>>,
    /// What it is for.
    pub role: Role,
    /// Where the value begins in the last word, if it has one.
    value_at: usize,
    spelling: &'static str,
}

impl Argument {
    /// The option's value; the source's path.
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

/// A command that compiles one C or C++ file to an object or to assembly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compile {
    /// What the source is written in.
    pub language: Language,
    /// `-S` instead of `-c`.
    pub assembly: bool,
    /// As typed.
    pub source: Vec<u8>,
    /// As typed after `-o`.
    pub output: Option<Vec<u8>>,
    /// The dependency file, if one is asked for.
    pub dependencies: Option<Dependencies>,
    /// Every word of the command, in order.
    pub arguments: Vec<Argument>,
    /// May it be compiled elsewhere?
    pub travel: Result<(), Reason>,
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
    row: Option<&'static Row>,
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

#[derive(Default)]
struct Parser {
    arguments: Vec<Argument>,
    stage: Option<u8>,
    source: Option<Vec<u8>>,
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
    cache: Option<Reason>,
}

impl Parser {
    fn take(&mut self, dialect: Dialect, item: Item<'_>) -> Result<(), Reason> {
        let Some(row) = item.row else {
            return self.source(item);
        };
        if let Permit::No(code) = row.cache {
            // A command that neither travels nor is cached needs no second look.
            if let Permit::No(code) = row.travel {
                return Err(item.reason(code));
            }
            self.cache.get_or_insert_with(|| item.reason(code));
        }
        if let Permit::No(code) = row.travel {
            self.travel.get_or_insert_with(|| item.reason(code));
        }
        match row.role {
            Role::Stage => self.stage(&item)?,
            Role::Output => self.output(&item)?,
            Role::Language => self.language(&item)?,
            Role::Dependency => self.dependency(dialect, row, &item)?,
            Role::Debug => self.debug = debug_after(row).then(|| item.reason("debug-info")),
            _ => {}
        }
        self.push(item, row.role, row.spelling);
        Ok(())
    }

    fn push(&mut self, item: Item<'_>, role: Role, spelling: &'static str) {
        self.arguments.push(Argument {
            words: item.words.to_vec(),
            role,
            value_at: item.value_at,
            spelling,
        });
    }

    fn source(&mut self, item: Item<'_>) -> Result<(), Reason> {
        let path = item.value();
        if self.source.is_some() {
            return Err(Reason::new("several-sources", path));
        }
        self.source = Some(path.to_vec());
        self.source_language = self.language.clone();
        self.push(item, Role::Source, "");
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

    fn language(&mut self, item: &Item<'_>) -> Result<(), Reason> {
        if self.source.is_some() {
            return Err(item.reason("language-after-source"));
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
        if source == b"-" {
            return Err(Reason::bare("stdin-source"));
        }
        let language = language_of(dialect, self.source_language.as_deref(), &source)?;
        let dependencies = self.dependencies()?;
        self.travel = self.debug.take().or(self.travel);
        if let Some(reason) = odd_name(&source) {
            self.travel.get_or_insert(reason);
        }
        let compile = Compile {
            language,
            assembly: stage == b'S',
            source,
            output: self.output,
            dependencies,
            arguments: self.arguments,
            travel: self.travel.map_or(Ok(()), Err),
            cache: self.cache.map_or(Ok(()), Err),
        };
        Ok(compile.quietly_linkless(dialect))
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

fn language_of(dialect: Dialect, named: Option<&[u8]>, source: &[u8]) -> Result<Language, Reason> {
    if let Some(name) = named {
        return match name {
            b"c" => Ok(Language::C),
            b"c++" => Ok(Language::Cxx),
            b"cpp-output" | b"c++-cpp-output" => Err(Reason::new("preprocessed-source", name)),
            b"assembler" | b"assembler-with-cpp" => Err(Reason::new("assembler-source", name)),
            b"c-header" | b"c++-header" => Err(Reason::new("header-source", name)),
            other => Err(Reason::new("language", other)),
        };
    }
    match suffix(source) {
        b"c" if dialect.cxx_driver => Ok(Language::Cxx),
        b"c" => Ok(Language::C),
        b"cc" | b"cp" | b"cxx" | b"cpp" | b"CPP" | b"c++" | b"C" => Ok(Language::Cxx),
        b"i" | b"ii" => Err(Reason::new("preprocessed-source", source)),
        b"s" | b"S" | b"sx" => Err(Reason::new("assembler-source", source)),
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
    /// `-o`, or what the compiler chooses: in the working directory.
    pub fn output_path(&self) -> Vec<u8> {
        let suffix: &[u8] = if self.assembly { b".s" } else { b".o" };
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
        let mut args: Vec<Vec<u8>> = Vec::with_capacity(self.arguments.len() + 8);
        let kept = |role| {
            !matches!(
                role,
                Role::Stage | Role::Output | Role::Dependency | Role::Link
            )
        };
        for argument in self.arguments.iter().filter(|a| kept(a.role)) {
            args.extend(argument.words.iter().cloned());
        }
        args.push(b"-E".to_vec());
        match dialect.family {
            Family::Gcc => args.push(b"-fdirectives-only".to_vec()),
            Family::Clang => args.extend(words(&["-frewrite-includes", "-Qunused-arguments"])),
        }
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
        if let (Family::Clang, Ok(()), Some(link)) = (dialect.family, &self.travel, link) {
            let quiet = ["-Qunused-arguments", "-Wno-unused-command-line-argument"];
            let mut words = self.arguments.iter().flat_map(|a| &a.words);
            if !words.any(|word| {
                quiet
                    .iter()
                    .any(|quiet| quiet.as_bytes() == word.as_slice())
            }) {
                self.travel = Err(Reason::new("linker-input", &link.words.join(&b' ')));
            }
        }
        self
    }
}

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
            return Err(item.reason(code));
        }
        if !role_travels(dialect.family, row.role) || row.file != File::None {
            return Err(item.reason("does-not-travel"));
        }
        if row.role == Role::Debug {
            debug = if debug_after(row) {
                Err(item.reason("debug-info"))
            } else {
                Ok(())
            };
        }
    }
    debug
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
