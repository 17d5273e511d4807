//! Whatever a worker says after its hello: its link ends, it leaves nothing behind,
//! and the clients of the tasks that it was given hear only of what they asked for.

#![no_main]

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use hg_coord::dispatch::hub::Hub;
use hg_coord::dispatch::mailbox::{Mail, Mailbox};
use hg_coord::door::crowd::Crowd;
use hg_coord::scheduling::coordinator::Settings;
use hg_coord::scheduling::validate;
use hg_coord::serve::worker_link::{self, Dialler};
use hg_coord::trust::doorkeeper::Doorkeeper;
use hg_proto::wire::frame;
use hg_proto::wire::limits::{CHUNK_BYTES_MAX, STDIO_BYTES_MAX};
use hg_proto::{PROTOCOL_VERSION, v1};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

/// Bytes between the two ends.
const PIPE_BYTES: usize = 1 << 20;
/// No task is sent more often than that: retries are bounded.
const ATTEMPTS_MAX: u32 = 4;

thread_local! {
    static RUNTIME: Runtime = match Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("{error}"),
    };
}

fn toolchain() -> v1::Toolchain {
    v1::Toolchain {
        family: v1::Family::Gcc.into(),
        language: v1::Language::C.into(),
        digest: vec![7; 32],
        ..v1::Toolchain::default()
    }
}

fn task() -> v1::Task {
    v1::Task {
        toolchain: Some(toolchain()),
        inputs: vec![v1::Input {
            path: b"a.c".to_vec(),
            digest: vec![1; 32],
            size: 5,
            encoded_size: 5,
            encoding: v1::Encoding::Identity.into(),
        }],
        outputs: vec![b"a.o".to_vec(), b"a.su".to_vec()],
        ..v1::Task::default()
    }
}

/// Numbers that a fuzzer hardly guesses: the coordinator's of the first dispatches, in
/// place of 1, 2, ...
fn numbered(bytes: &[u8]) -> Vec<u8> {
    use v1::from_worker::Kind;
    let Ok(mut message) = v1::FromWorker::decode(bytes) else {
        return bytes.to_vec();
    };
    let number = match &mut message.kind {
        Some(Kind::Need(need)) => &mut need.dispatch_id,
        Some(Kind::Chunk(chunk)) => &mut chunk.dispatch_id,
        Some(Kind::Done(done)) => &mut done.dispatch_id,
        Some(Kind::Failed(failed)) => &mut failed.dispatch_id,
        Some(Kind::Begun(begun)) => &mut begun.dispatch_id,
        _ => return bytes.to_vec(),
    };
    let count = *number / 4;
    if (1..16).contains(&count) {
        // How many there were, and its place among those that run.
        *number = count << 24 | *number % 4;
    }
    message.encode_to_vec()
}

fn hello() -> Vec<u8> {
    let hello = v1::Hello {
        protocol_version: PROTOCOL_VERSION,
        instance: vec![1; 16],
        name: "w".into(),
        slots: 2,
        toolchains: vec![toolchain()],
        ..v1::Hello::default()
    };
    let hello = v1::FromWorker {
        kind: Some(v1::from_worker::Kind::Hello(hello)),
    };
    frame::encode(&hello).unwrap_or_default()
}

/// Each piece of `data` (two bytes of length before it) in a frame.
fn said(data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = data;
    while let [high, low, after @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (piece, later) = after.split_at(len);
        rest = later;
        let piece = numbered(piece);
        bytes.extend_from_slice(&(piece.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&piece);
    }
    bytes
}

/// What one client heard.
#[derive(Default)]
struct Heard {
    attempts: u32,
    ended: bool,
}

impl Heard {
    fn mail(&mut self, mail: Mail) {
        assert!(!self.ended, "a word after the last");
        match mail {
            Mail::Late { .. } => {}
            Mail::Second(_) => panic!("there is but one worker"),
            Mail::Started { start, .. } => {
                assert!(start.number > self.attempts && start.number <= ATTEMPTS_MAX);
                self.attempts = start.number;
            }
            Mail::Need { attempt, digests } => {
                assert!(attempt <= self.attempts);
                assert!(digests.is_empty() || digests == [vec![1; 32]]);
            }
            Mail::Output { output, data, .. } => {
                assert!(output < 2 && data.len() <= CHUNK_BYTES_MAX);
            }
            Mail::Finished(finished, _) => {
                self.ended = true;
                let result = finished.result.unwrap_or_default();
                let known = |path: &[u8]| task().outputs.iter().any(|one| one == path);
                assert!(result.outputs.iter().all(|output| known(&output.path)));
                assert!(result.stderr.len() <= STDIO_BYTES_MAX);
            }
            Mail::Failed(failure) => {
                self.ended = true;
                assert!(!failure.detail.contains(char::is_control));
            }
        }
    }
}

async fn converse(data: &[u8]) {
    let (hub, _ended) = Hub::new(Settings::default());
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    let (mut read, mut write) = tokio::io::split(theirs);
    let dialler = Dialler {
        peer: ([127, 0, 0, 1], 1).into(),
        certified: None,
        keeper: Doorkeeper::insecure(),
    };
    let member = Crowd::new(1).enter();
    let deadline = Instant::now() + Duration::from_secs(5);
    let serving = worker_link::serve(ours, &[], dialler, hub.clone(), member, deadline);
    let mut clients: Vec<Arc<Mailbox>> = Vec::new();
    let worker = async {
        // Whoever was dropped can't say everything.
        let _ = write.write_all(&hello()).await;
        let _ = read.read_u8().await;
        // Tasks for which there is no worker would not wait.
        for _ in 0..2 {
            let demand = match validate::task(&task(), "holder", "client") {
                Ok(demand) => demand,
                Err(why) => panic!("{why}"),
            };
            clients.push(hub.submit(task(), demand).2);
        }
        let _ = write.write_all(&said(data)).await;
        let _ = write.shutdown().await;
        let _ = read.read_to_end(&mut Vec::new()).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = serving => {}
        () = worker => {}
    }
    let mut waiting = 0;
    for mailbox in &clients {
        let mut heard = Heard::default();
        let all = async {
            loop {
                heard.mail(mailbox.next().await);
            }
        };
        tokio::select! {
            biased;
            () = all => {}
            () = ready(()) => {}
        }
        assert!(heard.attempts > 0, "its worker had a slot");
        waiting += u32::from(!heard.ended);
    }
    let status = hub.status();
    assert_eq!((status.workers, status.slots_busy), (0, 0));
    // Each task has ended or waits for another worker.
    assert_eq!(status.queued, waiting);
}

fuzz_target!(|data: &[u8]| {
    RUNTIME.with(|runtime| runtime.block_on(converse(data)));
});
