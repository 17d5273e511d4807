//! The last hour in numbers, at a bounded size: one point for each ten seconds.

use std::collections::VecDeque;

use serde::Serialize;

/// Milliseconds of a point.
pub const POINT_MS: u64 = 10_000;
/// Points of an hour.
const POINTS_MAX: usize = 360;
/// Buckets of times: four for each doubling, from a millisecond to an hour.
const BUCKETS: usize = 96;

/// One point of the last hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Point {
    /// When it ended.
    pub end_unix_ms: u64,
    /// Tasks that ended with a compiler's answer.
    pub tasks: u32,
    /// Tasks that ended without one.
    pub failed: u32,
    /// Compiles that clients' caches answered, as reported in this time.
    pub cache_hits: u32,
    /// Compiles that they did not.
    pub cache_misses: u32,
    /// Tasks that waited at its end.
    pub queued: u32,
    /// Slots that workers offered at its end.
    pub slots: u32,
    /// Slots that were taken at its end.
    pub slots_busy: u32,
    /// Workers at its end.
    pub workers: u32,
    /// Half of the tasks took less, from submission to result.
    pub p50_ms: u32,
    /// 99 of 100 tasks took less.
    pub p99_ms: u32,
    /// Bytes that went to workers and came from them.
    pub bytes: u64,
}

/// What is so at a point's end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Level {
    /// Tasks that wait.
    pub queued: u32,
    /// Slots that workers offer.
    pub slots: u32,
    /// Slots that are taken.
    pub slots_busy: u32,
    /// Workers.
    pub workers: u32,
    /// Bytes that went to workers and came from them, since the start.
    pub bytes_total: u64,
}

/// Times by their size, within a fifth of each.
#[derive(Debug, Clone)]
struct Times {
    counts: [u32; BUCKETS],
    all: u32,
}

impl Default for Times {
    fn default() -> Self {
        Times {
            counts: [0; BUCKETS],
            all: 0,
        }
    }
}

impl Times {
    fn add(&mut self, ms: u64) {
        let bucket = ((ms.max(1) as f64).log2() * 4.0).ceil() as usize;
        self.counts[bucket.min(BUCKETS - 1)] += 1;
        self.all += 1;
    }

    /// The upper end of the bucket in which `share` of all are reached; 0: there are none.
    fn quantile(&self, share: f64) -> u32 {
        let wanted = (f64::from(self.all) * share).ceil() as u32;
        let mut sum = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            sum += count;
            if sum >= wanted && sum > 0 {
                return (bucket as f64 / 4.0).exp2().round() as u32;
            }
        }
        0
    }
}

/// See the top of the file.
#[derive(Debug)]
pub struct Series {
    points: VecDeque<Point>,
    /// The point that has not ended.
    open: Point,
    times: Times,
    bytes_total: u64,
    ends_ms: u64,
}

impl Default for Series {
    fn default() -> Self {
        Series {
            points: VecDeque::new(),
            open: Point::default(),
            times: Times::default(),
            bytes_total: 0,
            ends_ms: POINT_MS,
        }
    }
}

impl Series {
    /// A task ended.
    pub fn ended(&mut self, has_answer: bool, wall_ms: u64) {
        match has_answer {
            true => {
                self.open.tasks += 1;
                self.times.add(wall_ms);
            }
            false => self.open.failed += 1,
        }
    }

    /// Clients report of their caches.
    pub fn cached(&mut self, hits: u64, misses: u64) {
        let add = |sum: u32, more: u64| sum.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        self.open.cache_hits = add(self.open.cache_hits, hits);
        self.open.cache_misses = add(self.open.cache_misses, misses);
    }

    /// Whether a point is over at `now_ms`.
    pub fn is_due(&self, now_ms: u64) -> bool {
        now_ms >= self.ends_ms
    }

    /// Ends the point that is over.
    pub fn close(&mut self, level: Level, now_ms: u64, now_unix_ms: u64) {
        let times = std::mem::take(&mut self.times);
        let bytes = level.bytes_total.saturating_sub(self.bytes_total);
        self.bytes_total = level.bytes_total;
        let point = Point {
            end_unix_ms: now_unix_ms,
            queued: level.queued,
            slots: level.slots,
            slots_busy: level.slots_busy,
            workers: level.workers,
            p50_ms: times.quantile(0.5),
            p99_ms: times.quantile(0.99),
            bytes,
            ..std::mem::take(&mut self.open)
        };
        if self.points.len() >= POINTS_MAX {
            self.points.pop_front();
        }
        self.points.push_back(point);
        self.ends_ms = now_ms - now_ms % POINT_MS + POINT_MS;
    }

    /// The points of the last hour, the oldest first.
    pub fn points(&self) -> impl Iterator<Item = &Point> {
        self.points.iter()
    }

    /// The newest point; `None`: none has ended.
    pub fn newest(&self) -> Option<Point> {
        self.points.back().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_counts_what_ended_in_it() {
        let mut series = Series::default();
        assert!(!series.is_due(POINT_MS - 1) && series.is_due(POINT_MS));
        for ms in 1..=100 {
            series.ended(true, ms * 10);
        }
        series.ended(false, 5);
        series.cached(3, 1);
        let level = Level {
            queued: 4,
            bytes_total: 100,
            ..Level::default()
        };
        series.close(level, POINT_MS + 3, 1_000);
        let point = series.newest().unwrap();
        assert_eq!(
            (point.tasks, point.failed, point.queued, point.bytes),
            (100, 1, 4, 100)
        );
        assert_eq!((point.cache_hits, point.cache_misses), (3, 1));
        assert!((500..600).contains(&point.p50_ms), "{}", point.p50_ms);
        assert!((990..1200).contains(&point.p99_ms), "{}", point.p99_ms);
        series.close(level, 2 * POINT_MS, 2_000);
        let empty = series.newest().unwrap();
        assert_eq!((empty.tasks, empty.p50_ms, empty.bytes), (0, 0, 0));
    }

    #[test]
    fn an_hour_is_kept() {
        let mut series = Series::default();
        for number in 0..2 * POINTS_MAX as u64 {
            series.close(Level::default(), number * POINT_MS, number);
        }
        assert_eq!(series.points().count(), POINTS_MAX);
        assert_eq!(
            series.points().next().unwrap().end_unix_ms,
            POINTS_MAX as u64
        );
    }
}
