//! The coordinator's use of its cache backend: looks within a bound of time, writes beside
//! all else, and leaves it alone while it fails.

use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hg_proto::wire::digest::Digest;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout};

use crate::backend::address::Address;
use crate::backend::breaker::Breaker;
use crate::backend::sealed::{Rejected, Secret};
use crate::backend::service::{self, Found, Service};
use crate::bounds::{
    BACKEND_ENTRY_BYTES_MAX, BACKEND_QUEUE_BYTES_MAX, BACKEND_QUEUE_MAX, BACKEND_READS_AT_ONCE_MAX,
    BACKEND_TRY_MS_MAX, BACKEND_WARN_MS, BACKEND_WRITE_MS_MAX, BACKEND_WRITES_AT_ONCE_MAX,
};
use crate::log;
use crate::metrics::BackendMetrics;

/// Where entries of this form lie; another form gets another folder.
const FOLDER: &str = "hybridgrid/results-1";
/// The list of whose results are void.
const VOID: &str = "hybridgrid/void-1";
/// What is looked for to see whether the backend answers; it need not be there.
const TRY: &str = "hybridgrid/is-there";

/// See the top of the file.
pub struct Backend {
    address: Address,
    secret: Secret,
    metrics: BackendMetrics,
    /// Another one after each failure, so that nothing of a line that failed is left.
    service: Mutex<Service>,
    reads: Mutex<Breaker>,
    writes: Mutex<Breaker>,
    reads_at_once: Semaphore,
    queue: mpsc::Sender<Write>,
    /// Bytes of what is in the queue or on its way.
    held_bytes: Arc<AtomicUsize>,
    /// It answers again.
    is_back: Notify,
    warned: Mutex<Option<Instant>>,
}

/// A result that is to be put there.
struct Write {
    name: String,
    sealed: Vec<u8>,
    held: Held,
}

/// Takes its bytes off the count when it is dropped.
struct Held {
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Backend {
    /// Begins to use the one at `address`, whether it answers now or not.
    ///
    /// # Errors
    /// In words: it can't be one.
    pub fn open(
        address: Address,
        secret: Secret,
        metrics: BackendMetrics,
    ) -> Result<Arc<Backend>, String> {
        service::prepare();
        let service = Service::new(&address)?;
        let (queue, writes) = mpsc::channel(BACKEND_QUEUE_MAX);
        let backend = Arc::new(Backend {
            service: Mutex::new(service),
            address,
            secret,
            metrics,
            reads: Mutex::default(),
            writes: Mutex::default(),
            reads_at_once: Semaphore::new(BACKEND_READS_AT_ONCE_MAX),
            queue,
            held_bytes: Arc::default(),
            is_back: Notify::new(),
            warned: Mutex::default(),
        });
        backend.tell_up(true);
        tokio::spawn(backend.clone().first_try());
        tokio::spawn(backend.clone().write_all(writes));
        Ok(backend)
    }

    /// What was put there under `key` by who has the key of this coordinator. `None` too when
    /// it does not say in time.
    pub async fn get(self: &Arc<Self>, key: &Digest) -> Option<Vec<u8>> {
        let (outcome, found) = self.look(key).await;
        self.count(outcome);
        found
    }

    async fn look(self: &Arc<Self>, key: &Digest) -> (&'static str, Option<Vec<u8>>) {
        if lock(&self.reads).is_open() {
            return ("skipped", None);
        }
        let time_max = self.address.read_time_max;
        let begun = Instant::now();
        let is_free = self.reads_at_once.available_permits() > 0;
        let Ok(Ok(_permit)) = timeout(time_max, self.reads_at_once.acquire()).await else {
            return ("skipped", None);
        };
        let service = self.service();
        let name = name(key);
        let left = time_max.saturating_sub(begun.elapsed());
        match timeout(left, service.read(&name)).await {
            Ok(Ok(found)) => {
                self.answered(begun);
                self.believe(key, found)
            }
            Ok(Err(why)) => {
                self.failed(&why);
                ("failed", None)
            }
            // It was our own looks that took the time.
            Err(_) if !is_free => ("skipped", None),
            Err(_) => {
                self.failed(&format_args!("no answer within {time_max:?}"));
                ("timeout", None)
            }
        }
    }

    fn believe(&self, key: &Digest, found: Found) -> (&'static str, Option<Vec<u8>>) {
        let opened = match found {
            Found::Nothing => return ("miss", None),
            Found::TooLarge => Err(Rejected::TooLarge),
            Found::Bytes(sealed) => self.secret.open(key, sealed),
        };
        match opened {
            Ok(body) => {
                let read = self.metrics.bytes.with_label_values(&["read"]);
                read.inc_by(body.len() as u64);
                ("hit", Some(body))
            }
            Err(why) => {
                self.reject(why.name());
                self.warn(why);
                ("rejected", None)
            }
        }
    }

    /// What was found counts as none for `reason`, though one of us put it there.
    pub fn reject(&self, reason: &str) {
        self.metrics.rejected.with_label_values(&[reason]).inc();
    }

    /// Not for each entry.
    fn warn(&self, why: Rejected) {
        let mut warned = lock(&self.warned);
        let pause = Duration::from_millis(BACKEND_WARN_MS);
        if warned.is_some_and(|last| last.elapsed() < pause) {
            return;
        }
        *warned = Some(Instant::now());
        log::warn(format_args!(
            "cache backend {}: {} counts as none; it is damaged, or was made with another key \
             than ours ({}): all coordinators of a backend need the same --cache-backend-key",
            self.address.shown(),
            why.words(),
            self.secret.name()
        ));
    }

    fn answered(&self, begun: Instant) {
        let seconds = begun.elapsed().as_secs_f64();
        self.metrics.read_seconds.observe(seconds);
        let mut reads = lock(&self.reads);
        // A late answer of before does not end a pause: the next try does.
        if !reads.is_open() {
            reads.succeeded();
        }
    }

    fn failed(self: &Arc<Self>, why: &dyn Display) {
        // An answer that is still to come on the old line may have no end.
        self.renew();
        let opened = lock(&self.reads).failed();
        if opened {
            self.went_away(why);
        }
    }

    fn went_away(self: &Arc<Self>, why: &dyn Display) {
        self.tell_up(false);
        log::warn(format_args!(
            "cache backend {} is left alone until it answers: {why}",
            self.address.shown()
        ));
        tokio::spawn(self.clone().come_back());
    }

    async fn first_try(self: Arc<Self>) {
        if let Err(why) = self.is_well().await {
            let opened = lock(&self.reads).give_up();
            if opened {
                self.went_away(&why);
            }
        }
    }

    async fn come_back(self: Arc<Self>) {
        loop {
            let pause_ms = lock(&self.reads).pause_ms();
            sleep(Duration::from_millis(pause_ms)).await;
            if self.is_well().await.is_ok() {
                break;
            }
            self.renew();
        }
        lock(&self.reads).succeeded();
        self.tell_up(true);
        self.is_back.notify_one();
        log::warn(format_args!(
            "cache backend {} answers again",
            self.address.shown()
        ));
    }

    /// Whether it answers, and within the time that a look may take once there is a line.
    async fn is_well(&self) -> Result<(), String> {
        let service = self.service();
        for ms_max in [
            BACKEND_TRY_MS_MAX,
            self.address.read_time_max.as_millis() as u64,
        ] {
            let tried = timeout(Duration::from_millis(ms_max), service.read(TRY)).await;
            tried.map_err(|_| format!("no answer within {ms_max} ms"))??;
        }
        Ok(())
    }

    /// Puts `body` there under `key`, beside what is going on; not at all if that is more
    /// than it takes. Seals it, which takes its time.
    pub fn put(&self, key: &Digest, body: &[u8]) {
        if self.address.is_read_only || body.len() > BACKEND_ENTRY_BYTES_MAX {
            return;
        }
        let held = Held {
            bytes: body.len(),
            all: self.held_bytes.clone(),
        };
        let before = self.held_bytes.fetch_add(held.bytes, Ordering::Relaxed);
        if before + held.bytes > BACKEND_QUEUE_BYTES_MAX {
            return self.count_write("dropped");
        }
        let write = Write {
            name: name(key),
            sealed: self.secret.seal(key, body),
            held,
        };
        if self.queue.try_send(write).is_err() {
            self.count_write("dropped");
        }
    }

    /// The list of whose results are void, as a coordinator has left it there.
    ///
    /// # Errors
    /// The backend does not say.
    pub async fn void_list(&self) -> Result<Option<Vec<u8>>, String> {
        if lock(&self.reads).is_open() {
            return Err("it is left alone".into());
        }
        let service = self.service();
        let time_max = Duration::from_millis(BACKEND_TRY_MS_MAX);
        let read = timeout(time_max, service.read(VOID)).await;
        let found = read.map_err(|_| format!("no answer within {time_max:?}"))??;
        Ok(match found {
            Found::Bytes(sealed) => self.secret.open(&void_key(), sealed).ok(),
            // Not one of ours.
            Found::Nothing | Found::TooLarge => None,
        })
    }

    /// Leaves the list there for the others. What can't be left is with the next look.
    pub async fn leave_void_list(&self, list: &[u8]) {
        if self.address.is_read_only || lock(&self.reads).is_open() {
            return;
        }
        let service = self.service();
        let writing = service.write(VOID, self.secret.seal(&void_key(), list));
        let _ = timeout(Duration::from_millis(BACKEND_WRITE_MS_MAX), writing).await;
    }

    async fn write_all(self: Arc<Self>, mut queue: mpsc::Receiver<Write>) {
        let at_once = Arc::new(Semaphore::new(BACKEND_WRITES_AT_ONCE_MAX));
        while let Some(write) = queue.recv().await {
            let pause_ms = {
                let mut writes = lock(&self.writes);
                writes.is_open().then(|| writes.pause_ms())
            };
            if let Some(pause_ms) = pause_ms {
                // The next one alone shows whether it takes any again.
                let _ = timeout(Duration::from_millis(pause_ms), self.is_back.notified()).await;
                self.write(write).await;
                continue;
            }
            // Nobody closes it.
            let Ok(permit) = at_once.clone().acquire_owned().await else {
                return;
            };
            let backend = self.clone();
            tokio::spawn(async move {
                backend.write(write).await;
                drop(permit);
            });
        }
    }

    async fn write(&self, write: Write) {
        let bytes = write.sealed.len() as u64;
        let service = self.service();
        let writing = service.write(&write.name, write.sealed);
        let time_max = Duration::from_millis(BACKEND_WRITE_MS_MAX);
        let written = match timeout(time_max, writing).await {
            Ok(written) => written,
            Err(_) => Err(format!("not done within {time_max:?}")),
        };
        drop(write.held);
        let shown = self.address.shown();
        match written {
            Ok(()) => {
                self.count_write("ok");
                let sent = self.metrics.bytes.with_label_values(&["written"]);
                sent.inc_by(bytes);
                if lock(&self.writes).succeeded() {
                    log::warn(format_args!("cache backend {shown} takes results again"));
                }
            }
            Err(why) => {
                self.count_write("failed");
                if lock(&self.writes).failed() {
                    log::warn(format_args!(
                        "cache backend {shown} takes no results: {why}"
                    ));
                }
            }
        }
    }

    /// Hangs up, and connects anew when it is used next.
    fn renew(&self) {
        // It could be made before.
        if let Ok(service) = Service::new(&self.address) {
            *lock(&self.service) = service;
        }
    }

    fn service(&self) -> Service {
        lock(&self.service).clone()
    }

    fn count(&self, outcome: &str) {
        self.metrics.requests.with_label_values(&[outcome]).inc();
    }

    fn count_write(&self, outcome: &str) {
        self.metrics.writes.with_label_values(&[outcome]).inc();
    }

    fn tell_up(&self, is_up: bool) {
        let up = self.metrics.up.with_label_values(&[self.address.shown()]);
        up.set(i64::from(is_up));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Stands for a task's key where the list of void results is sealed.
fn void_key() -> Digest {
    Digest::of(VOID.as_bytes())
}

/// The name of the entry of `key`: in one of 256 folders, for file systems.
fn name(key: &Digest) -> String {
    let hex = key.to_hex();
    format!("{FOLDER}/{}/{hex}", &hex[..2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    /// What a write may take.
    const PATIENCE: Duration = Duration::from_secs(20);
    const LOOK_AGAIN: Duration = Duration::from_millis(2);

    fn open(url: &str, secret: u8, metrics: &Metrics) -> Arc<Backend> {
        let address = Address::parse(url).unwrap();
        Backend::open(address, Secret::new([secret; 32]), metrics.backend.clone()).unwrap()
    }

    async fn comes(backend: &Arc<Backend>, key: &Digest) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(found) = backend.get(key).await {
                return found;
            }
            sleep(LOOK_AGAIN).await;
        }
        panic!("nothing is put there");
    }

    #[tokio::test]
    async fn who_has_the_key_gets_what_was_put_there_and_who_only_reads_puts_nothing() {
        let root = std::env::temp_dir().join(format!("hg-backend-use-{}", std::process::id()));
        let url = format!("fs://{}?timeout=10s", root.display());
        let metrics = Metrics::new();
        let (ours, stranger) = (open(&url, 1, &metrics), open(&url, 2, &metrics));
        let reader = open(&format!("{url}&read-only"), 1, &metrics);
        let (key, other) = (Digest::of(b"a"), Digest::of(b"b"));
        reader.put(&other, b"not there");
        ours.put(&key, b"body");
        assert_eq!(comes(&ours, &key).await, b"body");
        assert_eq!(reader.get(&key).await, Some(b"body".to_vec()));
        assert_eq!(reader.get(&other).await, None);
        assert_eq!(stranger.get(&key).await, None);
        let rejected = &metrics.backend.rejected;
        let rejected = rejected.with_label_values(&["not-authentic"]);
        assert_eq!(rejected.get(), 1);

        assert_eq!(ours.void_list().await, Ok(None));
        reader.leave_void_list(b"none").await;
        ours.leave_void_list(b"[]").await;
        assert_eq!(reader.void_list().await, Ok(Some(b"[]".to_vec())));
        assert_eq!(stranger.void_list().await, Ok(None));
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[tokio::test]
    async fn what_is_more_than_may_wait_is_dropped_and_counted() {
        let metrics = Metrics::new();
        // Nobody is there, so that all of it waits.
        let backend = open("redis+unix:///nowhere/socket", 1, &metrics);
        let body = vec![0; BACKEND_ENTRY_BYTES_MAX];
        let before = BACKEND_QUEUE_BYTES_MAX / body.len();
        for _ in 0..before + 2 {
            backend.put(&Digest::of(b"a"), &body);
        }
        let dropped = metrics.backend.writes.with_label_values(&["dropped"]);
        assert_eq!(dropped.get(), 2);
    }
}
