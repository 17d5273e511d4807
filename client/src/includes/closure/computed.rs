//! What the files of a walk leave to macros: `#include HEADER`, and `#define HAS(x)
//! __has_include(x)`.

use std::collections::BTreeMap;

use crate::source::hazards;
use crate::source::scan::Scan;

/// What the files that were read leave to macros.
#[derive(Default)]
pub(super) struct Computed {
    /// Some file includes what a macro makes.
    pub(super) any: bool,
    /// Files that include what a macro stands for, and the macro.
    pub(super) macros: Vec<(Vec<u8>, Vec<u8>)>,
    /// A file that includes a header whose name is pasted, or is a call.
    pub(super) pasted: Option<Vec<u8>>,
    /// Names in angle brackets whose words may be macros, and a file that has each.
    pub(super) bracketed: BTreeMap<Vec<u8>, Vec<u8>>,
    /// A file that asks for headers in a way that can't be followed.
    pub(super) unclear: Option<Vec<u8>>,
    /// What the name of such a question could be put together from, of all files.
    pub(super) question_parts: Vec<Vec<u8>>,
    /// Macros that ask for the header that they are given, and were not followed yet.
    pub(super) askers: Vec<Vec<u8>>,
}

impl Computed {
    /// Adds what `found` in the file at `path` leaves to macros.
    pub(super) fn add(&mut self, path: &[u8], found: &Scan) {
        self.askers.extend(found.askers.iter().cloned());
        for name in &found.spelled {
            self.bracketed.insert(name.clone(), path.to_vec());
        }
        if found.opaque {
            self.unclear.get_or_insert_with(|| path.to_vec());
        }
        // The system's headers put other names together.
        if !found.parts.is_empty() && !hazards::is_system(path) {
            hazards::merge(&mut self.question_parts, &found.parts);
            if self.unclear.is_none() && hazards::makes_question(&self.question_parts) {
                self.unclear = Some(path.to_vec());
            }
        }
        self.any |= found.computed;
        if found.pasted {
            self.pasted.get_or_insert_with(|| path.to_vec());
        }
        let macros = found.macros.iter().cloned();
        self.macros.extend(macros.map(|name| (path.to_vec(), name)));
    }
}
