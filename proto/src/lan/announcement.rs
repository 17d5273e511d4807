//! What a coordinator announces of itself, as the text record of a DNS-SD service
//! (RFC 6763, section 6). Nothing of it is proved: it says where to try, and the
//! certificate there says whether it is the one. Pure.

use crate::secure::tls::hex;
use crate::secure::token::{Fingerprint, SECRET_BYTES};

/// The type of the service (RFC 6763, section 7).
pub const SERVICE: &str = "_hybridgrid-coord._tcp.local.";
/// Bytes of its name, which a responder must allow for: one more than the 15 of RFC 6335.
pub const SERVICE_NAME_BYTES: u8 = 16;
/// Characters of a grid's id.
pub const GRID_ID_CHARS: usize = 8;
/// Certificates that hold beside each other.
const FINGERPRINTS_MAX: usize = 4;
/// Bytes of the names of a version and of a host.
const WORD_BYTES_MAX: usize = 32;

/// What is announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Tells grids apart, whatever their coordinators' addresses and certificates are:
    /// [`GRID_ID_CHARS`] hexadecimal digits.
    pub grid: String,
    /// What people call the coordinator's machine.
    pub host: String,
    /// The coordinator's version.
    pub version: String,
    /// Of the certificates that it shows, the newest last.
    pub fingerprints: Vec<Fingerprint>,
}

impl Announcement {
    /// Keys and values of the text record.
    pub fn properties(&self) -> Vec<(String, String)> {
        let mut properties = vec![
            ("version".to_owned(), self.version.clone()),
            ("grid".to_owned(), self.grid.clone()),
            ("host".to_owned(), self.host.clone()),
        ];
        let newest_first = self.fingerprints.iter().rev().take(FINGERPRINTS_MAX);
        for (fingerprint, key) in newest_first.zip(fingerprint_keys()) {
            properties.push((key, hex(fingerprint)));
        }
        properties
    }

    /// The inverse of [`Announcement::properties`]; `None`: it is none of ours, or a word
    /// of it could not be shown.
    pub fn of<'a>(value: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let word = |key: &str| value(key).filter(|word| is_plain(word)).map(str::to_owned);
        let grid = word("grid").filter(|grid| is_grid_id(grid))?;
        let fingerprints = fingerprint_keys().map_while(|key| value(&key));
        let mut fingerprints = fingerprints
            .map(fingerprint_of_hex)
            .collect::<Option<Vec<_>>>()?;
        fingerprints.reverse();
        Some(Announcement {
            grid,
            host: word("host")?,
            version: word("version")?,
            fingerprints,
        })
    }

    /// Whether it says of itself that it shows the certificate with `fingerprint`.
    pub fn names(&self, fingerprint: &Fingerprint) -> bool {
        self.fingerprints.contains(fingerprint)
    }
}

/// `fingerprint`, `fingerprint2` and so on.
fn fingerprint_keys() -> impl Iterator<Item = String> {
    (1..=FINGERPRINTS_MAX).map(|number| match number {
        1 => "fingerprint".to_owned(),
        number => format!("fingerprint{number}"),
    })
}

/// Whether `text` can be a grid's id.
pub fn is_grid_id(text: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == GRID_ID_CHARS && text.bytes().all(digit)
}

/// Letters, digits and `-_.` only: a stranger chose it, and it is shown.
pub fn is_plain(word: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=WORD_BYTES_MAX).contains(&word.len()) && word.bytes().all(plain)
}

fn fingerprint_of_hex(text: &str) -> Option<Fingerprint> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits = digits.filter(|digits| digits.len() == 2 * SECRET_BYTES)?;
    let mut fingerprint = Fingerprint::default();
    for (byte, pair) in fingerprint.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcement() -> Announcement {
        Announcement {
            grid: "0a1b2c3d".into(),
            host: "build".into(),
            version: "0.1.0".into(),
            fingerprints: vec![[1; 32], [0xfe; 32]],
        }
    }

    fn parsed(properties: &[(String, String)]) -> Option<Announcement> {
        Announcement::of(|key| {
            let found = properties.iter().find(|(name, _)| name == key);
            found.map(|(_, value)| value.as_str())
        })
    }

    #[test]
    fn what_is_announced_is_understood() {
        let announcement = announcement();
        let properties = announcement.properties();
        // What RFC 6763, section 6.2, takes for small.
        let bytes: usize = properties.iter().map(|(k, v)| k.len() + v.len() + 2).sum();
        assert!(bytes <= 400, "{bytes}");
        assert!(announcement.names(&[1; 32]) && !announcement.names(&[2; 32]));
        assert_eq!(parsed(&properties), Some(announcement));
    }

    #[test]
    fn what_a_stranger_says_is_not_shown_as_it_comes() {
        let good = announcement().properties();
        let long = "x".repeat(WORD_BYTES_MAX + 1);
        for (key, wrong) in [
            ("grid", "0a1b2c3"),
            ("grid", "0A1B2C3D"),
            ("host", "a\u{1b}[31m"),
            ("host", ""),
            ("version", &long),
            ("fingerprint", "12"),
            ("fingerprint2", "zz"),
        ] {
            let mut spoiled = good.clone();
            for (name, value) in &mut spoiled {
                if name == key {
                    *value = wrong.to_owned();
                }
            }
            assert_eq!(parsed(&spoiled), None, "{key}={wrong}");
        }
        assert_eq!(parsed(&[]), None);
    }
}
