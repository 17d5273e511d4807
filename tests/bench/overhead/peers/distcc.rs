//! distcc.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use hg_tests::in_path;

use super::{Daemon, Peer};

/// What distccd may take to listen.
const START_TIME_MAX: Duration = Duration::from_secs(5);

/// distccd on loopback.
///
/// # Errors
/// It is not installed, or does not start: words.
pub fn start(folder: &Path) -> Result<Peer, String> {
    let program = in_path("distccd").ok_or("not installed")?;
    in_path("distcc").ok_or("not installed")?;
    let text = |error: std::io::Error| error.to_string();
    // Free a moment ago; distccd takes no port 0.
    let listener = TcpListener::bind("127.0.0.1:0").map_err(text)?;
    let port = listener.local_addr().map_err(text)?.port();
    drop(listener);
    let log = fs::File::create(folder.join("distccd.log")).map_err(text)?;
    let child = Command::new(program)
        .args(["--no-detach", "--daemon", "--allow-private"])
        .args(["--allow", "127.0.0.1", "--listen", "127.0.0.1"])
        .args(["--jobs", "2", "--log-stderr"])
        .args(["--port", &port.to_string()])
        // Run by root it becomes this user by itself.
        .env("DISTCCD_PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(text)?;
    let daemon = Daemon {
        child,
        // Its children end with it.
        end: Signal::SIGTERM,
        folder: None,
    };
    let until = Instant::now() + START_TIME_MAX;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > until {
            return Err("distccd does not listen".into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(Peer {
        name: "distcc",
        wrapper: "distcc",
        front: Vec::new(),
        environment: vec![
            ("DISTCC_HOSTS", format!("127.0.0.1:{port}/2")),
            ("DISTCC_FALLBACK", "0".to_owned()),
        ],
        daemon,
    })
}
