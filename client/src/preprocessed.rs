//! Preprocessed mode: where the compiler would see the same text, it would
//! write the same object, whatever files the text came from.

use hg_proto::args::Reason;
use hg_proto::v1::Toolchain;
use memchr::memmem;
use xxhash_rust::xxh3::xxh3_128;

use crate::closure::Listed;
use crate::compiler::Found;
use crate::hazards;
use crate::inputs::{Preprocessing, Wanted};
use crate::key::Key;
use crate::lookup;
use crate::plan::Plan;

/// A text, and what came with it.
#[derive(Debug)]
pub struct Text {
    /// What the object hangs on.
    pub key: Key,
    /// The object must not name the base folder.
    pub shared: bool,
    /// The dependency file, if one is wanted.
    pub dependencies: Option<Vec<u8>>,
    /// What the preprocessor says it read.
    pub listed: Listed,
}

/// Preprocesses. `base` is the folder below which paths need not be the same.
///
/// # Errors
/// Why the text can't stand for the compile.
pub fn read(
    found: &Found,
    plan: &Plan,
    toolchain: &Toolchain,
    base: Option<&[u8]>,
) -> Result<Text, Reason> {
    // Only a compile that could travel is known to write nothing but what its
    // text says; and columns, which sanitizers write down, are not in the text.
    plan.compile.travel.clone()?;
    let words = || plan.compile.arguments.iter().flat_map(|a| &a.words);
    if let Some(word) = words().find(|word| word.starts_with(b"-fsanitize")) {
        return Err(Reason::new("columns", word));
    }
    let mut preprocessing =
        Preprocessing::start(found, &plan.compile, plan.dialect, Wanted::Expanded)?;
    let text = preprocessing.text()?;
    let (dependencies, listed) = preprocessing.dependencies()?;
    if turns_on_a_warning(&text) {
        return Err(Reason::new("diagnostic-pragma", b""));
    }
    // Only a compile that could travel is known to write no path of its own.
    let portable = plan.compile.travel.is_ok();
    let relative = base
        .filter(|_| portable)
        .and_then(|base| without(&text, base));
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

/// Whether the assembler text that the compiler sees surely reads no file.
pub fn reads_no_files(found: &Found, plan: &Plan) -> bool {
    let start = Preprocessing::start(found, &plan.compile, plan.dialect, Wanted::Expanded);
    let text = start.and_then(|mut preprocessing| preprocessing.text());
    text.is_ok_and(|text| !hazards::reads_files(&text))
}

/// Turned on by a pragma, a warning may hang on a comment that is not in the text.
fn turns_on_a_warning(text: &[u8]) -> bool {
    let word = &b"diagnostic"[..];
    memmem::find_iter(text, word).any(|at| {
        let after = text[at + word.len()..].trim_ascii_start();
        let quiet = [&b"push"[..], b"pop", b"ignored"];
        !quiet.iter().any(|quiet| after.starts_with(quiet))
    })
}

fn options(found: &Found, plan: &Plan, toolchain: &Toolchain) -> Key {
    let mut key = lookup::compiler(found, &plan.compile, plan.dialect, toolchain);
    for word in plan.compile.travel_args(plan.dialect, b"in", b"out") {
        key.add("argument", &word);
    }
    lookup::environment(&mut key);
    key
}

/// `text` with paths below `base` made relative in its line markers; `None`: it
/// has them elsewhere too, or asks for file names while it is compiled.
fn without(text: &[u8], base: &[u8]) -> Option<Vec<u8>> {
    let asks = [&b"__builtin_FILE"[..], b"source_location"];
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
        relative.extend_from_slice(b"\0");
        from = at + base.len();
    }
    relative.extend_from_slice(&text[from..]);
    Some(relative)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pragmas() {
        assert!(!turns_on_a_warning(
            b"#pragma GCC diagnostic push\n#pragma GCC diagnostic ignored \"-Wx\"\n"
        ));
        assert!(turns_on_a_warning(
            b"_Pragma(\"GCC diagnostic warning \\\"-Wcomment\\\"\")"
        ));
        assert!(turns_on_a_warning(b"diagnostic"));
    }

    #[test]
    fn only_markers_may_name_the_base() {
        let relative = |text: &str| {
            let text = without(text.as_bytes(), b"/w/one")?;
            Some(String::from_utf8(text).unwrap().replace('\0', "~"))
        };
        assert_eq!(
            relative("# 1 \"/w/one/a.c\" 1\nint x;\n# 2 \"b.h\"\n# 0 \"/w/one\"\n").unwrap(),
            "# 1 \"~/a.c\" 1\nint x;\n# 2 \"b.h\"\n# 0 \"~\"\n"
        );
        assert_eq!(relative("int x;").unwrap(), "int x;");
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
