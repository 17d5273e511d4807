//! Sends what became of tasks to a collector of OpenTelemetry's, as spans, in batches. A
//! collector that is slow or away costs spans, which are counted, and nothing else.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};

use crate::bounds::{SPANS_AT_ONCE_MAX, SPANS_WAITING_MAX};
use crate::dispatch::hub::Hub;
use crate::log;
use crate::monitor::task_span::{Ran, TaskSpan};

/// Between two batches, unless one is full.
const BATCH_EVERY: Duration = Duration::from_secs(1);
/// What the collector may take for one.
const EXPORT_MAX: Duration = Duration::from_secs(5);
/// Between two lines of the log about one that takes none.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Where a collector is.
///
/// # Errors
/// `url` is none that can be reached: in words.
pub fn collector(url: &str) -> Result<Endpoint, String> {
    let endpoint = Endpoint::from_shared(url.to_owned());
    let endpoint = endpoint.map_err(|error| format!("{url}: {error}"))?;
    match endpoint.uri().scheme_str() {
        Some("http") => Ok(endpoint.connect_timeout(EXPORT_MAX).timeout(EXPORT_MAX)),
        _ => Err(format!(
            "{url}: http://HOST:PORT of a collector that takes OTLP by gRPC; over a network that \
             isn't yours let one on this machine pass it on"
        )),
    }
}

/// Exports all that ends from now on to `endpoint`.
pub async fn export(hub: Arc<Hub>, endpoint: Endpoint) {
    let (sender, mut spans) = mpsc::channel(SPANS_WAITING_MAX);
    if hub.spans.set(sender).is_err() {
        return;
    }
    let Some(_alive) = hub.stay() else {
        return;
    };
    let mut collector = TraceServiceClient::new(endpoint.connect_lazy());
    let mut closing = hub.closing.subscribe();
    let mut complained: Option<tokio::time::Instant> = None;
    loop {
        let is_closing = tokio::select! {
            closed = closing.wait_for(|closing| *closing) => closed.is_ok(),
            () = tokio::time::sleep(BATCH_EVERY) => false,
        };
        while !spans.is_empty() {
            let mut batch = Vec::new();
            spans.recv_many(&mut batch, SPANS_AT_ONCE_MAX).await;
            let count = batch.len() as u64;
            let Err(why) = send(&mut collector, batch).await else {
                continue;
            };
            hub.metrics.spans_dropped.inc_by(count);
            if complained.is_none_or(|at| at.elapsed() > COMPLAIN_EVERY) {
                log::warn(format_args!("{count} spans are not exported: {why}"));
                complained = Some(tokio::time::Instant::now());
            }
            break;
        }
        if is_closing {
            return;
        }
    }
}

async fn send(
    collector: &mut TraceServiceClient<Channel>,
    batch: Vec<TaskSpan>,
) -> Result<(), String> {
    let spans = batch.iter().flat_map(spans_of).collect();
    let scope = InstrumentationScope {
        name: "hg-coord".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    };
    let resource = Resource {
        attributes: vec![word("service.name", "hg-coord")],
        ..Resource::default()
    };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope),
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    let answer = collector.export(request).await;
    let answer = answer.map_err(|status| format!("{}: {}", status.code(), status.message()))?;
    match answer.into_inner().partial_success {
        Some(partial) if partial.rejected_spans > 0 => Err(partial.error_message),
        _ => Ok(()),
    }
}

/// The task, and in it the wait for a worker, the worker's attempt, and in that the compiler.
fn spans_of(task: &TaskSpan) -> Vec<Span> {
    let trace_id = match task.trace_id.is_empty() {
        true => fastrand::u128(1..).to_be_bytes().to_vec(),
        false => task.trace_id.clone(),
    };
    let ended = task.ended;
    let began = ended.checked_sub(task.wall).unwrap_or(ended);
    let whole = Span {
        parent_span_id: task.parent_span_id.clone(),
        kind: SpanKind::Server as i32,
        attributes: vec![
            word("hybridgrid.source", &task.source),
            word("hybridgrid.client", &task.client),
            word("hybridgrid.holder", &task.holder),
            word("hybridgrid.worker", &task.worker),
            word("hybridgrid.outcome", task.outcome),
        ],
        status: Some(Status {
            message: task.detail.clone(),
            code: match task.outcome {
                "ok" => StatusCode::Ok,
                _ => StatusCode::Error,
            } as i32,
        }),
        ..span(&trace_id, "compile", began, ended)
    };
    let Some(Ran {
        queue_ms,
        running_ms,
        compile_us,
    }) = task.ran
    else {
        return vec![whole];
    };
    let child = |name, parent: &Span, from: SystemTime, to: SystemTime| Span {
        parent_span_id: parent.span_id.clone(),
        ..span(&trace_id, name, from.max(began), to.min(ended))
    };
    let queued = began + Duration::from_millis(queue_ms);
    let started = ended.checked_sub(Duration::from_millis(running_ms));
    let started = started.unwrap_or(began);
    let queue = child("queue", &whole, began, queued);
    let mut attempt = child("attempt", &whole, started, ended);
    attempt.attributes = vec![word("hybridgrid.worker", &task.worker)];
    // It ended when its output began to come, which nobody has noted.
    let compiled = started.max(began) + Duration::from_micros(compile_us);
    let compiler = child("compiler", &attempt, started, compiled);
    vec![whole, queue, attempt, compiler]
}

fn span(trace_id: &[u8], name: &str, from: SystemTime, to: SystemTime) -> Span {
    Span {
        trace_id: trace_id.to_vec(),
        span_id: fastrand::u64(1..).to_be_bytes().to_vec(),
        name: name.into(),
        kind: SpanKind::Internal as i32,
        start_time_unix_nano: nanos(from),
        end_time_unix_nano: nanos(to.max(from)),
        ..Span::default()
    }
}

fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos().try_into().unwrap_or(u64::MAX)
}

fn word(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(value.into())),
        }),
        ..KeyValue::default()
    }
}
