//! What is counted, for Prometheus.

use hg_proto::v1::failure::Code;
use hg_proto::wire::failure::{CODES, outcome};
use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

/// Seconds.
const QUEUE_BUCKETS: [f64; 9] = [0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 15.0, 30.0];
/// Seconds.
const TASK_BUCKETS: [f64; 10] = [0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0];

/// Every number that the coordinator counts.
pub struct Metrics {
    registry: Registry,
    /// Workers that are there.
    pub workers: IntGauge,
    /// Their slots, by state: busy, free.
    pub slots: IntGaugeVec,
    /// Tasks that wait for a slot.
    pub queue_length: IntGauge,
    /// Tasks by how they ended: see [`outcome`]; `ok`, `compile_error`.
    pub tasks: IntCounterVec,
    /// Seconds that a task waited before its last attempt.
    pub task_queue_seconds: Histogram,
    /// Seconds of a good attempt.
    pub task_seconds: Histogram,
    /// Bytes relayed, by direction: to_worker, to_client.
    pub bytes: IntCounterVec,
    /// Connections that were ended by us, by reason.
    pub dropped: IntCounterVec,
    /// Tokens and certificates that were not good enough, by reason.
    pub refused: IntCounterVec,
    /// Attempts beyond a task's first.
    pub retries: IntCounter,
    /// Attempts begun beside a straggler.
    pub hedges: IntCounter,
    /// Circuit breakers by worker: 0 closed, 1 half-open, 2 open.
    pub circuit_state: IntGaugeVec,
    /// Compiles that clients' caches answered.
    pub cache_hits: IntCounter,
}

/// Tasks by how they ended.
pub struct Ended {
    /// With a compiler's answer.
    pub finished: u64,
    /// Without one.
    pub failed: u64,
    /// Their clients went away or asked for no more.
    pub cancelled: u64,
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    // Names and labels are constants of this file: a clash is a mistake in it,
    // and every test that starts a coordinator would see it.
    let collector = made.expect("a metric's name is well formed");
    registry
        .register(Box::new(collector.clone()))
        .expect("a metric's name is used once");
    collector
}

impl Metrics {
    /// All zero.
    pub fn new() -> Self {
        let r = Registry::new();
        let counter = |name: &str, help: &str| add(&r, IntCounter::new(name, help));
        let counters = |name: &str, help: &str, label: &str| {
            add(&r, IntCounterVec::new(Opts::new(name, help), &[label]))
        };
        let gauge = |name: &str, help: &str| add(&r, IntGauge::new(name, help));
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            add(&r, Histogram::with_opts(opts))
        };
        let slots = Opts::new("hybridgrid_slots", "Slots of all workers.");
        let circuit = Opts::new(
            "hybridgrid_circuit_state",
            "Circuit breaker of a worker: 0 closed, 1 half-open, 2 open.",
        );
        let build = Opts::new("hybridgrid_build_info", "Always 1; the version is a label.");
        let build = add(&r, IntGaugeVec::new(build, &["program", "version"]));
        build
            .with_label_values(&["hg-coord", env!("CARGO_PKG_VERSION")])
            .set(1);
        Metrics {
            workers: gauge("hybridgrid_workers", "Workers that are connected."),
            slots: add(&r, IntGaugeVec::new(slots, &["state"])),
            queue_length: gauge("hybridgrid_queue_length", "Tasks that wait for a slot."),
            tasks: counters("hybridgrid_tasks_total", "Tasks that ended.", "outcome"),
            task_queue_seconds: histogram(
                "hybridgrid_task_queue_seconds",
                "Wait for a slot.",
                &QUEUE_BUCKETS,
            ),
            task_seconds: histogram(
                "hybridgrid_task_seconds",
                "From dispatch to result, good attempts.",
                &TASK_BUCKETS,
            ),
            bytes: counters(
                "hybridgrid_bytes_total",
                "Bytes of blobs relayed.",
                "direction",
            ),
            dropped: counters(
                "hybridgrid_connections_dropped_total",
                "Connections that the coordinator ended.",
                "reason",
            ),
            refused: counters(
                "hybridgrid_refused_total",
                "Who was not let in: tokens and certificates that are not good enough.",
                "reason",
            ),
            retries: counter(
                "hybridgrid_retries_total",
                "Attempts beyond a task's first.",
            ),
            hedges: counter(
                "hybridgrid_hedges_total",
                "Attempts begun beside one that took too long.",
            ),
            circuit_state: add(&r, IntGaugeVec::new(circuit, &["worker"])),
            cache_hits: counter(
                "hybridgrid_cache_hits_reported_total",
                "Compiles that clients answered from their own caches.",
            ),
            registry: r,
        }
    }

    /// Counts a connection that was ended by us.
    pub fn drop_connection(&self, reason: &str) {
        self.dropped.with_label_values(&[reason]).inc();
    }

    /// How tasks have ended.
    pub fn ended(&self) -> Ended {
        let count = |outcome: &str| self.tasks.with_label_values(&[outcome]).get();
        let failed = CODES.iter().filter(|code| **code != Code::Cancelled);
        Ended {
            finished: count("ok") + count("compile_error"),
            failed: failed.map(|code| count(outcome(*code))).sum(),
            cancelled: count(outcome(Code::Cancelled)),
        }
    }

    /// The text that Prometheus scrapes.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // Writing to memory fails only for an inconsistent metric; then say less.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
