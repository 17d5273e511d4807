//! Lets peers in or not, by [`crate::trust::auth`]: holds what decides, reads it again
//! when a command has changed it, counts and tells.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use hg_proto::secure::credentials::{local_path, open_local_folder, write_private};
use hg_proto::secure::tls::{self, Pki};
use hg_proto::secure::token::{Fingerprint, Role, Token};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use crate::bounds::{LOCAL_TOKEN_S, TRUST_LOOK_MS};
use crate::dispatch::hub::Hub;
use crate::log;
use crate::trust::auth::{Holder, Keyring, Refusal, holder_of, holder_of_uri};
use crate::trust::command_socket;
use crate::trust::secrets::{self, Trust, now_s};
use crate::trust::token_list::TokenList;

/// Milliseconds between two renewals of the tokens for this user's own processes.
const LOCAL_RENEW_MS: u64 = 3_600_000;
/// The name in these.
const LOCAL_NAME: &str = "local";

/// A peer that was let in.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The peer's holder; `None`: nobody is asked.
    pub holder: Option<Holder>,
    /// The token that it showed; `None`: a certificate, or nothing.
    token: Option<Token>,
    /// A token for the peer to keep instead of its own.
    pub renewal: Option<String>,
}

impl Admitted {
    /// Whether the peer has one of `roles`.
    ///
    /// # Errors
    /// It has another role.
    pub fn may(&self, roles: &[Role]) -> Result<(), Refusal> {
        match &self.holder {
            Some(holder) if !roles.contains(&holder.role) => Err(Refusal::WrongRole(holder.role)),
            _ => Ok(()),
        }
    }

    /// The holder's name; empty: nobody is asked.
    pub fn name(&self) -> &str {
        self.holder.as_ref().map_or("", |holder| &holder.name)
    }
}

/// What decides who is let in, as of now.
struct Known {
    keyring: Keyring,
    /// Holders that were let in since that was last written down.
    seen: Mutex<TokenList>,
}

/// See the top of the file.
pub struct Doorkeeper {
    /// `None`: nobody is asked (`--insecure`).
    known: Option<RwLock<Known>>,
    /// Tells who waits that what is known has changed.
    changes: watch::Sender<()>,
    certificates: Arc<Certificates>,
}

/// Certificates of the operator's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnPki {
    /// The files that they are in.
    pub files: Pki,
    /// Peers without a certificate are turned away.
    pub require: bool,
}

impl Doorkeeper {
    /// A doorkeeper that lets everybody in.
    pub fn insecure() -> Arc<Self> {
        Arc::new(Doorkeeper {
            known: None,
            changes: watch::Sender::default(),
            certificates: Arc::default(),
        })
    }

    /// A doorkeeper that goes by what is in `state`.
    ///
    /// # Errors
    /// In words: what is there can't be used.
    pub fn new(state: &Path, pki: &OwnPki) -> Result<Arc<Self>, String> {
        let trust = secrets::open(state)?;
        let keeper = Doorkeeper {
            certificates: Arc::new(Certificates::new(&trust, pki)?),
            known: Some(RwLock::new(Known {
                keyring: trust.keyring,
                seen: Mutex::default(),
            })),
            changes: watch::Sender::default(),
        };
        Ok(Arc::new(keeper))
    }

    /// Lets in who shows `token`, or the certificate of `certified`.
    ///
    /// # Errors
    /// Why the peer is not let in.
    pub fn admit(&self, token: &str, certified: Option<&Holder>) -> Result<Admitted, Refusal> {
        let Some(known) = &self.known else {
            return Ok(Admitted {
                holder: None,
                token: None,
                renewal: None,
            });
        };
        let known = known.read().unwrap_or_else(PoisonError::into_inner);
        let now_s = now_s();
        if let Some(holder) = certified {
            known.keyring.still_good(holder, now_s)?;
            known.see(holder, now_s);
            return Ok(Admitted {
                holder: Some(holder.clone()),
                token: None,
                renewal: None,
            });
        }
        if token.is_empty() {
            return Err(Refusal::NoToken);
        }
        let (holder, token) = known.keyring.admit(token, now_s)?;
        known.see(&holder, now_s);
        let renewal = known.keyring.renewal(&token);
        Ok(Admitted {
            holder: Some(holder),
            token: Some(token),
            renewal: renewal.map(|token| token.to_text()),
        })
    }

    /// Whether one who was let in would be again.
    ///
    /// # Errors
    /// Its token ended or was revoked meanwhile.
    pub fn still_good(&self, admitted: &Admitted) -> Result<(), Refusal> {
        match (&self.known, &admitted.holder) {
            (Some(known), Some(holder)) => {
                let known = known.read().unwrap_or_else(PoisonError::into_inner);
                let now_s = now_s();
                known.keyring.still_good(holder, now_s)?;
                known.see(holder, now_s);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Returns when what `admitted` showed is void, by a command or since the secret that
    /// it is derived from has ended. That its token came to its own end meanwhile is no
    /// reason.
    pub async fn until_void(&self, admitted: &Admitted) -> Refusal {
        let mut begun = admitted.holder.clone();
        if let Some(holder) = &mut begun {
            holder.expires_s = 0;
        }
        let mut changes = self.changes();
        loop {
            // The sender lives in `self`.
            let _ = changes.changed().await;
            if let (Some(known), Some(begun)) = (&self.known, &begun) {
                let known = known.read().unwrap_or_else(PoisonError::into_inner);
                if let Err(why) = known.keyring.still_good(begun, now_s()) {
                    return why;
                }
            }
        }
    }

    /// Wakes once at first, so that nothing is missed in between, and then whenever a
    /// command changed what is known, or the time of a secret was over.
    pub fn changes(&self) -> watch::Receiver<()> {
        let mut changes = self.changes.subscribe();
        changes.mark_changed();
        changes
    }

    /// The certificates of our own that are shown now, the newest last.
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        let known = self.known.as_ref().map(|known| {
            let known = known.read().unwrap_or_else(PoisonError::into_inner);
            known.keyring.pins.clone()
        });
        known.unwrap_or_default()
    }

    /// Whether one who was let in would be again; and a new token for it to keep if
    /// there are newer secrets, by which it is known from then on.
    ///
    /// # Errors
    /// As [`Doorkeeper::still_good`].
    pub fn recheck(&self, admitted: &mut Admitted) -> Result<Option<String>, Refusal> {
        self.still_good(admitted)?;
        let (Some(known), Some(token)) = (&self.known, &admitted.token) else {
            return Ok(None);
        };
        let known = known.read().unwrap_or_else(PoisonError::into_inner);
        let Some(new) = known.keyring.renewal(token) else {
            return Ok(None);
        };
        let text = new.to_text();
        admitted.holder = Some(holder_of(&new.claims));
        admitted.token = Some(new);
        Ok(Some(text))
    }

    /// TLS for peers that speak one of `protocols`; `None`: nobody is asked.
    ///
    /// # Errors
    /// In words: the operator's own files are wrong.
    pub fn server_config(
        &self,
        pki: &OwnPki,
        protocols: &[&[u8]],
    ) -> Result<Option<Arc<ServerConfig>>, String> {
        if self.known.is_none() {
            return Ok(None);
        }
        let provider = Arc::new(tls::provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| error.to_string())?;
        let builder = match pki.files.authorities()? {
            None if pki.require => {
                return Err("--require-client-cert needs --tls-ca to check them by".into());
            }
            None => builder.with_no_client_auth(),
            Some(roots) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = match pki.require {
                    true => verifier,
                    false => verifier.allow_unauthenticated(),
                };
                let verifier = verifier.build().map_err(|error| error.to_string())?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(self.certificates.clone());
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        // Diallers resume nothing: no tickets for them.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Some(Arc::new(config)))
    }

    /// Reads what is in `state` again when a command says that it has changed, and
    /// whenever it has, for ever.
    pub async fn keep(self: Arc<Self>, state: PathBuf, commands: Option<UnixListener>) {
        let stamp = |state: &Path| {
            let meta = std::fs::metadata(secrets::path(state)).ok()?;
            Some((meta.modified().ok()?, meta.len(), meta.ino()))
        };
        // What was read before may have changed since.
        let mut seen: Option<(SystemTime, u64, u64)> = None;
        let mut warned = None;
        let mut looked_s = now_s();
        // No secret whose end was before that is waited for.
        let mut ended_s = looked_s;
        loop {
            let command = tokio::select! {
                command = next_command(commands.as_ref()) => Some(command),
                () = tokio::time::sleep(Duration::from_millis(TRUST_LOOK_MS)) => None,
            };
            let now = stamp(&state);
            // Old secrets and certificates end without a change of the file.
            let now_s = now_s();
            let ended = self.has_secret_ended(ended_s, now_s);
            ended_s = now_s;
            if ended {
                // What is known says so already, whatever the file does.
                self.changes.send_replace(());
            }
            let is_due = ended || now_s.abs_diff(looked_s) >= 60;
            if now == seen && !is_due && command.is_none() {
                continue;
            }
            looked_s = now_s;
            let mut answer = command_socket::DONE.to_owned();
            let learned = secrets::reread(&state)
                .and_then(|trust| self.adopt(trust, now != seen || command.is_some()));
            match learned {
                Ok(()) => seen = now,
                Err(why) => {
                    if now != warned {
                        warned = now;
                        log::warn(format_args!("{why}; what was there before still holds"));
                    }
                    answer = why;
                }
            }
            self.note_seen(&state);
            if let Some(mut command) = command {
                // It may not have waited.
                let _ = command.write_all(answer.as_bytes()).await;
            }
        }
    }

    fn has_secret_ended(&self, since_s: u64, now_s: u64) -> bool {
        self.known.as_ref().is_some_and(|known| {
            let known = known.read().unwrap_or_else(PoisonError::into_inner);
            known.keyring.has_secret_ended(since_s, now_s)
        })
    }

    /// Writes down who was let in.
    pub fn note_seen(&self, state: &Path) {
        let Some(known) = &self.known else {
            return;
        };
        let seen = {
            let known = known.read().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *known.seen())
        };
        if seen.is_empty() {
            return;
        }
        match secrets::note_seen(state, &seen) {
            Ok(true) => {}
            Ok(false) => {
                let known = known.read().unwrap_or_else(PoisonError::into_inner);
                known.seen().merge(&seen, &BTreeMap::new());
            }
            Err(why) => log::warn(format_args!("{why}")),
        }
    }

    /// Decides by `trust` from now on, and tells who waits for changes.
    ///
    /// # Errors
    /// In words: its certificates can't be shown; the rest of it counts.
    fn adopt(&self, trust: Trust, is_new: bool) -> Result<(), String> {
        let Some(known) = &self.known else {
            return Ok(());
        };
        let shown = self.certificates.replace(&trust);
        let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
        if is_new {
            let before = &known.keyring.revoked;
            for (name, when) in &trust.keyring.revoked {
                if before.get(name) != Some(when) {
                    log::audit(format_args!("revoked {name}"));
                }
            }
            if let Some(newest) = trust.keyring.pins.last()
                && Some(newest) != known.keyring.pins.last()
            {
                log::audit(format_args!("new certificate {}", tls::hex(newest)));
            }
            if trust.keyring.keys.last() != known.keyring.keys.last() {
                log::audit(format_args!("new root secret"));
            }
        }
        known.keyring = trust.keyring;
        drop(known);
        if is_new {
            self.changes.send_replace(());
        }
        shown.map_err(|why| format!("certificates: {why}"))
    }
}

impl Known {
    fn seen(&self) -> MutexGuard<'_, TokenList> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn see(&self, holder: &Holder, now_s: u64) {
        self.seen().see(holder, now_s);
    }
}

/// The next command that has changed something.
async fn next_command(commands: Option<&UnixListener>) -> UnixStream {
    let Some(commands) = commands else {
        return std::future::pending().await;
    };
    loop {
        match commands.accept().await {
            Ok((stream, _)) => return stream,
            // No descriptors are left: those in use end some time.
            Err(_) => tokio::time::sleep(Duration::from_millis(TRUST_LOOK_MS)).await,
        }
    }
}

/// Who the owner of a checked certificate is, as a name in it says.
pub fn certified(chain: Option<&[CertificateDer<'_>]>) -> Option<Holder> {
    let certificate = webpki::EndEntityCert::try_from(chain?.first()?).ok()?;
    certificate.valid_uri_names().find_map(holder_of_uri)
}

/// Chooses the certificate that a dialler asks for by name.
#[derive(Default, Debug)]
struct Certificates {
    /// The operator's certificate, shown to who asks for none of the others.
    own: Option<Arc<CertifiedKey>>,
    /// Certificates of our own by fingerprint, the newest last.
    pinned: RwLock<Vec<(Fingerprint, Arc<CertifiedKey>)>>,
}

impl Certificates {
    fn new(trust: &Trust, pki: &OwnPki) -> Result<Self, String> {
        let provider = tls::provider();
        let own = match pki.files.identity()? {
            None => None,
            Some((chain, key)) => {
                let key = CertifiedKey::from_der(chain, key, &provider);
                let key = key.map_err(|error| format!("--tls-cert and --tls-key: {error}"))?;
                Some(Arc::new(key))
            }
        };
        let certificates = Certificates {
            own,
            pinned: RwLock::default(),
        };
        certificates.replace(trust)?;
        Ok(certificates)
    }

    fn replace(&self, trust: &Trust) -> Result<(), String> {
        let provider = tls::provider();
        let mut pinned = Vec::new();
        for one in &trust.certificates {
            let chain = vec![one.certificate.clone()];
            let key = CertifiedKey::from_der(chain, one.key.clone_key(), &provider);
            let key = key.map_err(|error| error.to_string())?;
            pinned.push((one.fingerprint, Arc::new(key)));
        }
        *self.pinned.write().unwrap_or_else(PoisonError::into_inner) = pinned;
        Ok(())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let pinned = self.pinned.read().unwrap_or_else(PoisonError::into_inner);
        let wanted = hello.server_name().and_then(|name| {
            pinned
                .iter()
                .find(|(fingerprint, _)| tls::asks_for(name, fingerprint))
        });
        let (_, newest) = pinned.last()?;
        Some(match wanted {
            Some((_, key)) => key.clone(),
            None => self.own.clone().unwrap_or_else(|| newest.clone()),
        })
    }
}

/// Leaves tokens for this user's other processes on this machine, and renews them
/// for ever; they are taken away when this is dropped.
pub struct LocalTokens {
    paths: Vec<(Role, PathBuf)>,
    state: PathBuf,
}

impl LocalTokens {
    /// For a coordinator that listens on `address`. `None`: it can't be reached
    /// from this machine's loopback, or there is no place for them, which is told.
    pub fn leave(address: std::net::SocketAddr, state: &Path) -> Option<Self> {
        let ip = address.ip();
        let reached = ip.is_loopback() || ip.is_unspecified();
        if !reached {
            return None;
        }
        let folder = match open_local_folder() {
            Ok(folder) => folder,
            Err(error) => {
                log::warn(format_args!(
                    "{error}: processes here need to join as others do"
                ));
                return None;
            }
        };
        let path = |role| (role, local_path(&folder, address.port(), role));
        let tokens = LocalTokens {
            paths: [Role::Client, Role::Worker, Role::Admin].map(path).into(),
            state: state.to_owned(),
        };
        match tokens.write() {
            Ok(()) => Some(tokens),
            Err(why) => {
                log::warn(format_args!(
                    "{why}: processes here need to join as others do"
                ));
                None
            }
        }
    }

    fn write(&self) -> Result<(), String> {
        let trust = secrets::reread(&self.state)?;
        for (role, path) in &self.paths {
            let line = trust.token(*role, LOCAL_NAME, LOCAL_TOKEN_S)?.to_text() + "\n";
            write_private(path, line.as_bytes())
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }

    /// Renews them for ever: now and then, and when there are newer secrets.
    pub async fn renew(&self, keeper: &Doorkeeper) {
        let mut changes = keeper.changes.subscribe();
        loop {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(LOCAL_RENEW_MS)) => {}
                // Its sender lives in the keeper.
                _ = changes.changed() => {}
            }
            if let Err(why) = self.write() {
                log::warn(format_args!("{why}"));
            }
        }
    }
}

impl Drop for LocalTokens {
    fn drop(&mut self) {
        for (_, path) in &self.paths {
            // Another user of /tmp may have cleared up.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Tells and counts that somebody was turned away.
pub fn turn_away(hub: &Hub, peer: IpAddr, what: &str, refusal: Refusal) {
    let refused = hub.metrics.refused.with_label_values(&[refusal.reason()]);
    refused.inc();
    log::audit(format_args!("refused {what} from {peer}: {refusal}"));
}
