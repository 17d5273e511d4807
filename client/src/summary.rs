//! What a build's compiles did, in a few lines.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::events::{Event, Place};
use crate::say;

/// Reasons that are named.
const REASONS_MAX: usize = 5;
/// Bytes of one line of the log.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Counts of a build.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts {
    remote: u64,
    local: u64,
    cached: u64,
    /// Compiles only: links and questions are not counted.
    reasons: BTreeMap<String, u64>,
}

impl Counts {
    /// Adds one line of the log.
    pub fn add(&mut self, event: &Event<'_>) {
        // Links, version questions and configure's probes have no one source.
        if event.source.is_empty() {
            return;
        }
        match event.place {
            Place::Remote => self.remote += 1,
            Place::Cache => self.cached += 1,
            Place::Local => {
                self.local += 1;
                let code = event.reason.split(':').next().unwrap_or_default();
                *self.reasons.entry(code.to_owned()).or_default() += 1;
            }
        }
    }

    /// For people; empty when nothing was compiled.
    pub fn text(&self) -> String {
        let all = self.remote + self.local + self.cached;
        if all == 0 {
            return String::new();
        }
        let mut text = format!(
            "hgbuild: {all} compiled: {} remote, {} local, {} cached\n",
            self.remote, self.local, self.cached
        );
        let mut reasons: Vec<(&String, &u64)> = self.reasons.iter().collect();
        reasons.sort_by(|a, b| b.1.cmp(a.1));
        for (code, count) in reasons.iter().take(REASONS_MAX) {
            text.push_str(&format!("hgbuild:   {count} local: {code}\n"));
        }
        text
    }
}

/// Prints the summary of `log` to stderr.
pub fn print(log: &Path) {
    let Ok(file) = File::open(log) else {
        return;
    };
    let mut counts = Counts::default();
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = std::io::Read::take(&mut reader, LINE_BYTES_MAX);
        match bounded.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        if let Ok(event) = serde_json::from_slice::<Event<'_>>(&line) {
            counts.add(&event);
        }
    }
    say::aside(counts.text());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(source: &str, place: Place, reason: &str) -> Event<'static> {
        Event {
            v: 1,
            time: String::new(),
            cwd: String::new(),
            source: source.into(),
            output: String::new(),
            compiler: "gcc".into(),
            place,
            reason: reason.to_owned().into(),
            form: None,
            worker: None,
            exit: 0,
            wall_ms: 0,
            queue_ms: 0,
            remote_ms: 0,
            bytes_up: 0,
            bytes_down: 0,
        }
    }

    #[test]
    fn counted_by_code_and_most_first() {
        let mut counts = Counts::default();
        counts.add(&event("a.c", Place::Remote, "remote"));
        counts.add(&event("b.c", Place::Local, "debug-info: -g"));
        counts.add(&event("c.c", Place::Local, "queue: full"));
        counts.add(&event("d.c", Place::Local, "queue: late"));
        counts.add(&event("", Place::Local, "not-a-compile"));
        assert_eq!(
            counts.text(),
            "hgbuild: 4 compiled: 1 remote, 3 local, 0 cached\n\
             hgbuild:   2 local: queue\n\
             hgbuild:   1 local: debug-info\n"
        );
        assert_eq!(Counts::default().text(), "");
    }
}
