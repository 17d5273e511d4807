//! Edit, build, edit, build: the plain compiler, then `hgbuild` with a cache, then
//! once more from the cache. Exit code, stdout, stderr and every file, mode and
//! link must be the same each time, and what should be a hit must be one.

mod case;
mod random;
mod rows_arguments;
mod rows_headers;
mod rows_outputs;
mod rows_places;
mod rows_store;
mod rows_texts;
mod sequence;
mod tools;

use sequence::check;

#[test]
fn headers() {
    check("headers", rows_headers::CASES);
}

#[test]
fn arguments_and_environment() {
    check("arguments", rows_arguments::CASES);
}

#[test]
fn outputs() {
    check("outputs", rows_outputs::CASES);
}

#[test]
fn texts() {
    check("texts", rows_texts::CASES);
}

#[test]
fn places_and_names() {
    check("places", rows_places::CASES);
}

#[test]
fn switches_and_damage() {
    check("store", rows_store::CASES);
}

#[test]
fn random_sequences() {
    check("random", &random::cases());
}
