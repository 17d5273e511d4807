//! Which trace a compile belongs to: the one in whose environment it runs (TRACEPARENT, W3C
//! Trace Context), or that of the build above it, or one of its own.

use std::collections::hash_map::RandomState;
use std::env;
use std::hash::{BuildHasher, Hasher};
use std::sync::OnceLock;

use hg_proto::wire::trace_id;

/// The variable in which compiles of a build find its trace id.
pub const VARIABLE: &str = "HG_TRACE_ID";
/// The variable of the standard.
const TRACEPARENT: &str = "TRACEPARENT";

/// What a compile hangs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: [u8; trace_id::TRACE_ID_BYTES],
    /// The span above, if there is one.
    pub parent_span_id: Option<[u8; trace_id::SPAN_ID_BYTES]>,
}

/// That of this process.
pub fn current() -> &'static TraceContext {
    static CURRENT: OnceLock<TraceContext> = OnceLock::new();
    CURRENT.get_or_init(|| {
        let variable = |name| env::var(name).unwrap_or_default();
        if let Some((trace_id, span)) = trace_id::parse(&variable(TRACEPARENT)) {
            return TraceContext {
                trace_id,
                parent_span_id: Some(span),
            };
        }
        let of_build = trace_id::bytes(&variable(VARIABLE));
        TraceContext {
            trace_id: of_build.unwrap_or_else(new_trace_id),
            parent_span_id: None,
        }
    })
}

/// One that nobody else has: it need not be a secret.
fn new_trace_id() -> [u8; trace_id::TRACE_ID_BYTES] {
    let mut id = [0; trace_id::TRACE_ID_BYTES];
    for half in id.chunks_mut(8) {
        // The standard library seeds it by the system's randomness.
        half.copy_from_slice(&RandomState::new().build_hasher().finish().to_be_bytes());
    }
    id
}
