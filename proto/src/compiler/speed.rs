//! How fast one core of this machine is: a short run of what compilers do most,
//! branches that depend on data and look-ups in tables. Not pure: takes time.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Bytes of the table: more than the nearest cache of a small core holds.
const TABLE_BYTES: usize = 64 << 10;
const TABLE_WORDS: usize = TABLE_BYTES / size_of::<u32>();
/// Steps of one run: about 10 ms on the reference core.
const STEPS: u32 = 2_500_000;
/// Microseconds of one run on the reference core: a server's, of about 2020.
const REFERENCE_US: u64 = 10_000;
/// Runs of which the fastest counts: others may have the core for a while.
const RUNS_MAX: u32 = 3;
/// No run begins after that: a start is not to take long on a slow machine.
const RUNS_WAIT: Duration = Duration::from_millis(100);

/// The speed of one core in thousandths of the reference core's. After the first run
/// there are more only while `there_is_time`.
pub fn measure_milli(there_is_time: impl Fn() -> bool) -> u32 {
    let mut table = vec![0u32; TABLE_WORDS];
    let mut seed = 1u32;
    for word in &mut table {
        seed = next(seed);
        *word = seed;
    }
    let begun = Instant::now();
    let mut best_us = u64::MAX;
    for _ in 0..RUNS_MAX {
        let run = Instant::now();
        black_box(walk(black_box(&mut table)));
        let us = u64::try_from(run.elapsed().as_micros()).unwrap_or(u64::MAX);
        best_us = best_us.min(us.max(1));
        if begun.elapsed() >= RUNS_WAIT || !there_is_time() {
            break;
        }
    }
    u32::try_from((REFERENCE_US * 1000 / best_us).max(1)).unwrap_or(u32::MAX)
}

/// Xorshift (Marsaglia, 2003).
fn next(mut x: u32) -> u32 {
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    x
}

/// Goes through the table from word to word, as a compiler through its trees.
fn walk(table: &mut [u32]) -> u32 {
    let (mut at, mut sum) = (1u32, 0u32);
    for step in 0..STEPS {
        let index = at as usize % TABLE_WORDS;
        let word = table[index];
        at = match word & 3 {
            0 => word.rotate_left(7) ^ step,
            1 => next(word ^ step),
            2 => word.wrapping_mul(2_654_435_761).wrapping_add(sum),
            _ => {
                table[index] = word ^ (step << 2);
                sum ^ word
            }
        };
        sum = sum.wrapping_add(at >> 3);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_measured() {
        assert!(measure_milli(|| true) > 0);
        assert!(measure_milli(|| false) > 0);
    }

    #[test]
    fn the_walk_is_the_same_each_time_and_goes_far() {
        let table = || {
            (0..TABLE_WORDS as u32)
                .map(|n| next(n + 1))
                .collect::<Vec<_>>()
        };
        let (mut one, mut two) = (table(), table());
        assert_eq!(walk(&mut one), walk(&mut two));
        assert_eq!(one, two);
        let changed = one.iter().zip(table()).filter(|(a, b)| **a != *b).count();
        // One word in four is written to.
        assert!(changed > TABLE_WORDS / 5, "{changed}");
    }
}
