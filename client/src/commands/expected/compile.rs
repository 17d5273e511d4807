//! An object that a build makes. Pure.

use hg_proto::options::args;

/// An object and what it is compiled from, as a build system's files name them.
#[derive(Debug, PartialEq, Eq)]
pub struct Compile {
    pub source: String,
    pub object: String,
}

impl Compile {
    /// `None`: this is no compile.
    pub fn of(source: &str, object: &str) -> Option<Compile> {
        let is_object = object.ends_with(".o") || object.ends_with(".obj");
        (is_object && args::is_source(source.as_bytes())).then(|| Compile {
            source: source.to_owned(),
            object: object.to_owned(),
        })
    }
}
