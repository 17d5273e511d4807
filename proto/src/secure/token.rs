//! Join tokens: one line that says which coordinator is meant (the fingerprint of
//! its certificate), who its holder may be, until when, and a secret that only
//! the coordinator could have derived.
//!
//! ```text
//! "hgt1." base64url( role 1 | key 4 | issued 8 | expires 8 | name length 1 | name
//!                    | fingerprint 32 | secret 32 )
//! secret = keyed BLAKE3 of all before the secret, by the root secret `key`
//! ```
//! The secrets of older tokens leave out the fingerprint; see
//! [`Claims::secret_without_fingerprint`].
//!
//! Numbers are big-endian, times are seconds since the Unix epoch, 0 for never.
//! base64url is without padding (RFC 4648, section 5).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What every token begins with.
pub const PREFIX: &str = "hgt1.";
/// Bytes of a holder's name.
pub const HOLDER_BYTES_MAX: usize = 64;
/// Bytes of a token's text.
pub const TOKEN_BYTES_MAX: usize = 256;
/// Bytes of a root secret, of a derived one, and of a fingerprint.
pub const SECRET_BYTES: usize = 32;

/// SHA-256 of a certificate in DER.
pub type Fingerprint = [u8; SECRET_BYTES];

/// What the holder of a token may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Serves compiles.
    Worker,
    /// Submits compiles and looks.
    Client,
    /// All that a client may, and changes the grid.
    Admin,
    /// Looks, and nothing else.
    Viewer,
}

/// All roles.
const ROLES: [Role; 4] = [Role::Worker, Role::Client, Role::Admin, Role::Viewer];

impl Role {
    /// The role's name, as typed and shown.
    pub fn name(self) -> &'static str {
        match self {
            Role::Worker => "worker",
            Role::Client => "client",
            Role::Admin => "admin",
            Role::Viewer => "viewer",
        }
    }

    /// The inverse of [`Role::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        ROLES.into_iter().find(|role| role.name() == name)
    }

    fn from_byte(byte: u8) -> Option<Self> {
        ROLES.into_iter().find(|role| *role as u8 == byte)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a token says of its holder; the secret proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// What the holder may be.
    pub role: Role,
    /// Which root secret the token's own is derived from.
    pub key: u32,
    /// When the token was made.
    pub issued_s: u64,
    /// When it ends; 0: never.
    pub expires_s: u64,
    /// The holder, 1 to [`HOLDER_BYTES_MAX`] bytes; see [`holder_is_well_formed`].
    pub name: String,
}

/// A root secret's derivative for one holder. Shows itself to nobody.
#[derive(Clone)]
pub struct Secret(blake3::Hash);

impl PartialEq for Secret {
    /// Compares in constant time.
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A join token.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// What the token says of its holder.
    pub claims: Claims,
    /// Fingerprint of the coordinator's certificate.
    pub fingerprint: Fingerprint,
    /// The secret that proves the claims.
    pub secret: Secret,
}

/// Why a text is no token. Never quotes it: it may be a secret cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAToken {
    /// It does not begin with [`PREFIX`].
    Prefix,
    /// It is longer than [`TOKEN_BYTES_MAX`].
    TooLong,
    /// It has a character that base64url has not.
    Encoding,
    /// It is cut off, or something is behind it.
    Length,
    /// A role or a name that there can't be.
    Claims,
}

impl fmt::Display for NotAToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotAToken::Prefix => "not a join token: these begin with \"hgt1.\"",
            NotAToken::TooLong => "not a join token: too long",
            NotAToken::Encoding => "not a join token: a character in it does not belong there",
            NotAToken::Length => "not a whole join token: was it cut off?",
            NotAToken::Claims => "not a join token: an unknown role, or no name",
        })
    }
}

impl std::error::Error for NotAToken {}

/// Letters, digits and `-_.@` only, so that names can stand anywhere.
pub fn holder_is_well_formed(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
    (1..=HOLDER_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain)
}

impl Claims {
    fn encoded(&self) -> Vec<u8> {
        let mut bytes = vec![self.role as u8];
        bytes.extend_from_slice(&self.key.to_be_bytes());
        bytes.extend_from_slice(&self.issued_s.to_be_bytes());
        bytes.extend_from_slice(&self.expires_s.to_be_bytes());
        // A well-formed name's length fits.
        bytes.push(self.name.len() as u8);
        bytes.extend_from_slice(self.name.as_bytes());
        bytes
    }

    /// The secret of whoever these claims are true of, in a token with `fingerprint`.
    pub fn secret(&self, root: &[u8; SECRET_BYTES], fingerprint: &Fingerprint) -> Secret {
        let mut bytes = self.encoded();
        bytes.extend_from_slice(fingerprint);
        Secret(blake3::keyed_hash(root, &bytes))
    }

    /// The secret in a token of before fingerprints were part of it: whatever
    /// fingerprint such a token names is not proved by it. It is no other token's
    /// secret, since no encoding of claims is the beginning of another one.
    pub fn secret_without_fingerprint(&self, root: &[u8; SECRET_BYTES]) -> Secret {
        Secret(blake3::keyed_hash(root, &self.encoded()))
    }

    /// Whether the token has ended at `now_s`.
    pub fn is_over(&self, now_s: u64) -> bool {
        self.expires_s != 0 && self.expires_s <= now_s
    }
}

impl Token {
    /// Whether it may stand for `other`: both are of one holder.
    pub fn is_of_holder_of(&self, other: &Token) -> bool {
        let (ours, theirs) = (&self.claims, &other.claims);
        (ours.role, &ours.name) == (theirs.role, &theirs.name)
    }

    /// The token's text: one line, without its end.
    pub fn to_text(&self) -> String {
        let mut bytes = self.claims.encoded();
        bytes.extend_from_slice(&self.fingerprint);
        bytes.extend_from_slice(self.secret.0.as_bytes());
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The inverse of [`Token::to_text`]; white space around it is fine.
    ///
    /// # Errors
    /// It is not a whole token.
    pub fn parse(text: &str) -> Result<Self, NotAToken> {
        let text = text.trim();
        if text.len() > TOKEN_BYTES_MAX {
            return Err(NotAToken::TooLong);
        }
        let text = text.strip_prefix(PREFIX).ok_or(NotAToken::Prefix)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| match error {
            base64::DecodeError::InvalidLength(_) => NotAToken::Length,
            _ => NotAToken::Encoding,
        })?;
        let mut rest = &bytes[..];
        let role = Role::from_byte(u8::from_be_bytes(take(&mut rest)?));
        let key = u32::from_be_bytes(take(&mut rest)?);
        let issued_s = u64::from_be_bytes(take(&mut rest)?);
        let expires_s = u64::from_be_bytes(take(&mut rest)?);
        let [name_len] = take(&mut rest)?;
        let (name, tail) = rest
            .split_at_checked(name_len.into())
            .ok_or(NotAToken::Length)?;
        rest = tail;
        let fingerprint = take(&mut rest)?;
        let secret = Secret(blake3::Hash::from_bytes(take(&mut rest)?));
        if !rest.is_empty() {
            return Err(NotAToken::Length);
        }
        let name = std::str::from_utf8(name).ok();
        let name = name.filter(|name| holder_is_well_formed(name));
        let (Some(role), Some(name)) = (role, name) else {
            return Err(NotAToken::Claims);
        };
        let name = name.to_owned();
        Ok(Token {
            claims: Claims {
                role,
                key,
                issued_s,
                expires_s,
                name,
            },
            fingerprint,
            secret,
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], NotAToken> {
    let (first, tail) = rest.split_first_chunk().ok_or(NotAToken::Length)?;
    *rest = tail;
    Ok(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: [u8; SECRET_BYTES] = [7; SECRET_BYTES];
    const PIN: Fingerprint = [9; SECRET_BYTES];

    fn token() -> Token {
        let claims = Claims {
            role: Role::Client,
            key: 3,
            issued_s: 1_700_000_000,
            expires_s: 1_800_000_000,
            name: "me@laptop".into(),
        };
        Token {
            secret: claims.secret(&ROOT, &PIN),
            claims,
            fingerprint: PIN,
        }
    }

    #[test]
    fn a_token_survives_its_text() {
        let text = token().to_text();
        assert!(text.len() <= TOKEN_BYTES_MAX && text.is_ascii());
        assert_eq!(Token::parse(&format!(" {text}\n")), Ok(token()));
        let longest = Claims {
            name: "n".repeat(HOLDER_BYTES_MAX),
            ..token().claims
        };
        let longest = Token {
            claims: longest,
            ..token()
        };
        assert_eq!(Token::parse(&longest.to_text()), Ok(longest));
    }

    #[test]
    fn every_claim_and_the_fingerprint_are_in_the_secret() {
        let claims = token().claims;
        let secret = claims.secret(&ROOT, &PIN);
        let others = [
            Claims {
                role: Role::Admin,
                ..claims.clone()
            },
            Claims {
                key: 4,
                ..claims.clone()
            },
            Claims {
                issued_s: 0,
                ..claims.clone()
            },
            Claims {
                expires_s: 0,
                ..claims.clone()
            },
            Claims {
                name: "you".into(),
                ..claims.clone()
            },
        ];
        for other in others {
            assert_ne!(other.secret(&ROOT, &PIN), secret, "{other:?}");
            let older = claims.secret_without_fingerprint(&ROOT);
            assert_ne!(other.secret_without_fingerprint(&ROOT), older, "{other:?}");
        }
        assert_ne!(claims.secret(&[8; SECRET_BYTES], &PIN), secret);
        assert_ne!(claims.secret(&ROOT, &[8; SECRET_BYTES]), secret);
        assert_ne!(claims.secret_without_fingerprint(&ROOT), secret);
    }

    #[test]
    fn what_is_cut_off_or_changed_is_told() {
        let text = token().to_text();
        for len in 0..text.len() {
            assert!(Token::parse(&text[..len]).is_err(), "{len}");
        }
        assert_eq!(Token::parse("x"), Err(NotAToken::Prefix));
        assert_eq!(Token::parse("hgt1.A"), Err(NotAToken::Length));
        assert_eq!(Token::parse("hgt1.++++"), Err(NotAToken::Encoding));
        assert_eq!(Token::parse(&"x".repeat(300)), Err(NotAToken::TooLong));
        let more = format!("{text}AAAA");
        assert_eq!(Token::parse(&more), Err(NotAToken::Length));
        for name in ["", "a b", "a\n", "<b>", &"n".repeat(65)] {
            assert!(!holder_is_well_formed(name), "{name:?}");
        }
        let nameless = Claims {
            name: "a b".into(),
            ..token().claims
        };
        let nameless = Token {
            claims: nameless,
            ..token()
        };
        assert_eq!(Token::parse(&nameless.to_text()), Err(NotAToken::Claims));
    }

    #[test]
    fn secrets_are_not_shown() {
        assert!(format!("{:?}", token()).ends_with("secret: Secret }"));
    }

    #[test]
    fn zero_is_never() {
        let mut claims = token().claims;
        assert!(!claims.is_over(1_799_999_999) && claims.is_over(1_800_000_000));
        claims.expires_s = 0;
        assert!(!claims.is_over(u64::MAX));
    }
}
