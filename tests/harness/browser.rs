//! Chromium without a screen, told what to do over its DevTools protocol.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use crate::{in_path, skip};

/// What one command, or what a test waits for on a page, may take.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Between two looks at a page.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A browser with one page; ends when it is dropped.
pub struct Browser {
    child: Child,
    socket: WebSocket<TcpStream>,
    count: u64,
    session: String,
    /// What went wrong on the page: exceptions, and what its policy forbade.
    pub complaints: Vec<String>,
    _folder: TempDir,
}

impl Browser {
    /// Starts one. `None`: there is no Chromium here, which is said on stderr.
    ///
    /// # Panics
    /// It is there and does not start.
    pub fn start() -> Option<Browser> {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let Some(program) = names.into_iter().find_map(in_path) else {
            skip("the dashboard in a browser", "no chromium here");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(program);
        command
            .args(["--headless", "--disable-gpu", "--no-first-run"])
            .args(["--disable-quic", "--disable-background-networking"])
            .args(["--disable-component-update", "--disable-sync"])
            .args(["--disable-dev-shm-usage", "--hide-scrollbars"])
            .args(["--remote-debugging-port=0", "about:blank"])
            .arg(format!("--user-data-dir={}", folder.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if nix::unistd::geteuid().is_root() {
            // Root's browser can't build its own sandbox.
            command.arg("--no-sandbox");
        }
        let mut child = command.spawn().expect("a browser");
        let Some(address) = listening(folder.path(), &mut child) else {
            let _ = child.kill();
            panic!("the browser does not listen");
        };
        let (port, path) = address;
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the browser");
        stream.set_read_timeout(Some(TIME_MAX)).expect("a timeout");
        let url = format!("ws://127.0.0.1:{port}{path}");
        let (socket, _) = tungstenite::client::client(url, stream).expect("a DevTools socket");
        let mut browser = Browser {
            child,
            socket,
            count: 0,
            session: String::new(),
            complaints: Vec::new(),
            _folder: folder,
        };
        let target = browser.command("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.command("Target.attachToTarget", &attach);
        browser.session = attached["sessionId"]
            .as_str()
            .expect("a session")
            .to_owned();
        for domain in ["Page", "Runtime", "Log"] {
            browser.command(&format!("{domain}.enable"), &json!({}));
        }
        Some(browser)
    }

    /// One command and its result.
    ///
    /// # Panics
    /// It fails.
    pub fn command(&mut self, method: &str, parameters: &Value) -> Value {
        self.count += 1;
        let mut question = json!({ "id": self.count, "method": method, "params": parameters });
        if !self.session.is_empty() {
            question["sessionId"] = json!(self.session);
        }
        let sent = self.socket.send(Message::Text(question.to_string().into()));
        sent.expect("a browser that lives");
        loop {
            let Message::Text(text) = self.socket.read().expect("a browser that lives") else {
                continue;
            };
            let mut answer: Value = serde_json::from_str(&text).expect("JSON");
            if answer["id"] == json!(self.count) {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let detail = &event["params"];
        let is_error = detail["entry"]["level"] == "error";
        match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.complaints.push(detail.to_string()),
            Some("Log.entryAdded") if is_error => self.complaints.push(detail.to_string()),
            _ => {}
        }
    }

    /// Opens a page.
    pub fn open(&mut self, url: &str) {
        self.command("Page.navigate", &json!({ "url": url }));
    }

    /// The value of `expression` on the page, which may be a promise.
    ///
    /// # Panics
    /// It throws.
    pub fn value(&mut self, expression: &str) -> Value {
        let question = json!({
            "expression": expression,
            "returnByValue": true,
            "awaitPromise": true,
        });
        let mut answer = self.command("Runtime.evaluate", &question);
        let thrown = &answer["exceptionDetails"];
        assert!(thrown.is_null(), "{expression}: {thrown}");
        answer["result"]["value"].take()
    }

    /// Looks until `expression` is true on the page.
    ///
    /// # Panics
    /// It does not get so.
    pub fn until(&mut self, expression: &str) {
        let deadline = Instant::now() + TIME_MAX;
        while self.value(expression) != json!(true) {
            if Instant::now() >= deadline {
                let text = self.value("document.body.innerText");
                panic!("in vain: {expression}\n{text}\n{:?}", self.complaints);
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Makes the page `width` by `height`, light or dark.
    pub fn show_at(&mut self, width: u32, height: u32, is_dark: bool) {
        let size = json!({
            "width": width,
            "height": height,
            "deviceScaleFactor": 1,
            "mobile": width < 600,
        });
        self.command("Emulation.setDeviceMetricsOverride", &size);
        let scheme = if is_dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.command(
            "Emulation.setEmulatedMedia",
            &json!({ "features": features }),
        );
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The port and the path on which it listens, which it leaves in its folder.
fn listening(folder: &Path, child: &mut Child) -> Option<(u16, String)> {
    let deadline = Instant::now() + TIME_MAX;
    while Instant::now() < deadline && child.try_wait().ok()?.is_none() {
        let text = fs::read_to_string(folder.join("DevToolsActivePort")).unwrap_or_default();
        let mut lines = text.lines();
        if let (Some(port), Some(path)) = (lines.next(), lines.next())
            && let Ok(port) = port.parse()
        {
            return Some((port, path.to_owned()));
        }
        thread::sleep(LOOK_AGAIN);
    }
    None
}
