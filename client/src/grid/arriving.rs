//! An object on its way in: written as it is unpacked, and held as it came, since that is
//! how the cache keeps it. What it begins with is held too.

use std::fs::File;
use std::io::{self, Write};

use crate::grid::object::HEAD_BYTES;
use crate::grid::submit::Sink;

/// Bytes of a frame that is held while it arrives.
const FRAME_BYTES_MAX: usize = 256 << 20;

/// An output that goes to its file, and as it comes to the cache.
pub struct Arriving<'f> {
    file: &'f mut File,
    /// `None`: it is not wanted, or too large.
    frame: Option<Vec<u8>>,
    head: Vec<u8>,
    size: u64,
}

impl<'f> Arriving<'f> {
    /// Goes to `file`; `kept`: its frame is wanted.
    pub fn new(file: &'f mut File, kept: bool) -> Self {
        Arriving {
            file,
            frame: kept.then(Vec::new),
            head: Vec::new(),
            size: 0,
        }
    }

    /// What it begins with, and how many bytes it has.
    pub fn begins(&self) -> (&[u8], u64) {
        (&self.head, self.size)
    }

    /// The zstd frame that it came as, if it was wanted.
    pub fn frame(self) -> Option<Vec<u8>> {
        self.frame
    }
}

impl Write for Arriving<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        let wanted = HEAD_BYTES.saturating_sub(self.head.len()).min(written);
        self.head.extend_from_slice(&bytes[..wanted]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Sink for Arriving<'_> {
    fn restart(&mut self) -> io::Result<()> {
        if let Some(held) = &mut self.frame {
            held.clear();
        }
        self.head.clear();
        self.size = 0;
        self.file.restart()
    }

    fn comes_as(&mut self, frame: &[u8]) {
        self.frame
            .take_if(|held| held.len() + frame.len() > FRAME_BYTES_MAX);
        if let Some(held) = &mut self.frame {
            held.extend_from_slice(frame);
        }
    }
}
