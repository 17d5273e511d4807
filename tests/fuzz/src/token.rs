//! Any text: what is a token is written again as it came, and what is none is told
//! without it. Any bytes for a coordinator's keys: only its own tokens are admitted.

#![no_main]

use hg_coord::trust::auth::{Keyring, RootKey};
use hg_proto::secure::token::{Role, Token};
use hg_proto::wire::http_head::{self, Head};
use libfuzzer_sys::fuzz_target;

const ROOT: [u8; 32] = [7; 32];

fn keyring() -> Keyring {
    Keyring {
        keys: vec![RootKey {
            id: 1,
            secret: ROOT,
            ends_s: 0,
        }],
        pins: vec![[9; 32]],
        ..Keyring::default()
    }
}

fuzz_target!(|data: &[u8]| {
    // A head of a request: whatever is in it, its parts are in what came.
    let head = Head::of(http_head::fields(data));
    let _ = http_head::request_line(data);
    let _ = (head.is_local(), head.token());
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Token::parse(text) {
        Ok(token) => {
            assert_eq!(token.to_text(), text.trim());
            // Nobody knows the key: a token that is let in was made with it.
            if let Ok((holder, _)) = keyring().admit(text, 0) {
                assert!(token.claims.secret(&ROOT, &token.fingerprint) == token.secret);
                assert_eq!(holder.role, token.claims.role);
            }
        }
        Err(why) => assert!(text.len() < 64 || !why.to_string().contains(text)),
    }
    // One byte of a good token is changed: it is none, or not ours.
    let good = keyring().mint(Role::Client, "me", 1, 0);
    let mut bytes = good.expect("a key").to_text().into_bytes();
    if let [at, byte, ..] = *data {
        let at = usize::from(at) % bytes.len();
        let was = std::mem::replace(&mut bytes[at], byte);
        if was != byte
            && let Ok(changed) = std::str::from_utf8(&bytes)
        {
            assert!(keyring().admit(changed, 0).is_err(), "{changed}");
        }
    }
});
