//! What a build's compiles did, in a few lines.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::compile::events::{Event, Origin};
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
    /// Why the cache keeps nothing of good ones.
    not_kept: BTreeMap<String, u64>,
}

impl Counts {
    /// Adds one line of the log.
    pub fn add(&mut self, event: &Event<'_>) {
        // Links, version questions and configure's probes have no one source.
        if event.source.is_empty() {
            return;
        }
        if let (Some(why), 0) = (&event.not_kept, event.exit) {
            *self.not_kept.entry(code(why)).or_default() += 1;
        }
        match event.origin {
            Origin::Remote => self.remote += 1,
            Origin::Cache => self.cached += 1,
            Origin::Local => {
                self.local += 1;
                *self.reasons.entry(code(&event.reason)).or_default() += 1;
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
        for (what, reasons) in [("local", &self.reasons), ("not kept", &self.not_kept)] {
            let mut reasons: Vec<(&String, &u64)> = reasons.iter().collect();
            reasons.sort_by(|a, b| b.1.cmp(a.1));
            for (code, count) in reasons.iter().take(REASONS_MAX) {
                text.push_str(&format!("hgbuild:   {count} {what}: {code}\n"));
            }
        }
        text
    }
}

/// The stable part of a reason.
fn code(reason: &str) -> String {
    let code = reason.split(':').next();
    code.unwrap_or_default().to_owned()
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

    fn event(source: &str, origin: Origin, reason: &str) -> Event<'static> {
        Event {
            v: 1,
            time: String::new(),
            cwd: String::new(),
            source: source.into(),
            output: String::new(),
            compiler: "gcc".into(),
            origin,
            reason: reason.to_owned().into(),
            not_kept: None,
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
        counts.add(&event("a.c", Origin::Remote, "remote"));
        counts.add(&event("b.c", Origin::Local, "debug-info: -g"));
        counts.add(&event("c.c", Origin::Local, "queue: full"));
        counts.add(&event("d.c", Origin::Local, "queue: late"));
        counts.add(&event("", Origin::Local, "not-a-compile"));
        for (exit, why) in [
            (0, "time-macro: __DATE__"),
            (0, "time-macro: __TIME__"),
            (1, "compile-failed"),
        ] {
            counts.add(&Event {
                exit,
                not_kept: Some(why.into()),
                ..event("e.c", Origin::Remote, "remote")
            });
        }
        assert_eq!(
            counts.text(),
            "hgbuild: 7 compiled: 4 remote, 3 local, 0 cached\n\
             hgbuild:   2 local: queue\n\
             hgbuild:   1 local: debug-info\n\
             hgbuild:   2 not kept: time-macro\n"
        );
        assert_eq!(Counts::default().text(), "");
    }
}
