//! The coordinator's metrics, for Prometheus.

use std::collections::BTreeMap;
use std::sync::Arc;

use hg_proto::v1;
use hg_proto::v1::failure::Code;
use hg_proto::wire::outcome::{CODES, outcome};
use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter,
    IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Upper bounds of the histogram of waits, in seconds.
const QUEUE_BUCKETS: [f64; 9] = [0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 15.0, 30.0];
/// Upper bounds of the histogram of attempts, in seconds.
const TASK_BUCKETS: [f64; 10] = [0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0];

/// Upper bounds of the histogram of looks into the cache backend, in seconds.
const BACKEND_BUCKETS: [f64; 9] = [0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25];

/// What is counted of the cache backend.
#[derive(Clone)]
pub struct BackendMetrics {
    /// Looks, by outcome: hit, miss, rejected, failed, timeout, skipped.
    pub requests: IntCounterVec,
    /// What was found and counts as none, by reason: not-authentic, not-an-entry, too-large,
    /// void.
    pub rejected: IntCounterVec,
    /// Results that were to be put there, by outcome: ok, failed, dropped.
    pub writes: IntCounterVec,
    /// Bytes of entries, by direction: read, written.
    pub bytes: IntCounterVec,
    /// Looks that were answered.
    pub read_seconds: Histogram,
    /// By where it is: 1 while it is asked, 0 while it is left alone.
    pub up: IntGaugeVec,
}

/// Every number that the coordinator counts.
pub struct Metrics {
    registry: Registry,
    /// Workers that are connected.
    workers: IntGauge,
    /// Workers that have joined.
    pub workers_joined: IntCounter,
    /// Slots of all workers, by state: busy, free.
    slots: IntGaugeVec,
    /// Tasks that wait for a slot.
    queue_length: IntGauge,
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
    circuit_state: IntGaugeVec,
    /// Results that clients compiled once more by themselves, by result: same, different.
    pub audits: IntCounterVec,
    /// Results that a second worker, which idled, compiled too, by result: same, different.
    pub idle_audits: IntCounterVec,
    /// Results that were another object than the client's own.
    pub audit_mismatches: IntCounter,
    /// Compiles that clients' caches were asked for, answered, and did not.
    cache_requests: IntCounter,
    pub cache_hits: IntCounter,
    pub cache_misses: IntCounter,
    /// Compiler time that clients' caches saved.
    pub cache_saved_seconds: Counter,
    /// Tasks that were looked up among the results that are kept, by outcome: hit, miss, or shared with
    /// one who asked for the same at the same time.
    pub result_requests: IntCounterVec,
    /// Results that were kept, that went for younger ones, and that could not be kept.
    pub results_kept: IntCounter,
    pub results_evicted: IntCounter,
    pub results_failed: IntCounter,
    /// Of where results are kept beyond this machine.
    pub backend: BackendMetrics,
    /// What became of tasks, and was not exported.
    pub spans_dropped: IntCounter,
    /// Attempts begun beside a straggler that were first.
    pub hedges_won: IntCounter,
    /// Attempts that ended without a compiler's answer, by whose fault it was.
    failures: IntCounterVec,
    /// Compiles of builds that ran on their clients' machines, by reason, and their time.
    fallbacks: IntCounterVec,
    fallback_seconds: CounterVec,
    /// Bytes of inputs that attempts named.
    pub input_bytes: IntCounter,
    /// Live sockets of dashboards that are open.
    pub live_sockets: IntGauge,
    start_time_seconds: Gauge,
    wanted_slots: IntGaugeVec,
    of_workers: OfWorkers,
}

/// Numbers of each worker that is connected, by its listed name.
struct OfWorkers {
    slots_offered: IntGaugeVec,
    slots_busy: IntGaugeVec,
    speed_ratio: GaugeVec,
    round_trip_seconds: GaugeVec,
    load1: GaugeVec,
    memory_bytes: IntGaugeVec,
    memory_available_bytes: IntGaugeVec,
    temperature_celsius: GaugeVec,
    info: IntGaugeVec,
}

/// Tasks by how they ended.
pub struct EndedTasks {
    /// Tasks that ended with a compiler's answer.
    pub finished: u64,
    /// Tasks that ended without a compiler's answer.
    pub failed: u64,
    /// Tasks whose clients went away or asked for no more.
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
    /// Metrics that are all zero.
    pub fn new() -> Self {
        let r = Registry::new();
        let of_worker = |name: &str, help: &str| {
            let opts = Opts::new(format!("hybridgrid_worker_{name}"), help);
            add(&r, IntGaugeVec::new(opts, &["worker"]))
        };
        let float_of_worker = |name: &str, help: &str| {
            let opts = Opts::new(format!("hybridgrid_worker_{name}"), help);
            add(&r, GaugeVec::new(opts, &["worker"]))
        };
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
        let backend_up = Opts::new(
            "hybridgrid_cache_backend_up",
            "1 while the cache backend is asked, 0 while it is left alone since it fails.",
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
                "hybridgrid_task_duration_seconds",
                "From dispatch to result, attempts that ended with a compiler's answer.",
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
            audits: counters(
                "hybridgrid_audits_total",
                "Results that clients compiled once more by themselves.",
                "result",
            ),
            idle_audits: counters(
                "hybridgrid_idle_audits_total",
                "Results that a second worker, which idled, compiled too.",
                "result",
            ),
            audit_mismatches: counter(
                "hybridgrid_audit_mismatches_total",
                "Results that were another object than the client's own compiler makes.",
            ),
            workers_joined: counter(
                "hybridgrid_workers_total",
                "Workers that have joined since the start, each time that they did.",
            ),
            result_requests: counters(
                "hybridgrid_result_cache_requests_total",
                "Tasks that were looked up among the results that the coordinator keeps.",
                "outcome",
            ),
            results_kept: counter(
                "hybridgrid_result_cache_kept_total",
                "Results that the coordinator has kept.",
            ),
            results_evicted: counter(
                "hybridgrid_result_cache_evicted_total",
                "Kept results that went to make room for younger ones.",
            ),
            results_failed: counter(
                "hybridgrid_result_cache_errors_total",
                "Results that could not be kept, since the disk can't be written or is full.",
            ),
            backend: BackendMetrics {
                requests: counters(
                    "hybridgrid_cache_backend_requests_total",
                    "Tasks that were looked up in the cache backend.",
                    "outcome",
                ),
                rejected: counters(
                    "hybridgrid_cache_backend_rejected_total",
                    "What the cache backend had and counts as none.",
                    "reason",
                ),
                writes: counters(
                    "hybridgrid_cache_backend_writes_total",
                    "Results that were to be put into the cache backend.",
                    "outcome",
                ),
                bytes: counters(
                    "hybridgrid_cache_backend_bytes_total",
                    "Bytes of results to and from the cache backend.",
                    "direction",
                ),
                read_seconds: histogram(
                    "hybridgrid_cache_backend_read_seconds",
                    "Looks into the cache backend that it answered.",
                    &BACKEND_BUCKETS,
                ),
                up: add(&r, IntGaugeVec::new(backend_up, &["backend"])),
            },
            cache_requests: counter(
                "hybridgrid_cache_requests_total",
                "Compiles that clients' own caches were asked for, as they report.",
            ),
            cache_hits: counter(
                "hybridgrid_cache_hits_total",
                "Compiles that clients answered from their own caches, as they report.",
            ),
            cache_misses: counter(
                "hybridgrid_cache_misses_total",
                "Compiles that clients' own caches had no answer for, as they report.",
            ),
            cache_saved_seconds: add(
                &r,
                Counter::new(
                    "hybridgrid_cache_saved_seconds_total",
                    "Compiler time that clients' own caches saved, as they report.",
                ),
            ),
            spans_dropped: counter(
                "hybridgrid_spans_dropped_total",
                "Tasks whose spans a collector of traces did not take, or not in time.",
            ),
            hedges_won: counter(
                "hybridgrid_hedges_won_total",
                "Attempts begun beside one that took too long that were first.",
            ),
            failures: counters(
                "hybridgrid_failures_total",
                "Attempts that ended without a compiler's answer, by whose fault it was.",
                "fault",
            ),
            fallbacks: counters(
                "hybridgrid_fallbacks_total",
                "Compiles of builds that ran on their clients' machines, as builds report at their end.",
                "reason",
            ),
            fallback_seconds: add(
                &r,
                CounterVec::new(
                    Opts::new(
                        "hybridgrid_fallback_seconds_total",
                        "What these compiles took there.",
                    ),
                    &["reason"],
                ),
            ),
            input_bytes: counter(
                "hybridgrid_input_bytes_total",
                "Bytes of inputs that attempts named; what workers had of them did not travel.",
            ),
            live_sockets: gauge("hybridgrid_live_sockets", "Open live pages."),
            start_time_seconds: add(
                &r,
                Gauge::new(
                    "hybridgrid_start_time_seconds",
                    "When the coordinator started, since the Unix epoch.",
                ),
            ),
            wanted_slots: add(
                &r,
                IntGaugeVec::new(
                    Opts::new(
                        "hybridgrid_wanted_slots",
                        "Slots that tasks would take if there were enough, by toolchain.",
                    ),
                    &["toolchain"],
                ),
            ),
            of_workers: OfWorkers {
                slots_offered: of_worker("slots_offered", "Slots that its machine bears now."),
                slots_busy: of_worker("slots_busy", "Slots of it that are taken."),
                speed_ratio: float_of_worker("speed_ratio", "Speed of a core, 1 is a reference core."),
                round_trip_seconds: float_of_worker(
                    "round_trip_seconds",
                    "From a heartbeat to its answer, the last one.",
                ),
                load1: float_of_worker("load1", "One-minute load average of its machine."),
                memory_bytes: of_worker("memory_bytes", "Memory of its machine."),
                memory_available_bytes: of_worker(
                    "memory_available_bytes",
                    "Memory of its machine that is free for use.",
                ),
                temperature_celsius: float_of_worker(
                    "temperature_celsius",
                    "Hottest thermal zone of its machine, where it has one.",
                ),
                info: add(
                    &r,
                    IntGaugeVec::new(
                        Opts::new("hybridgrid_worker_info", "Always 1; labels say what it is."),
                        &["worker", "version", "architecture", "os", "sandbox"],
                    ),
                ),
            },
            registry: r,
        }
        .with_zeroes()
    }

    /// Names each value of the labels that are known, so that a rate is none of nothing
    /// before the first of them is counted.
    fn with_zeroes(self) -> Self {
        let zeroes = |counters: &IntCounterVec, labels: &[&str]| {
            for label in labels {
                counters.with_label_values(&[*label]);
            }
        };
        zeroes(&self.tasks, &["ok", "compile_error"]);
        zeroes(&self.tasks, &CODES.map(outcome));
        zeroes(&self.failures, &CODES.map(fault));
        zeroes(&self.bytes, &["to_worker", "to_client"]);
        zeroes(&self.audits, &["same", "different"]);
        zeroes(&self.idle_audits, &["same", "different"]);
        self.fell_back("other", 0, 0);
        self
    }

    /// Counts what a client reports of its cache.
    pub fn cache_reported(&self, hits: u64, misses: u64, saved_ms: u64) {
        self.cache_requests.inc_by(hits + misses);
        self.cache_hits.inc_by(hits);
        self.cache_misses.inc_by(misses);
        self.cache_saved_seconds.inc_by(saved_ms as f64 / 1e3);
    }

    /// Counts compiles of a build that ran on its client's machine.
    pub fn fell_back(&self, reason: &str, compiles: u64, lost_ms: u64) {
        let count = self.fallbacks.with_label_values(&[reason]);
        count.inc_by(compiles);
        let seconds = self.fallback_seconds.with_label_values(&[reason]);
        seconds.inc_by(lost_ms as f64 / 1e3);
    }

    /// Counts attempts that ended without a compiler's answer.
    pub fn attempts_failed(&self, code: Code, count: u64) {
        let failures = self.failures.with_label_values(&[fault(code)]);
        failures.inc_by(count);
    }

    /// Sets all that is as of now; `wanted` are slots by toolchain.
    pub fn set(
        &self,
        status: &v1::GetStatusResponse,
        workers: &[v1::Worker],
        wanted: &BTreeMap<Arc<str>, u64>,
    ) {
        let free = status.slots_now().saturating_sub(status.slots_busy);
        self.workers.set(i64::from(status.workers));
        for (state, slots) in [("busy", status.slots_busy), ("free", free)] {
            let gauge = self.slots.with_label_values(&[state]);
            gauge.set(i64::from(slots));
        }
        self.queue_length.set(i64::from(status.queued));
        let start_ms = status.now_unix_ms.saturating_sub(status.uptime_ms);
        self.start_time_seconds.set(start_ms as f64 / 1e3);
        self.wanted_slots.reset();
        for (toolchain, slots) in wanted {
            let gauge = self.wanted_slots.with_label_values(&[toolchain]);
            gauge.set(whole(*slots));
        }
        self.circuit_state.reset();
        for worker in workers {
            let circuit = match worker.circuit.as_str() {
                "open" => 2,
                "half-open" => 1,
                _ => 0,
            };
            let gauge = self.circuit_state.with_label_values(&[&worker.id]);
            gauge.set(circuit);
        }
        self.of_workers.set(workers);
    }

    /// Counts a connection that was ended by us.
    pub fn drop_connection(&self, reason: &str) {
        self.dropped.with_label_values(&[reason]).inc();
    }

    /// How tasks have ended.
    pub fn ended(&self) -> EndedTasks {
        let count = |outcome: &str| self.tasks.with_label_values(&[outcome]).get();
        let failed = CODES.iter().filter(|code| **code != Code::Cancelled);
        EndedTasks {
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

impl OfWorkers {
    fn set(&self, workers: &[v1::Worker]) {
        self.info.reset();
        let whole_numbers = [
            &self.slots_offered,
            &self.slots_busy,
            &self.memory_bytes,
            &self.memory_available_bytes,
        ];
        whole_numbers.iter().for_each(|gauge| gauge.reset());
        let others = [
            &self.speed_ratio,
            &self.round_trip_seconds,
            &self.load1,
            &self.temperature_celsius,
        ];
        others.iter().for_each(|gauge| gauge.reset());
        for worker in workers {
            let name = &[worker.id.as_str()];
            let whole_number = |gauge: &IntGaugeVec, number| {
                gauge.with_label_values(name).set(whole(number));
            };
            whole_number(&self.slots_offered, worker.slots_now.into());
            whole_number(&self.slots_busy, worker.running.into());
            whole_number(&self.memory_bytes, worker.memory_bytes);
            whole_number(&self.memory_available_bytes, worker.memory_available_bytes);
            let number = |gauge: &GaugeVec, number| gauge.with_label_values(name).set(number);
            number(&self.speed_ratio, f64::from(worker.speed_milli) / 1e3);
            number(&self.load1, f64::from(worker.load_milli) / 1e3);
            // What was not measured has no number.
            if worker.round_trip_us != 0 {
                number(
                    &self.round_trip_seconds,
                    f64::from(worker.round_trip_us) / 1e6,
                );
            }
            if worker.temperature_milli_c != 0 {
                let celsius = f64::from(worker.temperature_milli_c) / 1e3;
                number(&self.temperature_celsius, celsius);
            }
            let labels = [
                name[0],
                &worker.version,
                &worker.architecture,
                &worker.os,
                &worker.sandbox,
            ];
            self.info.with_label_values(&labels).set(1);
        }
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Whose fault a failed attempt is.
fn fault(code: Code) -> &'static str {
    match code {
        Code::Refused | Code::Input | Code::Cancelled => "client",
        Code::Limit | Code::Memory | Code::Disk => "task",
        Code::Link => "link",
        Code::Worker | Code::Busy | Code::Unspecified => "worker",
        Code::NoToolchain | Code::Queue | Code::Shutdown | Code::NotKept => "grid",
    }
}
