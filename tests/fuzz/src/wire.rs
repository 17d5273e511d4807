//! What passes by or is taken apart on its way: HTTP/2 frames that are watched, gRPC
//! messages, chunks of blobs, zstd, answers of DNS. However it is cut, the verdict is the same, and
//! no more comes out than may.

#![no_main]

use std::io::Write;

use bytes::BytesMut;
use hg_coord::dispatch::transfer::{Inputs, Outputs, Verdict};
use hg_coord::door::http2_frames::{FrameWatch, PREFACE};
use hg_proto::lan::announcement::{Announcement, SERVICE, is_plain};
use hg_proto::lan::message::{self, Name};
use hg_proto::v1::{self, Encoding, SubmitResponse};
use hg_proto::wire::digest::Digest;
use hg_proto::wire::limits::OUTPUT_WINDOW_BYTES;
use hg_worker_lite::inputs::blobs::{self, Sink};
use hgbuild::grid::grpc::{percent_decoded, split_message};
use hgbuild::grid::submit::Received;
use libfuzzer_sys::fuzz_target;

/// Bytes of plain content that are asked for.
const PLAIN_BYTES_MAX: u64 = 1 << 20;

fn watched(cut: usize, bytes: &[u8]) {
    let pieces = [&bytes[..cut], &bytes[cut..]];
    let written = |pieces: &[&[u8]]| {
        let mut watch = FrameWatch::new(0);
        let found = pieces.iter().filter_map(|piece| watch.written(piece));
        found.count() > 0
    };
    assert_eq!(written(&[bytes]), written(&pieces));
    let read = |pieces: &[&[u8]]| {
        let mut watch = FrameWatch::new(0);
        let first = watch.read(PREFACE, 0);
        assert_eq!(first, None);
        pieces.iter().find_map(|piece| watch.read(piece, 0))
    };
    assert_eq!(read(&[bytes]), read(&pieces));
    // Whatever it begins with.
    FrameWatch::new(0).read(bytes, 0);
}

fn messages(cut: usize, bytes: &[u8]) {
    let taken = |pieces: &[&[u8]]| {
        let mut buffer = BytesMut::new();
        let mut taken: Vec<SubmitResponse> = Vec::new();
        for piece in pieces {
            buffer.extend_from_slice(piece);
            loop {
                match split_message(&mut buffer) {
                    Ok(Some(message)) => taken.push(message),
                    Ok(None) => break,
                    Err(_) => return (taken, true),
                }
            }
        }
        (taken, false)
    };
    assert_eq!(taken(&[bytes]), taken(&[&bytes[..cut], &bytes[cut..]]));
    let words = percent_decoded(&String::from_utf8_lossy(bytes));
    assert!(!words.contains(char::is_control));
}

/// Chunks of five bytes each: of which blob, how long, and whether it is the last.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = (u8, usize, bool)> {
    bytes.chunks_exact(5).map(|chunk| {
        let len = u32::from_be_bytes([0, chunk[1], chunk[2], chunk[3]]);
        (chunk[0], len as usize, chunk[4] & 1 == 1)
    })
}

fn inputs(bytes: &[u8]) {
    let input = |digest: u8, encoded_size| v1::Input {
        digest: vec![digest; 32],
        encoded_size,
        ..v1::Input::default()
    };
    let sizes = [70_000, 0, 3];
    let task = v1::Task {
        inputs: (1..).zip(sizes).map(|(n, size)| input(n, size)).collect(),
        ..v1::Task::default()
    };
    let Ok(mut inputs) = Inputs::new(&task, &[vec![1; 32], vec![3; 32]]) else {
        panic!("a good need");
    };
    let mut passed = [0; 3];
    for (which, len, last) in chunks(bytes) {
        match inputs.chunk(which.into(), len, last) {
            Ok(Verdict::Relay { complete }) => {
                passed[usize::from(which)] += len as u64;
                assert_eq!(complete, inputs.is_complete());
            }
            Ok(Verdict::Drop) => {}
            Err(_) => return,
        }
        let mut fits = passed.iter().zip(sizes);
        assert!(fits.all(|(passed, size)| *passed <= size));
        assert_eq!(passed[1], 0, "nobody asked for it");
        assert!(!inputs.is_complete() || (passed[0], passed[2]) == (sizes[0], sizes[2]));
    }
}

fn outputs(bytes: &[u8]) {
    let task = v1::Task {
        outputs: vec![b"a".to_vec(), b"b".to_vec()],
        ..v1::Task::default()
    };
    let mut outputs = Outputs::new(&task);
    let mut returned = [0; 2];
    let mut credit = u64::from(OUTPUT_WINDOW_BYTES);
    for (which, len, last) in chunks(bytes) {
        if which & 64 != 0 {
            outputs.credit(len as u32);
            credit += len as u64;
            continue;
        }
        if outputs.chunk(which.into(), len, last).is_err() {
            return;
        }
        returned[usize::from(which)] += len as u64;
        assert!(returned.iter().sum::<u64>() <= credit);
        for (at, came) in returned.iter().enumerate() {
            assert!(outputs.received(at).is_none_or(|bytes| bytes == *came));
        }
    }
}

/// Counts what is written, and would fail beyond what may be.
#[derive(Default)]
struct Counted(Vec<u8>);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl hgbuild::grid::submit::Sink for Counted {
    fn restart(&mut self) -> std::io::Result<()> {
        self.0.clear();
        Ok(())
    }
}

/// `bytes` as they come to a worker and to hgbuild, zstd or not.
fn blob(cut: usize, bytes: &[u8]) {
    let pieces = [&bytes[..cut], &bytes[cut..]];
    let mut received = Received::default();
    let mut plain = Counted::default();
    let chunk = |data: &[u8], last| v1::OutputChunk {
        attempt: 1,
        output: 0,
        data: data.to_vec(),
        last,
    };
    let mut total = 0;
    let came = [chunk(pieces[0], false), chunk(pieces[1], true)]
        .iter()
        .all(|chunk| received.add(chunk, &mut plain, &mut total).is_ok());
    let plain = plain.0;
    let digest = Digest::of(&plain);
    let output = |size| v1::Output {
        path: b"a.o".to_vec(),
        digest: digest.as_bytes().to_vec(),
        size,
        encoding: Encoding::Zstd.into(),
        encoded_size: bytes.len() as u64,
    };
    let size = plain.len() as u64;
    let is_whole = received.check(&output(size)).is_ok();
    assert!(came || !is_whole);
    assert!(received.check(&output(size + 1)).is_err());
    // A worker takes the same, and not a byte more than was announced.
    for most in [size, size / 2, 0] {
        let mut file = Counted::default();
        let made = Sink::new(&mut file, Encoding::Zstd, bytes.len() as u64, most, digest);
        let Ok(mut sink) = made else {
            panic!("no zstd");
        };
        let pushed = pieces.iter().all(|piece| sink.push(piece).is_ok());
        let good = pushed && sink.finish().is_ok();
        assert!(file.0.len() as u64 <= most);
        assert!(!good || file.0 == plain);
        assert!(most < size || good == is_whole);
    }
}

/// What a worker sends arrives.
fn there_and_back(cut: usize, bytes: &[u8]) {
    let mut encoded = Vec::new();
    let sent = blobs::send(&mut &bytes[..], cut as u64, PLAIN_BYTES_MAX, |part, _| {
        encoded.extend_from_slice(part);
        Ok::<(), ()>(())
    });
    let Ok(sent) = sent else {
        panic!("sending failed");
    };
    assert_eq!(sent.size, bytes.len() as u64);
    let mut file = Counted::default();
    let made = Sink::new(
        &mut file,
        Encoding::Zstd,
        sent.encoded_size,
        sent.size,
        sent.digest,
    );
    let good = made.is_ok_and(|mut sink| sink.push(&encoded).is_ok() && sink.finish().is_ok());
    assert!(good && file.0 == bytes);
    blob(cut.min(encoded.len()), &encoded);
}

/// An answer to the question of its own number: what is shown of it is plain.
fn datagram(bytes: &[u8]) {
    let Some(number) = bytes.first_chunk().copied().map(u16::from_be_bytes) else {
        return;
    };
    let Some(service) = Name::of(SERVICE) else {
        panic!("no service");
    };
    for instance in message::instances(bytes, &service, number) {
        if let Some(said) = Announcement::of(|key| instance.value(key)) {
            assert!(is_plain(&said.host) && is_plain(&said.version) && is_plain(&said.grid));
        }
    }
    for (host, _) in message::servers(bytes, &service, number).unwrap_or_default() {
        let is_of_host = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        assert!(host.chars().all(is_of_host), "{host}");
    }
}

fuzz_target!(|data: &[u8]| {
    let [kind, cut, bytes @ ..] = data else {
        return;
    };
    let cut = usize::from(*cut).min(bytes.len());
    match kind % 6 {
        _ if *kind == u8::MAX => datagram(bytes),
        0 => watched(cut, bytes),
        1 => messages(cut, bytes),
        2 => inputs(bytes),
        3 => outputs(bytes),
        4 => blob(cut, bytes),
        _ => there_and_back(cut, bytes),
    }
});
