//! Who may: tokens made and admitted, roles, revocations. Pure: the time comes
//! with each question.

use std::collections::BTreeMap;
use std::fmt;

use hg_proto::secure::token::{Claims, Fingerprint, NotAToken, Role, SECRET_BYTES, Token};

/// Roles that may look.
pub const VIEWERS: [Role; 3] = [Role::Viewer, Role::Client, Role::Admin];

/// A root secret, from which tokens are derived.
#[derive(Clone, PartialEq, Eq)]
pub struct RootKey {
    /// The number by which tokens name the secret.
    pub id: u32,
    /// The secret itself, known to the coordinator alone.
    pub secret: [u8; SECRET_BYTES],
    /// When tokens of this secret end, whatever they say; 0: never.
    pub ends_s: u64,
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootKey {}", self.id)
    }
}

/// Secrets, certificates and revocations: all that decides about tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keyring {
    /// Root secrets, the newest last; tokens are made with that one.
    pub keys: Vec<RootKey>,
    /// Fingerprints of the certificates that hold, the newest last; tokens are made
    /// with that one.
    pub pins: Vec<Fingerprint>,
    /// Names that were revoked, and when: tokens made until then are void.
    pub revoked: BTreeMap<String, u64>,
}

/// Who a peer is, as its token or its certificate proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The role of its token or certificate.
    pub role: Role,
    /// The name in its token or certificate.
    pub name: String,
    /// When its token was made; `None`: a certificate of the operator's own.
    pub issued_s: Option<u64>,
    /// Which root secret its token is derived from; `None`: as above.
    pub key: Option<u32>,
    /// When its token ends; 0: never, or not by us.
    pub expires_s: u64,
}

/// Why a peer is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Neither a token nor a certificate that says who it is.
    NoToken,
    /// The text that should be a token is none.
    NotAToken(NotAToken),
    /// The token's root secret is not known, or not any more.
    UnknownKey,
    /// The token was not made by this coordinator.
    WrongSecret,
    /// The token's time is over.
    Expired,
    /// The holder's name was revoked.
    Revoked,
    /// The token is good, but its role is another one.
    WrongRole(Role),
}

impl Refusal {
    /// The label `reason` in metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Refusal::NoToken => "no_token",
            Refusal::NotAToken(_) => "bad_token",
            Refusal::UnknownKey | Refusal::WrongSecret => "unknown_token",
            Refusal::Expired => "expired_token",
            Refusal::Revoked => "revoked_token",
            Refusal::WrongRole(_) => "wrong_role",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoToken => f.write_str("no token was shown: join with one"),
            Refusal::NotAToken(why) => why.fmt(f),
            // Not told apart: that would help whoever guesses.
            Refusal::UnknownKey | Refusal::WrongSecret => {
                f.write_str("this coordinator does not know the token: join with a new one")
            }
            Refusal::Expired => f.write_str("the token has expired: join with a new one"),
            Refusal::Revoked => f.write_str("the token was revoked"),
            Refusal::WrongRole(role) => write!(f, "a {role}'s token is not good for this"),
        }
    }
}

impl Keyring {
    /// A token of the newest key and the newest certificate. There are both.
    pub fn mint(&self, role: Role, name: &str, issued_s: u64, expires_s: u64) -> Option<Token> {
        let key = self.keys.last()?;
        let fingerprint = *self.pins.last()?;
        let claims = Claims {
            role,
            key: key.id,
            issued_s,
            expires_s,
            name: name.to_owned(),
        };
        Some(Token {
            secret: claims.secret(&key.secret, &fingerprint),
            claims,
            fingerprint,
        })
    }

    /// The token that `text` is, and its holder.
    ///
    /// # Errors
    /// Why its bearer is not let in.
    pub fn admit(&self, text: &str, now_s: u64) -> Result<(Holder, Token), Refusal> {
        let token = Token::parse(text).map_err(Refusal::NotAToken)?;
        let key = self.keys.iter().find(|key| key.id == token.claims.key);
        let key = key.ok_or(Refusal::UnknownKey)?;
        // In constant time, and before anything that it says is believed.
        if !self.is_proved(&token, key) {
            return Err(Refusal::WrongSecret);
        }
        let holder = holder_of(&token.claims);
        self.still_good(&holder, now_s)?;
        Ok((holder, token))
    }

    /// Whether `key` proves all that `token` says. An older token's secret does not
    /// prove its fingerprint: that must be one of ours then, so that nobody can make
    /// many tokens out of one.
    fn is_proved(&self, token: &Token, key: &RootKey) -> bool {
        let (claims, pin) = (&token.claims, &token.fingerprint);
        claims.secret(&key.secret, pin) == token.secret
            || (claims.secret_without_fingerprint(&key.secret) == token.secret
                && self.pins.contains(pin))
    }

    /// Whether one who was let in would be again.
    ///
    /// # Errors
    /// Its token ended or was revoked meanwhile, or the secret that it is derived
    /// from did.
    pub fn still_good(&self, holder: &Holder, now_s: u64) -> Result<(), Refusal> {
        if let Some(id) = holder.key {
            let key = self.keys.iter().find(|key| key.id == id);
            let ends_s = key.ok_or(Refusal::UnknownKey)?.ends_s;
            if ends_s != 0 && ends_s <= now_s {
                return Err(Refusal::Expired);
            }
        }
        if holder.expires_s != 0 && holder.expires_s <= now_s {
            return Err(Refusal::Expired);
        }
        match self.revoked.get(&holder.name) {
            // A certificate has no date of ours: its name is out until it is taken
            // back.
            Some(revoked_s)
                if holder
                    .issued_s
                    .is_none_or(|issued_s| issued_s <= *revoked_s) =>
            {
                Err(Refusal::Revoked)
            }
            _ => Ok(()),
        }
    }

    /// Whether the time of one of the secrets was over after `since_s`, at `now_s`.
    pub fn has_secret_ended(&self, since_s: u64, now_s: u64) -> bool {
        self.keys
            .iter()
            .any(|key| key.ends_s > since_s && key.ends_s <= now_s)
    }

    /// A token to be kept in place of `old`, if that is of an older key or of a
    /// certificate that is not the newest. It is as old as the one that it replaces:
    /// what revokes that one revokes it too, whenever it was made.
    pub fn renewal(&self, old: &Token) -> Option<Token> {
        let claims = &old.claims;
        if self.keys.last()?.id == claims.key && *self.pins.last()? == old.fingerprint {
            return None;
        }
        self.mint(claims.role, &claims.name, claims.issued_s, claims.expires_s)
    }
}

/// Who the bearer of a token with these claims is, once its secret is proved.
pub fn holder_of(claims: &Claims) -> Holder {
    Holder {
        role: claims.role,
        name: claims.name.clone(),
        issued_s: Some(claims.issued_s),
        key: Some(claims.key),
        expires_s: claims.expires_s,
    }
}

/// Who the holder of a certificate with the name `uri` in it is:
/// `hybridgrid://ROLE/NAME`.
pub fn holder_of_uri(uri: &str) -> Option<Holder> {
    let (role, name) = uri.strip_prefix("hybridgrid://")?.split_once('/')?;
    let role = Role::from_name(role)?;
    hg_proto::secure::token::holder_is_well_formed(name).then(|| Holder {
        role,
        name: name.to_owned(),
        issued_s: None,
        key: None,
        expires_s: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000;
    const PIN: Fingerprint = [5; 32];

    fn keyring() -> Keyring {
        Keyring {
            keys: vec![RootKey {
                id: 1,
                secret: [1; 32],
                ends_s: 0,
            }],
            pins: vec![PIN],
            ..Keyring::default()
        }
    }

    fn text(ring: &Keyring, role: Role, expires_s: u64) -> String {
        let token = ring.mint(role, "me", NOW, expires_s);
        token.expect("there is a key").to_text()
    }

    fn refused(ring: &Keyring, text: &str, now_s: u64) -> Option<Refusal> {
        ring.admit(text, now_s).err()
    }

    #[test]
    fn only_our_own_tokens_are_admitted() {
        let ring = keyring();
        let good = text(&ring, Role::Client, 0);
        let (holder, _) = ring.admit(&good, NOW).unwrap();
        assert_eq!((holder.role, holder.name.as_str()), (Role::Client, "me"));
        let mut other = keyring();
        other.keys[0].secret = [2; 32];
        assert_eq!(refused(&other, &good, NOW), Some(Refusal::WrongSecret));
        other.keys[0].id = 2;
        assert_eq!(refused(&other, &good, NOW), Some(Refusal::UnknownKey));
        let garbage = refused(&ring, "x", NOW);
        assert_eq!(garbage, Some(Refusal::NotAToken(NotAToken::Prefix)));
    }

    #[test]
    fn a_claim_that_was_changed_makes_a_token_void() {
        let ring = keyring();
        let mut token = Token::parse(&text(&ring, Role::Client, 0)).unwrap();
        token.claims.role = Role::Admin;
        let forged = refused(&ring, &token.to_text(), NOW);
        assert_eq!(forged, Some(Refusal::WrongSecret));
    }

    #[test]
    fn tokens_end() {
        let ring = keyring();
        let short = text(&ring, Role::Worker, NOW + 10);
        assert_eq!(refused(&ring, &short, NOW + 9), None);
        assert_eq!(refused(&ring, &short, NOW + 10), Some(Refusal::Expired));
    }

    #[test]
    fn revoking_a_name_ends_what_it_had() {
        let mut ring = keyring();
        let old = text(&ring, Role::Client, 0);
        ring.revoked.insert("me".into(), NOW);
        assert_eq!(refused(&ring, &old, NOW), Some(Refusal::Revoked));
        let new = ring.mint(Role::Client, "me", NOW + 1, 0).unwrap();
        assert_eq!(refused(&ring, &new.to_text(), NOW + 1), None);
        let certified = holder_of_uri("hybridgrid://client/me").unwrap();
        let still = ring.still_good(&certified, NOW + 1);
        assert_eq!(still, Err(Refusal::Revoked));
    }

    #[test]
    fn an_old_key_holds_for_a_while_and_its_tokens_are_renewed() {
        let mut ring = keyring();
        let old = text(&ring, Role::Client, 0);
        ring.keys[0].ends_s = NOW + 10;
        ring.keys.push(RootKey {
            id: 2,
            secret: [2; 32],
            ends_s: 0,
        });
        let (_, token) = ring.admit(&old, NOW + 9).unwrap();
        let new = ring.renewal(&token).unwrap();
        assert_eq!((new.claims.key, new.claims.issued_s), (2, NOW));
        assert_eq!(refused(&ring, &old, NOW + 10), Some(Refusal::Expired));
        assert_eq!(refused(&ring, &new.to_text(), NOW + 10), None);
        assert_eq!(ring.renewal(&new), None);
        // Who was let in with the old one is out with it, and one who was given a
        // new one is not.
        let is_good = |token: &Token| ring.still_good(&holder_of(&token.claims), NOW + 10);
        assert_eq!(is_good(&token), Err(Refusal::Expired));
        assert_eq!(is_good(&new), Ok(()));
        let mut without = ring.clone();
        without.keys.remove(0);
        let gone = without.still_good(&holder_of(&token.claims), NOW);
        assert_eq!(gone, Err(Refusal::UnknownKey));
        ring.pins.push([6; 32]);
        let pin = ring.renewal(&new).unwrap().fingerprint;
        assert_eq!(pin, [6; 32]);
    }

    #[test]
    fn what_is_renewed_is_revoked_with_what_it_replaces() {
        let mut ring = keyring();
        let (_, old) = ring.admit(&text(&ring, Role::Client, 0), NOW).unwrap();
        ring.pins.push([6; 32]);
        ring.revoked.insert("me".into(), NOW);
        // Minted after that, by whoever had not heard of it.
        let new = ring.renewal(&old).unwrap().to_text();
        assert_eq!(refused(&ring, &new, NOW + 1), Some(Refusal::Revoked));
    }

    /// As tokens were made before their secrets proved their fingerprints.
    fn older(ring: &Keyring, pin: Fingerprint) -> Token {
        let token = ring.mint(Role::Client, "me", NOW, 0).unwrap();
        Token {
            secret: token
                .claims
                .secret_without_fingerprint(&ring.keys[0].secret),
            fingerprint: pin,
            ..token
        }
    }

    #[test]
    fn an_older_token_is_good_with_a_certificate_of_ours_alone() {
        let mut ring = keyring();
        let old = older(&ring, PIN);
        assert_eq!(refused(&ring, &old.to_text(), NOW), None);
        assert_eq!(ring.renewal(&old), None);
        let other = older(&ring, [6; 32]).to_text();
        assert_eq!(refused(&ring, &other, NOW), Some(Refusal::WrongSecret));
        ring.pins.push([6; 32]);
        let new = ring.renewal(&old).unwrap();
        assert_eq!((new.claims.issued_s, new.fingerprint), (NOW, [6; 32]));
        assert_eq!(refused(&ring, &new.to_text(), NOW), None);
        // The certificate of the first has ended, and that of the second.
        ring.pins = vec![[7; 32]];
        let ended = refused(&ring, &old.to_text(), NOW);
        assert_eq!(ended, Some(Refusal::WrongSecret));
        // What is proved need not be ours.
        assert_eq!(refused(&ring, &new.to_text(), NOW), None);
    }

    #[test]
    fn a_fingerprint_that_was_changed_makes_a_token_void() {
        let mut ring = keyring();
        ring.pins.push([6; 32]);
        let mut token = ring.mint(Role::Client, "me", NOW, 0).unwrap();
        for wrong in [PIN, [7; 32]] {
            token.fingerprint = wrong;
            let forged = refused(&ring, &token.to_text(), NOW);
            assert_eq!(forged, Some(Refusal::WrongSecret));
        }
    }

    #[test]
    fn certificates_name_their_holder() {
        let holder = holder_of_uri("hybridgrid://worker/pi-3").unwrap();
        assert_eq!((holder.role, holder.name.as_str()), (Role::Worker, "pi-3"));
        for wrong in [
            "hybridgrid://root/x",
            "hybridgrid://client/",
            "hybridgrid://client/a b",
            "http://client/x",
        ] {
            assert_eq!(holder_of_uri(wrong), None, "{wrong}");
        }
    }
}
