//! What is to be compiled, by whom and when. Costs are long-tailed, as those of
//! real projects are: most files take a second, a few take a minute.

use fastrand::Rng;

/// Milliseconds at speed 1 that no compile exceeds.
const COST_MS_MAX: f64 = 60_000.0;
/// Standard deviation of the logarithm of costs.
const SIGMA: f64 = 1.1;

/// A source file.
#[derive(Debug, Clone)]
pub struct Source {
    /// Milliseconds at speed 1.
    pub cost_ms: f64,
    /// Bytes of memory at its peak.
    pub peak_bytes: u64,
    /// Bytes of preprocessed text.
    pub input_bytes: u64,
    /// The same as they travel.
    pub travel_bytes: u64,
    /// Bytes of its object as they travel.
    pub output_bytes: u64,
}

/// When a client wants its compiles.
#[derive(Debug, Clone)]
pub enum Arrivals {
    /// `make -jN`: so many at once, the next when one has ended.
    Closed(usize),
    /// At these times, in microseconds, one each.
    Open(Vec<u64>),
}

/// A client and what it wants compiled, by the sources' numbers.
#[derive(Debug, Clone)]
pub struct Client {
    /// When.
    pub arrivals: Arrivals,
    /// What.
    pub sources: Vec<usize>,
}

/// A normally distributed number (Box and Muller, 1958).
pub fn normal(random: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.f64()).cos()
}

/// So many files with this mean cost in milliseconds.
pub fn sources(count: usize, mean_ms: f64, random: &mut Rng) -> Vec<Source> {
    let middle = mean_ms.ln() - SIGMA * SIGMA / 2.0;
    let mut one = |_| {
        let cost_ms = (middle + SIGMA * normal(random))
            .exp()
            .clamp(20.0, COST_MS_MAX);
        let around = |random: &mut Rng, value: f64| value * (0.4 * normal(random)).exp();
        let input_bytes = around(random, 100_000.0 + 400.0 * cost_ms);
        Source {
            cost_ms,
            peak_bytes: around(random, 5e7 + 4e4 * cost_ms).min(1.5e9) as u64,
            input_bytes: input_bytes as u64,
            travel_bytes: (input_bytes / 6.0) as u64,
            output_bytes: around(random, 5_000.0 + 20.0 * cost_ms) as u64,
        }
    };
    (0..count).map(&mut one).collect()
}

/// Mean cost in milliseconds.
pub fn mean_ms(sources: &[Source]) -> f64 {
    sources.iter().map(|source| source.cost_ms).sum::<f64>() / sources.len() as f64
}

fn drawn(count: usize, sources: &[Source], random: &mut Rng) -> Vec<usize> {
    (0..count).map(|_| random.usize(..sources.len())).collect()
}

/// Each client's compiles come by themselves, at times drawn at random (Poisson),
/// all together `work` milliseconds at speed 1 per millisecond.
pub fn poisson(
    clients: usize,
    tasks: usize,
    work: f64,
    sources: &[Source],
    random: &mut Rng,
) -> Vec<Client> {
    let gap_us = mean_ms(sources) / work * 1e3;
    let mut made = nobody(clients);
    let mut at_us = 0.0;
    for source in drawn(tasks, sources, random) {
        at_us += -(1.0 - random.f64()).ln() * gap_us;
        add(&mut made[random.usize(..clients)], source, at_us as u64);
    }
    made
}

/// The same, but each client's come `burst` at a time.
pub fn bursts(
    clients: usize,
    tasks: usize,
    burst: usize,
    work: f64,
    sources: &[Source],
    random: &mut Rng,
) -> Vec<Client> {
    let gap_us = burst as f64 * mean_ms(sources) / work * 1e3;
    let mut made = nobody(clients);
    let mut at_us = 0.0;
    for sources in drawn(tasks, sources, random).chunks(burst) {
        at_us += -(1.0 - random.f64()).ln() * gap_us;
        let client = &mut made[random.usize(..clients)];
        for source in sources {
            add(client, *source, at_us as u64);
        }
    }
    made
}

fn nobody(clients: usize) -> Vec<Client> {
    let one = Client {
        arrivals: Arrivals::Open(Vec::new()),
        sources: Vec::new(),
    };
    vec![one; clients]
}

fn add(client: &mut Client, source: usize, at_us: u64) {
    client.sources.push(source);
    if let Arrivals::Open(times) = &mut client.arrivals {
        times.push(at_us);
    }
}

/// `make -jN`, by each client.
pub fn builds(
    clients: usize,
    jobs: usize,
    tasks: usize,
    sources: &[Source],
    random: &mut Rng,
) -> Vec<Client> {
    let mut one = |_| Client {
        arrivals: Arrivals::Closed(jobs),
        sources: drawn(tasks, sources, random),
    };
    (0..clients).map(&mut one).collect()
}
