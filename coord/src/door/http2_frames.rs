//! The frames of an HTTP/2 connection as they pass, without their content: what
//! the server behind gives no account of. Pure: the time comes with the bytes.
//!
//! h2 bounds by itself what a flood makes it hold: streams, resets, lists of headers, and
//! one answer to a PING or SETTINGS at a time. It neither bounds the time that it spends
//! on answers, nor tells that it has ended a connection for a flood, by which the address
//! is shut out.
//! Source: RFC 9113; CVE-2019-9512 and 9515 for floods of PING and SETTINGS.

use crate::bounds::{H2_IDLE_FRAMES_AT_ONCE_MAX, H2_IDLE_FRAMES_PER_S_MAX};
use crate::door::bucket::Bucket;

/// Bytes of the head of a frame.
const HEAD_BYTES: usize = 9;
/// What a client says first (section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a GOAWAY that are looked at: the last stream and the error code.
const GOAWAY_BYTES: usize = 8;

const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const NO_ERROR: u32 = 0;
const ENHANCE_YOUR_CALM: u32 = 11;

/// Where one direction's bytes are among its frames.
#[derive(Debug, Default)]
struct FrameCursor {
    /// Bytes of the current frame's content that are to come.
    skip: usize,
    head: [u8; HEAD_BYTES + GOAWAY_BYTES],
    have: usize,
}

impl FrameCursor {
    /// Calls `each` with the kind of each frame that begins in `bytes`, and with the
    /// error code if it is a GOAWAY.
    fn pass(&mut self, mut bytes: &[u8], mut each: impl FnMut(u8, u32)) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let wanted = match self.have {
                HEAD_BYTES.. => HEAD_BYTES + GOAWAY_BYTES,
                _ => HEAD_BYTES,
            };
            let taken = (wanted - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if taken == 0 || self.have < wanted {
                continue;
            }
            let len = u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]]) as usize;
            let kind = self.head[3];
            if kind == GOAWAY && len >= GOAWAY_BYTES && self.have == HEAD_BYTES {
                // Its beginning is looked at too.
                continue;
            }
            let [.., a, b, c, d] = self.head;
            let code = match self.have {
                HEAD_BYTES => NO_ERROR,
                _ => u32::from_be_bytes([a, b, c, d]),
            };
            each(kind, code);
            self.skip = len + HEAD_BYTES - self.have;
            self.have = 0;
        }
    }
}

/// What is watched of one connection, at the server's end: the frames either way.
#[derive(Debug)]
pub struct FrameWatch {
    /// The part of the preface that is to come.
    preface: &'static [u8],
    read: FrameCursor,
    written: FrameCursor,
    /// A token for each PING and SETTINGS that may come.
    idle: Bucket,
}

/// What is wrong with a connection; the label under which its end is counted.
pub type Reason = &'static str;

impl FrameWatch {
    /// The state of a connection on which nothing was said yet.
    pub fn new(now_ms: u64) -> Self {
        FrameWatch {
            preface: PREFACE,
            read: FrameCursor::default(),
            written: FrameCursor::default(),
            idle: Bucket::new(H2_IDLE_FRAMES_AT_ONCE_MAX, H2_IDLE_FRAMES_PER_S_MAX, now_ms),
        }
    }

    /// The peer sent `bytes`; what is wrong with that.
    pub fn read(&mut self, bytes: &[u8], now_ms: u64) -> Option<Reason> {
        let (first, bytes) = bytes.split_at(self.preface.len().min(bytes.len()));
        let (expected, later) = self.preface.split_at(first.len());
        if first != expected {
            return Some("unknown_protocol");
        }
        self.preface = later;
        let mut idle: u32 = 0;
        self.read.pass(bytes, |kind, _| {
            idle += u32::from(matches!(kind, PING | SETTINGS));
        });
        let may = idle == 0 || self.idle.take(idle, now_ms);
        (!may).then_some("http2_flood")
    }

    /// The server sent `bytes`; what they tell the peer that it did wrong.
    pub fn written(&mut self, bytes: &[u8]) -> Option<Reason> {
        let mut found = None;
        self.written.pass(bytes, |kind, code| match (kind, code) {
            (GOAWAY, ENHANCE_YOUR_CALM) => found = Some("http2_flood"),
            (GOAWAY, 1..) => found = Some("http2_error"),
            _ => {}
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let len = (payload.len() as u32).to_be_bytes();
        let mut frame = vec![len[1], len[2], len[3], kind, 0, 0, 0, 0, 0];
        frame.extend_from_slice(payload);
        frame
    }

    fn goaway(code: u32) -> Vec<u8> {
        let mut payload = vec![0, 0, 0, 1];
        payload.extend_from_slice(&code.to_be_bytes());
        payload.extend_from_slice(b"too many");
        frame(GOAWAY, &payload)
    }

    #[test]
    fn the_last_words_are_understood_however_they_are_cut() {
        for (code, reason) in [
            (0, None),
            (1, Some("http2_error")),
            (11, Some("http2_flood")),
        ] {
            let bytes = [frame(0, &[7; 100]), frame(0, &[]), goaway(code)].concat();
            for size in 1..bytes.len() {
                let mut watch = FrameWatch::new(0);
                let found: Vec<_> = bytes
                    .chunks(size)
                    .filter_map(|part| watch.written(part))
                    .collect();
                assert_eq!(found.first().copied(), reason, "{code} in parts of {size}");
            }
        }
        // A content that looks like one is none.
        let mut watch = FrameWatch::new(0);
        assert_eq!(watch.written(&frame(0, &goaway(11))), None);
        // And one that is cut off says nothing.
        assert_eq!(watch.written(&frame(GOAWAY, &[0; 4])), None);
        assert_eq!(watch.written(&goaway(11)), Some("http2_flood"));
    }

    #[test]
    fn what_does_not_begin_as_http2_is_none() {
        for first in [&b"GET / HTTP/1.1\r\n"[..], &[0; 30], b"PRI * HTTP/2.1"] {
            let found = FrameWatch::new(0).read(first, 0);
            assert_eq!(found, Some("unknown_protocol"), "{first:?}");
        }
    }

    #[test]
    fn frames_that_only_want_an_answer_are_rationed() {
        let burst = H2_IDLE_FRAMES_AT_ONCE_MAX as usize;
        for kind in [PING, SETTINGS] {
            let mut watch = FrameWatch::new(0);
            assert_eq!(watch.read(&PREFACE[..9], 0), None);
            assert_eq!(watch.read(&PREFACE[9..], 0), None);
            let frames = frame(kind, &[0; 8]).repeat(burst);
            assert_eq!(watch.read(&frames, 0), None);
            assert_eq!(watch.read(&frame(1, &[6; 50]).repeat(burst), 0), None);
            let mut later = FrameWatch {
                idle: watch.idle,
                ..FrameWatch::new(0)
            };
            later.preface = &[];
            assert_eq!(later.read(&frame(kind, &[]), 1_000), None);
            assert_eq!(watch.read(&frame(kind, &[]), 0), Some("http2_flood"));
        }
    }
}
