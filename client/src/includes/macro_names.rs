//! The values of macros that name headers or make assembler text: every definition counts,
//! since conditions are not evaluated.

use hg_proto::options::args::Reason;
use memchr::memmem;

use crate::includes::headers::MacroQuery;
use crate::includes::part::Part;
use crate::source::scan::Header;

/// Names of headers with macros in them that are followed, expansions included.
pub const SPELLED_MAX: usize = 200;
/// Predefined macros that are named like a user's (gcc and clang with GNU's dialects, on
/// any machine), and stand for 1; all others start with an underscore.
const PREDEFINED: [&[u8]; 14] = [
    b"linux", b"unix", b"i386", b"arm", b"mips", b"sparc", b"PPC", b"sun", b"vax", b"hpux",
    b"m68k", b"WIN32", b"WIN64", b"WINNT",
];

/// The strings that the macro `word` may stand for, by the `#define` lines `macros` of the
/// command line and by `parts`. `None`: it may be anything.
///
/// # Errors
/// A file has changed.
pub fn strings_of(
    word: &[u8],
    macros: &[Vec<u8>],
    parts: &mut [Part],
) -> Result<Option<Vec<Vec<u8>>>, Reason> {
    let mut strings = Vec::new();
    let mut words = vec![word.to_vec()];
    let mut next = 0;
    while let Some(word) = words.get(next).cloned() {
        next += 1;
        // A name without a definition is the compiler's, or no macro; some letters have
        // two spellings.
        let own = word.starts_with(b"_") || PREDEFINED.contains(&&word[..]) || !word.is_ascii();
        let on_line = |text: &Vec<u8>| memmem::find(text, &word).is_some();
        if own || words.len() > SPELLED_MAX || macros.iter().any(on_line) {
            return Ok(None);
        }
        for part in &mut *parts {
            let Some(found) = part.query(MacroQuery::Strings, &word)? else {
                return Ok(None);
            };
            for Header { name, quoted } in found {
                // No macro in turn, and it is an error in that place.
                let list = if quoted { &mut strings } else { &mut words };
                if !list.contains(&name) {
                    list.push(name);
                }
            }
        }
    }
    Ok(Some(strings))
}

/// Whether `name` starts with underscores and a small letter: few predefined macros do, and
/// which those are depends on the target alone. `__X` may be one that an option defines.
pub fn looks_common(name: &[u8]) -> bool {
    let underscores = name.iter().take_while(|byte| **byte == b'_').count();
    underscores > 0 && name.get(underscores).is_some_and(u8::is_ascii_lowercase)
}

/// What the macro `word` may stand for, by the compiler's `own` macros, the `#define` lines
/// `macros` of the command line, and `parts`. `None`: it can't be told.
///
/// # Errors
/// A file has changed.
pub fn values_of(
    word: &[u8],
    own: &[Vec<u8>],
    macros: &[Vec<u8>],
    parts: &mut [Part],
) -> Result<Option<Vec<Header>>, Reason> {
    let mut values = Vec::new();
    // The compiler's own; and `-DNAME`, which is 1 too.
    let one = || Header {
        name: b"1".to_vec(),
        quoted: false,
    };
    if word.starts_with(b"_") && (!looks_common(word) || own.iter().any(|name| name == word)) {
        return Ok(None);
    }
    if PREDEFINED.contains(&word) {
        values.push(one());
    }
    for text in macros {
        let Some(found) = MacroQuery::Values.of(text, word) else {
            return Ok(None);
        };
        if !found.is_empty() {
            values.push(one());
        }
        values.extend(found);
    }
    for part in parts {
        let Some(found) = part.query(MacroQuery::Values, word)? else {
            return Ok(None);
        };
        values.extend(found);
    }
    Ok(Some(values))
}
