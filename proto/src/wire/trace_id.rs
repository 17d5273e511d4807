//! Ids by which log lines and spans of one build are found on all machines: those of W3C
//! Trace Context.

/// Bytes of a trace id.
pub const TRACE_ID_BYTES: usize = 16;
/// Bytes of a span id.
pub const SPAN_ID_BYTES: usize = 8;

/// The trace and the span of a `traceparent`; `None`: it is none of its version 00, or
/// malformed.
pub fn parse(traceparent: &str) -> Option<([u8; TRACE_ID_BYTES], [u8; SPAN_ID_BYTES])> {
    let mut parts = traceparent.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_whole = version == "00" && flags.len() == 2 && parts.next().is_none();
    let (trace, span) = (bytes(trace)?, bytes(span)?);
    let is_said = trace != [0; TRACE_ID_BYTES] && span != [0; SPAN_ID_BYTES];
    (is_whole && is_said).then_some((trace, span))
}

/// So many bytes in lower-case hexadecimal.
pub fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 2 * N || !text.as_bytes().iter().all(is_hex) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

/// In lower-case hexadecimal.
pub fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a task may have such ids.
pub fn are_well_formed(trace_id: &[u8], parent_span_id: &[u8]) -> bool {
    matches!(trace_id.len(), 0 | TRACE_ID_BYTES)
        && matches!(parent_span_id.len(), 0 | SPAN_ID_BYTES)
        && (parent_span_id.is_empty() || !trace_id.is_empty())
}

/// ` trace ID` at the end of a log line; nothing where there is none.
pub fn mark(trace_id: &[u8]) -> String {
    match trace_id.len() {
        TRACE_ID_BYTES => format!(" trace {}", hex(trace_id)),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_standard() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let (trace, span) = parse(good).expect("well formed");
        assert_eq!(hex(&trace), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(hex(&span), "00f067aa0ba902b7");
        for bad in [
            "",
            "00",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b\u{e9}-01",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_parent_has_a_trace() {
        assert!(are_well_formed(&[], &[]) && are_well_formed(&[1; 16], &[]));
        assert!(are_well_formed(&[1; 16], &[2; 8]));
        assert!(!are_well_formed(&[], &[2; 8]) && !are_well_formed(&[1; 15], &[]));
        assert_eq!(mark(&[]), "");
        assert_eq!(mark(&[0xab; 16]), format!(" trace {}", "ab".repeat(16)));
    }
}
