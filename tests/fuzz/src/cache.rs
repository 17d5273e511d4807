//! What lies in a cache folder may be anything: entries and lists are read
//! without panicking. And no source hides an include from the scanner.

#![no_main]

use hgbuild::cache::answer::Answer;
use hgbuild::cache::manifest::Manifest;
use hgbuild::includes::dependency_list;
use hgbuild::source::scan;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&kind, bytes)) = data.split_first() else {
        return;
    };
    match kind % 4 {
        0 => entries(bytes),
        1 => lists(bytes),
        _ => includes(kind, bytes),
    }
});

fn entries(bytes: &[u8]) {
    if let Some(manifest) = Manifest::read(bytes.to_vec()) {
        for folder in manifest.sets.iter().flat_map(|set| &set.folders) {
            assert!(folder.names().count() <= folder.names.len() + 1);
        }
    }
    if let Some(answer) = Answer::read(bytes.to_vec())
        && answer.object.size < 1 << 20
        && let Ok(content) = answer.object.content()
    {
        assert_eq!(content.len() as u64, answer.object.size);
    }
}

fn lists(bytes: &[u8]) {
    for path in dependency_list::from_rule(bytes, true).paths {
        assert!(!path.is_empty());
    }
    dependency_list::from_headers(bytes, b"a.c");
}

fn includes(kind: u8, bytes: &[u8]) {
    let (before, after) = bytes.split_at(bytes.len() * usize::from(kind) / 256);
    let text = [before, b"\n#include \"hidden.h\"\n", after].concat();
    let found = scan::scan(&scan::code_of(&text).text);
    // It may be in a comment, where it is none.
    let commented = before.iter().any(|byte| matches!(byte, b'/' | b'*'));
    let hidden = |header: &scan::Header| header.name == b"hidden.h";
    assert!(commented || found.includes.iter().any(hidden));
    scan::without_includes(&text);
    scan::headers_given_to(&text, b"HAS", false);
    let names = scan::defined_names(&scan::code_of(&text).text);
    let defined = [
        scan::values_of(&text, b"HAS"),
        scan::strings_of(&text, b"HAS"),
    ];
    for values in defined {
        let may_be = values.is_none_or(|values| !values.is_empty());
        assert!(!may_be || scan::may_be_among(&names, b"HAS"));
    }
}
