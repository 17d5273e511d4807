//! The gRPC services: `hybridgrid.v1.BuildService`, health and reflection, and who
//! may call what. Unaware of how connections are accepted.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hg_proto::secure::token::Role;
use hg_proto::v1::{self, event};
use hg_proto::wire::limits::GRPC_MESSAGE_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, broadcast, mpsc};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

use crate::bounds::*;
use crate::dispatch::hub::Hub;
use crate::door::shares::{Share, Shares};
use crate::door::submit_rate::{SubmitRates, TooMany};
use crate::serve::accept::Peer;
use crate::serve::activity;
use crate::serve::request_body::{self, Bounded};
use crate::serve::submit;
use crate::trust::auth::{Refusal, VIEWERS};
use crate::trust::doorkeeper::{self, Admitted, Doorkeeper};

/// The generated service.
#[allow(clippy::all, missing_docs)]
mod service {
    include!(concat!(env!("OUT_DIR"), "/hybridgrid.v1.rs"));
}

pub use service::build_service_client::BuildServiceClient as Client;
use service::build_service_server::{BuildService, BuildServiceServer};

/// For reflection: the files of `proto/hybridgrid/v1` that the service needs.
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
/// Replies that wait for one client beside what HTTP/2 has in flight.
const REPLIES_MAX: usize = 2;

/// Metadata of an answer that has a token to be kept instead of the one that was
/// shown.
const RENEWAL: &str = "hg-renewal";
/// Roles that may submit.
const CLIENTS: [Role; 2] = [Role::Client, Role::Admin];

struct Build {
    hub: Arc<Hub>,
    keeper: Arc<Doorkeeper>,
    submits: Arc<Semaphore>,
    holders_submits: Arc<Shares>,
    rates: Arc<Mutex<SubmitRates>>,
    watchers: Arc<Semaphore>,
    holders_watchers: Arc<Shares>,
}

type Reply<T> = Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl BuildService for Build {
    type SubmitTaskStream = Answers<v1::SubmitResponse>;
    type WatchEventsStream = Answers<v1::Event>;

    async fn submit_task(
        &self,
        request: Request<Streaming<v1::SubmitRequest>>,
    ) -> Reply<Self::SubmitTaskStream> {
        let caller = self.allow(&request, &CLIENTS)?;
        let room = self.submits.clone().try_acquire_owned();
        let room = room.map_err(|_| Status::resource_exhausted("too many tasks"))?;
        let alive = self
            .hub
            .stay()
            .ok_or_else(|| Status::unavailable("going away"))?;
        let (holder, peer) = (caller.holder(), caller.client());
        let (admitted, address) = (caller.admitted.clone(), caller.peer.address.ip());
        let permit = self.submit_permit(&holder, &peer)?;
        let (replies, stream) = mpsc::channel(REPLIES_MAX);
        let (hub, requests) = (self.hub.clone(), request.into_inner());
        let keeper = self.keeper.clone();
        tokio::spawn(async move {
            let end = replies.clone();
            let served = submit::serve(hub.clone(), requests, replies, holder, peer);
            tokio::select! {
                () = served => {}
                why = keeper.until_void(&admitted) => {
                    doorkeeper::turn_away(&hub, address, "a task", why);
                    // One that does not read sees the stream end.
                    let _ = end.try_send(Err(Status::unauthenticated(why.to_string())));
                }
            }
            drop((room, permit, alive));
        });
        caller.answer(Box::pin(ReceiverStream::new(stream)))
    }

    async fn report_cache_hit(
        &self,
        request: Request<v1::ReportCacheHitRequest>,
    ) -> Reply<v1::ReportCacheHitResponse> {
        let caller = self.allow(&request, &CLIENTS)?;
        let counted = self.hub.cache_hits(&request.into_inner());
        counted.map_err(Status::invalid_argument)?;
        caller.answer(v1::ReportCacheHitResponse {})
    }

    async fn report_build(
        &self,
        request: Request<v1::ReportBuildRequest>,
    ) -> Reply<v1::ReportBuildResponse> {
        let caller = self.allow(&request, &CLIENTS)?;
        let counted = self
            .hub
            .build_ended(&caller.holder(), &request.into_inner());
        counted.map_err(Status::invalid_argument)?;
        caller.answer(v1::ReportBuildResponse {})
    }

    async fn report_audit(
        &self,
        request: Request<v1::ReportAuditRequest>,
    ) -> Reply<v1::ReportAuditResponse> {
        let caller = self.allow(&request, &CLIENTS)?;
        self.hub.audited(&caller.holder(), request.into_inner());
        caller.answer(v1::ReportAuditResponse {})
    }

    async fn readmit_worker(
        &self,
        request: Request<v1::ReadmitWorkerRequest>,
    ) -> Reply<v1::ReadmitWorkerResponse> {
        let caller = self.allow(&request, &[Role::Admin])?;
        let readmitted = self.hub.readmit(&request.into_inner().worker);
        let readmitted = u32::try_from(readmitted).unwrap_or(u32::MAX);
        caller.answer(v1::ReadmitWorkerResponse { readmitted })
    }

    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Reply<v1::GetStatusResponse> {
        let caller = self.allow(&request, &VIEWERS)?;
        let mut status = self.hub.status();
        status.insecure = caller.admitted.holder.is_none();
        caller.answer(status)
    }

    async fn list_workers(
        &self,
        request: Request<v1::ListWorkersRequest>,
    ) -> Reply<v1::ListWorkersResponse> {
        let caller = self.allow(&request, &VIEWERS)?;
        let workers = match request.into_inner().brief {
            true => activity::workers(&self.hub),
            false => self.hub.workers(),
        };
        caller.answer(v1::ListWorkersResponse { workers })
    }

    async fn get_activity(
        &self,
        request: Request<v1::GetActivityRequest>,
    ) -> Reply<v1::GetActivityResponse> {
        let caller = self.allow(&request, &VIEWERS)?;
        caller.answer(activity::activity(&self.hub))
    }

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Reply<Self::WatchEventsStream> {
        let caller = self.allow(&request, &VIEWERS)?;
        let room = self.watchers.clone().try_acquire_owned();
        let room = room.map_err(|_| Status::resource_exhausted("too many watchers"))?;
        let mut share = self.holders_watchers.of(&caller.holder());
        if !share.set(1) {
            return Err(Status::resource_exhausted(
                "too many watchers of one holder",
            ));
        }
        let events = self.hub.events.subscribe();
        let (replies, stream) = mpsc::channel(REPLIES_MAX);
        let (hub, keeper) = (self.hub.clone(), self.keeper.clone());
        let admitted = caller.admitted.clone();
        tokio::spawn(async move {
            let may = || keeper.still_good(&admitted).is_ok();
            tokio::select! {
                () = watch(&hub, events, replies, may) => {}
                _ = keeper.until_void(&admitted) => {}
            }
            drop((room, share));
        });
        caller.answer(Box::pin(ReceiverStream::new(stream)))
    }

    async fn drain_worker(
        &self,
        request: Request<v1::DrainWorkerRequest>,
    ) -> Reply<v1::DrainWorkerResponse> {
        let caller = self.allow(&request, &[Role::Admin])?;
        let request = request.into_inner();
        match self.hub.drain(&request.worker, request.stay) {
            Some((worker, running)) => caller.answer(v1::DrainWorkerResponse { running, worker }),
            None => Err(Status::not_found(
                "no such worker, or several of that name: give the one that is listed",
            )),
        }
    }
}

/// The peer that made a request, and was let in.
struct Caller {
    peer: Peer,
    admitted: Admitted,
}

impl Caller {
    /// Whose turn its tasks share: the holder of a token, or where nobody is asked
    /// for one, whoever is at that address.
    fn holder(&self) -> String {
        request_body::holder(&self.peer, Some(&self.admitted))
    }

    /// Whose part of that turn it is, when they do not say.
    fn client(&self) -> String {
        let address = self.peer.address.ip();
        match self.admitted.name() {
            "" => address.to_string(),
            name => format!("{name}@{address}"),
        }
    }

    /// The answer `message`, with a new token if there is one.
    fn answer<T>(self, message: T) -> Reply<T> {
        let mut response = Response::new(message);
        let renewal = self.admitted.renewal.and_then(|token| token.parse().ok());
        if let Some(token) = renewal {
            response.metadata_mut().insert(RENEWAL, token);
        }
        Ok(response)
    }
}

/// Lets requests through that bear a good token, or come from one whose
/// certificate is.
#[derive(Clone)]
struct Gate {
    hub: Arc<Hub>,
    keeper: Arc<Doorkeeper>,
}

impl Interceptor for Gate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let peer = peer.ok_or_else(|| Status::internal("nobody knows who calls"))?;
        let token = bearer(request.metadata());
        let admitted = self.keeper.admit(token, peer.certified.as_ref());
        let admitted = admitted.map_err(|why| {
            doorkeeper::turn_away(&self.hub, peer.address.ip(), "a request", why);
            Status::unauthenticated(why.to_string())
        })?;
        peer.is_known.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(admitted);
        Ok(request)
    }
}

/// The token of RFC 6750, section 2.1; empty: none, or not one.
fn bearer(metadata: &MetadataMap) -> &str {
    let value = metadata.get("authorization");
    let value = value.and_then(|value| value.to_str().ok()).unwrap_or("");
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token,
        _ => "",
    }
}

impl Build {
    /// Whoever made `request`, if it is one of `roles`.
    fn allow<T>(&self, request: &Request<T>, roles: &[Role]) -> Result<Caller, Status> {
        let peer = request.extensions().get::<Peer>();
        let admitted = request.extensions().get::<Admitted>();
        // The gate puts it there.
        let (Some(peer), Some(admitted)) = (peer, admitted) else {
            return Err(Status::unauthenticated(Refusal::NoToken.to_string()));
        };
        admitted.may(roles).map_err(|why| {
            doorkeeper::turn_away(&self.hub, peer.address.ip(), "a request", why);
            Status::permission_denied(why.to_string())
        })?;
        Ok(Caller {
            peer: peer.clone(),
            admitted: admitted.clone(),
        })
    }

    /// Room for one more task of `client`, within its rate and its holder's share.
    fn submit_permit(&self, holder: &str, client: &str) -> Result<SubmitPermit, Status> {
        let limited = |why: &str| {
            let limited = self.hub.metrics.tasks.with_label_values(&["limited"]);
            limited.inc();
            Status::resource_exhausted(why)
        };
        let mut share = self.holders_submits.of(holder);
        if !share.set(1) {
            return Err(limited("too many tasks at once from one holder"));
        }
        let entered = lock(&self.rates).enter(client, self.hub.now_ms());
        entered.map_err(|why| {
            limited(match why {
                TooMany::Fast => "too many tasks a second from one client",
                TooMany::Open => "too many tasks at once from one client",
            })
        })?;
        Ok(SubmitPermit {
            rates: self.rates.clone(),
            client: client.to_owned(),
            _share: share,
        })
    }
}

/// A task's place among those of its client and its holder, given up when dropped.
struct SubmitPermit {
    rates: Arc<Mutex<SubmitRates>>,
    client: String,
    _share: Share,
}

impl Drop for SubmitPermit {
    fn drop(&mut self) {
        lock(&self.rates).leave(&self.client);
    }
}

fn lock(rates: &Mutex<SubmitRates>) -> MutexGuard<'_, SubmitRates> {
    rates.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes events on until the watcher goes, or may no more, or the process ends.
async fn watch(
    hub: &Hub,
    mut events: broadcast::Receiver<v1::Event>,
    replies: mpsc::Sender<Result<v1::Event, Status>>,
    may: impl Fn() -> bool,
) {
    let mut closing = hub.closing.subscribe();
    // A watcher may be out while nothing happens.
    let mut look = tokio::time::interval(Duration::from_millis(TRUST_LOOK_MS));
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = look.tick() => match may() {
                true => continue,
                false => return,
            },
            () = replies.closed() => return,
            _ = closing.wait_for(|closing| *closing) => return,
        };
        let event = match event {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(missed)) => v1::Event {
                time_ms: 0,
                kind: Some(event::Kind::Missed(missed)),
            },
            Err(broadcast::error::RecvError::Closed) => return,
        };
        if !may() || replies.send(Ok(event)).await.is_err() {
            return;
        }
    }
}

/// Serves the connections that come, until `shutdown` and then until they end.
///
/// # Errors
/// The services could not be put together.
pub async fn serve<IO>(
    hub: Arc<Hub>,
    keeper: Arc<Doorkeeper>,
    connections: mpsc::Receiver<std::io::Result<IO>>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    IO: AsyncRead + AsyncWrite + Connected<ConnectInfo = Peer> + Unpin + Send + 'static,
{
    let gate = Gate {
        hub: hub.clone(),
        keeper: keeper.clone(),
    };
    let (health, health_service) = tonic_health::server::health_reporter();
    let build = BuildServiceServer::new(Build {
        hub,
        keeper,
        submits: Arc::new(Semaphore::new(SUBMITS_MAX)),
        holders_submits: Shares::new(HOLDER_SUBMITS_MAX),
        rates: Arc::default(),
        watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
        holders_watchers: Shares::new(HOLDER_WATCHERS_MAX),
    })
    .max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX);
    let partial = Shares::new(HOLDER_PARTIAL_BYTES_MAX);
    // Behind the gate, which says whose they are.
    let build = InterceptedService::new(Bounded::new(build, partial.clone()), gate.clone());
    health.set_serving::<BuildServiceServer<Build>>().await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    tonic::transport::Server::builder()
        .initial_stream_window_size(H2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(H2_CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_frame_size(H2_FRAME_BYTES_MAX)
        .http2_max_header_list_size(H2_HEADER_BYTES_MAX)
        .http2_keepalive_interval(Some(Duration::from_millis(H2_PING_MS)))
        .http2_keepalive_timeout(Some(Duration::from_millis(H2_PONG_MS_MAX)))
        .add_service(build)
        .add_service(Bounded::new(health_service, partial.clone()))
        // A load balancer may ask whether we are there without being known; what
        // there is to be called is for those who are.
        .add_service(InterceptedService::new(
            Bounded::new(reflection().build_v1()?, partial.clone()),
            gate.clone(),
        ))
        .add_service(InterceptedService::new(
            Bounded::new(reflection().build_v1alpha()?, partial),
            gate,
        ))
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), shutdown)
        .await?;
    Ok(())
}
