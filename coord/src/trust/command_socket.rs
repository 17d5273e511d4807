//! A Unix socket in the state folder, by which commands tell the running coordinator
//! that they have changed a file there, and hear that it knows. Whoever connects has
//! said all; the answer is one line.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixListener;

const NAME: &str = "commands";
/// What the coordinator answers when it knows all.
pub const DONE: &str = "done\n";
/// Time for the coordinator to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 4_096;

/// Whether a running coordinator knows of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The coordinator acts by the change from now on.
    Known,
    /// None listens with this state: one that starts will read the file.
    NobodyRuns,
}

/// Listens; another coordinator's socket must not be there any more.
///
/// # Errors
/// As the system says.
pub fn listen(state: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(state.join(NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (path, _folder) = short(state)?;
    UnixListener::bind(path)
}

/// Tells the coordinator of `state`, and waits until it knows.
///
/// # Errors
/// In words: it does not answer, or could not read the change.
pub fn tell(state: &Path) -> Result<Told, String> {
    let failed = |error: io::Error| format!("{}: {error}", state.join(NAME).display());
    let connected = short(state).and_then(|(path, _folder)| UnixStream::connect(path));
    let stream = match connected {
        Ok(stream) => stream,
        Err(error) => match error.kind() {
            // A coordinator that was killed leaves its socket behind.
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                return Ok(Told::NobodyRuns);
            }
            _ => return Err(failed(error)),
        },
    };
    stream.set_read_timeout(Some(ANSWER_MAX)).map_err(failed)?;
    let mut answer = String::new();
    let read = stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer);
    match (read, answer.as_str()) {
        (Ok(_), DONE) => Ok(Told::Known),
        (Ok(_), "") => Err("it ended meanwhile".into()),
        (Ok(_), why) => Err(why.trim_end().to_owned()),
        (Err(error), _) => Err(failed(error)),
    }
}

/// The socket's path, short enough for `sockaddr_un` however deep the state folder
/// lies; the folder must stay open until it was used.
#[cfg(target_os = "linux")]
fn short(state: &Path) -> io::Result<(PathBuf, std::fs::File)> {
    use std::os::fd::AsRawFd;
    let folder = std::fs::File::open(state)?;
    let path = format!("/proc/self/fd/{}/{NAME}", folder.as_raw_fd());
    Ok((path.into(), folder))
}

#[cfg(not(target_os = "linux"))]
fn short(state: &Path) -> io::Result<(PathBuf, ())> {
    Ok((state.join(NAME), ()))
}
