//! A blob as it arrives: decoded, hashed and counted a piece at a time, so that memory does
//! not grow with its size. Unaware of who sends it, of what it was announced to be, and of
//! where its content is written to.

use std::io::{self, Write};

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use crate::v1::Encoding;
use crate::wire::digest::{Digest, Hasher};
use crate::wire::limits::ZSTD_WINDOW_LOG_MAX;

/// Bytes that are decoded at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Why a blob could not be received.
#[derive(Debug)]
pub enum BlobError {
    /// The sender is at fault: it is not what was announced, or no zstd.
    NotAsAnnounced(String),
    /// This machine is at fault: the content can't be written.
    Io(io::Error),
}

/// One blob on its way in.
pub struct Incoming {
    /// `None`: the content comes as it is.
    decoder: Option<Decoder<'static>>,
    hasher: Hasher,
    size: u64,
    encoded_size: u64,
    /// The zstd frame is at its end; nothing may follow.
    ended: bool,
}

impl Incoming {
    /// A blob of which nothing came yet.
    ///
    /// # Errors
    /// zstd can't be had.
    pub fn new(encoding: Encoding) -> io::Result<Self> {
        let decoder = match encoding {
            Encoding::Identity => None,
            Encoding::Zstd => {
                let mut decoder = Decoder::new()?;
                decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))?;
                Some(decoder)
            }
        };
        Ok(Incoming {
            decoder,
            hasher: Hasher::new(),
            size: 0,
            encoded_size: 0,
            ended: false,
        })
    }

    /// Takes the next encoded bytes, and writes what they decode to. `size_max`: bytes of
    /// content of the whole blob.
    ///
    /// # Errors
    /// They can't be decoded, are more than may be, or can't be written.
    pub fn push(
        &mut self,
        data: &[u8],
        size_max: u64,
        to: &mut dyn Write,
    ) -> Result<(), BlobError> {
        self.encoded_size += data.len() as u64;
        match self.decoder.take() {
            None => self.write(data, size_max, to),
            Some(mut decoder) => {
                let result = self.decode(&mut decoder, data, size_max, to);
                self.decoder = Some(decoder);
                result
            }
        }
    }

    fn decode(
        &mut self,
        decoder: &mut Decoder<'_>,
        data: &[u8],
        size_max: u64,
        to: &mut dyn Write,
    ) -> Result<(), BlobError> {
        let mut decoded = vec![0; PIECE_BYTES];
        let mut input = InBuffer::around(data);
        loop {
            if self.ended && input.pos() < data.len() {
                return not_as_announced("bytes after the zstd frame");
            }
            let mut output = OutBuffer::around(&mut decoded[..]);
            let hint = match decoder.run(&mut input, &mut output) {
                Ok(hint) => hint,
                Err(error) => return not_as_announced(format!("zstd: {error}")),
            };
            self.ended |= hint == 0;
            let made = output.pos();
            self.write(&decoded[..made], size_max, to)?;
            // A full buffer may hide more that is ready to come out.
            if input.pos() == data.len() && (made < PIECE_BYTES || self.ended) {
                return Ok(());
            }
        }
    }

    fn write(
        &mut self,
        content: &[u8],
        size_max: u64,
        to: &mut dyn Write,
    ) -> Result<(), BlobError> {
        self.size += content.len() as u64;
        if self.size > size_max {
            return not_as_announced("longer than its size");
        }
        self.hasher.update(content);
        to.write_all(content).map_err(BlobError::Io)
    }

    /// Bytes of content so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Encoded bytes so far.
    pub fn encoded_size(&self) -> u64 {
        self.encoded_size
    }

    /// The digest of all content, now that nothing more comes.
    ///
    /// # Errors
    /// The zstd frame is not at its end.
    pub fn digest(&self) -> Result<Digest, BlobError> {
        match self.decoder.is_some() && !self.ended {
            true => not_as_announced("the zstd frame has no end"),
            false => Ok(self.hasher.finish()),
        }
    }
}

fn not_as_announced<T>(why: impl Into<String>) -> Result<T, BlobError> {
    Err(BlobError::NotAsAnnounced(why.into()))
}
