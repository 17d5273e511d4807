//! What a compile spends its time on: one phase after another, without a gap, so that all
//! of them together are the time from its start to its end.

use std::time::Instant;

use serde::{Deserialize, Serialize};

/// One kind of work, or of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The command line is read and the cache asked.
    Lookup,
    /// What a worker needs is read or preprocessed here, and the coordinator dialled.
    Gather,
    /// The task waits for a worker.
    Queue,
    /// The worker has the task, and gets what it lacks.
    Send,
    /// The worker's compiler runs.
    Compile,
    /// The object comes.
    Receive,
    /// The object is put in its place, and kept.
    Finish,
    /// For a turn on this machine.
    Wait,
    /// This machine's compiler runs.
    Local,
}

impl Phase {
    /// The word for it, as in the event log.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Lookup => "lookup",
            Phase::Gather => "gather",
            Phase::Queue => "queue",
            Phase::Send => "send",
            Phase::Compile => "compile",
            Phase::Receive => "receive",
            Phase::Finish => "finish",
            Phase::Wait => "wait",
            Phase::Local => "local",
        }
    }
}

/// When each phase began, in their order.
#[derive(Debug, Clone)]
pub struct Timeline {
    phases: Vec<(Phase, Instant)>,
}

impl Timeline {
    /// Begins with [`Phase::Lookup`].
    pub fn new(began: Instant) -> Timeline {
        Timeline {
            phases: vec![(Phase::Lookup, began)],
        }
    }

    /// The phase before is over.
    pub fn enter(&mut self, phase: Phase) {
        self.enter_at(phase, Instant::now());
    }

    /// The same, at an instant that is known; it is never before the phase before.
    pub fn enter_at(&mut self, phase: Phase, at: Instant) {
        let last = self.phases.last().map_or(at, |(_, last)| *last);
        self.phases.push((phase, at.max(last)));
    }

    /// The phases and their microseconds, the last one up to `end`; such that take none are
    /// left out.
    pub fn until(&self, end: Instant) -> Vec<(Phase, u64)> {
        let ends = self.phases.iter().skip(1).map(|(_, at)| *at).chain([end]);
        // Counted from the start, so that what is cut off of each does not add up.
        let start = self.phases.first().map_or(end, |(_, at)| *at);
        let us = |at: Instant| at.saturating_duration_since(start).as_micros() as u64;
        let lengths = self.phases.iter().zip(ends);
        let lengths = lengths.map(|((phase, at), end)| (*phase, us(end) - us(*at)));
        lengths.filter(|(_, us)| *us > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn phases_fill_the_time_and_never_overlap() {
        let began = Instant::now();
        let after = |us: u64| began + Duration::from_nanos(us * 1_000 + 700);
        let mut timeline = Timeline::new(began);
        timeline.enter_at(Phase::Gather, after(100));
        timeline.enter_at(Phase::Queue, after(250));
        // A worker's clock may say more than there was.
        timeline.enter_at(Phase::Compile, after(200));
        timeline.enter_at(Phase::Finish, after(900));
        let phases = timeline.until(after(1_000));
        let expected = [
            (Phase::Lookup, 100),
            (Phase::Gather, 150),
            (Phase::Compile, 650),
            (Phase::Finish, 100),
        ];
        assert_eq!(phases, expected);
        let sum: u64 = phases.iter().map(|(_, us)| us).sum();
        assert_eq!(sum, 1_000);
    }
}
