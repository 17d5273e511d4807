//! Blobs on the wire: inputs from chunks to files, outputs from files to chunks, a piece at
//! a time, so that memory does not grow with their size. Unaware of the link and of
//! compilers.

use std::io::{self, Read, Write};

use crate::inputs::validate::Input;
use hg_proto::v1::Encoding;
use hg_proto::wire::blob::{BlobError, Incoming};
use hg_proto::wire::digest::{Digest, Hasher};
use hg_proto::wire::limits::{CHUNK_BYTES_MAX, ZSTD_WINDOW_LOG_MAX};
use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};

/// Bytes that are compressed at a time.
const PIECE_BYTES: usize = 64 << 10;
/// zstd level of outputs: the cheapest, since the link is near.
const ZSTD_LEVEL: i32 = 1;
/// log2 of the window of outputs; memory grows with it.
const ZSTD_WINDOW_LOG: u32 = 18;
const _: () = assert!(ZSTD_WINDOW_LOG <= ZSTD_WINDOW_LOG_MAX);

/// Receives one blob: decodes it into a file and checks it.
pub struct Sink<W: Write> {
    file: W,
    incoming: Incoming,
    size: u64,
    encoded_size: u64,
    digest: Digest,
}

fn not_as_announced<T>(why: &str) -> Result<T, BlobError> {
    Err(BlobError::NotAsAnnounced(why.into()))
}

impl<W: Write> Sink<W> {
    /// A sink for `encoded_size` bytes that decode to `size` bytes with `digest`.
    ///
    /// # Errors
    /// zstd can't be had.
    pub fn new(
        file: W,
        encoding: Encoding,
        encoded_size: u64,
        size: u64,
        digest: Digest,
    ) -> io::Result<Self> {
        Ok(Sink {
            file,
            incoming: Incoming::new(encoding)?,
            size,
            encoded_size,
            digest,
        })
    }

    /// A sink for `input` as it was announced.
    ///
    /// # Errors
    /// zstd can't be had.
    pub fn of(file: W, input: &Input) -> io::Result<Self> {
        let (encoded_size, size) = (input.encoded_size, input.size);
        Sink::new(file, input.encoding, encoded_size, size, input.digest)
    }

    /// Takes the next encoded bytes.
    ///
    /// # Errors
    /// They are more than announced, undecodable, or can't be stored.
    pub fn push(&mut self, data: &[u8]) -> Result<(), BlobError> {
        let left = self.encoded_size - self.incoming.encoded_size();
        if data.len() as u64 > left {
            return not_as_announced("longer than its encoded size");
        }
        self.incoming.push(data, self.size, &mut self.file)
    }

    /// Checks that all was received as announced, and gives the file back.
    ///
    /// # Errors
    /// The blob is shorter than announced, or another one, or can't be stored.
    pub fn finish(mut self) -> Result<W, BlobError> {
        let received = (self.incoming.encoded_size(), self.incoming.size());
        if received != (self.encoded_size, self.size) {
            return not_as_announced("shorter than announced");
        }
        if self.incoming.digest()? != self.digest {
            return not_as_announced("its content has another digest");
        }
        self.file.flush().map_err(BlobError::Io)?;
        Ok(self.file)
    }
}

/// Description of a blob that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Digest of the content.
    pub digest: Digest,
    /// Bytes of the content.
    pub size: u64,
    /// Bytes as it was sent, compressed by zstd.
    pub encoded_size: u64,
}

/// Why an output could not be sent.
#[derive(Debug)]
pub enum OutputError<E> {
    /// The output can't be read or compressed.
    Io(io::Error),
    /// The output is longer than it may be.
    TooLong,
    /// The callback `send` failed.
    Send(E),
}

/// Compresses `file` and gives it to `send` in parts of at most [`CHUNK_BYTES_MAX`] bytes;
/// `size_hint` is its length by its metadata. The last part comes with `true`, also where the
/// file is empty.
///
/// # Errors
/// Reading fails, the file has more than `size_max` bytes, or `send` fails.
pub fn send<E>(
    file: &mut impl Read,
    size_hint: u64,
    size_max: u64,
    mut send: impl FnMut(&[u8], bool) -> Result<(), E>,
) -> Result<Sent, OutputError<E>> {
    let mut encoder = encoder(size_hint).map_err(OutputError::Io)?;
    let mut hasher = Hasher::new();
    let (mut size, mut encoded_size) = (0u64, 0u64);
    let mut plain = vec![0; PIECE_BYTES];
    let mut encoded = vec![0; CHUNK_BYTES_MAX];
    let mut filled = 0;
    loop {
        let len = match file.read(&mut plain) {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(OutputError::Io(error)),
        };
        size += len as u64;
        if size > size_max {
            return Err(OutputError::TooLong);
        }
        hasher.update(&plain[..len]);
        let mut input = InBuffer::around(&plain[..len]);
        loop {
            let mut output = OutBuffer::around_pos(&mut encoded[..], filled);
            let left = if len == 0 {
                encoder.finish(&mut output, false)
            } else {
                encoder.run(&mut input, &mut output)
            }
            .map_err(OutputError::Io)?;
            filled = output.pos();
            let last = len == 0 && left == 0;
            if filled == encoded.len() || last {
                encoded_size += filled as u64;
                send(&encoded[..filled], last).map_err(OutputError::Send)?;
                filled = 0;
            }
            if last {
                return Ok(Sent {
                    digest: hasher.finish(),
                    size,
                    encoded_size,
                });
            }
            if len > 0 && input.pos() == len {
                break;
            }
        }
    }
}

fn encoder(size_hint: u64) -> io::Result<Encoder<'static>> {
    let mut encoder = Encoder::new(ZSTD_LEVEL)?;
    // A small file needs a small window, and so little memory.
    let window_log = u64::BITS - size_hint.max(1).leading_zeros();
    encoder.set_parameter(CParameter::WindowLog(window_log.clamp(10, ZSTD_WINDOW_LOG)))?;
    Ok(encoder)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that compress somewhat.
    fn content(len: usize) -> Vec<u8> {
        let mut rng = fastrand::Rng::with_seed(7);
        (0..len)
            .map(|i| if i % 3 == 0 { 0 } else { rng.u8(..) })
            .collect()
    }

    fn encode(plain: &[u8]) -> (Sent, Vec<u8>) {
        let mut wire = Vec::new();
        let mut lasts = 0;
        let sent = send(
            &mut &plain[..],
            plain.len() as u64,
            u64::MAX,
            |part, last| {
                assert!(part.len() <= CHUNK_BYTES_MAX);
                assert_eq!(lasts, 0, "a part after the last");
                lasts += usize::from(last);
                wire.extend_from_slice(part);
                Ok::<_, ()>(())
            },
        );
        let sent = sent.unwrap_or_else(|_| panic!("sending failed"));
        assert_eq!(lasts, 1);
        assert_eq!(sent.encoded_size, wire.len() as u64);
        (sent, wire)
    }

    fn take(sent: &Sent, wire: &[u8], piece: usize) -> Result<Vec<u8>, BlobError> {
        let mut file = Vec::new();
        let mut sink = Sink::new(
            &mut file,
            Encoding::Zstd,
            sent.encoded_size,
            sent.size,
            sent.digest,
        )
        .unwrap();
        for part in wire.chunks(piece) {
            sink.push(part)?;
        }
        sink.finish()?;
        Ok(file)
    }

    /// Why a blob is not taken that was announced as `sent`.
    fn refusal(sent: &Sent, wire: &[u8]) -> String {
        match take(sent, wire, 4096) {
            Err(BlobError::NotAsAnnounced(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_sent_is_what_arrives() {
        for len in [0, 1, 65_535, 65_536, 65_537, 3_000_000] {
            let plain = content(len);
            let (sent, wire) = encode(&plain);
            assert_eq!((sent.size, sent.digest), (len as u64, Digest::of(&plain)));
            for piece in [1000, 65_536] {
                assert!(
                    take(&sent, &wire, piece).unwrap() == plain,
                    "{len} by {piece}"
                );
            }
        }
    }

    #[test]
    fn what_compresses_well_is_decoded_whole() {
        let plain = vec![b'x'; 5_000_000];
        let (sent, wire) = encode(&plain);
        assert!(take(&sent, &wire, 65_536).unwrap() == plain);
    }

    #[test]
    fn a_wrong_announcement_is_named() {
        let plain = content(100_000);
        let (sent, wire) = encode(&plain);
        let fails = |sent: Sent, wire: &[u8]| refusal(&sent, wire);
        let short = Sent {
            size: sent.size - 1,
            ..sent
        };
        assert_eq!(fails(short, &wire), "longer than its size");
        let long = Sent {
            size: sent.size + 1,
            ..sent
        };
        assert_eq!(fails(long, &wire), "shorter than announced");
        let cut = &wire[..wire.len() - 1];
        assert_eq!(fails(sent, cut), "shorter than announced");
        let short = Sent {
            encoded_size: cut.len() as u64,
            ..sent
        };
        assert_eq!(fails(short, &wire), "longer than its encoded size");
        assert_eq!(fails(short, cut), "shorter than announced");
        let other = Sent {
            digest: Digest::of(b""),
            ..sent
        };
        assert_eq!(fails(other, &wire), "its content has another digest");
        let mut more = wire.clone();
        more.push(0);
        let longer = Sent {
            encoded_size: more.len() as u64,
            ..sent
        };
        assert_eq!(fails(longer, &more), "bytes after the zstd frame");
        assert!(fails(sent, &vec![0xa5; wire.len()]).starts_with("zstd: "));
    }

    #[test]
    fn a_window_beyond_the_bound_is_refused() {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(ZSTD_WINDOW_LOG_MAX + 1).unwrap();
        let plain = content(4 << 20);
        encoder.write_all(&plain).unwrap();
        let wire = encoder.finish().unwrap();
        let sent = Sent {
            digest: Digest::of(&plain),
            size: plain.len() as u64,
            encoded_size: wire.len() as u64,
        };
        assert!(refusal(&sent, &wire).starts_with("zstd: "));
    }

    #[test]
    fn plain_content_needs_no_decoder() {
        let mut file = Vec::new();
        let digest = Digest::of(b"int x;");
        let mut sink = Sink::new(&mut file, Encoding::Identity, 6, 6, digest).unwrap();
        sink.push(b"int ").unwrap();
        sink.push(b"x;").unwrap();
        sink.finish().unwrap();
        assert_eq!(file, b"int x;");
    }

    #[test]
    fn more_than_may_be_sent_is_not() {
        let result = send(&mut &content(1000)[..], 1000, 999, |_, _| Ok::<_, ()>(()));
        assert!(matches!(result, Err(OutputError::TooLong)));
    }
}
