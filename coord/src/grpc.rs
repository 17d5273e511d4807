//! The gRPC services: `hybridgrid.v1.BuildService`, health and reflection.
//! Unaware of how connections are accepted.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hg_proto::limits::GRPC_MESSAGE_BYTES_MAX;
use hg_proto::v1::{self, event};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, broadcast, mpsc};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tonic::{Request, Response, Status, Streaming};

use crate::bounds::*;
use crate::dispatch::Hub;
use crate::rates::{Rates, TooMany};
use crate::submit;

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

struct Build {
    hub: Arc<Hub>,
    submits: Arc<Semaphore>,
    rates: Arc<Mutex<Rates>>,
    watchers: Arc<Semaphore>,
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
        let room = self.submits.clone().try_acquire_owned();
        let room = room.map_err(|_| Status::resource_exhausted("too many tasks"))?;
        let alive = self
            .hub
            .stay()
            .ok_or_else(|| Status::unavailable("going away"))?;
        let peer = request.remote_addr();
        let peer = peer.map_or_else(String::new, |address| address.ip().to_string());
        let place = self.place(&peer)?;
        let (replies, stream) = mpsc::channel(REPLIES_MAX);
        let (hub, requests) = (self.hub.clone(), request.into_inner());
        tokio::spawn(async move {
            submit::serve(hub, requests, replies, peer).await;
            drop((room, place, alive));
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn report_cache_hit(
        &self,
        request: Request<v1::ReportCacheHitRequest>,
    ) -> Reply<v1::ReportCacheHitResponse> {
        let report = request.into_inner();
        self.hub.cache_hits(report.hits, report.saved_ms);
        Ok(Response::new(v1::ReportCacheHitResponse {}))
    }

    async fn get_status(&self, _: Request<v1::GetStatusRequest>) -> Reply<v1::GetStatusResponse> {
        Ok(Response::new(self.hub.status()))
    }

    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Reply<v1::ListWorkersResponse> {
        Ok(Response::new(v1::ListWorkersResponse {
            workers: self.hub.workers(),
        }))
    }

    async fn watch_events(
        &self,
        _: Request<v1::WatchEventsRequest>,
    ) -> Reply<Self::WatchEventsStream> {
        let room = self.watchers.clone().try_acquire_owned();
        let room = room.map_err(|_| Status::resource_exhausted("too many watchers"))?;
        let events = self.hub.events.subscribe();
        let (replies, stream) = mpsc::channel(REPLIES_MAX);
        let hub = self.hub.clone();
        tokio::spawn(async move {
            watch(&hub, events, replies).await;
            drop(room);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn drain_worker(
        &self,
        request: Request<v1::DrainWorkerRequest>,
    ) -> Reply<v1::DrainWorkerResponse> {
        match self.hub.drain(&request.into_inner().worker) {
            Some((worker, running)) => {
                Ok(Response::new(v1::DrainWorkerResponse { running, worker }))
            }
            None => Err(Status::not_found("no such worker")),
        }
    }
}

impl Build {
    /// Room for one more task of `peer`, within its rate.
    fn place(&self, peer: &str) -> Result<Place, Status> {
        let entered = lock(&self.rates).enter(peer, self.hub.now_ms());
        entered.map_err(|why| {
            let limited = self.hub.metrics.tasks.with_label_values(&["limited"]);
            limited.inc();
            Status::resource_exhausted(match why {
                TooMany::Fast => "too many tasks a second from one client",
                TooMany::Open => "too many tasks at once from one client",
            })
        })?;
        Ok(Place {
            rates: self.rates.clone(),
            peer: peer.to_owned(),
        })
    }
}

/// A task's place among those of its client, given up when dropped.
struct Place {
    rates: Arc<Mutex<Rates>>,
    peer: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.rates).leave(&self.peer);
    }
}

fn lock(rates: &Mutex<Rates>) -> MutexGuard<'_, Rates> {
    rates.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes events on until the watcher goes or the process ends.
async fn watch(
    hub: &Hub,
    mut events: broadcast::Receiver<v1::Event>,
    replies: mpsc::Sender<Result<v1::Event, Status>>,
) {
    let mut closing = hub.closing.subscribe();
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
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
        if replies.send(Ok(event)).await.is_err() {
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
    connections: mpsc::Receiver<std::io::Result<IO>>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    IO: AsyncRead + AsyncWrite + Connected<ConnectInfo = TcpConnectInfo> + Unpin + Send + 'static,
{
    let (health, health_service) = tonic_health::server::health_reporter();
    let build = BuildServiceServer::new(Build {
        hub,
        submits: Arc::new(Semaphore::new(SUBMITS_MAX)),
        rates: Arc::default(),
        watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
    })
    .max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX);
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
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), shutdown)
        .await?;
    Ok(())
}
