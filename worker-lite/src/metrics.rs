//! Metrics of the worker, for Prometheus. Unaware of HTTP.

use std::sync::atomic::{AtomicBool, Ordering};

use hg_proto::v1::failure::Code;
use hg_proto::wire::outcome::outcome;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};

/// Upper bounds of the histogram of compile times, in seconds.
const COMPILE_SECONDS: [f64; 12] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0,
];

/// All counters and gauges of a worker.
pub struct Metrics {
    registry: Registry,
    tasks: IntCounterVec,
    /// Inputs of tasks that were here, and that had to come.
    cache_hits: IntCounter,
    cache_misses: IntCounter,
    /// Compiles that have a slot.
    pub running: IntGauge,
    /// Slots that the worker offers.
    pub slots: IntGauge,
    /// Slots that the machine can run at once now.
    pub slots_now: IntGauge,
    /// Toolchains that are offered.
    pub toolchains: IntGauge,
    /// Bytes that came from the coordinator.
    pub bytes_in: IntCounter,
    /// Bytes that went to the coordinator.
    pub bytes_out: IntCounter,
    /// 1 while the coordinator has said welcome.
    pub connected: IntGauge,
    /// Links that ended or could not be made.
    pub reconnects: IntCounter,
    /// Wall time of compilers.
    pub compile_seconds: Histogram,
    /// The worker takes no more tasks.
    pub draining: AtomicBool,
}

impl Metrics {
    /// All at zero.
    ///
    /// # Errors
    /// A metric's name or help is malformed.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(format!("hybridgrid_worker_{name}"), help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(format!("hybridgrid_{name}"), help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let tasks = IntCounterVec::new(
            Opts::new("hybridgrid_tasks_total", "Tasks by how they ended."),
            &["outcome"],
        )?;
        registry.register(Box::new(tasks.clone()))?;
        let compile_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "hybridgrid_task_duration_seconds",
                "Wall time of compilers that ended.",
            )
            .buckets(COMPILE_SECONDS.to_vec()),
        )?;
        registry.register(Box::new(compile_seconds.clone()))?;
        let build = Opts::new("hybridgrid_build_info", "Always 1; labels say which build.")
            .const_label("program", "hg-worker-lite")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        let build = IntGauge::with_opts(build)?;
        build.set(1);
        registry.register(Box::new(build))?;
        Ok(Metrics {
            tasks,
            cache_hits: counter("cache_hits_total", "Inputs of tasks that were here.")?,
            cache_misses: counter("cache_misses_total", "Inputs of tasks that had to come.")?,
            running: gauge("running", "Compiles that have a slot.")?,
            slots: gauge("slots", "Slots there are.")?,
            slots_now: gauge("slots_now", "Slots that the machine bears now.")?,
            toolchains: gauge("toolchains", "Toolchains offered.")?,
            bytes_in: counter("worker_received_bytes_total", "Bytes from the coordinator.")?,
            bytes_out: counter("worker_sent_bytes_total", "Bytes to the coordinator.")?,
            connected: gauge("connected", "1 while linked to the coordinator.")?,
            reconnects: counter("worker_reconnects_total", "Links lost or not made.")?,
            compile_seconds,
            draining: AtomicBool::new(false),
            registry,
        })
    }

    /// Counts the inputs of a task, of which `missing` had to come.
    pub fn count_inputs(&self, all: usize, missing: usize) {
        self.cache_hits.inc_by(all.saturating_sub(missing) as u64);
        self.cache_misses.inc_by(missing as u64);
    }

    /// Counts a task that ended well.
    pub fn count_done(&self) {
        self.tasks.with_label_values(&["done"]).inc();
    }

    /// Counts a task that failed with `code`, as it is on the wire.
    pub fn count_failure(&self, code: i32) {
        let code = Code::try_from(code).unwrap_or(Code::Unspecified);
        let label = outcome(code);
        self.tasks.with_label_values(&[label]).inc();
    }

    /// Whether the worker takes tasks.
    pub fn is_healthy(&self) -> bool {
        !self.draining.load(Ordering::Relaxed)
    }

    /// All metrics in Prometheus's text format.
    ///
    /// # Errors
    /// A metric can't be written.
    pub fn text(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
