//! What a build's compiles did, in a few lines, and for the coordinator.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;

use hg_proto::v1::{LocalReason, ReportBuildRequest};

use crate::compile::events::{self, Event, Origin};

/// Reasons that are named.
const REASONS_MAX: usize = 5;
/// Reasons that the coordinator is told of.
const REPORTED_REASONS_MAX: usize = 32;

/// Counts of a build.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts {
    remote: u64,
    local: u64,
    cached: u64,
    /// Compiles only: links and questions are not counted.
    reasons: BTreeMap<String, u64>,
    /// Milliseconds of these.
    lost_ms: BTreeMap<String, u64>,
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
                let code = code(&event.reason);
                *self.lost_ms.entry(code.clone()).or_default() += event.wall_ms;
                *self.reasons.entry(code).or_default() += 1;
            }
        }
    }

    /// Counts what is in `log`.
    pub fn read(log: &Path) -> Counts {
        let mut counts = Counts::default();
        events::read(log, |event| counts.add(&event));
        counts
    }

    /// For the coordinator, without who asks, how long it took and how it ended; `None`:
    /// nothing was compiled.
    pub fn report(&self) -> Option<ReportBuildRequest> {
        let all = self.remote + self.local + self.cached;
        let reasons = self.reasons.iter().map(|(reason, compiles)| LocalReason {
            reason: reason.clone(),
            compiles: *compiles,
            lost_ms: self.lost_ms.get(reason).copied().unwrap_or_default(),
        });
        let mut reasons: Vec<LocalReason> = reasons.collect();
        reasons.sort_by_key(|one| Reverse(one.lost_ms));
        reasons.truncate(REPORTED_REASONS_MAX);
        (all > 0).then(|| ReportBuildRequest {
            remote: self.remote,
            local: self.local,
            cached: self.cached,
            reasons,
            ..ReportBuildRequest::default()
        })
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
            pid: 1,
            start_us: 0,
            phases: Vec::new(),
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
        for (source, reason, wall_ms) in [
            ("b.c", "debug-info: -g", 300),
            ("c.c", "queue: full", 50),
            ("d.c", "queue: late", 100),
        ] {
            counts.add(&Event {
                wall_ms,
                ..event(source, Origin::Local, reason)
            });
        }
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
        assert_eq!(Counts::default().report(), None);
        let report = counts.report().expect("compiles");
        assert_eq!((report.remote, report.local, report.cached), (4, 3, 0));
        let reasons: Vec<(&str, u64, u64)> = report
            .reasons
            .iter()
            .map(|one| (one.reason.as_str(), one.compiles, one.lost_ms))
            .collect();
        assert_eq!(reasons, [("debug-info", 1, 300), ("queue", 2, 150)]);
    }
}
