//! Another distributed compiler, to be compared with.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use hg_tests::in_path;

/// What distccd may take to listen.
const START_TIME_MAX: Duration = Duration::from_secs(5);

/// distccd on loopback, ended when dropped.
pub struct Distccd {
    child: Child,
    port: u16,
}

impl Distccd {
    /// `None`: not installed, or it does not start.
    pub fn start(folder: &Path) -> Option<Self> {
        let program = in_path("distccd")?;
        in_path("distcc")?;
        // Free a moment ago; distccd takes no port 0.
        let port = TcpListener::bind("127.0.0.1:0")
            .ok()?
            .local_addr()
            .ok()?
            .port();
        let log = fs::File::create(folder.join("distccd.log")).ok()?;
        let child = Command::new(program)
            .args([
                "--no-detach",
                "--daemon",
                "--allow-private",
                "--allow",
                "127.0.0.1",
            ])
            .args(["--listen", "127.0.0.1", "--jobs", "2", "--log-stderr"])
            .args(["--port", &port.to_string()])
            // Run by root it becomes this user by itself.
            .env("DISTCCD_PATH", std::env::var_os("PATH")?)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .ok()?;
        let distccd = Distccd { child, port };
        let until = Instant::now() + START_TIME_MAX;
        while Instant::now() < until {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(distccd);
            }
            thread::sleep(Duration::from_millis(10));
        }
        None
    }

    /// What makes distcc use it, and nothing else.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("DISTCC_HOSTS", format!("127.0.0.1:{}/2", self.port)),
            ("DISTCC_FALLBACK", "0".to_owned()),
        ]
    }

    /// For the CPU account.
    pub fn pids(&self) -> Vec<u32> {
        vec![self.child.id()]
    }
}

impl Drop for Distccd {
    fn drop(&mut self) {
        // SIGTERM ends its children too.
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}
