//! Where the diallers' tokens are: given in the environment, stored by `join`, or
//! left by a coordinator of the same user on the same machine. With I/O.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::unistd::getuid;

use crate::secure::token::{NotAToken, Role, Token};
use crate::secure::{atomic_file, private};

/// Names the variable that holds a token.
pub const TOKEN_VARIABLE: &str = "HG_TOKEN";
/// Bytes of a file with a token in it.
const FILE_BYTES_MAX: u64 = 4096;
/// A file's mode bits by which others than its owner and group get at it.
const OTHERS: u32 = 0o007;
/// The mode bit by which its group writes a file.
const GROUP_WRITES: u32 = 0o020;

/// What `join` stores.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The token.
    pub token: Token,
    /// HOST:PORT of the coordinator it was tried at.
    pub coordinator: Option<String>,
}

/// Reads what [`store`] wrote: the token, and on a second line where the
/// coordinator is. `None`: there is no such file.
///
/// # Errors
/// In words, with the file's name: it can't be read, is not a token, everybody may
/// read it, or others than its owner may write it.
pub fn stored(path: &Path) -> Result<Option<Stored>, String> {
    let told = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(told(&error)),
    };
    let mode = file.metadata().map_err(|error| told(&error))?.mode();
    if mode & OTHERS != 0 {
        return Err(told(&"others may read it: chmod 600, and get a new token"));
    }
    if mode & GROUP_WRITES != 0 {
        return Err(told(
            &"its group may write it: chmod 600, and get a new token",
        ));
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| told(&error))?;
    Stored::parse(&text).map(Some).map_err(|why| told(&why))
}

impl Stored {
    /// What [`store`] wrote.
    ///
    /// # Errors
    /// The first line is no token.
    pub fn parse(text: &str) -> Result<Self, NotAToken> {
        let mut lines = text.lines();
        let token = Token::parse(lines.next().unwrap_or_default())?;
        let coordinator = lines.next().map(|line| line.trim().to_owned());
        Ok(Stored {
            token,
            coordinator: coordinator.filter(|line| !line.is_empty()),
        })
    }

    /// As [`store`] writes it.
    pub fn to_text(&self) -> String {
        let mut text = self.token.to_text() + "\n";
        if let Some(coordinator) = &self.coordinator {
            text.push_str(coordinator);
            text.push('\n');
        }
        text
    }
}

/// Writes a file that only this user can read, whole or not at all, and the
/// folders above it.
///
/// # Errors
/// As the file system says.
pub fn store(path: &Path, stored: &Stored) -> io::Result<()> {
    write_private(path, stored.to_text().as_bytes())
}

/// Keeps the token `text` in place of the one that is stored at `path`, if there is
/// one, it is of the same holder, and it `may` be replaced.
///
/// # Errors
/// In words: `text` is no token, or a file can't be read or written.
pub fn renew(path: &Path, text: &str, may: impl FnOnce(&Token) -> bool) -> Result<(), String> {
    let token = Token::parse(text).map_err(|why| why.to_string())?;
    let Some(old) = stored(path)? else {
        return Ok(());
    };
    if !token.is_of_holder_of(&old.token) || !may(&old.token) {
        return Ok(());
    }
    let coordinator = old.coordinator;
    store(path, &Stored { token, coordinator })
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// Puts `content` at `path` with mode 0600, whole or not at all; makes its folder,
/// with mode 0700, if it is missing. The umask changes neither.
///
/// # Errors
/// As the file system says; what was there before still is.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    if !folder.as_os_str().is_empty() {
        private::make_folder(folder)?;
    }
    atomic_file::replace_with(path, 0o600, |file| {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(content)?;
        file.sync_all()
    })
}

/// The folder in which coordinators of this user leave tokens for this user's
/// other processes on this machine.
pub fn local_folder() -> PathBuf {
    PathBuf::from(format!("/tmp/hybridgrid-{}", getuid()))
}

/// Where a coordinator on `port` leaves the token of `role`.
pub fn local_path(folder: &Path, port: u16, role: Role) -> PathBuf {
    folder.join(format!("{port}.{role}"))
}

/// Makes [`local_folder`] and makes sure that it is this user's alone.
///
/// # Errors
/// It can't be made, or somebody else made it.
pub fn open_local_folder() -> io::Result<PathBuf> {
    let folder = local_folder();
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    match is_ours(&folder) {
        true => Ok(folder),
        false => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{}: somebody else's", folder.display()),
        )),
    }
}

fn is_ours(folder: &Path) -> bool {
    fs::symlink_metadata(folder).is_ok_and(|meta| {
        meta.is_dir() && meta.uid() == getuid().as_raw() && meta.permissions().mode() & 0o077 == 0
    })
}

/// The token that a coordinator of this user on this machine left for `role`;
/// `coordinator` is HOST:PORT.
pub fn local(coordinator: &str, role: Role) -> Option<Token> {
    let (host, port) = coordinator.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    if !is_loopback {
        return None;
    }
    let folder = local_folder();
    if !is_ours(&folder) {
        return None;
    }
    let mut text = String::new();
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(local_path(&folder, port.parse().ok()?, role))
        .ok()?
        .take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .ok()?;
    Token::parse(&text).ok()
}

/// The token for `role` at `coordinator`: that of the environment, of a
/// coordinator of our own here, or the stored one, in that order. `None`: there is
/// none.
///
/// # Errors
/// In words: what is there is no token.
pub fn find(
    coordinator: &str,
    role: Role,
    stored_at: Option<&Path>,
) -> Result<Option<Token>, String> {
    if let Some(token) = from_environment()? {
        return Ok(Some(token));
    }
    if let Some(token) = local(coordinator, role) {
        return Ok(Some(token));
    }
    let stored = stored_at.map_or(Ok(None), stored)?;
    Ok(stored.map(|stored| stored.token))
}

fn from_environment() -> Result<Option<Token>, String> {
    match std::env::var(TOKEN_VARIABLE) {
        Ok(text) if !text.is_empty() => Token::parse(&text)
            .map(Some)
            .map_err(|why| format!("{TOKEN_VARIABLE}: {why}")),
        _ => Ok(None),
    }
}

/// The token that `join` is given: `word` itself or the name of a file; without
/// one, that of the environment, or what comes by stdin.
///
/// # Errors
/// In words: there is none, or it is no token.
pub fn given(word: Option<&str>) -> Result<Token, String> {
    let parse = |from: &str, text: &str| Token::parse(text).map_err(|why| format!("{from}: {why}"));
    match word {
        None => {
            if let Some(token) = from_environment()? {
                return Ok(token);
            }
            if io::stdin().is_terminal() {
                eprint!("token: ");
            }
            let mut text = String::new();
            io::stdin()
                .lock()
                .take(FILE_BYTES_MAX)
                .read_line(&mut text)
                .map_err(|error| format!("stdin: {error}"))?;
            parse("stdin", &text)
        }
        Some(word) if word.starts_with(crate::secure::token::PREFIX) => parse("the token", word),
        Some(path) => match stored(Path::new(path))? {
            Some(stored) => Ok(stored.token),
            None => Err(format!("{path}: no such file, and no token either")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secure::token::Claims;

    fn token() -> Token {
        let claims = Claims {
            role: Role::Client,
            key: 1,
            issued_s: 2,
            expires_s: 3,
            name: "me".into(),
        };
        Token {
            secret: claims.secret(&[1; 32], &[2; 32]),
            claims,
            fingerprint: [2; 32],
        }
    }

    #[test]
    fn what_is_stored_is_for_its_owner_and_found_again() {
        let folder = std::env::temp_dir().join(format!("hg-credentials-{}", std::process::id()));
        let path = folder.join("deep/token");
        assert_eq!(stored(&path), Ok(None));
        for coordinator in [None, Some("pi:9000".to_owned())] {
            let kept = Stored {
                token: token(),
                coordinator,
            };
            store(&path, &kept).unwrap();
            assert_eq!(stored(&path), Ok(Some(kept)));
        }
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        assert!(stored(&path).unwrap_err().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "hgt1.AAAA").unwrap();
        assert!(stored(&path).unwrap_err().contains("deep/token"));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_renewal_is_for_the_same_holder_only() {
        let folder = std::env::temp_dir().join(format!("hg-renewal-{}", std::process::id()));
        let path = folder.join("token");
        let mut new = token();
        new.fingerprint = [3; 32];
        // There is none to be replaced.
        assert_eq!(renew(&path, &new.to_text(), |_| true), Ok(()));
        assert_eq!(stored(&path), Ok(None));
        let old = Stored {
            token: token(),
            coordinator: Some("pi:9000".into()),
        };
        store(&path, &old).unwrap();
        let mut other = new.clone();
        other.claims.name = "you".into();
        renew(&path, &other.to_text(), |_| true).unwrap();
        renew(&path, &new.to_text(), |_| false).unwrap();
        assert!(renew(&path, "hgt1.AAAA", |_| true).is_err());
        assert_eq!(stored(&path), Ok(Some(old.clone())));
        renew(&path, &new.to_text(), |old| *old == token()).unwrap();
        let kept = Stored { token: new, ..old };
        assert_eq!(stored(&path), Ok(Some(kept)));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn only_loopback_is_local() {
        for elsewhere in ["pi.local:9000", "10.0.0.1:9000", "nonsense", "127.0.0.1:x"] {
            assert_eq!(local(elsewhere, Role::Client), None, "{elsewhere}");
        }
    }

    #[test]
    fn a_token_may_be_typed_or_lie_in_a_file() {
        assert_eq!(given(Some(&token().to_text())), Ok(token()));
        assert!(
            given(Some("/nowhere/token"))
                .unwrap_err()
                .contains("/nowhere/token")
        );
    }
}
