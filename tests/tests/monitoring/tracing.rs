//! One build in everybody's logs, and as spans at a collector of OpenTelemetry's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use hg_tests::command::{Outcome, run, scrubbed};
use hg_tests::daemon::Daemon;
use hg_tests::event;
use hg_tests::grid::{self, Grid};
use hg_tests::programs::programs;
use hg_tests::running::until;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tempfile::TempDir;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// What came to a collector.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let scopes = resources.into_iter().flat_map(|one| one.scope_spans);
        let mut spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spans.extend(scopes.flat_map(|one| one.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Listens until the process ends. Gives its URL.
    fn start(&self) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let incoming = runtime.block_on(async { TcpIncoming::bind(any) });
        let incoming = incoming.expect("a port");
        let address = incoming.local_addr().expect("its address");
        let service = TraceServiceServer::new(self.clone());
        std::thread::spawn(move || {
            let server = tonic::transport::Server::builder().add_service(service);
            runtime.block_on(server.serve_with_incoming(incoming))
        });
        format!("http://{address}")
    }

    fn spans(&self) -> Vec<Span> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A grid whose logs say all, with one worker.
fn talkative(url: &str) -> Grid {
    let folder = tempfile::Builder::new().prefix("hg-grid-").tempdir();
    let folder: TempDir = folder.expect("a temporary folder");
    let place = folder.path();
    let mut serve = scrubbed(&programs().coordinator, place, place);
    serve
        .args(["serve", "--no-mdns", "--listen", "127.0.0.1:0"])
        .args(["--http", "127.0.0.1:0", "--audit", "0", "--otlp", url])
        .arg("--state")
        .arg(place.join("coordinator"))
        .env("HG_LOG", "debug");
    let coordinator = Daemon::start("coordinator", &mut serve, place.join("coordinator.log"));
    let mut grid = Grid::around(programs(), folder, coordinator);
    let place = grid.folder().to_owned();
    let mut worker = grid::worker(programs(), &place, "worker-1", &grid.address(), 2);
    worker.env("HG_LOG", "debug");
    let worker = Daemon::start("worker-1", &mut worker, place.join("worker-1.log"));
    grid.workers.push(worker);
    grid.wait_for_workers(1);
    grid
}

/// Two compiles of one build; the second is wrong.
fn build(grid: &Grid, place: &TempDir, variables: &[(&str, String)]) -> Outcome {
    let folder = place.path();
    std::fs::write(folder.join("a.c"), "int a;\n").expect("a source");
    std::fs::write(folder.join("b.c"), "int b(void) { return nothing; }\n").expect("a source");
    let mut command: Command = scrubbed(&programs().client, folder, folder);
    command
        .args(["--", "sh", "-c", "gcc -c a.c; gcc -c b.c"])
        .env("HG_LOCAL_SLOTS", "0")
        .env("HG_EVENT_LOG", folder.join("events"))
        .envs(variables.iter().map(|(name, value)| (name, value)));
    run(grid.lead(&mut command))
}

fn words(span: &Span) -> BTreeMap<String, String> {
    let attributes = span.attributes.iter();
    let pairs = attributes.filter_map(|one| match one.value.as_ref()?.value.as_ref()? {
        Value::StringValue(word) => Some((one.key.clone(), word.clone())),
        _ => None,
    });
    pairs.collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_collector_gets_each_task_as_a_span_of_the_builds_own_trace() {
    let collector = Collector::default();
    let grid = talkative(&collector.start());
    let place = tempfile::tempdir().expect("a folder");
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let outcome = build(&grid, &place, &[("TRACEPARENT", parent)]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.words());
    let spans = until(&grid.coordinator, "spans of both tasks", || {
        let spans = collector.spans();
        let tasks = spans.iter().filter(|span| span.name == "compile");
        (tasks.count() == 2).then_some(spans)
    });
    assert!(
        spans.iter().all(|span| hex(&span.trace_id) == TRACE),
        "{spans:#?}"
    );
    let tasks: Vec<&Span> = spans.iter().filter(|span| span.name == "compile").collect();
    for (task, source, outcome) in [(tasks[0], "a.c", "ok"), (tasks[1], "b.c", "compile_error")] {
        assert_eq!(hex(&task.parent_span_id), PARENT);
        let words = words(task);
        assert_eq!(words["hybridgrid.source"], source);
        assert_eq!(words["hybridgrid.outcome"], outcome);
        assert_eq!(words["hybridgrid.worker"], "worker-1");
        assert!(!words["hybridgrid.holder"].is_empty(), "{words:?}");
        let children = spans
            .iter()
            .filter(|span| span.parent_span_id == task.span_id);
        let children: Vec<&Span> = children.collect();
        let names: Vec<&str> = children.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["queue", "attempt"], "{spans:#?}");
        let compiler = spans
            .iter()
            .find(|span| span.parent_span_id == children[1].span_id);
        let compiler = compiler.expect("the compiler's");
        assert_eq!(compiler.name, "compiler");
        let within = |inner: &Span, outer: &Span| {
            inner.start_time_unix_nano >= outer.start_time_unix_nano
                && inner.end_time_unix_nano <= outer.end_time_unix_nano
                && inner.start_time_unix_nano <= inner.end_time_unix_nano
        };
        assert!(
            within(children[0], task) && within(children[1], task),
            "{spans:#?}"
        );
        assert!(within(compiler, task), "{spans:#?}");
        assert!(
            compiler.end_time_unix_nano > compiler.start_time_unix_nano,
            "{compiler:?}"
        );
    }
}

#[test]
fn the_lines_of_one_build_are_found_in_all_logs() {
    // Nobody listens there, which costs nothing but the spans.
    let grid = talkative("http://127.0.0.1:1");
    let place = tempfile::tempdir().expect("a folder");
    let outcome = build(&grid, &place, &[]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.words());
    let events = std::fs::read_to_string(place.path().join("events")).expect("a log");
    let traces: Vec<String> = events
        .lines()
        .map(|line| {
            event::parse(line).expect("an event");
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            line["trace"].as_str().expect("a trace").to_owned()
        })
        .collect();
    let [first, second] = &traces[..] else {
        panic!("{events}");
    };
    assert_eq!(first, second, "one build is one trace");
    assert_eq!(first.len(), 32, "{events}");
    let mark = format!("trace {first}");
    for (daemon, what) in [
        (
            &grid.coordinator,
            ["attempt 1 on worker-1", "ended on worker-1"],
        ),
        (&grid.workers[0], [" begins ", " ended "]),
    ] {
        let log = until(daemon, "both tasks' ends in the log", || {
            let log = daemon.stderr();
            let ends = log.lines().filter(|line| line.contains(what[1]));
            (ends.count() >= 2).then_some(log)
        });
        for words in what {
            let lines = log.lines().filter(|line| line.contains(words));
            let marked = lines.filter(|line| line.ends_with(&mark));
            assert_eq!(marked.count(), 2, "{words}: {log}");
        }
        for line in log.lines().filter(|line| line.contains("task ")) {
            let (time, rest) = line.split_once(' ').expect("a time");
            assert!(humantime::parse_rfc3339(time).is_ok(), "{line}");
            assert!(
                rest.starts_with("hg-") && rest.contains(": debug: "),
                "{line}"
            );
        }
    }
    until(&grid.coordinator, "both tasks' spans dropped", || {
        let metrics = grid.get("/metrics").ok()?;
        let mut lines = metrics.lines();
        lines
            .find(|line| *line == "hybridgrid_spans_dropped_total 2")
            .map(drop)
    });
}

#[test]
fn a_collector_that_cannot_be_reached_as_it_is_named_is_refused() {
    let place = tempfile::tempdir().expect("a folder");
    for url in ["https://collector:4317", "collector:4317", "http://", ""] {
        let mut serve = scrubbed(&programs().coordinator, place.path(), place.path());
        serve
            .args([
                "serve",
                "--no-mdns",
                "--listen",
                "127.0.0.1:0",
                "--http",
                "off",
            ])
            .args(["--otlp", url, "--state"])
            .arg(place.path().join("state"));
        let outcome = run(&mut serve);
        assert_eq!(outcome.code, Some(2), "{url}: {}", outcome.words());
        assert!(outcome.words().contains("--otlp"), "{}", outcome.words());
    }
}
