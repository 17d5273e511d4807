//! What compiles will cost, learned from those that ended: time, memory and
//! output of each source file, speed and reach of each worker. Unaware of queues,
//! clocks and disks; bounded, and forgets what was not asked for longest.
//!
//! Costs are milliseconds on a machine of speed 1. Speed is relative: a worker
//! of speed 0.1 takes ten times as long.

use std::collections::HashMap;

use hg_proto::wire::digest::{Digest, Hasher};
use serde::{Deserialize, Serialize};

use crate::bounds::{PREDICTED_FILES_MAX, PREDICTED_WORKERS_MAX};

/// The least weight of a new sample in a file's averages.
const FILE_WEIGHT_MIN: f64 = 0.3;
/// The least weight of a new sample in a worker's speed.
const SPEED_WEIGHT_MIN: f64 = 0.1;
/// The least weight of a sample whose cost was itself only guessed.
const GUESS_WEIGHT: f64 = 0.03;
/// The weight of a new sample in a speed that is doubted.
const DOUBTED_WEIGHT: f64 = 0.5;
/// Weight of a sample in the share of its time that a worker gives a compiler.
const SHARE_WEIGHT: f64 = 0.5;
/// Shares are held above this.
const SHARE_MIN: f64 = 1.0 / 32.0;
/// Milliseconds of processor time below which a compile says nothing of shares:
/// it slept, or took no time at all.
const SHARE_CPU_MS_MIN: f64 = 10.0;
/// Milliseconds that any compile is thought to cost.
const COST_MS_MAX: f64 = 1e9;
/// Bytes of anything that one is thought to need: more than any machine has.
const BYTES_MAX: f64 = 1e14;
/// What a compile that was killed may need, to what it was thought to or had.
const TOO_LARGE_FACTOR: f64 = 1.5;
/// One worker's word lifts the memory that a file is thought to need up to so many times
/// what it was thought to, or up to [`LIFT_BYTES_MIN`].
const LIFT_FACTOR: u64 = 4;
/// Bytes up to which one worker's word lifts it at once: they are nothing out of the
/// ordinary. Beyond them a worker that lies shall not keep a file from all others at once.
const LIFT_BYTES_MIN: u64 = 2 << 30;
/// Weight of a sample in what guesses are made of.
const PRIOR_WEIGHT: f64 = 0.05;
/// Speeds are held between this and its inverse.
const SPEED_MIN: f64 = 1.0 / 256.0;
/// Bytes per millisecond of a link of which nothing is known: 100 Mbit/s.
const REACH_DEFAULT: f64 = 12_500.0;
/// Transfers below this say more about latency than about the link.
const REACH_BYTES_MIN: u64 = 32 << 10;
/// A file that grew or shrank is thought to cost more or less, up to so much.
const GROWTH_MAX: f64 = 4.0;
/// Written to disk; another one is not read, but for the one before.
const FORMAT: u32 = 2;
/// The one before: workers stood in it by their names alone, which are no proof of who
/// it was. Its files are good, its workers are learned anew.
const FORMAT_BEFORE: u32 = 1;

/// What is known of a compile before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Profile {
    /// The key of the source file, wherever it lies; see [`source_key`].
    pub source: u64,
    /// The language is C++ rather than C.
    pub cxx: bool,
    /// Bytes of all inputs, decoded.
    pub input_bytes: u64,
    /// Bytes of the inputs that travel, encoded.
    pub travel_bytes: u64,
}

/// A file's key: its own name, what it is compiled with and how hard; not the
/// folder, so that all checkouts share what is learned.
pub fn source_key(source: &str, toolchain: &Digest, arguments: &[Vec<u8>]) -> u64 {
    let name = source.rsplit('/').next().unwrap_or(source);
    let mut hasher = Hasher::new();
    hasher.update(toolchain.as_bytes());
    hasher.update(name.as_bytes());
    for argument in arguments.iter().filter(|a| a.starts_with(b"-O")) {
        hasher.update(b"\0");
        hasher.update(argument);
    }
    key(hasher.finish())
}

/// A worker's key: whose token it showed, and what it calls itself, since its numbers
/// change. A name alone is anybody's to take.
pub fn worker_key(holder: &str, name: &str) -> u64 {
    let mut hasher = Hasher::new();
    // No two pairs are one text.
    hasher.update(&(holder.len() as u64).to_le_bytes());
    hasher.update(holder.as_bytes());
    hasher.update(name.as_bytes());
    key(hasher.finish())
}

fn key(digest: Digest) -> u64 {
    let bytes = digest.as_bytes();
    bytes[..8]
        .iter()
        .fold(0, |key, byte| key << 8 | u64::from(*byte))
}

/// What a compile is thought to need.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// Milliseconds of the compile at speed 1.
    pub cost_ms: f64,
    /// Bytes of memory at its peak.
    pub peak_bytes: u64,
    /// Bytes of the outputs, encoded.
    pub output_bytes: u64,
    /// Whether this file was compiled before.
    pub known: bool,
}

/// What a compile took.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spent {
    /// Milliseconds of wall time that the compiler took.
    pub wall_ms: f64,
    /// Milliseconds of processor time that the compiler took; 0: not measured.
    pub cpu_ms: f64,
    /// Bytes of memory at its peak; 0: not measured.
    pub peak_bytes: u64,
    /// Bytes of the outputs, encoded.
    pub output_bytes: u64,
    /// Milliseconds from the dispatch to the result, without the compiler's.
    pub beside_ms: f64,
}

impl Spent {
    /// The share of its time in which the compiler had a processor; `None`: it
    /// can't be told.
    fn share(&self) -> Option<f64> {
        let told = self.cpu_ms >= SHARE_CPU_MS_MIN && self.wall_ms > 0.0;
        told.then(|| (self.cpu_ms / self.wall_ms).clamp(SHARE_MIN, 1.0))
    }
}

/// What was learned of a worker's speed and of its link.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// Speed of the worker; 1 is the reference machine's.
    pub speed: f64,
    /// The share of its time for which a compiler has a processor there: less where
    /// others use the machine, or it is throttled. The speed includes it.
    #[serde(default = "whole")]
    pub share: f64,
    /// Bytes per millisecond of its link, latency left out.
    pub reach: f64,
    /// Compiles of known files that it was learned from.
    pub samples: u32,
    /// Compiles of files that were not known before: each of them says little.
    #[serde(default)]
    pub guesses: u32,
}

fn whole() -> f64 {
    1.0
}

impl Pace {
    /// Of a worker of which only `speed` is known, perhaps from its own words.
    pub fn guess(speed: f64) -> Self {
        let speed = if speed.is_finite() && speed > 0.0 {
            speed
        } else {
            1.0
        };
        Pace {
            speed: speed.clamp(SPEED_MIN, 1.0 / SPEED_MIN),
            share: whole(),
            reach: REACH_DEFAULT,
            samples: 0,
            guesses: 0,
        }
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct File {
    cost_ms: f64,
    peak_bytes: f64,
    output_bytes: f64,
    input_bytes: f64,
    samples: u32,
}

/// How far off the guesses for a language are: factors, as logarithms.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Bias {
    cost: f64,
    peak: f64,
    output: f64,
}

/// Keeps at most so many, in two generations: when the younger is full it
/// becomes the older, and what nobody asked for since is forgotten.
#[derive(Debug)]
struct TwoGenerations<V> {
    young: HashMap<u64, V>,
    old: HashMap<u64, V>,
    max: usize,
}

impl<V: Copy> TwoGenerations<V> {
    fn new(max: usize) -> Self {
        TwoGenerations {
            young: HashMap::new(),
            old: HashMap::new(),
            max,
        }
    }

    fn get(&self, key: u64) -> Option<V> {
        self.young.get(&key).or_else(|| self.old.get(&key)).copied()
    }

    fn put(&mut self, key: u64, value: V) {
        if self.young.insert(key, value).is_none() {
            self.old.remove(&key);
        }
        if self.young.len() >= self.max / 2 {
            self.old = std::mem::take(&mut self.young);
        }
    }

    fn all(&self) -> Vec<(u64, V)> {
        let both = self.old.iter().chain(&self.young);
        both.map(|(key, value)| (*key, *value)).collect()
    }
}

/// What was learned, as it is written to disk.
#[derive(Serialize, Deserialize)]
pub struct Saved {
    format: u32,
    biases: [Bias; 2],
    files: Vec<(u64, File)>,
    workers: Vec<(u64, Pace)>,
}

impl Saved {
    /// The file's content.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// See the top of the file.
#[derive(Debug)]
pub struct Predictor {
    files: TwoGenerations<File>,
    workers: TwoGenerations<Pace>,
    biases: [Bias; 2],
    learned: u64,
}

impl Default for Predictor {
    fn default() -> Self {
        Self::new()
    }
}

impl Predictor {
    /// A predictor that has learned nothing.
    pub fn new() -> Self {
        Predictor {
            files: TwoGenerations::new(PREDICTED_FILES_MAX),
            workers: TwoGenerations::new(PREDICTED_WORKERS_MAX),
            biases: [Bias::default(); 2],
            learned: 0,
        }
    }

    /// How many compiles it has learned from in this run of the program.
    pub fn learned(&self) -> u64 {
        self.learned
    }

    /// How many files are known.
    pub fn files(&self) -> usize {
        self.files.young.len() + self.files.old.len()
    }

    /// What the compile is thought to need.
    pub fn predict(&self, profile: &Profile) -> Prediction {
        self.prediction(profile, self.files.get(profile.source))
    }

    fn prediction(&self, profile: &Profile, file: Option<File>) -> Prediction {
        let Some(file) = file else {
            let guess = self.guess(profile);
            return Prediction {
                cost_ms: guess.cost_ms,
                peak_bytes: guess.peak_bytes as u64,
                output_bytes: guess.output_bytes as u64,
                known: false,
            };
        };
        let growth = growth(profile, &file);
        Prediction {
            cost_ms: file.cost_ms * growth,
            peak_bytes: (file.peak_bytes * growth.max(1.0)) as u64,
            output_bytes: (file.output_bytes * growth) as u64,
            known: true,
        }
    }

    /// A guess by language and size alone.
    fn guess(&self, profile: &Profile) -> File {
        let bias = self.biases[usize::from(profile.cxx)];
        let size = profile.input_bytes as f64;
        let (base_ms, base_bytes, per_byte) = match profile.cxx {
            false => (30.0, 32e6, 20.0),
            true => (100.0, 64e6, 60.0),
        };
        File {
            // About a second per MiB of preprocessed text.
            cost_ms: (base_ms + size / 1_000.0) * bias.cost.exp(),
            peak_bytes: (base_bytes + size * per_byte) * bias.peak.exp(),
            output_bytes: (2_000.0 + size / 10.0) * bias.output.exp(),
            input_bytes: size,
            samples: 0,
        }
    }

    /// What is known of the worker that `key` stands for.
    pub fn pace(&self, key: u64) -> Option<Pace> {
        self.workers.get(key)
    }

    /// A compile came to its end, `before` being what was known of the worker, which
    /// may be out of date if it is `doubted`. Gives what is known of it now.
    pub fn learn(
        &mut self,
        profile: &Profile,
        worker: u64,
        before: Pace,
        doubted: bool,
        spent: &Spent,
    ) -> Pace {
        self.learned += 1;
        let wall_ms = spent.wall_ms.max(1.0);
        let known = self.files.get(profile.source);
        let predicted = self.prediction(profile, known);
        // What it took of a processor is the file's cost, the rest is the worker's.
        let unshared = before.speed / before.share;
        let (busy_ms, share) = match spent.share() {
            Some(share) => {
                let share = before.share * (share / before.share).powf(SHARE_WEIGHT);
                (spent.cpu_ms.min(wall_ms), share)
            }
            None => (wall_ms * before.share, before.share),
        };
        let cost_ms = busy_ms * unshared;
        let now = File {
            cost_ms,
            peak_bytes: lifted(predicted.peak_bytes, spent.peak_bytes) as f64,
            output_bytes: spent.output_bytes as f64,
            input_bytes: profile.input_bytes as f64,
            samples: 1,
        };
        if !predicted.known {
            self.learn_bias(profile, &now);
        }
        let file = match known {
            Some(file) => blend(&file, &now, growth(profile, &file)),
            None => now,
        };
        self.remember(profile.source, file);
        let weight = match predicted.known {
            true if doubted => DOUBTED_WEIGHT,
            true => SPEED_WEIGHT_MIN.max(1.0 / f64::from(before.samples.min(1_000) + 2)),
            false => {
                let worth = 4 * before.samples.min(1_000) + before.guesses.min(1_000) + 4;
                GUESS_WEIGHT.max(1.0 / f64::from(worth))
            }
        };
        let sample = (predicted.cost_ms.max(1.0) / busy_ms).clamp(SPEED_MIN, 1.0 / SPEED_MIN);
        let speed = share * unshared * (sample / unshared).powf(weight);
        let bytes = profile.travel_bytes.saturating_add(spent.output_bytes);
        let reach = match bytes >= REACH_BYTES_MIN && spent.beside_ms > 0.0 {
            // Latency and the machines' own work are in it: never too fast.
            true => before.reach * (bytes as f64 / spent.beside_ms / before.reach).powf(0.1),
            false => before.reach,
        };
        let pace = Pace {
            speed: speed.clamp(SPEED_MIN, 1.0 / SPEED_MIN),
            share,
            reach: reach.clamp(1.0, 1e7),
            samples: before.samples.saturating_add(u32::from(predicted.known)),
            guesses: before.guesses.saturating_add(u32::from(!predicted.known)),
        };
        self.workers.put(worker, pace);
        pace
    }

    /// The worker was no faster than `speed` with a compile that was given up.
    pub fn at_most(&mut self, worker: u64, before: Pace, speed: f64) -> Pace {
        let speed = speed.clamp(SPEED_MIN, before.speed);
        let pace = Pace {
            speed: before.speed * (speed / before.speed).powf(0.3),
            ..before
        };
        self.workers.put(worker, pace);
        pace
    }

    /// A compile was given up after so many milliseconds at speed 1.
    pub fn at_least(&mut self, profile: &Profile, cost_ms: f64) {
        let known = self.files.get(profile.source);
        let mut file = known.unwrap_or_else(|| self.guess(profile));
        file.cost_ms = file.cost_ms.max(cost_ms);
        file.input_bytes = profile.input_bytes as f64;
        self.remember(profile.source, file);
    }

    /// A worker ran out of memory with it, of which it had `had_bytes` (0: unknown): it
    /// needs more than that and than was thought, but is not thought to need more than
    /// `bytes_max`: what fits nowhere is not tried again, and could never show that it
    /// needs less.
    pub fn too_large(&mut self, profile: &Profile, had_bytes: u64, bytes_max: u64) {
        let predicted = self.predict(profile);
        let mut file = self
            .files
            .get(profile.source)
            .unwrap_or(self.guess(profile));
        let had_bytes = lifted(predicted.peak_bytes, had_bytes);
        let least_bytes = predicted.peak_bytes.max(had_bytes);
        let more_bytes = least_bytes as f64 * TOO_LARGE_FACTOR;
        file.peak_bytes = file.peak_bytes.max(more_bytes.min(bytes_max as f64));
        file.input_bytes = profile.input_bytes as f64;
        self.remember(profile.source, file);
    }

    /// Workers say what a compile took: what nobody could believe is cut, so that what
    /// was learned can be read again.
    fn remember(&mut self, source: u64, file: File) {
        let file = File {
            cost_ms: file.cost_ms.min(COST_MS_MAX),
            peak_bytes: file.peak_bytes.min(BYTES_MAX),
            output_bytes: file.output_bytes.min(BYTES_MAX),
            input_bytes: file.input_bytes.min(BYTES_MAX),
            ..file
        };
        self.files.put(source, file);
    }

    fn learn_bias(&mut self, profile: &Profile, now: &File) {
        let guess = self.guess(profile);
        let bias = &mut self.biases[usize::from(profile.cxx)];
        let step = |bias: &mut f64, now: f64, guess: f64| {
            if now > 0.0 && guess > 0.0 {
                *bias = (*bias + PRIOR_WEIGHT * (now / guess).ln()).clamp(-3.0, 3.0);
            }
        };
        step(&mut bias.cost, now.cost_ms, guess.cost_ms);
        step(&mut bias.peak, now.peak_bytes, guess.peak_bytes);
        step(&mut bias.output, now.output_bytes, guess.output_bytes);
    }

    /// All that was learned, to be kept.
    pub fn saved(&self) -> Saved {
        Saved {
            format: FORMAT,
            biases: self.biases,
            files: self.files.all(),
            workers: self.workers.all(),
        }
    }

    /// What [`Saved::to_bytes`] gave.
    ///
    /// # Errors
    /// It is damaged, or of another version.
    pub fn load(bytes: &[u8]) -> Result<Self, String> {
        let saved: Saved = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let workers = match saved.format {
            FORMAT => saved.workers,
            FORMAT_BEFORE => Vec::new(),
            other => return Err(format!("format {other}, not {FORMAT}")),
        };
        let well = |value: f64| value.is_finite() && (0.0..1e15).contains(&value);
        let mut predictor = Predictor::new();
        for bias in saved.biases {
            if [bias.cost, bias.peak, bias.output]
                .iter()
                .any(|b| !(-3.0..=3.0).contains(b))
            {
                return Err("a factor out of bounds".into());
            }
        }
        predictor.biases = saved.biases;
        for (key, file) in saved.files {
            let values = [
                file.cost_ms,
                file.peak_bytes,
                file.output_bytes,
                file.input_bytes,
            ];
            if !values.iter().all(|value| well(*value)) {
                return Err("a file's figures out of bounds".into());
            }
            predictor.files.put(key, file);
        }
        for (key, pace) in workers {
            if !(SPEED_MIN..=1.0 / SPEED_MIN).contains(&pace.speed)
                || !(1.0..=1e7).contains(&pace.reach)
                || !(SHARE_MIN..=1.0).contains(&pace.share)
            {
                return Err("a worker's figures out of bounds".into());
            }
            predictor.workers.put(key, pace);
        }
        Ok(predictor)
    }
}

/// `said_bytes`, as far as one worker's word lifts what was thought before.
fn lifted(thought_bytes: u64, said_bytes: u64) -> u64 {
    let most_bytes = thought_bytes.saturating_mul(LIFT_FACTOR);
    said_bytes.min(most_bytes.max(LIFT_BYTES_MIN))
}

/// How much larger the file is than when it was learned.
fn growth(profile: &Profile, file: &File) -> f64 {
    let ratio = (profile.input_bytes as f64 + 1_000.0) / (file.input_bytes + 1_000.0);
    ratio.clamp(1.0 / GROWTH_MAX, GROWTH_MAX)
}

fn blend(old: &File, now: &File, growth: f64) -> File {
    let samples = old.samples.saturating_add(1);
    let weight = FILE_WEIGHT_MIN.max(1.0 / f64::from(samples.max(1)));
    let mean = |old: f64, now: f64| old * growth * (1.0 - weight) + now * weight;
    let peak_bytes = match now.peak_bytes {
        unmeasured if unmeasured <= 0.0 => old.peak_bytes,
        // Too little is worse than too much: up at once, down slowly.
        peak => peak.max(mean(old.peak_bytes, peak)),
    };
    File {
        cost_ms: mean(old.cost_ms, now.cost_ms),
        peak_bytes,
        output_bytes: mean(old.output_bytes, now.output_bytes),
        input_bytes: now.input_bytes,
        samples,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(source: u64) -> Profile {
        Profile {
            source,
            cxx: true,
            input_bytes: 500_000,
            travel_bytes: 100_000,
        }
    }

    fn spent(wall_ms: f64) -> Spent {
        Spent {
            wall_ms,
            cpu_ms: 0.0,
            peak_bytes: 200 << 20,
            output_bytes: 50_000,
            beside_ms: 12.0,
        }
    }

    #[test]
    fn a_file_is_known_after_one_compile() {
        let mut predictor = Predictor::new();
        assert!(!predictor.predict(&profile(1)).known);
        predictor.learn(&profile(1), 7, Pace::guess(1.0), false, &spent(800.0));
        let prediction = predictor.predict(&profile(1));
        assert!(prediction.known);
        assert_eq!(prediction.cost_ms, 800.0);
        assert_eq!(prediction.peak_bytes, 200 << 20);
        assert!(!predictor.predict(&profile(2)).known);
    }

    #[test]
    fn guesses_follow_what_was_seen() {
        let mut predictor = Predictor::new();
        let before = predictor.predict(&profile(0)).cost_ms;
        for source in 1..200 {
            predictor.learn(
                &profile(source),
                7,
                Pace::guess(1.0),
                false,
                &spent(before * 5.0),
            );
        }
        let after = predictor.predict(&profile(0)).cost_ms;
        assert!((after / before / 5.0 - 1.0).abs() < 0.1, "{before} {after}");
    }

    #[test]
    fn a_slow_worker_is_found_out() {
        let mut predictor = Predictor::new();
        let fast = Pace::guess(1.0);
        for source in 0..20 {
            predictor.learn(&profile(source), 1, fast, false, &spent(500.0));
        }
        let mut slow = Pace::guess(1.0);
        for source in 0..20 {
            slow = predictor.learn(&profile(source), 2, slow, false, &spent(5_000.0));
        }
        assert!((0.05..0.3).contains(&slow.speed), "{slow:?}");
        assert_eq!(predictor.pace(2), Some(slow));
    }

    #[test]
    fn a_throttled_worker_is_found_out_by_files_that_nobody_knows() {
        let mut predictor = Predictor::new();
        let mut throttled = Pace::guess(1.0);
        let spent = Spent {
            cpu_ms: 100.0,
            ..spent(1_000.0)
        };
        for source in 0..3 {
            throttled = predictor.learn(&profile(source), 2, throttled, false, &spent);
            // The time that others had is not the file's.
            let cost_ms = predictor.predict(&profile(source)).cost_ms;
            assert!((50.0..250.0).contains(&cost_ms), "{cost_ms}");
        }
        assert!(throttled.speed < 0.4, "{throttled:?}");
        // What sleeps took no processor, and says nothing of it.
        let slept = Spent {
            cpu_ms: 1.0,
            ..spent
        };
        let pace = predictor.learn(&profile(9), 3, Pace::guess(1.0), false, &slept);
        assert_eq!(pace.share, 1.0);
        assert_eq!(predictor.predict(&profile(9)).cost_ms, 1_000.0);
    }

    #[test]
    fn memory_goes_up_at_once_and_down_slowly() {
        let mut predictor = Predictor::new();
        let pace = Pace::guess(1.0);
        let with = |peak_bytes| Spent {
            peak_bytes,
            ..spent(100.0)
        };
        for peak in [100 << 20, 400 << 20] {
            predictor.learn(&profile(1), 1, pace, false, &with(peak));
            assert_eq!(predictor.predict(&profile(1)).peak_bytes, peak);
        }
        predictor.learn(&profile(1), 1, pace, false, &with(100 << 20));
        assert!(predictor.predict(&profile(1)).peak_bytes > 250 << 20);
        let before = predictor.predict(&profile(1)).peak_bytes;
        predictor.too_large(&profile(1), 0, 8 << 30);
        assert!(predictor.predict(&profile(1)).peak_bytes > before);
        predictor.too_large(&profile(1), 2 << 30, 8 << 30);
        assert_eq!(predictor.predict(&profile(1)).peak_bytes, 3 << 30);
        predictor.too_large(&profile(1), u64::MAX, 8 << 30);
        assert_eq!(predictor.predict(&profile(1)).peak_bytes, 8 << 30);
        for _ in 0..100 {
            predictor.too_large(&profile(1), 0, 8 << 30);
        }
        assert_eq!(predictor.predict(&profile(1)).peak_bytes, 8 << 30);
    }

    #[test]
    fn one_workers_word_lifts_memory_step_by_step() {
        let mut predictor = Predictor::new();
        let pace = Pace::guess(1.0);
        let lies = Spent {
            peak_bytes: u64::MAX,
            ..spent(100.0)
        };
        let mut before = LIFT_BYTES_MIN;
        for source in [1, 2] {
            let mut steps = 0;
            while predictor.predict(&profile(source)).peak_bytes < 1 << 40 {
                match source {
                    1 => {
                        predictor.learn(&profile(source), 1, pace, false, &lies);
                    }
                    _ => predictor.too_large(&profile(source), u64::MAX, u64::MAX),
                }
                let after = predictor.predict(&profile(source)).peak_bytes;
                let factor = LIFT_FACTOR as f64 * TOO_LARGE_FACTOR;
                let most = before.max(LIFT_BYTES_MIN) as f64 * factor;
                assert!(after as f64 <= most, "{source}: from {before} to {after}");
                before = after;
                steps += 1;
            }
            assert!(steps >= 4, "{source}: {steps}");
            before = LIFT_BYTES_MIN;
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_used_stays() {
        let mut predictor = Predictor::new();
        let pace = Pace::guess(1.0);
        for source in 0..3 * PREDICTED_FILES_MAX as u64 {
            predictor.learn(&profile(source), source, pace, false, &spent(1.0));
            predictor.learn(&profile(u64::MAX), 1, pace, false, &spent(1.0));
            assert!(predictor.files() <= PREDICTED_FILES_MAX);
        }
        assert!(predictor.predict(&profile(u64::MAX)).known);
        assert!(!predictor.predict(&profile(0)).known);
        assert!(predictor.workers.all().len() <= PREDICTED_WORKERS_MAX);
    }

    #[test]
    fn it_survives_a_restart_and_refuses_garbage() {
        let mut predictor = Predictor::new();
        let pace = predictor.learn(&profile(1), 2, Pace::guess(0.5), false, &spent(300.0));
        let bytes = predictor.saved().to_bytes();
        let again = Predictor::load(&bytes).unwrap();
        assert_eq!(again.predict(&profile(1)), predictor.predict(&profile(1)));
        assert_eq!(again.pace(2), Some(pace));
        assert!(Predictor::load(b"").is_err());
        assert!(Predictor::load(&bytes[..bytes.len() / 2]).is_err());
        let text = String::from_utf8(bytes).unwrap();
        assert!(Predictor::load(text.replace("\"format\":2", "\"format\":3").as_bytes()).is_err());
        // What an earlier release wrote: its workers were anybody's.
        let earlier = text.replace("\"format\":2", "\"format\":1");
        let earlier = Predictor::load(earlier.as_bytes()).unwrap();
        assert_eq!(earlier.predict(&profile(1)), predictor.predict(&profile(1)));
        assert_eq!(earlier.pace(2), None);
        assert!(Predictor::load(text.replace("\"speed\":0.", "\"speed\":-0.").as_bytes()).is_err());
    }

    #[test]
    fn what_nobody_could_believe_does_not_spoil_what_was_learned() {
        let mut predictor = Predictor::new();
        let lies = Spent {
            wall_ms: 1e300,
            cpu_ms: 1e300,
            peak_bytes: u64::MAX,
            output_bytes: u64::MAX,
            beside_ms: 1e300,
        };
        predictor.learn(&profile(1), 2, Pace::guess(1.0), false, &lies);
        predictor.learn(&profile(1), 2, Pace::guess(1.0), false, &lies);
        predictor.at_least(&profile(1), f64::MAX);
        assert!(Predictor::load(&predictor.saved().to_bytes()).is_ok());
    }

    #[test]
    fn a_workers_key_is_its_holders() {
        assert_eq!(worker_key("a", "pi"), worker_key("a", "pi"));
        assert_ne!(worker_key("a", "pi"), worker_key("b", "pi"));
        assert_ne!(worker_key("a", "pi"), worker_key("ap", "i"));
        assert_ne!(worker_key("", "pi"), worker_key("pi", ""));
    }

    #[test]
    fn a_key_knows_no_folder() {
        let (gcc, clang) = (Digest::of(b"gcc"), Digest::of(b"clang"));
        let flags = [b"-O2".to_vec(), b"-DX=1".to_vec()];
        let key = source_key("/home/a/p/src/x.c", &gcc, &flags);
        assert_eq!(key, source_key("../src/x.c", &gcc, &flags[..1]));
        assert_ne!(key, source_key("y.c", &gcc, &flags));
        assert_ne!(key, source_key("x.c", &clang, &flags));
        assert_ne!(key, source_key("x.c", &gcc, &flags[1..]));
    }
}
