//! Icecream: a scheduler, a worker, and the daemon that its clients talk to. They are in a network
//! namespace of their own: the scheduler announces itself to all networks, which is no business
//! of a benchmark.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use hg_tests::in_path;

use super::{Daemon, Peer, in_front};

/// What the three may take to find each other, and to hand the compiler over. The daemons look
/// for their scheduler every three seconds.
const START_TIME_MAX: Duration = Duration::from_secs(90);
/// What a build may take: a worker on a machine that does other work beside is given nothing, and
/// its clients wait.
const BUILD_SECONDS_MAX: u32 = 300;
/// Where in their network namespace they listen.
const PORTS: &str = "scheduler=8765 worker=10245 client=10246";
/// The words with which a worker's log says that it has compiled something.
const COMPILED: &str = "Remote compilation completed with exit code 0";

const SCRIPT: &str = r#"
set -eu
ip link set lo up
cd "$1"
eval "$PORTS"
icecc-scheduler -p $scheduler -n bench -l "$1/scheduler.log" &
ICECC_TEST_SOCKET=$1/worker.socket iceccd -N worker -n bench -s 127.0.0.1:$scheduler \
    -p $worker -m 2 --nice 0 -b "$1/worker" -l "$1/worker.log" -vv &
ICECC_TEST_SOCKET=$1/client.socket iceccd -N client -n bench -s 127.0.0.1:$scheduler \
    -p $client -m 2 --nice 0 --no-remote -b "$1/client" -l "$1/client.log" &
wait
"#;

/// Its daemons.
///
/// # Errors
/// They are not installed, or one can't run here: words.
pub fn start() -> Result<Peer, String> {
    for program in ["icecc", "iceccd", "icecc-scheduler"] {
        in_path(program).ok_or("not installed")?;
    }
    for program in ["unshare", "nsenter", "ip", "timeout"] {
        in_path(program).ok_or_else(|| format!("no {program}"))?;
    }
    if !geteuid().is_root() {
        return Err("its worker takes compiles only where root starts it".into());
    }
    let text = |error: std::io::Error| error.to_string();
    let folder = tempfile::tempdir().map_err(text)?;
    // They are another user's once they run.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).map_err(text)?;
    let place = folder.path().to_path_buf();
    let child = Command::new("unshare")
        .args(["--net", "--pid", "--fork", "--kill-child"])
        .args(["sh", "-c", SCRIPT, "icecream"])
        .arg(&place)
        .env("PORTS", PORTS)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(text)?;
    let peer = Peer {
        name: "icecream",
        wrapper: "icecc",
        front: vec![
            "timeout".to_owned(),
            BUILD_SECONDS_MAX.to_string(),
            "nsenter".to_owned(),
            format!("--net=/proc/{}/ns/net", child.id()),
            "--".to_owned(),
        ],
        environment: vec![
            (
                "ICECC_TEST_SOCKET",
                format!("{}/client.socket", place.display()),
            ),
            // Else what is at 127.0.0.1 counts as here.
            ("ICECC_TEST_REMOTEBUILD", "1".to_owned()),
            ("ICECC_PREFERRED_HOST", "worker".to_owned()),
        ],
        daemon: Daemon {
            child,
            // unshare ends by no other, and all of its namespace with it.
            end: Signal::SIGKILL,
            folder: Some(folder),
        },
    };
    peer.wait_for_first(&place)?;
    Ok(peer)
}

impl Peer {
    /// Compiles in `folder` until a compile was the worker's: it has the compiler then.
    fn wait_for_first(&self, folder: &Path) -> Result<(), String> {
        let until = Instant::now() + START_TIME_MAX;
        for (compiler, source) in [("gcc", "first.c"), ("g++", "first.cc")] {
            fs::write(folder.join(source), "int first;\n").map_err(|error| error.to_string())?;
            let before = compiled(folder);
            while compiled(folder) == before {
                if Instant::now() > until {
                    return Err(format!("no compile by {compiler} reached its worker"));
                }
                thread::sleep(Duration::from_millis(200));
                let words = self.front.iter().map(String::as_str);
                let mut command = in_front(words, folder, folder);
                command.args([self.wrapper, compiler, "-c", source, "-o", "first.o"]);
                command.envs(self.environment.iter().map(|(name, value)| (name, value)));
                let _ = command.stderr(Stdio::null()).status();
            }
        }
        Ok(())
    }
}

/// How many compiles the worker of the daemons in `folder` has done.
pub fn compiled(folder: &Path) -> usize {
    let log = fs::read_to_string(folder.join("worker.log"));
    log.unwrap_or_default().matches(COMPILED).count()
}
