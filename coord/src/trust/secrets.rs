//! The coordinator's certificates, root secrets and revocations: one file in the
//! state folder, for its owner alone, made at the first start. Commands change it,
//! and the running coordinator reads it again. Beside it lies the list of tokens.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hg_proto::secure::credentials::write_private;
use hg_proto::secure::private;
use hg_proto::secure::tls::fingerprint;
use hg_proto::secure::token::{Fingerprint, Role, SECRET_BYTES, Token};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

use crate::log;
use crate::state_folder;
use crate::trust::auth::{Keyring, RootKey, holder_of};
use crate::trust::token_list::TokenList;

const NAME: &str = "trust.json";
/// Beside it: whom tokens were given to. Nothing is decided by it.
const LIST_NAME: &str = "tokens.json";
/// Bytes of either file.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Names that are revoked.
const REVOKED_MAX: usize = 65_536;
/// Names in our own certificate, for diallers that check names: not ours, which
/// check its fingerprint.
const CERTIFICATE_NAMES: [&str; 3] = ["hybridgrid", "localhost", "127.0.0.1"];

/// A certificate of our own.
pub struct Certificate {
    /// The certificate, in DER.
    pub certificate: CertificateDer<'static>,
    /// The certificate's key, in PKCS#8.
    pub key: PrivateKeyDer<'static>,
    /// SHA-256 of the certificate.
    pub fingerprint: Fingerprint,
}

/// Content of the file with the secrets.
pub struct Trust {
    /// Root secrets, fingerprints and revocations.
    pub keyring: Keyring,
    /// Certificates, the newest last; there is at least one.
    pub certificates: Vec<Certificate>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Written {
    keys: Vec<WrittenKey>,
    certificates: Vec<WrittenCertificate>,
    revoked: BTreeMap<String, u64>,
}

#[derive(Serialize, Deserialize)]
struct WrittenKey {
    id: u32,
    secret: String,
    ends_s: u64,
}

#[derive(Serialize, Deserialize)]
struct WrittenCertificate {
    certificate: String,
    key: String,
    ends_s: u64,
}

/// Which secrets are to be made anew.
#[derive(Debug, Clone, Copy)]
pub struct Rotation {
    /// Whether the root secret is.
    pub secret: bool,
    /// Whether the certificate is.
    pub certificate: bool,
    /// Seconds for which the old ones hold beside the new ones.
    pub overlap_s: u64,
}

/// Seconds since the Unix epoch.
pub fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// Path of the file with the secrets.
pub fn path(state: &Path) -> PathBuf {
    state.join(NAME)
}

/// Reads the secrets; a certificate and a root secret are made if there are none.
///
/// # Errors
/// In words, with the file's name: it can't be read or written, or is damaged,
/// which is never mended by making new secrets.
pub fn open(state: &Path) -> Result<Trust, String> {
    let (_lock, mut written) = lock_and_read(state)?;
    if written.keys.is_empty() || written.certificates.is_empty() {
        let missing = Rotation {
            secret: written.keys.is_empty(),
            certificate: written.certificates.is_empty(),
            overlap_s: 0,
        };
        rotate_in(&mut written, missing)?;
        write(state, &written)?;
    }
    understood(&written).map_err(|why| in_file(state, &why))
}

/// Reads the secrets again, for a process that runs.
///
/// # Errors
/// As [`open`].
pub fn reread(state: &Path) -> Result<Trust, String> {
    understood(&read(state)?).map_err(|why| in_file(state, &why))
}

/// Parses the file's content.
///
/// # Errors
/// In words: it is damaged.
pub fn parse(bytes: &[u8]) -> Result<Trust, String> {
    understood(&decoded(bytes)?)
}

/// Makes new secrets beside the old ones.
///
/// # Errors
/// As [`open`].
pub fn rotate(state: &Path, rotation: Rotation) -> Result<Trust, String> {
    let (_lock, mut written) = lock_and_read(state)?;
    rotate_in(&mut written, rotation)?;
    write(state, &written)?;
    understood(&written).map_err(|why| in_file(state, &why))
}

/// Makes void all tokens that `name` has, and its certificate.
///
/// # Errors
/// As [`open`], or too many names are revoked.
pub fn revoke(state: &Path, name: &str) -> Result<(), String> {
    let (_lock, mut written) = lock_and_read(state)?;
    let before_s = written.revoked.get(name).copied();
    if before_s.is_none() && written.revoked.len() >= REVOKED_MAX {
        return Err(in_file(
            state,
            &"too many names are revoked; 'hg-coord rotate --secret --overlap 0s' ends all tokens",
        ));
    }
    // A clock that was put back makes no token younger than its revocation, and ends
    // no earlier one.
    let given_s = list(state).newest_s(name);
    let until_s = [Some(now_s()), before_s, given_s].into_iter().flatten();
    written
        .revoked
        .insert(name.to_owned(), until_s.max().unwrap_or_default());
    write(state, &written)
}

/// Makes a token that holds for `lasts_s` seconds, 0: for ever, and lists it.
///
/// # Errors
/// As [`open`].
pub fn give(state: &Path, role: Role, name: &str, lasts_s: u64) -> Result<Token, String> {
    let trust = open(state)?;
    let (_lock, _) = lock_and_read(state)?;
    let token = trust.token(role, name, lasts_s)?;
    let revoked_s = trust.keyring.revoked.get(name).copied().unwrap_or(0);
    let mut list = list(state);
    list.give(&holder_of(&token.claims), revoked_s);
    put_list(state, &list)?;
    Ok(token)
}

/// Adds to the list on disk who was seen; `false`: a command is at it now. Does not
/// wait for that: it may have been stopped.
///
/// # Errors
/// As [`open`].
pub fn note_seen(state: &Path, seen: &TokenList) -> Result<bool, String> {
    let Some(_lock) = lock(state, FlockArg::LockExclusiveNonblock)? else {
        return Ok(false);
    };
    let mut list = list(state);
    list.merge(seen, &read(state)?.revoked);
    put_list(state, &list)?;
    Ok(true)
}

/// Whom tokens were given to, and what is revoked.
///
/// # Errors
/// As [`open`].
pub fn listed(state: &Path) -> Result<(TokenList, BTreeMap<String, u64>), String> {
    private::check_folder(state)?;
    let written = read(state)?;
    Ok((list(state), written.revoked))
}

/// What cannot be read begins anew: nothing is decided by it.
fn list(state: &Path) -> TokenList {
    let path = state.join(LIST_NAME);
    let read = match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return TokenList::default(),
        Ok(meta) if meta.len() > FILE_BYTES_MAX => Err("too large".to_owned()),
        _ => fs::read(&path).map_err(|error| error.to_string()),
    };
    read.and_then(|bytes| TokenList::parse(&bytes))
        .unwrap_or_else(|why| {
            let path = path.display();
            log::warn(format_args!(
                "{path}: {why}; the list of tokens begins anew"
            ));
            TokenList::default()
        })
}

fn put_list(state: &Path, list: &TokenList) -> Result<(), String> {
    let path = state.join(LIST_NAME);
    write_private(&path, &list.to_bytes()).map_err(|error| format!("{}: {error}", path.display()))
}

impl Trust {
    /// The certificate that new tokens name.
    pub fn newest(&self) -> Fingerprint {
        self.certificates
            .last()
            .map(|certificate| certificate.fingerprint)
            .unwrap_or_default()
    }

    /// A token from now on, for `lasts_s` seconds; 0: for ever.
    ///
    /// # Errors
    /// There is no secret to make it with.
    pub fn token(&self, role: Role, name: &str, lasts_s: u64) -> Result<Token, String> {
        let now_s = now_s();
        // Times are in whole seconds: made right after its name was revoked, it is
        // good all the same.
        let revoked_s = self.keyring.revoked.get(name);
        let issued_s = revoked_s.map_or(now_s, |revoked_s| now_s.max(revoked_s.saturating_add(1)));
        let expires_s = if lasts_s == 0 {
            0
        } else {
            now_s.saturating_add(lasts_s)
        };
        let token = self.keyring.mint(role, name, issued_s, expires_s);
        token.ok_or_else(|| "no root secret".into())
    }
}

fn in_file(state: &Path, why: &dyn std::fmt::Display) -> String {
    format!("{}: {why}", path(state).display())
}

/// The file's content, and a lock against other commands.
fn lock_and_read(state: &Path) -> Result<(Flock<File>, Written), String> {
    state_folder::open(state)?;
    let lock = lock(state, FlockArg::LockExclusive)?;
    let lock = lock.ok_or_else(|| in_file(state, &Errno::EWOULDBLOCK))?;
    Ok((lock, read(state)?))
}

/// `None`: another command has it, and `how` is not to wait.
fn lock(state: &Path, how: FlockArg) -> Result<Option<Flock<File>>, String> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(state.join("trust.lock"))
        .map_err(|error| in_file(state, &error))?;
    match Flock::lock(file, how) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(in_file(state, &errno)),
    }
}

fn read(state: &Path) -> Result<Written, String> {
    let path = path(state);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Written::default()),
        other => other.map_err(|error| in_file(state, &error))?,
    };
    let found = file.metadata().map_err(|error| in_file(state, &error))?;
    private::check_file(&path, &found)?;
    let mut bytes = Vec::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| in_file(state, &error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(in_file(state, &"too large"));
    }
    decoded(&bytes).map_err(|why| in_file(state, &why))
}

fn decoded(bytes: &[u8]) -> Result<Written, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

fn write(state: &Path, written: &Written) -> Result<(), String> {
    let bytes = serde_json::to_vec(written).map_err(|error| in_file(state, &error))?;
    write_private(&path(state), &bytes).map_err(|error| in_file(state, &error))
}

fn rotate_in(written: &mut Written, rotation: Rotation) -> Result<(), String> {
    let now_s = now_s();
    let ends_s = now_s.saturating_add(rotation.overlap_s);
    let until = |old: &mut u64| {
        if *old == 0 || *old > ends_s {
            *old = ends_s;
        }
    };
    written.keys.retain(|key| !is_past(key.ends_s, now_s));
    written
        .certificates
        .retain(|old| !is_past(old.ends_s, now_s));
    if rotation.secret {
        written
            .keys
            .iter_mut()
            .for_each(|key| until(&mut key.ends_s));
        written.keys.push(new_key()?);
    }
    if rotation.certificate {
        let old = written.certificates.iter_mut();
        old.for_each(|old| until(&mut old.ends_s));
        written.certificates.push(new_certificate()?);
    }
    Ok(())
}

fn is_past(ends_s: u64, now_s: u64) -> bool {
    ends_s != 0 && ends_s <= now_s
}

fn new_key() -> Result<WrittenKey, String> {
    let random = SystemRandom::new();
    let (mut id, mut secret) = ([0; 4], [0; SECRET_BYTES]);
    random
        .fill(&mut id)
        .and_then(|()| random.fill(&mut secret))
        .map_err(|_| "the system gives no random numbers".to_owned())?;
    Ok(WrittenKey {
        id: u32::from_be_bytes(id),
        secret: STANDARD.encode(secret),
        ends_s: 0,
    })
}

fn new_certificate() -> Result<WrittenCertificate, String> {
    let told = |error: rcgen::Error| format!("making a certificate: {error}");
    let key = rcgen::KeyPair::generate().map_err(told)?;
    let names = CERTIFICATE_NAMES.map(str::to_owned);
    let mut parameters = rcgen::CertificateParams::new(names).map_err(told)?;
    parameters
        .distinguished_name
        .push(rcgen::DnType::CommonName, "Hybrid-Grid coordinator");
    // It ends by rotation, not by a date that nobody remembers.
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2120, 1, 1);
    let certificate = parameters.self_signed(&key).map_err(told)?;
    Ok(WrittenCertificate {
        certificate: STANDARD.encode(certificate.der()),
        key: STANDARD.encode(key.serialize_der()),
        ends_s: 0,
    })
}

fn understood(written: &Written) -> Result<Trust, String> {
    let now_s = now_s();
    let decode = |text: &str| STANDARD.decode(text).map_err(|error| error.to_string());
    let mut keys = Vec::new();
    for key in written
        .keys
        .iter()
        .filter(|key| !is_past(key.ends_s, now_s))
    {
        let secret = decode(&key.secret)?;
        keys.push(RootKey {
            id: key.id,
            secret: secret
                .try_into()
                .map_err(|_| "a secret of a wrong length")?,
            ends_s: key.ends_s,
        });
    }
    let mut certificates = Vec::new();
    let current = written.certificates.iter();
    for one in current.filter(|one| !is_past(one.ends_s, now_s)) {
        let certificate = CertificateDer::from(decode(&one.certificate)?);
        certificates.push(Certificate {
            fingerprint: fingerprint(&certificate),
            certificate,
            key: PrivatePkcs8KeyDer::from(decode(&one.key)?).into(),
        });
    }
    if keys.is_empty() || certificates.is_empty() {
        return Err("no secret or no certificate in it; remove it to begin anew".into());
    }
    Ok(Trust {
        keyring: Keyring {
            keys,
            pins: certificates.iter().map(|one| one.fingerprint).collect(),
            revoked: written.revoked.clone(),
        },
        certificates,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn made_once_kept_and_private() {
        let state = tempfile::tempdir().unwrap();
        let first = open(state.path()).unwrap();
        let again = open(state.path()).unwrap();
        assert_eq!(first.keyring, again.keyring);
        assert_eq!(first.newest(), again.newest());
        let mode = fs::metadata(path(state.path())).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_is_told_and_left() {
        let state = tempfile::tempdir().unwrap();
        open(state.path()).unwrap();
        fs::write(path(state.path()), "{").unwrap();
        assert!(open(state.path()).err().unwrap().contains(NAME));
        assert_eq!(fs::read(path(state.path())).unwrap(), b"{");
    }

    #[test]
    fn rotation_leaves_the_old_for_a_while() {
        let state = tempfile::tempdir().unwrap();
        let old = open(state.path()).unwrap();
        let token = old.token(Role::Client, "me", 0).unwrap().to_text();
        let rotation = |overlap_s| Rotation {
            secret: true,
            certificate: true,
            overlap_s,
        };
        let new = rotate(state.path(), rotation(60)).unwrap();
        assert_eq!((new.certificates.len(), new.keyring.keys.len()), (2, 2));
        assert_ne!(new.newest(), old.newest());
        assert!(new.keyring.admit(&token, now_s()).is_ok());
        let without = rotate(state.path(), rotation(0)).unwrap();
        assert_eq!(without.certificates.len(), 1);
        assert!(without.keyring.admit(&token, now_s()).is_err());
    }

    #[test]
    fn a_clock_that_was_put_back_outruns_no_revocation() {
        let state = tempfile::tempdir().unwrap();
        open(state.path()).unwrap();
        // Made while the clock was ahead.
        let ahead_s = now_s() + 1_000;
        let mut list = TokenList::default();
        let mut trust = reread(state.path()).unwrap();
        let early = trust.keyring.mint(Role::Client, "me", ahead_s, 0).unwrap();
        list.give(&holder_of(&early.claims), 0);
        put_list(state.path(), &list).unwrap();
        for _ in 0..2 {
            revoke(state.path(), "me").unwrap();
            trust = reread(state.path()).unwrap();
            assert_eq!(trust.keyring.revoked["me"], ahead_s);
            assert!(trust.keyring.admit(&early.to_text(), now_s()).is_err());
            // The list may be lost.
            fs::remove_file(state.path().join(LIST_NAME)).ok();
        }
        let new = give(state.path(), Role::Client, "me", 0).unwrap();
        assert!(trust.keyring.admit(&new.to_text(), now_s()).is_ok());
    }

    #[test]
    fn a_damaged_list_begins_anew_and_stops_nothing() {
        let state = tempfile::tempdir().unwrap();
        give(state.path(), Role::Client, "one", 0).unwrap();
        assert!(listed(state.path()).unwrap().0.has("one"));
        fs::write(state.path().join(LIST_NAME), "[").unwrap();
        revoke(state.path(), "one").unwrap();
        give(state.path(), Role::Client, "two", 0).unwrap();
        let (list, revoked) = listed(state.path()).unwrap();
        assert!(!list.has("one") && list.has("two") && revoked.contains_key("one"));
    }

    #[test]
    fn what_is_revoked_is_so_for_who_reads_again() {
        let state = tempfile::tempdir().unwrap();
        let trust = open(state.path()).unwrap();
        let token = trust.token(Role::Worker, "pi", 0).unwrap().to_text();
        revoke(state.path(), "pi").unwrap();
        let trust = reread(state.path()).unwrap();
        assert!(trust.keyring.admit(&token, now_s()).is_err());
        let new = trust.token(Role::Worker, "pi", 0).unwrap().to_text();
        assert!(trust.keyring.admit(&new, now_s()).is_ok());
    }
}
