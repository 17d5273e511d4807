//! What a decision costs by itself: a second coordinator is told what the first one
//! was, many events in one go, with a clock around them all. So neither the clock
//! nor the simulated world is in the figure: of ten thousand machines the world's
//! own state alone fills every cache between two events.

use std::ops::Range;
use std::time::Instant;

use hg_coord::scheduling::coordinator::{Action, Coordinator, Event};

/// Events that are told in one go.
const EVENTS_MAX: usize = 512 << 10;

/// See the top of the file.
pub struct Twin {
    core: Coordinator,
    measured_us: Range<u64>,
    /// Since when nothing was told, with the time of each in milliseconds.
    heard: Vec<(u64, Event)>,
    /// Whether these are to be measured.
    counts: bool,
    alone: Alone,
    actions: u64,
}

/// Decisions, each with all that the coordinator is told until it is over, and with
/// its share of heartbeats and ticks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone {
    /// How many.
    pub decisions: u64,
    /// Microseconds that all of them took.
    pub spent_us: f64,
}

impl Twin {
    /// A coordinator that is as the first one was when it began. What happens
    /// outside `measured_us` is told and not measured.
    pub fn new(core: Coordinator, measured_us: Range<u64>) -> Self {
        Twin {
            core,
            measured_us,
            heard: Vec::with_capacity(EVENTS_MAX),
            counts: false,
            alone: Alone::default(),
            actions: 0,
        }
    }

    /// The first one was told this.
    pub fn hear(&mut self, event: Event, now_us: u64) {
        let counts = self.measured_us.contains(&now_us);
        if counts != self.counts || self.heard.len() >= EVENTS_MAX {
            self.catch_up();
            self.counts = counts;
        }
        self.heard.push((now_us / 1_000, event));
    }

    /// What was measured, and how many actions there were in all.
    pub fn end(mut self) -> (Alone, u64) {
        self.catch_up();
        (self.alone, self.actions)
    }

    fn catch_up(&mut self) {
        let before = Instant::now();
        let (actions, dispatches) = match self.counts {
            true => measure(&mut self.core, &mut self.heard),
            false => tell(&mut self.core, &mut self.heard),
        };
        if self.counts {
            self.alone.spent_us += before.elapsed().as_secs_f64() * 1e6;
            self.alone.decisions += dispatches;
        }
        self.actions += actions;
    }
}

/// Not inlined, so that a profiler finds what is measured and nothing else.
#[inline(never)]
fn measure(core: &mut Coordinator, heard: &mut Vec<(u64, Event)>) -> (u64, u64) {
    tell(core, heard)
}

/// Gives how many actions there were, and how many of these were dispatches.
#[inline(always)]
fn tell(core: &mut Coordinator, heard: &mut Vec<(u64, Event)>) -> (u64, u64) {
    let (mut all, mut dispatches) = (0, 0);
    for (now_ms, event) in heard.drain(..) {
        let actions = core.handle(event, now_ms);
        let dispatch = |action: &&Action| matches!(action, Action::Dispatch(_));
        all += actions.len() as u64;
        dispatches += actions.iter().filter(dispatch).count() as u64;
    }
    (all, dispatches)
}
