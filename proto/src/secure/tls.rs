//! TLS 1.3 as the links use it: who dials trusts one certificate by its
//! fingerprint, or authorities of the operator's own. Unaware of sockets.
//! Source: RFC 8446; pins as in RFC 7469, but of the whole certificate.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::ring::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::secure::token::{Fingerprint, Token};

/// ALPN of gRPC on the grid port.
pub const ALPN_GRPC: &[u8] = b"h2";
/// ALPN of a worker link on the grid port.
pub const ALPN_WORKER: &[u8] = b"hgw/1";

/// The domain of names that say which certificate is expected. Never looked up.
const PIN_DOMAIN: &str = ".pin.hybridgrid";
/// Bytes of a fingerprint that are in such a name: a label has 63 characters.
pub const PIN_BYTES: usize = 16;

/// SHA-256 of a certificate.
pub fn fingerprint(certificate_der: &[u8]) -> Fingerprint {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate_der);
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(digest.as_ref());
    fingerprint
}

/// A fingerprint in hexadecimal, as people compare it.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The server name (RFC 6066) under which a certificate is asked for: a
/// coordinator that has two for a while shows the one that is expected.
pub fn pin_name(fingerprint: &Fingerprint) -> String {
    format!("{}{PIN_DOMAIN}", hex(&fingerprint[..PIN_BYTES]))
}

/// Whether `server_name` asks for the certificate with `fingerprint`.
pub fn asks_for(server_name: &str, fingerprint: &Fingerprint) -> bool {
    server_name == pin_name(fingerprint)
}

/// Cipher suites and key exchange, the ones first that are fast here.
pub fn provider() -> CryptoProvider {
    let mut suites = vec![
        TLS13_AES_128_GCM_SHA256,
        TLS13_AES_256_GCM_SHA384,
        TLS13_CHACHA20_POLY1305_SHA256,
    ];
    if !has_aes() {
        suites.rotate_right(1);
    }
    CryptoProvider {
        cipher_suites: suites,
        ..rustls::crypto::ring::default_provider()
    }
}

/// Many small boards have no instructions for AES.
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

/// An operator's own certificates, in PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pki {
    /// Authorities that peers' certificates must come from.
    pub ca: Option<PathBuf>,
    /// File of our own certificate chain.
    pub certificate: Option<PathBuf>,
    /// File of the private key of our own certificate.
    pub key: Option<PathBuf>,
}

impl Pki {
    /// Whether no file was named.
    pub fn is_empty(&self) -> bool {
        *self == Pki::default()
    }

    /// Our chain and key; `None`: not named.
    ///
    /// # Errors
    /// In words, with the file's name: it can't be read or has nothing in it, or
    /// only one of the two was named.
    #[allow(clippy::type_complexity)]
    pub fn identity(
        &self,
    ) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, String> {
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let chain = certificates(certificate)?;
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| format!("{}: {error}", key.display()))?;
                Ok(Some((chain, key)))
            }
            (None, None) => Ok(None),
            _ => Err("a certificate and its key go together".into()),
        }
    }

    /// The authorities; `None`: not named.
    ///
    /// # Errors
    /// In words, with the file's name.
    pub fn authorities(&self) -> Result<Option<RootCertStore>, String> {
        let Some(path) = &self.ca else {
            return Ok(None);
        };
        let mut store = RootCertStore::empty();
        for certificate in certificates(path)? {
            store
                .add(certificate)
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(Some(store))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let told = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let chain = CertificateDer::pem_file_iter(path).map_err(|error| told(&error))?;
    let chain: Result<Vec<_>, _> = chain.collect();
    let chain = chain.map_err(|error| told(&error))?;
    match chain.is_empty() {
        true => Err(told(&"no certificate in it")),
        false => Ok(chain),
    }
}

/// How a dialler knows that it has reached its coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// By the fingerprint in its token.
    Pinned(Fingerprint),
    /// By authorities of the operator's own, and the host's name.
    Authorities(Pki),
}

impl Trust {
    /// By certificates if there are some, else by a token; `None`: there is neither.
    pub fn of(token: Option<&Token>, pki: &Pki) -> Option<Self> {
        match (token, pki.is_empty()) {
            (_, false) => Some(Trust::Authorities(pki.clone())),
            (Some(token), true) => Some(Trust::Pinned(token.fingerprint)),
            (None, true) => None,
        }
    }
}

/// What a dialler's handshake needs.
#[derive(Debug, Clone)]
pub struct Dial {
    /// The configuration, shared by all dials.
    pub config: Arc<ClientConfig>,
    /// The server name to ask for.
    pub server_name: ServerName<'static>,
}

impl Dial {
    /// For a coordinator at `address`, HOST:PORT.
    ///
    /// # Errors
    /// In words: a file of the operator's own is wrong, or the host's name.
    pub fn new(trust: &Trust, address: &str, alpn: &[u8]) -> Result<Self, String> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| error.to_string())?;
        let (builder, name, pki) = match trust {
            Trust::Pinned(fingerprint) => {
                let verifier = Arc::new(Pinned {
                    fingerprint: *fingerprint,
                    algorithms,
                });
                let builder = builder
                    .dangerous()
                    .with_custom_certificate_verifier(verifier);
                (builder, pin_name(fingerprint), None)
            }
            Trust::Authorities(pki) => {
                let authorities = pki.authorities()?;
                let authorities =
                    authorities.ok_or("a certificate without --tls-ca to check the other by")?;
                let builder = builder.with_root_certificates(authorities);
                (builder, unbracketed(host).to_owned(), Some(pki))
            }
        };
        let identity = pki.map_or(Ok(None), Pki::identity)?;
        let mut config = match identity {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| format!("the certificate and its key: {error}"))?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        // A process that dials once has nothing to resume.
        config.resumption = Resumption::disabled();
        Ok(Dial {
            config: Arc::new(config),
            server_name: server_name(name)?,
        })
    }
}

fn unbracketed(host: &str) -> &str {
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    inner.unwrap_or(host)
}

fn server_name(name: String) -> Result<ServerName<'static>, String> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(ServerName::IpAddress(address.into()));
    }
    ServerName::try_from(name).map_err(|error| error.to_string())
}

/// Accepts one certificate, whatever else it says.
#[derive(Debug)]
struct Pinned {
    fingerprint: Fingerprint,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match fingerprint(end_entity) == self.fingerprint {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            )),
        }
    }

    /// Never asked: only 1.3 is spoken.
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What a failed handshake means, for people.
pub fn handshake_words(error: &std::io::Error) -> String {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)) => {
            "this is not the coordinator that the token is of, or its certificate was replaced: \
             ask for a new token"
                .into()
        }
        Some(Error::InvalidMessage(_)) => {
            "it does not speak TLS (a coordinator with --insecure?)".into()
        }
        _ => format!("TLS: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_which_certificate() {
        let of_one = fingerprint(b"one");
        let name = pin_name(&of_one);
        assert!(name.split('.').all(|label| label.len() <= 63));
        assert!(server_name(name.clone()).is_ok());
        assert!(asks_for(&name, &of_one));
        assert!(!asks_for(&name, &fingerprint(b"two")));
    }

    #[test]
    fn fingerprints_are_sha_256() {
        // FIPS 180-2, appendix B.1.
        let abc = hex(&fingerprint(b"abc"));
        assert_eq!(
            abc,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        let pinned = Trust::Pinned(fingerprint(b"one"));
        for address in ["127.0.0.1:1", "[::1]:1", "pi.local:1"] {
            assert!(Dial::new(&pinned, address, ALPN_GRPC).is_ok(), "{address}");
        }
        assert!(matches!(
            server_name(unbracketed("[::1]").to_owned()),
            Ok(ServerName::IpAddress(_))
        ));
    }

    #[test]
    fn what_is_missing_is_named() {
        let lonely = Pki {
            certificate: Some("/nowhere/cert.pem".into()),
            ..Pki::default()
        };
        assert!(lonely.identity().unwrap_err().contains("go together"));
        let dial = Dial::new(&Trust::Authorities(lonely), "h:1", ALPN_GRPC);
        assert!(dial.unwrap_err().contains("--tls-ca"));
        let missing = Pki {
            ca: Some("/nowhere/ca.pem".into()),
            ..Pki::default()
        };
        assert!(
            missing
                .authorities()
                .unwrap_err()
                .contains("/nowhere/ca.pem")
        );
    }
}
