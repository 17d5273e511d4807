//! Preprocessor mode: the text that a worker would be given is all that its compiler would
//! see; where the text is the same, so is the object, whatever files it came from.

use hg_proto::options::args::Reason;
use memchr::memmem;
use xxhash_rust::xxh3::xxh3_128;

use crate::includes::dependency_list::Listed;
use crate::includes::paths::ancestors;
use crate::inputs::preprocessed::{Macros, Preprocessing};
use crate::inputs::text_checks;
use crate::invocation::identity::{self, Identity};
use crate::invocation::plan::Plan;
use crate::key::Key;
use crate::local::compiler::Found;
use crate::os;
use crate::source::hazards;

/// A preprocessed text as a key, and what came with it.
#[derive(Debug)]
pub struct Text {
    /// The key: text, options and toolchain.
    pub key: Key,
    /// The key holds for other checkouts below the base folder, which the object must not
    /// name.
    pub shared: bool,
    /// The dependency file, if one is wanted.
    pub dependencies: Option<Vec<u8>>,
    /// The preprocessor's own list of what it read.
    pub listed: Listed,
}

/// Preprocesses a compile's source. `base` is the folder below which paths may differ.
///
/// # Errors
/// Why the text can't stand for the compile.
pub fn preprocess(
    found: &Found,
    plan: &Plan,
    toolchain: &Identity,
    base: Option<&[u8]>,
) -> Result<Text, Reason> {
    check_options(plan)?;
    let (text, (dependencies, listed)) = run_preprocessor(found, plan)?;
    text_checks::check_files(&text, &plan.compile, plan.dialect)?;
    if let Some(hazard) = hazards::find(&text, plan.dialect.family) {
        return Err(hazard);
    }
    // gcc leaves directives of this spelling for later, and so what they include.
    let hashes = [&b"%:"[..], b"??="];
    if hashes
        .iter()
        .any(|hash| memmem::find(&text, hash).is_some())
    {
        return Err(Reason::new("digraph", b""));
    }
    let folder = std::env::current_dir().unwrap_or_default();
    let folder = os::bytes(folder.as_os_str());
    let relative = base.and_then(|base| relative_to(&text, base, folder));
    let shared = relative.is_some();
    let text = relative.unwrap_or(text);
    let mut key = options(found, plan, toolchain);
    key.add("text", &xxh3_128(&text).to_be_bytes());
    key.add("shared", &[u8::from(shared)]);
    Ok(Text {
        key,
        shared,
        dependencies,
        listed,
    })
}

/// Whether the text of such a command can stand for the compile.
///
/// # Errors
/// Why not.
pub fn check_options(plan: &Plan) -> Result<(), Reason> {
    // What may travel as a text is what its text says, warnings and all; but
    // for columns, which sanitizers write down.
    plan.compile.travel.clone()?;
    let mut words = plan.compile.arguments.iter().flat_map(|a| &a.words);
    match words.find(|word| word.starts_with(b"-fsanitize")) {
        Some(word) => Err(Reason::new("columns", word)),
        None => Ok(()),
    }
}

type Rule = (Option<Vec<u8>>, Listed);

fn run_preprocessor(found: &Found, plan: &Plan) -> Result<(Vec<u8>, Rule), Reason> {
    let mut preprocessing = Preprocessing::start(found, &plan.compile, plan.dialect, Macros::Kept)?;
    let text = preprocessing.text()?;
    Ok((text, preprocessing.dependencies()?))
}

fn options(found: &Found, plan: &Plan, toolchain: &Identity) -> Key {
    let mut key = identity::compiler(found, &plan.compile, plan.dialect, toolchain);
    for word in plan.compile.travel_args(plan.dialect, b"in", b"out") {
        key.add("argument", &word);
    }
    identity::environment(&mut key);
    key
}

/// `text` with paths below `base` made relative to `folder`, which is below it too, in
/// its line markers; `None`: it has them elsewhere too, or asks for file names while it
/// is compiled.
fn relative_to(text: &[u8], base: &[u8], folder: &[u8]) -> Option<Vec<u8>> {
    memmem::find(text, base)?;
    // What a folder's name, or its length, could get into the object by.
    let asks = [
        &b"__FILE__"[..],
        b"__BASE_FILE__",
        b"__builtin_FILE",
        b"source_location",
        b"__PRETTY_FUNCTION__",
        b"__FUNCSIG__",
    ];
    if asks.iter().any(|word| memmem::find(text, word).is_some()) {
        return None;
    }
    let mut relative = Vec::with_capacity(text.len());
    let mut from = 0;
    for at in memmem::find_iter(text, base) {
        let line = memchr::memrchr(b'\n', &text[..at]).map_or(0, |newline| newline + 1);
        let marker = text[line..at].strip_prefix(b"# ")?.strip_suffix(b"\"")?;
        let numbered = marker.strip_suffix(b" ")?.iter().all(u8::is_ascii_digit);
        let below = matches!(text.get(at + base.len()), Some(b'/' | b'"'));
        if !numbered || !below {
            return None;
        }
        relative.extend_from_slice(&text[from..at]);
        // The same for every checkout, wherever below the base it is.
        let (up, shared) = steps_up(folder, &text[at..]);
        relative.push(0);
        relative.extend(std::iter::repeat_n(&b"../"[..], up).flatten());
        from = at + shared.max(base.len());
    }
    relative.extend_from_slice(&text[from..]);
    Some(relative)
}

/// How far `folder` is below the last folder that it has in common with the path that
/// `text` begins with, and how many bytes of the path name that one.
fn steps_up(folder: &[u8], text: &[u8]) -> (usize, usize) {
    let common =
        |at: &[u8]| text.starts_with(at) && matches!(text.get(at.len()), Some(b'/' | b'"'));
    ancestors(folder)
        .enumerate()
        .find(|(_, at)| common(at))
        .map_or((0, 0), |(up, at)| (up, at.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_markers_may_name_the_base() {
        let relative = |text: &str| {
            let text = relative_to(text.as_bytes(), b"/w/one", b"/w/one/o/x")?;
            Some(String::from_utf8(text).unwrap().replace('\0', "~"))
        };
        assert_eq!(
            relative("# 1 \"/w/one/a.c\" 1\nint x;\n# 2 \"b.h\"\n# 0 \"/w/one\"\n").unwrap(),
            "# 1 \"~../..//a.c\" 1\nint x;\n# 2 \"b.h\"\n# 0 \"~../../\"\n"
        );
        assert_eq!(
            relative("# 1 \"/w/one/o/x/a.c\"\n# 1 \"/w/one/o/xy.h\"\n").unwrap(),
            "# 1 \"~/a.c\"\n# 1 \"~..//xy.h\"\n"
        );
        assert_eq!(relative("int x;"), None);
        for absolute in [
            "# 1 \"/w/one/a.c\"\nchar *f = \"/w/one/a.c\";\n",
            "# 1 \"/w/one-more/a.c\"\n",
            "#pragma x \"/w/one/a\"\n",
            "# 1 \"a.c\"\nf(__builtin_FILE());\n",
        ] {
            assert_eq!(relative(absolute), None, "{absolute}");
        }
    }
}
