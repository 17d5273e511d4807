//! How far a build has come of what is expected of it, and how long the rest takes at the
//! rate of its last compiles. An expectation that the build does not bear out is not shown.
//! Pure.

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The rate is that of the compiles since so long.
const RATE_OVER: Duration = Duration::from_secs(10);
/// Compiles that have to end before anything is said of the others; where they take longer
/// than [`RATE_OVER`] the time left is by the rate of so many.
const ENDED_MIN: usize = 10;
/// One compile in so many may be one that was not expected. Where more are, a header may have
/// changed that everything includes, or another build may run within this one.
const ONE_STRANGER_IN: usize = 20;

/// Of one build.
#[derive(Default)]
pub struct Progress {
    /// Compiles that ended.
    ended: usize,
    /// Those of them that were not expected.
    strangers: usize,
    objects: Objects,
    /// When each of the last compiles ended.
    recent: VecDeque<Instant>,
}

enum Objects {
    /// Made before it is known which are expected.
    Made(HashSet<PathBuf>),
    ToCome(HashSet<PathBuf>),
    Unknown,
}

impl Default for Objects {
    fn default() -> Self {
        Objects::Made(HashSet::new())
    }
}

impl Progress {
    /// A compile has ended, and made `object` if it was a good one.
    pub fn end(&mut self, object: PathBuf, now: Instant) {
        self.ended += 1;
        self.recent.push_back(now);
        match &mut self.objects {
            Objects::Made(objects) => drop(objects.insert(object)),
            Objects::ToCome(objects) => self.strangers += usize::from(!objects.remove(&object)),
            Objects::Unknown => {}
        }
    }

    /// From its start the build was to make `objects`, or that can't be known. The first time
    /// counts.
    pub fn expect(&mut self, objects: Option<&HashSet<PathBuf>>) {
        let Objects::Made(made) = &self.objects else {
            return;
        };
        let Some(objects) = objects else {
            self.objects = Objects::Unknown;
            return;
        };
        let to_come: HashSet<PathBuf> = objects.difference(made).cloned().collect();
        let expected = objects.len() - to_come.len();
        self.strangers = self.ended.saturating_sub(expected);
        self.objects = Objects::ToCome(to_come);
    }

    /// How many are to come; `None`: nobody knows, or what is expected is worth nothing.
    fn to_come(&self) -> Option<usize> {
        let is_sound = self.strangers * ONE_STRANGER_IN <= self.ended && self.ended >= ENDED_MIN;
        match &self.objects {
            Objects::ToCome(objects) => is_sound.then_some(objects.len()),
            Objects::Made(_) | Objects::Unknown => None,
        }
    }

    /// Compiles that ended, and how many there will be in all where that is known.
    pub fn of_total(&self) -> String {
        match self.to_come() {
            Some(count) => format!("{}/{}", self.ended, self.ended + count),
            None => self.ended.to_string(),
        }
    }

    /// Compiles a second.
    pub fn rate(&mut self, now: Instant) -> f64 {
        while let Some(first) = self.recent.front()
            && now.duration_since(*first) > RATE_OVER
            && self.recent.len() > ENDED_MIN
        {
            self.recent.pop_front();
        }
        let since = self
            .recent
            .iter()
            .filter(|at| now.duration_since(**at) <= RATE_OVER);
        let first = since.clone().next();
        let over = first.map_or(RATE_OVER, |first| now.duration_since(*first));
        since.count() as f64 / over.as_secs_f64().max(1.0)
    }

    /// How long the rest takes, with a comma before it; empty where that is not known, or
    /// there is none.
    pub fn time_left(&self, now: Instant) -> String {
        let to_come = self.to_come().filter(|count| *count > 0);
        let ends = (self.recent.front(), self.recent.back());
        let (Some(to_come), (Some(first), Some(last))) = (to_come, ends) else {
            return String::new();
        };
        let since = |at: &Instant| now.duration_since(*at).as_secs_f64();
        let count = self.recent.len() as f64;
        // From one end to the next; longer where the next one does not come.
        let each_s = ((since(first) - since(last)) / (count - 1.0)).max(since(first) / count);
        let left_s = each_s * to_come as f64 - since(last).min(each_s);
        let left_s = left_s.ceil() as u64;
        let (hours, minutes, seconds) = (left_s / 3600, left_s / 60 % 60, left_s % 60);
        match hours {
            0 => format!(", ETA {minutes}:{seconds:02}"),
            _ => format!(", ETA {hours}:{minutes:02}:{seconds:02}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(count: usize) -> HashSet<PathBuf> {
        (0..count).map(object).collect()
    }

    fn object(number: usize) -> PathBuf {
        format!("/b/{number}.o").into()
    }

    #[test]
    fn the_rest_takes_as_long_as_what_was() {
        let (start, mut progress) = (Instant::now(), Progress::default());
        let at = |second: usize| start + Duration::from_secs(second as u64);
        // Two end before it is known what is to come.
        for number in 0..9 {
            progress.end(object(number), at(number));
            if number == 1 {
                progress.expect(Some(&objects(90)));
                progress.expect(Some(&objects(5)));
            }
            assert_eq!(progress.of_total(), format!("{}", number + 1));
            assert_eq!(progress.time_left(at(number)), "");
        }
        progress.end(object(9), at(9));
        assert_eq!(progress.of_total(), "10/90");
        assert_eq!(progress.time_left(at(9)), ", ETA 1:20");
        assert!((progress.rate(at(9)) - 10.0 / 9.0).abs() < 0.01);
        // Nothing ends any more: it takes longer.
        assert_eq!(progress.time_left(at(10)), ", ETA 1:19");
        assert_eq!(progress.time_left(at(90)), ", ETA 11:51");
        assert_eq!(progress.time_left(at(900)), ", ETA 1:58:30");
        assert!(progress.rate(at(90)) < 0.01);
        for number in 10..90 {
            progress.end(object(number), at(90));
        }
        assert_eq!(progress.of_total(), "90/90");
        assert_eq!(progress.time_left(at(90)), "");
    }

    #[test]
    fn an_expectation_that_is_not_borne_out_is_not_shown() {
        let (now, mut progress) = (Instant::now(), Progress::default());
        for number in 0..20 {
            progress.end(object(number), now);
        }
        progress.expect(Some(&objects(100)));
        assert_eq!(progress.of_total(), "20/100");
        progress.end("/b/configure.o".into(), now);
        assert_eq!(progress.of_total(), "21/101");
        progress.end("/b/changed.o".into(), now);
        assert_eq!(progress.of_total(), "22");
        assert_eq!(progress.time_left(now), "");
        // As is what comes too late to be believed.
        let mut progress = Progress::default();
        for number in 200..220 {
            progress.end(object(number), now);
        }
        progress.expect(Some(&objects(100)));
        assert_eq!(progress.of_total(), "20");
        let mut progress = Progress::default();
        progress.expect(None);
        progress.end(object(1), now);
        assert_eq!(progress.of_total(), "1");
        assert_eq!(progress.time_left(now), "");
    }
}
