//! What a build's compiles did, in a few lines, and for the coordinator.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;

use hg_proto::reasons;
use hg_proto::v1::{LocalReason, ReportBuildRequest};

use crate::compile::events::{self, Event, Origin, printable};

/// Reasons that are named.
const REASONS_MAX: usize = 5;
/// Reasons that the coordinator is told of.
const REPORTED_REASONS_MAX: usize = 32;
/// Characters of a reason's cause.
const CAUSE_CHARS_MAX: usize = 200;

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
    /// The first cause of each reason of either kind.
    causes: BTreeMap<String, String>,
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
            self.note_cause(why, &event.source);
        }
        match event.origin {
            Origin::Remote => self.remote += 1,
            Origin::Cache => self.cached += 1,
            Origin::Local => {
                self.local += 1;
                self.note_cause(&event.reason, &event.source);
                let code = code(&event.reason);
                *self.lost_ms.entry(code.clone()).or_default() += event.wall_ms;
                *self.reasons.entry(code).or_default() += 1;
            }
        }
    }

    fn note_cause(&mut self, reason: &str, source: &str) {
        let (code, detail) = reason.split_once(':').unwrap_or((reason, ""));
        let cause = || printable(&cause(code, detail.trim(), source));
        self.causes.entry(code.to_owned()).or_insert_with(cause);
    }

    /// Whether nothing was compiled.
    pub fn is_empty(&self) -> bool {
        self.remote + self.local + self.cached == 0
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
                let cause = self.causes.get(code.as_str()).map_or("", String::as_str);
                text.push_str(&format!("hgbuild:   {count} {what}: {code}{cause}\n"));
                if let Some(advice) = advice(code, cause).filter(|_| what == "local") {
                    text.push_str(&format!("hgbuild:     {advice}\n"));
                }
            }
        }
        text
    }
}

/// The first cause of a reason: the file and what is in it, or what is wrong with the grid.
fn cause(code: &str, detail: &str, source: &str) -> String {
    let is_of_grid = code.starts_with("grid-")
        || matches!(
            code,
            "no-coordinator" | "no-token" | "no-worker" | "config" | "disabled"
        );
    let words = match (is_of_grid, detail.is_empty()) {
        // Why one core was idle is no news.
        _ if code == "local-slot" => return String::new(),
        (true, _) => detail.to_owned(),
        (false, true) => source.to_owned(),
        (false, false) => format!("{source}: {detail}"),
    };
    let shown: String = words.chars().take(CAUSE_CHARS_MAX).collect();
    match (shown.is_empty(), shown.len() < words.len()) {
        (true, _) => String::new(),
        (false, true) => format!(" ({shown}...)"),
        (false, false) => format!(" ({shown})"),
    }
}

/// What to do about `code`; `None`: nothing, or `cause` says it.
fn advice(code: &str, cause: &str) -> Option<&'static str> {
    let meaning = reasons::find(code).filter(|meaning| meaning.is_helped())?;
    // Who has no grid has chosen that.
    (code != "no-coordinator" && !cause.contains("'hgbuild ")).then_some(meaning.advice)
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
            trace: "".into(),
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
    fn a_cause_is_of_the_file_or_of_the_grid() {
        for (code, detail, expected) in [
            ("time-macro", "__DATE__", " (a.c: __DATE__)"),
            ("coverage", "", " (a.c)"),
            ("grid-refused", "it was revoked", " (it was revoked)"),
            ("no-coordinator", "", ""),
            ("local-slot", "idle", ""),
        ] {
            assert_eq!(cause(code, detail, "a.c"), expected, "{code}");
        }
        let long = cause("queue", &"é".repeat(500), "a.c");
        assert!(
            long.ends_with("...)") && long.chars().count() < 210,
            "{long}"
        );
        assert_eq!(advice("no-token", " (run 'hgbuild join')"), None);
        assert_eq!(advice("no-coordinator", ""), None);
        assert!(advice("grid-refused", "").is_some());
    }

    #[test]
    fn counted_by_code_and_most_first() {
        let mut counts = Counts::default();
        counts.add(&event("a.c", Origin::Remote, "remote"));
        for (source, reason, wall_ms) in [
            ("b.c", "debug-info: -g", 300),
            ("c.c", "grid-refused: the token was revoked", 50),
            ("d.c", "grid-refused: late", 100),
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
             hgbuild:   2 local: grid-refused (the token was revoked)\n\
             hgbuild:     join with a new token: 'hg-coord token --role client' there, 'hgbuild join' here\n\
             hgbuild:   1 local: debug-info (b.c: -g)\n\
             hgbuild:     have workers with the full sandbox ('hgbuild workers' shows each one's)\n\
             hgbuild:   2 not kept: time-macro (e.c: __DATE__)\n"
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
        assert_eq!(reasons, [("debug-info", 1, 300), ("grid-refused", 2, 150)]);
    }
}
