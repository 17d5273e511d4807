//! Each reason that a program can give has a meaning, and each meaning a reason.

use std::collections::{BTreeMap, BTreeSet};

use hg_proto::reasons::{self, MEANINGS};
use hg_tests::programs::checkout;

use super::{code, read, rust_files};

/// What stands before a reason's code.
const BEFORE: [&str; 6] = [
    "reason(",
    "bare(",
    "Reason::new(",
    "Reason::with(",
    "code: ",
    "CacheAnswer::Hit(",
];

/// The texts of the client and of what it shares with the others, as they run.
fn texts() -> Vec<String> {
    let crates = ["client/src", "proto/src"].map(|name| checkout().join(name));
    let files = crates.iter().flat_map(|folder| rust_files(folder));
    let files = files.filter(|path| !path.ends_with("reasons.rs") && !path.ends_with("tests.rs"));
    files
        .map(|path| code(&read(&path)).collect::<Vec<_>>().join("\n"))
        .collect()
}

/// The literal that `text` begins with.
fn literal(text: &str) -> Option<&str> {
    text.trim_start().strip_prefix('"')?.split('"').next()
}

/// The constants of `text` that are literals.
fn constants(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split("const ").skip(1).filter_map(|rest| {
        let (name, value) = rest.split_once(": &str = ")?;
        Some((name, literal(value)?))
    })
}

/// The codes that `text` gives by a constructor, a field or a list of codes.
fn given<'t>(text: &'t str, constants: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    for before in BEFORE {
        for (at, _) in text.match_indices(before) {
            let rest = text[at + before.len()..].trim_start();
            let is_name = |c: char| c.is_ascii_uppercase() || c == '_';
            let name: String = rest.chars().take_while(|c| is_name(*c)).collect();
            match (literal(rest), constants.get(&name)) {
                (Some(code), _) => codes.insert(code.to_owned()),
                (None, Some(code)) => codes.insert(code.clone()),
                (None, None) => false,
            };
        }
    }
    let lists = ["const CODES: &[&str] = &[", "const LASTING: "];
    for list in lists.iter().filter_map(|list| text.split(list).nth(1)) {
        let list: &'t str = list.split("];").next().unwrap_or_default();
        codes.extend(list.split('"').skip(1).step_by(2).map(str::to_owned));
    }
    codes
}

#[test]
fn each_reason_has_a_meaning_and_each_meaning_a_reason() {
    let texts = texts();
    let mut named = BTreeMap::new();
    for text in &texts {
        named.extend(constants(text).map(|(name, code)| (name.to_owned(), code.to_owned())));
    }
    let codes: BTreeSet<String> = texts.iter().flat_map(|text| given(text, &named)).collect();
    assert!(
        codes.len() > 100,
        "the constructors are called otherwise: {codes:?}"
    );
    for code in &codes {
        let is_known = reasons::find(code).is_some();
        assert!(is_known, "{code} is in no row of proto/src/reasons.rs");
    }
    for row in MEANINGS {
        let literal = format!("\"{}\"", row.code);
        let is_given = texts.iter().any(|text| text.contains(&literal));
        assert!(is_given, "nothing gives {}", row.code);
    }
}
