//! Where the compiler looks for headers, as it says itself. Remembered for each set of
//! options that could change the answer, since asking costs as much as a small compile.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use hg_proto::compiler::memo;
use hg_proto::compiler::toolchain::Family;
use hg_proto::compiler::turn;
use hg_proto::options::args::{Argument, Compile, Dialect, Reason, SourceKind};
use hg_proto::options::row::{File, Role};
use memchr::memmem;
use prost::Message;

use crate::config::Config;
use crate::includes::macro_names::looks_common;
use crate::key::Key;
use crate::local::compiler::Found;
use crate::local::process;
use crate::local::slots::Slot;
use crate::os;

/// Search paths that are remembered; then all are forgotten.
const MEMOS_MAX: usize = 4096;

/// Looks at the turn of another process that asks the same.
const TURN_LOOKS: u32 = 500;

/// The file by which clang finds an installation of gcc, whose headers it then takes.
pub const INSTALLATION_MARK: &[u8] = b"crtbegin.o";

/// Where headers are looked for, in the compiler's order.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SearchPath {
    /// Folders for `"name"` only, after the including file's own folder.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub quoted: Vec<Vec<u8>>,
    /// Folders for `<name>`, and then for `"name"`.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub angled: Vec<Vec<u8>>,
    /// Folders that the compiler leaves out, for now: missing, or named twice.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub left_out: Vec<Vec<u8>>,
    /// Installations of gcc whose headers clang takes.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub installations: Vec<Vec<u8>>,
    /// Predefined macros that are named like a user's, see
    /// [`looks_common`].
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub macros: Vec<Vec<u8>>,
}

/// The folder of the memos of [`find`].
pub fn memos(config: &Config) -> Option<PathBuf> {
    config.compiler_memos().map(|memos| memos.join("folders"))
}

/// The search path of `compile`. `basis` stands for the compiler and the environment;
/// `memo` is the folder of the memos. `wait` waits for a slot, since to ask a compiler is
/// to run one.
///
/// # Errors
/// The compiler does not say.
pub fn find(
    found: &Found,
    compile: &Compile,
    basis: &[u8],
    memo: Option<&Path>,
    wait: impl FnOnce() -> Option<Slot>,
) -> Result<SearchPath, Reason> {
    let args = verbose_args(compile);
    let file = memo.map(|folder| folder.join(memo_name(basis, &args)));
    let known = || file.as_deref().and_then(recall);
    if let Some(known) = known() {
        return Ok(known);
    }
    let _turn = file.as_deref().and_then(|file| turn(file, known));
    if let Some(known) = known() {
        return Ok(known);
    }
    let _slot = wait();
    // Meanwhile another compile of this build may have learnt it.
    if let Some(known) = known() {
        return Ok(known);
    }
    let (said, macros) = ask(found, args).map_err(|error| Reason {
        code: "search-path",
        detail: error.to_string(),
    })?;
    let mut search_path = parse(&said).ok_or_else(|| Reason::new("search-path", b""))?;
    search_path.macros = own_macros(&macros);
    // Also those folders that the compiler passes over in silence.
    for argument in compile.arguments.iter().filter(|a| names_folder(a)) {
        let value = argument.value().to_vec();
        let known = [
            &search_path.quoted,
            &search_path.angled,
            &search_path.left_out,
        ];
        if !value.is_empty() && !known.iter().any(|list| list.contains(&value)) {
            search_path.left_out.push(value);
        }
    }
    if let Some(file) = file {
        // Not to remember costs time, nothing else.
        let _ = remember(&file, &search_path);
    }
    Ok(search_path)
}

/// The right to ask for what the file `memo` is to hold: a build starts many compiles at
/// once, and each would ask the same. `None`: it is `known` now, or another process asks for
/// too long.
fn turn(memo: &Path, known: impl Fn() -> Option<SearchPath>) -> Option<fs::File> {
    let locks = memo.parent()?.with_file_name(os::TURNS);
    let memo = [memo.to_path_buf()];
    turn::wait(TURN_LOOKS, || match os::claim(&locks, &memo) {
        None => known().map(|_| None),
        turn => Some(turn),
    })?
}

/// Refuses options that make a compiler look in folders that it does not name.
///
/// # Errors
/// The option that does.
pub fn refuse(compile: &Compile, dialect: Dialect) -> Result<(), Reason> {
    let clang = dialect.family == Family::Clang;
    let target = compile.arguments.iter().filter(|a| is_target(a));
    for word in target.flat_map(|a| &a.words) {
        // For Microsoft's systems clang looks beside all files above, too.
        let named = |name: &&[u8]| memmem::find(&word.to_ascii_lowercase(), name).is_some();
        if clang
            && [&b"msvc"[..], b"windows", b"win32", b"uefi"]
                .iter()
                .any(named)
        {
            return Err(Reason::new("search-path", word));
        }
    }
    for word in compile.arguments.iter().flat_map(|a| &a.words) {
        // Includes are looked for beside all files above, too.
        let ms = word.starts_with(b"-fms-compat") || word.starts_with(b"-fmsc-version");
        // clang looks for folders there without a word.
        let roots = [
            &b"--sysroot"[..],
            b"-isysroot",
            b"--gcc-toolchain",
            b"-resource-dir",
        ];
        let root = clang && roots.iter().any(|root| word.starts_with(root));
        if ms || root {
            return Err(Reason::new("search-path", word));
        }
    }
    Ok(())
}

fn is_target(argument: &Argument) -> bool {
    let option = &argument.words[0];
    option.starts_with(b"-target") || option.starts_with(b"--target")
}

/// Whether an argument names a folder in which headers are looked for.
pub fn names_folder(argument: &Argument) -> bool {
    argument.role == Role::Preprocess && argument.file == File::InputDir
}

/// The options that could change the search path, those that print it, and an empty source.
fn verbose_args(compile: &Compile) -> Vec<Vec<u8>> {
    let mut args: Vec<Vec<u8>> = Vec::new();
    for argument in &compile.arguments {
        let matters = match argument.role {
            Role::Preprocess => argument.file != File::Input,
            Role::Compile | Role::Driver => {
                let first = &argument.words[0];
                let says_nothing = first.starts_with(b"-W") || first.starts_with(b"-O");
                !says_nothing && argument.file != File::Data
            }
            _ => false,
        };
        if matters {
            args.extend(argument.words.iter().cloned());
        }
    }
    let language = match compile.kind {
        SourceKind::Assembler => "assembler-with-cpp",
        _ => compile.language.name(),
    };
    for word in ["-E", "-dM", "-v", "-x", language, "/dev/null"] {
        args.push(word.as_bytes().to_vec());
    }
    args
}

/// What the compiler says of its search path, and its predefined macros.
fn ask(found: &Found, args: Vec<Vec<u8>>) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let command = found.driver_command(args.into_iter().map(os::from_bytes).collect());
    let output = process::prepare(&command)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()?;
    match output.status.success() {
        true => Ok((output.stderr, output.stdout)),
        false => Err(io::Error::other(output.status.to_string())),
    }
}

/// Reads the search path from the output of `-v`.
fn parse(said: &[u8]) -> Option<SearchPath> {
    #[derive(Clone, Copy)]
    enum In {
        Prose,
        Quoted,
        Angled,
    }
    let mut at = In::Prose;
    let mut search_path = SearchPath::default();
    let mut ended = false;
    for line in said.split(|byte| *byte == b'\n') {
        let left_out = [
            &b"ignoring nonexistent directory \""[..],
            b"ignoring duplicate directory \"",
        ];
        if let Some(folder) = line.strip_prefix(b"Found candidate GCC installation: ") {
            search_path.installations.push(folder.to_vec());
        } else if let Some(rest) = left_out.iter().find_map(|start| line.strip_prefix(*start)) {
            search_path
                .left_out
                .push(rest.strip_suffix(b"\"")?.to_vec());
        } else if line.starts_with(b"#include \"...\" search starts here:") {
            at = In::Quoted;
        } else if line.starts_with(b"#include <...> search starts here:") {
            at = In::Angled;
        } else if line.starts_with(b"End of search list.") {
            at = In::Prose;
            ended = true;
        } else if let Some(folder) = line.strip_prefix(b" ") {
            // "(framework directory)" and header maps are read in other ways.
            if folder.ends_with(b")") && !matches!(at, In::Prose) {
                return None;
            }
            match at {
                In::Prose => {}
                In::Quoted => search_path.quoted.push(folder.to_vec()),
                In::Angled => search_path.angled.push(folder.to_vec()),
            }
        }
    }
    ended.then_some(search_path)
}

/// The predefined macros in the output of `-dM` that begin with underscores and a small
/// letter: the others are known to be the compiler's by their names.
fn own_macros(said: &[u8]) -> Vec<Vec<u8>> {
    let lines = said.split(|byte| *byte == b'\n');
    let names = lines.filter_map(|line| {
        let rest = line.strip_prefix(b"#define ")?;
        rest.split(|byte| matches!(byte, b' ' | b'(')).next()
    });
    names
        .filter(|name| looks_common(name))
        .map(<[u8]>::to_vec)
        .collect()
}

fn memo_name(basis: &[u8], args: &[Vec<u8>]) -> String {
    let mut key = Key::default();
    key.add("folders 4", basis);
    for word in args {
        key.add("argument", word);
    }
    format!("{:032x}", u128::from_be_bytes(key.digest()))
}

fn recall(file: &Path) -> Option<SearchPath> {
    SearchPath::decode(&memo::recall(file)?[..]).ok()
}

fn remember(file: &Path, search_path: &SearchPath) -> io::Result<()> {
    memo::remember(file, &search_path.encode_to_vec(), MEMOS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn lists() {
        let said = b"Using built-in specs.\nFound candidate GCC installation: /lib/gcc/12\nignoring nonexistent directory \"none\"\n\
            ignoring duplicate directory \"/usr/include\"\n  as it is a non-system directory\n\
            #include \"...\" search starts here:\n q\n#include <...> search starts here:\n . \n /usr/include\nEnd of search list.\n # prose\n";
        let search_path = parse(said).unwrap();
        assert_eq!(search_path.installations, [b"/lib/gcc/12"]);
        assert_eq!(search_path.quoted, [b"q"]);
        assert_eq!(search_path.angled, [&b". "[..], b"/usr/include"]);
        assert_eq!(search_path.left_out, [&b"none"[..], b"/usr/include"]);
        assert_eq!(parse(b"#include <...> search starts here:\n a\n"), None);
        let macros =
            b"#define __x86_64 1\n#define __OPTIMIZE__ 1\n#define linux 1\n#define __has(x) x\n";
        assert_eq!(own_macros(macros), [&b"__x86_64"[..], b"__has"]);
        assert_eq!(
            parse(b"#include <...> search starts here:\n /F (framework directory)\nEnd of search list.\n"),
            None
        );
    }

    #[test]
    fn one_asks_and_the_others_wait_for_what_it_learns() {
        let folder = std::env::temp_dir().join(format!("hg-turn-{}", std::process::id()));
        let file = folder.join("folders").join("m");
        let learnt = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    // Without it, it was too long for this one, on a busy machine.
                    let turn = turn(&file, || recall(&file));
                    if turn.is_some() && recall(&file).is_none() {
                        learnt.fetch_add(1, Ordering::Relaxed);
                        remember(&file, &SearchPath::default()).unwrap();
                    }
                    drop(turn);
                });
            }
        });
        assert_eq!(learnt.into_inner(), 1);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn remembered() {
        let folder = std::env::temp_dir().join(format!("hg-search-{}", std::process::id()));
        let file = folder.join(memo_name(b"gcc", &[b"-I".to_vec(), b"x".to_vec()]));
        let search_path = SearchPath {
            quoted: vec![b"a b".to_vec()],
            angled: vec![b"/c\n".to_vec(), b"d".to_vec()],
            left_out: Vec::new(),
            installations: vec![b"/lib/gcc".to_vec()],
            macros: vec![b"__x86_64".to_vec()],
        };
        assert_eq!(recall(&file), None);
        remember(&file, &search_path).unwrap();
        assert_eq!(recall(&file), Some(search_path));
        let mut bytes = fs::read(&file).unwrap();
        bytes[20] ^= 1;
        fs::write(&file, bytes).unwrap();
        assert_eq!(recall(&file), None);
        assert_ne!(
            memo_name(b"g", &[b"-Ix".to_vec()]),
            memo_name(b"g", &[b"-I".to_vec(), b"x".to_vec()])
        );
        fs::remove_dir_all(folder).unwrap();
    }
}
