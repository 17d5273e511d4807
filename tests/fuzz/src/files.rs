//! What lies in the files of a coordinator or a client may be anything: it is read
//! without panicking, and what is taken is written again as it came. And no text
//! hides a word that changes what it compiles to.

#![no_main]

use hg_coord::scheduling::predictor::Predictor;
use hg_coord::trust::secrets;
use hg_proto::compiler::toolchain::Family;
use hg_proto::disk::index::{Entries, Slots};
use hg_proto::secure::credentials::Stored;
use hgbuild::cache::disk::day_log::Event;
use hgbuild::cache::store::Trail;
use hgbuild::source::{hazards, indentation, scan};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fn secrets(bytes: &[u8]) {
    if let Ok(trust) = secrets::parse(bytes) {
        assert!(!trust.keyring.keys.is_empty() && !trust.certificates.is_empty());
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(stored) = Stored::parse(text) {
        assert_eq!(Stored::parse(&stored.to_text()), Ok(stored));
    }
}

fn learned(bytes: &[u8]) {
    if let Ok(predictor) = Predictor::load(bytes) {
        let again = predictor.saved().to_bytes();
        assert!(Predictor::load(&again).is_ok_and(|p| p.saved().to_bytes() == again));
    }
}

fn cached(bytes: &[u8]) {
    let mut entries = Entries::default();
    entries.fold_index(bytes);
    entries.fold(bytes);
    let mut again = Entries::default();
    assert!(again.fold_index(&entries.index()));
    assert_eq!(again, entries);
    let slots = Slots::decode(bytes);
    assert!(slots.total() >= slots.get(0).map_or(0, |slot| slot.bytes));
    if let Some(trail) = Trail::read(bytes.to_vec()) {
        assert_eq!(Trail::read(trail.encode_to_vec()), Some(trail));
    }
    if let Ok(line) = std::str::from_utf8(bytes)
        && let Some(event) = Event::parse(line)
    {
        let written = event.line();
        assert_eq!(Event::parse(&written), Some(event));
    }
}

fn text(kind: u8, bytes: &[u8]) {
    let (before, after) = bytes.split_at(bytes.len() * usize::from(kind) / 256);
    let dated = [before, b"\n__DATE__\n", after].concat();
    // In a comment, or as the rest of another word, it is nothing.
    let alone =
        !before.contains(&b'\\') && !before.windows(2).any(|two| matches!(two, b"/*" | b"??"));
    for family in [Family::Gcc, Family::Clang] {
        hazards::find(bytes, family);
        assert!(!alone || hazards::find(&dated, family).is_some());
        hazards::find_expanded(bytes, family, kind & 1 == 1);
    }
    let code = scan::code_of(&dated);
    let mut signs = hazards::Signs::of(b"a.c", &dated, &code);
    assert!(!alone || signs.hazard().is_some());
    signs.complete(b"a.c", &dated, &code);
    let code = scan::code_of(bytes);
    let mut all = hazards::Signs::of(b"b.h", bytes, &code);
    all.complete(b"b.h", bytes, &code);
    all.add(&signs);
    all.resolve(|_| Some(vec![b"inc".to_vec()]));
    // What is spelled oddly is refused file by file.
    assert!(!alone || signs.odd().is_some() || all.reason().is_some());
    hazards::lost_pragma(bytes, b"a.c", &dated, kind & 1 == 1);
    let files = hazards::user_files(bytes);
    assert!(
        files
            .iter()
            .enumerate()
            .all(|(at, path)| !files[..at].contains(path))
    );
    let user = hazards::user_text(bytes);
    assert!(user.len() <= bytes.len());
    indentation::may_mislead(bytes, &user);
    indentation::may_be_empty(&user);
}

fuzz_target!(|data: &[u8]| {
    let Some((&kind, bytes)) = data.split_first() else {
        return;
    };
    match kind % 8 {
        0 => secrets(bytes),
        1 => learned(bytes),
        2 | 3 => cached(bytes),
        _ => text(kind, bytes),
    }
});
