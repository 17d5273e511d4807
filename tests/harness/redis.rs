//! A Redis of a test's own, behind a socket in its own folder: no port, nothing on disk.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::in_path;

/// What it may take to come up, and to answer.
const TIME_MAX: Duration = Duration::from_secs(20);
/// Time between two looks whether it is up.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Ends when it is dropped.
pub struct Redis {
    child: Child,
    folder: TempDir,
}

impl Redis {
    /// Starts one. `None`: there is no redis-server here.
    ///
    /// # Panics
    /// It does not come up.
    pub fn start() -> Option<Redis> {
        let program = in_path("redis-server")?;
        let folder = tempfile::Builder::new().prefix("hg-redis-").tempdir();
        let folder = folder.expect("a temporary folder");
        let child = Command::new(program)
            .args(["--port", "0", "--save", "", "--appendonly", "no"])
            .arg("--unixsocket")
            .arg(folder.path().join("socket"))
            .arg("--dir")
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server");
        let redis = Redis { child, folder };
        let deadline = Instant::now() + TIME_MAX;
        while UnixStream::connect(redis.socket()).is_err() {
            assert!(Instant::now() < deadline, "redis-server does not come up");
            thread::sleep(LOOK_AGAIN);
        }
        Some(redis)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Where it is, as `hg-coord serve --cache-backend` takes it.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// It is gone.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32);
        kill(pid, signal).expect("redis-server");
    }

    /// What it answers to a command: the strings of the answer, in their order.
    ///
    /// # Panics
    /// No answer, or an error.
    pub fn ask(&self, words: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut stream = UnixStream::connect(self.socket()).expect("redis");
        stream.set_read_timeout(Some(TIME_MAX)).expect("a socket");
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        // The connection ends behind the answer.
        request.extend_from_slice(b"*1\r\n$4\r\nQUIT\r\n");
        stream.write_all(&request).expect("redis");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        strings(&answer)
    }

    /// The names of all that is in it.
    pub fn names(&self) -> Vec<Vec<u8>> {
        self.ask(&[b"KEYS", b"*"])
    }

    /// What is there under `name`.
    pub fn get(&self, name: &[u8]) -> Vec<u8> {
        self.ask(&[b"GET", name]).swap_remove(0)
    }

    /// Puts `value` there.
    pub fn set(&self, name: &[u8], value: &[u8]) {
        self.ask(&[b"SET", name, value]);
    }
}

/// The bulk strings of answers in RESP2.
fn strings(mut answer: &[u8]) -> Vec<Vec<u8>> {
    let mut strings = Vec::new();
    while let Some(end) = answer.windows(2).position(|pair| pair == b"\r\n") {
        let line = String::from_utf8_lossy(&answer[..end]).into_owned();
        answer = &answer[end + 2..];
        assert!(!line.starts_with('-'), "redis: {line}");
        let Some(count) = line.strip_prefix('$').and_then(|n| n.parse().ok()) else {
            continue;
        };
        let string: &[u8] = answer.get(..count).expect("a whole answer");
        strings.push(string.to_vec());
        answer = &answer[count + 2..];
    }
    strings
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Stopped or not.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
