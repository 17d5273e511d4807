//! Checks of the files that a preprocessed text is made of, for what the text does not show:
//! precompiled headers, pragmas that gcc leaves out, and warnings for which a compiler reads
//! the source file.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use hg_proto::compiler::toolchain::Family;
use hg_proto::options::args::{Compile, Dialect, Reason};

use crate::includes::walk_input;
use crate::os;
use crate::source::hazards;
use crate::source::indentation;

/// Headers that gcc may have a precompiled form of in another folder: it takes one
/// only before the first declaration.
const PRECOMPILED_HEADERS_MAX: usize = 2;
/// Parts of a path in an `#include` for which such a form is looked for.
const INCLUDE_PARTS_MAX: usize = 3;

fn reason(code: &'static str, detail: impl std::fmt::Display) -> Reason {
    Reason {
        code,
        detail: detail.to_string(),
    }
}

/// Reads the files that `text` is made of, for what the text does not show: precompiled
/// headers that the compiler would take in their place, and pragmas that gcc leaves out.
///
/// # Errors
/// Why the compile stays local.
pub fn check_files(text: &[u8], compile: &Compile, dialect: Dialect) -> Result<(), Reason> {
    let precompiled = |path: &Path| match path.exists() {
        true => Err(reason("pch", path.display())),
        false => Ok(()),
    };
    for candidate in compile.precompiled_candidates(dialect) {
        precompiled(Path::new(&os::from_bytes(candidate)))?;
    }
    if dialect.family == Family::Clang {
        return check_clang(text, compile);
    }
    let words = || compile.arguments.iter().flat_map(|a| &a.words);
    if walk_input::is_c90(compile)
        && let Some(odd) = hazards::odd_slashes(&hazards::user_text(text))
    {
        return Err(odd);
    }
    let files = hazards::user_files(text);
    for name in files.iter().skip(1).take(PRECOMPILED_HEADERS_MAX) {
        for folder in words().filter_map(|word| include_folder(word)) {
            for end in ends(name) {
                let path = [folder, b"/", end, b".gch"].concat();
                precompiled(Path::new(&os::from_bytes(path)))?;
            }
        }
    }
    let fall_level = fall_level(text, compile);
    let openmp = words().any(|word| word.starts_with(b"-fopenmp") || word == b"-fopenacc");
    let mut builtins = hazards::BuiltinQuestions::default();
    for defined in walk_input::macros(compile) {
        builtins.add(&[b"#define ", &defined[..]].concat());
    }
    for file in files {
        let path = PathBuf::from(os::from_bytes(file.clone()));
        precompiled(Path::new(&os::from_bytes([&file[..], b".gch"].concat())))?;
        let content = match read_plain(&path) {
            Ok(content) => content,
            // A name that a `#line` made up; its text is in another file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(reason("unreadable-source", error)),
        };
        if let Some(lost) = hazards::lost_pragma(text, &file, &content, openmp) {
            return Err(lost);
        }
        if fall_level.is_some_and(|level| hazards::falls_into_condition(&content, level)) {
            return Err(reason("fall-through", String::from_utf8_lossy(&file)));
        }
        builtins.add(&content);
        if builtins.asks() {
            return Err(reason("builtin-question", String::from_utf8_lossy(&file)));
        }
    }
    let asked = |word: &Vec<u8>| word == b"-Wall" || word.ends_with(b"misleading-indentation");
    let indentation = mentions(text, b"misleading-indentation")
        || (words().any(asked) && !is_silenced(words(), b"-Wno-misleading-indentation"));
    if indentation {
        let tab = words().any(|word| word.starts_with(b"-ftabstop"));
        if tab || indentation::may_mislead(text, &hazards::user_text(text)) {
            return Err(reason("indentation", ""));
        }
    }
    Ok(())
}

/// The content of a file that a text names. The name may be made up, and lead to a pipe
/// that never ends.
fn read_plain(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let mut file = File::options()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)?;
    match file.metadata()?.is_file() {
        true => file.read_to_end(&mut content).map(|_| content),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

/// [`check_files`] for clang: warnings that it gives of several files, and not of a text
/// that is one file; and what it reads otherwise when it makes the text.
fn check_clang(text: &[u8], compile: &Compile) -> Result<(), Reason> {
    let words = || compile.arguments.iter().flat_map(|a| &a.words);
    let everything = mentions(text, b"-Weverything");
    let quiet =
        |off: &[u8], name: &[u8]| is_silenced(words(), off) && !mentions(text, name) && !everything;
    let user = hazards::user_text(text);
    if !quiet(b"-Wno-empty-body", b"empty-body") && indentation::may_be_empty(&user) {
        return Err(reason("empty-body", ""));
    }
    if !quiet(b"-Wno-pragma-pack", b"pragma-pack") {
        let asked = |word: &Vec<u8>| mentions(word, b"pragma-pack") || word == b"-Weverything";
        let beneath = everything || mentions(text, b"pragma-pack") || words().any(asked);
        if let Some(packs) = hazards::packs_across_files(text, beneath) {
            return Err(packs);
        }
    }
    if !quiet(
        b"-Wno-nullability-completeness",
        b"nullability-completeness",
    ) {
        let defined = walk_input::macros(compile);
        let mut texts = defined.iter().map(Vec::as_slice).chain([&*user]);
        if texts.any(hazards::names_nullability) {
            return Err(reason("nullability", ""));
        }
    }
    for file in hazards::user_files(text) {
        let path = PathBuf::from(os::from_bytes(file.clone()));
        match read_plain(&path) {
            Ok(content) if hazards::mixes_newlines(&content) => {
                return Err(reason("mixed-newlines", path.display()));
            }
            Ok(_) => {}
            // A name that a `#line` made up; its text is in another file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(reason("unreadable-source", error)),
        }
    }
    Ok(())
}

/// The lowest level at which gcc may look for comments about falling through, if it does.
fn fall_level(text: &[u8], compile: &Compile) -> Option<u8> {
    let name = &b"implicit-fallthrough"[..];
    let level = |after: &[u8]| match after {
        [b'=', digit @ b'0'..=b'9', ..] => digit - b'0',
        _ => hazards::LEVEL_DEFAULT,
    };
    let in_text = memchr::memmem::find_iter(text, name).filter_map(|at| {
        let ignored = text[..at].ends_with(b"ignored \"-W");
        (!ignored).then(|| level(&text[at + name.len()..]))
    });
    let words = || compile.arguments.iter().flat_map(|a| &a.words);
    let mut named = words()
        .filter(|word| !word.starts_with(b"-Wno-"))
        .filter_map(|word| {
            let at = memchr::memmem::find(word, name)?;
            Some(level(&word[at + name.len()..]))
        });
    // The last that is named counts, wherever it stands.
    let extra = || words().any(|word| word == b"-Wextra" || word == b"-W");
    let typed = match is_silenced(words(), b"-Wno-implicit-fallthrough") {
        true => None,
        false => named
            .next_back()
            .or_else(|| extra().then_some(hazards::LEVEL_DEFAULT)),
    };
    let lowest = in_text.chain(typed).filter(|level| *level > 0).min();
    lowest.filter(|level| *level < hazards::LEVEL_NEVER)
}

/// Whether a pragma may turn a warning on, whatever the options say.
fn mentions(text: &[u8], warning: &[u8]) -> bool {
    memchr::memmem::find(text, warning).is_some()
}

/// Whether `off` holds to the end of a command: no later `-W` may undo it.
fn is_silenced<'a>(words: impl Iterator<Item = &'a Vec<u8>>, off: &[u8]) -> bool {
    words.fold(false, |silenced, word| match &word[..] {
        b"-w" => true,
        word if word == off => true,
        word => silenced && (!word.starts_with(b"-W") || word.starts_with(b"-Wno-")),
    })
}

/// The folder in `-Ifolder` and the like; the word itself when it stands alone.
fn include_folder(word: &[u8]) -> Option<&[u8]> {
    let options = [&b"-I"[..], b"-iquote", b"-isystem", b"-idirafter"];
    let joined = options.iter().find_map(|name| word.strip_prefix(*name));
    let folder = joined.unwrap_or(word);
    (!folder.is_empty() && (joined.is_some() || folder[0] != b'-')).then_some(folder)
}

/// `c.h`, `b/c.h` and `a/b/c.h` of a path: what an `#include` may have said.
fn ends(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = memchr::memrchr_iter(b'/', path).map(|at| &path[at + 1..]);
    slashes.chain([path]).take(INCLUDE_PARTS_MAX)
}
