//! Any bytes, in any pieces: the codec gives the same messages as when they
//! come at once, and never holds more than came.

#![no_main]

use std::fmt::Debug;

use hg_proto::v1::{FromWorker, ToWorker};
use hg_proto::wire::frame::{self, Decoder, FrameError};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fn decode<M: Message + Default>(pieces: &[&[u8]]) -> (Vec<M>, Option<FrameError>) {
    let mut decoder = Decoder::new();
    let mut messages = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

fn check<M: Message + Default + PartialEq + Debug>(bytes: &[u8], cut: usize) {
    let at_once = decode::<M>(&[bytes]);
    let (front, back) = bytes.split_at(cut.min(bytes.len()));
    assert_eq!(at_once, decode::<M>(&[front, back]));
    for message in &at_once.0 {
        // What was decoded fits a frame again, unless it was a default value.
        if let Ok(frame) = frame::encode(message)
            && frame.len() > frame::HEADER_BYTES
        {
            assert_eq!(
                decode::<M>(&[&frame]).0.as_slice(),
                std::slice::from_ref(message)
            );
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, bytes)) = data.split_first() else {
        return;
    };
    check::<FromWorker>(bytes, cut.into());
    check::<ToWorker>(bytes, cut.into());
});
