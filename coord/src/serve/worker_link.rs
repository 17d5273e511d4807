//! One worker link: bytes from a socket to the hub, frames from the channel to
//! the socket. A worker that breaks the protocol is told why and dropped.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hg_proto::PROTOCOL_VERSION;
use hg_proto::secure::token::Role;
use hg_proto::v1::{self, FromWorker, from_worker};
use hg_proto::wire::frame::{Decoder, FrameError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{Instant, timeout};

use crate::bounds::{HELLO_BYTES_MAX, LINK_IDLE_AT_ONCE_MAX, LINK_IDLE_PER_S_MAX, LINK_READ_BYTES};
use crate::dispatch::channel::{Channel, Closed, Fault};
use crate::dispatch::hub::Hub;
use crate::door::bucket::Bucket;
use crate::door::crowd::Member;
use crate::log;
use crate::scheduling::coordinator::Event;
use crate::scheduling::id::{DispatchId, WorkerId};
use crate::scheduling::registry::{Vitals, WorkerSpec};
use crate::scheduling::validate;
use crate::trust::auth::Holder;
use crate::trust::doorkeeper::{self, Admitted, Doorkeeper};

/// Milliseconds that the last frames of a link may take.
const GOODBYE_MS_MAX: u64 = 300;
/// Milliseconds between two notes that chunks are signs of life too.
const HEARD_MS: u64 = 500;

/// The other end of a connection, as far as it is known before the hello.
pub struct Dialler {
    /// The address that it dials from.
    pub peer: SocketAddr,
    /// Its holder, as its certificate says.
    pub certified: Option<Holder>,
    /// Decides whether it is let in.
    pub keeper: Arc<Doorkeeper>,
}

/// A first message that was let in.
enum Greeting {
    /// A worker's hello.
    Hello(Box<WorkerSpec>, Admitted),
    /// The question whether a token is good.
    Check(Admitted),
}

/// Why a link ended.
enum LinkEnd {
    /// The worker closed it.
    Eof,
    /// The network failed.
    Io(std::io::Error),
    /// The worker broke the protocol.
    Fault(Fault),
    /// The coordinator closed it.
    Closed(Closed),
}

impl From<Fault> for LinkEnd {
    fn from(fault: Fault) -> Self {
        LinkEnd::Fault(fault)
    }
}

fn frame_fault(error: &FrameError) -> Fault {
    let reason = match error {
        FrameError::TooLong(_) => "frame_too_long",
        FrameError::Empty => "frame_empty",
        FrameError::Garbage(_) => "frame_garbage",
    };
    Fault::new(reason, error.to_string())
}

/// Serves a worker's connection, of which `first` was read already, until it ends.
/// `member` is its place among those that have not said hello, `deadline` when
/// they must have.
pub async fn serve(
    stream: impl AsyncRead + AsyncWrite,
    first: &[u8],
    dialler: Dialler,
    hub: Arc<Hub>,
    mut member: Member,
    deadline: Instant,
) {
    let peer = dialler.peer;
    let Some(_alive) = hub.stay() else {
        return;
    };
    let mut reader = Reader {
        decoder: Decoder::new(),
        buffer: vec![0; LINK_READ_BYTES],
        pending_max: HELLO_BYTES_MAX,
    };
    reader.decoder.push(first);
    let (mut read, mut write) = tokio::io::split(stream);
    let hello = tokio::select! {
        hello = tokio::time::timeout_at(deadline, reader.next(&mut read)) => hello,
        () = member.evicted() => return refuse(&hub, peer, &Fault::new("crowded", "too many silent connections")),
    };
    drop(member);
    // From here on the decoder's own bound holds.
    reader.pending_max = usize::MAX;
    let hello = match hello {
        Err(_) => Err(Fault::new("no_hello", "no hello in time")),
        Ok(Err(LinkEnd::Fault(fault))) => Err(fault),
        Ok(Err(_)) => Err(Fault::new("closed_before_hello", "closed before its hello")),
        Ok(Ok(message)) => greeting(message, &dialler, &hub),
    };
    match hello {
        Ok(Greeting::Hello(spec, admitted)) => {
            let name = spec.name.clone();
            let (worker, channel) = hub.worker_joined(*spec, admitted.renewal.clone());
            if admitted.holder.is_some() {
                let holder = admitted.name();
                log::audit(format_args!("worker {name} joined from {peer} as {holder}"));
            }
            let joined = JoinedWorker {
                hub: &hub,
                worker,
                channel: &channel,
                keeper: &dialler.keeper,
                peer,
            };
            run(&joined, admitted, &mut reader, &mut read, &mut write).await;
        }
        Ok(Greeting::Check(admitted)) => {
            let holder = admitted.name();
            log::audit(format_args!("token of worker {holder} tried from {peer}"));
            let welcome = v1::Welcome {
                protocol_version: PROTOCOL_VERSION,
                token: admitted.renewal.unwrap_or_default(),
                ..v1::Welcome::default()
            };
            say(&mut write, v1::to_worker::Kind::Welcome(welcome)).await;
        }
        Err(fault) => {
            refuse(&hub, peer, &fault);
            say_goodbye(&mut write, fault.detail).await;
        }
    }
}

fn refuse(hub: &Hub, peer: SocketAddr, fault: &Fault) {
    if fault.reason != "crowded" {
        hub.offended(peer.ip());
    }
    hub.metrics.drop_connection(fault.reason);
    log::debug(format_args!("dropped {peer}: {}", fault.detail));
}

/// Checks the first message, and who sent it.
fn greeting(message: from_worker::Kind, dialler: &Dialler, hub: &Hub) -> Result<Greeting, Fault> {
    let admit = |token: &str| {
        let admitted = dialler.keeper.admit(token, dialler.certified.as_ref());
        let admitted = admitted.and_then(|who| who.may(&[Role::Worker]).map(|()| who));
        admitted.map_err(|why| {
            doorkeeper::turn_away(hub, dialler.peer.ip(), "a worker", why);
            Fault::new(why.reason(), why.to_string())
        })
    };
    match message {
        from_worker::Kind::Hello(mut hello) => {
            // Nothing else that it says is looked at before that.
            let admitted = admit(&std::mem::take(&mut hello.token))?;
            let spec = validate::hello(hello, dialler.peer.to_string());
            let mut spec = spec.map_err(|why| Fault::new("bad_hello", why))?;
            spec.holder = admitted.name().to_owned();
            Ok(Greeting::Hello(Box::new(spec), admitted))
        }
        from_worker::Kind::Check(check) => Ok(Greeting::Check(admit(&check.token)?)),
        _ => Err(Fault::new("no_hello", "another message before the hello")),
    }
}

async fn say_goodbye(write: &mut WriteHalf<impl AsyncWrite>, reason: String) {
    say(write, v1::to_worker::Kind::Goodbye(v1::Goodbye { reason })).await;
}

async fn say(write: &mut WriteHalf<impl AsyncWrite>, kind: v1::to_worker::Kind) {
    if let Ok(frame) = hg_proto::wire::frame::encode(&v1::ToWorker { kind: Some(kind) }) {
        // It is being dropped: whether it hears why is its own affair.
        let _ = timeout(Duration::from_millis(GOODBYE_MS_MAX), async {
            write.write_all(&frame).await?;
            write.flush().await
        })
        .await;
    }
}

/// A worker that has joined, and the ways to it.
struct JoinedWorker<'a> {
    hub: &'a Hub,
    worker: WorkerId,
    channel: &'a Channel,
    keeper: &'a Doorkeeper,
    peer: SocketAddr,
}

/// Both directions until one ends; then the last words.
async fn run(
    joined: &JoinedWorker<'_>,
    admitted: Admitted,
    reader: &mut Reader,
    read: &mut ReadHalf<impl AsyncRead>,
    write: &mut WriteHalf<impl AsyncWrite>,
) {
    let JoinedWorker {
        hub,
        worker,
        channel,
        ..
    } = *joined;
    let mut writer = pin!(write_all(channel, write));
    let end = tokio::select! {
        end = read_all(joined, admitted, reader, read) => end,
        end = &mut writer => end,
        end = cut(channel) => end,
    };
    let fault = matches!(end, LinkEnd::Fault(_));
    if matches!(end, LinkEnd::Fault(_) | LinkEnd::Closed(Closed::AtOnce)) {
        hub.offended(joined.peer.ip());
    }
    let reason = count(hub, end);
    // Closes the channel, with a goodbye as its last frame.
    hub.worker_gone(worker, &reason);
    if fault {
        let _ = timeout(Duration::from_millis(GOODBYE_MS_MAX), writer).await;
    }
}

/// Returns when the coordinator has closed the link and waited long enough for
/// the worker to read why.
async fn cut(channel: &Channel) -> LinkEnd {
    let closed = channel.closed().await;
    if closed != Closed::AtOnce {
        tokio::time::sleep(Duration::from_millis(GOODBYE_MS_MAX)).await;
    }
    LinkEnd::Closed(closed)
}

/// Counts the end if it was our doing, and says it in words.
fn count(hub: &Hub, end: LinkEnd) -> String {
    let (counted, reason) = match end {
        LinkEnd::Eof => return "closed by the worker".into(),
        LinkEnd::Io(error) => return error.to_string(),
        LinkEnd::Fault(fault) => {
            log::info(format_args!(
                "worker at fault, {}: {}",
                fault.reason, fault.detail
            ));
            (fault.reason, fault.detail)
        }
        LinkEnd::Closed(Closed::Expired) => ("expired", "no heartbeat".into()),
        LinkEnd::Closed(Closed::Politely) => ("closed", "closed by the coordinator".into()),
        LinkEnd::Closed(Closed::AtOnce) => ("not_reading", "the worker does not read".into()),
    };
    hub.metrics.drop_connection(counted);
    reason
}

async fn write_all(channel: &Channel, write: &mut WriteHalf<impl AsyncWrite>) -> LinkEnd {
    while let Some(frame) = channel.next_frame().await {
        let written = async {
            write.write_all(&frame).await?;
            write.flush().await
        };
        if let Err(error) = written.await {
            return LinkEnd::Io(error);
        }
    }
    LinkEnd::Closed(channel.closed().await)
}

async fn read_all(
    joined: &JoinedWorker<'_>,
    mut admitted: Admitted,
    reader: &mut Reader,
    read: &mut ReadHalf<impl AsyncRead>,
) -> LinkEnd {
    let JoinedWorker {
        hub,
        worker,
        channel,
        ..
    } = *joined;
    let mut heard = Instant::now();
    let mut renewal = String::new();
    let mut changes = joined.keeper.changes();
    let mut idle = Bucket::new(LINK_IDLE_AT_ONCE_MAX, LINK_IDLE_PER_S_MAX, hub.now_ms());
    loop {
        let message = tokio::select! {
            message = reader.next(read) => match message {
                Ok(message) => Some(message),
                Err(end) => return end,
            },
            // The keeper lives as long as the link.
            _ = changes.changed() => None,
        };
        let is_due = heard.elapsed() >= Duration::from_millis(HEARD_MS);
        if is_due && message.is_some() {
            heard = Instant::now();
            hub.worker_heard(worker, None);
        }
        if is_due || message.is_none() {
            match joined.keeper.recheck(&mut admitted) {
                Ok(Some(token)) => renewal = token,
                Ok(None) => {}
                Err(why) => {
                    doorkeeper::turn_away(hub, joined.peer.ip(), "a worker", why);
                    return LinkEnd::Fault(Fault::new(why.reason(), why.to_string()));
                }
            }
        }
        let Some(message) = message else {
            continue;
        };
        let is_idle = matches!(
            message,
            from_worker::Kind::Heartbeat(_)
                | from_worker::Kind::Draining(_)
                | from_worker::Kind::Offers(_)
                | from_worker::Kind::OwnMetrics(_)
        );
        if is_idle && !idle.take(1, hub.now_ms()) {
            return LinkEnd::Fault(Fault::new("link_flood", "too many heartbeats"));
        }
        if let Err(fault) = take(hub, worker, channel, message, &mut renewal) {
            return LinkEnd::Fault(fault);
        }
    }
}

fn take(
    hub: &Hub,
    worker: WorkerId,
    channel: &Channel,
    message: from_worker::Kind,
    renewal: &mut String,
) -> Result<(), Fault> {
    match message {
        from_worker::Kind::Hello(_) | from_worker::Kind::Check(_) => {
            return Err(Fault::new("second_hello", "a second hello"));
        }
        from_worker::Kind::Heartbeat(beat) => {
            let vitals = Vitals {
                load_milli: beat.load_milli,
                memory_available_bytes: beat.memory_available_bytes,
                temperature_milli_c: beat.temperature_milli_c,
                round_trip_us: beat.round_trip_us,
                slots: beat.slots,
            };
            hub.worker_heard(worker, Some(vitals));
            hub.slots_why(worker, &beat.slots_why);
            let seen = v1::HeartbeatSeen {
                sequence: beat.sequence,
                token: std::mem::take(renewal),
                wants_metrics: hub.wants_metrics(worker),
            };
            channel.send(v1::to_worker::Kind::HeartbeatSeen(seen));
        }
        from_worker::Kind::Need(need) => {
            let dispatch = DispatchId(need.dispatch_id);
            if let Some(inputs) = channel.need(dispatch, need.digests)? {
                hub.handle(Event::NeedReceived {
                    worker,
                    dispatch,
                    inputs,
                });
            }
        }
        from_worker::Kind::Chunk(chunk) => {
            let bytes = hub.metrics.bytes.with_label_values(&["to_client"]);
            bytes.inc_by(chunk.data.len() as u64);
            let dispatch = DispatchId(chunk.dispatch_id);
            if !channel.returns(dispatch) {
                // Ends what runs beside it before anybody sees a byte of it.
                hub.handle(Event::ResultBegan { worker, dispatch });
            }
            channel.chunk(chunk)?;
        }
        from_worker::Kind::Done(done) => hub.attempt_done(worker, channel, done)?,
        from_worker::Kind::Failed(failed) => hub.attempt_failed(worker, channel, failed)?,
        from_worker::Kind::Draining(_) => hub.worker_drains(worker),
        from_worker::Kind::Offers(offers) => hub.worker_offers(worker, offers)?,
        from_worker::Kind::OwnMetrics(own) => hub.own_metrics(worker, own.text)?,
        from_worker::Kind::Begun(begun) => {
            let dispatch = DispatchId(begun.dispatch_id);
            hub.handle(Event::CompileRuns {
                worker,
                dispatch,
                cpu_us: begun.cpu_us,
                ended: begun.ended,
            });
        }
    }
    Ok(())
}

/// Reads messages from a socket.
struct Reader {
    decoder: Decoder,
    buffer: Vec<u8>,
    /// Bytes that may wait for the rest of their frame.
    pending_max: usize,
}

impl Reader {
    async fn next(
        &mut self,
        read: &mut ReadHalf<impl AsyncRead>,
    ) -> Result<from_worker::Kind, LinkEnd> {
        loop {
            let message = self
                .decoder
                .next_message::<FromWorker>()
                .map_err(|error| frame_fault(&error))?;
            match message {
                Some(FromWorker { kind: Some(kind) }) => return Ok(kind),
                Some(FromWorker { kind: None }) => {
                    return Err(Fault::new("unknown_message", "a message of no known kind").into());
                }
                None if self.decoder.pending() > self.pending_max => {
                    return Err(Fault::new("frame_too_long", "too long a hello").into());
                }
                None => {}
            }
            match read.read(&mut self.buffer).await {
                Ok(0) if self.decoder.pending() > 0 => {
                    return Err(Fault::new("frame_truncated", "the last frame is cut off").into());
                }
                Ok(0) => return Err(LinkEnd::Eof),
                Ok(len) => self.decoder.push(&self.buffer[..len]),
                Err(error) => return Err(LinkEnd::Io(error)),
            }
        }
    }
}
