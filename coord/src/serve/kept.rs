//! Results that were kept: an answer in place of a compile, and what goes into the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use hg_proto::v1::{self, submit_response};
use hg_proto::wire::digest::Digest;
use hg_proto::wire::limits::CHUNK_BYTES_MAX;
use prost::Message;

use crate::bounds::RESULTS_WARN_MS;
use crate::dispatch::hub::Hub;
use crate::log;
use crate::results::kept::{self, Kept, Maker};
use crate::results::sharing::{Seat, Shared};
use crate::results::store::Store;
use crate::scheduling::coordinator::Event;
use crate::scheduling::id::TaskId;

/// The number of the attempt that an answer from the store pretends to be: clients count
/// from one.
const ATTEMPT: u32 = 1;

/// Milliseconds since the start of the coordinator at which it was last said that results
/// can't be kept; 0: never.
static WARNED_MS: AtomicU64 = AtomicU64::new(0);

/// Under what the result of `task` is looked up and kept. `None`: it is not.
pub fn key(hub: &Hub, task: &v1::Task) -> Option<Digest> {
    hub.results.get().and_then(|_| kept::key(task))
}

/// What a worker made of the same task before.
pub async fn look_up(hub: &Arc<Hub>, key: Digest) -> Option<Kept> {
    let store = hub.results.get()?.clone();
    let own = store.clone();
    let found = tokio::task::spawn_blocking(move || own.get(&key)).await;
    let mut found = found.ok().flatten();
    if found.is_none() {
        found = look_up_elsewhere(hub, store, key).await;
    }
    let outcome = if found.is_some() { "hit" } else { "miss" };
    let asked = hub.metrics.result_requests.with_label_values(&[outcome]);
    asked.inc();
    found
}

/// What a worker of another coordinator made, or of this one before it was lost here; kept
/// here from now on.
async fn look_up_elsewhere(hub: &Arc<Hub>, store: Arc<Store>, key: Digest) -> Option<Kept> {
    let backend = hub.backend.get()?;
    let body = backend.get(&key).await?;
    let found = Kept::decode(&body[..]).ok();
    let Some(found) = found.filter(|found| found.is_of(&key)) else {
        backend.reject("not-an-entry");
        return None;
    };
    if store.is_void(&found) {
        backend.reject("void");
        return None;
    }
    let (hub, kept) = (hub.clone(), found.clone());
    tokio::task::spawn_blocking(move || put(&hub, &store, &key, &kept));
    Some(found)
}

/// What a client is told of its `task`, as if a worker had compiled just now.
pub fn answer(task: &v1::Task, kept: &Kept) -> Vec<submit_response::Kind> {
    let worker = kept
        .maker
        .as_ref()
        .map_or("", |maker| &maker.label)
        .to_owned();
    let started = submit_response::Kind::Started(v1::Started {
        attempt: ATTEMPT,
        worker: worker.clone(),
        ..v1::Started::default()
    });
    let mut told = vec![started];
    let made = kept.result.iter().flat_map(|result| &result.outputs);
    for (output, bytes) in made.zip(&kept.outputs) {
        // All of them are wanted: the key has their names.
        let wanted = task.outputs.iter().position(|path| *path == output.path);
        told.extend(chunks(wanted.unwrap_or_default() as u32, bytes));
    }
    told.push(submit_response::Kind::Finished(v1::Finished {
        attempt: ATTEMPT,
        result: kept.result.clone(),
        worker,
        kept: true,
        ..v1::Finished::default()
    }));
    told
}

/// An output in chunks; an empty one is an empty last chunk.
fn chunks(output: u32, bytes: &[u8]) -> impl Iterator<Item = submit_response::Kind> {
    let count = bytes.len().div_ceil(CHUNK_BYTES_MAX).max(1);
    (0..count).map(move |number| {
        let begin = number * CHUNK_BYTES_MAX;
        let end = bytes.len().min(begin + CHUNK_BYTES_MAX);
        submit_response::Kind::Chunk(v1::OutputChunk {
            attempt: ATTEMPT,
            output,
            data: bytes[begin..end].to_vec(),
            last: number + 1 == count,
        })
    })
}

/// A place among those who ask for the same task at the same time. However it ends, the
/// others hear whether they got something.
pub struct Place {
    hub: Arc<Hub>,
    seat: Seat,
    key: Digest,
    /// The task, once it has been begun, until its result is shared.
    begun: Option<TaskId>,
}

impl Place {
    /// For a task of this `key`.
    pub fn new(hub: &Arc<Hub>, key: Digest) -> Self {
        Place {
            hub: hub.clone(),
            seat: hub.sharing.seat(key),
            key,
            begun: None,
        }
    }

    /// What somebody else's compile has given already.
    pub fn made(&self) -> Option<Arc<Kept>> {
        self.seat.made()
    }

    /// A worker begins with this one's `task`, whatever comes of another's.
    pub fn begin(&mut self, task: TaskId) {
        self.begun = Some(task);
    }

    /// Waits for what comes of somebody else's compile; for ever if this one's was begun.
    pub async fn hear(&mut self) -> Shared {
        match self.begun {
            None => self.seat.hear().await,
            Some(_) => std::future::pending().await,
        }
    }

    fn share(&mut self, kept: &Arc<Kept>) {
        self.seat.share(kept.clone());
        self.settle();
    }

    fn settle(&mut self) -> bool {
        let Some(task) = self.begun.take() else {
            return false;
        };
        let same = self.key;
        self.hub.handle(Event::ResultSettled { task, same });
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // First, so that those who hear it do not wait for it once more.
        if self.settle() {
            self.seat.give_up();
        }
    }
}

/// A result to be kept, and shared with those who ask for it now, beside what is going on.
pub fn keep(mut place: Place, result: v1::TaskResult, outputs: Vec<Vec<u8>>, maker: Maker) {
    let (hub, key) = (place.hub.clone(), place.key);
    let Some(store) = hub.results.get().cloned() else {
        return;
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let kept = Kept {
        key: key.as_bytes().to_vec(),
        result: Some(result),
        outputs,
        maker: Some(maker),
        made_unix_ms: now.unwrap_or_default().as_millis() as u64,
    };
    if !kept.is_of(&key) {
        return;
    }
    tokio::task::spawn_blocking(move || {
        if !kept.holds() {
            return;
        }
        let kept = Arc::new(kept);
        place.share(&kept);
        put(&hub, &store, &key, &kept);
        if let Some(backend) = hub.backend.get()
            && !store.is_void(&kept)
        {
            backend.put(&key, &kept.encode_to_vec());
        }
    });
}

/// Into the store of this machine; blocks.
fn put(hub: &Hub, store: &Store, key: &Digest, kept: &Kept) {
    match store.put(key, kept) {
        Ok(stored) => {
            hub.metrics.results_kept.inc_by(u64::from(stored.is_kept));
            hub.metrics.results_evicted.inc_by(stored.evicted);
        }
        Err(why) => {
            hub.metrics.results_failed.inc();
            warn(hub, &why);
        }
    }
}

/// Not for each result: a full disk stays one for a while.
fn warn(hub: &Hub, why: &str) {
    let now_ms = hub.now_ms().max(1);
    let last_ms = WARNED_MS.load(Ordering::Relaxed);
    if last_ms == 0 || now_ms.saturating_sub(last_ms) >= RESULTS_WARN_MS {
        WARNED_MS.store(now_ms, Ordering::Relaxed);
        log::warn(format_args!("results are not kept: {why}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_come_whole_in_chunks_that_fit() {
        let large: Vec<u8> = (0..CHUNK_BYTES_MAX * 2 + 5).map(|i| i as u8).collect();
        let exact = vec![7; CHUNK_BYTES_MAX];
        let outputs = vec![large, Vec::new(), exact];
        let names: [&[u8]; 3] = [b"a.o", b"a.d", b"a.su"];
        let made = names.map(|name| v1::Output {
            path: name.to_vec(),
            ..v1::Output::default()
        });
        // One that was wanted was not made.
        let task = v1::Task {
            outputs: [
                b"a.o".to_vec(),
                b"a.gcno".to_vec(),
                b"a.d".to_vec(),
                b"a.su".to_vec(),
            ]
            .to_vec(),
            ..v1::Task::default()
        };
        let result = v1::TaskResult {
            outputs: made.to_vec(),
            ..v1::TaskResult::default()
        };
        let mut told = answer(
            &task,
            &Kept {
                outputs: outputs.clone(),
                result: Some(result),
                ..Kept::default()
            },
        );
        assert!(matches!(
            told.remove(0),
            submit_response::Kind::Started(started) if started.attempt == ATTEMPT
        ));
        let mut came = vec![Vec::new(); task.outputs.len()];
        let mut ended = Vec::new();
        for kind in told {
            match kind {
                submit_response::Kind::Chunk(chunk) => {
                    assert!(chunk.data.len() <= CHUNK_BYTES_MAX);
                    came[chunk.output as usize].extend(chunk.data);
                    ended.extend(chunk.last.then_some(chunk.output));
                }
                submit_response::Kind::Finished(finished) => assert!(finished.kept),
                other => panic!("{other:?}"),
            }
        }
        came.remove(1);
        assert_eq!(came, outputs);
        assert_eq!(ended, [0, 2, 3]);
    }
}
