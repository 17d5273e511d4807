//! The dashboard's live messages: one maker for all sockets. Each half second it makes one
//! message of what has changed, while anybody listens; who comes gets the whole first. A
//! socket that does not read is dropped.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::bounds::{
    LIVE_BEHIND_MAX, LIVE_ENDED_MAX, LIVE_EVENTS_MAX, LIVE_MESSAGE_BYTES_MAX, LIVE_SEND_MS_MAX,
    LIVE_SILENCE_MS_MAX, LIVE_SOCKETS_MAX, LIVE_TICK_MS,
};
use crate::dispatch::hub::Hub;
use crate::monitor::aggregator::Aggregator;
use crate::monitor::series::Point;
use crate::monitor::tasks::EndedTask;
use crate::serve::api;

/// What is in each row of `ended`, in this order.
const ENDED_COLUMNS: [&str; 9] = [
    "task_id",
    "worker",
    "source",
    "client",
    "outcome",
    "queue_ms",
    "transfer_ms",
    "compile_ms",
    "ended_unix_ms",
];

/// What was shown last.
struct Shown {
    sequence: u64,
    made: Instant,
    state: Value,
    /// How far the lists were read.
    ended: u64,
    events: u64,
    point: Option<Point>,
    /// All of it as one message, made for the first who asks.
    whole: OnceLock<Utf8Bytes>,
}

/// See the top of the file.
pub struct Live {
    hub: Arc<Hub>,
    shown: Mutex<Option<Arc<Shown>>>,
    changes: broadcast::Sender<Utf8Bytes>,
    sockets: Arc<Semaphore>,
}

/// A place among the sockets that are open.
pub struct Place {
    hub: Arc<Hub>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hub.metrics.live_sockets.dec();
    }
}

impl Live {
    /// Nobody listens yet.
    pub fn new(hub: Arc<Hub>) -> Arc<Self> {
        Arc::new(Live {
            hub,
            shown: Mutex::default(),
            changes: broadcast::channel(LIVE_BEHIND_MAX).0,
            sockets: Arc::new(Semaphore::new(LIVE_SOCKETS_MAX)),
        })
    }

    /// A place for one more socket; `None`: there are too many.
    pub fn place(&self) -> Option<Place> {
        let permit = self.sockets.clone().try_acquire_owned().ok()?;
        self.hub.metrics.live_sockets.inc();
        Some(Place {
            hub: self.hub.clone(),
            _permit: permit,
        })
    }

    /// Makes messages for as long as the process lives.
    pub async fn make(self: Arc<Self>) {
        let mut tick = tokio::time::interval(Duration::from_millis(LIVE_TICK_MS));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if self.changes.receiver_count() == 0 {
                continue;
            }
            let live = self.clone();
            // Not by the threads that relay. A panic in it ends the message, not the maker.
            let _ = tokio::task::spawn_blocking(move || live.advance(LIVE_TICK_MS / 2)).await;
        }
    }

    /// What is so now, at most `old_ms` old; who listens is told the difference.
    fn advance(&self, old_ms: u64) -> Arc<Shown> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shown) = &*shown
            && shown.made.elapsed() < Duration::from_millis(old_ms)
        {
            return shown.clone();
        }
        let before = shown.take();
        let now = Arc::new(self.look(before.as_deref()));
        if let Some(before) = before
            && self.changes.receiver_count() > 0
        {
            let message = self.difference(&before, &now).to_string();
            // Whoever listened may have gone.
            let _ = self.changes.send(message.into());
        }
        *shown = Some(now.clone());
        now
    }

    fn look(&self, before: Option<&Shown>) -> Shown {
        // The lists first: what ends in between is in them the next time, and not in the
        // state any more.
        let (ended, events, point) = {
            let seen = self.hub.seen();
            let point = seen.series().newest();
            (seen.ended().newest(), seen.events().newest(), point)
        };
        Shown {
            sequence: before.map_or(1, |before| before.sequence + 1),
            made: Instant::now(),
            state: api::live_state(&self.hub),
            ended,
            events,
            point,
            whole: OnceLock::new(),
        }
    }

    fn difference(&self, before: &Shown, now: &Shown) -> Value {
        let patch = api::merge_patch(&before.state, &now.state);
        let seen = self.hub.seen();
        let ended = seen.ended().after(before.ended);
        let ended = ended.take_while(|task| task.sequence <= now.ended);
        // The newest, if there are too many.
        let skip = (now.ended - before.ended).saturating_sub(LIVE_ENDED_MAX as u64);
        let ended: Vec<Value> = ended.skip(skip as usize).map(|task| row(task)).collect();
        json!({
            "kind": "change",
            "sequence": now.sequence,
            "patch": patch.unwrap_or_else(|| json!({})),
            "ended": ended,
            "events": events(&seen, before.events, now.events),
            "point": now.point.filter(|point| before.point.as_ref() != Some(point)),
        })
    }

    /// All that is shown, as one message. Blocks for as long as that takes to make.
    pub fn whole(&self) -> Utf8Bytes {
        self.message(&self.advance(LIVE_TICK_MS / 2))
    }

    fn message(&self, shown: &Shown) -> Utf8Bytes {
        let make = || {
            let seen = self.hub.seen();
            let mut ended: Vec<&Arc<EndedTask>> = seen.last_of_workers().collect();
            ended.retain(|task| task.sequence <= shown.ended);
            ended.sort_unstable_by_key(|task| task.sequence);
            let ended: Vec<Value> = ended.into_iter().map(|task| row(task)).collect();
            let points: Vec<&Point> = seen.series().points().collect();
            let message = json!({
                "kind": "whole",
                "sequence": shown.sequence,
                "state": shown.state,
                "ended_columns": ENDED_COLUMNS,
                "ended": ended,
                "events": events(&seen, shown.events.saturating_sub(LIVE_EVENTS_MAX), shown.events),
                "points": points,
                "worker_load_percent": seen.loads(),
            });
            message.to_string().into()
        };
        shown.whole.get_or_init(make).clone()
    }

    /// All that is shown, and what will change.
    fn listen(&self) -> (Utf8Bytes, broadcast::Receiver<Utf8Bytes>) {
        // Whatever is made while nobody listens is told to nobody.
        let changes = self.changes.subscribe();
        let shown = self.advance(LIVE_TICK_MS / 2);
        (self.message(&shown), changes)
    }

    /// Serves a socket until it ends; false: it does not read.
    pub async fn serve(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        hello: Value,
    ) -> bool {
        let live = self.clone();
        let Ok((whole, changes)) = tokio::task::spawn_blocking(move || live.listen()).await else {
            return true;
        };
        let config = WebSocketConfig::default()
            .max_message_size(Some(LIVE_MESSAGE_BYTES_MAX))
            .max_frame_size(Some(LIVE_MESSAGE_BYTES_MAX));
        let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
        talk(socket, [hello.to_string().into(), whole], changes).await
    }
}

/// Sends `first` and all changes until the other end closes, or may hear no more; false: it
/// does not read.
async fn talk(
    mut socket: WebSocketStream<impl AsyncRead + AsyncWrite + Unpin>,
    first: [Utf8Bytes; 2],
    mut changes: broadcast::Receiver<Utf8Bytes>,
) -> bool {
    let patience = Duration::from_millis(LIVE_SEND_MS_MAX);
    for message in first {
        match timeout(patience, socket.send(Message::Text(message))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return true,
            Err(_) => return false,
        }
    }
    let silence = Duration::from_millis(LIVE_SILENCE_MS_MAX);
    let mut heard = tokio::time::Instant::now();
    let mut ping = tokio::time::interval(silence / 3);
    loop {
        let message = tokio::select! {
            change = changes.recv() => match change {
                Ok(change) => Message::Text(change),
                // It is so far behind that only the whole would help: let it come again.
                Err(broadcast::error::RecvError::Lagged(_)) => return false,
                Err(broadcast::error::RecvError::Closed) => return true,
            },
            heard_of = socket.next() => match heard_of {
                None | Some(Err(_) | Ok(Message::Close(_))) => return true,
                // There is nothing to be said to us; that it lives is enough.
                Some(Ok(_)) => {
                    heard = tokio::time::Instant::now();
                    continue;
                }
            },
            _ = ping.tick() => match heard.elapsed() > silence {
                true => return false,
                false => Message::Ping(Vec::new().into()),
            },
        };
        match timeout(patience, socket.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return true,
            Err(_) => return false,
        }
    }
}

fn row(task: &EndedTask) -> Value {
    json!([
        task.task_id,
        &*task.worker,
        &*task.source,
        &*task.client,
        &*task.outcome,
        task.queue_ms,
        task.transfer_ms,
        task.compile_ms,
        task.ended_unix_ms,
    ])
}

fn events(seen: &Aggregator, after: u64, until: u64) -> Value {
    let events = seen.events().after(after);
    let events = events.take_while(|event| event.sequence <= until);
    json!(events.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduling::coordinator::Settings;

    fn live() -> Arc<Live> {
        Live::new(Hub::new(Settings::default()).0)
    }

    #[test]
    fn who_listens_is_told_what_changes_and_nothing_twice() {
        let live = live();
        let (whole, mut changes) = live.listen();
        let whole: Value = serde_json::from_str(&whole).unwrap();
        assert_eq!(whole["kind"], "whole");
        assert_eq!(
            whole["ended_columns"].as_array().unwrap().len(),
            ENDED_COLUMNS.len()
        );
        live.hub.seen().note("audit-differs", "pi", "<b>", 5);
        live.advance(0);
        let change: Value = serde_json::from_str(&changes.try_recv().unwrap()).unwrap();
        assert_eq!(change["events"][0]["detail"], "<b>");
        assert_eq!(
            change["sequence"].as_u64(),
            whole["sequence"].as_u64().map(|n| n + 1)
        );
        live.advance(0);
        let next: Value = serde_json::from_str(&changes.try_recv().unwrap()).unwrap();
        assert_eq!(next["events"].as_array().unwrap().len(), 0);
        // What is new enough is not made again.
        live.advance(u64::MAX >> 20);
        assert!(changes.try_recv().is_err());
    }

    #[test]
    fn sockets_have_a_bound() {
        let live = live();
        let mut places: Vec<Place> = (0..LIVE_SOCKETS_MAX).map_while(|_| live.place()).collect();
        assert_eq!(places.len(), LIVE_SOCKETS_MAX);
        assert!(live.place().is_none());
        assert_eq!(live.hub.metrics.live_sockets.get(), LIVE_SOCKETS_MAX as i64);
        places.pop();
        assert!(live.place().is_some());
    }

    /// Virtual time: it stands while anything can go on, and then jumps.
    #[tokio::test(start_paused = true)]
    async fn a_socket_that_does_not_read_is_dropped() {
        let (near, far) = tokio::io::duplex(4 << 10);
        let socket = WebSocketStream::from_raw_socket(near, Role::Server, None).await;
        let changes = broadcast::channel::<Utf8Bytes>(LIVE_BEHIND_MAX).0;
        let receiver = changes.subscribe();
        let talking = tokio::spawn(talk(socket, ["{}".into(), "{}".into()], receiver));
        let long: Utf8Bytes = "x".repeat(64 << 10).into();
        let began = tokio::time::Instant::now();
        let _ = changes.send(long);
        assert!(!talking.await.unwrap());
        let took = began.elapsed();
        assert!(
            took <= Duration::from_millis(LIVE_SEND_MS_MAX + 1),
            "{took:?}"
        );
        drop(far);
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_that_never_answers_is_dropped() {
        let (near, far) = tokio::io::duplex(1 << 20);
        let socket = WebSocketStream::from_raw_socket(near, Role::Server, None).await;
        let changes = broadcast::channel::<Utf8Bytes>(LIVE_BEHIND_MAX).0;
        let talking = talk(socket, ["{}".into(), "{}".into()], changes.subscribe());
        assert!(!talking.await);
        drop(far);
    }
}
