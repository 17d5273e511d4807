//! A live page without a browser: a WebSocket to the coordinator, message by message.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::{self, HandshakeError, Message, WebSocket};

/// What one message may take.
const MESSAGE_TIME_MAX: Duration = Duration::from_secs(30);

/// See the top of the file.
pub struct Live {
    socket: WebSocket<TcpStream>,
    /// What the page would show, by all messages so far.
    pub state: Value,
    /// Number of the last message.
    pub sequence: u64,
}

/// The request of a live page of the coordinator at `address`, with `more` headers.
///
/// # Panics
/// A header is malformed.
pub fn request(address: &str, more: &[(&str, &str)]) -> Request {
    let mut request = Request::builder()
        .uri(format!("ws://{address}/api/v1/live"))
        .header("Host", address)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header(
            "Sec-WebSocket-Key",
            tungstenite::handshake::client::generate_key(),
        );
    for (name, value) in more {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request")
}

impl Live {
    /// A page of the coordinator at `address`, once it has the whole.
    ///
    /// # Errors
    /// The status with which it was refused; 0: there was none.
    pub fn open(address: &str, more: &[(&str, &str)]) -> Result<Live, u16> {
        let stream = TcpStream::connect(address).map_err(|_| 0_u16)?;
        let limited = stream.set_read_timeout(Some(MESSAGE_TIME_MAX));
        limited.map_err(|_| 0_u16)?;
        let made = tungstenite::client::client(request(address, more), stream);
        let (socket, _) = made.map_err(|error| match error {
            HandshakeError::Failure(tungstenite::Error::Http(answer)) => answer.status().as_u16(),
            _ => 0,
        })?;
        let mut live = Live {
            socket,
            state: Value::Null,
            sequence: 0,
        };
        let hello = live.message();
        assert_eq!(hello["kind"], "hello");
        let whole = live.message();
        assert_eq!(whole["kind"], "whole");
        live.sequence = whole["sequence"].as_u64().expect("a number");
        live.state = whole["state"].clone();
        Ok(live)
    }

    fn message(&mut self) -> Value {
        let deadline = Instant::now() + MESSAGE_TIME_MAX;
        loop {
            assert!(Instant::now() < deadline, "no message");
            match self.socket.read().expect("a live socket") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                _ => continue,
            }
        }
    }

    /// The next change, after it was taken into [`Live::state`].
    ///
    /// # Panics
    /// None comes, or one is missing.
    pub fn change(&mut self) -> Value {
        let change = self.message();
        assert_eq!(change["kind"], "change");
        let sequence = change["sequence"].as_u64().expect("a number");
        assert_eq!(sequence, self.sequence + 1, "a change is missing");
        self.sequence = sequence;
        merge(&mut self.state, &change["patch"]);
        change
    }

    /// Changes until one is as wanted; gives what `wanted` made of it, and how many came.
    ///
    /// # Panics
    /// None is in time.
    pub fn until<T>(&mut self, mut wanted: impl FnMut(&Value, &Value) -> Option<T>) -> (T, u64) {
        let deadline = Instant::now() + 2 * MESSAGE_TIME_MAX;
        let mut count = 0;
        loop {
            assert!(Instant::now() < deadline, "in vain: {}", self.state);
            let change = self.change();
            count += 1;
            if let Some(found) = wanted(&change, &self.state) {
                return (found, count);
            }
        }
    }
}

/// Applies a JSON Merge Patch (RFC 7396).
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else {
        return;
    };
    for (name, value) in patch {
        match value {
            Value::Null => drop(fields.remove(name)),
            value => merge(fields.entry(name).or_insert(Value::Null), value),
        }
    }
}
