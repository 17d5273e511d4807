//! The input of a walk, from a command line: headers that no directive names, macros, and
//! the dialect. Reads the environment, nothing else.

use hg_proto::compiler::toolchain::{Family, Language};
use hg_proto::options::args::{Argument, Compile, Dialect, SourceKind};
use hg_proto::options::row::{File, Role};
use memchr::memmem;

use crate::includes::closure::WalkInput;
use crate::includes::dependency_list::Listed;
use crate::includes::search_path::{self, SearchPath};
use crate::includes::watch::Watch;
use crate::os;
use crate::source::scan::Header;

/// The input for `compile`. No file is too young for it: whoever walks after a compile sets
/// [`WalkInput::began_ns`] to when that began.
pub fn of_compile<'a>(
    compile: &'a Compile,
    dialect: Dialect,
    responses: &'a [Vec<u8>],
    search_path: &'a SearchPath,
    listed: &'a Listed,
    watch: &'a Watch,
) -> WalkInput<'a> {
    let gcc = dialect.family == Family::Gcc;
    WalkInput {
        source: &compile.source,
        kind: compile.kind,
        is_verbatim: is_verbatim(compile, dialect),
        forced: forced(compile, dialect),
        named: named(compile),
        data: data(compile, dialect),
        responses,
        search_path,
        listed,
        macros: macros(compile),
        precompiled: gcc,
        shortened: gcc && names_system_folders(compile),
        settled: None,
        for_worker: false,
        asm_blocks: has_asm_blocks(compile, dialect),
        c90: is_c90(compile),
        began_ns: i64::MAX,
        watch,
        headers: None,
    }
}

/// Whether the compiler takes the source as it is: it follows no directives.
fn is_verbatim(compile: &Compile, dialect: Dialect) -> bool {
    match compile.kind {
        SourceKind::PreprocessedAssembler => true,
        SourceKind::PreprocessedCode => dialect.family == Family::Gcc,
        SourceKind::Code | SourceKind::Assembler => false,
    }
}

/// Whether the dialect is C90, in which `//` is no comment: the last standard that is named
/// is the one.
pub fn is_c90(compile: &Compile) -> bool {
    let standard = |argument: &&Argument| {
        let word = &argument.words[0][..];
        word == b"-ansi" || word.starts_with(b"-std=") || word.starts_with(b"--std=")
    };
    let mut arguments = compile.arguments.iter().rev();
    let is_c90 = |argument: &Argument| {
        let names = [
            &b"-ansi"[..],
            b"c90",
            b"c89",
            b"iso9899:1990",
            b"iso9899:199409",
        ];
        let word = &argument.words[0][..];
        names.contains(&word) || names.contains(&argument.value())
    };
    compile.language == Language::C && arguments.find(standard).is_some_and(is_c90)
}

/// Whether Microsoft's `__asm` without brackets may be one of the language: clang has it with
/// an option, or for a target of Microsoft's.
fn has_asm_blocks(compile: &Compile, dialect: Dialect) -> bool {
    let allows = |argument: &Argument| {
        let word = &argument.words[0][..];
        let is_target = word == b"-target" || word.starts_with(b"--target=");
        word.starts_with(b"-fms") || is_target && memmem::find(argument.value(), b"linux").is_none()
    };
    dialect.family == Family::Clang && compile.arguments.iter().any(allows)
}

/// Options of folders whose headers gcc takes for the user's, by what they begin with.
const USER_FOLDERS: [&[u8]; 4] = [b"-I", b"-iquote", b"-iprefix", b"-iwithprefixbefore"];

/// Whether options or variables name folders whose headers gcc takes for the system's.
fn names_system_folders(compile: &Compile) -> bool {
    let is_users = |argument: &Argument| {
        let word = &argument.words[0][..];
        USER_FOLDERS.iter().any(|option| word.starts_with(option))
    };
    let folders = compile.arguments.iter();
    let mut folders = folders.filter(|argument| search_path::names_folder(argument));
    let variables = ["C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH"];
    folders.any(|argument| !is_users(argument))
        || variables
            .iter()
            .any(|name| std::env::var_os(name).is_some())
}

/// Variables that name folders, with colons between them.
const FOLDERS: [&str; 3] = ["CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH"];

/// Folders that the command line and the environment name, existing or not.
fn named(compile: &Compile) -> Vec<Vec<u8>> {
    let typed = compile
        .arguments
        .iter()
        .filter(|a| search_path::names_folder(a));
    let mut named: Vec<Vec<u8>> = typed.map(|argument| argument.value().to_vec()).collect();
    for list in FOLDERS.iter().filter_map(std::env::var_os) {
        let folders = os::bytes(&list).split(|byte| *byte == b':');
        named.extend(folders.map(<[u8]>::to_vec));
    }
    named
}

/// Headers that options or the compiler itself include.
fn forced(compile: &Compile, dialect: Dialect) -> Vec<Header> {
    if is_verbatim(compile, dialect) {
        return Vec::new();
    }
    let forced = |argument: &&Argument| {
        argument.file == File::Input && !matches!(argument.role, Role::Source | Role::Link)
    };
    let arguments = compile.arguments.iter().filter(forced);
    let mut headers: Vec<Header> = arguments
        .map(|argument| Header {
            name: argument.value().to_vec(),
            quoted: true,
        })
        .collect();
    if dialect.family == Family::Gcc {
        // gcc includes it before the first line.
        headers.push(Header {
            name: b"stdc-predef.h".to_vec(),
            quoted: false,
        });
    }
    headers
}

/// Files that options name, and that are no source text.
fn data(compile: &Compile, dialect: Dialect) -> Vec<Vec<u8>> {
    let named = compile.arguments.iter().filter(|a| a.file == File::Data);
    let named = named.map(|argument| argument.value().to_vec());
    // Nearly none names one.
    let folder = std::env::current_dir().unwrap_or_default();
    let found = compile.profile_candidates(dialect, os::bytes(folder.as_os_str()));
    named.chain(found).collect()
}

/// `NAME VALUE` for each macro of the command line.
pub fn macros(compile: &Compile) -> Vec<Vec<u8>> {
    let defined = compile.arguments.iter().filter(|a| a.role == Role::Define);
    let spelled = |word: &[u8]| {
        let mut words = word.to_vec();
        if let Some(equals) = words.iter().position(|byte| *byte == b'=') {
            words[equals] = b' ';
        }
        words
    };
    let mut macros = Vec::new();
    for argument in defined {
        let value = argument.value();
        // `-Wp,-DA=1,-UB,-DC`: commas are between options there, always.
        let passed = argument.words[0].starts_with(b"-Wp,");
        for word in value.split(|byte| passed && *byte == b',') {
            let option = [&b"-D"[..], b"-U"];
            let name = option.iter().find_map(|option| word.strip_prefix(*option));
            macros.push(spelled(name.filter(|_| passed).unwrap_or(word)));
        }
    }
    macros
}
