//! The input of a walk, from a command line: headers that no directive names, macros, and
//! the dialect. Reads the environment, nothing else.

use hg_proto::compiler::toolchain::{Family, Language};
use hg_proto::options::args::{Argument, Compile, Dialect};
use hg_proto::options::row::{File, Role};

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
        forced: forced(compile, dialect),
        named: named(compile),
        responses,
        search_path,
        listed,
        macros: macros(compile),
        precompiled: gcc,
        shortened: gcc && names_system_folders(compile),
        settled: None,
        for_worker: false,
        asm_blocks: has_asm_blocks(compile),
        c90: is_c90(compile),
        began_ns: i64::MAX,
        watch,
        headers: None,
    }
}

/// Whether the dialect is C90, in which `//` is no comment.
pub fn is_c90(compile: &Compile) -> bool {
    let c90 = [
        &b"-ansi"[..],
        b"c90",
        b"c89",
        b"iso9899:1990",
        b"iso9899:199409",
    ];
    let is_c90 = |word: &Vec<u8>| {
        let standard = word.strip_prefix(b"-std=").or(word.strip_prefix(b"--std="));
        c90.contains(&standard.unwrap_or(word))
    };
    let mut words = compile.arguments.iter().flat_map(|a| &a.words);
    compile.language == Language::C && words.any(is_c90)
}

/// Whether an option may make Microsoft's `__asm` one of the language, with clang.
fn has_asm_blocks(compile: &Compile) -> bool {
    let options = [
        &b"-fms"[..],
        b"-fasm-blocks",
        b"-target",
        b"--target",
        b"--driver",
    ];
    let mut words = compile.arguments.iter().flat_map(|a| &a.words);
    words.any(|word| options.iter().any(|option| word.starts_with(option)))
}

fn names_system_folders(compile: &Compile) -> bool {
    let options = [&b"-isystem"[..], b"-idirafter", b"--sysroot", b"-isysroot"];
    let mut words = compile.arguments.iter().map(|a| &a.words[0]);
    let named = words.any(|word| options.iter().any(|option| word.starts_with(option)));
    let variables = ["C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH"];
    named
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
