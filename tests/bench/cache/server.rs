//! sccache's server, which looks things up and compiles for its clients.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hg_tests::command::scrubbed;

/// What it may take to listen.
const START_TIME_MAX: Duration = Duration::from_secs(10);

/// One with a cache of its own, ended when dropped.
pub struct Server {
    child: Child,
    folder: PathBuf,
}

impl Server {
    /// Of `program`, with its socket and log in `folder`.
    ///
    /// # Panics
    /// It does not start.
    pub fn start(program: &Path, folder: &Path, cache: &Path) -> Server {
        let log = fs::File::create(folder.join("server.log")).expect("a log");
        let socket = socket(folder);
        let _ = fs::remove_file(&socket);
        let child = scrubbed(program, folder, folder)
            .env("SCCACHE_START_SERVER", "1")
            .env("SCCACHE_NO_DAEMON", "1")
            .env("SCCACHE_IDLE_TIMEOUT", "0")
            .env("SCCACHE_SERVER_UDS", &socket)
            .env("SCCACHE_DIR", cache)
            // Without the preprocessor where nothing has changed: its quickest.
            .env("SCCACHE_DIRECT", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("sccache");
        let server = Server {
            child,
            folder: folder.to_path_buf(),
        };
        let until = Instant::now() + START_TIME_MAX;
        while UnixStream::connect(&socket).is_err() {
            assert!(Instant::now() < until, "{}", socket.display());
            thread::sleep(Duration::from_millis(10));
        }
        server
    }

    /// For the CPU account.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What makes a client use it.
    pub fn environment(&self) -> [(&'static str, PathBuf); 1] {
        [("SCCACHE_SERVER_UDS", socket(&self.folder))]
    }

    /// How often its cache had the answer.
    pub fn hits(&self, program: &Path) -> Option<u64> {
        let mut command = scrubbed(program, &self.folder, &self.folder);
        command.args(["--show-stats", "--stats-format", "json"]);
        let output = command.envs(self.environment()).output().ok()?;
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        let counts = said["stats"]["cache_hits"]["counts"].as_object()?;
        Some(counts.values().filter_map(serde_json::Value::as_u64).sum())
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("socket")
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
