//! A peer that speaks TLS as it likes, byte by byte and without a runtime: the
//! dialling end, and the other one for a coordinator that is none.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use hg_proto::secure::tls::{self, ALPN_GRPC, ALPN_WORKER, Dial, Trust};
use hg_proto::secure::token::Fingerprint;
use hg_proto::v1::{FromWorker, ToWorker, from_worker, to_worker};
use hg_proto::wire::frame::{self, Decoder};
use nix::sys::socket::{self as connect, AddressFamily, SockFlag, SockType, SockaddrIn};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConnection, ServerConfig, ServerConnection, StreamOwned};

use crate::running::PATIENCE;

/// A socket that remembers what was written to it.
pub struct Taped {
    socket: TcpStream,
    /// All of it.
    pub tape: Vec<u8>,
}

impl Read for Taped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.read(buffer)
    }
}

impl Write for Taped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.socket.write(bytes)?;
        self.tape.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// The dialling end.
pub struct TlsPeer {
    /// The connection.
    pub stream: StreamOwned<ClientConnection, Taped>,
    decoder: Decoder,
}

/// A socket to `address` on which nothing takes longer than a test has patience for.
///
/// # Errors
/// As the system says.
pub fn socket(address: &str) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// A socket to `address`, of IPv4, as one of another machine has it: Linux lets a
/// process be anybody in 127.0.0.0/8.
///
/// # Errors
/// As the system says.
pub fn socket_from(source: Ipv4Addr, address: &str) -> io::Result<TcpStream> {
    let target: SocketAddrV4 = address.parse().map_err(io::Error::other)?;
    let stream = SockType::Stream;
    let socket = connect::socket(AddressFamily::Inet, stream, SockFlag::SOCK_CLOEXEC, None)?;
    connect::bind(
        socket.as_raw_fd(),
        &SockaddrIn::from(SocketAddrV4::new(source, 0)),
    )?;
    connect::connect(socket.as_raw_fd(), &SockaddrIn::from(target))?;
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Whether the other end has closed `stream`, read to its end, within the test's
/// patience.
pub fn hung_up(stream: &mut impl Read) -> bool {
    let end = stream.read_to_end(&mut Vec::new());
    !matches!(&end, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

impl TlsPeer {
    /// Shakes hands with the coordinator of `trust` and says that it wants to speak
    /// one of `protocols`.
    ///
    /// # Errors
    /// It is another one, or it turns us away.
    pub fn dial(address: &str, trust: &Trust, protocols: &[&[u8]]) -> io::Result<TlsPeer> {
        TlsPeer::over(socket(address)?, address, trust, protocols)
    }

    /// The same over a connection to `address` that is there.
    ///
    /// # Errors
    /// As [`TlsPeer::dial`].
    pub fn over(
        socket: TcpStream,
        address: &str,
        trust: &Trust,
        protocols: &[&[u8]],
    ) -> io::Result<TlsPeer> {
        let dial = Dial::new(trust, address, ALPN_GRPC).map_err(io::Error::other)?;
        let mut config = (*dial.config).clone();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let session = ClientConnection::new(Arc::new(config), dial.server_name);
        let socket = Taped {
            socket,
            tape: Vec::new(),
        };
        let session = session.map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        // Our last word of it.
        stream.flush()?;
        Ok(TlsPeer {
            stream,
            decoder: Decoder::new(),
        })
    }

    /// One that will speak as a worker.
    ///
    /// # Panics
    /// It is not let through the handshake.
    pub fn worker(address: &str, fingerprint: Fingerprint) -> TlsPeer {
        let trust = Trust::Pinned(fingerprint);
        TlsPeer::dial(address, &trust, &[ALPN_WORKER]).expect("a handshake")
    }

    /// One that will speak HTTP/2.
    ///
    /// # Panics
    /// As [`TlsPeer::worker`].
    pub fn grpc(address: &str, fingerprint: Fingerprint) -> TlsPeer {
        let trust = Trust::Pinned(fingerprint);
        TlsPeer::dial(address, &trust, &[ALPN_GRPC]).expect("a handshake")
    }

    /// Sends a worker's message. Whoever is dropped can't say everything.
    pub fn say(&mut self, kind: from_worker::Kind) {
        if let Ok(frame) = frame::encode(&FromWorker { kind: Some(kind) }) {
            self.write(&frame);
        }
    }

    /// Sends any bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
        let _ = self.stream.flush();
    }

    /// What the coordinator says next to a worker; `None`: it has hung up.
    ///
    /// # Panics
    /// It says nothing for longer than the test has patience for, or garbage.
    pub fn hear(&mut self) -> Option<to_worker::Kind> {
        let mut buffer = [0; 4096];
        loop {
            let message = self.decoder.next_message::<ToWorker>().expect("frames");
            if let Some(message) = message {
                return message.kind;
            }
            match self.stream.read(&mut buffer) {
                Ok(len) if len > 0 => self.decoder.push(&buffer[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no answer"),
                _ => return None,
            }
        }
    }

    /// Why the coordinator hangs up, in its words; empty: it does without one.
    pub fn goodbye(&mut self) -> String {
        while let Some(kind) = self.hear() {
            if let to_worker::Kind::Goodbye(goodbye) = kind {
                return goodbye.reason;
            }
        }
        String::new()
    }
}

/// A certificate and its key.
pub type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

/// A certificate of the test's own.
///
/// # Panics
/// It can't be made.
pub fn certificate() -> Identity {
    let key = rcgen::KeyPair::generate().expect("a key");
    let parameters = rcgen::CertificateParams::new(["impostor".to_owned()]).expect("names");
    let certificate = parameters.self_signed(&key).expect("a certificate");
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    (certificate.der().clone(), key.into())
}

/// What came to a listener of the test.
#[derive(Default)]
pub struct Caught {
    /// Raw bytes, a vector for each connection that sent some.
    pub raw: Vec<Vec<u8>>,
    /// What was in the encryption, all together.
    pub plain: Vec<u8>,
}

/// A listener that pretends to be a coordinator; ends when dropped.
pub struct Listener {
    /// HOST:PORT.
    pub address: String,
    caught: Arc<Mutex<Caught>>,
    over: Arc<AtomicBool>,
}

/// The connection of one who came to a [`Listener`].
pub type Session = StreamOwned<ServerConnection, Ear>;

/// A socket whose bytes are noted.
pub struct Ear {
    socket: TcpStream,
    number: usize,
    caught: Arc<Mutex<Caught>>,
}

impl Drop for Ear {
    /// To close it with something unread would take back what was said last.
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
        let mut rest = [0; 4096];
        while matches!(self.socket.read(&mut rest), Ok(1..)) {}
    }
}

impl Read for Ear {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.socket.read(buffer)?;
        let mut caught = self.caught.lock().unwrap_or_else(PoisonError::into_inner);
        while caught.raw.len() <= self.number {
            caught.raw.push(Vec::new());
        }
        caught.raw[self.number].extend_from_slice(&buffer[..len]);
        Ok(len)
    }
}

impl Write for Ear {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

impl Listener {
    /// Lets `serve` have each connection, in a thread of its own.
    ///
    /// # Panics
    /// There is no port to be had.
    pub fn start(serve: impl Fn(Ear) -> io::Result<()> + Send + Sync + 'static) -> Listener {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let (caught, over) = (
            Arc::<Mutex<Caught>>::default(),
            Arc::<AtomicBool>::default(),
        );
        let started = Listener {
            address,
            caught: caught.clone(),
            over: over.clone(),
        };
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for (number, socket) in listener.incoming().map_while(Result::ok).enumerate() {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                let _ = socket.set_read_timeout(Some(PATIENCE));
                let ear = Ear {
                    socket,
                    number,
                    caught: caught.clone(),
                };
                let serve = serve.clone();
                // The dialler may leave at any moment.
                thread::spawn(move || serve(ear));
            }
        });
        started
    }

    /// One that shakes hands with `identity` and lets `serve` have who stays.
    ///
    /// # Panics
    /// As [`Listener::start`].
    pub fn with_tls(
        identity: Identity,
        serve: impl Fn(&mut Session) -> io::Result<()> + Send + Sync + 'static,
    ) -> Listener {
        let config = ServerConfig::builder_with_provider(Arc::new(tls::provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![identity.0], identity.1);
        let mut config = config.expect("a certificate");
        config.alpn_protocols = [ALPN_GRPC, ALPN_WORKER].map(<[u8]>::to_vec).into();
        let config = Arc::new(config);
        Listener::start(move |ear| {
            let session = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
            let caught = ear.caught.clone();
            let mut session = StreamOwned::new(session, ear);
            let served = serve(&mut session);
            let mut rest = [0; 4096];
            while let Ok(len) = session.read(&mut rest) {
                if len == 0 {
                    break;
                }
                let mut caught = caught.lock().unwrap_or_else(PoisonError::into_inner);
                caught.plain.extend_from_slice(&rest[..len]);
            }
            served
        })
    }

    /// What came so far.
    pub fn caught<T>(&self, look: impl FnOnce(&Caught) -> T) -> T {
        look(&self.caught.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(&self.address);
    }
}
