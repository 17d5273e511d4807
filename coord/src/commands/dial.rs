//! Dials a coordinator over gRPC, for commands of our own and for tests.

use std::sync::Arc;
use std::time::Duration;

use hg_proto::secure::tls::{self, ALPN_GRPC, Dial, Trust};
use hg_proto::secure::token::Token;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::serve::grpc::Client;

/// For the coordinator to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Shows a token with each request; without one, nothing.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            let metadata = request.metadata_mut();
            metadata.insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// A client of the service, as the bearer of its token.
pub type Bearing = Client<InterceptedService<Channel, Bearer>>;

/// A client of the coordinator at `address`, HOST:PORT, that `token` is of;
/// `None`: plaintext, and nobody is asked.
///
/// # Errors
/// In words: nobody is there, or it is another one.
pub async fn client(address: &str, token: Option<&Token>) -> Result<Bearing, String> {
    let failed = |why: String| format!("{address}: {why}");
    let Some(token) = token else {
        let channel = endpoint(address)?.connect().await;
        let channel = channel.map_err(|error| failed(format!("no coordinator there: {error}")))?;
        return Ok(Client::with_interceptor(channel, Bearer(None)));
    };
    let channel = channel(address, &Trust::Pinned(token.fingerprint)).await?;
    bearing(channel, &token.to_text()).map_err(failed)
}

/// A client that shows `token`, whatever that is, with each request.
///
/// # Errors
/// In words: no header can hold it.
pub fn bearing(channel: Channel, token: &str) -> Result<Bearing, String> {
    let bearer = format!("Bearer {token}").parse();
    let bearer: MetadataValue<Ascii> = bearer.map_err(|_| "a token of odd bytes".to_owned())?;
    Ok(Client::with_interceptor(channel, Bearer(Some(bearer))))
}

/// An encrypted connection to the coordinator at `address`, HOST:PORT, on which
/// nobody has said yet who we are.
///
/// # Errors
/// In words: nobody is there, or it is another one than `trust` says.
pub async fn channel(address: &str, trust: &Trust) -> Result<Channel, String> {
    let failed = |why: String| format!("{address}: {why}");
    let dial = Dial::new(trust, address, ALPN_GRPC)?;
    let dial = Arc::new((address.to_owned(), dial));
    let connector = tower::service_fn(move |_| {
        let dial = dial.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(connect(&dial.0, &dial.1).await?)) }
    });
    let channel = endpoint(address)?.connect_with_connector(connector).await;
    channel.map_err(|error| failed(words(&error)))
}

fn endpoint(address: &str) -> Result<Endpoint, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    let endpoint = endpoint.map_err(|error| format!("{address}: {error}"))?;
    Ok(endpoint.connect_timeout(ANSWER).timeout(ANSWER))
}

/// An encrypted connection to the coordinator at `address`, HOST:PORT, before
/// the first byte of whatever `dial` announces.
///
/// # Errors
/// Nobody is there, or it is another one than is trusted.
pub async fn connect(address: &str, dial: &Dial) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let connector = TlsConnector::from(dial.config.clone());
    let stream = connector.connect(dial.server_name.clone(), stream).await;
    stream.map_err(|error| std::io::Error::other(tls::handshake_words(&error)))
}

/// The innermost reason: those around it only say that there was one.
fn words(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
