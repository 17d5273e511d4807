//! The result of a compile as it is stored: outputs, diagnostics, and what it cost. Pure.

use std::borrow::Cow;
use std::io;

use bytes::Bytes;
use prost::Message;

/// zstd's fastest: an object is written once and read a few times.
const ZSTD_LEVEL: i32 = 1;
/// Bytes below which compression saves less than it costs.
const UNCOMPRESSED_BYTES_MAX: usize = 16 << 10;
/// Bytes of one output.
const OUTPUT_BYTES_MAX: u64 = 1 << 30;

/// A file that the compile wrote.
#[derive(Clone, PartialEq, Message)]
pub struct Output {
    /// Its content, as it is or as a zstd frame.
    #[prost(bytes = "bytes", tag = "1")]
    pub stored: Bytes,
    /// Bytes of the content.
    #[prost(uint64, tag = "2")]
    pub size: u64,
    /// `stored` is a zstd frame.
    #[prost(bool, tag = "3")]
    pub compressed: bool,
}

/// The result of a compile that ended well.
#[derive(Clone, PartialEq, Message)]
pub struct Answer {
    /// Object or assembly.
    #[prost(message, required, tag = "1")]
    pub object: Output,
    /// Dependency file.
    #[prost(message, optional, tag = "2")]
    pub dependencies: Option<Output>,
    /// What it wrote to stderr.
    #[prost(bytes = "bytes", tag = "3")]
    pub stderr: Bytes,
    /// The kind of terminal that stderr was: colours and widths depend on it.
    #[prost(bytes = "bytes", tag = "4")]
    pub terminal: Bytes,
    /// Milliseconds from start to end.
    #[prost(uint64, tag = "5")]
    pub compile_ms: u64,
    /// What it wrote beside these.
    #[prost(message, repeated, tag = "6")]
    pub sides: Vec<SideFile>,
}

/// A file beside the object.
#[derive(Clone, PartialEq, Message)]
pub struct SideFile {
    /// Its absolute path.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// What is in it.
    #[prost(message, required, tag = "2")]
    pub output: Output,
}

impl Output {
    /// Makes an output of `content`, compressed if that pays.
    pub fn keep(content: Vec<u8>) -> Output {
        let size = content.len() as u64;
        if content.len() > UNCOMPRESSED_BYTES_MAX
            && let Ok(small) = zstd::bulk::compress(&content, ZSTD_LEVEL)
            && small.len() < content.len() / 4 * 3
        {
            return Output {
                stored: small.into(),
                size,
                compressed: true,
            };
        }
        Output {
            stored: content.into(),
            size,
            compressed: false,
        }
    }

    /// Makes an output of the zstd `frame` in which content of `size` bytes came; `None`:
    /// storing the content itself is cheaper.
    pub fn keep_frame(frame: Vec<u8>, size: u64) -> Option<Output> {
        let pays = size > UNCOMPRESSED_BYTES_MAX as u64 && (frame.len() as u64) < size / 4 * 3;
        pays.then(|| Output {
            stored: frame.into(),
            size,
            compressed: true,
        })
    }

    /// The content.
    ///
    /// # Errors
    /// The stored bytes are not `size` bytes of content.
    pub fn content(&self) -> io::Result<Cow<'_, [u8]>> {
        let wrong = || io::Error::from(io::ErrorKind::InvalidData);
        if self.size > OUTPUT_BYTES_MAX {
            return Err(wrong());
        }
        let size = self.size as usize;
        if !self.compressed {
            return match self.stored.len() == size {
                true => Ok(Cow::Borrowed(&self.stored)),
                false => Err(wrong()),
            };
        }
        let plain = zstd::bulk::decompress(&self.stored, size)?;
        match plain.len() == size {
            true => Ok(Cow::Owned(plain)),
            false => Err(wrong()),
        }
    }
}

impl Answer {
    /// Decodes an entry; `None`: it is no answer.
    pub fn read(body: Vec<u8>) -> Option<Answer> {
        Answer::decode(Bytes::from(body)).ok()
    }

    /// Whether its diagnostics can be repeated on `terminal`.
    pub fn fits(&self, terminal: &[u8]) -> bool {
        self.stderr.is_empty() || self.terminal == terminal
    }

    /// Bytes of the content of all outputs.
    pub fn size(&self) -> u64 {
        let sides = self.sides.iter().map(|side| side.output.size);
        let listed = self.dependencies.as_ref().map_or(0, |file| file.size);
        self.object.size + listed + sides.sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_where_it_pays() {
        let long: Vec<u8> = (0..200_000u32).map(|n| (n / 64) as u8).collect();
        let kept = Output::keep(long.clone());
        assert!(kept.compressed && kept.stored.len() < long.len() / 2);
        assert_eq!(kept.content().unwrap(), long);
        let short = Output::keep(b"short".to_vec());
        assert!(!short.compressed);
        assert_eq!(short.content().unwrap(), &b"short"[..]);
        let mut noise = 1u64;
        let noise: Vec<u8> = (0..100_000)
            .map(|_| {
                noise = noise.wrapping_mul(6364136223846793005).wrapping_add(1);
                (noise >> 56) as u8
            })
            .collect();
        assert!(!Output::keep(noise).compressed);
    }

    #[test]
    fn a_frame_is_kept_where_it_pays() {
        let long: Vec<u8> = (0..200_000u32).map(|n| (n / 64) as u8).collect();
        let frame = zstd::bulk::compress(&long, 3).unwrap();
        let kept = Output::keep_frame(frame.clone(), 200_000).unwrap();
        assert_eq!(kept.content().unwrap(), long);
        assert_eq!(Output::keep_frame(frame.clone(), frame.len() as u64), None);
        assert_eq!(Output::keep_frame(Vec::new(), 5), None);
    }

    #[test]
    fn a_wrong_size_is_no_content() {
        let mut kept = Output::keep(vec![7; 50_000]);
        kept.size -= 1;
        assert!(kept.content().is_err());
        let mut plain = Output::keep(vec![7; 5]);
        plain.size += 1;
        assert!(plain.content().is_err());
    }

    #[test]
    fn words_are_for_one_kind_of_terminal() {
        let mut answer = Answer {
            terminal: Bytes::from_static(b"a"),
            ..Answer::default()
        };
        assert!(answer.fits(b"b"));
        answer.stderr = Bytes::from_static(b"warning");
        assert!(!answer.fits(b"b") && answer.fits(b"a"));
    }
}
