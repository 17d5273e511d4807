//! Bytes in, frames out. A frame is a 4-byte big-endian length and that many
//! bytes of one message. Unaware of sockets and of what the messages mean.

use std::fmt;

use prost::Message;

use crate::wire::limits::FRAME_BYTES_MAX;

/// Bytes before each message.
pub const HEADER_BYTES: usize = 4;

/// Why the peer is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameError {
    /// The length says more than [`FRAME_BYTES_MAX`].
    TooLong(u32),
    /// The length says zero: no message of ours is empty.
    Empty,
    /// The bytes are not the message.
    Garbage(String),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::TooLong(len) => {
                write!(f, "frame of {len} bytes, at most {FRAME_BYTES_MAX}")
            }
            FrameError::Empty => f.write_str("empty frame"),
            FrameError::Garbage(why) => write!(f, "undecodable message: {why}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// The frame of `message`, header included.
///
/// # Errors
/// [`FrameError::TooLong`] when the message does not fit a frame.
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, FrameError> {
    let len = message.encoded_len();
    if len > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(u32::try_from(len).unwrap_or(u32::MAX)));
    }
    let mut frame = Vec::with_capacity(HEADER_BYTES + len);
    frame.extend_from_slice(&(len as u32).to_be_bytes());
    message.encode_raw(&mut frame);
    Ok(frame)
}

/// What a header announces.
///
/// # Errors
/// The length is zero or over the bound.
pub fn body_len(header: [u8; HEADER_BYTES]) -> Result<usize, FrameError> {
    match u32::from_be_bytes(header) {
        0 => Err(FrameError::Empty),
        len if len as usize > FRAME_BYTES_MAX => Err(FrameError::TooLong(len)),
        len => Ok(len as usize),
    }
}

/// Collects bytes as they come and gives messages as they are whole.
///
/// Holds at most one frame and what was pushed beyond it. Memory grows with the
/// bytes that came, never with the length that was announced.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// An empty decoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes from the peer.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes that wait for the rest of their frame. Not zero at the end of a
    /// stream: the last frame was truncated.
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// The next whole message, or `None` until more bytes come.
    ///
    /// # Errors
    /// The peer broke the format; nothing more can be read from it.
    pub fn next_message<M: Message + Default>(&mut self) -> Result<Option<M>, FrameError> {
        let rest = &self.bytes[self.start..];
        let Some((header, rest)) = rest.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let len = body_len(*header)?;
        let Some(body) = rest.get(..len) else {
            return Ok(None);
        };
        let message = M::decode(body).map_err(|error| FrameError::Garbage(error.to_string()))?;
        self.start += HEADER_BYTES + len;
        if self.start == self.bytes.len() {
            self.start = 0;
            self.bytes.clear();
            // A large frame's buffer is not kept for ever.
            self.bytes.shrink_to(16 << 10);
        }
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{Cancel, ToWorker, to_worker};

    fn cancel(dispatch_id: u64) -> ToWorker {
        ToWorker {
            kind: Some(to_worker::Kind::Cancel(Cancel { dispatch_id })),
        }
    }

    #[test]
    fn any_split_gives_the_same_messages() {
        let mut stream = encode(&cancel(7)).unwrap();
        stream.extend(encode(&cancel(u64::MAX)).unwrap());
        for cut in 0..=stream.len() {
            let mut decoder = Decoder::new();
            let mut got = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                decoder.push(part);
                while let Some(message) = decoder.next_message::<ToWorker>().unwrap() {
                    got.push(message);
                }
            }
            assert_eq!(got, [cancel(7), cancel(u64::MAX)], "cut at {cut}");
            assert_eq!(decoder.pending(), 0);
        }
    }

    #[test]
    fn bad_lengths_are_named() {
        let mut decoder = Decoder::new();
        decoder.push(&(FRAME_BYTES_MAX as u32 + 1).to_be_bytes());
        assert_eq!(
            decoder.next_message::<ToWorker>(),
            Err(FrameError::TooLong(FRAME_BYTES_MAX as u32 + 1))
        );
        let mut decoder = Decoder::new();
        decoder.push(&[0, 0, 0, 0]);
        assert_eq!(decoder.next_message::<ToWorker>(), Err(FrameError::Empty));
    }

    #[test]
    fn a_truncated_frame_stays_pending() {
        let frame = encode(&cancel(7)).unwrap();
        let mut decoder = Decoder::new();
        decoder.push(&frame[..frame.len() - 1]);
        assert_eq!(decoder.next_message::<ToWorker>(), Ok(None));
        assert_eq!(decoder.pending(), frame.len() - 1);
    }

    #[test]
    fn garbage_is_an_error() {
        let mut decoder = Decoder::new();
        decoder.push(&[0, 0, 0, 2, 0xff, 0xff]);
        assert!(matches!(
            decoder.next_message::<ToWorker>(),
            Err(FrameError::Garbage(_))
        ));
    }
}
