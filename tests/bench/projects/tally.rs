//! What an event log says of a build: how many compiles there were, where they ran,
//! and why some ran here.

use std::collections::BTreeMap;

use hg_tests::event::Event;

/// Reasons of invocations that make no object of one source: links, probes,
/// preprocessing, dependency lists. Events of these have no source; but neither have
/// those of compiles that the option table turns down, which do count.
const NO_COMPILE: [&str; 11] = [
    "not-a-compile",
    "not-a-compiler",
    "no-source",
    "several-sources",
    "several-stages",
    "preprocess-only",
    "dependencies-only",
    "syntax-only",
    "stdin-source",
    "stdout-output",
    "output-is-device",
];

/// Compiles of one build.
#[derive(Debug, Default)]
pub struct Tally {
    /// All of them: one source, one object.
    pub compiles: usize,
    /// A worker's objects.
    pub remote: usize,
    /// Those of them that went out as source and headers.
    pub tree: usize,
    /// Objects out of the cache that cost no preprocessor.
    pub direct: usize,
    /// Why the local ones were: the count of each code, and one of them.
    reasons: BTreeMap<String, (usize, String)>,
}

impl Tally {
    /// Counts the compiles among `events`.
    pub fn of(events: &[Event]) -> Tally {
        let mut tally = Tally::default();
        for event in events {
            let (code, detail) = event.reason.split_once(": ").unwrap_or((&event.reason, ""));
            if !NO_COMPILE.contains(&code) {
                tally.add(event, code, detail);
            }
        }
        tally
    }

    fn add(&mut self, event: &Event, code: &str, detail: &str) {
        self.compiles += 1;
        match event.place.as_str() {
            "remote" => {
                self.remote += 1;
                self.tree += usize::from(event.form == "tree");
            }
            "cache" => self.direct += usize::from(code == "direct-hit"),
            _ => {
                let example = match (event.source.as_str(), detail) {
                    ("", detail) => detail.to_owned(),
                    (source, "") => source.to_owned(),
                    (source, detail) => format!("{source}: {detail}"),
                };
                let seen = self.reasons.entry(code.to_owned());
                seen.or_insert((0, example)).0 += 1;
            }
        }
    }

    /// The commonest reasons first: count, code, example.
    pub fn reasons(&self) -> Vec<(usize, &str, &str)> {
        let all = self.reasons.iter();
        let mut all: Vec<_> = all
            .map(|(code, (count, example))| (*count, code.as_str(), example.as_str()))
            .collect();
        all.sort_by_key(|(count, ..)| std::cmp::Reverse(*count));
        all
    }
}

/// `part` of `all` in a hundred; of nothing, none.
pub fn percent(part: usize, all: usize) -> f64 {
    100.0 * part as f64 / all.max(1) as f64
}
